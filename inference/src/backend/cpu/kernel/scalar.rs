//! Plain loops over packed weights. They are compiled twice, without and with fused multiply-adds of the machine: the same
//! bits, but without them each is a call into a library, some fifty times slower than what it takes the place of.
#![allow(unsafe_code)]

use std::ops::Range;

use super::super::cache::Seen;
use super::super::pack::{PANEL, Packed, PackedRows};
use super::super::recoded::Recoded;
use super::super::share::OutTile;
use super::{Calls, Kernels, Path, RankRows, check_attend, check_expand, check_product, check_recoded, check_shrink};
use crate::numeric::{self, BLOCK_KEYS, CodeRows, Codes, CodesMut, LANES, Queries, Zero, exp, fold, small, weight_code, weight_steps};

/// Of all machines.
pub(super) static KERNELS: Kernels = Kernels {
    path: Path::Scalar,
    quantise_range: fused::quantise_range,
    quantise: fused::quantise,
    gemv: fused::product,
    gemm: fused::product,
    recoded: fused::recoded,
    norm: fused::norm,
    rotate: fused::rotate,
    attend: fused::attend,
    gated: fused::gated,
    shrink: fused::shrink,
    expand: fused::expand,
    calls: Calls::new(),
};

/// Each function once more, for machines with fused multiply-adds.
mod fused {
    use super::*;

    macro_rules! twice {
        ($(fn $name:ident = $body:path, ($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {$(
            pub(super) fn $name($($argument: $type),*) -> $answer {
                #[cfg(target_arch = "x86_64")]
                {
                    #[target_feature(enable = "fma")]
                    fn with_fma($($argument: $type),*) -> $answer {
                        $body($($argument),*)
                    }
                    if is_x86_feature_detected!("fma") {
                        // SAFETY: the machine has FMA, as the line above found.
                        return unsafe { with_fma($($argument),*) };
                    }
                }
                $body($($argument),*)
            }
        )*};
    }

    twice! {
        fn quantise_range = numeric::quantise_range, (x: &[f32], group: usize, out: &mut CodesMut<'_>, zeros: &mut [Zero]) -> bool;
        fn quantise = numeric::quantise, (x: &[f32], group: usize, out: &mut CodesMut<'_>) -> bool;
        fn product = super::product, (w: &Packed, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>) -> ();
        fn recoded = super::recoded, (w: &Recoded, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>) -> ();
        fn norm = numeric::norm, (x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) -> bool;
        fn rotate = numeric::rotate, (heads: &mut [f32], head_dim: usize, cosines: &[f32], sines: &[f32]) -> ();
        fn attend = super::attend, (queries: &Queries<'_>, seen: &Seen<'_>, scores: &mut [f32], out: &mut [f32]) -> ();
        fn gated = numeric::gated, (gate: &mut [f32], up: &[f32]) -> ();
        fn shrink = super::shrink, (a: &PackedRows, rows: &CodeRows<'_>, which: &[u32], out: &mut [f32]) -> ();
        fn expand = super::expand, (b: &PackedRows, panels: Range<usize>, ranks: &RankRows<'_>, which: &[u32], out: &mut OutTile<'_>) -> ();
    }
}

#[inline(always)]
fn product(w: &Packed, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>) {
    check_product(w, &panels, rows, out);
    let first = panels.start;
    for panel in panels {
        let bytes = w.panel(panel);
        for row in 0..rows.rows {
            let lanes = one(w, bytes, &rows.row(row));
            let out = &mut out.row(row)[(panel - first) * PANEL..];
            let count = out.len().min(PANEL);
            out[..count].copy_from_slice(&lanes[..count]);
        }
    }
}

/// Sixteen outputs of one row.
#[inline(always)]
fn one(w: &Packed, panel: &[u8], row: &CodeRows<'_>) -> [f32; PANEL] {
    let mut acc = [0f32; PANEL];
    for (group, codes) in row.codes.chunks_exact(w.group()).enumerate() {
        let quads = &panel[w.place(group).codes..];
        let surplus = match w.codes() {
            Codes::U4 { min: true } => 0,
            Codes::U4 { min: false } => 8,
            Codes::S8 => 128,
        };
        let mut dots = [-surplus * row.sums[group]; PANEL];
        match w.codes() {
            Codes::U4 { .. } => {
                let (low, high) = codes.split_at(codes.len() / 2);
                dot(&mut dots, quads, low, row.zeros[group].zero(), |byte| byte & 15);
                dot(&mut dots, quads, high, row.zeros[group].zero(), |byte| byte >> 4);
            }
            Codes::S8 => dot(&mut dots, quads, codes, row.zeros[group].zero(), |byte| byte),
        }
        for lane in 0..PANEL {
            let (scale, min) = w.scale(panel, group, lane);
            acc[lane] = small(dots[lane]).mul_add(scale * row.scales[group], acc[lane]);
            if w.codes() == (Codes::U4 { min: true }) {
                acc[lane] = min.mul_add(row.offsets[group], acc[lane]);
            }
        }
    }
    acc
}

/// Adds the dot products of sixteen lanes, `zero` added to each code.
#[inline(always)]
fn dot(dots: &mut [i32; PANEL], quads: &[u8], codes: &[i8], zero: i32, part: impl Fn(u8) -> u8) {
    for (quad, codes) in quads.chunks_exact(4 * PANEL).zip(codes.as_chunks::<4>().0) {
        for (dot, weights) in dots.iter_mut().zip(quad.as_chunks::<4>().0) {
            let sum = |at: usize| i32::from(part(weights[at])) * i32::from(codes[at]).wrapping_add(zero);
            *dot = dot.wrapping_add(sum(0) + sum(1) + sum(2) + sum(3));
        }
    }
}

#[inline(always)]
fn shrink(a: &PackedRows, rows: &CodeRows<'_>, which: &[u32], out: &mut [f32]) {
    check_shrink(a, rows, which, out);
    for (out, row) in out.chunks_exact_mut(a.panels() * PANEL).zip(which) {
        let row = rows.row(index(*row));
        for (panel, out) in out.chunks_exact_mut(PANEL).enumerate() {
            out.copy_from_slice(&by_row(a.panel(panel), &row));
        }
    }
}

/// Sixteen outputs of one row, each with a scale of its own.
#[inline(always)]
fn by_row((scales, quads): (&[f32], &[u8]), row: &CodeRows<'_>) -> [f32; PANEL] {
    let mut acc = [0f32; PANEL];
    for (group, codes) in row.codes.chunks_exact(row.group).enumerate() {
        let mut dots = [-128 * row.sums[group]; PANEL];
        dot(&mut dots, &quads[group * row.group * PANEL..], codes, row.zeros[group].zero(), |byte| byte);
        for (acc, dot) in acc.iter_mut().zip(dots) {
            *acc = small(dot).mul_add(row.scales[group], *acc);
        }
    }
    acc.iter_mut().zip(scales).for_each(|(acc, scale)| *acc *= scale);
    acc
}

#[inline(always)]
fn recoded(w: &Recoded, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>) {
    check_recoded(w, &panels, rows, out);
    let first = panels.start;
    for panel in panels {
        for row in 0..rows.rows {
            let lanes = by_row(w.panel(panel), &rows.row(row));
            let out = &mut out.row(row)[(panel - first) * PANEL..];
            let count = out.len().min(PANEL);
            out[..count].copy_from_slice(&lanes[..count]);
        }
    }
}

#[inline(always)]
fn expand(b: &PackedRows, panels: Range<usize>, ranks: &RankRows<'_>, which: &[u32], out: &mut OutTile<'_>) {
    check_expand(b, &panels, ranks, which, out);
    let first = panels.start;
    for panel in panels {
        let (scales, quads) = b.panel(panel);
        for ((at, codes), row) in ranks.codes.chunks_exact(b.columns()).enumerate().zip(which) {
            let step = ranks.scales[at] * ranks.request;
            let mut dots = [-128 * ranks.sums[at]; PANEL];
            dot(&mut dots, quads, codes, 0, |byte| byte);
            let out = &mut out.row(index(*row))[(panel - first) * PANEL..];
            for ((out, dot), scale) in out.iter_mut().zip(dots).zip(scales) {
                *out = small(dot).mul_add(step * scale, *out);
            }
        }
    }
}

#[inline(always)]
fn attend(queries: &Queries<'_>, seen: &Seen<'_>, scores: &mut [f32], out: &mut [f32]) {
    check_attend(queries, seen, scores, out);
    let dim = queries.head_dim();
    for (head, (query, out)) in queries.codes.chunks_exact(dim).zip(out.chunks_exact_mut(dim)).enumerate() {
        let step = queries.scales[head] * queries.factor;
        let scores = &mut scores[..seen.keys];
        for (block, scores) in scores.chunks_mut(BLOCK_KEYS).enumerate() {
            let (keys, _) = seen.region.codes(seen.pages[block]);
            let (scales, _) = seen.region.scales(seen.pages[block]);
            for (run, (scores, scales)) in scores.chunks_mut(LANES).zip(scales.chunks(LANES)).enumerate() {
                let mut dots = [-128 * queries.sums[head]; PANEL];
                dot(&mut dots, &keys[run * LANES * dim..], query, 0, |byte| byte);
                for ((score, dot), scale) in scores.iter_mut().zip(dots).zip(scales) {
                    *score = small(dot) * (step * scale);
                }
            }
        }
        let largest = scores.iter().fold(f32::NEG_INFINITY, |most, score| if *score > most { *score } else { most });
        let mut lanes = [0f32; LANES];
        for (at, score) in scores.iter_mut().enumerate() {
            *score = exp(*score - largest);
            lanes[at % LANES] += *score;
        }
        out.fill(0.0);
        for (block, weights) in scores.chunks_mut(BLOCK_KEYS).enumerate() {
            let (_, values) = seen.region.codes(seen.pages[block]);
            let (_, scales) = seen.region.scales(seen.pages[block]);
            mix(weights, scales, values, out);
        }
        let inverse = 1.0 / fold(lanes);
        out.iter_mut().for_each(|out| *out *= inverse);
    }
}

#[inline(always)]
fn mix(weights: &mut [f32], scales: &[f32], values: &[u8], out: &mut [f32]) {
    weights.iter_mut().zip(scales).for_each(|(weight, scale)| *weight *= scale);
    let amax = f32::from_bits(numeric::magnitude(weights));
    if amax < numeric::MAGNITUDE_MIN {
        return;
    }
    let (scale, inverse) = weight_steps(amax);
    let mut codes = [0u8; BLOCK_KEYS];
    codes.iter_mut().zip(weights).for_each(|(code, weight)| *code = weight_code(*weight * inverse));
    for (at, out) in out.iter_mut().enumerate() {
        *out = small(column(&codes, values, at)).mul_add(scale, *out);
    }
}

/// Dot product of a block's weights and one column of its values.
#[inline(always)]
fn column(codes: &[u8; BLOCK_KEYS], values: &[u8], at: usize) -> i32 {
    let dim = values.len() / BLOCK_KEYS;
    let each = |(quad, codes): (usize, &[u8; 4])| -> i32 {
        let values = &values[(quad * dim + at) * 4..][..4];
        codes.iter().zip(values).map(|(code, value)| i32::from(*code) * i32::from(value.cast_signed())).sum()
    };
    codes.as_chunks::<4>().0.iter().enumerate().map(each).sum()
}

fn index(row: u32) -> usize {
    usize::try_from(row).expect("a row number is an index")
}
