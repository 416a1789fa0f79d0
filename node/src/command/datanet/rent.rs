//! `tributary datanet rent`: what keeping a Datanet costs, prepaid by anybody, taken back by its owner.

use anyhow::{Context as _, bail, ensure};
use chain_bridge::registry::state::Asset;
use clap::Args as ClapArgs;
use serde::Serialize;
use storage::datanet::Card;
use types::amount::Amount;

use crate::{
    chain::Chained,
    command::{Context, sent::Transaction},
    datanet::resolve,
    output::money,
    when::when,
};

/// Show or change the rent of a Datanet.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Each epoch costs the Datanet's bytes times the price per GiB; anybody may prepay. The owner takes unspent rent back after a wait.\n\nExamples:\n  tributary datanet rent medical                       prepaid, charged, price\n  tributary datanet rent medical --prepay \"1 OPEN\"\n  tributary datanet rent medical --ask-back \"0.5 OPEN\"   then, after the wait, --take-back"
)]
pub(super) struct Args {
    /// Name or number.
    datanet: String,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Clone, ClapArgs)]
#[group(multiple = false)]
struct Change {
    /// Pay rent in advance.
    #[arg(long, value_name = "AMOUNT")]
    prepay: Option<Amount>,
    /// Charge the epochs since the last charge.
    #[arg(long)]
    accrue: bool,
    /// Ask unspent rent back; only its owner may.
    #[arg(long, value_name = "AMOUNT")]
    ask_back: Option<Amount>,
    /// Take what was asked back and has waited long enough.
    #[arg(long)]
    take_back: bool,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    asset: u64,
    name: String,
    prepaid_wei: Amount,
    /// Charged, and waiting for who kept the bytes.
    accrued_wei: Amount,
    leaving_wei: Amount,
    /// Seconds since 1970 from which the leaving part may be taken; 0 if nothing leaves.
    leaves_at: u64,
    /// Per GiB and epoch.
    price_wei: Amount,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<Transaction>,
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let chain = context.chain().await?;
    let state = chain.state().await?;
    let (asset, card) = resolve(&state, &args.datanet)?;
    let (id, own) = (asset.id, chain.client.address().context("no account")?);
    let rent = chain.client.rent_of(id).await?;
    let is_owner = || {
        ensure!(asset.owner() == own, "Datanet {id} belongs to {}, this wallet is {own}: its owner takes rent back", asset.owner());
        Ok(())
    };
    let transaction = match args.change {
        Change { prepay: Some(amount), .. } => {
            ensure!(amount > Amount::ZERO, "a payment of 0 changes nothing: name an amount, for instance \"1 OPEN\"");
            Some(Transaction::new("prepay rent", &chain.client.prepay_rent(id, amount).await?))
        }
        Change { accrue: true, .. } => Some(Transaction::new("charge rent", &chain.client.accrue_rent(id).await?)),
        Change { ask_back: Some(amount), .. } => {
            is_owner()?;
            // The check is about the chain as it was before an earlier run of this command changed it.
            if let Some(sent) = chain.client.take_up(&["request rent back"]).await? {
                return print(context, &chain, asset, &card, Some(Transaction::new("ask rent back", &sent))).await;
            }
            if amount > rent.prepaid {
                bail!("{} were asked back, {} are prepaid and not spent", money(amount), money(rent.prepaid));
            }
            Some(Transaction::new("ask rent back", &chain.client.request_rent_back(id, amount).await?))
        }
        Change { take_back: true, .. } => {
            is_owner()?;
            if let Some(sent) = chain.client.take_up(&["withdraw rent"]).await? {
                return print(context, &chain, asset, &card, Some(Transaction::new("take rent back", &sent))).await;
            }
            let now = chain.head().await?.timestamp;
            ensure!(rent.leaving > Amount::ZERO, "nothing was asked back: --ask-back AMOUNT comes first");
            ensure!(rent.leaves_at <= now, "{} can be taken from {} on", money(rent.leaving), when(rent.leaves_at, now));
            Some(Transaction::new("take rent back", &chain.client.withdraw_rent(id).await?))
        }
        Change { .. } => None,
    };
    print(context, &chain, asset, &card, transaction).await
}

async fn print(context: &Context, chain: &Chained, asset: &Asset, card: &Card, transaction: Option<Transaction>) -> anyhow::Result<()> {
    let rent = chain.client.rent_of(asset.id).await?;
    let printed = Printed {
        asset: asset.id.0,
        name: card.name().to_string(),
        prepaid_wei: rent.prepaid,
        accrued_wei: rent.accrued,
        leaving_wei: rent.leaving,
        leaves_at: rent.leaves_at,
        price_wei: chain.client.rent_price().await?,
        transaction,
    };
    let now = chain.head().await?.timestamp;
    context.output.result(&printed, || describe(&printed, now))
}

fn describe(printed: &Printed, now: u64) -> String {
    let mut text = format!(
        "Datanet  {} ({})\nprepaid  {}\ncharged  {}\nprice    {} per GiB and epoch",
        printed.asset,
        printed.name,
        money(printed.prepaid_wei),
        money(printed.accrued_wei),
        money(printed.price_wei)
    );
    if printed.leaving_wei > Amount::ZERO {
        text.push_str(&format!("\nleaving  {}, to be taken from {} on", money(printed.leaving_wei), when(printed.leaves_at, now)));
    }
    if let Some(row) = &printed.transaction {
        text.push_str(&format!("\n{row}"));
    }
    text
}
