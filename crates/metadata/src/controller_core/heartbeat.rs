//! A broker's heartbeat: contact for its session, and the wish to change its state.

use strom_proto::convert::topic_id_partition;
use strom_proto::v1;
use strom_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, MetadataOffset, Mono, TopicIdPartition};
use uuid::Uuid;

use super::ControllerCore;
use crate::commands::{BrokerChange, Command};
use crate::image::BrokerImage;

/// What the sender of a heartbeat is answered by a node that turned out not to lead any more.
pub fn unconfirmed_heartbeat(reply: &v1::BrokerHeartbeatReply) -> v1::BrokerHeartbeatReply {
    v1::BrokerHeartbeatReply {
        error: ErrorCode::NotController as i32,
        fenced: true,
        may_shut_down: false,
        ..*reply
    }
}

impl ControllerCore {
    /// Answers at once from the committed image. A change that the heartbeat asks for is queued; a later heartbeat
    /// tells the broker that it happened, as does the metadata log.
    pub fn heartbeat(&mut self, request: &v1::BrokerHeartbeatRequest, now: Mono) -> v1::BrokerHeartbeatReply {
        let session_timeout_ms = u64::try_from(self.sessions.timeout().as_millis()).unwrap_or(u64::MAX);
        let mut reply = v1::BrokerHeartbeatReply {
            sent_at: request.sent_at,
            fenced: true,
            session_timeout_ms,
            ..Default::default()
        };
        let broker = match self.sender(request) {
            Ok(broker) => broker,
            Err(code) => {
                reply.error = code as i32;
                return reply;
            }
        };
        let applied = MetadataOffset(request.metadata_offset);
        self.sessions.contact(broker.id, broker.epoch, applied, now);
        let damaged = self.still_counted_on(&broker, &request.damaged);
        if !damaged.is_empty() {
            if !self.changing.contains(&broker.id) {
                self.push(
                    Command::DropDamaged {
                        broker: broker.id,
                        epoch: broker.epoch,
                        replicas: damaged,
                    },
                    None,
                );
            }
        } else if let Some(change) = wanted_change(&broker, request)
            && !self.changing.contains(&broker.id)
        {
            self.push(Command::ChangeBroker(change), None);
        }
        // By the time this answer arrives the fencing that is on its way may be committed, and another may lead.
        reply.fenced = broker.fenced || self.leaving.contains(&broker.id);
        reply.may_shut_down = request.want_shutdown && self.may_shut_down(&broker);
        reply
    }

    fn sender(&self, request: &v1::BrokerHeartbeatRequest) -> Result<BrokerImage, ErrorCode> {
        if !self.leading {
            return Err(ErrorCode::NotController);
        }
        let broker = self
            .image
            .broker(BrokerId(request.broker_id))
            .ok_or(ErrorCode::BrokerIdNotRegistered)?;
        if broker.epoch != BrokerEpoch(request.broker_epoch) {
            return Err(ErrorCode::StaleBrokerEpoch);
        }
        Ok(broker.as_ref().clone())
    }

    /// Of the replicas that the broker reports as damaged, those that could still be elected.
    fn still_counted_on(
        &self,
        broker: &BrokerImage,
        damaged: &[v1::DamagedReplica],
    ) -> Vec<(TopicIdPartition, LeaderEpoch)> {
        let named = damaged.iter().filter_map(|replica| {
            let key = topic_id_partition(&replica.topic_id, replica.partition).ok()?;
            Some((key, LeaderEpoch(replica.leader_epoch)))
        });
        named
            .filter(|(key, acted)| {
                let state = self.image.partition(*key);
                state.is_some_and(|state| state.counts_on(broker.id, *acted))
            })
            .collect()
    }

    /// A broker may go once it leads nothing, and all others in service have seen that; or if it does not serve.
    fn may_shut_down(&self, broker: &BrokerImage) -> bool {
        if broker.fenced {
            return true;
        }
        let Some(at) = self.shutdown_at.get(&broker.id) else {
            return false;
        };
        self.sessions
            .lowest_applied(&self.image, broker.id)
            .is_none_or(|applied| applied >= *at)
    }

    /// Notes at which index brokers began to shut down. A new leader takes its own index: later is safe.
    pub(super) fn note_shutdowns(&mut self) {
        let image = &self.image;
        self.shutdown_at.retain(|id, _| {
            image
                .broker(*id)
                .is_some_and(|broker| broker.in_controlled_shutdown && !broker.fenced)
        });
        for broker in image
            .live_brokers()
            .filter(|broker| broker.in_controlled_shutdown)
        {
            self.shutdown_at.entry(broker.id).or_insert(image.index);
        }
    }
}

/// The change of state that a heartbeat asks for. A broker comes into service once it has applied its own
/// registration, thus knows which replicas it may lead.
fn wanted_change(broker: &BrokerImage, request: &v1::BrokerHeartbeatRequest) -> Option<BrokerChange> {
    let offline_directories = request
        .offline_directories
        .iter()
        .filter_map(|id| Uuid::from_slice(id).ok())
        .collect();
    let caught_up = i64::try_from(request.metadata_offset).is_ok_and(|offset| offset >= broker.epoch.get());
    let stays_fenced = broker.fenced && (!caught_up || request.want_shutdown);
    let mut change = BrokerChange {
        broker: broker.id,
        epoch: broker.epoch,
        fenced: request.want_fence || stays_fenced,
        in_controlled_shutdown: request.want_shutdown && !broker.fenced,
        disk_full: Some(request.disk_full),
        offline_directories,
    };
    change.fenced |= change.applied_to(broker).is_dirless();
    (change.applied_to(broker) != *broker).then_some(change)
}
