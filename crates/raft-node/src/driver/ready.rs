//! One turn: takes raft's Ready through the only safe order of sending, writing and applying.
//!
//! 1. A leader's messages leave: their entries count only what *others* have fsynced.
//! 2. Snapshot, entries and hard state are written as one batch, synced if raft says so.
//! 3. Messages that vouch for that write leave.
//! 4. Committed entries are applied.
//! 5. `advance`; then the LightReady's commit, messages and entries likewise.
//!
//! The types [`Unwritten`] and [`Written`] leave no other order: a message of step 3 can only be had from a completed
//! write.

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, Message, MessageType, Snapshot};
use raft::{LightReady, RawNode, ReadState, Ready, StateRole};

use strom_proto::v1::RaftEnvelope;

use super::{Driver, DriverError};
use crate::driver::outbox::{Outbox, OutgoingSnapshot};
use crate::identity::RaftId;
use crate::snapshot::SnapshotMeta;
use crate::state_machine::StateMachine;
use crate::store::{Store, StoreError, Transaction};
use crate::transport::encode;

/// An envelope is closed once it holds this much; one message more may still be in it.
const ENVELOPE_BYTES: usize = 1 << 20;

/// A Ready whose write has not been made.
#[must_use = "a Ready that is not written and advanced leaves raft stuck"]
struct Unwritten(Ready);

/// A Ready that is on disk.
#[must_use = "a Ready that is not advanced leaves raft stuck"]
struct Written(Ready);

impl Unwritten {
    /// The turn's first half: what may leave before our own write.
    fn begin<St: Store>(raw: &mut RawNode<St>) -> (Vec<Message>, Unwritten) {
        let mut ready = raw.ready();
        (ready.take_messages(), Unwritten(ready))
    }

    fn snapshot(&self) -> Option<&Snapshot> {
        Some(self.0.snapshot()).filter(|snapshot| !snapshot.is_empty())
    }

    fn write<St: Store>(
        mut self,
        store: &mut St,
        installed: Option<(SnapshotMeta, raft::eraftpb::ConfState)>,
    ) -> Result<Written, StoreError> {
        let mut transaction = Transaction::new();
        if let Some((meta, conf_state)) = installed {
            transaction = transaction.install_snapshot(meta, conf_state);
        }
        let transaction = transaction
            .append(self.0.take_entries())
            .hard_state(self.0.hs().cloned())
            .synced(self.0.must_sync());
        if !transaction.is_empty() {
            store.commit(transaction)?;
        }
        Ok(Written(self.0))
    }
}

impl Written {
    fn take_persisted_messages(&mut self) -> Vec<Message> {
        self.0.take_persisted_messages()
    }

    fn take_read_states(&mut self) -> Vec<ReadState> {
        self.0.take_read_states()
    }

    fn take_committed(&mut self) -> Vec<Entry> {
        self.0.take_committed_entries()
    }

    fn advance<St: Store>(self, raw: &mut RawNode<St>) -> LightReady {
        raw.advance(self.0)
    }
}

impl<S: StateMachine, St: Store> Driver<S, St> {
    /// Whether a turn has something to do now.
    pub fn has_ready(&self) -> bool {
        !self.mail.is_empty()
            || self.reads.is_restless(self.applied)
            || (self.introductions.done() && (self.raw.has_ready() || self.snapshot_due()))
    }

    /// Runs one turn. An error ends the node: nothing may be sent or applied after a failed write.
    pub fn on_ready(&mut self, out: &mut impl Outbox) -> Result<(), DriverError> {
        let mut unsent = Vec::new();
        for (to, envelope) in std::mem::take(&mut self.mail) {
            // Greetings are repeated anyway.
            let _ = out.send(to, envelope);
        }
        self.reads.issue(&mut self.raw);
        if self.introductions.done() && self.raw.has_ready() {
            self.turn(out, &mut unsent)?;
        }
        self.incoming = None;
        for peer in unsent {
            self.report_unreachable(peer);
        }
        let leads = self.raw.raft.state == StateRole::Leader;
        self.proposals.leading(leads, self.raw.raft.term, out);
        self.reads.serve(self.applied, out);
        if self.snapshot_due() {
            self.make_snapshot()?;
        }
        self.settle_timeout();
        Ok(())
    }

    fn turn(&mut self, out: &mut impl Outbox, unsent: &mut Vec<RaftId>) -> Result<(), DriverError> {
        let (messages, unwritten) = Unwritten::begin(&mut self.raw);
        self.send(messages, out, unsent);
        let installed = match unwritten.snapshot().cloned() {
            None => None,
            Some(snapshot) => Some(self.stage_incoming(&snapshot)?),
        };
        let restore = installed
            .as_ref()
            .map(|(meta, _, chunks)| (*meta, chunks.clone()));
        let switch = installed.map(|(meta, conf_state, _)| (meta, conf_state));
        let mut written = unwritten.write(self.raw.mut_store(), switch)?;
        if let Some((meta, chunks)) = restore {
            self.machine.restore(meta.index, chunks)?;
            self.applied = meta.index;
            self.applied_bytes = 0;
        }
        self.reads.confirm(written.take_read_states());
        let messages = written.take_persisted_messages();
        self.send(messages, out, unsent);
        self.apply(written.take_committed(), out)?;

        let mut light = written.advance(&mut self.raw);
        if light.commit_index().is_some() {
            // Not synced: a lost commit index is learned again, and applied entries replay from the snapshot.
            let hard_state = Some(self.raw.raft.hard_state());
            self.raw
                .mut_store()
                .commit(Transaction::new().hard_state(hard_state))?;
        }
        self.send(light.take_messages(), out, unsent);
        self.apply(light.take_committed_entries(), out)?;
        self.raw.advance_apply();
        Ok(())
    }

    fn send(&mut self, messages: Vec<Message>, out: &mut impl Outbox, unsent: &mut Vec<RaftId>) {
        let mut by_peer: Vec<(RaftId, Vec<Bytes>)> = Vec::new();
        for message in messages {
            let Some(to) = RaftId::from_raft(message.to) else {
                continue;
            };
            if message.get_msg_type() == MessageType::MsgSnapshot {
                self.send_snapshot(to, &message, out);
                continue;
            }
            let Some(bytes) = encode(&message) else { continue };
            match by_peer.iter_mut().rev().find(|(peer, _)| *peer == to) {
                Some((_, batch)) if batch.iter().map(Bytes::len).sum::<usize>() < ENVELOPE_BYTES => {
                    batch.push(bytes);
                }
                _ => by_peer.push((to, vec![bytes])),
            }
        }
        for (to, messages) in by_peer {
            let envelope = RaftEnvelope {
                messages,
                ..self.envelope(to)
            };
            if out.send(to, envelope).is_err() && !unsent.contains(&to) {
                unsent.push(to);
            }
        }
    }

    fn send_snapshot(&mut self, to: RaftId, message: &Message, out: &mut impl Outbox) {
        let mut envelope = self.envelope(to);
        envelope.messages = encode(message).into_iter().collect();
        if let Some(source) = self.raw.store().snapshot_source() {
            tracing::info!(node = %self.setup.node_id, ?to, index = source.meta().index, "sending a snapshot");
            out.send_snapshot(OutgoingSnapshot { to, envelope, source });
        }
    }

    fn stage_incoming(
        &mut self,
        snapshot: &Snapshot,
    ) -> Result<(SnapshotMeta, raft::eraftpb::ConfState, Vec<Bytes>), DriverError> {
        let metadata = snapshot.get_metadata();
        let chunks = match self.incoming.take() {
            Some((index, chunks)) if index == metadata.index => chunks,
            _ => return Err(DriverError::SnapshotLost(metadata.index)),
        };
        let meta = self
            .raw
            .mut_store()
            .stage_snapshot(metadata.index, metadata.term, &chunks)?;
        Ok((meta, metadata.get_conf_state().clone(), chunks))
    }

    fn apply(&mut self, entries: Vec<Entry>, out: &mut impl Outbox) -> Result<(), DriverError> {
        for entry in entries {
            // The place of membership changes: ConfChangeV2, learners first. Nobody proposes one yet.
            if entry.get_entry_type() != EntryType::EntryNormal {
                return Err(DriverError::MembershipChange(entry.index));
            }
            if !entry.data.is_empty() {
                self.machine.apply(entry.index, &entry.data);
            }
            self.applied = entry.index;
            self.applied_term = entry.term;
            self.applied_bytes += u64::try_from(entry.data.len()).unwrap_or(u64::MAX);
            self.proposals.applied(entry.index, entry.term, out);
        }
        Ok(())
    }

    fn snapshot_due(&self) -> bool {
        let last = self.raw.store().header().snapshot.map_or(0, |meta| meta.index);
        let tuning = &self.setup.tuning;
        let behind = self.applied.saturating_sub(last);
        behind > 0
            && (behind >= tuning.snapshot_every_entries || self.applied_bytes >= tuning.snapshot_every_bytes)
    }

    /// Chunks first, then pointer, cut of the log and a commit index that covers them as one synced batch.
    fn make_snapshot(&mut self) -> Result<(), DriverError> {
        let (index, term) = (self.applied, self.raw.raft.raft_log.term(self.applied)?);
        let chunks = self.machine.snapshot();
        let cut_index = index
            .saturating_sub(self.setup.tuning.keep_entries)
            .max(self.raw.store().first_index()? - 1);
        let cut = (cut_index, self.raw.store().term(cut_index)?);
        let hard_state = self.raw.raft.hard_state();
        let store = self.raw.mut_store();
        let meta = store.stage_snapshot(index, term, &chunks)?;
        store.commit(
            Transaction::new()
                .own_snapshot(meta, cut)
                .hard_state(Some(hard_state))
                .synced(true),
        )?;
        self.applied_bytes = 0;
        tracing::debug!(node = %self.setup.node_id, index, bytes = meta.bytes, cut = cut.0, "made a snapshot");
        Ok(())
    }
}
