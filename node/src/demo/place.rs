//! What must be there before anything starts, and an output folder that belongs to one demonstration alone.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

use super::Options;

/// Marks a folder as a demonstration's, and is locked while one runs there.
const MARK: &str = ".demonstration";
/// Left by a demonstration before it marked its folder.
const LEFT_BEHIND: [&str; 2] = ["parties", "registry.json"];
/// What the data folder must hold.
pub const DATA_FILES: [&str; 8] = [
    "medical-a.jsonl",
    "medical-b.jsonl",
    "python-a.jsonl",
    "medical-train.txt",
    "medical-heldout.txt",
    "python-train.txt",
    "python-heldout.txt",
    "questions.json",
];

/// Why a demonstration cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// An input cannot be read.
    #[error("{} cannot be used: {fix}", path.display())]
    Input {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
        /// What to do.
        fix: &'static str,
    },
    /// The output folder cannot be used.
    #[error("{} cannot be used: give --out a folder that you may write to", path.display())]
    Out {
        /// The folder or a file in it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds what no demonstration wrote.
    #[error("{} holds {found:?} and no earlier demonstration: give --out an empty or a new folder, nothing was touched", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// One thing in it.
        found: String,
    },
    /// Another demonstration runs there.
    #[error("another demonstration is running in {}: stop it, or give this one another --out", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
}

/// Sees that every input can be opened.
///
/// # Errors
/// [`PlaceError::Input`], which names the command that brings it.
pub fn inputs(options: &Options) -> Result<(), PlaceError> {
    let readable = |path: &Path, fix: &'static str| {
        let is_file = File::open(path)
            .and_then(|file| file.metadata())
            .and_then(|found| if found.is_file() { Ok(()) } else { Err(io::Error::other("not a file")) });
        is_file.map_err(|source| PlaceError::Input { path: path.to_owned(), source, fix })
    };
    readable(&options.model, "run `cargo xtask fetch model`, or name a GGUF by --model")?;
    readable(&options.anvil, "run `cargo xtask fetch contracts`, or name anvil's program by --anvil")?;
    for name in DATA_FILES {
        readable(&options.data.join(name), "run `cargo xtask fetch text`, or name the prepared folder by --data")?;
    }
    fs::create_dir_all(&options.adapters).and_then(|()| fs::read_dir(&options.adapters)).map(drop).map_err(|source| PlaceError::Input {
        path: options.adapters.clone(),
        source,
        fix: "trained adapters are kept here: give --adapters a folder that you may read and write",
    })
}

/// Empties an earlier demonstration's folder, or makes a new one. It is ours until the file is dropped.
///
/// # Errors
/// [`PlaceError`]; then nothing was removed.
pub fn output(out: &Path) -> Result<File, PlaceError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| PlaceError::Out { path, source }
    };
    fs::create_dir_all(out).map_err(failed(out))?;
    let entries: Vec<_> = fs::read_dir(out).and_then(Iterator::collect::<io::Result<_>>).map_err(failed(out))?;
    let names: Vec<String> = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let has = |name: &str| names.iter().any(|found| found == name);
    if !has(MARK)
        && !LEFT_BEHIND.iter().all(|name| has(name))
        && let Some(found) = names.first()
    {
        return Err(PlaceError::Foreign { path: out.to_owned(), found: found.clone() });
    }
    let mark = out.join(MARK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&mark).map_err(failed(&mark))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(PlaceError::Busy { path: out.to_owned() }),
        Err(TryLockError::Error(source)) => return Err(PlaceError::Out { path: mark, source }),
    }
    for entry in entries.iter().filter(|entry| entry.file_name() != MARK) {
        let path = entry.path();
        let is_folder = entry.file_type().map_err(failed(&path))?.is_dir();
        let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(failed(&path))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_somebody_else_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let theirs = folder.path().join("thesis.txt");
        fs::write(&theirs, "years of work").unwrap();
        let error = output(folder.path()).unwrap_err();
        assert!(matches!(&error, PlaceError::Foreign { found, .. } if found == "thesis.txt"), "{error}");
        assert!(output(&theirs).is_err(), "a file is no folder");
        assert!(theirs.is_file());
    }

    #[test]
    fn an_earlier_demonstrations_folder_is_emptied_and_held_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("new/demo");
        let held = output(&out).unwrap();
        fs::create_dir_all(out.join("parties/node-0")).unwrap();
        fs::write(out.join("summary.json"), "{}").unwrap();
        let error = output(&out).unwrap_err();
        assert!(matches!(error, PlaceError::Busy { .. }), "{error}");
        assert!(out.join("summary.json").is_file(), "a refused demonstration touches nothing");
        drop(held);
        let _held = output(&out).unwrap();
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1, "only the mark is left");
    }

    #[test]
    fn a_missing_input_is_named_with_the_command_that_brings_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = folder.path().join(name);
            fs::write(&path, "x").unwrap();
            path
        };
        let options = Options {
            model: file("model"),
            data: folder.path().to_owned(),
            anvil: file("anvil"),
            out: folder.path().join("out"),
            is_brief: true,
            adapters: folder.path().join("adapters"),
        };
        let error = inputs(&options).unwrap_err().to_string();
        assert!(error.contains("medical-a.jsonl") && error.contains("cargo xtask fetch text"), "{error}");
        DATA_FILES.iter().for_each(|name| drop(file(name)));
        inputs(&options).unwrap();
        let error = inputs(&Options { model: folder.path().join("none"), ..options.clone() }).unwrap_err().to_string();
        assert!(error.contains("cargo xtask fetch model"), "{error}");
        let error = inputs(&Options { adapters: file("in-the-way"), ..options }).unwrap_err().to_string();
        assert!(error.contains("--adapters"), "{error}");
    }
}
