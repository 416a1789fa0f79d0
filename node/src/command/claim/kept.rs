//! `tributary claim --kept`: what contracts keep for this account because it did not take it when it was paid, the bond of its last final payout,
//! and what its stake has earned.

use anyhow::Context as _;
use chain_bridge::{client::ChainClient, registry::event::Custody};
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
    wei: Amount,
    transaction: Transaction,
}

/// The contracts that keep what a payee did not take.
const CUSTODIES: [(Custody, &str); 3] =
    [(Custody::Settlement, "settlement"), (Custody::Stake, "stake"), (Custody::Challenge, "challenges")];

/// Takes all of it: a transaction for each contract that keeps something.
pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    let chain = context.chain().await?;
    let client: &ChainClient = &chain.client;
    let own = client.address().context("no account")?;
    let mut taken = Vec::new();
    for (custody, by) in CUSTODIES {
        let wei = client.kept_by(custody, own).await?;
        if wei > Amount::ZERO {
            let sent = client.take_kept(custody, own).await?;
            taken.push(Row { by, wei, transaction: Transaction::new("take what was kept", &sent) });
        }
    }
    let (state, now) = (chain.state().await?, chain.head().await?.timestamp);
    if let Some((_, payout)) = state.final_payout(now).filter(|(_, payout)| payout.poster == own && payout.bond > Amount::ZERO) {
        let sent = client.return_bond().await?;
        taken.push(Row { by: "settlement, a poster's bond", wei: payout.bond, transaction: Transaction::new("take the bond back", &sent) });
    }
    if client.rewards_of(own).await? > Amount::ZERO {
        let (wei, sent) = client.claim_rewards().await?;
        taken.push(Row { by: "stakers' vault", wei, transaction: Transaction::new("take the stakers' share", &sent) });
    }
    let printed = Printed { taken };
    context.output.result(&printed, || describe(&printed.taken))
}

fn describe(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no contract keeps anything for this account, and its stake has earned nothing".to_owned();
    }
    let cells = |row: &Row| vec![row.by.to_owned(), money(row.wei), row.transaction.to_string()];
    table(&["kept by", "amount", "transaction"], &rows.iter().map(cells).collect::<Vec<_>>())
}
