//! Group `attribution`: an index built and asked, receipts made and checked, epochs replayed, proofs on the chain.
//!
//! A released program of `attribution` builds an index of 400 MB, made from the real texts under `.cache/text` by a seeded walk, and asks it; another signs
//! and replays an epoch; gas is what forge wrote into the snapshot that the gate compares. Peers run here too, on the first part of the same text: libsais
//! sorts its suffixes, infini-gram builds its own index of it and is asked alike. What is done is told as it is done. With `--full` memory and cold searches are those of 4 GB, which take
//! 8 GB of disk.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::Row;
use crate::fetch::{self, What};
use crate::shell::{cache, cargo, command, execute, root, shown, target, tee};
use crate::{oracle, python, toolchain};

const COMMAND: &str = "cargo xtask bench attribution";
const SNAPSHOT: &str = "chain-bridge/contracts/snapshots/gas.json";
/// Text of the index, in memory and on disk, and of the one that `--full` asks on disk.
const MEGABYTES: &str = "400";
const FULL_MEGABYTES: &str = "4000";

/// Every figure of the group: what it is to reach, and whether that is the least.
const FIGURES: [(&str, f64, bool); 14] = [
    ("attribution.spans_p50_ms", 2.0, false),
    ("attribution.spans_p99_ms", 5.0, false),
    ("attribution.spans_cold_p99_ms", 60.0, false),
    ("attribution.count_us", 3.0, false),
    ("attribution.find_us", 3.0, false),
    ("attribution.build_mb_s", 20.0, true),
    ("attribution.index_ratio", 2.0, false),
    ("attribution.build_rss_mb", 1_100.0, false),
    ("attribution.gas_occurs", 82_000.0, false),
    ("attribution.gas_longest", 160_000.0, false),
    ("attribution.gas_omission", 200_000.0, false),
    ("attribution.receipt_ms", 3.0, false),
    ("attribution.verify_ms", 3.0, false),
    ("attribution.replay_1m_s", 60.0, false),
];

/// Figure and entry of the snapshot, at the depth of an index of 4 GB.
const SNAPSHOTS: [(&str, &str); 3] = [
    ("attribution.gas_occurs", "occurs at depth 26"),
    ("attribution.gas_longest", "longest at depth 26"),
    ("attribution.gas_omission", "F2 at depth 26, full leaves"),
];

/// What stands between a figure and a peer's name.
const PEER: &str = ".peer.";

/// Measures some of them.
type Part<'p> = &'p dyn Fn() -> Result<Vec<Printed>>;

/// What the programs print.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Printed {
    figure: String,
    ours: f64,
    unit: String,
    n: usize,
    note: String,
}

/// Measures the group; what could not be measured is said in `missing`.
///
/// # Errors
/// If what is needed cannot be fetched.
pub(super) fn measure(is_full: bool, missing: &mut Vec<String>) -> Result<Vec<Row>> {
    toolchain::check()?;
    fetch::run(What::Text)?;
    let index = || index(is_full);
    let parts: [(&str, Part<'_>); 4] =
        [("the index", &index), ("infini-gram", &infini_gram), ("an epoch replayed", &replay), ("gas", &gas)];
    let mut printed = Vec::new();
    for (what, part) in parts {
        println!("\n== {what}");
        match part() {
            Ok(found) => printed.extend(found),
            Err(error) => missing.push(format!("{what}: {error:#}")),
        }
    }
    let mut rows = beside(&printed);
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

/// The index built and asked; what infini-gram is asked lies in the folder then.
fn index(is_full: bool) -> Result<Vec<Printed>> {
    execute(cargo().args(["build", "--release", "--package", "attribution", "--example", "attribution_bench"]))?;
    let folder = target().join("bench/attribution");
    fs::create_dir_all(&folder)?;
    let mut program = command(target().join("release/examples/attribution_bench"));
    program.arg(folder).args([MEGABYTES, if is_full { FULL_MEGABYTES } else { MEGABYTES }]);
    told(program.args(["hp.obo", "icd10cm.xml", "cwe-1003.csv", "topics.txt"].map(|name| cache("text").join(name))))
}

/// Runs a program whose lines go to ours as they come, and reads its rows.
fn told(program: &mut Command) -> Result<Vec<Printed>> {
    let (status, lines) = tee(program)?;
    ensure!(status.success(), "`{}` ended with {status}", shown(program));
    parse(&lines.join("\n"))
}

/// What infini-gram takes for the same.
fn infini_gram() -> Result<Vec<Printed>> {
    ensure!(oracle::missing().is_none(), "{}", oracle::missing().unwrap_or_default());
    let packages = python::packages(&python::INFINI_GRAM)?;
    let folder = target().join("bench/attribution/peer");
    let printed = told(packages.script("tests/fixtures/attribution/peer.py").arg(&folder));
    fs::remove_dir_all(&folder)?;
    printed
}

/// An epoch of a million signed receipts, rebuilt by a third party. With the features of the whole workspace, as it is built for the other group.
fn replay() -> Result<Vec<Printed>> {
    let printed = told(cargo().args(["bench", "--workspace", "--bench", "epoch", "--", "signed"]))?;
    Ok(printed.into_iter().filter(|row| row.figure.starts_with("attribution.")).collect())
}

/// Gas of what proves that text occurs, how long a match is, and that a span was left out.
fn gas() -> Result<Vec<Printed>> {
    let snapshot: Value = serde_json::from_slice(&fs::read(root().join(SNAPSHOT)).with_context(|| format!("{SNAPSHOT} cannot be read"))?)?;
    let rows = SNAPSHOTS.iter().map(|(figure, entry)| {
        let gas = snapshot[entry].as_str().with_context(|| format!("forge wrote no gas of {entry:?}"))?;
        Ok(Printed {
            figure: (*figure).to_owned(),
            ours: gas.parse()?,
            unit: "gas".to_owned(),
            n: 1,
            note: format!("the committed snapshot, which the gate compares with forge's: {entry}"),
        })
    });
    rows.collect()
}

fn parse(text: &str) -> Result<Vec<Printed>> {
    let rows = text.lines().filter(|line| line.starts_with('{'));
    let rows: Vec<Printed> =
        rows.map(|line| serde_json::from_str(line).with_context(|| format!("it printed {line:?}"))).collect::<Result<_>>()?;
    ensure!(!rows.is_empty(), "it printed no rows");
    Ok(rows)
}

/// Our figures, the first peer of each beside it, and what every peer says in the note.
fn beside(printed: &[Printed]) -> Vec<Row> {
    let ours = printed.iter().filter(|row| !row.figure.contains(PEER));
    ours.map(|ours| {
        let mut row = Row::measured(&ours.figure, &ours.unit, ours.ours, ours.n, COMMAND);
        let mut note = ours.note.clone();
        for peer in printed {
            let Some(name) = peer.figure.strip_prefix(&ours.figure).and_then(|rest| rest.strip_prefix(PEER)) else { continue };
            if row.peer.is_none() {
                (row.peer, row.peer_value) = (Some(name.to_owned()), Some(peer.ours));
            }
            note += &format!("; {name} {:.2} {}: {}", peer.ours, peer.unit, peer.note);
        }
        row.note = Some(note);
        row
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(figure: &str, ours: f64) -> Printed {
        Printed { figure: format!("attribution.{figure}"), ours, unit: "MB/s".into(), n: 1, note: format!("of {figure}") }
    }

    #[test]
    fn rows_are_read_and_nonsense_is_refused() {
        let text = "built\n{\"figure\":\"attribution.build_mb_s\",\"ours\":21.5,\"unit\":\"MB/s\",\"n\":1,\"note\":\"of build_mb_s\"}\n";
        assert_eq!(parse(text).unwrap(), [printed("build_mb_s", 21.5)]);
        for bad in ["", "built", "{\"figure\":\"x\"}", "{\"figure\":\"x\",\"ours\":null,\"unit\":\"\",\"n\":1,\"note\":\"\"}"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_first_peer_stands_beside_ours_and_every_one_is_in_the_note() {
        let all = [
            printed("build_mb_s", 21.0),
            printed("build_mb_s.peer.libsais", 14.0),
            printed("index_ratio", 1.9),
            printed("build_mb_s.peer.infini-gram", 8.0),
        ];
        let rows = beside(&all);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].peer.as_deref(), rows[0].peer_value, rows[1].peer.as_deref()), (Some("libsais"), Some(14.0), None));
        let note = rows[0].note.as_deref().unwrap();
        assert!(note.contains("libsais 14.00 MB/s: of build_mb_s.peer.libsais") && note.contains("infini-gram 8.00"), "{note}");
    }

    #[test]
    fn every_proof_with_a_reach_is_in_the_committed_snapshot() {
        let rows = gas().unwrap();
        assert_eq!(rows.len(), SNAPSHOTS.len());
        for row in rows {
            let (.., most, _) = FIGURES.iter().find(|(figure, ..)| *figure == row.figure).unwrap();
            assert!(row.ours <= *most, "{} {}", row.figure, row.ours);
        }
    }
}
