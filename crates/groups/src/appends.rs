//! Appends that the log has not answered yet, in token order, and what waits for each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use strom_types::ErrorCode;

use crate::event::{AppendToken, RequestId};
use crate::member::Member;
use crate::record::{OffsetKey, Record};

/// What waits for an append's outcome, beside the change of state that its records are.
#[derive(Debug)]
pub(crate) enum Waiter {
    Nobody,
    OffsetCommit {
        request: RequestId,
        errors: Vec<ErrorCode>,
    },
    OffsetDelete {
        request: RequestId,
        partition_errors: Vec<ErrorCode>,
    },
    /// One group of a DeleteGroups request; `index` is its place in the reply.
    DeleteGroup {
        request: RequestId,
        index: usize,
    },
    /// The leader's assignment.
    Assignment {
        group: Arc<str>,
        assignments: BTreeMap<Arc<str>, Bytes>,
    },
    /// A static member restarted in a stable group.
    StaticJoin {
        group: Arc<str>,
        join: Box<StaticJoin>,
    },
}

/// See [`Waiter::StaticJoin`].
#[derive(Debug)]
pub(crate) struct StaticJoin {
    pub(crate) generation: i32,
    pub(crate) new_id: Arc<str>,
    /// The member as it was before, to come back to when the append fails.
    pub(crate) old: Member,
    /// The leader that a client without KIP-814 is told, so that it does not assign anew.
    pub(crate) old_leader: Option<Arc<str>>,
    pub(crate) supports_skipping_assignment: bool,
}

#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) records: Arc<[Record]>,
    pub(crate) waiter: Waiter,
    appended: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Appends {
    next: u64,
    pending: BTreeMap<AppendToken, Pending>,
    records: usize,
}

impl Appends {
    pub(crate) fn push(&mut self, records: Arc<[Record]>, waiter: Waiter) -> AppendToken {
        let token = AppendToken(self.next);
        self.next = self.next.saturating_add(1);
        self.records += records.len();
        let appended = false;
        self.pending.insert(
            token,
            Pending {
                records,
                waiter,
                appended,
            },
        );
        token
    }

    /// Records not yet answered.
    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// Notes the success of `token`; [`Appends::pop_appended`] gives it out when all before it are answered.
    pub(crate) fn mark_appended(&mut self, token: AppendToken) {
        if let Some(pending) = self.pending.get_mut(&token) {
            pending.appended = true;
        }
    }

    /// The oldest append, if it is known to be committed: records take effect in log order only.
    pub(crate) fn pop_appended(&mut self) -> Option<(AppendToken, Pending)> {
        let entry = self.pending.first_entry()?;
        if !entry.get().appended {
            return None;
        }
        let (token, pending) = entry.remove_entry();
        self.records -= pending.records.len();
        Some((token, pending))
    }

    pub(crate) fn remove(&mut self, token: AppendToken) -> Option<Pending> {
        let pending = self.pending.remove(&token)?;
        self.records -= pending.records.len();
        Some(pending)
    }

    /// Detaches what waits for `token`; its records still take effect when they are committed. Those that have no
    /// effect of their own are forgotten, lest they pile up before a log that hangs.
    pub(crate) fn give_up(&mut self, token: AppendToken) -> Option<Waiter> {
        let pending = self.pending.get_mut(&token)?;
        let inert = |record: &Record| matches!(record, Record::GroupMetadata { .. });
        if pending.records.iter().all(inert) {
            return self.remove(token).map(|pending| pending.waiter);
        }
        Some(std::mem::replace(&mut pending.waiter, Waiter::Nobody))
    }

    /// Groups that any unanswered record is about.
    pub(crate) fn groups(&self) -> BTreeSet<Arc<str>> {
        self.pending
            .values()
            .flat_map(|pending| pending.records.iter().map(|record| Arc::clone(record.group())))
            .collect()
    }

    /// Offsets of `group` that an unanswered commit would set.
    pub(crate) fn offset_keys(&self, group: &str) -> BTreeSet<OffsetKey> {
        self.pending
            .values()
            .flat_map(|pending| pending.records.iter())
            .filter_map(|record| match record {
                Record::OffsetCommit { key, .. } if &*key.group == group => Some(key.clone()),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn drain(&mut self) -> Vec<Waiter> {
        self.records = 0;
        std::mem::take(&mut self.pending)
            .into_values()
            .map(|pending| pending.waiter)
            .collect()
    }
}

/// What a client is told when the log refused a record (Kafka's `appendGroupMetadataErrorToResponseError`; Strom's
/// own codes beside).
pub(crate) fn client_error(append_error: ErrorCode) -> ErrorCode {
    match append_error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut
        | ErrorCode::Indeterminate
        | ErrorCode::ControllerUnavailable
        | ErrorCode::Overloaded => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::UnknownLeaderEpoch
        | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge | ErrorCode::InvalidFetchSize => {
            ErrorCode::UnknownServerError
        }
        // A failure must not read as a success.
        ErrorCode::None => ErrorCode::UnknownServerError,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_append_error_reads_as_a_success() {
        for &error in ErrorCode::ALL {
            let told = client_error(error);
            assert!(
                !told.is_none() && told.kafka_code().is_some(),
                "{error} is told as {told}"
            );
        }
    }
}
