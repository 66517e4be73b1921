//! A log's small durable facts: where its leader epochs begin, and where the log itself begins.

use strom_types::{LeaderEpoch, Offset};

use super::{Amendment, Log, LogState, Phase};
use crate::dir::epoch_journal::EpochStart;
use crate::epoch_cache::{EpochCache, STATE_FILE, StateFile};
use crate::error::{AppendError, LogError};
use crate::storage::{replace_file, write_all_at};

/// Entries in the journal after which the state file is brought up to date.
const JOURNALED_MAX: usize = 8;
const STATE_FILE_STAGED: &str = "leader-epoch-checkpoint.staged";

/// A new state file that waits for a sync beside the old one; `None` when none is needed.
pub(crate) struct Staged(Option<(u64, EpochCache, u64)>);

impl Staged {
    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }
}

impl Log {
    /// Notes that leader epoch `epoch` begins at the log's end, on the disk, also if no record ever follows
    /// (KAFKA-7415). Must return before the new leader's first append. An empty log that has no directory needs none:
    /// there is nothing that could diverge. Returns the epoch's start offset.
    pub fn assign_epoch_start(&self, epoch: LeaderEpoch) -> Result<Offset, AppendError> {
        let _io = self.io.lock();
        self.dir.check_alive()?;
        let mut state = self.opened()?;
        let start = self.note_epoch_start(&mut state, epoch)?;
        if state.epochs_dirty {
            self.write_state_file(&mut state)?;
        }
        Ok(start)
    }

    /// First half of `LogDir::assign_epoch_starts`: notes the start in memory, under the journal's sequence. A log that
    /// has not been looked at since a clean stop stays so. Gives the start, and what the journal is to hold of this log.
    pub(crate) fn note_journaled_epoch(
        &self,
        epoch: LeaderEpoch,
        seq: u64,
    ) -> Result<(Offset, Vec<EpochStart>), AppendError> {
        self.dir.check_alive()?;
        let mut state = self.state.lock();
        let end = state.log_end;
        let few = state.journaled.len() < JOURNALED_MAX;
        let mut start = end;
        match &mut state.phase {
            Phase::Closed(entry) if entry.latest_epoch < epoch && few => entry.latest_epoch = epoch,
            _ => {
                self.ensure_open(&mut state)?;
                let was_dirty = state.epochs_dirty;
                start = self.note_epoch_start(&mut state, epoch)?;
                // The journal keeps it: no need for a state file, unless that lacks too much.
                state.epochs_dirty = was_dirty || !few;
                state.checkpoint_dirty |= state.epochs_dirty;
            }
        }
        if state.segments.is_empty() && !state.dir_exists {
            return Ok((start, Vec::new()));
        }
        state.journaled.push(EpochStart { epoch, start, seq });
        state.journal_seq = seq;
        Ok((start, state.journaled.clone()))
    }

    /// When the journal could not be written, the state file has to do.
    pub(crate) fn journal_failed(&self) {
        self.state.lock().epochs_dirty = true;
    }

    /// Writes the new state file beside the old one, unsynced, if the epochs have changed: one sync serves many logs.
    pub(super) fn stage_state_file(&self, state: &LogState) -> Result<Staged, LogError> {
        if !state.epochs_dirty || !state.dir_exists {
            return Ok(Staged(None));
        }
        let bytes = state.state_file().encode();
        let path = self.path.join(STATE_FILE_STAGED);
        let write = || -> std::io::Result<()> {
            let file = self.dir.storage.open(&path, true)?;
            file.set_len(0)?;
            write_all_at(&*file, &bytes, 0)
        };
        write().map_err(|error| LogError::io("write", &path, error))?;
        Ok(Staged(Some((
            state.state_file_version,
            state.epochs.clone(),
            state.journal_seq,
        ))))
    }

    /// Once the staged file is synced: it takes the old one's place, unless a newer one did meanwhile.
    pub(crate) fn publish_state_file(&self, staged: &Staged) -> Result<(), LogError> {
        let Staged(Some((version, epochs, journal_seq))) = staged else {
            return Ok(());
        };
        let _io = self.io.lock();
        let mut state = self.state.lock();
        if state.state_file_version != *version || !matches!(state.phase, Phase::Open) {
            return Ok(());
        }
        let path = self.path.join(STATE_FILE);
        self.dir
            .storage
            .rename(&self.path.join(STATE_FILE_STAGED), &path)
            .map_err(|error| LogError::io("replace", &path, error))?;
        state.state_file_version += 1;
        state.journaled.retain(|journaled| journaled.seq > *journal_seq);
        state.epochs_dirty = state.epochs != *epochs;
        Ok(())
    }

    fn note_epoch_start(&self, state: &mut LogState, epoch: LeaderEpoch) -> Result<Offset, AppendError> {
        let latest = state.epochs.latest();
        if epoch < latest {
            return Err(AppendError::FencedEpoch { epoch, latest });
        }
        let end = state.log_end;
        if state.epochs.assign(epoch, end) {
            state.epochs_dirty = true;
            state.checkpoint_dirty = true;
        }
        Ok(state.epochs.start_of(epoch).unwrap_or(end))
    }

    /// DeleteRecords and retention: offsets below `offset` are gone, durably, when this returns; segments that lie
    /// wholly below are removed, the active one never. An offset at or below the present start changes nothing; one
    /// past the log's end is an error. The caller keeps `offset` at or below the high watermark. Returns the log start.
    pub fn set_log_start_offset(&self, offset: Offset) -> Result<Offset, LogError> {
        let _io = self.io.lock();
        let mut state = self.opened()?;
        if offset > state.log_end {
            return Err(self.out_of_range(&state, offset));
        }
        if offset <= state.log_start {
            return Ok(state.log_start);
        }
        self.dir.check_alive()?;
        state.epochs.truncate_from_start(offset);
        self.amend(&mut state, |amendment| amendment.log_start = Some(offset));
        state.log_start = offset;
        state.checkpoint_dirty = true;
        self.write_state_file(&mut state)?;
        self.remove_old_segments(&mut state)?;
        state.assert_order();
        Ok(offset)
    }

    /// Removes segments that lie wholly below `offset`; the log then begins at the first one left. For retention.
    pub fn delete_segments_before(&self, offset: Offset) -> Result<Offset, LogError> {
        let start = {
            let state = self.opened()?;
            let keep = state
                .segments
                .partition_point(|segment| segment.base_offset <= offset)
                .saturating_sub(1);
            state
                .segments
                .get(keep)
                .map_or(state.log_start, |segment| segment.base_offset)
        };
        self.set_log_start_offset(start)
    }

    fn remove_old_segments(&self, state: &mut LogState) -> Result<(), LogError> {
        let written_base = state.written.segment_base;
        let below = state
            .segments
            .partition_point(|segment| segment.base_offset <= state.log_start);
        let gone = below.saturating_sub(1);
        if gone > 0 {
            self.leave_wal(state)?;
        }
        let mut removed = 0;
        while removed < gone {
            // One that still waits for the writer, or is being written to, stays for now.
            match state
                .segments
                .get(removed)
                .filter(|segment| segment.base_offset < written_base)
            {
                Some(segment) => self.remove_segment_files(segment.base_offset)?,
                None => break,
            }
            removed += 1;
        }
        state.segments.drain(..removed);
        // Snapshots as old as that serve nobody, except the newest, from which state is rebuilt.
        let start = state.log_start_of_segments();
        let newest = state.snapshots.iter().copied().max();
        let old: Vec<_> = state
            .snapshots
            .iter()
            .copied()
            .filter(|s| *s < start && Some(*s) != newest)
            .collect();
        for snapshot in old {
            self.remove_snapshot(state, snapshot)?;
        }
        Ok(())
    }

    /// Changes what the next checkpoint is to include; write the state file afterwards.
    pub(super) fn amend(&self, state: &mut LogState, change: impl FnOnce(&mut Amendment)) {
        if self.dir.durable_seq() > state.amendment.seq {
            state.amendment = Amendment::default();
        }
        state.amendment.seq = self.dir.seq();
        change(&mut state.amendment);
    }

    /// Replaces the partition's state file, durably. An empty log without a directory has none.
    pub(super) fn write_state_file(&self, state: &mut LogState) -> Result<(), LogError> {
        if !state.dir_exists {
            if state.segments.is_empty() {
                return Ok(());
            }
            self.ensure_dir(state)?;
        }
        if !state.dir_durable {
            self.dir
                .storage
                .sync_dir(&self.dir.path)
                .map_err(|error| self.fail_dir(LogError::io("sync", &self.dir.path, error)))?;
            state.dir_durable = true;
        }
        let path = self.path.join(STATE_FILE);
        state.state_file_version += 1;
        let file = state.state_file();
        replace_file(&*self.dir.storage, &path, &file.encode(), true)
            .map_err(|error| self.fail_dir_unless_full(LogError::io("write", &path, error)))?;
        state.epochs_dirty = false;
        state.journaled.clear();
        Ok(())
    }
}

impl LogState {
    fn state_file(&self) -> StateFile {
        let Amendment {
            seq,
            recovery_cap,
            log_start,
            reset_at,
        } = self.amendment;
        StateFile {
            epochs: self.epochs.clone(),
            checkpoint_seq: seq,
            recovery_cap,
            log_start,
            reset_at,
            journal_seq: self.journal_seq,
        }
    }
}
