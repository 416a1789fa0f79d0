//! Datanets between this machine, the chain and the nodes that hold fragments: what commands and services share.
//!
//! A contribution travels so. Its contributor commits on the chain, shows the shard to the gate ([`review`]), signs, has it accepted on
//! the chain, sends one fragment to each holder ([`spread`], holders by [`placing`], carried by [`exchange`]) and tells all of them who holds what ([`keeping`]). Whoever needs it asks
//! holders ([`fetching`], answered by [`serving`]) and keeps the shard ([`Shards`]) once its text root is the registered one. A private Datanet's shards are sealed ([`seals`]). Adapters travel as three files under
//! one hash ([`adapter`]). The messages and what decides on them are `storage`'s.

pub mod adapter;
pub mod copies;
pub mod erased;
pub mod exchange;
pub mod fetching;
pub mod keeping;
pub mod members;
pub mod placing;
pub mod review;
pub mod seals;
pub mod seeds;
pub mod serving;
pub mod shards;
pub mod spread;

use anyhow::{Context as _, bail};
use chain_bridge::registry::{
    State,
    state::{Accepted, Asset},
};
use storage::datanet::Card;
use types::{
    id::{AssetVersion, BlobId},
    manifest::AssetKind,
    merkle::keccak,
};

pub use self::{
    adapter::fetch_adapter,
    shards::{LocalContribution, Origin, Shards, local, local_all},
};

/// Ends at `due`; never if there is none.
async fn sleep_until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// The contributions of a Datanet version in priority order, with their documents; missing ones are fetched over the network.
///
/// # Errors
/// That one cannot be had, with each holder's reason.
pub async fn ensure_contributions(shards: &Shards, state: &State, version: AssetVersion) -> anyhow::Result<Vec<LocalContribution>> {
    shards.ensure(state, version).await
}

/// A Datanet's card. Its canonical JSON is what the registry keeps as the asset's URI, so nothing else is needed to read it.
///
/// # Errors
/// That the asset is no Datanet, or carries no card.
pub fn card_of(asset: &Asset) -> anyhow::Result<Card> {
    if asset.kind != AssetKind::Datanet {
        bail!("asset {} is no Datanet", asset.id);
    }
    serde_json::from_str(&asset.uri).with_context(|| format!("Datanet {} has no readable card", asset.id))
}

/// The Datanet that a name or a number means.
///
/// # Errors
/// That there is none, with those there are; or that several have the name.
pub fn resolve<'s>(state: &'s State, text: &str) -> anyhow::Result<(&'s Asset, Card)> {
    let all = || state.assets().filter(|asset| asset.kind == AssetKind::Datanet).filter_map(|asset| Some((asset, card_of(asset).ok()?)));
    if let Some(found) = all().find(|(asset, _)| asset.id.to_string() == text) {
        return Ok(found);
    }
    let mut named: Vec<_> = all().filter(|(_, card)| card.name().as_str() == text).collect();
    match named.len() {
        1 => Ok(named.remove(0)),
        0 => {
            let known: Vec<String> = all().map(|(asset, card)| format!("{} ({})", card.name(), asset.id)).collect();
            bail!("no Datanet is called {text:?}: registered are {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") })
        }
        count => {
            let numbers: Vec<String> = named.iter().map(|(asset, _)| asset.id.to_string()).collect();
            bail!("{count} Datanets are called {text:?}: use a number, one of {}", numbers.join(", "))
        }
    }
}

/// Content hash of a Datanet version: keccak of its contributions' text roots, one after another in priority order.
pub fn content<'a>(contributions: impl Iterator<Item = &'a Accepted>) -> BlobId {
    let roots: Vec<u8> = contributions.flat_map(|accepted| accepted.text_root.0).collect();
    BlobId(keccak(&[&roots]).0)
}
