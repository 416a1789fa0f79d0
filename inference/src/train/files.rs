//! What a run writes: checkpoints, PEFT files, the training manifest.

use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::Serialize;

use crate::adapter::config::{AdapterConfig, Layers, Targets};
use crate::adapter::{AdapterFiles, CONFIG_FILE, Lora, MANIFEST_FILE, WEIGHTS_FILE};
use crate::model::{ModelInfo, Site};

use super::params::{AdamW, Layout};
use super::{Example, TrainConfig, TrainError, TrainJob};

/// `training_manifest.json`: what the adapter was trained on, and how. Held-out documents are not in it.
#[derive(Debug, Serialize)]
pub(super) struct Manifest<'a> {
    format: &'static str,
    base: String,
    base_name: &'a str,
    config: &'a TrainConfig,
    dataset: serde_json::Value,
    documents: Vec<Document<'a>>,
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
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("plain data with string keys");
        bytes.push(b'\n');
        bytes
    }
}

/// The state after a pass.
pub(super) struct Checkpoint {
    pub(super) pass: u32,
    pub(super) theta: Vec<f32>,
    pub(super) optimizer: AdamW,
}

const MANIFEST_KEY: &str = "manifest";

impl Checkpoint {
    /// The checkpoint of an interrupted run with the same manifest; none if there is none or it does not fit.
    pub(super) fn load(job: &TrainJob, manifest: &[u8], len: usize) -> Option<Self> {
        let bytes = std::fs::read(checkpoint_path(job)).ok()?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).ok()?;
        let metadata = metadata.metadata().as_ref()?;
        if metadata.get(MANIFEST_KEY)? != blake3::hash(manifest).to_hex().as_str() {
            return None;
        }
        let tensors = SafeTensors::deserialize(&bytes).ok()?;
        let vector = |name: &str| -> Option<Vec<f32>> {
            let view = tensors.tensor(name).ok()?;
            let values: Vec<f32> = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            (view.dtype() == Dtype::F32 && values.len() == len).then_some(values)
        };
        let number = |name: &str| metadata.get(name)?.parse::<u32>().ok();
        let optimizer = AdamW { first: vector("first")?, second: vector("second")?, step: number("step")? };
        let pass = number("pass").filter(|pass| *pass <= job.config.passes)?;
        Some(Self { pass, theta: vector("theta")?, optimizer })
    }

    pub(super) fn save(&self, job: &TrainJob, manifest: &[u8]) -> Result<(), TrainError> {
        let metadata = [
            (MANIFEST_KEY, blake3::hash(manifest).to_hex().to_string()),
            ("pass", self.pass.to_string()),
            ("step", self.optimizer.step.to_string()),
        ];
        let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let vectors = [("theta", &self.theta), ("first", &self.optimizer.first), ("second", &self.optimizer.second)];
        let bytes: Vec<(&str, Vec<u8>)> = vectors.iter().map(|(name, values)| (*name, bytes(values))).collect();
        let views = bytes.iter().map(|(name, data)| (*name, view(vec![data.len() / 4], data)));
        let file = safetensors::serialize(views, Some(metadata)).map_err(|error| io(&checkpoint_path(job), error))?;
        write(&checkpoint_path(job), &file)
    }
}

/// Puts the manifest into the folder of the unfinished adapter: where it cannot be written, an hour's work could not be either.
pub(super) fn prepare(job: &TrainJob, manifest: &[u8]) -> Result<(), TrainError> {
    write(&partial(job).join(MANIFEST_FILE), manifest)
}

/// Writes the adapter's files beside the checkpoint, loads them as any node would, and gives the folder its name.
pub(super) fn publish(job: &TrainJob, layout: &Layout, theta: &[f32], manifest: &[u8], model: &ModelInfo) -> Result<[u8; 32], TrainError> {
    let folder = partial(job);
    let config = serde_json::to_vec_pretty(&adapter_config(job, model)).expect("plain data with string keys");
    write(&folder.join(CONFIG_FILE), &config)?;
    write(&folder.join(WEIGHTS_FILE), &peft_tensors(layout, theta).map_err(|e| io(&folder.join(WEIGHTS_FILE), e))?)?;
    write(&folder.join(MANIFEST_FILE), manifest)?;
    let adapter = Lora::new(&AdapterFiles::read(&folder)?, model)?;
    let checkpoint = checkpoint_path(job);
    std::fs::remove_file(&checkpoint).map_err(|error| io(&checkpoint, error))?;
    std::fs::rename(&folder, &job.out).map_err(|error| io(&job.out, error))?;
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
    partial(job).join("checkpoint.safetensors")
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
    std::fs::rename(&temporary, path).map_err(fail)
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
