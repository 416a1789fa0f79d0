//! The product every linear layer is made of.

use candle_core::Tensor;

/// Weights above which a single row's product is split among two threads: 1 MB, about 70 us of memory traffic, against a few
/// for waking the other thread.
const SPLIT_ELEMENTS: usize = 1 << 18;

/// `input: [tokens, in]` times the transpose of `weight: [out, in]`: `[tokens, out]`.
///
/// A single row is bound by reading the weight, and the library reads it with one thread; two threads take half of the
/// output each. An output is one dot product either way, so the split does not change a bit.
pub(crate) fn apply(input: &Tensor, weight: &Tensor) -> candle_core::Result<Tensor> {
    let out = weight.dim(0)?;
    if input.dim(0)? > 1 || weight.elem_count() < SPLIT_ELEMENTS {
        return input.matmul(&weight.t()?);
    }
    let half = out / 2;
    let part = |start, len| input.matmul(&weight.narrow(0, start, len)?.t()?);
    let (low, high) = rayon::join(|| part(0, half), || part(half, out - half));
    Tensor::cat(&[low?, high?], 1)
}
