//! A point in time after which an operation gives up.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::KafkaError;

/// When to give up, and how long that was when the operation began (for the message).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Deadline {
    pub(crate) fn after(limit: Duration) -> Self {
        Self {
            at: Instant::now() + limit,
            limit,
        }
    }

    /// The earlier of this deadline and `limit` from now.
    pub(crate) fn within(self, limit: Duration) -> Self {
        let other = Self::after(limit);
        if other.at < self.at { other } else { self }
    }

    pub(crate) fn remaining(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    pub(crate) fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }

    /// Milliseconds left, for a request's own timeout field; at least 1.
    pub(crate) fn remaining_ms(self) -> i32 {
        i32::try_from(self.remaining().as_millis())
            .unwrap_or(i32::MAX)
            .max(1)
    }

    /// The error of having waited in vain for `what`.
    pub(crate) fn missed(self, what: impl Into<String>, last: Option<KafkaError>) -> KafkaError {
        KafkaError::Timeout {
            what: what.into(),
            limit: self.limit,
            last: last.map(Box::new),
        }
    }

    /// Waits for `work`, but not longer.
    pub(crate) async fn bound<T>(
        self,
        what: impl FnOnce() -> String,
        work: impl Future<Output = Result<T, KafkaError>>,
    ) -> Result<T, KafkaError> {
        match timeout_at(self.at, work).await {
            Ok(result) => result,
            Err(_) => Err(self.missed(what(), None)),
        }
    }
}
