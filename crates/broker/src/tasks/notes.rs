//! Takes the notes that partitions leave under their locks.

use strom_runtime::Shutdown;
use tokio::sync::mpsc;

use crate::broker::Broker;
use crate::life::IsrChange;
use crate::shared::Note;

/// Does what partitions want done outside their locks.
pub(crate) async fn take_notes(
    broker: Broker,
    mut notes: mpsc::UnboundedReceiver<Note>,
    isr_changes: mpsc::UnboundedSender<IsrChange>,
    stop: Shutdown,
) {
    loop {
        let note = tokio::select! {
            () = stop.cancelled() => return broker.coordinators().close(),
            note = notes.recv() => match note {
                Some(note) => note,
                None => return,
            },
        };
        match note {
            Note::AlterPartition {
                key,
                leader_epoch,
                partition_epoch,
                attempt,
                new_isr,
                recovery_state,
            } => {
                let change = IsrChange {
                    key,
                    leader_epoch,
                    partition_epoch,
                    attempt,
                    new_isr,
                    recovery_state,
                };
                // The receiver ends with the broker.
                let _ = isr_changes.send(change);
            }
            note @ (Note::LeaderReady { .. } | Note::LeadershipEnded { .. } | Note::TopicsRemoved { .. }) => {
                broker.coordinators().take_note(broker.partitions(), note).await;
            }
        }
    }
}
