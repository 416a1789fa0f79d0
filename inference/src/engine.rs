//! One thread that owns the device, and handles to it.
//!
//! Flow: a caller begins a generation, then pulls steps; a pull allows one token more, [`Generation::credit`] several at once. The owner makes steps
//! of all jobs that may go on ([`crate::proto::scheduler`]): tokens of many answers, parts of prompts and of replays, each with its own adapters, in
//! one pass over the weights. What comes of a job's rows does not depend on who else is in the step, so an answer has the same tokens alone and
//! among others, after a preemption, from a prefix that was computed before, and with guesses or without.
//!
//! Bounds: commands wait in a queue of [`EngineConfig::queue_max`]; at most [`EngineConfig::sequences_max`] generations and as many replays are accepted
//! at a time; their keys and values take [`EngineConfig::cached_tokens_max`] tokens, where there are more some give way and are computed again; packed
//! adapters take [`EngineConfig::adapters`] on the device, in memory and on disk. Beyond them the answer is `Busy`, with a time to come back, never a
//! silent wait.
//!
//! Adapters ([`crate::adapter::store`]) are imported, named, pinned and removed beside the owner's thread, and drop no request. A job names its own by
//! content hash. One that has left memory comes back from the engine's folder, also after a restart; one that was never here comes from
//! [`EngineConfig::fetch`], and the job waits for it at most [`EngineConfig::adapter_wait_max`].
//!
//! A step takes some 25 ms at most ([`crate::proto::scheduler::STEP_AIM`]), so a generation that is dropped is noticed within 50. Nothing is allocated for a
//! step in steady state. A request that cannot be computed ends alone, before it begins or in the step that finds it out.

mod bell;
mod guide;
mod handle;
mod line;
mod owner;
mod work;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use types::id::Address;

use crate::Finish;
use crate::adapter::store::{FetchAdapter, StoreError};
use crate::backend::cpu::share::PARTS_MAX;
use crate::backend::{Counters, Profile};
use crate::constraint::ConstraintError;
use crate::model::ModelError;
use crate::proto::residency::{AdapterId, Budget};
use crate::proto::scheduler::{self, ADAPTER_WAIT_MAX};
use crate::sampler::{Options, OptionsError};
use crate::step::{PAGE_TOKENS, StepError};

pub use handle::{Activations, EngineHandle, Generation};

/// Jobs of one engine: each is worked out as a part of its own.
pub const JOBS_MAX: usize = PARTS_MAX;
/// Tokens that room is made for at once when credit is given; more come without it.
const AHEAD_MAX: u32 = 1_024;

/// Settings of an engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The model: a GGUF file, or a folder of safetensors with its settings and tokenizer.
    pub model: PathBuf,
    /// BLAKE3 the file must have.
    pub expected_hash: Option<[u8; 32]>,
    /// The rules by which numbers are computed: `exact` or `fast`.
    pub profile: Profile,
    /// Generations that may be accepted at a time, and replays beside them; at most half of [`JOBS_MAX`]. As many as a step has room for run, the others wait.
    pub sequences_max: usize,
    /// Commands that may wait.
    pub queue_max: usize,
    /// Tokens whose keys and values are kept, in pages of 64; also what one prompt with its answer may have. 12.2 kB each for SmolLM2-135M.
    pub cached_tokens_max: usize,
    /// Folder of packed adapters: no other engine may have it. Without one the engine serves the base alone.
    pub adapters_dir: Option<PathBuf>,
    /// What adapters may take on the device, in memory and on disk; at rank 16 each takes 5 MB on a 135 M model.
    pub adapters: Budget,
    /// Gets adapters that a job names and that are not here.
    pub fetch: Option<Arc<dyn FetchAdapter>>,
    /// How long a job waits for an adapter that is on its way; two seconds at least ([`scheduler::Config::wait_max`]).
    pub adapter_wait_max: Duration,
    /// Threads that compute, the owner's among them; all that the system gives by default.
    pub threads: Option<NonZeroUsize>,
    /// Whether to guess tokens from what stood in prompt and answer before. Guesses never change an answer.
    pub guesses: bool,
}

impl EngineConfig {
    /// Defaults for a model file: no hash demanded, the profile `exact`, 64 generations, 64 waiting commands, 32,768 cached tokens (four full contexts of
    /// SmolLM2-135M, 400 MB: with 100 MB of weights and all adapters a node stays near 1 GB), no folder for adapters, nobody to fetch them from,
    /// and where there is a folder 500 MB of them in memory.
    pub fn new(model: impl Into<PathBuf>) -> Self {
        Self {
            model: model.into(),
            expected_hash: None,
            profile: Profile::Exact,
            sequences_max: 64,
            queue_max: 64,
            cached_tokens_max: 32_768,
            adapters_dir: None,
            adapters: Budget { device_bytes: 500_000_000, memory_bytes: 500_000_000, ..Budget::default() },
            fetch: None,
            adapter_wait_max: ADAPTER_WAIT_MAX,
            threads: None,
            guesses: true,
        }
    }

    fn check(&self) -> Result<(), EngineError> {
        if self.sequences_max == 0 || self.queue_max == 0 || self.cached_tokens_max == 0 {
            return Err(EngineError::Invalid("sequences_max, queue_max and cached_tokens_max must be at least 1"));
        }
        if self.sequences_max > JOBS_MAX / 2 {
            return Err(EngineError::Invalid("sequences_max must be at most 2,048"));
        }
        if self.adapters.file_bytes_max > self.adapters.disk_bytes {
            return Err(EngineError::Invalid("adapters.file_bytes_max is more than adapters.disk_bytes: nothing could be fetched"));
        }
        Ok(())
    }

    fn pages(&self) -> u32 {
        let page = usize::try_from(PAGE_TOKENS).unwrap_or(usize::MAX);
        u32::try_from(self.cached_tokens_max.div_ceil(page)).unwrap_or(u32::MAX)
    }

    fn scheduler(&self, context: u32) -> scheduler::Config {
        scheduler::Config {
            jobs_max: 2 * self.sequences_max,
            payer_jobs_max: self.sequences_max,
            guesses: self.guesses,
            adapters: self.adapters.clone(),
            adapter_wait_max: self.adapter_wait_max,
            ..scheduler::Config::new(self.pages(), context)
        }
    }
}

/// Why the engine refuses or fails.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The model cannot be loaded or run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// No adapter with this hash is here, and none can be fetched.
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
    /// As many generations as allowed are accepted, or the queue is full.
    #[error("the engine is busy: {running} of {max} {what}; try again in {} ms or ask another node", .retry_after.as_millis())]
    Busy {
        /// What is exhausted.
        what: &'static str,
        /// How many there are.
        running: usize,
        /// How many there may be.
        max: usize,
        /// When there is room at the present pace.
        retry_after: Duration,
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
    /// The store of adapters refuses or fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An adapter that a job names does not come.
    #[error("adapter {} does not come: {reason}", hex::encode(.hash))]
    AdapterLost {
        /// Which.
        hash: [u8; 32],
        /// Why, in words.
        reason: String,
    },
    /// Options that no answer of this model can have.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// A grammar that cannot be used, or that the answer cannot go on under.
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
    /// A mistake of this engine: its device does not take what it planned.
    #[error("a step was refused: {0}")]
    Step(#[from] StepError),
}

/// What to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// Tokens of the prompt, with the template around it.
    pub prompt: Vec<u32>,
    /// Tokens of the answer that were produced elsewhere; sampling goes on at their number.
    pub continued: Vec<u32>,
    /// Adapters by content hash, in the order of their application, with what each is multiplied by beside its own scale.
    pub adapters: Vec<(AdapterId, f32)>,
    /// How to choose tokens, and where the answer ends beside an end token and its longest. The token that a stop string ends with is the answer's
    /// last; its text is cut before that string ([`crate::sampler::Stops`]).
    pub options: Options,
    /// Seed of the choices.
    pub seed: [u8; 32],
    /// Most tokens of the whole answer, the continued ones included.
    pub max_tokens: u32,
    /// Who pays: payers get equal shares of a busy engine, however much each asks for.
    pub payer: Address,
    /// Within which prompts' beginnings are computed once: equal values must be one party, because who shares pages can tell from the time of a
    /// first token what was asked before.
    pub tenant: [u8; 32],
    /// Whether to make digests ([`Generation::digests`]): some percent slower.
    pub digests: bool,
    /// Whether to keep what fingerprints are made of ([`Generation::activations`]): 512 bytes a token and some microseconds.
    pub fingerprints: bool,
}

impl Start {
    /// An answer from its beginning, by the base model, for the one party of a local engine.
    #[must_use]
    pub fn new(prompt: Vec<u32>, options: impl Into<Options>, seed: [u8; 32], max_tokens: u32) -> Self {
        let options = options.into();
        let (continued, adapters, payer, tenant) = (Vec::new(), Vec::new(), Address([0; 20]), [0; 32]);
        Self { prompt, continued, adapters, options, seed, max_tokens, payer, tenant, digests: false, fingerprints: false }
    }

    /// The same with an adapter at its own scale.
    #[must_use]
    pub fn with_adapter(mut self, hash: [u8; 32]) -> Self {
        self.adapters.push((AdapterId(hash), 1.0));
        self
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

/// What an engine has done and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// What the device computed.
    pub counters: Counters,
    /// Generations accepted and not over.
    pub generations: usize,
    /// Replays likewise.
    pub replays: usize,
    /// Of both, how many have a place in steps.
    pub running: usize,
    /// And how many wait for credit, pages or adapters.
    pub waiting: usize,
    /// Pages of keys and values.
    pub pages: usize,
    /// Of them, those that nobody holds.
    pub pages_available: usize,
    /// Adapters on disk.
    pub adapters: usize,
    /// Bytes of adapters on the device and in memory.
    pub adapter_bytes: (u64, u64),
    /// How often a job gave up its pages.
    pub preempted: u64,
    /// Tokens guessed, and how many of them were right.
    pub guessed: u64,
    /// See [`Stats::guessed`].
    pub guessed_right: u64,
}
