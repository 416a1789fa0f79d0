//! Which contribution an object is, without looking through them all, and the hash of the block that accepted it: from that block on anybody can draw who holds the
//! object, and whoever keeps thousands of them asks the chain for none of these blocks. A reorganisation takes an entry back with its event. About 100 bytes a
//! contribution.

use std::collections::BTreeMap;

use types::id::{AssetId, BlobId, Hash32};

use super::{State, state::Accepted};

/// A contribution's place: its Datanet, and its key there.
type Place = (AssetId, (u64, u32, u64));

/// Contributions by what they name, each with its block's hash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Objects(BTreeMap<BlobId, BTreeMap<Place, Hash32>>);

impl Objects {
    /// Notes an accepted contribution.
    pub(super) fn accepted(&mut self, object: BlobId, place: Place, block: Hash32) {
        self.0.entry(object).or_default().insert(place, block);
    }
}

impl State {
    /// The contribution whose shard is `object` and which nobody asked to erase, and the hash of the block that accepted it. Of several, which only two Datanets with
    /// the same text have, the first in the Datanet of the lowest number.
    pub fn contribution_of(&self, object: BlobId) -> Option<(&Accepted, Hash32)> {
        let named = self.objects.0.get(&object)?.iter();
        let mut all = named.filter_map(|((datanet, key), block)| Some((self.contributions.get(datanet)?.get(key)?, *block)));
        all.find(|(accepted, _)| self.erasure(accepted.datanet, accepted.number).is_none())
    }
}
