//! Tests of the whole node: RocksDB on a real disk, threads, real time, and gRPC.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::field_reassign_with_default, reason = "raft's messages are generated")]

mod grpc;
mod members;
mod single;

use std::time::Duration;

use bytes::Bytes;
use strom_raft_node::{RaftHandle, RaftStatus, RestoreError, RunError, StateMachine};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Counts what it applied and keeps the last entries' sum; the snapshot is padded to be worth streaming.
#[derive(Default, Clone, PartialEq, Debug)]
pub(crate) struct Tally {
    pub(crate) applied: u64,
    pub(crate) sum: u64,
    pub(crate) padding: usize,
}

impl StateMachine for Tally {
    fn apply(&mut self, _index: u64, data: &[u8]) {
        self.applied += 1;
        self.sum = data.iter().fold(self.sum, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
        });
    }

    fn snapshot(&self) -> Vec<Bytes> {
        let mut chunks = vec![Bytes::from(format!("{} {}", self.applied, self.sum))];
        chunks.extend((0..self.padding).map(|_| Bytes::from(vec![7; 256 << 10])));
        chunks
    }

    fn restore(&mut self, _index: u64, chunks: Vec<Bytes>) -> Result<(), RestoreError> {
        let bad = || RestoreError("not a tally".into());
        let text = std::str::from_utf8(chunks.first().ok_or_else(bad)?)
            .map_err(|_| bad())?
            .to_owned();
        let (applied, sum) = text.split_once(' ').ok_or_else(bad)?;
        self.applied = applied.parse().map_err(|_| bad())?;
        self.sum = sum.parse().map_err(|_| bad())?;
        self.padding = chunks.len() - 1;
        Ok(())
    }
}

/// A node that runs until it is stopped.
pub(crate) struct Running {
    pub(crate) handle: RaftHandle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), RunError>>,
}

impl Running {
    pub(crate) fn start(node: strom_raft_node::RaftNode<Tally>, handle: RaftHandle) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(node.run(async {
            let _ = stopped.await;
        }));
        Running { handle, stop, task }
    }

    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap().unwrap();
    }
}

/// Waits until the node's status satisfies `done`.
pub(crate) async fn until(handle: &RaftHandle, what: &str, done: impl Fn(&RaftStatus) -> bool) -> RaftStatus {
    let mut status = handle.status();
    let waited = tokio::time::timeout(Duration::from_secs(20), status.wait_for(|status| done(status))).await;
    match waited {
        Ok(status) => status.unwrap().clone(),
        Err(_) => panic!("never happened: {what}; {:?}", handle.status().borrow()),
    }
}
