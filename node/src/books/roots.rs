//! Which receipts a node's roots hold, so that none of them ever stands under two (F3: the node would be slashed for both).
//!
//! A root that was signed may be included as long as the finalized chain does not show its epoch closed, whatever became of its transaction: what was
//! refused on this branch, or never left, is taken on another. So its receipts are its own from the signature on, and free again only once
//! its epoch is closed without it for good. An epoch has one root. Costs the lag of finality where a root is refused; size: the roots that are not
//! final, a handful of 4,096 numbers at most.

use std::collections::{BTreeMap, BTreeSet};

/// What became of a root that was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is in the finalized chain.
    Final,
    /// It is in the chain, which may still change.
    Open,
    /// It is in no block, and its epoch may still take it.
    Missing,
    /// Its epoch closed without it, and that is final.
    Lost,
}

/// What to do about a root that was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it stands.
    Keep,
    /// Hand it to the chain, again or for the first time.
    Send,
    /// Free its receipts.
    TakeBack,
    /// Nothing: another root that may stand holds one of its receipts.
    Never,
}

/// Why a root is not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// The epoch has one.
    #[error("epoch {0} has a root of this node already: the next one takes what came since")]
    Epoch(u64),
    /// A receipt is another root's.
    #[error("receipt {receipt} is under the root of epoch {epoch}, which may still stand: it cannot be under another one")]
    Held {
        /// Number of the receipt.
        receipt: u64,
        /// The root that has it.
        epoch: u64,
    },
}

/// The roots that were signed and are not known to be final, and what waits for one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots {
    /// Receipts by epoch, each root's in its own order.
    pub signed: BTreeMap<u64, Vec<u64>>,
    /// Receipts that were looked at and are under none.
    pub waiting: Vec<u64>,
    /// Receipts from this number on were not looked at.
    pub seen: u64,
}

impl Roots {
    /// Receipts that roots other than that of `epoch` hold.
    fn others(&self, epoch: u64) -> BTreeSet<u64> {
        self.signed.iter().filter(|(other, _)| **other != epoch).flat_map(|(_, numbers)| numbers).copied().collect()
    }

    /// Whether the root of an epoch has a receipt of another.
    pub fn overlaps(&self, epoch: u64) -> bool {
        let others = self.others(epoch);
        self.signed.get(&epoch).is_some_and(|numbers| numbers.iter().any(|number| others.contains(number)))
    }

    /// What to do about the root of an epoch.
    pub fn step(&self, epoch: u64, fate: Fate) -> Step {
        match fate {
            Fate::Final | Fate::Open => Step::Keep,
            Fate::Lost => Step::TakeBack,
            Fate::Missing if self.overlaps(epoch) => Step::Never,
            Fate::Missing => Step::Send,
        }
    }

    /// Receipts for the next root, of the first `end` there are: at most `most` of those that no root holds, those that waited first; then those that waited
    /// and find no room, and where the next look begins.
    pub fn next(&self, most: usize, end: u64) -> (Vec<u64>, Vec<u64>, u64) {
        let held = self.others(u64::MAX);
        let mut numbers: Vec<u64> = self.waiting.iter().copied().filter(|number| !held.contains(number)).collect();
        let later = numbers.split_off(most.min(numbers.len()));
        let room = u64::try_from(most.saturating_sub(numbers.len())).unwrap_or(u64::MAX);
        let end = end.min(self.seen.saturating_add(room)).max(self.seen);
        numbers.extend((self.seen..end).filter(|number| !held.contains(number)));
        (numbers, later, end)
    }

    /// Gives receipts to the root of an epoch, before it is signed; without any only notes what waits.
    ///
    /// # Errors
    /// [`RootError`]; then nothing changes.
    pub fn sign(&mut self, epoch: u64, numbers: Vec<u64>, waiting: Vec<u64>, seen: u64) -> Result<(), RootError> {
        if !numbers.is_empty() && self.signed.contains_key(&epoch) {
            return Err(RootError::Epoch(epoch));
        }
        for (other, held) in &self.signed {
            if let Some(receipt) = numbers.iter().find(|number| held.contains(number)) {
                return Err(RootError::Held { receipt: *receipt, epoch: *other });
            }
        }
        (self.waiting, self.seen) = (waiting, self.seen.max(seen));
        if !numbers.is_empty() {
            self.signed.insert(epoch, numbers);
        }
        Ok(())
    }

    /// Notes a root that stands on the chain and was signed before these books held receipts from the signature on.
    pub fn adopt(&mut self, epoch: u64, numbers: Vec<u64>) {
        self.waiting.retain(|number| !numbers.contains(number));
        self.signed.insert(epoch, numbers);
    }

    /// Frees the receipts of a root that is lost; they come first again. Returns how many were its own.
    pub fn take_back(&mut self, epoch: u64) -> usize {
        let others = self.others(epoch);
        let mut freed = self.signed.remove(&epoch).unwrap_or_default();
        let count = freed.len();
        freed.retain(|number| !others.contains(number));
        freed.extend(self.waiting.iter().filter(|number| !freed.contains(number)).copied().collect::<Vec<_>>());
        self.waiting = freed;
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A generator of small numbers.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % bound
        }
    }

    /// Seconds for which an epoch takes roots, and between two openings.
    const ACCEPTS: u64 = 6;
    const SPACING: u64 = 9;

    /// A block's time, and the roots it includes: an epoch, and the place among all that were ever signed; nothing is another node's.
    type Block = (u64, Vec<(u64, Option<usize>)>);

    /// Epochs at some block, as the contract counts them.
    #[derive(Default)]
    struct Chain {
        opened: BTreeMap<u64, u64>,
        own: BTreeMap<u64, usize>,
        now: u64,
    }

    impl Chain {
        fn of(blocks: &[Block]) -> Self {
            let mut chain = Self::default();
            for (time, roots) in blocks {
                chain.now = *time;
                roots.iter().for_each(|(epoch, own)| assert!(chain.take(*epoch, *own)));
            }
            chain
        }

        fn submission_epoch(&self) -> u64 {
            let (current, opened) = self.opened.last_key_value().map_or((0, 0), |(epoch, opened)| (*epoch, *opened));
            if current > 0 && self.now < opened + ACCEPTS { current } else { current + 1 }
        }

        /// Whether the contract takes a root.
        fn take(&mut self, epoch: u64, own: Option<usize>) -> bool {
            let last = self.opened.last_key_value().map(|(epoch, opened)| (*epoch, *opened));
            let is_soon = last.is_some_and(|(last, opened)| epoch > last && self.now < opened + SPACING);
            if epoch != self.submission_epoch() || is_soon || (own.is_some() && self.own.contains_key(&epoch)) {
                return false;
            }
            self.opened.entry(epoch).or_insert(self.now);
            self.own.extend(own.map(|own| (epoch, own)));
            true
        }

        /// What became of a root that was signed for an epoch, where `finalized` is this chain's finalized part.
        fn fate(&self, finalized: &Self, epoch: u64) -> Fate {
            let newest = finalized.opened.last_key_value().map_or(0, |(epoch, _)| *epoch);
            let is_over = finalized.opened.get(&epoch).is_some_and(|opened| opened + ACCEPTS <= finalized.now);
            match (finalized.own.contains_key(&epoch), is_over || newest > epoch, self.own.contains_key(&epoch)) {
                (true, ..) => Fate::Final,
                (_, true, _) => Fate::Lost,
                (_, _, true) => Fate::Open,
                _ => Fate::Missing,
            }
        }
    }

    /// Mines, reorganises and finalizes at random; every root that was ever signed may be included wherever the contract takes it. `is_patient`: as the
    /// books are; else receipts whose root is not on the latest chain are free at once. Returns how many standing roots shared a receipt, and how many
    /// receipts were taken back.
    fn play(seed: u64, is_patient: bool) -> (usize, usize) {
        let mut numbers = Numbers(seed);
        let (mut blocks, mut finalized): (Vec<Block>, usize) = (vec![(1, Vec::new())], 1);
        let (mut roots, mut ever, mut receipts): (Roots, Vec<(u64, Vec<u64>)>, u64) = (Roots::default(), Vec::new(), 0);
        let (mut shared, mut taken_back) = (0, 0);
        for turn in 0..400 {
            // The last turns are quiet: everything signed is included where it can be, and becomes final.
            let is_quiet = turn >= 340;
            match if is_quiet { turn % 3 } else { numbers.below(6) } {
                0 | 1 => {
                    let mut chain = Chain::of(&blocks);
                    chain.now += 1 + numbers.below(4);
                    let candidates = ever.iter().enumerate().map(|(place, (epoch, _))| (*epoch, Some(place)));
                    let other = chain.submission_epoch();
                    let all: Vec<_> = candidates.chain([(other, None)]).collect();
                    let taken = all.into_iter().filter(|root| (is_quiet || numbers.below(3) == 0) && chain.take(root.0, root.1)).collect();
                    blocks.push((chain.now, taken));
                }
                2 if is_quiet => finalized = blocks.len(),
                2 => blocks.truncate(finalized + usize::try_from(numbers.below(1 + (blocks.len() - finalized) as u64)).unwrap()),
                3 => finalized += usize::try_from(numbers.below(1 + (blocks.len() - finalized) as u64)).unwrap() / 2,
                _ => {}
            }
            let (latest, last) = (Chain::of(&blocks), Chain::of(&blocks[..finalized]));
            let mut standing = BTreeSet::new();
            for place in latest.own.values() {
                shared += ever[*place].1.iter().filter(|receipt| !standing.insert(**receipt)).count();
            }
            if !is_quiet && numbers.below(2) == 0 {
                continue;
            }
            for epoch in roots.signed.keys().copied().collect::<Vec<_>>() {
                let fate = latest.fate(&last, epoch);
                match roots.step(epoch, if is_patient || fate != Fate::Missing { fate } else { Fate::Lost }) {
                    Step::TakeBack => taken_back += roots.take_back(epoch),
                    Step::Never => assert!(!is_patient, "seed {seed}: two roots with one receipt were signed"),
                    Step::Keep | Step::Send => {}
                }
            }
            receipts += if is_quiet { 0 } else { numbers.below(2) };
            let (mut next, later, seen) = roots.next(12, receipts);
            // Some lanes are not collected yet.
            let unfunded =
                if is_quiet || next.is_empty() { Vec::new() } else { next.split_off(next.len() - usize::from(numbers.below(2) == 1)) };
            let epoch = latest.submission_epoch();
            if !next.is_empty() && roots.sign(epoch, next.clone(), [unfunded, later].concat(), seen).is_ok() {
                ever.push((epoch, next));
            }
        }
        if is_patient {
            let chain = Chain::of(&blocks);
            let standing: BTreeSet<u64> = chain.own.values().flat_map(|place| &ever[*place].1).copied().collect();
            let signed: BTreeSet<u64> = roots.others(u64::MAX);
            let waits = |number: &u64| roots.waiting.contains(number) || *number >= roots.seen || signed.contains(number);
            assert!((0..receipts).all(|number| standing.contains(&number) || waits(&number)), "seed {seed}: a receipt was forgotten");
            assert!(standing.len() as u64 * 2 > receipts, "seed {seed}: {} of {receipts} stand", standing.len());
        }
        (shared, taken_back)
    }

    #[test]
    fn no_two_standing_roots_hold_one_receipt_whatever_reorganisations_bring_back() {
        let mut taken_back = 0;
        for seed in 0..300 {
            let (shared, back) = play(seed, true);
            assert_eq!(shared, 0, "seed {seed}");
            taken_back += back;
        }
        assert!(taken_back > 100, "{taken_back} receipts lost their root for good");
        let hasty: usize = (0..300).map(|seed| play(seed, false).0).sum();
        assert!(hasty > 100, "the same chains punish whoever frees receipts by the latest block: {hasty}");
    }

    #[test]
    fn a_receipt_that_a_root_holds_is_in_no_other_and_a_root_that_overlaps_is_never_sent() {
        let mut roots = Roots::default();
        roots.sign(1, vec![0, 1], vec![2], 3).unwrap();
        assert_eq!(roots.clone().sign(1, vec![3], vec![], 4), Err(RootError::Epoch(1)));
        assert_eq!(roots.clone().sign(2, vec![3, 1], vec![], 4), Err(RootError::Held { receipt: 1, epoch: 1 }));
        assert_eq!(roots.next(10, 5), (vec![2, 3, 4], vec![], 5));
        assert_eq!(roots.next(1, 5), (vec![2], vec![], 3));
        // Books of before knew a root only once the chain had it.
        roots.adopt(2, vec![1, 2]);
        assert_eq!((roots.step(1, Fate::Missing), roots.step(2, Fate::Open)), (Step::Never, Step::Keep));
        assert_eq!(roots.waiting, Vec::<u64>::new());
        assert_eq!((roots.step(1, Fate::Lost), roots.take_back(1)), (Step::TakeBack, 2));
        assert_eq!(roots.waiting, [0], "1 is under the other root");
        assert_eq!(roots.step(2, Fate::Missing), Step::Send);
    }
}
