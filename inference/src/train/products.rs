//! Products with frozen weights, in the arithmetic that a run chose: where nearly all of its time goes.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::model::linear::read;
use crate::model::{Model, Site};

use super::codes::{self, CodeRows, Kernel, Panels};
use super::kernels::rows;

/// How products with frozen weights are computed. Trained matrices, attention, norms and the optimizer are f32 in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arithmetic {
    /// In f32, by the library that the rest is computed with.
    F32,
    /// In whole numbers of sixteen bits with a scale for each group of 128: about a third of the processor time of f32 where the machine multiplies pairs of them
    /// (AVX-512 VNNI), about as much as f32 with AVX2, several times as much without either. These products are the same bits on every machine.
    I16,
}

/// A frozen matrix of a model.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// Of a layer.
    Linear(usize, Site),
    /// The output head.
    Head,
}

/// Rows as a product reads them, made once for all matrices that they are multiplied by.
pub(super) enum Input<'a> {
    F32(&'a Tensor),
    I16(CodeRows),
}

/// The frozen matrices.
pub(super) enum Products {
    F32,
    I16 { kernel: &'static Kernel, layers: Vec<[Both; 7]>, head: Both },
}

/// A matrix for both ways.
pub(super) struct Both {
    forward: Panels,
    /// For gradients of the input; none where nobody wants them.
    back: Option<Panels>,
}

impl Products {
    /// Matrices of a model with trained layers from `first` on. Of whole numbers: 2 bytes a weight for each way, beside the model's own.
    pub(super) fn new(arithmetic: Arithmetic, model: &Model, first: usize) -> candle_core::Result<Self> {
        if arithmetic == Arithmetic::F32 {
            return Ok(Self::F32);
        }
        let kernel = codes::kernel();
        let both = |weight: &Tensor, is_back: bool| -> candle_core::Result<Both> {
            let (outputs, inputs) = weight.dims2()?;
            read(weight, |weight| Both {
                forward: Panels::new(weight, outputs, inputs, kernel),
                back: is_back.then(|| Panels::transposed(weight, inputs, outputs, kernel)),
            })
        };
        let mut layers = Vec::with_capacity(model.weights.layers.len());
        for (index, layer) in model.weights.layers.iter().enumerate() {
            // Below the input of the first trained layer nothing wants a gradient.
            let is_back = |site| index > first || (index == first && !matches!(site, Site::Q | Site::K | Site::V));
            let each = Site::ALL.map(|site| both(layer.linear(site), is_back(site)));
            let [q, k, v, o, gate, up, down] = each;
            layers.push([q?, k?, v?, o?, gate?, up?, down?]);
        }
        Ok(Self::I16 { kernel, layers, head: both(model.weights.head(), true)? })
    }

    /// Prepares `[rows, width]` for products.
    pub(super) fn input<'a>(&self, x: &'a Tensor) -> candle_core::Result<Input<'a>> {
        match self {
            Self::F32 => Ok(Input::F32(x)),
            Self::I16 { kernel, .. } => {
                let (_, width) = x.dims2()?;
                Ok(Input::I16(read(x, |x| CodeRows::new(x, width, kernel))?))
            }
        }
    }

    /// Rows times the transpose of a matrix `[out, in]`: `[rows, out]`.
    pub(super) fn forward(&self, model: &Model, place: Place, x: &Input<'_>) -> candle_core::Result<Tensor> {
        match (self, x) {
            (Self::F32, Input::F32(x)) => x.matmul(&weight(model, place).t()?),
            (Self::I16 { kernel, .. }, Input::I16(x)) => rows(self.both(place)?.forward.product(x, kernel), x.count()),
            _ => candle_core::bail!("rows were prepared for another arithmetic"),
        }
    }

    /// Rows times a matrix `[out, in]`: `[rows, in]`, the gradient of the input from that of the output.
    pub(super) fn back(&self, model: &Model, place: Place, dy: &Input<'_>) -> candle_core::Result<Tensor> {
        match (self, dy) {
            (Self::F32, Input::F32(dy)) => dy.matmul(weight(model, place)),
            (Self::I16 { kernel, .. }, Input::I16(dy)) => {
                let Some(back) = &self.both(place)?.back else { candle_core::bail!("no gradient is wanted below the first trained layer") };
                rows(back.product(dy, kernel), dy.count())
            }
            _ => candle_core::bail!("rows were prepared for another arithmetic"),
        }
    }

    fn both(&self, place: Place) -> candle_core::Result<&Both> {
        match (self, place) {
            (Self::F32, _) => candle_core::bail!("f32 needs no codes"),
            (Self::I16 { head, .. }, Place::Head) => Ok(head),
            (Self::I16 { layers, .. }, Place::Linear(layer, site)) => Ok(&layers[layer][site as usize]),
        }
    }
}

fn weight(model: &Model, place: Place) -> &Tensor {
    match place {
        Place::Linear(layer, site) => model.weights.layers[layer].linear(site),
        Place::Head => model.weights.head(),
    }
}
