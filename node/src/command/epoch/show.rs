//! `tributary epoch show`: roots by node, the payout, and what an account may claim by it.

use anyhow::{Context as _, ensure};
use chain_bridge::{
    chain::{Certainty, Heads},
    registry::{State, state::Epoch},
};
use serde::Serialize;
use types::{
    amount::Amount,
    id::{Address, Hash32},
    payout::PayoutLeaf,
};

use crate::{
    chain::Chained,
    command::{Context, claim::find_line, talk::joining},
    output::{money, table},
    when::{utc, when},
};

/// What is printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Shown {
    epoch: u64,
    /// Seconds since 1970, as all times here.
    opened_at: u64,
    accepts_until: u64,
    payout_from: u64,
    nodes: Vec<NodeRow>,
    receipts: u64,
    fees_wei: Amount,
    /// Nothing before it was posted.
    payout: Option<PayoutRow>,
    /// Payouts that a proof took back.
    overturned: usize,
    /// Nothing without an account.
    claim: Option<ClaimRow>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct NodeRow {
    node: Address,
    receipts_root: Hash32,
    count: u64,
    fees_wei: Amount,
    block: u64,
    /// `pending`, `safe` or `final`: whether a reorganisation can still take it back.
    certainty: Certainty,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct PayoutRow {
    root: Hash32,
    total_wei: Amount,
    poster: Address,
    bond_wei: Amount,
    final_at: u64,
    /// Whether the time to refute it is over.
    is_final: bool,
    /// `pending`, `safe` or `final`: whether a reorganisation can still take it back.
    certainty: Certainty,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ClaimRow {
    account: Address,
    /// By this epoch's tree; nothing if no node shows a line that leads to the posted root.
    line: Option<LineRow>,
    claimed_wei: Amount,
    /// What `tributary claim` pays now, if this is the last final payout.
    claimable_wei: Amount,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct LineRow {
    previous_wei: Amount,
    earned_wei: Amount,
    cumulative_wei: Amount,
}

/// Runs the command.
pub async fn run(context: &Context, number: Option<u64>, account: Option<Address>, bootstrap: Vec<String>) -> anyhow::Result<()> {
    let chain = context.chain_reader().await?;
    let state = chain.state().await?;
    let newest = state.current_epoch().context("no epoch has opened yet: nodes open one when they settle")?.0;
    let number = number.unwrap_or(newest);
    let epoch = state.epoch(number).with_context(|| format!("epoch {number} never opened, the newest is {newest}"))?;
    let heads = chain.client.heads().await?;
    let claim = match account {
        Some(account) => Some(claim(context, &chain, &state, number, account, bootstrap).await?),
        None => None,
    };
    let shown = shown(number, epoch, &heads, chain.deployment().config.w2_s, claim)?;
    context.output.result(&shown, || describe(&shown))
}

async fn claim(
    context: &Context,
    chain: &Chained,
    state: &State,
    number: u64,
    account: Address,
    bootstrap: Vec<String>,
) -> anyhow::Result<ClaimRow> {
    let claimed = chain.client.claimed_of(account).await?;
    let mut row = ClaimRow { account, line: None, claimed_wei: claimed, claimable_wei: Amount::ZERO, note: None };
    let Some(payout) = state.epoch(number).and_then(|epoch| epoch.payout) else {
        row.note = Some("no payout was posted for this epoch yet".to_owned());
        return Ok(row);
    };
    let overlay = context.light_overlay(&joining(context, bootstrap)?).await?;
    let line = find_line(&overlay, state, account, number, &payout).await;
    overlay.shutdown().await;
    let Some(line) = line? else {
        row.note = Some("the nodes asked say that the account earned nothing up to this epoch".to_owned());
        return Ok(row);
    };
    row.line = Some(line_row(&line.leaf)?);
    let now = chain.head().await?.timestamp;
    match state.final_payout(now) {
        Some((last, _)) if last == number => row.claimable_wei = line.leaf.cumulative.minus(claimed)?,
        Some((last, _)) if last > number => {
            row.note = Some(format!("claims are made by the last final payout, epoch {last}, which includes this one"))
        }
        _ => row.note = Some(format!("the payout is final at {}; it cannot be claimed before", when(payout.final_at, now))),
    }
    Ok(row)
}

fn line_row(leaf: &PayoutLeaf) -> anyhow::Result<LineRow> {
    ensure!(leaf.previous <= leaf.cumulative, "the line falls from {} to {}", money(leaf.previous), money(leaf.cumulative));
    Ok(LineRow { previous_wei: leaf.previous, earned_wei: leaf.cumulative.minus(leaf.previous)?, cumulative_wei: leaf.cumulative })
}

fn shown(number: u64, epoch: &Epoch, heads: &Heads, w2_s: u64, claim: Option<ClaimRow>) -> anyhow::Result<Shown> {
    let node = |(node, root): (&Address, &chain_bridge::registry::state::SubmittedRoot)| NodeRow {
        node: *node,
        receipts_root: root.receipts,
        count: root.count,
        fees_wei: root.fees,
        block: root.block,
        certainty: heads.certainty_of_block(root.block),
    };
    Ok(Shown {
        epoch: number,
        opened_at: epoch.opened_at,
        accepts_until: epoch.accepts_until,
        payout_from: epoch.payout_from,
        nodes: epoch.roots.iter().map(node).collect(),
        receipts: epoch.roots.values().fold(0_u64, |sum, root| sum.saturating_add(root.count)),
        fees_wei: Amount::sum(epoch.roots.values().map(|root| root.fees))?,
        payout: epoch.payout.map(|payout| PayoutRow {
            root: payout.root,
            total_wei: payout.total,
            poster: payout.poster,
            bond_wei: payout.bond,
            final_at: payout.final_at,
            is_final: payout.final_at <= heads.timestamp,
            certainty: heads.certainty_at(payout.final_at.saturating_sub(w2_s)),
        }),
        overturned: epoch.overturned.len(),
        claim,
    })
}

fn describe(shown: &Shown) -> String {
    let mut text = format!(
        "epoch     {}\nopened    {}\nroots     until {}\npayout    from {}\nfees      {} of {} receipts\n",
        shown.epoch,
        utc(shown.opened_at),
        utc(shown.accepts_until),
        utc(shown.payout_from),
        money(shown.fees_wei),
        shown.receipts
    );
    let cells = |row: &NodeRow| {
        vec![row.node.to_string(), row.count.to_string(), money(row.fees_wei), row.certainty.to_string(), row.receipts_root.to_string()]
    };
    text.push_str(&table(&["node", "receipts", "fees", "block", "root"], &shown.nodes.iter().map(cells).collect::<Vec<_>>()));
    match &shown.payout {
        None => text.push_str("\nno payout was posted yet"),
        Some(payout) => {
            let end = if payout.is_final { "final since" } else { "final at" };
            text.push_str(&format!(
                "\nroot      {}\ntotal     {}\nposter    {}\nposted    in a block that is {}\n{end} {}",
                payout.root,
                money(payout.total_wei),
                payout.poster,
                payout.certainty,
                utc(payout.final_at)
            ));
        }
    }
    if shown.overturned > 0 {
        text.push_str(&format!("\noverturned {} payouts before it", shown.overturned));
    }
    if let Some(claim) = &shown.claim {
        text.push_str(&format!("\naccount   {}", claim.account));
        if let Some(line) = &claim.line {
            let (before, earned, sum) = (line.previous_wei, line.earned_wei, line.cumulative_wei);
            text.push_str(&format!("\nearned    {} + {} = {}", money(before), money(earned), money(sum)));
        }
        text.push_str(&format!("\nclaimed   {}\nclaimable {}", money(claim.claimed_wei), money(claim.claimable_wei)));
        if let Some(note) = &claim.note {
            text.push_str(&format!("\n{note}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chain_bridge::registry::state::{Payout, SubmittedRoot};
    use types::time::BlockRef;

    use super::*;

    #[test]
    fn an_epoch_shows_its_roots_their_sum_and_whether_its_payout_is_final() {
        let root = |count, fees| SubmittedRoot { receipts: Hash32([1; 32]), count, fees: Amount(fees), block: 9 };
        let payout = Payout {
            root: Hash32([2; 32]),
            total: Amount(12),
            previous: Hash32::ZERO,
            poster: Address([3; 20]),
            final_at: 100,
            bond: Amount::ZERO,
        };
        let epoch = Epoch {
            opened_at: 10,
            opened_block: 5,
            accepts_until: 20,
            payout_from: 30,
            roots: BTreeMap::from([(Address([1; 20]), root(2, 5)), (Address([2; 20]), root(3, 7))]),
            payout: Some(payout),
            overturned: vec![],
        };
        let at = |number| BlockRef { number, hash: Hash32::ZERO };
        let heads =
            |timestamp| Heads { latest: at(12), safe: at(9), finalized: at(8), timestamp, safe_timestamp: 60, finalized_timestamp: 50 };
        let shown = |epoch: &Epoch, now| shown(4, epoch, &heads(now), 30, None).unwrap();
        let before = shown(&epoch, 99);
        assert_eq!((before.nodes[0].certainty, before.payout.as_ref().unwrap().certainty), (Certainty::Safe, Certainty::Pending));
        assert!(describe(&before).contains("in a block that is pending"));
        assert_eq!((before.receipts, before.fees_wei, before.payout.as_ref().unwrap().is_final), (5, Amount(12), false));
        assert!(describe(&before).contains("final at 1970-01-01 00:01:40 UTC"));
        assert!(describe(&shown(&epoch, 100)).contains("final since 1970-01-01 00:01:40 UTC"));
        assert!(describe(&shown(&Epoch { payout: None, ..epoch }, 1)).contains("no payout was posted yet"));
    }

    #[test]
    fn a_falling_line_is_no_line() {
        let leaf = PayoutLeaf { account: Address([1; 20]), previous: Amount(2), cumulative: Amount(1), parts: Hash32::ZERO };
        assert!(line_row(&leaf).unwrap_err().to_string().contains("falls from 0.000000000000000002 OPEN to 0.000000000000000001 OPEN"));
    }
}
