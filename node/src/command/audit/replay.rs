//! `tributary audit replay`: every payout rebuilt from a copied folder, by somebody who trusts nobody in it.

pub(super) mod reattribute;

use std::{collections::BTreeMap, ops::RangeInclusive, path::Path};

use anyhow::{Context as _, anyhow, bail, ensure};
use attribution::{
    epoch::{
        self,
        replay::{Difference, Line, Rebuilt, Replay, ReplayError, earned, first_difference},
    },
    message::ReceiptItem,
};
use chain_bridge::{
    client::ChainClient,
    deploy::Deployment,
    registry::{State, state::Payout},
};
use serde::Serialize;
use types::{
    amount::Amount,
    encoding::Body,
    id::{Address, BlobId, Hash32},
};

use crate::{
    command::{
        Context,
        epoch::{
            events::{self, ChainLog, Head},
            export::items,
            folder::{Content, EpochFiles, Folder, Indexed, ReceiptLine},
            lines::find,
        },
    },
    evidence::search::{Rooted, expected_payout},
    facts::{ChainFacts, accounts},
    output::{money, table},
    payouts::check_lines,
};

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    /// Id of the export.
    id: BlobId,
    /// Who signed that id, and so vouches for the events.
    signed_by: Option<Address>,
    /// Block that its events were read to.
    block: u64,
    /// Whether the events were compared with the chain.
    is_on_chain: bool,
    epochs: Vec<EpochReport>,
    /// Epochs of the folder behind the last one asked for: their payouts were not rebuilt.
    left_out: usize,
    /// What other parameters would have paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    reattributed: Option<reattribute::Reattributed>,
}

/// What is replayed of a folder.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Who must have signed the export.
    pub(super) by: Option<Address>,
    /// The first epoch shown; those before it are rebuilt all the same, because each tree stands on the one before.
    pub(super) from: Option<u64>,
    /// The last epoch rebuilt.
    pub(super) to: Option<u64>,
    /// Other parameters.
    pub(super) reattribute: Option<reattribute::Asked>,
}

#[derive(Debug, Serialize)]
struct EpochReport {
    epoch: u64,
    root: Hash32,
    total_wei: Amount,
    receipts: u64,
    is_final: bool,
    accounts: Vec<Row>,
    unpaid: Vec<UnpaidRow>,
    refunds: usize,
}

#[derive(Debug, Serialize)]
struct Row {
    account: Address,
    previous_wei: Amount,
    earned_wei: Amount,
    cumulative_wei: Amount,
}

#[derive(Debug, Serialize)]
struct UnpaidRow {
    node: Address,
    receipt: u64,
    why: String,
}

/// What the folder says of the chain.
struct Chain {
    deployment: Deployment,
    head: Head,
    logs: Vec<ChainLog>,
    state: State,
}

/// Runs the command.
pub(super) async fn run(context: &Context, path: &Path, asked: Asked) -> anyhow::Result<()> {
    let expected = asked.by;
    let folder = Folder::new(path);
    let Indexed { id, content, by } = folder.index()?;
    let signed_by = by.map(|by| by.account);
    if let Some(expected) = expected {
        let signer = signed_by.map_or_else(|| "nobody".to_owned(), |account| account.to_string());
        ensure!(signed_by == Some(expected), "index.json: the export is signed by {signer}, not by {expected}");
    }
    let chain = read_chain(&folder, &content)?;
    by.map_or(Ok(()), |by| by.verify(&chain.deployment.domains(), id))?;
    let range = range(&content, &asked)?;
    let found = rebuild(&folder, &content, &chain, &range)?;
    let epochs = match found {
        Ok(epochs) => epochs,
        Err(differs) => return Err(differs.told(context, &chain).await),
    };
    folder.is_all_named(&content)?;
    if let Some(rpc) = context.rpc() {
        let client = ChainClient::connect(rpc, chain.deployment.clone(), None).await?;
        compare(&client, &chain).await?;
    }
    let reattributed = match &asked.reattribute {
        Some(asked) => {
            let epochs: Vec<&EpochFiles> = content.epochs.iter().filter(|files| range.contains(&files.epoch)).collect();
            Some(reattribute::run(context, (&folder, &content, &chain), &epochs, asked).await?)
        }
        None => None,
    };
    let left_out = content.epochs.iter().filter(|files| files.epoch > *range.end()).count();
    let block = chain.head.block.number;
    let report = Report { id, signed_by, block, is_on_chain: context.rpc().is_some(), epochs, left_out, reattributed };
    context.output.result(&report, || describe(&report))
}

/// The epochs that are shown: all of the folder's unless it is said otherwise.
fn range(content: &Content, asked: &Asked) -> anyhow::Result<RangeInclusive<u64>> {
    let held: Vec<u64> = content.epochs.iter().map(|files| files.epoch).collect();
    let (Some(first), Some(last)) = (held.first(), held.last()) else { bail!("the folder holds no epoch") };
    let (from, to) = (asked.from.unwrap_or(*first), asked.to.unwrap_or(*last));
    ensure!(from <= to, "--from {from} is after --to {to}: name the first epoch and the last one");
    for (option, epoch) in [("--from", from), ("--to", to)] {
        ensure!(held.contains(&epoch), "{option} {epoch}: the folder holds the payouts of the epochs {held:?}");
    }
    Ok(from..=to)
}

fn read_chain(folder: &Folder, content: &Content) -> anyhow::Result<Chain> {
    let found = folder.read("the deployment", &content.deployment)?;
    let deployment: Deployment = found.only()?;
    found.is_named()?;
    let found = folder.read("the head", &content.head)?;
    let head: Head = found.only()?;
    found.is_named()?;
    let found = folder.read("the chain's events", &content.events)?;
    let logs: Vec<ChainLog> = found.all(|place| format!("event {place}"))?;
    found.is_named()?;
    let state = events::books(&deployment, &head, &logs)?;
    Ok(Chain { deployment, head, logs, state })
}

/// An epoch as a folder holds it, whether it is right or not.
pub(super) struct Held {
    pub(super) epoch: u64,
    pub(super) receipts: BTreeMap<Address, Vec<ReceiptItem>>,
    pub(super) payout: Vec<Line>,
}

/// The deployment and every epoch of a folder; nothing is rebuilt.
pub(super) fn held(folder: &Folder, content: &Content) -> anyhow::Result<(Deployment, Vec<Held>)> {
    let chain = read_chain(folder, content)?;
    let manifests = read_manifests(folder, content)?;
    let epoch = |files: &EpochFiles| {
        let receipts = read_receipts(folder, files, &manifests)?;
        let found = folder.read(format!("epoch {}, payout tree", files.epoch), &files.payout)?;
        let payout = found.all(|place| format!("line {place}"))?;
        found.is_named()?;
        Ok(Held { epoch: files.epoch, receipts, payout })
    };
    Ok((chain.deployment, content.epochs.iter().map(epoch).collect::<anyhow::Result<_>>()?))
}

fn read_manifests(folder: &Folder, content: &Content) -> anyhow::Result<BTreeMap<Hash32, Body>> {
    let found = folder.read("the manifests", &content.manifests)?;
    let manifests: Vec<Body> = found.all(|place| format!("manifest {place}"))?;
    found.is_named()?;
    Ok(manifests.into_iter().map(|manifest| (manifest.hash(), manifest)).collect())
}

fn read_receipts(
    folder: &Folder,
    files: &EpochFiles,
    manifests: &BTreeMap<Hash32, Body>,
) -> anyhow::Result<BTreeMap<Address, Vec<ReceiptItem>>> {
    let mut receipts = BTreeMap::new();
    for (node, file) in &files.receipts {
        let what = format!("epoch {}, node {node}", files.epoch);
        let found = folder.read(&*what, file)?;
        let lines: Vec<ReceiptLine> = found.all(|place| format!("receipt {place}"))?;
        found.is_named()?;
        receipts.insert(*node, items(lines, manifests).context(what)?);
    }
    Ok(receipts)
}

/// A posted payout that is not the one its receipts give.
struct Differs {
    epoch: u64,
    posted: Payout,
    rebuilt: epoch::Payout,
    /// What the folder holds as its lines; they may be another tree's, or none.
    shown: Vec<Line>,
}

impl Differs {
    /// Says what differs, by the lines of the posted tree: the folder's, or if it has none those of the data folder or of the poster's calldata.
    async fn told(self, context: &Context, chain: &Chain) -> anyhow::Error {
        let (epoch, posted, rebuilt) = (self.epoch, &self.posted, &self.rebuilt);
        let whole = format!(
            "epoch {epoch}: {} posted the payout {} of {}, its receipts give {} of {}",
            posted.poster,
            posted.root,
            money(posted.total),
            rebuilt.root(),
            money(rebuilt.total())
        );
        let shown = if check_lines(&self.shown, posted.root).is_ok() {
            self.shown
        } else {
            match elsewhere(context, chain, epoch, posted).await {
                Ok(lines) => lines,
                Err(error) => {
                    return anyhow!("{whole}; the folder holds no lines of the posted tree, whose poster did not show them: {error:#}");
                }
            }
        };
        match first_difference(rebuilt, &shown) {
            Some(difference) => anyhow!("{whole}; the first difference: {difference}"),
            None => anyhow!("{whole}; every line is as its receipts give it: the posted total is not their sum"),
        }
    }
}

async fn elsewhere(context: &Context, chain: &Chain, epoch: u64, posted: &Payout) -> anyhow::Result<Vec<Line>> {
    let rpc = context.rpc().context("--rpc URL has the chain's calldata looked through for them")?;
    let client = ChainClient::connect(rpc, chain.deployment.clone(), None).await?;
    let nobody = async { bail!("a replay asks no node, `tributary audit prove` does") };
    find(context, &client, &chain.state, (epoch, posted), nobody).await
}

/// Every epoch, or the first that is not what its receipts give.
fn rebuild(
    folder: &Folder,
    content: &Content,
    chain: &Chain,
    range: &RangeInclusive<u64>,
) -> anyhow::Result<Result<Vec<EpochReport>, Box<Differs>>> {
    let manifests = read_manifests(folder, content)?;
    let last = content.epochs.last().context("the folder holds no epoch")?.epoch;
    let (paid, held) = (events::paid_epochs(&chain.state, last), content.epochs.iter().map(|files| files.epoch).collect::<Vec<_>>());
    ensure!(paid == held, "by the chain's events the epochs {paid:?} have payouts, the folder holds {held:?}");
    let facts = ChainFacts(&chain.state);
    let mut replay = Replay::new(&facts, accounts(&chain.deployment));
    let mut reports = Vec::new();
    for files in content.epochs.iter().filter(|files| files.epoch <= *range.end()) {
        let rebuilt = match rebuild_epoch(folder, files, &manifests, &mut replay, (chain, content))? {
            Ok(rebuilt) => rebuilt,
            Err(differs) => return Ok(Err(differs)),
        };
        let payout = chain.state.epoch(files.epoch).and_then(|epoch| epoch.payout);
        let is_final = payout.is_some_and(|payout| payout.final_at <= chain.head.time);
        if range.contains(&files.epoch) {
            reports.push(report(files.epoch, &rebuilt, is_final));
        }
    }
    Ok(Ok(reports))
}

fn rebuild_epoch(
    folder: &Folder,
    files: &EpochFiles,
    manifests: &BTreeMap<Hash32, Body>,
    replay: &mut Replay<'_, ChainFacts<'_>>,
    (chain, content): (&Chain, &Content),
) -> anyhow::Result<Result<Rebuilt, Box<Differs>>> {
    let epoch = files.epoch;
    let receipts = read_receipts(folder, files, manifests)?;
    let rebuilt = match replay.next(epoch, &receipts) {
        Err(ReplayError::Posted { .. }) => return differs(folder, files, manifests, chain, content).map(|differs| Err(Box::new(differs))),
        rebuilt => rebuilt?,
    };
    let found = folder.read(format!("epoch {epoch}, payout tree"), &files.payout)?;
    let records = found.records::<Line>();
    let mut shown = records.whole;
    let whole = shown.len();
    shown.extend(records.damaged);
    let difference = first_difference(&rebuilt.payout, &shown);
    if let Some(why) = records.damage {
        // A damaged line is named by what it says otherwise, or by the account whose line belongs there.
        let place = rebuilt
            .payout
            .leaves()
            .get(whole)
            .map_or_else(|| "past the last account".to_owned(), |leaf| format!("account {}", leaf.account));
        // Lines behind the damaged one were not read: that they are missing says nothing.
        match difference.filter(|difference| !matches!(difference, Difference::Missing(_))) {
            Some(difference) => bail!("epoch {epoch}, payout tree, line {whole}: {difference} ({why})"),
            None => bail!("epoch {epoch}, payout tree, line {whole}, {place}: {why}"),
        }
    }
    if let Some(difference) = difference {
        bail!("epoch {epoch}, payout tree: {difference}");
    }
    found.is_named()?;
    Ok(Ok(rebuilt))
}

/// The posted tree of an epoch that its receipts do not give.
fn differs(
    folder: &Folder,
    files: &EpochFiles,
    manifests: &BTreeMap<Hash32, Body>,
    chain: &Chain,
    content: &Content,
) -> anyhow::Result<Differs> {
    let epoch = files.epoch;
    let mut receipts = Rooted::new();
    for files in content.epochs.iter().filter(|files| files.epoch <= epoch) {
        receipts.extend(read_receipts(folder, files, manifests)?.into_iter().map(|(node, items)| ((files.epoch, node), items)));
    }
    let rebuilt = expected_payout(&chain.state, &chain.deployment, &receipts, epoch)?;
    let posted = chain.state.epoch(epoch).and_then(|epoch| epoch.payout).context("it was posted")?;
    let found = folder.read(format!("epoch {epoch}, payout tree"), &files.payout)?;
    let shown: Vec<Line> = found.all(|place| format!("line {place}"))?;
    found.is_named()?;
    Ok(Differs { epoch, posted, rebuilt, shown })
}

fn report(epoch: u64, rebuilt: &Rebuilt, is_final: bool) -> EpochReport {
    let row = |leaf: &types::payout::PayoutLeaf| Row {
        account: leaf.account,
        previous_wei: leaf.previous,
        earned_wei: earned(leaf),
        cumulative_wei: leaf.cumulative,
    };
    let unpaid = rebuilt.unpaid.iter().map(|unpaid| UnpaidRow { node: unpaid.node, receipt: unpaid.receipt, why: unpaid.why.to_string() });
    EpochReport {
        epoch,
        root: rebuilt.posted.root,
        total_wei: rebuilt.posted.total,
        receipts: rebuilt.receipts,
        is_final,
        accounts: rebuilt.payout.leaves().iter().map(row).collect(),
        unpaid: unpaid.collect(),
        refunds: rebuilt.refunds.len(),
    }
}

/// Whether the chain has exactly the events that the folder holds, and the block they were read to.
async fn compare(client: &ChainClient, chain: &Chain) -> anyhow::Result<()> {
    let head = chain.head.block;
    let block = client.block(head.number).await?;
    ensure!(block == Some(head), "block {} of the chain is {block:?}, the folder was exported at {}", head.number, head.hash);
    let logs = events::read(client, &head).await?;
    let other = (0..logs.len().max(chain.logs.len())).find(|place| logs.get(*place) != chain.logs.get(*place));
    if let Some(place) = other {
        let stands = |log: Option<&ChainLog>| log.map_or_else(|| "none".to_owned(), |log| format!("one in block {}", log.block));
        bail!(
            "event {place}: the chain has {}, the folder {}, or their contents differ",
            stands(logs.get(place)),
            stands(chain.logs.get(place))
        );
    }
    Ok(())
}

fn describe(report: &Report) -> String {
    let mut text = format!("export {}, events up to block {}", report.id, report.block);
    for epoch in &report.epochs {
        let certainty = if epoch.is_final { "final" } else { "not final there yet" };
        text.push_str(&format!(
            "\n\nepoch {} ({certainty}): {} receipts give the posted root {}\ntotal {}\n",
            epoch.epoch,
            epoch.receipts,
            epoch.root,
            money(epoch.total_wei)
        ));
        let cells = |row: &Row| {
            let amount = money;
            vec![row.account.to_string(), amount(row.previous_wei), amount(row.earned_wei), amount(row.cumulative_wei)]
        };
        text.push_str(&table(&["account", "previous", "earned", "cumulative"], &epoch.accounts.iter().map(cells).collect::<Vec<_>>()));
        for unpaid in &epoch.unpaid {
            text.push_str(&format!("\nreceipt {} of {} has no parts: {}", unpaid.receipt, unpaid.node, unpaid.why));
        }
    }
    let every = match (report.left_out, report.epochs.last()) {
        (1.., Some(last)) => {
            format!("Every payout up to epoch {} follows from its receipts ({} behind it not looked at)", last.epoch, report.left_out)
        }
        _ => "Every payout follows from its receipts".to_owned(),
    };
    let word = match (report.is_on_chain, report.signed_by) {
        (true, _) => format!("{every}, and the chain has these events."),
        (false, Some(account)) => format!(
            "{every} and the events in the folder. That these are the chain's is the signed word of {account}: --by says\nwhose word is taken, --rpc URL compares them with the chain."
        ),
        (false, None) => {
            format!("{every} and the events in the folder. Nobody signed that these are the chain's:\n--rpc URL compares them with it.")
        }
    };
    if let Some(found) = &report.reattributed {
        text.push_str(&format!("\n\n{}", reattribute::describe(found)));
    }
    text.push_str(&format!("\n\n{word}"));
    text
}
