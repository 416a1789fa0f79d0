//! `cargo xtask bench`: figures, each with its unit, its limit, the peer's value where there is one, and the command that made it.
//!
//! A figure is never typed in: it comes from the last demo's `summary.json`, from timing a built binary, or from a benchmark
//! program that prints rows. One that should be there and is not is reported as missing and fails the command.

mod source;

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use source::Source;

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Which figures.
    #[arg(value_enum, default_value = "first")]
    group: Group,
    /// Write the rows as a JSON array to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Group {
    First,
    Chain,
    Storage,
    Engine,
    Attribution,
    Gpu,
    Network,
}

/// What a figure is called, measured in, held to, and where it comes from.
struct Figure {
    id: &'static str,
    unit: &'static str,
    /// Ours is to be at most this.
    limit: f64,
    source: Source,
}

/// One measured figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Row {
    figure: String,
    ours: f64,
    unit: String,
    peer: Option<String>,
    peer_value: Option<f64>,
    limit: Option<f64>,
    n: u64,
    command: String,
}

const FIRST: [Figure; 6] = [
    Figure { id: "first.demo_s", unit: "s", limit: 120.0, source: Source::Summary },
    Figure { id: "first.demo_cold_s", unit: "s", limit: 1_200.0, source: Source::Summary },
    Figure { id: "first.node_rss_mb", unit: "MB", limit: 1_500.0, source: Source::Summary },
    Figure { id: "first.quic_ttft_ms", unit: "ms", limit: 2.0, source: Source::Summary },
    Figure { id: "first.attribute_ms", unit: "ms", limit: 20.0, source: Source::Summary },
    Figure { id: "first.verify_ms", unit: "ms", limit: 20.0, source: Source::VerifyCommands },
];

/// Measures, prints the table, writes the rows.
///
/// # Errors
/// If the group has no figures yet, one is missing, or one is over its limit. Rows are written before that is said.
pub(crate) fn run(options: &Options) -> Result<()> {
    let figures: &[Figure] = match options.group {
        Group::First => &FIRST,
        group => bail!("no figures yet for group {group:?}; there are some for: first"),
    };
    let (mut rows, mut missing) = (Vec::new(), Vec::new());
    for figure in figures {
        match figure.source.measure(figure.id) {
            Ok(measured) => rows.push(figure.row(measured)),
            Err(error) => missing.push(format!("{}: {error:#}", figure.id)),
        }
    }
    print!("{}", table(&rows));
    if let Some(file) = &options.json {
        fs::write(file, format!("{}\n", serde_json::to_string_pretty(&rows)?))?;
    }
    ensure!(missing.is_empty(), "{} of {} figures are missing:\n{}", missing.len(), figures.len(), missing.join("\n"));
    let over: Vec<_> = rows.iter().filter(|row| row.is_over()).map(|row| row.figure.as_str()).collect();
    ensure!(over.is_empty(), "over the limit: {}", over.join(", "));
    Ok(())
}

impl Figure {
    fn row(&self, measured: source::Measured) -> Row {
        Row {
            figure: self.id.to_owned(),
            ours: measured.value,
            unit: self.unit.to_owned(),
            peer: None,
            peer_value: None,
            limit: Some(self.limit),
            n: measured.runs,
            command: measured.command,
        }
    }
}

impl Row {
    fn is_over(&self) -> bool {
        self.limit.is_some_and(|limit| self.ours > limit)
    }
}

fn table(rows: &[Row]) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let mut out =
        format!("{:<24} {:>12} {:<5} {:>12} {:<6} {:>6} {:<14} {:>12}\n", "figure", "ours", "unit", "at most", "", "n", "peer", "peer's");
    for row in rows {
        let verdict = if row.is_over() { "OVER" } else { "" };
        let peer = row.peer.as_deref().unwrap_or("-");
        let (ours, limit, theirs) = (number(Some(row.ours)), number(row.limit), number(row.peer_value));
        out += &format!("{:<24} {ours:>12} {:<5} {limit:>12} {verdict:<6} {:>6} {peer:<14} {theirs:>12}\n", row.figure, row.unit, row.n);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: f64) -> Row {
        FIRST[5].row(source::Measured { value: ours, runs: 5, command: "x".into() })
    }

    #[test]
    fn a_figure_over_its_limit_is_marked() {
        assert!(!row(20.0).is_over() && row(20.1).is_over());
        assert!(table(&[row(20.1)]).contains("OVER") && !table(&[row(1.0)]).contains("OVER"));
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
    fn a_group_without_figures_says_so() {
        let error = run(&Options { group: Group::Gpu, json: None }).unwrap_err().to_string();
        assert!(error.contains("no figures yet"), "{error}");
    }
}
