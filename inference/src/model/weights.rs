//! Weights in f32, decoded from what the model's files store, one layer at a time.

use candle_core::{Device, Tensor};

use super::files::ModelFiles;
use super::stored::{StoredFrame, StoredLayer, StoredMatrix};
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
    /// Radians per token of each pair of a head.
    frequencies: Vec<f64>,
}

/// Weights of one layer; linear ones are `[out, in]`, in the order of [`Site::ALL`].
#[derive(Debug)]
pub(crate) struct Layer {
    linears: [Tensor; 7],
    /// Of q, k and v, where the family has them.
    biases: Option<[Tensor; 3]>,
    /// Of the heads of q and of k, where the family has them.
    pub(crate) head_norms: Option<[Tensor; 2]>,
    pub(crate) attention_norm: Tensor,
    pub(crate) feed_forward_norm: Tensor,
}

impl Layer {
    pub(crate) fn linear(&self, site: Site) -> &Tensor {
        &self.linears[site as usize]
    }

    /// What is added to the product of `site`.
    pub(crate) fn bias(&self, site: Site) -> Option<&Tensor> {
        self.biases.as_ref()?.get(site as usize)
    }

    fn new(stored: &StoredLayer) -> candle_core::Result<Self> {
        let linear = |site| matrix(stored.linear(site));
        let [q, k, v, o, gate, up, down] = Site::ALL;
        let biases = match &stored.extras.biases {
            Some([q, k, v]) => Some([vector(q)?, vector(k)?, vector(v)?]),
            None => None,
        };
        let head_norms = match &stored.extras.head_norms {
            Some([q, k]) => Some([vector(q)?, vector(k)?]),
            None => None,
        };
        Ok(Self {
            linears: [linear(q)?, linear(k)?, linear(v)?, linear(o)?, linear(gate)?, linear(up)?, linear(down)?],
            biases,
            head_norms,
            attention_norm: vector(&stored.attention_norm)?,
            feed_forward_norm: vector(&stored.feed_forward_norm)?,
        })
    }
}

impl Weights {
    /// Reads every tensor once; the files were checked against `config`.
    pub(crate) fn load(files: &ModelFiles, config: &Config) -> Result<Self, ModelError> {
        let frame = StoredFrame::read(files, config)?;
        let embedding = matrix(&frame.embedding)?;
        let untied_head = frame.head.as_ref().map(matrix).transpose()?;
        let (norm, frequencies) = (vector(&frame.norm)?, frame.frequencies.clone());
        drop(frame);
        let mut layers = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            layers.push(Layer::new(&StoredLayer::read(files, config, index)?)?);
        }
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

fn matrix(stored: &StoredMatrix) -> candle_core::Result<Tensor> {
    Tensor::from_vec(stored.dequantise(), (stored.rows, stored.columns), &Device::Cpu)
}

fn vector(values: &[f32]) -> candle_core::Result<Tensor> {
    Tensor::from_slice(values, values.len(), &Device::Cpu)
}
