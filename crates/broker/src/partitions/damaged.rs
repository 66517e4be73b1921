//! Replicas whose logs are damaged: told to the controllers until nobody counts on them, then begun anew from the leader.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use strom_metadata::{Image, PartitionState};
use strom_proto::convert::topic_id_bytes;
use strom_proto::v1;
use strom_replication::{Event, Removal};
use strom_types::{LeaderEpoch, TopicIdPartition};
use tokio::sync::watch;
use tracing::{error, warn};

use super::Partitions;
use crate::partition::Partition;

/// The logs of this broker that are out of service because of what lies in them.
#[derive(Default)]
pub(crate) struct DamagedLogs {
    /// With the last leader epoch in which the replica acted.
    replicas: Mutex<BTreeMap<TopicIdPartition, LeaderEpoch>>,
    found: watch::Sender<()>,
}

impl DamagedLogs {
    pub(crate) fn note(&self, key: TopicIdPartition, acted: LeaderEpoch) {
        if self.replicas.lock().insert(key, acted).is_none() {
            self.found.send_replace(());
        }
    }

    /// Changes when another one is found.
    pub(crate) fn found(&self) -> watch::Receiver<()> {
        self.found.subscribe()
    }

    pub(crate) fn report(&self) -> Vec<v1::DamagedReplica> {
        let report = |(key, acted): (&TopicIdPartition, &LeaderEpoch)| v1::DamagedReplica {
            topic_id: topic_id_bytes(key.topic_id),
            partition: key.partition,
            leader_epoch: acted.get(),
        };
        self.replicas.lock().iter().map(report).collect()
    }

    fn all(&self) -> Vec<(TopicIdPartition, LeaderEpoch)> {
        let replicas = self.replicas.lock();
        replicas.iter().map(|(key, acted)| (*key, *acted)).collect()
    }

    fn forget(&self, key: TopicIdPartition) {
        self.replicas.lock().remove(&key);
    }
}

impl Partitions {
    /// Begins damaged replicas anew where the metadata allows it; leaderships cannot come of it. `image` is what the
    /// replicas have been brought to, and none is brought further meanwhile.
    pub(crate) fn mend_damaged(&self, image: &Image) {
        for (key, acted) in self.shared.damaged_logs().all() {
            let state = image.partition(key);
            let ours = state.filter(|state| state.replicas.contains(&self.config.broker_id));
            match ours {
                None => self.shared.damaged_logs().forget(key),
                // Else it is for the operator to decide what becomes of it.
                Some(state) if state.may_begin_anew(self.config.broker_id, acted) => {
                    if let Some((partition, epoch)) = self.begin_anew(image, key, state) {
                        error!(topic = %partition.topic(), partition = key.partition, %epoch, "an empty log was to lead");
                    }
                }
                Some(_) => {}
            }
        }
    }

    fn begin_anew(
        &self,
        image: &Image,
        key: TopicIdPartition,
        state: &PartitionState,
    ) -> Option<(Arc<Partition>, LeaderEpoch)> {
        let config = self.topic_config(image, key.topic_id);
        let delay = Duration::from_millis(u64::try_from(config.file_delete_delay_ms).unwrap_or(0));
        if let Some(partition) = self.get(key) {
            partition.step(Event::Removed(Removal::Unassigned));
        }
        if let Err(error) = self.dir.set_aside(&[key], delay) {
            error!(partition = %key, %error, "a damaged log is kept, and its replica stays out of service");
            return None;
        }
        self.hosted.write().remove(&key);
        self.shared.damaged_logs().forget(key);
        warn!(partition = %key, leader = ?state.leader, "a replica is fetched anew in place of its damaged log");
        self.assign(image, key, state, &config)
    }
}
