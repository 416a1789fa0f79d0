//! A low-rank adapter (`LoRA`) on quantised rows: shrink to its rank, quantise, expand and add.

use super::{CodeRows, CodesMut, quantise, small};

/// Largest rank: a dot product of the expansion stays below 2^24 up to a rank of 1,040.
pub const RANK_MAX: usize = 256;

/// A matrix of `i8` with one scale for each row.
///
/// As `A`: a row for each rank, as many columns as the site has inputs. As `B`: a row for each output, as many columns as
/// ranks. A trainer's or publisher's own scale (`alpha / r`) is in the scales of `B`.
#[derive(Debug, Clone, Copy)]
pub struct RowCodes<'a> {
    /// `[rows, columns]`, -128 to 127.
    pub codes: &'a [i8],
    /// Of each row.
    pub scales: &'a [f32],
}

impl RowCodes<'_> {
    fn row(&self, row: usize) -> (&[i8], f32) {
        let columns = self.codes.len() / self.scales.len();
        (&self.codes[row * columns..][..columns], self.scales[row])
    }
}

/// `out[rank] = a[rank] . row`: from `acc = 0`, over the row's groups ascending, with `dot` of A's codes and the row's `code + zero`,
/// `acc = (dot as f32).mul_add(scale of the group, acc)`; at the end `acc * scale of A's row`.
///
/// # Panics
/// If shapes do not agree: a caller's mistake.
pub fn shrink(a: &RowCodes<'_>, row: &CodeRows<'_>, out: &mut [f32]) {
    assert!(row.rows == 1 && out.len() == a.scales.len() && a.codes.len() == out.len() * row.columns, "a row of A for each rank");
    for (rank, out) in out.iter_mut().enumerate() {
        let (codes, scale) = a.row(rank);
        let mut acc = 0f32;
        for (group, (a, x)) in codes.chunks_exact(row.group).zip(row.codes.chunks_exact(row.group)).enumerate() {
            let dot: i32 = a.iter().zip(x).map(|(a, x)| i32::from(*a) * (i32::from(*x) + row.zeros[group].zero())).sum();
            acc = small(dot).mul_add(row.scales[group], acc);
        }
        *out = acc * scale;
    }
}

/// `out[row][output] = w[output] . row` by weights of the profile `fast`, for `out: [rows, outputs]`: each row as [`shrink`] has it, with an output in
/// place of a rank.
///
/// # Panics
/// If shapes do not agree: a caller's mistake.
pub fn recoded_product(w: &RowCodes<'_>, rows: &CodeRows<'_>, out: &mut [f32]) {
    rows.check();
    assert!(out.len() == rows.rows * w.scales.len(), "an output for each row of weights");
    out.chunks_exact_mut(w.scales.len()).enumerate().for_each(|(row, out)| shrink(w, &rows.row(row), out));
}

/// Quantises the ranks of one row as one group ([`quantise`]); false if the row fails.
///
/// # Panics
/// If an array is of another length: a caller's mistake.
#[inline(always)]
pub fn rank_codes(ranks: &[f32], out: &mut CodesMut<'_>) -> bool {
    quantise(ranks, ranks.len(), out)
}

/// Adds an adapter to the outputs of one row: with `step = scale of the ranks * scale of the request` rounded once,
/// `out = (dot as f32).mul_add(step * scale of B's row, out)`.
///
/// The base's product comes first, then a request's adapters in its order.
///
/// # Panics
/// If shapes do not agree: a caller's mistake.
pub fn expand(b: &RowCodes<'_>, ranks: &[i8], scale: f32, request: f32, out: &mut [f32]) {
    assert!(out.len() == b.scales.len() && b.codes.len() == out.len() * ranks.len(), "a row of B for each output");
    let step = scale * request;
    for (output, out) in out.iter_mut().enumerate() {
        let (codes, scale) = b.row(output);
        let dot: i32 = codes.iter().zip(ranks).map(|(b, z)| i32::from(*b) * i32::from(*z)).sum();
        *out = small(dot).mul_add(step * scale, *out);
    }
}
