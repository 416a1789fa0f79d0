//! The order of one group of word starts, or of one that is too large to be held: sorted in slices, then merged.
//!
//! No text is in memory, only what is compared of it. One pass over the text makes an item of each start: 88 bits of its window's code
//! ([`super::code`]), and its number in the group, which together are a number that is sorted as one. Those of equal codes are a class, whose places are
//! known and whose order is not. A further pass reads as much of the windows of all classes as there is memory for, the more the fewer are left, and
//! each class is sorted by that alone, until none is left. In which bit neighbours part, which is their mark, is known from what told them apart. Where nothing is ever told apart, a million equal headers or one word for ever, what is
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
    code::{Code, ENDED, Parting, parting_bit},
    starts::Text,
};
use crate::index::{ALIKE, KEY_BYTES, MARK_STRIDE, TOP_STRIDE, as_index, is_ended, key_of, top_key};

/// Bytes of memory for each word start of a group while it is sorted.
///
/// Of these 23 at most at first: start, item, and for every fourth a mark and where it is read. Then [`KEPT_BYTES`] for each and [`LEFT_BYTES`] for each that
/// is left, with what is read of its window.
pub(super) const ENTRY_BYTES: usize = 64;
/// Start, place, and every fourth a mark and where that is read.
const KEPT_BYTES: usize = 11;
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
    /// Of every fourth rank, the first being the first one that is a multiple: in which bit its window parts from that of four ranks before; zero of the first, which
    /// is not known.
    pub(super) marks: Vec<u16>,
    /// What every 1,024th begins with, likewise.
    pub(super) tops: Vec<u128>,
}

/// Marks of a group as they become known.
struct Marked {
    /// The first rank in the group that has one.
    first: usize,
    marks: Vec<u16>,
    /// Which ones, and behind how many pairs, items do not tell.
    unsaid: Vec<(u32, u8)>,
}

impl Marked {
    /// Of items in order, from a rank on, as far as they differ; of none if there is no rank.
    fn of(items: &[Item], code: &Code, rank: Option<usize>) -> Self {
        let first = rank.map_or(items.len(), |rank| rank.next_multiple_of(MARK_STRIDE) - rank);
        let marked = items.get(first..).unwrap_or_default().iter().step_by(MARK_STRIDE);
        let mut unsaid = Vec::new();
        let mut mark = |(place, (before, item)): (usize, (&Item, &Item))| {
            let [a, b] = [before, item].map(|item| item & Item::MAX << UNCODED);
            if a == b {
                return ALIKE;
            }
            match code.parting(a, b, Item::BITS - UNCODED) {
                Parting::Bit(bit) => bit,
                Parting::Pair(pairs) => {
                    unsaid.push((number(place), pairs));
                    ALIKE
                }
            }
        };
        let unknown = marked.clone().take(1).map(|_| 0);
        let marks = unknown.chain(marked.clone().zip(marked.skip(1)).enumerate().map(|(place, two)| mark((place + 1, two)))).collect();
        Self { first, marks, unsaid }
    }

    /// Reads the rest from the windows, which are in order now.
    fn finish(mut self, starts: &[u32], text: &Text<'_>) -> io::Result<Vec<u16>> {
        let mut pieces: Vec<(u32, u32)> = Vec::with_capacity(2 * self.unsaid.len());
        for (place, same) in &self.unsaid {
            let rank = self.first + MARK_STRIDE * as_index(*place);
            let at = [rank - MARK_STRIDE, rank].map(|rank| starts[rank] + 2 * u32::from(*same));
            pieces.extend(at.into_iter().zip(number(pieces.len())..));
        }
        pieces.sort_unstable();
        let (mut pairs, mut reader) = (vec![0; pieces.len()], text.reader());
        for (at, place) in pieces {
            let pair = *reader.at(as_index(at))?.first_chunk().expect("a window's worth of zeros follows the text");
            // Nothing counts behind a zero.
            pairs[as_index(place)] = if pair[0] == 0 { 0 } else { u16::from_be_bytes(pair) };
        }
        for ((place, same), pair) in self.unsaid.iter().zip(pairs.as_chunks::<2>().0) {
            self.marks[as_index(*place)] = parting_bit(*same, pair[0], pair[1]);
        }
        Ok(self.marks)
    }

    /// Notes in which bit the window at a rank parts from the one before.
    fn note(&mut self, rank: usize, bit: u16) {
        let behind = rank.checked_sub(self.first + 1);
        if let Some(mark) = behind.and_then(|behind| self.marks.get_mut(behind / MARK_STRIDE + 1)) {
            *mark = bit.min(*mark);
        }
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a segment has fewer than 2^32 word starts")
}

/// The low 32 bits of an item.
fn number_of(item: Item) -> u32 {
    u32::try_from(item & Item::from(u32::MAX)).expect("32 bits are left")
}

/// Puts a group in order, whose starts ascend; `rank` is that of its first entry, without one there are no marks and no tops.
pub(super) fn order(starts: Vec<u32>, text: &Text<'_>, code: &Code, rank: Option<usize>) -> io::Result<Ordered> {
    let items = sorted(&starts, text, code)?;
    let mut marked = Marked::of(&items, code, rank);
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
        classes = level.order(&mut numbers, &classes, &mut marked);
        width *= WIDER;
    }
    numbers.iter_mut().for_each(|number| *number = starts[as_index(*number)]);
    let tops = rank.map_or_else(|| Ok(Vec::new()), |rank| tops(text, &numbers, rank))?;
    Ok(Ordered { marks: marked.finish(&numbers, text)?, starts: numbers, tops })
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

/// What windows begin with at those of these starts whose ranks are tops'.
fn tops(text: &Text<'_>, starts: &[u32], rank: usize) -> io::Result<Vec<u128>> {
    let wanted = starts.iter().skip(rank.next_multiple_of(TOP_STRIDE) - rank).step_by(TOP_STRIDE);
    let mut places: Vec<(u32, usize)> = wanted.copied().zip(0..).collect();
    places.sort_unstable();
    let (mut tops, mut window) = (vec![0; places.len()], [0; WINDOW]);
    for (start, place) in places {
        text.window(start, &mut window)?;
        tops[place] = top_key(&window);
    }
    Ok(tops)
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
        let room = ((ENTRY_BYTES - KEPT_BYTES) * starts.len() / left).saturating_sub(LEFT_BYTES) / KEY_BYTES;
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

    /// The first bit of what is read in which two members differ; nothing if there is none.
    fn parting(&self, a: &Member, b: &Member) -> Option<u32> {
        if a.first != b.first {
            return Some((a.first ^ b.first).leading_zeros());
        }
        let mut keys = (0_u32..).zip(self.keys(a.slot).iter().zip(self.keys(b.slot)));
        keys.find(|(_, (a, b))| a != b).map(|(place, (a, b))| u64::BITS * place + (a ^ b).leading_zeros())
    }

    /// Sorts each class and divides it: classes of windows that are equal still, and have not ended.
    fn order(&self, numbers: &mut [u32], classes: &[Class], marked: &mut Marked) -> Vec<Class> {
        let (mut next, mut members, mut slot) = (Vec::new(), Vec::new(), 0);
        for class in classes {
            let numbers = &mut numbers[class.ranks()];
            members.clear();
            members.extend(numbers.iter().zip(slot..).map(|(number, slot)| Member { first: self.keys(slot)[0], slot, number: *number }));
            slot += class.count;
            members.sort_unstable_by(|a, b| self.compare(a, b).then(a.slot.cmp(&b.slot)));
            numbers.iter_mut().zip(&members).for_each(|(number, member)| *number = member.number);
            let mut first_rank = class.first_rank;
            let mut left = &members[..];
            while let Some((first, others)) = left.split_first() {
                // Up to the one that parts from the one before it.
                let parted = others.iter().zip(left).zip(1..).find_map(|((b, a), count)| Some((count, self.parting(a, b)?)));
                let count = parted.map_or(left.len(), |(count, _)| count);
                let pairs = usize::from(class.pairs) + self.width * KEY_BYTES / 2;
                let is_ended = || self.keys(first.slot).last().is_none_or(|key| is_ended(*key));
                if count > 1 && pairs < WINDOW / 2 && !is_ended() {
                    next.push(Class { first_rank, count: number(count), pairs: u8::try_from(pairs).expect("half a window") });
                }
                first_rank += number(count);
                if let Some((_, bit)) = parted {
                    let bit = u32::from(class.pairs) * u16::BITS + bit;
                    marked.note(as_index(first_rank), u16::try_from(bit).expect("a window has 2,048 bits"));
                }
                left = &left[count..];
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

    /// Gives all entries in order, each with its window.
    pub(super) fn merge(self, text: &Text<'_>, mut each: impl FnMut(u32, &[u8; WINDOW]) -> io::Result<()>) -> io::Result<()> {
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
            each(start, &window)?;
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
