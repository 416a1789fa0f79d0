//! The gate: the same steps here and in continuous integration, a table of seconds, and one line of counts at the end.
//!
//! A failed step does not hide the others: all that can still run do. What needs a compiled workspace is left out after a failed
//! build and counts as failed. Every step that is not itself a test runner counts as one check.

mod count;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use count::Count;

use crate::shell::{answers, cargo, execute, shown, tee};
use crate::{arm, contracts, fetch, python, toolchain};

/// Crates whose cores must compile without sockets, files, tensors or a chain library.
const CORES: [&str; 7] = ["types", "p2p", "storage", "inference", "attribution", "chain-bridge", "simulations"];

type Run = fn() -> Result<Count>;

/// One step: its name, whether it needs a workspace that builds, and what it does.
struct Step(&'static str, bool, Run);

const BUILD: &str = "build";

const STEPS: [Step; 22] = [
    Step("toolchain", false, || check(toolchain::check())),
    Step("npm ci", false, || check(contracts::install())),
    Step("forge build", false, || check(execute(&mut contracts::node(&["tools/forge.mjs", "build"])))),
    Step("artifacts", false, || check(execute(&mut contracts::node(&["tools/artifacts.mjs", "--check"])))),
    Step("forge test", false, || tests(&mut contracts::node(&["tools/forge.mjs", "test"]))),
    Step("slither", false, || check(execute(&mut contracts::analysis("tools/slither.mjs")?))),
    Step("halmos", false, || tests(&mut contracts::analysis("tools/halmos.mjs")?)),
    Step("vectors", false, || check(vectors())),
    Step("croissant", false, || check(croissant())),
    Step("format", false, || check(execute(cargo().args(["fmt", "--all", "--", "--check", "--files-with-diff"])))),
    Step(BUILD, false, || check(execute(cargo().args(["build", "--workspace", "--lib", "--bins", "--tests"])))),
    Step("clippy", true, || check(clippy(&["--workspace", "--all-targets"]))),
    Step("clippy, cores", true, || check(cores())),
    Step("clippy, all features", true, || check(clippy(&["--workspace", "--all-targets", "--all-features"]))),
    Step("doc tests", true, || tests(cargo().args(["test", "--doc", "--workspace", "--no-fail-fast"]))),
    Step("docs", true, || check(execute(cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings")))),
    Step("kernels, ARM", true, || arm::kernels().map_or_else(not_run, |mut kernels| tests(&mut kernels))),
    Step("fetch model", false, || check(fetch::run(fetch::What::Model))),
    Step("fetch embeddings", false, || check(fetch::run(fetch::What::Embeddings))),
    Step("fetch text", false, || check(fetch::run(fetch::What::Text))),
    Step("openai client", false, || check(python::packages(&python::OPENAI).map(drop))),
    Step("tests, end to end", true, || tests(&mut every_test())),
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

/// What cannot be had on this machine counts neither way.
fn not_run(why: anyhow::Error) -> Result<Count> {
    println!("not run here: {why:#}");
    Ok(Count::default())
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

fn vectors() -> Result<()> {
    for script in ["tests/fixtures/make_vectors.py", "tests/fixtures/make_storage_vectors.py", "tests/fixtures/make_sampler_vectors.py"] {
        execute(python::packages(&python::VECTORS)?.script(script).arg("--check"))?;
    }
    Ok(())
}

/// What an export writes, before the reference library.
fn croissant() -> Result<()> {
    execute(&mut python::packages(&python::CROISSANT)?.script("tests/fixtures/croissant/validate.py"))
}

fn clippy(scope: &[&str]) -> Result<()> {
    execute(cargo().arg("clippy").args(scope).args(["--", "-D", "warnings"]))
}

/// The pure cores alone: a small graph without tokio, QUIC, tensors or a chain library.
fn cores() -> Result<()> {
    let packages = CORES.iter().flat_map(|name| ["--package", name]);
    execute(cargo().arg("clippy").args(packages).args(["--no-default-features", "--lib", "--bins", "--", "-D", "warnings"]))
}

/// Every test of the workspace, the end-to-end run among them: in one run, those that wait for blocks leave the processors to the
/// others (the groups of `.config/nextest.toml`). nextest where it is installed, else cargo's own runner, one binary after another.
fn every_test() -> Command {
    let mut cargo = cargo();
    if answers("cargo", &["nextest", "--version"]) {
        cargo.args(["nextest", "run", "--workspace", "--profile", "ci", "--no-tests", "fail"]);
    } else {
        println!("cargo-nextest is not installed: cargo's own runner does the same and takes longer");
        cargo.args(["test", "--workspace", "--no-fail-fast", "--tests"]);
    }
    cargo.env("TRIBUTARY_ANVIL", contracts::anvil());
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::command;

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
