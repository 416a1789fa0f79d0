//! Generates a tiny Llama GGUF and tiny adapters, for tests and simulations: real files, meaningless text.
//!
//! The model has 2 layers, width 64, 4 query and 2 key heads, a vocabulary of 300 (bytes, a few merges, ChatML tokens), a
//! context of 512, and random weights from a seed, stored in every format the reader knows but one. It loads in milliseconds
//! and steps in well under one. [`families`] has a model of each other family.

pub mod adapters;
pub mod families;
mod writer;

use std::path::Path;

use crate::gguf::TensorType;
use crate::model::{Site, byte_alphabet};
pub use adapters::write_adapter;
use writer::{Tensor, float, integers, number, string, texts};

/// Layers of the tiny model.
pub const LAYERS: usize = 2;
/// Width of its residual stream.
pub const HIDDEN: usize = 64;
/// Width of its feed-forward part.
pub const FEED_FORWARD: usize = 96;
/// Its query heads.
pub const HEADS: usize = 4;
/// Its key and value heads.
pub const KV_HEADS: usize = 2;
/// Tokens in its vocabulary.
pub const VOCABULARY: usize = 300;
/// Its context, in tokens.
pub const CONTEXT: u32 = 512;

const CHAT_TEMPLATE: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
const CONTROL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// Writes the model of a seed to a file. Equal seeds give equal bytes.
///
/// # Errors
/// What the system says when the file cannot be written.
pub fn write_model(path: &Path, seed: u64) -> std::io::Result<()> {
    std::fs::write(path, model_bytes(seed))
}

/// The bytes of the model of a seed.
#[must_use]
pub fn model_bytes(seed: u64) -> Vec<u8> {
    writer::gguf(&metadata(), &tensors(), seed)
}

fn site_shape(site: Site) -> (usize, usize) {
    let kv = HIDDEN / HEADS * KV_HEADS;
    match site {
        Site::Q | Site::O => (HIDDEN, HIDDEN),
        Site::K | Site::V => (kv, HIDDEN),
        Site::Gate | Site::Up => (FEED_FORWARD, HIDDEN),
        Site::Down => (HIDDEN, FEED_FORWARD),
    }
}

/// The tensors of the graph; each storage format occurs.
fn tensors() -> Vec<Tensor> {
    let tensor = |name: &str, shape: &[usize], kind| Tensor::random(name, shape, kind);
    let mut out = vec![
        tensor("token_embd.weight", &[VOCABULARY, HIDDEN], TensorType::Q8_0),
        tensor("output_norm.weight", &[HIDDEN], TensorType::F32),
    ];
    for layer in 0..LAYERS {
        for (name, site, kind) in [
            ("attn_q", Site::Q, TensorType::Q4_1),
            ("attn_k", Site::K, TensorType::Q4_1),
            ("attn_v", Site::V, TensorType::F16),
            ("attn_output", Site::O, TensorType::Q4_0),
            ("ffn_gate", Site::Gate, TensorType::Q4_0),
            ("ffn_up", Site::Up, TensorType::F32),
            ("ffn_down", Site::Down, TensorType::Q8_0),
        ] {
            let (rows, columns) = site_shape(site);
            out.push(tensor(&format!("blk.{layer}.{name}.weight"), &[rows, columns], kind));
        }
        out.push(tensor(&format!("blk.{layer}.attn_norm.weight"), &[HIDDEN], TensorType::F32));
        out.push(tensor(&format!("blk.{layer}.ffn_norm.weight"), &[HIDDEN], TensorType::F32));
    }
    out
}

/// Metadata keys with their encoded values.
fn metadata() -> Vec<(String, Vec<u8>)> {
    let (tokens, merges) = vocabulary(&CONTROL);
    let kinds: Vec<i32> = (0..tokens.len()).map(|id| if id < CONTROL.len() { 3 } else { 1 }).collect();
    let entries = vec![
        ("general.architecture", string("llama")),
        ("general.name", string("tiny")),
        ("llama.block_count", number(LAYERS)),
        ("llama.context_length", number(CONTEXT as usize)),
        ("llama.embedding_length", number(HIDDEN)),
        ("llama.feed_forward_length", number(FEED_FORWARD)),
        ("llama.attention.head_count", number(HEADS)),
        ("llama.attention.head_count_kv", number(KV_HEADS)),
        ("llama.attention.layer_norm_rms_epsilon", float(1e-5)),
        ("llama.rope.freq_base", float(10_000.0)),
        ("tokenizer.ggml.model", string("gpt2")),
        ("tokenizer.ggml.pre", string("smollm")),
        ("tokenizer.ggml.tokens", texts(&tokens)),
        ("tokenizer.ggml.token_type", integers(&kinds)),
        ("tokenizer.ggml.merges", texts(&merges)),
        ("tokenizer.ggml.bos_token_id", number(1)),
        ("tokenizer.ggml.eos_token_id", number(2)),
        ("tokenizer.chat_template", string(CHAT_TEMPLATE)),
    ];
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Control tokens, the 256 bytes, then merged pairs of common letters until the vocabulary is full.
fn vocabulary(control: &[&str]) -> (Vec<String>, Vec<String>) {
    let alphabet = byte_alphabet();
    let mut tokens: Vec<String> = control.iter().map(|&token| token.to_owned()).collect();
    tokens.extend(alphabet.iter().map(|&symbol| symbol.to_string()));
    let mut merges = Vec::new();
    let letters = ['Ġ', 'e', 't', 'a', 'o', 'i', 'n'];
    for (left, right) in letters.iter().flat_map(|l| letters.iter().skip(1).map(move |r| (l, r))) {
        if tokens.len() == VOCABULARY {
            break;
        }
        tokens.push(format!("{left}{right}"));
        merges.push(format!("{left} {right}"));
    }
    (tokens, merges)
}
