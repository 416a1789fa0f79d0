//! The forward and backward pass of the trained layers.
//!
//! The way back is written out by hand instead of recorded: candle's autograd would also compute the gradient of every
//! frozen weight (a third of all arithmetic) and allocate a tensor per elementwise step. The products are candle's.
//! Three things are never computed twice or at all:
//! - layers below the first trained one are frozen, so their output for an example is the same in every pass (the trunk);
//! - rows that all examples of a batch begin with (the system turn of the chat template) are computed once and shared;
//! - the output head runs only on rows whose next token counts in the loss.
//!
//! Per row and trained layer: twice the multiplications of inference, and about 34 kB of saved activations.

use std::ops::Range;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::model::linear::read;
use crate::model::{Config, Model, Site, f64_from};
use crate::vector;

use super::kernels::{add_to, causal_softmax, cross_entropy, gated_back, rms_norm, rms_norm_back, rows, softmax_back};
use super::params::Layout;

/// Rows of logits computed at a time: 25 MB for a vocabulary of 49,152.
const HEAD_ROWS: usize = 128;

/// The graph of one model with trained layers from `first` on.
pub(super) struct Graph<'a> {
    model: &'a Model,
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
    pub(super) tensors: &'a [(Tensor, Tensor)],
    pub(super) scale: f64,
}

/// What a linear layer with matrices keeps: the scaled product with A.
type Shrunk = Option<Tensor>;

struct SavedSpan {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    p: Tensor,
}

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

impl<'a> Graph<'a> {
    pub(super) fn new(model: &'a Model, first: usize, length_max: usize) -> candle_core::Result<Self> {
        let (cosines, sines) = model.weights.rotation(0, length_max)?;
        Ok(Self {
            model,
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
        Ok(self.head(batch, &hidden)?.0)
    }

    /// Sum of the losses, and the gradient of their mean with respect to every matrix.
    pub(super) fn gradient(&self, batch: &Batch, matrices: &Matrices) -> candle_core::Result<(f64, Vec<f32>)> {
        let mut hidden = batch.hidden.clone();
        let mut saved = Vec::new();
        for layer in self.first..self.config().layers {
            let (out, kept) = self.layer(layer, batch, &hidden, Some(matrices))?;
            saved.push(kept);
            hidden = out;
        }
        let (loss, mut d) = self.head(batch, &hidden)?;
        let mut gradient = vec![0f32; matrices.layout.len];
        for layer in (self.first..self.config().layers).rev() {
            let kept = saved.pop().ok_or_else(|| candle_core::Error::msg("every layer was saved"))?;
            d = Back { graph: self, layer, batch, matrices, saved: &kept }.run(d, &mut gradient)?;
        }
        Ok((loss, gradient))
    }

    /// One layer. Without matrices it is the frozen layer.
    fn layer(&self, layer: usize, batch: &Batch, input: &Tensor, matrices: Option<&Matrices>) -> candle_core::Result<(Tensor, Saved)> {
        let weights = &self.model.weights.layers[layer];
        let mut shrunk = [const { None }; 7];
        let mut linear = |site: Site, x: &Tensor| -> candle_core::Result<Tensor> {
            let y = x.matmul(&weights.linear(site).t()?)?;
            if let Some((index, matrices)) = matrices.and_then(|m| Some((m.layout.entry(layer, site)?.0, m))) {
                let (a, b) = &matrices.tensors[index];
                let z = (x.matmul(&a.t()?)? * matrices.scale)?;
                add_to(&y, &z.matmul(&b.t()?)?)?;
                shrunk[site as usize] = Some(z);
            }
            Ok(y)
        };
        let (normed, input_inverse) = self.norm(input, &weights.attention_norm)?;
        let q = linear(Site::Q, &normed)?;
        let k = linear(Site::K, &normed)?;
        let v = linear(Site::V, &normed)?;
        let (mixed, spans) = self.attention(batch, &q, &k, &v)?;
        let middle = linear(Site::O, &mixed)?;
        add_to(&middle, input)?;
        let (middle_normed, middle_inverse) = self.norm(&middle, &weights.feed_forward_norm)?;
        let gate = linear(Site::Gate, &middle_normed)?;
        let up = linear(Site::Up, &middle_normed)?;
        let act = read(&gate, |gate| read(&up, |up| vector::gated(gate, up)))??;
        let act = rows(act, gate.dim(0)?)?;
        let out = linear(Site::Down, &act)?;
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
        let results: Vec<(SavedSpan, Tensor)> = spans
            .par_iter()
            .map(|span| {
                let total = span.shared + span.len;
                let q = tensor3(gather(&q, &span.own(), heads, head_dim), kv_heads, group * span.len, head_dim)?;
                let k = tensor3(gather(&k, &span.seen(), kv_heads, head_dim), kv_heads, total, head_dim)?;
                let v = tensor3(gather(&v, &span.seen(), kv_heads, head_dim), kv_heads, total, head_dim)?;
                let mut scores = q.matmul(&k.t()?)?.flatten_all()?.to_vec1::<f32>()?;
                causal_softmax(&mut scores, span.len, total);
                let p = tensor3(scores, kv_heads, group * span.len, total)?;
                let mixed = p.matmul(&v)?;
                Ok((SavedSpan { q, k, v, p }, mixed))
            })
            .collect::<candle_core::Result<_>>()?;
        let mut mixed = vec![0f32; positions.len() * heads * head_dim];
        let mut saved = Vec::with_capacity(results.len());
        for (span, (kept, part)) in spans.iter().zip(results) {
            read(&part, |part| {
                scatter(&mut mixed, part, &span.own(), heads, head_dim, 1.0);
            })?;
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

    /// Final norm, head and loss on the counted rows; returns the sum of losses and the gradient of their mean
    /// with respect to `hidden`.
    fn head(&self, batch: &Batch, hidden: &Tensor) -> candle_core::Result<(f64, Vec<f32>)> {
        let width = self.config().hidden;
        let weights = &self.model.weights;
        let mut d = vec![0f32; hidden.elem_count()];
        let counted = f64_from(batch.targets.len().max(1));
        #[expect(clippy::cast_possible_truncation, reason = "the graph computes in f32")]
        let scale = (1.0 / counted) as f32;
        let mut loss = 0.0;
        for part in batch.targets.chunks(HEAD_ROWS) {
            let picked: Vec<f32> =
                read(hidden, |hidden| part.iter().flat_map(|(row, _)| hidden[row * width..][..width].iter().copied()).collect())?;
            let (normed, inverse) = read(&weights.norm, |weight| rms_norm(&picked, weight, self.epsilon))?;
            let logits = rows(normed, part.len())?.matmul(&weights.head().t()?)?;
            let targets: Vec<u32> = part.iter().map(|(_, target)| *target).collect();
            let (part_loss, d_logits) = read(&logits, |logits| cross_entropy(logits, &targets, scale))?;
            loss += part_loss;
            let d_normed = rows(d_logits, part.len())?.matmul(weights.head())?;
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

/// The way back through one layer.
struct Back<'a> {
    graph: &'a Graph<'a>,
    layer: usize,
    batch: &'a Batch,
    matrices: &'a Matrices<'a>,
    saved: &'a Saved,
}

impl Back<'_> {
    /// From the gradient of the layer's output to the one of its input; writes the matrices' gradients.
    fn run(&self, d_out: Vec<f32>, gradient: &mut [f32]) -> candle_core::Result<Vec<f32>> {
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
        read(&dy.t()?.matmul(z)?, |db| gradient[entry.b.clone()].copy_from_slice(db))?;
        let dz = (dy.matmul(b)? * self.matrices.scale)?;
        read(&dz.t()?.matmul(x)?, |da| gradient[entry.a.clone()].copy_from_slice(da))?;
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

fn tensor3(values: Vec<f32>, a: usize, b: usize, c: usize) -> candle_core::Result<Tensor> {
    Tensor::from_vec(values, (a, b, c), &Device::Cpu)
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
mod tests {
    use super::super::TrainConfig;
    use super::super::params::AdamW;
    use super::*;
    use crate::model::Cache;
    use crate::tiny;

    struct Bench {
        model: Model,
        _folder: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("tiny.gguf");
            tiny::write_model(&path, 5).unwrap();
            Self { model: Model::load(&path, None).unwrap().0, _folder: folder }
        }
    }

    /// Two sequences that share their first three tokens, counted from the fourth on.
    const SEQUENCES: [&[u32]; 2] = [&[1, 40, 41, 90, 91, 92, 93], &[1, 40, 41, 120, 77]];

    fn batch(graph: &Graph, shared: usize) -> Batch {
        let width = graph.config().hidden;
        let trunks = SEQUENCES.map(|tokens| {
            let count = tokens.len() - 1;
            let hidden = rows(graph.embed(&tokens[..count]).unwrap(), count).unwrap();
            let alone = Batch { hidden, shared: 0, lengths: vec![count], targets: Vec::new() };
            read(&graph.frozen(&alone).unwrap(), <[f32]>::to_vec).unwrap()
        });
        let mut hidden = trunks[0][..shared * width].to_vec();
        let (mut lengths, mut targets) = (Vec::new(), Vec::new());
        let mut start = shared;
        for (tokens, trunk) in SEQUENCES.iter().zip(&trunks) {
            hidden.extend_from_slice(&trunk[shared * width..]);
            for at in 4..tokens.len() {
                targets.push((start + at - 1 - shared, tokens[at]));
            }
            lengths.push(tokens.len() - 1 - shared);
            start += tokens.len() - 1 - shared;
        }
        Batch { hidden: rows(hidden, start).unwrap(), shared, lengths, targets }
    }

    /// Random matrices, B included, so that every gradient is far from zero.
    fn theta(layout: &Layout) -> Vec<f32> {
        let mut theta = layout.initial(3);
        let mut state = 17;
        for entry in &layout.entries {
            for slot in &mut theta[entry.b.clone()] {
                state = crate::sampler::split_mix(state);
                *slot = f32::from(u8::try_from(state & 255).unwrap()) / 1_000.0 - 0.128;
            }
        }
        theta
    }

    fn with<R>(first: usize, f: impl FnOnce(&Graph, &Layout) -> R) -> R {
        let bench = Bench::new();
        let graph = Graph::new(&bench.model, first, 64).unwrap();
        let config = TrainConfig { rank: 4, ..TrainConfig::default() };
        let layout = Layout::new(&config, bench.model.config(), first);
        f(&graph, &layout)
    }

    fn matrices<'a>(layout: &'a Layout, tensors: &'a [(Tensor, Tensor)]) -> Matrices<'a> {
        Matrices { layout, tensors, scale: 2.0 }
    }

    fn loss(graph: &Graph, layout: &Layout, batch: &Batch, theta: &[f32]) -> f64 {
        let tensors = layout.tensors(theta).unwrap();
        graph.loss(batch, Some(&matrices(layout, &tensors))).unwrap() / batch.targets.len() as f64
    }

    #[test]
    fn the_loss_is_the_one_of_the_serving_graph() {
        with(1, |graph, _| {
            let batch = batch(graph, 3);
            let mut expected = 0.0;
            for tokens in SEQUENCES {
                for at in 4..tokens.len() {
                    let mut cache = Cache::new(graph.config());
                    let logits = graph.model.forward(&tokens[..at], &mut cache, None).unwrap();
                    let largest = logits.iter().copied().fold(f32::MIN, f32::max);
                    let total: f64 = logits.iter().map(|l| f64::from(l - largest).exp()).sum();
                    expected += total.ln() + f64::from(largest - logits[tokens[at] as usize]);
                }
            }
            let got = graph.loss(&batch, None).unwrap();
            assert!((got / expected - 1.0).abs() < 1e-5, "{got} {expected}");
        });
    }

    #[test]
    fn sharing_the_common_rows_changes_neither_loss_nor_gradient() {
        with(0, |graph, layout| {
            let tensors = layout.tensors(&theta(layout)).unwrap();
            let matrices = matrices(layout, &tensors);
            let (loss, gradient) = graph.gradient(&batch(graph, 3), &matrices).unwrap();
            let (alone, expected) = graph.gradient(&batch(graph, 0), &matrices).unwrap();
            assert!((loss / alone - 1.0).abs() < 1e-5);
            let largest = expected.iter().fold(0f32, |m, g| m.max(g.abs()));
            for (got, expected) in gradient.iter().zip(&expected) {
                assert!((got - expected).abs() < 1e-4 * largest, "{got} {expected}");
            }
        });
    }

    /// Along the gradient of one matrix the loss must change by the gradient's squared length: central differences, for every
    /// matrix of every linear layer, with frozen layers below and without.
    #[test]
    fn gradients_agree_with_differences_of_the_loss() {
        for first in [0, 1] {
            with(first, |graph, layout| {
                let batch = batch(graph, 3);
                let theta = theta(layout);
                let tensors = layout.tensors(&theta).unwrap();
                let (_, gradient) = graph.gradient(&batch, &matrices(layout, &tensors)).unwrap();
                for entry in &layout.entries {
                    for range in [&entry.a, &entry.b] {
                        let length: f64 = gradient[range.clone()].iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
                        let step = 0.02;
                        #[expect(clippy::cast_possible_truncation, reason = "rounded to f32")]
                        let moved = |sign: f64| {
                            let mut theta = theta.clone();
                            for at in range.clone() {
                                theta[at] += (sign * step * f64::from(gradient[at]) / length) as f32;
                            }
                            loss(graph, layout, &batch, &theta)
                        };
                        let slope = (moved(1.0) - moved(-1.0)) / (2.0 * step);
                        assert!(
                            (slope / length - 1.0).abs() < 0.02,
                            "layer {} {:?}: slope {slope}, gradient {length}",
                            entry.layer,
                            entry.site,
                        );
                    }
                }
            });
        }
    }

    #[test]
    fn a_few_steps_learn_two_sequences() {
        with(0, |graph, layout| {
            let batch = batch(graph, 3);
            let mut theta = layout.initial(1);
            let mut optimizer = AdamW::new(layout.len);
            let before = loss(graph, layout, &batch, &theta);
            for _ in 0..60 {
                let tensors = layout.tensors(&theta).unwrap();
                let (_, gradient) = graph.gradient(&batch, &matrices(layout, &tensors)).unwrap();
                optimizer.step(&mut theta, &gradient, 0.01, 0.0, 1.0);
            }
            let after = loss(graph, layout, &batch, &theta);
            assert!(after < 0.1 && before > 2.0, "{before} to {after}");
        });
    }
}
