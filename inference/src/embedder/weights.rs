//! An encoder's tensors: which there must be, checked from the headers alone, then read one by one.

use candle_core::{Device, Tensor};

use super::config::Config;
use crate::model::ModelError;
use crate::model::files::Folder;

/// A product with what is added to it.
#[derive(Debug)]
pub(super) struct Linear {
    /// `[out, in]`.
    pub(super) weight: Tensor,
    /// `[out]`.
    pub(super) bias: Vec<f32>,
}

/// Weight and bias of a `LayerNorm`, each `[hidden]`.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

/// One layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) output: Linear,
    pub(super) attention_norm: Norm,
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) norm: Norm,
}

/// All of it, in f32.
#[derive(Debug)]
pub(super) struct Weights {
    /// `[vocabulary, hidden]`.
    pub(super) words: Vec<f32>,
    /// `[positions, hidden]`, with the first segment's row added to each: a text has no other.
    pub(super) positions: Vec<f32>,
    pub(super) norm: Norm,
    pub(super) layers: Vec<Layer>,
}

const WORDS: &str = "embeddings.word_embeddings.weight";
const POSITIONS: &str = "embeddings.position_embeddings.weight";
const KINDS: &str = "embeddings.token_type_embeddings.weight";
const NORM: &str = "embeddings.LayerNorm";

/// Tensors that published checkpoints carry and vectors do not need: a head that was trained with them, and the numbers 0, 1, 2...
fn is_passed_over(name: &str) -> bool {
    name.starts_with("pooler.dense.") || name == "embeddings.position_ids"
}

fn within(layer: usize, part: &str) -> String {
    format!("encoder.layer.{layer}.{part}")
}

/// Products of a layer as they are published, with their sides `[out, in]`.
fn products(config: &Config) -> [(&'static str, [usize; 2]); 6] {
    let (hidden, wide) = (config.hidden, config.feed_forward);
    [
        ("attention.self.query", [hidden, hidden]),
        ("attention.self.key", [hidden, hidden]),
        ("attention.self.value", [hidden, hidden]),
        ("attention.output.dense", [hidden, hidden]),
        ("intermediate.dense", [wide, hidden]),
        ("output.dense", [hidden, wide]),
    ]
}

const NORMS: [&str; 2] = ["attention.output.LayerNorm", "output.LayerNorm"];

/// Every tensor with its shape.
fn expected(config: &Config) -> impl Iterator<Item = (String, Vec<usize>)> {
    let Config { hidden, vocabulary, positions, kinds, layers, .. } = *config;
    let pair = |name: &str, shape: Vec<usize>| {
        let bias = vec![shape[0]];
        [(format!("{name}.weight"), shape), (format!("{name}.bias"), bias)]
    };
    let frame = [(WORDS, vocabulary), (POSITIONS, positions), (KINDS, kinds)].map(|(name, rows)| (name.to_owned(), vec![rows, hidden]));
    let products = products(config);
    let layer = move |layer: usize| {
        let products = products.into_iter().flat_map(move |(part, shape)| pair(&within(layer, part), shape.to_vec()));
        products.chain(NORMS.into_iter().flat_map(move |part| pair(&within(layer, part), vec![hidden])))
    };
    frame.into_iter().chain(pair(NORM, vec![hidden])).chain((0..layers).flat_map(layer))
}

fn wide(shape: &[usize]) -> Vec<u64> {
    shape.iter().map(|side| u64::try_from(*side).unwrap_or(u64::MAX)).collect()
}

/// Checks from the headers that every tensor is there with its shape, and none that the graph would ignore. Ends at the first that is not.
///
/// # Errors
/// [`ModelError::Files`] or [`ModelError::UnexpectedTensor`].
pub(super) fn check(folder: &Folder, config: &Config) -> Result<(), ModelError> {
    let mut known = std::collections::BTreeSet::new();
    for (name, shape) in expected(config) {
        folder.shaped(&name, &wide(&shape))?;
        known.insert(name);
    }
    let unexpected = folder.names().find(|name| !known.contains(*name) && !is_passed_over(name));
    unexpected.map_or(Ok(()), |tensor| Err(ModelError::UnexpectedTensor { tensor: tensor.to_owned() }))
}

impl Weights {
    /// Reads all tensors; after [`check`], no more than the file has is allocated, twice that where it holds halves.
    ///
    /// # Errors
    /// [`ModelError::Files`], [`ModelError::Config`] for a tensor with a number that is not finite, or [`ModelError::Tensor`].
    pub(super) fn read(folder: &Folder, config: &Config) -> Result<Self, ModelError> {
        let hidden = config.hidden;
        let values = |name: &str, shape: &[usize]| values(folder, name, shape);
        let norm = |name: &str| -> Result<Norm, ModelError> {
            Ok(Norm { weight: values(&format!("{name}.weight"), &[hidden])?, bias: values(&format!("{name}.bias"), &[hidden])? })
        };
        let linear = |layer: usize, product: usize| -> Result<Linear, ModelError> {
            let (part, [out, columns]) = products(config)[product];
            let name = within(layer, part);
            let weight = Tensor::from_vec(values(&format!("{name}.weight"), &[out, columns])?, (out, columns), &Device::Cpu)?;
            Ok(Linear { weight, bias: values(&format!("{name}.bias"), &[out])? })
        };
        let layer = |layer: usize| -> Result<Layer, ModelError> {
            Ok(Layer {
                query: linear(layer, 0)?,
                key: linear(layer, 1)?,
                value: linear(layer, 2)?,
                output: linear(layer, 3)?,
                attention_norm: norm(&within(layer, NORMS[0]))?,
                up: linear(layer, 4)?,
                down: linear(layer, 5)?,
                norm: norm(&within(layer, NORMS[1]))?,
            })
        };
        let mut positions = values(POSITIONS, &[config.positions, hidden])?;
        let kinds = values(KINDS, &[config.kinds, hidden])?;
        for row in positions.chunks_exact_mut(hidden) {
            row.iter_mut().zip(&kinds).for_each(|(value, kind)| *value += kind);
        }
        Ok(Self {
            words: values(WORDS, &[config.vocabulary, hidden])?,
            positions,
            norm: norm(NORM)?,
            layers: (0..config.layers).map(layer).collect::<Result<_, _>>()?,
        })
    }
}

fn values(folder: &Folder, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
    let (kind, bytes) = folder.bytes(name, &wide(shape))?;
    let values = kind.dequantise(&bytes);
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(ModelError::Config {
            key: format!("number {at} of tensor {name}"),
            value: values[at].to_string(),
            expected: "finite numbers: download the file again",
        }),
        None => Ok(values),
    }
}
