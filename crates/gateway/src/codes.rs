//! The one table from what went wrong inside to the code a Kafka client gets (reliability: "Gateway").
//!
//! The gateway never makes up a definite error: what may have been done is answered with a retriable code that
//! clients treat as unknown.

use strom_client::{CallError, LaneError};
use strom_kafka_codec::ByteStr;
use strom_types::ErrorCode;

/// What a person still reads of one error. Texts repeat what clients sent, which may be as long as a Kafka string gets.
const ERROR_TEXT_CHARS_MAX: usize = 1024;
/// Kept of the end, where the reason stands.
const ERROR_TEXT_TAIL_CHARS: usize = 256;

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

/// The text beside a code, its middle left out where it is longer than every reply can carry. All come through here.
pub(crate) fn error_text(text: impl Into<String>) -> ByteStr {
    let mut text = text.into();
    let chars = text.chars().count();
    if chars > ERROR_TEXT_CHARS_MAX {
        let byte_of = |n| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
        let head = byte_of(ERROR_TEXT_CHARS_MAX - ERROR_TEXT_TAIL_CHARS);
        let tail = byte_of(chars - ERROR_TEXT_TAIL_CHARS);
        text.replace_range(head..tail, "…");
    }
    ByteStr::from(text)
}

/// Produce through a lane that failed.
pub(crate) fn produce_lane_code(error: &LaneError) -> ErrorCode {
    match error {
        // Nothing was sent: the client shall refresh its metadata and come again.
        LaneError::Unreachable(_) => ErrorCode::NotLeaderOrFollower,
        LaneError::Broken => ErrorCode::RequestTimedOut,
    }
}

/// Fetch through a lane that failed: nothing can have happened, so the client shall look up the leader again. A time-out
/// would be shown to applications.
pub(crate) fn fetch_lane_code(error: &LaneError) -> ErrorCode {
    match error {
        LaneError::Unreachable(_) | LaneError::Broken => ErrorCode::NotLeaderOrFollower,
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

/// A unary call that only reads and failed: nothing can have happened, so the client shall look up the leader again.
pub(crate) fn read_call_code(error: &CallError) -> ErrorCode {
    match error {
        CallError::Refused(_) => client_code(error.code()),
        CallError::Unreachable { .. } | CallError::Indeterminate { .. } => ErrorCode::NotLeaderOrFollower,
    }
}

/// A unary call to a group's coordinator that failed.
pub(crate) fn coordinator_call_code(error: &CallError) -> ErrorCode {
    match error {
        CallError::Refused(_) => coordinator_code(error.code()),
        CallError::Unreachable { .. } => ErrorCode::CoordinatorNotAvailable,
        // Offset commits and joins may be repeated: clients retry them on this code after finding the coordinator.
        CallError::Indeterminate { .. } => ErrorCode::CoordinatorNotAvailable,
    }
}

/// A coordinator's own code. Members know what to do with lost coordinators, not with lost leaders or controllers.
pub(crate) fn coordinator_code(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch | ErrorCode::StaleBrokerEpoch => {
            ErrorCode::NotCoordinator
        }
        ErrorCode::Indeterminate
        | ErrorCode::RequestTimedOut
        | ErrorCode::ControllerUnavailable
        | ErrorCode::NotController
        | ErrorCode::Overloaded => ErrorCode::CoordinatorNotAvailable,
        other => client_code(other),
    }
}

/// Why there is no producer id. Whatever keeps brokers from handing one out passes; this is the code that Kafka
/// answers, and the only one on which Java's idempotent producer comes again: NOT_COORDINATOR and
/// COORDINATOR_NOT_AVAILABLE send it to look for the coordinator of a transactional id that it does not have.
pub(crate) fn producer_id_code(code: ErrorCode) -> ErrorCode {
    match client_code(code) {
        ErrorCode::UnsupportedVersion => ErrorCode::UnsupportedVersion,
        _ => ErrorCode::CoordinatorLoadInProgress,
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
    fn error_texts_fit_a_kafka_string() {
        assert_eq!(error_text("short").as_str(), "short");
        for letter in ["x", "ß", "💧"] {
            let full = letter.repeat(ERROR_TEXT_CHARS_MAX);
            assert_eq!(error_text(full.as_str()).as_str(), full);
            let cut = error_text(format!("begin{}end", letter.repeat(40_000)));
            assert_eq!(cut.chars().count(), ERROR_TEXT_CHARS_MAX + 1);
            assert!(cut.starts_with("begin") && cut.contains('…') && cut.ends_with("end"));
        }
    }

    #[test]
    fn the_unknown_is_never_definite() {
        let lost = CallError::Indeterminate {
            target: String::new(),
            reason: String::new(),
        };
        for code in [
            client_code(ErrorCode::Indeterminate),
            produce_lane_code(&LaneError::Broken),
            fetch_lane_code(&LaneError::Broken),
            partition_call_code(&lost),
            read_call_code(&lost),
            coordinator_call_code(&lost),
            coordinator_code(ErrorCode::Indeterminate),
            producer_id_code(lost.code()),
        ] {
            assert!(code.is_retriable(), "{code}");
        }
    }

    #[test]
    fn a_read_that_was_lost_looks_for_the_leader() {
        for error in [LaneError::Broken, LaneError::Unreachable(String::new())] {
            assert_eq!(fetch_lane_code(&error), ErrorCode::NotLeaderOrFollower);
        }
    }

    #[test]
    fn coordinators_speak_of_coordinators() {
        for &code in ErrorCode::ALL {
            let seen = coordinator_code(code);
            assert!(seen.kafka_code().is_some(), "{code} has no number in Kafka");
            assert_eq!(
                seen.is_retriable(),
                code.is_retriable() || seen == ErrorCode::NotCoordinator,
                "{code}"
            );
        }
        for code in [
            ErrorCode::NotCoordinator,
            ErrorCode::CoordinatorLoadInProgress,
            ErrorCode::UnknownMemberId,
            ErrorCode::UnknownTopicOrPartition,
        ] {
            assert_eq!(coordinator_code(code), code);
        }
        assert_eq!(
            coordinator_code(ErrorCode::NotLeaderOrFollower),
            ErrorCode::NotCoordinator
        );
    }

    #[test]
    fn no_producer_id_is_a_passing_trouble() {
        for code in [
            ErrorCode::CoordinatorNotAvailable,
            ErrorCode::NotCoordinator,
            ErrorCode::Indeterminate,
        ] {
            assert_eq!(producer_id_code(code), ErrorCode::CoordinatorLoadInProgress);
        }
    }
}
