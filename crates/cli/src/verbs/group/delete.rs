//! `strom group delete`.

use clap::Args;
use strom_kafka_codec::ByteStr;
use strom_kafka_codec::messages::{DeleteGroupsRequest, DeleteGroupsResponse};
use strom_types::ErrorCode;

use crate::args::GroupNames;
use crate::exit::Error;
use crate::kafka::{Client, Deadline, KafkaError, Target};
use crate::output::Output;
use crate::verbs::outcome::Outcomes;

/// Delete idle groups with their committed offsets
#[derive(Args, Clone, Debug)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    groups: GroupNames,
    /// Do it without asking
    #[arg(long, short)]
    yes: bool,
    /// It is fine if a group does not exist
    #[arg(long)]
    if_exists: bool,
}

pub(super) async fn run(args: &DeleteArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let names = args.groups.list();
    output.confirm(
        &format!("to delete, with their offsets: {}", names.join(", ")),
        args.yes,
    )?;
    let mut outcomes = Outcomes::default();
    for name in names {
        match delete_group(client, &name).await {
            Err(error) if args.if_exists && error.code() == Some(ErrorCode::GroupIdNotFound) => {
                outcomes.add(&name, "absent", Ok(()));
            }
            result => outcomes.add(&name, "deleted", result),
        }
    }
    outcomes.settle(output)
}

async fn delete_group(client: &Client, group: &str) -> Result<(), KafkaError> {
    let subject = format!("group {group}");
    let build = |_: i16, _: Deadline| DeleteGroupsRequest {
        groups_names: vec![ByteStr::from(group.to_owned())],
    };
    let failure = |response: &DeleteGroupsResponse| {
        let mut results = response.results.iter();
        results.find_map(|result| KafkaError::from_code(&subject, result.error_code, None))
    };
    let response = client.ask(Target::Group(group), &subject, build, failure).await?;
    failure(&response).map_or(Ok(()), Err)
}
