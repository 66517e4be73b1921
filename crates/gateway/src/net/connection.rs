//! One client connection: frames in, replies out in the order of their requests.
//!
//! Requests that only wait (Produce, Fetch) overlap; all others run one after the other, as in Kafka. Nothing is read
//! ahead of what the limits allow, so a client that does not read its replies stops being read itself.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use futures::stream::{FuturesOrdered, StreamExt};
use strom_kafka_codec::{ApiKey, FrameError, FrameReader};
use strom_runtime::request_span;
use strom_types::{BrokerId, Mono};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::Instrument;

use super::Address;
use crate::api::{self, Failure, Order, Reply, Start};
use crate::gateway::Gateway;
use crate::produce_order::ProduceOrder;

/// What one connection may hold.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionLimits {
    /// `socket.request.max.bytes`.
    pub frame_bytes_max: usize,
    pub in_flight_max: usize,
    pub in_flight_bytes_max: usize,
    /// `connections.max.idle.ms`.
    pub idle_max: Duration,
    /// After this time a half-received frame must have grown by [`PARTIAL_FRAME_BYTES_PER_SECOND`] on average.
    pub partial_frame_grace: Duration,
    /// A reply must be taken within this time.
    pub send_timeout: Duration,
}

/// Until a request has been understood, what is larger must begin as one: who sends no Kafka requests is not listened to.
const STRANGER_FRAME_BYTES_MAX: usize = 64 * 1024;
const PARTIAL_FRAME_BYTES_PER_SECOND: u64 = 1024;
/// How often a half-received frame is looked at.
const PARTIAL_FRAME_CHECK: Duration = Duration::from_secs(1);
/// Bytes read ahead while the next request may not start yet, so that a hang-up is noticed.
const READ_AHEAD_BYTES: usize = 16 * 1024;
/// The unit in which the request memory of all connections is counted.
pub(crate) const MEMORY_UNIT_BYTES: usize = 1024;

/// What handlers know of the connection.
#[derive(Debug)]
pub(crate) struct ConnectionInfo {
    pub peer: SocketAddr,
    pub listener: Arc<Address>,
    /// The broker id whose port the client came to.
    pub broker: Option<BrokerId>,
    pub produce_order: ProduceOrder,
}

/// Why a connection was closed by us.
#[derive(Debug, Error)]
pub(crate) enum Closed {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Request(#[from] Failure),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a half-sent request came in too slowly")]
    SlowFrame,
    #[error("idle for too long")]
    Idle,
    #[error("the client does not take its replies")]
    SendTimeout,
    /// The client hung up, which is nobody's fault.
    #[error("end of stream")]
    EndOfStream,
}

struct Finished {
    key: ApiKey,
    serial: bool,
    bytes: usize,
    started: Mono,
    result: Result<Reply, Failure>,
    /// Gives the request's memory back once its reply has been written.
    _memory: Option<OwnedSemaphorePermit>,
}

type InFlight = FuturesOrdered<futures::future::BoxFuture<'static, Finished>>;

pub(crate) struct Connection {
    gateway: Arc<Gateway>,
    info: Arc<ConnectionInfo>,
    socket: TcpStream,
    frames: FrameReader,
    /// No request has been understood yet.
    is_stranger: bool,
    in_flight: InFlight,
    in_flight_bytes: usize,
    /// A request that must end before the next starts is running.
    serial_running: bool,
    last_active: Instant,
    /// When the first byte of the half-received frame came in.
    partial_since: Option<Instant>,
    /// When the half-received frame is looked at next.
    pace_due: Instant,
}

impl Connection {
    pub(crate) fn new(gateway: Arc<Gateway>, info: ConnectionInfo, socket: TcpStream) -> Self {
        let frames = FrameReader::new(gateway.limits().frame_bytes_max);
        Connection {
            gateway,
            info: Arc::new(info),
            socket,
            frames,
            is_stranger: true,
            in_flight: FuturesOrdered::new(),
            in_flight_bytes: 0,
            serial_running: false,
            last_active: Instant::now(),
            partial_since: None,
            pace_due: Instant::now(),
        }
    }

    /// Serves until either side has had enough; says why.
    pub(crate) async fn serve(mut self) -> Closed {
        loop {
            if let Err(closed) = self.step().await {
                return closed;
            }
        }
    }

    async fn step(&mut self) -> Result<(), Closed> {
        self.start_requests().await?;
        let may_read = self.may_start() || self.frames.partial_len() < READ_AHEAD_BYTES;
        let wake = self.next_check();
        tokio::select! {
            biased;
            Some(finished) = self.in_flight.next(), if !self.in_flight.is_empty() => self.answer(finished).await,
            read = self.socket.read_buf(self.frames.buffer_mut()), if may_read => match read? {
                0 => Err(Closed::EndOfStream),
                _ => {
                    self.last_active = Instant::now();
                    Ok(())
                }
            },
            () = sleep_until(wake) => self.check_pace(),
        }
    }

    fn may_start(&self) -> bool {
        let limits = self.gateway.limits();
        !self.serial_running
            && self.in_flight.len() < limits.in_flight_max
            && self.in_flight_bytes < limits.in_flight_bytes_max
    }

    /// Starts every request that has arrived whole and may start now.
    async fn start_requests(&mut self) -> Result<(), Closed> {
        if self.is_stranger {
            self.check_first_frame()?;
        }
        while self.may_start() {
            let Some(frame) = self.frames.next_frame()? else {
                break;
            };
            self.partial_since = None;
            let bytes = frame.len();
            let memory = reserve(&self.gateway, bytes).await;
            let started = self.gateway.clock().mono();
            let request = api::start(&self.gateway, &self.info, frame)?;
            let span = request_span!(
                "request",
                otel.name = request.key.name(),
                otel.kind = "server",
                messaging.system = "kafka",
                bytes,
            );
            self.is_stranger = false;
            let (key, serial) = (request.key, request.order == Order::Serial);
            self.serial_running |= serial;
            self.in_flight_bytes += bytes;
            let reply = match request.reply {
                Start::Now(reply) => reply,
                Start::InOrder(first) => first.instrument(span.clone()).await?,
            };
            self.in_flight.push_back(Box::pin(async move {
                Finished {
                    key,
                    serial,
                    bytes,
                    started,
                    result: reply.instrument(span).await,
                    _memory: memory,
                }
            }));
        }
        if self.frames.partial_len() == 0 {
            self.partial_since = None;
        } else if self.partial_since.is_none() {
            self.expect_rest_of_frame();
        }
        Ok(())
    }

    /// A client need not ask for the API versions first: older ones begin a connection with a large Produce.
    fn check_first_frame(&self) -> Result<(), Closed> {
        let limit = STRANGER_FRAME_BYTES_MAX;
        match self.frames.begun() {
            Some((len, key, version)) if len > limit && !self.gateway.serves(key, version) => {
                Err(FrameError::TooLarge { len, limit }.into())
            }
            _ => Ok(()),
        }
    }

    fn expect_rest_of_frame(&mut self) {
        let now = Instant::now();
        self.partial_since = Some(now);
        self.pace_due = now + self.gateway.limits().partial_frame_grace;
    }

    async fn answer(&mut self, finished: Finished) -> Result<(), Closed> {
        self.in_flight_bytes -= finished.bytes;
        self.serial_running &= !finished.serial;
        if finished.serial && self.partial_since.is_some() {
            // Bytes that waited for a serial request to end are not the client's fault.
            self.expect_rest_of_frame();
        }
        let metrics = self.gateway.metrics();
        metrics.request(
            finished.key,
            self.gateway.clock().mono().since(finished.started),
            finished.bytes,
        );
        if let Reply::Frame(mut chunks) = finished.result? {
            let len = chunks.remaining();
            let write = async {
                if len < 64 * 1024 {
                    // Small replies leave in one system call.
                    let bytes = chunks.into_contiguous();
                    self.socket.write_all(&bytes).await
                } else {
                    self.socket.write_all_buf(&mut chunks).await
                }
            };
            timeout(self.gateway.limits().send_timeout, write)
                .await
                .map_err(|_| Closed::SendTimeout)??;
            metrics.reply_bytes(len);
        }
        self.last_active = Instant::now();
        Ok(())
    }

    fn next_check(&self) -> Instant {
        match self.partial_since {
            Some(_) => self.pace_due,
            None => self.last_active + self.gateway.limits().idle_max,
        }
    }

    fn check_pace(&mut self) -> Result<(), Closed> {
        if let Some(since) = self.partial_since {
            self.pace_due = Instant::now() + PARTIAL_FRAME_CHECK;
            let age = since.elapsed();
            let due = age.as_secs() * PARTIAL_FRAME_BYTES_PER_SECOND;
            let slow =
                age > self.gateway.limits().partial_frame_grace && (self.frames.partial_len() as u64) < due;
            return if slow && self.may_start() {
                Err(Closed::SlowFrame)
            } else {
                Ok(())
            };
        }
        let idle = self.last_active.elapsed() >= self.gateway.limits().idle_max;
        if idle && self.in_flight.is_empty() {
            Err(Closed::Idle)
        } else {
            Ok(())
        }
    }
}

/// Waits for room in the memory that all connections' requests share.
async fn reserve(gateway: &Gateway, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let (memory, units_max) = gateway.request_memory();
    let units = u32::try_from(bytes / MEMORY_UNIT_BYTES + 1)
        .unwrap_or(u32::MAX)
        .min(units_max);
    memory.acquire_many_owned(units).await.ok()
}
