//! Where figures come from.

use std::fs;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::shell::{command, root};

/// How often each offline check is timed; the figure is the median of all.
const VERIFY_RUNS: u64 = 5;
const SUMMARY: &str = "target/demo/summary.json";

/// Where a figure comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// The number that the last demo wrote under `figures` in its summary.
    Summary,
    /// The median wall time of the summary's `verify` commands, start of the process included.
    VerifyCommands,
}

/// A measured value, the number of runs behind it, and how to get it again.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) value: f64,
    pub(super) runs: u64,
    pub(super) command: String,
}

impl Source {
    /// Measures, or reads, the figure `id`.
    ///
    /// # Errors
    /// If there is no summary of a demo, it lacks the figure, or a command fails.
    pub(super) fn measure(self, id: &str) -> Result<Measured> {
        let summary = summary()?;
        match self {
            Self::Summary => from_summary(&summary, id),
            Self::VerifyCommands => time_verify(&summary),
        }
    }
}

fn summary() -> Result<Value> {
    let text = fs::read_to_string(root().join(SUMMARY)).with_context(|| format!("no {SUMMARY}; run `cargo xtask demo --exit` first"))?;
    serde_json::from_str(&text).with_context(|| format!("{SUMMARY} is not JSON"))
}

fn from_summary(summary: &Value, id: &str) -> Result<Measured> {
    let value = summary["figures"][id].as_f64().with_context(|| format!("the last demo measured no {id}"))?;
    Ok(Measured { value, runs: 1, command: "cargo xtask demo --exit".to_owned() })
}

fn time_verify(summary: &Value) -> Result<Measured> {
    let commands: Vec<_> = summary["verify"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    ensure!(!commands.is_empty(), "the last demo lists no verify command");
    let mut times_ms = Vec::new();
    for line in &commands {
        for _ in 0..VERIFY_RUNS {
            let start = Instant::now();
            let status = command("sh").args(["-c", line]).stdout(Stdio::null()).status()?;
            times_ms.push(start.elapsed().as_secs_f64() * 1e3);
            ensure!(status.success(), "`{line}` ended with {status}");
        }
    }
    let runs = VERIFY_RUNS * u64::try_from(commands.len())?;
    Ok(Measured { value: median(&mut times_ms), runs, command: commands[0].to_owned() })
}

/// The middle value, or the mean of the two in the middle. `values` is not empty.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_figure_that_the_demo_did_not_measure_is_an_error() {
        let summary = serde_json::json!({ "figures": { "first.demo_s": 88.5 } });
        assert_eq!(from_summary(&summary, "first.demo_s").unwrap().value, 88.5);
        assert!(from_summary(&summary, "first.node_rss_mb").unwrap_err().to_string().contains("first.node_rss_mb"));
        assert!(time_verify(&summary).unwrap_err().to_string().contains("no verify command"));
    }

    #[test]
    fn a_verify_command_that_fails_gives_no_figure() {
        assert!(time_verify(&serde_json::json!({ "verify": ["exit 4"] })).is_err());
        let measured = time_verify(&serde_json::json!({ "verify": ["true", "true"] })).unwrap();
        assert_eq!(measured.runs, 10);
        assert!(measured.value > 0.0);
    }
}
