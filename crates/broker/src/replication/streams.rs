//! The follower streams that are open on this broker: one per follower, the newest.

use std::collections::HashMap;

use parking_lot::Mutex;
use strom_runtime::Shutdown;
use strom_types::{BrokerEpoch, BrokerId};

#[derive(Default)]
pub(super) struct Streams {
    open: Mutex<HashMap<BrokerId, (BrokerEpoch, Shutdown)>>,
    last_refusal: Mutex<String>,
}

impl Streams {
    /// Opens a follower's stream and ends its older one; `None` when a later life of the follower has one.
    pub(super) fn open(&self, follower: BrokerId, epoch: BrokerEpoch) -> Option<Shutdown> {
        let mut open = self.open.lock();
        if let Some((known, older)) = open.get(&follower) {
            if *known > epoch && !older.is_triggered() {
                return None;
            }
            older.trigger("a newer stream of the follower is open");
        }
        let stream = Shutdown::new();
        open.insert(follower, (epoch, stream.clone()));
        Some(stream)
    }

    /// Whether the last refusal was another one: a follower that tries again and again is logged once.
    pub(super) fn is_new_refusal(&self, message: &str) -> bool {
        let mut last = self.last_refusal.lock();
        let new = *last != message;
        if new {
            *last = message.to_owned();
        }
        new
    }

    /// For tests.
    #[cfg(test)]
    pub(super) fn is_open(&self, follower: BrokerId) -> bool {
        let open = self.open.lock();
        open.get(&follower)
            .is_some_and(|(_, stream)| !stream.is_triggered())
    }

    /// For tests: breaks what is open.
    #[cfg(test)]
    pub(super) fn break_all(&self) {
        self.open
            .lock()
            .values()
            .for_each(|(_, stream)| stream.trigger("broken by a test"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stream_stays_and_an_older_life_is_refused() {
        let streams = Streams::default();
        let first = streams.open(BrokerId(1), BrokerEpoch(5)).unwrap();
        let second = streams.open(BrokerId(1), BrokerEpoch(5)).unwrap();
        assert!(first.is_triggered() && !second.is_triggered());
        assert!(streams.open(BrokerId(1), BrokerEpoch(4)).is_none());
        assert!(streams.open(BrokerId(2), BrokerEpoch(4)).is_some());
        let third = streams.open(BrokerId(1), BrokerEpoch(6)).unwrap();
        third.trigger("it broke");
        assert!(streams.open(BrokerId(1), BrokerEpoch(4)).is_some());
    }
}
