//! Finds the broker for a call, and repeats what may be repeated until a deadline.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strom_kafka_codec::messages::{FindCoordinatorRequest, MetadataRequest, MetadataResponse};
use strom_kafka_codec::{ApiKey, ByteStr, Request};
use strom_types::ErrorCode;

use super::topics::metadata_request;
use super::{Address, Bootstrap, Connection, Deadline, KafkaError};

/// The pause after a first failure; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) bootstrap: Bootstrap,
    pub(crate) client_id: String,
    /// For one operation, retries included.
    pub(crate) timeout: Duration,
}

/// Who has to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    /// Any broker.
    Any,
    /// The broker of this id.
    Broker(i32),
    /// The coordinator of this group.
    Group(&'a str),
}

#[derive(Debug, Default)]
struct Known {
    connections: HashMap<Address, Arc<Connection>>,
    brokers: BTreeMap<i32, Address>,
}

/// Connections to a cluster, opened as they are needed.
#[derive(Debug)]
pub(crate) struct Client {
    options: Options,
    known: Mutex<Known>,
}

impl Client {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            known: Mutex::default(),
        }
    }

    /// The deadline of an operation that begins now.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.options.timeout)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self, address: &Address, deadline: Deadline) -> Result<Arc<Connection>, KafkaError> {
        if let Some(open) = self.known().connections.get(address).filter(|c| !c.is_broken()) {
            return Ok(Arc::clone(open));
        }
        let opened = Connection::open(address, &self.options.client_id, deadline).await?;
        let opened = Arc::new(opened);
        self.known()
            .connections
            .insert(address.clone(), Arc::clone(&opened));
        Ok(opened)
    }

    /// A connection of its own to a broker, for work that must not stand in a queue behind other requests.
    pub(crate) async fn dedicated(&self, broker: i32) -> Result<Arc<Connection>, KafkaError> {
        let deadline = self.deadline();
        let address = self.address_of(broker, deadline).await?;
        Connection::open(&address, &self.options.client_id, deadline)
            .await
            .map(Arc::new)
    }

    /// The connection to a broker.
    pub(crate) async fn broker(&self, id: i32, deadline: Deadline) -> Result<Arc<Connection>, KafkaError> {
        let address = self.address_of(id, deadline).await?;
        self.connect(&address, deadline).await
    }

    /// A connection to the first bootstrap server that answers.
    pub(crate) async fn any(&self, deadline: Deadline) -> Result<Arc<Connection>, KafkaError> {
        let mut reasons = Vec::new();
        for address in &self.options.bootstrap.0 {
            match self.connect(address, deadline).await {
                Ok(connection) => return Ok(connection),
                Err(KafkaError::Connect { address, reason }) => reasons.push(format!("{address}: {reason}")),
                Err(error) => return Err(error),
            }
        }
        // A cluster may have moved on from its bootstrap list.
        let brokers: Vec<Address> = self.known().brokers.values().cloned().collect();
        for address in brokers
            .iter()
            .filter(|address| !self.options.bootstrap.0.contains(address))
        {
            if let Ok(connection) = self.connect(address, deadline).await {
                return Ok(connection);
            }
        }
        Err(KafkaError::Unreachable(reasons.join("; ")))
    }

    async fn address_of(&self, broker: i32, deadline: Deadline) -> Result<Address, KafkaError> {
        if let Some(address) = self.known().brokers.get(&broker) {
            return Ok(address.clone());
        }
        self.metadata_once(Some(&[]), deadline).await?;
        let address = self.known().brokers.get(&broker).cloned();
        address.ok_or_else(|| KafkaError::Server {
            subject: format!("broker {broker}"),
            code: ErrorCode::BrokerNotAvailable,
            message: Some("the cluster does not list it".to_owned()),
        })
    }

    async fn reach(&self, target: Target<'_>, deadline: Deadline) -> Result<Arc<Connection>, KafkaError> {
        match target {
            Target::Any => self.any(deadline).await,
            Target::Broker(id) => self.broker(id, deadline).await,
            Target::Group(group) => self.find_coordinator(group, deadline).await,
        }
    }

    async fn find_coordinator(&self, group: &str, deadline: Deadline) -> Result<Arc<Connection>, KafkaError> {
        let asked = self.any(deadline).await?;
        let request = |_| FindCoordinatorRequest {
            key: ByteStr::from(group.to_owned()),
            ..Default::default()
        };
        let found = asked.call(deadline, request).await?;
        let subject = format!("coordinator of group {group}");
        KafkaError::check(&subject, found.error_code, found.error_message.as_deref())?;
        let address = address_from(&found.host, found.port, &subject)?;
        self.known().brokers.insert(found.node_id, address.clone());
        self.connect(&address, deadline).await
    }

    /// One metadata request; its brokers are remembered.
    pub(crate) async fn metadata_once(
        &self,
        topics: Option<&[String]>,
        deadline: Deadline,
    ) -> Result<MetadataResponse, KafkaError> {
        let connection = self.any(deadline).await?;
        let response = connection
            .call(deadline, |version| -> MetadataRequest {
                metadata_request(topics, version)
            })
            .await?;
        KafkaError::check("metadata", response.error_code, None)?;
        let mut known = self.known();
        for broker in &response.brokers {
            let subject = format!("broker {}", broker.node_id);
            known
                .brokers
                .insert(broker.node_id, address_from(&broker.host, broker.port, &subject)?);
        }
        drop(known);
        Ok(response)
    }

    /// Calls `target` until it answers without a retriable error or the deadline has passed. `error_of` finds the
    /// error in a reply that decides on a retry; what is not retriable is left in the reply for the caller.
    ///
    /// A call that changes something is not repeated once it was sent and its reply is lost.
    pub(crate) async fn ask<R: Request>(
        &self,
        target: Target<'_>,
        subject: &str,
        build: impl Fn(i16, Deadline) -> R,
        error_of: impl Fn(&R::Response) -> Option<KafkaError>,
    ) -> Result<R::Response, KafkaError> {
        let deadline = self.deadline();
        let attempt = async || {
            let connection = self.reach(target, deadline).await?;
            let reply = connection.send(|version| build(version, deadline))?;
            let response = match reply.wait(deadline).await {
                Err(KafkaError::Lost { address, reason, .. }) if !may_repeat(R::KEY) => {
                    return Err(KafkaError::Indeterminate {
                        subject: subject.to_owned(),
                        address,
                        reason,
                    });
                }
                other => other?,
            };
            match error_of(&response) {
                Some(error) if error.is_retriable() => Err(error),
                _ => Ok(response),
            }
        };
        self.retry(subject, deadline, attempt).await
    }

    /// Repeats `attempt` while its error is retriable, with growing pauses. Fails at once as long as no server of the
    /// cluster has been reached at all.
    pub(crate) async fn retry<T>(
        &self,
        what: &str,
        deadline: Deadline,
        mut attempt: impl AsyncFnMut() -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        let mut pause = PAUSE_MIN;
        loop {
            let error = match attempt().await {
                Err(error) if error.is_retriable() => error,
                other => return other,
            };
            if self.known().connections.is_empty() {
                return Err(error);
            }
            if deadline.remaining() <= pause {
                return Err(deadline.missed(what, Some(error)));
            }
            // Whoever did not answer may have moved.
            if !matches!(error, KafkaError::Server { .. }) {
                self.known().brokers.clear();
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

fn address_from(host: &ByteStr, port: i32, subject: &str) -> Result<Address, KafkaError> {
    let port = u16::try_from(port).map_err(|_| KafkaError::Server {
        subject: subject.to_owned(),
        code: ErrorCode::UnknownServerError,
        message: Some(format!("the server gave {host}:{port} as its address")),
    })?;
    Ok(Address {
        host: host.as_str().to_owned(),
        port,
    })
}

/// Whether a call may be repeated without a second effect.
fn may_repeat(key: ApiKey) -> bool {
    matches!(
        key,
        ApiKey::Metadata
            | ApiKey::Fetch
            | ApiKey::ListOffsets
            | ApiKey::OffsetFetch
            | ApiKey::FindCoordinator
            | ApiKey::DescribeGroups
            | ApiKey::ConsumerGroupDescribe
            | ApiKey::ListGroups
            | ApiKey::DescribeConfigs
            | ApiKey::DescribeCluster
            | ApiKey::DescribeQuorum
            | ApiKey::DescribeLogDirs
            // Offsets are set to given values, ids are only taken from a counter.
            | ApiKey::OffsetCommit
            | ApiKey::InitProducerId
            // A member repeats itself under its own id.
            | ApiKey::JoinGroup
            | ApiKey::SyncGroup
            | ApiKey::Heartbeat
            | ApiKey::LeaveGroup
    )
}
