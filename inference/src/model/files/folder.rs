//! A folder as Hugging Face publishes a model: settings, tokenizer, and weights in one or several safetensors files.

#[cfg(feature = "engine")]
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{FilesError, Json, SafetensorsFile};
use crate::gguf::TensorType;

const CONFIG: &str = "config.json";
const GENERATION: &str = "generation_config.json";
const INDEX: &str = "model.safetensors.index.json";
const TEMPLATE: &str = "chat_template.jinja";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const WEIGHTS: &str = "model.safetensors";

/// Longest settings file in bytes; a tokenizer's, with its template and its added tokens, reaches 60,000.
const SETTINGS_BYTES_MAX: u64 = 1 << 20;
/// Longest tokenizer; Llama 3's has 17 MB.
const TOKENIZER_BYTES_MAX: u64 = 64 << 20;
/// Longest list of which file holds which tensor.
const INDEX_BYTES_MAX: u64 = 16 << 20;
/// Weight files of one model; a model of 400 billion parameters comes in 191.
const SHARDS_MAX: usize = 1_024;

/// An opened folder: small files as bytes, headers of the large ones.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The small files that are there, by name.
    small: BTreeMap<&'static str, Vec<u8>>,
    /// Weight files by name.
    shards: BTreeMap<String, SafetensorsFile>,
    /// The weight file of each tensor.
    places: BTreeMap<String, String>,
}

impl Folder {
    /// Opens a folder: reads its small files and the headers of its weights.
    ///
    /// # Errors
    /// Any [`FilesError`].
    pub fn open(path: &Path) -> Result<Self, FilesError> {
        let mut small = BTreeMap::new();
        let files = [
            (CONFIG, SETTINGS_BYTES_MAX),
            (GENERATION, SETTINGS_BYTES_MAX),
            (INDEX, INDEX_BYTES_MAX),
            (TEMPLATE, SETTINGS_BYTES_MAX),
            (TOKENIZER, TOKENIZER_BYTES_MAX),
            (TOKENIZER_CONFIG, SETTINGS_BYTES_MAX),
        ];
        for (name, max) in files {
            if let Some(bytes) = read(&path.join(name), max)? {
                small.insert(name, bytes);
            }
        }
        let absent = |name, fix| FilesError::Absent { folder: path.to_path_buf(), name, fix };
        if !small.contains_key(CONFIG) {
            return Err(absent(CONFIG, "name a GGUF file, or a folder with config.json, tokenizer.json and safetensors"));
        }
        if !small.contains_key(TOKENIZER) {
            return Err(absent(TOKENIZER, "save the tokenizer in that form, or use a GGUF file"));
        }
        let names = match small.get(INDEX) {
            Some(index) => shards(&path.join(INDEX), index)?,
            None if path.join(WEIGHTS).exists() => BTreeSet::from([WEIGHTS.to_owned()]),
            None => return Err(absent(WEIGHTS, "pickled weights (.bin, .pt) are never opened: save the model as safetensors")),
        };
        let (mut shards, mut places) = (BTreeMap::new(), BTreeMap::new());
        for name in names {
            let file = SafetensorsFile::open(&path.join(&name))?;
            for tensor in file.names() {
                if let Some(other) = places.insert(tensor.to_owned(), name.clone()) {
                    let field = format!("tensor {tensor}");
                    let value = format!("in {other} as well");
                    return Err(FilesError::Invalid { file: path.join(&name), field, value, expected: "each tensor in one file" });
                }
            }
            shards.insert(name, file);
        }
        Ok(Self { path: path.to_path_buf(), small, shards, places })
    }

    /// BLAKE3 over the names, lengths and contents of all files that decide what the model answers, in the order of their names.
    pub(crate) fn hash(&self) -> Result<[u8; 32], FilesError> {
        let mut list = blake3::Hasher::new_derive_key("tributary model folder 1");
        let mut add = |name: &str, len: u64, hash: blake3::Hash| {
            list.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
            list.update(&len.to_le_bytes()).update(hash.as_bytes());
        };
        for (name, bytes) in &self.small {
            add(name, bytes.len() as u64, blake3::hash(bytes));
        }
        for (name, file) in &self.shards {
            let mut hasher = blake3::Hasher::new();
            file.hash(&mut hasher)?;
            add(name, file.len(), hasher.finalize());
        }
        Ok(*list.finalize().as_bytes())
    }

    /// Bytes of all its files that are read.
    pub(crate) fn size_bytes(&self) -> u64 {
        let small: u64 = self.small.values().map(|bytes| bytes.len() as u64).sum();
        small + self.shards.values().map(SafetensorsFile::len).sum::<u64>()
    }

    /// The folder's own name.
    pub(crate) fn name(&self) -> Option<&str> {
        self.path.file_name().and_then(|name| name.to_str())
    }

    /// Its `config.json`.
    pub(crate) fn config(&self) -> Result<Json, FilesError> {
        Json::parse(&self.path.join(CONFIG), &self.small[CONFIG])
    }

    /// Names of all tensors.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    fn shard(&self, name: &str) -> Result<&SafetensorsFile, FilesError> {
        self.places.get(name).and_then(|shard| self.shards.get(shard)).ok_or_else(|| FilesError::Missing {
            file: self.path.join(WEIGHTS),
            field: format!("tensor {name}"),
            expected: "every tensor that config.json implies, in this file or in those of its index",
        })
    }

    /// The format of a tensor, if it is there with the shape a model expects.
    pub(crate) fn shaped(&self, name: &str, shape: &[u64]) -> Result<TensorType, FilesError> {
        self.shard(name)?.shaped(name, shape)
    }

    /// Reads a tensor as it is stored.
    pub(crate) fn bytes(&self, name: &str, shape: &[u64]) -> Result<(TensorType, Vec<u8>), FilesError> {
        self.shard(name)?.bytes(name, shape)
    }
}

/// A small file, if it is there.
fn read(path: &Path, max: u64) -> Result<Option<Vec<u8>>, FilesError> {
    let io = |source| FilesError::Io { path: path.to_path_buf(), source };
    let about = match std::fs::metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    if !about.is_file() {
        return Err(io(std::io::Error::other("not a regular file: copy it to one first")));
    }
    if about.len() > max {
        return Err(FilesError::TooLarge { file: path.to_path_buf(), got: about.len(), max });
    }
    let mut bytes = Vec::new();
    // The file may have grown since it was asked.
    let got = File::open(path).map_err(io)?.take(max + 1).read_to_end(&mut bytes).map_err(io)? as u64;
    if got > max { Err(FilesError::TooLarge { file: path.to_path_buf(), got, max }) } else { Ok(Some(bytes)) }
}

/// The weight files that an index names, each a plain name beside it.
fn shards(file: &Path, bytes: &[u8]) -> Result<BTreeSet<String>, FilesError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let Index { weight_map } =
        serde_json::from_slice(bytes).map_err(|error| FilesError::Json { file: file.to_path_buf(), problem: error.to_string() })?;
    let invalid =
        |value: String, expected| FilesError::Invalid { file: file.to_path_buf(), field: "weight_map".to_owned(), value, expected };
    let names: BTreeSet<String> = weight_map.into_values().collect();
    if names.is_empty() || names.len() > SHARDS_MAX {
        return Err(invalid(format!("{} files", names.len()), "1 to 1,024 files"));
    }
    let is_plain = |name: &str| name.ends_with(".safetensors") && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    match names.iter().find(|name| !is_plain(name)) {
        Some(name) => Err(invalid(format!("{name:?}"), "plain names that end in .safetensors, in this folder")),
        None => Ok(names),
    }
}
