//! Probabilities as integers: sums of them have no order.

/// The weight of the largest logit: 2^40.
///
/// A softmax over 2^22 tokens sums to at most 2^62, and what is below 2^-41 of the largest probability counts as nothing: over
/// 49,152 tokens less than 3e-8 of it altogether.
pub const WEIGHT_ONE: u64 = 1 << 40;

/// e^x in units of 2^-40, rounded to nearest even, for `x` from -30 to 0; 0 for anything else.
///
/// Within one unit and 1e-12 of the exact value. Plain multiplications and additions, no fused ones, unlike [`exp64`](super::exp64): so a
/// loop over a vocabulary is vectorised on every machine, also where a fused operation is a call.
/// With `shifted = x * log2 e + 1.5 * 2^52` and `n = shifted - 1.5 * 2^52`, `r = (x - n * LN2_HIGH) - n * LN2_LOW`; then the Taylor
/// polynomial of degree 10 in `r` by Horner's rule, times `2^(n + 40)`, plus 2^52, of which the lower 52 bits are taken.
#[inline(always)]
#[must_use]
pub fn weight(x: f64) -> u64 {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const INTEGERS: f64 = 4_503_599_627_370_496.0;
    const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
    const LN2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);
    // 1/10!, 1/9!, ... 1/2!, 1, 1: each rounded once.
    const TAYLOR: [f64; 11] =
        [1.0 / 3_628_800.0, 1.0 / 362_880.0, 1.0 / 40_320.0, 1.0 / 5_040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    // At -30 the result is 0.1 units: nothing. A NaN fails both comparisons.
    let x = if x > -30.0 && x <= 0.0 { x } else { -30.0 };
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = TAYLOR[0];
    for coefficient in &TAYLOR[1..] {
        p = p * r + coefficient;
    }
    // The integer stands in the lowest bits of `shifted`; the bias and 40 are added and all moves to the exponent's place.
    let scale = f64::from_bits(shifted.to_bits().wrapping_add(1023 + 40) << 52);
    (p * scale + INTEGERS).to_bits() & ((1 << 52) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_within_a_unit_of_the_exact_value() {
        for step in 0..300_000u32 {
            let x = -f64::from(step) * 1e-4;
            let exact = x.exp() * 2f64.powi(40);
            let error = (weight(x) as f64 - exact).abs();
            assert!(error <= 0.5 + exact * 1.1e-12, "e^{x}: {error} units away");
        }
    }

    #[test]
    fn weights_are_stable_across_releases() {
        let got: Vec<u64> = [0.0, -0.5, -1.0, -7.25, -27.0, -28.5].map(weight).to_vec();
        assert_eq!(got, GOLDEN);
    }
    const GOLDEN: [u64; 6] = [1 << 40, 666_887_512_957, 404_487_723_188, 780_844_998, 2, 0];

    #[test]
    fn what_is_no_distance_below_the_largest_weighs_nothing() {
        for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-300, 1.0, -30.0, -1e300] {
            assert_eq!(weight(x), 0, "{x}");
        }
        assert_eq!((weight(0.0), weight(-0.0)), (WEIGHT_ONE, WEIGHT_ONE));
    }

    #[test]
    fn a_larger_logit_never_weighs_less() {
        let mut last = 0;
        for step in 0..400_000u32 {
            let now = weight(f64::from(step) * 7.5e-5 - 30.0);
            assert!(now >= last, "at step {step}");
            last = now;
        }
    }
}
