//! The tokenizer that a model's files carry: byte-level BPE with the files' own vocabulary and merges.
//!
//! A GGUF header or a `tokenizer.json` becomes one vocabulary; what it does not describe is refused by name. Text is normalised, cut at
//! added tokens and merged by the `tokenizers` crate; it is cut into words by [`words`], in time proportional to its length. Tokens become bytes
//! here, by the inverse of GPT-2's byte alphabet, because an answer's bytes need not be valid UTF-8 until it is complete.
//!
//! Cost: about 5 us per kilobyte of text and word, and a few hundred bytes for each token of the vocabulary.

mod header;
pub(crate) mod json;
pub mod words;

use std::collections::BTreeMap;
use std::path::Path;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, DecoderWrapper, PostProcessorWrapper, PreTokenizedString, PreTokenizer, TokenizerImpl};

use super::byte_alphabet;
use super::files::FilesError;
use crate::gguf::{GgufError, Header};
use words::Words;

/// Why a tokenizer cannot be built or used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// Metadata is missing or of another kind.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The tokenizer's file is broken or describes what this engine does not have.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A tokenizer family or pre-tokenizer this engine does not have.
    #[error("{key} is {got:?}, supported: {supported}")]
    Unsupported {
        /// The metadata key.
        key: &'static str,
        /// Its value.
        got: String,
        /// What would be accepted.
        supported: &'static str,
    },
    /// The vocabulary contradicts itself.
    #[error("the tokenizer in the model's files is broken: {0}")]
    Broken(String),
}

/// What an id outside the vocabulary decodes to: U+FFFD in UTF-8.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();
/// Control tokens that end an answer wherever they are in a vocabulary, whether it declares them or not.
const ENDS: [&str; 5] = ["<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"];

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Made by merging.
    Normal,
    /// Separates turns; has no bytes.
    Control,
    /// Found whole in a text before anything is merged, and has its text's bytes.
    Added,
    /// Fills the embedding's rows; never in a text, has no bytes.
    Unused,
}

/// A tokenizer as its file describes it.
#[derive(Debug)]
struct Vocabulary {
    /// Text and kind of each token, by id.
    tokens: Vec<(String, Kind)>,
    merges: Vec<(String, String)>,
    /// Tokens found whole, with how they are.
    added: Vec<AddedToken>,
    words: Words,
    /// Whether a word that is a token is that token, whatever the merges make of it.
    ignores_merges: bool,
    /// Whether text is composed (NFC) first.
    composes: bool,
    /// The token put before a text that is no rendered prompt.
    bos: Option<u32>,
    end_of_turn: u32,
    /// End tokens that the files declare.
    eos: Vec<u32>,
}

/// What other files than the tokenizer's own say about its tokens.
#[derive(Debug, Clone, Default)]
pub struct Named {
    /// Text of the token that ends a turn.
    pub end_of_turn: Option<String>,
    /// Tokens that end an answer.
    pub eos_ids: Vec<u32>,
}

type Inner = TokenizerImpl<BPE, NFC, Cut, PostProcessorWrapper, DecoderWrapper>;

/// Text to tokens and back.
pub struct Tokenizer {
    inner: Inner,
    /// Bytes of each token; empty for control tokens.
    bytes: Vec<Vec<u8>>,
    control: Vec<String>,
    eos: Vec<u32>,
    end_of_turn: u32,
    bos: Option<u32>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocabulary", &self.bytes.len()).field("eos", &self.eos).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Builds the tokenizer from a model file's metadata.
    ///
    /// # Errors
    /// [`TokenizerError`] if the family is not supported or the vocabulary is inconsistent.
    pub fn from_header(header: &Header) -> Result<Self, TokenizerError> {
        Self::new(header::vocabulary(header)?)
    }

    /// Builds the tokenizer from the bytes of a `tokenizer.json`, which errors call `file`; `rows` are those of the model's embedding.
    ///
    /// # Errors
    /// [`TokenizerError`] if the file describes another kind of tokenizer or contradicts itself.
    pub fn from_json(file: &Path, bytes: &[u8], named: Named, rows: usize) -> Result<Self, TokenizerError> {
        Self::new(json::vocabulary(file, bytes, named, rows)?)
    }

    fn new(vocabulary: Vocabulary) -> Result<Self, TokenizerError> {
        let alphabet = alphabet();
        let bytes = vocabulary.tokens.iter().map(|(token, kind)| match kind {
            Kind::Control | Kind::Unused => Vec::new(),
            Kind::Added => token.as_bytes().to_vec(),
            Kind::Normal => unmap(token, &alphabet),
        });
        let control = vocabulary.tokens.iter().filter(|(_, kind)| *kind == Kind::Control).map(|(token, _)| token.clone());
        Ok(Self {
            bytes: bytes.collect(),
            control: control.collect(),
            eos: eos(&vocabulary),
            end_of_turn: vocabulary.end_of_turn,
            bos: vocabulary.bos,
            inner: build(vocabulary)?,
        })
    }

    /// Tokens of a rendered prompt. Control tokens written in it count as themselves; none is put before it, because the template
    /// writes what belongs there. A byte that the vocabulary lacks is left out, as by the library that trained it (SmolLM2's lacks a few
    /// control characters).
    ///
    /// # Errors
    /// [`TokenizerError::Broken`] if the library fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        Ok(self.inner.encode_fast(text, false).map_err(broken)?.get_ids().to_vec())
    }

    /// Tokens of a text that no template has rendered: the vocabulary's first token is put before it, if it has one.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        Ok(self.bos.into_iter().chain(self.encode(text)?).collect())
    }

    /// Bytes of tokens. Control tokens have none; an id outside the vocabulary gives U+FFFD.
    #[must_use]
    pub fn decode(&self, tokens: &[u32]) -> Vec<u8> {
        let mut out = Vec::new();
        for &token in tokens {
            let index = usize::try_from(token).unwrap_or(usize::MAX);
            out.extend_from_slice(self.bytes.get(index).map_or(REPLACEMENT, Vec::as_slice));
        }
        out
    }

    /// Tokens that end an answer.
    #[must_use]
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// The token that ends a turn: what training puts behind an answer.
    #[must_use]
    pub fn end_of_turn(&self) -> u32 {
        self.end_of_turn
    }

    /// Number of tokens in the vocabulary.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.bytes.len()
    }

    /// The first control token that occurs in a text, if any: such a text could forge a turn of the chat.
    #[must_use]
    pub fn control_in(&self, text: &str) -> Option<&str> {
        self.control.iter().map(String::as_str).find(|token| text.contains(token))
    }
}

/// Cuts a text into words, then writes their bytes in the byte alphabet.
#[derive(Debug, Clone, Copy)]
struct Cut(Words);

impl PreTokenizer for Cut {
    fn pre_tokenize(&self, text: &mut PreTokenizedString) -> tokenizers::Result<()> {
        text.split(|_, part| part.split(self.0, tokenizers::SplitDelimiterBehavior::Isolated))?;
        ByteLevel::new(false, false, false).pre_tokenize(text)
    }
}

fn build(vocabulary: Vocabulary) -> Result<Inner, TokenizerError> {
    let mut seen = BTreeMap::new();
    for (id, (token, kind)) in (0u32..).zip(&vocabulary.tokens) {
        if *kind == Kind::Unused {
            continue;
        }
        if let Some(first) = seen.insert(token.as_str(), id) {
            return Err(TokenizerError::Broken(format!("tokens {first} and {id} are both {token:?}")));
        }
    }
    let ids: Vocab = seen.iter().map(|(token, id)| ((*token).to_owned(), *id)).collect();
    let model = BPE::builder().vocab_and_merges(ids, vocabulary.merges).ignore_merges(vocabulary.ignores_merges).build().map_err(broken)?;
    let mut inner = Inner::new(model);
    inner.with_pre_tokenizer(Some(Cut(vocabulary.words)));
    if vocabulary.composes {
        inner.with_normalizer(Some(NFC)).map_err(broken)?;
    }
    inner.add_tokens(vocabulary.added).map_err(broken)?;
    Ok(inner)
}

/// The declared end tokens, and those that files of these families use whether they declare them or not.
fn eos(vocabulary: &Vocabulary) -> Vec<u32> {
    let mut out = vocabulary.eos.clone();
    out.push(vocabulary.end_of_turn);
    for (id, (token, kind)) in (0u32..).zip(&vocabulary.tokens) {
        if *kind == Kind::Control && ENDS.contains(&token.as_str()) {
            out.push(id);
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}

fn broken(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Broken(error.to_string())
}

fn alphabet() -> BTreeMap<char, u8> {
    byte_alphabet().iter().zip(0u8..=255).map(|(&symbol, byte)| (symbol, byte)).collect()
}

/// Bytes of a token; a symbol outside the alphabet stands for its own UTF-8.
fn unmap(token: &str, alphabet: &BTreeMap<char, u8>) -> Vec<u8> {
    let mut out = Vec::new();
    for symbol in token.chars() {
        match alphabet.get(&symbol) {
            Some(&byte) => out.push(byte),
            None => out.extend_from_slice(symbol.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}
