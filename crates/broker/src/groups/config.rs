//! The coordinator's settings out of the broker's.

use strom_groups::Config;
use strom_records::{Codec, Compression};
use strom_runtime::Settings;

pub(super) fn from_settings(settings: &Settings) -> Config {
    let int = |name| i32::try_from(settings.int(name)).unwrap_or(i32::MAX);
    Config {
        group_min_session_timeout_ms: int("group.min.session.timeout.ms"),
        group_max_session_timeout_ms: int("group.max.session.timeout.ms"),
        group_initial_rebalance_delay_ms: int("group.initial.rebalance.delay.ms"),
        group_max_size: settings.size("group.max.size"),
        offset_metadata_max_bytes: settings.size("offset.metadata.max.bytes"),
        offsets_retention_minutes: settings.int("offsets.retention.minutes"),
        offsets_retention_check_interval_ms: settings.int("offsets.retention.check.interval.ms"),
        offsets_commit_timeout_ms: settings.int("offsets.commit.timeout.ms"),
        ..Config::default()
    }
}

/// How the batches in the offsets topic are compressed.
pub(super) fn compression(settings: &Settings) -> Compression {
    let id = i16::try_from(settings.int("offsets.topic.compression.codec"));
    let codec = id.ok().and_then(|id| Codec::from_id(id).ok());
    Compression::of(codec.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_set_gives_kafkas_defaults() {
        assert_eq!(from_settings(&Settings::default()), Config::default());
    }
}
