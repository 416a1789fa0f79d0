//! The matrices of an adapter, matched with a model.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::gguf::f16_to_f32;
use crate::model::{Config, ModelInfo, Site};

use super::{AdapterConfig, AdapterError, AdapterFiles, AdapterInfo};

/// Largest rank; PEFT's own examples stay at or below it.
pub const RANK_MAX: usize = 256;

/// What PEFT puts before every module's path.
const PREFIX: &str = "base_model.model.";

/// The two matrices of one linear layer.
#[derive(Debug, Clone)]
pub struct Pair {
    /// `[rank, in]`.
    a: Tensor,
    /// `[out, rank]`, already multiplied by the scale.
    b: Tensor,
}

impl Pair {
    /// s B (A x) for rows x: `[tokens, in]` to `[tokens, out]`.
    pub(crate) fn apply(&self, input: &Tensor) -> candle_core::Result<Tensor> {
        let shrunk = crate::model::linear::apply(input, &self.a)?;
        crate::model::linear::apply(&shrunk, &self.b)
    }

    /// The same for a single row.
    pub(crate) fn apply_row(&self, input: &[f32]) -> candle_core::Result<Vec<f32>> {
        let shrunk = crate::model::linear::apply_row(input, &self.a)?;
        crate::model::linear::apply_row(&shrunk, &self.b)
    }
}

/// An adapter that fits a model.
#[derive(Debug)]
pub struct Lora {
    /// By layer, then by site.
    pairs: Vec<[Option<Pair>; 7]>,
    info: AdapterInfo,
}

impl Lora {
    /// Matches an adapter with a model.
    ///
    /// # Errors
    /// [`AdapterError::OtherBase`] when the settings record another base; otherwise the error names the tensor.
    pub fn new(files: &AdapterFiles, model: &ModelInfo) -> Result<Self, AdapterError> {
        let config = &files.config;
        if let Some(base) = config.base_hash().filter(|base| *base != model.hash) {
            return Err(AdapterError::OtherBase { expected: hex::encode(base), got: hex::encode(model.hash) });
        }
        let tensors = SafeTensors::deserialize(files.weights()).map_err(|error| AdapterError::Weights(error.to_string()))?;
        let mut halves = Halves::new();
        for (name, view) in tensors.iter() {
            let place = place(name, &model.config)?;
            halves.entry((place.layer, place.site)).or_default()[place.half] = Some((name.to_owned(), view));
        }
        if halves.is_empty() {
            return Err(AdapterError::Weights("it holds no tensors".to_owned()));
        }
        let mut pairs = vec![[const { None }; 7]; model.config.layers];
        let mut rank = 0;
        let mut bytes = 0;
        for ((layer, site), [a, b]) in halves {
            let pair = pair(layer, site, a, b, config, &model.config)?;
            rank = rank.max(pair.a.dim(0)?);
            bytes += 4 * (pair.a.elem_count() + pair.b.elem_count()) as u64;
            pairs[layer][site as usize] = Some(pair);
        }
        let info = AdapterInfo { hash: files.hash(), rank, name: files.name.clone(), bytes };
        Ok(Self { pairs, info })
    }

    /// What others may know of it.
    #[must_use]
    pub fn info(&self) -> &AdapterInfo {
        &self.info
    }

    /// The matrices of a linear layer, if it has any.
    pub(crate) fn pair(&self, layer: usize, site: Site) -> Option<&Pair> {
        self.pairs.get(layer)?[site as usize].as_ref()
    }
}

/// Path of a module in PEFT's words: `model.layers.3.self_attn.q_proj`.
fn module_path(layer: usize, site: Site) -> String {
    format!("model.layers.{layer}.{}.{}", site.parent(), site.module())
}

/// Name of a matrix in PEFT's files; `half` is `lora_A` or `lora_B`.
pub(crate) fn tensor_name(layer: usize, site: Site, half: &str) -> String {
    format!("{PREFIX}{}.{half}.weight", module_path(layer, site))
}

type Half<'data> = Option<(String, TensorView<'data>)>;
type Halves<'data> = BTreeMap<(usize, Site), [Half<'data>; 2]>;

/// Where a tensor belongs; half 0 is A, 1 is B.
struct Place {
    layer: usize,
    site: Site,
    half: usize,
}

fn place(name: &str, config: &Config) -> Result<Place, AdapterError> {
    let unexpected = |reason: &str| AdapterError::UnexpectedTensor { tensor: name.to_owned(), reason: reason.to_owned() };
    let path = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.strip_prefix("model.layers."))
        .ok_or_else(|| unexpected("expected base_model.model.model.layers.N..."))?;
    let mut parts = path.split('.');
    let layer = parts.next().and_then(|part| part.parse::<usize>().ok());
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
    Ok(Place { layer, site, half })
}

fn pair(layer: usize, site: Site, a: Half<'_>, b: Half<'_>, config: &AdapterConfig, model: &Config) -> Result<Pair, AdapterError> {
    let module = module_path(layer, site);
    let missing = |half| AdapterError::MissingTensor { tensor: tensor_name(layer, site, half) };
    let a = a.ok_or_else(|| missing("lora_A"))?;
    let b = b.ok_or_else(|| missing("lora_B"))?;
    let rank = config.rank(&module);
    let (out, input) = site.shape(model);
    let a = matrix(&a, rank, input)?;
    let b = matrix(&b, out, rank)?;
    Ok(Pair { a, b: (b * config.scale(&module))? })
}

fn matrix((name, view): &(String, TensorView<'_>), rows: usize, columns: usize) -> Result<Tensor, AdapterError> {
    if view.shape() != [rows, columns] {
        return Err(AdapterError::WrongShape { tensor: name.clone(), expected: vec![rows, columns], got: view.shape().to_vec() });
    }
    let values = floats(name, view)?;
    if values.iter().any(|value| !value.is_finite()) {
        return Err(AdapterError::NotFinite { tensor: name.clone() });
    }
    Ok(Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
}

fn floats(name: &str, view: &TensorView<'_>) -> Result<Vec<f32>, AdapterError> {
    let data = view.data();
    let halves = || data.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b));
    match view.dtype() {
        Dtype::F32 => Ok(data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        Dtype::F16 => Ok(halves().map(f16_to_f32).collect()),
        Dtype::BF16 => Ok(halves().map(|bits| f32::from_bits(u32::from(bits) << 16)).collect()),
        other => {
            Err(AdapterError::Unsupported { feature: format!("{other:?} in tensor {name}"), fix: "store its matrices as F32, F16 or BF16" })
        }
    }
}
