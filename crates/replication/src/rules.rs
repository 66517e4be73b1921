//! The protocol's removable rules: all on in production; the simulator switches one off and must notice.

/// Declares the rules once: the struct, its default, the list of names and the switch.
macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One flag per rule; `Rules::default()` has all of them on.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct Rules {
            $($(#[$doc])* pub $name: bool,)*
        }

        impl Default for Rules {
            fn default() -> Self {
                Rules { $($name: true,)* }
            }
        }

        impl Rules {
            /// Every rule's name.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];

            /// All rules but the named one; `None` when no rule has that name.
            pub fn without(name: &str) -> Option<Self> {
                let mut rules = Rules::default();
                match name {
                    $(stringify!($name) => rules.$name = false,)*
                    _ => return None,
                }
                Some(rules)
            }
        }
    };
}

rules! {
    /// Check 2 of a follower's fetch: another leader epoch than the leader's is refused (KIP-320).
    fence_fetch_epoch,
    /// Check 4: a fetch of another process life than the registered one is never counted (KIP-903, KAFKA-14139).
    fetch_broker_epoch,
    /// Check 6: a diverging follower gets no records and is not counted (KAFKA-13141).
    check_divergence,
    /// [+] A follower whose whole log ends at the leader's log start, in an epoch the leader has nothing of, begins anew.
    refuse_unverifiable,
    /// F1: replies to an older state of the follower are dropped (KIP-320).
    match_replies,
    /// F2: truncation by epoch, never to the own high watermark (KIP-101).
    truncate_by_epoch,
    /// F2: both sides take the floor of the other's epoch (KIP-279).
    floor_on_both_sides,
    /// F3: records that fail their CRC or do not start at the log end are not appended.
    verify_records,
    /// F4: truncation below the own high watermark stops the replica unless the partition is RECOVERING.
    stop_truncation_below_hw,
    /// F5: a follower below the leader's log start drops its log and restarts there.
    restart_at_log_start,
    /// E2: a restarted broker neither leads nor follows by metadata of its former life (ABA, KAFKA-10527).
    act_only_when_registered,
    /// E3: the new epoch's start is persisted before the first append (KAFKA-7415).
    persist_epoch_start,
    /// E4: waiters of an older leader epoch fail, also when this broker leads again (KAFKA-13574).
    fail_waiters_of_old_epochs,
    /// E5: a batch's epoch is neither below the log's last nor above the leader's.
    batch_epoch_order,
    /// Follower state is cleared at each new leader epoch.
    clear_follower_state,
    /// acks=all is refused before the append while the ISR is below the minimum.
    min_isr_before_append,
    /// acks=all is not confirmed when the ISR has fallen below the minimum since.
    min_isr_after_append,
    /// The high watermark rests while the ISR is below the minimum (KIP-966).
    hw_needs_min_isr,
    /// The high watermark is the minimum over committed ∪ proposed ISR (KIP-497).
    hw_over_maximal_isr,
    /// In durable mode only fsynced offsets count.
    count_durable_only,
    /// A follower joins the ISR only at or above the leader epoch's start offset.
    join_needs_epoch_start,
    /// A fenced or stopping follower is not proposed (KAFKA-15021).
    propose_only_eligible,
    /// A pending ISR is rolled back only when the controller surely did not and will not commit it (KIP-497).
    roll_back_only_when_refused,
    /// Nothing is acknowledged and the high watermark rests without a valid lease.
    lease_fences_acks,
    /// Nothing is read without a valid lease (etcd#20418).
    lease_fences_reads,
    /// "latest" is unavailable until the high watermark reaches the epoch's start (KIP-207).
    latest_waits_for_epoch_start,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_can_be_switched_off_alone() {
        for name in Rules::NAMES {
            let rules = Rules::without(name);
            assert!(
                rules.is_some_and(|rules| rules != Rules::default()),
                "{name} has no switch"
            );
        }
        assert_eq!(Rules::without("gravity"), None);
    }
}
