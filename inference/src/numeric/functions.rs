//! Exponential, logarithm, sine and cosine of our own: fixed polynomials, the same bits on every machine.

use polynomial::{EXP, EXP_MAX, EXP_MIN, LN2_HIGH, LN2_LOW, ROUND};

/// The constants of [`exp`], for the paths that repeat it.
pub(crate) mod polynomial {
    /// What every exponent is rounded with: adding and taking away 1.5 x 2^23 leaves the nearest integer, halves to even.
    pub(crate) const ROUND: f32 = 12_582_912.0;
    /// Where [`exp`] saturates: both ends are normal numbers.
    pub(crate) const EXP_MIN: f32 = -87.0;
    pub(crate) const EXP_MAX: f32 = 88.0;
    /// ln 2 in two parts; the first has so few bits that its products with an exponent are exact.
    pub(crate) const LN2_HIGH: f32 = 0.693_359_4;
    pub(crate) const LN2_LOW: f32 = -2.121_944_4e-4;
    /// From the highest power down (Cephes, `expf`).
    pub(crate) const EXP: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
}

/// e^x, saturating at e^-87 and e^88; of a NaN, e^88. So it is never zero, infinite, denormal or a NaN.
///
/// `x` is limited first: `if x < 88 { x } else { 88 }`, then `if x > -87 { x } else { -87 }`. With
/// `shifted = x.mul_add(log2 e, 1.5 * 2^23)` and `n = shifted - 1.5 * 2^23`, the rest is
/// `r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x))`, the polynomial `p` in `r` by Horner's rule with fused
/// multiply-adds, `e = p.mul_add(r * r, r) + 1`, and the result `e * 2^n`.
#[inline(always)]
#[must_use]
pub fn exp(x: f32) -> f32 {
    let x = if x < EXP_MAX { x } else { EXP_MAX };
    let x = if x > EXP_MIN { x } else { EXP_MIN };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let mut p = EXP[0];
    for coefficient in &EXP[1..] {
        p = p.mul_add(r, *coefficient);
    }
    let e = p.mul_add(r * r, r) + 1.0;
    // The integer stands in the lowest bits of `shifted`; the bias is added and both move to the exponent's place.
    e * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// e^x in double precision, saturating at -700 and 700; of a NaN, e^700.
///
/// As [`exp`], with the Taylor polynomial of degree 13.
#[must_use]
pub fn exp64(x: f64) -> f64 {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
    const LN2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);
    let x = if x < 700.0 { x } else { 700.0 };
    let x = if x > -700.0 { x } else { -700.0 };
    let shifted = x.mul_add(std::f64::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    // 1/13!, 1/12!, ... 1/2!: each quotient of exact integers is rounded once.
    let mut factorial = 6_227_020_800.0;
    let mut p = 1.0 / factorial;
    for degree in (2..13).rev() {
        factorial /= f64::from(degree + 1);
        p = p.mul_add(r, 1.0 / factorial);
    }
    let e = p.mul_add(r * r, r) + 1.0;
    e * f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52)
}

/// The natural logarithm of a positive normal number; of anything else a NaN.
///
/// With `x = 2^n (1 + f)`, `1 + f` from `sqrt(1/2)` to `sqrt(2)`: the polynomial of fdlibm's `e_log.c` in
/// `s = f / (2 + f)`, without a fused operation, as written there for the general case.
#[must_use]
pub fn ln(x: f64) -> f64 {
    const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    const SECOND: [f64; 3] = [1.531_383_769_920_937_3e-1, 2.222_219_843_214_978_4e-1, 3.999_999_999_940_942e-1];
    const FIRST: [f64; 4] = [1.479_819_860_511_658_6e-1, 1.818_357_216_161_805e-1, 2.857_142_874_366_239e-1, 6.666_666_666_666_735e-1];
    if !(x.is_normal() && x > 0.0) {
        return f64::NAN;
    }
    // Moves the boundary from 1 to sqrt(1/2): 0x3fe6a09e is its upper word.
    let bits = x.to_bits() + (0x3ff0_0000_0000_0000 - 0x3fe6_a09e_0000_0000);
    let n = f64::from(i32::try_from(bits >> 52).expect("eleven bits") - 1023);
    let f = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) + 0x3fe6_a09e_0000_0000) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let second = w * (SECOND[2] + w * (SECOND[1] + w * SECOND[0]));
    let first = z * (FIRST[3] + w * (FIRST[2] + w * (FIRST[1] + w * FIRST[0])));
    let half = 0.5 * f * f;
    n * LN2_HIGH - ((half - (s * (half + (second + first)) + n * LN2_LOW)) - f)
}

/// Sine and cosine of an angle below 2^25 in magnitude (of others a NaN: longer than any context).
///
/// The nearest multiple `n` of a right angle is taken away in three fused steps with pi/2 in three doubles; then fdlibm's
/// polynomials (`k_sin.c`, `k_cos.c`) with fused multiply-adds, and the quadrant's swap and signs.
#[must_use]
pub fn sin_cos(x: f64) -> (f64, f64) {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const RIGHT: [f64; 3] = [std::f64::consts::FRAC_PI_2, 6.123_233_995_736_766e-17, -1.497_384_904_859_183_3e-33];
    const SIN: [f64; 6] = [
        1.589_690_995_211_55e-10,
        -2.505_076_025_340_686_3e-8,
        2.755_731_370_707_006_8e-6,
        -1.984_126_982_985_795e-4,
        8.333_333_333_322_49e-3,
        -1.666_666_666_666_663_2e-1,
    ];
    const COS: [f64; 6] = [
        -1.135_964_755_778_819_5e-11,
        2.087_572_321_298_175e-9,
        -2.755_731_435_139_066_3e-7,
        2.480_158_728_947_673e-5,
        -1.388_888_888_887_411e-3,
        4.166_666_666_666_66e-2,
    ];
    if !(x > -33_554_432.0 && x < 33_554_432.0) {
        return (f64::NAN, f64::NAN);
    }
    let shifted = x.mul_add(std::f64::consts::FRAC_2_PI, ROUND);
    let n = shifted - ROUND;
    let r = RIGHT.iter().fold(x, |rest, part| n.mul_add(-part, rest));
    let z = r * r;
    let horner = |coefficients: [f64; 6]| coefficients[1..].iter().fold(coefficients[0], |p, c| p.mul_add(z, *c));
    let sin = (horner(SIN) * z).mul_add(r, r);
    let cos = (horner(COS) * z).mul_add(z, z.mul_add(-0.5, 1.0));
    match shifted.to_bits() & 3 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

/// Frequency `pair` of a head of `head_dim`: `base ^ (-2 pair / head_dim)` as `exp64(ln(base) * (-2 pair / head_dim))`.
///
/// A family that scales its frequencies does so on this number, in double precision.
#[must_use]
pub fn rope_frequency(base: f64, pair: u32, head_dim: u32) -> f64 {
    exp64(ln(base) * (-2.0 * f64::from(pair) / f64::from(head_dim)))
}

/// Cosine and sine of `position * frequency`, rounded to `f32`.
#[must_use]
pub fn rope_angle(position: u32, frequency: f64) -> (f32, f32) {
    let (sin, cos) = sin_cos(f64::from(position) * frequency);
    #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
    let rounded = (cos as f32, sin as f32);
    rounded
}
