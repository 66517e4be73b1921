//! Why a configuration is refused, in Kafka's words where it has words for it.

use thiserror::Error;

use crate::key::Scope;

/// Kafka answers all of these with INVALID_CONFIG, except those of [`ConfigError::is_invalid_request`].
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ConfigError {
    #[error("{}: {name}{}", unknown(*scope), hint(*suggestion))]
    Unknown {
        scope: Scope,
        name: String,
        suggestion: Option<&'static str>,
    },
    #[error("Invalid value {value} for configuration {name}: {reason}")]
    Invalid {
        name: String,
        value: String,
        reason: String,
    },
    /// Rules about a list as a whole.
    #[error("Configuration '{name}' {reason}")]
    List { name: String, reason: String },
    /// Two keys contradict each other.
    #[error("{0}")]
    Conflict(String),
    #[error("Cannot update these configs dynamically: [{0}]")]
    NotDynamic(String),
    #[error("Cannot update these configs at default cluster level, broker id must be specified: [{0}]")]
    PerBrokerOnly(String),
    #[error(
        "These security configs can be dynamically updated only per-listener using the listener prefix: [{0}]"
    )]
    PerListenerOnly(String),
    #[error("Can't {op} to key {name} because its type is not LIST.")]
    NotAList { op: &'static str, name: String },
    #[error("{0}")]
    ClientMetrics(String),
}

impl ConfigError {
    pub(crate) fn invalid(name: &str, value: &str, reason: impl Into<String>) -> Self {
        ConfigError::Invalid {
            name: name.to_owned(),
            value: value.to_owned(),
            reason: reason.into(),
        }
    }

    /// Kafka answers INVALID_REQUEST (42) instead of INVALID_CONFIG (40).
    pub const fn is_invalid_request(&self) -> bool {
        matches!(
            self,
            ConfigError::ClientMetrics(_)
                | ConfigError::Unknown {
                    scope: Scope::ClientMetrics,
                    ..
                }
        )
    }
}

fn unknown(scope: Scope) -> &'static str {
    match scope {
        Scope::Topic => "Unknown topic config name",
        Scope::Broker => "Unknown broker config name",
        Scope::Group => "Unknown group config name",
        Scope::ClientMetrics => "Unknown client metrics configuration",
        Scope::UserClientQuota | Scope::IpQuota => "Unknown quota name",
    }
}

fn hint(suggestion: Option<&'static str>) -> String {
    suggestion.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}
