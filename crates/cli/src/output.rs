//! What a verb shows: data as a table or JSON on stdout, everything else on stderr.

use std::io::{self, BufRead, BufWriter, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table as Drawn, presets};
use serde::Serialize;

use crate::exit::Error;

/// How data is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people; without lines when piped.
    #[default]
    Table,
    /// Stable keys for programs; integers stay integers.
    Json,
}

/// A piece of what a person reads.
#[derive(Debug)]
pub(crate) enum Block {
    Line(String),
    Table {
        columns: &'static [&'static str],
        rows: Vec<Vec<String>>,
    },
}

/// A result that has both forms.
pub(crate) trait View: Serialize {
    fn blocks(&self) -> Vec<Block>;
}

/// A verb's streams: where its output goes, where its input comes from, and whether people are at the other end.
pub struct Output {
    input: Option<Box<dyn BufRead + Send>>,
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    pub(crate) format: Format,
    pub(crate) quiet: bool,
    out_is_terminal: bool,
    pub(crate) err_is_terminal: bool,
    in_is_terminal: bool,
}

impl Output {
    /// The process's own streams.
    pub fn standard() -> Self {
        Self {
            input: None,
            out: Box::new(BufWriter::with_capacity(64 * 1024, io::stdout())),
            err: Box::new(io::stderr()),
            format: Format::Table,
            quiet: false,
            out_is_terminal: io::stdout().is_terminal(),
            err_is_terminal: io::stderr().is_terminal(),
            in_is_terminal: io::stdin().is_terminal(),
        }
    }

    /// Other streams, which are no terminals: for tests and for callers that capture.
    pub fn to_writers(out: impl Write + Send + 'static, err: impl Write + Send + 'static) -> Self {
        Self {
            input: Some(Box::new(io::empty())),
            out: Box::new(out),
            err: Box::new(err),
            format: Format::Table,
            quiet: false,
            out_is_terminal: false,
            err_is_terminal: false,
            in_is_terminal: false,
        }
    }

    /// The same with something to read.
    #[must_use]
    pub fn with_input(mut self, input: impl BufRead + Send + 'static) -> Self {
        self.input = Some(Box::new(input));
        self
    }

    /// The input, once; standard input unless another was given.
    pub(crate) fn take_input(&mut self) -> Box<dyn BufRead + Send> {
        self.input
            .take()
            .unwrap_or_else(|| Box::new(io::BufReader::new(io::stdin())))
    }

    /// Shows a result.
    pub(crate) fn show(&mut self, view: &impl View) -> Result<(), Error> {
        match self.format {
            Format::Json => {
                serde_json::to_writer_pretty(&mut self.out, view).map_err(|e| Error::Output(e.into()))?;
                self.out.write_all(b"\n").map_err(Error::Output)?;
            }
            Format::Table => {
                for block in view.blocks() {
                    let text = self.text_of(block);
                    writeln!(self.out, "{text}").map_err(Error::Output)?;
                }
            }
        }
        self.flush()
    }

    fn text_of(&self, block: Block) -> String {
        match block {
            Block::Line(line) => line,
            Block::Table { columns, rows } => {
                let mut drawn = Drawn::new();
                drawn.set_header(columns.to_vec()).add_rows(rows);
                if self.out_is_terminal {
                    drawn.load_style(presets::UTF8_HORIZONTAL_ONLY);
                    drawn.set_content_arrangement(ContentArrangement::Dynamic);
                } else {
                    drawn.load_style(presets::NOTHING);
                    drawn.set_content_arrangement(ContentArrangement::Disabled);
                    for column in 0..columns.len() {
                        if let Some(column) = drawn.column_mut(column) {
                            column.set_padding((0, 2));
                        }
                    }
                }
                drawn.trim_fmt()
            }
        }
    }

    /// One JSON value on a line of its own, for streams.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> Result<(), Error> {
        serde_json::to_writer(&mut self.out, value).map_err(|error| Error::Output(error.into()))?;
        self.out.write_all(b"\n").map_err(Error::Output)
    }

    /// Raw bytes to stdout.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(Error::Output)
    }

    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.out.flush().map_err(Error::Output)
    }

    /// Something said by the way; silent with `--quiet`.
    pub(crate) fn note(&mut self, text: &str) {
        if !self.quiet {
            // Nobody can be told that stderr is gone.
            let _ = writeln!(self.err, "{text}");
        }
    }

    /// An error, where it is known what to try next with that.
    pub(crate) fn complain(&mut self, error: &Error) {
        let _ = self.out.flush();
        let _ = writeln!(self.err, "error: {error}");
        if let Some(hint) = error.hint() {
            let _ = writeln!(self.err, "  try: {hint}");
        }
    }

    /// Asks before something is destroyed: `plan` is shown; off a terminal `--yes` stands for the answer.
    pub(crate) fn confirm(&mut self, plan: &str, yes: bool) -> Result<(), Error> {
        self.note(plan);
        if yes {
            return Ok(());
        }
        if !(self.in_is_terminal && self.err_is_terminal) {
            return Err(Error::Usage(
                "this cannot be undone; say --yes to do it".to_owned(),
            ));
        }
        let _ = write!(self.err, "this cannot be undone; go on? [y/N] ");
        let _ = self.err.flush();
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        read.map_err(|source| Error::Input {
            what: "cannot read the answer".to_owned(),
            source,
        })?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Error::Failed {
                message: "not confirmed, nothing was done".to_owned(),
                hint: None,
            }),
        }
    }
}

/// Bytes for people: `1.5 MiB`.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// `1,2,3`, or `-` for none.
pub(crate) fn joined<T: ToString>(values: &[T]) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    values.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

/// A value that may be missing, `-` then.
pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_readable() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (5 << 30, "5.0 GiB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }
}
