//! `strom topic create`.

use clap::Args;
use serde::Serialize;
use strom_kafka_codec::ByteStr;
use strom_kafka_codec::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use strom_kafka_codec::messages::create_topics_response::CreatableTopicResult;
use strom_kafka_codec::messages::{CreateTopicsRequest, CreateTopicsResponse};
use strom_types::ErrorCode;

use crate::args::{Pair, TopicNames};
use crate::base64::kafka_uuid;
use crate::exit::Error;
use crate::kafka::{Client, Deadline, KafkaError, Target};
use crate::output::{Block, Output, View, or_dash};
use crate::verbs::outcome::settle;

/// Create topics
#[derive(Args, Clone, Debug)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    topics: TopicNames,
    /// Number of partitions [default: the cluster's num.partitions]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Copies of each partition [default: the cluster's default.replication.factor]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A topic config, e.g. retention.ms=86400000; may be repeated
    #[arg(long = "config", short = 'c', value_name = "KEY=VALUE")]
    configs: Vec<Pair>,
    /// It is fine if a topic exists already
    #[arg(long)]
    if_not_exists: bool,
    /// Only let the cluster check whether it could be done
    #[arg(long, visible_alias = "validate-only")]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Created {
    name: String,
    result: &'static str,
    id: Option<String>,
    partitions: Option<i32>,
    replication_factor: Option<i16>,
    error: Option<String>,
}

#[derive(Serialize)]
#[serde(transparent)]
struct CreatedTopics(Vec<Created>);

impl View for CreatedTopics {
    fn blocks(&self) -> Vec<Block> {
        let rows = self.0.iter().map(|topic| {
            vec![
                topic.name.clone(),
                topic.result.to_owned(),
                or_dash(topic.partitions),
                or_dash(topic.replication_factor),
                or_dash(topic.id.as_ref()),
            ]
        });
        vec![Block::Table {
            columns: &["NAME", "RESULT", "PARTITIONS", "REPLICATION-FACTOR", "ID"],
            rows: rows.collect(),
        }]
    }
}

pub(super) async fn run(args: &CreateArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let (mut created, mut failures) = (Vec::new(), Vec::new());
    // One request each, so that one topic's retry cannot find another one "already there".
    for name in args.topics.list() {
        match create_one(args, client, &name).await {
            Ok(topic) => created.push(topic),
            Err(error) => {
                created.push(Created {
                    name,
                    result: "failed",
                    id: None,
                    partitions: None,
                    replication_factor: None,
                    error: Some(error.to_string()),
                });
                failures.push(error);
            }
        }
    }
    let total = created.len();
    output.show(&CreatedTopics(created))?;
    settle(total, failures, output)
}

async fn create_one(args: &CreateArgs, client: &Client, name: &str) -> Result<Created, KafkaError> {
    let spec = NewTopic {
        name,
        partitions: args.partitions,
        replication_factor: args.replication_factor,
        configs: &args.configs,
        validate_only: args.dry_run,
    };
    let topic = match create_topic(client, &spec).await {
        Ok(topic) => topic,
        Err(error) if args.if_not_exists && error.code() == Some(ErrorCode::TopicAlreadyExists) => {
            let found = client.topic(name).await?;
            let factor = found
                .partitions
                .values()
                .next()
                .and_then(|p| i16::try_from(p.replicas.len()).ok());
            return Ok(Created {
                name: name.to_owned(),
                result: "exists",
                id: (!found.id.is_nil()).then(|| kafka_uuid(found.id)),
                partitions: i32::try_from(found.partitions.len()).ok(),
                replication_factor: factor,
                error: None,
            });
        }
        Err(error) => return Err(error),
    };
    Ok(Created {
        name: name.to_owned(),
        result: if args.dry_run {
            "would be created"
        } else {
            "created"
        },
        id: (!topic.topic_id.is_nil()).then(|| kafka_uuid(topic.topic_id)),
        partitions: (topic.num_partitions > 0).then_some(topic.num_partitions),
        replication_factor: (topic.replication_factor > 0).then_some(topic.replication_factor),
        error: None,
    })
}

/// A topic to be created.
#[derive(Debug)]
pub(crate) struct NewTopic<'a> {
    pub(crate) name: &'a str,
    pub(crate) partitions: Option<i32>,
    pub(crate) replication_factor: Option<i16>,
    pub(crate) configs: &'a [Pair],
    pub(crate) validate_only: bool,
}

/// Creates one topic.
pub(crate) async fn create_topic(
    client: &Client,
    spec: &NewTopic<'_>,
) -> Result<CreatableTopicResult, KafkaError> {
    let subject = format!("topic {}", spec.name);
    let configs = spec.configs.iter().map(|pair| CreatableTopicConfig {
        name: ByteStr::from(pair.key.clone()),
        value: Some(ByteStr::from(pair.value.clone())),
    });
    let topic = CreatableTopic {
        name: ByteStr::from(spec.name.to_owned()),
        num_partitions: spec.partitions.unwrap_or(-1),
        replication_factor: spec.replication_factor.unwrap_or(-1),
        assignments: Vec::new(),
        configs: configs.collect(),
    };
    let build = |_: i16, deadline: Deadline| CreateTopicsRequest {
        topics: vec![topic.clone()],
        timeout_ms: deadline.remaining_ms(),
        validate_only: spec.validate_only,
    };
    let failure = |topic: &CreatableTopicResult| {
        KafkaError::from_code(&subject, topic.error_code, topic.error_message.as_deref())
    };
    let first = |response: &CreateTopicsResponse| response.topics.first().and_then(failure);
    let response = client.ask(Target::Any, &subject, build, first).await?;
    let topic = response.topics.into_iter().next().unwrap_or_default();
    failure(&topic).map_or(Ok(topic), Err)
}
