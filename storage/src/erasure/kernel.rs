//! The code's one hot loop: each output is a sum of inputs, each times a constant of GF(2^8).
//!
//! AVX2 makes 32 products of one constant with two table look-ups of 16 entries (low and high half of a byte); GFNI makes 64 with one affine
//! map. Rebuilding 16 fragments from 16 others takes 16 products a byte. Encoding 16 of 48 would take 32; its matrix has a form that makes five
//! suffice (`transform`), and then it is memory that limits: one byte read and two written for each. The path is chosen once, at run time. The
//! scalar path of the matrix defines the result; every other is tested against it and against `reed-solomon-erasure`.

mod transform;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

use super::field::mul;
pub(super) use transform::Transform;

/// Bytes of each input that are worked on before the next: sixteen of them fit in a first-level cache beside the tables. They are copied side by
/// side first, because parts of a power of two in length lie at the same place of every page and would drive each other out of the cache.
const BLOCK: usize = 1024;
/// Outputs that are summed at once: as many accumulators as registers hold beside an input and a table.
const GROUP: usize = 8;

/// How products are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// Plain code, on any machine; it defines the result.
    Scalar,
    /// 32 bytes at a time by table look-ups.
    Avx2,
    /// 64 bytes at a time by affine maps.
    Gfni,
}

impl Path {
    /// Every path, the slowest first.
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Gfni];

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::Gfni => is_x86_feature_detected!("gfni") && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Gfni => false,
        }
    }

    /// The quickest that this machine has.
    pub fn best() -> Self {
        static BEST: OnceLock<Path> = OnceLock::new();
        *BEST.get_or_init(|| Self::ALL.into_iter().rev().find(|path| path.is_available()).unwrap_or(Self::Scalar))
    }
}

/// Products of one constant with 0 to 15, and with 0, 16, 32 to 240.
type Halves = [[u8; 16]; 2];

fn halves(constant: u8) -> Halves {
    let half = |shift: u8| std::array::from_fn(|at| mul(constant, u8::try_from(at).unwrap_or(0) << shift));
    [half(0), half(4)]
}

/// Multiplication by one constant as a bit matrix, for the affine instruction: byte 7 - i selects the bits whose parity is bit i.
fn affine(constant: u8) -> u64 {
    let row = |bit: u8| (0..8).fold(0_u8, |row, from| row | ((mul(constant, 1 << from) >> bit & 1) << from));
    u64::from_le_bytes(std::array::from_fn(|at| row(7 - u8::try_from(at).unwrap_or(0))))
}

/// The constants in the form that a path wants.
#[derive(Debug)]
enum Factors {
    Halves(Vec<Halves>),
    Affine(Vec<u64>),
}

impl Factors {
    fn of(path: Path, constants: &[u8]) -> Self {
        // Of every constant, once: a matrix that is used for one object has as many cells.
        static AFFINE: OnceLock<[u64; 256]> = OnceLock::new();
        static HALVES: OnceLock<[Halves; 256]> = OnceLock::new();
        let constant = |at: usize| u8::try_from(at).unwrap_or(0);
        match path {
            Path::Gfni => {
                let table = AFFINE.get_or_init(|| std::array::from_fn(|at| affine(constant(at))));
                Self::Affine(constants.iter().map(|constant| table[usize::from(*constant)]).collect())
            }
            Path::Avx2 | Path::Scalar => {
                let table = HALVES.get_or_init(|| std::array::from_fn(|at| halves(constant(at))));
                Self::Halves(constants.iter().map(|constant| table[usize::from(*constant)]).collect())
            }
        }
    }

    const fn count(&self) -> usize {
        match self {
            Self::Halves(all) => all.len(),
            Self::Affine(all) => all.len(),
        }
    }
}

/// The one length of all, if they are as many as there should be.
fn assert_shapes((inputs, data): (&[&[u8]], usize), (outputs, sums): (&[&mut [u8]], usize)) -> usize {
    let length = inputs.first().map_or(0, |input| input.len());
    assert!(inputs.len() == data && inputs.iter().all(|input| input.len() == length), "inputs of one length, as many as there are columns");
    assert!(outputs.len() == sums && outputs.iter().all(|output| output.len() == length), "outputs likewise, as many as there are rows");
    length
}

/// Outputs as sums of inputs, made ready for a path: one row of constants for each output, one column for each input.
#[derive(Debug)]
pub(super) struct Combination {
    path: Path,
    inputs: usize,
    factors: Factors,
}

impl Combination {
    /// From a row-major matrix. A path that this machine lacks is replaced by the scalar one.
    pub(super) fn new(path: Path, cells: &[u8], inputs: usize) -> Self {
        let path = if path.is_available() { path } else { Path::Scalar };
        Self { path, inputs, factors: Factors::of(path, cells) }
    }

    /// Fills `outputs` from `inputs`; all are of one length.
    ///
    /// # Panics
    /// If counts or lengths are not those of the matrix: a caller's mistake.
    pub(super) fn apply(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
        let length = assert_shapes((inputs, self.inputs), (outputs, self.factors.count() / self.inputs));
        let mut staged = vec![0; BLOCK * self.inputs];
        for from in (0..length).step_by(BLOCK) {
            let to = (from + BLOCK).min(length);
            // What lies behind a short last block is worked on and not written.
            staged.chunks_mut(BLOCK).zip(inputs).for_each(|(place, input)| place[..to - from].copy_from_slice(&input[from..to]));
            for (group, outputs) in outputs.chunks_mut(GROUP).enumerate() {
                let mut sums = [[0; BLOCK]; GROUP];
                self.block(group * GROUP, &staged, &mut sums[..outputs.len()]);
                outputs.iter_mut().zip(&sums).for_each(|(output, sums)| output[from..to].copy_from_slice(&sums[..to - from]));
            }
        }
    }

    /// Sums of one block for the outputs from `row` on.
    fn block(&self, row: usize, staged: &[u8], sums: &mut [[u8; BLOCK]]) {
        let rows = row * self.inputs..(row + sums.len()) * self.inputs;
        match (&self.factors, self.path) {
            #[cfg(target_arch = "x86_64")]
            (Factors::Affine(factors), _) => x86::gfni(&factors[rows], staged, sums),
            #[cfg(target_arch = "x86_64")]
            (Factors::Halves(factors), Path::Avx2) => x86::avx2(&factors[rows], staged, sums),
            (Factors::Halves(factors), _) => scalar(&factors[rows], staged, sums),
            #[cfg(not(target_arch = "x86_64"))]
            (Factors::Affine(_), _) => unreachable!("made only where the machine has the instruction"),
        }
    }
}

fn scalar(factors: &[Halves], staged: &[u8], sums: &mut [[u8; BLOCK]]) {
    let columns = staged.len() / BLOCK;
    for (sums, row) in sums.iter_mut().zip(factors.chunks(columns)) {
        sums.fill(0);
        for ([low, high], input) in row.iter().zip(staged.chunks(BLOCK)) {
            let product = |byte: u8| low[usize::from(byte & 15)] ^ high[usize::from(byte >> 4)];
            sums.iter_mut().zip(input).for_each(|(sum, byte)| *sum ^= product(*byte));
        }
    }
}

#[cfg(test)]
mod tests;
