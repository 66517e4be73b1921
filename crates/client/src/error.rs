//! Why an internal call failed, and whether it may have had an effect.

use strom_proto::convert::error_code;
use strom_proto::v1::ServiceError;
use strom_types::ErrorCode;
use thiserror::Error;

#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum EndpointError {
    #[error("{0:?} is no host:port, unix:///path or local:name")]
    Malformed(String),
    #[error("no service named {0:?} runs in this process")]
    NotInThisProcess(String),
}

/// A failed unary call.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum CallError {
    /// The service refused; it surely did nothing.
    #[error("{}: {}", error_code(.0.code), .0.message)]
    Refused(ServiceError),
    /// No service could be reached; surely nothing was sent.
    #[error("cannot reach {target}: {reason}")]
    Unreachable { target: String, reason: String },
    /// The request may have left, and nothing is known of its effect.
    #[error("no answer from {target}: {reason}")]
    Indeterminate { target: String, reason: String },
}

impl CallError {
    pub fn code(&self) -> ErrorCode {
        match self {
            CallError::Refused(error) => error_code(error.code),
            CallError::Unreachable { .. } => ErrorCode::ControllerUnavailable,
            CallError::Indeterminate { .. } => ErrorCode::Indeterminate,
        }
    }
}

impl From<EndpointError> for CallError {
    fn from(error: EndpointError) -> Self {
        CallError::Unreachable {
            target: "endpoint".into(),
            reason: error.to_string(),
        }
    }
}
