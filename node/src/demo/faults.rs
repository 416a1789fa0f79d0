//! A receipt forged under a node's own key, found and punished by an account that holds only the bundle and the public Datanet.

use anyhow::{Context as _, ensure};
use attribution::bundle::Bundle;
use serde_json::{Value, json};
use types::key::Signed;

use super::Demo;
use crate::data::write_atomic;

impl Demo {
    /// Forges a span, has it proven, watches the stake fall; the same command finds nothing in any honest receipt.
    pub async fn forge_and_slash(&mut self) -> anyhow::Result<()> {
        let bootstrap = self.nodes[0].bootstrap()?.to_owned();
        let auditor = self.stage.party("auditor", &self.options.model, Some(&bootstrap)).await?;
        self.fund(auditor.account, 1).await?;
        let receipts = self.receipts()?;
        for path in &receipts {
            let path = path.to_str().context("path")?;
            let printed = self.stage.cli(&auditor.folder, &["audit", "prove", path]).await?;
            ensure!(printed["faults"].as_array().is_some_and(Vec::is_empty), "an honest receipt was accused: {printed}");
        }
        self.say(&format!("audit found nothing in {} honest receipts", receipts.len()));
        let (forged, node) = self.forge(&receipts)?;
        let before = self.chain.stake_of(node).await?;
        let forged = forged.to_str().context("path")?;
        let printed = self.stage.cli(&auditor.folder, &["audit", "prove", forged]).await?;
        let after = self.chain.stake_of(node).await?;
        ensure!(after < before, "the stake of {node} is still {after} wei");
        self.say(&format!("forged span proven in transaction {}: stake {before} -> {after} wei", printed["transaction"]));
        self.summary.insert("slash".into(), json!({ "transaction": printed["transaction"], "stake_before": before, "stake_after": after, "node": node, "gas": printed["gas"] }));
        self.verify_offline().await
    }

    /// Moves a paid span of an honest receipt to where the Datanet says something else, and signs it again with the node's own key.
    fn forge(&self, receipts: &[std::path::PathBuf]) -> anyhow::Result<(std::path::PathBuf, types::id::Address)> {
        let bundles = receipts.iter().map(|path| Ok(Bundle::from_json(&std::fs::read(path)?)?)).collect::<anyhow::Result<Vec<_>>>()?;
        let mut bundle =
            bundles.into_iter().find(|bundle| !bundle.receipt.document.spans.is_empty()).context("no receipt carries a span")?;
        let mut receipt = bundle.receipt.document.clone();
        let span = receipt.spans.first_mut().context("just found")?;
        span.position = if span.position >= 4_096 { span.position - 4_096 } else { span.position + 4_096 };
        let account = receipt.node;
        let party = self.nodes.iter().find(|node| node.account == account).context("the receipt is one of the five nodes'")?;
        let key = self.stage.context(party).account()?;
        bundle.receipt = Signed::new(&key, &bundle.domains, receipt);
        let path = self.options.out.join("forged.json");
        write_atomic(&path, bundle.to_json().as_bytes(), 0o644)?;
        Ok((path, account))
    }

    /// Every bundle verifies with the binary alone; the commands are kept in the summary.
    async fn verify_offline(&mut self) -> anyhow::Result<()> {
        let mut commands: Vec<Value> = Vec::new();
        for path in self.receipts()? {
            let path = path.to_str().context("path")?.to_owned();
            self.stage.cli(&self.client.folder, &["receipt", "verify", &path]).await?;
            commands.push(json!(format!("target/debug/tributary receipt verify {path}")));
        }
        self.say(&format!("{} bundles verify offline", commands.len()));
        self.summary.insert("verify".into(), json!(commands));
        self.summary.insert("gas".into(), json!(self.chain.gas()));
        Ok(())
    }
}
