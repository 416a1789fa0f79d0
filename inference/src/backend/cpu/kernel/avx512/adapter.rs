//! Adapters: rows down to ranks, and ranks up to outputs.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::super::pack::{PANEL, PackedRows};
use super::super::super::share::OutTile;
use super::super::{RankRows, check_expand, check_shrink};
use super::{LINE, line_of, load, signed_dots, store};
use crate::numeric::CodeRows;

pub(in super::super) fn shrink(a: &PackedRows, rows: &CodeRows<'_>, which: &[u32], out: &mut [f32]) {
    check_shrink(a, rows, which, out);
    let stride = a.panels() * PANEL;
    for panel in 0..a.panels() {
        for (at, which) in which.chunks(4).enumerate() {
            let out = &mut out[at * 4 * stride + panel * PANEL..];
            // SAFETY: this table is given out only where `is_available`; shapes were checked above.
            unsafe {
                match which.len() {
                    4 => shrink_tile::<4>(a.panel(panel), rows, which, out, stride),
                    3 => shrink_tile::<3>(a.panel(panel), rows, which, out, stride),
                    2 => shrink_tile::<2>(a.panel(panel), rows, which, out, stride),
                    _ => shrink_tile::<1>(a.panel(panel), rows, which, out, stride),
                }
            }
        }
    }
}

/// # Safety
/// `which` has `R` rows of `rows`, the panel their columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn shrink_tile<const R: usize>(
    (scales, quads): (&[f32], &[u8]),
    rows: &CodeRows<'_>,
    which: &[u32],
    out: &mut [f32],
    stride: usize,
) {
    let mut acc = [_mm512_setzero_ps(); R];
    let which: [usize; R] = std::array::from_fn(|row| index(which[row]));
    let (groups, quads_of_group) = (rows.groups(), rows.group / 4);
    for group in 0..groups {
        // SAFETY: quads and codes of this group, inside the panel and the rows.
        let (dots, all) = unsafe {
            let codes = std::array::from_fn(|r| rows.codes.as_ptr().add(which[r] * rows.columns + group * rows.group));
            let quads = quads.as_ptr().add(group * rows.group * PANEL);
            (signed_dots::<R>(quads, quads_of_group, codes), stored_sums(quads, quads_of_group))
        };
        for (r, (acc, dot)) in acc.iter_mut().zip(dots).enumerate() {
            let place = which[r] * groups + group;
            let dot = _mm512_add_epi32(dot, _mm512_mullo_epi32(all, _mm512_set1_epi32(rows.zeros[place].zero())));
            let dot = _mm512_sub_epi32(dot, _mm512_set1_epi32(128 * rows.sums[place]));
            *acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_set1_ps(rows.scales[place]), *acc);
        }
    }
    for (r, acc) in acc.into_iter().enumerate() {
        store(&mut out[r * stride..][..PANEL], _mm512_mul_ps(acc, load(scales)));
    }
}

/// Sums of the codes of some quads as they are stored, 128 above what they are.
///
/// # Safety
/// There are so many quads.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn stored_sums(quads: *const u8, count: usize) -> __m512i {
    let mut sums = _mm512_setzero_si512();
    for quad in 0..count {
        // SAFETY: as above.
        sums = _mm512_dpbusd_epi32(sums, unsafe { line_of(quads.wrapping_add(quad * LINE)) }, _mm512_set1_epi8(1));
    }
    sums
}

pub(in super::super) fn expand(b: &PackedRows, panels: Range<usize>, ranks: &RankRows<'_>, which: &[u32], out: &mut OutTile<'_>) {
    check_expand(b, &panels, ranks, which, out);
    let first = panels.start;
    for panel in panels {
        for (at, which) in which.chunks(4).enumerate() {
            let column = (panel - first) * PANEL;
            // SAFETY: this table is given out only where `is_available`; shapes were checked above.
            unsafe {
                match which.len() {
                    4 => expand_tile::<4>(b.panel(panel), ranks, which, at * 4, out, column),
                    3 => expand_tile::<3>(b.panel(panel), ranks, which, at * 4, out, column),
                    2 => expand_tile::<2>(b.panel(panel), ranks, which, at * 4, out, column),
                    _ => expand_tile::<1>(b.panel(panel), ranks, which, at * 4, out, column),
                }
            }
        }
    }
}

/// # Safety
/// `which` has `R` rows of `out`, `ranks` as many from `from` on, each with the panel's columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn expand_tile<const R: usize>(
    (scales, quads): (&[f32], &[u8]),
    ranks: &RankRows<'_>,
    which: &[u32],
    from: usize,
    out: &mut OutTile<'_>,
    column: usize,
) {
    let columns = quads.len() / PANEL;
    // SAFETY: the quads of the whole panel, and the ranks of these rows.
    let dots = unsafe {
        let codes = std::array::from_fn(|r| ranks.codes.as_ptr().add((from + r) * columns));
        signed_dots::<R>(quads.as_ptr(), columns / 4, codes)
    };
    for (r, dot) in dots.into_iter().enumerate() {
        let step = _mm512_set1_ps(ranks.scales[from + r] * ranks.request);
        let dot = _mm512_sub_epi32(dot, _mm512_set1_epi32(128 * ranks.sums[from + r]));
        let place = &mut out.row(index(which[r]))[column..];
        store(place, _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(step, load(scales)), load(place)));
    }
}

fn index(row: u32) -> usize {
    usize::try_from(row).expect("a row number is an index")
}
