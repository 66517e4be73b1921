//! Transports to the other services: HTTP/2 over TCP or a unix socket, or straight into this process.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use parking_lot::RwLock;
use strom_runtime::{InternalTls, trace_context};
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tower::Service;
use tracing::Instrument;

use crate::EndpointError;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Endpoints `local:<name>` are services of this process.
pub const LOCAL_SCHEME: &str = "local:";

const FRAME_BYTES_MAX: u32 = 1024 * 1024;
const STREAM_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The transports of one process; cheap to clone. A channel connects at its first call and again after a break.
#[derive(Clone, Default)]
pub struct Peers {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    tls: Option<InternalTls>,
    local: RwLock<BTreeMap<String, Routes>>,
    control: RwLock<BTreeMap<String, Channel>>,
    data: RwLock<BTreeMap<String, Channel>>,
}

impl Peers {
    /// In plain text.
    pub fn new() -> Self {
        Self::default()
    }

    /// By TLS wherever the way is TCP, if it is configured.
    pub fn secured(tls: Option<InternalTls>) -> Self {
        Peers {
            inner: Arc::new(Inner {
                tls,
                ..Inner::default()
            }),
        }
    }

    /// Makes a service of this process reachable as `endpoint` (`local:<name>`) without a socket.
    pub fn serve_local(&self, endpoint: &str, routes: Routes) {
        self.inner.local.write().insert(endpoint.to_owned(), routes);
    }

    /// For unary calls and small streams.
    pub fn control(&self, endpoint: &str) -> Result<Transport, EndpointError> {
        self.transport(endpoint, &self.inner.control)
    }

    /// For the data path: a connection of its own, so that a large frame never delays a heartbeat.
    pub fn data(&self, endpoint: &str) -> Result<Transport, EndpointError> {
        self.transport(endpoint, &self.inner.data)
    }

    fn transport(
        &self,
        endpoint: &str,
        channels: &RwLock<BTreeMap<String, Channel>>,
    ) -> Result<Transport, EndpointError> {
        if endpoint.starts_with(LOCAL_SCHEME) {
            let routes = self.inner.local.read().get(endpoint).cloned();
            return routes
                .map(Transport::Local)
                .ok_or_else(|| EndpointError::NotInThisProcess(endpoint.to_owned()));
        }
        if let Some(channel) = channels.read().get(endpoint) {
            return Ok(Transport::Remote(channel.clone()));
        }
        let channel = connect_lazy(endpoint, self.inner.tls.as_ref())?;
        let mut channels = channels.write();
        Ok(Transport::Remote(
            channels.entry(endpoint.to_owned()).or_insert(channel).clone(),
        ))
    }
}

fn connect_lazy(endpoint: &str, tls: Option<&InternalTls>) -> Result<Channel, EndpointError> {
    let malformed = || EndpointError::Malformed(endpoint.to_owned());
    let is_unix = endpoint.starts_with("unix://");
    let uri = if is_unix {
        endpoint.to_owned()
    } else {
        let (host, port) = endpoint.rsplit_once(':').ok_or_else(malformed)?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(malformed());
        }
        format!("http://{endpoint}")
    };
    let endpoint = Endpoint::from_shared(uri).map_err(|_| malformed())?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .max_frame_size(FRAME_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    Ok(match tls {
        Some(tls) if !is_unix => tls.channel(&endpoint),
        _ => endpoint.connect_lazy(),
    })
}

/// One service's address as a tower service that generated clients and spliced streams take.
#[derive(Clone)]
pub enum Transport {
    Remote(Channel),
    Local(Routes),
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Transport::Remote(channel) => channel.poll_ready(cx).map_err(Into::into),
            Transport::Local(routes) => Service::<Request<Body>>::poll_ready(routes, cx).map_err(Into::into),
        }
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        trace_context::inject(request.headers_mut());
        match self {
            Transport::Remote(channel) => {
                let response = channel.call(request);
                Box::pin(async move { response.await.map_err(Into::into) })
            }
            Transport::Local(routes) => {
                let span = trace_context::of_call(request.headers(), request.uri().path());
                let response = routes.call(request).instrument(span);
                Box::pin(async move { response.await.map_err(Into::into) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn endpoints_are_checked() {
        let peers = Peers::new();
        for good in [
            "127.0.0.1:1",
            "broker-0.brokers:7072",
            "unix:///tmp/x.sock",
            "[::1]:9",
        ] {
            assert!(peers.control(good).is_ok(), "{good}");
        }
        for bad in ["", "host", "host:", ":1", "host:99999", "local:nobody"] {
            assert!(peers.control(bad).is_err(), "{bad}");
        }
    }
}
