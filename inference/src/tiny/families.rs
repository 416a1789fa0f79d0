//! A tiny model of each family, as GGUF: what the published ones have in common with none of their weight.
//!
//! All have width 64, a feed-forward part of 96, 4 query and 2 key heads, a vocabulary of 300 and a context of 512. Logits of these files by
//! an independent implementation are committed (`tests/fixtures/models`).

use std::fmt;

use super::writer::{self, Tensor, boolean, float, integers, number, string, texts};
use super::{CONTEXT, FEED_FORWARD, HEADS, HIDDEN, KV_HEADS, VOCABULARY, vocabulary};
use crate::gguf::TensorType;
use crate::model::rope::{Scaling, frequencies};
use crate::model::{Family, Site};

/// What distinguishes the models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tiny {
    /// As SmolLM2: head tied to the embedding, 4-bit codes with minima.
    Smollm2,
    /// As Llama 3.1: own head, rotary frequencies scaled, 4-bit codes.
    Llama3,
    /// As Qwen 2.5: biases, 16-bit floats.
    Qwen2,
    /// As Qwen 3: norms at the heads, which are wider than the stream over their number; 8-bit codes.
    Qwen3,
}

impl Tiny {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Smollm2, Self::Llama3, Self::Qwen2, Self::Qwen3];
    /// Seed of the models whose logits are committed.
    pub const SEED: u64 = 5;
    /// Llama 3's scaling, with a context before it that is short enough to matter in a test.
    pub const SCALING: Scaling = Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original_context: 64.0 };
    /// Base of the rotary frequencies.
    pub const ROPE_BASE: f64 = 10_000.0;

    /// Its family.
    #[must_use]
    pub fn family(self) -> Family {
        match self {
            Self::Smollm2 | Self::Llama3 => Family::Llama,
            Self::Qwen2 => Family::Qwen2,
            Self::Qwen3 => Family::Qwen3,
        }
    }

    /// Width of a head.
    #[must_use]
    pub fn head_dim(self) -> usize {
        if self == Self::Qwen3 { 32 } else { HIDDEN / HEADS }
    }

    fn is_tied(self) -> bool {
        matches!(self, Self::Smollm2 | Self::Qwen3)
    }

    /// Format of the matrices in the layers; the embedding has 8-bit codes, an own head 16-bit floats.
    fn kind(self) -> TensorType {
        match self {
            Self::Smollm2 => TensorType::Q4_1,
            Self::Llama3 => TensorType::Q4_0,
            Self::Qwen2 => TensorType::BF16,
            Self::Qwen3 => TensorType::Q8_0,
        }
    }

    /// How its tokenizer cuts words, and the tokens of its chats.
    fn text(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Smollm2 => ("smollm", &["<|endoftext|>", "<|im_start|>", "<|im_end|>"]),
            Self::Llama3 => {
                ("llama-bpe", &["<|begin_of_text|>", "<|start_header_id|>", "<|eot_id|>", "<|end_header_id|>", "<|end_of_text|>"])
            }
            Self::Qwen2 | Self::Qwen3 => ("qwen2", &["<|endoftext|>", "<|im_start|>", "<|im_end|>"]),
        }
    }

    fn template(self) -> &'static str {
        match self {
            Self::Llama3 => {
                "{{- bos_token }}{%- for m in messages %}{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + \
                 '<|eot_id|>' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
            }
            _ => super::CHAT_TEMPLATE,
        }
    }

    /// The bytes of the model with `layers` layers. Equal seeds give equal bytes.
    #[must_use]
    pub fn bytes(self, layers: usize, seed: u64) -> Vec<u8> {
        writer::gguf(&self.metadata(layers), &self.tensors(layers), seed)
    }

    fn tensors(self, layers: usize) -> Vec<Tensor> {
        use TensorType::{BF16, F16, F32, Q8_0};
        let (head_dim, kind, family) = (self.head_dim(), self.kind(), self.family());
        let mut out =
            vec![Tensor::random("token_embd.weight", &[VOCABULARY, HIDDEN], Q8_0), Tensor::random("output_norm.weight", &[HIDDEN], F32)];
        if !self.is_tied() {
            out.push(Tensor::random("output.weight", &[VOCABULARY, HIDDEN], if self == Self::Qwen2 { BF16 } else { F16 }));
        }
        if self == Self::Llama3 {
            out.push(Tensor::given("rope_freqs.weight", divisors(head_dim)));
        }
        let (q, kv) = (HEADS * head_dim, KV_HEADS * head_dim);
        for layer in 0..layers {
            let mut add = |part: &str, shape: &[usize], kind| out.push(Tensor::random(&format!("blk.{layer}.{part}"), shape, kind));
            for (site, name) in Site::ALL.into_iter().zip(["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]) {
                let (rows, columns) = match site {
                    Site::Q => (q, HIDDEN),
                    Site::K | Site::V => (kv, HIDDEN),
                    Site::O => (HIDDEN, q),
                    Site::Gate | Site::Up => (FEED_FORWARD, HIDDEN),
                    Site::Down => (HIDDEN, FEED_FORWARD),
                };
                add(&format!("{name}.weight"), &[rows, columns], kind);
                if family.has_biases() && matches!(site, Site::Q | Site::K | Site::V) {
                    add(&format!("{name}.bias"), &[rows], F32);
                }
            }
            if family.has_head_norms() {
                add("attn_q_norm.weight", &[head_dim], F32);
                add("attn_k_norm.weight", &[head_dim], F32);
            }
            add("attn_norm.weight", &[HIDDEN], F32);
            add("ffn_norm.weight", &[HIDDEN], F32);
        }
        out
    }

    fn metadata(self, layers: usize) -> Vec<(String, Vec<u8>)> {
        let (pre, control) = self.text();
        let (tokens, merges) = vocabulary(control);
        let kinds: Vec<i32> = (0..tokens.len()).map(|id| if id < control.len() { 3 } else { 1 }).collect();
        let family = self.family().name();
        let mut out =
            vec![("general.architecture".to_owned(), string(family)), ("general.name".to_owned(), string(&format!("tiny {self}")))];
        let of_family = [
            ("block_count", number(layers)),
            ("context_length", number(CONTEXT as usize)),
            ("embedding_length", number(HIDDEN)),
            ("feed_forward_length", number(FEED_FORWARD)),
            ("attention.head_count", number(HEADS)),
            ("attention.head_count_kv", number(KV_HEADS)),
            ("attention.key_length", number(self.head_dim())),
            ("attention.value_length", number(self.head_dim())),
            ("attention.layer_norm_rms_epsilon", float(1e-5)),
            ("rope.freq_base", float(10_000.0)),
        ];
        out.extend(of_family.map(|(key, value)| (format!("{family}.{key}"), value)));
        let of_text = [
            ("model", string("gpt2")),
            ("pre", string(pre)),
            ("tokens", texts(&tokens)),
            ("token_type", integers(&kinds)),
            ("merges", texts(&merges)),
            ("bos_token_id", number(0)),
            ("eos_token_id", number(2)),
            ("add_bos_token", boolean(self == Self::Llama3)),
        ];
        out.extend(of_text.map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)));
        out.push(("tokenizer.chat_template".to_owned(), string(self.template())));
        out
    }
}

/// Converters write Llama 3's scaling as what each plain frequency is divided by.
fn divisors(head_dim: usize) -> Vec<f32> {
    let of = |scaling| frequencies(Tiny::ROPE_BASE, head_dim, scaling);
    #[expect(clippy::cast_possible_truncation, reason = "the file holds f32")]
    let divisor = |(plain, scaled): (f64, f64)| (plain / scaled) as f32;
    of(&Scaling::None).into_iter().zip(of(&Tiny::SCALING)).map(divisor).collect()
}

impl fmt::Display for Tiny {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smollm2 => "smollm2",
            Self::Llama3 => "llama3",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        })
    }
}
