//! Accounts: IBANs (ISO 13616) and payment cards (ISO/IEC 7812).

use std::ops::Range;

use super::{
    Kind, Spotted, context,
    digits::{Groups, continues, luhn, mod_97},
    plain,
};

/// Longest IBAN, without spaces.
const IBAN_MAX: usize = 34;

/// Countries and the length of their IBANs.
const LENGTHS: [(&[u8; 2], usize); 77] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NL", 18),
    (b"NO", 15),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
];

/// Groups that cards are written in.
const CARD_SHAPES: [&[usize]; 11] =
    [&[16], &[4, 4, 4, 4], &[15], &[4, 6, 5], &[14], &[4, 6, 4], &[13], &[19], &[4, 4, 4, 4, 3], &[12], &[4, 4, 4]];

pub(super) fn look(bytes: &[u8], token: &Range<usize>, found: &mut Vec<Spotted>) {
    found.extend(iban(bytes, token));
    if bytes[token.start].is_ascii_digit() {
        found.extend(card(bytes, token.start));
    }
}

/// Country, two check digits, then letters and digits, in one piece or with single spaces between.
fn iban(bytes: &[u8], token: &Range<usize>) -> Option<Spotted> {
    let [a, b, c, d] = *bytes.get(token.start..)?.first_chunk()?;
    if !(a.is_ascii_alphabetic() && b.is_ascii_alphabetic() && c.is_ascii_digit() && d.is_ascii_digit()) {
        return None;
    }
    let country = [a.to_ascii_uppercase(), b.to_ascii_uppercase()];
    let (_, len) = LENGTHS.iter().find(|(code, _)| **code == country)?;
    let mut symbols = [0; IBAN_MAX];
    let (mut count, mut at) = (0, token.start);
    while count < *len {
        let byte = *bytes.get(at)?;
        if byte.is_ascii_alphanumeric() {
            symbols[count] = byte;
            count += 1;
        } else if !matches!(byte, b' ' | b'-') || !bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric) {
            return None;
        }
        at += 1;
    }
    let moved = symbols[4..count].iter().chain(&symbols[..4]).copied();
    (plain::is_boundary(bytes, at) && mod_97(moved) == Some(1)).then_some((Kind::Iban, token.start..at))
}

fn card(bytes: &[u8], at: usize) -> Option<Spotted> {
    if continues(bytes, at) {
        return None;
    }
    let groups = Groups::read(bytes, at);
    CARD_SHAPES.into_iter().find_map(|shape| {
        let (digits, end) = groups.shaped(bytes, shape)?;
        let span = at..end;
        // A decimal fraction or the number of some thing that happens to pass: only its issuer's range and Luhn speak for it.
        let is_named = || {
            context::says(
                bytes,
                &span,
                &[
                    "card*",
                    "visa",
                    "mastercard",
                    "maestro",
                    "amex",
                    "credit",
                    "debit",
                    "karte*",
                    "kredit*",
                    "carte",
                    "tarjeta",
                    "carta",
                    "carte*",
                    "kart*",
                ],
            )
        };
        let is_issued = issued(digits)? || is_named();
        let varies = digits.iter().any(|digit| *digit != digits[0]);
        (is_issued && varies && luhn(digits) && groups.separator() != Some(b'.')).then_some((Kind::Card, span.clone()))
    })
}

/// Whether the first digits are an issuer's for cards of this length; false if they may be but say little by themselves.
fn issued(digits: &[u8]) -> Option<bool> {
    let head = digits.iter().take(6).fold(0_u32, |head, digit| head * 10 + u32::from(*digit));
    let (two, three, four) = (head / 10_000, head / 1_000, head / 100);
    let len = digits.len();
    match len {
        16 if (51..=55).contains(&two) || (2221..=2720).contains(&four) => Some(true),
        16 if two == 65 || four == 6011 || (644..=649).contains(&three) || (3528..=3589).contains(&four) => Some(true),
        16 | 19 if two / 10 == 4 || two == 62 => Some(true),
        16 if (300..=305).contains(&three) || matches!(two, 36 | 38 | 39) => Some(true),
        15 if matches!(two, 34 | 37) => Some(true),
        14 if (300..=305).contains(&three) || matches!(two, 36 | 38 | 39) => Some(false),
        13 if two / 10 == 4 => Some(false),
        12 | 13 | 14 | 15 | 16 | 19 if two == 50 || (56..=69).contains(&two) => Some(false),
        15 if matches!(four, 1800 | 2131) => Some(false),
        _ => None,
    }
}
