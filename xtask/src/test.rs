//! The gate: the same steps here and in continuous integration, a table of seconds, and one line of counts at the end.
//!
//! A failed step does not hide the others: all that can still run do. What needs a compiled workspace is left out after a failed
//! build and counts as failed. Every step that is not itself a test runner counts as one check.

mod count;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use count::Count;

use crate::shell::{answers, cargo, command, execute, read, root, shown, tee};
use crate::{contracts, fetch, python};

/// Crates whose cores must compile without sockets, files, tensors or a chain library.
const CORES: [&str; 7] = ["types", "p2p", "storage", "inference", "attribution", "chain-bridge", "simulations"];
const NODE_MAJOR_MIN: u32 = 20;
const PYTHON_MIN: (u32, u32) = (3, 9);

type Run = fn() -> Result<Count>;

/// One step: its name, whether it needs a workspace that builds, and what it does.
struct Step(&'static str, bool, Run);

const BUILD: &str = "build";

const STEPS: [Step; 17] = [
    Step("toolchain", false, || check(toolchain())),
    Step("npm ci", false, || check(contracts::install())),
    Step("forge build", false, || check(execute(&mut contracts::node(&["tools/forge.mjs", "build"])))),
    Step("artifacts", false, || check(execute(&mut contracts::node(&["tools/artifacts.mjs", "--check"])))),
    Step("forge test", false, || tests(&mut contracts::node(&["tools/forge.mjs", "test"]))),
    Step("vectors", false, || check(vectors())),
    Step("format", false, || check(execute(cargo().args(["fmt", "--all", "--", "--check", "--files-with-diff"])))),
    Step(BUILD, false, || check(execute(cargo().args(["build", "--workspace", "--all-targets"])))),
    Step("clippy", true, || check(clippy(&["--workspace", "--all-targets"]))),
    Step("clippy, cores", true, || check(cores())),
    Step("clippy, all features", true, || check(clippy(&["--workspace", "--all-targets", "--all-features"]))),
    Step("tests", true, || tests(&mut runner(false))),
    Step("doc tests", true, || tests(cargo().args(["test", "--doc", "--workspace", "--no-fail-fast"]))),
    Step("docs", true, || check(execute(cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings")))),
    Step("fetch model", false, || check(fetch::run(fetch::What::Model))),
    Step("fetch text", false, || check(fetch::run(fetch::What::Text))),
    Step("end to end", true, || tests(&mut end_to_end())),
];

/// Runs every step (or those that hold one of the words `only`), prints the table and the counts.
///
/// # Errors
/// If anything failed, or no step bears such a name.
pub(crate) fn run(only: &[String]) -> Result<()> {
    let (mut total, mut table, mut builds) = (Count::default(), Vec::new(), true);
    let is_chosen = |step: &Step| only.is_empty() || only.iter().any(|word| step.0.contains(word.as_str()));
    ensure!(STEPS.iter().any(is_chosen), "no step is called {only:?}; there are: {}", STEPS.map(|step| step.0).join(", "));
    for Step(name, needs_build, step) in STEPS.into_iter().filter(is_chosen) {
        println!("\n== {name}");
        let start = Instant::now();
        let result = if needs_build && !builds { Err(anyhow::anyhow!("left out: the workspace does not build")) } else { step() };
        builds &= name != BUILD || result.is_ok();
        let count = result.unwrap_or_else(|error| {
            eprintln!("{name}: {error:#}");
            Count { passed: 0, failed: 1 }
        });
        total += count;
        table.push((name, start.elapsed(), count));
    }
    print_table(&table);
    println!("{} passed, {} failed", total.passed, total.failed);
    ensure!(total.failed == 0, "the gate is red");
    Ok(())
}

fn print_table(table: &[(&str, Duration, Count)]) {
    println!("\n{:<22} {:>8} {:>7} {:>7}", "step", "seconds", "passed", "failed");
    for (name, time, count) in table {
        println!("{name:<22} {:>8.1} {:>7} {:>7}", time.as_secs_f64(), count.passed, count.failed);
    }
    let seconds: f64 = table.iter().map(|(_, time, _)| time.as_secs_f64()).sum();
    println!("{:<22} {seconds:>8.1}", "all");
}

fn check(result: Result<()>) -> Result<Count> {
    result.map(|()| Count { passed: 1, failed: 0 })
}

/// Runs a test runner and counts what it reports; a failing status without a reported failure counts as one.
fn tests(command: &mut Command) -> Result<Count> {
    let (status, lines) = tee(command.env("CARGO_TERM_COLOR", "never").env("NO_COLOR", "1"))?;
    let mut count = count::read(&lines);
    if !status.success() && count.failed == 0 {
        eprintln!("`{}` ended with {status}", shown(command));
        count.failed = 1;
    }
    ensure!(
        count.failed > 0 || count.passed > 0 || lines.iter().any(|line| line.contains("running 0 tests")),
        "`{}` ran no test",
        shown(command)
    );
    Ok(count)
}

/// Versions of what must be there beforehand: Rust, a C compiler, Node, npm, Python.
fn toolchain() -> Result<()> {
    let pinned = std::fs::read_to_string(root().join("rust-toolchain.toml"))?;
    let channel =
        pinned.lines().find_map(|line| line.strip_prefix("channel = ")).context("rust-toolchain.toml names no channel")?.trim_matches('"');
    let rustc = read(command("rustc").arg("--version"))?;
    ensure!(rustc.split(' ').nth(1) == Some(channel), "expected rustc {channel}, found {rustc}; run `rustup toolchain install {channel}`");
    ensure!(answers("cc", &["--version"]), "expected a C compiler as `cc`, found none; install gcc");
    let node = read(command("node").arg("--version")).context("install Node 20 or later")?;
    let (major, _) = version(node.trim().trim_start_matches('v'))?;
    ensure!(major >= NODE_MAJOR_MIN, "expected node {NODE_MAJOR_MIN} or later, found {}", node.trim());
    let npm = read(command("npm").arg("--version")).context("install npm")?;
    let python = read(command("python3").arg("--version")).context("install Python 3")?;
    let found = version(python.trim().trim_start_matches("Python "))?;
    ensure!(found >= PYTHON_MIN, "expected Python {}.{} or later, found {}", PYTHON_MIN.0, PYTHON_MIN.1, python.trim());
    println!("{}, node {}, npm {}, {}", rustc.trim(), node.trim(), npm.trim(), python.trim());
    Ok(())
}

/// Major and minor of a dotted version.
fn version(text: &str) -> Result<(u32, u32)> {
    let mut parts = text.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => bail!("expected a version such as 3.11.7, found {text:?}"),
    }
}

fn vectors() -> Result<()> {
    execute(python::packages()?.script("tests/fixtures/make_vectors.py").arg("--check"))
}

fn clippy(scope: &[&str]) -> Result<()> {
    execute(cargo().arg("clippy").args(scope).args(["--", "-D", "warnings"]))
}

/// The pure cores alone: a small graph without tokio, QUIC, tensors or a chain library.
fn cores() -> Result<()> {
    let packages = CORES.iter().flat_map(|name| ["--package", name]);
    execute(cargo().arg("clippy").args(packages).args(["--no-default-features", "--lib", "--bins", "--", "-D", "warnings"]))
}

/// nextest where it is installed, else cargo's own runner; the end-to-end package comes last, after model and text are there.
fn runner(is_end_to_end: bool) -> Command {
    let mut cargo = cargo();
    if answers("cargo", &["nextest", "--version"]) {
        let filter = if is_end_to_end { "package(tests)" } else { "not package(tests)" };
        cargo.args(["nextest", "run", "--workspace", "--profile", "ci", "--no-tests", "fail", "-E", filter]);
    } else {
        let targets: &[&str] = if is_end_to_end { &["--test", "*"] } else { &["--lib", "--bins"] };
        cargo.args(["test", "--workspace", "--no-fail-fast"]).args(targets);
    }
    cargo
}

fn end_to_end() -> Command {
    let mut runner = runner(true);
    runner
        .env("TRIBUTARY_MODEL", fetch::model())
        .env("TRIBUTARY_DEMO_DATA", fetch::demo_inputs())
        .env("TRIBUTARY_ANVIL", contracts::anvil());
    runner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_and_nonsense_is_refused() {
        assert_eq!(version("3.11.7").unwrap(), (3, 11));
        assert_eq!(version("20.20.2").unwrap(), (20, 20));
        assert!(version("three").is_err());
    }

    #[test]
    fn a_runner_that_fails_without_saying_so_counts_as_one_failure() {
        let count = tests(command("sh").args(["-c", "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; exit 3"])).unwrap();
        assert_eq!((count.passed, count.failed), (2, 1));
    }

    #[test]
    fn a_runner_that_ran_nothing_is_an_error() {
        assert!(tests(&mut command("true")).unwrap_err().to_string().contains("ran no test"));
    }
}
