//! The slice of cluster metadata one replica acts on, and the replica's own fixed facts.

use std::time::Duration;

use strom_types::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, TopicIdPartition};

/// RECOVERING marks a leader that was elected although committed records may be lost (KIP-966).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RecoveryState {
    #[default]
    Recovered,
    Recovering,
}

/// A partition's record, as the controllers' log has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionState {
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
    pub elr: Vec<BrokerId>,
    pub recovery_state: RecoveryState,
    /// As resolved by the controller, never by a broker (KAFKA-16540).
    pub min_isr: usize,
}

impl PartitionState {
    /// Before the first record has been applied.
    pub(crate) fn unknown() -> Self {
        PartitionState {
            leader: None,
            leader_epoch: LeaderEpoch::NONE,
            partition_epoch: PartitionEpoch(-1),
            replicas: Vec::new(),
            isr: Vec::new(),
            elr: Vec::new(),
            recovery_state: RecoveryState::Recovered,
            min_isr: 1,
        }
    }
}

/// A broker's registration as the metadata has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BrokerState {
    pub id: BrokerId,
    /// [`BrokerEpoch::NONE`] when it is not registered.
    pub epoch: BrokerEpoch,
    pub fenced: bool,
    pub shutting_down: bool,
}

/// A member of a proposed ISR, named with the process life that was seen to be in sync (KIP-903).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IsrMember {
    pub broker: BrokerId,
    pub epoch: BrokerEpoch,
}

/// What an acknowledgement rests on; fixed when the topic is created.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// A replica counts for what it has fsynced.
    #[default]
    Durable,
    /// A replica counts for what it has appended: Kafka's promise.
    PageCache,
}

/// What a replica is told once, at its creation.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    pub partition: TopicIdPartition,
    pub broker: BrokerId,
    /// This process's registration.
    pub broker_epoch: BrokerEpoch,
    pub durability: Durability,
    /// `replica.lag.time.max.ms`: a follower that has not been caught up for so long leaves the ISR.
    pub lag_time_max: Duration,
    /// Wait before an AlterPartition that failed is sent again.
    pub alter_retry_backoff: Duration,
    /// An AlterPartition without an answer for so long counts as timed out.
    pub alter_timeout: Duration,
    /// For so long after its sending an AlterPartition without an answer may still reach the controller.
    pub alter_expiry: Duration,
}

impl ReplicaConfig {
    /// The defaults of everything that is not an identity.
    pub fn new(partition: TopicIdPartition, broker: BrokerId, broker_epoch: BrokerEpoch) -> Self {
        ReplicaConfig {
            partition,
            broker,
            broker_epoch,
            durability: Durability::default(),
            lag_time_max: Duration::from_secs(10),
            alter_retry_backoff: Duration::from_millis(50),
            alter_timeout: Duration::from_secs(3),
            alter_expiry: Duration::from_secs(30),
        }
    }
}
