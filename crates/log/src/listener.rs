//! What a log directory tells its owner.

use strom_types::{Offset, TopicIdPartition};

use crate::LogError;

/// Called from the directory's own threads, once per round for all logs concerned. Implementations must not block and
/// must not call back into [`crate::LogDir::close`].
pub trait LogListener: Send + Sync {
    /// Everything before each offset is in the page cache: it survives the process, not the machine.
    fn written(&self, logs: &[(TopicIdPartition, Offset)]);
    /// Everything before each offset is on the disk.
    fn flushed(&self, logs: &[(TopicIdPartition, Offset)]);
    /// What was appended to these logs cannot be written for want of disk space. It waits in memory and may yet be
    /// written, or be lost with the process. Called again each round for as long as that is so.
    fn stalled(&self, logs: &[TopicIdPartition]);
    /// The directory is dead for this process's life: appends are refused, reads go on. Called once.
    fn failed(&self, error: &LogError);
}
