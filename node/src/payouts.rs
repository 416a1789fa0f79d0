//! Payouts as this node keeps them in its data folder: the lines that anybody may ask for, and what its trees were built from.
//!
//! The lines lie under their BLAKE3 before the root is posted, so that a poster which is killed in between, or starts again, still shows them. They are
//! needed while the payout may be disputed or claimed by: claims go by the last final payout alone, so those before it are forgotten. A line is
//! 80 bytes and 36 for each part: 3.6 MB for 10,000 answers of ten parts.

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use attribution::{epoch::replay::Line, message};
use chain_bridge::{
    availability::{DataAvailability as _, LocalStore},
    fraud::payout::Shown,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use types::id::{BlobId, Hash32};

use crate::data::{read_bounded, write_atomic};

/// Payouts whose lines are kept at most: the last final one, the one that waits, and such as were taken back meanwhile. The oldest go first.
const KEPT_MAX: usize = 16;
/// Bytes of lines kept at most, but for the last ones: four epochs of a million answers.
const KEPT_BYTES_MAX: u64 = 2 << 30;
/// Longest lines, or tree, of one payout that are read.
const PAYOUT_BYTES_MAX: u64 = 8 << 30;
/// Largest index read: [`KEPT_MAX`] rows take 4 kB.
const INDEX_BYTES_MAX: u64 = 1 << 20;
/// Trees kept behind the last final one: who asks for older ones has them built again.
const TREES_BEHIND: u64 = 64;

/// The lines of one payout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    epoch: u64,
    root: Hash32,
    blob: BlobId,
    bytes: u64,
}

/// The folder of payouts. Written by one process, the running node; read by commands too.
#[derive(Debug)]
pub struct Payouts {
    folder: PathBuf,
    store: LocalStore,
    writing: Mutex<()>,
}

impl Payouts {
    /// In `folder`, which is made when something is kept.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self { store: LocalStore::new(folder.join("lines")), folder, writing: Mutex::default() }
    }

    /// Keeps the lines of a payout, as they are encoded; on disk when this returns.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn keep(&self, epoch: u64, root: Hash32, bytes: &[u8]) -> anyhow::Result<BlobId> {
        let _writing = self.writing.lock().await;
        let blob = self.store.put(bytes).await?;
        let mut index = self.index()?;
        index.retain(|kept| kept.root != root);
        index.push(Kept { epoch, root, blob, bytes: u64::try_from(bytes.len())? });
        self.write_index(index)?;
        Ok(blob)
    }

    /// The lines behind a payout root; nothing if they are not here.
    ///
    /// # Errors
    /// What the file system says, or that they were changed.
    pub async fn lines(&self, root: Hash32) -> anyhow::Result<Option<Vec<Line>>> {
        self.bytes(root).await?.map(|bytes| read_lines(&bytes, root, usize::MAX)).transpose()
    }

    /// The same as they are encoded, and not checked.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn bytes(&self, root: Hash32) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(kept) = self.index()?.into_iter().find(|kept| kept.root == root) else { return Ok(None) };
        Ok(self.store.get(kept.blob, PAYOUT_BYTES_MAX).await?)
    }

    /// Forgets what nobody claims by or disputes any more, now that the payout `root` of epoch `last` is final.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn forget(&self, last: u64, root: Hash32) -> anyhow::Result<()> {
        let _writing = self.writing.lock().await;
        let index = self.index()?;
        let kept: Vec<Kept> = index.iter().copied().filter(|kept| kept.epoch > last || kept.root == root).collect();
        if kept.len() < index.len() {
            self.write_index(kept)?;
        }
        self.forget_trees(last.saturating_sub(TREES_BEHIND))
    }

    /// Keeps what a tree was built from.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep_tree(&self, epoch: u64, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.tree_path(epoch);
        write_atomic(&path, bytes, 0o600).with_context(|| path.display().to_string())
    }

    /// What the tree of an epoch was built from; nothing if it was not built here.
    ///
    /// # Errors
    /// What the file system says.
    pub fn tree(&self, epoch: u64) -> anyhow::Result<Option<Vec<u8>>> {
        read(&self.tree_path(epoch), PAYOUT_BYTES_MAX)
    }

    fn tree_path(&self, epoch: u64) -> PathBuf {
        self.folder.join(format!("tree-{epoch}.json"))
    }

    fn forget_trees(&self, before: u64) -> anyhow::Result<()> {
        let Ok(files) = std::fs::read_dir(&self.folder) else { return Ok(()) };
        for file in files {
            let file = file?;
            let name = file.file_name();
            let epoch = name.to_str().and_then(|name| name.strip_prefix("tree-")?.strip_suffix(".json")?.parse::<u64>().ok());
            if epoch.is_some_and(|epoch| epoch < before) {
                std::fs::remove_file(file.path())?;
            }
        }
        Ok(())
    }

    fn index_path(&self) -> PathBuf {
        self.folder.join("index.json")
    }

    fn index(&self) -> anyhow::Result<Vec<Kept>> {
        let path = self.index_path();
        let Some(bytes) = read(&path, INDEX_BYTES_MAX)? else { return Ok(Vec::new()) };
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged: remove it, the trees are built again", path.display()))
    }

    /// Writes the index, oldest first and within its bounds, and removes the files that it does not name any more.
    fn write_index(&self, mut index: Vec<Kept>) -> anyhow::Result<()> {
        let before = self.index().unwrap_or_default();
        let bytes = |index: &[Kept]| index.iter().fold(0_u64, |sum, kept| sum.saturating_add(kept.bytes));
        while index.len() > KEPT_MAX || (index.len() > 2 && bytes(&index) > KEPT_BYTES_MAX) {
            index.remove(0);
        }
        let path = self.index_path();
        write_atomic(&path, &serde_json::to_vec(&index)?, 0o600).with_context(|| path.display().to_string())?;
        for gone in before.iter().filter(|gone| !index.iter().any(|kept| kept.blob == gone.blob)) {
            self.store.remove(gone.blob)?;
        }
        Ok(())
    }
}

fn read(path: &Path, most: u64) -> anyhow::Result<Option<Vec<u8>>> {
    match read_bounded(path, most) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// The bytes that lines are kept and shown as.
pub fn encode_lines(lines: &[Line]) -> Vec<u8> {
    message::encode(&lines)
}

/// Reads lines that must give a payout root, at most `most` leaves and parts. Whoever they come from is trusted for nothing.
///
/// # Errors
/// Why they are none, or another tree's.
pub fn read_lines(bytes: &[u8], root: Hash32, most: usize) -> anyhow::Result<Vec<Line>> {
    let lines: Vec<Line> = message::decode(bytes)?;
    let rows = lines.iter().fold(0_usize, |rows, line| rows.saturating_add(1).saturating_add(line.parts.len()));
    ensure!(rows <= most, "{rows} rows, at most {most} are taken");
    check_lines(&lines, root).map(|()| lines)
}

/// Whether lines are those of a payout root.
///
/// # Errors
/// If they are another tree's.
pub fn check_lines(lines: &[Line], root: Hash32) -> anyhow::Result<()> {
    let shown = Shown::of(lines.iter().map(|line| (&line.leaf, line.parts.as_slice())))?;
    ensure!(shown.root() == root, "it shows a tree with the root {}, posted was {root}", shown.root());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use attribution::epoch::{Parts, Payout, one_by_one, replay::lines};
    use types::{amount::Amount, id::Address, payout::PartLeaf, split::Part};

    use super::*;

    /// A tree of `payees` accounts with `parts` parts each, its encoded lines and root.
    fn payout(payees: u16, parts: u64) -> (Vec<u8>, Hash32) {
        let account = |payee: u16| Address([payee.to_be_bytes(); 10].concat().try_into().unwrap());
        let amount = Amount(1_234_567_890_123_456_789);
        let of = |payee| (0..parts).map(|receipt| PartLeaf::new(account(payee), receipt, Part::Node, amount)).collect();
        let parts: Parts = (1..=payees).map(|payee| (account(payee), of(payee))).collect();
        let tree = Payout::over(&BTreeMap::new(), parts, &one_by_one).unwrap();
        (encode_lines(&lines(&tree).collect::<Vec<_>>()), tree.root())
    }

    #[tokio::test]
    async fn lines_are_had_after_a_restart_and_forgotten_once_a_later_payout_is_final() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("payouts");
        let payouts = Payouts::new(&path);
        let all: Vec<_> = (1..=3).map(|payees| payout(payees, 2)).collect();
        assert_eq!(payouts.lines(all[0].1).await.unwrap(), None);
        for (epoch, (bytes, root)) in (1..).zip(&all) {
            payouts.keep(epoch, *root, bytes).await.unwrap();
            payouts.keep(epoch, *root, bytes).await.unwrap();
            payouts.keep_tree(epoch, b"{}").unwrap();
        }
        let again = Payouts::new(&path);
        for (bytes, root) in &all {
            assert_eq!(encode_lines(&again.lines(*root).await.unwrap().unwrap()), *bytes);
        }
        again.forget(2, all[1].1).await.unwrap();
        let mut left = Vec::new();
        for (_, root) in &all {
            left.push(again.lines(*root).await.unwrap().is_some());
        }
        assert_eq!(left, [false, true, true], "the last final payout is claimed by, the next may be disputed");
        assert_eq!(std::fs::read_dir(path.join("lines")).unwrap().count(), 2);
        assert!(again.tree(1).unwrap().is_some());
        again.forget(70, all[2].1).await.unwrap();
        assert_eq!((again.tree(1).unwrap(), again.tree(4).unwrap()), (None, None));
        assert_eq!(std::fs::read_dir(path.join("lines")).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_poster_whose_payouts_are_never_final_keeps_a_bounded_number_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let payouts = Payouts::new(folder.path());
        for payees in 1..=20 {
            let (bytes, root) = payout(payees, 1);
            payouts.keep(1, root, &bytes).await.unwrap();
        }
        assert_eq!(payouts.index().unwrap().len(), KEPT_MAX);
        assert_eq!(std::fs::read_dir(folder.path().join("lines")).unwrap().count(), KEPT_MAX);
        assert!(payouts.lines(payout(20, 1).1).await.unwrap().is_some(), "the newest stays");
    }

    #[test]
    fn a_tree_has_no_bound_that_an_epoch_reaches() {
        let folder = tempfile::tempdir().unwrap();
        let payouts = Payouts::new(folder.path());
        // More than a record of the store may hold.
        let bytes = vec![b'1'; storage::store::VALUE_BYTES_MAX + 1];
        payouts.keep_tree(1, &bytes).unwrap();
        assert!(payouts.tree(1).unwrap().is_some_and(|kept| kept == bytes));
    }

    #[tokio::test]
    async fn changed_lines_and_a_damaged_index_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let payouts = Payouts::new(folder.path());
        let (bytes, root) = payout(2, 2);
        let blob = payouts.keep(1, root, &bytes).await.unwrap();
        std::fs::write(payouts.store.path(blob), b"other").unwrap();
        assert!(payouts.lines(root).await.unwrap_err().to_string().contains("it was changed"));
        std::fs::write(payouts.index_path(), b"[{").unwrap();
        assert!(payouts.lines(root).await.unwrap_err().to_string().contains("is damaged"));
    }

    #[test]
    fn lines_are_read_if_they_are_the_roots_and_within_the_bound() {
        let ((bytes, root), (others, _)) = (payout(2, 3), payout(3, 2));
        assert_eq!(read_lines(&bytes, root, 8).unwrap().len(), 2);
        assert!(read_lines(&bytes, root, 7).unwrap_err().to_string().contains("8 rows"));
        assert!(read_lines(&others, root, 8 << 10).unwrap_err().to_string().contains("posted was"));
        for length in 0..bytes.len() {
            assert!(read_lines(&bytes[..length], root, 8).is_err(), "cut at {length}");
        }
        // A count that nothing follows is not believed.
        assert!(read_lines(&[0xff, 0xff, 0xff, 0xff, 0x0f], root, usize::MAX).is_err());
    }

    #[test]
    fn a_payee_takes_80_bytes_and_a_part_36_at_most() {
        for (payees, parts) in [(2_000, 0), (2_000, 5)] {
            let bytes = u64::try_from(payout(payees, parts).0.len()).unwrap();
            assert!(bytes <= u64::from(payees) * (80 + 36 * parts), "{payees} payees with {parts} parts take {bytes} bytes");
        }
    }
}
