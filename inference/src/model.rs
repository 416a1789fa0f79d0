//! Models from their files: configuration, text, weights as stored, and the graph in f32 on candle's CPU tensors.
//!
//! One graph serves the families of [`Family`]: Llama (Touvron et al. 2023), and Qwen with biases or norms at the heads. [`files`] opens a
//! GGUF file or a folder of safetensors, [`stored`] hands out its codes untouched. The f32 graph decodes them once: 4 bytes a parameter,
//! 538 MB for SmolLM2-135M, with one copy of an embedding that is tied to the output head. Query and key rows are in the pair order of
//! published checkpoints (half-split rotation), not GGUF's interleaved one, so that PEFT adapters apply without rearrangement. Adapters
//! are applied unmerged.

pub mod config;
pub mod files;
pub(crate) mod forward;
pub mod packed;
pub mod plan;
pub mod rope;
pub mod stored;
pub mod template;
pub mod tokenizer;

mod cache;
pub(crate) mod linear;
mod step;
mod weights;

use std::path::{Path, PathBuf};

use candle_core::Tensor;

use crate::gguf::{GgufError, GgufFile};
use crate::numeric::MatrixError;

pub use cache::Cache;
pub use config::{Config, Family};
use files::{FilesError, ModelFiles};
use template::{ChatTemplate, TemplateError};
use tokenizer::{Tokenizer, TokenizerError};
pub(crate) use weights::{Layer, Weights};

use crate::adapter::Lora;

/// Tokens of a prompt that the graph in f32 is given at once: bounds its activations.
pub const PREFILL_CHUNK: usize = 128;

/// Why a model cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file is broken or lacks something.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A folder of model files is broken or lacks something.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// What is wrong with the file at a path.
    #[error("{path}: {error}")]
    In {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        error: Box<Self>,
    },
    /// Another family of model.
    #[error("the architecture is {got:?}; this engine runs llama (SmolLM2, Llama), qwen2 and qwen3: use a model of one of them")]
    Architecture {
        /// The family in the file.
        got: String,
    },
    /// A configuration value the graph does not support.
    #[error("{key} is {value}, expected {expected}")]
    Config {
        /// The metadata key.
        key: String,
        /// Its value.
        value: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// The file holds a tensor that this graph would ignore, and so compute something else.
    #[error("tensor {tensor} is not part of the graph this engine runs: it is another kind of model, or an adapter is saved with it")]
    UnexpectedTensor {
        /// The tensor.
        tensor: String,
    },
    /// The file is another one than asked for.
    #[error("{path} has BLAKE3 {got}, expected {expected}: fetch the model again or correct the hash")]
    WrongHash {
        /// The file.
        path: PathBuf,
        /// Hash asked for, hex.
        expected: String,
        /// Hash found, hex.
        got: String,
    },
    /// The tokenizer in the file cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template in the file cannot be used.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A matrix that the profile's products cannot take.
    #[error("{matrix}: {error}")]
    Matrix {
        /// Which one.
        matrix: String,
        /// What is wrong with it.
        error: MatrixError,
    },
    /// A tensor operation failed.
    #[error("arithmetic failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A token id outside the vocabulary.
    #[error("token {token} is outside the vocabulary of {vocabulary}")]
    UnknownToken {
        /// The id.
        token: u32,
        /// Tokens in the vocabulary.
        vocabulary: usize,
    },
    /// The arithmetic left the range of its numbers: what would be chosen from that is nobody's answer.
    #[error("the numbers at position {position} of prompt and answer are not finite: the model's or the adapter's numbers are too large")]
    NotFinite {
        /// The first such position.
        position: u32,
    },
    /// More tokens than the model's context.
    #[error("{tokens} tokens do not fit the context of {max}")]
    ContextExceeded {
        /// Tokens wanted.
        tokens: usize,
        /// Longest sequence.
        max: usize,
    },
}

impl ModelError {
    /// Names the file, unless the error does.
    fn at(self, path: &Path) -> Self {
        match self {
            Self::Files(_) | Self::In { .. } | Self::WrongHash { .. } | Self::Gguf(GgufError::Io { .. }) => self,
            error => Self::In { path: path.to_path_buf(), error: Box::new(error) },
        }
    }
}

/// What others may know of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInfo {
    /// BLAKE3 of the file.
    pub hash: [u8; 32],
    /// Name in the file's metadata.
    pub name: String,
    /// Length of the file, in bytes.
    pub size_bytes: u64,
    /// Longest sequence, in tokens.
    pub context: u32,
    /// Dimensions of the graph.
    pub config: Config,
}

impl ModelInfo {
    /// Reads all that is known without the weights, and hashes the file.
    ///
    /// # Errors
    /// [`ModelError::Gguf`], [`ModelError::Architecture`] or [`ModelError::Config`].
    pub fn read(file: &GgufFile) -> Result<Self, ModelError> {
        let config = Config::from_header(file.header())?;
        Ok(Self::new(file.hash()?, file.header().text("general.name").ok(), file.len(), config))
    }

    pub(crate) fn new(hash: [u8; 32], name: Option<&str>, size_bytes: u64, config: Config) -> Self {
        let context = u32::try_from(config.context).unwrap_or(u32::MAX);
        Self { hash, name: name.unwrap_or("unnamed").to_owned(), size_bytes, context, config }
    }
}

/// A linear layer that adapters may change. The order is the one of the forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Output of attention.
    O,
    /// Gate of the feed-forward part.
    Gate,
    /// Input of the feed-forward part.
    Up,
    /// Output of the feed-forward part.
    Down,
}

impl Site {
    /// All sites, in order.
    pub const ALL: [Self; 7] = [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// The name PEFT gives it in `target_modules`.
    #[must_use]
    pub fn module(self) -> &'static str {
        match self {
            Self::Q => "q_proj",
            Self::K => "k_proj",
            Self::V => "v_proj",
            Self::O => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    /// The name it has in GGUF files, within its layer.
    pub(crate) fn gguf_module(self) -> &'static str {
        match self {
            Self::Q => "attn_q",
            Self::K => "attn_k",
            Self::V => "attn_v",
            Self::O => "attn_output",
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
        }
    }

    /// The part of a layer that holds it, as PEFT names it.
    #[must_use]
    pub fn parent(self) -> &'static str {
        match self {
            Self::Q | Self::K | Self::V | Self::O => "self_attn",
            Self::Gate | Self::Up | Self::Down => "mlp",
        }
    }

    /// Output and input width.
    #[must_use]
    pub fn shape(self, config: &Config) -> (usize, usize) {
        match self {
            Self::Q => (config.q_width(), config.hidden),
            Self::K | Self::V => (config.kv_width(), config.hidden),
            Self::O => (config.hidden, config.q_width()),
            Self::Gate | Self::Up => (config.feed_forward, config.hidden),
            Self::Down => (config.hidden, config.feed_forward),
        }
    }
}

/// A loaded model.
#[derive(Debug)]
pub struct Model {
    info: ModelInfo,
    pub(crate) weights: Weights,
}

/// What a model file gives besides weights: text to tokens.
#[derive(Debug)]
pub struct Text {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The chat template.
    pub template: ChatTemplate,
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
        let config = files.config()?;
        files.check(&config)?;
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

/// Widths are far below 2^53.
pub(crate) fn f64_from(value: usize) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX))
}
