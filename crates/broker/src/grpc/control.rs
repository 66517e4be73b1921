//! `strom.v1.BrokerControl`: questions about offsets, deletion, directories, producers.

use std::sync::Arc;
use std::time::Duration;

use strom_proto::convert::{partition_key, service_error, topic_id_partition};
use strom_proto::status::to_status;
use strom_proto::v1::broker_control_server::BrokerControl;
use strom_proto::v1::{self, PartitionKey};
use strom_types::{ErrorCode, LeaderEpoch, MetadataOffset};
use tokio::time::timeout;
use tonic::{Request, Response, Status};

use crate::broker::Broker;
use crate::partition::Partition;

/// Callers that wait for longer have gone away.
const AWAIT_METADATA_MAX: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct Control {
    broker: Broker,
}

type Reply<T> = Result<Response<T>, Status>;

impl Control {
    pub(crate) fn new(broker: Broker) -> Self {
        Control { broker }
    }

    fn partition(&self, key: Option<&PartitionKey>) -> Result<Arc<Partition>, ErrorCode> {
        let key = key.ok_or(ErrorCode::InvalidRequest)?;
        let key = topic_id_partition(&key.topic_id, key.partition).map_err(|_| ErrorCode::InvalidRequest)?;
        self.broker
            .partitions()
            .get(key)
            .ok_or(ErrorCode::NotLeaderOrFollower)
    }

    /// Runs what may read from disk away from the async workers.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Control) -> T + Send + 'static,
    ) -> Reply<T> {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || work(this)).await;
        done.map(Response::new)
            .map_err(|_| Status::internal("the call failed"))
    }
}

fn given(epoch: i32) -> Option<LeaderEpoch> {
    (epoch >= 0).then_some(LeaderEpoch(epoch))
}

#[tonic::async_trait]
impl BrokerControl for Control {
    async fn list_offsets(&self, request: Request<v1::ListOffsetsRequest>) -> Reply<v1::ListOffsetsReply> {
        let request = request.into_inner();
        self.blocking(move |this| {
            let answer = |want: &v1::ListOffsetsPartition| {
                let partition = this.partition(want.key.as_ref())?;
                partition.list_offset(
                    want.timestamp,
                    given(want.current_leader_epoch),
                    request.read_committed,
                )
            };
            let partitions = request.partitions.iter().map(|want| match answer(want) {
                Ok(found) => v1::ListOffsetsPartitionReply {
                    error: 0,
                    timestamp: found.timestamp,
                    offset: found.offset,
                    leader_epoch: found.leader_epoch.get(),
                },
                Err(code) => v1::ListOffsetsPartitionReply {
                    error: code as i32,
                    timestamp: -1,
                    offset: -1,
                    leader_epoch: -1,
                },
            });
            v1::ListOffsetsReply {
                partitions: partitions.collect(),
            }
        })
        .await
    }

    async fn offsets_for_leader_epoch(
        &self,
        request: Request<v1::OffsetsForLeaderEpochRequest>,
    ) -> Reply<v1::OffsetsForLeaderEpochReply> {
        let request = request.into_inner();
        self.blocking(move |this| {
            let answer = |want: &v1::OffsetsForLeaderEpochPartition| {
                let partition = this.partition(want.key.as_ref())?;
                partition
                    .end_offset_for_epoch(given(want.current_leader_epoch), LeaderEpoch(want.leader_epoch))
            };
            let reply = |error, leader_epoch, end_offset| v1::OffsetsForLeaderEpochPartitionReply {
                error,
                leader_epoch,
                end_offset,
            };
            let partitions = request.partitions.iter().map(|want| match answer(want) {
                Ok(Some(end)) => reply(0, end.epoch.get(), end.end_offset),
                Ok(None) => reply(0, -1, -1),
                Err(code) => reply(code as i32, -1, -1),
            });
            v1::OffsetsForLeaderEpochReply {
                partitions: partitions.collect(),
            }
        })
        .await
    }

    async fn delete_records(
        &self,
        request: Request<v1::DeleteRecordsRequest>,
    ) -> Reply<v1::DeleteRecordsReply> {
        let request = request.into_inner();
        self.blocking(move |this| {
            let answer = |want: &v1::DeleteRecordsPartition| {
                this.partition(want.key.as_ref())?.delete_records(want.offset)
            };
            let partitions = request.partitions.iter().map(|want| match answer(want) {
                Ok(low_watermark) => v1::DeleteRecordsPartitionReply {
                    error: 0,
                    low_watermark,
                },
                Err(code) => v1::DeleteRecordsPartitionReply {
                    error: code as i32,
                    low_watermark: -1,
                },
            });
            v1::DeleteRecordsReply {
                partitions: partitions.collect(),
            }
        })
        .await
    }

    async fn describe_log_dirs(
        &self,
        request: Request<v1::DescribeLogDirsRequest>,
    ) -> Reply<v1::DescribeLogDirsReply> {
        let request = request.into_inner();
        self.blocking(move |this| {
            let asked = |partition: &Partition| {
                request.all || request.partitions.contains(&partition_key(partition.key()))
            };
            let hosted = this.broker.partitions().all();
            let partitions = hosted
                .iter()
                .filter(|partition| asked(partition))
                .map(|partition| v1::LogDirPartition {
                    key: Some(partition_key(partition.key())),
                    size_bytes: i64::try_from(partition.log().size_bytes()).unwrap_or(i64::MAX),
                    offset_lag: (partition.high_watermark() - partition.log().log_end_offset()).max(0),
                    future: false,
                });
            let (total, usable) = disk_space(this.broker.dir().path());
            let directory = v1::LogDirDescription {
                error: if this.broker.dir().failure().is_some() {
                    ErrorCode::KafkaStorageError as i32
                } else {
                    0
                },
                path: this.broker.dir().path().display().to_string(),
                total_bytes: total,
                usable_bytes: usable,
                partitions: partitions.collect(),
                cordoned: false,
            };
            v1::DescribeLogDirsReply {
                directories: vec![directory],
            }
        })
        .await
    }

    async fn describe_producers(
        &self,
        request: Request<v1::DescribeProducersRequest>,
    ) -> Reply<v1::DescribeProducersReply> {
        let request = request.into_inner();
        self.blocking(move |this| {
            let partitions = request
                .partitions
                .iter()
                .map(|key| match describe_producers(&this, key) {
                    Ok(producers) => v1::DescribeProducersPartition { error: 0, producers },
                    Err(code) => v1::DescribeProducersPartition {
                        error: code as i32,
                        producers: Vec::new(),
                    },
                });
            v1::DescribeProducersReply {
                partitions: partitions.collect(),
            }
        })
        .await
    }

    async fn describe_config(&self, _: Request<v1::DescribeConfigRequest>) -> Reply<v1::DescribeConfigReply> {
        let static_values = self.broker.config().shown_static_values();
        Ok(Response::new(v1::DescribeConfigReply { static_values }))
    }

    async fn await_metadata(
        &self,
        request: Request<v1::AwaitMetadataRequest>,
    ) -> Reply<v1::AwaitMetadataReply> {
        let wanted = MetadataOffset(request.into_inner().metadata_offset);
        let mut applied = self.broker.applied().subscribe();
        let seen = timeout(AWAIT_METADATA_MAX, applied.wait_for(|at| *at >= wanted)).await;
        match seen {
            Ok(Ok(_)) => Ok(Response::new(v1::AwaitMetadataReply {})),
            _ => Err(Status::deadline_exceeded("the metadata has not come this far")),
        }
    }

    async fn init_producer_id(
        &self,
        _: Request<v1::InitProducerIdRequest>,
    ) -> Reply<v1::InitProducerIdReply> {
        // A producer without a transactional id always starts anew with an id of its own, as in Kafka.
        match self.broker.producer_ids().next().await {
            Ok(producer_id) => Ok(Response::new(v1::InitProducerIdReply {
                error: None,
                producer_id,
                producer_epoch: 0,
            })),
            Err(error) => {
                let text = format!("no producer id: {error}");
                Err(to_status(&service_error(
                    ErrorCode::CoordinatorNotAvailable,
                    text,
                )))
            }
        }
    }
}

fn describe_producers(control: &Control, key: &PartitionKey) -> Result<Vec<v1::ProducerState>, ErrorCode> {
    let partition = control.partition(Some(key))?;
    // Only the leader's table is current.
    partition.admit_read(None, None)?;
    let states = partition.log().producer_states().map_err(|error| error.code())?;
    let described = states.into_iter().map(|state| v1::ProducerState {
        producer_id: state.producer_id.get(),
        producer_epoch: i32::from(state.producer_epoch.get()),
        last_sequence: state.last_sequence,
        last_timestamp_ms: state.last_timestamp,
        coordinator_epoch: state.coordinator_epoch,
        current_transaction_start: state.txn_start_offset,
    });
    Ok(described.collect())
}

/// (total, usable) bytes of the file system below `path`; -1 when it does not say.
fn disk_space(path: &std::path::Path) -> (i64, i64) {
    let Ok(stat) = rustix::fs::statvfs(path) else {
        return (-1, -1);
    };
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(stat.f_frsize)).unwrap_or(i64::MAX);
    (bytes(stat.f_blocks), bytes(stat.f_bavail))
}
