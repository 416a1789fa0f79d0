//! The kernels of 64-bit ARM, and whole models by them: compiled for it, linked by Rust's own linker against a C library that comes with Rust, and run by QEMU on any processor.
//!
//! Needs no C compiler for ARM: what the feature `model` depends on is Rust alone (BLAKE3 without its C). QEMU is the machine's own, or else Debian's package, unpacked
//! below `.cache/` and not installed; apt has checked its signature.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::shell::{answers, cache, cargo, command, execute, read};

const TARGET: &str = "aarch64-unknown-linux-musl";
/// The environment's names for that target in cargo's settings.
const LINKER: &str = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER";
const RUNNER: &str = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER";
const FLAGS: &str = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUSTFLAGS";
const PACKAGE: &str = "qemu-user-static";
const PROGRAM: &str = "qemu-aarch64-static";

/// The tests of `inference`'s kernels on an emulated processor that has all that ARM has.
///
/// # Errors
/// If the target's library or QEMU is missing and cannot be fetched.
pub(crate) fn kernels() -> Result<Command> {
    tests("kernels")
}

/// Generated models, held to the bits that are committed of them.
///
/// # Errors
/// As [`kernels`].
pub(crate) fn models() -> Result<Command> {
    let mut tests = tests("equality")?;
    tests.args(["--", "generated_models_have_the_committed_bits"]);
    Ok(tests)
}

/// A file of tests of `inference`, with what has no other dependencies than Rust's own. No other step compiles this selection, so its warnings are errors here.
fn tests(name: &str) -> Result<Command> {
    library()?;
    let qemu = qemu()?;
    let mut tests = cargo();
    tests.args(["test", "--target", TARGET, "--package", "inference", "--no-default-features", "--features", "model,blake3/pure"]);
    tests.args(["--test", name]).env(LINKER, "rust-lld").env(RUNNER, format!("{} -cpu max", qemu.display())).env(FLAGS, "-D warnings");
    Ok(tests)
}

/// Rust's library for the target.
fn library() -> Result<()> {
    let folder = read(command("rustc").args(["--print", "target-libdir", "--target", TARGET]))?;
    if PathBuf::from(folder.trim()).is_dir() {
        return Ok(());
    }
    execute(command("rustup").args(["target", "add", TARGET])).with_context(|| format!("Rust's library for {TARGET} is missing"))
}

/// QEMU of the machine, or the one below `.cache/`.
fn qemu() -> Result<PathBuf> {
    if let Some(own) = [PROGRAM, "qemu-aarch64"].into_iter().find(|program| answers(program, &["--version"])) {
        return Ok(own.into());
    }
    let folder = cache("qemu");
    let program = folder.join("usr/bin").join(PROGRAM);
    if !program.is_file() {
        let missing = || format!("QEMU is missing; install it (Debian: apt install {PACKAGE})");
        let loading = cache("download/qemu");
        fs::create_dir_all(&loading)?;
        execute(command("apt-get").args(["download", PACKAGE]).current_dir(&loading)).with_context(missing)?;
        let packages: Vec<PathBuf> = fs::read_dir(&loading)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        let package = packages.iter().max().with_context(missing)?;
        execute(command("dpkg-deb").arg("-x").arg(package).arg(&folder)).with_context(missing)?;
        ensure!(program.is_file(), "{} holds no {PROGRAM}: {}", package.display(), missing());
        // It is large, and unpacked.
        fs::remove_dir_all(&loading)?;
    }
    Ok(program)
}
