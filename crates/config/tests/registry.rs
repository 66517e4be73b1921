//! The key table as a whole: complete, well-formed, and consistent with itself.

use std::collections::BTreeMap;

use strom_config::{AlterOp, BrokerLayers, ConfigMap, Effect, Effective, Key, Kind, Scope, Update, registry};

fn squash(name: &str) -> String {
    name.to_ascii_uppercase().replace(['.', '-'], "_")
}

#[test]
fn every_key_of_kafka_4_3_1_is_there() {
    let count = |scope| {
        registry()
            .keys(scope)
            .filter(|key| !key.name.starts_with("strom.") && key.area != "Authorization")
            .count()
    };
    // The sizes of Kafka 4.3.1's own ConfigDefs.
    assert_eq!(count(Scope::Topic), 33);
    assert_eq!(count(Scope::Broker), 340);
    assert_eq!(count(Scope::Group), 17);
    assert_eq!(count(Scope::ClientMetrics), 3);
    assert_eq!(count(Scope::UserClientQuota), 4);
    assert_eq!(count(Scope::IpQuota), 1);
}

#[test]
fn every_default_is_a_value_of_its_type_and_within_bounds() {
    for key in registry().all() {
        let Some(text) = key.default else {
            assert!(key.default_value().is_none(), "{}", key.name);
            continue;
        };
        assert!(!key.required, "{}", key.name);
        let value = key
            .default_value()
            .unwrap_or_else(|| panic!("{} default {text:?}", key.name));
        assert_eq!(value.to_string(), text, "{} prints as it is written", key.name);
        key.parse(text).unwrap();
    }
}

#[test]
fn descriptions_are_one_sentence_of_sane_length() {
    for key in registry().all() {
        assert!((10..=160).contains(&key.doc.len()), "{}: {}", key.name, key.doc);
        assert!(!key.doc.contains('|'), "{}", key.name);
    }
}

#[test]
fn synonyms_name_broker_keys_and_agree_about_the_default() {
    let nothing = ConfigMap::new();
    for key in registry().all() {
        for synonym in &key.synonyms {
            let behind = registry()
                .get(Scope::Broker, synonym.name)
                .unwrap_or_else(|| panic!("{} has the synonym {}", key.name, synonym.name));
            assert!(synonym.factor >= 1);
            if synonym.factor == 1 && key.scope != Scope::Broker {
                assert!(
                    behind.kind == key.kind || (behind.kind == Kind::Int && key.kind == Kind::Long),
                    "{} and {}",
                    key.name,
                    synonym.name
                );
            }
        }
    }
    // With nothing set, a topic gets its table's default, whichever way it is reached.
    let topic = Effective::topic(&nothing, BrokerLayers::default());
    for key in registry().topic_keys() {
        let (value, _) = topic.value(key.name).unwrap();
        assert_eq!(Some(value), key.default_value(), "{}", key.name);
    }
    let group = Effective::group(&nothing, BrokerLayers::default());
    for key in registry().group_keys() {
        let (value, _) = group.value(key.name).unwrap();
        assert_eq!(Some(value), key.default_value(), "{}", key.name);
    }
}

#[test]
fn a_topic_key_and_the_broker_key_behind_it_have_the_same_effect() {
    for key in registry().topic_keys() {
        let Some(first) = key.synonyms.first() else {
            continue;
        };
        let behind = registry().get(Scope::Broker, first.name).unwrap();
        // Of a topic's own value nothing is known of a log whose topic is gone.
        if key.name == "file.delete.delay.ms" {
            continue;
        }
        assert_eq!(behind.effect, key.effect, "{} and {}", key.name, first.name);
    }
}

#[test]
fn environment_names_are_not_ambiguous() {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    let retired = registry()
        .all_retired()
        .filter(|retired| retired.scope == Scope::Broker);
    let names = registry()
        .broker_keys()
        .map(|key| key.name)
        .chain(retired.map(|retired| retired.name));
    for name in names {
        if let Some(other) = seen.insert(squash(name), name) {
            panic!("{name} and {other} are one environment variable");
        }
    }
    // STROM_X is strom.x where there is one, else x: only this Kafka key is out of reach under that prefix.
    let hidden: Vec<&str> = registry()
        .broker_keys()
        .filter_map(|key| key.name.strip_prefix("strom."))
        .filter(|short| seen.contains_key(&squash(short)))
        .collect();
    assert_eq!(hidden, ["broker.session.timeout.ms"]);
}

#[test]
fn listener_prefixes_are_understood() {
    let get = |name| registry().get(Scope::Broker, name).map(|key: &Key| key.name);
    assert_eq!(
        get("listener.name.internal.ssl.keystore.location"),
        Some("ssl.keystore.location")
    );
    assert_eq!(
        get("listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config"),
        Some("sasl.jaas.config")
    );
    assert_eq!(get("listener.name.internal.nonsense"), None);
    assert_eq!(get("listener.name.x.y.num.partitions"), None);
    assert_eq!(get("listener.name."), None);
}

#[test]
fn the_first_versions_promises_are_marked() {
    for name in [
        "num.partitions",
        "message.max.bytes",
        "socket.request.max.bytes",
        "listeners",
    ] {
        assert_eq!(
            registry().get(Scope::Broker, name).unwrap().effect,
            Effect::Honoured
        );
    }
    for name in ["num.io.threads", "sasl.kerberos.kinit.cmd"] {
        assert_eq!(
            registry().get(Scope::Broker, name).unwrap().effect,
            Effect::Ignored
        );
    }
    assert_eq!(
        registry().get(Scope::Broker, "node.id").unwrap().update,
        Update::ReadOnly
    );
    assert!(
        registry()
            .retired(Scope::Topic, "message.format.version")
            .is_some()
    );
    assert_eq!(AlterOp::from_wire(3), Some(AlterOp::Subtract));
}
