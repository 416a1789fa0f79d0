//! The kernel's paths for x86-64, on one block. What is unsafe is only calling instructions that the machine was found to have, and reading and
//! writing vectors in arrays of their length.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{BLOCK, GROUP, Halves, Path};

/// Sums of one block: `staged` holds a block of each input, `factors` one row for each of `sums`.
///
/// # Panics
/// If the machine lacks the instructions, or counts do not agree.
pub(super) fn gfni(factors: &[u64], staged: &[u8], sums: &mut [[u8; BLOCK]]) {
    assert!(Path::Gfni.is_available(), "chosen only where the machine has it");
    let columns = staged.len() / BLOCK;
    // SAFETY: the machine has GFNI and AVX-512 F and BW, asserted above.
    unsafe {
        match sums.len() {
            GROUP => gfni_rows::<GROUP>(factors, staged, sums),
            _ => sums.chunks_mut(1).zip(factors.chunks(columns)).for_each(|(sums, row)| gfni_rows::<1>(row, staged, sums)),
        }
    }
}

/// The same with AVX2.
///
/// # Panics
/// If the machine lacks the instructions, or counts do not agree.
pub(super) fn avx2(factors: &[Halves], staged: &[u8], sums: &mut [[u8; BLOCK]]) {
    assert!(Path::Avx2.is_available(), "chosen only where the machine has it");
    let columns = staged.len() / BLOCK;
    // SAFETY: the machine has AVX2, asserted above.
    unsafe {
        match sums.len() {
            GROUP => avx2_rows::<GROUP>(factors, staged, sums),
            _ => sums.chunks_mut(1).zip(factors.chunks(columns)).for_each(|(sums, row)| avx2_rows::<1>(row, staged, sums)),
        }
    }
}

#[target_feature(enable = "gfni,avx512f,avx512bw")]
fn gfni_rows<const N: usize>(factors: &[u64], staged: &[u8], sums: &mut [[u8; BLOCK]]) {
    let columns = staged.len() / BLOCK;
    let rows: [&[u64]; N] = std::array::from_fn(|row| &factors[row * columns..(row + 1) * columns]);
    for at in (0..BLOCK).step_by(64) {
        let mut totals = [_mm512_setzero_si512(); N];
        for (column, input) in staged.chunks_exact(BLOCK).enumerate() {
            let bytes: &[u8; 64] = input[at..at + 64].try_into().expect("64 bytes");
            // SAFETY: 64 bytes are read from an array of 64; the load needs no alignment.
            let bytes = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
            for (total, row) in totals.iter_mut().zip(rows) {
                let map = _mm512_set1_epi64(row[column].cast_signed());
                *total = _mm512_xor_si512(*total, _mm512_gf2p8affine_epi64_epi8::<0>(bytes, map));
            }
        }
        for (total, sums) in totals.iter().zip(sums.iter_mut()) {
            let place: &mut [u8; 64] = (&mut sums[at..at + 64]).try_into().expect("64 bytes");
            // SAFETY: 64 bytes are written to an array of 64; the store needs no alignment.
            unsafe { _mm512_storeu_si512(place.as_mut_ptr().cast(), *total) };
        }
    }
}

#[target_feature(enable = "avx2")]
fn avx2_rows<const N: usize>(factors: &[Halves], staged: &[u8], sums: &mut [[u8; BLOCK]]) {
    let columns = staged.len() / BLOCK;
    let rows: [&[Halves]; N] = std::array::from_fn(|row| &factors[row * columns..(row + 1) * columns]);
    let half = _mm256_set1_epi8(15);
    for at in (0..BLOCK).step_by(32) {
        let mut totals = [_mm256_setzero_si256(); N];
        for (column, input) in staged.chunks_exact(BLOCK).enumerate() {
            let bytes: &[u8; 32] = input[at..at + 32].try_into().expect("32 bytes");
            // SAFETY: 32 bytes are read from an array of 32; the load needs no alignment.
            let bytes = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
            let low = _mm256_and_si256(bytes, half);
            let high = _mm256_and_si256(_mm256_srli_epi64::<4>(bytes), half);
            for (total, row) in totals.iter_mut().zip(rows) {
                let [lows, highs] = &row[column];
                // SAFETY: 16 bytes are read from arrays of 16; the loads need no alignment.
                let (lows, highs) = unsafe { (_mm_loadu_si128(lows.as_ptr().cast()), _mm_loadu_si128(highs.as_ptr().cast())) };
                let low = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(lows), low);
                let high = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(highs), high);
                *total = _mm256_xor_si256(*total, _mm256_xor_si256(low, high));
            }
        }
        for (total, sums) in totals.iter().zip(sums.iter_mut()) {
            let place: &mut [u8; 32] = (&mut sums[at..at + 32]).try_into().expect("32 bytes");
            // SAFETY: 32 bytes are written to an array of 32; the store needs no alignment.
            unsafe { _mm256_storeu_si256(place.as_mut_ptr().cast(), *total) };
        }
    }
}
