//! `tributary settle`: asks the operator's own running node to collect its vouchers and post its receipts now.

use anyhow::{Context as _, bail};
use attribution::message::{Ask, Reply};
use clap::Args as ClapArgs;
use p2p::client::{Client, Limits};
use serde::Serialize;

use super::Context;
use crate::{
    running::Addresses,
    service::settlement::{ask_once, loopback_any},
};

/// Collect vouchers and post receipts now rather than at the configured interval.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The node must be running with this data folder. Epochs accept roots for a third of their challenge window; outside it the command\nsays when to try again.\n\nExample:\n  tributary settle\n\nNext: once the epoch's payout is final (tributary status), tributary claim takes what it owes the account."
)]
pub struct Args {}

#[derive(Debug, Serialize)]
struct Done {
    done: String,
}

/// Runs the command.
pub async fn run(context: &Context, _: Args) -> anyhow::Result<()> {
    let seed = context.seed()?;
    let addresses = Addresses::read(&context.data)?;
    let client = Client::bind(loopback_any(addresses.clients), &seed, Limits::default())?;
    let connection =
        client.connect(addresses.clients, Some(seed.node_id())).await.context("the node does not answer: start it with `tributary run`")?;
    match ask_once(connection.open_stream().await?, &Ask::Settle).await? {
        Reply::Settled(done) => {
            let done = Done { done };
            context.output.result(&done, || done.done.clone())
        }
        Reply::Refused(reason) => bail!("{}", crate::words::line(&reason)),
        _ => bail!("the node answered something else"),
    }
}
