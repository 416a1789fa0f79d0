//! Counter-based noise: every token id at every position has its own, derived from the seed by BLAKE3 and SplitMix64.

use crate::numeric::ln;

/// Above the Gumbel noise of any hash, for each one bit that the hash begins with, and one more.
///
/// With `z` leading one bits `1 - u >= 2^-(z + 1)`, and `-ln u >= 1 - u`, so the noise is at most `(z + 1) ln 2`. The margin over ln 2
/// is larger than all rounding.
pub(super) const GUMBEL_PER_BIT: f64 = 0.6932;

/// Bits of a hash that make the noise.
pub(super) const NOISE_BITS: u32 = 53;

/// The noise of one position: a keyed stream indexed by token id.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noise {
    key: u64,
}

impl Noise {
    pub(super) fn new(seed: &[u8; 32], position: u32) -> Self {
        let digest = blake3::keyed_hash(seed, &position.to_le_bytes());
        let (words, _) = digest.as_bytes().as_chunks::<8>();
        Self { key: u64::from_le_bytes(words[0]) }
    }

    /// 64 even bits of a token; the higher the number, the larger the noise.
    #[inline(always)]
    pub(super) fn hash(self, id: u32) -> u64 {
        split_mix(self.key.wrapping_add(u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// Standard Gumbel noise of a token: `-ln(-ln u)`, `u = (upper 53 bits of the hash + 0.5) / 2^53`, which rounds to 1 for the
    /// largest hash: there 54 ln 2, the noise of `u = 1 - 2^-54`.
    pub(super) fn gumbel(self, id: u32) -> f64 {
        gumbel(self.hash(id))
    }
}

pub(super) fn gumbel(hash: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
    let uniform = ((hash >> (64 - NOISE_BITS)) as f64 + 0.5) / (1u64 << NOISE_BITS) as f64;
    if uniform < 1.0 { -ln(-ln(uniform)) } else { 54.0 * std::f64::consts::LN_2 }
}

/// The output function of SplitMix64 (Steele, Lea and Flood 2014).
#[inline(always)]
pub(crate) fn split_mix(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bound(hash: u64) -> f64 {
        f64::from(hash.leading_ones().min(NOISE_BITS) + 1) * GUMBEL_PER_BIT
    }

    #[test]
    fn noise_is_below_its_bound_at_both_ends_of_every_run_of_ones() {
        for ones in 0..=64u32 {
            let low = if ones == 0 { 0 } else { u64::MAX << (64 - ones) };
            let high = if ones == 64 { u64::MAX } else { u64::MAX ^ (1 << (63 - ones)) };
            for hash in [low, low | 1, high, high ^ 1] {
                let noise = gumbel(hash);
                assert!(noise.is_finite() && noise < bound(hash), "{hash:x}: {noise} and {}", bound(hash));
            }
        }
        assert!(gumbel(0) < -3.6);
    }

    proptest! {
        #[test]
        fn noise_is_below_its_bound(hash in any::<u64>()) {
            prop_assert!(gumbel(hash) < bound(hash));
        }

        /// The logarithm of the maths library is within 1e-15 of ours: nothing a score as `f32` would show.
        #[test]
        fn noise_is_what_the_maths_library_gives(hash in any::<u64>()) {
            let uniform = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            let other = -(-uniform.ln()).ln();
            prop_assert!((gumbel(hash) - other).abs() <= 1e-14 * other.abs().max(1.0));
        }
    }
}
