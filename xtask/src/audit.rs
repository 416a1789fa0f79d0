//! `cargo xtask audit`: questions about others' code and about spelling. It needs the network and compiles its tools the first
//! time, for minutes, so it stands outside the gate.

use anyhow::{Result, ensure};

use crate::contracts;
use crate::shell::{cache, cargo, command, execute};

/// A tool, the crate it comes in, its version, and what it is asked.
const TOOLS: [(&str, &str, &str, &[&str]); 2] =
    [("cargo-deny", "cargo-deny", "0.20.2", &["--all-features", "check"]), ("typos", "typos-cli", "1.52.0", &[])];

/// Asks all three, then reports which of them objected.
///
/// # Errors
/// If one objects, or a tool cannot be installed.
pub(crate) fn run() -> Result<()> {
    let mut objections = Vec::new();
    for (tool, package, version, arguments) in TOOLS {
        println!("\n== {tool}");
        let asked = install(tool, package, version).and_then(|binary| execute(command(binary).args(arguments)));
        objections.extend(asked.err().map(|error| format!("{tool}: {error:#}")));
    }
    println!("\n== npm audit");
    let npm = contracts::install().and_then(|()| execute(contracts::npm().args(["audit", "--audit-level=high"])));
    objections.extend(npm.err().map(|error| format!("npm audit: {error:#}")));
    ensure!(objections.is_empty(), "{}", objections.join("\n"));
    Ok(())
}

/// The pinned tool below `.cache/`, compiled if it is not there.
fn install(tool: &str, package: &str, version: &str) -> Result<std::path::PathBuf> {
    let folder = cache("tools").join(format!("{package}-{version}"));
    let binary = folder.join("bin").join(tool);
    if !binary.is_file() {
        println!("compiling {package} {version}; this takes minutes, once");
        execute(cargo().args(["install", "--locked", "--root"]).arg(&folder).arg(format!("{package}@{version}")))?;
    }
    Ok(binary)
}
