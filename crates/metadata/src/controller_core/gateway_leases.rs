//! Which gateways are connected: one that is not for longer than the grace leaves the image.

use std::collections::BTreeMap;
use std::time::Duration;

use strom_types::Mono;
use uuid::Uuid;

use crate::image::Image;

#[derive(Clone, Copy, Debug, Default)]
struct Lease {
    streams: u32,
    /// When a gateway without a stream leaves.
    end: Mono,
}

/// Soft state of the active controller, as broker sessions are.
pub(super) struct GatewayLeases {
    grace: Duration,
    leases: BTreeMap<Uuid, Lease>,
}

impl GatewayLeases {
    pub(super) fn new(grace: Duration) -> Self {
        GatewayLeases {
            grace,
            leases: BTreeMap::new(),
        }
    }

    /// A new leader waits for every gateway to come to it.
    pub(super) fn restart(&mut self, image: &Image, now: Mono) {
        self.leases.clear();
        self.follow(image, now);
    }

    pub(super) fn follow(&mut self, image: &Image, now: Mono) {
        self.leases
            .retain(|id, lease| lease.streams > 0 || image.gateway(*id).is_some());
        let end = now + self.grace;
        for gateway in image.gateways() {
            self.leases.entry(gateway.id).or_insert(Lease { streams: 0, end });
        }
    }

    pub(super) fn connected(&mut self, id: Uuid) {
        self.leases.entry(id).or_default().streams += 1;
    }

    pub(super) fn disconnected(&mut self, id: Uuid, now: Mono) {
        let end = now + self.grace;
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.streams = lease.streams.saturating_sub(1);
            lease.end = end;
        }
    }

    /// Takes out those whose grace is over.
    pub(super) fn take_expired(&mut self, now: Mono) -> Vec<Uuid> {
        let expired: Vec<Uuid> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.streams == 0 && lease.end <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in &expired {
            self.leases.remove(id);
        }
        expired
    }

    pub(super) fn next_expiry(&self) -> Option<Mono> {
        self.leases
            .values()
            .filter(|lease| lease.streams == 0)
            .map(|lease| lease.end)
            .min()
    }
}
