//! Texts to vectors: sentence encoders of the BERT family (all-MiniLM-L6-v2 and its like), from a folder as sentence-transformers publishes them.
//!
//! A folder holds `config.json`, `tokenizer.json`, safetensors and `1_Pooling/config.json`, which says how the vectors of a text's tokens become one:
//! without it they would be averaged for a model that was trained to be read at its first token, and nobody would notice. A vector has length 1, so
//! that the dot product of two is their cosine.
//!
//! ```text
//! text -> words (lower case, pieces of the vocabulary) -> rows of all texts, one after another -> layers -> mean or first row -> length 1
//! ```
//! Texts share the products of a pass and nothing else: rows are not padded, and a text attends to itself alone. The arithmetic is f32 and no part of
//! the profile `exact`: a text's vector is the same to about 1e-6 on another machine and beside other texts, and nothing is signed or paid by it.
//!
//! A text that is too long is refused with the limit, never cut: half a text has another meaning, and who sent it would not know.
//!
//! A model may take longer texts than it was trained with: all-MiniLM-L6-v2 has 512 positions and was trained with up to 256 tokens, beyond which its
//! own tools cut by default. `sentence_bert_config.json` says such a limit (`max_seq_length`); it holds here if the file is in the folder, and so does
//! `do_lower_case`: the text is put into lower case before anything else, so that `[SEP]` in it is no token any more.
//!
//! Budget for all-MiniLM-L6-v2 (6 layers, width 384): 91 MB of weights; 10.6 M multiply-adds a token, and 2.4 M for its attention in a text of 512; a
//! pass of [`PASS_TOKENS`] holds 30 MB of activations. Loading holds the weights and one tensor's bytes.
//!
//! Source of the graph: Devlin et al. 2019; of the pooling: Reimers and Gurevych 2019.

mod config;
mod graph;
mod handle;
mod line;
mod weights;
mod words;

use std::path::Path;

use serde::Deserialize;

use self::config::{Config, Pooling};
use self::weights::Weights;
use self::words::Words;
use crate::model::ModelError;
use crate::model::files::{FilesError, Folder, Json};

pub use handle::{EmbedderHandle, WAITING_MAX};

/// Longest text in tokens, the two around it included, whatever a model's positions allow: as many as BERT has.
pub const TEXT_TOKENS_MAX: usize = 512;
/// Longest text in bytes. The tokenizer keeps about fifty bytes for each while it works; 128 a token are more than any language needs.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// Most tokens of one request: 64 texts of the longest kind, several seconds of two cores.
pub const TOKENS_MAX: usize = 64 * TEXT_TOKENS_MAX;
/// Most numbers of the vectors of one request: a text of a letter is answered with its whole vector, which is kilobytes.
pub const NUMBERS_MAX: usize = 256 * 1_024;
/// Tokens computed at once, or one text's where it has more.
pub const PASS_TOKENS: usize = 1_024;

const POOLING: &str = "1_Pooling/config.json";
const MODULES: &str = "modules.json";
const LIMITS: &str = "sentence_bert_config.json";

/// Why texts have no vectors.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// A text is longer than what is read at all.
    #[error("text {index} has {got} bytes, at most {max} are read: send it in parts")]
    TextBytes {
        /// Which, from 0.
        index: usize,
        /// Its bytes.
        got: usize,
        /// The most.
        max: usize,
    },
    /// A text is longer than the model reads.
    #[error("text {index} has {got} tokens, this model reads at most {max}: send it in parts")]
    TextTokens {
        /// Which, from 0.
        index: usize,
        /// Its tokens, the two around it included.
        got: usize,
        /// The most.
        max: usize,
    },
    /// All texts together are too many for one request.
    #[error("the texts up to number {index} have {got} tokens, at most {max} are taken together: send them in several requests")]
    Tokens {
        /// The text with which it is too much, from 0.
        index: usize,
        /// Tokens so far.
        got: usize,
        /// The most.
        max: usize,
    },
    /// The vectors of all texts together are too many numbers for one answer.
    #[error(
        "{texts} texts with {width} numbers each are asked for, at most {max} numbers are answered together: send them in several requests"
    )]
    Numbers {
        /// How many texts.
        texts: usize,
        /// Numbers of a vector.
        width: usize,
        /// The most of all vectors.
        max: usize,
    },
    /// The model's numbers leave the range of f32 on a text.
    #[error("the numbers of text {index} are not finite: the model's numbers are too large, use another copy of it")]
    NotFinite {
        /// Which, from 0.
        index: usize,
    },
    /// As many requests as are kept wait already.
    #[error("{waiting} requests wait already: ask again in a moment")]
    Busy {
        /// How many.
        waiting: usize,
    },
    /// As many requests of one asker as are kept wait already.
    #[error("{waiting} requests of the same asker wait already: ask again when one of them is answered")]
    BusyOwn {
        /// How many.
        waiting: usize,
    },
    /// The encoder failed on this request, and goes on with others.
    #[error("the encoder failed on these texts: its files are not as expected, use another copy of the model")]
    Failed,
    /// Nobody waits for the vectors any more.
    #[error("nobody waits for the vectors")]
    Left,
    /// The encoder's thread has ended.
    #[error("the encoder has stopped")]
    Stopped,
    /// Tokenizer or arithmetic failed.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl EmbedError {
    /// Whether the request is at fault: the same will never pass.
    #[must_use]
    pub fn is_request_fault(&self) -> bool {
        matches!(self, Self::TextBytes { .. } | Self::TextTokens { .. } | Self::Tokens { .. } | Self::Numbers { .. })
    }
}

/// Vectors of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// One of [`EmbedderInfo::width`] numbers per text, of length 1.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens read, the two around each text included.
    pub tokens: usize,
}

/// What an encoder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbedderInfo {
    /// The folder's own name, or that of a link to it, as it was given.
    pub name: String,
    /// Numbers of a vector.
    pub width: usize,
    /// Most tokens of a text.
    pub text_tokens_max: usize,
    /// BLAKE3 over the files that decide about the vectors.
    pub hash: [u8; 32],
    /// Bytes of its files.
    pub size_bytes: u64,
}

/// A loaded encoder.
#[derive(Debug)]
pub struct Embedder {
    info: EmbedderInfo,
    config: Config,
    /// Whether texts are put into lower case before their words are looked for.
    lowers: bool,
    words: Words,
    weights: Weights,
}

impl Embedder {
    /// Loads the encoder of a folder. Blocks: about a third of a second per 100 MB.
    ///
    /// # Errors
    /// [`ModelError`], with the file, the field or tensor, and what would have been accepted.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        // A link is known by its own name; `.` has none.
        let called = path.file_name().map(ToOwned::to_owned);
        let path = path.canonicalize().map_err(|source| FilesError::Io { path: path.to_path_buf(), source })?;
        if !path.is_dir() {
            let source = std::io::Error::other("not a folder: name the one with config.json, tokenizer.json and safetensors");
            return Err(FilesError::Io { path, source }.into());
        }
        let folder = Folder::open(&path)?;
        let pooling = pooling(&path, &folder)?;
        let config = Config::from_json(&folder.config()?, pooling.0)?;
        let Reading { text_tokens_max, lowers } = Reading::of(&folder, &config)?;
        weights::check(&folder, &config)?;
        let (file, bytes) = folder.tokenizer();
        let words = Words::from_json(&file, bytes, config.vocabulary)?;
        let weights = Weights::read(&folder, &config)?;
        let mut hash = blake3::Hasher::new_derive_key("tributary embedder 1");
        hash.update(&folder.hash()?).update(&pooling.1);
        if lowers {
            hash.update(b"lower case");
        }
        let info = EmbedderInfo {
            name: called.as_deref().map_or_else(|| folder.name(), |name| name.to_str()).unwrap_or_default().to_owned(),
            width: config.hidden,
            text_tokens_max,
            hash: *hash.finalize().as_bytes(),
            size_bytes: folder.size_bytes(),
        };
        Ok(Self { info, config, lowers, words, weights })
    }

    /// What it is.
    #[must_use]
    pub fn info(&self) -> &EmbedderInfo {
        &self.info
    }

    /// Tokens of a text, the first and the last one included.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] if the library fails.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        // Lower case takes half as many bytes again at most.
        Ok(if self.lowers { self.words.tokens(&text.to_lowercase())? } else { self.words.tokens(text)? })
    }

    /// A vector per text, in their order. Between two passes it asks whether they are still wanted.
    ///
    /// # Errors
    /// Any [`EmbedError`] but `Busy`, `BusyOwn`, `Failed` and `Stopped`.
    pub fn embed(&self, texts: &[String], is_wanted: impl Fn() -> bool) -> Result<Embeddings, EmbedError> {
        let width = self.info.width;
        if texts.len().saturating_mul(width) > NUMBERS_MAX {
            return Err(EmbedError::Numbers { texts: texts.len(), width, max: NUMBERS_MAX });
        }
        let mut tokens = Vec::with_capacity(texts.len());
        let mut count = 0;
        for (index, text) in texts.iter().enumerate() {
            if !is_wanted() {
                return Err(EmbedError::Left);
            }
            let read = self.bounded(index, text)?;
            count += read.len();
            if count > TOKENS_MAX {
                return Err(EmbedError::Tokens { index, got: count, max: TOKENS_MAX });
            }
            tokens.push(read);
        }
        let mut vectors = Vec::with_capacity(texts.len());
        for pass in passes(&tokens) {
            if !is_wanted() {
                return Err(EmbedError::Left);
            }
            vectors.extend(graph::vectors(&self.weights, &self.config, pass).map_err(ModelError::Tensor)?);
        }
        // Also what f32 could not bring to length 1: numbers so small that their squares have few digits left.
        match vectors.iter().position(|vector| !is_of_length_one(vector)) {
            Some(index) => Err(EmbedError::NotFinite { index }),
            None => Ok(Embeddings { vectors, tokens: count }),
        }
    }

    fn bounded(&self, index: usize, text: &str) -> Result<Vec<u32>, EmbedError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(EmbedError::TextBytes { index, got: text.len(), max: TEXT_BYTES_MAX });
        }
        let (tokens, max) = (self.tokens(text)?, self.info.text_tokens_max);
        if tokens.len() > max { Err(EmbedError::TextTokens { index, got: tokens.len(), max }) } else { Ok(tokens) }
    }
}

fn is_of_length_one(vector: &[f32]) -> bool {
    // No comparison holds for what is not a number.
    (crate::vector::dot(vector, vector) - 1.0).abs() < 1e-3
}

/// What `sentence_bert_config.json` says of texts.
struct Reading {
    /// The positions there are, or fewer if the folder says so.
    text_tokens_max: usize,
    lowers: bool,
}

impl Reading {
    fn of(folder: &Folder, config: &Config) -> Result<Self, FilesError> {
        const LENGTH: &str = "max_seq_length";
        let most = config.text_tokens_max();
        let Some((file, bytes)) = folder.settings(LIMITS)? else { return Ok(Self { text_tokens_max: most, lowers: false }) };
        let json = Json::parse(&file, &bytes)?;
        // Some say more than there are positions; none of them means to fail.
        let text_tokens_max = match json.width_or(LENGTH, u64::from(u32::MAX), most)? {
            0..3 => return Err(json.invalid(LENGTH, "room for a token and the two around it")),
            said => said.min(most),
        };
        Ok(Self { text_tokens_max, lowers: json.flag("do_lower_case")? })
    }
}

/// Cuts texts into passes of at most [`PASS_TOKENS`], each of at least one text.
fn passes(mut texts: &[Vec<u32>]) -> impl Iterator<Item = &[Vec<u32>]> {
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fitting = texts.iter().take_while(|text| {
            tokens += text.len();
            tokens <= PASS_TOKENS
        });
        let (pass, rest) = texts.split_at_checked(fitting.count().max(1))?;
        texts = rest;
        Some(pass)
    })
}

/// How the folder says that rows become one vector, with the bytes that say it.
fn pooling(path: &Path, folder: &Folder) -> Result<(Pooling, Vec<u8>), FilesError> {
    /// Steps that are done here; another one would change the vectors.
    const STEPS: [&str; 3] = ["Transformer", "Pooling", "Normalize"];
    #[derive(Deserialize)]
    struct Module {
        path: String,
        #[serde(rename = "type")]
        kind: String,
    }
    if let Some((file, bytes)) = folder.settings(MODULES)? {
        let modules: Vec<Module> =
            serde_json::from_slice(&bytes).map_err(|error| FilesError::Json { file: file.clone(), problem: error.to_string() })?;
        let step = |module: &Module| STEPS.into_iter().find(|step| module.kind.rsplit('.').next() == Some(step));
        let invalid = |module: &Module, expected| FilesError::Invalid {
            file: file.clone(),
            field: "type and path".to_owned(),
            value: format!("{:?} in {:?}", shortened(&module.kind), shortened(&module.path)),
            expected,
        };
        if let Some(other) = modules.iter().find(|module| step(module).is_none()) {
            return Err(invalid(other, "Transformer, Pooling and Normalize: what another step does is not known here"));
        }
        let elsewhere = |module: &&Module| step(module) == Some("Pooling") && !POOLING.starts_with(&format!("{}/", module.path));
        if let Some(other) = modules.iter().find(elsewhere) {
            return Err(invalid(other, "Pooling in 1_Pooling"));
        }
    }
    let fix = "it says how a text's rows become one vector: download the whole folder of a sentence-transformers model";
    let absent = || FilesError::Absent { folder: path.to_path_buf(), name: POOLING, fix };
    let (file, bytes) = folder.settings(POOLING)?.ok_or_else(absent)?;
    Ok((Pooling::from_json(&Json::parse(&file, &bytes)?)?, bytes))
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_put_into_passes_in_their_order_and_none_is_left_out() {
        let cut = |lens: &[usize]| {
            let texts: Vec<Vec<u32>> = lens.iter().map(|len| vec![0; *len]).collect();
            passes(&texts).map(<[_]>::len).collect::<Vec<_>>()
        };
        assert_eq!(cut(&[]), [0usize; 0]);
        assert_eq!(cut(&[512, 512, 1]), [2, 1]);
        assert_eq!(cut(&[1_000, 25, 999, 2]), [1, 2, 1]);
        assert_eq!(cut(&[2_000, 3]), [1, 1], "one that is longer than a pass is a pass of its own");
    }
}
