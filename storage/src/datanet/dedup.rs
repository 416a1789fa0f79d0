//! Near copies: who brought nearly the same text before, and which cluster a document belongs to (P3).
//!
//! [`shingles`]: five words in a row, hashed to 64 bits, as a sorted set. [`minhash`]: 128 minima of that set, in 32 bands of four.
//! [`index`]: which accepted documents share a band, and the exact check of their sets. [`cluster`]: what follows for credit.
//!
//! A document's nearest is the *earliest* by priority that passes `5 |A∩B| >= 4 |A∪B|`, so the answer is a function of the set of accepted
//! documents, not of the order in which they were entered. At similarity 0.8 one band of four agrees with probability 0.41, at least one of 32
//! with 1 - 5e-8; at 0.5 with 0.87, which is why the exact check follows. A copyist who rewords every fifth word escapes: that is no copy.
//!
//! Back of the envelope, per document of s shingles: s BLAKE3 compressions (a shingle is some 30 bytes, one block), 128 s multiplications,
//! 8 s bytes of set, 256 bytes of bands, 32 of entry. A million documents of 200 words hold 1.6 GB of sets and 0.3 GB besides: in memory ([`index`]) stands what one
//! contribution holds, and what tests compare with; a Datanet's documents stand in a folder (`datanet::disk`, laid out by `run`, merged by `schedule`,
//! where an `outline` of each set spares most exact checks the reading).

pub mod cluster;
pub mod index;
pub mod minhash;
#[cfg(feature = "disk")]
pub(crate) mod outline;
#[cfg(feature = "disk")]
pub(crate) mod run;
#[cfg(feature = "disk")]
pub(crate) mod schedule;
pub mod shingles;

pub use self::{
    cluster::{Member, clusters_of},
    index::{Batch, CANDIDATES_MAX, Index, IndexError, Match, SHINGLES_MAX},
    minhash::{BAND_ROWS, BANDS, PERMUTATIONS, Permutations, Signature},
    shingles::{SHINGLE_WORDS, Shingler},
};

/// How much two sets of shingles share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap {
    /// Shingles in both.
    pub shared: u32,
    /// Shingles in either.
    pub union: u32,
}

impl Overlap {
    /// Shared shingles in a thousand of the union, rounded down.
    pub fn per_mille(self) -> u32 {
        u32::try_from(u64::from(self.shared) * 1000 / u64::from(self.union.max(1))).expect("a part is at most the whole")
    }

    /// Whether one is a near copy of the other: `5 |A∩B| >= 4 |A∪B|`.
    pub fn is_near(self) -> bool {
        self.shared > 0 && 5 * u64::from(self.shared) >= 4 * u64::from(self.union)
    }
}

/// Whether sets of so many shingles can be near copies: the smaller one holds what both must share.
pub(crate) fn may_be_near(a: usize, b: usize) -> bool {
    a.min(b) >= least_shared(a + b)
}

/// Fewest shingles that two sets of `total` together share if they are near copies: 5 s >= 4 (total - s) is 9 s >= 4 total.
fn least_shared(total: usize) -> usize {
    (4 * total).div_ceil(9).max(1)
}

/// The overlap of two sorted sets if they are near copies; otherwise nothing, told as soon as too many shingles differ.
pub fn near(a: &[u64], b: &[u64]) -> Option<Overlap> {
    let total = a.len() + b.len();
    if !may_be_near(a.len(), b.len()) {
        return None;
    }
    let least = least_shared(total);
    let mut misses_left = total - 2 * least;
    let (mut i, mut j, mut shared) = (0, 0, 0_usize);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Equal => (i, j, shared) = (i + 1, j + 1, shared + 1),
            order => {
                misses_left = misses_left.checked_sub(1)?;
                if order.is_lt() { i += 1 } else { j += 1 }
            }
        }
    }
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Some(Overlap { shared: count(shared), union: count(total - shared) }).filter(|overlap| overlap.is_near())
}

#[cfg(test)]
mod tests;
