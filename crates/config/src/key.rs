//! One configuration key: its name, type, bounds, where it may be set and what it does here.

use crate::error::ConfigError;
use crate::valid::Valid;
use crate::value::Value;

/// Which resource a key configures.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scope {
    Topic,
    /// A process: Kafka's broker configs, and Strom's own keys of any role.
    Broker,
    Group,
    ClientMetrics,
    UserClientQuota,
    IpQuota,
}

impl Scope {
    pub const ALL: [Scope; 6] = [
        Scope::Topic,
        Scope::Broker,
        Scope::Group,
        Scope::ClientMetrics,
        Scope::UserClientQuota,
        Scope::IpQuota,
    ];
}

/// Kafka's `ConfigDef.Type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

impl Kind {
    /// Kafka's name of the type, as its error messages and tables print it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Boolean => "BOOLEAN",
            Kind::String => "STRING",
            Kind::Int => "INT",
            Kind::Short => "SHORT",
            Kind::Long => "LONG",
            Kind::Double => "DOUBLE",
            Kind::List => "LIST",
            Kind::Class => "CLASS",
            Kind::Password => "PASSWORD",
        }
    }

    /// The number in DescribeConfigs responses (`DescribeConfigsResponse.ConfigType`).
    pub const fn wire_id(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::String => 2,
            Kind::Int => 3,
            Kind::Short => 4,
            Kind::Long => 5,
            Kind::Double => 6,
            Kind::List => 7,
            Kind::Class => 8,
            Kind::Password => 9,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Importance {
    High,
    Medium,
    Low,
}

/// When a value may change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Update {
    /// Only at the start of the process.
    ReadOnly,
    /// While running, for one broker.
    PerBroker,
    /// While running, for one broker or as the default of all.
    ClusterWide,
    /// A property of a topic, group or other resource that may change at any time.
    Resource,
}

/// What the key does in this version of Strom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    Honoured,
    /// Will be honoured; has no effect yet.
    NotYet,
    /// Has no meaning in Strom and will stay without effect.
    Ignored,
}

/// A broker-level key that gives another key its value, and what to multiply it by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SynonymOf {
    pub name: &'static str,
    pub factor: i64,
}

/// One row of the key table.
#[derive(Clone, PartialEq, Debug)]
pub struct Key {
    pub name: &'static str,
    pub scope: Scope,
    /// Which table the row came from, for grouping the documentation: `log`, `network`, …
    pub area: &'static str,
    pub kind: Kind,
    /// The default in text form; `None` is Kafka's null.
    pub default: Option<&'static str>,
    /// Has no default in Kafka; Strom's roles supply one.
    pub required: bool,
    pub valid: Valid,
    pub importance: Importance,
    pub update: Update,
    /// For a topic or group key: the broker keys behind it, first one first. For a broker key: its family.
    pub synonyms: Vec<SynonymOf>,
    pub effect: Effect,
    /// One line.
    pub doc: &'static str,
}

impl Key {
    /// Reads a value as Kafka does: type first, then bounds.
    pub fn parse(&self, text: &str) -> Result<Value, ConfigError> {
        Value::parse(self.name, self.kind, &self.valid, text)
    }

    /// The default as a value; `None` for null.
    pub fn default_value(&self) -> Option<Value> {
        self.default.and_then(|text| self.parse(text).ok())
    }

    /// Never shown to anyone.
    pub const fn is_sensitive(&self) -> bool {
        matches!(self.kind, Kind::Password)
    }

    pub const fn is_read_only(&self) -> bool {
        matches!(self.update, Update::ReadOnly)
    }

    pub const fn is_honoured(&self) -> bool {
        matches!(self.effect, Effect::Honoured)
    }
}

/// A key of an older Kafka that is accepted, has no effect and is not described.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retired {
    pub scope: Scope,
    pub name: &'static str,
    pub doc: &'static str,
}
