//! llama.cpp's file of an adapter: `blk.N.attn_q.weight.lora_a` and `.lora_b`, one alpha for all.
//!
//! As llama.cpp applies it: the scale is alpha / rank of the tensor, and 1 where alpha is absent or 0. Its converter permutes the rows of q
//! and k of the llama family, in B as in the base; they are put back. Settings other than those read here change what is computed
//! and are refused by name. `tributary.base` is our addition: BLAKE3 of the base's file, hex.

use crate::gguf::{GgufError, Header, Value};
use crate::model::{Config, Family, Site};

use super::AdapterError;
use super::matched::{Halves, Matched, Stored, check_rank, join};

const ALPHA: &str = "adapter.lora.alpha";
const BASE: &str = "tributary.base";
/// Settings of adapters that are read, or are words for a client to use.
const KNOWN: [&str; 4] = ["adapter.type", ALPHA, "adapter.lora.task_name", "adapter.lora.prompt_prefix"];
/// Bytes of the head: a model of 128 layers has 1,800 tensors of about 80 bytes each. Parsed it takes seven times as much at most.
const HEAD_BYTES_MAX: usize = 8 << 20;
/// Endings of the two halves' names.
const HALVES: [&str; 2] = [".lora_a", ".lora_b"];

/// A parsed head.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GgufAdapter {
    header: Header,
    alpha: f64,
    base: Option<[u8; 32]>,
}

impl GgufAdapter {
    /// Parses the head of a whole file and checks what can be checked without a model.
    pub(super) fn parse(file: &[u8]) -> Result<Self, AdapterError> {
        let head = &file[..file.len().min(HEAD_BYTES_MAX)];
        let header = Header::parse(head, file.len() as u64).map_err(|error| match error {
            GgufError::Io { .. } => AdapterError::TooLarge { path: "the head of the GGUF file".into(), max: HEAD_BYTES_MAX as u64 },
            error => error.into(),
        })?;
        let refuse = |feature: String, fix| Err(AdapterError::Unsupported { feature, fix });
        for (key, expected, fix) in [
            ("general.type", "adapter", "give an adapter's file; a model is loaded as a model"),
            ("adapter.type", "lora", "train it as a LoRA"),
        ] {
            let got = header.text(key)?;
            if got != expected {
                return refuse(format!("{key} {got:?}"), fix);
            }
        }
        if let Some(key) = header.metadata.keys().find(|key| key.starts_with("adapter.") && !KNOWN.contains(&key.as_str())) {
            let fix =
                if key.contains("alora") { "train it as a LoRA that applies to every token" } else { "convert it without this setting" };
            return refuse(key.clone(), fix);
        }
        let alpha = if header.metadata.contains_key(ALPHA) { header.float(ALPHA)? } else { 0.0 };
        if !alpha.is_finite() {
            return Err(AdapterError::Config(format!("alpha is {alpha}, expected a finite number")));
        }
        let base = match header.metadata.get(BASE) {
            None => None,
            Some(Value::Text(text)) => {
                let mut hash = [0; 32];
                let wrong = |_| AdapterError::Config(format!("{BASE} is {text:?}, expected 64 hex digits"));
                hex::decode_to_slice(text, &mut hash).map_err(wrong)?;
                Some(hash)
            }
            Some(_) => return Err(AdapterError::Config(format!("{BASE} is not a string, expected 64 hex digits"))),
        };
        Ok(Self { header, alpha, base })
    }

    pub(super) fn base_hash(&self) -> Option<[u8; 32]> {
        self.base
    }

    pub(super) fn is_empty(&self) -> bool {
        self.header.tensors.is_empty()
    }

    /// All pairs of matrices in the file the head was parsed from.
    pub(super) fn matched<'a>(&self, file: &'a [u8], model: &Config) -> Result<Vec<Matched<'a>>, AdapterError> {
        let family = self.header.text("general.architecture")?;
        if family != model.family.name() {
            return Err(AdapterError::Unsupported { feature: format!("the architecture {family:?}"), fix: "use it with its own base" });
        }
        let mut halves = Halves::new();
        for (name, info) in &self.header.tensors {
            let (layer, site, half) = place(name, model)?;
            let number = |value: u64| usize::try_from(value).ok();
            let bytes = number(info.offset).and_then(|offset| file.get(offset..)?.get(..number(info.size_bytes)?));
            let bytes = bytes.ok_or_else(|| AdapterError::Weights(format!("tensor {name} is cut off")))?;
            let shape = info.shape.iter().map(|side| number(*side).unwrap_or(usize::MAX)).collect();
            halves.entry((layer, site)).or_default()[half] = Some(Stored { name: name.clone(), kind: info.kind, shape, bytes });
        }
        let pairs = halves.into_iter().map(|((layer, site), halves)| {
            let [a, b] = join(halves, |half| format!("blk.{layer}.{}.weight{}", site.gguf_module(), HALVES[half]))?;
            let rank = a.shape.first().copied().unwrap_or(0);
            check_rank(rank, &a.name)?;
            let scale = if self.alpha == 0.0 { 1.0 } else { self.alpha / crate::model::f64_from(rank) };
            let matched = Matched::new((layer, site), rank, scale, a, b, model)?;
            Ok(if model.family == Family::Llama { matched.with_pairs(model.head_dim) } else { matched })
        });
        pairs.collect()
    }
}

/// Where a tensor belongs; half 0 is A, 1 is B.
fn place(name: &str, config: &Config) -> Result<(usize, Site, usize), AdapterError> {
    let unexpected = |reason: &str| AdapterError::UnexpectedTensor { tensor: name.to_owned(), reason: reason.to_owned() };
    let halves = HALVES.iter().enumerate().find_map(|(half, ending)| Some((half, name.strip_suffix(ending)?)));
    let (half, path) = halves.ok_or_else(|| unexpected("expected a name that ends in .lora_a or .lora_b"))?;
    let parts = path.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    let (number, module) = parts.ok_or_else(|| unexpected("not a linear layer of this graph"))?;
    let layer = number.parse::<usize>().ok().filter(|layer| layer.to_string() == number);
    let layer = layer.ok_or_else(|| unexpected("the layer is not a number"))?;
    if layer >= config.layers {
        return Err(unexpected(&format!("the model has {} layers", config.layers)));
    }
    let site = Site::ALL.into_iter().find(|site| module.strip_suffix(".weight") == Some(site.gguf_module()));
    Ok((layer, site.ok_or_else(|| unexpected("not a linear layer of this graph"))?, half))
}
