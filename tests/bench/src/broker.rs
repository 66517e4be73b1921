//! The skeleton's broker: CRC, one write per batch, with `--sync` one group commit for all that came meanwhile; with
//! followers the same bytes go to each of them, and the ack waits for all.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use http::{Request, Response};
use strom_proto::splice::{self, Payload, Spliced, SplicedMethods, SplicedSender, SplicedServer};
use strom_proto::v1::{ProduceHead, ProduceReplyHead};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::Error;
use crate::follower::Follower;

pub(crate) const PRODUCE: &str = "/strom.v1.BrokerData/Produce";
pub(crate) const REPLICATE: &str = "/strom.v1.BrokerData/Replicate";
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
const REPLY_QUEUE_BYTES: u32 = 1024 * 1024;

struct Job {
    partition: usize,
    batch: Bytes,
    ack: Arc<Ack>,
}

/// Sent when the last of those that must have the batch lets go of it.
pub(crate) struct Ack {
    correlation: u64,
    replies: SplicedSender<ProduceReplyHead>,
}

impl Drop for Ack {
    fn drop(&mut self) {
        let head = ProduceReplyHead {
            correlation: self.correlation,
            ..Default::default()
        };
        // Whoever sent it may have gone.
        let _ = self.replies.try_send(Spliced::new(head, Payload::new()));
    }
}

#[derive(Clone)]
struct Skeleton {
    jobs: mpsc::SyncSender<Job>,
    followers: Arc<Vec<Follower>>,
}

/// `listen` and `followers` are addresses; who follows need not be up yet.
pub(crate) async fn run(listen: &str, followers: &[String], dir: PathBuf, sync: bool) -> Result<(), Error> {
    let (jobs, queue) = mpsc::sync_channel(64);
    std::thread::spawn(move || write(&dir, sync, &queue));
    let listener = TcpListener::bind(listen).await?;
    println!("{}", listener.local_addr()?);
    let followers = followers.iter().map(|address| Follower::new(address));
    let mut routes = Routes::builder();
    routes.add_service(SplicedServer(Skeleton {
        jobs,
        followers: Arc::new(followers.collect()),
    }));
    Server::builder()
        .max_frame_size(1024 * 1024)
        .initial_stream_window_size(16 * 1024 * 1024)
        .initial_connection_window_size(64 * 1024 * 1024)
        .add_routes(routes.routes())
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    Ok(())
}

impl SplicedMethods for Skeleton {
    const NAME: &'static str = "strom.v1.BrokerData";

    fn call(&self, method: &str, request: Request<Body>) -> Option<Response<Body>> {
        let mut requests = splice::accept::<ProduceHead>(request, MESSAGE_BYTES_MAX);
        let (replies, body) = splice::channel(REPLY_QUEUE_BYTES);
        let Skeleton { jobs, followers } = self.clone();
        let leads = PRODUCE.ends_with(method);
        tokio::spawn(async move {
            while let Some(Ok(Spliced { head, mut payload })) = requests.next().await {
                let len = payload.len();
                let Ok(batch) = payload.take_bytes(len) else {
                    return;
                };
                let partition = head.partitions.first().map_or(0, |part| part.partition);
                let ack = Arc::new(Ack {
                    correlation: head.correlation,
                    replies: replies.clone(),
                });
                for follower in followers.iter().filter(|_| leads) {
                    let forwarded = follower.forward(partition, batch.clone(), ack.clone()).await;
                    forwarded.unwrap_or_else(|error| panic!("cannot replicate: {error}"));
                }
                let job = Job {
                    partition: usize::try_from(partition).unwrap_or(0),
                    batch,
                    ack,
                };
                if jobs.send(job).is_err() {
                    return;
                }
            }
        });
        Some(splice::respond(body))
    }
}

/// The writer: everything that waits is written, then synced together, then acknowledged. What is synced leaves the page
/// cache, as Strom's does.
fn write(dir: &std::path::Path, sync: bool, queue: &mpsc::Receiver<Job>) {
    let mut files: Vec<File> = Vec::new();
    let mut checksum = 0;
    while let Ok(first) = queue.recv() {
        let jobs: Vec<Job> = std::iter::once(first).chain(queue.try_iter()).collect();
        let mut dirty = Vec::new();
        for job in &jobs {
            while files.len() <= job.partition {
                let file = File::create(dir.join(files.len().to_string()));
                files.push(file.unwrap_or_else(|error| panic!("cannot create a file: {error}")));
            }
            checksum ^= crc32c::crc32c(&job.batch);
            if let Some(file) = files.get_mut(job.partition) {
                file.write_all(&job.batch)
                    .unwrap_or_else(|error| panic!("cannot write: {error}"));
                dirty.push(job.partition);
            }
        }
        if sync {
            dirty.sort_unstable();
            dirty.dedup();
            for file in dirty.iter().filter_map(|at| files.get(*at)) {
                rustix::fs::fdatasync(file.as_fd()).unwrap_or_else(|error| panic!("cannot sync: {error}"));
                // Advice only.
                let _ = rustix::fs::fadvise(file.as_fd(), 0, None, rustix::fs::Advice::DontNeed);
            }
        }
        jobs.into_iter().for_each(|job| drop(job.ack));
    }
    // Keeps the checksum from being optimised away.
    std::hint::black_box(checksum);
}
