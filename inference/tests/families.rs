//! Every family from both kinds of files, against logits of an independent implementation (`tests/fixtures/models/make.py`).
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use inference::adapter::{AdapterFiles, CONFIG_FILE, Lora, WEIGHTS_FILE};
use inference::gguf::TensorType;
use inference::model::files::ModelFiles;
use inference::model::rope::Scaling;
use inference::model::stored::{StoredFrame, StoredLayer, StoredMatrix};
use inference::model::{Cache, Config, Family, Model, PREFILL_CHUNK, Site};
use inference::tiny::families::Tiny;
use inference::{Message, Role};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;
use serde_json::{Value, json};

/// Positions whose logits are committed, every fourth of them.
const POSITIONS: [usize; 5] = [0, 1, 31, 99, 149];
/// What rounding in f32 may change: logits are at most about 10, and were computed in another order.
const TOLERANCE: f32 = 2e-4;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/models")
}

#[derive(Deserialize)]
struct Expected {
    vocabulary: u32,
    logits: Vec<Vec<f32>>,
    /// The most likely token after each position.
    best: Vec<usize>,
}

fn expected(name: &str) -> Expected {
    let all: BTreeMap<String, Value> = serde_json::from_slice(&std::fs::read(fixtures().join("logits.json")).unwrap()).unwrap();
    serde_json::from_value(all[name].clone()).unwrap()
}

fn tokens(vocabulary: u32) -> Vec<u32> {
    (0..=149u32).map(|i| (i * 37 + 11) % vocabulary).collect()
}

/// Logits after `tokens`, computed in chunks of at most `chunk`.
fn logits(model: &Model, tokens: &[u32], chunk: usize, lora: Option<&Lora>) -> Vec<f32> {
    let mut cache = Cache::new(model.config());
    tokens.chunks(chunk).map(|part| model.forward(part, &mut cache, lora).unwrap()).last().unwrap()
}

/// Checks a model in both ways it computes: whole prompts, and token by token.
fn check(name: &str, model: &Model) {
    let Expected { vocabulary, logits: expected, best } = expected(name);
    let tokens = tokens(vocabulary);
    for (position, expected) in POSITIONS.into_iter().zip(&expected) {
        for chunk in [PREFILL_CHUNK, 1] {
            let got = logits(model, &tokens[..=position], chunk, None);
            assert_eq!(got.len(), usize::try_from(vocabulary).unwrap());
            for (index, expected) in expected.iter().enumerate() {
                let got = got[4 * index];
                let close = (got - expected).abs() <= TOLERANCE * expected.abs().max(1.0);
                assert!(close, "{name}, position {position}, token {}, chunks of {chunk}: {got}, expected {expected}", 4 * index);
            }
        }
    }
    let mut cache = Cache::new(model.config());
    for (position, (token, best)) in tokens.iter().zip(best).enumerate() {
        let got = model.forward(&[*token], &mut cache, None).unwrap();
        let largest = got.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert!(
            got[best] >= largest - TOLERANCE * largest.abs().max(1.0),
            "{name}, position {position}: token {best} is not the most likely"
        );
    }
}

fn gguf(tiny: Tiny, folder: &Path) -> PathBuf {
    let path = folder.join(format!("{tiny}.gguf"));
    std::fs::write(&path, tiny.bytes(2, Tiny::SEED)).unwrap();
    path
}

#[test]
fn logits_of_every_family_are_those_of_an_independent_implementation() {
    let folder = tempfile::tempdir().unwrap();
    for tiny in Tiny::ALL {
        check(&tiny.to_string(), &Model::load(&gguf(tiny, folder.path()), None).unwrap().0);
    }
}

#[test]
fn published_folders_give_the_logits_of_the_library_that_wrote_them() {
    for (name, family, eos) in [("qwen2", Family::Qwen2, vec![256, 258]), ("llama3", Family::Llama, vec![257, 260])] {
        let (model, text) = Model::load(&fixtures().join(name), None).unwrap();
        assert_eq!((model.config().family, model.info().name.as_str()), (family, name));
        check(&format!("{name}-folder"), &model);
        assert_eq!(text.tokenizer.eos(), eos, "{name}");
        let turn = Message { role: Role::User, content: "What is gout?".to_owned() };
        let prompt = text.template.render(&text.tokenizer, &[turn], true).unwrap();
        let ids = text.tokenizer.encode(&prompt).unwrap();
        assert!(prompt.contains("What is gout?") && ids.len() > 20 && ids.iter().all(|id| *id < 264), "{prompt}");
    }
}

/// Writes a folder that holds what a GGUF file does, in f32.
fn as_folder(tiny: Tiny, gguf: &Path, folder: &Path) {
    let files = ModelFiles::open(gguf).unwrap();
    let config = files.config().unwrap();
    let frame = StoredFrame::read(&files, &config).unwrap();
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    let matrix = |of: &StoredMatrix| (vec![of.rows, of.columns], bytes(&of.dequantise()));
    let vector = |of: &[f32]| (vec![of.len()], bytes(of));
    tensors.insert("model.embed_tokens.weight".into(), matrix(&frame.embedding));
    tensors.insert("model.norm.weight".into(), vector(&frame.norm));
    if let Some(head) = &frame.head {
        tensors.insert("lm_head.weight".into(), matrix(head));
    }
    for index in 0..config.layers {
        let layer = StoredLayer::read(&files, &config, index).unwrap();
        let mut add = |name: &str, tensor| tensors.insert(format!("model.layers.{index}.{name}"), tensor);
        add("input_layernorm.weight", vector(&layer.attention_norm));
        add("post_attention_layernorm.weight", vector(&layer.feed_forward_norm));
        for site in Site::ALL {
            add(&format!("{}.{}.weight", site.parent(), site.module()), matrix(layer.linear(site)));
        }
        for (bias, site) in layer.extras.biases.iter().flatten().zip(["q_proj", "k_proj", "v_proj"]) {
            add(&format!("self_attn.{site}.bias"), vector(bias));
        }
        for (norm, name) in layer.extras.head_norms.iter().flatten().zip(["q_norm", "k_norm"]) {
            add(&format!("self_attn.{name}.weight"), vector(norm));
        }
    }
    let views = tensors.iter().map(|(name, (shape, data))| (name.clone(), TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    std::fs::write(folder.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    std::fs::write(folder.join("config.json"), config_json(tiny, &config).to_string()).unwrap();
    let text = fixtures().join(if tiny == Tiny::Llama3 { "llama3" } else { "qwen2" });
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(text.join(name), folder.join(name)).unwrap();
    }
}

fn config_json(tiny: Tiny, config: &Config) -> Value {
    let mut json = json!({
        "model_type": config.family.name(),
        "hidden_size": config.hidden,
        "intermediate_size": config.feed_forward,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_base,
        "rope_scaling": null,
        "hidden_act": "silu",
        "tie_word_embeddings": matches!(tiny, Tiny::Smollm2 | Tiny::Qwen3),
    });
    if let (Tiny::Llama3, Scaling::Llama3 { factor, low, high, original_context }) = (tiny, Tiny::SCALING) {
        json["rope_scaling"] = json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": original_context,
        });
    }
    json
}

#[test]
fn a_folder_and_a_gguf_file_of_one_model_give_the_same_logits() {
    for tiny in Tiny::ALL {
        let folder = tempfile::tempdir().unwrap();
        let path = gguf(tiny, folder.path());
        as_folder(tiny, &path, folder.path());
        let of = |path: &Path| {
            let model = Model::load(path, None).unwrap().0;
            logits(&model, &tokens(300), PREFILL_CHUNK, None)
        };
        let (from_file, from_folder) = (of(&path), of(folder.path()));
        for (one, two) in from_file.iter().zip(&from_folder) {
            // The divisors in the file are f32, the frequencies of the settings are not.
            let tolerance = if tiny == Tiny::Llama3 { TOLERANCE * one.abs().max(1.0) } else { 0.0 };
            assert!((one - two).abs() <= tolerance, "{tiny}: {one} {two}");
        }
    }
}

#[test]
fn codes_are_kept_as_the_file_stores_them() {
    let folder = tempfile::tempdir().unwrap();
    for (tiny, kind, row) in [
        (Tiny::Smollm2, TensorType::Q4_1, 40),
        (Tiny::Llama3, TensorType::Q4_0, 36),
        (Tiny::Qwen2, TensorType::BF16, 128),
        (Tiny::Qwen3, TensorType::Q8_0, 68),
    ] {
        let files = ModelFiles::open(&gguf(tiny, folder.path())).unwrap();
        let config = files.config().unwrap();
        let (layer, frame) = (StoredLayer::read(&files, &config, 1).unwrap(), StoredFrame::read(&files, &config).unwrap());
        let ModelFiles::Gguf(file) = &files else { panic!("a file") };
        let stored = |name: &str| {
            let shape = file.header().tensors[name].shape.clone();
            file.bytes(name, &shape).unwrap()
        };
        assert_eq!((layer.linear(Site::Up).kind, layer.linear(Site::Up).row_bytes()), (kind, row), "{tiny}");
        assert_eq!(stored("blk.1.ffn_up.weight"), (kind, layer.linear(Site::Up).bytes.clone()), "{tiny}");
        assert_eq!(stored("token_embd.weight"), (TensorType::Q8_0, frame.embedding.bytes.clone()), "{tiny}");
        let (_, q) = stored("blk.1.attn_q.weight");
        let rows = |bytes: &[u8]| bytes.chunks(row).map(<[u8]>::to_vec).collect::<Vec<_>>();
        let (mut before, mut after) = (rows(&q), rows(&layer.linear(Site::Q).bytes));
        assert_eq!(before == after, config.family != Family::Llama, "only the llama family's rows are moved");
        before.sort_unstable();
        after.sort_unstable();
        assert_eq!(before, after, "rows are moved whole");
    }
}

#[test]
fn an_adapter_fits_every_family() {
    for tiny in Tiny::ALL {
        let folder = tempfile::tempdir().unwrap();
        let model = Model::load(&gguf(tiny, folder.path()), None).unwrap().0;
        let settings =
            json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": Site::ALL.map(Site::module), "bias": "none" });
        let mut state = 1u64;
        let mut values = |count: usize| -> Vec<u8> {
            let next = |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                f32::from(u8::try_from(state >> 56).unwrap()) / 1_024.0 - 0.125
            };
            (0..count).map(next).flat_map(f32::to_le_bytes).collect()
        };
        let mut tensors = Vec::new();
        for site in Site::ALL {
            let (out, width) = site.shape(model.config());
            let name = |half: &str| format!("base_model.model.model.layers.1.{}.{}.{half}.weight", site.parent(), site.module());
            tensors.push((name("lora_A"), vec![2, width], values(2 * width)));
            tensors.push((name("lora_B"), vec![out, 2], values(2 * out)));
        }
        let views = tensors.iter().map(|(name, shape, data)| (name.clone(), TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
        std::fs::write(folder.path().join(WEIGHTS_FILE), safetensors::serialize(views, None).unwrap()).unwrap();
        std::fs::write(folder.path().join(CONFIG_FILE), settings.to_string()).unwrap();
        let lora = Lora::new(&AdapterFiles::read(folder.path()).unwrap(), model.info()).unwrap();
        let prompt = tokens(300);
        let [whole, single] = [PREFILL_CHUNK, 1].map(|chunk| logits(&model, &prompt, chunk, Some(&lora)));
        let plain = logits(&model, &prompt, PREFILL_CHUNK, None);
        assert!(whole.iter().zip(&plain).any(|(one, two)| (one - two).abs() > 0.01), "{tiny}: the adapter changes the logits");
        for (one, two) in whole.iter().zip(&single) {
            assert!((one - two).abs() <= TOLERANCE * one.abs().max(1.0), "{tiny}: {one} {two}");
        }
    }
}

/// A copy of the committed folder of Qwen 2, whose files a test changes.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixtures().join("qwen2")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

fn refusal(folder: &Path) -> String {
    Model::load(folder, None).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn settings_that_the_graph_does_not_have_are_refused_by_file_and_field() {
    for (field, value, words) in [
        ("model_type", json!("gemma3"), "gemma3"),
        ("hidden_act", json!("gelu"), "hidden_act is \"gelu\""),
        ("use_sliding_window", json!(true), "use_sliding_window"),
        ("attention_bias", json!(true), "attention_bias"),
        ("layer_types", json!(["full_attention", "sliding_attention"]), "layer_types"),
        ("quantization_config", json!({ "quant_method": "gptq" }), "quantization_config"),
        (
            "rope_parameters",
            json!({ "rope_type": "yarn", "factor": 4.0 }),
            "rope_parameters.rope_type is \"yarn\", expected default, linear or llama3",
        ),
        ("rope_parameters", json!({ "rope_type": "llama3", "factor": 4.0 }), "rope_parameters.low_freq_factor is missing"),
        ("rope_parameters", json!({ "rope_type": "linear", "factor": 0.5 }), "rope_scaling"),
        ("num_key_value_heads", json!(3), "num_key_value_heads"),
        ("num_hidden_layers", json!(0), "num_hidden_layers is 0"),
        ("num_hidden_layers", json!(1_000_000_000), "num_hidden_layers is 1000000000"),
        ("num_hidden_layers", json!(3), "tensor model.layers.2"),
        ("num_hidden_layers", json!(1), "model.layers.1"),
        ("hidden_size", json!("32"), "hidden_size is \"32\""),
        ("hidden_size", json!(64), "shape of tensor"),
        ("vocab_size", json!(999), "[264, 32]"),
        ("head_dim", json!(7), "head_dim is 7"),
        ("rms_norm_eps", json!(null), "rms_norm_eps is missing"),
        ("rms_norm_eps", json!(-1.0), "rms_norm_eps is -1"),
        ("eos_token_id", json!([999]), "eos_token_id"),
    ] {
        let folder = copy();
        let path = folder.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config[field] = value;
        std::fs::write(&path, config.to_string()).unwrap();
        let error = refusal(folder.path());
        assert!(error.contains(words) && error.contains(folder.path().to_str().unwrap()), "{field}: {error}");
    }
}

#[test]
fn a_gguf_header_that_asks_for_other_arithmetic_is_refused_by_key() {
    use inference::gguf::{Header, Value};
    let bytes = Tiny::Qwen3.bytes(1, 1);
    let header = Header::parse(bytes.as_slice(), bytes.len() as u64).unwrap();
    assert!(Config::from_header(&header).is_ok());
    for (key, value, words) in [
        ("general.architecture", Value::Text("gemma3".into()), "gemma3"),
        ("qwen3.attention.sliding_window", Value::Unsigned(4_096), "sliding_window"),
        ("qwen3.logit_scale", Value::Float(0.5), "logit_scale"),
        ("qwen3.expert_count", Value::Unsigned(8), "expert_count"),
        ("qwen3.rope.scaling.type", Value::Text("yarn".into()), "none or linear"),
        ("qwen3.rope.scaling.type", Value::Text("linear".into()), "qwen3.rope.scaling.factor"),
        ("qwen3.rope.dimension_count", Value::Unsigned(16), "qwen3.rope.dimension_count"),
        ("qwen3.attention.value_length", Value::Unsigned(64), "qwen3.attention.value_length"),
        ("qwen3.attention.key_length", Value::Unsigned(16), "qwen3.attention.value_length is 32"),
        ("qwen3.attention.head_count_kv", Value::Unsigned(3), "qwen3.attention.head_count_kv"),
        ("qwen3.rope.freq_base", Value::Float(f64::NAN), "qwen3.rope.freq_base"),
        ("qwen3.block_count", Value::Unsigned(1 << 40), "qwen3.block_count"),
        ("tokenizer.ggml.tokens", Value::Texts(Vec::new()), "tokenizer.ggml.tokens"),
    ] {
        let mut changed = header.clone();
        changed.metadata.insert(key.to_owned(), value);
        let error = Config::from_header(&changed).unwrap_err().to_string();
        assert!(error.contains(words), "{key}: {error}");
    }
}

#[test]
fn a_folder_that_lacks_or_misplaces_a_file_is_refused_by_name() {
    let without = |name: &str| {
        let folder = copy();
        std::fs::remove_file(folder.path().join(name)).unwrap();
        (refusal(folder.path()), folder)
    };
    for name in ["config.json", "tokenizer.json", "model-00002-of-00002.safetensors"] {
        let (error, _folder) = without(name);
        assert!(error.contains(name), "{error}");
    }
    let (error, folder) = without("model.safetensors.index.json");
    assert!(error.contains("model.safetensors") && error.contains("pickled weights"), "{error}");
    for (index, words) in [
        (json!({ "weight_map": { "a": "../model.safetensors" } }), "plain names"),
        (json!({ "weight_map": { "a": "/etc/passwd" } }), "plain names"),
        (json!({ "weight_map": {} }), "0 files"),
        (json!({ "weights": {} }), "weight_map"),
        (json!({ "weight_map": { "a": "model-00001-of-00002.safetensors" } }), "is missing"),
    ] {
        std::fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
        let error = refusal(folder.path());
        assert!(error.contains(words), "{index}: {error}");
    }
    std::fs::copy(folder.path().join("model-00001-of-00002.safetensors"), folder.path().join("twice.safetensors")).unwrap();
    let index = json!({ "weight_map": { "a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors", "c": "twice.safetensors" } });
    std::fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    assert!(refusal(folder.path()).contains("each tensor in one file"));
    let (error, _folder) = without("tokenizer_config.json");
    assert!(error.contains("no chat template"), "{error}");
}

#[test]
fn a_folders_hash_is_of_all_that_decides_and_of_nothing_else() {
    let folder = copy();
    let hash = |folder: &Path| ModelFiles::open(folder).unwrap().hash().unwrap();
    let before = hash(folder.path());
    std::fs::write(folder.path().join("README.md"), "words").unwrap();
    assert_eq!(hash(folder.path()), before);
    let path = folder.path().join("model-00002-of-00002.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let after = hash(folder.path());
    assert_ne!(after, before);
    assert!(Model::load(folder.path(), Some(after)).is_ok());
    let error = Model::load(folder.path(), Some(before)).unwrap_err().to_string();
    assert!(error.contains(&hex::encode(before)) && error.contains(&hex::encode(after)), "{error}");
}
