//! The gRPC server of a process for the others, as `crates/strom` runs it: up before the last role has started.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use parking_lot::RwLock;
use strom_runtime::Shutdown;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::Server;
use tower_service::Service;

/// The figures of `crates/strom/src/grpc_server.rs`.
const FRAME_BYTES_MAX: u32 = 1024 * 1024;
const STREAM_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
const STREAMS_MAX: u32 = 1024;
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;

/// Binds a unix socket in place of one that a killed process left behind.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}

/// Serves until shutdown; open streams are dropped then.
pub(crate) async fn serve(
    listener: UnixListener,
    services: Services,
    shutdown: Shutdown,
) -> Result<(), tonic::transport::Error> {
    let server = Server::builder()
        .max_frame_size(FRAME_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .add_routes(services.routes());
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        served = server.serve_with_incoming(UnixListenerStream::new(listener)) => served,
    }
}

/// Services of a process as they come.
#[derive(Clone, Default)]
pub(crate) struct Services {
    by_name: Arc<RwLock<BTreeMap<&'static str, Routes>>>,
}

impl Services {
    pub(crate) fn add(&self, names: &[&'static str], routes: &Routes) {
        let mut by_name = self.by_name.write();
        for name in names {
            by_name.insert(name, routes.clone());
        }
    }

    fn routes(&self) -> Routes {
        Routes::from(
            Routes::default()
                .into_axum_router()
                .fallback_service(self.clone()),
        )
    }
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
            Some(mut routes) => Box::pin(routes.call(request)),
            None => {
                let status = Status::unavailable(format!("{service} does not run here, or not yet"));
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
        }
    }
}
