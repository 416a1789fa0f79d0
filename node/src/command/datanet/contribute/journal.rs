//! What a contribution of many shards has reached, so that the same command goes on there after a kill.
//!
//! A folder below `pending/` of the data folder, named by what is contributed: the datanet, the wallet, the options, and each file's path, size and time.
//! It holds the shards that were cut and wait, and `journal`: JSON lines, each written and synced after what it tells of is durable. A torn last line is cut
//! off. A shard that is done leaves the folder, one that waits for reviewers stays; when all are done, the folder goes. It lies there in the clear, also one of
//! a private Datanet, so nobody but the user may read it.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, TryLockError},
    io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use storage::datanet::{
    Document,
    shard::{self, Written},
};
use types::id::{BlobId, Hash32};

use super::{
    cut::{Piece, Spot, stretches},
    findings::Finding,
    rows::Dropped,
};
use crate::data::{DataDir, read_bounded, write_atomic};

/// Longest line: a shard of 65,536 files has as many stretches.
const LINE_BYTES_MAX: u64 = 8 << 20;

/// A shard that was cut and found good by the gate's rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cut {
    pub(super) number: u32,
    /// The last row taken, left out or not: reading goes on behind it.
    pub(super) end: Spot,
    /// Its rows.
    pub(super) stretches: Vec<(Spot, u32)>,
    pub(super) text_root: Hash32,
    pub(super) documents: u32,
    pub(super) text_bytes: u64,
    pub(super) shard_bytes: u64,
    pub(super) dropped: Vec<Dropped>,
    /// What was replaced before it was cut.
    #[serde(default)]
    pub(super) redacted: Vec<Finding>,
    /// What was derived when its file was written. Nothing in a journal of before: then it is derived from the file.
    #[serde(default)]
    pub(super) derived: Option<Derived>,
    /// A row may be a copy of one of the shard before: the gate is to know that one.
    #[serde(default = "unknown")]
    pub(super) is_close: bool,
    /// By the gate's own rules it waits for reviewers.
    #[serde(default)]
    pub(super) waits: bool,
}

/// What the gate's own rules said of a shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Looked {
    /// A row may be a copy of one of the shard before.
    pub(super) is_close: bool,
    /// It waits for reviewers.
    pub(super) waits: bool,
}

/// What a shard need not be opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Derived {
    /// BLAKE3 of its file.
    pub(super) file: BlobId,
    /// Top of its text's tree without a salt.
    pub(super) text_top: Hash32,
}

const fn unknown() -> bool {
    true
}

/// A shard that lies where it belongs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) number: u32,
    pub(super) contribution: u64,
    pub(super) text_root: Hash32,
    pub(super) object: BlobId,
    pub(super) documents: u32,
    pub(super) text_bytes: u64,
    pub(super) dropped: Vec<Dropped>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Cut(Cut),
    /// No further shard follows.
    Complete,
    Done(Done),
}

/// The journal of one contribution, held by this process alone.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    file: File,
    pub(super) cuts: Vec<Cut>,
    pub(super) done: Vec<Done>,
    pub(super) is_complete: bool,
}

impl Journal {
    /// Opens the journal of the contribution `key`, begun now or by an earlier run.
    pub(super) fn open(data: &DataDir, key: Hash32) -> anyhow::Result<Self> {
        let folder = data.pending().join(hex::encode(&key.0[..16]));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).with_context(|| format!("{}", folder.display()))?;
        let path = folder.join("journal");
        let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path);
        let file = open.with_context(|| format!("{}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("another run of the same command is under way: wait for it, or stop it"),
            Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("{}", path.display())),
        }
        let mut journal = Self { folder, file, cuts: Vec::new(), done: Vec::new(), is_complete: false };
        journal
            .replay()
            .with_context(|| format!("{}: remove its folder to begin anew; what is accepted is found again", path.display()))?;
        Ok(journal)
    }

    fn replay(&mut self) -> anyhow::Result<()> {
        let mut reader = BufReader::new(&self.file);
        let (mut good, mut line) = (0, Vec::new());
        loop {
            line.clear();
            let read = std::io::Read::take(&mut reader, LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
            if read == 0 || line.last() != Some(&b'\n') {
                break;
            }
            match serde_json::from_slice(&line)? {
                Line::Cut(cut) => {
                    ensure!(usize::try_from(cut.number) == Ok(self.cuts.len()), "a shard is missing from the journal");
                    self.cuts.push(cut);
                }
                Line::Complete => self.is_complete = true,
                Line::Done(done) => self.done.push(done),
            }
            good += read as u64;
        }
        self.file.set_len(good)?;
        self.file.seek(SeekFrom::Start(good))?;
        Ok(())
    }

    fn append(&mut self, line: &Line) -> anyhow::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.file.write_all(&bytes)?;
        Ok(self.file.sync_data()?)
    }

    /// Where the shard of a cut lies.
    pub(super) fn path(&self, number: u32) -> PathBuf {
        self.folder.join(format!("{number:05}.shard"))
    }

    /// Whether an earlier run has left anything.
    pub(super) const fn is_begun(&self) -> bool {
        !self.cuts.is_empty()
    }

    /// Keeps the next shard. `piece` holds the rows that are in it.
    pub(super) fn cut(&mut self, piece: &Piece, dropped: Vec<Dropped>, redacted: Vec<Finding>, looked: Looked) -> anyhow::Result<()> {
        let number = u32::try_from(self.cuts.len())?;
        let Written { bytes, text_root, text_top, text_bytes } = shard::write(&piece.documents)?;
        let path = self.path(number);
        write_atomic(&path, &bytes, 0o600).with_context(|| format!("{}", path.display()))?;
        let cut = Cut {
            number,
            end: piece.end,
            stretches: stretches(&piece.spots),
            text_root,
            documents: u32::try_from(piece.documents.len())?,
            text_bytes,
            shard_bytes: bytes.len() as u64,
            dropped,
            redacted,
            derived: Some(Derived { file: BlobId::of(&bytes), text_top }),
            is_close: looked.is_close,
            waits: looked.waits,
        };
        self.append(&Line::Cut(cut.clone()))?;
        self.cuts.push(cut);
        Ok(())
    }

    /// All shards are cut.
    pub(super) fn complete(&mut self) -> anyhow::Result<()> {
        self.append(&Line::Complete)?;
        self.is_complete = true;
        Ok(())
    }

    /// Shards that are not done.
    pub(super) fn left(&self) -> Vec<Cut> {
        let done: BTreeSet<u32> = self.done.iter().map(|done| done.number).collect();
        self.cuts.iter().filter(|cut| !done.contains(&cut.number)).cloned().collect()
    }

    /// A shard lies where it belongs.
    pub(super) fn finish(&mut self, done: Done) -> anyhow::Result<()> {
        self.append(&Line::Done(done.clone()))?;
        let path = self.path(done.number);
        self.done.push(done);
        remove(&path)
    }

    /// Nothing is left to do: the folder goes.
    pub(super) fn close(self) -> anyhow::Result<()> {
        fs::remove_dir_all(&self.folder).with_context(|| format!("{}", self.folder.display()))
    }
}

/// The file of a cut as it was written.
pub(super) fn read_shard(path: &Path, cut: &Cut) -> anyhow::Result<Vec<u8>> {
    let bytes = read_bounded(path, storage::erasure::OBJECT_BYTES_MAX as u64).with_context(|| format!("{}", path.display()))?;
    let is_whole = match cut.derived {
        Some(derived) => BlobId::of(&bytes) == derived.file,
        None => shard::decode_as(cut.text_root, &bytes).is_ok(),
    };
    ensure!(is_whole, "{}: is not what was written; remove its folder to begin anew", path.display());
    Ok(bytes)
}

/// The rows of a cut.
pub(super) fn read_documents(path: &Path, cut: &Cut) -> anyhow::Result<Vec<Document>> {
    let bytes = read_shard(path, cut)?;
    let shard = shard::decode_as(cut.text_root, &bytes);
    Ok(shard.with_context(|| format!("{}: remove its folder to begin anew", path.display()))?.into_documents())
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).with_context(|| format!("{}", path.display())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(texts: &[&str]) -> Piece {
        let spots: Vec<_> = (1..).map(|row| Spot { file: 0, row }).take(texts.len()).collect();
        let documents = texts.iter().map(|text| Document::new(None, None, text.as_bytes()).unwrap()).collect();
        Piece { documents, end: *spots.last().unwrap(), spots }
    }

    fn done(cut: &Cut) -> Done {
        let Cut { number, text_root, documents, text_bytes, .. } = *cut;
        Done { number, contribution: 7, text_root, object: BlobId::ZERO, documents, text_bytes, dropped: vec![] }
    }

    /// The journal as it was after each byte of it was written: an earlier state, never a torn one, and the same steps lead to the same end.
    #[test]
    fn a_journal_cut_off_anywhere_is_one_of_its_earlier_states() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path());
        let mut journal = Journal::open(&data, Hash32([1; 32])).unwrap();
        journal.cut(&piece(&["a", "b"]), vec![], vec![], Looked::default()).unwrap();
        journal.cut(&piece(&["c"]), vec![], vec![], Looked { is_close: true, waits: true }).unwrap();
        journal.complete().unwrap();
        let (first, second) = (journal.cuts[0].clone(), journal.cuts[1].clone());
        let read = |cut: &Cut| read_documents(&journal.path(cut.number), cut);
        assert_eq!(read(&first).unwrap(), piece(&["a", "b"]).documents);
        assert_eq!(read(&Cut { derived: None, ..first.clone() }).unwrap(), piece(&["a", "b"]).documents, "of a journal of before");
        assert_eq!((first.is_close, second.is_close, first.waits, second.waits), (false, true, false, true));
        let damaged = Cut { derived: second.derived, ..first.clone() };
        assert!(read_shard(&journal.path(0), &damaged).unwrap_err().to_string().contains("not what was written"));
        let paths = [&first, &second].map(|cut| journal.path(cut.number));
        journal.finish(done(&first)).unwrap();
        assert!(read_documents(&paths[0], &first).is_err() && read_documents(&paths[1], &second).is_ok());
        let path = journal.folder.join("journal");
        let bytes = fs::read(&path).unwrap();
        drop(journal);
        let mut states = Vec::new();
        for length in 0..=bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            let journal = Journal::open(&data, Hash32([1; 32])).unwrap();
            let state = (journal.cuts.len(), journal.is_complete, journal.done.len());
            assert_eq!(journal.left().len(), state.0 - state.2);
            states.push(state);
            assert_eq!(fs::read(&path).unwrap().last().copied().unwrap_or(b'\n'), b'\n');
        }
        states.dedup();
        assert_eq!(states, [(0, false, 0), (1, false, 0), (2, false, 0), (2, true, 0), (2, true, 1)]);
        let journal = Journal::open(&data, Hash32([1; 32])).unwrap();
        assert!(Journal::open(&data, Hash32([1; 32])).unwrap_err().to_string().contains("another run"));
        assert!(Journal::open(&data, Hash32([2; 32])).is_ok_and(|other| !other.is_begun()));
        journal.close().unwrap();
        assert!(!path.exists());
    }
}
