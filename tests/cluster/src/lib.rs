//! Clients for the end-to-end tests: librdkafka with short time-outs, and raw frames.

pub mod codes;
pub mod group;
pub mod librdkafka;
pub mod load;
pub mod raw;
pub mod requests;
pub mod worker;

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a condition may take to come true.
pub const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// Waits until `condition` gives a value.
///
/// # Panics
///
/// After [`PATIENCE`], naming `what`.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(POLL).await;
    }
}
