//! Changes that go to the controllers: the client's time-out, what came of each item, and reading one's own writes.

use std::time::Duration;

use strom_client::CallError;
use strom_kafka_codec::ByteStr;
use strom_metadata::Image;
use strom_proto::convert::error_code;
use strom_proto::v1::ServiceError;
use strom_types::{ErrorCode, MetadataOffset};
use tokio::time::{Instant, timeout};

use super::Call;
use crate::codes::{client_code, error_text, kafka};

/// For requests without a time-out of their own.
pub(super) const ADMIN_TIMEOUT: Duration = Duration::from_secs(15);
/// Stands for a time-out that is not positive: some clients mean "as soon as possible" by it.
const ADMIN_TIMEOUT_MIN: Duration = Duration::from_secs(1);
const ADMIN_TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// When the client no longer waits.
#[derive(Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn after(limit: Duration) -> Self {
        Deadline(Instant::now() + limit.min(ADMIN_TIMEOUT_MAX))
    }

    pub(super) fn of_request(timeout_ms: i32) -> Self {
        match u64::try_from(timeout_ms) {
            Ok(0) | Err(_) => Self::after(ADMIN_TIMEOUT_MIN),
            Ok(millis) => Self::after(Duration::from_millis(millis)),
        }
    }

    pub(super) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// What came of one item of a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Verdict {
    pub error: ErrorCode,
    pub message: Option<ByteStr>,
}

impl Verdict {
    pub(super) fn refused(error: ErrorCode, message: impl Into<String>) -> Self {
        Verdict {
            error,
            message: Some(error_text(message)),
        }
    }

    /// The outcome is not known, or not visible yet.
    pub(super) fn timed_out() -> Self {
        Self::refused(ErrorCode::RequestTimedOut, "The request timed out.")
    }

    pub(super) fn of_item(error: Option<&ServiceError>) -> Self {
        match error {
            None => Verdict {
                error: ErrorCode::None,
                message: None,
            },
            Some(error) => Verdict {
                error: client_code(error_code(error.code)),
                message: (!error.message.is_empty()).then(|| error_text(error.message.as_str())),
            },
        }
    }

    /// The call as a whole failed, and so did each of its items.
    pub(super) fn of_call(error: &CallError) -> Self {
        match error {
            CallError::Refused(error) => Self::of_item(Some(error)),
            _ => Self::refused(client_code(error.code()), error.to_string()),
        }
    }

    /// A success that this gateway does not show yet is not told as one: the next request might not see it.
    pub(super) fn once_visible(self, seen: bool) -> Self {
        if seen || !self.is_ok() {
            self
        } else {
            Self::timed_out()
        }
    }

    pub(super) fn is_ok(&self) -> bool {
        self.error.is_none()
    }

    pub(super) fn code(&self) -> i16 {
        kafka(self.error)
    }
}

/// Waits until this gateway shows what was committed at `offset`, so that the client's next request sees it.
pub(super) async fn visible(call: &Call, deadline: Deadline, offset: u64) -> bool {
    let metadata = call.gateway.metadata();
    metadata.wait_for(MetadataOffset(offset), deadline.left()).await
}

/// Waits until the metadata has what `holds` looks for.
pub(super) async fn wait_until(call: &Call, limit: Duration, holds: impl Fn(&Image) -> bool) -> bool {
    let metadata = call.gateway.metadata();
    let mut changes = metadata.changes();
    let wait = async {
        while !holds(&metadata.image()) {
            if changes.changed().await.is_err() {
                return false;
            }
        }
        true
    };
    timeout(limit, wait).await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use strom_proto::convert::service_error;

    use super::*;

    #[test]
    fn what_a_failed_call_means() {
        let lost = CallError::Indeterminate {
            target: "controller".into(),
            reason: "gone".into(),
        };
        assert_eq!(Verdict::of_call(&lost).error, ErrorCode::RequestTimedOut);
        let unsent = CallError::Unreachable {
            target: "controller".into(),
            reason: "refused".into(),
        };
        assert_eq!(Verdict::of_call(&unsent).error, ErrorCode::NotController);
        let refused = CallError::Refused(service_error(ErrorCode::PolicyViolation, "no"));
        assert_eq!(
            Verdict::of_call(&refused),
            Verdict::refused(ErrorCode::PolicyViolation, "no")
        );
        assert!(Verdict::of_item(None).is_ok());
    }

    #[test]
    fn any_timeout_gives_a_deadline() {
        for (asked, least, most) in [
            (i32::MIN, 0, 1),
            (-1, 0, 1),
            (0, 0, 1),
            (5_000, 4, 5),
            (i32::MAX, 299, 300),
        ] {
            let left = Deadline::of_request(asked).left();
            assert!(
                left >= Duration::from_secs(least) && left <= Duration::from_secs(most),
                "{asked}"
            );
        }
    }
}
