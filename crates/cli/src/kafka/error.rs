//! What goes wrong between the CLI and a cluster, with the next thing to try.

use std::time::Duration;

use strom_kafka_codec::{ApiKey, DecodeError, EncodeError, VersionRange};
use strom_types::ErrorCode;
use thiserror::Error;

use super::Address;

/// Why a call to Kafka failed.
#[derive(Debug, Error)]
pub(crate) enum KafkaError {
    #[error("cannot reach {address}: {reason}")]
    Connect { address: String, reason: String },
    #[error("no bootstrap server answers ({0})")]
    Unreachable(String),
    #[error("{address} broke the connection before it answered {api}: {reason}")]
    Lost {
        address: String,
        api: ApiKey,
        reason: String,
    },
    #[error(
        "{subject}: {address} broke the connection before it answered, so it is unknown whether this happened: {reason}"
    )]
    Indeterminate {
        subject: String,
        address: String,
        reason: String,
    },
    #[error("{address} answered {api} with bytes that are no such reply: {source}")]
    Malformed {
        address: String,
        api: ApiKey,
        source: DecodeError,
    },
    #[error("cannot put {api} into bytes: {source}")]
    Encode { api: ApiKey, source: EncodeError },
    #[error("{address} {}, strom speaks {ours}", offered(*api, *theirs))]
    Unsupported {
        address: String,
        api: ApiKey,
        theirs: Option<VersionRange>,
        ours: VersionRange,
    },
    #[error("{subject}: {code}{}", explained(message.as_deref()))]
    Server {
        subject: String,
        code: ErrorCode,
        message: Option<String>,
    },
    #[error("{what}: gave up after {limit:?}{}", caused_by(last.as_deref()))]
    Timeout {
        what: String,
        limit: Duration,
        last: Option<Box<KafkaError>>,
    },
    #[error("{0}: the records cannot be read: {1}")]
    Records(String, String),
}

fn offered(api: ApiKey, theirs: Option<VersionRange>) -> String {
    match theirs {
        Some(range) => format!("serves {api} in versions {range}"),
        None => format!("does not serve {api}"),
    }
}

fn explained(message: Option<&str>) -> String {
    message
        .filter(|text| !text.is_empty())
        .map_or_else(String::new, |text| format!(": {text}"))
}

fn caused_by(last: Option<&KafkaError>) -> String {
    last.map_or_else(String::new, |error| format!("; last: {error}"))
}

impl KafkaError {
    /// The server's refusal of `subject`; `None` when `code` is no error.
    pub(crate) fn from_code(subject: impl Into<String>, code: i16, message: Option<&str>) -> Option<Self> {
        let (code, message) = match ErrorCode::try_from(i32::from(code)) {
            Ok(ErrorCode::None) => return None,
            Ok(known) => (known, message.map(str::to_owned)),
            Err(unknown) => (ErrorCode::UnknownServerError, Some(unknown.to_string())),
        };
        Some(Self::Server {
            subject: subject.into(),
            code,
            message,
        })
    }

    /// `Ok` when `code` is 0.
    pub(crate) fn check(subject: impl Into<String>, code: i16, message: Option<&str>) -> Result<(), Self> {
        Self::from_code(subject, code, message).map_or(Ok(()), Err)
    }

    pub(crate) fn lost(address: &Address, api: ApiKey, reason: impl Into<String>) -> Self {
        Self::Lost {
            address: address.to_string(),
            api,
            reason: reason.into(),
        }
    }

    /// The server's code, if it was the server that said no.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Server { code, .. } => Some(*code),
            Self::Timeout { last: Some(last), .. } => last.code(),
            _ => None,
        }
    }

    /// Whether the same call may go better in a moment.
    pub(crate) fn is_retriable(&self) -> bool {
        match self {
            Self::Server { code, .. } => code.is_retriable(),
            Self::Connect { .. } | Self::Lost { .. } | Self::Unreachable(_) => true,
            _ => false,
        }
    }

    /// Whether time ran out.
    pub(crate) fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. })
    }

    /// What the operator may try next.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Connect { .. } | Self::Unreachable(_) => Some(
                "is the server up and the address right? Choose another with --bootstrap-server or STROM_BOOTSTRAP_SERVERS",
            ),
            Self::Lost { .. } => {
                Some("look at the server's log; a TLS or SASL listener also closes like this")
            }
            Self::Indeterminate { .. } => Some("look whether it happened before you try again"),
            Self::Unsupported { .. } => Some("`strom api-versions` shows what the server offers"),
            Self::Server { code, .. } => hint_for(*code),
            Self::Timeout { last: Some(last), .. } => last.hint(),
            Self::Timeout { last: None, .. } => Some("try a longer --timeout, or look at the server's log"),
            Self::Malformed { .. } | Self::Encode { .. } | Self::Records(..) => None,
        }
    }
}

fn hint_for(code: ErrorCode) -> Option<&'static str> {
    use ErrorCode as E;
    Some(match code {
        E::UnknownTopicOrPartition | E::UnknownTopicId => "`strom topic list` shows the topics there are",
        E::TopicAlreadyExists => "`strom topic describe` shows it; --if-not-exists accepts it",
        E::InvalidReplicationFactor => "`strom broker list` shows how many brokers there are",
        E::InvalidPartitions => {
            "partitions can only be added; `strom topic describe` shows how many there are"
        }
        E::InvalidConfig => "`strom config describe --all` shows the keys there are and their values",
        E::InvalidTopicException => "names have 1 to 249 characters out of a-z A-Z 0-9 . _ -",
        E::NonEmptyGroup => "stop the group's members first; `strom group describe` names them",
        E::GroupIdNotFound => "`strom group list` shows the groups there are",
        E::UnknownMemberId | E::IllegalGeneration => {
            "the group has active members; stop them first (`strom group describe` names them)"
        }
        E::NotEnoughReplicas | E::NotEnoughReplicasAfterAppend => {
            "`strom topic describe` shows the ISR; min.insync.replicas says how many it takes"
        }
        E::LeaderNotAvailable | E::NotLeaderOrFollower => {
            "`strom topic describe` shows who leads; is every broker up (`strom broker list`)?"
        }
        E::OffsetOutOfRange => "`strom topic describe --offsets` shows which offsets exist",
        E::MessageTooLarge | E::RecordListTooLarge => {
            "raise the topic's max.message.bytes, or send smaller batches with --batch-size"
        }
        E::CoordinatorNotAvailable | E::CoordinatorLoadInProgress => {
            "the coordinator's partition of __consumer_offsets has no leader yet; `strom topic describe __consumer_offsets`"
        }
        E::TopicAuthorizationFailed | E::GroupAuthorizationFailed | E::ClusterAuthorizationFailed => {
            "the principal lacks the right; ask who runs the cluster for an ACL"
        }
        _ => return None,
    })
}
