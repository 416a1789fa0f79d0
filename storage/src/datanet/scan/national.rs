//! Numbers that states give persons, each by its own format and checksum.
//!
//! A format with letters or its own grouping speaks for itself once its checksum passes; bare digits that one in ten would pass as well also
//! want a word beside them.

use std::ops::Range;

use super::{
    Country, Kind, Spotted, context,
    digits::{Groups, continues, mod_11_10, verhoeff, weighted},
    plain,
};

/// Words for a number of this kind that many languages share.
const ID_WORDS: [&str; 16] = [
    "id",
    "ids",
    "ident*",
    "tax*",
    "steuer*",
    "social",
    "insurance",
    "security",
    "national",
    "passport",
    "citizen",
    "number",
    "numero*",
    "nummer",
    "numer*",
    "securite",
];

/// A rule over groups of digits, and one over letters and digits.
type Rule = fn(&[u8], &Groups, usize) -> Option<(Country, Range<usize>)>;
type LetterRule = fn(&[u8], usize) -> Option<(Country, Range<usize>)>;

pub(super) fn look(bytes: &[u8], token: &Range<usize>, found: &mut Vec<Spotted>) {
    let start = token.start;
    if let Some((country, span)) = prefixed(bytes, start) {
        found.push((Kind::NationalId(country), span));
        return;
    }
    if continues(bytes, start) {
        return;
    }
    let id = if bytes[start].is_ascii_digit() {
        let groups = Groups::read(bytes, start);
        let rules: [Rule; 9] = [united_states, germany, poland, brazil, india, switzerland, health_service, netherlands, france];
        rules.into_iter().find_map(|rule| rule(bytes, &groups, start)).or_else(|| lettered(bytes, start))
    } else {
        lettered(bytes, start)
    };
    found.extend(id.map(|(country, span)| (Kind::NationalId(country), span)));
}

/// Ids whose first letters stand apart from their digits: `AB 12 34 56 C`, `X-1234567-L`.
fn prefixed(bytes: &[u8], start: usize) -> Option<(Country, Range<usize>)> {
    let is_apart = |letters: usize| {
        let first = start.checked_sub(letters + 1)?;
        let (word, mark) = (&bytes[first..start - 1], bytes[start - 1]);
        (plain::starts_word(bytes, first) && matches!(mark, b' ' | b'-') && word.iter().all(u8::is_ascii_uppercase)).then_some(first)
    };
    is_apart(1).and_then(|first| spain(bytes, first)).or_else(|| is_apart(2).and_then(|first| united_kingdom(bytes, first)))
}

fn lettered(bytes: &[u8], start: usize) -> Option<(Country, Range<usize>)> {
    let rules: [LetterRule; 5] = [spain, italy, united_kingdom, corsica, pension];
    rules.into_iter().find_map(|rule| rule(bytes, start))
}

/// The first of `shapes` that fits, with its digits.
fn fits<'a>(bytes: &[u8], groups: &'a Groups, start: usize, shapes: &[&[usize]]) -> Option<(&'a [u8], Range<usize>)> {
    shapes.iter().find_map(|shape| groups.shaped(bytes, shape)).map(|(digits, end)| (digits, start..end))
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, digit| number * 10 + u64::from(*digit))
}

fn varies(digits: &[u8]) -> bool {
    digits.iter().any(|digit| *digit != digits[0])
}

/// SSN: no area 000 or 666, no group 00, no serial 0000. Areas from 900 on are ITINs, with the groups that those have.
fn united_states(bytes: &[u8], groups: &Groups, start: usize) -> Option<(Country, Range<usize>)> {
    let (digits, span) = fits(bytes, groups, start, &[&[3, 2, 4], &[9]])?;
    let (area, group, serial) = (number(&digits[..3]), number(&digits[3..5]), number(&digits[5..]));
    let is_issued =
        !matches!(area, 0 | 666) && group > 0 && serial > 0 && !matches!(number(digits), 78_051_120 | 219_099_999 | 123_456_789);
    let is_taxpayer = area < 900 || matches!(group, 50..=65 | 70..=88 | 90..=92 | 94..=99);
    let is_plain = groups.separator() == Some(b'-') && span.len() == 11;
    let is_named = || context::says(bytes, &span, &["ssn", "ssns", "social", "itin", "taxpayer", "ss"]);
    (is_issued && is_taxpayer && varies(digits) && groups.separator() != Some(b'.') && (is_plain || is_named()))
        .then(|| (Country::Us, span.clone()))
}

/// Steuer-ID: eleven digits, the first not zero; of the first ten one stands twice or three times and the others at most once; ISO 7064.
fn germany(bytes: &[u8], groups: &Groups, start: usize) -> Option<(Country, Range<usize>)> {
    let (digits, span) = fits(bytes, groups, start, &[&[11], &[2, 3, 3, 3]])?;
    let mut counts = [0_u8; 10];
    digits[..10].iter().for_each(|digit| counts[usize::from(*digit)] += 1);
    let repeated = counts.iter().filter(|count| **count > 1).count();
    let most = counts.iter().copied().max()?;
    (digits[0] > 0 && repeated == 1 && most <= 3 && mod_11_10(digits)).then_some((Country::De, span))
}

/// PESEL: date of birth with the century in the month, serial, check digit.
fn poland(bytes: &[u8], groups: &Groups, start: usize) -> Option<(Country, Range<usize>)> {
    let (digits, span) = fits(bytes, groups, start, &[&[11]])?;
    let (month, day) = (number(&digits[2..4]) % 20, number(&digits[4..6]));
    let sum = weighted(digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]);
    let is_valid = (1..=12).contains(&month) && (1..=31).contains(&day) && sum.is_multiple_of(10);
    let is_named = || context::says(bytes, &span, &["pesel"]) || context::says(bytes, &span, &ID_WORDS);
    (is_valid && is_named()).then(|| (Country::Pl, span.clone()))
}

/// CPF: `ddd.ddd.ddd-dd`, both check digits modulo 11.
fn brazil(bytes: &[u8], groups: &Groups, start: usize) -> Option<(Country, Range<usize>)> {
    let is_check = |digits: &[u8]| {
        let check = |len: usize| {
            let sum: u32 = (0..len).map(|at| u32::from(digits[at]) * u32::try_from(len + 1 - at).unwrap_or_default()).sum();
            sum * 10 % 11 % 10
        };
        check(9) == u32::from(digits[9]) && check(10) == u32::from(digits[10]) && varies(digits)
    };
    if let Some((digits, span)) = fits(bytes, groups, start, &[&[11]]) {
        let is_named = context::says(bytes, &span, &["cpf", "contribuinte"]);
        return (is_named && is_check(digits)).then_some((Country::Br, span));
    }
    let written = bytes.get(start..start + 14)?;
    let is_shaped = written.iter().enumerate().all(|(at, byte)| match at {
        3 | 7 => *byte == b'.',
        11 => *byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let digits: Vec<u8> = written.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0').collect();
    (is_shaped && plain::is_boundary(bytes, start + 14) && is_check(&digits)).then_some((Country::Br, start..start + 14))
}

/// Aadhaar: twelve digits, the first from 2 on, Verhoeff's check.
fn india(bytes: &[u8], groups: &Groups, start: usize) -> Option<(Country, Range<usize>)> {
    let (digits, span) = fits(bytes, groups, start, &[&[4, 4, 4], &[12]])?;
    let is_alone = groups.shaped_start(&[4, 4, 4, 4]);
    let is_named = || context::says(bytes, &span, &["aadhaar", "aadhar", "uidai", "uid", "adhaar"]);
    let is_plain = groups.separator().is_some() && span.len() == 14 && !is_alone && groups.separator() != Some(b'.');
    (digits[0] > 1 && verhoeff(digits) && varies(digits) && (is_plain || is_named())).then(|| (Country::In, span.clone()))
}

/// AHV number: an EAN-13 that begins with 756.
fn switzerland(bytes: &[u8], groups: &Groups, start: usize) -> Option<(Country, Range<usize>)> {
    let (digits, span) = fits(bytes, groups, start, &[&[3, 4, 4, 2], &[13]])?;
    let sum = weighted(digits, &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1]);
    (digits.starts_with(&[7, 5, 6]) && sum.is_multiple_of(10)).then_some((Country::Ch, span))
}

/// NHS number: ten digits, modulo 11.
fn health_service(bytes: &[u8], groups: &Groups, start: usize) -> Option<(Country, Range<usize>)> {
    let (digits, span) = fits(bytes, groups, start, &[&[3, 3, 4], &[10]])?;
    let sum = weighted(digits, &[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
    (sum.is_multiple_of(11) && varies(digits) && context::says(bytes, &span, &["nhs"])).then(|| (Country::Gb, span.clone()))
}

/// BSN: nine digits, the eleven test with the last weight negative.
fn netherlands(bytes: &[u8], groups: &Groups, start: usize) -> Option<(Country, Range<usize>)> {
    let (digits, span) = fits(bytes, groups, start, &[&[9], &[4, 2, 3]])?;
    let sum = weighted(digits, &[9, 8, 7, 6, 5, 4, 3, 2, 10]);
    let is_named = || context::says(bytes, &span, &["bsn", "burgerservicenummer", "sofinummer"]);
    (sum.is_multiple_of(11) && varies(digits) && is_named()).then(|| (Country::Nl, span.clone()))
}

/// NIR: sex, year, month, department, commune, serial, and 97 less the rest of it by 97.
fn france(bytes: &[u8], groups: &Groups, start: usize) -> Option<(Country, Range<usize>)> {
    let shapes: [&[usize]; 4] = [&[15], &[1, 2, 2, 2, 3, 3, 2], &[13, 2], &[1, 12, 2]];
    let (digits, span) = fits(bytes, groups, start, &shapes)?;
    (is_nir(number(&digits[..13]), number(&digits[13..]), number(&digits[3..5])) && matches!(digits[0], 1..=4 | 7 | 8))
        .then_some((Country::Fr, span))
}

const fn is_nir(body: u64, check: u64, month: u64) -> bool {
    matches!(month, 1..=12 | 20..=42 | 50..=99) && check == 97 - body % 97
}

/// A NIR of Corsica: department 2A counts as 19, 2B as 18.
fn corsica(bytes: &[u8], start: usize) -> Option<(Country, Range<usize>)> {
    let (symbols, end) = compact(bytes, start, 15)?;
    let department = match symbols.get(5..7)? {
        [b'2', b'A' | b'a'] => 19,
        [b'2', b'B' | b'b'] => 18,
        _ => return None,
    };
    let digits: Vec<u8> = symbols.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0').collect();
    let [head @ .., _, _] = &digits[..] else { return None };
    if digits.len() != 14 || !matches!(digits[0], 1 | 2) {
        return None;
    }
    let body = (number(&head[..5]) * 100 + department) * 1_000_000 + number(&head[6..]);
    is_nir(body, number(&digits[12..]), number(&digits[3..5])).then_some((Country::Fr, start..end))
}

/// `len` letters and digits with at most single spaces or hyphens between, and where they end as a word.
fn compact(bytes: &[u8], start: usize, len: usize) -> Option<(Vec<u8>, usize)> {
    let (mut symbols, mut at) = (Vec::with_capacity(len), start);
    while symbols.len() < len {
        let byte = *bytes.get(at)?;
        if byte.is_ascii_alphanumeric() {
            symbols.push(byte.to_ascii_uppercase());
        } else if !matches!(byte, b' ' | b'-') || !bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric) {
            return None;
        }
        at += 1;
    }
    plain::is_boundary(bytes, at).then_some((symbols, at))
}

/// DNI: eight digits and the letter of their rest by 23; NIE: X, Y or Z for a first digit of 0, 1 or 2.
fn spain(bytes: &[u8], start: usize) -> Option<(Country, Range<usize>)> {
    const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let (symbols, end) = compact(bytes, start, 9)?;
    let first = match symbols[0] {
        b'X' => 0,
        b'Y' => 1,
        b'Z' => 2,
        digit @ b'0'..=b'9' => digit - b'0',
        _ => return None,
    };
    let is_shaped = symbols[1..8].iter().all(u8::is_ascii_digit) && bytes[start..end].iter().filter(|byte| **byte == b' ').count() == 0;
    let digits: Vec<u8> = std::iter::once(first).chain(symbols[1..8].iter().map(|byte| byte.wrapping_sub(b'0'))).collect();
    (is_shaped && varies(&digits) && LETTERS[usize::try_from(number(&digits) % 23).ok()?] == symbols[8])
        .then_some((Country::Es, start..end))
}

/// Codice fiscale: six letters, year, month letter, day, place, check letter. Digits may stand as letters where two persons would share a code.
fn italy(bytes: &[u8], start: usize) -> Option<(Country, Range<usize>)> {
    /// What a symbol in an odd place counts: digit or letter n has entry n.
    const ODD: [u32; 26] = [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    const SHAPE: &[u8; 16] = b"AAAAAA00M00A000A";
    let (symbols, end) = compact(bytes, start, 16)?;
    let is_digit = |byte: u8| byte.is_ascii_digit() || b"LMNPQRSTUV".contains(&byte);
    let is_shaped = symbols.iter().zip(SHAPE).all(|(byte, shape)| match shape {
        b'0' => is_digit(*byte),
        b'M' => b"ABCDEHLMPRST".contains(byte),
        _ => byte.is_ascii_uppercase(),
    });
    let value = |byte: u8| u32::from(if byte.is_ascii_digit() { byte - b'0' } else { byte - b'A' });
    let sum: u32 =
        symbols[..15].iter().enumerate().map(|(at, byte)| if at % 2 == 0 { ODD[value(*byte) as usize] } else { value(*byte) }).sum();
    (is_shaped && sum % 26 == value(symbols[15])).then_some((Country::It, start..end))
}

/// NINO: two letters that are issued, six digits, A to D.
fn united_kingdom(bytes: &[u8], start: usize) -> Option<(Country, Range<usize>)> {
    let (symbols, end) = compact(bytes, start, 9)?;
    let [a, b, digits @ .., suffix] = &symbols[..] else { return None };
    let is_first = a.is_ascii_alphabetic() && !b"DFIQUV".contains(a);
    let is_second = b.is_ascii_alphabetic() && !b"DFIOQUV".contains(b);
    let is_issued = !matches!(&[*a, *b], b"BG" | b"GB" | b"NK" | b"KN" | b"TN" | b"NT" | b"ZZ");
    // Written in capitals, in one piece or in pairs; anything else is a word beside a number.
    let is_upper = bytes[start..end].iter().all(|byte| !byte.is_ascii_lowercase());
    let is_paired = matches!(bytes[start..end].iter().filter(|byte| **byte == b' ').count(), 0 | 2..=4);
    (is_first && is_second && is_issued && is_upper && is_paired && digits.iter().all(u8::is_ascii_digit) && (b'A'..=b'D').contains(suffix))
        .then_some((Country::Gb, start..end))
}

/// Pension insurance number: area, date of birth, initial, serial, check digit.
fn pension(bytes: &[u8], start: usize) -> Option<(Country, Range<usize>)> {
    let (symbols, end) = compact(bytes, start, 12)?;
    let (initial, rest) = (symbols[8], symbols.iter().enumerate().filter(|(at, _)| *at != 8));
    if !initial.is_ascii_uppercase() || !rest.clone().all(|(_, byte)| byte.is_ascii_digit()) {
        return None;
    }
    let place = initial - b'A' + 1;
    let mut digits: Vec<u8> = symbols[..8].iter().map(|byte| byte - b'0').collect();
    digits.extend([place / 10, place % 10, symbols[9] - b'0', symbols[10] - b'0']);
    let (day, month) = (number(&digits[2..4]), number(&digits[4..6]));
    let weights = [2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1];
    let sum: u32 =
        digits.iter().zip(weights).map(|(digit, weight)| u32::from(*digit) * weight).map(|product| product / 10 + product % 10).sum();
    let is_dated = (1..=31).contains(&day) && (1..=12).contains(&month);
    (is_dated && sum % 10 == u32::from(symbols[11] - b'0')).then_some((Country::De, start..end))
}
