//! Loading: precedence, the environment dialects, mistakes and provenance.

use std::path::PathBuf;

use strom_runtime::config::{LoadError, Settings, Sources, load};

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn from_env(list: &[(&str, &str)]) -> Result<Settings, LoadError> {
    load(&Sources {
        env: pairs(list),
        ..Sources::default()
    })
}

fn mistakes(result: Result<Settings, LoadError>) -> Vec<String> {
    match result {
        Err(LoadError::Mistakes(list)) => list.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Files(tempfile::tempdir().expect("a directory"))
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }
}

#[test]
fn each_layer_hides_the_one_below() {
    let files = Files::new();
    let mut sources = Sources::default();
    let partitions = |sources: &Sources| {
        let settings = load(sources).unwrap();
        (
            settings.int("num.partitions"),
            settings.setting("num.partitions").map(|setting| setting.place),
        )
    };
    assert_eq!(partitions(&sources), (1, None));
    sources.presets = pairs(&[("num.partitions", "2")]);
    assert_eq!(partitions(&sources), (2, Some("the role".to_owned())));
    let toml = files.write("strom.toml", "[num]\npartitions = 3\n");
    sources.toml = vec![toml.clone()];
    assert_eq!(partitions(&sources), (3, Some(toml.display().to_string())));
    let properties = files.write("server.properties", "# a comment\nnum.partitions = 4 \n");
    sources.properties = vec![properties.clone()];
    assert_eq!(partitions(&sources), (4, Some(properties.display().to_string())));
    for (count, name) in [
        (5, "KAFKA_NUM_PARTITIONS"),
        (6, "KAFKA_CFG_NUM_PARTITIONS"),
        (7, "STROM_NUM_PARTITIONS"),
    ] {
        // In front, so that the dialect and not the position decides.
        sources.env.insert(0, (name.to_owned(), count.to_string()));
        assert_eq!(
            partitions(&sources),
            (count, Some(format!("environment variable {name}")))
        );
    }
    sources.flags = pairs(&[("num.partitions", "8")]);
    assert_eq!(partitions(&sources), (8, Some("the command line".to_owned())));
    assert_eq!(load(&sources).unwrap().static_layer().len(), 1);
}

#[test]
fn toml_has_tables_dots_lists_and_numbers() {
    let files = Files::new();
    let text = "\"max.connections\" = 10\n\"max.connections.per.ip\" = 2\nlog.dirs = [\"/a\", \"/b\"]\n\
                [auto.create.topics]\nenable = false\n[strom.otlp.sample]\nratio = 0.5\n[strom.log]\nlevel = \"debug\"\n";
    let settings = load(&Sources {
        toml: vec![files.write("a.toml", text)],
        ..Sources::default()
    })
    .unwrap();
    assert_eq!(
        (
            settings.size("max.connections"),
            settings.size("max.connections.per.ip")
        ),
        (10, 2)
    );
    assert_eq!(settings.log_dirs(), [PathBuf::from("/a"), PathBuf::from("/b")]);
    assert!(!settings.bool("auto.create.topics.enable"));
    assert!((settings.double("strom.otlp.sample.ratio") - 0.5).abs() < 1e-9);
    assert_eq!(settings.text("strom.log.level").as_deref(), Some("debug"));
}

#[test]
fn the_apache_dialect() {
    let settings = from_env(&[
        ("KAFKA_NODE_ID", "4"),
        ("KAFKA_PROCESS_ROLES", "broker,controller"),
        ("KAFKA_HEAP_OPTS", "-Xmx1g"),
        ("KAFKA_HOME", "/opt/kafka"),
        ("KAFKA_LISTENER_NAME_INTERNAL_SSL_KEYSTORE_LOCATION", "/k"),
        ("CLUSTER_ID", "4L6g3nShT-eMCtK--X86sw"),
        ("PATH", "/bin"),
    ])
    .unwrap();
    assert_eq!(settings.node_id(), Some(4));
    assert_eq!(settings.list("process.roles"), ["broker", "controller"]);
    assert_eq!(
        settings.text("strom.cluster.id").as_deref(),
        Some("4L6g3nShT-eMCtK--X86sw")
    );
    assert!(
        settings
            .static_layer()
            .contains_key("listener.name.internal.ssl.keystore.location")
    );
    assert_eq!(settings.static_layer().len(), 4);
}

#[test]
fn the_bitnami_dialect_as_in_the_users_compose_file() {
    let settings = from_env(&[
        ("KAFKA_CFG_NODE_ID", "0"),
        ("KAFKA_CFG_PROCESS_ROLES", "controller,broker"),
        ("KAFKA_CFG_CONTROLLER_QUORUM_VOTERS", "0@kafka:9093"),
        (
            "KAFKA_CFG_LISTENERS",
            "PLAINTEXT://:9092,CONTROLLER://:9093,EXTERNAL://:9094",
        ),
        (
            "KAFKA_CFG_ADVERTISED_LISTENERS",
            "PLAINTEXT://kafka:9092,EXTERNAL://localhost:9094",
        ),
        (
            "KAFKA_CFG_LISTENER_SECURITY_PROTOCOL_MAP",
            "CONTROLLER:PLAINTEXT,EXTERNAL:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        ),
        ("KAFKA_CFG_CONTROLLER_LISTENER_NAMES", "CONTROLLER"),
        ("KAFKA_CFG_INTER_BROKER_LISTENER_NAME", "PLAINTEXT"),
        ("KAFKA_CFG_AUTO_CREATE_TOPICS_ENABLE", "true"),
        ("KAFKA_KRAFT_CLUSTER_ID", "abcdefghijklmnopqrstuv"),
        ("ALLOW_PLAINTEXT_LISTENER", "yes"),
        ("KAFKA_CFG_BROKER_RACK", ""),
    ])
    .unwrap();
    assert_eq!(settings.node_id(), Some(0));
    assert_eq!(settings.list("controller.quorum.voters"), ["0@kafka:9093"]);
    assert_eq!(
        settings.text("strom.cluster.id").as_deref(),
        Some("abcdefghijklmnopqrstuv")
    );
    assert_eq!(settings.text("broker.rack"), None);
    assert_eq!(
        settings
            .without_effect()
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>(),
        ["controller.quorum.voters", "inter.broker.listener.name"]
    );
}

#[test]
fn the_strom_dialect() {
    let settings = from_env(&[
        ("STROM_ADMIN_LISTENER", "0.0.0.0:9644"),
        ("STROM__LOG__LEVEL", "debug"),
        ("STROM_STROM_LOG_FORMAT", "json"),
        ("STROM_BROKER_SESSION_TIMEOUT_MS", "7000"),
        ("STROM_LOG_SEGMENT_BYTES", "2097152"),
    ])
    .unwrap();
    assert_eq!(
        settings.text("strom.admin.listener").as_deref(),
        Some("0.0.0.0:9644")
    );
    assert_eq!(settings.text("strom.log.level").as_deref(), Some("debug"));
    assert_eq!(settings.text("strom.log.format").as_deref(), Some("json"));
    assert_eq!(settings.int("strom.broker.session.timeout.ms"), 7000);
    assert_eq!(settings.int("log.segment.bytes"), 2_097_152);
}

#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let files = Files::new();
    let sources = Sources {
        properties: vec![files.write("p", "num.partition=3\nlog.segment.bytes=5\n")],
        env: pairs(&[
            ("KAFKA_CFG_NUM_PARTITONS", "3"),
            ("STROM_ADMIN_LISTNER", "x"),
            ("STROM_BOOTSTRAP", "x"),
            ("STROM_XYZZY", "x"),
            ("KAFKA_NUM_PARTITIONS", "many"),
            ("KAFKA_CFG_SSL_KEY_PASSWORD_FILE", "/nonexistent"),
        ]),
        ignored_env: vec!["STROM_BOOTSTRAP".to_owned()],
        ..Sources::default()
    };
    let told = mistakes(load(&sources));
    let has = |parts: &[&str]| {
        let found = told
            .iter()
            .any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(found, "{parts:?} in {told:#?}");
    };
    has(&[
        "environment variable KAFKA_CFG_NUM_PARTITONS",
        "did you mean num.partitions?",
    ]);
    has(&[
        "environment variable STROM_ADMIN_LISTNER",
        "did you mean strom.admin.listener?",
    ]);
    has(&["environment variable STROM_XYZZY", "names no configuration key"]);
    has(&[
        "KAFKA_NUM_PARTITIONS",
        "Invalid value many for configuration num.partitions: Not a number of type INT",
    ]);
    has(&[
        "/p",
        "Unknown broker config name: num.partition; did you mean num.partitions?",
    ]);
    has(&["/p", "log.segment.bytes: Value must be at least 1048576"]);
    has(&["KAFKA_CFG_SSL_KEY_PASSWORD_FILE", "/nonexistent"]);
    assert_eq!(told.len(), 7, "{told:#?}");
}

#[test]
fn a_missing_or_broken_file_is_named() {
    let files = Files::new();
    let missing = load(&Sources {
        toml: vec![PathBuf::from("/no/such.toml")],
        ..Sources::default()
    });
    assert!(
        missing
            .unwrap_err()
            .to_string()
            .starts_with("cannot read /no/such.toml")
    );
    let broken = load(&Sources {
        toml: vec![files.write("b.toml", "a = = 1")],
        ..Sources::default()
    });
    assert!(broken.unwrap_err().to_string().contains("b.toml"));
}

#[test]
fn keys_without_effect_are_listed_once_and_old_ones_pass() {
    let settings = load(&Sources {
        flags: pairs(&[
            ("num.io.threads", "8"),
            ("log.retention.hours", "24"),
            ("zookeeper.connect", "zk:2181"),
            ("rsm.config.bucket", "b"),
            ("num.partitions", "3"),
        ]),
        ..Sources::default()
    })
    .unwrap();
    let names: Vec<&str> = settings.without_effect().iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "log.retention.hours",
            "num.io.threads",
            "rsm.config.bucket",
            "zookeeper.connect"
        ]
    );
}

#[test]
fn secrets_come_from_files_and_are_not_shown() {
    let files = Files::new();
    let path = files.write("secret", "hunter2\n");
    let settings = from_env(&[("KAFKA_SSL_KEY_PASSWORD_FILE", path.to_str().unwrap())]).unwrap();
    assert_eq!(settings.text("ssl.key.password").as_deref(), Some("hunter2"));
    let summary = settings.summary().join("\n");
    assert!(
        summary.contains("ssl.key.password = [hidden]") && !summary.contains("hunter2"),
        "{summary}"
    );
}

#[test]
fn numbers_without_a_limit() {
    let settings = load(&Sources {
        flags: pairs(&[("queued.max.request.bytes", "-1")]),
        ..Sources::default()
    })
    .unwrap();
    assert_eq!(settings.size("queued.max.request.bytes"), usize::MAX);
    assert_eq!(settings.millis("log.retention.ms"), None);
    assert_eq!(
        settings
            .millis("connections.max.idle.ms")
            .map(|time| time.as_secs()),
        Some(600)
    );
    assert_eq!(
        (settings.node_id(), settings.log_dirs()),
        (None, vec![PathBuf::from("/tmp/kafka-logs")])
    );
}
