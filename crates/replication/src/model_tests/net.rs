//! The toy network: delay, reordering, loss, cut links; and the messages on it.

use strom_types::{BrokerEpoch, BrokerId, Mono};

use super::controller::AlterRequest;
use super::rng::Rng;
use crate::toy_log::ToyRecord;
use crate::{AlterPartitionResult, FetchReply, FollowerFetch};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Peer {
    Broker(BrokerId),
    Controller,
}

pub(super) enum Message {
    Fetch(FollowerFetch),
    Reply(FetchReply, Vec<ToyRecord>),
    Alter(AlterRequest),
    Altered(AlterPartitionResult),
    Heartbeat {
        life: BrokerEpoch,
        sent_at: Mono,
        applied: usize,
    },
    HeartbeatAck {
        sent_at: Mono,
        renewed: bool,
    },
    /// STALE_BROKER_EPOCH: the process exits at once.
    Dead,
}

pub(super) struct Envelope {
    pub(super) due: Mono,
    pub(super) from: Peer,
    pub(super) to: Peer,
    /// The receiver's life when it was sent: a connection dies with the process.
    pub(super) to_life: BrokerEpoch,
    pub(super) message: Message,
}

pub(super) struct Net {
    pub(super) queue: Vec<Envelope>,
    pub(super) cuts: Vec<(Peer, Peer)>,
    pub(super) lossy: bool,
}

pub(super) const MS: u64 = 1_000_000;

impl Net {
    pub(super) fn new() -> Self {
        Net {
            queue: vec![],
            cuts: vec![],
            lossy: true,
        }
    }

    pub(super) fn send(&mut self, rng: &mut Rng, now: Mono, mut envelope: Envelope) {
        if self.cuts.contains(&(envelope.from, envelope.to)) || (self.lossy && rng.one_in(20)) {
            return;
        }
        let delay = if self.lossy && rng.one_in(8) {
            rng.range(30, 300)
        } else {
            rng.range(1, 10)
        };
        envelope.due = Mono(now.0 + delay * MS);
        self.queue.push(envelope);
    }

    /// What has arrived by now, in order of arrival.
    pub(super) fn take_due(&mut self, now: Mono) -> Vec<Envelope> {
        let mut due: Vec<_> = self
            .queue
            .extract_if(.., |envelope| envelope.due <= now)
            .collect();
        due.sort_by_key(|envelope| envelope.due);
        due
    }
}
