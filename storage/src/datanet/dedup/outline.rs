//! A set's outline: 28 bytes that tell most sets apart from a set without reading it, and never tell a near copy apart.
//!
//! Each shingle of a set flips one of 192 bits, which its own bits choose. What two sets share flips the same bits, so their *parities* differ in at most as many bits as
//! the sets do in shingles. Near copies differ in d = t - 2 s of t shingles in all, s of them shared, and 5 s >= 4 (t - s) is 9 d <= t: where nine times the bits that differ are more
//! than both sets hold, no exact check can pass.
//!
//! Back of the envelope: sets of n shingles each that share a fifth of their union (two rows of one template, two documents with one paragraph in common) differ in 1.3 n, which flips
//! half of the bits, 96 +- 7, and near copies differ in n / 4.5: so up to n = 330, some 2 KB of text, practically all are told apart; of 1,000 shingles none are, and their sets are read.

/// Words of a parity.
const WORDS: usize = 3;
const BITS: u64 = 64 * WORDS as u64;

/// How many shingles a set holds, and their parity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    /// Shingles.
    pub(crate) count: u32,
    /// Whether an odd number of them chose each bit.
    pub(crate) parity: [u64; WORDS],
}

impl Outline {
    /// The outline of a set.
    pub(crate) fn of(set: &[u64]) -> Self {
        let mut parity = [0; WORDS];
        for shingle in set {
            // Sets ascend by their shingles' high bits; the low ones are as good as drawn.
            let bit = ((shingle & 0xffff_ffff) * BITS) >> 32;
            parity[usize::try_from(bit / 64).expect("below 3")] ^= 1 << (bit % 64);
        }
        Self { count: u32::try_from(set.len()).unwrap_or(u32::MAX), parity }
    }

    /// Whether the sets may be near copies of each other: if not, they are none.
    pub(crate) fn may_be_near(&self, other: &Self) -> bool {
        let apart: u32 = self.parity.iter().zip(&other.parity).map(|(a, b)| (a ^ b).count_ones()).sum();
        let (fewer, more) = (u64::from(self.count.min(other.count)), u64::from(self.count.max(other.count)));
        // The smaller set holds what is shared, so the larger one's other shingles differ.
        9 * u64::from(apart).max(more - fewer) <= fewer + more
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::datanet::dedup::near;

    /// Sets of which `shared` shingles are common and as many as said are not.
    fn sets(seed: u64, shared: u64, left: u64, right: u64) -> [Vec<u64>; 2] {
        let shingle =
            |n: u64| u64::from_be_bytes(*blake3::hash(&[seed.to_be_bytes(), n.to_be_bytes()].concat()).as_bytes().first_chunk().unwrap());
        let of = |own: std::ops::Range<u64>| {
            let mut set: Vec<u64> = (0..shared).chain(own).map(shingle).collect();
            set.sort_unstable();
            set
        };
        [of(10_000..10_000 + left), of(20_000..20_000 + right)]
    }

    #[test]
    fn sets_that_share_a_fifth_are_told_apart_up_to_the_size_that_is_stated() {
        for count in [6, 30, 100, 330] {
            let apart = (0..200).filter(|seed| {
                let [a, b] = sets(*seed, count / 3, count - count / 3, count - count / 3);
                !Outline::of(&a).may_be_near(&Outline::of(&b))
            });
            let told = apart.count();
            assert!(told >= 190, "{told} of 200 pairs of {count}");
        }
    }

    proptest! {
        #[test]
        fn near_copies_are_never_told_apart(seed in any::<u64>(), shared in 0_u64..600, left in 0_u64..90, right in 0_u64..90) {
            let [a, b] = sets(seed, shared, left, right);
            prop_assert!(near(&a, &b).is_none() || Outline::of(&a).may_be_near(&Outline::of(&b)));
        }

        #[test]
        fn sets_at_the_very_threshold_are_never_told_apart(seed in any::<u64>(), part in 1_u64..80, left in 0_u64..81) {
            // Four fifths of the union exactly.
            let [a, b] = sets(seed, 4 * part, left.min(part), part - left.min(part));
            prop_assert!(near(&a, &b).is_some());
            prop_assert!(Outline::of(&a).may_be_near(&Outline::of(&b)));
        }
    }
}
