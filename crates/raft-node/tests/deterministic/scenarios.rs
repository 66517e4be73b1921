//! Directed stories: restarts, wiped disks, lost leadership, lagging members, early reads, the order of a turn.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};
use strom_proto::v1::RaftEnvelope;
use strom_raft_node::store::{MemoryDisk, MemoryStore, Store};
use strom_raft_node::transport::Unsent;
use strom_raft_node::{
    Driver, OpenError, Outbox, OutgoingSnapshot, ProposalId, ProposeError, RaftId, RaftRole, ReadError,
    ReadId, Setup, StorageId,
};
use strom_types::NodeId;

use crate::world::{CLUSTER, Ledger, Oracle, Weather, World, tuning};

fn calm(size: usize) -> World {
    let mut world = World::new(11, size, Weather::CALM);
    world.until(500, "a leader", |world| world.leader().is_some());
    world
}

fn propose_many(world: &mut World, count: usize) {
    for _ in 0..count {
        let leader = world.leader().unwrap();
        world.propose(leader);
        world.step();
    }
}

#[test]
fn a_killed_leader_is_replaced_and_comes_back() {
    let mut world = calm(3);
    propose_many(&mut world, 10);
    let old = world.leader().unwrap();
    world.crash(old);
    world.until(500, "another leader", |world| {
        world.leader().is_some_and(|leader| leader != old)
    });
    propose_many(&mut world, 10);
    world.converge();
    assert!(world.oracle.lock().acknowledged() >= 18);
}

#[test]
fn a_lagging_member_catches_up_by_snapshot() {
    let mut world = calm(3);
    let behind = (world.leader().unwrap() + 1) % 3;
    world.isolate(Some(behind));
    propose_many(&mut world, 100);
    world.isolate(None);
    world.converge();
    let node = world.node(behind).unwrap();
    assert!(node.describe().snapshot > 50);
    assert!(world.oracle.lock().snapshots_restored > 0);
}

#[test]
fn a_cut_off_leader_gives_up_and_its_proposals_are_indeterminate() {
    let mut world = calm(3);
    let old = world.leader().unwrap();
    world.isolate(Some(old));
    world.propose(old);
    assert_eq!(world.oracle.lock().indeterminate, 0);
    world.until(200, "the leader steps down", |world| {
        world.node(old).unwrap().status().role != RaftRole::Leader
    });
    assert_eq!(world.oracle.lock().indeterminate, 1);
    world.until(500, "another leader", |world| {
        world.leader().is_some_and(|leader| leader != old)
    });
    world.converge();
}

#[test]
fn an_emptied_disk_is_refused_by_everybody() {
    let mut world = calm(3);
    let victim = (world.leader().unwrap() + 1) % 3;
    world.wipe(victim);
    world.start(victim, u64::MAX);
    let term = world.node(world.leader().unwrap()).unwrap().status().term;
    for _ in 0..300 {
        world.step();
    }
    let wiped = world.node(victim).unwrap();
    let description = wiped.describe();
    assert_eq!(description.not_introduced.len(), 2);
    assert_eq!(
        (
            description.status.term,
            description.status.leader,
            description.status.applied
        ),
        (1, None, 1)
    );
    assert!(
        description
            .dropped
            .iter()
            .any(|(reason, _)| *reason == "refused_by_peer")
    );
    // The other two go on, but without the wiped one's vote they are only two: one more loss stops them.
    let leader = world.leader().unwrap();
    assert_eq!(world.node(leader).unwrap().status().term, term);
    let refusals = world.node(leader).unwrap().describe().dropped;
    assert!(
        refusals
            .iter()
            .any(|(reason, count)| *reason == "other_storage" && *count > 5)
    );
    propose_many(&mut world, 5);
    world.isolate(Some(leader));
    for _ in 0..300 {
        world.step();
    }
    assert_eq!(world.leader(), None, "the wiped member voted");
}

#[test]
fn nobody_takes_part_before_all_first_voters_know_each_other() {
    let mut world = World::new(3, 3, Weather::CALM);
    world.isolate(Some(2));
    for _ in 0..300 {
        world.step();
    }
    assert!((0..3).all(|at| world.node(at).unwrap().status().term == 1));
    assert_eq!(world.node(0).unwrap().describe().not_introduced, vec![NodeId(2)]);
    world.isolate(None);
    world.until(500, "a leader", |world| world.leader().is_some());
    // From then on a majority suffices, also after a restart of everything.
    for at in 0..3 {
        world.crash(at);
    }
    world.start(0, u64::MAX);
    world.start(1, u64::MAX);
    world.until(40, "a leader", |world| {
        world.leader().is_some() || world.node(2).is_some()
    });
}

#[test]
fn a_read_asked_before_the_first_commit_is_answered() {
    let mut world = World::new(5, 3, Weather::CALM);
    for at in 0..3 {
        world.read(at);
    }
    world.until(300, "three reads", |world| world.oracle.lock().reads_served == 3);
}

fn single(
    disk: &MemoryDisk,
    change: impl FnOnce(&mut Setup),
) -> Result<Driver<Ledger, MemoryStore>, OpenError> {
    let mut setup = Setup {
        node_id: NodeId(0),
        cluster_id: CLUSTER.into(),
        voters: vec![NodeId(0)],
        new_storage: StorageId::from_u128(1),
        seed: 1,
        incarnation: 1,
        tick: Duration::from_millis(50),
        tuning: tuning(),
    };
    change(&mut setup);
    Driver::open(
        setup,
        disk.open(),
        Ledger::new(0, Arc::new(Mutex::new(Oracle::default()))),
    )
}

#[test]
fn a_storage_is_opened_only_as_what_it_is() {
    let disk = MemoryDisk::new();
    assert!(single(&disk, |_| {}).is_ok());
    assert!(single(&disk, |_| {}).is_ok());
    assert!(matches!(
        single(&disk, |setup| {
            setup.node_id = NodeId(1);
            setup.voters = vec![NodeId(1)];
        }),
        Err(OpenError::Identity(_))
    ));
    assert!(matches!(
        single(&disk, |setup| setup.cluster_id = "other".into()),
        Err(OpenError::Identity(_))
    ));
    assert!(matches!(
        single(&disk, |setup| setup.voters.push(NodeId(1))),
        Err(OpenError::VotersChanged { .. })
    ));
    let fresh = MemoryDisk::new();
    assert!(matches!(
        single(&fresh, |setup| setup.voters = vec![NodeId(4)]),
        Err(OpenError::Config(_))
    ));
    assert!(matches!(
        single(&fresh, |setup| setup.voters.push(NodeId(0))),
        Err(OpenError::Config(_))
    ));
    assert!(matches!(
        single(&fresh, |setup| setup.cluster_id.clear()),
        Err(OpenError::Config(_))
    ));
}

/// Watches that nothing which vouches for our disk leaves while the disk has unsynced writes.
struct Order {
    disk: MemoryDisk,
    vouched: u64,
}

impl Outbox for Order {
    fn send(&mut self, _to: RaftId, envelope: RaftEnvelope) -> Result<(), Unsent> {
        for bytes in &envelope.messages {
            let message = Message::parse_from_bytes(bytes).unwrap();
            let store = self.disk.durable();
            match message.get_msg_type() {
                MessageType::MsgAppendResponse if !message.reject => {
                    self.vouched += 1;
                    let last = raft::Storage::last_index(&store).unwrap();
                    assert!(message.index <= last, "acknowledged {} of {last}", message.index);
                }
                MessageType::MsgRequestVoteResponse if !message.reject => {
                    self.vouched += 1;
                    let hard_state = &store.header().hard_state;
                    assert_eq!(
                        (hard_state.term, hard_state.vote),
                        (message.term, message.to),
                        "an unsynced vote"
                    );
                }
                _ => {}
            }
        }
        Ok(())
    }
    fn send_snapshot(&mut self, _snapshot: OutgoingSnapshot) {}
    fn proposed(&mut self, _id: ProposalId, _outcome: Result<u64, ProposeError>) {}
    fn read_ready(&mut self, _id: ReadId, _outcome: Result<u64, ReadError>) {}
}

#[test]
fn nothing_leaves_that_the_disk_does_not_hold() {
    let disk = MemoryDisk::new();
    let mut driver = single(&disk, |setup| {
        setup.voters = vec![NodeId(0), NodeId(1), NodeId(2)];
    })
    .unwrap();
    let mut order = Order {
        disk: disk.clone(),
        vouched: 0,
    };
    let envelope = |from: u64, hello: bool, message: Option<Message>| RaftEnvelope {
        cluster_id: CLUSTER.into(),
        from,
        to: 1,
        messages: message
            .map(|message| message.write_to_bytes().unwrap().into())
            .into_iter()
            .collect(),
        from_storage: vec![u8::try_from(from).unwrap(); 16].into(),
        to_storage: StorageId::from_u128(1).as_bytes().to_vec().into(),
        hello: hello.then(|| strom_proto::v1::RaftHello {
            voters: vec![1, 2, 3],
            kind: 1,
        }),
    };
    for peer in [2, 3] {
        driver.step(&envelope(peer, true, None)).unwrap();
    }
    let mut last = (1, 1);
    for turn in 0..10_000u64 {
        let (from, term) = (2 + turn / 50 % 2, 2 + turn / 50);
        let mut message = Message::default();
        message.from = from;
        message.to = 1;
        message.term = term;
        (message.index, message.log_term) = last;
        if turn % 50 == 0 {
            // Let the lease of the leader before run out first.
            for _ in 0..10 {
                driver.tick().unwrap();
            }
            message.set_msg_type(MessageType::MsgRequestVote);
        } else {
            message.set_msg_type(MessageType::MsgAppend);
            let mut entry = raft::eraftpb::Entry::default();
            (entry.index, entry.term) = (last.0 + 1, term);
            entry.data = Bytes::from_static(b"x");
            // Now and then it stays uncommitted and is overwritten by the next leader.
            message.commit = if turn % 50 > 45 { 0 } else { entry.index };
            last = (entry.index, term);
            message.set_entries(vec![entry].into());
        }
        driver.step(&envelope(from, false, Some(message))).unwrap();
        while driver.has_ready() {
            driver.on_ready(&mut order).unwrap();
        }
    }
    assert!(
        order.vouched >= 9_900,
        "only {} messages vouched for the disk",
        order.vouched
    );
}
