//! Attention of some heads of a token over the pages it sees.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::super::super::cache::Seen;
use super::super::check_attend;
use super::{LINE, PANEL, each_row, exp, first, fold, integer, line_of, load, put, signed_dots, whole};
use crate::numeric::{BLOCK_KEYS, Queries, weight_steps};

pub(in super::super) fn attend(queries: &Queries<'_>, seen: &Seen<'_>, scores: &mut [f32], out: &mut [f32]) {
    check_attend(queries, seen, scores, out);
    let dim = queries.head_dim();
    let stride = seen.keys.next_multiple_of(BLOCK_KEYS);
    let mut head = 0;
    while head < queries.heads() {
        let (scores, out) = (&mut scores[head * stride..], &mut out[head * dim..]);
        // SAFETY: this table is given out only where `is_available`; shapes were checked above, and so many heads are left.
        head += unsafe {
            match queries.heads() - head {
                4.. => heads::<4, 2>(queries, head, seen, scores, out),
                3 => heads::<3, 4>(queries, head, seen, scores, out),
                2 => heads::<2, 4>(queries, head, seen, scores, out),
                _ => heads::<1, 4>(queries, head, seen, scores, out),
            }
        };
    }
}

/// `H` heads beside each other, so that a key or value is read once for all of them; answers `H`.
///
/// In passes over all blocks, because in one pass a block would wait for all of its own steps, one after another.
///
/// # Safety
/// Shapes are those that [`check_attend`] found, and there are `H` heads from `head` on; `scores` and `out` start with theirs.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn heads<const H: usize, const N: usize>(
    queries: &Queries<'_>,
    head: usize,
    seen: &Seen<'_>,
    scores: &mut [f32],
    out: &mut [f32],
) -> usize {
    let (dim, stride) = (queries.head_dim(), seen.keys.next_multiple_of(BLOCK_KEYS));
    // SAFETY: as above.
    unsafe { score::<H>(queries, head, seen, scores, stride) };
    let mut inverse = [_mm512_setzero_ps(); H];
    for (scores, inverse) in scores.chunks_exact_mut(stride).zip(&mut inverse) {
        *inverse = soften(seen, scores);
    }
    let blocks = scores.as_chunks::<BLOCK_KEYS>().0;
    let wide = dim / (N * PANEL);
    for part in 0..wide {
        // SAFETY: a head has these columns.
        unsafe { add_columns::<H, N>(seen, blocks, part * N * PANEL, &inverse, out) };
    }
    for column in (wide * N * PANEL..dim).step_by(PANEL) {
        // SAFETY: a head has these columns.
        unsafe { add_columns::<H, 1>(seen, blocks, column, &inverse, out) };
    }
    H
}

/// Scores of `H` heads, sixteen keys at a time. Behind the last key they mean nothing.
///
/// # Safety
/// Shapes are those that [`check_attend`] found, and there are `H` heads from `head` on.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn score<const H: usize>(queries: &Queries<'_>, head: usize, seen: &Seen<'_>, scores: &mut [f32], stride: usize) {
    let dim = queries.head_dim();
    let codes: [*const i8; H] = std::array::from_fn(|h| queries.codes[(head + h) * dim..].as_ptr());
    let surplus: [__m512i; H] = std::array::from_fn(|h| _mm512_set1_epi32(128 * queries.sums[head + h]));
    let step: [__m512; H] = std::array::from_fn(|h| _mm512_set1_ps(queries.scales[head + h] * queries.factor));
    for (block, page) in seen.pages[..stride / BLOCK_KEYS].iter().enumerate() {
        let (keys, _) = seen.region.codes(*page);
        let (scales, _) = seen.region.scales(*page);
        let runs = (seen.keys - block * BLOCK_KEYS).min(BLOCK_KEYS).div_ceil(PANEL);
        for (run, (keys, scales)) in keys.chunks_exact(PANEL * dim).zip(scales.chunks_exact(PANEL)).enumerate().take(runs) {
            // SAFETY: a run is a quad for each four elements of a head, and a query has as many codes.
            let dots = unsafe { signed_dots::<H>(keys.as_ptr(), dim / 4, codes) };
            let scales = load(scales);
            for h in 0..H {
                let dot = _mm512_cvtepi32_ps(_mm512_sub_epi32(dots[h], surplus[h]));
                let place = &mut scores[h * stride + block * BLOCK_KEYS + run * PANEL..];
                put(place.first_chunk_mut().expect("whole blocks"), _mm512_mul_ps(dot, _mm512_mul_ps(step[h], scales)));
            }
        }
    }
}

/// Softmax of one head's scores: what the mixed values are divided by, as a factor. `scores` becomes the weights, and then, block by
/// block, what [`quantise_block`] leaves of them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn soften(seen: &Seen<'_>, scores: &mut [f32]) -> __m512 {
    let (parts, rest) = scores[..seen.keys].as_chunks::<PANEL>();
    let largest = parts.iter().fold(_mm512_set1_ps(f32::NEG_INFINITY), |most, part| _mm512_max_ps(most, whole(part)));
    let largest = _mm512_mask_max_ps(largest, first(rest.len()), largest, load(rest));
    let largest = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
    let mut sums = _mm512_setzero_ps();
    for (block, (weights, page)) in scores.as_chunks_mut::<BLOCK_KEYS>().0.iter_mut().zip(seen.pages).enumerate() {
        let (_, scales) = seen.region.scales(*page);
        let keys = seen.keys - block * BLOCK_KEYS;
        let parts = weights.as_chunks_mut::<PANEL>().0.iter_mut().zip(scales.as_chunks::<PANEL>().0);
        if keys >= BLOCK_KEYS {
            for (weights, scales) in parts {
                let p = exp(_mm512_sub_ps(whole(weights), largest));
                sums = _mm512_add_ps(sums, p);
                put(weights, _mm512_mul_ps(p, whole(scales)));
            }
        } else {
            for (part, (weights, scales)) in parts.enumerate() {
                // Of keys that are not there nothing is added, and the weight is 0 whatever stands in the page.
                let here = first(keys.saturating_sub(part * PANEL));
                let p = _mm512_maskz_mov_ps(here, exp(_mm512_sub_ps(whole(weights), largest)));
                sums = _mm512_add_ps(sums, p);
                put(weights, _mm512_maskz_mul_ps(here, p, whole(scales)));
            }
        }
        quantise_block(weights);
    }
    _mm512_set1_ps(1.0 / fold(sums))
}

/// Replaces the weights of a block by their codes, in the first 64 bytes, and their scale, behind these.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn quantise_block(weights: &mut [f32; BLOCK_KEYS]) {
    let parts = weights.as_chunks::<PANEL>().0;
    let [a, b, c, d] = [whole(&parts[0]), whole(&parts[1]), whole(&parts[2]), whole(&parts[3])];
    // None is negative, so the largest of them is the largest magnitude.
    let amax = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(a, b), _mm512_max_ps(c, d)));
    let (scale, inverse) = weight_steps(amax);
    let inverse = _mm512_set1_ps(inverse);
    for (at, weight) in [a, b, c, d].into_iter().enumerate() {
        let codes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(weight, inverse)));
        // SAFETY: sixteen of the first 64 bytes of 256; no alignment is needed.
        unsafe { _mm_mask_storeu_epi8(weights.as_mut_ptr().cast::<i8>().wrapping_add(PANEL * at), !0, codes) };
    }
    weights[PANEL] = scale;
}

/// Mixes `16 N` columns of the values for `H` heads by the codes that [`quantise_block`] left.
///
/// # Safety
/// Shapes are those that [`check_attend`] found; a head has `16 N` columns from `column`; `blocks` and `out` start with those of `H` heads.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn add_columns<const H: usize, const N: usize>(
    seen: &Seen<'_>,
    blocks: &[[f32; BLOCK_KEYS]],
    column: usize,
    inverse: &[__m512; H],
    out: &mut [f32],
) {
    let (dim, count) = (seen.region.head_dim(), seen.keys.div_ceil(BLOCK_KEYS));
    let mut acc = [[_mm512_setzero_ps(); N]; H];
    for (block, page) in seen.pages.iter().take(count).enumerate() {
        let (_, values) = seen.region.codes(*page);
        let mut at = values.as_ptr().wrapping_add(4 * column);
        let codes: [*const i32; H] = std::array::from_fn(|h| blocks[h * count + block].as_ptr().cast());
        let mut dots = [[_mm512_setzero_si512(); N]; H];
        for quad in 0..PANEL {
            // SAFETY: the columns of a quad of keys in the page, and a quad of each head's codes; no alignment is needed.
            unsafe {
                let mut lines = [_mm512_setzero_si512(); N];
                each_row!(n < N, {
                    lines[n] = line_of(at.wrapping_add(n * LINE));
                });
                each_row!(h < H, {
                    let weights = integer(codes[h], quad);
                    each_row!(n < N, {
                        dots[h][n] = _mm512_dpbusd_epi32(dots[h][n], weights, lines[n]);
                    });
                });
            }
            at = at.wrapping_add(4 * dim);
        }
        each_row!(h < H, {
            // A block whose weights were all too small has codes and a scale of 0: adding 0 x 0 changes nothing.
            let scale = _mm512_set1_ps(blocks[h * count + block][PANEL]);
            each_row!(n < N, {
                acc[h][n] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[h][n]), scale, acc[h][n]);
            });
        });
    }
    for (h, acc) in acc.into_iter().enumerate() {
        for (n, acc) in acc.into_iter().enumerate() {
            let place = out[h * dim + column + n * PANEL..].first_chunk_mut().expect("a head of whole vectors");
            put(place, _mm512_mul_ps(acc, inverse[h]));
        }
    }
}
