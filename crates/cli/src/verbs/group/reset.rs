//! `strom group reset`: moves the committed offsets of an idle group.

use std::collections::BTreeMap;
use std::str::FromStr;

use clap::Args;
use serde::Serialize;
use strom_types::{ErrorCode, Offset};

use super::members::describe_group;
use crate::datetime::Timestamp;
use crate::exit::Error;
use crate::kafka::offsets::{EARLIEST, LATEST, Offsets, Wanted};
use crate::kafka::{Client, KafkaError, TopicPartition};
use crate::output::{Block, Output, View, or_dash};

/// Show how the committed offsets of an idle group would move; --execute moves them
#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["topics", "all_topics"]))]
#[command(group = clap::ArgGroup::new("where").required(true).args(
    ["to_earliest", "to_latest", "to_offset", "to_datetime", "shift_by", "to_current"]))]
pub(crate) struct ResetArgs {
    /// Group id
    #[arg(value_name = "GROUP", required_unless_present = "group_flag")]
    group: Option<String>,
    /// The same, as Kafka's tools write it
    #[arg(
        long = "group",
        short = 'g',
        value_name = "GROUP",
        conflicts_with = "group",
        id = "group_flag"
    )]
    group_flag: Option<String>,
    /// A topic, or some partitions of one (orders, orders:0,2); may be repeated
    #[arg(long = "topic", short = 't', value_name = "TOPIC[:P,P]")]
    topics: Vec<Selection>,
    /// All topics that the group has committed offsets for
    #[arg(long)]
    all_topics: bool,
    /// To the first record that is there
    #[arg(long)]
    to_earliest: bool,
    /// To the end
    #[arg(long)]
    to_latest: bool,
    /// To this offset
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<Offset>,
    /// To the first record at or after this time (2026-01-31T08:30:00Z, or milliseconds)
    #[arg(long, value_name = "TIME")]
    to_datetime: Option<Timestamp>,
    /// By so many records, forward or (negative) back
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    shift_by: Option<i64>,
    /// Nowhere, but into the range of offsets that exist
    #[arg(long)]
    to_current: bool,
    /// Only show what would change (the default)
    #[arg(long, conflicts_with = "execute")]
    dry_run: bool,
    /// Commit the new offsets
    #[arg(long)]
    execute: bool,
}

/// `topic` or `topic:0,2`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Selection {
    topic: String,
    /// Empty = all.
    partitions: Vec<i32>,
}

impl FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (topic, list) = text
            .split_once(':')
            .map_or((text, None), |(topic, list)| (topic, Some(list)));
        let numbers = list.map(|list| list.split(',').map(str::parse).collect::<Result<Vec<i32>, _>>());
        match numbers.transpose() {
            Ok(partitions) if !topic.is_empty() => Ok(Self {
                topic: topic.to_owned(),
                partitions: partitions.unwrap_or_default(),
            }),
            _ => Err(format!("{text:?}: expected TOPIC or TOPIC:PARTITION,PARTITION")),
        }
    }
}

#[derive(Debug, Serialize)]
struct Moved {
    topic: String,
    partition: i32,
    before: Option<i64>,
    after: i64,
}

#[derive(Serialize)]
struct Plan {
    group: String,
    executed: bool,
    partitions: Vec<Moved>,
}

impl View for Plan {
    fn blocks(&self) -> Vec<Block> {
        let row = |moved: &Moved| {
            vec![
                moved.topic.clone(),
                moved.partition.to_string(),
                or_dash(moved.before),
                moved.after.to_string(),
            ]
        };
        vec![Block::Table {
            columns: &["TOPIC", "PARTITION", "BEFORE", "AFTER"],
            rows: self.partitions.iter().map(row).collect(),
        }]
    }
}

pub(super) async fn run(args: &ResetArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let group = args
        .group
        .as_deref()
        .or(args.group_flag.as_deref())
        .unwrap_or_default();
    ensure_idle(client, group).await?;
    let before = client.committed(group).await?;
    let keys = select(args, client, &before).await?;
    if keys.is_empty() {
        return Err(Error::failed(
            format!("group {group} has no committed offsets to move"),
            "name the topics with --topic",
        ));
    }
    let after = targets(args, client, &keys, &before).await?;
    if args.execute {
        client.commit(group, None, &after).await?;
    }
    let partitions = after.iter().map(|(key, &offset)| Moved {
        topic: key.topic.to_string(),
        partition: key.partition,
        before: before.get(key).copied(),
        after: offset,
    });
    output.show(&Plan {
        group: group.to_owned(),
        executed: args.execute,
        partitions: partitions.collect(),
    })?;
    if !args.execute {
        output.note("nothing was changed; --execute does it");
    }
    Ok(())
}

/// A group that is not there yet may be given offsets; one that somebody reads with may not.
async fn ensure_idle(client: &Client, group: &str) -> Result<(), Error> {
    match describe_group(client, group).await {
        Ok(view) if view.is_idle() => Ok(()),
        Ok(view) => Err(Error::failed(
            format!(
                "group {group} is {} with {} members",
                view.state,
                view.members.len()
            ),
            "stop its members first; `strom group describe --members` names them",
        )),
        Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn select(args: &ResetArgs, client: &Client, before: &Offsets) -> Result<Vec<TopicPartition>, Error> {
    if args.all_topics {
        return Ok(before.keys().cloned().collect());
    }
    let mut keys = Vec::new();
    for selection in &args.topics {
        let topic = client.topic(&selection.topic).await?;
        if let Some(lacking) = selection
            .partitions
            .iter()
            .find(|p| !topic.partitions.contains_key(p))
        {
            return Err(Error::Usage(format!(
                "topic {} has no partition {lacking}; it has {}",
                topic.name,
                topic.partitions.len()
            )));
        }
        let wanted = |key: &TopicPartition| {
            selection.partitions.is_empty() || selection.partitions.contains(&key.partition)
        };
        keys.extend(topic.keys().filter(wanted));
    }
    Ok(keys)
}

/// Where each partition goes, within the offsets that exist.
async fn targets(
    args: &ResetArgs,
    client: &Client,
    keys: &[TopicPartition],
    before: &Offsets,
) -> Result<Offsets, KafkaError> {
    let at = |timestamp: i64| {
        keys.iter()
            .map(|key| (key.clone(), timestamp))
            .collect::<Wanted>()
    };
    let starts = client.list_offsets(&at(EARLIEST), false).await?;
    let ends = client.list_offsets(&at(LATEST), false).await?;
    let by_time = match args.to_datetime {
        Some(Timestamp(ms)) => client.list_offsets(&at(ms), false).await?,
        None => BTreeMap::new(),
    };
    let target = |key: &TopicPartition| {
        let (start, end) = (
            starts.get(key).copied().unwrap_or(0),
            ends.get(key).copied().unwrap_or(0),
        );
        // Without a committed offset, a group begins at the end.
        let current = before.get(key).copied().unwrap_or(end);
        let wanted = if args.to_earliest {
            start
        } else if args.to_latest {
            end
        } else if let Some(offset) = args.to_offset {
            offset
        } else if args.to_datetime.is_some() {
            by_time
                .get(key)
                .copied()
                .filter(|&offset| offset >= 0)
                .unwrap_or(end)
        } else {
            current.saturating_add(args.shift_by.unwrap_or(0))
        };
        (key.clone(), wanted.max(start).min(end.max(start)))
    };
    Ok(keys.iter().map(target).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_are_read() {
        let read = |text: &str| text.parse::<Selection>().ok().map(|s| (s.topic, s.partitions));
        assert_eq!(read("orders"), Some(("orders".to_owned(), vec![])));
        assert_eq!(read("orders:0,2"), Some(("orders".to_owned(), vec![0, 2])));
        for bad in ["", ":1", "orders:", "orders:x"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
