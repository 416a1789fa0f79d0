//! Products of f32 whose factors change: trained matrices, their gradients, attention. All are sums of rows of the second factor, so that one loop
//! serves them in any orientation of the first; an element is `out + a(0) b(0) + a(1) b(1) + ...`, in this order, whatever the number of threads.
//!
//! With AVX-512 every step is a fused multiply-add, elsewhere it rounds twice: these products are the same bits on machines of one kind. The library that the
//! f32 arithmetic uses stops at 256-bit vectors and a kernel for large factors: with it these products, a seventh of all, took as long as the frozen ones.

use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor};
use rayon::prelude::*;

use super::kernels;

/// Rows computed beside each other.
pub(super) const TILE_ROWS: usize = 8;

/// The first factor: row r at sum s is `values[r * row_step + s * sum_step]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Factor<'a> {
    pub(super) values: &'a [f32],
    pub(super) row_step: usize,
    pub(super) sum_step: usize,
}

impl<'a> Factor<'a> {
    /// A matrix of rows of `width`, from its first element on.
    pub(super) fn rows(values: &'a [f32], width: usize) -> Self {
        Self { values, row_step: width, sum_step: 1 }
    }

    /// The transpose of a matrix of rows of `width`.
    pub(super) fn columns(values: &'a [f32], width: usize) -> Self {
        Self { values, row_step: 1, sum_step: width }
    }
}

/// `[rows, sums]` times `[sums, width]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product<'a> {
    pub(super) rows: usize,
    pub(super) sums: usize,
    pub(super) width: usize,
    pub(super) a: Factor<'a>,
    /// Rows of the second factor, each `b_step` behind the one before.
    pub(super) b: &'a [f32],
    pub(super) b_step: usize,
}

impl Product<'_> {
    /// Adds it to rows that are `out_step` apart.
    ///
    /// # Panics
    /// If a factor or `out` ends before its last element.
    pub(super) fn add_to(&self, out: &mut [f32], out_step: usize) {
        let Self { rows, sums, width, a, b, b_step } = *self;
        if rows == 0 || sums == 0 || width == 0 {
            return;
        }
        let last = |rows: usize, step: usize, width: usize| (rows - 1) * step + width;
        assert!(last(rows, a.row_step, 1) + (sums - 1) * a.sum_step <= a.values.len(), "the first factor has all rows");
        assert!(last(sums, b_step, width) <= b.len(), "the second factor has all rows");
        assert!(last(rows, out_step, width) <= out.len() && (rows == 1 || width <= out_step), "there is room for all rows");
        if !kernels::add_dense(self, out, out_step) {
            self.add_plain(out, out_step);
        }
    }

    /// The same in plain code.
    pub(super) fn add_plain(&self, out: &mut [f32], out_step: usize) {
        for row in 0..self.rows {
            let out = &mut out[row * out_step..][..self.width];
            for sum in 0..self.sums {
                let a = self.a.values[row * self.a.row_step + sum * self.a.sum_step];
                for (out, b) in out.iter_mut().zip(&self.b[sum * self.b_step..][..self.width]) {
                    *out += a * b;
                }
            }
        }
    }

    /// Adds it to `[rows, width]`, rows split among the threads.
    pub(super) fn par_add_to(&self, out: &mut [f32]) {
        if self.rows == 0 || self.width == 0 {
            return;
        }
        let share = self.rows.div_ceil(rayon::current_num_threads()).next_multiple_of(TILE_ROWS);
        out.par_chunks_mut(share * self.width).enumerate().for_each(|(task, out)| {
            let first = task * share;
            let a = Factor { values: &self.a.values[first * self.a.row_step..], ..self.a };
            Product { rows: share.min(self.rows - first), a, ..*self }.add_to(out, self.width);
        });
    }

    /// The product by itself, `[rows, width]`.
    pub(super) fn computed(&self) -> Vec<f32> {
        let mut out = vec![0f32; self.rows * self.width];
        self.par_add_to(&mut out);
        out
    }

    /// Adds it to a contiguous tensor `[rows, width]` in place.
    pub(super) fn add_to_tensor(&self, out: &Tensor) -> candle_core::Result<()> {
        out.inplace_op1(&AddTo(*self))
    }
}

struct AddTo<'a>(Product<'a>);

impl InplaceOp1 for AddTo<'_> {
    fn name(&self) -> &'static str {
        "add-product"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("add-product expects contiguous f32");
        };
        if end - start != self.0.rows * self.0.width {
            candle_core::bail!("add-product expects {} x {} values, got {}", self.0.rows, self.0.width, end - start);
        }
        self.0.par_add_to(&mut values[start..end]);
        Ok(())
    }
}

/// The transpose of rows of `width`.
pub(super) fn turned(values: &[f32], width: usize) -> Vec<f32> {
    let count = values.len().checked_div(width).unwrap_or(0);
    let mut out = vec![0f32; values.len()];
    for (row, values) in values.chunks_exact(width.max(1)).enumerate() {
        for (column, value) in values.iter().enumerate() {
            out[column * count + row] = *value;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::split_mix;

    /// Values from -1 to 1, from a seed.
    fn values(seed: u64, count: usize) -> Vec<f32> {
        #[expect(clippy::cast_precision_loss, reason = "24 bits")]
        let value = |at: u64| (split_mix(split_mix(seed) ^ at) >> 40) as f32 / 8_388_608.0 - 1.0;
        (0..count as u64).map(value).collect()
    }

    #[test]
    fn products_of_any_shape_and_orientation_are_those_of_real_numbers() {
        let sizes = [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 47, 48, 49, 64, 97];
        for seed in 0..300u64 {
            let size = |which: u64| sizes[usize::try_from(split_mix(seed * 8 + which) % 16).unwrap()];
            let (rows, sums, width, gap) = (size(0), size(1), size(2), size(3) % 3);
            let (a, b) = (values(seed, (rows + gap) * (sums + gap)), values(seed + 1, sums * (width + gap)));
            let out_step = width + gap;
            let before = values(seed + 2, rows * out_step);
            for a in [Factor::rows(&a, sums + gap), Factor::columns(&a, rows + gap)] {
                let product = Product { rows, sums, width, a, b: &b, b_step: width + gap };
                let (mut got, mut plain) = (before.clone(), before.clone());
                product.add_to(&mut got, out_step);
                product.add_plain(&mut plain, out_step);
                for (at, ((got, plain), before)) in got.iter().zip(&plain).zip(&before).enumerate() {
                    let (row, column) = (at / out_step, at % out_step);
                    if column >= width {
                        assert_eq!((got, plain), (before, before), "seed {seed}: nothing is written between rows");
                        continue;
                    }
                    let each = |sum| f64::from(a.values[row * a.row_step + sum * a.sum_step]) * f64::from(b[sum * (width + gap) + column]);
                    let expected = f64::from(*before) + (0..sums).map(each).sum::<f64>();
                    for value in [got, plain] {
                        assert!((f64::from(*value) - expected).abs() < 1e-4, "seed {seed}: {rows} x {sums} x {width}: {value} {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (a, b) = (values(1, 70 * 33), values(2, 33 * 50));
        let product = || Product { rows: 70, sums: 33, width: 50, a: Factor::rows(&a, 33), b: &b, b_step: 50 }.computed();
        let with = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(product);
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(with(1)), bits(with(3)));
    }

    #[test]
    #[should_panic(expected = "the second factor has all rows")]
    fn a_factor_that_ends_early_is_refused() {
        let product = Product { rows: 1, sums: 2, width: 2, a: Factor::rows(&[1.0, 1.0], 2), b: &[1.0; 3], b_step: 2 };
        product.add_to(&mut [0.0; 2], 2);
    }

    #[test]
    fn a_transpose_has_rows_for_columns() {
        assert_eq!(turned(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(turned(&[], 0), [0f32; 0]);
    }
}
