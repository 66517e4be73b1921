//! Thin adapters from gRPC to the broker, one per service.

mod control;
mod groups;

pub(crate) use control::Control;
pub(crate) use groups::Groups;
