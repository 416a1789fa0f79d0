//! Adapters of random matrices: for the tiny model, in both file formats, and for a model of any shape.

use std::path::Path;

use crate::adapter::{CONFIG_FILE, WEIGHTS_FILE, tensor_name};
use crate::gguf::TensorType;
use crate::model::Site;

use super::writer::{self, Stream, Tensor, float, string};
use super::{HEADS, HIDDEN, LAYERS, site_shape};

/// Width of the tiny model's heads.
const HEAD: usize = HIDDEN / HEADS;

/// Writes a PEFT adapter that fits the tiny model, with rank `rank` on all linear layers and random matrices.
///
/// `base` is recorded as the base's hash if given.
///
/// # Errors
/// What the system says when the folder cannot be written.
pub fn write_adapter(dir: &Path, base: Option<[u8; 32]>, rank: usize, seed: u64) -> std::io::Result<()> {
    write_adapter_of(dir, base, (rank, seed), LAYERS, site_shape)
}

/// The same for a model of so many layers, whose linear layers have these numbers of outputs and inputs.
///
/// # Errors
/// As [`write_adapter`].
pub fn write_adapter_of(
    dir: &Path,
    base: Option<[u8; 32]>,
    (rank, seed): (usize, u64),
    layers: usize,
    shape: impl Fn(Site) -> (usize, usize),
) -> std::io::Result<()> {
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
    // Fixtures are these bytes.
    config.sort_all_objects();
    std::fs::write(dir.join(CONFIG_FILE), serde_json::to_vec_pretty(&config)?)?;
    let matrices = matrices((rank, seed), layers, shape);
    let bytes: Vec<(String, [usize; 2], Vec<u8>)> = matrices
        .into_iter()
        .map(|(layer, site, half, shape, values)| {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (tensor_name(layer, site, ["lora_A", "lora_B"][half]), shape, bytes)
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, data)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), data);
        (name.clone(), view.expect("the data has the shape's length"))
    });
    let file = safetensors::serialize(views, None).map_err(std::io::Error::other)?;
    std::fs::write(dir.join(WEIGHTS_FILE), file)
}

/// Writes the adapter that [`write_adapter`] writes with the same rank and seed as a GGUF file, as llama.cpp's converter does: rows of q and
/// k in pairs.
///
/// # Errors
/// As [`write_adapter`].
pub fn write_gguf_adapter(path: &Path, base: Option<[u8; 32]>, rank: usize, seed: u64) -> std::io::Result<()> {
    std::fs::write(path, gguf_adapter_bytes(base, rank, seed))
}

/// The bytes of that file.
#[must_use]
pub fn gguf_adapter_bytes(base: Option<[u8; 32]>, rank: usize, seed: u64) -> Vec<u8> {
    gguf_adapter_bytes_of(base, (rank, seed), (LAYERS, HEAD), site_shape)
}

/// The same for a Llama of so many layers with heads of this width, whose linear layers have these numbers of outputs and inputs.
#[must_use]
pub fn gguf_adapter_bytes_of(
    base: Option<[u8; 32]>,
    (rank, seed): (usize, u64),
    (layers, head): (usize, usize),
    shape: impl Fn(Site) -> (usize, usize),
) -> Vec<u8> {
    let alpha = u16::try_from(2 * rank).map_or(f32::MAX, f32::from);
    let mut metadata = vec![
        ("general.architecture", string("llama")),
        ("general.type", string("adapter")),
        ("general.name", string("tiny adapter")),
        ("adapter.type", string("lora")),
        ("adapter.lora.alpha", float(alpha)),
    ];
    if let Some(base) = base {
        metadata.push(("tributary.base", string(&hex::encode(base))));
    }
    let metadata: Vec<(String, Vec<u8>)> = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let tensors: Vec<Tensor> = matrices((rank, seed), layers, shape)
        .into_iter()
        .map(|(layer, site, half, shape, values)| {
            let name = format!("blk.{layer}.{}.weight.{}", site.gguf_module(), ["lora_a", "lora_b"][half]);
            let is_rotated = half == 1 && matches!(site, Site::Q | Site::K);
            Tensor::matrix(&name, shape, if is_rotated { in_pairs(&values, shape[1], head) } else { values })
        })
        .collect();
    writer::gguf(&metadata, &tensors, seed)
}

/// Puts rows i and i + half of every head beside each other.
fn in_pairs(values: &[f32], columns: usize, head: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for head_rows in values.chunks_exact(head * columns) {
        let (first, second) = head_rows.split_at(head / 2 * columns);
        for (first, second) in first.chunks_exact(columns).zip(second.chunks_exact(columns)) {
            out.extend_from_slice(first);
            out.extend_from_slice(second);
        }
    }
    out
}

/// Layer, site, half (A or B), rows and columns, values.
type Random = (usize, Site, usize, [usize; 2], Vec<f32>);

fn matrices((rank, seed): (usize, u64), layers: usize, shape: impl Fn(Site) -> (usize, usize)) -> Vec<Random> {
    let mut noise = Stream(seed);
    let mut out = Vec::new();
    for layer in 0..layers {
        for site in Site::ALL {
            let (rows, columns) = shape(site);
            for (half, shape) in [[rank, columns], [rows, rank]].into_iter().enumerate() {
                let values = (0..shape[0] * shape[1]).map(|_| noise.uniform() * 0.3).collect();
                out.push((layer, site, half, shape, values));
            }
        }
    }
    out
}

/// A GGUF file of an adapter whose settings and tensors are others than this crate would write.
#[must_use]
pub fn gguf_of(metadata: &[(&str, &str)], alpha: Option<f32>, tensors: &[(&str, [usize; 2])]) -> Vec<u8> {
    let mut entries: Vec<(String, Vec<u8>)> = metadata.iter().map(|(key, value)| ((*key).to_owned(), string(value))).collect();
    entries.extend(alpha.map(|alpha| ("adapter.lora.alpha".to_owned(), float(alpha))));
    let tensors: Vec<Tensor> = tensors.iter().map(|(name, shape)| Tensor::random(name, shape, TensorType::F32)).collect();
    writer::gguf(&entries, &tensors, 1)
}
