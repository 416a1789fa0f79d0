//! Answers and patterns drawn from the text of an index, from a seed.

use attribution::index::Segment;
use types::text::canonical_lossy;

use crate::walk::Random;

/// Bytes of an answer of 450 tokens.
pub(crate) const ANSWER_BYTES: usize = 1_950;

/// What is drawn.
pub(crate) struct Draw<'a> {
    segments: &'a [Segment],
    random: Random,
}

impl<'a> Draw<'a> {
    pub(crate) const fn new(segments: &'a [Segment], seed: u64) -> Self {
        Self { segments, random: Random(seed) }
    }

    /// So many characters from some place on, spaces where documents end.
    fn quote(&mut self, characters: usize) -> String {
        let text = self.segments[self.random.next() % self.segments.len()].text();
        let at = self.random.next() % text.len().saturating_sub(4 * characters).max(1);
        let piece = String::from_utf8_lossy(&text[at..text.len().min(at + 4 * characters + 4)]);
        piece.chars().filter(|c| *c != char::REPLACEMENT_CHARACTER).map(|c| if c == '\0' { ' ' } else { c }).take(characters).collect()
    }

    /// Quotes of some 90 bytes between words that are the answer's own.
    pub(crate) fn answer(&mut self) -> String {
        let mut answer = String::new();
        while answer.len() < ANSWER_BYTES {
            answer.push_str(&self.quote(90));
            answer.push_str(" which was said before, ");
        }
        canonical_lossy(answer.as_bytes())
    }

    /// Five words that stand somewhere, separated as they are there.
    pub(crate) fn pattern(&mut self) -> Vec<u8> {
        let quote = self.quote(400);
        let words = types::text::words(&quote);
        match (words.get(1), words.get(5)) {
            (Some(first), Some(last)) => quote.as_bytes()[first.start..last.end].to_vec(),
            _ => quote.into_bytes(),
        }
    }
}
