//! The order of one group of word starts, or of one that is too large to be held: sorted in slices, then merged.
//!
//! No text is in memory, only what is compared of it. One pass over the text makes an item of each start: 88 bits of its window's code
//! ([`super::code`]), and its number in the group, which together are a number that is sorted as one. Those of equal codes are a class, whose places are
//! known and whose order is not. A further pass reads as much of the windows of all classes as there is memory for, the more the fewer are left, and
//! each class is sorted by that alone, until none is left. Where nothing is ever told apart, a million equal headers or one word for ever, what is
//! equal stays in the order of the text, which a sort of what is sorted finds out in one look.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    fs::File,
    io::{self, Read, Write},
    ops::Range,
    os::unix::fs::FileExt as _,
};

use types::text::WINDOW;

use super::{
    code::{Code, ENDED},
    starts::{Text, key},
};
use crate::index::{KEY_BYTES, as_index, is_ended, key_of};

/// Bytes of memory for each word start of a group while it is sorted.
///
/// Of these 20 at first: start and item. Then eight for each, start and place, and [`LEFT_BYTES`] for each that is left, with what is read of its window.
pub(super) const ENTRY_BYTES: usize = 64;
/// Bytes for each start that is in a class: a half of that class, of those that come of it, and a member.
const LEFT_BYTES: usize = size_of::<Class>() + size_of::<Member>();
/// Bits of an item that are no code: how much it says, and its number.
const UNCODED: u32 = u8::BITS + u32::BITS;
/// Keys of a window that are read at first, and how many times as many then. Most that are equal in an item differ soon, few ever after.
const WIDTH: usize = 4;
const WIDER: usize = 3;
/// Keys of a whole window.
const WIDTH_MAX: usize = WINDOW / KEY_BYTES;
/// Places that are looked up together, so that waits for memory overlap.
const AT_ONCE: usize = 64;
/// No slot.
const NONE: u32 = u32::MAX;

/// A window's code as far as an item holds it, how many pairs that says, and which number in the group its start has; highest bits first.
type Item = u128;

/// One word start of a class, by what is read of its window now.
#[derive(Debug, Clone, Copy)]
struct Member {
    /// The first eight bytes of that.
    first: u64,
    /// Its number among all that are left: numbers of a class ascend with its starts.
    slot: u32,
    /// Its number in the group.
    number: u32,
}

/// What is equal so far.
#[derive(Debug, Clone, Copy)]
struct Class {
    first_rank: u32,
    count: u32,
    /// Pairs of bytes in which it is.
    pairs: u8,
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

/// The low 32 bits of an item.
fn number_of(item: Item) -> u32 {
    u32::try_from(item & Item::from(u32::MAX)).expect("32 bits are left")
}

/// Puts a group in order, whose starts ascend; `rank` is that of its first entry, and of every `stride`th rank the key is kept.
pub(super) fn order(starts: Vec<u32>, text: &Text<'_>, code: &Code, rank: usize, stride: usize) -> io::Result<Ordered> {
    let items = sorted(&starts, text, code)?;
    let (mut classes, mut first_rank) = (Vec::new(), 0);
    for equal in items.chunk_by(|a, b| a >> u32::BITS == b >> u32::BITS) {
        let pairs = (equal[0] >> u32::BITS).to_le_bytes()[0];
        if equal.len() > 1 && pairs != ENDED {
            classes.push(Class { first_rank, count: number(equal.len()), pairs });
        }
        first_rank += number(equal.len());
    }
    let mut numbers: Vec<u32> = items.iter().map(|item| number_of(*item)).collect();
    drop(items);
    let mut width = WIDTH;
    while !classes.is_empty() {
        let level = Level::read(text, &starts, &numbers, &classes, width)?;
        classes = level.order(&mut numbers, &classes);
        width *= WIDER;
    }
    numbers.iter_mut().for_each(|number| *number = starts[as_index(*number)]);
    let guide = guide(text, &numbers, rank, stride)?;
    Ok(Ordered { starts: numbers, guide })
}

/// The first look at every window.
fn sorted(starts: &[u32], text: &Text<'_>, code: &Code) -> io::Result<Vec<Item>> {
    let mut items = Vec::with_capacity(starts.len());
    let mut reader = text.reader();
    for (start, number) in starts.iter().zip(0_u32..) {
        let mut bits = [0; 2];
        let pairs = code.write(&reader.at(as_index(*start))?[..WINDOW], &mut bits, UNCODED);
        let low = bits[1] | u64::from(pairs) << u32::BITS | u64::from(number);
        items.push(Item::from(bits[0]) << u64::BITS | Item::from(low));
    }
    items.sort_unstable();
    Ok(items)
}

/// The first eight bytes at those of these starts whose ranks are multiples.
fn guide(text: &Text<'_>, starts: &[u32], rank: usize, stride: usize) -> io::Result<Vec<u64>> {
    let wanted = starts.iter().skip(rank.next_multiple_of(stride) - rank).step_by(stride);
    let mut places: Vec<(u32, usize)> = wanted.copied().zip(0..).collect();
    places.sort_unstable();
    let (mut guide, mut reader) = (vec![0; places.len()], text.reader());
    for (start, place) in places {
        guide[place] = key(reader.at(as_index(start))?).0;
    }
    Ok(guide)
}

impl Class {
    fn ranks(&self) -> Range<usize> {
        as_index(self.first_rank)..as_index(self.first_rank) + as_index(self.count)
    }
}

/// Writes the keys of what is left of a window, zero from its end on.
fn read_keys(window: &[u8], keys: &mut [u64]) {
    keys.fill(0);
    let (whole, rest) = window.as_chunks();
    let mut padded = [0; KEY_BYTES];
    padded[..rest.len()].copy_from_slice(rest);
    for (key, bytes) in keys.iter_mut().zip(whole.iter().chain([&padded])) {
        *key = key_of(*bytes);
        if is_ended(*key) {
            break;
        }
    }
}

/// What is read of the windows of all that are left.
struct Level {
    /// Of each slot so many, zero from the window's end on.
    keys: Vec<u64>,
    /// Keys of a slot.
    width: usize,
}

impl Level {
    /// Reads the windows of classes from where they may differ on; slots are numbered class by class.
    fn read(text: &Text<'_>, starts: &[u32], numbers: &[u32], classes: &[Class], width: usize) -> io::Result<Self> {
        let left: usize = classes.iter().map(|class| as_index(class.count)).sum();
        let room = ((ENTRY_BYTES - 2 * size_of::<u32>()) * starts.len() / left).saturating_sub(LEFT_BYTES) / KEY_BYTES;
        let width = room.min(width).clamp(1, WIDTH_MAX);
        let mut slots = vec![NONE; starts.len()];
        let mut keys = vec![0; left * width];
        let mut slot = 0;
        for class in classes {
            for number in &numbers[class.ranks()] {
                slots[as_index(*number)] = slot;
                keys[as_index(slot) * width] = u64::from(class.pairs);
                slot += 1;
            }
        }
        let mut reader = text.reader();
        let mut places = starts.iter().zip(slots).filter(|(_, slot)| *slot != NONE).map(|(start, slot)| (*start, as_index(slot) * width));
        let mut some = Vec::with_capacity(AT_ONCE);
        loop {
            some.clear();
            some.extend(places.by_ref().take(AT_ONCE).map(|(start, place)| (start, place, keys[place])));
            if some.is_empty() {
                return Ok(Self { keys, width });
            }
            for (start, place, pairs) in &some {
                let depth = 2 * usize::from(pairs.to_le_bytes()[0]);
                read_keys(&reader.at(as_index(*start))?[depth..WINDOW], &mut keys[*place..][..width]);
            }
        }
    }

    fn keys(&self, slot: u32) -> &[u64] {
        &self.keys[as_index(slot) * self.width..][..self.width]
    }

    fn compare(&self, a: &Member, b: &Member) -> Ordering {
        a.first.cmp(&b.first).then_with(|| self.keys(a.slot)[1..].cmp(&self.keys(b.slot)[1..]))
    }

    /// Sorts each class and divides it: classes of windows that are equal still, and have not ended.
    fn order(&self, numbers: &mut [u32], classes: &[Class]) -> Vec<Class> {
        let (mut next, mut members, mut slot) = (Vec::new(), Vec::new(), 0);
        for class in classes {
            let numbers = &mut numbers[class.ranks()];
            members.clear();
            members.extend(numbers.iter().zip(slot..).map(|(number, slot)| Member { first: self.keys(slot)[0], slot, number: *number }));
            slot += class.count;
            members.sort_unstable_by(|a, b| self.compare(a, b).then(a.slot.cmp(&b.slot)));
            numbers.iter_mut().zip(&members).for_each(|(number, member)| *number = member.number);
            let mut first_rank = class.first_rank;
            for equal in members.chunk_by(|a, b| self.compare(a, b).is_eq()) {
                let count = number(equal.len());
                let pairs = usize::from(class.pairs) + self.width * KEY_BYTES / 2;
                let is_ended = || self.keys(equal[0].slot).last().is_none_or(|key| is_ended(*key));
                if count > 1 && pairs < WINDOW / 2 && !is_ended() {
                    next.push(Class { first_rank, count, pairs: u8::try_from(pairs).expect("half a window") });
                }
                first_rank += count;
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
