//! Weights of the profile `fast`: 8 bits with one scale for each output, whatever the file has.
//!
//! The layout is that of an adapter's matrix ([`PackedRows`]): a panel is sixteen outputs, its codes stand in quads as `code + 128`. With one scale
//! for an output the sums of groups are combined by the scales of the activations alone: of a group of 128 that is, for sixteen outputs, one conversion
//! and one fused multiply-add behind 32 `vpdpbusd`, where the codes of files take four instructions behind eight. What a group's zero is multiplied
//! by, the sum of its stored codes, is kept here: 32 bytes for the 2,048 of a group of 128, and below 2^15 because a group has 128 codes at most.

use std::ops::Range;

use crate::numeric::{COLUMNS_MAX, RANGE_GROUP_MAX, RowCodes};

use super::arena::Lines;
use super::pack::{PANEL, Packed, PackedRows};

/// Bytes of the sums of a group of a panel.
pub(crate) const SUMS_BYTES: usize = 2 * PANEL;

/// A matrix of weights with one scale for each output, packed.
#[derive(Debug)]
pub struct Recoded {
    rows: PackedRows,
    group: usize,
    /// By panel, then by group: sixteen sums of stored codes, 16 bits each.
    sums: Lines,
}

impl Recoded {
    /// Packs a matrix whose inputs come in groups of `group`.
    ///
    /// # Panics
    /// As [`Recoded::zeroed`], or if codes are not whole rows.
    #[must_use]
    pub fn new(matrix: &RowCodes<'_>, group: usize) -> Self {
        let outputs = matrix.scales.len();
        assert!(outputs > 0 && matrix.codes.len().is_multiple_of(outputs), "whole rows");
        let mut recoded = Self::zeroed(outputs, matrix.codes.len() / outputs, group);
        recoded.put(0, matrix);
        recoded
    }

    /// A matrix of zeros, to be filled by [`Recoded::put`].
    ///
    /// # Panics
    /// If there are no outputs, or inputs are none, too many or not whole groups of 32, 64, 96 or 128: a caller's mistake.
    #[must_use]
    pub fn zeroed(outputs: usize, columns: usize, group: usize) -> Self {
        assert!(group > 0 && group.is_multiple_of(32) && group <= RANGE_GROUP_MAX, "groups of {group}");
        assert!(columns.is_multiple_of(group) && columns <= COLUMNS_MAX, "{columns} inputs in groups of {group}");
        let rows = PackedRows::zeroed(outputs, columns);
        let mut sums = Lines::zeroed(rows.panels() * (columns / group) * SUMS_BYTES);
        let sum = u16::try_from(128 * group).expect("at most 128 codes").to_le_bytes();
        sums.bytes_mut().as_chunks_mut::<2>().0.fill(sum);
        Self { rows, group, sums }
    }

    /// Puts whole rows in place of those from `first` on.
    ///
    /// # Panics
    /// If there are not so many rows, or they have other columns: a caller's mistake.
    pub fn put(&mut self, first: usize, rows: &RowCodes<'_>) {
        self.rows.put(first, rows);
        let (group, groups) = (self.group, self.groups());
        for (output, row) in (first..).zip(rows.codes.chunks_exact(self.columns())) {
            for (at, codes) in row.chunks_exact(group).enumerate() {
                let sum: u16 = codes.iter().map(|code| u16::from(code.cast_unsigned() ^ 0x80)).sum();
                let place = (output / PANEL * groups + at) * SUMS_BYTES + 2 * (output % PANEL);
                self.sums.bytes_mut()[place..place + 2].copy_from_slice(&sum.to_le_bytes());
            }
        }
    }

    /// Outputs.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.rows.outputs()
    }

    /// Inputs.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.rows.columns()
    }

    /// Inputs that share a scale of the activations.
    #[must_use]
    pub fn group(&self) -> usize {
        self.group
    }

    /// Groups of an output.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.columns() / self.group
    }

    /// Panels; the last one may hold fewer outputs than the rest.
    #[must_use]
    pub fn panels(&self) -> usize {
        self.rows.panels()
    }

    /// The outputs of some panels.
    #[must_use]
    pub fn outputs_of(&self, panels: &Range<usize>) -> Range<usize> {
        self.rows.outputs_of(panels)
    }

    /// Bytes of a panel: what is read for it in a step.
    #[must_use]
    pub fn panel_bytes(&self) -> usize {
        self.columns() * PANEL + self.groups() * SUMS_BYTES + PANEL * size_of::<f32>()
    }

    /// Bytes of the whole.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.panels() * self.panel_bytes()
    }

    /// The scales and the quads of a panel.
    #[must_use]
    pub fn panel(&self, panel: usize) -> (&[f32], &[u8]) {
        self.rows.panel(panel)
    }

    /// The sums of a panel, group after group: sixteen of 16 bits each (little endian).
    #[must_use]
    pub fn sums(&self, panel: usize) -> &[u8] {
        let each = self.groups() * SUMS_BYTES;
        &self.sums.bytes()[panel * each..][..each]
    }
}

/// The weights of a product, as a profile has them.
#[derive(Debug)]
pub enum Weights {
    /// Of `exact`: the codes of the file.
    Grouped(Packed),
    /// Of `fast`: 8 bits with one scale for each output.
    Recoded(Recoded),
}

macro_rules! of_both {
    ($($(#[$doc:meta])* $name:ident -> $answer:ty;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(&self) -> $answer {
            match self {
                Self::Grouped(weights) => weights.$name(),
                Self::Recoded(weights) => weights.$name(),
            }
        }
    )*};
}

impl Weights {
    of_both! {
        /// Outputs.
        outputs -> usize;
        /// Inputs.
        columns -> usize;
        /// Inputs that share a scale of the activations.
        group -> usize;
        /// Panels; the last one may hold fewer outputs than the rest.
        panels -> usize;
        /// Bytes of a panel: what is read for it in a step.
        panel_bytes -> usize;
        /// Bytes of the whole.
        bytes -> usize;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_stored_codes_and_what_fills_up_a_panel_is_zero() {
        let (outputs, columns, group) = (18, 128, 64);
        let codes: Vec<i8> = (0..outputs * columns).map(|at| i8::try_from(at * 37 % 255).unwrap_or(-3)).collect();
        let recoded = Recoded::new(&RowCodes { codes: &codes, scales: &[1.0; 18] }, group);
        for panel in 0..recoded.panels() {
            let (_, quads) = recoded.panel(panel);
            for (at, sum) in recoded.sums(panel).as_chunks::<2>().0.iter().enumerate() {
                let (of, lane) = (at / PANEL, at % PANEL);
                let lines = quads[of * group * PANEL..][..group * PANEL].chunks_exact(4 * PANEL);
                let expected: u16 = lines.flat_map(|line| &line[4 * lane..][..4]).map(|code| u16::from(*code)).sum();
                assert_eq!(u16::from_le_bytes(*sum), expected, "panel {panel}, group {of}, lane {lane}");
            }
        }
        assert_eq!(recoded.bytes(), 2 * (128 * 16 + 2 * 32 + 64));
    }

    #[test]
    #[should_panic(expected = "groups of 160")]
    fn groups_that_no_sum_of_16_bits_holds_are_refused() {
        let _ = Recoded::zeroed(16, 320, 160);
    }
}
