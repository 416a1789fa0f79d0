//! Whether the registry takes a version, asked of the books before anything is paid: what it builds on, what that demands, who has a row.
//!
//! The registry checks all of it again; a refusal there comes after the registration of a new name is paid, and names rows by number.

use anyhow::{Context as _, bail, ensure};
use chain_bridge::{client::assets::NewVersion, registry::State};
use types::{
    id::AssetVersion,
    manifest::AssetKind,
    split::{SPLIT_TOTAL, SplitTable},
};

use super::word;
use crate::datanet::erased;

/// Most Datanets that the registry takes in a version.
const DATANETS_MAX: usize = 16;

/// The assets that a version builds on.
#[derive(Debug, Default)]
struct Parents {
    base: Option<AssetVersion>,
    adapter: Option<AssetVersion>,
}

/// Refuses a version that the registry would refuse; `least_data` is the least data row it takes, in basis points.
pub(super) fn fits(state: &State, kind: AssetKind, new: &NewVersion, least_data: u16) -> anyhow::Result<()> {
    ensure!(kind != AssetKind::Datanet, "a Datanet is published by tributary datanet publish: nothing was sent");
    ensure!(
        new.parent_share_min <= SPLIT_TOTAL,
        "the least share is {} basis points, expected at most {SPLIT_TOTAL}: nothing was sent",
        new.parent_share_min
    );
    let parents = parents(state, kind, &new.parents)?;
    datanets(state, &new.datanets)?;
    rows(state, kind, &parents, &new.split, least_data)
}

/// The base of an adapter's version.
pub(in crate::command) fn base_of(state: &State, adapter: AssetVersion) -> Option<AssetVersion> {
    let parents = &state.version(adapter)?.parents;
    parents.iter().copied().find(|parent| state.asset(parent.asset).is_some_and(|asset| asset.kind == AssetKind::Base))
}

/// The kind of a version that is published and not frozen.
fn active(state: &State, version: AssetVersion) -> anyhow::Result<AssetKind> {
    let published =
        state.version(version).with_context(|| format!("version {version} is not published on this chain: nothing was sent"))?;
    if let Some(block) = published.frozen {
        let current = state.current(version.asset).map_or_else(|| "none of it is active".to_owned(), |current| format!("use {current}"));
        bail!("version {version} was frozen in block {block}, {current}: nothing was sent");
    }
    let asset = state.asset(version.asset).with_context(|| format!("asset {} is not registered: nothing was sent", version.asset))?;
    Ok(asset.kind)
}

fn parents(state: &State, kind: AssetKind, versions: &[AssetVersion]) -> anyhow::Result<Parents> {
    let mut found = Parents::default();
    for version in versions {
        let place = match (active(state, *version)?, kind) {
            (AssetKind::Base, AssetKind::Adapter | AssetKind::Agent) => &mut found.base,
            (AssetKind::Adapter, AssetKind::Agent) => &mut found.adapter,
            (parent, _) => bail!(
                "version {version} is of kind {}, on which no {} builds: an adapter names its base, an agent its base and at most one adapter; nothing was sent",
                word(parent),
                word(kind)
            ),
        };
        if let Some(other) = place.replace(*version) {
            bail!("versions {other} and {version} are both named, one of a kind is the most: nothing was sent");
        }
    }
    ensure!(kind == AssetKind::Base || found.base.is_some(), "it names no base version, which every {} has: nothing was sent", word(kind));
    if let (Some(adapter), Some(base)) = (found.adapter, found.base) {
        let own = base_of(state, adapter).with_context(|| format!("adapter {adapter} names no base: nothing was sent"))?;
        ensure!(own == base, "adapter {adapter} was published for base {own}, the agent names {base}: name {own}; nothing was sent");
    }
    Ok(found)
}

fn datanets(state: &State, versions: &[AssetVersion]) -> anyhow::Result<()> {
    ensure!(versions.len() <= DATANETS_MAX, "{} Datanets are named, at most {DATANETS_MAX} are taken: nothing was sent", versions.len());
    for (place, version) in versions.iter().enumerate() {
        let kind = active(state, *version)?;
        ensure!(kind == AssetKind::Datanet, "version {version} is no datanet, it is of kind {}: nothing was sent", word(kind));
        let is_named = versions[..place].iter().any(|other| other.asset == version.asset);
        ensure!(!is_named, "Datanet {} is named twice: nothing was sent", version.asset);
        // The registry would take it, and nobody could answer under it.
        erased::check(state, *version).context("nothing was sent")?;
    }
    Ok(())
}

fn rows(state: &State, kind: AssetKind, parents: &Parents, split: &SplitTable, least_data: u16) -> anyhow::Result<()> {
    ensure!(split.is_whole(), "the rows of the split do not sum to {SPLIT_TOTAL}: nothing was sent");
    ensure!(
        split.data >= least_data,
        "the data row is {} basis points, this chain asks for at least {least_data}: raise data in --split; nothing was sent",
        split.data
    );
    for (role, parent, row) in [("base", parents.base, split.base), ("adapter", parents.adapter, split.adapter)] {
        let demanded = parent.and_then(|parent| state.version(parent)).map_or(0, |version| version.parent_share_min);
        if let Some(parent) = parent.filter(|_| row < demanded) {
            bail!(
                "the {role} row is {row} basis points, the owner of {parent} asks for at least {demanded}: raise {role} in --split; nothing was sent"
            );
        }
    }
    let has_adapter = kind == AssetKind::Adapter || parents.adapter.is_some();
    for (role, row, is_there) in [("agent", split.agent, kind == AssetKind::Agent), ("adapter", split.adapter, has_adapter)] {
        ensure!(
            is_there || row == 0,
            "the {role} row is {row} basis points, and no {role} has a part in it: leave {role} out of --split; nothing was sent"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
