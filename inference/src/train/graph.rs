//! The forward and backward pass of the trained layers.
//!
//! The way back is written out by hand instead of recorded: candle's autograd would also compute the gradient of every
//! frozen weight (a third of all arithmetic) and allocate a tensor per elementwise step. Products with frozen weights are those of the run's arithmetic ([`Products`]), the others [`Product`].
//! Three things are never computed twice or at all:
//! - layers below the first trained one are frozen, so their output for an example is the same in every pass (the trunk);
//! - rows that all examples of a batch begin with (the system turn of the chat template) are computed once and shared;
//! - the output head runs only on rows whose next token counts in the loss.
//!
//! Per row and trained layer: twice the multiplications of inference, and about 34 kB of saved activations.

mod attention;
mod back;

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

use crate::model::linear::read;
use crate::model::{Config, Model, Site, f64_from};
use crate::vector;

use super::dense::{Factor, Product};
use super::kernels::{add_to, cross_entropy, rms_norm, rms_norm_back, rows};
use super::params::{Layout, Trained};
use super::products::{Arithmetic, Input, Place, Products};
use attention::{SavedSpan, Shape};
use back::Back;

/// Rows of logits computed at a time: 25 MB for a vocabulary of 49,152.
const HEAD_ROWS: usize = 128;

/// The graph of one model with trained layers from `first` on.
pub(super) struct Graph<'a> {
    model: &'a Model,
    products: Products,
    first: usize,
    epsilon: f32,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

/// Examples packed for one step: shared rows first, then the rest of each example.
pub(super) struct Batch {
    /// Output of the frozen layers, `[rows, hidden]`.
    pub(super) hidden: Tensor,
    /// Rows every example begins with.
    pub(super) shared: usize,
    /// Rows of each example after the shared ones.
    pub(super) lengths: Vec<usize>,
    /// Rows that predict a counted token, and that token.
    pub(super) targets: Vec<(usize, u32)>,
}

/// A run of rows that attends to the shared rows and itself.
#[derive(Clone, Copy)]
struct Span {
    shared: usize,
    start: usize,
    len: usize,
}

impl Span {
    /// The rows themselves, as [`gather`] takes them.
    fn own(self) -> [Range<usize>; 2] {
        [0..0, self.start..self.start + self.len]
    }

    /// The rows they attend to.
    fn seen(self) -> [Range<usize>; 2] {
        [0..self.shared, self.start..self.start + self.len]
    }
}

impl Batch {
    fn spans(&self) -> Vec<Span> {
        let mut out = Vec::new();
        if self.shared > 0 {
            out.push(Span { shared: 0, start: 0, len: self.shared });
        }
        let mut start = self.shared;
        for &len in &self.lengths {
            if len > 0 {
                out.push(Span { shared: self.shared, start, len });
            }
            start += len;
        }
        out
    }

    fn positions(&self) -> Vec<usize> {
        self.spans().iter().flat_map(|span| span.shared..span.shared + span.len).collect()
    }
}

/// The matrices of one step.
pub(super) struct Matrices<'a> {
    pub(super) layout: &'a Layout,
    pub(super) trained: &'a [Trained],
    pub(super) scale: f64,
}

/// What a linear layer with matrices keeps: the scaled product with A, `[rows, rank]`.
type Shrunk = Option<Vec<f32>>;

/// Activations of one layer that the way back needs.
struct Saved {
    input: Tensor,
    input_inverse: Vec<f32>,
    normed: Tensor,
    spans: Vec<SavedSpan>,
    mixed: Tensor,
    middle: Tensor,
    middle_inverse: Vec<f32>,
    middle_normed: Tensor,
    gate: Tensor,
    up: Tensor,
    act: Tensor,
    shrunk: [Shrunk; 7],
}

impl Matrices<'_> {
    /// Adds what the matrices of an entry make of `x` to `y`; returns the scaled product with A.
    fn add_to(&self, index: usize, x: &Tensor, y: &Tensor) -> candle_core::Result<Vec<f32>> {
        let (count, entry, trained) = (x.dim(0)?, &self.layout.entries[index], &self.trained[index]);
        let ((rank, input), (out, _)) = (entry.a_shape, entry.b_shape);
        let product = |x: &[f32]| {
            Product { rows: count, sums: input, width: rank, a: Factor::rows(x, input), b: &trained.a_turned, b_step: rank }.computed()
        };
        let mut z = read(x, product)?;
        self.scale_all(&mut z);
        Product { rows: count, sums: rank, width: out, a: Factor::rows(&z, rank), b: &trained.b_turned, b_step: out }.add_to_tensor(y)?;
        Ok(z)
    }

    fn scale_all(&self, values: &mut [f32]) {
        #[expect(clippy::cast_possible_truncation, reason = "the graph computes in f32")]
        let scale = self.scale as f32;
        values.iter_mut().for_each(|value| *value *= scale);
    }
}

impl<'a> Graph<'a> {
    pub(super) fn new(model: &'a Model, first: usize, length_max: usize, arithmetic: Arithmetic) -> candle_core::Result<Self> {
        let (cosines, sines) = model.weights.rotation(0, length_max)?;
        Ok(Self {
            model,
            products: Products::new(arithmetic, model, first)?,
            first,
            epsilon: model.config().epsilon(),
            cosines: cosines.flatten_all()?.to_vec1()?,
            sines: sines.flatten_all()?.to_vec1()?,
        })
    }

    fn config(&self) -> &Config {
        self.model.config()
    }

    /// Rows of the embedding, `[tokens, hidden]`, row by row.
    pub(super) fn embed(&self, tokens: &[u32]) -> Result<Vec<f32>, crate::model::ModelError> {
        Ok(read(&self.model.weights.embed(tokens, self.config())?, <[f32]>::to_vec)?)
    }

    /// Output of the frozen layers for a batch of embedded rows.
    pub(super) fn frozen(&self, batch: &Batch) -> candle_core::Result<Tensor> {
        let mut hidden = batch.hidden.clone();
        for layer in 0..self.first {
            hidden = self.layer(layer, batch, &hidden, None)?.0;
        }
        Ok(hidden)
    }

    /// Sum of the losses of a batch, in nats.
    pub(super) fn loss(&self, batch: &Batch, matrices: Option<&Matrices>) -> candle_core::Result<f64> {
        let mut hidden = batch.hidden.clone();
        for layer in self.first..self.config().layers {
            hidden = self.layer(layer, batch, &hidden, matrices)?.0;
        }
        Ok(self.head(batch, &hidden, None)?.0)
    }

    /// Sum of the losses; adds the gradient of it, divided by `counted`, with respect to every matrix to `gradient`.
    pub(super) fn gradient(&self, batch: &Batch, matrices: &Matrices, counted: usize, gradient: &mut [f32]) -> candle_core::Result<f64> {
        let mut hidden = batch.hidden.clone();
        let mut saved = Vec::new();
        for layer in self.first..self.config().layers {
            let (out, kept) = self.layer(layer, batch, &hidden, Some(matrices))?;
            saved.push(kept);
            hidden = out;
        }
        let (loss, mut d) = self.head(batch, &hidden, Some(counted))?;
        for layer in (self.first..self.config().layers).rev() {
            let kept = saved.pop().ok_or_else(|| candle_core::Error::msg("every layer was saved"))?;
            d = Back { graph: self, layer, batch, matrices, saved: &kept }.run(d, gradient)?;
        }
        Ok(loss)
    }

    /// One layer. Without matrices it is the frozen layer.
    fn layer(&self, layer: usize, batch: &Batch, input: &Tensor, matrices: Option<&Matrices>) -> candle_core::Result<(Tensor, Saved)> {
        let weights = &self.model.weights.layers[layer];
        let mut shrunk = [const { None }; 7];
        let mut linear = |site: Site, x: &Tensor, input: &Input<'_>| -> candle_core::Result<Tensor> {
            let mut y = self.products.forward(self.model, Place::Linear(layer, site), input)?;
            if let Some(bias) = weights.bias(site) {
                y = y.broadcast_add(bias)?;
            }
            if let Some((index, matrices)) = matrices.and_then(|m| Some((m.layout.entry(layer, site)?.0, m))) {
                shrunk[site as usize] = Some(matrices.add_to(index, x, &y)?);
            }
            Ok(y)
        };
        let (normed, input_inverse) = self.norm(input, &weights.attention_norm)?;
        let prepared = self.products.input(&normed)?;
        let q = linear(Site::Q, &normed, &prepared)?;
        let k = linear(Site::K, &normed, &prepared)?;
        let v = linear(Site::V, &normed, &prepared)?;
        drop(prepared);
        let (mixed, spans) = self.attention(batch, &q, &k, &v)?;
        let middle = linear(Site::O, &mixed, &self.products.input(&mixed)?)?;
        add_to(&middle, input)?;
        let (middle_normed, middle_inverse) = self.norm(&middle, &weights.feed_forward_norm)?;
        let prepared = self.products.input(&middle_normed)?;
        let gate = linear(Site::Gate, &middle_normed, &prepared)?;
        let up = linear(Site::Up, &middle_normed, &prepared)?;
        drop(prepared);
        let act = read(&gate, |gate| read(&up, |up| vector::gated(gate, up)))??;
        let act = rows(act, gate.dim(0)?)?;
        let out = linear(Site::Down, &act, &self.products.input(&act)?)?;
        add_to(&out, &middle)?;
        let saved = Saved {
            input: input.clone(),
            input_inverse,
            normed,
            spans,
            mixed,
            middle,
            middle_inverse,
            middle_normed,
            gate,
            up,
            act,
            shrunk,
        };
        Ok((out, saved))
    }

    fn norm(&self, x: &Tensor, weight: &Tensor) -> candle_core::Result<(Tensor, Vec<f32>)> {
        let (out, inverse) = read(x, |x| read(weight, |weight| rms_norm(x, weight, self.epsilon)))??;
        Ok((rows(out, x.dim(0)?)?, inverse))
    }

    /// Attention of every span, in parallel; returns `[rows, heads x head_dim]`.
    fn attention(&self, batch: &Batch, q: &Tensor, k: &Tensor, v: &Tensor) -> candle_core::Result<(Tensor, Vec<SavedSpan>)> {
        let Config { heads, kv_heads, head_dim, .. } = *self.config();
        let positions = batch.positions();
        let rotated = |x: &Tensor, heads: usize| -> candle_core::Result<Vec<f32>> {
            let mut values = read(x, <[f32]>::to_vec)?;
            self.rotate(&mut values, &positions, heads, 1.0);
            Ok(values)
        };
        let (mut q, k) = (rotated(q, heads)?, rotated(k, kv_heads)?);
        let scale = self.attention_scale();
        q.iter_mut().for_each(|value| *value *= scale);
        let v = read(v, <[f32]>::to_vec)?;
        let group = heads / kv_heads;
        let spans = batch.spans();
        let results: Vec<(SavedSpan, Vec<f32>)> = spans
            .par_iter()
            .map(|&span| {
                let queries = gather(&q, &span.own(), heads, head_dim);
                let seen = |values: &[f32]| gather(values, &span.seen(), kv_heads, head_dim);
                attention::forward(Shape { span, kv_heads, group, head_dim }, queries, seen(&k), seen(&v))
            })
            .collect();
        let mut mixed = vec![0f32; positions.len() * heads * head_dim];
        let mut saved = Vec::with_capacity(results.len());
        for (span, (kept, part)) in spans.iter().zip(results) {
            scatter(&mut mixed, &part, &span.own(), heads, head_dim, 1.0);
            saved.push(kept);
        }
        Ok((rows(mixed, positions.len())?, saved))
    }

    fn attention_scale(&self) -> f32 {
        #[expect(clippy::cast_possible_truncation, reason = "the graph computes in f32")]
        let scale = (1.0 / f64_from(self.config().head_dim).sqrt()) as f32;
        scale
    }

    /// Rotates rows by their positions; `direction` -1 undoes it.
    fn rotate(&self, values: &mut [f32], positions: &[usize], heads: usize, direction: f32) {
        let head_dim = self.config().head_dim;
        let half = head_dim / 2;
        values.par_chunks_mut(heads * head_dim).zip(positions.par_iter()).with_min_len(64).for_each(|(row, &position)| {
            let cosines = &self.cosines[position * half..][..half];
            let sines = &self.sines[position * half..][..half];
            vector::rotate(row, head_dim, cosines, sines, direction);
        });
    }

    /// Final norm, head and loss on the counted rows; returns the sum of losses and, if `counted` is given, its gradient divided
    /// by `counted` with respect to `hidden`.
    fn head(&self, batch: &Batch, hidden: &Tensor, counted: Option<usize>) -> candle_core::Result<(f64, Vec<f32>)> {
        let width = self.config().hidden;
        let weights = &self.model.weights;
        let mut d = vec![0f32; counted.map_or(0, |_| hidden.elem_count())];
        #[expect(clippy::cast_possible_truncation, reason = "the graph computes in f32")]
        let scale = counted.map(|counted| (1.0 / f64_from(counted.max(1))) as f32);
        let mut loss = 0.0;
        for part in batch.targets.chunks(HEAD_ROWS) {
            let picked: Vec<f32> =
                read(hidden, |hidden| part.iter().flat_map(|(row, _)| hidden[row * width..][..width].iter().copied()).collect())?;
            let (normed, inverse) = read(&weights.norm, |weight| rms_norm(&picked, weight, self.epsilon))?;
            let normed = rows(normed, part.len())?;
            let logits = self.products.forward(self.model, Place::Head, &self.products.input(&normed)?)?;
            let targets: Vec<u32> = part.iter().map(|(_, target)| *target).collect();
            let (part_loss, d_logits) = read(&logits, |logits| cross_entropy(logits, &targets, scale.unwrap_or(0.0)))?;
            loss += part_loss;
            if scale.is_none() {
                continue;
            }
            let d_logits = rows(d_logits, part.len())?;
            let d_normed = self.products.back(self.model, Place::Head, &self.products.input(&d_logits)?)?;
            let mut d_picked = vec![0f32; picked.len()];
            read(&d_normed, |dy| read(&weights.norm, |w| rms_norm_back(&mut d_picked, dy, &picked, &inverse, w)))??;
            for ((row, _), from) in part.iter().zip(d_picked.chunks_exact(width)) {
                for (to, from) in d[row * width..][..width].iter_mut().zip(from) {
                    *to += from;
                }
            }
        }
        Ok((loss, d))
    }
}

/// Rows of `[rows, heads x head_dim]` in the given ranges, as `[heads, rows, head_dim]`.
fn gather(values: &[f32], ranges: &[Range<usize>; 2], heads: usize, head_dim: usize) -> Vec<f32> {
    let width = heads * head_dim;
    let mut out = Vec::with_capacity(ranges.iter().map(|r| r.len()).sum::<usize>() * width);
    for head in 0..heads {
        for row in ranges.iter().cloned().flatten() {
            out.extend_from_slice(&values[row * width + head * head_dim..][..head_dim]);
        }
    }
    out
}

/// Adds `factor` times `[heads, rows, head_dim]` to the rows it came from.
fn scatter(out: &mut [f32], values: &[f32], ranges: &[Range<usize>; 2], heads: usize, head_dim: usize, factor: f32) {
    let width = heads * head_dim;
    let mut from = values.chunks_exact(head_dim);
    for head in 0..heads {
        for (row, part) in ranges.iter().cloned().flatten().zip(from.by_ref()) {
            for (to, value) in out[row * width + head * head_dim..][..head_dim].iter_mut().zip(part) {
                *to += value * factor;
            }
        }
    }
}

#[cfg(test)]
mod tests;
