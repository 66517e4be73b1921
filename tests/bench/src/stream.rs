//! One stream of the skeleton to a broker: batches out, replies back.

use strom_client::Peers;
use strom_proto::splice::{self, SplicedSender};
use strom_proto::v1::{ProduceHead, ProduceReplyHead};
use tonic::metadata::MetadataMap;

use crate::Error;

const QUEUE_BYTES: u32 = 32 * 1024 * 1024;
const REPLY_BYTES_MAX: usize = 1024 * 1024;

/// Opens it; `on_reply` is called for each reply, in their order.
pub(crate) async fn open(
    broker: &str,
    path: &'static str,
    mut on_reply: impl FnMut(ProduceReplyHead) + Send + 'static,
) -> Result<SplicedSender<ProduceHead>, Error> {
    let transport = Peers::new().data(broker)?;
    let (sender, body) = splice::channel(QUEUE_BYTES);
    let mut replies = splice::open(transport, path, MetadataMap::new(), body, REPLY_BYTES_MAX).await?;
    tokio::spawn(async move {
        while let Some(Ok(reply)) = replies.next().await {
            on_reply(reply.head);
        }
    });
    Ok(sender)
}
