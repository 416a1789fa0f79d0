//! A model's files: one GGUF file, or a folder as Hugging Face publishes it, behind the same questions.
//!
//! A folder holds `config.json`, `tokenizer.json`, `tokenizer_config.json` and `model.safetensors`, or several of them named by
//! `model.safetensors.index.json`. Everything is refused before it is read: names, shapes and formats of all tensors are checked against
//! the configuration from the headers alone ([`ModelFiles::check`]), so nothing is allocated that the files do not hold. Pickles are never
//! opened.

mod folder;
mod json;
mod names;
mod safetensors;

use std::path::{Path, PathBuf};

use crate::gguf::{GgufFile, TensorType};

pub use folder::Folder;
pub(crate) use json::Json;
pub use names::{LayerPart, Part};
pub use safetensors::{ENTRIES_MAX, HEADER_BYTES_MAX, SafetensorsFile};

#[cfg(feature = "engine")]
use super::Text;
use super::stored::StoredMatrix;
#[cfg(feature = "engine")]
use super::template::ChatTemplate;
#[cfg(feature = "engine")]
use super::tokenizer::Tokenizer;
use super::{Config, ModelError};

/// Why a folder of model files is refused.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A file cannot be opened or read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder lacks a file.
    #[error("{folder} has no {name}: {fix}")]
    Absent {
        /// The folder.
        folder: PathBuf,
        /// The file looked for.
        name: &'static str,
        /// What to do.
        fix: &'static str,
    },
    /// A file is larger than what this engine reads at once.
    #[error("{file} has {got} bytes, at most {max} are accepted: it is not such a file")]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Its length.
        got: u64,
        /// The most accepted.
        max: u64,
    },
    /// A file is not JSON, or not of the form expected.
    #[error("{file} is not the JSON expected: {problem}; download it again")]
    Json {
        /// The file.
        file: PathBuf,
        /// What the parser said, with line and column.
        problem: String,
    },
    /// A field that must be there is not.
    #[error("{file}: {field} is missing, expected {expected}")]
    Missing {
        /// The file.
        file: PathBuf,
        /// The field.
        field: String,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// A field has a value that is not supported or has no meaning.
    #[error("{file}: {field} is {value}, expected {expected}")]
    Invalid {
        /// The file.
        file: PathBuf,
        /// The field.
        field: String,
        /// What was found.
        value: String,
        /// What would have been accepted.
        expected: &'static str,
    },
}

/// An opened model.
#[derive(Debug)]
pub enum ModelFiles {
    /// One GGUF file.
    Gguf(GgufFile),
    /// A folder with safetensors.
    Folder(Folder),
}

impl ModelFiles {
    /// Opens a GGUF file, or a folder, and reads its headers.
    ///
    /// # Errors
    /// [`ModelError::Gguf`] or [`ModelError::Files`].
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        if path.is_dir() { Ok(Self::Folder(Folder::open(path)?)) } else { Ok(Self::Gguf(GgufFile::open(path)?)) }
    }

    /// Opens and hashes them.
    ///
    /// # Errors
    /// As [`Self::open`] and [`Self::hash`]; [`ModelError::WrongHash`] names both hashes where another was `expected`.
    pub(super) fn open_as(path: &Path, expected: Option<[u8; 32]>) -> Result<(Self, [u8; 32]), ModelError> {
        let files = Self::open(path).map_err(|error| error.at(path))?;
        let got = files.hash()?;
        match expected.filter(|expected| *expected != got) {
            Some(expected) => {
                Err(ModelError::WrongHash { path: path.to_path_buf(), expected: hex::encode(expected), got: hex::encode(got) })
            }
            None => Ok((files, got)),
        }
    }

    /// BLAKE3 of the file; of a folder, of the list of its files' names and hashes.
    ///
    /// # Errors
    /// [`ModelError::Gguf`] or [`ModelError::Files`] if a file cannot be read.
    pub fn hash(&self) -> Result<[u8; 32], ModelError> {
        match self {
            Self::Gguf(file) => Ok(file.hash()?),
            Self::Folder(folder) => Ok(folder.hash()?),
        }
    }

    /// The model's name, if its files tell one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Gguf(file) => file.header().text("general.name").ok(),
            Self::Folder(folder) => folder.name(),
        }
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        match self {
            Self::Gguf(file) => file.len(),
            Self::Folder(folder) => folder.size_bytes(),
        }
    }

    /// Dimensions of the graph.
    ///
    /// # Errors
    /// [`ModelError::Architecture`] or [`ModelError::Config`].
    pub fn config(&self) -> Result<Config, ModelError> {
        match self {
            Self::Gguf(file) => Config::from_header(file.header()),
            Self::Folder(folder) => Config::from_json(&folder.config()?),
        }
    }

    /// The tokenizer and the chat template.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] or [`ModelError::Template`].
    #[cfg(feature = "engine")]
    pub fn text(&self, config: &Config) -> Result<Text, ModelError> {
        match self {
            Self::Gguf(file) => {
                Ok(Text { tokenizer: Tokenizer::from_header(file.header())?, template: ChatTemplate::from_header(file.header())? })
            }
            Self::Folder(folder) => folder.text(config),
        }
    }

    /// Dimensions of the graph, all of whose tensors are there.
    ///
    /// # Errors
    /// As [`Self::config`] and [`Self::check`].
    pub(super) fn checked(&self) -> Result<Config, ModelError> {
        let config = self.config()?;
        self.check(&config)?;
        Ok(config)
    }

    /// Checks that every tensor of the graph is there with its shape, in a format this engine reads, and none besides.
    ///
    /// # Errors
    /// [`ModelError::Gguf`], [`ModelError::Files`] or [`ModelError::UnexpectedTensor`].
    pub fn check(&self, config: &Config) -> Result<(), ModelError> {
        for part in names::parts(config, self.is_tied(config)) {
            let shape = part.shape(config);
            match self {
                Self::Gguf(file) => file.header().shaped(&part.gguf_name(), &shape).map(drop)?,
                Self::Folder(folder) => folder.shaped(&part.published_name(), &shape).map(drop)?,
            }
        }
        let unexpected = match self {
            Self::Gguf(file) => {
                let known = |name: &str| {
                    Part::from_gguf_name(name)
                        .is_some_and(|part| part.belongs(config) || part == Part::Divisors && config.family.has_divisors())
                };
                file.header().tensors.keys().find(|name| !known(name)).cloned()
            }
            Self::Folder(folder) => {
                // Old checkpoints carry the frequencies that follow from the configuration.
                let known = |name: &str| {
                    Part::from_published_name(name).is_some_and(|part| part.belongs(config)) || name.ends_with(".rotary_emb.inv_freq")
                };
                folder.names().find(|name| !known(name)).map(str::to_owned)
            }
        };
        unexpected.map_or(Ok(()), |tensor| Err(ModelError::UnexpectedTensor { tensor }))
    }

    /// Whether the output head is the embedding.
    pub(super) fn is_tied(&self, config: &Config) -> bool {
        match self {
            Self::Gguf(file) => !file.header().tensors.contains_key(&Part::Head.gguf_name()),
            Self::Folder(_) => config.is_tied,
        }
    }

    /// Whether rows of q and k are stored as pairs rather than as halves: converters to GGUF do so for the llama family alone.
    pub(super) fn interleaves_heads(&self, config: &Config) -> bool {
        matches!(self, Self::Gguf(_)) && config.family == super::Family::Llama
    }

    /// A divisor for each rotated pair, where a GGUF file has them.
    pub(super) fn divisors(&self, config: &Config) -> Result<Option<Vec<f32>>, ModelError> {
        let Self::Gguf(file) = self else { return Ok(None) };
        let name = Part::Divisors.gguf_name();
        if !file.header().tensors.contains_key(&name) {
            return Ok(None);
        }
        let divisors = file.tensor(&name, &Part::Divisors.shape(config))?;
        match divisors.iter().find(|divisor| !(divisor.is_finite() && **divisor > 0.0)) {
            Some(divisor) => Err(ModelError::Config { key: name, value: divisor.to_string(), expected: "positive divisors" }),
            None => Ok(Some(divisors)),
        }
    }

    /// Reads a matrix as it is stored.
    pub(super) fn matrix(&self, part: Part, config: &Config) -> Result<StoredMatrix, ModelError> {
        let shape = part.shape(config);
        let (kind, bytes) = self.bytes(part, &shape)?;
        let side = |index: usize| usize::try_from(shape[index]).expect("a width of the checked configuration");
        Ok(StoredMatrix { rows: side(0), columns: side(1), kind, bytes })
    }

    /// Reads a vector in f32.
    pub(super) fn vector(&self, part: Part, config: &Config) -> Result<Vec<f32>, ModelError> {
        let (kind, bytes) = self.bytes(part, &part.shape(config))?;
        Ok(kind.dequantise(&bytes))
    }

    fn bytes(&self, part: Part, shape: &[u64]) -> Result<(TensorType, Vec<u8>), ModelError> {
        match self {
            Self::Gguf(file) => Ok(file.bytes(&part.gguf_name(), shape)?),
            Self::Folder(folder) => Ok(folder.bytes(&part.published_name(), shape)?),
        }
    }
}
