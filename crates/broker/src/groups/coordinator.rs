//! The coordinator of one led partition of `__consumer_offsets`: a task that owns the pure core, from the start of the
//! leadership to its end.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use strom_groups::{Census, Config, Coordinator as Core, Effect, Event, GroupState, Reply, RequestId};
use strom_records::Compression;
use strom_types::{ErrorCode, LeaderEpoch, Mono};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::command::{Answer, Command};
use super::load::load;
use super::metrics::GroupMetrics;
use super::writer::{Outcome, Writer};
use crate::partition::Partition;

/// Commands taken together: their records share batches.
const COMMANDS_TOGETHER: usize = 256;
/// Counting walks over all groups, so what has changed shows in the metrics after this time.
const COUNT_AFTER: Duration = Duration::from_secs(1);

/// A leadership of a partition, and how to reach its coordinator.
pub(super) struct Leadership {
    pub(super) partition: Arc<Partition>,
    pub(super) epoch: LeaderEpoch,
    pub(super) commands: mpsc::Receiver<Command>,
    /// Cancelled when the leadership has ended.
    pub(super) stop: CancellationToken,
    pub(super) compression: Compression,
    pub(super) metrics: GroupMetrics,
}

/// Loads the coordinator and serves until the leadership ends.
pub(super) async fn run(leadership: Leadership, config: Config) {
    let Leadership {
        partition,
        epoch,
        mut commands,
        stop,
        compression,
        metrics,
    } = leadership;
    let mut deleted = Vec::new();
    let mut loading = pin!(load(partition.clone(), epoch, config));
    let core = loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            core = &mut loading => break core,
            command = commands.recv() => match command {
                Some(Command::TopicsDeleted(topics)) => deleted.extend(topics),
                Some(command) => command.refuse(ErrorCode::CoordinatorLoadInProgress),
                None => return,
            },
        }
    };
    let (writer, outcomes) = Writer::new(partition.clone(), epoch, compression);
    let mut coordinator = Coordinator {
        partition,
        epoch,
        core,
        writer,
        waiting: HashMap::new(),
        next_request: 0,
        effects: Vec::new(),
        metrics,
        counted: Census::default(),
        count_at: None,
    };
    coordinator.begin(deleted);
    coordinator.serve(commands, outcomes, stop).await;
}

struct Coordinator {
    partition: Arc<Partition>,
    epoch: LeaderEpoch,
    core: Core,
    writer: Writer,
    /// Bounded: the core answers each request once, a parked one at the latest when its rebalance ends.
    waiting: HashMap<RequestId, oneshot::Sender<Answer>>,
    next_request: u64,
    effects: Vec<Effect>,
    metrics: GroupMetrics,
    /// What the metrics hold of this coordinator.
    counted: Census,
    /// When to count anew: something has happened since.
    count_at: Option<Mono>,
}

impl Coordinator {
    fn begin(&mut self, deleted_topics: Vec<String>) {
        let clock = self.partition.clock();
        self.core.loaded(clock.mono(), clock.wall(), &mut self.effects);
        if !deleted_topics.is_empty() {
            self.step(Event::TopicsDeleted(deleted_topics));
        }
        self.carry_out();
        self.count(self.core.census());
    }

    async fn serve(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut outcomes: mpsc::UnboundedReceiver<Outcome>,
        stop: CancellationToken,
    ) {
        let mut sleep = pin!(sleep_until(Instant::now()));
        let mut sleeps_until = None;
        loop {
            let next = earlier(self.core.next_deadline(), self.writer.retry_at());
            let due = earlier(next, self.count_at);
            if sleeps_until != due {
                sleeps_until = due;
                if let Some(due) = due {
                    sleep.as_mut().reset(self.instant(due));
                }
            }
            // What members have sent comes before the time that has passed: after a stall they are not to be taken for
            // silent.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(outcome) = outcomes.recv() => self.take_outcome(outcome),
                command = commands.recv() => match command {
                    Some(command) => self.take_command(command),
                    None => break,
                },
                () = &mut sleep, if due.is_some() => sleeps_until = None,
            }
            while let Ok(outcome) = outcomes.try_recv() {
                self.take_outcome(outcome);
            }
            for _ in 1..COMMANDS_TOGETHER {
                match commands.try_recv() {
                    Ok(command) => self.take_command(command),
                    Err(_) => break,
                }
            }
            self.tick();
            self.carry_out();
        }
        // What was committed in time is answered so.
        while let Ok(outcome) = outcomes.try_recv() {
            self.take_outcome(outcome);
        }
        self.send_replies();
        self.core.unload(&mut self.effects);
        self.send_replies();
        self.count(Census::default());
        info!(partition = self.partition.key().partition, epoch = %self.epoch, "group coordinator unloaded");
    }

    fn step(&mut self, event: Event) {
        let clock = self.partition.clock();
        let now = clock.mono();
        self.core.step(now, clock.wall(), event, &mut self.effects);
        self.count_at.get_or_insert(now + COUNT_AFTER);
    }

    fn tick(&mut self) {
        let now = self.partition.clock().mono();
        if self.core.next_deadline().is_some_and(|due| due <= now) {
            self.step(Event::Tick);
        }
        if self.count_at.is_some_and(|due| due <= now) {
            self.count_at = None;
            self.count(self.core.census());
        }
    }

    fn count(&mut self, now: Census) {
        self.metrics.recount(&self.counted, &now);
        self.counted = now;
    }

    fn take_command(&mut self, command: Command) {
        match command {
            Command::Request { make, answer } => {
                let request = RequestId(self.next_request);
                self.next_request += 1;
                self.waiting.insert(request, answer);
                self.step(make(request));
            }
            // A broker that is cut off does not know of later commits elsewhere.
            Command::Look(look) => match self.partition.admit_read(Some(self.epoch), None) {
                Ok(_) => look(Ok(&self.core)),
                Err(_) => look(Err(ErrorCode::NotCoordinator)),
            },
            Command::TopicsDeleted(topics) => self.step(Event::TopicsDeleted(topics)),
        }
    }

    fn take_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Refused { token, error } => self.step(Event::AppendFailed { token, error }),
            Outcome::Answered { place, committed } => {
                for token in self.writer.answered(place, committed) {
                    self.step(Event::Appended { token });
                }
            }
        }
    }

    fn carry_out(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Append { token, records } => self.writer.push(token, &records),
                other => self.tell(other),
            }
        }
        self.writer.flush();
    }

    /// After the end of the leadership nothing is written any more.
    fn send_replies(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            self.tell(effect);
        }
    }

    fn tell(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { request, reply } => {
                if let Reply::OffsetCommit(errors) = &reply {
                    let committed = errors.iter().filter(|error| error.is_none());
                    self.metrics.committed(committed.count());
                }
                if let Some(answer) = self.waiting.remove(&request) {
                    // The caller may have gone away.
                    let _ = answer.send(Ok(reply));
                }
            }
            Effect::Transition {
                group,
                from,
                to,
                generation,
                reason,
            } => {
                if to == GroupState::CompletingRebalance {
                    self.metrics.rebalanced();
                }
                info!(%group, %from, %to, generation, reason, "group changed its state");
            }
            Effect::Append { .. } => {}
        }
    }

    fn instant(&self, due: Mono) -> Instant {
        Instant::now() + due.since(self.partition.clock().mono())
    }
}

fn earlier(a: Option<Mono>, b: Option<Mono>) -> Option<Mono> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
