//! The shutdown token, and the signals that trigger it.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit status after a second signal, as shells report an interrupt.
const EXIT_FORCED: i32 = 130;

/// Says once that it is time to stop. Cheap to clone; all clones are the same token.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    reason: Arc<Mutex<Option<String>>>,
}

impl Shutdown {
    pub fn new() -> Self {
        Shutdown::default()
    }

    /// Triggers the shutdown; the first reason is kept.
    pub fn trigger(&self, reason: impl Into<String>) {
        self.reason.lock().get_or_insert_with(|| reason.into());
        self.token.cancel();
    }

    pub fn is_triggered(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns when the shutdown is triggered, at once if it was before. Cancel-safe.
    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }

    pub fn reason(&self) -> Option<String> {
        self.reason.lock().clone()
    }

    /// A token that is triggered with this one, or earlier by itself.
    pub fn child(&self) -> Shutdown {
        Shutdown {
            token: self.token.child_token(),
            reason: Arc::default(),
        }
    }

    /// For libraries that take tokio's own token.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}

/// Triggers `shutdown` on SIGINT or SIGTERM; the second signal ends the process at once. Installs the handlers
/// before it returns, so that no signal after it is lost.
pub fn listen_for_signals(shutdown: Shutdown) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        let mut asked = false;
        loop {
            let name = tokio::select! {
                Some(()) = interrupt.recv() => "SIGINT",
                Some(()) = terminate.recv() => "SIGTERM",
                else => return,
            };
            if asked {
                tracing::warn!(signal = name, "second signal, ending without an orderly stop");
                std::process::exit(EXIT_FORCED);
            }
            asked = true;
            tracing::info!(
                signal = name,
                "stopping; a second signal ends the process at once"
            );
            shutdown.trigger(format!("signal {name}"));
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_follows_its_parent_but_not_the_other_way() {
        let parent = Shutdown::new();
        let (early, late) = (parent.child(), parent.child());
        early.trigger("stage");
        early.cancelled().await;
        assert!(!parent.is_triggered() && !late.is_triggered());
        parent.trigger("first");
        parent.trigger("second");
        late.cancelled().await;
        assert_eq!(parent.reason().as_deref(), Some("first"));
    }
}
