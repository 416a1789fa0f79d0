//! Elementwise loops of training, over rows of f32, split among the threads of the arithmetic library in fixed chunks
//! so that results do not depend on how many there are. Below: the products of whole numbers for each instruction set.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod fused;

use candle_core::{CpuStorage, Device, InplaceOp2, Layout, Tensor};
use rayon::prelude::*;

use super::codes::Kernel;
use super::dense::Product;
use crate::vector::{self, CHUNK, dot, exp, sigmoid, softmax, sum, width_f32};

/// Kernels with vector instructions that this machine has, the quickest first.
pub(super) fn vector_kernels() -> Vec<&'static Kernel> {
    #[cfg(target_arch = "x86_64")]
    {
        [avx512::kernel(), avx2::kernel()].into_iter().flatten().collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        Vec::new()
    }
}

/// Adds a product whose bounds were checked; false where this machine has no kernel for it.
pub(super) fn add_dense(product: &Product<'_>, out: &mut [f32], out_step: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        fused::add(product, out, out_step)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (product, out, out_step);
        false
    }
}

/// A tensor of `rows` rows from values.
pub(super) fn rows(values: Vec<f32>, rows: usize) -> candle_core::Result<Tensor> {
    let columns = values.len().checked_div(rows).unwrap_or(0);
    Tensor::from_vec(values, (rows, columns), &Device::Cpu)
}

/// Adds `rhs` to `lhs` without allocating; both contiguous and of equal size.
pub(super) fn add_to(lhs: &Tensor, rhs: &Tensor) -> candle_core::Result<()> {
    lhs.inplace_op2(rhs, &AddTo)
}

struct AddTo;

impl InplaceOp2 for AddTo {
    fn name(&self) -> &'static str {
        "add-to"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(lhs), CpuStorage::F32(rhs)) = (s1, s2) else {
            candle_core::bail!("add-to expects f32");
        };
        let (Some((a, b)), Some((c, d))) = (l1.contiguous_offsets(), l2.contiguous_offsets()) else {
            candle_core::bail!("add-to expects contiguous tensors");
        };
        let (lhs, rhs) = (&mut lhs[a..b], &rhs[c..d]);
        if lhs.len() != rhs.len() {
            candle_core::bail!("add-to expects equal sizes, got {} and {}", lhs.len(), rhs.len());
        }
        lhs.par_chunks_mut(CHUNK).zip(rhs.par_chunks(CHUNK)).for_each(|(lhs, rhs)| {
            for (l, r) in lhs.iter_mut().zip(rhs) {
                *l += r;
            }
        });
        Ok(())
    }
}

/// `RMSNorm` of rows; also returns 1 / rms of each row, which the way back needs.
pub(super) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32) -> (Vec<f32>, Vec<f32>) {
    let width = weight.len();
    let mut out = vec![0f32; x.len()];
    let mut inverse = vec![0f32; x.len() / width];
    out.par_chunks_mut(width).zip(inverse.par_iter_mut()).zip(x.par_chunks(width)).with_min_len(32).for_each(|((out, inverse), x)| {
        *inverse = vector::rms_norm(out, x, weight, epsilon);
    });
    (out, inverse)
}

/// Adds to `dx` the gradient of `RMSNorm`: w dy / rms - x (x . w dy) / (width rms^3).
pub(super) fn rms_norm_back(dx: &mut [f32], dy: &[f32], x: &[f32], inverse: &[f32], weight: &[f32]) {
    let width = weight.len();
    dx.par_chunks_mut(width).zip(dy.par_chunks(width)).zip(x.par_chunks(width).zip(inverse.par_iter())).with_min_len(32).for_each(
        |((dx, dy), (x, &inverse))| {
            let mut weighted = vec![0f32; width];
            for ((slot, dy), w) in weighted.iter_mut().zip(dy).zip(weight) {
                *slot = dy * w;
            }
            let pull = dot(&weighted, x) * inverse * inverse * inverse / width_f32(width);
            for ((dx, g), x) in dx.iter_mut().zip(&weighted).zip(x) {
                *dx += g * inverse - x * pull;
            }
        },
    );
}

/// Gradients of [`gated`](crate::vector::gated) with respect to gate and up.
pub(super) fn gated_back(d: &[f32], gate: &[f32], up: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let mut d_gate = vec![0f32; d.len()];
    let mut d_up = vec![0f32; d.len()];
    d_gate
        .par_chunks_mut(CHUNK)
        .zip(d_up.par_chunks_mut(CHUNK))
        .zip(d.par_chunks(CHUNK))
        .zip(gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK)))
        .for_each(|(((d_gate, d_up), d), (gate, up))| {
            for i in 0..d.len() {
                let s = sigmoid(gate[i]);
                let silu = gate[i] * s;
                d_up[i] = d[i] * silu;
                d_gate[i] = d[i] * up[i] * (s + silu * (1.0 - s));
            }
        });
    (d_gate, d_up)
}

/// Softmax of rows of `width`, in place. Row r sees `seen + r` columns; the others become 0.
pub(super) fn causal_softmax(scores: &mut [f32], seen: usize, width: usize) {
    for (row, scores) in scores.chunks_exact_mut(width).enumerate() {
        let (seen, hidden) = scores.split_at_mut(seen + row);
        hidden.fill(0.0);
        softmax(seen);
    }
}

/// Gradient of a softmax, into `d`: p (d - p . d).
pub(super) fn softmax_back(d: &mut [f32], p: &[f32], width: usize) {
    for (d, p) in d.chunks_exact_mut(width).zip(p.chunks_exact(width)) {
        let mean = dot(d, p);
        for (d, p) in d.iter_mut().zip(p) {
            *d = p * (*d - mean);
        }
    }
}

/// Cross entropy of rows of logits against targets: the sum of losses in nats, and the gradient of `scale` times it.
pub(super) fn cross_entropy(logits: &[f32], targets: &[u32], scale: f32) -> (f64, Vec<f32>) {
    let width = logits.len() / targets.len().max(1);
    let mut gradient = vec![0f32; logits.len()];
    let losses: Vec<f64> = gradient
        .par_chunks_mut(width)
        .zip(logits.par_chunks(width))
        .zip(targets.par_iter())
        .map(|((out, logits), &target)| {
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for (out, logit) in out.iter_mut().zip(logits) {
                *out = exp(logit - largest);
            }
            let total = sum(out);
            let factor = scale / total;
            for out in out.iter_mut() {
                *out *= factor;
            }
            let target = usize::try_from(target).unwrap_or(usize::MAX);
            out[target] -= scale;
            f64::from(total.ln() + largest - logits[target])
        })
        .collect();
    (losses.iter().sum(), gradient)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_entropy_of_equal_logits_is_the_logarithm_of_their_number() {
        let (loss, gradient) = cross_entropy(&[2.0; 8], &[1, 3], 1.0);
        assert!((loss - 2.0 * 4f64.ln()).abs() < 1e-6);
        for (got, expected) in gradient.iter().zip([0.25, -0.75, 0.25, 0.25, 0.25, 0.25, 0.25, -0.75]) {
            assert!((got - expected).abs() < 1e-6, "{gradient:?}");
        }
    }
}
