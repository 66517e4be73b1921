//! Tests of the state machine: what watchers get, snapshots, entries that do not fit.

use strom_proto::v1::metadata_record::Record;

use super::*;

fn batch(name: &str) -> Vec<u8> {
    let record = Record::Feature(v1::FeatureRecord {
        name: name.into(),
        level: 1,
    });
    let batch = v1::MetadataBatch {
        records: vec![v1::MetadataRecord { record: Some(record) }],
        timestamp_ms: 0,
    };
    batch.encode_to_vec()
}

fn kind(log: &MetadataLog, position: u64) -> String {
    match log.following(MetadataOffset(position), 3) {
        Following::Nothing => "nothing".into(),
        Following::Entries(entries) => {
            let indexes: Vec<_> = entries.iter().map(|(index, _)| index.get()).collect();
            format!("{indexes:?}")
        }
        Following::Snapshot(image) => format!("snapshot {}", image.index),
    }
}

#[test]
fn watchers_get_entries_while_they_are_there_else_a_snapshot() {
    let (mut machine, log) = MetadataMachine::new();
    assert_eq!(kind(&log, 0), "nothing");
    for index in [3, 4, 7, 8, 9] {
        machine.apply(index, &batch(&index.to_string()));
    }
    assert_eq!(kind(&log, 0), "snapshot 9");
    assert_eq!(kind(&log, 3), "[4, 7, 8]");
    assert_eq!(kind(&log, 5), "[7, 8, 9]");
    assert_eq!(kind(&log, 9), "nothing");
    assert_eq!(
        kind(&log, 12),
        "nothing",
        "the watcher has seen more than this controller"
    );
    for index in 10..10 + 2 * RECENT_ENTRIES_MAX as u64 {
        machine.apply(index, &batch("x"));
    }
    let last = 9 + 2 * RECENT_ENTRIES_MAX as u64;
    assert_eq!(kind(&log, 9), format!("snapshot {last}"));
    assert_eq!(kind(&log, last - 1), format!("[{last}]"));
    let published = log.shared.published.lock();
    assert!(published.recent.len() <= RECENT_ENTRIES_MAX && published.recent_bytes <= RECENT_BYTES_MAX);
}

#[test]
fn a_snapshot_restores_and_moves_the_floor() {
    let (mut machine, _) = MetadataMachine::new();
    machine.apply(3, &batch("a"));
    let chunks = machine.snapshot();
    let (mut other, log) = MetadataMachine::new();
    other.restore(5, chunks).expect("restores");
    assert_eq!(log.image().features().len(), 1);
    assert_eq!(log.image().index, MetadataOffset(5));
    assert_eq!(kind(&log, 3), "snapshot 5");
    other.apply(6, &batch("b"));
    assert_eq!(kind(&log, 5), "[6]");
    assert!(other.restore(9, vec![Bytes::from_static(b"\xff")]).is_err());
}

#[tokio::test]
async fn an_entry_that_does_not_fit_stops_everything_after_it() {
    for bad in [
        &b"\xff\xff"[..],
        &v1::MetadataBatch {
            records: vec![v1::MetadataRecord { record: None }],
            timestamp_ms: 0,
        }
        .encode_to_vec(),
    ] {
        let (mut machine, log) = MetadataMachine::new();
        machine.apply(1, &batch("a"));
        machine.apply(2, bad);
        machine.apply(3, &batch("b"));
        assert_eq!(log.image().index, MetadataOffset(1));
        assert!(log.failed().await.starts_with("entry 2: "));
    }
}
