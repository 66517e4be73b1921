//! The cluster's id: given, found in the data directory, or made up at the first start.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use uuid::Uuid;

use crate::error::BuildError;

const FILE: &str = "cluster.id";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The id to start with. It is kept in the data directory, so that a later start need not be told; an id that
/// differs from the one the data was made with is refused by the raft storage.
pub(crate) fn resolve(given: Option<&str>, alone: bool, data_dir: &Path) -> Result<String, BuildError> {
    let io = |source| BuildError::Io {
        path: data_dir.join(FILE),
        source,
    };
    fs::create_dir_all(data_dir).map_err(io)?;
    let kept = read(data_dir).map_err(io)?;
    let id = match (given, &kept) {
        (Some(given), _) => check(given)?,
        (None, Some(kept)) => check(kept)?,
        (None, None) if alone => random(),
        (None, None) => return Err(BuildError::NoClusterId),
    };
    if kept.is_none() {
        write(data_dir, &id).map_err(io)?;
    }
    Ok(id)
}

fn check(id: &str) -> Result<String, BuildError> {
    let good = (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if good {
        Ok(id.to_owned())
    } else {
        Err(BuildError::BadClusterId(id.to_owned()))
    }
}

fn read(data_dir: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(data_dir.join(FILE)) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(data_dir: &Path, id: &str) -> io::Result<()> {
    let temporary = data_dir.join(format!("{FILE}.tmp"));
    let mut file = File::create(&temporary)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    fs::rename(&temporary, data_dir.join(FILE))?;
    File::open(data_dir)?.sync_all()
}

/// 22 characters of URL-safe base64, as Kafka's `Uuid.randomUuid` prints it; never one that reads as an option.
fn random() -> String {
    loop {
        let id = base64(Uuid::new_v4().as_bytes());
        if !id.starts_with('-') {
            return id;
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let at = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for n in 0..=group.len() {
            let shift = 18 - 6 * u32::try_from(n).unwrap_or(0);
            let digit = usize::try_from(bits >> shift & 63).unwrap_or(0);
            text.extend(ALPHABET.get(digit).map(|letter| char::from(*letter)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_up_once_and_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let made = resolve(None, true, dir.path()).expect("made up");
        assert_eq!(made.len(), 22);
        assert_eq!(resolve(None, true, dir.path()).expect("kept"), made);
        assert_eq!(resolve(None, false, dir.path()).expect("kept"), made);
        let other = tempfile::tempdir().expect("a directory");
        assert!(matches!(
            resolve(None, false, other.path()),
            Err(BuildError::NoClusterId)
        ));
        for bad in ["", "two words", "new\nline", &"x".repeat(65)] {
            assert!(resolve(Some(bad), true, other.path()).is_err(), "{bad:?}");
        }
        assert_eq!(resolve(Some("mine"), false, other.path()).expect("given"), "mine");
    }

    #[test]
    fn base64_as_kafka_prints_it() {
        assert_eq!(base64(&[0; 16]), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(base64(&[0xff; 16]), "_____________________w");
        assert_eq!(base64(b"Ma"), "TWE");
        assert_eq!(base64(b"Man"), "TWFu");
    }
}
