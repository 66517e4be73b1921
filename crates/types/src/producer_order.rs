//! The order of an idempotent producer's batches on their way: none of them may overtake one that failed.

use crate::{ErrorCode, ProducerEpoch, ProducerId};

/// What names one batch of an idempotent producer within a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerBatch {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
    /// Of its first record.
    pub sequence: i32,
}

impl ProducerBatch {
    /// Whether its producer made it after `other`, in the same epoch. Sequences wrap from `i32::MAX` to 0.
    fn follows(&self, other: &ProducerBatch) -> bool {
        let ahead = self.sequence.wrapping_sub(other.sequence) & i32::MAX;
        (self.id, self.epoch) == (other.id, other.epoch) && (1..1 << 30).contains(&ahead)
    }

    /// Whether it is of a later epoch of the same producer.
    fn outlives(&self, other: &ProducerBatch) -> bool {
        self.id == other.id && self.epoch > other.epoch
    }
}

/// The newest failed batch of a producer on one ordered way to one partition.
///
/// A producer pipelines: behind a batch that fails, others are under way already. Taken, they would leave a gap, which a
/// leader answers with OUT_OF_ORDER_SEQUENCE_NUMBER (on which librdkafka begins new sequences, and doubles what was
/// written but not acknowledged), or does not notice if it does not know the producer yet (KIP-360). Clients of Kafka
/// rarely see either, for there one connection leads to one leader. So they are refused without being looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FailedBatch(Option<ProducerBatch>);

impl FailedBatch {
    /// Notes that `batch` failed; of two the later one counts.
    pub fn note(&mut self, batch: ProducerBatch) {
        if !self
            .0
            .is_some_and(|failed| failed.follows(&batch) || failed.outlives(&batch))
        {
            self.0 = Some(batch);
        }
    }

    /// Whether `batch` was sent behind the failure, so that it fails too. Any other one shows that its producer has heard
    /// of the failure, which is then forgotten.
    pub fn fails(&mut self, batch: ProducerBatch) -> bool {
        if self.0.is_some_and(|failed| failed.outlives(&batch)) {
            // Of an epoch that its producer has left: the log's to refuse.
            return false;
        }
        let behind = self.0.is_some_and(|failed| batch.follows(&failed));
        self.0 = behind.then_some(batch);
        behind
    }

    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

/// Whether a batch that was answered so leaves a gap. The log's own verdicts upon a producer do not: what comes behind
/// gets them too.
pub fn leaves_gap(code: ErrorCode) -> bool {
    !matches!(
        code,
        ErrorCode::None | ErrorCode::OutOfOrderSequenceNumber | ErrorCode::InvalidProducerEpoch
    )
}

/// The way of one producer's batches on a connection to one partition, whose leader may change meanwhile: batches are
/// pipelined on one stream `S`, but none goes out on another one while any is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderedWay<S> {
    /// The stream that holds what is under way, and how much that is.
    under_way: Option<(S, usize)>,
    failed: FailedBatch,
    rewinds: u64,
}

/// An admitted batch, until it is settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admitted {
    batch: ProducerBatch,
    /// How often the producer had begun again before it.
    rewinds: u64,
}

impl Admitted {
    pub fn batch(&self) -> ProducerBatch {
        self.batch
    }
}

impl<S> Default for OrderedWay<S> {
    fn default() -> Self {
        OrderedWay {
            under_way: None,
            failed: FailedBatch::default(),
            rewinds: 0,
        }
    }
}

impl<S: Copy + PartialEq> OrderedWay<S> {
    /// Lets `batch` out on `stream`, to be [settled](OrderedWay::settle); `None` if it has failed here.
    pub fn admit(&mut self, batch: ProducerBatch, stream: S) -> Option<Admitted> {
        if self.is_behind_failure(batch) {
            return None;
        }
        match &mut self.under_way {
            Some((busy, _)) if *busy != stream => {
                self.failed.note(batch);
                return None;
            }
            Some((_, count)) => *count += 1,
            None => self.under_way = Some((stream, 1)),
        }
        let rewinds = self.rewinds;
        Some(Admitted { batch, rewinds })
    }

    /// A batch that could not be sent at all.
    pub fn unsent(&mut self, batch: ProducerBatch) {
        if !self.is_behind_failure(batch) {
            self.failed.note(batch);
        }
    }

    /// The batch has been answered; `failed` if it [leaves a gap](leaves_gap).
    pub fn settle(&mut self, admitted: Admitted, failed: bool) {
        self.under_way = self
            .under_way
            .and_then(|(stream, count)| (count > 1).then_some((stream, count - 1)));
        // What its producer sent before it began again says nothing about what came since.
        if failed && admitted.rewinds == self.rewinds {
            self.failed.note(admitted.batch);
        }
    }

    pub fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Nothing is under way and nothing has failed.
    pub fn is_clear(&self) -> bool {
        self.under_way.is_none() && self.failed.is_none()
    }

    fn is_behind_failure(&mut self, batch: ProducerBatch) -> bool {
        let knew = !self.failed.is_none();
        let behind = self.failed.fails(batch);
        self.rewinds += u64::from(knew && self.failed.is_none());
        behind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_pipelined_on_one_stream() {
        let mut way = OrderedWay::default();
        let all: Vec<_> = (0..5)
            .filter_map(|sequence| way.admit(batch(0, sequence), 'a'))
            .collect();
        assert_eq!(all.len(), 5);
        all.into_iter().for_each(|admitted| way.settle(admitted, false));
        assert!(way.is_clear());
        assert!(way.admit(batch(0, 5), 'b').is_some(), "nothing is under way");
    }

    #[test]
    fn no_batch_goes_out_on_another_stream_while_one_is_under_way() {
        let mut way = OrderedWay::default();
        let first = way.admit(batch(0, 0), 'a').unwrap();
        assert_eq!(way.admit(batch(0, 1), 'b'), None);
        way.settle(first, true);
        assert_eq!(way.admit(batch(0, 2), 'b'), None, "sent before its producer knew");
        for sequence in 0..4 {
            assert!(
                way.admit(batch(0, sequence), 'b').is_some(),
                "{sequence} again, in order"
            );
        }
    }

    #[test]
    fn a_failure_that_becomes_known_late_does_not_hide_one_that_came_since() {
        let mut way = OrderedWay::default();
        let [first, second] = [0, 1].map(|sequence| way.admit(batch(0, sequence), 'a').unwrap());
        way.settle(first, true);
        let again = way.admit(batch(0, 0), 'a').unwrap();
        way.settle(second, true);
        way.settle(again, true);
        assert_eq!(
            way.admit(batch(0, 1), 'b'),
            None,
            "behind the second failure of 0"
        );
    }

    #[test]
    fn what_cannot_be_sent_twice_still_holds_up_what_comes_behind() {
        let mut way = OrderedWay::default();
        for _ in 0..2 {
            (0..3).for_each(|sequence| way.unsent(batch(0, sequence)));
        }
        way.unsent(batch(0, 0));
        assert_eq!(way.admit(batch(0, 2), 'b'), None);
        assert!(way.admit(batch(0, 0), 'b').is_some() && way.admit(batch(0, 1), 'b').is_some());
    }

    #[test]
    fn the_logs_verdicts_leave_no_gap() {
        for &code in ErrorCode::ALL {
            let verdict = ["NONE", "OUT_OF_ORDER_SEQUENCE_NUMBER", "INVALID_PRODUCER_EPOCH"]
                .contains(&code.to_string().as_str());
            assert_eq!(leaves_gap(code), !verdict, "{code}");
        }
    }

    fn batch(epoch: i16, sequence: i32) -> ProducerBatch {
        ProducerBatch {
            id: ProducerId(7),
            epoch: ProducerEpoch(epoch),
            sequence,
        }
    }

    #[test]
    fn what_was_sent_behind_a_failure_fails_until_the_failed_batch_comes_again() {
        let mut failed = FailedBatch::default();
        assert!(!failed.fails(batch(0, 3)));
        failed.note(batch(0, 3));
        assert!(
            [4, 9, 10]
                .map(|sequence| failed.fails(batch(0, sequence)))
                .iter()
                .all(|fails| *fails)
        );
        for sequence in [3, 4, 9, 10, 11] {
            assert!(!failed.fails(batch(0, sequence)), "{sequence} in its order");
        }
    }

    #[test]
    fn a_failure_that_its_producer_forgot_costs_one_refusal() {
        let mut failed = FailedBatch::default();
        failed.note(batch(0, 3));
        assert!(failed.fails(batch(0, 100)));
        assert!(!failed.fails(batch(0, 100)));
    }

    #[test]
    fn failures_may_become_known_in_any_order() {
        let mut failed = FailedBatch::default();
        failed.note(batch(0, 4));
        failed.note(batch(0, 3));
        assert!(!failed.fails(batch(0, 3)), "the first of them comes again");
        assert!(!failed.fails(batch(0, 4)));
    }

    #[test]
    fn another_epoch_or_producer_is_another_order() {
        let mut failed = FailedBatch::default();
        failed.note(batch(0, 3));
        assert!(!failed.fails(batch(1, 4)));
        failed.note(batch(0, 3));
        let other = ProducerBatch {
            id: ProducerId(8),
            ..batch(0, 4)
        };
        assert!(!failed.fails(other) && failed.is_none());
    }

    #[test]
    fn sequences_wrap() {
        let mut failed = FailedBatch::default();
        failed.note(batch(0, i32::MAX - 1));
        assert!(failed.fails(batch(0, i32::MAX)) && failed.fails(batch(0, 0)) && failed.fails(batch(0, 5)));
        assert!(!failed.fails(batch(0, i32::MAX - 1)));
    }

    #[test]
    fn what_is_left_of_an_older_epoch_says_nothing_of_the_newer() {
        let of = |epoch, sequence| ProducerBatch {
            epoch: ProducerEpoch(epoch),
            ..batch(0, sequence)
        };
        let mut way = OrderedWay::default();
        let old = way.admit(of(0, 4), 'a').unwrap();
        assert_eq!(way.admit(of(1, 0), 'b'), None, "another stream is busy");
        way.settle(old, true);
        assert_eq!(way.admit(of(1, 1), 'b'), None, "behind the first of its epoch");
        assert!(way.admit(of(0, 5), 'b').is_some(), "the log refuses it");
        assert_eq!(way.admit(of(1, 2), 'b'), None, "still behind");
    }
}
