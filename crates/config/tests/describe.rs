//! Layers, synonyms, typed topic configs and DescribeConfigs.

use strom_config::{
    BrokerLayers, Compression, ConfigMap, Durability, Effective, Entry, Source, TimestampType, TopicConfig,
    describe_broker, describe_client_metrics, describe_cluster_default, describe_group, describe_topic,
    registry,
};

fn map(pairs: &[(&str, &str)]) -> ConfigMap {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn find<'a>(entries: &'a [Entry], name: &str) -> &'a Entry {
    entries
        .iter()
        .find(|entry| entry.name == name)
        .expect("described")
}

fn synonyms(entry: &Entry) -> Vec<(&str, Option<&str>, i8)> {
    entry
        .synonyms
        .iter()
        .map(|synonym| {
            (
                synonym.name.as_str(),
                synonym.value.as_deref(),
                synonym.source.wire_id(),
            )
        })
        .collect()
}

#[test]
fn each_layer_hides_the_one_below() {
    let (own, broker, default, fixed) = (
        map(&[("retention.ms", "1")]),
        map(&[("log.retention.ms", "2")]),
        map(&[("log.retention.ms", "3")]),
        map(&[("log.retention.hours", "4"), ("log.retention.minutes", "5")]),
    );
    let nothing = ConfigMap::new();
    let layers = BrokerLayers {
        dynamic_broker: &broker,
        dynamic_default: &default,
        static_broker: &fixed,
    };
    let described = describe_topic(&own, layers);
    let entry = find(&described, "retention.ms");
    assert_eq!(entry.value.as_deref(), Some("1"));
    assert_eq!(entry.source, Source::Topic);
    assert_eq!(
        synonyms(entry),
        [
            ("retention.ms", Some("1"), 1),
            ("log.retention.ms", Some("2"), 2),
            ("log.retention.ms", Some("3"), 3),
            ("log.retention.minutes", Some("5"), 4),
            ("log.retention.hours", Some("4"), 4),
            ("log.retention.hours", Some("168"), 5),
        ]
    );
    let of = |own, layers| TopicConfig::resolve(own, layers).retention_ms;
    assert_eq!(of(&nothing, layers), Some(2));
    assert_eq!(
        of(
            &nothing,
            BrokerLayers {
                dynamic_broker: &nothing,
                ..layers
            }
        ),
        Some(3)
    );
    assert_eq!(of(&nothing, BrokerLayers::of_static(&fixed)), Some(300_000));
    let forever = map(&[("log.retention.hours", "-1")]);
    assert_eq!(of(&nothing, BrokerLayers::of_static(&forever)), None);
    assert_eq!(of(&nothing, BrokerLayers::default()), Some(604_800_000));
}

#[test]
fn every_key_is_described() {
    let topic = describe_topic(&ConfigMap::new(), BrokerLayers::default());
    assert_eq!(topic.len(), registry().topic_keys().count());
    for entry in &topic {
        assert_eq!(entry.source, Source::Default, "{}", entry.name);
        assert!(
            !entry.read_only && !entry.doc.is_empty() && entry.value.is_some(),
            "{}",
            entry.name
        );
    }
    assert_eq!(
        describe_broker(BrokerLayers::default()).len(),
        registry().broker_keys().count()
    );
    assert_eq!(
        describe_group(&ConfigMap::new(), BrokerLayers::default()).len(),
        17
    );
    assert_eq!(
        describe_client_metrics(&map(&[("match", "client_id=a")])).len(),
        3
    );
}

#[test]
fn a_broker_shows_its_own_values_only() {
    let fixed = map(&[
        ("log.retention.hours", "24"),
        ("node.id", "3"),
        ("ssl.key.password", "hunter2"),
        ("listener.name.in.ssl.keystore.location", "/a"),
        ("ssl.keystore.location", "/b"),
    ]);
    let dynamic = map(&[("message.max.bytes", "1000")]);
    let entries = describe_broker(BrokerLayers {
        dynamic_broker: &dynamic,
        ..BrokerLayers::of_static(&fixed)
    });
    let hours = find(&entries, "log.retention.hours");
    assert_eq!(
        (hours.value.as_deref(), hours.source, hours.read_only),
        (Some("24"), Source::StaticBroker, true)
    );
    // As Kafka: null, and nothing to explain it by.
    let millis = find(&entries, "log.retention.ms");
    assert_eq!(
        (millis.value.as_deref(), millis.source, millis.synonyms.len()),
        (None, Source::Default, 0)
    );
    let password = find(&entries, "ssl.key.password");
    assert!(password.sensitive && password.value.is_none());
    assert_eq!(synonyms(password), [("ssl.key.password", None, 4)]);
    let size = find(&entries, "message.max.bytes");
    assert_eq!((size.source, size.read_only), (Source::DynamicBroker, false));
    assert_eq!(
        synonyms(size),
        [
            ("message.max.bytes", Some("1000"), 2),
            ("message.max.bytes", Some("1048588"), 5)
        ]
    );
    let keystore = find(&entries, "listener.name.in.ssl.keystore.location");
    assert_eq!(keystore.value.as_deref(), Some("/a"));
    assert_eq!(
        synonyms(keystore),
        [
            ("listener.name.in.ssl.keystore.location", Some("/a"), 4),
            ("ssl.keystore.location", Some("/b"), 4)
        ]
    );
    assert!(!format!("{entries:?}").contains("hunter2"));
}

#[test]
fn the_cluster_default_shows_what_is_set() {
    let entries = describe_cluster_default(&map(&[("log.cleaner.threads", "2")]));
    let entry = find(&entries, "log.cleaner.threads");
    assert_eq!(entries.len(), 1);
    assert_eq!(
        (entry.value.as_deref(), entry.source),
        (Some("2"), Source::DynamicDefaultBroker)
    );
    assert_eq!(synonyms(entry), [("log.cleaner.threads", Some("2"), 3)]);
}

#[test]
fn a_group_falls_back_to_the_brokers_keys() {
    let fixed = map(&[("group.consumer.session.timeout.ms", "50000")]);
    let entries = describe_group(
        &map(&[("share.isolation.level", "read_committed")]),
        BrokerLayers::of_static(&fixed),
    );
    let session = find(&entries, "consumer.session.timeout.ms");
    assert_eq!(
        (session.value.as_deref(), session.source),
        (Some("50000"), Source::StaticBroker)
    );
    let isolation = find(&entries, "share.isolation.level");
    assert_eq!(isolation.source, Source::Group);
    assert_eq!(
        synonyms(isolation),
        [
            ("share.isolation.level", Some("read_committed"), 8),
            ("share.isolation.level", Some("read_uncommitted"), 5)
        ]
    );
}

#[test]
fn topic_configs_are_typed() {
    let kafka = TopicConfig::default();
    assert_eq!(kafka.compression, Compression::Producer);
    assert_eq!(kafka.durability, Durability::Durable);
    assert_eq!(
        (kafka.segment_bytes, kafka.segment_ms, kafka.max_message_bytes),
        (1 << 30, 604_800_000, 1_048_588)
    );
    assert_eq!(
        (kafka.retention_bytes, kafka.local_retention_ms),
        (None, Some(604_800_000))
    );
    assert!(kafka.cleanup_policy.delete && !kafka.cleanup_policy.compact);
    let own = map(&[
        ("compression.type", "zstd"),
        ("compression.zstd.level", "-5"),
        ("cleanup.policy", "compact"),
        ("message.timestamp.type", "LogAppendTime"),
        ("min.insync.replicas", "2"),
    ]);
    let fixed = map(&[("strom.durability", "page_cache"), ("log.roll.jitter.hours", "1")]);
    let topic = TopicConfig::resolve(&own, BrokerLayers::of_static(&fixed));
    assert_eq!(topic.compression, Compression::Zstd { level: -5 });
    assert_eq!(topic.timestamp_type, TimestampType::LogAppendTime);
    assert_eq!(
        (topic.min_insync_replicas, topic.segment_jitter_ms),
        (2, 3_600_000)
    );
    assert_eq!(topic.durability, Durability::PageCache);
    assert!(topic.cleanup_policy.compact && !topic.cleanup_policy.delete);
}

#[test]
fn a_stored_value_that_does_not_parse_falls_through() {
    let own = map(&[("segment.bytes", "7"), ("max.message.bytes", "lots")]);
    let fixed = map(&[("message.max.bytes", "9")]);
    let topic = TopicConfig::resolve(&own, BrokerLayers::of_static(&fixed));
    assert_eq!((topic.segment_bytes, topic.max_message_bytes), (1 << 30, 9));
}

#[test]
fn brokers_are_read_by_key() {
    let fixed = map(&[("log.dirs", "/a, /b"), ("auto.create.topics.enable", "false")]);
    let broker = Effective::broker(BrokerLayers::of_static(&fixed));
    assert_eq!(broker.list("log.dirs"), ["/a", "/b"]);
    assert!(!broker.bool("auto.create.topics.enable"));
    assert_eq!(broker.int("num.partitions"), 1);
    assert_eq!(broker.opt_int("log.retention.ms"), None);
    assert_eq!(broker.text("broker.rack"), None);
    assert!((broker.double("log.cleaner.io.buffer.load.factor") - 0.9).abs() < 1e-9);
}
