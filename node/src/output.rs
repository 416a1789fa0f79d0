//! What a command prints: text for people, one JSON document with `--json`, progress on long work.

use std::{
    io::{IsTerminal, Write as _},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Least time between two plain lines of progress: what is done sooner shows none.
const PLAIN_EVERY: Duration = Duration::from_secs(1);

/// How this run prints.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// One JSON document on standard output instead of text.
    pub is_json: bool,
}

impl Output {
    /// Prints the result: `value` as JSON, or what `human` writes.
    pub fn result<T: Serialize>(&self, value: &T, human: impl FnOnce() -> String) -> anyhow::Result<()> {
        let text = if self.is_json { serde_json::to_string_pretty(value)? } else { human() };
        let mut out = std::io::stdout().lock();
        // A reader that closed the pipe has seen enough.
        match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other.context("the result could not be printed"),
        }
    }

    /// Says why the command failed: one JSON document on standard output, or a line on standard error.
    pub fn error(&self, text: &str) {
        // Where neither can be written, the exit code is all there is left to say.
        if self.is_json {
            let mut out = std::io::stdout().lock();
            drop(writeln!(out, "{}", serde_json::json!({ "error": text })).and_then(|()| out.flush()));
        } else {
            drop(writeln!(std::io::stderr(), "error: {text}"));
        }
    }

    /// A line on standard error about work under way; silent with `--json`.
    pub fn note(&self, text: &str) {
        if !self.is_json {
            // Nobody reads it: the work goes on all the same.
            drop(writeln!(std::io::stderr(), "{text}"));
        }
    }

    /// Progress over `total` steps on standard error: a bar on a terminal, a line at a tenth, but at most one a second, elsewhere.
    pub fn progress(&self, what: &str, total: u64) -> Progress {
        // Progress goes to standard error, so that it never mixes with the JSON document.
        let is_bar = std::io::stderr().is_terminal();
        let bar = if is_bar { ProgressBar::new(total) } else { ProgressBar::hidden() };
        if is_bar {
            let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} {eta}").unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style);
            bar.set_message(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Progress { bar, is_plain: !is_bar, what: what.to_owned(), total, tenth: 0, shown: Instant::now() }
    }
}

/// Progress of one piece of work.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    is_plain: bool,
    what: String,
    total: u64,
    tenth: u64,
    /// When the last plain line was written, at first the start.
    shown: Instant,
}

impl Progress {
    /// Moves to step `done`.
    pub fn set(&mut self, done: u64) {
        self.bar.set_position(done);
        let tenth = done.saturating_mul(10).checked_div(self.total).unwrap_or(10);
        if self.is_plain && tenth > self.tenth && self.shown.elapsed() >= PLAIN_EVERY {
            self.tenth = tenth;
            self.shown = Instant::now();
            drop(writeln!(std::io::stderr(), "{}: {done}/{}", self.what, self.total));
        }
    }

    /// Ends the display.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}

/// A plain table: left-aligned columns, two spaces apart.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).chain([header[column].chars().count()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &[&str]| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count()))).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(header)];
    lines.extend(rows.iter().map(|row| line(&row.iter().map(String::as_str).collect::<Vec<_>>())));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_their_columns() {
        let text = table(&["name", "wei"], &[vec!["a".into(), "1".into()], vec!["longer".into(), "22".into()]]);
        assert_eq!(text, "name    wei\na       1\nlonger  22");
    }
}
