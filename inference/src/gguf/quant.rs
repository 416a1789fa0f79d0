//! The block formats of GGUF that this reader decodes, to f32.
//!
//! Quantised rows are cut into blocks of 32. `Q4_0`: scale f16, 16 bytes of nibbles, value (n - 8) x scale.
//! `Q4_1`: scale and minimum f16, nibbles, value n x scale + minimum. `Q8_0`: scale f16, 32 signed bytes.
//! The low nibbles hold elements 0 to 15 of a block, the high nibbles 16 to 31.

use crate::numeric::f16_to_f32;

/// How a tensor is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorType {
    /// 4 bytes an element.
    F32,
    /// 2 bytes an element.
    F16,
    /// 18 bytes per 32 elements.
    Q4_0,
    /// 20 bytes per 32 elements.
    Q4_1,
    /// 34 bytes per 32 elements.
    Q8_0,
    /// 2 bytes an element, the upper half of an f32.
    BF16,
}

impl TensorType {
    /// The type of a number in the file, if it is one of the supported ones.
    #[must_use]
    pub fn from_id(id: u32) -> Option<Self> {
        match id {
            0 => Some(Self::F32),
            1 => Some(Self::F16),
            2 => Some(Self::Q4_0),
            3 => Some(Self::Q4_1),
            8 => Some(Self::Q8_0),
            30 => Some(Self::BF16),
            _ => None,
        }
    }

    /// The number of this type in a file.
    #[must_use]
    pub fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q8_0 => 8,
            Self::BF16 => 30,
        }
    }

    /// Elements per block.
    #[must_use]
    pub fn block_elements(self) -> u64 {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q8_0 => 32,
        }
    }

    /// Bytes per block.
    #[must_use]
    pub fn block_bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q8_0 => 34,
        }
    }

    /// Decodes whole blocks; a rest shorter than a block is not looked at.
    #[must_use]
    pub fn dequantise(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Self::F16 => bytes.as_chunks::<2>().0.iter().map(|b| half(*b)).collect(),
            Self::BF16 => bytes.as_chunks::<2>().0.iter().map(|b| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16)).collect(),
            Self::Q4_0 => blocks::<18>(bytes, |block, out| {
                let scale = half([block[0], block[1]]);
                nibbles(&block[2..], out, |n| (f32::from(n) - 8.0) * scale);
            }),
            Self::Q4_1 => blocks::<20>(bytes, |block, out| {
                let scale = half([block[0], block[1]]);
                let minimum = half([block[2], block[3]]);
                nibbles(&block[4..], out, |n| f32::from(n) * scale + minimum);
            }),
            Self::Q8_0 => blocks::<34>(bytes, |block, out| {
                let scale = half([block[0], block[1]]);
                for (slot, &byte) in out.iter_mut().zip(&block[2..]) {
                    *slot = f32::from(i8::from_le_bytes([byte])) * scale;
                }
            }),
        }
    }
}

fn blocks<const N: usize>(bytes: &[u8], decode: impl Fn(&[u8; N], &mut [f32; 32])) -> Vec<f32> {
    let (blocks, _) = bytes.as_chunks::<N>();
    let mut out = vec![0f32; blocks.len() * 32];
    for (block, slots) in blocks.iter().zip(out.as_chunks_mut::<32>().0) {
        decode(block, slots);
    }
    out
}

fn nibbles(bytes: &[u8], out: &mut [f32; 32], value: impl Fn(u8) -> f32) {
    let (low, high) = out.split_at_mut(16);
    for ((low, high), &byte) in low.iter_mut().zip(high).zip(bytes) {
        *low = value(byte & 15);
        *high = value(byte >> 4);
    }
}

fn half(bytes: [u8; 2]) -> f32 {
    f16_to_f32(u16::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_golden_values() {
        for (bits, value) in [
            (0x0000u16, 0.0f32),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x8001, -5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(f16_to_f32(bits), value, "{bits:04x}");
        }
        assert!(f16_to_f32(0x7e00).is_nan());
    }

    #[test]
    fn brain_halves_are_the_upper_half_of_a_single() {
        let bytes = [0x80u8, 0x3f, 0x49, 0xc0, 0x01, 0x00];
        assert_eq!(TensorType::BF16.dequantise(&bytes), [1.0, -3.140_625, f32::from_bits(0x1_0000)]);
        assert_eq!(TensorType::from_id(TensorType::BF16.id()), Some(TensorType::BF16));
    }

    #[test]
    fn four_bit_blocks_put_low_nibbles_first() {
        let mut block = vec![0x00, 0x38, 0x00, 0x3c]; // scale 0.5, minimum 1
        block.extend((0..16).map(|i| i | (15 - i) << 4));
        let values = TensorType::Q4_1.dequantise(&block);
        assert_eq!(values[..3], [1.0, 1.5, 2.0]);
        assert_eq!(values[16..19], [8.5, 8.0, 7.5]);
        let mut block = vec![0x00, 0x40]; // scale 2
        block.extend([0x80; 16]);
        let values = TensorType::Q4_0.dequantise(&block);
        assert_eq!(values[..16], [-16.0; 16]);
        assert_eq!(values[16..], [0.0; 16]);
    }
}
