//! Which files answer under a version: the base's, and the adapter's that it is or names.

use anyhow::{Context as _, ensure};
use chain_bridge::registry::State;
use types::{
    id::{AssetVersion, BlobId},
    manifest::AssetKind,
};

/// Contents of the files that a version is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Files {
    /// The base model.
    pub(super) base: BlobId,
    /// The adapter on it, if there is one.
    pub(super) adapter: Option<BlobId>,
}

/// The files of a base, of an adapter with its base, or of an agent with its base and the adapter it names: an agent is served by its adapter.
pub(super) fn files(state: &State, version: AssetVersion) -> anyhow::Result<Files> {
    let published = state.version(version).context("not published")?;
    let parent = |of: &[AssetVersion], kind: AssetKind| {
        of.iter().copied().find(|parent| state.asset(parent.asset).is_some_and(|asset| asset.kind == kind))
    };
    let content = |version: AssetVersion| state.version(version).map(|published| published.content).context("a parent is not published");
    match state.asset(version.asset).context("not registered")?.kind {
        AssetKind::Base => return Ok(Files { base: published.content, adapter: None }),
        AssetKind::Datanet => anyhow::bail!("a Datanet answers nothing"),
        AssetKind::Adapter | AssetKind::Agent => {}
    }
    let own = parent(&published.parents, AssetKind::Base).context("it names no base")?;
    let base = content(own)?;
    if state.asset(version.asset).is_some_and(|asset| asset.kind == AssetKind::Adapter) {
        return Ok(Files { base, adapter: Some(published.content) });
    }
    let Some(adapter) = parent(&published.parents, AssetKind::Adapter) else { return Ok(Files { base, adapter: None }) };
    let trained =
        state.version(adapter).and_then(|published| parent(&published.parents, AssetKind::Base)).context("its adapter names no base")?;
    ensure!(content(trained)? == base, "its adapter {adapter} was made for base {trained}, it names {own}: nobody can apply it");
    Ok(Files { base, adapter: Some(content(adapter)?) })
}

#[cfg(test)]
mod tests {
    use chain_bridge::registry::{Event, Logged};
    use types::{
        id::{Address, AssetId, Hash32},
        split::SplitTable,
        time::BlockRef,
    };

    use super::*;

    const fn at(asset: u64, version: u32) -> AssetVersion {
        AssetVersion { asset: AssetId(asset), version }
    }

    /// Base 1 in two versions, adapter 2 of 1@1, agents 3 over both of these, 4 over 1@2 and that adapter, 5 over 1@2 alone, and Datanet 6.
    fn state() -> State {
        let agent = AssetKind::Agent;
        let versions = [
            (at(1, 1), AssetKind::Base, 11, vec![]),
            (at(1, 2), AssetKind::Base, 12, vec![]),
            (at(2, 1), AssetKind::Adapter, 21, vec![at(1, 1)]),
            (at(3, 1), agent, 31, vec![at(2, 1), at(1, 1)]),
            (at(4, 1), agent, 41, vec![at(1, 2), at(2, 1)]),
            (at(5, 1), agent, 51, vec![at(1, 2)]),
            (at(6, 1), AssetKind::Datanet, 61, vec![]),
        ];
        let mut events = Vec::new();
        for (version, kind, content, parents) in versions {
            if version.version == 1 {
                events.push(Event::Registered { asset: version.asset, kind, owner: Address([9; 20]), uri: String::new() });
            }
            let (content, split) = (BlobId([content; 32]), SplitTable::default());
            events.push(Event::Published {
                version,
                content,
                parents,
                split,
                datanets: vec![],
                licence: Hash32::ZERO,
                parent_share_min: 0,
            });
        }
        let mut state = State::default();
        for (number, event) in (1..).zip(events) {
            let block = BlockRef { number, hash: Hash32::ZERO };
            state.apply(&Logged { block, log: 0, transaction: Hash32::ZERO, time: 0, event }).unwrap();
        }
        state
    }

    #[test]
    fn an_agent_is_answered_with_its_adapter_or_with_its_base_alone() {
        let state = state();
        let of = |asset, version| files(&state, at(asset, version)).map(|files| (files.base.0[0], files.adapter.map(|hash| hash.0[0])));
        assert_eq!(of(1, 2).unwrap(), (12, None));
        assert_eq!(of(2, 1).unwrap(), (11, Some(21)));
        assert_eq!(of(3, 1).unwrap(), (11, Some(21)));
        assert_eq!(of(5, 1).unwrap(), (12, None));
        assert!(of(6, 1).is_err() && of(7, 1).is_err());
    }

    #[test]
    fn an_agent_whose_adapter_was_made_for_another_base_is_not_served() {
        let error = files(&state(), at(4, 1)).unwrap_err().to_string();
        assert!(error.contains("its adapter 2@1 was made for base 1@1, it names 1@2"), "{error}");
    }
}
