//! Text of any length out of real text of some length, from a seed, contribution by contribution: none of it lies anywhere but in the segment.
//!
//! A walk over the words of the source: a run of 3 to 8 of them, then on from another place where the last one stands. It comes in documents of some
//! 2,000 bytes, one in twenty of which is a copy of an earlier one of its contribution. Memory: the source, and 16 bytes for each of its words.

use attribution::disk::OwnedEntry;
use types::{id::Address, text::text_root};

use crate::meter::thread_seconds;

/// Bytes of a contribution, about.
const CONTRIBUTION_BYTES: usize = 4_000_000;
/// Bytes of a document, about.
const DOCUMENT_BYTES: usize = 2_000;
/// Of so many documents one is a copy.
pub(crate) const COPIED: usize = 20;

/// Numbers from a seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits")
    }
}

pub(crate) struct Walk {
    source: String,
    /// Where each word starts, and the end.
    starts: Vec<u32>,
    /// For each word the number of those that are equal to it.
    alike: Vec<u32>,
    /// For each such number where their places begin in `places`, and the end.
    firsts: Vec<u32>,
    /// Numbers of the words, those of equal ones together.
    places: Vec<u32>,
    random: Random,
    at: usize,
    /// Contributions so far.
    made: u64,
    /// Processor time that they took.
    pub(crate) seconds: f64,
}

fn index(number: u32) -> usize {
    usize::try_from(number).expect("32 bits fit")
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("a source is below 4 GB")
}

impl Walk {
    /// Over the words of `source`; nothing if there is none.
    pub(crate) fn over(source: String) -> Option<Self> {
        let mut starts = vec![0];
        starts.extend(source.split_inclusive(' ').scan(0, |end, word| {
            *end += number(word.len());
            Some(*end)
        }));
        let word = |place: u32| &source[index(starts[index(place)])..index(starts[index(place) + 1])];
        let mut places: Vec<u32> = (0..number(starts.len() - 1)).collect();
        places.sort_by(|a, b| word(*a).cmp(word(*b)));
        let mut alike = vec![0; places.len()];
        let mut firsts = vec![0];
        for same in places.chunk_by(|a, b| word(*a) == word(*b)) {
            let group = number(firsts.len() - 1);
            same.iter().for_each(|place| alike[index(*place)] = group);
            firsts.push(firsts[index(group)] + number(same.len()));
        }
        (!alike.is_empty()).then_some(Self { source, starts, alike, firsts, places, random: Random(7), at: 0, made: 0, seconds: 0.0 })
    }

    /// Another place where the word at `place` stands, or the same.
    fn another(&mut self, place: usize) -> usize {
        let group = index(self.alike[place]);
        let (first, end) = (index(self.firsts[group]), index(self.firsts[group + 1]));
        index(self.places[first + self.random.next() % (end - first)])
    }

    fn document(&mut self, out: &mut String) {
        let end = out.len() + DOCUMENT_BYTES;
        while out.len() < end {
            let last = (self.at + 3 + self.random.next() % 6).min(self.alike.len());
            out.push_str(&self.source[index(self.starts[self.at])..index(self.starts[last])]);
            self.at = (self.another(last - 1) + 1) % self.alike.len();
        }
    }

    /// The next contribution.
    pub(crate) fn contribution(&mut self) -> OwnedEntry {
        let start = thread_seconds();
        let (mut text, mut documents) = (String::with_capacity(CONTRIBUTION_BYTES + 2 * DOCUMENT_BYTES), Vec::new());
        while text.len() < CONTRIBUTION_BYTES {
            let first = text.len();
            match documents.get(self.random.next() % (COPIED * (documents.len() + 1))) {
                Some((from, to)) => text.extend_from_within(*from..*to),
                None => self.document(&mut text),
            }
            documents.push((first, text.len()));
            text.push('\0');
        }
        self.made += 1;
        let text = text.into_bytes();
        let text_root = text_root(&text);
        let entry = OwnedEntry::Text { contributor: Address([1; 20]), block: self.made, ordinal: 0, text_root, text, salt: None };
        self.seconds += thread_seconds() - start;
        entry
    }

    /// Contributions of so many bytes together, about.
    pub(crate) fn contributions(&mut self, bytes: usize) -> impl Iterator<Item = OwnedEntry> {
        (0..bytes.div_ceil(CONTRIBUTION_BYTES)).map(move |_| self.contribution())
    }
}
