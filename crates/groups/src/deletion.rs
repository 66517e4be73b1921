//! DeleteGroups: a group without members is Dead while its tombstones are written, then gone.

use std::sync::Arc;

use strom_types::ErrorCode;

use crate::appends::Waiter;
use crate::context::{Context, Step};
use crate::coordinator::{Coordinator, DeleteProgress};
use crate::effect::Reply;
use crate::event::RequestId;
use crate::group::Group;
use crate::offsets::tombstones;
use crate::record::Record;
use crate::state::GroupState;
use crate::timers::Timer;

impl Coordinator {
    pub(crate) fn on_delete_groups(&mut self, step: &mut Step<'_>, request: RequestId, group_ids: &[String]) {
        let mut errors = Vec::with_capacity(group_ids.len());
        let mut outstanding = 0;
        for (index, group_id) in group_ids.iter().enumerate() {
            let checked = self.with_group(step, group_id, |group, cx| {
                group.check_delete()?;
                let records = group.bury(cx, "deleted by request");
                cx.append(records, Waiter::DeleteGroup { request, index });
                Ok(())
            });
            match checked.unwrap_or(Err(ErrorCode::GroupIdNotFound)) {
                Ok(()) => {
                    outstanding += 1;
                    errors.push(ErrorCode::None);
                }
                Err(error) => errors.push(error),
            }
        }
        if outstanding == 0 {
            return step.reply(request, Reply::DeleteGroups(errors));
        }
        let progress = DeleteProgress { errors, outstanding };
        self.deletes_mut().insert(request, progress);
    }

    pub(crate) fn group_delete_answered(
        &mut self,
        step: &mut Step<'_>,
        request: RequestId,
        index: usize,
        error: ErrorCode,
    ) {
        let Some(progress) = self.deletes_mut().get_mut(&request) else {
            return;
        };
        if let Some(slot) = progress.errors.get_mut(index) {
            *slot = error;
        }
        progress.outstanding = progress.outstanding.saturating_sub(1);
        if progress.outstanding == 0
            && let Some(progress) = self.deletes_mut().remove(&request)
        {
            step.reply(request, Reply::DeleteGroups(progress.errors));
        }
    }
}

impl Group {
    fn check_delete(&self) -> Result<(), ErrorCode> {
        match self.state {
            GroupState::Dead => Err(ErrorCode::GroupIdNotFound),
            GroupState::Empty => Ok(()),
            _ => Err(ErrorCode::NonEmptyGroup),
        }
    }

    /// Makes an empty group Dead; gives the records that remove it from the log.
    pub(crate) fn bury(&mut self, cx: &mut Context<'_>, reason: &str) -> Vec<Record> {
        for member_id in std::mem::take(&mut self.pending_join) {
            cx.timers.cancel(&Timer::Session(Arc::clone(&self.id), member_id));
        }
        let became_empty = self.state_since;
        self.transition(cx, GroupState::Dead, reason);
        // Kept for the case that the tombstones fail: the group is as old as it was.
        self.state_since = became_empty;
        let mut records = tombstones(self.all_offset_keys(cx));
        records.push(Record::GroupTombstone {
            group: Arc::clone(&self.id),
        });
        records
    }

    /// Its tombstones are surely not in the log.
    pub(crate) fn exhume(&mut self, cx: &mut Context<'_>) {
        if self.state == GroupState::Dead {
            let became_empty = self.state_since;
            self.transition(cx, GroupState::Empty, "the tombstone could not be written");
            self.state_since = became_empty;
        }
    }
}
