//! Picking whole batches out of a buffer by their headers alone.

use std::ops::Range;

use strom_records::{BatchHeader, HEADER_LEN, HeaderError};
use strom_types::Offset;

/// Which batches a reader wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Start with the batch that contains this offset.
    pub(crate) from: Offset,
    /// Take no batch that reaches this offset.
    pub(crate) bound: Offset,
    pub(crate) bytes_max: usize,
    /// Take the first batch even if it is larger.
    pub(crate) min_one: bool,
}

/// Why a selection ended where it did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// At the end of the buffer, which is a batch's end too.
    End,
    /// A batch at the range's end needs `need` bytes and the buffer is shorter; `last_offset` if its header is there.
    Cut {
        need: usize,
        last_offset: Option<Offset>,
    },
    Bound,
    Full,
    Bad(HeaderError),
}

/// The chosen bytes, whole batches; when nothing was chosen, an empty range where the walk stopped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Selection {
    pub(crate) range: Range<usize>,
    pub(crate) base_offset: Offset,
    pub(crate) next_offset: Offset,
    pub(crate) stop: Stop,
}

pub(crate) fn select(buffer: &[u8], wanted: Wanted) -> Selection {
    let (mut start, mut at) = (0, 0);
    let (mut base_offset, mut next_offset) = (wanted.from, wanted.from);
    let stop = loop {
        let rest = buffer.get(at..).unwrap_or_default();
        if rest.is_empty() {
            break Stop::End;
        }
        let header = match BatchHeader::parse(rest) {
            Ok(header) => header,
            Err(HeaderError::TooShort { .. }) => {
                break Stop::Cut {
                    need: HEADER_LEN,
                    last_offset: None,
                };
            }
            Err(error) => break Stop::Bad(error),
        };
        let (len, last_offset) = (header.total_len(), header.last_offset());
        let nothing_yet = start == at;
        if last_offset < wanted.from && nothing_yet {
            if rest.len() < len {
                break Stop::Cut {
                    need: len,
                    last_offset: Some(last_offset),
                };
            }
            at += len;
            start = at;
            continue;
        }
        if last_offset >= wanted.bound {
            break Stop::Bound;
        }
        if at - start + len > wanted.bytes_max && !(nothing_yet && wanted.min_one) {
            break Stop::Full;
        }
        if rest.len() < len {
            break Stop::Cut {
                need: len,
                last_offset: Some(last_offset),
            };
        }
        if nothing_yet {
            base_offset = header.base_offset;
        }
        next_offset = header.next_offset();
        at += len;
    };
    Selection {
        range: start..at,
        base_offset,
        next_offset,
        stop,
    }
}
