//! What audits make of a node over time: warned before suspended, suspended before a slash is asked for.
//!
//! | from | to | when |
//! |---|---|---|
//! | good | warned | one epoch failed or late |
//! | warned | good | [`CLEAR_AFTER`] epochs passed since the last failed or late one |
//! | warned | suspended | a second failed or late epoch within those |
//! | good, warned | suspended | [`OFFLINE_MAX`] epochs offline without one that passed |
//! | suspended | warned | [`CLEAR_AFTER`] epochs passed in a row, or [`LAPSE`] epochs idle in a row |
//! | suspended for failures | slash case | [`SLASH_FAILURES`] epochs failed since it was first warned, and [`GRACE`] epochs since suspension |
//! | slash case | suspended | as from suspended to warned |
//!
//! Suspended: no rent, no new fragments; what it holds counts until repair says otherwise. Offline, late and unknown never lead to a slash case, since
//! only what a node signed or sent can convict it; that failures come from two of three auditors is [`super::settle`]'s part. The grace is a week, as
//! Storj's: time to restore a disk, and to appeal with the exported verdicts. An epoch is a day here.
//!
//! *Idle* is an epoch in which a node was there, committed to nothing, and was named for nothing. Repair takes away what a suspended node holds and placement gives it nothing, so
//! by passed epochs alone it would never get out. It lapses to warned, not to good: the first failure suspends again, and failures are counted on. Who comes back only to lose what it is given
//! holds fragments in one epoch of fifteen. Being away is not idle: nobody waits a suspension out with the machine off.

use serde::{Deserialize, Serialize};
use types::audit::Verdict;

/// Epochs that must pass before a warning is forgotten or a suspension lifted.
pub const CLEAR_AFTER: u32 = 7;
/// Epochs idle in a row that lift a suspension. Twice [`CLEAR_AFTER`], so that who keeps what it holds and shows it every day is out sooner than who holds nothing; longer than [`GRACE`], so that no suspension lapses before
/// a slash case could have come of it. Longer still would only lose honest disks: an operator who mends one earns nothing until then.
pub const LAPSE: u32 = 14;
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
    /// A slash is asked for, with the verdicts as evidence. Whatever the chain says of it, the node goes back the way it came: step by step.
    SlashCase,
}

/// How an epoch ended for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// [`Verdict::Passed`].
    Passed,
    /// [`Verdict::Offline`].
    Offline,
    /// [`Verdict::Late`].
    Late,
    /// [`Verdict::Failed`].
    Failed,
    /// [`Verdict::Unknown`].
    Unknown,
    /// It was there and had nothing that could be audited.
    Idle,
}

impl Ended {
    /// All of them, by code.
    pub const ALL: [Self; 6] = [Self::Passed, Self::Offline, Self::Late, Self::Failed, Self::Unknown, Self::Idle];

    /// The code on the disk: the verdict's, or the one after them.
    pub const fn code(self) -> u8 {
        match self {
            Self::Passed => Verdict::Passed.code(),
            Self::Offline => Verdict::Offline.code(),
            Self::Late => Verdict::Late.code(),
            Self::Failed => Verdict::Failed.code(),
            Self::Unknown => Verdict::Unknown.code(),
            Self::Idle => 5,
        }
    }

    /// What a code stands for.
    pub fn of_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

impl From<Verdict> for Ended {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Passed => Self::Passed,
            Verdict::Offline => Self::Offline,
            Verdict::Late => Self::Late,
            Verdict::Failed => Self::Failed,
            Verdict::Unknown => Self::Unknown,
        }
    }
}

/// What a suspended node still needs to be warned again, either of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifting {
    /// Epochs to pass, none of them late or failed in between.
    pub to_pass: u32,
    /// Epochs to be idle in a row.
    pub to_idle: u32,
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
    /// Epochs idle in a row since then; unknown ones do not count.
    idle: u32,
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

    /// What brings it a step back: from suspended to warned, from a slash case to suspended; nothing for others.
    pub fn lifting(&self) -> Option<Lifting> {
        let lifting = Lifting { to_pass: CLEAR_AFTER.saturating_sub(self.passed), to_idle: LAPSE.saturating_sub(self.idle) };
        (!self.may_take()).then_some(lifting)
    }

    /// The standing after one more epoch.
    #[must_use]
    pub fn after(self, ended: Ended) -> Self {
        let mut next = self;
        next.suspended = if self.state == State::Suspended { self.suspended.saturating_add(1) } else { 0 };
        next.idle = match ended {
            Ended::Idle if !self.may_take() => self.idle.saturating_add(1),
            Ended::Unknown => self.idle,
            _ => 0,
        };
        match ended {
            Ended::Passed => (next.passed, next.offline) = (self.passed.saturating_add(1), 0),
            Ended::Offline => next.offline = self.offline.saturating_add(1),
            Ended::Late => next.passed = 0,
            Ended::Failed => (next.passed, next.failed) = (0, self.failed.saturating_add(1)),
            Ended::Unknown | Ended::Idle => {}
        }
        let is_bad = matches!(ended, Ended::Late | Ended::Failed);
        match self.state {
            State::Good if is_bad => next.state = State::Warned,
            State::Warned if is_bad => next.suspend(),
            State::Good | State::Warned if next.offline >= OFFLINE_MAX => next.suspend(),
            State::Warned if next.passed >= CLEAR_AFTER => return Self::default(),
            // Only a further failure makes the case, not time alone: who is away when the grace ends is away.
            State::Suspended if ended == Ended::Failed && next.suspended >= GRACE && next.failed >= SLASH_FAILURES => {
                (next.state, next.idle) = (State::SlashCase, 0);
            }
            State::Suspended if next.passed >= CLEAR_AFTER || next.idle >= LAPSE => next.warn(),
            State::SlashCase if next.passed >= CLEAR_AFTER || next.idle >= LAPSE => next.suspend(),
            _ => {}
        }
        next
    }

    const fn suspend(&mut self) {
        (self.state, self.suspended, self.passed, self.idle) = (State::Suspended, 0, 0, 0);
    }

    /// Warned again; its failures stay, and it was heard, so it is not offline any more.
    const fn warn(&mut self) {
        (self.state, self.suspended, self.passed, self.offline, self.idle) = (State::Warned, 0, 0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(epochs: &[(u32, Ended)]) -> Standing {
        let each = epochs.iter().flat_map(|(times, outcome)| (0..*times).map(|_| *outcome));
        each.fold(Standing::default(), Standing::after)
    }

    #[test]
    fn a_node_is_warned_then_suspended_then_a_slash_is_asked_for() {
        use Ended::{Failed, Late, Offline, Passed, Unknown};
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
            (vec![(2, Failed), (7, Failed), (6, Passed)], State::SlashCase),
            (vec![(2, Failed), (7, Failed), (7, Passed)], State::Suspended),
            (vec![(2, Failed), (7, Failed), (14, Passed)], State::Warned),
            (vec![(2, Failed), (7, Failed), (21, Passed)], State::Good),
            (vec![(2, Failed), (7, Failed), (90, Failed)], State::SlashCase),
            (vec![(2, Late), (8, Offline), (2, Failed)], State::Suspended),
        ] {
            assert_eq!(run(&epochs).state(), state, "{epochs:?}");
        }
        assert!(run(&[(1, Failed)]).is_paid(Verdict::Passed) && !run(&[(1, Failed)]).is_paid(Verdict::Late));
        assert!(!run(&[(2, Failed)]).is_paid(Verdict::Passed) && !run(&[(2, Failed)]).may_take());
    }

    #[test]
    fn a_suspension_lapses_after_two_weeks_with_nothing_to_audit_and_the_failures_stay() {
        use Ended::{Failed, Idle, Late, Offline, Passed, Unknown};
        for (epochs, state) in [
            (vec![(2, Failed), (13, Idle)], State::Suspended),
            (vec![(2, Failed), (14, Idle)], State::Warned),
            (vec![(2, Failed), (14, Idle), (90, Idle)], State::Warned),
            (vec![(2, Failed), (14, Idle), (1, Failed)], State::Suspended),
            (vec![(2, Late), (14, Idle), (1, Late)], State::Suspended),
            (vec![(2, Failed), (14, Idle), (7, Passed)], State::Good),
            // A row is a row, but for what auditors did not know.
            (vec![(2, Failed), (13, Idle), (1, Late), (13, Idle)], State::Suspended),
            (vec![(2, Failed), (13, Idle), (1, Passed), (13, Idle)], State::Suspended),
            (vec![(2, Failed), (13, Idle), (1, Offline), (13, Idle)], State::Suspended),
            (vec![(2, Failed), (13, Idle), (5, Unknown), (1, Idle)], State::Warned),
            // What it passed before repair took everything away still counts.
            (vec![(2, Failed), (6, Passed), (13, Idle), (1, Passed)], State::Warned),
            // Who was away, comes back and is given nothing.
            (vec![(3, Offline), (14, Idle)], State::Warned),
            (vec![(3, Offline), (14, Idle), (2, Offline)], State::Warned),
            (vec![(3, Offline), (14, Idle), (3, Offline)], State::Suspended),
            // Two failures before the lapse, one after it, and the grace anew: the fourth makes the case.
            (vec![(2, Failed), (14, Idle), (1, Failed), (6, Offline), (1, Failed)], State::SlashCase),
            (vec![(2, Failed), (14, Idle), (1, Failed), (5, Offline), (1, Failed)], State::Suspended),
            (vec![(2, Failed), (7, Idle), (1, Failed)], State::SlashCase),
            (vec![(2, Failed), (7, Failed), (13, Idle)], State::SlashCase),
            (vec![(2, Failed), (7, Failed), (14, Idle)], State::Suspended),
            (vec![(2, Failed), (7, Failed), (90, Idle)], State::Warned),
            (vec![(90, Idle)], State::Good),
            (vec![(1, Failed), (90, Idle)], State::Warned),
        ] {
            assert_eq!(run(&epochs).state(), state, "{epochs:?}");
        }
        let lifting = |epochs| run(epochs).lifting().map(|lifting| (lifting.to_pass, lifting.to_idle));
        assert_eq!(lifting(&[(2, Failed)]), Some((7, 14)));
        assert_eq!(lifting(&[(2, Failed), (3, Passed), (5, Idle)]), Some((4, 9)));
        assert_eq!((lifting(&[(1, Failed)]), lifting(&[(2, Failed), (14, Idle)])), (None, None));
    }

    #[test]
    fn every_end_of_an_epoch_has_a_code_and_verdicts_keep_theirs() {
        for (code, ended) in (0..).zip(Ended::ALL) {
            assert_eq!((ended.code(), Ended::of_code(code)), (code, Some(ended)));
        }
        assert_eq!(Ended::of_code(6), None);
        for verdict in Verdict::ALL {
            assert_eq!(Ended::from(verdict).code(), verdict.code());
        }
    }

    fn outcomes(most: usize) -> impl Strategy<Value = Vec<Ended>> {
        proptest::collection::vec((0..Ended::ALL.len()).prop_map(|i| Ended::ALL[i]), 0..most)
    }

    /// Some ends, then a row of one of them that is long enough to lift a suspension or nearly so, then some again.
    fn rows() -> impl Strategy<Value = Vec<Ended>> {
        let row = (0..Ended::ALL.len(), 5..17_usize).prop_map(|(i, times)| vec![Ended::ALL[i]; times]);
        (outcomes(12), row, outcomes(12)).prop_map(|(before, row, after)| [before, row, after].concat())
    }

    proptest! {
        #[test]
        fn without_failures_there_is_no_slash_case_and_with_one_there_were_warning_and_grace(epochs in outcomes(60)) {
            let (mut standing, mut seen) = (Standing::default(), Vec::new());
            for (at, outcome) in epochs.iter().enumerate() {
                standing = standing.after(*outcome);
                seen.push(standing.state());
                if standing.state() == State::SlashCase {
                    let failures = epochs[..=at].iter().filter(|outcome| **outcome == Ended::Failed).count();
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
        fn only_a_row_of_passed_or_idle_epochs_lifts_a_suspension_and_one_failure_brings_it_back(epochs in rows()) {
            let mut standing = Standing::default();
            for (at, ended) in epochs.iter().enumerate() {
                let (before, after) = (standing, standing.after(*ended));
                standing = after;
                prop_assert_eq!(after.lifting().is_some(), !after.may_take());
                if before.state() != State::Suspended || after.state() != State::Warned {
                    continue;
                }
                let known = || epochs[..=at].iter().rev().filter(|ended| **ended != Ended::Unknown);
                let idle = known().take_while(|ended| **ended == Ended::Idle).count();
                let passed = known().take_while(|ended| !matches!(ended, Ended::Late | Ended::Failed)).filter(|ended| **ended == Ended::Passed);
                prop_assert!(idle >= usize::try_from(LAPSE).unwrap() || passed.count() >= usize::try_from(CLEAR_AFTER).unwrap());
                prop_assert_eq!(after.failed, before.failed, "failures are counted on");
                for bad in [Ended::Failed, Ended::Late] {
                    prop_assert_eq!(after.after(bad).state(), State::Suspended);
                }
                prop_assert_eq!(after.after(Ended::Failed).failed, before.failed + 1);
            }
        }

        #[test]
        fn an_idle_epoch_changes_nothing_for_who_is_not_suspended(epochs in rows()) {
            let mut standing = Standing::default();
            for ended in epochs {
                let idle = standing.after(Ended::Idle);
                if standing.may_take() {
                    prop_assert_eq!((idle.state(), idle.passed, idle.failed, idle.idle), (standing.state(), standing.passed, standing.failed, 0));
                }
                standing = standing.after(ended);
            }
        }

        #[test]
        fn what_an_auditor_did_not_know_is_held_against_nobody(epochs in outcomes(40)) {
            // An unknown epoch leaves all but the running of the grace as it was.
            let mut standing = Standing::default();
            for outcome in epochs {
                let (before, after) = (standing, standing.after(Ended::Unknown));
                prop_assert_eq!(Standing { suspended: before.suspended, ..after }, before);
                standing = standing.after(outcome);
            }
        }
    }
}
