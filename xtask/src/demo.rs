//! `cargo xtask demo`: everything the main job needs, then the main job in this process's place.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::contracts;
use crate::fetch::{self, What};
use crate::shell::{cargo, execute, root, shown, tributary};

/// Fetches, builds, and becomes `tributary demo`, so that signals and the exit code are its own.
///
/// # Errors
/// If a step before it fails or the binary cannot be started; on success this does not return.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    fetch::run(What::All)?;
    build()?;
    let mut demo = Command::new(tributary());
    demo.current_dir(root()).arg("demo");
    demo.arg("--model").arg(fetch::model()).arg("--data").arg(fetch::demo_inputs()).arg("--anvil").arg(contracts::anvil());
    demo.args(["--out", "target/demo"]).args(arguments);
    println!("{}", shown(&demo));
    Err(demo.exec()).with_context(|| format!("`{}` did not start", shown(&demo)))
}

/// Builds the node's binary with the features of the whole workspace, as the gate does, so that nothing is built twice.
///
/// # Errors
/// If it does not compile.
pub(crate) fn build() -> Result<()> {
    execute(cargo().args(["build", "--workspace", "--bin", "tributary"]))
}
