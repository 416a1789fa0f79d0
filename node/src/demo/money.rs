//! Collect, post, pay out, claim: every wei collected is paid or named as unclaimed.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use types::amount::Amount;

use super::{CHAIN_WAIT, Demo};

impl Demo {
    /// Every node settles, the poster posts the payout tree, and everybody who holds a key claims.
    pub async fn settle_and_claim(&mut self) -> anyhow::Result<()> {
        let mut settled = Vec::new();
        for node in &self.nodes {
            settled.push(self.stage.cli(&node.folder, &["settle"]).await?);
        }
        self.say("every node collected its vouchers and posted its receipts");
        let context = self.stage.context(&self.client);
        let chain = context.chain_reader().await?;
        let state = self.final_payout(&chain).await?;
        self.say("payout tree posted, its window has passed");
        let mut paid = Vec::new();
        let mut claims = Vec::new();
        let payees: Vec<(String, std::path::PathBuf)> =
            self.nodes.iter().chain([&self.author]).map(|party| (party.name.clone(), party.folder.clone())).collect();
        let mut claimed = Amount::ZERO;
        for (name, folder) in payees {
            let printed = self.stage.cli(&folder, &["claim"]).await.with_context(|| format!("claim of {name}"))?;
            let wei: Amount = printed["claimed_wei"].as_str().context("claim printed no claimed_wei")?.parse()?;
            claimed = claimed.plus(wei)?;
            println!("    {name:<8} {wei} wei");
            paid.extend(by_role(&printed)?);
            claims.push(json!({ "name": name, "account": printed["account"], "wei": wei, "gas": printed["gas"] }));
        }
        let collected = state.collected();
        let unclaimed = collected.minus(claimed)?;
        let on_chain = self.chain.balance(self.devnet.deployment().settlement).await?;
        ensure!(on_chain == unclaimed, "settlement holds {on_chain} wei, {unclaimed} are unclaimed");
        self.say(&format!("collected {collected} wei = paid {claimed} + unclaimed {unclaimed} (protocol, insurance, stakers, treasuries)"));
        self.summary.insert("payouts".into(), json!(paid));
        self.summary.insert("claims".into(), json!(claims));
        self.summary.insert("collected_wei".into(), json!(collected));
        self.summary.insert("paid_wei".into(), json!(claimed));
        self.summary.insert("unclaimed_wei".into(), json!(unclaimed));
        self.summary.insert("settled".into(), json!(settled));
        Ok(())
    }

    /// Waits until every open epoch has a payout and the last one is final.
    async fn final_payout(&self, chain: &crate::chain::Chained) -> anyhow::Result<std::sync::Arc<chain_bridge::registry::State>> {
        let deadline = tokio::time::Instant::now() + CHAIN_WAIT;
        loop {
            let state = chain.state().await?;
            let now = chain.head().await?;
            let is_done = state.epochs().all(|(_, epoch)| epoch.payout.is_some_and(|payout| payout.final_at <= now.timestamp));
            if is_done && state.epochs().next().is_some() {
                return Ok(state);
            }
            ensure!(tokio::time::Instant::now() < deadline, "no final payout within {} s", CHAIN_WAIT.as_secs());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// One row per role of an account's claim, in wei.
fn by_role(printed: &Value) -> anyhow::Result<Vec<Value>> {
    let mut sums: BTreeMap<String, Amount> = BTreeMap::new();
    for part in printed["parts"].as_array().context("claim printed no parts")? {
        let role = part["role"].as_str().context("a part without a role")?;
        // Spans are numbered per receipt; to its payee each is the same role.
        let role = role.split(' ').next().filter(|first| *first == "span").map_or(role, |_| "contributor");
        let wei: Amount = part["wei"].as_str().context("a part without an amount")?.parse()?;
        let sum = sums.entry(role.to_owned()).or_default();
        *sum = sum.plus(wei)?;
    }
    Ok(sums.into_iter().map(|(role, wei)| json!({ "role": role, "account": printed["account"], "wei": wei })).collect())
}
