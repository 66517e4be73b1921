//! Which version of each API to use with a server.

use std::collections::BTreeMap;

use strom_kafka_codec::messages::ApiVersionsResponse;
use strom_kafka_codec::{ApiKey, VersionRange};

/// The versions the CLI itself uses: the codec's, but not those that name topics by id (which would need a look-up
/// per reply) or that take several groups at once.
pub(crate) fn spoken(key: ApiKey) -> VersionRange {
    let known = key.versions();
    let newest = match key {
        ApiKey::Produce | ApiKey::Fetch => 12,
        ApiKey::OffsetCommit => 9,
        ApiKey::OffsetFetch => 7,
        ApiKey::DeleteTopics => 5,
        ApiKey::FindCoordinator => 3,
        _ => key.latest_stable(),
    };
    VersionRange {
        min: known.min,
        max: known.max.min(newest),
    }
}

/// What a server said it serves, by API number.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServedVersions(BTreeMap<i16, VersionRange>);

impl ServedVersions {
    pub(crate) fn of(response: &ApiVersionsResponse) -> Self {
        let ranges = response.api_keys.iter();
        Self(
            ranges
                .map(|api| {
                    (
                        api.api_key,
                        VersionRange {
                            min: api.min_version,
                            max: api.max_version,
                        },
                    )
                })
                .collect(),
        )
    }

    pub(crate) fn get(&self, key: i16) -> Option<VersionRange> {
        self.0.get(&key).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (i16, VersionRange)> + '_ {
        self.0.iter().map(|(key, range)| (*key, *range))
    }

    /// The newest version that both sides speak.
    pub(crate) fn choose(&self, key: ApiKey) -> Option<i16> {
        let (ours, theirs) = (spoken(key), self.get(key.as_i16())?);
        let newest = ours.max.min(theirs.max);
        (newest >= ours.min && newest >= theirs.min).then_some(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_is_chosen() {
        let served = |min, max| {
            ServedVersions(BTreeMap::from([(
                ApiKey::Fetch.as_i16(),
                VersionRange { min, max },
            )]))
        };
        assert_eq!(served(4, 18).choose(ApiKey::Fetch), Some(12));
        assert_eq!(served(0, 6).choose(ApiKey::Fetch), Some(6));
        assert_eq!(served(13, 18).choose(ApiKey::Fetch), None);
        assert_eq!(served(0, 3).choose(ApiKey::Fetch), None);
        assert_eq!(served(0, 3).choose(ApiKey::Produce), None);
    }
}
