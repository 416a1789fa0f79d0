//! `tributary claim --kept`: what contracts keep for this account because it did not take it when it was paid, the bond of its last final payout,
//! and what its stake has earned.

use anyhow::Context as _;
use chain_bridge::{chain::error::ChainError, client::ChainClient, registry::event::Custody};
use serde::Serialize;
use types::amount::Amount;

use crate::{
    command::{Context, sent::Transaction},
    output::{money, table},
};

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    taken: Vec<Row>,
}

/// One contract's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    /// Who kept it.
    by: &'static str,
    amount_wei: Amount,
    transaction: Transaction,
}

/// The contracts that keep what a payee did not take.
const CUSTODIES: [(Custody, &str); 6] = [
    (Custody::Settlement, "settlement"),
    (Custody::Stake, "stake"),
    (Custody::Challenge, "challenges"),
    (Custody::Rent, "rent"),
    (Custody::Audits, "deposits of the roll"),
    (Custody::Cases, "slash cases"),
];

/// Takes all of it: a transaction for each contract that keeps something.
pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    let chain = context.chain().await?;
    let client: &ChainClient = &chain.client;
    let own = client.address().context("no account")?;
    let (mut taken, mut left) = (Vec::new(), None);
    for (custody, by) in CUSTODIES {
        let wei = client.kept_by(custody, own).await?;
        if wei > Amount::ZERO {
            match client.unless_rehearsed(client.take_kept(custody, own).await)? {
                Some(sent) => taken.push(Row { by, amount_wei: wei, transaction: Transaction::new("take what was kept", &sent) }),
                None => left = Some("take what is kept"),
            }
        }
    }
    let (state, now) = (chain.state().await?, chain.head().await?.timestamp);
    if let Some((_, payout)) = state.final_payout(now).filter(|(_, payout)| payout.poster == own && payout.bond > Amount::ZERO) {
        match client.unless_rehearsed(client.return_bond().await)? {
            Some(sent) => taken.push(Row {
                by: "settlement, a poster's bond",
                amount_wei: payout.bond,
                transaction: Transaction::new("take the bond back", &sent),
            }),
            None => left = Some("return bond"),
        }
    }
    if client.rewards_of(own).await? > Amount::ZERO {
        match client.unless_rehearsed(client.claim_rewards().await)? {
            Some((wei, sent)) => {
                taken.push(Row { by: "stakers' vault", amount_wei: wei, transaction: Transaction::new("take the stakers' share", &sent) })
            }
            None => left = Some("claim stakers' share"),
        }
    }
    if let Some(what) = left {
        return Err(ChainError::NotSent { what: what.to_owned(), why: "--dry-run signs nothing".to_owned() }.into());
    }
    let printed = Printed { taken };
    context.output.result(&printed, || describe(&printed.taken))
}

fn describe(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no contract keeps anything for this account, and its stake has earned nothing".to_owned();
    }
    let cells = |row: &Row| vec![row.by.to_owned(), money(row.amount_wei), row.transaction.to_string()];
    table(&["kept by", "amount", "transaction"], &rows.iter().map(cells).collect::<Vec<_>>())
}
