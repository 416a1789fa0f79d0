//! Words beside a number that say what it is.

use std::ops::Range;

use super::plain::is_word_byte;

/// How far before a number its word may stand, in bytes of the image.
const BEFORE: usize = 56;
/// How far after.
const AFTER: usize = 24;

/// Whether one of `words` stands near `span`, on its line or the one before. A word that ends in `*` stands for all that begin so. Lower case.
pub(super) fn says(bytes: &[u8], span: &Range<usize>, words: &[&str]) -> bool {
    let before = &bytes[span.start.saturating_sub(BEFORE)..span.start];
    let after = &bytes[span.end..bytes.len().min(span.end + AFTER)];
    let after = after.split(|byte| *byte == b'\n').next().unwrap_or_default();
    holds(before, words) || holds(after, words)
}

/// Whether one of `words` is the last before `at`.
pub(super) fn follows(bytes: &[u8], at: usize, words: &[&str]) -> bool {
    let before = &bytes[at.saturating_sub(BEFORE)..at];
    before.split(|byte| !is_word_byte(*byte)).rfind(|word| !word.is_empty()).is_some_and(|word| is_any(word, words))
}

fn holds(part: &[u8], words: &[&str]) -> bool {
    part.split(|byte| !is_word_byte(*byte)).any(|word| word.len() > 1 && is_any(word, words))
}

fn is_any(word: &[u8], words: &[&str]) -> bool {
    words.iter().any(|wanted| match wanted.strip_suffix('*') {
        Some(start) => word.len() >= start.len() && word[..start.len()].eq_ignore_ascii_case(start.as_bytes()),
        None => word.eq_ignore_ascii_case(wanted.as_bytes()),
    })
}
