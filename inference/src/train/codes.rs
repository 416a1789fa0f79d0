//! Products with frozen weights in whole numbers: what they are, whichever kernel computes them.
//!
//! Both factors are cut into groups of [`GROUP`] values along the sum. A group is 128 codes from -4095 to 4095 and one scale, so a product of two groups
//! is an exact sum of 32 bits: 4095 x 4095 x 128 = 2,146,435,200 < 2^31. It is converted to f32 (rounded to nearest), multiplied by the product of both
//! scales, and added to the sum of the groups before it; every step is one IEEE operation in one order, so every kernel gives the same bits on every machine.
//!
//! Why not bf16: a code is within 1/8190 of its group's largest value, about 2e-4 of a deviation for values as activations have them, where bf16's 8 bits
//! are within 1/512 of the value itself. And sixteen-bit products of pairs (`vpdpwssd`) start as often as f32's fused multiply-adds with twice the products,
//! but `vdpbf16ps` a quarter as often on the Xeon of 2023 that this was written on (1.3 billion a second beside 5.3 and 5.4 to 6.2): there it would
//! take twice the time of f32.

use std::sync::OnceLock;

use rayon::prelude::*;

use super::kernels;

/// Values that share a scale.
pub(super) const GROUP: usize = 128;
/// Pairs of a whole group.
pub(super) const GROUP_PAIRS: usize = GROUP / 2;
/// Outputs computed beside each other: three vectors of sixteen, and a divisor of every width of the models trained here.
pub(super) const COLUMNS: usize = 48;
/// Rows computed beside each other: with three vectors each they fill 24 of 32 registers.
pub(super) const TILE_ROWS: usize = 8;
/// Rows that one thread takes at most at a time: their codes stay in its cache while a matrix passes.
const TASK_ROWS_MAX: usize = 128;
/// Groups after which a panel's next rows come first: 200 kB of it, for a cache of a core. Only the way back through the output head has more, 384.
const BLOCK_GROUPS: usize = 16;
/// Largest code.
const LARGEST: f32 = 4095.0;
/// Groups below this have nothing to say: 4095 over them would leave f32.
const SMALLEST: f32 = 1e-30;

/// Two codes whose products are added at once.
pub(super) type Pair = [i16; 2];

/// Rows as codes: the factor that changes.
#[derive(Debug)]
pub(super) struct CodeRows {
    width: usize,
    /// `[rows, pairs]`.
    codes: Vec<Pair>,
    /// `[rows, groups]`.
    scales: Vec<f32>,
}

/// A frozen matrix, `[outputs, inputs]`, as codes of panels of [`COLUMNS`] outputs.
#[derive(Debug)]
pub(super) struct Panels {
    outputs: usize,
    inputs: usize,
    /// `[panels, pairs]`; outputs beyond the last are zero.
    codes: Vec<[Pair; COLUMNS]>,
    /// `[panels, groups]`.
    scales: Vec<[f32; COLUMNS]>,
}

/// What a kernel multiplies: rows and a panel, some whole groups of both.
pub(super) struct Tile<'a, const R: usize> {
    /// Of each row, its pairs.
    pub(super) rows: [&'a [Pair]; R],
    /// Of each row, its scales.
    pub(super) row_scales: [&'a [f32]; R],
    pub(super) panel: &'a [[Pair; COLUMNS]],
    pub(super) panel_scales: &'a [[f32; COLUMNS]],
}

/// Results of a tile.
pub(super) type Sums<const R: usize> = [[f32; COLUMNS]; R];

/// The functions of one instruction set.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Values of one row to codes and scales, as [`quantise`].
    pub(super) quantise: fn(&[f32], &mut [Pair], &mut [f32]),
    /// As [`add_product`], for [`TILE_ROWS`] rows.
    pub(super) add_product: fn(&Tile<'_, TILE_ROWS>, &mut Sums<TILE_ROWS>),
}

/// Plain code, on any machine.
pub(super) static SCALAR: Kernel = Kernel { quantise, add_product };

/// The quickest kernel of this machine.
pub(super) fn kernel() -> &'static Kernel {
    static KERNEL: OnceLock<&Kernel> = OnceLock::new();
    KERNEL.get_or_init(|| kernels().next().unwrap_or(&SCALAR))
}

/// Every kernel that this machine can run, the quickest first.
pub(super) fn kernels() -> impl Iterator<Item = &'static Kernel> {
    kernels::vector_kernels().into_iter().chain([&SCALAR])
}

fn pairs(width: usize) -> usize {
    width.div_ceil(2)
}

fn groups(width: usize) -> usize {
    width.div_ceil(GROUP)
}

/// Values of one row to codes, group by group. A group with a value that is no finite number gets a scale that is none, so that sums show it.
///
/// `codes: [values / 2]`, `scales: [values / GROUP]`, both rounded up. Always inlined: compiled once for each instruction set.
#[inline(always)]
pub(super) fn quantise(values: &[f32], codes: &mut [Pair], scales: &mut [f32]) {
    // Adding 1.5 x 2^23 rounds to the nearest integer and leaves it in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const MAGNITUDE: u32 = 0x7fff_ffff;
    for ((values, codes), scale) in values.chunks(GROUP).zip(codes.chunks_mut(GROUP_PAIRS)).zip(scales) {
        let codes = codes.as_flattened_mut();
        // Of values without a sign the bits are ordered as they are, above all of them infinity and then what is no number.
        let largest = f32::from_bits(values.iter().fold(0, |most, value| most.max(value.to_bits() & MAGNITUDE)));
        if !(SMALLEST..f32::INFINITY).contains(&largest) {
            *scale = if largest < SMALLEST { 0.0 } else { f32::NAN };
            codes.fill(0);
            continue;
        }
        *scale = largest / LARGEST;
        let inverse = LARGEST / largest;
        for (code, value) in codes.iter_mut().zip(values) {
            #[expect(clippy::cast_possible_truncation, reason = "the lowest 16 bits are the code")]
            let rounded = (value * inverse + ROUND).to_bits() as i16;
            *code = rounded;
        }
        codes[values.len()..].fill(0);
    }
}

/// Adds the product of rows and a panel, one group after the other.
fn add_product<const R: usize>(tile: &Tile<'_, R>, sums: &mut Sums<R>) {
    for (index, (panel, panel_scales)) in tile.panel.chunks(GROUP_PAIRS).zip(tile.panel_scales).enumerate() {
        for (row, sums) in sums.iter_mut().enumerate() {
            let codes = &tile.rows[row][index * GROUP_PAIRS..][..panel.len()];
            let mut whole = [0i32; COLUMNS];
            for (a, panel) in codes.iter().zip(panel) {
                for (sum, b) in whole.iter_mut().zip(panel) {
                    *sum += i32::from(a[0]) * i32::from(b[0]) + i32::from(a[1]) * i32::from(b[1]);
                }
            }
            let row_scale = tile.row_scales[row][index];
            for ((sum, whole), scale) in sums.iter_mut().zip(whole).zip(panel_scales) {
                #[expect(clippy::cast_precision_loss, reason = "rounded to nearest, as the instruction does")]
                let whole = whole as f32;
                *sum += whole * (scale * row_scale);
            }
        }
    }
}

impl CodeRows {
    /// Codes of `values: [rows, width]`.
    pub(super) fn new(values: &[f32], width: usize, kernel: &Kernel) -> Self {
        assert!(width > 0 && values.len().is_multiple_of(width), "{} values are rows of {width}", values.len());
        let rows = values.len() / width;
        let mut codes = vec![[0; 2]; rows * pairs(width)];
        let mut scales = vec![0f32; rows * groups(width)];
        let parts = codes.par_chunks_mut(pairs(width)).zip(scales.par_chunks_mut(groups(width)));
        parts.zip(values.par_chunks(width)).with_min_len(16).for_each(|((codes, scales), values)| (kernel.quantise)(values, codes, scales));
        Self { width, codes, scales }
    }

    /// Number of rows.
    pub(super) fn count(&self) -> usize {
        self.codes.len() / pairs(self.width)
    }
}

impl Panels {
    /// Codes of `weight: [outputs, inputs]`, whose products are sums over its columns.
    pub(super) fn new(weight: &[f32], outputs: usize, inputs: usize, kernel: &Kernel) -> Self {
        Self::of(outputs, inputs, kernel, |output, values| values.copy_from_slice(&weight[output * inputs..][..inputs]))
    }

    /// Codes of the transpose of `weight: [inputs, outputs]`: sums over its rows, the way back.
    pub(super) fn transposed(weight: &[f32], outputs: usize, inputs: usize, kernel: &Kernel) -> Self {
        Self::of(outputs, inputs, kernel, |output, values| {
            for (value, row) in values.iter_mut().zip(weight.chunks_exact(outputs)) {
                *value = row[output];
            }
        })
    }

    fn of(outputs: usize, inputs: usize, kernel: &Kernel, fill: impl Fn(usize, &mut [f32]) + Sync) -> Self {
        let count = outputs.div_ceil(COLUMNS);
        let mut codes = vec![[[0; 2]; COLUMNS]; count * pairs(inputs)];
        let mut scales = vec![[0f32; COLUMNS]; count * groups(inputs)];
        let panels = codes.par_chunks_mut(pairs(inputs)).zip(scales.par_chunks_mut(groups(inputs)));
        panels.enumerate().for_each(|(panel, (codes, scales))| {
            let (mut values, mut row, mut row_scales) = (vec![0f32; inputs], vec![[0; 2]; pairs(inputs)], vec![0f32; groups(inputs)]);
            for (column, output) in (panel * COLUMNS..outputs).take(COLUMNS).enumerate() {
                fill(output, &mut values);
                (kernel.quantise)(&values, &mut row, &mut row_scales);
                for (to, from) in codes.iter_mut().zip(&row) {
                    to[column] = *from;
                }
                for (to, from) in scales.iter_mut().zip(&row_scales) {
                    to[column] = *from;
                }
            }
        });
        Self { outputs, inputs, codes, scales }
    }

    /// `rows` times the transpose of the matrix: `[rows, outputs]`.
    pub(super) fn product(&self, rows: &CodeRows, kernel: &Kernel) -> Vec<f32> {
        assert_eq!(rows.width, self.inputs, "rows have a value for each input");
        let mut out = vec![0f32; rows.count() * self.outputs];
        let share = rows.count().div_ceil(rayon::current_num_threads()).next_multiple_of(TILE_ROWS).clamp(TILE_ROWS, TASK_ROWS_MAX);
        out.par_chunks_mut((share * self.outputs).max(1)).enumerate().for_each(|(task, out)| self.part(rows, task * share, out, kernel));
        out
    }

    /// Rows from `first` on, as many as `out` has room for.
    fn part(&self, rows: &CodeRows, first: usize, out: &mut [f32], kernel: &Kernel) {
        let (pairs, groups) = (pairs(self.inputs), groups(self.inputs));
        let panels = self.codes.chunks_exact(pairs).zip(self.scales.chunks_exact(groups));
        for (panel, (panel_codes, panel_scales)) in panels.enumerate() {
            let columns = panel * COLUMNS..self.outputs.min((panel + 1) * COLUMNS);
            let blocks = panel_codes.chunks(BLOCK_GROUPS * GROUP_PAIRS).zip(panel_scales.chunks(BLOCK_GROUPS));
            for (block, (panel, panel_scales)) in blocks.enumerate() {
                let (of_pairs, of_groups) = (block * BLOCK_GROUPS * GROUP_PAIRS, block * BLOCK_GROUPS);
                for (index, out) in out.chunks_mut(TILE_ROWS * self.outputs).enumerate() {
                    // Where rows end within a tile, the last one stands for those that are not there.
                    let row = |offset: usize| (first + index * TILE_ROWS + offset).min(rows.count() - 1);
                    let tile = Tile {
                        rows: std::array::from_fn(|offset| &rows.codes[row(offset) * pairs + of_pairs..][..panel.len()]),
                        row_scales: std::array::from_fn(|offset| &rows.scales[row(offset) * groups + of_groups..][..panel_scales.len()]),
                        panel,
                        panel_scales,
                    };
                    let mut sums = [[0f32; COLUMNS]; TILE_ROWS];
                    for (out, sums) in out.chunks_exact(self.outputs).zip(&mut sums) {
                        sums[..columns.len()].copy_from_slice(&out[columns.clone()]);
                    }
                    (kernel.add_product)(&tile, &mut sums);
                    for (out, sums) in out.chunks_exact_mut(self.outputs).zip(&sums) {
                        out[columns.clone()].copy_from_slice(&sums[..columns.len()]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
