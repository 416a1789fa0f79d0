//! What this node watches, for its operator: receipts while W1 runs, payouts until they are final; what was found, who is waited for, and until when.
//!
//! By the chain's latest books, and by what this process noted since it started: a few hundred bytes an epoch, of the last [`EPOCHS_SHOWN`].

use std::collections::{BTreeMap, BTreeSet};

use chain_bridge::registry::{
    State,
    money::{Challenge, ChallengeOf},
    state::{Epoch, Payout},
};
use inference::proto::message::Watched;
use types::id::{Address, Hash32};

use super::challenges::RootOf;

/// Newest epochs that are told of.
const EPOCHS_SHOWN: usize = 4;
/// Roots of one epoch that are told of by name.
const ROOTS_SHOWN: usize = 32;

/// What was found out about a payout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// It is the one that its receipts give.
    Right,
    /// It is another one; so many questions about it were asked on the chain.
    Wrong { asked: usize },
    /// A proof against it was sent, or it is wrong and no proof shows it.
    Ended(String),
    /// It could not be checked so far.
    Unchecked(String),
}

/// What this process found out, for status.
#[derive(Debug, Default)]
pub struct Notes {
    payouts: BTreeMap<(u64, Hash32), Finding>,
    fetched: BTreeSet<RootOf>,
    searched: BTreeSet<RootOf>,
    /// Roots whose receipts did not come, and why.
    failed: BTreeMap<RootOf, String>,
}

impl Notes {
    pub(super) fn payout(&mut self, epoch: u64, root: Hash32, finding: Finding) {
        self.payouts.insert((epoch, root), finding);
        while self.payouts.len() > 2 * EPOCHS_SHOWN {
            self.payouts.pop_first();
        }
    }

    pub(super) fn fetched(&mut self, root: RootOf) {
        self.failed.remove(&root);
        self.fetched.insert(root);
    }

    pub(super) fn failed(&mut self, root: RootOf, why: String) {
        self.failed.insert(root, why);
    }

    pub(super) fn searched(&mut self, root: RootOf) {
        self.searched.insert(root);
    }

    /// Forgets roots that the books do not hold any more, or whose epoch has a payout.
    pub(super) fn keep_open(&mut self, state: &State) {
        self.fetched.retain(|root| root.is_open(state));
        self.searched.retain(|root| root.is_open(state));
        self.failed.retain(|root, _| root.is_open(state));
    }

    /// What is watched at `now`, seconds since 1970, by the node with the account `own`.
    pub(super) fn report(&self, state: &State, now: u64, own: Address) -> Vec<Watched> {
        let epochs: Vec<(u64, &Epoch)> = state.epochs().collect();
        let shown = &epochs[epochs.len().saturating_sub(EPOCHS_SHOWN)..];
        shown.iter().flat_map(|(number, epoch)| self.of_epoch(state, now, own, *number, epoch)).collect()
    }

    fn of_epoch(&self, state: &State, now: u64, own: Address, number: u64, epoch: &Epoch) -> Vec<Watched> {
        let taken_back = epoch.overturned.iter().map(|overturned| Watched {
            epoch: number,
            what: "payout".to_owned(),
            of: overturned.poster,
            root: overturned.root,
            found: format!("taken back, proven wrong by {}", overturned.reporter),
            waits_for: None,
            until: None,
        });
        let mut all: Vec<Watched> = taken_back.collect();
        match &epoch.payout {
            Some(payout) => all.push(self.of_payout(state, now, own, number, payout)),
            None if now < epoch.payout_from => {
                let others = epoch.roots.iter().filter(|(node, _)| **node != own);
                let roots: Vec<RootOf> = others.map(|(node, root)| RootOf::new(number, *node, root)).collect();
                all.extend(roots.iter().take(ROOTS_SHOWN).map(|root| self.of_root(state, root, epoch)));
            }
            None => all.push(Watched {
                epoch: number,
                what: "payout".to_owned(),
                of: Address::ZERO,
                root: Hash32::ZERO,
                found: "due, and not posted yet".to_owned(),
                waits_for: Some("a poster".to_owned()),
                until: None,
            }),
        }
        all
    }

    fn of_root(&self, state: &State, root: &RootOf, epoch: &Epoch) -> Watched {
        let count = root.count();
        let asked = state.open_challenges().filter_map(|(_, challenge)| match challenge.of {
            ChallengeOf::Receipts { epoch, node, count, .. } if (epoch, node) == (root.epoch, root.node) => Some((challenge, count)),
            _ => None,
        });
        let asked: Vec<(&Challenge, u64)> = asked.collect();
        let (mut waits_for, mut until) = (None, Some(epoch.payout_from));
        let found = if state.withheld_at(root.epoch, root.node).is_some() {
            "withheld: nothing under this root is paid, its node is slashed".to_owned()
        } else if let Some(deadline) = asked.iter().map(|(challenge, _)| challenge.deadline).min() {
            (waits_for, until) = (Some(format!("node {}", root.node)), Some(deadline));
            let (shown, wanted) =
                asked.iter().fold((0, 0), |(shown, wanted), (challenge, count)| (shown + challenge.shown, wanted + count));
            format!("challenged: {shown} of {wanted} receipts asked for on the chain are shown there")
        } else if self.searched.contains(root) {
            format!("its {count} receipts are here and searched")
        } else if self.fetched.contains(root) {
            format!("its {count} receipts are here")
        } else {
            waits_for = Some(format!("node {}", root.node));
            match self.failed.get(root) {
                Some(why) => format!("its {count} receipts did not come: {why}"),
                None => format!("its {count} receipts are not here yet"),
            }
        };
        Watched { epoch: root.epoch, what: "receipts".to_owned(), of: root.node, root: root.receipts(), found, waits_for, until }
    }

    fn of_payout(&self, state: &State, now: u64, own: Address, number: u64, payout: &Payout) -> Watched {
        let asked = state.open_challenges().filter(|(_, challenge)| match challenge.of {
            ChallengeOf::Leaf { epoch, .. } | ChallengeOf::Part { epoch, .. } => epoch == number && challenge.deadline > now,
            _ => false,
        });
        let deadline = asked.map(|(_, challenge)| challenge.deadline).min();
        let is_own = payout.poster == own;
        let (mut waits_for, mut until) = (None, Some(payout.final_at));
        let found = if payout.final_at <= now {
            "final".to_owned()
        } else if is_own {
            "posted by this node, others may prove it wrong".to_owned()
        } else {
            match self.payouts.get(&(number, payout.root)) {
                Some(Finding::Right) => "right: it is the one that its receipts give".to_owned(),
                Some(Finding::Wrong { asked: 0 }) => "wrong: being compared line by line".to_owned(),
                Some(Finding::Wrong { asked }) => format!("wrong: {asked} questions about it were asked on the chain"),
                Some(Finding::Ended(how)) => format!("wrong: {how}"),
                Some(Finding::Unchecked(why)) => format!("seen, and not checked so far: {why}"),
                None => "seen, and not checked yet".to_owned(),
            }
        };
        if let Some(deadline) = deadline {
            (waits_for, until) = (
                Some(if is_own { "this node, to show its tree".to_owned() } else { format!("its poster {}", payout.poster) }),
                Some(deadline),
            );
        }
        Watched { epoch: number, what: "payout".to_owned(), of: payout.poster, root: payout.root, found, waits_for, until }
    }
}

#[cfg(test)]
mod tests {
    use chain_bridge::registry::event::{Event, Logged};
    use types::{amount::Amount, time::BlockRef};

    use super::*;

    const OWN: Address = Address([1; 20]);
    const NODE: Address = Address([2; 20]);
    const POSTER: Address = Address([3; 20]);
    const ROOT: Hash32 = Hash32([7; 32]);

    fn books(events: Vec<Event>) -> State {
        let mut state = State::default();
        let opened = Event::EpochOpened { epoch: 1, opened_at: 10, accepts_until: 20, payout_from: 40 };
        let submitted = |node| Event::NodeRootSubmitted { epoch: 1, node, receipts: ROOT, count: 9, fees: Amount(1), block: 5 };
        for (log, event) in (0..).zip([opened, submitted(OWN), submitted(NODE)].into_iter().chain(events)) {
            let block = BlockRef { number: 5, hash: Hash32::ZERO };
            state.apply(&Logged { block, time: 12, transaction: Hash32::ZERO, log, event }).unwrap();
        }
        state
    }

    fn posted() -> Event {
        let (root, previous, total) = (ROOT, Hash32::ZERO, Amount(1));
        Event::PayoutPosted { epoch: 1, root, total, previous, poster: POSTER, final_at: 90, bond: Amount::ZERO }
    }

    fn told(notes: &Notes, state: &State, now: u64) -> Vec<(String, Option<String>, Option<u64>)> {
        notes.report(state, now, OWN).into_iter().map(|one| (one.found, one.waits_for, one.until)).collect()
    }

    #[test]
    fn receipts_are_told_of_from_their_root_to_the_end_of_w1() {
        let (mut notes, state) = (Notes::default(), books(vec![]));
        let root = RootOf::new(1, NODE, &state.epoch(1).unwrap().roots[&NODE]);
        let node = || Some(format!("node {NODE}"));
        assert_eq!(told(&notes, &state, 30), [("its 9 receipts are not here yet".to_owned(), node(), Some(40))]);
        notes.failed(root, "it refuses: busy".into());
        assert_eq!(told(&notes, &state, 30)[0].0, "its 9 receipts did not come: it refuses: busy");
        notes.fetched(root);
        assert_eq!(told(&notes, &state, 30), [("its 9 receipts are here".to_owned(), None, Some(40))]);
        notes.searched(root);
        assert_eq!(told(&notes, &state, 30)[0].0, "its 9 receipts are here and searched");
        let id = Hash32([8; 32]);
        let asked = Event::ReceiptsChallenged { id, epoch: 1, node: NODE, first: 0, count: 4, deadline: 35 };
        let shown = Event::ReceiptShown { id, index: 1 };
        let state = books(vec![asked.clone(), shown]);
        let challenged = "challenged: 2 of 4 receipts asked for on the chain are shown there";
        assert_eq!(told(&notes, &state, 30), [(challenged.to_owned(), node(), Some(35))]);
        let state = books(vec![asked, Event::Unanswered { id, accused: NODE, challenger: OWN }]);
        assert!(told(&notes, &state, 30)[0].0.starts_with("withheld: "));
        assert_eq!(told(&notes, &state, 40), [("due, and not posted yet".to_owned(), Some("a poster".to_owned()), None)]);
    }

    #[test]
    fn a_payout_is_told_of_until_it_is_final_or_taken_back() {
        let (mut notes, state) = (Notes::default(), books(vec![posted()]));
        assert_eq!(told(&notes, &state, 50), [("seen, and not checked yet".to_owned(), None, Some(90))]);
        for (finding, words) in [
            (Finding::Unchecked("its poster is away".to_owned()), "seen, and not checked so far: its poster is away"),
            (Finding::Right, "right: it is the one that its receipts give"),
            (Finding::Wrong { asked: 0 }, "wrong: being compared line by line"),
            (Finding::Wrong { asked: 3 }, "wrong: 3 questions about it were asked on the chain"),
        ] {
            notes.payout(1, ROOT, finding);
            assert_eq!(told(&notes, &state, 50)[0].0, words);
        }
        assert_eq!(told(&notes, &state, 90)[0].0, "final");
        let asked = Event::PayoutChallenged { id: ROOT, epoch: 1, account: None, index: 4, challenger: OWN, deadline: 60 };
        let state = books(vec![posted(), asked]);
        assert_eq!(told(&notes, &state, 50)[0].1, Some(format!("its poster {POSTER}")));
        assert_eq!(told(&notes, &state, 50)[0].2, Some(60));
        let overturned = Event::PayoutOverturned { epoch: 1, root: ROOT, poster: POSTER, reporter: OWN, fault: Hash32::ZERO };
        let state = books(vec![posted(), overturned]);
        assert_eq!(told(&notes, &state, 50)[0].0, format!("taken back, proven wrong by {OWN}"));
    }
}
