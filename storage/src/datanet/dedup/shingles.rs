//! Shingles: five words in a row, as 64 bits.
//!
//! Words are P3's, their ASCII letters in lower case, joined by one space; a shingle is the first 8 bytes of the BLAKE3 of five of them, big-endian.
//! A text of one to four words has one shingle, of all its words; one without words has none and is nobody's near copy.
//!
//! The joined words of a text lie in one buffer, so a shingle is a slice of it and nothing is copied twice.

use types::text::{is_single, is_word};

use crate::lanes;

/// Words of a shingle.
pub const SHINGLE_WORDS: usize = 5;

/// Cuts texts into shingles; keeps its buffers from one text to the next.
#[derive(Debug, Default)]
pub struct Shingler {
    /// Words, each followed by a space.
    joined: Vec<u8>,
    /// Where each word starts, and the end.
    starts: Vec<usize>,
}

impl Shingler {
    /// The distinct shingles of `text`, ascending.
    pub fn shingles(&mut self, text: &str) -> Vec<u64> {
        self.join(text);
        let words = self.starts.len() - 1;
        if words == 0 {
            return Vec::new();
        }
        let wide = SHINGLE_WORDS.min(words);
        let mut set = lanes::blake3_heads(self.starts.windows(wide + 1).map(|at| &self.joined[at[0]..at[wide] - 1]));
        set.sort_unstable();
        set.dedup();
        set
    }

    fn join(&mut self, text: &str) {
        self.joined.clear();
        self.starts.clear();
        let bytes = text.as_bytes();
        let (mut at, mut is_open) = (0, false);
        while let Some(&byte) = bytes.get(at) {
            if byte.is_ascii_alphanumeric() {
                self.open(&mut is_open);
                self.joined.push(byte.to_ascii_lowercase());
                at += 1;
            } else if byte.is_ascii() {
                self.close(&mut is_open);
                at += 1;
            } else {
                let c = text[at..].chars().next().expect("a character starts where the last one ended");
                let end = at + c.len_utf8();
                if is_single(c) {
                    self.close(&mut is_open);
                    self.open(&mut is_open);
                    self.joined.extend_from_slice(&bytes[at..end]);
                    self.close(&mut is_open);
                } else if is_word(c) {
                    self.open(&mut is_open);
                    self.joined.extend_from_slice(&bytes[at..end]);
                } else {
                    self.close(&mut is_open);
                }
                at = end;
            }
        }
        self.close(&mut is_open);
        self.starts.push(self.joined.len());
    }

    fn open(&mut self, is_open: &mut bool) {
        if !*is_open {
            self.starts.push(self.joined.len());
            *is_open = true;
        }
    }

    fn close(&mut self, is_open: &mut bool) {
        if *is_open {
            self.joined.push(b' ');
            *is_open = false;
        }
    }
}
