//! Sockets: listeners, connections and their limits.

mod connection;
mod limits;
mod listeners;

pub(crate) use connection::{Closed, ConnectionInfo, ConnectionLimits, MEMORY_UNIT_BYTES};
pub(crate) use limits::ConnectionCounts;
pub(crate) use listeners::{Address, Listeners, Serve};
