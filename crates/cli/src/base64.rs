//! Base64, the two alphabets: standard with padding for bytes in JSON, URL-safe without for topic ids.

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// RFC 4648 section 4.
pub(crate) fn standard(bytes: &[u8]) -> String {
    let mut text = encode(bytes, STANDARD);
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// A topic or directory id as Kafka's tools print it.
pub(crate) fn kafka_uuid(id: uuid::Uuid) -> String {
    encode(id.as_bytes(), URL_SAFE)
}

fn encode(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..=chunk.len() {
            let sextet = (word >> (18 - 6 * digit)) & 0x3f;
            let letter = usize::try_from(sextet).ok().and_then(|index| alphabet.get(index));
            text.extend(letter.map(|&letter| char::from(letter)));
        }
    }
    text
}

/// Reads the standard alphabet, with padding.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut word, mut bits) = (0_u32, 0_u32);
    for letter in digits.bytes() {
        let sextet = STANDARD.iter().position(|&known| known == letter)?;
        word = word << 6 | u32::try_from(sextet).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((word >> bits) & 0xff).ok()?);
        }
    }
    // What is left over must be padding.
    (word & ((1 << bits) - 1) == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4648_vectors() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ] {
            assert_eq!(standard(plain.as_bytes()), encoded);
            assert_eq!(decode(encoded).as_deref(), Some(plain.as_bytes()));
        }
        for bad in ["A", "AAA", "A===", "Zh==", "Z*==", "=AAA", "AA=A"] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
        assert_eq!(
            kafka_uuid(uuid::Uuid::from_bytes([0xff; 16])),
            "_____________________w"
        );
        assert_eq!(kafka_uuid(uuid::Uuid::nil()), "AAAAAAAAAAAAAAAAAAAAAA");
    }
}
