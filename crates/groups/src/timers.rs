//! Deadlines of the coordinator, one per key, in the order they fall due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use strom_types::Mono;

use crate::event::AppendToken;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Timer {
    /// Look for expired offsets.
    OffsetExpiry,
    /// Requests that wait for this append are given up.
    Append(AppendToken),
    /// A group's join phase ends.
    Join(Arc<str>),
    /// Members of the group that have not sent SyncGroup are dropped.
    Sync(Arc<str>),
    /// Group and member: the session ends.
    Session(Arc<str>, Arc<str>),
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    deadlines: BTreeMap<Timer, Mono>,
    queue: BTreeSet<(Mono, Timer)>,
}

impl Timers {
    /// Sets the timer, instead of its earlier deadline if it had one.
    pub(crate) fn schedule(&mut self, timer: Timer, at: Mono) {
        self.cancel(&timer);
        self.deadlines.insert(timer.clone(), at);
        self.queue.insert((at, timer));
    }

    pub(crate) fn cancel(&mut self, timer: &Timer) {
        if let Some((timer, at)) = self.deadlines.remove_entry(timer) {
            self.queue.remove(&(at, timer));
        }
    }

    pub(crate) fn next(&self) -> Option<Mono> {
        self.queue.first().map(|(at, _)| *at)
    }

    pub(crate) fn pop_due(&mut self, now: Mono) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.queue.pop_first()?;
        self.deadlines.remove(&timer);
        Some(timer)
    }

    pub(crate) fn clear(&mut self) {
        self.deadlines.clear();
        self.queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_deadline_of_a_timer_counts() {
        let mut timers = Timers::default();
        let session = Timer::Session(Arc::from("g"), Arc::from("m"));
        timers.schedule(session.clone(), Mono(5));
        timers.schedule(Timer::OffsetExpiry, Mono(7));
        timers.schedule(session.clone(), Mono(9));
        assert_eq!(timers.pop_due(Mono(6)), None);
        assert_eq!(timers.next(), Some(Mono(7)));
        assert_eq!(timers.pop_due(Mono(9)), Some(Timer::OffsetExpiry));
        assert_eq!(timers.pop_due(Mono(9)), Some(session.clone()));
        timers.schedule(session.clone(), Mono(10));
        timers.cancel(&session);
        assert_eq!((timers.next(), timers.deadlines.len()), (None, 0));
    }
}
