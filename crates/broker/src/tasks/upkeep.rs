//! What is due now and then: time for the replicas, checkpoints, health.

use std::collections::HashMap;
use std::time::Duration;

use strom_replication::Event;
use strom_runtime::{Health, Shutdown};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::broker::Broker;
use crate::life::Standing;

/// Replicas look at the time at least this often.
const TICK: Duration = Duration::from_millis(100);

/// Lets replicas see the time pass.
pub(crate) async fn tick(broker: Broker, stop: Shutdown) {
    let mut every = interval(TICK);
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => {}
        }
        let moment = broker.shared().moment();
        broker.partitions().for_each(|partition| {
            partition.retry_epoch_start();
            let due = partition.with_replica(|replica| {
                replica.next_tick().is_some_and(|due| due <= moment.now)
                    || (replica.waits_for_lease() && moment.lease_valid())
            });
            if due {
                partition.step(Event::Tick);
            }
        });
    }
}

/// Writes the high watermarks down now and then, so that a restart begins near them.
pub(crate) async fn checkpoint(broker: Broker, stop: Shutdown) {
    let mut every = interval(broker.config().checkpoint_interval);
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => {}
        }
        if broker.shared().take_checkpoint_due() {
            let broker = broker.clone();
            // A failed write is logged there; the next one is due soon.
            let _ = tokio::task::spawn_blocking(move || checkpoint_now(&broker)).await;
        }
    }
}

pub(crate) fn checkpoint_now(broker: &Broker) {
    let mut offsets = HashMap::new();
    broker.partitions().for_each(|partition| {
        offsets.insert(partition.key(), partition.high_watermark());
    });
    if let Err(error) = broker.dir().checkpoint_high_watermarks(&offsets) {
        warn!(%error, "cannot write the high watermark checkpoint");
    }
}

pub(crate) async fn report_health(
    component: &'static str,
    health: Health,
    mut standing: watch::Receiver<Standing>,
    stop: Shutdown,
) {
    loop {
        if standing.borrow_and_update().unfenced {
            health.set_ready(component);
        } else {
            health.set_not_ready(component, "fenced by the controllers");
        }
        tokio::select! {
            () = stop.cancelled() => break,
            changed = standing.changed() => if changed.is_err() { break },
        }
    }
    health.set_not_ready(component, "stopping");
}
