//! Weights as the integer codes of their file, and products over them.

use super::{COLUMNS_MAX, CodeRows, LANES, MAGNITUDE_MAX, f16_to_f32, f32_to_f16, magnitude, small};

/// How a group of weights is stored: behind its scale (f16), for some a minimum (f16), then the codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codes {
    /// 0 to 15, two in a byte: the low halves hold the group's first half, the high halves its second. With `min` a weight
    /// is `code * scale + min` (`Q4_1` of GGUF), without `(code - 8) * scale` (`Q4_0`).
    U4 {
        /// Whether a minimum stands behind the scale.
        min: bool,
    },
    /// -128 to 127, a byte each: a weight is `code * scale` (`Q8_0` in groups of 32, our own of 64).
    S8,
}

impl Codes {
    /// Bytes of a group in a file: scale, minimum, codes.
    #[must_use]
    pub fn group_bytes(self, group: usize) -> usize {
        match self {
            Self::U4 { min: true } => 4 + group / 2,
            Self::U4 { min: false } => 2 + group / 2,
            Self::S8 => 2 + group,
        }
    }

    /// Whether a kernel is written for groups of this many codes.
    #[must_use]
    pub fn takes(self, group: usize) -> bool {
        match self {
            Self::U4 { .. } => group == 32,
            Self::S8 => group == 32 || group == 64,
        }
    }
}

/// A matrix of weights in the form of its file: `rows` outputs of `columns` inputs each, group after group. Checked:
/// whole groups of a known size, every scale and minimum finite.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    rows: usize,
    columns: usize,
    group: usize,
    codes: Codes,
    data: &'a [u8],
}

/// Why bytes are not a matrix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatrixError {
    /// No rows, no columns, too many, or columns that are not whole groups.
    #[error("{rows} x {columns} in groups of {group} is not a shape that products take")]
    Shape {
        /// Outputs.
        rows: usize,
        /// Inputs.
        columns: usize,
        /// Codes that share a scale.
        group: usize,
    },
    /// The bytes are not as many as the shape says.
    #[error("{got} bytes, expected {expected}")]
    Length {
        /// Bytes that came.
        got: usize,
        /// Bytes that the shape takes.
        expected: usize,
    },
    /// A scale or minimum is infinite or not a number.
    #[error("row {row}, group {group}: the scale or minimum is not finite")]
    NotFinite {
        /// Row of the matrix.
        row: usize,
        /// Group of the row.
        group: usize,
    },
}

impl<'a> Matrix<'a> {
    /// Checks a shape, the length of `data` and every scale.
    ///
    /// # Errors
    /// Any [`MatrixError`].
    pub fn new(rows: usize, columns: usize, group: usize, codes: Codes, data: &'a [u8]) -> Result<Self, MatrixError> {
        let fits = rows > 0 && columns > 0 && rows <= COLUMNS_MAX && columns <= COLUMNS_MAX;
        if !(fits && codes.takes(group) && columns.is_multiple_of(group)) {
            return Err(MatrixError::Shape { rows, columns, group });
        }
        let each = codes.group_bytes(group);
        // Below 2^20 x 2^15 x 66 bytes: it cannot wrap.
        let expected = rows * (columns / group) * each;
        if data.len() != expected {
            return Err(MatrixError::Length { got: data.len(), expected });
        }
        let matrix = Self { rows, columns, group, codes, data };
        let groups = matrix.groups();
        for (at, bytes) in data.chunks_exact(each).enumerate() {
            let is_finite = |at: usize| f16_to_f32(u16::from_le_bytes([bytes[at], bytes[at + 1]])).is_finite();
            if !(is_finite(0) && (codes != Codes::U4 { min: true } || is_finite(2))) {
                return Err(MatrixError::NotFinite { row: at / groups, group: at % groups });
            }
        }
        Ok(matrix)
    }

    /// Outputs.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Codes that share a scale.
    #[must_use]
    pub fn group(&self) -> usize {
        self.group
    }

    /// How codes are stored.
    #[must_use]
    pub fn codes(&self) -> Codes {
        self.codes
    }

    /// Groups in a row.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.columns / self.group
    }

    /// Scale and minimum (0 where there is none) of a group, as the bits of their halves.
    #[must_use]
    pub fn scale_bits(&self, row: usize, group: usize) -> (u16, u16) {
        let bytes = self.bytes(row, group);
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        (half(0), if self.codes == (Codes::U4 { min: true }) { half(2) } else { 0 })
    }

    /// Code `at` of a group as stored: 0 to 15, or -128 to 127.
    #[must_use]
    pub fn code(&self, row: usize, group: usize, at: usize) -> i32 {
        let bytes = self.bytes(row, group);
        let half = self.group / 2;
        match self.codes {
            Codes::U4 { min } => {
                let codes = &bytes[if min { 4 } else { 2 }..];
                i32::from(if at < half { codes[at] & 15 } else { codes[at - half] >> 4 })
            }
            Codes::S8 => i32::from(bytes[2 + at].cast_signed()),
        }
    }

    fn bytes(&self, row: usize, group: usize) -> &'a [u8] {
        let each = self.codes.group_bytes(self.group);
        &self.data[(row * self.groups() + group) * each..][..each]
    }
}

/// The value of a weight: `code * scale` (from 4 bits without a minimum: `(code - 8) * scale`), plus `min` where there is one.
/// The product is exact, so there is one rounding at most.
#[must_use]
pub fn value(codes: Codes, code: i32, scale: f32, min: f32) -> f32 {
    match codes {
        Codes::U4 { min: true } => small(code) * scale + min,
        Codes::U4 { min: false } => small(code - 8) * scale,
        Codes::S8 => small(code) * scale,
    }
}

/// `out[row][output] = weights[output] . row`, for `out: [rows, outputs]`.
///
/// Of an output, from `acc = 0`, over the groups ascending: `dot` is the exact sum of code times code (of weights of 4 bits without a
/// minimum: `code - 8`; of activations: `code + zero`), `step = scale of the weights * scale of the activations` rounded once, then
/// `acc = (dot as f32).mul_add(step, acc)`, and with a minimum also `acc = min.mul_add(offset, acc)`.
///
/// # Panics
/// If shapes do not agree: a caller's mistake.
pub fn product(w: &Matrix<'_>, rows: &CodeRows<'_>, out: &mut [f32]) {
    rows.check();
    assert!(w.columns == rows.columns && w.group == rows.group, "inputs in the groups of the weights");
    assert!(out.len() == rows.rows * w.rows, "an output for each row of weights");
    for (at, out) in out.iter_mut().enumerate() {
        *out = one(w, at % w.rows, &rows.row(at / w.rows));
    }
}

fn one(w: &Matrix<'_>, output: usize, row: &CodeRows<'_>) -> f32 {
    let mut acc = 0f32;
    for (group, codes) in row.codes.chunks_exact(w.group).enumerate() {
        let (scale, min) = w.scale_bits(output, group);
        let zero = if w.codes == (Codes::U4 { min: false }) { 8 } else { 0 };
        let each = |(at, code): (usize, &i8)| (w.code(output, group, at) - zero) * (i32::from(*code) + row.zeros[group].zero());
        let dot: i32 = codes.iter().enumerate().map(each).sum();
        acc = small(dot).mul_add(f16_to_f32(scale) * row.scales[group], acc);
        if w.codes == (Codes::U4 { min: true }) {
            acc = f16_to_f32(min).mul_add(row.offsets[group], acc);
        }
    }
    acc
}

/// Quantises weights of a float model to [`Codes::S8`], once, at loading; appends a row's groups to `out`.
///
/// The scale is `amax / 127` rounded to f16, not above the largest half; a code is `x / scale` rounded to the nearest,
/// halves to even, limited to +-127. If the scale rounds to 0 the codes are 0.
///
/// # Errors
/// [`MatrixError::NotFinite`] (as row 0) for a group with a magnitude of [`MAGNITUDE_MAX`] or more, an infinity or a NaN.
///
/// # Panics
/// If the row is not whole groups.
pub fn quantise_weights(row: &[f32], group: usize, out: &mut Vec<u8>) -> Result<(), MatrixError> {
    assert!(row.len().is_multiple_of(group) && group.is_multiple_of(LANES), "whole groups");
    for (at, x) in row.chunks_exact(group).enumerate() {
        let amax = magnitude(x);
        if amax >= MAGNITUDE_MAX.to_bits() {
            return Err(MatrixError::NotFinite { row: 0, group: at });
        }
        let bits = f32_to_f16(f32::from_bits(amax) / 127.0).min(0x7bff);
        let scale = f16_to_f32(bits);
        out.extend(bits.to_le_bytes());
        out.extend(x.iter().map(|x| if bits == 0 { 0 } else { limited(x / scale).cast_unsigned() }));
    }
    Ok(())
}

fn limited(x: f32) -> i8 {
    #[expect(clippy::cast_possible_truncation, reason = "limited to 127 on the same line")]
    let code = x.round_ties_even().clamp(-127.0, 127.0) as i8;
    code
}
