//! Brokers as operators meet them: each describes itself, and none is unregistered while it lives.

use strom_cluster::PATIENCE;
use strom_cluster::codes::*;
use strom_cluster::raw::Raw;
use strom_cluster::requests::*;
use strom_kafka_codec::messages::describe_configs_request::DescribeConfigsResource;
use strom_kafka_codec::messages::{DescribeConfigsRequest, UnregisterBrokerRequest};
use strom_testkit::{Cluster, Member, Wiring};
use tokio::time::timeout;

const BROKER_NOT_AVAILABLE: i16 = 8;
const BROKER_ID_NOT_REGISTERED: i16 = 102;
const STATIC_BROKER_CONFIG: i8 = 4;

/// Value and source of one key, or the error.
async fn config(raw: &mut Raw, broker: i32, key: &str) -> Result<(String, i8), i16> {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: 4,
            resource_name: broker.to_string().into(),
            configuration_keys: Some(vec![key.to_owned().into()]),
        }],
        ..Default::default()
    };
    let reply = raw.call(4, &request).await;
    let result = reply.results.first().unwrap();
    let entry = match result.error_code {
        NONE => result.configs.first().unwrap(),
        code => return Err(code),
    };
    let value = entry.value.as_deref().unwrap_or_default();
    Ok((value.to_owned(), entry.config_source))
}

async fn unregister(raw: &mut Raw, broker_id: i32) -> i16 {
    raw.call(0, &UnregisterBrokerRequest { broker_id })
        .await
        .error_code
}

#[tokio::test]
async fn a_broker_describes_itself_and_leaves_only_when_it_is_gone() {
    let mut cluster = Cluster::builder()
        .wiring(Wiring::Grpc)
        .brokers(2)
        .setting("strom.broker.session.timeout.ms", "1000")
        .start()
        .await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    for id in [0, 1] {
        let own = Ok((id.to_string(), STATIC_BROKER_CONFIG));
        assert_eq!(config(&mut raw, id, "node.id").await, own);
    }
    assert_eq!(unregister(&mut raw, 1).await, INVALID_REQUEST);
    cluster.kill(Member::Broker(1)).await;
    assert_eq!(config(&mut raw, 1, "node.id").await, Err(BROKER_NOT_AVAILABLE));
    let left = async {
        loop {
            match unregister(&mut raw, 1).await {
                INVALID_REQUEST => {}
                code => return code,
            }
        }
    };
    assert_eq!(timeout(PATIENCE, left).await, Ok(NONE), "its session has ended");
    assert_eq!(unregister(&mut raw, 1).await, BROKER_ID_NOT_REGISTERED);
    assert_eq!(config(&mut raw, 1, "node.id").await, Err(INVALID_REQUEST));
    cluster.restart(Member::Broker(1)).await;
    cluster.wait_ready().await;
    let back = async { while config(&mut raw, 1, "node.id").await.is_err() {} };
    timeout(PATIENCE, back).await.expect("registered anew");
}

#[tokio::test]
async fn a_standalone_server_cannot_be_ended_by_unregistering_its_broker() {
    let cluster = Cluster::builder().start().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    assert_eq!(unregister(&mut raw, 0).await, INVALID_REQUEST);
    create_topic(&mut raw, "served", 1, &[]).await;
    produce_values(&mut raw, "served", 0, &["still here"]).await;
}
