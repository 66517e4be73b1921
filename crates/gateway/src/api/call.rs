//! One request on its way through a handler: what it may use, and how it is answered.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use strom_kafka_codec::{Chunks, DecodeError, Decoder, EncodeError, Request, encode_response_frame};
use strom_types::BrokerId;
use thiserror::Error;

use crate::gateway::Gateway;
use crate::net::ConnectionInfo;

/// What goes back to the client.
#[derive(Debug)]
pub(crate) enum Reply {
    Frame(Chunks),
    /// Produce with acks=0.
    None,
}

/// Why a connection must be closed instead of answering.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error("malformed request: {0}")]
    Decode(#[from] DecodeError),
    #[error("the reply cannot be encoded: {0}")]
    Encode(#[from] EncodeError),
    #[error("api {api_key} version {api_version} is not served")]
    Unsupported { api_key: i16, api_version: i16 },
    #[error("a produce request with acks=0 failed")]
    UnacknowledgedProduce,
}

pub(crate) type ReplyFuture = Pin<Box<dyn Future<Output = Result<Reply, Failure>> + Send>>;

/// How a request begins.
pub(crate) enum Start {
    /// Nothing has to happen before the next request starts.
    Now(ReplyFuture),
    /// The outer future must end before the next request starts: it puts the request on its way, in order. The inner
    /// one waits for the answer.
    InOrder(Pin<Box<dyn Future<Output = Result<ReplyFuture, Failure>> + Send>>),
}

/// A request's surroundings; cheap to clone.
#[derive(Clone)]
pub(crate) struct Call {
    pub gateway: Arc<Gateway>,
    pub connection: Arc<ConnectionInfo>,
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: Option<Arc<str>>,
}

impl Call {
    pub(crate) fn client_id(&self) -> &str {
        self.client_id.as_deref().unwrap_or("")
    }

    /// The broker id whose address the client used; `None` on a bootstrap address.
    pub(crate) fn addressed_broker(&self) -> Option<BrokerId> {
        self.connection.broker
    }

    pub(crate) fn frame<R: Request>(&self, response: &R::Response) -> Result<Reply, Failure> {
        self.gateway.metrics().answered(response);
        Ok(Reply::Frame(encode_response_frame(
            self.correlation_id,
            self.version,
            response,
        )?))
    }
}

/// Decodes a request whole, answers it by `handler`, and encodes the reply.
pub(crate) fn unary<R, F, Fut>(call: Call, body: Decoder, handler: F) -> Start
where
    R: Request + Send + 'static,
    R::Response: Send,
    F: FnOnce(Call, R) -> Fut + Send + 'static,
    Fut: Future<Output = R::Response> + Send,
{
    let request = match decode::<R>(&call, body) {
        Ok(request) => request,
        Err(failure) => return Start::Now(Box::pin(std::future::ready(Err(failure)))),
    };
    Start::Now(Box::pin(async move {
        let response = handler(call.clone(), request).await;
        call.frame::<R>(&response)
    }))
}

/// Reads the request. Bytes behind it are ignored, as Kafka does: librdkafka 2.16's Metadata v13 has three too many.
pub(crate) fn decode<R: Request>(call: &Call, mut body: Decoder) -> Result<R, Failure> {
    Ok(body.message::<R>(call.version)?)
}
