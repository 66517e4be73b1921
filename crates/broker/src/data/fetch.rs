//! The fetch stream: queries wait, without a task each, until there is data, their time is up, or they are asked to
//! answer with what there is.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use strom_proto::splice::{Spliced, SplicedSender, SplicedStream};
use strom_proto::v1::{FetchHead, FetchRequestHead, fetch_request_head::Request};
use strom_replication::FetchBounds;
use strom_types::{ErrorCode, Mono};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::query::{Answer, Look, Query};
use crate::broker::Broker;
use crate::partition::Wake;

type Bounds = Result<FetchBounds, ErrorCode>;

pub(super) async fn serve(
    broker: Broker,
    mut requests: SplicedStream<FetchRequestHead>,
    sender: SplicedSender<FetchHead>,
) {
    let (wakes, mut woken) = mpsc::unbounded_channel();
    let mut stream = FetchStream {
        broker,
        sender,
        wakes,
        parked: HashMap::new(),
        deadlines: BTreeSet::new(),
    };
    loop {
        let due = stream.next_deadline();
        tokio::select! {
            biased;
            Some(correlation) = woken.recv() => stream.try_answer(correlation, false),
            request = requests.next() => match request {
                Some(Ok(request)) => stream.take(request),
                Some(Err(error)) => {
                    warn!(%error, "a fetch stream broke");
                    return;
                }
                None => return,
            },
            () = sleep_until(due) => stream.expire(),
        }
    }
}

struct Parked {
    query: Arc<Query>,
    wake: Arc<QueryWake>,
}

struct FetchStream {
    broker: Broker,
    sender: SplicedSender<FetchHead>,
    wakes: mpsc::UnboundedSender<u64>,
    parked: HashMap<u64, Parked>,
    deadlines: BTreeSet<(Mono, u64)>,
}

/// Wakes one query on its stream, once.
struct QueryWake {
    correlation: u64,
    fired: AtomicBool,
    wakes: mpsc::UnboundedSender<u64>,
}

impl Wake for QueryWake {
    fn wake(&self) {
        if !self.fired.swap(true, Ordering::AcqRel) {
            // The stream may be gone.
            let _ = self.wakes.send(self.correlation);
        }
    }

    fn is_done(&self) -> bool {
        self.fired.load(Ordering::Acquire)
    }
}

impl FetchStream {
    fn take(&mut self, request: Spliced<FetchRequestHead>) {
        match request.head.request {
            Some(Request::Query(query)) => {
                let query = Arc::new(Query::new(
                    &query,
                    self.broker.partitions(),
                    self.broker.clock().mono(),
                ));
                self.answer_or_park(query);
            }
            Some(Request::Complete(correlation)) => self.try_answer(correlation, true),
            None => {}
        }
    }

    fn answer_or_park(&mut self, query: Arc<Query>) {
        let expired = query.deadline <= self.broker.clock().mono();
        let wake = Arc::new(QueryWake {
            correlation: query.correlation,
            fired: AtomicBool::new(false),
            wakes: self.wakes.clone(),
        });
        let waker: Arc<dyn Wake> = wake.clone();
        let look = query.look((!expired).then_some(&waker));
        if let Look::Ready(bounds) = look
            && self.read(&query, &bounds, expired)
        {
            wake.fired.store(true, Ordering::Release);
            return;
        }
        if expired {
            self.answer_with_what_there_is(&query);
            return;
        }
        self.deadlines.insert((query.deadline, query.correlation));
        self.parked.insert(query.correlation, Parked { query, wake });
    }

    /// A parked query was woken, or is asked to end now.
    fn try_answer(&mut self, correlation: u64, now: bool) {
        let Some(Parked { query, wake }) = self.parked.remove(&correlation) else {
            return;
        };
        self.deadlines.remove(&(query.deadline, correlation));
        wake.fired.store(true, Ordering::Release);
        if now {
            self.answer_with_what_there_is(&query);
        } else {
            self.answer_or_park(query);
        }
    }

    fn expire(&mut self) {
        let now = self.broker.clock().mono();
        while let Some(&(deadline, correlation)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.try_answer(correlation, true);
        }
    }

    fn answer_with_what_there_is(&self, query: &Arc<Query>) {
        self.read(query, &query.bounds(), true);
    }

    /// Reads and sends; false when there is too little to answer with.
    fn read(&self, query: &Arc<Query>, bounds: &[Bounds], final_answer: bool) -> bool {
        match query.read(bounds, final_answer, true) {
            Answer::Reply(reply) => self.send(reply),
            Answer::TooLittle => return false,
            Answer::NeedsDisk => self.read_from_disk(query.clone(), bounds.to_vec()),
        }
        true
    }

    fn send(&self, reply: Spliced<FetchHead>) {
        if let Err(Ok(reply)) = self.sender.try_send(reply) {
            // The gateway is slower than the disks: the reply waits on its own.
            let sender = self.sender.clone();
            tokio::spawn(async move { sender.send(reply).await });
        }
    }

    /// Disk reads may block, so they leave the stream's task. What lies on disk is old enough to be plenty: less than
    /// `min_bytes` is answered too.
    fn read_from_disk(&self, query: Arc<Query>, bounds: Vec<Bounds>) {
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let read = tokio::task::spawn_blocking(move || query.read(&bounds, true, false)).await;
            if let Ok(Answer::Reply(reply)) = read {
                // The stream may be gone; then nobody waits.
                let _ = sender.send(reply).await;
            }
        });
    }

    fn next_deadline(&self) -> Instant {
        let now = self.broker.clock().mono();
        let wait = self
            .deadlines
            .first()
            .map_or(std::time::Duration::from_secs(3600), |(due, _)| due.since(now));
        Instant::now() + wait
    }
}
