//! Which keys of the settings are known, and which refused, without keeping a value of them.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Keys of a file: PEFT 0.21 writes about fifty.
const KEYS_MAX: usize = 512;

/// Keys that are read, or do not change what inference computes: how matrices were initialised beside an unchanged base, how training
/// went, names for people, and what has a meaning only with a setting that is refused. From PEFT 0.21's `LoraConfig`.
const HARMLESS: [&str; 33] = [
    "alpha_pattern",
    "auto_mapping",
    "base_model_class",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "modules_to_save",
    "parent_library",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "tributary_base",
    "use_dora",
    "use_rslora",
    "velora_config",
];

/// Keys that change what is computed, if they are on, and what to do about it.
const REFUSED: [(&str, &str); 12] = [
    ("lora_bias", "train it with lora_bias = false"),
    ("target_parameters", "train it on target_modules alone"),
    ("trainable_token_indices", "train it without new tokens, or merge it into a model"),
    ("layer_replication", "train it on the model's own layers, or merge it into a model"),
    ("alora_invocation_tokens", "train it as a LoRA that applies to every token"),
    ("use_qalora", "train it with use_qalora = false"),
    ("use_bdlora", "train it without use_bdlora"),
    ("arrow_config", "name the adapters and scales in the request instead of routing by Arrow"),
    ("kasa_config", "merge it into a model, or train it as a plain LoRA"),
    ("monteclora_config", "save its mean as a plain LoRA"),
    ("megatron_config", "save it for the model without Megatron's layers"),
    ("enable_lora", "split its merged matrices by module"),
];

/// Ways of initialising that leave the base as it is. The others (`pissa`, `olora`, `corda`, `loftq`, `lora_ga`) take something out of it
/// that the adapter holds, so the adapter fits only that changed base.
const PLAIN_STARTS: [&str; 4] = ["gaussian", "eva", "orthogonal", "mica"];

/// The first setting that cannot be applied, and what to do.
pub(super) struct Refused(pub(super) Option<(String, &'static str)>);

impl<'de> Deserialize<'de> for Refused {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Refused;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object of at most {KEYS_MAX} settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Refused, A::Error> {
        let mut refused = None;
        for _ in 0..=KEYS_MAX {
            let Some(key) = map.next_key::<String>()? else { return Ok(Refused(refused)) };
            let found = if key == "init_lora_weights" {
                start(map.next_value()?)
            } else if let Some((key, fix)) = REFUSED.iter().find(|(name, _)| *name == key) {
                (map.next_value::<Shape>()? != Shape::Off).then(|| ((*key).to_owned(), *fix))
            } else if HARMLESS.contains(&key.as_str()) {
                map.next_value::<IgnoredAny>()?;
                None
            } else {
                let is_on = map.next_value::<Shape>()? != Shape::Off;
                let name: String = key.chars().take(80).collect();
                is_on.then(|| (format!("the unknown setting {name:?}"), "remove it if it does not change what is computed"))
            };
            refused = refused.or(found);
        }
        Err(serde::de::Error::invalid_length(KEYS_MAX + 1, &self))
    }
}

fn start(shape: Shape) -> Option<(String, &'static str)> {
    const FIX: &str = "save it with path_initial_model_for_weight_conversion, which makes it a plain LoRA of the unchanged base";
    match shape {
        Shape::Off | Shape::True => None,
        Shape::Text(name) if PLAIN_STARTS.contains(&name.to_lowercase().as_str()) => None,
        Shape::Text(name) => Some((format!("init_lora_weights {name:?}"), FIX)),
        Shape::Other => Some(("init_lora_weights of an unknown form".to_owned(), FIX)),
    }
}

/// What a value says, without keeping more of it than a short text.
#[derive(Debug, PartialEq, Eq)]
enum Shape {
    /// Null, false, zero, or empty.
    Off,
    True,
    /// Its first characters.
    Text(String),
    Other,
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Look)
    }
}

struct Look;

impl<'de> Visitor<'de> for Look {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Off)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Shape, E> {
        Ok(if value { Shape::True } else { Shape::Off })
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shape, E> {
        Ok(if value == 0 { Shape::Off } else { Shape::Other })
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shape, E> {
        Ok(if value == 0 { Shape::Off } else { Shape::Other })
    }

    fn visit_f64<E>(self, value: f64) -> Result<Shape, E> {
        Ok(if value == 0.0 { Shape::Off } else { Shape::Other })
    }

    fn visit_str<E>(self, value: &str) -> Result<Shape, E> {
        Ok(if value.is_empty() { Shape::Off } else { Shape::Text(value.chars().take(80).collect()) })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        let mut shape = Shape::Off;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            shape = Shape::Other;
        }
        Ok(shape)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut shape = Shape::Off;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            shape = Shape::Other;
        }
        Ok(shape)
    }
}
