//! API keys: names, version ranges, header versions.

use std::fmt;

/// An inclusive range of versions; empty when `min > max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    pub min: i16,
    pub max: i16,
}

impl VersionRange {
    /// Whether `version` lies in the range.
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// Whether there is no version at all (an API removed in 4.0).
    pub const fn is_empty(self) -> bool {
        self.min > self.max
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.min, self.max)
    }
}

struct Entry {
    name: &'static str,
    versions: VersionRange,
    latest_stable: i16,
    flexible_from: i16,
    on_broker: bool,
    on_controller: bool,
}

include!(concat!(env!("OUT_DIR"), "/api_keys.rs"));

impl ApiKey {
    /// The key of that number, if Kafka 4.3.1 knows it.
    pub fn from_i16(key: i16) -> Option<Self> {
        usize::try_from(key)
            .ok()
            .and_then(|index| Self::ALL.get(index))
            .copied()
    }

    /// Its number on the wire.
    pub const fn as_i16(self) -> i16 {
        self as i16
    }

    fn entry(self) -> &'static Entry {
        // The table has one entry per variant, in order.
        &TABLE[usize::from(self.as_i16().unsigned_abs())]
    }

    /// Kafka's name, e.g. `ApiVersions`.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// The versions this codec speaks; empty for an API removed in 4.0.
    pub fn versions(self) -> VersionRange {
        self.entry().versions
    }

    /// The newest version Kafka 4.3.1 advertises by default (`InitProducerId` has an unstable one above it).
    pub fn latest_stable(self) -> i16 {
        self.entry().latest_stable
    }

    /// Whether requests and responses of `version` are in the flexible encoding.
    pub fn is_flexible(self, version: i16) -> bool {
        version >= self.entry().flexible_from
    }

    /// Whether Kafka's brokers serve it.
    pub fn on_broker_listener(self) -> bool {
        self.entry().on_broker
    }

    /// Whether Kafka's controllers serve it.
    pub fn on_controller_listener(self) -> bool {
        self.entry().on_controller
    }

    /// The version of the request header in front of a request of `version`.
    pub fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of the response header. `ApiVersions` responses always have 0: a client that asked for a version
    /// the server lacks must be able to read the answer (KIP-511).
    pub fn response_header_version(self, version: i16) -> i16 {
        i16::from(self.is_flexible(version) && self != Self::ApiVersions)
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
