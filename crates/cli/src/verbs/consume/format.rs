//! How a record is printed: kcat's `%` formats, or JSON.

use std::str::FromStr;

use serde::Serialize;
use strom_records::Record;

use crate::base64;
use crate::datetime::rfc3339;
use crate::exit::Error;
use crate::kafka::TopicPartition;
use crate::output::Output;

/// A parsed `--format`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key,
    Value,
    Headers,
    Timestamp,
    Time,
    KeyLength,
    ValueLength,
    Length,
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = Vec::new();
        let mut rest = text.chars();
        while let Some(letter) = rest.next() {
            let piece = match letter {
                '\\' => {
                    plain.push(
                        escape(&mut rest)
                            .ok_or_else(|| format!("{text:?}: what does \\ stand for there?"))?,
                    );
                    continue;
                }
                '%' => match rest.next() {
                    Some('%') => {
                        plain.push(b'%');
                        continue;
                    }
                    letter => piece(letter).ok_or_else(|| unknown(text, letter))?,
                },
                other => {
                    plain.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(piece);
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }
}

fn unknown(text: &str, letter: Option<char>) -> String {
    let shown = letter.map_or_else(String::new, String::from);
    format!("{text:?}: %{shown} is unknown; %t %p %o %k %s %h %T %D %K %S %R and %% are known")
}

fn piece(letter: Option<char>) -> Option<Piece> {
    Some(match letter? {
        't' => Piece::Topic,
        'p' => Piece::Partition,
        'o' => Piece::Offset,
        'k' => Piece::Key,
        's' | 'v' => Piece::Value,
        'h' => Piece::Headers,
        'T' => Piece::Timestamp,
        'D' => Piece::Time,
        'K' => Piece::KeyLength,
        'S' => Piece::ValueLength,
        'R' => Piece::Length,
        _ => return None,
    })
}

/// The byte that a backslash and what follows it stand for.
fn escape(rest: &mut std::str::Chars<'_>) -> Option<u8> {
    Some(match rest.next()? {
        'n' => b'\n',
        't' => b'\t',
        'r' => b'\r',
        '0' => 0,
        '\\' => b'\\',
        'x' => {
            let (high, low) = (rest.next()?.to_digit(16)?, rest.next()?.to_digit(16)?);
            u8::try_from(high * 16 + low).ok()?
        }
        _ => return None,
    })
}

/// A length as kcat prints it: -1 for null.
fn length(bytes: Option<&bytes::Bytes>) -> String {
    bytes.map_or_else(|| "-1".to_owned(), |bytes| bytes.len().to_string())
}

impl Template {
    pub(super) fn write(
        &self,
        output: &mut Output,
        key: &TopicPartition,
        record: &Record,
    ) -> Result<(), Error> {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => output.raw(text)?,
                Piece::Topic => output.raw(key.topic.as_bytes())?,
                Piece::Partition => output.raw(key.partition.to_string().as_bytes())?,
                Piece::Offset => output.raw(record.offset.to_string().as_bytes())?,
                Piece::Key => output.raw(record.key.as_deref().unwrap_or_default())?,
                Piece::Value => output.raw(record.value.as_deref().unwrap_or_default())?,
                Piece::Headers => output.raw(&headers(record))?,
                Piece::Timestamp => output.raw(record.timestamp.to_string().as_bytes())?,
                Piece::Time => output.raw(rfc3339(record.timestamp).as_bytes())?,
                Piece::KeyLength => output.raw(length(record.key.as_ref()).as_bytes())?,
                Piece::ValueLength => output.raw(length(record.value.as_ref()).as_bytes())?,
                Piece::Length => {
                    let sum = record.key.as_ref().map_or(0, bytes::Bytes::len)
                        + record.value.as_ref().map_or(0, bytes::Bytes::len);
                    output.raw(sum.to_string().as_bytes())?;
                }
            }
        }
        Ok(())
    }
}

/// `a=1,b=2`; a null value is `NULL`, as kcat prints it.
fn headers(record: &Record) -> Vec<u8> {
    let mut text = Vec::new();
    for header in record.headers.iter() {
        if !text.is_empty() {
            text.push(b',');
        }
        text.extend_from_slice(&header.key);
        text.push(b'=');
        text.extend_from_slice(header.value.as_deref().unwrap_or(b"NULL"));
    }
    text
}

/// A record as JSON. Bytes that are no UTF-8 are in the `_base64` key instead, which is left out otherwise.
#[derive(Serialize)]
struct JsonRecord<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    headers: Vec<JsonHeader>,
}

#[derive(Serialize)]
struct JsonHeader {
    key: String,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

/// The text, or else the bytes in base64.
fn text_of(bytes: Option<&bytes::Bytes>) -> (Option<&str>, Option<String>) {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => (None, None),
        Some((Ok(text), _)) => (Some(text), None),
        Some((Err(_), bytes)) => (None, Some(base64::standard(bytes))),
    }
}

pub(super) fn write_json(output: &mut Output, at: &TopicPartition, record: &Record) -> Result<(), Error> {
    let (key, key_base64) = text_of(record.key.as_ref());
    let (value, value_base64) = text_of(record.value.as_ref());
    let headers = record.headers.iter().map(|header| {
        let (value, value_base64) = text_of(header.value.as_ref());
        JsonHeader {
            key: String::from_utf8_lossy(&header.key).into_owned(),
            value: value.map(str::to_owned),
            value_base64,
        }
    });
    output.json_line(&JsonRecord {
        topic: &at.topic,
        partition: at.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        key,
        key_base64,
        value,
        value_base64,
        headers: headers.collect(),
    })
}

#[cfg(test)]
mod tests;
