//! A model's weights as its file stores them: codes and scales of the file, never decoded.
//!
//! This is what a packer takes and what the f32 graph decodes from. Rows are in the pair order of published checkpoints: `GGUF` files of
//! the llama family hold the rows of q and k interleaved, and are put back by moving whole rows, which changes no code. A model costs
//! the bytes of its file; whoever converts it layer by layer ([`StoredLayer::read`]) holds one layer at a time.

use crate::gguf::TensorType;

use super::files::{LayerPart, ModelFiles, Part};
use super::{Config, ModelError, Site, rope};

/// A matrix of rows that are read whole: `rows` outputs, `columns` inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMatrix {
    /// Number of rows.
    pub rows: usize,
    /// Elements of a row; a multiple of the format's block.
    pub columns: usize,
    /// The format.
    pub kind: TensorType,
    /// The rows' blocks one after another.
    pub bytes: Vec<u8>,
}

impl StoredMatrix {
    /// Bytes of one row.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.bytes.len() / self.rows.max(1)
    }

    /// All elements in f32, row by row.
    #[must_use]
    pub fn dequantise(&self) -> Vec<f32> {
        self.kind.dequantise(&self.bytes)
    }

    /// Puts the interleaved rows of rotated heads back into two halves: rows 0, 2, 4 .. of a head first, then 1, 3, 5 ..
    fn halves(self, head_dim: usize) -> Self {
        let row = self.row_bytes();
        let mut bytes = Vec::with_capacity(self.bytes.len());
        for head in self.bytes.chunks_exact(row * head_dim) {
            for first in [0, 1] {
                head.chunks_exact(row).skip(first).step_by(2).for_each(|row| bytes.extend_from_slice(row));
            }
        }
        Self { bytes, ..self }
    }
}

/// What a layer adds to its q, k and v, by family.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Extras {
    /// Biases of q, k and v (Qwen 2), each of its product's width.
    pub biases: Option<[Vec<f32>; 3]>,
    /// Weights of the norms of each head of q and of k before rotation (Qwen 3), each `head_dim`.
    pub head_norms: Option<[Vec<f32>; 2]>,
}

/// One layer.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredLayer {
    linears: [StoredMatrix; 7],
    /// Biases and norms of the family.
    pub extras: Extras,
    /// `[hidden]`.
    pub attention_norm: Vec<f32>,
    /// `[hidden]`.
    pub feed_forward_norm: Vec<f32>,
}

impl StoredLayer {
    /// Reads one layer; `index` counts from 0.
    ///
    /// # Errors
    /// [`ModelError::Gguf`] or [`ModelError::Files`] if a tensor is missing, of another shape, or cannot be read.
    pub fn read(files: &ModelFiles, config: &Config, index: usize) -> Result<Self, ModelError> {
        let linear = |site: Site| -> Result<StoredMatrix, ModelError> {
            let matrix = files.matrix(Part::Layer(index, LayerPart::Linear(site)), config)?;
            let is_interleaved = files.interleaves_heads(config) && matches!(site, Site::Q | Site::K);
            Ok(if is_interleaved { matrix.halves(config.head_dim) } else { matrix })
        };
        let vector = |part: LayerPart| files.vector(Part::Layer(index, part), config);
        let bias = |site| vector(LayerPart::Bias(site));
        let [q, k, v, o, gate, up, down] = Site::ALL;
        let family = config.family;
        Ok(Self {
            linears: [linear(q)?, linear(k)?, linear(v)?, linear(o)?, linear(gate)?, linear(up)?, linear(down)?],
            extras: Extras {
                biases: if family.has_biases() { Some([bias(q)?, bias(k)?, bias(v)?]) } else { None },
                head_norms: if family.has_head_norms() { Some([vector(LayerPart::QNorm)?, vector(LayerPart::KNorm)?]) } else { None },
            },
            attention_norm: vector(LayerPart::AttentionNorm)?,
            feed_forward_norm: vector(LayerPart::FeedForwardNorm)?,
        })
    }

    /// The matrix of a linear layer, `[out, in]`.
    #[must_use]
    pub fn linear(&self, site: Site) -> &StoredMatrix {
        &self.linears[site as usize]
    }
}

/// What surrounds the layers.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredFrame {
    /// `[vocabulary, hidden]`.
    pub embedding: StoredMatrix,
    /// `[hidden]`.
    pub norm: Vec<f32>,
    /// `[vocabulary, hidden]`, unless it is the embedding.
    pub head: Option<StoredMatrix>,
    /// Radians per token of each pair of a head.
    pub frequencies: Vec<f64>,
}

impl StoredFrame {
    /// Reads embedding, last norm, head and rotation.
    ///
    /// # Errors
    /// As [`StoredLayer::read`].
    pub fn read(files: &ModelFiles, config: &Config) -> Result<Self, ModelError> {
        let head = if files.is_tied(config) { None } else { Some(files.matrix(Part::Head, config)?) };
        let scaling = match files.divisors(config)? {
            Some(divisors) => rope::Scaling::Divisors(divisors),
            None => config.rope_scaling.clone(),
        };
        Ok(Self {
            embedding: files.matrix(Part::Embedding, config)?,
            norm: files.vector(Part::Norm, config)?,
            head,
            frequencies: rope::frequencies(config.rope_base, config.head_dim, &scaling),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaved_rows_become_halves_without_touching_a_code() {
        let row = |n: u8| vec![n; 34];
        let bytes: Vec<u8> = (0..8).flat_map(row).collect();
        let matrix = StoredMatrix { rows: 8, columns: 32, kind: TensorType::Q8_0, bytes };
        let order: Vec<u8> = matrix.halves(4).bytes.chunks(34).map(|row| row[0]).collect();
        assert_eq!(order, [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
