//! What is contributed: files, folders of files, and how each of them is read.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::UNIX_EPOCH,
};

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use storage::formats::{self, Columns, Format, Naming, Rows};

/// Most files of one command: their names are held.
const FILES_MAX: usize = 1 << 17;
/// Deepest folder that is looked into.
const DEPTH_MAX: usize = 32;

/// One file.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Input {
    pub(super) path: PathBuf,
    /// Bytes; 0 of a pipe.
    pub(super) bytes: u64,
    /// Nanoseconds since 1970 at which it was last written: another time is another file.
    written: u128,
    #[serde(skip)]
    format: Format,
}

/// All of them, and how they are read.
#[derive(Debug, Clone)]
pub(super) struct Inputs {
    pub(super) files: Vec<Input>,
    pub(super) columns: Columns,
    pub(super) title: Option<String>,
    /// Bytes taken from files so far.
    pub(super) taken: Arc<AtomicU64>,
}

/// A file whose bytes are counted as they are taken.
struct Counted {
    file: File,
    taken: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.taken.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl Seek for Counted {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Inputs {
    /// The files that `paths` name; of a folder all that have a known ending, in the order of their names.
    pub(super) fn find(paths: &[PathBuf], format: Option<Format>, columns: Columns, title: Option<String>) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        for path in paths {
            let about = std::fs::metadata(path).with_context(|| format!("{}: cannot be read", path.display()))?;
            if about.is_dir() {
                let before = files.len();
                folder(path, format, 0, &mut files)?;
                ensure!(
                    files.len() > before,
                    "{} is a directory without a file to contribute: those that end in .jsonl, .csv, .tsv, .parquet, .md or .txt are",
                    path.display()
                );
            } else {
                let format = format.or_else(|| format_of(path)).unwrap_or(Format::Jsonl);
                files.push(input(path, format, &about));
            }
            ensure!(files.len() <= FILES_MAX, "more than {FILES_MAX} files: put small ones together as lines of a .jsonl file");
        }
        Ok(Self { files, columns, title, taken: Arc::default() })
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Reads file `number`.
    pub(super) fn open(&self, number: usize) -> anyhow::Result<Rows> {
        let Input { path, format, .. } = &self.files[number];
        let file = File::open(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let naming = Naming { file: path.display().to_string(), title: self.title.clone().or(stem), columns: self.columns.clone() };
        Ok(formats::rows(Counted { file, taken: Arc::clone(&self.taken) }, *format, naming))
    }
}

fn input(path: &Path, format: Format, about: &std::fs::Metadata) -> Input {
    let written = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_nanos());
    Input { path: path.to_owned(), bytes: if about.is_file() { about.len() } else { 0 }, written, format }
}

fn format_of(path: &Path) -> Option<Format> {
    path.extension().and_then(|extension| extension.to_str()).and_then(Format::of_extension)
}

/// Adds the files below a folder. Names that begin with a dot are passed over, links are not followed.
fn folder(path: &Path, format: Option<Format>, depth: usize, files: &mut Vec<Input>) -> anyhow::Result<()> {
    if depth > DEPTH_MAX {
        bail!("{}: folders are nested deeper than {DEPTH_MAX}", path.display());
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let mut names = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    names.sort();
    for path in names {
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let about = std::fs::symlink_metadata(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
        if is_hidden || files.len() > FILES_MAX {
            continue;
        }
        if about.is_dir() {
            folder(&path, format, depth + 1, files)?;
        } else if about.is_file()
            && let Some(known) = format_of(&path)
        {
            files.push(input(&path, format.unwrap_or(known), &about));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_known_files_in_order_and_a_bare_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("sub/.git")).unwrap();
        for name in ["b.txt", "a.jsonl", "picture.png", "sub/c.md", "sub/.git/d.txt", ".hidden.txt"] {
            std::fs::write(at(name), "{\"text\": \"x\"}").unwrap();
        }
        let find = |path: PathBuf| Inputs::find(&[path], None, Columns::default(), None);
        let found = find(folder.path().to_owned()).unwrap();
        let names: Vec<_> = found.files.iter().map(|file| file.path.strip_prefix(folder.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.jsonl", "b.txt", "sub/c.md"]);
        assert_eq!((found.bytes(), found.open(1).unwrap().next().unwrap().unwrap().document.title()), (39, Some("b")));
        std::fs::create_dir(at("empty")).unwrap();
        assert!(find(at("empty")).unwrap_err().to_string().contains("directory without a file"));
        assert!(find(at("nowhere")).is_err());
    }
}
