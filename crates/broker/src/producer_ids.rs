//! Producer ids, handed out of blocks that the controllers allot.

use std::time::Duration;

use strom_client::{CallError, ControllerClient, Effect};
use strom_proto::v1;
use strom_types::{BrokerEpoch, BrokerId};
use tokio::sync::Mutex;

const ALLOCATION_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct ProducerIds {
    controller: ControllerClient,
    broker: BrokerId,
    epoch: BrokerEpoch,
    /// What is left of the present block.
    block: Mutex<std::ops::Range<i64>>,
}

impl ProducerIds {
    pub(crate) fn new(controller: ControllerClient, broker: BrokerId, epoch: BrokerEpoch) -> Self {
        ProducerIds {
            controller,
            broker,
            epoch,
            block: Mutex::new(0..0),
        }
    }

    /// An id that no producer of this cluster has had.
    pub(crate) async fn next(&self) -> Result<i64, CallError> {
        let mut block = self.block.lock().await;
        if let Some(id) = block.next() {
            return Ok(id);
        }
        let request = v1::AllocateProducerIdsRequest {
            broker_id: self.broker.get(),
            broker_epoch: self.epoch.get(),
        };
        // A block that is allotted twice is only lost, so repeating is harmless.
        let call = self.controller.call(
            ALLOCATION_TIMEOUT,
            Effect::Idempotent,
            request,
            |mut stub, request| async move { stub.allocate_producer_ids(request).await },
        );
        let reply = call.await?;
        *block = reply.first..reply.first.saturating_add(i64::from(reply.count.max(0)));
        block.next().ok_or_else(|| CallError::Indeterminate {
            target: "controller".into(),
            reason: "an empty block of producer ids".into(),
        })
    }
}
