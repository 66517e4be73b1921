//! Tests of the commands, a table per command and check.

mod brokers;
mod configs;
mod partitions;
mod topics;
mod walk;

use strom_proto::v1;
use strom_types::ErrorCode;

use super::Reply;

/// The code of an optional error in a result.
fn code(error: Option<&v1::ServiceError>) -> ErrorCode {
    error.map_or(ErrorCode::None, |error| {
        ErrorCode::try_from(error.code).expect("a known code")
    })
}

/// The code of a command's refusal.
#[track_caller]
fn refusal(reply: Result<Reply, v1::ServiceError>) -> ErrorCode {
    code(Some(&reply.expect_err("refused")))
}
