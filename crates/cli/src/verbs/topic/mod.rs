//! `strom topic`: create, list, describe, alter, delete, elect leaders.

mod alter;
pub(crate) mod create;
pub(crate) mod delete;
mod describe;
mod elect_leader;
mod list;

use clap::{Args, Subcommand};

use crate::args::Connect;
use crate::exit::Error;
use crate::output::Output;

/// Topics: create, list, describe, alter, delete, elect leaders
#[derive(Args, Clone, Debug)]
pub struct TopicArgs {
    #[command(subcommand)]
    verb: TopicVerb,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Subcommand, Clone, Debug)]
enum TopicVerb {
    Create(create::CreateArgs),
    List(list::ListArgs),
    Describe(describe::DescribeArgs),
    Alter(alter::AlterArgs),
    Delete(delete::DeleteArgs),
    ElectLeader(elect_leader::ElectLeaderArgs),
}

pub(crate) async fn run(args: TopicArgs, output: &mut Output) -> Result<(), Error> {
    args.connect.apply(output);
    let client = args.connect.client();
    match args.verb {
        TopicVerb::Create(args) => create::run(&args, &client, output).await,
        TopicVerb::List(args) => list::run(&args, &client, output).await,
        TopicVerb::Describe(args) => describe::run(&args, &client, output).await,
        TopicVerb::Alter(args) => alter::run(&args, &client, output).await,
        TopicVerb::Delete(args) => delete::run(&args, &client, output).await,
        TopicVerb::ElectLeader(args) => elect_leader::run(&args, &client, output).await,
    }
}
