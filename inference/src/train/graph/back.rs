//! The way back through one layer: gradients of its input and of its matrices, from the activations that the way forward saved.

use candle_core::Tensor;
use rayon::prelude::*;

use super::super::dense::{Factor, Product};
use super::super::kernels::{add_to, gated_back, rms_norm_back, rows};
use super::super::products::Place;
use super::attention::{self, Shape};
use super::{Batch, Graph, Matrices, Saved, gather, scatter};
use crate::model::linear::read;
use crate::model::{Config, Site};

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
        let products = &self.graph.products;
        let dx = products.back(self.graph.model, Place::Linear(self.layer, site), &products.input(dy)?)?;
        if let Some((index, dz)) = self.matrices(site, x, dy, gradient)? {
            let (rank, input) = self.matrices.layout.entries[index].a_shape;
            let a = &self.matrices.trained[index].a;
            Product { rows: dy.dim(0)?, sums: rank, width: input, a: Factor::rows(&dz, rank), b: a, b_step: input }.add_to_tensor(&dx)?;
        }
        Ok(dx)
    }

    /// Adds the gradients of a linear layer's matrices; returns their number and the scaled gradient of x A'.
    fn matrices(&self, site: Site, x: &Tensor, dy: &Tensor, gradient: &mut [f32]) -> candle_core::Result<Option<(usize, Vec<f32>)>> {
        let (Some((index, entry)), Some(z)) = (self.matrices.layout.entry(self.layer, site), &self.saved.shrunk[site as usize]) else {
            return Ok(None);
        };
        let (count, (rank, input), (out, _)) = (dy.dim(0)?, entry.a_shape, entry.b_shape);
        let b = &self.matrices.trained[index].b;
        let mut dz = read(dy, |dy| {
            let product = Product { rows: out, sums: count, width: rank, a: Factor::columns(dy, out), b: z, b_step: rank };
            product.par_add_to(&mut gradient[entry.b.clone()]);
            Product { rows: count, sums: out, width: rank, a: Factor::rows(dy, out), b, b_step: rank }.computed()
        })?;
        self.matrices.scale_all(&mut dz);
        read(x, |x| {
            let product = Product { rows: rank, sums: count, width: input, a: Factor::columns(&dz, rank), b: x, b_step: input };
            product.par_add_to(&mut gradient[entry.a.clone()]);
        })?;
        Ok(Some((index, dz)))
    }

    /// Gradients of queries, keys and values before rotation.
    fn attention(&self, d_mixed: &Tensor) -> candle_core::Result<[Tensor; 3]> {
        let Config { heads, kv_heads, head_dim, .. } = *self.graph.config();
        let group = heads / kv_heads;
        let positions = self.batch.positions();
        let spans = self.batch.spans();
        let d_mixed = read(d_mixed, <[f32]>::to_vec)?;
        let parts: Vec<[Vec<f32>; 3]> = spans
            .par_iter()
            .zip(&self.saved.spans)
            .map(|(&span, saved)| {
                attention::back(Shape { span, kv_heads, group, head_dim }, saved, &gather(&d_mixed, &span.own(), heads, head_dim))
            })
            .collect();
        let room = |heads: usize| vec![0f32; positions.len() * heads * head_dim];
        let (mut d_q, mut d_k, mut d_v) = (room(heads), room(kv_heads), room(kv_heads));
        for (span, [part_q, part_k, part_v]) in spans.iter().zip(&parts) {
            scatter(&mut d_q, part_q, &span.own(), heads, head_dim, self.graph.attention_scale());
            scatter(&mut d_k, part_k, &span.seen(), kv_heads, head_dim, 1.0);
            scatter(&mut d_v, part_v, &span.seen(), kv_heads, head_dim, 1.0);
        }
        self.graph.rotate(&mut d_q, &positions, heads, -1.0);
        self.graph.rotate(&mut d_k, &positions, kv_heads, -1.0);
        let count = positions.len();
        Ok([rows(d_q, count)?, rows(d_k, count)?, rows(d_v, count)?])
    }
}
