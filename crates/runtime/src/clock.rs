//! The two clocks as one handle that is passed in, real or set by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};
use strom_types::{Mono, WallMs};

/// Cheap to clone. Monotonic time includes suspend (`CLOCK_BOOTTIME`), so that a lease also ends on a machine
/// that was asleep.
#[derive(Clone, Debug)]
pub struct Clock(Inner);

#[derive(Clone, Debug)]
enum Inner {
    System,
    Manual(Arc<ManualState>),
}

#[derive(Debug)]
struct ManualState {
    mono_nanos: AtomicU64,
    wall_ms: AtomicI64,
}

impl Clock {
    pub const fn system() -> Self {
        Clock(Inner::System)
    }

    /// A clock that stands still until its [`ManualClock`] moves it.
    pub fn manual(mono: Mono, wall: WallMs) -> (Clock, ManualClock) {
        let state = Arc::new(ManualState {
            mono_nanos: AtomicU64::new(mono.0),
            wall_ms: AtomicI64::new(wall.0),
        });
        (Clock(Inner::Manual(Arc::clone(&state))), ManualClock(state))
    }

    pub fn mono(&self) -> Mono {
        match &self.0 {
            Inner::System => {
                let time = clock_gettime(ClockId::Boottime);
                let nanos = seconds(time).saturating_mul(1_000_000_000);
                Mono(nanos.saturating_add(subsecond_nanos(time)))
            }
            Inner::Manual(state) => Mono(state.mono_nanos.load(Ordering::SeqCst)),
        }
    }

    pub fn wall(&self) -> WallMs {
        match &self.0 {
            Inner::System => {
                let time = clock_gettime(ClockId::Realtime);
                let millis = seconds(time).saturating_mul(1_000) + subsecond_nanos(time) / 1_000_000;
                WallMs(i64::try_from(millis).unwrap_or(i64::MAX))
            }
            Inner::Manual(state) => WallMs(state.wall_ms.load(Ordering::SeqCst)),
        }
    }
}

fn seconds(time: Timespec) -> u64 {
    u64::try_from(time.tv_sec).unwrap_or(0)
}

fn subsecond_nanos(time: Timespec) -> u64 {
    u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Moves the clocks made with it by [`Clock::manual`].
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<ManualState>);

impl ManualClock {
    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.0.mono_nanos.fetch_add(nanos, Ordering::SeqCst);
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.0.wall_ms.fetch_add(millis, Ordering::SeqCst);
    }

    /// Sets the wall clock alone, as an administrator or NTP may, in either direction.
    pub fn set_wall(&self, wall: WallMs) {
        self.0.wall_ms.store(wall.0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_runs() {
        let clock = Clock::system();
        let (before, wall) = (clock.mono(), clock.wall());
        while clock.mono() == before {}
        assert!(clock.mono() > before);
        // After 2020 and before 2100.
        assert!((1_577_836_800_000..4_102_444_800_000).contains(&wall.0));
    }

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let (clock, hand) = Clock::manual(Mono(5), WallMs(1_000));
        let copy = clock.clone();
        hand.advance(Duration::from_millis(2));
        assert_eq!((copy.mono(), copy.wall()), (Mono(2_000_005), WallMs(1_002)));
        hand.set_wall(WallMs(-1));
        assert_eq!((clock.mono(), clock.wall()), (Mono(2_000_005), WallMs(-1)));
    }
}
