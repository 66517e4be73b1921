//! Tests of the deterministic core: no thread, no clock, no socket.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::field_reassign_with_default, reason = "raft's messages are generated")]

mod crash;
mod hostile;
mod quiet;
mod scenarios;
mod simulation;
mod world;
