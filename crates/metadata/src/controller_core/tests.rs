//! Tests of the active controller's core: batching, replies, sessions, leadership.

use std::time::Duration;

use strom_proto::v1;
use strom_types::{BrokerId, ErrorCode, MetadataOffset, Mono, WallMs};
use uuid::Uuid;

use super::{Answer, ControllerCore, CoreConfig, CoreEvent, NextBatch, RequestId};
use crate::commands::{Command, Reply};
use crate::image::Image;
use crate::testing::{TestBroker, image_with_brokers, uuid_bytes};

fn at(ms: u64) -> Mono {
    Mono(ms * 1_000_000)
}

/// A core over a log that commits what it is told to.
struct Node {
    core: ControllerCore,
    image: Image,
}

impl Node {
    fn leading(brokers: &[TestBroker]) -> Node {
        let image = image_with_brokers(brokers);
        let mut core = ControllerCore::new(CoreConfig::default());
        core.became_leader(image.clone(), "unused", at(0));
        Node { core, image }
    }

    fn next(&mut self, ms: u64) -> NextBatch {
        self.core.next_batch(at(ms), WallMs(1_700_000_000_000))
    }

    fn commit(&mut self, batch: &v1::MetadataBatch, ms: u64) -> Vec<Answer> {
        let index = MetadataOffset(self.image.index.get() + 1);
        self.image.apply(index, batch).expect("the log accepts it");
        self.core.committed(index, &self.image, at(ms))
    }

    /// Proposes and commits until nothing is left to do.
    fn settle(&mut self, ms: u64) -> Vec<Answer> {
        let mut answers = Vec::new();
        loop {
            let next = self.next(ms);
            answers.extend(next.answers);
            match next.batch {
                Some(batch) => answers.extend(self.commit(&batch, ms)),
                None => return answers,
            }
        }
    }

    fn heartbeat(
        &mut self,
        id: i32,
        ms: u64,
        change: impl Fn(&mut v1::BrokerHeartbeatRequest),
    ) -> v1::BrokerHeartbeatReply {
        let epoch = self
            .image
            .broker(BrokerId(id))
            .map_or(-1, |broker| broker.epoch.get());
        let mut request = v1::BrokerHeartbeatRequest {
            broker_id: id,
            broker_epoch: epoch,
            sent_at: 77,
            metadata_offset: self.image.index.get(),
            ..Default::default()
        };
        change(&mut request);
        self.core.heartbeat(&request, at(ms))
    }

    fn create(&mut self, name: &str, id: u64, replicas: &[i32]) {
        let topic = v1::NewTopic {
            name: name.into(),
            partitions: -1,
            replication_factor: -1,
            assignments: vec![v1::ReplicaAssignment {
                partition: 0,
                brokers: replicas.to_vec(),
            }],
            topic_id: uuid_bytes(u128::from(id)),
            ..Default::default()
        };
        let request = v1::CreateTopicsRequest {
            topics: vec![topic],
            validate_only: false,
        };
        self.core
            .enqueue(Command::CreateTopics(request), RequestId(id))
            .expect("queued");
    }

    fn leader_of(&self, name: &str) -> Option<i32> {
        let topic = self.image.topic_by_name(name)?;
        topic.partitions.get(&0)?.leader.map(BrokerId::get)
    }
}

fn topic_code(answer: &Answer) -> ErrorCode {
    let code = match &answer.reply {
        Ok(Reply::CreateTopics(reply)) => reply.results[0].error.as_ref().map_or(0, |error| error.code),
        Ok(_) => 0,
        Err(error) => error.code,
    };
    ErrorCode::try_from(code).expect("known")
}

#[test]
fn waiting_commands_share_a_batch_and_see_each_other() {
    let mut node = Node::leading(&[TestBroker::active(1)]);
    node.create("a", 1, &[1]);
    let first = node.next(0).batch.expect("a batch");
    node.create("b", 2, &[1]);
    node.create("b", 3, &[1]);
    node.create("a", 4, &[1]);
    assert_eq!(node.next(0), NextBatch::default(), "one batch is in flight");
    assert_eq!(node.core.next_wakeup(), None);
    let answers = node.commit(&first, 0);
    assert_eq!(answers.len(), 1);
    match &answers[0].reply {
        Ok(Reply::CreateTopics(reply)) => assert_eq!(reply.metadata_offset, node.image.index.get()),
        other => panic!("{other:?}"),
    }
    let answers = node.settle(0);
    let codes: Vec<_> = answers.iter().map(|a| (a.request.0, topic_code(a))).collect();
    use ErrorCode::TopicAlreadyExists;
    assert_eq!(
        codes,
        [
            (2, ErrorCode::None),
            (3, TopicAlreadyExists),
            (4, TopicAlreadyExists)
        ]
    );
    assert_eq!(node.image.index.get(), 202);
    // Nothing to write: answered without an entry, with the index that it was decided on.
    node.create("a", 5, &[1]);
    let next = node.next(0);
    assert!(next.batch.is_none());
    assert_eq!(topic_code(&next.answers[0]), TopicAlreadyExists);
}

#[test]
fn lost_leadership_is_indeterminate_for_what_was_proposed_only() {
    let mut node = Node::leading(&[TestBroker::active(1)]);
    node.create("a", 1, &[1]);
    node.create("a", 2, &[1]);
    node.next(0).batch.expect("a batch");
    node.create("b", 3, &[1]);
    let answers = node.core.lost_leadership();
    let codes: Vec<_> = answers.iter().map(|a| (a.request.0, topic_code(a))).collect();
    use ErrorCode::{Indeterminate, NotController};
    assert_eq!(
        codes,
        [(1, Indeterminate), (2, Indeterminate), (3, NotController)]
    );
    let command = Command::RemoveGateway(Uuid::from_u128(1));
    let error = node.core.enqueue(command, RequestId(4)).expect_err("not leading");
    assert_eq!(error.code, NotController as i32);
    assert_eq!(node.next(100_000), NextBatch::default());
    assert_eq!(node.heartbeat(1, 0, |_| {}).error, NotController as i32);
}

#[test]
fn a_refused_proposal_is_answered_and_the_next_one_goes_on() {
    let mut node = Node::leading(&[TestBroker::active(1)]);
    node.create("a", 1, &[1]);
    node.next(0).batch.expect("a batch");
    let busy = strom_proto::convert::service_error(ErrorCode::Overloaded, "busy");
    let answers = node.core.refused(&busy);
    assert_eq!(topic_code(&answers[0]), ErrorCode::Overloaded);
    node.create("a", 2, &[1]);
    assert_eq!(topic_code(&node.settle(0)[0]), ErrorCode::None);
}

#[test]
fn the_queue_is_bounded() {
    let config = CoreConfig {
        queue_max: 2,
        ..Default::default()
    };
    let mut core = ControllerCore::new(config);
    core.became_leader(image_with_brokers(&[]), "", at(0));
    let command = || Command::RemoveGateway(Uuid::from_u128(1));
    core.enqueue(command(), RequestId(1)).expect("room");
    core.enqueue(command(), RequestId(2)).expect("room");
    let error = core.enqueue(command(), RequestId(3)).expect_err("full");
    assert_eq!(error.code, ErrorCode::Overloaded as i32);
}

#[test]
fn the_first_leader_names_the_cluster() {
    let mut node = Node {
        core: ControllerCore::new(CoreConfig::default()),
        image: Image::empty(),
    };
    node.core.became_leader(Image::empty(), "fresh", at(0));
    node.settle(0);
    assert_eq!(node.image.cluster_id(), "fresh");
    node.core.became_leader(node.image.clone(), "other", at(1));
    assert_eq!(node.next(1).batch, None);
}

#[test]
fn a_broker_comes_into_service_by_its_heartbeats() {
    let mut node = Node::leading(&[TestBroker::active(1)]);
    let registration = v1::RegisterBrokerRequest {
        cluster_id: "cluster".into(),
        broker_id: 2,
        incarnation: uuid_bytes(500),
        endpoint: "h:1".into(),
        directories: vec![v1::LogDirectory {
            directory_id: uuid_bytes(2),
            online: true,
        }],
        previous_clean_epoch: -1,
        ..Default::default()
    };
    node.core
        .enqueue(Command::RegisterBroker(registration), RequestId(1))
        .expect("queued");
    node.create("after", 2, &[2]);
    let next = node.next(0).batch.expect("the registration alone");
    let answers = node.commit(&next, 0);
    match &answers[..] {
        [
            Answer {
                reply: Ok(Reply::RegisterBroker(reply)),
                ..
            },
        ] => assert_eq!(reply.broker_epoch, 201),
        other => panic!("{other:?}"),
    }
    node.settle(0);
    let reply = node.heartbeat(2, 10, |request| request.metadata_offset = 200);
    assert!(reply.fenced && reply.error == 0 && reply.sent_at == 77 && reply.session_timeout_ms == 6000);
    assert_eq!(node.next(10).batch, None, "it has not seen its registration");
    assert!(node.heartbeat(2, 20, |_| {}).fenced);
    assert!(node.heartbeat(2, 30, |_| {}).fenced, "queued once");
    node.settle(30);
    assert!(!node.heartbeat(2, 40, |_| {}).fenced);
    assert_eq!(
        node.heartbeat(2, 40, |r| r.broker_epoch = 5).error,
        ErrorCode::StaleBrokerEpoch as i32
    );
    assert_eq!(
        node.heartbeat(9, 40, |_| {}).error,
        ErrorCode::BrokerIdNotRegistered as i32
    );
    let fenced = node.heartbeat(2, 50, |request| request.want_fence = true);
    assert!(!fenced.fenced);
    node.settle(50);
    assert!(node.image.broker(BrokerId(2)).expect("registered").fenced);
}

/// Found by the simulator (seed 19): the broker's lease was renewed for a whole session by a heartbeat that was answered
/// from the committed image while its fencing was on its way.
#[test]
fn a_heartbeat_renews_no_lease_while_the_fencing_is_on_its_way() {
    let mut node = Node::leading(&[1, 2].map(TestBroker::active));
    node.heartbeat(2, 5_000, |_| {});
    let fencing = node.next(7_000).batch.expect("broker 1 was silent");
    assert!(node.heartbeat(1, 7_001, |_| {}).fenced, "its lease must not grow");
    assert!(!node.heartbeat(2, 7_001, |_| {}).fenced);
    node.core.refused(&strom_proto::convert::service_error(
        ErrorCode::Overloaded,
        "busy",
    ));
    assert!(!node.heartbeat(1, 7_002, |_| {}).fenced, "it stays in service");

    node.heartbeat(2, 14_000, |_| {});
    assert_eq!(
        node.next(14_000).batch.expect("silent again").records,
        fencing.records
    );
    node.core.lost_leadership();
    node.core.became_leader(node.image.clone(), "unused", at(14_001));
    assert!(!node.heartbeat(1, 14_002, |_| {}).fenced);
}

#[test]
fn silent_brokers_are_fenced_one_per_entry() {
    let mut node = Node::leading(&[1, 2, 3].map(TestBroker::active));
    node.create("t", 1, &[1, 2, 3]);
    node.settle(0);
    assert_eq!(node.core.next_wakeup(), Some(at(6_000)));
    node.heartbeat(3, 5_000, |_| {});
    node.create("u", 2, &[3]);
    let next = node.next(6_000);
    assert!(matches!(
        next.events[..],
        [CoreEvent::Fencing {
            broker: BrokerId(1),
            ..
        }]
    ));
    let batch = next.batch.expect("a fence");
    assert_eq!(
        batch.records.len(),
        2,
        "the broker and one partition, nothing else"
    );
    node.commit(&batch, 6_000);
    assert_eq!(node.leader_of("t"), Some(2));
    let next = node.next(6_000);
    assert!(matches!(
        next.events[..],
        [CoreEvent::Fencing {
            broker: BrokerId(2),
            ..
        }]
    ));
    node.commit(&next.batch.expect("a fence"), 6_000);
    assert_eq!(node.leader_of("t"), Some(3));
    assert_eq!(node.settle(6_000).len(), 1, "then the waiting command");
}

#[test]
fn a_new_leader_reckons_with_heartbeats_that_the_old_one_still_answered() {
    let config = CoreConfig {
        handover_grace: Duration::from_millis(600),
        ..Default::default()
    };
    let mut core = ControllerCore::new(config);
    core.became_leader(image_with_brokers(&[TestBroker::active(1)]), "", at(0));
    assert_eq!(core.next_batch(at(6_599), WallMs(0)), NextBatch::default());
    assert!(core.next_batch(at(6_600), WallMs(0)).batch.is_some());
}

#[test]
fn evidence_of_death_fences_at_once() {
    let mut node = Node::leading(&[1, 2].map(TestBroker::active));
    node.create("t", 1, &[1, 2]);
    node.settle(0);
    let epoch = node.image.broker(BrokerId(1)).expect("registered").epoch;
    node.core.broker_died(BrokerId(1), epoch);
    assert_eq!(node.core.next_wakeup(), Some(Mono(0)));
    node.settle(1);
    assert_eq!(node.leader_of("t"), Some(2));
    let reply = node.heartbeat(1, 2, |_| {});
    assert!(
        reply.fenced,
        "it lives after all, and comes back by its heartbeats"
    );
    node.settle(2);
    assert!(!node.heartbeat(1, 3, |_| {}).fenced);
}

#[test]
fn a_controlled_shutdown_waits_until_the_others_have_seen_it() {
    let mut node = Node::leading(&[1, 2].map(TestBroker::active));
    node.create("t", 1, &[1, 2]);
    node.settle(0);
    let want = |request: &mut v1::BrokerHeartbeatRequest| request.want_shutdown = true;
    node.heartbeat(2, 1, |_| {});
    assert!(!node.heartbeat(1, 1, want).may_shut_down);
    node.settle(1);
    assert_eq!(node.leader_of("t"), Some(2));
    let reply = node.heartbeat(1, 2, want);
    assert!(
        !reply.may_shut_down && !reply.fenced,
        "broker 2 has not applied it"
    );
    node.heartbeat(2, 3, |_| {});
    assert!(node.heartbeat(1, 4, want).may_shut_down);
    // A new leader only knows that it began at some index up to its own.
    node.core.lost_leadership();
    node.core.became_leader(node.image.clone(), "", at(5));
    assert!(!node.heartbeat(1, 6, want).may_shut_down);
    node.heartbeat(2, 7, |_| {});
    assert!(node.heartbeat(1, 8, want).may_shut_down);
    let fenced = TestBroker::fenced(7);
    let mut other = Node::leading(&[fenced]);
    assert!(
        other.heartbeat(7, 1, want).may_shut_down,
        "it leads nothing anyway"
    );
    assert_eq!(other.next(1).batch, None);
}

#[test]
fn lost_directories_and_damage_are_acted_on_before_service() {
    let mut node = Node::leading(&[1, 2].map(TestBroker::active));
    node.create("t", 1, &[1, 2]);
    node.settle(0);
    let damaged = |request: &mut v1::BrokerHeartbeatRequest| {
        request.damaged = vec![v1::DamagedReplica {
            topic_id: uuid_bytes(1),
            partition: 0,
            leader_epoch: 0,
        }];
    };
    node.heartbeat(1, 1, damaged);
    node.settle(1);
    assert_eq!(node.leader_of("t"), Some(2));
    let index = node.image.index;
    node.heartbeat(1, 2, damaged);
    node.settle(2);
    assert_eq!(node.image.index, index, "reported again, done already");
    node.heartbeat(2, 3, |request| {
        request.offline_directories = vec![uuid_bytes(2), bytes::Bytes::from_static(b"junk")];
    });
    node.settle(3);
    let broker = node.image.broker(BrokerId(2)).expect("registered");
    assert!(
        broker.fenced && !broker.directories[0].online,
        "nothing left to serve from"
    );
    node.heartbeat(2, 4, |_| {});
    node.settle(4);
    assert!(node.image.broker(BrokerId(2)).expect("registered").fenced);
}

#[test]
fn gateways_leave_when_their_stream_is_gone_for_longer_than_the_grace() {
    let mut node = Node::leading(&[]);
    let id = Uuid::from_u128(9);
    let register = v1::RegisterGatewayRequest {
        gateway_id: uuid_bytes(9),
        ..Default::default()
    };
    node.core.gateway_connected(id);
    node.core
        .enqueue(Command::RegisterGateway(register), RequestId(1))
        .expect("queued");
    node.settle(0);
    assert_eq!(
        (node.image.gateways().count(), node.core.next_wakeup()),
        (1, None.or(Some(at(300_000))))
    );
    node.core.gateway_disconnected(id, at(1_000));
    node.core.gateway_connected(id);
    node.settle(20_000);
    assert_eq!(node.image.gateways().count(), 1);
    node.core.gateway_disconnected(id, at(20_000));
    assert_eq!(node.core.next_wakeup(), Some(at(25_000)));
    node.settle(25_000);
    assert_eq!(node.image.gateways().count(), 0);
}

#[test]
fn a_new_leader_waits_for_gateways_and_rebalances_in_time() {
    let mut node = Node::leading(&[1, 2].map(TestBroker::active));
    node.create("t", 1, &[1, 2]);
    node.settle(0);
    let interval = CoreConfig::default().rebalance_interval.expect("on");
    assert_eq!(interval, Duration::from_secs(300));
    for ms in (0..300_000).step_by(5_000) {
        node.heartbeat(1, ms, |_| {});
        node.heartbeat(2, ms, |_| {});
    }
    let epoch = node.image.broker(BrokerId(1)).expect("registered").epoch;
    node.core.broker_died(BrokerId(1), epoch);
    node.settle(299_000);
    node.heartbeat(1, 299_000, |_| {});
    node.settle(299_000);
    assert_eq!(node.leader_of("t"), Some(2));
    let topic = node.image.topic_by_name("t").expect("exists").clone();
    let state = topic.partitions.get(&0).expect("exists").clone();
    let members = [2, 1].map(|id| v1::IsrMember {
        broker_id: id,
        broker_epoch: node.image.broker(BrokerId(id)).expect("registered").epoch.get(),
    });
    let grow = v1::AlterPartitionRequest {
        broker_id: 2,
        broker_epoch: members[0].broker_epoch,
        partitions: vec![v1::AlterPartition {
            topic_id: uuid_bytes(1),
            partition: 0,
            leader_epoch: state.leader_epoch.get(),
            partition_epoch: state.partition_epoch.get(),
            new_isr: members.to_vec(),
            recovery_state: 0,
        }],
    };
    node.core
        .enqueue(Command::AlterPartition(grow), RequestId(2))
        .expect("queued");
    node.settle(299_500);
    assert_eq!(node.leader_of("t"), Some(2));
    node.settle(300_000);
    assert_eq!(node.leader_of("t"), Some(1));
}
