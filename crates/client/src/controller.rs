//! Calls to the controller quorum: finds the leader, follows its hints, and never repeats a call whose effect is
//! unknown unless the caller says that repeating it is harmless.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use strom_proto::convert::error_code;
use strom_proto::status::from_status;
use strom_proto::v1::controller_client::ControllerClient as Stub;
use strom_types::ErrorCode;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Response, Status};

use crate::{CallError, Peers, Transport};

const RETRY_PAUSE: Duration = Duration::from_millis(50);
const RETRY_PAUSE_MAX: Duration = Duration::from_millis(500);
/// Decode limit of replies and watch messages.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What repeating a call whose answer was lost would do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// The same as calling once: it may be retried.
    Idempotent,
    /// Something else: the caller must be told that the outcome is unknown.
    Once,
}

/// The quorum, by its members' endpoints; cheap to clone.
#[derive(Clone)]
pub struct ControllerClient {
    peers: Peers,
    endpoints: Arc<Vec<String>>,
    /// The endpoint that last answered as leader, or the next one to try.
    target: Arc<Mutex<String>>,
}

impl ControllerClient {
    /// `endpoints` must not be empty.
    pub fn new(peers: Peers, endpoints: Vec<String>) -> Self {
        let first = endpoints.first().cloned().unwrap_or_default();
        ControllerClient {
            peers,
            endpoints: Arc::new(endpoints),
            target: Arc::new(Mutex::new(first)),
        }
    }

    /// Every member's, in the order in which they are tried.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Where the leader was last seen.
    pub fn target(&self) -> String {
        self.target.lock().clone()
    }

    /// A stub on the present target, for streams that the caller supervises itself.
    pub fn stub(&self) -> Result<Stub<Transport>, CallError> {
        self.stub_at(&self.target())
    }

    fn stub_at(&self, endpoint: &str) -> Result<Stub<Transport>, CallError> {
        Ok(Stub::new(self.peers.control(endpoint)?).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Turns to another controller after a failure: to the hinted one, else to the next in the list.
    pub fn turn(&self, failed: &str, hint: &str) {
        let mut target = self.target.lock();
        if *target != failed {
            return;
        }
        let position = self
            .endpoints
            .iter()
            .position(|e| e == failed)
            .map_or(0, |i| i + 1);
        let next = self.endpoints.get(position % self.endpoints.len().max(1));
        *target = if hint.is_empty() {
            next.cloned().unwrap_or_default()
        } else {
            hint.to_owned()
        };
    }

    /// Calls the leader within `limit`. `call` gets a stub and the request; it is called again only where that
    /// cannot do harm.
    pub async fn call<Q, A, F, R>(
        &self,
        limit: Duration,
        effect: Effect,
        request: Q,
        call: F,
    ) -> Result<A, CallError>
    where
        Q: Clone,
        F: Fn(Stub<Transport>, Q) -> R,
        R: Future<Output = Result<Response<A>, Status>>,
    {
        let deadline = Instant::now() + limit;
        let mut pause = RETRY_PAUSE;
        loop {
            let target = self.target();
            let attempt = async {
                let stub = self.stub_at(&target)?;
                call(stub, request.clone())
                    .await
                    .map_err(|status| classify(&target, &status))
            };
            let error = match timeout_at(deadline, attempt).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(error)) => error,
                Err(_) => CallError::Indeterminate {
                    target: target.clone(),
                    reason: "deadline exceeded".into(),
                },
            };
            let hint = match &error {
                CallError::Refused(e) if error_code(e.code) == ErrorCode::NotController => {
                    e.leader_endpoint.clone()
                }
                CallError::Refused(e) if error_code(e.code) == ErrorCode::ControllerUnavailable => {
                    String::new()
                }
                CallError::Unreachable { .. } => String::new(),
                CallError::Indeterminate { .. } if effect == Effect::Idempotent => String::new(),
                _ => return Err(error),
            };
            self.turn(&target, &hint);
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }
}

/// Tells a refusal from a connection that was never made from an unknown outcome.
fn classify(target: &str, status: &Status) -> CallError {
    if !status.details().is_empty() {
        let error = from_status(status);
        if error_code(error.code) != ErrorCode::Indeterminate {
            return CallError::Refused(error);
        }
        return CallError::Indeterminate {
            target: target.to_owned(),
            reason: error.message,
        };
    }
    let reason = status.message().to_owned();
    match status.code() {
        // By the listener, before the call came to its service.
        Code::PermissionDenied => CallError::Refused(from_status(status)),
        Code::Unavailable if never_connected(status) => CallError::Unreachable {
            target: target.to_owned(),
            reason,
        },
        _ => CallError::Indeterminate {
            target: target.to_owned(),
            reason,
        },
    }
}

/// Whether the transport failed before a connection stood, so that no byte of the request left.
fn never_connected(status: &Status) -> bool {
    use std::io::ErrorKind::{AddrNotAvailable, HostUnreachable};
    is_refused(status) || matches!(io_error(status), Some(HostUnreachable | AddrNotAvailable))
}

/// Whether the address refused the connection: its process is gone. (An orderly end removes a unix socket's file.)
pub fn is_refused(status: &Status) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    matches!(io_error(status), Some(ConnectionRefused | NotFound))
}

fn io_error(status: &Status) -> Option<std::io::ErrorKind> {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        source = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use strom_proto::v1::DescribeQuorumRequest;

    use super::*;

    #[tokio::test]
    async fn a_refused_connection_is_unreachable_and_every_controller_is_tried() {
        let client = ControllerClient::new(
            Peers::new(),
            vec!["127.0.0.1:1".into(), "unix:///nonexistent/strom.sock".into()],
        );
        let error = client
            .call(
                Duration::from_millis(300),
                Effect::Once,
                DescribeQuorumRequest {},
                |mut stub, request| async move { stub.describe_quorum(request).await },
            )
            .await
            .unwrap_err();
        assert!(matches!(error, CallError::Unreachable { .. }), "{error:?}");
    }

    #[test]
    fn a_hint_wins_over_the_list() {
        let client = ControllerClient::new(Peers::new(), vec!["a:1".into(), "b:1".into()]);
        client.turn("a:1", "c:1");
        assert_eq!(client.target(), "c:1");
        client.turn("a:1", "");
        assert_eq!(client.target(), "c:1", "a stale failure moves nothing");
        client.turn("c:1", "");
        assert_eq!(client.target(), "a:1");
    }
}
