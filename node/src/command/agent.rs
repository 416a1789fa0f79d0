//! `tributary agent`: agents, which sell the answers of an adapter or a base under a name, a split and Datanets of their own.
//!
//! Nodes answer under an agent with its adapter, or its base if it has none; of the file that describes it the chain keeps the hash, and nothing
//! in it is run.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use chain_bridge::registry::State;
use clap::{Args as ClapArgs, Subcommand};
use types::{
    id::{AssetVersion, BlobId},
    manifest::AssetKind,
    split::SplitTable,
};

use super::{
    Context,
    adapter::parse_version,
    publish::{Publication, Terms, base_of},
};
use crate::data::read_bounded;

/// Largest description.
const DESCRIPTION_BYTES_MAX: u64 = 1 << 20;
/// Without `--split`, over an adapter and over a base alone.
const USUAL: SplitTable = SplitTable { node: 3_000, agent: 500, base: 1_000, adapter: 1_000, data: 4_000, stakers: 500 };
const USUAL_ALONE: SplitTable = SplitTable { node: 3_500, agent: 1_000, base: 2_000, adapter: 0, data: 3_000, stakers: 500 };

/// Agents: register one over an adapter or a base.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Register an agent on the chain: what it answers with, its price split, its Datanets.
    #[command(
        after_help = "Example:\n  tributary agent publish doctor.md --name doctor --adapter 3@1\n  tributary agent publish doctor.md --name doctor --adapter 3@1 --split node=3000,agent=1000,base=1000,adapter=500,data=4000,stakers=500\n\nAt most two transactions, paid by the wallet. Nodes answer under the agent with its adapter as it is; the file says to people what the agent is\nfor, the chain keeps its hash, and nothing in it is run. Without --split: node=3000,agent=500,base=1000,adapter=1000,data=4000,stakers=500, and\nover a base alone node=3500,agent=1000,base=2000,data=3000,stakers=500. Next: tributary ask --with doctor \"...\""
    )]
    Publish {
        /// The file that describes it, at most 1 MiB.
        file: PathBuf,
        /// Name by which clients ask for it.
        #[arg(long)]
        name: String,
        /// Registered adapter version that answers, as ASSET@VERSION; its base is the agent's.
        #[arg(long, value_parser = parse_version, required_unless_present = "base", conflicts_with = "base")]
        adapter: Option<AssetVersion>,
        /// Registered base version that answers alone, as ASSET@VERSION.
        #[arg(long, value_parser = parse_version)]
        base: Option<AssetVersion>,
        /// Declared Datanet version, as ASSET@VERSION. May be repeated; its order is the manifest's [default: those of the adapter].
        #[arg(long = "datanet", value_parser = parse_version)]
        datanets: Vec<AssetVersion>,
        #[command(flatten)]
        terms: Terms,
    },
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let Action::Publish { file, name, adapter, base, datanets, terms } = args.action;
    let content = described(&file)?;
    let state = context.chain_reader().await?.state().await?;
    let (parents, declared) = parents(&state, adapter, base)?;
    let usual = if adapter.is_some() { USUAL } else { USUAL_ALONE };
    let publication = Publication {
        kind: AssetKind::Agent,
        name,
        content,
        parents,
        split: terms.split.unwrap_or(usual),
        datanets: if datanets.is_empty() { declared } else { datanets },
        trained_on: Vec::new(),
        licence: terms.licence,
        least_share: 0,
    };
    super::publish::run(context, publication).await
}

/// Content hash of a description.
fn described(file: &Path) -> anyhow::Result<BlobId> {
    let bytes = read_bounded(file, DESCRIPTION_BYTES_MAX).with_context(|| format!("{}", file.display()))?;
    ensure!(!bytes.is_empty(), "{} is empty: say in it what the agent is for", file.display());
    Ok(BlobId(*blake3::hash(&bytes).as_bytes()))
}

/// Base first, then the adapter; and the Datanets that the innermost of them declares.
fn parents(
    state: &State,
    adapter: Option<AssetVersion>,
    base: Option<AssetVersion>,
) -> anyhow::Result<(Vec<AssetVersion>, Vec<AssetVersion>)> {
    let named = adapter.or(base).context("an agent names --adapter ASSET@VERSION or --base ASSET@VERSION")?;
    let published = state.version(named).with_context(|| format!("version {named} is not published on this chain: nothing was sent"))?;
    let Some(adapter) = adapter else { return Ok((vec![named], published.datanets.clone())) };
    let base =
        base_of(state, adapter).with_context(|| format!("version {adapter} names no base, so it is no adapter: nothing was sent"))?;
    Ok((vec![base, adapter], published.datanets.clone()))
}
