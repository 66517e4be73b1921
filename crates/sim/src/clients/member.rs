//! A member of a consumer group: joins, syncs, reads from the committed offsets on, commits, heartbeats.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use strom_groups::{
    Heartbeat, JoinGroup, JoinGroupReply, JoinedMember, LeaveGroup, LeavingMember, MemberAssignment,
    OffsetCommit, OffsetCommitPartition, Protocol, Reply, SyncGroup, TopicPartition,
};
use strom_types::{ErrorCode, LeaderEpoch, Mono, Offset};

use super::{Caller, Keys, TIMEOUT};
use crate::env::Env;
use crate::history::Op;
use crate::message::{Answer, Ask, GroupAsk};

pub(crate) const GROUP: &str = "g";
pub(crate) const TOPIC: &str = "a";
const SESSION_MS: i32 = 900;
const REBALANCE_MS: i32 = 1500;
const BEAT_EVERY: Duration = Duration::from_millis(150);
const COMMIT_EVERY: Duration = Duration::from_millis(250);
/// JoinGroup and SyncGroup park.
const PARKED_MAX: Duration = Duration::from_millis(4000);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Phase {
    Out,
    Joining,
    /// With the assignments to hand in, of the leader.
    Joined(Vec<MemberAssignment>),
    Syncing,
    Synced,
    Finding,
    Reading,
}

/// A commit under way: the call, what it commits, since when.
type Committing = (u64, Vec<(i32, Offset)>, Mono);

pub(crate) struct Member {
    caller: Caller,
    keys: Keys,
    phase: Phase,
    member_id: String,
    generation: i32,
    suffix: u64,
    assigned: Vec<i32>,
    positions: BTreeMap<i32, Offset>,
    committed: BTreeMap<i32, Offset>,
    /// The one call that the phase waits for.
    asked: Option<(u64, Mono)>,
    fetching: Option<(u64, i32, Mono)>,
    beating: Option<(u64, Mono)>,
    committing: Option<Committing>,
    next_beat: Mono,
    next_commit: Mono,
    /// Leaves the group once nothing is being committed.
    must_rejoin: bool,
    pause_until: Mono,
    turn: usize,
}

impl Member {
    pub(crate) fn new(env: &mut Env, index: usize, gateways: usize, keys: &Keys) -> Self {
        Member {
            caller: Caller::new(env, index, gateways),
            keys: keys.clone(),
            phase: Phase::Out,
            member_id: String::new(),
            generation: -1,
            suffix: 0,
            assigned: Vec::new(),
            positions: BTreeMap::new(),
            committed: BTreeMap::new(),
            asked: None,
            fetching: None,
            beating: None,
            committing: None,
            next_beat: Mono(0),
            next_commit: Mono(0),
            must_rejoin: false,
            pause_until: Mono(0),
            turn: 0,
        }
    }

    pub(crate) fn generation(&self) -> Option<i32> {
        (self.phase == Phase::Reading).then_some(self.generation)
    }

    /// Partition and committed offset of what it reads.
    pub(crate) fn progress(&self) -> impl Iterator<Item = (i32, Offset)> + '_ {
        self.assigned
            .iter()
            .map(|partition| (*partition, self.committed.get(partition).copied().unwrap_or(0)))
    }

    pub(crate) fn describe(&self) -> String {
        format!(
            "\nmember {} {:?} {} generation {} assigned {:?} committed {:?} asked {:?} committing {:?}",
            self.caller.index,
            self.phase,
            self.member_id,
            self.generation,
            self.assigned,
            self.committed,
            self.asked,
            self.committing
        )
    }

    /// A process that ends without a word.
    pub(crate) fn crash(&mut self) {
        self.forget();
    }

    fn forget(&mut self) {
        self.member_id.clear();
        self.rejoin();
    }

    fn rejoin(&mut self) {
        self.phase = Phase::Out;
        self.asked = None;
        self.fetching = None;
        self.beating = None;
        self.committing = None;
        self.must_rejoin = false;
    }

    pub(super) fn wake(&mut self, env: &mut Env) {
        let now = env.mono(self.caller.addr());
        self.give_up_late(env, now);
        if now < self.pause_until || self.asked.is_some() {
            return;
        }
        match std::mem::replace(&mut self.phase, Phase::Out) {
            Phase::Out => self.join(env, now),
            Phase::Joined(assignments) => self.sync(env, now, assignments),
            Phase::Synced => self.find(env, now),
            Phase::Reading => {
                self.phase = Phase::Reading;
                self.read(env, now);
            }
            other => self.phase = other,
        }
    }

    fn give_up_late(&mut self, env: &mut Env, now: Mono) {
        let parked = matches!(self.phase, Phase::Joining | Phase::Syncing);
        let limit = if parked { PARKED_MAX } else { TIMEOUT };
        if self.asked.is_some_and(|(_, at)| now.since(at) > limit) {
            self.caller.reconnect(env);
            self.forget();
        }
        if self
            .committing
            .as_ref()
            .is_some_and(|(_, _, at)| now.since(*at) > TIMEOUT)
        {
            // It may still be written: only another member id, and with it another generation, makes sure of it.
            self.caller.reconnect(env);
            self.forget();
        }
        if self.fetching.is_some_and(|(_, _, at)| now.since(at) > TIMEOUT) {
            self.fetching = None;
            self.caller.reconnect(env);
        }
        if self.beating.is_some_and(|(_, at)| now.since(at) > TIMEOUT) {
            self.beating = None;
        }
    }

    fn ask(&mut self, env: &mut Env, ask: GroupAsk) -> u64 {
        let group = GROUP.to_owned();
        self.caller.ask(env, Ask::Group { group, ask })
    }

    fn join(&mut self, env: &mut Env, now: Mono) {
        self.suffix += 1;
        let name = format!("c{}", self.caller.index);
        let join = JoinGroup {
            group_id: GROUP.to_owned(),
            member_id: self.member_id.clone(),
            client_id: name,
            client_host: "/host".to_owned(),
            protocol_type: "consumer".to_owned(),
            protocols: vec![Protocol {
                name: "range".to_owned(),
                metadata: Bytes::new(),
            }],
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            require_known_member_id: true,
            supports_skipping_assignment: true,
            member_id_suffix: self.suffix.to_string(),
            ..JoinGroup::default()
        };
        self.phase = Phase::Joining;
        let call = self.ask(env, GroupAsk::Join(join));
        self.asked = Some((call, now));
    }

    fn sync(&mut self, env: &mut Env, now: Mono, assignments: Vec<MemberAssignment>) {
        let sync = SyncGroup {
            group_id: GROUP.to_owned(),
            member_id: self.member_id.clone(),
            generation: self.generation,
            protocol_type: Some("consumer".to_owned()),
            assignments,
            ..SyncGroup::default()
        };
        self.phase = Phase::Syncing;
        let call = self.ask(env, GroupAsk::Sync(sync));
        self.asked = Some((call, now));
    }

    fn find(&mut self, env: &mut Env, now: Mono) {
        let partitions = self.assigned.iter().map(|partition| TopicPartition {
            topic: TOPIC.to_owned(),
            partition: *partition,
        });
        let partitions = partitions.collect();
        self.phase = Phase::Finding;
        let call = self.ask(env, GroupAsk::Offsets(partitions));
        self.asked = Some((call, now));
        env.record(self.caller.index, Op::AskCommitted { asked: call });
    }

    fn read(&mut self, env: &mut Env, now: Mono) {
        if self.must_rejoin && self.committing.is_none() {
            return self.rejoin();
        }
        if self.beating.is_none() && now >= self.next_beat {
            self.next_beat = now + BEAT_EVERY;
            let heartbeat = Heartbeat {
                group_id: GROUP.to_owned(),
                member_id: self.member_id.clone(),
                generation: self.generation,
                ..Heartbeat::default()
            };
            let call = self.ask(env, GroupAsk::Heartbeat(heartbeat));
            self.beating = Some((call, now));
        }
        if self.committing.is_none() && now >= self.next_commit && !self.must_rejoin {
            self.next_commit = now + COMMIT_EVERY;
            self.commit(env, now);
        }
        if self.fetching.is_none() && !self.assigned.is_empty() && !self.must_rejoin {
            self.turn += 1;
            let partition = self
                .assigned
                .get(self.turn % self.assigned.len())
                .copied()
                .unwrap_or(0);
            let key = usize::try_from(partition)
                .ok()
                .and_then(|at| self.keys.get(at))
                .copied();
            if let Some(key) = key {
                let ask = Ask::Fetch {
                    key,
                    offset: self.positions.get(&partition).copied().unwrap_or(0),
                    epoch: None,
                    last_epoch: LeaderEpoch::NONE,
                };
                let call = self.caller.ask(env, ask);
                self.fetching = Some((call, partition, now));
            }
        }
    }

    fn commit(&mut self, env: &mut Env, now: Mono) {
        let news = self.positions.iter().filter(|(partition, position)| {
            self.committed
                .get(partition)
                .is_none_or(|committed| committed < position)
        });
        let news: Vec<(i32, Offset)> = news
            .map(|(partition, position)| (*partition, *position))
            .collect();
        if news.is_empty() {
            return;
        }
        let partition = |(partition, offset): &(i32, Offset)| OffsetCommitPartition {
            topic: TOPIC.to_owned(),
            topic_id: strom_types::TopicId::ZERO,
            partition: *partition,
            offset: *offset,
            leader_epoch: LeaderEpoch::NONE,
            metadata: String::new(),
        };
        for (partition, offset) in &news {
            let op = Op::Commit {
                group: GROUP.to_owned(),
                partition: *partition,
                offset: *offset,
            };
            env.record(self.caller.index, op);
        }
        let commit = OffsetCommit {
            group_id: GROUP.to_owned(),
            member_id: self.member_id.clone(),
            generation: self.generation,
            partitions: news.iter().map(partition).collect(),
            retention_ms: -1,
            ..OffsetCommit::default()
        };
        let call = self.ask(env, GroupAsk::Commit(commit));
        self.committing = Some((call, news, now));
    }

    /// Leaves in order.
    pub(crate) fn leave(&mut self, env: &mut Env) {
        if self.phase != Phase::Reading || self.committing.is_some() {
            return;
        }
        let leave = LeaveGroup {
            group_id: GROUP.to_owned(),
            members: vec![LeavingMember {
                member_id: self.member_id.clone(),
                ..LeavingMember::default()
            }],
        };
        self.ask(env, GroupAsk::Leave(leave));
        self.forget();
    }

    pub(super) fn take(&mut self, env: &mut Env, call: u64, answer: Answer) {
        if self.asked.take_if(|(asked, _)| *asked == call).is_some() {
            self.take_awaited(env, call, answer);
        } else if self.beating.take_if(|(asked, _)| *asked == call).is_some() {
            if let Answer::Group(Reply::Heartbeat(code)) = answer {
                self.obey(code);
            }
        } else if let Some((_, news, _)) = self.committing.take_if(|(asked, _, _)| *asked == call) {
            self.take_commit(env, news, &answer);
        } else if let Some((_, partition, _)) = self.fetching.take_if(|(asked, _, _)| *asked == call) {
            self.take_records(env, partition, answer);
        }
    }

    fn take_awaited(&mut self, env: &mut Env, call: u64, answer: Answer) {
        let now = env.mono(self.caller.addr());
        match (self.phase.clone(), answer) {
            (Phase::Joining, Answer::Group(Reply::JoinGroup(join))) => self.take_join(&join),
            (Phase::Syncing, Answer::Group(Reply::SyncGroup(sync))) if sync.error.is_none() => {
                self.assigned = sync
                    .assignment
                    .iter()
                    .map(|partition| i32::from(*partition))
                    .collect();
                self.phase = Phase::Synced;
            }
            (Phase::Syncing, Answer::Group(Reply::SyncGroup(sync))) => {
                self.phase = Phase::Out;
                if sync.error == ErrorCode::UnknownMemberId {
                    self.forget();
                }
            }
            (Phase::Finding, Answer::Offsets(found)) => self.take_offsets(env, call, &found),
            (Phase::Finding, _) => self.phase = Phase::Synced,
            // Whether the coordinator has it: come again under the same name.
            _ => self.phase = Phase::Out,
        }
        self.pause_until = now + Duration::from_millis(env.rng.range(5, 60));
        self.next_beat = now;
    }

    fn take_join(&mut self, join: &JoinGroupReply) {
        match join.error {
            ErrorCode::None => {
                self.member_id = join.member_id.to_string();
                self.generation = join.generation;
                self.phase = Phase::Joined(self.assign(&join.members));
            }
            ErrorCode::MemberIdRequired => {
                self.member_id = join.member_id.to_string();
                self.phase = Phase::Out;
            }
            ErrorCode::UnknownMemberId => self.forget(),
            _ => self.phase = Phase::Out,
        }
    }

    /// The leader deals the partitions out.
    fn assign(&self, members: &[JoinedMember]) -> Vec<MemberAssignment> {
        let dealt = |at: usize| -> Bytes {
            let own = (0..self.keys.len()).filter(|partition| partition % members.len().max(1) == at);
            own.filter_map(|partition| u8::try_from(partition).ok()).collect()
        };
        let one = |(at, member): (usize, &JoinedMember)| MemberAssignment {
            member_id: member.member_id.to_string(),
            assignment: dealt(at),
        };
        members.iter().enumerate().map(one).collect()
    }

    fn take_offsets(&mut self, env: &mut Env, asked: u64, found: &[(i32, Offset)]) {
        self.positions.clear();
        self.committed.clear();
        for (partition, offset) in found {
            let op = Op::FoundCommitted {
                asked,
                group: GROUP.to_owned(),
                partition: *partition,
                offset: *offset,
            };
            env.record(self.caller.index, op);
            let offset = (*offset).max(0);
            self.positions.insert(*partition, offset);
            self.committed.insert(*partition, offset);
            let key = usize::try_from(*partition)
                .ok()
                .and_then(|at| self.keys.get(at))
                .copied();
            if let Some(key) = key {
                env.record(self.caller.index, Op::Seek { key, offset });
            }
        }
        self.phase = Phase::Reading;
    }

    fn take_records(&mut self, env: &mut Env, partition: i32, answer: Answer) {
        let key = usize::try_from(partition)
            .ok()
            .and_then(|at| self.keys.get(at))
            .copied();
        if let (Answer::Fetched { from, entries, .. }, Some(key)) = (answer, key) {
            for (offset, entry) in (from..).zip(entries) {
                let id = entry.id;
                env.record(self.caller.index, Op::Poll { key, offset, id });
                self.positions.insert(partition, offset + 1);
            }
        }
    }

    fn take_commit(&mut self, env: &mut Env, news: Vec<(i32, Offset)>, answer: &Answer) {
        let codes = match answer {
            Answer::Group(Reply::OffsetCommit(codes)) => codes.as_slice(),
            _ => return self.forget(),
        };
        for ((partition, offset), code) in news.into_iter().zip(codes) {
            if code.is_none() {
                self.committed.insert(partition, offset);
                let op = Op::Committed {
                    group: GROUP.to_owned(),
                    partition,
                    offset,
                };
                env.record(self.caller.index, op);
            } else {
                self.obey(*code);
            }
        }
    }

    fn obey(&mut self, code: ErrorCode) {
        match code {
            ErrorCode::None => {}
            ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => self.must_rejoin = true,
            ErrorCode::UnknownMemberId => self.forget(),
            // Of a commit the outcome is unknown; of a heartbeat only that the coordinator is elsewhere.
            _ if self.phase == Phase::Reading && self.committing.is_none() => self.forget(),
            _ => {}
        }
    }
}
