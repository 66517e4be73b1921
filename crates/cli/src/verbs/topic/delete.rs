//! `strom topic delete`.

use clap::Args;
use strom_kafka_codec::ByteStr;
use strom_kafka_codec::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use strom_types::ErrorCode;

use crate::args::TopicNames;
use crate::exit::Error;
use crate::kafka::{Client, Deadline, KafkaError, Target};
use crate::output::Output;
use crate::verbs::outcome::Outcomes;

/// Delete topics with all their records
#[derive(Args, Clone, Debug)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    topics: TopicNames,
    /// Do it without asking
    #[arg(long, short)]
    yes: bool,
    /// It is fine if a topic does not exist
    #[arg(long)]
    if_exists: bool,
}

pub(super) async fn run(args: &DeleteArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let names = args.topics.list();
    output.confirm(
        &format!("to delete, with all records: {}", names.join(", ")),
        args.yes,
    )?;
    let mut outcomes = Outcomes::default();
    for name in names {
        match delete_topic(client, &name).await {
            Err(error) if args.if_exists && error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {
                outcomes.add(&name, "absent", Ok(()));
            }
            result => outcomes.add(&name, "deleted", result),
        }
    }
    outcomes.settle(output)
}

/// Deletes one topic.
pub(crate) async fn delete_topic(client: &Client, name: &str) -> Result<(), KafkaError> {
    let subject = format!("topic {name}");
    let build = |_: i16, deadline: Deadline| DeleteTopicsRequest {
        topic_names: vec![ByteStr::from(name.to_owned())],
        timeout_ms: deadline.remaining_ms(),
        ..Default::default()
    };
    let failure = |response: &DeleteTopicsResponse| {
        let mut results = response.responses.iter();
        results.find_map(|r| KafkaError::from_code(&subject, r.error_code, r.error_message.as_deref()))
    };
    // An unknown topic does not turn up by asking again.
    let retriable = |error: &KafkaError| error.code() != Some(ErrorCode::UnknownTopicOrPartition);
    let response = client
        .ask(Target::Any, &subject, build, |r| failure(r).filter(retriable))
        .await?;
    failure(&response).map_or(Ok(()), Err)
}
