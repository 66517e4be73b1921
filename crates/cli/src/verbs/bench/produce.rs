//! `strom bench produce`.

use std::cell::RefCell;
use std::time::Duration;

use clap::Args;
use futures::FutureExt;
use futures::future::try_join_all;
use serde::Serialize;
use strom_records::{Codec, Compression, NewRecord};
use tokio::time::{Instant, sleep_until};

use super::BenchTopic;
use super::payload::Payload;
use super::report::{Latencies, Report, Throughput};
use crate::args::{Connect, Size, Span};
use crate::datetime::Timestamp;
use crate::exit::Error;
use crate::interrupt::Interrupts;
use crate::kafka::KafkaError;
use crate::kafka::producer::{Delivered, Producer, ProducerSettings};
use crate::output::Output;
use crate::progress::Progress;
use crate::verbs::produce::{Acks, codec};

/// Records pushed between two looks at replies.
const BURST: usize = 64;

/// Measure producing: rate, and latency from when a record is due until it is acknowledged
#[derive(Args, Clone, Debug)]
pub(crate) struct ProduceArgs {
    #[command(flatten)]
    topic: BenchTopic,
    /// Stop after this many records
    #[arg(
        long,
        short = 'n',
        visible_alias = "num-records",
        value_name = "N",
        default_value_t = 1_000_000
    )]
    records: u64,
    /// Stop after this long, if that is sooner
    #[arg(long, short, value_name = "TIME")]
    duration: Option<Span>,
    /// Bytes of each value
    #[arg(long, short = 's', value_name = "BYTES", default_value = "1k")]
    record_size: Size,
    /// Records per second, over all producers [default: as many as go]
    #[arg(long, visible_alias = "throughput", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Producers, each with its own connections
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1024))]
    producers: u64,
    #[command(flatten)]
    how: ProducerFlags,
}

/// How to produce
#[derive(Args, Clone, Debug)]
pub(super) struct ProducerFlags {
    /// Who must have the records before they count as written
    #[arg(long, short, value_enum, default_value = "all")]
    acks: Acks,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, short = 'z', visible_alias = "compression-codec", value_name = "CODEC", default_value = "none",
        value_parser = codec)]
    compression: Codec,
    /// Send a batch at this size, before compression
    #[arg(long, value_name = "BYTES", default_value = "64k")]
    batch_size: Size,
    /// Send a smaller batch after this long
    #[arg(long, visible_alias = "linger-ms", value_name = "TIME", default_value = "5ms")]
    linger: Span,
    /// Produce requests per broker that may wait for their reply
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    requests_in_flight: u16,
    /// Bytes that may wait for their acknowledgement, per producer
    #[arg(long, value_name = "BYTES", default_value = "32m")]
    buffer: Size,
    /// Produce without idempotence also with acks=all
    #[arg(long)]
    no_idempotence: bool,
}

impl ProducerFlags {
    pub(super) fn settings(&self, delivery_timeout: Duration) -> ProducerSettings {
        ProducerSettings {
            acks: self.acks.wire(),
            compression: Compression::of(self.compression),
            batch_bytes: self.batch_size.0,
            linger: self.linger.0,
            requests_in_flight: usize::from(self.requests_in_flight),
            idempotent: self.acks == Acks::All && !self.no_idempotence,
            delivery_timeout,
        }
    }
}

#[derive(Serialize)]
struct Settings {
    acks: i16,
    compression: &'static str,
    record_size: usize,
    batch_size: usize,
    linger_ms: u64,
    requests_in_flight: usize,
    idempotent: bool,
    producers: u64,
    rate: Option<u64>,
    partitions: usize,
}

/// What has been acknowledged so far, by all producers.
struct Tally<'o> {
    records: u64,
    bytes: u64,
    last_ack: Instant,
    latencies: Latencies,
    progress: Progress,
    output: &'o mut Output,
}

impl Tally<'_> {
    fn add(&mut self, batch: &Delivered) {
        let (records, bytes) = (batch.stamps.len() as u64, batch.payload_bytes as u64);
        self.records += records;
        self.bytes += bytes;
        self.last_ack = batch.acked;
        for stamp in &batch.stamps {
            self.latencies
                .record(batch.acked.saturating_duration_since(*stamp));
        }
        self.progress.add(records, bytes, self.output);
    }
}

pub(super) async fn run(args: &ProduceArgs, connect: &Connect, output: &mut Output) -> Result<(), Error> {
    let client = connect.client();
    args.topic.ensure(&client).await?;
    let settings = args.how.settings(connect.timeout());
    let starts = (0..args.producers).map(|_| Producer::start(&client, &args.topic.topic, settings.clone()));
    let producers = try_join_all(starts).await?;
    let partitions = producers.first().map_or(0, Producer::partition_count);
    let mut interrupts = Interrupts::listen()?;
    let begun = Instant::now();
    let total = args.duration.is_none().then_some(args.records);
    let tally = RefCell::new(Tally {
        records: 0,
        bytes: 0,
        last_ack: begun,
        latencies: Latencies::new()?,
        progress: Progress::new("produced", total, output),
        output,
    });
    let load = producers.into_iter().zip(0..).map(|(producer, index)| {
        let pace = Pace::of(args, index, begun);
        drive(producer, pace, args, &tally)
    });
    tokio::select! {
        result = try_join_all(load) => { result?; }
        () = interrupts.recv() => {}
    }
    let done = tally.into_inner();
    done.progress.finish();
    let throughput = Throughput::of(
        done.records,
        done.bytes,
        done.last_ack.saturating_duration_since(begun),
    );
    let shown = shown(args, &settings, partitions);
    let mut report = Report::new("produce", connect.servers(), &args.topic.topic, shown, throughput);
    // With acks=0 nothing is acknowledged.
    report.ack_latency_ms = if settings.acks == 0 {
        None
    } else {
        done.latencies.percentiles()
    };
    done.output.show(&report)
}

fn shown(args: &ProduceArgs, settings: &ProducerSettings, partitions: usize) -> Settings {
    Settings {
        acks: settings.acks,
        compression: settings.compression.codec.name(),
        record_size: args.record_size.0,
        batch_size: settings.batch_bytes,
        linger_ms: u64::try_from(settings.linger.as_millis()).unwrap_or(u64::MAX),
        requests_in_flight: settings.requests_in_flight,
        idempotent: settings.idempotent,
        producers: args.producers,
        rate: args.rate,
        partitions,
    }
}

/// When one producer's records are due, and when it is done.
struct Pace {
    begun: Instant,
    end: Option<Instant>,
    left: u64,
    sent: u64,
    /// Between two records; zero = as fast as goes.
    gap: Duration,
    offset: Duration,
}

impl Pace {
    /// The share of producer `index`; with a rate, the producers take turns.
    fn of(args: &ProduceArgs, index: u64, begun: Instant) -> Self {
        let (count, producers) = (args.records, args.producers);
        let nanos = |records: u64| {
            args.rate
                .map_or(0, |rate| records.saturating_mul(1_000_000_000) / rate)
        };
        Self {
            begun,
            end: args.duration.map(|Span(duration)| begun + duration),
            left: count / producers + u64::from(index < count % producers),
            sent: 0,
            gap: Duration::from_nanos(nanos(producers)),
            offset: Duration::from_nanos(nanos(index)),
        }
    }

    fn next_due(&self) -> Option<Instant> {
        if self.left == 0 {
            return None;
        }
        let due = if self.gap.is_zero() {
            Instant::now()
        } else {
            let nanos = self.gap.as_nanos().saturating_mul(u128::from(self.sent));
            self.begun + self.offset + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        };
        self.end.is_none_or(|end| due < end).then_some(due)
    }

    fn take(&mut self) {
        self.left -= 1;
        self.sent += 1;
    }
}

async fn drive(
    mut producer: Producer<'_>,
    mut pace: Pace,
    args: &ProduceArgs,
    tally: &RefCell<Tally<'_>>,
) -> Result<(), KafkaError> {
    let mut payload = Payload::new(args.record_size.0);
    while let Some(due) = pace.next_due() {
        let full = producer.buffered_bytes() >= args.how.buffer.0;
        if due > Instant::now() || full {
            let wait = async {
                if full {
                    std::future::pending::<()>().await;
                } else {
                    sleep_until(due).await;
                }
            };
            tokio::select! {
                batches = producer.poll() => add_all(&batches?, tally),
                () = wait => {}
            }
            continue;
        }
        push_burst(&mut producer, &mut pace, &mut payload)?;
        tokio::task::yield_now().await;
        if let Some(batches) = producer.poll().now_or_never() {
            add_all(&batches?, tally);
        }
    }
    producer.flush(|batch| tally.borrow_mut().add(&batch)).await
}

fn push_burst(producer: &mut Producer<'_>, pace: &mut Pace, payload: &mut Payload) -> Result<(), KafkaError> {
    let timestamp = Timestamp::now().0;
    for _ in 0..BURST {
        let Some(due) = pace.next_due().filter(|&due| due <= Instant::now()) else {
            break;
        };
        let record = NewRecord {
            timestamp,
            value: Some(payload.next()),
            ..Default::default()
        };
        producer.push(producer.choose(None), &record, due)?;
        pace.take();
    }
    Ok(())
}

fn add_all(batches: &[Delivered], tally: &RefCell<Tally<'_>>) {
    batches.iter().for_each(|batch| tally.borrow_mut().add(batch));
}
