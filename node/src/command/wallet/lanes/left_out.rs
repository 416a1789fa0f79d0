//! Why a final payout holds no refund of a lane: from its lines, whoever shows them, or from what its poster had to show on the chain.

use anyhow::{Context as _, bail};
use chain_bridge::{
    fraud::{
        payout::Shown,
        withheld::{self, Answers, Sought},
    },
    registry::{State, state::Payout},
};
use p2p::{
    client::{Client, Limits},
    identity::NodeSeed,
    overlay::OverlayHandle,
};
use types::{
    amount::Amount,
    payout::{PartLeaf, Witness},
    voucher::Lane,
};

use crate::{
    chain::Chained,
    command::{Context, claim::operators, talk::joining},
    service::settlement::{lines, loopback_any},
};

/// Rows of a tree that are taken: 100 MB.
const ROWS_MAX: usize = 1 << 20;

/// What opens that the payout of an epoch has no refund of `lane`.
pub(super) async fn absence(
    context: &Context,
    chain: &Chained,
    state: &State,
    (epoch, payout): (u64, &Payout),
    lane: &Lane,
) -> anyhow::Result<Vec<u8>> {
    context.output.note(&format!("its refund was due in the payout of epoch {epoch}: asking for the lines of that"));
    let part = PartLeaf::refund(lane.node, lane.id(), Amount::ZERO, Witness::NONE);
    let overlay = context.light_overlay(&joining(context, Vec::new())?).await?;
    let found = from_nodes(&overlay, state, (epoch, payout), lane, &part).await;
    overlay.shutdown().await;
    let there = || format!("its refund stands in the payout of epoch {epoch}: `tributary claim` takes it");
    match found {
        Ok(found) => found.with_context(there),
        Err(error) => from_chain(chain, state, (epoch, payout), lane, &part, error).await?.with_context(there),
    }
}

/// From the lines that a node shows; nothing if the refund is there.
async fn from_nodes(
    overlay: &OverlayHandle,
    state: &State,
    (epoch, payout): (u64, &Payout),
    lane: &Lane,
    part: &PartLeaf,
) -> anyhow::Result<Option<Vec<u8>>> {
    let mut reasons = Vec::new();
    for (node, addr) in operators(overlay, state, payout.poster).await? {
        let fetched = async {
            let client = Client::bind(loopback_any(addr), &NodeSeed::generate(), Limits::default())?;
            let connection = client.connect(addr, Some(node)).await?;
            lines::fetch(&connection, epoch, payout, ROWS_MAX).await
        };
        match fetched.await {
            Ok(lines) => {
                let shown = Shown::of(lines.iter().map(|line| (&line.leaf, line.parts.as_slice())))?;
                return Ok(shown.no_part(lane.payer, part));
            }
            Err(error) => reasons.push(format!("{node}: {error:#}")),
        }
    }
    bail!("no node shows the lines of the payout of epoch {epoch}:\n  {}", reasons.join("\n  "))
}

/// From what the poster had to show on the chain while the payout could be disputed; `error` is why no node shows more.
async fn from_chain(
    chain: &Chained,
    state: &State,
    (epoch, payout): (u64, &Payout),
    lane: &Lane,
    part: &PartLeaf,
    error: anyhow::Error,
) -> anyhow::Result<Option<Vec<u8>>> {
    let (from, head) = (state.epoch(epoch).map_or(0, |epoch| epoch.opened_block), chain.head().await?.block.number);
    let mut answers = Answers::default();
    for evidence in chain.client.shown_payouts(from, head).await? {
        answers.take(&evidence, payout.root);
    }
    match withheld::absence(&answers, lane.payer, part) {
        Sought::Absent(bytes) => Ok(Some(bytes)),
        Sought::There => Ok(None),
        Sought::Ask(..) => Err(error.context(
            "the payout is final, and what its poster had to show on the chain before does not say that the refund is left out: a node with \
             watch_payouts = true asks for it, and has such a payout taken back, while it may be disputed",
        )),
    }
}
