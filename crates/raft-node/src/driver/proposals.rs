//! Proposals in the log that are not applied yet, by index and term.

use std::collections::BTreeMap;

use crate::driver::outbox::Outbox;
use crate::handle::ProposeError;

/// Names a proposal between [`crate::Driver::propose`] and its outcome.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProposalId(pub u64);

#[derive(Debug, Default)]
pub(super) struct Proposals {
    next: u64,
    term: u64,
    waiting: BTreeMap<u64, (u64, ProposalId)>,
}

impl Proposals {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn add(&mut self, index: u64, term: u64) -> ProposalId {
        let id = ProposalId(self.next);
        self.next += 1;
        self.term = term;
        self.waiting.insert(index, (term, id));
        id
    }

    /// The entry (index, term) is applied: its proposal, if it is ours, succeeded.
    pub(super) fn applied(&mut self, index: u64, term: u64, out: &mut impl Outbox) {
        while let Some(first) = self.waiting.first_entry()
            && *first.key() <= index
        {
            let (at, (proposed_in, id)) = first.remove_entry();
            let ours = at == index && proposed_in == term;
            out.proposed(
                id,
                if ours {
                    Ok(index)
                } else {
                    Err(ProposeError::Indeterminate)
                },
            );
        }
    }

    /// No longer the leader of the term the proposals were made in: another leader may commit or drop them, and
    /// nobody will tell.
    pub(super) fn leading(&mut self, leads: bool, term: u64, out: &mut impl Outbox) {
        if !self.waiting.is_empty() && (!leads || term != self.term) {
            self.abandon(out);
        }
    }

    pub(super) fn abandon(&mut self, out: &mut impl Outbox) {
        for (_, id) in std::mem::take(&mut self.waiting).into_values() {
            out.proposed(id, Err(ProposeError::Indeterminate));
        }
    }
}
