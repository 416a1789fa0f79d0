//! `tributary claim --for`: has the last final payout pay other accounts, in batches, at this wallet's expense.
//!
//! A payee that refuses the money or burns gas holds nobody up: the contract keeps its part, to be fetched by `claim --kept`.

use std::collections::BTreeSet;

use chain_bridge::{
    chain::error::ChainError,
    client::settle::{CLAIMS_MAX, Opened},
    registry::{State, event::Custody, state::Payout},
};
use p2p::overlay::OverlayHandle;
use serde::Serialize;
use types::{amount::Amount, id::Address};

use super::find_line;
use crate::{
    chain::Chained,
    command::{Context, sent::Transaction},
    config::Config,
    output::{money, table},
};

/// What is printed.
#[derive(Debug, Serialize)]
struct Relayed {
    epoch: u64,
    accounts: Vec<Row>,
    /// Paid or kept by this command, for all accounts.
    claimed_wei: Amount,
    transactions: Vec<Transaction>,
}

/// One account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    account: Address,
    /// Owed and not claimed before this command.
    owed_wei: Amount,
    /// What this command brought it.
    claimed_wei: Amount,
    /// Kept for the account in all, because it did not take it.
    kept_wei: Amount,
    /// Why the contract pays it nothing this way.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

/// Runs the command for `others`.
pub(super) async fn run(
    context: &Context,
    chain: &Chained,
    state: &State,
    config: &Config,
    (epoch, payout): (u64, Payout),
    others: &[Address],
) -> anyhow::Result<()> {
    let accounts: BTreeSet<Address> = others.iter().copied().collect();
    let overlay = context.light_overlay(config).await?;
    let found = lines(context, chain, state, &overlay, (epoch, &payout), &accounts).await;
    overlay.shutdown().await;
    let mut found = found?;
    let claims: Vec<Opened> = found.iter_mut().filter_map(|owed| owed.claim.take()).collect();
    let (claims, refused) = chain.client.payable(claims).await?;
    for (account, why) in &refused {
        context.output.note(&format!("{account} is not paid: {why}"));
        if let Some(owed) = found.iter_mut().find(|owed| owed.row.account == *account) {
            owed.row.refused = Some(why.clone());
        }
    }
    let mut relayed = Relayed { epoch, accounts: Vec::new(), claimed_wei: Amount::ZERO, transactions: Vec::new() };
    for batch in claims.chunks(CLAIMS_MAX) {
        match chain.client.claim_many(batch).await {
            Ok((amount, sent)) => {
                relayed.claimed_wei = relayed.claimed_wei.plus(amount)?;
                relayed.transactions.push(Transaction::new(format!("claim for {} accounts", batch.len()), &sent));
            }
            // What is owed is the answer of a dry run, with every batch.
            Err(ChainError::NotSent { .. }) if context.is_dry() => {}
            Err(error) => return Err(error.into()),
        }
    }
    for Owed { mut row, before, .. } in found {
        row.claimed_wei = chain.client.claimed_of(row.account).await?.minus(before)?;
        row.kept_wei = chain.client.kept_by(Custody::Settlement, row.account).await?;
        relayed.accounts.push(row);
    }
    context.output.result(&relayed, || describe(&relayed))
}

/// What an account is owed.
struct Owed {
    row: Row,
    /// Claimed before this command.
    before: Amount,
    /// Its claim, if it is owed anything.
    claim: Option<Opened>,
}

async fn lines(
    context: &Context,
    chain: &Chained,
    state: &State,
    overlay: &OverlayHandle,
    (epoch, payout): (u64, &Payout),
    accounts: &BTreeSet<Address>,
) -> anyhow::Result<Vec<Owed>> {
    let mut all = Vec::new();
    for account in accounts {
        context.output.note(&format!("asking for the line of {account} in the payout tree of epoch {epoch}"));
        let before = chain.client.claimed_of(*account).await?;
        let mut row = Row { account: *account, owed_wei: Amount::ZERO, claimed_wei: Amount::ZERO, kept_wei: Amount::ZERO, refused: None };
        let line = find_line(overlay, state, *account, epoch, payout).await?;
        if let Some(line) = &line {
            row.owed_wei = line.leaf.cumulative.minus(before)?;
        }
        let claim = line.filter(|_| row.owed_wei > Amount::ZERO).map(|line| (line.leaf, line.opening));
        all.push(Owed { row, before, claim });
    }
    Ok(all)
}

fn describe(relayed: &Relayed) -> String {
    let cells = |row: &Row| vec![row.account.to_string(), money(row.owed_wei), money(row.claimed_wei), money(row.kept_wei)];
    let rows: Vec<Vec<String>> = relayed.accounts.iter().map(cells).collect();
    let mut text = format!("epoch    {}\n{}", relayed.epoch, table(&["account", "owed", "claimed", "kept for it"], &rows));
    for row in &relayed.transactions {
        text.push_str(&format!("\n{row}"));
    }
    text
}
