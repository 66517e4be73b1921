//! Which partition of an internal topic coordinates a group or a transactional id.

/// Kafka's topic of group metadata and committed offsets.
pub const GROUP_METADATA_TOPIC: &str = "__consumer_offsets";
/// Kafka's topic of transaction states.
pub const TRANSACTION_STATE_TOPIC: &str = "__transaction_state";

pub fn is_internal_topic(name: &str) -> bool {
    name == GROUP_METADATA_TOPIC || name == TRANSACTION_STATE_TOPIC
}

/// Java's `String.hashCode`: over UTF-16 code units, wrapping at 32 bits.
pub fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

/// The partition that coordinates `key`: Kafka's `Utils.abs(key.hashCode) % partitions`, whose `abs` takes
/// `Integer.MIN_VALUE` to 0. `partitions` below 1 is taken as 1.
pub fn coordinator_partition(key: &str, partitions: i32) -> i32 {
    java_hash(key).checked_abs().unwrap_or(0) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_hashes() {
        // Printed by a JVM.
        assert_eq!(java_hash(""), 0);
        assert_eq!(java_hash("hello"), 99_162_322);
        assert_eq!(java_hash("polygenelubricants"), i32::MIN);
        assert_eq!(coordinator_partition("polygenelubricants", 50), 0);
    }
}
