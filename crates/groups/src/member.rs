//! One member of a classic group (Kafka's `ClassicGroupMember`).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::event::{JoinGroup, Protocol, RequestId};

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) client_id: Arc<str>,
    pub(crate) client_host: Arc<str>,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    /// The parked JoinGroup. Set through the group only, which counts them.
    pub(crate) join_request: Option<RequestId>,
    pub(crate) sync_request: Option<RequestId>,
    /// Has not been through a generation yet, so it does not know its id and cannot send heartbeats.
    pub(crate) is_new: bool,
}

impl Member {
    pub(crate) fn from_join(id: Arc<str>, join: JoinGroup) -> Member {
        Member {
            id,
            instance_id: join.group_instance_id.map(Arc::from),
            client_id: Arc::from(join.client_id),
            client_host: Arc::from(join.client_host),
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols,
            assignment: Bytes::new(),
            join_request: None,
            sync_request: None,
            is_new: true,
        }
    }

    pub(crate) fn is_static(&self) -> bool {
        self.instance_id.is_some()
    }

    /// Members that wait for the coordinator are alive by that; new ones are given a limited time.
    pub(crate) fn outlives_its_session(&self) -> bool {
        !self.is_new && (self.join_request.is_some() || self.sync_request.is_some())
    }

    pub(crate) fn metadata(&self, protocol: &str) -> Option<&Bytes> {
        self.protocols
            .iter()
            .find(|own| own.name == protocol)
            .map(|own| &own.metadata)
    }

    /// Its favourite among the protocols that all `size` members support.
    pub(crate) fn vote<'m>(&'m self, supported: &BTreeMap<String, usize>, size: usize) -> Option<&'m str> {
        self.protocols
            .iter()
            .map(|own| own.name.as_str())
            .find(|name| supported.get(*name) == Some(&size))
    }

    /// What it holds, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.id.len()
            + self.instance_id.as_ref().map_or(0, |id| id.len())
            + self.client_id.len()
            + self.client_host.len()
            + protocols_bytes(&self.protocols)
            + self.assignment.len()
    }
}

pub(crate) fn protocols_bytes(protocols: &[Protocol]) -> usize {
    protocols
        .iter()
        .map(|protocol| protocol.name.len() + protocol.metadata.len())
        .sum()
}
