//! The one binary: parses the command line, then runs a role or a verb.

mod args;
mod grpc_server;
mod node;
mod plan;
mod welcome;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Verb(verb) => strom_cli::run(verb),
        Command::Role(role) => match plan::Plan::of(role).map_err(Into::into).and_then(node::run) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("strom: {error}");
                ExitCode::from(node::exit_code(&error))
            }
        },
    }
}
