//! What is built and run for the group, and how its output becomes rows.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{COMMAND, Printed, best, lines, row};
use crate::bench::Row;
use crate::shell::{cargo, command, execute, read, target};
use crate::{contracts, fetch as inputs, python};

/// Bytes whose whole way to five nodes is timed, those whose contributor's memory is watched, and those that are only read, checked, cut and compressed
/// with `--full`.
const TIMED_BYTES: u64 = 100_000_000;
const WATCHED_BYTES: u64 = 1_000_000_000;
const FULL_BYTES: u64 = 10_000_000_000;
/// Near copies that are made of the corpora.
const PAIRS: &str = "800";
/// Personal data with rows of corpora that were read by hand.
const PERSONAL: &str = "tests/fixtures/gate/personal.jsonl";
/// Fixes what the simulations draw.
const SEED: &str = "4";
/// What others publish: bytes kept per byte, nines a year.
const WALRUS_OVERHEAD: f64 = 4.5;
const STORJ_NINES: f64 = 11.4;

/// A benchmark of `storage` in release mode.
fn bench(name: &str) -> Command {
    let mut cargo = cargo();
    cargo.args(["bench", "--package", "storage", "--bench", name]);
    cargo
}

fn corpora() -> Vec<PathBuf> {
    ["medical-a.jsonl", "medical-b.jsonl", "python-a.jsonl"].map(|name| inputs::demo_inputs().join(name)).to_vec()
}

/// The code at 16 of 48: the best kernel of this machine beside the best of its peers.
pub(super) fn erasure() -> Result<Vec<Row>> {
    let printed = lines(&mut bench("erasure"))?;
    Ok(["storage.encode_gb_s", "storage.rebuild_gb_s"].into_iter().filter_map(|figure| best(figure, &printed)).collect())
}

/// The gate on the rows of the corpora, one core: the whole, and its parts in the note.
pub(super) fn gate() -> Result<Vec<Row>> {
    let printed = lines(bench("gate").arg("--").args(corpora()))?;
    let (whole, parts): (Vec<_>, Vec<_>) = printed.into_iter().partition(|row| row.figure == "storage.gate_mb_s");
    let parts: Vec<_> = parts
        .iter()
        .map(|part| format!("{} {:.0}", part.figure.trim_start_matches("storage.").trim_end_matches("_mb_s"), part.ours))
        .collect();
    let whole = whole.into_iter().next().context("it printed no rate of the whole gate")?;
    let note = format!("{}; one core; of its parts alone: {}", whole.note.clone().unwrap_or_default(), parts.join(", "));
    Ok(vec![row(Printed { note: Some(note), ..whole })])
}

/// Near copies made of the corpora in this run, and personal data; datatrove and Presidio are asked before the gate is.
pub(super) fn quality() -> Result<Vec<Row>> {
    let packages = python::packages(&python::ORACLES)?;
    let folder = target().join("bench");
    fs::create_dir_all(&folder)?;
    let (pairs, personal) = (folder.join("pairs.jsonl"), folder.join("personal.jsonl"));
    fs::write(&pairs, read(packages.script("tests/fixtures/gate/pairs.py").args(["--pairs", PAIRS]).args(corpora()))?)?;
    fs::write(&personal, read(packages.script("tests/fixtures/gate/personal.py").args(["--again", PERSONAL]))?)?;
    Ok(lines(bench("quality").arg("--").arg(pairs).arg(personal))?.into_iter().map(row).collect())
}

/// One object from 48 holders beside a bare copy of its bytes.
pub(super) fn fetch() -> Result<Vec<Row>> {
    // With the features of the whole workspace, as the contributor is built: the largest crate is compiled once.
    let printed = lines(cargo().args(["bench", "--workspace", "--bench", "fetch"]))?;
    let (ratio, rates): (Vec<_>, Vec<_>) = printed.into_iter().partition(|row| row.figure == "storage.fetch_ratio");
    let rates: Vec<_> =
        rates.iter().map(|rate| format!("{} {:.0} {}", rate.figure.trim_start_matches("storage."), rate.ours, rate.unit)).collect();
    let ratio = ratio.into_iter().next().context("it printed no ratio")?;
    let peer = Some("raw iroh copy".to_owned());
    Ok(vec![row(Printed { note: Some(rates.join("; ")), unit: String::new(), peer, peer_value: Some(1.0), ..ratio })])
}

/// Bytes on the disks of 48 holders, with manifests and index, over an object's.
pub(super) fn overhead() -> Result<Vec<Row>> {
    let mut test = cargo();
    test.args(["test", "--workspace", "--test", "overhead", "--", "--nocapture"]);
    let printed = lines(&mut test)?;
    let at = |size: &str| printed.iter().find(|row| row.figure == format!("storage.overhead.{size}")).map(|row| row.ours);
    let sizes: Vec<_> =
        printed.iter().map(|row| format!("{} {:.3}", row.figure.trim_start_matches("storage.overhead."), row.ours)).collect();
    let mut row = Row::measured("storage.overhead", "x", at("4096kib").context("no object of 4 MiB was kept")?, 1, COMMAND);
    row.note = Some(format!("an object of 4 MiB, the smallest for which it is promised; {}", sizes.join(", ")));
    (row.peer, row.peer_value) = (Some("Walrus says".to_owned()), Some(WALRUS_OVERHEAD));
    Ok(vec![row])
}

/// What a scenario of the simulations found.
fn simulate(scenario: &str) -> Result<Value> {
    let mut cargo = cargo();
    cargo.args(["run", "--quiet", "--release", "--package", "simulations", "--", scenario, "--seed", SEED, "--json"]);
    serde_json::from_str(&read(&mut cargo)?).with_context(|| format!("the scenario {scenario} printed no JSON"))
}

fn number(report: &Value, pointer: &str) -> Result<f64> {
    report.pointer(pointer).and_then(Value::as_f64).with_context(|| format!("the report has no number at {pointer}"))
}

fn count(report: &Value, pointer: &str) -> Result<usize> {
    let found = report.pointer(pointer).and_then(Value::as_u64).with_context(|| format!("the report has no count at {pointer}"))?;
    Ok(usize::try_from(found)?)
}

/// Months in which the production cores of audits notice a lost hundredth.
pub(super) fn audits() -> Result<Vec<Row>> {
    let report = simulate("audits")?;
    let (share, expected, days) = (number(&report, "/share")?, number(&report, "/expected")?, number(&report, "/days_mean")?);
    let mut row = Row::measured("storage.audit_30d", "%", 100.0 * share, count(&report, "/question/months")?, COMMAND);
    row.note = Some(format!("simulated, seed {SEED}; {:.2} % by the closed form, after {days:.1} days on average", 100.0 * expected));
    (row.peer, row.peer_value) = (Some("PDP's draws".to_owned()), Some(100.0 * number(&report, "/pdp_share")?));
    Ok(vec![row])
}

/// Reads while a fifth of the operators is off, and the nines of a year with the repair time that churn showed.
pub(super) fn durability() -> Result<Vec<Row>> {
    let report = simulate("durability")?;
    let tried = count(&report, "/reads/tried")?;
    let share = number(&report, "/reads/good")? / number(&report, "/reads/tried")?;
    let mut reads = Row::measured("storage.read_ok", "%", 100.0 * share, tried, COMMAND);
    reads.note = Some(format!(
        "simulated through the core of fetching, seed {SEED}: of {} operators {} off, {} lying, {} slow; {:.1} nines by the closed form; half within {:.1} s, all within {:.1} s; {} honest holders blamed",
        count(&report, "/question/operators")?,
        count(&report, "/reads/off")?,
        count(&report, "/reads/lying")?,
        count(&report, "/reads/slow")?,
        number(&report, "/reads/nines")?,
        number(&report, "/reads/median_s")?,
        number(&report, "/reads/longest_s")?,
        count(&report, "/reads/wronged")?
    ));
    let repairs = count(&report, "/churn/repairs")?;
    let mut nines = Row::measured("storage.durability_nines", "", number(&report, "/churn/nines")?, repairs, COMMAND);
    // The reach is for the repair time that was measured. At the 24 hours of the published table that table has 10.7 for 16/48, whose repair begins one fragment
    // earlier there.
    nines.note = Some(format!(
        "a year by the closed form, operators live {} days, repair takes {:.2} h as measured over {} simulated days, which the reach means; {:.1} with 24 h",
        number(&report, "/question/life_days")?,
        number(&report, "/churn/repair_h")?,
        number(&report, "/question/churn_days")?,
        number(&report, "/churn/nines_at_24_h")?
    ));
    (nines.peer, nines.peer_value) = (Some("Storj says".to_owned()), Some(STORJ_NINES));
    Ok(vec![reads, nines])
}

/// The whole way of 100 MB to five nodes, and the largest peak of a contributor's memory: 1 GB to five nodes and, if asked for, 10 GB as far as one
/// machine goes.
pub(super) fn contributor(is_full: bool) -> Result<Vec<Row>> {
    execute(cargo().args(["build", "--release", "--workspace", "--bin", "tributary", "--example", "contribute"]))?;
    let run = |bytes: u64, is_dry: bool| -> Result<(Printed, Printed)> {
        let mut program = command(target().join("release/examples/contribute"));
        program.arg("--bytes").arg(bytes.to_string()).args(is_dry.then_some("--dry-run")).args(corpora());
        let mut printed = lines(program.env("TRIBUTARY_ANVIL", contracts::anvil()))?.into_iter();
        printed.next().zip(printed.next()).context("it printed too few rows")
    };
    let (_, timed) = run(TIMED_BYTES, false)?;
    let mut runs = vec![run(WATCHED_BYTES, false)?.0];
    if is_full {
        runs.push(run(FULL_BYTES, true)?.0);
    }
    let note = runs.iter().filter_map(|run| Some(format!("{:.0} MB: {}", run.ours, run.note.as_ref()?))).collect::<Vec<_>>().join("; ");
    let highest = runs.into_iter().max_by(|a, b| a.ours.total_cmp(&b.ours)).context("it ran")?;
    Ok(vec![row(Printed { note: Some(note), ..highest }), row(timed)])
}
