//! What a producer's run came to.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::kafka::producer::Delivered;
use crate::output::{Block, View, human_bytes};

#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    pub(super) topic: String,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) elapsed_ms: u64,
    pub(super) partitions: Vec<Written>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Written {
    partition: i32,
    records: u64,
    /// Null with acks=0, where offsets are not told.
    first_offset: Option<i64>,
    last_offset: Option<i64>,
}

impl View for Summary {
    fn blocks(&self) -> Vec<Block> {
        vec![Block::Line(format!(
            "{} records ({}) written to {} in {} ms",
            self.records,
            human_bytes(self.bytes),
            self.topic,
            self.elapsed_ms
        ))]
    }
}

#[derive(Default)]
pub(super) struct Tally {
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) partitions: BTreeMap<i32, Written>,
}

impl Tally {
    pub(super) fn add(&mut self, batch: &Delivered) -> (u64, u64) {
        let (records, bytes) = (batch.stamps.len() as u64, batch.payload_bytes as u64);
        self.records += records;
        self.bytes += bytes;
        let partition = batch.partition;
        let none = Written {
            partition,
            records: 0,
            first_offset: None,
            last_offset: None,
        };
        let written = self.partitions.entry(partition).or_insert(none);
        written.records += records;
        if batch.base_offset >= 0 {
            let last = batch
                .base_offset
                .saturating_add_unsigned(records)
                .saturating_sub(1);
            written.first_offset = Some(
                written
                    .first_offset
                    .map_or(batch.base_offset, |o| o.min(batch.base_offset)),
            );
            written.last_offset = Some(written.last_offset.map_or(last, |o| o.max(last)));
        }
        (records, bytes)
    }
}
