//! The self-fencing lease: a broker that has not been heard acts as if it were already replaced.

use std::time::Duration;

use strom_types::Mono;

/// One per broker process. Valid while `now − (send time of the last acknowledged heartbeat) ≤ session timeout`:
/// it counts from the send, the controller's session from the receipt, so it always ends first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lease {
    held: Option<(Mono, Duration)>,
}

impl Lease {
    /// Never acknowledged yet.
    pub const NONE: Lease = Lease { held: None };

    /// A heartbeat sent at `sent_at` was acknowledged (no error, not fenced) with this session timeout.
    /// Acknowledgements may overtake each other; the latest send counts.
    pub fn renewed(&mut self, sent_at: Mono, session_timeout: Duration) {
        if self.held.is_none_or(|(last, _)| sent_at >= last) {
            self.held = Some((sent_at, session_timeout));
        }
    }

    /// The controller fenced this broker or knows another epoch: nothing may be served any more.
    pub fn revoked(&mut self) {
        self.held = None;
    }

    pub fn valid(&self, now: Mono) -> bool {
        self.held
            .is_some_and(|(sent_at, session)| now <= sent_at + session)
    }
}

/// The time of a step or query and the broker's lease at that time. Take it anew after every wait: a check made with
/// an old moment says nothing after a pause.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    pub now: Mono,
    pub lease: Lease,
}

impl Moment {
    pub fn lease_valid(&self) -> bool {
        self.lease.valid(self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = Duration::from_secs(6);

    #[test]
    fn a_lease_counts_from_the_send() {
        let mut lease = Lease::NONE;
        assert!(!lease.valid(Mono(0)));
        lease.renewed(Mono(1_000), SESSION);
        assert!(lease.valid(Mono(1_000) + SESSION));
        assert!(!lease.valid(Mono(1_001) + SESSION));
    }

    #[test]
    fn a_late_acknowledgement_of_an_earlier_heartbeat_changes_nothing() {
        let mut lease = Lease::NONE;
        lease.renewed(Mono(2_000), SESSION);
        lease.renewed(Mono(1_000), SESSION * 9);
        assert!(!lease.valid(Mono(2_001) + SESSION));
        lease.revoked();
        assert!(!lease.valid(Mono(2_000)));
    }
}
