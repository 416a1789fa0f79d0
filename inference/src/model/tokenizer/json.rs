//! The vocabulary in a `tokenizer.json`.
//!
//! The file may describe any chain of normalisers, expressions and models; only the chains of the families this engine runs are taken, and
//! whatever else it says is refused by name rather than run. Memory is at most about 22 times the file, if that is full of the shortest tokens
//! there can be (a dozen bytes each, which the library keeps in two maps).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use tokenizers::AddedToken;

use super::words::{PUBLISHED, Words};
use super::{FilesError, Kind, Named, TokenizerError, Vocabulary};

/// The parts of the file that decide about tokens.
#[derive(Deserialize)]
struct Described {
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    model: Model,
}

/// A token found whole in a text.
#[derive(Deserialize)]
pub(crate) struct Added {
    pub(crate) id: u32,
    pub(crate) content: String,
    pub(crate) single_word: bool,
    lstrip: bool,
    rstrip: bool,
    pub(crate) normalized: bool,
    special: bool,
}

impl From<Added> for AddedToken {
    fn from(token: Added) -> Self {
        Self {
            content: token.content,
            single_word: token.single_word,
            lstrip: token.lstrip,
            rstrip: token.rstrip,
            normalized: token.normalized,
            special: token.special,
        }
    }
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: Ids,
    merges: Vec<Merge>,
    dropout: Option<Value>,
    unk_token: Option<Value>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

/// Reads the vocabulary.
pub(super) fn vocabulary(file: &Path, bytes: &[u8], named: Named, rows: usize) -> Result<Vocabulary, TokenizerError> {
    let described: Described =
        serde_json::from_slice(bytes).map_err(|error| FilesError::Json { file: file.to_path_buf(), problem: error.to_string() })?;
    let wrong = Refusal { file };
    described.model.check(&wrong)?;
    let composes = composes(described.normalizer.as_ref(), &wrong)?;
    let words = words(described.pre_tokenizer.as_ref(), &wrong)?;
    let tokens = tokens(described.model.vocab, &described.added_tokens, rows, &wrong)?;
    // Also what the vocabulary holds itself: the settings may name such a token.
    let id = |text: &str| (0u32..).zip(&tokens).find(|(_, (token, _))| token == text).map(|(id, _)| id);
    let mut eos = named.eos_ids;
    if let Some(id) = eos.iter().find(|id| **id as usize >= rows) {
        return Err(wrong
            .invalid("eos_token_id of config.json or generation_config.json", id.to_string(), "an id within vocab_size")
            .into());
    }
    let end_of_turn = match named.end_of_turn {
        Some(text) => {
            id(&text).ok_or_else(|| wrong.invalid("eos_token of tokenizer_config.json", format!("{text:?}"), "a token of this file"))?
        }
        None => *eos
            .first()
            .ok_or_else(|| wrong.invalid("eos_token of tokenizer_config.json", "absent".to_owned(), "the token that ends a turn"))?,
    };
    eos.push(end_of_turn);
    let bos = match first_token(described.post_processor.as_ref(), &wrong)? {
        Some(text) => Some(id(&text).ok_or_else(|| wrong.invalid("post_processor", format!("{text:?}"), "a token of this file"))?),
        None => None,
    };
    Ok(Vocabulary {
        added: described.added_tokens.into_iter().map(Into::into).collect(),
        merges: described.model.merges.into_iter().map(|Merge(pair)| pair).collect(),
        words,
        ignores_merges: described.model.ignore_merges,
        composes,
        bos,
        end_of_turn,
        eos,
        tokens,
    })
}

/// Makes refusals that name the file.
pub(crate) struct Refusal<'a> {
    pub(crate) file: &'a Path,
}

impl Refusal<'_> {
    pub(crate) fn invalid(&self, field: &str, value: String, expected: &'static str) -> FilesError {
        let value = if value.chars().count() > 160 { value.chars().take(160).chain(['…']).collect() } else { value };
        FilesError::Invalid { file: self.file.to_path_buf(), field: field.to_owned(), value, expected }
    }
}

impl Model {
    fn check(&self, wrong: &Refusal<'_>) -> Result<(), FilesError> {
        if self.kind.as_deref().is_some_and(|kind| kind != "BPE") {
            return Err(wrong.invalid("model.type", format!("{:?}", self.kind), "BPE over bytes"));
        }
        let affix = |field, text: &Option<String>| match text.as_deref() {
            None | Some("") => Ok(()),
            Some(text) => Err(wrong.invalid(field, format!("{text:?}"), "none")),
        };
        affix("model.continuing_subword_prefix", &self.continuing_subword_prefix)?;
        affix("model.end_of_word_suffix", &self.end_of_word_suffix)?;
        if let Some(dropout) = self.dropout.as_ref().filter(|value| !value.is_null() && value.as_f64() != Some(0.0)) {
            return Err(wrong.invalid("model.dropout", dropout.to_string(), "none: equal texts have equal tokens"));
        }
        if self.byte_fallback {
            return Err(wrong.invalid("model.byte_fallback", "true".to_owned(), "false: the vocabulary is one of bytes"));
        }
        match self.unk_token.as_ref().filter(|value| !value.is_null()) {
            // It stands for what a byte alphabet cannot lack, so it is never used; some files name it all the same.
            Some(token) if !token.is_string() => Err(wrong.invalid("model.unk_token", token.to_string(), "a token's text or none")),
            _ => Ok(()),
        }
    }
}

/// All tokens by id; rows of the embedding that no token has are unused.
fn tokens(Ids(ids): Ids, added: &[Added], rows: usize, wrong: &Refusal<'_>) -> Result<Vec<(String, Kind)>, FilesError> {
    let mut tokens = vec![(String::new(), Kind::Unused); rows];
    let mut place = |id: u32, token: &str, kind: Kind| {
        let count = tokens.len();
        let slot = usize::try_from(id).ok().and_then(|id| tokens.get_mut(id));
        let Some(slot) = slot else {
            let value = format!("{token:?} with id {id} beside {count} rows of the embedding");
            return Err(wrong.invalid("model.vocab or added_tokens", value, "ids below vocab_size of config.json"));
        };
        // An added token may be in the vocabulary as well, under the same id.
        if slot.1 != Kind::Unused && slot.0 != token {
            return Err(wrong.invalid(
                "model.vocab or added_tokens",
                format!("{:?} and {token:?} with id {id}", slot.0),
                "one token for an id",
            ));
        }
        *slot = (token.to_owned(), kind);
        Ok(())
    };
    for (token, id) in &ids {
        place(*id, token, Kind::Normal)?;
    }
    for token in added {
        if token.single_word {
            return Err(wrong.invalid("added_tokens", format!("{:?} with single_word", token.content), "tokens found anywhere in a text"));
        }
        if token.content.is_empty() {
            return Err(wrong.invalid("added_tokens", format!("an empty token with id {}", token.id), "tokens of at least one character"));
        }
        place(token.id, &token.content, if token.special { Kind::Control } else { Kind::Added })?;
    }
    Ok(tokens)
}

fn composes(normalizer: Option<&Value>, wrong: &Refusal<'_>) -> Result<bool, FilesError> {
    match normalizer.filter(|value| !value.is_null()) {
        None => Ok(false),
        Some(value) if value["type"] == "NFC" => Ok(true),
        Some(value) if value["type"] == "Sequence" && value["normalizers"].as_array().is_some_and(Vec::is_empty) => Ok(false),
        Some(value) => Err(wrong.invalid("normalizer", value.to_string(), "none or NFC")),
    }
}

/// The ways of cutting that are known, as the file spells them.
fn words(pre: Option<&Value>, wrong: &Refusal<'_>) -> Result<Words, FilesError> {
    let known = || {
        let pre = pre?;
        let is_bytes = |step: &Value, has_pattern: bool| {
            // Absent means true, as in the library that writes these files.
            let uses = step["use_regex"].as_bool().unwrap_or(true);
            step["type"] == "ByteLevel" && step["add_prefix_space"] == false && uses == has_pattern
        };
        if is_bytes(pre, true) {
            return Some(Words::Gpt2);
        }
        let steps = pre["pretokenizers"].as_array().filter(|_| pre["type"] == "Sequence")?;
        let [first, last] = steps.as_slice() else { return None };
        if first["type"] == "Digits" && first["individual_digits"] == true && is_bytes(last, true) {
            return Some(Words::Smollm);
        }
        if first["type"] == "Split" && first["behavior"] == "Isolated" && first["invert"] == false && is_bytes(last, false) {
            let pattern = first["pattern"]["Regex"].as_str()?;
            return PUBLISHED.iter().find(|(published, _)| *published == pattern).map(|(_, words)| *words);
        }
        None
    };
    known().ok_or_else(|| {
        let value = pre.map_or_else(|| "absent".to_owned(), Value::to_string);
        wrong.invalid("pre_tokenizer", value, "the one of GPT-2, SmolLM2, Llama 3 or Qwen 2")
    })
}

/// The token that is put before a text, if the file has one put.
fn first_token(post: Option<&Value>, wrong: &Refusal<'_>) -> Result<Option<String>, FilesError> {
    let Some(post) = post.filter(|value| !value.is_null()) else { return Ok(None) };
    let one = std::slice::from_ref(post);
    let steps = if post["type"] == "Sequence" { post["processors"].as_array().map_or(one, Vec::as_slice) } else { one };
    let mut found = None;
    for step in steps {
        let refused = || wrong.invalid("post_processor", step.to_string(), "ByteLevel, or a template that puts one token before a text");
        if step["type"] == "ByteLevel" {
            continue;
        }
        if step["type"] != "TemplateProcessing" || found.is_some() {
            return Err(refused());
        }
        let is_text = |piece: &Value| piece["Sequence"]["id"] == "A";
        found = match step["single"].as_array().map(Vec::as_slice) {
            Some([text]) if is_text(text) => None,
            Some([token, text]) if is_text(text) => Some(token["SpecialToken"]["id"].as_str().ok_or_else(refused)?.to_owned()),
            _ => return Err(refused()),
        };
    }
    Ok(found)
}

/// Tokens and their ids; a token that occurs twice is refused.
pub(crate) struct Ids(pub(crate) BTreeMap<String, u32>);

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Ids;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tokens and their ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ids, A::Error> {
                let mut ids = BTreeMap::new();
                while let Some((token, id)) = map.next_entry::<String, u32>()? {
                    if ids.contains_key(&token) {
                        return Err(A::Error::custom(format!("token {token:?} occurs twice")));
                    }
                    ids.insert(token, id);
                }
                Ok(Ids(ids))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// Two tokens that become one: `"a b"`, or `["a", "b"]` in newer files.
struct Merge((String, String));

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("two tokens")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Merge, E> {
                let pair = text.split_once(' ').ok_or_else(|| E::custom(format!("merge {text:?} has no space")))?;
                Ok(Merge((pair.0.to_owned(), pair.1.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Merge, A::Error> {
                match (pair.next_element()?, pair.next_element()?, pair.next_element::<String>()?) {
                    (Some(left), Some(right), None) => Ok(Merge((left, right))),
                    _ => Err(A::Error::custom("a merge of other than two tokens")),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}
