//! Where neighbours of the array part: what finds a text's place among windows of which it reads one.
//!
//! Windows in order make a tree of bits: two neighbours share what stands before the first bit in which they differ, their *mark*, and there the earlier one
//! has 0 and the later one 1. Whoever goes along the marks with a pattern, and at each asks for that bit of the pattern alone, ends at a window with which
//! the pattern has as much in common as with any: what was passed over was never compared, but would have differed earlier. That one is read. The bit in which
//! the pattern parts from it tells on which side of it the pattern belongs, and the marks how far on that side: up to the first window that parts from it as early.
//!
//! Every fourth window has a mark, of 12 bits (a window has 2,048), two in a cell of three bytes: 1.5 bytes for eight entries, where the text between costs two
//! more windows to be read. Every 1,024th window is a *top*: its first 16 bytes and its mark among tops, 18 bytes, lie together and stay in memory, some
//! 3 MB a GiB of prose. So a search reads one place of the marks, one of the array, and the windows of three entries, each of which may be a page that is not in memory.
//!
//! What is read here may be another's file: whatever the marks are, a search ends at some place of the range that it was given.

use std::ops::Range;

use types::text::WINDOW;

use super::order::{KEY_BYTES as PART_BYTES, is_ended, key_of};

/// Entries from one mark to the next.
pub(crate) const MARK_STRIDE: usize = 4;
/// Entries from one top to the next, and marks.
pub(crate) const TOP_STRIDE: usize = 1_024;
pub(super) const TOP_MARKS: usize = TOP_STRIDE / MARK_STRIDE;
/// Bytes of two marks.
pub(crate) const CELL_BYTES: usize = 3;
/// Bytes of a window that a top has.
pub(crate) const TOP_KEY_BYTES: usize = 16;
/// Bytes of a top: those, and a mark.
pub(super) const TOP_BYTES: usize = TOP_KEY_BYTES + 2;
/// The mark of a window that is the same as the one before, beyond the last bit of any.
pub(crate) const ALIKE: u16 = 0xfff;

/// Marks of so many entries.
const fn marks_len(entries: usize) -> usize {
    entries.div_ceil(MARK_STRIDE)
}

/// Cells of them.
pub(crate) const fn cells_len(entries: usize) -> usize {
    marks_len(entries).div_ceil(2)
}

/// Tops of so many entries.
pub(crate) const fn tops_len(entries: usize) -> usize {
    entries.div_ceil(TOP_STRIDE)
}

/// Eight bytes of a window as a number, zeros from its end on.
fn part(window: &[u8], place: usize) -> u64 {
    let rest = window.get(PART_BYTES * place..).unwrap_or_default();
    key_of(rest.first_chunk().copied().unwrap_or_else(|| {
        let mut filled = [0; PART_BYTES];
        filled[..rest.len()].copy_from_slice(rest);
        filled
    }))
}

/// The first bit in which two windows differ, each up to its first zero byte, zeros behind both; [`ALIKE`] if there is none.
pub(crate) fn parting(a: &[u8], b: &[u8]) -> u16 {
    for place in 0..WINDOW / PART_BYTES {
        let (x, y) = (part(a, place), part(b, place));
        if x != y {
            let bits = u64::BITS * u32::try_from(place).expect("parts of a window are few") + (x ^ y).leading_zeros();
            return u16::try_from(bits).expect("a window has 2,048 bits");
        }
        if is_ended(x) {
            break;
        }
    }
    ALIKE
}

/// What a top has of its window, as a number that compares as windows do.
pub(crate) fn top_key(window: &[u8]) -> u128 {
    let first = part(window, 0);
    u128::from(first) << u64::BITS | u128::from(if is_ended(first) { 0 } else { part(window, 1) })
}

/// That bit of a pattern, behind which zeros stand.
pub(super) fn is_set(pattern: &[u8], bit: u16) -> bool {
    pattern.get(usize::from(bit / 8)).is_some_and(|byte| byte >> (7 - bit % 8) & 1 == 1)
}

/// Whole bytes that a pattern shares with a window from which it parts there.
pub(super) fn shared(pattern: &[u8], parting: u16) -> usize {
    usize::from(parting / 8).min(pattern.len())
}

/// A walk along marks with a pattern, to the window with which it shares as much as with any.
struct Walk<'p> {
    pattern: &'p [u8],
    found: usize,
    /// Those that share more than this with one that the pattern does not reach are not reached either.
    left: u16,
}

impl Walk<'_> {
    const fn from(place: usize, pattern: &[u8]) -> Walk<'_> {
        Walk { pattern, found: place, left: u16::MAX }
    }

    fn meet(&mut self, place: usize, mark: u16) {
        if mark < self.left {
            if is_set(self.pattern, mark) {
                (self.found, self.left) = (place, u16::MAX);
            } else {
                self.left = mark;
            }
        }
    }
}

/// The first of these windows that is not before `pattern`, given from where it parts from the likeliest one; their end if all are.
pub(super) fn settled(among: &Range<usize>, mark: impl Fn(usize) -> u16, likeliest: usize, parting: u16, pattern: &[u8]) -> usize {
    if is_set(pattern, parting) {
        (likeliest + 1..among.end).find(|place| mark(*place) <= parting).unwrap_or(among.end)
    } else {
        (among.start + 1..=likeliest).rev().find(|place| mark(*place) < parting).unwrap_or(among.start)
    }
}

/// Two marks as three bytes, the first in the lower bits.
pub(crate) fn cell(marks: [u16; 2]) -> [u8; CELL_BYTES] {
    let [low, high, higher, _] = (u32::from(marks[0]) | u32::from(marks[1]) << 12).to_le_bytes();
    [low, high, higher]
}

/// Marks where they lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Marks<'a>(&'a [[u8; CELL_BYTES]]);

impl<'a> Marks<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.as_chunks().0)
    }

    /// One of them; zero beyond the last.
    pub(crate) fn get(self, place: usize) -> u16 {
        let [low, high, higher] = self.0.get(place / 2).copied().unwrap_or_default();
        if place.is_multiple_of(2) { u16::from_le_bytes([low, high & 0xf]) } else { u16::from(higher) << 4 | u16::from(high >> 4) }
    }

    /// The one of some marked windows with which `pattern` shares as much as with any.
    pub(super) fn likeliest(self, among: &Range<usize>, pattern: &[u8]) -> usize {
        let mut walk = Walk::from(among.start, pattern);
        // Whole cells, which is twice as quick: most are passed over at a look.
        let cells = among.start / 2 + 1..among.end / 2;
        let edge = |walk: &mut Walk<'_>, places: Range<usize>| places.for_each(|place| walk.meet(place, self.get(place)));
        if cells.start >= cells.end {
            edge(&mut walk, among.start + 1..among.end);
            return walk.found;
        }
        edge(&mut walk, among.start + 1..2 * cells.start);
        for (number, [low, high, higher]) in cells.clone().zip(self.0.get(cells.clone()).unwrap_or_default()) {
            let both = u32::from_le_bytes([*low, *high, *higher, 0]);
            let (first, second) = (both & 0xfff, both >> 12);
            if first.min(second) < u32::from(walk.left) {
                walk.meet(2 * number, u16::from_le_bytes([*low, *high & 0xf]));
                walk.meet(2 * number + 1, u16::from(*higher) << 4 | u16::from(*high >> 4));
            }
        }
        edge(&mut walk, 2 * cells.end..among.end);
        walk.found
    }

    /// The marks among tops of those after the first of so many, these being the marks from the first one on.
    pub(crate) fn of_tops(self, tops: usize) -> impl Iterator<Item = u16> {
        let least = move |top: usize| (1..=TOP_MARKS).map(|place| self.get(TOP_MARKS * top + place)).min().unwrap_or(0);
        (0..tops.saturating_sub(1)).map(least)
    }
}

/// Tops where they lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tops<'a> {
    keys: &'a [[u8; TOP_KEY_BYTES]],
    marks: &'a [[u8; 2]],
}

impl<'a> Tops<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let (keys, marks) = bytes.split_at(bytes.len() / TOP_BYTES * TOP_KEY_BYTES);
        Self { keys: keys.as_chunks().0, marks: marks.as_chunks().0 }
    }

    /// The mark of one among tops; zero beyond the last.
    pub(super) fn mark(self, top: usize) -> u16 {
        self.marks.get(top).map_or(0, |mark| u16::from_le_bytes(*mark))
    }

    /// The one of some tops with which `pattern` shares as much as with any.
    pub(super) fn likeliest(self, among: &Range<usize>, pattern: &[u8]) -> usize {
        let mut walk = Walk::from(among.start, pattern);
        (among.start + 1..among.end).for_each(|place| walk.meet(place, self.mark(place)));
        walk.found
    }

    /// How many keys from `first` on are so, which are probably few.
    fn run(self, first: usize, is_so: impl Fn(u128) -> bool) -> usize {
        let rest = self.keys.get(first..).unwrap_or_default();
        let is_so = |key: &[u8; TOP_KEY_BYTES]| is_so(u128::from_le_bytes(*key));
        let mut least = 0;
        let mut step = 1;
        while rest.get(least + step - 1).is_some_and(is_so) {
            least += step;
            step *= 2;
        }
        least + rest[least..rest.len().min(least + step)].partition_point(is_so)
    }

    /// Those of which their keys do not tell whether they are before `pattern`: all before them are, none behind them is.
    pub(super) fn untold(self, pattern: &[u8]) -> Range<usize> {
        let wanted = top_key(pattern);
        let first = self.keys.partition_point(|key| u128::from_le_bytes(*key) < wanted);
        let is_told = pattern.len() <= TOP_KEY_BYTES;
        first..if is_told { first } else { first + self.run(first, |key| key == wanted) }
    }

    /// The first top behind `from` that does not begin with `pattern`, of one that does.
    pub(super) fn run_end(self, from: usize, pattern: &[u8]) -> usize {
        let mut most = [u8::MAX; TOP_KEY_BYTES];
        most.iter_mut().zip(pattern).for_each(|(place, byte)| *place = *byte);
        let most = u128::from_be_bytes(most);
        let end = from + self.run(from, |key| key <= most);
        if pattern.len() <= TOP_KEY_BYTES {
            end
        } else {
            (from + 1..end).find(|top| usize::from(self.mark(*top)) < 8 * pattern.len()).unwrap_or(end)
        }
    }
}

/// Collects marks and tops as marked windows come, in their order.
#[derive(Debug, Default)]
pub(crate) struct Marking {
    last: Vec<u8>,
    marks: Vec<u16>,
    keys: Vec<u8>,
}

impl Marking {
    pub(crate) fn push(&mut self, window: &[u8]) {
        if self.marks.len().is_multiple_of(TOP_MARKS) {
            self.keys.extend(top_key(window).to_le_bytes());
        }
        self.marks.push(if self.marks.is_empty() { 0 } else { parting(&self.last, window) });
        self.last.clear();
        self.last.extend_from_slice(window);
    }

    /// Both sections.
    pub(crate) fn finish(self) -> (Vec<u8>, Vec<u8>) {
        let cells = self.marks.chunks(2).flat_map(|marks| cell([marks[0], marks.get(1).copied().unwrap_or(0)])).collect::<Vec<u8>>();
        let mut tops = self.keys;
        let count = tops.len() / TOP_KEY_BYTES;
        let of_tops = std::iter::once(0).take(count).chain(Marks::new(&cells).of_tops(count));
        tops.extend(of_tops.flat_map(u16::to_le_bytes));
        (cells, tops)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits(window: &[u8]) -> Vec<bool> {
        let end = window.iter().position(|byte| *byte == 0).unwrap_or(window.len()).min(WINDOW);
        let byte = |at: usize| window[..end].get(at).copied().unwrap_or(0);
        (0..8 * WINDOW).map(|bit| byte(bit / 8) >> (7 - bit % 8) & 1 == 1).collect()
    }

    fn texts() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(prop_oneof![3 => Just(b'a'), 2 => Just(b'b'), 1 => Just(b'c')], 0..12),
            proptest::collection::vec(prop_oneof![30 => Just(b'a'), 1 => Just(b'b')], 240..256_usize),
            proptest::collection::vec(1..=255_u8, 0..4),
        ]
    }

    proptest! {
        #[test]
        fn windows_part_at_the_first_bit_that_differs(a in texts(), b in texts(), tail in texts()) {
            let a = [&a[..], b"\0", &tail].concat();
            let (x, y) = (bits(&a), bits(&b));
            let expected = x.iter().zip(&y).position(|(x, y)| x != y).map_or(ALIKE, |bit| u16::try_from(bit).unwrap());
            prop_assert_eq!(parting(&a, &b), expected);
            prop_assert_eq!(top_key(&a).cmp(&top_key(&b)), bits(&a)[..128].cmp(&bits(&b)[..128]));
        }

        #[test]
        fn marks_lead_to_the_window_that_shares_most_and_to_where_the_pattern_belongs(mut windows in proptest::collection::vec(texts(), 1..60), pattern in texts(), cut in 0..300_usize) {
            windows.sort();
            let pattern = &pattern[..pattern.len().min(cut)];
            let mut marking = Marking::default();
            windows.iter().for_each(|window| marking.push(window));
            let (cells, tops) = marking.finish();
            prop_assert_eq!((cells.len(), tops.len()), (CELL_BYTES * windows.len().div_ceil(2), TOP_BYTES));
            let marks = Marks::new(&cells);
            for among in [0..windows.len(), windows.len() / 3..windows.len(), 0..windows.len().div_ceil(2)] {
                let found = marks.likeliest(&among, pattern);
                let at = parting(&windows[found], pattern);
                let most = windows[among.clone()].iter().map(|window| parting(window, pattern)).max();
                prop_assert_eq!(Some(at), most);
                let expected = among.start + windows[among.clone()].partition_point(|window| &window[..] < pattern);
                prop_assert_eq!(settled(&among, |place| marks.get(place), found, at, pattern), expected);
            }
        }

        #[test]
        fn whatever_marks_say_a_place_of_the_range_is_found(cells in proptest::collection::vec(any::<u8>(), 0..90), among in (0..70_usize, 0..70_usize), pattern in texts(), parting in 0..=ALIKE) {
            let (marks, among) = (Marks::new(&cells), among.0.min(among.1)..among.0.max(among.1));
            let found = marks.likeliest(&among, &pattern);
            prop_assert!(among.contains(&found) || found == among.start);
            let place = settled(&among, |place| marks.get(place), found, parting, &pattern);
            prop_assert!((among.start..=among.end).contains(&place));
        }

        #[test]
        fn a_cell_holds_two_marks(marks in proptest::collection::vec(0..=ALIKE, 0..9)) {
            let cells: Vec<u8> = marks.chunks(2).flat_map(|two| cell([two[0], two.get(1).copied().unwrap_or(7)])).collect();
            let read = Marks::new(&cells);
            prop_assert!(marks.iter().enumerate().all(|(place, mark)| read.get(place) == *mark));
        }
    }
}
