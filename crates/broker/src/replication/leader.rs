//! The leader's side of one follower stream: the hello, and the follower's positions as they arrive.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use strom_proto::convert::service_error;
use strom_proto::splice::{Payload, Spliced, SplicedSender, SplicedStream};
use strom_proto::v1::{FollowerHead, FollowerHello, FollowerPosition, LeaderHead, follower_head::Message};
use strom_replication::{FetchAnswer, FollowerFetch};
use strom_runtime::Caller;
use strom_types::{BrokerEpoch, BrokerId, ErrorCode, TopicIdPartition};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::push::{Push, StreamQueue};
use super::pusher::Pusher;
use super::wire::{self, Malformed};
use super::{ANSWERS_MAX, HELLO_WITHIN, Replication};
use crate::partition::Partition;

/// Characters of a foreign cluster id that are shown.
const CLUSTER_ID_SHOWN: usize = 64;

/// Why a stream is not served, as the follower is told.
struct Refusal(ErrorCode, String);

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Refusal(ErrorCode::InvalidRequest, malformed.to_string())
    }
}

/// Serves one follower until either side ends the stream.
pub(super) async fn serve(
    replication: Replication,
    caller: Caller,
    mut messages: SplicedStream<FollowerHead>,
    sender: SplicedSender<LeaderHead>,
) {
    let ended = replication.ended.clone();
    let served = async {
        let hello = match timeout(HELLO_WITHIN, messages.next()).await {
            Ok(Some(Ok(message))) => message.head.message,
            _ => return debug!("a follower stream ended before its hello"),
        };
        let hello = match hello {
            Some(Message::Hello(hello)) => admit(&replication, &caller, &hello),
            _ => Err(Malformed("no hello").into()),
        };
        let served = match hello {
            Ok(follower) => follow(&replication, follower, messages, &sender).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = served {
            refuse(&replication, &sender, refusal).await;
        }
    };
    tokio::select! {
        () = ended.cancelled() => {}
        () = served => {}
    }
}

async fn refuse(
    replication: &Replication,
    sender: &SplicedSender<LeaderHead>,
    Refusal(code, message): Refusal,
) {
    let is_quiet = match code {
        // Who may not be that follower has been told of where callers are checked.
        ErrorCode::ClusterAuthorizationFailed => true,
        // The follower was faster than this broker's start, or than its metadata.
        ErrorCode::BrokerNotAvailable => true,
        _ => false,
    };
    if !is_quiet && replication.streams.is_new_refusal(&message) {
        warn!(%code, %message, "a follower stream is refused");
    }
    let head = LeaderHead {
        refused: Some(service_error(code, message)),
        ..Default::default()
    };
    // The follower may be gone.
    let _ = sender.send(Spliced::new(head, Payload::new())).await;
}

async fn follow(
    replication: &Replication,
    (follower, epoch): (BrokerId, BrokerEpoch),
    mut messages: SplicedStream<FollowerHead>,
    sender: &SplicedSender<LeaderHead>,
) -> Result<(), Refusal> {
    let turn = replication.streams.open(follower, epoch).await;
    let turn = turn.ok_or_else(|| {
        Refusal(
            ErrorCode::StaleBrokerEpoch,
            format!("a later life of broker {follower} is followed already"),
        )
    })?;
    info!(%follower, %epoch, "a follower has connected");
    let queue = Arc::new(StreamQueue::default());
    let mut reader = Reader {
        replication,
        follower,
        epoch,
        queue: queue.clone(),
        pushes: HashMap::new(),
    };
    let pusher = Pusher::new(
        queue.clone(),
        sender.clone(),
        replication.parts.shared.metrics().clone(),
    );
    let outcome = tokio::select! {
        biased;
        () = turn.stop.cancelled() => Ok("a newer stream took over"),
        outcome = reader.read(&mut messages) => outcome,
        () = pusher.run() => Ok("it takes no more"),
    };
    drop(reader);
    outcome.map(|reason| info!(%follower, reason, "a follower's stream has ended"))
}

/// Who says hello, if it is a member of this cluster that may follow this broker.
fn admit(
    replication: &Replication,
    caller: &Caller,
    hello: &FollowerHello,
) -> Result<(BrokerId, BrokerEpoch), Refusal> {
    let image = replication.image();
    let (id, epoch) = (BrokerId(hello.broker_id), BrokerEpoch(hello.broker_epoch));
    if let Err(status) = caller.check_broker(id, "Replicate") {
        return Err(Refusal(
            ErrorCode::ClusterAuthorizationFailed,
            status.message().to_owned(),
        ));
    }
    let me = replication.parts.id;
    if image.cluster_id().is_empty() {
        let message = format!("broker {me} has no metadata yet");
        return Err(Refusal(ErrorCode::BrokerNotAvailable, message));
    }
    if hello.cluster_id != image.cluster_id() {
        let theirs: String = hello.cluster_id.chars().take(CLUSTER_ID_SHOWN).collect();
        let message = format!(
            "broker {id} is of cluster {theirs:?}, this one of {:?}",
            image.cluster_id()
        );
        return Err(Refusal(ErrorCode::InconsistentClusterId, message));
    }
    if hello.leader_id != me.get() {
        let message = format!("broker {id} looks for broker {}, this is {me}", hello.leader_id);
        return Err(Refusal(ErrorCode::InvalidRequest, message));
    }
    if id == me {
        let message = format!("broker {id} cannot follow itself");
        return Err(Refusal(ErrorCode::InvalidRequest, message));
    }
    match image.broker(id).map(|broker| broker.epoch) {
        None => Err(Refusal(
            ErrorCode::BrokerIdNotRegistered,
            format!("broker {id} is not registered"),
        )),
        Some(known) if known < epoch => Err(Refusal(
            ErrorCode::BrokerNotAvailable,
            format!("broker {me} has not heard of epoch {epoch} of broker {id} yet"),
        )),
        Some(known) if known > epoch => Err(Refusal(
            ErrorCode::StaleBrokerEpoch,
            format!("broker {id} says epoch {epoch}, it is registered with {known}"),
        )),
        Some(_) => Ok((id, epoch)),
    }
}

/// Takes positions in.
struct Reader<'a> {
    replication: &'a Replication,
    follower: BrokerId,
    epoch: BrokerEpoch,
    queue: Arc<StreamQueue>,
    pushes: HashMap<TopicIdPartition, Arc<Push>>,
}

impl Reader<'_> {
    async fn read(&mut self, messages: &mut SplicedStream<FollowerHead>) -> Result<&'static str, Refusal> {
        loop {
            match messages.next().await {
                None => return Ok("the follower ended it"),
                Some(Err(error)) => {
                    debug!(follower = %self.follower, %error, "a follower's stream broke");
                    return Ok("it broke");
                }
                Some(Ok(message)) => {
                    let Some(Message::Positions(positions)) = message.head.message else {
                        return Err(Malformed("not positions").into());
                    };
                    self.queue.consumed(positions.consumed_bytes);
                    for position in &positions.partitions {
                        self.take(position)?;
                    }
                    // However fast they come, pushing has its turns.
                    tokio::task::consume_budget().await;
                }
            }
        }
    }

    fn take(&mut self, from: &FollowerPosition) -> Result<(), Refusal> {
        let key = wire::key(&from.topic_id, from.partition)?;
        if from.stop {
            if let Some(push) = self.pushes.remove(&key) {
                push.close();
            }
            return Ok(());
        }
        let position = wire::position(from)?;
        let partition = self.replication.parts.partitions.get(key);
        let answer = match &partition {
            Some(partition) => partition.follower_fetch(FollowerFetch {
                topic_id: key.topic_id,
                follower: self.follower,
                broker_epoch: self.epoch,
                position,
            }),
            // The metadata that assigns it may not have come yet.
            None => Some(FetchAnswer::Refuse {
                fetch_offset: position.fetch_offset,
                error: ErrorCode::UnknownTopicOrPartition,
                log_start: 0,
            }),
        };
        match (answer, partition) {
            (Some(FetchAnswer::Serve { from: offset, .. }), Some(partition)) => {
                self.push(key, &partition)
                    .serve(position.leader_epoch, offset, from.restart);
            }
            (Some(answer), _) => {
                if let Some(push) = self.pushes.get(&key) {
                    push.park();
                }
                if let Some(part) = wire::answer(key, position.leader_epoch, answer)
                    && self.queue.answer(key, part) > ANSWERS_MAX
                {
                    return Err(Malformed("too many positions that are not served").into());
                }
            }
            (None, _) => {}
        }
        Ok(())
    }

    fn push(&mut self, key: TopicIdPartition, partition: &Arc<Partition>) -> &Arc<Push> {
        match self.pushes.entry(key) {
            // A partition that left this broker and came back is another one.
            Entry::Occupied(mut known) => {
                if !Arc::ptr_eq(known.get().partition(), partition) {
                    known
                        .insert(Push::new(partition.clone(), self.queue.clone()))
                        .close();
                }
                known.into_mut()
            }
            Entry::Vacant(new) => new.insert(Push::new(partition.clone(), self.queue.clone())),
        }
    }
}

impl Drop for Reader<'_> {
    /// Partitions hold what is registered with them, also when the stream is dropped in the middle.
    fn drop(&mut self) {
        self.pushes.drain().for_each(|(_, push)| push.close());
        self.queue.clear();
    }
}
