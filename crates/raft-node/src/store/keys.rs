//! How keys and values look in RocksDB, each value under its own CRC-32C.

use bytes::Bytes;
use protobuf::Message;
use raft::eraftpb::Entry;

use crate::snapshot::SnapshotMeta;
use crate::store::StoreError;

/// Column family of the entries, keyed by big-endian index. The rest is in the default one.
pub(crate) const LOG: &str = "log";

pub(crate) const IDENTITY: &[u8] = b"identity";
pub(crate) const INTRODUCED: &[u8] = b"introduced";
pub(crate) const HARD_STATE: &[u8] = b"hard_state";
pub(crate) const CONF_STATE: &[u8] = b"conf_state";
pub(crate) const CUT: &[u8] = b"cut";
pub(crate) const SNAPSHOT: &[u8] = b"snapshot";
pub(crate) const PIN: &[u8] = b"pin/";
const CHUNK: &[u8] = b"chunk/";

pub(crate) fn pin(raft_id: u64) -> Vec<u8> {
    [PIN, &raft_id.to_be_bytes()].concat()
}

/// `chunk/`, then snapshot index and chunk number, big-endian.
pub(crate) fn chunk(snapshot: u64, number: u32) -> Vec<u8> {
    [CHUNK, &snapshot.to_be_bytes(), &number.to_be_bytes()].concat()
}

/// Below the first and above the last chunk key.
pub(crate) fn chunk_bounds() -> (Vec<u8>, Vec<u8>) {
    (CHUNK.to_vec(), b"chunk0".to_vec())
}

/// CRC-32C of the payload, big-endian, then the payload.
pub(crate) fn seal(payload: &[u8]) -> Vec<u8> {
    [&crc32c::crc32c(payload).to_be_bytes(), payload].concat()
}

pub(crate) fn unseal<'a>(value: &'a [u8], what: &str) -> Result<&'a [u8], StoreError> {
    match value.split_first_chunk::<4>() {
        Some((crc, payload)) if u32::from_be_bytes(*crc) == crc32c::crc32c(payload) => Ok(payload),
        _ => Err(StoreError::Corrupt(format!("{what} fails its CRC"))),
    }
}

/// An entry under the CRC of its index, the term before it and itself: a value that was moved, or whose
/// predecessor is another one, does not read back.
pub(crate) fn seal_entry(entry: &Entry, term_before: u64) -> Result<Vec<u8>, StoreError> {
    let mut payload = entry.index.to_be_bytes().to_vec();
    payload.extend_from_slice(&term_before.to_be_bytes());
    entry.write_to_vec(&mut payload)?;
    Ok(seal(&payload))
}

/// The entry stored under `index`, with the term of the one before it.
pub(crate) fn unseal_entry(index: u64, value: &[u8]) -> Result<(Entry, u64), StoreError> {
    let broken = || StoreError::Corrupt(format!("entry {index} is not what was written"));
    let payload = unseal(value, &format!("entry {index}"))?;
    let (stored_index, rest) = payload.split_first_chunk::<8>().ok_or_else(broken)?;
    let (term_before, encoded) = rest.split_first_chunk::<8>().ok_or_else(broken)?;
    let entry = Entry::parse_from_carllerche_bytes(&Bytes::copy_from_slice(encoded))?;
    if u64::from_be_bytes(*stored_index) != index || entry.index != index {
        return Err(broken());
    }
    Ok((entry, u64::from_be_bytes(*term_before)))
}

pub(crate) fn index_of(key: &[u8]) -> Result<u64, StoreError> {
    let bytes =
        <[u8; 8]>::try_from(key).map_err(|_| StoreError::Corrupt("a log key is not an index".into()))?;
    Ok(u64::from_be_bytes(bytes))
}

pub(crate) fn encode_numbers(numbers: &[u64]) -> Vec<u8> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    seal(&bytes)
}

/// Exactly `N` numbers.
pub(crate) fn decode_numbers<const N: usize>(value: &[u8], what: &str) -> Result<[u64; N], StoreError> {
    let payload = unseal(value, what)?;
    let (words, rest) = payload.as_chunks::<8>();
    let numbers: Vec<u64> = words.iter().map(|word| u64::from_be_bytes(*word)).collect();
    match <[u64; N]>::try_from(numbers) {
        Ok(numbers) if rest.is_empty() => Ok(numbers),
        _ => Err(StoreError::Corrupt(format!("{what} has the wrong size"))),
    }
}

pub(crate) fn encode_meta(meta: &SnapshotMeta) -> Vec<u8> {
    encode_numbers(&[meta.index, meta.term, u64::from(meta.chunks), meta.bytes])
}

pub(crate) fn decode_meta(value: &[u8]) -> Result<SnapshotMeta, StoreError> {
    let [index, term, chunks, bytes] = decode_numbers::<4>(value, "the snapshot pointer")?;
    let chunks = u32::try_from(chunks).map_err(|_| StoreError::Corrupt("the snapshot pointer".into()))?;
    Ok(SnapshotMeta {
        index,
        term,
        chunks,
        bytes,
    })
}
