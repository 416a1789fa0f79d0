//! Group `storage`: the gate and the erasure code on one core, and the memory of a contributor that brings much.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::Row;
use crate::fetch::{self, What};
use crate::shell::{cargo, command, execute, read, target};
use crate::{contracts, toolchain};

const COMMAND: &str = "cargo xtask bench storage";
/// Bytes that are contributed to five nodes, and those that are only read, checked, cut and compressed with `--full`.
const WHOLE_BYTES: u64 = 1_000_000_000;
const FULL_BYTES: u64 = 10_000_000_000;

/// Every figure of the group: what it is to reach, and whether that is the least.
const FIGURES: [(&str, f64, bool); 4] = [
    ("storage.encode_gb_s", 2.0, true),
    ("storage.rebuild_gb_s", 2.5, true),
    ("storage.gate_mb_s", 25.0, true),
    ("storage.contribute_rss_mb", 300.0, false),
];

/// What the programs print.
#[derive(Debug, Deserialize)]
struct Printed {
    figure: String,
    ours: f64,
    unit: String,
    n: usize,
    note: Option<String>,
}

/// Measures the group; what could not be measured is said in `missing`.
///
/// # Errors
/// If what is needed cannot be fetched or built.
pub(super) fn measure(is_full: bool, missing: &mut Vec<String>) -> Result<Vec<Row>> {
    toolchain::check()?;
    fetch::run(What::Text)?;
    let mut rows = Vec::new();
    for (what, found) in [("the erasure code", erasure()), ("the gate", gate()), ("a contributor's memory", contributor(is_full))] {
        match found {
            Ok(found) => rows.extend(found),
            Err(error) => missing.push(format!("{what}: {error:#}")),
        }
    }
    for (figure, reach, is_least) in FIGURES {
        match rows.iter_mut().find(|row| row.figure == figure) {
            Some(row) => (row.limit, row.is_least) = (Some(reach), is_least),
            None => missing.push(format!("{figure} was not measured")),
        }
    }
    let place = |row: &Row| FIGURES.iter().position(|(figure, ..)| *figure == row.figure).unwrap_or(FIGURES.len());
    rows.sort_by_key(place);
    Ok(rows)
}

fn lines(command: &mut Command) -> Result<Vec<Printed>> {
    let text = read(command)?;
    let rows = text.lines().filter(|line| line.starts_with('{'));
    let rows: Vec<Printed> =
        rows.map(|line| serde_json::from_str(line).with_context(|| format!("it printed {line:?}"))).collect::<Result<_>>()?;
    ensure!(!rows.is_empty(), "it printed no rows");
    Ok(rows)
}

fn row(printed: Printed) -> Row {
    let mut row = Row::measured(&printed.figure, &printed.unit, printed.ours, printed.n, COMMAND);
    row.note = printed.note;
    row
}

/// The code at 16 of 48: the best kernel of this machine beside the best of its peers, and all of them in rows of their own.
fn erasure() -> Result<Vec<Row>> {
    let printed = lines(cargo().args(["bench", "--package", "storage", "--bench", "erasure"]))?;
    Ok(["storage.encode_gb_s", "storage.rebuild_gb_s"].into_iter().filter_map(|figure| best(figure, &printed)).collect())
}

/// Of the rows `FIGURE`, `FIGURE.kernel` and `FIGURE.peer.name` the best of ours beside the best peer.
fn best(figure: &str, printed: &[Printed]) -> Option<Row> {
    let of = |peer: bool| {
        let is_of = move |row: &&Printed| {
            let rest = row.figure.strip_prefix(figure)?;
            Some((rest.is_empty() || rest.starts_with('.')) && rest.starts_with(".peer.") == peer)
        };
        printed.iter().filter(|row| is_of(row) == Some(true)).max_by(|a, b| a.ours.total_cmp(&b.ours))
    };
    let ours = of(false)?;
    let mut row = Row::measured(figure, &ours.unit, ours.ours, ours.n, COMMAND);
    row.note =
        ours.figure.strip_prefix(figure).and_then(|kernel| kernel.strip_prefix('.')).map(|kernel| format!("kernel {kernel}, one core"));
    if let Some(peer) = of(true) {
        row.peer = peer.figure.rsplit('.').next().map(str::to_owned);
        row.peer_value = Some(peer.ours);
    }
    Some(row)
}

/// The gate on the rows of the corpora, one core.
fn gate() -> Result<Vec<Row>> {
    let mut bench = cargo();
    bench.args(["bench", "--package", "storage", "--bench", "gate", "--"]).args(corpora());
    Ok(lines(&mut bench)?.into_iter().map(row).collect())
}

fn corpora() -> Vec<std::path::PathBuf> {
    ["medical-a.jsonl", "medical-b.jsonl", "python-a.jsonl"].map(|name| fetch::demo_inputs().join(name)).to_vec()
}

/// The largest peak of the runs: 1 GB to five nodes and, if asked for, 10 GB as far as one machine goes.
fn contributor(is_full: bool) -> Result<Vec<Row>> {
    execute(cargo().args(["build", "--workspace", "--bin", "tributary", "--example", "contribute"]))?;
    let run = |bytes: u64, is_dry: bool| -> Result<Printed> {
        let mut program = command(target().join("debug/examples/contribute"));
        program.arg("--bytes").arg(bytes.to_string()).args(is_dry.then_some("--dry-run")).args(corpora());
        let printed = lines(program.env("TRIBUTARY_ANVIL", contracts::anvil()))?;
        printed.into_iter().next().context("it printed no row")
    };
    let mut runs = vec![run(WHOLE_BYTES, false)?];
    if is_full {
        runs.push(run(FULL_BYTES, true)?);
    }
    let note = runs.iter().filter_map(|run| Some(format!("{:.0} MB: {}", run.ours, run.note.as_ref()?))).collect::<Vec<_>>().join("; ");
    let highest = runs.into_iter().max_by(|a, b| a.ours.total_cmp(&b.ours)).context("it ran")?;
    Ok(vec![row(Printed { note: Some(note), ..highest })])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(figure: &str, ours: f64) -> Printed {
        Printed { figure: figure.into(), ours, unit: "GB/s".into(), n: 21, note: None }
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
        assert_eq!(row.note.as_deref(), Some("kernel gfni, one core"));
        assert_eq!(best("storage.rebuild_gb_s", &all).unwrap().peer, None);
        assert!(best("storage.other", &all).is_none());
    }
}
