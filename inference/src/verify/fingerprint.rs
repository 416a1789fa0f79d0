//! Fingerprints of activations: what an answer in a profile whose numbers differ from machine to machine is held to (TOPLOC, arXiv 2501.16007).
//!
//! Goals: a node commits to what its model's head read, in 8 bytes a token, so that whoever computes the same tokens with the same model finds the same
//! within rounding, and with another model, prompt, adapter or coarser numbers does not. Non-goals: certainty. A fingerprint is evidence and no proof:
//! nobody is slashed for one that differs, and who has the model and its answer's tokens can make the right one without having sampled them.
//!
//! Of each [`POSITIONS`] positions of an attempt, counted from its first, the rows that the head read to choose them stand one behind the other:
//! `[positions, hidden]`. The [`TOP`] numbers of largest magnitude as bfloat16 (nearest, halves to even) are taken, of equal ones the first. With the
//! largest modulus m at most 65,497 under which their indices differ, a polynomial over the field of 65,497 elements goes through all
//! (index mod m, bits): its coefficients and m are the fingerprint. Whoever compares takes the largest of **its own** numbers and asks the polynomial
//! what they were: exponents must be equal, all but [`EXPONENTS_MAX`] of 128, and where they are the mantissas close. An index that the prover did not
//! have among its largest gives some arbitrary bits, so it counts as a wrong exponent: what was the largest is compared as well.
//!
//! Bytes are those of the package `toploc` 0.1.6, and so are the counts of a comparison; golden vectors made with it hold this file to that. The
//! one difference is in what it leaves open: of equal magnitudes at the edge `torch.topk` takes any, this the first.
//!
//! Cost, counted and not measured: a position one selection among its numbers, a fingerprint some 50,000 products, a comparison 16,000; 512 bytes a position
//! until the receipt, because how far it will reach is not known before. SmolLM2's keys and values of a token take 12.2 kB.

use types::fingerprint::{Fingerprint, POSITIONS, PRIME, TOP};

use super::Hidden;

/// Of 128 numbers, how many exponents may differ: the authors' validator asks for 90 equal ones. Of fewer numbers in proportion. This bound and the next
/// two are theirs, found with bfloat16 on GPUs; between machines of this profile they are not measured yet. On SmolLM2 the numbers of `exact` are well within
/// them of those of `fast`; those of the same words behind another prompt were beyond them in 18 of 21 cases (`tests/agreement.rs`): of 32 tokens a
/// fingerprint shows another prompt often and not always.
pub const EXPONENTS_MAX: u32 = 38;
/// Largest mean difference of mantissas, in units of their last bit (of 128), where exponents are equal.
pub const MANTISSA_MEAN_MAX: u32 = 10;
/// Largest median of them; of an even number of differences the upper one of the middle.
pub const MANTISSA_MEDIAN_MAX: u32 = 8;

/// Numbers of a row at most: an index has 16 bits where it is packed.
pub const WIDTH_MAX: usize = 1 << 16;

/// Bits of a number rounded to bfloat16: to the nearest, halves to even.
#[must_use]
pub fn bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = if value.is_nan() { 0x7fc0_0000 } else { bits + 0x7fff + (bits >> 16 & 1) };
    u16::try_from(rounded >> 16).expect("the upper half")
}

/// The largest numbers of each position of an answer, gathered while it is decoded.
///
/// An entry is a number packed so that entries of a row stand in the order of what is taken first: magnitude, then the complement of the index, then the sign.
#[derive(Debug, Clone)]
pub struct Largest {
    width: u32,
    /// Numbers kept of each position.
    kept: usize,
    entries: Vec<u32>,
    /// Positions that room was made for, those taken in among them.
    room: usize,
    /// Room for one row.
    row: Vec<u32>,
}

/// A number of largest magnitude: where it stands in the rows of a fingerprint, and its bits.
pub type Point = (u32, u16);

impl Largest {
    /// Of rows of so many numbers.
    ///
    /// # Panics
    /// If there are none, or more than [`WIDTH_MAX`]: an engine gathers none of a model with such rows.
    #[must_use]
    pub fn new(width: usize) -> Self {
        assert!((1..=WIDTH_MAX).contains(&width), "rows of {width} numbers");
        let of_width = u32::try_from(width).expect("checked");
        Self { width: of_width, kept: width.min(TOP), entries: Vec::new(), room: 0, row: Vec::with_capacity(width) }
    }

    /// Makes room for so many positions more, so that taking them in allocates nothing.
    pub fn reserve(&mut self, positions: usize) {
        self.room = self.room.max(self.positions()).saturating_add(positions);
        self.entries.reserve(self.room.saturating_mul(self.kept) - self.entries.len());
    }

    /// Takes in the row that the next position was chosen from.
    ///
    /// # Panics
    /// If it has another width.
    pub fn push(&mut self, row: impl Iterator<Item = f32>) {
        self.row.clear();
        self.row.extend((0u32..).zip(row).map(|(index, value)| pack(index, bits(value))));
        assert_eq!(self.row.len(), usize::try_from(self.width).expect("at most 65,536"), "a row has another width");
        if self.kept < self.row.len() {
            self.row.select_nth_unstable_by(self.kept - 1, |a, b| b.cmp(a));
        }
        self.entries.extend_from_slice(&self.row[..self.kept]);
    }

    /// The same of what a head reads in eight bits.
    pub(crate) fn push_hidden(&mut self, hidden: Hidden<'_>) {
        self.push(hidden.values());
    }

    /// Positions taken in.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.entries.len() / self.kept
    }

    /// The points of each fingerprint of the first `positions`, fewer if fewer were taken in: in each by falling magnitude.
    pub fn points(&self, positions: usize) -> impl Iterator<Item = Vec<Point>> + '_ {
        let positions = positions.min(self.positions());
        let of_chunk = usize::try_from(POSITIONS).expect("32");
        self.entries[..positions * self.kept].chunks(of_chunk * self.kept).map(|chunk| self.largest(chunk))
    }

    /// The fingerprints of the first `positions`, fewer if fewer were taken in.
    #[must_use]
    pub fn fingerprints(&self, positions: usize) -> Vec<Fingerprint> {
        self.points(positions).map(|points| fingerprint(&points)).collect()
    }

    fn largest(&self, chunk: &[u32]) -> Vec<Point> {
        // Magnitude, then what stands first, then the bits as they are.
        let place = |(row, entry): (u32, u32)| {
            let (index, bits) = unpack(entry);
            let index = row * self.width + index;
            (u64::from(bits & 0x7fff) << 48) | (u64::from(!index) << 16) | u64::from(bits)
        };
        let rows = (0u32..).zip(chunk.chunks(self.kept));
        let mut all: Vec<u64> = rows.flat_map(|(row, entries)| entries.iter().map(move |entry| (row, *entry))).map(place).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all.truncate(TOP);
        #[expect(clippy::cast_possible_truncation, reason = "fields of 32 and 16 bits")]
        let point = |packed: &u64| (!((packed >> 16) as u32), *packed as u16);
        all.iter().map(point).collect()
    }
}

fn pack(index: u32, bits: u16) -> u32 {
    let bits = u32::from(bits);
    ((bits & 0x7fff) << 17) | ((!index & 0xffff) << 1) | (bits >> 15)
}

fn unpack(entry: u32) -> (u32, u16) {
    let bits = (entry >> 17) | ((entry & 1) << 15);
    (!(entry >> 1) & 0xffff, u16::try_from(bits).expect("16 bits"))
}

/// The fingerprint through these points. Without a modulus under which their indices differ it is `toploc`'s null: zeros, which pass no comparison.
///
/// # Panics
/// If there is no point, or more than [`TOP`].
#[must_use]
pub fn fingerprint(points: &[Point]) -> Fingerprint {
    let modulus = modulus(points);
    let coefficients = if modulus == 0 { vec![0; points.len()] } else { interpolate(points, modulus) };
    let narrow = |number: u32| u16::try_from(number).expect("below 65,497");
    let coefficients: Vec<u16> = coefficients.into_iter().map(narrow).collect();
    Fingerprint::new(narrow(modulus), &coefficients).expect("1 to 128 numbers below the prime")
}

/// The largest modulus under which all indices differ; 0 if there is none.
fn modulus(points: &[Point]) -> u32 {
    let least = u32::try_from(points.len()).unwrap_or(u32::MAX);
    let mut seen = Vec::with_capacity(points.len());
    let mut is_injective = |modulus: &u32| {
        seen.clear();
        seen.extend(points.iter().map(|(index, _)| index % modulus));
        seen.sort_unstable();
        seen.windows(2).all(|pair| pair[0] != pair[1])
    };
    (least.max(1)..=u32::from(PRIME)).rev().find(|modulus| is_injective(modulus)).unwrap_or(0)
}

/// Coefficients of the one polynomial of least degree through all (index mod modulus, bits), the constant first: Lagrange's, each basis from the product
/// of all `x - x_i` by dividing one factor out.
fn interpolate(points: &[Point], modulus: u32) -> Vec<u32> {
    let at: Vec<u32> = points.iter().map(|(index, _)| index % modulus).collect();
    // Falling powers, as both divisions below want them.
    let mut product = vec![1];
    for x in &at {
        product.push(0);
        for power in (1..product.len()).rev() {
            product[power] = minus(product[power], times(product[power - 1], *x));
        }
    }
    let mut sum = vec![0; points.len()];
    let mut basis = vec![0; points.len()];
    for (x, (_, bits)) in at.iter().zip(points) {
        let mut carried = 0;
        for (place, coefficient) in basis.iter_mut().zip(&product) {
            carried = plus(times(carried, *x), *coefficient);
            *place = carried;
        }
        let weight = times(u32::from(*bits) % FIELD, inverse(horner(basis.iter().copied(), *x)));
        sum.iter_mut().zip(&basis).for_each(|(place, coefficient)| *place = plus(*place, times(*coefficient, weight)));
    }
    sum.reverse();
    sum
}

const FIELD: u32 = PRIME as u32;

// Numbers are below the prime, whose square is below 2^32.
fn times(a: u32, b: u32) -> u32 {
    a * b % FIELD
}

fn plus(a: u32, b: u32) -> u32 {
    (a + b) % FIELD
}

fn minus(a: u32, b: u32) -> u32 {
    (a + FIELD - b) % FIELD
}

/// By Fermat; of 0 it is 0.
fn inverse(a: u32) -> u32 {
    let (mut result, mut square, mut exponent) = (1, a, FIELD - 2);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = times(result, square);
        }
        square = times(square, square);
        exponent >>= 1;
    }
    result
}

/// The value at `x`, coefficients by falling powers.
fn horner(coefficients: impl Iterator<Item = u32>, x: u32) -> u32 {
    coefficients.fold(0, |value, coefficient| plus(times(value, x), coefficient))
}

/// How far a fingerprint is from a checker's own numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Distance {
    /// Numbers that the checker compared: its own largest.
    pub numbers: u32,
    /// Of these, how many have another exponent.
    pub exponents: u32,
    /// Sum of the differences of mantissas where the exponent is the same, in units of the last bit.
    pub mantissas: u32,
    /// The middle one of these differences, the upper of two; 128, which no two are apart, if there is none.
    pub median: u32,
}

impl Distance {
    /// Whether the same model can have read both: none of the three bounds is exceeded.
    #[must_use]
    pub fn is_near(&self) -> bool {
        let top = u32::try_from(TOP).expect("128");
        let equal = self.numbers - self.exponents;
        equal > 0
            && self.exponents * top <= EXPONENTS_MAX * self.numbers
            && self.mantissas <= MANTISSA_MEAN_MAX * equal
            && self.median <= MANTISSA_MEDIAN_MAX
    }
}

/// Compares a fingerprint with the checker's own largest numbers of the same positions. One made of another number of numbers, or without a modulus, is
/// as far away as can be.
#[must_use]
pub fn compare(fingerprint: &Fingerprint, points: &[Point]) -> Distance {
    let numbers = u32::try_from(points.len()).unwrap_or(u32::MAX);
    let modulus = u32::from(fingerprint.modulus());
    if modulus == 0 || fingerprint.coefficients().len() != points.len() {
        return Distance { numbers, exponents: numbers, mantissas: 0, median: 128 };
    }
    let differences = points.iter().filter_map(|(index, own)| {
        let claimed = horner(fingerprint.coefficients().rev().map(u32::from), index % modulus);
        let own = u32::from(*own);
        (exponent(claimed) == exponent(own)).then(|| mantissa(claimed).abs_diff(mantissa(own)))
    });
    let mut differences: Vec<u32> = differences.collect();
    differences.sort_unstable();
    let equal = u32::try_from(differences.len()).unwrap_or(u32::MAX);
    let median = differences.get(differences.len() / 2).copied().unwrap_or(128);
    Distance { numbers, exponents: numbers - equal, mantissas: differences.iter().sum(), median }
}

fn exponent(bits: u32) -> u32 {
    bits >> 7 & 0xff
}

fn mantissa(bits: u32) -> u32 {
    bits & 0x7f
}

/// What a check of an answer's fingerprints found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Of each fingerprint, how far it is from the checker's own numbers.
    pub distances: Vec<Distance>,
    /// Whether there are as many as the answer has.
    pub is_complete: bool,
}

impl Compared {
    /// The first fingerprint that is not near, or is missing, or one too many.
    #[must_use]
    pub fn far(&self) -> Option<usize> {
        let far = self.distances.iter().position(|distance| !distance.is_near());
        far.or_else(|| (!self.is_complete).then_some(self.distances.len()))
    }
}

/// Compares an answer's fingerprints with the checker's own rows of it.
#[must_use]
pub fn compare_all(fingerprints: &[Fingerprint], own: &Largest) -> Compared {
    let points = own.points(own.positions());
    let distances: Vec<Distance> = fingerprints.iter().zip(points).map(|(fingerprint, points)| compare(fingerprint, &points)).collect();
    let count = own.positions().div_ceil(usize::try_from(POSITIONS).expect("32"));
    Compared { is_complete: fingerprints.len() == count && distances.len() == count, distances }
}

#[cfg(test)]
mod tests;
