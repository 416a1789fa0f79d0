//! The folder of an export: files named by their BLAKE3, and one index that names itself.
//!
//! Every record is one line, `{"of":…,"b3":"…"}`, with the BLAKE3 of what `of` holds, so that a changed byte is found in its record and not only in
//! its file. A line has exactly one spelling: what a reader would write differently is refused. About 2 KB a receipt.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use types::{
    encoding::Body,
    id::{Address, BlobId},
    key::Signed,
    receipt::Receipt,
};

use super::signed::By;
use crate::data::{read_bounded, write_atomic};

/// Largest file: half a million receipts.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Largest index: 200 bytes a node and epoch.
const INDEX_BYTES_MAX: u64 = 64 << 20;
/// How the folder is laid out.
const FORMAT: u32 = 2;

/// A file by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// BLAKE3 of its bytes, which is its name.
    pub blob: BlobId,
    /// How many.
    pub bytes: u64,
}

/// One epoch's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochFiles {
    /// Its number.
    pub epoch: u64,
    /// Lines of its payout tree ([`attribution::epoch::replay::Line`]), ascending by account.
    pub payout: File,
    /// Receipts by node: [`ReceiptLine`], in the node's order.
    pub receipts: BTreeMap<Address, File>,
}

/// What the folder holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// Layout.
    pub format: u32,
    /// The deployment: one line.
    pub deployment: File,
    /// The block that events were read to, and its time: one line.
    pub head: File,
    /// The suite's events up to there.
    pub events: File,
    /// Manifests that receipts name, ascending by root.
    pub manifests: File,
    /// Epochs with a payout, ascending, from the first on.
    pub epochs: Vec<EpochFiles>,
}

/// A receipt with what its split needs; the manifest it names stands in the file of manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptLine {
    /// The receipt.
    pub receipt: Signed<Receipt>,
    /// What it names as its quote; nothing if it was not shown, because nothing is billed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<Body>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    content: Content,
    id: BlobId,
    /// Who vouches for it; nothing if nobody does.
    by: Option<By>,
}

/// An index as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indexed {
    /// The export's id.
    pub id: BlobId,
    /// What it holds.
    pub content: Content,
    /// Who vouches for it, by its own word.
    pub by: Option<By>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed<T> {
    of: T,
    b3: BlobId,
}

/// An export's folder.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

/// A file as it was found.
#[derive(Debug)]
pub struct Found {
    what: String,
    bytes: Vec<u8>,
    got: BlobId,
    expected: File,
}

/// The records of a file up to the first that is damaged, and where that is.
#[derive(Debug)]
pub struct Records<T> {
    /// Those that stand.
    pub whole: Vec<T>,
    /// What the first damaged record still says, if it can be read.
    pub damaged: Option<T>,
    /// Why it does not stand.
    pub damage: Option<String>,
}

impl Content {
    /// With the layout of this build.
    pub const fn new(deployment: File, head: File, events: File, manifests: File, epochs: Vec<EpochFiles>) -> Self {
        Self { format: FORMAT, deployment, head, events, manifests, epochs }
    }

    /// The files it is made of.
    fn names(&self) -> BTreeSet<String> {
        let of_epochs = self.epochs.iter().flat_map(|epoch| epoch.receipts.values().chain([&epoch.payout]));
        [&self.deployment, &self.head, &self.events, &self.manifests]
            .into_iter()
            .chain(of_epochs)
            .map(|file| file.blob.to_string())
            .collect()
    }
}

impl Folder {
    /// The folder at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    fn index_path(&self) -> PathBuf {
        self.0.join("index.json")
    }

    fn path(&self, blob: BlobId) -> PathBuf {
        self.0.join("blobs").join(blob.to_string())
    }

    /// Whether an export was finished here.
    pub fn is_export(&self) -> bool {
        self.index_path().exists()
    }

    /// Reads the index. That who vouches for it signed it is asked by [`By::verify`], for the deployment that it names.
    pub fn index(&self) -> anyhow::Result<Indexed> {
        let path = self.index_path();
        let bytes = read_bounded(&path, INDEX_BYTES_MAX)
            .with_context(|| format!("{} cannot be read: name a folder that `tributary epoch export` wrote", path.display()))?;
        let index: Index = serde_json::from_slice(&bytes).with_context(|| format!("{}: is no index of an export", path.display()))?;
        ensure!(index.content.format == FORMAT, "{}: format {}, this build reads {FORMAT}", path.display(), index.content.format);
        let id = id(&index.content)?;
        ensure!(id == index.id, "{}: its content has the id {id}, it says {}: it was changed", path.display(), index.id);
        ensure!(encode(&index)? == bytes, "{}: it is not spelled as it was written: it was changed", path.display());
        Ok(Indexed { id, content: index.content, by: index.by })
    }

    /// Writes the index, whole or not at all: from then on the folder is an export. Returns its id, which `sign` may sign.
    pub fn write_index(&self, content: &Content, sign: impl FnOnce(BlobId) -> Option<By>) -> anyhow::Result<BlobId> {
        let id = id(content)?;
        let bytes = encode(&Index { content: content.clone(), id, by: sign(id) })?;
        write_atomic(&self.index_path(), &bytes, 0o644).with_context(|| format!("{}: cannot be written", self.index_path().display()))?;
        Ok(id)
    }

    /// Whether the folder holds nothing that its index does not name: a file more is part of no record, and whoever put it there may want it read.
    pub fn is_all_named(&self, content: &Content) -> anyhow::Result<()> {
        let named = content.names();
        for name in self.names()? {
            ensure!(
                named.contains(&name),
                "{}: no record of the export stands in it: remove it",
                self.0.join("blobs").join(&name).display()
            );
        }
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            ensure!(
                path == self.index_path() || path == self.0.join("blobs"),
                "{}: it is no part of the export: remove it",
                path.display()
            );
        }
        Ok(())
    }

    /// Removes what an earlier export here had written and this one does not name.
    pub fn keep_only(&self, content: &Content) -> anyhow::Result<()> {
        let named = content.names();
        for name in self.names()?.into_iter().filter(|name| name.parse::<BlobId>().is_ok() && !named.contains(name)) {
            let path = self.0.join("blobs").join(name);
            fs::remove_file(&path).with_context(|| format!("{}: cannot be removed", path.display()))?;
        }
        Ok(())
    }

    fn names(&self) -> anyhow::Result<Vec<String>> {
        let path = self.0.join("blobs");
        let entries = fs::read_dir(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    /// Reads a file, which `what` names in errors. That its bytes are the named ones is asked by [`Found::is_named`], after its records.
    pub fn read(&self, what: impl Into<String>, file: &File) -> anyhow::Result<Found> {
        let (what, path) = (what.into(), self.path(file.blob));
        let bytes = read_bounded(&path, FILE_BYTES_MAX).with_context(|| format!("{what}: {} cannot be read", path.display()))?;
        Ok(Found { what, got: BlobId::of(&bytes), bytes, expected: *file })
    }

    /// Writes records, one a line.
    pub fn write<T: Serialize>(&self, records: impl IntoIterator<Item = T>) -> anyhow::Result<File> {
        let mut bytes = Vec::new();
        for of in records {
            bytes.extend(line(of)?);
        }
        let file = File { blob: BlobId::of(&bytes), bytes: u64::try_from(bytes.len())? };
        ensure!(file.bytes <= FILE_BYTES_MAX, "{} bytes for one file, at most {FILE_BYTES_MAX} are read back", file.bytes);
        let path = self.path(file.blob);
        if fs::read(&path).is_ok_and(|there| there == bytes) {
            return Ok(file);
        }
        write_atomic(&path, &bytes, 0o644).with_context(|| format!("{}: cannot be written", path.display()))?;
        Ok(file)
    }
}

fn id(content: &Content) -> anyhow::Result<BlobId> {
    Ok(BlobId::of(&serde_json::to_vec(content)?))
}

fn encode(index: &Index) -> anyhow::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(index)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn line<T: Serialize>(of: T) -> anyhow::Result<Vec<u8>> {
    let b3 = BlobId::of(&serde_json::to_vec(&of)?);
    let mut bytes = serde_json::to_vec(&Sealed { of, b3 })?;
    bytes.push(b'\n');
    Ok(bytes)
}

impl Found {
    /// Its records, up to the first damaged one.
    pub fn records<T: Serialize + DeserializeOwned>(&self) -> Records<T> {
        let mut records = Records { whole: Vec::new(), damaged: None, damage: None };
        for bytes in self.bytes.split_inclusive(|byte| *byte == b'\n') {
            match read_line(bytes) {
                Ok(of) => records.whole.push(of),
                Err((damaged, why)) => {
                    (records.damaged, records.damage) = (damaged, Some(why));
                    break;
                }
            }
        }
        records
    }

    /// All of its records, the first damaged one named by `name`.
    pub fn all<T: Serialize + DeserializeOwned>(&self, name: impl Fn(usize) -> String) -> anyhow::Result<Vec<T>> {
        let records = self.records();
        if let Some(why) = records.damage {
            bail!("{}, {}: {why}", self.what, name(records.whole.len()));
        }
        Ok(records.whole)
    }

    /// The one record of a file that holds one.
    pub fn only<T: Serialize + DeserializeOwned>(&self) -> anyhow::Result<T> {
        let mut all = self.all(|_| "its line".to_owned())?;
        ensure!(all.len() == 1, "{}: {} lines, expected one", self.what, all.len());
        all.pop().context("one line")
    }

    /// Whether the bytes are those that the index names.
    pub fn is_named(&self) -> anyhow::Result<()> {
        let bytes = u64::try_from(self.bytes.len())?;
        ensure!(
            self.got == self.expected.blob && bytes == self.expected.bytes,
            "{}: {bytes} bytes with BLAKE3 {}, the index names {} with {}: the file was changed",
            self.what,
            self.got,
            self.expected.bytes,
            self.expected.blob
        );
        Ok(())
    }
}

/// A line, or what it still says and why it does not stand.
fn read_line<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, (Option<T>, String)> {
    let sealed: Sealed<T> = serde_json::from_slice(bytes).map_err(|error| (None, format!("the record cannot be read: {error}")))?;
    match line(&sealed.of) {
        Ok(expected) if expected == bytes => Ok(sealed.of),
        Ok(_) => Err((Some(sealed.of), "the record is not the one that was written: it and its BLAKE3 disagree".to_owned())),
        Err(error) => Err((Some(sealed.of), error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().join("export"));
        (place, folder)
    }

    #[test]
    fn records_come_back_and_a_changed_byte_is_found_in_its_record() {
        let (_place, folder) = folder();
        let written: Vec<String> = (0..5).map(|number| format!("record {number}")).collect();
        let file = folder.write(&written).unwrap();
        let found = folder.read("words", &file).unwrap();
        assert_eq!(found.all::<String>(|place| format!("word {place}")).unwrap(), written);
        found.is_named().unwrap();

        let path = folder.path(file.blob);
        let good = fs::read(&path).unwrap();
        let line_len = good.len() / 5;
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 1;
            fs::write(&path, &bad).unwrap();
            let found = folder.read("words", &file).unwrap();
            let error = found.all::<String>(|place| format!("word {place}")).unwrap_err().to_string();
            assert!(error.starts_with(&format!("words, word {}", place / line_len)), "byte {place}: {error}");
            assert!(found.is_named().is_err());
        }
    }

    #[test]
    fn a_file_with_records_missing_or_added_is_not_the_named_one() {
        let (_place, folder) = folder();
        let file = folder.write(["a", "b"]).unwrap();
        let longer = [fs::read(folder.path(file.blob)).unwrap(), line("c").unwrap()].concat();
        for bytes in [longer.as_slice(), &longer[..longer.len() / 3], &[]] {
            fs::write(folder.path(file.blob), bytes).unwrap();
            let found = folder.read("words", &file).unwrap();
            assert!(found.all::<String>(|place| place.to_string()).is_ok());
            assert!(found.is_named().unwrap_err().to_string().contains("was changed"));
        }
    }

    #[test]
    fn a_file_that_the_index_does_not_name_is_found_and_an_earlier_exports_are_removed() {
        let (_place, folder) = folder();
        let (old, file) = (folder.write(["old"]).unwrap(), folder.write(["a"]).unwrap());
        let content = Content::new(file, file, file, file, vec![]);
        folder.write_index(&content, |_| None).unwrap();
        let error = folder.is_all_named(&content).unwrap_err().to_string();
        assert!(error.contains(&old.blob.to_string()) && error.contains("remove it"), "{error}");
        folder.keep_only(&content).unwrap();
        folder.is_all_named(&content).unwrap();
        for path in ["blobs/notes.txt", "notes.txt"] {
            let path = folder.0.join(path);
            fs::write(&path, "x").unwrap();
            folder.keep_only(&content).unwrap();
            assert!(
                folder.is_all_named(&content).unwrap_err().to_string().contains("notes.txt"),
                "what no export wrote stays and is named"
            );
            fs::remove_file(path).unwrap();
        }
        folder.is_all_named(&content).unwrap();
    }

    #[test]
    fn an_index_with_any_byte_changed_is_refused() {
        let (_place, folder) = folder();
        let file = folder.write(["a"]).unwrap();
        let receipts = BTreeMap::from([(Address([3; 20]), file)]);
        let content = Content::new(file, file, file, file, vec![EpochFiles { epoch: 1, payout: file, receipts }]);
        let id = folder.write_index(&content, |_| None).unwrap();
        assert_eq!(folder.index().unwrap(), Indexed { id, content, by: None });
        let good = fs::read(folder.index_path()).unwrap();
        for place in 0..good.len() {
            for flip in [1, 0x20] {
                let mut bad = good.clone();
                bad[place] ^= flip;
                fs::write(folder.index_path(), &bad).unwrap();
                assert!(folder.index().is_err(), "byte {place}");
            }
        }
    }
}
