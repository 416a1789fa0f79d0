//! WordPiece as a `tokenizer.json` of the BERT family describes it: text without accents and in lower case (or not), cut at spaces and punctuation, each
//! word the longest pieces of the vocabulary from its beginning on, one token before the text and one behind it.
//!
//! Normalising, cutting and looking up are the `tokenizers` crate's; whatever else the file asks for is refused by name. What it says of truncation and
//! padding is passed over: a text is never cut here, and rows are not padded. Tokens that stand for themselves (`[SEP]`) are found in a text as the
//! model's own tools find them.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokenizers::models::bpe::Vocab;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{DecoderWrapper, NormalizedString, Normalizer as _, PostProcessorWrapper, TokenizerImpl};

use crate::model::files::FilesError;
use crate::model::tokenizer::TokenizerError;
use crate::model::tokenizer::json::{Added, Ids, Refusal};

/// Longest word in characters that a file may have looked up; longer ones are unknown. The cost of a word is its square.
const WORD_MAX: usize = 512;

/// Longest description of a step in bytes; parsed it takes some thirty times as much. Published ones have a few hundred.
const STEP_BYTES_MAX: usize = 64 << 10;
/// Longest mark of a piece inside a word, copied for every piece that is looked up; BERT's is `##`.
const PREFIX_BYTES_MAX: usize = 16;
/// Longest token for what is not known, copied for every such word.
const UNKNOWN_BYTES_MAX: usize = 64;

/// The parts of the file that decide about tokens; its steps are parsed once their lengths are known.
#[derive(Deserialize)]
struct Described<'a> {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(borrow)]
    normalizer: &'a RawValue,
    #[serde(borrow)]
    pre_tokenizer: &'a RawValue,
    #[serde(borrow)]
    post_processor: &'a RawValue,
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
    vocab: Ids,
}

type Inner = TokenizerImpl<WordPiece, BertNormalizer, BertPreTokenizer, PostProcessorWrapper, DecoderWrapper>;

/// Text to tokens.
pub(super) struct Words {
    inner: Inner,
    first: u32,
    last: u32,
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Words").field("first", &self.first).field("last", &self.last).finish_non_exhaustive()
    }
}

impl Words {
    /// Builds the tokenizer from the bytes of a `tokenizer.json`, which errors call `file`; `rows` are those of the model's embedding.
    ///
    /// # Errors
    /// [`TokenizerError`] if the file describes another kind of tokenizer or contradicts itself.
    pub(super) fn from_json(file: &Path, bytes: &[u8], rows: usize) -> Result<Self, TokenizerError> {
        let described: Described<'_> =
            serde_json::from_slice(bytes).map_err(|error| FilesError::Json { file: file.to_path_buf(), problem: error.to_string() })?;
        let wrong = Refusal { file };
        described.check(rows, &wrong)?;
        let Described { added_tokens, normalizer, pre_tokenizer, post_processor, model } = described;
        let normaliser = normaliser(&step("normalizer", normalizer, &wrong)?, &wrong)?;
        let cutter = step("pre_tokenizer", pre_tokenizer, &wrong)?;
        if cutter["type"] != "BertPreTokenizer" {
            return Err(wrong.invalid("pre_tokenizer", cutter.to_string(), "BertPreTokenizer").into());
        }
        let post_processor = step("post_processor", post_processor, &wrong)?;
        findable(&added_tokens, &normaliser, &wrong)?;
        let Ids(ids) = model.vocab;
        let id = |token: &str| {
            let unknown = || wrong.invalid("post_processor", format!("{token:?}"), "tokens of the vocabulary");
            ids.get(token).copied().ok_or_else(unknown)
        };
        let [first, last] = around(&post_processor, &wrong)?;
        let (first, last) = (id(first)?, id(last)?);
        let pieces = WordPiece::builder()
            .vocab(ids.into_iter().collect::<Vocab>())
            .unk_token(model.unk_token)
            .continuing_subword_prefix(model.continuing_subword_prefix)
            .max_input_chars_per_word(model.max_input_chars_per_word);
        let mut inner = Inner::new(pieces.build().map_err(broken)?);
        inner.with_normalizer(Some(normaliser)).map_err(broken)?;
        inner.with_pre_tokenizer(Some(BertPreTokenizer));
        inner.add_tokens(added_tokens.into_iter().map(Into::into)).map_err(broken)?;
        Ok(Self { inner, first, last })
    }

    /// Tokens of a text, with the one before it and the one behind it.
    ///
    /// # Errors
    /// [`TokenizerError::Broken`] if the library fails.
    pub(super) fn tokens(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.inner.encode_fast(text, false).map_err(broken)?;
        Ok([&[self.first], encoding.get_ids(), &[self.last]].concat())
    }
}

impl Described<'_> {
    fn check(&self, rows: usize, wrong: &Refusal<'_>) -> Result<(), FilesError> {
        let Model { kind, unk_token, continuing_subword_prefix: prefix, max_input_chars_per_word, vocab: Ids(ids) } = &self.model;
        if kind.as_deref().is_some_and(|kind| kind != "WordPiece") {
            return Err(wrong.invalid("model.type", format!("{kind:?}"), "WordPiece"));
        }
        if !(1..=WORD_MAX).contains(max_input_chars_per_word) {
            return Err(wrong.invalid("model.max_input_chars_per_word", max_input_chars_per_word.to_string(), "1 to 512"));
        }
        if prefix.len() > PREFIX_BYTES_MAX {
            return Err(wrong.invalid("model.continuing_subword_prefix", format!("{prefix:?}"), "at most 16 bytes"));
        }
        if unk_token.len() > UNKNOWN_BYTES_MAX {
            return Err(wrong.invalid("model.unk_token", format!("{unk_token:?}"), "at most 64 bytes"));
        }
        if !ids.contains_key(unk_token) {
            return Err(wrong.invalid("model.unk_token", format!("{unk_token:?}"), "a token of the vocabulary"));
        }
        let mut seen = BTreeSet::new();
        for (token, id) in ids {
            if usize::try_from(*id).is_ok_and(|id| id >= rows) {
                let value = format!("{token:?} with id {id} beside {rows} rows of the embedding");
                return Err(wrong.invalid("model.vocab", value, "ids below vocab_size of config.json"));
            }
            if !seen.insert(*id) {
                return Err(wrong.invalid("model.vocab", format!("{token:?} with id {id} of another token"), "one token for an id"));
            }
        }
        let is_wrong = |token: &&Added| token.single_word || token.content.is_empty() || ids.get(&token.content) != Some(&token.id);
        match self.added_tokens.iter().find(is_wrong) {
            Some(token) => {
                let value = format!("{:?} with id {}", token.content, token.id);
                Err(wrong.invalid("added_tokens", value, "tokens of the vocabulary with their ids, found anywhere in a text"))
            }
            None => Ok(()),
        }
    }
}

/// A step of the file, parsed.
fn step(name: &str, raw: &RawValue, wrong: &Refusal<'_>) -> Result<Value, FilesError> {
    let text = raw.get();
    if text.len() > STEP_BYTES_MAX {
        return Err(wrong.invalid(name, format!("{} bytes", text.len()), "at most 65,536 bytes"));
    }
    serde_json::from_str(text).map_err(|error| wrong.invalid(name, error.to_string(), "JSON of fewer levels"))
}

/// Checks what the library searches a text for. A token that is nothing once it is normalised, that another one swallows with the spaces around it, or
/// that is two tokens at once would make it panic on the text of a client.
fn findable(added: &[Added], normaliser: &BertNormalizer, wrong: &Refusal<'_>) -> Result<(), TokenizerError> {
    let mut seen = BTreeSet::new();
    for token in added {
        let mut searched = NormalizedString::from(token.content.as_str());
        if token.normalized {
            normaliser.normalize(&mut searched).map_err(broken)?;
        }
        let searched = searched.get();
        let problem = if token.content.trim() != token.content || searched.trim() != searched {
            "tokens that neither start nor end with white space"
        } else if searched.is_empty() {
            "tokens of which something is left once they are normalised"
        } else if !seen.insert((token.normalized, searched.to_owned())) {
            "tokens that differ once they are normalised"
        } else {
            continue;
        };
        return Err(wrong.invalid("added_tokens", format!("{:?}", token.content), problem).into());
    }
    Ok(())
}

fn normaliser(value: &Value, wrong: &Refusal<'_>) -> Result<BertNormalizer, FilesError> {
    let known = || {
        let flag = |name: &str| value[name].as_bool();
        let strips = match &value["strip_accents"] {
            Value::Null => None,
            given => Some(given.as_bool()?),
        };
        (value["type"] == "BertNormalizer").then_some(BertNormalizer::new(
            flag("clean_text")?,
            flag("handle_chinese_chars")?,
            strips,
            flag("lowercase")?,
        ))
    };
    known().ok_or_else(|| wrong.invalid("normalizer", value.to_string(), "a whole BertNormalizer"))
}

/// The tokens before and behind a text.
fn around<'v>(post: &'v Value, wrong: &Refusal<'_>) -> Result<[&'v str; 2], FilesError> {
    let known = || {
        if post["type"] == "BertProcessing" {
            return Some([post["cls"][0].as_str()?, post["sep"][0].as_str()?]);
        }
        let pieces = post["single"].as_array().filter(|_| post["type"] == "TemplateProcessing")?;
        let [first, text, last] = pieces.as_slice() else { return None };
        let token = |piece: &'v Value| piece["SpecialToken"]["id"].as_str();
        let is_first_kind = [&first["SpecialToken"], &text["Sequence"], &last["SpecialToken"]].iter().all(|piece| piece["type_id"] == 0);
        if text["Sequence"]["id"] != "A" || !is_first_kind {
            return None;
        }
        Some([token(first)?, token(last)?])
    };
    known().ok_or_else(|| wrong.invalid("post_processor", post.to_string(), "one token before a text and one behind it"))
}

fn broken(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Broken(error.to_string())
}
