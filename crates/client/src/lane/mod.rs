//! Data lanes: one long-lived spliced stream to one broker, shared by everyone in this process, with replies found
//! again by correlation id.

mod fetch;
mod pending;
mod produce;
mod stream;

use std::time::Duration;

use thiserror::Error;

pub use fetch::{FetchCall, FetchLane};
pub use produce::{ProduceCall, ProduceLane, ProduceStream, StreamName};

/// How much a lane holds.
#[derive(Clone, Copy, Debug)]
pub struct LaneLimits {
    /// Bytes that wait to be sent; senders wait when it is full.
    pub queue_bytes: u32,
    /// Largest message taken from the broker.
    pub message_bytes_max: usize,
    /// How long opening the stream may take.
    pub connect_timeout: Duration,
}

impl Default for LaneLimits {
    fn default() -> Self {
        LaneLimits {
            queue_bytes: 32 * 1024 * 1024,
            message_bytes_max: 128 * 1024 * 1024,
            connect_timeout: Duration::from_secs(3),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum LaneError {
    /// The stream could not be opened; surely nothing was sent.
    #[error("cannot reach the broker: {0}")]
    Unreachable(String),
    /// The stream broke after the request may have left: its effect is unknown.
    #[error("the stream to the broker broke")]
    Broken,
}
