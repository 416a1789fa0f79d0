//! `tributary registry`: what the chain says of an asset, and what its owner may change: publish, freeze, redirect, roll back.

use anyhow::{Context as _, ensure};
use chain_bridge::registry::{
    State,
    state::{Asset, IndexRoot, Version},
};
use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;
use types::{
    id::{Address, AssetId, AssetVersion, BlobId, Hash32},
    manifest::AssetKind,
    split::SplitTable,
};

mod change;

use super::{Context, adapter::parse_version, publish::parse_split, sent::Transaction};
use crate::{
    chain::Chained,
    datanet::{card_of, terms},
    output::table,
};
use change::Change;

/// Registered assets: datasets, models, adapters, agents.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "An asset is named by its number, or by its name as it was published. A version that is published is never changed; it may be ended.\n\nExamples:\n  tributary registry show 3                      its versions, their status and split, what they build on, who owned it\n  tributary registry publish 3 --content HASH    the next version, for the rest like the newest one\n  tributary registry freeze 3@2                  ends a version for good\n  tributary registry redirect 3 --from 2 --to 4  ends it and puts another one in its place, in one transaction\n  tributary registry rollback 3                  back to the newest earlier version that is active"
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show an asset: versions, status, split, parents, Datanets, owners, index roots.
    Show {
        /// Its number, or its name as it was published.
        asset: String,
    },
    #[command(flatten)]
    Change(Changing),
}

/// What an owner may change.
#[derive(Debug, Subcommand)]
enum Changing {
    /// Publish the next version of an asset of yours; what is not named is as in its newest version.
    Publish {
        /// Its number, or its name as it was published.
        asset: String,
        /// Content hash of the version, as `model list` and `adapter list` show it.
        #[arg(long, value_name = "HASH")]
        content: Option<BlobId>,
        /// Version it builds on, as ASSET@VERSION. May be repeated; replaces all.
        #[arg(long = "parent", value_parser = parse_version)]
        parents: Vec<AssetVersion>,
        /// Declared Datanet version, as ASSET@VERSION. May be repeated; replaces all.
        #[arg(long = "datanet", value_parser = parse_version)]
        datanets: Vec<AssetVersion>,
        /// How its fees are divided, in 1/10,000 by role: node, agent, base, adapter, data, stakers; a role that is not named gets nothing.
        #[arg(long, value_name = "ROLE=BPS,...", value_parser = parse_split)]
        split: Option<SplitTable>,
        /// SPDX licence expression.
        #[arg(long)]
        licence: Option<String>,
        /// Least row, in 1/10,000, that a child must give its owner.
        #[arg(long, value_name = "BPS")]
        least_share: Option<u16>,
    },
    /// End a version of an asset of yours for good: answers that name it are no longer paid.
    Freeze {
        /// The version, as ASSET@VERSION; the asset by number or name.
        #[arg(value_name = "ASSET@VERSION")]
        which: String,
    },
    /// End a version and put another active one of the asset in its place, in one transaction.
    Redirect {
        /// Its number, or its name as it was published.
        asset: String,
        /// The version to end [default: the current one].
        #[arg(long, value_name = "VERSION")]
        from: Option<u32>,
        /// The version that takes its place.
        #[arg(long, value_name = "VERSION")]
        to: u32,
    },
    /// Go back to the newest earlier version that is active.
    Rollback {
        /// Its number, or its name as it was published.
        asset: String,
    },
}

/// What is printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Shown {
    asset: AssetId,
    kind: AssetKind,
    uri: String,
    owner: Address,
    owners: Vec<OwnerRow>,
    /// The version that stands for it now; nothing if all are frozen.
    current: Option<u32>,
    versions: Vec<VersionRow>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct OwnerRow {
    from_block: u64,
    owner: Address,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct VersionRow {
    version: u32,
    /// `active`, `frozen`, or `superseded`.
    status: &'static str,
    frozen_in_block: Option<u64>,
    superseded_by: Option<u32>,
    published_in_block: u64,
    content: BlobId,
    split: SplitTable,
    /// Bill of materials, as ASSET@VERSION.
    parents: Vec<String>,
    datanets: Vec<String>,
    licence: Hash32,
    parent_share_min_bps: u16,
    index: Option<IndexRoot>,
    /// Contributions it was declared on that were erased on request since, in words.
    erased: Vec<String>,
}

/// What is printed after a change: the asset as it is now.
#[derive(Debug, Serialize)]
struct Changed {
    #[serde(flatten)]
    shown: Shown,
    transaction: Transaction,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let action = match args.action {
        Action::Show { asset } => {
            let state = context.chain_reader().await?.state().await?;
            let shown = shown(&state, &asset)?;
            return context.output.result(&shown, || describe(&shown));
        }
        Action::Change(action) => action,
    };
    let chain = context.chain().await?;
    let state = chain.state().await?;
    let own = chain.client.address().context("no account")?;
    // A rollback looks at the chain for what is active: what an earlier run of this command has changed is told, not changed once more.
    if let Some(sent) = chain.client.take_up(&["freeze version", "redirect version"]).await? {
        let asset = match &action {
            Changing::Publish { asset, .. } | Changing::Redirect { asset, .. } | Changing::Rollback { asset } => asset.as_str(),
            Changing::Freeze { which } => which.rsplit_once('@').map_or(which.as_str(), |(asset, _)| asset),
        };
        let asset = find(&*chain.state().await?, asset)?;
        return changed(context, &chain, asset, Transaction::new("change of an earlier run", &sent)).await;
    }
    let change = match action {
        Changing::Publish { asset, content, parents, datanets, split, licence, least_share } => {
            let hash = licence.as_deref().map(terms::licence_hash);
            let wanted = change::Wanted { content, parents, datanets, split, licence: hash, least_share };
            let (asset, new) = change::publication(&state, own, find(&state, &asset)?, wanted)?;
            let published = super::publish::append(&chain.client, &state, asset, &new, licence.as_deref()).await?;
            return context.output.result(&published, || super::publish::describe(&published));
        }
        Changing::Freeze { which } => {
            let (asset, number) = which.rsplit_once('@').context("a version is written ASSET@VERSION, such as 3@1")?;
            let number = number.parse().with_context(|| format!("{number:?} is no version number: write ASSET@VERSION, such as 3@1"))?;
            Change::freeze(&state, own, AssetVersion { asset: find(&state, asset)?, version: number })?
        }
        Changing::Redirect { asset, from, to } => Change::redirect(&state, own, find(&state, &asset)?, from, to)?,
        Changing::Rollback { asset } => Change::rollback(&state, own, find(&state, &asset)?)?,
    };
    apply(context, &chain, change).await
}

async fn apply(context: &Context, chain: &Chained, change: Change) -> anyhow::Result<()> {
    context.output.note(&change.to_string());
    let (asset, sent) = match change {
        Change::Freeze(version) => (version.asset, chain.client.freeze(version).await?),
        Change::Redirect { from, to } => (from.asset, chain.client.redirect(from, to).await?),
    };
    changed(context, chain, asset, Transaction::new(change.to_string(), &sent)).await
}

async fn changed(context: &Context, chain: &Chained, asset: AssetId, transaction: Transaction) -> anyhow::Result<()> {
    let changed = Changed { shown: shown(&*chain.state().await?, &asset.to_string())?, transaction };
    context.output.result(&changed, || format!("{}\n\n{}", describe(&changed.shown), changed.transaction))
}

/// The asset of a number or a name; a name that several have is refused with their numbers.
fn find(state: &State, wanted: &str) -> anyhow::Result<AssetId> {
    if let Ok(number) = wanted.parse() {
        return Ok(AssetId(number));
    }
    let named: Vec<AssetId> = state.assets().filter(|asset| is_called(asset, wanted)).map(|asset| asset.id).collect();
    let numbers = || named.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    ensure!(named.len() < 2, "{wanted:?} is the name of the assets {}: give one of these numbers", numbers());
    named.first().copied().with_context(|| format!("no asset is named {wanted:?}: give its number, or its name as published"))
}

fn is_called(asset: &Asset, name: &str) -> bool {
    match asset.kind {
        AssetKind::Datanet => card_of(asset).is_ok_and(|card| card.name().as_str() == name),
        _ => asset.uri.rsplit(':').next() == Some(name),
    }
}

/// Which asset is the newest, in words.
fn newest(state: &State) -> String {
    state.assets().last().map_or_else(|| "and no other one is".to_owned(), |asset| format!("the newest is {}", asset.id))
}

fn shown(state: &State, wanted: &str) -> anyhow::Result<Shown> {
    let id = find(state, wanted)?;
    let asset = state.asset(id).with_context(|| format!("asset {id} is not registered, {}", newest(state)))?;
    let versions = state.versions().filter(|(version, _)| version.asset == id);
    Ok(Shown {
        asset: id,
        kind: asset.kind,
        uri: asset.uri.clone(),
        owner: asset.owner(),
        owners: asset.owners.iter().map(|(from_block, owner)| OwnerRow { from_block: *from_block, owner: *owner }).collect(),
        current: state.current(id).map(|version| version.version),
        versions: versions.map(|(version, published)| row(state, version, published)).collect(),
    })
}

fn row(state: &State, version: AssetVersion, published: &Version) -> VersionRow {
    let names = |list: &[AssetVersion]| list.iter().map(ToString::to_string).collect();
    VersionRow {
        version: version.version,
        status: status(published),
        frozen_in_block: published.frozen,
        superseded_by: published.superseded_by,
        published_in_block: published.published.0,
        content: published.content,
        split: published.split,
        parents: names(&published.parents),
        datanets: names(&published.datanets),
        licence: published.licence,
        parent_share_min_bps: published.parent_share_min,
        index: state.index(version).copied(),
        erased: state.erased_under(version).into_iter().map(ToString::to_string).collect(),
    }
}

const fn status(published: &Version) -> &'static str {
    match (published.frozen, published.superseded_by) {
        (None, _) => "active",
        (Some(_), None) => "frozen",
        (Some(_), Some(_)) => "superseded",
    }
}

fn describe(shown: &Shown) -> String {
    let current = shown.current.map_or_else(|| "none: every version is frozen".to_owned(), |version| version.to_string());
    let mut text =
        format!("asset    {} ({:?})\nname     {}\ncurrent  {current}\nowners\n", shown.asset, shown.kind, crate::words::line(&shown.uri));
    let cells = |row: &OwnerRow| vec![row.from_block.to_string(), row.owner.to_string()];
    text.push_str(&table(&["from block", "owner"], &shown.owners.iter().map(cells).collect::<Vec<_>>()));
    for version in &shown.versions {
        text.push_str(&describe_version(version));
    }
    text
}

fn describe_version(version: &VersionRow) -> String {
    let status = match (version.frozen_in_block, version.superseded_by) {
        (Some(block), Some(by)) => format!("superseded by {by} in block {block}"),
        (Some(block), None) => format!("frozen in block {block}"),
        (None, _) => "active".to_owned(),
    };
    let split = version.split;
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let index = version.index.as_ref().map_or_else(
        || "none".to_owned(),
        |index| format!("{} by {}, parameters {}, in block {}", index.root, index.indexer, index.parameters, index.block),
    );
    let mut text = format!(
        "\n\nversion  {} ({status}), published in block {}\ncontent  {}\nsplit    node {}, agent {}, base {}, adapter {}, data {}, stakers {} of 10000\nparents  {}\nDatanets {}\nindex    {index}",
        version.version,
        version.published_in_block,
        version.content,
        split.node,
        split.agent,
        split.base,
        split.adapter,
        split.data,
        split.stakers,
        list(&version.parents),
        list(&version.datanets),
    );
    for erasure in &version.erased {
        text.push_str(&format!("\nERASED   {erasure}: what this version holds, or was trained on"));
    }
    text
}

#[cfg(test)]
mod tests {
    use chain_bridge::registry::{Event, Logged};
    use types::time::BlockRef;

    use super::*;

    const OWNER: Address = Address([1; 20]);
    const BUYER: Address = Address([2; 20]);

    fn state() -> State {
        let version = |version| AssetVersion { asset: AssetId(1), version };
        let split = SplitTable { node: 5_500, agent: 0, base: 1_500, adapter: 1_500, data: 1_000, stakers: 500 };
        let published = |number| Event::Published {
            version: version(number),
            content: BlobId([7; 32]),
            parents: vec![AssetVersion { asset: AssetId(9), version: 2 }],
            split,
            datanets: vec![],
            licence: Hash32::ZERO,
            parent_share_min: 0,
        };
        let events = [
            Event::Transferred { asset: AssetId(1), to: OWNER },
            Event::Registered { asset: AssetId(1), kind: AssetKind::Adapter, owner: OWNER, uri: "tributary:adapter:poems".into() },
            published(1),
            published(2),
            Event::Transferred { asset: AssetId(1), to: BUYER },
            Event::Frozen { version: version(2) },
            Event::Redirected { asset: AssetId(1), from: 2, to: 1 },
            Event::Registered { asset: AssetId(2), kind: AssetKind::Adapter, owner: OWNER, uri: "tributary:adapter:twice".into() },
            Event::Registered { asset: AssetId(3), kind: AssetKind::Adapter, owner: OWNER, uri: "tributary:adapter:twice".into() },
        ];
        let mut state = State::default();
        for (number, event) in (1..).zip(events) {
            let block = BlockRef { number, hash: Hash32::ZERO };
            state.apply(&Logged { block, log: 0, transaction: Hash32::ZERO, time: 0, event }).unwrap();
        }
        state
    }

    #[test]
    fn an_asset_shows_its_versions_their_status_and_all_its_owners() {
        let found = shown(&state(), "poems").unwrap();
        assert_eq!(found, shown(&state(), "1").unwrap());
        assert_eq!((found.owner, found.owners.len(), found.current), (BUYER, 2, Some(1)));
        assert_eq!(found.versions.iter().map(|version| version.status).collect::<Vec<_>>(), ["active", "superseded"]);
        let text = describe(&found);
        for says in ["superseded by 1 in block 6", "parents  9@2", "data 1000", "index    none"] {
            assert!(text.contains(says), "{says}: {text}");
        }
    }

    #[test]
    fn an_unknown_or_ambiguous_name_is_refused_with_what_to_give() {
        assert!(shown(&state(), "nothing").unwrap_err().to_string().contains("no asset is named"));
        assert!(shown(&state(), "twice").unwrap_err().to_string().contains("2, 3"));
        assert!(shown(&state(), "17").unwrap_err().to_string().contains("newest is 3"));
    }
}
