//! The way back through one layer: gradients of its input and of its matrices, from the activations that the way forward saved.

use candle_core::Tensor;
use rayon::prelude::*;

use super::super::kernels::{add_to, gated_back, rms_norm_back, rows, softmax_back};
use super::{Batch, Graph, Matrices, Saved, gather, scatter, tensor3};
use crate::model::linear::read;
use crate::model::{Config, Site};
use crate::vector::add_scaled;

/// The way back through one layer.
pub(super) struct Back<'a> {
    pub(super) graph: &'a Graph<'a>,
    pub(super) layer: usize,
    pub(super) batch: &'a Batch,
    pub(super) matrices: &'a Matrices<'a>,
    pub(super) saved: &'a Saved,
}

impl Back<'_> {
    /// From the gradient of the layer's output to the one of its input; adds the matrices' gradients.
    pub(super) fn run(&self, d_out: Vec<f32>, gradient: &mut [f32]) -> candle_core::Result<Vec<f32>> {
        let Saved { input, normed, mixed, middle, middle_normed, gate, up, act, .. } = self.saved;
        let count = input.dim(0)?;
        let weights = &self.graph.model.weights.layers[self.layer];
        let d_out = rows(d_out, count)?;
        let d_act = self.linear(Site::Down, act, &d_out, gradient)?;
        let (d_gate, d_up) = read(&d_act, |d| read(gate, |gate| read(up, |up| gated_back(d, gate, up))))???;
        let d_normed = self.linear(Site::Gate, middle_normed, &rows(d_gate, count)?, gradient)?;
        add_to(&d_normed, &self.linear(Site::Up, middle_normed, &rows(d_up, count)?, gradient)?)?;
        let mut d_middle = read(&d_out, <[f32]>::to_vec)?;
        self.norm(&mut d_middle, &d_normed, middle, &self.saved.middle_inverse, &weights.feed_forward_norm)?;
        let d_middle = rows(d_middle, count)?;
        let d_mixed = self.linear(Site::O, mixed, &d_middle, gradient)?;
        let [d_q, d_k, d_v] = self.attention(&d_mixed)?;
        let last = self.layer == self.graph.first;
        if last {
            // Nothing below is trained: only the matrices' own gradients are wanted.
            for (site, d) in [(Site::Q, &d_q), (Site::K, &d_k), (Site::V, &d_v)] {
                self.matrices(site, normed, d, gradient)?;
            }
            return Ok(Vec::new());
        }
        let d_normed = self.linear(Site::Q, normed, &d_q, gradient)?;
        add_to(&d_normed, &self.linear(Site::K, normed, &d_k, gradient)?)?;
        add_to(&d_normed, &self.linear(Site::V, normed, &d_v, gradient)?)?;
        let mut d_input = read(&d_middle, <[f32]>::to_vec)?;
        self.norm(&mut d_input, &d_normed, input, &self.saved.input_inverse, &weights.attention_norm)?;
        Ok(d_input)
    }

    fn norm(&self, dx: &mut [f32], dy: &Tensor, x: &Tensor, inverse: &[f32], weight: &Tensor) -> candle_core::Result<()> {
        read(dy, |dy| read(x, |x| read(weight, |weight| rms_norm_back(dx, dy, x, inverse, weight))))??
    }

    /// Gradient of a linear layer's input.
    fn linear(&self, site: Site, x: &Tensor, dy: &Tensor, gradient: &mut [f32]) -> candle_core::Result<Tensor> {
        let dx = dy.matmul(self.graph.model.weights.layers[self.layer].linear(site))?;
        if let Some((dz, a)) = self.matrices(site, x, dy, gradient)? {
            add_to(&dx, &dz.matmul(a)?)?;
        }
        Ok(dx)
    }

    /// Gradients of a linear layer's matrices; returns the scaled gradient of x A' and A.
    fn matrices(&self, site: Site, x: &Tensor, dy: &Tensor, gradient: &mut [f32]) -> candle_core::Result<Option<(Tensor, &Tensor)>> {
        let (Some((index, entry)), Some(z)) = (self.matrices.layout.entry(self.layer, site), &self.saved.shrunk[site as usize]) else {
            return Ok(None);
        };
        let (a, b) = &self.matrices.tensors[index];
        read(&dy.t()?.matmul(z)?, |db| add_scaled(&mut gradient[entry.b.clone()], db, 1.0))?;
        let dz = (dy.matmul(b)? * self.matrices.scale)?;
        read(&dz.t()?.matmul(x)?, |da| add_scaled(&mut gradient[entry.a.clone()], da, 1.0))?;
        Ok(Some((dz, a)))
    }

    /// Gradients of queries, keys and values before rotation.
    fn attention(&self, d_mixed: &Tensor) -> candle_core::Result<[Tensor; 3]> {
        let Config { heads, kv_heads, head_dim, .. } = *self.graph.config();
        let group = heads / kv_heads;
        let positions = self.batch.positions();
        let spans = self.batch.spans();
        let d_mixed = read(d_mixed, <[f32]>::to_vec)?;
        let parts: Vec<[Tensor; 3]> = spans
            .par_iter()
            .zip(&self.saved.spans)
            .map(|(span, saved)| {
                let total = span.shared + span.len;
                let d = tensor3(gather(&d_mixed, &span.own(), heads, head_dim), kv_heads, group * span.len, head_dim)?;
                let d_v = saved.p.t()?.matmul(&d)?;
                let mut d_scores = d.matmul(&saved.v.t()?)?.flatten_all()?.to_vec1::<f32>()?;
                read(&saved.p, |p| softmax_back(&mut d_scores, p, total))?;
                let d_scores = tensor3(d_scores, kv_heads, group * span.len, total)?;
                Ok([d_scores.matmul(&saved.k)?, d_scores.t()?.matmul(&saved.q)?, d_v])
            })
            .collect::<candle_core::Result<_>>()?;
        let room = |heads: usize| vec![0f32; positions.len() * heads * head_dim];
        let (mut d_q, mut d_k, mut d_v) = (room(heads), room(kv_heads), room(kv_heads));
        for (span, [part_q, part_k, part_v]) in spans.iter().zip(&parts) {
            read(part_q, |part| scatter(&mut d_q, part, &span.own(), heads, head_dim, self.graph.attention_scale()))?;
            read(part_k, |part| scatter(&mut d_k, part, &span.seen(), kv_heads, head_dim, 1.0))?;
            read(part_v, |part| scatter(&mut d_v, part, &span.seen(), kv_heads, head_dim, 1.0))?;
        }
        self.graph.rotate(&mut d_q, &positions, heads, -1.0);
        self.graph.rotate(&mut d_k, &positions, kv_heads, -1.0);
        let count = positions.len();
        Ok([rows(d_q, count)?, rows(d_k, count)?, rows(d_v, count)?])
    }
}
