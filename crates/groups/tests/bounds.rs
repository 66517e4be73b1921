//! Hostile sizes (reliability 7.3, rows 31 and 32): refused, and nothing is left behind.

mod harness;

use bytes::Bytes;
use harness::{Shell, subscription};
use strom_groups::{Config, Event, GroupFilter, JoinGroup, LeaveGroup, LeavingMember, Protocol, Reply};
use strom_types::ErrorCode;

fn join_request(group: &str, index: usize, metadata: Bytes) -> JoinGroup {
    JoinGroup {
        group_id: group.to_owned(),
        client_id: "c".to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![Protocol {
            name: "range".to_owned(),
            metadata,
        }],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id_suffix: index.to_string(),
        ..JoinGroup::default()
    }
}

/// The error it is answered with; `None` when it is parked.
fn join(shell: &mut Shell, group: &str, index: usize, metadata: Bytes) -> Option<ErrorCode> {
    let request = shell.request();
    let join = join_request(group, index, metadata);
    shell.step(Event::JoinGroup(request, join));
    match shell.replies.pop() {
        Some((_, Reply::JoinGroup(reply))) => Some(reply.error),
        _ => None,
    }
}

#[test]
fn ten_thousand_members_meet_group_max_size() {
    let mut shell = Shell::new(Config {
        group_max_size: 1_000,
        ..Config::default()
    });
    let metadata = subscription(&["t"]);
    let refused = (0..10_000)
        .filter_map(|index| join(&mut shell, "g", index, metadata.clone()))
        .inspect(|error| assert_eq!(*error, ErrorCode::GroupMaxSizeReached))
        .count();
    assert_eq!(refused, 9_000);
    assert_eq!(shell.coordinator.describe("g").members.len(), 1_000);
}

#[test]
fn too_much_metadata_leaves_no_group_behind() {
    let mut shell = Shell::new(Config::default());
    let huge = Bytes::from(vec![0; 10 << 20]);
    for index in 0..100 {
        let group = format!("g{index}");
        assert_eq!(
            join(&mut shell, &group, index, huge.clone()),
            Some(ErrorCode::InvalidRequest)
        );
    }
    assert_eq!(shell.coordinator.list(&GroupFilter::default()), []);
}

#[test]
fn member_bytes_of_all_groups_are_bounded() {
    let mut config = Config::default();
    config.limits.all_members_bytes_max = 1 << 20;
    let mut shell = Shell::new(config);
    let large = Bytes::from(vec![0; 200 << 10]);
    let refused = (0..100).filter_map(|index| join(&mut shell, &format!("g{index}"), index, large.clone()));
    assert_eq!(refused.count(), 95);
    assert_eq!(shell.coordinator.list(&GroupFilter::default()).len(), 5);
}

#[test]
fn what_members_held_is_given_back() {
    let mut config = Config::default();
    config.limits.all_members_bytes_max = 1 << 20;
    config.limits.all_members_max = 2;
    let mut shell = Shell::new(config);
    for index in 0..50 {
        // It grows, restarts under its instance id, and leaves.
        for (size, suffix) in [(100 << 10, 2 * index), (200 << 10, 2 * index + 1)] {
            let request = shell.request();
            let static_join = JoinGroup {
                group_instance_id: Some("i".to_owned()),
                ..join_request("g", suffix, Bytes::from(vec![0; size]))
            };
            shell.step(Event::JoinGroup(request, static_join));
        }
        assert_eq!(shell.coordinator.describe("g").members.len(), 1);
        let request = shell.request();
        let leave = LeaveGroup {
            group_id: "g".to_owned(),
            members: vec![LeavingMember {
                group_instance_id: Some("i".to_owned()),
                ..LeavingMember::default()
            }],
        };
        shell.step(Event::LeaveGroup(request, leave));
        assert_eq!(shell.coordinator.describe("g").members, []);
        shell.replies.clear();
    }
    assert_eq!(join(&mut shell, "h", 0, Bytes::from(vec![0; 200 << 10])), None);
}
