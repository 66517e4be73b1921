//! The broker's life with the controllers: registration, heartbeats and lease, ISR changes, controlled shutdown.

mod alter_partition;
mod heartbeat;
mod leaderless;
mod registration;

pub(crate) use alter_partition::{AlterPartitions, IsrChange};
pub(crate) use heartbeat::{Heartbeat, Standing};
pub(crate) use registration::register;
