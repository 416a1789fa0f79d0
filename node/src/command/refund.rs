//! `tributary refund`: a node's operator gives back what an answer cost, or part of it, by a signed credit note.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Args as ClapArgs;
use serde::Serialize;
use types::{
    amount::Amount,
    id::{Address, Hash32},
};

use super::{Context, receipt, sent::Transaction};
use crate::{
    chain::Chained,
    credit::{CreditError, CreditFile, Notes, Side},
    data::{Existing, may_write, write_out},
};

/// Blocks in which a note can be claimed, if nothing else is said: thirty days of one-second blocks.
const NOTE_BLOCKS: u64 = 30 * 86_400;

/// Give back what an answer cost, by a credit note that its client claims.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The note is signed with this node's wallet and paid with the node's own money: who was paid for the answer keeps it. The client claims the\nnote with `tributary claim --credit NOTE`; a running node then pays it by itself, --pay does so by hand, and a claim that nobody pays in\ntime is taken from the node's stake. An answer has one note: asked for again, the first one is written again.\n\nExamples:\n  tributary refund receipt.json --amount \"0.001 OPEN\" --out note.json\n  tributary refund receipt.json --pay          pays the claim on that answer now"
)]
pub struct Args {
    /// The bundle of the answer, as its client has it.
    receipt: PathBuf,
    /// How much: at most what the answer cost, which is the default.
    #[arg(long, conflicts_with = "pay")]
    amount: Option<Amount>,
    /// Where to write the note.
    #[arg(long, value_name = "FILE", default_value = "note.json", conflicts_with = "pay")]
    out: PathBuf,
    /// Write over the file if it is there.
    #[arg(long, conflicts_with = "pay")]
    force: bool,
    /// Blocks in which the note can be claimed.
    #[arg(long, value_name = "BLOCKS", default_value_t = NOTE_BLOCKS, conflicts_with = "pay")]
    blocks: u64,
    /// Pay the client's claim on this answer, which is open.
    #[arg(long)]
    pay: bool,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    lane: Hash32,
    request: Hash32,
    client: Address,
    amount_wei: Amount,
    /// Last block in which it can be claimed; 0 if a claim was paid.
    expiry: u64,
    /// The note.
    note: Option<PathBuf>,
    /// Whether the note was signed before and is only written again.
    is_repeated: bool,
    /// Whether the chain has collected what the note is about: before that it cannot be claimed.
    is_collected: bool,
    transaction: Option<Transaction>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let existing = Existing::by(args.force);
    if !args.pay {
        may_write(&args.out, existing)?;
    }
    let bundle = receipt::read(&args.receipt)?;
    let chain = context.chain().await?;
    let account = context.account()?;
    let domains = chain.deployment().domains();
    let head = chain.head().await?.block.number;
    let amount = args.amount.unwrap_or(bundle.receipt.document.fee);
    let fresh = CreditFile::sign(&account, &domains, &bundle, amount, head.saturating_add(args.blocks))?;
    let (file, is_repeated) = if args.pay { (fresh, false) } else { only(context, &chain, fresh, args.amount, head).await? };
    let (lane, note) = (file.lane.id(), file.note.document);
    let mut printed = Printed {
        lane,
        request: note.request,
        client: file.lane.payer,
        amount_wei: note.amount,
        expiry: note.expiry,
        note: None,
        is_repeated,
        is_collected: chain.client.lane_collected(lane).await? >= note.cumulative,
        transaction: None,
    };
    if args.pay {
        let (amount, transaction) = pay(context, &chain, &file).await?;
        (printed.amount_wei, printed.expiry, printed.transaction) = (amount, 0, Some(transaction));
    } else {
        write_out(&args.out, &serde_json::to_vec_pretty(&file)?, 0o600, existing)?;
        printed.note = Some(args.out);
    }
    context.output.result(&printed, || describe(&printed))
}

/// The one note on an answer, kept before it is given away, and whether it was signed before. The escrow takes one claim per answer, so a second note
/// would promise what nobody can be paid; one that expired unclaimed makes room.
async fn only(
    context: &Context,
    chain: &Chained,
    fresh: CreditFile,
    asked: Option<Amount>,
    head: u64,
) -> anyhow::Result<(CreditFile, bool)> {
    let notes = Notes::new(context.data.credits());
    let (lane, request) = (fresh.lane.id(), fresh.note.document.request);
    let is_claimed = chain.client.credit_of(lane, request).await?.is_some();
    let kept = match notes.of(Side::Signed, lane, request)? {
        None if is_claimed => return Err(CreditError::Claimed.into()),
        None => notes.keep(Side::Signed, &fresh, Existing::Keep)?,
        Some(first) if is_claimed || first.note.document.expiry >= head => first,
        Some(_) => notes.keep(Side::Signed, &fresh, Existing::Replace)?,
    };
    let is_repeated = kept != fresh;
    let first = kept.note.document;
    if is_repeated && asked.is_some_and(|asked| asked != first.amount) {
        return Err(CreditError::Signed { first: first.amount, expiry: first.expiry }.into());
    }
    Ok((kept, is_repeated))
}

async fn pay(context: &Context, chain: &Chained, file: &CreditFile) -> anyhow::Result<(Amount, Transaction)> {
    let request = file.note.document.request;
    let claim = chain.client.credit_of(file.lane.id(), request).await?;
    let claim = claim.context("the client has not claimed a note on this answer: give it one, there is nothing to pay yet")?;
    ensure!(claim.is_open, "the claim on this answer is paid already");
    context.output.note(&format!("paying {} into the deposit of {}", crate::output::money(claim.left), file.lane.payer));
    let sent = chain.client.pay_credit(&file.lane, request, claim.left).await?;
    Ok((claim.left, Transaction::new("pay credit claim", &sent)))
}

fn describe(printed: &Printed) -> String {
    let mut text = match &printed.note {
        Some(path) => format!(
            "note    {}\nfor     {}, who can claim {} until block {}\n\nNext: give the file to the client, who runs tributary claim --credit {}",
            path.display(),
            printed.client,
            crate::output::money(printed.amount_wei),
            printed.expiry,
            path.display()
        ),
        None => format!("paid    {} into the deposit of {}", crate::output::money(printed.amount_wei), printed.client),
    };
    if printed.is_repeated {
        text.push_str("\nThis note was signed before: an answer has one, and it is written again.");
    }
    if !printed.is_collected {
        text.push_str("\nThe chain has not collected this answer yet: until it has, nothing was charged and the note cannot be claimed.");
    }
    if let Some(transaction) = &printed.transaction {
        text.push_str(&format!("\n{transaction}"));
    }
    text
}
