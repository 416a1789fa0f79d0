//! Base and adapters: registered, trained once and kept, brought to every node.

use anyhow::Context as _;
use serde_json::{Value, json};

use super::Demo;

/// Training settings; a change of them trains anew.
const PASSES: &str = "7";

impl Demo {
    /// Registers the base, trains (or finds) an adapter per Datanet, registers both and hands them to every node.
    pub async fn make_adapters(&mut self) -> anyhow::Result<()> {
        let model = self.options.model.to_str().context("the model's path is not text")?.to_owned();
        let base = self.stage.cli(&self.author.folder, &["model", "publish", &model, "--name", "smollm2-135m"]).await?;
        let base = version_of(&base)?;
        let mut trained = false;
        let mut reports = serde_json::Map::new();
        for datanet in ["medical", "python"] {
            let version = self.assets[&format!("{datanet}-version")].clone();
            let folder = self.options.adapters.join(self.key(datanet, &model)?);
            if !folder.join("report.json").exists() {
                trained = true;
                self.say(&format!("training an adapter on {datanet} (kept for later runs)"));
                self.stage.cli(&self.author.folder, &["datanet", "fetch", &self.assets[datanet]]).await?;
                let (out, list) = (folder.to_str().context("path")?.to_owned(), |kind: &str| {
                    format!("{}/{datanet}-{kind}.txt", self.options.data.display())
                });
                let (documents, held_out) = (list("train"), list("heldout"));
                let control = self.assets[&format!("{}-version", if datanet == "medical" { "python" } else { "medical" })].clone();
                self.stage.cli(&self.author.folder, &["datanet", "fetch", control.split('@').next().unwrap_or_default()]).await?;
                let arguments = [
                    "train",
                    "--datanet",
                    &version,
                    "--base",
                    &model,
                    "--out",
                    &out,
                    "--documents",
                    &documents,
                    "--held-out",
                    &held_out,
                    "--control",
                    &control,
                    "--passes",
                    PASSES,
                ];
                let report = self.stage.cli_shown(&self.author.folder, &arguments).await?;
                crate::data::write_atomic(&folder.join("report.json"), &serde_json::to_vec_pretty(&report)?, 0o644)?;
            }
            let report: Value = serde_json::from_slice(&std::fs::read(folder.join("report.json"))?)?;
            self.say(&format!("adapter {datanet}: held-out loss {} -> {}", report["held_out"]["before"], report["held_out"]["after"]));
            reports.insert(datanet.to_owned(), report);
            let folder = folder.to_str().context("path")?.to_owned();
            let name = datanet.to_owned();
            let published = self
                .stage
                .cli(&self.author.folder, &["adapter", "publish", &folder, "--name", &name, "--base", &base, "--datanet", &version])
                .await?;
            self.assets.insert(format!("{datanet}-adapter"), version_of(&published)?);
            for node in &self.nodes {
                self.stage.cli(&node.folder, &["adapter", "import", &folder]).await?;
            }
        }
        self.summary.insert("trained".into(), json!(trained));
        self.summary.insert("training".into(), Value::Object(reports));
        Ok(())
    }

    /// Names a trained adapter by everything that went into it.
    fn key(&self, datanet: &str, model: &str) -> anyhow::Result<String> {
        let mut hasher = blake3::Hasher::new();
        let length = std::fs::metadata(model)?.len();
        hasher.update(PASSES.as_bytes()).update(&length.to_be_bytes()).update(env!("CARGO_PKG_VERSION").as_bytes());
        let files = std::fs::read_dir(&self.options.data)?
            .map(|file| file.map(|file| file.path()))
            .collect::<Result<std::collections::BTreeSet<_>, _>>()?;
        let is_used =
            |path: &&std::path::PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(datanet));
        for path in files.iter().filter(is_used) {
            hasher.update(blake3::hash(&std::fs::read(path)?).as_bytes());
        }
        Ok(format!("{datanet}-{}", &hasher.finalize().to_hex()[..16]))
    }
}

/// ASSET@VERSION that a publication printed.
pub fn version_of(printed: &Value) -> anyhow::Result<String> {
    printed["version"].as_str().map(str::to_owned).context("the publication printed no version")
}
