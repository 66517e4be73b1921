//! A client that speaks in frames: any request at any version, in any order, and bytes that are no request at all.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Buf, Bytes};
use strom_kafka_codec::{FrameReader, Request, Response, decode_response_frame, encode_request_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// A reply, or the end of a connection, that takes longer has failed the test. Debug builds on a busy machine are slow.
const REPLY_MAX: Duration = Duration::from_secs(40);
const REPLY_BYTES_MAX: usize = 256 << 20;
const CLIENT_ID: &str = "raw";

/// One connection.
pub struct Raw {
    stream: TcpStream,
    frames: FrameReader,
    next_correlation: i32,
}

impl Raw {
    pub async fn connect(address: &str) -> Self {
        let first = address.split(',').next().unwrap_or(address);
        Self::over(TcpStream::connect(first).await.expect("a listening gateway"))
    }

    /// Connects from another address of this machine.
    pub async fn connect_from(from: IpAddr, address: &str) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from((from, 0))).expect("a local address");
        let to = address.parse().expect("an address");
        Self::over(socket.connect(to).await.expect("a listening gateway"))
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket option");
        Raw {
            stream,
            frames: FrameReader::new(REPLY_BYTES_MAX),
            next_correlation: 1,
        }
    }

    /// Sends a request without waiting for its reply; returns its correlation id.
    pub async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        let id = self.next_correlation;
        self.next_correlation += 1;
        let frame = encode_request_frame(id, version, Some(CLIENT_ID), request);
        let mut frame = frame.expect("a request that the version can carry");
        let bytes = frame.copy_to_bytes(frame.remaining());
        self.send_bytes(&bytes).await;
        id
    }

    /// Sends bytes as they are. That the other side has closed already is for the reading side to find.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let sent = timeout(REPLY_MAX, self.stream.write_all(bytes)).await;
        let _ = sent.expect("the server reads");
    }

    /// The next reply frame, without its length; `None` = the server closed the connection.
    pub async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.frames.next_frame().expect("a frame within bounds") {
                return Some(frame);
            }
            let read = self.stream.read_buf(self.frames.buffer_mut());
            match timeout(REPLY_MAX, read).await.expect("a reply in time") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next reply, which must be to a request of this kind and version.
    pub async fn receive<R: Response>(&mut self, version: i16) -> (i32, R) {
        let frame = self.frame().await.expect("a reply, not a closed connection");
        decode_response_frame(frame, version).expect("a reply of the version asked for")
    }

    /// Sends a request and waits for its reply, with nothing else in flight.
    pub async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let sent = self.send(version, request).await;
        let (answered, response) = self.receive(version).await;
        assert_eq!(answered, sent, "the correlation id");
        response
    }

    /// Waits until the server has closed the connection.
    ///
    /// # Panics
    ///
    /// When it answers instead, or neither.
    pub async fn expect_close(&mut self) {
        let frame = self.frame().await;
        assert_eq!(frame, None, "an answer instead of a closed connection");
    }

    /// Whatever comes first, at most within `limit`: a reply, or `None` for a closed connection.
    ///
    /// # Panics
    ///
    /// When neither comes.
    pub async fn answer_within(&mut self, limit: Duration) -> Option<Bytes> {
        let answer = timeout(limit, self.frame()).await;
        answer.unwrap_or_else(|_| panic!("neither an answer nor a closed connection within {limit:?}"))
    }

    /// Sends what the other side takes within `limit`; `false` = it has stopped taking.
    pub async fn send_within(&mut self, limit: Duration, bytes: &[u8]) -> bool {
        matches!(timeout(limit, self.stream.write_all(bytes)).await, Ok(Ok(())))
    }

    /// Closes our sending side.
    pub async fn hang_up(&mut self) {
        // The other side may have closed before.
        let _ = self.stream.shutdown().await;
    }
}
