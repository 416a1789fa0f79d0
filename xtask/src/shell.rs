//! Running other programs: from the repository root, without a terminal on stdin, and with errors that name the command.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::{env, thread};

use anyhow::{Context, Result, bail, ensure};

/// The repository root.
pub(crate) fn root() -> PathBuf {
    // Set anew by `cargo run`, so a moved checkout does not point at its old place.
    let manifest = env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&manifest).parent().expect("xtask lies below the root").to_owned()
}

/// A path below `.cache/`, where downloads and what is derived from them live.
pub(crate) fn cache(path: &str) -> PathBuf {
    root().join(".cache").join(path)
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// The built binary of the node.
pub(crate) fn tributary() -> PathBuf {
    target().join("debug").join("tributary")
}

/// A command that runs in the root, reads nothing, and does not see what `cargo run` told us about our own package: build scripts of
/// others (ring's) watch these variables, so with them every switch between `cargo xtask` and a plain `cargo` builds 32 crates anew.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).stdin(Stdio::null());
    for (name, _) in env::vars_os().filter(|(name, _)| is_about_us(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command
}

/// Whether cargo sets the variable for the package it runs, and for that one alone.
fn is_about_us(variable: &str) -> bool {
    const OTHERS: [&str; 6] = [
        "CARGO_BIN_NAME",
        "CARGO_CRATE_NAME",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_LINKS",
        "CARGO_MANIFEST_PATH",
        "CARGO_PRIMARY_PACKAGE",
    ];
    variable.starts_with("CARGO_PKG_") || OTHERS.contains(&variable)
}

/// The cargo that runs us, without colours when its lines are read by a program.
pub(crate) fn cargo() -> Command {
    command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Whether `program arguments` can be started and succeeds.
pub(crate) fn answers(program: &str, arguments: &[&str]) -> bool {
    command(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The command as one would type it, for messages.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

thread_local! {
    /// What programs wrote that ran for this thread, where it keeps that back.
    static KEPT: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Does `work` and gives the lines of the programs it ran beside its result: two threads that run programs at once would mix their lines.
pub(crate) fn keeping_lines<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    KEPT.set(Some(Vec::new()));
    let result = work();
    (result, KEPT.take().unwrap_or_default())
}

/// Runs to the end with the output on ours.
///
/// # Errors
/// If the program is missing or ends with another status than 0.
pub(crate) fn execute(command: &mut Command) -> Result<()> {
    let is_kept = KEPT.with_borrow(Option::is_some);
    let status = if is_kept {
        tee(command)?.0
    } else {
        command.status().with_context(|| format!("`{}` did not start; is it installed and on PATH?", shown(command)))?
    };
    ensure!(status.success(), "`{}` ended with {status}", shown(command));
    Ok(())
}

/// Runs to the end and returns what it wrote to stdout.
///
/// # Errors
/// As [`execute`]; the message carries what it wrote to stderr.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let out = command.output().with_context(|| format!("`{}` did not start; is it installed and on PATH?", shown(command)))?;
    if !out.status.success() {
        bail!("`{}` ended with {}: {}", shown(command), out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Runs to the end, copies both outputs to ours as they come, or keeps them ([`keeping_lines`]), and returns their lines too.
///
/// # Errors
/// If the program does not start or its output cannot be read; a failing status is the caller's to judge.
pub(crate) fn tee(command: &mut Command) -> Result<(ExitStatus, Vec<String>)> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{}` did not start; is it installed and on PATH?", shown(command)))?;
    let (stdout, stderr) = (child.stdout.take().expect("stdout is piped"), child.stderr.take().expect("stderr is piped"));
    let is_kept = KEPT.with_borrow(Option::is_some);
    let errors = thread::spawn(move || if is_kept { copy(stderr, &mut std::io::sink()) } else { copy(stderr, &mut std::io::stderr()) });
    let mut lines = if is_kept { copy(stdout, &mut std::io::sink())? } else { copy(stdout, &mut std::io::stdout())? };
    lines.extend(errors.join().expect("the copying thread does not panic")?);
    KEPT.with_borrow_mut(|kept| kept.iter_mut().for_each(|kept| kept.extend_from_slice(&lines)));
    Ok((child.wait()?, lines))
}

fn copy(from: impl Read, to: &mut impl Write) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for line in BufReader::new(from).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        writeln!(to, "{line}")?;
        lines.push(line);
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_programs_are_kept_back_and_those_of_the_next_are_not() {
        let ((), kept) = keeping_lines(|| execute(command("sh").args(["-c", "echo one; echo two >&2"])).unwrap());
        assert_eq!(kept, ["one", "two"]);
        assert!(KEPT.with_borrow(Option::is_none));
    }

    #[test]
    fn commands_do_not_see_which_package_runs_them() {
        // Cargo and nextest both say so to a test.
        assert!(env::var_os("CARGO_PKG_NAME").is_some(), "this test runs under cargo");
        let seen = read(command("env").env("CARGO_TERM_COLOR", "never")).unwrap();
        let about_us: Vec<_> = seen.lines().filter_map(|line| line.split_once('=')).filter(|(name, _)| is_about_us(name)).collect();
        assert!(about_us.is_empty() && seen.contains("CARGO_TERM_COLOR"), "{about_us:?}");
    }
}
