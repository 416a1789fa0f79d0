//! Python as a tool: the interpreter, pip, and a set of packages under `.cache/` for the script that makes the vectors.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::fetch::sha256_of;
use crate::shell::{answers, cache, command, execute, read, root};

/// Needs Python 3.9, as the rest does.
const PIP_WHEEL: &str = "pip-25.3-py3-none-any.whl";
const PIP_SHA256: &str = "9655943313a94722b7774661c21049070f6bbb0a1516bf02f7c8d5d9201514cd";

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

/// A pip that works: the interpreter's own, else that of a virtual environment, else one fetched for this purpose.
///
/// It downloads, and installs into folders under `.cache/` only: an interpreter that its distribution manages (PEP 668) is left alone.
///
/// # Errors
/// If there is no Python 3, or its package index cannot be reached.
pub(crate) fn pip() -> Result<Command> {
    let mut pip = if answers("python3", &["-m", "pip", "--version"]) {
        module_pip("python3".into())
    } else if make_venv() {
        module_pip(venv_python())
    } else {
        let mut pip = python();
        pip.arg(fetched_pip()?.join("pip"));
        pip
    };
    pip.args(["--no-input", "--disable-pip-version-check"]);
    // Habits of the machine's owner that contradict a folder of our own.
    pip.env("PIP_REQUIRE_VIRTUALENV", "0").env("PIP_USER", "0");
    Ok(pip)
}

fn module_pip(interpreter: PathBuf) -> Command {
    let mut pip = command(interpreter);
    pip.args(["-m", "pip"]);
    pip
}

/// pip's own wheel, which runs as it lies there; for a Python that comes without (Debian's).
fn fetched_pip() -> Result<PathBuf> {
    let wheel = cache("tools").join(PIP_WHEEL);
    if !wheel.is_file() || sha256_of(&wheel)? != PIP_SHA256 {
        println!("this Python has no pip: fetching {PIP_WHEEL}");
        execute(python().arg(root().join("xtask/data/download.py")).args(["pip", PIP_WHEEL, PIP_SHA256]).arg(&wheel))
            .context("fetching pip; or install it (python3-pip)")?;
    }
    Ok(wheel)
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
        let mut install = if has_venv { module_pip(venv_python()) } else { pip()? };
        install.args(["--no-input", "--disable-pip-version-check", "install", "--quiet", "--requirement"]).arg(&requirements);
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
