//! MinHash: 128 minima of a set of shingles under 128 permutations of the 64-bit numbers.
//!
//! Permutation i is `x -> a x + b mod 2^64` with a odd, hence a bijection. Its a (lowest bit set) and b are 64 bits each, big-endian, at bytes
//! 16 i and 16 i + 8 of BLAKE3's extended output over `tributary/minhash/v1`. Shingles are hashes, so that a minimum is decided by the
//! well-mixed high bits.
//!
//! Cost: one multiplication, addition and comparison per shingle and permutation, eight at once where the machine has AVX-512.

use crate::lanes;

/// Permutations, and the minima of a signature.
pub const PERMUTATIONS: usize = 128;
/// Bands of a signature.
pub const BANDS: usize = 32;
/// Minima of a band.
pub const BAND_ROWS: usize = 4;

const SEED: &[u8] = b"tributary/minhash/v1";

/// The minima of a document's shingles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature(pub [u64; PERMUTATIONS]);

/// The protocol's permutations, worked out once.
#[derive(Debug, Clone)]
pub struct Permutations {
    factors: [u64; PERMUTATIONS],
    shifts: [u64; PERMUTATIONS],
}

impl Permutations {
    /// Those of P3.
    pub fn new() -> Self {
        let mut stream = [0; 16 * PERMUTATIONS];
        blake3::Hasher::new().update(SEED).finalize_xof().fill(&mut stream);
        let (mut factors, mut shifts) = ([0; PERMUTATIONS], [0; PERMUTATIONS]);
        let (words, _) = stream.as_chunks::<8>();
        for (i, pair) in words.chunks_exact(2).enumerate() {
            (factors[i], shifts[i]) = (u64::from_be_bytes(pair[0]) | 1, u64::from_be_bytes(pair[1]));
        }
        Self { factors, shifts }
    }

    /// The signature of a set; nothing for the empty one.
    pub fn signature(&self, shingles: &[u64]) -> Option<Signature> {
        (!shingles.is_empty()).then(|| Signature(lanes::minima(shingles, &self.factors, &self.shifts)))
    }
}

impl Default for Permutations {
    fn default() -> Self {
        Self::new()
    }
}

impl Signature {
    /// A key per band: equal bands have equal keys; unequal ones share a key once in 2^32, which costs an exact check and nothing else.
    pub fn keys(&self) -> [u32; BANDS] {
        let (bands, _) = self.0.as_chunks::<BAND_ROWS>();
        std::array::from_fn(|band| {
            let mixed = bands[band].iter().fold(0_u64, |mixed, value| (mixed ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
            u32::try_from(mixed >> 32).expect("32 bits")
        })
    }
}
