//! What a folder holds and a command does not take: always told, and passed over only on the user's word.

use std::path::Path;

use anyhow::{bail, ensure};
use serde::Serialize;
use storage::formats::Format;

use crate::words;

/// Most of them that are held and told.
const LEFT_OUT_MAX: usize = 1 << 10;
/// Most that a refusal lists.
const LISTED_MAX: usize = 20;
/// Endings of packed files.
const PACKED: [&str; 7] = ["gz", "zst", "bz2", "xz", "zip", "7z", "tar"];

/// A file, or what names files, that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct LeftOut {
    /// As it is shown: a name need not be text.
    pub(super) path: String,
    pub(super) why: String,
    /// Hidden files are no data by custom: they are told, and nobody is asked.
    #[serde(skip)]
    is_hidden: bool,
}

impl LeftOut {
    pub(super) fn new(path: impl AsRef<Path>, why: impl Into<String>) -> Self {
        Self { path: path.as_ref().display().to_string(), why: why.into(), is_hidden: false }
    }

    /// What begins with a dot.
    pub(super) fn hidden(path: impl AsRef<Path>) -> Self {
        Self { is_hidden: true, ..Self::new(path, "its name begins with a dot") }
    }

    fn line(&self) -> String {
        words::line(&format!("{}: {}", self.path, self.why)).into_owned()
    }
}

/// Why a file cannot be read by its name.
pub(super) fn unknown(path: &Path) -> String {
    let ending = path.extension().map_or_else(String::new, |ending| ending.to_string_lossy().to_ascii_lowercase());
    if PACKED.contains(&ending.as_str()) {
        return format!("it is packed (.{ending}): unpack it first");
    }
    let ending = if ending.is_empty() { "it has no ending".to_owned() } else { format!("no format is known by the ending .{ending}") };
    format!("{ending}: {} are known", Format::ENDINGS)
}

/// The lines that tell of them; nothing if there are none.
pub(super) fn told(left_out: &[LeftOut]) -> Option<String> {
    let lines: Vec<String> = left_out.iter().map(LeftOut::line).collect();
    (!lines.is_empty()).then(|| format!("left out:\n  {}", lines.join("\n  ")))
}

/// Whether a command may go on without them.
///
/// # Errors
/// What would be left out, and how to go on.
pub(super) fn agreed(left_out: &[LeftOut], is_agreed: bool) -> anyhow::Result<()> {
    ensure!(left_out.len() <= LEFT_OUT_MAX, "more than {LEFT_OUT_MAX} files would be left out: name the files you mean");
    let asked: Vec<String> = left_out.iter().filter(|one| !one.is_hidden).map(LeftOut::line).collect();
    if is_agreed || asked.is_empty() {
        return Ok(());
    }
    let more = asked.len().saturating_sub(LISTED_MAX);
    let more = if more == 0 { String::new() } else { format!("\n  and {more} more") };
    let lines = asked[..asked.len().min(LISTED_MAX)].join("\n  ");
    bail!("nothing was sent; these would be left out:\n  {lines}{more}\nmend or move them, or go on without them with --skip-unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_lost_is_named_and_needs_a_word_unless_it_is_hidden() {
        let hidden = LeftOut::hidden(".git");
        assert!(agreed(std::slice::from_ref(&hidden), false).is_ok());
        let all = [hidden, LeftOut::new("a.json", unknown(Path::new("a.json"))), LeftOut::new("b.csv.gz", unknown(Path::new("b.csv.gz")))];
        let error = agreed(&all, false).unwrap_err().to_string();
        for words in
            ["a.json: no format is known by the ending .json: .jsonl, ", "b.csv.gz: it is packed (.gz): unpack it", "--skip-unknown"]
        {
            assert!(error.contains(words), "{words}: {error}");
        }
        assert!(!error.contains(".git") && told(&all).unwrap().contains(".git: its name begins with a dot"), "{error}");
        assert!(agreed(&all, true).is_ok() && told(&[]).is_none());
        let many = vec![all[1].clone(); LISTED_MAX + 3];
        assert!(agreed(&many, false).unwrap_err().to_string().contains("and 3 more"));
        assert!(agreed(&vec![all[1].clone(); LEFT_OUT_MAX + 1], true).is_err());
        assert!(unknown(Path::new("notes")).starts_with("it has no ending"));
    }
}
