//! Base and adapters: registered, trained once and kept, brought to every node.
//!
//! A kept adapter is named by everything that decides what training gives: settings, base, documents, lists. A folder without a whole
//! `kept.json`, or whose files have other digests than it says, is trained anew.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use inference::train::{Arithmetic, TrainConfig};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Demo, place};
use crate::data::write_atomic;

/// Times each document is seen. Six (the default of `tributary train`) leave more than half of the answers without a quotation of eight words now
/// and then; a seventh settles it.
const PASSES: u32 = 7;
/// Changes when the arithmetic of training does, so that kept adapters are what a fresh run would give.
const METHOD: &str = "tributary/demo/adapter/2";
/// Written last: digests of a kept adapter's files.
const KEPT: &str = "kept.json";
/// What training printed.
const REPORT: &str = "report.json";

impl Demo {
    /// Registers the base, trains (or finds) an adapter per Datanet, registers both and hands them to every node.
    pub async fn make_adapters(&mut self) -> anyhow::Result<()> {
        self.show.step("adapters", "An adapter for each Datanet");
        let model = self.options.model.to_str().context("the model's path is not text")?.to_owned();
        let base = version_of(&self.stage.cli(&self.author.folder, &["model", "publish", &model, "--name", "smollm2-135m"]).await?)?;
        let model_hash = self.model_hash().await?;
        let (mut trained, mut reports, mut rows) = (false, serde_json::Map::new(), Vec::new());
        for (datanet, control) in [("medical", "python"), ("python", "medical")] {
            let folder = self.options.adapters.join(self.key(datanet, control, &model_hash)?);
            if !self.is_kept(&folder)? {
                trained = true;
                self.train(datanet, control, &folder).await?;
            }
            let report: Value = serde_json::from_slice(&std::fs::read(folder.join(REPORT))?).context(REPORT)?;
            rows.push(row(datanet, &report));
            reports.insert(datanet.to_owned(), report);
            let version = self.assets[&format!("{datanet}-version")].clone();
            let folder = folder.to_str().context("the adapters folder's path is not text")?.to_owned();
            let publish = ["adapter", "publish", &folder, "--name", datanet, "--base", &base, "--datanet", &version];
            let import = ["adapter", "import", &folder];
            let published = self.stage.cli(&self.author.folder, &publish);
            let (published, _) = tokio::try_join!(published, self.stage.cli_all(&self.nodes, &import))?;
            self.assets.insert(format!("{datanet}-adapter"), version_of(&published)?);
        }
        self.show.table(&["adapter", "documents", "held out", "loss on held out", "loss on the other"], &rows);
        self.show.line(if trained {
            "trained now, kept for later runs"
        } else {
            "trained by an earlier run from the same inputs and settings"
        });
        self.summary.insert("trained".into(), json!(trained));
        self.summary.insert("training".into(), Value::Object(reports));
        Ok(())
    }

    async fn train(&mut self, datanet: &str, control: &str, folder: &Path) -> anyhow::Result<()> {
        self.show.line(&format!("training on {datanet}; kept in {} for later runs", folder.display()));
        if folder.exists() {
            std::fs::remove_dir_all(folder).with_context(|| format!("{}: cannot be replaced", folder.display()))?;
        }
        // Contributors differ from one demonstration to the next, and the manifest names them: an unfinished run is never the same run.
        let mut unfinished = folder.as_os_str().to_owned();
        unfinished.push(".partial");
        if Path::new(&unfinished).exists() {
            std::fs::remove_dir_all(&unfinished).with_context(|| format!("{}: cannot be replaced", Path::new(&unfinished).display()))?;
        }
        for name in [datanet, control] {
            self.stage.cli(&self.author.folder, &["datanet", "fetch", &self.assets[name]]).await?;
        }
        let text = |path: PathBuf| path.to_str().map(str::to_owned).context("a path is not text");
        let list = |kind: &str| text(self.options.data.join(format!("{datanet}-{kind}.txt")));
        let version = |name: &str| self.assets[&format!("{name}-version")].clone();
        let (documents, held_out, out) = (list("train")?, list("heldout")?, text(folder.to_owned())?);
        let (datanet, control, model) = (version(datanet), version(control), text(self.options.model.clone())?);
        let mut arguments = vec!["train", "--datanet", &datanet, "--base", &model, "--out", &out];
        arguments.extend(["--documents", &documents, "--held-out", &held_out, "--control", &control]);
        let settings = settings_as_options();
        arguments.extend(settings.iter().map(String::as_str));
        let report = self.stage.cli_shown(&self.author.folder, &arguments).await?;
        write_atomic(&folder.join(REPORT), &serde_json::to_vec_pretty(&report)?, 0o644)?;
        write_atomic(&folder.join(KEPT), &serde_json::to_vec_pretty(&digests(folder)?)?, 0o644)?;
        Ok(())
    }

    /// Whether a folder holds a whole adapter; says so if it is damaged.
    fn is_kept(&self, folder: &Path) -> anyhow::Result<bool> {
        let bytes = match std::fs::read(folder.join(KEPT)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            bytes => {
                bytes.with_context(|| format!("{}: cannot be read: make it readable, or give another --adapters", folder.display()))?
            }
        };
        let is_whole =
            serde_json::from_slice::<BTreeMap<String, String>>(&bytes).is_ok_and(|kept| digests(folder).is_ok_and(|now| now == kept));
        if !is_whole {
            self.show.line(&format!("{} is damaged and is trained anew", folder.display()));
        }
        Ok(is_whole)
    }

    async fn model_hash(&self) -> anyhow::Result<String> {
        let model = self.options.model.clone();
        tokio::task::spawn_blocking(move || sha256(&model)).await?
    }

    /// Names a trained adapter by everything that decides it.
    fn key(&self, datanet: &str, control: &str, model: &str) -> anyhow::Result<String> {
        let mut hasher = blake3::Hasher::new();
        for part in [METHOD, env!("CARGO_PKG_VERSION"), datanet, model, &serde_json::to_string(&settings())?] {
            hasher.update(&(part.len() as u64).to_be_bytes()).update(part.as_bytes());
        }
        // The other Datanet's documents are measured on: they decide the report.
        let is_used = |name: &&&str| name.starts_with(datanet) || (name.starts_with(control) && name.ends_with(".jsonl"));
        for name in place::DATA_FILES.iter().filter(is_used) {
            hasher.update(name.as_bytes()).update(sha256(&self.options.data.join(name))?.as_bytes());
        }
        Ok(format!("{datanet}-{}", &hasher.finalize().to_hex()[..16]))
    }
}

/// How the demonstration trains.
fn settings() -> TrainConfig {
    TrainConfig { passes: PASSES, ..TrainConfig::default() }
}

/// The same for `tributary train`; what it has no option for is its default there too.
fn settings_as_options() -> Vec<String> {
    let TrainConfig { rank, learning_rate, passes, seed, max_length, layers, batch, accumulate, warm_up, arithmetic, .. } = settings();
    let pairs = [
        ("--rank", rank.to_string()),
        ("--learning-rate", learning_rate.to_string()),
        ("--passes", passes.to_string()),
        ("--seed", seed.to_string()),
        ("--max-length", max_length.to_string()),
        ("--layers", layers.to_string()),
        ("--batch", batch.to_string()),
        ("--accumulate", accumulate.to_string()),
        ("--warm-up", warm_up.to_string()),
    ];
    let float = (arithmetic == Arithmetic::F32).then(|| "--f32".to_owned());
    pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).chain(float).collect()
}

/// SHA-256 of every file of a folder but the record of them.
fn digests(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != KEPT && entry.file_type()?.is_file() {
            found.insert(name, sha256(&entry.path())?);
        }
    }
    ensure!(!found.is_empty(), "{} is empty", folder.display());
    Ok(found)
}

fn sha256(path: &Path) -> anyhow::Result<String> {
    let mut hasher = Sha256::new();
    let mut file = std::fs::File::open(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    io::copy(&mut file, &mut hasher).with_context(|| format!("{}: cannot be read", path.display()))?;
    Ok(hex::encode(hasher.finalize()))
}

fn row(datanet: &str, report: &Value) -> Vec<String> {
    let change = |name: &str| {
        let loss = |when: &str| report[name][when].as_f64().map_or_else(|| "-".to_owned(), |loss| format!("{loss:.3}"));
        format!("{} -> {}", loss("before"), loss("after"))
    };
    vec![datanet.into(), report["documents"].to_string(), report["held_out_documents"].to_string(), change("held_out"), change("control")]
}

/// ASSET@VERSION that a publication printed.
pub fn version_of(printed: &Value) -> anyhow::Result<String> {
    printed["version"].as_str().map(str::to_owned).context("the publication printed no version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_adapter_of_which_one_byte_changed_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("adapter_model.safetensors"), b"weights").unwrap();
        let kept = digests(folder.path()).unwrap();
        std::fs::write(folder.path().join(KEPT), serde_json::to_vec(&kept).unwrap()).unwrap();
        assert_eq!(digests(folder.path()).unwrap(), kept, "the record does not count itself");
        std::fs::write(folder.path().join("adapter_model.safetensors"), b"weightz").unwrap();
        assert_ne!(digests(folder.path()).unwrap(), kept);
    }

    #[test]
    fn every_setting_that_the_command_line_takes_is_given() {
        let options = settings_as_options();
        for name in ["--rank", "--learning-rate", "--passes", "--seed", "--max-length", "--layers", "--batch", "--accumulate", "--warm-up"]
        {
            assert!(options.iter().any(|option| option == name), "{name}");
        }
        assert_eq!(options.iter().any(|option| option == "--f32"), settings().arithmetic == Arithmetic::F32);
        let defaults = TrainConfig::default();
        let mine = settings();
        assert_eq!((mine.alpha, mine.weight_decay, mine.clip), (defaults.alpha, defaults.weight_decay, defaults.clip));
    }
}
