//! Products of the profile `fast`: weights of 8 bits with one scale for each output.
//!
//! Many rows: eight by three panels, 24 sums in registers. A quad of these takes three loads of weights and eight of codes for 24 `vpdpbusd`, so that loads,
//! two a cycle, wait for products and not the other way round; a panel at a time they would be 17 for 16. Numbers of groups go through memory once a
//! group. While the first eight rows go through panels their own codes are asked for some lines ahead, while the others do those of the next panels.
//! Few rows are bound by memory: they go panel by panel, in the order in which weights lie.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use super::super::super::pack::PANEL;
use super::super::super::recoded::{Recoded, SUMS_BYTES};
use super::super::super::share::OutTile;
use super::super::{FEW_ROWS_MAX, check_recoded};
use super::{AHEAD, LINE, Rows, each_row, integer, line_of, load, number, store};
use crate::numeric::CodeRows;

/// Rows of a tile.
const ROWS: usize = 8;
/// Panels that are worked on beside each other.
pub(super) const WIDE: usize = 3;

/// Some panels as the inner loops read them.
#[derive(Clone, Copy)]
struct Panels<'a> {
    quads: *const u8,
    sums: *const u8,
    scales: [&'a [f32]; WIDE],
    /// Quads of a group.
    quads_of_group: usize,
    /// Of one panel: how far ahead of the codes in use memory is asked for them; 0 for not at all.
    ahead: usize,
    /// Of several: the codes that come from memory next, in one panel, and how many lines of each a tile asks for in a group, one beside each of its
    /// first quads: as many at once as there are would wait for each other, and products behind them.
    next: *const u8,
    share: usize,
}

pub(in super::super) fn recoded(w: &Recoded, panels: Range<usize>, rows: &CodeRows<'_>, out: &mut OutTile<'_>) {
    check_recoded(w, &panels, rows, out);
    let (mut panel, is_few) = (panels.start, rows.rows <= FEW_ROWS_MAX);
    while panel < panels.end {
        let column = (panel - panels.start) * PANEL;
        let here = (panel, panels.end);
        // SAFETY: this table is given out only where `is_available`; shapes were checked above, and so many panels are left.
        panel += unsafe {
            match panels.end - panel {
                WIDE.. if !is_few => rows_of::<WIDE>(w, here, rows, column, out),
                2.. if !is_few => rows_of::<2>(w, here, rows, column, out),
                _ => rows_of::<1>(w, here, rows, column, out),
            }
        };
    }
}

/// All rows of `P` panels; answers `P`.
///
/// # Safety
/// The machine has the instructions; shapes are those that [`check_recoded`] found, and there are `P` panels from `panel` on.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
unsafe fn rows_of<const P: usize>(
    w: &Recoded,
    (panel, end): (usize, usize),
    rows: &CodeRows<'_>,
    column: usize,
    out: &mut OutTile<'_>,
) -> usize {
    let (_, quads) = w.panel(panel);
    let scales = std::array::from_fn(|p| w.panel(panel + if p < P { p } else { 0 }).0);
    let ahead = if P == 1 { AHEAD } else { 0 };
    let (quads_of_group, share) = (w.group() / 4, if P == 1 { 0 } else { w.group() / 4 });
    // The first rows ask for what they are about to use; the others, between them, for the panels behind these.
    let mut of = Panels {
        quads: quads.as_ptr(),
        sums: w.sums(panel).as_ptr(),
        scales,
        quads_of_group,
        ahead,
        next: quads.as_ptr().wrapping_add(AHEAD),
        share,
    };
    let (all, mut row) = (Rows::new(rows), 0);
    let others = rows.rows.div_ceil(ROWS).saturating_sub(1);
    let (next, next_share) =
        if panel + P < end && others > 0 { (w.panel(panel + P).1.as_ptr(), share.div_ceil(others)) } else { (std::ptr::null(), 0) };
    while row < rows.rows {
        let (part, place) = (all.from(row), (row, column));
        // SAFETY: at least as many rows as the tile takes are left; the panels are there. What is asked for ahead is not read.
        row += unsafe {
            match rows.rows - row {
                8.. => tile::<8, P>(of, part, out, place),
                7 => tile::<7, P>(of, part, out, place),
                6 => tile::<6, P>(of, part, out, place),
                5 => tile::<5, P>(of, part, out, place),
                4 => tile::<4, P>(of, part, out, place),
                3 => tile::<3, P>(of, part, out, place),
                2 => tile::<2, P>(of, part, out, place),
                _ => tile::<1, P>(of, part, out, place),
            }
        };
        of.next = if row <= ROWS { next } else { of.next.wrapping_add(next_share * all.groups * LINE) };
        (of.ahead, of.share) = (0, next_share);
    }
    P
}

/// Sixteen outputs of each of `P` panels for `R` rows; answers `R`.
///
/// # Safety
/// `panels` has `P` of them, with all groups of `rows`; `rows` has `R` rows; `out` has the rows from `row`, and columns from `column`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
unsafe fn tile<const R: usize, const P: usize>(
    panels: Panels<'_>,
    rows: Rows,
    out: &mut OutTile<'_>,
    (row, column): (usize, usize),
) -> usize {
    let group_bytes = panels.quads_of_group * LINE;
    let (panel_bytes, panel_sums) = (rows.groups * group_bytes, rows.groups * SUMS_BYTES);
    let mut acc = [[_mm512_setzero_ps(); WIDE]; R];
    let (mut quads, mut codes, mut next) = (panels.quads, rows.codes, panels.next);
    for group in 0..rows.groups {
        // SAFETY: panels and rows are read at groups that they have; lines ahead are only asked for, which reads nothing.
        unsafe {
            if panels.ahead > 0 {
                for line in 0..panels.quads_of_group {
                    _mm_prefetch::<_MM_HINT_T0>(quads.wrapping_add(panels.ahead + line * LINE).cast());
                }
            }
            // A row's zero goes with the sums of the weights' codes, and its sum with what these are stored above.
            let mut all = [_mm512_set1_epi32(-128 << 16); WIDE];
            for (p, all) in all.iter_mut().enumerate().take(P) {
                let sums = panels.sums.wrapping_add(p * panel_sums + group * SUMS_BYTES);
                *all = _mm512_or_si512(*all, _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi32(!0, sums.cast())));
            }
            let mut dots = [[_mm512_setzero_si512(); WIDE]; R];
            each_row!(r < R, {
                let zero = integer(rows.zeros.cast(), group.wrapping_add(r.wrapping_mul(rows.groups)));
                for p in 0..P {
                    dots[r][p] = _mm512_dpwssd_epi32(_mm512_setzero_si512(), all[p], zero);
                }
            });
            let mut at = quads;
            for quad in 0..panels.quads_of_group {
                if P > 1 && quad < panels.share {
                    for p in 0..P {
                        _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(p.wrapping_mul(panel_bytes)).cast());
                    }
                    next = next.wrapping_add(LINE);
                }
                let mut weights = [_mm512_setzero_si512(); WIDE];
                for (p, weights) in weights.iter_mut().enumerate().take(P) {
                    *weights = line_of(at.wrapping_add(p.wrapping_mul(panel_bytes)));
                }
                each_row!(r < R, {
                    let row_codes = codes.wrapping_add(r.wrapping_mul(rows.columns));
                    dots[r] = quad_dots::<P>(dots[r], weights, row_codes, quad);
                });
                at = at.wrapping_add(LINE);
            }
            each_row!(r < R, {
                let scale = number(rows.scales, group.wrapping_add(r.wrapping_mul(rows.groups)));
                for p in 0..P {
                    acc[r][p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[r][p]), scale, acc[r][p]);
                }
            });
            quads = quads.wrapping_add(group_bytes);
            codes = codes.wrapping_add(4 * panels.quads_of_group);
        }
    }
    for (r, acc) in acc.into_iter().enumerate() {
        let place = &mut out.row(row + r)[column..];
        for p in 0..P {
            store(&mut place[p * PANEL..], _mm512_mul_ps(acc[p], load(panels.scales[p])));
        }
    }
    R
}

/// Adds the products of one quad of `P` panels with four codes of a row, which are loaded once.
///
/// In assembly, because the compiler would load the codes once for each panel, or those of all rows at once, and then sums go through memory.
///
/// # Safety
/// There are four codes behind `4 * quad` others.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn quad_dots<const P: usize>(
    mut dots: [__m512i; WIDE],
    weights: [__m512i; WIDE],
    codes: *const i8,
    quad: usize,
) -> [__m512i; WIDE] {
    // Named, because of one without a name the assembler does not know the width.
    let _four: __m512i;
    // SAFETY: reads four codes and nothing else; the machine has the instructions.
    unsafe {
        match P {
            1 => asm!(
                "vpdpbusd {a}, {x}, dword ptr [{codes} + 4*{quad}]{{1to16}}",
                a = inout(zmm_reg) dots[0],
                x = in(zmm_reg) weights[0],
                codes = in(reg) codes,
                quad = in(reg) quad,
                options(pure, readonly, nostack, preserves_flags)
            ),
            2 => asm!(
                "vpbroadcastd {four}, dword ptr [{codes} + 4*{quad}]",
                "vpdpbusd {a}, {x}, {four}",
                "vpdpbusd {b}, {y}, {four}",
                four = out(zmm_reg) _four,
                a = inout(zmm_reg) dots[0],
                b = inout(zmm_reg) dots[1],
                x = in(zmm_reg) weights[0],
                y = in(zmm_reg) weights[1],
                codes = in(reg) codes,
                quad = in(reg) quad,
                options(pure, readonly, nostack, preserves_flags)
            ),
            _ => asm!(
                "vpbroadcastd {four}, dword ptr [{codes} + 4*{quad}]",
                "vpdpbusd {a}, {x}, {four}",
                "vpdpbusd {b}, {y}, {four}",
                "vpdpbusd {c}, {z}, {four}",
                four = out(zmm_reg) _four,
                a = inout(zmm_reg) dots[0],
                b = inout(zmm_reg) dots[1],
                c = inout(zmm_reg) dots[2],
                x = in(zmm_reg) weights[0],
                y = in(zmm_reg) weights[1],
                z = in(zmm_reg) weights[2],
                codes = in(reg) codes,
                quad = in(reg) quad,
                options(pure, readonly, nostack, preserves_flags)
            ),
        }
    }
    dots
}
