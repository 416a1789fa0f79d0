//! `cargo xtask bench`: figures, each with its unit, its limit, the peer's value where there is one, and the command that made it.
//!
//! A figure is never typed in or left over from an earlier run: this command runs the demonstration, times the built binary and runs
//! a benchmark program that prints rows. One that should be there and is not is reported as missing and fails the command; one that
//! has to be asked for stands in the table without a value.

mod attribution;
mod chain;
mod demonstration;
mod engine;
mod first;
mod storage;

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Which figures.
    #[arg(value_enum, default_value = "first")]
    group: Group,
    /// Write the rows as a JSON array to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also measure what takes many minutes: the demonstration with training.
    #[arg(long)]
    cold: bool,
    /// Also measure what takes tens of gigabytes of disk: a contribution of 10 GB, read, checked, cut and compressed; an index of 4 GB.
    #[arg(long, visible_alias = "large")]
    full: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Group {
    /// The demonstration, and what one answer costs on its way.
    First,
    /// Settling: gas, books of money, coverage of the contracts.
    Chain,
    /// Keeping data: code, gate, fetch, audits, durability, a contributor's memory, beside their peers.
    Storage,
    /// The engine: one stream, many, adapters beside each other, checks, beside the machine's limits and llama.cpp (TRIBUTARY_LLAMA_CPP names its folder).
    Engine,
    /// The index: searches in memory and cold, building, receipts, replay, gas of proofs, beside libsais and infini-gram.
    Attribution,
    /// None yet.
    Gpu,
    /// None yet.
    Network,
}

/// One figure: a median over `n` runs, or nothing if it has to be asked for and was not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Row {
    figure: String,
    ours: Option<f64>,
    unit: String,
    peer: Option<String>,
    peer_value: Option<f64>,
    /// Ours is to be at most this, or at least; figures beside the fixed ones have none.
    limit: Option<f64>,
    /// Whether the limit is the least that ours may be.
    #[serde(skip)]
    is_least: bool,
    n: usize,
    command: String,
    /// What the figure includes, for the reader of the table.
    #[serde(skip)]
    note: Option<String>,
}

/// Measures, prints the table, writes the rows.
///
/// # Errors
/// If the group has no figures yet, one is missing, or one is over its limit. Rows are written before that is said.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut missing = Vec::new();
    let rows = match options.group {
        Group::First => first::measure(options.cold, &mut missing)?,
        Group::Chain => chain::measure(&mut missing)?,
        Group::Storage => storage::measure(options.full, &mut missing)?,
        Group::Engine => engine::measure(&mut missing)?,
        Group::Attribution => attribution::measure(options.full, &mut missing)?,
        group => {
            bail!(
                "no figures yet for group {group:?}: they come with a later issue; there are some for: first, chain, storage, engine, attribution"
            )
        }
    };
    print!("\n{}", table(&rows));
    if let Some(file) = &options.json {
        fs::write(file, format!("{}\n", serde_json::to_string_pretty(&rows)?))?;
    }
    ensure!(missing.is_empty(), "not measured:\n{}", missing.join("\n"));
    let over: Vec<_> = rows.iter().filter(|row| row.is_over()).map(|row| row.figure.as_str()).collect();
    ensure!(over.is_empty(), "beyond the limit: {}", over.join(", "));
    Ok(())
}

impl Row {
    fn measured(figure: &str, unit: &str, ours: f64, n: usize, command: &str) -> Self {
        let (figure, unit, command) = (figure.to_owned(), unit.to_owned(), command.to_owned());
        Self { figure, ours: Some(ours), unit, peer: None, peer_value: None, limit: None, is_least: false, n, command, note: None }
    }

    fn unmeasured(figure: &str, why: &str) -> Self {
        let command = "cargo xtask bench first --cold".to_owned();
        let (figure, note) = (figure.to_owned(), Some(format!("not measured; {why}")));
        Self { figure, ours: None, unit: String::new(), peer: None, peer_value: None, limit: None, is_least: false, n: 0, command, note }
    }

    fn is_over(&self) -> bool {
        self.ours.zip(self.limit).is_some_and(|(ours, limit)| if self.is_least { ours < limit } else { ours > limit })
    }
}

fn table(rows: &[Row]) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let mut out =
        format!("{:<35} {:>12} {:<5} {:>14} {:<6} {:>7} {:<14} {:>12}\n", "figure", "ours", "unit", "reach", "", "n", "peer", "peer's");
    for row in rows {
        let verdict = match (row.is_over(), row.is_least) {
            (false, _) => "",
            (true, false) => "OVER",
            (true, true) => "UNDER",
        };
        let peer = row.peer.as_deref().unwrap_or("-");
        let (ours, theirs) = (number(row.ours), number(row.peer_value));
        let sign = if row.is_least { ">=" } else { "<=" };
        let limit = if row.limit.is_some() { format!("{sign} {}", number(row.limit)) } else { "-".to_owned() };
        out += &format!("{:<35} {ours:>12} {:<5} {limit:>14} {verdict:<6} {:>7} {peer:<14} {theirs:>12}\n", row.figure, row.unit, row.n);
    }
    for row in rows {
        out += &row.note.as_ref().map(|note| format!("{}: {note}\n", row.figure)).unwrap_or_default();
    }
    out
}

/// The middle value, or the mean of the two in the middle. `values` is not empty.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: f64) -> Row {
        Row { limit: Some(20.0), ..Row::measured("first.verify_ms", "ms", ours, 5, "x") }
    }

    #[test]
    fn a_figure_over_its_limit_is_marked() {
        assert!(!row(20.0).is_over() && row(20.1).is_over());
        assert!(table(&[row(20.1)]).contains("OVER") && !table(&[row(1.0)]).contains("OVER"));
        let least = |ours| Row { is_least: true, ..row(ours) };
        assert!(least(19.9).is_over() && !least(20.0).is_over());
        assert!(table(&[least(19.9)]).contains("UNDER") && table(&[least(21.0)]).contains(">= 20.00"));
    }

    #[test]
    fn a_row_has_the_fields_that_readers_expect() {
        let json = serde_json::to_value(row(1.5)).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys.len(), 8);
        for key in ["figure", "ours", "unit", "peer", "peer_value", "limit", "n", "command"] {
            assert!(keys.contains(&key), "{key} is missing");
        }
        assert!(json["peer"].is_null() && json["ours"] == 1.5);
    }

    #[test]
    fn what_was_not_measured_has_no_value_and_is_not_over() {
        let row = Row { limit: Some(1.0), ..Row::unmeasured("first.demo_cold_s", "ask for it by --cold") };
        assert!(!row.is_over() && serde_json::to_value(&row).unwrap()["ours"].is_null());
        assert!(table(&[row]).contains("not measured; ask for it by --cold"));
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_group_without_figures_says_so() {
        let error = run(&Options { group: Group::Gpu, json: None, cold: false, full: false }).unwrap_err().to_string();
        assert!(error.contains("no figures yet"), "{error}");
    }
}
