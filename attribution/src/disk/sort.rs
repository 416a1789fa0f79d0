//! The order of one group of word starts, or of one that is too large to be held: sorted in slices, then merged.
//!
//! No text is in memory, only what is compared of it: first the sixteen bytes of each window's key, collected in one pass over the text. Those of
//! equal keys are a class, whose places are known and whose order is not. A pass over the text in its own order then reads as much of the windows
//! of all classes as there is memory for, the more the fewer are left, and each class is sorted by that alone, until none is left.
//! Where nothing is ever told apart, a million equal headers or one word for ever, each pass reads sixteen bytes, and what is equal stays in the
//! order of the text, which a sort of what is sorted finds out in one look.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    fs::File,
    io::{self, Read, Write},
    ops::Range,
    os::unix::fs::FileExt as _,
};

use types::text::WINDOW;

use super::starts::{DEEP_BYTES, Key, Text, is_end, key, wide};
use crate::index::{KEY_BYTES, as_index, is_ended, key_of};

/// Bytes of memory for each word start of a group while it is sorted: an item, or its place with as much of its window as fits.
pub(super) const ENTRY_BYTES: usize = 36;
/// Bytes of these for windows and what goes with them.
const LEFT_BYTES: usize = ENTRY_BYTES - size_of::<u32>();

/// One word start at the first level.
#[derive(Debug, Clone, Copy)]
struct Item {
    key: Key,
    start: u32,
}

/// One word start of a class, by what is read of its window now.
#[derive(Debug, Clone, Copy)]
struct Member {
    /// The first eight bytes of that.
    first: u64,
    /// Its number among all that are left: numbers of a class ascend with its starts.
    slot: u32,
    start: u32,
}

/// First rank and length of what is equal so far.
type Class = [u32; 2];

/// A group under way.
#[derive(Debug, Default)]
pub(super) struct Group(Vec<Item>);

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
        Self(Vec::with_capacity(entries))
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds an offset, larger than all before, with its key.
    pub(super) fn push(&mut self, start: u32, key: Key) {
        self.0.push(Item { key, start });
    }

    /// Puts the group in order; `rank` is that of its first entry, and of every `stride`th rank the key is kept.
    pub(super) fn order(self, text: &Text<'_>, rank: usize, stride: usize) -> io::Result<Ordered> {
        let Self(mut items) = self;
        items.sort_unstable_by(|a, b| wide(a.key).cmp(&wide(b.key)).then(a.start.cmp(&b.start)));
        // Whatever is told apart later has the same first sixteen bytes.
        let skipped = rank.next_multiple_of(stride) - rank;
        let guide = items.iter().skip(skipped).step_by(stride).map(|item| item.key.0).collect();
        let (mut classes, mut first) = (Vec::new(), 0);
        for equal in items.chunk_by(|a, b| a.key == b.key) {
            if equal.len() > 1 && !is_end(equal[0].key) {
                classes.push([number(first), number(equal.len())]);
            }
            first += equal.len();
        }
        let mut starts: Vec<u32> = items.iter().map(|item| item.start).collect();
        drop(items);
        let mut depth = DEEP_BYTES;
        while !classes.is_empty() && depth < WINDOW {
            let level = Level::read(text, &starts, &classes, depth)?;
            depth += level.width * KEY_BYTES;
            classes = level.order(&mut starts, &classes);
        }
        Ok(Ordered { starts, guide })
    }
}

/// The ranks of a class.
fn ranks([first, count]: Class) -> Range<usize> {
    as_index(first)..as_index(first) + as_index(count)
}

/// What is read of the windows of all that are left.
struct Level {
    /// Of each slot so many, zero from the window's end on.
    keys: Vec<u64>,
    /// Keys of a slot.
    width: usize,
}

impl Level {
    /// Reads the windows of classes from `depth` on; slots are numbered class by class.
    fn read(text: &Text<'_>, starts: &[u32], classes: &[Class], depth: usize) -> io::Result<Self> {
        let left: usize = classes.iter().map(|[_, count]| as_index(*count)).sum();
        // With a window goes its offset with its slot, then a member.
        let most = (LEFT_BYTES * starts.len() / left - size_of::<Member>()) / KEY_BYTES;
        let width = most.min((WINDOW - depth) / KEY_BYTES);
        let mut slots: Vec<u64> = Vec::with_capacity(left);
        for start in classes.iter().flat_map(|class| &starts[ranks(*class)]) {
            slots.push(u64::from(*start) << u32::BITS | u64::from(number(slots.len())));
        }
        slots.sort_unstable();
        let mut keys = vec![0; left * width];
        let mut reader = text.reader();
        for slot in slots {
            let [start, slot] = [slot >> u32::BITS, slot & u64::from(u32::MAX)].map(|half| usize::try_from(half).expect("32 bits fit"));
            let window = reader.at(start + depth)?.as_chunks().0;
            for (key, bytes) in keys[slot * width..][..width].iter_mut().zip(window) {
                *key = key_of(*bytes);
                if is_ended(*key) {
                    break;
                }
            }
        }
        Ok(Self { keys, width })
    }

    fn keys(&self, slot: u32) -> &[u64] {
        &self.keys[as_index(slot) * self.width..][..self.width]
    }

    fn compare(&self, a: &Member, b: &Member) -> Ordering {
        a.first.cmp(&b.first).then_with(|| self.keys(a.slot)[1..].cmp(&self.keys(b.slot)[1..]))
    }

    /// Sorts each class and divides it: classes of windows that are equal still, and have not ended.
    fn order(&self, starts: &mut [u32], classes: &[Class]) -> Vec<Class> {
        let (mut next, mut members, mut slot) = (Vec::new(), Vec::new(), 0);
        for class in classes {
            let starts = &mut starts[ranks(*class)];
            members.clear();
            members.extend(starts.iter().zip(slot..).map(|(start, slot)| Member { first: self.keys(slot)[0], slot, start: *start }));
            slot += class[1];
            members.sort_unstable_by(|a, b| self.compare(a, b).then(a.slot.cmp(&b.slot)));
            starts.iter_mut().zip(&members).for_each(|(start, member)| *start = member.start);
            let mut first = class[0];
            for equal in members.chunk_by(|a, b| self.compare(a, b).is_eq()) {
                let is_ended = || self.keys(equal[0].slot).last().is_none_or(|key| is_ended(*key));
                if equal.len() > 1 && !is_ended() {
                    next.push([first, number(equal.len())]);
                }
                first += number(equal.len());
            }
        }
        next
    }
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
