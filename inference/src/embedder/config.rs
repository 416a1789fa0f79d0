//! Dimensions of an encoder, from `config.json` and the settings of its pooling.
//!
//! The widths are bounded far below what a file could hold: activations are rows of them, and a small file with one very long side must not make large
//! ones. At these limits a pass holds about 300 MB; BERT-large, the largest of the family, has 1,024 and 4,096.

use super::TEXT_TOKENS_MAX;
use crate::model::ModelError;
use crate::model::files::{FilesError, Json};

const LAYERS_MAX: u64 = 128;
const HIDDEN_MAX: u64 = 4_096;
const FEED_FORWARD_MAX: u64 = 16_384;
const HEADS_MAX: u64 = 64;
const VOCABULARY_MAX: u64 = 1 << 20;
const POSITIONS_MAX: u64 = 1 << 16;
/// Kinds of segments; BERT has two, and a text alone is of the first.
const KINDS_MAX: u64 = 16;

/// How rows become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooling {
    /// The mean of all rows.
    Mean,
    /// The first row.
    First,
}

impl Pooling {
    /// Reads the settings: exactly one of the two ways, and no other.
    pub(super) fn from_json(json: &Json) -> Result<Self, FilesError> {
        const MEAN: &str = "pooling_mode_mean_tokens";
        const FIRST: &str = "pooling_mode_cls_token";
        const OTHERS: [&str; 4] =
            ["pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken"];
        for other in OTHERS {
            if json.flag(other)? {
                return Err(json.invalid(other, "false: rows are averaged, or the first is taken"));
            }
        }
        match (json.flag(MEAN)?, json.flag(FIRST)?) {
            (true, false) => Ok(Self::Mean),
            (false, true) => Ok(Self::First),
            _ => Err(json.invalid(MEAN, "true, or else pooling_mode_cls_token true")),
        }
    }
}

/// Lengths are in elements.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Config {
    pub(super) layers: usize,
    /// Width of a row, and of a vector.
    pub(super) hidden: usize,
    pub(super) feed_forward: usize,
    /// Divides `hidden`.
    pub(super) heads: usize,
    /// Rows of the embedding.
    pub(super) vocabulary: usize,
    /// Rows of the positions' embedding.
    pub(super) positions: usize,
    /// Rows of the segments' embedding.
    pub(super) kinds: usize,
    /// Added to the variance in `LayerNorm`.
    pub(super) epsilon: f32,
    pub(super) pooling: Pooling,
}

impl Config {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// [`ModelError::Files`] for what is missing, too large, or set to what the graph does not have.
    pub(super) fn from_json(json: &Json, pooling: Pooling) -> Result<Self, ModelError> {
        if json.text("model_type")? != "bert" {
            return Err(json.invalid("model_type", "bert: vectors are made by models of that family").into());
        }
        // Absent means the one that BERT has.
        let is_or_absent = |field: &str, value: &str| json.get(field).is_none_or(|given| given == value);
        if !is_or_absent("hidden_act", "gelu") {
            return Err(json.invalid("hidden_act", "gelu").into());
        }
        if !is_or_absent("position_embedding_type", "absolute") {
            return Err(json.invalid("position_embedding_type", "absolute").into());
        }
        for field in ["is_decoder", "add_cross_attention"] {
            if json.flag(field)? {
                return Err(json.invalid(field, "false: every token looks at all of its text").into());
            }
        }
        if json.get("quantization_config").is_some() {
            return Err(json.invalid("quantization_config", "none: use the model's plain safetensors").into());
        }
        #[expect(clippy::cast_possible_truncation, reason = "the graph computes in f32; what does not fit is refused below")]
        let epsilon = json.number("layer_norm_eps")? as f32;
        if !(epsilon.is_finite() && epsilon > 0.0) {
            return Err(json.invalid("layer_norm_eps", "a small positive number").into());
        }
        let config = Self {
            layers: json.width("num_hidden_layers", LAYERS_MAX)?,
            hidden: json.width("hidden_size", HIDDEN_MAX)?,
            feed_forward: json.width("intermediate_size", FEED_FORWARD_MAX)?,
            heads: json.width("num_attention_heads", HEADS_MAX)?,
            vocabulary: json.width("vocab_size", VOCABULARY_MAX)?,
            positions: json.width("max_position_embeddings", POSITIONS_MAX)?,
            kinds: json.width("type_vocab_size", KINDS_MAX)?,
            epsilon,
            pooling,
        };
        if !config.hidden.is_multiple_of(config.heads) {
            return Err(json.invalid("num_attention_heads", "a divisor of hidden_size").into());
        }
        if config.positions < 3 {
            return Err(json.invalid("max_position_embeddings", "room for a token and the two around it").into());
        }
        Ok(config)
    }

    /// Longest text, the tokens around it included.
    pub(super) fn text_tokens_max(&self) -> usize {
        self.positions.min(TEXT_TOKENS_MAX)
    }

    /// Width of a head.
    pub(super) fn head(&self) -> usize {
        self.hidden / self.heads
    }
}
