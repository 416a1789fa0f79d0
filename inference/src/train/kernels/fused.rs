//! Products of f32 by fused multiply-adds of 512-bit vectors: tiles of eight rows and up to three vectors, ends by masks.
//!
//! What is unsafe: calling functions whose instructions the machine was found to have, and reading and writing behind bounds that
//! [`Product::add_to`](super::super::dense::Product::add_to) has checked, the only caller of [`add`].
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::super::dense::{Product, TILE_ROWS};

/// Values of a vector.
const LANES: usize = 16;
/// Values of a tile's row.
const COLUMNS: usize = 3 * LANES;

/// Adds a product whose bounds were checked; answers whether this machine can.
pub(super) fn add(product: &Product<'_>, out: &mut [f32], out_step: usize) -> bool {
    if !is_x86_feature_detected!("avx512f") {
        return false;
    }
    for column in (0..product.width).step_by(COLUMNS) {
        let columns = (product.width - column).min(COLUMNS);
        for row in (0..product.rows).step_by(TILE_ROWS) {
            // SAFETY: the machine has the instructions; every row and column is below those that were checked.
            unsafe {
                match columns.div_ceil(LANES) {
                    1 => tile::<1>(product, row, column, columns, out, out_step),
                    2 => tile::<2>(product, row, column, columns, out, out_step),
                    _ => tile::<3>(product, row, column, columns, out, out_step),
                }
            }
        }
    }
    true
}

/// Up to eight rows from `row` on, `columns` of them from `column` on in `V` vectors.
///
/// # Safety
/// The machine has AVX-512; `row` and `column + columns` are within the product, whose factors and `out` have all elements.
#[target_feature(enable = "avx512f")]
unsafe fn tile<const V: usize>(product: &Product<'_>, row: usize, column: usize, columns: usize, out: &mut [f32], out_step: usize) {
    let Product { rows, sums, a, b, b_step, .. } = *product;
    let rows = (rows - row).min(TILE_ROWS);
    let last: __mmask16 = u16::MAX >> (V * LANES - columns);
    let mut masks = [u16::MAX; V];
    masks[V - 1] = last;
    // Where rows end within the tile the last one is computed again, and not written.
    let mut from = [a.values.as_ptr(); TILE_ROWS];
    let mut all = [[_mm512_setzero_ps(); V]; TILE_ROWS];
    for (offset, (from, all)) in from.iter_mut().zip(&mut all).enumerate() {
        let row = row + offset.min(rows - 1);
        // SAFETY: the row is one of the product's; masked values are not touched.
        unsafe {
            *from = a.values.as_ptr().add(row * a.row_step);
            for (vector, sum) in all.iter_mut().enumerate() {
                *sum = _mm512_maskz_loadu_ps(masks[vector], out.as_ptr().add(row * out_step + column).wrapping_add(vector * LANES));
            }
        }
    }
    let mut at = 0;
    let mut b = b.as_ptr().wrapping_add(column);
    for _ in 0..sums {
        let mut second = [_mm512_setzero_ps(); V];
        for (vector, second) in second.iter_mut().enumerate() {
            // SAFETY: this row of the second factor has these columns; masked values are not touched.
            *second = unsafe { _mm512_maskz_loadu_ps(masks[vector], b.wrapping_add(vector * LANES)) };
        }
        for (from, all) in from.iter().zip(&mut all) {
            // SAFETY: the row has a value for every sum.
            let first = _mm512_set1_ps(unsafe { *from.add(at) });
            for (sum, second) in all.iter_mut().zip(second) {
                *sum = _mm512_fmadd_ps(first, second, *sum);
            }
        }
        at += a.sum_step;
        b = b.wrapping_add(b_step);
    }
    for (offset, all) in all.iter().take(rows).enumerate() {
        for (vector, sum) in all.iter().enumerate() {
            // SAFETY: the row is one of the product's; masked values are not touched.
            unsafe {
                let to = out.as_mut_ptr().add((row + offset) * out_step + column).wrapping_add(vector * LANES);
                _mm512_mask_storeu_ps(to, masks[vector], *sum);
            }
        }
    }
}
