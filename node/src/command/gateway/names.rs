//! What may be asked, by the names that OpenAI's clients use: a base by its own, an adapter as `base:adapter`, an agent by its own.
//!
//! Anybody may register a name. One that is registered twice means neither: both are then named by number and version.

use std::collections::BTreeMap;

use chain_bridge::registry::{State, state::Asset};
use types::{
    id::{AssetVersion, Hash32},
    manifest::{AssetKind, Manifest},
};

use crate::{
    api::{Refusal, models, source::Listed},
    command::adapter::parse_version,
};

/// Something that may be asked.
#[derive(Debug, Clone)]
pub(super) struct Offered {
    /// As it is listed.
    pub(super) listed: Listed,
    /// What answers.
    pub(super) manifest: Manifest,
}

/// Whatever is registered and not frozen, and what was `loaded` under names of its own.
pub(super) fn offered(state: &State, loaded: &BTreeMap<String, AssetVersion>) -> Vec<Offered> {
    let registered = state.assets().filter(|asset| asset.kind != AssetKind::Datanet);
    let mut all: Vec<Offered> = registered.filter_map(|asset| of(state, state.meant(asset.id)?, own_name(asset))).collect();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    all.iter().for_each(|one| *counts.entry(one.listed.id.clone()).or_default() += 1);
    for one in all.iter_mut().filter(|one| counts[&one.listed.id] > 1) {
        one.listed.id.clone_from(&one.listed.root);
    }
    // An admin's names come first: whoever registers the same later does not take them over.
    let chosen: Vec<Offered> = loaded.iter().filter_map(|(name, version)| of(state, *version, name)).collect();
    all.retain(|one| !chosen.iter().any(|own| own.listed.id == one.listed.id));
    chosen.into_iter().chain(all).collect()
}

/// What a client means by a name: one that is listed, or ASSET@VERSION. `local` is told of too where there is no such thing.
pub(super) fn meant(state: &State, all: &[Offered], local: Option<&Listed>, model: &str) -> Result<Manifest, Refusal> {
    if let Some(one) = all.iter().find(|one| one.listed.id == model) {
        return Ok(one.manifest.clone());
    }
    let version = parse_version(model).ok().filter(|version| state.version(*version).is_some_and(|known| known.frozen.is_none()));
    let manifest = version.and_then(|version| state.manifest(version).ok());
    let listed = || local.into_iter().chain(all.iter().map(|one| &one.listed)).cloned().collect::<Vec<_>>();
    manifest.ok_or_else(|| models::unknown(model, &listed()))
}

/// One version under a name; nothing if it cannot be asked.
pub(super) fn of(state: &State, version: AssetVersion, name: &str) -> Option<Offered> {
    let asset = state.asset(version.asset)?;
    let manifest = state.manifest(version).ok().filter(|_| state.version(version).is_some_and(|known| known.frozen.is_none()))?;
    let base = manifest.assets.iter().find(|part| part.kind == AssetKind::Base)?;
    let parent = (asset.kind != AssetKind::Base).then(|| state.asset(base.version.asset).map(own_name)).flatten().map(str::to_owned);
    let id = match (&parent, asset.kind) {
        (Some(parent), AssetKind::Adapter) => format!("{parent}:{name}"),
        _ => name.to_owned(),
    };
    let content = manifest.assets.iter().find(|part| part.version == version).map(|part| Hash32(part.content.0));
    let listed = Listed { id, parent, root: version.to_string(), owned_by: asset.owner().to_string(), created_s: 0, content };
    Some(Offered { listed, manifest })
}

fn own_name(asset: &Asset) -> &str {
    asset.uri.rsplit(':').next().unwrap_or_default()
}
