//! Who leads a partition: KIP-966's order of candidates, as one pure function.

use strom_types::BrokerId;

/// What an election chooses from. Lists are in assignment order where that matters.
#[derive(Clone, Copy, Debug)]
pub struct Ballot<'a> {
    pub replicas: &'a [BrokerId],
    pub isr: &'a [BrokerId],
    pub elr: &'a [BrokerId],
    pub last_known_elr: &'a [BrokerId],
    /// Stays in office when it may.
    pub current: Option<BrokerId>,
    /// The first replica takes over from the current leader when it may.
    pub prefer_first: bool,
    /// As a last resort, a replica that may lack committed records.
    pub allow_unclean: bool,
}

/// By which right the elected leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Title {
    InSync,
    Eligible,
    /// Committed records may be lost.
    Unclean,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elected {
    pub leader: BrokerId,
    pub title: Title,
}

/// Chooses among the live replicas: one of the ISR, else of the ELR, else (if allowed) a last known ELR member,
/// else any. `None` = the partition waits without a leader.
pub fn elect(ballot: Ballot<'_>, live: impl Fn(BrokerId) -> bool) -> Option<Elected> {
    let first_of = |members: &[BrokerId]| {
        ballot
            .replicas
            .iter()
            .copied()
            .find(|id| members.contains(id) && live(*id))
    };
    let may_lead = |id: BrokerId| ballot.isr.contains(&id) && live(id);
    let preferred = ballot
        .replicas
        .first()
        .copied()
        .filter(|id| ballot.prefer_first && may_lead(*id));
    let in_sync = preferred
        .or_else(|| ballot.current.filter(|id| may_lead(*id)))
        .or_else(|| first_of(ballot.isr));
    let titled = |title| move |leader| Elected { leader, title };
    in_sync
        .map(titled(Title::InSync))
        .or_else(|| first_of(ballot.elr).map(titled(Title::Eligible)))
        .or_else(|| {
            let unclean = first_of(ballot.last_known_elr).or_else(|| first_of(ballot.replicas));
            unclean
                .filter(|_| ballot.allow_unclean)
                .map(titled(Title::Unclean))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(list: &[i32]) -> Vec<BrokerId> {
        list.iter().copied().map(BrokerId).collect()
    }

    struct Case {
        what: &'static str,
        isr: &'static [i32],
        elr: &'static [i32],
        known: &'static [i32],
        current: Option<i32>,
        prefer_first: bool,
        unclean: bool,
        live: &'static [i32],
        want: Option<(i32, Title)>,
    }

    const CASE: Case = Case {
        what: "",
        isr: &[],
        elr: &[],
        known: &[],
        current: None,
        prefer_first: false,
        unclean: false,
        live: &[1, 2, 3],
        want: None,
    };

    fn cases() -> Vec<Case> {
        use Title::{Eligible, InSync, Unclean};
        vec![
            Case {
                what: "the current leader stays",
                isr: &[1, 2],
                current: Some(2),
                want: Some((2, InSync)),
                ..CASE
            },
            Case {
                what: "the preferred one takes over on request",
                isr: &[2, 1],
                current: Some(2),
                prefer_first: true,
                want: Some((1, InSync)),
                ..CASE
            },
            Case {
                what: "a preferred one outside the ISR does not",
                isr: &[2],
                elr: &[1],
                current: Some(2),
                prefer_first: true,
                want: Some((2, InSync)),
                ..CASE
            },
            Case {
                what: "assignment order, not ISR order",
                isr: &[3, 2],
                live: &[2, 3],
                want: Some((2, InSync)),
                ..CASE
            },
            Case {
                what: "a dead leader is replaced",
                isr: &[1, 3],
                current: Some(1),
                live: &[3],
                want: Some((3, InSync)),
                ..CASE
            },
            Case {
                what: "then the ELR",
                elr: &[3, 2],
                current: Some(1),
                live: &[2, 3],
                want: Some((2, Eligible)),
                ..CASE
            },
            Case {
                what: "a dead ISR does not block a live ELR",
                isr: &[1],
                elr: &[2],
                live: &[2],
                want: Some((2, Eligible)),
                ..CASE
            },
            Case {
                what: "nobody eligible lives",
                isr: &[],
                elr: &[1],
                known: &[2],
                live: &[2, 3],
                ..CASE
            },
            Case {
                what: "no unclean election unless allowed",
                known: &[2],
                ..CASE
            },
            Case {
                what: "unclean prefers who was eligible last",
                known: &[3],
                unclean: true,
                want: Some((3, Unclean)),
                ..CASE
            },
            Case {
                what: "a dead last known member is not elected (KIP-966's inverted test)",
                known: &[1],
                unclean: true,
                live: &[3],
                want: Some((3, Unclean)),
                ..CASE
            },
            Case {
                what: "unclean is the last resort only",
                elr: &[3],
                unclean: true,
                want: Some((3, Eligible)),
                ..CASE
            },
            Case {
                what: "nobody lives",
                isr: &[1],
                unclean: true,
                live: &[],
                ..CASE
            },
        ]
    }

    #[test]
    fn the_order_of_candidates() {
        let replicas = ids(&[1, 2, 3]);
        for case in cases() {
            let ballot = Ballot {
                replicas: &replicas,
                isr: &ids(case.isr),
                elr: &ids(case.elr),
                last_known_elr: &ids(case.known),
                current: case.current.map(BrokerId),
                prefer_first: case.prefer_first,
                allow_unclean: case.unclean,
            };
            let got = elect(ballot, |id| case.live.contains(&id.get()));
            let want = case.want.map(|(leader, title)| Elected {
                leader: BrokerId(leader),
                title,
            });
            assert_eq!(got, want, "{}", case.what);
        }
    }
}
