//! Wires a gateway: metadata watch, registration with the controllers, listeners.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use strom_client::{ControllerClient, LaneLimits, MetadataCache, MetadataWatcher, Peers};
use strom_proto::v1;
use strom_runtime::{Clock, Health, Shutdown};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tracing::{debug, info};
use uuid::Uuid;

use crate::brokers::Brokers;
use crate::config::GatewayConfig;
use crate::error::BuildError;
use crate::gateway::{Gateway, Parts};
use crate::metrics::Metrics;
use crate::net::{Address, Listeners, Serve};

const COMPONENT: &str = "gateway";
const REGISTRATION_PAUSE: Duration = Duration::from_millis(200);

/// A bound Kafka listener and what clients are told of it.
#[derive(Debug)]
pub struct KafkaListener {
    pub name: String,
    pub socket: TcpListener,
    /// Host and port for clients; `None` = the address that each client connected to.
    pub advertised: Option<(String, u16)>,
    /// Broker id `b` is reached at this port + `b`; `None` = at the bootstrap port.
    pub broker_ports: Option<u16>,
}

/// What a gateway needs from its process.
pub struct Environment {
    pub clock: Clock,
    pub health: Health,
    pub metrics: strom_runtime::Metrics,
    pub peers: Peers,
    pub controller: ControllerClient,
}

/// A gateway that is ready to run.
pub struct App {
    gateway: Arc<Gateway>,
    watcher: MetadataWatcher,
    metadata: MetadataCache,
    controller: ControllerClient,
    health: Health,
    listeners: Vec<Serve>,
    rack: Option<String>,
}

impl App {
    pub fn build(
        config: GatewayConfig,
        listeners: Vec<KafkaListener>,
        environment: Environment,
    ) -> Result<Self, BuildError> {
        if listeners.is_empty() {
            return Err(BuildError::NoListener);
        }
        let Environment {
            clock,
            health,
            metrics,
            peers,
            controller,
        } = environment;
        health.set_not_ready(COMPONENT, "waiting for the metadata");
        let (watcher, metadata) = MetadataWatcher::new(controller.clone(), COMPONENT.into());
        let rack = config.rack.clone();
        let gateway = Arc::new(Gateway::new(Parts {
            config,
            clock,
            metadata: metadata.clone(),
            controller: controller.clone(),
            brokers: Brokers::new(peers, LaneLimits::default()),
            metrics: Metrics::new(&metrics),
        }));
        let listeners = listeners.into_iter().map(serve).collect::<Result<_, _>>()?;
        Ok(App {
            gateway,
            watcher,
            metadata,
            controller,
            health,
            listeners,
            rack,
        })
    }

    /// Serves until shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        let App {
            gateway,
            watcher,
            metadata,
            controller,
            health,
            listeners,
            rack,
        } = self;
        let registration = register(controller, listeners.iter().map(told).collect(), rack);
        let watch = watcher.run(shutdown.clone());
        let ready = async {
            let mut changes = metadata.changes();
            while !serves(&metadata) {
                if changes.changed().await.is_err() {
                    break;
                }
            }
            info!("gateway is ready");
            health.set_ready(COMPONENT);
        };
        // Clients that come before the metadata wait in the listen queue.
        let serve = async {
            ready.await;
            Listeners::new(gateway, shutdown.clone()).run(listeners).await;
        };
        tokio::select! {
            () = async { tokio::join!(watch, serve); } => {}
            () = async { tokio::join!(registration, shutdown.cancelled()); } => {}
        }
    }
}

/// Whether clients can be served: the cluster has a name and a broker that is not fenced.
fn serves(metadata: &MetadataCache) -> bool {
    let image = metadata.peek();
    !image.cluster_id().is_empty() && image.live_brokers().next().is_some()
}

fn serve(listener: KafkaListener) -> Result<Serve, BuildError> {
    let KafkaListener {
        name,
        socket,
        advertised,
        broker_ports,
    } = listener;
    let bound = socket.local_addr().map_err(|source| BuildError::Listener {
        name: name.clone(),
        source,
    })?;
    let (host, port) = advertised.unwrap_or_else(|| (String::new(), bound.port()));
    let port = if port == 0 { bound.port() } else { port };
    Ok(Serve {
        socket,
        address: Arc::new(Address {
            name,
            host,
            port,
            broker_ports,
        }),
    })
}

/// What the controllers are told of a listener: where it is bound, if it has no other name.
fn told(listener: &Serve) -> v1::GatewayListener {
    let address = &listener.address;
    let bound = || listener.socket.local_addr().map(|bound| bound.ip().to_string());
    let host = match address.host.as_str() {
        "" => bound().unwrap_or_default(),
        host => host.to_owned(),
    };
    v1::GatewayListener {
        name: address.name.clone(),
        host,
        bootstrap_port: i32::from(address.port),
        per_broker_port_base: address.broker_ports.map_or(0, i32::from),
    }
}

/// Keeps the gateway known to the controllers; the registration lives as long as its stream.
async fn register(controller: ControllerClient, listeners: Vec<v1::GatewayListener>, rack: Option<String>) {
    let gateway_id = Bytes::copy_from_slice(Uuid::new_v4().as_bytes());
    let request = v1::RegisterGatewayRequest {
        gateway_id,
        listeners,
        rack: rack.unwrap_or_default(),
    };
    loop {
        let target = controller.target();
        if let Err(reason) = registered(&controller, request.clone()).await {
            debug!(controller = %target, %reason, "gateway registration ended; trying again");
        }
        controller.turn(&target, "");
        sleep(REGISTRATION_PAUSE).await;
    }
}

/// Registers and holds the stream until it breaks.
async fn registered(
    controller: &ControllerClient,
    request: v1::RegisterGatewayRequest,
) -> Result<(), String> {
    let mut stub = controller.stub().map_err(|e| e.to_string())?;
    // The request stream stays open for as long as the gateway lives.
    let (hold, requests) = tokio::sync::mpsc::channel(1);
    hold.send(request).await.map_err(|e| e.to_string())?;
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut replies = stub
        .register_gateway(requests)
        .await
        .map_err(|s| s.to_string())?
        .into_inner();
    while let Some(reply) = replies.message().await.map_err(|s| s.to_string())? {
        debug!(index = reply.metadata_offset, "gateway registered");
    }
    drop(hold);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The controllers refuse a listener without a host.
    #[tokio::test]
    async fn a_listener_without_an_advertised_host_is_registered_where_it_is_bound() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = i32::from(socket.local_addr().unwrap().port());
        let listener = KafkaListener {
            name: "PLAINTEXT".to_owned(),
            socket,
            advertised: None,
            broker_ports: None,
        };
        let told = told(&serve(listener).unwrap());
        assert_eq!((told.host.as_str(), told.bootstrap_port), ("127.0.0.1", port));
    }
}
