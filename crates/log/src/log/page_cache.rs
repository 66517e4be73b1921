//! What of a log is worth keeping in the page cache: what somebody reads there, and nothing else.
//!
//! Who reads at the end is served from the tail in memory. Everybody else begins behind it, where the page cache helps only
//! with what was written, or read by another, since they began. Pages that nobody will ask for cost more than they seem
//! to: fresh ones must be found for each write, in a virtual machine often from the host.

use std::time::{Duration, Instant};

use strom_types::Offset;

/// So long after a read from the file its reader is expected back.
const READER_STAYS: Duration = Duration::from_secs(60);

/// Who has read this log from its files lately.
#[derive(Debug, Default)]
pub(crate) struct FileReads {
    last: Option<Instant>,
    /// Where the foremost reader is.
    end: Offset,
    /// There are several readers.
    shared: bool,
}

impl FileReads {
    /// Somebody reads from `from` on. Whether another reader is likely to want the same pages.
    pub(crate) fn begin(&mut self, now: Instant, from: Offset) -> bool {
        if !self.are_recent(now) {
            *self = FileReads {
                last: None,
                end: from,
                shared: false,
            };
        }
        self.shared |= from != self.end;
        self.last = Some(now);
        self.shared
    }

    /// What begun there has come to before `next`.
    pub(crate) fn done(&mut self, next: Offset) {
        self.end = next.max(self.end);
    }

    /// Whether what is written now will be read from the file soon.
    pub(crate) fn are_recent(&self, now: Instant) -> bool {
        self.last
            .is_some_and(|last| now.saturating_duration_since(last) < READER_STAYS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reader_leaves_no_pages_and_a_second_one_does() {
        let start = Instant::now();
        let mut reads = FileReads::default();
        assert!(!reads.are_recent(start));
        let mut read = |now, from, next| {
            let keep = reads.begin(now, from);
            reads.done(next);
            keep
        };
        assert!(!read(start, 10, 20));
        assert!(!read(start, 20, 35));
        assert!(read(start, 10, 20), "somebody else is behind the first");
        assert!(read(start, 35, 40), "and profits from the first one's pages");
        let later = start + READER_STAYS;
        assert!(!read(later, 40, 50));
        assert!(reads.are_recent(later));
        assert!(!reads.are_recent(later + READER_STAYS));
    }
}
