//! PEFT's file of matrices: names, shapes and where they belong.

use safetensors::{Dtype, SafeTensors};

use crate::gguf::TensorType;
use crate::model::{Config, Site};

use super::matched::{Halves, Matched, Stored, join};
use super::{AdapterConfig, AdapterError};

/// What PEFT puts before every module's path.
const PREFIX: &str = "base_model.model.";
/// Bytes of the header: 14,336 matrices of the deepest model, at 140 bytes each. The crate takes a hundred megabytes, and holds thirty times as much of a header that
/// lists nothing but numbers while it looks for names.
const HEADER_BYTES_MAX: u64 = 2 << 20;

/// The tensors of a file.
pub(super) fn tensors(weights: &[u8]) -> Result<SafeTensors<'_>, AdapterError> {
    let header = weights.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    // What the file does not hold is the crate's to refuse.
    if header > HEADER_BYTES_MAX && header <= weights.len() as u64 {
        return Err(AdapterError::Weights(format!(
            "its header has {header} bytes, at most {HEADER_BYTES_MAX} are read: save it anew with PEFT"
        )));
    }
    SafeTensors::deserialize(weights).map_err(|error| AdapterError::Weights(error.to_string()))
}

/// All pairs of matrices, of the shapes that settings and model imply.
pub(super) fn matched<'a>(config: &AdapterConfig, weights: &'a [u8], model: &Config) -> Result<Vec<Matched<'a>>, AdapterError> {
    let mut halves = Halves::new();
    for (name, view) in tensors(weights)?.iter() {
        let (layer, site, half) = place(name, model)?;
        let kind = match view.dtype() {
            Dtype::F32 => TensorType::F32,
            Dtype::F16 => TensorType::F16,
            Dtype::BF16 => TensorType::BF16,
            other => {
                return Err(AdapterError::Unsupported {
                    feature: format!("{other:?} in tensor {name}"),
                    fix: "store its matrices as F32, F16 or BF16",
                });
            }
        };
        let stored = Stored { name: name.to_owned(), kind, shape: view.shape().to_vec(), bytes: view.data() };
        halves.entry((layer, site)).or_default()[half] = Some(stored);
    }
    let halves = halves.into_iter().map(|((layer, site), halves)| {
        let module = module_path(layer, site);
        let [a, b] = join(halves, |half| tensor_name(layer, site, ["lora_A", "lora_B"][half]))?;
        Matched::new((layer, site), config.rank(&module), config.scale(&module), a, b, model)
    });
    halves.collect()
}

/// Path of a module in PEFT's words: `model.layers.3.self_attn.q_proj`.
fn module_path(layer: usize, site: Site) -> String {
    format!("model.layers.{layer}.{}.{}", site.parent(), site.module())
}

/// Name of a matrix in PEFT's files; `half` is `lora_A` or `lora_B`.
pub(crate) fn tensor_name(layer: usize, site: Site, half: &str) -> String {
    format!("{PREFIX}{}.{half}.weight", module_path(layer, site))
}

/// Where a tensor belongs; half 0 is A, 1 is B.
fn place(name: &str, config: &Config) -> Result<(usize, Site, usize), AdapterError> {
    let unexpected = |reason: &str| AdapterError::UnexpectedTensor { tensor: name.to_owned(), reason: reason.to_owned() };
    let path = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.strip_prefix("model.layers."))
        .ok_or_else(|| unexpected("expected base_model.model.model.layers.N..."))?;
    let mut parts = path.split('.');
    let layer = parts.next().and_then(|part| part.parse::<usize>().ok().filter(|layer| layer.to_string() == part));
    let layer = layer.ok_or_else(|| unexpected("the layer is not a number"))?;
    if layer >= config.layers {
        return Err(unexpected(&format!("the model has {} layers", config.layers)));
    }
    let (parent, module) = (parts.next(), parts.next());
    let site = Site::ALL
        .into_iter()
        .find(|site| Some(site.parent()) == parent && Some(site.module()) == module)
        .ok_or_else(|| unexpected("not a linear layer of this graph"))?;
    let half = match (parts.next(), parts.next(), parts.next()) {
        (Some("lora_A"), Some("weight"), None) => 0,
        (Some("lora_B"), Some("weight"), None) => 1,
        _ => return Err(unexpected("expected lora_A.weight or lora_B.weight")),
    };
    Ok((layer, site, half))
}
