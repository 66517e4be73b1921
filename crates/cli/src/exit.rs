//! How a verb ends: the process's exit code, and the error behind it.

use std::io;

use thiserror::Error;

use crate::kafka::KafkaError;

/// The exit codes of every verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// Done.
    Ok,
    /// Tried and failed, in whole or in part.
    Failed,
    /// The command line or the input makes no sense; nothing was done.
    Usage,
    /// Asked about health, and it is not good.
    Unhealthy,
    /// Time ran out; what was begun may still happen.
    Timeout,
}

impl ExitCode {
    /// The number the shell sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unhealthy => 3,
            Self::Timeout => 4,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.code())
    }
}

/// Why a verb did not do its work.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error("{0}")]
    Usage(String),
    #[error("{message}")]
    Failed { message: String, hint: Option<String> },
    #[error("{0}")]
    Unhealthy(String),
    #[error("{what}: {source}")]
    Input { what: String, source: io::Error },
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
    /// Each failure has been told already.
    #[error("{failed} of {total} failed")]
    Partly {
        failed: usize,
        total: usize,
        code: ExitCode,
    },
}

impl Error {
    pub(crate) fn failed(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            hint: Some(hint.into()),
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Kafka(error) if error.is_timeout() => ExitCode::Timeout,
            Self::Kafka(_) | Self::Failed { .. } | Self::Input { .. } | Self::Output(_) => ExitCode::Failed,
            Self::Usage(_) => ExitCode::Usage,
            Self::Unhealthy(_) => ExitCode::Unhealthy,
            Self::Partly { code, .. } => *code,
        }
    }

    /// What to try next.
    pub(crate) fn hint(&self) -> Option<&str> {
        match self {
            Self::Kafka(error) => error.hint(),
            Self::Failed { hint, .. } => hint.as_deref(),
            _ => None,
        }
    }

    /// Whether the reader of the output has gone away, which is no failure (`strom consume … | head`).
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
