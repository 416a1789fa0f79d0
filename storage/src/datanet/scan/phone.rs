//! Telephone numbers: international (ITU-T E.164), national by their form, and any number that a word beside it calls one.

use std::ops::Range;

use super::{
    Kind, Spotted, context,
    digits::{Groups, continues},
    plain,
};

/// Digits of a number with its country (E.164).
const DIGITS_MAX: usize = 15;
/// Longest way of writing one, with separators and an extension.
const WRITTEN_MAX: usize = 40;

const WORDS: [&str; 34] = [
    "tel",
    "tel*",
    "telef*",
    "phone*",
    "mobile",
    "mobil",
    "cell",
    "cellphone",
    "call",
    "calls",
    "called",
    "fax",
    "handy*",
    "rufnummer",
    "ruf*",
    "anruf*",
    "portable",
    "appel*",
    "joindre",
    "movil",
    "llam*",
    "cellulare",
    "chiam*",
    "sms",
    "whatsapp",
    "hotline",
    "dial",
    "ring",
    "text",
    "contact*",
    "kontakt*",
    "contatt*",
    "recapito",
    "numero*",
];
/// What says that digits are something else, and stands nearer than a word for a telephone would.
const OTHERS: [&str; 22] = [
    "isbn", "issn", "omim", "mim", "pmid", "doi", "rfc", "iban", "version", "port", "pid", "order", "invoice", "id", "ref", "code", "art",
    "serial", "sku", "ticket", "issue", "pr",
];

/// A number as it is written.
#[derive(Debug, Default)]
struct Written {
    digits: [u8; DIGITS_MAX],
    count: usize,
    separators: usize,
    /// Where the last digit or extension ends.
    end: usize,
    has_dot: bool,
}

pub(super) fn look(bytes: &[u8], token: &Range<usize>, found: &mut Vec<Spotted>) {
    if !bytes[token.start].is_ascii_digit() || continues(bytes, token.start) {
        return;
    }
    let span = international(bytes, token.start).or_else(|| national(bytes, token.start)).or_else(|| called(bytes, token.start));
    found.extend(span.map(|span| (Kind::Phone, span)));
}

/// `+` and 8 to 15 digits, or `00`, `001` and separators.
fn international(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let before = at.checked_sub(1).map(|before| bytes[before]);
    let start = match before {
        Some(b'+') => at - 1,
        Some(b'(') if at >= 2 && bytes[at - 2] == b'+' => at - 2,
        _ => at,
    };
    let has_plus = start < at;
    if has_plus && start > 0 && (plain::is_word_byte(bytes[start - 1]) || bytes[start - 1] == b'+') {
        return None;
    }
    let start = if has_plus && start > 0 && bytes[start - 1] == b'(' { start - 1 } else { start };
    let written = written(bytes, at, DIGITS_MAX)?;
    let digits = &written.digits[..written.count];
    let is_dialled =
        !follows_digits(bytes, at) && digits.starts_with(&[0, 0]) && digits.len() >= 11 && written.separators > 0 && digits[2] > 0;
    let is_international = has_plus && (8..=DIGITS_MAX).contains(&digits.len()) && digits[0] > 0;
    (is_international || is_dialled).then_some(start..written.end)
}

/// By the form alone: North American groups, or a leading zero and groups.
fn national(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let start = if at > 0 && bytes[at - 1] == b'(' { at - 1 } else { at };
    if start > 0 && (plain::is_word_byte(bytes[start - 1]) || bytes[start - 1] == b'+') {
        return None;
    }
    let is_bracketed = start < at;
    if !is_bracketed && follows_digits(bytes, at) {
        return None;
    }
    american(bytes, at, is_bracketed).map(|end| start..end).or_else(|| trunk(bytes, at, is_bracketed).map(|end| start..end))
}

/// Whether digits and a space stand before: a group in the middle of something longer.
fn follows_digits(bytes: &[u8], at: usize) -> bool {
    at >= 2 && bytes[at - 1] == b' ' && bytes[at - 2].is_ascii_digit()
}

/// Area and exchange from 200 to 999, separated by anything but spaces, or bracketed.
fn american(bytes: &[u8], at: usize, is_bracketed: bool) -> Option<usize> {
    let written = written(bytes, at, 11)?;
    let digits = &written.digits[..written.count];
    let local = match digits {
        [1, local @ ..] if local.len() == 10 => local,
        local if local.len() == 10 => local,
        _ => return None,
    };
    if local[0] < 2 || local[3] < 2 {
        return None;
    }
    let groups = Groups::read(bytes, at);
    let is_shaped = [&[3, 3, 4][..], &[1, 3, 3, 4]].into_iter().any(|shape| groups.shaped_start(shape)) && groups.separator() != Some(b' ');
    (is_shaped || is_bracketed && written.separators > 0).then_some(written.end)
}

/// A trunk zero: ten to twelve digits in groups, or ten or eleven in one piece.
fn trunk(bytes: &[u8], at: usize, is_bracketed: bool) -> Option<usize> {
    let written = written(bytes, at, 13)?;
    let digits = &written.digits[..written.count];
    let is_trunk = digits[0] == 0 && digits.get(1).is_some_and(|digit| *digit > 0);
    let is_grouped = written.separators > 0 && (9..=12).contains(&digits.len());
    let is_plain = written.separators == 0 && matches!(digits.len(), 10 | 11);
    let is_other = context::follows(bytes, at, &OTHERS);
    (is_trunk && !is_other && (is_grouped && !is_date(digits, &written) || is_plain || is_bracketed && is_grouped)).then_some(written.end)
}

/// `01.02.2003 04`: day and month first.
fn is_date(digits: &[u8], written: &Written) -> bool {
    let pair = |at: usize| digits.get(at).zip(digits.get(at + 1)).map_or(0, |(a, b)| a * 10 + b);
    written.has_dot && digits.len() != 10 && (1..=31).contains(&pair(0)) && (1..=12).contains(&pair(2)) && matches!(pair(4), 19 | 20)
}

/// Seven to fifteen digits that a word beside them calls a telephone number.
fn called(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let start = if at > 0 && bytes[at - 1] == b'(' { at - 1 } else { at };
    let written = written(bytes, at, DIGITS_MAX)?;
    let span = start..written.end;
    let is_long = (7..=DIGITS_MAX).contains(&written.count);
    (is_long && !context::follows(bytes, start, &OTHERS) && context::says(bytes, &span, &WORDS)).then_some(span)
}

/// Reads digits with separators ` `, `-`, `.`, `/`, brackets; stops after `most` digits, at two separators that do not belong together, and at a word.
fn written(bytes: &[u8], start: usize, most: usize) -> Option<Written> {
    let mut written = Written { end: start, ..Written::default() };
    let limit = bytes.len().min(start + WRITTEN_MAX);
    let mut at = start;
    while at < limit {
        let byte = bytes[at];
        if byte.is_ascii_digit() {
            if written.count == most.min(DIGITS_MAX) {
                return None;
            }
            written.separators += usize::from(written.count > 0 && written.end < at);
            written.digits[written.count] = byte - b'0';
            written.count += 1;
            written.end = at + 1;
        } else if !matches!(byte, b' ' | b'-' | b'.' | b'/' | b'(' | b')') || !is_joint(&bytes[written.end..=at]) {
            break;
        } else {
            written.has_dot |= byte == b'.';
        }
        at += 1;
    }
    if written.count < 7 {
        return None;
    }
    written.end = extension(bytes, written.end);
    plain::is_boundary(bytes, written.end).then_some(written)
}

/// Whether separators in a row are ones that stand within a number: one, or a bracket with a space or hyphen.
fn is_joint(separators: &[u8]) -> bool {
    matches!(
        separators,
        [_] | [b' ', b'(' | b'-']
            | [b')', b' ' | b'-' | b'/' | b'.']
            | [b'-' | b'.', b'(']
            | [b' ', b'-', b' ']
            | [b')', b' ', b'(']
            | [b' ', b'/', b' ']
    )
}

/// Where the extension after a number ends: `x123`, ` ext. 5`.
fn extension(bytes: &[u8], end: usize) -> usize {
    let rest = &bytes[end..bytes.len().min(end + 12)];
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count().min(1);
    let rest = &rest[spaces..];
    let mark = [&b"ext. "[..], b"ext.", b"ext ", b"x"].into_iter().find(|mark| rest.starts_with(mark)).map_or(0, <[u8]>::len);
    let digits = rest[mark..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if mark > 0 && (1..=6).contains(&digits) { end + spaces + mark + digits } else { end }
}
