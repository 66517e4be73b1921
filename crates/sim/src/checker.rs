//! Judges a history: what no client may ever see, whatever failed. One pass to index, then linear checks.

mod groups;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use strom_types::{LeaderEpoch, Offset, TopicIdPartition};

use crate::history::{Event, History, Op};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    InconsistentOffset,
    Duplicate,
    LostWrite,
    FalseRefusal,
    Reordered,
    NonmonotonicSend,
    PollSkip,
    LostPosition,
    BrokenProducer,
    NonmonotonicLatest,
    NonmonotonicCommit,
    StaleCommit,
    UnknownValue,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Anomaly {
    pub kind: Kind,
    pub what: String,
}

/// The final state, as a reader that starts anew after everything has healed sees it.
#[derive(Clone, Debug, Default)]
pub struct Final {
    /// By partition: the log start and the values from there on.
    pub logs: BTreeMap<TopicIdPartition, (Offset, Vec<u64>)>,
}

struct Sent {
    key: TopicIdPartition,
    client: usize,
    ordered: bool,
    all: bool,
    /// The order in which its producer sent it.
    place: usize,
}

#[derive(Default)]
struct Index {
    sent: BTreeMap<u64, Sent>,
    acked: BTreeMap<u64, Offset>,
    refused: BTreeSet<u64>,
    /// Who was seen where, by acknowledgements, polls and the final read.
    seen: BTreeMap<(TopicIdPartition, Offset), u64>,
    places: BTreeMap<(TopicIdPartition, u64), BTreeSet<Offset>>,
}

/// Everything that is wrong with a history.
pub fn check(history: &History, last: &Final) -> Vec<Anomaly> {
    let mut found = Vec::new();
    let index = Index::of(history, last, &mut found);
    index.check_values(last, &mut found);
    index.check_order(&mut found);
    check_sends(&history.events, &index, &mut found);
    check_polls(&history.events, &mut found);
    check_latest(&history.events, &mut found);
    groups::check_commits(&history.events, &mut found);
    found
}

fn report(found: &mut Vec<Anomaly>, kind: Kind, what: String) {
    found.push(Anomaly { kind, what });
}

impl Index {
    fn of(history: &History, last: &Final, found: &mut Vec<Anomaly>) -> Index {
        let mut index = Index::default();
        for (place, event) in history.events.iter().enumerate() {
            match &event.op {
                Op::Send {
                    key,
                    id,
                    ordered,
                    all,
                } => {
                    let sent = Sent {
                        key: *key,
                        client: event.client,
                        ordered: *ordered,
                        all: *all,
                        place,
                    };
                    index.sent.insert(*id, sent);
                }
                Op::Acked { key, id, offset } => {
                    index.acked.insert(*id, *offset);
                    // What was acknowledged by the leader alone may be replaced.
                    if index.sent.get(id).is_some_and(|sent| sent.all) {
                        index.see(*key, *offset, *id, found);
                    }
                }
                Op::Refused { id, .. } => drop(index.refused.insert(*id)),
                Op::Poll { key, offset, id } => index.see(*key, *offset, *id, found),
                Op::Broken { key, id, why } => {
                    report(
                        found,
                        Kind::BrokenProducer,
                        format!("{key}: {id} ends its producer: {why}"),
                    );
                }
                Op::LostPosition { key, offset } => {
                    report(
                        found,
                        Kind::LostPosition,
                        format!("{key}: a reader's {offset} is gone"),
                    );
                }
                _ => {}
            }
        }
        for (key, (start, values)) in &last.logs {
            for (offset, id) in (*start..).zip(values) {
                index.see(*key, offset, *id, found);
            }
        }
        index
    }

    fn see(&mut self, key: TopicIdPartition, offset: Offset, id: u64, found: &mut Vec<Anomaly>) {
        let first = *self.seen.entry((key, offset)).or_insert(id);
        if first != id {
            let what = format!("{key}: {first} and {id} at {offset}");
            report(found, Kind::InconsistentOffset, what);
        }
        self.places.entry((key, id)).or_default().insert(offset);
    }

    fn check_values(&self, last: &Final, found: &mut Vec<Anomaly>) {
        for ((key, id), offsets) in &self.places {
            match self.sent.get(id) {
                None => report(found, Kind::UnknownValue, format!("{key}: nobody sent {id}")),
                Some(sent) if sent.ordered && offsets.len() > 1 => {
                    report(found, Kind::Duplicate, format!("{key}: {id} at {offsets:?}"));
                }
                Some(_) => {}
            }
            if self.refused.contains(id) {
                let what = format!("{key}: {id} was refused for good, and is at {offsets:?}");
                report(found, Kind::FalseRefusal, what);
            }
        }
        for (id, offset) in &self.acked {
            let Some(sent) = self.sent.get(id) else { continue };
            let Some((start, values)) = last.logs.get(&sent.key) else {
                continue;
            };
            let held = usize::try_from(offset - start).ok().and_then(|at| values.get(at));
            if sent.all && offset >= start && held != Some(id) {
                let what = format!("{}: {id}, acknowledged at {offset}, is {held:?}", sent.key);
                report(found, Kind::LostWrite, what);
            }
        }
    }

    /// An idempotent producer's values lie in the order in which they were sent.
    fn check_order(&self, found: &mut Vec<Anomaly>) {
        let mut last: BTreeMap<(TopicIdPartition, usize), (usize, u64)> = BTreeMap::new();
        for ((key, offset), id) in &self.seen {
            let Some(sent) = self.sent.get(id).filter(|sent| sent.ordered) else {
                continue;
            };
            let before = last.insert((*key, sent.client), (sent.place, *id));
            if let Some((place, earlier)) = before
                && place > sent.place
            {
                let what = format!("{key}: {id} at {offset} after {earlier}, which was sent later");
                report(found, Kind::Reordered, what);
            }
        }
    }
}

/// The offsets that an idempotent producer is told rise in the order of its sends.
fn check_sends(events: &[Event], index: &Index, found: &mut Vec<Anomaly>) {
    let mut by_place: BTreeMap<(TopicIdPartition, usize), BTreeMap<usize, Offset>> = BTreeMap::new();
    for event in events {
        if let Op::Acked { key, id, offset } = &event.op
            && let Some(sent) = index.sent.get(id).filter(|sent| sent.ordered)
        {
            let acked = by_place.entry((*key, event.client)).or_default();
            acked.insert(sent.place, *offset);
        }
    }
    for ((key, client), acked) in by_place {
        let offsets: Vec<Offset> = acked.into_values().collect();
        if let Some(pair) = offsets.windows(2).find(|pair| pair.first() >= pair.get(1)) {
            report(
                found,
                Kind::NonmonotonicSend,
                format!("{key}: client {client} was told {pair:?}"),
            );
        }
    }
}

/// Between seeks a reader's offsets follow one another.
fn check_polls(events: &[Event], found: &mut Vec<Anomaly>) {
    let mut next: BTreeMap<(usize, TopicIdPartition), Offset> = BTreeMap::new();
    for event in events {
        match &event.op {
            Op::Seek { key, offset } => drop(next.insert((event.client, *key), *offset)),
            Op::Poll { key, offset, .. } => {
                let expected = next.insert((event.client, *key), offset + 1).unwrap_or(0);
                if expected != *offset {
                    let what = format!(
                        "{key}: client {} read {offset}, next was {expected}",
                        event.client
                    );
                    report(found, Kind::PollSkip, what);
                }
            }
            _ => {}
        }
    }
}

/// Per client: "latest" does not fall while the leader epoch does not.
fn check_latest(events: &[Event], found: &mut Vec<Anomaly>) {
    let mut known: BTreeMap<(usize, TopicIdPartition), (LeaderEpoch, Offset)> = BTreeMap::new();
    for event in events {
        let Op::Latest { key, epoch, offset } = &event.op else {
            continue;
        };
        let latest = known.entry((event.client, *key)).or_insert((*epoch, *offset));
        if *epoch >= latest.0 {
            if *offset < latest.1 {
                let what = format!(
                    "{key}: {offset} in epoch {epoch}, was {} in {}",
                    latest.1, latest.0
                );
                report(found, Kind::NonmonotonicLatest, what);
            }
            *latest = (*epoch, *offset);
        }
    }
}
