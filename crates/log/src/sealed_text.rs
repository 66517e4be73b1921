//! Small text files that end in a line with the CRC-32C of what stands before it: a cut, zeroed or edited one is refused.

const SEAL: &str = "crc32c ";

/// `body` must end in a newline.
pub(crate) fn seal(mut body: String) -> Vec<u8> {
    let crc = crc32c::crc32c(body.as_bytes());
    body.push_str(&format!("{SEAL}{crc:08x}\n"));
    body.into_bytes()
}

/// The lines before the seal; `None` when the seal is missing or wrong.
pub(crate) fn unseal(bytes: &[u8]) -> Option<std::str::Lines<'_>> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let at = text.rfind('\n')? + 1;
    let (body, seal) = text.split_at_checked(at)?;
    let stored = u32::from_str_radix(seal.strip_prefix(SEAL)?, 16).ok()?;
    (stored == crc32c::crc32c(body.as_bytes())).then(|| body.lines())
}

/// The value of a `key value` line.
pub(crate) fn value<'a>(line: Option<&'a str>, key: &str) -> Option<&'a str> {
    line?.strip_prefix(key)?.strip_prefix(' ')
}

pub(crate) fn number<T: std::str::FromStr>(line: Option<&str>, key: &str) -> Option<T> {
    value(line, key)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_noticed() {
        let sealed = seal("a 1\nb 2\n".to_owned());
        assert_eq!(
            unseal(&sealed).map(Iterator::collect::<Vec<_>>),
            Some(vec!["a 1", "b 2"])
        );
        for at in 0..sealed.len() {
            assert!(unseal(&sealed[..at]).is_none(), "cut at {at}");
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(
                unseal(&changed).is_none_or(|lines| lines.eq(["a 1", "b 2"])),
                "bit at {at}"
            );
            changed[at] = 0;
            assert!(unseal(&changed).is_none(), "zero at {at}");
        }
        assert!(unseal(&[]).is_none());
    }
}
