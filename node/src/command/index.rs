//! `tributary index`: the files that answers are attributed by, built and held against what they should be; and the index behind a receipt, for
//! commands that search it.

mod build;
mod verify;

use std::{ops::ControlFlow, sync::Arc};

use anyhow::Context as _;
use attribution::{disk, index::Index};
use chain_bridge::registry::{State, state::Accepted};
use clap::{Args as ClapArgs, Subcommand};
use p2p::{
    bulk::{BulkEndpoint, BulkLimits},
    identity::NodeSeed,
};
use tokio::runtime::Handle;
use types::{id::AssetVersion, manifest::Manifest};

use super::Context;
use crate::{
    config::Config,
    data::DataDir,
    datanet::{self, LocalContribution, Shards, copies::Copies, resolve},
    output::{Output, Progress},
    service::index::{
        plan::Plan,
        store::{Indexes, Made, Step},
    },
};

/// Indexes of Datanets: the files by which answers are attributed, in the folder `attribution` of the data folder.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "A node builds and opens them by itself; receipt verify --full, audit prove and datanet search use those that are here. A Datanet is divided into segments,\nimmutable files of 1.9 bytes a byte of text: what is contributed later makes new ones and leaves most as they are.\n\nExamples:\n  tributary index build medical\n  tributary index build medical --memory 4G --threads 8\n  tributary index verify medical"
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Open the index of a Datanet version, and build what is missing of it.
    Build(build::Args),
    /// Read every file of a Datanet version's index and hold it against what it should be; exit code 1 names one that is not.
    Verify(verify::Args),
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Build(args) => build::run(context, args).await,
        Action::Verify(args) => verify::run(context, args).await,
    }
}

/// The version of a Datanet that is meant: the newest unless one is named.
fn chosen(state: &State, datanet: &str, version: Option<u32>) -> anyhow::Result<AssetVersion> {
    let (asset, _) = resolve(state, datanet)?;
    let newest = state.newest(asset.id).with_context(|| {
        format!(
            "Datanet {} has no published version, so there is nothing to index: tributary datanet publish {} makes one",
            asset.id, asset.id
        )
    })?;
    let Some(version) = version.map(|version| AssetVersion { asset: asset.id, version }) else { return Ok(newest) };
    state.version(version).with_context(|| format!("Datanet {} has no version {}: the newest is {newest}", asset.id, version.version))?;
    Ok(version)
}

/// The indexes of the data folder.
pub(crate) fn indexes(context: &Context) -> anyhow::Result<Indexes> {
    Ok(Indexes::of(&context.data, &context.config()?.attribution))
}

/// The index over these versions: files that are here, what is missing of them built from shards that are here. Nothing is fetched.
pub(crate) async fn local(context: &Context, state: &Arc<State>, versions: &[AssetVersion]) -> anyhow::Result<Index> {
    let (plans, data) = (plans(state, versions)?, context.data.clone());
    let opened = opened(indexes(context)?, plans, context.output.clone(), move |accepted| here(&data, accepted));
    Ok(opened.await?.0)
}

/// The index over the Datanets of `manifest`: text that is missing for it is fetched from its holders and kept.
pub(crate) async fn fetched(context: &Context, config: &Config, state: &Arc<State>, manifest: &Manifest) -> anyhow::Result<Index> {
    let versions: Vec<AssetVersion> = manifest.datanets.iter().map(|datanet| datanet.version).collect();
    fetched_over(context, config, state, &versions).await
}

/// [`fetched`] over Datanets in the order given.
pub(crate) async fn fetched_over(
    context: &Context,
    config: &Config,
    state: &Arc<State>,
    versions: &[AssetVersion],
) -> anyhow::Result<Index> {
    Ok(fetched_into(context, config, state, versions, indexes(context)?).await?.0)
}

async fn fetched_into(
    context: &Context,
    config: &Config,
    state: &Arc<State>,
    versions: &[AssetVersion],
    indexes: Indexes,
) -> anyhow::Result<(Index, Vec<Made>)> {
    let (plans, data) = (plans(state, versions)?, context.data.clone());
    let looking = tokio::task::spawn_blocking(move || {
        let mut missing = Vec::new();
        for plan in &plans {
            let is_here = |accepted: &&Accepted| matches!(datanet::local(&data, accepted), Ok(Some(_)));
            if !indexes.needed(plan)?.iter().all(is_here) {
                missing.push(plan.version.to_string());
            }
        }
        anyhow::Ok((plans, data, indexes, missing))
    });
    let (plans, data, indexes, missing) = looking.await??;
    if missing.is_empty() {
        return opened(indexes, plans, context.output.clone(), move |accepted| here(&data, accepted)).await;
    }
    context.output.note(&format!("fetching the text of Datanet {} from its holders", missing.join(", ")));
    let overlay = context.light_overlay(config).await?;
    let any = std::net::SocketAddr::new(config.bulk.ip(), 0);
    let bulk = Arc::new(BulkEndpoint::start(&NodeSeed::generate(), any, &[], BulkLimits::default()).await?);
    let shards = Shards::new(data, overlay.clone(), Arc::clone(&bulk), Copies::of_command(&config.keeping));
    let (runtime, books) = (Handle::current(), Arc::clone(state));
    let fetch = move |accepted: &Accepted| Ok(runtime.block_on(shards.contribution(&books, accepted))?.0);
    let outcome = opened(indexes, plans, context.output.clone(), fetch).await;
    overlay.shutdown().await;
    bulk.close().await;
    outcome
}

/// What each version's index is made of; a version that holds what was erased since has none.
pub(crate) fn plans(state: &State, versions: &[AssetVersion]) -> anyhow::Result<Vec<Plan>> {
    versions.iter().map(|version| Ok(Plan::of(state, *version)?)).collect()
}

fn here(data: &DataDir, accepted: &Accepted) -> anyhow::Result<LocalContribution> {
    datanet::local(data, accepted)?.with_context(|| {
        let Accepted { datanet, number, .. } = accepted;
        format!("contribution {number} of Datanet {datanet} is not here: run `tributary datanet fetch {datanet}`")
    })
}

async fn opened(
    indexes: Indexes,
    plans: Vec<Plan>,
    output: Output,
    mut texts: impl FnMut(&Accepted) -> anyhow::Result<LocalContribution> + Send + 'static,
) -> anyhow::Result<(Index, Vec<Made>)> {
    let opening = tokio::task::spawn_blocking(move || {
        let (mut datanets, mut all) = (Vec::with_capacity(plans.len()), Vec::with_capacity(plans.len()));
        for plan in &plans {
            let mut shown = Shown { version: plan.version, output: output.clone(), bar: None };
            let opened = indexes.open(plan, &mut texts, &mut |step| shown.note(step));
            shown.end();
            let (datanet, made) = opened.with_context(|| format!("Datanet {}", plan.version))?;
            made.set_aside.iter().for_each(|said| output.note(said));
            datanets.push(Arc::new(datanet));
            all.push(made);
        }
        anyhow::Ok((Index::new(datanets)?, all))
    });
    opening.await?
}

/// Progress of a build: a bar for each part of it.
struct Shown {
    version: AssetVersion,
    output: Output,
    bar: Option<(String, Progress)>,
}

impl Shown {
    fn note(&mut self, step: Step) -> ControlFlow<()> {
        let (what, done, of) = match step.progress {
            disk::Progress::Laid { bytes } => ("bytes of text", bytes, step.text_bytes),
            disk::Progress::Sorted { entries, of } => ("words sorted", entries, of),
        };
        let name = format!("index of Datanet {}, segment {} of {}: {what}", self.version, step.segment, step.of);
        if self.bar.as_ref().is_none_or(|(shown, _)| *shown != name) {
            self.end();
            self.bar = Some((name.clone(), self.output.progress(&name, of)));
        }
        if let Some((_, bar)) = &mut self.bar {
            bar.set(done);
        }
        ControlFlow::Continue(())
    }

    fn end(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish();
        }
    }
}
