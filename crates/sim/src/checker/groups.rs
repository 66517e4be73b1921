//! Committed offsets: they never go back, and nobody is told less than was acknowledged before asking.

use std::collections::BTreeMap;

use strom_types::Offset;

use super::{Anomaly, Kind, report};
use crate::history::{Event, Op};

type Highest<'a> = BTreeMap<(&'a str, i32), Offset>;

pub(super) fn check_commits(events: &[Event], found: &mut Vec<Anomaly>) {
    let mut acknowledged: Highest<'_> = BTreeMap::new();
    let mut at_asking: BTreeMap<u64, Highest<'_>> = BTreeMap::new();
    for event in events {
        match &event.op {
            Op::Committed {
                group,
                partition,
                offset,
            } => {
                let highest = acknowledged.entry((group, *partition)).or_insert(*offset);
                if *highest > *offset {
                    let what = format!("{group}/{partition}: {offset} after {highest}");
                    report(found, Kind::NonmonotonicCommit, what);
                }
                *highest = (*highest).max(*offset);
            }
            Op::AskCommitted { asked } => drop(at_asking.insert(*asked, acknowledged.clone())),
            Op::FoundCommitted {
                asked,
                group,
                partition,
                offset,
            } => {
                let known = at_asking
                    .get(asked)
                    .and_then(|then| then.get(&(group.as_str(), *partition)));
                if let Some(known) = known
                    && offset < known
                {
                    let what =
                        format!("{group}/{partition}: {offset} is told, {known} was acknowledged before");
                    report(found, Kind::StaleCommit, what);
                }
            }
            _ => {}
        }
    }
}
