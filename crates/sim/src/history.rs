//! What the clients saw: the history that the checker judges.

use strom_types::{LeaderEpoch, Offset, TopicIdPartition};

/// One thing a client did or was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A value is on its way. `ordered` = by an idempotent producer, which neither doubles nor reorders.
    Send {
        key: TopicIdPartition,
        id: u64,
        ordered: bool,
        /// Acknowledged only when committed.
        all: bool,
    },
    Acked {
        key: TopicIdPartition,
        id: u64,
        offset: Offset,
    },
    /// A definite error: surely not written.
    Refused {
        key: TopicIdPartition,
        id: u64,
    },
    /// Never told: it may be written.
    Unknown {
        key: TopicIdPartition,
        id: u64,
    },
    /// An idempotent producer was told what ends it.
    Broken {
        key: TopicIdPartition,
        id: u64,
        why: String,
    },
    /// A consumer reads on from here: by assignment, or since the log begins later.
    Seek {
        key: TopicIdPartition,
        offset: Offset,
    },
    Poll {
        key: TopicIdPartition,
        offset: Offset,
        id: u64,
    },
    /// A consumer was told that its log and the broker's part, or that its position is past the end.
    LostPosition {
        key: TopicIdPartition,
        offset: Offset,
    },
    /// ListOffsets(latest).
    Latest {
        key: TopicIdPartition,
        epoch: LeaderEpoch,
        offset: Offset,
    },
    /// A group member's commit was acknowledged.
    Committed {
        group: String,
        partition: i32,
        offset: Offset,
    },
    /// A commit was sent.
    Commit {
        group: String,
        partition: i32,
        offset: Offset,
    },
    /// A group member asks for the committed offset; `asked` pairs it with the answer.
    AskCommitted {
        asked: u64,
    },
    FoundCommitted {
        asked: u64,
        group: String,
        partition: i32,
        offset: Offset,
    },
    ProducerId(i64),
}

#[derive(Clone, Debug)]
pub struct Event {
    pub at: u64,
    pub client: usize,
    pub op: Op,
}

#[derive(Clone, Debug, Default)]
pub struct History {
    pub events: Vec<Event>,
    pub acked: u64,
    pub polled: u64,
    pub committed: u64,
}

impl History {
    pub fn push(&mut self, at: u64, client: usize, op: Op) {
        match op {
            Op::Acked { .. } => self.acked += 1,
            Op::Poll { .. } => self.polled += 1,
            Op::Committed { .. } => self.committed += 1,
            _ => {}
        }
        self.events.push(Event { at, client, op });
    }
}
