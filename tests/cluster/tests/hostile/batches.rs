//! Batches as no client library makes them, and how they are offered.

use bytes::{BufMut, Bytes, BytesMut};
use strom_cluster::requests::*;
use strom_records::{BatchHeader, HEADER_LEN, compute_crc};

use crate::target::Target;

pub(crate) const CRC_AT: usize = 17;

/// A batch with a changed header and a CRC that is right for it.
pub(crate) fn changed(change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let good = batch(&["a", "b", "c"]);
    let mut header = BatchHeader::parse(&good).unwrap();
    change(&mut header);
    sealed(header, &good[HEADER_LEN..])
}

/// A batch of these record bytes with a right length and CRC.
pub(crate) fn sealed(header: BatchHeader, records: &[u8]) -> Bytes {
    let mut bytes = BytesMut::from(header.encode().as_slice());
    bytes.put_slice(records);
    reseal(bytes)
}

fn reseal(mut bytes: BytesMut) -> Bytes {
    let crc = compute_crc(&bytes).unwrap();
    bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

/// The good batch with some bytes overwritten, CRC untouched.
pub(crate) fn overwritten(at: usize, with: &[u8]) -> Bytes {
    let mut bytes = BytesMut::from(&batch(&["a", "b", "c"])[..]);
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes.freeze()
}

/// Produces what must be refused with one of `codes`; nothing may have been appended.
pub(crate) async fn refused(target: &mut Target, topic: &str, name: &str, records: Bytes, codes: &[i16]) {
    let mut raw = target.known().await;
    let end = list_offset(&mut raw, topic, 0, -1).await.offset;
    target
        .survives(name, async {
            let reply = produce(&mut raw, topic, 0, records).await;
            assert!(
                codes.contains(&reply.error_code),
                "{name}: error {}, not one of {codes:?}",
                reply.error_code
            );
            assert_eq!(reply.base_offset, -1, "{name}");
            let now = list_offset(&mut raw, topic, 0, -1).await.offset;
            assert_eq!(now, end, "{name}: something was appended");
        })
        .await;
}
