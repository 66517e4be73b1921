//! One connection to a broker: pipelined requests, replies matched by order and correlation id.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use strom_kafka_codec::messages::{ApiVersionsRequest, ApiVersionsResponse};
use strom_kafka_codec::{
    ApiKey, Chunks, FrameReader, Request, Response, decode_response_frame, encode_request_frame,
};
use strom_types::ErrorCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::versions::{ServedVersions, spoken};
use super::{Address, Deadline, KafkaError};

/// The largest reply taken; a fetch asks for far less.
const REPLY_BYTES_MAX: usize = 256 << 20;
/// How long one address may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The newest `ApiVersions` to begin with; a server that lacks it says so in version 0 (KIP-511).
const API_VERSIONS_VERSION: i16 = 3;

#[derive(Debug, Default)]
struct State {
    next_correlation: i32,
    /// Who waits, in the order of the requests, which is the order of the replies.
    waiting: VecDeque<(i32, oneshot::Sender<Bytes>)>,
    /// Why the connection is of no use any more.
    broken: Option<String>,
}

type Shared = Arc<Mutex<State>>;

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Marks the connection broken; whoever waits learns of it as their sender is dropped.
fn break_off(shared: &Shared, reason: String) {
    let mut state = lock(shared);
    state.broken.get_or_insert(reason);
    state.waiting.clear();
}

/// An open connection whose server has said which APIs it serves. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Connection {
    address: Address,
    client_id: Arc<str>,
    served: ServedVersions,
    shared: Shared,
    outgoing: mpsc::UnboundedSender<Chunks>,
    tasks: [AbortHandle; 2],
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// A reply that is still on its way.
#[derive(Debug)]
pub(crate) struct Reply<R> {
    receiver: oneshot::Receiver<Bytes>,
    correlation_id: i32,
    version: i16,
    address: Address,
    shared: Shared,
    response: PhantomData<fn() -> R>,
}

impl<R: Response> Reply<R> {
    /// Waits for the reply. An error about the connection is [`KafkaError::Lost`].
    pub(crate) async fn wait(self, deadline: Deadline) -> Result<R, KafkaError> {
        let api = R::KEY;
        let address = self.address.clone();
        let work = async move {
            let Ok(frame) = self.receiver.await else {
                let reason = lock(&self.shared).broken.clone().unwrap_or_default();
                return Err(KafkaError::lost(&self.address, api, reason));
            };
            match decode_response_frame::<R>(frame, self.version) {
                Ok((correlation_id, body)) if correlation_id == self.correlation_id => Ok(body),
                Ok((other, _)) => Err(KafkaError::lost(
                    &self.address,
                    api,
                    format!("correlation id {other} instead of {}", self.correlation_id),
                )),
                Err(source) => Err(KafkaError::Malformed {
                    address: self.address.to_string(),
                    api,
                    source,
                }),
            }
        };
        deadline.bound(|| format!("{api} to {address}"), work).await
    }
}

impl Connection {
    /// Connects and asks for the server's API versions.
    pub(crate) async fn open(
        address: &Address,
        client_id: &str,
        deadline: Deadline,
    ) -> Result<Self, KafkaError> {
        let failed = |reason: String| KafkaError::Connect {
            address: address.to_string(),
            reason,
        };
        let connect = TcpStream::connect((address.host.as_str(), address.port));
        let limit = CONNECT_TIMEOUT.min(deadline.remaining());
        let stream = match tokio::time::timeout(limit, connect).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed(format!("no answer within {limit:?}"))),
        };
        stream
            .set_nodelay(true)
            .map_err(|error| failed(error.to_string()))?;
        let mut connection = Self::start(stream, address.clone(), client_id);
        connection.served = ServedVersions::of(&connection.ask_versions(deadline).await?);
        Ok(connection)
    }

    fn start(stream: TcpStream, address: Address, client_id: &str) -> Self {
        let (read, write) = stream.into_split();
        let shared = Shared::default();
        let (outgoing, queue) = mpsc::unbounded_channel();
        let reader = tokio::spawn(read_replies(read, Arc::clone(&shared)));
        let writer = tokio::spawn(write_requests(write, queue, Arc::clone(&shared)));
        Self {
            address,
            client_id: client_id.into(),
            served: ServedVersions::default(),
            shared,
            outgoing,
            tasks: [reader.abort_handle(), writer.abort_handle()],
        }
    }

    async fn ask_versions(&self, deadline: Deadline) -> Result<ApiVersionsResponse, KafkaError> {
        let request = ApiVersionsRequest {
            client_software_name: "strom-cli".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        };
        let unsupported = i16::try_from(ErrorCode::UnsupportedVersion as i32).ok();
        let mut version = API_VERSIONS_VERSION;
        loop {
            // The version of the *reply* is only known from its content, so it is decoded here.
            let (correlation_id, receiver) = self.enqueue(&request, version)?;
            let work = async { receiver.await.map_err(|_| self.lost(ApiKey::ApiVersions)) };
            let frame = deadline
                .bound(|| format!("ApiVersions to {}", self.address), work)
                .await?;
            let decoded = decode_response_frame::<ApiVersionsResponse>(frame.clone(), version)
                .or_else(|error| decode_response_frame(frame, 0).map_err(|_| error));
            let response = match decoded {
                Ok((id, response)) if id == correlation_id => response,
                Ok((id, _)) => {
                    let reason = format!("correlation id {id} instead of {correlation_id}");
                    return Err(KafkaError::lost(&self.address, ApiKey::ApiVersions, reason));
                }
                Err(source) => {
                    let address = self.address.to_string();
                    return Err(KafkaError::Malformed {
                        address,
                        api: ApiKey::ApiVersions,
                        source,
                    });
                }
            };
            if version > 0 && Some(response.error_code) == unsupported {
                version = 0;
                continue;
            }
            KafkaError::check("ApiVersions", response.error_code, None)?;
            return Ok(response);
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn served(&self) -> &ServedVersions {
        &self.served
    }

    /// Whether a request would fail at once.
    pub(crate) fn is_broken(&self) -> bool {
        lock(&self.shared).broken.is_some()
    }

    /// The version to send `R` in.
    pub(crate) fn version<R: Request>(&self) -> Result<i16, KafkaError> {
        self.served.choose(R::KEY).ok_or_else(|| KafkaError::Unsupported {
            address: self.address.to_string(),
            api: R::KEY,
            theirs: self.served.get(R::KEY.as_i16()),
            ours: spoken(R::KEY),
        })
    }

    /// Sends a request built for the version that both sides speak. Requests go out in the order of these calls.
    pub(crate) fn send<R: Request>(
        &self,
        build: impl FnOnce(i16) -> R,
    ) -> Result<Reply<R::Response>, KafkaError> {
        let version = self.version::<R>()?;
        let (correlation_id, receiver) = self.enqueue(&build(version), version)?;
        Ok(Reply {
            receiver,
            correlation_id,
            version,
            address: self.address.clone(),
            shared: Arc::clone(&self.shared),
            response: PhantomData,
        })
    }

    /// Sends a request that is not answered (produce with acks=0).
    pub(crate) fn send_unanswered<R: Request>(&self, build: impl FnOnce(i16) -> R) -> Result<(), KafkaError> {
        let version = self.version::<R>()?;
        let mut state = lock(&self.shared);
        self.push::<R>(&mut state, &build(version), version).map(|_| ())
    }

    /// Sends a request and waits for its reply.
    pub(crate) async fn call<R: Request>(
        &self,
        deadline: Deadline,
        build: impl FnOnce(i16) -> R,
    ) -> Result<R::Response, KafkaError> {
        self.send(build)?.wait(deadline).await
    }

    fn enqueue<R: Request>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<(i32, oneshot::Receiver<Bytes>), KafkaError> {
        let (sender, receiver) = oneshot::channel();
        let mut state = lock(&self.shared);
        let correlation_id = self.push::<R>(&mut state, request, version)?;
        state.waiting.push_back((correlation_id, sender));
        Ok((correlation_id, receiver))
    }

    fn push<R: Request>(&self, state: &mut State, request: &R, version: i16) -> Result<i32, KafkaError> {
        if let Some(reason) = &state.broken {
            return Err(KafkaError::lost(&self.address, R::KEY, reason.clone()));
        }
        let correlation_id = state.next_correlation;
        let frame = encode_request_frame(correlation_id, version, Some(&self.client_id), request)
            .map_err(|source| KafkaError::Encode { api: R::KEY, source })?;
        state.next_correlation = correlation_id.wrapping_add(1);
        self.outgoing
            .send(frame)
            .map_err(|_| KafkaError::lost(&self.address, R::KEY, "the connection is closed"))?;
        Ok(correlation_id)
    }

    fn lost(&self, api: ApiKey) -> KafkaError {
        KafkaError::lost(
            &self.address,
            api,
            lock(&self.shared).broken.clone().unwrap_or_default(),
        )
    }
}

async fn write_requests(
    mut write: OwnedWriteHalf,
    mut queue: mpsc::UnboundedReceiver<Chunks>,
    shared: Shared,
) {
    while let Some(mut frame) = queue.recv().await {
        if let Err(error) = write.write_all_buf(&mut frame).await {
            return break_off(&shared, error.to_string());
        }
    }
}

async fn read_replies(mut read: OwnedReadHalf, shared: Shared) {
    let reason = match pump(&mut read, &shared).await {
        Ok(()) => "end of stream".to_owned(),
        Err(error) => error.to_string(),
    };
    break_off(&shared, reason);
}

async fn pump(read: &mut OwnedReadHalf, shared: &Shared) -> io::Result<()> {
    let mut frames = FrameReader::new(REPLY_BYTES_MAX);
    loop {
        while let Some(frame) = frames.next_frame().map_err(io::Error::other)? {
            let Some((_, sender)) = lock(shared).waiting.pop_front() else {
                return Err(io::Error::other("a reply nobody asked for"));
            };
            // Whoever asked may have given up; the reply is then dropped.
            let _ = sender.send(frame);
        }
        if read.read_buf(frames.buffer_mut()).await? == 0 {
            return Ok(());
        }
    }
}
