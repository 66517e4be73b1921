//! Consumer groups as librdkafka drives them.

use std::collections::BTreeSet;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::producer::FutureRecord;
use rdkafka::{Offset, TopicPartitionList};
use strom_cluster::librdkafka;
use strom_cluster::worker::{Change, Worker, settled};
use strom_cluster::{PATIENCE, until};
use strom_testkit::{Cluster, Member, Wiring};

in_both_wirings!(
    two_groups_read_one_topic_each_on_its_own,
    committed_offsets_survive_a_crash_of_the_coordinator,
);

const TOPIC: &str = "grouped";

async fn fill(bootstrap: &str, numbers: std::ops::Range<u32>) {
    let producer = librdkafka::producer(bootstrap);
    let sends = numbers.map(|n| {
        let (partition, text) = (i32::try_from(n % 3).unwrap(), n.to_string());
        let producer = producer.clone();
        async move {
            let record = FutureRecord::<str, str>::to(TOPIC)
                .partition(partition)
                .payload(&text);
            producer.send(record, PATIENCE).await.unwrap();
        }
    });
    futures::future::join_all(sends).await;
}

fn numbers(workers: &[&Worker]) -> BTreeSet<u32> {
    let read = workers.iter().flat_map(|worker| worker.read());
    read.map(|read| read.value.parse().unwrap()).collect()
}

async fn two_groups_read_one_topic_each_on_its_own(wiring: Wiring) {
    let cluster = Cluster::builder().wiring(wiring).start().await;
    let bootstrap = cluster.bootstrap();
    librdkafka::create_topic(&bootstrap, TOPIC, 3, &[]).await;
    fill(&bootstrap, 0..30).await;
    let (one, other) = (
        Worker::start(&bootstrap, "one", TOPIC, &[]),
        Worker::start(&bootstrap, "other", TOPIC, &[]),
    );
    for worker in [&one, &other] {
        until("all records", || async {
            (worker.read().len() >= 30).then_some(())
        })
        .await;
        assert_eq!(numbers(&[worker]), (0..30).collect(), "each group has them all");
        assert_eq!(worker.read().len(), 30, "once");
    }
    one.stop().await;
    fill(&bootstrap, 30..36).await;
    until("the other goes on", || async {
        (other.read().len() >= 36).then_some(())
    })
    .await;
    other.stop().await;
}

/// Also that offsets are loaded again from batches of another codec.
#[tokio::test]
async fn groups_are_counted_by_state_and_their_offsets_kept_compressed() {
    let mut cluster = Cluster::builder()
        .setting("offsets.topic.compression.codec", "2")
        .start()
        .await;
    let bootstrap = cluster.bootstrap();
    librdkafka::create_topic(&bootstrap, TOPIC, 3, &[]).await;
    fill(&bootstrap, 0..30).await;
    let count = |cluster: &Cluster, name: &str| cluster.metric(Member::Broker(0), name, &[]);
    let manager = |cluster: &Cluster, name: &str| {
        count(
            cluster,
            &format!("kafka_coordinator_group_groupmetadatamanager_{name}"),
        )
    };
    let worker = Worker::start(&bootstrap, "counted", TOPIC, &[]);
    until("a stable group", || async {
        (manager(&cluster, "numgroupsstable") == 1.0).then_some(())
    })
    .await;
    until("all records", || async {
        (worker.read().len() >= 30).then_some(())
    })
    .await;
    let mut list = TopicPartitionList::new();
    for partition in 0..3 {
        list.add_partition_offset(TOPIC, partition, Offset::Offset(7))
            .unwrap();
    }
    worker.consumer().commit(&list, CommitMode::Sync).unwrap();
    worker.stop().await;
    until("an empty group with three offsets", || async {
        let [all, stable, empty, offsets] = ["numgroups", "numgroupsstable", "numgroupsempty", "numoffsets"]
            .map(|name| manager(&cluster, name));
        ([all, stable, empty, offsets] == [1.0, 0.0, 1.0, 3.0]).then_some(())
    })
    .await;
    let name = "kafka_server_group_coordinator_metrics_group_completed_rebalance_count";
    assert!(count(&cluster, name) >= 1.0);
    cluster.kill(Member::Broker(0)).await;
    cluster.restart(Member::Broker(0)).await;
    cluster.wait_ready().await;
    until("the offsets are loaded", || async {
        (manager(&cluster, "numoffsets") == 3.0).then_some(())
    })
    .await;
}

/// Members come one by one, a fourth idles on three partitions, and takes over when another leaves.
async fn members_share_the_partitions_with(strategy: &str) {
    let cluster = Cluster::builder().start().await;
    let bootstrap = cluster.bootstrap();
    librdkafka::create_topic(&bootstrap, TOPIC, 3, &[]).await;
    fill(&bootstrap, 0..30).await;
    let start = || {
        Worker::start(
            &bootstrap,
            "sharing",
            TOPIC,
            &[("partition.assignment.strategy", strategy)],
        )
    };
    let a = start();
    settled(&[&a], &[3]).await;
    let b = start();
    settled(&[&a, &b], &[1, 2]).await;
    let c = start();
    settled(&[&a, &b, &c], &[1, 1, 1]).await;
    let d = start();
    settled(&[&a, &b, &c, &d], &[0, 1, 1, 1]).await;
    fill(&bootstrap, 30..60).await;
    let all: BTreeSet<u32> = (0..60).collect();
    until("all records by somebody", || async {
        (numbers(&[&a, &b, &c, &d]) == all).then_some(())
    })
    .await;
    b.stop().await;
    settled(&[&a, &c, &d], &[1, 1, 1]).await;
    c.stop().await;
    settled(&[&a, &d], &[1, 2]).await;
    a.stop().await;
    settled(&[&d], &[3]).await;
    d.stop().await;
}

#[tokio::test]
async fn members_share_the_partitions_by_range() {
    members_share_the_partitions_with("range").await;
}

#[tokio::test]
async fn members_share_the_partitions_by_round_robin() {
    members_share_the_partitions_with("roundrobin").await;
}

#[tokio::test]
async fn members_share_the_partitions_cooperatively() {
    members_share_the_partitions_with("cooperative-sticky").await;
}

#[tokio::test]
async fn a_cooperative_rebalance_revokes_only_what_moves() {
    let cluster = Cluster::builder().start().await;
    let bootstrap = cluster.bootstrap();
    librdkafka::create_topic(&bootstrap, TOPIC, 3, &[]).await;
    let settings = [("partition.assignment.strategy", "cooperative-sticky")];
    let first = Worker::start(&bootstrap, "cooperative", TOPIC, &settings);
    settled(&[&first], &[3]).await;
    let second = Worker::start(&bootstrap, "cooperative", TOPIC, &settings);
    settled(&[&first, &second], &[1, 2]).await;
    let revoked = first.changes().into_iter().filter_map(|change| match change {
        Change::Revoked(partitions) if !partitions.is_empty() => Some(partitions),
        _ => None,
    });
    let revoked: Vec<Vec<i32>> = revoked.collect();
    assert_eq!(
        revoked,
        [second.assigned()],
        "one partition moved, the other two stayed"
    );
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_static_member_comes_back_within_its_session_without_a_rebalance() {
    let cluster = Cluster::builder().start().await;
    let bootstrap = cluster.bootstrap();
    librdkafka::create_topic(&bootstrap, TOPIC, 3, &[]).await;
    let start = |instance: &str| {
        let settings = [("group.instance.id", instance), ("session.timeout.ms", "30000")];
        Worker::start(&bootstrap, "static", TOPIC, &settings)
    };
    let (one, two) = (start("one"), start("two"));
    settled(&[&one, &two], &[1, 2]).await;
    let (before, had) = (one.changes(), two.assigned());
    two.stop().await;
    let two = start("two");
    until("the same partitions again", || async {
        (two.assigned() == had).then_some(())
    })
    .await;
    fill(&bootstrap, 0..30).await;
    let all: BTreeSet<u32> = (0..30).collect();
    until("both go on", || async {
        (numbers(&[&one, &two]) == all).then_some(())
    })
    .await;
    assert_eq!(one.changes(), before, "nothing changed for the other member");
    one.stop().await;
    two.stop().await;
}

async fn committed_offsets_survive_a_crash_of_the_coordinator(wiring: Wiring) {
    let mut cluster = Cluster::builder().wiring(wiring).start().await;
    let bootstrap = cluster.bootstrap();
    librdkafka::create_topic(&bootstrap, TOPIC, 3, &[]).await;
    fill(&bootstrap, 0..30).await;
    // Partition 0 synchronously, partition 1 asynchronously, partition 2 by itself, each in its own group.
    for (group, partition) in [("sync", 0), ("async", 1), ("auto", 2)] {
        let automatic = if group == "auto" { "true" } else { "false" };
        let settings = [
            ("enable.auto.commit", automatic),
            ("auto.commit.interval.ms", "50"),
        ];
        let worker = Worker::start(&bootstrap, group, TOPIC, &settings);
        until("all records", || async {
            (worker.read().len() >= 30).then_some(())
        })
        .await;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(TOPIC, partition, Offset::Offset(7))
            .unwrap();
        match group {
            "sync" => worker.consumer().commit(&list, CommitMode::Sync).unwrap(),
            "async" => worker.consumer().commit(&list, CommitMode::Async).unwrap(),
            _ => {}
        }
        // By then there are 11 records in each partition.
        let expected = if group == "auto" { 11 } else { 7 };
        until("the commit", || async {
            (committed(&bootstrap, group, partition).await == expected).then_some(())
        })
        .await;
        if group == "sync" {
            // A member that is there while the coordinator goes away stays one.
            cluster.kill(Member::Broker(0)).await;
            cluster.restart(Member::Broker(0)).await;
            fill(&bootstrap, 30..33).await;
            until("the member goes on", || async {
                (worker.read().len() >= 33).then_some(())
            })
            .await;
            assert_eq!(numbers(&[&worker]), (0..33).collect());
        }
        worker.stop().await;
    }
    cluster.kill(Member::Broker(0)).await;
    cluster.restart(Member::Broker(0)).await;
    cluster.wait_ready().await;
    for (group, partition, expected) in [("sync", 0, 7), ("async", 1, 7), ("auto", 2, 11)] {
        assert_eq!(committed(&bootstrap, group, partition).await, expected, "{group}");
    }
    assert_eq!(committed(&bootstrap, "never", 0).await, -1);
    let next = Worker::start(&bootstrap, "sync", TOPIC, &[]);
    until("the rest", || async {
        (next.read().iter().any(|read| read.partition == 0)).then_some(())
    })
    .await;
    let first = next.read().into_iter().find(|read| read.partition == 0).unwrap();
    assert_eq!(
        first.offset, 7,
        "the next member begins where the last one committed"
    );
    next.stop().await;
}

/// The offset a group has committed, -1 = none.
async fn committed(bootstrap: &str, group: &str, partition: i32) -> i64 {
    let consumer = librdkafka::consumer(bootstrap, group);
    let mut list = TopicPartitionList::new();
    list.add_partition(TOPIC, partition);
    let asked = tokio::task::spawn_blocking(move || consumer.committed_offsets(list, PATIENCE))
        .await
        .unwrap();
    match asked.unwrap().elements().first().unwrap().offset() {
        Offset::Offset(offset) => offset,
        Offset::Invalid => -1,
        other => panic!("{other:?}"),
    }
}
