//! The producer's promises: order and no duplicates through retries.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use strom_kafka_codec::ApiKey;
use strom_kafka_codec::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use strom_kafka_codec::messages::{InitProducerIdResponse, ProduceRequest, ProduceResponse};
use strom_records::Batch;
use strom_types::ErrorCode;

use super::fake_broker::{Answer, Call, FakeBroker};
use super::strom;
use crate::ExitCode;

/// A log of one partition that checks sequence numbers as Kafka does.
#[derive(Default)]
struct Log {
    values: Vec<String>,
    /// Every attempt: its first sequence number, and what it was answered.
    attempts: Vec<(i32, ErrorCode)>,
    next_sequence: Option<i32>,
}

impl Log {
    fn append(&mut self, records: &Bytes, wanted: Option<ErrorCode>) -> ErrorCode {
        let batch = Batch::first_of(records).unwrap().unwrap();
        batch.verify_crc().unwrap();
        let sequence = batch.header.base_sequence;
        let in_order = sequence < 0 || self.next_sequence.is_none_or(|next| next == sequence);
        let code = match wanted {
            // As if it had been written before.
            Some(code) if code != ErrorCode::DuplicateSequenceNumber => code,
            None if !in_order => ErrorCode::OutOfOrderSequenceNumber,
            _ => {
                for record in batch.records(1 << 20).unwrap() {
                    let value = record.unwrap().value.unwrap();
                    self.values.push(String::from_utf8(value.to_vec()).unwrap());
                }
                self.next_sequence = Some(sequence + batch.header.record_count);
                wanted.unwrap_or(ErrorCode::None)
            }
        };
        self.attempts.push((sequence, code));
        code
    }
}

fn produced(call: &Call, code: ErrorCode) -> Answer {
    let partition = PartitionProduceResponse {
        error_code: code.kafka_code().unwrap(),
        ..Default::default()
    };
    call.reply(&ProduceResponse {
        responses: vec![TopicProduceResponse {
            name: "orders".into(),
            partition_responses: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    })
}

fn records(call: &Call) -> Bytes {
    let request: ProduceRequest = call.read();
    request.topic_data[0].partition_data[0].records.clone().unwrap()
}

/// Produces 100 lines in batches of a few records; the `n`th attempt is answered by `fault(n)` instead of the log.
async fn produce(
    flags: &str,
    fault: impl Fn(usize) -> Option<ErrorCode> + Send + 'static,
) -> (super::Ran, Log) {
    let log = Arc::new(Mutex::new(Log::default()));
    let shared = Arc::clone(&log);
    let broker = FakeBroker::start(move |call| match call.key {
        ApiKey::InitProducerId => call.reply(&InitProducerIdResponse {
            producer_id: 9,
            producer_epoch: 0,
            ..Default::default()
        }),
        ApiKey::Produce => {
            let mut log = shared.lock().unwrap();
            let fault = fault(log.attempts.len());
            let code = log.append(&records(call), fault);
            produced(call, code)
        }
        _ => call.basics(&[("orders", 1)]),
    })
    .await;
    let line = format!("produce orders --batch-size 200 --timeout 5s {flags}");
    let ran = strom(&broker.address, line.trim(), &lines()).await;
    let log = std::mem::take(&mut *log.lock().unwrap());
    (ran, log)
}

fn lines() -> String {
    (0..100).map(|number| format!("value-{number}\n")).collect()
}

#[tokio::test]
async fn all_lines_arrive_in_order() {
    let (ran, log) = produce("-z lz4 -o json", |_| None).await;
    assert_eq!(ran.code, ExitCode::Ok, "{}", ran.err);
    assert_eq!(log.values.join("\n") + "\n", lines());
    assert!(
        log.attempts.len() > 5 && log.attempts.iter().all(|(_, code)| code.is_none()),
        "{:?}",
        log.attempts
    );
    let summary: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (&summary["records"], &summary["bytes"]),
        (&100.into(), &790.into())
    );
}

/// Until the broker knows the producer, it would take the second batch as the first.
#[tokio::test]
async fn a_first_batch_that_fails_is_not_overtaken() {
    let (ran, log) = produce("", |attempt| {
        (attempt < 2).then_some(ErrorCode::NotLeaderOrFollower)
    })
    .await;
    assert_eq!(ran.code, ExitCode::Ok, "{}", ran.err);
    assert_eq!(log.values.join("\n") + "\n", lines());
    let sequences: Vec<i32> = log
        .attempts
        .iter()
        .take(3)
        .map(|(sequence, _)| *sequence)
        .collect();
    assert_eq!(sequences, [0, 0, 0]);
}

#[tokio::test]
async fn batches_behind_a_failed_one_go_again_in_order() {
    let (ran, log) = produce("", |attempt| {
        (attempt == 4).then_some(ErrorCode::NotEnoughReplicas)
    })
    .await;
    assert_eq!(ran.code, ExitCode::Ok, "{}", ran.err);
    assert_eq!(log.values.join("\n") + "\n", lines());
    let disordered = log
        .attempts
        .iter()
        .filter(|(_, code)| *code == ErrorCode::OutOfOrderSequenceNumber);
    assert!(disordered.count() > 0, "nothing was behind: {:?}", log.attempts);
}

#[tokio::test]
async fn a_duplicate_is_as_good_as_written() {
    let (ran, log) = produce("", |attempt| {
        (attempt == 3).then_some(ErrorCode::DuplicateSequenceNumber)
    })
    .await;
    assert_eq!(ran.code, ExitCode::Ok, "{}", ran.err);
    assert_eq!(log.values.join("\n") + "\n", lines());
}

#[tokio::test]
async fn a_final_refusal_says_how_far_it_came() {
    let (ran, log) = produce("-a 1", |attempt| {
        (attempt >= 2).then_some(ErrorCode::MessageTooLarge)
    })
    .await;
    assert_eq!(ran.code, ExitCode::Failed);
    assert!(
        ran.err.contains("producing to orders-0: MESSAGE_TOO_LARGE"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("were written before this"), "{}", ran.err);
    assert!(!log.values.is_empty());
}

#[tokio::test]
async fn a_bad_line_is_named_and_what_came_before_is_written() {
    let broker = FakeBroker::start(|call| match call.key {
        ApiKey::Produce => produced(call, ErrorCode::None),
        _ => call.basics(&[("orders", 1)]),
    })
    .await;
    let ran = strom(
        &broker.address,
        "produce orders -a 1 -K :",
        "a:1\nb:2\nnone\nc:3\n",
    )
    .await;
    assert_eq!(ran.code, ExitCode::Usage);
    assert!(
        ran.err.contains("line 3: no key separator") && ran.err.contains("2 of 2 records"),
        "{}",
        ran.err
    );
    let ran = strom(&broker.address, "produce orders -a 1 -p 5", "a\n").await;
    assert_eq!(ran.code, ExitCode::Usage);
    assert!(
        ran.err.contains("topic orders has no partition 5; it has 1"),
        "{}",
        ran.err
    );
}
