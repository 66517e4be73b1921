//! The one binary: parses the command line, then runs a role or a verb.

mod args;
mod node;
mod plan;
mod welcome;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, BrokerArgs, Command, Role};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Verb(verb) => strom_cli::execute(verb).into(),
        Command::Role(Role::Broker(BrokerArgs { verb: Some(verb), .. })) => {
            strom_cli::execute(strom_cli::Verb::Broker(verb)).into()
        }
        Command::Role(role) => match plan::Plan::of(role).map_err(Into::into).and_then(node::run) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("strom: {error}");
                ExitCode::from(node::exit_code(&error))
            }
        },
    }
}
