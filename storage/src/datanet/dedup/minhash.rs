//! MinHash: 128 minima of a set of shingles under 128 permutations of the 64-bit numbers.
//!
//! Permutation i is `x -> a x + b mod 2^64` with a odd, hence a bijection. Its a (lowest bit set) and b are 64 bits each, big-endian, at bytes
//! 16 i and 16 i + 8 of BLAKE3's extended output over `tributary/minhash/v1`. Shingles are hashes, so that a minimum is decided by the
//! well-mixed high bits.
//!
//! Cost: one multiplication, addition and comparison per shingle and permutation, with the minima of four shingles kept apart so that none waits
//! for the one before: some 50 ns a shingle.

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
        if shingles.is_empty() {
            return None;
        }
        let mut minima = [u64::MAX; PERMUTATIONS];
        for (minimum, (a, b)) in minima.iter_mut().zip(self.factors.iter().zip(&self.shifts)) {
            *minimum = least(shingles, *a, *b);
        }
        Some(Signature(minima))
    }
}

impl Default for Permutations {
    fn default() -> Self {
        Self::new()
    }
}

fn least(shingles: &[u64], a: u64, b: u64) -> u64 {
    let (fours, rest) = shingles.as_chunks::<4>();
    let mut least = [u64::MAX; 4];
    for four in fours {
        for (least, shingle) in least.iter_mut().zip(four) {
            *least = (*least).min(shingle.wrapping_mul(a).wrapping_add(b));
        }
    }
    let rest = rest.iter().map(|shingle| shingle.wrapping_mul(a).wrapping_add(b));
    least.into_iter().chain(rest).min().unwrap_or(u64::MAX)
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
