//! Proof that no controller leads: then nobody can have replaced this broker, and its lease goes on without an answer.

use std::collections::BTreeMap;

use strom_types::Mono;

/// For each controller the last time at which it provably did not lead: it refused connections (its process is gone), or
/// said itself that it neither leads nor knows a leader. Silence proves nothing.
///
/// A proof of all of them counts like a heartbeat sent at the earliest of these times, as long as the lease is still
/// valid when the last one comes in: whoever fences this broker later has begun to lead after that time, and a new
/// leader gives full sessions. So a broker that cannot reach the controllers stops within its lease, while one whose
/// controllers have lost their majority goes on.
#[derive(Debug)]
pub(super) struct Leaderless {
    seen: BTreeMap<String, Option<Mono>>,
}

impl Leaderless {
    pub(super) fn new(endpoints: &[String]) -> Self {
        Leaderless {
            seen: endpoints.iter().map(|e| (e.clone(), None)).collect(),
        }
    }

    /// `at` = when the controller that was asked did surely not lead; `None` = it may lead.
    pub(super) fn note(&mut self, endpoint: &str, at: Option<Mono>) {
        if let Some(seen) = self.seen.get_mut(endpoint) {
            *seen = at;
        }
    }

    /// Since when nobody can have led without taking up the leadership anew.
    pub(super) fn since(&self) -> Option<Mono> {
        let all: Option<Vec<Mono>> = self.seen.values().copied().collect();
        all?.into_iter().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_proof_of_every_controller_counts_and_from_the_earliest() {
        let endpoints = ["a:1".to_owned(), "b:1".to_owned(), "c:1".to_owned()];
        let mut leaderless = Leaderless::new(&endpoints);
        leaderless.note("a:1", Some(Mono(30)));
        leaderless.note("b:1", Some(Mono(10)));
        leaderless.note("stranger:1", Some(Mono(20)));
        assert_eq!(leaderless.since(), None, "nothing is known of c");
        leaderless.note("c:1", Some(Mono(20)));
        assert_eq!(leaderless.since(), Some(Mono(10)));
        leaderless.note("b:1", None);
        assert_eq!(leaderless.since(), None, "b may lead again");
        assert_eq!(Leaderless::new(&[]).since(), None);
    }
}
