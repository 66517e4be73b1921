//! `meta.properties`: whose directory this is; and the marker of a clean stop.

use std::io;
use std::path::Path;

use strom_types::BrokerEpoch;
use uuid::Uuid;

use crate::error::LogError;
use crate::sealed_text::{number, seal, unseal};
use crate::storage::{Storage, read_file, remove_file_if_exists, replace_file};

const META_FILE: &str = "meta.properties";
const META_BYTES_MAX: u64 = 64 << 10;
const CLEAN_FILE: &str = ".clean-shutdown";
const CLEAN_VERSION_LINE: &str = "strom-clean-shutdown 1";

/// Kafka's keys, version 1, and two of our own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Meta {
    pub(crate) cluster_id: Option<String>,
    pub(crate) node_id: i32,
    pub(crate) directory_id: Uuid,
    /// `broker.epoch`: of the last registration.
    pub(crate) broker_epoch: Option<BrokerEpoch>,
    /// `keep.strays`: epochs have gone back, so the controllers once knew more. Ends only by an operator's hand.
    pub(crate) keep_strays: bool,
}

impl Meta {
    /// Reads the file and compares; writes it where it is missing or did not know the cluster yet.
    pub(crate) fn open(
        storage: &dyn Storage,
        dir: &Path,
        cluster_id: Option<&str>,
        node_id: i32,
    ) -> Result<Self, LogError> {
        let path = dir.join(META_FILE);
        let bytes =
            read_file(storage, &path, META_BYTES_MAX).map_err(|error| LogError::io("read", &path, error))?;
        let found = match bytes {
            None => None,
            Some(bytes) => Some(Meta::parse(&bytes).ok_or_else(|| LogError::Malformed {
                path: path.clone(),
                what: "not a meta.properties of version 1 with node.id and directory.id".to_owned(),
            })?),
        };
        let mut meta = match &found {
            Some(meta) => meta.clone(),
            None => Meta {
                cluster_id: None,
                node_id,
                directory_id: Uuid::new_v4(),
                broker_epoch: None,
                keep_strays: false,
            },
        };
        if meta.node_id != node_id {
            return Err(mismatch(
                &path,
                "node.id",
                meta.node_id.to_string(),
                node_id.to_string(),
            ));
        }
        meta.set_cluster_id(&path, cluster_id)?;
        if found.as_ref() != Some(&meta) {
            meta.write(storage, dir)?;
        }
        Ok(meta)
    }

    /// Takes the cluster's id where none is known yet.
    pub(crate) fn set_cluster_id(&mut self, path: &Path, cluster_id: Option<&str>) -> Result<(), LogError> {
        match (&self.cluster_id, cluster_id) {
            (Some(found), Some(expected)) if found != expected => {
                Err(mismatch(path, "cluster.id", found.clone(), expected.to_owned()))
            }
            (None, Some(new)) => {
                self.cluster_id = Some(new.to_owned());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes the epoch of a new registration: an index in the metadata log, so that it rises as long as that is the same.
    pub(crate) fn set_broker_epoch(&mut self, epoch: BrokerEpoch) {
        self.keep_strays |= self.broker_epoch.is_some_and(|last| epoch <= last);
        self.broker_epoch = Some(epoch);
    }

    pub(crate) fn write(&self, storage: &dyn Storage, dir: &Path) -> Result<(), LogError> {
        let mut text = format!(
            "version=1\nnode.id={}\ndirectory.id={}\n",
            self.node_id, self.directory_id
        );
        if let Some(cluster_id) = &self.cluster_id {
            text.push_str(&format!("cluster.id={cluster_id}\n"));
        }
        if let Some(epoch) = self.broker_epoch {
            text.push_str(&format!("broker.epoch={epoch}\n"));
        }
        if self.keep_strays {
            text.push_str("keep.strays=true\n");
        }
        let path = dir.join(META_FILE);
        replace_file(storage, &path, text.as_bytes(), true)
            .map_err(|error| LogError::io("write", &path, error))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let value = |key: &str| {
            text.lines()
                .find_map(|line| line.split_once('=').filter(|(k, _)| k.trim() == key))
                .map(|(_, v)| v.trim())
        };
        if value("version")? != "1" {
            return None;
        }
        Some(Meta {
            cluster_id: value("cluster.id").map(str::to_owned),
            node_id: value("node.id")?.parse().ok()?,
            directory_id: value("directory.id")?.parse().ok()?,
            broker_epoch: match value("broker.epoch") {
                Some(epoch) => Some(BrokerEpoch(epoch.parse().ok()?)),
                None => None,
            },
            keep_strays: value("keep.strays") == Some("true"),
        })
    }
}

fn mismatch(path: &Path, key: &'static str, found: String, expected: String) -> LogError {
    LogError::MetaMismatch {
        path: path.to_owned(),
        key,
        found,
        expected,
    }
}

/// Reads the marker that the last process left, if it stopped cleanly, and removes it durably: it must not outlive the
/// first change. Gives the broker epoch and the sequence of the checkpoint that goes with it.
pub(crate) fn take_clean_marker(
    storage: &dyn Storage,
    dir: &Path,
) -> Result<Option<(BrokerEpoch, u64)>, LogError> {
    let path = dir.join(CLEAN_FILE);
    let take = || -> io::Result<Option<Vec<u8>>> {
        let bytes = read_file(storage, &path, META_BYTES_MAX)?;
        if bytes.is_some() {
            remove_file_if_exists(storage, &path)?;
            storage.sync_dir(dir)?;
        }
        Ok(bytes)
    };
    let bytes = take().map_err(|error| LogError::io("take", &path, error))?;
    Ok(bytes.and_then(|bytes| {
        let mut lines = unseal(&bytes)?;
        if lines.next()? != CLEAN_VERSION_LINE {
            return None;
        }
        Some((
            BrokerEpoch(number(lines.next(), "broker-epoch")?),
            number(lines.next(), "checkpoint-seq")?,
        ))
    }))
}

/// The last thing a clean stop does.
pub(crate) fn write_clean_marker(
    storage: &dyn Storage,
    dir: &Path,
    epoch: BrokerEpoch,
    seq: u64,
) -> Result<(), LogError> {
    let path = dir.join(CLEAN_FILE);
    let text = format!("{CLEAN_VERSION_LINE}\nbroker-epoch {epoch}\ncheckpoint-seq {seq}\n");
    replace_file(storage, &path, &seal(text), true).map_err(|error| LogError::io("write", &path, error))
}
