//! The file of a half-done fetch: `<object id>.part` in the folder given, in the bytes of [`storage::proto::fetch::saved`].
//!
//! Every group in it is checked against the manifest when it is read, so the file may be torn, rotten or somebody else's: what is good up to the first
//! bad record is taken in, the rest cut off. Nothing is synced: after a power cut less is there. One process writes a file at a time; another that
//! fetches the same object writes nothing. Trouble with the file is logged and costs no fetch.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use storage::proto::fetch::{
    Fetch, Record,
    saved::{self, HEAD_BYTES, RECORD_HEAD_BYTES},
};
use types::id::BlobId;

/// Half-done fetches kept in a folder; the oldest go first. 8 of the largest objects are half a gigabyte, or a third more.
const FILES_MAX: usize = 8;
/// Records written at once: 16 MiB.
const RECORDS_MAX: usize = 16;
const SUFFIX: &str = "part";

/// The file, while this process writes it; removed when the object is whole.
#[derive(Debug)]
pub(super) struct Partial(Option<(PathBuf, File)>);

impl Partial {
    pub(super) const fn none() -> Self {
        Self(None)
    }

    /// Takes in what an earlier process left.
    pub(super) async fn resume(folder: &Path, object: BlobId, fetch: Fetch) -> (Fetch, Self) {
        let path = path(folder, object);
        if !path.exists() {
            return (fetch, Self(None));
        }
        let reading = tokio::task::spawn_blocking(move || {
            let mut fetch = fetch;
            let file = load(&path, object, &mut fetch).unwrap_or_else(|error| {
                tracing::warn!(file = %path.display(), %error, "a half-done fetch cannot be gone on with");
                None
            });
            (fetch, Self(file.map(|file| (path, file))))
        });
        reading.await.expect("reading a file does not panic, and is not cancelled")
    }

    /// Writes down what is new.
    pub(super) async fn save(&mut self, folder: Option<&Path>, fetch: &mut Fetch) {
        let (Some(folder), Some(parts)) = (folder, fetch.parts_mut()) else { return };
        let records = parts.unsaved(RECORDS_MAX);
        if records.is_empty() {
            return;
        }
        let (file, head, path) = (self.0.take(), saved::head(parts.manifest()), path(folder, parts.manifest().id()));
        let writing = tokio::task::spawn_blocking(move || {
            let file = match file {
                Some((_, file)) => Ok(Some(file)),
                None => create(&path, &head),
            };
            let written = file.and_then(|file| file.map(|file| append(file, &records)).transpose());
            match written {
                Ok(file) => file.map(|file| (path, file)),
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "a half-done fetch cannot be written down");
                    None
                }
            }
        });
        self.0 = writing.await.unwrap_or(None);
    }

    /// The object is whole.
    pub(super) fn remove(self) {
        if let Some((path, _)) = self.0
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!(file = %path.display(), %error, "a half-done fetch is left, though it was done");
        }
    }
}

fn path(folder: &Path, object: BlobId) -> PathBuf {
    folder.join(format!("{object}.{SUFFIX}"))
}

/// The file's records into the fetch; nothing if another process has the file.
fn load(path: &Path, object: BlobId, fetch: &mut Fetch) -> io::Result<Option<File>> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    if file.try_lock().is_err() {
        return Ok(None);
    }
    let good = read(&file, object, fetch)?;
    tracing::info!(file = %path.display(), bytes = good, "going on with a half-done fetch");
    if good == 0 {
        // Not this object's: made anew when there is something to write.
        fs::remove_file(path)?;
        return Ok(None);
    }
    file.set_len(good)?;
    file.seek(SeekFrom::Start(good))?;
    Ok(Some(file))
}

/// Bytes of the file that are good, from its beginning.
fn read(file: &File, object: BlobId, fetch: &mut Fetch) -> io::Result<u64> {
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut head = [0; HEAD_BYTES];
    let Some(length) = fill(&mut reader, &mut head)?.and_then(|()| saved::manifest_len(&head)) else { return Ok(0) };
    let mut manifest = vec![0; length];
    let Some(manifest) = fill(&mut reader, &mut manifest)?.and_then(|()| saved::manifest(object, &manifest)) else { return Ok(0) };
    let mut good = (HEAD_BYTES + length) as u64;
    loop {
        let mut head = [0; RECORD_HEAD_BYTES];
        let Some((index, run, length)) = fill(&mut reader, &mut head)?.and_then(|()| saved::record_head(&manifest, &head)) else { break };
        let mut record = Record { index, run, bytes: vec![0; length] };
        let Some(blocks) = fill(&mut reader, &mut record.bytes)?.and_then(|()| record.open(&manifest)) else { break };
        fetch.restore(&manifest, &blocks);
        good += (RECORD_HEAD_BYTES + length) as u64;
    }
    Ok(good)
}

/// Fills a slice; nothing at a torn end.
fn fill(reader: &mut impl io::Read, out: &mut [u8]) -> io::Result<Option<()>> {
    match reader.read_exact(out) {
        Ok(()) => Ok(Some(())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// A new file; nothing if another process has one.
fn create(path: &Path, head: &[u8]) -> io::Result<Option<File>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
        make_room(folder)?;
    }
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    if file.try_lock().is_err() {
        return Ok(None);
    }
    file.set_len(0)?;
    file.write_all(head)?;
    Ok(Some(file))
}

fn append(mut file: File, records: &[Record]) -> io::Result<File> {
    records.iter().try_for_each(|record| file.write_all(&saved::record(record)))?;
    Ok(file)
}

/// Leaves room for one more among [`FILES_MAX`].
fn make_room(folder: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == SUFFIX) {
            files.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    files.sort();
    let over = (files.len() + 1).saturating_sub(FILES_MAX);
    files.iter().take(over).try_for_each(|(_, path)| fs::remove_file(path))
}
