//! `strom topic elect-leader`.

use clap::Args;
use strom_kafka_codec::ByteStr;
use strom_kafka_codec::messages::elect_leaders_request::TopicPartitions;
use strom_kafka_codec::messages::{ElectLeadersRequest, ElectLeadersResponse};
use strom_types::ErrorCode;

use crate::exit::Error;
use crate::kafka::{Client, Deadline, KafkaError, Target, TopicPartition};
use crate::output::Output;
use crate::verbs::outcome::Outcomes;

/// The wire's election types.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// Give leadership back to the preferred replicas, or, with --unclean, to any that lives
#[derive(Args, Clone, Debug)]
pub(crate) struct ElectLeaderArgs {
    /// Topic name; all topics if none is given
    #[arg(value_name = "TOPIC")]
    topic: Option<String>,
    /// Only these partitions of the topic
    #[arg(long = "partition", short = 'p', value_name = "N", value_delimiter = ',', requires = "topic",
        value_parser = clap::value_parser!(i32).range(0..))]
    partitions: Vec<i32>,
    /// Let a replica lead that is not in sync: records that it lacks are lost
    #[arg(long)]
    unclean: bool,
    /// Do it without asking
    #[arg(long, short)]
    yes: bool,
}

pub(super) async fn run(args: &ElectLeaderArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    if args.unclean {
        let whose = args.topic.as_deref().unwrap_or("every topic");
        let plan = format!(
            "to elect leaders that may lack acknowledged records, for leaderless partitions of: {whose}"
        );
        output.confirm(&plan, args.yes)?;
    }
    let chosen = match &args.topic {
        Some(topic) => Some(partitions_of(args, topic, client).await?),
        None => None,
    };
    let build = |_: i16, deadline: Deadline| ElectLeadersRequest {
        election_type: if args.unclean { UNCLEAN } else { PREFERRED },
        topic_partitions: chosen.clone().map(|chosen| vec![chosen]),
        timeout_ms: deadline.remaining_ms(),
    };
    let subject = "electing leaders";
    let failure = |response: &ElectLeadersResponse| KafkaError::from_code(subject, response.error_code, None);
    let response = client.ask(Target::Any, subject, build, failure).await?;
    if let Some(error) = failure(&response) {
        return Err(error.into());
    }
    let mut outcomes = Outcomes::default();
    for topic in &response.replica_election_results {
        for result in &topic.partition_result {
            let name = TopicPartition::new(topic.topic.as_str(), result.partition_id).to_string();
            let message = result.error_message.as_deref();
            match KafkaError::from_code(name.as_str(), result.error_code, message) {
                None => outcomes.add(&name, "elected", Ok(())),
                Some(error) if error.code() == Some(ErrorCode::ElectionNotNeeded) => {
                    outcomes.add(&name, "not needed", Ok(()));
                }
                Some(error) => outcomes.add(&name, "failed", Err(error)),
            }
        }
    }
    outcomes.settle(output)
}

async fn partitions_of(
    args: &ElectLeaderArgs,
    topic: &str,
    client: &Client,
) -> Result<TopicPartitions, KafkaError> {
    let partitions = if args.partitions.is_empty() {
        client.topic(topic).await?.partitions.into_keys().collect()
    } else {
        args.partitions.clone()
    };
    Ok(TopicPartitions {
        topic: ByteStr::from(topic.to_owned()),
        partitions,
    })
}
