//! What a run writes: checkpoints, PEFT files, the training manifest.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::Serialize;

use crate::adapter::config::{AdapterConfig, Layers, Targets};
use crate::adapter::{AdapterFiles, CONFIG_FILE, Lora, MANIFEST_FILE, WEIGHTS_FILE};
use crate::model::{ModelInfo, Site};

use super::data::{self, Encoded};
use super::params::{AdamW, Layout};
use super::{Change, Example, TrainConfig, TrainError, TrainJob};

/// `training_manifest.json`: what the adapter was trained on, how, and what came out. Held-out documents are not in it, only the loss on them.
#[derive(Debug, Serialize)]
pub(super) struct Manifest<'a> {
    format: &'static str,
    base: String,
    base_name: &'a str,
    config: &'a TrainConfig,
    dataset: serde_json::Value,
    documents: Vec<Document<'a>>,
    /// What came out; absent until it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    measured: Option<Measured>,
}

/// Losses of a run in millionths of a nat per counted token: integers, since the manifest is hashed.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    /// Mean of each pass.
    passes: Vec<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_out: Option<MeasuredChange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    control: Option<MeasuredChange>,
}

#[derive(Debug, Serialize)]
struct MeasuredChange {
    before: u64,
    after: u64,
}

impl Measured {
    pub(super) fn new(passes: &[f64], held_out: Option<Change>, control: Option<Change>) -> Self {
        let change = |change: Change| MeasuredChange { before: millionths(change.before), after: millionths(change.after) };
        Self { passes: passes.iter().copied().map(millionths).collect(), held_out: held_out.map(change), control: control.map(change) }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cross entropy is not negative and far below 2^43 nats; other values saturate"
)]
fn millionths(loss: f64) -> u64 {
    (loss * 1e6).round() as u64
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    id: &'a str,
    /// BLAKE3 of the text.
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<&'a str>,
}

impl<'a> Manifest<'a> {
    pub(super) fn new(job: &'a TrainJob, base: [u8; 32]) -> Self {
        let document = |example: &'a Example| Document {
            id: &example.id,
            text: blake3::hash(example.text.as_bytes()).to_hex().to_string(),
            prompt: example.prompt.as_deref(),
        };
        // The manifest's hash hangs on the order of keys, also where an interrupted training goes on.
        let mut dataset = job.dataset.clone();
        dataset.sort_all_objects();
        Self {
            format: "tributary/training/1",
            base: hex::encode(base),
            base_name: &job.base_name,
            config: &job.config,
            dataset,
            documents: job.examples.iter().map(document).collect(),
            measured: None,
        }
    }

    pub(super) fn measured(self, measured: Measured) -> Self {
        Self { measured: Some(measured), ..self }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("plain data with string keys");
        bytes.push(b'\n');
        bytes
    }
}

/// The state between two steps: everything that the rest of a run depends on beside its manifest.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Checkpoint {
    /// Complete passes.
    pub(super) pass: u32,
    /// Steps made of the pass under way.
    pub(super) made: usize,
    /// Sum of the losses over them, and the tokens it counts.
    pub(super) total: f64,
    pub(super) counted: usize,
    /// Mean loss of each complete pass.
    pub(super) losses: Vec<f64>,
    pub(super) theta: Vec<f32>,
    pub(super) optimizer: AdamW,
}

const CHECKPOINT_FILE: &str = "checkpoint.safetensors";
/// BLAKE3 of the manifest, which says whose checkpoint it is.
const MANIFEST_KEY: &str = "manifest";
/// What a checkpoint's header says, in the order in which it is hashed.
const FIELDS: [&str; 7] = [MANIFEST_KEY, "pass", "made", "step", "total", "counted", "losses"];
/// The vectors of a checkpoint, hashed behind the header's fields.
const VECTORS: [&str; 3] = ["theta", "first", "second"];
/// BLAKE3 of fields and vectors: a disk that returns other bytes than it got must not decide an adapter.
const DIGEST_KEY: &str = "digest";
/// Bytes of a checkpoint beside its vectors: the header and the losses of its passes, of which a hundred thousand have room.
const CHECKPOINT_HEADER_MAX: u64 = 4 << 20;

impl Checkpoint {
    /// Before the first step.
    pub(super) fn first(theta: Vec<f32>, optimizer: AdamW) -> Self {
        Self { pass: 0, made: 0, total: 0.0, counted: 0, losses: Vec::new(), theta, optimizer }
    }

    /// Ends the pass under way.
    pub(super) fn end_pass(&mut self, loss: f64) {
        self.losses.push(loss);
        (self.pass, self.made, self.total, self.counted) = (self.pass + 1, 0, 0.0, 0);
    }

    /// The checkpoint of an interrupted run with the same manifest over these documents; none if there is no file.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] if it is damaged, [`TrainError::OtherRun`] if it is of another manifest: hours of work are not begun anew
    /// without a word.
    pub(super) fn load(job: &TrainJob, manifest: &[u8], len: usize, examples: &[Encoded]) -> Result<Option<Self>, TrainError> {
        let path = checkpoint_path(job);
        let fail = |problem: String| TrainError::Checkpoint { path: path.clone(), problem };
        let damaged = || fail("it is damaged".to_owned());
        // A larger file is a checkpoint of other settings: this run's all have one size, but for the header.
        let most = CHECKPOINT_HEADER_MAX + 12 * len as u64;
        let Some(bytes) = read_start(&path, most + 1).map_err(|error| fail(error.to_string()))? else { return Ok(None) };
        if bytes.len() as u64 > most {
            return Err(TrainError::OtherRun(path.clone()));
        }
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| fail(error.to_string()))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| fail(error.to_string()))?;
        let none = HashMap::new();
        let metadata = header.metadata().as_ref().unwrap_or(&none);
        let vectors = whole(metadata, &tensors).ok_or_else(damaged)?;
        // Only now: a manifest's hash that a disk changed is no other run.
        if metadata.get(MANIFEST_KEY).is_none_or(|of| of != blake3::hash(manifest).to_hex().as_str()) {
            return Err(TrainError::OtherRun(path.clone()));
        }
        let state = Self::read(metadata, vectors, len).filter(|state| state.fits(&job.config, examples));
        state.map(Some).ok_or_else(damaged)
    }

    fn read(metadata: &HashMap<String, String>, vectors: [&[u8]; 3], len: usize) -> Option<Self> {
        if vectors.iter().any(|data| data.len() != 4 * len) {
            return None;
        }
        let [theta, first, second] = vectors.map(|data| data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>());
        let number = |name: &str| metadata.get(name)?.parse::<u32>().ok();
        let losses = metadata.get("losses")?.split(' ').filter(|loss| !loss.is_empty()).map(float).collect::<Option<Vec<f64>>>()?;
        let optimizer = AdamW { first, second, step: number("step")? };
        let (pass, made, counted) = (number("pass")?, number("made")? as usize, metadata.get("counted")?.parse().ok()?);
        Some(Self { pass, made, total: float(metadata.get("total")?)?, counted, losses, theta, optimizer })
    }

    /// Whether a run over these documents can be in this state: who writes a file can hash it too, and a run adds to what it says.
    fn fits(&self, config: &TrainConfig, examples: &[Encoded]) -> bool {
        let is_known = self.pass <= config.passes && self.pass as usize == self.losses.len();
        if !is_known || !self.losses.iter().chain([&self.total]).all(|loss| loss.is_finite()) {
            return false;
        }
        let is_over = self.pass == config.passes;
        let order = data::order(examples.len(), config.seed, self.pass);
        let groups = if is_over { Vec::new() } else { data::batches(examples, &order, config.batch) };
        let done = groups.iter().take(self.made.saturating_mul(config.accumulate)).flatten();
        let counted: usize = done.map(|&member| examples[member].counted()).sum();
        // A pass has at least a step, and no more of them than documents.
        let passes = u64::from(self.pass);
        let before = u64::from(self.optimizer.step).checked_sub(self.made as u64);
        let is_possible = before.is_some_and(|steps| (passes..=passes.saturating_mul(examples.len() as u64)).contains(&steps));
        self.made <= groups.len().div_ceil(config.accumulate) && self.counted == counted && is_possible
    }

    /// Writes it whole or not at all: after a stop at any moment the file is this checkpoint or the one before.
    pub(super) fn save(&self, job: &TrainJob, manifest: &[u8]) -> Result<(), TrainError> {
        let vectors = [&self.theta, &self.optimizer.first, &self.optimizer.second].map(|values| bytes(values));
        // Floats as their bits: decimal digits would do, but this needs no argument.
        let bits = |value: &f64| format!("{:016x}", value.to_bits());
        let fields = [
            blake3::hash(manifest).to_hex().to_string(),
            self.pass.to_string(),
            self.made.to_string(),
            self.optimizer.step.to_string(),
            bits(&self.total),
            self.counted.to_string(),
            self.losses.iter().map(bits).collect::<Vec<_>>().join(" "),
        ];
        let digest = digest(&fields.each_ref().map(String::as_str), &vectors.each_ref().map(Vec::as_slice));
        let metadata = FIELDS.into_iter().zip(fields).chain([(DIGEST_KEY, digest)]);
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value)).collect();
        let views = VECTORS.iter().zip(&vectors).map(|(name, data)| (*name, view(vec![data.len() / 4], data)));
        let file = safetensors::serialize(views, Some(metadata)).map_err(|error| io(&checkpoint_path(job), error))?;
        write(&checkpoint_path(job), &file)
    }
}

/// The vectors of a checkpoint whose digest is that of its bytes.
fn whole<'a>(metadata: &HashMap<String, String>, tensors: &SafeTensors<'a>) -> Option<[&'a [u8]; 3]> {
    let mut fields = [""; 7];
    for (field, name) in fields.iter_mut().zip(FIELDS) {
        *field = metadata.get(name)?.as_str();
    }
    let found = VECTORS.map(|name| tensors.tensor(name).ok().filter(|view| view.dtype() == Dtype::F32).map(|view| view.data()));
    let [Some(theta), Some(first), Some(second)] = found else { return None };
    let vectors = [theta, first, second];
    (metadata.get(DIGEST_KEY)? == &digest(&fields, &vectors)).then_some(vectors)
}

fn digest(fields: &[&str; 7], vectors: &[&[u8]; 3]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in fields.iter().map(|field| field.as_bytes()).chain(vectors.iter().copied()) {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    hasher.finalize().to_hex().to_string()
}

fn float(bits: impl AsRef<str>) -> Option<f64> {
    u64::from_str_radix(bits.as_ref(), 16).ok().map(f64::from_bits)
}

/// A file's first bytes, at most so many; none if there is no file.
fn read_start(path: &Path, most: u64) -> std::io::Result<Option<Vec<u8>>> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Puts the manifest into the folder of the unfinished adapter: where it cannot be written, an hour's work could not be either.
pub(super) fn prepare(job: &TrainJob, manifest: &[u8]) -> Result<(), TrainError> {
    write(&partial(job).join(MANIFEST_FILE), manifest)
}

/// Takes away what [`prepare`] wrote, where nothing came of it. A folder that holds something else stays.
pub(super) fn withdraw(job: &TrainJob) {
    let folder = partial(job);
    // What cannot be removed is overwritten by the next run.
    let _ = std::fs::remove_file(folder.join(MANIFEST_FILE)).and_then(|()| std::fs::remove_dir(&folder));
}

/// Writes the adapter's files beside the checkpoint, loads them as any node would, and gives the folder its name.
pub(super) fn publish(job: &TrainJob, layout: &Layout, theta: &[f32], manifest: &[u8], model: &ModelInfo) -> Result<[u8; 32], TrainError> {
    let folder = partial(job);
    let config = serde_json::to_vec_pretty(&adapter_config(job, model)).expect("plain data with string keys");
    write(&folder.join(CONFIG_FILE), &config)?;
    write(&folder.join(WEIGHTS_FILE), &peft_tensors(layout, theta).map_err(|e| io(&folder.join(WEIGHTS_FILE), e))?)?;
    write(&folder.join(MANIFEST_FILE), manifest)?;
    let adapter = Lora::new(&AdapterFiles::read(&folder)?, model)?;
    // A rename would replace an empty folder.
    if job.out.exists() {
        return Err(TrainError::Exists(job.out.clone()));
    }
    std::fs::rename(&folder, &job.out).map_err(|error| io(&job.out, error))?;
    sync_folder(&job.out).map_err(|error| io(&job.out, error))?;
    // Last: until the folder has its name, the checkpoint is the work of the run.
    let checkpoint = job.out.join(CHECKPOINT_FILE);
    if let Err(error) = std::fs::remove_file(&checkpoint) {
        tracing::warn!(path = %checkpoint.display(), %error, "a checkpoint that nobody needs any more is left");
    }
    Ok(adapter.info().hash)
}

fn adapter_config(job: &TrainJob, model: &ModelInfo) -> AdapterConfig {
    let config = &job.config;
    let layers = model.config.layers;
    let trained = config.layers.min(layers);
    AdapterConfig {
        peft_type: "LORA".to_owned(),
        task_type: Some("CAUSAL_LM".to_owned()),
        base_model_name_or_path: Some(job.base_name.clone()),
        tributary_base: Some(hex::encode(model.hash)),
        r: config.rank,
        lora_alpha: config.alpha,
        use_rslora: false,
        target_modules: Targets::Names(config.targets.iter().map(|site| site.module().to_owned()).collect()),
        layers_to_transform: (trained < layers).then(|| Layers::Many((layers - trained..layers).collect())),
        rank_pattern: crate::adapter::config::Patterns::default(),
        alpha_pattern: crate::adapter::config::Patterns::default(),
        bias: "none".to_owned(),
        use_dora: false,
        fan_in_fan_out: false,
        modules_to_save: None,
        inference_mode: true,
        lora_dropout: 0.0,
    }
}

fn peft_tensors(layout: &Layout, theta: &[f32]) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let mut parts = Vec::new();
    for entry in &layout.entries {
        let name = |half: &str| crate::adapter::tensor_name(entry.layer, entry.site, half);
        parts.push((name("lora_A"), entry.a_shape, bytes(&theta[entry.a.clone()])));
        parts.push((name("lora_B"), entry.b_shape, bytes(&theta[entry.b.clone()])));
    }
    let views = parts.iter().map(|(name, (rows, columns), data)| (name.clone(), view(vec![*rows, *columns], data)));
    let metadata = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
    safetensors::serialize(views, Some(metadata))
}

fn view(shape: Vec<usize>, data: &[u8]) -> TensorView<'_> {
    TensorView::new(Dtype::F32, shape, data).expect("the data has the shape's length")
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Where a run works until it is complete: the adapter's folder with `.partial` behind it.
fn partial(job: &TrainJob) -> PathBuf {
    let mut name = job.out.clone().into_os_string();
    name.push(".partial");
    PathBuf::from(name)
}

fn checkpoint_path(job: &TrainJob) -> PathBuf {
    partial(job).join(CHECKPOINT_FILE)
}

/// Writes a file whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let fail = |error: std::io::Error| TrainError::Io { path: path.to_path_buf(), source: error };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::File::create(&temporary).map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.sync_all().map_err(fail)?;
    std::fs::rename(&temporary, path).map_err(fail)?;
    sync_folder(path).map_err(fail)
}

/// Makes a rename in a file's folder last, where the system has a call for it.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    match path.parent().filter(|_| cfg!(unix)) {
        // A bare name is in the folder that the process works in.
        Some(folder) if folder.as_os_str().is_empty() => std::fs::File::open(".")?.sync_all(),
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn io(path: &Path, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TrainError {
    TrainError::Io { path: path.to_path_buf(), source: std::io::Error::other(error) }
}

/// PEFT's names of the sites, for manifests.
impl Serialize for Site {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.module())
    }
}

impl<'de> serde::Deserialize<'de> for Site {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::ALL
            .into_iter()
            .find(|site| site.module() == name)
            .ok_or_else(|| serde::de::Error::custom(format!("{name:?} is not a linear layer of this graph")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two passes of two steps over two documents of three counted tokens.
    fn run_of_two() -> (TrainConfig, Vec<Encoded>) {
        let config = TrainConfig { passes: 2, batch: 1, ..TrainConfig::default() };
        (config, vec![Encoded::of(&[1, 2, 3, 4], 1), Encoded::of(&[1, 2, 5, 6], 1)])
    }

    fn state(pass: u32, made: usize, step: u32) -> Checkpoint {
        let optimizer = AdamW { step, ..AdamW::new(0) };
        Checkpoint { pass, made, counted: 3 * made, losses: vec![1.0; pass as usize], ..Checkpoint::first(Vec::new(), optimizer) }
    }

    #[test]
    fn a_state_that_no_run_over_these_documents_reaches_is_refused() {
        let (config, examples) = run_of_two();
        for (pass, made, step) in [(0, 0, 0), (0, 1, 1), (0, 2, 2), (1, 0, 2), (1, 2, 4), (2, 0, 4)] {
            assert!(state(pass, made, step).fits(&config, &examples), "{pass} {made} {step}");
        }
        for (pass, made, step) in [(0, 3, 3), (0, 1, 0), (0, 0, 1), (1, 0, 0), (1, 0, 3), (1, 0, u32::MAX), (2, 1, 5), (3, 0, 6)] {
            assert!(!state(pass, made, step).fits(&config, &examples), "{pass} {made} {step}");
        }
        let changed: [fn(&mut Checkpoint); 6] = [
            |state| state.made = usize::MAX,
            |state| state.counted = usize::MAX,
            |state| state.counted -= 1,
            |state| state.total = f64::NAN,
            |state| state.losses[0] = f64::INFINITY,
            |state| state.losses.clear(),
        ];
        for (number, change) in changed.iter().enumerate() {
            let mut state = state(1, 1, 3);
            change(&mut state);
            assert!(!state.fits(&config, &examples), "change {number}");
        }
    }

    #[test]
    fn a_folder_named_without_a_path_is_in_the_working_folder() {
        sync_folder(Path::new("adapter")).unwrap();
        sync_folder(Path::new("/adapter")).unwrap();
        sync_folder(Path::new("no-such-folder/adapter")).unwrap_err();
    }
}
