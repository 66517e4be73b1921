//! The skeleton's replication: one stream to each follower, the same bytes to all of them, acks in the order of batches.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use strom_client::Peers;
use strom_proto::splice::{self, Spliced, SplicedSender};
use strom_proto::v1::{ProduceHead, ProducePartition, ProduceReplyHead};
use tokio::sync::Mutex as AsyncMutex;
use tonic::metadata::MetadataMap;

use crate::Error;
use crate::broker::{Ack, REPLICATE};

const QUEUE_BYTES: u32 = 32 * 1024 * 1024;
const REPLY_BYTES_MAX: usize = 1024 * 1024;

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
        let transport = Peers::new().data(&self.address)?;
        let (sender, body) = splice::channel(QUEUE_BYTES);
        let mut replies = splice::open::<_, _, ProduceReplyHead>(
            transport,
            REPLICATE,
            MetadataMap::new(),
            body,
            REPLY_BYTES_MAX,
        )
        .await?;
        let waiting = self.waiting.clone();
        tokio::spawn(async move {
            while let Some(Ok(_)) = replies.next().await {
                let acked = waiting.lock().pop_front();
                drop(acked);
            }
        });
        Ok(sender)
    }
}
