//! `strom cluster doctor`: looks for what will hurt: addresses that lead nowhere, unsafe replication, odd versions.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use strom_kafka_codec::VersionRange;
use strom_kafka_codec::messages::DescribeClusterResponse;
use strom_kafka_codec::messages::describe_cluster_response::DescribeClusterBroker;

use super::MIN_ISR;
use crate::args::{CLIENT_ID, Connect, Span};
use crate::exit::Error;
use crate::kafka::{Address, Client, Connection, Deadline, KafkaError, TopicView};
use crate::output::{Block, Output, View};
use crate::verbs::broker::describe_cluster;
use crate::verbs::quorum::describe_quorum;

const QUORUM_TIMEOUT: Duration = Duration::from_secs(5);
/// How many topics a finding names.
const NAMED_MAX: usize = 5;

/// Look for what will hurt: dials every advertised address, and checks replication settings and versions
#[derive(Args, Clone, Debug)]
pub(crate) struct DoctorArgs {
    /// How long one address may take to answer
    #[arg(long, value_name = "TIME", default_value = "5s")]
    dial_timeout: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Failed,
}

#[derive(Debug, Serialize)]
struct Finding {
    verdict: Verdict,
    check: &'static str,
    subject: String,
    detail: String,
}

#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
struct Findings(Vec<Finding>);

impl View for Findings {
    fn blocks(&self) -> Vec<Block> {
        let row = |finding: &Finding| {
            let verdict = match finding.verdict {
                Verdict::Ok => "ok",
                Verdict::Warning => "WARNING",
                Verdict::Failed => "FAILED",
            };
            vec![
                verdict.to_owned(),
                finding.check.to_owned(),
                finding.subject.clone(),
                finding.detail.clone(),
            ]
        };
        vec![Block::Table {
            columns: &["VERDICT", "CHECK", "SUBJECT", "DETAIL"],
            rows: self.0.iter().map(row).collect(),
        }]
    }
}

impl Findings {
    fn add(&mut self, verdict: Verdict, check: &'static str, subject: &str, detail: impl Into<String>) {
        self.0.push(Finding {
            verdict,
            check,
            subject: subject.to_owned(),
            detail: detail.into(),
        });
    }
}

/// The API versions that a server offers.
type Offer = Vec<(i16, VersionRange)>;

pub(super) async fn run(args: &DoctorArgs, connect: &Connect, output: &mut Output) -> Result<(), Error> {
    let client = connect.client();
    let cluster = describe_cluster(&client).await?;
    let mut findings = Findings::default();
    for address in &connect.bootstrap().0 {
        let told = dial(address, cluster.cluster_id.as_str(), args.dial_timeout.0).await;
        findings.address(
            "bootstrap",
            &address.to_string(),
            told.map(|_| address.to_string()),
        );
    }
    let mut offers: BTreeMap<i32, Offer> = BTreeMap::new();
    let mut brokers: Vec<&DescribeClusterBroker> = cluster.brokers.iter().collect();
    brokers.sort_by_key(|broker| broker.broker_id);
    for broker in brokers {
        let subject = format!("broker {}", broker.broker_id);
        if broker.is_fenced {
            findings.add(
                Verdict::Failed,
                "address",
                &subject,
                "the broker is fenced: it is down or starting",
            );
            continue;
        }
        let told = visit(broker, cluster.cluster_id.as_str(), args.dial_timeout.0).await;
        if let Ok((_, offer)) = &told {
            offers.insert(broker.broker_id, offer.clone());
        }
        findings.address("address", &subject, told.map(|(address, _)| address));
    }
    findings.versions(&offers);
    findings.quorum(&cluster, connect).await;
    findings.replication(&cluster, &client).await?;
    output.show(&findings)?;
    let failed = findings.0.iter().filter(|f| f.verdict == Verdict::Failed).count();
    match failed {
        0 => Ok(()),
        failed => Err(Error::Unhealthy(format!(
            "{failed} of {} checks failed",
            findings.0.len()
        ))),
    }
}

/// Dials a broker where clients are told to; its address and what it offers.
async fn visit(
    broker: &DescribeClusterBroker,
    cluster: &str,
    limit: Duration,
) -> Result<(String, Offer), String> {
    let told = format!("{}:{}", broker.host.as_str(), broker.port);
    let port = u16::try_from(broker.port)
        .ok()
        .filter(|port| *port > 0 && !broker.host.as_str().is_empty())
        .ok_or_else(|| format!("{told} is no address that could be dialled"))?;
    let address = Address {
        host: broker.host.as_str().to_owned(),
        port,
    };
    let offer = dial(&address, cluster, limit).await?;
    Ok((address.to_string(), offer))
}

/// Connects, and checks that this cluster answers there.
async fn dial(address: &Address, cluster: &str, limit: Duration) -> Result<Offer, String> {
    let deadline = Deadline::after(limit);
    let answer = async {
        let connection = Connection::open(address, CLIENT_ID, deadline).await?;
        let request = |_| strom_kafka_codec::messages::DescribeClusterRequest::default();
        let found = connection.call(deadline, request).await?;
        Ok::<_, KafkaError>((connection.served().iter().collect::<Offer>(), found))
    };
    let (offer, found) = answer.await.map_err(|error| error.to_string())?;
    let there = found.cluster_id.as_str();
    if there != cluster {
        return Err(format!(
            "{address} is of another cluster: {there} instead of {cluster}"
        ));
    }
    Ok(offer)
}

impl Findings {
    fn address(&mut self, check: &'static str, subject: &str, result: Result<String, String>) {
        match result {
            Ok(address) => self.add(Verdict::Ok, check, subject, format!("{address} answers")),
            Err(error) => self.add(Verdict::Failed, check, subject, error),
        }
    }

    fn versions(&mut self, offers: &BTreeMap<i32, Offer>) {
        let Some((first, expected)) = offers.iter().next() else {
            return;
        };
        let odd: Vec<String> = offers
            .iter()
            .filter(|(_, offer)| *offer != expected)
            .map(|(id, _)| id.to_string())
            .collect();
        if odd.is_empty() {
            let detail = format!("the same {} APIs in the same versions", expected.len());
            return self.add(Verdict::Ok, "versions", "brokers", detail);
        }
        let detail = format!(
            "brokers {} offer other API versions than broker {first}: fine during a rolling upgrade only",
            odd.join(", ")
        );
        self.add(Verdict::Warning, "versions", "brokers", detail);
    }

    async fn quorum(&mut self, cluster: &DescribeClusterResponse, connect: &Connect) {
        let (check, subject) = ("quorum", "controllers");
        let state = match describe_quorum(&connect.client_within(QUORUM_TIMEOUT)).await {
            Ok(state) => state,
            Err(error) => return self.add(Verdict::Failed, check, subject, error.to_string()),
        };
        let voters = state.current_voters.len();
        if state.leader_id < 0 {
            self.add(Verdict::Failed, check, subject, "the quorum has no leader");
        } else if voters > 0 && voters % 2 == 0 {
            let detail = format!(
                "{voters} voters survive no more failures than {}: use an odd number",
                voters - 1
            );
            self.add(Verdict::Warning, check, subject, detail);
        } else if voters == 1 && cluster.brokers.len() > 1 {
            self.add(
                Verdict::Warning,
                check,
                subject,
                "a single voter: without it, nothing can change",
            );
        } else {
            let survived = voters.saturating_sub(1) / 2;
            let detail = format!(
                "leader {}; voters: {voters}, of which {survived} may fail",
                state.leader_id
            );
            self.add(Verdict::Ok, check, subject, detail);
        }
    }

    async fn replication(
        &mut self,
        cluster: &DescribeClusterResponse,
        client: &Client,
    ) -> Result<(), KafkaError> {
        let topics = client.all_topics().await?;
        let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
        let min_isr = client.topics_config(&names, MIN_ISR).await?;
        let wanted = |topic: &TopicView| {
            min_isr
                .get(&topic.name)
                .and_then(|text| text.parse::<usize>().ok())
        };
        let copies = |topic: &TopicView| topic.partitions.values().map(|p| p.replicas.len()).min();
        let several = cluster.brokers.len() > 1;
        let before = self.0.len();
        self.topics(
            topics.iter().filter(|topic| several && copies(topic) == Some(1)),
            Verdict::Warning,
            "replication factor 1: the loss of one broker loses their records",
        );
        self.topics(
            topics.iter().filter(|topic| wanted(topic) > copies(topic)),
            Verdict::Failed,
            "min.insync.replicas is more than there are replicas",
        );
        let fragile = |topic: &&TopicView| copies(topic) > Some(1) && wanted(topic) == copies(topic);
        self.topics(
            topics.iter().filter(fragile),
            Verdict::Warning,
            "min.insync.replicas equals the replication factor: one broker down stops acks=all writes",
        );
        if self.0.len() == before {
            let detail = format!("nothing wrong with the settings of all topics ({})", topics.len());
            self.add(Verdict::Ok, "replication", "topics", detail);
        }
        Ok(())
    }

    /// One finding for all topics that have the same flaw.
    fn topics<'a>(&mut self, topics: impl Iterator<Item = &'a TopicView>, verdict: Verdict, detail: &str) {
        let names: Vec<&str> = topics.map(|topic| topic.name.as_str()).collect();
        if names.is_empty() {
            return;
        }
        let some: Vec<&str> = names.iter().copied().take(NAMED_MAX).collect();
        let subject = match names.len().saturating_sub(NAMED_MAX) {
            0 => some.join(", "),
            more => format!("{} and {more} more", some.join(", ")),
        };
        self.add(verdict, "replication", &subject, detail);
    }
}
