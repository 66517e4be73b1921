//! `strom produce`: lines of standard input become records.

mod line;
mod summary;

use std::io;

use clap::{Args, ValueEnum};
use futures::FutureExt;
use strom_records::{Codec, Compression, NewRecord};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::line::{parse, read_lines};
use self::summary::{Summary, Tally};
use crate::args::{Connect, Pair, Size, Span, TopicName};
use crate::datetime::Timestamp;
use crate::exit::Error;
use crate::kafka::producer::{Delivered, Producer, ProducerSettings};
use crate::output::{Block, Format, Output, View};
use crate::progress::Progress;

/// Unacknowledged bytes beyond which no more input is read.
const BUFFER_BYTES: usize = 32 << 20;

/// Write records: each line of standard input is one
#[derive(Args, Clone, Debug)]
pub struct ProduceArgs {
    #[command(flatten)]
    topic: TopicName,
    /// Write to this partition [default: by key as Java's client does, else whole batches in turn]
    #[arg(long, short, value_name = "N")]
    partition: Option<i32>,
    /// What stands between key and value on a line; without it, lines are values
    #[arg(long, short = 'K', value_name = "TEXT", conflicts_with_all = ["key", "json"])]
    key_separator: Option<String>,
    /// The key of every record
    #[arg(long, short, value_name = "TEXT")]
    key: Option<String>,
    /// A header of every record; may be repeated
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE")]
    headers: Vec<Pair>,
    /// Lines are JSON: {"key":…, "value":…, "headers":{…}, "partition":…, "timestamp":…}, all optional, as
    /// `consume --json` prints them; a null value is a tombstone, one that is no string is written as JSON
    #[arg(long, short = 'J')]
    json: bool,
    /// An empty value is a tombstone (null)
    #[arg(long, short = 'Z')]
    null_if_empty: bool,
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
    #[arg(
        long,
        visible_alias = "linger-ms",
        value_name = "TIME",
        default_value = "10ms"
    )]
    linger: Span,
    /// Let retries make duplicates; without it, acks=all drops them (idempotence)
    #[arg(long)]
    no_idempotence: bool,
    #[command(flatten)]
    connect: Connect,
}

/// Who must have a record before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Acks {
    /// Nobody
    #[value(name = "0")]
    None,
    /// The leader
    #[value(name = "1")]
    Leader,
    /// Every in-sync replica
    #[value(name = "all", alias = "-1")]
    All,
}

impl Acks {
    pub(crate) fn wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

pub(crate) fn codec(name: &str) -> Result<Codec, String> {
    Codec::from_name(name).ok_or_else(|| format!("{name:?}: expected none, gzip, snappy, lz4 or zstd"))
}

pub(crate) async fn run(args: ProduceArgs, output: &mut Output) -> Result<(), Error> {
    let lines = read_lines(output.take_input());
    produce(args, lines, output).await
}

async fn produce(
    args: ProduceArgs,
    mut lines: mpsc::Receiver<io::Result<Vec<u8>>>,
    output: &mut Output,
) -> Result<(), Error> {
    args.connect.apply(output);
    let client = args.connect.client();
    let begun = Instant::now();
    let mut producer = Producer::start(&client, args.topic.get(), settings(&args)).await?;
    if let Some(lacking) = args
        .partition
        .filter(|&partition| !producer.has_partition(partition))
    {
        return Err(no_partition(lacking, &args, &producer));
    }
    let (mut tally, mut progress) = (Tally::default(), Progress::new("produced", None, output));
    let mut number = 0_u64;
    let pumped = pump(&args, &mut lines, &mut producer, &mut number, &mut |batch| {
        let (records, bytes) = tally.add(&batch);
        progress.add(records, bytes, output);
    })
    .await;
    progress.finish();
    if let Err(error) = pumped {
        output.note(&format!(
            "{} of {number} records were written before this:",
            tally.records
        ));
        return Err(error);
    }
    let summary = Summary {
        topic: args.topic.get().to_owned(),
        records: tally.records,
        bytes: tally.bytes,
        elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        partitions: tally.partitions.into_values().collect(),
    };
    // For people this is chatter; for programs it is the result.
    match output.format {
        Format::Json => output.show(&summary),
        Format::Table => {
            for block in summary.blocks() {
                if let Block::Line(line) = block {
                    output.note(&line);
                }
            }
            Ok(())
        }
    }
}

fn settings(args: &ProduceArgs) -> ProducerSettings {
    ProducerSettings {
        acks: args.acks.wire(),
        compression: Compression::of(args.compression),
        batch_bytes: args.batch_size.0,
        linger: args.linger.0,
        requests_in_flight: 5,
        idempotent: args.acks == Acks::All && !args.no_idempotence,
        delivery_timeout: args.connect.timeout(),
    }
}

fn no_partition(partition: i32, args: &ProduceArgs, producer: &Producer<'_>) -> Error {
    let topic = args.topic.get();
    Error::Usage(format!(
        "topic {topic} has no partition {partition}; it has {}",
        producer.partition_count()
    ))
}

/// Moves lines into the producer until they end, then waits for the last acknowledgement. A bad line ends the input;
/// what came before it is still delivered.
async fn pump(
    args: &ProduceArgs,
    lines: &mut mpsc::Receiver<io::Result<Vec<u8>>>,
    producer: &mut Producer<'_>,
    number: &mut u64,
    delivered: &mut impl FnMut(Delivered),
) -> Result<(), Error> {
    let mut failure = None;
    loop {
        tokio::select! {
            biased;
            line = lines.recv(), if producer.buffered_bytes() < BUFFER_BYTES => {
                let Some(line) = line else { break };
                let line = match line {
                    Ok(line) => line,
                    Err(source) => {
                        failure = Some(Error::Input { what: "cannot read the input".to_owned(), source });
                        break;
                    }
                };
                if let Err(error) = push(args, line, producer, *number + 1) {
                    failure = Some(error);
                    break;
                }
                *number += 1;
                // With input always at hand, replies still get their turn.
                if (*number).is_multiple_of(64) {
                    tokio::task::yield_now().await;
                    if let Some(batches) = producer.poll().now_or_never() {
                        batches?.into_iter().for_each(&mut *delivered);
                    }
                }
            }
            batches = producer.poll() => batches?.into_iter().for_each(&mut *delivered),
        }
    }
    producer.flush(delivered).await?;
    failure.map_or(Ok(()), Err)
}

fn push(args: &ProduceArgs, line: Vec<u8>, producer: &mut Producer<'_>, number: u64) -> Result<(), Error> {
    let record = parse(line, args).map_err(|error| Error::Usage(format!("line {number}: {error}")))?;
    let partition = record
        .partition
        .unwrap_or_else(|| producer.choose(record.key.as_deref()));
    if !producer.has_partition(partition) {
        let Error::Usage(message) = no_partition(partition, args, producer) else {
            return Ok(());
        };
        return Err(Error::Usage(format!("line {number}: {message}")));
    }
    let headers: Vec<(&[u8], Option<&[u8]>)> = record
        .headers
        .iter()
        .map(|(name, value)| (name.as_slice(), value.as_deref()))
        .collect();
    let new = NewRecord {
        timestamp: record.timestamp.unwrap_or_else(|| Timestamp::now().0),
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: &headers,
    };
    producer
        .push(partition, &new, Instant::now())
        .map_err(Error::from)
}
