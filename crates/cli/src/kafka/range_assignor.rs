//! Kafka's range assignor: per topic, members in order get runs of partitions.

use std::collections::BTreeMap;

use super::TopicPartition;

/// Who wants which topics, by member id.
pub(crate) type Subscriptions = BTreeMap<String, Vec<String>>;

/// Divides the topics' partitions (`counts`) among the members; every member has an entry.
pub(crate) fn assign(
    subscriptions: &Subscriptions,
    counts: &BTreeMap<String, Vec<i32>>,
) -> BTreeMap<String, Vec<TopicPartition>> {
    let mut assigned: BTreeMap<String, Vec<TopicPartition>> = subscriptions
        .keys()
        .map(|member| (member.clone(), Vec::new()))
        .collect();
    for (topic, partitions) in counts {
        let wants = |topics: &Vec<String>| topics.contains(topic);
        let members: Vec<&String> = subscriptions
            .iter()
            .filter(|(_, t)| wants(t))
            .map(|(m, _)| m)
            .collect();
        if members.is_empty() {
            continue;
        }
        let (each, more) = (partitions.len() / members.len(), partitions.len() % members.len());
        let mut rest = partitions.iter();
        for (index, member) in members.into_iter().enumerate() {
            let share = each + usize::from(index < more);
            let run = rest
                .by_ref()
                .take(share)
                .map(|&partition| TopicPartition::new(topic, partition));
            assigned.entry(member.clone()).or_default().extend(run);
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_as_even_as_can_be() {
        let subscribe = |topics: &[&str]| topics.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let subscriptions = Subscriptions::from([
            ("a".to_owned(), subscribe(&["x", "y"])),
            ("b".to_owned(), subscribe(&["x"])),
            ("c".to_owned(), subscribe(&["x", "nowhere"])),
        ]);
        let counts = BTreeMap::from([
            ("x".to_owned(), vec![0, 1, 2, 3, 4]),
            ("y".to_owned(), vec![0, 1]),
        ]);
        let assigned = assign(&subscriptions, &counts);
        let shown = |member: &str| {
            assigned[member]
                .iter()
                .map(TopicPartition::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(shown("a"), ["x-0", "x-1", "y-0", "y-1"]);
        assert_eq!(shown("b"), ["x-2", "x-3"]);
        assert_eq!(shown("c"), ["x-4"]);
    }
}
