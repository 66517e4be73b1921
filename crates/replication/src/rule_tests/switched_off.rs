//! The rules whose absence the randomized model cannot notice: what one replica does without them.

use super::*;

fn without(rule: &str, runs: &[(i32, usize)]) -> Bench {
    Bench::with(ToyLog::of(runs), Rules::without(rule).unwrap(), |_| {})
}

fn reply(fetch_offset: Offset, body: ReplyBody) -> Event {
    Event::FetchReply(FetchReply {
        leader_epoch: LeaderEpoch(5),
        fetch_offset,
        high_watermark: 4,
        log_start: 0,
        body,
    })
}

fn records(base_offset: Offset, epoch: i32) -> ReplyBody {
    ReplyBody::Records(FetchedRecords {
        base_offset,
        first_epoch: LeaderEpoch(epoch),
        last_epoch: LeaderEpoch(epoch),
    })
}

#[test]
fn verify_records() {
    let mut bench = without("verify_records", &[(3, 4)]);
    bench.follow(B2, 5);
    let effects = bench.step(reply(4, records(9, 5)));
    assert_eq!(effects, [Effect::AppendRecords { base_offset: 9 }], "a gap");
}

#[test]
fn batch_epoch_order() {
    let mut bench = without("batch_epoch_order", &[(3, 4)]);
    bench.follow(B2, 5);
    let effects = bench.step(reply(4, records(4, 1)));
    assert_eq!(
        effects,
        [Effect::AppendRecords { base_offset: 4 }],
        "a falling epoch"
    );
}

#[test]
fn stop_truncation_below_hw() {
    let mut bench = without("stop_truncation_below_hw", &[(1, 2), (2, 2)]);
    bench.follow(B2, 5);
    bench.step(reply(4, ReplyBody::Empty));
    let diverging = ReplyBody::Diverging {
        last_fetched_epoch: LeaderEpoch(2),
        end: EpochEnd {
            epoch: LeaderEpoch(1),
            end_offset: 2,
        },
    };
    assert_eq!(
        bench.step(reply(4, diverging)),
        [Effect::TruncateTo { to: 2 }],
        "below {}",
        4
    );
}

#[test]
fn min_isr_before_append() {
    let mut bench = without("min_isr_before_append", &[]);
    bench.lead(1, &[ME]);
    let admitted = bench.replica.admit_produce(bench.at, Acks::All, None);
    assert_eq!(admitted, Ok(LeaderEpoch(1)), "appended in vain");
}

#[test]
fn min_isr_after_append() {
    let mut bench = without("min_isr_after_append", &[(1, 1)]);
    bench.lead(2, &[ME, B2]);
    bench.fetch(B2, 2, 2, 1, 1);
    bench.apply(|p| p.isr = vec![ME]);
    let wait = AckWait {
        acks: Acks::All,
        leader_epoch: LeaderEpoch(2),
        last_offset: 0,
    };
    assert_eq!(bench.replica.acks_state(bench.at, &wait), AcksState::Done);
}

#[test]
fn propose_only_eligible() {
    let mut bench = without("propose_only_eligible", &[(1, 4)]);
    bench.lead(2, &[ME, B2]);
    bench.step(Event::BrokerChanged(BrokerState {
        fenced: true,
        ..registration(B3)
    }));
    let effects = bench.fetch(B3, 2, 2, 4, 4);
    assert_eq!(proposed_ids(&effects), Some(vec![ME, B2, B3]), "to be refused");
}
