//! What audits make of a node over time: warned before suspended, suspended before a slash is asked for.
//!
//! | from | to | when |
//! |---|---|---|
//! | good | warned | one epoch failed or late |
//! | warned | good | [`CLEAR_AFTER`] epochs passed since the last failed or late one |
//! | warned | suspended | a second failed or late epoch within those |
//! | good, warned | suspended | [`OFFLINE_MAX`] epochs offline without one that passed |
//! | suspended | warned | [`CLEAR_AFTER`] epochs passed in a row |
//! | suspended for failures | slash case | [`SLASH_FAILURES`] epochs failed since it was first warned, and [`GRACE`] epochs since suspension |
//!
//! Suspended: no rent, no new fragments; what it holds counts until repair says otherwise. Offline, late and unknown never lead to a slash case, since
//! only what a node signed or sent can convict it; that failures come from two of three auditors is [`super::settle`]'s part. The grace is a week, as
//! Storj's: time to restore a disk, and to appeal with the exported verdicts. An epoch is a day here.

use types::audit::Verdict;

/// Epochs that must pass before a warning is forgotten or a suspension lifted.
pub const CLEAR_AFTER: u32 = 7;
/// Epochs offline that suspend. Fragments are repaired long before; this only stops new ones and rent.
pub const OFFLINE_MAX: u32 = 3;
/// Epochs between suspension and a slash case.
pub const GRACE: u32 = 7;
/// Failed epochs, the warning's included, that a slash case needs.
pub const SLASH_FAILURES: u32 = 3;

/// Where a node stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing against it.
    #[default]
    Good,
    /// Failed or late once of late.
    Warned,
    /// Gets no rent and no new fragments.
    Suspended,
    /// A slash is asked for, with the verdicts as evidence. It ends by the committee's word alone.
    SlashCase,
}

/// A node's standing and what it follows from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    state: State,
    /// Epochs passed since the last one that was failed or late; offline and unknown ones do not count.
    passed: u32,
    /// Epochs offline since one passed.
    offline: u32,
    /// Epochs failed since the node was last good.
    failed: u32,
    /// Epochs since suspension.
    suspended: u32,
}

impl Standing {
    /// Where the node stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether it may be given new fragments.
    pub const fn may_take(&self) -> bool {
        matches!(self.state, State::Good | State::Warned)
    }

    /// Whether an epoch with this outcome is paid.
    pub fn is_paid(&self, outcome: Verdict) -> bool {
        self.may_take() && outcome == Verdict::Passed
    }

    /// The standing after one more epoch.
    #[must_use]
    pub fn after(self, outcome: Verdict) -> Self {
        let mut next = self;
        if self.state == State::SlashCase {
            return next;
        }
        next.suspended = if self.state == State::Suspended { self.suspended.saturating_add(1) } else { 0 };
        match outcome {
            Verdict::Passed => (next.passed, next.offline) = (self.passed.saturating_add(1), 0),
            Verdict::Offline => next.offline = self.offline.saturating_add(1),
            Verdict::Late => next.passed = 0,
            Verdict::Failed => (next.passed, next.failed) = (0, self.failed.saturating_add(1)),
            Verdict::Unknown => {}
        }
        let is_bad = matches!(outcome, Verdict::Late | Verdict::Failed);
        match self.state {
            State::Good if is_bad => next.state = State::Warned,
            State::Warned if is_bad => next.suspend(),
            State::Good | State::Warned if next.offline >= OFFLINE_MAX => next.suspend(),
            State::Warned if next.passed >= CLEAR_AFTER => return Self::default(),
            // Only a further failure makes the case, not time alone: who is away when the grace ends is away.
            State::Suspended if outcome == Verdict::Failed && next.suspended >= GRACE && next.failed >= SLASH_FAILURES => {
                next.state = State::SlashCase;
            }
            State::Suspended if next.passed >= CLEAR_AFTER => (next.state, next.passed) = (State::Warned, 0),
            _ => {}
        }
        next
    }

    const fn suspend(&mut self) {
        (self.state, self.suspended, self.passed) = (State::Suspended, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(epochs: &[(u32, Verdict)]) -> Standing {
        let each = epochs.iter().flat_map(|(times, outcome)| (0..*times).map(|_| *outcome));
        each.fold(Standing::default(), Standing::after)
    }

    #[test]
    fn a_node_is_warned_then_suspended_then_a_slash_is_asked_for() {
        use Verdict::{Failed, Late, Offline, Passed, Unknown};
        for (epochs, state) in [
            (vec![(30, Passed)], State::Good),
            (vec![(100, Unknown)], State::Good),
            (vec![(1, Failed)], State::Warned),
            (vec![(1, Late), (6, Passed)], State::Warned),
            (vec![(1, Late), (7, Passed)], State::Good),
            (vec![(1, Failed), (6, Passed), (1, Failed)], State::Suspended),
            (vec![(1, Failed), (7, Passed), (1, Failed)], State::Warned),
            (vec![(2, Offline), (1, Passed), (2, Offline)], State::Good),
            (vec![(3, Offline)], State::Suspended),
            (vec![(300, Offline)], State::Suspended),
            (vec![(300, Late)], State::Suspended),
            (vec![(2, Failed), (6, Failed)], State::Suspended),
            (vec![(2, Failed), (7, Failed)], State::SlashCase),
            (vec![(2, Failed), (7, Offline), (1, Failed)], State::SlashCase),
            (vec![(2, Failed), (40, Offline)], State::Suspended),
            (vec![(2, Failed), (6, Passed), (1, Failed)], State::SlashCase),
            (vec![(2, Failed), (7, Passed)], State::Warned),
            (vec![(2, Failed), (14, Passed)], State::Good),
            (vec![(2, Failed), (7, Failed), (90, Passed)], State::SlashCase),
            (vec![(2, Late), (8, Offline), (2, Failed)], State::Suspended),
        ] {
            assert_eq!(run(&epochs).state(), state, "{epochs:?}");
        }
        assert!(run(&[(1, Failed)]).is_paid(Passed) && !run(&[(1, Failed)]).is_paid(Late));
        assert!(!run(&[(2, Failed)]).is_paid(Passed) && !run(&[(2, Failed)]).may_take());
    }

    fn outcomes(most: usize) -> impl Strategy<Value = Vec<Verdict>> {
        proptest::collection::vec((0..Verdict::ALL.len()).prop_map(|i| Verdict::ALL[i]), 0..most)
    }

    proptest! {
        #[test]
        fn without_failures_there_is_no_slash_case_and_with_one_there_were_warning_and_grace(epochs in outcomes(60)) {
            let (mut standing, mut seen) = (Standing::default(), Vec::new());
            for (at, outcome) in epochs.iter().enumerate() {
                standing = standing.after(*outcome);
                seen.push(standing.state());
                if standing.state() == State::SlashCase {
                    let failures = epochs[..=at].iter().filter(|outcome| **outcome == Verdict::Failed).count();
                    prop_assert!(failures >= usize::try_from(SLASH_FAILURES).unwrap());
                    let before = &seen[..seen.iter().position(|state| *state == State::SlashCase).unwrap()];
                    let suspended = before.iter().rev().take_while(|state| **state == State::Suspended).count();
                    prop_assert!(suspended >= usize::try_from(GRACE).unwrap());
                }
            }
            let no_steps_are_left_out = seen.windows(2).all(|pair| !matches!((pair[0], pair[1]), (State::Good | State::Warned, State::SlashCase)));
            prop_assert!(no_steps_are_left_out);
        }

        #[test]
        fn what_an_auditor_did_not_know_is_held_against_nobody(epochs in outcomes(40)) {
            // An unknown epoch leaves all but the running of the grace as it was.
            let mut standing = Standing::default();
            for outcome in epochs {
                let (before, after) = (standing, standing.after(Verdict::Unknown));
                prop_assert_eq!(Standing { suspended: before.suspended, ..after }, before);
                standing = standing.after(outcome);
            }
        }
    }
}
