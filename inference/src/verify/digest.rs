//! Digests of what was computed: what a prover can be held to, and a checker computes again from the tokens alone.
//!
//! A *position* digest is of one choice: eight bytes of BLAKE3 over the codes, scales and zeros that the head read, the absolute position of the row,
//! and the token chosen there. Who computed other numbers, or chose by another rule, has another digest from the first such position on. A *page* digest
//! is of keys and values ([`Backend::page_digest`]): with it one page of a prefix can be shown and believed. Both go into one root.
//!
//! Cost: a microsecond for a position, 0.6 ms for a page of SmolLM2-135M, against 4 ms for a token decoded; 8.5 bytes for a token.

#[cfg(doc)]
use crate::backend::Backend;
use crate::step::PAGE_TOKENS;

/// What [`Digests::root`] is a hash of, beside the digests.
const ROOT: &str = "tributary digests of an answer: root";

/// Digests of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Digests {
    /// Of each choice in order; the choice of an end token is the last one.
    pub positions: Vec<[u8; 8]>,
    /// Of each page that prompt and answer take, the last perhaps not full. The last token chosen has no keys and values.
    pub pages: Vec<[u8; 32]>,
    /// Of both lists.
    pub root: [u8; 32],
}

/// What the head read of one row: the last norm in eight bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hidden<'a> {
    /// Codes.
    pub codes: &'a [i8],
    /// Of each group of codes, what one is worth.
    pub scales: &'a [f32],
    /// Of each group, what is added to each code.
    pub zeros: &'a [i32],
}

impl<'a> Hidden<'a> {
    /// The numbers that the codes stand for.
    pub fn values(self) -> impl Iterator<Item = f32> + 'a {
        let group = self.codes.len().checked_div(self.scales.len()).unwrap_or(0).max(1);
        let groups = self.codes.chunks(group).zip(self.scales.iter().zip(self.zeros));
        groups.flat_map(|(codes, (scale, zero))| codes.iter().map(move |code| value(*code, *scale, *zero)))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a code and its zero are below 2^16")]
fn value(code: i8, scale: f32, zero: i32) -> f32 {
    scale * (i32::from(code) + zero) as f32
}

/// The digest of one choice: of codes, scales, zeros, position and token in this order, numbers little endian.
#[must_use]
pub fn position_digest(hidden: Hidden<'_>, position: u32, token: u32) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = [0; 256];
    for codes in hidden.codes.chunks(bytes.len()) {
        let place = &mut bytes[..codes.len()];
        place.iter_mut().zip(codes).for_each(|(byte, code)| *byte = code.cast_unsigned());
        hasher.update(place);
    }
    for scale in hidden.scales {
        hasher.update(&scale.to_le_bytes());
    }
    for zero in hidden.zeros {
        hasher.update(&zero.to_le_bytes());
    }
    hasher.update(&position.to_le_bytes()).update(&token.to_le_bytes());
    let hash = hasher.finalize();
    let (words, _) = hash.as_bytes().as_chunks::<8>();
    words[0]
}

/// The root over both lists.
#[must_use]
pub fn root(positions: &[[u8; 8]], pages: &[[u8; 32]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(ROOT);
    let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes();
    hasher.update(&count(positions.len())).update(&count(pages.len()));
    for digest in positions {
        hasher.update(digest);
    }
    for digest in pages {
        hasher.update(digest);
    }
    hasher.finalize().into()
}

/// Digests as they come: positions with their steps, pages when they are full.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    positions: Vec<[u8; 8]>,
    pages: Vec<[u8; 32]>,
    /// Tokens whose keys and values are there.
    end: u32,
}

impl Trace {
    pub(crate) fn chosen(&mut self, hidden: Hidden<'_>, position: u32, token: u32) {
        self.positions.push(position_digest(hidden, position, token));
    }

    /// Takes in that keys and values are there for `end` tokens. `digest` is of the page of that number, so many tokens of it. What was computed a
    /// second time, after a preemption, is not asked for again.
    pub(crate) fn reached(&mut self, end: u32, digest: impl Fn(usize, u32) -> [u8; 32]) {
        self.end = self.end.max(end);
        while let Some(page) = Some(self.pages.len()).filter(|page| *page < full(self.end)) {
            self.pages.push(digest(page, PAGE_TOKENS));
        }
    }

    /// Closes the lists with the page that is not full.
    pub(crate) fn finish(mut self, digest: impl Fn(usize, u32) -> [u8; 32]) -> Digests {
        let rest = self.end % PAGE_TOKENS;
        if rest > 0 {
            self.pages.push(digest(self.pages.len(), rest));
        }
        let root = root(&self.positions, &self.pages);
        Digests { positions: self.positions, pages: self.pages, root }
    }
}

fn full(end: u32) -> usize {
    usize::try_from(end / PAGE_TOKENS).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_digest_depends_on_all_that_it_is_of() {
        let codes: Vec<i8> = (0..600).map(|at| i8::try_from(at % 251 - 125).unwrap()).collect();
        let hidden = Hidden { codes: &codes, scales: &[1.0, 2.0], zeros: &[3, -1] };
        let first = position_digest(hidden, 7, 9);
        let mut other = codes.clone();
        other[599] += 1;
        for digest in [
            position_digest(Hidden { codes: &other, ..hidden }, 7, 9),
            position_digest(Hidden { scales: &[1.0, -2.0], ..hidden }, 7, 9),
            position_digest(Hidden { zeros: &[3, 1], ..hidden }, 7, 9),
            position_digest(hidden, 8, 9),
            position_digest(hidden, 7, 8),
        ] {
            assert_ne!(digest, first);
        }
        let numbers = [[0, 0, 0x80, 0x3f], [0, 0, 0, 0x40], [3, 0, 0, 0], [255; 4], [7, 0, 0, 0], [9, 0, 0, 0]];
        let bytes: Vec<u8> = codes.iter().map(|code| code.cast_unsigned()).chain(numbers.into_iter().flatten()).collect();
        assert_eq!(first, blake3::hash(&bytes).as_bytes()[..8], "the order that the doc tells");
    }

    #[test]
    fn pages_are_taken_once_each_when_they_are_full_and_the_rest_at_the_end() {
        let asked = std::cell::RefCell::new(Vec::new());
        let digest = |page: usize, tokens: u32| {
            asked.borrow_mut().push((page, tokens));
            [u8::try_from(page).unwrap(); 32]
        };
        let mut trace = Trace::default();
        for end in [10, 64, 63, 130, 5, 64, 131] {
            trace.reached(end, digest);
        }
        let digests = trace.finish(digest);
        assert_eq!(*asked.borrow(), [(0, 64), (1, 64), (2, 3)]);
        assert_eq!(digests.pages, [[0; 32], [1; 32], [2; 32]]);
        assert_eq!(digests.root, root(&[], &digests.pages));
        assert_ne!(digests.root, root(&[], &digests.pages[..2]));
        assert_ne!(root(&[[1; 8]; 4], &[]), root(&[], &[[1; 32]]), "lists are not taken for one another");
    }

    #[test]
    fn a_sequence_that_ends_with_its_page_has_no_page_more() {
        let mut trace = Trace::default();
        trace.reached(64, |_, _| [1; 32]);
        assert_eq!(trace.finish(|_, _| panic!("no page is left")).pages.len(), 1);
    }
}
