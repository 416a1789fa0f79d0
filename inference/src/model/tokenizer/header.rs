//! The vocabulary in a GGUF header.

use tokenizers::AddedToken;

use super::words::Words;
use super::{Kind, TokenizerError, Vocabulary};
use crate::gguf::{Header, Value};

/// Reads the vocabulary.
pub(super) fn vocabulary(header: &Header) -> Result<Vocabulary, TokenizerError> {
    let family = header.text("tokenizer.ggml.model")?;
    if family != "gpt2" {
        return Err(TokenizerError::Unsupported {
            key: "tokenizer.ggml.model",
            got: family.to_owned(),
            supported: "gpt2 (byte-level BPE)",
        });
    }
    let texts = header.texts("tokenizer.ggml.tokens")?;
    let kinds = kinds(header, texts.len())?;
    let tokens: Vec<(String, Kind)> = texts.iter().cloned().zip(kinds).collect();
    let added = tokens.iter().filter_map(|(token, kind)| match kind {
        Kind::Control => Some(AddedToken::from(token.as_str(), true).normalized(false)),
        Kind::Added => Some(AddedToken::from(token.as_str(), false).normalized(false)),
        Kind::Normal | Kind::Unused => None,
    });
    let (words, ignores_merges, composes) = pre(header)?;
    let special = |key| special(header, key, tokens.len());
    let end_of_turn = special("tokenizer.ggml.eos_token_id")?;
    let mut eos = vec![end_of_turn];
    for key in ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
        if header.metadata.contains_key(key) {
            eos.push(special(key)?);
        }
    }
    let bos = match header.metadata.get("tokenizer.ggml.add_bos_token") {
        Some(Value::Bool(true)) => Some(special("tokenizer.ggml.bos_token_id")?),
        _ => None,
    };
    Ok(Vocabulary { merges: merges(header)?, added: added.collect(), words, ignores_merges, composes, bos, end_of_turn, eos, tokens })
}

/// Token types as GGUF counts them; 1 is a plain token, 2 unknown, 6 a byte of other tokenizer families.
fn kinds(header: &Header, count: usize) -> Result<Vec<Kind>, TokenizerError> {
    if !header.metadata.contains_key("tokenizer.ggml.token_type") {
        return Ok(vec![Kind::Normal; count]);
    }
    let kinds = header.integers("tokenizer.ggml.token_type")?;
    if kinds.len() != count {
        return Err(TokenizerError::Broken(format!("{count} tokens but {} token types", kinds.len())));
    }
    let kind = |kind: &i64| match kind {
        3 => Kind::Control,
        4 => Kind::Added,
        5 => Kind::Unused,
        _ => Kind::Normal,
    };
    Ok(kinds.iter().map(kind).collect())
}

fn merges(header: &Header) -> Result<Vec<(String, String)>, TokenizerError> {
    let pair = |merge: &String| {
        let (left, right) = merge.split_once(' ').ok_or_else(|| TokenizerError::Broken(format!("merge {merge:?} has no space")))?;
        Ok((left.to_owned(), right.to_owned()))
    };
    header.texts("tokenizer.ggml.merges")?.iter().map(pair).collect()
}

/// The header names the way of cutting; what else the published tokenizers of that name do is not in it: Llama 3's takes whole words that are
/// tokens, Qwen's composes its text.
fn pre(header: &Header) -> Result<(Words, bool, bool), TokenizerError> {
    const KEY: &str = "tokenizer.ggml.pre";
    match header.text(KEY)? {
        "smollm" => Ok((Words::Smollm, false, false)),
        "gpt-2" | "gpt2" => Ok((Words::Gpt2, false, false)),
        "llama-bpe" | "llama3" | "llama-v3" => Ok((Words::Llama3, true, false)),
        "qwen2" => Ok((Words::Qwen2, false, true)),
        other => {
            let supported = "smollm, gpt-2, llama-bpe, qwen2: convert the model again with a converter that knows it";
            Err(TokenizerError::Unsupported { key: KEY, got: other.to_owned(), supported })
        }
    }
}

fn special(header: &Header, key: &'static str, count: usize) -> Result<u32, TokenizerError> {
    let value = header.unsigned(key)?;
    u32::try_from(value)
        .ok()
        .filter(|_| value < count as u64)
        .ok_or_else(|| TokenizerError::Broken(format!("{key} is {value}, the vocabulary has {count} tokens")))
}
