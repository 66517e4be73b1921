//! `strom bench latency`: from when a record is due until it is acknowledged, and until a consumer has it.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use strom_records::{MAX_DECOMPRESSED_BYTES, NewRecord};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::BenchTopic;
use super::payload::Payload;
use super::produce::ProducerFlags;
use super::report::{Latencies, Report, Throughput};
use crate::args::{Connect, Size, Span};
use crate::datetime::Timestamp;
use crate::exit::Error;
use crate::interrupt::Interrupts;
use crate::kafka::fetch::{FetchSettings, Fetched, Fetcher};
use crate::kafka::offsets::{LATEST, Wanted};
use crate::kafka::producer::{Delivered, Producer};
use crate::kafka::{Client, KafkaError};
use crate::output::Output;
use crate::progress::Progress;

/// A record's mark: the run it belongs to and its number.
const MARK_BYTES: usize = 24;

/// Measure latency at a steady rate, to the acknowledgement and end to end; a record that is sent late counts from
/// when it was due
#[derive(Args, Clone, Debug)]
pub(crate) struct LatencyArgs {
    #[command(flatten)]
    topic: BenchTopic,
    /// Records per second
    #[arg(long, visible_alias = "throughput", value_name = "N", default_value_t = 1000,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// How long to measure, after the warm-up
    #[arg(long, short, value_name = "TIME", default_value = "10s")]
    duration: Span,
    /// How long to run before that
    #[arg(long, value_name = "TIME", default_value = "2s")]
    warmup: Span,
    /// Bytes of each value, at least 24
    #[arg(long, short = 's', value_name = "BYTES", default_value = "1k")]
    record_size: Size,
    #[command(flatten)]
    how: ProducerFlags,
}

#[derive(Serialize)]
struct Settings {
    rate: u64,
    acks: i16,
    compression: &'static str,
    record_size: usize,
    linger_ms: u64,
    warmup_ms: u64,
    partitions: usize,
}

/// The run: which records there are, and what has been seen of them.
struct Course {
    id: Uuid,
    begun: Instant,
    warm_from: Instant,
    rate: u64,
    total: u64,
    sent: u64,
    consumed: u64,
    measured: u64,
    measured_bytes: u64,
    acks: Latencies,
    end_to_end: Latencies,
}

impl Course {
    fn due(&self, number: u64) -> Instant {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.rate);
        self.begun + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn is_complete(&self) -> bool {
        self.consumed >= self.total
    }

    fn acknowledged(&mut self, batch: &Delivered) {
        for stamp in batch.stamps.iter().filter(|&&stamp| stamp >= self.warm_from) {
            self.acks.record(batch.acked.saturating_duration_since(*stamp));
        }
    }

    /// Counts the records of this run in what was fetched.
    fn received(&mut self, fetched: &Fetched, now: Instant) -> Result<u64, KafkaError> {
        let before = self.consumed;
        let unreadable = |error: strom_records::RecordError| {
            KafkaError::Records(fetched.key.to_string(), error.to_string())
        };
        for batch in &fetched.batches {
            for record in batch.records(MAX_DECOMPRESSED_BYTES).map_err(unreadable)? {
                let value = record.map_err(unreadable)?.value.unwrap_or_default();
                let Some(number) = self.number_of(&value) else {
                    continue;
                };
                self.consumed += 1;
                let due = self.due(number);
                if due >= self.warm_from {
                    self.measured += 1;
                    self.measured_bytes += value.len() as u64;
                    self.end_to_end.record(now.saturating_duration_since(due));
                }
            }
        }
        Ok(self.consumed - before)
    }

    fn number_of(&self, value: &[u8]) -> Option<u64> {
        let rest = value.strip_prefix(self.id.as_bytes().as_slice())?;
        rest.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
    }
}

pub(super) async fn run(args: &LatencyArgs, connect: &Connect, output: &mut Output) -> Result<(), Error> {
    if args.record_size.0 < MARK_BYTES {
        return Err(Error::Usage(format!(
            "--record-size: at least {MARK_BYTES} bytes"
        )));
    }
    let client = connect.client();
    args.topic.ensure(&client).await?;
    let settings = args.how.settings(connect.timeout());
    let mut producer = Producer::start(&client, &args.topic.topic, settings.clone()).await?;
    let mut fetcher = tail(&args.topic.topic, &client).await?;
    let millis = |span: Span| u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX);
    let total = args
        .rate
        .saturating_mul(millis(args.duration).saturating_add(millis(args.warmup)))
        / 1000;
    let begun = Instant::now();
    let mut course = Course {
        id: Uuid::new_v4(),
        begun,
        warm_from: begun + args.warmup.0,
        rate: args.rate,
        total,
        sent: 0,
        consumed: 0,
        measured: 0,
        measured_bytes: 0,
        acks: Latencies::new()?,
        end_to_end: Latencies::new()?,
    };
    follow(
        &mut course,
        &mut producer,
        &mut fetcher,
        args,
        connect.timeout(),
        output,
    )
    .await?;
    let shown = Settings {
        rate: args.rate,
        acks: settings.acks,
        compression: settings.compression.codec.name(),
        record_size: args.record_size.0,
        linger_ms: u64::try_from(settings.linger.as_millis()).unwrap_or(u64::MAX),
        warmup_ms: millis(args.warmup),
        partitions: producer.partition_count(),
    };
    let elapsed = Instant::now().saturating_duration_since(course.warm_from);
    let throughput = Throughput::of(course.measured, course.measured_bytes, elapsed);
    let mut report = Report::new("latency", connect.servers(), &args.topic.topic, shown, throughput);
    report.ack_latency_ms = if settings.acks == 0 {
        None
    } else {
        course.acks.percentiles()
    };
    report.end_to_end_latency_ms = course.end_to_end.percentiles();
    output.show(&report)
}

/// A fetcher at the topic's present end.
async fn tail<'a>(topic: &str, client: &'a Client) -> Result<Fetcher<'a>, KafkaError> {
    let keys = client.topic(topic).await?;
    let wanted: Wanted = keys.keys().map(|key| (key, LATEST)).collect();
    let mut fetcher = Fetcher::new(client, FetchSettings::default());
    fetcher.assign(client.list_offsets(&wanted, false).await?);
    Ok(fetcher)
}

async fn follow(
    course: &mut Course,
    producer: &mut Producer<'_>,
    fetcher: &mut Fetcher<'_>,
    args: &LatencyArgs,
    patience: Duration,
    output: &mut Output,
) -> Result<(), Error> {
    let mut payload = Payload::new(args.record_size.0 - MARK_BYTES);
    let mut progress = Progress::new("carried", Some(course.total), output);
    let mut interrupts = Interrupts::listen()?;
    let give_up = course.due(course.total) + patience;
    while !course.is_complete() {
        let due = course.due(course.sent);
        tokio::select! {
            fetched = fetcher.next() => {
                let now = Instant::now();
                for part in &fetched? {
                    let count = course.received(part, now)?;
                    progress.add(count, count * args.record_size.0 as u64, output);
                }
            }
            batches = producer.poll() => batches?.iter().for_each(|batch| course.acknowledged(batch)),
            () = sleep_until(due), if course.sent < course.total => {
                send_due(course, producer, &mut payload)?;
            }
            () = sleep_until(give_up) => {
                let missing = course.total - course.consumed;
                progress.finish();
                return Err(Error::failed(
                    format!("{missing} of {} records did not arrive within {patience:?}", course.total),
                    "a lower --rate, or look at the servers' logs",
                ));
            }
            () = interrupts.recv() => break,
        }
    }
    // The last acknowledgements may come after the records themselves.
    producer.flush(|batch| course.acknowledged(&batch)).await?;
    progress.finish();
    Ok(())
}

fn send_due(
    course: &mut Course,
    producer: &mut Producer<'_>,
    payload: &mut Payload,
) -> Result<(), KafkaError> {
    let timestamp = Timestamp::now().0;
    while course.sent < course.total && course.due(course.sent) <= Instant::now() {
        let mark = course.sent.to_be_bytes();
        let value = [course.id.as_bytes().as_slice(), &mark, payload.next()].concat();
        let record = NewRecord {
            timestamp,
            value: Some(&value),
            ..Default::default()
        };
        // By number, so that every partition is measured.
        let partition = producer.choose(Some(&mark));
        producer.push(partition, &record, course.due(course.sent))?;
        course.sent += 1;
    }
    Ok(())
}
