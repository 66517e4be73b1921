//! `strom broker describe`: what a broker holds and leads, and how full its disks are.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use strom_kafka_codec::messages::describe_log_dirs_response::DescribeLogDirsResult;
use strom_kafka_codec::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use strom_types::ErrorCode;

use super::describe_cluster;
use crate::args::Connect;
use crate::exit::Error;
use crate::kafka::{Client, KafkaError, TopicView};
use crate::output::{Block, Output, View, human_bytes, or_dash};

/// How long a broker may take to tell of its disks: one that is down must not hold up the others' table.
const LOG_DIRS_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Args, Clone, Debug)]
pub struct BrokerDescribeArgs {
    /// Broker ids; all brokers if none is given
    #[arg(value_name = "ID")]
    ids: Vec<i32>,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Serialize)]
struct Described {
    id: i32,
    host: String,
    port: i32,
    rack: Option<String>,
    fenced: bool,
    /// Partitions that it leads.
    leaders: usize,
    /// Partitions of which it has a replica, and of those, the ones it is not in sync with.
    replicas: usize,
    out_of_sync: usize,
    /// Partitions that it leads and of which some replica is not in sync.
    under_replicated: usize,
    log_dirs: Vec<LogDir>,
    /// Why the log directories are not known.
    log_dirs_error: Option<String>,
}

#[derive(Debug, Serialize)]
struct LogDir {
    path: String,
    error: Option<String>,
    replicas: usize,
    bytes: u64,
    /// Of the file system; null if the server does not tell.
    total_bytes: Option<u64>,
    usable_bytes: Option<u64>,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Descriptions(Vec<Described>);

impl View for Descriptions {
    fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        for (index, broker) in self.0.iter().enumerate() {
            if index > 0 {
                blocks.push(Block::Line(String::new()));
            }
            blocks.push(Block::Line(format!(
                "broker {}  {}:{}  rack {}  {}",
                broker.id,
                broker.host,
                broker.port,
                or_dash(broker.rack.as_ref()),
                if broker.fenced { "fenced" } else { "active" },
            )));
            blocks.push(Block::Line(format!(
                "leads {}  replicas {}  out of sync {}  under-replicated {}",
                broker.leaders, broker.replicas, broker.out_of_sync, broker.under_replicated,
            )));
            match &broker.log_dirs_error {
                Some(error) => blocks.push(Block::Line(format!("log directories unknown: {error}"))),
                None => blocks.push(log_dir_table(&broker.log_dirs)),
            }
        }
        blocks
    }
}

fn log_dir_table(dirs: &[LogDir]) -> Block {
    let row = |dir: &LogDir| {
        vec![
            dir.path.clone(),
            dir.replicas.to_string(),
            human_bytes(dir.bytes),
            or_dash(dir.usable_bytes.map(human_bytes)),
            or_dash(dir.total_bytes.map(human_bytes)),
            dir.error.clone().unwrap_or_else(|| "online".to_owned()),
        ]
    };
    Block::Table {
        columns: &["LOG-DIR", "REPLICAS", "SIZE", "FREE", "DISK", "STATE"],
        rows: dirs.iter().map(row).collect(),
    }
}

pub(super) async fn run(args: &BrokerDescribeArgs, output: &mut Output) -> Result<(), Error> {
    args.connect.apply(output);
    let client = args.connect.client();
    let mut found = describe_cluster(&client).await?.brokers;
    found.sort_by_key(|broker| broker.broker_id);
    for id in &args.ids {
        if !found.iter().any(|broker| broker.broker_id == *id) {
            return Err(Error::failed(
                format!("the cluster has no broker {id}"),
                "`strom broker list` shows the brokers",
            ));
        }
    }
    let topics = client.all_topics().await?;
    let mut described = Vec::new();
    for broker in found
        .iter()
        .filter(|broker| args.ids.is_empty() || args.ids.contains(&broker.broker_id))
    {
        let mut row = Described {
            id: broker.broker_id,
            host: broker.host.as_str().to_owned(),
            port: broker.port,
            rack: broker.rack.as_ref().map(|rack| rack.as_str().to_owned()),
            fenced: broker.is_fenced,
            leaders: 0,
            replicas: 0,
            out_of_sync: 0,
            under_replicated: 0,
            log_dirs: Vec::new(),
            log_dirs_error: None,
        };
        row.count(&topics);
        let asked = if broker.is_fenced {
            Err("the broker is fenced".to_owned())
        } else {
            let asked = log_dirs(&client, broker.broker_id).await;
            asked.map_err(|error| error.to_string())
        };
        match asked {
            Ok(dirs) => row.log_dirs = dirs,
            Err(error) => row.log_dirs_error = Some(error),
        }
        described.push(row);
    }
    output.show(&Descriptions(described))
}

impl Described {
    fn count(&mut self, topics: &[TopicView]) {
        for partition in topics.iter().flat_map(|topic| topic.partitions.values()) {
            if partition.replicas.contains(&self.id) {
                self.replicas += 1;
                self.out_of_sync += usize::from(!partition.isr.contains(&self.id));
            }
            if partition.leader == self.id {
                self.leaders += 1;
                self.under_replicated += usize::from(partition.isr.len() < partition.replicas.len());
            }
        }
    }
}

async fn log_dirs(client: &Client, broker: i32) -> Result<Vec<LogDir>, KafkaError> {
    let deadline = client.deadline().within(LOG_DIRS_TIMEOUT);
    let connection = client.broker(broker, deadline).await?;
    let response: DescribeLogDirsResponse = connection
        .call(deadline, |_| DescribeLogDirsRequest { topics: None })
        .await?;
    KafkaError::check("log directories", response.error_code, None)?;
    Ok(response.results.iter().map(log_dir).collect())
}

fn log_dir(result: &DescribeLogDirsResult) -> LogDir {
    let replicas = || result.topics.iter().flat_map(|topic| &topic.partitions);
    let known = |bytes: i64| u64::try_from(bytes).ok();
    let error = ErrorCode::try_from(i32::from(result.error_code)).unwrap_or(ErrorCode::UnknownServerError);
    LogDir {
        path: result.log_dir.as_str().to_owned(),
        error: (error != ErrorCode::None).then(|| error.to_string()),
        replicas: replicas().count(),
        bytes: replicas()
            .filter_map(|replica| known(replica.partition_size))
            .fold(0, u64::saturating_add),
        total_bytes: known(result.total_bytes),
        usable_bytes: known(result.usable_bytes),
    }
}
