//! Where clients connect: a bootstrap address, and one port per broker id on the same host, opened as brokers appear.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use strom_runtime::shutdown::Shutdown;
use strom_types::BrokerId;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, info, warn};

use super::connection::{Closed, Connection, ConnectionInfo};
use super::limits::ConnectionCounts;
use crate::gateway::Gateway;
use crate::produce_order::ProduceOrder;

/// How clients are told to reach the cluster through one listener: the addresses are those of the listener that the
/// question came in on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub name: String,
    /// Empty while it is not known: then it is the one that the client connected to.
    pub host: String,
    pub port: u16,
    /// Broker id `b` is at this port + `b`; `None` = at the bootstrap port, like every other.
    pub broker_ports: Option<u16>,
}

impl Address {
    /// The address with the host that this client knows it by.
    fn as_reached(self: &Arc<Self>, stream: &TcpStream) -> Arc<Self> {
        match stream.local_addr() {
            Ok(local) if self.host.is_empty() => Arc::new(Address {
                host: local.ip().to_canonical().to_string(),
                ..Address::clone(self)
            }),
            _ => self.clone(),
        }
    }

    pub(crate) fn of_broker(&self, id: BrokerId) -> (&str, u16) {
        let offset = u16::try_from(id.get()).ok();
        let port = self
            .broker_ports
            .zip(offset)
            .and_then(|(base, offset)| base.checked_add(offset));
        (&self.host, port.unwrap_or(self.port))
    }
}

/// One listener to be served: a bound bootstrap socket, and the address on which broker ports are opened.
pub(crate) struct Serve {
    pub socket: TcpListener,
    pub address: Arc<Address>,
}

/// Accepts connections until shutdown.
pub(crate) struct Listeners {
    gateway: Arc<Gateway>,
    counts: ConnectionCounts,
    shutdown: Shutdown,
}

impl Listeners {
    pub(crate) fn new(gateway: Arc<Gateway>, shutdown: Shutdown) -> Self {
        let config = gateway.config();
        let counts = ConnectionCounts::new(config.connections_max, config.connections_per_ip_max);
        gateway.metrics().watch_connections(counts.clone());
        Listeners {
            gateway,
            counts,
            shutdown,
        }
    }

    pub(crate) async fn run(self, listeners: Vec<Serve>) {
        let this = Arc::new(self);
        let mut tasks = JoinSet::new();
        for Serve { socket, address } in listeners {
            if address.broker_ports.is_some() {
                tasks.spawn(
                    this.clone()
                        .open_broker_ports(socket.local_addr().map(|a| a.ip()), address.clone()),
                );
            }
            tasks.spawn(this.clone().accept(socket, address, None));
        }
        tasks.join_all().await;
    }

    /// Opens and closes one port per broker id as brokers come and go.
    async fn open_broker_ports(self: Arc<Self>, bind: io::Result<std::net::IpAddr>, address: Arc<Address>) {
        let Ok(bind) = bind else { return };
        let mut open: BTreeMap<BrokerId, JoinHandle<()>> = BTreeMap::new();
        let mut changes = self.gateway.metadata().changes();
        loop {
            let image = self.gateway.metadata().image();
            for broker in image.brokers().filter(|b| b.id.get() >= 0) {
                if open.contains_key(&broker.id) {
                    continue;
                }
                let (_, port) = address.of_broker(broker.id);
                match TcpListener::bind((bind, port)).await {
                    Ok(socket) => {
                        info!(broker = broker.id.get(), port, "serving a broker's clients");
                        let accept = self.clone().accept(socket, address.clone(), Some(broker.id));
                        open.insert(broker.id, tokio::spawn(accept));
                    }
                    Err(error) => {
                        warn!(broker = broker.id.get(), port, %error, "cannot open a broker's port");
                    }
                }
            }
            open.retain(|id, task| {
                let keep = image.broker(*id).is_some();
                if !keep {
                    task.abort();
                }
                keep
            });
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                changed = changes.changed() => if changed.is_err() { break },
            }
        }
        for task in open.into_values() {
            task.abort();
        }
    }

    async fn accept(self: Arc<Self>, socket: TcpListener, address: Arc<Address>, broker: Option<BrokerId>) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = self.shutdown.cancelled() => break,
                accepted = socket.accept() => accepted,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let info = ConnectionInfo {
                        peer,
                        listener: address.as_reached(&stream),
                        broker,
                        produce_order: ProduceOrder::default(),
                    };
                    if let Some(admission) = self.counts.admit(peer.ip()) {
                        let serve = self.clone().serve(stream, info);
                        connections.spawn(async move {
                            serve.await;
                            drop(admission);
                        });
                    } else {
                        self.gateway.metrics().connection_refused();
                        debug!(%peer, "refused a connection: too many are open");
                    }
                }
                Err(error) => {
                    // Out of file descriptors, most likely: existing connections go on.
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, info: ConnectionInfo) {
        let peer = info.peer;
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "cannot set TCP_NODELAY");
        }
        let connection = Connection::new(self.gateway.clone(), info, stream);
        let closed = tokio::select! {
            () = self.shutdown.cancelled() => return,
            closed = connection.serve() => closed,
        };
        self.gateway.metrics().connection_closed(&closed);
        match closed {
            Closed::EndOfStream | Closed::Io(_) | Closed::Idle => {
                debug!(%peer, reason = %closed, "connection closed");
            }
            _ => {
                let now = self.gateway.clock().mono();
                self.gateway.bad_input_log().warn(now, peer, &closed);
            }
        }
    }
}
