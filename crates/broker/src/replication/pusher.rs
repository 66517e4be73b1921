//! The sending half of a follower stream: round-robin over the partitions with records, within the follower's window.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use strom_proto::splice::{Payload, Spliced, SplicedSender};
use strom_proto::v1::{LeaderHead, LeaderPartition};
use strom_replication::FetchAnswer;
use strom_types::{LeaderEpoch, Offset};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::push::{Push, StreamQueue};
use super::{MESSAGE_BYTES, NEWS_EVERY, PARTITIONS_PER_MESSAGE, TURN_BYTES, WINDOW_BYTES, wire};
use crate::metrics::Metrics;
use crate::partition::Pushable;

/// Disk reads under way or waiting for the window, per stream: laggards must not crowd out those who follow closely.
const DISK_READS_MAX: usize = 2;
/// Smaller pieces are gathered into one buffer: cheaper than a frame of their own.
const GATHER_BELOW_BYTES: usize = 8 * 1024;

pub(super) struct Pusher {
    queue: Arc<StreamQueue>,
    sender: SplicedSender<LeaderHead>,
    metrics: Metrics,
    sent_bytes: u64,
    reads: JoinSet<Loaded>,
    /// Read from disk, waiting for the window.
    loaded: VecDeque<Loaded>,
    /// Waiting for their turn to be read from disk.
    cold: VecDeque<Arc<Push>>,
    last_message: Instant,
}

/// What was read for a push, from memory or disk.
struct Loaded {
    push: Arc<Push>,
    epoch: LeaderEpoch,
    from: Offset,
    generation: u64,
    found: Pushable,
}

impl Pusher {
    pub(super) fn new(queue: Arc<StreamQueue>, sender: SplicedSender<LeaderHead>, metrics: Metrics) -> Self {
        Pusher {
            queue,
            sender,
            metrics,
            sent_bytes: 0,
            reads: JoinSet::new(),
            loaded: VecDeque::new(),
            cold: VecDeque::new(),
            last_message: Instant::now(),
        }
    }

    /// Returns when the follower takes no more.
    pub(super) async fn run(mut self) {
        loop {
            let draft = self.compose();
            if draft.is_empty() {
                self.wait().await;
                if self.sender.is_closed() {
                    return;
                }
                continue;
            }
            let message = draft.finish();
            let len = message_bytes(&message);
            self.sent_bytes = self.sent_bytes.saturating_add(len);
            self.metrics.replicated_out(message.payload.len());
            self.last_message = Instant::now();
            tokio::task::consume_budget().await;
            if self.sender.send(message).await.is_err() {
                return;
            }
        }
    }

    fn window_is_open(&self, draft: &Draft) -> bool {
        let unacknowledged = self.sent_bytes.saturating_sub(self.queue.consumed_bytes());
        unacknowledged.saturating_add(draft.bytes as u64) < WINDOW_BYTES
    }

    async fn wait(&mut self) {
        let news_due = self.last_message + NEWS_EVERY;
        let open = self.window_is_open(&Draft::default());
        // Right after a message news are looked for in time; they need not wake anybody.
        let news = open && (Instant::now() < news_due || !self.queue.go_idle());
        tokio::select! {
            () = self.queue.wake.notified() => {}
            () = self.sender.closed() => {}
            () = sleep_until(news_due), if news => {}
            Some(read) = self.reads.join_next(), if !self.reads.is_empty() => match read {
                Ok(loaded) => self.loaded.push_back(loaded),
                Err(error) => if error.is_panic() {
                    std::panic::resume_unwind(error.into_panic());
                }
            },
        }
    }

    /// The next message; an empty one when there is nothing to send now.
    fn compose(&mut self) -> Draft {
        let mut draft = Draft::default();
        draft
            .head
            .partitions
            .extend(self.queue.take_answers(PARTITIONS_PER_MESSAGE));
        while !draft.is_full() && self.window_is_open(&draft) {
            let Some(loaded) = self.loaded.pop_front() else {
                break;
            };
            loaded.push.end_disk_read();
            self.place(loaded, &mut draft);
        }
        while !draft.is_full() && self.window_is_open(&draft) {
            let Some(push) = self.queue.next_with_records() else {
                break;
            };
            if push.is_read_from_disk() {
                continue;
            }
            let partition = push.partition().clone();
            let look = |epoch, from, bytes_max| partition.pushable(epoch, from, bytes_max);
            if let Some(read) = read(&push, look) {
                self.place(read, &mut draft);
            }
        }
        self.begin_disk_reads();
        self.add_news(&mut draft);
        draft
    }

    /// High watermarks go along with whatever is sent, or alone when nothing has been for a while.
    fn add_news(&mut self, draft: &mut Draft) {
        if draft.is_empty() && self.last_message.elapsed() < NEWS_EVERY {
            return;
        }
        while !draft.is_full() && self.window_is_open(draft) {
            let Some(push) = self.queue.next_with_news() else {
                return;
            };
            let partition = push.partition().clone();
            let look = |epoch, _, _| match partition.marks_in(epoch) {
                Some(marks) => Pushable::Nothing(marks),
                None => Pushable::NotLeader,
            };
            if let Some(news) = read(&push, look) {
                self.place(news, draft);
            }
        }
    }

    fn place(&mut self, loaded: Loaded, draft: &mut Draft) {
        let Loaded {
            push,
            epoch,
            from,
            generation,
            found,
        } = loaded;
        match found {
            Pushable::Records {
                pieces,
                len,
                next,
                marks,
                traceparent,
            } => {
                if push.sent(generation, from, next, marks) {
                    let part = LeaderPartition {
                        traceparent: traceparent.unwrap_or_default(),
                        ..push.part(epoch, from, marks, len)
                    };
                    draft.add(part, pieces, len);
                    // Whatever is left has its next turn after the others.
                    push.mark_records();
                }
            }
            Pushable::Nothing(marks) => {
                if push.progress().told != Some(marks) && push.sent(generation, from, from, marks) {
                    draft.add(push.part(epoch, from, marks, 0), Vec::new(), 0);
                }
            }
            Pushable::OnDisk => {
                push.begin_disk_read();
                self.cold.push_back(push);
            }
            Pushable::NotLeader => {
                if push.park_if(generation) {
                    push.partition().remove_push(&push);
                }
            }
            Pushable::Refused { error, log_start } => {
                let refusal = FetchAnswer::Refuse {
                    fetch_offset: from,
                    error,
                    log_start,
                };
                if push.park_if(generation) {
                    draft
                        .head
                        .partitions
                        .extend(wire::answer(push.key(), epoch, refusal));
                }
            }
        }
    }

    fn begin_disk_reads(&mut self) {
        while self.reads.len() + self.loaded.len() < DISK_READS_MAX {
            let Some(push) = self.cold.pop_front() else {
                return;
            };
            self.reads.spawn_blocking(move || {
                let progress = push.progress();
                let found = match progress.epoch {
                    Some(epoch) => push
                        .partition()
                        .pushable_from_disk(epoch, progress.next, MESSAGE_BYTES),
                    None => Pushable::NotLeader,
                };
                Loaded {
                    epoch: progress.epoch.unwrap_or(LeaderEpoch::NONE),
                    from: progress.next,
                    generation: progress.generation,
                    found,
                    push,
                }
            });
        }
    }
}

/// Looks at what there is to push; `None` when nothing is asked for.
fn read(push: &Arc<Push>, look: impl FnOnce(LeaderEpoch, Offset, usize) -> Pushable) -> Option<Loaded> {
    let progress = push.progress();
    let epoch = progress.epoch?;
    Some(Loaded {
        found: look(epoch, progress.next, TURN_BYTES),
        push: push.clone(),
        epoch,
        from: progress.next,
        generation: progress.generation,
    })
}

/// What one message counts in the follower's window, on both sides.
pub(super) fn message_bytes(message: &Spliced<LeaderHead>) -> u64 {
    let head = prost::Message::encoded_len(&message.head);
    u64::try_from(head.saturating_add(message.payload.len())).unwrap_or(u64::MAX)
}

/// A message as it grows.
#[derive(Default)]
struct Draft {
    head: LeaderHead,
    payload: Payload,
    small: BytesMut,
    bytes: usize,
}

impl Draft {
    fn is_empty(&self) -> bool {
        self.head.partitions.is_empty()
    }

    fn is_full(&self) -> bool {
        self.bytes >= MESSAGE_BYTES || self.head.partitions.len() >= PARTITIONS_PER_MESSAGE
    }

    fn add(&mut self, part: LeaderPartition, pieces: Vec<Bytes>, len: usize) {
        self.head.partitions.push(part);
        self.bytes += len;
        for piece in pieces {
            if piece.len() < GATHER_BELOW_BYTES {
                self.small.extend_from_slice(&piece);
            } else {
                self.payload.push(self.small.split().freeze());
                self.payload.push(piece);
            }
        }
    }

    fn finish(mut self) -> Spliced<LeaderHead> {
        self.payload.push(self.small.freeze());
        Spliced::new(self.head, self.payload)
    }
}
