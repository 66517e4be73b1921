//! The deterministic simulator: the cores of production on a virtual network, virtual disks and clocks, one seed a run.
//! See `OVERVIEW.md`.

mod broker_node;
pub mod checker;
mod clients;
mod clock;
mod controller_node;
mod disk;
mod env;
mod faults;
mod gateway_node;
pub mod history;
mod invariants;
mod losses;
mod message;
pub mod mutants;
mod network;
pub mod report;
mod rng;
mod run;
mod scenario;
mod trace;
mod watch;
mod world;

pub use mutants::Mutant;
pub use run::{Outcome, Settings, run};
