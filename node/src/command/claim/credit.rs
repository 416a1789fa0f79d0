//! `tributary claim --credit`: a node's credit note, claimed, watched and, if the node does not pay, taken from its stake.

use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use types::{
    amount::Amount,
    id::{Address, Hash32},
};

use crate::{
    chain::Chained,
    command::{Context, sent::Transaction},
    credit::{CreditError, CreditFile, Facts, Notes, Side},
    data::Existing,
    output::money,
    when::{lasting, when},
};

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    lane: Hash32,
    request: Hash32,
    node: Address,
    amount_wei: Amount,
    /// `claimed` now; `waiting` for the node; `settled` out of its stake now; `paid`; `given up` for the lane's refund.
    state: &'static str,
    /// Not paid yet.
    left_wei: Amount,
    /// From when on the node's stake pays, in seconds since 1970.
    settle_from: u64,
    transaction: Option<Transaction>,
}

/// Does what is next for the note in `file`: it is claimed, and when the node's time is over, settled.
pub(super) async fn run(context: &Context, file: &Path) -> anyhow::Result<()> {
    let file = CreditFile::read(file)?;
    let chain = context.chain().await?;
    let me = chain.client.address().context("no account")?;
    file.check(&chain.deployment().domains(), me)?;
    let (lane, note) = (file.lane.id(), file.note.document);
    let head = chain.head().await?;
    // What is decided below is about the chain as it was before an earlier run of this command changed it.
    let earlier = chain.client.take_up(&["claim credit", "settle credit claim"]).await?.map(|sent| Transaction::new("claim credit", &sent));
    let claim = chain.client.credit_of(lane, note.request).await?;
    if claim.is_some() {
        is_the_claimed_one(context, &chain, &file).await?;
    }
    let (state, transaction) = match claim {
        None => {
            let (credited, refunded) = chain.client.given_back(lane).await?;
            let collected = chain.client.lane_collected(lane).await?;
            file.check_claim(Facts { block: head.block.number, collected, given_back: credited.plus(refunded)? })?;
            Notes::new(context.data.credits()).keep(Side::Claimed, &file, Existing::Replace)?;
            context.output.note(&format!(
                "claiming {} from {}, which has {} to pay it before its stake does",
                money(note.amount),
                file.lane.node,
                lasting(chain.deployment().config.honour_s)
            ));
            ("claimed", Some(Transaction::new("claim credit", &chain.client.claim_credit(&file.lane, &file.note).await?)))
        }
        Some(claim) if claim.is_given_up => ("given up", earlier),
        Some(claim) if !claim.is_open => ("paid", earlier),
        Some(claim) if head.timestamp < claim.settle_from => (if earlier.is_some() { "claimed" } else { "waiting" }, earlier),
        Some(claim) => {
            context.output.note(&format!("the node did not pay: taking {} from its stake", money(claim.left)));
            let sent = chain.client.settle_credit(&file.lane, note.request).await?;
            ("settled", Some(Transaction::new("settle credit claim", &sent)))
        }
    };
    let claim =
        chain.client.credit_of(lane, note.request).await?.context("the claim is not on the chain: it was reorganised, try again")?;
    let printed = Printed {
        lane,
        request: note.request,
        node: file.lane.node,
        amount_wei: note.amount,
        state,
        left_wei: claim.left,
        settle_from: claim.settle_from,
        transaction,
    };
    context.output.result(&printed, || describe(&printed, head.timestamp))
}

/// Whether it was by this note that its answer was claimed: by the note that was kept then, else by the sum that the chain tells.
async fn is_the_claimed_one(context: &Context, chain: &Chained, file: &CreditFile) -> anyhow::Result<()> {
    let (lane, note) = (file.lane.id(), file.note.document);
    let first = match Notes::new(context.data.credits()).of(Side::Claimed, lane, note.request)? {
        Some(kept) if kept.hash() == file.hash() => return Ok(()),
        Some(kept) => kept.note.document.amount,
        None => {
            let claim = chain.state().await?.credit(lane, note.request);
            let claim = claim.context("the claim on this answer is in no event of the chain: try again")?;
            claim.left.plus(claim.paid)?
        }
    };
    if first == note.amount { Ok(()) } else { Err(CreditError::Second { first, amount: note.amount }.into()) }
}

fn describe(printed: &Printed, now: u64) -> String {
    let mut text = match printed.state {
        "claimed" | "waiting" => format!(
            "{} is claimed from {}, which has until {} to pay\n\nNext: the same command again; it says when the money is in your deposit, and takes it from the node's stake when its time is over",
            money(printed.left_wei),
            printed.node,
            when(printed.settle_from, now)
        ),
        "settled" if printed.left_wei > Amount::ZERO => {
            format!(
                "the stake of {} did not reach: {} is left, which the same command asks for again",
                printed.node,
                money(printed.left_wei)
            )
        }
        "settled" => format!("{} was taken from the stake of {} into your deposit", money(printed.amount_wei), printed.node),
        "given up" => format!("the claim on {} was given up: what was not paid of it counts for the lane's refund", printed.node),
        _ => format!("the claim on {} is paid: the money is in your deposit", printed.node),
    };
    if let Some(transaction) = &printed.transaction {
        text.push_str(&format!("\n{transaction}"));
    }
    text
}
