//! Which receipts of a root are asked for on the chain, and what that may cost.
//!
//! A challenge attaches a bond for each receipt it asks for. A receipt that is shown costs half of what showing it cost, at most its bond, the rest of which the contract
//! keeps until it is claimed; those of a challenge that nobody answers in time come back when it is settled, and the root is withheld. So a root is tried by its first [`FIRST_STRETCH`] receipts:
//! a node that is gone costs gas alone, and one that answers on the chain without serving anybody takes all `count` bonds out of use, 64 first.
//!
//! What may be spent in one round: balance - ([`DUTY_GAS`] * price + [`DUTY_BONDS`] * bond), in whole bonds. The gas is for what this node would be slashed for
//! not doing, or not be paid: a stretch of its own shown in time (256 receipts at 82,614 gas: 21 million), its root, collects and payout; the bonds are for
//! questions about a payout, which pay themselves back when it is taken back. With 100 OPEN, a price of 0.01 gwei and bonds of one OPEN: 100 - 0.0003 - 8, so 91 receipts.
//! Who has less asks for a shorter stretch, at least one receipt, and for what follows as its balance grows: bonds that come back, claims, deposits.
//! A withheld root is found by any receipt of it that is not shown, so a poster with one spare bond holds up no node that answers and convicts every one that does not.

use chain_bridge::{
    fraud::challenge::STRETCH_MAX,
    registry::{State, money::ChallengeOf},
};
use types::{amount::Amount, id::Address};

/// Receipts that are asked for first: a node that shows so many on the chain and none elsewhere is asked for all.
const FIRST_STRETCH: u64 = 64;
/// Gas that is kept for other duties.
const DUTY_GAS: u128 = 30_000_000;
/// Bonds that are kept for questions about payouts.
const DUTY_BONDS: u128 = 8;

/// Receipts that may be asked for with a balance, at a gas price in wei; all of them where no bond is due.
pub(super) fn affordable(balance: Amount, price: u128, bond: Amount) -> u64 {
    let kept = DUTY_GAS.saturating_mul(price).saturating_add(DUTY_BONDS.saturating_mul(bond.0));
    let spare = balance.0.saturating_sub(kept);
    spare.checked_div(bond.0).map_or(u64::MAX, |bonds| u64::try_from(bonds).unwrap_or(u64::MAX))
}

/// Receipts of a root that somebody has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) first: u64,
    pub(super) count: u64,
    /// Until when they are waited for.
    pub(super) deadline: u64,
    /// All of them were shown.
    pub(super) is_shown: bool,
}

/// What somebody has asked for of a node's root.
pub(super) fn asked(state: &State, number: u64, of_node: Address) -> impl Iterator<Item = Asked> {
    state.challenges().filter_map(move |(_, challenge)| match challenge.of {
        ChallengeOf::Receipts { epoch, node, first, count } if (epoch, node) == (number, of_node) => {
            Some(Asked { first, count, deadline: challenge.deadline, is_shown: challenge.shown >= count })
        }
        _ => None,
    })
}

/// How much of W1 is left, in the sequencer's seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time {
    pub(super) now: u64,
    /// How long a challenge waits for its answer.
    pub(super) answer_s: u64,
    /// When W1 ends.
    pub(super) end: u64,
}

impl Time {
    /// Whether a challenge that is made at `at` can be answered, and settled as long after, before W1 ends.
    const fn is_enough(&self, at: u64) -> bool {
        at.saturating_add(self.answer_s.saturating_mul(2)) <= self.end
    }
}

/// The places below `count` that no stretch covers, as stretches of any length.
fn uncovered(count: u64, asked: impl Iterator<Item = Asked>) -> Vec<(u64, u64)> {
    let mut known: Vec<(u64, u64)> = asked.map(|asked| (asked.first, asked.first.saturating_add(asked.count))).collect();
    known.sort_unstable();
    let (mut open, mut from) = (Vec::new(), 0);
    for (first, end) in known {
        if from < first.min(count) {
            open.push((from, first.min(count) - from));
        }
        from = from.max(end);
    }
    if from < count {
        open.push((from, count - from));
    }
    open
}

/// What to ask for of a root over `count` receipts with `bonds` to spend: first [`FIRST_STRETCH`] of them; every other one once these were shown, or if
/// their answer may come too late for the others. As long as an answer to the first ones is waited for: nothing.
pub(super) fn due(count: u64, asked: &[Asked], time: &Time, bonds: u64) -> Vec<(u64, u64)> {
    if !time.is_enough(time.now) {
        return Vec::new();
    }
    let tried = count.min(FIRST_STRETCH);
    let unshown: u64 = uncovered(count, asked.iter().copied().filter(|asked| asked.is_shown)).iter().map(|(_, count)| count).sum();
    let shown = count - unshown;
    // Where nothing is asked yet an answer may come as late as a challenge of now allows.
    let waited = asked.iter().filter(|asked| !asked.is_shown).map(|asked| asked.deadline).min();
    let is_short = !time.is_enough(waited.unwrap_or_else(|| time.now.saturating_add(time.answer_s)));
    let most = if shown >= tried || is_short {
        u64::MAX
    } else if waited.is_some() {
        0
    } else {
        tried - shown
    };
    cut(&uncovered(count, asked.iter().copied()), most.min(bonds))
}

/// At most `most` receipts of these, in stretches that one challenge may ask for.
fn cut(open: &[(u64, u64)], mut most: u64) -> Vec<(u64, u64)> {
    let mut stretches = Vec::new();
    for &(mut first, mut left) in open {
        while left.min(most) > 0 {
            let count = left.min(most).min(STRETCH_MAX);
            stretches.push((first, count));
            (first, left, most) = (first + count, left - count, most - count);
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Time = Time { now: 100, answer_s: 10, end: 1_000 };

    fn ask(count: u64, asked: &[Asked], time: &Time) -> Vec<(u64, u64)> {
        due(count, asked, time, u64::MAX)
    }

    const fn one(first: u64, count: u64, is_shown: bool) -> Asked {
        Asked { first, count, deadline: 110, is_shown }
    }

    #[test]
    fn a_first_stretch_is_asked_for_and_all_others_once_it_was_shown() {
        assert_eq!(ask(1, &[], &TIME), [(0, 1)]);
        assert_eq!(ask(600, &[], &TIME), [(0, 64)]);
        assert_eq!(ask(600, &[one(0, 64, false)], &TIME), [], "its answer is waited for");
        assert_eq!(ask(600, &[one(0, 64, true)], &TIME), [(64, 256), (320, 256), (576, 24)]);
        assert_eq!(ask(600, &[one(0, 64, true), one(320, 256, false)], &TIME), [(64, 256), (576, 24)]);
        assert_eq!(ask(64, &[one(0, 64, true)], &TIME), []);
        assert_eq!(ask(600, &[one(0, 256, true)], &TIME), [(256, 256), (512, 88)], "asked for by somebody else: no bond is due twice");
        assert_eq!(ask(300, &[one(0, 1, true)], &TIME), [(1, 63)], "one receipt is no stretch");
        assert_eq!(ask(300, &[one(100, 40, true), one(120, 40, true)], &TIME), [(0, 4)], "60 were shown, wherever they stand");
        assert_eq!(ask(0, &[], &TIME), []);
    }

    #[test]
    fn where_two_rounds_do_not_fit_into_w1_everything_is_asked_for_at_once_and_nothing_too_late() {
        let ending = |end| Time { end, ..TIME };
        assert_eq!(ask(100, &[], &ending(130)), [(0, 64)], "an answer by 110 leaves 20 s");
        assert_eq!(ask(100, &[], &ending(129)), [(0, 100)]);
        assert_eq!(ask(100, &[one(0, 64, false)], &ending(129)), [(64, 36)]);
        assert_eq!(ask(300, &[], &ending(120)), [(0, 256), (256, 44)]);
        assert_eq!(ask(100, &[], &ending(119)), [], "nobody could answer and settle any more");
        assert_eq!(ask(100, &[one(0, 64, true)], &ending(119)), []);
    }

    #[test]
    fn every_receipt_of_a_root_is_asked_for_once() {
        for count in [1, 63, 64, 65, 319, 320, 321, 4_096, 10_000] {
            let all: Vec<_> = ask(count, &[], &Time { end: 120, ..TIME });
            let places: Vec<u64> = all.iter().flat_map(|(first, count)| *first..first + count).collect();
            assert!(places.iter().copied().eq(0..count) && all.iter().all(|(_, count)| *count <= STRETCH_MAX), "{count}: {all:?}");
        }
    }

    #[test]
    fn who_has_less_money_asks_for_shorter_stretches_and_goes_on_as_it_grows() {
        assert_eq!(due(600, &[], &TIME, 0), [], "nothing is asked for without money");
        assert_eq!(due(600, &[], &TIME, 1), [(0, 1)]);
        assert_eq!(due(600, &[], &TIME, 7), [(0, 7)]);
        assert_eq!(due(600, &[one(0, 7, false)], &TIME, 7), [], "an answer to it is waited for");
        // It was shown, and its bonds are gone: what follows is asked for with what there is by then, until 64 were shown.
        assert_eq!(due(600, &[one(0, 7, true)], &TIME, 3), [(7, 3)]);
        assert_eq!(due(600, &[one(0, 7, true), one(7, 3, true)], &TIME, u64::MAX), [(10, 54)]);
        assert_eq!(due(600, &[one(0, 64, true)], &TIME, 300), [(64, 256), (320, 44)]);
        assert_eq!(due(600, &[], &Time { end: 120, ..TIME }, 300), [(0, 256), (256, 44)], "too late for all is not too late for some");
        // From one bond at a time a whole root comes about, and none of it is paid for twice.
        let (mut asked, mut spent) = (Vec::new(), 0);
        while let Some((first, count)) = due(150, &asked, &TIME, 1 + spent % 5).first().copied() {
            spent += count;
            asked.push(one(first, count, true));
        }
        assert_eq!((spent, uncovered(150, asked.into_iter())), (150, vec![]));
    }

    #[test]
    fn what_other_duties_need_is_not_spent_on_challenges() {
        let open = |amount: u128| Amount(amount * 1_000_000_000_000_000_000);
        let (price, bond) = (10_000_000, open(1));
        assert_eq!(affordable(open(100), price, bond), 91, "100 - 0.0003 - 8 bonds");
        assert_eq!(affordable(open(9), price, bond), 0);
        assert_eq!(affordable(Amount(open(9).0 + DUTY_GAS * price), price, bond), 1);
        assert_eq!(affordable(open(8), price, bond), 0);
        assert_eq!(affordable(Amount::ZERO, 0, Amount::ZERO), u64::MAX, "no bond is due");
        assert_eq!(affordable(Amount(u128::MAX), u128::MAX, bond), 0, "gas that nobody could pay");
    }
}
