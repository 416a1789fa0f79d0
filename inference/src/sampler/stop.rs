//! Stop strings: found by bytes, wherever tokens end.
//!
//! Each string has its own Knuth-Morris-Pratt automaton (1977), so a byte costs a step per string, and what may not be shown yet is the longest
//! beginning of a stop string that the answer ends with: at most [`STOP_BYTES_MAX`](super::STOP_BYTES_MAX) less one. Where the text is cut does not depend on how tokens
//! cut it: of several strings the one that ends first counts, of those that end together the longest.

/// The answer's bytes so far, as far as stop strings need them.
#[derive(Debug, Clone)]
pub struct Stops {
    strings: Vec<Automaton>,
    /// Bytes that may be the beginning of a stop string.
    held: Vec<u8>,
    is_found: bool,
}

/// What may be shown after some more bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Bytes of the answer, in order.
    pub bytes: Vec<u8>,
    /// Whether a stop string follows them: the answer has ended.
    pub is_end: bool,
}

/// How many of the bytes `text` are the answer's, where `before` came ahead of them from earlier attempts: all, or those ahead of the first stop
/// string. One that begins in `before` leaves none: what was shown of it there stands.
#[must_use]
pub fn text_len(strings: &[String], before: &[u8], text: &[u8]) -> usize {
    let mut stops = Stops::new(strings);
    let first = stops.push(before);
    if first.is_end {
        return 0;
    }
    let second = stops.push(text);
    if second.is_end { (first.bytes.len() + second.bytes.len()).saturating_sub(before.len()) } else { text.len() }
}

#[derive(Debug, Clone)]
struct Automaton {
    text: Vec<u8>,
    /// Length of the longest beginning that is also an end, for each beginning of one byte and more.
    borders: Vec<usize>,
    /// Bytes of `text` that the answer ends with.
    matched: usize,
}

impl Stops {
    /// Before an answer's first byte. Empty strings are left out: [`Options::check`](super::Options::check) refuses them.
    #[must_use]
    pub fn new(strings: &[String]) -> Self {
        let strings = strings.iter().filter(|text| !text.is_empty()).map(|text| Automaton::new(text.as_bytes())).collect();
        Self { strings, held: Vec::new(), is_found: false }
    }

    /// Takes the bytes of a token. After a stop string nothing is shown any more.
    pub fn push(&mut self, bytes: &[u8]) -> Shown {
        let start = self.held.len();
        self.held.extend_from_slice(bytes);
        if !self.is_found {
            for at in start..self.held.len() {
                let byte = self.held[at];
                if let Some(length) = self.strings.iter_mut().filter_map(|string| string.step(byte)).max() {
                    self.is_found = true;
                    self.held.truncate(at + 1);
                    let mut bytes = std::mem::take(&mut self.held);
                    bytes.truncate(at + 1 - length);
                    return Shown { bytes, is_end: true };
                }
            }
        }
        if self.is_found {
            self.held.clear();
            return Shown { bytes: Vec::new(), is_end: true };
        }
        let kept = self.strings.iter().map(|string| string.matched).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - kept);
        Shown { bytes: std::mem::replace(&mut self.held, rest), is_end: false }
    }

    /// Bytes held back: they are the answer's if it ends otherwise.
    #[must_use]
    pub fn held(&self) -> &[u8] {
        &self.held
    }

    /// Whether a stop string was met.
    #[must_use]
    pub fn is_found(&self) -> bool {
        self.is_found
    }
}

impl Automaton {
    fn new(text: &[u8]) -> Self {
        let mut borders = vec![0; text.len()];
        let mut border = 0;
        for at in 1..text.len() {
            while border > 0 && text[at] != text[border] {
                border = borders[border - 1];
            }
            border += usize::from(text[at] == text[border]);
            borders[at] = border;
        }
        Self { text: text.to_vec(), borders, matched: 0 }
    }

    /// Takes a byte; the string's length if it ends here.
    fn step(&mut self, byte: u8) -> Option<usize> {
        while self.matched > 0 && self.text[self.matched] != byte {
            self.matched = self.borders[self.matched - 1];
        }
        self.matched += usize::from(self.text[self.matched] == byte);
        (self.matched == self.text.len()).then_some(self.matched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    /// Where the answer is cut: the first end of any string, then the longest that ends there.
    fn cut(stops: &[String], text: &[u8]) -> Option<usize> {
        (1..=text.len()).find_map(|end| {
            let ends = stops.iter().filter(|stop| !stop.is_empty() && text[..end].ends_with(stop.as_bytes()));
            ends.map(|stop| end - stop.len()).min()
        })
    }

    #[test]
    fn a_stop_string_over_three_tokens_is_never_shown() {
        let mut stops = Stops::new(&strings(&["\n\nUser:"]));
        let shown: Vec<_> = ["Yes.\n", "\nUs", "er", ": more"].map(|part| stops.push(part.as_bytes())).into();
        let texts: Vec<_> = shown.iter().map(|shown| (String::from_utf8_lossy(&shown.bytes).into_owned(), shown.is_end)).collect();
        assert_eq!(texts, [("Yes.".into(), false), (String::new(), false), (String::new(), false), (String::new(), true)]);
        assert_eq!(stops.push(b"nothing"), Shown { bytes: Vec::new(), is_end: true });
    }

    #[test]
    fn what_was_held_back_is_shown_once_it_is_no_beginning() {
        let mut stops = Stops::new(&strings(&["aab"]));
        assert_eq!(stops.push(b"xaa").bytes, b"x");
        assert_eq!(stops.held(), b"aa");
        assert_eq!(stops.push(b"ac").bytes, b"aaac");
        assert_eq!(stops.push(b"aab"), Shown { bytes: Vec::new(), is_end: true });
    }

    #[test]
    fn of_two_that_end_together_the_longer_counts() {
        let mut stops = Stops::new(&strings(&["end", "the end"]));
        assert_eq!(stops.push(b"this is the end"), Shown { bytes: b"this is ".to_vec(), is_end: true });
    }

    #[test]
    fn a_character_may_be_cut_by_tokens() {
        let mut stops = Stops::new(&strings(&["é"]));
        assert_eq!(stops.push(&[b'a', 0xc3]), Shown { bytes: b"a".to_vec(), is_end: false });
        assert_eq!(stops.push(&[0xa9]), Shown { bytes: Vec::new(), is_end: true });
    }

    #[test]
    fn an_attempts_text_ends_where_the_whole_answers_does() {
        let stops = strings(&["END", "\n\n"]);
        for (before, text, len) in [
            ("", "all of it", 9),
            ("", "some END more", 5),
            ("some ", "more\n\nEND", 4),
            ("some EN", "D more", 0),
            ("some E", "N more", 6),
            ("some END", "more", 0),
            ("some\n", "\n", 0),
        ] {
            assert_eq!(text_len(&stops, before.as_bytes(), text.as_bytes()), len, "{before:?} {text:?}");
            assert_eq!(text_len(&[], before.as_bytes(), text.as_bytes()), text.len());
        }
    }

    proptest! {
        #[test]
        fn the_cut_depends_on_bytes_alone(
            stops in prop::collection::vec("[ab]{0,5}", 0..4),
            text in "[ab]{0,40}",
            lengths in prop::collection::vec(0usize..7, 0..40),
        ) {
            let expected = cut(&stops, text.as_bytes());
            let longest = stops.iter().map(String::len).max().unwrap_or(0);
            let (mut matcher, mut rest, mut shown, mut is_end) = (Stops::new(&stops), text.as_bytes(), Vec::new(), false);
            for length in lengths.into_iter().chain([text.len()]) {
                let (part, left) = rest.split_at(length.min(rest.len()));
                let got = matcher.push(part);
                shown.extend(got.bytes);
                is_end |= got.is_end;
                prop_assert!(matcher.held().len() < longest.max(1));
                rest = left;
            }
            prop_assert_eq!((is_end, matcher.is_found()), (expected.is_some(), expected.is_some()));
            match expected {
                Some(cut) => prop_assert_eq!(&shown[..], &text.as_bytes()[..cut]),
                None => prop_assert_eq!([shown, matcher.held().to_vec()].concat(), text.as_bytes()),
            }
        }
    }
}
