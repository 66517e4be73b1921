//! DescribeLogDirs (key 35): sizes of partitions on the addressed broker's disks.
//!
//! On a bootstrap address, which names no broker, the directories of all brokers are listed; where there are several
//! brokers, each path then begins with its broker (`broker-1:/var/lib/strom`), so that none hides another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use strom_client::CallError;
use strom_kafka_codec::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use strom_kafka_codec::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_metadata::Image;
use strom_proto::convert::{error_code, partition_key, topic_id_partition};
use strom_proto::v1;
use strom_types::{ErrorCode, TopicIdPartition};

use super::call::unary;
use super::nodes::addressed_brokers;
use super::{Call, Start};
use crate::brokers::Broker;
use crate::codes::{client_code, kafka};

/// The request as a whole can fail.
const ERROR_SINCE_VERSION: i16 = 3;
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let image = call.gateway.metadata().image();
    let asked = question(&image, &request);
    let brokers = addressed_brokers(&call, &image);
    let several = brokers.len() > 1;
    let answers = brokers.into_iter().map(|broker| {
        let asked = asked.clone();
        async move { (broker.id, describe(&broker, asked).await) }
    });
    let mut response = DescribeLogDirsResponse::default();
    for (id, answer) in join_all(answers).await {
        let prefix = if several {
            format!("broker-{id}:")
        } else {
            String::new()
        };
        match answer {
            Ok(reply) => {
                let directories = reply.directories.iter();
                response
                    .results
                    .extend(directories.map(|directory| result(&image, &prefix, directory)));
            }
            Err(error) if call.version >= ERROR_SINCE_VERSION => {
                response.error_code = kafka(client_code(error.code()));
            }
            Err(error) => response.results.push(DescribeLogDirsResult {
                error_code: kafka(client_code(error.code())),
                log_dir: ByteStr::from(prefix),
                ..Default::default()
            }),
        }
    }
    response
}

fn question(image: &Image, request: &DescribeLogDirsRequest) -> v1::DescribeLogDirsRequest {
    let mut partitions = BTreeSet::new();
    for topic in request.topics.iter().flatten() {
        if let Some(known) = image.topic_by_name(&topic.topic) {
            let keys = topic.partitions.iter();
            partitions.extend(keys.map(|partition| TopicIdPartition::new(known.id, *partition)));
        }
    }
    v1::DescribeLogDirsRequest {
        all: request.topics.is_none(),
        partitions: partitions.into_iter().map(partition_key).collect(),
    }
}

async fn describe(
    broker: &Broker,
    request: v1::DescribeLogDirsRequest,
) -> Result<v1::DescribeLogDirsReply, CallError> {
    broker
        .control(LOOKUP_TIMEOUT, |mut stub| async move {
            stub.describe_log_dirs(request).await
        })
        .await
}

fn result(image: &Image, prefix: &str, directory: &v1::LogDirDescription) -> DescribeLogDirsResult {
    let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for hosted in &directory.partitions {
        let key = hosted
            .key
            .as_ref()
            .and_then(|key| topic_id_partition(&key.topic_id, key.partition).ok());
        // A topic that is gone is about to be gone from the disk, too.
        let Some((key, topic)) = key.and_then(|key| Some((key, image.topic(key.topic_id)?))) else {
            continue;
        };
        topics
            .entry(&topic.name)
            .or_default()
            .push(DescribeLogDirsPartition {
                partition_index: key.partition,
                partition_size: hosted.size_bytes,
                offset_lag: hosted.offset_lag,
                is_future_key: hosted.future,
            });
    }
    let error: ErrorCode = client_code(error_code(directory.error));
    DescribeLogDirsResult {
        error_code: kafka(error),
        log_dir: ByteStr::from(format!("{prefix}{}", directory.path)),
        topics: topics
            .into_iter()
            .map(|(name, mut partitions)| {
                partitions.sort_by_key(|partition| partition.partition_index);
                DescribeLogDirsTopic {
                    name: super::nodes::text(name),
                    partitions,
                }
            })
            .collect(),
        total_bytes: directory.total_bytes,
        usable_bytes: directory.usable_bytes,
        is_cordoned: directory.cordoned,
    }
}
