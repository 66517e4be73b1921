//! The internal gRPC contracts: messages and stubs compiled from `/proto`, the spliced data-path codec, conversions
//! to checked domain types, and two tables: from service errors to gRPC status, and who may call what.

pub mod access;
pub mod convert;
pub mod splice;
pub mod status;

/// Messages, clients and servers of package `strom.v1`.
#[allow(clippy::all, clippy::unwrap_used, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("strom.v1");
}
