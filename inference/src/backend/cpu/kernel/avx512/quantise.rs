//! Values to codes: inputs of products by their range, heads and ranks by their largest magnitude.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{PANEL, first, load, whole};
use crate::numeric::{self, CodesMut, MAGNITUDE_MAX, Zero, small, steps};

pub(in super::super) fn quantise_range(x: &[f32], group: usize, out: &mut CodesMut<'_>, zeros: &mut [Zero]) -> bool {
    out.check_ranges(x.len(), group, zeros);
    // SAFETY: this table is given out only where `is_available`.
    unsafe { quantise_ranges(x, group, out, zeros) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn quantise_ranges(x: &[f32], group: usize, out: &mut CodesMut<'_>, zeros: &mut [Zero]) -> bool {
    let numbers = out.scales.iter_mut().zip(zeros).zip(out.sums.iter_mut()).zip(out.offsets.iter_mut());
    let mut fine = true;
    if group == 32 {
        let groups = x.as_chunks::<32>().0.iter().zip(out.codes.as_chunks_mut::<32>().0);
        for ((x, codes), (((scale, zero), sum), offset)) in groups.zip(numbers) {
            let (is_fine, added);
            (is_fine, *scale, added, *sum) = range_32(x, codes);
            *zero = Zero::new(added, *sum);
            (*sum, *offset) = (zero.sum(), *scale * small(*sum));
            fine &= is_fine;
        }
        return fine;
    }
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

/// One group of 32: whether its range is one of the profile, its scale, its zero, the sum of its codes with the zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn range_32(x: &[f32; 32], codes: &mut [i8; 32]) -> (bool, f32, i32, i32) {
    let [a, b] = [whole(x[..16].first_chunk().expect("sixteen")), whole(x[16..].first_chunk().expect("sixteen"))];
    let bits = [_mm512_castps_si512(a), _mm512_castps_si512(b)];
    let sign = _mm512_set1_epi32(numeric::SIGN.cast_signed());
    // The largest of values and the largest of values turned about, both as signed integers, eight lanes each; then both at once.
    let eight = |lanes| _mm256_max_epi32(_mm512_castsi512_si256(lanes), _mm512_extracti32x8_epi32::<1>(lanes));
    let high = eight(_mm512_max_epi32(bits[0], bits[1]));
    let low = eight(_mm512_max_epi32(_mm512_xor_si512(bits[0], sign), _mm512_xor_si512(bits[1], sign)));
    let ends = _mm512_inserti32x8::<1>(_mm512_castsi256_si512(high), low);
    let ends = _mm512_max_epi32(ends, _mm512_shuffle_i32x4::<0b10_11_00_01>(ends, ends));
    let ends = _mm512_max_epi32(ends, _mm512_shuffle_epi32::<0b01_00_11_10>(ends));
    let ends = _mm512_max_epi32(ends, _mm512_shuffle_epi32::<0b10_11_00_01>(ends));
    let high = _mm512_cvtsi512_si32(ends).max(0).cast_unsigned();
    let low = _mm256_extract_epi32::<0>(_mm512_extracti32x8_epi32::<1>(ends)).max(0).cast_unsigned() | numeric::SIGN;
    let (scale, inverse, zero) = numeric::range_steps(low, high);
    let inverse = _mm512_set1_ps(inverse);
    let integers = |x| _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
    let bytes = |integers| _mm512_cvtepi32_epi8(_mm512_sub_epi32(integers, _mm512_set1_epi32(zero)));
    let all = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(bytes(integers(a))), bytes(integers(b)));
    // SAFETY: 32 places; no alignment is needed.
    unsafe { _mm256_mask_storeu_epi8(codes.as_mut_ptr(), !0, all) };
    (numeric::is_in_range(low, high), scale, zero, byte_sum(all).wrapping_add(zero.wrapping_mul(32)))
}

/// Sum of 32 signed bytes: of `byte + 128` by differences from 0, in four parts; then 32 times 128 is taken off.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn byte_sum(all: __m256i) -> i32 {
    let parts = _mm256_sad_epu8(_mm256_xor_si256(all, _mm256_set1_epi8(-128)), _mm256_setzero_si256());
    let two = _mm_add_epi64(_mm256_castsi256_si128(parts), _mm256_extracti128_si256::<1>(parts));
    _mm_cvtsi128_si32(_mm_add_epi64(two, _mm_unpackhi_epi64(two, two))).wrapping_sub(32 * 128)
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
