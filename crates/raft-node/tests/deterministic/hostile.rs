//! Messages that no sane peer sends: none may panic the node, and it goes on working.

use crate::world::{CLUSTER, Ledger, Random, tuning};
use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use strom_proto::v1::RaftEnvelope;
use strom_raft_node::store::{MemoryDisk, MemoryStore};
use strom_raft_node::{Driver, IncomingSnapshot, Setup, StorageId};
use strom_types::NodeId;

use crate::quiet::Quiet;

fn storage(node: u64) -> StorageId {
    StorageId::from_u128(u128::from(node) + 100)
}

fn envelope(from: u64, messages: Vec<Bytes>) -> RaftEnvelope {
    RaftEnvelope {
        cluster_id: CLUSTER.into(),
        from,
        to: 1,
        messages,
        from_storage: storage(from).as_bytes().to_vec().into(),
        to_storage: storage(1).as_bytes().to_vec().into(),
        hello: None,
    }
}

/// Node 0 of three, introduced to the other two, following node 1 (raft id 2) with a few entries.
fn victim() -> Driver<Ledger, MemoryStore> {
    let setup = Setup {
        node_id: NodeId(0),
        cluster_id: CLUSTER.into(),
        voters: vec![NodeId(0), NodeId(1), NodeId(2)],
        new_storage: storage(1),
        seed: 5,
        incarnation: 1,
        tick: std::time::Duration::from_millis(50),
        tuning: tuning(),
    };
    let mut driver = Driver::open(
        setup,
        MemoryDisk::new().open(),
        Ledger::new(0, Default::default()),
    )
    .unwrap();
    for peer in [2, 3] {
        let mut hello = envelope(peer, Vec::new());
        hello.hello = Some(strom_proto::v1::RaftHello {
            voters: vec![1, 2, 3],
            kind: 1,
        });
        driver.step(&hello).unwrap();
    }
    turn(&mut driver);
    let mut append = message(MessageType::MsgAppend, 2, 2);
    append.index = 1;
    append.log_term = 1;
    append.commit = 3;
    append.set_entries((2..=4).map(|index| entry(index, 2)).collect::<Vec<_>>().into());
    send(&mut driver, &append);
    assert_eq!(driver.status().applied, 3, "the victim follows");
    driver
}

fn turn(driver: &mut Driver<Ledger, MemoryStore>) {
    while driver.has_ready() {
        driver.on_ready(&mut Quiet).unwrap();
    }
}

fn message(kind: MessageType, from: u64, term: u64) -> Message {
    let mut message = Message::default();
    message.set_msg_type(kind);
    message.from = from;
    message.to = 1;
    message.term = term;
    message
}

fn entry(index: u64, term: u64) -> Entry {
    let mut entry = Entry::default();
    entry.index = index;
    entry.term = term;
    entry.data = format!("{index}").into();
    entry
}

fn send(driver: &mut Driver<Ledger, MemoryStore>, message: &Message) {
    let from = message.from;
    let bytes = Bytes::from(message.write_to_bytes().unwrap());
    if message.get_msg_type() == MessageType::MsgSnapshot {
        let envelope = envelope(from, vec![bytes]);
        driver
            .install_snapshot(IncomingSnapshot {
                envelope,
                chunks: Vec::new(),
            })
            .unwrap();
    } else {
        driver.step(&envelope(from, vec![bytes])).unwrap();
    }
    turn(driver);
}

fn dropped(driver: &Driver<Ledger, MemoryStore>, reason: &str) -> u64 {
    driver
        .describe()
        .dropped
        .iter()
        .find(|(name, _)| *name == reason)
        .map_or(0, |(_, count)| *count)
}

#[test]
fn what_raft_would_panic_on_is_dropped_and_counted() {
    let mut driver = victim();
    let mut expect = |reason: &str, message: Message| {
        let before = dropped(&driver, reason);
        send(&mut driver, &message);
        assert_eq!(dropped(&driver, reason), before + 1, "{reason}");
    };
    // "to_commit out of range": the peer believes we have what our lost disk had.
    let mut heartbeat = message(MessageType::MsgHeartbeat, 2, 2);
    heartbeat.commit = 1000;
    expect("commit_out_of_range", heartbeat);
    // "conflicts with committed entry", holes, terms from the future.
    for entries in [
        vec![entry(2, 1)],
        vec![entry(5, 2), entry(7, 2)],
        vec![entry(5, 9)],
        vec![entry(5, 0)],
    ] {
        let mut append = message(MessageType::MsgAppend, 2, 2);
        append.index = 4;
        append.log_term = 2;
        append.set_entries(entries.into());
        expect("bad_entries", append);
    }
    let mut append = message(MessageType::MsgAppend, 2, 2);
    append.index = 4;
    append.log_term = 2;
    let mut change = entry(5, 2);
    change.set_entry_type(EntryType::EntryConfChangeV2);
    append.set_entries(vec![change].into());
    expect("membership_entry", append);
    // "stepped empty MsgProp", and other messages that are none of a peer's business.
    for kind in [
        MessageType::MsgPropose,
        MessageType::MsgHup,
        MessageType::MsgBeat,
        MessageType::MsgUnreachable,
        MessageType::MsgSnapStatus,
        MessageType::MsgCheckQuorum,
        MessageType::MsgTransferLeader,
    ] {
        expect("local_type", message(kind, 2, 2));
    }
    expect("bad_read", message(MessageType::MsgReadIndex, 2, 0));
    expect("bad_read", message(MessageType::MsgReadIndexResp, 2, 2));
    expect("no_term", message(MessageType::MsgRequestVote, 2, 0));
    expect("term_jump", message(MessageType::MsgRequestVote, 3, u64::MAX));
    expect("other_leader", message(MessageType::MsgHeartbeat, 3, 2));
    let mut response = message(MessageType::MsgAppendResponse, 2, 2);
    response.index = u64::MAX;
    expect("index_out_of_range", response);
    let mut snapshot = message(MessageType::MsgSnapshot, 2, 2);
    snapshot.mut_snapshot().mut_metadata().index = 9;
    snapshot.mut_snapshot().mut_metadata().term = 2;
    snapshot
        .mut_snapshot()
        .mut_metadata()
        .mut_conf_state()
        .set_voters(vec![7]);
    expect("bad_snapshot", snapshot);
    let mut forged = message(MessageType::MsgHeartbeat, 2, 2);
    forged.to = 3;
    expect("not_for_me", forged);
    assert_eq!(driver.status().term, 2);
}

#[test]
fn envelopes_are_checked() {
    let mut driver = victim();
    let mut expect = |reason: &str, change: fn(&mut RaftEnvelope)| {
        let mut bad = envelope(2, vec![Bytes::from_static(&[0xff, 0xff])]);
        change(&mut bad);
        let before = dropped(&driver, reason);
        driver.step(&bad).unwrap();
        turn(&mut driver);
        assert_eq!(dropped(&driver, reason), before + 1, "{reason}");
    };
    expect("undecodable", |_| {});
    expect("other_cluster", |envelope| envelope.cluster_id = "other".into());
    expect("not_for_me", |envelope| envelope.to = 2);
    expect("unknown_sender", |envelope| envelope.from = 9);
    expect("unknown_sender", |envelope| envelope.from = 1);
    expect("no_storage", |envelope| {
        envelope.from_storage = Bytes::from_static(b"short");
    });
    expect("other_storage", |envelope| {
        envelope.from_storage = storage(77).as_bytes().to_vec().into();
    });
    expect("for_my_former_storage", |envelope| {
        envelope.to_storage = storage(77).as_bytes().to_vec().into();
    });
    expect("snapshot_without_chunks", |envelope| {
        let snapshot = message(MessageType::MsgSnapshot, 2, 2).write_to_bytes().unwrap();
        envelope.messages = vec![snapshot.into()];
    });
}

/// A number near the ones that matter, or far off.
fn odd(random: &mut Random) -> u64 {
    match random.below(10) {
        0 => u64::MAX,
        1 => random.next(),
        2 => 1 << random.below(63),
        _ => random.below(8),
    }
}

#[test]
fn random_messages_do_not_panic() {
    for seed in 0..2000 {
        let mut random = Random(seed);
        let mut driver = victim();
        for _ in 0..200 {
            let kind =
                <MessageType as protobuf::ProtobufEnum>::values()[usize::try_from(random.below(19)).unwrap()];
            let mut message = message(kind, 2 + random.below(2), odd(&mut random));
            if random.chance(700) {
                message.term = driver.status().term + random.below(2);
            }
            message.index = odd(&mut random);
            message.log_term = odd(&mut random);
            message.commit = odd(&mut random);
            message.commit_term = odd(&mut random);
            message.reject = random.chance(300);
            message.reject_hint = odd(&mut random);
            message.request_snapshot = if random.chance(100) { odd(&mut random) } else { 0 };
            message.context = vec![7; usize::try_from(random.below(20)).unwrap()].into();
            let count = random.below(4);
            let base = if random.chance(800) {
                message.index
            } else {
                odd(&mut random)
            };
            let entries: Vec<Entry> = (1..=count)
                .map(|offset| {
                    entry(
                        base.wrapping_add(offset),
                        if random.chance(800) { 2 } else { odd(&mut random) },
                    )
                })
                .collect();
            message.set_entries(entries.into());
            if kind == MessageType::MsgSnapshot {
                let metadata = message.mut_snapshot().mut_metadata();
                metadata.index = 5 + random.below(20);
                metadata.term = 1 + random.below(3);
                metadata.mut_conf_state().set_voters(if random.chance(800) {
                    vec![1, 2, 3]
                } else {
                    vec![1]
                });
            }
            send(&mut driver, &message);
            if random.chance(300) {
                driver.tick().unwrap();
                turn(&mut driver);
            }
        }
        assert!(
            driver.status().term < 1 << 40,
            "seed {seed}: the term was inflated"
        );
    }
}
