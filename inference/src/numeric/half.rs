//! IEEE half precision: the scales of a file's groups.

/// Half precision to single, exactly: normals, subnormals, infinities and NaN.
#[inline(always)]
#[must_use]
pub fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let exponent = u32::from(bits >> 10) & 31;
    let fraction = u32::from(bits) & 0x3ff;
    match exponent {
        // A subnormal is fraction x 2^-24, which f32 holds exactly.
        0 => {
            let magnitude = f32::from(bits & 0x3ff) * f32::from_bits(0x3380_0000);
            f32::from_bits(magnitude.to_bits() | sign)
        }
        31 => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

/// Single precision to half, to the nearest, halves to even; too large becomes infinity, a NaN stays one.
#[must_use]
pub fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    let half = match magnitude {
        0x7f80_0001.. => 0x7e00,
        // From 65,520 on, half a step above the largest, it rounds to infinity.
        0x477f_f000.. => 0x7c00,
        // A normal half: the exponent is moved, then 13 bits are rounded away; a carry runs into the exponent as it should.
        0x3880_0000.. => (magnitude - (112 << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13,
        // A subnormal: adding 0.5 leaves the value in steps of 2^-24 in the lowest bits, rounded by the addition.
        _ => (f32::from_bits(magnitude) + 0.5).to_bits() - 0.5f32.to_bits(),
    };
    u16::try_from(sign | half).expect("sixteen bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_comes_back_from_single() {
        for bits in 0..=u16::MAX {
            let value = f16_to_f32(bits);
            if value.is_nan() {
                assert!(f16_to_f32(f32_to_f16(value)).is_nan());
            } else {
                assert_eq!(f32_to_f16(value), bits, "{value}");
            }
        }
    }

    #[test]
    fn a_value_between_two_halves_goes_to_the_nearest_and_a_tie_to_the_even_one() {
        for bits in 0..0x7bffu16 {
            let (low, high) = (f16_to_f32(bits), f16_to_f32(bits + 1));
            let middle = low + (high - low) / 2.0; // exact: one bit more than a half has
            let even = if bits & 1 == 0 { bits } else { bits + 1 };
            assert_eq!(f32_to_f16(middle), even, "tie at {middle}");
            assert_eq!(f32_to_f16(middle.next_down()), bits);
            assert_eq!(f32_to_f16(middle.next_up()), bits + 1);
            assert_eq!(f32_to_f16(-middle.next_up()), (bits + 1) | 0x8000);
        }
        assert_eq!(f32_to_f16(65_519.996), 0x7bff);
        assert_eq!(f32_to_f16(65_520.0), 0x7c00);
        assert_eq!(f32_to_f16(1e-30), 0);
    }
}
