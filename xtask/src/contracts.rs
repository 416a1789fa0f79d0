//! The foundry project under `chain-bridge/contracts`: its npm packages, its build, its tests.

use std::env::consts::{ARCH, OS};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::fetch::sha256_of;
use crate::python;
use crate::shell::{command, execute, root};

fn folder() -> PathBuf {
    root().join("chain-bridge/contracts")
}

/// A command that runs in the contracts' folder.
pub(crate) fn node(arguments: &[&str]) -> Command {
    let mut node = command("node");
    node.current_dir(folder()).args(arguments);
    node
}

/// A command that runs in the contracts' folder and finds slither and halmos, which are installed if need be.
///
/// # Errors
/// If they cannot be installed.
pub(crate) fn analysis(script: &str) -> Result<Command> {
    let mut analysis = node(&[script]);
    python::packages(&python::ANALYSIS)?.tell(&mut analysis)?;
    Ok(analysis)
}

/// npm in the contracts' folder.
pub(crate) fn npm() -> Command {
    let mut npm = command("npm");
    npm.current_dir(folder());
    npm
}

/// Installs the locked npm packages, unless the last install was of the same lock file.
///
/// # Errors
/// If npm fails or leaves no anvil for this platform.
pub(crate) fn install() -> Result<()> {
    let stamp = folder().join("node_modules/.lock-sha256");
    let want = sha256_of(&folder().join("package-lock.json"))?;
    if fs::read_to_string(&stamp).is_ok_and(|have| have == want) && anvil().is_file() {
        println!("npm packages match package-lock.json");
        return Ok(());
    }
    println!("npm ci in chain-bridge/contracts");
    execute(npm().args(["ci", "--no-audit", "--no-fund"]))
        .context("installing the contracts' packages; the npm registry must be reachable, or set npm_config_registry")?;
    ensure!(anvil().is_file(), "npm ci left no {}: package @foundry-rs/anvil has no build for {OS} {ARCH}", anvil().display());
    fs::write(stamp, want)?;
    Ok(())
}

/// The anvil binary of this platform's npm package; there only after [`install`].
pub(crate) fn anvil() -> PathBuf {
    let platform = if OS == "macos" { "darwin" } else { OS };
    let arch = match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    folder().join(format!("node_modules/@foundry-rs/anvil-{platform}-{arch}/bin/anvil"))
}
