//! `cargo xtask audit`: questions about others' code and about spelling. It needs the network, and compiles cargo-deny for
//! minutes the first time, so it stands outside the gate.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::shell::{cache, cargo, command, execute};
use crate::{contracts, python};

type Question = fn() -> Result<()>;

const CARGO_DENY: &str = "0.20.2";
const TYPOS: &str = "1.52.0";

/// Asks all three, then reports which of them objected.
///
/// # Errors
/// If one objects, or a tool cannot be installed.
pub(crate) fn run() -> Result<()> {
    let questions: [(&str, Question); 3] = [
        ("cargo-deny", || execute(command(cargo_deny()?).args(["--all-features", "check"]))),
        ("typos", || execute(&mut command(typos()?))),
        ("npm audit", || execute(contracts::npm().args(["audit", "--package-lock-only", "--audit-level=high"]))),
    ];
    let mut objections = Vec::new();
    for (name, ask) in questions {
        println!("\n== {name}");
        objections.extend(ask().err().map(|error| format!("{name}: {error:#}")));
    }
    ensure!(objections.is_empty(), "{}", objections.join("\n"));
    Ok(())
}

/// Licences, advisories, sources; compiled, because it comes as source only.
fn cargo_deny() -> Result<PathBuf> {
    let folder = cache("tools").join(format!("cargo-deny-{CARGO_DENY}"));
    let binary = folder.join("bin/cargo-deny");
    if !binary.is_file() {
        println!("compiling cargo-deny {CARGO_DENY}; this takes minutes, once");
        execute(cargo().args(["install", "--locked", "--root"]).arg(&folder).arg(format!("cargo-deny@{CARGO_DENY}")))?;
    }
    Ok(binary)
}

/// Spelling; the Python package index has it compiled.
fn typos() -> Result<PathBuf> {
    let folder = cache("tools").join(format!("typos-{TYPOS}"));
    let binary = folder.join("bin/typos");
    if !binary.is_file() {
        execute(python::pip()?.args(["install", "--quiet", "--no-deps", "--target"]).arg(&folder).arg(format!("typos=={TYPOS}")))?;
    }
    Ok(binary)
}
