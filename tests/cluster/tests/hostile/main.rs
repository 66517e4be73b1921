//! Bad input: each gets Kafka's error or a closed connection that a metric counts, makes the process grow by at most
//! 64 MiB, and leaves other clients unharmed. The rows are those of the project's list of bad inputs.
#![allow(clippy::unwrap_used)]

mod batches;
mod frames;
mod opened;
mod pressure;
mod produces;
mod records;
mod requests;
mod target;
