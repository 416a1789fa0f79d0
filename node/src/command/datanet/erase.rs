//! `tributary datanet erase`: ask that a contribution be kept and served by nobody any more, and see who says to have dropped it.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, bail, ensure};
use chain_bridge::{
    client::erasures::reason_hash,
    registry::{Erasure, State, state::Accepted},
};
use clap::Args as ClapArgs;
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};
use types::id::{Address, AssetId, AssetVersion, BlobId, Hash32, NodeId};

use super::{fetch::chosen, network::Network};
use crate::{
    chain::Chained,
    command::{Context, Failed, sent::Transaction},
    datanet::{
        erased::{self, Word},
        resolve,
    },
    output::table,
    words,
};

/// Longest reason, in bytes: it is hashed here and sent to nobody.
const REASON_BYTES_MAX: usize = 4_096;
/// How long `--wait` waits for the request to be final: twice what an OP Stack chain takes.
const FINAL_WAIT: Duration = Duration::from_secs(3_600);
/// How long it then waits for holders.
const HOLDERS_WAIT: Duration = Duration::from_secs(120);
/// Between two rounds of questions.
const ROUND: Duration = Duration::from_secs(2);

/// Ask that a contribution be erased.
#[derive(Debug, ClapArgs)]
#[command(
    override_usage = "tributary datanet erase <DATANET> --contribution <NUMBER> --reason <TEXT> [--wait]\n       tributary datanet erase <DATANET> --contribution <NUMBER> --wait",
    after_help = "Its contributor and the Datanet's owner may ask, once, and it cannot be taken back. From the request's block on no node that follows the chain serves the\ncontribution or takes it; once the request is final they delete their fragments and copies. Versions published before it are answered under no more:\npublish the Datanet again, then what declares it. What stays: the record on the chain (a hash of the text, sizes, times, who), copies that people took\n(export, fetch), what models have learned, and the pieces that receipts quote. The reason is hashed behind a random salt; keep both to show it later.\n\nExamples:\n  tributary datanet erase medical --contribution 3 --reason \"the patient withdrew consent\"\n  tributary datanet erase medical --contribution 3 --wait    who has confirmed, of one that is erased\n\nNext: tributary datanet publish medical, tributary registry show ADAPTER."
)]
pub(super) struct Args {
    /// Datanet, by name or number.
    datanet: String,
    /// The contribution, by its number in the registry; they count from 0.
    #[arg(long, value_name = "NUMBER")]
    contribution: u64,
    /// Why: stays here, its salted hash goes on the chain. Required, but with --wait alone for what is erased already.
    #[arg(long, value_name = "TEXT", required_unless_present = "wait")]
    reason: Option<String>,
    /// Wait until the request is final, then until every holder confirms: two minutes, then exit code 1, with whoever has not confirmed or was not heard named.
    #[arg(long)]
    wait: bool,
    /// Overlay address to join through [default: from the configuration].
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    datanet: u64,
    contribution: u64,
    contributor: Address,
    object: BlobId,
    text_root: Hash32,
    documents: u32,
    text_bytes: u64,
    erased_by: Address,
    block: u64,
    reason_hash: Hash32,
    /// What the reason's hash was made with, if this run sent the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_salt: Option<Hash32>,
    /// Other contributions of the same bytes keep the object where it is.
    is_named_elsewhere: bool,
    /// Versions whose index holds it, or whose weights were declared as trained on it.
    versions_hit: Vec<String>,
    is_final: bool,
    /// Local copies that this run deleted.
    copies_deleted: usize,
    /// What storage nodes say of it; empty without `--wait`.
    holders: Vec<Holder>,
    /// Holders by the object's record that were not heard: they erase it by themselves once they are back and follow the chain. Where nobody tells the record, all operators with stake that were not heard.
    unheard: Vec<Unheard>,
    /// Whether somebody who was heard told the record; false without `--wait`.
    is_record_told: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<Transaction>,
}

#[derive(Debug, Serialize)]
struct Holder {
    node: NodeId,
    word: Word,
}

/// A holder that was not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Unheard {
    account: Address,
    /// Its node; nothing if the account is no operator any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<NodeId>,
}

impl std::fmt::Display for Unheard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.node {
            Some(node) => write!(f, "{node} of {}", self.account),
            None => write!(f, "{}, which is no operator any more", self.account),
        }
    }
}

/// Of `accounts` those of whose node no word was asked.
fn unheard(accounts: &BTreeSet<Address>, node_of: impl Fn(Address) -> Option<NodeId>, words: &[(NodeId, Word)]) -> Vec<Unheard> {
    let heard: BTreeSet<NodeId> = words.iter().map(|(node, _)| *node).collect();
    let all = accounts.iter().map(|account| Unheard { account: *account, node: node_of(*account) });
    all.filter(|holder| holder.node.is_none_or(|node| !heard.contains(&node))).collect()
}

/// Versions that a request touches, oldest first.
pub(super) fn hit(state: &State, datanet: AssetId, number: u64) -> Vec<AssetVersion> {
    let is_hit =
        |version: AssetVersion| state.erased_under(version).iter().any(|erasure| (erasure.datanet, erasure.number) == (datanet, number));
    state.versions().map(|(version, _)| version).filter(|version| is_hit(*version)).collect()
}

/// Versions that would be touched: what the person is told before anything is signed.
fn would_hit(state: &State, accepted: &Accepted) -> Vec<AssetVersion> {
    let holds = |version: AssetVersion| state.contributions_of(version).any(|held| held.number == accepted.number);
    let of: Vec<AssetVersion> =
        state.versions().map(|(version, _)| version).filter(|version| version.asset == accepted.datanet && holds(*version)).collect();
    let declares =
        state.versions().filter(|(_, known)| known.datanets.iter().any(|datanet| of.contains(datanet))).map(|(version, _)| version);
    of.iter().copied().chain(declares).collect()
}

fn may_erase(accepted: &Accepted, owner: Address, me: Address) -> anyhow::Result<()> {
    let Accepted { datanet, number, contributor, .. } = accepted;
    ensure!(
        me == *contributor || me == owner,
        "contribution {number} of Datanet {datanet} was made by {contributor}, and the Datanet belongs to {owner}; this wallet is {me}: one of these two asks for it to be erased"
    );
    Ok(())
}

fn explain(state: &State, accepted: &Accepted) -> String {
    let versions = would_hit(state, accepted);
    let versions = if versions.is_empty() {
        "no published version holds it".to_owned()
    } else {
        let names: Vec<String> = versions.iter().map(ToString::to_string).collect();
        format!("versions {} are answered under, read and trained on no more, until the next ones are published", names.join(", "))
    };
    format!(
        "contribution {} of Datanet {}, by {}: {} documents, {} bytes\n  dropped   every fragment of object {} that storage nodes hold, and shards in the folders of nodes; {versions}\n  for good  the request cannot be taken back, nor the text be contributed to this Datanet again\n  not       the record on the chain; copies that people took; what models have learned; pieces that receipts quote",
        accepted.number, accepted.datanet, accepted.contributor, accepted.documents, accepted.text_bytes, accepted.object
    )
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let chain = context.chain().await?;
    let state = chain.state().await?;
    let (asset, _) = resolve(&state, &args.datanet)?;
    let accepted = chosen(&state, asset.id, Some(args.contribution))?.remove(0).clone();
    let me = chain.client.address().context("the wallet has an account")?;
    // The checks are about the chain as it was before an earlier run of this command changed it.
    let earlier = chain.client.take_up(&["erase contribution"]).await?;
    let mut transaction = earlier.map(|sent| Transaction::new("erase contribution", &sent));
    let mut salt = None;
    let known = state.erasure(asset.id, accepted.number).copied();
    if transaction.is_none() {
        match (known, &args.reason) {
            (Some(_), _) if args.wait => {}
            (Some(erasure), _) => bail!("{erasure} by {}: `--wait` tells who has confirmed, nothing is sent for it again", erasure.by),
            (None, None) => {
                bail!("contribution {} of Datanet {} is not erased: give --reason TEXT to ask for it", accepted.number, asset.id)
            }
            (None, Some(reason)) => {
                may_erase(&accepted, asset.owner(), me)?;
                words::of_one_line("--reason", reason)?;
                ensure!(!reason.trim().is_empty(), "the reason is empty: say why, for whoever asks you later");
                ensure!(reason.len() <= REASON_BYTES_MAX, "the reason has {} bytes, at most {REASON_BYTES_MAX} are taken", reason.len());
                context.output.note(&explain(&state, &accepted));
                let drawn = fresh_salt()?;
                let sent = chain.client.erase_contribution(asset.id, accepted.number, reason_hash(drawn, reason)).await?;
                transaction = Some(Transaction::new("erase contribution", &sent));
                salt = Some(drawn);
            }
        }
    }
    let state = chain.state().await?;
    let erasure =
        *state.erasure(asset.id, accepted.number).context("the request is in a block, and the books do not have it: run again")?;
    let mut printed = printed(&state, &accepted, &erasure, transaction);
    printed.reason_salt = salt;
    if args.wait {
        wait(context, &chain, &args, &mut printed).await?;
    }
    context.output.result(&printed, || describe(&printed))?;
    left(&printed).map_or(Ok(()), |left| Err(Failed(left).into()))
}

/// Who has not confirmed and who was not heard; nothing if all is done.
fn left(printed: &Printed) -> Option<String> {
    if printed.is_named_elsewhere {
        return None;
    }
    let open: Vec<String> =
        printed.holders.iter().filter(|holder| !holder.word.is_confirmed()).map(|holder| holder.node.to_string()).collect();
    let mut left = Vec::new();
    if !open.is_empty() {
        left.push(format!("{} of {} storage nodes have not confirmed: {}", open.len(), printed.holders.len(), open.join(", ")));
    }
    if !printed.unheard.is_empty() {
        let names: Vec<String> = printed.unheard.iter().map(ToString::to_string).collect();
        left.push(format!("{} {} not heard: {}", names.len(), who(printed.is_record_told), names.join(", ")));
    }
    (!left.is_empty()).then(|| left.join("; "))
}

const fn who(is_record_told: bool) -> &'static str {
    if is_record_told {
        "holders by its record were"
    } else {
        "operators, any of which may have held it since nobody tells its record, were"
    }
}

fn fresh_salt() -> anyhow::Result<Hash32> {
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
    Ok(Hash32(salt))
}

fn printed(state: &State, accepted: &Accepted, erasure: &Erasure, transaction: Option<Transaction>) -> Printed {
    Printed {
        datanet: accepted.datanet.0,
        contribution: accepted.number,
        contributor: accepted.contributor,
        object: accepted.object,
        text_root: accepted.text_root,
        documents: accepted.documents,
        text_bytes: accepted.text_bytes,
        erased_by: erasure.by,
        block: erasure.block(),
        reason_hash: erasure.reason,
        reason_salt: None,
        is_named_elsewhere: state.erased_object(accepted.object).is_none(),
        versions_hit: hit(state, accepted.datanet, accepted.number).iter().map(ToString::to_string).collect(),
        is_final: false,
        copies_deleted: 0,
        holders: Vec::new(),
        unheard: Vec::new(),
        is_record_told: false,
        transaction,
    }
}

/// Until the request is final; then asks every storage node that is heard until all confirm, or the time is over.
async fn wait(context: &Context, chain: &Chained, args: &Args, printed: &mut Printed) -> anyhow::Result<()> {
    let (datanet, number) = (AssetId(printed.datanet), printed.contribution);
    context.output.note("waiting until the request is final");
    let mut snapshots = chain.snapshots();
    let seen = snapshots.wait_for(|snapshot| snapshot.finalized.erasure(datanet, number).is_some());
    let finalized = match timeout(FINAL_WAIT, seen).await {
        Ok(snapshot) => std::sync::Arc::clone(&snapshot.context("the chain is no longer followed")?.finalized),
        Err(_) => bail!("the request is not final after {} s: run again with --wait", FINAL_WAIT.as_secs()),
    };
    printed.is_final = true;
    printed.copies_deleted = erased::sweep(&context.data, &finalized)?;
    if printed.is_named_elsewhere {
        context.output.note("another contribution names the same bytes: holders keep them for it");
        return Ok(());
    }
    let network = Network::join(context, &args.bootstrap).await?;
    let asked = ask(context, chain, &network, printed).await;
    network.leave().await;
    asked
}

/// Asks until everybody confirms who is heard, and every holder by the record is heard, or the time is over.
async fn ask(context: &Context, chain: &Chained, network: &Network, printed: &mut Printed) -> anyhow::Result<()> {
    let (state, object) = (chain.state().await?, printed.object);
    let domains = chain.deployment().domains();
    let until = Instant::now() + HOLDERS_WAIT;
    let mut recorded: Option<BTreeSet<Address>> = None;
    loop {
        let mut asked = network.storing(&state, chain.deployment().chain_id).await?;
        if recorded.is_none() {
            recorded = erased::recorded(&network.bulk, asked.clone(), &state, &domains, object).await;
        }
        let staked = || state.operators().filter(|operator| operator.active.0 > 0).map(|operator| operator.account).collect();
        let accounts = recorded.clone().unwrap_or_else(staked);
        // Who has stopped to offer storage may have it still, and answers for it.
        let nodes: BTreeSet<NodeId> = accounts.iter().filter_map(|account| Some(state.operator(*account)?.node)).collect();
        let ads = network.overlay.ads().await?;
        asked.extend(ads.iter().map(|signed| signed.ad()).filter(|ad| nodes.contains(&ad.node)).map(|ad| (ad.node, ad.bulk_addr)));
        let words = erased::words(&network.bulk, asked, object).await;
        let open = words.iter().filter(|(_, word)| !word.is_confirmed()).count();
        printed.is_record_told = recorded.is_some();
        printed.unheard = unheard(&accounts, |account| Some(state.operator(account)?.node), &words);
        if (open == 0 && printed.unheard.is_empty()) || Instant::now() >= until {
            printed.holders = words.into_iter().map(|(node, word)| Holder { node, word }).collect();
            return Ok(());
        }
        context.output.note(&format!(
            "{open} of {} storage nodes have not confirmed yet; {} {} not heard",
            words.len(),
            printed.unheard.len(),
            who(printed.is_record_told)
        ));
        sleep(ROUND).await;
    }
}

fn describe(printed: &Printed) -> String {
    let Printed { datanet, contribution, contributor, documents, text_bytes, object, erased_by, block, .. } = printed;
    let mut text = format!(
        "contribution {contribution} of Datanet {datanet}, by {contributor}: {documents} documents, {text_bytes} bytes\nobject       {object}\nerased       by {erased_by}, in block {block}{}",
        if printed.is_final { ", which is final" } else { "; bytes are deleted when it is final" }
    );
    match printed.reason_salt {
        Some(salt) => {
            text.push_str(&format!("\nreason       {} with salt {salt}: keep the salt to show the reason later", printed.reason_hash))
        }
        None => text.push_str(&format!("\nreason       {}", printed.reason_hash)),
    }
    if !printed.versions_hit.is_empty() {
        text.push_str(&format!("\nmarked       versions {}", printed.versions_hit.join(", ")));
    }
    if printed.is_named_elsewhere {
        text.push_str("\nkept         another contribution names the same bytes, so holders keep them until that one is erased too");
    }
    if printed.copies_deleted > 0 {
        text.push_str("\nhere         the copy in this folder is deleted");
    }
    if let Some(row) = &printed.transaction {
        text.push_str(&format!("\n{row}"));
    }
    if !printed.holders.is_empty() {
        let row = |holder: &Holder| vec![holder.node.to_string(), holder.word.to_string()];
        text.push_str(&format!("\n\n{}", table(&["storage node", "says"], &printed.holders.iter().map(row).collect::<Vec<_>>())));
    }
    if !printed.unheard.is_empty() {
        let names: Vec<String> = printed.unheard.iter().map(|holder| format!("  {holder}")).collect();
        text.push_str(&format!(
            "\n\n{} {} not heard; each erases it by itself once it is back:\n{}",
            names.len(),
            who(printed.is_record_told),
            names.join("\n")
        ));
    }
    let next = if left(printed).is_some() {
        format!("tributary datanet erase {datanet} --contribution {contribution} --wait, once they are back")
    } else if printed.is_final {
        format!("tributary datanet publish {datanet}, then what declares it")
    } else {
        format!("tributary datanet erase {datanet} --contribution {contribution} --wait tells who has confirmed")
    };
    text.push_str(&format!("\n\nNext: {next}"));
    text
}

#[cfg(test)]
mod tests {
    use types::contribution::Priority;

    use super::*;

    fn accepted() -> Accepted {
        Accepted {
            datanet: AssetId(3),
            number: 7,
            contributor: Address([1; 20]),
            text_root: Hash32([2; 32]),
            text_bytes: 900,
            documents: 4,
            priority: Priority::default(),
            licence: Hash32::ZERO,
            object: BlobId([5; 32]),
            report: Hash32::ZERO,
            accepted: (1, 0),
        }
    }

    fn erasure() -> Erasure {
        Erasure {
            datanet: AssetId(3),
            number: 7,
            by: Address([8; 20]),
            reason: Hash32([4; 32]),
            object: BlobId([5; 32]),
            text_root: Hash32([2; 32]),
            report: Hash32::ZERO,
            place: (77, 1),
            time: 0,
        }
    }

    #[test]
    fn only_contributor_and_owner_may_and_others_are_told_who() {
        let (owner, stranger) = (Address([8; 20]), Address([9; 20]));
        assert!(may_erase(&accepted(), owner, Address([1; 20])).is_ok() && may_erase(&accepted(), owner, owner).is_ok());
        let refused = may_erase(&accepted(), owner, stranger).unwrap_err().to_string();
        for part in [Address([1; 20]).to_string(), owner.to_string(), stranger.to_string()] {
            assert!(refused.contains(&part), "{refused}");
        }
    }

    #[test]
    fn what_is_lost_and_what_is_not_is_said_before_anything_is_signed() {
        let text = explain(&State::default(), &accepted());
        for part in ["4 documents", "900 bytes", "cannot be taken back", "copies that people took", "no published version holds it"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn who_has_not_confirmed_is_told_by_node() {
        let mut printed = printed(&State::default(), &accepted(), &erasure(), None);
        printed.is_named_elsewhere = false;
        assert!(describe(&printed).contains("--wait"));
        printed.is_final = true;
        printed.holders = vec![
            Holder { node: NodeId([1; 32]), word: Word::Gone },
            Holder { node: NodeId([2; 32]), word: Word::Serves(2) },
            Holder { node: NodeId([3; 32]), word: Word::Silent("no answer within 10 s".into()) },
        ];
        let text = describe(&printed);
        for part in [
            "in block 77, which is final",
            "nothing is on its disk",
            "still serves 2 fragments",
            "no answer within 10 s",
            "--wait, once they are back",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let value = serde_json::to_value(&printed).unwrap();
        assert_eq!((&value["holders"][0]["word"], &value["holders"][1]["word"]["serves"]), (&"gone".into(), &2.into()));
    }

    #[test]
    fn a_recorded_holder_that_is_down_is_named_and_the_command_says_that_not_all_is_done() {
        let (up, down, left_for_good) = (Address([1; 20]), Address([2; 20]), Address([3; 20]));
        let node_of = |account: Address| (account != left_for_good).then_some(NodeId([account.0[0]; 32]));
        let words = [(NodeId([1; 32]), Word::Gone)];
        let mut printed = printed(&State::default(), &accepted(), &erasure(), None);
        (printed.is_named_elsewhere, printed.is_final, printed.is_record_told) = (false, true, true);
        printed.holders = vec![Holder { node: NodeId([1; 32]), word: Word::Gone }];
        printed.unheard = unheard(&BTreeSet::from([up]), node_of, &words);
        assert_eq!((left(&printed), printed.unheard.len()), (None, 0), "all is done");
        printed.unheard = unheard(&BTreeSet::from([up, down, left_for_good]), node_of, &words);
        let (why, text) = (left(&printed).unwrap(), describe(&printed));
        assert!(why.starts_with("2 holders by its record were not heard"), "{why}");
        for part in [NodeId([2; 32]).to_string(), left_for_good.to_string()] {
            assert!(why.contains(&part) && text.contains(&part), "{part}: {why} {text}");
        }
        assert!(text.contains("--wait, once they are back") && !text.contains("datanet publish"), "{text}");
        let value = serde_json::to_value(&printed).unwrap();
        assert_eq!(value["unheard"][0]["account"], down.to_string());
        printed.is_record_told = false;
        assert!(left(&printed).unwrap().contains("nobody tells its record"));
        printed.is_named_elsewhere = true;
        assert_eq!(left(&printed), None, "holders keep it for another contribution");
    }
}
