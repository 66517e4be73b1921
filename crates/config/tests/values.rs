//! Parsing and validation: good values, and Kafka's words for bad ones.

use strom_config::{
    BrokerLayers, ConfigMap, Scope, Value, registry, validate_broker, validate_client_metrics,
    validate_cluster_default, validate_group, validate_topic,
};

fn map(pairs: &[(&str, &str)]) -> ConfigMap {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn refused(scope: Scope, name: &str, value: &str) -> String {
    let key = registry().get(scope, name).expect("a key");
    key.parse(value).expect_err("refused").to_string()
}

#[test]
fn values_are_read_as_kafka_reads_them() {
    let parse = |name, text| registry().get(Scope::Topic, name).unwrap().parse(text).unwrap();
    assert_eq!(parse("retention.ms", " -1 "), Value::Int(-1));
    assert_eq!(parse("preallocate", "TRUE"), Value::Bool(true));
    assert_eq!(parse("min.cleanable.dirty.ratio", "0.50").to_string(), "0.5");
    assert_eq!(
        parse("cleanup.policy", "compact , delete").to_string(),
        "compact,delete"
    );
    assert_eq!(parse("cleanup.policy", "").to_string(), "");
    assert_eq!(parse("cleanup.policy", "delete,delete").to_string(), "delete");
    assert_eq!(parse("compression.gzip.level", "-1"), Value::Int(-1));
    assert_eq!(
        parse("leader.replication.throttled.replicas", "*").to_string(),
        "*"
    );
    assert_eq!(
        parse("leader.replication.throttled.replicas", "0:1,2:3").to_string(),
        "0:1,2:3"
    );
    let reset = registry().get(Scope::Group, "share.auto.offset.reset").unwrap();
    for good in [
        "latest",
        "earliest",
        "by_duration:PT24H",
        "by_duration:P1DT2H3M4.5S",
        "by_duration:P2D",
    ] {
        assert!(reset.parse(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "never",
        "by_duration:",
        "by_duration:P",
        "by_duration:PT",
        "by_duration:P1H",
        "by_duration:PT1M1H",
    ] {
        assert!(reset.parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn refusals_read_as_kafkas() {
    use Scope::{Broker, Topic};
    for (scope, name, value, message) in [
        (
            Topic,
            "segment.bytes",
            "5",
            "Invalid value 5 for configuration segment.bytes: Value must be at least 1048576",
        ),
        (
            Topic,
            "compression.lz4.level",
            "18",
            "Invalid value 18 for configuration compression.lz4.level: Value must be no more than 17",
        ),
        (
            Topic,
            "compression.gzip.level",
            "0",
            "Invalid value 0 for configuration compression.gzip.level: Value must be between 1 and 9 or equal to -1",
        ),
        (
            Topic,
            "retention.ms",
            "soon",
            "Invalid value soon for configuration retention.ms: Not a number of type LONG",
        ),
        (
            Topic,
            "segment.bytes",
            "2147483648",
            "Invalid value 2147483648 for configuration segment.bytes: Not a number of type INT",
        ),
        (
            Topic,
            "preallocate",
            "yes",
            "Invalid value yes for configuration preallocate: Expected value to be either true or false",
        ),
        (
            Topic,
            "min.cleanable.dirty.ratio",
            "1.5",
            "Invalid value 1.5 for configuration min.cleanable.dirty.ratio: Value must be no more than 1",
        ),
        (
            Topic,
            "compression.type",
            "brotli",
            "Invalid value brotli for configuration compression.type: String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer",
        ),
        (
            Topic,
            "cleanup.policy",
            "delete,burn",
            "Invalid value burn for configuration cleanup.policy: String must be one of: compact, delete",
        ),
        (
            Topic,
            "cleanup.policy",
            "delete,",
            "Configuration 'cleanup.policy' values must not be empty.",
        ),
        (
            Broker,
            "listeners",
            "",
            "Configuration 'listeners' must not be empty. Valid values include: any non-empty value",
        ),
        (
            Broker,
            "process.roles",
            "",
            "Configuration 'process.roles' must not be empty. Valid values include: [broker, controller, gateway]",
        ),
        (
            Broker,
            "controller.quorum.voters",
            "0:9093",
            "Invalid configuration value for controller.quorum.voters. Each entry should be in the form `{id}@{host}:{port}`.",
        ),
        (
            Broker,
            "controller.quorum.bootstrap.servers",
            "a:1,b",
            "Failed to parse host name from b for the configuration controller.quorum.bootstrap.servers. Each entry should be in the form \"{host}:{port}\"",
        ),
        (
            Topic,
            "min.cleanable.dirty.ratio",
            "NaN",
            "Invalid value NaN for configuration min.cleanable.dirty.ratio: Not a number of type DOUBLE",
        ),
        (
            Broker,
            "offsets.topic.replication.factor",
            "40000",
            "Invalid value 40000 for configuration offsets.topic.replication.factor: Not a number of type SHORT",
        ),
    ] {
        assert_eq!(refused(scope, name, value), message);
    }
}

#[test]
fn a_bad_password_is_not_echoed() {
    let key = registry().get(Scope::Broker, "ssl.key.password").unwrap();
    assert_eq!(key.parse("hunter2").unwrap().to_string(), "[hidden]");
    assert!(!format!("{:?}", key.parse("hunter2")).contains("hunter2"));
}

#[test]
fn topics_are_checked_as_a_whole() {
    let check = |pairs: &[(&str, &str)]| validate_topic(&map(pairs), BrokerLayers::default());
    assert_eq!(check(&[("max.message.bytes", "100")]), Ok(vec![]));
    assert_eq!(
        check(&[("retention.ms", "1"), ("message.format.version", "2.8")]),
        Ok(vec!["message.format.version", "retention.ms"])
    );
    let text = |pairs: &[(&str, &str)]| check(pairs).unwrap_err().to_string();
    assert_eq!(
        text(&[("retention.mss", "1")]),
        "Unknown topic config name: retention.mss; did you mean retention.ms?"
    );
    assert_eq!(text(&[("colour", "red")]), "Unknown topic config name: colour");
    assert_eq!(
        text(&[("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")]),
        "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)"
    );
    assert!(
        text(&[("remote.storage.enable", "true")]).starts_with("Tiered Storage functionality is disabled")
    );
}

#[test]
fn dynamic_broker_changes_are_checked() {
    let text = |pairs: &[(&str, &str)]| validate_broker(&map(pairs)).unwrap_err().to_string();
    assert_eq!(
        validate_broker(&map(&[("message.max.bytes", "5"), ("log.retention.ms", "5")])),
        Ok(vec!["log.retention.ms"])
    );
    assert_eq!(
        text(&[("node.id", "1"), ("num.partitions", "2")]),
        "Cannot update these configs dynamically: [node.id, num.partitions]"
    );
    assert_eq!(
        text(&[("num.partition", "2")]),
        "Unknown broker config name: num.partition; did you mean num.partitions?"
    );
    assert!(
        text(&[("ssl.keystore.location", "/x")])
            .contains("only per-listener using the listener prefix: [ssl.keystore.location]")
    );
    assert!(validate_broker(&map(&[("listener.name.a.ssl.keystore.location", "/x")])).is_ok());
    assert!(text(&[("max.connections", "-5")]).contains("at least 0"));
    let all = validate_cluster_default(&map(&[("listener.name.a.ssl.keystore.location", "/x")]));
    assert!(
        all.unwrap_err()
            .to_string()
            .contains("at default cluster level, broker id must be specified: [listener.name.a.ssl")
    );
    assert!(validate_cluster_default(&map(&[("listener.name.a.max.connections", "5")])).is_ok());
}

#[test]
fn groups_stay_within_the_brokers_bounds() {
    let check = |pairs: &[(&str, &str)]| {
        validate_group(&map(pairs), BrokerLayers::default()).map_err(|error| error.to_string())
    };
    assert!(check(&[("consumer.session.timeout.ms", "50000")]).is_ok());
    assert_eq!(
        check(&[("consumer.session.timeout.ms", "1000")]).unwrap_err(),
        "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms"
    );
    assert_eq!(
        check(&[("streams.num.standby.replicas", "9")]).unwrap_err(),
        "streams.num.standby.replicas must be less than or equal to group.streams.max.standby.replicas"
    );
    assert_eq!(
        check(&[("session", "1")]).unwrap_err(),
        "Unknown group config name: session"
    );
    let wide = map(&[
        ("group.share.min.heartbeat.interval.ms", "1"),
        ("group.share.max.heartbeat.interval.ms", "99999"),
    ]);
    let own = map(&[("share.heartbeat.interval.ms", "45000")]);
    let crossed = validate_group(&own, BrokerLayers::of_static(&wide)).unwrap_err();
    assert_eq!(
        crossed.to_string(),
        "share.session.timeout.ms must be greater than share.heartbeat.interval.ms"
    );
}

#[test]
fn client_metrics_subscriptions_are_checked() {
    let text = |pairs: &[(&str, &str)]| {
        let error = validate_client_metrics(&map(pairs)).unwrap_err();
        (error.to_string(), error.is_invalid_request())
    };
    assert!(
        validate_client_metrics(&map(&[
            ("match", "client_id=a.*,client_software_name=b"),
            ("interval.ms", "1000")
        ]))
        .is_ok()
    );
    assert_eq!(
        text(&[("interval.ms", "10")]),
        (
            "Invalid value 10 for interval.ms, interval must be between 100 and 3600000 (1 hour)".to_owned(),
            true
        )
    );
    assert_eq!(
        text(&[("random", "10")]),
        ("Unknown client metrics configuration: random".to_owned(), true)
    );
    assert_eq!(
        text(&[("match", "10")]),
        ("Illegal client matching pattern: 10".to_owned(), false)
    );
}
