//! Personal data in a document's text: what it is, where it stands, and the text without it.
//!
//! One pass over an ASCII image of the text (`plain`) stops at digits, `@`, `:` and the capitals that salutations begin with; at each stop the rules of a
//! family look at a bounded stretch (`network`, `account`, `phone`, `national`, `name`). A rule is a format and, where there is one, its checksum; a
//! format that other numbers share also wants a word beside it that says what the number is (`context`). No regular expressions: every rule
//! reads at most [`LOOK_MAX`] bytes from where it stands, so the scan is linear whatever the text.
//!
//! Found: e-mail addresses, telephone numbers, IBANs, payment cards, IPv4 and IPv6 addresses, national ids of eleven countries, names after a
//! salutation. Not found: names without one, postal addresses, dates of birth, anything spelled out in words or split by other text. A rule
//! says that something looks like personal data, never that a text has none.
//!
//! Back of the envelope: prose costs one table look-up a byte, about a nanosecond; a text that is all digits some 200 ns a number. A finding is 32
//! bytes, and needs at least 5 bytes of text.

mod account;
mod context;
mod digits;
mod name;
mod national;
mod network;
mod phone;
mod plain;

use std::{collections::BTreeMap, ops::Range};

use self::plain::Plain;

/// Farthest that a rule reads from where it stands, in bytes of the ASCII image.
pub const LOOK_MAX: usize = 320;

/// What was found. The order is that of precedence where findings overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An e-mail address.
    Email,
    /// An account number with a valid IBAN checksum.
    Iban,
    /// A payment card with a valid Luhn digit and an issuer's range.
    Card,
    /// A number that a state gives a person.
    NationalId(Country),
    /// An IPv4 or IPv6 address.
    Ip,
    /// A telephone number.
    Phone,
    /// A name after a salutation.
    Name,
}

/// Whose national id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Country {
    /// Brazil, CPF.
    Br,
    /// Switzerland, AHV number.
    Ch,
    /// Germany, Steuer-ID or pension insurance number.
    De,
    /// Spain, DNI or NIE.
    Es,
    /// France, NIR.
    Fr,
    /// United Kingdom, NINO or NHS number.
    Gb,
    /// India, Aadhaar.
    In,
    /// Italy, codice fiscale.
    It,
    /// Netherlands, BSN.
    Nl,
    /// Poland, PESEL.
    Pl,
    /// United States, SSN or ITIN.
    Us,
}

impl Kind {
    /// What it is called in a report.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Email => "e-mail address",
            Self::Iban => "IBAN",
            Self::Card => "payment card",
            Self::NationalId(country) => country.label(),
            Self::Ip => "IP address",
            Self::Phone => "telephone number",
            Self::Name => "name",
        }
    }

    /// What stands in its place in a redacted text.
    pub const fn placeholder(self) -> &'static str {
        match self {
            Self::Email => "[e-mail]",
            Self::Iban => "[IBAN]",
            Self::Card => "[card]",
            Self::NationalId(_) => "[national id]",
            Self::Ip => "[IP address]",
            Self::Phone => "[telephone]",
            Self::Name => "[name]",
        }
    }
}

impl Country {
    const fn label(self) -> &'static str {
        match self {
            Self::Br => "national id (Brazil)",
            Self::Ch => "national id (Switzerland)",
            Self::De => "national id (Germany)",
            Self::Es => "national id (Spain)",
            Self::Fr => "national id (France)",
            Self::Gb => "national id (United Kingdom)",
            Self::In => "national id (India)",
            Self::It => "national id (Italy)",
            Self::Nl => "national id (Netherlands)",
            Self::Pl => "national id (Poland)",
            Self::Us => "national id (United States)",
        }
    }
}

/// A piece of a text that looks like personal data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it looks like.
    pub kind: Kind,
    /// Where, in bytes of the text.
    pub span: Range<usize>,
}

impl Finding {
    /// What a report may show of it: its first or last characters, never enough to use it.
    pub fn masked(&self, text: &str) -> String {
        let held = &text[self.span.clone()];
        match self.kind {
            Kind::Email | Kind::Name => format!("{}\u{2026}", held.chars().next().unwrap_or_default()),
            _ => {
                let tail: Vec<char> = held.chars().rev().filter(|c| c.is_alphanumeric()).take(2).collect();
                std::iter::once('\u{2026}').chain(tail.into_iter().rev()).collect()
            }
        }
    }
}

/// What stands somewhere in the ASCII image.
type Spotted = (Kind, Range<usize>);

/// Everything found in `text`, in order; findings do not overlap.
pub fn scan(text: &str) -> Vec<Finding> {
    let plain = Plain::new(text);
    let spotted = spot(plain.bytes());
    disjoint(spotted).into_iter().map(|(kind, span)| Finding { kind, span: plain.original(span) }).collect()
}

/// What says of bare digits in an id that they are a telephone number.
const CALLED: [&str; 9] = ["tel*", "phone*", "mobil*", "cell*", "fax*", "handy*", "sms*", "whatsapp*", "rufnummer*"];

/// Everything found in a row's id. A text says of a number what it is; an id that is a number mostly is one that some database counts. So bare digits, however many and with whatever zeros, are
/// a telephone number only under a word that calls them one; a number that is written as one (`+`, or in groups), and whatever has a checksum, is found as in a text.
pub fn scan_id(id: &str) -> Vec<Finding> {
    let mut found = scan(id);
    if found.iter().any(|finding| finding.kind == Kind::Phone) {
        let image = Plain::new(id);
        let is_called = context::says(image.bytes(), &(image.bytes().len()..image.bytes().len()), &CALLED);
        let is_bare = |finding: &Finding| id[finding.span.clone()].chars().all(char::is_numeric);
        found.retain(|finding| finding.kind != Kind::Phone || is_called || !is_bare(finding));
    }
    found
}

/// The text with every finding replaced by the name of its kind.
pub fn redact(text: &str, findings: &[Finding]) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut at = 0;
    for Finding { kind, span } in findings {
        redacted.push_str(&text[at..span.start]);
        redacted.push_str(kind.placeholder());
        at = span.end;
    }
    redacted.push_str(&text[at..]);
    redacted
}

/// Where the pass stops: digits, `@`, `:`, and what salutations begin with.
const STOPS: [bool; 256] = {
    let mut stops = [false; 256];
    let marks = b"0123456789@:DFHMPS";
    let mut at = 0;
    while at < marks.len() {
        stops[marks[at] as usize] = true;
        at += 1;
    }
    stops
};

fn spot(bytes: &[u8]) -> Vec<Spotted> {
    let mut found = Vec::new();
    // End of the token and of the address that were looked at last.
    let (mut at, mut token_end, mut address_end) = (0, 0, 0);
    while let Some(step) = bytes[at..].iter().position(|byte| STOPS[usize::from(*byte)]) {
        at += step;
        match bytes[at] {
            b'@' => found.extend(network::email(bytes, at)),
            b':' if at >= address_end => {
                let (end, address) = network::ipv6(bytes, at, address_end);
                found.extend(address);
                address_end = end;
            }
            b'0'..=b'9' if at >= token_end => {
                let start = plain::word_start(bytes, at, token_end);
                token_end = plain::word_end(bytes, at);
                let token = start..token_end;
                network::ipv4(bytes, &token, &mut found);
                account::look(bytes, &token, &mut found);
                national::look(bytes, &token, &mut found);
                phone::look(bytes, &token, &mut found);
            }
            b'A'..=b'Z' => found.extend(name::salutation(bytes, at)),
            _ => {}
        }
        at += 1;
    }
    found
}

/// Of findings that overlap, the one of the earlier kind, then the one that starts earlier, then the longer.
fn disjoint(mut found: Vec<Spotted>) -> Vec<Spotted> {
    found.sort_unstable_by_key(|(kind, span)| (*kind, span.start, std::cmp::Reverse(span.end)));
    let mut kept: BTreeMap<usize, (Kind, usize)> = BTreeMap::new();
    for (kind, span) in found {
        let before = kept.range(..span.end).next_back().is_some_and(|(_, (_, end))| *end > span.start);
        if !before {
            kept.insert(span.start, (kind, span.end));
        }
    }
    kept.into_iter().map(|(start, (kind, end))| (kind, start..end)).collect()
}

#[cfg(test)]
mod tests;
