//! The offline check: every segment read without trusting the index, the index read without trusting its pages, both compared.
//!
//! For a store whose node is stopped: the folder's lock is taken, nothing but the lock's file is written. A segment is walked record by record; where
//! a header does not verify, the next one that does is searched, so that one flipped bit hides one record and not the rest. What stands in between
//! is corrupt. Reading is all it costs: a segment at the speed of the disk, one item at a time in memory.
//!
//! [`Examination::salvage`] writes what verifies into a new store.

mod picture;
mod salvage;
mod walk;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use serde::{Serialize, Serializer};
use types::id::BlobId;

pub use self::salvage::{Lost, Salvaged};
use self::walk::{Found, Walked};
use super::{
    Item, StoreError,
    disk::{Disk, DiskFile, Folder},
    index::{self, Index, Location, Which, guarded},
    io_error,
    segment::{self, HEADER_BYTES, payload},
    space::ENTRIES_MAX,
};

/// Memory for the index's pages while it is checked.
const CACHE_BYTES: usize = 32 << 20;

/// State of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its bytes are what was stored, and the index knows them.
    Whole,
    /// Whole, and written after the index was last told: opening takes it in.
    Unindexed,
    /// Its bytes are whole, the header before them is not: nobody finds it without the index.
    HeaderDamaged,
    /// Its bytes are no longer what was stored.
    Corrupt,
    /// Whole in a segment, and the index, which should know it, does not.
    Unknown,
    /// In the index, and its bytes are gone with their segment or its end.
    Missing,
}

impl State {
    /// Whether a disk that kept its promises can show it.
    pub const fn is_sound(self) -> bool {
        matches!(self, Self::Whole | Self::Unindexed)
    }
}

/// An item that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damaged {
    /// The item.
    #[serde(serialize_with = "as_text")]
    pub item: Item,
    /// What is wrong.
    pub state: State,
    /// Its segment.
    pub segment: u32,
    /// Where its record begins.
    pub at: u64,
}

fn as_text<S: Serializer>(item: &Item, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(item)
}

/// A segment's bytes by what they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SegmentReport {
    /// Its number.
    pub segment: u32,
    /// Bytes in the file; nothing if there is no file.
    pub bytes: Option<u64>,
    /// Bytes that the index knows; nothing if it knows none, or cannot be read.
    pub mark: Option<u64>,
    /// Records that are kept.
    pub live_bytes: u64,
    /// Records that are not.
    pub dead_bytes: u64,
    /// Bytes that are no longer what was written, or were cut off below the mark.
    pub corrupt_bytes: u64,
    /// Bytes of a write that was broken off after the mark: opening cuts them.
    pub torn_bytes: u64,
    /// The bytes in order, a character for each part: `#` kept, `.` dead, `x` corrupt, `~` torn.
    pub picture: String,
}

/// How the index is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "why", rename_all = "snake_case")]
pub enum IndexReport {
    /// Every page verifies.
    Whole,
    /// It was read, and some of its pages do not verify.
    Damaged(String),
    /// It cannot be read.
    Unreadable(String),
}

/// Records of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableReport {
    /// The table.
    pub table: String,
    /// Records that were read.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Why not all could be read.
    pub error: Option<String>,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What `FORMAT` says, if that is not what it should.
    pub format: Option<String>,
    /// The index.
    pub index: IndexReport,
    /// The segments, in order.
    pub segments: Vec<SegmentReport>,
    /// Items by state.
    pub items: BTreeMap<State, u64>,
    /// Each item that is not as it should be, in order.
    pub damaged: Vec<Damaged>,
    /// Tables of records.
    pub tables: Vec<TableReport>,
}

impl Report {
    /// Whether the disk lost or changed anything it had promised to keep. A torn tail is no damage.
    pub fn is_damaged(&self) -> bool {
        self.format.is_some()
            || self.index != IndexReport::Whole
            || !self.damaged.is_empty()
            || self.segments.iter().any(|segment| segment.corrupt_bytes > 0 || segment.bytes.is_none())
            || self.tables.iter().any(|table| table.error.is_some())
    }
}

/// A store that was looked through. Its folder stays locked until this is dropped.
#[derive(Debug)]
pub struct Examination {
    disk: Arc<dyn Disk>,
    report: Report,
    /// Which records to take for each item, newest first.
    sources: BTreeMap<Item, Vec<Location>>,
    index: Option<Index>,
}

/// What the index says, if it says anything.
#[derive(Debug, Default)]
struct Said {
    kept: BTreeMap<Item, Location>,
    gone: BTreeSet<Item>,
    marks: BTreeMap<u32, u64>,
}

impl Examination {
    /// Looks through the store in `folder`.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while a node runs on it, [`StoreError::Folder`] if there is no store, or what the disk says: a sector that cannot be read
    /// counts as corrupt, a folder or file that cannot be opened is an error.
    pub fn of(folder: &Path) -> Result<Self, StoreError> {
        let is_store = std::fs::read_dir(folder).and_then(|entries| {
            let names = entries.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
            let names: Vec<String> = names.collect::<std::io::Result<_>>()?;
            Ok(names.iter().any(|name| is_stores(name)))
        });
        let absent = || std::io::Error::new(std::io::ErrorKind::NotFound, "it holds no store");
        match is_store {
            Ok(true) => Self::on(Arc::new(Folder::lock(folder)?)),
            Ok(false) => Err(StoreError::Folder { folder: folder.to_owned(), error: absent() }),
            Err(error) => Err(StoreError::Folder { folder: folder.to_owned(), error }),
        }
    }

    pub(super) fn on(disk: Arc<dyn Disk>) -> Result<Self, StoreError> {
        let names = disk.names().map_err(io_error("list", "the store's folder"))?;
        let has = |name: &str| names.iter().any(|known| known == name);
        let format = if has(index::FORMAT_FILE) { read_format(&*disk)? } else { Some("missing".to_owned()) };
        let (index_report, index) =
            if has(index::FILE) { open_index(&*disk)? } else { (IndexReport::Unreadable("missing".to_owned()), None) };
        let (index_report, said) = said_by(index.as_ref(), index_report);
        let mut numbers: BTreeSet<u32> = names.iter().filter_map(|name| segment::number(name)).collect();
        // A segment that is being dropped holds nothing any more.
        let mut marks: BTreeMap<u32, u64> = said.as_ref().map(|said| said.marks.clone()).unwrap_or_default();
        numbers.retain(|number| marks.get(number) != Some(&index::DROPPED));
        let mut walks = BTreeMap::new();
        for number in numbers {
            let file = disk.open(&segment::name(number)).map_err(io_error("open", segment::name(number)))?;
            let walked = walk::walk(&*file, number).map_err(io_error("read", segment::name(number)))?;
            walks.insert(number, (file, walked));
            if said.is_some() {
                // Of a segment without a mark nothing was promised.
                marks.entry(number).or_insert(0);
            }
        }
        let tables = index.as_ref().map_or_else(Vec::new, salvage::tables);
        let mut judged = Judged::default();
        match &said {
            Some(said) => judged.by_index(said, &walks),
            None => judged.by_order(&walks),
        }
        let missing = marks.iter().filter(|(number, mark)| **mark != index::DROPPED && !walks.contains_key(number));
        let mut segments: Vec<SegmentReport> = missing.map(|(number, mark)| absent(*number, *mark)).collect();
        segments.extend(walks.iter().map(|(number, (_, walked))| picture::report(*number, walked, marks.get(number).copied(), &judged)));
        segments.sort_by_key(|report| report.segment);
        let mut items = BTreeMap::new();
        judged.states.values().for_each(|(state, _)| *items.entry(*state).or_default() += 1);
        let damaged = judged.states.iter().filter(|(_, (state, _))| !state.is_sound());
        let damaged =
            damaged.map(|(item, (state, location))| Damaged { item: *item, state: *state, segment: location.segment, at: location.at });
        let report = Report { format, index: index_report, segments, items, damaged: damaged.collect(), tables };
        Ok(Self { disk, report, sources: judged.sources, index })
    }

    /// What was found.
    pub const fn report(&self) -> &Report {
        &self.report
    }
}

fn is_stores(name: &str) -> bool {
    name == index::FORMAT_FILE || name == index::FILE || segment::number(name).is_some()
}

fn absent(segment: u32, mark: u64) -> SegmentReport {
    SegmentReport {
        segment,
        bytes: None,
        mark: Some(mark),
        live_bytes: 0,
        dead_bytes: 0,
        corrupt_bytes: mark,
        torn_bytes: 0,
        picture: picture::absent(),
    }
}

fn read_format(disk: &dyn Disk) -> Result<Option<String>, StoreError> {
    let read = |file: Arc<dyn DiskFile>| {
        let mut bytes = vec![0; usize::try_from(file.len()?).map_or(80, |len| len.min(80))];
        file.read(0, &mut bytes)?;
        Ok(bytes)
    };
    let bytes = disk.open(index::FORMAT_FILE).and_then(read).map_err(io_error("read", index::FORMAT_FILE))?;
    Ok((bytes != index::FORMAT.as_bytes()).then(|| String::from_utf8_lossy(&bytes).into_owned()))
}

/// The index over a shadow. redb answers a damaged page with an error or a panic; both are damage.
fn open_index(disk: &dyn Disk) -> Result<(IndexReport, Option<Index>), StoreError> {
    let file = disk.open(index::FILE).map_err(io_error("open", index::FILE))?;
    let verified = guarded(|| Index::verify(&file, CACHE_BYTES));
    Ok(match (guarded(|| Index::shadow(Arc::clone(&file), CACHE_BYTES)), verified) {
        (Ok(index), Ok(true)) => (IndexReport::Whole, Some(index)),
        (Ok(index), Ok(false)) => (IndexReport::Damaged("some of its pages do not verify".to_owned()), Some(index)),
        (Ok(index), Err(why)) => (IndexReport::Damaged(why), Some(index)),
        (Err(why), _) => (IndexReport::Unreadable(why), None),
    })
}

/// What the index says, if all of it can be read.
fn said_by(index: Option<&Index>, report: IndexReport) -> (IndexReport, Option<Said>) {
    let Some(index) = index else { return (report, None) };
    match guarded(|| read_index(index)) {
        Ok(said) if report == IndexReport::Whole => (report, Some(said)),
        // Entries of pages that do not verify are not believed.
        Ok(_) => (report, None),
        Err(why) => (IndexReport::Damaged(why), None),
    }
}

fn read_index(index: &Index) -> Result<Said, index::IndexError> {
    let mut said = Said { marks: index.marks()?, ..Said::default() };
    for which in [Which::Kept, Which::Gone] {
        let mut after = None;
        loop {
            let entries = index.page(which, after, ENTRIES_MAX)?;
            let Some((last, _)) = entries.last() else { break };
            after = Some(*last);
            match which {
                Which::Kept => said.kept.extend(entries),
                Which::Gone => said.gone.extend(entries.iter().map(|(item, _)| *item)),
            }
        }
    }
    Ok(said)
}

type Walks = BTreeMap<u32, (Arc<dyn DiskFile>, Walked)>;

/// What is to be said of each item and each record.
#[derive(Debug, Default)]
struct Judged {
    states: BTreeMap<Item, (State, Location)>,
    sources: BTreeMap<Item, Vec<Location>>,
    /// Records that are kept, by segment and place; what is not here is dead.
    live: BTreeSet<(u32, u64)>,
}

impl Judged {
    fn settle(&mut self, item: Item, state: State, location: Location) {
        self.forget(item);
        self.states.insert(item, (state, location));
        if !matches!(state, State::Missing | State::Corrupt) {
            self.live.insert((location.segment, location.at));
        }
    }

    fn forget(&mut self, item: Item) {
        if let Some((_, old)) = self.states.remove(&item) {
            self.live.remove(&(old.segment, old.at));
        }
    }

    /// Newest whole records of each item first.
    fn gather(&mut self, walks: &Walks) -> BTreeMap<Item, Vec<(Location, bool)>> {
        let mut all: BTreeMap<Item, Vec<(Location, bool)>> = BTreeMap::new();
        for (number, (_, walked)) in walks.iter().rev() {
            for Found { at, header, is_whole, .. } in walked.records.iter().rev().filter(|found| !found.header.is_release) {
                let location = header.location(*number, *at);
                all.entry(header.item).or_default().push((location, *is_whole));
                if *is_whole {
                    self.sources.entry(header.item).or_default().push(location);
                }
            }
        }
        all
    }

    fn by_index(&mut self, said: &Said, walks: &Walks) {
        let all = self.gather(walks);
        for (item, location) in &said.kept {
            let of_item = all.get(item).map_or(&[][..], Vec::as_slice);
            let state = match of_item.iter().find(|(found, _)| found == location) {
                Some((_, true)) => State::Whole,
                Some((_, false)) => State::Corrupt,
                None => {
                    let state = unheaded(walks, location);
                    if state == State::HeaderDamaged {
                        self.sources.entry(*item).or_default().insert(0, *location);
                    }
                    state
                }
            };
            self.settle(*item, state, *location);
        }
        // What came after the marks is taken in by opening, release or not, in order.
        for (number, (_, walked)) in walks {
            let mut next = said.marks.get(number).copied().unwrap_or(HEADER_BYTES);
            for Found { at, header, is_whole, .. } in &walked.records {
                if *at != next || !is_whole {
                    continue;
                }
                next += header.record_len();
                if header.is_release {
                    self.forget(header.item);
                } else {
                    self.settle(header.item, State::Unindexed, header.location(*number, *at));
                }
            }
        }
        let released_late: BTreeSet<Item> = released(walks);
        for (item, locations) in &all {
            let is_known =
                said.gone.contains(item) || self.states.contains_key(item) || said.kept.contains_key(item) || released_late.contains(item);
            if let Some((location, _)) = locations.iter().find(|(_, is_whole)| *is_whole)
                && !is_known
            {
                self.settle(*item, State::Unknown, *location);
            }
        }
        let states = &self.states;
        self.sources.retain(|item, _| states.contains_key(item));
    }

    /// Without an index the last record of an item counts. A release found by searching is not believed: it may stand inside another's payload.
    fn by_order(&mut self, walks: &Walks) {
        let all = self.gather(walks);
        let gone = released(walks);
        for (item, locations) in &all {
            if gone.contains(item) {
                self.sources.remove(item);
                continue;
            }
            match locations.iter().find(|(_, is_whole)| *is_whole).or_else(|| locations.first()) {
                Some((location, true)) => self.settle(*item, State::Unknown, *location),
                Some((location, false)) => self.settle(*item, State::Corrupt, *location),
                None => {}
            }
        }
    }
}

/// Items whose last record is a release that can be believed.
fn released(walks: &Walks) -> BTreeSet<Item> {
    let mut last = BTreeMap::new();
    for (_, walked) in walks.values() {
        for Found { header, is_searched, .. } in &walked.records {
            if !(header.is_release && *is_searched) {
                last.insert(header.item, header.is_release);
            }
        }
    }
    last.into_iter().filter(|(_, is_release)| *is_release).map(|(item, _)| item).collect()
}

/// An item whose record the walk did not find where the index says it stands.
fn unheaded(walks: &Walks, location: &Location) -> State {
    let Some((file, _)) = walks.get(&location.segment) else { return State::Missing };
    match payload(&**file, *location) {
        Ok(bytes) if BlobId::of(&bytes) == location.hash => State::HeaderDamaged,
        Ok(_) => State::Corrupt,
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => State::Missing,
        Err(_) => State::Corrupt,
    }
}

#[cfg(test)]
mod tests;
