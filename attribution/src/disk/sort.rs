//! The order of one group of word starts, or of one that is too large to be held: sorted in slices, then merged.
//!
//! Keys are sixteen bytes of each window. All keys of a level are read in one pass over the text, in the order of the text, so that memory holds
//! keys and no text: 36 bytes a word start. Starts whose keys are equal go on to the next level together; when a sixteenth is left, the rest of
//! their windows is read at once. A million equal headers cost sixteen passes and no comparison of one with another: what is equal stays in the order of the text,
//! which a sort of what is sorted already finds out in one look.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::FileExt as _,
};

use types::text::WINDOW;

use super::starts::{DEEP_BYTES, Key, Text, is_end, key};
use crate::index::as_index;

/// Bytes of memory for each word start of a group while it is sorted: an item, its offset, its class, its place.
pub(super) const ENTRY_BYTES: usize = size_of::<Item>() + 3 * size_of::<u32>();
/// A group's part that is left when windows are read whole: their 240 bytes take less than items did.
const WHOLE_PART: usize = 16;
/// No class: the place is known.
const PLACED: u32 = u32::MAX;

/// One word start at one level. What comes first decides first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    /// Place of the first of those that were equal so far.
    class: u32,
    key: Key,
    /// Its number among the group's offsets, which ascend.
    index: u32,
}

/// A group under way.
#[derive(Debug, Default)]
pub(super) struct Group {
    starts: Vec<u32>,
    items: Vec<Item>,
}

/// A group in order.
#[derive(Debug, Default)]
pub(super) struct Ordered {
    /// Offsets in their order.
    pub(super) starts: Vec<u32>,
    /// Every 32nd's first eight bytes, the first being that of the first one whose rank is a multiple.
    pub(super) guide: Vec<u64>,
}

fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a segment has fewer than 2^32 word starts")
}

impl Group {
    pub(super) fn with_capacity(entries: usize) -> Self {
        Self { starts: Vec::with_capacity(entries), items: Vec::with_capacity(entries) }
    }

    pub(super) const fn len(&self) -> usize {
        self.starts.len()
    }

    /// Adds an offset, larger than all before, with its key.
    pub(super) fn push(&mut self, start: u32, key: Key) {
        self.items.push(Item { class: 0, key, index: number(self.starts.len()) });
        self.starts.push(start);
    }

    /// Puts the group in order; `rank` is that of its first entry, and of every `stride`th rank the key is kept.
    pub(super) fn order(self, text: &Text<'_>, rank: usize, stride: usize) -> io::Result<Ordered> {
        let Self { starts, mut items } = self;
        let mut ordered = Ordered { starts: vec![0; starts.len()], guide: Vec::new() };
        let mut classes = vec![PLACED; starts.len()];
        items.sort_unstable();
        // Whatever is told apart later has the same first sixteen bytes.
        let skipped = rank.next_multiple_of(stride) - rank;
        ordered.guide.extend(items.iter().skip(skipped).step_by(stride).map(|item| item.key.0));
        let mut depth = DEEP_BYTES;
        loop {
            let left = place(&items, &starts, &mut ordered.starts, &mut classes, depth < WINDOW);
            if left == 0 {
                return Ok(ordered);
            }
            if left <= starts.len() / WHOLE_PART {
                drop(items);
                place_whole(text, &starts, &classes, depth, left, &mut ordered.starts)?;
                return Ok(ordered);
            }
            items.clear();
            let mut reader = text.reader();
            for (index, class) in classes.iter_mut().enumerate().filter(|(_, class)| **class != PLACED) {
                let key = key(reader.at(as_index(starts[index]) + depth)?);
                items.push(Item { class: std::mem::replace(class, PLACED), key, index: number(index) });
            }
            items.sort_unstable();
            depth += DEEP_BYTES;
        }
    }
}

/// Gives sorted items their places; those of equal keys get a class if `is_open` and their windows have not ended. Returns how many did.
fn place(items: &[Item], starts: &[u32], places: &mut [u32], classes: &mut [u32], is_open: bool) -> usize {
    let mut left = 0;
    for class in items.chunk_by(|a, b| a.class == b.class) {
        let mut at = as_index(class[0].class);
        for equal in class.chunk_by(|a, b| a.key == b.key) {
            let first = number(at);
            for item in equal {
                places[at] = starts[as_index(item.index)];
                at += 1;
            }
            if is_open && equal.len() > 1 && !is_end(equal[0].key) {
                equal.iter().for_each(|item| classes[as_index(item.index)] = first);
                left += equal.len();
            }
        }
    }
    left
}

/// Gives those that have a class their places, by the rest of their windows from `depth` on.
fn place_whole(text: &Text<'_>, starts: &[u32], classes: &[u32], depth: usize, left: usize, places: &mut [u32]) -> io::Result<()> {
    let rest = WINDOW - depth;
    let mut windows = Vec::with_capacity(left * rest);
    // Class, number of the window, offset: numbers ascend with offsets.
    let mut open: Vec<(u32, u32, u32)> = Vec::with_capacity(left);
    let mut reader = text.reader();
    for (start, class) in starts.iter().zip(classes).filter(|(_, class)| **class != PLACED) {
        let bytes = reader.at(as_index(*start) + depth)?;
        let bytes = &bytes[..bytes.len().min(rest)];
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        open.push((*class, number(open.len()), *start));
        windows.extend_from_slice(&bytes[..end]);
        windows.resize(open.len() * rest, 0);
    }
    let window = |number: u32| &windows[as_index(number) * rest..][..rest];
    open.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| window(a.1).cmp(window(b.1))).then_with(|| a.1.cmp(&b.1)));
    for class in open.chunk_by(|a, b| a.0 == b.0) {
        let first = as_index(class[0].0);
        for (place, (_, _, start)) in places[first..].iter_mut().zip(class) {
            *place = *start;
        }
    }
    Ok(())
}

/// Slices of a group that is too large, each in order, in a file.
#[derive(Debug)]
pub(super) struct Runs {
    file: File,
    lengths: Vec<usize>,
}

/// The smallest entry of a run that is not merged yet. A run's windows ascend, and of equal ones those of an earlier run stand earlier in the text.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    window: Box<[u8; WINDOW]>,
    run: usize,
    start: u32,
}

impl Runs {
    /// No runs; `file` is empty.
    pub(super) const fn new(file: File) -> Self {
        Self { file, lengths: Vec::new() }
    }

    /// Adds what is in order.
    pub(super) fn push(&mut self, ordered: &Ordered) -> io::Result<()> {
        let mut out = io::BufWriter::new(&self.file);
        ordered.starts.iter().try_for_each(|start| out.write_all(&start.to_le_bytes()))?;
        out.flush()?;
        self.lengths.push(ordered.starts.len());
        Ok(())
    }

    /// Gives all entries in order, each with the key of its window.
    pub(super) fn merge(self, text: &Text<'_>, mut each: impl FnMut(u32, u64) -> io::Result<()>) -> io::Result<()> {
        let firsts = self.lengths.iter().scan(0, |next, length| Some(std::mem::replace(next, *next + *length)));
        let mut runs: Vec<_> = firsts.zip(&self.lengths).map(|(first, length)| Run::new(&self.file, first, *length)).collect();
        let mut heads = BinaryHeap::with_capacity(runs.len());
        for (number, run) in runs.iter_mut().enumerate() {
            if let Some(start) = run.next()? {
                let mut window = Box::new([0; WINDOW]);
                text.window(start, &mut window)?;
                heads.push(Reverse(Head { window, run: number, start }));
            }
        }
        while let Some(Reverse(Head { mut window, run, start })) = heads.pop() {
            each(start, key(&window[..]).0)?;
            if let Some(start) = runs[run].next()? {
                text.window(start, &mut window)?;
                heads.push(Reverse(Head { window, run, start }));
            }
        }
        Ok(())
    }
}

/// One run, read piece by piece.
struct Run<'a> {
    file: io::BufReader<At<'a>>,
    left: usize,
}

/// A file read from a place on.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(buffer, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

impl<'a> Run<'a> {
    fn new(file: &'a File, first: usize, left: usize) -> Self {
        Self { file: io::BufReader::new(At { file, at: 4 * first as u64 }), left }
    }

    fn next(&mut self) -> io::Result<Option<u32>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let mut bytes = [0; 4];
        self.file.read_exact(&mut bytes)?;
        Ok(Some(u32::from_le_bytes(bytes)))
    }
}
