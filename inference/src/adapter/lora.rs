//! The matrices of an adapter in f32, matched with a model: what training continues from and the f32 graph applies.

use candle_core::{Device, Tensor};

use crate::model::{ModelInfo, Site};

use super::matched::{Matrix, matched};
use super::{AdapterError, AdapterFiles, AdapterInfo};

/// The two matrices of one linear layer.
#[derive(Debug, Clone)]
pub struct Pair {
    /// `[rank, in]`.
    a: Tensor,
    /// `[out, rank]`, already multiplied by the scale.
    b: Tensor,
}

impl Pair {
    /// s B (A x) for rows x: `[tokens, in]` to `[tokens, out]`.
    pub(crate) fn apply(&self, input: &Tensor) -> candle_core::Result<Tensor> {
        let shrunk = crate::model::linear::apply(input, &self.a)?;
        crate::model::linear::apply(&shrunk, &self.b)
    }

    /// The same for a single row.
    pub(crate) fn apply_row(&self, input: &[f32]) -> candle_core::Result<Vec<f32>> {
        let shrunk = crate::model::linear::apply_row(input, &self.a)?;
        crate::model::linear::apply_row(&shrunk, &self.b)
    }
}

/// An adapter that fits a model.
#[derive(Debug)]
pub struct Lora {
    /// By layer, then by site.
    pairs: Vec<[Option<Pair>; 7]>,
    info: AdapterInfo,
}

impl Lora {
    /// Matches an adapter with a model.
    ///
    /// # Errors
    /// [`AdapterError::OtherBase`] when the settings record another base; otherwise the error names the tensor.
    pub fn new(files: &AdapterFiles, model: &ModelInfo) -> Result<Self, AdapterError> {
        let mut pairs = vec![[const { None }; 7]; model.config.layers];
        let (mut rank, mut bytes) = (0, 0);
        for found in matched(files, model)? {
            let pair = Pair { a: tensor(&found.a)?, b: tensor(&found.b)? };
            rank = rank.max(found.rank);
            bytes += 4 * (pair.a.elem_count() + pair.b.elem_count()) as u64;
            pairs[found.layer][found.site as usize] = Some(pair);
        }
        let info = AdapterInfo { hash: files.hash(), rank, name: files.name.clone(), bytes, is_base_recorded: files.base_hash().is_some() };
        Ok(Self { pairs, info })
    }

    /// What others may know of it.
    #[must_use]
    pub fn info(&self) -> &AdapterInfo {
        &self.info
    }

    /// The matrices of a linear layer, if it has any.
    pub(crate) fn pair(&self, layer: usize, site: Site) -> Option<&Pair> {
        self.pairs.get(layer)?[site as usize].as_ref()
    }
}

fn tensor(matrix: &Matrix<'_>) -> Result<Tensor, AdapterError> {
    Ok(Tensor::from_vec(matrix.values()?, (matrix.rows, matrix.columns), &Device::Cpu)?)
}
