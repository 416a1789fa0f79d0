//! The tokenizer that a model file carries: byte-level BPE with the file's own vocabulary and merges.
//!
//! Text becomes tokens through the `tokenizers` crate. Tokens become bytes here, by the inverse of GPT-2's
//! byte alphabet, because an answer's bytes need not be valid UTF-8 until it is complete.

use std::collections::BTreeMap;

use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, PreTokenizerWrapper};

use crate::gguf::{GgufError, Header};

/// Why a tokenizer cannot be built or used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// Metadata is missing or of another kind.
    #[error(transparent)]
    Gguf(#[from] GgufError),
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
    #[error("the tokenizer in the model file is broken: {0}")]
    Broken(String),
}

/// Token types of GGUF that matter here.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
/// What an id outside the vocabulary decodes to: U+FFFD in UTF-8.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// Text to tokens and back.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
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
        let family = header.text("tokenizer.ggml.model")?;
        if family != "gpt2" {
            return Err(TokenizerError::Unsupported {
                key: "tokenizer.ggml.model",
                got: family.to_owned(),
                supported: "gpt2 (byte-level BPE)",
            });
        }
        let tokens = header.texts("tokenizer.ggml.tokens")?;
        let kinds = kinds(header, tokens.len())?;
        let inner = build(header, tokens, &kinds)?;
        let alphabet = alphabet();
        let mut bytes = Vec::with_capacity(tokens.len());
        for (token, &kind) in tokens.iter().zip(&kinds) {
            bytes.push(match kind {
                CONTROL => Vec::new(),
                USER_DEFINED => token.as_bytes().to_vec(),
                _ => unmap(token, &alphabet),
            });
        }
        let control: Vec<String> =
            tokens.iter().zip(&kinds).filter(|(_, kind)| **kind == CONTROL).map(|(token, _)| token.clone()).collect();
        let bos = match header.metadata.get("tokenizer.ggml.add_bos_token") {
            Some(crate::gguf::Value::Bool(true)) => Some(special(header, "tokenizer.ggml.bos_token_id", tokens.len())?),
            _ => None,
        };
        let end_of_turn = special(header, "tokenizer.ggml.eos_token_id", tokens.len())?;
        Ok(Self { eos: eos(header, tokens, &kinds)?, end_of_turn, inner, bytes, control, bos })
    }

    /// Tokens of a rendered prompt. Control tokens written in it count as themselves.
    ///
    /// # Errors
    /// [`TokenizerError::Broken`] if the vocabulary cannot express the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.inner.encode_fast(text, false).map_err(broken)?;
        Ok(self.bos.into_iter().chain(encoding.get_ids().iter().copied()).collect())
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

fn kinds(header: &Header, count: usize) -> Result<Vec<i64>, TokenizerError> {
    if !header.metadata.contains_key("tokenizer.ggml.token_type") {
        return Ok(vec![1; count]);
    }
    let kinds = header.integers("tokenizer.ggml.token_type")?;
    if kinds.len() != count {
        return Err(TokenizerError::Broken(format!("{count} tokens but {} token types", kinds.len())));
    }
    Ok(kinds.to_vec())
}

fn build(header: &Header, tokens: &[String], kinds: &[i64]) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let mut seen = BTreeMap::new();
    for (id, token) in (0u32..).zip(tokens) {
        if let Some(first) = seen.insert(token.as_str(), id) {
            return Err(TokenizerError::Broken(format!("tokens {first} and {id} are both {token:?}")));
        }
    }
    let mut merges = Vec::new();
    for merge in header.texts("tokenizer.ggml.merges")? {
        let (left, right) = merge.split_once(' ').ok_or_else(|| TokenizerError::Broken(format!("merge {merge:?} has no space")))?;
        merges.push((left.to_owned(), right.to_owned()));
    }
    let vocabulary = seen.iter().map(|(token, id)| ((*token).to_owned(), *id));
    let model = BPE::builder().vocab_and_merges(vocabulary.collect::<tokenizers::models::bpe::Vocab>(), merges).build().map_err(broken)?;
    let mut inner = tokenizers::Tokenizer::new(model);
    inner.with_pre_tokenizer(Some(pre_tokenizer(header)?));
    let added = tokens.iter().zip(kinds).filter_map(|(token, &kind)| match kind {
        CONTROL => Some(AddedToken::from(token.as_str(), true).normalized(false)),
        USER_DEFINED => Some(AddedToken::from(token.as_str(), false).normalized(false)),
        _ => None,
    });
    inner.add_tokens(added).map_err(broken)?;
    Ok(inner)
}

/// `smollm` splits off every digit before the usual byte-level pattern; `gpt-2` has the pattern alone.
fn pre_tokenizer(header: &Header) -> Result<PreTokenizerWrapper, TokenizerError> {
    let bytes = ByteLevel::new(false, false, true);
    match header.text("tokenizer.ggml.pre")? {
        "smollm" => Ok(Sequence::new(vec![Digits::new(true).into(), bytes.into()]).into()),
        "gpt-2" | "gpt2" => Ok(bytes.into()),
        other => Err(TokenizerError::Unsupported { key: "tokenizer.ggml.pre", got: other.to_owned(), supported: "smollm, gpt-2" }),
    }
}

fn special(header: &Header, key: &'static str, count: usize) -> Result<u32, TokenizerError> {
    let value = header.unsigned(key)?;
    u32::try_from(value)
        .ok()
        .filter(|_| value < count as u64)
        .ok_or_else(|| TokenizerError::Broken(format!("{key} is {value}, the vocabulary has {count} tokens")))
}

/// The declared end tokens, and the two that ChatML files use whether they declare them or not.
fn eos(header: &Header, tokens: &[String], kinds: &[i64]) -> Result<Vec<u32>, TokenizerError> {
    let mut out = vec![special(header, "tokenizer.ggml.eos_token_id", tokens.len())?];
    if header.metadata.contains_key("tokenizer.ggml.eot_token_id") {
        out.push(special(header, "tokenizer.ggml.eot_token_id", tokens.len())?);
    }
    for ((id, token), kind) in (0u32..).zip(tokens).zip(kinds) {
        if *kind == CONTROL && matches!(token.as_str(), "<|im_end|>" | "<|endoftext|>") {
            out.push(id);
        }
    }
    out.sort_unstable();
    out.dedup();
    Ok(out)
}

fn broken(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Broken(error.to_string())
}

/// GPT-2's alphabet: printable bytes stand for themselves, the other 68 for U+0100 onwards in byte order.
pub(crate) fn byte_alphabet() -> [char; 256] {
    let mut out = ['\0'; 256];
    let mut spare = 0x100u32;
    for byte in 0..=255u8 {
        let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        out[usize::from(byte)] = if printable {
            char::from(byte)
        } else {
            spare += 1;
            char::from_u32(spare - 1).expect("0x100 to 0x143 are letters")
        };
    }
    out
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_gpt2s() {
        let alphabet = byte_alphabet();
        assert_eq!(alphabet[usize::from(b' ')], 'Ġ');
        assert_eq!(alphabet[usize::from(b'\n')], 'Ċ');
        assert_eq!(alphabet[0], 'Ā');
        assert_eq!(alphabet[0xad], 'Ń');
        assert_eq!(alphabet[usize::from(b'a')], 'a');
    }
}
