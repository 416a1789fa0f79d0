//! The attribution index in token mode before two other searchers, infini-gram and a naive one: the same answers to the same queries.
//!
//! An example of `attribution` writes queries with the index's answers, `tests/fixtures/attribution/oracle.py` asks the others. A sequence makes ten
//! queries or more: counts, places, longest matches, infinite-gram, one in sixteen what follows; every fortieth of a corpus like prose an answer traced by OLMoTrace's rules.
//! infini-gram starts a thread for each search, so a loaded machine takes long: 6,000 sequences take some ten seconds of one processor.

use std::fs;

use anyhow::{Result, ensure};

use crate::python;
use crate::shell::{answers, cargo, command, execute, target};

/// Sequences that the gate tries.
pub(crate) const GATE: u32 = 6_000;

/// Exits with success where infini-gram is published for the interpreter.
const IS_PUBLISHED: &str = "import platform, sys
here, version = (platform.system(), platform.machine()), sys.version_info[:2]
sys.exit(not (here == ('Linux', 'x86_64') and (3, 11) <= version <= (3, 13) or here == ('Darwin', 'arm64') and version == (3, 11)))";

/// Why the oracle cannot be asked on this machine, if it cannot.
pub(crate) fn missing() -> Option<&'static str> {
    (!answers("python3", &["-c", IS_PUBLISHED])).then_some("infini-gram is published for Python 3.11 to 3.13 on Linux and 3.11 on macOS")
}

/// Compares as many sequences.
///
/// # Errors
/// If an answer differs, or infini-gram cannot be installed.
pub(crate) fn compare(sequences: u32) -> Result<()> {
    ensure!(missing().is_none(), "{}", missing().unwrap_or_default());
    let packages = python::packages(&python::INFINI_GRAM)?;
    // With the features of the whole workspace, as the gate builds it.
    execute(cargo().args(["build", "--workspace", "--example", "oracle"]))?;
    let cases = target().join("oracle");
    fs::create_dir_all(&cases)?;
    let cases = cases.join("cases.jsonl");
    execute(command(target().join("debug/examples/oracle")).arg(&cases).arg(sequences.to_string()))?;
    execute(packages.script("tests/fixtures/attribution/oracle.py").arg(&cases))
}
