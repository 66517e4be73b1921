//! What a broker does beside answering: follow the metadata, take its partitions' notes, look at the time, write
//! checkpoints, report its health.

mod metadata;
mod notes;
mod upkeep;

pub(crate) use metadata::apply_metadata;
pub(crate) use notes::take_notes;
pub(crate) use upkeep::{checkpoint, checkpoint_now, report_health, tick};
