//! `adapter_config.json`: the settings PEFT writes, as far as they change what is computed.
//!
//! What this engine would compute otherwise than PEFT is refused by name, and so is a key it does not know, unless it is off: whether an
//! unknown setting changes the result cannot be known.

mod few;
mod keys;
mod patterns;

use serde::{Deserialize, Serialize};

use super::AdapterError;

pub use patterns::Patterns;

/// PEFT's settings. Keys that do not change the arithmetic of inference are kept out and ignored when read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterConfig {
    /// Always `LORA`.
    pub peft_type: String,
    /// Always `CAUSAL_LM` when written here.
    #[serde(default)]
    pub task_type: Option<String>,
    /// Name or path of the base model, for people.
    #[serde(default)]
    pub base_model_name_or_path: Option<String>,
    /// BLAKE3 of the base model's file, hex: our addition; PEFT ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tributary_base: Option<String>,
    /// Rank.
    pub r: usize,
    /// Numerator of the scale.
    pub lora_alpha: f64,
    /// Scale is alpha / sqrt(rank) instead of alpha / rank.
    #[serde(default)]
    pub use_rslora: bool,
    /// Linear layers that have matrices.
    #[serde(default)]
    pub target_modules: Targets,
    /// Layers that have matrices, if not all.
    #[serde(default)]
    pub layers_to_transform: Option<Layers>,
    /// Rank of single modules, by the end of their path.
    #[serde(default)]
    pub rank_pattern: Patterns<usize>,
    /// Alpha of single modules, by the end of their path.
    #[serde(default)]
    pub alpha_pattern: Patterns<f64>,
    /// Refused unless `none`.
    #[serde(default = "no_bias")]
    pub bias: String,
    /// Refused if set.
    #[serde(default)]
    pub use_dora: bool,
    /// Refused if set.
    #[serde(default)]
    pub fan_in_fan_out: bool,
    /// Refused unless empty.
    #[serde(default, deserialize_with = "few::names")]
    pub modules_to_save: Option<Vec<String>>,
    /// True in files for inference, as PEFT writes them.
    #[serde(default)]
    pub inference_mode: bool,
    /// Dropout of training; has no meaning in inference.
    #[serde(default)]
    pub lora_dropout: f64,
}

/// PEFT writes one pattern or a list of names.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Targets {
    /// Names of modules.
    Names(Vec<String>),
    /// A pattern, e.g. `all-linear`; the tensors say which modules it meant.
    Pattern(String),
}

impl Default for Targets {
    fn default() -> Self {
        Self::Names(Vec::new())
    }
}

/// One layer or a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Layers {
    /// A list of layer numbers.
    Many(Vec<usize>),
    /// One layer number.
    One(usize),
}

fn no_bias() -> String {
    "none".to_owned()
}

impl AdapterConfig {
    /// Parses and checks settings.
    ///
    /// # Errors
    /// [`AdapterError::Config`] if this is not PEFT's JSON, [`AdapterError::Unsupported`] if it asks for something
    /// this engine would compute wrongly.
    pub fn parse(bytes: &[u8]) -> Result<Self, AdapterError> {
        let broken = |error: serde_json::Error| AdapterError::Config(error.to_string());
        // Before the rest, so that what is not supported is named even where it changes the form of other settings.
        let refused = serde_json::from_slice::<keys::Refused>(bytes).map_err(broken)?;
        let config: Self = serde_json::from_slice(bytes).map_err(broken)?;
        config.check()?;
        if let Some((feature, fix)) = refused.0 {
            return Err(AdapterError::Unsupported { feature, fix });
        }
        Ok(config)
    }

    fn check(&self) -> Result<(), AdapterError> {
        let refuse = |feature: String, fix| Err(AdapterError::Unsupported { feature, fix });
        if self.peft_type != "LORA" {
            return refuse(format!("peft_type {:?}", self.peft_type), "train it as LORA");
        }
        if self.use_dora {
            return refuse("DoRA (use_dora)".to_owned(), "train it with use_dora = false");
        }
        if let Some(modules) = self.modules_to_save.as_ref().filter(|modules| !modules.is_empty()) {
            return refuse(format!("modules_to_save {modules:?}"), "train it without fully trained modules");
        }
        if self.bias != "none" {
            return refuse(format!("bias {:?}", self.bias), "train it with bias = \"none\"");
        }
        if self.fan_in_fan_out {
            return refuse("fan_in_fan_out".to_owned(), "store its matrices the usual way round");
        }
        let patterns = self.rank_pattern.keys().chain(self.alpha_pattern.keys());
        if let Some(pattern) = patterns.into_iter().find(|key| !is_plain(key)) {
            return refuse(format!("the pattern {pattern:?}"), "name modules in full instead of by regular expression");
        }
        let alphas = self.alpha_pattern.values().chain([&self.lora_alpha]);
        if let Some(alpha) = alphas.into_iter().find(|alpha| !alpha.is_finite()) {
            return Err(AdapterError::Config(format!("alpha is {alpha}, expected a finite number")));
        }
        let ranks = self.rank_pattern.values().chain([&self.r]);
        if let Some(rank) = ranks.into_iter().find(|rank| !(1..=super::RANK_MAX).contains(*rank)) {
            return Err(AdapterError::Config(format!("rank is {rank}, expected 1 to {}", super::RANK_MAX)));
        }
        if let Some(base) = &self.tributary_base
            && self.base_hash().is_none()
        {
            return Err(AdapterError::Config(format!("tributary_base is {base:?}, expected 64 hex digits")));
        }
        Ok(())
    }

    /// The base's hash, if the settings record one.
    #[must_use]
    pub fn base_hash(&self) -> Option<[u8; 32]> {
        let mut hash = [0; 32];
        hex::decode_to_slice(self.tributary_base.as_ref()?, &mut hash).ok()?;
        Some(hash)
    }

    /// Rank of a module, by its path.
    #[must_use]
    pub fn rank(&self, module: &str) -> usize {
        self.rank_pattern.of(module).copied().unwrap_or(self.r)
    }

    /// Factor of B A for a module, by its path.
    #[must_use]
    pub fn scale(&self, module: &str) -> f64 {
        let alpha = self.alpha_pattern.of(module).copied().unwrap_or(self.lora_alpha);
        let rank = crate::model::f64_from(self.rank(module));
        if self.use_rslora { alpha / rank.sqrt() } else { alpha / rank }
    }
}

/// PEFT matches its pattern keys as regular expressions against the end of a path; plain names mean themselves.
fn is_plain(key: &str) -> bool {
    key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
}
