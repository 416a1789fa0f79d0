//! Weights in f32, taken from a GGUF file tensor by tensor.

use candle_core::{Device, Tensor};

use crate::gguf::GgufFile;

use super::{Config, ModelError, Site, f64_from};

/// All weights of a model.
#[derive(Debug)]
pub(crate) struct Weights {
    /// `[vocabulary, hidden]`.
    pub(crate) embedding: Tensor,
    pub(crate) layers: Vec<Layer>,
    /// `[hidden]`.
    pub(crate) norm: Tensor,
    /// `[vocabulary, hidden]`, unless it is the embedding.
    untied_head: Option<Tensor>,
    /// Inverse frequencies of the rotation, `head_dim / 2` of them.
    frequencies: Vec<f64>,
}

/// Weights of one layer; linear ones are `[out, in]`, in the order of [`Site::ALL`].
#[derive(Debug)]
pub(crate) struct Layer {
    linears: [Tensor; 7],
    pub(crate) attention_norm: Tensor,
    pub(crate) feed_forward_norm: Tensor,
}

impl Layer {
    pub(crate) fn linear(&self, site: Site) -> &Tensor {
        &self.linears[site as usize]
    }
}

impl Weights {
    /// Reads every tensor once; refuses a file that holds a tensor the graph would not use.
    pub(crate) fn load(file: &GgufFile, config: &Config) -> Result<Self, ModelError> {
        let hidden = config.hidden;
        let embedding = matrix(file, "token_embd.weight", config.vocabulary, hidden)?;
        let mut layers = Vec::with_capacity(config.layers.min(64));
        for index in 0..config.layers {
            layers.push(load_layer(file, config, index)?);
        }
        let tied = !file.header().tensors.contains_key("output.weight");
        let untied_head = if tied { None } else { Some(matrix(file, "output.weight", config.vocabulary, hidden)?) };
        let norm = vector(file, "output_norm.weight", hidden)?;
        refuse_unused(file, config.layers)?;
        let half = config.head_dim / 2;
        let frequencies = (0..half).map(|i| config.rope_base.powf(-f64_from(i) / f64_from(half))).collect();
        Ok(Self { embedding, layers, norm, untied_head, frequencies })
    }

    /// The output head, `[vocabulary, hidden]`.
    pub(crate) fn head(&self) -> &Tensor {
        self.untied_head.as_ref().unwrap_or(&self.embedding)
    }

    /// Rows of the embedding: `[tokens, hidden]`.
    pub(crate) fn embed(&self, tokens: &[u32], config: &Config) -> Result<Tensor, ModelError> {
        let vocabulary = config.vocabulary;
        if let Some(&token) = tokens.iter().find(|&&token| usize::try_from(token).is_ok_and(|t| t >= vocabulary)) {
            return Err(ModelError::UnknownToken { token, vocabulary });
        }
        let ids = Tensor::new(tokens, &Device::Cpu)?;
        Ok(self.embedding.index_select(&ids, 0)?)
    }

    /// Cosines and sines of positions `start..start + count`, each `[count, head_dim / 2]`; angles are computed in f64.
    pub(crate) fn rotation(&self, start: usize, count: usize) -> candle_core::Result<(Tensor, Tensor)> {
        let mut cosines = Vec::with_capacity(count * self.frequencies.len());
        let mut sines = Vec::with_capacity(count * self.frequencies.len());
        for position in start..start + count {
            for frequency in &self.frequencies {
                let (sine, cosine) = (f64_from(position) * frequency).sin_cos();
                #[expect(clippy::cast_possible_truncation, reason = "the graph computes in f32")]
                let (sine, cosine) = (sine as f32, cosine as f32);
                sines.push(sine);
                cosines.push(cosine);
            }
        }
        let shape = (count, self.frequencies.len());
        Ok((Tensor::from_vec(cosines, shape, &Device::Cpu)?, Tensor::from_vec(sines, shape, &Device::Cpu)?))
    }
}

fn gguf_name(site: Site) -> &'static str {
    match site {
        Site::Q => "attn_q",
        Site::K => "attn_k",
        Site::V => "attn_v",
        Site::O => "attn_output",
        Site::Gate => "ffn_gate",
        Site::Up => "ffn_up",
        Site::Down => "ffn_down",
    }
}

fn load_layer(file: &GgufFile, config: &Config, index: usize) -> Result<Layer, ModelError> {
    let linear = |site: Site| -> Result<Tensor, ModelError> {
        let (rows, columns) = site.shape(config);
        let weight = matrix(file, &format!("blk.{index}.{}.weight", gguf_name(site)), rows, columns)?;
        match site {
            Site::Q => halves(&weight, config.heads, config.head_dim),
            Site::K => halves(&weight, config.kv_heads, config.head_dim),
            _ => Ok(weight),
        }
    };
    let [q, k, v, o, gate, up, down] = Site::ALL;
    Ok(Layer {
        linears: [linear(q)?, linear(k)?, linear(v)?, linear(o)?, linear(gate)?, linear(up)?, linear(down)?],
        attention_norm: vector(file, &format!("blk.{index}.attn_norm.weight"), config.hidden)?,
        feed_forward_norm: vector(file, &format!("blk.{index}.ffn_norm.weight"), config.hidden)?,
    })
}

/// GGUF stores the two halves of a rotated head interleaved (rows 0, 32, 1, 33 ... of a head of 64): puts them back.
fn halves(weight: &Tensor, heads: usize, head_dim: usize) -> Result<Tensor, ModelError> {
    let columns = weight.dim(1)?;
    Ok(weight.reshape((heads, head_dim / 2, 2, columns))?.transpose(1, 2)?.contiguous()?.reshape((heads * head_dim, columns))?)
}

fn matrix(file: &GgufFile, name: &str, rows: usize, columns: usize) -> Result<Tensor, ModelError> {
    let values = file.tensor(name, &[rows as u64, columns as u64])?;
    Ok(Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
}

fn vector(file: &GgufFile, name: &str, len: usize) -> Result<Tensor, ModelError> {
    Ok(Tensor::from_vec(file.tensor(name, &[len as u64])?, len, &Device::Cpu)?)
}

fn refuse_unused(file: &GgufFile, layers: usize) -> Result<(), ModelError> {
    let known = |name: &str| {
        if matches!(name, "token_embd.weight" | "output.weight" | "output_norm.weight") {
            return true;
        }
        let mut parts = name.split('.');
        let (Some("blk"), Some(index), Some(part), Some("weight"), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        let named = part == "attn_norm" || part == "ffn_norm" || Site::ALL.iter().any(|s| gguf_name(*s) == part);
        named && index.parse::<usize>().is_ok_and(|index| index < layers)
    };
    match file.header().tensors.keys().find(|name| !known(name)) {
        Some(tensor) => Err(ModelError::UnexpectedTensor { tensor: tensor.clone() }),
        None => Ok(()),
    }
}
