//! What a command prints: text for people, one JSON document with `--json`, progress on long work.
//!
//! Text for people goes through [`words`] here, so that nothing of what others wrote reaches a terminal as a command; cells of a table stay on their line.

use std::{
    borrow::Cow,
    io::{IsTerminal, Write as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use chain_bridge::{client::ChainClient, outbox::Untold};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::Value;
use types::{amount::Amount, id::Hash32};

use crate::{
    explain::{Consent, Explained, Row, unsent},
    when::{ago, now},
    words,
};

/// Least time between two plain lines of progress: what is done sooner shows none.
const PLAIN_EVERY: Duration = Duration::from_secs(1);

/// Whether people are shown wei: one switch of the whole process, as `--wei` is one of the whole command line.
static IS_WEI: AtomicBool = AtomicBool::new(false);

/// Shows people wei rather than OPEN from now on.
pub fn show_wei() {
    IS_WEI.store(true, Ordering::Relaxed);
}

/// An amount for people: in OPEN, or in wei where `--wei` asks for it.
pub fn money(amount: Amount) -> String {
    if IS_WEI.load(Ordering::Relaxed) { format!("{amount} wei") } else { amount.in_open() }
}

/// How this run prints, and who is asked before it signs.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// One JSON document on standard output instead of text.
    pub is_json: bool,
    /// How consent to a transaction is given.
    pub consent: Consent,
    /// A person has agreed to all that this run will send: each transaction is said, none is asked about any more.
    pub agreed: Arc<AtomicBool>,
    /// Transactions explained so far.
    pub explained: Explained,
    /// Fingerprint of the command line: the same command has the same one.
    pub origin: Hash32,
    /// Whether what an earlier run of the command sent, without telling so, is sent once more.
    pub is_again: bool,
    /// Who sent, and is noted when the result is printed.
    senders: Arc<Mutex<Vec<ChainClient>>>,
    /// Whether the result was printed.
    is_printed: Arc<AtomicBool>,
}

impl Output {
    /// Prints so, and asks nobody.
    pub fn new(is_json: bool) -> Self {
        Self { is_json, ..Self::default() }
    }

    /// The same, with consent given in this way.
    #[must_use]
    pub fn with_consent(self, consent: Consent) -> Self {
        Self { consent, ..self }
    }

    /// The same, for the command line of this fingerprint.
    #[must_use]
    pub fn for_command(self, origin: Hash32, is_again: bool) -> Self {
        Self { origin, is_again, ..self }
    }

    /// Has what `client` sends noted as told when the result is printed.
    pub fn tells_of(&self, client: &ChainClient) {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner).push(client.clone());
    }

    /// Notes that the transactions of this run were told of, if the result was printed. Where that cannot be noted, the same command tells them once more.
    pub async fn note_told(&self) {
        let clients = self.senders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for client in clients.iter().filter(|_| self.is_printed.load(Ordering::Relaxed)) {
            let lines = match client.reported().await {
                Ok(others) => others.iter().map(also_sent).collect(),
                Err(error) => vec![format!("{error}: what this command sent is told once more by its next run")],
            };
            lines.iter().for_each(|line| say(line));
        }
    }

    /// Prints the result: `value` as JSON, or what `human` writes.
    pub fn result<T: Serialize>(&self, value: &T, human: impl FnOnce() -> String) -> anyhow::Result<()> {
        let rows = self.explained.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = match (self.is_json, rows.is_empty()) {
            (true, true) => serde_json::to_string_pretty(value)?,
            (true, false) => serde_json::to_string_pretty(&with_transactions(serde_json::to_value(value)?, &rows)?)?,
            (false, _) => words::lines(&(human() + &unsent(&rows))).into_owned(),
        };
        let mut out = std::io::stdout().lock();
        // A reader that closed the pipe has seen enough.
        match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => {
                other.context("the result could not be printed")?;
                self.is_printed.store(true, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// Says why the command failed, and what of it is on the chain all the same: one JSON document on standard output, or lines on standard error.
    pub fn error(&self, text: &str) {
        // Where neither can be written, the exit code is all there is left to say.
        let rows = self.explained.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sent: Vec<&Row> = rows.iter().filter(|row| row.transaction.is_some()).collect();
        if self.is_json {
            let mut out = std::io::stdout().lock();
            let document = if sent.is_empty() {
                serde_json::json!({ "error": text })
            } else {
                serde_json::json!({ "error": text, "transactions": sent })
            };
            drop(writeln!(out, "{document}").and_then(|()| out.flush()));
        } else {
            say(&format!("error: {text}"));
            for row in sent {
                let (transaction, block) = (row.transaction.unwrap_or_default(), row.block.unwrap_or_default());
                let what = &row.what;
                say(&format!("{what} is on the chain all the same: transaction {transaction} in block {block}"));
            }
        }
    }

    /// A line on standard error about work under way; silent with `--json`.
    pub fn note(&self, text: &str) {
        if !self.is_json {
            say(text);
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

/// Lines on standard error, as people are shown them. Where nobody reads them, the work goes on all the same.
pub fn say(text: &str) {
    drop(writeln!(std::io::stderr(), "{}", words::lines(text)));
}

/// What an earlier run of the same command sent, and this one found no use for.
fn also_sent(untold: &Untold) -> String {
    let transaction = untold.transaction.map_or_else(|| "no copy of it".to_owned(), |hash| format!("transaction {hash}"));
    let became = if untold.ended == Some(true) { "is in a block" } else { "was not carried out" };
    format!(
        "an earlier run of this command, which was stopped, also sent: {} ({}, begun {}); {transaction} {became}",
        untold.what,
        money(untold.call.value),
        ago(untold.since, now())
    )
}

/// A document with its transactions as they were explained; where it names them by a word of its own, that word stays.
fn with_transactions(mut value: Value, rows: &[Row]) -> anyhow::Result<Value> {
    let Value::Object(fields) = &mut value else { return Ok(value) };
    let own = fields.remove("transactions").unwrap_or_default();
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let mut row = serde_json::to_value(row)?;
        let named = own
            .as_array()
            .into_iter()
            .flatten()
            .find(|known| !known["transaction"].is_null() && known["transaction"] == row["transaction"]);
        if let Some(what) = named.map(|known| known["what"].clone()) {
            row["what"] = what;
        }
        all.push(row);
    }
    fields.insert("transactions".into(), all.into());
    Ok(value)
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

/// A number of things, in words.
pub fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// A plain table: left-aligned columns, two spaces apart. What a cell holds stays on its line.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<Cow<'_, str>>> = rows.iter().map(|row| row.iter().map(|cell| words::line(cell)).collect()).collect();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).chain([header[column].chars().count()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &[&str]| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count()))).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(header)];
    lines.extend(rows.iter().map(|row| line(&row.iter().map(|cell| &**cell).collect::<Vec<_>>())));
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

    #[test]
    fn a_cell_of_others_neither_leaves_its_line_nor_moves_a_column() {
        let text = table(&["name", "wei"], &[vec!["a\n\u{1b}[2Jb".into(), "1".into()], vec!["c".into(), "22".into()]]);
        assert_eq!(text, "name           wei\na\\n\\u{1b}[2Jb  1\nc              22");
    }
}
