//! Whose rows come next: deficit round robin over payers (Shreedhar and Varghese 1996).
//!
//! Payers stand in a ring. The one in front may use a quantum of rows, in one step or over several, then the next is in front.
//! Who wants less than it may have loses the rest and waits at the end; so over time every payer that always wants more gets the
//! same, to within a quantum and a step, however many jobs or how long prompts it sends.

use std::collections::{BTreeMap, VecDeque};

use types::id::Address;

/// The ring.
#[derive(Debug)]
pub struct Fair {
    quantum_max: u32,
    ring: VecDeque<Address>,
    /// Rows a payer of the ring may still use before the next one's turn; 0 for all that are not in the middle of theirs.
    deficits: BTreeMap<Address, u32>,
    /// Payers that want nothing more in this step.
    sated: Vec<Address>,
}

impl Fair {
    /// Nobody in it. A quantum is an equal part of a step, so that every payer has its turn in every step if there are rows enough; at
    /// least one row and at most `quantum_max`.
    #[must_use]
    pub fn new(quantum_max: u32) -> Self {
        Self { quantum_max: quantum_max.max(1), ring: VecDeque::new(), deficits: BTreeMap::new(), sated: Vec::new() }
    }

    /// Puts a payer at the end, unless it is in the ring.
    pub fn enter(&mut self, payer: Address) {
        if let std::collections::btree_map::Entry::Vacant(place) = self.deficits.entry(payer) {
            place.insert(0);
            self.ring.push_back(payer);
        }
    }

    /// Drops the payers that do not stay.
    pub fn retain(&mut self, mut stays: impl FnMut(Address) -> bool) {
        let deficits = &mut self.deficits;
        self.ring.retain(|payer| {
            let stays = stays(*payer);
            if !stays {
                deficits.remove(payer);
            }
            stays
        });
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Shares out the rows of a step. `offer` is asked how many of so many rows a payer uses, again and again until it uses fewer
    /// than it was offered. Returns the rows that nobody wants.
    pub fn share(&mut self, rows: u32, mut offer: impl FnMut(Address, u32) -> u32) -> u32 {
        let payers = u32::try_from(self.ring.len()).unwrap_or(u32::MAX).max(1);
        let quantum = (rows / payers).clamp(1, self.quantum_max);
        let mut left = rows;
        while left > 0
            && let Some(&payer) = self.ring.front()
        {
            let deficit = self.deficits.entry(payer).or_default();
            if *deficit == 0 {
                *deficit = quantum;
            }
            let offered = left.min(*deficit);
            let used = offer(payer, offered).min(offered);
            left -= used;
            *deficit -= used;
            if used < offered {
                *deficit = 0;
                self.ring.pop_front();
                self.sated.push(payer);
            } else if *deficit == 0 {
                self.ring.rotate_left(1);
            }
        }
        self.ring.extend(self.sated.drain(..));
        left
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn payer(number: u8) -> Address {
        Address([number; 20])
    }

    /// Runs `steps` steps of `rows`; payer `i` uses at most `wants[i]` rows in a step. Returns what each got.
    fn run(quantum: u32, rows: u32, wants: &[u32], steps: usize) -> Vec<u32> {
        let mut fair = Fair::new(quantum);
        (0..).zip(wants).for_each(|(number, _)| fair.enter(payer(number)));
        let mut got = vec![0; wants.len()];
        for _ in 0..steps {
            let mut left = wants.to_vec();
            let unused = fair.share(rows, |payer, offered| {
                let at = usize::from(payer.0[0]);
                let used = left[at].min(offered);
                left[at] -= used;
                got[at] += used;
                used
            });
            assert_eq!(unused, rows.saturating_sub(wants.iter().sum()), "rows are left only if nobody wants them");
        }
        got
    }

    #[test]
    fn who_wants_little_gets_it_and_the_rest_is_shared_equally() {
        let got = run(16, 100, &[1, 1_000, 1_000, 3], 100);
        assert_eq!((got[0], got[3]), (100, 300));
        assert!(got[1].abs_diff(got[2]) <= 16 && got[1] + got[2] == 9_600, "{got:?}");
    }

    #[test]
    fn a_step_smaller_than_the_ring_goes_on_where_the_last_one_stopped() {
        assert_eq!(run(16, 3, &[1; 7], 7), [3; 7]);
    }

    #[test]
    fn who_leaves_takes_no_rows_along() {
        let mut fair = Fair::new(4);
        fair.enter(payer(0));
        fair.enter(payer(1));
        fair.enter(payer(0));
        assert_eq!(fair.len(), 2);
        fair.share(2, |_, offered| offered);
        fair.retain(|other| other != payer(0));
        fair.enter(payer(0));
        let mut first = None;
        fair.share(4, |payer, offered| {
            first.get_or_insert((payer, offered));
            offered
        });
        assert_eq!(first, Some((payer(1), 2)), "its own part of the new step");
    }

    proptest! {
        /// Whoever always wants a whole step gets an equal share to within a quantum and a step, whatever the others want.
        #[test]
        fn always_hungry_payers_get_the_same(
            quantum in 1u32..40, rows in 1u32..200, others in prop::collection::vec(0u32..50, 0..6), hungry in 2usize..6, steps in 1usize..200,
        ) {
            let mut wants = others.clone();
            wants.extend(std::iter::repeat_n(rows, hungry));
            let got = run(quantum, rows, &wants, steps);
            let shares = &got[others.len()..];
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            prop_assert!(most - least <= quantum + rows, "{got:?}");
            // Whoever wants at most its part of a step gets all of it in every step.
            let part = (rows / u32::try_from(wants.len()).unwrap()).min(quantum);
            for (got, want) in got.iter().zip(&others) {
                let all = want * u32::try_from(steps).unwrap();
                prop_assert!(*got <= all && (*want > part || *got == all), "{got} of {all}");
            }
        }
    }
}
