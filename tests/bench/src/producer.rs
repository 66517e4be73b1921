//! The producer: the same batches in the skeleton's framing or as Kafka Produce requests, a fixed number in flight.

use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use strom_kafka_codec::messages::produce_request::{PartitionProduceData, TopicProduceData};
use strom_kafka_codec::messages::{ProduceRequest, ProduceResponse};
use strom_kafka_codec::{decode_response_frame, encode_request_frame};
use strom_records::{BatchBuilder, NewRecord};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::FRAME_HEADER;
use crate::{Error, Load};

/// The newest version that names topics.
const PRODUCE_VERSION: i16 = 9;
const RECORD_BYTES: usize = 1024;

/// One batch of 1 KiB records, used again and again.
fn batch(load: Load) -> Result<Bytes, Error> {
    let mut builder = BatchBuilder::new();
    let value = [b'x'; RECORD_BYTES];
    while builder.uncompressed_len() + RECORD_BYTES + 64 < load.batch_bytes {
        builder.push(&NewRecord {
            timestamp: now_ms(),
            value: Some(&value),
            ..NewRecord::default()
        })?;
    }
    Ok(builder.build()?)
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(0)
}

fn batches(load: Load, batch: &Bytes) -> usize {
    (load.mb * 1024 * 1024).div_ceil(batch.len())
}

/// Against the skeleton.
pub(crate) async fn framed(load: Load, address: &str) -> Result<Duration, Error> {
    let batch = batch(load)?;
    let total = batches(load, &batch);
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let begun = Instant::now();
    let (mut sent, mut acked) = (0, 0);
    while acked < total {
        while sent < total && sent - acked < load.window {
            let mut header = BytesMut::with_capacity(FRAME_HEADER);
            header.put_u32((sent % load.partitions as usize) as u32);
            header.put_u32(batch.len() as u32);
            socket
                .write_all_buf(&mut header.freeze().chain(batch.clone()))
                .await?;
            sent += 1;
        }
        socket.read_u64().await?;
        acked += 1;
    }
    Ok(begun.elapsed())
}

/// Against Strom: Produce requests with acks=all.
pub(crate) async fn kafka(load: Load, bootstrap: &str, topic: &str) -> Result<Duration, Error> {
    let batch = batch(load)?;
    let total = batches(load, &batch);
    let mut socket = TcpStream::connect(bootstrap).await?;
    socket.set_nodelay(true)?;
    let begun = Instant::now();
    let (mut sent, mut acked) = (0, 0);
    while acked < total {
        while sent < total && sent - acked < load.window {
            let data = PartitionProduceData {
                index: (sent % load.partitions as usize) as i32,
                records: Some(batch.clone()),
            };
            let request = ProduceRequest {
                acks: -1,
                timeout_ms: 30_000,
                topic_data: vec![TopicProduceData {
                    name: topic.to_owned().into(),
                    partition_data: vec![data],
                    ..Default::default()
                }],
                ..Default::default()
            };
            let mut frame = encode_request_frame(sent as i32, PRODUCE_VERSION, Some("limit"), &request)?;
            socket.write_all_buf(&mut frame).await?;
            sent += 1;
        }
        let len = socket.read_i32().await?;
        let mut reply = vec![0; usize::try_from(len)?];
        socket.read_exact(&mut reply).await?;
        let (_, response) = decode_response_frame::<ProduceResponse>(reply.into(), PRODUCE_VERSION)?;
        let codes = response
            .responses
            .iter()
            .flat_map(|t| &t.partition_responses)
            .map(|p| p.error_code);
        if let Some(code) = codes.clone().find(|code| *code != 0) {
            return Err(format!("the broker refused a batch with error {code}").into());
        }
        acked += 1;
    }
    Ok(begun.elapsed())
}
