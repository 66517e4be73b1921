//! The newest batches of a log in memory: those not yet written, and some just written, for hot readers.

use std::collections::VecDeque;

use bytes::Bytes;
use strom_types::Offset;

use crate::walk::{Stop, Wanted, select};

/// Batches appended together, contiguous in one segment: a leader's single batch, or a follower's run of them.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) base_offset: Offset,
    pub(crate) last_offset: Offset,
    /// A patched header, when it could not be patched in place; then `body` is the rest of that one batch.
    pub(crate) head: Bytes,
    pub(crate) body: Bytes,
    pub(crate) segment_base: Offset,
    pub(crate) position: u64,
}

impl Run {
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

/// Runs in offset order without gaps.
#[derive(Debug, Default)]
pub(crate) struct Tail(VecDeque<Run>);

/// Pieces of whole batches.
#[derive(Debug, Default)]
pub(crate) struct Picked {
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) size_bytes: usize,
    pub(crate) base_offset: Offset,
    pub(crate) next_offset: Offset,
}

impl Tail {
    pub(crate) fn push(&mut self, run: Run) {
        debug_assert!(
            self.0
                .back()
                .is_none_or(|last| last.last_offset < run.base_offset)
        );
        self.0.push_back(run);
    }

    pub(crate) fn covers(&self, offset: Offset) -> bool {
        self.0.front().is_some_and(|run| run.base_offset <= offset)
    }

    pub(crate) fn from(&self, offset: Offset) -> impl Iterator<Item = &Run> {
        self.0
            .range(self.0.partition_point(|run| run.last_offset < offset)..)
    }

    /// Drops written runs that end before `end`. Returns how many bytes they held.
    pub(crate) fn evict(&mut self, end: Offset) -> usize {
        let mut bytes = 0;
        while let Some(run) = self.0.front().filter(|run| run.last_offset < end) {
            bytes += run.len();
            self.0.pop_front();
        }
        if self.0.is_empty() {
            self.0.shrink_to(0);
        }
        bytes
    }

    /// Cuts everything from the batch that contains `offset` on. Returns the offset where the tail now ends, if it
    /// still reaches up to there, and how many bytes went.
    pub(crate) fn truncate(&mut self, offset: Offset) -> usize {
        let mut bytes = 0;
        while let Some(run) = self.0.back_mut().filter(|run| run.last_offset >= offset) {
            if run.base_offset < offset && run.head.is_empty() {
                let wanted = Wanted {
                    from: run.base_offset,
                    bound: offset,
                    bytes_max: usize::MAX,
                    min_one: true,
                };
                let kept = select(&run.body, wanted);
                if !kept.range.is_empty() {
                    bytes += run.body.len() - kept.range.len();
                    run.body.truncate(kept.range.end);
                    run.last_offset = kept.next_offset - 1;
                    break;
                }
            }
            bytes += run.len();
            self.0.pop_back();
        }
        bytes
    }

    /// `None` when the tail does not reach back to `wanted.from`.
    pub(crate) fn pick(&self, wanted: Wanted) -> Option<Picked> {
        if !self.covers(wanted.from) {
            return None;
        }
        let mut picked = Picked {
            base_offset: wanted.from,
            next_offset: wanted.from,
            ..Default::default()
        };
        for run in self.from(wanted.from) {
            let room = wanted.bytes_max.saturating_sub(picked.size_bytes);
            let min_one = wanted.min_one && picked.pieces.is_empty();
            if picked.pieces.is_empty() {
                picked.base_offset = run.base_offset;
            }
            let whole = run.last_offset < wanted.bound && run.len() <= room;
            if whole && (run.base_offset >= wanted.from || !run.head.is_empty()) {
                picked.pieces.extend(
                    [&run.head, &run.body]
                        .into_iter()
                        .filter(|piece| !piece.is_empty())
                        .cloned(),
                );
                picked.size_bytes += run.len();
                picked.next_offset = run.last_offset + 1;
                continue;
            }
            if !run.head.is_empty() {
                if min_one && run.last_offset < wanted.bound {
                    picked.pieces = vec![run.head.clone(), run.body.clone()];
                    picked.size_bytes = run.len();
                    picked.next_offset = run.last_offset + 1;
                }
                break;
            }
            let chosen = select(
                &run.body,
                Wanted {
                    bytes_max: room,
                    min_one,
                    ..wanted
                },
            );
            if !chosen.range.is_empty() {
                if picked.pieces.is_empty() {
                    picked.base_offset = chosen.base_offset;
                }
                picked.size_bytes += chosen.range.len();
                picked.pieces.push(run.body.slice(chosen.range));
                picked.next_offset = chosen.next_offset;
            }
            if chosen.stop != Stop::End {
                break;
            }
        }
        if picked.pieces.is_empty() {
            picked.base_offset = wanted.from;
        }
        Some(picked)
    }
}

impl Picked {
    /// One buffer: the piece itself if there is one, else a copy.
    pub(crate) fn concat(self) -> Bytes {
        match <[Bytes; 1]>::try_from(self.pieces) {
            Ok([one]) => one,
            Err(pieces) => {
                let mut all = Vec::with_capacity(self.size_bytes);
                for piece in &pieces {
                    all.extend_from_slice(piece);
                }
                all.into()
            }
        }
    }
}
