//! Python as a tool: the interpreter, pip, and sets of packages under `.cache/`, one for the script that makes the vectors, one for the analysis of
//! the contracts, one for the check of Croissant, one with OpenAI's client, one with infini-gram, one with those whom the gate is measured against.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result};

use crate::fetch::sha256_of;
use crate::shell::{answers, cache, command, execute, read, root};

/// Needs Python 3.9, as the rest does.
const PIP_WHEEL: &str = "pip-25.3-py3-none-any.whl";
const PIP_SHA256: &str = "9655943313a94722b7774661c21049070f6bbb0a1516bf02f7c8d5d9201514cd";

/// Pinned packages that are installed together: the file that names them, and their folders under `.cache/` with a virtual environment and without.
#[derive(Debug)]
pub(crate) struct Set {
    requirements: &'static str,
    venv: &'static str,
    plain: &'static str,
}

/// What the script that makes the vectors needs.
pub(crate) const VECTORS: Set = Set { requirements: "tests/fixtures/requirements.txt", venv: "venv", plain: "py" };

/// slither and halmos, which need Python 3.11.
pub(crate) const ANALYSIS: Set =
    Set { requirements: "chain-bridge/contracts/tools/requirements.txt", venv: "venv-contracts", plain: "py-contracts" };

/// The reference library of Croissant, which checks what exports write. Its dependencies need Python 3.11.
pub(crate) const CROISSANT: Set =
    Set { requirements: "tests/fixtures/croissant/requirements.txt", venv: "venv-croissant", plain: "py-croissant" };

/// Those whom the gate is measured against, datatrove and Presidio, and Faker. Figures need them, tests do not: they read what was found once.
pub(crate) const ORACLES: Set = Set { requirements: "tests/fixtures/gate/requirements.txt", venv: "venv-oracles", plain: "py-oracles" };

/// infini-gram, which answers the attribution index's queries as well.
pub(crate) const INFINI_GRAM: Set =
    Set { requirements: "tests/fixtures/attribution/requirements.txt", venv: "venv-infini-gram", plain: "py-infini-gram" };

/// OpenAI's own client, which the gateway is asked by. Its pins are of Python 3.11 and later.
pub(crate) const OPENAI: Set = Set { requirements: "tests/fixtures/openai/requirements.txt", venv: "venv-openai", plain: "py-openai" };

/// What an interpreter needs to see a set of packages.
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

    /// Tells a program that starts Python itself which interpreter sees the packages: `PYTHON`, `PYTHONPATH`, and their programs on `PATH`.
    ///
    /// # Errors
    /// If a folder's name cannot stand in `PATH`.
    pub(crate) fn tell(&self, command: &mut Command) -> Result<()> {
        let programs = match &self.search_path {
            Some(folder) => folder.join("bin"),
            None => self.interpreter.parent().expect("an interpreter of a virtual environment lies in a folder").to_owned(),
        };
        let others = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(std::iter::once(programs).chain(env::split_paths(&others))).context("PATH for the analysis")?;
        command.env("PYTHON", &self.interpreter).env("PATH", path);
        command.envs(self.search_path.as_ref().map(|folder| ("PYTHONPATH", folder)));
        Ok(())
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
    } else if make_venv(VECTORS.venv) {
        module_pip(venv_python(VECTORS.venv))
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

/// Installs a set of packages once per content of its file and interpreter.
///
/// A virtual environment where the venv module is whole, else a plain folder put on the search path.
///
/// # Errors
/// If the packages cannot be downloaded or installed.
pub(crate) fn packages(set: &Set) -> Result<Packages> {
    let requirements = root().join(set.requirements);
    let version = read(python().args(["-c", "import sys; print(sys.version)"]))?;
    let want = format!("{} {version}", sha256_of(&requirements)?);
    let has_venv = make_venv(set.venv);
    let folder = cache(set.plain);
    let stamp = cache(if has_venv { set.venv } else { set.plain }).join(".stamp");
    if fs::read_to_string(&stamp).is_ok_and(|have| have == want) {
        println!("python packages are installed");
    } else {
        let mut install = if has_venv { module_pip(venv_python(set.venv)) } else { pip()? };
        install.args(["--no-input", "--disable-pip-version-check", "install", "--quiet", "--requirement"]).arg(&requirements);
        if !has_venv {
            fs::create_dir_all(&folder)?;
            install.args(["--upgrade", "--target"]).arg(&folder);
        }
        execute(&mut install).with_context(|| format!("installing the packages of {}", set.requirements))?;
        fs::write(&stamp, want)?;
    }
    let interpreter = if has_venv { venv_python(set.venv) } else { "python3".into() };
    Ok(Packages { interpreter, search_path: (!has_venv).then_some(folder) })
}

fn venv_python(venv: &str) -> PathBuf {
    cache(venv).join("bin/python")
}

/// Whether a virtual environment with pip stands ready, made now if need be. Debian ships the module without ensurepip.
fn make_venv(venv: &str) -> bool {
    let works = || answers(&venv_python(venv).to_string_lossy(), &["-m", "pip", "--version"]);
    works() || (answers("python3", &["-m", "venv", "--clear", &cache(venv).to_string_lossy()]) && works())
}
