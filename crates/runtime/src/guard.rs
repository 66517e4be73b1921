//! What stands before an internal listener on TCP: a TLS handshake with certificates on both sides, then, call by call,
//! the table of who may call what.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream::unfold;
use http::{Request, Response};
use strom_types::Role;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::server::Connected;
use tower::Service;
use tracing::warn;

use crate::caller::{Caller, Reason, Refusals};
use crate::{InternalTls, Metrics, Services};

const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Connections that are not accepted yet; more wait in the listen queue.
const HANDSHAKES_MAX: usize = 512;
/// After an accept that failed, as it does for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Whom a listener lets in, and to what.
#[derive(Clone)]
pub struct Guard {
    tls: InternalTls,
    callers: fn(&str) -> &'static [Role],
    refusals: Refusals,
}

impl Guard {
    /// `callers` gives the roles that may call the method at a path.
    pub fn new(tls: InternalTls, callers: fn(&str) -> &'static [Role], metrics: &Metrics) -> Self {
        Guard {
            tls,
            callers,
            refusals: Refusals::new(metrics),
        }
    }

    /// The connections that have passed.
    pub(crate) fn incoming(
        &self,
        listener: TcpListener,
    ) -> impl Stream<Item = io::Result<Certified>> + use<> {
        let state = (self.clone(), listener, JoinSet::new());
        unfold(state, |(guard, listener, mut handshakes)| async move {
            loop {
                tokio::select! {
                    accepted = listener.accept(), if handshakes.len() < HANDSHAKES_MAX => match accepted {
                        Ok((socket, address)) => {
                            handshakes.spawn(guard.clone().shake_hands(socket, address));
                        }
                        Err(error) => {
                            warn!(%error, "cannot accept a connection of another service");
                            sleep(ACCEPT_PAUSE).await;
                        }
                    },
                    Some(done) = handshakes.join_next() => if let Ok(Some(connection)) = done {
                        return Some((Ok(connection), (guard, listener, handshakes)));
                    },
                }
            }
        })
    }

    async fn shake_hands(self, socket: TcpStream, address: SocketAddr) -> Option<Certified> {
        let reason = match timeout(HANDSHAKE_MAX, self.tls.accept(socket)).await {
            Ok(Ok((stream, identities))) if !identities.is_empty() => {
                let caller = Caller::certified(identities, address, self.refusals);
                return Some(Certified { stream, caller });
            }
            Ok(Ok(_)) => {
                self.refusals
                    .note(Reason::Identity, address, "the certificate names no role");
                return None;
            }
            // A probe of the port, or a caller that has ended.
            Ok(Err(error))
                if matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                ) =>
            {
                return None;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no TLS handshake in time".to_owned(),
        };
        self.refusals.note(Reason::Handshake, address, &reason);
        None
    }
}

/// A connection with a certificate.
pub(crate) struct Certified {
    stream: TlsStream<TcpStream>,
    caller: Caller,
}

impl Connected for Certified {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Certified {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Certified {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// The services behind the guard.
#[derive(Clone)]
pub(crate) struct Guarded {
    pub(crate) guard: Guard,
    pub(crate) services: Services,
}

impl<B> Service<Request<B>> for Guarded
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let caller = Caller::of(request.extensions());
        let path = request.uri().path();
        let checked = if caller.is_certified() {
            caller.check_role((self.guard.callers)(path), &path)
        } else {
            Err(Status::unauthenticated("the caller has no certificate"))
        };
        match checked {
            Ok(()) => self.services.call(request),
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
        }
    }
}
