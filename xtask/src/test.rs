//! The gate: the same steps here and in continuous integration, a table of seconds, and one line of counts at the end.
//!
//! A failed step does not hide the others: all that can still run do. What needs a compiled workspace is left out after a failed
//! build and counts as failed. Every step that is not itself a test runner counts as one check. What does not need cargo runs beside the build, which leaves it
//! a processor here and there; its lines are printed together once the build is over.

mod count;

use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Result, ensure};
use count::Count;

use crate::shell::{answers, cargo, execute, keeping_lines, shown, tee};
use crate::{arm, contracts, fetch, oracle, python, toolchain};

/// Crates whose cores must compile without sockets, files, tensors or a chain library.
const CORES: [&str; 7] = ["types", "p2p", "storage", "inference", "attribution", "chain-bridge", "simulations"];

type Run = fn() -> Result<Count>;

/// One step: its name, when it runs, and what it does.
struct Step(&'static str, When, Run);

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// On a thread of its own, one after the other, while the workspace is built: uses nothing that cargo builds, and one processor mostly.
    Beside,
    /// In turn.
    InTurn,
    /// In turn, if the workspace builds.
    Built,
}

use When::{Beside, Built, InTurn};

const BUILD: &str = "build";
/// What proptest draws its cases by.
const PROPTEST_SEED: &str = "PROPTEST_RNG_SEED";

const STEPS: [Step; 25] = [
    Step("npm ci", Beside, || check(contracts::install())),
    Step("forge build", Beside, || check(execute(&mut contracts::node(&["tools/forge.mjs", "build"])))),
    Step("artifacts", Beside, || check(execute(&mut contracts::node(&["tools/artifacts.mjs", "--check"])))),
    Step("forge test", Beside, || tests(&mut contracts::node(&["tools/forge.mjs", "test"]))),
    Step("slither", Beside, || check(execute(&mut contracts::analysis("tools/slither.mjs")?))),
    Step("halmos", Beside, || tests(&mut contracts::analysis("tools/halmos.mjs")?)),
    Step("vectors", Beside, || check(vectors())),
    Step("second verifier", Beside, || check(second_verifier())),
    Step("croissant", Beside, || check(croissant())),
    Step("fetch model", Beside, || check(fetch::run(fetch::What::Model))),
    Step("fetch embeddings", Beside, || check(fetch::run(fetch::What::Embeddings))),
    Step("fetch text", Beside, || check(fetch::run(fetch::What::Text))),
    Step("openai client", Beside, || check(python::packages(&python::OPENAI).map(drop))),
    Step("toolchain", InTurn, || check(toolchain::check())),
    Step("format", InTurn, || check(execute(cargo().args(["fmt", "--all", "--", "--check", "--files-with-diff"])))),
    Step(BUILD, InTurn, || check(execute(cargo().args(["build", "--workspace", "--lib", "--bins", "--tests"])))),
    Step("clippy", Built, || check(clippy(&["--workspace", "--all-targets"]))),
    Step("clippy, cores", Built, || check(cores())),
    Step("clippy, all features", Built, || check(clippy(&["--workspace", "--all-targets", "--all-features"]))),
    Step("doc tests", Built, || tests(cargo().args(["test", "--doc", "--workspace", "--no-fail-fast"]))),
    Step("docs", Built, || check(execute(cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings")))),
    Step("kernels, ARM", Built, || arm::kernels().map_or_else(not_run, |mut kernels| tests(&mut kernels))),
    Step("models, ARM", Built, || arm::models().map_or_else(not_run, |mut models| tests(&mut models))),
    Step("infini-gram", Built, || match oracle::missing() {
        Some(why) => not_run(anyhow::anyhow!(why)),
        None => check(oracle::compare(oracle::GATE)),
    }),
    Step("tests, end to end", Built, || tests(&mut every_test())),
];

/// A line of the table.
struct Row {
    name: &'static str,
    took: Duration,
    count: Count,
    error: Option<anyhow::Error>,
}

impl Row {
    fn of(&Step(name, _, run): &Step) -> Self {
        let start = Instant::now();
        let (count, error) = match run() {
            Ok(count) => (count, None),
            Err(error) => (Count { passed: 0, failed: 1 }, Some(error)),
        };
        Self { name, took: start.elapsed(), count, error }
    }

    fn left_out(&Step(name, ..): &Step) -> Self {
        let error = Some(anyhow::anyhow!("left out: the workspace does not build"));
        Self { name, took: Duration::ZERO, count: Count { passed: 0, failed: 1 }, error }
    }

    fn with_its_error(self) -> Self {
        if let Some(error) = &self.error {
            eprintln!("{}: {error:#}", self.name);
        }
        self
    }
}

/// Runs every step (or those that hold one of the words `only`), prints the table and the counts.
///
/// # Errors
/// If anything failed, or no step bears such a name.
pub(crate) fn run(only: &[String]) -> Result<()> {
    let is_chosen = |step: &&Step| only.is_empty() || only.iter().any(|word| step.0.contains(word.as_str()));
    let chosen = |when: When| STEPS.iter().filter(is_chosen).filter(move |step| step.1 == when);
    ensure!(STEPS.iter().any(|step| is_chosen(&step)), "no step is called {only:?}; there are: {}", STEPS.map(|step| step.0).join(", "));
    let start = Instant::now();
    let in_turn = |step: &Step| {
        println!("\n== {}", step.0);
        Row::of(step).with_its_error()
    };
    let mut table: Vec<Row> = thread::scope(|scope| {
        let beside = scope.spawn(|| chosen(Beside).map(|step| keeping_lines(|| Row::of(step))).collect::<Vec<_>>());
        let rows: Vec<_> = chosen(InTurn).map(in_turn).collect();
        let beside = beside.join().expect("a step reports what goes wrong").into_iter().map(|(row, lines)| {
            println!("\n== {}", row.name);
            lines.iter().for_each(|line| println!("{line}"));
            row.with_its_error()
        });
        beside.chain(rows).collect()
    });
    let builds = table.iter().all(|row| row.name != BUILD || row.count.failed == 0);
    table.extend(chosen(Built).map(|step| if builds { in_turn(step) } else { Row::left_out(step).with_its_error() }));
    print_table(&table, start.elapsed());
    let mut total = Count::default();
    table.iter().for_each(|row| total += row.count);
    println!("{} passed, {} failed", total.passed, total.failed);
    ensure!(total.failed == 0, "the gate is red");
    Ok(())
}

fn print_table(table: &[Row], took: Duration) {
    println!("\n{:<22} {:>8} {:>7} {:>7}", "step", "seconds", "passed", "failed");
    for Row { name, took, count, .. } in table {
        println!("{name:<22} {:>8.1} {:>7} {:>7}", took.as_secs_f64(), count.passed, count.failed);
    }
    println!("{:<22} {:>8.1}", "all", took.as_secs_f64());
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
    for name in
        ["make_vectors.py", "make_storage_vectors.py", "make_sampler_vectors.py", "make_log_vectors.py", "make_transcript_vectors.py"]
    {
        let script = &format!("tests/fixtures/{name}");
        execute(python::packages(&python::VECTORS)?.script(script).arg("--check"))?;
    }
    Ok(())
}

/// Bundles, honest and not, before a verifier that shares no code with ours; a test of the workspace holds ours to the same list.
fn second_verifier() -> Result<()> {
    execute(python::packages(&python::VECTORS)?.script("tests/fixtures/verify_bundle.py").arg("--check"))
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
    // Twice the same tree, twice the same answer; `cargo xtask soak properties` draws other cases.
    if env::var_os(PROPTEST_SEED).is_none() {
        cargo.env(PROPTEST_SEED, "1");
    }
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
