//! Tiles: 256 hashes of one level, or fewer at the right edge, under paths that never change what they say (tlog-tiles).

use std::{collections::BTreeMap, fmt, ops::Range};

use super::{
    Head, LogHash, decimal,
    tree::{Subtree, TILE_HASHES, TILE_HEIGHT, TILE_WIDTH, consistency_ranges, fold_row, inclusion_ranges, range_root, subtrees},
};

/// Highest tile level that a path names: 63 by the text; a size of 64 bits needs 7.
const LEVEL_MAX: u64 = 63;
/// Bytes of a full tile.
pub const TILE_BYTES_MAX: usize = 32 * TILE_HASHES;
/// Longest path read: 20 digits in groups, level and width around them.
const PATH_BYTES_MAX: usize = 64;

/// A tile's place and how many hashes it has: 256, or fewer at the right edge of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tile {
    level: u8,
    index: u64,
    width: u16,
}

/// What a path of a log names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Hashes.
    Tile(Tile),
    /// The entries under a tile of level 0.
    Entries(Tile),
}

impl Tile {
    /// The tile of `level` numbered `index` in a tree of `size`; nothing if it has no hash there.
    pub fn at(level: u8, index: u64, size: u64) -> Option<Self> {
        let hashes = size.checked_shr(TILE_HEIGHT * u32::from(level)).unwrap_or(0);
        let width = hashes.checked_sub(index.checked_mul(TILE_WIDTH)?)?.min(TILE_WIDTH);
        let width = u16::try_from(width).ok().filter(|width| *width > 0)?;
        Some(Self { level, index, width })
    }

    /// Level: 0 holds hashes of entries.
    pub const fn level(self) -> u8 {
        self.level
    }

    /// Number within the level.
    pub const fn index(self) -> u64 {
        self.index
    }

    /// Hashes.
    pub const fn width(self) -> u16 {
        self.width
    }

    /// The entries that a tile of level 0 stands for.
    pub fn entries(self) -> Range<u64> {
        let start = self.index * TILE_WIDTH;
        start..start + u64::from(self.width)
    }

    fn number(self) -> String {
        let mut groups = vec![format!("{:03}", self.index % 1_000)];
        let mut rest = self.index / 1_000;
        while rest > 0 {
            groups.push(format!("x{:03}", rest % 1_000));
            rest /= 1_000;
        }
        groups.reverse();
        let partial = if u64::from(self.width) == TILE_WIDTH { String::new() } else { format!(".p/{}", self.width) };
        groups.join("/") + &partial
    }
}

impl fmt::Display for Resource {
    /// The path, without a slash before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tile(tile) => write!(f, "tile/{}/{}", tile.level, tile.number()),
            Self::Entries(tile) => write!(f, "tile/entries/{}", tile.number()),
        }
    }
}

impl Resource {
    /// What the path behind `tile/` names; nothing for any spelling but the one.
    pub fn parse(path: &str) -> Option<Self> {
        if path.len() > PATH_BYTES_MAX {
            return None;
        }
        let (kind, rest) = path.split_once('/')?;
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, decimal(width).filter(|width| (1..TILE_WIDTH).contains(width))?),
            None => (rest, TILE_WIDTH),
        };
        let groups: Vec<&str> = number.split('/').collect();
        let (last, before) = groups.split_last()?;
        let digits =
            |group: &str| (group.len() == 3 && group.bytes().all(|digit| digit.is_ascii_digit())).then(|| group.parse::<u64>().ok())?;
        let mut index: u64 = 0;
        for group in before {
            index = index.checked_mul(1_000)?.checked_add(digits(group.strip_prefix('x')?)?)?;
        }
        index = index.checked_mul(1_000)?.checked_add(digits(last)?)?;
        // So that ranges of entries never overflow.
        index.checked_add(1)?.checked_mul(TILE_WIDTH)?;
        let width = u16::try_from(width).ok()?;
        let resource = match kind {
            "entries" => Self::Entries(Tile { level: 0, index, width }),
            level => Self::Tile(Tile { level: u8::try_from(decimal(level).filter(|level| *level <= LEVEL_MAX)?).ok()?, index, width }),
        };
        // Groups of zeroes before the first digit would be a second spelling.
        (resource.to_string().strip_prefix("tile/") == Some(path)).then_some(resource)
    }
}

/// Hashes of a tile as bytes.
pub fn to_bytes(hashes: &[LogHash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// Why a tile or a proof from tiles is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// Another number of bytes than its width asks for.
    #[error("{path} has {got} bytes, expected {expected}")]
    Length {
        /// Path.
        path: String,
        /// Bytes that came.
        got: usize,
        /// Expected.
        expected: usize,
    },
    /// A tile that was not fetched.
    #[error("{0} is needed and is not there")]
    Missing(String),
    /// A proof of what is not in the tree.
    #[error("a log of {size} entries has none numbered {index}")]
    Past {
        /// What was asked for.
        index: u64,
        /// Entries.
        size: u64,
    },
}

/// Tiles of a tree that somebody serves; what is made from them is as good as the root it is held against.
#[derive(Debug, Clone)]
pub struct Tiles {
    size: u64,
    hashes: BTreeMap<(u8, u64), Vec<LogHash>>,
}

impl Tiles {
    /// None yet, of a tree with `size` entries.
    pub const fn new(size: u64) -> Self {
        Self { size, hashes: BTreeMap::new() }
    }

    /// The tiles that the roots over these ranges need, each once.
    pub fn needed<'r>(&self, ranges: impl IntoIterator<Item = &'r Range<u64>>) -> Vec<Tile> {
        let mut tiles: Vec<Tile> =
            ranges.into_iter().flat_map(subtrees).filter_map(|subtree| self.place(subtree).map(|(tile, _)| tile)).collect();
        tiles.sort_unstable();
        tiles.dedup();
        tiles
    }

    /// Takes what came for a tile.
    ///
    /// # Errors
    /// [`TileError::Length`].
    pub fn insert(&mut self, tile: Tile, bytes: &[u8]) -> Result<(), TileError> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        if hashes.len() != usize::from(tile.width) || !rest.is_empty() {
            let expected = 32 * usize::from(tile.width);
            return Err(TileError::Length { path: Resource::Tile(tile).to_string(), got: bytes.len(), expected });
        }
        self.hashes.insert((tile.level, tile.index), hashes.iter().copied().map(LogHash).collect());
        Ok(())
    }

    /// The tile of a subtree, and its hashes there.
    fn place(&self, subtree: Subtree) -> Option<(Tile, Range<usize>)> {
        let (level, inside) = (u8::try_from(subtree.height / TILE_HEIGHT).ok()?, subtree.height % TILE_HEIGHT);
        let first = subtree.index << inside;
        let tile = Tile::at(level, first / TILE_WIDTH, self.size)?;
        let start = usize::try_from(first % TILE_WIDTH).ok()?;
        Some((tile, start..start + (1 << inside)))
    }

    fn hash(&self, subtree: Subtree) -> Result<LogHash, TileError> {
        let past = || TileError::Past { index: subtree.index << subtree.height, size: self.size };
        let (tile, range) = self.place(subtree).ok_or_else(past)?;
        let row = self.hashes.get(&(tile.level, tile.index)).and_then(|hashes| hashes.get(range));
        row.map(|row| fold_row(row.to_vec())).ok_or_else(|| TileError::Missing(Resource::Tile(tile).to_string()))
    }

    /// Root over a range of a proof.
    ///
    /// # Errors
    /// [`TileError`] if a tile is missing.
    pub fn root(&self, range: &Range<u64>) -> Result<LogHash, TileError> {
        range_root(range, |subtree| self.hash(subtree))
    }

    /// The head at `size`, which is this tree's or smaller.
    ///
    /// # Errors
    /// [`TileError`] if a tile is missing.
    pub fn head(&self, size: u64) -> Result<Head, TileError> {
        Ok(Head { size, root: self.root(&(0..size))? })
    }

    /// Proof that entry `index` is in the tree.
    ///
    /// # Errors
    /// [`TileError`].
    pub fn inclusion(&self, index: u64) -> Result<Vec<LogHash>, TileError> {
        let ranges = inclusion_ranges(index, self.size).ok_or(TileError::Past { index, size: self.size })?;
        ranges.iter().map(|range| self.root(range)).collect()
    }

    /// Proof that the tree goes on from its first `old` entries.
    ///
    /// # Errors
    /// [`TileError`].
    pub fn consistency(&self, old: u64) -> Result<Vec<LogHash>, TileError> {
        let ranges = consistency_ranges(old, self.size).ok_or(TileError::Past { index: old, size: self.size })?;
        ranges.iter().map(|range| self.root(range)).collect()
    }
}
