//! `limit`: the bare skeleton of Strom's produce path, and the same load against Strom itself.
//!
//! The skeleton is what the path costs without Kafka's protocol or any bookkeeping: a producer sends length-framed
//! batches to a gateway process, which splices them to a broker process, which checks their CRC, writes them to one
//! file per partition (with `--sync`: group commit by fdatasync before the ack) and acknowledges. With `--brokers 3` each
//! leads a third of the partitions and the two others follow. What Strom reaches of its MB/s in the same run cannot be
//! flattered by a slow rival.

mod broker;
mod follower;
mod gateway;
mod process;
mod producer;
mod stream;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(about = "The bare skeleton of the produce path, and the same load against Strom")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure the skeleton: starts its gateway and broker, produces, and prints a JSON line
    Skeleton {
        #[command(flatten)]
        load: Load,
        /// fdatasync (group commit) before the ack
        #[arg(long)]
        sync: bool,
        /// All of them have all partitions
        #[arg(long, default_value_t = 1)]
        brokers: usize,
        /// Where its files go
        #[arg(long)]
        dir: PathBuf,
    },
    /// Produce the same load to a running Strom (or Kafka), and print a JSON line
    Produce {
        #[command(flatten)]
        load: Load,
        #[arg(long, default_value = "127.0.0.1:9092")]
        bootstrap: String,
        /// An existing topic with at least `--partitions` partitions
        #[arg(long)]
        topic: String,
        /// A file with a `name pid` line per server process, for CPU figures
        #[arg(long)]
        pids: Option<PathBuf>,
    },
    #[command(hide = true)]
    Broker {
        #[arg(long)]
        listen: String,
        #[arg(long)]
        follower: Vec<String>,
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        sync: bool,
    },
    #[command(hide = true)]
    Gateway {
        #[arg(long)]
        broker: Vec<String>,
    },
}

/// The load, the same for all.
#[derive(Args, Clone, Copy, Debug)]
struct Load {
    /// MiB to produce in all
    #[arg(long, default_value_t = 2048)]
    mb: usize,
    /// Bytes of each batch
    #[arg(long, default_value_t = 1_000_000)]
    batch_bytes: usize,
    /// Batches in flight
    #[arg(long, default_value_t = 16)]
    window: usize,
    #[arg(long, default_value_t = 6)]
    partitions: u32,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    match Arguments::parse().command {
        Command::Skeleton {
            load,
            sync,
            brokers,
            dir,
        } => process::skeleton(load, sync, brokers, &dir).await,
        Command::Produce {
            load,
            bootstrap,
            topic,
            pids,
        } => {
            let before = process::cpu_of(pids.as_deref())?;
            let took = producer::kafka(load, &bootstrap, &topic).await?;
            process::report("produce", load, took, process::cpu_of(pids.as_deref())? - before);
            Ok(())
        }
        Command::Broker {
            listen,
            follower,
            dir,
            sync,
        } => broker::run(&listen, &follower, dir, sync).await,
        Command::Gateway { broker } => gateway::run(broker).await,
    }
}
