//! Thin adapters from gRPC to the broker, one per service.

mod control;

pub(crate) use control::Control;
