//! The tensors of the graph: their shapes, and their names in the two kinds of files.

use crate::model::{Config, Site};

/// A tensor of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// One row per token.
    Embedding,
    /// The norm after the last layer.
    Norm,
    /// One row per token again, where it is not the embedding.
    Head,
    /// A divisor for each rotated pair (GGUF only).
    Divisors,
    /// A part of a layer.
    Layer(usize, LayerPart),
}

/// A tensor of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerPart {
    /// Norm before attention.
    AttentionNorm,
    /// Norm before the feed-forward part.
    FeedForwardNorm,
    /// Norm of each query head.
    QNorm,
    /// Norm of each key head.
    KNorm,
    /// The matrix of a linear layer.
    Linear(Site),
    /// The bias of a linear layer.
    Bias(Site),
}

/// All tensors that a model of this configuration has.
pub(super) fn parts(config: &Config, is_tied: bool) -> impl Iterator<Item = Part> {
    let frame = [Part::Embedding, Part::Norm].into_iter().chain((!is_tied).then_some(Part::Head));
    let family = config.family;
    let of_layer = LayerPart::all().filter(move |part| part.belongs(family));
    frame.chain((0..config.layers).flat_map(move |index| of_layer.clone().map(move |part| Part::Layer(index, part))))
}

impl Part {
    /// Whether a model of this configuration may have it.
    pub(super) fn belongs(self, config: &Config) -> bool {
        match self {
            Self::Embedding | Self::Norm | Self::Head => true,
            Self::Divisors => false,
            Self::Layer(index, part) => index < config.layers && part.belongs(config.family),
        }
    }

    /// Rows first.
    pub(super) fn shape(self, config: &Config) -> Vec<u64> {
        let hidden = config.hidden as u64;
        match self {
            Self::Embedding | Self::Head => vec![config.vocabulary as u64, hidden],
            Self::Norm => vec![hidden],
            Self::Divisors => vec![config.head_dim as u64 / 2],
            Self::Layer(_, part) => match part {
                LayerPart::AttentionNorm | LayerPart::FeedForwardNorm => vec![hidden],
                LayerPart::QNorm | LayerPart::KNorm => vec![config.head_dim as u64],
                LayerPart::Linear(site) => {
                    let (rows, columns) = site.shape(config);
                    vec![rows as u64, columns as u64]
                }
                LayerPart::Bias(site) => vec![site.shape(config).0 as u64],
            },
        }
    }

    /// Its name in a GGUF file.
    pub(super) fn gguf_name(self) -> String {
        match self {
            Self::Embedding => "token_embd.weight".to_owned(),
            Self::Norm => "output_norm.weight".to_owned(),
            Self::Head => "output.weight".to_owned(),
            Self::Divisors => "rope_freqs.weight".to_owned(),
            Self::Layer(index, part) => format!("blk.{index}.{}", part.gguf_name()),
        }
    }

    /// Its name in a published checkpoint.
    pub(super) fn published_name(self) -> String {
        match self {
            Self::Embedding => "model.embed_tokens.weight".to_owned(),
            Self::Norm => "model.norm.weight".to_owned(),
            Self::Head => "lm_head.weight".to_owned(),
            // No such tensor is published; the name is never found.
            Self::Divisors => String::new(),
            Self::Layer(index, part) => format!("model.layers.{index}.{}", part.published_name()),
        }
    }

    /// The tensor of a GGUF file's name, if it is one of the graph.
    pub(super) fn from_gguf_name(name: &str) -> Option<Self> {
        match [Self::Embedding, Self::Norm, Self::Head, Self::Divisors].into_iter().find(|part| part.gguf_name() == name) {
            Some(part) => Some(part),
            None => Self::of_layer(name.strip_prefix("blk.")?, LayerPart::gguf_name),
        }
    }

    /// The tensor of a published name, if it is one of the graph.
    pub(super) fn from_published_name(name: &str) -> Option<Self> {
        match [Self::Embedding, Self::Norm, Self::Head].into_iter().find(|part| part.published_name() == name) {
            Some(part) => Some(part),
            None => Self::of_layer(name.strip_prefix("model.layers.")?, LayerPart::published_name),
        }
    }

    fn of_layer(rest: &str, name: impl Fn(LayerPart) -> String) -> Option<Self> {
        let (index, part) = rest.split_once('.')?;
        let number: usize = index.parse().ok()?;
        // 01 and +1 are other names.
        let found = LayerPart::all().find(|candidate| name(*candidate) == part)?;
        (number.to_string() == index).then_some(Self::Layer(number, found))
    }
}

impl LayerPart {
    fn all() -> impl Iterator<Item = Self> + Clone {
        let norms = [Self::AttentionNorm, Self::FeedForwardNorm, Self::QNorm, Self::KNorm];
        norms.into_iter().chain(Site::ALL.map(Self::Linear)).chain([Site::Q, Site::K, Site::V].map(Self::Bias))
    }

    fn belongs(self, family: crate::model::Family) -> bool {
        match self {
            Self::AttentionNorm | Self::FeedForwardNorm | Self::Linear(_) => true,
            Self::QNorm | Self::KNorm => family.has_head_norms(),
            Self::Bias(_) => family.has_biases(),
        }
    }

    fn gguf_name(self) -> String {
        match self {
            Self::AttentionNorm => "attn_norm.weight".to_owned(),
            Self::FeedForwardNorm => "ffn_norm.weight".to_owned(),
            Self::QNorm => "attn_q_norm.weight".to_owned(),
            Self::KNorm => "attn_k_norm.weight".to_owned(),
            Self::Linear(of) => format!("{}.weight", of.gguf_module()),
            Self::Bias(of) => format!("{}.bias", of.gguf_module()),
        }
    }

    fn published_name(self) -> String {
        match self {
            Self::AttentionNorm => "input_layernorm.weight".to_owned(),
            Self::FeedForwardNorm => "post_attention_layernorm.weight".to_owned(),
            Self::QNorm => "self_attn.q_norm.weight".to_owned(),
            Self::KNorm => "self_attn.k_norm.weight".to_owned(),
            Self::Linear(site) => format!("{}.{}.weight", site.parent(), site.module()),
            Self::Bias(site) => format!("{}.{}.bias", site.parent(), site.module()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_no_other_is() {
        for part in LayerPart::all().map(|part| Part::Layer(7, part)).chain([Part::Embedding, Part::Norm, Part::Head]) {
            assert_eq!(Part::from_gguf_name(&part.gguf_name()), Some(part));
            assert_eq!(Part::from_published_name(&part.published_name()), Some(part));
        }
        for name in ["", "blk.", "blk.1", "blk.01.attn_q.weight", "blk.+1.attn_q.weight", "blk.1.attn_q", "model.layers.1.attn_q.weight"] {
            assert_eq!(Part::from_gguf_name(name), None, "{name}");
        }
        for name in ["", "embed_tokens.weight", "model.layers.0.self_attn.o_proj.bias", "model.layers.-1.input_layernorm.weight"] {
            assert_eq!(Part::from_published_name(name), None, "{name}");
        }
    }
}
