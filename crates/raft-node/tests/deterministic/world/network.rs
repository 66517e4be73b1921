//! Packets on their way, and the outbox that sorts a driver's output into them.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use strom_proto::v1::RaftEnvelope;
use strom_raft_node::transport::Unsent;
use strom_raft_node::{
    IncomingSnapshot, Outbox, OutgoingSnapshot, ProposalId, ProposeError, RaftId, ReadError, ReadId,
};

use super::oracle::Oracle;

pub(crate) enum Packet {
    Envelope(RaftEnvelope),
    Snapshot(IncomingSnapshot),
    /// To the sender: the snapshot for `to` did not arrive.
    SnapshotLost {
        to: RaftId,
    },
}

#[derive(Default)]
pub(crate) struct Mailroom {
    next: u64,
    posted: BTreeMap<(u64, u64), (usize, Packet)>,
}

impl Mailroom {
    pub(crate) fn post(&mut self, due: u64, to: usize, packet: Packet) {
        self.next += 1;
        self.posted.insert((due, self.next), (to, packet));
    }

    pub(crate) fn due(&mut self, now: u64) -> Vec<(usize, Packet)> {
        let later = self.posted.split_off(&(now + 1, 0));
        std::mem::replace(&mut self.posted, later).into_values().collect()
    }
}

pub(crate) struct Sorter {
    at: usize,
    oracle: Arc<Mutex<Oracle>>,
    packets: Vec<(usize, Packet)>,
    reads: Vec<(ReadId, u64)>,
}

impl Sorter {
    pub(crate) fn new(at: usize, oracle: Arc<Mutex<Oracle>>) -> Self {
        Sorter {
            at,
            oracle,
            packets: Vec::new(),
            reads: Vec::new(),
        }
    }

    pub(crate) fn take_reads(&mut self) -> Vec<(ReadId, u64)> {
        std::mem::take(&mut self.reads)
    }

    pub(crate) fn into_packets(self) -> Vec<(usize, Packet)> {
        self.packets
    }
}

fn place(id: RaftId) -> usize {
    usize::try_from(id.get() - 1).unwrap()
}

impl Outbox for Sorter {
    fn send(&mut self, to: RaftId, envelope: RaftEnvelope) -> Result<(), Unsent> {
        self.packets.push((place(to), Packet::Envelope(envelope)));
        Ok(())
    }

    fn send_snapshot(&mut self, snapshot: OutgoingSnapshot) {
        let mut chunks = Vec::new();
        while let Some(chunk) = snapshot
            .source
            .chunk(u32::try_from(chunks.len()).unwrap())
            .unwrap()
        {
            chunks.push(chunk);
        }
        let incoming = IncomingSnapshot {
            envelope: snapshot.envelope,
            chunks,
        };
        self.packets
            .push((place(snapshot.to), Packet::Snapshot(incoming)));
    }

    fn proposed(&mut self, id: ProposalId, outcome: Result<u64, ProposeError>) {
        self.oracle.lock().outcome(self.at, id, &outcome);
    }

    fn read_ready(&mut self, id: ReadId, outcome: Result<u64, ReadError>) {
        if let Ok(index) = outcome {
            self.reads.push((id, index));
        }
    }
}
