//! Python as a tool: the interpreter, pip, and a set of packages under `.cache/` for the script that makes the vectors.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::fetch::sha256_of;
use crate::shell::{answers, cache, command, execute, read, root};

/// What an interpreter needs to see the packages of `tests/fixtures/requirements.txt`.
#[derive(Debug)]
pub(crate) struct Packages {
    interpreter: PathBuf,
    search_path: Option<PathBuf>,
}

impl Packages {
    /// A command that runs `script` with the packages importable.
    pub(crate) fn script(&self, script: &str) -> Command {
        let mut python = command(&self.interpreter);
        python.arg(script).env("PYTHONDONTWRITEBYTECODE", "1").envs(self.search_path.as_ref().map(|path| ("PYTHONPATH", path)));
        python
    }
}

/// `python3`, standard library only.
pub(crate) fn python() -> Command {
    let mut python = command("python3");
    python.env("PYTHONDONTWRITEBYTECODE", "1");
    python
}

/// A pip that works: the interpreter's own, else that of a virtual environment.
///
/// # Errors
/// If there is neither pip nor a working venv module.
pub(crate) fn pip() -> Result<Command> {
    let interpreter = if answers("python3", &["-m", "pip", "--version"]) {
        PathBuf::from("python3")
    } else if make_venv() {
        venv_python()
    } else {
        bail!("python3 has neither pip nor a working venv module: install python3-pip or python3-venv")
    };
    let mut pip = command(interpreter);
    pip.args(["-m", "pip", "--no-input", "--disable-pip-version-check"]);
    Ok(pip)
}

/// Installs the packages of `tests/fixtures/requirements.txt` once per content of that file and interpreter.
///
/// A virtual environment where the venv module is whole, else a plain folder put on the search path.
///
/// # Errors
/// If the packages cannot be downloaded or installed.
pub(crate) fn packages() -> Result<Packages> {
    let requirements = root().join("tests/fixtures/requirements.txt");
    let version = read(python().args(["-c", "import sys; print(sys.version)"]))?;
    let want = format!("{} {version}", sha256_of(&requirements)?);
    let has_venv = make_venv();
    let folder = cache("py");
    let stamp = if has_venv { cache("venv/.stamp") } else { cache("py/.stamp") };
    if fs::read_to_string(&stamp).is_ok_and(|have| have == want) {
        println!("python packages are installed");
    } else {
        let mut install = command(if has_venv { venv_python() } else { "python3".into() });
        install.args(["-m", "pip", "--no-input", "--disable-pip-version-check", "install", "--quiet", "--requirement"]).arg(&requirements);
        if !has_venv {
            fs::create_dir_all(&folder)?;
            install.args(["--upgrade", "--target"]).arg(&folder);
        }
        execute(&mut install).context("installing what tests/fixtures/make_vectors.py needs")?;
        fs::write(&stamp, want)?;
    }
    Ok(Packages { interpreter: if has_venv { venv_python() } else { "python3".into() }, search_path: (!has_venv).then_some(folder) })
}

fn venv_python() -> PathBuf {
    cache("venv/bin/python")
}

/// Whether a virtual environment with pip stands ready, made now if need be. Debian ships the module without ensurepip.
fn make_venv() -> bool {
    let works = || answers(&venv_python().to_string_lossy(), &["-m", "pip", "--version"]);
    works() || (answers("python3", &["-m", "venv", "--clear", &cache("venv").to_string_lossy()]) && works())
}
