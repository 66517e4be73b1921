//! Logs on the disk that belong to no replica here: their topics were deleted, or their partitions moved, while this
//! broker was away.

use std::sync::atomic::Ordering;
use std::time::Duration;

use strom_metadata::Image;
use strom_types::{TopicId, TopicIdPartition};
use tracing::error;

use super::Partitions;

impl Partitions {
    /// Once in a life, as soon as the metadata tells which logs are this broker's: sets the others aside, to be deleted
    /// after `file.delete.delay.ms`. No log goes because this broker knows too little:
    ///
    /// - The image holds this broker's own registration. An image is the whole state after all entries up to its index
    ///   (a snapshot is installed whole or not at all, deltas come in order), so the partition is not assigned here as of
    ///   this life. An older or empty one is not looked at.
    /// - If a partition comes back later, that is a later change, and they are applied one after the other: by then its
    ///   log has gone out of the way, and the replica begins empty and outside the ISR, as any that is added. Nobody
    ///   counts on what is set aside.
    /// - Controllers that forgot what they knew (wiped, or put back from an old copy) number their entries anew from
    ///   below. The directory sees it by the broker epoch, and keeps everything for good.
    pub(super) fn sweep_strays(&self, image: &Image) {
        let told = image.index.get() >= u64::try_from(self.broker_epoch.get()).unwrap_or(u64::MAX);
        let ours = self.dir.cluster_id().is_some_and(|id| id == image.cluster_id());
        if !told || !ours || self.strays_swept.swap(true, Ordering::Relaxed) {
            return;
        }
        let is_stray = |key: &TopicIdPartition| {
            let state = image.partition(*key);
            !state.is_some_and(|state| state.replicas.contains(&self.config.broker_id))
        };
        let mut strays = self.dir.partition_ids();
        strays.retain(is_stray);
        let delay = self.topic_config(image, TopicId::ZERO).file_delete_delay_ms;
        let delay = Duration::from_millis(u64::try_from(delay).unwrap_or(0));
        if let Err(error) = self.dir.set_aside(&strays, delay) {
            error!(%error, logs = strays.len(), "logs that belong to no replica here are kept");
        }
    }
}

#[cfg(test)]
mod tests;
