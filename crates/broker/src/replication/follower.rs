//! The follower's side: one fetcher per leader keeps a stream to it, tells it positions and takes its records in.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use strom_proto::convert::error_code;
use strom_proto::splice::{self, Payload, Spliced, SplicedSender, SplicedStream};
use strom_proto::v1::{
    FollowerHead, FollowerHello, FollowerPosition, FollowerPositions, LeaderHead, follower_head::Message,
};
use strom_runtime::Shutdown;
use strom_types::{BrokerId, ErrorCode, TopicIdPartition};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::metadata::MetadataMap;
use tracing::{debug, info, warn};

use super::desk::Told;
use super::pusher::message_bytes;
use super::wire::{self, Malformed};
use super::{FOLLOWER_QUEUE_BYTES, LEADER_MESSAGE_BYTES_MAX, PATH, Parts, Replication};
use take::take_message;

mod take;

const CONNECT_WITHIN: Duration = Duration::from_secs(3);
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(20);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Between a refused position and the next try; it doubles.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(10);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);
const POSITIONS_PER_MESSAGE: usize = 5_000;
/// A leader hears of records that were taken in together with their flush, but not later than this.
const TELL_WITHIN: Duration = Duration::from_millis(5);
const LAG_EVERY: Duration = Duration::from_secs(1);

/// Why a stream to a leader ended.
#[derive(Debug, Error)]
enum StreamError {
    #[error("broker {0} is not registered")]
    NotRegistered(BrokerId),
    #[error("cannot reach it: {0}")]
    Unreachable(String),
    #[error("it refuses this broker: {code}: {message}")]
    Refused { code: ErrorCode, message: String },
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the stream broke: {0}")]
    Broken(String),
}

/// Follows one leader broker.
pub(super) struct Fetcher {
    replication: Replication,
    leader: BrokerId,
    wake: Arc<Notify>,
}

impl Fetcher {
    pub(super) fn new(replication: Replication, leader: BrokerId, wake: Arc<Notify>) -> Self {
        Fetcher {
            replication,
            leader,
            wake,
        }
    }

    pub(super) async fn run(self, stop: Shutdown) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&self) {
        let parts = &self.replication.parts;
        let mut pause = RECONNECT_PAUSE_MIN;
        let mut told = String::new();
        loop {
            while !parts.shared.fetch_desk().follows_any(self.leader) {
                self.wake.notified().await;
            }
            let mut answered = false;
            let Err(error) = self.stream(&mut answered).await else {
                continue;
            };
            if answered {
                (pause, told) = (RECONNECT_PAUSE_MIN, String::new());
            }
            let reason = error.to_string();
            if reason == told {
                debug!(leader = %self.leader, %reason, "still cannot follow a leader");
            } else {
                warn!(leader = %self.leader, %reason, "cannot follow a leader; trying again");
                told = reason;
            }
            sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
        }
    }

    /// One stream, until it breaks or nothing is followed any more. `answered` is set once the leader has spoken.
    async fn stream(&self, answered: &mut bool) -> Result<(), StreamError> {
        let parts = &self.replication.parts;
        let mut session = self.open().await?;
        let followed = parts.shared.fetch_desk().begin_anew(self.leader);
        session.restart(followed).await?;
        loop {
            let due = session.next_retry().min(session.tell_due.unwrap_or_else(far_off));
            tokio::select! {
                biased;
                // Before the messages, which may come without a pause: the leader waits to be told.
                () = self.wake.notified() => {
                    if !parts.shared.fetch_desk().follows_any(self.leader) {
                        parts.shared.metrics().replica_lag(self.leader, 0);
                        return Ok(());
                    }
                }
                () = sleep_until(due) => {}
                message = session.messages.next() => {
                    let message = message
                        .ok_or_else(|| StreamError::Broken("the leader ended it".into()))?
                        .map_err(|e| StreamError::Broken(e.to_string()))?;
                    session.take(message).await?;
                    if !std::mem::replace(answered, true) {
                        info!(leader = %self.leader, "following a leader");
                    }
                    // What cannot wait so long has woken this task.
                    session.tell_due.get_or_insert_with(|| Instant::now() + TELL_WITHIN);
                    continue;
                }
            }
            session.tell_due = None;
            session.tell().await?;
        }
    }

    async fn open(&self) -> Result<Session<'_>, StreamError> {
        let parts = &self.replication.parts;
        let image = self.replication.image();
        let endpoint = match image.broker(self.leader) {
            Some(broker) => broker.endpoint.clone(),
            None => return Err(StreamError::NotRegistered(self.leader)),
        };
        let unreachable = |reason: String| StreamError::Unreachable(reason);
        let transport = parts
            .peers
            .data(&endpoint)
            .map_err(|e| unreachable(e.to_string()))?;
        let (sender, body) = splice::channel(FOLLOWER_QUEUE_BYTES);
        let hello = FollowerHello {
            cluster_id: image.cluster_id().to_owned(),
            broker_id: parts.id.get(),
            broker_epoch: parts.epoch.get(),
            leader_id: self.leader.get(),
        };
        send(&sender, Message::Hello(hello)).await?;
        let open = splice::open(
            transport,
            PATH,
            MetadataMap::new(),
            body,
            LEADER_MESSAGE_BYTES_MAX,
        );
        let messages = timeout(CONNECT_WITHIN, open)
            .await
            .map_err(|_| unreachable("timed out".into()))?
            .map_err(|status| unreachable(status.to_string()))?;
        Ok(Session {
            parts,
            leader: self.leader,
            sender,
            messages,
            consumed_bytes: 0,
            retries: BTreeMap::new(),
            retrying: HashSet::new(),
            pauses: HashMap::new(),
            lags: HashMap::new(),
            lag_due: Instant::now(),
            tell_due: None,
        })
    }
}

fn far_off() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

async fn send(sender: &SplicedSender<FollowerHead>, message: Message) -> Result<(), StreamError> {
    let head = FollowerHead {
        message: Some(message),
    };
    let sent = sender.send(Spliced::new(head, Payload::new())).await;
    sent.map_err(|_| StreamError::Broken("the leader takes no more".into()))
}

/// One open stream.
struct Session<'a> {
    parts: &'a Arc<Parts>,
    leader: BrokerId,
    sender: SplicedSender<FollowerHead>,
    messages: SplicedStream<LeaderHead>,
    /// Not yet reported.
    consumed_bytes: u64,
    retries: BTreeMap<Instant, Vec<TopicIdPartition>>,
    /// What the retries hold.
    retrying: HashSet<TopicIdPartition>,
    /// How long partitions in trouble wait before their next try.
    pauses: HashMap<TopicIdPartition, Duration>,
    /// Records behind the leader's high watermark; only those that lag.
    lags: HashMap<TopicIdPartition, i64>,
    lag_due: Instant,
    /// What came since the leader was told last is acknowledged by then.
    tell_due: Option<Instant>,
}

impl Session<'_> {
    async fn take(&mut self, message: Spliced<LeaderHead>) -> Result<(), StreamError> {
        if let Some(refused) = message.head.refused {
            return Err(StreamError::Refused {
                code: error_code(refused.code),
                message: refused.message,
            });
        }
        let bytes = message_bytes(&message);
        if !message.payload.is_empty() {
            self.parts.room.wait().await;
        }
        let (parts, leader) = (self.parts.clone(), self.leader);
        let outcomes = if take::may_block(&parts, &message) {
            let taken = tokio::task::spawn_blocking(move || take_message(&parts, leader, message)).await;
            match taken {
                Ok(outcomes) => outcomes?,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        } else {
            take_message(&parts, leader, message)?
        };
        self.consumed_bytes = self.consumed_bytes.saturating_add(bytes);
        for outcome in outcomes {
            if !self.pauses.is_empty() && outcome.taken {
                self.pauses.remove(&outcome.key);
            }
            if outcome.lag > 0 {
                self.lags.insert(outcome.key, outcome.lag);
            } else if !self.lags.is_empty() {
                self.lags.remove(&outcome.key);
            }
        }
        if self.lag_due <= Instant::now() {
            let lag = self.lags.values().copied().max().unwrap_or(0);
            self.parts.shared.metrics().replica_lag(self.leader, lag);
            self.lag_due = Instant::now() + LAG_EVERY;
        }
        Ok(())
    }

    /// Tells the leader what has changed since it was told last.
    async fn tell(&mut self) -> Result<(), StreamError> {
        let gathered = self.parts.shared.fetch_desk().gathered(self.leader);
        for (key, error) in gathered.retries {
            if !self.retrying.insert(key) {
                continue;
            }
            let pause = self.pauses.entry(key).or_insert(RETRY_PAUSE_MIN);
            debug!(%key, leader = %self.leader, %error, ?pause, "asking a leader again");
            self.retries.entry(Instant::now() + *pause).or_default().push(key);
            *pause = (*pause * 2).min(RETRY_PAUSE_MAX);
        }
        let told = gathered.told.iter().map(|(key, told)| match told {
            Told::Position { position, restart } => wire::follower_position(*key, position, *restart),
            Told::Stop => wire::follower_stop(*key),
        });
        let mut positions: Vec<FollowerPosition> = told.collect();
        while let Some(due) = self
            .retries
            .first_entry()
            .filter(|due| *due.key() <= Instant::now())
        {
            let due = due.remove();
            for key in &due {
                self.retrying.remove(key);
            }
            positions.extend(due.into_iter().filter_map(|key| self.present(key)));
        }
        self.send(positions).await
    }

    /// A new stream begins with the present positions of everything that is followed.
    async fn restart(&mut self, keys: Vec<TopicIdPartition>) -> Result<(), StreamError> {
        let positions = keys.into_iter().filter_map(|key| self.present(key)).collect();
        self.send(positions).await
    }

    fn present(&self, key: TopicIdPartition) -> Option<FollowerPosition> {
        let position = self.parts.partitions.get(key)?.position_for(self.leader)?;
        Some(wire::follower_position(key, &position, true))
    }

    async fn send(&mut self, positions: Vec<FollowerPosition>) -> Result<(), StreamError> {
        if positions.is_empty() && self.consumed_bytes == 0 {
            return Ok(());
        }
        let mut rest = positions;
        loop {
            let later = rest.split_off(rest.len().min(POSITIONS_PER_MESSAGE));
            let message = FollowerPositions {
                partitions: rest,
                consumed_bytes: std::mem::take(&mut self.consumed_bytes),
            };
            send(&self.sender, Message::Positions(message)).await?;
            if later.is_empty() {
                return Ok(());
            }
            rest = later;
        }
    }

    fn next_retry(&self) -> Instant {
        self.retries
            .first_key_value()
            .map_or_else(far_off, |(due, _)| *due)
    }
}
