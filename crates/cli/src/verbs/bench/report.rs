//! A measurement's result: rates, percentiles, machine.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::machine::Machine;
use crate::datetime::{Timestamp, rfc3339};
use crate::exit::Error;
use crate::output::{Block, View, human_bytes};

/// The longest latency that is told apart from longer ones: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Latencies in microseconds, to three significant digits.
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> Result<Self, Error> {
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3);
        histogram.map(Self).map_err(|error| Error::Failed {
            message: error.to_string(),
            hint: None,
        })
    }

    pub(super) fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(us.max(1));
    }

    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        let ms = |quantile: f64| round(self.0.value_at_quantile(quantile) as f64 / 1000.0);
        (!self.0.is_empty()).then(|| Percentiles {
            samples: self.0.len(),
            mean: round(self.0.mean() / 1000.0),
            p50: ms(0.5),
            p90: ms(0.9),
            p95: ms(0.95),
            p99: ms(0.99),
            p999: ms(0.999),
            p9999: ms(0.9999),
            max: round(self.0.max() as f64 / 1000.0),
        })
    }
}

/// Three decimals are a microsecond; more is noise.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Percentiles {
    samples: u64,
    mean: f64,
    p50: f64,
    p90: f64,
    p95: f64,
    p99: f64,
    p999: f64,
    p9999: f64,
    max: f64,
}

/// What was done and how fast.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Throughput {
    pub(super) records: u64,
    /// Keys and values, uncompressed.
    pub(super) bytes: u64,
    pub(super) elapsed_s: f64,
    pub(super) records_per_s: f64,
    /// Millions of bytes.
    pub(super) mb_per_s: f64,
}

impl Throughput {
    pub(super) fn of(records: u64, bytes: u64, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        Self {
            records,
            bytes,
            elapsed_s: round(seconds),
            records_per_s: round(records as f64 / seconds),
            mb_per_s: round(bytes as f64 / seconds / 1e6),
        }
    }
}

/// The whole result.
#[derive(Serialize)]
pub(super) struct Report<S> {
    pub(super) bench: &'static str,
    pub(super) strom_version: &'static str,
    pub(super) time: String,
    pub(super) bootstrap: String,
    pub(super) topic: String,
    pub(super) settings: S,
    pub(super) machine: Machine,
    pub(super) throughput: Throughput,
    /// From when a record was due to be sent to its acknowledgement.
    pub(super) ack_latency_ms: Option<Percentiles>,
    /// From when a record was due to be sent to when it was consumed.
    pub(super) end_to_end_latency_ms: Option<Percentiles>,
}

impl<S> Report<S> {
    pub(super) fn new(
        bench: &'static str,
        bootstrap: String,
        topic: &str,
        settings: S,
        throughput: Throughput,
    ) -> Self {
        Self {
            bench,
            strom_version: env!("CARGO_PKG_VERSION"),
            time: rfc3339(Timestamp::now().0),
            bootstrap,
            topic: topic.to_owned(),
            settings,
            machine: Machine::here(),
            throughput,
            ack_latency_ms: None,
            end_to_end_latency_ms: None,
        }
    }
}

impl<S: Serialize> View for Report<S> {
    fn blocks(&self) -> Vec<Block> {
        let done = &self.throughput;
        let mut blocks = vec![
            Block::Line(format!(
                "bench {} on {} at {}",
                self.bench, self.topic, self.bootstrap
            )),
            Block::Line(self.machine.summary()),
            Block::Line(format!(
                "{} records ({}) in {:.3} s: {:.0} records/s, {:.2} MB/s",
                done.records,
                human_bytes(done.bytes),
                done.elapsed_s,
                done.records_per_s,
                done.mb_per_s,
            )),
        ];
        let latencies = [
            ("acknowledged", &self.ack_latency_ms),
            ("end to end", &self.end_to_end_latency_ms),
        ];
        let rows = latencies.into_iter().filter_map(|(name, latency)| {
            let values = latency.as_ref()?;
            let ms = [
                values.mean,
                values.p50,
                values.p90,
                values.p95,
                values.p99,
                values.p999,
                values.p9999,
                values.max,
            ];
            let mut row = vec![name.to_owned()];
            row.extend(ms.iter().map(|ms| format!("{ms:.3}")));
            Some(row)
        });
        let rows: Vec<Vec<String>> = rows.collect();
        if !rows.is_empty() {
            blocks.push(Block::Table {
                columns: &[
                    "LATENCY-MS",
                    "MEAN",
                    "P50",
                    "P90",
                    "P95",
                    "P99",
                    "P99.9",
                    "P99.99",
                    "MAX",
                ],
                rows,
            });
        }
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_milliseconds() {
        let mut latencies = Latencies::new().unwrap();
        assert!(latencies.percentiles().is_none());
        for ms in 1..=1000 {
            latencies.record(Duration::from_millis(ms));
        }
        let found = latencies.percentiles().unwrap();
        assert_eq!(found.samples, 1000);
        let near = |value: f64, wanted: f64| (value - wanted).abs() <= wanted / 500.0;
        assert!(
            near(found.p50, 500.0) && near(found.p99, 990.0) && near(found.max, 1000.0),
            "{found:?}"
        );
        let rate = Throughput::of(1000, 2_000_000, Duration::from_secs(2));
        assert!(near(rate.records_per_s, 500.0) && near(rate.mb_per_s, 1.0));
    }
}
