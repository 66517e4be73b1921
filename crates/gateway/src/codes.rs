//! The one table from what went wrong inside to the code a Kafka client gets (reliability: "Gateway").
//!
//! The gateway never makes up a definite error: what may have been done is answered with a retriable code that
//! clients treat as unknown.

use strom_client::{CallError, LaneError};
use strom_types::ErrorCode;

/// Kafka's number of a code that clients know; Strom's own codes are mapped first.
pub(crate) fn kafka(code: ErrorCode) -> i16 {
    client_code(code).kafka_code().unwrap_or(-1)
}

/// The code a client sees for a service's code.
pub(crate) fn client_code(code: ErrorCode) -> ErrorCode {
    match code {
        // May or may not have happened: retriable, and clients know that it may have.
        ErrorCode::Indeterminate => ErrorCode::RequestTimedOut,
        // Surely not done; another try may reach a controller.
        ErrorCode::ControllerUnavailable => ErrorCode::NotController,
        ErrorCode::Overloaded => ErrorCode::ThrottlingQuotaExceeded,
        // Internal fencing is not the client's business; it shall look up the leader again.
        ErrorCode::StaleBrokerEpoch => ErrorCode::NotLeaderOrFollower,
        other => other,
    }
}

/// Produce and fetch through a lane that failed.
pub(crate) fn lane_code(error: &LaneError) -> ErrorCode {
    match error {
        // Nothing was sent: the client shall refresh its metadata and come again.
        LaneError::Unreachable(_) => ErrorCode::NotLeaderOrFollower,
        LaneError::Broken => ErrorCode::RequestTimedOut,
    }
}

/// A unary call to a broker about a partition that failed.
pub(crate) fn partition_call_code(error: &CallError) -> ErrorCode {
    match error {
        CallError::Refused(_) => client_code(error.code()),
        CallError::Unreachable { .. } => ErrorCode::NotLeaderOrFollower,
        CallError::Indeterminate { .. } => ErrorCode::RequestTimedOut,
    }
}

/// A unary call to a group's coordinator that failed.
pub(crate) fn coordinator_call_code(error: &CallError) -> ErrorCode {
    match error {
        CallError::Refused(_) => client_code(error.code()),
        CallError::Unreachable { .. } => ErrorCode::CoordinatorNotAvailable,
        // Offset commits and joins may be repeated: clients retry them on this code after finding the coordinator.
        CallError::Indeterminate { .. } => ErrorCode::CoordinatorNotAvailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reaches_clients_as_one_of_kafkas() {
        for &code in ErrorCode::ALL {
            assert!(
                client_code(code).kafka_code().is_some(),
                "{code} has no number in Kafka"
            );
        }
    }

    #[test]
    fn the_unknown_is_never_definite() {
        for code in [
            client_code(ErrorCode::Indeterminate),
            lane_code(&LaneError::Broken),
            partition_call_code(&CallError::Indeterminate {
                target: String::new(),
                reason: String::new(),
            }),
        ] {
            assert!(code.is_retriable(), "{code}");
        }
    }
}
