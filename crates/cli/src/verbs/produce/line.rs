//! A line of input and the record it stands for.

use std::io::{self, BufRead};

use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;

use super::ProduceArgs;
use crate::base64;

/// Lines read ahead of the producer.
const LINES_AHEAD: usize = 1024;

/// Reads lines on a thread of their own, since standard input cannot be waited for otherwise.
pub(super) fn read_lines(mut input: impl BufRead + Send + 'static) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD);
    std::thread::spawn(move || {
        loop {
            let mut line = Vec::new();
            let read = input.read_until(b'\n', &mut line);
            let item = match read {
                Ok(0) => return,
                Ok(_) => {
                    if line.ends_with(b"\n") {
                        line.pop();
                        if line.ends_with(b"\r") {
                            line.pop();
                        }
                    }
                    Ok(line)
                }
                Err(error) => Err(error),
            };
            let failed = item.is_err();
            if sender.blocking_send(item).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// A record as a line gave it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(super) partition: Option<i32>,
    pub(super) timestamp: Option<i64>,
}

/// A line of `--json`: what `consume --json` prints, or less.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonLine {
    key: Option<Value>,
    key_base64: Option<String>,
    value: Option<Value>,
    value_base64: Option<String>,
    #[serde(default)]
    headers: JsonHeaders,
    partition: Option<i32>,
    timestamp: Option<i64>,
    /// Told by `consume`; here, the command line and the server decide.
    #[serde(rename = "topic")]
    _topic: Option<String>,
    #[serde(rename = "offset")]
    _offset: Option<i64>,
}

/// An object for people; a list where order and repeated names matter.
#[derive(Deserialize)]
#[serde(untagged)]
enum JsonHeaders {
    Object(serde_json::Map<String, Value>),
    List(Vec<JsonHeader>),
}

impl Default for JsonHeaders {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonHeader {
    key: String,
    value: Option<Value>,
    value_base64: Option<String>,
}

/// The bytes in base64 if given, else the value.
fn field(value: Option<Value>, encoded: Option<&str>) -> Result<Option<Vec<u8>>, String> {
    match encoded {
        Some(text) => base64::decode(text)
            .map(Some)
            .ok_or_else(|| format!("{text:?} is no base64")),
        None => Ok(value.and_then(bytes_of)),
    }
}

fn parse_json(line: &[u8]) -> Result<Line, String> {
    let read: JsonLine = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let headers = match read.headers {
        JsonHeaders::Object(map) => map
            .into_iter()
            .map(|(name, value)| (name.into_bytes(), bytes_of(value)))
            .collect(),
        JsonHeaders::List(list) => {
            let each = list.into_iter();
            each.map(|header| {
                Ok((
                    header.key.into_bytes(),
                    field(header.value, header.value_base64.as_deref())?,
                ))
            })
            .collect::<Result<_, String>>()?
        }
    };
    Ok(Line {
        key: field(read.key, read.key_base64.as_deref())?,
        value: field(read.value, read.value_base64.as_deref())?,
        headers,
        partition: read.partition,
        timestamp: read.timestamp,
    })
}

/// Text as it is, null as nothing, anything else as JSON.
fn bytes_of(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.into_bytes()),
        other => Some(other.to_string().into_bytes()),
    }
}

pub(super) fn parse(line: Vec<u8>, args: &ProduceArgs) -> Result<Line, String> {
    let mut record = if args.json {
        parse_json(&line)?
    } else if let Some(separator) = &args.key_separator {
        let at = find(&line, separator.as_bytes())
            .ok_or_else(|| format!("no key separator {separator:?} on the line"))?;
        let value = line.get(at + separator.len()..).unwrap_or_default().to_vec();
        let key = line.get(..at).unwrap_or_default().to_vec();
        Line {
            key: Some(key),
            value: Some(value),
            ..Default::default()
        }
    } else {
        Line {
            value: Some(line),
            ..Default::default()
        }
    };
    if record.key.is_none() {
        record.key = args.key.clone().map(String::into_bytes);
    }
    if args.null_if_empty && record.value.as_ref().is_some_and(Vec::is_empty) {
        record.value = None;
    }
    for pair in &args.headers {
        record.headers.push((
            pair.key.clone().into_bytes(),
            Some(pair.value.clone().into_bytes()),
        ));
    }
    record.partition = record.partition.or(args.partition);
    Ok(record)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return None;
    }
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests;
