//! Group `first`: the demonstration as a whole, and what one answer costs on its way.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::demonstration::{self, Demonstration};
use super::{Row, median};
use crate::fetch;
use crate::shell::{cargo, command, execute, read, root, target};
use crate::{contracts, demo, toolchain};

/// How often each offline check is timed; the figure is the median of all.
const VERIFY_RUNS: usize = 5;
/// Where the demonstration that is measured leaves what it found.
const OUT: &str = "target/demo";
/// Where adapters trained for the cold figure are kept for the warm run after it.
const COLD_ADAPTERS: &str = "target/bench/adapters";

/// Every figure of the group: unit and limit. Ours is to be at most the limit.
pub(super) const FIGURES: [(&str, &str, f64); 6] = [
    ("first.demo_s", "s", 120.0),
    ("first.demo_cold_s", "s", 1_200.0),
    ("first.node_rss_mb", "MB", 1_500.0),
    ("first.quic_ttft_ms", "ms", 2.0),
    ("first.attribute_ms", "ms", 20.0),
    ("first.verify_ms", "ms", 20.0),
];

/// What the benchmark program prints.
#[derive(Debug, Deserialize)]
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
/// If what is needed cannot be fetched or built.
pub(super) fn measure(is_cold: bool, missing: &mut Vec<String>) -> Result<Vec<Row>> {
    toolchain::check()?;
    fetch::for_demo()?;
    // One build with the features of the whole workspace, as the gate's.
    execute(cargo().args(["build", "--workspace", "--bin", "tributary", "--example", "first"]))?;
    let mut rows = Vec::new();
    match demonstrations(is_cold) {
        Ok(demonstrations) => rows.extend(demonstrations),
        Err(error) => missing.push(format!("the demonstration: {error:#}")),
    }
    match program() {
        Ok(printed) => rows.extend(printed),
        Err(error) => missing.push(format!("the benchmark program: {error:#}")),
    }
    match verify() {
        Ok(row) => rows.push(row),
        Err(error) => missing.push(format!("first.verify_ms: {error:#}")),
    }
    if !is_cold {
        rows.push(Row::unmeasured("first.demo_cold_s", "it trains for minutes: ask for it by --cold"));
    }
    for (figure, unit, limit) in FIGURES {
        match rows.iter_mut().find(|row| row.figure == figure) {
            Some(row) => (row.unit, row.limit) = (unit.to_owned(), Some(limit)),
            None => missing.push(format!("{figure} was not measured")),
        }
    }
    let place = |row: &Row| FIGURES.iter().position(|(figure, ..)| *figure == row.figure).unwrap_or(FIGURES.len());
    rows.sort_by_key(place);
    Ok(rows)
}

/// The demonstration with adapters cached, and before it, if asked for, one that has to train them.
fn demonstrations(is_cold: bool) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let cold = PathBuf::from(COLD_ADAPTERS);
    if is_cold {
        let folder = root().join(&cold);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        let trained = demonstrate(Some(&cold))?;
        ensure!(trained.is_trained, "the demonstration found adapters in an empty folder");
        rows.push(Row::measured("first.demo_cold_s", "s", trained.seconds, 1, "cargo xtask bench first --cold"));
    }
    let adapters = is_cold.then_some(cold.as_path());
    let mut cached = demonstrate(adapters)?;
    if cached.is_trained {
        println!("that run trained the adapters; the next one finds them");
        cached = demonstrate(adapters)?;
        ensure!(!cached.is_trained, "the demonstration trained again although nothing changed");
    }
    let mut row = Row::measured("first.demo_s", "s", cached.seconds, 1, "cargo xtask bench first");
    row.note = Some("from its start to its end, adapters cached".to_owned());
    rows.push(row);
    let mut row = Row::measured("first.node_rss_mb", "MB", cached.peak_mb, cached.nodes, "cargo xtask bench first");
    row.note = Some("most that any of its `tributary run` processes ever held, by the kernel's VmHWM".to_owned());
    rows.push(row);
    Ok(rows)
}

fn demonstrate(adapters: Option<&Path>) -> Result<Demonstration> {
    let mut command = demo::command(OUT);
    command.arg("--exit").args(adapters.iter().flat_map(|folder| [Path::new("--adapters"), folder]));
    demonstration::run(&mut command, &root().join(OUT).join("summary.json"))
}

/// The rows of the program that looks inside: network, attribution, verification without a process.
fn program() -> Result<Vec<Row>> {
    let threads = std::thread::available_parallelism()?;
    let mut first = command(target().join("debug/examples/first"));
    first.arg("--model").arg(fetch::model()).arg("--data").arg(fetch::demo_inputs()).arg("--anvil").arg(contracts::anvil());
    first.arg("--receipts").arg(root().join(OUT).join("receipts"));
    // As the demonstration's nodes have it: both sides of a comparison compute alike.
    let text = read(first.env("RAYON_NUM_THREADS", threads.to_string()))?;
    let row = |line: &str| -> Result<Row> {
        let printed: Printed = serde_json::from_str(line).with_context(|| format!("it printed {line:?}"))?;
        let mut row = Row::measured(&printed.figure, &printed.unit, printed.ours, printed.n, "cargo xtask bench first");
        row.note = Some(printed.note);
        Ok(row)
    };
    text.lines().map(row).collect()
}

/// `tributary receipt verify` as one would type it, on every bundle that the demonstration kept.
fn verify() -> Result<Row> {
    let path = root().join(OUT).join("summary.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let summary: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    time_verify(&summary)
}

fn time_verify(summary: &Value) -> Result<Row> {
    let commands: Vec<_> = summary["verify"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    ensure!(!commands.is_empty(), "the last demo lists no verify command");
    let mut times_ms = Vec::new();
    for line in &commands {
        for _ in 0..VERIFY_RUNS {
            let start = Instant::now();
            let status = command("sh").args(["-c", &format!("exec {line}")]).stdout(Stdio::null()).status()?;
            times_ms.push(start.elapsed().as_secs_f64() * 1e3);
            ensure!(status.success(), "`{line}` ended with {status}");
        }
    }
    let n = times_ms.len();
    let mut row = Row::measured("first.verify_ms", "ms", median(times_ms), n, commands[0]);
    row.note = Some(format!("start of the process included, {} bundles", commands.len()));
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verify_command_that_fails_gives_no_figure() {
        assert!(time_verify(&serde_json::json!({})).unwrap_err().to_string().contains("no verify command"));
        assert!(time_verify(&serde_json::json!({ "verify": ["false"] })).is_err());
        let row = time_verify(&serde_json::json!({ "verify": ["true", "true"] })).unwrap();
        assert_eq!((row.n, row.command.as_str()), (10, "true"));
        assert!(row.ours.is_some_and(|ms| ms > 0.0));
    }

    #[test]
    fn a_row_of_the_program_is_read_and_nonsense_is_refused() {
        let line = r#"{"figure":"first.attribute_ms","ours":1.5,"unit":"ms","n":101,"note":"x"}"#;
        let printed: Printed = serde_json::from_str(line).unwrap();
        assert_eq!((printed.figure.as_str(), printed.ours, printed.n), ("first.attribute_ms", 1.5, 101));
        assert!(serde_json::from_str::<Printed>("{}").is_err());
    }
}
