//! The key table against Kafka 4.3.1's own list.

use strom_kafka_codec::ApiKey;

#[test]
fn keys_are_kafkas() {
    let file = include_str!("data/api-keys.tsv");
    let mut seen = 0;
    for line in file.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [number, name, oldest, latest, stable, listeners, flexible, ..] = columns[..] else {
            panic!("seven columns in {line}");
        };
        let key = ApiKey::from_i16(number.parse().unwrap()).unwrap();
        assert_eq!((key.name(), key.as_i16().to_string().as_str()), (name, number));
        seen += 1;
        if oldest.is_empty() {
            assert!(key.versions().is_empty(), "{name} is gone");
            continue;
        }
        assert_eq!(key.versions().to_string(), format!("{oldest}-{latest}"), "{name}");
        assert_eq!(key.latest_stable().to_string(), stable, "{name}");
        assert_eq!(key.on_broker_listener(), listeners.contains("BROKER"), "{name}");
        assert_eq!(
            key.on_controller_listener(),
            listeners.contains("CONTROLLER"),
            "{name}"
        );
        let flexible: i16 = flexible.parse().unwrap_or(i16::MAX);
        for version in key.versions().min..=key.versions().max {
            let expected = if version >= flexible { 2 } else { 1 };
            assert_eq!(key.request_header_version(version), expected, "{name} {version}");
        }
    }
    assert_eq!(seen, ApiKey::ALL.len());
    assert_eq!(ApiKey::from_i16(-1), None);
    assert_eq!(ApiKey::from_i16(93), None);
}
