//! `tributary wallet`: the settlement key, its money, and the deposit that answers are paid from.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use chain_bridge::client::ChainClient;
use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;
use types::{
    amount::Amount,
    id::{Address, Hash32},
    key::Account,
};
use zeroize::Zeroizing;

mod import;
mod lanes;
pub(super) mod session;

use super::{Context, certain::Certain, sent::Transaction};
use crate::{
    chain::Chained,
    output::money,
    when::{lasting, when},
};

/// The settlement key and its money.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Amounts are wei (\"1500000\") or OPEN with the unit (\"1.5 OPEN\").\n\nExamples:\n  tributary wallet import KEYFILE        takes over a key of another wallet\n  tributary wallet show\n  tributary wallet deposit \"1 OPEN\"     answers are paid from the deposit, by vouchers that nodes collect\n  tributary wallet withdraw \"0.5 OPEN\"  asks it back; the vouchers signed so far can be collected until it thaws\n  tributary wallet withdraw             takes what has thawed\n  tributary wallet lanes                what nodes collected, and from when on the rest can be asked back by wallet refund LANE"
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a settlement key, encrypted with your password; an existing one is never replaced.
    New,
    /// Take over a settlement key from a file: one of Web3 secret storage (any wallet's), or 64 hex digits.
    #[command(
        after_help = "The file must be yours alone (mode 0600). A file of Web3 secret storage is opened with the password given here, and the key is kept\nunder the same password; an existing wallet is never replaced. The file itself stays as it is: delete it when the import has succeeded."
    )]
    Import {
        /// The file.
        file: PathBuf,
    },
    /// Show address, balance and deposit.
    Show,
    /// Put money into the escrow.
    Deposit {
        /// How much.
        amount: Amount,
    },
    /// Ask for money back from the escrow, or take what was asked for and has thawed.
    Withdraw {
        /// How much to ask for; without it, what has thawed is taken.
        amount: Option<Amount>,
    },
    /// List the lanes on which nodes collected something, and what became of the rest.
    Lanes,
    /// Ask for what a lane collected and no receipt speaks for: it goes into the next epoch's payout.
    Refund {
        /// The lane, as `wallet lanes` shows it.
        lane: Hash32,
    },
    /// Keys that sign lanes and vouchers for the wallet, each with a cap and an end.
    Session(session::Args),
}

#[derive(Debug, Serialize)]
struct Made {
    account: Address,
    file: PathBuf,
}

/// What an account has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Holdings {
    account: Address,
    balance_wei: Amount,
    escrow: Deposit,
    /// Claimed since deployment.
    claimed_wei: Amount,
    /// The same by each head.
    certainty: Certain<Known>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<Transaction>,
}

/// What differs while transactions are not final.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Known {
    balance_wei: Amount,
    free_wei: Amount,
    claimed_wei: Amount,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Deposit {
    /// All of it.
    balance_wei: Amount,
    /// What answers may be paid from.
    free_wei: Amount,
    /// Asked back.
    thawing_wei: Amount,
    /// Seconds since 1970 from which it can be taken; 0 if nothing thaws.
    thawed_at: u64,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::New => make(context, || context.new_password(), |_| Ok(chain_bridge::wallet::generate())),
        Action::Import { file } => make(context, || context.password(), |password| import::read(&file, password)),
        Action::Show => {
            let chain = context.chain().await?;
            print(context, &chain, None).await
        }
        Action::Deposit { amount } => deposit(context, amount).await,
        Action::Withdraw { amount } => withdraw(context, amount).await,
        Action::Lanes => lanes::list(context).await,
        Action::Refund { lane } => lanes::refund(context, lane).await,
        Action::Session(args) => session::run(context, args).await,
    }
}

/// Keeps the key that `key` gives for the password in the data folder's wallet, which must not be there yet.
fn make(
    context: &Context,
    password: impl FnOnce() -> anyhow::Result<Zeroizing<String>>,
    key: impl FnOnce(&str) -> anyhow::Result<Account>,
) -> anyhow::Result<()> {
    let file = context.data.wallet();
    if context.data.has(&file)? {
        bail!("{} exists already and may hold the only copy of a key: choose another --data-dir for another key", file.display());
    }
    let password = password()?;
    let account = key(&password)?;
    context.data.create()?;
    chain_bridge::wallet::keep(&file, &password, &account)?;
    let made = Made { account: account.address(), file };
    context.output.result(&made, || {
        format!("account  {}\nfile     {}\n\nKeep the file and its password: nobody can restore them.\nNext: tributary init makes this folder a node's or a client's, with this wallet.", made.account, made.file.display())
    })
}

async fn deposit(context: &Context, amount: Amount) -> anyhow::Result<()> {
    ensure!(amount > Amount::ZERO, "a deposit of 0 changes nothing: name an amount, for instance \"1 OPEN\"");
    let chain = context.chain().await?;
    context.output.note(&format!(
        "depositing {} into the escrow at {}: answers are paid from it",
        money(amount),
        chain.deployment().escrow
    ));
    let sent = chain.client.deposit(amount).await?;
    print(context, &chain, Some(Transaction::new("deposit", &sent))).await
}

async fn withdraw(context: &Context, amount: Option<Amount>) -> anyhow::Result<()> {
    let chain = context.chain().await?;
    let account = chain.client.address().context("no account")?;
    let held = chain.client.escrow_of(account).await?;
    let now = chain.head().await?.timestamp;
    // The checks below are about the chain as it was before an earlier run of this command changed it.
    let what = if amount.is_some() { "request withdrawal" } else { "withdraw" };
    if let Some(sent) = chain.client.take_up(&[what]).await? {
        return print(context, &chain, Some(Transaction::new(what, &sent))).await;
    }
    let transaction = match amount {
        Some(amount) => {
            ensure!(amount > Amount::ZERO, "0 would cancel the withdrawal under way: leave the amount out to take what has thawed");
            ensure!(amount <= held.balance, "{} are more than the deposit of {}", money(amount), money(held.balance));
            if held.thawing > Amount::ZERO {
                context.output.note(&format!("this replaces the request for {}, whose wait starts anew", money(held.thawing)));
            }
            let wait = chain.deployment().config.thaw_s;
            context.output.note(&format!(
                "asking {} back; it can be taken in {}, when every voucher signed so far had its time",
                money(amount),
                lasting(wait)
            ));
            Transaction::new("request withdrawal", &chain.client.request_withdraw(amount).await?)
        }
        None => {
            ensure!(
                held.thawing > Amount::ZERO,
                "nothing was asked back: name an amount, for instance `tributary wallet withdraw \"1 OPEN\"`"
            );
            ensure!(
                held.thawed_at <= now,
                "{} can be taken from {} on: run this again then",
                money(held.thawing),
                when(held.thawed_at, now)
            );
            context.output.note(&format!("taking {} out of the escrow", money(held.thawing)));
            Transaction::new("withdraw", &chain.client.withdraw().await?)
        }
    };
    print(context, &chain, Some(transaction)).await
}

async fn print(context: &Context, chain: &Chained, transaction: Option<Transaction>) -> anyhow::Result<()> {
    let client = &chain.client;
    let account = client.address().context("no account")?;
    let held = client.escrow_of(account).await?;
    let escrow = Deposit {
        balance_wei: held.balance,
        free_wei: client.free_balance(account).await?,
        thawing_wei: held.thawing,
        thawed_at: held.thawed_at,
    };
    let certainty = Certain::read(client, async |client: ChainClient| {
        Ok(Known {
            balance_wei: client.balance(account).await?,
            free_wei: client.free_balance(account).await?,
            claimed_wei: client.claimed_of(account).await?,
        })
    })
    .await?;
    let Known { balance_wei, claimed_wei, .. } = certainty.pending;
    let holdings = Holdings { account, balance_wei, escrow, claimed_wei, certainty, transaction };
    let now = chain.head().await?.timestamp;
    context.output.result(&holdings, || describe(&holdings, now))
}

fn describe(holdings: &Holdings, now: u64) -> String {
    let escrow = &holdings.escrow;
    let mut text = format!(
        "account  {}\nbalance  {}\nescrow   {} free of {}\nclaimed  {}",
        holdings.account,
        money(holdings.balance_wei),
        money(escrow.free_wei),
        money(escrow.balance_wei),
        money(holdings.claimed_wei)
    );
    if escrow.thawing_wei > Amount::ZERO {
        text.push_str(&format!("\nthawing  {}, to be taken from {} on", money(escrow.thawing_wei), when(escrow.thawed_at, now)));
    }
    text.push_str(&holdings.certainty.lines(|known| {
        let Known { balance_wei, free_wei, claimed_wei } = *known;
        format!("balance {}, {} free in escrow, {} claimed", money(balance_wei), money(free_wei), money(claimed_wei))
    }));
    if let Some(row) = &holdings.transaction {
        text.push_str(&format!("\n{row}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holdings(thawing: u128) -> Holdings {
        let escrow = Deposit { balance_wei: Amount(300), free_wei: Amount(300 - thawing), thawing_wei: Amount(thawing), thawed_at: 90 };
        Holdings {
            account: Address([1; 20]),
            balance_wei: Amount(5),
            escrow,
            claimed_wei: Amount::ZERO,
            certainty: Certain::default(),
            transaction: None,
        }
    }

    #[test]
    fn amounts_are_strings_in_json_and_open_in_text() {
        let value = serde_json::to_value(holdings(0)).unwrap();
        assert_eq!((&value["escrow"]["free_wei"], &value["balance_wei"]), (&"300".into(), &"5".into()));
        assert!(value.get("transaction").is_none());
        assert!(describe(&holdings(0), 80).contains("0.0000000000000003 OPEN free of"));
    }

    #[test]
    fn a_deposit_that_is_not_final_is_shown_as_pending() {
        let known = |free| Known { balance_wei: Amount(5), free_wei: Amount(free), claimed_wei: Amount::ZERO };
        let certainty = Certain { pending: known(300), safe: known(300), finalized: known(0) };
        let text = describe(&Holdings { certainty, ..holdings(0) }, 80);
        assert!(text.contains("\nfinal    balance 0.000000000000000005 OPEN, 0 OPEN free in escrow"), "{text}");
        assert!(!describe(&holdings(0), 80).contains("final"));
    }

    #[test]
    fn what_thaws_is_shown_only_while_it_does() {
        assert!(!describe(&holdings(0), 80).contains("thawing"));
        assert!(describe(&holdings(10), 80).contains("from 1970-01-01 00:01:30 UTC (in 10 s) on"));
    }
}
