//! One run of the demonstration, watched from outside: how long it takes, and the most memory that any node of it ever holds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::shell::shown;

/// Time between two looks at the nodes. The kernel keeps each process's peak, so only growth in a node's last moments can be missed.
const LOOK: Duration = Duration::from_millis(200);

/// What a run of the demonstration came to.
#[derive(Debug)]
pub(super) struct Demonstration {
    /// From the start of its process to its end.
    pub(super) seconds: f64,
    /// Whether it had to train adapters.
    pub(super) is_trained: bool,
    /// Largest resident set of a node's process, in 1,000,000 bytes.
    pub(super) peak_mb: f64,
    /// Node processes that were seen.
    pub(super) nodes: usize,
}

/// Runs `command`, which is `tributary demo`, to its end.
///
/// # Errors
/// If it fails, writes no summary, or no node of it was seen.
pub(super) fn run(command: &mut Command, summary: &Path) -> Result<Demonstration> {
    if summary.exists() {
        fs::remove_file(summary)?;
    }
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("`{}` did not start", shown(command)))?;
    let mut peaks_kb = BTreeMap::new();
    let status = loop {
        look(child.id(), &mut peaks_kb)?;
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(LOOK);
    };
    let seconds = start.elapsed().as_secs_f64();
    ensure!(status.success(), "`{}` ended with {status}", shown(command));
    let text = fs::read_to_string(summary).with_context(|| format!("the demonstration wrote no {}", summary.display()))?;
    let summary: Value = serde_json::from_str(&text).context("its summary is not JSON")?;
    let is_trained = summary["trained"].as_bool().context("its summary does not say whether it trained")?;
    let peak_kb = peaks_kb.values().max().context("no node of the demonstration was seen under /proc")?;
    // Memory of a process is far below 2^52 kB.
    let peak_mb = f64::from(u32::try_from(*peak_kb)?) * 1_024.0 / 1e6;
    Ok(Demonstration { seconds, is_trained, peak_mb, nodes: peaks_kb.len() })
}

/// Notes the peak of each `tributary run` that `parent` has started.
fn look(parent: u32, peaks_kb: &mut BTreeMap<u32, u64>) -> Result<()> {
    for entry in fs::read_dir("/proc").context("memory of other processes is read from /proc")? {
        let name = entry?.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end between two lines of this; then it has no more to say.
        let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
        let status = read("status");
        if field(&status, "PPid") != Some(u64::from(parent)) || !read("cmdline").split('\0').any(|word| word == "run") {
            continue;
        }
        if let Some(peak) = field(&status, "VmHWM") {
            peaks_kb.insert(process, peak);
        }
    }
    Ok(())
}

/// The number of a line such as `VmHWM:   812345 kB`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_process_are_found_by_their_whole_name() {
        let status = "Name:\ttributary\nPPid:\t12\nVmHWMx:\t9 kB\nVmHWM:\t  812345 kB\n";
        assert_eq!((field(status, "PPid"), field(status, "VmHWM"), field(status, "VmRSS")), (Some(12), Some(812_345), None));
    }

    #[test]
    fn a_child_that_runs_is_seen_with_its_peak_and_others_are_not() {
        let mut child = Command::new("sh").args(["-c", "read line", "run"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let mut other = Command::new("sh").args(["-c", "read line", "rerun"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let mut peaks = BTreeMap::new();
        // Between fork and exec the child still bears this program's command line.
        while peaks.is_empty() {
            look(std::process::id(), &mut peaks).unwrap();
        }
        drop((child.stdin.take(), other.stdin.take()));
        child.wait().unwrap();
        other.wait().unwrap();
        assert!(peaks[&child.id()] > 0 && !peaks.contains_key(&other.id()));
    }

    #[test]
    fn a_demonstration_that_fails_or_says_nothing_gives_no_figure() {
        let nowhere = std::env::temp_dir().join(format!("no-summary-{}.json", std::process::id()));
        assert!(run(&mut Command::new("false"), &nowhere).unwrap_err().to_string().contains("ended with"));
        assert!(run(&mut Command::new("true"), &nowhere).unwrap_err().to_string().contains("wrote no"));
    }
}
