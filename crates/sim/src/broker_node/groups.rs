//! The group coordinator of each led partition of `__consumer_offsets`: loads, serves, writes, ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use strom_groups::{
    AppendToken, Config, Coordinator as Core, Effect, Event as GroupEvent, Record, Reply, RequestId,
};
use strom_replication::{AckWait, Acks, AcksState, Event};
use strom_types::{
    ErrorCode, GROUP_METADATA_TOPIC, LeaderEpoch, Mono, Offset, TopicIdPartition, coordinator_partition,
};

use super::BrokerNode;
use super::partition::refuse;
use crate::disk::Entry;
use crate::env::Env;
use crate::message::{Addr, Answer, GroupAsk};

/// Before an append whose acknowledgement failed is looked at again.
const RETRY_PAUSE: Duration = Duration::from_millis(60);

pub(super) struct Coordinator {
    epoch: LeaderEpoch,
    /// What the log held when the leadership began.
    end: Offset,
    core: Option<Core>,
    in_flight: Vec<InFlight>,
    waiting: BTreeMap<RequestId, (Addr, u64)>,
    next_request: u64,
    retry_at: Mono,
}

struct InFlight {
    token: AppendToken,
    offset: Offset,
    id: u64,
}

fn config() -> Config {
    Config {
        group_min_session_timeout_ms: 100,
        group_initial_rebalance_delay_ms: 100,
        offsets_commit_timeout_ms: 700,
        ..Config::default()
    }
}

impl BrokerNode {
    pub(super) fn begin_coordinator(&mut self, key: TopicIdPartition, epoch: LeaderEpoch, end: Offset) {
        let Some(life) = &mut self.life else { return };
        let coordinator = Coordinator {
            epoch,
            end,
            core: None,
            in_flight: Vec::new(),
            waiting: BTreeMap::new(),
            next_request: 0,
            retry_at: Mono(0),
        };
        life.coordinators.insert(key, coordinator);
        life.stirred.insert(key);
    }

    pub(super) fn end_coordinator(&mut self, env: &mut Env, key: TopicIdPartition) {
        let addr = self.addr();
        let ended = self.life.as_mut().and_then(|life| life.coordinators.remove(&key));
        let Some(mut coordinator) = ended else { return };
        let mut effects = Vec::new();
        if let Some(core) = &mut coordinator.core {
            core.unload(&mut effects);
        }
        for effect in effects {
            if let Effect::Reply { request, reply } = effect {
                coordinator.reply(env, addr, request, reply);
            }
        }
    }

    pub(super) fn serve_group(&mut self, env: &mut Env, to: (Addr, u64), group: &str, ask: GroupAsk) {
        let addr = self.addr();
        let key = match self.coordinator_of(group) {
            Some(key)
                if self
                    .life
                    .as_ref()
                    .is_some_and(|life| life.coordinators.contains_key(&key)) =>
            {
                key
            }
            _ => return refuse(env, addr, to, ErrorCode::NotCoordinator),
        };
        let at = self.moment(env);
        let Some(life) = &mut self.life else { return };
        let Some(coordinator) = life.coordinators.get_mut(&key) else {
            return;
        };
        let Some(core) = &coordinator.core else {
            return refuse(env, addr, to, ErrorCode::CoordinatorLoadInProgress);
        };
        coordinator.next_request += 1;
        let request = RequestId(coordinator.next_request);
        let event = match ask {
            GroupAsk::Join(join) => GroupEvent::JoinGroup(request, join),
            GroupAsk::Sync(sync) => GroupEvent::SyncGroup(request, sync),
            GroupAsk::Heartbeat(heartbeat) => GroupEvent::Heartbeat(request, heartbeat),
            GroupAsk::Leave(leave) => GroupEvent::LeaveGroup(request, leave),
            GroupAsk::Commit(commit) => GroupEvent::OffsetCommit(request, commit),
            GroupAsk::Offsets(partitions) => {
                // A broker that is cut off does not know of later commits elsewhere.
                let replica = life.partitions.get(&key).map(|partition| &partition.replica);
                let admitted = replica.map(|replica| replica.admit_fetch(at, Some(coordinator.epoch)));
                if !matches!(admitted, Some(Ok(_))) {
                    return refuse(env, addr, to, ErrorCode::NotCoordinator);
                }
                let found = core.fetch_offsets(group, &partitions);
                let found = found.iter().map(|one| (one.partition, one.offset)).collect();
                self.check_lease(env);
                return env.answer(addr, to, Answer::Offsets(found));
            }
        };
        coordinator.waiting.insert(request, to);
        self.step_coordinator(env, key, event);
    }

    fn coordinator_of(&self, group: &str) -> Option<TopicIdPartition> {
        let topic = self.life.as_ref()?.image.topic_by_name(GROUP_METADATA_TOPIC)?;
        let partitions = i32::try_from(topic.partitions.len()).ok()?;
        Some(TopicIdPartition::new(
            topic.id,
            coordinator_partition(group, partitions),
        ))
    }

    fn step_coordinator(&mut self, env: &mut Env, key: TopicIdPartition, event: GroupEvent) {
        let addr = self.addr();
        let (now, wall) = (env.mono(addr), env.wall(addr));
        let mut effects = Vec::new();
        let coordinator = self
            .life
            .as_mut()
            .and_then(|life| life.coordinators.get_mut(&key));
        let Some(core) = coordinator.and_then(|coordinator| coordinator.core.as_mut()) else {
            return;
        };
        core.step(now, wall, event, &mut effects);
        self.carry_out_group(env, key, effects);
    }

    fn carry_out_group(&mut self, env: &mut Env, key: TopicIdPartition, effects: Vec<Effect>) {
        let addr = self.addr();
        for effect in effects {
            let coordinator = self
                .life
                .as_mut()
                .and_then(|life| life.coordinators.get_mut(&key));
            let Some(coordinator) = coordinator else { return };
            match effect {
                Effect::Reply { request, reply } => coordinator.reply(env, addr, request, reply),
                Effect::Append { token, records } => self.append_own(env, key, token, records),
                Effect::Transition {
                    group,
                    from,
                    to,
                    generation,
                    reason,
                } => env.trace.line(
                    env.now,
                    format_args!("group {group}: {from} to {to}, generation {generation}: {reason}"),
                ),
            }
        }
    }

    fn append_own(
        &mut self,
        env: &mut Env,
        key: TopicIdPartition,
        token: AppendToken,
        records: Arc<[Record]>,
    ) {
        let at = self.moment(env);
        let id = env.number();
        let Some(life) = &mut self.life else { return };
        let (Some(coordinator), Some(partition), Some(log)) = (
            life.coordinators.get_mut(&key),
            life.partitions.get_mut(&key),
            self.disk.logs.get_mut(&key),
        ) else {
            return;
        };
        match partition
            .replica
            .admit_produce(at, Acks::All, Some(coordinator.epoch))
        {
            Err(error) => self.step_coordinator(env, key, GroupEvent::AppendFailed { token, error }),
            Ok(epoch) => {
                let offset = log.end();
                log.append(Entry {
                    epoch,
                    id,
                    producer: None,
                    group: Some(records),
                });
                coordinator.in_flight.push(InFlight { token, offset, id });
                self.step(env, key, Event::LogAdvanced);
                self.begin_flush(env, key);
            }
        }
    }

    /// Lets coordinators see what has become of their appends, and with `all` the time that has passed.
    pub(super) fn run_coordinators(&mut self, env: &mut Env, all: bool) {
        let Some(life) = &mut self.life else { return };
        let stirred = std::mem::take(&mut life.stirred);
        let keys: Vec<_> = life.coordinators.keys().copied().collect();
        for key in keys {
            if all || stirred.contains(&key) {
                self.load_coordinator(env, key);
                self.settle_appends(env, key);
            }
            if all {
                self.tick_coordinator(env, key);
            }
        }
    }

    fn tick_coordinator(&mut self, env: &mut Env, key: TopicIdPartition) {
        let now = env.mono(self.addr());
        let coordinator = self.life.as_ref().and_then(|life| life.coordinators.get(&key));
        let due = coordinator
            .and_then(|coordinator| coordinator.core.as_ref())
            .and_then(Core::next_deadline);
        if due.is_some_and(|due| due <= now) {
            self.step_coordinator(env, key, GroupEvent::Tick);
        }
    }

    /// Loads once everything that the log held when the leadership began is committed.
    fn load_coordinator(&mut self, env: &mut Env, key: TopicIdPartition) {
        let (at, addr) = (self.moment(env), self.addr());
        let Some(life) = &mut self.life else { return };
        let (Some(coordinator), Some(partition), Some(log)) = (
            life.coordinators.get_mut(&key),
            life.partitions.get(&key),
            self.disk.logs.get(&key),
        ) else {
            return;
        };
        if coordinator.core.is_some() {
            return;
        }
        match partition.replica.admit_fetch(at, Some(coordinator.epoch)) {
            Ok(bounds) if bounds.high_watermark >= coordinator.end => {}
            _ => return,
        }
        let mut core = Core::new(config());
        for offset in log.start()..coordinator.end {
            let records = log.get(offset).and_then(|entry| entry.group.clone());
            for record in records.iter().flat_map(|records| records.iter()) {
                core.replay(record);
            }
        }
        let mut effects = Vec::new();
        core.loaded(at.now, env.wall(addr), &mut effects);
        coordinator.core = Some(core);
        self.carry_out_group(env, key, effects);
    }

    fn settle_appends(&mut self, env: &mut Env, key: TopicIdPartition) {
        let (at, id) = (self.moment(env), self.id());
        let Some(life) = &mut self.life else { return };
        let (Some(coordinator), Some(partition)) =
            (life.coordinators.get_mut(&key), life.partitions.get(&key))
        else {
            return;
        };
        if at.now < coordinator.retry_at {
            return;
        }
        let mut done = Vec::new();
        for append in std::mem::take(&mut coordinator.in_flight) {
            let wait = AckWait {
                acks: Acks::All,
                leader_epoch: coordinator.epoch,
                last_offset: append.offset,
            };
            match partition.replica.acks_state(at, &wait) {
                AcksState::Done => {
                    let verdict = env.judge.facts(key).acknowledge(append.offset, append.id);
                    env.judge
                        .take(format_args!("coordinator on {id}, {key}"), verdict);
                    done.push(append.token);
                }
                AcksState::Failed(_) => {
                    // It may be committed yet: a lease may be back, the ISR large enough again.
                    coordinator.retry_at = at.now + RETRY_PAUSE;
                    coordinator.in_flight.push(append);
                }
                AcksState::Pending => coordinator.in_flight.push(append),
            }
        }
        for token in done {
            self.step_coordinator(env, key, GroupEvent::Appended { token });
        }
    }
}

impl Coordinator {
    fn reply(&mut self, env: &mut Env, from: Addr, request: RequestId, reply: Reply) {
        if let Some(to) = self.waiting.remove(&request) {
            env.answer(from, to, Answer::Group(reply));
        }
    }
}
