//! Why a gateway cannot start.

use std::io;

use thiserror::Error;

#[derive(Debug, Error)]
pub enum BuildError {
    #[error("the gateway has no Kafka listener")]
    NoListener,
    #[error("cannot look up the address of the listener {name}")]
    Listener { name: String, source: io::Error },
}
