//! A leader dies under a producer that goes on sending.

use std::time::Duration;

use strom_cluster::codes::*;
use strom_cluster::raw::Raw;
use strom_cluster::requests::*;
use strom_kafka_codec::messages::ProduceResponse;
use strom_testkit::{Cluster, Member, Wiring};

/// Batches sent after the next leader is known: the gateway's own view may be a moment behind.
const SENT_TO_THE_NEXT: usize = 20;

#[tokio::test]
async fn no_batch_pipelined_behind_a_failed_one_is_taken_or_called_out_of_order() {
    let mut cluster = Cluster::builder()
        .wiring(Wiring::Grpc)
        .brokers(3)
        .setting("default.replication.factor", "3")
        .setting("min.insync.replicas", "2")
        .start()
        .await;
    let bootstrap = cluster.bootstrap();
    let mut raw = Raw::connect(&bootstrap).await;
    create_topic(&mut raw, "failover", 1, &[]).await;
    let (id, epoch) = init_producer_id(&mut raw).await;
    let record = |sequence: i32| sequenced(id, epoch, sequence, &[&sequence.to_string()]);
    // One producer that every replica knows, one that none has heard of.
    let first = produce(&mut raw, "failover", 0, record(0)).await;
    assert_eq!(first.error_code, NONE, "{first:?}");
    let (unknown, _) = init_producer_id(&mut raw).await;
    let stranger = |sequence: i32| sequenced(unknown, 0, sequence, &[&format!("stranger {sequence}")]);

    let leader = describe_topic(&mut raw, "failover", false).await.partitions[0].leader_id;
    cluster.kill(Member::Broker(u16::try_from(leader).unwrap())).await;
    let mut watch = Raw::connect(&bootstrap).await;
    let mut sent = 0;
    let mut behind = 0;
    while behind < SENT_TO_THE_NEXT {
        for batch in [record(1 + sent), stranger(sent)] {
            raw.send(PRODUCE, &produce_request("failover", 0, batch, -1))
                .await;
        }
        sent += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
        let now = describe_topic(&mut watch, "failover", false).await.partitions[0].leader_id;
        behind += usize::from(now >= 0 && now != leader);
    }
    for n in 0..sent {
        for _ in 0..2 {
            let (_, reply) = raw.receive::<ProduceResponse>(PRODUCE).await;
            let code = reply.responses[0].partition_responses[0].error_code;
            assert!(
                [NOT_LEADER_OR_FOLLOWER, LEADER_NOT_AVAILABLE, REQUEST_TIMED_OUT].contains(&code),
                "batch {n} of {sent}: {code}"
            );
        }
    }
    for n in 0..sent {
        for batch in [record(1 + n), stranger(n)] {
            let again = produce(&mut raw, "failover", 0, batch).await;
            assert_eq!(again.error_code, NONE, "{again:?}");
        }
    }
    let read = read_all(&mut raw, "failover", 0, 0).await;
    let expected = (0..sent).flat_map(|n| [(1 + n).to_string(), format!("stranger {n}")]);
    let values: Vec<String> = read.into_iter().skip(1).map(|(_, value)| value).collect();
    assert_eq!(values, expected.collect::<Vec<_>>());
}
