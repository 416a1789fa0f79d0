//! The index behind a receipt, for commands that search it anew.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context as _;
use attribution::index::Index;
use chain_bridge::registry::State;
use p2p::{
    bulk::{BulkEndpoint, BulkLimits},
    identity::NodeSeed,
};
use types::{id::AssetVersion, manifest::Manifest};

use super::Context;
use crate::{
    config::Config,
    datanet::{self, LocalContribution, Shards, copies::Copies, erased::Erased},
    service::index,
};

/// Builds the index of Datanet versions in the order given: 0.06 to 0.1 s per MB of text.
pub(super) async fn build(state: &State, datanets: Vec<(AssetVersion, Vec<LocalContribution>)>) -> anyhow::Result<Index> {
    let tombstones: BTreeMap<_, _> = datanets.iter().map(|(version, _)| (*version, index::tombstones(state, *version))).collect();
    let building = tokio::task::spawn_blocking(move || {
        let one = |(version, contributions): &(AssetVersion, Vec<LocalContribution>)| {
            let buried = &tombstones[version];
            anyhow::Ok(Arc::new(index::build(*version, contributions, buried).with_context(|| format!("Datanet {version}"))?))
        };
        anyhow::Ok(Index::new(datanets.iter().map(one).collect::<anyhow::Result<_>>()?)?)
    });
    building.await?
}

/// The index over the Datanets of `manifest`: contributions that are not in the data folder are fetched from their holders and kept.
pub(super) async fn fetched(context: &Context, config: &Config, state: &State, manifest: &Manifest) -> anyhow::Result<Index> {
    let declared: Vec<AssetVersion> = manifest.datanets.iter().map(|datanet| datanet.version).collect();
    fetched_over(context, config, state, &declared).await
}

/// [`fetched`] over Datanets in the order given.
pub(super) async fn fetched_over(context: &Context, config: &Config, state: &State, declared: &[AssetVersion]) -> anyhow::Result<Index> {
    let mut datanets = Vec::new();
    let mut missing = Vec::new();
    for version in declared.iter().copied() {
        match datanet::local_all(&context.data, state, version) {
            Ok(local) => datanets.push((version, local)),
            Err(error) if error.is::<Erased>() => return Err(error),
            Err(_) => missing.push(version),
        }
    }
    if !missing.is_empty() {
        let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
        context.output.note(&format!("fetching the text of Datanet {} from its holders", names.join(", ")));
        let overlay = context.light_overlay(config).await?;
        let any = std::net::SocketAddr::new(config.bulk.ip(), 0);
        let bulk = Arc::new(BulkEndpoint::start(&NodeSeed::generate(), any, &[], BulkLimits::default()).await?);
        let shards = Shards::new(context.data.clone(), overlay.clone(), Arc::clone(&bulk), Copies::of_command(&config.keeping));
        let mut outcome = Ok(());
        for version in missing {
            match shards.ensure(state, version).await {
                Ok(local) => datanets.push((version, local)),
                Err(error) => {
                    outcome = Err(error.context(format!("Datanet {version}")));
                    break;
                }
            }
        }
        overlay.shutdown().await;
        bulk.close().await;
        outcome?;
    }
    let place = |version: AssetVersion| declared.iter().position(|declared| *declared == version);
    datanets.sort_by_key(|(version, _)| place(*version));
    build(state, datanets).await
}
