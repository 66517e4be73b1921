//! The partition's log as the replica state machine may ask about it.

use strom_log::Log;
use strom_replication::{EpochEnd, LogUnreadable, LogView};
use strom_types::{LeaderEpoch, Offset};

/// A [`Log`] behind the core's trait.
pub(super) struct View<'a>(pub(super) &'a Log);

impl LogView for View<'_> {
    fn log_start(&self) -> Offset {
        self.0.log_start_offset()
    }

    fn log_end(&self) -> Offset {
        self.0.log_end_offset()
    }

    fn durable_end(&self) -> Offset {
        self.0.durable_offset()
    }

    fn latest_epoch(&self) -> LeaderEpoch {
        self.0.latest_epoch()
    }

    fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Result<Option<EpochEnd>, LogUnreadable> {
        let end = self.0.end_offset_for_epoch(epoch).map_err(|_| LogUnreadable)?;
        Ok(end.map(|(epoch, end_offset)| EpochEnd { epoch, end_offset }))
    }
}
