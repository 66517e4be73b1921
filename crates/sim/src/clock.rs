//! A node's clocks: a monotonic one that starts anywhere and runs a little fast or slow, and a wall clock that is off.

use strom_types::{Mono, WallMs};

use crate::rng::Rng;

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000 * MS;

/// Rates differ by at most this much: the lease rests on clock drift being small.
const DRIFT_PPM_MAX: u64 = 400;
const HOUR_MS: u64 = 3_600_000;
const EPOCH_MS: i64 = 1_790_000_000_000;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    start: u64,
    drift_ppm: i64,
    wall_offset_ms: i64,
}

impl Clock {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let signed =
            |value: u64, half: u64| i64::try_from(value).unwrap_or(0) - i64::try_from(half).unwrap_or(0);
        Clock {
            start: rng.range(1, 100 * SECOND),
            drift_ppm: signed(rng.below(2 * DRIFT_PPM_MAX), DRIFT_PPM_MAX),
            wall_offset_ms: signed(rng.below(2 * HOUR_MS), HOUR_MS),
        }
    }

    /// The node's monotonic time at the world's time.
    pub(crate) fn mono(&self, now: u64) -> Mono {
        let drift = i128::from(now) * i128::from(self.drift_ppm) / 1_000_000;
        let local = i128::from(now) + drift + i128::from(self.start);
        Mono(u64::try_from(local).unwrap_or(0))
    }

    pub(crate) fn wall(&self, now: u64) -> WallMs {
        let elapsed = i64::try_from(now / MS).unwrap_or(0);
        WallMs(EPOCH_MS + elapsed + self.wall_offset_ms)
    }
}
