//! Power loss at every single operation of a workload: nothing that was reported durable is missing afterwards.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use strom_log::*;
use strom_types::{BrokerEpoch, LeaderEpoch, Offset};
use support::*;

const LOGS: u128 = 3;

/// What one log was told and what it promised.
#[derive(Clone, Default)]
struct Promise {
    /// Every batch ever appended at an offset, the newest last: after a truncation there may be two.
    batches: BTreeMap<Offset, Vec<Bytes>>,
    durable: Offset,
    start: Offset,
    epoch: Option<(i32, Offset)>,
    next_sequence: i32,
}

/// One step; an error means that the power is gone.
fn step(n: u64, dir: &LogDir, logs: &[Arc<Log>], promises: &mut [Promise]) -> Result<(), String> {
    let at = usize::try_from(n % LOGS as u64).unwrap();
    let (log, promise) = (&logs[at], &mut promises[at]);
    let fail = |error: &dyn std::fmt::Display| error.to_string();
    let epoch = promise.epoch.map_or(0, |(epoch, _)| epoch);
    let count = 1 + i64::try_from(n % 3).unwrap();
    let batch = producer_batch(9, 0, promise.next_sequence, count);
    let info = log.append_as_leader(batch, lead(epoch)).map_err(|e| fail(&e))?;
    let appended = log
        .read(info.base_offset, 1, Offset::MAX, true)
        .map_err(|e| fail(&e))?
        .records;
    promise
        .batches
        .entry(info.base_offset)
        .or_default()
        .push(appended);
    promise.next_sequence += i32::try_from(count).unwrap();
    match n % 11 {
        2 | 5 => dir.write_round(),
        3 => settle(dir),
        4 => {
            let next = epoch + 1;
            let start = log.assign_epoch_start(LeaderEpoch(next)).map_err(|e| fail(&e))?;
            promise.epoch = Some((next, start));
        }
        9 => {
            let next = LeaderEpoch(epoch + 1);
            let starts = dir
                .assign_epoch_starts(&[(log.clone(), next)])
                .map_err(|e| fail(&e))?;
            let start = starts.into_iter().next().unwrap().map_err(|e| fail(&e))?;
            promise.epoch = Some((next.get(), start));
        }
        6 => dir.housekeep().map_err(|e| fail(&e))?,
        7 => {
            let to = log.log_end_offset() - 4;
            if to > log.log_start_offset() {
                // From here on less may be found, never something else: the whole batch that holds `to` goes.
                let cut = promise
                    .batches
                    .range(..=to)
                    .next_back()
                    .map_or(to, |(base, _)| *base);
                promise.durable = promise.durable.min(cut);
                promise.epoch = None;
                let end = log.truncate_to(to).map_err(|e| fail(&e))?;
                promise.durable = promise.durable.min(end);
                let state = log.producer_states().map_err(|e| fail(&e))?;
                promise.next_sequence = state.first().map_or(0, |state| state.last_sequence + 1);
                let next = LeaderEpoch(epoch + 1);
                let start = log.assign_epoch_start(next).map_err(|e| fail(&e))?;
                promise.epoch = Some((next.get(), start));
            }
        }
        8 if n > 20 => {
            let to = promise.durable.min(log.log_start_offset() + 3);
            promise.start = log.set_log_start_offset(to).map_err(|e| fail(&e))?;
        }
        10 => settle(dir),
        _ => {}
    }
    for (log, promise) in logs.iter().zip(promises) {
        promise.durable = promise.durable.max(log.durable_offset());
    }
    dir.failure().map_or(Ok(()), |error| Err(error.to_string()))
}

fn open_all(dir: &LogDir) -> Vec<Arc<Log>> {
    (0..LOGS)
        .map(|n| dir.log(id(n), "topic", small()).unwrap())
        .collect()
}

/// Runs until the power goes or `steps` are done.
fn run(disk: &FaultStorage, steps: u64, config: LogDirConfig, promises: &mut [Promise]) {
    let Ok(dir) = LogDir::open_on(Arc::new(disk.clone()), &root(), config, Arc::new(Ear::default())) else {
        return;
    };
    let logs = open_all(&dir);
    for n in 0..steps {
        if step(n, &dir, &logs, promises).is_err() {
            return;
        }
    }
}

fn check(disk: &FaultStorage, promises: &[Promise], what: &str) -> Vec<Offset> {
    let (dir, _) = on(disk, manual());
    let logs = open_all(&dir);
    for (log, promise) in logs.iter().zip(promises) {
        assert!(log.quarantined().is_none(), "{what}: {:?}", log.quarantined());
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        assert!(
            end >= promise.durable,
            "{what}: {} was durable, the log ends at {end}",
            promise.durable
        );
        assert!(
            start >= promise.start,
            "{what}: deleted to {}, starts at {start}",
            promise.start
        );
        if let Some((epoch, at)) = promise.epoch
            && at <= end
            && log.durable_offset() > 0
        {
            let entries = log.epoch_entries().unwrap();
            assert!(
                entries.iter().any(|(e, _)| e.get() >= epoch),
                "{what}: epoch {epoch} at {at}: {entries:?}"
            );
        }
        let mut next = None;
        for (base, last, bytes) in read_all(log, end, 700) {
            assert!(next.is_none_or(|next| next == base), "{what}: gap before {base}");
            let known = promise
                .batches
                .get(&base)
                .is_some_and(|versions| versions.contains(&bytes));
            assert!(known, "{what}: a batch at {base} that nobody appended");
            next = Some(last + 1);
        }
        if let Some((base, last)) = read_all(log, end, 700)
            .last()
            .map(|(base, last, _)| (*base, *last))
        {
            // Its producer's last batch is known again.
            let again = promise.batches[&base].iter().any(|bytes| {
                let again = log.append_as_leader(bytes.clone(), lead(1_000_000)).unwrap();
                again.duplicate && (again.base_offset, again.last_offset) == (base, last)
            });
            assert!(again, "{what}: the batch at {base} is no duplicate of itself");
        }
    }
    let ends = logs.iter().map(|log| log.log_end_offset()).collect();
    drop(dir);
    ends
}

#[test]
fn power_loss_at_every_operation() {
    power_loss(&LogDirConfig {
        sync_mode: SyncMode::FileSystem,
        ..manual()
    });
}

#[test]
fn power_loss_at_every_operation_with_files_synced_one_by_one() {
    power_loss(&LogDirConfig {
        sync_mode: SyncMode::EachFile,
        ..manual()
    });
}

#[test]
fn power_loss_at_every_operation_with_a_write_ahead_log() {
    power_loss(&with_wal());
}

fn power_loss(config: &LogDirConfig) {
    const STEPS: u64 = 90;
    let whole = FaultStorage::default();
    run(&whole, STEPS, config.clone(), &mut vec![Promise::default(); 3]);
    let operations = whole.operations();
    assert!(operations > 300, "{operations}");
    for n in 1..=operations {
        let disk = FaultStorage::default();
        disk.lose_power_at(n);
        let mut promises = vec![Promise::default(); 3];
        run(&disk, STEPS, config.clone(), &mut promises);
        for seed in 0..4 {
            let found = disk.after_power_loss(n * 31 + seed);
            let ends = check(&found, &promises, &format!("operation {n}, seed {seed}"));
            // And once more in the middle of that recovery.
            let again = disk.after_power_loss(n * 31 + seed);
            again.lose_power_at(again.operations() + 1 + seed);
            let _ = LogDir::open_on(
                Arc::new(again.clone()),
                &root(),
                manual(),
                Arc::new(Ear::default()),
            )
            .map(|dir| (0..LOGS).for_each(|n| drop(dir.log(id(n), "topic", small()))));
            let twice = check(
                &again.after_power_loss(seed),
                &promises,
                &format!("twice at {n}, seed {seed}"),
            );
            assert!(
                twice.iter().zip(&ends).all(|(twice, once)| twice <= once),
                "{twice:?} {ends:?}"
            );
        }
        check(&disk.after_kill(), &promises, &format!("kill at operation {n}"));
    }
}

#[test]
fn a_clean_stop_is_lost_or_whole() {
    let prepare = || {
        let disk = FaultStorage::default();
        let mut promises = vec![Promise::default(); 3];
        let (dir, _) = on(&disk, manual());
        let logs = open_all(&dir);
        for n in 0..40 {
            step(n, &dir, &logs, &mut promises).unwrap();
        }
        (disk, dir, promises)
    };
    let (disk, dir, _) = prepare();
    let before = disk.operations();
    dir.close(BrokerEpoch(4)).unwrap();
    for n in before + 1..=disk.operations() + 1 {
        let (disk, dir, promises) = prepare();
        disk.lose_power_at(n);
        let closed = dir.close(BrokerEpoch(4)).is_ok();
        for seed in 0..5 {
            let found = disk.after_power_loss(n * 17 + seed);
            let (dir, _) = on(&found, manual());
            let clean = dir.clean_shutdown_epoch();
            assert!(clean.is_none() || clean == Some(BrokerEpoch(4)));
            assert!(!closed || clean.is_some(), "closed at {n}, and no marker");
            drop(dir);
            // The marker went with that start, so it counts as a crash now.
            let found = if clean.is_some() {
                disk.after_power_loss(n * 17 + seed)
            } else {
                found
            };
            check(
                &found,
                &promises,
                &format!("close at {n}, seed {seed}, {clean:?}"),
            );
        }
    }
}
