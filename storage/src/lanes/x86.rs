//! The lanes of AVX-512. What is unsafe is only calling instructions that the machine was found to have, and reading and writing vectors in
//! arrays of their length.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use types::id::Hash32;

use super::{BLAKE3_BLOCK, BLAKE3_LANES, KECCAK_LANES};

/// Bytes that keccak256 takes in before each permutation.
const RATE: usize = 136;
/// Blocks of the longest message, a leaf with its prefix.
const BLOCKS_MAX: usize = 3;

/// FIPS 202, section 3.2.5.
const ROUNDS: [u64; 24] = [
    0x0000_0000_0000_0001,
    0x0000_0000_0000_8082,
    0x8000_0000_0000_808a,
    0x8000_0000_8000_8000,
    0x0000_0000_0000_808b,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8009,
    0x0000_0000_0000_008a,
    0x0000_0000_0000_0088,
    0x0000_0000_8000_8009,
    0x0000_0000_8000_000a,
    0x0000_0000_8000_808b,
    0x8000_0000_0000_008b,
    0x8000_0000_0000_8089,
    0x8000_0000_0000_8003,
    0x8000_0000_0000_8002,
    0x8000_0000_0000_0080,
    0x0000_0000_0000_800a,
    0x8000_0000_8000_000a,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8080,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8008,
];
/// Section 3.2.2, by place x + 5 y.
const TURNS: [i64; 25] = [0, 1, 62, 28, 27, 36, 44, 6, 55, 20, 3, 10, 43, 25, 39, 41, 45, 15, 21, 8, 18, 2, 61, 56, 14];

/// Whether this machine has the instructions.
pub(super) fn is_here() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq")
}

/// Calls `work` in a function that counts bits by one instruction, if the machine has it.
#[cfg(feature = "disk")]
pub(super) fn counting<R>(work: impl FnOnce() -> R) -> R {
    if is_x86_feature_detected!("popcnt") {
        // SAFETY: the instruction was found.
        unsafe { counted(work) }
    } else {
        work()
    }
}

#[cfg(feature = "disk")]
#[target_feature(enable = "popcnt")]
fn counted<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// keccak256 of `prefix` and each message; all are of one length, at most that of a leaf.
///
/// # Panics
/// If the machine lacks the instructions or a message does not fit.
pub(super) fn keccak(prefix: u8, messages: [&[u8]; KECCAK_LANES]) -> [Hash32; KECCAK_LANES] {
    assert!(is_here(), "called only where the machine has it");
    let len = messages[0].len() + 1;
    let blocks = len / RATE + 1;
    assert!(blocks <= BLOCKS_MAX && messages.iter().all(|message| message.len() + 1 == len), "messages of one length, at most a leaf's");
    let mut padded = [[0; BLOCKS_MAX * RATE]; KECCAK_LANES];
    for (padded, message) in padded.iter_mut().zip(messages) {
        padded[0] = prefix;
        padded[1..len].copy_from_slice(message);
        padded[len] = 1;
        padded[blocks * RATE - 1] |= 0x80;
    }
    // SAFETY: the machine has AVX-512 F, asserted above.
    unsafe { sponge(&padded, blocks) }
}

#[target_feature(enable = "avx512f,avx512dq")]
fn sponge(padded: &[[u8; BLOCKS_MAX * RATE]; KECCAK_LANES], blocks: usize) -> [Hash32; KECCAK_LANES] {
    let mut state = [_mm512_setzero_si512(); 25];
    for block in 0..blocks {
        for (word, lane) in state.iter_mut().take(RATE / 8).enumerate() {
            let at = block * RATE + word * 8;
            let mut words = [0_u64; KECCAK_LANES];
            for (word, padded) in words.iter_mut().zip(padded) {
                *word = u64::from_le_bytes(*padded[at..].first_chunk().expect("8 bytes of a block"));
            }
            *lane = _mm512_xor_si512(*lane, load(&words));
        }
        permute(&mut state);
    }
    let mut digests = [Hash32::ZERO; KECCAK_LANES];
    for (word, lane) in state.iter().take(4).enumerate() {
        let words = store(*lane);
        for (digest, value) in digests.iter_mut().zip(words) {
            digest.0[word * 8..word * 8 + 8].copy_from_slice(&value.to_le_bytes());
        }
    }
    digests
}

#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn permute(state: &mut [__m512i; 25]) {
    for round in ROUNDS {
        let mut columns = [_mm512_setzero_si512(); 5];
        for (x, column) in columns.iter_mut().enumerate() {
            let upper = _mm512_ternarylogic_epi64::<0x96>(state[x], state[x + 5], state[x + 10]);
            *column = _mm512_ternarylogic_epi64::<0x96>(upper, state[x + 15], state[x + 20]);
        }
        let mut moved = [_mm512_setzero_si512(); 25];
        for x in 0..5 {
            let turned = _mm512_rol_epi64::<1>(columns[(x + 1) % 5]);
            for y in 0..5 {
                let mixed = _mm512_ternarylogic_epi64::<0x96>(state[x + 5 * y], columns[(x + 4) % 5], turned);
                moved[y + 5 * ((2 * x + 3 * y) % 5)] = _mm512_rolv_epi64(mixed, _mm512_set1_epi64(TURNS[x + 5 * y]));
            }
        }
        for y in 0..5 {
            for x in 0..5 {
                // a ^ (!b & c)
                state[x + 5 * y] =
                    _mm512_ternarylogic_epi64::<0xd2>(moved[x + 5 * y], moved[(x + 1) % 5 + 5 * y], moved[(x + 2) % 5 + 5 * y]);
            }
        }
        state[0] = _mm512_xor_si512(state[0], _mm512_set1_epi64(round.cast_signed()));
    }
}

#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn load(words: &[u64; 8]) -> __m512i {
    // SAFETY: 64 bytes are read from an array of 64; the load needs no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn store(lanes: __m512i) -> [u64; 8] {
    let mut words = [0; 8];
    // SAFETY: 64 bytes are written to an array of 64; the store needs no alignment.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), lanes) };
    words
}

/// BLAKE3's key where there is none.
const KEY: [u32; 8] = [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
/// Where each word of a block stands in the next round.
const MOVES: [usize; 16] = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
/// A block that is the first and last of a message: chunk start, chunk end, root.
const FLAGS: u32 = 1 | 2 | 8;

/// # Panics
/// If the machine lacks the instructions or a message is longer than a block.
pub(super) fn blake3_heads(messages: &[&[u8]; BLAKE3_LANES]) -> [u64; BLAKE3_LANES] {
    assert!(is_here(), "called only where the machine has it");
    let (mut words, mut lens) = ([[0_u32; BLAKE3_LANES]; 16], [0_u32; BLAKE3_LANES]);
    for (lane, message) in messages.iter().enumerate() {
        let mut block = [0; BLAKE3_BLOCK];
        block[..message.len()].copy_from_slice(message);
        for (words, word) in words.iter_mut().zip(block.as_chunks::<4>().0) {
            words[lane] = u32::from_le_bytes(*word);
        }
        lens[lane] = u32::try_from(message.len()).expect("at most a block");
    }
    // SAFETY: the machine has AVX-512 F, asserted above.
    let [first, second] = unsafe { compress(&words, &lens) };
    std::array::from_fn(|lane| u64::from(first[lane].swap_bytes()) << 32 | u64::from(second[lane].swap_bytes()))
}

/// The first two words of the output.
#[target_feature(enable = "avx512f,avx512dq")]
fn compress(words: &[[u32; BLAKE3_LANES]; 16], lens: &[u32; BLAKE3_LANES]) -> [[u32; BLAKE3_LANES]; 2] {
    let mut block = [_mm512_setzero_si512(); 16];
    for (block, words) in block.iter_mut().zip(words) {
        *block = load32(words);
    }
    let mut v = [_mm512_setzero_si512(); 16];
    for (at, word) in KEY.into_iter().enumerate() {
        v[at] = _mm512_set1_epi32(word.cast_signed());
        if at < 4 {
            v[8 + at] = v[at];
        }
    }
    v[14] = load32(lens);
    v[15] = _mm512_set1_epi32(FLAGS.cast_signed());
    for _ in 0..7 {
        mix(&mut v, [0, 4, 8, 12], block[0], block[1]);
        mix(&mut v, [1, 5, 9, 13], block[2], block[3]);
        mix(&mut v, [2, 6, 10, 14], block[4], block[5]);
        mix(&mut v, [3, 7, 11, 15], block[6], block[7]);
        mix(&mut v, [0, 5, 10, 15], block[8], block[9]);
        mix(&mut v, [1, 6, 11, 12], block[10], block[11]);
        mix(&mut v, [2, 7, 8, 13], block[12], block[13]);
        mix(&mut v, [3, 4, 9, 14], block[14], block[15]);
        let before = block;
        for (block, from) in block.iter_mut().zip(MOVES) {
            *block = before[from];
        }
    }
    [store32(_mm512_xor_si512(v[0], v[8])), store32(_mm512_xor_si512(v[1], v[9]))]
}

#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn mix(v: &mut [__m512i; 16], [a, b, c, d]: [usize; 4], x: __m512i, y: __m512i) {
    v[a] = _mm512_add_epi32(_mm512_add_epi32(v[a], v[b]), x);
    v[d] = _mm512_ror_epi32::<16>(_mm512_xor_si512(v[d], v[a]));
    v[c] = _mm512_add_epi32(v[c], v[d]);
    v[b] = _mm512_ror_epi32::<12>(_mm512_xor_si512(v[b], v[c]));
    v[a] = _mm512_add_epi32(_mm512_add_epi32(v[a], v[b]), y);
    v[d] = _mm512_ror_epi32::<8>(_mm512_xor_si512(v[d], v[a]));
    v[c] = _mm512_add_epi32(v[c], v[d]);
    v[b] = _mm512_ror_epi32::<7>(_mm512_xor_si512(v[b], v[c]));
}

#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn load32(words: &[u32; 16]) -> __m512i {
    // SAFETY: 64 bytes are read from an array of 64; the load needs no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn store32(lanes: __m512i) -> [u32; 16] {
    let mut words = [0; 16];
    // SAFETY: 64 bytes are written to an array of 64; the store needs no alignment.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), lanes) };
    words
}

/// # Panics
/// If the machine lacks the instructions.
pub(super) fn minima<const N: usize>(values: &[u64], a: &[u64; N], b: &[u64; N]) -> [u64; N] {
    assert!(is_here(), "called only where the machine has it");
    let mut minima = [u64::MAX; N];
    let (minima_of, a, b) = (minima.as_chunks_mut::<32>().0, a.as_chunks::<32>().0, b.as_chunks::<32>().0);
    for (minima, (a, b)) in minima_of.iter_mut().zip(a.iter().zip(b)) {
        // SAFETY: the machine has AVX-512 F and DQ, asserted above.
        *minima = unsafe { minima_of_32(values, a, b) };
    }
    minima
}

#[target_feature(enable = "avx512f,avx512dq")]
fn minima_of_32(values: &[u64], a: &[u64; 32], b: &[u64; 32]) -> [u64; 32] {
    let (a, b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    let (a, b) = ([load(&a[0]), load(&a[1]), load(&a[2]), load(&a[3])], [load(&b[0]), load(&b[1]), load(&b[2]), load(&b[3])]);
    let mut least = [_mm512_set1_epi64(-1); 4];
    for value in values {
        let value = _mm512_set1_epi64(value.cast_signed());
        for (least, (a, b)) in least.iter_mut().zip(a.iter().zip(&b)) {
            *least = _mm512_min_epu64(*least, _mm512_add_epi64(_mm512_mullo_epi64(value, *a), *b));
        }
    }
    let mut minima = [0; 32];
    for (minima, least) in minima.as_chunks_mut::<8>().0.iter_mut().zip(least) {
        *minima = store(least);
    }
    minima
}
