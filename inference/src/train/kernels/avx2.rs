//! Products of pairs of sixteen-bit codes by 256-bit vectors: `vpmaddwd` and an addition, sixteen products of two instructions, as many as f32 has there.
//!
//! What is unsafe: calling functions whose instructions the machine was found to have (the table is handed out by [`kernel`] alone), and loads of whole arrays
//! whose type gives their length.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::super::codes::{self, COLUMNS, GROUP_PAIRS, Kernel, Pair, Sums, TILE_ROWS, Tile};

/// Values of a vector.
const LANES: usize = 8;
/// Vectors whose sums are in registers at once, for [`ROWS`] rows: eight of sixteen registers.
const VECTORS: usize = 2;
const ROWS: usize = 4;

static KERNEL: Kernel = Kernel {
    // SAFETY: `kernel` gives this table only where the machine has the instructions.
    quantise: |values, codes, scales| unsafe { quantise(values, codes, scales) },
    // SAFETY: as above.
    add_product: |tile, sums| unsafe { add_product(tile, sums) },
};

/// The kernel, if this machine has every instruction below.
pub(super) fn kernel() -> Option<&'static Kernel> {
    is_x86_feature_detected!("avx2").then_some(&KERNEL)
}

#[target_feature(enable = "avx2")]
fn quantise(values: &[f32], codes: &mut [Pair], scales: &mut [f32]) {
    codes::quantise(values, codes, scales);
}

#[target_feature(enable = "avx2")]
fn add_product(tile: &Tile<'_, TILE_ROWS>, sums: &mut Sums<TILE_ROWS>) {
    for first in (0..TILE_ROWS).step_by(ROWS) {
        for vector in (0..COLUMNS / LANES).step_by(VECTORS) {
            part(tile, first, vector, sums);
        }
    }
}

/// Rows `first..first + ROWS` of vectors `vector..vector + VECTORS`.
#[target_feature(enable = "avx2")]
fn part(tile: &Tile<'_, TILE_ROWS>, first: usize, vector: usize, sums: &mut Sums<TILE_ROWS>) {
    for (index, (panel, panel_scales)) in tile.panel.chunks(GROUP_PAIRS).zip(tile.panel_scales).enumerate() {
        let rows: [&[Pair]; ROWS] = std::array::from_fn(|row| &tile.rows[first + row][index * GROUP_PAIRS..][..panel.len()]);
        let mut whole = [[_mm256_setzero_si256(); VECTORS]; ROWS];
        for (at, panel) in panel.iter().enumerate() {
            let vectors = panel.as_chunks::<LANES>().0;
            // SAFETY: each part is an array of eight pairs, 32 bytes.
            let b: [__m256i; VECTORS] =
                unsafe { [_mm256_loadu_si256(vectors[vector].as_ptr().cast()), _mm256_loadu_si256(vectors[vector + 1].as_ptr().cast())] };
            for (whole, row) in whole.iter_mut().zip(&rows) {
                let [low, high] = row[at];
                let a = _mm256_set1_epi32((i32::from(low) & 0xffff) | (i32::from(high) << 16));
                for (whole, b) in whole.iter_mut().zip(b) {
                    *whole = _mm256_add_epi32(*whole, _mm256_madd_epi16(a, b));
                }
            }
        }
        let scales = panel_scales.as_chunks::<LANES>().0;
        for (row, (sums, whole)) in sums[first..].iter_mut().zip(whole).enumerate() {
            let row_scale = _mm256_set1_ps(tile.row_scales[first + row][index]);
            for (i, sum) in sums.as_chunks_mut::<LANES>().0[vector..].iter_mut().take(VECTORS).enumerate() {
                // SAFETY: both are arrays of eight values, 32 bytes.
                let (scale, before) = unsafe { (_mm256_loadu_ps(scales[vector + i].as_ptr()), _mm256_loadu_ps(sum.as_ptr())) };
                let product = _mm256_mul_ps(_mm256_cvtepi32_ps(whole[i]), _mm256_mul_ps(scale, row_scale));
                // SAFETY: as above.
                unsafe { _mm256_storeu_ps(sum.as_mut_ptr(), _mm256_add_ps(before, product)) };
            }
        }
    }
}
