//! The spliced codec against itself and against tonic's ordinary one.

use bytes::Bytes;
use http_body_util::BodyExt;
use prost::Message;

use super::*;
use crate::v1::{FetchHead, FetchPartitionReply, FetchReply, ProduceHead, ProducePartition, ProduceRequest};

fn head(correlation: u64) -> ProduceHead {
    ProduceHead {
        correlation,
        acks: -1,
        partitions: vec![ProducePartition {
            partition: 3,
            length: 5,
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[tokio::test]
async fn messages_cross_in_order_with_their_payload_untouched() {
    let (sender, body) = channel(1 << 20);
    let large = Bytes::from(vec![7u8; 100_000]);
    for i in 0..10 {
        sender
            .send(Spliced::new(head(i), Bytes::from_static(b"small")))
            .await
            .unwrap();
        sender
            .send(Spliced::new(
                head(100 + i),
                if i == 5 { large.clone() } else { Bytes::new() },
            ))
            .await
            .unwrap();
    }
    drop(sender);
    let mut stream = SplicedStream::<ProduceHead>::new(tonic::body::Body::new(body), 1 << 20);
    for i in 0..10 {
        let mut first = stream.next().await.unwrap().unwrap();
        assert_eq!(first.head, head(i));
        assert_eq!(first.payload.take_bytes(5).unwrap(), "small");
        let mut second = stream.next().await.unwrap().unwrap();
        assert_eq!(second.head.correlation, 100 + i);
        if i == 5 {
            let taken = second.payload.take_bytes(100_000).unwrap();
            assert_eq!(taken.as_ptr(), large.as_ptr(), "the payload was copied");
        }
    }
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn the_bytes_are_those_of_an_ordinary_grpc_message() {
    let (sender, body) = channel(1 << 20);
    let payload = Bytes::from(vec![1u8; 5000]);
    sender.send(Spliced::new(head(9), payload.clone())).await.unwrap();
    drop(sender);
    let wire = body.collect().await.unwrap().to_bytes();
    let plain = ProduceRequest {
        head: Some(head(9)),
        payload,
    };
    assert_eq!(&wire[5..], plain.encode_to_vec());
    assert_eq!(
        u32::from_be_bytes(wire[1..5].try_into().unwrap()) as usize,
        wire.len() - 5
    );
}

#[tokio::test]
async fn pieces_of_any_size_are_joined() {
    let reply = FetchReply {
        head: Some(FetchHead {
            correlation: 4,
            partitions: vec![FetchPartitionReply {
                length: 4000,
                high_watermark: -1,
                ..Default::default()
            }],
        }),
        payload: (0..4000).map(|i| i as u8).collect::<Vec<u8>>().into(),
    };
    let mut wire = vec![0];
    wire.extend((reply.encoded_len() as u32).to_be_bytes());
    wire.extend(reply.encode_to_vec());
    for step in [1, 2, 7, 1000, wire.len()] {
        let (tx, rx) = tokio::sync::mpsc::channel(wire.len());
        for piece in wire.chunks(step) {
            tx.try_send(Ok::<_, std::convert::Infallible>(http_body::Frame::data(
                Bytes::copy_from_slice(piece),
            )))
            .unwrap();
        }
        drop(tx);
        let body = http_body_util::StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(rx));
        let mut stream = SplicedStream::<FetchHead>::new(tonic::body::Body::new(body), 1 << 20);
        let mut message = stream.next().await.unwrap().unwrap();
        assert_eq!(message.head, reply.head.clone().unwrap());
        assert_eq!(message.payload.take_bytes(4000).unwrap(), reply.payload);
        assert!(stream.next().await.is_none());
    }
}

#[tokio::test]
async fn hostile_lengths_are_refused() {
    for (wire, want) in [
        (&b"\0\xff\xff\xff\xff"[..], "over the limit"),
        (&b"\x01\0\0\0\x01a"[..], "compressed"),
        (&b"\0\0\0\0\x02\x7a\x7f"[..], "longer than its message"),
        (&b"\0\0\0\0\x02\x10\x01"[..], "unknown field"),
        (
            &b"\0\0\0\0\x0b\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..],
            "bad length",
        ),
        (&b"\0\0\0\0\x09ab"[..], "inside a message"),
    ] {
        let body = http_body_util::Full::new(Bytes::copy_from_slice(wire));
        let mut stream = SplicedStream::<ProduceHead>::new(tonic::body::Body::new(body), 1 << 20);
        let error = stream.next().await.unwrap().unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
        assert!(stream.next().await.is_none());
    }
}

#[tokio::test]
async fn the_queue_is_bounded_in_bytes() {
    let (sender, body) = channel(10_000);
    sender
        .send(Spliced::new(head(1), Bytes::from(vec![0u8; 9_000])))
        .await
        .unwrap();
    assert!(matches!(
        sender.try_send(Spliced::new(head(2), Bytes::from(vec![0u8; 9_000]))),
        Err(Ok(_))
    ));
    drop(body);
    assert_eq!(
        sender.send(Spliced::new(head(3), Bytes::new())).await,
        Err(SendError)
    );
}
