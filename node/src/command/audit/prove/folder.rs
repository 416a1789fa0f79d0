//! What an exported folder proves: receipts that contradict each other or stand twice, named blocks, broken rules, a wrong payout.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use attribution::epoch::replay::Facts as _;
use chain_bridge::{
    fraud::{
        payout::Shown,
        search::{root_of, tree_of},
    },
    registry::State,
};
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
    evidence::search::{Found, Rooted, bodies_of, expected_payout, payout_fault, rooted_faults},
    facts::ChainFacts,
    output::table,
};

use super::requests::{self, Held};

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    /// Receipts looked at.
    receipts: usize,
    faults: Vec<Row>,
    /// What was not searched, and why: of that nothing is said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unsearched: Vec<String>,
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
    let mut unsearched = unrooted(&state, &receipts);
    if let Some(last) = held.last() {
        found.extend(pending_fault(context, &chain, &receipts, last, bootstrap).await?);
    } else {
        unsearched.push("the folder holds no epoch".to_owned());
    }
    let count = receipts.values().map(Vec::len).sum();
    let mut printed =
        Printed { receipts: count, faults: Vec::new(), unsearched, is_provable: None, requests: Vec::new(), transactions: Vec::new() };
    for found in found {
        let (row, sent) = prove(&chain, found, is_dry).await?;
        printed.faults.push(row);
        printed.transactions.extend(sent);
    }
    let (requests, unposted, sent) = requests::hold(&chain, &state, &receipts, files, is_dry).await?;
    printed.requests = requests;
    printed.unsearched.extend(unposted);
    printed.transactions.extend(sent);
    if is_dry && !printed.faults.is_empty() {
        printed.is_provable = Some(printed.faults.iter().all(|row| row.refused.is_none()));
    }
    context.output.result(&printed, || describe(&printed))
}

/// What of the posted receipts is not at hand: roots of the folder's epochs whose receipts it lacks, or holds others in place of. These are searched for nothing that a
/// place under a root proves.
fn unrooted(state: &State, receipts: &Rooted) -> Vec<String> {
    let epochs: BTreeSet<u64> = receipts.keys().map(|(epoch, _)| *epoch).collect();
    let posted = state.epochs().filter(|(epoch, _)| epochs.contains(epoch)).flat_map(|(epoch, known)| {
        let roots = known.roots.iter().filter(|(_, root)| root.count > 0);
        roots.map(move |(node, _)| (epoch, *node))
    });
    let all: BTreeSet<(u64, Address)> = posted.chain(receipts.keys().copied()).collect();
    let bodies = bodies_of(receipts);
    let missing = all.into_iter().filter_map(|(epoch, node)| {
        let why = match (root_of(state, epoch, node), bodies.get(&(epoch, node))) {
            // Nobody is paid by a root that was taken out, so nobody has to show what is under it.
            (_, None) if ChainFacts(state).is_out(epoch, node, Hash32::ZERO) => return None,
            (_, None) => "has a root on the chain, and the folder none of its receipts",
            (None, Some(of_node)) if of_node.is_empty() => return None,
            (None, Some(_)) => "has no root on the chain, and the folder receipts",
            (Some((root, _)), Some(of_node)) => {
                let is_nothing = root.count == 0 && of_node.is_empty();
                let is_its = is_nothing || tree_of(of_node).is_some_and(|tree| (tree.root(), tree.total()) == (root.receipts, root.fees));
                if is_its {
                    return None;
                }
                "has another root on the chain than the folder's receipts give: they were changed, or are not all"
            }
        };
        Some(format!("epoch {epoch}: node {node} {why}"))
    });
    missing.collect()
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
    let unsearched: String = printed.unsearched.iter().map(|why| format!("\nnot searched: {why}")).collect();
    if printed.faults.is_empty() && printed.requests.is_empty() {
        return match printed.unsearched.is_empty() {
            true => format!("nothing found: {} receipts and their payouts are as they must be", printed.receipts),
            false => format!("nothing found in what was searched, which is not all{unsearched}"),
        };
    }
    let rows: Vec<Vec<String>> = printed
        .faults
        .iter()
        .map(|row| vec![row.fault.to_owned(), row.accused.to_string(), row.why.clone(), row.refused.clone().unwrap_or_default()])
        .collect();
    let mut text = table(&["fault", "accused", "why", "refused"], &rows);
    text.push_str(&unsearched);
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

#[cfg(test)]
mod tests {
    use attribution::epoch::node_root;
    use chain_bridge::registry::event::{Event, Logged};
    use types::{amount::Amount, operator::NodeRoot, time::BlockRef};

    use super::*;

    const NODE: Address = Address([4; 20]);

    /// Books in which `NODE` posted the root of no receipts, said to be `count`, in epochs 1 and 2.
    fn books(count: u64) -> State {
        let mut state = State::default();
        let mut log = 0;
        for epoch in [1, 2] {
            let NodeRoot { receipts, fees, .. } = node_root(NODE, epoch, &[]).unwrap();
            for event in [
                Event::EpochOpened { epoch, opened_at: 10, accepts_until: 15, payout_from: 25 },
                Event::NodeRootSubmitted { epoch, node: NODE, receipts, count, fees, block: 100 },
            ] {
                let block = BlockRef { number: 100, hash: Hash32::ZERO };
                state.apply(&Logged { block, time: 12, transaction: Hash32::ZERO, log, event }).unwrap();
                log += 1;
            }
        }
        state
    }

    #[test]
    fn receipts_that_are_not_those_of_a_root_or_are_not_there_are_said_not_to_be_searched() {
        let held = |places: &[(u64, Address)]| -> Rooted { places.iter().map(|place| (*place, vec![])).collect() };
        let said = |places: &[(u64, Address)], count| unrooted(&books(count), &held(places)).join("; ");
        assert_eq!(said(&[(1, NODE)], 3), "", "an epoch that the folder lacks is no part of it");
        assert_eq!(said(&[(1, NODE), (2, NODE)], 3), "");
        let other = Address([5; 20]);
        let lacks = said(&[(1, other)], 3);
        assert!(lacks.contains(&format!("epoch 1: node {NODE} has a root on the chain, and the folder none")), "{lacks}");
        assert_eq!(said(&[(1, other)], 0), "", "a root over nothing covers nothing");
        let mut wrong = State::default();
        let block = BlockRef { number: 100, hash: Hash32::ZERO };
        let opened = Event::EpochOpened { epoch: 1, opened_at: 10, accepts_until: 15, payout_from: 25 };
        let root = Event::NodeRootSubmitted { epoch: 1, node: NODE, receipts: Hash32([9; 32]), count: 3, fees: Amount(9), block: 100 };
        for (log, event) in (0..).zip([opened, root]) {
            wrong.apply(&Logged { block, time: 12, transaction: Hash32::ZERO, log, event }).unwrap();
        }
        let changed = unrooted(&wrong, &held(&[(1, NODE)])).join("; ");
        assert!(changed.contains("has another root on the chain than the folder's receipts give"), "{changed}");
    }

    #[test]
    fn what_was_not_searched_is_not_said_to_be_as_it_must_be() {
        let printed = |unsearched: &[&str]| Printed {
            receipts: 3,
            faults: vec![],
            unsearched: unsearched.iter().map(|why| (*why).to_owned()).collect(),
            is_provable: None,
            requests: vec![],
            transactions: vec![],
        };
        assert!(describe(&printed(&[])).contains("3 receipts and their payouts are as they must be"));
        let told = describe(&printed(&["epoch 1: gone"]));
        assert!(told.contains("not searched: epoch 1: gone") && !told.contains("as they must be"), "{told}");
    }
}
