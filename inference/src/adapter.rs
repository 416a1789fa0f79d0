//! LoRA adapters in PEFT's and llama.cpp's file formats, applied unmerged: y = W x + s B (A x).
//!
//! A folder holds `adapter_config.json` and `adapter_model.safetensors`, or [`GGUF_FILE`]; and, if it was trained here,
//! `training_manifest.json`. A GGUF file may also stand alone. All may come from a stranger: sizes are bounded before reading, every
//! tensor's name and shape is checked against the model, and what this engine would compute otherwise than the trainer is refused by name.
//!
//! An adapter of rank r on all linear layers of SmolLM2-135M holds 305,280 r parameters: 20 MB at rank 16, 5 MB packed ([`Packed8`]).
//! [`store`] keeps packed ones in memory and on disk, and brings them in beside the engine's thread.

pub mod config;
mod gguf;
#[cfg(feature = "engine")]
mod lora;
mod matched;
mod pack8;
#[cfg(feature = "engine")]
mod packed_file;
mod peft;
mod reading;
#[cfg(feature = "engine")]
pub mod store;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::gguf::GgufError;

pub use config::AdapterConfig;
use gguf::GgufAdapter;
#[cfg(feature = "engine")]
pub use lora::{Lora, Pair};
pub use pack8::{Packed8, PackedPair};
#[cfg(feature = "engine")]
pub use packed_file::PackedFileError;
pub(crate) use peft::tensor_name;
use reading::{optional, read_bounded, read_hashed};

/// Largest rank; PEFT's own examples stay at or below it.
pub const RANK_MAX: usize = 256;

/// Bytes of `adapter_config.json`; real ones hold about one kilobyte.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Bytes of `adapter_model.safetensors` or of a GGUF file: rank 256 on all layers of a 135 M model in f32 is 313 MB.
pub const WEIGHTS_BYTES_MAX: u64 = 512 << 20;
/// Bytes of `training_manifest.json`: about 100 bytes a document.
pub const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// The folder's file with PEFT's settings.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// The folder's file with the matrices.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// The folder's file in llama.cpp's format, in place of the other two.
pub const GGUF_FILE: &str = "adapter.gguf";
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
    /// The GGUF file is broken.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A folder holds an adapter in both formats, and they may differ.
    #[error("{path} holds both adapter_config.json and adapter.gguf: remove one of them")]
    TwoFormats {
        /// The folder.
        path: PathBuf,
    },
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
    /// A tensor operation failed.
    #[cfg(feature = "engine")]
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
    /// Name of the folder or file it came from.
    pub name: String,
    /// Bytes of its matrices as they are kept.
    pub bytes: u64,
    /// Whether its files record the base's hash, which then is this one's. If not, that it was trained for this base is only likely: its
    /// shapes fit.
    pub is_base_recorded: bool,
}

/// The files of an adapter, read but not yet matched with a model.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterFiles {
    /// Name of the folder, or of the file without its ending.
    pub name: String,
    format: Format,
    config_hash: [u8; 32],
    weights: Vec<u8>,
    weights_hash: OnceLock<[u8; 32]>,
    manifest: Option<Vec<u8>>,
}

/// What says how to read the matrices.
#[derive(Debug, Clone, PartialEq)]
enum Format {
    Peft(AdapterConfig),
    Gguf(GgufAdapter),
}

impl AdapterFiles {
    /// Reads a folder or a GGUF file. The manifest may be absent.
    ///
    /// # Errors
    /// [`AdapterError::Io`], [`AdapterError::TooLarge`], [`AdapterError::Config`], [`AdapterError::Gguf`], [`AdapterError::TwoFormats`] or
    /// [`AdapterError::Unsupported`].
    pub fn read(path: &Path) -> Result<Self, AdapterError> {
        let name = |name: Option<&std::ffi::OsStr>| name.map_or_else(|| "adapter".to_owned(), |name| name.to_string_lossy().into_owned());
        if path.is_file() {
            let (weights, hash) = read_hashed(path, WEIGHTS_BYTES_MAX)?;
            return Self::from_gguf(name(path.file_stem()), weights, None).map(|files| files.hashed(hash));
        }
        let manifest = optional(read_bounded(&path.join(MANIFEST_FILE), MANIFEST_BYTES_MAX))?;
        let (config_path, gguf_path) = (path.join(CONFIG_FILE), path.join(GGUF_FILE));
        let name = name(path.file_name());
        match (optional(read_bounded(&config_path, CONFIG_BYTES_MAX))?, gguf_path.exists()) {
            (Some(_), true) => Err(AdapterError::TwoFormats { path: path.to_path_buf() }),
            (Some(config), false) => {
                let (weights, hash) = read_hashed(&path.join(WEIGHTS_FILE), WEIGHTS_BYTES_MAX)?;
                Self::from_bytes(name, &config, weights, manifest).map(|files| files.hashed(hash))
            }
            (None, true) => {
                let (weights, hash) = read_hashed(&gguf_path, WEIGHTS_BYTES_MAX)?;
                Self::from_gguf(name, weights, manifest).map(|files| files.hashed(hash))
            }
            (None, false) => {
                let neither = "No such file, and no adapter.gguf beside it: name a folder that holds an adapter";
                Err(AdapterError::Io { path: config_path, source: std::io::Error::new(std::io::ErrorKind::NotFound, neither) })
            }
        }
    }

    /// The same from PEFT's files in memory.
    ///
    /// # Errors
    /// [`AdapterError::Config`] or [`AdapterError::Unsupported`].
    pub fn from_bytes(name: String, config: &[u8], weights: Vec<u8>, manifest: Option<Vec<u8>>) -> Result<Self, AdapterError> {
        let format = Format::Peft(AdapterConfig::parse(config)?);
        Ok(Self { name, format, config_hash: *blake3::hash(config).as_bytes(), weights, weights_hash: OnceLock::new(), manifest })
    }

    /// The same from a GGUF file in memory.
    ///
    /// # Errors
    /// [`AdapterError::Gguf`], [`AdapterError::Config`] or [`AdapterError::Unsupported`].
    pub fn from_gguf(name: String, weights: Vec<u8>, manifest: Option<Vec<u8>>) -> Result<Self, AdapterError> {
        let format = Format::Gguf(GgufAdapter::parse(&weights)?);
        Ok(Self { name, format, config_hash: [0; 32], weights, weights_hash: OnceLock::new(), manifest })
    }

    /// With the hash of the file of matrices, found as it was read.
    fn hashed(self, hash: [u8; 32]) -> Self {
        Self { weights_hash: OnceLock::from(hash), ..self }
    }

    /// Content hash: BLAKE3 of the hashes of settings (32 zero bytes for a GGUF file, which holds its own), of the file of matrices, and of
    /// the manifest (32 zero bytes without one). A file that was not read here is hashed at the first call.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        let weights = self.weights_hash.get_or_init(|| *blake3::hash(&self.weights).as_bytes());
        let manifest = self.manifest.as_ref().map_or([0; 32], |bytes| *blake3::hash(bytes).as_bytes());
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.config_hash).update(weights).update(&manifest);
        *hasher.finalize().as_bytes()
    }

    /// Hash of the base it was trained for, if its files record one.
    #[must_use]
    pub fn base_hash(&self) -> Option<[u8; 32]> {
        match &self.format {
            Format::Peft(config) => config.base_hash(),
            Format::Gguf(adapter) => adapter.base_hash(),
        }
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
        let is_empty = match &self.format {
            Format::Peft(_) => peft::tensors(&self.weights)?.is_empty(),
            Format::Gguf(adapter) => adapter.is_empty(),
        };
        if is_empty { Err(no_tensors()) } else { Ok(()) }
    }
}

fn no_tensors() -> AdapterError {
    AdapterError::Weights("it holds no tensors".to_owned())
}
