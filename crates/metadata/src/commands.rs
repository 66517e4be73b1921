//! The changes that can be asked of the cluster, each a pure function from image to records and a reply.

mod alter_configs;
mod alter_partition;
mod assignment;
mod change_broker;
mod create_partitions;
mod create_topics;
mod delete_topics;
mod elect_leaders;
mod gateways;
mod producer_ids;
mod register_broker;
#[cfg(test)]
mod tests;
mod unregister_broker;

use strom_config::ConfigMap;
use strom_proto::convert::service_error;
use strom_proto::v1;
use strom_proto::v1::metadata_record::Record;
use strom_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, MetadataOffset, Mono, TopicIdPartition};
use uuid::Uuid;

pub use change_broker::BrokerChange;
pub use producer_ids::PRODUCER_ID_BLOCK;

use crate::draft::Draft;
use crate::image::{Image, ImageError};
use crate::sessions::BrokerSessions;
use crate::topic_settings::ClusterConfigs;

/// A change of the metadata. Ids and incarnations come in with it: evaluation draws nothing at random.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// The first leader names the cluster.
    NameCluster(String),
    CreateTopics(v1::CreateTopicsRequest),
    DeleteTopics(v1::DeleteTopicsRequest),
    CreatePartitions(v1::CreatePartitionsRequest),
    AlterConfigs(v1::AlterConfigsRequest),
    ElectLeaders(v1::ElectLeadersRequest),
    RegisterBroker(v1::RegisterBrokerRequest),
    UnregisterBroker(v1::UnregisterBrokerRequest),
    /// From heartbeats, or from their absence.
    ChangeBroker(BrokerChange),
    /// The broker found replicas damaged below what it had flushed.
    DropDamaged {
        broker: BrokerId,
        epoch: BrokerEpoch,
        /// With the last leader epoch in which each replica acted.
        replicas: Vec<(TopicIdPartition, LeaderEpoch)>,
    },
    RegisterGateway(v1::RegisterGatewayRequest),
    RemoveGateway(Uuid),
    AlterPartition(v1::AlterPartitionRequest),
    AllocateProducerIds(v1::AllocateProducerIdsRequest),
    /// Gives leaderships back to preferred leaders, a bounded number of them.
    RebalanceLeaders,
}

/// What a command is answered with, once its records are committed.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    CreateTopics(v1::CreateTopicsReply),
    DeleteTopics(v1::DeleteTopicsReply),
    CreatePartitions(v1::CreatePartitionsReply),
    AlterConfigs(v1::AlterConfigsReply),
    ElectLeaders(v1::ElectLeadersReply),
    RegisterBroker(v1::RegisterBrokerReply),
    RegisterGateway(v1::RegisterGatewayReply),
    AlterPartition(v1::AlterPartitionReply),
    AllocateProducerIds(v1::AllocateProducerIdsReply),
    /// Changes that have nothing to say but when they are visible.
    Change(v1::ChangeReply),
}

impl Reply {
    /// Fills in what is known only after the commit: the index at which the change is visible, which is also the
    /// epoch of a broker that the entry registered.
    pub fn committed_at(&mut self, index: MetadataOffset) {
        let offset = index.get();
        match self {
            Reply::CreateTopics(reply) => reply.metadata_offset = offset,
            Reply::DeleteTopics(reply) => reply.metadata_offset = offset,
            Reply::CreatePartitions(reply) => reply.metadata_offset = offset,
            Reply::AlterConfigs(reply) => reply.metadata_offset = offset,
            Reply::ElectLeaders(reply) => reply.metadata_offset = offset,
            Reply::RegisterGateway(reply) => reply.metadata_offset = offset,
            Reply::Change(reply) => reply.metadata_offset = offset,
            Reply::RegisterBroker(reply) if reply.broker_epoch == register_broker::EPOCH_TO_COME => {
                reply.broker_epoch = i64::try_from(offset).unwrap_or(i64::MAX);
            }
            Reply::RegisterBroker(_) | Reply::AlterPartition(_) | Reply::AllocateProducerIds(_) => {}
        }
    }
}

/// What the controller's own configuration says.
#[derive(Clone, PartialEq, Debug)]
pub struct ControllerSettings {
    /// The static layer of broker configs, for the defaults of topics.
    pub static_configs: ConfigMap,
    /// Partitions that the cluster holds at most.
    pub partitions_max: usize,
    /// Partitions that one request may create at most (Kafka's `MAX_PARTITIONS_PER_BATCH`).
    pub partitions_per_request_max: usize,
}

impl Default for ControllerSettings {
    fn default() -> Self {
        ControllerSettings {
            static_configs: ConfigMap::new(),
            partitions_max: 400_000,
            partitions_per_request_max: 10_000,
        }
    }
}

/// What a command is evaluated with, beside the image.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub settings: &'a ControllerSettings,
    pub sessions: &'a BrokerSessions,
    pub now: Mono,
}

impl<'a> Context<'a> {
    fn configs(&self, image: &Image) -> ClusterConfigs<'a> {
        ClusterConfigs::of(image, &self.settings.static_configs)
    }
}

/// The answer to a command: records to commit (none when it changes nothing), and the reply for after the commit.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    pub records: Vec<v1::MetadataRecord>,
    pub reply: Result<Reply, v1::ServiceError>,
    /// The image with the records applied, at the index after the given image's.
    pub image: Image,
    /// Partitions whose new leader may lack committed records: to be logged as an audit event.
    pub unclean: Vec<TopicIdPartition>,
}

/// A refusal of the whole command.
type Refused = v1::ServiceError;

fn refuse(code: ErrorCode, message: impl Into<String>) -> Refused {
    service_error(code, message)
}

/// A command produced records that the image refuses. Nothing is written.
fn broken(error: &ImageError) -> Refused {
    refuse(ErrorCode::UnknownServerError, error.to_string())
}

/// Evaluates a command against an image. A refused command has no records.
pub fn evaluate(command: Command, image: &Image, context: &Context<'_>) -> Outcome {
    let mut draft = Draft::on(image);
    match dispatch(command, &mut draft, context) {
        Ok(reply) => {
            let (records, after, unclean) = draft.into_parts();
            let image = if records.is_empty() { image.clone() } else { after };
            Outcome {
                records,
                reply: Ok(reply),
                image,
                unclean,
            }
        }
        Err(error) => Outcome {
            records: Vec::new(),
            reply: Err(error),
            image: image.clone(),
            unclean: Vec::new(),
        },
    }
}

fn dispatch(command: Command, draft: &mut Draft, context: &Context<'_>) -> Result<Reply, Refused> {
    match command {
        Command::NameCluster(id) => name_cluster(draft, id),
        Command::CreateTopics(request) => create_topics::create_topics(draft, context, &request),
        Command::DeleteTopics(request) => delete_topics::delete_topics(draft, context, &request),
        Command::CreatePartitions(request) => create_partitions::create_partitions(draft, context, &request),
        Command::AlterConfigs(request) => alter_configs::alter_configs(draft, context, &request),
        Command::ElectLeaders(request) => elect_leaders::elect_leaders(draft, &request),
        Command::RebalanceLeaders => elect_leaders::rebalance(draft),
        Command::RegisterBroker(request) => register_broker::register_broker(draft, context, &request),
        Command::UnregisterBroker(request) => unregister_broker::unregister_broker(draft, context, &request),
        Command::ChangeBroker(change) => change_broker::change_broker(draft, context, &change),
        Command::DropDamaged {
            broker,
            epoch,
            replicas,
        } => change_broker::drop_damaged(draft, broker, epoch, &replicas),
        Command::RegisterGateway(request) => gateways::register(draft, &request),
        Command::RemoveGateway(id) => gateways::remove(draft, id),
        Command::AlterPartition(request) => alter_partition::alter_partition(draft, &request),
        Command::AllocateProducerIds(request) => producer_ids::allocate(draft, &request),
    }
}

fn name_cluster(draft: &mut Draft, cluster_id: String) -> Result<Reply, Refused> {
    if draft.image.cluster_id().is_empty() {
        draft
            .push(Record::Cluster(v1::ClusterRecord { cluster_id }))
            .map_err(|error| broken(&error))?;
    }
    Ok(Reply::Change(v1::ChangeReply::default()))
}

/// The sender must be the registered life of its broker.
fn check_broker_epoch(image: &Image, id: i32, epoch: i64) -> Result<BrokerId, Refused> {
    let id = BrokerId(id);
    match image.broker(id) {
        Some(broker) if broker.epoch == BrokerEpoch(epoch) => Ok(id),
        Some(broker) => Err(refuse(
            ErrorCode::StaleBrokerEpoch,
            format!(
                "broker {id} is registered under epoch {}, not {epoch}",
                broker.epoch
            ),
        )),
        None => Err(refuse(
            ErrorCode::StaleBrokerEpoch,
            format!("broker {id} is not registered"),
        )),
    }
}
