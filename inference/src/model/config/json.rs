//! The configuration in a published model's `config.json`.
//!
//! Fields that would change the arithmetic and that the graph does not have are refused by name when they are set; fields it does not know
//! at all (versions, data types, settings of other programs) are passed over.

use super::{CONTEXT_MAX, Config, Family, HEADS_MAX, LAYERS_MAX, Names, WIDTH_MAX};
use crate::model::ModelError;
use crate::model::files::{FilesError, Json};
use crate::model::rope::Scaling;

/// Settings that must be off, and what each would mean.
const OFF: [(&str, &str); 6] = [
    ("attention_bias", "false: this family's attention has no biases of its own here"),
    ("mlp_bias", "false: the feed-forward part has no biases here"),
    ("rope_interleaved", "false: heads are rotated by halves"),
    ("use_sliding_window", "false: every token may look at all before it"),
    ("use_mrope", "false: positions are those of a text"),
    ("add_cross_attention", "false: the model is a decoder alone"),
];

impl Config {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// [`ModelError::Architecture`] for another family, [`ModelError::Files`] for a field that is missing or set to what the graph does not
    /// have, [`ModelError::Config`] for fields that contradict each other.
    pub(crate) fn from_json(json: &Json) -> Result<Self, ModelError> {
        let family = Family::named(json.text("model_type")?)?;
        refuse_settings(json)?;
        let hidden = json.width("hidden_size", WIDTH_MAX)?;
        let heads = json.width("num_attention_heads", HEADS_MAX)?;
        // Qwen 3's own default when its file names none; the others divide.
        let head_dim = if family == Family::Qwen3 { 128 } else { hidden / heads };
        let rope = json.object("rope_parameters")?;
        let legacy = json.object("rope_scaling")?;
        let config = Self {
            family,
            layers: json.width("num_hidden_layers", LAYERS_MAX)?,
            hidden,
            feed_forward: json.width("intermediate_size", WIDTH_MAX)?,
            heads,
            kv_heads: json.width_or("num_key_value_heads", HEADS_MAX, heads)?,
            head_dim: json.width_or("head_dim", HEADS_MAX, head_dim)?,
            vocabulary: json.width("vocab_size", WIDTH_MAX)?,
            context: json.width("max_position_embeddings", CONTEXT_MAX)?,
            rope_base: base(json, rope.as_ref())?,
            rope_scaling: match rope.as_ref().or(legacy.as_ref()) {
                Some(rope) => scaling(rope)?,
                None => Scaling::None,
            },
            norm_epsilon: json.number("rms_norm_eps")?,
            is_tied: json.flag("tie_word_embeddings")?,
        };
        config.check(Names {
            heads: "num_attention_heads".to_owned(),
            kv_heads: "num_key_value_heads".to_owned(),
            head_dim: "head_dim".to_owned(),
            rope_base: "rope_theta".to_owned(),
            rope_scaling: "rope_scaling".to_owned(),
            norm_epsilon: "rms_norm_eps".to_owned(),
        })
    }
}

fn refuse_settings(json: &Json) -> Result<(), FilesError> {
    for (field, expected) in OFF {
        if json.flag(field)? {
            return Err(json.invalid(field, expected));
        }
    }
    if json.get("quantization_config").is_some() {
        return Err(json.invalid("quantization_config", "none: use the model's plain safetensors, or a GGUF file of it"));
    }
    match json.get("hidden_act") {
        Some(value) if value != "silu" => return Err(json.invalid("hidden_act", "silu")),
        _ => {}
    }
    match json.get("partial_rotary_factor") {
        Some(value) if value.as_f64() != Some(1.0) => return Err(json.invalid("partial_rotary_factor", "1: whole heads are rotated")),
        _ => {}
    }
    let is_full = |kinds: &serde_json::Value| kinds.as_array().is_some_and(|kinds| kinds.iter().all(|kind| kind == "full_attention"));
    match json.get("layer_types") {
        Some(kinds) if !is_full(kinds) => Err(json.invalid("layer_types", "full_attention for every layer")),
        _ => Ok(()),
    }
}

/// The base stands in `rope_parameters` since version 5 of the library that writes these files, before that beside it.
fn base(json: &Json, rope: Option<&Json>) -> Result<f64, FilesError> {
    match rope {
        Some(rope) if rope.get("rope_theta").is_some() => rope.number("rope_theta"),
        _ if json.get("rope_theta").is_some() => json.number("rope_theta"),
        _ => Ok(10_000.0),
    }
}

fn scaling(rope: &Json) -> Result<Scaling, FilesError> {
    // Its first name was `type`.
    let field = if rope.get("rope_type").is_some() { "rope_type" } else { "type" };
    if rope.get(field).is_none() {
        return Ok(Scaling::None);
    }
    if rope.get("partial_rotary_factor").is_some_and(|factor| factor.as_f64() != Some(1.0)) {
        return Err(rope.invalid("partial_rotary_factor", "1: whole heads are rotated"));
    }
    match rope.text(field)? {
        "default" => Ok(Scaling::None),
        "linear" => Ok(Scaling::Linear { factor: rope.number("factor")? }),
        "llama3" => Ok(Scaling::Llama3 {
            factor: rope.number("factor")?,
            low: rope.number("low_freq_factor")?,
            high: rope.number("high_freq_factor")?,
            original_context: rope.number("original_max_position_embeddings")?,
        }),
        _ => Err(rope.invalid(field, "default, linear or llama3")),
    }
}
