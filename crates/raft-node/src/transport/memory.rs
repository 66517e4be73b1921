//! Members in one process, with a network between them that drops, repeats, holds back and cuts off.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use strom_proto::v1::RaftEnvelope;

use crate::driver::IncomingSnapshot;
use crate::handle::RaftHandle;
use crate::identity::RaftId;
use crate::inbox::Reports;
use crate::snapshot::read_all;
use crate::transport::{Shipment, Transport, Unsent};

/// Chances in percent, drawn for every envelope.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub drop_percent: u64,
    pub repeat_percent: u64,
    /// Held back until a later envelope, whatever its target, is sent.
    pub delay_percent: u64,
}

#[derive(Default)]
struct Network {
    members: BTreeMap<RaftId, RaftHandle>,
    isolated: BTreeSet<RaftId>,
    faults: Faults,
    held: Vec<(RaftId, RaftEnvelope)>,
    random: u64,
}

/// The shared network; each member gets its own [`MemoryTransport`] of it.
#[derive(Clone, Default)]
pub struct MemoryNetwork(Arc<Mutex<Network>>);

impl MemoryNetwork {
    pub fn new(seed: u64) -> Self {
        let network = MemoryNetwork::default();
        network.0.lock().random = seed | 1;
        network
    }

    pub fn transport(&self, me: RaftId) -> Arc<MemoryTransport> {
        Arc::new(MemoryTransport {
            me,
            network: self.clone(),
            reports: Mutex::new(None),
        })
    }

    /// Connects (or, after a restart, reconnects) a member.
    pub fn connect(&self, id: RaftId, handle: RaftHandle) {
        self.0.lock().members.insert(id, handle);
    }

    pub fn disconnect(&self, id: RaftId) {
        self.0.lock().members.remove(&id);
    }

    pub fn isolate(&self, id: RaftId, isolated: bool) {
        let mut network = self.0.lock();
        if isolated {
            network.isolated.insert(id);
        } else {
            network.isolated.remove(&id);
        }
    }

    pub fn set_faults(&self, faults: Faults) {
        self.0.lock().faults = faults;
    }
}

impl Network {
    fn chance(&mut self, percent: u64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 100 < percent
    }

    fn reachable(&self, from: RaftId, to: RaftId) -> Option<&RaftHandle> {
        let cut = self.isolated.contains(&from) || self.isolated.contains(&to);
        self.members.get(&to).filter(|_| !cut)
    }

    fn deliver(&self, from: RaftId, to: RaftId, envelope: RaftEnvelope) {
        if let Some(member) = self.reachable(from, to) {
            // A full inbox drops it, as a socket would.
            let _ = member.step(envelope);
        }
    }
}

/// One member's end of a [`MemoryNetwork`].
pub struct MemoryTransport {
    me: RaftId,
    network: MemoryNetwork,
    reports: Mutex<Option<Reports>>,
}

impl Transport for MemoryTransport {
    fn attach(&self, reports: Reports) {
        *self.reports.lock() = Some(reports);
    }

    fn send(&self, to: RaftId, envelope: RaftEnvelope) -> Result<(), Unsent> {
        let mut network = self.network.0.lock();
        let faults = network.faults;
        if network.reachable(self.me, to).is_none() {
            return Err(Unsent);
        }
        for (to, held) in std::mem::take(&mut network.held) {
            if let Some(from) = RaftId::from_raft(held.from) {
                network.deliver(from, to, held);
            }
        }
        if network.chance(faults.drop_percent) {
            return Ok(());
        }
        if network.chance(faults.repeat_percent) {
            network.deliver(self.me, to, envelope.clone());
        }
        if network.chance(faults.delay_percent) {
            network.held.push((to, envelope));
        } else {
            network.deliver(self.me, to, envelope);
        }
        Ok(())
    }

    fn send_snapshot(&self, shipment: Shipment) {
        let snapshot = &shipment.snapshot;
        let Ok(chunks) = read_all(snapshot.source.as_ref()) else {
            return;
        };
        let member = self.network.0.lock().reachable(self.me, snapshot.to).cloned();
        let incoming = IncomingSnapshot {
            envelope: snapshot.envelope.clone(),
            chunks,
        };
        if member.is_some_and(|member| member.install_snapshot(incoming).is_ok()) {
            shipment.delivered();
        }
    }
}
