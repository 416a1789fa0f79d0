//! What an exported folder proves: receipts that contradict each other or stand twice, named blocks, broken rules, a wrong payout.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use chain_bridge::fraud::payout::Shown;
use serde::Serialize;
use types::id::{Address, Hash32};

use crate::{
    chain::Chained,
    command::{
        Context,
        audit::replay,
        epoch::{
            folder::{Folder, Indexed},
            lines::{find, from_poster_alone},
        },
        sent::Transaction,
    },
    evidence::search::{Found, Rooted, expected_payout, payout_fault, rooted_faults},
    output::table,
};

use super::requests::{self, Held};

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    /// Receipts looked at.
    receipts: usize,
    faults: Vec<Row>,
    /// Whether the chain's contracts would take every proof: only after --dry-run.
    #[serde(skip_serializing_if = "Option::is_none")]
    is_provable: Option<bool>,
    /// Requests that were held against posted receipts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    requests: Vec<Held>,
    transactions: Vec<Transaction>,
}

#[derive(Debug, Serialize)]
struct Row {
    fault: &'static str,
    why: String,
    accused: Address,
    /// The transaction of its proof; nothing if nothing was sent, or the chain refused it.
    transaction: Option<Hash32>,
    /// Why the chain refuses the proof, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

/// Searches the folder, and proves every fault that is found unless `is_dry`; holds the requests of `files` against its receipts.
pub(super) async fn run(context: &Context, path: &Path, files: &[PathBuf], is_dry: bool, bootstrap: Vec<String>) -> anyhow::Result<()> {
    let chain = if is_dry { context.chain_reader().await? } else { context.chain().await? };
    let state = chain.state().await?;
    let folder = Folder::new(path);
    let Indexed { content, .. } = folder.index()?;
    let (deployment, held) = replay::held(&folder, &content)?;
    ensure!(
        deployment == *chain.deployment(),
        "{} is of another deployment (chain {}, settlement {}): give its registry.json by --registry",
        path.display(),
        deployment.chain_id,
        deployment.settlement
    );
    let receipts: Rooted =
        held.iter().flat_map(|held| held.receipts.iter().map(|(node, items)| ((held.epoch, *node), items.clone()))).collect();
    let mut found = rooted_faults(&state, &deployment, &receipts);
    if let Some(last) = held.last() {
        found.extend(pending_fault(context, &chain, &receipts, last, bootstrap).await?);
    }
    let count = receipts.values().map(Vec::len).sum();
    let mut printed = Printed { receipts: count, faults: Vec::new(), is_provable: None, requests: Vec::new(), transactions: Vec::new() };
    for found in found {
        let (row, sent) = prove(&chain, found, is_dry).await?;
        printed.faults.push(row);
        printed.transactions.extend(sent);
    }
    let (requests, sent) = requests::hold(&chain, &state, &receipts, files, is_dry).await?;
    printed.requests = requests;
    printed.transactions.extend(sent);
    if is_dry && !printed.faults.is_empty() {
        printed.is_provable = Some(printed.faults.iter().all(|row| row.refused.is_none()));
    }
    context.output.result(&printed, || describe(&printed))
}

/// F7, while the payout can be taken back. Lines that the folder lacks are looked for elsewhere.
async fn pending_fault(
    context: &Context,
    chain: &Chained,
    receipts: &Rooted,
    held: &replay::Held,
    bootstrap: Vec<String>,
) -> anyhow::Result<Option<Found>> {
    let (state, now, epoch) = (chain.state().await?, chain.head().await?.timestamp, held.epoch);
    let Some(payout) = state.epoch(epoch).and_then(|epoch| epoch.payout).filter(|payout| payout.final_at > now) else { return Ok(None) };
    tracing::debug!(epoch, root = %payout.root, "the payout is pending: compared with its receipts");
    let expected = expected_payout(&state, chain.deployment(), receipts, epoch)?;
    if (expected.root(), expected.total()) == (payout.root, payout.total) {
        return Ok(None);
    }
    let tree = Shown::of(held.payout.iter().map(|line| (&line.leaf, line.parts.as_slice())));
    let fetched;
    let shown = if tree.is_ok_and(|tree| tree.root() == payout.root) {
        &held.payout
    } else {
        let from_poster = from_poster_alone(context, &state, epoch, &payout, bootstrap);
        let found = find(context, &chain.client, &state, (epoch, &payout), from_poster).await;
        fetched = found.with_context(|| format!("the payout of epoch {epoch} is not the one its receipts give"))?;
        &fetched
    };
    payout_fault(&state, chain.deployment(), receipts, epoch, shown).with_context(|| format!("the payout of epoch {epoch}"))
}

/// Tries a proof and, unless `is_dry`, sends it; one that the chain refuses holds up no other.
async fn prove(chain: &Chained, found: Found, is_dry: bool) -> anyhow::Result<(Row, Vec<Transaction>)> {
    let row = |transaction, refused| Row { fault: found.fault, why: found.why.clone(), accused: found.accused, transaction, refused };
    if let Err(error) = chain.client.dry_run(found.accused, &found.proof).await {
        return Ok((row(None, Some(error.to_string())), Vec::new()));
    }
    if is_dry {
        return Ok((row(None, None), Vec::new()));
    }
    let (commit, proved) = chain.client.send_proof(found.accused, &found.proof).await?;
    let sent = vec![Transaction::new("commit to the proof", &commit), Transaction::new("prove the fault", &proved)];
    Ok((row(Some(proved.transaction), None), sent))
}

fn describe(printed: &Printed) -> String {
    if printed.faults.is_empty() && printed.requests.is_empty() {
        return format!("nothing found: {} receipts and their payouts are as they must be", printed.receipts);
    }
    let rows: Vec<Vec<String>> = printed
        .faults
        .iter()
        .map(|row| vec![row.fault.to_owned(), row.accused.to_string(), row.why.clone(), row.refused.clone().unwrap_or_default()])
        .collect();
    let mut text = table(&["fault", "accused", "why", "refused"], &rows);
    for held in &printed.requests {
        text.push_str(&format!("\nreceipt {} of {} is not what was asked for: {}", held.receipt, held.node, held.what));
        if let Some(deadline) = held.deadline {
            text.push_str(&format!(", the node may answer until {deadline}"));
        }
    }
    for row in &printed.transactions {
        text.push_str(&format!("\n{row}"));
    }
    if printed.is_provable == Some(true) {
        text.push_str("\nthe chain would take every proof; nothing was sent");
    }
    text
}
