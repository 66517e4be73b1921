//! librdkafka clients with the settings that tests share.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, StreamConsumer};
use rdkafka::producer::FutureProducer;
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::time::{Instant, timeout_at};

use crate::PATIENCE;

/// What every client begins with: quick reconnects.
pub fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "100")
        .set("retry.backoff.ms", "50")
        .set("retry.backoff.max.ms", "200")
        .set("broker.address.family", "v4");
    config
}

/// Set to librdkafka's debug contexts (`msg,broker,eos`) to see what producers do on standard error.
const SHOW: &str = "STROM_TEST_RDKAFKA";

/// Shows librdkafka's own log lines when asked to.
#[derive(Clone)]
pub struct Shown(bool);

impl ClientContext for Shown {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        if self.0 {
            eprintln!("{} rdkafka {facility} {message}", crate::requests::now_ms());
        }
    }
}

pub type Producer = FutureProducer<Shown>;

/// acks=all and idempotent.
pub fn producer(bootstrap: &str) -> Producer {
    producer_with(bootstrap, &[])
}

pub fn producer_with(bootstrap: &str, settings: &[(&str, &str)]) -> Producer {
    let show = std::env::var(SHOW).ok();
    let mut config = config(bootstrap);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "2")
        .set("message.timeout.ms", "20000");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    if let Some(contexts) = &show {
        config
            .set("debug", contexts)
            .set_log_level(RDKafkaLogLevel::Debug);
    }
    config
        .create_with_context(Shown(show.is_some()))
        .expect("a producer")
}

/// A member of a group, from the beginning, without automatic commits.
pub fn consumer(bootstrap: &str, group: &str) -> StreamConsumer {
    consumer_with(bootstrap, group, &[])
}

pub fn consumer_with(bootstrap: &str, group: &str, settings: &[(&str, &str)]) -> StreamConsumer {
    group_config(bootstrap, group, settings)
        .create()
        .expect("a consumer")
}

pub fn group_config(bootstrap: &str, group: &str, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = config(bootstrap);
    config
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "100")
        .set("fetch.wait.max.ms", "50")
        .set("topic.metadata.refresh.interval.ms", "500");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config
}

pub fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    config(bootstrap).create().expect("an admin client")
}

pub async fn create_topic(bootstrap: &str, name: &str, partitions: i32, configs: &[(&str, &str)]) {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (key, value) in configs {
        topic = topic.set(key, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    let results = admin(bootstrap).create_topics([&topic], &options).await;
    for result in results.expect("an answer") {
        result.expect("a created topic");
    }
}

/// One record as tests compare them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Read {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<String>,
    pub value: String,
}

impl Read {
    pub fn of(message: &impl Message) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Read {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(text),
            value: message.payload().map(text).unwrap_or_default(),
        }
    }
}

/// Takes the next `count` records.
///
/// # Panics
///
/// When they have not come within [`PATIENCE`].
pub async fn take(consumer: &StreamConsumer, count: usize) -> Vec<Read> {
    let deadline = Instant::now() + PATIENCE;
    let mut read = Vec::new();
    while read.len() < count {
        match timeout_at(deadline, consumer.recv()).await {
            // Errors such as a lost connection pass by themselves.
            Ok(Err(_)) => {}
            Ok(Ok(message)) => read.push(Read::of(&message)),
            Err(_) => panic!("{} of {count} records within {PATIENCE:?}", read.len()),
        }
    }
    read
}

/// Reads one whole partition up to its present end, without a group.
pub fn read_partition(bootstrap: &str, topic: &str, partition: i32) -> Vec<Read> {
    let mut config = config(bootstrap);
    config
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "50")
        .set("check.crcs", "true");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let (_, end) = consumer
        .fetch_watermarks(topic, partition, PATIENCE)
        .expect("the partition's end");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Beginning)
        .expect("a partition");
    consumer.assign(&list).expect("an assignment");
    let mut read: Vec<Read> = Vec::new();
    let deadline = std::time::Instant::now() + PATIENCE;
    while read.last().map_or(0, |last| last.offset + 1) < end {
        assert!(
            std::time::Instant::now() < deadline,
            "{} of {end} records",
            read.len()
        );
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            read.push(Read::of(&message));
        }
    }
    read
}
