//! LoRA adapters in PEFT's file format, applied unmerged: y = W x + s B (A x).
//!
//! A folder holds `adapter_config.json`, `adapter_model.safetensors` and, if it was trained here,
//! `training_manifest.json`. It may come from a stranger: sizes are bounded before reading, every tensor's name and shape
//! is checked against the model, and what this engine would compute differently from PEFT is refused by name.
//!
//! An adapter of rank r on all linear layers of SmolLM2-135M holds 305,280 r parameters: 20 MB at rank 16.

pub mod config;
mod lora;

use std::io::Read;
use std::path::{Path, PathBuf};

pub use config::AdapterConfig;
pub(crate) use lora::tensor_name;
pub use lora::{Lora, Pair, RANK_MAX};

/// Bytes of `adapter_config.json`; real ones hold about one kilobyte.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Bytes of `adapter_model.safetensors`: rank 256 on all layers of a 135 M model in f32 is 313 MB.
pub const WEIGHTS_BYTES_MAX: u64 = 512 << 20;
/// Bytes of `training_manifest.json`: about 100 bytes a document.
pub const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// The folder's file with PEFT's settings.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// The folder's file with the matrices.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// The folder's file that says what it was trained on.
pub const MANIFEST_FILE: &str = "training_manifest.json";

/// Why an adapter is refused.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is larger than accepted.
    #[error("{path} is larger than the {max} bytes accepted")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most accepted.
        max: u64,
    },
    /// The settings are not PEFT's JSON.
    #[error("adapter_config.json is not readable: {0}")]
    Config(String),
    /// The settings ask for something this engine does not compute.
    #[error("the adapter uses {feature}, which this engine does not apply: {fix}")]
    Unsupported {
        /// The feature.
        feature: String,
        /// What to do.
        fix: &'static str,
    },
    /// The adapter was trained for another model.
    #[error("the adapter was trained on base {expected}, this engine runs {got}: use the adapter with its own base")]
    OtherBase {
        /// Hash of the base in the adapter's settings, hex.
        expected: String,
        /// Hash of the loaded model, hex.
        got: String,
    },
    /// The matrices' file is broken.
    #[error("adapter_model.safetensors is broken: {0}")]
    Weights(String),
    /// A tensor that has no place in the model.
    #[error("tensor {tensor} has no place in this model ({reason})")]
    UnexpectedTensor {
        /// The tensor.
        tensor: String,
        /// Why.
        reason: String,
    },
    /// One of a pair of matrices is absent.
    #[error("tensor {tensor} is missing, its partner is there")]
    MissingTensor {
        /// The tensor.
        tensor: String,
    },
    /// A matrix has another shape than the model and the rank imply.
    #[error("tensor {tensor} has shape {got:?}, expected {expected:?}: the adapter is for another base or rank")]
    WrongShape {
        /// The tensor.
        tensor: String,
        /// Rows and columns implied.
        expected: Vec<usize>,
        /// Rows and columns found.
        got: Vec<usize>,
    },
    /// A matrix holds NaN or infinity.
    #[error("tensor {tensor} holds a value that is not finite")]
    NotFinite {
        /// The tensor.
        tensor: String,
    },
    /// The engine holds as many adapters as it may.
    #[error("{max} adapters are loaded, no more fit: unload one")]
    TooMany {
        /// Most adapters.
        max: usize,
    },
    /// The engine has stopped.
    #[error("the engine has stopped")]
    Stopped,
    /// The engine's queue is full.
    #[error("the engine is busy: {queued} commands wait; try again")]
    Busy {
        /// Commands waiting.
        queued: usize,
    },
    /// A tensor operation failed.
    #[error("arithmetic failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// What others may know of a loaded adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterInfo {
    /// Content hash, see [`AdapterFiles::hash`].
    pub hash: [u8; 32],
    /// Largest rank of its matrices.
    pub rank: usize,
    /// Name of the folder it came from.
    pub name: String,
    /// Bytes of its matrices as the engine keeps them.
    pub bytes: u64,
}

/// The files of an adapter, read but not yet matched with a model.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterFiles {
    /// Name of the folder.
    pub name: String,
    /// Parsed settings.
    pub config: AdapterConfig,
    config_hash: [u8; 32],
    weights: Vec<u8>,
    weights_hash: [u8; 32],
    manifest: Option<Vec<u8>>,
}

impl AdapterFiles {
    /// Reads a folder. The manifest may be absent, the other two files may not.
    ///
    /// # Errors
    /// [`AdapterError::Io`], [`AdapterError::TooLarge`], [`AdapterError::Config`] or [`AdapterError::Unsupported`].
    pub fn read(dir: &Path) -> Result<Self, AdapterError> {
        let config = read_bounded(&dir.join(CONFIG_FILE), CONFIG_BYTES_MAX)?;
        let weights = read_bounded(&dir.join(WEIGHTS_FILE), WEIGHTS_BYTES_MAX)?;
        let manifest_path = dir.join(MANIFEST_FILE);
        let manifest = match read_bounded(&manifest_path, MANIFEST_BYTES_MAX) {
            Err(AdapterError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
            other => Some(other?),
        };
        let name = dir.file_name().map_or_else(|| "adapter".to_owned(), |name| name.to_string_lossy().into_owned());
        Self::from_bytes(name, &config, weights, manifest)
    }

    /// The same from bytes in memory.
    ///
    /// # Errors
    /// [`AdapterError::Config`] or [`AdapterError::Unsupported`].
    pub fn from_bytes(name: String, config: &[u8], weights: Vec<u8>, manifest: Option<Vec<u8>>) -> Result<Self, AdapterError> {
        Ok(Self {
            name,
            config: AdapterConfig::parse(config)?,
            config_hash: *blake3::hash(config).as_bytes(),
            weights_hash: *blake3::hash(&weights).as_bytes(),
            weights,
            manifest,
        })
    }

    /// Content hash: BLAKE3 of the hashes of settings, matrices, and manifest (32 zero bytes without one).
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        let manifest = self.manifest.as_ref().map_or([0; 32], |bytes| *blake3::hash(bytes).as_bytes());
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.config_hash).update(&self.weights_hash).update(&manifest);
        *hasher.finalize().as_bytes()
    }

    /// Bytes of the training manifest, if the folder has one.
    #[must_use]
    pub fn manifest(&self) -> Option<&[u8]> {
        self.manifest.as_deref()
    }

    /// Checks what can be checked without a model: that the matrices' file is one, holds matrices, and all of them whole.
    ///
    /// # Errors
    /// [`AdapterError::Weights`].
    pub fn check(&self) -> Result<(), AdapterError> {
        let tensors = safetensors::SafeTensors::deserialize(&self.weights).map_err(|error| AdapterError::Weights(error.to_string()))?;
        if tensors.is_empty() { Err(AdapterError::Weights("it holds no tensors".to_owned())) } else { Ok(()) }
    }

    /// Bytes of the matrices' file.
    pub(crate) fn weights(&self) -> &[u8] {
        &self.weights
    }
}

fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>, AdapterError> {
    let io = |source| AdapterError::Io { path: path.to_path_buf(), source };
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(io)?.take(max + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > max {
        return Err(AdapterError::TooLarge { path: path.to_path_buf(), max });
    }
    Ok(bytes)
}
