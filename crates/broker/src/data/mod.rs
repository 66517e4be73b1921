//! The data path: produce and fetch streams from gateways, with record bytes spliced through.

mod assembly;
mod checks;
mod fetch;
mod lanes;
mod produce;
mod query;
mod refused;

use http::{Request, Response};
pub(crate) use lanes::Lanes;
use strom_proto::splice::{self, SplicedMethods};
use tonic::body::Body;

use crate::broker::Broker;

/// Largest message taken from a gateway: `socket.request.max.bytes` and its head.
const MESSAGE_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Replies that may wait for a gateway to take them, per stream.
const REPLY_QUEUE_BYTES: u32 = 64 * 1024 * 1024;

/// `strom.v1.BrokerData`.
#[derive(Clone)]
pub(crate) struct BrokerData {
    broker: Broker,
}

impl BrokerData {
    pub(crate) fn new(broker: Broker) -> Self {
        BrokerData { broker }
    }
}

impl SplicedMethods for BrokerData {
    const NAME: &'static str = "strom.v1.BrokerData";

    fn call(&self, method: &str, request: Request<Body>) -> Option<Response<Body>> {
        match method {
            "Produce" => {
                let lane = lanes::LaneName::of(request.headers());
                let requests = splice::accept(request, MESSAGE_BYTES_MAX);
                let (sender, body) = splice::channel(REPLY_QUEUE_BYTES);
                tokio::spawn(produce::serve(self.broker.clone(), lane, requests, sender));
                Some(splice::respond(body))
            }
            "Fetch" => {
                let requests = splice::accept(request, MESSAGE_BYTES_MAX);
                let (sender, body) = splice::channel(REPLY_QUEUE_BYTES);
                tokio::spawn(fetch::serve(self.broker.clone(), requests, sender));
                Some(splice::respond(body))
            }
            _ => None,
        }
    }
}
