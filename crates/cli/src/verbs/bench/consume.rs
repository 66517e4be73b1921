//! `strom bench consume`.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use strom_records::MAX_DECOMPRESSED_BYTES;
use tokio::time::{Instant, sleep_until};

use super::report::{Report, Throughput};
use crate::args::{Connect, Size, Span, TopicName};
use crate::exit::Error;
use crate::interrupt::Interrupts;
use crate::kafka::KafkaError;
use crate::kafka::fetch::{FetchSettings, Fetched, Fetcher};
use crate::kafka::offsets::{EARLIEST, LATEST, Offsets, Wanted};
use crate::output::Output;
use crate::progress::Progress;

/// Measure consuming: a topic's records from its start to its present end
#[derive(Args, Clone, Debug)]
pub(crate) struct ConsumeArgs {
    #[command(flatten)]
    topic: TopicName,
    /// Stop after this many records
    #[arg(long, short = 'n', visible_aliases = ["num-records", "messages"], value_name = "N")]
    records: Option<u64>,
    /// Stop after this long
    #[arg(long, short, value_name = "TIME")]
    duration: Option<Span>,
    /// Bytes of one reply at most
    #[arg(
        long,
        visible_alias = "fetch-size",
        value_name = "BYTES",
        default_value = "50m"
    )]
    max_bytes: Size,
    /// Bytes of one partition in a reply at most
    #[arg(long, value_name = "BYTES", default_value = "1m")]
    partition_max_bytes: Size,
    /// Count records by their batch headers, without decompressing and reading them
    #[arg(long)]
    no_decode: bool,
    /// Skip records of open and aborted transactions
    #[arg(long)]
    read_committed: bool,
}

#[derive(Serialize)]
struct Settings {
    max_bytes: usize,
    partition_max_bytes: usize,
    decode: bool,
    read_committed: bool,
    partitions: usize,
}

pub(super) async fn run(args: &ConsumeArgs, connect: &Connect, output: &mut Output) -> Result<(), Error> {
    let client = connect.client();
    let topic = client.topic(args.topic.get()).await?;
    let at = |timestamp: i64| topic.keys().map(|key| (key, timestamp)).collect::<Wanted>();
    let starts = client.list_offsets(&at(EARLIEST), args.read_committed).await?;
    let mut ends = client.list_offsets(&at(LATEST), args.read_committed).await?;
    ends.retain(|key, end| starts.get(key).is_some_and(|start| start < end));
    if ends.is_empty() {
        return Err(Error::failed(
            format!("topic {} is empty", topic.name),
            format!("fill it: strom bench produce --topic {}", topic.name),
        ));
    }
    let mut fetcher = Fetcher::new(&client, fetch_settings(args));
    let begun = Instant::now();
    fetcher.assign(
        starts
            .into_iter()
            .filter(|(key, _)| ends.contains_key(key))
            .collect(),
    );
    let expected: i64 = ends
        .iter()
        .map(|(key, end)| end - fetcher.positions().get(key).unwrap_or(end))
        .sum();
    let total = args.records.or_else(|| u64::try_from(expected).ok());
    let mut progress = Progress::new("consumed", total, output);
    let mut interrupts = Interrupts::listen()?;
    let until = args
        .duration
        .map_or_else(|| begun + Duration::from_secs(86_400), |Span(time)| begun + time);
    let (mut records, mut size) = (0_u64, 0_u64);
    while !ends.is_empty() && args.records.is_none_or(|max| records < max) {
        let fetched = tokio::select! {
            fetched = fetcher.next() => fetched?,
            () = sleep_until(until) => break,
            () = interrupts.recv() => break,
        };
        for part in &fetched {
            let (count, bytes) = count(part, args.no_decode)?;
            records += count;
            size += bytes;
            progress.add(count, bytes, output);
        }
        drop_finished(&mut fetcher, &mut ends);
    }
    progress.finish();
    let shown = Settings {
        max_bytes: args.max_bytes.0,
        partition_max_bytes: args.partition_max_bytes.0,
        decode: !args.no_decode,
        read_committed: args.read_committed,
        partitions: topic.partitions.len(),
    };
    let throughput = Throughput::of(records, size, begun.elapsed());
    output.show(&Report::new(
        "consume",
        connect.servers(),
        &topic.name,
        shown,
        throughput,
    ))
}

fn fetch_settings(args: &ConsumeArgs) -> FetchSettings {
    let bytes = |size: Size| i32::try_from(size.0).unwrap_or(i32::MAX);
    FetchSettings {
        read_committed: args.read_committed,
        max_wait: Duration::from_millis(100),
        max_bytes: bytes(args.max_bytes),
        partition_max_bytes: bytes(args.partition_max_bytes),
    }
}

/// Stops reading the partitions that have got to their end.
fn drop_finished(fetcher: &mut Fetcher<'_>, ends: &mut Offsets) {
    ends.retain(|key, end| fetcher.positions().get(key).is_some_and(|at| at < end));
    let positions = fetcher.positions().keys();
    let finished: Vec<_> = positions.filter(|key| !ends.contains_key(key)).cloned().collect();
    finished.iter().for_each(|key| fetcher.remove(key));
}

/// Records and their bytes; without decoding, the bytes of the batches.
fn count(fetched: &Fetched, headers_only: bool) -> Result<(u64, u64), KafkaError> {
    let (mut records, mut bytes) = (0_u64, 0_u64);
    for batch in &fetched.batches {
        if headers_only {
            records += u64::try_from(batch.header.record_count).unwrap_or(0);
            bytes += batch.bytes.len() as u64;
            continue;
        }
        let unreadable = |error: strom_records::RecordError| {
            KafkaError::Records(fetched.key.to_string(), error.to_string())
        };
        for record in batch.records(MAX_DECOMPRESSED_BYTES).map_err(unreadable)? {
            let record = record.map_err(unreadable)?;
            records += 1;
            let length = |field: &Option<bytes::Bytes>| field.as_ref().map_or(0, |bytes| bytes.len() as u64);
            bytes += length(&record.key) + length(&record.value);
        }
    }
    Ok((records, bytes))
}
