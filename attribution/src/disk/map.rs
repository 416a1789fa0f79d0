//! A file as bytes that the system reads when they are touched, or when it is told that they will be.
//!
//! A page that is touched and not in memory takes as long as the disk takes, one after the other: some 60 us each, where 128 that are asked for come side by
//! side in some 10 us each, of which the asking is a third. To ask for one that is in memory costs more than to read it, so nothing is asked for in small
//! files, which stay in memory, nor as long as a few pages that are touched come at once. Once one did not, a search asks for each page before it reads it,
//! and for none twice. Of a large file no more is read than is touched: neighbours of a window that a search ends at are not read by the next one.
//!
//! An answer of 450 tokens reads some 1,000 pages of an index over 400 MB of text (3,900 where windows alone were compared): at 10 us each 10 ms.
//!
//! A page that left memory comes back as the disk has it by then, and of that nothing was read before. What is opened from it leads to a root or is not given; that something is
//! *not* found leads nowhere: one changed entry of the array hides a match. To hold all that searches rest on against the trees would be 31 hashes for each word and segment, and three times
//! as many for the text of two neighbours: some 9 µs, for 300 words of an answer and up to two dozen segments 3 to 60 ms, more than the searches take. So the file is asked whether
//! it was written to ([`Stamp`]): one call of the system for each segment and answer, less than a microsecond. That sees whoever writes, cuts or restores a file in
//! place. It sees neither what rots below the file system, nor who sets the time of change back, nor a write within the tick of the clock (4 ms) in which the file was
//! written before: against these only reading again helps, which a node does in turn.

use std::{
    collections::HashSet,
    fs::File,
    hint::black_box,
    io,
    ops::Range,
    os::unix::fs::MetadataExt as _,
    time::{Duration, Instant},
};

use memmap2::{Advice, Mmap};

/// Bytes of a page, or of a part of one.
const PAGE_BYTES: usize = 4_096;
/// Pages that are touched to tell whether what is asked for is in memory.
const TOUCHED: usize = 16;

/// When pages are asked for.
#[derive(Debug, Clone, Copy)]
struct Asking {
    /// Bytes of the smallest file of which any are.
    from_bytes: usize,
    /// What a page takes at most that is in memory.
    at_hand: Duration,
}

const ASKING: Asking = Asking { from_bytes: 1 << 26, at_hand: Duration::from_micros(20) };

/// What a file is known by without reading it: while this stays the same nobody has written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    bytes: u64,
    /// Seconds since 1970, and nanoseconds.
    modified: (i64, i64),
}

impl Stamp {
    /// Of an open file.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(file: &File) -> io::Result<Self> {
        let known = file.metadata()?;
        Ok(Self { inode: known.ino(), bytes: known.len(), modified: (known.mtime(), known.mtime_nsec()) })
    }
}

/// What one search of many texts has asked for: as many pages as it has looked at, at most.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pages: HashSet<usize>,
    /// Whether a page was touched that was not in memory: others are likely not to be either.
    is_cold: bool,
}

/// A mapped file.
pub(crate) struct Map {
    bytes: Mmap,
    /// The file itself: its name may be another's by now.
    file: File,
    /// As it was before any byte of it was read.
    stamp: Stamp,
    asking: Asking,
}

impl Map {
    /// Maps all of `file` for reading.
    pub(crate) fn of(file: File) -> io::Result<Self> {
        Self::asked(file, ASKING)
    }

    #[allow(unsafe_code)]
    fn asked(file: File, asking: Asking) -> io::Result<Self> {
        let stamp = Stamp::of(&file)?;
        // SAFETY: a mapping is sound as long as nobody changes the file under it. Segments lie in a folder of this process's user; this crate
        // writes each under another name and never opens one for writing again, and a newer one replaces the name, not the mapped file. Whoever
        // overwrites one by other means changes values that are checked wherever they are used as a place (`index::rows`, `index::query`);
        // cutting one short ends the process (SIGBUS), which no memory of ours survives in a state that could be used.
        let bytes = unsafe { Mmap::map(&file)? };
        let map = Self { bytes, file, stamp, asking };
        map.read_in_order(false);
        Ok(map)
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// What the file was known by when it was mapped.
    pub(crate) const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Whether nobody has written to the file since it was mapped; one that cannot be asked counts as written to.
    pub(crate) fn is_unwritten(&self) -> bool {
        Stamp::of(&self.file).is_ok_and(|now| now == self.stamp)
    }

    /// Whether the file is so large that parts of it may not be in memory.
    fn is_large(&self) -> bool {
        self.bytes.len() >= self.asking.from_bytes
    }

    /// Says whether all will be read from the first byte to the last, or some here and there.
    pub(crate) fn read_in_order(&self, is_so: bool) {
        if self.is_large() {
            // Advice: where it is not taken, more is read or it takes longer.
            let _ = self.bytes.advise(if is_so { Advice::Sequential } else { Advice::Random });
        }
    }

    /// Asks for so many bytes at each of these places, unless they seem to be in memory or were asked for before.
    pub(crate) fn want(&self, asked: &mut Asked, places: impl Iterator<Item = usize> + Clone, bytes: usize) {
        if !self.is_large() {
            return;
        }
        if !asked.is_cold {
            let step = places.clone().count().div_ceil(TOUCHED).max(1);
            asked.is_cold = !places.clone().step_by(step).all(|place| self.touch(place).1 <= self.asking.at_hand);
        }
        if !asked.is_cold {
            return;
        }
        let pages_of = |place: usize| place / PAGE_BYTES..place.saturating_add(bytes).div_ceil(PAGE_BYTES);
        let mut pages: Vec<usize> = places.flat_map(pages_of).filter(|page| asked.pages.insert(*page)).collect();
        pages.sort_unstable();
        for run in pages.chunk_by(|a, b| a + 1 == *b) {
            self.ask(run[0] * PAGE_BYTES..(run[0] + run.len()).saturating_mul(PAGE_BYTES));
        }
    }

    /// Reads a byte: what it is, and how long it took. Somebody else's turn of the processor counts as the disk's, which costs some questions too many.
    fn touch(&self, place: usize) -> (Option<u8>, Duration) {
        let start = Instant::now();
        let byte = black_box(self.bytes.get(place).copied());
        (byte, start.elapsed())
    }

    fn ask(&self, bytes: Range<usize>) {
        let end = bytes.end.min(self.bytes.len());
        if bytes.start < end {
            // Advice: where it is not taken, pages come when they are touched.
            let _ = self.bytes.advise_range(Advice::WillNeed, bytes.start, end - bytes.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use types::{id::Address, text::text_root};

    use super::*;
    use crate::index::{Bytes, Segment, Source};

    #[test]
    fn what_is_asked_for_before_it_is_read_gives_the_same_answers() {
        let text: String = (0..20_000_u32).map(|number| format!("word{} of it\0", number.wrapping_mul(2_654_435_761) >> 19)).collect();
        let source =
            Source { contributor: Address([1; 20]), block: 1, ordinal: 0, text_root: text_root(text.as_bytes()), text: text.as_bytes() };
        let memory = Segment::build(&[source], 0).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = crate::disk::write_segment(folder.path(), &memory).unwrap();
        // Every page counts as one that is not in memory.
        let asking = Asking { from_bytes: 0, at_hand: Duration::ZERO };
        let map = Map::asked(File::open(path).unwrap(), asking).unwrap();
        let places = [0, usize::MAX, map.bytes.len() - 1, map.bytes.len(), 5 * PAGE_BYTES - 1];
        map.want(&mut Asked::default(), places.into_iter(), WINDOW);
        let mapped = Segment::read(Bytes::Mapped(map)).unwrap();
        let patterns: Vec<&[u8]> = (0..2_000).map(|number| &text.as_bytes()[number * 7..][..number % 80]).collect();
        assert_eq!(mapped.longest_all(&patterns), memory.longest_all(&patterns));
        assert_eq!(mapped.range_all(&patterns), memory.range_all(&patterns));
        assert_eq!(mapped.verify(), Ok(()));
    }

    #[test]
    fn a_page_is_read_to_tell_whether_it_is_at_hand_and_asked_for_once() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..5 * PAGE_BYTES).map(|place| u8::try_from(place / PAGE_BYTES).unwrap() + 1).collect();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
        let map = |at_hand| Map::asked(file.try_clone().unwrap(), Asking { from_bytes: 0, at_hand }).unwrap();
        // Where it lies tells nothing of how long it takes: what is there does.
        let (near, far) = (map(Duration::MAX), map(Duration::ZERO));
        assert_eq!([0, 2 * PAGE_BYTES, 5 * PAGE_BYTES, usize::MAX].map(|place| near.touch(place).0), [Some(1), Some(3), None, None]);
        let mut asked = Asked::default();
        near.want(&mut asked, [0, PAGE_BYTES].into_iter(), 1);
        assert!(!asked.is_cold && asked.pages.is_empty());
        asked.is_cold = true;
        far.want(&mut asked, [0, 1, 2 * PAGE_BYTES - 1].into_iter(), 2);
        assert_eq!(asked.pages, HashSet::from([0, 1, 2]));
        far.want(&mut asked, [3, 4 * PAGE_BYTES].into_iter(), 1);
        assert_eq!(asked.pages, HashSet::from([0, 1, 2, 4]));
    }

    const WINDOW: usize = types::text::WINDOW;
}
