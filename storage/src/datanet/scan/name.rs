//! Names, where a rule can see one: after a salutation.

use super::{Kind, Spotted, plain};

/// Salutations that a name follows; the last character decides whether a full stop must.
const SALUTATIONS: [&str; 19] = [
    "Mr",
    "Mrs",
    "Ms",
    "Dr.",
    "Prof.",
    "Herr",
    "Frau",
    "Herrn",
    "Monsieur",
    "Madame",
    "Mme",
    "Mlle",
    "Mademoiselle",
    "Sr.",
    "Sra.",
    "Sig.",
    "Sig.ra",
    "Dott.",
    "Dott.ssa",
];
/// Longest name, in bytes of the image.
const NAME_MAX: usize = 60;
/// Most words of one.
const WORDS_MAX: usize = 4;
/// Words between the parts of a name.
const PARTICLES: [&str; 12] = ["von", "van", "de", "der", "den", "di", "da", "la", "le", "zu", "dos", "del"];

/// The name after a salutation that starts at `at`.
pub(super) fn salutation(bytes: &[u8], at: usize) -> Option<Spotted> {
    if !plain::starts_word(bytes, at) {
        return None;
    }
    let rest = &bytes[at..];
    let len = SALUTATIONS.iter().filter(|word| rest.starts_with(word.as_bytes())).map(|word| word.len()).max()?;
    let mut start = at + len;
    if bytes.get(start) == Some(&b'.') {
        start += 1;
    }
    if bytes.get(start) != Some(&b' ') {
        return None;
    }
    start += 1;
    let limit = bytes.len().min(start + NAME_MAX);
    let (mut end, mut capitals, mut place) = (start, 0, start);
    for _ in 0..WORDS_MAX {
        let word_end = plain::word_end(&bytes[..limit], place);
        let word = &bytes[place..word_end];
        let is_capital = word.first().is_some_and(u8::is_ascii_uppercase) && word[1..].iter().any(u8::is_ascii_lowercase);
        if is_capital {
            (end, capitals) = (word_end, capitals + 1);
        } else if !PARTICLES.iter().any(|particle| word == particle.as_bytes()) {
            break;
        }
        if word_end == limit || !matches!(bytes.get(word_end), Some(b' ' | b'-' | b'\'')) {
            break;
        }
        place = word_end + 1;
    }
    (capitals > 0).then_some((Kind::Name, start..end))
}
