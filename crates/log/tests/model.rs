//! Random operations on a log beside a plain list of batches: what is read must be what the list holds.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use strom_log::*;
use strom_records::{BatchBuilder, BatchHeader};
use strom_types::{BrokerEpoch, LeaderEpoch, Offset};
use support::*;

#[derive(Clone, Debug)]
enum Op {
    Append { count: i64, size: usize, shared: bool },
    Follow { batches: usize, count: i64, size: usize },
    NewEpoch,
    NewEpochInJournal,
    Write,
    Flush,
    Housekeep,
    Read { from: u16, max: usize, bound: u16 },
    Truncate(u16),
    StartOver(u16),
    DeleteBefore(u16),
    SetStart(u16),
    Restart,
    Kill,
    PowerLoss(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (1..5i64, 0..200usize, any::<bool>()).prop_map(|(count, size, shared)| Op::Append { count, size, shared }),
        4 => (1..6usize, 1..4i64, 0..120usize)
            .prop_map(|(batches, count, size)| Op::Follow { batches, count, size }),
        1 => Just(Op::NewEpoch),
        2 => Just(Op::NewEpochInJournal),
        5 => Just(Op::Write),
        4 => Just(Op::Flush),
        2 => Just(Op::Housekeep),
        6 => (any::<u16>(), 0..2_000usize, any::<u16>()).prop_map(|(from, max, bound)| Op::Read { from, max, bound }),
        2 => any::<u16>().prop_map(Op::Truncate),
        1 => (0..20u16).prop_map(Op::StartOver),
        1 => any::<u16>().prop_map(Op::DeleteBefore),
        1 => any::<u16>().prop_map(Op::SetStart),
        1 => Just(Op::Restart),
        1 => Just(Op::Kill),
        1 => any::<u64>().prop_map(Op::PowerLoss),
    ]
}

struct World {
    disk: FaultStorage,
    dir: Option<LogDir>,
    log: Arc<Log>,
    config: LogConfig,
    dir_config: LogDirConfig,
    /// (base offset, last offset, the batch as the log must give it back).
    batches: Vec<(Offset, Offset, Bytes)>,
    epochs: Vec<(i32, Offset)>,
    epoch: i32,
    start: Offset,
    end: Offset,
    serial: u8,
}

impl World {
    fn new(config: LogConfig, dir_config: LogDirConfig) -> Self {
        let disk = FaultStorage::default();
        let (dir, _) = on(&disk, dir_config.clone());
        let log = dir.log(id(0), "t", config).unwrap();
        World {
            disk,
            dir: Some(dir),
            log,
            config,
            dir_config,
            batches: Vec::new(),
            epochs: Vec::new(),
            epoch: 0,
            start: 0,
            end: 0,
            serial: 0,
        }
    }

    fn dir(&self) -> &LogDir {
        self.dir.as_ref().unwrap()
    }

    fn placed(&mut self, count: i64, size: usize) -> Bytes {
        self.serial = self.serial.wrapping_add(1);
        let builder = BatchBuilder::new()
            .base_offset(self.end)
            .leader_epoch(LeaderEpoch(self.epoch));
        let batch = fill_batch(builder, count, size, 1_000 + self.end, self.serial);
        self.note_epoch();
        self.batches.push((self.end, self.end + count - 1, batch.clone()));
        self.end += count;
        batch
    }

    fn note_epoch(&mut self) {
        if self.epochs.last().is_none_or(|(epoch, _)| *epoch < self.epoch) {
            self.epochs.retain(|(_, start)| *start < self.end);
            self.epochs.push((self.epoch, self.end));
        }
    }

    fn pick(&self, of: u16) -> Offset {
        self.start + i64::from(of) % (self.end - self.start + 1)
    }

    fn cut_end(&mut self, end: Offset) {
        self.batches.retain(|(_, last, _)| *last < end);
        self.end = end;
        self.epochs.retain(|(_, start)| *start < end);
    }

    fn cut_start(&mut self, start: Offset) {
        self.start = start;
        self.batches.retain(|(_, last, _)| *last >= start);
        let gone = self
            .epochs
            .iter()
            .filter(|(_, at)| *at <= start)
            .count()
            .saturating_sub(1);
        self.epochs.drain(..gone);
        if let Some((_, at)) = self.epochs.first_mut() {
            *at = (*at).max(start);
        }
    }

    fn reopen(&mut self) {
        let (dir, _) = on(&self.disk, self.dir_config.clone());
        self.log = dir.log(id(0), "t", self.config).unwrap();
        self.dir = Some(dir);
        assert!(self.log.quarantined().is_none(), "{:?}", self.log.quarantined());
    }

    /// After a crash: everything durable is there, and of the rest a front.
    fn recovered(&mut self, durable: Offset) {
        self.reopen();
        let end = self.log.log_end_offset();
        assert!(
            durable <= end && end <= self.end,
            "durable {durable}, recovered {end}, had {}",
            self.end
        );
        // An epoch assigned at the very end may or may not have got to the disk with what followed it.
        self.batches.retain(|(_, last, _)| *last < end);
        self.end = end;
        self.epochs = self
            .log
            .epoch_entries()
            .unwrap()
            .iter()
            .map(|(e, at)| (e.get(), *at))
            .collect();
        for (base, _, bytes) in &self.batches {
            let epoch = BatchHeader::parse(bytes).unwrap().partition_leader_epoch.get();
            let known = self
                .epochs
                .iter()
                .rev()
                .find(|(_, at)| at <= base.max(&self.start))
                .map(|(e, _)| *e);
            assert_eq!(
                known,
                Some(epoch),
                "epoch of the batch at {base}: {:?}",
                self.epochs
            );
        }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Append { count, size, shared } => {
                let placed = self.placed(count, size);
                let (_, _, unplaced) = (
                    0,
                    0,
                    fill_batch(
                        BatchBuilder::new(),
                        count,
                        size,
                        1_000 + self.end - count,
                        self.serial,
                    ),
                );
                let keep = shared.then(|| unplaced.clone());
                let info = self.log.append_as_leader(unplaced, lead(self.epoch)).unwrap();
                assert_eq!(
                    (info.base_offset, info.last_offset + 1),
                    (self.end - count, self.end)
                );
                assert_eq!(
                    self.log
                        .read(info.base_offset, 1, self.end, true)
                        .unwrap()
                        .records,
                    placed
                );
                drop(keep);
            }
            Op::Follow { batches, count, size } => {
                let all: Vec<u8> = (0..batches).flat_map(|_| self.placed(count, size)).collect();
                self.log
                    .append_as_follower(&all.into(), follow(self.epoch))
                    .unwrap();
            }
            Op::NewEpoch => {
                self.epoch += 1;
                self.note_epoch();
                self.log.assign_epoch_start(LeaderEpoch(self.epoch)).unwrap();
            }
            Op::NewEpochInJournal => {
                self.epoch += 1;
                let end = self.end;
                self.note_epoch();
                let starts = self
                    .dir()
                    .assign_epoch_starts(&[(self.log.clone(), LeaderEpoch(self.epoch))]);
                assert_eq!(starts.unwrap().remove(0).unwrap(), end);
                assert_eq!(self.log.latest_epoch(), LeaderEpoch(self.epoch));
            }
            Op::Write => self.dir().write_round(),
            Op::Flush => self.dir().flush_round(),
            Op::Housekeep => self.dir().housekeep().unwrap(),
            Op::Read { from, max, bound } => self.read(self.pick(from), max, self.pick(bound)),
            Op::Truncate(to) => {
                let to = self.pick(to);
                let cut = self
                    .batches
                    .iter()
                    .find(|(_, last, _)| *last >= to)
                    .map_or(to, |(base, _, _)| *base);
                if cut < self.start {
                    return;
                }
                assert_eq!(self.log.truncate_to(to).unwrap(), cut.min(self.end));
                self.cut_end(cut.min(self.end));
                self.epoch += 1;
            }
            Op::StartOver(beyond) => {
                let at = self.end + i64::from(beyond);
                self.log.truncate_fully_and_start_at(at).unwrap();
                self.batches.clear();
                self.epochs.clear();
                (self.start, self.end) = (at, at);
            }
            Op::DeleteBefore(at) => {
                let start = self.log.delete_segments_before(self.pick(at)).unwrap();
                assert!(start <= self.pick(at));
                self.cut_start(start);
            }
            Op::SetStart(at) => {
                let at = self.pick(at);
                assert_eq!(self.log.set_log_start_offset(at).unwrap(), at);
                self.cut_start(at);
            }
            Op::Restart => {
                self.dir.take().unwrap().close(BrokerEpoch(1)).unwrap();
                let on_disk = self.disk.after_kill();
                self.disk = on_disk;
                self.reopen();
                // Nothing of a log without a single record is on the disk.
                if self.batches.is_empty() {
                    self.forget();
                }
            }
            Op::Kill => {
                let written = self.log.written_offset();
                self.dir = None;
                self.disk = self.disk.after_kill();
                if self.nothing_on_disk() {
                    self.reopen();
                    return self.forget();
                }
                self.recovered(written);
            }
            Op::PowerLoss(seed) => {
                let durable = self.log.durable_offset();
                self.dir = None;
                self.disk = self.disk.after_power_loss(seed);
                if self.nothing_on_disk() {
                    self.reopen();
                    return self.forget();
                }
                self.recovered(durable);
            }
        }
        assert_eq!(
            (self.log.log_start_offset(), self.log.log_end_offset()),
            (self.start, self.end)
        );
        let entries = self.log.epoch_entries().unwrap();
        assert_eq!(
            entries.iter().map(|(e, at)| (e.get(), *at)).collect::<Vec<_>>(),
            self.epochs
        );
    }

    fn nothing_on_disk(&self) -> bool {
        let path = root().join(id(0).to_string());
        let names = Storage::list(&self.disk, &path).unwrap_or_default();
        !names.iter().any(|entry| entry.name.ends_with(".log"))
            && (self.batches.is_empty() || self.log.durable_offset() <= self.start)
    }

    /// An empty log has left no trace, or only its start.
    fn forget(&mut self) {
        (self.start, self.end) = (self.log.log_start_offset(), self.log.log_end_offset());
        assert_eq!(self.start, self.end);
        self.batches.clear();
        self.epochs = self
            .log
            .epoch_entries()
            .unwrap()
            .iter()
            .map(|(e, at)| (e.get(), *at))
            .collect();
    }

    fn read(&self, from: Offset, max: usize, bound: Offset) {
        let chunk = self.log.read(from, max, bound, true).unwrap();
        let mut want: Vec<u8> = Vec::new();
        let mut next = from;
        for (_, last, bytes) in self.batches.iter().filter(|(_, last, _)| *last >= from) {
            if *last >= bound || (!want.is_empty() && want.len() + bytes.len() > max) {
                break;
            }
            want.extend_from_slice(bytes);
            next = last + 1;
        }
        let got = chunk.records;
        // A read may stop early at a segment's end, or where memory begins.
        assert!(want.starts_with(&got), "from {from} to {bound}");
        assert!(
            !got.is_empty() || want.is_empty(),
            "from {from} to {bound}: nothing"
        );
        assert!(chunk.next_offset <= next.max(from));
    }

    fn check_all(&self) {
        assert_eq!(read_all(&self.log, self.end, 500), self.batches);
    }
}

/// More with `PROPTEST_CASES`.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_a_list_of_batches(
        ops in prop::collection::vec(op(), 1..60),
        cache in prop::sample::select(vec![0usize, 600, 1 << 20]),
        files in prop::sample::select(vec![1usize, 100]),
        sync_mode in prop::sample::select(vec![SyncMode::EachFile, SyncMode::FileSystem]),
        base in prop::sample::select(vec![manual(), with_wal()]),
    ) {
        let config = LogConfig { segment_bytes: 1_200, index_interval_bytes: 150, ..LogConfig::default() };
        let dir_config =
            LogDirConfig { tail_cache_bytes_max: cache, open_files_max: files, sync_mode, ..base };
        let mut world = World::new(config, dir_config);
        for op in &ops {
            world.run(op);
        }
        world.check_all();
        world.dir().write_round();
        world.check_all();
        assert_eq!(world.dir().queued_bytes(), 0);
    }
}
