//! The whole CLI against an in-process broker that answers by script.

mod client;
mod cluster;
mod fake_broker;
mod golden;
mod group;
mod producer;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use clap::{Parser, Subcommand};

use crate::{BrokerVerb, ExitCode, Output, Verb};

/// A command line of the verbs, as `crates/strom` composes it.
#[derive(Parser)]
#[command(name = "strom")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Brokers: list, describe
    #[command(subcommand)]
    Broker(BrokerVerb),
    #[command(flatten)]
    Verb(Verb),
}

/// A stream that can be looked at.
#[derive(Clone, Default)]
pub(crate) struct Captured(pub(crate) Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Captured {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// What a command line did.
struct Ran {
    code: ExitCode,
    out: String,
    err: String,
}

/// Runs `line` (words between spaces) against `bootstrap`, with `input` on its standard input.
async fn strom(bootstrap: &str, line: &str, input: &str) -> Ran {
    let words = ["strom"]
        .into_iter()
        .chain(line.split(' '))
        .chain(["--bootstrap-server", bootstrap]);
    let verb = match Cli::try_parse_from(words)
        .unwrap_or_else(|error| panic!("{error}"))
        .command
    {
        Command::Broker(verb) => Verb::Broker(verb),
        Command::Verb(verb) => verb,
    };
    let (out, err) = (Captured::default(), Captured::default());
    let input = io::Cursor::new(input.as_bytes().to_vec());
    let mut output = Output::to_writers(out.clone(), err.clone()).with_input(input);
    let code = crate::run(verb, &mut output).await;
    Ran {
        code,
        out: out.text(),
        err: err.text(),
    }
}
