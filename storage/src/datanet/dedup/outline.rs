//! A set's outline: a few bytes that tell most sets apart from a set without reading it, and never tell a near copy apart.
//!
//! Each shingle of a set flips one of so many bits, which its own bits choose. What two sets share flips the same bits, so their *parities* differ in at most as many bits as
//! the sets do in shingles. Near copies differ in d = t - 2 s of t shingles in all, s of them shared, and 5 s >= 4 (t - s) is 9 d <= t: where nine times the bits that differ are more
//! than both sets hold, no exact check can pass.
//!
//! Back of the envelope: sets of n shingles each that share a fifth of their union (two rows of one template, two documents with one paragraph in common) differ in 1.3 n, which flips
//! nearly half of b bits, give or take the root of b / 4, and near copies differ in n / 4.5: so b >= 3/4 n tells practically all apart. Sets of up to [`NARROW_MAX`] shingles, 1.6 KB of text, have
//! 192 bits; larger ones a *broad* parity as well, whose bits are the power of two from 3/4 n on: 0.14 bytes a shingle beside its 8, 64 KiB where a text of a megabyte has nothing but words of one
//! letter. Two broad parities are compared at the narrower one's width: the halves of the wider one, one upon the other, are its parity at half the width.

/// Words of a narrow parity.
const WORDS: usize = 3;
const BITS: u64 = 64 * WORDS as u64;
/// Most shingles of a set that has no broad parity. Tests have few, so that they come to both.
pub(crate) const NARROW_MAX: u32 = if cfg!(test) { 36 } else { 256 };
/// Fewest words of a broad parity.
const BROAD_MIN: usize = 4;

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
    #[inline]
    pub(crate) fn may_be_near(&self, other: &Self) -> bool {
        let apart: u32 = self.parity.iter().zip(&other.parity).map(|(a, b)| (a ^ b).count_ones()).sum();
        may_differ(self.count, other.count, apart)
    }
}

/// Whether sets of so many shingles that differ in `apart` at least may be near copies.
#[inline]
pub(crate) fn may_differ(a: u32, b: u32, apart: u32) -> bool {
    let (fewer, more) = (u64::from(a.min(b)), u64::from(a.max(b)));
    // The smaller set holds what is shared, so the larger one's other shingles differ.
    9 * u64::from(apart).max(more - fewer) <= fewer + more
}

/// Words of the broad parity of a set of so many shingles.
pub(crate) fn broad_words(count: u32) -> usize {
    let words = (u64::from(count) * 3).div_ceil(4 * 64);
    usize::try_from(words).expect("below 2^32").next_power_of_two().max(BROAD_MIN)
}

/// The broad parity of a set.
pub(crate) fn broad(set: &[u64]) -> Vec<u64> {
    let mut parity = vec![0; broad_words(u32::try_from(set.len()).unwrap_or(u32::MAX))];
    let mask = parity.len() * 64 - 1;
    for shingle in set {
        let bit = usize::try_from(shingle & 0xffff_ffff).expect("32 bits") & mask;
        parity[bit / 64] ^= 1 << (bit % 64);
    }
    parity
}

/// Bits in which two broad parities differ.
#[inline]
pub(crate) fn broad_apart(a: &[u64], b: &[u64]) -> u32 {
    let (narrow, wide) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let apart = |at: usize| (at..wide.len()).step_by(narrow.len().max(1)).fold(narrow[at], |word, at| word ^ wide[at]);
    (0..narrow.len()).map(|at| apart(at).count_ones()).sum()
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

    #[test]
    fn large_sets_that_share_a_fifth_are_told_apart_by_broad_parities() {
        for count in [300_u64, 1000, 4000, 11_000] {
            for seed in 0..20 {
                let [a, b] = sets(seed, count / 3, count - count / 3, count - count / 3);
                let [count, other] = [&a, &b].map(|set| u32::try_from(set.len()).unwrap());
                assert!(!may_differ(count, other, broad_apart(&broad(&a), &broad(&b))), "{count} {seed}");
                assert!(broad_words(count) * 64 < 2 * set_bits(count), "{count}");
            }
        }
    }

    fn set_bits(count: u32) -> usize {
        count as usize * 3 / 4
    }

    proptest! {
        #[test]
        fn near_copies_are_never_told_apart_by_broad_parities_of_any_width(
            seed in any::<u64>(), shared in 0_u64..3000, left in 0_u64..400, right in 0_u64..400,
        ) {
            let [a, b] = sets(seed, shared, left, right);
            let [count, other] = [&a, &b].map(|set| u32::try_from(set.len()).unwrap());
            let apart = broad_apart(&broad(&a), &broad(&b));
            prop_assert!(u64::from(apart) <= left + right, "{} of {} {}", apart, left, right);
            prop_assert!(near(&a, &b).is_none() || may_differ(count, other, apart));
        }

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
