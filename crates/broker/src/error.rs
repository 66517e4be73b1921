//! Why a broker cannot start or must stop.

use strom_client::CallError;
use strom_log::LogError;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum BrokerError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the controllers refuse this broker: {0}")]
    Registration(CallError),
    #[error("a task of the broker failed: {0}")]
    TaskFailed(String),
    /// Another process has taken this broker's place; it must not serve any more.
    #[error("this broker's registration is not valid any more: {0}")]
    Superseded(String),
    /// Possible only while this broker was cut off: the controllers unregister no broker that they hear of.
    #[error(
        "this broker was unregistered while the controllers did not hear of it; a restart registers it anew"
    )]
    Unregistered,
}
