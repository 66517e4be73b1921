//! Error codes of answers by API, as Kafka counts them: those without an error, too. One counter per pair, found by
//! its place: nothing is looked up or formatted per request.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use strom_kafka_codec::{ApiKey, Response};
use strom_types::ErrorCode;

/// Kafka's codes from -1 on; 133 is the last one in 4.3.
const CODES: usize = 160;

type Row = [AtomicU64; CODES];

pub(super) struct Errors {
    /// By API key; made when the API is first answered.
    rows: Vec<OnceLock<Box<Row>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    request: &'static str,
    error: &'static str,
}

impl Errors {
    pub(super) fn new() -> Self {
        Errors {
            rows: ApiKey::ALL.iter().map(|_| OnceLock::new()).collect(),
        }
    }

    /// Counts the codes of one answer, each run of equal ones at once.
    pub(super) fn count<R: Response>(&self, response: &R) {
        let index = usize::try_from(R::KEY.as_i16()).ok();
        let Some(row) = index.and_then(|index| self.rows.get(index)) else {
            return;
        };
        let row = row.get_or_init(|| Box::new(std::array::from_fn(|_| AtomicU64::new(0))));
        let mut run = (0, 0);
        response.error_codes(&mut |code| {
            if run.0 != code {
                add(row, run);
                run = (code, 0);
            }
            run.1 += 1;
        });
        add(row, run);
    }

    fn counted(&self) -> impl Iterator<Item = (Labels, u64)> {
        let rows = ApiKey::ALL.iter().zip(&self.rows);
        let rows = rows.filter_map(|(key, row)| Some((*key, row.get()?)));
        rows.flat_map(|(key, row)| {
            row.iter().zip(-1..).filter_map(move |(counter, code)| {
                let count = counter.load(Relaxed);
                let error = ErrorCode::try_from(code).ok().filter(|_| count > 0)?;
                let labels = Labels {
                    request: key.name(),
                    error: error.name(),
                };
                Some((labels, count))
            })
        })
    }
}

fn add(row: &Row, (code, count): (i16, u64)) {
    let place = usize::try_from(i32::from(code) + 1).ok();
    if let Some(counter) = place.and_then(|place| row.get(place)).filter(|_| count > 0) {
        counter.fetch_add(count, Relaxed);
    }
}

impl fmt::Debug for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Errors")
    }
}

/// Encodes the counters when they are asked for.
#[derive(Debug)]
pub(super) struct Scraped(pub(super) std::sync::Arc<Errors>);

impl Collector for Scraped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut encoder = encoder.encode_descriptor(
            "kafka_network_requestmetrics_errors",
            "Error codes answered, by API; NONE among them",
            None,
            MetricType::Counter,
        )?;
        for (labels, count) in self.0.counted() {
            ConstCounter::new(count).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use strom_kafka_codec::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
    use strom_kafka_codec::messages::{HeartbeatResponse, MetadataResponse};

    use super::*;

    #[test]
    fn every_code_of_an_answer_counts() {
        let errors = Errors::new();
        let partition = |error_code| MetadataResponsePartition {
            error_code,
            ..Default::default()
        };
        let topic = |error_code, partitions| MetadataResponseTopic {
            error_code,
            partitions,
            ..Default::default()
        };
        errors.count(&MetadataResponse {
            topics: vec![
                topic(0, vec![partition(0), partition(5), partition(5), partition(0)]),
                topic(3, vec![]),
            ],
            ..Default::default()
        });
        for error_code in [0, -1, 30_000, i16::MIN] {
            errors.count(&HeartbeatResponse {
                error_code,
                ..Default::default()
            });
        }
        let mut counted: Vec<_> = errors
            .counted()
            .map(|(labels, count)| (labels.request, labels.error, count))
            .collect();
        counted.sort_unstable();
        assert_eq!(
            counted,
            [
                ("Heartbeat", "NONE", 1),
                ("Heartbeat", "UNKNOWN_SERVER_ERROR", 1),
                ("Metadata", "LEADER_NOT_AVAILABLE", 2),
                // The request's own, a topic's and two partitions'.
                ("Metadata", "NONE", 4),
                ("Metadata", "UNKNOWN_TOPIC_OR_PARTITION", 1),
            ]
        );
    }

    #[test]
    fn there_is_room_for_every_code() {
        let errors = Errors::new();
        let known = ErrorCode::ALL.iter().filter_map(|code| code.kafka_code());
        let codes: std::collections::BTreeSet<i16> = known.collect();
        for &error_code in &codes {
            errors.count(&HeartbeatResponse {
                error_code,
                ..Default::default()
            });
        }
        assert_eq!(errors.counted().count(), codes.len());
    }
}
