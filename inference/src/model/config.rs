//! The shape of a Llama-family model, read from metadata and checked before any tensor is touched.

use crate::gguf::{GgufError, Header, Value};

use super::ModelError;

/// Layers a model may have; the deepest published Llama has 126.
pub const LAYERS_MAX: u64 = 1_024;
/// Width limit of any dimension; with it no product of two overflows.
pub const WIDTH_MAX: u64 = 1 << 20;

/// Dimensions and constants of the graph. Lengths are in elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Number of layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward part.
    pub feed_forward: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Longest sequence, in tokens.
    pub context: usize,
    /// Base of the rotary frequencies.
    pub rope_base: f64,
    /// Added to the mean square in `RMSNorm`.
    pub norm_epsilon: f64,
}

impl Config {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// [`ModelError::Gguf`] for a missing key, [`ModelError::Architecture`] for another family,
    /// [`ModelError::Config`] for a value outside what the graph supports.
    pub fn from_header(header: &Header) -> Result<Self, ModelError> {
        let architecture = header.text("general.architecture")?;
        if architecture != "llama" {
            return Err(ModelError::Architecture { got: architecture.to_owned() });
        }
        let hidden = width(header, "llama.embedding_length", WIDTH_MAX)?;
        let heads = width(header, "llama.attention.head_count", 4_096)?;
        let head_dim = match header.metadata.get("llama.attention.key_length") {
            Some(_) => width(header, "llama.attention.key_length", 4_096)?,
            None => hidden / heads,
        };
        let config = Self {
            layers: width(header, "llama.block_count", LAYERS_MAX)?,
            hidden,
            feed_forward: width(header, "llama.feed_forward_length", WIDTH_MAX)?,
            heads,
            kv_heads: match header.metadata.get("llama.attention.head_count_kv") {
                Some(_) => width(header, "llama.attention.head_count_kv", 4_096)?,
                None => heads,
            },
            head_dim,
            vocabulary: header.texts("tokenizer.ggml.tokens")?.len(),
            context: width(header, "llama.context_length", 1 << 24)?,
            rope_base: optional_float(header, "llama.rope.freq_base", 10_000.0)?,
            norm_epsilon: header.float("llama.attention.layer_norm_rms_epsilon")?,
        };
        config.check(header)?;
        Ok(config)
    }

    fn check(&self, header: &Header) -> Result<(), ModelError> {
        let wrong = |key: &'static str, value: String, expected: &'static str| Err(ModelError::Config { key, value, expected });
        if !self.heads.is_multiple_of(self.kv_heads) {
            return wrong("llama.attention.head_count_kv", self.kv_heads.to_string(), "a divisor of llama.attention.head_count");
        }
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            return wrong("llama.attention.key_length", self.head_dim.to_string(), "an even head width");
        }
        if header.metadata.contains_key("llama.rope.dimension_count") {
            let rope = header.unsigned("llama.rope.dimension_count")?;
            if rope != self.head_dim as u64 {
                return wrong("llama.rope.dimension_count", rope.to_string(), "the whole head width");
            }
        }
        match header.metadata.get("llama.rope.scaling.type") {
            None => {}
            Some(Value::Text(kind)) if kind == "none" => {}
            Some(other) => {
                return wrong("llama.rope.scaling.type", format!("{other:?}"), "no rotary scaling");
            }
        }
        if !(self.rope_base.is_finite() && self.rope_base > 1.0) {
            return wrong("llama.rope.freq_base", self.rope_base.to_string(), "a finite number above 1");
        }
        if !(self.norm_epsilon.is_finite() && self.norm_epsilon > 0.0) {
            return wrong("llama.attention.layer_norm_rms_epsilon", self.norm_epsilon.to_string(), "a small positive number");
        }
        if self.vocabulary == 0 {
            return wrong("tokenizer.ggml.tokens", "empty".to_owned(), "at least one token");
        }
        Ok(())
    }

    /// Added to the mean square, as the graph uses it.
    pub(crate) fn epsilon(&self) -> f32 {
        #[expect(clippy::cast_possible_truncation, reason = "the graph computes in f32")]
        let epsilon = self.norm_epsilon as f32;
        epsilon
    }

    /// Width of the keys of one token in one layer.
    #[must_use]
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Width of the queries of one token in one layer.
    #[must_use]
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Bytes of keys and values that one token keeps: 46,080 for SmolLM2-135M.
    #[must_use]
    pub fn kv_bytes_per_token(&self) -> usize {
        self.layers * self.kv_width() * 2 * 4
    }
}

fn width(header: &Header, key: &'static str, limit: u64) -> Result<usize, ModelError> {
    let value = header.unsigned(key)?;
    if value == 0 || value > limit {
        return Err(ModelError::Config { key, value: value.to_string(), expected: "a positive number within this engine's limit" });
    }
    usize::try_from(value).map_err(|_| ModelError::Config { key, value: value.to_string(), expected: "a number that fits this machine" })
}

fn optional_float(header: &Header, key: &str, default: f64) -> Result<f64, GgufError> {
    if header.metadata.contains_key(key) { header.float(key) } else { Ok(default) }
}
