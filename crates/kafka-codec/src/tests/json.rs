//! Messages as Kafka's `JsonConverter` prints them.

use bytes::Bytes;
use serde_json::Value;
use uuid::Uuid;

use crate::ByteStr;

pub(super) trait ToJson {
    fn json(&self, v: i16) -> Value;
}

macro_rules! numbers {
    ($($ty:ty)*) => {$(
        impl ToJson for $ty {
            fn json(&self, _: i16) -> Value {
                Value::from(*self)
            }
        }
    )*};
}

numbers!(bool i8 i16 u16 i32 i64 f64);

impl ToJson for ByteStr {
    fn json(&self, _: i16) -> Value {
        Value::from(self.as_str())
    }
}

impl ToJson for Bytes {
    fn json(&self, _: i16) -> Value {
        let mut text = base64(
            self,
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
        );
        while !text.len().is_multiple_of(4) {
            text.push('=');
        }
        Value::from(text)
    }
}

impl ToJson for Uuid {
    fn json(&self, _: i16) -> Value {
        let text = base64(
            self.as_bytes(),
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
        );
        Value::from(text)
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn json(&self, v: i16) -> Value {
        self.iter().map(|element| element.json(v)).collect()
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn json(&self, v: i16) -> Value {
        self.as_ref().map_or(Value::Null, |value| value.json(v))
    }
}

/// Kafka prints no record data, only whether it is there.
pub(super) fn records(value: Option<&Bytes>) -> Value {
    value.map_or(Value::Null, |_| Value::from(""))
}

/// Without padding.
fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group
            .iter()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for i in 0..=group.len() {
            text.push(char::from(alphabet[(bits >> (18 - 6 * i) & 0x3f) as usize]));
        }
    }
    text
}
