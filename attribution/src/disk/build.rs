//! A segment built in a given memory by several threads, taken up again where it was left.
//!
//! 1. Contributions come one at a time: each is checked, written behind the one before it, hashed, and its word starts set one bit each.
//! 2. Sampled keys divide the word starts into groups that fit a thread's part of the memory; one pass puts each start into its group
//!    ([`super::spill`]), whose length gives its place.
//! 3. Threads take groups: read, sort ([`super::sort`]), write to their place. What is done is noted ([`super::journal`]).
//! 4. One pass over the array makes minima and tree, one over everything the digests; marks where groups meet are looked up. Then the file gets its name.
//!
//! The text is read through the system's cache and never mapped: memory holds an eighth of a byte per byte of text, 64 bytes for each word start of
//! the groups under way, and 32 bytes for each 1,024 bytes of text. The bytes that come out depend on the contributions alone. The disk holds
//! four bytes more for each word start until all are in order. Half-done work stands in `building.part` and `building.journal`: one build at a time
//! in a folder.

use std::{
    fs::{self, File, OpenOptions},
    io, iter,
    num::NonZeroUsize,
    ops::{ControlFlow, Range},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use types::{
    id::{Address, Hash32},
    text::WINDOW,
};

use super::{
    code::Code,
    file::publish,
    journal::Journal,
    sort::{self, ENTRY_BYTES, Ordered, Runs},
    spill::{self, Extent, Spill},
    starts::{Key, Starts, Text, wide},
};
use crate::index::{
    Both, BuildError, CELL_BYTES, Entry, HEADER_BYTES, Laid, MARK_STRIDE, Marks, PADDING, SECTIONS, Section, Source, Summary,
    TOP_KEY_BYTES, TOP_STRIDE, Table, Tombstone, cell, cells_len, in_turn, parting, top_key, tops_len,
};

/// A section with the digest of its bytes.
type Digested = (Section, [u8; 32]);

/// What a build may take.
#[derive(Debug, Clone, Copy)]
pub struct BuildOptions {
    /// Bytes of memory, the caller's contribution at hand not counted.
    pub memory_bytes: u64,
    /// Threads that sort.
    pub threads: NonZeroUsize,
}

/// A contribution with its text.
#[derive(Debug, Clone)]
pub enum OwnedEntry {
    /// A contribution.
    Text {
        /// Who is paid.
        contributor: Address,
        /// L2 block of the commitment.
        block: u64,
        /// Its place among that block's commitments.
        ordinal: u32,
        /// The registered root of `text`.
        text_root: Hash32,
        /// Its documents, each followed by a zero byte.
        text: Vec<u8>,
        /// Salt of its leaves, in a private Datanet.
        salt: Option<Hash32>,
    },
    /// One that was erased.
    Erased(Tombstone),
}

impl OwnedEntry {
    /// What a builder in memory takes.
    pub fn as_entry(&self) -> Entry<'_> {
        match self {
            Self::Text { contributor, block, ordinal, text_root, text, salt } => {
                let source = Source { contributor: *contributor, block: *block, ordinal: *ordinal, text_root: *text_root, text };
                salt.map_or(Entry::Text(source), |salt| Entry::Salted(source, salt))
            }
            Self::Erased(tombstone) => Entry::Erased(*tombstone),
        }
    }
}

/// How far a build is. Whoever is told may break off; the next build of the same goes on from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes of text are laid out.
    Laid {
        /// Bytes.
        bytes: u64,
    },
    /// So many word starts are in order.
    Sorted {
        /// Word starts done, those of an earlier build included.
        entries: u64,
        /// Word starts in all.
        of: u64,
    },
}

/// Why there is no segment.
#[derive(Debug, thiserror::Error)]
pub enum BuildFileError {
    /// The system refused.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Somebody builds in this folder.
    #[error("{0} is in use: another build runs in this folder, wait for its end")]
    Busy(PathBuf),
    /// Contributions that make no segment.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// No contribution came.
    #[error("the next contribution cannot be read: {0}")]
    Entry(Box<dyn std::error::Error + Send + Sync>),
    /// Too little memory for so much text.
    #[error("{got} bytes of memory are too few for so much text: give at least {least}")]
    Memory {
        /// What is needed.
        least: u64,
        /// What was given.
        got: u64,
    },
    /// Whoever was told of the progress broke off.
    #[error("the build was broken off; it goes on from there when it is started again")]
    Stopped,
}

/// Memory for what is small: the program itself, blocks of text under way, tables.
const BASE_BYTES: u64 = 16 << 20;
/// Fewest word starts of a thread's groups: with fewer the passes over the text would take longer than the sort.
const GROUP_ENTRIES_MIN: usize = 1 << 14;
/// A thread holds at least one part in so many of all word starts: so many groups, and half as many again, have buffers that are worth a write.
const GROUPS_MAX: usize = 512;
/// Samples for each group, which tell its size to a twentieth or so.
const SAMPLES_PER_GROUP: usize = 400;
/// Bytes of a contribution for which a thread is worth its start.
const APART_BYTES: usize = 1 << 17;
/// Bytes written, read or hashed at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Builds a segment in `folder`, under the name that its identifier gives it, from contributions ascending by (block, ordinal).
///
/// # Errors
/// [`BuildFileError`]; what was done so far is kept for the next build but where the contributions themselves are refused.
pub fn build_segment<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    folder: &Path,
    entries: impl IntoIterator<Item = Result<OwnedEntry, E>>,
    options: &BuildOptions,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<PathBuf, BuildFileError> {
    let work = Work::open(folder)?;
    let (laid, starts) = work.lay_out(entries, options.threads, progress)?;
    let plan = work.plan(&laid, &starts, options)?;
    drop(starts);
    work.sort(&laid, &plan, options, progress)?;
    let bounds: Vec<usize> = plan.ranks.iter().map(|ranks| ranks.start).collect();
    drop(plan);
    work.finish(folder, &laid, &bounds, options.threads)
}

/// The files of a build under way.
struct Work {
    part: PathBuf,
    journal: PathBuf,
    file: File,
}

/// The groups of a build.
struct Plan {
    /// Ranks of each group.
    ranks: Vec<Range<usize>>,
    /// Where the starts of each group are.
    extents: Vec<Vec<Extent>>,
    spill: Spill,
    /// By what they are compared.
    code: Code,
    /// Word starts that a thread holds.
    held: usize,
    /// What this plan is of.
    digest: [u8; 32],
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).expect("a count in memory fits 64 bits")
}

/// One thing on a thread of its own, the other here.
fn at_once(first: &mut (dyn FnMut() + Send), second: &mut dyn FnMut()) {
    thread::scope(|scope| {
        scope.spawn(first);
        second();
    });
}

impl Work {
    fn open(folder: &Path) -> Result<Self, BuildFileError> {
        let (part, journal) = (folder.join("building.part"), folder.join("building.journal"));
        let failed = |error| BuildFileError::File { path: part.clone(), error };
        fs::create_dir_all(folder).map_err(failed)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&part).map_err(failed)?;
        file.try_lock().map_err(|_| BuildFileError::Busy(part.clone()))?;
        // Between opening and locking another build may have ended: what is locked then is its segment, which nobody writes to.
        let is_ours = fs::metadata(&part).and_then(|named| Ok(named.ino() == file.metadata()?.ino()));
        if !is_ours.unwrap_or(false) {
            return Err(BuildFileError::Busy(part));
        }
        Ok(Self { part, journal, file })
    }

    fn failed(&self, error: io::Error) -> BuildFileError {
        BuildFileError::File { path: self.part.clone(), error }
    }

    /// Writes the text, and notes where words start.
    fn lay_out<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        &self,
        entries: impl IntoIterator<Item = Result<OwnedEntry, E>>,
        threads: NonZeroUsize,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(Laid, Starts), BuildFileError> {
        let (mut table, mut starts, mut end) = (Table::default(), Starts::default(), 0);
        for entry in entries {
            let entry = entry.map_err(|error| BuildFileError::Entry(error.into()))?;
            let is_long = matches!(&entry, OwnedEntry::Text { text, .. } if text.len() >= APART_BYTES);
            let both: Both<'_> = if is_long && threads.get() > 1 { &at_once } else { &in_turn };
            let placed = table.add(&entry.as_entry(), both, |start| starts.push(start))?;
            if let OwnedEntry::Text { text, .. } = &entry {
                self.zero(end, placed.start)?;
                self.write(HEADER_BYTES + placed.start, text)?;
                end = placed.start + text.len();
            }
            if progress(Progress::Laid { bytes: as_u64(end) }).is_break() {
                return Err(BuildFileError::Stopped);
            }
        }
        self.zero(end, end + PADDING)?;
        Ok((table.finish(starts.len()), starts))
    }

    /// Fills a range of the text with zeros: the file may hold another build's bytes.
    fn zero(&self, from: usize, to: usize) -> Result<(), BuildFileError> {
        self.write(HEADER_BYTES + from, &vec![0; to - from])
    }

    fn write(&self, at: usize, bytes: &[u8]) -> Result<(), BuildFileError> {
        self.file.write_all_at(bytes, as_u64(at)).map_err(|error| self.failed(error))
    }

    fn text(&self, laid: &Laid) -> Text<'_> {
        Text { file: &self.file, len: laid.counts.text }
    }

    /// Divides the word starts into groups.
    fn plan(&self, laid: &Laid, starts: &Starts, options: &BuildOptions) -> Result<Plan, BuildFileError> {
        let threads = options.threads.get();
        let tables = laid.contributions.len() + laid.documents.len() + laid.text_tree.memory_bytes();
        let fixed = BASE_BYTES + as_u64(starts.memory_bytes() + 2 * tables) + as_u64(threads * 2 * CHUNK_BYTES);
        let per_thread = options.memory_bytes.saturating_sub(fixed) / as_u64(threads * ENTRY_BYTES);
        let held = usize::try_from(per_thread).unwrap_or(usize::MAX);
        let entries = starts.len();
        let held_least = GROUP_ENTRIES_MIN.max(entries / GROUPS_MAX);
        if held < held_least {
            let least = fixed + as_u64(threads * ENTRY_BYTES * held_least);
            return Err(BuildFileError::Memory { least, got: options.memory_bytes });
        }
        let groups = (entries / (held / 10 * 8) + 1).max((2 * threads).min(entries / GROUP_ENTRIES_MIN + 1));
        let text = self.text(laid);
        let splitters = self.splitters(&text, starts, groups)?;
        let (spill, extents) = self.spill(&text, starts, &splitters, threads, held * ENTRY_BYTES / 2)?;
        let counts: Vec<usize> = extents.iter().map(|extents| spill::count(extents)).collect();
        let ranks = counts.iter().scan(0, |next, count| Some(std::mem::replace(next, *next + count)..*next)).collect();
        let mut hasher = blake3::Hasher::new();
        hasher.update(&laid.id.0.0).update(&as_u64(held).to_le_bytes());
        splitters.iter().for_each(|(high, low)| {
            hasher.update(&high.to_le_bytes()).update(&low.to_le_bytes());
        });
        counts.iter().for_each(|count| {
            hasher.update(&as_u64(*count).to_le_bytes());
        });
        let code = text.code().map_err(|error| self.failed(error))?;
        Ok(Plan { ranks, extents, spill, code, held, digest: *hasher.finalize().as_bytes() })
    }

    /// Keys that divide the word starts into about equal parts, by samples.
    fn splitters(&self, text: &Text<'_>, starts: &Starts, groups: usize) -> Result<Vec<Key>, BuildFileError> {
        let every = (starts.len() / (groups * SAMPLES_PER_GROUP)).max(1);
        let mut samples = if groups > 1 { text.sample(starts, every).map_err(|error| self.failed(error))? } else { Vec::new() };
        samples.sort_unstable();
        let mut splitters: Vec<Key> = (1..groups).filter_map(|group| samples.get(group * samples.len() / groups).copied()).collect();
        splitters.dedup();
        Ok(splitters)
    }

    /// Puts every word start into its group, each thread in some memory.
    fn spill(
        &self,
        text: &Text<'_>,
        starts: &Starts,
        splitters: &[Key],
        threads: usize,
        memory_bytes: usize,
    ) -> Result<(Spill, Vec<Vec<Extent>>), BuildFileError> {
        let path = self.part.with_extension("starts");
        let failed = |error| BuildFileError::File { path: path.clone(), error };
        let spill = Spill::new(&path).map_err(failed)?;
        let splitters: Vec<u128> = splitters.iter().map(|first| wide(*first)).collect();
        let divide = |part: Range<usize>| {
            let mut spiller = spill.spiller(splitters.len() + 1, memory_bytes);
            text.scan(starts, part, |start, key| spiller.push(splitters.partition_point(|first| *first <= wide(key)), start))?;
            spiller.finish()
        };
        let parts: io::Result<Vec<Vec<Vec<Extent>>>> = thread::scope(|scope| {
            let threads: Vec<_> = text.parts(threads).into_iter().map(|part| scope.spawn(|| divide(part))).collect();
            threads.into_iter().map(|thread| thread.join().expect("dividing does not panic")).collect()
        });
        let mut extents = vec![Vec::new(); splitters.len() + 1];
        for part in parts.map_err(failed)? {
            extents.iter_mut().zip(part).for_each(|(all, more)| all.extend(more));
        }
        Ok((spill, extents))
    }

    /// Puts every group in order that is not yet.
    fn sort(
        &self,
        laid: &Laid,
        plan: &Plan,
        options: &BuildOptions,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), BuildFileError> {
        let failed = |error| BuildFileError::File { path: self.journal.clone(), error };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.journal).map_err(failed)?;
        let (mut journal, mut done) = Journal::open(file, plan.digest).map_err(failed)?;
        done.retain(|(group, digest)| self.stands(laid, plan, *group, digest));
        journal.restart(&done).map_err(failed)?;
        let is_done = |group: usize| done.iter().any(|(done, _)| usize::try_from(*done) == Ok(group));
        let of = as_u64(laid.counts.entries);
        let mut entries: u64 = (0..plan.ranks.len()).filter(|group| is_done(*group)).map(|group| as_u64(plan.ranks[group].len())).sum();
        let open: Vec<usize> = (0..plan.ranks.len()).filter(|group| !is_done(*group)).collect();
        let (next, is_stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            let (send, receive) = mpsc::sync_channel(options.threads.get());
            for _ in 0..options.threads.get() {
                let (send, open, next, is_stopped) = (send.clone(), &open, &next, &is_stopped);
                scope.spawn(move || {
                    while let Some(group) = open.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !is_stopped.load(Ordering::Relaxed)) {
                        if send.send((*group, self.sort_group(laid, plan, *group))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(send);
            let mut ended = Ok(());
            // After a failure the others' groups still count.
            for (group, sorted) in receive {
                let noted = sorted.and_then(|digest| {
                    self.file.sync_data().map_err(|error| self.failed(error))?;
                    journal.push(u32::try_from(group).expect("groups are few"), digest).map_err(failed)
                });
                entries += as_u64(plan.ranks[group].len());
                let told = noted.and_then(|()| match progress(Progress::Sorted { entries, of }) {
                    ControlFlow::Continue(()) => Ok(()),
                    ControlFlow::Break(()) => Err(BuildFileError::Stopped),
                });
                if let Err(error) = told {
                    is_stopped.store(true, Ordering::Relaxed);
                    ended = ended.and(Err(error));
                }
            }
            ended
        })
    }

    /// Where entries of these ranks lie in the file, with those cells of marks and those tops that are theirs alone. The first mark of a group is not known to it.
    fn places(laid: &Laid, ranks: &Range<usize>, is_first_known: bool) -> [Range<usize>; 3] {
        let within = |section, bytes: usize, from: usize, to: usize| {
            let first = laid.counts.range(section).start;
            first + bytes * from..first + bytes * to.max(from)
        };
        let cells = Self::cells(laid, ranks, is_first_known);
        [
            within(Section::Array, 4, ranks.start, ranks.end),
            within(Section::Marks, CELL_BYTES, cells.start, cells.end),
            within(Section::Tops, TOP_KEY_BYTES, ranks.start.div_ceil(TOP_STRIDE), ranks.end.div_ceil(TOP_STRIDE)),
        ]
    }

    /// The cells whose marks both are of these ranks, and known to them.
    fn cells(laid: &Laid, ranks: &Range<usize>, is_first_known: bool) -> Range<usize> {
        let (first, end) = (ranks.start.div_ceil(MARK_STRIDE), ranks.end.div_ceil(MARK_STRIDE));
        let is_last = ranks.end == laid.counts.entries;
        let end = if is_last { cells_len(laid.counts.entries) } else { end / 2 };
        let first = if is_first_known { first.div_ceil(2) } else { first / 2 + 1 };
        first..end.max(first)
    }

    /// Whether what a group wrote is still there.
    fn stands(&self, laid: &Laid, plan: &Plan, group: u32, digest: &[u8; 32]) -> bool {
        let ranks = usize::try_from(group).ok().and_then(|group| plan.ranks.get(group));
        ranks.is_some_and(|ranks| self.digest(Self::places(laid, ranks, ranks.start == 0)).is_ok_and(|got| got == *digest))
    }

    fn digest<const N: usize>(&self, ranges: [Range<usize>; N]) -> io::Result<[u8; 32]> {
        let (mut hasher, mut chunk) = (blake3::Hasher::new(), Vec::new());
        for range in ranges {
            for from in range.clone().step_by(CHUNK_BYTES) {
                chunk.resize(CHUNK_BYTES.min(range.end - from), 0);
                self.file.read_exact_at(&mut chunk, as_u64(from))?;
                hasher.update(&chunk);
            }
        }
        Ok(*hasher.finalize().as_bytes())
    }

    /// Puts one group in order and writes it to its place; the digest of what it wrote.
    fn sort_group(&self, laid: &Laid, plan: &Plan, group: usize) -> Result<[u8; 32], BuildFileError> {
        let ranks = &plan.ranks[group];
        let text = self.text(laid);
        let failed = |error| self.failed(error);
        if ranks.len() > plan.held {
            self.sort_large(&text, laid, plan, group)?;
        } else {
            let starts = plan.spill.read(&plan.extents[group]).map_err(failed)?;
            let ordered = sort::order(starts, &text, &plan.code, Some(ranks.start)).map_err(failed)?;
            self.write_group(laid, ranks, &ordered, ranks.start == 0)?;
        }
        self.digest(Self::places(laid, ranks, ranks.start == 0)).map_err(failed)
    }

    fn write_group(&self, laid: &Laid, ranks: &Range<usize>, ordered: &Ordered, is_first_known: bool) -> Result<(), BuildFileError> {
        let [array, marks, tops] = Self::places(laid, ranks, is_first_known);
        for (entries, number) in ordered.starts.chunks(CHUNK_BYTES / 4).zip(0..) {
            let bytes: Vec<[u8; 4]> = entries.iter().map(|start| start.to_le_bytes()).collect();
            self.write(array.start + number * CHUNK_BYTES, bytes.as_flattened())?;
        }
        let first = ranks.start.div_ceil(MARK_STRIDE);
        let mark = |place: usize| ordered.marks.get(place - first).copied().unwrap_or(0);
        let bytes: Vec<u8> =
            Self::cells(laid, ranks, is_first_known).flat_map(|number| cell([2 * number, 2 * number + 1].map(mark))).collect();
        self.write(marks.start, &bytes)?;
        let bytes: Vec<u8> = ordered.tops.iter().flat_map(|key| key.to_le_bytes()).collect();
        self.write(tops.start, &bytes)
    }

    /// A group that no key divides, and that memory does not hold: slices in order on the disk, then merged.
    fn sort_large(&self, text: &Text<'_>, laid: &Laid, plan: &Plan, group: usize) -> Result<(), BuildFileError> {
        let ranks = &plan.ranks[group];
        let path = self.part.with_extension(format!("runs{group}"));
        let failed = |error| BuildFileError::File { path: path.clone(), error };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).map_err(failed)?;
        // It has no name while it is used, so that none is left behind.
        fs::remove_file(&path).map_err(failed)?;
        let mut runs = Runs::new(file);
        for extents in spill::slices(&plan.extents[group], plan.held) {
            let starts = plan.spill.read(extents).map_err(failed)?;
            runs.push(&sort::order(starts, text, &plan.code, None).map_err(failed)?).map_err(failed)?;
        }
        let mut rank = ranks.start;
        let (mut piece, mut last) = (Ordered::default(), Vec::new());
        // Pieces but the first begin with a cell, of marks that are known.
        let write = |rank: usize, piece: &Ordered| {
            let own = rank - piece.starts.len()..rank;
            self.write_group(laid, &own, piece, own.start == 0 || own.start != ranks.start)
        };
        runs.merge(text, |start, window| {
            if rank.is_multiple_of(MARK_STRIDE) {
                piece.marks.push(if last.is_empty() { 0 } else { parting(&last, window) });
                last = window.to_vec();
            }
            if rank.is_multiple_of(TOP_STRIDE) {
                piece.tops.push(top_key(window));
            }
            piece.starts.push(start);
            rank += 1;
            if rank.is_multiple_of(CHUNK_BYTES / 4) {
                write(rank, &std::mem::take(&mut piece)).map_err(io::Error::other)?;
            }
            Ok(())
        })
        .map_err(failed)?;
        write(rank, &piece)
    }

    /// The window at a rank.
    fn window(&self, laid: &Laid, rank: usize) -> io::Result<[u8; WINDOW]> {
        let (mut start, mut window) = ([0; 4], [0; WINDOW]);
        self.file.read_exact_at(&mut start, as_u64(laid.counts.range(Section::Array).start + 4 * rank))?;
        self.text(laid).window(u32::from_le_bytes(start), &mut window)?;
        Ok(window)
    }

    /// Writes the cells of marks that no group knows whole: those in which one begins.
    fn join_marks(&self, laid: &Laid, bounds: &[usize]) -> io::Result<()> {
        let (entries, section) = (laid.counts.entries, laid.counts.range(Section::Marks).start);
        let mark = |place: usize| match MARK_STRIDE * place {
            0 => Ok(0),
            rank if rank < entries => Ok(parting(&self.window(laid, rank - MARK_STRIDE)?, &self.window(laid, rank)?)),
            _ => Ok::<_, io::Error>(0),
        };
        let mut joined: Vec<usize> = bounds.iter().filter(|rank| **rank > 0).map(|rank| rank.div_ceil(MARK_STRIDE) / 2).collect();
        joined.dedup();
        for number in joined.into_iter().filter(|number| *number < cells_len(entries)) {
            self.file.write_all_at(&cell([mark(2 * number)?, mark(2 * number + 1)?]), as_u64(section + CELL_BYTES * number))?;
        }
        Ok(())
    }

    /// Writes the marks of tops, which follow from those between them.
    fn mark_tops(&self, laid: &Laid) -> io::Result<()> {
        let (tops, between) = (tops_len(laid.counts.entries), TOP_STRIDE / MARK_STRIDE / 2 * CELL_BYTES);
        let (cells, at_once) = (laid.counts.range(Section::Marks), CHUNK_BYTES / between);
        let mut marks = vec![0; 2 * tops.min(1)];
        for first in (0..tops.saturating_sub(1)).step_by(at_once) {
            let count = at_once.min(tops - 1 - first) + 1;
            let from = cells.start + first * between;
            let mut bytes = vec![0; (cells.end - from).min((count - 1) * between + CELL_BYTES)];
            self.file.read_exact_at(&mut bytes, as_u64(from))?;
            marks.extend(Marks::new(&bytes).of_tops(count).flat_map(u16::to_le_bytes));
        }
        self.file.write_all_at(&marks, as_u64(laid.counts.range(Section::Tops).start + TOP_KEY_BYTES * tops))
    }

    /// What follows from the array: all threads but this one hash its pieces, and this one folds what they come to.
    fn summary(&self, laid: &Laid, threads: NonZeroUsize) -> io::Result<Summary> {
        let array = laid.counts.range(Section::Array).start;
        let piece = |number: usize| {
            let ranks = laid.piece_ranks(number);
            let mut bytes = vec![0; 4 * ranks.len()];
            self.file.read_exact_at(&mut bytes, as_u64(array + 4 * ranks.start))?;
            Ok(laid.piece(number, &bytes))
        };
        let others = threads.get() - 1;
        if others == 0 {
            return laid.summary((0..laid.pieces()).map(piece));
        }
        thread::scope(|scope| {
            let piece = &piece;
            let come: Vec<_> = (0..others)
                .map(|first| {
                    let (send, receive) = mpsc::sync_channel(2);
                    // Whoever folds has ended early where nobody takes a piece.
                    scope.spawn(move || (first..laid.pieces()).step_by(others).try_for_each(|number| send.send(piece(number))));
                    receive
                })
                .collect();
            laid.summary((0..laid.pieces()).map(|number| come[number % others].recv().map_err(io::Error::other)?))
        })
    }

    /// The digest of each section.
    fn digests(&self, laid: &Laid, threads: NonZeroUsize) -> io::Result<[[u8; 32]; SECTIONS]> {
        // The two long ones first.
        let next = Mutex::new(
            [Section::Text, Section::Array]
                .into_iter()
                .chain(Section::ALL.into_iter().filter(|section| !matches!(section, Section::Text | Section::Array))),
        );
        let take = || next.lock().ok()?.next();
        let some = || -> io::Result<Vec<Digested>> {
            iter::from_fn(take).map(|section| Ok((section, self.digest([laid.counts.filled(section)])?))).collect()
        };
        let all: io::Result<Vec<Vec<Digested>>> = thread::scope(|scope| {
            let others: Vec<_> = (1..threads.get().min(Section::ALL.len())).map(|_| scope.spawn(some)).collect();
            let mut all = vec![some()];
            all.extend(others.into_iter().map(|other| other.join().expect("hashing does not panic")));
            all.into_iter().collect()
        });
        let mut digests = [[0; 32]; SECTIONS];
        all?.into_iter().flatten().for_each(|(section, digest)| digests[section as usize] = digest);
        Ok(digests)
    }

    /// Writes what follows from text and array, the header last, and gives the file its name.
    fn finish(self, folder: &Path, laid: &Laid, bounds: &[usize], threads: NonZeroUsize) -> Result<PathBuf, BuildFileError> {
        self.join_marks(laid, bounds).and_then(|()| self.mark_tops(laid)).map_err(|error| self.failed(error))?;
        let summary = self.summary(laid, threads).map_err(|error| self.failed(error))?;
        let minima: Vec<u8> = summary.minima.iter().flat_map(|word| word.to_le_bytes()).collect();
        let sections: [(Section, &[u8]); 5] = [
            (Section::Contributions, &laid.contributions),
            (Section::Documents, &laid.documents),
            (Section::TextTree, laid.text_tree.digests().as_flattened()),
            (Section::Minima, &minima),
            (Section::ArrayTree, summary.tree.digests().as_flattened()),
        ];
        for (section, content) in sections {
            self.write(laid.counts.range(section).start, content)?;
        }
        for section in Section::ALL {
            let (end, filled) = (laid.counts.range(section).end, laid.counts.filled(section).end);
            self.write(end, &vec![0; filled - end])?;
        }
        self.file.set_len(as_u64(laid.counts.total())).map_err(|error| self.failed(error))?;
        let digests = self.digests(laid, threads).map_err(|error| self.failed(error))?;
        self.write(0, &laid.header(summary.tree.root(), digests).encode())?;
        let path = folder.join(laid.id.file_name());
        publish(&self.file, &self.part, &path).map_err(|error| self.failed(error))?;
        // The segment is there, whatever becomes of the journal: one that stays names a build that is over, and counts for nothing.
        drop(fs::remove_file(&self.journal));
        Ok(path)
    }
}
