//! `tributary datanet members` and `reviewer`: who has which part in a Datanet.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;
use storage::proto::gate::{Ask, ReaderRow, Reply};
use types::id::Address;

use super::{Context, network::Network};
use crate::{
    command::sent::Transaction,
    datanet::{members, resolve, review},
    output::table,
};

/// Show the members of a Datanet, or list contributors.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Owner and reviewers are on the chain; listed contributors and readers are known to the gate, the node of the Datanet's owner, which is asked.\n--add and --remove are for the owner, in the folder of that node.\n\nExamples:\n  tributary datanet members medical\n  tributary datanet members medical --add 0x…\n\nNext: tributary datanet reviewer add medical 0x…; tributary datanet grant medical NODE --purpose read --until BLOCK."
)]
pub(super) struct Args {
    /// Datanet, by name or number.
    datanet: String,
    /// List a contributor.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "remove")]
    add: Option<Address>,
    /// List it no longer; what it contributed stays.
    #[arg(long, value_name = "ADDRESS")]
    remove: Option<Address>,
    /// Overlay address to join through [default: from the configuration].
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
}

/// Name reviewers of your Datanet.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "A reviewer may sign reports of the gate, and decides with a second one on what the policy holds back. Nobody decides on what they bring themselves.\n\nExamples:\n  tributary datanet reviewer add medical 0x…\n  tributary datanet reviewer remove medical 0x…\n\nNext: the reviewer runs tributary datanet review medical."
)]
pub(super) struct ReviewerArgs {
    #[command(subcommand)]
    action: ReviewerAction,
}

#[derive(Debug, Subcommand)]
enum ReviewerAction {
    /// Let an account review.
    Add {
        /// Datanet, by name or number.
        datanet: String,
        /// The account.
        reviewer: Address,
    },
    /// Let it review no longer.
    Remove {
        /// Datanet, by name or number.
        datanet: String,
        /// The account.
        reviewer: Address,
    },
}

#[derive(Debug, Serialize)]
struct Row {
    member: String,
    role: &'static str,
    /// Contributions, or what a grant is for.
    what: String,
}

/// What `members` prints.
#[derive(Debug, Serialize)]
struct Printed {
    asset: u64,
    name: String,
    /// Whether the gate was heard: if not, listed contributors and readers are missing here.
    gate_heard: bool,
    members: Vec<Row>,
}

/// What `reviewer` prints.
#[derive(Debug, Serialize)]
struct Named {
    asset: u64,
    reviewer: Address,
    is_reviewer: bool,
    transactions: Vec<Transaction>,
}

/// Runs `members`.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let is_change = args.add.is_some() || args.remove.is_some();
    ensure!(!(is_change && context.is_dry()), "--dry-run: the list is changed without a transaction; nothing was done");
    let chain = if is_change { context.chain().await? } else { context.chain_reader().await? };
    let state = chain.state().await?;
    let (asset, card) = resolve(&state, &args.datanet)?;
    if let Some(contributor) = args.add.or(args.remove) {
        let me = chain.client.address().context("the wallet has an account")?;
        ensure!(
            asset.owner() == me,
            "Datanet {} belongs to {}, this wallet is {me}: its owner lists contributors",
            asset.id,
            asset.owner()
        );
        members::set_contributor(&context.data, asset.id, contributor, args.add.is_some())?;
    }
    let asked = if is_change {
        Ok((members::contributors(&context.data, asset.id)?.into_iter().collect(), Vec::new()))
    } else {
        asked(context, &args, &state, asset).await
    };
    if let Err(error) = &asked {
        context.output.note(&format!("the gate was not heard, so listed contributors and readers are not shown: {error:#}"));
    }
    let gate_heard = asked.is_ok() && !is_change;
    let (listed, readers): (Vec<Address>, Vec<ReaderRow>) = asked.unwrap_or_default();
    let mut contributed: BTreeMap<Address, usize> = listed.iter().map(|account| (*account, 0)).collect();
    for accepted in state.contributions(asset.id) {
        *contributed.entry(accepted.contributor).or_default() += 1;
    }
    let mut rows = vec![Row { member: asset.owner().to_string(), role: "owner", what: "-".into() }];
    rows.extend(state.reviewers(asset.id).map(|reviewer| Row { member: reviewer.to_string(), role: "reviewer", what: "-".into() }));
    rows.extend(contributed.into_iter().map(|(account, count)| {
        let listed = if listed.contains(&account) { ", listed" } else { "" };
        Row { member: account.to_string(), role: "contributor", what: format!("{count} contributions{listed}") }
    }));
    rows.extend(readers.into_iter().map(|reader| {
        let what = format!("{} until block {}", reader.purposes, reader.expiry);
        Row { member: reader.member.to_string(), role: "reader", what }
    }));
    let printed = Printed { asset: asset.id.0, name: card.name().to_string(), gate_heard, members: rows };
    context.output.result(&printed, || {
        let row = |row: &Row| vec![row.role.to_owned(), row.member.clone(), row.what.clone()];
        table(&["role", "member", "what"], &printed.members.iter().map(row).collect::<Vec<_>>())
    })
}

async fn asked(
    context: &Context,
    args: &Args,
    state: &chain_bridge::registry::State,
    asset: &chain_bridge::registry::state::Asset,
) -> anyhow::Result<(Vec<Address>, Vec<ReaderRow>)> {
    let network = Network::join(context, &args.bootstrap).await?;
    let reply = async {
        let (client, connection) = network.dial_gate(context, state, asset.owner()).await?;
        let reply = review::ask(connection.open_stream().await?, &Ask::Members { datanet: asset.id }).await;
        client.close(0).await;
        reply
    };
    let reply = reply.await;
    network.leave().await;
    match reply? {
        Reply::Members { contributors, readers } => Ok((contributors, readers)),
        _ => bail!("it answered something else than its members"),
    }
}

/// Runs `reviewer`.
pub(super) async fn reviewer(context: &Context, args: ReviewerArgs) -> anyhow::Result<()> {
    let (name, reviewer, is_reviewer) = match args.action {
        ReviewerAction::Add { datanet, reviewer } => (datanet, reviewer, true),
        ReviewerAction::Remove { datanet, reviewer } => (datanet, reviewer, false),
    };
    let chain = context.chain().await?;
    let state = chain.state().await?;
    let (asset, _) = resolve(&state, &name)?;
    let me = chain.client.address().context("the wallet has an account")?;
    ensure!(asset.owner() == me, "Datanet {} belongs to {}, this wallet is {me}: its owner names reviewers", asset.id, asset.owner());
    ensure!(reviewer != me, "{me} owns Datanet {} and reviews it already", asset.id);
    ensure!(reviewer != Address::ZERO, "the zero address signs nothing: name an account");
    let is_one = state.is_reviewer(asset.id, reviewer);
    if is_one == is_reviewer && !context.was_stopped(&chain).await {
        let (not, id) = (if is_one { "" } else { "no " }, asset.id);
        bail!("{reviewer} is {not}reviewer of Datanet {id} already");
    }
    let sent = chain.client.set_reviewer(asset.id, reviewer, is_reviewer).await?;
    let what = if is_reviewer { "name a reviewer" } else { "take a reviewer back" };
    let printed = Named { asset: asset.id.0, reviewer, is_reviewer, transactions: vec![Transaction::new(what.to_owned(), &sent)] };
    context.output.result(&printed, || {
        let what = if is_reviewer { "reviews" } else { "no longer reviews" };
        format!("{reviewer} {what} Datanet {}\n\nNext: tributary datanet members {}", asset.id, asset.id)
    })
}
