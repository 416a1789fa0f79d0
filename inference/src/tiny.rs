//! Generates a tiny Llama GGUF and tiny adapters, for tests and simulations: real files, meaningless text.
//!
//! The model has 2 layers, width 64, 4 query and 2 key heads, a vocabulary of 300 (bytes, a few merges, ChatML tokens), a
//! context of 512, and random weights from a seed, stored in every format the reader knows. It loads in milliseconds
//! and steps in well under one.

use std::path::Path;

use crate::adapter::{CONFIG_FILE, WEIGHTS_FILE, tensor_name};
use crate::gguf::TensorType;
use crate::model::Site;
use crate::model::tokenizer::byte_alphabet;
use crate::sampler::split_mix;

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
    let tensors = tensors();
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    let entries = metadata();
    out.extend((entries.len() as u64).to_le_bytes());
    for (key, value) in entries {
        text(&mut out, key);
        out.extend(value);
    }
    let mut data = Vec::new();
    let mut noise = Stream(seed);
    for tensor in &tensors {
        text(&mut out, &tensor.name);
        out.extend(u32::try_from(tensor.shape.len()).expect("at most two").to_le_bytes());
        for side in tensor.shape.iter().rev() {
            out.extend((*side as u64).to_le_bytes());
        }
        out.extend(tensor.kind.id().to_le_bytes());
        out.extend((data.len() as u64).to_le_bytes());
        tensor.write(&mut noise, &mut data);
        data.resize(data.len().next_multiple_of(32), 0);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(data);
    out
}

/// Writes a PEFT adapter that fits the tiny model, with rank `rank` on all linear layers and random matrices.
///
/// `base` is recorded as the base's hash if given.
///
/// # Errors
/// What the system says when the folder cannot be written.
pub fn write_adapter(dir: &Path, base: Option<[u8; 32]>, rank: usize, seed: u64) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut config = serde_json::json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": Site::ALL.map(Site::module),
        "bias": "none",
        "inference_mode": true,
    });
    if let Some(base) = base {
        config["tributary_base"] = hex::encode(base).into();
    }
    std::fs::write(dir.join(CONFIG_FILE), serde_json::to_vec_pretty(&config)?)?;
    let bytes = adapter_tensors(rank, seed);
    let views = bytes.iter().map(|(name, shape, data)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), data);
        (name.clone(), view.expect("the data has the shape's length"))
    });
    let file = safetensors::serialize(views, None).map_err(std::io::Error::other)?;
    std::fs::write(dir.join(WEIGHTS_FILE), file)
}

fn adapter_tensors(rank: usize, seed: u64) -> Vec<(String, [usize; 2], Vec<u8>)> {
    let mut noise = Stream(seed);
    let mut out = Vec::new();
    for layer in 0..LAYERS {
        for site in Site::ALL {
            let (rows, columns) = site_shape(site);
            for (half, shape) in [("lora_A", [rank, columns]), ("lora_B", [rows, rank])] {
                let count = shape[0] * shape[1];
                let data = (0..count).flat_map(|_| (noise.uniform() * 0.3).to_le_bytes()).collect();
                out.push((tensor_name(layer, site, half), shape, data));
            }
        }
    }
    out
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

/// SplitMix64 as a stream.
struct Stream(u64);

impl Stream {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        split_mix(self.0)
    }

    /// Uniform in [-1, 1), a multiple of 2^-15.
    fn uniform(&mut self) -> f32 {
        let [low, high, ..] = self.next().to_le_bytes();
        f32::from(i16::from_le_bytes([low, high])) / 32_768.0
    }
}

struct TinyTensor {
    name: String,
    shape: Vec<usize>,
    kind: TensorType,
}

/// The tensors of the graph; each storage format occurs.
fn tensors() -> Vec<TinyTensor> {
    let tensor = |name: &str, shape: &[usize], kind| TinyTensor { name: name.to_owned(), shape: shape.to_vec(), kind };
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

impl TinyTensor {
    /// Writes random blocks: half-precision scales of about 0.02 to 0.05, so that values stay near +-0.3.
    fn write(&self, noise: &mut Stream, out: &mut Vec<u8>) {
        const SCALE: [u8; 2] = 0x2800u16.to_le_bytes(); // 2^-5
        const MINIMUM: [u8; 2] = 0xb400u16.to_le_bytes(); // -0.25
        const FINE_SCALE: [u8; 2] = 0x1800u16.to_le_bytes(); // 2^-9
        let count: usize = self.shape.iter().product();
        match self.kind {
            TensorType::F32 if self.shape.len() == 1 => {
                out.extend((0..count).flat_map(|_| (1.0 + noise.uniform() * 0.1).to_le_bytes()));
            }
            TensorType::F32 => out.extend((0..count).flat_map(|_| (noise.uniform() * 0.25).to_le_bytes())),
            // Exponent 12 or 13 of a half: 1/8 to 1/2, either sign.
            TensorType::F16 => out.extend((0..count).flat_map(|_| {
                let [low, high, ..] = noise.next().to_le_bytes();
                [low, 0x30 | high & 0x87]
            })),
            TensorType::Q4_0 | TensorType::Q4_1 | TensorType::Q8_0 => {
                for _ in 0..count / 32 {
                    let payload = match self.kind {
                        TensorType::Q8_0 => {
                            out.extend(FINE_SCALE);
                            32
                        }
                        TensorType::Q4_1 => {
                            out.extend(SCALE);
                            out.extend(MINIMUM);
                            16
                        }
                        _ => {
                            out.extend(SCALE);
                            16
                        }
                    };
                    out.extend((0..payload).map(|_| noise.next().to_le_bytes()[0]));
                }
            }
        }
    }
}

fn text(out: &mut Vec<u8>, value: &str) {
    out.extend((value.len() as u64).to_le_bytes());
    out.extend(value.as_bytes());
}

/// Metadata keys with their encoded values.
fn metadata() -> Vec<(&'static str, Vec<u8>)> {
    let texts = |values: &[String]| {
        let mut out = 9u32.to_le_bytes().to_vec();
        out.extend(8u32.to_le_bytes());
        out.extend((values.len() as u64).to_le_bytes());
        for value in values {
            text(&mut out, value);
        }
        out
    };
    let string = |value: &str| {
        let mut out = 8u32.to_le_bytes().to_vec();
        text(&mut out, value);
        out
    };
    let number = |value: usize| {
        let mut out = 4u32.to_le_bytes().to_vec();
        out.extend(u32::try_from(value).expect("small").to_le_bytes());
        out
    };
    let float = |value: f32| {
        let mut out = 6u32.to_le_bytes().to_vec();
        out.extend(value.to_le_bytes());
        out
    };
    let (tokens, merges) = vocabulary();
    let mut kinds = 9u32.to_le_bytes().to_vec();
    kinds.extend(5u32.to_le_bytes());
    kinds.extend((tokens.len() as u64).to_le_bytes());
    for id in 0..tokens.len() {
        kinds.extend(if id < CONTROL.len() { 3i32 } else { 1 }.to_le_bytes());
    }
    vec![
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
        ("tokenizer.ggml.token_type", kinds),
        ("tokenizer.ggml.merges", texts(&merges)),
        ("tokenizer.ggml.bos_token_id", number(1)),
        ("tokenizer.ggml.eos_token_id", number(2)),
        ("tokenizer.chat_template", string(CHAT_TEMPLATE)),
    ]
}

/// Control tokens, the 256 bytes, then merged pairs of common letters until the vocabulary is full.
fn vocabulary() -> (Vec<String>, Vec<String>) {
    let alphabet = byte_alphabet();
    let mut tokens: Vec<String> = CONTROL.iter().map(|&token| token.to_owned()).collect();
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
