//! The lanes of AVX-512. What is unsafe is only calling instructions that the machine was found to have, and reading and writing vectors in
//! arrays of their length.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{BLAKE3_BLOCK, BLAKE3_LANES};

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
