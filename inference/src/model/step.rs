//! The graph for a single token, in plain loops over slices.
//!
//! Decoding is one row per step: 211 products that read 538 MB and some small vectors. Tensors would add an allocation and
//! a dispatch per operation for nothing; and with one fixed order of operations ([`crate::vector`]) a step from equal
//! keys and values gives equal bits on every machine.

use candle_core::Tensor;

use crate::adapter::Lora;
use crate::vector::{add_scaled, dot, rms_norm, rotate, sigmoid, softmax};

use super::linear::{apply_row, read};
use super::{Cache, Config, Layer, Model, ModelError, Site, f64_from};

/// One layer for one token.
struct RowPass<'a> {
    config: &'a Config,
    layer: &'a Layer,
    index: usize,
    lora: Option<&'a Lora>,
    cosines: &'a [f32],
    sines: &'a [f32],
}

impl Model {
    /// Runs one token; the logits after it.
    pub(super) fn step(&self, token: u32, cache: &mut Cache, lora: Option<&Lora>) -> Result<Vec<f32>, ModelError> {
        let config = self.config();
        let mut hidden = read(&self.weights.embed(&[token], config)?, <[f32]>::to_vec)?;
        let (cosines, sines) = self.weights.rotation(cache.len(), 1)?;
        let (cosines, sines) = (read(&cosines, <[f32]>::to_vec)?, read(&sines, <[f32]>::to_vec)?);
        cache.reserve(1);
        for (index, layer) in self.weights.layers.iter().enumerate() {
            let pass = RowPass { config, layer, index, lora, cosines: &cosines, sines: &sines };
            let attended = pass.attention(&hidden, cache)?;
            add_scaled(&mut hidden, &attended, 1.0);
            let fed = pass.feed_forward(&hidden)?;
            add_scaled(&mut hidden, &fed, 1.0);
        }
        cache.advance(1);
        let normed = norm(&hidden, &self.weights.norm, config)?;
        Ok(apply_row(&normed, self.weights.head())?)
    }
}

fn norm(hidden: &[f32], weight: &Tensor, config: &Config) -> candle_core::Result<Vec<f32>> {
    let mut out = vec![0f32; hidden.len()];
    read(weight, |weight| rms_norm(&mut out, hidden, weight, config.epsilon()))?;
    Ok(out)
}

impl RowPass<'_> {
    fn linear(&self, site: Site, input: &[f32]) -> candle_core::Result<Vec<f32>> {
        let mut out = apply_row(input, self.layer.linear(site))?;
        if let Some(bias) = self.layer.bias(site) {
            read(bias, |bias| add_scaled(&mut out, bias, 1.0))?;
        }
        if let Some(pair) = self.lora.and_then(|lora| lora.pair(self.index, site)) {
            add_scaled(&mut out, &pair.apply_row(input)?, 1.0);
        }
        Ok(out)
    }

    fn attention(&self, hidden: &[f32], cache: &mut Cache) -> candle_core::Result<Vec<f32>> {
        let Config { heads, kv_heads, head_dim, .. } = *self.config;
        let normed = norm(hidden, &self.layer.attention_norm, self.config)?;
        let mut q = self.linear(Site::Q, &normed)?;
        let mut k = self.linear(Site::K, &normed)?;
        let v = self.linear(Site::V, &normed)?;
        if let Some([q_norm, k_norm]) = &self.layer.head_norms {
            q = self.norm_heads(&q, q_norm)?;
            k = self.norm_heads(&k, k_norm)?;
        }
        rotate(&mut q, head_dim, self.cosines, self.sines, 1.0);
        rotate(&mut k, head_dim, self.cosines, self.sines, 1.0);
        cache.write(self.index, &k, &v);
        let total = cache.len() + 1;
        #[expect(clippy::cast_possible_truncation, reason = "the graph computes in f32")]
        let scale = (1.0 / f64_from(head_dim).sqrt()) as f32;
        let mut mixed = vec![0f32; q.len()];
        let mut scores = vec![0f32; total];
        for (head, (q, mixed)) in q.chunks_exact(head_dim).zip(mixed.chunks_exact_mut(head_dim)).enumerate() {
            let (keys, values) = cache.head(self.index, head / (heads / kv_heads), total);
            for (score, key) in scores.iter_mut().zip(keys.chunks_exact(head_dim)) {
                *score = dot(q, key) * scale;
            }
            softmax(&mut scores);
            for (weight, value) in scores.iter().zip(values.chunks_exact(head_dim)) {
                add_scaled(mixed, value, *weight);
            }
        }
        self.linear(Site::O, &mixed)
    }

    /// Norms each head of a row by itself.
    fn norm_heads(&self, row: &[f32], weight: &Tensor) -> candle_core::Result<Vec<f32>> {
        let mut out = Vec::with_capacity(row.len());
        for head in row.chunks_exact(self.config.head_dim) {
            out.extend(norm(head, weight, self.config)?);
        }
        Ok(out)
    }

    fn feed_forward(&self, hidden: &[f32]) -> candle_core::Result<Vec<f32>> {
        let normed = norm(hidden, &self.layer.feed_forward_norm, self.config)?;
        let mut act = self.linear(Site::Gate, &normed)?;
        let up = self.linear(Site::Up, &normed)?;
        for (gate, up) in act.iter_mut().zip(&up) {
            *gate *= sigmoid(*gate) * up;
        }
        self.linear(Site::Down, &act)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::AdapterFiles;
    use crate::tiny;

    /// Token by token in plain loops, and all at once by candle: the same logits but for rounding.
    #[test]
    fn single_steps_agree_with_the_tensor_graph() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        tiny::write_model(&path, 2).unwrap();
        let model = Model::load(&path, None).unwrap().0;
        let dir = folder.path().join("adapter");
        tiny::write_adapter(&dir, None, 4, 3).unwrap();
        let lora = Lora::new(&AdapterFiles::read(&dir).unwrap(), model.info()).unwrap();
        let tokens: Vec<u32> = (0..300u32).map(|i| i * 37 % 300).collect();
        for lora in [None, Some(&lora)] {
            let (mut rows, mut tensors) = (Cache::new(model.config()), Cache::new(model.config()));
            let mut last = Vec::new();
            for &token in &tokens {
                last = model.forward(&[token], &mut rows, lora).unwrap();
            }
            let mut all = Vec::new();
            for chunk in tokens.chunks(128) {
                all = model.forward(chunk, &mut tensors, lora).unwrap();
            }
            let largest = all.iter().fold(0f32, |m, l| m.max(l.abs()));
            for (row, tensor) in last.iter().zip(&all) {
                assert!((row - tensor).abs() < 1e-4 * largest.max(1.0), "{row} {tensor}");
            }
        }
    }
}
