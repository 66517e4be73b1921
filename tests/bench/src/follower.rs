//! The skeleton's replication: one stream to each follower, the same bytes to all of them, acks in the order of batches.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use strom_proto::splice::{Spliced, SplicedSender};
use strom_proto::v1::{ProduceHead, ProducePartition};
use tokio::sync::Mutex as AsyncMutex;

use crate::broker::{Ack, REPLICATE};
use crate::{Error, stream};

/// One follower; the stream is opened with the first batch.
pub(crate) struct Follower {
    address: String,
    sender: AsyncMutex<Option<SplicedSender<ProduceHead>>>,
    waiting: Arc<Mutex<VecDeque<Arc<Ack>>>>,
}

impl Follower {
    pub(crate) fn new(address: &str) -> Self {
        Follower {
            address: address.to_owned(),
            sender: AsyncMutex::default(),
            waiting: Arc::default(),
        }
    }

    /// Lets go of `ack` when the follower has the batch.
    pub(crate) async fn forward(&self, partition: i32, batch: Bytes, ack: Arc<Ack>) -> Result<(), Error> {
        let mut sender = self.sender.lock().await;
        let sender = match &mut *sender {
            Some(sender) => sender,
            none => none.insert(self.open().await?),
        };
        self.waiting.lock().push_back(ack);
        let head = ProduceHead {
            partitions: vec![ProducePartition {
                partition,
                ..Default::default()
            }],
            ..Default::default()
        };
        Ok(sender.send(Spliced::new(head, batch)).await?)
    }

    async fn open(&self) -> Result<SplicedSender<ProduceHead>, Error> {
        let waiting = self.waiting.clone();
        stream::open(&self.address, REPLICATE, move |_| {
            let acked = waiting.lock().pop_front();
            drop(acked);
        })
        .await
    }
}
