//! A round as it lies in the data folder, a file for each epoch: what a restart goes on from, and what `audit rounds` and `status` show.
//!
//! 500 bytes a check. Salts are in it, so nobody else reads it.

use std::{io, path::Path};

use anyhow::Context as _;
use attribution::check::{
    Check, Outcome,
    round::{CHECKS_MAX, Read},
};
use serde::{Deserialize, Serialize};
use types::id::{Address, Hash32};

use crate::{
    data::{read_bounded, write_atomic},
    words,
};

/// Rounds that are kept: the oldest are deleted first.
pub const ROUNDS_MAX: usize = 64;
/// Largest file: 2 kB of each check, and a dozen proofs of what is wrong with it.
const FILE_BYTES_MAX: u64 = 32 << 20;
/// Longest note, in bytes as it is kept; a peer's words are in some.
pub const NOTE_BYTES_MAX: usize = 300;

/// What came of a receipt that this node was drawn for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Who answered.
    pub node: Address,
    /// Place under its root.
    pub index: u64,
    /// keccak of the receipt body.
    pub receipt: Hash32,
    /// What came of it; nothing yet.
    pub outcome: Option<Outcome>,
    /// Why it was not looked at, or what is wrong.
    pub note: Option<String>,
    /// Faults that the chain took proofs of.
    pub proved: Vec<String>,
}

/// What came of a node's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// The node.
    pub node: Address,
    /// Receipts under it; nothing if they did not come.
    pub receipts: Option<u64>,
    /// Of these, drawn for anybody.
    pub drawn: u64,
    /// Of these, too few operators could be drawn for.
    pub unchecked: u64,
}

impl Root {
    /// What a round says of a node.
    pub const fn of(node: Address, read: &Read) -> Self {
        Self { node, receipts: read.receipts, drawn: read.drawn, unchecked: read.unchecked }
    }
}

/// One epoch's round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The epoch.
    pub epoch: u64,
    /// Who checks: this node's account.
    pub checker: Address,
    /// What receipts were drawn by.
    pub beacon: Hash32,
    /// Roots that were looked at.
    pub roots: Vec<Root>,
    /// Receipts that this node was drawn for.
    pub checks: Vec<Row>,
    /// Such that were too many.
    pub left_out: u64,
    /// What stands under the sealed root, with salts; nothing until it is made.
    pub sealed: Option<Vec<Check>>,
    /// The root that was committed to.
    pub committed: Option<Hash32>,
    /// The root that was shown.
    pub revealed: Option<Hash32>,
}

impl Kept {
    /// A round in which nothing was done yet.
    pub fn new(epoch: u64, checker: Address, beacon: Hash32) -> Self {
        let (roots, checks) = (Vec::new(), Vec::new());
        Self { epoch, checker, beacon, roots, checks, left_out: 0, sealed: None, committed: None, revealed: None }
    }

    /// Reads an epoch's round; nothing if there is none.
    ///
    /// # Errors
    /// That the file cannot be read, or is none of a round.
    pub fn read(folder: &Path, epoch: u64) -> anyhow::Result<Option<Self>> {
        let path = path(folder, epoch);
        let bytes = match read_bounded(&path, FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let read: Self = serde_json::from_slice(&bytes).with_context(|| {
            format!("{} is no round of checks: move it away, and what was sealed by it cannot be shown", path.display())
        })?;
        anyhow::ensure!(
            read.epoch == epoch && read.checks.len() <= CHECKS_MAX && read.sealed.as_ref().is_none_or(|sealed| sealed.len() <= CHECKS_MAX),
            "{} is of epoch {} with {} checks, expected epoch {epoch} and at most {CHECKS_MAX}: move it away",
            path.display(),
            read.epoch,
            read.checks.len()
        );
        Ok(Some(read))
    }

    /// Every round in a folder, by epoch; none if there is no folder.
    ///
    /// # Errors
    /// As [`Kept::read`].
    pub fn all(folder: &Path) -> anyhow::Result<Vec<Self>> {
        epochs(folder)?.into_iter().filter_map(|epoch| Self::read(folder, epoch).transpose()).collect()
    }

    /// The round of the last epoch in a folder; nothing if there is none. The others are not read.
    ///
    /// # Errors
    /// As [`Kept::read`].
    pub fn newest(folder: &Path) -> anyhow::Result<Option<Self>> {
        epochs(folder)?.pop().map_or(Ok(None), |epoch| Self::read(folder, epoch))
    }

    /// Writes it, whole or not at all, and deletes what is too old to keep.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let path = path(folder, self.epoch);
        let is_new = !path.exists();
        write_atomic(&path, &serde_json::to_vec(self)?, 0o600).with_context(|| path.display().to_string())?;
        if is_new {
            let kept = epochs(folder)?;
            for epoch in &kept[..kept.len().saturating_sub(ROUNDS_MAX)] {
                // One that stays is deleted with the next.
                drop(std::fs::remove_file(self::path(folder, *epoch)));
            }
        }
        Ok(())
    }
}

/// A note as it is kept: of one line, and no longer than it may be.
pub fn note(text: &str) -> String {
    let line = words::line(text);
    let end = line.char_indices().map(|(at, letter)| at + letter.len_utf8()).take_while(|end| *end <= NOTE_BYTES_MAX).last();
    line[..end.unwrap_or(0)].to_owned()
}

fn path(folder: &Path, epoch: u64) -> std::path::PathBuf {
    folder.join(format!("{epoch}.json"))
}

/// Epochs of the rounds in a folder, ascending; none if there is no folder.
///
/// # Errors
/// What the file system says.
pub fn epochs(folder: &Path) -> anyhow::Result<Vec<u64>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| folder.display().to_string()),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| folder.display().to_string())?.file_name();
        found.extend(name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(|number| number.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(epoch: u64) -> Kept {
        let mut kept = Kept::new(epoch, Address([1; 20]), Hash32([2; 32]));
        let (node, receipt) = (Address([3; 20]), Hash32([4; 32]));
        let outcome = Outcome::Withheld;
        kept.roots = vec![Root { node, receipts: Some(9), drawn: 2, unchecked: 0 }];
        kept.checks = vec![Row { node, index: 7, receipt, outcome: Some(outcome), note: Some("it refuses".into()), proved: vec![] }];
        kept.sealed = Some(vec![Check { epoch, checker: kept.checker, node, index: 7, receipt, outcome, salt: Hash32([5; 32]) }]);
        kept
    }

    #[test]
    fn a_round_is_read_as_it_was_written_and_the_oldest_are_deleted_first() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("checks");
        assert_eq!((Kept::read(&folder, 1).unwrap(), Kept::all(&folder).unwrap()), (None, vec![]));
        let most = u64::try_from(ROUNDS_MAX).unwrap();
        for epoch in 1..=most + 2 {
            kept(epoch).write(&folder).unwrap();
        }
        assert_eq!((Kept::read(&folder, 9).unwrap(), Kept::newest(&folder).unwrap()), (Some(kept(9)), Some(kept(most + 2))));
        let all = Kept::all(&folder).unwrap();
        assert_eq!((all.len(), all[0].epoch), (ROUNDS_MAX, 3));
    }

    #[test]
    fn a_file_that_is_no_round_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("7.json"), b"{}").unwrap();
        std::fs::write(folder.path().join("6.json"), serde_json::to_vec(&kept(6)).unwrap()).unwrap();
        assert_eq!(Kept::read(folder.path(), 6).unwrap(), Some(kept(6)), "a damaged one beside it hides none");
        let error = format!("{:#}", Kept::read(folder.path(), 7).unwrap_err());
        assert!(error.contains("7.json is no round of checks"), "{error}");
        std::fs::write(folder.path().join("8.json"), serde_json::to_vec(&kept(9)).unwrap()).unwrap();
        let error = format!("{:#}", Kept::read(folder.path(), 8).unwrap_err());
        assert!(error.contains("is of epoch 9") && error.contains("expected epoch 8"), "{error}");
    }

    #[test]
    fn the_fullest_round_is_read_again_whatever_its_peers_answered() {
        let folder = tempfile::tempdir().unwrap();
        let mut full = kept(5);
        let (row, check) = (full.checks[0].clone(), full.sealed.as_ref().unwrap()[0]);
        let numbers = 0..u64::try_from(CHECKS_MAX).unwrap();
        let note = note(&"\u{1b}\"\u{1f600}".repeat(300));
        assert!((NOTE_BYTES_MAX - 4..=NOTE_BYTES_MAX).contains(&note.len()) && !note.contains('\u{1b}'), "{note}");
        let proved = vec![note.clone(); 4];
        full.checks = numbers.clone().map(|index| Row { index, note: Some(note.clone()), proved: proved.clone(), ..row.clone() }).collect();
        full.sealed = Some(numbers.map(|index| Check { index, ..check }).collect());
        full.write(folder.path()).unwrap();
        assert_eq!(Kept::read(folder.path(), 5).unwrap(), Some(full));
    }
}
