//! The Merkle tree of RFC 6962 over SHA-256: roots, proofs as ranges of entries, their verification, and the levels that a growing log keeps.
//!
//! A proof is a list of ranges, leaf to root, each the root over its entries: [`inclusion_ranges`] and [`consistency_ranges`] are the recursions of RFC
//! 6962, sections 2.1.1 and 2.1.2, written as loops. Whoever can tell the hash of any perfect subtree ([`range_root`]) has every proof.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

use super::{Head, LogHash, tile::Tile};

/// Hashes of the longest proof of an entry: one for each bit of a size. One of consistency may have one more.
pub const PROOF_LEN_MAX: usize = 64;
/// Hashes in a full tile.
pub const TILE_HASHES: usize = 256;
/// The same number.
pub const TILE_WIDTH: u64 = TILE_HASHES as u64;
/// Levels of the tree in one tile.
pub const TILE_HEIGHT: u32 = 8;

/// Hash of an entry.
pub fn leaf_hash(entry: &[u8]) -> LogHash {
    LogHash(Sha256::new().chain_update([0]).chain_update(entry).finalize().into())
}

/// Hash of two subtrees side by side.
pub fn node_hash(left: LogHash, right: LogHash) -> LogHash {
    LogHash(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// Root over nothing.
pub fn empty_root() -> LogHash {
    LogHash(Sha256::digest([]).into())
}

/// The largest power of two below `entries`, which are two at least.
const fn split(entries: u64) -> u64 {
    1 << (u64::BITS - 1 - (entries - 1).leading_zeros())
}

/// A perfect subtree: entries `index << height` to `(index + 1) << height`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subtree {
    /// Levels above the entries.
    pub height: u32,
    /// Its number among those of its height.
    pub index: u64,
}

/// The perfect subtrees of a range, largest first. The range starts at a multiple of the largest one, as every range of a proof does.
pub fn subtrees(range: &Range<u64>) -> impl Iterator<Item = Subtree> {
    let (mut start, end) = (range.start, range.end);
    std::iter::from_fn(move || {
        let left = end.checked_sub(start).filter(|left| *left > 0)?;
        let height = left.ilog2();
        let subtree = Subtree { height, index: start >> height };
        start += 1 << height;
        Some(subtree)
    })
}

/// Root over a range of a proof, by the hashes of perfect subtrees.
///
/// # Errors
/// What `hash` says.
pub fn range_root<E>(range: &Range<u64>, mut hash: impl FnMut(Subtree) -> Result<LogHash, E>) -> Result<LogHash, E> {
    let peaks = subtrees(range).map(&mut hash).collect::<Result<Vec<_>, E>>()?;
    Ok(fold_peaks(&peaks))
}

/// Root over perfect subtrees side by side, largest first.
fn fold_peaks(peaks: &[LogHash]) -> LogHash {
    let joined = peaks.iter().rev().copied().reduce(|right, left| node_hash(left, right));
    joined.unwrap_or_else(empty_root)
}

/// Root over hashes of equal height, a power of two of them.
pub(super) fn fold_row(mut row: Vec<LogHash>) -> LogHash {
    while row.len() > 1 {
        row = row.chunks(2).map(|pair| if let [left, right] = pair { node_hash(*left, *right) } else { pair[0] }).collect();
    }
    row.first().copied().unwrap_or_else(empty_root)
}

/// What leads from entry `index` to the root over `size`, leaf to root; nothing if there is no such entry.
pub fn inclusion_ranges(index: u64, size: u64) -> Option<Vec<Range<u64>>> {
    (index < size).then(|| {
        let (mut start, mut end, mut ranges) = (0, size, Vec::new());
        while end - start > 1 {
            let middle = start + split(end - start);
            if index < middle {
                ranges.push(middle..end);
                end = middle;
            } else {
                ranges.push(start..middle);
                start = middle;
            }
        }
        ranges.reverse();
        ranges
    })
}

/// What shows that the first `old` of `new` entries are those of before; nothing if there were more of them. None are needed for a log of before
/// without entries.
pub fn consistency_ranges(old: u64, new: u64) -> Option<Vec<Range<u64>>> {
    if old == 0 {
        return Some(Vec::new());
    }
    (old <= new).then(|| {
        let (mut start, mut end, mut is_whole, mut ranges) = (0, new, true, Vec::new());
        while old != end {
            let middle = start + split(end - start);
            if old <= middle {
                ranges.push(middle..end);
                end = middle;
            } else {
                ranges.push(start..middle);
                (start, is_whole) = (middle, false);
            }
        }
        if !is_whole {
            ranges.push(start..end);
        }
        ranges.reverse();
        ranges
    })
}

/// Whether a proof leads from an entry's hash to the root (RFC 9162, section 2.1.3.2).
pub fn is_included(leaf: LogHash, index: u64, head: Head, proof: &[LogHash]) -> bool {
    if index >= head.size {
        return false;
    }
    let (mut place, mut last, mut hash) = (index, head.size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            hash = node_hash(*sibling, hash);
            while place & 1 == 0 && place != 0 {
                (place, last) = (place >> 1, last >> 1);
            }
        } else {
            hash = node_hash(hash, *sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    last == 0 && hash == head.root
}

/// Whether a proof shows that `new` goes on from `old` (RFC 9162, section 2.1.4.2). Every log goes on from an empty one, without a proof.
pub fn is_consistent(old: Head, new: Head, proof: &[LogHash]) -> bool {
    if old.size == 0 {
        return proof.is_empty() && old.root == empty_root() && (new.size > 0 || new.root == old.root);
    }
    if old.size >= new.size {
        return proof.is_empty() && old == new;
    }
    let own = old.size.is_power_of_two().then_some(old.root);
    let mut path = own.iter().chain(proof).copied();
    let Some(first) = path.next() else { return false };
    let (mut place, mut last) = (old.size - 1, new.size - 1);
    while place & 1 == 1 {
        (place, last) = (place >> 1, last >> 1);
    }
    let (mut before, mut after) = (first, first);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            (before, after) = (node_hash(sibling, before), node_hash(sibling, after));
            while place & 1 == 0 && place != 0 {
                (place, last) = (place >> 1, last >> 1);
            }
        } else {
            after = node_hash(after, sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    last == 0 && before == old.root && after == new.root
}

/// What a growing log keeps of its tree: hashes of entries in the last tile, and of every full tile.
#[derive(Debug, Clone, Default)]
pub struct Levels {
    size: u64,
    /// By tile level: hashes of entries since the last full tile at 0, all hashes above.
    rows: Vec<Vec<LogHash>>,
}

impl Levels {
    /// Of no entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Entries.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds an entry's hash.
    pub fn push(&mut self, leaf: LogHash) {
        self.size += 1;
        let mut carried = Some(leaf);
        let mut level = 0;
        while let Some(hash) = carried.take() {
            if self.rows.len() == level {
                self.rows.push(Vec::new());
            }
            let row = &mut self.rows[level];
            row.push(hash);
            if row.len().is_multiple_of(TILE_HASHES) {
                carried = Some(fold_row(row[row.len() - TILE_HASHES..].to_vec()));
                if level == 0 {
                    row.clear();
                }
            }
            level += 1;
        }
    }

    /// How many entries, and the root over them.
    pub fn head(&self) -> Head {
        let mut peaks = Vec::new();
        for (level, row) in self.rows.iter().enumerate().rev() {
            // What the level above does not hold yet.
            let open = if level == 0 { row.len() } else { row.len() % TILE_HASHES };
            let mut rest = &row[row.len() - open..];
            while !rest.is_empty() {
                let (perfect, others) = rest.split_at(1 << rest.len().ilog2());
                peaks.push(fold_row(perfect.to_vec()));
                rest = others;
            }
        }
        Head { size: self.size, root: fold_peaks(&peaks) }
    }

    /// Hashes of a tile above the entries; nothing of one at level 0 or past the end.
    pub fn upper(&self, tile: Tile) -> Option<&[LogHash]> {
        let row = self.rows.get(usize::from(tile.level())).filter(|_| tile.level() > 0)?;
        let start = usize::try_from(tile.index().checked_mul(TILE_WIDTH)?).ok()?;
        row.get(start..start.checked_add(usize::from(tile.width()))?)
    }
}
