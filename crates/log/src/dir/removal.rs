//! Removal of whole logs: at once, or set aside for a while where an operator may want them back.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use strom_types::TopicIdPartition;
use uuid::Uuid;

use super::{LogDir, STRAY_SUFFIX, TRASH_SUFFIX, contents};
use crate::error::LogError;

impl LogDir {
    /// Deletes a partition: gone under its name when this returns, its bytes are freed in the background. A missing one
    /// is fine.
    pub fn delete_log(&self, id: TopicIdPartition) -> Result<(), LogError> {
        let n = self.inner.trash_names.fetch_add(1, Ordering::Relaxed);
        let unique = format!("{id}.{:x}-{n}{TRASH_SUFFIX}", std::process::id());
        let trash = self.shared.path.join(unique);
        if self.move_out(id, &trash)? {
            self.inner.housekeeper.trash(trash);
        }
        Ok(())
    }

    /// Renames logs that are of no use here any more, as Kafka does with strays, and deletes them after `delay`; so too
    /// those that an earlier life had set aside. One made anew under such an id begins empty, also after a crash. Refused
    /// while controllers that have forgotten something may be what makes them strays: see [`registered`](Self::registered).
    pub fn set_aside(&self, ids: &[TopicIdPartition], delay: Duration) -> Result<(), LogError> {
        if self.meta.lock().keep_strays {
            return Err(LogError::Malformed {
                path: self.shared.path.clone(),
                what: "broker epochs went back: the controllers have lost metadata. Once that is settled, remove \
                       keep.strays from meta.properties"
                    .to_owned(),
            });
        }
        let mut moved = false;
        for id in ids {
            let topic = contents::read_topic(&*self.shared.storage, &self.shared.path, *id);
            let unique = format!("{id}.{}{STRAY_SUFFIX}", Uuid::new_v4().simple());
            let aside = self.shared.path.join(unique);
            if self.move_out(*id, &aside)? {
                tracing::warn!(
                    partition = %id, topic = topic.as_deref().unwrap_or("unknown"), path = %aside.display(),
                    delay_ms = delay.as_millis(), "a log is set aside, to be deleted"
                );
                self.inner.housekeeper.stray(aside);
                moved = true;
            }
        }
        self.inner.housekeeper.delete_strays_after(delay);
        if moved {
            self.inner.strike_from_checkpoint(&self.shared)?;
        }
        Ok(())
    }

    /// Forgets a log and renames its directory; `false` when it has none.
    fn move_out(&self, id: TopicIdPartition, to: &Path) -> Result<bool, LogError> {
        let log = self.inner.logs.write().remove(&id);
        let known = self.inner.on_disk.lock().remove(&id).is_some();
        self.inner.checkpoint.lock().logs.remove(&id);
        self.inner.journal.lock().starts.remove(&id);
        self.shared.flushed_ends.forget(id);
        match log {
            Some(log) => log.delete(to)?,
            None if known => {
                let path = self.shared.path.join(id.to_string());
                let renamed = self.shared.storage.rename(&path, to);
                renamed.map_err(|error| LogError::io("delete", &path, error))?;
            }
            None => return Ok(false),
        }
        self.shared.renamed();
        Ok(true)
    }
}
