//! Group `storage`: the code and the gate on one core, how well copies and personal data are told, a fetch, what keeping costs, and what is promised of it.
//!
//! Each figure comes from a program that this command builds and runs: benchmarks of `storage` and `node` (released), scenarios of `simulations`, real nodes.
//! Peers run here too, on the same bytes and rows: two erasure codes, a bare copy by iroh, datatrove, Presidio, PDP's draws. Two are systems that
//! nobody runs on one machine; they stand with what they publish, and their name says so.

mod programs;

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::Row;
use crate::fetch::{self, What};
use crate::shell::read;
use crate::toolchain;

const COMMAND: &str = "cargo xtask bench storage";

/// Every figure of the group: what it is to reach, and whether that is the least.
const FIGURES: [(&str, f64, bool); 13] = [
    ("storage.encode_gb_s", 2.0, true),
    ("storage.rebuild_gb_s", 2.5, true),
    ("storage.gate_mb_s", 25.0, true),
    ("storage.dedup_recall", 0.95, true),
    ("storage.dedup_precision", 0.95, true),
    ("storage.pii_recall", 0.95, true),
    ("storage.pii_precision", 0.90, true),
    ("storage.fetch_ratio", 0.7, true),
    ("storage.overhead", 3.05, false),
    ("storage.audit_30d", 99.5, true),
    ("storage.read_ok", 100.0, true),
    ("storage.durability_nines", 11.0, true),
    ("storage.contribute_rss_mb", 300.0, false),
];
/// Those that may not be below the peer's either.
const NOT_BELOW_PEER: [&str; 2] = ["storage.pii_recall", "storage.pii_precision"];
/// What encoding is to reach where the processor multiplies in GF(2^8) itself.
const ENCODE_GFNI_GB_S: f64 = 5.0;

/// What the programs print.
#[derive(Debug, Deserialize)]
struct Printed {
    figure: String,
    ours: f64,
    unit: String,
    #[serde(default = "once")]
    n: usize,
    note: Option<String>,
    peer: Option<String>,
    peer_value: Option<f64>,
}

const fn once() -> usize {
    1
}

/// What is measured together, and how.
type Part<'a> = (&'static str, &'a dyn Fn() -> Result<Vec<Row>>);

/// Measures the group; what could not be measured is said in `missing`.
///
/// # Errors
/// If what is needed cannot be fetched.
pub(super) fn measure(is_full: bool, missing: &mut Vec<String>) -> Result<Vec<Row>> {
    toolchain::check()?;
    fetch::run(What::Text)?;
    let mut rows = Vec::new();
    let contributor = || programs::contributor(is_full);
    let parts: [Part<'_>; 8] = [
        ("the erasure code", &programs::erasure),
        ("the gate", &programs::gate),
        ("copies and personal data", &programs::quality),
        ("a fetch", &programs::fetch),
        ("what keeping costs", &programs::overhead),
        ("audits", &programs::audits),
        ("durability", &programs::durability),
        ("a contributor", &contributor),
    ];
    for (what, part) in parts {
        println!("\n== {what}");
        match part() {
            Ok(found) => rows.extend(found),
            Err(error) => missing.push(format!("{what}: {error:#}")),
        }
    }
    for (figure, reach, is_least) in FIGURES {
        match rows.iter_mut().find(|row| row.figure == figure) {
            Some(row) => (row.limit, row.is_least) = (Some(limit(row, reach)), is_least),
            None => missing.push(format!("{figure} was not measured")),
        }
    }
    let place = |row: &Row| FIGURES.iter().position(|(figure, ..)| *figure == row.figure).unwrap_or(FIGURES.len());
    rows.sort_by_key(place);
    Ok(rows)
}

/// What a row is to reach on this machine and in this run.
fn limit(row: &Row, reach: f64) -> f64 {
    let is_gfni = row.figure == "storage.encode_gb_s" && row.note.as_ref().is_some_and(|note| note.contains("kernel gfni"));
    let peer = row.peer_value.filter(|_| NOT_BELOW_PEER.contains(&row.figure.as_str()));
    if is_gfni { ENCODE_GFNI_GB_S } else { peer.map_or(reach, |peer| peer.max(reach)) }
}

/// The JSON rows among what a program prints; a test's name may stand before one on its line.
fn lines(command: &mut Command) -> Result<Vec<Printed>> {
    parse(&read(command)?)
}

fn parse(text: &str) -> Result<Vec<Printed>> {
    let rows = text.lines().filter_map(|line| line.find("{\"").map(|start| &line[start..]));
    let rows: Vec<Printed> =
        rows.map(|line| serde_json::from_str(line).with_context(|| format!("it printed {line:?}"))).collect::<Result<_>>()?;
    ensure!(!rows.is_empty(), "it printed no rows");
    Ok(rows)
}

fn row(printed: Printed) -> Row {
    let mut row = Row::measured(&printed.figure, &printed.unit, printed.ours, printed.n, COMMAND);
    (row.note, row.peer, row.peer_value) = (printed.note, printed.peer, printed.peer_value);
    row
}

/// Of the rows `FIGURE`, `FIGURE.kernel` and `FIGURE.peer.name` the best of ours beside the best peer, the other kernels and peers in the note.
fn best(figure: &str, printed: &[Printed]) -> Option<Row> {
    let of = |peer: bool| {
        let is_of = move |row: &&Printed| {
            let rest = row.figure.strip_prefix(figure)?;
            Some((rest.is_empty() || rest.starts_with('.')) && rest.starts_with(".peer.") == peer)
        };
        let mut rows: Vec<&Printed> = printed.iter().filter(|row| is_of(row) == Some(true)).collect();
        rows.sort_by(|a, b| b.ours.total_cmp(&a.ours));
        rows
    };
    let (ours, peers) = (of(false), of(true));
    let name = |row: &Printed| row.figure.trim_start_matches(figure).trim_start_matches(".peer").trim_start_matches('.').to_owned();
    let first = ours.first()?;
    let mut row = Row::measured(figure, &first.unit, first.ours, first.n, COMMAND);
    let kernel = name(first);
    let kernel = if kernel.is_empty() { "one core".to_owned() } else { format!("kernel {kernel}, one core") };
    let others = ours.iter().skip(1).chain(peers.iter().skip(1)).map(|row| format!("{} {:.2}", name(row), row.ours));
    row.note = Some(std::iter::once(kernel).chain(others).collect::<Vec<_>>().join("; "));
    if let Some(peer) = peers.first() {
        (row.peer, row.peer_value) = (Some(name(peer)), Some(peer.ours));
    }
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(figure: &str, ours: f64) -> Printed {
        Printed { figure: figure.into(), ours, unit: "GB/s".into(), n: 21, note: None, peer: None, peer_value: None }
    }

    #[test]
    fn the_best_kernel_stands_beside_the_best_peer() {
        let all = [
            printed("storage.encode_gb_s.scalar", 0.2),
            printed("storage.encode_gb_s.gfni", 5.1),
            printed("storage.encode_gb_s_4mib.gfni", 9.0),
            printed("storage.encode_gb_s.peer.reed-solomon-erasure", 0.5),
            printed("storage.encode_gb_s.peer.reed-solomon-simd", 1.2),
            printed("storage.rebuild_gb_s", 3.0),
        ];
        let row = best("storage.encode_gb_s", &all).unwrap();
        assert_eq!((row.ours, row.peer.as_deref(), row.peer_value), (Some(5.1), Some("reed-solomon-simd"), Some(1.2)));
        assert_eq!(row.note.as_deref(), Some("kernel gfni, one core; scalar 0.20; reed-solomon-erasure 0.50"));
        assert_eq!(limit(&row, 2.0), 5.0);
        let rebuilt = best("storage.rebuild_gb_s", &all).unwrap();
        assert_eq!((rebuilt.peer.as_deref(), rebuilt.note.as_deref(), limit(&rebuilt, 2.5)), (None, Some("one core"), 2.5));
        assert!(best("storage.other", &all).is_none());
    }

    #[test]
    fn personal_data_may_not_be_found_worse_than_by_the_peer() {
        let row = |figure: &str, theirs| Row { peer_value: Some(theirs), ..Row::measured(figure, "", 0.97, 1, "x") };
        assert_eq!(limit(&row("storage.pii_recall", 0.98), 0.95), 0.98);
        assert_eq!(limit(&row("storage.pii_recall", 0.5), 0.95), 0.95);
        assert_eq!(limit(&row("storage.dedup_recall", 0.98), 0.95), 0.95);
    }

    #[test]
    fn rows_are_found_behind_a_tests_name_and_nonsense_is_refused() {
        let text =
            "running 1 test\ntest it_costs ... {\"figure\":\"storage.overhead.4096kib\",\"ours\":3.04,\"unit\":\"x\",\"limit\":3.05}\nok";
        let found = parse(text).unwrap();
        assert_eq!((found.len(), found[0].n, found[0].ours), (1, 1, 3.04));
        assert!(parse("nothing").is_err() && parse("{\"figure\":1}").is_err());
    }
}
