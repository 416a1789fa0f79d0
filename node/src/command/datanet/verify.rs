//! `tributary datanet verify`: what is here is derived anew, what holders have is read from them and hashed.
//!
//! The report whose digest stands in the registry is taken from this folder, else from the gate, and held against the contribution and its reviewers.
//!
//! A holder's word about a digest proves nothing, so every fragment is fetched and hashed here: a Datanet's fragments once over the network.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::bail;
use chain_bridge::registry::{
    Erasure, State,
    state::{Accepted, Asset},
};
use clap::Args as ClapArgs;
use p2p::bulk::BulkEndpoint;
use serde::Serialize;
use storage::{
    datanet::Report,
    erasure::ObjectManifest,
    proto::{
        fetch::StreamEnd,
        gate::{Ask, Reply as GateReply},
        message::{Refusal, Reply, Request},
        range::Wrong,
    },
};
use tokio::time::timeout;
use types::{
    id::{Address, BlobId, Hash32, NodeId},
    key::Domains,
    merkle::keccak,
};

use super::{
    Context,
    fetch::chosen,
    network::{Network, Storing, staked},
};
use crate::{
    data::read_text,
    datanet::{
        erased::{self, Word},
        exchange::{ask, read_fragment},
        local, resolve, review, seals,
    },
    output::table,
};

/// Longest wait for what a holder has of an object.
const LOCATE_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for a fragment: the largest at 3 Mbit/s.
const GET_LIMIT: Duration = Duration::from_secs(60);

/// Largest report read.
const REPORT_BYTES_MAX: u64 = 2 << 20;

/// Check contributions: the report, the shard in the data folder, and every fragment of every holder.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Names each damaged fragment with its holder and object, and fails if there is one or if fewer fragments are left than give the\ncontribution back.\n\nExample:\n  tributary datanet verify medical\n\nNext: its contributor's same `datanet contribute` command mends damaged and lost fragments without a transaction."
)]
pub(super) struct Args {
    /// Datanet, by name or number.
    datanet: String,
    /// Only this contribution, by its number in the registry; they count from 0.
    #[arg(long, value_name = "NUMBER")]
    contribution: Option<u64>,
    /// Overlay address to join through [default: from the configuration].
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
}

/// One contribution as found.
#[derive(Debug, Serialize)]
struct Row {
    contribution: u64,
    object: BlobId,
    /// Whether the shard in the data folder is the registered text; nothing if there is none.
    shard: Option<bool>,
    /// Whether the gate's report is the registered one and lets the contribution in; nothing if it is neither here nor at the gate.
    report: Option<bool>,
    /// Reviewers who let it in although something spoke against it.
    approvals: usize,
    /// Intact fragments by index, with their holder and bytes.
    fragments: BTreeMap<u8, Found>,
    /// What is wrong, in words.
    problems: Vec<String>,
    /// What is wrong with nodes that have no stake and so hold nothing for anybody.
    strangers: Vec<String>,
    /// Fragments nobody gave, out of how many.
    missing: Vec<u8>,
    /// What is left of it, if it was erased on request.
    #[serde(skip_serializing_if = "Option::is_none")]
    erased: Option<ErasedRow>,
}

/// An erased contribution: nothing of it is to be anywhere.
#[derive(Debug, Serialize)]
struct ErasedRow {
    block: u64,
    by: Address,
    is_final: bool,
    /// Storage nodes that say to have nothing of it.
    confirmed: usize,
    /// The others, each with its word.
    open: Vec<(NodeId, Word)>,
}

#[derive(Debug, Serialize)]
struct Found {
    holder: NodeId,
    digest: BlobId,
    bytes: usize,
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let chain = context.chain_reader().await?;
    let state = chain.state().await?;
    let (asset, _) = resolve(&state, &args.datanet)?;
    let (wanted, domains) = (chosen(&state, asset.id, args.contribution)?, chain.client.domains());
    let network = Network::join(context, &args.bootstrap).await?;
    let storing = network.storing(&state, chain.deployment().chain_id).await;
    let staked = staked(&state);
    let mut rows = Vec::new();
    if let Ok(storing) = &storing {
        let mut progress = context.output.progress("contributions", wanted.len() as u64);
        for (done, accepted) in (1..).zip(&wanted) {
            let finalized = Arc::clone(&chain.snapshots().borrow().finalized);
            if let Some(erasure) = state.erasure(accepted.datanet, accepted.number) {
                rows.push(look_erased(context, &network.bulk, storing, (accepted, erasure), (&state, &finalized)).await);
                progress.set(done);
                continue;
            }
            let mut row = look(context, &network.bulk, (storing, &staked), accepted).await;
            report(context, &network, (&state, &domains), asset, accepted, &mut row).await;
            rows.push(row);
            progress.set(done);
        }
        progress.finish();
    }
    network.leave().await;
    storing?;
    let mut problems: Vec<&str> = rows.iter().flat_map(|row| &row.problems).map(String::as_str).collect();
    let strangers = rows.iter().flat_map(|row| &row.strangers).map(String::as_str);
    if problems.is_empty() {
        strangers.for_each(|stranger| context.output.note(&format!("{stranger}; it has no stake, and nothing is missing without it")));
    } else {
        problems.extend(strangers);
        bail!(
            "Datanet {}: {} of {} contributions are not whole:\n  {}",
            asset.id,
            rows.iter().filter(|row| !row.problems.is_empty()).count(),
            rows.len(),
            problems.join("\n  ")
        );
    }
    context.output.result(&rows, || describe(&rows))
}

/// Holds the gate's report against what the registry says of the contribution.
async fn report(
    context: &Context,
    network: &Network,
    (state, domains): (&State, &Domains),
    asset: &Asset,
    accepted: &Accepted,
    row: &mut Row,
) {
    let bytes = match kept(context, accepted) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => asked(context, network, state, asset, accepted).await,
        Err(error) => Err(error),
    };
    match bytes {
        Ok(text) => match fits(&text, accepted, domains) {
            Ok(approvals) => (row.report, row.approvals) = (Some(true), approvals),
            Err(problem) => {
                row.report = Some(false);
                row.problems.push(format!("contribution {}: the gate's report: {problem}", accepted.number));
            }
        },
        // Nobody has to keep a report for others: what is not there proves nothing.
        Err(error) => context
            .output
            .note(&format!("contribution {}: its report is not here and the gate did not give it: {error:#}", accepted.number)),
    }
}

fn kept(context: &Context, accepted: &Accepted) -> anyhow::Result<Option<String>> {
    let path = context.data.report(accepted.report);
    if !path.exists() {
        return Ok(None);
    }
    Ok(Some(read_text(&path, REPORT_BYTES_MAX)?))
}

async fn asked(context: &Context, network: &Network, state: &State, asset: &Asset, accepted: &Accepted) -> anyhow::Result<String> {
    let (client, connection) = network.dial_gate(context, state, asset.owner()).await?;
    let reply = review::ask(connection.open_stream().await?, &Ask::Report { digest: accepted.report }).await;
    client.close(0).await;
    match reply? {
        GateReply::Report { report } => Ok(report),
        _ => bail!("it answered something else"),
    }
}

/// What of a report does not fit the registered contribution, in words; the approvals in it if it fits. Who approved may have been a reviewer then and be
/// none now, so their signatures are checked and not their standing.
fn fits(text: &str, accepted: &Accepted, domains: &Domains) -> Result<usize, String> {
    let got = keccak(&[text.as_bytes()]);
    if got != accepted.report {
        return Err(format!("its digest is {got}, {} is registered", accepted.report));
    }
    let report: Report = serde_json::from_str(text).map_err(|error| format!("it does not parse: {error}"))?;
    let fields = [
        ("contributor", report.contributor == accepted.contributor),
        ("text root", report.text_root == accepted.text_root),
        ("text bytes", report.text_bytes == accepted.text_bytes),
        ("number of documents", report.documents == accepted.documents),
        ("verdict", report.accepted),
    ];
    if let Some((field, _)) = fields.into_iter().find(|(_, is_same)| !is_same) {
        return Err(format!("its {field} is not the contribution's"));
    }
    let commitment = report.approvals.first().map_or(Hash32::ZERO, |first| first.document.commitment);
    let approved = report.approved_by(domains, (accepted.datanet, commitment), |_| true);
    approved.map(|reviewers| reviewers.len()).map_err(|error| error.to_string())
}

/// Of an erased contribution nothing is to be found: a holder that serves it, or a copy here once the request is final, is a problem.
async fn look_erased(
    context: &Context,
    bulk: &Arc<BulkEndpoint>,
    storing: &Storing,
    (accepted, erasure): (&Accepted, &Erasure),
    (state, finalized): (&State, &State),
) -> Row {
    let mut row = empty(accepted);
    let is_final = finalized.erasure(accepted.datanet, accepted.number).is_some();
    let (mut confirmed, mut open) = (0, Vec::new());
    // Where another contribution names the same bytes, holders keep them for that one.
    if state.erased_object(accepted.object).is_some() {
        let asked = storing.iter().map(|(node, addr)| (*node, *addr));
        for (node, word) in erased::words(bulk, asked, accepted.object).await {
            if let Word::Serves(fragments) = word {
                row.problems.push(format!("contribution {}: holder {node} serves {fragments} fragments, and {erasure}", accepted.number));
            }
            if word.is_confirmed() { confirmed += 1 } else { open.push((node, word)) }
        }
    }
    if is_final && finalized.erased_text(accepted.text_root).is_some() && context.data.shard(accepted.text_root).exists() {
        let path = context.data.shard(accepted.text_root);
        row.problems.push(format!("contribution {}: {} is still here, and {erasure}: remove it", accepted.number, path.display()));
    }
    row.erased = Some(ErasedRow { block: erasure.block(), by: erasure.by, is_final, confirmed, open });
    row
}

const fn empty(accepted: &Accepted) -> Row {
    Row {
        contribution: accepted.number,
        object: accepted.object,
        shard: None,
        report: None,
        approvals: 0,
        fragments: BTreeMap::new(),
        problems: Vec::new(),
        strangers: Vec::new(),
        missing: Vec::new(),
        erased: None,
    }
}

async fn look(context: &Context, bulk: &Arc<BulkEndpoint>, (storing, staked): (&Storing, &BTreeSet<NodeId>), accepted: &Accepted) -> Row {
    let object = accepted.object;
    let mut row = empty(accepted);
    match local(&context.data, accepted) {
        Ok(here) => row.shard = here.map(|_| true),
        // Who may not read a private Datanet keeps its sealed shards all the same: their fragments are checked below.
        Err(error) if seals::is_closed(&context.data, accepted.datanet, accepted.text_root) => {
            context.output.note(&format!("contribution {}: sealed, and not opened here: {error:#}", accepted.number));
        }
        Err(error) => {
            row.shard = Some(false);
            row.problems.push(format!("contribution {} on this disk: {error:#}: remove the file and fetch it", accepted.number));
        }
    }
    let mut known: Option<ObjectManifest> = None;
    for (holder, addr) in storing {
        let before = row.problems.len();
        match located(bulk, *holder, *addr, object).await {
            Ok(Some((manifest, indices))) => {
                for index in indices {
                    fragment(bulk, (*holder, *addr), &manifest, index, &mut row).await;
                }
                known.get_or_insert(manifest);
            }
            Ok(None) => {}
            Err(problem) => row.problems.push(problem),
        }
        if !staked.contains(holder) {
            row.strangers.extend(row.problems.split_off(before));
        }
    }
    let Some(manifest) = known else {
        row.problems.push(format!(
            "object {object}: no holder has its manifest: start its holders, or let its contributor run `datanet contribute` again"
        ));
        return row;
    };
    row.missing = (0..manifest.profile().total()).filter(|index| !row.fragments.contains_key(index)).collect();
    let needed = usize::from(manifest.profile().data());
    if row.fragments.len() < needed {
        row.problems.push(format!(
            "object {object}: {} intact fragments are left, {needed} are needed: start more of its holders, or let its contributor run `datanet contribute` again",
            row.fragments.len()
        ));
    }
    if manifest.text_root() != accepted.text_root {
        row.problems.push(format!(
            "object {object}: its manifest names text root {}, {} is registered",
            manifest.text_root(),
            accepted.text_root
        ));
    }
    row
}

/// What a holder says it has; nothing if it has nothing.
async fn located(
    bulk: &BulkEndpoint,
    holder: NodeId,
    addr: SocketAddr,
    object: BlobId,
) -> Result<Option<(ObjectManifest, Vec<u8>)>, String> {
    match ask(bulk, holder, addr, &Request::Locate { object }, LOCATE_LIMIT).await {
        Ok(Reply::Located { manifest, indices, .. }) => {
            let manifest = ObjectManifest::decode_as(object, &manifest).map_err(|error| format!("holder {holder}: {error}"))?;
            Ok(Some((manifest, indices)))
        }
        Ok(Reply::Refused(Refusal::Unknown { .. })) => Ok(None),
        Ok(Reply::Refused(refusal)) => Err(format!("holder {holder}, object {object}: {refusal}")),
        Ok(_) => Err(format!("holder {holder}, object {object}: it answered another question")),
        Err(error) => Err(format!("holder {holder}, object {object}: {error}")),
    }
}

/// Fetches one fragment and hashes it.
async fn fragment(bulk: &BulkEndpoint, (holder, addr): (NodeId, SocketAddr), manifest: &ObjectManifest, index: u8, row: &mut Row) {
    let object = manifest.id();
    let place = format!("holder {holder}, object {object}, fragment {index}");
    match timeout(GET_LIMIT, read_fragment(bulk, holder, addr, manifest, index)).await {
        Ok(Ok(good)) => {
            let found = Found { holder, digest: good.blake3(), bytes: good.bytes().len() };
            row.fragments.insert(index, found);
        }
        Ok(Err(StreamEnd::Wrong(Wrong { group, expected, got, .. }))) => {
            row.problems.push(format!("{place}: damaged, it sent {got} from group {group} on, the manifest names {expected}"));
        }
        Ok(Err(StreamEnd::Refused(refusal))) => row.problems.push(format!("{place}: {refusal}")),
        Ok(Err(StreamEnd::OffTopic)) => row.problems.push(format!("{place}: it answered another question")),
        Ok(Err(StreamEnd::Lost | StreamEnd::Whole)) => row.problems.push(format!("{place}: it broke off")),
        Err(_) => row.problems.push(format!("{place}: it took more than {} s", GET_LIMIT.as_secs())),
    }
}

fn describe(rows: &[Row]) -> String {
    let line = |row: &Row| {
        let shard = row.shard.map_or("not here", |_| "intact");
        let report = row.report.map_or("not here", |_| "registered");
        let report = if row.approvals > 0 { format!("{report}, {} approvals", row.approvals) } else { report.to_owned() };
        let missing = row.missing.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        vec![row.contribution.to_string(), report, shard.to_owned(), row.fragments.len().to_string(), missing, row.object.to_string()]
    };
    let whole: Vec<_> = rows.iter().filter(|row| row.erased.is_none()).collect();
    let mut text = table(
        &["contribution", "report", "shard here", "intact fragments", "not found", "object"],
        &whole.into_iter().map(line).collect::<Vec<_>>(),
    );
    let line = |row: &Row, (index, found): (&u8, &Found)| {
        vec![row.contribution.to_string(), index.to_string(), found.holder.to_string(), found.bytes.to_string(), found.digest.to_string()]
    };
    let fragments: Vec<_> = rows.iter().flat_map(|row| row.fragments.iter().map(|entry| line(row, entry))).collect();
    text.push_str("\n\n");
    text.push_str(&table(&["contribution", "fragment", "holder", "bytes", "digest"], &fragments));
    for (row, erased) in rows.iter().filter_map(|row| Some((row, row.erased.as_ref()?))) {
        let ErasedRow { block, is_final, confirmed, open, .. } = erased;
        text.push_str(&format!(
            "\n\ncontribution {} was erased on request at block {block}{}: {confirmed} of {} storage nodes have nothing of it",
            row.contribution,
            if *is_final { "" } else { ", which is not final yet" },
            confirmed + open.len()
        ));
        for (node, word) in open {
            text.push_str(&format!("\n  {node} {word}"));
        }
    }
    text
}
