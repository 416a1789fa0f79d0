//! The graph in f32 on candle's CPU tensors: what training stands on, and what tests measure the profiles by.

use std::path::Path;

use candle_core::Tensor;

use crate::adapter::Lora;

use super::files::ModelFiles;
use super::{Cache, Config, Layer, ModelError, ModelInfo, Site, Text, Weights, f64_from, linear};

/// Tokens of a prompt that the graph in f32 is given at once: bounds its activations.
pub const PREFILL_CHUNK: usize = 128;

/// A loaded model.
#[derive(Debug)]
pub struct Model {
    info: ModelInfo,
    pub(crate) weights: Weights,
}

impl Model {
    /// Loads a GGUF file or a folder of safetensors: hash first, then headers, tokenizer, template, weights.
    ///
    /// # Errors
    /// Any [`ModelError`]; [`ModelError::WrongHash`] names both hashes.
    pub fn load(path: &Path, expected_hash: Option<[u8; 32]>) -> Result<(Self, Text), ModelError> {
        let (files, hash) = ModelFiles::open_as(path, expected_hash)?;
        Self::from_files(&files, hash).map_err(|error| error.at(path))
    }

    fn from_files(files: &ModelFiles, hash: [u8; 32]) -> Result<(Self, Text), ModelError> {
        let config = files.checked()?;
        let text = files.text(&config)?;
        let weights = Weights::load(files, &config)?;
        Ok((Self { info: ModelInfo::new(hash, files.name(), files.size_bytes(), config), weights }, text))
    }

    /// What others may know of this model.
    #[must_use]
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Dimensions of the graph.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.info.config
    }

    /// Runs `tokens` after what `cache` holds, extends it, and returns the logits after the last of them.
    ///
    /// # Errors
    /// [`ModelError::ContextExceeded`], [`ModelError::UnknownToken`] or [`ModelError::Tensor`]; after an error
    /// the cache must be dropped.
    pub fn forward(&self, tokens: &[u32], cache: &mut Cache, lora: Option<&Lora>) -> Result<Vec<f32>, ModelError> {
        let config = self.config();
        let total = cache.len() + tokens.len();
        if tokens.is_empty() || total > config.context {
            return Err(ModelError::ContextExceeded { tokens: total, max: config.context });
        }
        // Inside the pool a split product costs no hand-over from this thread.
        match tokens {
            [token] => rayon::scope(|_| self.step(*token, cache, lora)),
            _ => rayon::scope(|_| self.run(tokens, cache, lora, 1)),
        }
    }

    /// As [`forward`](Self::forward), with the logits after every token: `[tokens, vocabulary]`. At most [`PREFILL_CHUNK`] tokens, 25 MB
    /// of SmolLM2's logits.
    ///
    /// # Errors
    /// As of [`forward`](Self::forward); more tokens than that are [`ModelError::ContextExceeded`].
    pub fn forward_all(&self, tokens: &[u32], cache: &mut Cache, lora: Option<&Lora>) -> Result<Vec<f32>, ModelError> {
        let total = cache.len() + tokens.len();
        if tokens.is_empty() || tokens.len() > PREFILL_CHUNK || total > self.config().context {
            return Err(ModelError::ContextExceeded { tokens: total, max: self.config().context });
        }
        rayon::scope(|_| self.run(tokens, cache, lora, tokens.len()))
    }

    /// Logits after the last `wanted` tokens.
    fn run(&self, tokens: &[u32], cache: &mut Cache, lora: Option<&Lora>, wanted: usize) -> Result<Vec<f32>, ModelError> {
        let config = self.config();
        let mut hidden = self.weights.embed(tokens, config)?;
        let rotation = self.weights.rotation(cache.len(), tokens.len())?;
        let mask = causal_mask(tokens.len(), cache.len())?;
        cache.reserve(tokens.len());
        for (index, layer) in self.weights.layers.iter().enumerate() {
            let pass = Pass { config, layer, index, lora };
            let attended = pass.attention(&hidden, cache, &rotation, &mask)?;
            hidden = (hidden + attended)?;
            let fed = pass.feed_forward(&hidden)?;
            hidden = (hidden + fed)?;
        }
        cache.advance(tokens.len());
        let last = hidden.narrow(0, tokens.len() - wanted, wanted)?;
        let normed = norm(&last, &self.weights.norm, config)?;
        Ok(linear::apply(&normed, self.weights.head())?.flatten_all()?.to_vec1()?)
    }
}

/// One layer of one forward pass.
struct Pass<'a> {
    config: &'a Config,
    layer: &'a Layer,
    index: usize,
    lora: Option<&'a Lora>,
}

impl Pass<'_> {
    fn linear(&self, site: Site, input: &Tensor) -> candle_core::Result<Tensor> {
        let mut base = linear::apply(input, self.layer.linear(site))?;
        if let Some(bias) = self.layer.bias(site) {
            base = base.broadcast_add(bias)?;
        }
        match self.lora.and_then(|lora| lora.pair(self.index, site)) {
            Some(pair) => base + pair.apply(input)?,
            None => Ok(base),
        }
    }

    /// `hidden: [tokens, hidden]` to the same shape.
    fn attention(&self, hidden: &Tensor, cache: &mut Cache, rotation: &(Tensor, Tensor), mask: &Tensor) -> Result<Tensor, ModelError> {
        let Config { heads, kv_heads, head_dim, .. } = *self.config;
        let tokens = hidden.dim(0)?;
        let normed = norm(hidden, &self.layer.attention_norm, self.config)?;
        let rotate = |site, heads| -> candle_core::Result<Tensor> {
            let mut rows = split_heads(&self.linear(site, &normed)?, heads, head_dim)?;
            if let Some(norms) = &self.layer.head_norms {
                rows = norm(&rows, &norms[site as usize], self.config)?;
            }
            candle_nn::rotary_emb::rope(&rows.unsqueeze(0)?, &rotation.0, &rotation.1)?.squeeze(0)
        };
        let q = rotate(Site::Q, heads)?;
        let k = rotate(Site::K, kv_heads)?;
        let v = split_heads(&self.linear(Site::V, &normed)?, kv_heads, head_dim)?;
        linear::read(&k, |k| linear::read(&v, |v| cache.write(self.index, k, v)))??;
        let length = cache.len() + tokens;
        let (k, v) = cache.tensors(self.index, length)?;
        // Query heads of one group share a key head: they become rows of one product instead of repeating the keys.
        let group = heads / kv_heads;
        let q = (q.reshape((kv_heads, group * tokens, head_dim))? * (1.0 / f64_from(head_dim).sqrt()))?;
        let scores =
            q.matmul(&k.t()?)?.reshape((heads, tokens, length))?.broadcast_add(mask)?.reshape((kv_heads, group * tokens, length))?;
        let weights = candle_nn::ops::softmax_last_dim(&scores)?;
        let mixed = weights.matmul(&v)?.reshape((heads, tokens, head_dim))?.transpose(0, 1)?.reshape((tokens, heads * head_dim))?;
        Ok(self.linear(Site::O, &mixed)?)
    }

    fn feed_forward(&self, hidden: &Tensor) -> Result<Tensor, ModelError> {
        let normed = norm(hidden, &self.layer.feed_forward_norm, self.config)?;
        let gate = self.linear(Site::Gate, &normed)?;
        let up = self.linear(Site::Up, &normed)?;
        let act = linear::read(&gate, |gate| linear::read(&up, |up| crate::vector::gated(gate, up)))??;
        let act = Tensor::from_vec(act, gate.dims(), &candle_core::Device::Cpu)?;
        Ok(self.linear(Site::Down, &act)?)
    }
}

/// `[tokens, heads x head_dim]` to `[heads, tokens, head_dim]`, contiguous.
fn split_heads(rows: &Tensor, heads: usize, head_dim: usize) -> candle_core::Result<Tensor> {
    let tokens = rows.dim(0)?;
    rows.reshape((tokens, heads, head_dim))?.transpose(0, 1)?.contiguous()
}

fn norm(hidden: &Tensor, weight: &Tensor, config: &Config) -> candle_core::Result<Tensor> {
    candle_nn::ops::rms_norm(hidden, weight, config.epsilon())
}

/// 0 where a token may look, minus infinity where it may not: `[tokens, past + tokens]`.
fn causal_mask(tokens: usize, past: usize) -> candle_core::Result<Tensor> {
    let row = |t: usize| (0..past + tokens).map(move |s| if s > past + t { f32::NEG_INFINITY } else { 0.0 });
    let mask: Vec<f32> = (0..tokens).flat_map(row).collect();
    Tensor::from_vec(mask, (tokens, past + tokens), &candle_core::Device::Cpu)
}
