//! Opening a spliced stream on any transport, and accepting one on a server.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response, header};
use prost::Message;
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tower_service::Service;

use super::{SplicedBody, SplicedStream};

/// Header of a produce stream: `<lane uuid>/<generation>`. A broker drops what is left of a lane's older streams when
/// a newer one arrives, so that a reconnect never lets an old request overtake a new one.
pub const LANE_HEADER: &str = "x-strom-lane";

/// Calls the bidirectional method at `path` (`/package.Service/Method`). Returns the replies as they come.
pub async fn open<T, S, R>(
    mut transport: T,
    path: &'static str,
    headers: MetadataMap,
    requests: SplicedBody<S>,
    message_bytes_max: usize,
) -> Result<SplicedStream<R>, Status>
where
    T: Service<Request<Body>, Response = Response<Body>>,
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S: Message + Unpin + 'static,
    R: Message + Default,
{
    std::future::poll_fn(|cx| transport.poll_ready(cx))
        .await
        .map_err(|e| Status::from_error(e.into()))?;
    let mut request = Request::new(Body::new(requests));
    *request.headers_mut() = headers.into_headers();
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static(path);
    *request.version_mut() = http::Version::HTTP_2;
    request
        .headers_mut()
        .insert(header::TE, HeaderValue::from_static("trailers"));
    request
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let response = transport
        .call(request)
        .await
        .map_err(|e| Status::from_error(e.into()))?;
    if let Some(status) = Status::from_header_map(response.headers())
        && status.code() != tonic::Code::Ok
    {
        return Err(status);
    }
    Ok(SplicedStream::new(response.into_body(), message_bytes_max))
}

/// The request side of an accepted call.
pub fn accept<H: Message + Default>(request: Request<Body>, message_bytes_max: usize) -> SplicedStream<H> {
    SplicedStream::new(request.into_body(), message_bytes_max)
}

/// The response side of an accepted call.
pub fn respond<H: Message + Unpin + 'static>(replies: SplicedBody<H>) -> Response<Body> {
    let mut response = Response::new(Body::new(replies.with_trailers()));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The spliced methods of one gRPC service: what a server implements.
pub trait SplicedMethods: Clone + Send + Sync + 'static {
    /// `package.Service`.
    const NAME: &'static str;

    /// Serves the method, or answers `None` when there is none of that name.
    fn call(&self, method: &str, request: Request<Body>) -> Option<Response<Body>>;
}

/// A [`SplicedMethods`] as a tower service that tonic's router and the in-process transport take.
#[derive(Clone)]
pub struct SplicedServer<M>(pub M);

impl<M: SplicedMethods> tonic::server::NamedService for SplicedServer<M> {
    const NAME: &'static str = M::NAME;
}

impl<M: SplicedMethods> Service<Request<Body>> for SplicedServer<M> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path().to_owned();
        let method = path.rsplit('/').next().unwrap_or_default();
        let response = self
            .0
            .call(method, request)
            .unwrap_or_else(|| Status::unimplemented(format!("no spliced method {path}")).into_http());
        Box::pin(std::future::ready(Ok(response)))
    }
}
