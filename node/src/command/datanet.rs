//! `tributary datanet`: create a Datanet, contribute to it, publish its versions, fetch and verify what it holds.

mod brought;
mod contribute;
mod create;
mod earnings;
mod entry;
mod erase;
mod export;
mod exported;
mod fates;
mod fetch;
mod findings;
mod grant;
mod import;
mod left_out;
mod members;
pub(super) mod network;
mod phrase;
mod rent;
mod review;
mod search;
mod show;
mod treasury;
mod verify;
mod watch;
mod within;

use anyhow::{Context as _, bail};
use chain_bridge::{client::assets::NewVersion, registry::State};
use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;
use storage::datanet::review::Act;
use types::{
    amount::Amount,
    id::{Address, AssetVersion, BlobId, Hash32},
    manifest::AssetKind,
    merkle::keccak,
    split::SplitTable,
};

use super::Context;
use crate::{
    datanet::{card_of, content, resolve},
    output::table,
};

/// Datanets: collections of documents whose contributors are paid when answers draw on them.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "A Datanet is named by its number or, where that is unique, by its name. A contribution is committed to before anyone sees it,\nlooked at by the node of the Datanet's owner, accepted on the chain, and spread over the storage nodes so that some of its\nfragments give it back: any 3 of 5 or of 9 where nodes are few, any 16 of 48 where they are many."
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Register a Datanet under your account.
    Create(create::Args),
    /// Contribute the documents of files or folders.
    Contribute(contribute::Args),
    /// Publish the next version: everything accepted so far.
    #[command(
        after_help = "Example:\n  tributary datanet publish medical\n\nOnly its owner can. A version never changes; what is accepted later needs the next one. Next: tributary datanet fetch medical, then\ntributary train --datanet ASSET@VERSION, with the version that is printed."
    )]
    Publish {
        /// Name or number.
        datanet: String,
    },
    /// List the Datanets of the registry.
    #[command(
        after_help = "Example:\n  tributary datanet list --json | jq '.[].name'\n\nNext: tributary datanet fetch NAME brings one's text here, tributary datanet contribute NAME FILE adds to it."
    )]
    List,
    /// Show one: card, policy, versions, members, contributions, treasury.
    Show(show::Args),
    /// Find Datanets by words of their cards, or a phrase in the text of one.
    Search(search::Args),
    /// Show who has which part in one; list contributors.
    Members(members::Args),
    /// Name who reviews, or no longer.
    Reviewer(members::ReviewerArgs),
    /// Show what waits for reviewers.
    Review(review::Args),
    /// Let in what waits.
    Approve(review::DecideArgs),
    /// End what waits.
    Reject(review::DecideArgs),
    /// Let a node read a private Datanet.
    Grant(grant::GrantArgs),
    /// Let it read no longer.
    Revoke(grant::RevokeArgs),
    /// Show who was let in to a private Datanet, and who said to have read what.
    Log(grant::LogArgs),
    /// Show where rows went and what they earned.
    Earnings(earnings::Args),
    /// Show what became of each row that you brought.
    Rows(fates::Args),
    /// Bring contributions to this machine, from any holders that suffice.
    Fetch(fetch::Args),
    /// Write contributions as files that other tools read: JSONL, CSV, Parquet, a Hugging Face repository, Croissant.
    Export(export::Args),
    /// Bring a folder that describes itself into a Datanet.
    Import(import::Args),
    /// Check what is here and what each holder has, byte by byte.
    Verify(verify::Args),
    /// Watch that published answers credit a contributor's own text.
    Watch(watch::Args),
    /// Ask that a contribution be kept and served by nobody any more.
    Erase(erase::Args),
    /// Show or change what keeping a Datanet costs.
    Rent(rent::Args),
    /// Show or take what a Datanet's treasury earned for who contributed.
    Treasury(treasury::Args),
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Create(args) => create::run(context, args).await,
        Action::Show(args) => show::run(context, args).await,
        Action::Search(args) => search::run(context, args).await,
        Action::Members(args) => members::run(context, args).await,
        Action::Reviewer(args) => members::reviewer(context, args).await,
        Action::Review(args) => review::run(context, args).await,
        Action::Approve(args) => review::decide(context, args, Act::Approve).await,
        Action::Reject(args) => review::decide(context, args, Act::Reject).await,
        Action::Grant(args) => grant::grant(context, args).await,
        Action::Revoke(args) => grant::revoke(context, args).await,
        Action::Log(args) => grant::log(context, args).await,
        Action::Earnings(args) => earnings::run(context, args).await,
        Action::Rows(args) => fates::run(context, args).await,
        Action::Contribute(args) => contribute::run(context, args).await,
        Action::Publish { datanet } => publish(context, &datanet).await,
        Action::List => list(context).await,
        Action::Fetch(args) => fetch::run(context, args).await,
        Action::Export(args) => export::run(context, args).await,
        Action::Import(args) => import::run(context, args).await,
        Action::Verify(args) => verify::run(context, args).await,
        Action::Watch(args) => watch::run(context, args).await,
        Action::Erase(args) => erase::run(context, args).await,
        Action::Rent(args) => rent::run(context, args).await,
        Action::Treasury(args) => treasury::run(context, args).await,
    }
}

/// What `publish` prints.
#[derive(Debug, Serialize)]
struct Published {
    asset: u64,
    version: String,
    content: BlobId,
    contributions: usize,
    documents: u64,
    transaction: Hash32,
    gas: u64,
}

async fn publish(context: &Context, text: &str) -> anyhow::Result<()> {
    let chain = context.chain().await?;
    let state = chain.state().await?;
    let (asset, card) = resolve(&state, text)?;
    let me = chain.client.address().context("the wallet has an account")?;
    if asset.owner() != me {
        bail!("Datanet {} belongs to {}, this wallet is {me}: its owner publishes it", asset.id, asset.owner());
    }
    if state.live_contributions(asset.id).next().is_none() {
        bail!("Datanet {} holds no accepted contribution that was not erased: there is nothing to publish", asset.id);
    }
    let hash = content(state.live_contributions(asset.id));
    if let Some(version) = state.newest(asset.id).filter(|version| state.version(*version).is_some_and(|known| known.content == hash))
        && !context.was_stopped(&chain).await
    {
        bail!("version {version} holds everything accepted so far: there is nothing new to publish");
    }
    let version = NewVersion {
        content: hash,
        parents: Vec::new(),
        split: SplitTable::from_rows([0; 6]),
        datanets: Vec::new(),
        licence: keccak(&[card.licence().as_str().as_bytes()]),
        parent_share_min: 0,
    };
    let (version, sent) = chain.client.publish(asset.id, &version).await?;
    let state = chain.state().await?;
    covers(&state, version, hash)?;
    let documents = state.contributions_of(version).map(|accepted| u64::from(accepted.documents)).sum();
    let contributions = state.contributions_of(version).count();
    let printed = Published {
        asset: version.asset.0,
        version: version.to_string(),
        content: hash,
        contributions,
        documents,
        transaction: sent.transaction,
        gas: sent.gas_used,
    };
    context.output.result(&printed, || {
        let next = format!("Next: tributary datanet fetch {asset}, tributary train --datanet {version} ...", asset = version.asset);
        format!("published {version}: {contributions} contributions, {documents} documents, content {hash}\n\n{next}")
    })
}

/// A contribution may have been accepted between the look at the books and the publication.
fn covers(state: &State, version: AssetVersion, hash: BlobId) -> anyhow::Result<()> {
    let held = content(state.contributions_of(version));
    if held != hash {
        bail!(
            "version {version} was published, but a contribution was accepted at the same time: its content is {held}, it says {hash}; publish again and use the later version"
        );
    }
    Ok(())
}

/// A Datanet as listed.
#[derive(Debug, Serialize)]
struct Row {
    asset: u64,
    name: String,
    licence: String,
    owner: Address,
    version: Option<String>,
    contributions: usize,
    /// Contributions that were erased on request; they are not counted beside.
    erased: usize,
    documents: u64,
    bytes: u64,
    description: String,
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let chain = context.chain_reader().await?;
    let state = chain.state().await?;
    let mut rows = Vec::new();
    for asset in state.assets().filter(|asset| asset.kind == AssetKind::Datanet) {
        let card = card_of(asset).ok();
        let all = || state.live_contributions(asset.id);
        rows.push(Row {
            asset: asset.id.0,
            name: card.as_ref().map_or_else(|| "(no card)".to_owned(), |card| card.name().to_string()),
            licence: card.as_ref().map_or_else(String::new, |card| card.licence().to_string()),
            owner: asset.owner(),
            version: state.newest(asset.id).map(|version| version.to_string()),
            contributions: all().count(),
            erased: state.contributions(asset.id).count() - all().count(),
            documents: all().map(|accepted| u64::from(accepted.documents)).sum(),
            bytes: all().map(|accepted| accepted.text_bytes).sum(),
            description: card.map_or_else(String::new, |card| card.description().to_owned()),
        });
    }
    context.output.result(&rows, || {
        if rows.is_empty() {
            return "no Datanet is registered: tributary datanet create NAME --licence SPDX makes one".to_owned();
        }
        let line = |row: &Row| {
            let version = row.version.clone().unwrap_or_else(|| "-".to_owned());
            vec![
                row.asset.to_string(),
                row.name.clone(),
                version,
                row.licence.clone(),
                row.contributions.to_string(),
                row.documents.to_string(),
                row.bytes.to_string(),
                row.owner.to_string(),
            ]
        };
        table(
            &["number", "name", "newest", "licence", "contributions", "documents", "bytes", "owner"],
            &rows.iter().map(line).collect::<Vec<_>>(),
        )
    })
}

/// Wei that some transactions cost, for people.
fn cost(paid: &[Amount]) -> String {
    Amount::sum(paid.iter().copied()).map_or_else(|_| "-".to_owned(), crate::output::money)
}
