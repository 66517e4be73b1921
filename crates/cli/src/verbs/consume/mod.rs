//! `strom consume`: prints records, alone or as a member of a group.

mod format;
mod group;
mod start;

use std::collections::BTreeSet;
use std::time::Duration;

use clap::{Args, ValueEnum};
use strom_records::MAX_DECOMPRESSED_BYTES;
use strom_types::{ErrorCode, Offset};

use self::format::{Template, write_json};
use self::start::Start;
use crate::args::{Connect, TopicNames};
use crate::exit::Error;
use crate::interrupt::Interrupts;
use crate::kafka::fetch::{FetchSettings, Fetched, Fetcher};
use crate::kafka::offsets::{EARLIEST, LATEST, Offsets, Wanted};
use crate::kafka::{Client, KafkaError, TopicPartition};
use crate::output::{Format, Output};

/// Print records, alone or as a member of a group
///
/// Alone, it reads all partitions (or those named) and commits nothing. With --group it joins that group as an
/// ordinary member of a classic group with the range assignor, shares the partitions with the other members, goes on
/// at the committed offsets, and commits what it has printed every 5 s and at the end.
#[derive(Args, Clone, Debug)]
pub struct ConsumeArgs {
    #[command(flatten)]
    topics: TopicNames,
    /// Only these partitions
    #[arg(
        long = "partition",
        short,
        value_name = "N",
        value_delimiter = ',',
        conflicts_with = "group"
    )]
    partitions: Vec<i32>,
    /// Where to begin: start, end, an offset, -N (the last N), @TIME (2026-01-31T08:30:00Z or milliseconds);
    /// with --group, where nothing is committed
    #[arg(
        long,
        visible_alias = "offset",
        value_name = "WHERE",
        default_value = "start",
        allow_hyphen_values = true
    )]
    from: Start,
    /// The same as --from start
    #[arg(long, conflicts_with = "from")]
    from_beginning: bool,
    /// Stop at the end that the partitions had when it began, instead of waiting for more
    #[arg(long, short = 'e')]
    exit_at_end: bool,
    /// Wait for more at the end (the default)
    #[arg(long, conflicts_with = "exit_at_end")]
    follow: bool,
    /// Stop after this many records
    #[arg(long, short = 'n', visible_alias = "count", value_name = "N")]
    max_messages: Option<u64>,
    /// Join this group and commit
    #[arg(long, short, value_name = "GROUP")]
    group: Option<String>,
    /// With --group: commit nothing
    #[arg(long, requires = "group")]
    no_commit: bool,
    /// Whether records of open and aborted transactions are shown
    #[arg(
        long,
        visible_alias = "isolation-level",
        value_enum,
        default_value = "read_uncommitted"
    )]
    isolation: Isolation,
    /// How to print a record: %t topic, %p partition, %o offset, %k key, %s value, %h headers, %T milliseconds,
    /// %D time, %K, %S, %R lengths of key, value, key and value; \n \t \0 \xHH; %% a percent sign
    #[arg(long, short, value_name = "FORMAT", default_value = "%s\\n")]
    format: Template,
    /// Print records as JSON, one a line (the same as -o json)
    #[arg(long, short = 'J')]
    json: bool,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Isolation {
    #[value(name = "read_uncommitted", alias = "read-uncommitted")]
    ReadUncommitted,
    #[value(name = "read_committed", alias = "read-committed")]
    ReadCommitted,
}

impl ConsumeArgs {
    fn read_committed(&self) -> bool {
        self.isolation == Isolation::ReadCommitted
    }

    fn begin(&self) -> Start {
        if self.from_beginning {
            Start::Earliest
        } else {
            self.from
        }
    }
}

pub(crate) async fn run(mut args: ConsumeArgs, output: &mut Output) -> Result<(), Error> {
    args.connect.apply(output);
    args.json |= output.format == Format::Json;
    let client = args.connect.client();
    match &args.group {
        Some(group) => group::run(&args, group, &client, output).await,
        None => alone(&args, &client, output).await,
    }
}

/// Prints what is fetched and keeps count of what has been printed.
struct Printer<'a> {
    args: &'a ConsumeArgs,
    /// The offset after the last record printed.
    printed: Offsets,
    /// Where to stop; partitions that have got there are left out.
    ends: Option<Offsets>,
    count: u64,
}

impl<'a> Printer<'a> {
    fn new(args: &'a ConsumeArgs) -> Self {
        Self {
            args,
            printed: Offsets::new(),
            ends: None,
            count: 0,
        }
    }

    fn is_done(&self) -> bool {
        let enough = self.args.max_messages.is_some_and(|max| self.count >= max);
        enough || self.ends.as_ref().is_some_and(Offsets::is_empty)
    }

    fn print(&mut self, fetched: &Fetched, output: &mut Output) -> Result<(), Error> {
        for batch in &fetched.batches {
            let unreadable = |error: strom_records::RecordError| {
                KafkaError::Records(
                    format!("{} at offset {}", fetched.key, batch.header.base_offset),
                    error.to_string(),
                )
            };
            for record in batch.records(MAX_DECOMPRESSED_BYTES).map_err(unreadable)? {
                let record = record.map_err(unreadable)?;
                if record.offset < fetched.from || self.is_past_end(&fetched.key, record.offset) {
                    continue;
                }
                if self.is_done() {
                    return Ok(());
                }
                if self.args.json {
                    write_json(output, &fetched.key, &record)?;
                } else {
                    self.args.format.write(output, &fetched.key, &record)?;
                }
                self.count += 1;
                self.printed
                    .insert(fetched.key.clone(), record.offset.saturating_add(1));
            }
        }
        Ok(())
    }

    fn is_past_end(&self, key: &TopicPartition, offset: Offset) -> bool {
        self.ends
            .as_ref()
            .is_some_and(|ends| ends.get(key).is_none_or(|&end| offset >= end))
    }

    /// Lets go of partitions that have been read to their end.
    fn drop_finished(&mut self, fetcher: &mut Fetcher<'_>) {
        let Some(ends) = &mut self.ends else { return };
        let positions = fetcher.positions();
        let finished = |key: &TopicPartition, end: Offset| positions.get(key).is_none_or(|&at| at >= end);
        let done: BTreeSet<TopicPartition> = ends
            .iter()
            .filter(|(key, end)| finished(key, **end))
            .map(|(key, _)| key.clone())
            .collect();
        for key in done {
            ends.remove(&key);
            fetcher.remove(&key);
        }
    }
}

fn fetcher<'a>(args: &ConsumeArgs, client: &'a Client) -> Fetcher<'a> {
    // With -e, an empty reply should come soon: the end may be a transaction marker.
    let max_wait = Duration::from_millis(if args.exit_at_end { 100 } else { 500 });
    Fetcher::new(
        client,
        FetchSettings {
            read_committed: args.read_committed(),
            max_wait,
            ..Default::default()
        },
    )
}

async fn ends_of(
    args: &ConsumeArgs,
    keys: &[TopicPartition],
    client: &Client,
) -> Result<Option<Offsets>, KafkaError> {
    if !args.exit_at_end {
        return Ok(None);
    }
    let wanted: Wanted = keys.iter().map(|key| (key.clone(), LATEST)).collect();
    client
        .list_offsets(&wanted, args.read_committed())
        .await
        .map(Some)
}

async fn alone(args: &ConsumeArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let keys = chosen(args, client).await?;
    let positions = args.begin().resolve(&keys, args.read_committed(), client).await?;
    let mut printer = Printer::new(args);
    printer.ends = ends_of(args, &keys, client).await?;
    let mut fetcher = fetcher(args, client);
    fetcher.assign(positions);
    printer.drop_finished(&mut fetcher);
    let mut interrupts = Interrupts::listen()?;
    while !printer.is_done() {
        let fetched = tokio::select! {
            fetched = fetcher.next() => fetched,
            () = interrupts.recv() => break,
        };
        match fetched {
            Ok(parts) => {
                for part in &parts {
                    printer.print(part, output)?;
                }
                output.flush()?;
                printer.drop_finished(&mut fetcher);
            }
            Err(error) if error.code() == Some(ErrorCode::OffsetOutOfRange) => {
                start_over(args, client, &mut fetcher, output).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    output.flush()
}

/// All partitions of the topics, or those named.
async fn chosen(args: &ConsumeArgs, client: &Client) -> Result<Vec<TopicPartition>, Error> {
    let mut keys = Vec::new();
    for topic in client.topics(&args.topics.list()).await? {
        if let Some(lacking) = args.partitions.iter().find(|p| !topic.partitions.contains_key(p)) {
            let count = topic.partitions.len();
            return Err(Error::Usage(format!(
                "topic {} has no partition {lacking}; it has {count}",
                topic.name
            )));
        }
        keys.extend(
            topic
                .keys()
                .filter(|key| args.partitions.is_empty() || args.partitions.contains(&key.partition)),
        );
    }
    Ok(keys)
}

/// Records were deleted below a position (retention), or the log was cut above it: go on at the nearest offset that
/// exists, and say so. An offset that was asked for by number is an error instead.
async fn start_over(
    args: &ConsumeArgs,
    client: &Client,
    fetcher: &mut Fetcher<'_>,
    output: &mut Output,
) -> Result<(), Error> {
    let positions = fetcher.positions().clone();
    let at = |timestamp| {
        positions
            .keys()
            .map(|key| (key.clone(), timestamp))
            .collect::<Wanted>()
    };
    let starts = client.list_offsets(&at(EARLIEST), false).await?;
    let ends = client.list_offsets(&at(LATEST), false).await?;
    for (key, &offset) in &positions {
        let (start, end) = (
            starts.get(key).copied().unwrap_or(0),
            ends.get(key).copied().unwrap_or(0),
        );
        if (start..=end).contains(&offset) {
            continue;
        }
        if let Start::Offset(asked) = args.begin()
            && asked == offset
        {
            let message = format!("{key} has no offset {offset}: it begins at {start} and ends at {end}");
            return Err(Error::failed(message, "--from start, or an offset in between"));
        }
        let nearest = offset.clamp(start, end.max(start));
        output.note(&format!("{key}: offset {offset} is gone, going on at {nearest}"));
        fetcher.seek(key, nearest);
    }
    Ok(())
}
