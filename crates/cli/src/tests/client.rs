//! Versions, routing, retries, deadlines and exit codes.

use bytes::Bytes;
use strom_kafka_codec::ApiKey;
use strom_kafka_codec::messages::create_topics_response::CreatableTopicResult;
use strom_kafka_codec::messages::{ApiVersionsResponse, CreateTopicsRequest, CreateTopicsResponse};
use strom_types::ErrorCode;

use super::fake_broker::{Answer, Call, FakeBroker, api_versions};
use super::strom;
use crate::ExitCode;

fn created(call: &Call, code: ErrorCode) -> Answer {
    let request: CreateTopicsRequest = call.read();
    call.reply(&CreateTopicsResponse {
        topics: vec![CreatableTopicResult {
            name: request.topics[0].name.clone(),
            error_code: code.kafka_code().unwrap(),
            num_partitions: 3,
            replication_factor: 1,
            ..Default::default()
        }],
        ..Default::default()
    })
}

#[tokio::test]
async fn an_old_server_is_asked_for_its_versions_again() {
    let broker = FakeBroker::start(|call| match call.key {
        // As KIP-511 has it: in version 0, whatever was asked.
        ApiKey::ApiVersions if call.version > 0 => call.reply_as(
            0,
            &ApiVersionsResponse {
                error_code: 35,
                ..Default::default()
            },
        ),
        ApiKey::Metadata => {
            assert_eq!(call.version, 5);
            call.basics(&[("orders", 1)])
        }
        ApiKey::ApiVersions => {
            let mut old = api_versions();
            old.api_keys
                .iter_mut()
                .filter(|api| api.api_key == 3)
                .for_each(|api| api.max_version = 5);
            call.reply(&old)
        }
        other => panic!("{other}"),
    })
    .await;
    let ran = strom(&broker.address, "topic list --names", "").await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (ExitCode::Ok, "orders\n"),
        "{}",
        ran.err
    );
    assert_eq!(broker.count(ApiKey::ApiVersions), 2);
}

#[tokio::test]
async fn an_api_the_server_lacks_is_named() {
    let broker = FakeBroker::start(|call| match call.key {
        ApiKey::ApiVersions => {
            let mut without = api_versions();
            without
                .api_keys
                .retain(|api| api.api_key != ApiKey::DescribeQuorum.as_i16());
            call.reply(&without)
        }
        _ => call.basics(&[]),
    })
    .await;
    let ran = strom(&broker.address, "quorum status", "").await;
    assert_eq!(ran.code, ExitCode::Failed);
    assert!(
        ran.err
            .contains("does not serve DescribeQuorum, strom speaks 0-2"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("strom api-versions"), "{}", ran.err);
}

#[tokio::test]
async fn retriable_refusals_are_retried() {
    let mut refusals = 2;
    let broker = FakeBroker::start(move |call| match call.key {
        ApiKey::CreateTopics if refusals > 0 => {
            refusals -= 1;
            created(call, ErrorCode::NotController)
        }
        ApiKey::CreateTopics => created(call, ErrorCode::None),
        _ => call.basics(&[]),
    })
    .await;
    let ran = strom(&broker.address, "topic create orders", "").await;
    assert_eq!(
        (ran.code, broker.count(ApiKey::CreateTopics)),
        (ExitCode::Ok, 3),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn a_change_whose_reply_is_lost_is_not_repeated() {
    let broker = FakeBroker::start(|call| match call.key {
        ApiKey::CreateTopics => Answer::Hangup,
        _ => call.basics(&[]),
    })
    .await;
    let ran = strom(&broker.address, "topic create orders", "").await;
    assert_eq!(
        (ran.code, broker.count(ApiKey::CreateTopics)),
        (ExitCode::Failed, 1)
    );
    assert!(ran.err.contains("unknown whether this happened"), "{}", ran.err);
}

#[tokio::test]
async fn a_question_whose_reply_is_lost_is_asked_again() {
    let mut hangups = 1;
    let broker = FakeBroker::start(move |call| match call.key {
        ApiKey::Metadata if hangups > 0 => {
            hangups -= 1;
            Answer::Hangup
        }
        _ => call.basics(&[("orders", 1)]),
    })
    .await;
    let ran = strom(&broker.address, "topic list --names", "").await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (ExitCode::Ok, "orders\n"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn time_runs_out_with_its_own_code() {
    let silent = FakeBroker::start(|call| match call.key {
        ApiKey::CreateTopics => Answer::Silence,
        _ => call.basics(&[]),
    })
    .await;
    let ran = strom(&silent.address, "topic create orders --timeout 100ms", "").await;
    assert_eq!(ran.code, ExitCode::Timeout);
    assert!(ran.err.contains("gave up after"), "{}", ran.err);

    let refusing = FakeBroker::start(|call| match call.key {
        ApiKey::CreateTopics => created(call, ErrorCode::NotController),
        _ => call.basics(&[]),
    })
    .await;
    let ran = strom(&refusing.address, "topic create orders --timeout 100ms", "").await;
    assert_eq!(ran.code, ExitCode::Timeout);
    assert!(
        ran.err.contains("last: topic orders: NOT_CONTROLLER"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn nobody_there_fails_at_once() {
    // Bound and dropped: nothing listens there.
    let port = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let ran = strom(&format!("127.0.0.1:{port}"), "topic list", "").await;
    assert_eq!(ran.code, ExitCode::Failed);
    assert!(ran.err.contains("no bootstrap server answers"), "{}", ran.err);
    assert!(ran.err.contains("try: is the server up"), "{}", ran.err);
}

#[tokio::test]
async fn garbage_is_an_error_and_no_panic() {
    for garbage in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"\0\0\0\x04\0\0\0\0",
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\xff",
    ] {
        let broker = FakeBroker::start(move |_| Answer::Reply(Bytes::from_static(garbage))).await;
        let ran = strom(&broker.address, "topic list --timeout 300ms", "").await;
        assert_ne!(ran.code, ExitCode::Ok, "{garbage:?}");
        assert!(ran.err.starts_with("error: "), "{}", ran.err);
    }
}

#[tokio::test]
async fn destruction_off_a_terminal_wants_a_yes() {
    let broker = FakeBroker::start(|call| call.basics(&[])).await;
    for line in ["topic delete orders", "group delete readers"] {
        let ran = strom(&broker.address, line, "").await;
        assert_eq!(ran.code, ExitCode::Usage);
        assert!(ran.err.contains("--yes"), "{}", ran.err);
    }
    assert_eq!(
        broker.count(ApiKey::DeleteTopics) + broker.count(ApiKey::DeleteGroups),
        0
    );
}

#[tokio::test]
async fn one_failure_among_many_is_told_and_the_rest_is_done() {
    let broker = FakeBroker::start(|call| match call.key {
        ApiKey::CreateTopics => {
            let request: CreateTopicsRequest = call.read();
            let taken = request.topics[0].name == "taken";
            created(
                call,
                if taken {
                    ErrorCode::TopicAlreadyExists
                } else {
                    ErrorCode::None
                },
            )
        }
        _ => call.basics(&[]),
    })
    .await;
    let ran = strom(&broker.address, "topic create a taken b", "").await;
    assert_eq!(ran.code, ExitCode::Failed);
    assert!(
        ran.err.contains("topic taken: TOPIC_ALREADY_EXISTS") && ran.err.contains("1 of 3 failed"),
        "{}",
        ran.err
    );
    assert_eq!(
        ran.out.lines().filter(|line| line.contains("created")).count(),
        2,
        "{}",
        ran.out
    );
}
