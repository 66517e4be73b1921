//! What a peer's message must satisfy before raft-rs sees it: raft-rs panics on several that it trusts.

use raft::eraftpb::{ConfState, EntryType, Message, MessageType};

/// Why something from a peer was dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Garbage {
    OtherCluster,
    NotForMe,
    ForMyFormerStorage,
    UnknownSender,
    NoStorage,
    OtherStorage,
    OtherVoters,
    RefusedByPeer,
    NotIntroduced,
    Undecodable,
    LocalType,
    WrongSender,
    NoTerm,
    TermJump,
    OtherLeader,
    BadEntries,
    MembershipEntry,
    CommitOutOfRange,
    IndexOutOfRange,
    BadRead,
    BadSnapshot,
    SnapshotWithoutChunks,
}

impl Garbage {
    /// As a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Garbage::OtherCluster => "other_cluster",
            Garbage::NotForMe => "not_for_me",
            Garbage::ForMyFormerStorage => "for_my_former_storage",
            Garbage::UnknownSender => "unknown_sender",
            Garbage::NoStorage => "no_storage",
            Garbage::OtherStorage => "other_storage",
            Garbage::OtherVoters => "other_voters",
            Garbage::RefusedByPeer => "refused_by_peer",
            Garbage::NotIntroduced => "not_introduced",
            Garbage::Undecodable => "undecodable",
            Garbage::LocalType => "local_type",
            Garbage::WrongSender => "wrong_sender",
            Garbage::NoTerm => "no_term",
            Garbage::TermJump => "term_jump",
            Garbage::OtherLeader => "other_leader",
            Garbage::BadEntries => "bad_entries",
            Garbage::MembershipEntry => "membership_entry",
            Garbage::CommitOutOfRange => "commit_out_of_range",
            Garbage::IndexOutOfRange => "index_out_of_range",
            Garbage::BadRead => "bad_read",
            Garbage::BadSnapshot => "bad_snapshot",
            Garbage::SnapshotWithoutChunks => "snapshot_without_chunks",
        }
    }
}

/// What the checks compare with.
#[derive(Debug)]
pub struct View {
    pub me: u64,
    /// The member the envelope came from.
    pub peer: u64,
    pub term: u64,
    pub leader: u64,
    pub is_leader: bool,
    pub committed: u64,
    pub last_index: u64,
    /// Given when the message is a snapshot.
    pub conf_state: Option<ConfState>,
}

/// A term may be this far above ours: 16 million elections that we missed.
const TERM_JUMP_MAX: u64 = 1 << 24;
/// No log gets here; keeps every sum of an index far from overflow.
const INDEX_MAX: u64 = 1 << 56;
const CONTEXT_BYTES_MAX: usize = 256;

fn ensure(holds: bool, garbage: Garbage) -> Result<(), Garbage> {
    if holds { Ok(()) } else { Err(garbage) }
}

/// Passes only messages that raft-rs handles without a panic whatever else they say.
pub fn check(message: &Message, view: &View) -> Result<(), Garbage> {
    use MessageType as T;
    ensure(
        message.from == view.peer && message.from != view.me,
        Garbage::WrongSender,
    )?;
    ensure(message.to == view.me, Garbage::NotForMe)?;
    let kind = message.get_msg_type();
    let known = matches!(
        kind,
        T::MsgAppend
            | T::MsgAppendResponse
            | T::MsgRequestVote
            | T::MsgRequestVoteResponse
            | T::MsgRequestPreVote
            | T::MsgRequestPreVoteResponse
            | T::MsgSnapshot
            | T::MsgHeartbeat
            | T::MsgHeartbeatResponse
            | T::MsgTimeoutNow
            | T::MsgReadIndex
            | T::MsgReadIndexResp
    );
    ensure(known, Garbage::LocalType)?;
    if kind == T::MsgReadIndex {
        // The only one that travels without a term.
        ensure(message.term == 0, Garbage::BadRead)?;
    } else {
        ensure(message.term != 0, Garbage::NoTerm)?;
        ensure(
            message.term <= view.term.saturating_add(TERM_JUMP_MAX),
            Garbage::TermJump,
        )?;
    }
    for index in [
        message.index,
        message.commit,
        message.reject_hint,
        message.log_term,
        message.commit_term,
    ] {
        ensure(index < INDEX_MAX, Garbage::IndexOutOfRange)?;
    }
    ensure(message.context.len() <= CONTEXT_BYTES_MAX, Garbage::Undecodable)?;
    ensure(message.request_snapshot == 0, Garbage::IndexOutOfRange)?;
    match kind {
        T::MsgAppend => {
            from_leader(message, view)?;
            entries(message)
        }
        T::MsgHeartbeat => {
            from_leader(message, view)?;
            ensure(message.commit <= view.last_index, Garbage::CommitOutOfRange)
        }
        T::MsgSnapshot => {
            from_leader(message, view)?;
            snapshot(message, view)
        }
        T::MsgTimeoutNow => from_leader(message, view),
        T::MsgAppendResponse if message.reject => Ok(()),
        T::MsgAppendResponse => ensure(message.index <= view.last_index, Garbage::IndexOutOfRange),
        T::MsgReadIndex | T::MsgReadIndexResp => read(message),
        _ => Ok(()),
    }
}

/// One leader a term: not us, and not another than the one we follow.
fn from_leader(message: &Message, view: &View) -> Result<(), Garbage> {
    let rival = message.term == view.term
        && (view.is_leader || (view.leader != raft::INVALID_ID && view.leader != message.from));
    ensure(!rival, Garbage::OtherLeader)
}

/// Entries follow `index` without a hole, their terms rise up to the message's.
fn entries(message: &Message) -> Result<(), Garbage> {
    // Every log begins with the bootstrap entry. raft-rs takes term 0 for "past the end", which a zero would match.
    ensure(message.index > 0 && message.log_term > 0, Garbage::BadEntries)?;
    let mut index = message.index;
    let mut term = message.log_term;
    for entry in message.get_entries() {
        ensure(
            entry.index == index + 1 && entry.index < INDEX_MAX,
            Garbage::BadEntries,
        )?;
        ensure(
            entry.term >= term && entry.term <= message.term && entry.term > 0,
            Garbage::BadEntries,
        )?;
        ensure(
            entry.get_entry_type() == EntryType::EntryNormal,
            Garbage::MembershipEntry,
        )?;
        index = entry.index;
        term = entry.term;
    }
    Ok(())
}

fn read(message: &Message) -> Result<(), Garbage> {
    let [entry] = message.get_entries() else {
        return Err(Garbage::BadRead);
    };
    ensure(entry.data.len() <= CONTEXT_BYTES_MAX, Garbage::BadRead)
}

fn snapshot(message: &Message, view: &View) -> Result<(), Garbage> {
    let metadata = message.get_snapshot().get_metadata();
    ensure(
        metadata.index > 0 && metadata.index < INDEX_MAX,
        Garbage::BadSnapshot,
    )?;
    ensure(
        metadata.term > 0 && metadata.term <= message.term,
        Garbage::BadSnapshot,
    )?;
    ensure(message.get_snapshot().data.is_empty(), Garbage::BadSnapshot)?;
    // Membership cannot change yet, so a snapshot's membership is ours.
    let same = view
        .conf_state
        .as_ref()
        .is_some_and(|own| same_members(own, metadata.get_conf_state()));
    ensure(same, Garbage::BadSnapshot)
}

fn same_members(a: &ConfState, b: &ConfState) -> bool {
    let sorted = |ids: &[u64]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    sorted(&a.voters) == sorted(&b.voters)
        && sorted(&a.learners) == sorted(&b.learners)
        && b.voters_outgoing.is_empty()
        && b.learners_next.is_empty()
}
