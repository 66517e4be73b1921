//! Back-pressure by the disk: whoever appends waits while too many bytes are queued for it.

use std::sync::Arc;
use std::time::Duration;

use strom_log::LogDir;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Room is looked for at least this often, should a wake-up be missed.
const CHECK_EVERY: Duration = Duration::from_millis(20);

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct WriteRoom {
    dir: Arc<LogDir>,
    freed: Arc<Notify>,
    queued_bytes_max: usize,
}

impl WriteRoom {
    /// `freed` is notified as queued bytes are written.
    pub(crate) fn new(dir: Arc<LogDir>, freed: Arc<Notify>, queued_bytes_max: usize) -> Self {
        WriteRoom {
            dir,
            freed,
            queued_bytes_max,
        }
    }

    /// Waits while more bytes are queued than may be.
    pub(crate) async fn wait(&self) {
        while self.dir.queued_bytes() >= self.queued_bytes_max {
            let _ = timeout(CHECK_EVERY, self.freed.notified()).await;
        }
    }
}
