//! Who and what: nodes, brokers, topics, partitions, producers.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// Declares a transparent integer newtype with the usual derives, `get`, and `Display`.
macro_rules! integer_id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub $int);

        impl $name {
            pub const fn get(self) -> $int {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}
pub(crate) use integer_id;

integer_id! {
    /// `node.id` of any role, as the operator sees it.
    NodeId(i32)
}
integer_id! {
    /// The broker id that Kafka clients see; never negative for a real broker.
    BrokerId(i32)
}
integer_id! {
    /// Id of an idempotent or transactional producer; `-1` on the wire means "none".
    ProducerId(i64)
}
integer_id! {
    /// Epoch of a [`ProducerId`]; `-1` on the wire means "none".
    ProducerEpoch(i16)
}

/// A topic's identity for its whole life (KIP-516): a topic recreated under one name gets another id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub Uuid);

impl TopicId {
    /// Kafka's "no topic id" on the wire.
    pub const ZERO: TopicId = TopicId(Uuid::nil());

    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        TopicId(Uuid::from_bytes(bytes))
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Reads the 16 bytes an internal message carries; `None` when there are not exactly 16.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok().map(TopicId)
    }

    pub const fn is_zero(&self) -> bool {
        self.0.is_nil()
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One partition of one topic, by topic id (Kafka's class of the same name).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicIdPartition {
    pub topic_id: TopicId,
    pub partition: i32,
}

impl TopicIdPartition {
    pub const fn new(topic_id: TopicId, partition: i32) -> Self {
        TopicIdPartition { topic_id, partition }
    }
}

/// `<topic id>-<partition>`: also the name of the partition's directory on a broker's disk.
impl fmt::Display for TopicIdPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}

impl FromStr for TopicIdPartition {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (id, partition) = text.rsplit_once('-').ok_or(())?;
        let topic_id = TopicId(Uuid::try_parse(id).map_err(|_| ())?);
        let partition: i32 = partition.parse().map_err(|_| ())?;
        if partition < 0 {
            return Err(());
        }
        Ok(TopicIdPartition { topic_id, partition })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_name_reads_back() {
        let key = TopicIdPartition::new(TopicId(Uuid::from_u128(7)), 12);
        assert_eq!(key.to_string().parse(), Ok(key));
        for bad in [
            "",
            "x-1",
            "00000000-0000-0000-0000-000000000007",
            "00000000-0000-0000-0000-000000000007--1",
        ] {
            assert_eq!(bad.parse::<TopicIdPartition>(), Err(()), "{bad}");
        }
    }
}
