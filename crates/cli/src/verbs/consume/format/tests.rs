//! Formats and the JSON form of a record.

use std::sync::{Arc, Mutex};

use strom_records::{Batch, BatchBuilder, NewRecord};

use super::*;
use crate::tests::Captured;

fn record(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&[u8], Option<&[u8]>)]) -> Record {
    let mut builder = BatchBuilder::new().base_offset(7);
    builder
        .push(&NewRecord {
            timestamp: 1_500,
            key,
            value,
            headers,
        })
        .unwrap();
    let batch = Batch::first_of(&builder.build().unwrap()).unwrap().unwrap();
    batch.records(1024).unwrap().next().unwrap().unwrap()
}

fn shown(record: &Record, write: impl Fn(&mut Output, &TopicPartition, &Record)) -> String {
    let captured = Captured(Arc::new(Mutex::default()));
    let mut output = Output::to_writers(captured.clone(), std::io::sink());
    write(&mut output, &TopicPartition::new("orders", 2), record);
    captured.text()
}

fn formatted(format: &str, record: &Record) -> String {
    let template: Template = format.parse().unwrap();
    shown(record, |output, key, record| {
        template.write(output, key, record).unwrap();
    })
}

#[test]
fn formats_are_kcats() {
    let full = record(Some(b"k"), Some(b"value"), &[(b"a", Some(b"1")), (b"a", None)]);
    assert_eq!(
        formatted("%t/%p@%o %k=%s [%h] %T %D %K %S %R 100%%\\n\\x41\\\\\\t", &full),
        "orders/2@7 k=value [a=1,a=NULL] 1500 1970-01-01T00:00:01.500Z 1 5 6 100%\nA\\\t"
    );
    let empty = record(None, None, &[]);
    assert_eq!(
        formatted("%k|%s|%h|%K|%S|%R", &empty),
        "||| -1|-1|0".replace(' ', "")
    );
    for bad in ["%", "%q", "\\", "\\q", "\\x4", "\\xzz"] {
        assert!(bad.parse::<Template>().is_err(), "{bad:?}");
    }
}

#[test]
fn json_keeps_bytes_that_are_no_text() {
    let json = |record: &Record| {
        shown(record, |output, key, record| {
            write_json(output, key, record).unwrap();
        })
    };
    assert_eq!(
        json(&record(Some(b"k"), None, &[(b"h", Some(b"1")), (b"n", None)])),
        concat!(
            r#"{"topic":"orders","partition":2,"offset":7,"timestamp":1500,"key":"k","value":null,"#,
            r#""headers":[{"key":"h","value":"1"},{"key":"n","value":null}]}"#,
            "\n"
        )
    );
    assert_eq!(
        json(&record(None, Some(&[0xff, 0x00]), &[])),
        concat!(
            r#"{"topic":"orders","partition":2,"offset":7,"timestamp":1500,"key":null,"value":null,"#,
            r#""value_base64":"/wA=","headers":[]}"#,
            "\n"
        )
    );
}
