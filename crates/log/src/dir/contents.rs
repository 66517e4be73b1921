//! What lies in a data directory: partitions by their directories' names, leftovers of deletions, the last checkpoint.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strom_types::TopicIdPartition;

use super::checkpoint_file::{CHECKPOINT_BYTES_MAX, CHECKPOINT_FILE, Checkpoint};
use super::{PARTITION_METADATA, STRAY_SUFFIX, TRASH_SUFFIX};
use crate::error::LogError;
use crate::storage::{Storage, StorageFile, read_file, write_all_at};

const PARTITION_METADATA_BYTES_MAX: u64 = 4 << 10;

pub(super) type Partitions = HashMap<TopicIdPartition, Option<Arc<str>>>;

/// By their directories' names.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) partitions: Partitions,
    /// What earlier deletions left behind.
    pub(super) trash: Vec<PathBuf>,
    /// Logs that were set aside.
    pub(super) strays: Vec<PathBuf>,
}

pub(super) fn list_partitions(storage: &dyn Storage, path: &Path) -> Result<Contents, LogError> {
    let mut contents = Contents::default();
    for entry in storage
        .list(path)
        .map_err(|error| LogError::io("list", path, error))?
    {
        if !entry.is_dir {
            continue;
        }
        if entry.name.ends_with(TRASH_SUFFIX) {
            contents.trash.push(path.join(entry.name));
        } else if entry.name.ends_with(STRAY_SUFFIX) {
            contents.strays.push(path.join(entry.name));
        } else if let Ok(id) = entry.name.parse() {
            contents.partitions.insert(id, None);
        }
    }
    Ok(contents)
}

/// The checkpoint, and whether it ought to be there and is not.
pub(super) fn read_checkpoint(
    storage: &dyn Storage,
    path: &Path,
    needed: bool,
) -> Result<(Checkpoint, bool), LogError> {
    let path = path.join(CHECKPOINT_FILE);
    let bytes = read_file(storage, &path, CHECKPOINT_BYTES_MAX)
        .map_err(|error| LogError::io("read", &path, error))?;
    let checkpoint = bytes.as_deref().map(Checkpoint::decode);
    let lost = matches!(checkpoint, Some(None)) && needed;
    if lost {
        tracing::warn!(path = %path.display(), "the log checkpoint is damaged: every log is checked in full");
    }
    Ok((checkpoint.flatten().unwrap_or_default(), lost))
}

/// A partition's directory with the file that names the topic, which is still to be synced.
pub(crate) fn create_partition(
    storage: &dyn Storage,
    path: &Path,
    id: TopicIdPartition,
    topic: &str,
) -> io::Result<Arc<dyn StorageFile>> {
    let (topic_id, partition) = (id.topic_id, id.partition);
    let text = format!("version: 1\ntopic: {topic}\ntopic_id: {topic_id}\npartition: {partition}\n");
    storage.create_dir(path)?;
    let file = storage.open(&path.join(PARTITION_METADATA), true)?;
    write_all_at(&*file, text.as_bytes(), 0).map(|()| file)
}

/// The topic's name in a partition's own file; `None` when it is missing or damaged.
pub(super) fn read_topic(storage: &dyn Storage, path: &Path, id: TopicIdPartition) -> Option<Arc<str>> {
    let path = path.join(id.to_string()).join(PARTITION_METADATA);
    let bytes = read_file(storage, &path, PARTITION_METADATA_BYTES_MAX).ok()??;
    let text = std::str::from_utf8(&bytes).ok()?;
    let topic = text.lines().find_map(|line| line.strip_prefix("topic: "))?;
    strom_types::validate_topic_name(topic).ok()?;
    Some(topic.into())
}
