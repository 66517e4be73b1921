//! Topics that nobody created by hand: those that clients ask for, and the cluster's own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use strom_metadata::Image;
use strom_proto::convert::error_code;
use strom_proto::v1;
use strom_types::{ErrorCode, GROUP_METADATA_TOPIC, is_internal_topic, validate_topic_name};
use tracing::{debug, info};
use uuid::Uuid;

use super::Call;
use super::admin::{Deadline, led, wait_until};
use super::create_topics::call_controllers;
use crate::config::GatewayConfig;

/// A client that asks for a missing topic waits for it this long at most, then comes back.
const CREATION_TIMEOUT: Duration = Duration::from_millis(1500);
/// Topics that one request may bring into being; its client asks again for the rest.
const TOPICS_PER_REQUEST_MAX: usize = 100;

/// The creations under way, so that a thousand clients asking for one topic make one call.
#[derive(Default)]
pub(crate) struct TopicCreation {
    in_flight: Mutex<BTreeSet<String>>,
}

struct Claim<'a> {
    creation: &'a TopicCreation,
    name: String,
}

impl TopicCreation {
    fn claim(&self, name: &str) -> Option<Claim<'_>> {
        let first = self.in_flight.lock().insert(name.to_owned());
        first.then(|| Claim {
            creation: self,
            name: name.to_owned(),
        })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.creation.in_flight.lock().remove(&self.name);
    }
}

/// A new topic id, chosen here so that a repeated call makes one topic.
pub(super) fn new_topic_id() -> Bytes {
    Bytes::copy_from_slice(Uuid::new_v4().as_bytes())
}

/// Creates those of `names` that do not exist, and waits a moment for them. Returns what the controllers said of those
/// that cannot be created.
pub(super) async fn create_missing(call: &Call, names: &[&str]) -> BTreeMap<String, ErrorCode> {
    let image = call.gateway.metadata().image();
    let missing: BTreeSet<&str> = names
        .iter()
        .copied()
        .filter(|name| image.topic_by_name(name).is_none())
        .filter(|name| validate_topic_name(name).is_ok())
        .filter(|name| !is_internal_topic(name) || *name == GROUP_METADATA_TOPIC)
        .take(TOPICS_PER_REQUEST_MAX)
        .collect();
    if missing.is_empty() {
        return BTreeMap::new();
    }
    let deadline = Deadline::after(CREATION_TIMEOUT);
    let creation = call.gateway.topic_creation();
    let claims: Vec<Claim<'_>> = missing.iter().filter_map(|name| creation.claim(name)).collect();
    let mut waiting = missing.clone();
    let refused = match create(call, &image, &claims, deadline).await {
        Some(refused) => refused,
        None => {
            // Clients come again, and so does this; only what others are creating is worth waiting for.
            for claim in &claims {
                waiting.remove(claim.name.as_str());
            }
            BTreeMap::new()
        }
    };
    drop(claims);
    waiting.retain(|name| !refused.contains_key(*name));
    wait_until(call, deadline.left(), |image| {
        waiting.iter().all(|name| image.topic_by_name(name).is_some())
    })
    .await;
    refused
}

/// Calls the controllers for the claimed topics. `None` when nothing is known of their creation.
async fn create(
    call: &Call,
    image: &Image,
    claims: &[Claim<'_>],
    deadline: Deadline,
) -> Option<BTreeMap<String, ErrorCode>> {
    if claims.is_empty() {
        return Some(BTreeMap::new());
    }
    let config = call.gateway.config();
    let request = v1::CreateTopicsRequest {
        topics: claims
            .iter()
            .map(|claim| new_topic(config, image, &claim.name))
            .collect(),
        validate_only: false,
    };
    match call_controllers(call, deadline, request).await {
        Ok(changed) => {
            let names: Vec<&str> = claims.iter().map(|claim| claim.name.as_str()).collect();
            led(call, deadline, changed.reply.metadata_offset, &names).await;
            Some(refusals(&changed.reply))
        }
        Err(failed) => {
            let reason = failed.message.unwrap_or_default();
            debug!(error = %failed.error, %reason, topics = claims.len(), "automatic creation of topics failed");
            None
        }
    }
}

fn refusals(reply: &v1::CreateTopicsReply) -> BTreeMap<String, ErrorCode> {
    let mut refused = BTreeMap::new();
    for result in &reply.results {
        match result.error.as_ref().map(|error| error_code(error.code)) {
            None => info!(topic = %result.name, "created a topic that a client asked for"),
            Some(ErrorCode::TopicAlreadyExists) => {}
            Some(code) => {
                refused.insert(result.name.clone(), code);
            }
        }
    }
    refused
}

fn new_topic(config: &GatewayConfig, image: &Image, name: &str) -> v1::NewTopic {
    let mut topic = v1::NewTopic {
        name: name.to_owned(),
        partitions: -1,
        replication_factor: -1,
        topic_id: new_topic_id(),
        ..Default::default()
    };
    if name == GROUP_METADATA_TOPIC {
        // Kafka's `AutoTopicCreationManager`. A small cluster gets as many replicas as it has brokers.
        let setting = |name| i32::try_from(config.settings.int(name)).unwrap_or(1);
        let live = i32::try_from(image.live_brokers().count()).unwrap_or(i32::MAX);
        topic.partitions = setting("offsets.topic.num.partitions");
        topic.replication_factor = setting("offsets.topic.replication.factor").min(live).max(1);
        topic.configs = [
            ("cleanup.policy", "compact".to_owned()),
            ("compression.type", "producer".to_owned()),
            (
                "segment.bytes",
                config.settings.int("offsets.topic.segment.bytes").to_string(),
            ),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
    }
    topic
}
