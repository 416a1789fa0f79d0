//! 128-bit vectors of 64-bit Arm, with and without byte dot products: a line of quads is four vectors of four lanes.
//!
//! Fused multiply-adds are part of the base instructions there, so the definitions of norm, rotation, gate and quantising are compiled
//! as they stand; what is written out are the products of codes.
#![allow(unsafe_code)]

use std::arch::aarch64::*;
use std::ops::Range;

use super::super::arena::LINE;
use super::super::cache::Seen;
use super::super::pack::{PANEL, Packed, PackedRows};
use super::super::recoded::Recoded;
use super::super::share::OutTile;
use super::{Calls, Kernels, Path, RankRows, check_attend, check_expand, check_product, check_recoded, check_shrink};
use crate::numeric::{self, BLOCK_KEYS, CodeRows, Codes, LANES, Queries, weight_code, weight_steps};

/// Of every 64-bit Arm.
pub(super) static KERNELS: Kernels = Kernels {
    path: Path::Neon,
    quantise_range: numeric::quantise_range,
    quantise: numeric::quantise,
    gemv: plain::product,
    gemm: plain::product,
    recoded: plain::recoded,
    norm: numeric::norm,
    rotate: numeric::rotate,
    attend: plain::attend,
    gated: numeric::gated,
    shrink: plain::shrink,
    expand: plain::expand,
    calls: Calls::new(),
};

/// With byte dot products.
pub(super) static DOT_KERNELS: Kernels = Kernels {
    path: Path::NeonDot,
    quantise_range: numeric::quantise_range,
    quantise: numeric::quantise,
    gemv: dotted::product,
    gemm: dotted::product,
    recoded: dotted::recoded,
    norm: numeric::norm,
    rotate: numeric::rotate,
    attend: dotted::attend,
    gated: numeric::gated,
    shrink: dotted::shrink,
    expand: dotted::expand,
    calls: Calls::new(),
};

/// Lanes of a vector of 32 bits.
const FOUR: usize = 4;
/// Vectors of a line of quads.
const VECTORS: usize = PANEL / FOUR;

/// How sixteen products of bytes are added in fours.
trait Dot {
    /// `sum[lane] + products of the lane's four bytes`.
    fn dot(sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t;
}

/// By products of 16 bits; each fits, and pairs are widened before they are added.
struct Plain;

impl Dot for Plain {
    #[inline(always)]
    fn dot(sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
        // SAFETY: instructions of every 64-bit Arm.
        unsafe {
            let low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
            let high = vpaddlq_s16(vmull_high_s8(a, b));
            vaddq_s32(sum, vpaddq_s32(low, high))
        }
    }
}

/// By one instruction.
struct Dotted;

impl Dot for Dotted {
    #[inline(always)]
    fn dot(sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
        // SAFETY: this implementation is used by `dotted` alone, whose table is given out only where the machine has the instruction.
        unsafe { sdot(sum, a, b) }
    }
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: arithmetic on registers. In assembly, because its intrinsic is not stable in the compiler of this workspace.
    unsafe {
        std::arch::asm!(
            "sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

macro_rules! table {
    ($name:ident, $dot:ty, $features:literal) => {
        mod $name {
            use super::*;

            pub(super) fn product(w: &Packed, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>) {
                #[target_feature(enable = $features)]
                fn with(w: &Packed, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>) {
                    super::product::<$dot>(w, panels, rows, out);
                }
                // SAFETY: this table is given out only where the machine has the instructions.
                unsafe { with(w, panels, rows, out) }
            }

            pub(super) fn recoded(w: &Recoded, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>) {
                #[target_feature(enable = $features)]
                fn with(w: &Recoded, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>) {
                    super::recoded::<$dot>(w, panels, rows, out);
                }
                // SAFETY: this table is given out only where the machine has the instructions.
                unsafe { with(w, panels, rows, out) }
            }

            pub(super) fn attend(queries: &Queries<'_>, seen: &Seen<'_>, scores: &mut [f32], out: &mut [f32]) {
                #[target_feature(enable = $features)]
                fn with(queries: &Queries<'_>, seen: &Seen<'_>, scores: &mut [f32], out: &mut [f32]) {
                    super::attend::<$dot>(queries, seen, scores, out);
                }
                // SAFETY: this table is given out only where the machine has the instructions.
                unsafe { with(queries, seen, scores, out) }
            }

            pub(super) fn shrink(a: &PackedRows, rows: &CodeRows<'_>, which: &[u32], out: &mut [f32]) {
                #[target_feature(enable = $features)]
                fn with(a: &PackedRows, rows: &CodeRows<'_>, which: &[u32], out: &mut [f32]) {
                    super::shrink::<$dot>(a, rows, which, out);
                }
                // SAFETY: this table is given out only where the machine has the instructions.
                unsafe { with(a, rows, which, out) }
            }

            pub(super) fn expand(b: &PackedRows, panels: Range<usize>, ranks: &RankRows<'_>, which: &[u32], out: &mut OutTile<'_>) {
                #[target_feature(enable = $features)]
                fn with(b: &PackedRows, panels: Range<usize>, ranks: &RankRows<'_>, which: &[u32], out: &mut OutTile<'_>) {
                    super::expand::<$dot>(b, panels, ranks, which, out);
                }
                // SAFETY: this table is given out only where the machine has the instructions.
                unsafe { with(b, panels, ranks, which, out) }
            }
        }
    };
}

table!(plain, Plain, "neon");
table!(dotted, Dotted, "neon,dotprod");

/// Four bytes in every lane.
#[inline(always)]
fn four(codes: &[i8]) -> int8x16_t {
    let codes: &[i8; 4] = codes.first_chunk().expect("four codes");
    // SAFETY: instructions of every 64-bit Arm.
    unsafe { vreinterpretq_s8_s32(vdupq_n_s32(i32::from_le_bytes(codes.map(i8::cast_unsigned)))) }
}

/// Sixteen bytes of a line, as stored.
#[inline(always)]
fn bytes(line: &[u8], vector: usize) -> uint8x16_t {
    let part: &[u8; 16] = line[16 * vector..].first_chunk().expect("sixteen bytes");
    // SAFETY: 16 bytes are read from an array of 16.
    unsafe { vld1q_u8(part.as_ptr()) }
}

/// The same of codes that are stored as `code + 128`.
#[inline(always)]
fn signed(line: &[u8], vector: usize) -> int8x16_t {
    // SAFETY: instructions of every 64-bit Arm.
    unsafe { vreinterpretq_s8_u8(veorq_u8(bytes(line, vector), vdupq_n_u8(0x80))) }
}

type Sums = [int32x4_t; VECTORS];
type Lanes = [float32x4_t; VECTORS];

#[inline(always)]
fn no_sums() -> Sums {
    // SAFETY: instructions of every 64-bit Arm.
    unsafe { [vdupq_n_s32(0); VECTORS] }
}

#[inline(always)]
fn zeros() -> Lanes {
    // SAFETY: instructions of every 64-bit Arm.
    unsafe { [vdupq_n_f32(0.0); VECTORS] }
}

/// Products of quads stored as `code + 128` with codes, sixteen lanes.
#[inline(always)]
fn signed_dots<D: Dot>(sums: &mut Sums, quads: &[u8], codes: &[i8]) {
    for (line, codes) in quads.chunks_exact(LINE).zip(codes.chunks_exact(4)) {
        let codes = four(codes);
        for (vector, sum) in sums.iter_mut().enumerate() {
            *sum = D::dot(*sum, signed(line, vector), codes);
        }
    }
}

/// Products of 32 four-bit codes.
#[inline(always)]
fn nibble_dots<D: Dot>(sums: &mut Sums, lines: &[u8], codes: &[i8]) {
    let (low, high) = codes.split_at(codes.len() / 2);
    for ((line, low), high) in lines.chunks_exact(LINE).zip(low.chunks_exact(4)).zip(high.chunks_exact(4)) {
        let (low, high) = (four(low), four(high));
        for (vector, sum) in sums.iter_mut().enumerate() {
            let both = bytes(line, vector);
            // SAFETY: instructions of every 64-bit Arm.
            let (lows, highs) =
                unsafe { (vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15))), vreinterpretq_s8_u8(vshrq_n_u8::<4>(both))) };
            *sum = D::dot(D::dot(*sum, lows, low), highs, high);
        }
    }
}

/// Adds `zero` times the sum of the codes of quads stored as `code + 128`.
#[inline(always)]
fn add_signed_zero(sums: &mut Sums, quads: &[u8], zero: i32) {
    let mut all = no_sums();
    for line in quads.chunks_exact(LINE) {
        for (vector, all) in all.iter_mut().enumerate() {
            // SAFETY: instructions of every 64-bit Arm.
            *all = unsafe { vpadalq_s16(*all, vpaddlq_s8(signed(line, vector))) };
        }
    }
    add_zero(sums, all, zero);
}

/// The same of 32 four-bit codes: at most 120 in a byte.
#[inline(always)]
fn add_nibble_zero(sums: &mut Sums, lines: &[u8], zero: i32) {
    let mut all = no_sums();
    for (vector, all) in all.iter_mut().enumerate() {
        // SAFETY: instructions of every 64-bit Arm.
        *all = unsafe {
            let mut eight = vdupq_n_u8(0);
            for line in lines.chunks_exact(LINE) {
                let both = bytes(line, vector);
                eight = vaddq_u8(eight, vaddq_u8(vandq_u8(both, vdupq_n_u8(15)), vshrq_n_u8::<4>(both)));
            }
            vreinterpretq_s32_u32(vpaddlq_u16(vpaddlq_u8(eight)))
        };
    }
    add_zero(sums, all, zero);
}

#[inline(always)]
fn add_zero(sums: &mut Sums, all: Sums, zero: i32) {
    for (sum, all) in sums.iter_mut().zip(all) {
        // SAFETY: instructions of every 64-bit Arm.
        *sum = unsafe { vmlaq_s32(*sum, all, vdupq_n_s32(zero)) };
    }
}

/// `acc = (sum as f32).mul_add(step, acc)`, sixteen lanes.
#[inline(always)]
fn add(acc: &mut Lanes, sums: &Sums, step: &[f32; PANEL]) {
    for (vector, (acc, sum)) in acc.iter_mut().zip(sums).enumerate() {
        // SAFETY: four of sixteen numbers are read.
        *acc = unsafe { vfmaq_f32(*acc, vcvtq_f32_s32(*sum), vld1q_f32(step[FOUR * vector..].as_ptr())) };
    }
}

#[inline(always)]
fn numbers(lanes: Lanes) -> [f32; PANEL] {
    let mut out = [0f32; PANEL];
    for (place, lanes) in out.chunks_exact_mut(FOUR).zip(lanes) {
        // SAFETY: four numbers are written.
        unsafe { vst1q_f32(place.as_mut_ptr(), lanes) };
    }
    out
}

#[inline(always)]
fn product<D: Dot>(w: &Packed, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>) {
    check_product(w, &panels, rows, out);
    let first = panels.start;
    for panel in panels {
        for row in 0..rows.rows {
            let lanes = one::<D>(w, w.panel(panel), &rows.row(row));
            let place = &mut out.row(row)[(panel - first) * PANEL..];
            let count = place.len().min(PANEL);
            place[..count].copy_from_slice(&lanes[..count]);
        }
    }
}

/// Sixteen outputs of one row.
#[inline(always)]
fn one<D: Dot>(w: &Packed, panel: &[u8], row: &CodeRows<'_>) -> [f32; PANEL] {
    let mut acc = zeros();
    for (group, codes) in row.codes.chunks_exact(w.group()).enumerate() {
        let quads = &panel[w.place(group).codes..];
        // SAFETY: instructions of every 64-bit Arm. Only four-bit codes without a minimum have a surplus here: 8 for each code.
        let surplus = if w.codes() == (Codes::U4 { min: false }) { -8 * row.sums[group] } else { 0 };
        // SAFETY: instructions of every 64-bit Arm.
        let mut sums = unsafe { [vdupq_n_s32(surplus); VECTORS] };
        match w.codes() {
            Codes::U4 { .. } => {
                let lines = &quads[..w.group() / 8 * LINE];
                nibble_dots::<D>(&mut sums, lines, codes);
                add_nibble_zero(&mut sums, lines, row.zeros[group].zero());
            }
            Codes::S8 => {
                let quads = &quads[..w.group() / 4 * LINE];
                signed_dots::<D>(&mut sums, quads, codes);
                add_signed_zero(&mut sums, quads, row.zeros[group].zero());
            }
        }
        let mut scales = [(0f32, 0f32); PANEL];
        scales.iter_mut().enumerate().for_each(|(lane, scale)| *scale = w.scale(panel, group, lane));
        add(&mut acc, &sums, &scales.map(|(scale, _)| scale * row.scales[group]));
        if w.codes() == (Codes::U4 { min: true }) {
            let mins = scales.map(|(_, min)| min);
            for (vector, acc) in acc.iter_mut().enumerate() {
                // SAFETY: four of sixteen numbers are read.
                *acc = unsafe { vfmaq_f32(*acc, vld1q_f32(mins[FOUR * vector..].as_ptr()), vdupq_n_f32(row.offsets[group])) };
            }
        }
    }
    numbers(acc)
}

#[inline(always)]
fn shrink<D: Dot>(a: &PackedRows, rows: &CodeRows<'_>, which: &[u32], out: &mut [f32]) {
    check_shrink(a, rows, which, out);
    for (out, row) in out.chunks_exact_mut(a.panels() * PANEL).zip(which) {
        let row = rows.row(index(*row));
        for (panel, out) in out.chunks_exact_mut(PANEL).enumerate() {
            out.copy_from_slice(&by_row::<D>(a.panel(panel), &row));
        }
    }
}

/// Sixteen outputs of one row, each with a scale of its own.
#[inline(always)]
fn by_row<D: Dot>((scales, quads): (&[f32], &[u8]), row: &CodeRows<'_>) -> [f32; PANEL] {
    let mut acc = zeros();
    let groups = row.codes.chunks_exact(row.group).zip(quads.chunks_exact(row.group * PANEL));
    for ((codes, quads), (scale, zero)) in groups.zip(row.scales.iter().zip(row.zeros)) {
        let mut sums = no_sums();
        signed_dots::<D>(&mut sums, quads, codes);
        add_signed_zero(&mut sums, quads, zero.zero());
        add(&mut acc, &sums, &[*scale; PANEL]);
    }
    let mut out = numbers(acc);
    out.iter_mut().zip(scales).for_each(|(out, scale)| *out *= scale);
    out
}

#[inline(always)]
fn recoded<D: Dot>(w: &Recoded, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>) {
    check_recoded(w, &panels, rows, out);
    let first = panels.start;
    for panel in panels {
        for row in 0..rows.rows {
            let lanes = by_row::<D>(w.panel(panel), &rows.row(row));
            let place = &mut out.row(row)[(panel - first) * PANEL..];
            let count = place.len().min(PANEL);
            place[..count].copy_from_slice(&lanes[..count]);
        }
    }
}

#[inline(always)]
fn expand<D: Dot>(b: &PackedRows, panels: Range<usize>, ranks: &RankRows<'_>, which: &[u32], out: &mut OutTile<'_>) {
    check_expand(b, &panels, ranks, which, out);
    let first = panels.start;
    for panel in panels {
        let (scales, quads) = b.panel(panel);
        for ((at, codes), row) in ranks.codes.chunks_exact(b.columns()).enumerate().zip(which) {
            let step = ranks.scales[at] * ranks.request;
            let mut sums = no_sums();
            signed_dots::<D>(&mut sums, quads, codes);
            let place = &mut out.row(index(*row))[(panel - first) * PANEL..];
            for ((out, dot), scale) in place.iter_mut().zip(integers(sums)).zip(scales) {
                *out = numeric::small(dot).mul_add(step * scale, *out);
            }
        }
    }
}

#[inline(always)]
fn integers(sums: Sums) -> [i32; PANEL] {
    let mut out = [0i32; PANEL];
    for (place, sums) in out.chunks_exact_mut(FOUR).zip(sums) {
        // SAFETY: four integers are written.
        unsafe { vst1q_s32(place.as_mut_ptr(), sums) };
    }
    out
}

#[inline(always)]
fn attend<D: Dot>(queries: &Queries<'_>, seen: &Seen<'_>, scores: &mut [f32], out: &mut [f32]) {
    check_attend(queries, seen, scores, out);
    let dim = queries.head_dim();
    for (head, (query, out)) in queries.codes.chunks_exact(dim).zip(out.chunks_exact_mut(dim)).enumerate() {
        let step = queries.scales[head] * queries.factor;
        let scores = &mut scores[..seen.keys];
        for (block, scores) in scores.chunks_mut(BLOCK_KEYS).enumerate() {
            let (keys, _) = seen.region.codes(seen.pages[block]);
            let (scales, _) = seen.region.scales(seen.pages[block]);
            for ((scores, scales), keys) in scores.chunks_mut(LANES).zip(scales.chunks(LANES)).zip(keys.chunks_exact(LANES * dim)) {
                let mut sums = no_sums();
                signed_dots::<D>(&mut sums, keys, query);
                for ((score, dot), scale) in scores.iter_mut().zip(integers(sums)).zip(scales) {
                    *score = numeric::small(dot) * (step * scale);
                }
            }
        }
        let largest = scores.iter().fold(f32::NEG_INFINITY, |most, score| if *score > most { *score } else { most });
        let mut lanes = [0f32; LANES];
        for part in scores.chunks_mut(LANES) {
            for (lane, score) in lanes.iter_mut().zip(part) {
                *score = numeric::exp(*score - largest);
                *lane += *score;
            }
        }
        out.fill(0.0);
        for (block, weights) in scores.chunks_mut(BLOCK_KEYS).enumerate() {
            let (_, values) = seen.region.codes(seen.pages[block]);
            let (_, scales) = seen.region.scales(seen.pages[block]);
            mix::<D>(weights, scales, values, out);
        }
        let inverse = 1.0 / numeric::fold(lanes);
        out.iter_mut().for_each(|out| *out *= inverse);
    }
}

#[inline(always)]
fn mix<D: Dot>(weights: &mut [f32], scales: &[f32], values: &[u8], out: &mut [f32]) {
    weights.iter_mut().zip(scales).for_each(|(weight, scale)| *weight *= scale);
    let (scale, inverse) = weight_steps(f32::from_bits(numeric::magnitude(weights)));
    if scale == 0.0 {
        return; // every code is 0, and adding 0 x 0 changes nothing
    }
    // Weights go to 255, which no signed byte holds: their upper bits and the lowest are taken apart.
    let (mut upper, mut lowest) = ([0i8; BLOCK_KEYS], [0i8; BLOCK_KEYS]);
    for ((upper, lowest), weight) in upper.iter_mut().zip(&mut lowest).zip(weights) {
        let code = weight_code(*weight * inverse);
        (*upper, *lowest) = ((code >> 1).cast_signed(), (code & 1).cast_signed());
    }
    let row = out.len() * 4;
    for (at, out) in out.chunks_exact_mut(PANEL).enumerate() {
        let (mut halves, mut sums) = (no_sums(), no_sums());
        for (values, (upper, lowest)) in values.chunks_exact(row).zip(upper.chunks_exact(4).zip(lowest.chunks_exact(4))) {
            let (upper, lowest) = (four(upper), four(lowest));
            for (vector, (half, sum)) in halves.iter_mut().zip(&mut sums).enumerate() {
                // SAFETY: instructions of every 64-bit Arm.
                let values = unsafe { vreinterpretq_s8_u8(bytes(&values[at * LINE..], vector)) };
                (*half, *sum) = (D::dot(*half, values, upper), D::dot(*sum, values, lowest));
            }
        }
        add_zero(&mut sums, halves, 2);
        for (out, dot) in out.iter_mut().zip(integers(sums)) {
            *out = numeric::small(dot).mul_add(scale, *out);
        }
    }
}

fn index(row: u32) -> usize {
    usize::try_from(row).expect("a row number is an index")
}
