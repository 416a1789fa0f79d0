//! Values to codes: inputs of products by their range, heads and ranks by their largest magnitude.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{PANEL, each_row, first, load, whole};
use crate::numeric::{self, CodesMut, MAGNITUDE_MAX, MAGNITUDE_MIN, Zero, small, steps};

pub(in super::super) fn quantise_range(x: &[f32], group: usize, out: &mut CodesMut<'_>, zeros: &mut [Zero]) -> bool {
    out.check_ranges(x.len(), group, zeros);
    // SAFETY: this table is given out only where `is_available`.
    unsafe { quantise_ranges(x, group, out, zeros) }
}

/// Groups that are quantised beside each other: their ends, steps and sums are then a lane each, folded and divided at once.
const BESIDE: usize = 4;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn quantise_ranges(x: &[f32], group: usize, out: &mut CodesMut<'_>, zeros: &mut [Zero]) -> bool {
    if zeros.len() >= BESIDE {
        match group {
            32 => return by_four::<2>(x, out, zeros),
            64 => return by_four::<4>(x, out, zeros),
            96 => return by_four::<6>(x, out, zeros),
            128 => return by_four::<8>(x, out, zeros),
            _ => {}
        }
    }
    let numbers = out.scales.iter_mut().zip(zeros).zip(out.sums.iter_mut()).zip(out.offsets.iter_mut());
    let mut fine = true;
    for ((x, codes), (((scale, zero), sum), offset)) in x.chunks_exact(group).zip(out.codes.chunks_exact_mut(group)).zip(numbers) {
        let (mut low, mut high) = (_mm512_set1_epi32(numeric::SIGN.cast_signed()), _mm512_setzero_si512());
        for part in x.chunks(PANEL) {
            let bits = _mm512_castps_si512(load(part));
            (low, high) = (_mm512_max_epu32(low, bits), _mm512_max_epi32(high, bits));
        }
        let (low, high) = (_mm512_reduce_max_epu32(low), _mm512_reduce_max_epi32(high).cast_unsigned());
        fine &= numeric::is_in_range(low, high);
        let (inverse, added);
        (*scale, inverse, added) = numeric::range_steps(low, high);
        let mut sums = _mm512_setzero_si512();
        for (part, place) in x.chunks(PANEL).zip(codes.chunks_mut(PANEL)) {
            let whole = _mm512_cvtps_epi32(_mm512_mul_ps(load(part), _mm512_set1_ps(inverse)));
            sums = _mm512_add_epi32(sums, whole);
            let code = _mm512_sub_epi32(whole, _mm512_set1_epi32(added));
            // SAFETY: as many lanes as there are places, sixteen at most.
            unsafe { _mm512_mask_cvtepi32_storeu_epi8(place.as_mut_ptr(), first(place.len()), code) };
        }
        *sum = _mm512_reduce_add_epi32(sums);
        *zero = Zero::new(added, *sum);
        (*sum, *offset) = (zero.sum(), *scale * small(*sum));
    }
    fine
}

/// At least four groups of `16 N`, four at a time; of a number that four does not divide some are quantised twice.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn by_four<const N: usize>(x: &[f32], out: &mut CodesMut<'_>, zeros: &mut [Zero]) -> bool {
    let (groups, each) = (zeros.len(), N * PANEL);
    let mut worst = _mm_setzero_si128();
    for at in (0..groups).step_by(BESIDE) {
        let first = at.min(groups - BESIDE);
        let (values, numbers) = (first * each..(first + BESIDE) * each, first..first + BESIDE);
        let mut place = CodesMut {
            codes: &mut out.codes[values.clone()],
            scales: &mut out.scales[numbers.clone()],
            sums: &mut out.sums[numbers.clone()],
            offsets: &mut out.offsets[numbers.clone()],
        };
        worst = _mm_max_epu32(worst, four::<N>(&x[values], &mut place, &mut zeros[numbers]));
    }
    let worst = _mm_max_epu32(worst, _mm_shuffle_epi32::<0b01_00_11_10>(worst));
    let worst = _mm_max_epu32(worst, _mm_shuffle_epi32::<0b10_11_00_01>(worst));
    _mm_cvtsi128_si32(worst).cast_unsigned() < MAGNITUDE_MAX.to_bits()
}

/// Folds the lanes of four vectors by an operation that is free of order: a lane of the answer each.
macro_rules! fold_four {
    ($vectors:expr, $wide:ident, $half:ident, $quarter:ident) => {{
        let [a, b, c, d] = $vectors;
        let ab = $wide(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let cd = $wide(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        let all = $wide(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
        let half = $half(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all));
        $quarter(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half))
    }};
}

/// Four groups of `16 N` values, all their numbers written; the largest magnitude of each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn four<const N: usize>(x: &[f32], out: &mut CodesMut<'_>, zeros: &mut [Zero]) -> __m128i {
    out.check_ranges(BESIDE * N * PANEL, N * PANEL, zeros);
    let parts = x.as_chunks::<PANEL>().0;
    assert!(parts.len() == BESIDE * N && zeros.len() == BESIDE, "four groups");
    let sign = _mm_set1_epi32(numeric::SIGN.cast_signed());
    let (mut lows, mut highs) = ([_mm512_set1_epi32(numeric::SIGN.cast_signed()); BESIDE], [_mm512_setzero_si512(); BESIDE]);
    each_row!(g < BESIDE, {
        for part in &parts[g * N..(g + 1) * N] {
            let bits = _mm512_castps_si512(whole(part));
            (lows[g], highs[g]) = (_mm512_max_epu32(lows[g], bits), _mm512_max_epi32(highs[g], bits));
        }
    });
    let low = fold_four!(lows, _mm512_max_epu32, _mm256_max_epu32, _mm_max_epu32);
    let high = fold_four!(highs, _mm512_max_epi32, _mm256_max_epi32, _mm_max_epi32);
    // As `numeric::range_steps`, of four groups. A comparison with a NaN is false here and there.
    let span = _mm_sub_ps(_mm_castsi128_ps(high), _mm_castsi128_ps(low));
    let here = !_mm_cmp_ps_mask::<_CMP_LT_OQ>(span, _mm_set1_ps(MAGNITUDE_MIN));
    let steps = _mm_set1_ps(numeric::RANGE_STEPS);
    let (scale, inverse) = (_mm_maskz_div_ps(here, span, steps), _mm_maskz_div_ps(here, steps, span));
    let added = _mm_sub_epi32(_mm_cvtps_epi32(_mm_mul_ps(_mm_castsi128_ps(high), inverse)), _mm_set1_epi32(127));
    let (all_inverse, all_added) = (_mm512_castps128_ps512(inverse), _mm512_castsi128_si512(added));
    let mut sums = [_mm512_setzero_si512(); BESIDE];
    let places = out.codes.as_chunks_mut::<PANEL>().0;
    each_row!(g < BESIDE, {
        #[expect(clippy::cast_possible_wrap, clippy::cast_possible_truncation, reason = "below four")]
        let lane = _mm512_set1_epi32(g as i32);
        let (inverse, added) = (_mm512_permutexvar_ps(lane, all_inverse), _mm512_permutexvar_epi32(lane, all_added));
        for (part, place) in parts[g * N..(g + 1) * N].iter().zip(&mut places[g * N..(g + 1) * N]) {
            let integers = _mm512_cvtps_epi32(_mm512_mul_ps(whole(part), inverse));
            sums[g] = _mm512_add_epi32(sums[g], integers);
            let codes = _mm512_cvtepi32_epi8(_mm512_sub_epi32(integers, added));
            // SAFETY: sixteen places; no alignment is needed.
            unsafe { _mm_mask_storeu_epi8(place.as_mut_ptr(), !0, codes) };
        }
    });
    let sum = fold_four!(sums, _mm512_add_epi32, _mm256_add_epi32, _mm_add_epi32);
    // The lower halves of both, side by side; what counts as the sum is the half with its sign.
    let upper = _mm_slli_epi32::<16>(sum);
    let pair = _mm_or_si128(_mm_and_si128(added, _mm_set1_epi32(0xffff)), upper);
    let sum = _mm_srai_epi32::<16>(upper);
    let offset = _mm_mul_ps(scale, _mm_cvtepi32_ps(sum));
    // SAFETY: four places in each, as was checked; a `Zero` has the size of a number, the lower half first. No alignment is needed.
    unsafe {
        _mm_mask_storeu_ps(out.scales.as_mut_ptr(), !0, scale);
        _mm_mask_storeu_ps(out.offsets.as_mut_ptr(), !0, offset);
        _mm_mask_storeu_epi32(out.sums.as_mut_ptr(), !0, sum);
        _mm_mask_storeu_epi32(zeros.as_mut_ptr().cast(), !0, pair);
    }
    _mm_max_epu32(high, _mm_xor_si128(low, sign))
}

pub(in super::super) fn quantise(x: &[f32], group: usize, out: &mut CodesMut<'_>) -> bool {
    out.check(x.len(), group);
    // SAFETY: this table is given out only where `is_available`.
    unsafe { quantise_groups(x, group, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn quantise_groups(x: &[f32], group: usize, out: &mut CodesMut<'_>) -> bool {
    let numbers = out.scales.iter_mut().zip(out.sums.iter_mut()).zip(out.offsets.iter_mut());
    let mut most = 0;
    for ((x, codes), ((scale, sum), offset)) in x.chunks_exact(group).zip(out.codes.chunks_exact_mut(group)).zip(numbers) {
        let unsigned = _mm512_set1_epi32(0x7fff_ffff);
        let magnitude = |part: &[f32]| _mm512_and_si512(_mm512_castps_si512(load(part)), unsigned);
        let amax =
            _mm512_reduce_max_epu32(x.chunks(PANEL).fold(_mm512_setzero_si512(), |most, part| _mm512_max_epu32(most, magnitude(part))));
        most = most.max(amax);
        let (step, inverse) = steps(f32::from_bits(amax));
        let mut sums = _mm512_setzero_si512();
        for (part, place) in x.chunks(PANEL).zip(codes.chunks_mut(PANEL)) {
            let code = _mm512_cvtps_epi32(_mm512_mul_ps(load(part), _mm512_set1_ps(inverse)));
            sums = _mm512_add_epi32(sums, code);
            // SAFETY: as many lanes as there are places, sixteen at most.
            unsafe { _mm512_mask_cvtepi32_storeu_epi8(place.as_mut_ptr(), first(place.len()), code) };
        }
        (*scale, *sum) = (step, _mm512_reduce_add_epi32(sums));
        *offset = *scale * small(*sum);
    }
    most < MAGNITUDE_MAX.to_bits()
}
