//! The run's trace: every delivery and decision goes into one hash, and on request to standard output.

use std::fmt::{self, Write};

/// FNV-1a over the lines.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines: u64,
    pub print: bool,
}

impl Trace {
    pub(crate) fn new(print: bool) -> Self {
        Trace {
            hash: 0xcbf2_9ce4_8422_2325,
            lines: 0,
            print,
        }
    }

    pub(crate) fn line(&mut self, now: u64, line: fmt::Arguments<'_>) {
        self.lines += 1;
        // A hasher takes every write.
        let _ = writeln!(self, "{now} {line}");
        if self.print {
            println!(
                "{:>12.6} {line}",
                std::time::Duration::from_nanos(now).as_secs_f64()
            );
        }
    }

    /// Shown, but no part of the hash.
    pub(crate) fn remark(&self, now: u64, line: impl FnOnce() -> String) {
        if self.print {
            println!(
                "{:>12.6} {}",
                std::time::Duration::from_nanos(now).as_secs_f64(),
                line()
            );
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }
}

impl Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}
