//! Over a real socket: order of replies, addresses as reached, and what closes a connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use strom_kafka_codec::messages::{
    ApiVersionsRequest, ApiVersionsResponse, ListOffsetsRequest, MetadataRequest, MetadataResponse,
};
use strom_kafka_codec::{Request, decode_response_frame, encode_request_frame};
use strom_runtime::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::cluster::Cluster;
use crate::net::{Address, Listeners, Serve};

struct Client {
    socket: TcpStream,
    port: u16,
    _cluster: Cluster,
    shutdown: Shutdown,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shutdown.trigger("the test is over");
    }
}

impl Client {
    /// A client of a listener whose host is not configured.
    async fn connect() -> Self {
        let cluster = Cluster::with_topics().await;
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let shutdown = Shutdown::new();
        let listeners = Listeners::new(cluster.gateway.clone(), shutdown.clone());
        let address = Address {
            name: "PLAINTEXT".into(),
            host: String::new(),
            port,
            broker_ports: None,
        };
        tokio::spawn(listeners.run(vec![Serve {
            socket,
            address: Arc::new(address),
        }]));
        Client {
            socket: TcpStream::connect(("127.0.0.1", port)).await.unwrap(),
            port,
            _cluster: cluster,
            shutdown,
        }
    }

    async fn send<R: Request>(&mut self, correlation: i32, version: i16, request: &R) {
        let frame = encode_request_frame(correlation, version, Some("test"), request).unwrap();
        self.socket.write_all(&frame.into_contiguous()).await.unwrap();
    }

    /// The next frame without its size; `None` when the gateway has closed the connection.
    async fn frame(&mut self) -> Option<Bytes> {
        let read = async {
            let size = self.socket.read_i32().await.ok()?;
            let mut frame = vec![0; usize::try_from(size).unwrap()];
            self.socket.read_exact(&mut frame).await.ok()?;
            Some(Bytes::from(frame))
        };
        timeout(Duration::from_secs(10), read)
            .await
            .expect("an answer or the end")
    }
}

fn metadata() -> MetadataRequest {
    MetadataRequest {
        topics: Some(vec![]),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_listener_without_a_host_tells_the_address_that_was_reached() {
    let mut client = Client::connect().await;
    client.send(1, 12, &metadata()).await;
    let frame = client.frame().await.unwrap();
    let (_, response) = decode_response_frame::<MetadataResponse>(frame, 12).unwrap();
    let addresses: Vec<_> = response
        .brokers
        .iter()
        .map(|b| (b.host.as_str(), b.port))
        .collect();
    assert_eq!(addresses, [("127.0.0.1", i32::from(client.port)); 2]);
}

#[tokio::test]
async fn replies_keep_the_order_of_pipelined_requests() {
    let mut client = Client::connect().await;
    for correlation in 0..50 {
        match correlation % 2 {
            0 => client.send(correlation, 12, &metadata()).await,
            _ => client.send(correlation, 7, &ListOffsetsRequest::default()).await,
        }
    }
    for correlation in 0..50 {
        let mut frame = client.frame().await.unwrap();
        assert_eq!(frame.get_i32(), correlation);
    }
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_is_answered_and_no_other() {
    let mut client = Client::connect().await;
    // ApiVersions version 99, correlation 5, no client id.
    client
        .socket
        .write_all(b"\0\0\0\x0a\0\x12\0\x63\0\0\0\x05\xff\xff")
        .await
        .unwrap();
    let frame = client.frame().await.unwrap();
    let (correlation, response) = decode_response_frame::<ApiVersionsResponse>(frame, 0).unwrap();
    assert_eq!((correlation, response.error_code), (5, 35));
    assert!(!response.api_keys.is_empty());
    let request = ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
    };
    client.send(6, 4, &request).await;
    assert!(client.frame().await.is_some(), "the connection lives on");
    // Metadata version 99.
    client
        .socket
        .write_all(b"\0\0\0\x0a\0\x03\0\x63\0\0\0\x05\xff\xff")
        .await
        .unwrap();
    assert_eq!(client.frame().await, None);
}

#[tokio::test]
async fn bad_bytes_close_the_connection() {
    for bad in [
        // A negative size, one beyond the limit, a body that ends early, a key that is not served (AddRaftVoter).
        &b"\xff\xff\xff\xff"[..],
        b"\x7f\xff\xff\xff",
        b"\0\0\0\x0a\0\x03\0\x0c\0\0\0\x05\xff\xff",
        b"\0\0\0\x0b\0\x50\0\0\0\0\0\x05\xff\xff\0",
    ] {
        let mut client = Client::connect().await;
        client.socket.write_all(bad).await.unwrap();
        assert_eq!(client.frame().await, None, "{bad:?}");
    }
}
