//! `strom api-versions`: what a server offers beside what the CLI and the codec speak.

use clap::Args;
use serde::Serialize;
use strom_kafka_codec::{ApiKey, VersionRange};

use crate::args::Connect;
use crate::exit::Error;
use crate::kafka::spoken;
use crate::output::{Block, Output, View, or_dash};

/// Show which APIs and versions a server offers, beside Kafka 4.3.1's
#[derive(Args, Clone, Debug)]
pub struct ApiVersionsArgs {
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Serialize)]
struct Range {
    min: i16,
    max: i16,
}

#[derive(Debug, Serialize)]
struct Api {
    key: i16,
    name: Option<&'static str>,
    server: Option<Range>,
    kafka: Option<Range>,
    /// The version the CLI would use.
    used: Option<i16>,
}

#[derive(Serialize)]
struct Matrix {
    server: String,
    apis: Vec<Api>,
}

impl View for Matrix {
    fn blocks(&self) -> Vec<Block> {
        let range =
            |range: Option<&Range>| or_dash(range.map(|range| format!("{}-{}", range.min, range.max)));
        let row = |api: &Api| {
            vec![
                api.key.to_string(),
                or_dash(api.name),
                range(api.server.as_ref()),
                range(api.kafka.as_ref()),
                or_dash(api.used),
            ]
        };
        vec![
            Block::Line(self.server.clone()),
            Block::Table {
                columns: &["KEY", "API", "SERVER", "KAFKA-4.3.1", "USED"],
                rows: self.apis.iter().map(row).collect(),
            },
        ]
    }
}

fn range(range: VersionRange) -> Range {
    Range {
        min: range.min,
        max: range.max,
    }
}

pub(crate) async fn run(args: ApiVersionsArgs, output: &mut Output) -> Result<(), Error> {
    args.connect.apply(output);
    let client = args.connect.client();
    let connection = client.any(client.deadline()).await?;
    let served = connection.served();
    let mut keys: Vec<i16> = served.iter().map(|(key, _)| key).collect();
    let on_brokers = ApiKey::ALL
        .iter()
        .filter(|key| key.on_broker_listener() && !key.versions().is_empty());
    keys.extend(on_brokers.map(|key| key.as_i16()));
    keys.sort_unstable();
    keys.dedup();
    let apis = keys.into_iter().map(|key| {
        let known = ApiKey::from_i16(key).filter(|known| !known.versions().is_empty());
        Api {
            key,
            name: known.map(ApiKey::name),
            server: served.get(key).map(range),
            kafka: known.map(|known| {
                range(VersionRange {
                    max: known.latest_stable(),
                    ..known.versions()
                })
            }),
            used: known
                .filter(|known| !spoken(*known).is_empty())
                .and_then(|known| served.choose(known)),
        }
    });
    output.show(&Matrix {
        server: connection.address().to_string(),
        apis: apis.collect(),
    })
}
