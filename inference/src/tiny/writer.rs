//! Writes GGUF files: metadata values, and tensors of random blocks.

use crate::gguf::TensorType;
use crate::sampler::split_mix;

/// SplitMix64 as a stream.
pub(super) struct Stream(pub(super) u64);

impl Stream {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        split_mix(self.0)
    }

    /// Uniform in [-1, 1), a multiple of 2^-15.
    pub(super) fn uniform(&mut self) -> f32 {
        let [low, high, ..] = self.next().to_le_bytes();
        f32::from(i16::from_le_bytes([low, high])) / 32_768.0
    }
}

/// A tensor to be written.
pub(super) struct Tensor {
    name: String,
    shape: Vec<usize>,
    kind: TensorType,
    /// Its values, where they are not random.
    given: Option<Vec<f32>>,
}

impl Tensor {
    /// A tensor of random values: norms, which are vectors in f32, are near 1, everything else near 0.
    pub(super) fn random(name: &str, shape: &[usize], kind: TensorType) -> Self {
        Self { name: name.to_owned(), shape: shape.to_vec(), kind, given: None }
    }

    /// A vector of these values.
    pub(super) fn given(name: &str, values: Vec<f32>) -> Self {
        Self { name: name.to_owned(), shape: vec![values.len()], kind: TensorType::F32, given: Some(values) }
    }

    /// A matrix of these values, row by row.
    pub(super) fn matrix(name: &str, shape: [usize; 2], values: Vec<f32>) -> Self {
        Self { name: name.to_owned(), shape: shape.to_vec(), kind: TensorType::F32, given: Some(values) }
    }

    /// Writes random blocks: half-precision scales of about 0.02 to 0.05, so that values stay near +-0.3.
    fn write(&self, noise: &mut Stream, out: &mut Vec<u8>) {
        const SCALE: [u8; 2] = 0x2800u16.to_le_bytes(); // 2^-5
        const MINIMUM: [u8; 2] = 0xb400u16.to_le_bytes(); // -0.25
        const FINE_SCALE: [u8; 2] = 0x1800u16.to_le_bytes(); // 2^-9
        let count: usize = self.shape.iter().product();
        if let Some(values) = &self.given {
            return out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        match self.kind {
            TensorType::F32 if self.shape.len() == 1 => {
                out.extend((0..count).flat_map(|_| (1.0 + noise.uniform() * 0.1).to_le_bytes()));
            }
            TensorType::F32 => out.extend((0..count).flat_map(|_| (noise.uniform() * 0.25).to_le_bytes())),
            // Exponent 12 or 13 of a half: 1/8 to 1/2, either sign.
            TensorType::F16 => out.extend((0..count).flat_map(|_| {
                let [low, high, ..] = noise.next().to_le_bytes();
                [low, 0x30 | high & 0x87]
            })),
            // The upper half of a single.
            TensorType::BF16 => out.extend((0..count).flat_map(|_| {
                let [_, _, low, high] = (noise.uniform() * 0.25).to_le_bytes();
                [low, high]
            })),
            TensorType::Q4_0 | TensorType::Q4_1 | TensorType::Q8_0 => {
                for _ in 0..count / 32 {
                    let payload = match self.kind {
                        TensorType::Q8_0 => {
                            out.extend(FINE_SCALE);
                            32
                        }
                        TensorType::Q4_1 => {
                            out.extend(SCALE);
                            out.extend(MINIMUM);
                            16
                        }
                        _ => {
                            out.extend(SCALE);
                            16
                        }
                    };
                    out.extend((0..payload).map(|_| noise.next().to_le_bytes()[0]));
                }
            }
        }
    }
}

/// A whole file; random values come from `seed` in the order of the tensors.
pub(super) fn gguf(metadata: &[(String, Vec<u8>)], tensors: &[Tensor], seed: u64) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        text(&mut out, key);
        out.extend(value);
    }
    let mut data = Vec::new();
    let mut noise = Stream(seed);
    for tensor in tensors {
        text(&mut out, &tensor.name);
        out.extend(u32::try_from(tensor.shape.len()).expect("at most two").to_le_bytes());
        for side in tensor.shape.iter().rev() {
            out.extend((*side as u64).to_le_bytes());
        }
        out.extend(tensor.kind.id().to_le_bytes());
        out.extend((data.len() as u64).to_le_bytes());
        tensor.write(&mut noise, &mut data);
        data.resize(data.len().next_multiple_of(32), 0);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(data);
    out
}

fn text(out: &mut Vec<u8>, value: &str) {
    out.extend((value.len() as u64).to_le_bytes());
    out.extend(value.as_bytes());
}

/// An encoded string.
pub(super) fn string(value: &str) -> Vec<u8> {
    let mut out = 8u32.to_le_bytes().to_vec();
    text(&mut out, value);
    out
}

/// An encoded boolean.
pub(super) fn boolean(value: bool) -> Vec<u8> {
    let mut out = 7u32.to_le_bytes().to_vec();
    out.push(u8::from(value));
    out
}

/// An encoded unsigned number of 32 bits.
pub(super) fn number(value: usize) -> Vec<u8> {
    let mut out = 4u32.to_le_bytes().to_vec();
    out.extend(u32::try_from(value).expect("small").to_le_bytes());
    out
}

/// An encoded float of 32 bits.
pub(super) fn float(value: f32) -> Vec<u8> {
    let mut out = 6u32.to_le_bytes().to_vec();
    out.extend(value.to_le_bytes());
    out
}

/// An encoded array of strings.
pub(super) fn texts(values: &[String]) -> Vec<u8> {
    let mut out = 9u32.to_le_bytes().to_vec();
    out.extend(8u32.to_le_bytes());
    out.extend((values.len() as u64).to_le_bytes());
    for value in values {
        text(&mut out, value);
    }
    out
}

/// An encoded array of signed numbers of 32 bits.
pub(super) fn integers(values: &[i32]) -> Vec<u8> {
    let mut out = 9u32.to_le_bytes().to_vec();
    out.extend(5u32.to_le_bytes());
    out.extend((values.len() as u64).to_le_bytes());
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    out
}
