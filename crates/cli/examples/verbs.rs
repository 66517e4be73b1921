//! The verbs alone, without the services: builds in seconds, to try them against any Kafka.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use strom_cli::{BrokerVerb, Verb};

#[derive(Parser)]
#[command(name = "strom", version, about = "Strom's verbs for operators")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Brokers: list
    #[command(subcommand)]
    Broker(BrokerVerb),
    #[command(flatten)]
    Verb(Verb),
}

fn main() -> ExitCode {
    let verb = match Cli::parse().command {
        Command::Broker(verb) => Verb::Broker(verb),
        Command::Verb(verb) => verb,
    };
    strom_cli::execute(verb).into()
}
