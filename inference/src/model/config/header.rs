//! The configuration in a GGUF header: keys that begin with the family's name.

use super::{CONTEXT_MAX, Config, Family, HEADS_MAX, LAYERS_MAX, Names, WIDTH_MAX};
use crate::gguf::{GgufError, Header, Value};
use crate::model::ModelError;
use crate::model::rope::Scaling;

/// Settings of other models that are written under these families' names; each must be absent or zero.
const OFF: [&str; 4] = ["attention.sliding_window", "attention.clamp_kqv", "expert_count", "logit_scale"];

impl Config {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// [`ModelError::Gguf`] for a missing key, [`ModelError::Architecture`] for another family,
    /// [`ModelError::Config`] for a value outside what the graph supports.
    pub fn from_header(header: &Header) -> Result<Self, ModelError> {
        let family = Family::named(header.text("general.architecture")?)?;
        let key = |name: &str| format!("{}.{name}", family.name());
        let optional = |name: &str, limit, absent: usize| {
            let key = key(name);
            if header.metadata.contains_key(&key) { width(header, key, limit) } else { Ok(absent) }
        };
        let required = |name: &str, limit| width(header, key(name), limit);
        for name in OFF {
            match header.metadata.get(&key(name)) {
                None | Some(Value::Unsigned(0)) => {}
                Some(value) if *value == Value::Float(0.0) => {}
                Some(value) => {
                    return Err(ModelError::Config {
                        key: key(name),
                        value: format!("{value:?}"),
                        expected: "nothing: the graph has no such part",
                    });
                }
            }
        }
        let hidden = required("embedding_length", WIDTH_MAX)?;
        let heads = required("attention.head_count", HEADS_MAX)?;
        let head_dim = optional("attention.key_length", HEADS_MAX, hidden / heads)?;
        for name in ["attention.value_length", "rope.dimension_count"] {
            let got = optional(name, HEADS_MAX, head_dim)?;
            if got != head_dim {
                return Err(ModelError::Config { key: key(name), value: got.to_string(), expected: "the head width, all of it rotated" });
            }
        }
        let vocabulary = header.texts("tokenizer.ggml.tokens")?.len();
        if vocabulary == 0 || vocabulary as u64 > WIDTH_MAX {
            let value = format!("a list of {vocabulary}");
            return Err(ModelError::Config { key: "tokenizer.ggml.tokens".to_owned(), value, expected: "1 to 1,048,576 tokens" });
        }
        let names = Names {
            heads: key("attention.head_count"),
            kv_heads: key("attention.head_count_kv"),
            head_dim: key("attention.key_length"),
            rope_base: key("rope.freq_base"),
            rope_scaling: key("rope.scaling.factor"),
            norm_epsilon: key("attention.layer_norm_rms_epsilon"),
        };
        let config = Self {
            family,
            layers: required("block_count", LAYERS_MAX)?,
            hidden,
            feed_forward: required("feed_forward_length", WIDTH_MAX)?,
            heads,
            kv_heads: optional("attention.head_count_kv", HEADS_MAX, heads)?,
            head_dim,
            vocabulary,
            context: required("context_length", CONTEXT_MAX)?,
            rope_base: optional_float(header, &names.rope_base, 10_000.0)?,
            rope_scaling: scaling(header, &key("rope.scaling.type"), &names.rope_scaling)?,
            norm_epsilon: header.float(&names.norm_epsilon)?,
            is_tied: false,
        };
        config.check(names)
    }
}

/// Llama 3's scaling is not among the types: converters write it as divisors, a tensor.
fn scaling(header: &Header, kind: &str, factor: &str) -> Result<Scaling, ModelError> {
    match header.metadata.get(kind) {
        None => Ok(Scaling::None),
        Some(Value::Text(name)) if name == "none" => Ok(Scaling::None),
        Some(Value::Text(name)) if name == "linear" => Ok(Scaling::Linear { factor: header.float(factor)? }),
        Some(other) => Err(ModelError::Config {
            key: kind.to_owned(),
            value: format!("{other:?}"),
            expected: "none or linear, or divisors in rope_freqs.weight",
        }),
    }
}

fn width(header: &Header, key: String, limit: u64) -> Result<usize, ModelError> {
    let value = header.unsigned(&key)?;
    if value == 0 || value > limit {
        return Err(ModelError::Config { key, value: value.to_string(), expected: "a positive number within this engine's limit" });
    }
    usize::try_from(value).map_err(|_| ModelError::Config { key, value: value.to_string(), expected: "a number that fits this machine" })
}

fn optional_float(header: &Header, key: &str, default: f64) -> Result<f64, GgufError> {
    if header.metadata.contains_key(key) { header.float(key) } else { Ok(default) }
}
