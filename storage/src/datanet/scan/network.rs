//! E-mail and IP addresses.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use super::{Kind, LOOK_MAX, Spotted, context, plain};

/// Longest part before the `@` (RFC 5321, section 4.5.3.1.1).
const LOCAL_MAX: usize = 64;
/// Longest domain (section 4.5.3.1.2).
const DOMAIN_MAX: usize = 255;
/// Longest IPv6 address in text, with an IPv4 part.
const IPV6_MAX: usize = 45;
/// Endings of files that are not domains: `icon@2x.png`.
const FILES: [&str; 10] = ["png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "html", "py"];
/// What makes four numbers a version or a place in a text.
const NUMBERED: [&str; 15] = [
    "version",
    "versions",
    "v",
    "ver",
    "release",
    "section",
    "sect",
    "chapter",
    "paragraph",
    "oid",
    "clause",
    "build",
    "rev",
    "kernel",
    "ec",
];

/// The address around the `@` at `at`.
pub(super) fn email(bytes: &[u8], at: usize) -> Option<Spotted> {
    let is_local = |byte: u8| plain::is_word_byte(byte) || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-' | b'\'');
    let least = at.saturating_sub(LOCAL_MAX);
    let start = least + bytes[least..at].iter().rposition(|byte| !is_local(*byte)).map_or(0, |before| before + 1);
    let trimmed = bytes[start..at].iter().position(|byte| !matches!(byte, b'.' | b'\'' | b'-' | b'+' | b'%'))?;
    let start = start + trimmed;
    if bytes[at - 1] == b'.' {
        return None;
    }
    let is_domain = |byte: u8| plain::is_word_byte(byte) || matches!(byte, b'.' | b'-');
    let limit = bytes.len().min(at + 1 + DOMAIN_MAX);
    let domain = &bytes[at + 1..limit];
    let domain = &domain[..domain.iter().position(|byte| !is_domain(*byte)).unwrap_or(domain.len())];
    let len = domain.iter().rposition(|byte| plain::is_word_byte(*byte))? + 1;
    let domain = &domain[..len];
    let last = domain.iter().rposition(|byte| *byte == b'.')?;
    let top = &domain[last + 1..];
    let is_top = (2..=24).contains(&top.len()) && top.iter().all(|byte| byte.is_ascii_alphabetic() || *byte == plain::WORD);
    let is_file = FILES.iter().any(|ending| top.eq_ignore_ascii_case(ending.as_bytes()));
    let has_labels = domain[..last].split(|byte| *byte == b'.').all(|label| !label.is_empty() && label[0] != b'-');
    let is_next_at = bytes.get(at + 1 + len) == Some(&b'@');
    (is_top && !is_file && has_labels && !is_next_at).then(|| (Kind::Email, start..at + 1 + len))
}

/// Four numbers up to 255 with dots, of which the token is the first.
pub(super) fn ipv4(bytes: &[u8], token: &Range<usize>, found: &mut Vec<Spotted>) {
    if token.len() > 3 || !bytes[token.clone()].iter().all(u8::is_ascii_digit) || bytes.get(token.end) != Some(&b'.') {
        return;
    }
    let rest = &bytes[token.start..bytes.len().min(token.start + 16)];
    let len = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.').unwrap_or(rest.len());
    let mut text = &rest[..len];
    if text.ends_with(b".") {
        text = &text[..text.len() - 1];
    }
    let Some(address) = std::str::from_utf8(text).ok().and_then(|text| text.parse::<Ipv4Addr>().ok()) else { return };
    let span = token.start..token.start + text.len();
    let goes_on = !plain::is_boundary(bytes, span.end)
        || matches!(bytes.get(span.end), Some(b'.' | b'-')) && bytes.get(span.end + 1).is_some_and(u8::is_ascii_digit);
    let is_inside = span.start > 0 && matches!(bytes[span.start - 1], b'.' | b'-' | b'_');
    let octets = address.octets();
    let is_nobodys = octets[0] == 0 || address.is_loopback() || octets[0] >= 224 || octets == [1, 2, 3, 4];
    if !goes_on && !is_inside && !is_nobodys && !context::follows(bytes, span.start, &NUMBERED) {
        found.push((Kind::Ip, span));
    }
}

/// The IPv6 address around the colon at `at`, not before `least`; first where the stretch of such characters ends.
pub(super) fn ipv6(bytes: &[u8], at: usize, least: usize) -> (usize, Option<Spotted>) {
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || byte == b':';
    let least = least.max(at.saturating_sub(IPV6_MAX));
    let start = least + bytes[least..at].iter().rposition(|byte| !is_part(*byte)).map_or(0, |before| before + 1);
    let limit = bytes.len().min(start + LOOK_MAX);
    let end = at + bytes[at..limit].iter().position(|byte| !is_part(*byte) && *byte != b'.').unwrap_or(limit - at);
    let mut text = &bytes[start..end];
    while let [before @ .., b'.'] = text {
        text = before;
    }
    // A colon that ends a sentence's part is not the address's.
    if let [before @ .., b':'] = text
        && !before.ends_with(b":")
    {
        text = before;
    }
    let address = std::str::from_utf8(text).ok().filter(|text| text.len() <= IPV6_MAX).and_then(|text| text.parse::<Ipv6Addr>().ok());
    let groups = text.split(|byte| *byte == b':').filter(|group| !group.is_empty()).count();
    let span = start..start + text.len();
    let is_whole = plain::starts_word(bytes, start) && plain::is_boundary(bytes, span.end);
    let is_somebodys = address.is_some_and(|address| !address.is_loopback() && !address.is_unspecified() && !address.is_multicast());
    let is_plain = groups >= 4 || context::says(bytes, &span, &["ip", "ipv6", "address", "host", "server"]) && groups >= 2;
    (end.max(at + 1), (is_whole && is_somebodys && is_plain).then_some((Kind::Ip, span)))
}
