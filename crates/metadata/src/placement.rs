//! Where the replicas of new partitions go: evenly over brokers, spread over racks, the same for the same image.

use std::collections::BTreeMap;

use strom_types::BrokerId;
use thiserror::Error;

use crate::image::{BrokerImage, Image};

/// Why replicas cannot be placed, in Kafka's words.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum PlacementError {
    #[error(
        "Unable to replicate the partition {wanted} time(s): The target replication factor of {wanted} cannot be \
         reached because only {registered} broker(s) are registered."
    )]
    TooFewBrokers { wanted: usize, registered: usize },
    #[error(
        "Unable to replicate the partition {wanted} time(s): All brokers are currently fenced or in controlled shutdown."
    )]
    NoneActive { wanted: usize },
}

/// The brokers that may take replicas, ordered so that neighbours lie in different racks.
pub struct Placement {
    active: Vec<(BrokerId, Option<String>)>,
    /// Fenced or shutting down: taken only when the active ones do not suffice, and never first.
    reserve: Vec<(BrokerId, Option<String>)>,
    /// Where the next partition begins.
    rotation: usize,
}

impl Placement {
    /// Cordoned brokers take none. The rotation goes on where the existing partitions end, so that many small
    /// topics spread as one large topic does.
    pub fn of(image: &Image) -> Placement {
        let usable = || image.brokers().filter(|broker| !broker.cordoned);
        Placement {
            active: interleaved(usable().filter(|broker| broker.is_active())),
            reserve: interleaved(usable().filter(|broker| !broker.is_active())),
            rotation: image.partition_count(),
        }
    }

    /// The replicas of `partitions` new partitions, each list with its preferred leader first.
    pub fn place(&self, partitions: usize, replicas: usize) -> Result<Vec<Vec<BrokerId>>, PlacementError> {
        let registered = self.active.len() + self.reserve.len();
        if self.active.is_empty() && registered > 0 {
            return Err(PlacementError::NoneActive { wanted: replicas });
        }
        if replicas > registered {
            return Err(PlacementError::TooFewBrokers {
                wanted: replicas,
                registered,
            });
        }
        let place = |n: usize| self.place_one(self.rotation.wrapping_add(n), replicas);
        Ok((0..partitions).map(place).collect())
    }

    fn place_one(&self, turn: usize, replicas: usize) -> Vec<BrokerId> {
        let mut chosen: Vec<&(BrokerId, Option<String>)> = Vec::with_capacity(replicas);
        for pool in [&self.active, &self.reserve] {
            let order = walk(pool, turn);
            // First one broker of each rack, then whoever is next.
            for new_racks_only in [true, false] {
                for broker in &order {
                    let rack_used = chosen
                        .iter()
                        .any(|other| other.1.is_some() && other.1 == broker.1);
                    let used = chosen.iter().any(|other| other.0 == broker.0);
                    if chosen.len() < replicas && !used && !(new_racks_only && rack_used) {
                        chosen.push(broker);
                    }
                }
            }
        }
        chosen.iter().map(|broker| broker.0).collect()
    }
}

/// The pool from the turn's leader on. Each full round shifts the rest by one more (Kafka's
/// `AdminUtils.replicaIndex`), so that one broker's followers are spread over all others.
fn walk<T>(pool: &[T], turn: usize) -> Vec<&T> {
    let size = pool.len();
    if size == 0 {
        return Vec::new();
    }
    let (leader, shift) = (turn % size, turn / size);
    let others = (0..size - 1).map(|n| leader + 1 + (shift + n) % (size - 1));
    std::iter::once(leader)
        .chain(others)
        .filter_map(|at| pool.get(at % size))
        .collect()
}

fn interleaved<'a>(
    brokers: impl Iterator<Item = &'a std::sync::Arc<BrokerImage>>,
) -> Vec<(BrokerId, Option<String>)> {
    let mut racks: BTreeMap<Option<String>, Vec<BrokerId>> = BTreeMap::new();
    for broker in brokers {
        racks.entry(broker.rack.clone()).or_default().push(broker.id);
    }
    let longest = racks.values().map(Vec::len).max().unwrap_or(0);
    (0..longest)
        .flat_map(|row| {
            racks
                .iter()
                .filter_map(move |(rack, ids)| ids.get(row).map(|id| (*id, rack.clone())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestBroker, image_with_brokers};

    fn spread(lists: &[Vec<BrokerId>]) -> (BTreeMap<i32, usize>, BTreeMap<i32, usize>) {
        let (mut leaders, mut all) = (BTreeMap::new(), BTreeMap::new());
        for list in lists {
            for (n, id) in list.iter().enumerate() {
                *all.entry(id.get()).or_insert(0) += 1;
                if n == 0 {
                    *leaders.entry(id.get()).or_insert(0) += 1;
                }
            }
        }
        (leaders, all)
    }

    #[test]
    fn even_over_brokers_and_followers() {
        let image = image_with_brokers(&[1, 2, 3, 4, 5].map(TestBroker::active));
        let lists = Placement::of(&image).place(100, 3).expect("places");
        let (leaders, all) = spread(&lists);
        assert!(leaders.values().all(|n| *n == 20), "{leaders:?}");
        assert!(all.values().all(|n| *n == 60), "{all:?}");
        let of_one: Vec<_> = lists
            .iter()
            .filter(|list| list[0] == BrokerId(1))
            .cloned()
            .collect();
        let (_, followers) = spread(&of_one);
        assert!((2..=5).all(|id| followers[&id] >= 9), "{followers:?}");
        assert_eq!(Placement::of(&image).place(100, 3).expect("places"), lists);
    }

    #[test]
    fn no_rack_holds_two_replicas_while_others_have_none() {
        let racks = ["a", "a", "b", "b", "c", "c"];
        let brokers: Vec<_> = (1..)
            .zip(racks)
            .map(|(id, rack)| TestBroker::active(id).rack(rack))
            .collect();
        let image = image_with_brokers(&brokers);
        let lists = Placement::of(&image).place(60, 3).expect("places");
        for list in &lists {
            let mut used: Vec<_> = list.iter().map(|id| racks[id.get() as usize - 1]).collect();
            used.sort_unstable();
            assert_eq!(used, ["a", "b", "c"]);
        }
        let (leaders, all) = spread(&lists);
        assert!(leaders.values().all(|n| *n == 10), "{leaders:?}");
        assert!(all.values().all(|n| (25..=35).contains(n)), "{all:?}");
        let four = Placement::of(&image).place(1, 4).expect("places");
        assert_eq!(four[0].len(), 4);
    }

    #[test]
    fn fenced_brokers_are_the_last_resort_and_cordoned_ones_none() {
        let brokers = [
            TestBroker::active(1),
            TestBroker::fenced(2),
            TestBroker::active(3),
            TestBroker::active(4).cordoned(),
        ];
        let image = image_with_brokers(&brokers);
        let placement = Placement::of(&image);
        for list in placement.place(4, 2).expect("places") {
            assert!(
                !list.contains(&BrokerId(2)) && !list.contains(&BrokerId(4)),
                "{list:?}"
            );
        }
        for list in placement.place(4, 3).expect("places") {
            assert_eq!(list[2], BrokerId(2));
        }
        let error = placement.place(1, 4).expect_err("too few");
        assert!(error.to_string().contains("only 3 broker(s) are registered"));
        let none = image_with_brokers(&[TestBroker::fenced(1)]);
        assert_eq!(
            Placement::of(&none).place(1, 1),
            Err(PlacementError::NoneActive { wanted: 1 })
        );
    }
}
