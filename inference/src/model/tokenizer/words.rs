//! How a text is cut into words before bytes are merged: the published patterns, as a scanner.
//!
//! Published tokenizers state these cuts as regular expressions with a look-ahead. An engine that backtracks gives up on a long run of white
//! space (a million characters are enough) and then cuts the rest elsewhere; this scanner takes time in proportion to the text, and holds one
//! place for each word. Letters, numbers and white space are Unicode's, from the tables of `regex-syntax`, which the lock file pins; digits of
//! `smollm` are those of the standard library, as in the tokenizer it was published with.
//!
//! With L for letters, N for numbers, s for white space, in the order they are tried:
//! - `gpt-2`: `'s|'t|'re|'ve|'m|'ll|'d| ?L+| ?N+| ?[^sLN]+|s+(?!\S)|s+`
//! - `smollm`: every number by itself, between them `gpt-2`
//! - `llama-3`: `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\nLN]?L+|N{1,3}| ?[^sLN]+[\r\n]*|s*[\r\n]+|s+(?!\S)|s+`
//! - `qwen-2`: the same with `N` for `N{1,3}`

use std::sync::LazyLock;

use regex_syntax::hir::{Class, ClassUnicode, HirKind};
use tokenizers::Offsets;
use tokenizers::pattern::Pattern;

/// A way of cutting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// GPT-2's.
    Gpt2,
    /// SmolLM2's.
    Smollm,
    /// Llama 3's.
    Llama3,
    /// Qwen 2's and 3's.
    Qwen2,
}

/// What the pattern of Llama 3 and Qwen looks like in a `tokenizer.json`, with how many numbers it takes at a time.
pub(super) const PUBLISHED: [(&str, Words); 2] = [
    (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", Words::Llama3),
    (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", Words::Qwen2),
];

/// What a character is to the patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class3 {
    Letter,
    Number,
    Space,
    Other,
}

/// Sorted ranges of letters and of numbers.
static TABLES: LazyLock<[Vec<(char, char)>; 2]> = LazyLock::new(|| [r"\p{L}", r"\p{N}"].map(ranges));

fn ranges(class: &str) -> Vec<(char, char)> {
    let parsed = regex_syntax::parse(class).expect("a class of two letters");
    let HirKind::Class(Class::Unicode(class)) = parsed.kind() else { unreachable!("a class of characters is one") };
    ClassUnicode::ranges(class).iter().map(|range| (range.start(), range.end())).collect()
}

fn class(c: char) -> Class3 {
    if c.is_ascii() {
        return match c {
            'a'..='z' | 'A'..='Z' => Class3::Letter,
            '0'..='9' => Class3::Number,
            '\t'..='\r' | ' ' => Class3::Space,
            _ => Class3::Other,
        };
    }
    let [letters, numbers] = &*TABLES;
    let holds = |table: &[(char, char)]| {
        let after = table.partition_point(|&(start, _)| start <= c);
        after > 0 && c <= table[after - 1].1
    };
    if holds(letters) {
        Class3::Letter
    } else if holds(numbers) {
        Class3::Number
    } else if c.is_whitespace() {
        Class3::Space
    } else {
        Class3::Other
    }
}

impl Words {
    /// Length in bytes of the first word of a text that is not empty.
    fn first(self, text: &str) -> usize {
        match self {
            Self::Gpt2 | Self::Smollm => first_gpt2(text),
            Self::Llama3 => first_llama3(text, 3),
            Self::Qwen2 => first_llama3(text, 1),
        }
    }

    /// Words of a text, in order; together they are the text.
    pub fn cut(self, text: &str) -> impl Iterator<Item = &str> {
        let mut rest = text;
        // White space before a digit ends there, so digits are found before words are.
        let mut until = 0usize;
        std::iter::from_fn(move || {
            let first = rest.chars().next()?;
            let length = if self != Self::Smollm {
                self.first(rest)
            } else if first.is_numeric() {
                first.len_utf8()
            } else {
                if until == 0 {
                    until = rest.find(char::is_numeric).unwrap_or(rest.len());
                }
                let length = self.first(&rest[..until]);
                until -= length;
                length
            };
            let (word, after) = rest.split_at(length);
            rest = after;
            Some(word)
        })
    }
}

impl Pattern for Words {
    fn find_matches(&self, inside: &str) -> tokenizers::Result<Vec<(Offsets, bool)>> {
        let mut at = 0;
        let place = |word: &str| {
            let start = at;
            at += word.len();
            ((start, at), true)
        };
        Ok(self.cut(inside).map(place).collect())
    }
}

/// Bytes of the longest start of `text` whose characters all are so.
fn run(text: &str, is: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is(c)).unwrap_or(text.len())
}

/// A word of white space: all of it before the last character where something follows, so that a space can lead the next word.
fn spaces(text: &str) -> usize {
    let all = run(text, |c| class(c) == Class3::Space);
    if all == text.len() {
        return all;
    }
    let last = text[..all].chars().next_back().map_or(0, char::len_utf8);
    if all > last { all - last } else { all }
}

/// Bytes of an English ending after an apostrophe at the start; `folds` takes either case, and the long s for s.
fn ending(text: &str, folds: bool) -> Option<usize> {
    let rest = text.strip_prefix('\'')?;
    let mut letters = rest.chars();
    let fold = |c: char| match c {
        'ſ' if folds => 's',
        c if folds => c.to_ascii_lowercase(),
        c => c,
    };
    let first = letters.next()?;
    let length = match fold(first) {
        's' | 't' | 'm' | 'd' => first.len_utf8(),
        'r' | 'v' if letters.next().map(fold) == Some('e') => 2,
        'l' if letters.next().map(fold) == Some('l') => 2,
        _ => return None,
    };
    Some(1 + length)
}

fn first_gpt2(text: &str) -> usize {
    if let Some(length) = ending(text, false) {
        return length;
    }
    let lead = usize::from(text.starts_with(' '));
    match text[lead..].chars().next().map(class) {
        None | Some(Class3::Space) => spaces(text),
        Some(kind) => lead + run(&text[lead..], |c| class(c) == kind),
    }
}

fn first_llama3(text: &str, numbers: usize) -> usize {
    if let Some(length) = ending(text, true) {
        return length;
    }
    let mut chars = text.chars();
    let first = chars.next().expect("a text that is not empty");
    let second = chars.next().map(class);
    let is_break = |c: char| matches!(c, '\r' | '\n');
    let kind = class(first);
    // A letter, or anything but a number or a break before one.
    if kind == Class3::Letter || second == Some(Class3::Letter) && kind != Class3::Number && !is_break(first) {
        let lead = if kind == Class3::Letter { 0 } else { first.len_utf8() };
        return lead + run(&text[lead..], |c| class(c) == Class3::Letter);
    }
    if kind == Class3::Number {
        return text.chars().take(numbers).take_while(|&c| class(c) == Class3::Number).map(char::len_utf8).sum();
    }
    if kind == Class3::Other || first == ' ' && second == Some(Class3::Other) {
        let lead = usize::from(first == ' ');
        let marks = lead + run(&text[lead..], |c| class(c) == Class3::Other);
        return marks + run(&text[marks..], is_break);
    }
    // White space up to its last break, if it has one.
    let space = &text[..run(text, |c| class(c) == Class3::Space)];
    match space.rfind(is_break) {
        Some(last) => last + 1,
        None => spaces(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(words: Words, text: &str) -> Vec<&str> {
        words.cut(text).collect()
    }

    #[test]
    fn words_of_the_published_patterns() {
        let text = "It's  12345 o'CLOCK,\r\n\n  yes\u{a0}no!?\n\nx ";
        assert_eq!(
            cut(Words::Gpt2, text),
            ["It", "'s", " ", " 12345", " o", "'", "CLOCK", ",", "\r\n\n ", " yes", "\u{a0}", "no", "!?", "\n", "\n", "x", " "]
        );
        assert_eq!(
            cut(Words::Llama3, text),
            ["It", "'s", " ", " ", "123", "45", " o", "'CLOCK", ",\r\n\n", " ", " yes", "\u{a0}no", "!?\n\n", "x", " "]
        );
        assert_eq!(cut(Words::Qwen2, "a 12\n"), ["a", " ", "1", "2", "\n"]);
        assert_eq!(cut(Words::Smollm, "a  1½ b"), ["a", "  ", "1", "½", " b"]);
    }

    #[test]
    fn endings_fold_their_case_where_the_pattern_says_so() {
        assert_eq!(cut(Words::Llama3, "we'LL I'ſ he'Re"), ["we", "'LL", " I", "'ſ", " he", "'Re"]);
        assert_eq!(cut(Words::Gpt2, "we'LL I'll"), ["we", "'", "LL", " I", "'ll"]);
        assert_eq!(cut(Words::Llama3, "'lx 'r"), ["'lx", " '", "r"]);
    }

    #[test]
    fn a_million_spaces_are_cut_at_once_and_in_one_piece() {
        for words in [Words::Gpt2, Words::Smollm, Words::Llama3, Words::Qwen2] {
            let text = format!("{}x", " ".repeat(1 << 20));
            let lengths: Vec<usize> = words.cut(&text).map(str::len).collect();
            assert_eq!(lengths, [(1 << 20) - 1, 2], "{words:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn words_together_are_the_text(text in "(\\PC|[ \r\n\t]|'ll|[0-9]){0,40}") {
            for words in [Words::Gpt2, Words::Smollm, Words::Llama3, Words::Qwen2] {
                let cut = cut(words, &text);
                proptest::prop_assert!(cut.iter().all(|word| !word.is_empty()));
                proptest::prop_assert_eq!(cut.concat(), text.clone());
            }
        }
    }
}
