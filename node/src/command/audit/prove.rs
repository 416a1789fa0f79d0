//! From a bundle and the public Datanets, or from an exported folder, to proofs that the chain takes.

mod folder;
pub(in crate::command) mod leaves;
mod requests;

use std::path::{Path, PathBuf};

use ::attribution::{
    bundle::{self, Bundle},
    index::Index,
    message::ReceiptItem,
};
use anyhow::{Context as _, ensure};
use chain_bridge::{
    client::fraud::Slashed,
    fraud::calldata::Proof,
    registry::{State, state::Epoch},
};
use serde::Serialize;
use types::{
    amount::Amount,
    encoding::Document as _,
    id::{Address, Hash32},
};

use crate::{
    chain::Chained,
    command::{Context, index as build, receipt, sent::Transaction, talk::joining},
    evidence::{
        attribution::{self, Fault, Searched},
        search::{Found, bill_faults, lane_fault},
    },
    output::table,
};

use self::leaves::Leaves;

/// Further spans of a receipt that one run voids.
const VOIDED_MAX: usize = 16;

/// What is printed.
#[derive(Debug, Serialize)]
pub(in crate::command) struct Printed {
    receipt: Hash32,
    node: Address,
    /// False, ineligible, misdirected and omitted spans, false weights, false and missing masks; empty for an honest receipt.
    faults: Vec<Fault>,
    /// Rules of the bill and the lane that it breaks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    broken: Vec<Broken>,
    /// Why a part of the search was not made, where another part found something: there may be more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unsearched: Vec<String>,
    /// Fields that do not stand though no span is false: nothing this command can prove.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unproved: Vec<String>,
    /// Whether the chain's contract would take the proof: only after --dry-run.
    #[serde(skip_serializing_if = "Option::is_none")]
    is_provable: Option<bool>,
    /// The transaction of the proof.
    transaction: Option<Hash32>,
    transactions: Vec<Transaction>,
    gas: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    slash: Option<Slash>,
}

/// A rule of Protocol P7 that a receipt breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Broken {
    fault: &'static str,
    why: String,
}

/// What a proof took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Slash {
    #[serde(rename = "stake_before_wei")]
    pub(super) stake_before: Amount,
    #[serde(rename = "stake_after_wei")]
    pub(super) stake_after: Amount,
    #[serde(rename = "taken_wei")]
    taken: Amount,
    /// What the client lost, and is paid first when the slash is divided.
    #[serde(rename = "to_client_wei")]
    to_client: Amount,
    /// From when on the slash may be divided, in seconds since 1970.
    release_at: u64,
}

/// What is held against a receipt, or a folder, beside the texts.
#[derive(Debug)]
pub(super) struct Asked {
    /// Receipts whose signed requests are held against what a folder shows.
    pub(super) requests: Vec<PathBuf>,
    /// The file with the answer's leaves.
    pub(super) leaves: Option<PathBuf>,
}

/// Searches a bundle or a folder. Of a bundle it proves the first fault of its attribution, or the first broken rule if there is none; nothing if `is_dry`.
pub(super) async fn run(context: &Context, file: &Path, asked: Asked, is_dry: bool, bootstrap: Vec<String>) -> anyhow::Result<()> {
    let Asked { requests, leaves } = &asked;
    if file.is_dir() {
        ensure!(leaves.is_none(), "--leaves are those of one answer: name its receipt's file");
        return folder::run(context, file, requests, is_dry, bootstrap).await;
    }
    ensure!(requests.is_empty(), "--request is held against the receipts of a folder: name one that `tributary epoch export` wrote");
    let bundle = receipt::read(file)?;
    let leaves = leaves.as_deref().map(Leaves::read).transpose()?;
    let config = joining(context, bootstrap)?;
    let chain = if is_dry { context.chain_reader().await? } else { context.chain().await? };
    let domains = chain.client.domains();
    ensure!(
        bundle.domains == domains,
        "{} is of another deployment (chain {}, settlement {}): give its registry.json by --registry",
        file.display(),
        bundle.domains.chain_id,
        bundle.domains.settlement
    );
    let state = chain.state().await?;
    let index = build::fetched(context, &config, &state, &bundle.manifest).await?;
    let printed =
        judge(context, &chain, &state, (&bundle, &index, leaves.as_ref()), is_dry).await.with_context(|| format!("{}", file.display()))?;
    context.output.result(&printed, || describe(&printed))
}

/// Searches a bundle, whose index is at hand, and proves what is found; if `is_dry`, only asks the chain whether it would take the first proof.
pub(in crate::command) async fn judge(
    context: &Context,
    chain: &Chained,
    state: &State,
    (bundle, index, leaves): (&Bundle, &Index, Option<&Leaves>),
    is_dry: bool,
) -> anyhow::Result<Printed> {
    let mut broken =
        bill_faults(state, chain.deployment(), &ReceiptItem::new(bundle.receipt.clone(), &bundle.quote.document, &bundle.manifest));
    broken.extend(lane_fault(state, chain.deployment(), &bundle.receipt, &bundle.lane.document));
    let lies = leaves.map_or(Ok(Vec::new()), |leaves| leaves.lies(bundle))?;
    // Evidence that shows no word of the answer does not shield who broke the rules of the bill.
    let Searched { found, unsearched } = match attribution::find(bundle, index, lies) {
        Err(error) if !broken.is_empty() => Searched { found: Vec::new(), unsearched: vec![error] },
        searched => searched?,
    };
    let mut printed = Printed {
        receipt: bundle.receipt.document.hash(),
        node: bundle.receipt.document.node,
        faults: found.iter().map(|found| found.fault.clone()).collect(),
        broken: broken.iter().map(|found| Broken { fault: found.fault, why: found.why.clone() }).collect(),
        unsearched: unsearched.iter().map(ToString::to_string).collect(),
        unproved: if found.is_empty() && broken.is_empty() { unproved(bundle, index) } else { Vec::new() },
        is_provable: None,
        transaction: None,
        transactions: Vec::new(),
        gas: 0,
        slash: None,
    };
    if let Some(first) = found.first() {
        if is_dry {
            chain.client.dry_run(printed.node, &first.proof).await?;
            printed.is_provable = Some(true);
        } else if is_late(chain, state, bundle).await? {
            prove(context, chain, &first.fault, &first.late, &mut printed).await?;
        } else {
            prove(context, chain, &first.fault, &first.proof, &mut printed).await?;
            for other in found.iter().skip(1).filter(|other| other.fault.span.is_some()).take(VOIDED_MAX) {
                void(context, chain, other, &mut printed).await?;
            }
        }
    } else if let Some(found) = broken.first() {
        if is_dry {
            chain.client.dry_run(printed.node, &found.proof).await?;
            printed.is_provable = Some(true);
        } else {
            prove_rule(context, chain, found, &mut printed).await?;
        }
    }
    Ok(printed)
}

/// What a verification with the whole index objects to.
fn unproved(bundle: &Bundle, index: &Index) -> Vec<String> {
    bundle::verify_full(bundle, index).err().map_or_else(Vec::new, |faults| faults.0.iter().map(ToString::to_string).collect())
}

/// Whether no payout that the receipt could be in can change any more: it is too old for another root, and W1 of every root of its node has ended.
async fn is_late(chain: &Chained, state: &State, bundle: &Bundle) -> anyhow::Result<bool> {
    let (receipt, head) = (&bundle.receipt.document, chain.head().await?);
    let too_old = receipt.block.number.saturating_add(chain.deployment().config.max_age_blocks) < head.block.number;
    let is_running = |(_, epoch): (u64, &Epoch)| epoch.roots.contains_key(&receipt.node) && head.timestamp < epoch.payout_from;
    Ok(too_old && !state.epochs().any(is_running))
}

async fn prove(context: &Context, chain: &Chained, fault: &Fault, proof: &Proof, printed: &mut Printed) -> anyhow::Result<()> {
    context.output.note(&format!("{}: {}; committing to the proof, then sending it in a later block", fault.fault, fault.why));
    let slashed = chain.client.prove(printed.node, proof).await?;
    note(&slashed, proof.what, printed);
    Ok(())
}

/// Has a further span of the receipt voided, so that whom it names is not paid either; there is no second slash.
async fn void(context: &Context, chain: &Chained, other: &attribution::Found, printed: &mut Printed) -> anyhow::Result<()> {
    context.output.note(&format!("{}: {}; the span is voided", other.fault.fault, other.fault.why));
    let (commit, proved) = chain.client.send_proof(printed.node, &other.proof).await?;
    printed.transactions.extend([Transaction::new("commit to the proof", &commit), Transaction::new("void the span", &proved)]);
    printed.gas = printed.transactions.iter().map(|row| row.gas).sum();
    Ok(())
}

async fn prove_rule(context: &Context, chain: &Chained, found: &Found, printed: &mut Printed) -> anyhow::Result<()> {
    context.output.note(&format!("{}: committing to the proof, then sending it in a later block", found.why));
    let slashed = chain.client.prove(printed.node, &found.proof).await?;
    note(&slashed, "prove the broken rule", printed);
    Ok(())
}

fn note(slashed: &Slashed, what: &'static str, printed: &mut Printed) {
    printed.transactions = vec![Transaction::new("commit to the proof", &slashed.commit), Transaction::new(what, &slashed.prove)];
    printed.gas = printed.transactions.iter().map(|row| row.gas).sum();
    printed.transaction = Some(slashed.prove.transaction);
    printed.slash = Some(slash(slashed));
}

pub(super) const fn slash(slashed: &Slashed) -> Slash {
    Slash {
        stake_before: slashed.stake_before,
        stake_after: slashed.stake_after,
        taken: slashed.amount,
        to_client: slashed.victim_amount,
        release_at: slashed.release_at,
    }
}

/// The same for people.
pub(in crate::command) fn describe(printed: &Printed) -> String {
    if !printed.unproved.is_empty() {
        return format!(
            "no span, weight or mask is false, nothing is misdirected or left out, but receipt {} does not verify:\n  {}\nthese faults are proved in other ways than by its bundle",
            printed.receipt,
            printed.unproved.join("\n  ")
        );
    }
    if printed.faults.is_empty() && printed.broken.is_empty() {
        return format!("nothing found: every span of receipt {} stands where it says", printed.receipt);
    }
    let rows: Vec<Vec<String>> = printed
        .faults
        .iter()
        .map(|fault| {
            let span = fault.span.map_or_else(|| "-".to_owned(), |span| span.to_string());
            vec![fault.fault.to_owned(), span, fault.mode.to_owned(), fault.why.clone(), format!("{:?}", fault.answer)]
        })
        .collect();
    let mut text = format!(
        "receipt {} of node {} is false\n{}",
        printed.receipt,
        printed.node,
        table(&["fault", "span", "mode", "why", "answer"], &rows)
    );
    for broken in &printed.broken {
        text.push_str(&format!("\n{}: {}", broken.fault, broken.why));
    }
    for why in &printed.unsearched {
        text.push_str(&format!("\nnot all was searched, there may be more: {why}"));
    }
    for row in &printed.transactions {
        text.push_str(&format!("\n{row}"));
    }
    if let Some(slash) = &printed.slash {
        text.push_str(&format!(
            "\nstake {} -> {}: {} taken; divided from {} on: {} to the client first, to you at most half of the rest, at least a tenth burned",
            crate::output::money(slash.stake_before),
            crate::output::money(slash.stake_after),
            crate::output::money(slash.taken),
            crate::when::utc(slash.release_at),
            crate::output::money(slash.to_client)
        ));
    }
    if printed.is_provable == Some(true) {
        text.push_str("\nthe chain would take the proof; nothing was sent");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_found_is_said_in_words_and_as_an_empty_list() {
        let printed = Printed {
            receipt: Hash32([1; 32]),
            node: Address([2; 20]),
            faults: vec![],
            broken: vec![],
            unsearched: vec![],
            unproved: vec![],
            is_provable: None,
            transaction: None,
            transactions: vec![],
            gas: 0,
            slash: None,
        };
        assert!(describe(&printed).starts_with("nothing found"));
        let value = serde_json::to_value(&printed).unwrap();
        assert_eq!((&value["faults"], &value["transaction"]), (&serde_json::json!([]), &serde_json::Value::Null));
        let broken = vec![Broken { fault: "F6", why: "takes what nobody promised".to_owned() }];
        let shown = describe(&Printed { broken, unsearched: vec!["the answer cannot be opened".to_owned()], ..printed });
        assert!(shown.contains("is false") && shown.contains("F6: takes") && shown.contains("there may be more: the answer"), "{shown}");
    }
}
