//! The end of a directory's use: clean, with the marker that vouches for it, or by drop, which is like a crash.

use strom_types::BrokerEpoch;

use super::{LogDir, meta};
use crate::config::LogConfig;
use crate::error::LogError;

impl LogDir {
    /// Stops cleanly: writes and flushes what waits, then a checkpoint and, last of all, the marker with the broker's
    /// epoch; then the directory's lock is given back. Without space or on a failed directory the marker is left out,
    /// and the next start recovers. A second call does nothing. Logs refuse changes from here on.
    pub fn close(&self, epoch: BrokerEpoch) -> Result<(), LogError> {
        let recovered = self.recover_unopened();
        if !self.shared.begin_closing() {
            return Ok(());
        }
        self.stop_threads();
        let closed = recovered.and_then(|()| self.finish(epoch));
        self.lock.lock().take();
        closed
    }

    fn finish(&self, epoch: BrokerEpoch) -> Result<(), LogError> {
        self.inner.write_and_flush_rest(&self.shared);
        if let Some(error) = self.failure() {
            return Err(error);
        }
        if self.inner.writer.is_stalled() {
            return Err(LogError::DirFailed {
                path: self.shared.path.clone(),
                reason: "the disk is full: what waited could not be written".to_owned(),
            });
        }
        let seq = self.inner.checkpoint(&self.shared, true)?;
        self.shared.wal.discard()?;
        meta::write_clean_marker(&*self.shared.storage, &self.shared.path, epoch, seq)
    }

    /// After a crash a clean stop may only vouch for logs that were recovered, so the rest is now.
    fn recover_unopened(&self) -> Result<(), LogError> {
        if self.clean_epoch.is_some() {
            return Ok(());
        }
        for (id, topic) in self.partitions() {
            if self.get(id).is_none() {
                self.log(id, topic.as_deref().unwrap_or_default(), LogConfig::default())?;
            }
        }
        Ok(())
    }

    fn stop_threads(&self) {
        self.inner.housekeeper.stop();
        self.shared.write_queue.stop();
        let mut threads = self.threads.lock();
        for thread in threads.drain(..) {
            // A thread that panicked has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Drop for LogDir {
    fn drop(&mut self) {
        self.shared.begin_closing();
        self.stop_threads();
        // The logs hold `shared`, and the queues in it hold logs.
        self.inner.logs.write().clear();
        drop(self.shared.write_queue.try_take());
        drop(self.shared.flush_queue.try_take());
    }
}
