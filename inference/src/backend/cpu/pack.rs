//! Weights in the order in which kernels read them.
//!
//! A *panel* is sixteen outputs, a lane each; the last one is filled up with weights of scale 0. A panel goes through the
//! inputs once, front to back, in whole cache lines. A line of *scales* stands before the codes it is for: sixteen scales
//! and sixteen minimums (f16) of one group, or without minimums sixteen scales each of two groups (of an odd last one the
//! second half is empty). Codes come in *quads*: four inputs of every lane, 64 bytes, input `4 q + b` of lane `l` in byte
//! `4 l + b`: the operand of one `vpdpbusd`, and one row of a weight tile of AMX. Four-bit codes of quads `q` and `q + 4`
//! of a group share a line, in the low and the high half of a byte. Eight-bit codes are stored as `code + 128`, so that
//! they are the unsigned operand; a dot product is then too large by 128 times the sum of the activations' codes, exactly.
//!
//! So `Q4_1` takes 320 bytes for 512 weights, `Q4_0` 288, `Q8_0` 544: what the file takes.

use std::ops::Range;

use crate::numeric::{Codes, Matrix, RowCodes, f16_to_f32, value};

use super::arena::{LINE, Lines};

/// Outputs of a panel: lanes of a vector of AVX-512, columns of a tile of AMX.
pub const PANEL: usize = 16;

/// A matrix of weights, packed.
#[derive(Debug)]
pub struct Packed {
    outputs: usize,
    columns: usize,
    group: usize,
    codes: Codes,
    data: Lines,
}

/// Where a group of a panel stands, in bytes from the panel's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Sixteen scales; minimums, where there are any, 32 bytes behind.
    pub(crate) scales: usize,
    /// The quads.
    pub(crate) codes: usize,
}

impl Packed {
    /// Packs a matrix; the codes, scales and minimums are those of the file.
    #[must_use]
    pub fn new(matrix: &Matrix<'_>) -> Self {
        let (outputs, columns, group, codes) = (matrix.rows(), matrix.columns(), matrix.group(), matrix.codes());
        let mut packed = Self { outputs, columns, group, codes, data: Lines::zeroed(0) };
        packed.data = Lines::zeroed(packed.panels() * packed.panel_bytes());
        let (places, bytes) = ((0..packed.groups()).map(|group| packed.place(group)).collect::<Vec<_>>(), packed.panel_bytes());
        for (panel, data) in packed.data.bytes_mut().chunks_exact_mut(bytes).enumerate() {
            for lane in 0..PANEL.min(outputs - panel * PANEL) {
                for (group, place) in places.iter().enumerate() {
                    pack_group(matrix, (panel * PANEL + lane, group), lane, *place, data);
                }
            }
        }
        packed
    }

    /// Outputs.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Inputs.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Inputs that share a scale.
    #[must_use]
    pub fn group(&self) -> usize {
        self.group
    }

    /// What the codes are.
    #[must_use]
    pub fn codes(&self) -> Codes {
        self.codes
    }

    /// Groups of an output.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.columns / self.group
    }

    /// Panels; the last one may hold fewer outputs than the rest.
    #[must_use]
    pub fn panels(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    /// The outputs of some panels.
    #[must_use]
    pub fn outputs_of(&self, panels: &Range<usize>) -> Range<usize> {
        panels.start * PANEL..self.outputs.min(panels.end * PANEL)
    }

    /// Bytes of a panel: what is read for it in a step.
    #[must_use]
    pub fn panel_bytes(&self) -> usize {
        let groups = self.groups();
        let scales = if self.codes == (Codes::U4 { min: true }) { groups } else { groups.div_ceil(2) };
        (scales + groups * self.code_lines()) * LINE
    }

    /// Bytes of the whole.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.panels() * self.panel_bytes()
    }

    /// The bytes of a panel.
    #[must_use]
    pub fn panel(&self, panel: usize) -> &[u8] {
        &self.data.bytes()[panel * self.panel_bytes()..][..self.panel_bytes()]
    }

    /// The values of an output's weights, as [`value`] has them: a row of an embedding that is also the head.
    ///
    /// # Panics
    /// If there is no such output or `out` is of another length.
    pub fn dequantise(&self, output: usize, out: &mut [f32]) {
        assert!(output < self.outputs && out.len() == self.columns, "a row of the matrix");
        let (panel, lane) = (self.panel(output / PANEL), output % PANEL);
        for (group, out) in out.chunks_exact_mut(self.group).enumerate() {
            let (scale, min) = self.scale(panel, group, lane);
            for (at, out) in out.iter_mut().enumerate() {
                *out = value(self.codes, self.code(panel, group, lane, at), scale, min);
            }
        }
    }

    pub(crate) fn place(&self, group: usize) -> Place {
        let lines = self.code_lines();
        if self.codes == (Codes::U4 { min: true }) {
            let scales = group * (1 + lines) * LINE;
            return Place { scales, codes: scales + LINE };
        }
        let pair = group / 2 * (1 + 2 * lines) * LINE;
        Place { scales: pair + group % 2 * (LINE / 2), codes: pair + LINE + group % 2 * lines * LINE }
    }

    /// Scale and minimum of a lane.
    pub(crate) fn scale(&self, panel: &[u8], group: usize, lane: usize) -> (f32, f32) {
        let at = self.place(group).scales + 2 * lane;
        let half = |at: usize| f16_to_f32(u16::from_le_bytes([panel[at], panel[at + 1]]));
        (half(at), if self.codes == (Codes::U4 { min: true }) { half(at + 2 * PANEL) } else { 0.0 })
    }

    /// A code as the file has it.
    fn code(&self, panel: &[u8], group: usize, lane: usize, at: usize) -> i32 {
        let codes = &panel[self.place(group).codes..];
        let byte = |quad: usize| i32::from(codes[quad * LINE + 4 * lane + at % 4]);
        match (self.codes, at / 4) {
            (Codes::U4 { .. }, quad) if quad < 4 => byte(quad) & 15,
            (Codes::U4 { .. }, quad) => byte(quad - 4) >> 4,
            (Codes::S8, quad) => byte(quad) - 128,
        }
    }

    /// Lines of a group's codes.
    fn code_lines(&self) -> usize {
        match self.codes {
            Codes::U4 { .. } => self.group / 8,
            Codes::S8 => self.group / 4,
        }
    }
}

fn pack_group(matrix: &Matrix<'_>, (row, group): (usize, usize), lane: usize, place: Place, panel: &mut [u8]) {
    let (scale, min) = matrix.scale_bits(row, group);
    panel[place.scales + 2 * lane..][..2].copy_from_slice(&scale.to_le_bytes());
    if matrix.codes() == (Codes::U4 { min: true }) {
        panel[place.scales + 2 * (PANEL + lane)..][..2].copy_from_slice(&min.to_le_bytes());
    }
    for at in 0..matrix.group() {
        let code = matrix.code(row, group, at);
        let (quad, byte) = (at / 4, 4 * lane + at % 4);
        match matrix.codes() {
            Codes::U4 { .. } => {
                let code = u8::try_from(code).expect("four bits");
                panel[place.codes + quad % 4 * LINE + byte] |= if quad < 4 { code } else { code << 4 };
            }
            Codes::S8 => panel[place.codes + quad * LINE + byte] = u8::try_from(code + 128).expect("eight bits"),
        }
    }
}

/// A matrix of an adapter, packed: panels of sixteen rows, quads of columns, codes as `code + 128`; one scale for each row.
#[derive(Debug)]
pub struct PackedRows {
    outputs: usize,
    columns: usize,
    scales: Vec<f32>,
    data: Lines,
}

impl PackedRows {
    /// Packs. Of `A` the columns are a site's inputs, of `B` the ranks, filled up with zeros to a multiple of sixteen.
    ///
    /// # Panics
    /// If there is no row, or columns are not a multiple of 16: a caller's mistake.
    #[must_use]
    pub fn new(matrix: &RowCodes<'_>) -> Self {
        let outputs = matrix.scales.len();
        assert!(outputs > 0 && matrix.codes.len().is_multiple_of(outputs), "whole rows");
        let mut packed = Self::zeroed(outputs, matrix.codes.len() / outputs);
        packed.put(0, matrix);
        packed
    }

    /// A matrix of zeros, to be filled by [`PackedRows::put`].
    ///
    /// # Panics
    /// As [`PackedRows::new`].
    #[must_use]
    pub fn zeroed(outputs: usize, columns: usize) -> Self {
        assert!(outputs > 0 && columns > 0 && columns.is_multiple_of(PANEL), "columns filled up to sixteen");
        let rows = outputs.next_multiple_of(PANEL);
        let mut data = Lines::zeroed(rows * columns);
        // Codes of 0 are stored as 128.
        data.bytes_mut().fill(128);
        Self { outputs, columns, scales: vec![0.0; rows], data }
    }

    /// Puts whole rows in place of those from `first` on.
    ///
    /// # Panics
    /// If there are not so many rows, or they have other columns: a caller's mistake.
    pub fn put(&mut self, first: usize, rows: &RowCodes<'_>) {
        let columns = self.columns;
        assert!(first + rows.scales.len() <= self.outputs && rows.codes.len() == rows.scales.len() * columns, "rows of this matrix");
        self.scales[first..][..rows.scales.len()].copy_from_slice(rows.scales);
        for (output, row) in (first..).zip(rows.codes.chunks_exact(columns)) {
            let panel = &mut self.data.bytes_mut()[output / PANEL * columns * PANEL..][..columns * PANEL];
            // Four bytes at a time: an adapter of rank 16 has five million.
            for (line, quad) in panel.as_chunks_mut::<LINE>().0.iter_mut().zip(row.as_chunks::<4>().0) {
                line[output % PANEL * 4..][..4].copy_from_slice(&quad.map(|code| code.cast_unsigned() ^ 0x80));
            }
        }
    }

    /// Takes what [`PackedRows::parts`] gave. None if the lengths are not those of the shape, or a scale is not a finite number.
    #[must_use]
    pub fn from_parts(outputs: usize, columns: usize, scales: Vec<f32>, codes: &[u8]) -> Option<Self> {
        let rows = outputs.checked_next_multiple_of(PANEL)?;
        let is_shape = outputs > 0 && columns > 0 && columns.is_multiple_of(PANEL) && scales.len() == rows;
        if !is_shape || codes.len() != rows.checked_mul(columns)? || scales.iter().any(|scale| !scale.is_finite()) {
            return None;
        }
        let mut data = Lines::zeroed(codes.len());
        data.bytes_mut()[..codes.len()].copy_from_slice(codes);
        Some(Self { outputs, columns, scales, data })
    }

    /// All scales, and the codes of all panels.
    #[must_use]
    pub fn parts(&self) -> (&[f32], &[u8]) {
        (&self.scales, &self.data.bytes()[..self.scales.len() * self.columns])
    }

    /// Rows of the matrix.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Columns of the matrix.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Panels; the last one may hold fewer rows.
    #[must_use]
    pub fn panels(&self) -> usize {
        self.scales.len() / PANEL
    }

    /// The outputs of some panels.
    #[must_use]
    pub fn outputs_of(&self, panels: &Range<usize>) -> Range<usize> {
        panels.start * PANEL..self.outputs.min(panels.end * PANEL)
    }

    /// Bytes: what a step reads for it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.panels() * self.columns * PANEL + self.scales.len() * 4
    }

    /// The scales and the quads of a panel.
    #[must_use]
    pub fn panel(&self, panel: usize) -> (&[f32], &[u8]) {
        let each = self.columns * PANEL;
        (&self.scales[panel * PANEL..][..PANEL], &self.data.bytes()[panel * each..][..each])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_matrix_has_the_values_of_its_file() {
        for (codes, group) in [(Codes::U4 { min: true }, 32), (Codes::U4 { min: false }, 32), (Codes::S8, 32), (Codes::S8, 64)] {
            let (rows, columns) = (21, 3 * group);
            let each = codes.group_bytes(group);
            let mut data: Vec<u8> = (0..rows * 3 * each).map(|at| u8::try_from(at * 37 % 251).unwrap()).collect();
            // Scales and minimums that are finite whatever stands there: the exponent's upper bit is cleared.
            data.chunks_exact_mut(each).for_each(|group| (group[1], group[3]) = (group[1] & 0xbf, group[3] & 0xbf));
            let matrix = Matrix::new(rows, columns, group, codes, &data).unwrap();
            let packed = Packed::new(&matrix);
            let mut out = vec![0f32; columns];
            for row in 0..rows {
                packed.dequantise(row, &mut out);
                for (at, out) in out.iter().enumerate() {
                    let (scale, min) = matrix.scale_bits(row, at / group);
                    let expected = value(codes, matrix.code(row, at / group, at % group), f16_to_f32(scale), f16_to_f32(min));
                    assert_eq!(*out, expected, "{codes:?} {group}: row {row}, column {at}");
                }
            }
        }
    }

    #[test]
    fn packing_adds_no_more_than_what_fills_up_panels_and_lines() {
        let data = vec![0u8; 64 * 18 * 20];
        let packed = Packed::new(&Matrix::new(64, 576, 32, Codes::U4 { min: true }, &data).unwrap());
        assert_eq!(packed.bytes(), data.len());
        let data = vec![0u8; 64 * 18 * 34];
        assert_eq!(Packed::new(&Matrix::new(64, 576, 32, Codes::S8, &data).unwrap()).bytes(), data.len());
    }
}
