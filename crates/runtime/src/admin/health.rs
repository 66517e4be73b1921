//! What the probes answer: started, ready by component, alive by pulse.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use strom_types::Mono;

use crate::clock::Clock;
use crate::shutdown::Shutdown;
use crate::supervisor::{OnFailure, TaskGroup};

/// Shared by the components of a process, which report, and the admin server, which answers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    started: AtomicBool,
    /// By component: why it is not ready; `None` when it is.
    readiness: Mutex<BTreeMap<&'static str, Option<String>>>,
    pulses: Mutex<Vec<Pulse>>,
}

/// The sign of life of one loop.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<Beat>);

#[derive(Debug)]
struct Beat {
    name: &'static str,
    limit: Duration,
    clock: Clock,
    last_nanos: AtomicU64,
}

impl Pulse {
    /// Says that the loop is still turning. Cheap.
    pub fn beat(&self) {
        self.0.last_nanos.store(self.0.clock.mono().0, Ordering::Relaxed);
    }

    fn stalled(&self, now: Mono) -> Option<String> {
        let silence = now.since(Mono(self.0.last_nanos.load(Ordering::Relaxed)));
        (silence > self.0.limit)
            .then(|| format!("{}: no sign of life for {} ms", self.0.name, silence.as_millis()))
    }
}

impl Health {
    pub fn new(clock: Clock) -> Self {
        Health(Arc::new(Inner {
            clock,
            started: AtomicBool::new(false),
            readiness: Mutex::default(),
            pulses: Mutex::default(),
        }))
    }

    /// The process has finished its start: recovery is done and its listeners are open.
    pub fn set_started(&self) {
        self.0.started.store(true, Ordering::Release);
    }

    /// The component can do its work.
    pub fn set_ready(&self, component: &'static str) {
        self.0.readiness.lock().insert(component, None);
    }

    /// The component cannot do its work now. A component that has never reported does not count, so each reports
    /// itself not ready when it is built.
    pub fn set_not_ready(&self, component: &'static str, reason: impl Into<String>) {
        self.0.readiness.lock().insert(component, Some(reason.into()));
    }

    /// Watches a loop: the process is not alive when it does not beat for longer than `limit`. The first beat is
    /// now.
    pub fn pulse(&self, name: &'static str, limit: Duration) -> Pulse {
        let clock = self.0.clock.clone();
        let pulse = Pulse(Arc::new(Beat {
            name,
            limit,
            last_nanos: AtomicU64::new(clock.mono().0),
            clock,
        }));
        self.0.pulses.lock().push(pulse.clone());
        pulse
    }

    /// Watches the runtime itself: a task that beats once a second on it.
    pub fn watch_runtime(&self, group: &TaskGroup) {
        let pulse = self.pulse("runtime", Duration::from_secs(10));
        group.spawn(
            "runtime heartbeat",
            OnFailure::Log,
            move |stop: Shutdown| async move {
                let mut tick = tokio::time::interval(Duration::from_secs(1));
                tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    tokio::select! {
                        _ = tick.tick() => pulse.beat(),
                        () = stop.cancelled() => return Ok::<(), std::convert::Infallible>(()),
                    }
                }
            },
        );
    }

    /// Which loops hang.
    pub fn live(&self) -> Result<(), Vec<String>> {
        let now = self.0.clock.mono();
        let pulses = self.0.pulses.lock();
        none(pulses.iter().filter_map(|pulse| pulse.stalled(now)).collect())
    }

    pub fn started(&self) -> Result<(), Vec<String>> {
        match self.0.started.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err(vec!["starting".to_owned()]),
        }
    }

    /// Started, and every component is ready.
    pub fn ready(&self) -> Result<(), Vec<String>> {
        self.started()?;
        let readiness = self.0.readiness.lock();
        none(
            readiness
                .iter()
                .filter_map(|(component, reason)| Some(format!("{component}: {}", reason.as_ref()?)))
                .collect(),
        )
    }
}

fn none(reasons: Vec<String>) -> Result<(), Vec<String>> {
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

#[cfg(test)]
mod tests {
    use strom_types::WallMs;

    use super::*;

    #[test]
    fn readiness_needs_the_start_and_every_component() {
        let health = Health::new(Clock::system());
        health.set_not_ready("broker", "recovering 3 of 9 partitions");
        assert_eq!(health.ready(), Err(vec!["starting".to_owned()]));
        health.set_started();
        assert_eq!(
            health.ready(),
            Err(vec!["broker: recovering 3 of 9 partitions".to_owned()])
        );
        health.set_ready("broker");
        assert_eq!(health.ready(), Ok(()));
        health.set_not_ready("gateway", "no controller");
        assert!(health.ready().is_err());
        assert_eq!(health.live(), Ok(()));
    }

    #[test]
    fn a_loop_that_hangs_is_noticed() {
        let (clock, hand) = Clock::manual(Mono(0), WallMs(0));
        let health = Health::new(clock);
        let pulse = health.pulse("raft", Duration::from_secs(5));
        hand.advance(Duration::from_secs(5));
        assert_eq!(health.live(), Ok(()));
        hand.advance(Duration::from_millis(1));
        assert_eq!(
            health.live(),
            Err(vec!["raft: no sign of life for 5001 ms".to_owned()])
        );
        pulse.beat();
        assert_eq!(health.live(), Ok(()));
    }
}
