//! The product every linear layer is made of.

use candle_core::Tensor;

/// `input: [tokens, in]` times the transpose of `weight: [out, in]`: `[tokens, out]`.
pub(crate) fn apply(input: &Tensor, weight: &Tensor) -> candle_core::Result<Tensor> {
    input.matmul(&weight.t()?)
}
