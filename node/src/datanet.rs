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
pub mod granted;
pub mod keeping;
pub mod members;
pub mod placing;
pub mod review;
pub mod seals;
pub mod seeds;
pub mod serving;
pub mod shards;
pub mod spread;
pub mod terms;

use anyhow::{Context as _, bail};
use chain_bridge::registry::{
    State,
    state::{Accepted, Asset},
};
use storage::datanet::Card;
use types::{
    id::{Address, AssetId, AssetVersion, BlobId, Hash32},
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

/// The contribution that keeps `contributor`'s of the same text out of a Datanet, where its commitment stands at `own` (block and ordinal), if it is made: its own, one
/// that was committed to earlier, or one that was erased. One that was committed to later keeps nobody out, though it was accepted first.
pub fn in_the_way(state: &State, datanet: AssetId, text_root: Hash32, contributor: Address, own: Option<(u64, u32)>) -> Option<&Accepted> {
    let is_earlier = |held: &Accepted| own.is_none_or(|own| (held.priority.block, held.priority.ordinal) < own);
    let of_text = state.contributions(datanet).filter(|held| held.text_root == text_root);
    let mut held =
        of_text.filter(|held| held.contributor == contributor || is_earlier(held) || state.erasure(datanet, held.number).is_some());
    held.next()
}

/// Content hash of a Datanet version: keccak of its contributions' text roots, one after another in priority order.
pub fn content<'a>(contributions: impl Iterator<Item = &'a Accepted>) -> BlobId {
    let roots: Vec<u8> = contributions.flat_map(|accepted| accepted.text_root.0).collect();
    BlobId(keccak(&[&roots]).0)
}

#[cfg(test)]
mod tests {
    use chain_bridge::registry::{Event, Logged};
    use types::time::BlockRef;

    use super::*;

    const NET: AssetId = AssetId(4);
    const TEXT: Hash32 = Hash32([7; 32]);

    /// Contributions of one text or object, in the order of their acceptance: contributor, block and ordinal of the commitment.
    fn state(accepted: &[(u8, u64, u32)], erased: Option<u64>) -> State {
        let uri = r#"{"name":"a","description":"","licence":"MIT","languages":[],"tags":[]}"#.to_owned();
        let owner = Address([9; 20]);
        let mut events =
            vec![Event::Transferred { asset: NET, to: owner }, Event::Registered { asset: NET, kind: AssetKind::Datanet, owner, uri }];
        events.extend((0..).zip(accepted).map(|(number, (who, block, ordinal))| Event::Accepted {
            datanet: NET,
            number,
            contributor: Address([*who; 20]),
            text_root: TEXT,
            text_bytes: 30,
            documents: 3,
            block: *block,
            ordinal: *ordinal,
            licence: Hash32::ZERO,
            object: BlobId([1; 32]),
            report: Hash32::ZERO,
        }));
        let object = BlobId([1; 32]);
        events.extend(erased.map(|number| Event::Erased { datanet: NET, number, by: owner, object, reason: Hash32([1; 32]) }));
        let mut state = State::default();
        for (number, event) in (1..).zip(events) {
            let block = BlockRef { number: 100 + number, hash: Hash32::ZERO };
            state.apply(&Logged { block, log: 0, transaction: Hash32::ZERO, time: 0, event }).unwrap();
        }
        state
    }

    #[test]
    fn of_two_who_bring_one_text_the_later_commitment_keeps_nobody_out() {
        let (ben, own) = (Address([2; 20]), Some((10, 1)));
        // (accepted before, erased, Ben's commitment, the number that is in Ben's way)
        for (accepted, erased, own, number) in [
            (&[][..], None, own, None),
            (&[(1, 10, 2)], None, own, None),
            (&[(1, 11, 0)], None, own, None),
            (&[(1, 10, 0)], None, own, Some(0)),
            (&[(1, 9, 5)], None, own, Some(0)),
            (&[(1, 10, 2), (3, 10, 0)], None, own, Some(1)),
            (&[(1, 10, 2)], None, None, Some(0)),
            (&[(2, 10, 2)], None, own, Some(0)),
            (&[(1, 10, 2)], Some(0), own, Some(0)),
        ] {
            let state = state(accepted, erased);
            let found = in_the_way(&state, NET, TEXT, ben, own).map(|held| held.number);
            assert_eq!(found, number, "{accepted:?} {erased:?} {own:?}");
        }
    }

    #[test]
    fn an_object_is_placed_by_whose_contribution_was_accepted_first_whatever_comes_after() {
        let of = |accepted: &[(u8, u64, u32)], erased| {
            let state = state(accepted, erased);
            placing::registered(&state, BlobId([1; 32])).map(|accepted| accepted.number)
        };
        assert_eq!(of(&[(1, 10, 2)], None), Some(0));
        assert_eq!(of(&[(1, 10, 2), (2, 10, 1)], None), Some(0), "an earlier commitment that is accepted later moves no fragment");
        assert_eq!(of(&[(1, 10, 2), (2, 10, 1)], Some(0)), Some(0), "who placed it did, and another contribution needs it still");
        assert_eq!(of(&[(1, 10, 2)], Some(0)), None);
        assert_eq!(of(&[], None), None);
    }
}
