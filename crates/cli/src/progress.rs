//! Progress of long work: a bar on a terminal, else a line every ten seconds; always on stderr.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{Output, human_bytes};

/// Between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Counts records and bytes and shows them now and then.
pub(crate) struct Progress {
    doing: &'static str,
    bar: Option<ProgressBar>,
    total: Option<u64>,
    begun: Instant,
    last_line: Instant,
    records: u64,
    bytes: u64,
}

impl Progress {
    /// `total` records are expected, if that is known.
    pub(crate) fn new(doing: &'static str, total: Option<u64>, output: &Output) -> Self {
        let bar = (output.err_is_terminal && !output.quiet).then(|| {
            let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
            let template = match total {
                Some(_) => "{prefix} {wide_bar} {pos}/{len} {msg} eta {eta}",
                None => "{prefix} {pos} records {msg}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.with_prefix(doing)
        });
        let now = Instant::now();
        Self {
            doing,
            bar,
            total,
            begun: now,
            last_line: now,
            records: 0,
            bytes: 0,
        }
    }

    /// So much more is done.
    pub(crate) fn add(&mut self, records: u64, bytes: u64, output: &mut Output) {
        self.records += records;
        self.bytes += bytes;
        if let Some(bar) = &self.bar {
            bar.set_position(self.records);
            bar.set_message(self.rate());
        } else if self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            let of = self
                .total
                .map_or_else(String::new, |total| format!(" of {total}"));
            output.note(&format!(
                "{}: {}{of} records, {}",
                self.doing,
                self.records,
                self.rate()
            ));
        }
    }

    fn rate(&self) -> String {
        let per_second = self.bytes as f64 / self.begun.elapsed().as_secs_f64().max(0.001);
        format!(
            "{}, {}/s",
            human_bytes(self.bytes),
            human_bytes(per_second as u64)
        )
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
