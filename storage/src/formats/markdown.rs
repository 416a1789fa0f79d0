//! Markdown: the file is one document. Front matter (`---`, lines of `key: value`, `---`) gives `title` and `id` and stays out of the text; without
//! a title there, the first heading of level one is it, else the file's name.

use std::io::BufRead;

use crate::datanet::{
    Document,
    read::{self, LineError},
};

/// Reads one document.
///
/// # Errors
/// [`LineError`] at the line that is not text.
pub(super) fn document(input: impl BufRead, name: Option<&str>) -> Result<Document, LineError> {
    let bytes = read::bounded(input)?;
    let (front, body) = split(&bytes);
    let front = String::from_utf8_lossy(front);
    let lines_before = bytes.len() - body.len();
    let lines_before = bytes[..lines_before].iter().filter(|byte| **byte == b'\n').count();
    let title = value(&front, "title").or_else(|| heading(body)).or_else(|| name.map(str::to_owned));
    read::whole(value(&front, "id"), title, body)
        .map_err(|error| LineError { line: error.line + u64::try_from(lines_before).unwrap_or(0), ..error })
}

/// The lines between the marks, and what follows the second; everything follows if there is no front matter.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let whole = (&[][..], bytes);
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let is_mark = |line: &[u8]| line.trim_ascii_end() == b"---";
    let Some(first) = lines.next().filter(|line| is_mark(line)) else { return whole };
    let mut at = first.len();
    for line in lines {
        if is_mark(line) {
            return (&bytes[first.len()..at], &bytes[at + line.len()..]);
        }
        at += line.len();
    }
    whole
}

/// A scalar at the top level of front matter: plain, or in quotes of either kind.
fn value(front: &str, key: &str) -> Option<String> {
    let line = front.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?.trim();
    let value = match line.as_bytes() {
        [b'"', .., b'"'] => serde_json::from_str(line).unwrap_or_else(|_| line[1..line.len() - 1].to_owned()),
        [b'\'', .., b'\''] => line[1..line.len() - 1].replace("''", "'"),
        [b'|' | b'>' | b'[' | b'{' | b'&' | b'*' | b'!', ..] => return None,
        _ => line.split(" #").next().unwrap_or_default().trim().to_owned(),
    };
    Some(value).filter(|value| !value.is_empty())
}

/// The words of the first heading of level one.
fn heading(body: &[u8]) -> Option<String> {
    let line = body.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"# "))?;
    let words = std::str::from_utf8(line).ok()?.trim().trim_end_matches('#').trim_end();
    Some(words.to_owned()).filter(|words| !words.is_empty() && words.len() <= crate::datanet::TITLE_BYTES_MAX)
}
