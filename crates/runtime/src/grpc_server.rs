//! The gRPC server of a process for the others, on TCP or a unix socket.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use parking_lot::RwLock;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower::Service;
use tracing::Instrument;

use crate::guard::{Guard, Guarded};
use crate::{Endpoint, Shutdown, trace_context};

/// As on the clients' side: large frames and windows for the data path (docs/performance.md).
const FRAME_BYTES_MAX: u32 = 1024 * 1024;
const STREAM_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
const STREAMS_MAX: u32 = 1024;
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// A bound socket.
#[derive(Debug)]
pub enum GrpcListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl GrpcListener {
    /// Binds the address; a unix socket that a killed process left behind is replaced.
    pub async fn bind(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint {
            Endpoint::Tcp(address) => Ok(GrpcListener::Tcp(
                TcpListener::bind((address.host.as_str(), address.port)).await?,
            )),
            Endpoint::Unix(path) => {
                // A living process holds its data directory's lock.
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                Ok(GrpcListener::Unix(UnixListener::bind(path)?))
            }
        }
    }

    /// Serves until shutdown; open streams are dropped then. Who comes by TCP has to pass the guard, if there is one; a
    /// unix socket is guarded by its file's permissions.
    pub async fn serve(
        self,
        services: &Services,
        guard: Option<Guard>,
        shutdown: Shutdown,
    ) -> Result<(), tonic::transport::Error> {
        let mut server = Server::builder()
            .max_frame_size(FRAME_BYTES_MAX)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_MAX)
            .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE));
        // Long-lived streams never end by themselves, so a graceful end would wait for ever.
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            served = async {
                match (self, guard) {
                    (GrpcListener::Tcp(listener), Some(guard)) => {
                        let incoming = guard.incoming(listener);
                        let services = Guarded { guard, services: services.clone() };
                        server.add_routes(routes(services)).serve_with_incoming(incoming).await
                    }
                    (GrpcListener::Tcp(listener), None) => {
                        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                        server.add_routes(routes(services.clone())).serve_with_incoming(incoming).await
                    }
                    (GrpcListener::Unix(listener), _) => {
                        let incoming = UnixListenerStream::new(listener);
                        server.add_routes(routes(services.clone())).serve_with_incoming(incoming).await
                    }
                }
            } => served,
        }
    }
}

/// Services of this process as they come: the socket is served before the last role has started, since a quorum must
/// form before a broker can register.
#[derive(Clone, Default)]
pub struct Services {
    by_name: Arc<RwLock<BTreeMap<&'static str, Routes>>>,
}

impl Services {
    /// Makes `routes` answer for these services, named `package.Service`.
    pub fn add(&self, names: &[&'static str], routes: &Routes) {
        let mut by_name = self.by_name.write();
        for name in names {
            by_name.insert(name, routes.clone());
        }
    }
}

/// One service that answers for all paths, as a router.
fn routes<S>(service: S) -> Routes
where
    S: Service<Request<axum::body::Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    Routes::from(Routes::default().into_axum_router().fallback_service(service))
}

impl<B> Service<Request<B>> for Services
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
        let request = request.map(Body::new);
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        match self.by_name.read().get(service).cloned() {
            Some(mut routes) => {
                let span = trace_context::of_call(request.headers(), request.uri().path());
                Box::pin(routes.call(request).instrument(span))
            }
            None => {
                let status = Status::unavailable(format!("{service} does not run here, or not yet"));
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
        }
    }
}
