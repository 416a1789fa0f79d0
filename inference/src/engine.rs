//! One thread that owns the model, and handles to it.
//!
//! Flow: a caller begins a generation, then pulls steps. A pull makes the owner thread compute exactly one token (the
//! first pull also computes the prompt, in chunks), so a caller that stops pulling stops the work. Pulls of several
//! generations, and replays for verification, take turns one unit at a time: a unit is one token or one chunk of a
//! prompt.
//!
//! Bounds: commands wait in a queue of [`EngineConfig::queue_max`]; at most [`EngineConfig::sequences_max`] generations and
//! as many replays run at a time, and together they may grow to [`EngineConfig::cached_tokens_max`] tokens of keys and values; at most [`ADAPTERS_MAX`] adapters are loaded. Beyond them the
//! answer is `Busy`, never a silent wait.

mod handle;
mod owner;
mod sequence;
mod speed;

use std::path::PathBuf;

use crate::adapter::AdapterError;
use crate::model::ModelError;
use crate::{Finish, Sampling};

pub use handle::{EngineHandle, Generation};
pub use speed::Speed;

/// Adapters one engine keeps; at rank 16 each costs 20 MB on a 135 M model.
pub const ADAPTERS_MAX: usize = 32;

/// Settings of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// The model file (GGUF).
    pub model: PathBuf,
    /// BLAKE3 the file must have.
    pub expected_hash: Option<[u8; 32]>,
    /// Generations that may run at a time; each keeps 46 kB per token of SmolLM2-135M.
    pub sequences_max: usize,
    /// Commands that may wait.
    pub queue_max: usize,
    /// Tokens whose keys and values generations and replays may hold together, counted by what each may grow to.
    pub cached_tokens_max: usize,
}

impl EngineConfig {
    /// Defaults for a model file: no hash demanded, 8 generations, 64 waiting commands, 16,384 cached tokens (two full contexts of
    /// SmolLM2-135M, 755 MB: with 538 MB of weights a node stays below 1.5 GB).
    pub fn new(model: impl Into<PathBuf>) -> Self {
        Self { model: model.into(), expected_hash: None, sequences_max: 8, queue_max: 64, cached_tokens_max: 16_384 }
    }
}

/// Why the engine refuses or fails.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The model cannot be loaded or run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// No adapter with this hash is loaded.
    #[error("adapter {} is not loaded: import it first", hex::encode(.0))]
    UnknownAdapter([u8; 32]),
    /// The prompt leaves no room for a token.
    #[error("the prompt has {prompt} tokens, the model takes at most {max} with at least one to answer: shorten it")]
    ContextExceeded {
        /// Tokens of prompt and continuation.
        prompt: usize,
        /// The model's context.
        max: usize,
    },
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
    /// As many generations as allowed are running, or the queue is full.
    #[error("the engine is busy: {running} of {max} {what}; try again or ask another node")]
    Busy {
        /// What is exhausted.
        what: &'static str,
        /// How many there are.
        running: usize,
        /// How many there may be.
        max: usize,
    },
    /// The generation was already ended or cancelled.
    #[error("the generation has ended")]
    Ended,
    /// The engine's thread has stopped.
    #[error("the engine has stopped")]
    Stopped,
    /// The engine's thread cannot be started.
    #[error("the engine's thread does not start: {0}")]
    Thread(std::io::Error),
    /// An adapter was refused.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
}

/// What to generate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Tokens of the prompt, with the template around it.
    pub prompt: Vec<u32>,
    /// Tokens of the answer that were produced elsewhere; sampling goes on at their number.
    pub continued: Vec<u32>,
    /// Content hash of the adapter.
    pub adapter: Option<[u8; 32]>,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// Seed of the choices.
    pub seed: [u8; 32],
    /// Most tokens of the whole answer, the continued ones included.
    pub max_tokens: u32,
}

impl Start {
    /// An answer from its beginning, by the base model.
    #[must_use]
    pub fn new(prompt: Vec<u32>, sampling: Sampling, seed: [u8; 32], max_tokens: u32) -> Self {
        Self { prompt, continued: Vec::new(), adapter: None, sampling, seed, max_tokens }
    }
}

/// What one pull gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The next token of the answer.
    Token {
        /// Its id.
        token: u32,
        /// Its position in the answer, counted from the answer's very first token.
        index: u32,
    },
    /// The answer is complete; there is nothing more to pull.
    End(Finish),
}
