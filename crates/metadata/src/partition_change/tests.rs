//! Tables of partition changes: who leads, who is eligible, which epochs grow.

use super::*;

fn ids(list: &[i32]) -> Vec<BrokerId> {
    list.iter().copied().map(BrokerId).collect()
}

/// `leader`, ISR, ELR, last known ELR; min ISR 2 of three replicas; epochs 5 and 9.
fn state(leader: i32, isr: &[i32], elr: &[i32], known: &[i32]) -> PartitionState {
    PartitionState {
        replicas: ids(&[1, 2, 3]),
        adding: vec![],
        removing: vec![],
        directories: vec![],
        leader: (leader >= 0).then_some(BrokerId(leader)),
        leader_epoch: LeaderEpoch(5),
        partition_epoch: PartitionEpoch(9),
        isr: ids(isr),
        elr: ids(elr),
        last_known_elr: ids(known),
        recovering: false,
        min_isr: 2,
    }
}

fn run(old: &PartitionState, change: &PartitionChange, live: &[i32]) -> Option<Changed> {
    let changed = change_partition(old, change, |id| live.contains(&id.get()));
    if let Some(changed) = &changed {
        assert_eq!(changed.state.check(), Ok(()), "{changed:?}");
        assert_eq!(changed.state.partition_epoch.get(), 10);
    }
    changed
}

fn isr(list: &[i32]) -> PartitionChange {
    PartitionChange {
        isr: Some(ids(list)),
        ..Default::default()
    }
}

#[track_caller]
fn expect(changed: Option<Changed>, leader_epoch: i32, want: &PartitionState) {
    let changed = changed.expect("a change");
    let mut want = want.clone();
    want.leader_epoch = LeaderEpoch(leader_epoch);
    want.partition_epoch = PartitionEpoch(10);
    assert_eq!(changed.state, want);
}

#[test]
fn nothing_to_change() {
    let old = state(1, &[1, 2, 3], &[], &[]);
    assert_eq!(run(&old, &PartitionChange::default(), &[1, 2, 3]), None);
    assert_eq!(run(&old, &isr(&[1, 2, 3]), &[1, 2, 3]), None);
    let waiting = state(-1, &[], &[1], &[2]);
    assert_eq!(run(&waiting, &PartitionChange::default(), &[2, 3]), None);
}

#[test]
fn the_isr_shrinks_and_grows_within_one_leader_epoch() {
    let full = state(1, &[1, 2, 3], &[], &[]);
    expect(
        run(&full, &isr(&[1, 2]), &[1, 2, 3]),
        5,
        &state(1, &[1, 2], &[], &[]),
    );
    let two = state(1, &[1, 2], &[], &[]);
    expect(run(&two, &isr(&[1]), &[1, 2, 3]), 5, &state(1, &[1], &[2], &[]));
    let one = state(1, &[1], &[2, 3], &[]);
    expect(
        run(&one, &isr(&[1, 3]), &[1, 2, 3]),
        5,
        &state(1, &[1, 3], &[], &[]),
    );
}

#[test]
fn a_lost_leader_is_replaced_in_a_new_epoch() {
    let full = state(1, &[1, 2, 3], &[], &[]);
    expect(
        run(&full, &isr(&[2, 3]), &[2, 3]),
        6,
        &state(2, &[2, 3], &[], &[]),
    );
    let two = state(1, &[1, 2], &[], &[]);
    expect(run(&two, &isr(&[2]), &[2, 3]), 6, &state(2, &[2], &[1], &[]));
    let last = state(2, &[2], &[1], &[]);
    expect(run(&last, &isr(&[]), &[3]), 6, &state(-1, &[], &[1, 2], &[]));
    // An eligible one that lives takes over from an ISR that empties.
    expect(run(&last, &isr(&[]), &[1, 3]), 6, &state(1, &[1], &[2], &[]));
}

#[test]
fn who_was_eligible_leads_again_after_all_were_down() {
    let down = state(-1, &[], &[1, 2], &[3]);
    let up = run(&down, &PartitionChange::default(), &[2, 3]);
    expect(up, 6, &state(2, &[2], &[1], &[3]));
    let sole = PartitionState {
        replicas: ids(&[1]),
        min_isr: 1,
        ..state(-1, &[], &[1], &[])
    };
    let up = run(&sole, &PartitionChange::default(), &[1]).expect("elected");
    assert_eq!((up.state.leader, up.state.elr.len()), (Some(BrokerId(1)), 0));
}

#[test]
fn an_unclean_replica_is_no_longer_eligible() {
    let change = |isr: &[i32]| PartitionChange {
        isr: Some(ids(isr)),
        unclean: ids(&[2]),
        ..Default::default()
    };
    let two = state(1, &[1, 2], &[], &[]);
    expect(run(&two, &change(&[1]), &[1]), 5, &state(1, &[1], &[], &[2]));
    let eligible = state(1, &[1], &[2, 3], &[]);
    expect(
        run(&eligible, &change(&[1]), &[1]),
        5,
        &state(1, &[1], &[3], &[2]),
    );
    let leader = state(2, &[2], &[], &[]);
    expect(run(&leader, &change(&[]), &[1, 3]), 6, &state(-1, &[], &[], &[2]));
    // Back at min ISR, nobody needs to remember it.
    let known = state(1, &[1], &[], &[2]);
    expect(
        run(&known, &isr(&[1, 3]), &[1, 3]),
        5,
        &state(1, &[1, 3], &[], &[]),
    );
}

#[test]
fn an_unclean_election_makes_the_elected_the_truth() {
    let lost = state(-1, &[], &[1], &[3]);
    let change = PartitionChange {
        allow_unclean: true,
        ..Default::default()
    };
    let changed = run(&lost, &change, &[2, 3]).expect("elected");
    assert!(changed.unclean);
    let want = PartitionState {
        recovering: true,
        ..state(3, &[3], &[], &[])
    };
    expect(Some(changed.clone()), 6, &want);
    let recovered = PartitionChange {
        recovered: true,
        ..Default::default()
    };
    let done = change_partition(&changed.state, &recovered, |_| true).expect("recovered");
    assert!(!done.state.recovering && !done.unclean);
    assert_eq!(done.state.leader_epoch, LeaderEpoch(6));
}

#[test]
fn preferred_leaders_return_only_in_sync() {
    let change = PartitionChange {
        prefer_first: true,
        ..Default::default()
    };
    expect(
        run(&state(2, &[1, 2], &[], &[]), &change, &[1, 2]),
        6,
        &state(1, &[1, 2], &[], &[]),
    );
    assert_eq!(run(&state(2, &[2, 3], &[], &[]), &change, &[1, 2, 3]), None);
    assert_eq!(run(&state(1, &[1, 2], &[], &[]), &change, &[1, 2]), None);
}

#[test]
fn another_min_isr_clears_the_elr_unless_it_is_all_there_is() {
    let change = |min_isr| PartitionChange {
        min_isr: Some(min_isr),
        ..Default::default()
    };
    let want = PartitionState {
        min_isr: 3,
        ..state(1, &[1], &[], &[])
    };
    expect(run(&state(1, &[1], &[2], &[3]), &change(3), &[1]), 5, &want);
    let want = PartitionState {
        min_isr: 1,
        ..state(-1, &[], &[1, 2], &[])
    };
    expect(run(&state(-1, &[], &[1, 2], &[]), &change(1), &[3]), 5, &want);
    assert_eq!(run(&state(1, &[1], &[2], &[]), &change(2), &[1]), None);
}
