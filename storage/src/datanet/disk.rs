//! The index of a Datanet's documents in a folder: as much text as the disk has room for, in [`MEMORY_BYTES`] of memory.
//!
//! It gives the same answers as the index in memory, which is its model in tests. [`dedup::run`](super::dedup) is the layout of what is searched, `schedule` says what is
//! merged when; this module and those below write, verify and ask.
//!
//! ```text
//! LOCK               held while a process has the folder
//! N.manifest         which runs and contributions count
//! N.run              sorted entries: 33 a document (32 bands and its digest), 4 to 6 bytes each
//! documents          48 bytes each: digest 32, end of its set u64, checks of set and record u32 each
//! outlines           32 bytes each: parity of the set, its shingles, check
//! broad              broad parities of sets of more than 256 shingles: some 0.14 bytes a shingle
//! sets               the shingles of each document, ascending: 8 bytes each
//! ```
//!
//! Documents are numbered as they are entered; what ranks them is the place of their contribution, which stands in the manifest. Entries of one key stand in that
//! order, so a contribution that is accepted late and is earlier than others moves nothing.
//!
//! Back of the envelope, 10 GB in 20 million documents of 500 bytes: 2.9 GB of runs, 1.6 GB of documents and outlines, 13 GB of sets; 1.8 times the text. Sets are kept because the exact check
//! needs them and a text would have to be unpacked from a frame of 16 MiB for each candidate, 25 ms instead of 0.1. A contribution of 16 MB asks for a million
//! keys, as good as every page of keys, which are 0.8 GB then: 0.1 s out of the system's cache, beside 0.4 s for the gate's own work. A filter of so many entries would be as long, and in memory
//! two bits for each, which half of what is not there passes. Candidates are `sieve`'s. An entry is written fourteen times (`schedule`), 100 MB a second beside 25 MB of text.
//!
//! Measured with `cargo bench -p storage --bench gate -- --fill BYTES DIR FILES` (documents of five rows out of 19,000, one core of an AMD EPYC that others kept busy): `storage/DESIGN.md`,
//! section Datanets.
//!
//! Memory: the pages' starts (half a byte a document, 10 MB at 20 million), [`PENDING_DOCUMENTS`] documents' entries before they become a run (13 MB), a search's candidates (35 MB) and the
//! heads of its long rows (5 MB), buffers.
//!
//! Crash rules: documents and sets only grow, and what the manifest does not count is cut off; runs are whole and synced before a manifest names them; the last
//! manifest is removed when the next one is durable. After a write that failed nothing is written until the folder is opened again, which takes away what was half-written. Runs are
//! hashed when opened and when merged, sets and records have checks that each read verifies: damage is an error that says so, and the index is made anew from the shards.
//! What is to leave the index is overwritten where it stands and left out of its runs (`forget`): a copy of those runs, no shard is read again.

mod files;
mod forget;
mod manifest;
mod outlines;
mod runs;
mod search;
mod sieve;

use std::{fs, io, path::Path, sync::Arc};

use types::{contribution::Priority, encoding::Writer, id::BlobId};

use self::{
    files::{Appender, Window},
    manifest::Manifest,
    outlines::{BROAD, OUTLINE_BYTES, OUTLINES, Outlines},
    runs::Run,
};
use super::{
    Accepted, Place,
    dedup::{
        Batch, Match,
        index::split,
        run::{DIGESTS, Shape},
        schedule,
    },
    known::Known,
};
use crate::store::{
    StoreError,
    disk::{Disk, Folder},
};

/// Memory that an index of 20 million documents keeps to, beside the batch that it is asked for.
pub const MEMORY_BYTES: usize = 64 << 20;
/// Documents whose entries wait in memory before they are written as a run.
const PENDING_DOCUMENTS: usize = 1 << 15;
/// Bytes of a document's record.
const RECORD_BYTES: usize = 48;
/// Bytes of a record before its own check.
const RECORD_CHECKED: usize = 44;
/// Bytes that a document's entries take at most while two merged copies lie beside each other.
const ENTRIES_BYTES: u64 = 2 * 33 * 8;

const RECORDS: &str = "documents";
const SETS: &str = "sets";

/// Why an index on disk does not answer.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The folder cannot be had.
    #[error(transparent)]
    Folder(#[from] StoreError),
    /// The system refused.
    #[error("cannot {doing} {file} of the index of documents: {error}{}", if error.kind() == io::ErrorKind::StorageFull { "; make room, then try again: nothing half-written counts" } else { "" })]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        file: String,
        /// What the system said.
        error: io::Error,
    },
    /// A file is not what was written.
    #[error("the index of documents is damaged: {file}: {problem}; it has to be made anew from the shards")]
    Damaged {
        /// Which file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// No room by configuration.
    #[error(
        "the index of documents may take {most} bytes and would need {need}: give it more room, or open another Datanet for what comes next"
    )]
    Full {
        /// Bytes that it would need, merging included.
        need: u64,
        /// Bytes that it may have.
        most: u64,
    },
    /// Numbers end.
    #[error("an index holds at most 2^32 - 1 documents: open another Datanet for what comes next")]
    Documents,
    /// Documents stand at this place already.
    #[error("block {} commitment {} is in the index already", .0.block, .0.ordinal)]
    Place(Place),
    /// An earlier write failed.
    #[error("a write to the index of documents failed before: open it again")]
    Stopped,
}

impl DiskError {
    /// Whether nothing but making the index anew helps.
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}

/// A contribution in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entered {
    pub(super) place: Place,
    pub(super) accepted: Accepted,
    pub(super) text_bytes: u64,
    /// Number of its first document.
    first: u32,
}

/// Documents in a folder, searchable for copies.
#[derive(Debug)]
pub struct OnDisk {
    disk: Arc<dyn Disk>,
    bytes_max: u64,
    generation: u64,
    next_run: u32,
    documents: u32,
    /// Documents that a run holds.
    written: u32,
    shingles: u64,
    entered: Vec<Entered>,
    runs: Vec<Run>,
    /// Runs that a manifest may name still, and whose documents others hold now.
    merged: Vec<u32>,
    records: Appender,
    outlines: Appender,
    broad: Appender,
    sets: Appender,
    /// `key << 32 | number` of the documents that no run holds.
    pending: Vec<Vec<u64>>,
    is_changed: bool,
    is_stopped: bool,
}

/// What is kept of a document beside its entries.
#[derive(Debug)]
struct Record {
    digest: BlobId,
    start: u64,
    end: u64,
    set_check: [u8; 4],
}

impl Record {
    fn shingles(&self) -> usize {
        usize::try_from(self.end - self.start).unwrap_or(usize::MAX)
    }

    fn encode(&self, number: u32) -> Vec<u8> {
        let body = Writer::new().bytes(&self.digest.0).u64(self.end).bytes(&self.set_check).finish();
        let check = self.check(number, &body);
        [body, check.to_vec()].concat()
    }

    fn check(&self, number: u32, body: &[u8]) -> [u8; 4] {
        check(&Writer::new().u32(number).u64(self.start).bytes(body).finish())
    }
}

fn check(bytes: &[u8]) -> [u8; 4] {
    *blake3::hash(bytes).as_bytes().first_chunk().expect("32 bytes hold 4")
}

fn io_error(doing: &'static str, file: &str) -> impl Fn(io::Error) -> DiskError {
    move |error| match error.kind() {
        io::ErrorKind::UnexpectedEof => DiskError::Damaged { file: file.to_owned(), problem: "it is shorter than it was".into() },
        _ => DiskError::Io { doing, file: file.to_owned(), error },
    }
}

impl OnDisk {
    /// Opens the index in a folder, which is made if it is absent. All of its runs are read. `bytes_max`: most bytes that its files may take, merging included.
    ///
    /// # Errors
    /// [`DiskError`] if another process has it or a file is not what was written.
    pub fn open(folder: &Path, bytes_max: u64) -> Result<Self, DiskError> {
        Self::on(Arc::new(Folder::lock(folder)?), bytes_max)
    }

    /// Removes an index with its folder, so that it can be made anew. Whoever has it open loses it.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(folder: &Path) -> io::Result<()> {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn on(disk: Arc<dyn Disk>, bytes_max: u64) -> Result<Self, DiskError> {
        let manifest = manifest(disk.as_ref())?;
        for name in disk.names().map_err(io_error("list", "the files"))? {
            let is_named = |number: u32| manifest.runs.iter().any(|(named, _)| *named == number);
            let is_over = manifest::generation(&name).is_some_and(|generation| generation != manifest.generation)
                || name.strip_suffix(".run").is_some_and(|number| !number.parse().is_ok_and(is_named));
            if is_over {
                disk.remove(&name).map_err(io_error("remove", &name))?;
            }
        }
        let grown = |name: &str, len: u64| {
            let file = disk.open(name).map_err(io_error("open", name))?;
            let has = file.len().map_err(io_error("read", name))?;
            if has < len {
                return Err(DiskError::Damaged { file: name.to_owned(), problem: format!("it has {has} bytes of {len}") });
            }
            if has > len {
                file.set_len(len).map_err(io_error("cut", name))?;
            }
            Ok(Appender::new(file, len))
        };
        let records = grown(RECORDS, u64::from(manifest.documents) * RECORD_BYTES as u64)?;
        let outlines = grown(OUTLINES, u64::from(manifest.documents) * OUTLINE_BYTES as u64)?;
        let broad = grown(BROAD, manifest.broad * 8)?;
        let sets = grown(SETS, manifest.shingles * 8)?;
        let runs = manifest.runs.iter().map(|(number, hash)| Run::open(disk.as_ref(), *number, *hash)).collect::<Result<Vec<_>, _>>()?;
        let Manifest { generation, next_run, documents, shingles, entered, .. } = manifest;
        Ok(Self {
            disk,
            bytes_max,
            generation,
            next_run,
            documents,
            written: documents,
            shingles,
            entered,
            runs,
            merged: Vec::new(),
            records,
            outlines,
            broad,
            sets,
            pending: vec![Vec::new(); DIGESTS + 1],
            is_changed: false,
            is_stopped: false,
        })
    }

    /// The contributions in it, in the order in which they were entered.
    pub(super) fn entered(&self) -> impl Iterator<Item = &Entered> {
        self.entered.iter()
    }

    /// Bytes of its files.
    pub fn bytes(&self) -> u64 {
        self.records.len()
            + self.outlines.len()
            + self.broad.len()
            + self.sets.len()
            + self.runs.iter().map(|run| run.shape.bytes()).sum::<u64>()
    }

    /// Documents in it.
    pub const fn documents(&self) -> u32 {
        self.documents
    }

    /// Enters a contribution, whose documents come in batches: sketches, and digests. They are found after [`OnDisk::commit`].
    ///
    /// # Errors
    /// [`DiskError`]; after one from the disk the index answers no more until it is opened again, as it was at the last commit.
    pub(super) fn insert(
        &mut self,
        place: Place,
        accepted: Accepted,
        text_bytes: u64,
        mut batches: impl Iterator<Item = (Batch, Vec<BlobId>)>,
    ) -> Result<(), DiskError> {
        self.is_going()?;
        if self.entered.iter().any(|entered| entered.place == place) {
            return Err(DiskError::Place(place));
        }
        self.documents.checked_add(accepted.documents).filter(|sum| *sum < u32::MAX).ok_or(DiskError::Documents)?;
        // A shingle is a word of two bytes at least, and takes 8 bytes and at most a fifth of one more.
        let need = self.bytes()
            + u64::from(accepted.documents) * ((RECORD_BYTES + OUTLINE_BYTES) as u64 + ENTRIES_BYTES)
            + 4 * text_bytes
            + text_bytes / 8;
        let need = need + self.runs.iter().map(|run| run.shape.bytes()).sum::<u64>();
        if need > self.bytes_max {
            return Err(DiskError::Full { need, most: self.bytes_max });
        }
        self.entered.push(Entered { place, accepted, text_bytes, first: self.documents });
        self.is_changed = true;
        self.is_stopped = true;
        batches.try_for_each(|(batch, digests)| {
            self.take(&batch, &digests)?;
            if self.waiting() >= PENDING_DOCUMENTS { self.write_pending() } else { Ok(()) }
        })?;
        self.is_stopped = false;
        Ok(())
    }

    /// Whether so much waits that it should be committed.
    pub(super) fn is_due(&self) -> bool {
        self.waiting() >= PENDING_DOCUMENTS / 2
    }

    /// Documents that no run holds.
    fn waiting(&self) -> usize {
        usize::try_from(self.documents - self.written).unwrap_or(usize::MAX)
    }

    /// Numbers the documents of a batch on.
    fn take(&mut self, batch: &Batch, digests: &[BlobId]) -> Result<(), DiskError> {
        let base = u64::from(self.documents);
        for (pending, asked) in self.pending.iter_mut().zip(batch.bands()) {
            pending.extend(asked.iter().map(|entry| entry + base));
        }
        let mut bytes = Vec::new();
        for (row, digest) in digests.iter().enumerate() {
            let set = batch.set(row);
            bytes.clear();
            bytes.extend(set.iter().flat_map(|shingle| shingle.to_be_bytes()));
            self.sets.push(&bytes).map_err(io_error("write", SETS))?;
            let (start, end) = (self.shingles, self.shingles + set.len() as u64);
            let record = Record { digest: *digest, start, end, set_check: check(&bytes) };
            self.records.push(&record.encode(self.documents)).map_err(io_error("write", RECORDS))?;
            let (outline, parity) = outlines::encode(self.documents, set, self.broad.len() / 8);
            self.outlines.push(&outline).map_err(io_error("write", OUTLINES))?;
            self.broad.push(&parity).map_err(io_error("write", BROAD))?;
            self.pending[DIGESTS].push(u64::from(search::digest_key(digest)) << 32 | u64::from(self.documents));
            self.shingles = end;
            self.documents = self.documents.checked_add(1).ok_or(DiskError::Documents)?;
        }
        Ok(())
    }

    /// The files that only grow.
    fn growing(&mut self) -> [(&mut Appender, &'static str); 4] {
        [(&mut self.records, RECORDS), (&mut self.outlines, OUTLINES), (&mut self.broad, BROAD), (&mut self.sets, SETS)]
    }

    /// Makes a run of what waits.
    fn write_pending(&mut self) -> Result<(), DiskError> {
        if self.documents == self.written {
            return Ok(());
        }
        // Whoever finds a document in the run reads these.
        for (file, name) in self.growing() {
            file.write().map_err(io_error("write", name))?;
        }
        let mut pending = std::mem::replace(&mut self.pending, vec![Vec::new(); DIGESTS + 1]);
        for column in &mut pending {
            column.sort_unstable_by(|a, b| {
                let ((key, number), (other_key, other)) = (split(*a), split(*b));
                key.cmp(&other_key).then_with(|| self.rank(number).cmp(&self.rank(other)))
            });
        }
        let count = |column: &Vec<u64>| u32::try_from(column.len()).expect("as many as documents");
        let shape = Shape::new(count(&pending[0]), count(&pending[DIGESTS]), self.documents);
        let run = Run::write(self.disk.as_ref(), self.next_run, shape, |column, filling| {
            pending[column].iter().map(|entry| split(*entry)).try_for_each(|(key, number)| filling.push(key, number))
        })?;
        self.runs.push(run);
        self.next_run += 1;
        self.written = self.documents;
        Ok(())
    }

    /// Makes everything that was entered durable, and found by searches. Nothing to do if nothing was.
    ///
    /// # Errors
    /// As [`OnDisk::insert`].
    pub(super) fn commit(&mut self) -> Result<(), DiskError> {
        self.is_going()?;
        if !self.is_changed {
            return Ok(());
        }
        self.is_stopped = true;
        self.write_pending()?;
        for (file, name) in self.growing() {
            file.sync().map_err(io_error("write", name))?;
        }
        self.merge()?;
        self.name()?;
        (self.is_changed, self.is_stopped) = (false, false);
        Ok(())
    }

    fn merge(&mut self) -> Result<(), DiskError> {
        while let Some(due) = schedule::due(&self.runs.iter().map(|run| run.shape.documents).collect::<Vec<_>>()) {
            let runs: Vec<&Run> = due.iter().map(|at| &self.runs[*at]).collect();
            let run = Run::merged(self.disk.as_ref(), self.next_run, self.documents, &runs, |number| self.rank(number))?;
            self.next_run += 1;
            for at in due.iter().rev() {
                self.merged.push(self.runs.remove(*at).number);
            }
            self.runs.push(run);
        }
        Ok(())
    }

    /// Writes the next manifest, then removes what only the last one named.
    fn name(&mut self) -> Result<(), DiskError> {
        let before = self.generation;
        self.generation += 1;
        let manifest = Manifest {
            generation: self.generation,
            next_run: self.next_run,
            documents: self.documents,
            shingles: self.shingles,
            broad: self.broad.len() / 8,
            entered: self.entered.clone(),
            runs: self.runs.iter().map(|run| (run.number, run.hash)).collect(),
        };
        let name = manifest::name(self.generation);
        let failed = io_error("write", &name);
        self.disk.sync_names().map_err(&failed)?;
        let file = self.disk.open(&name).map_err(&failed)?;
        let written = file.write(0, &manifest.encode()).and_then(|()| file.sync()).and_then(|()| self.disk.sync_names());
        written.map_err(&failed)?;
        for number in std::mem::take(&mut self.merged) {
            Run::remove(self.disk.as_ref(), number)?;
        }
        let before = manifest::name(before);
        match self.disk.remove(&before) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &before)(error)),
            _ => Ok(()),
        }
    }

    const fn is_going(&self) -> Result<(), DiskError> {
        if self.is_stopped { Err(DiskError::Stopped) } else { Ok(()) }
    }

    /// The priority of a document that was numbered here; nothing if there is none of this number.
    fn rank(&self, number: u32) -> Option<Priority> {
        let at = self.entered.partition_point(|entered| entered.first <= number).checked_sub(1)?;
        let entered = &self.entered[at];
        Some(entered.place.of_document(number - entered.first))
    }

    /// The priority of a document that a run names.
    fn priority(&self, number: u32) -> Result<Priority, DiskError> {
        self.rank(number).filter(|_| number < self.documents).ok_or_else(|| search::damaged_record(number))
    }

    fn outlines(&self) -> Outlines<'_> {
        let broad = self.broad.len();
        Outlines::new(Window::new(self.outlines.file(), self.outlines.len()), Window::new(self.broad.file(), broad), broad / 8)
    }

    fn record(&self, number: u32) -> Result<Record, DiskError> {
        let failed = io_error("read", RECORDS);
        let (mut before, mut bytes) = ([0; 8], [0; RECORD_BYTES]);
        let at = u64::from(number) * RECORD_BYTES as u64;
        // The end of the record before is where this one's set begins.
        if number > 0 {
            let mut both = [0; 16 + RECORD_BYTES];
            self.records.file().read(at - 16, &mut both).map_err(failed)?;
            before.copy_from_slice(&both[..8]);
            bytes.copy_from_slice(&both[16..]);
        } else {
            self.records.file().read(at, &mut bytes).map_err(failed)?;
        }
        let (digest, rest) = bytes.split_first_chunk::<32>().expect("48 bytes");
        let (end, rest) = rest.split_first_chunk::<8>().expect("16 bytes");
        let (set_check, own_check) = rest.split_first_chunk::<4>().expect("8 bytes");
        let record =
            Record { digest: BlobId(*digest), start: u64::from_be_bytes(before), end: u64::from_be_bytes(*end), set_check: *set_check };
        let is_good =
            record.check(number, &bytes[..RECORD_CHECKED]) == own_check && record.start <= record.end && record.end <= self.shingles;
        if is_good { Ok(record) } else { Err(search::damaged_record(number)) }
    }

    fn set(&self, number: u32, record: &Record) -> Result<Vec<u64>, DiskError> {
        let mut bytes = vec![0; record.shingles().saturating_mul(8)];
        self.sets.file().read(record.start * 8, &mut bytes).map_err(io_error("read", SETS))?;
        if check(&bytes) != record.set_check {
            return Err(DiskError::Damaged {
                file: SETS.into(),
                problem: format!("the set of document {number} is not the one that was written"),
            });
        }
        Ok(bytes.as_chunks::<8>().0.iter().map(|shingle| u64::from_be_bytes(*shingle)).collect())
    }
}

/// The manifest that counts.
fn manifest(disk: &dyn Disk) -> Result<Manifest, DiskError> {
    let names = disk.names().map_err(io_error("list", "the files"))?;
    let mut generations: Vec<u64> = names.iter().filter_map(|name| manifest::generation(name)).collect();
    generations.sort_unstable();
    let mut problem = None;
    for generation in generations.iter().rev() {
        let name = manifest::name(*generation);
        let failed = io_error("read", &name);
        let file = disk.open(&name).map_err(&failed)?;
        let mut bytes = vec![0; usize::try_from(file.len().map_err(&failed)?).unwrap_or(usize::MAX)];
        file.read(0, &mut bytes).map_err(&failed)?;
        match Manifest::decode(&bytes) {
            Ok(manifest) if manifest.generation == *generation => return Ok(manifest),
            Ok(_) => problem = problem.or_else(|| Some((name.clone(), "it is of another generation".to_owned()))),
            Err(error) => problem = problem.or_else(|| Some((name.clone(), error.to_string()))),
        }
    }
    match (problem, generations.as_slice()) {
        // The first one, torn: nothing was promised yet.
        (None, _) | (Some(_), [1]) => Ok(Manifest::default()),
        (Some((file, problem)), _) => Err(DiskError::Damaged { file, problem }),
    }
}

impl Known for OnDisk {
    type Error = DiskError;

    fn firsts(&self, digests: &[BlobId]) -> Result<Vec<Option<Priority>>, DiskError> {
        self.is_going()?;
        self.exact(digests)
    }

    fn earliest(&self, batch: &Batch, before: Priority) -> Result<Vec<Option<Match>>, DiskError> {
        self.is_going()?;
        self.nearest(batch, before)
    }
}

#[cfg(test)]
mod tests;
