//! What goes into the active controller's core and what comes out.

use std::time::Duration;

use strom_proto::v1;
use strom_types::{BrokerEpoch, BrokerId, TopicIdPartition};
use uuid::Uuid;

use crate::commands::{ControllerSettings, Reply};

/// Names a queued command for its caller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// The end of a command.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    pub request: RequestId,
    pub reply: Result<Reply, v1::ServiceError>,
}

/// What an operator should read about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CoreEvent {
    Fencing {
        broker: BrokerId,
        epoch: BrokerEpoch,
    },
    /// Leaders were elected that may lack committed records.
    UncleanElection(Vec<TopicIdPartition>),
    /// A gateway's stream has been gone for longer than the grace.
    GatewayGone(Uuid),
}

/// What [`ControllerCore::next_batch`] asks for.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct NextBatch {
    /// To be proposed; the next one comes after [`ControllerCore::committed`] or [`ControllerCore::refused`].
    pub batch: Option<v1::MetadataBatch>,
    /// Commands that changed nothing: answered at once.
    pub answers: Vec<Answer>,
    pub events: Vec<CoreEvent>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct CoreConfig {
    pub settings: ControllerSettings,
    pub session_timeout: Duration,
    /// Added to the sessions that a new leader gives: how long its predecessor may have answered heartbeats after
    /// this one was elected (at most the quorum's election timeout, by check-quorum).
    pub handover_grace: Duration,
    /// How long a gateway stays in the image after its stream broke.
    pub gateway_grace: Duration,
    /// `None` = leaderships stay where they are.
    pub rebalance_interval: Option<Duration>,
    /// Commands that may wait; more are refused as overload.
    pub queue_max: usize,
    /// A batch takes no further command once its records are this long.
    pub batch_bytes: usize,
}

impl Default for CoreConfig {
    fn default() -> Self {
        CoreConfig {
            settings: ControllerSettings::default(),
            session_timeout: Duration::from_secs(6),
            handover_grace: Duration::ZERO,
            gateway_grace: Duration::from_secs(5),
            rebalance_interval: Some(Duration::from_secs(300)),
            queue_max: 10_000,
            batch_bytes: 512 * 1024,
        }
    }
}
