//! The numbers of the profile `exact`: plain functions that define every bit, and the order of operations behind it.
//!
//! A path of the CPU ([`crate::backend::cpu::kernel`]) or of a GPU is right when it gives the bits of these functions,
//! for any batch, tiling, adapter mix, split into prefill and decoding, and number of threads. The rules:
//!
//! 1. Basic operations are IEEE 754 single precision, rounded to nearest even: add, subtract, multiply, divide, square
//!    root, and a fused multiply-add exactly where [`f32::mul_add`] stands. Nothing flushes denormals, nothing is
//!    contracted or reassociated.
//! 2. A dot product of integer codes is an exact `i32`, so its order is free; it stays below 2^24, so its `f32` is exact.
//!    What is combined as `f32` has one order: groups ascending ([`product`]), blocks of [`BLOCK_KEYS`] keys ascending
//!    ([`attend`]).
//! 3. A sum of `f32` ([`norm`], the softmax) has sixteen partial sums, element `i` in number `i mod 16`, folded 8-4-2-1
//!    ([`fold`]). A largest value is free of order.
//! 4. [`exp`] is a polynomial of our own, an inverse square root is `1.0 / x.sqrt()`; sine, cosine and logarithm are
//!    ours too ([`sin_cos`], [`ln`]), in double precision. No function of a maths library is in the profile.
//! 5. A row that meets a magnitude of [`MAGNITUDE_MAX`] or more, an infinity or a NaN fails as a whole
//!    ([`quantise_range`], [`quantise`] and [`norm`] say so); the rows beside it do not. Between those limits nothing below overflows, so
//!    no infinity or NaN is ever swallowed.
//!
//! Weights keep the codes of their file ([`Matrix`]). Inputs of products are `i8` with a scale and a zero for each group of a row
//! ([`quantise_range`]); queries, keys, values and ranks of adapters are `i8` with a scale for each head or row ([`quantise`]).
//! Why groups and not one scale for a row: perplexity 0.2 to 0.3 % above `f32`, against 3 to 5 % (`examples/perplexity.rs`).
//!
//! Bounds, tested: [`exp`] within 2 units in the last place of the exact value, [`exp64`], [`ln`] and [`sin_cos`] within
//! 2 of theirs (for a sine or cosine: 2^-52 absolute, angles below 2^25).

mod adapter;
mod attention;
mod functions;
mod half;
mod weight;
mod weights;

pub use adapter::{RANK_MAX, RowCodes, expand, rank_codes, recoded_product, shrink};
pub use attention::{BLOCK_KEYS, Keys, Queries, attend};
#[cfg(all(target_arch = "x86_64", feature = "kernels"))]
pub(crate) use functions::polynomial;
pub use functions::{exp, exp64, ln, rope_angle, rope_frequency, sin_cos};
pub use half::{f16_to_f32, f32_to_f16};
pub use weight::{WEIGHT_ONE, weight};
pub use weights::{Codes, Matrix, MatrixError, product, quantise_weights, value};

/// Partial sums of a sum of `f32`: a vector of AVX-512, two of AVX2, four of NEON.
pub const LANES: usize = 16;

/// A group whose largest magnitude, or range, is below this has the scale 0: 2^-100. So neither `127 / amax` nor `amax / 127` leaves the
/// normal numbers.
pub const MAGNITUDE_MIN: f32 = f32::from_bits((127 - 100) << 23);

/// A row with a magnitude of this or more fails: 2^40. Scales of weights are below 2^16, so a product of 2^20 columns stays
/// below 2^100, and a score of attention below 2^95.
pub const MAGNITUDE_MAX: f32 = f32::from_bits((127 + 40) << 23);

/// Columns a matrix may have, so that sums of codes and of products keep inside the bounds above.
pub const COLUMNS_MAX: usize = 1 << 20;

/// Quantised activations of some rows, as products read them.
///
/// `codes: [rows, columns]`, `scales`, `zeros`, `sums` and `offsets: [rows, columns / group]`. A value is `scale * (code + zero)`.
#[derive(Debug, Clone, Copy)]
pub struct CodeRows<'a> {
    /// Number of rows.
    pub rows: usize,
    /// Codes in a row; a multiple of `group`.
    pub columns: usize,
    /// Codes that share a scale.
    pub group: usize,
    /// -127 to 127.
    pub codes: &'a [i8],
    /// Value of one step of a group's codes.
    pub scales: &'a [f32],
    /// What is added to each code of a group, and the sum of the group again.
    pub zeros: &'a [Zero],
    /// Sum of a group's codes, `zero` added to each.
    pub sums: &'a [i32],
    /// `scale * sum` of a group, rounded once: what a group's minimum is multiplied by.
    pub offsets: &'a [f32],
}

impl<'a> CodeRows<'a> {
    /// Groups in a row.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.columns / self.group
    }

    /// Panics unless every array has the length that rows, columns and group say. Kernels call it once, and then read
    /// without looking again.
    ///
    /// # Panics
    /// If an array is of another length: a caller's mistake.
    #[inline]
    pub fn check(&self) {
        assert!(self.group > 0 && self.columns.is_multiple_of(self.group) && self.columns <= COLUMNS_MAX, "whole groups in a row");
        assert!(self.codes.len() == self.rows * self.columns, "codes of every row");
        let groups = self.rows * self.groups();
        assert!(self.scales.len() == groups && self.zeros.len() == groups, "every group has its numbers");
        assert!(self.sums.len() == groups && self.offsets.len() == groups, "every group has its sums");
    }

    /// One row, alone.
    #[must_use]
    pub fn row(&self, row: usize) -> Self {
        self.part(row, 1)
    }

    /// `count` rows from `first`.
    #[must_use]
    pub fn part(&self, first: usize, count: usize) -> Self {
        let groups = self.groups();
        let (codes, each) = (first * self.columns..(first + count) * self.columns, first * groups..(first + count) * groups);
        Self {
            rows: count,
            codes: &self.codes[codes],
            scales: &self.scales[each.clone()],
            zeros: &self.zeros[each.clone()],
            sums: &self.sums[each.clone()],
            offsets: &self.offsets[each],
            ..*self
        }
    }
}

/// What is added to each code of a group, -127 to 126, and the sum of the group, beside each other: kernels multiply both by their part of
/// the weights' sums in one instruction, so they are aligned as one number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C, align(4))]
pub struct Zero {
    /// What is added.
    pub zero: i16,
    /// Sum of `code + zero`: within 2^15 for the [`RANGE_GROUP_MAX`] codes of a group.
    pub sum: i16,
}

/// Codes of a group that [`quantise_range`] takes: of so many the sum has 16 bits.
pub const RANGE_GROUP_MAX: usize = 128;

impl Zero {
    /// From what is added and a group's sum. Of a row that fails the lower halves of whatever came.
    #[inline(always)]
    pub(crate) fn new(zero: i32, sum: i32) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "within 16 bits in a row that does not fail")]
        let pair = Self { zero: zero as i16, sum: sum as i16 };
        pair
    }

    /// What is added.
    #[inline(always)]
    #[must_use]
    pub fn zero(self) -> i32 {
        i32::from(self.zero)
    }

    /// The group's sum. Also of a row that fails it has 16 bits, so that products of it are not beyond 32.
    #[inline(always)]
    #[must_use]
    pub fn sum(self) -> i32 {
        i32::from(self.sum)
    }
}

/// Where quantised activations of one or more rows go: the arrays of [`CodeRows`], but for `zeros`, which only
/// [`quantise_range`] has.
#[derive(Debug)]
pub struct CodesMut<'a> {
    /// One code for each value.
    pub codes: &'a mut [i8],
    /// One for each group.
    pub scales: &'a mut [f32],
    /// One for each group.
    pub sums: &'a mut [i32],
    /// One for each group.
    pub offsets: &'a mut [f32],
}

impl CodesMut<'_> {
    /// Panics unless every array has the length for `values` values in groups of `group`.
    ///
    /// # Panics
    /// If an array is of another length: a caller's mistake.
    #[inline]
    pub fn check(&self, values: usize, group: usize) {
        assert!(group > 0 && values.is_multiple_of(group), "whole groups");
        assert!(self.codes.len() == values, "a code for each value");
        let groups = values / group;
        assert!(self.scales.len() == groups && self.sums.len() == groups && self.offsets.len() == groups, "every group has its numbers");
    }
}

impl CodesMut<'_> {
    /// The same for [`quantise_range`].
    ///
    /// # Panics
    /// If an array is of another length, or groups are too wide: a caller's mistake.
    #[inline]
    pub fn check_ranges(&self, values: usize, group: usize, zeros: &[Zero]) {
        self.check(values, group);
        assert!(group <= RANGE_GROUP_MAX && zeros.len() == self.scales.len(), "a zero for each group of at most 128");
    }
}

/// Quantises inputs of products in groups of `group`, each by the range of its values; false if the row fails (rule 5), and then
/// nothing of the output means anything.
///
/// Of each group, with `high` the largest value and `low` the smallest, 0 if there is none above or below it, and `span = high - low`
/// rounded once: below [`MAGNITUDE_MIN`] scale and inverse are 0, else the scale is `span / 253` and the inverse `253 / span`. The zero
/// is `high * inverse` rounded to the nearest integer, halves to even, less 127; a code is `x * inverse` so rounded, less the zero. So the
/// largest code is 127, and none is below -127: the codes of a group are at most 254 apart. The sum is of `code + zero`, the
/// offset is `scale * sum as f32`.
///
/// Why: a few inputs of a trained model are far out, always to one side. A step that is a share of the range and not of the
/// largest magnitude is up to half as long in their groups, where nearly all of the error is: 0.4 of the squared error of all inputs.
#[inline(always)]
pub fn quantise_range(x: &[f32], group: usize, out: &mut CodesMut<'_>, zeros: &mut [Zero]) -> bool {
    out.check_ranges(x.len(), group, zeros);
    let mut fine = true;
    for (at, (x, codes)) in x.chunks_exact(group).zip(out.codes.chunks_exact_mut(group)).enumerate() {
        let (low, high) = range(x);
        fine &= is_in_range(low, high);
        let (scale, inverse, zero) = range_steps(low, high);
        let mut sum = 0i32;
        for (x, code) in x.iter().zip(codes) {
            let whole = nearest_integer(x * inverse);
            #[expect(clippy::cast_possible_truncation, reason = "-127 to 127 in a row that does not fail")]
            let narrow = whole.wrapping_sub(zero) as i8;
            *code = narrow;
            sum = sum.wrapping_add(whole);
        }
        zeros[at] = Zero::new(zero, sum);
        (out.scales[at], out.sums[at], out.offsets[at]) = (scale, zeros[at].sum(), scale * small(sum));
    }
    fine
}

/// The smallest value that is not above 0 and the largest that is not below, as bits: of values without a sign the order of integers is the
/// order of numbers, and of values with one the order of unsigned integers is that of their magnitudes. An infinity, and a NaN beyond it,
/// is the last of its sign.
#[inline(always)]
pub(crate) fn range(x: &[f32]) -> (u32, u32) {
    x.iter().fold((SIGN, 0), |(low, high), x| {
        let bits = x.to_bits();
        (low.max(bits), high.cast_signed().max(bits.cast_signed()).cast_unsigned())
    })
}

/// The bits of -0.
pub(crate) const SIGN: u32 = 1 << 31;

/// Whether both ends of a range are below [`MAGNITUDE_MAX`].
#[inline(always)]
pub(crate) fn is_in_range(low: u32, high: u32) -> bool {
    (low ^ SIGN).max(high) < MAGNITUDE_MAX.to_bits()
}

/// Steps that the range of a group is cut into.
pub(crate) const RANGE_STEPS: f32 = 253.0;

/// Scale of a group, what its values are multiplied by, and its zero.
#[inline(always)]
pub(crate) fn range_steps(low: u32, high: u32) -> (f32, f32, i32) {
    let high = f32::from_bits(high);
    let span = high - f32::from_bits(low);
    let (scale, inverse) = if span < MAGNITUDE_MIN { (0.0, 0.0) } else { (span / RANGE_STEPS, RANGE_STEPS / span) };
    (scale, inverse, nearest_integer(high * inverse).wrapping_sub(127))
}

/// The nearest integer, halves to even, of a value within 2^31. Others occur only in a row that fails.
#[inline(always)]
pub(crate) fn nearest_integer(x: f32) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "at most 254 where it counts; the cast saturates elsewhere")]
    let integer = x.round_ties_even() as i32;
    integer
}

/// Quantises values that take part in attention, ranks or weights of an adapter in groups of `group`; false if the row fails (rule 5), and
/// then nothing of the output means anything.
///
/// Of each group, with `amax` the largest magnitude: below [`MAGNITUDE_MIN`] the scale is 0 and so are the codes;
/// else the scale is `amax / 127`, and a code is `x * (127 / amax)` rounded to the nearest integer, halves to even. No
/// clamp: the product is at most 127 times (1 + 2^-23). The sum is of the codes, the offset is `scale * sum as f32`.
#[inline(always)]
pub fn quantise(x: &[f32], group: usize, out: &mut CodesMut<'_>) -> bool {
    out.check(x.len(), group);
    let mut fine = true;
    for (at, (x, codes)) in x.chunks_exact(group).zip(out.codes.chunks_exact_mut(group)).enumerate() {
        let amax = magnitude(x);
        fine &= amax < MAGNITUDE_MAX.to_bits();
        let (scale, inverse) = steps(f32::from_bits(amax));
        let mut sum = 0i32;
        for (x, code) in x.iter().zip(codes) {
            *code = nearest(x * inverse);
            sum += i32::from(*code);
        }
        (out.scales[at], out.sums[at], out.offsets[at]) = (scale, sum, scale * small(sum));
    }
    fine
}

/// The largest magnitude, as bits: of values without their sign the order of bits is the order of numbers, an infinity
/// above them and a NaN above that.
#[inline(always)]
pub(crate) fn magnitude(x: &[f32]) -> u32 {
    x.iter().fold(0, |most, x| most.max(x.to_bits() & 0x7fff_ffff))
}

/// Scale of a group and what its values are multiplied by, from its largest magnitude.
#[inline(always)]
pub(crate) fn steps(amax: f32) -> (f32, f32) {
    if amax < MAGNITUDE_MIN { (0.0, 0.0) } else { (amax / 127.0, 127.0 / amax) }
}

/// Scale of a block of weights and what they are multiplied by, from the largest.
#[inline(always)]
pub(crate) fn weight_steps(largest: f32) -> (f32, f32) {
    if largest < MAGNITUDE_MIN { (0.0, 0.0) } else { (largest / 255.0, 255.0 / largest) }
}

/// Code of a weight times the inverse: 0 to 255, and the row's numbers are finite, or it failed.
#[inline(always)]
pub(crate) fn weight_code(x: f32) -> u8 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 255 where it counts; the cast saturates elsewhere")]
    let code = x.round_ties_even() as u8;
    code
}

/// The nearest integer, halves to even, of a value within 127.5. Others occur only in a row that fails.
#[inline(always)]
pub(crate) fn nearest(x: f32) -> i8 {
    #[expect(clippy::cast_possible_truncation, reason = "at most 127 where it counts; the cast saturates elsewhere")]
    let code = x.round_ties_even() as i8;
    code
}

/// An integer below 2^24 as `f32`, exactly.
#[inline(always)]
pub(crate) fn small(integer: i32) -> f32 {
    integer as f32
}

/// Folds sixteen partial sums: `i + (i + 8)`, of those `i + (i + 4)`, then 2, then 1.
#[inline(always)]
#[must_use]
pub fn fold(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for at in 0..half {
            lanes[at] += lanes[at + half];
        }
    }
    lanes[0]
}

/// `RMSNorm` of a row; false if the sum of squares is not finite: the row fails.
///
/// Partial sums `lane = x.mul_add(x, lane)` (rule 3), `mean = sum / n`, `inverse = 1 / sqrt(mean + epsilon)`, and every
/// output is `(x * inverse) * weight`. `x`, `weight` and `out` have one length, at most [`COLUMNS_MAX`].
/// Also of one head, where a family norms queries and keys.
#[inline(always)]
pub fn norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) -> bool {
    assert!(x.len() == weight.len() && x.len() == out.len(), "one length");
    let mut lanes = [0f32; LANES];
    for part in x.chunks(LANES) {
        for (lane, x) in lanes.iter_mut().zip(part) {
            *lane = x.mul_add(*x, *lane);
        }
    }
    let sum = fold(lanes);
    let inverse = inverse_rms(sum, x.len(), epsilon);
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = (x * inverse) * weight;
    }
    sum.is_finite()
}

/// `1 / sqrt(sum / n + epsilon)`.
#[inline(always)]
pub(crate) fn inverse_rms(sum: f32, count: usize, epsilon: f32) -> f32 {
    1.0 / (sum / count_f32(count) + epsilon).sqrt()
}

/// A count below 2^24 as `f32`, exactly.
#[inline(always)]
pub(crate) fn count_f32(count: usize) -> f32 {
    debug_assert!(count <= COLUMNS_MAX, "a row's width");
    count as f32
}

/// Rotates the two halves of every head in place (`RoPE`): with `a` from the lower and `b` from the upper half,
/// `a' = a.mul_add(cos, -(b * sin))` and `b' = b.mul_add(cos, a * sin)`.
///
/// `heads` is whole heads of `head_dim`; `cosines` and `sines` have `head_dim / 2` elements, from [`rope_angle`].
#[inline(always)]
pub fn rotate(heads: &mut [f32], head_dim: usize, cosines: &[f32], sines: &[f32]) {
    let half = head_dim / 2;
    assert!(heads.len().is_multiple_of(head_dim) && cosines.len() == half && sines.len() == half, "whole heads, half as many angles");
    for head in heads.chunks_exact_mut(head_dim) {
        let (low, high) = head.split_at_mut(half);
        for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
            let (a, b) = (*low, *high);
            *low = a.mul_add(*cos, -(b * sin));
            *high = b.mul_add(*cos, a * sin);
        }
    }
}

/// `gate = silu(gate) * up`: `(gate * (1 / (1 + exp(-gate)))) * up`.
#[inline(always)]
pub fn gated(gate: &mut [f32], up: &[f32]) {
    assert!(gate.len() == up.len(), "one length");
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = (*gate * (1.0 / (1.0 + exp(-*gate)))) * up;
    }
}

#[cfg(test)]
mod tests;
