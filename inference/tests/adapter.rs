//! Adapters from PEFT folders: what is taken, what is refused, and by which words.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use inference::adapter::{AdapterError, AdapterFiles, CONFIG_FILE, Lora, MANIFEST_FILE, WEIGHTS_FILE};
use inference::model::Model;
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
        ("rank_pattern", json!({"^model.*q_proj": 8}), "^model.*q_proj"),
        ("tributary_base", json!("zz"), "64 hex"),
    ] {
        let bench = Bench::new();
        bench.set(key, value);
        let text = bench.refused();
        assert!(text.contains(word), "{key}: {text}");
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
    }
}
