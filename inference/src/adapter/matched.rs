//! The matrices of an adapter in the bytes of its file, matched with a model, whatever the format.

use std::collections::BTreeMap;

use crate::gguf::TensorType;
use crate::model::{Config, ModelInfo, Site};

use super::{AdapterError, AdapterFiles, Format, RANK_MAX, no_tensors, peft};

/// A tensor as its file has it.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    pub(super) name: String,
    pub(super) kind: TensorType,
    /// Rows first.
    pub(super) shape: Vec<usize>,
    pub(super) bytes: &'a [u8],
}

/// A and B of each linear layer, as they are found.
pub(super) type Halves<'a> = BTreeMap<(usize, Site), [Option<Stored<'a>>; 2]>;

/// Both halves; `name` says what the one that is missing would be called.
pub(super) fn join<'a>(halves: [Option<Stored<'a>>; 2], name: impl Fn(usize) -> String) -> Result<[Stored<'a>; 2], AdapterError> {
    let [a, b] = halves;
    let missing = |half| AdapterError::MissingTensor { tensor: name(half) };
    Ok([a.ok_or_else(|| missing(0))?, b.ok_or_else(|| missing(1))?])
}

/// A matrix of known shape.
#[derive(Debug)]
pub(super) struct Matrix<'a> {
    pub(super) name: String,
    pub(super) rows: usize,
    pub(super) columns: usize,
    kind: TensorType,
    bytes: &'a [u8],
    /// Width of the heads whose rows stand as pairs and are put back into two halves.
    pairs_of: Option<usize>,
    scale: f32,
}

/// The matrices of one linear layer.
#[derive(Debug)]
pub(super) struct Matched<'a> {
    pub(super) layer: usize,
    pub(super) site: Site,
    pub(super) rank: usize,
    /// `[rank, in]`.
    pub(super) a: Matrix<'a>,
    /// `[out, rank]`, times the adapter's scale.
    pub(super) b: Matrix<'a>,
}

impl<'a> Matched<'a> {
    pub(super) fn new(
        (layer, site): (usize, Site),
        rank: usize,
        scale: f64,
        a: Stored<'a>,
        b: Stored<'a>,
        model: &Config,
    ) -> Result<Self, AdapterError> {
        let (out, input) = site.shape(model);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "what the trainer multiplied by, in its own precision; too large fails by value"
        )]
        let scale = scale as f32;
        Ok(Self { layer, site, rank, a: Matrix::new(a, [rank, input], 1.0)?, b: Matrix::new(b, [out, rank], scale)? })
    }

    /// The same for a file that holds the rows of rotated heads as pairs.
    pub(super) fn with_pairs(mut self, head_dim: usize) -> Self {
        self.b.pairs_of = matches!(self.site, Site::Q | Site::K).then_some(head_dim);
        self
    }
}

impl<'a> Matrix<'a> {
    fn new(stored: Stored<'a>, [rows, columns]: [usize; 2], scale: f32) -> Result<Self, AdapterError> {
        let Stored { name, kind, shape, bytes } = stored;
        if shape != [rows, columns] {
            return Err(AdapterError::WrongShape { tensor: name, expected: vec![rows, columns], got: shape });
        }
        Ok(Self { name, rows, columns, kind, bytes, pairs_of: None, scale })
    }

    /// Bytes of a row; whole, because rows of block formats are whole blocks.
    fn row_bytes(&self) -> usize {
        self.bytes.len() / self.rows
    }

    /// Writes the rows from `first` on, times the scale, as many as `out` has room for; each begins `stride` places behind the one before.
    pub(super) fn rows(&self, first: usize, stride: usize, out: &mut [f32]) {
        let each = self.row_bytes();
        if stride == self.columns && self.pairs_of.is_none() {
            // Rows of sixteen ranks, of which an adapter has a hundred thousand, take longer one by one.
            return self.decode(&self.bytes[first * each..][..out.len() / stride * each], out);
        }
        for (row, out) in (first..).zip(out.chunks_exact_mut(stride)) {
            self.decode(&self.bytes[self.place(row) * each..][..each], &mut out[..self.columns]);
        }
    }

    /// Whole rows that follow one another in the file. Of A the scale is 1, which changes no value.
    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        let scale = self.scale;
        let halves = || bytes.as_chunks::<2>().0.iter().map(|bytes| u16::from_le_bytes(*bytes));
        match self.kind {
            TensorType::F32 => {
                out.iter_mut().zip(bytes.as_chunks::<4>().0).for_each(|(out, bytes)| *out = f32::from_le_bytes(*bytes) * scale)
            }
            TensorType::F16 => out.iter_mut().zip(halves()).for_each(|(out, bits)| *out = crate::numeric::f16_to_f32(bits) * scale),
            TensorType::BF16 => out.iter_mut().zip(halves()).for_each(|(out, bits)| *out = f32::from_bits(u32::from(bits) << 16) * scale),
            TensorType::Q4_0 | TensorType::Q4_1 | TensorType::Q8_0 => {
                out.iter_mut().zip(self.kind.dequantise(bytes)).for_each(|(out, value)| *out = value * scale);
            }
        }
    }

    /// All values, row by row.
    ///
    /// # Errors
    /// [`AdapterError::NotFinite`].
    #[cfg(feature = "engine")]
    pub(super) fn values(&self) -> Result<Vec<f32>, AdapterError> {
        let mut values = vec![0f32; self.rows * self.columns];
        self.rows(0, self.columns, &mut values);
        if values.iter().all(|value| value.is_finite()) { Ok(values) } else { Err(self.not_finite()) }
    }

    pub(super) fn not_finite(&self) -> AdapterError {
        AdapterError::NotFinite { tensor: self.name.clone() }
    }

    /// Where the file has a row: of a head stored as pairs, rows 0, 2, 4 .. are the first half and rows 1, 3, 5 .. the second.
    fn place(&self, row: usize) -> usize {
        let Some(width) = self.pairs_of else { return row };
        let (head, at) = (row / width * width, row % width);
        head + if at < width / 2 { 2 * at } else { 2 * (at - width / 2) + 1 }
    }
}

/// Matches an adapter with a model.
///
/// # Errors
/// [`AdapterError::OtherBase`] when its files record another base; otherwise the error names the tensor.
pub(super) fn matched<'a>(files: &'a AdapterFiles, model: &ModelInfo) -> Result<Vec<Matched<'a>>, AdapterError> {
    if let Some(base) = files.base_hash().filter(|base| *base != model.hash) {
        return Err(AdapterError::OtherBase { expected: hex::encode(base), got: hex::encode(model.hash) });
    }
    let matched = match &files.format {
        Format::Peft(config) => peft::matched(config, &files.weights, &model.config)?,
        Format::Gguf(adapter) => adapter.matched(&files.weights, &model.config)?,
    };
    if matched.is_empty() { Err(no_tensors()) } else { Ok(matched) }
}

/// Refuses a rank that is 0 or beyond [`RANK_MAX`].
pub(super) fn check_rank(rank: usize, tensor: &str) -> Result<(), AdapterError> {
    if (1..=RANK_MAX).contains(&rank) {
        return Ok(());
    }
    Err(AdapterError::Unsupported { feature: format!("rank {rank} in tensor {tensor}"), fix: "train it with a rank of 1 to 256" })
}
