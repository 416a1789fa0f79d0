//! Whether a log goes on from the head that somebody saw of it last, and what it did if not.

use std::ops::Range;

use super::{
    Head,
    tile::{TileError, Tiles},
    tree::{consistency_ranges, is_consistent},
};

/// How a head stands to the one of before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// None was seen before.
    First,
    /// It is the same.
    Same,
    /// It goes on from it.
    Grown,
}

/// Why a head is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// Two heads that one log cannot have, each signed by it.
    #[error(
        "THE LOG FORKED: it signed {old} entries with the root {} and {new} entries with the root {}, and no log has both: entries that it had shown were \
         changed, dropped or shown to others only",
        old_head.root, new_head.root, old = old_head.size, new = new_head.size
    )]
    Fork {
        /// The head seen before.
        old_head: Head,
        /// The one shown now.
        new_head: Head,
    },
    /// Fewer entries than before.
    #[error("THE LOG SHRANK: it signed {old} entries before and shows a head of {new}: entries were taken back, or an old head is shown")]
    Shrunk {
        /// Entries before.
        old: u64,
        /// Entries now.
        new: u64,
    },
    /// Tiles that are not the tree's.
    #[error(
        "the tiles served give another root than the head that the log signed over {0} entries: they prove nothing; ask again, or another copy of the log"
    )]
    Tiles(u64),
    /// A tile is missing.
    #[error(transparent)]
    Missing(#[from] TileError),
}

impl FollowError {
    /// Whether both signed heads together convict the log.
    pub const fn is_fork(&self) -> bool {
        matches!(self, Self::Fork { .. })
    }
}

/// The ranges whose tiles [`follow`] needs.
pub fn needed(kept: Option<Head>, new: Head) -> Vec<Range<u64>> {
    let old = kept.map_or(0, |kept| kept.size).min(new.size);
    let consistency = consistency_ranges(old, new.size).unwrap_or_default();
    consistency.into_iter().chain([0..old, 0..new.size]).collect()
}

/// Holds the head that a log shows, and `tiles` of it, against the one that was kept.
///
/// # Errors
/// [`FollowError`].
pub fn follow(kept: Option<Head>, new: Head, tiles: &Tiles) -> Result<Followed, FollowError> {
    if let Some(old) = kept {
        if old.size > new.size {
            return Err(FollowError::Shrunk { old: old.size, new: new.size });
        }
        if old.size == new.size {
            return if old == new { Ok(Followed::Same) } else { Err(FollowError::Fork { old_head: old, new_head: new }) };
        }
    }
    if tiles.head(new.size)? != new {
        return Err(FollowError::Tiles(new.size));
    }
    let Some(old) = kept else { return Ok(Followed::First) };
    // Tiles are whoever's served them, a cache's or a liar's on the way: what they say of the first entries accuses the log only where it is under the new
    // head, which the log signed.
    let then = tiles.head(old.size)?;
    if !is_consistent(then, new, &tiles.consistency(old.size)?) {
        return Err(FollowError::Tiles(new.size));
    }
    if then == old { Ok(Followed::Grown) } else { Err(FollowError::Fork { old_head: old, new_head: new }) }
}

#[cfg(test)]
mod tests {
    use crate::log::{
        LogHash, tile,
        tree::{Levels, leaf_hash},
    };

    use super::*;

    /// A log of `size` entries of which number `lie` is another one.
    fn log(size: u64, lie: Option<u64>) -> (Levels, Vec<LogHash>) {
        let leaves: Vec<_> =
            (0..size).map(|number| leaf_hash(&[number.to_be_bytes().as_slice(), &[u8::from(lie == Some(number))]].concat())).collect();
        let mut levels = Levels::new();
        leaves.iter().for_each(|leaf| levels.push(*leaf));
        (levels, leaves)
    }

    fn followed(kept: Option<Head>, (levels, leaves): &(Levels, Vec<LogHash>), signed: Head) -> Result<Followed, FollowError> {
        let mut tiles = Tiles::new(signed.size);
        for tile in tiles.needed(&needed(kept, signed)) {
            let range = usize::try_from(tile.entries().start).unwrap()..usize::try_from(tile.entries().end).unwrap();
            let row = if tile.level() == 0 { &leaves[range] } else { levels.upper(tile).unwrap() };
            tiles.insert(tile, &tile::to_bytes(row)).unwrap();
        }
        follow(kept, signed, &tiles)
    }

    #[test]
    fn a_log_that_grows_is_followed_and_one_that_forks_or_shrinks_is_refused() {
        let (before, now, forked) = (log(300, None), log(900, None), log(900, Some(7)));
        let old = before.0.head();
        assert_eq!(followed(None, &now, now.0.head()), Ok(Followed::First));
        assert_eq!(followed(Some(old), &now, now.0.head()), Ok(Followed::Grown));
        assert_eq!(followed(Some(Head::empty()), &now, now.0.head()), Ok(Followed::Grown));
        assert_eq!(followed(Some(old), &before, old), Ok(Followed::Same));
        let fork = followed(Some(old), &forked, forked.0.head()).unwrap_err();
        assert!(fork.is_fork() && fork.to_string().contains("THE LOG FORKED: it signed 300 entries"), "{fork}");
        let same_size = log(300, Some(7));
        assert!(followed(Some(old), &same_size, same_size.0.head()).unwrap_err().is_fork());
        assert_eq!(followed(Some(now.0.head()), &before, old), Err(FollowError::Shrunk { old: 900, new: 300 }));
        assert_eq!(followed(Some(old), &forked, now.0.head()), Err(FollowError::Tiles(900)), "tiles of another log are no proof of a fork");
    }

    #[test]
    fn a_tile_that_was_changed_on_the_way_accuses_nobody() {
        for (before, size) in [(300, 900), (256, 900), (255, 256), (1, 300), (512, 513)] {
            let (kept, (levels, leaves)) = (log(before, None).0.head(), log(size, None));
            let head = levels.head();
            let all = Tiles::new(size).needed(&needed(Some(kept), head));
            for changed in &all {
                let mut tiles = Tiles::new(size);
                for tile in &all {
                    let range = usize::try_from(tile.entries().start).unwrap()..usize::try_from(tile.entries().end).unwrap();
                    let row = if tile.level() == 0 { &leaves[range] } else { levels.upper(*tile).unwrap() };
                    let mut bytes = tile::to_bytes(row);
                    bytes[0] ^= u8::from(tile == changed);
                    tiles.insert(*tile, &bytes).unwrap();
                }
                // A tile whose first hash no proof needs changes nothing.
                let followed = follow(Some(kept), head, &tiles);
                assert!(
                    matches!(followed, Ok(Followed::Grown) | Err(FollowError::Tiles(_))),
                    "{before} of {size}: {changed:?}: {followed:?}"
                );
            }
        }
    }
}
