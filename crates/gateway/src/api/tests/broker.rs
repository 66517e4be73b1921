//! A broker for tests: answers that can be told apart by broker and partition, or a scripted failure.

use std::sync::Arc;

use parking_lot::Mutex;
use strom_proto::v1;
use strom_proto::v1::broker_control_server::BrokerControl;
use strom_types::BrokerId;
use tonic::{Request, Response, Status};

/// How the broker behaves.
#[derive(Default)]
pub(super) struct Script {
    /// Every call fails with this.
    pub(super) status: Option<Status>,
    /// Every item of every answer carries this error.
    pub(super) error: i32,
    /// Answers lack their last item.
    pub(super) leave_out_last: bool,
    /// The names of the calls, in order.
    pub(super) calls: Vec<&'static str>,
}

#[derive(Clone)]
pub(super) struct FakeBroker {
    pub(super) id: BrokerId,
    script: Arc<Mutex<Script>>,
}

impl FakeBroker {
    pub(super) fn new(id: i32) -> Self {
        FakeBroker {
            id: BrokerId(id),
            script: Arc::default(),
        }
    }

    pub(super) fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock());
    }

    pub(super) fn take_calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.script.lock().calls)
    }

    /// The error that items carry, unless the call fails as a whole.
    pub(super) fn called(&self, name: &'static str) -> Result<i32, Status> {
        let mut script = self.script.lock();
        script.calls.push(name);
        match &script.status {
            Some(status) => Err(status.clone()),
            None => Ok(script.error),
        }
    }

    /// One answer per item, or one too few if so scripted.
    pub(super) fn each<W, A>(&self, wants: Vec<W>, answer: impl Fn(W) -> A) -> Vec<A> {
        let mut answers: Vec<A> = wants.into_iter().map(answer).collect();
        if self.script.lock().leave_out_last {
            answers.pop();
        }
        answers
    }
}

fn index(key: Option<&v1::PartitionKey>) -> i64 {
    key.map_or(-1, |key| i64::from(key.partition))
}

#[tonic::async_trait]
impl BrokerControl for FakeBroker {
    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsReply>, Status> {
        let error = self.called("list_offsets")?;
        let answer = |want: v1::ListOffsetsPartition| v1::ListOffsetsPartitionReply {
            error,
            timestamp: want.timestamp,
            offset: 100 * i64::from(self.id.get()) + index(want.key.as_ref()),
            leader_epoch: 3,
        };
        Ok(Response::new(v1::ListOffsetsReply {
            partitions: self.each(request.into_inner().partitions, answer),
        }))
    }

    async fn offsets_for_leader_epoch(
        &self,
        request: Request<v1::OffsetsForLeaderEpochRequest>,
    ) -> Result<Response<v1::OffsetsForLeaderEpochReply>, Status> {
        let error = self.called("offsets_for_leader_epoch")?;
        let answer = |want: v1::OffsetsForLeaderEpochPartition| v1::OffsetsForLeaderEpochPartitionReply {
            error,
            leader_epoch: want.leader_epoch,
            end_offset: 200 + index(want.key.as_ref()),
        };
        Ok(Response::new(v1::OffsetsForLeaderEpochReply {
            partitions: self.each(request.into_inner().partitions, answer),
        }))
    }

    async fn delete_records(
        &self,
        request: Request<v1::DeleteRecordsRequest>,
    ) -> Result<Response<v1::DeleteRecordsReply>, Status> {
        let error = self.called("delete_records")?;
        let answer = |want: v1::DeleteRecordsPartition| v1::DeleteRecordsPartitionReply {
            error,
            low_watermark: want.offset,
        };
        Ok(Response::new(v1::DeleteRecordsReply {
            partitions: self.each(request.into_inner().partitions, answer),
        }))
    }

    async fn describe_log_dirs(
        &self,
        request: Request<v1::DescribeLogDirsRequest>,
    ) -> Result<Response<v1::DescribeLogDirsReply>, Status> {
        let error = self.called("describe_log_dirs")?;
        let hosted = request
            .into_inner()
            .partitions
            .into_iter()
            .map(|key| v1::LogDirPartition {
                key: Some(key),
                size_bytes: 4096,
                offset_lag: 0,
                future: false,
            });
        Ok(Response::new(v1::DescribeLogDirsReply {
            directories: vec![v1::LogDirDescription {
                error,
                path: "/data".into(),
                total_bytes: 1 << 40,
                usable_bytes: 1 << 39,
                partitions: hosted.collect(),
                cordoned: true,
            }],
        }))
    }

    async fn describe_producers(
        &self,
        request: Request<v1::DescribeProducersRequest>,
    ) -> Result<Response<v1::DescribeProducersReply>, Status> {
        let error = self.called("describe_producers")?;
        let answer = |key: v1::PartitionKey| v1::DescribeProducersPartition {
            error,
            producers: vec![v1::ProducerState {
                producer_id: index(Some(&key)),
                producer_epoch: 1,
                last_sequence: 2,
                last_timestamp_ms: 3,
                coordinator_epoch: -1,
                current_transaction_start: -1,
            }],
        };
        Ok(Response::new(v1::DescribeProducersReply {
            partitions: self.each(request.into_inner().partitions, answer),
        }))
    }

    async fn describe_config(
        &self,
        _: Request<v1::DescribeConfigRequest>,
    ) -> Result<Response<v1::DescribeConfigReply>, Status> {
        self.called("describe_config")?;
        let id = self.id.to_string();
        let values = [
            ("node.id", id.clone()),
            ("broker.rack", format!("rack-{id}")),
            ("log.dirs", format!("/data-{id}")),
        ];
        Ok(Response::new(v1::DescribeConfigReply {
            static_values: values.map(|(name, value)| (name.to_owned(), value)).into(),
        }))
    }

    async fn await_metadata(
        &self,
        _: Request<v1::AwaitMetadataRequest>,
    ) -> Result<Response<v1::AwaitMetadataReply>, Status> {
        self.called("await_metadata")?;
        Ok(Response::new(v1::AwaitMetadataReply {}))
    }

    async fn init_producer_id(
        &self,
        _: Request<v1::InitProducerIdRequest>,
    ) -> Result<Response<v1::InitProducerIdReply>, Status> {
        let error = self.called("init_producer_id")?;
        Ok(Response::new(v1::InitProducerIdReply {
            error: (error != 0).then(|| v1::ServiceError {
                code: error,
                ..Default::default()
            }),
            producer_id: 1000 + i64::from(self.id.get()),
            producer_epoch: 0,
        }))
    }
}
