//! 256-bit vectors: a panel is taken in two halves of eight outputs.
//!
//! `vpmaddubsw` multiplies unsigned by signed bytes and adds two neighbours into 16 bits, where it saturates. Codes of four bits are safe:
//! 2 x 15 x 127 = 3,810, and eight of these, a whole group, still fit. Codes of eight bits as unsigned bytes are not (2 x 255 x 127), so
//! they go in as magnitudes, and their signs go to the other operand: 2 x 128 x 127 = 32,512 fits, which is widened at once. The other
//! operand, an activation or a query, is never -128, so that turning its sign keeps it in a byte.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::arena::LINE;
use super::super::cache::Seen;
use super::super::pack::{PANEL, Packed, PackedRows};
use super::super::recoded::{Recoded, SUMS_BYTES};
use super::super::share::OutTile;
use super::{Calls, Kernels, Path, RankRows, check_attend, check_expand, check_product, check_recoded, check_shrink};
use crate::numeric::{
    self, BLOCK_KEYS, CodeRows, Codes, CodesMut, LANES, MAGNITUDE_MAX, Queries, Zero, small, steps, weight_code, weight_steps,
};

pub(super) static KERNELS: Kernels = Kernels {
    path: Path::Avx2,
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

/// Lanes of a vector of `f32`.
const HALF: usize = 8;

/// Whether this machine has every instruction below.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// How codes are unpacked, as a constant.
const U4_MIN: u8 = 0;
const U4: u8 = 1;
const S8: u8 = 2;

fn product(w: &Packed, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>) {
    check_product(w, &panels, rows, out);
    // SAFETY: this table is given out only where `is_available`; shapes were checked above.
    unsafe {
        match w.codes() {
            Codes::U4 { min: true } => panels_of::<U4_MIN>(w, panels, rows, out),
            Codes::U4 { min: false } => panels_of::<U4>(w, panels, rows, out),
            Codes::S8 => panels_of::<S8>(w, panels, rows, out),
        }
    }
}

/// # Safety
/// The machine has the instructions; shapes are those that [`check_product`] found.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn panels_of<const KIND: u8>(w: &Packed, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>) {
    let first = panels.start;
    for panel in panels {
        let mut row = 0;
        while row < rows.rows {
            let column = (panel - first) * PANEL;
            // SAFETY: at least as many rows as the tile takes are left.
            row += unsafe {
                match rows.rows - row {
                    4.. => tile::<4, KIND>(w, panel, rows, row, out, column),
                    2.. => tile::<2, KIND>(w, panel, rows, row, out, column),
                    _ => tile::<1, KIND>(w, panel, rows, row, out, column),
                }
            };
        }
    }
}

/// Sixteen outputs of `R` rows; answers `R`.
///
/// # Safety
/// Shapes are those that [`check_product`] found, and there are `R` rows from `row` on.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<const R: usize, const KIND: u8>(
    w: &Packed,
    panel: usize,
    rows: &CodeRows<'_>,
    row: usize,
    out: &mut OutTile<'_>,
    column: usize,
) -> usize {
    let (bytes, groups) = (w.panel(panel).as_ptr(), rows.groups());
    for half in 0..2 {
        let mut acc = [_mm256_setzero_ps(); R];
        for group in 0..groups {
            let place = w.place(group);
            // SAFETY: the panel has this group's scales and quads, each row its codes and numbers.
            unsafe {
                let quads = |run: usize| bytes.wrapping_add(place.codes + run * 8 * LINE + half * LINE / 2);
                let mut sums = _mm256_setzero_si256();
                for run in 0..w.group() / 32 {
                    sums = _mm256_add_epi32(sums, group_sums::<KIND>(quads(run)));
                }
                let mut dots = [_mm256_setzero_si256(); R];
                for (r, dot) in dots.iter_mut().enumerate() {
                    *dot = _mm256_mullo_epi32(sums, _mm256_set1_epi32(rows.zeros[(row + r) * groups + group].zero()));
                }
                for run in 0..w.group() / 32 {
                    let (codes, quads) = (rows.codes.as_ptr().wrapping_add(row * rows.columns + group * w.group() + run * 32), quads(run));
                    group_dots::<R, KIND>(quads, codes, rows.columns, &mut dots);
                }
                let scales = bytes.wrapping_add(place.scales + half * PANEL);
                let scale = _mm256_cvtph_ps(_mm_lddqu_si128(scales.cast()));
                for r in 0..R {
                    let at = (row + r) * groups + group;
                    let dot = if KIND == U4 { _mm256_sub_epi32(dots[r], _mm256_set1_epi32(8 * rows.sums[at])) } else { dots[r] };
                    let step = _mm256_mul_ps(scale, _mm256_set1_ps(rows.scales[at]));
                    acc[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), step, acc[r]);
                    if KIND == U4_MIN {
                        let min = _mm256_cvtph_ps(_mm_lddqu_si128(scales.wrapping_add(LINE / 2).cast()));
                        acc[r] = _mm256_fmadd_ps(min, _mm256_set1_ps(rows.offsets[at]), acc[r]);
                    }
                }
            }
        }
        for (r, acc) in acc.into_iter().enumerate() {
            let place = &mut out.row(row + r)[column..];
            let from = (half * HALF).min(place.len());
            store(&mut place[from..], acc);
        }
    }
    R
}

fn recoded(w: &Recoded, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>) {
    check_recoded(w, &panels, rows, out);
    let first = panels.start;
    for panel in panels {
        let (mut row, column) = (0, (panel - first) * PANEL);
        while row < rows.rows {
            // SAFETY: this table is given out only where `is_available`; shapes were checked above, and at least as many rows as the tile takes are left.
            row += unsafe {
                match rows.rows - row {
                    4.. => recoded_tile::<4>(w, panel, rows, row, out, column),
                    2.. => recoded_tile::<2>(w, panel, rows, row, out, column),
                    _ => recoded_tile::<1>(w, panel, rows, row, out, column),
                }
            };
        }
    }
}

/// Sixteen outputs of `R` rows; answers `R`.
///
/// # Safety
/// Shapes are those that [`check_recoded`] found, and there are `R` rows from `row` on.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn recoded_tile<const R: usize>(
    w: &Recoded,
    panel: usize,
    rows: &CodeRows<'_>,
    row: usize,
    out: &mut OutTile<'_>,
    column: usize,
) -> usize {
    let ((scales, quads), sums, groups) = (w.panel(panel), w.sums(panel), rows.groups());
    for (half, scales) in scales.as_chunks::<HALF>().0.iter().enumerate() {
        let mut acc = [_mm256_setzero_ps(); R];
        for group in 0..groups {
            // SAFETY: the panel has this group's sums and quads, each row its codes and numbers.
            unsafe {
                let sums = sums.as_ptr().wrapping_add(group * SUMS_BYTES + half * HALF * 2);
                let stored = _mm256_cvtepu16_epi32(_mm_lddqu_si128(sums.cast()));
                let signed = _mm256_sub_epi32(stored, _mm256_set1_epi32(128 * small_count(w.group())));
                let mut dots = [_mm256_setzero_si256(); R];
                for (r, dot) in dots.iter_mut().enumerate() {
                    *dot = _mm256_mullo_epi32(signed, _mm256_set1_epi32(rows.zeros[(row + r) * groups + group].zero()));
                }
                for from in (group * w.group()..(group + 1) * w.group()).step_by(32) {
                    let quads = quads.as_ptr().wrapping_add(from * PANEL + half * LINE / 2);
                    let codes = rows.codes.as_ptr().wrapping_add(row * rows.columns + from);
                    group_dots::<R, S8>(quads, codes, rows.columns, &mut dots);
                }
                for (r, acc) in acc.iter_mut().enumerate() {
                    let scale = _mm256_set1_ps(rows.scales[(row + r) * groups + group]);
                    *acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[r]), scale, *acc);
                }
            }
        }
        for (r, acc) in acc.into_iter().enumerate() {
            let place = &mut out.row(row + r)[column..];
            let from = (half * HALF).min(place.len());
            store(&mut place[from..], _mm256_mul_ps(acc, load(scales)));
        }
    }
    R
}

/// Codes of a group, 128 at most.
#[inline]
fn small_count(group: usize) -> i32 {
    i32::try_from(group).expect("a group of recoded weights")
}

/// Sums of the codes of 32 inputs of eight outputs: what a zero of activations is multiplied by. Of eight bits they are signed.
///
/// # Safety
/// Eight quads (or four lines of two) stand at `quads`, 64 bytes apart.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn group_sums<const KIND: u8>(quads: *const u8) -> __m256i {
    let (nibble, ones, one) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1), _mm256_set1_epi8(1));
    // SAFETY: as above; no load needs an alignment.
    let line = |at: usize| unsafe { _mm256_lddqu_si256(quads.wrapping_add(at * LINE).cast()) };
    let mut sums = _mm256_setzero_si256();
    if KIND == S8 {
        // Pairs of bytes, eight times: at most 2,048.
        for at in 0..8 {
            sums = _mm256_add_epi16(sums, _mm256_maddubs_epi16(one, _mm256_xor_si256(line(at), _mm256_set1_epi8(-128))));
        }
        return _mm256_madd_epi16(sums, ones);
    }
    // Eight codes of four bits: at most 120 in a byte.
    for at in 0..4 {
        let both = line(at);
        let (low, high) = (_mm256_and_si256(both, nibble), _mm256_and_si256(_mm256_srli_epi16::<4>(both), nibble));
        sums = _mm256_add_epi8(sums, _mm256_add_epi8(low, high));
    }
    _mm256_madd_epi16(_mm256_maddubs_epi16(sums, one), ones)
}

/// Adds to `dots` the products of 32 inputs of eight outputs with the codes of `R` rows.
///
/// # Safety
/// Eight quads (or four lines of two) stand at `quads`, 64 bytes apart, and 32 codes at `codes` and every `stride` behind.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn group_dots<const R: usize, const KIND: u8>(quads: *const u8, codes: *const i8, stride: usize, dots: &mut [__m256i; R]) {
    let (nibble, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
    // SAFETY: as above; no load needs an alignment.
    let line = |at: usize| unsafe { _mm256_lddqu_si256(quads.wrapping_add(at * LINE).cast()) };
    // SAFETY: as above.
    let four = |r: usize, at: usize| unsafe { _mm256_set1_epi32(codes.wrapping_add(r * stride + 4 * at).cast::<i32>().read_unaligned()) };
    if KIND == S8 {
        for at in 0..8 {
            let weights = _mm256_xor_si256(line(at), _mm256_set1_epi8(-128));
            let magnitude = _mm256_abs_epi8(weights);
            for (r, dot) in dots.iter_mut().enumerate() {
                let pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(four(r, at), weights));
                *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(pairs, ones));
            }
        }
        return;
    }
    let mut sums = [_mm256_setzero_si256(); R];
    for at in 0..4 {
        let both = line(at);
        let (low, high) = (_mm256_and_si256(both, nibble), _mm256_and_si256(_mm256_srli_epi16::<4>(both), nibble));
        for (r, sum) in sums.iter_mut().enumerate() {
            let pairs = _mm256_add_epi16(_mm256_maddubs_epi16(low, four(r, at)), _mm256_maddubs_epi16(high, four(r, at + 4)));
            *sum = _mm256_add_epi16(*sum, pairs);
        }
    }
    for (dot, sum) in dots.iter_mut().zip(sums) {
        *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(sum, ones));
    }
}

/// Writes eight lanes, or as many as there is place for.
#[inline]
#[target_feature(enable = "avx2")]
fn store(place: &mut [f32], lanes: __m256) {
    if let Some(place) = place.first_chunk_mut::<HALF>() {
        // SAFETY: eight places.
        unsafe { _mm256_storeu_ps(place.as_mut_ptr(), lanes) };
    } else {
        let mut all = [0f32; HALF];
        // SAFETY: eight places.
        unsafe { _mm256_storeu_ps(all.as_mut_ptr(), lanes) };
        place.copy_from_slice(&all[..place.len()]);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(values: &[f32; HALF]) -> __m256 {
    // SAFETY: eight values. By this instruction, because the plain load goes through the stack where our checks of overflow are on.
    _mm256_castsi256_ps(unsafe { _mm256_lddqu_si256(values.as_ptr().cast()) })
}

/// As [`numeric::exp`].
#[inline]
#[target_feature(enable = "avx2,fma")]
fn exp(x: __m256) -> __m256 {
    use numeric::polynomial::{EXP, EXP_MAX, EXP_MIN, LN2_HIGH, LN2_LOW, ROUND};
    // Both give their second operand for a NaN, as the comparisons of the definition do.
    let x = _mm256_max_ps(_mm256_min_ps(x, _mm256_set1_ps(EXP_MAX)), _mm256_set1_ps(EXP_MIN));
    let shifted = _mm256_fmadd_ps(x, _mm256_set1_ps(std::f32::consts::LOG2_E), _mm256_set1_ps(ROUND));
    let n = _mm256_sub_ps(shifted, _mm256_set1_ps(ROUND));
    let r = _mm256_fmadd_ps(n, _mm256_set1_ps(-LN2_LOW), _mm256_fmadd_ps(n, _mm256_set1_ps(-LN2_HIGH), x));
    let mut p = _mm256_set1_ps(EXP[0]);
    for coefficient in &EXP[1..] {
        p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(*coefficient));
    }
    let e = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1.0));
    let power = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(127)));
    _mm256_mul_ps(e, _mm256_castsi256_ps(power))
}

/// Eight integers within a byte, as bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn bytes(integers: __m256i) -> [i8; HALF] {
    let words = _mm_packs_epi32(_mm256_castsi256_si128(integers), _mm256_extracti128_si256::<1>(integers));
    _mm_cvtsi128_si64(_mm_packs_epi16(words, words)).to_le_bytes().map(u8::cast_signed)
}

fn quantise_range(x: &[f32], group: usize, out: &mut CodesMut<'_>, zeros: &mut [Zero]) -> bool {
    out.check_ranges(x.len(), group, zeros);
    // SAFETY: this table is given out only where `is_available`.
    unsafe { quantise_ranges(x, group, out, zeros) }
}

#[target_feature(enable = "avx2,fma")]
fn quantise_ranges(x: &[f32], group: usize, out: &mut CodesMut<'_>, zeros: &mut [Zero]) -> bool {
    if !group.is_multiple_of(HALF) {
        return numeric::quantise_range(x, group, out, zeros);
    }
    let mut fine = true;
    for (at, (x, codes)) in x.chunks_exact(group).zip(out.codes.chunks_exact_mut(group)).enumerate() {
        let (mut low, mut high) = (_mm256_set1_epi32(numeric::SIGN.cast_signed()), _mm256_setzero_si256());
        for part in x.as_chunks::<HALF>().0 {
            let bits = _mm256_castps_si256(load(part));
            (low, high) = (_mm256_max_epu32(low, bits), _mm256_max_epi32(high, bits));
        }
        let low = folded(low, |a, b| _mm_max_epu32(a, b)).cast_unsigned();
        let high = folded(high, |a, b| _mm_max_epi32(a, b)).cast_unsigned();
        fine &= numeric::is_in_range(low, high);
        let (scale, inverse, zero) = numeric::range_steps(low, high);
        let sum = encode(x, (inverse, zero), codes);
        zeros[at] = Zero::new(zero, sum);
        (out.scales[at], out.sums[at], out.offsets[at]) = (scale, zeros[at].sum(), scale * small(sum));
    }
    fine
}

/// Eight lanes folded into one by an operation that may be done in any order.
#[inline]
#[target_feature(enable = "avx2")]
fn folded(lanes: __m256i, two: impl Fn(__m128i, __m128i) -> __m128i) -> i32 {
    let four = two(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes));
    let pair = two(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    _mm_cvtsi128_si32(two(pair, _mm_shuffle_epi32::<0b10_11_00_01>(pair)))
}

/// Codes of a group of whole eights: the nearest integers of `x * inverse`, less `zero`. Answers the sum of the integers.
#[inline]
#[target_feature(enable = "avx2")]
fn encode(x: &[f32], (inverse, zero): (f32, i32), codes: &mut [i8]) -> i32 {
    let (inverse, zero) = (_mm256_set1_ps(inverse), _mm256_set1_epi32(zero));
    let whole = |part: &[f32; HALF]| _mm256_cvtps_epi32(_mm256_mul_ps(load(part), inverse));
    let mut sums = _mm256_setzero_si256();
    let (lines, rest) = x.as_chunks::<{ 4 * HALF }>();
    let (places, places_rest) = codes.as_chunks_mut::<{ 4 * HALF }>();
    // What packing makes of two vectors has halves of each in turn: dwords of the result, put back in order.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (line, place) in lines.iter().zip(places) {
        let mut parts = [_mm256_setzero_si256(); 4];
        for (whole_part, part) in parts.iter_mut().zip(line.as_chunks::<HALF>().0) {
            let integers = whole(part);
            sums = _mm256_add_epi32(sums, integers);
            *whole_part = _mm256_sub_epi32(integers, zero);
        }
        let [a, b, c, d] = parts;
        let packed = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        // SAFETY: thirty-two places.
        unsafe { _mm256_storeu_si256(place.as_mut_ptr().cast(), _mm256_permutevar8x32_epi32(packed, order)) };
    }
    for (part, place) in rest.as_chunks::<HALF>().0.iter().zip(places_rest.as_chunks_mut::<HALF>().0) {
        let integers = whole(part);
        sums = _mm256_add_epi32(sums, integers);
        *place = bytes(_mm256_sub_epi32(integers, zero));
    }
    folded(sums, |a, b| _mm_add_epi32(a, b))
}

fn quantise(x: &[f32], group: usize, out: &mut CodesMut<'_>) -> bool {
    out.check(x.len(), group);
    // SAFETY: this table is given out only where `is_available`.
    unsafe { quantise_groups(x, group, out) }
}

#[target_feature(enable = "avx2,fma")]
fn quantise_groups(x: &[f32], group: usize, out: &mut CodesMut<'_>) -> bool {
    if !group.is_multiple_of(HALF) {
        return numeric::quantise(x, group, out);
    }
    let mut fine = true;
    for (at, (x, codes)) in x.chunks_exact(group).zip(out.codes.chunks_exact_mut(group)).enumerate() {
        let mut most = _mm256_setzero_si256();
        for part in x.as_chunks::<HALF>().0 {
            let magnitude = _mm256_and_si256(_mm256_castps_si256(load(part)), _mm256_set1_epi32(0x7fff_ffff));
            most = _mm256_max_epu32(most, magnitude);
        }
        let amax = folded(most, |a, b| _mm_max_epu32(a, b)).cast_unsigned();
        fine &= amax < MAGNITUDE_MAX.to_bits();
        let (scale, inverse) = steps(f32::from_bits(amax));
        let sum = encode(x, (inverse, 0), codes);
        (out.scales[at], out.sums[at], out.offsets[at]) = (scale, sum, scale * small(sum));
    }
    fine
}

fn norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) -> bool {
    assert!(x.len() == weight.len() && x.len() == out.len(), "one length");
    // SAFETY: this table is given out only where `is_available`.
    unsafe { norm_row(x, weight, epsilon, out) }
}

#[target_feature(enable = "avx2,fma")]
fn norm_row(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) -> bool {
    let (whole, rest) = x.as_chunks::<LANES>();
    let mut sums = [_mm256_setzero_ps(); 2];
    for part in whole {
        for (sum, part) in sums.iter_mut().zip(part.as_chunks::<HALF>().0) {
            *sum = _mm256_fmadd_ps(load(part), load(part), *sum);
        }
    }
    let mut lanes = lanes(sums);
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = x.mul_add(*x, *lane);
    }
    let sum = numeric::fold(lanes);
    let inverse = numeric::inverse_rms(sum, x.len(), epsilon);
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = (x * inverse) * weight;
    }
    sum.is_finite()
}

/// Sixteen partial sums, as numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn lanes([low, high]: [__m256; 2]) -> [f32; LANES] {
    let mut lanes = [0f32; LANES];
    store(&mut lanes[..HALF], low);
    store(&mut lanes[HALF..], high);
    lanes
}

fn rotate(heads: &mut [f32], head_dim: usize, cosines: &[f32], sines: &[f32]) {
    #[target_feature(enable = "avx2,fma")]
    fn with(heads: &mut [f32], head_dim: usize, cosines: &[f32], sines: &[f32]) {
        numeric::rotate(heads, head_dim, cosines, sines);
    }
    // SAFETY: this table is given out only where `is_available`. The definition itself: the compiler makes vectors of it.
    unsafe { with(heads, head_dim, cosines, sines) }
}

fn gated(gate: &mut [f32], up: &[f32]) {
    assert!(gate.len() == up.len(), "one length");
    // SAFETY: this table is given out only where `is_available`.
    unsafe { gated_row(gate, up) }
}

#[target_feature(enable = "avx2,fma")]
fn gated_row(gate: &mut [f32], up: &[f32]) {
    let (gates, rest) = gate.as_chunks_mut::<HALF>();
    let (ups, up_rest) = up.as_chunks::<HALF>();
    let (one, sign) = (_mm256_set1_ps(1.0), _mm256_set1_ps(-0.0));
    for (gate, up) in gates.iter_mut().zip(ups) {
        let g = load(gate);
        let sigmoid = _mm256_div_ps(one, _mm256_add_ps(one, exp(_mm256_xor_ps(g, sign))));
        store(gate, _mm256_mul_ps(_mm256_mul_ps(g, sigmoid), load(up)));
    }
    numeric::gated(rest, up_rest);
}

/// Products of some quads (eight of the sixteen lanes) with the codes of `R` rows, which are never -128.
///
/// # Safety
/// There are so many quads, 64 bytes apart, of codes stored as `code + 128`, and four times as many codes of each row.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn signed_dots<const R: usize>(quads: *const u8, count: usize, codes: [*const i8; R]) -> [__m256i; R] {
    let mut dots = [_mm256_setzero_si256(); R];
    for quad in 0..count {
        // SAFETY: as above; no alignment is needed.
        let weights = unsafe { _mm256_lddqu_si256(quads.wrapping_add(quad * LINE).cast()) };
        // SAFETY: as above.
        unsafe { add_quad(_mm256_xor_si256(weights, _mm256_set1_epi8(-128)), quad, codes, &mut dots) };
    }
    dots
}

/// Adds to `dots` the products of one quad's codes with those of each row.
///
/// # Safety
/// Each row has four codes for this quad.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add_quad<const R: usize>(weights: __m256i, quad: usize, codes: [*const i8; R], dots: &mut [__m256i; R]) {
    let (ones, magnitude) = (_mm256_set1_epi16(1), _mm256_abs_epi8(weights));
    for (dot, codes) in dots.iter_mut().zip(codes) {
        // SAFETY: as above; no alignment is needed.
        let four = _mm256_set1_epi32(unsafe { codes.wrapping_add(4 * quad).cast::<i32>().read_unaligned() });
        let pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(four, weights));
        *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(pairs, ones));
    }
}

fn shrink(a: &PackedRows, rows: &CodeRows<'_>, which: &[u32], out: &mut [f32]) {
    check_shrink(a, rows, which, out);
    let (mut at, width) = (0, a.panels() * PANEL);
    while at < which.len() {
        let (left, out) = (&which[at..], &mut out[at * width..]);
        // SAFETY: this table is given out only where `is_available`; shapes were checked above, and at least as many rows as are taken are left.
        at += unsafe {
            match left.len() {
                4.. => shrink_rows::<4>(a, rows, left, out),
                2.. => shrink_rows::<2>(a, rows, left, out),
                _ => shrink_rows::<1>(a, rows, left, out),
            }
        };
    }
}

/// All ranks of the first `R` rows of `which`; answers `R`.
///
/// # Safety
/// Shapes are those that [`check_shrink`] found, and `which` has `R` rows.
#[target_feature(enable = "avx2,fma")]
unsafe fn shrink_rows<const R: usize>(a: &PackedRows, rows: &CodeRows<'_>, which: &[u32], out: &mut [f32]) -> usize {
    let (groups, width) = (rows.groups(), a.panels() * PANEL);
    let which: [usize; R] = std::array::from_fn(|r| index(which[r]));
    for panel in 0..a.panels() {
        let (scales, quads) = a.panel(panel);
        for (half, scales) in scales.as_chunks::<HALF>().0.iter().enumerate() {
            let mut acc = [_mm256_setzero_ps(); R];
            for group in 0..groups {
                let quads = quads[group * rows.group * PANEL + half * LINE / 2..].as_ptr();
                let codes = which.map(|row| rows.codes[row * rows.columns + group * rows.group..].as_ptr());
                // SAFETY: the quads of one group, whole fours of them, and the codes of each row.
                let (dots, sums) = unsafe { dots_and_sums(quads, rows.group / 4, codes) };
                for ((acc, dot), row) in acc.iter_mut().zip(dots).zip(which) {
                    let at = row * groups + group;
                    let dot = _mm256_add_epi32(dot, _mm256_mullo_epi32(sums, _mm256_set1_epi32(rows.zeros[at].zero())));
                    *acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_set1_ps(rows.scales[at]), *acc);
                }
            }
            for (acc, out) in acc.into_iter().zip(out.chunks_exact_mut(width)) {
                store(&mut out[panel * PANEL + half * HALF..], _mm256_mul_ps(acc, load(scales)));
            }
        }
    }
    R
}

/// As [`signed_dots`], and sums of the quads' own codes: what a zero of activations is multiplied by.
///
/// # Safety
/// As of [`signed_dots`]; there are whole fours of quads.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn dots_and_sums<const R: usize>(quads: *const u8, count: usize, codes: [*const i8; R]) -> ([__m256i; R], __m256i) {
    let (mut dots, mut sums) = ([_mm256_setzero_si256(); R], _mm256_setzero_si256());
    for four in (0..count).step_by(4) {
        // Pairs of bytes, four times: at most 1,024.
        let mut pairs = _mm256_setzero_si256();
        for quad in four..four + 4 {
            // SAFETY: as above; no alignment is needed.
            let weights = unsafe { _mm256_lddqu_si256(quads.wrapping_add(quad * LINE).cast()) };
            let weights = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
            pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(_mm256_set1_epi8(1), weights));
            // SAFETY: as above.
            unsafe { add_quad(weights, quad, codes, &mut dots) };
        }
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    (dots, sums)
}

fn expand(b: &PackedRows, panels: Range<usize>, ranks: &RankRows<'_>, which: &[u32], out: &mut OutTile<'_>) {
    check_expand(b, &panels, ranks, which, out);
    let mut at = 0;
    while at < which.len() {
        // SAFETY: this table is given out only where `is_available`; shapes were checked above, and at least as many rows as are taken are left.
        at += unsafe {
            match which.len() - at {
                4.. => expand_rows::<4>(b, panels.clone(), ranks, (which, at), out),
                2.. => expand_rows::<2>(b, panels.clone(), ranks, (which, at), out),
                _ => expand_rows::<1>(b, panels.clone(), ranks, (which, at), out),
            }
        };
    }
}

/// Adds the outputs of all panels to `R` rows, those from `at` on; answers `R`.
///
/// # Safety
/// Shapes are those that [`check_expand`] found, and there are `R` rows.
#[target_feature(enable = "avx2,fma")]
unsafe fn expand_rows<const R: usize>(
    b: &PackedRows,
    panels: Range<usize>,
    ranks: &RankRows<'_>,
    (which, at): (&[u32], usize),
    out: &mut OutTile<'_>,
) -> usize {
    let rank = b.columns();
    let codes: [_; R] = std::array::from_fn(|r| ranks.codes[(at + r) * rank..][..rank].as_ptr());
    for (panel, column) in panels.zip((0..).step_by(PANEL)) {
        let (scales, quads) = b.panel(panel);
        for (half, scales) in scales.as_chunks::<HALF>().0.iter().enumerate() {
            // SAFETY: all quads of the panel, and the ranks of each row.
            let dots = unsafe { signed_dots(quads[half * LINE / 2..].as_ptr(), rank / 4, codes) };
            for (r, dot) in dots.into_iter().enumerate() {
                let out = &mut out.row(index(which[at + r]))[column..];
                let from = (half * HALF).min(out.len());
                let step = _mm256_mul_ps(_mm256_set1_ps(ranks.scales[at + r] * ranks.request), load(scales));
                add_to(&mut out[from..], _mm256_cvtepi32_ps(dot), step);
            }
        }
    }
    R
}

/// `place = dots.mul_add(step, place)`, of eight places or as many as there are.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_to(place: &mut [f32], dots: __m256, step: __m256) {
    if let Some(place) = place.first_chunk_mut::<HALF>() {
        let sum = _mm256_fmadd_ps(dots, step, load(place));
        return store(place, sum);
    }
    let mut before = [0f32; HALF];
    before[..place.len()].copy_from_slice(place);
    store(place, _mm256_fmadd_ps(dots, step, load(&before)));
}

fn attend(queries: &Queries<'_>, seen: &Seen<'_>, scores: &mut [f32], out: &mut [f32]) {
    check_attend(queries, seen, scores, out);
    let dim = queries.head_dim();
    let stride = seen.keys.next_multiple_of(BLOCK_KEYS);
    for (head, out) in out.chunks_exact_mut(dim).enumerate() {
        let query = &queries.codes[head * dim..][..dim];
        // SAFETY: this table is given out only where `is_available`; shapes were checked above.
        unsafe { one_head(query, queries.scales[head] * queries.factor, seen, &mut scores[..stride], out) };
    }
}

/// # Safety
/// Shapes are those that [`check_attend`] found; `scores` has whole blocks.
#[target_feature(enable = "avx2,fma")]
unsafe fn one_head(query: &[i8], step: f32, seen: &Seen<'_>, scores: &mut [f32], out: &mut [f32]) {
    let dim = query.len();
    for (block, scores) in scores.chunks_exact_mut(BLOCK_KEYS).enumerate() {
        let (keys, _) = seen.region.codes(seen.pages[block]);
        let (scales, _) = seen.region.scales(seen.pages[block]);
        for (eight, (scores, scales)) in scores.chunks_exact_mut(HALF).zip(scales.as_chunks::<HALF>().0).enumerate() {
            let quads = keys[eight / 2 * PANEL * dim + eight % 2 * LINE / 2..].as_ptr();
            // SAFETY: a run has a quad for each four elements of a head.
            let [dots] = unsafe { signed_dots(quads, dim / 4, [query.as_ptr()]) };
            store(scores, _mm256_mul_ps(_mm256_cvtepi32_ps(dots), _mm256_mul_ps(_mm256_set1_ps(step), load(scales))));
        }
    }
    let scores = &mut scores[..seen.keys];
    let largest = scores.iter().fold(f32::NEG_INFINITY, |most, score| if *score > most { *score } else { most });
    let (parts, rest) = scores.as_chunks_mut::<LANES>();
    let mut vectors = [_mm256_setzero_ps(); 2];
    for part in parts {
        for (sum, part) in vectors.iter_mut().zip(part.as_chunks_mut::<HALF>().0) {
            let p = exp(_mm256_sub_ps(load(part), _mm256_set1_ps(largest)));
            *sum = _mm256_add_ps(*sum, p);
            store(part, p);
        }
    }
    let mut sums = lanes(vectors);
    for (sum, score) in sums.iter_mut().zip(rest) {
        *score = numeric::exp(*score - largest);
        *sum += *score;
    }
    out.fill(0.0);
    for (block, weights) in scores.chunks_mut(BLOCK_KEYS).enumerate() {
        let (_, values) = seen.region.codes(seen.pages[block]);
        let (_, scales) = seen.region.scales(seen.pages[block]);
        // SAFETY: the values of a page are sixteen quads of keys for each element of a head.
        unsafe { mix(weights, scales, values, out) };
    }
    let inverse = 1.0 / numeric::fold(sums);
    out.iter_mut().for_each(|out| *out *= inverse);
}

/// # Safety
/// `values` has sixteen quads of keys for each element of `out`, a multiple of sixteen.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn mix(weights: &mut [f32], scales: &[f32], values: &[u8], out: &mut [f32]) {
    weights.iter_mut().zip(scales).for_each(|(weight, scale)| *weight *= scale);
    let (scale, inverse) = weight_steps(f32::from_bits(numeric::magnitude(weights)));
    if scale == 0.0 {
        return; // every code is 0, and adding 0 x 0 changes nothing
    }
    let mut codes = [0u8; BLOCK_KEYS];
    codes.iter_mut().zip(weights).for_each(|(code, weight)| *code = weight_code(*weight * inverse));
    // A weight of 255 is beyond what pairs have room for, so its lowest bit is taken apart.
    let (ones, twos, low, row) = (_mm256_set1_epi16(1), _mm256_set1_epi16(2), _mm256_set1_epi8(1), out.len() * 4);
    for (eight, out) in out.as_chunks_mut::<HALF>().0.iter_mut().enumerate() {
        let mut dots = _mm256_setzero_si256();
        for (quad, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
            // SAFETY: eight elements of four keys, inside the page; no alignment is needed.
            let values = unsafe { _mm256_lddqu_si256(values.as_ptr().wrapping_add(quad * row + eight * LINE / 2).cast()) };
            let upper = _mm256_set1_epi32(i32::from_le_bytes(codes.map(|code| code >> 1)));
            let lowest = _mm256_and_si256(_mm256_set1_epi32(i32::from_le_bytes(*codes)), low);
            dots = _mm256_add_epi32(dots, _mm256_madd_epi16(_mm256_maddubs_epi16(upper, values), twos));
            dots = _mm256_add_epi32(dots, _mm256_madd_epi16(_mm256_maddubs_epi16(lowest, values), ones));
        }
        let sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), _mm256_set1_ps(scale), load(out));
        store(out, sum);
    }
}

fn index(row: u32) -> usize {
    usize::try_from(row).expect("a row number is an index")
}
