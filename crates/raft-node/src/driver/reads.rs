//! Linearizable reads by raft's ReadIndex, which may drop a request without a word: asked again until a deadline.

use std::collections::{BTreeMap, VecDeque};

use raft::{RawNode, ReadState, Storage};

use crate::driver::Setup;
use crate::driver::outbox::Outbox;
use crate::handle::ReadError;
use crate::identity::RaftId;

/// Names a read between [`crate::Driver::read_index`] and its outcome.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReadId(pub u64);

#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: ReadId,
    deadline: u64,
}

#[derive(Debug)]
struct Flight {
    asked: u64,
    reads: Vec<Waiting>,
}

/// Reads that were asked for together share one request; its context is unique over members and restarts.
#[derive(Debug)]
pub(super) struct Reads {
    member: RaftId,
    incarnation: u64,
    retry_ticks: u64,
    ticks_max: u64,
    pending_max: usize,
    next_id: u64,
    next_flight: u64,
    pending: usize,
    queued: Vec<Waiting>,
    /// Something was queued, or time has passed, since raft was last asked.
    untried: bool,
    flights: BTreeMap<u64, Flight>,
    /// Confirmed at this index, waiting until it is applied.
    confirmed: BTreeMap<u64, Vec<Waiting>>,
    expired: VecDeque<ReadId>,
    now: u64,
}

impl Reads {
    pub(super) fn new(member: RaftId, setup: &Setup) -> Self {
        Reads {
            member,
            incarnation: setup.incarnation,
            retry_ticks: setup.tuning.read_retry_ticks,
            ticks_max: setup.tuning.read_ticks_max,
            pending_max: setup.tuning.reads_pending_max,
            next_id: 0,
            next_flight: 0,
            pending: 0,
            queued: Vec::new(),
            untried: false,
            flights: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            expired: VecDeque::new(),
            now: 0,
        }
    }

    pub(super) fn ask(&mut self, now: u64) -> Result<ReadId, ReadError> {
        if self.pending >= self.pending_max {
            return Err(ReadError::Overloaded);
        }
        let id = ReadId(self.next_id);
        self.next_id += 1;
        self.pending += 1;
        self.untried = true;
        self.queued.push(Waiting {
            id,
            deadline: now + self.ticks_max,
        });
        Ok(id)
    }

    pub(super) fn tick(&mut self, now: u64) {
        self.now = now;
        let late: Vec<u64> = self
            .flights
            .iter()
            .filter(|(_, flight)| flight.asked + self.retry_ticks <= now)
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            if let Some(flight) = self.flights.remove(&number) {
                self.queued.extend(flight.reads);
            }
        }
        let (alive, dead): (Vec<Waiting>, Vec<Waiting>) = std::mem::take(&mut self.queued)
            .into_iter()
            .partition(|read| read.deadline > now);
        self.queued = alive;
        self.untried = !self.queued.is_empty();
        self.expired.extend(dead.into_iter().map(|read| read.id));
    }

    /// Has something to do in a turn that raft-rs does not know of.
    pub(super) fn is_restless(&self, applied: u64) -> bool {
        self.untried
            || !self.expired.is_empty()
            || self
                .confirmed
                .first_key_value()
                .is_some_and(|(index, _)| *index <= applied)
    }

    /// Hands the queued reads to raft. When it drops the request (a leader that has not committed in its term yet, a
    /// follower without a leader), they stay queued.
    pub(super) fn issue<T: Storage>(&mut self, raw: &mut RawNode<T>) {
        self.untried = false;
        if self.queued.is_empty() || raw.raft.leader_id == raft::INVALID_ID {
            return;
        }
        let number = self.next_flight;
        let before = (
            raw.raft.pending_read_count(),
            raw.raft.ready_read_count(),
            raw.raft.msgs.len(),
        );
        raw.read_index(self.context(number));
        let after = (
            raw.raft.pending_read_count(),
            raw.raft.ready_read_count(),
            raw.raft.msgs.len(),
        );
        if before == after {
            return;
        }
        self.next_flight += 1;
        self.flights.insert(
            number,
            Flight {
                asked: self.now,
                reads: std::mem::take(&mut self.queued),
            },
        );
    }

    fn context(&self, number: u64) -> Vec<u8> {
        [self.member.get(), self.incarnation, number]
            .iter()
            .flat_map(|part| part.to_be_bytes())
            .collect()
    }

    pub(super) fn confirm(&mut self, states: Vec<ReadState>) {
        for state in states {
            let Some((prefix, number)) = state.request_ctx.split_last_chunk::<8>() else {
                continue;
            };
            let number = u64::from_be_bytes(*number);
            if *prefix != *self.context(number).split_at(16).0 {
                continue;
            }
            if let Some(flight) = self.flights.remove(&number) {
                self.confirmed
                    .entry(state.index)
                    .or_default()
                    .extend(flight.reads);
            }
        }
    }

    /// Answers what is due.
    pub(super) fn serve(&mut self, applied: u64, out: &mut impl Outbox) {
        while let Some(first) = self.confirmed.first_entry()
            && *first.key() <= applied
        {
            let (index, reads) = first.remove_entry();
            for read in reads {
                self.pending -= 1;
                out.read_ready(read.id, Ok(index));
            }
        }
        for id in std::mem::take(&mut self.expired) {
            self.pending -= 1;
            out.read_ready(id, Err(ReadError::Unavailable));
        }
    }

    pub(super) fn abandon(&mut self, out: &mut impl Outbox) {
        let flying = std::mem::take(&mut self.flights)
            .into_values()
            .flat_map(|flight| flight.reads);
        let confirmed = std::mem::take(&mut self.confirmed).into_values().flatten();
        let queued = std::mem::take(&mut self.queued);
        let waiting = flying.chain(confirmed).chain(queued).map(|read| read.id);
        for id in waiting.chain(std::mem::take(&mut self.expired)) {
            out.read_ready(id, Err(ReadError::ShuttingDown));
        }
        self.pending = 0;
    }
}
