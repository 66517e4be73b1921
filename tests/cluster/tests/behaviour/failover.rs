//! A leader dies under a producer that goes on sending.

use strom_cluster::codes::*;
use strom_cluster::raw::Raw;
use strom_cluster::requests::*;
use strom_cluster::{PATIENCE, until};
use strom_kafka_codec::messages::ProduceResponse;
use strom_testkit::{Cluster, Member, Wiring};

/// Batches sent while none can be acknowledged, and as many again when the next leader could take them.
const SENT: i32 = 10;

#[tokio::test]
async fn no_batch_pipelined_behind_a_failed_one_is_taken_or_called_out_of_order() {
    let mut cluster = Cluster::builder()
        .wiring(Wiring::Grpc)
        .brokers(3)
        .setting("default.replication.factor", "3")
        .setting("min.insync.replicas", "3")
        .start()
        .await;
    let bootstrap = cluster.bootstrap();
    let mut raw = Raw::connect(&bootstrap).await;
    create_topic(&mut raw, "failover", 1, &[]).await;
    // One producer that every replica knows, and one that none has heard of.
    let (known, _) = init_producer_id(&mut raw).await;
    let (stranger, _) = init_producer_id(&mut raw).await;
    let first = produce(&mut raw, "failover", 0, sequenced(known, 0, 0, &["first"])).await;
    assert_eq!(first.error_code, NONE, "{first:?}");
    let batches = |n: i32| {
        let value = n.to_string();
        [
            sequenced(known, 0, 1 + n, &[&value]),
            sequenced(stranger, 0, n, &[&value]),
        ]
    };

    let leader = describe_topic(&mut raw, "failover", false).await.partitions[0].leader_id;
    let dead = Member::Broker(u16::try_from(leader).unwrap());
    cluster.kill(dead).await;
    for n in 0..SENT {
        for batch in batches(n) {
            raw.send(PRODUCE, &produce_request("failover", 0, batch, -1))
                .await;
        }
    }
    cluster.restart(dead).await;
    until("the leader takes batches again", || async {
        let mut other = Raw::connect(&bootstrap).await;
        let probe = produce(&mut other, "failover", 0, batch(&["probe"])).await;
        (probe.error_code == NONE).then_some(())
    })
    .await;
    for n in SENT..2 * SENT {
        for batch in batches(n) {
            raw.send(PRODUCE, &produce_request("failover", 0, batch, -1))
                .await;
        }
    }
    for n in 0..2 * SENT {
        for who in ["known", "stranger"] {
            let (_, reply) = raw.receive::<ProduceResponse>(PRODUCE).await;
            let code = reply.responses[0].partition_responses[0].error_code;
            let again = ![NONE, OUT_OF_ORDER_SEQUENCE_NUMBER].contains(&code);
            assert!(again, "batch {n} of the {who} producer: {code}");
        }
    }
    for n in 0..2 * SENT {
        for batch in batches(n) {
            // The follower that came back last may leave the ISR once more.
            let refused = [NOT_LEADER_OR_FOLLOWER, NOT_ENOUGH_REPLICAS];
            let mut taken = async || loop {
                let reply = produce(&mut raw, "failover", 0, batch.clone()).await;
                if !refused.contains(&reply.error_code) {
                    return reply.error_code;
                }
            };
            let code = tokio::time::timeout(PATIENCE, taken()).await.unwrap();
            assert_eq!(code, NONE, "batch {n} again");
        }
    }
    let read = read_all(&mut raw, "failover", 0, 0).await;
    let values = read.into_iter().skip(1).map(|(_, value)| value);
    let values: Vec<String> = values.filter(|value| value != "probe").collect();
    let expected: Vec<String> = (0..2 * SENT)
        .flat_map(|n| [n.to_string(), n.to_string()])
        .collect();
    assert_eq!(values, expected);
}
