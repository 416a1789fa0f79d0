//! What an owner may change of an asset, checked against the books before anything is paid.

use std::fmt;

use anyhow::{Context as _, bail, ensure};
use chain_bridge::{
    client::assets::NewVersion,
    registry::{
        State,
        state::{Asset, Version},
    },
};
use types::{
    id::{Address, AssetId, AssetVersion, BlobId, Hash32},
    manifest::AssetKind,
    split::SplitTable,
};

/// One change that the chain will take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Ends a version.
    Freeze(AssetVersion),
    /// Ends a version, unless it is ended already, and puts another one in its place.
    Redirect { from: AssetVersion, to: u32 },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Freeze(version) => write!(f, "freeze version {version}"),
            Self::Redirect { from, to } => write!(f, "redirect version {from} to {to}"),
        }
    }
}

/// What a new version shall be; nothing stands for what the newest version has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) content: Option<BlobId>,
    pub(super) parents: Vec<AssetVersion>,
    pub(super) datanets: Vec<AssetVersion>,
    pub(super) split: Option<SplitTable>,
    pub(super) licence: Option<Hash32>,
    pub(super) least_share: Option<u16>,
}

/// The asset, if the account owns it.
fn owned(state: &State, own: Address, asset: AssetId) -> anyhow::Result<&Asset> {
    let known =
        state.asset(asset).with_context(|| format!("asset {asset} is not registered, {}: nothing was sent", super::newest(state)))?;
    let owner = known.owner();
    ensure!(owner == own, "asset {asset} belongs to {owner}, this wallet is {own}: nothing was sent; its owner alone changes it");
    Ok(known)
}

fn published(state: &State, version: AssetVersion) -> anyhow::Result<&Version> {
    let newest = state.asset(version.asset).map_or(0, |asset| asset.versions);
    state.version(version).with_context(|| match newest {
        0 => format!("asset {} has no version yet: nothing was sent", version.asset),
        newest => format!("version {version} was never published, the newest is {newest}: nothing was sent"),
    })
}

/// Where the redirects of an asset lead from its last version: the current one, or a frozen one that nothing stands for yet.
fn end(state: &State, asset: AssetId) -> Option<AssetVersion> {
    let mut version = AssetVersion { asset, version: state.asset(asset)?.versions };
    // Each step leads to a version that was active when it was made, so no more steps than versions.
    for _ in 0..version.version {
        match state.version(version)?.superseded_by {
            Some(by) => version.version = by,
            None => break,
        }
    }
    Some(version).filter(|version| version.version > 0)
}

/// Numbers of an asset's active versions, oldest first.
fn active(state: &State, asset: AssetId) -> Vec<u32> {
    let of_asset = state.versions().filter(|(version, published)| version.asset == asset && published.frozen.is_none());
    of_asset.map(|(version, _)| version.version).collect()
}

impl Change {
    pub(super) fn freeze(state: &State, own: Address, version: AssetVersion) -> anyhow::Result<Self> {
        owned(state, own, version.asset)?;
        if let Some(block) = published(state, version)?.frozen {
            bail!("version {version} was frozen in block {block} already: nothing was sent");
        }
        Ok(Self::Freeze(version))
    }

    pub(super) fn redirect(state: &State, own: Address, asset: AssetId, from: Option<u32>, to: u32) -> anyhow::Result<Self> {
        owned(state, own, asset)?;
        let from = match from {
            Some(from) => AssetVersion { asset, version: from },
            None => state
                .current(asset)
                .with_context(|| format!("asset {asset} has no active version: name one by --from; nothing was sent"))?,
        };
        if let Some(by) = published(state, from)?.superseded_by {
            bail!("version {from} was superseded by {by} already, which happens once: redirect {asset}@{by} instead; nothing was sent");
        }
        ensure!(from.version != to, "version {from} cannot take its own place: nothing was sent");
        let is_frozen = published(state, AssetVersion { asset, version: to })?.frozen.is_some();
        let others: Vec<String> =
            active(state, asset).into_iter().filter(|other| *other != from.version).map(|other| other.to_string()).collect();
        let choice = if others.is_empty() { "there is none; publish one".to_owned() } else { format!("name one of {}", others.join(", ")) };
        ensure!(!is_frozen, "version {asset}@{to} is frozen, and an active one must take the place of another: {choice}; nothing was sent");
        Ok(Self::Redirect { from, to })
    }

    pub(super) fn rollback(state: &State, own: Address, asset: AssetId) -> anyhow::Result<Self> {
        owned(state, own, asset)?;
        let from = end(state, asset).with_context(|| format!("asset {asset} has no version yet: nothing was sent"))?;
        let earlier = active(state, asset).into_iter().rev().find(|version| *version < from.version);
        let to = earlier.with_context(|| {
            format!("no version of asset {asset} before {} is active: there is nothing to go back to; nothing was sent", from.version)
        })?;
        Self::redirect(state, own, asset, Some(from.version), to)
    }
}

/// The next version of an asset: like its newest one but for what is wanted.
pub(super) fn publication(state: &State, own: Address, asset: AssetId, wanted: Wanted) -> anyhow::Result<(AssetId, NewVersion)> {
    let known = owned(state, own, asset)?;
    ensure!(
        known.kind != AssetKind::Datanet,
        "asset {asset} is a Datanet, whose content is what was accepted: nothing was sent; run tributary datanet publish {asset}"
    );
    let last = AssetVersion { asset, version: known.versions };
    let newest = state.newest(asset).or(Some(last)).and_then(|version| state.version(version));
    let missing = |what: &str| format!("asset {asset} has no version yet to take {what} from: give --{what}; nothing was sent");
    let or_newest = |given: Vec<AssetVersion>, of: fn(&Version) -> &Vec<AssetVersion>| match newest {
        Some(newest) if given.is_empty() => of(newest).clone(),
        _ => given,
    };
    let new = NewVersion {
        content: wanted.content.or_else(|| newest.map(|newest| newest.content)).with_context(|| missing("content"))?,
        parents: or_newest(wanted.parents, |newest| &newest.parents),
        split: wanted.split.or_else(|| newest.map(|newest| newest.split)).with_context(|| missing("split"))?,
        datanets: or_newest(wanted.datanets, |newest| &newest.datanets),
        licence: wanted.licence.or_else(|| newest.map(|newest| newest.licence)).with_context(|| missing("licence"))?,
        parent_share_min: wanted.least_share.or_else(|| newest.map(|newest| newest.parent_share_min)).unwrap_or(0),
    };
    Ok((asset, new))
}

#[cfg(test)]
mod tests {
    use chain_bridge::registry::{Event, Logged};
    use types::time::BlockRef;

    use super::*;

    const OWNER: Address = Address([1; 20]);
    const OTHER: Address = Address([2; 20]);
    const ASSET: AssetId = AssetId(1);

    const fn at(version: u32) -> AssetVersion {
        AssetVersion { asset: ASSET, version }
    }

    /// An asset of `count` versions, and what happened to it since; asset 2 has none.
    fn state(count: u32, later: &[Event]) -> State {
        let split = SplitTable { node: 5_500, base: 1_500, adapter: 1_500, data: 1_000, stakers: 500, ..SplitTable::default() };
        let registered = |asset, kind| {
            let (asset, owner) = (AssetId(asset), OWNER);
            [Event::Transferred { asset, to: owner }, Event::Registered { asset, kind, owner, uri: "tributary:adapter:poems".into() }]
        };
        let mut events: Vec<Event> = registered(1, AssetKind::Adapter).into_iter().chain(registered(2, AssetKind::Datanet)).collect();
        events.extend((1..=count).map(|number| Event::Published {
            version: at(number),
            content: BlobId([7; 32]),
            parents: vec![],
            split,
            datanets: vec![],
            licence: Hash32([3; 32]),
            parent_share_min: 0,
        }));
        events.extend(later.iter().cloned());
        let mut state = State::default();
        for (number, event) in (1..).zip(events) {
            let block = BlockRef { number, hash: Hash32::ZERO };
            state.apply(&Logged { block, log: 0, transaction: Hash32::ZERO, time: 0, event }).unwrap();
        }
        state
    }

    fn redirected(from: u32, to: u32) -> [Event; 2] {
        [Event::Frozen { version: at(from) }, Event::Redirected { asset: ASSET, from, to }]
    }

    #[test]
    fn what_the_chain_would_refuse_is_refused_in_words_before() {
        let frozen = state(3, &[Event::Frozen { version: at(2) }]);
        let superseded = state(3, &redirected(3, 1));
        let cases: [(anyhow::Result<Change>, &str); 12] = [
            (Change::freeze(&frozen, OTHER, at(1)), "belongs to 0x0101"),
            (Change::freeze(&frozen, OWNER, at(9)), "never published, the newest is 3"),
            (Change::freeze(&frozen, OWNER, at(2)), "frozen in block 8 already"),
            (Change::freeze(&frozen, OWNER, AssetVersion { asset: AssetId(7), version: 1 }), "not registered, the newest is 2"),
            (Change::freeze(&frozen, OWNER, AssetVersion { asset: AssetId(2), version: 1 }), "has no version yet"),
            (Change::redirect(&frozen, OTHER, ASSET, None, 1), "belongs to"),
            (Change::redirect(&frozen, OWNER, ASSET, None, 3), "its own place"),
            (
                Change::redirect(&frozen, OWNER, ASSET, None, 2),
                "1@2 is frozen, and an active one must take the place of another: name one of 1",
            ),
            (Change::redirect(&frozen, OWNER, ASSET, None, 8), "1@8 was never published"),
            (Change::redirect(&superseded, OWNER, ASSET, Some(3), 2), "superseded by 1 already"),
            (Change::rollback(&superseded, OWNER, ASSET), "no version of asset 1 before 1 is active"),
            (Change::rollback(&frozen, OTHER, ASSET), "belongs to"),
        ];
        for (change, says) in cases {
            let error = change.expect_err(says).to_string();
            assert!(error.contains(says) && (error.contains("nothing was sent")), "{says}: {error}");
        }
    }

    #[test]
    fn a_rollback_goes_to_the_newest_earlier_active_version() {
        let redirect = |from, to| Change::Redirect { from: at(from), to };
        assert_eq!(Change::rollback(&state(3, &[]), OWNER, ASSET).unwrap(), redirect(3, 2));
        let gap = state(3, &[Event::Frozen { version: at(2) }]);
        assert_eq!(Change::rollback(&gap, OWNER, ASSET).unwrap(), redirect(3, 1));
        // The newest one is frozen already, and nothing took its place.
        let frozen = state(3, &[Event::Frozen { version: at(3) }]);
        assert_eq!(Change::rollback(&frozen, OWNER, ASSET).unwrap(), redirect(3, 2));
        let again = state(3, &redirected(3, 2));
        assert_eq!(Change::rollback(&again, OWNER, ASSET).unwrap(), redirect(2, 1));
        assert_eq!(Change::redirect(&state(3, &[]), OWNER, ASSET, None, 1).unwrap(), redirect(3, 1));
        assert_eq!(Change::freeze(&state(3, &[]), OWNER, at(1)).unwrap(), Change::Freeze(at(1)));
    }

    #[test]
    fn a_new_version_is_like_the_newest_but_for_what_is_named() {
        let state = state(1, &[]);
        let wanted = Wanted { content: Some(BlobId([9; 32])), least_share: Some(5), ..Wanted::default() };
        let (_, new) = publication(&state, OWNER, ASSET, wanted).unwrap();
        assert_eq!((new.content, new.parent_share_min, new.split.node, new.licence), (BlobId([9; 32]), 5, 5_500, Hash32([3; 32])));
        let error = publication(&state, OWNER, AssetId(2), Wanted::default()).unwrap_err().to_string();
        assert!(error.contains("tributary datanet publish 2"), "{error}");
        let error = publication(&state, OTHER, ASSET, Wanted::default()).unwrap_err().to_string();
        assert!(error.contains("belongs to"), "{error}");
    }
}
