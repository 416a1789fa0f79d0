//! An ASCII image of a text: what the rules read instead of it.
//!
//! Characters that look like an ASCII one stand as that one (fullwidth forms, other digits, hyphens, wide spaces, Latin letters with accents); those
//! that are not seen at all (zero width, soft hyphen, directions) are left out, so hiding an address behind them does not help. Any other word
//! character is [`WORD`], anything else [`OTHER`]. An ASCII text is its own image and costs nothing; another costs 4 bytes a character.

use std::{borrow::Cow, ops::Range};

use types::text::is_word;

/// A word character without an ASCII likeness.
pub(super) const WORD: u8 = 0x80;
/// Any other character without one.
const OTHER: u8 = 0x81;

/// U+00C0 to U+00FF by the letter they are written with.
const LATIN_1: &[u8; 64] = b"AAAAAAACEEEEIIIIDNOOOOO*OUUUUYTsaaaaaaaceeeeiiiidnooooo/ouuuuyty";
/// U+0100 to U+017F likewise.
const LATIN_A: &[u8; 128] =
    b"AaAaAaCcCcCcCcDdDdEeEeEeEeEeGgGgGgGgHhHhIiIiIiIiIiIiJjKkkLlLlLlLlLlNnNnNnnNnOoOoOoOoRrRrRrSsSsSsSsTtTtTtUuUuUuUuUuUuWwYyYZzZzZzs";

/// The image, and where its bytes come from.
#[derive(Debug)]
pub(super) struct Plain<'a> {
    text: &'a str,
    bytes: Cow<'a, [u8]>,
    /// Where each byte's character starts in the text; empty if that is where the byte stands.
    starts: Vec<u32>,
}

impl<'a> Plain<'a> {
    /// The image of `text`, which is shorter than 4 GiB; of a longer one, of what comes before.
    pub(super) fn new(text: &'a str) -> Self {
        if text.is_ascii() {
            return Self { text, bytes: Cow::Borrowed(text.as_bytes()), starts: Vec::new() };
        }
        let (mut bytes, mut starts) = (Vec::with_capacity(text.len()), Vec::with_capacity(text.len()));
        for (at, c) in text.char_indices() {
            let Ok(start) = u32::try_from(at) else { break };
            if let Some(byte) = image(c) {
                bytes.push(byte);
                starts.push(start);
            }
        }
        Self { text, bytes: Cow::Owned(bytes), starts }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of the text that stand behind a span of the image, which is not empty.
    pub(super) fn original(&self, span: Range<usize>) -> Range<usize> {
        if self.starts.is_empty() {
            return span;
        }
        let last = self.starts[span.end - 1] as usize;
        let width = self.text[last..].chars().next().map_or(0, char::len_utf8);
        self.starts[span.start] as usize..last + width
    }
}

fn image(c: char) -> Option<u8> {
    if let Ok(byte) = u8::try_from(c)
        && byte.is_ascii()
    {
        return Some(byte);
    }
    let code = u32::from(c);
    let nth = |first: u32, base: u8| u8::try_from(code - first).map_or(OTHER, |n| base + n);
    Some(match code {
        0xad | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x2064 | 0xfeff | 0xfe00..=0xfe0f => return None,
        0xd7 | 0xf7 => OTHER,
        0xc0..=0xff => LATIN_1[code as usize - 0xc0],
        0x100..=0x17f => LATIN_A[code as usize - 0x100],
        0xa0 | 0x2000..=0x200a | 0x202f | 0x205f | 0x3000 => b' ',
        0x2010..=0x2015 | 0x2212 => b'-',
        0x660..=0x669 => nth(0x660, b'0'),
        0x6f0..=0x6f9 => nth(0x6f0, b'0'),
        0x966..=0x96f => nth(0x966, b'0'),
        0x9e6..=0x9ef => nth(0x9e6, b'0'),
        0xff01..=0xff5e => nth(0xff01, b'!'),
        _ if is_word(c) => WORD,
        _ => OTHER,
    })
}

/// Whether a byte of the image belongs to a word.
pub(super) const fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == WORD
}

/// Whether a word ends before `at`: nothing, or no word character, stands there.
pub(super) fn is_boundary(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_none_or(|byte| !is_word_byte(*byte))
}

/// Whether no word character stands before `at`.
pub(super) fn starts_word(bytes: &[u8], at: usize) -> bool {
    at.checked_sub(1).is_none_or(|before| !is_word_byte(bytes[before]))
}

/// The start of the word around `at`, not before `least`.
pub(super) fn word_start(bytes: &[u8], at: usize, least: usize) -> usize {
    least + bytes[least..at].iter().rposition(|byte| !is_word_byte(*byte)).map_or(0, |before| before + 1)
}

/// The end of the word around `at`.
pub(super) fn word_end(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().position(|byte| !is_word_byte(*byte)).unwrap_or(bytes.len() - at)
}
