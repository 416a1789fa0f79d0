//! `cargo xtask audit`: questions about others' code and about spelling. It needs the network, and compiles cargo-deny for
//! minutes the first time, so it stands outside the gate.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::shell::{cache, cargo, command, execute};
use crate::{contracts, python};

const CARGO_DENY: &str = "0.20.2";
const TYPOS: &str = "1.52.0";

/// Options of `cargo xtask audit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Leave out what asks the advisory databases of RustSec (git, github.com) and npm, where only package registries can be reached.
    #[arg(long)]
    offline: bool,
}

/// One question: its name, whether it asks a database that is no package registry, and how it is asked.
struct Question(&'static str, bool, fn() -> Result<()>);

const QUESTIONS: [Question; 4] = [
    Question("licences, bans, sources", false, || {
        execute(command(cargo_deny()?).args(["--all-features", "check", "licenses", "bans", "sources"]))
    }),
    Question("spelling", false, || execute(&mut command(typos()?))),
    Question("advisories", true, || {
        execute(command(cargo_deny()?).args(["--all-features", "check", "advisories"]))
            .context("one applies, or the database could not be had (git and github.com); --offline leaves this out")
    }),
    Question("npm advisories", true, || {
        execute(contracts::npm().args(["audit", "--package-lock-only", "--audit-level=high"]))
            .context("one applies, or the npm registry does not answer such questions; --offline leaves this out")
    }),
];

/// Asks all, then reports which of them objected and which were left out.
///
/// # Errors
/// If one objects, or a tool cannot be installed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let (mut objections, mut left_out) = (Vec::new(), Vec::new());
    for Question(name, asks_database, ask) in QUESTIONS {
        if options.offline && asks_database {
            left_out.push(name);
            continue;
        }
        println!("\n== {name}");
        objections.extend(ask().err().map(|error| format!("{name}: {error:#}")));
    }
    ensure!(objections.is_empty(), "{} of {} questions:\n{}", objections.len(), QUESTIONS.len(), objections.join("\n"));
    println!("\nno objection{}", if left_out.is_empty() { String::new() } else { format!("; not asked: {}", left_out.join(", ")) });
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
