//! The follower streams that are open on this broker: one per follower, the newest.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use strom_runtime::Shutdown;
use strom_types::{BrokerEpoch, BrokerId};
use tokio::sync::OwnedMutexGuard;

#[derive(Default)]
pub(super) struct Streams {
    open: Mutex<HashMap<BrokerId, Open>>,
    last_refusal: Mutex<String>,
}

struct Open {
    epoch: BrokerEpoch,
    stop: Shutdown,
    /// Held by the stream that takes positions in: what an older one still has must not come after what is newer.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// The right to serve a follower.
pub(super) struct Turn {
    /// A newer stream has taken over.
    pub stop: Shutdown,
    _turn: OwnedMutexGuard<()>,
}

impl Streams {
    /// Opens a follower's stream once its older one has ended; `None` when a later life of the follower has one.
    pub(super) async fn open(&self, follower: BrokerId, epoch: BrokerEpoch) -> Option<Turn> {
        let stop = Shutdown::new();
        let turn = {
            let mut open = self.open.lock();
            let mut turn = Arc::default();
            if let Some(older) = open.get(&follower) {
                if older.epoch > epoch && !older.stop.is_triggered() {
                    return None;
                }
                older.stop.trigger("a newer stream of the follower is open");
                turn = older.turn.clone();
            }
            let newest = Open {
                epoch,
                stop: stop.clone(),
                turn: turn.clone(),
            };
            open.insert(follower, newest);
            turn
        };
        let _turn = turn.lock_owned().await;
        Some(Turn { stop, _turn })
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
            .is_some_and(|stream| !stream.stop.is_triggered())
    }

    /// For tests: breaks what is open.
    #[cfg(test)]
    pub(super) fn break_all(&self) {
        self.open
            .lock()
            .values()
            .for_each(|stream| stream.stop.trigger("broken by a test"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_stream_stays_and_an_older_life_is_refused() {
        let streams = Streams::default();
        let first = streams.open(BrokerId(1), BrokerEpoch(5)).await.unwrap();
        {
            let mut second = std::pin::pin!(streams.open(BrokerId(1), BrokerEpoch(5)));
            assert!(
                futures::poll!(&mut second).is_pending(),
                "the first has not ended"
            );
            assert!(first.stop.is_triggered());
            drop(first);
            let second = second.await.unwrap();
            assert!(!second.stop.is_triggered());
            assert!(streams.open(BrokerId(1), BrokerEpoch(4)).await.is_none());
        }
        assert!(streams.open(BrokerId(2), BrokerEpoch(4)).await.is_some());
        let third = streams.open(BrokerId(1), BrokerEpoch(6)).await.unwrap();
        third.stop.trigger("it broke");
        drop(third);
        assert!(streams.open(BrokerId(1), BrokerEpoch(4)).await.is_some());
    }
}
