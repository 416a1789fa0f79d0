//! Models from their files: configuration, text, weights as stored, and the graph in f32 on candle's CPU tensors.
//!
//! One graph serves the families of [`Family`]: Llama (Touvron et al. 2023), and Qwen with biases or norms at the heads. [`files`] opens a
//! GGUF file or a folder of safetensors, [`stored`] hands out its codes untouched. The f32 graph decodes them once: 4 bytes a parameter,
//! 538 MB for SmolLM2-135M, with one copy of an embedding that is tied to the output head. Query and key rows are in the pair order of
//! published checkpoints (half-split rotation), not GGUF's interleaved one, so that PEFT adapters apply without rearrangement. Adapters
//! are applied unmerged.

mod alphabet;
pub mod config;
pub mod files;
pub(crate) mod forward;
pub mod packed;
pub mod plan;
pub mod rope;
pub mod stored;
#[cfg(feature = "engine")]
pub mod template;
#[cfg(feature = "engine")]
pub mod tokenizer;

#[cfg(feature = "engine")]
mod cache;
#[cfg(feature = "engine")]
mod graph;
#[cfg(feature = "engine")]
pub(crate) mod linear;
#[cfg(feature = "engine")]
mod step;
#[cfg(feature = "engine")]
mod weights;

use std::path::{Path, PathBuf};

use crate::gguf::{GgufError, GgufFile};
use crate::numeric::MatrixError;

pub(crate) use alphabet::byte_alphabet;
#[cfg(feature = "engine")]
pub use cache::Cache;
pub use config::{Config, Family};
use files::FilesError;
#[cfg(feature = "engine")]
pub use graph::{Model, PREFILL_CHUNK};
#[cfg(feature = "engine")]
use template::{ChatTemplate, TemplateError};
#[cfg(feature = "engine")]
use tokenizer::{Tokenizer, TokenizerError};
#[cfg(feature = "engine")]
pub(crate) use weights::{Layer, Weights};

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
    #[cfg(feature = "engine")]
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template in the file cannot be used.
    #[cfg(feature = "engine")]
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
    #[cfg(feature = "engine")]
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

/// What a model file gives besides weights: text to tokens.
#[cfg(feature = "engine")]
#[derive(Debug)]
pub struct Text {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The chat template.
    pub template: ChatTemplate,
}

/// Widths are far below 2^53.
pub(crate) fn f64_from(value: usize) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX))
}
