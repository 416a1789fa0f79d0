//! What a node shows of its open answers: its receipts, which must give its root, then their transcripts.
//!
//! A root covers 4,096 receipts of an honest node: 64 pages, 4 MB, and its transcripts at 25 a page. What another one sends is bounded by the root's count,
//! by a frame, and by [`patience`].

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail, ensure};
use attribution::{
    bundle::Bundle,
    epoch::replay::{RootFacts, check_root},
    message::{Ask, RECEIPTS_PAGE, ReceiptItem, Reply},
    transcript::TRANSCRIPTS_PAGE,
};
use chain_bridge::registry::{State, state::SubmittedRoot};
use p2p::{
    client::{Client, Connection, Limits},
    identity::NodeSeed,
    overlay::OverlayHandle,
};
use tokio::time::timeout;
use types::{
    encoding::Document as _,
    id::{Address, AssetId, Hash32},
    key::{Domains, Signed},
    operator::RECEIPTS_MAX,
    quote::Class,
    receipt::Receipt,
};

use crate::{
    command::epoch::export::address_of,
    service::settlement::{ask_once, loopback_any},
    words,
};

/// Receipts, with their transcripts, that a node is to send in a second.
const RECEIPTS_PER_S: u64 = 50;
/// How long a node may take beyond that.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of bundles that are taken of one node's epoch: those of 16,384 answers.
const BYTES_MAX: usize = 256 << 20;

/// A node's answers of an epoch that declare a Datanet.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Those that are open and shown.
    pub(super) bundles: Vec<Bundle>,
    /// Those that are open and not shown, and why.
    pub(super) withheld: Vec<(Hash32, String)>,
    /// How many are not open.
    pub(super) closed: usize,
    /// Why not all transcripts were asked for: the connection broke off, or the node would not go on.
    pub(super) broken_off: Option<String>,
}

/// How long a root over so many receipts may take.
const fn patience(count: u64) -> Duration {
    PATIENCE.saturating_add(Duration::from_secs(count / RECEIPTS_PER_S))
}

/// Fetches what a node shows.
///
/// # Errors
/// That it cannot be asked, or shows other receipts than its root covers.
pub(super) async fn shown(
    overlay: &OverlayHandle,
    state: &State,
    domains: &Domains,
    datanet: AssetId,
    (epoch, node, root): (u64, Address, &SubmittedRoot),
) -> anyhow::Result<Shown> {
    ensure!(root.count <= RECEIPTS_MAX, "its root covers {} receipts, at most {RECEIPTS_MAX} are fetched", root.count);
    let operator = state.operator(node).context("it is no operator any more")?.node;
    let addr = address_of(overlay, operator).await?;
    let client = Client::bind(loopback_any(addr), &NodeSeed::generate(), Limits::default())?;
    let fetching = async {
        let connection = client.connect(addr, Some(operator)).await?;
        let items = receipts(&connection, epoch, root.count).await?;
        let facts = RootFacts { receipts: root.receipts, count: root.count, fees: root.fees, block: root.block };
        check_root(domains, epoch, node, &facts, &items)?;
        let nameless = nameless(&items);
        let (wanted, closed) = wanted(items, datanet);
        let mut shown = Shown { closed, ..Shown::default() };
        if let Err(error) = transcripts(&connection, domains, epoch, &wanted, &mut shown).await {
            let (done, why) = (shown.bundles.len() + shown.withheld.len(), format!("{error:#}"));
            let rest = wanted.values().skip(done).map(|receipt| (receipt.document.hash(), why.clone()));
            shown.withheld.extend(rest);
            shown.broken_off = Some(why);
        }
        shown.withheld.extend(nameless);
        anyhow::Ok(shown)
    };
    let shown = timeout(patience(root.count), fetching).await;
    client.close(p2p::stream::code::SHUTDOWN).await;
    shown.unwrap_or_else(|_| bail!("it did not show its receipts and answers within {} s", patience(root.count).as_secs()))
}

async fn receipts(connection: &Connection, epoch: u64, count: u64) -> anyhow::Result<Vec<ReceiptItem>> {
    let mut items = Vec::new();
    while u64::try_from(items.len())? < count {
        let from = u64::try_from(items.len())?;
        match ask_once(connection.open_stream().await?, &Ask::Receipts { epoch, from }).await? {
            Reply::Receipts(page) if !page.is_empty() && page.len() <= RECEIPTS_PAGE => items.extend(page),
            Reply::Receipts(_) => bail!("it shows {} receipts, its root covers {count}", items.len()),
            Reply::Refused(reason) => bail!("it refuses: {}", words::line(&reason)),
            _ => bail!("it answered something else"),
        }
    }
    Ok(items)
}

/// The open receipts that declare a Datanet, by place, and how many do and are not open. What bills nothing pays nobody.
fn wanted(items: Vec<ReceiptItem>, datanet: AssetId) -> (BTreeMap<u64, Signed<Receipt>>, usize) {
    let declares = |item: &ReceiptItem| {
        item.receipt.document.reason.is_billable()
            && item.manifest().is_some_and(|manifest| manifest.datanets.iter().any(|declared| declared.version.asset == datanet))
    };
    let declaring = (0..).zip(items).filter(|(_, item)| declares(item));
    let (open, closed): (Vec<_>, Vec<_>) = declaring.partition(|(_, item)| item.receipt.document.class == Class::Open);
    (open.into_iter().map(|(place, item)| (place, item.receipt)).collect(), closed.len())
}

/// The open receipts that bill and name as their manifest what is none: which Datanets they declare nobody can tell.
fn nameless(items: &[ReceiptItem]) -> Vec<(Hash32, String)> {
    let bills = |item: &&ReceiptItem| item.receipt.document.reason.is_billable() && item.receipt.document.class == Class::Open;
    let nameless = items.iter().filter(bills).filter(|item| item.manifest().is_none());
    nameless
        .map(|item| (item.receipt.document.hash(), "what it names as its manifest is none, so it declares nothing".to_owned()))
        .collect()
}

/// Fetches the transcripts at the places wanted; what came before an error stands.
async fn transcripts(
    connection: &Connection,
    domains: &Domains,
    epoch: u64,
    wanted: &BTreeMap<u64, Signed<Receipt>>,
    shown: &mut Shown,
) -> anyhow::Result<()> {
    let (mut from, mut bytes) = (0, 0_usize);
    while let Some((next, _)) = wanted.range(from..).next() {
        let page = match ask_once(connection.open_stream().await?, &Ask::Transcripts { epoch, from: *next }).await? {
            Reply::Transcripts(page) if !page.is_empty() && page.len() <= TRANSCRIPTS_PAGE => page,
            Reply::Transcripts(page) => bail!("a page of {} transcripts, 1 to {TRANSCRIPTS_PAGE} are read", page.len()),
            Reply::Refused(reason) => bail!("it refuses: {}", words::line(&reason)),
            _ => bail!("it answered something else"),
        };
        for (place, transcript) in (*next..).zip(page) {
            from = place + 1;
            let Some(receipt) = wanted.get(&place) else { continue };
            bytes = bytes.saturating_add(transcript.size_bytes());
            ensure!(bytes <= BYTES_MAX, "its transcripts have more than {BYTES_MAX} bytes");
            match transcript.read(receipt, domains) {
                Ok(bundle) => shown.bundles.push(bundle),
                Err(error) => shown.withheld.push((receipt.document.hash(), error.to_string())),
            }
        }
    }
    Ok(())
}
