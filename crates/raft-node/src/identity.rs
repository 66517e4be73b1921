//! Who a member is: its node id on one particular storage, and the marker that proves the storage is still there.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use strom_types::NodeId;
use thiserror::Error;
use uuid::Uuid;

const MARKER_FILE: &str = "storage.marker";
const MARKER_HEADER: &str = "strom-raft-storage 1";

/// A raft member's id: `generation << 32 | node id + 1` (0 is no id in raft-rs). The first voters are generation 0,
/// so all of them know the whole first configuration without talking. A disk that is replaced later joins as a new
/// member of the next generation; the same generation is tied to one storage by [`StorageId`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RaftId(u64);

impl RaftId {
    /// The generation-0 id of `node`; `None` for a negative node id.
    pub fn first(node: NodeId) -> Option<RaftId> {
        u64::try_from(node.get()).ok().map(|id| RaftId(id + 1))
    }

    /// An id as raft-rs carries it; `None` for its "nobody".
    pub fn from_raft(id: u64) -> Option<RaftId> {
        (id & 0xffff_ffff != 0).then_some(RaftId(id))
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    pub fn node(self) -> Option<NodeId> {
        let low = (self.0 & 0xffff_ffff).checked_sub(1)?;
        i32::try_from(low).ok().map(NodeId)
    }
}

impl fmt::Debug for RaftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", (self.0 & 0xffff_ffff).wrapping_sub(1), self.0 >> 32)
    }
}

/// A storage's own random id, made when it is first used and lost with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorageId(Uuid);

impl StorageId {
    pub fn random() -> Self {
        StorageId(Uuid::new_v4())
    }

    pub const fn from_u128(id: u128) -> Self {
        StorageId(Uuid::from_u128(id))
    }

    /// `None` unless there are exactly 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok().map(StorageId)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for StorageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for StorageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a storage was made for. Stored in the database and, as text, beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    pub node_id: NodeId,
    pub cluster_id: String,
    pub storage: StorageId,
}

/// A data directory that must not be used by this node.
#[derive(Debug, Error)]
pub enum IdentityError {
    #[error("the data directory belongs to node {found}, not to node {wanted}")]
    OtherNode { found: NodeId, wanted: NodeId },
    #[error("the data directory belongs to cluster {found}, not to cluster {wanted}")]
    OtherCluster { found: String, wanted: String },
    #[error("storage {0} was here but its database is gone: this member must not vote again under its id")]
    StorageLost(StorageId),
    #[error("the marker file names storage {marker}, the database storage {database}")]
    MarkerMismatch { marker: StorageId, database: StorageId },
    #[error("{MARKER_FILE} cannot be read as a storage marker")]
    BadMarker,
    #[error("storage marker: {0}")]
    Io(#[from] io::Error),
}

impl Identity {
    pub(crate) fn encode(&self) -> String {
        format!(
            "{MARKER_HEADER}\nnode {}\nstorage {}\ncluster {}\n",
            self.node_id, self.storage, self.cluster_id
        )
    }

    pub(crate) fn decode(text: &str) -> Option<Identity> {
        let mut lines = text.lines();
        if lines.next()? != MARKER_HEADER {
            return None;
        }
        let node = lines.next()?.strip_prefix("node ")?.parse().ok()?;
        let storage = Uuid::try_parse(lines.next()?.strip_prefix("storage ")?).ok()?;
        let cluster = lines.next()?.strip_prefix("cluster ")?;
        Some(Identity {
            node_id: NodeId(node),
            cluster_id: cluster.to_owned(),
            storage: StorageId(storage),
        })
    }

    pub(crate) fn check(&self, node_id: NodeId, cluster_id: &str) -> Result<(), IdentityError> {
        if self.node_id != node_id {
            return Err(IdentityError::OtherNode {
                found: self.node_id,
                wanted: node_id,
            });
        }
        if self.cluster_id != cluster_id {
            return Err(IdentityError::OtherCluster {
                found: self.cluster_id.clone(),
                wanted: cluster_id.to_owned(),
            });
        }
        Ok(())
    }
}

/// Reads the marker file; `None` when there is none.
pub(crate) fn read_marker(data_dir: &Path) -> Result<Option<Identity>, IdentityError> {
    match fs::read_to_string(data_dir.join(MARKER_FILE)) {
        Ok(text) => Identity::decode(&text).map(Some).ok_or(IdentityError::BadMarker),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Writes the marker file: temporary file, fsync, rename, fsync of the directory.
pub(crate) fn write_marker(data_dir: &Path, identity: &Identity) -> Result<(), IdentityError> {
    let temporary = data_dir.join(format!("{MARKER_FILE}.tmp"));
    let mut file = File::create(&temporary)?;
    file.write_all(identity.encode().as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, data_dir.join(MARKER_FILE))?;
    File::open(data_dir)?.sync_all()?;
    Ok(())
}

/// Compares marker file and database. The database's key is written (synced) before the file, so a file without a
/// database means a lost database, while a database without a file is only an interrupted first start.
pub(crate) fn reconcile(marker: Option<&Identity>, database: Option<&Identity>) -> Result<(), IdentityError> {
    match (marker, database) {
        (Some(marker), None) => Err(IdentityError::StorageLost(marker.storage)),
        (Some(marker), Some(database)) if marker.storage != database.storage => {
            Err(IdentityError::MarkerMismatch {
                marker: marker.storage,
                database: database.storage,
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(storage: u128) -> Identity {
        Identity {
            node_id: NodeId(3),
            cluster_id: "c".into(),
            storage: StorageId::from_u128(storage),
        }
    }

    #[test]
    fn raft_ids_name_their_node() {
        let id = RaftId::first(NodeId(0)).unwrap();
        assert_eq!((id.get(), id.node()), (1, Some(NodeId(0))));
        assert_eq!(RaftId::first(NodeId(-1)), None);
        assert_eq!(RaftId::from_raft(0), None);
        assert_eq!(RaftId::from_raft(7 << 32), None);
        assert_eq!(RaftId::from_raft((7 << 32) | 3).unwrap().node(), Some(NodeId(2)));
    }

    #[test]
    fn markers_are_written_and_compared() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_marker(dir.path()).unwrap(), None);
        write_marker(dir.path(), &identity(1)).unwrap();
        assert_eq!(read_marker(dir.path()).unwrap(), Some(identity(1)));
        assert!(matches!(
            reconcile(Some(&identity(1)), None),
            Err(IdentityError::StorageLost(_))
        ));
        assert!(reconcile(None, Some(&identity(1))).is_ok());
        assert!(reconcile(Some(&identity(1)), Some(&identity(2))).is_err());
        assert!(identity(1).check(NodeId(4), "c").is_err());
        assert!(identity(1).check(NodeId(3), "d").is_err());
        fs::write(dir.path().join(MARKER_FILE), "torn").unwrap();
        assert!(matches!(read_marker(dir.path()), Err(IdentityError::BadMarker)));
    }
}
