//! Who holds which fragment of a contribution. Pure; contributor and holder compute it alike.
//!
//! The seed is the hash of the block that holds the contribution's commitment: known to everyone once the contribution is accepted, and not
//! to its contributor when the text was fixed. Operators are those with stake whose ad offers storage. A holder that hears another set of ads
//! than the contributor refuses, and the contributor asks again once both have heard the same.

use std::collections::{BTreeMap, BTreeSet};

use chain_bridge::registry::{State, state::Accepted};
use storage::{
    erasure::{ObjectManifest, Profile},
    proto::placement::{TooFewOperators, holders},
};
use types::{
    id::{Address, BlobId, Hash32, NodeId},
    manifest::AssetKind,
};

/// Operators that may hold fragments, by account: registered, with active stake, and heard to offer storage.
pub fn operators(state: &State, storing: &BTreeSet<NodeId>) -> BTreeMap<Address, NodeId> {
    let eligible = state.operators().filter(|operator| operator.active.0 > 0 && storing.contains(&operator.node));
    eligible.map(|operator| (operator.account, operator.node)).collect()
}

/// The accepted contribution whose shard is `object`.
pub fn registered(state: &State, object: BlobId) -> Option<&Accepted> {
    let datanets = state.assets().filter(|asset| asset.kind == AssetKind::Datanet);
    datanets.flat_map(|asset| state.contributions(asset.id)).find(|accepted| accepted.object == object)
}

/// The holder of each fragment, by index.
///
/// # Errors
/// [`TooFewOperators`].
pub fn place(
    seed: Hash32,
    object: BlobId,
    profile: Profile,
    operators: &BTreeMap<Address, NodeId>,
) -> Result<Vec<(Address, NodeId)>, TooFewOperators> {
    let accounts = operators.keys().copied().collect();
    let placed = holders(seed, object, profile, &accounts)?;
    Ok(placed.into_iter().map(|account| (account, operators[&account])).collect())
}

/// The fragment of an object that `me` is to hold; nothing if none, or if the object's text is not the registered one.
pub fn assigned(
    accepted: &Accepted,
    manifest: &ObjectManifest,
    seed: Hash32,
    operators: &BTreeMap<Address, NodeId>,
    me: Address,
) -> Option<u8> {
    if accepted.object != manifest.id() || accepted.text_root != manifest.text_root() {
        return None;
    }
    let placed = place(seed, manifest.id(), manifest.profile(), operators).ok()?;
    let index = placed.iter().position(|(account, _)| *account == me)?;
    u8::try_from(index).ok()
}

#[cfg(test)]
mod tests {
    use storage::erasure::encode;
    use types::{contribution::Priority, id::AssetId};

    use super::*;

    fn accepted(manifest: &ObjectManifest) -> Accepted {
        Accepted {
            datanet: AssetId(1),
            number: 0,
            contributor: Address([9; 20]),
            text_root: manifest.text_root(),
            text_bytes: 3,
            documents: 1,
            priority: Priority { block: 7, ordinal: 0, document: 0 },
            licence: Hash32::ZERO,
            object: manifest.id(),
            report: Hash32::ZERO,
            accepted: (8, 0),
        }
    }

    fn five() -> BTreeMap<Address, NodeId> {
        (1..=5).map(|byte| (Address([byte; 20]), NodeId([byte; 32]))).collect()
    }

    #[test]
    fn every_operator_of_five_is_assigned_the_fragment_that_placement_gives_it() {
        let manifest = encode(b"shard", Hash32([4; 32]), Profile::DEVNET).unwrap().manifest;
        let (accepted, operators) = (accepted(&manifest), five());
        let placed = place(Hash32([1; 32]), manifest.id(), Profile::DEVNET, &operators).unwrap();
        for (index, (account, node)) in (0..).zip(placed) {
            assert_eq!(assigned(&accepted, &manifest, Hash32([1; 32]), &operators, account), Some(index));
            assert_eq!(operators[&account], node);
        }
        assert_eq!(assigned(&accepted, &manifest, Hash32([1; 32]), &operators, Address([6; 20])), None);
    }

    #[test]
    fn an_object_that_is_not_the_registered_one_is_assigned_to_nobody() {
        let manifest = encode(b"shard", Hash32([4; 32]), Profile::DEVNET).unwrap().manifest;
        let other_text = Accepted { text_root: Hash32([5; 32]), ..accepted(&manifest) };
        let other_object = Accepted { object: BlobId([5; 32]), ..accepted(&manifest) };
        for accepted in [other_text, other_object] {
            assert_eq!(assigned(&accepted, &manifest, Hash32([1; 32]), &five(), Address([1; 20])), None);
        }
    }
}
