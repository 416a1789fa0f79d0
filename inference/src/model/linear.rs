//! The product every linear layer is made of: many rows by candle, a single row by plain loops.
//!
//! A single row is bound by reading the weight. candle's product would read it with one thread, and asks the system for its
//! number of processors on every call (it parses `/proc/cpuinfo`: more than a tenth of a decoding step with an adapter).

use candle_core::{CpuStorage, Storage, Tensor};

use crate::vector::rows_dot;

/// Weights above which a single row's product is split among two threads: 1 MB, about 70 us of memory traffic, against a few
/// for waking the other thread.
const SPLIT_ELEMENTS: usize = 1 << 18;

/// Reads a contiguous f32 tensor in place.
pub(crate) fn read<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> candle_core::Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(CpuStorage::F32(values)) = &*storage else {
        candle_core::bail!("expected an f32 tensor on the CPU");
    };
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("expected a contiguous tensor");
    };
    Ok(f(&values[start..end]))
}

/// `input: [tokens, in]` times the transpose of `weight: [out, in]`: `[tokens, out]`.
pub(crate) fn apply(input: &Tensor, weight: &Tensor) -> candle_core::Result<Tensor> {
    input.matmul(&weight.t()?)
}

/// One row times the transpose of `weight: [out, in]`. Each output is one dot product, so splitting changes no bit.
pub(crate) fn apply_row(input: &[f32], weight: &Tensor) -> candle_core::Result<Vec<f32>> {
    let (out, width) = weight.dims2()?;
    if width != input.len() {
        candle_core::bail!("a row of {} does not fit a weight of {width} columns", input.len());
    }
    read(weight, |weight| {
        let mut product = vec![0f32; out];
        if weight.len() < SPLIT_ELEMENTS {
            rows_dot(&mut product, weight, input);
        } else {
            // Halves of whole blocks of four rows.
            let half = out / 8 * 4;
            let (low, high) = product.split_at_mut(half);
            let (first, second) = weight.split_at(half * width);
            rayon::join(|| rows_dot(low, first, input), || rows_dot(high, second, input));
        }
        product
    })
}
