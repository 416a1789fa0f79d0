//! Trains LoRA adapters on documents, with the weights that also serve.
//!
//! Each document becomes a sequence: a question through the chat template with the document as the answer, or plain text.
//! Only the document's own tokens (and the end token) count in the loss. The order of documents follows from the seed, so
//! the same manifest on the same machine gives the same adapter. After every pass a checkpoint is written; a run with the same manifest
//! resumes from it. The folder appears only when everything in it is complete.
//!
//! Cost per pass: about 4 x (trained parameters of the base's linear layers) multiplications per row, 4 x vocabulary x width per
//! counted token; 0.35 GFLOP a row for the upper half of SmolLM2-135M. See [`TrainConfig`] for measured times.
//!
//! What the manifest proves and what not: it lists what was trained on, it cannot prove that nothing else was.

mod data;
mod files;
mod graph;
mod kernels;
mod params;

use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::adapter::AdapterError;
use crate::model::linear::read;
use crate::model::template::TemplateError;
use crate::model::tokenizer::TokenizerError;
use crate::model::{Model, ModelError, Site};

use data::{Encoded, batches};
use files::{Checkpoint, Manifest};
use graph::{Graph, Matrices};
use params::{AdamW, Layout};

/// Documents of one run.
pub const EXAMPLES_MAX: usize = 100_000;
/// Rows of one step: bounds saved activations to about 0.5 GB on a 135 M model.
pub const STEP_ROWS_MAX: usize = 1_024;
/// Bytes of frozen layers' outputs that may be kept for all documents: 100,000 tokens of width 576 take 230 MB.
pub const TRUNK_BYTES_MAX: usize = 512 << 20;

/// How to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Rank of the matrices, 1 to 256.
    pub rank: usize,
    /// Scale is alpha / rank.
    pub alpha: f64,
    /// Largest learning rate; it rises over the first steps and falls along a half cosine to a tenth.
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
    /// Documents per step.
    pub batch: usize,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Largest norm of a step's gradient.
    pub clip: f64,
}

impl Default for TrainConfig {
    /// Chosen to repeat documents, at a price: on 150 definitions of 20 to 60 words from a medical ontology five such passes left
    /// 0.35 nats and 26 of 30 documents asked were repeated for eight words or more; six left 0.11 nats, while the loss
    /// on 30 held-out definitions rose from 3.23 to 4.15. At 2e-3, seven passes left 0.14 nats and
    /// repeated 29 of 30. A pass took 50 to 60 s of processor time on two cores (`--example memorise`).
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
            weight_decay: 0.0,
            clip: 1.0,
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
    /// Passes taken over from a checkpoint.
    pub resumed: u32,
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
    /// The caller stopped the run; the checkpoint stays.
    #[error("stopped; run again to go on from the last complete pass")]
    Stopped,
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
    let manifest = Manifest::new(job, model.info().hash).bytes();
    files::prepare(job, &manifest)?;
    let first = model.config().layers - config.layers.min(model.config().layers);
    let graph = Graph::new(&model, first, config.max_length)?;
    let layout = Layout::new(config, model.config(), first);
    let mut run = Run { job, graph: &graph, layout: &layout, width: model.config().hidden, progress };
    let sets = [run.trunk(&examples)?, run.trunk(&held_out)?, run.trunk(&control)?];
    let [train_set, held_out, control] = &sets;
    let before = [run.mean_loss(held_out, None)?, run.mean_loss(control, None)?];
    let (theta, losses, resumed) = run.passes(train_set, &manifest)?;
    let after = [run.mean_loss(held_out, Some(&theta))?, run.mean_loss(control, Some(&theta))?];
    let adapter = files::publish(job, &layout, &theta, &manifest, model.info())?;
    let change = |i: usize| before[i].zip(after[i]).map(|(before, after)| Change { before, after });
    let cut = examples.iter().filter(|example| example.cut).count();
    Ok(TrainReport { adapter, parameters: layout.len, losses, resumed, cut, held_out: change(0), control: change(1) })
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
    if config.batch == 0 || config.passes == 0 {
        return wrong("batch or passes", "0".to_owned(), "at least 1");
    }
    if !(4..=STEP_ROWS_MAX).contains(&config.max_length) {
        return wrong("max_length", config.max_length.to_string(), "4 to 1,024 tokens");
    }
    for (setting, value) in [("learning_rate", config.learning_rate), ("alpha", config.alpha), ("clip", config.clip)] {
        if !(value.is_finite() && value > 0.0) {
            return wrong(setting, value.to_string(), "a positive number");
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

/// A set of documents with the output of their frozen layers.
struct Set<'a> {
    examples: &'a [Encoded],
    trunk: Vec<Vec<f32>>,
}

/// What a run carries around.
struct Run<'a> {
    job: &'a TrainJob,
    graph: &'a Graph<'a>,
    layout: &'a Layout,
    width: usize,
    progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl Run<'_> {
    fn report(&mut self, progress: Progress) -> Result<(), TrainError> {
        match (self.progress)(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(TrainError::Stopped),
        }
    }

    fn trunk<'b>(&mut self, examples: &'b [Encoded]) -> Result<Set<'b>, TrainError> {
        let values: usize = examples.iter().map(|example| example.inputs().len() * self.width).sum();
        if values * 4 > TRUNK_BYTES_MAX {
            return Err(TrainError::Config {
                setting: "the number of tokens in all documents",
                value: (values / self.width).to_string(),
                expected: "few enough that their frozen layers' output fits 512 MiB",
            });
        }
        let embed = |example: &Encoded| self.graph.embed(example.inputs());
        let mut trunk = examples.iter().map(embed).collect::<Result<Vec<_>, _>>()?;
        let order: Vec<usize> = (0..examples.len()).collect();
        for members in batches(examples, &order, self.job.config.batch) {
            let batch = data::pack(examples, &trunk, &members, self.width)?;
            let hidden = self.graph.frozen(&batch)?;
            let rows = read(&hidden, |hidden| data::unpack(hidden, &batch, self.width))?;
            for (&member, rows) in members.iter().zip(rows) {
                trunk[member] = rows;
            }
            self.report(Progress::Trunk { done: members.last().map_or(0, |last| last + 1), of: examples.len() })?;
        }
        Ok(Set { examples, trunk })
    }

    /// Mean loss per counted token; none for an empty set.
    fn mean_loss(&self, set: &Set<'_>, theta: Option<&[f32]>) -> Result<Option<f64>, TrainError> {
        let tensors = theta.map(|theta| self.layout.tensors(theta)).transpose()?;
        let order: Vec<usize> = (0..set.examples.len()).collect();
        let (mut loss, mut counted) = (0.0, 0);
        for members in batches(set.examples, &order, self.job.config.batch) {
            let batch = data::pack(set.examples, &set.trunk, &members, self.width)?;
            let matrices = tensors.as_ref().map(|tensors| self.matrices(tensors));
            loss += self.graph.loss(&batch, matrices.as_ref())?;
            counted += batch.targets.len();
        }
        Ok((counted > 0).then(|| loss / crate::model::f64_from(counted)))
    }

    fn matrices<'b>(&'b self, tensors: &'b [(candle_core::Tensor, candle_core::Tensor)]) -> Matrices<'b> {
        let config = &self.job.config;
        Matrices { layout: self.layout, tensors, scale: config.alpha / crate::model::f64_from(config.rank) }
    }

    /// All passes, from a checkpoint if one fits. Returns the matrices, the losses and the passes taken over.
    fn passes(&mut self, set: &Set<'_>, manifest: &[u8]) -> Result<(Vec<f32>, Vec<f64>, u32), TrainError> {
        let config = &self.job.config;
        let mut state = Checkpoint::load(self.job, manifest, self.layout.len).unwrap_or_else(|| Checkpoint {
            pass: 0,
            theta: self.layout.initial(config.seed),
            optimizer: AdamW::new(self.layout.len),
        });
        let resumed = state.pass;
        let mut losses = Vec::new();
        while state.pass < config.passes {
            let loss = self.pass(set, &mut state)?;
            state.pass += 1;
            if !loss.is_finite() {
                return Err(TrainError::Diverged { pass: state.pass, loss });
            }
            losses.push(loss);
            state.save(self.job, manifest)?;
            self.report(Progress::Pass { pass: state.pass, passes: config.passes, loss })?;
        }
        Ok((state.theta, losses, resumed))
    }

    fn pass(&mut self, set: &Set<'_>, state: &mut Checkpoint) -> Result<f64, TrainError> {
        let config = &self.job.config;
        let order = data::order(set.examples.len(), config.seed, state.pass);
        let groups = batches(set.examples, &order, config.batch);
        let (mut total, mut counted) = (0.0, 0);
        for (index, members) in groups.iter().enumerate() {
            let batch = data::pack(set.examples, &set.trunk, members, self.width)?;
            let tensors = self.layout.tensors(&state.theta)?;
            let (loss, gradient) = self.graph.gradient(&batch, &self.matrices(&tensors))?;
            let done = crate::model::f64_from(state.pass as usize) + crate::model::f64_from(index) / crate::model::f64_from(groups.len());
            let rate = rate(config, state.optimizer.step, done / f64::from(config.passes));
            #[expect(clippy::cast_possible_truncation, reason = "settings are small numbers, rounded to f32")]
            state.optimizer.step(&mut state.theta, &gradient, rate as f32, config.weight_decay as f32, config.clip as f32);
            total += loss;
            counted += batch.targets.len();
            let loss = loss / crate::model::f64_from(batch.targets.len().max(1));
            let (pass, passes) = (state.pass + 1, config.passes);
            self.report(Progress::Step { pass, passes, step: index + 1, steps: groups.len(), loss })?;
        }
        Ok(total / crate::model::f64_from(counted.max(1)))
    }
}

/// Steps over which the rate rises.
const WARM_UP_STEPS: u32 = 10;

/// The learning rate at a step and a share of the run.
fn rate(config: &TrainConfig, step: u32, share: f64) -> f64 {
    let rising = f64::from(step + 1).min(f64::from(WARM_UP_STEPS)) / f64::from(WARM_UP_STEPS);
    let falling = 0.1 + 0.45 * (1.0 + (share * std::f64::consts::PI).cos());
    config.learning_rate * rising * falling
}
