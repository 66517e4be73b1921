//! The invariants of replication, checked after every step: what no schedule of faults may break.

use std::collections::BTreeMap;

use strom_metadata::{Image, PartitionState};
use strom_types::{BrokerId, LeaderEpoch, Offset, TopicIdPartition};

use crate::disk::{Entry, ModelLog};

pub(crate) type Verdict = Result<(), String>;

/// A record as far as identity goes, and the leader epoch in which it was first shown as committed.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub entry: Entry,
    pub epoch: LeaderEpoch,
}

/// What is known of one partition from all that was ever shown of it.
#[derive(Default)]
pub(crate) struct PartitionFacts {
    /// By offset; `None` = deleted before anybody showed it.
    pub committed: Vec<Option<Shown>>,
    leaders: BTreeMap<LeaderEpoch, BrokerId>,
    latest: BTreeMap<LeaderEpoch, Offset>,
}

fn place(offset: Offset) -> usize {
    usize::try_from(offset).unwrap_or(0)
}

fn offset_of(place: usize) -> Offset {
    Offset::try_from(place).unwrap_or(Offset::MAX)
}

impl PartitionFacts {
    pub(crate) fn end(&self) -> Offset {
        offset_of(self.committed.len())
    }

    /// ConsistentRead: below the high watermark everybody shows the same.
    pub(crate) fn show(
        &mut self,
        log: &ModelLog,
        (from, to): (Offset, Offset),
        epoch: LeaderEpoch,
    ) -> Verdict {
        for offset in from.max(log.start())..to {
            let Some(entry) = log.get(offset) else {
                return Err(format!("no record {offset} below the high watermark {to}"));
            };
            let at = place(offset);
            if self.committed.len() <= at {
                self.committed.resize(at + 1, None);
            }
            match self.committed.get_mut(at) {
                Some(Some(first)) if !first.entry.same_as(entry) => {
                    return Err(format!(
                        "ConsistentRead: shows {} of epoch {} at {offset}, shown before was {} of epoch {}",
                        entry.id, entry.epoch, first.entry.id, first.entry.epoch
                    ));
                }
                Some(slot @ None) => {
                    *slot = Some(Shown {
                        entry: entry.clone(),
                        epoch,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The log holds everything that was committed in epochs before `before`, below `end`.
    pub(crate) fn is_held_by(&self, log: &ModelLog, before: LeaderEpoch, end: Offset) -> Verdict {
        let from = place(log.start());
        for (at, shown) in self.committed.iter().enumerate().skip(from) {
            let Some(shown) = shown else { continue };
            let offset = offset_of(at);
            let held = log.get(offset).is_some_and(|entry| entry.same_as(&shown.entry));
            if shown.epoch < before && !(held && offset < end) {
                return Err(format!(
                    "lacks the committed {} of epoch {} at {offset} (log {}..{}, synced {})",
                    shown.entry.id,
                    shown.entry.epoch,
                    log.start(),
                    log.end(),
                    log.durable()
                ));
            }
        }
        Ok(())
    }

    /// OneLeaderPerEpoch and LeaderComplete.
    pub(crate) fn lead(&mut self, id: BrokerId, epoch: LeaderEpoch, log: &ModelLog) -> Verdict {
        let first = *self.leaders.entry(epoch).or_insert(id);
        if first != id {
            return Err(format!("OneLeaderPerEpoch: leads epoch {epoch}, as {first} does"));
        }
        self.is_held_by(log, epoch, log.end())
            .map_err(|why| format!("LeaderComplete: leads epoch {epoch} and {why}"))
    }

    /// NoAckedLost: what is acknowledged with acks=all is committed as it was sent.
    pub(crate) fn acknowledge(&self, offset: Offset, id: u64) -> Verdict {
        match self.committed.get(place(offset)) {
            Some(Some(shown)) if shown.entry.id == id => Ok(()),
            // Deleted before it was acknowledged.
            Some(None) => Ok(()),
            other => Err(format!(
                "NoAckedLost: acknowledges {id} at {offset}, committed is {:?}",
                other.and_then(|shown| shown.as_ref()).map(|shown| shown.entry.id)
            )),
        }
    }

    /// HWMonotonic: whoever follows the leader epochs never sees "latest" go back.
    pub(crate) fn answer_latest(&mut self, epoch: LeaderEpoch, offset: Offset) -> Verdict {
        let older = self.latest.range(..=epoch).max_by_key(|(_, shown)| **shown);
        if let Some((older, shown)) = older
            && *shown > offset
        {
            return Err(format!(
                "HWMonotonic: latest is {offset} in epoch {epoch}, was {shown} in {older}"
            ));
        }
        self.latest.insert(epoch, offset);
        Ok(())
    }
}

/// LogMatching: one record per offset and epoch, everywhere.
pub(crate) fn logs_match(a: &ModelLog, b: &ModelLog) -> Verdict {
    for offset in a.start().max(b.start())..a.end().min(b.end()) {
        if let (Some(x), Some(y)) = (a.get(offset), b.get(offset))
            && x.epoch == y.epoch
            && x.id != y.id
        {
            return Err(format!(
                "LogMatching: {} and {} at {offset}, both of epoch {}",
                x.id, y.id, x.epoch
            ));
        }
    }
    Ok(())
}

/// QuorumSuperset: whoever may be elected is waited for by a leader that may move the high watermark.
pub(crate) fn quorum_is_superset(committed: &PartitionState, maximal_isr: &[BrokerId]) -> Verdict {
    let enough = i32::try_from(committed.isr.len()).unwrap_or(0) >= committed.min_isr;
    let outside = committed
        .isr
        .iter()
        .chain(&committed.elr)
        .find(|id| !maximal_isr.contains(id));
    match outside {
        Some(id) if enough => Err(format!(
            "QuorumSuperset: {id} may be elected, but its leader waits for {maximal_isr:?} only"
        )),
        _ => Ok(()),
    }
}

/// Watches all nodes. The first violation ends the run.
#[derive(Default)]
pub(crate) struct Judge {
    pub violation: Option<String>,
    /// The newest metadata that any controller has applied.
    pub image: Image,
    pub facts: BTreeMap<TopicIdPartition, PartitionFacts>,
    terms: BTreeMap<u64, usize>,
    producer_ids: BTreeMap<i64, usize>,
}

impl Judge {
    pub(crate) fn fail(&mut self, what: impl Into<String>) {
        if self.violation.is_none() {
            self.violation = Some(what.into());
        }
    }

    pub(crate) fn take(&mut self, who: impl std::fmt::Display, verdict: Verdict) {
        if let Err(why) = verdict {
            self.fail(format!("{who}: {why}"));
        }
    }

    pub(crate) fn facts(&mut self, key: TopicIdPartition) -> &mut PartitionFacts {
        self.facts.entry(key).or_default()
    }

    /// The same index is the same metadata, on every controller.
    pub(crate) fn on_image(&mut self, controller: usize, image: &Image) {
        if image.index > self.image.index {
            self.image = image.clone();
        } else if image.index == self.image.index && *image != self.image {
            self.fail(format!(
                "controller {controller} has other metadata at index {}",
                image.index.get()
            ));
        }
    }

    /// One controller leads in a term.
    pub(crate) fn on_raft_leader(&mut self, controller: usize, term: u64) {
        let first = *self.terms.entry(term).or_insert(controller);
        if first != controller {
            self.fail(format!(
                "controllers {first} and {controller} both lead term {term}"
            ));
        }
    }

    pub(crate) fn on_producer_id(&mut self, client: usize, id: i64) {
        if let Some(other) = self.producer_ids.insert(id, client) {
            self.fail(format!(
                "producer id {id} is given to clients {other} and {client}"
            ));
        }
    }

    /// Whether the session of the broker's life is over, by committed metadata.
    pub(crate) fn is_out(&self, id: BrokerId, epoch: strom_types::BrokerEpoch) -> bool {
        self.image
            .broker(id)
            .is_none_or(|broker| broker.fenced || broker.epoch != epoch)
    }

    pub(crate) fn terms(&self) -> usize {
        self.terms.len()
    }
}
