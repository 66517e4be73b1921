//! The epochs that fence stale actors, and the metadata log's index.

use std::fmt;

use crate::ids::integer_id;

integer_id! {
    /// Grows whenever a partition's leadership changes hands or restarts (KIP-101, KIP-320); `-1` = none.
    LeaderEpoch(i32)
}
integer_id! {
    /// Grows by one on every change of a partition's metadata record (KIP-497).
    PartitionEpoch(i32)
}
integer_id! {
    /// The metadata index of a broker's present registration (KIP-500): names one life of its process.
    BrokerEpoch(i64)
}
integer_id! {
    /// An index in the metadata log (the raft index); 0 = before the first entry.
    MetadataOffset(u64)
}

impl LeaderEpoch {
    pub const NONE: LeaderEpoch = LeaderEpoch(-1);
}

impl BrokerEpoch {
    pub const NONE: BrokerEpoch = BrokerEpoch(-1);
}
