//! ISR changes: collected for a moment and sent together, at most one request at a time.

use std::time::Duration;

use strom_client::{CallError, ControllerClient, Effect};
use strom_proto::convert::{error_code, topic_id_bytes};
use strom_proto::v1;
use strom_replication::{AlterPartitionResult, Event, IsrMember, RecoveryState};
use strom_runtime::Shutdown;
use strom_types::{ErrorCode, LeaderEpoch, PartitionEpoch, TopicIdPartition};
use tokio::sync::mpsc;

use crate::broker::Broker;

const CALL_TIMEOUT: Duration = Duration::from_secs(3);
const BATCH_MAX: usize = 10_000;

/// A leader's wish to change its partition's ISR.
#[derive(Clone, Debug)]
pub(crate) struct IsrChange {
    pub key: TopicIdPartition,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    pub attempt: u32,
    pub new_isr: Vec<IsrMember>,
    pub recovery_state: RecoveryState,
}

pub(crate) struct AlterPartitions {
    pub broker: Broker,
    pub controller: ControllerClient,
    pub changes: mpsc::UnboundedReceiver<IsrChange>,
}

impl AlterPartitions {
    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                () = shutdown.cancelled() => return,
                taken = self.changes.recv_many(&mut batch, BATCH_MAX) => if taken == 0 { return },
            }
            self.send(batch).await;
        }
    }

    async fn send(&self, batch: Vec<IsrChange>) {
        self.broker.metrics().isr_change();
        let request = v1::AlterPartitionRequest {
            broker_id: self.broker.id().get(),
            broker_epoch: self.broker.epoch().get(),
            partitions: batch.iter().map(to_wire).collect(),
        };
        // The epochs make a repeated request harmless.
        let call = self.controller.call(
            CALL_TIMEOUT,
            Effect::Idempotent,
            request,
            |mut stub, request| async move { stub.alter_partition(request).await },
        );
        let results = match call.await {
            Ok(reply) => reply
                .results
                .into_iter()
                .map(|result| error_code(result.error))
                .collect(),
            Err(CallError::Unreachable { .. }) => vec![ErrorCode::OperationNotAttempted; batch.len()],
            Err(CallError::Refused(error)) => vec![error_code(error.code); batch.len()],
            Err(CallError::Indeterminate { .. }) => vec![ErrorCode::RequestTimedOut; batch.len()],
        };
        // A reply that leaves partitions out says nothing of them.
        let unknown = std::iter::repeat(ErrorCode::RequestTimedOut);
        for (change, error) in batch.into_iter().zip(results.into_iter().chain(unknown)) {
            if let Some(partition) = self.broker.partitions().get(change.key) {
                partition.step(Event::AlterPartitionResult(AlterPartitionResult {
                    leader_epoch: change.leader_epoch,
                    partition_epoch: change.partition_epoch,
                    attempt: change.attempt,
                    error,
                }));
            }
        }
    }
}

fn to_wire(change: &IsrChange) -> v1::AlterPartition {
    v1::AlterPartition {
        topic_id: topic_id_bytes(change.key.topic_id),
        partition: change.key.partition,
        leader_epoch: change.leader_epoch.get(),
        partition_epoch: change.partition_epoch.get(),
        new_isr: change
            .new_isr
            .iter()
            .map(|member| v1::IsrMember {
                broker_id: member.broker.get(),
                broker_epoch: member.epoch.get(),
            })
            .collect(),
        recovery_state: match change.recovery_state {
            RecoveryState::Recovered => v1::RecoveryState::Recovered as i32,
            RecoveryState::Recovering => v1::RecoveryState::Recovering as i32,
        },
    }
}
