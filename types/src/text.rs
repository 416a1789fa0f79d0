//! Canonical text, words and text leaves (P3).
//!
//! A leaf holds 320 bytes from each multiple of 64, so any 256-byte window that starts in its first 64 bytes is inside: one opening
//! always shows a whole span. A text of n bytes hashes 5 n bytes in its leaves, many leaves side by side; none of it is copied but the few that
//! are hashed at the time.

use std::ops::Range;

use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::{id::Hash32, merkle};

mod table;

/// Bytes from one leaf's start to the next.
pub const LEAF_STRIDE: usize = 64;
/// Bytes a leaf holds.
pub const LEAF_BYTES: usize = 320;
/// Longest span, and the bound of the index's order.
pub const WINDOW: usize = 256;
/// What the salt of a leaf is hashed behind.
const SALT_DOMAIN: &[u8] = b"tributary/salt/v1";
/// Leaves whose salts are held at a time: as many as fill the lanes several times.
const SALTS_AT_ONCE: usize = 64;

/// Why text is not acceptable as a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Not UTF-8.
    #[error("invalid UTF-8 at byte {0}: save the file as UTF-8")]
    Utf8(usize),
    /// A control character other than tab and line feed.
    #[error("control character U+{code:04X} at byte {at}: remove it (tab and line feed are allowed)")]
    Control {
        /// Its code point.
        code: u32,
        /// Where it stands.
        at: usize,
    },
    /// Nothing in it.
    #[error("the document is empty: give it text or leave it out")]
    Empty,
}

/// The canonical form of a document's text: NFC, LF, no control characters but tab and LF.
///
/// # Errors
/// [`TextError`] naming the byte.
pub fn canonical_document(bytes: &[u8]) -> Result<String, TextError> {
    let text = std::str::from_utf8(bytes).map_err(|e| TextError::Utf8(e.valid_up_to()))?;
    let text = line_feeds(text);
    if let Some((at, c)) = text.char_indices().find(|(_, c)| is_forbidden(*c)) {
        return Err(TextError::Control { code: u32::from(c), at });
    }
    if text.trim().is_empty() {
        return Err(TextError::Empty);
    }
    Ok(nfc(text))
}

/// The canonical form of whatever a model or a client wrote: invalid UTF-8 becomes U+FFFD, forbidden controls are dropped.
pub fn canonical_lossy(bytes: &[u8]) -> String {
    let text = line_feeds(&String::from_utf8_lossy(bytes));
    nfc(text.chars().filter(|c| !is_forbidden(*c)).collect())
}

fn line_feeds(text: &str) -> String {
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text.to_owned() }
}

fn is_forbidden(c: char) -> bool {
    c.is_control() && c != '\t' && c != '\n'
}

fn nfc(text: String) -> String {
    if is_nfc(&text) { text } else { text.nfc().collect() }
}

fn contains(ranges: &[(u32, u32)], c: char) -> bool {
    let code = u32::from(c);
    ranges
        .binary_search_by(|(low, high)| {
            if *high < code {
                std::cmp::Ordering::Less
            } else if *low > code {
                std::cmp::Ordering::Greater
            } else {
                std::cmp::Ordering::Equal
            }
        })
        .is_ok()
}

/// Whether `c` belongs to words: letters, numbers, marks.
pub fn is_word(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphanumeric() } else { contains(&table::WORD, c) }
}

/// Whether `c` is a word of its own.
pub fn is_single(c: char) -> bool {
    !c.is_ascii() && contains(&table::SINGLE, c)
}

/// The words of `text` as byte ranges, in order.
pub fn words(text: &str) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
    let mut open = false;
    for (at, c) in text.char_indices() {
        let end = at + c.len_utf8();
        if is_single(c) {
            words.push(at..end);
            open = false;
        } else if !is_word(c) {
            open = false;
        } else if let Some(word) = words.last_mut().filter(|_| open) {
            word.end = end;
        } else {
            words.push(at..end);
            open = true;
        }
    }
    words
}

/// Where the words of `text` start, in order, with nothing kept: a table of words takes 16 bytes for each.
pub fn word_starts(text: &str) -> impl Iterator<Item = usize> {
    let mut open = false;
    text.char_indices().filter_map(move |(at, c)| {
        let is_single = is_single(c);
        let belongs = !is_single && is_word(c);
        let starts = is_single || (belongs && !open);
        open = belongs;
        starts.then_some(at)
    })
}

/// Leaves of a text of `len` bytes.
pub const fn leaf_count(len: usize) -> usize {
    len.div_ceil(LEAF_STRIDE)
}

/// Bytes of leaf `index` in a text of `len` bytes.
pub fn leaf_range(index: usize, len: usize) -> Range<usize> {
    let start = index.saturating_mul(LEAF_STRIDE).min(len);
    start..start.saturating_add(LEAF_BYTES).min(len)
}

/// The bytes of every leaf of `text`, in order.
pub fn leaves(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    (0..leaf_count(text.len())).map(|index| &text[leaf_range(index, text.len())])
}

/// Root over the public leaves of `text`.
pub fn text_root(text: &[u8]) -> Hash32 {
    root_over(text.len(), text_top(text))
}

/// Top of the tree under [`text_root`]: what opens the root to the text's bytes when a contribution is accepted (P5).
pub fn text_top(text: &[u8]) -> Hash32 {
    merkle::top(merkle::leaf_digests(leaves(text)))
}

/// What stands behind the domain in the salt of leaf `index`.
fn salted_index(salt: Hash32, index: usize) -> [u8; 40] {
    let index = u64::try_from(index).expect("an index in memory fits 64 bits");
    let mut bytes = [0; 40];
    bytes[..32].copy_from_slice(&salt.0);
    bytes[32..].copy_from_slice(&index.to_be_bytes());
    bytes
}

/// Salt of leaf `index` under a root salt.
pub fn leaf_salt(salt: Hash32, index: usize) -> Hash32 {
    merkle::keccak(&[SALT_DOMAIN, &salted_index(salt, index)])
}

/// Bytes of salted prompt leaf `index`.
pub fn prompt_leaf(prompt: &[u8], salt: Hash32, index: usize) -> Vec<u8> {
    behind(leaf_salt(salt, index), prompt, index)
}

/// Leaf `index` of `prompt` behind its salt.
fn behind(leaf_salt: Hash32, prompt: &[u8], index: usize) -> Vec<u8> {
    [&leaf_salt.0[..], &prompt[leaf_range(index, prompt.len())]].concat()
}

/// Root of a text of so many bytes under its top: who wants both hashes the text once.
pub fn root_over(text_bytes: usize, top: Hash32) -> Hash32 {
    let bytes_of = |len: usize| u64::try_from(len).expect("a length in memory fits 64 bits");
    merkle::seal(bytes_of(leaf_count(text_bytes)), bytes_of(text_bytes), top)
}

/// Root over the salted leaves of prompt bytes.
pub fn prompt_root(prompt: &[u8], salt: Hash32) -> Hash32 {
    root_over(prompt.len(), prompt_top(prompt, salt))
}

/// Top of the tree under [`prompt_root`].
pub fn prompt_top(prompt: &[u8], salt: Hash32) -> Hash32 {
    merkle::top(salted_digests(prompt, salt, 0..leaf_count(prompt.len())))
}

/// Digests of these salted leaves of `text`, which has them all.
pub fn salted_digests(text: &[u8], salt: Hash32, leaves: Range<usize>) -> Vec<Hash32> {
    let mut digests = Vec::with_capacity(leaves.len());
    for first in leaves.clone().step_by(SALTS_AT_ONCE) {
        let indices = first..(first + SALTS_AT_ONCE).min(leaves.end);
        let salts = merkle::keccak_each(SALT_DOMAIN, indices.clone().map(|index| salted_index(salt, index)));
        digests.extend(merkle::leaf_digests(indices.zip(salts).map(|(index, salt)| behind(salt, text, index))));
    }
    digests
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words_of(text: &str) -> Vec<&str> {
        words(text).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn words_in_several_scripts() {
        assert_eq!(words_of("The café's 2nd cup, naïve."), ["The", "café", "s", "2nd", "cup", "naïve"]);
        assert_eq!(words_of("学习 kanjiかな"), ["学", "习", "kanji", "か", "な"]);
        assert_eq!(words_of("Здравствуй, мир"), ["Здравствуй", "мир"]);
        assert_eq!(words_of("  \n\t--"), Vec::<&str>::new());
    }

    #[test]
    fn canonical_documents_refuse_what_they_cannot_keep() {
        assert_eq!(canonical_document(b"a\r\nb\rc"), Ok("a\nb\nc".to_owned()));
        assert_eq!(canonical_document("e\u{301}".as_bytes()), Ok("\u{e9}".to_owned()));
        assert_eq!(canonical_document(b"ab\xff"), Err(TextError::Utf8(2)));
        assert_eq!(canonical_document(b"a\x00"), Err(TextError::Control { code: 0, at: 1 }));
        assert_eq!(canonical_document(b" \n"), Err(TextError::Empty));
    }

    #[test]
    fn any_window_that_starts_in_a_leafs_stride_is_inside_the_leaf() {
        let len = 10 * LEAF_STRIDE + 17;
        for start in 0..len {
            let window = start..(start + WINDOW).min(len);
            let leaf = leaf_range(start / LEAF_STRIDE, len);
            assert!(leaf.start <= window.start && window.end <= leaf.end, "{start}");
        }
    }

    #[test]
    fn a_leaf_past_the_end_is_empty_whatever_its_number() {
        // Found by fuzzing: the number times the stride overflowed.
        for index in [2, usize::MAX / LEAF_STRIDE, usize::MAX / LEAF_STRIDE + 1, usize::MAX] {
            assert_eq!(leaf_range(index, 100), 100..100, "{index}");
        }
    }

    #[test]
    fn salted_leaves_are_hashed_alike_from_wherever_one_begins() {
        let (text, salt) = ([7; 9_000], Hash32([3; 32]));
        let count = leaf_count(text.len());
        let one_by_one: Vec<Hash32> = (0..count).map(|index| merkle::leaf(&prompt_leaf(&text, salt, index))).collect();
        for range in [0..count, 0..0, 5..6, 63..65, 64..count, count..count] {
            assert_eq!(salted_digests(&text, salt, range.clone()), one_by_one[range.clone()], "{range:?}");
        }
    }

    #[test]
    fn a_text_of_any_length_has_the_root_of_its_leaves_one_by_one() {
        let text: Vec<u8> = (0..20_000_u32).flat_map(|at| at.wrapping_mul(0x9e37_79b9).to_be_bytes()).collect();
        let salt = Hash32([9; 32]);
        let multiples = (1..20).flat_map(|times| [64, 320].map(|unit| times * unit)).chain([8_192, 16_384, 20_000]);
        for len in (0..200).chain(multiples.flat_map(|len| len - 1..=len + 1)) {
            let text = &text[..len];
            let top = |digests: Vec<Hash32>| {
                let mut level = digests;
                level.resize(level.len().max(1).next_power_of_two(), Hash32::ZERO);
                while level.len() > 1 {
                    level = level.chunks(2).map(|pair| merkle::node(pair[0], pair[1])).collect();
                }
                level[0]
            };
            let count = leaf_count(len);
            let seal = |top| merkle::seal(u64::try_from(count).unwrap(), u64::try_from(len).unwrap(), top);
            let plain = top(leaves(text).map(merkle::leaf).collect());
            assert_eq!((text_top(text), text_root(text)), (plain, seal(plain)), "{len} bytes");
            let salted = top((0..count).map(|index| merkle::leaf(&prompt_leaf(text, salt, index))).collect());
            assert_eq!(prompt_root(text, salt), seal(salted), "{len} bytes, salted");
        }
    }

    proptest! {
        #[test]
        fn canonical_text_is_a_fixed_point(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let once = canonical_lossy(&bytes);
            prop_assert_eq!(canonical_lossy(once.as_bytes()), once);
        }

        #[test]
        fn words_are_ordered_disjoint_and_made_of_word_characters(text in "\\PC{0,60}") {
            let words = words(&text);
            prop_assert!(words.windows(2).all(|pair| pair[0].end <= pair[1].start));
            prop_assert!(words.iter().all(|word| !word.is_empty() && text[word.clone()].chars().all(is_word)));
            prop_assert_eq!(words.iter().map(|w| w.len()).sum::<usize>(), text.chars().filter(|c| is_word(*c)).map(char::len_utf8).sum::<usize>());
        }
    }
}
