//! Collect, post, pay out, claim: every wei collected is paid or named as unclaimed, and both follow from the receipts the client holds.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, bail, ensure};
use attribution::{
    bundle::Bundle,
    shares::{self, RolePayees},
};
use chain_bridge::{devnet::Role, registry::State};
use futures::future::try_join_all;
use serde_json::{Value, json};
use types::{
    amount::Amount,
    id::{Address, Hash32},
    manifest::AssetKind,
    split::Part,
};

use super::{CHAIN_WAIT, Demo, LOOK, stage::Party};

/// What the receipts give by account and role.
type Dues = BTreeMap<(Address, String), Amount>;

impl Demo {
    /// Every node collects its vouchers and posts its receipts.
    pub async fn settle(&mut self) -> anyhow::Result<()> {
        self.show.step("settle", "Every node collects its vouchers and posts the root of its receipts");
        // At once: an epoch takes roots for a third of its first window.
        let settled = try_join_all(self.nodes.iter().map(|node| self.settle_one(node))).await?;
        let rows: Vec<Vec<String>> = self.nodes.iter().zip(&settled).map(|(node, done)| vec![node.name.clone(), done.clone()]).collect();
        self.show.table(&["node", "settled"], &rows);
        self.summary.insert("settled".into(), json!(settled));
        Ok(())
    }

    /// A root may come too late for an epoch; the node's next try names the next one.
    async fn settle_one(&self, node: &Party) -> anyhow::Result<String> {
        let deadline = tokio::time::Instant::now() + CHAIN_WAIT;
        loop {
            let (is_done, printed, error) = self.stage.cli_outcome(&node.folder, &["settle"]).await?;
            if is_done {
                return printed["done"].as_str().map(str::to_owned).context("settle printed nothing");
            }
            let reason = printed["error"].as_str().unwrap_or(&error);
            ensure!(tokio::time::Instant::now() < deadline, "{} did not settle: {reason}", node.name);
            tracing::info!(node = %node.name, %reason, "settles again");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Once the payout is final, everybody who holds a key claims; all sums are compared with the receipts and the chain.
    pub async fn claim(&mut self) -> anyhow::Result<()> {
        self.show.step("claim", "The payout tree is posted, its window passes, everybody claims");
        let context = self.stage.context(&self.client);
        let chain = context.chain_reader().await?;
        let state = self.final_payout(&chain).await?;
        let bundles = self.bundles()?;
        each_token_is_billed_once(&bundles, &state)?;
        let dues = self.dues(&state, &bundles)?;
        let payees: Vec<&Party> = self.nodes.iter().chain([&self.author]).collect();
        let stage = &self.stage;
        let claims =
            try_join_all(payees.iter().map(|party| async move {
                stage.cli(&party.folder, &["claim"]).await.with_context(|| format!("claim of {}", party.name))
            }))
            .await?;
        let mut claimed = Amount::ZERO;
        let mut claim_rows = Vec::new();
        for (party, printed) in payees.iter().zip(&claims) {
            let wei: Amount = printed["claimed_wei"].as_str().context("claim printed no claimed_wei")?.parse()?;
            let due = Amount::sum(dues.iter().filter(|((account, _), _)| *account == party.account).map(|(_, wei)| *wei))?;
            ensure!(wei == due, "{} was paid {wei} wei, the receipts give it {due}", party.name);
            claimed = claimed.plus(wei)?;
            claim_rows.push(json!({ "name": party.name, "account": party.account, "wei": wei, "gas": printed["gas"] }));
        }
        let is_claimant = |account: &Address| payees.iter().any(|party| party.account == *account);
        let (paid, unpaid): (Vec<_>, Vec<_>) =
            dues.iter().filter(|(_, wei)| **wei > Amount::ZERO).partition(|((account, _), _)| is_claimant(account));
        let unclaimed = Amount::sum(unpaid.iter().map(|(_, wei)| **wei))?;
        let collected = state.collected();
        ensure!(collected == claimed.plus(unclaimed)?, "{collected} wei were collected, {claimed} paid, {unclaimed} are unclaimed");
        let held = self.chain.balance(self.devnet()?.deployment().settlement).await?;
        ensure!(held == unclaimed, "the settlement contract holds {held} wei, {unclaimed} are unclaimed");
        let mut table: Vec<Vec<String>> = Vec::new();
        for (what, rows) in [("paid", &paid), ("unclaimed", &unpaid)] {
            table.extend(
                rows.iter()
                    .map(|((account, role), wei)| vec![what.into(), self.called(*account), role.clone(), right(**wei), wei.in_open()]),
            );
        }
        for (what, wei) in [("collected", collected), ("= paid", claimed), ("+ unclaimed", unclaimed)] {
            table.push(vec![what.into(), String::new(), String::new(), right(wei), wei.in_open()]);
        }
        self.show.table(&["", "who", "for", &format!("{:>WEI_COLUMNS$}", "wei"), "OPEN"], &table);
        let rows = |rows: &[(&(Address, String), &Amount)]| -> Vec<Value> {
            rows.iter().map(|((account, role), wei)| json!({ "role": role, "account": account, "wei": wei })).collect()
        };
        self.summary.insert("payouts".into(), json!(rows(&paid)));
        self.summary.insert("unclaimed".into(), json!(rows(&unpaid)));
        self.summary.insert("claims".into(), json!(claim_rows));
        self.summary.insert("collected_wei".into(), json!(collected));
        self.summary.insert("paid_wei".into(), json!(claimed));
        self.summary.insert("unclaimed_wei".into(), json!(unclaimed));
        Ok(())
    }

    fn bundles(&self) -> anyhow::Result<Vec<Bundle>> {
        self.receipts()?.iter().map(|path| Ok(Bundle::from_json(&std::fs::read(path)?)?)).collect()
    }

    /// What every receipt pays to whom, computed anew from the client's bundles.
    fn dues(&self, state: &State, bundles: &[Bundle]) -> anyhow::Result<Dues> {
        let mut dues = Dues::new();
        for bundle in bundles {
            let (receipt, manifest) = (&bundle.receipt.document, &bundle.manifest);
            let owner = |kind| manifest.asset(kind).and_then(|asset| state.payee_at(asset.version.asset, receipt.block.number));
            let roles = RolePayees {
                protocol: Role::Protocol.account().address(),
                node: Some(state.operator(receipt.node).context("a receipt of somebody who is no operator")?.payout),
                agent: owner(AssetKind::Agent),
                base: owner(AssetKind::Base),
                adapter: owner(AssetKind::Adapter),
                stakers: self.chain.deployment().rewards,
                insurance: self.chain.deployment().insurance,
            };
            let fee = bundle.quote.document.protocol_fee;
            let parts = shares::parts(receipt, fee, manifest)?;
            let shares = shares::payees(receipt, 0, fee, manifest, &roles, |_| false)?;
            for (part, wei) in parts {
                // A role that nobody holds is paid nothing.
                let Some(share) = shares.iter().find(|share| share.part.part == part.code()) else { continue };
                let sum = dues.entry((share.payee, self.role(part, bundle))).or_default();
                *sum = sum.plus(wei)?;
            }
        }
        Ok(dues)
    }

    fn role(&self, part: Part, bundle: &Bundle) -> String {
        let name = match part {
            Part::Protocol => "protocol",
            Part::Node => "node",
            Part::Agent => "agent",
            Part::Base => "base model",
            Part::Adapter => "adapter",
            Part::Stakers => "stakers",
            Part::Insurance => "insurance",
            Part::Span(_) => "contributor",
            Part::Refund => "refund",
            Part::Treasury(number) => {
                let datanet = bundle.manifest.datanets.get(usize::from(number)).map(|datanet| datanet.version.asset.0.to_string());
                let name = self.assets.iter().find(|(_, asset)| Some(*asset) == datanet.as_ref()).map_or("a Datanet", |(name, _)| name);
                return format!("treasury of {name}");
            }
        };
        name.to_owned()
    }

    /// Waits until every open epoch has a payout and the last one is final.
    async fn final_payout(&self, chain: &crate::chain::Chained) -> anyhow::Result<Arc<State>> {
        let deadline = tokio::time::Instant::now() + CHAIN_WAIT;
        loop {
            let state = chain.state().await?;
            let now = chain.head().await?;
            let is_done = state.epochs().all(|(_, epoch)| epoch.payout.is_some_and(|payout| payout.final_at <= now.timestamp));
            if is_done && state.epochs().next().is_some() {
                return Ok(state);
            }
            ensure!(tokio::time::Instant::now() < deadline, "no final payout within {} s", CHAIN_WAIT.as_secs());
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Columns of a sum in wei: 99 OPEN.
const WEI_COLUMNS: usize = 20;

fn right(wei: Amount) -> String {
    format!("{:>WEI_COLUMNS$}", wei.to_string())
}

/// The receipts behind the posted roots are those the client holds, and no output token of a request is in two of them.
fn each_token_is_billed_once(bundles: &[Bundle], state: &State) -> anyhow::Result<()> {
    let roots = || state.epochs().flat_map(|(_, epoch)| epoch.roots.values());
    let posted: u64 = roots().map(|root| root.count).sum();
    ensure!(posted == bundles.len() as u64, "{posted} receipts were posted, the client holds {}", bundles.len());
    let fees = Amount::sum(roots().map(|root| root.fees))?;
    let held = Amount::sum(bundles.iter().map(|bundle| bundle.receipt.document.fee))?;
    ensure!(fees == held, "the posted receipts are worth {fees} wei, those the client holds {held}");
    disjoint(bundles.iter().map(|bundle| {
        let receipt = &bundle.receipt.document;
        (receipt.request, receipt.first_token, receipt.tokens_out)
    }))
}

fn disjoint(receipts: impl Iterator<Item = (Hash32, u32, u32)>) -> anyhow::Result<()> {
    let mut billed: BTreeMap<Hash32, Vec<std::ops::Range<u64>>> = BTreeMap::new();
    for (request, first, count) in receipts {
        let tokens = u64::from(first)..u64::from(first) + u64::from(count);
        let others = billed.entry(request).or_default();
        if let Some(other) = others.iter().find(|other| other.start < tokens.end && tokens.start < other.end) {
            bail!("output tokens {tokens:?} and {other:?} of request {request} are billed by two receipts");
        }
        others.push(tokens);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_billed_twice_is_noticed_and_one_after_a_failover_is_not() {
        let (one, two) = (Hash32([1; 32]), Hash32([2; 32]));
        disjoint([(one, 0, 5), (one, 5, 20), (two, 0, 25)].into_iter()).unwrap();
        let error = disjoint([(one, 5, 20), (one, 0, 6)].into_iter()).unwrap_err().to_string();
        assert!(error.contains("0..6") && error.contains("5..25"), "{error}");
    }
}
