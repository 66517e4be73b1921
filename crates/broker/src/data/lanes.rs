//! Fences the older streams of a gateway's produce lane, so that what is left of a broken stream never overtakes what
//! came on the next.

use std::collections::HashMap;

use http::HeaderMap;
use parking_lot::Mutex;
use strom_proto::splice::LANE_HEADER;
use strom_runtime::Shutdown;
use uuid::Uuid;

/// Lanes remembered; gateways that come and go leave one each.
const LANES_MAX: usize = 10_000;

/// A lane and which of its streams this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LaneName {
    lane: Uuid,
    generation: u64,
}

impl LaneName {
    /// `<uuid>/<generation>`; `None` for peers that keep no lane.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let (lane, generation) = headers.get(LANE_HEADER)?.to_str().ok()?.split_once('/')?;
        Some(LaneName {
            lane: Uuid::try_parse(lane).ok()?,
            generation: generation.parse().ok()?,
        })
    }
}

/// The newest stream of each lane.
#[derive(Default)]
pub(crate) struct Lanes {
    open: Mutex<HashMap<Uuid, (u64, Shutdown)>>,
}

impl Lanes {
    /// Opens a stream and ends the older ones of its lane; `None` when a newer one is open already.
    pub(super) fn open(&self, name: LaneName) -> Option<Shutdown> {
        let mut open = self.open.lock();
        if let Some((generation, older)) = open.get(&name.lane) {
            if *generation >= name.generation {
                return None;
            }
            older.trigger("a newer stream of the lane is open");
        }
        if open.len() >= LANES_MAX {
            open.retain(|_, (_, stream)| !stream.is_triggered());
        }
        let stream = Shutdown::new();
        open.insert(name.lane, (name.generation, stream.clone()));
        Some(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_stream_ends_the_older_and_a_late_one_is_refused() {
        let lanes = Lanes::default();
        let lane = Uuid::from_u128(1);
        let first = lanes.open(LaneName { lane, generation: 1 }).unwrap();
        let second = lanes.open(LaneName { lane, generation: 2 }).unwrap();
        assert!(first.is_triggered() && !second.is_triggered());
        assert!(lanes.open(LaneName { lane, generation: 1 }).is_none());
        assert!(
            lanes
                .open(LaneName {
                    lane: Uuid::from_u128(2),
                    generation: 1
                })
                .is_some()
        );
    }

    #[test]
    fn malformed_names_are_no_lanes() {
        for text in [
            "",
            "x/1",
            "00000000-0000-0000-0000-000000000001",
            "00000000-0000-0000-0000-000000000001/-1",
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(LANE_HEADER, text.parse().unwrap());
            assert_eq!(LaneName::of(&headers), None, "{text}");
        }
    }
}
