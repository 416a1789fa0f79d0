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
    /// The contribution that placed `object`, its shard, and the hash of the block that accepted it; nothing once all that name it are erased. Of several the one that was accepted first, since its
    /// contributor placed it for as long as any needs it; what falls and is contributed again is placed anew.
    pub fn contribution_of(&self, object: BlobId) -> Option<(&Accepted, Hash32)> {
        let named = self.objects.0.get(&object)?.iter();
        let named = named.filter_map(|((datanet, key), block)| Some((self.contributions.get(datanet)?.get(key)?, *block)));
        let mut all: Vec<_> = named.collect();
        all.sort_unstable_by_key(|(accepted, _)| accepted.accepted);
        // When the last of them was erased; nothing while one is needed.
        let (mut first, mut fell) = (None, Some((0, 0)));
        for (accepted, block) in all {
            if fell.is_some_and(|fell| fell < accepted.accepted) {
                first = Some((accepted, block));
            }
            let erased = self.erasure(accepted.datanet, accepted.number).map(|erasure| erasure.place);
            fell = fell.zip(erased).map(|(fell, erased)| fell.max(erased));
        }
        first.filter(|_| fell.is_none())
    }
}
