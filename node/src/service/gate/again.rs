//! Rows that reviewers have before them, or have rejected, known when they are brought again among others.
//!
//! A contribution is drawn by its text root, and one filler row makes another root: without this, who was drawn, or rejected, would bring the rows with a filler until a draw let them by. So the rows of a contribution that
//! waits are kept beside it, and stay when it is rejected; whoever brings one of them goes to the reviewers too, who may let it in. Rows are known by their digest, that is by their text as it is normalised and nothing else.
//!
//! One file of mode 0600 a contribution: the rows' hashes in ascending order, 12 bytes each. A hash is 64 bits of the digest's under a key of this node: who has the file alone cannot guess a row. Two rows have the same one by
//! chance in 2^64 pairs; what follows is a look by two reviewers. Of what waits for a draw of its own all rows count, of what waits for such rows these; what waits for other findings is found by the rules again wherever it is
//! brought, and its other rows may be brought without. Of what was rejected all rows count.
//!
//! Bounds: no rows in memory but a contribution's own and one file's (12 MiB each at most). On the disk what waits has 12 bytes a row beside its shard, 3 GiB if all of it were shards of a million rows of a word; what was rejected
//! has [`REJECTED_BYTES_MAX`], 22 million rows, beyond which the oldest of whoever has most are forgotten. They go with their case or decision; and so do the rows of what two reviewers let in, or the chain has. Pure.

use std::collections::BTreeMap;

use storage::datanet::{DOCUMENTS_MAX, Document};
use types::id::Address;

use super::shares::Key;

/// Most bytes of rows that were rejected, in all Datanets.
pub(super) const REJECTED_BYTES_MAX: u64 = 256 << 20;
/// How its files end.
pub(super) const SUFFIX: &str = "rows";
/// How its files begin.
const MAGIC: &[u8; 8] = b"trirows1";
/// A hash and a row's number, the first bit of which says that it is held back while its contribution waits.
const ROW_BYTES: usize = 12;
const HELD: u32 = 1 << 31;
/// Largest file.
pub(super) const FILE_BYTES_MAX: u64 = (MAGIC.len() + DOCUMENTS_MAX * ROW_BYTES) as u64; // some 12 MiB

/// A row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    hash: u64,
    /// Counted from 1.
    number: u32,
    is_held: bool,
}

/// Those of one contribution, by their hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rows(Vec<Row>);

/// A file of rows is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rows of a waiting or rejected contribution are damaged: {0}; remove the file, and what it holds is known no longer")]
pub(super) struct DamagedError(&'static str);

/// Whether a file of so many bytes may be one of these.
pub(super) fn is_len(len: u64) -> bool {
    let rows = len.checked_sub(MAGIC.len() as u64);
    len <= FILE_BYTES_MAX && rows.is_some_and(|bytes| bytes.is_multiple_of(ROW_BYTES as u64))
}

impl Rows {
    /// Those of `documents` under a node's key, of which the numbers are held for which `is_held`.
    pub(super) fn of(key: &[u8; 32], documents: &[Document], is_held: impl Fn(u32) -> bool) -> Self {
        let row = |(number, document): (u32, &Document)| {
            let hash = blake3::keyed_hash(key, &document.digest().0);
            let hash = u64::from_be_bytes(*hash.as_bytes().first_chunk().expect("32 bytes hold 8"));
            Row { hash, number, is_held: is_held(number) }
        };
        let mut rows: Vec<Row> = (1..).zip(documents.iter().take(DOCUMENTS_MAX)).map(row).collect();
        rows.sort_unstable();
        Self(rows)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MAGIC.len() + self.0.len() * ROW_BYTES);
        bytes.extend_from_slice(MAGIC);
        for row in &self.0 {
            bytes.extend_from_slice(&row.hash.to_be_bytes());
            bytes.extend_from_slice(&(row.number | if row.is_held { HELD } else { 0 }).to_be_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DamagedError> {
        let body = bytes.strip_prefix(MAGIC).ok_or(DamagedError("they begin otherwise"))?;
        let (chunks, rest) = body.as_chunks::<ROW_BYTES>();
        if !rest.is_empty() || chunks.len() > DOCUMENTS_MAX {
            return Err(DamagedError("their file has another length"));
        }
        let row = |chunk: &[u8; ROW_BYTES]| {
            let (hash, number) = chunk.split_first_chunk().expect("12 bytes hold 8");
            let number = u32::from_be_bytes(*number.first_chunk().expect("12 bytes hold 8 and 4"));
            Row { hash: u64::from_be_bytes(*hash), number: number & !HELD, is_held: number & HELD != 0 }
        };
        let rows: Vec<Row> = chunks.iter().map(row).collect();
        if rows.is_sorted() { Ok(Self(rows)) } else { Err(DamagedError("they are out of order")) }
    }

    /// The rows that both have: their numbers here and in `theirs`, in the order of the numbers here.
    pub(super) fn shared(&self, theirs: &Self, only_held: bool) -> Vec<(u32, u32)> {
        let mut others = theirs.0.iter().filter(|row| row.is_held || !only_held).peekable();
        let mut shared = Vec::new();
        for row in &self.0 {
            while others.next_if(|other| other.hash < row.hash).is_some() {}
            if let Some(other) = others.peek().filter(|other| other.hash == row.hash) {
                shared.push((row.number, other.number));
            }
        }
        shared.sort_unstable();
        shared
    }

    /// These without those that `others` has.
    pub(super) fn without(&self, others: &Self) -> Self {
        let is_left = |row: &&Row| others.0.binary_search_by_key(&row.hash, |other| other.hash).is_err();
        Self(self.0.iter().filter(is_left).copied().collect())
    }
}

/// The next of the rejected rows to go (`key`, whose, since when, bytes) where they are more than `most`: the oldest of whoever has most.
pub(super) fn over(all: &[(Key, Address, u64, u64)], most: u64) -> Option<Key> {
    let mut sums = BTreeMap::<Address, u64>::new();
    for (_, contributor, _, bytes) in all {
        let sum = sums.entry(*contributor).or_default();
        *sum = sum.saturating_add(*bytes);
    }
    if sums.values().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes)) <= most {
        return None;
    }
    let (contributor, _) = sums.into_iter().max_by_key(|(_, sum)| *sum)?;
    let own = all.iter().filter(|(_, of, ..)| *of == contributor);
    own.min_by_key(|(key, _, since, _)| (*since, *key)).map(|(key, ..)| *key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::id::{AssetId, Hash32};

    use super::*;

    const KEY: [u8; 32] = [5; 32];

    fn rows(texts: &[&str], held: &[u32]) -> Rows {
        let documents: Vec<_> = texts.iter().map(|text| Document::new(None, None, text.as_bytes()).unwrap()).collect();
        Rows::of(&KEY, &documents, |row| held.contains(&row))
    }

    #[test]
    fn rows_are_known_by_their_text_wherever_they_stand_and_only_under_the_nodes_key() {
        let kept = rows(&["one", "two", "three"], &[2]);
        let brought = rows(&["filler", "three", "two"], &[]);
        assert_eq!(brought.shared(&kept, false), [(2, 3), (3, 2)]);
        assert_eq!(brought.shared(&kept, true), [(3, 2)], "of what waits only the rows that are held back");
        assert_eq!(rows(&["filler"], &[]).shared(&kept, false), []);
        assert_eq!(Rows::decode(&kept.encode()).unwrap(), kept);
        assert_eq!(kept.without(&brought), rows(&["one"], &[]));
        let two = [Document::new(None, None, b"two").unwrap()];
        assert_eq!(Rows::of(&[6; 32], &two, |_| true).shared(&kept, false), [], "another node's key");
        assert!(!kept.encode().windows(8).any(|window| window == &two[0].digest().0[..8]), "no digest is on the disk");
    }

    #[test]
    fn what_is_no_file_of_rows_is_said_to_be_damaged() {
        let bytes = rows(&["one", "two"], &[]).encode();
        assert!(is_len(bytes.len() as u64) && !is_len(bytes.len() as u64 - 1) && !is_len(3) && !is_len(FILE_BYTES_MAX + 12));
        assert!(Rows::decode(&bytes[..bytes.len() - 1]).is_err() && Rows::decode(b"else").is_err());
        let swapped = [&bytes[..8], &bytes[20..], &bytes[8..20]].concat();
        assert!(Rows::decode(&swapped).unwrap_err().to_string().contains("out of order"));
    }

    #[test]
    fn the_oldest_rows_of_who_has_most_are_forgotten_first() {
        let one = |number: u8, contributor: u8, bytes: u64| {
            ((AssetId(4), Hash32([number; 32])), Address([contributor; 20]), u64::from(number), bytes)
        };
        let all = [one(1, 7, 10), one(5, 8, 10), one(3, 8, 10)];
        assert_eq!(over(&all, 30), None);
        assert_eq!(over(&all, 29), Some(all[2].0));
        assert_eq!(over(&[], 0), None);
    }

    proptest! {
        #[test]
        fn decode_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(rows) = Rows::decode(&[MAGIC.as_slice(), &bytes].concat()) {
                prop_assert_eq!(rows.encode()[8..].len(), bytes.len());
            }
            drop(Rows::decode(&bytes));
        }
    }
}
