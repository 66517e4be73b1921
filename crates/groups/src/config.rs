//! The coordinator's settings, under Kafka's names where Kafka has them.

/// Defaults are Kafka 4.3's. Times are in the unit the name ends in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// `group.min.session.timeout.ms`
    pub group_min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`
    pub group_max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`
    pub group_initial_rebalance_delay_ms: i32,
    /// `group.max.size`
    pub group_max_size: usize,
    /// `offset.metadata.max.bytes`; counted in UTF-16 units, as Kafka does.
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`
    pub offsets_retention_minutes: i64,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval_ms: i64,
    /// `offsets.commit.timeout.ms`: how long a request waits for its records to be committed.
    pub offsets_commit_timeout_ms: i64,
    /// How long a first JoinGroup may stay parked before its member is dropped (Kafka's constant: 5 minutes).
    pub new_member_join_timeout_ms: i64,

    /// Strom's bounds on what clients can make one coordinator partition hold.
    pub limits: Limits,
}

/// Bounds without a Kafka key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Ids, protocol names and protocol metadata of one member; more is INVALID_REQUEST.
    pub member_bytes_max: usize,
    /// One member's assignment; more is INVALID_REQUEST.
    pub assignment_bytes_max: usize,
    /// All members of all groups of this partition together; more is GROUP_MAX_SIZE_REACHED.
    pub all_members_bytes_max: usize,
    /// Members, with those that were only promised an id; more is GROUP_MAX_SIZE_REACHED.
    pub all_members_max: usize,
    /// More is GROUP_MAX_SIZE_REACHED.
    pub groups_max: usize,
    /// Records handed to the log and not yet answered; more is COORDINATOR_NOT_AVAILABLE.
    pub pending_records_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            member_bytes_max: 256 << 10,
            assignment_bytes_max: 1 << 20,
            all_members_bytes_max: 256 << 20,
            all_members_max: 100_000,
            groups_max: 100_000,
            pending_records_max: 200_000,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            group_min_session_timeout_ms: 6_000,
            group_max_session_timeout_ms: 1_800_000,
            group_initial_rebalance_delay_ms: 3_000,
            group_max_size: 2_147_483_647,
            offset_metadata_max_bytes: 4_096,
            offsets_retention_minutes: 10_080,
            offsets_retention_check_interval_ms: 600_000,
            offsets_commit_timeout_ms: 5_000,
            new_member_join_timeout_ms: 300_000,
            limits: Limits::default(),
        }
    }
}

impl Config {
    pub(crate) fn offsets_retention_ms(&self) -> i64 {
        self.offsets_retention_minutes.saturating_mul(60_000)
    }
}
