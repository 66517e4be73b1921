//! Where two replicas' logs part (KIP-101, KIP-279, KIP-320): pure functions over epoch histories.

use strom_types::{LeaderEpoch, Offset};

use crate::log_view::{EpochEnd, EpochStart, LogUnreadable, LogView};

/// `end_offset_for(e)` over an epoch cache in rising order:
///
/// * `e` = latest → `(e, log_end)`;
/// * `e` > latest, or an empty cache → `None`, never a guess;
/// * `e` < first → `(e, start of the first entry)`;
/// * else the floor: (largest epoch ≤ `e`, start of the entry after it).
pub fn end_offset_for(cache: &[EpochStart], log_end: Offset, epoch: LeaderEpoch) -> Option<EpochEnd> {
    debug_assert!(
        cache.is_sorted_by(|a, b| a.epoch < b.epoch && a.start_offset <= b.start_offset),
        "an epoch cache rises in both columns: {cache:?}"
    );
    let latest = cache.last()?;
    if epoch > latest.epoch {
        return None;
    }
    if epoch == latest.epoch {
        return Some(EpochEnd {
            epoch,
            end_offset: log_end,
        });
    }
    let above = cache.partition_point(|entry| entry.epoch <= epoch);
    let next = cache.get(above)?;
    let floor = above.checked_sub(1).and_then(|i| cache.get(i));
    Some(EpochEnd {
        epoch: floor.map_or(epoch, |entry| entry.epoch),
        end_offset: next.start_offset,
    })
}

/// What a leader finds out about the log of somebody who fetches from `fetch_offset`, its last record's epoch being
/// `last_fetched_epoch`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prefix {
    /// Everything the fetcher holds is in this log too.
    Shared,
    /// It is not: the fetcher must truncate by this and ask again.
    Diverges(EpochEnd),
    /// This log cannot tell: OFFSET_OUT_OF_RANGE.
    Unknown,
}

/// Check 6 of a fetch. [`LeaderEpoch::NONE`] means that the fetcher holds (or tells) nothing.
pub fn check_prefix(
    log: &dyn LogView,
    last_fetched_epoch: LeaderEpoch,
    fetch_offset: Offset,
) -> Result<Prefix, LogUnreadable> {
    if last_fetched_epoch == LeaderEpoch::NONE {
        return Ok(if fetch_offset <= log.log_end() {
            Prefix::Shared
        } else {
            Prefix::Unknown
        });
    }
    Ok(match log.end_offset_for_epoch(last_fetched_epoch)? {
        None => Prefix::Unknown,
        Some(end) if end.epoch < last_fetched_epoch || end.end_offset < fetch_offset => Prefix::Diverges(end),
        Some(_) => Prefix::Shared,
    })
}

/// Rule F2: where a follower cuts its log on the leader's `diverging` answer, at most the log end, at least the log
/// start. The cut also drops each epoch entry that starts at or above it, so every round lowers the last epoch or
/// the log end and the loop ends.
pub fn truncation_point(log: &dyn LogView, diverging: EpochEnd) -> Result<Offset, LogUnreadable> {
    let local = log
        .end_offset_for_epoch(diverging.epoch)?
        .map_or(Offset::MAX, |end| end.end_offset);
    let to = local.min(diverging.end_offset).min(log.log_end());
    let to = to.max(log.log_start());
    debug_assert!(to <= log.log_end(), "truncation never lengthens a log");
    Ok(to)
}
