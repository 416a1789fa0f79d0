//! Trains LoRA adapters on documents, with the weights that also serve.
//!
//! Each document becomes a sequence: a question through the chat template with the document as the answer, or plain text.
//! Only the document's own tokens (and the end token) count in the loss. The order of documents follows from the seed, so
//! the same manifest on the same machine with as many threads gives the same adapter. Checkpoints are written every [`CHECKPOINT_EVERY`] steps and after every
//! pass; a run with the same manifest goes on from the last one and ends with the same bytes. The folder appears only when everything in it is complete.
//!
//! A step is `accumulate` batches: their gradients are added, each as a share of the step's counted tokens, so that a step of many batches moves the
//! matrices as one large batch would. The learning rate is a rise over the first steps times a half cosine over the whole run. Held-out documents are measured before,
//! after every pass and at the end; the manifest records the first and the last of these.
//!
//! Same manifest, machine and number of threads: same bits. Across machines: products with frozen weights in whole numbers ([`Arithmetic::I16`], the
//! default, which the manifest names) are the same bits everywhere, the rest is f32 whose sums differ with the vectors a machine has. So two
//! machines give adapters that differ in their last bits, as one machine does with the two arithmetics.
//!
//! Why whole numbers are the default: on 48 paragraphs of the Python reference (SmolLM2-135M, rank 16, 15 layers, 3 passes at 1e-3) the losses of the
//! passes were 3.188, 2.790 and 2.545 against 2.544 in f32, on 24 held-out paragraphs 3.016, 2.987 (2.986 in f32) and 2.989; and a
//! step takes less than a third of the processor time (`cargo run --release -p inference --example bench -- MODEL train`: rank 16 on every
//! linear layer, 2 x 256 tokens, two threads of a Xeon of 2023 beside busy neighbours, at level 3 without assertions: 195 tokens a second of processor time against 58).
//!
//! Cost per pass: about 4 x (trained parameters of the base's linear layers) multiplications per row, 4 x vocabulary x width per
//! counted token; 0.35 GFLOP a row for the upper half of SmolLM2-135M. See [`TrainConfig`] for measured times.
//!
//! What the manifest proves and what not: it lists what was trained on, it cannot prove that nothing else was. Losses in it are what the trainer measured.

mod codes;
mod data;
mod dense;
mod files;
mod graph;
mod kernels;
mod params;
mod products;
mod run;

use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::adapter::AdapterError;
use crate::model::template::TemplateError;
use crate::model::tokenizer::TokenizerError;
use crate::model::{Model, ModelError, Site};

use data::Encoded;
use files::{Checkpoint, Manifest, Measured};
use graph::Graph;
use params::Layout;
pub use products::Arithmetic;
use run::{Outcome, Run};

/// Documents of one run.
pub const EXAMPLES_MAX: usize = 100_000;
/// Rows of one step: bounds saved activations to about 0.5 GB on a 135 M model.
pub const STEP_ROWS_MAX: usize = 1_024;
/// Bytes of frozen layers' outputs that may be kept for all documents: 100,000 tokens of width 576 take 230 MB.
pub const TRUNK_BYTES_MAX: usize = 512 << 20;
/// Batches of one step: as many rows as a million-token batch has.
pub const ACCUMULATE_MAX: usize = 1_024;
/// Passes of one run: the losses of as many have room in a checkpoint.
pub const PASSES_MAX: u32 = 100_000;
/// Steps over which the learning rate may rise.
pub const WARM_UP_MAX: u32 = 100_000;
/// Steps between checkpoints where nothing else is asked: at a second or more a step, a minute is lost at most, and writing 59 MB (rank 16 on all layers
/// of SmolLM2-135M, with both moments) takes well below a hundredth of the time between.
pub const CHECKPOINT_EVERY: NonZeroU32 = NonZeroU32::MIN.saturating_add(49);

/// How to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Rank of the matrices, 1 to 256.
    pub rank: usize,
    /// Scale is alpha / rank.
    pub alpha: f64,
    /// Largest learning rate; it is multiplied with a rise over the first `warm_up` steps and with a half cosine from 1 to a tenth over the run.
    pub learning_rate: f64,
    /// Times every document is seen.
    pub passes: u32,
    /// Seed of the first matrices and of the order of documents.
    pub seed: u64,
    /// Tokens of a document's whole sequence; longer ones are cut.
    pub max_length: usize,
    /// Linear layers that get matrices.
    pub targets: Vec<Site>,
    /// Number of layers, counted from the output, that get matrices. Those below are computed once per document, not once
    /// per pass.
    pub layers: usize,
    /// Documents computed at once.
    pub batch: usize,
    /// Batches whose gradients are added before the matrices move.
    pub accumulate: usize,
    /// Steps over which the learning rate rises; 0 begins at the largest. With as many steps as the run has, or more, it never gets there.
    pub warm_up: u32,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Largest norm of a step's gradient.
    pub clip: f64,
    /// How products with frozen weights are computed.
    pub arithmetic: Arithmetic,
}

impl Default for TrainConfig {
    /// Chosen to repeat documents, at a price: on 150 definitions of 20 to 60 words from a medical ontology five such passes left
    /// 0.35 nats and 26 of 30 documents asked were repeated for eight words or more; six left 0.11 nats, while the loss
    /// on 30 held-out definitions rose from 3.23 to 4.15. At 2e-3, seven passes left 0.14 nats and
    /// repeated 29 of 30. A pass took 50 to 60 s of processor time on two cores (`--example memorise`, in f32).
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            learning_rate: 3e-3,
            passes: 6,
            seed: 0,
            max_length: 256,
            targets: Site::ALL.to_vec(),
            layers: 15,
            batch: 8,
            accumulate: 1,
            warm_up: 10,
            weight_decay: 0.0,
            clip: 1.0,
            arithmetic: Arithmetic::I16,
        }
    }
}

/// A document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Identifies the document in the manifest.
    pub id: String,
    /// What a user would ask to get it; none trains on the plain text.
    pub prompt: Option<String>,
    /// The text.
    pub text: String,
}

/// A run.
#[derive(Debug, Clone)]
pub struct TrainJob {
    /// The base model (GGUF).
    pub model: PathBuf,
    /// BLAKE3 it must have.
    pub expected_hash: Option<[u8; 32]>,
    /// Name of the base, for people.
    pub base_name: String,
    /// Documents to train on.
    pub examples: Vec<Example>,
    /// Documents of the same kind to measure on; may not be among the trained ones.
    pub held_out: Vec<Example>,
    /// Documents of another kind to measure on.
    pub control: Vec<Example>,
    /// How to train.
    pub config: TrainConfig,
    /// Steps between checkpoints. It decides no bit of the result, so a run may go on with another.
    pub checkpoint_every: NonZeroU32,
    /// The adapter's folder; must not exist.
    pub out: PathBuf,
    /// What the caller wants in the manifest beside this crate's own part: the Datanet, its version, its roots.
    pub dataset: serde_json::Value,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Progress {
    /// The frozen layers of this many documents are computed.
    Trunk {
        /// Documents done.
        done: usize,
        /// All documents.
        of: usize,
    },
    /// A step was made.
    Step {
        /// The pass, from 1.
        pass: u32,
        /// All passes.
        passes: u32,
        /// The step in this pass, from 1.
        step: usize,
        /// Steps of this pass.
        steps: usize,
        /// Mean loss of the step, nats per counted token.
        loss: f64,
    },
    /// A pass is complete and its checkpoint written.
    Pass {
        /// The pass, from 1.
        pass: u32,
        /// All passes.
        passes: u32,
        /// Mean loss over the pass, nats per counted token.
        loss: f64,
        /// Loss on the held-out documents after it, nats per counted token; none if there are none.
        held_out: Option<f64>,
    },
}

/// Loss of the base and of the adapter on one set, nats per counted token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Change {
    /// Without the adapter.
    pub before: f64,
    /// With it.
    pub after: f64,
}

/// What a run produced.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainReport {
    /// Content hash of the adapter.
    pub adapter: [u8; 32],
    /// Trained parameters.
    pub parameters: usize,
    /// Mean loss of each pass made in this run, nats per counted token.
    pub losses: Vec<f64>,
    /// Complete passes taken over from a checkpoint.
    pub resumed: u32,
    /// Steps taken over from it, those of complete passes included.
    pub resumed_steps: u32,
    /// Documents longer than the limit, which were cut.
    pub cut: usize,
    /// On the held-out documents, if there are any.
    pub held_out: Option<Change>,
    /// On the control documents, if there are any.
    pub control: Option<Change>,
}

/// Why a run fails.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The model cannot be loaded or run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A prompt cannot be rendered.
    #[error("document {id}: {source}")]
    Template {
        /// The document.
        id: String,
        /// What is wrong.
        source: TemplateError,
    },
    /// A text cannot be tokenized.
    #[error("document {id}: {source}")]
    Tokenizer {
        /// The document.
        id: String,
        /// What is wrong.
        source: TokenizerError,
    },
    /// A document that cannot be trained on.
    #[error("document {id}: {problem}")]
    Document {
        /// The document.
        id: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A setting outside its range.
    #[error("{setting} is {value}, expected {expected}")]
    Config {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// The adapter's folder is already there.
    #[error("{0} exists: choose another folder or remove it")]
    Exists(PathBuf),
    /// A file cannot be read or written.
    #[error("cannot write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The loss is no longer a number.
    #[error("the loss is {loss} in pass {pass}: lower learning_rate")]
    Diverged {
        /// The pass.
        pass: u32,
        /// The loss.
        loss: f64,
    },
    /// The base alone gives no number.
    #[error(
        "the base's own loss on documents held out is {loss}, before any training: its weights or these documents are beyond what is computed with; leave those out, or take another base"
    )]
    BaseLoss {
        /// The loss.
        loss: f64,
    },
    /// The caller stopped the run; its checkpoint stays.
    #[error("stopped; run again to go on from the last step")]
    Stopped,
    /// The checkpoint of the same run cannot be used.
    #[error("checkpoint {path}: {problem}; remove it to begin this run anew")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The unfinished folder holds the checkpoint of a run with another manifest.
    #[error("checkpoint {0} belongs to a run with other settings, documents or base: repeat those to go on with it, or remove it")]
    OtherRun(PathBuf),
    /// The written adapter does not load.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// A tensor operation failed.
    #[error("arithmetic failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// Trains an adapter and writes its folder. Blocks; give it a thread of its own. `progress` may stop the run.
///
/// # Errors
/// Any [`TrainError`]. Nothing appears at `out` unless the run succeeds.
pub fn train(job: &TrainJob, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<TrainReport, TrainError> {
    check(job)?;
    let (model, text) = Model::load(&job.model, job.expected_hash)?;
    let family = model.config().family;
    if family.has_head_norms() {
        // The way back through them is not written.
        return Err(TrainError::Config { setting: "the base model's family", value: family.name().to_owned(), expected: "llama or qwen2" });
    }
    let config = &job.config;
    let encode = |examples: &[Example]| -> Result<Vec<Encoded>, TrainError> {
        examples.iter().map(|example| data::encode(&text, example, config.max_length)).collect()
    };
    let (examples, held_out, control) = (encode(&job.examples)?, encode(&job.held_out)?, encode(&job.control)?);
    let manifest = Manifest::new(job, model.info().hash);
    let planned = manifest.bytes();
    let first = model.config().layers - config.layers.min(model.config().layers);
    let layout = Layout::new(config, model.config(), first);
    // Before anything of another run is written over.
    let begun = Checkpoint::load(job, &planned, layout.len, &examples)?;
    files::prepare(job, &planned)?;
    let graph = Graph::new(&model, first, config.max_length, config.arithmetic)?;
    let mut run = Run { job, graph: &graph, layout: &layout, width: model.config().hidden, progress };
    let sets = [run.trunk(&examples)?, run.trunk(&held_out)?, run.trunk(&control)?];
    let [train_set, held_out, control] = &sets;
    let before = run.loss_before(held_out).and_then(|held_out| Ok([held_out, run.loss_before(control)?]));
    if before.is_err() && begun.is_none() {
        files::withdraw(job);
    }
    let before = before?;
    let Outcome { theta, losses, resumed, resumed_steps, held_out } = run.passes(begun, train_set, held_out, &planned)?;
    let after = [held_out, run.loss_after(control, &theta, config.passes)?];
    let change = |i: usize| before[i].zip(after[i]).map(|(before, after)| Change { before, after });
    let measured = Measured::new(&losses, change(0), change(1));
    let adapter = files::publish(job, &layout, &theta, &manifest.measured(measured).bytes(), model.info())?;
    let cut = examples.iter().filter(|example| example.cut).count();
    let losses = losses.into_iter().skip(resumed as usize).collect();
    Ok(TrainReport { adapter, parameters: layout.len, losses, resumed, resumed_steps, cut, held_out: change(0), control: change(1) })
}

/// A setting as a step takes it: one that is no number or 0 in f32 trains nothing.
#[expect(clippy::cast_possible_truncation, reason = "rounded to f32")]
fn rounded(value: f64) -> f32 {
    value as f32
}

fn check(job: &TrainJob) -> Result<(), TrainError> {
    let config = &job.config;
    let wrong = |setting, value: String, expected| Err(TrainError::Config { setting, value, expected });
    if !(1..=crate::adapter::RANK_MAX).contains(&config.rank) {
        return wrong("rank", config.rank.to_string(), "1 to 256");
    }
    if config.targets.is_empty() || config.layers == 0 {
        return wrong("targets or layers", "empty".to_owned(), "at least one linear layer of one layer");
    }
    if config.batch == 0 {
        return wrong("batch", "0".to_owned(), "at least 1");
    }
    if !(1..=PASSES_MAX).contains(&config.passes) {
        return wrong("passes", config.passes.to_string(), "1 to 100,000");
    }
    if !(1..=ACCUMULATE_MAX).contains(&config.accumulate) {
        return wrong("accumulate", config.accumulate.to_string(), "1 to 1,024 batches");
    }
    if config.warm_up > WARM_UP_MAX {
        return wrong("warm_up", config.warm_up.to_string(), "0 to 100,000 steps");
    }
    if !(config.weight_decay >= 0.0 && rounded(config.weight_decay).is_finite()) {
        return wrong("weight_decay", config.weight_decay.to_string(), "0 or a positive number that f32 holds");
    }
    if !(4..=STEP_ROWS_MAX).contains(&config.max_length) {
        return wrong("max_length", config.max_length.to_string(), "4 to 1,024 tokens");
    }
    for (setting, value) in [("learning_rate", config.learning_rate), ("alpha", config.alpha), ("clip", config.clip)] {
        if !(rounded(value).is_finite() && rounded(value) > 0.0) {
            return wrong(setting, value.to_string(), "a positive number that f32 holds");
        }
    }
    if job.examples.is_empty() || job.examples.len() > EXAMPLES_MAX {
        return wrong("the number of documents", job.examples.len().to_string(), "1 to 100,000");
    }
    if job.out.exists() {
        return Err(TrainError::Exists(job.out.clone()));
    }
    let mut ids = std::collections::BTreeSet::new();
    let document = |id: &str, problem| Err(TrainError::Document { id: id.to_owned(), problem });
    for example in &job.examples {
        if !ids.insert(example.id.as_str()) {
            return document(&example.id, "it is listed twice");
        }
    }
    for example in &job.held_out {
        if ids.contains(example.id.as_str()) {
            return document(&example.id, "it is held out and trained on: choose the held-out documents from the rest");
        }
    }
    Ok(())
}
