//! A model's weights as kernels read them. For `exact` the codes of its file, packed; floats are quantised once. For `fast` every matrix of products is
//! coded anew, in 8 bits with one scale for each output.
//!
//! Products that share an input read one set of its codes, so they must agree on the size of groups: 32 as in the file's blocks; 64 where
//! every matrix of an input is stored in floats and 64 divides its width (`Codes::S8`, [`quantise_weights`]). Norms, biases and an own
//! embedding of floats stay what they are. SmolLM2-135M: the 98 MB of its file, once.
//!
//! For `fast` groups are as wide as `fast_group` says, whatever the file has, and an embedding that is the head as well is kept beside it with the values of
//! the file: SmolLM2-135M takes 138 MB and 30.

use std::path::Path;

use crate::backend::Profile;
use crate::backend::cpu::kernel::select;
use crate::backend::cpu::pack::Packed;
use crate::backend::cpu::recoded::{Recoded, Weights};
use crate::gguf::TensorType;
use crate::numeric::{COLUMNS_MAX, Codes, CodesMut, Matrix, MatrixError, RANGE_GROUP_MAX, RowCodes, f16_to_f32, quantise_weights};

#[cfg(feature = "engine")]
use super::Text;
use super::files::ModelFiles;
use super::stored::{Extras, StoredFrame, StoredLayer, StoredMatrix};
use super::{Config, ModelError, ModelInfo, Site};

/// Codes of a block of a file.
const BLOCK: usize = 32;
/// Codes that share a scale where floats are quantised.
const FLOAT_GROUP: usize = 64;

/// A model, packed.
#[derive(Debug)]
pub struct PackedModel {
    pub(crate) info: ModelInfo,
    profile: Profile,
    pub(crate) layers: Vec<PackedLayer>,
    embedding: Embedding,
    /// `[hidden]`.
    pub(crate) norm: Vec<f32>,
    /// `[vocabulary, hidden]`.
    pub(crate) head: Weights,
    /// Radians per token of each pair of a head.
    pub(crate) frequencies: Vec<f64>,
}

/// One layer.
#[derive(Debug)]
pub(crate) struct PackedLayer {
    linears: [Weights; 7],
    pub(crate) extras: Extras,
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) feed_forward_norm: Vec<f32>,
}

#[derive(Debug)]
enum Embedding {
    /// The rows of the head, which has the codes of the file.
    Tied,
    Codes(Packed),
    Floats(StoredMatrix),
}

impl PackedModel {
    /// Loads a GGUF file or a folder of safetensors for a profile, one layer at a time, and what it says about text.
    ///
    /// # Errors
    /// Any [`ModelError`]; [`ModelError::WrongHash`] names both hashes, [`ModelError::Config`] a profile that nothing is computed in any more.
    #[cfg(feature = "engine")]
    pub fn load(path: &Path, expected_hash: Option<[u8; 32]>, profile: Profile) -> Result<(Self, Text), ModelError> {
        let (files, hash) = open(path, expected_hash, profile)?;
        let of = || {
            let config = files.checked()?;
            // First, so that what is wrong with it is said before the weights are read.
            let text = files.text(&config)?;
            Ok((Self::from_files(&files, config, hash, profile)?, text))
        };
        of().map_err(|error: ModelError| error.at(path))
    }

    /// The same without text: from tokens to logits alone.
    ///
    /// # Errors
    /// As `load`, but for what it says about tokenizers and templates.
    pub fn weights(path: &Path, expected_hash: Option<[u8; 32]>, profile: Profile) -> Result<Self, ModelError> {
        let (files, hash) = open(path, expected_hash, profile)?;
        let of = || Self::from_files(&files, files.checked()?, hash, profile);
        of().map_err(|error| error.at(path))
    }

    fn from_files(files: &ModelFiles, config: Config, hash: [u8; 32], profile: Profile) -> Result<Self, ModelError> {
        let StoredFrame { embedding, norm, head, frequencies } = StoredFrame::read(files, &config)?;
        let weights = |matrix: &StoredMatrix, name: &str| match profile {
            Profile::Fast => Ok(Weights::Recoded(recode(matrix, || name.to_owned())?)),
            _ => Ok::<_, ModelError>(Weights::Grouped(pack(matrix, group(&[matrix]), || name.to_owned())?)),
        };
        let (embedding, head) = match head {
            None if profile == Profile::Exact => (Embedding::Tied, weights(&embedding, "the embedding")?),
            None => {
                let head = weights(&embedding, "the embedding")?;
                (Embedding::new(embedding)?, head)
            }
            Some(head) => (Embedding::new(embedding)?, weights(&head, "the head")?),
        };
        let layer = |index| PackedLayer::new(StoredLayer::read(files, &config, index)?, index, profile);
        let layers = (0..config.layers).map(layer).collect::<Result<_, _>>()?;
        let info = ModelInfo::new(hash, files.name(), files.size_bytes(), config);
        Ok(Self { info, profile, layers, embedding, norm, head, frequencies })
    }

    /// What others may know of it.
    #[must_use]
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The rules that its weights were packed for.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Dimensions of the graph.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.info.config
    }

    /// Bytes that a step reads at least: every matrix of a product once.
    #[must_use]
    pub fn step_bytes(&self) -> usize {
        self.layers.iter().flat_map(|layer| &layer.linears).map(Weights::bytes).sum::<usize>() + self.head.bytes()
    }

    /// The embedding of a token of the vocabulary.
    pub(crate) fn embed(&self, token: usize, out: &mut [f32]) {
        match &self.embedding {
            Embedding::Tied => match &self.head {
                Weights::Grouped(head) => head.dequantise(token, out),
                Weights::Recoded(_) => unreachable!("beside a head coded anew there is an embedding"),
            },
            Embedding::Codes(codes) => codes.dequantise(token, out),
            Embedding::Floats(matrix) => floats(matrix, token, out),
        }
    }
}

/// The files of a model, of a profile that something is computed in.
fn open(path: &Path, expected_hash: Option<[u8; 32]>, profile: Profile) -> Result<(ModelFiles, [u8; 32]), ModelError> {
    if profile == Profile::CandleF32B1 {
        let expected = "exact or fast: nothing is computed in that one any more";
        return Err(ModelError::Config { key: "profile".to_owned(), value: profile.to_string(), expected });
    }
    ModelFiles::open_as(path, expected_hash)
}

impl PackedLayer {
    fn new(stored: StoredLayer, index: usize, profile: Profile) -> Result<Self, ModelError> {
        let linear = |site: Site, inputs: &[Site]| {
            let name = || format!("{} of layer {index}", site.module());
            if profile == Profile::Fast {
                return Ok(Weights::Recoded(recode(stored.linear(site), name)?));
            }
            let sharing: Vec<&StoredMatrix> = inputs.iter().map(|site| stored.linear(*site)).collect();
            Ok::<_, ModelError>(Weights::Grouped(pack(stored.linear(site), group(&sharing), name)?))
        };
        let [q, k, v, o, gate, up, down] = Site::ALL;
        let (attention, feed_forward) = ([q, k, v], [gate, up]);
        let linears = [
            linear(q, &attention)?,
            linear(k, &attention)?,
            linear(v, &attention)?,
            linear(o, &[o])?,
            linear(gate, &feed_forward)?,
            linear(up, &feed_forward)?,
            linear(down, &[down])?,
        ];
        let StoredLayer { extras, attention_norm, feed_forward_norm, .. } = stored;
        Ok(Self { linears, extras, attention_norm, feed_forward_norm })
    }

    pub(crate) fn linear(&self, site: Site) -> &Weights {
        &self.linears[site as usize]
    }

    /// What is added to the product of `site`.
    pub(crate) fn bias(&self, site: Site) -> Option<&[f32]> {
        self.extras.biases.as_ref()?.get(site as usize).map(Vec::as_slice)
    }
}

impl Embedding {
    fn new(matrix: StoredMatrix) -> Result<Self, ModelError> {
        if is_float(&matrix) { Ok(Self::Floats(matrix)) } else { Ok(Self::Codes(pack(&matrix, BLOCK, || "the embedding".to_owned())?)) }
    }
}

fn is_float(matrix: &StoredMatrix) -> bool {
    matches!(matrix.kind, TensorType::F32 | TensorType::F16 | TensorType::BF16)
}

/// Codes that share a scale in the input of some matrices.
fn group(sharing: &[&StoredMatrix]) -> usize {
    let is_wide = |matrix: &&StoredMatrix| is_float(matrix) && matrix.columns.is_multiple_of(FLOAT_GROUP);
    if sharing.iter().all(is_wide) { FLOAT_GROUP } else { BLOCK }
}

fn pack(matrix: &StoredMatrix, group: usize, name: impl Fn() -> String) -> Result<Packed, ModelError> {
    let wrong = |error| ModelError::Matrix { matrix: name(), error };
    let (rows, columns) = (matrix.rows, matrix.columns);
    let of_file = |codes| Ok(Packed::new(&Matrix::new(rows, columns, BLOCK, codes, &matrix.bytes).map_err(wrong)?));
    match matrix.kind {
        TensorType::Q4_0 => of_file(Codes::U4 { min: false }),
        TensorType::Q4_1 => of_file(Codes::U4 { min: true }),
        TensorType::Q8_0 => of_file(Codes::S8),
        TensorType::F32 | TensorType::F16 | TensorType::BF16 => {
            if !columns.is_multiple_of(group) {
                return Err(wrong(MatrixError::Shape { rows, columns, group }));
            }
            let mut data = Vec::with_capacity(rows * (columns / group) * Codes::S8.group_bytes(group));
            for (row, bytes) in matrix.bytes.chunks_exact(matrix.row_bytes()).enumerate() {
                quantise_weights(&matrix.kind.dequantise(bytes), group, &mut data).map_err(|error| match error {
                    MatrixError::NotFinite { group, .. } => wrong(MatrixError::NotFinite { row, group }),
                    error => wrong(error),
                })?;
            }
            Ok(Packed::new(&Matrix::new(rows, columns, group, Codes::S8, &data).map_err(wrong)?))
        }
    }
}

/// Inputs of a matrix of `fast` that share a scale of the activations: the most that a kernel takes and that divide the inputs, in steps of 32. The wider, the
/// less there is to combine: SmolLM2 loses 0.5 % of perplexity in groups of 96 and 128, and as much in groups of 64. None if nothing divides them.
fn fast_group(columns: usize) -> Option<usize> {
    (32..=RANGE_GROUP_MAX).rev().step_by(32).find(|group| columns.is_multiple_of(*group))
}

/// Codes a matrix anew, in 8 bits with one scale for each output: each row as [`crate::numeric::quantise`] has it, as one group.
fn recode(matrix: &StoredMatrix, name: impl Fn() -> String) -> Result<Recoded, ModelError> {
    let wrong = |error| ModelError::Matrix { matrix: name(), error };
    let (rows, columns) = (matrix.rows, matrix.columns);
    let fits = rows > 0 && columns > 0 && columns <= COLUMNS_MAX && matrix.bytes.len() == rows * matrix.row_bytes();
    let group = fast_group(columns).filter(|_| fits).ok_or_else(|| wrong(MatrixError::Shape { rows, columns, group: BLOCK }))?;
    let (mut recoded, quantise) = (Recoded::zeroed(rows, columns, group), select(None).quantise);
    let (mut codes, mut scale, mut sum, mut offset) = (vec![0i8; columns], 0f32, 0i32, 0f32);
    let one = std::slice::from_mut;
    for (row, bytes) in matrix.bytes.chunks_exact(matrix.row_bytes()).enumerate() {
        let mut place =
            CodesMut { codes: &mut codes, scales: one(&mut scale), sums: std::slice::from_mut(&mut sum), offsets: one(&mut offset) };
        if !quantise(&matrix.kind.dequantise(bytes), columns, &mut place) {
            return Err(wrong(MatrixError::NotFinite { row, group: 0 }));
        }
        recoded.put(row, &RowCodes { codes: &codes, scales: &[scale] });
    }
    Ok(recoded)
}

/// A row of floats, without a stop at the heap.
fn floats(matrix: &StoredMatrix, row: usize, out: &mut [f32]) {
    let bytes = &matrix.bytes[row * matrix.row_bytes()..][..matrix.row_bytes()];
    let half = |bytes: &[u8; 2]| u16::from_le_bytes(*bytes);
    let halves = || bytes.as_chunks::<2>().0.iter();
    match matrix.kind {
        TensorType::F32 => out.iter_mut().zip(bytes.as_chunks::<4>().0).for_each(|(out, bytes)| *out = f32::from_le_bytes(*bytes)),
        TensorType::F16 => out.iter_mut().zip(halves()).for_each(|(out, bytes)| *out = f16_to_f32(half(bytes))),
        TensorType::BF16 => out.iter_mut().zip(halves()).for_each(|(out, bytes)| *out = f32::from_bits(u32::from(half(bytes)) << 16)),
        TensorType::Q4_0 | TensorType::Q4_1 | TensorType::Q8_0 => unreachable!("codes are packed"),
    }
}
