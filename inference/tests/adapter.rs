//! Adapters from PEFT folders and GGUF files: what is taken, what is refused, and by which words.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use inference::adapter::{AdapterError, AdapterFiles, CONFIG_FILE, GGUF_FILE, Lora, MANIFEST_FILE, Packed8, WEIGHTS_FILE};
use inference::model::{Model, Site};
use inference::{ModelInfo, tiny};
use proptest::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};

struct Bench {
    folder: tempfile::TempDir,
    info: ModelInfo,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        tiny::write_model(&path, 1).unwrap();
        let info = Model::load(&path, None).unwrap().0.info().clone();
        tiny::write_adapter(&folder.path().join("a"), None, 4, 9).unwrap();
        Self { folder, info }
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("a")
    }

    fn set(&self, key: &str, value: Value) {
        let path = self.dir().join(CONFIG_FILE);
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config[key] = value;
        std::fs::write(path, config.to_string()).unwrap();
    }

    fn load(&self) -> Result<Lora, AdapterError> {
        Lora::new(&AdapterFiles::read(&self.dir())?, &self.info)
    }

    fn refused(&self) -> String {
        self.load().unwrap_err().to_string()
    }

    /// Rewrites the matrices' file; `change` may rename, reshape or drop (None) a tensor.
    fn rewrite(&self, change: impl Fn(&str, Vec<usize>) -> Option<(String, Vec<usize>)>) {
        let path = self.dir().join(WEIGHTS_FILE);
        let old = std::fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&old).unwrap();
        let views: Vec<(String, TensorView)> = tensors
            .iter()
            .filter_map(|(name, view)| {
                let (name, shape) = change(name, view.shape().to_vec())?;
                let bytes = 4 * shape.iter().product::<usize>();
                Some((name, TensorView::new(Dtype::F32, shape, &view.data()[..bytes]).unwrap()))
            })
            .collect();
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    }
}

const DOWN_A: &str = "base_model.model.model.layers.1.mlp.down_proj.lora_A.weight";

#[test]
fn the_hash_covers_settings_matrices_and_manifest() {
    let bench = Bench::new();
    let part = |name| *blake3::hash(&std::fs::read(bench.dir().join(name)).unwrap()).as_bytes();
    let parts = [part(CONFIG_FILE), part(WEIGHTS_FILE), [0; 32]].concat();
    assert_eq!(AdapterFiles::read(&bench.dir()).unwrap().hash(), *blake3::hash(&parts).as_bytes());
    std::fs::write(bench.dir().join(MANIFEST_FILE), b"{}").unwrap();
    let parts = [part(CONFIG_FILE), part(WEIGHTS_FILE), part(MANIFEST_FILE)].concat();
    assert_eq!(AdapterFiles::read(&bench.dir()).unwrap().hash(), *blake3::hash(&parts).as_bytes());
    assert_eq!(bench.load().unwrap().info().rank, 4);
}

#[test]
fn another_shape_names_tensor_expected_and_got() {
    let bench = Bench::new();
    bench.rewrite(|name, shape| Some((name.to_owned(), if name == DOWN_A { vec![4, 64] } else { shape })));
    let text = bench.refused();
    assert!(text.contains(DOWN_A) && text.contains("[4, 96]") && text.contains("[4, 64]"), "{text}");
}

#[test]
fn a_lost_partner_and_a_foreign_tensor_are_named() {
    let bench = Bench::new();
    bench.rewrite(|name, shape| (name != DOWN_A).then(|| (name.to_owned(), shape)));
    assert!(bench.refused().contains(DOWN_A));
    let bench = Bench::new();
    let foreign = "base_model.model.model.layers.2.mlp.down_proj.lora_A.weight";
    bench.rewrite(|name, shape| Some((if name == DOWN_A { foreign.to_owned() } else { name.to_owned() }, shape)));
    let text = bench.refused();
    assert!(text.contains(foreign) && text.contains("2 layers"), "{text}");
}

#[test]
fn what_would_be_computed_otherwise_is_refused() {
    for (key, value, word) in [
        ("use_dora", json!(true), "DoRA"),
        ("modules_to_save", json!(["lm_head"]), "lm_head"),
        ("peft_type", json!("IA3"), "IA3"),
        ("bias", json!("all"), "bias"),
        ("fan_in_fan_out", json!(true), "fan_in_fan_out"),
        ("r", json!(300), "300"),
        ("r", json!(0), "rank is 0"),
        ("lora_alpha", json!("8"), "not readable"),
        ("rank_pattern", json!({"^model.*q_proj": 8}), "^model.*q_proj"),
        ("alpha_pattern", json!({"q_proj|k_proj": 8}), "q_proj|k_proj"),
        ("tributary_base", json!("zz"), "64 hex"),
        ("lora_bias", json!(true), "lora_bias"),
        ("target_parameters", json!(["mlp.experts.gate_up_proj"]), "target_parameters"),
        ("trainable_token_indices", json!([1, 2]), "trainable_token_indices"),
        ("trainable_token_indices", json!({"embed_tokens": [1]}), "trainable_token_indices"),
        ("layer_replication", json!([[0, 1], [0, 2]]), "layer_replication"),
        ("alora_invocation_tokens", json!([7]), "alora_invocation_tokens"),
        ("use_qalora", json!(true), "use_qalora"),
        ("use_bdlora", json!({"nblocks": 2}), "use_bdlora"),
        ("arrow_config", json!({"top_k": 3}), "arrow_config"),
        ("kasa_config", json!({"beta": 1e-4}), "kasa_config"),
        ("monteclora_config", json!({"num_samples": 8}), "monteclora_config"),
        ("megatron_config", json!({"tp": 1}), "megatron_config"),
        ("enable_lora", json!([true, false]), "enable_lora"),
        ("init_lora_weights", json!("pissa"), "\"pissa\""),
        ("init_lora_weights", json!("pissa_niter_16"), "pissa_niter_16"),
        ("init_lora_weights", json!("olora"), "olora"),
        ("init_lora_weights", json!("corda"), "corda"),
        ("init_lora_weights", json!("loftq"), "loftq"),
        ("init_lora_weights", json!("lora_ga"), "lora_ga"),
        ("init_lora_weights", json!("something of next year"), "something of next year"),
        ("init_lora_weights", json!({"how": "else"}), "unknown form"),
        ("use_next_years_lora", json!(true), "use_next_years_lora"),
        ("next_years_factor", json!(0.5), "next_years_factor"),
        ("next_years_config", json!({"a": 1}), "next_years_config"),
    ] {
        let bench = Bench::new();
        bench.set(key, value.clone());
        let text = bench.refused();
        assert!(text.contains(word), "{key}: {text}");
        let is_setting = matches!(bench.load(), Err(AdapterError::Unsupported { .. }));
        assert!(
            !is_setting || text.contains(": ") && text.split(": ").last().unwrap().len() > 8,
            "{key} {value}: no fix is named in {text:?}"
        );
    }
}

#[test]
fn settings_that_are_off_or_change_nothing_are_taken() {
    let bench = Bench::new();
    let without = bench.load().unwrap();
    for (key, value) in [
        ("modules_to_save", json!(null)),
        ("lora_bias", json!(false)),
        ("target_parameters", json!(null)),
        ("trainable_token_indices", json!([])),
        ("layer_replication", json!(null)),
        ("arrow_config", json!(null)),
        ("use_qalora", json!(false)),
        ("qalora_group_size", json!(16)),
        ("megatron_config", json!({})),
        ("megatron_core", json!("megatron.core")),
        ("loftq_config", json!({})),
        ("eva_config", json!({"rho": 2.0})),
        ("corda_config", json!(null)),
        ("init_lora_weights", json!("gaussian")),
        ("init_lora_weights", json!("orthogonal")),
        ("init_lora_weights", json!(false)),
        ("init_lora_weights", json!(true)),
        ("lora_dropout", json!(0.1)),
        ("rank_pattern", json!(null)),
        ("peft_version", json!("0.21.2")),
        ("auto_mapping", json!({"base_model_class": "LlamaForCausalLM"})),
        ("next_years_switch", json!(false)),
        ("next_years_config", json!(null)),
        ("next_years_list", json!([])),
    ] {
        bench.set(key, value.clone());
        let with = bench.load().unwrap_or_else(|error| panic!("{key} {value}: {error}"));
        assert_eq!((with.info().rank, with.info().bytes), (without.info().rank, without.info().bytes));
    }
}

#[test]
fn an_adapter_of_another_base_is_refused_by_hash_and_an_unrecorded_base_is_said() {
    let bench = Bench::new();
    assert!(!bench.load().unwrap().info().is_base_recorded);
    bench.set("tributary_base", json!(hex::encode(bench.info.hash)));
    assert!(bench.load().unwrap().info().is_base_recorded);
    bench.set("tributary_base", json!("ab".repeat(32)));
    let text = bench.refused();
    assert!(text.contains(&"ab".repeat(32)) && text.contains(&hex::encode(bench.info.hash)), "{text}");
    let gguf = AdapterFiles::from_gguf("g".to_owned(), tiny::adapters::gguf_adapter_bytes(Some([0xab; 32]), 2, 1), None).unwrap();
    let text = Packed8::new(&gguf, &bench.info).unwrap_err().to_string();
    assert!(text.contains(&"ab".repeat(32)) && text.contains(&hex::encode(bench.info.hash)), "{text}");
}

/// Codes and scales of every linear layer.
fn parts(packed: &Packed8) -> Vec<(Vec<f32>, Vec<u8>)> {
    let pairs = (0..packed.layers()).flat_map(|layer| Site::ALL.map(|site| packed.pair(layer, site)));
    let both = pairs.flatten().flat_map(|pair| [pair.a.parts(), pair.b.parts()]);
    both.map(|(scales, codes)| (scales.to_vec(), codes.to_vec())).collect()
}

#[test]
fn a_gguf_file_is_the_adapter_it_was_converted_from() {
    for rank in [1, 4, 17, 256] {
        let bench = Bench::new();
        tiny::write_adapter(&bench.dir(), Some(bench.info.hash), rank, 5).unwrap();
        let path = bench.folder.path().join("converted.gguf");
        tiny::adapters::write_gguf_adapter(&path, Some(bench.info.hash), rank, 5).unwrap();
        let (peft, gguf) = (Packed8::read(&bench.dir(), &bench.info).unwrap(), Packed8::read(&path, &bench.info).unwrap());
        assert_eq!(parts(&peft), parts(&gguf), "rank {rank}");
        assert_eq!((gguf.info().rank, gguf.info().is_base_recorded, gguf.info().name.as_str()), (rank, true, "converted"));
        let hash = |bytes: &[u8]| *blake3::hash(bytes).as_bytes();
        let of_file = [[0; 32], hash(&std::fs::read(&path).unwrap()), [0; 32]].concat();
        assert_eq!(gguf.info().hash, hash(&of_file));
        // In a folder with a manifest it is another content, and the same matrices.
        let folder = bench.folder.path().join("b");
        std::fs::create_dir(&folder).unwrap();
        std::fs::rename(&path, folder.join(GGUF_FILE)).unwrap();
        std::fs::write(folder.join(MANIFEST_FILE), "{}").unwrap();
        let manifested = Packed8::read(&folder, &bench.info).unwrap();
        assert_eq!(parts(&manifested), parts(&gguf));
        assert!(manifested.info().hash != gguf.info().hash);
        std::fs::copy(bench.dir().join(CONFIG_FILE), folder.join(CONFIG_FILE)).unwrap();
        assert!(matches!(Packed8::read(&folder, &bench.info), Err(AdapterError::TwoFormats { .. })));
    }
}

#[test]
fn a_packed_matrix_holds_its_rows_in_eight_bits_with_the_scale_in_b() {
    let bench = Bench::new();
    // Rank 4, alpha 8: a scale of 2; one module has rank 2 and alpha 6: a scale of 3.
    bench.set("rank_pattern", json!({"layers.1.mlp.down_proj": 2}));
    // Both fit the module; the first in the file counts.
    bench.set("alpha_pattern", json!({"layers.1.mlp.down_proj": 6, "mlp.down_proj": 1000}));
    bench.rewrite(|name, shape| {
        let narrowed = match (name.contains("layers.1.mlp.down_proj"), name.contains("lora_A")) {
            (true, true) => vec![2, 96],
            (true, false) => vec![64, 2],
            _ => shape,
        };
        (!name.contains("layers.0.mlp.down_proj")).then(|| (name.to_owned(), narrowed))
    });
    let bytes = std::fs::read(bench.dir().join(WEIGHTS_FILE)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let packed = Packed8::read(&bench.dir(), &bench.info).unwrap();
    for (layer, site, scale) in [(1, Site::Down, 3.0f32), (0, Site::Q, 2.0), (1, Site::K, 2.0)] {
        let pair = packed.pair(layer, site).unwrap();
        for (half, rows, factor) in [("lora_A", &pair.a, 1.0), ("lora_B", &pair.b, scale)] {
            let name = format!("base_model.model.model.layers.{layer}.{}.{}.{half}.weight", site.parent(), site.module());
            let view = tensors.tensor(&name).unwrap();
            let columns = view.shape()[1];
            let values: Vec<f32> = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b) * factor).collect();
            for (at, value) in values.iter().enumerate() {
                let (row, column) = (at / columns, at % columns);
                let (scales, codes) = rows.panel(row / 16);
                let code = i16::from(codes[column / 4 * 64 + row % 16 * 4 + column % 4]) - 128;
                let got = f32::from(code) * scales[row % 16];
                assert!((got - value).abs() <= scales[row % 16] * 0.5001, "{name} {row} {column}: {got} for {value}");
            }
        }
    }
    assert!(packed.pair(0, Site::Down).is_none());
}

#[test]
fn rank_stabilised_adapters_have_alpha_over_the_root_of_the_rank() {
    let bench = Bench::new();
    let plain = Packed8::read(&bench.dir(), &bench.info).unwrap();
    bench.set("use_rslora", json!(true));
    let rooted = Packed8::read(&bench.dir(), &bench.info).unwrap();
    // Rank 4: 8 / 4 beside 8 / 2.
    for site in Site::ALL {
        let (plain, rooted) = (plain.pair(0, site).unwrap().b.parts(), rooted.pair(0, site).unwrap().b.parts());
        assert_eq!(plain.1, rooted.1);
        assert!(plain.0.iter().zip(rooted.0).all(|(plain, rooted)| plain * 2.0 == *rooted));
    }
}

#[test]
fn gguf_files_that_would_be_computed_otherwise_are_refused() {
    const HEAD: [(&str, &str); 3] = [("general.architecture", "llama"), ("general.type", "adapter"), ("adapter.type", "lora")];
    const Q: [(&str, [usize; 2]); 2] = [("blk.0.attn_q.weight.lora_a", [4, 64]), ("blk.0.attn_q.weight.lora_b", [64, 4])];
    let bench = Bench::new();
    let refused = |metadata: &[(&str, &str)], alpha: Option<f32>, tensors: &[(&str, [usize; 2])]| {
        let bytes = tiny::adapters::gguf_of(metadata, alpha, tensors);
        match AdapterFiles::from_gguf("a".to_owned(), bytes, None).and_then(|files| Packed8::new(&files, &bench.info)) {
            Ok(_) => "taken".to_owned(),
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(refused(&HEAD, Some(8.0), &Q), "taken");
    assert_eq!(refused(&HEAD, None, &Q), "taken");
    let with = |key: &'static str, value: &'static str| {
        let mut head: Vec<_> = HEAD.into_iter().filter(|(other, _)| *other != key).collect();
        head.push((key, value));
        head
    };
    for (key, value, word) in [
        ("general.type", "model", "general.type \"model\""),
        ("adapter.type", "control_vector", "control_vector"),
        ("general.architecture", "qwen2", "the architecture \"qwen2\""),
        ("adapter.alora.invocation_tokens", "1", "adapter.alora.invocation_tokens"),
        ("adapter.lora.next_year", "1", "adapter.lora.next_year"),
        ("tributary.base", "zz", "64 hex digits"),
    ] {
        let text = refused(&with(key, value), Some(8.0), &Q);
        assert!(text.contains(word), "{key}: {text}");
    }
    assert_eq!(refused(&with("adapter.lora.task_name", "coding"), Some(8.0), &Q), "taken");
    assert!(refused(&HEAD[..2], Some(8.0), &Q).contains("adapter.type is missing"));
    assert!(refused(&HEAD, Some(f32::NAN), &Q).contains("alpha is NaN"));
    for (tensors, word) in [
        (vec![], "no tensors"),
        (vec![Q[0]], "blk.0.attn_q.weight.lora_b is missing"),
        (vec![Q[1]], "blk.0.attn_q.weight.lora_a is missing"),
        (vec![Q[0], ("blk.0.attn_q.weight.lora_b", [32, 4])], "shape [32, 4]"),
        (vec![Q[1], ("blk.0.attn_q.weight.lora_a", [4, 96])], "shape [4, 96]"),
        (vec![Q[0], ("blk.0.attn_q.weight.lora_b", [64, 5])], "shape [64, 5]"),
        (vec![("blk.0.attn_q.weight.lora_a", [300, 64]), ("blk.0.attn_q.weight.lora_b", [64, 300])], "rank 300"),
        (vec![Q[0], Q[1], ("blk.2.attn_q.weight.lora_a", [4, 64])], "2 layers"),
        (vec![Q[0], Q[1], ("blk.00.attn_q.weight.lora_a", [4, 64])], "not a number"),
        (vec![Q[0], Q[1], ("token_embd.weight.lora_a", [300, 4])], "not a linear layer"),
        (vec![Q[0], Q[1], ("blk.0.attn_norm.weight", [1, 64])], "lora_a or .lora_b"),
        (vec![Q[0], Q[1], ("blk.0.attn_q.bias.lora_a", [4, 64])], "not a linear layer"),
    ] {
        let text = refused(&HEAD, Some(8.0), &tensors);
        assert!(text.contains(word), "{tensors:?}: {text}");
    }
}

#[test]
fn patterns_give_single_modules_their_rank() {
    let bench = Bench::new();
    bench.set("rank_pattern", json!({"layers.1.mlp.down_proj": 2}));
    assert!(bench.refused().contains("down_proj"));
    bench.rewrite(|name, shape| {
        let narrowed = match (name.contains("layers.1.mlp.down_proj"), name.contains("lora_A")) {
            (true, true) => vec![2, 96],
            (true, false) => vec![64, 2],
            _ => shape,
        };
        Some((name.to_owned(), narrowed))
    });
    assert_eq!(bench.load().unwrap().info().rank, 4);
}

#[test]
fn a_missing_file_and_a_broken_one_are_refused() {
    let bench = Bench::new();
    std::fs::write(bench.dir().join(WEIGHTS_FILE), b"\xff\xff\xff\xff\xff\xff\xff\x7f{}").unwrap();
    assert!(matches!(bench.load(), Err(AdapterError::Weights(_))));
    std::fs::remove_file(bench.dir().join(WEIGHTS_FILE)).unwrap();
    assert!(bench.refused().contains(WEIGHTS_FILE));
    assert!(matches!(AdapterFiles::read(Path::new("/nonexistent")), Err(AdapterError::Io { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damaged_matrices_never_panic(at in 0usize..4_000, value in any::<u8>()) {
        let bench = Bench::new();
        let path = bench.dir().join(WEIGHTS_FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] = value;
        std::fs::write(&path, bytes).unwrap();
        let _ = bench.load();
        let _ = Packed8::read(&bench.dir(), &bench.info);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Bytes of the head changed, cut and repeated, and bytes that never were a file.
    #[test]
    fn damaged_gguf_adapters_never_panic(
        changes in prop::collection::vec((0usize..2_000, any::<u8>()), 0..6),
        cut in prop::option::of(0usize..5_000),
        tail in prop::collection::vec(any::<u8>(), 0..64),
        is_whole in any::<bool>(),
    ) {
        let info = tiny_info();
        let mut bytes = tiny::adapters::gguf_adapter_bytes(None, 2, 3);
        for (at, value) in changes {
            bytes[at] = value;
        }
        bytes.truncate(cut.unwrap_or(usize::MAX));
        bytes.extend(&tail);
        for bytes in [bytes, [b"GGUF\x03\0\0\0".as_slice(), &tail].concat(), tail] {
            if let Ok(files) = AdapterFiles::from_gguf("damaged".to_owned(), bytes, None) {
                let _ = (files.check(), files.hash(), Packed8::new(&files, info).is_ok(), is_whole && Lora::new(&files, info).is_ok());
            }
        }
    }

    #[test]
    fn settings_of_any_json_never_panic(text in "[\\[\\]{}\":,a-z0-9_.\\- ]{0,200}", key in "[a-z_]{1,30}", value in "(null|true|0|1e999|-1|\"x\"|\\[1\\]|\\{\\})") {
        let weights = Vec::new();
        let config = format!(r#"{{"peft_type":"LORA","r":4,"lora_alpha":8,"{key}":{value}}}"#);
        for text in [text, config] {
            let _ = AdapterFiles::from_bytes("any".to_owned(), text.as_bytes(), weights.clone(), None);
        }
    }
}

/// The tiny model's, loaded once.
fn tiny_info() -> &'static ModelInfo {
    static INFO: std::sync::OnceLock<ModelInfo> = std::sync::OnceLock::new();
    INFO.get_or_init(|| Bench::new().info)
}
