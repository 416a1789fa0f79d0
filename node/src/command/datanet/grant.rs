//! `tributary datanet grant|revoke|log`: who may read a private Datanet, and who said to have read what.
//!
//! The owner changes the log in the folder of its own node, which serves it to members. A member fetches it whole, replays it, and holds it against the
//! copy it had: an owner that shows two histories is convicted by its own signatures.

use anyhow::{Context as _, bail, ensure};
use chain_bridge::registry::{
    State,
    state::{Accepted, Asset},
};
use clap::Args as ClapArgs;
use p2p::client::Connection;
use serde::Serialize;
use storage::{
    proto::gate::{Ask, Reply},
    seal::{
        book::{Author, Book},
        log::{Entry, Event, Head, Purpose, Purposes, Signed},
    },
};
use types::id::{AssetId, NodeId};

use super::{Context, network::Network};
use crate::{
    chain::Chained,
    datanet::{granted, resolve, review, seals},
    output::table,
};

/// Times a read is entered anew because somebody else entered one meanwhile.
const ENTER_TRIES: u32 = 8;
/// Most entries shown; the rest are counted.
const SHOWN_MAX: usize = 200;
/// Seconds of a block, to tell when a grant by a date ends: those of the OP Stack. The grant holds by blocks.
const BLOCK_SECONDS: u64 = 2;

/// Let a node read a private Datanet.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "For the owner, in the folder of its node. The member's node id is the one that its `tributary init` printed; the data keys are wrapped for it, and it reads\nwhat was sealed so far and what is sealed while the grant holds. A second grant replaces the first. --until is a block, or a number of days from now\nsuch as 30d, reckoned at two seconds a block.\n\nExamples:\n  tributary datanet grant wards 5c1f… --purpose read --until 30d\n  tributary datanet grant wards 5c1f… --purpose read --purpose review --until 1200000\n\nNext: the member runs tributary datanet fetch wards."
)]
pub(super) struct GrantArgs {
    /// Datanet, by name or number.
    datanet: String,
    /// The member's node.
    node: NodeId,
    /// What for: read, train, serve or review. May be repeated.
    #[arg(long = "purpose", value_name = "PURPOSE", required = true)]
    purposes: Vec<Purpose>,
    /// Last block in which the grant holds, or days from now, such as 30d.
    #[arg(long, value_name = "BLOCK|DAYS")]
    until: String,
}

/// Let a node read no longer.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "For the owner, in the folder of its node. What is sealed from now on is sealed under a new key that the node does not get; what it could read before, nobody\ncan take back.\n\nExample:\n  tributary datanet revoke wards 5c1f…\n\nNext: tributary datanet log wards shows the revocation and the new key."
)]
pub(super) struct RevokeArgs {
    /// Datanet, by name or number.
    datanet: String,
    /// The member's node.
    node: NodeId,
}

/// Show the log of a private Datanet.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The owner reads its own; a member fetches it from the owner's node and replays it: signatures, order, grants, keys. It is held against the copy that this\nfolder had.\n\nExample:\n  tributary datanet log wards --json | jq '.entries[] | select(.event == \"read\")'\n\nNext: tributary datanet members wards."
)]
pub(super) struct LogArgs {
    /// Datanet, by name or number.
    datanet: String,
    /// Overlay address to join through [default: from the configuration].
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
}

/// What a change prints.
#[derive(Debug, Serialize)]
struct Changed {
    asset: u64,
    node: NodeId,
    /// Purposes of the grant; empty after a revocation.
    purposes: String,
    /// Last block in which it holds; nothing after a revocation.
    until: Option<u64>,
    /// Key epoch under which the next contribution is sealed.
    epoch: u32,
    entries: u64,
}

#[derive(Debug, Serialize)]
struct Line {
    number: u64,
    block: u64,
    event: &'static str,
    author: NodeId,
    detail: String,
}

/// What `log` prints.
#[derive(Debug, Serialize)]
struct Printed {
    asset: u64,
    owner: NodeId,
    length: u64,
    entries: Vec<Line>,
    /// Contributions that were erased on request, by the chain: in words.
    erased: Vec<String>,
}

const BLOCKS_A_DAY: u64 = 24 * 3600 / BLOCK_SECONDS;
/// Longest grant: a hundred years. What is meant to last longer is a slip of the keys, and is granted again in time.
const GRANT_BLOCKS_MAX: u64 = 36_525 * BLOCKS_A_DAY;

/// The block that `--until` means at block `now`.
fn until(text: &str, now: u64) -> anyhow::Result<u64> {
    let wrong = || format!("--until {text:?}: give a block, or days from now such as 30d");
    let block = match text.strip_suffix('d') {
        Some(days) => {
            let days: u64 = days.parse().with_context(wrong)?;
            let blocks = days.checked_mul(BLOCKS_A_DAY).with_context(wrong)?;
            now.checked_add(blocks).with_context(wrong)?
        }
        None => text.parse().with_context(wrong)?,
    };
    ensure!(
        block.saturating_sub(now) <= GRANT_BLOCKS_MAX,
        "--until {text}: a grant lasts 100 years at most, which is {}d, or block {} from now on",
        GRANT_BLOCKS_MAX / BLOCKS_A_DAY,
        now.saturating_add(GRANT_BLOCKS_MAX)
    );
    ensure!(block > now, "--until {text}: the chain is at block {now} already: give a later one");
    Ok(block)
}

struct Owned {
    id: AssetId,
    now: u64,
    author: Author,
}

/// The private Datanet, if this wallet and this folder's node are its owner's.
async fn owned(context: &Context, name: &str) -> anyhow::Result<Owned> {
    ensure!(!context.is_dry(), "--dry-run: the log is changed without a transaction; nothing was done");
    let chain = context.chain().await?;
    let state = chain.state().await?;
    let (asset, card) = resolve(&state, name)?;
    let me = chain.client.address().context("the wallet has an account")?;
    ensure!(card.is_private(), "Datanet {} is open: everybody reads it", asset.id);
    ensure!(asset.owner() == me, "Datanet {} belongs to {}, this wallet is {me}: its owner says who reads it", asset.id, asset.owner());
    Ok(Owned { id: asset.id, now: chain.head().await?.block.number, author: seals::author(&context.seed()?) })
}

/// Runs `grant`.
pub(super) async fn grant(context: &Context, args: GrantArgs) -> anyhow::Result<()> {
    let Owned { id, now, author } = owned(context, &args.datanet).await?;
    let (expiry, purposes) = (until(&args.until, now)?, Purposes::of(&args.purposes));
    ensure!(args.node != author.id(), "node {} is the owner's own, which reads everything", args.node);
    // The first key is made before the first grant, so that the member has it.
    seals::sealing_key(&context.data, &author, id, now)?;
    let entries = seals::change(&context.data, author.id(), id, |book| {
        book.grant(&author, now.max(book.log().block()), args.node, purposes, expiry)?;
        Ok(book.log().head().length)
    })?;
    let epoch = seals::sealing_key(&context.data, &author, id, now)?.epoch();
    let changed = Changed { asset: id.0, node: args.node, purposes: purposes.words(), until: Some(expiry), epoch, entries };
    context.output.result(&changed, || {
        format!(
            "node {} may {} Datanet {id} until block {expiry}\n\nNext: there, tributary datanet fetch {id}",
            changed.node, changed.purposes
        )
    })
}

/// Runs `revoke`.
pub(super) async fn revoke(context: &Context, args: RevokeArgs) -> anyhow::Result<()> {
    let Owned { id, now, author } = owned(context, &args.datanet).await?;
    let known = seals::read(&context.data, id)?;
    let has_grant = known.is_some_and(|book| book.log().grants().any(|(member, _)| member == args.node));
    ensure!(has_grant, "node {} has no grant for Datanet {id}: tributary datanet members {id} shows who has", args.node);
    seals::change(&context.data, author.id(), id, |book| Ok(book.revoke(&author, now.max(book.log().block()), args.node)?))?;
    // At once, so that the log shows it; else the next contribution would bring it.
    let epoch = seals::sealing_key(&context.data, &author, id, now)?.epoch();
    let entries = seals::read(&context.data, id)?.map_or(0, |book| book.log().head().length);
    let changed = Changed { asset: id.0, node: args.node, purposes: String::new(), until: None, epoch, entries };
    context.output.result(&changed, || {
        format!(
            "node {} may no longer read Datanet {id}: what comes is sealed under key epoch {epoch}\n\nNext: tributary datanet log {id}",
            changed.node
        )
    })
}

/// Runs `log`.
pub(super) async fn log(context: &Context, args: LogArgs) -> anyhow::Result<()> {
    let chain = context.chain_reader().await?;
    let state = chain.state().await?;
    let (asset, card) = resolve(&state, &args.datanet)?;
    ensure!(card.is_private(), "Datanet {} is open: there is no log of who reads it", asset.id);
    let me = context.seed()?.node_id();
    let own = seals::read(&context.data, asset.id)?.filter(|book| book.log().owner() == me);
    let book = match own {
        Some(book) => book,
        None => {
            let network = Network::join(context, &args.bootstrap).await?;
            let fetched = fetched(context, &network, &state, asset).await;
            network.leave().await;
            fetched?
        }
    };
    let entries: Vec<Line> = book.entries().iter().map(line).collect();
    let of = state.erasures().filter(|erasure| erasure.datanet == asset.id);
    let erased = of.map(|erasure| format!("{erasure} by {}", erasure.by)).collect();
    let printed = Printed { asset: asset.id.0, owner: book.log().owner(), length: book.log().head().length, entries, erased };
    context.output.result(&printed, || describe(&printed))
}

fn line(signed: &Signed) -> Line {
    let Entry { number, block, author, event, .. } = &signed.entry;
    let (event, detail) = match event {
        Event::Granted { member, purposes, expiry, keys } => {
            ("grant", format!("{member} may {} until block {expiry}, with {} keys", purposes.words(), keys.len()))
        }
        Event::Revoked { member } => ("revoke", member.to_string()),
        Event::Rekeyed { epoch, keys, .. } => ("key", format!("epoch {epoch}, for {} nodes", keys.len())),
        Event::Read { version, segment, purpose } => {
            ("read", format!("contribution committed in block {version}, place {segment}, to {}", purpose.label()))
        }
    };
    Line { number: *number, block: *block, event, author: *author, detail }
}

fn describe(printed: &Printed) -> String {
    let row = |line: &Line| {
        vec![line.number.to_string(), line.block.to_string(), line.event.to_owned(), line.author.to_string(), line.detail.clone()]
    };
    let rows: Vec<_> = printed.entries.iter().take(SHOWN_MAX).map(row).collect();
    let mut text = format!("Datanet {}, log of node {}, replayed: {} entries\n\n", printed.asset, printed.owner, printed.length);
    text.push_str(&table(&["entry", "block", "event", "by", "what"], &rows));
    if printed.entries.len() > SHOWN_MAX {
        text.push_str(&format!("\nand {} more: --json shows all", printed.entries.len() - SHOWN_MAX));
    }
    for erased in &printed.erased {
        text.push_str(&format!("\n{erased}"));
    }
    text
}

/// The log from the owner's node, replayed and kept.
async fn fetched(context: &Context, network: &Network, state: &State, asset: &Asset) -> anyhow::Result<Book> {
    let (client, connection) = network.dial_gate(context, state, asset.owner()).await?;
    let book = pages(context, &connection, state, asset).await;
    client.close(0).await;
    book
}

async fn pages(context: &Context, connection: &Connection, state: &State, asset: &Asset) -> anyhow::Result<Book> {
    let (datanet, node) = (asset.id, state.operator(asset.owner()).context("the owner runs no node")?.node);
    let known = seals::read(&context.data, datanet)?;
    let mut book = Book::new(datanet, node);
    loop {
        let from = book.log().head().length;
        let ask = Ask::Log { datanet, from };
        let Reply::Log { owner, entries, length, hash, signature } = review::ask(connection.open_stream().await?, &ask).await? else {
            bail!("the owner's node answered something else than its log")
        };
        ensure!(owner == node, "the owner's node {node} shows the log of node {owner}");
        let head = Head { datanet, length, hash };
        let signature = signature.first_chunk::<64>().filter(|_| signature.len() == 64).context("the head of the log is not signed")?;
        ensure!(head.is_signed_by(node, signature), "the head of the log is not signed by node {node}");
        for entry in &entries {
            book.append(Signed::decode(entry)?)?;
        }
        let got = book.log().head().length;
        if got >= length {
            ensure!(book.log().passes(&head), "node {node} signed a head that its own log does not pass through: do not trust this log");
            break;
        }
        ensure!(!entries.is_empty(), "node {node} shows {got} of {length} entries and no more");
    }
    if let Some(known) = known.filter(|known| known.log().owner() == node) {
        let before = known.log().head();
        ensure!(
            book.log().passes(&before),
            "node {node} shows another history than before: its log had {} entries that this one does not continue; keep {} as evidence",
            before.length,
            context.data.seal_log(datanet).display()
        );
    }
    seals::keep(&context.data, &book)?;
    Ok(book)
}

/// Enters into the log that this folder's node reads these contributions, and keeps the log with the keys that open them. The owner's own reads are not
/// entered.
pub(super) async fn enter_reads(
    context: &Context,
    chain: &Chained,
    network: &Network,
    asset: &Asset,
    wanted: &[&Accepted],
    purpose: Purpose,
) -> anyhow::Result<()> {
    let author = seals::author(&context.seed()?);
    if seals::read(&context.data, asset.id)?.is_some_and(|book| book.log().owner() == author.id()) {
        return Ok(());
    }
    let state = chain.state().await?;
    let (client, connection) = network.dial_gate(context, &state, asset.owner()).await?;
    let entered = async {
        let mut book = pages(context, &connection, &state, asset).await?;
        for accepted in wanted {
            let name = storage::datanet::private::name(
                asset.id,
                storage::datanet::Place { block: accepted.priority.block, ordinal: accepted.priority.ordinal },
            )?;
            let event = Event::Read { version: name.version, segment: name.segment, purpose };
            let mut tries = 0;
            loop {
                let block = chain.head().await?.block.number.max(book.log().block());
                granted::by_log(&book, author.id(), asset, block, purpose)?;
                let entry = author.sign(book.log().draft(author.id(), block, event.clone()));
                let ask = Ask::Enter { datanet: asset.id, entry: entry.encode() };
                match review::ask(connection.open_stream().await?, &ask).await {
                    Ok(Reply::Entered { .. }) => {
                        book.append(entry)?;
                        break;
                    }
                    Ok(_) => bail!("the owner's node answered something else than that the read is entered"),
                    Err(error) if tries >= ENTER_TRIES => return Err(error),
                    Err(_) => {
                        // Another entry came first: the next one follows it.
                        tries += 1;
                        book = pages(context, &connection, &state, asset).await?;
                    }
                }
            }
        }
        seals::keep(&context.data, &book)
    };
    let entered = entered.await;
    client.close(0).await;
    entered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_ends_at_a_block_or_after_days_and_never_in_the_past() {
        assert_eq!(until("500", 100).unwrap(), 500);
        assert_eq!(until("2d", 100).unwrap(), 100 + 86_400);
        for text in ["", "d", "-1", "1.5d", "tomorrow", "18446744073709551615d", "99999999999999999999"] {
            assert!(until(text, 100).unwrap_err().to_string().contains("give a block"), "{text}");
        }
        assert_eq!(until("36525d", 100).unwrap(), 100 + 36_525 * 43_200);
        for text in ["36526d", "99999999999d", "99999999999999999"] {
            assert!(until(text, 100).unwrap_err().to_string().contains("100 years at most, which is 36525d"), "{text}");
        }
        for text in ["100", "0", "0d"] {
            assert!(until(text, 100).unwrap_err().to_string().contains("already"), "{text}");
        }
    }
}
