//! `strom group`: list, describe, reset, delete.

mod delete;
mod describe;
mod list;
mod members;
mod reset;

use clap::{Args, Subcommand};

use crate::args::Connect;
use crate::exit::Error;
use crate::output::Output;

/// Consumer groups: list, describe (lag), reset, delete
#[derive(Args, Clone, Debug)]
pub struct GroupArgs {
    #[command(subcommand)]
    verb: GroupVerb,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Subcommand, Clone, Debug)]
enum GroupVerb {
    List(list::ListArgs),
    Describe(describe::DescribeArgs),
    Reset(Box<reset::ResetArgs>),
    Delete(delete::DeleteArgs),
}

pub(crate) async fn run(args: GroupArgs, output: &mut Output) -> Result<(), Error> {
    args.connect.apply(output);
    let client = args.connect.client();
    match args.verb {
        GroupVerb::List(args) => list::run(&args, &client, output).await,
        GroupVerb::Describe(args) => describe::run(&args, &client, output).await,
        GroupVerb::Reset(args) => reset::run(&args, &client, output).await,
        GroupVerb::Delete(args) => delete::run(&args, &client, output).await,
    }
}
