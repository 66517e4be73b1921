//! Tests of the deterministic core: no thread, no clock, no socket.

mod crash;
mod hostile;
mod quiet;
mod scenarios;
mod simulation;
mod world;
