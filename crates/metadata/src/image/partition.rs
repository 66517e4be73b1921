//! A partition's state, and its form as a record.

use bytes::Bytes;
use strom_proto::convert::{MalformedField, topic_id_bytes};
use strom_proto::v1;
use strom_types::{BrokerId, LeaderEpoch, PartitionEpoch, TopicIdPartition};
use uuid::Uuid;

use super::error::ImageError;

/// Who holds a partition and who leads it (Kafka's `PartitionRegistration`, with KIP-966's ELR). Lists of brokers
/// hold no broker twice; `isr`, `elr` and `last_known_elr` are disjoint subsets of `replicas`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionState {
    /// In assignment order: the first is the preferred leader.
    pub replicas: Vec<BrokerId>,
    pub adding: Vec<BrokerId>,
    pub removing: Vec<BrokerId>,
    /// Directory of each replica, in the order of `replicas`; empty until several directories exist.
    pub directories: Vec<Uuid>,
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    pub isr: Vec<BrokerId>,
    /// Out of the ISR, but sure to hold every committed record.
    pub elr: Vec<BrokerId>,
    /// Were eligible until a restart that may have lost their tail: for unclean elections only.
    pub last_known_elr: Vec<BrokerId>,
    /// The leader was elected uncleanly and has not finished recovery.
    pub recovering: bool,
    /// `min.insync.replicas` as resolved by the controller, at most the number of replicas.
    pub min_isr: i32,
}

impl PartitionState {
    pub fn preferred_leader(&self) -> Option<BrokerId> {
        self.replicas.first().copied()
    }

    /// Whether something still speaks for a replica that is damaged: its place in the ISR or ELR, or what it told of
    /// itself up to leader epoch `acted`, which may bring it back there.
    pub fn counts_on(&self, id: BrokerId, acted: LeaderEpoch) -> bool {
        self.isr.contains(&id) || self.elr.contains(&id) || self.leader_epoch <= acted
    }

    /// Whether a replica that was damaged after it had acted up to `acted` may begin empty: nothing speaks for it, and
    /// another one leads. Without a leader it may be the only copy that is left.
    pub fn may_begin_anew(&self, id: BrokerId, acted: LeaderEpoch) -> bool {
        !self.counts_on(id, acted) && self.leader.is_some_and(|leader| leader != id)
    }

    /// Checks the form of a record and the rules above.
    pub fn from_record(key: TopicIdPartition, record: &v1::PartitionRecord) -> Result<Self, ImageError> {
        let state = PartitionState {
            replicas: brokers(&record.replicas)?,
            adding: brokers(&record.adding_replicas)?,
            removing: brokers(&record.removing_replicas)?,
            directories: record.directories.iter().map(uuid).collect::<Result<_, _>>()?,
            leader: match record.leader {
                -1 => None,
                id if id >= 0 => Some(BrokerId(id)),
                _ => return Err(MalformedField { field: "leader" }.into()),
            },
            leader_epoch: LeaderEpoch(record.leader_epoch),
            partition_epoch: PartitionEpoch(record.partition_epoch),
            isr: brokers(&record.isr)?,
            elr: brokers(&record.elr)?,
            last_known_elr: brokers(&record.last_known_elr)?,
            recovering: record.recovery_state() == v1::RecoveryState::Recovering,
            min_isr: record.min_isr,
        };
        state.check().map_err(|rule| ImageError::Partition(key, rule))?;
        Ok(state)
    }

    /// The rules a partition always obeys; the text of the broken one otherwise.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.replicas.is_empty() {
            return Err("there is a replica");
        }
        if self.leader_epoch.get() < 0 || self.partition_epoch.get() < 0 {
            return Err("epochs are not negative");
        }
        if !self.directories.is_empty() && self.directories.len() != self.replicas.len() {
            return Err("each replica has a directory");
        }
        let lists = [
            &self.replicas,
            &self.adding,
            &self.removing,
            &self.isr,
            &self.elr,
            &self.last_known_elr,
        ];
        if lists.iter().any(|list| has_duplicates(list)) {
            return Err("no broker is listed twice");
        }
        if lists.iter().any(|list| !is_subset(list, &self.replicas)) {
            return Err("every list is part of the replicas");
        }
        let in_isr = |id: &BrokerId| self.isr.contains(id);
        if self.elr.iter().any(in_isr) || self.last_known_elr.iter().any(in_isr) {
            return Err("the ISR and the ELR are disjoint");
        }
        if self.last_known_elr.iter().any(|id| self.elr.contains(id)) {
            return Err("the ELR and its last known members are disjoint");
        }
        if self.leader.is_some_and(|leader| !self.isr.contains(&leader)) {
            return Err("the leader is in the ISR");
        }
        let replicas = i32::try_from(self.replicas.len()).unwrap_or(i32::MAX);
        if self.min_isr < 1 || self.min_isr > replicas {
            return Err("min ISR is between 1 and the number of replicas");
        }
        Ok(())
    }

    pub fn to_record(&self, key: TopicIdPartition) -> v1::PartitionRecord {
        v1::PartitionRecord {
            topic_id: topic_id_bytes(key.topic_id),
            partition: key.partition,
            replicas: numbers(&self.replicas),
            adding_replicas: numbers(&self.adding),
            removing_replicas: numbers(&self.removing),
            directories: self.directories.iter().map(uuid_bytes).collect(),
            leader: self.leader.map_or(-1, BrokerId::get),
            leader_epoch: self.leader_epoch.get(),
            partition_epoch: self.partition_epoch.get(),
            isr: numbers(&self.isr),
            elr: numbers(&self.elr),
            last_known_elr: numbers(&self.last_known_elr),
            recovery_state: if self.recovering {
                v1::RecoveryState::Recovering.into()
            } else {
                v1::RecoveryState::Recovered.into()
            },
            min_isr: self.min_isr,
        }
    }
}

fn brokers(numbers: &[i32]) -> Result<Vec<BrokerId>, MalformedField> {
    if numbers.iter().any(|id| *id < 0) {
        return Err(MalformedField { field: "broker_id" });
    }
    Ok(numbers.iter().copied().map(BrokerId).collect())
}

fn numbers(brokers: &[BrokerId]) -> Vec<i32> {
    brokers.iter().map(|id| id.get()).collect()
}

/// Lists of replicas are a handful long: comparing all pairs beats any set.
fn has_duplicates(list: &[BrokerId]) -> bool {
    list.iter()
        .enumerate()
        .any(|(at, id)| list.iter().skip(at + 1).any(|other| other == id))
}

fn is_subset(list: &[BrokerId], of: &[BrokerId]) -> bool {
    list.iter().all(|id| of.contains(id))
}

/// Reads the 16 bytes of a uuid.
pub(super) fn uuid(bytes: &Bytes) -> Result<Uuid, MalformedField> {
    Uuid::from_slice(bytes).map_err(|_| MalformedField { field: "uuid" })
}

pub(crate) fn uuid_bytes(uuid: &Uuid) -> Bytes {
    Bytes::copy_from_slice(uuid.as_bytes())
}
