//! Products of many rows with the codes of a file: eight rows by three panels, 24 sums in registers.
//!
//! Codes of four bits are unpacked, and scales converted, once for all rows: three panels of [`PART`] inputs take 25 kB beside the stack's other
//! things, half of a first cache, and the 3 kB of codes of eight rows go through it. So an input's quad takes three loads of weights and eight of codes for
//! 24 `vpdpbusd` that do not wait for each other, where [`super::tile`] has a chain of eight for each row. Of wide matrices the sums so far wait in the
//! output while the next part of the inputs is unpacked: an `f32` that is stored and loaded is the same, and groups keep their order.
//!
//! A group of 32 with minimums: 8 `vpdpbusd`, one `vpdpwssd`, a conversion, a product and two fused multiply-adds for a row and panel, so at most 8 of 13
//! of the peak.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::super::pack::{PANEL, Packed};
use super::super::super::share::OutTile;
use super::recoded::{WIDE, quad_dots};
use super::{LINE, Rows, U4, U4_MIN, each_row, integer, line_of, load, number, quads, store, sums_of};
use crate::numeric::CodeRows;

/// Rows of a tile.
const ROWS: usize = 8;
/// Inputs that are unpacked at a time: a multiple of every group.
const PART: usize = 384;
/// Lines of codes of a panel's part, and groups in it.
const PART_LINES: usize = PART / 4;
const PART_GROUPS: usize = PART / 32;

/// Sixteen outputs of a group: what a row's zero and sum are multiplied by, scales and minimums.
#[derive(Clone, Copy)]
struct Numbers {
    all: __m512i,
    scale: __m512,
    min: __m512,
}

/// Parts of some panels, unpacked.
struct Unpacked {
    lines: [[__m512i; PART_LINES]; WIDE],
    numbers: [[Numbers; PART_GROUPS]; WIDE],
}

/// A part of the inputs.
#[derive(Clone, Copy)]
struct Part {
    /// Groups before it, and in it.
    first: usize,
    groups: usize,
    /// Quads of a group.
    quads: usize,
    /// What comes from memory next, a run of so many bytes for each panel this far apart; each tile asks for `share` lines of a run in a group.
    next: *const u8,
    apart: usize,
    share: usize,
}

/// All rows, and panels that [`super::check_product`] found to be there.
///
/// # Safety
/// The machine has the instructions; shapes are those that were checked.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(super) unsafe fn panels_of<const KIND: u8>(w: &Packed, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>) {
    let zero = Numbers { all: _mm512_setzero_si512(), scale: _mm512_setzero_ps(), min: _mm512_setzero_ps() };
    let mut unpacked = Unpacked { lines: [[_mm512_setzero_si512(); PART_LINES]; WIDE], numbers: [[zero; PART_GROUPS]; WIDE] };
    let mut panel = panels.start;
    while panel < panels.end {
        let column = (panel - panels.start) * PANEL;
        // SAFETY: so many panels are left.
        panel += unsafe {
            match panels.end - panel {
                WIDE.. => rows_of::<WIDE, KIND>(w, (panel, panels.end), rows, column, out, &mut unpacked),
                _ => rows_of::<1, KIND>(w, (panel, panels.end), rows, column, out, &mut unpacked),
            }
        };
    }
}

/// All rows of `P` panels; answers `P`.
///
/// # Safety
/// As above, and there are `P` panels from `panel` on.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
unsafe fn rows_of<const P: usize, const KIND: u8>(
    w: &Packed,
    (panel, end): (usize, usize),
    rows: &CodeRows<'_>,
    column: usize,
    out: &mut OutTile<'_>,
    unpacked: &mut Unpacked,
) -> usize {
    let (all, group, apart) = (Rows::new(rows), w.group(), w.panel_bytes());
    let each = PART / group;
    let place = |group: usize| w.place(group).codes;
    // Scales stand between codes, so this counts both.
    let part_lines = (place(each.min(all.groups)).saturating_sub(place(0))).div_ceil(LINE);
    let visits = each * rows.rows.div_ceil(ROWS);
    for first in (0..all.groups).step_by(each) {
        let groups = each.min(all.groups - first);
        for p in 0..P {
            // SAFETY: the panel's bytes are those of its groups.
            unsafe { unpack::<KIND>(w, panel + p, first..first + groups, &mut unpacked.lines[p], &mut unpacked.numbers[p]) };
        }
        let last = first + groups == all.groups;
        let next = if !last {
            w.panel(panel).as_ptr().wrapping_add(place(first + groups))
        } else if panel + P < end {
            w.panel(panel + P).as_ptr()
        } else {
            std::ptr::null()
        };
        let share = if next.is_null() { 0 } else { part_lines.div_ceil(visits) };
        let mut part = Part { first, groups, quads: group / 4, next, apart, share };
        let mut row = 0;
        while row < rows.rows {
            let (from, place) = (all.from(row), (row, column));
            // SAFETY: at least as many rows as the tile takes are left; the parts of `P` panels are unpacked.
            row += unsafe {
                match rows.rows - row {
                    8.. => tile::<8, P, KIND>(unpacked, part, from, out, place),
                    4.. => tile::<4, P, KIND>(unpacked, part, from, out, place),
                    2.. => tile::<2, P, KIND>(unpacked, part, from, out, place),
                    _ => tile::<1, P, KIND>(unpacked, part, from, out, place),
                }
            };
            part.next = part.next.wrapping_add(part.share * groups * LINE);
        }
    }
    P
}

/// Some groups of a panel.
///
/// # Safety
/// The panel has these groups, [`PART`] inputs at most.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
unsafe fn unpack<const KIND: u8>(
    w: &Packed,
    panel: usize,
    groups: Range<usize>,
    lines: &mut [__m512i; PART_LINES],
    numbers: &mut [Numbers; PART_GROUPS],
) {
    let above: i32 = match KIND {
        U4_MIN => 0,
        U4 => 8,
        _ => 128,
    };
    let quads_of_group = w.group() / 4;
    let bytes = w.panel(panel).as_ptr();
    for ((group, lines), numbers) in groups.zip(lines.chunks_exact_mut(quads_of_group)).zip(numbers) {
        let place = w.place(group);
        // SAFETY: codes, scales and, of this kind, minimums of a group that the panel has.
        unsafe {
            let (codes, scales) = (bytes.wrapping_add(place.codes), bytes.wrapping_add(place.scales));
            let mut sums = _mm512_setzero_si512();
            for (at, lines) in lines.chunks_exact_mut(8).enumerate() {
                let some = quads::<KIND>(codes.wrapping_add(at * 8 * LINE));
                sums = sums_of::<KIND>(sums, &some);
                for (line, quad) in lines.iter_mut().zip(some) {
                    *line = quad;
                }
            }
            let half = |at: *const u8| _mm512_cvtph_ps(_mm256_maskz_loadu_epi32(!0, at.cast()));
            // A row's zero goes with the sum of the weights' codes, and its sum with what these are stored above.
            numbers.all = _mm512_or_si512(sums, _mm512_set1_epi32(-above << 16));
            numbers.scale = half(scales);
            if KIND == U4_MIN {
                numbers.min = half(scales.wrapping_add(LINE / 2));
            }
        }
    }
}

/// Sixteen outputs of each of `P` panels for `R` rows, some groups of them; answers `R`.
///
/// # Safety
/// The part of `P` panels is unpacked; `rows` has `R` rows with these groups; `out` has the rows from `row`, and columns from `column`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
unsafe fn tile<const R: usize, const P: usize, const KIND: u8>(
    unpacked: &Unpacked,
    part: Part,
    rows: Rows,
    out: &mut OutTile<'_>,
    (row, column): (usize, usize),
) -> usize {
    let mut acc = [[_mm512_setzero_ps(); WIDE]; R];
    if part.first > 0 {
        for (r, acc) in acc.iter_mut().enumerate() {
            let so_far = &out.row(row + r)[column..];
            for (p, acc) in acc.iter_mut().enumerate().take(P) {
                *acc = load(&so_far[p * PANEL..]);
            }
        }
    }
    let mut codes = rows.codes.wrapping_add(part.first * 4 * part.quads);
    let mut next = part.next;
    for at in 0..part.groups {
        let group = part.first.wrapping_add(at);
        // SAFETY: rows are read at groups that they have; lines of what is next are only asked for, which reads nothing.
        unsafe {
            for line in 0..part.share {
                for p in 0..P {
                    _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(p.wrapping_mul(part.apart).wrapping_add(line.wrapping_mul(LINE))).cast());
                }
            }
            next = next.wrapping_add(part.share.wrapping_mul(LINE));
            let mut dots = [[_mm512_setzero_si512(); WIDE]; R];
            each_row!(r < R, {
                let zero = integer(rows.zeros.cast(), group.wrapping_add(r.wrapping_mul(rows.groups)));
                #[expect(clippy::needless_range_loop, reason = "two arrays go by it")]
                for p in 0..P {
                    dots[r][p] = _mm512_dpwssd_epi32(_mm512_setzero_si512(), unpacked.numbers[p][at].all, zero);
                }
            });
            let mut lines = unpacked.lines.as_ptr().cast::<__m512i>().wrapping_add(at.wrapping_mul(part.quads));
            for quad in 0..part.quads {
                let mut weights = [_mm512_setzero_si512(); WIDE];
                for (p, weights) in weights.iter_mut().enumerate().take(P) {
                    *weights = line_of(lines.wrapping_add(p * PART_LINES).cast());
                }
                each_row!(r < R, {
                    let row_codes = codes.wrapping_add(r.wrapping_mul(rows.columns));
                    dots[r] = quad_dots::<P>(dots[r], weights, row_codes, quad);
                });
                lines = lines.wrapping_add(1);
            }
            each_row!(r < R, {
                let place = group.wrapping_add(r.wrapping_mul(rows.groups));
                let (scale, offset) = (number(rows.scales, place), number(rows.offsets, place));
                for p in 0..P {
                    let of = &unpacked.numbers[p][at];
                    acc[r][p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[r][p]), _mm512_mul_ps(of.scale, scale), acc[r][p]);
                    if KIND == U4_MIN {
                        acc[r][p] = _mm512_fmadd_ps(of.min, offset, acc[r][p]);
                    }
                }
            });
            codes = codes.wrapping_add(4 * part.quads);
        }
    }
    for (r, acc) in acc.into_iter().enumerate() {
        let place = &mut out.row(row + r)[column..];
        for p in 0..P {
            store(&mut place[p * PANEL..], acc[p]);
        }
    }
    R
}
