//! 512-bit vectors with byte dot products: sixteen outputs, or sixteen keys, a lane each.
//!
//! What is unsafe is calling instructions that the machine was found to have, and reading and writing behind bounds that were
//! checked at the entrance: every function that is not `unsafe` checks its shapes first, the others say what they rely on.
#![allow(unsafe_code)]

mod adapter;
mod attend;
mod quantise;
mod recoded;
mod wide;

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use super::super::arena::LINE;
use super::super::pack::{PANEL, Packed};
use super::super::share::OutTile;
use super::{Calls, Kernels, MANY_ROWS, Path, check_product};
use crate::numeric::{self, CodeRows, Codes, Zero};
pub(super) use adapter::{expand, shrink};
pub(super) use attend::attend;
pub(super) use quantise::{quantise, quantise_range};
pub(super) use recoded::recoded;

pub(super) static KERNELS: Kernels = Kernels {
    path: Path::Avx512,
    quantise_range,
    quantise,
    gemv: product,
    gemm: product,
    recoded,
    norm,
    rotate,
    attend,
    gated,
    shrink,
    expand,
    calls: Calls::new(),
};

/// Whether this machine has every instruction below.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("fma")
}

/// How codes of a group are unpacked; a constant, so that each kind has a loop of its own.
const U4_MIN: u8 = 0;
const U4: u8 = 1;
const S8: u8 = 2;
const S8_WIDE: u8 = 3;

/// How far ahead of the codes in use memory is asked for them, by the first rows that use them. Prefetchers of the machine stop at
/// pages of 4 KiB, and a panel is a few of those.
const AHEAD: usize = 2048;

/// The rows of a product as the inner loops read them.
#[derive(Clone, Copy)]
struct Rows {
    codes: *const i8,
    scales: *const f32,
    zeros: *const Zero,
    offsets: *const f32,
    columns: usize,
    groups: usize,
}

impl Rows {
    fn new(rows: &CodeRows<'_>) -> Self {
        Self {
            codes: rows.codes.as_ptr(),
            scales: rows.scales.as_ptr(),
            zeros: rows.zeros.as_ptr(),
            offsets: rows.offsets.as_ptr(),
            columns: rows.columns,
            groups: rows.groups(),
        }
    }

    /// The rows from `row` on, as far as there are any.
    fn from(self, row: usize) -> Self {
        Self {
            codes: self.codes.wrapping_add(row * self.columns),
            scales: self.scales.wrapping_add(row * self.groups),
            zeros: self.zeros.wrapping_add(row * self.groups),
            offsets: self.offsets.wrapping_add(row * self.groups),
            ..self
        }
    }
}

pub(super) fn product(w: &Packed, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>) {
    if rows.rows < MANY_ROWS {
        return product_from(w, panels, rows, 0, out);
    }
    check_product(w, &panels, rows, out);
    // SAFETY: this table is given out only where `is_available`; shapes were checked above.
    unsafe {
        match (w.codes(), w.group()) {
            (Codes::U4 { min: true }, _) => wide::panels_of::<U4_MIN>(w, panels, rows, out),
            (Codes::U4 { min: false }, _) => wide::panels_of::<U4>(w, panels, rows, out),
            (Codes::S8, _) => wide::panels_of::<S8>(w, panels, rows, out),
        }
    }
}

/// The rows from `row` on.
pub(super) fn product_from(w: &Packed, panels: Range<usize>, rows: &CodeRows<'_>, row: usize, out: &mut OutTile<'_>) {
    check_product(w, &panels, rows, out);
    // SAFETY: this table is given out only where `is_available`; shapes were checked above.
    unsafe {
        match (w.codes(), w.group()) {
            (Codes::U4 { min: true }, _) => panels_of::<U4_MIN>(w, panels, rows, row, out),
            (Codes::U4 { min: false }, _) => panels_of::<U4>(w, panels, rows, row, out),
            (Codes::S8, 64) => panels_of::<S8_WIDE>(w, panels, rows, row, out),
            (Codes::S8, _) => panels_of::<S8>(w, panels, rows, row, out),
        }
    }
}

/// # Safety
/// The machine has the instructions; shapes are those that [`check_product`] found.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
unsafe fn panels_of<const KIND: u8>(w: &Packed, panels: Range<usize>, rows: &CodeRows<'_>, from: usize, out: &mut OutTile<'_>) {
    let (first, all) = (panels.start, Rows::new(rows));
    for panel in panels {
        let bytes = w.panel(panel).as_ptr();
        let column = (panel - first) * PANEL;
        let mut row = from;
        while row < rows.rows {
            // SAFETY: the panel's bytes are those of its groups, and at least as many rows as the tile takes are left.
            unsafe {
                let (part, ahead) = (all.from(row), if row == from { AHEAD } else { 0 });
                // The widest tile that rows are left for; of wide groups the codes in use leave room for eight.
                row += match rows.rows - row {
                    16.. if KIND != S8_WIDE => tile::<16, KIND>(bytes, part, ahead, out, (row, column)),
                    8.. => tile::<8, KIND>(bytes, part, ahead, out, (row, column)),
                    4.. => tile::<4, KIND>(bytes, part, ahead, out, (row, column)),
                    2.. => tile::<2, KIND>(bytes, part, ahead, out, (row, column)),
                    _ => tile::<1, KIND>(bytes, part, ahead, out, (row, column)),
                };
            }
        }
    }
}

/// Repeats a body for each row below a constant, so that what it indexes by the row stays in registers: a loop over sixteen rows of eight
/// dot products is longer than what the compiler unrolls by itself, and then every sum goes through memory.
macro_rules! each_row {
    ($row:ident < $rows:expr, $body:block) => {
        each_row!(@ $row, $rows, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $row:ident, $rows:expr, $body:block, $($at:literal)*) => {
        $(if $at < $rows {
            let $row: usize = $at;
            $body
        })*
    };
}
use each_row;

/// Sixteen outputs of `R` rows; answers `R`.
///
/// Addresses are stepped by wrapping additions: the checks of the others would stand between the products.
///
/// # Safety
/// `panel` has all groups of `rows`; `rows` has `R` rows; `out` has the rows from `row`, and columns from `column`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
unsafe fn tile<const R: usize, const KIND: u8>(
    panel: *const u8,
    rows: Rows,
    ahead: usize,
    out: &mut OutTile<'_>,
    (row, column): (usize, usize),
) -> usize {
    let group_size: usize = if KIND == S8_WIDE { 64 } else { 32 };
    let above: i32 = match KIND {
        U4_MIN => 0,
        U4 => 8,
        _ => 128,
    };
    let code_bytes = if KIND == U4 || KIND == U4_MIN { 256 } else { group_size * PANEL };
    let mut acc = [_mm512_setzero_ps(); R];
    let (mut at, mut scales_at, mut codes) = (panel, panel, rows.codes);
    for group in 0..rows.groups {
        // SAFETY: a line of scales stands before the codes of one group with minimums, or of two without; see `pack`. Lines ahead
        // are only asked for, which reads nothing. Rows are read at groups that they have.
        unsafe {
            if KIND == U4_MIN || group & 1 == 0 {
                scales_at = at;
                at = at.wrapping_add(LINE);
            } else {
                scales_at = scales_at.wrapping_add(LINE / 2);
            }
            if ahead > 0 {
                for line in 0..code_bytes / LINE + 1 {
                    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(ahead + line * LINE).cast());
                }
            }
            let weights = quads::<KIND>(at);
            let behind = if KIND == S8_WIDE { quads::<KIND>(at.wrapping_add(8 * LINE)) } else { weights };
            at = at.wrapping_add(code_bytes);
            let mut all = sums_of::<KIND>(_mm512_setzero_si512(), &weights);
            if KIND == S8_WIDE {
                all = sums_of::<KIND>(all, &behind);
            }
            // A row's zero goes with the sum of the weights' codes, and its sum with what these are stored above.
            let all = _mm512_or_si512(all, _mm512_set1_epi32(-above << 16));
            let scale = _mm512_cvtph_ps(_mm256_maskz_loadu_epi32(!0, scales_at.cast()));
            let min = _mm512_cvtph_ps(_mm256_maskz_loadu_epi32(!0, scales_at.wrapping_add(LINE / 2).cast()));
            each_row!(r < R, {
                let (row_codes, place) =
                    (codes.wrapping_add(r.wrapping_mul(rows.columns)), group.wrapping_add(r.wrapping_mul(rows.groups)));
                let dot = _mm512_dpwssd_epi32(_mm512_setzero_si512(), all, integer(rows.zeros.cast(), place));
                let mut dot = eight(dot, &weights, row_codes);
                if KIND == S8_WIDE {
                    dot = eight(dot, &behind, row_codes.wrapping_add(32));
                }
                let step = _mm512_mul_ps(scale, number(rows.scales, place));
                acc[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), step, acc[r]);
                if KIND == U4_MIN {
                    acc[r] = _mm512_fmadd_ps(min, number(rows.offsets, place), acc[r]);
                }
            });
            codes = codes.wrapping_add(group_size);
        }
    }
    for (r, acc) in acc.into_iter().enumerate() {
        store(&mut out.row(row + r)[column..], acc);
    }
    R
}

/// The 64 bytes of a line; by way of a mask, as in [`whole`].
///
/// # Safety
/// They are there.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn line_of(at: *const u8) -> __m512i {
    // SAFETY: as above; no alignment is needed.
    unsafe { _mm512_maskz_loadu_epi32(!0, at.cast()) }
}

/// One number in every lane. By an instruction's load, because a plain one is checked where our checks are on, three times a row and group.
///
/// # Safety
/// It is there, and aligned.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn number(numbers: *const f32, at: usize) -> __m512 {
    // SAFETY: as above.
    _mm512_broadcastss_ps(unsafe { _mm_load_ss(numbers.wrapping_add(at)) })
}

/// One integer in every lane: its bits, moved as those of a number.
///
/// # Safety
/// It is there, and aligned.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn integer(integers: *const i32, at: usize) -> __m512i {
    // SAFETY: as above.
    _mm512_castps_si512(unsafe { number(integers.cast(), at) })
}

/// Eight quads of codes: of four bits both halves of four lines.
///
/// # Safety
/// Four or eight lines stand at `at`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn quads<const KIND: u8>(at: *const u8) -> [__m512i; 8] {
    // SAFETY: as above.
    let line = |line: usize| unsafe { line_of(at.wrapping_add(line * LINE)) };
    if KIND == U4 || KIND == U4_MIN {
        let half = _mm512_set1_epi8(15);
        let [a, b, c, d] = [line(0), line(1), line(2), line(3)];
        let low = |x| _mm512_and_si512(x, half);
        let high = |x| _mm512_and_si512(_mm512_srli_epi16::<4>(x), half);
        [low(a), low(b), low(c), low(d), high(a), high(b), high(c), high(d)]
    } else {
        [line(0), line(1), line(2), line(3), line(4), line(5), line(6), line(7)]
    }
}

/// Adds the sums of the codes of eight quads: what a zero of activations is multiplied by.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn sums_of<const KIND: u8>(sums: __m512i, quads: &[__m512i; 8]) -> __m512i {
    let one = _mm512_set1_epi8(1);
    if KIND == U4 || KIND == U4_MIN {
        // Eight codes of four bits: at most 120 in a byte.
        let all = quads.iter().fold(_mm512_setzero_si512(), |all, quad| _mm512_add_epi8(all, *quad));
        return _mm512_dpbusd_epi32(sums, all, one);
    }
    quads.iter().fold(sums, |sums, quad| _mm512_dpbusd_epi32(sums, *quad, one))
}

/// Adds the products of eight quads with 32 codes of a row.
///
/// In assembly, because the compiler would take quad by quad through all rows, which leaves no register for their sums. Half of the quads by
/// `vpmaddubsw`, which Zen 4 has on a port of its own, were not quicker: the loads of codes, one a cycle, are as scarce as the products.
///
/// # Safety
/// There are 32 codes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn eight(mut dot: __m512i, quads: &[__m512i; 8], codes: *const i8) -> __m512i {
    // SAFETY: reads 32 bytes at `codes` and nothing else; the machine has the instruction.
    unsafe {
        asm!(
            "vpdpbusd {dot}, {a}, dword ptr [{codes}]{{1to16}}",
            "vpdpbusd {dot}, {b}, dword ptr [{codes} + 4]{{1to16}}",
            "vpdpbusd {dot}, {c}, dword ptr [{codes} + 8]{{1to16}}",
            "vpdpbusd {dot}, {d}, dword ptr [{codes} + 12]{{1to16}}",
            "vpdpbusd {dot}, {e}, dword ptr [{codes} + 16]{{1to16}}",
            "vpdpbusd {dot}, {f}, dword ptr [{codes} + 20]{{1to16}}",
            "vpdpbusd {dot}, {g}, dword ptr [{codes} + 24]{{1to16}}",
            "vpdpbusd {dot}, {h}, dword ptr [{codes} + 28]{{1to16}}",
            dot = inout(zmm_reg) dot,
            a = in(zmm_reg) quads[0],
            b = in(zmm_reg) quads[1],
            c = in(zmm_reg) quads[2],
            d = in(zmm_reg) quads[3],
            e = in(zmm_reg) quads[4],
            f = in(zmm_reg) quads[5],
            g = in(zmm_reg) quads[6],
            h = in(zmm_reg) quads[7],
            codes = in(reg) codes,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    dot
}

/// Writes sixteen lanes, or as many as there is place for.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(place: &mut [f32], lanes: __m512) {
    // SAFETY: the mask has as many lanes as `place`, or all sixteen if it has more.
    unsafe { _mm512_mask_storeu_ps(place.as_mut_ptr(), first(place.len()), lanes) };
}

/// The first `count` lanes, at most all.
#[inline]
fn first(count: usize) -> __mmask16 {
    if count >= 16 { !0 } else { (1 << count) - 1 }
}

/// Up to sixteen values; the other lanes are 0.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32]) -> __m512 {
    // SAFETY: the mask has as many lanes as there are values, or all sixteen if there are more.
    unsafe { _mm512_maskz_loadu_ps(first(values.len()), values.as_ptr()) }
}

/// Sixteen values. By way of a mask that the compiler takes off again: a load without one goes through the stack where our checks of overflow
/// are on.
#[inline]
#[target_feature(enable = "avx512f")]
fn whole(values: &[f32; PANEL]) -> __m512 {
    // SAFETY: sixteen values; no alignment is needed.
    unsafe { _mm512_maskz_loadu_ps(!0, values.as_ptr()) }
}

/// Writes sixteen values.
#[inline]
#[target_feature(enable = "avx512f")]
fn put(place: &mut [f32; PANEL], lanes: __m512) {
    // SAFETY: sixteen places; no alignment is needed.
    unsafe { _mm512_mask_storeu_ps(place.as_mut_ptr(), !0, lanes) };
}

/// As [`numeric::fold`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn fold(lanes: __m512) -> f32 {
    let eight = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps::<1>(lanes));
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// As [`numeric::exp`].
#[inline]
#[target_feature(enable = "avx512f")]
fn exp(x: __m512) -> __m512 {
    use numeric::polynomial::{EXP, EXP_MAX, EXP_MIN, LN2_HIGH, LN2_LOW, ROUND};
    // Both give their second operand for a NaN, as the comparisons of the definition do.
    let x = _mm512_max_ps(_mm512_min_ps(x, _mm512_set1_ps(EXP_MAX)), _mm512_set1_ps(EXP_MIN));
    let shifted = _mm512_fmadd_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E), _mm512_set1_ps(ROUND));
    let n = _mm512_sub_ps(shifted, _mm512_set1_ps(ROUND));
    let r = _mm512_fmadd_ps(n, _mm512_set1_ps(-LN2_LOW), _mm512_fmadd_ps(n, _mm512_set1_ps(-LN2_HIGH), x));
    let mut p = _mm512_set1_ps(EXP[0]);
    for coefficient in &EXP[1..] {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(*coefficient));
    }
    let e = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0));
    let power = _mm512_slli_epi32::<23>(_mm512_add_epi32(_mm512_castps_si512(shifted), _mm512_set1_epi32(127)));
    _mm512_mul_ps(e, _mm512_castsi512_ps(power))
}

pub(super) fn norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) -> bool {
    assert!(x.len() == weight.len() && x.len() == out.len(), "one length");
    // SAFETY: this table is given out only where `is_available`.
    unsafe { norm_row(x, weight, epsilon, out) }
}

#[target_feature(enable = "avx512f,avx512dq")]
fn norm_row(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) -> bool {
    let (parts, rest) = x.as_chunks::<PANEL>();
    let sums = parts.iter().fold(_mm512_setzero_ps(), |lanes, part| _mm512_fmadd_ps(whole(part), whole(part), lanes));
    let sum = fold(_mm512_fmadd_ps(load(rest), load(rest), sums));
    let inverse = _mm512_set1_ps(numeric::inverse_rms(sum, x.len(), epsilon));
    let (weights, weight_rest) = weight.as_chunks::<PANEL>();
    let (outs, out_rest) = out.as_chunks_mut::<PANEL>();
    for ((out, x), weight) in outs.iter_mut().zip(parts).zip(weights) {
        put(out, _mm512_mul_ps(_mm512_mul_ps(whole(x), inverse), whole(weight)));
    }
    store(out_rest, _mm512_mul_ps(_mm512_mul_ps(load(rest), inverse), load(weight_rest)));
    sum.is_finite()
}

pub(super) fn rotate(heads: &mut [f32], head_dim: usize, cosines: &[f32], sines: &[f32]) {
    let half = head_dim / 2;
    assert!(heads.len().is_multiple_of(head_dim) && cosines.len() == half && sines.len() == half, "whole heads, half as many angles");
    // SAFETY: this table is given out only where `is_available`.
    unsafe { rotate_heads(heads, head_dim, cosines, sines) }
}

#[target_feature(enable = "avx512f")]
fn rotate_heads(heads: &mut [f32], head_dim: usize, cosines: &[f32], sines: &[f32]) {
    let ((cosines, cos_rest), (sines, sin_rest)) = (cosines.as_chunks::<PANEL>(), sines.as_chunks::<PANEL>());
    for head in heads.chunks_exact_mut(head_dim) {
        let (low, high) = head.split_at_mut(head_dim / 2);
        let ((lows, low_rest), (highs, high_rest)) = (low.as_chunks_mut::<PANEL>(), high.as_chunks_mut::<PANEL>());
        for ((low, high), (cos, sin)) in lows.iter_mut().zip(highs).zip(cosines.iter().zip(sines)) {
            let (a, b) = turned((whole(low), whole(high)), whole(cos), whole(sin));
            put(low, a);
            put(high, b);
        }
        if !low_rest.is_empty() {
            let (a, b) = turned((load(low_rest), load(high_rest)), load(cos_rest), load(sin_rest));
            store(low_rest, a);
            store(high_rest, b);
        }
    }
}

/// Sixteen pairs, turned.
#[inline]
#[target_feature(enable = "avx512f")]
fn turned((a, b): (__m512, __m512), cos: __m512, sin: __m512) -> (__m512, __m512) {
    // a cos - b sin with the product of b rounded first.
    (_mm512_fmsub_ps(a, cos, _mm512_mul_ps(b, sin)), _mm512_fmadd_ps(b, cos, _mm512_mul_ps(a, sin)))
}

pub(super) fn gated(gate: &mut [f32], up: &[f32]) {
    assert!(gate.len() == up.len(), "one length");
    // SAFETY: this table is given out only where `is_available`.
    unsafe { gated_row(gate, up) }
}

#[target_feature(enable = "avx512f")]
fn gated_row(gate: &mut [f32], up: &[f32]) {
    let (gates, gate_rest) = gate.as_chunks_mut::<PANEL>();
    let (ups, up_rest) = up.as_chunks::<PANEL>();
    for (gate, up) in gates.iter_mut().zip(ups) {
        put(gate, swiglu(whole(gate), whole(up)));
    }
    // A tile of whole panels has no rest, and few columns: as much again would be computed for nothing.
    if !gate_rest.is_empty() {
        store(gate_rest, swiglu(load(gate_rest), load(up_rest)));
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn swiglu(gate: __m512, up: __m512) -> __m512 {
    let negative = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(gate), _mm512_set1_epi32(i32::MIN)));
    let one = _mm512_set1_ps(1.0);
    let sigmoid = _mm512_div_ps(one, _mm512_add_ps(one, exp(negative)));
    _mm512_mul_ps(_mm512_mul_ps(gate, sigmoid), up)
}

/// Products of some quads with the codes of `R` rows: too large by 128 times the sum of these codes.
///
/// # Safety
/// There are so many quads, and four times as many codes at each pointer.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn signed_dots<const R: usize>(quads: *const u8, count: usize, codes: [*const i8; R]) -> [__m512i; R] {
    let mut dots = [_mm512_setzero_si512(); R];
    let mut at = quads;
    for quad in 0..count {
        // SAFETY: as above; no alignment is needed.
        let weights = unsafe { line_of(at) };
        each_row!(r < R, {
            // SAFETY: reads four codes and nothing else; the machine has the instruction.
            unsafe {
                asm!(
                    "vpdpbusd {dot}, {weights}, dword ptr [{codes} + 4*{quad}]{{1to16}}",
                    dot = inout(zmm_reg) dots[r],
                    weights = in(zmm_reg) weights,
                    codes = in(reg) codes[r],
                    quad = in(reg) quad,
                    options(pure, readonly, nostack, preserves_flags)
                );
            }
        });
        at = at.wrapping_add(LINE);
    }
    dots
}
