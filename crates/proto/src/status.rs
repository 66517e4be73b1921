//! The one table from service errors to gRPC status, and the typed error that travels in its details.

use prost::Message;
use strom_types::ErrorCode;
use tonic::{Code, Status};

use crate::convert::error_code;
use crate::v1::ServiceError;

/// The gRPC code that fits a service error, for tools that know nothing of Strom's own codes.
pub fn grpc_code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::None => Code::Ok,
        ErrorCode::NotController
        | ErrorCode::NotLeaderOrFollower
        | ErrorCode::NotCoordinator
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::StaleBrokerEpoch => Code::FailedPrecondition,
        ErrorCode::CoordinatorNotAvailable
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::LeaderNotAvailable
        | ErrorCode::BrokerNotAvailable
        | ErrorCode::ControllerUnavailable => Code::Unavailable,
        ErrorCode::RequestTimedOut => Code::DeadlineExceeded,
        ErrorCode::Indeterminate => Code::Unknown,
        ErrorCode::Overloaded | ErrorCode::ThrottlingQuotaExceeded => Code::ResourceExhausted,
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId | ErrorCode::GroupIdNotFound => {
            Code::NotFound
        }
        ErrorCode::TopicAlreadyExists | ErrorCode::DuplicateBrokerRegistration => Code::AlreadyExists,
        ErrorCode::ClusterAuthorizationFailed
        | ErrorCode::TopicAuthorizationFailed
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::InconsistentClusterId => Code::PermissionDenied,
        ErrorCode::UnknownServerError | ErrorCode::KafkaStorageError => Code::Internal,
        ErrorCode::UnsupportedVersion => Code::Unimplemented,
        _ => Code::InvalidArgument,
    }
}

/// A failed unary call: the gRPC code for strangers, the typed error in the details for ours.
pub fn to_status(error: &ServiceError) -> Status {
    let code = error_code(error.code);
    Status::with_details(
        grpc_code(code),
        error.message.clone(),
        error.encode_to_vec().into(),
    )
}

/// The typed error of a failed call. A status without one came from the transport, so nothing is known of the
/// call's effect unless the connection was never made.
pub fn from_status(status: &Status) -> ServiceError {
    if !status.details().is_empty()
        && let Ok(error) = ServiceError::decode(status.details())
    {
        return error;
    }
    let code = match status.code() {
        Code::ResourceExhausted => ErrorCode::Overloaded,
        Code::PermissionDenied => ErrorCode::ClusterAuthorizationFailed,
        Code::Unimplemented => ErrorCode::UnsupportedVersion,
        _ => ErrorCode::Indeterminate,
    };
    ServiceError {
        code: code as i32,
        message: status.to_string(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::service_error;

    #[test]
    fn a_typed_error_survives_the_status() {
        let error = service_error(ErrorCode::NotController, "ask node 2");
        assert_eq!(from_status(&to_status(&error)), error);
        assert_eq!(
            from_status(&Status::unavailable("gone")).code,
            ErrorCode::Indeterminate as i32
        );
    }
}
