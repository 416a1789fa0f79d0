//! `tributary epoch export`: what the payouts of all epochs up to one follow from, from nodes and chain, checked before it is kept.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use attribution::{
    epoch::replay::{Facts as _, Line, Replay, ReplayError, RootFacts, check_root, lines as lines_of},
    message::{Ask, RECEIPTS_PAGE, ReceiptItem, Reply},
};
use chain_bridge::{client::ChainClient, deploy::Deployment, registry::State};
use p2p::{
    client::{Client, Connection, Limits},
    identity::NodeSeed,
    overlay::OverlayHandle,
};
use serde::Serialize;
use tokio::time::timeout;
use types::{
    encoding::Body,
    id::{Address, BlobId, Hash32, NodeId},
    key::Account,
    operator::RECEIPTS_MAX,
};

use super::{
    events::{Head, books, paid_epochs, read},
    folder::{Content, EpochFiles, File, Folder, Indexed, ReceiptLine},
    lines,
    signed::By,
};
use crate::{
    command::{Context, talk::joining},
    facts::{ChainFacts, accounts},
    service::settlement::{ask_once, loopback_any, receipts_on_chain},
};

/// How long the nodes' ads are awaited.
const ADS_WAIT: Duration = Duration::from_secs(10);
/// From one word on how far it is to the next.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// What was written.
#[derive(Debug, Serialize)]
struct Exported {
    folder: std::path::PathBuf,
    /// BLAKE3 of the index: who has it needs to trust nobody for the folder.
    id: BlobId,
    /// Who signed that id; nothing if nobody did.
    signed_by: Option<Address>,
    /// Events were read up to this block.
    block: u64,
    epochs: Vec<u64>,
    receipts: u64,
    /// The first payout that is not the one its receipts give, and how; nothing if every one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    differs: Option<String>,
}

/// What was gathered: of each epoch all, or nothing.
#[derive(Debug, Default)]
struct Gathered {
    epochs: Vec<EpochFiles>,
    /// The manifests that receipts name.
    used: Manifests,
    receipts: u64,
    differs: Option<String>,
}

/// What receipts name as manifests, by root.
type Manifests = BTreeMap<Hash32, Body>;

/// Where receipts come from: the folder as it is, then the network.
struct Sources<'c> {
    context: &'c Context,
    client: &'c ChainClient,
    state: &'c State,
    deployment: &'c Deployment,
    kept: BTreeMap<(u64, Address), File>,
    manifests: Manifests,
    folder: &'c Folder,
    /// Epochs that an earlier export left in it.
    indexed: usize,
    /// When somebody was last told how far it is.
    told: Instant,
    bootstrap: Vec<String>,
    overlay: Option<OverlayHandle>,
}

/// Runs the command.
///
/// Nodes have `within` for what they are asked. Whoever drops this half-way leaves the index of the folder as it was.
pub async fn run(
    context: &Context,
    last: u64,
    out: &Path,
    is_unsigned: bool,
    within: Duration,
    bootstrap: Vec<String>,
) -> anyhow::Result<()> {
    let account = if is_unsigned || !context.data.has(&context.data.wallet())? { None } else { Some(context.account()?) };
    let chain = context.chain_reader().await?;
    let latest = chain.head().await?;
    let head = Head { block: latest.block, time: latest.timestamp };
    let logs = read(&chain.client, &head.block).await?;
    let deployment = chain.deployment();
    let state = books(deployment, &head, &logs)?;
    let numbers = paid_epochs(&state, last);
    ensure!(
        numbers.last() == Some(&last),
        "epoch {last} has no payout on the chain yet: `tributary epoch show {last}` says when it is due"
    );
    let folder = Folder::new(out);
    let mut sources = Sources {
        context,
        client: &chain.client,
        state: &state,
        deployment,
        kept: BTreeMap::new(),
        manifests: Manifests::new(),
        folder: &folder,
        indexed: 0,
        told: Instant::now(),
        bootstrap,
        overlay: None,
    };
    sources.continue_folder()?;
    let mut gathered = Gathered::default();
    let written = timeout(within, write_epochs(&mut sources, &numbers, &mut gathered)).await;
    if let Some(overlay) = &sources.overlay {
        overlay.shutdown().await;
    }
    let indexed = sources.indexed;
    let is_whole = match written {
        Ok(written) => written.map(|()| true)?,
        Err(_) => false,
    };
    let Gathered { epochs, used, receipts, differs } = gathered;
    let count = epochs.len();
    // Of an earlier export that holds more nothing is lost.
    ensure!(is_whole || count > indexed, unfinished(within, &numbers, indexed, out));
    let content =
        Content::new(folder.write([deployment])?, folder.write([head])?, folder.write(&logs)?, folder.write(used.values())?, epochs);
    let domains = deployment.domains();
    let id = folder.write_index(&content, |id| account.as_ref().map(|account| By::sign(account, &domains, id)))?;
    folder.keep_only(&content)?;
    ensure!(is_whole, unfinished(within, &numbers, count, out));
    let signed_by = account.as_ref().map(Account::address);
    let exported = Exported { folder: out.to_owned(), id, signed_by, block: head.block.number, epochs: numbers, receipts, differs };
    context.output.result(&exported, || {
        let (folder, count, block) = (out.display(), exported.epochs.len(), exported.block);
        let whole = format!("folder    {folder}\nid        {id}\nepochs    {count}\nreceipts  {receipts}\nblock     {block}\n\n");
        match &exported.differs {
            None => format!("{whole}Check it with: tributary audit replay {folder}"),
            Some(why) => format!(
                "{whole}{why}\n`tributary audit replay {folder}` names the first difference; while the payout is not final, `tributary audit prove {folder}` proves it"
            ),
        }
    })
}

/// Gathers, rebuilds and writes each epoch. From the first payout on that is not the one its receipts give, what its posters show is kept in its place:
/// nothing that builds on it can be rebuilt.
async fn write_epochs(sources: &mut Sources<'_>, numbers: &[u64], gathered: &mut Gathered) -> anyhow::Result<()> {
    let facts = ChainFacts(sources.state);
    let mut replay = Replay::new(&facts, accounts(sources.deployment));
    for number in numbers {
        let roots = facts.epoch(*number).with_context(|| format!("epoch {number} is unknown"))?.roots;
        let mut items = BTreeMap::new();
        for (node, root) in roots {
            // Of one that was found to withhold a receipt nothing needs to be shown.
            if !sources.state.is_out(*number, node, Hash32::ZERO) {
                items.insert(node, sources.receipts(*number, node, &root).await?);
            }
        }
        let count = items.values().map(Vec::len).sum::<usize>();
        let shown: Vec<Line> = match gathered.differs {
            Some(_) => sources.posted(*number).await,
            None => match replay.next(*number, &items) {
                Ok(rebuilt) => {
                    let root = rebuilt.posted.root;
                    sources.context.output.note(&format!("epoch {number}: {count} receipts give the posted root {root}"));
                    lines_of(&rebuilt.payout).collect()
                }
                Err(why @ ReplayError::Posted { .. }) => {
                    sources.context.output.note(&why.to_string());
                    gathered.differs = Some(why.to_string());
                    sources.posted(*number).await
                }
                Err(why) => return Err(why.into()),
            },
        };
        let mut receipts = BTreeMap::new();
        for (node, items) in items {
            gathered.used.extend(items.iter().filter_map(|item| Some((item.receipt.document.manifest, item.manifest.clone()?))));
            let lines = items.into_iter().map(|item| ReceiptLine { receipt: item.receipt, quote: item.quote });
            receipts.insert(node, sources.folder.write(lines)?);
        }
        gathered.epochs.push(EpochFiles { epoch: *number, payout: sources.folder.write(shown)?, receipts });
        gathered.receipts = gathered.receipts.saturating_add(u64::try_from(count)?);
    }
    Ok(())
}

/// Why an export ends before its time is over: how far it is, and what to do.
fn unfinished(within: Duration, numbers: &[u64], whole: usize, out: &Path) -> String {
    let (seconds, folder) = (within.as_secs(), out.display());
    let next = numbers.get(whole).copied().unwrap_or_default();
    format!(
        "{whole} of {} epochs are in {folder} after {seconds} s, and epoch {next} is not: the same command goes on from there; give it longer by --within SECONDS if no epoch \
         becomes whole in that time",
        numbers.len()
    )
}

impl Sources<'_> {
    /// Notes what an earlier export left in the folder.
    fn continue_folder(&mut self) -> anyhow::Result<()> {
        if !self.folder.is_export() {
            return Ok(());
        }
        let Indexed { content, .. } = self.folder.index().context("the folder cannot be continued: name another one")?;
        let kept: Vec<Body> = self.folder.read("manifests", &content.manifests)?.all(|place| format!("manifest {place}"))?;
        self.manifests = kept.into_iter().map(|manifest| (manifest.hash(), manifest)).collect();
        self.indexed = content.epochs.len();
        for epoch in content.epochs {
            self.kept.extend(epoch.receipts.into_iter().map(|(node, file)| ((epoch.epoch, node), file)));
        }
        Ok(())
    }

    /// A node's receipts of an epoch, equal to its root.
    async fn receipts(&mut self, epoch: u64, node: Address, root: &RootFacts) -> anyhow::Result<Vec<ReceiptItem>> {
        let domains = self.deployment.domains();
        if let Some(items) = self.kept(epoch, node)
            && check_root(&domains, epoch, node, root, &items).is_ok()
        {
            return Ok(items);
        }
        ensure!(
            root.count <= RECEIPTS_MAX,
            "epoch {epoch}, node {node}: a root over {} receipts, at most {RECEIPTS_MAX} are fetched",
            root.count
        );
        let mut tried = Vec::new();
        // From their node, from the poster that divided them, from the chain if they were shown there.
        let poster = self.state.epoch(epoch).and_then(|epoch| epoch.payout).map(|payout| payout.poster).filter(|poster| *poster != node);
        for asked in [Some(node), poster].into_iter().flatten() {
            match self.fetch(epoch, node, asked, root.count).await {
                Ok(items) => match check_root(&domains, epoch, node, root, &items) {
                    Ok(()) => return Ok(items),
                    Err(error) => tried.push(format!("{asked}: {error}")),
                },
                Err(error) => tried.push(format!("{asked}: {error:#}")),
            }
        }
        match self.on_chain(epoch, node).await {
            Ok(Some(items)) => match check_root(&domains, epoch, node, root, &items) {
                Ok(()) => return Ok(items),
                Err(error) => tried.push(format!("the chain's events: {error}")),
            },
            Ok(None) => tried.push("the chain's events: not all of them were shown there".to_owned()),
            Err(error) => tried.push(format!("the chain's events: {error:#}")),
        }
        bail!("the receipts of {node} in epoch {epoch} are to be had nowhere ({})", tried.join("; "))
    }

    async fn on_chain(&self, epoch: u64, node: Address) -> anyhow::Result<Option<Vec<ReceiptItem>>> {
        let root = self.state.epoch(epoch).and_then(|epoch| epoch.roots.get(&node)).context("it submitted no root")?;
        receipts_on_chain(self.client, self.state, epoch, node, root).await
    }

    /// What an earlier export has; nothing if it lacks them or they are damaged.
    fn kept(&self, epoch: u64, node: Address) -> Option<Vec<ReceiptItem>> {
        let file = self.kept.get(&(epoch, node))?;
        let lines: Vec<ReceiptLine> = self.folder.read("receipts", file).ok()?.all(|place| place.to_string()).ok()?;
        items(lines, &self.manifests).ok()
    }

    /// The lines of a posted tree from wherever they are had; none if they are not.
    async fn posted(&mut self, epoch: u64) -> Vec<Line> {
        match self.lines(epoch).await {
            Ok(lines) => lines,
            Err(error) => {
                self.context.output.note(&format!("epoch {epoch}: {error:#}"));
                Vec::new()
            }
        }
    }

    async fn lines(&mut self, epoch: u64) -> anyhow::Result<Vec<Line>> {
        let (context, client, state) = (self.context, self.client, self.state);
        let posted = state.epoch(epoch).and_then(|epoch| epoch.payout).context("it has no payout")?;
        let from_poster = async { lines::from_poster(self.overlay().await?, state, epoch, &posted).await };
        lines::find(context, client, state, (epoch, &posted), from_poster).await
    }

    async fn connect(&mut self, account: Address) -> anyhow::Result<(Client, Connection)> {
        let operator = self.state.operator(account).context("it is no operator")?.node;
        let addr = self.address(operator).await?;
        let client = Client::bind(loopback_any(addr), &NodeSeed::generate(), Limits::default())?;
        let connection = client.connect(addr, Some(operator)).await?;
        Ok((client, connection))
    }

    /// A node's receipts of an epoch from `asked`: that node, or another one that fetched them.
    async fn fetch(&mut self, epoch: u64, node: Address, asked: Address, count: u64) -> anyhow::Result<Vec<ReceiptItem>> {
        let (client, connection) = self.connect(asked).await?;
        let mut items = Vec::new();
        while u64::try_from(items.len())? < count {
            let from = u64::try_from(items.len())?;
            let ask = if asked == node { Ask::Receipts { epoch, from } } else { Ask::ReceiptsOf { node, epoch, from } };
            match ask_once(connection.open_stream().await?, &ask).await? {
                Reply::Receipts(page) if !page.is_empty() && page.len() <= RECEIPTS_PAGE => {
                    items.extend(page);
                    self.tell(&format!("epoch {epoch}, node {node}: {} of {count} receipts, from {asked}", items.len()));
                }
                Reply::Receipts(_) => bail!("it shows {} receipts, its root covers {count}", items.len()),
                Reply::Refused(reason) => bail!("it refuses: {}", crate::words::line(&reason)),
                _ => bail!("it answered something else"),
            }
        }
        client.close(p2p::stream::code::SHUTDOWN).await;
        Ok(items)
    }

    /// Tells how far it is, now and then.
    fn tell(&mut self, how_far: &str) {
        if self.told.elapsed() >= TOLD_EVERY {
            self.told = Instant::now();
            self.context.output.note(how_far);
        }
    }

    async fn address(&mut self, node: NodeId) -> anyhow::Result<std::net::SocketAddr> {
        address_of(self.overlay().await?, node).await
    }

    async fn overlay(&mut self) -> anyhow::Result<&OverlayHandle> {
        match &mut self.overlay {
            Some(overlay) => Ok(overlay),
            joined => {
                let config = joining(self.context, std::mem::take(&mut self.bootstrap))?;
                Ok(joined.insert(self.context.light_overlay(&config).await?))
            }
        }
    }
}

pub(in crate::command) async fn address_of(overlay: &OverlayHandle, node: NodeId) -> anyhow::Result<std::net::SocketAddr> {
    let ads = overlay.wait_ads(|ads| ads.iter().any(|signed| signed.ad().node == node), ADS_WAIT).await;
    let ads = ads.with_context(|| format!("node {node} is not reachable now: what it holds is its own to show"))?;
    let ad = ads.iter().map(|signed| signed.ad()).find(|ad| ad.node == node).context("its ad is gone again")?;
    Ok(ad.client_addr)
}

/// Receipts with the manifests they name; the first that may be billed and is without one is named by its place.
pub fn items(lines: Vec<ReceiptLine>, manifests: &Manifests) -> anyhow::Result<Vec<ReceiptItem>> {
    let item = |(place, line): (usize, ReceiptLine)| {
        let root = line.receipt.document.manifest;
        let manifest = manifests.get(&root).cloned();
        let is_enough = manifest.is_some() || !line.receipt.document.reason.is_billable();
        ensure!(is_enough, "receipt {place}: the manifest {root} it names is not there");
        Ok(ReceiptItem { receipt: line.receipt, quote: line.quote, manifest })
    };
    lines.into_iter().enumerate().map(item).collect()
}
