//! Words of others, as people are shown them: card texts, reasons, names of files, what a peer answers. Whoever wrote them chose every byte.
//!
//! A terminal obeys control characters, and a letter that turns the direction of writing lets a line read as another one. So nothing of the kind is printed: it stands
//! there as an escape (`\u{1b}`). What a command prints goes through [`lines`] at its last step ([`crate::output`]), whatever it is made of; a text of others that is put
//! among our own goes through [`line()`] first, since a line break in it would begin a line that looks like ours. JSON keeps the exact text: its strings are escaped already.

use std::{borrow::Cow, path::Path};

use anyhow::ensure;

/// Whether a character does something else than stand there: C0, DEL and C1, line and paragraph separators, marks and overrides of the direction of writing.
pub const fn is_obeyed(letter: char) -> bool {
    matches!(letter, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, is_kept: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_bad = |letter: char| is_obeyed(letter) && !is_kept(letter);
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let mut whole = String::with_capacity(2 * text.len());
    for letter in text.chars() {
        if is_bad(letter) { whole.extend(letter.escape_default()) } else { whole.push(letter) }
    }
    Cow::Owned(whole)
}

/// A text of others within a line of ours.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// A text of lines, the last step before it is printed.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |letter| letter == '\n' || letter == '\t')
}

/// A text of others that may have many lines: each stands behind a bar, so none passes for ours.
pub fn block(text: &str) -> String {
    text.lines().map(|one| format!("  | {}", line(one)).trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// A path within a line of ours.
pub fn path(path: &Path) -> String {
    line(&path.display().to_string()).into_owned()
}

/// Whether a text that a command line gives for others to read is one line of letters. `what` is the option.
///
/// # Errors
/// The character, its place, and what to do.
pub fn of_one_line(what: &str, text: &str) -> anyhow::Result<()> {
    plain(what, text, false)
}

/// As [`of_one_line`], for a text that may have many lines.
///
/// # Errors
/// As [`of_one_line`].
pub fn of_lines(what: &str, text: &str) -> anyhow::Result<()> {
    plain(what, text, true)
}

fn plain(what: &str, text: &str, may_break: bool) -> anyhow::Result<()> {
    let is_bad = |(_, letter): &(usize, char)| is_obeyed(*letter) && !(may_break && matches!(letter, '\n' | '\t'));
    let bad = text.chars().enumerate().find(is_bad);
    let (at, letter) = bad.unwrap_or_default();
    ensure!(
        bad.is_none(),
        "{what}: character {} is U+{:04X}, which a terminal obeys and nobody reads: leave it out{}",
        at + 1,
        u32::from(letter),
        if letter == '\n' { ", and write one line" } else { "" }
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What titles a window, clears a screen, rings, deletes, begins a sequence in C1, ends a line, and turns the direction of writing.
    const ARMED: &str = "a\u{1b}]0;x\u{7}\u{1b}[2J\u{7f}\u{9b}31m\r\nNext: pay\u{202e}b\u{2066}c\u{2028}d\u{200f}";

    #[test]
    fn nothing_that_a_terminal_obeys_passes_and_every_letter_does() {
        let shown = path(Path::new(ARMED));
        assert_eq!(shown, r"a\u{1b}]0;x\u{7}\u{1b}[2J\u{7f}\u{9b}31m\r\nNext: pay\u{202e}b\u{2066}c\u{2028}d\u{200f}");
        let escaped = lines(ARMED);
        assert!(!escaped.chars().any(|letter| is_obeyed(letter) && letter != '\n') && escaped.contains('\n'), "{escaped}");
        for letters in ["caf\u{e9} \u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{65e5}\u{672c} \u{1f469}\u{200d}\u{1f52c} $~", "a\u{ad}b"] {
            assert!(matches!(line(letters), Cow::Borrowed(same) if same == letters), "{letters}");
        }
        for bad in ('\0'..=' ').chain('\u{7f}'..='\u{a0}').chain('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}') {
            assert!(!line(&bad.to_string()).chars().any(is_obeyed), "{bad:?}");
        }
    }

    #[test]
    fn many_lines_of_others_stand_behind_a_bar() {
        assert_eq!(block("One.\n\nNext: run it\r\n\u{1b}[2J"), "  | One.\n  |\n  | Next: run it\n  | \\u{1b}[2J");
    }

    #[test]
    fn a_text_for_others_that_holds_a_control_character_is_refused_with_its_place() {
        let error = of_one_line("--reason", "row\u{1b}[2J").unwrap_err().to_string();
        assert!(error.contains("--reason: character 4 is U+001B") && error.contains("leave it out"), "{error}");
        let error = of_one_line("--reason", "a\nb").unwrap_err().to_string();
        assert!(error.contains("U+000A") && error.contains("one line"), "{error}");
        assert!(of_lines("--description", "a\n\tb").is_ok() && of_one_line("--reason", "d\u{e9}j\u{e0} vu").is_ok());
        for bad in ["a\rb", "a\u{202e}b", "a\u{9b}b", "a\u{7f}"] {
            assert!(of_lines("--description", bad).is_err(), "{bad:?}");
        }
    }
}
