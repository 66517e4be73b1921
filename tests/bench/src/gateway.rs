//! The skeleton's gateway: length-framed batches in, spliced messages out to the partition's broker, acks back.

use bytes::{Buf, BytesMut};
use strom_proto::splice::Spliced;
use strom_proto::v1::{ProduceHead, ProducePartition, ProduceReplyHead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::broker::PRODUCE;
use crate::{Error, stream};

/// Partition (4 bytes) and length (4 bytes) in front of each batch.
pub(crate) const FRAME_HEADER: usize = 8;

/// Partition `n` is led by broker `n` modulo their number.
pub(crate) async fn run(brokers: Vec<String>) -> Result<(), Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (client, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        tokio::spawn(serve(client, brokers.clone()));
    }
}

async fn serve(client: TcpStream, brokers: Vec<String>) -> Result<(), Error> {
    let (acked, mut acks) = mpsc::unbounded_channel();
    let mut senders = Vec::new();
    for broker in &brokers {
        let acked = acked.clone();
        let on_reply = move |reply: ProduceReplyHead| {
            // The client may have gone.
            let _ = acked.send(reply.correlation);
        };
        senders.push(stream::open(broker, PRODUCE, on_reply).await?);
    }
    let (mut from_client, mut to_client) = client.into_split();
    let acks = tokio::spawn(async move {
        while let Some(correlation) = acks.recv().await {
            let correlation: u64 = correlation;
            if to_client.write_all(&correlation.to_be_bytes()).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = BytesMut::with_capacity(2 * 1024 * 1024);
    let mut correlation = 0;
    while from_client.read_buf(&mut buffer).await? > 0 {
        while buffer.len() >= FRAME_HEADER {
            let mut header = &buffer[..FRAME_HEADER];
            let (partition, len) = (header.get_i32(), header.get_u32() as usize);
            if buffer.len() < FRAME_HEADER + len {
                buffer.reserve(FRAME_HEADER + len - buffer.len());
                break;
            }
            buffer.advance(FRAME_HEADER);
            let batch = buffer.split_to(len).freeze();
            correlation += 1;
            let part = ProducePartition {
                partition,
                ..Default::default()
            };
            let head = ProduceHead {
                correlation,
                partitions: vec![part],
                ..Default::default()
            };
            let leader = usize::try_from(partition)? % senders.len();
            if let Some(sender) = senders.get(leader) {
                sender.send(Spliced::new(head, batch)).await?;
            }
        }
    }
    acks.abort();
    Ok(())
}
