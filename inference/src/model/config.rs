//! The shape of a model, read from a GGUF header or from `config.json` and checked before any tensor is touched.

mod header;
mod json;

use super::ModelError;
use super::rope::Scaling;

/// Layers a model may have; the deepest published Llama has 126.
pub const LAYERS_MAX: u64 = 1_024;
/// Width limit of any dimension; with it no product of two overflows.
pub const WIDTH_MAX: u64 = 1 << 20;
/// Heads of a layer, and elements of a head.
pub const HEADS_MAX: u64 = 4_096;
/// Longest context in tokens.
pub const CONTEXT_MAX: u64 = 1 << 24;

/// Models of one graph that differ in details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Llama 2 and 3, SmolLM2: no biases.
    Llama,
    /// Qwen 2 and 2.5: q, k and v have biases.
    Qwen2,
    /// Qwen 3: each head of q and k is normed before it is rotated.
    Qwen3,
}

impl Family {
    /// All families.
    pub const ALL: [Self; 3] = [Self::Llama, Self::Qwen2, Self::Qwen3];

    /// The name it has in GGUF files and in `config.json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The family of a name.
    pub(crate) fn named(name: &str) -> Result<Self, ModelError> {
        Self::ALL.into_iter().find(|family| family.name() == name).ok_or_else(|| ModelError::Architecture { got: name.to_owned() })
    }

    /// Whether q, k and v have biases.
    #[must_use]
    pub fn has_biases(self) -> bool {
        self == Self::Qwen2
    }

    /// Whether the heads of q and k are normed.
    #[must_use]
    pub fn has_head_norms(self) -> bool {
        self == Self::Qwen3
    }

    /// Whether a GGUF file may hold divisors of the rotary frequencies.
    pub(crate) fn has_divisors(self) -> bool {
        self == Self::Llama
    }
}

/// Dimensions and constants of the graph. Lengths are in elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Which details the graph has.
    pub family: Family,
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
    /// Rows of the embedding: tokens in the vocabulary, padding included.
    pub vocabulary: usize,
    /// Longest sequence, in tokens.
    pub context: usize,
    /// Base of the rotary frequencies.
    pub rope_base: f64,
    /// What the configuration does to them. A GGUF file may hold divisors besides, which are tensors.
    pub rope_scaling: Scaling,
    /// Added to the mean square in `RMSNorm`.
    pub norm_epsilon: f64,
    /// Whether `config.json` says that the output head is the embedding. A GGUF file says so by having no head.
    pub is_tied: bool,
}

/// What the checks below call the fields, which each kind of file names its own way.
struct Names {
    heads: String,
    kv_heads: String,
    head_dim: String,
    rope_base: String,
    rope_scaling: String,
    norm_epsilon: String,
}

impl Config {
    fn check(self, names: Names) -> Result<Self, ModelError> {
        let wrong = |key: String, value: String, expected: &'static str| Err(ModelError::Config { key, value, expected });
        if !self.heads.is_multiple_of(self.kv_heads) {
            return wrong(
                names.kv_heads,
                format!("{} beside {} {}", self.kv_heads, self.heads, names.heads),
                "a divisor of the query heads",
            );
        }
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            return wrong(names.head_dim, self.head_dim.to_string(), "an even head width");
        }
        if [self.heads, self.kv_heads].iter().any(|heads| heads.saturating_mul(self.head_dim) as u64 > WIDTH_MAX) {
            return wrong(names.head_dim, self.head_dim.to_string(), "heads that together are at most 1,048,576 wide");
        }
        if !(self.rope_base.is_finite() && self.rope_base > 1.0) {
            return wrong(names.rope_base, self.rope_base.to_string(), "a finite number above 1");
        }
        if !is_scaling(&self.rope_scaling) {
            return wrong(names.rope_scaling, format!("{:?}", self.rope_scaling), "finite factors of at least 1, and low below high");
        }
        if !(self.norm_epsilon.is_finite() && self.norm_epsilon > 0.0) {
            return wrong(names.norm_epsilon, self.norm_epsilon.to_string(), "a small positive number");
        }
        Ok(self)
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

fn is_scaling(scaling: &Scaling) -> bool {
    let is_factor = |factor: f64| factor.is_finite() && factor >= 1.0;
    match scaling {
        Scaling::None | Scaling::Divisors(_) => true,
        Scaling::Linear { factor } => is_factor(*factor),
        Scaling::Llama3 { factor, low, high, original_context } => {
            let is_context = original_context.is_finite() && *original_context >= 1.0;
            is_factor(*factor) && is_context && *low > 0.0 && high.is_finite() && low < high
        }
    }
}
