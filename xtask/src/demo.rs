//! `cargo xtask demo`: everything the main job needs, then the main job in this process's place.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::fetch;
use crate::shell::{self, cargo, execute, shown, tributary};
use crate::{contracts, toolchain};

/// Fetches, builds, and becomes `tributary demo`, so that signals and the exit code are its own.
///
/// # Errors
/// If a step before it fails or the binary cannot be started; on success this does not return.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    toolchain::check()?;
    fetch::for_demo()?;
    build()?;
    let mut demo = command("target/demo");
    demo.args(arguments);
    println!("{}", shown(&demo));
    Err(demo.exec()).with_context(|| format!("`{}` did not start", shown(&demo)))
}

/// `tributary demo` on what was fetched, its results in `out`.
pub(crate) fn command(out: &str) -> Command {
    let mut demo = shell::command(tributary());
    demo.arg("demo").arg("--model").arg(fetch::model()).arg("--data").arg(fetch::demo_inputs()).arg("--anvil").arg(contracts::anvil());
    demo.args(["--out", out]);
    demo
}

/// Builds the node's binary with the features that the gate compiles dependencies with, those of test-only dependencies among them (which is all that naming
/// a test does), so that nothing is built twice.
///
/// # Errors
/// If it does not compile.
pub(crate) fn build() -> Result<()> {
    execute(cargo().args(["build", "--workspace", "--bin", "tributary", "--test", "vectors"]))
}
