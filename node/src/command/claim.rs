//! `tributary claim`: what the last final payout tree owes this account, part by part, and the transaction that takes it.
//!
//! The line of the tree comes from a node, the root from the chain: nothing is sent before the line leads to the root. Whoever posted the root
//! is asked first; every other operator that watched the payout keeps the tree and is asked if that one is gone or shows something else.

mod credit;
mod kept;
mod relay;
mod rent;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use attribution::message::{Ask, PayoutLine, Reply};
use chain_bridge::{
    chain::error::ChainError,
    registry::{State, state::Payout},
};
use clap::Args as ClapArgs;
use p2p::{
    client::{Client, Limits},
    identity::NodeSeed,
    overlay::OverlayHandle,
    proto::ads::Ad,
};
use serde::Serialize;
use types::{
    amount::{Amount, AmountError},
    id::{Address, Hash32, NodeId},
    payout::{PartLeaf, parts_tree},
    split::Part,
};

use super::{Context, sent::Transaction, talk::joining};
use crate::{
    output::money,
    service::settlement::{ask_once, loopback_any},
};

/// How long the poster's ad is awaited.
const ADS_WAIT: Duration = Duration::from_secs(10);
/// Most nodes asked for the line.
const ASKED_MAX: usize = 8;
/// Nodes that must say that the account is not in the tree before no more are asked.
const ABSENT_ENOUGH: usize = 2;

/// Take what the last final payout tree owes this account.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Epochs: nodes post their receipts, then a payout tree is posted, and after its window it is final. Claims are cumulative: nothing is lost\nby claiming late, and claiming twice pays once. --for pays others, in batches; this wallet pays the fees and gets nothing.\n\nExamples:\n  tributary claim --dry-run    what would be paid, for which receipts\n  tributary claim\n  tributary claim --for 0x... --for 0x...\n  tributary claim --kept       what contracts keep for this account, and what its stake has earned\n  tributary claim --rent       rent of what this node held in epochs whose audit it passed\n  tributary claim --credit note.json    a node's credit note: claimed, and taken from its stake if it does not pay"
)]
pub struct Args {
    /// Account to have paid instead of this wallet's; what it does not take is kept for it. May be repeated.
    #[arg(long = "for", value_name = "ADDRESS")]
    others: Vec<Address>,
    /// Take what contracts keep for this account because it did not take it when it was paid, and the stakers' share.
    #[arg(long, conflicts_with_all = ["others", "bootstrap", "credit"])]
    kept: bool,
    /// Have rent paid for the fragments that this node held in epochs whose audit it passed.
    #[arg(long, conflicts_with_all = ["others", "bootstrap", "credit", "kept"])]
    rent: bool,
    /// Claim a credit note that a node signed for an answer; run it again to see it paid, or to have the node's stake pay.
    #[arg(long, value_name = "NOTE", conflicts_with_all = ["others", "bootstrap"])]
    credit: Option<PathBuf>,
    /// Overlay address to join through [default: from the configuration].
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
}

/// What is printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Claimed {
    account: Address,
    /// Epoch of the tree; nothing before the first final one.
    epoch: Option<u64>,
    /// Paid by this command.
    claimed_wei: Amount,
    /// Owed and not taken: only after --dry-run.
    claimable_wei: Amount,
    /// Everything the tree ever gave this account.
    cumulative_wei: Amount,
    /// The account's parts of that epoch.
    parts: Vec<Row>,
    /// Why nothing was paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    transaction: Option<Transaction>,
    gas: u64,
}

/// One part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    node: Address,
    receipt: u64,
    role: String,
    #[serde(rename = "amount_wei")]
    wei: Amount,
}

/// Why a line of a payout tree is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum LineError {
    #[error("it shows the line of {0}")]
    Account(Address),
    #[error("it shows epoch {got}, asked for was {expected}")]
    Epoch { got: u64, expected: u64 },
    #[error("its opening leads to {got}, the root posted on the chain is {expected}")]
    Root { got: String, expected: Hash32 },
    #[error("its tree sums to {}, {} were posted on the chain", money(*got), money(*expected))]
    Total { got: Amount, expected: Amount },
    #[error("its parts lead to {got}, the leaf names {expected}")]
    Parts { got: Hash32, expected: Hash32 },
    #[error("its parts sum to {}, the leaf grew by {}", money(*got), money(*expected))]
    Sum { got: Amount, expected: Amount },
    #[error(transparent)]
    Amount(#[from] AmountError),
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    if let Some(note) = &args.credit {
        return credit::run(context, note).await;
    }
    if args.kept {
        return kept::run(context).await;
    }
    if args.rent {
        return rent::run(context).await;
    }
    let chain = context.chain().await?;
    let account = chain.client.address().context("no account")?;
    let state = chain.state().await?;
    let now = chain.head().await?.timestamp;
    let Some((epoch, payout)) = state.final_payout(now) else {
        return print(context, &nothing(account, None, "no payout tree is final yet: nodes settle, a poster posts, a window passes"));
    };
    let config = joining(context, args.bootstrap)?;
    if !args.others.is_empty() {
        return relay::run(context, &chain, &state, &config, (epoch, payout), &args.others).await;
    }
    context.output.note(&format!("asking for the line of {account} in the payout tree of epoch {epoch}"));
    let overlay = context.light_overlay(&config).await?;
    let line = find_line(&overlay, &state, account, epoch, &payout).await;
    overlay.shutdown().await;
    let Some(line) = line? else {
        return print(
            context,
            &nothing(
                account,
                Some(epoch),
                "the nodes asked say that the account is not in the payout tree: it earned nothing up to this epoch",
            ),
        );
    };
    // What an earlier run of this command has claimed is no longer owed.
    let earlier = chain.client.take_up(&["claim"]).await?.map(|sent| Transaction::new("claim", &sent));
    let before = chain.client.claimed_of(account).await?;
    let owed =
        line.leaf.cumulative.minus(before).context("more was claimed than the final tree gives: the chain was reorganised, try again")?;
    let mut claimed = Claimed {
        account,
        epoch: Some(epoch),
        claimed_wei: Amount::ZERO,
        claimable_wei: owed,
        cumulative_wei: line.leaf.cumulative,
        parts: line.parts.iter().map(row).collect(),
        note: None,
        transaction: None,
        gas: 0,
    };
    if owed == Amount::ZERO {
        let before = if earlier.is_some() { "by an earlier run of this command, which was stopped" } else { "before" };
        claimed.note = Some(format!("everything up to this epoch was claimed {before}"));
        claimed.gas = earlier.as_ref().map_or(0, |transaction| transaction.gas);
        claimed.transaction = earlier;
    } else {
        context.output.note(&format!("the line leads to the posted root; claiming {} of epoch {epoch}", money(owed)));
        match chain.client.claim(&line.leaf, &line.opening).await {
            Ok((paid, sent)) => {
                let transaction = Transaction::new("claim", &sent);
                (claimed.claimed_wei, claimed.claimable_wei, claimed.gas) = (paid, owed.minus(paid)?, transaction.gas);
                claimed.transaction = Some(transaction);
            }
            // What is owed is the answer of a dry run.
            Err(ChainError::NotSent { .. }) if context.is_dry() => {}
            Err(error) => return Err(error.into()),
        }
    }
    print(context, &claimed)
}

fn nothing(account: Address, epoch: Option<u64>, why: &str) -> Claimed {
    Claimed {
        account,
        epoch,
        claimed_wei: Amount::ZERO,
        claimable_wei: Amount::ZERO,
        cumulative_wei: Amount::ZERO,
        parts: Vec::new(),
        note: Some(why.to_owned()),
        transaction: None,
        gas: 0,
    }
}

/// The account's line, from the first node whose line leads to the posted root; nothing if the account is in no tree.
pub(super) async fn find_line(
    overlay: &OverlayHandle,
    state: &State,
    account: Address,
    epoch: u64,
    payout: &Payout,
) -> anyhow::Result<Option<PayoutLine>> {
    let asked = operators(overlay, state, payout.poster).await?;
    let (mut absent, mut is_contradicted, mut reasons) = (0_usize, false, Vec::new());
    for (node, addr) in asked {
        match ask_line(node, addr, account, epoch).await {
            Ok(Some(line)) => match check_line(&line, account, epoch, payout) {
                Ok(()) => return Ok(Some(line)),
                Err(error) => {
                    is_contradicted = true;
                    reasons.push(format!("{node}: {error}"));
                }
            },
            // A node may say so falsely: a second one is asked, and a line that leads to the root would still count.
            Ok(None) => absent += 1,
            Err(error) => reasons.push(format!("{node}: {error:#}")),
        }
        if absent >= ABSENT_ENOUGH && !is_contradicted {
            break;
        }
    }
    if absent > 0 && !is_contradicted {
        return Ok(None);
    }
    bail!(
        "no node shows a line of the payout tree of epoch {epoch} that leads to the posted root {}; nothing was sent:\n  {}",
        payout.root,
        reasons.join("\n  ")
    )
}

/// Nodes of registered operators that are heard of, the poster's first.
pub(super) async fn operators(overlay: &OverlayHandle, state: &State, poster: Address) -> anyhow::Result<Vec<(NodeId, SocketAddr)>> {
    let poster = state.operator(poster).map(|operator| operator.node);
    let waited = overlay.wait_ads(|ads| ads.iter().any(|signed| Some(signed.ad().node) == poster), ADS_WAIT).await;
    if let Err(error) = waited {
        tracing::info!(%error, "the poster is not heard of: asking others");
    }
    let ads = overlay.ads().await?;
    let asked = to_ask(state, ads.iter().map(|signed| signed.ad()), poster);
    if asked.is_empty() {
        bail!("no registered node is heard of: give the --bootstrap address of a running node");
    }
    Ok(asked)
}

/// Nodes of registered operators, the poster's first, then by node id.
fn to_ask<'a>(state: &State, ads: impl Iterator<Item = &'a Ad>, poster: Option<NodeId>) -> Vec<(NodeId, SocketAddr)> {
    let mut nodes: Vec<_> = ads
        .filter(|ad| state.operator(ad.account).is_some_and(|operator| operator.node == ad.node))
        .map(|ad| (ad.node, ad.client_addr))
        .collect();
    nodes.sort_by_key(|(node, _)| (Some(*node) != poster, *node));
    nodes.truncate(ASKED_MAX);
    nodes
}

async fn ask_line(node: NodeId, addr: SocketAddr, account: Address, epoch: u64) -> anyhow::Result<Option<PayoutLine>> {
    let client = Client::bind(loopback_any(addr), &NodeSeed::generate(), Limits::default())?;
    let connection = client.connect(addr, Some(node)).await?;
    match ask_once(connection.open_stream().await?, &Ask::Payout { epoch, account }).await? {
        Reply::Payout(line) => Ok(line),
        Reply::Refused(reason) => bail!("it refuses: {}", crate::words::line(&reason)),
        _ => bail!("it answered something else"),
    }
}

/// Whether a line is the account's, leads to the posted root, and its parts are what it grew by.
fn check_line(line: &PayoutLine, account: Address, epoch: u64, payout: &Payout) -> Result<(), LineError> {
    let leaf = &line.leaf;
    if leaf.account != account {
        return Err(LineError::Account(leaf.account));
    }
    if line.epoch != epoch {
        return Err(LineError::Epoch { got: line.epoch, expected: epoch });
    }
    match line.opening.root(leaf.summed()) {
        Some((root, total)) if root == payout.root && total == payout.total => {}
        Some((root, total)) if root == payout.root => return Err(LineError::Total { got: total, expected: payout.total }),
        Some((root, _)) => return Err(LineError::Root { got: root.to_string(), expected: payout.root }),
        None => return Err(LineError::Root { got: "no root at all".to_owned(), expected: payout.root }),
    }
    let parts = parts_tree(&line.parts)?;
    if parts.root() != leaf.parts {
        return Err(LineError::Parts { got: parts.root(), expected: leaf.parts });
    }
    let grown = leaf.cumulative.minus(leaf.previous)?;
    if parts.total() == grown { Ok(()) } else { Err(LineError::Sum { got: parts.total(), expected: grown }) }
}

fn row(part: &PartLeaf) -> Row {
    Row { node: part.node, receipt: part.receipt, role: role(part.part), wei: part.amount }
}

/// A part's code in words.
fn role(code: u32) -> String {
    let fixed = [
        (Part::Protocol, "protocol"),
        (Part::Node, "node"),
        (Part::Agent, "agent"),
        (Part::Base, "base model"),
        (Part::Adapter, "adapter"),
        (Part::Stakers, "stakers"),
        (Part::Insurance, "insurance"),
        (Part::Refund, "refund"),
    ];
    if let Some((_, name)) = fixed.iter().find(|(part, _)| part.code() == code) {
        return (*name).to_owned();
    }
    let numbered = |first: Part, name: &str| code.checked_sub(first.code()).map(|number| format!("{name} {number}"));
    let span = numbered(Part::Span(0), "span").filter(|_| code <= Part::Span(u16::MAX).code());
    let treasury = || numbered(Part::Treasury(0), "treasury of Datanet").filter(|_| code <= Part::Treasury(u8::MAX).code());
    span.or_else(treasury).unwrap_or_else(|| format!("part {code}"))
}

fn print(context: &Context, claimed: &Claimed) -> anyhow::Result<()> {
    context.output.result(claimed, || describe(claimed))
}

fn describe(claimed: &Claimed) -> String {
    let mut lines = vec![format!("account  {}", claimed.account)];
    lines.extend(claimed.epoch.map(|epoch| format!("epoch    {epoch}")));
    if !claimed.parts.is_empty() {
        lines.push(format!("parts    {} in this epoch:", claimed.parts.len()));
    }
    lines.extend(claimed.parts.iter().map(|row| format!("  receipt {} of {}: {} {}", row.receipt, row.node, row.role, money(row.wei))));
    lines.push(format!("claimed  {}", money(claimed.claimed_wei)));
    if claimed.claimable_wei > Amount::ZERO {
        lines.push(format!("owed     {}", money(claimed.claimable_wei)));
    }
    lines.extend(claimed.note.clone());
    lines.extend(claimed.transaction.as_ref().map(ToString::to_string));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use attribution::{epoch::build_payout, shares::Share};

    use super::*;

    const ACCOUNT: Address = Address([7; 20]);

    /// A tree of three accounts on top of an earlier one, and this account's line in it.
    fn tree() -> (PayoutLine, Payout) {
        let node = Address([1; 20]);
        let share = |payee: u8, receipt, part: Part, amount| Share {
            payee: Address([payee; 20]),
            part: PartLeaf::new(node, receipt, part, Amount(amount)),
        };
        let shares =
            [share(7, 0, Part::Node, 40), share(7, 1, Part::Span(2), 2), share(3, 0, Part::Base, 9), share(9, 0, Part::Adapter, 5)];
        let before = BTreeMap::from([(ACCOUNT, Amount(100)), (Address([3; 20]), Amount(1))]);
        let built = build_payout(&before, shares, &[]).unwrap();
        let claim = built.claim(ACCOUNT).unwrap();
        let payout =
            Payout { root: built.root(), total: built.total(), previous: Hash32::ZERO, poster: node, final_at: 0, bond: Amount::ZERO };
        (PayoutLine { epoch: 4, leaf: claim.leaf, opening: claim.opening, parts: claim.parts }, payout)
    }

    #[test]
    fn a_line_that_leads_to_the_posted_root_is_believed() {
        let (line, payout) = tree();
        assert_eq!(check_line(&line, ACCOUNT, 4, &payout), Ok(()));
        assert_eq!(line.leaf.cumulative, Amount(142));
    }

    #[test]
    fn every_changed_line_is_refused_in_words() {
        let check = |says: &str, change: &dyn Fn(&mut PayoutLine, &mut Payout)| {
            let (mut line, mut payout) = tree();
            change(&mut line, &mut payout);
            let error = check_line(&line, ACCOUNT, 4, &payout).expect_err(says).to_string();
            assert!(error.contains(says), "{says}: {error}");
        };
        check("line of 0x0909", &|line, _| line.leaf.account = Address([9; 20]));
        check("epoch 5", &|line, _| line.epoch = 5);
        check("root posted", &|line, _| line.leaf.cumulative.0 += 1);
        check("root posted", &|line, _| line.leaf.previous.0 -= 1);
        check("root posted", &|_, payout| payout.root.0[0] ^= 1);
        check("no root at all", &|line, _| line.opening.siblings.clear());
        check("no root at all", &|line, _| line.opening.index = 99);
        check("sums to", &|_, payout| payout.total.0 += 1);
        check("its parts lead to", &|line, _| line.parts[0].amount.0 += 1);
        check("its parts lead to", &|line, _| line.parts.truncate(1));
    }

    #[test]
    fn parts_are_named_by_their_codes() {
        for (part, name) in [
            (Part::Protocol, "protocol"),
            (Part::Treasury(3), "treasury of Datanet 3"),
            (Part::Span(65_535), "span 65535"),
            (Part::Refund, "refund"),
        ] {
            assert_eq!(role(part.code()), name);
        }
        assert_eq!(role(9), "part 9");
        assert_eq!(role(600), "part 600");
        assert_eq!(role(u32::MAX), format!("part {}", u32::MAX));
    }

    #[test]
    fn nothing_to_claim_is_an_answer_with_zero() {
        let value = serde_json::to_value(nothing(ACCOUNT, None, "no payout")).unwrap();
        assert_eq!((&value["claimed_wei"], &value["note"]), (&"0".into(), &"no payout".into()));
        assert_eq!(value["parts"], serde_json::json!([]));
    }
}
