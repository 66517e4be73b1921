//! Lines into records.

use clap::Parser;

use super::*;
use crate::Verb;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

fn args(flags: &[&str]) -> ProduceArgs {
    let words = ["strom", "produce", "orders"].iter().chain(flags);
    match Cli::try_parse_from(words).unwrap().verb {
        Verb::Produce(args) => *args,
        other => panic!("{other:?}"),
    }
}

fn read(flags: &[&str], line: &str) -> Result<Line, String> {
    parse(line.as_bytes().to_vec(), &args(flags))
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    Some(text.as_bytes().to_vec())
}

#[test]
fn plain_lines_and_keys() {
    assert_eq!(
        read(&[], "a:b"),
        Ok(Line {
            value: bytes("a:b"),
            ..Default::default()
        })
    );
    let keyed = Line {
        key: bytes("a"),
        value: bytes("b::c"),
        ..Default::default()
    };
    assert_eq!(read(&["-K", "::"], "a::b::c"), Ok(keyed));
    assert!(
        read(&["-K", "::"], "a:b")
            .unwrap_err()
            .contains("no key separator")
    );
    assert!(read(&["-K", ""], "ab").is_err());
    let flagged = read(&["-k", "key", "-H", "h=1", "-p", "3", "-Z"], "").unwrap();
    assert_eq!(
        (flagged.key, flagged.value, flagged.partition),
        (bytes("key"), None, Some(3))
    );
    assert_eq!(flagged.headers, [(b"h".to_vec(), bytes("1"))]);
}

#[test]
fn json_lines() {
    let line = r#"{"key":"k","value":{"a":[1]},"headers":{"h":"1","n":null},"partition":2,"timestamp":9}"#;
    let read_line = read(&["--json"], line).unwrap();
    assert_eq!(
        (read_line.key, read_line.value),
        (bytes("k"), bytes(r#"{"a":[1]}"#))
    );
    assert_eq!(
        read_line.headers,
        [(b"h".to_vec(), bytes("1")), (b"n".to_vec(), None)]
    );
    assert_eq!((read_line.partition, read_line.timestamp), (Some(2), Some(9)));
    assert_eq!(read(&["--json"], r#"{"value":null}"#).unwrap().value, None);
    for bad in ["", "x", "[]", r#"{"valeu":1}"#, r#"{"partition":"x"}"#] {
        assert!(read(&["--json"], bad).is_err(), "{bad:?}");
    }
}

/// `consume -J` and `produce -J` are each other's inverse.
#[test]
fn what_consume_prints_is_read_back() {
    let line = r#"{"topic":"t","partition":0,"offset":7,"timestamp":1500,"key":"k","value":null,"value_base64":"/wA=",
        "headers":[{"key":"h","value":"1"},{"key":"h","value":null}]}"#;
    let back = read(&["--json"], line).unwrap();
    assert_eq!((back.key, back.value), (bytes("k"), Some(vec![0xff, 0x00])));
    assert_eq!(back.headers, [(b"h".to_vec(), bytes("1")), (b"h".to_vec(), None)]);
    assert!(read(&["--json"], r#"{"value_base64":"*"}"#).is_err());
}

#[tokio::test]
async fn lines_end_with_newline_or_crlf_or_nothing() {
    let mut lines = read_lines(io::Cursor::new(b"a\nb\r\n\nlast".to_vec()));
    let mut seen = Vec::new();
    while let Some(line) = lines.recv().await {
        seen.push(String::from_utf8(line.unwrap()).unwrap());
    }
    assert_eq!(seen, ["a", "b", "", "last"]);
}
