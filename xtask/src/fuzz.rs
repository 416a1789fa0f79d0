//! Fuzzing by coverage: what decodes the bytes of a stranger, fed by libFuzzer with whatever reaches new code.
//!
//! `fuzz/` is a workspace of its own, since all of it is compiled otherwise: each edge counted, each comparison told to the mutator, reads and writes
//! checked by AddressSanitizer, every allocation counted. The compiler that the tree pins does that behind a switch. Its targets begin with what fixtures and
//! vectors hold, and with each input that once failed (`fuzz/found/TARGET`); what they come by lies under `target/fuzz/corpus` and serves the next run. An input that
//! fails is written to `target/fuzz/found`, and named.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::shell::{cargo, command, execute, read, root, target};

/// How all of it is compiled.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address --cfg fuzzing";
/// Says which target is meant.
const TARGET: &str = "TRIBUTARY_FUZZ_TARGET";
/// Longest input: an index file of some documents, or a bundle with deep openings.
const INPUT_BYTES_MAX: u32 = 64 << 10;
/// What one input may take of time, under sanitizer and load, and of memory.
const INPUT_SECONDS_MAX: u32 = 30;
const MEMORY_MB_MAX: u32 = 2_048;

/// Runs each target for so many seconds, or the one that `TRIBUTARY_FUZZ_TARGET` names.
///
/// # Errors
/// If an input fails, or the targets cannot be built.
pub(crate) fn run(seconds: u32) -> Result<()> {
    let host = read(command("rustc").arg("-vV"))?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc says no host")?;
    let folder = target().join("fuzz");
    let mut build = cargo();
    build.args(["build", "--locked", "--release", "--manifest-path", "fuzz/Cargo.toml", "--target", host]);
    execute(build.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", &folder))?;
    let program = folder.join(host).join("release/fuzz");
    let names = read(command(&program).env(TARGET, ""))?;
    let chosen = std::env::var(TARGET).ok();
    let names: Vec<&str> = names.lines().filter(|name| chosen.as_ref().is_none_or(|chosen| chosen == name)).collect();
    ensure!(!names.is_empty(), "{TARGET} is {chosen:?}, which is no target");
    let found = folder.join("found");
    fs::create_dir_all(&found)?;
    for name in names {
        println!("\n== fuzz {name}, {seconds} s");
        let (corpus, seeds) = (folder.join("corpus").join(name), folder.join("seeds").join(name));
        fs::create_dir_all(&corpus)?;
        execute(command(&program).env(TARGET, name).env("TRIBUTARY_FUZZ_SEEDS", &seeds))?;
        let mut fuzz = command(&program);
        fuzz.env(TARGET, name).arg(corpus).arg(seeds);
        let known = root().join("fuzz/found").join(name);
        if known.is_dir() {
            fuzz.arg(known);
        }
        fuzz.args([
            format!("-max_total_time={seconds}"),
            format!("-max_len={INPUT_BYTES_MAX}"),
            format!("-timeout={INPUT_SECONDS_MAX}"),
            format!("-rss_limit_mb={MEMORY_MB_MAX}"),
            format!("-artifact_prefix={}/{name}-", found.display()),
            "-print_final_stats=1".to_owned(),
            "-verbosity=0".to_owned(),
        ]);
        execute(&mut fuzz).with_context(|| format!("an input of target {name} fails: it lies in {}", found.display()))?;
    }
    Ok(())
}
