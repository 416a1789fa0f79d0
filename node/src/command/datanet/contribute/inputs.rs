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

use crate::{
    command::datanet::left_out::{self, LeftOut, unknown},
    words,
};

/// Most files of one command: their names are held.
const FILES_MAX: usize = 1 << 17;
/// Deepest folder that is looked into.
const DEPTH_MAX: usize = 32;

/// One file.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Input {
    pub(super) path: PathBuf,
    /// Bytes.
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
    /// What the folders hold besides.
    pub(super) left_out: Vec<LeftOut>,
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
        let (mut files, mut left_out) = (Vec::new(), Vec::new());
        for path in paths {
            let about = std::fs::metadata(path).with_context(|| format!("{}: cannot be read", words::path(path)))?;
            if about.is_dir() {
                let before = files.len();
                folder(path, format, 0, &mut files, &mut left_out)?;
                if files.len() == before {
                    let told = left_out::told(&left_out).map_or_else(String::new, |lines| format!("; {lines}"));
                    bail!(
                        "{} is a directory without a file to contribute: those that end in {} are{told}",
                        words::path(path),
                        Format::ENDINGS
                    );
                }
            } else {
                // Whoever opens a pipe that nobody writes to waits for good, and a device has no end.
                ensure!(about.is_file(), "{}: not a regular file: write what it gives into one, and contribute that", words::path(path));
                let format = format.or_else(|| format_of(path));
                let format = format.with_context(|| format!("{}: {}; --format says how it is read", words::path(path), unknown(path)))?;
                files.push(input(path, format, &about));
            }
            ensure!(files.len() <= FILES_MAX, "more than {FILES_MAX} files: put small ones together as lines of a .jsonl file");
        }
        let is_named = columns.is_title_named || columns.is_id_named;
        let is_table = files.iter().any(|file| !file.format.is_whole());
        ensure!(is_table || !is_named, "--title-column and --id-column name columns of a table, and each of the files is one document");
        Ok(Self { files, columns, title, left_out, taken: Arc::default() })
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Reads file `number`.
    pub(super) fn open(&self, number: usize) -> anyhow::Result<Rows> {
        let Input { path, format, .. } = &self.files[number];
        let file = File::open(path).with_context(|| format!("{}: cannot be read", words::path(path)))?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let naming = Naming { file: words::path(path), title: self.title.clone().or(stem), columns: self.columns.clone() };
        Ok(formats::rows(Counted { file, taken: Arc::clone(&self.taken) }, *format, naming))
    }
}

fn input(path: &Path, format: Format, about: &std::fs::Metadata) -> Input {
    let written = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_nanos());
    Input { path: path.to_owned(), bytes: about.len(), written, format }
}

fn format_of(path: &Path) -> Option<Format> {
    path.extension().and_then(|extension| extension.to_str()).and_then(Format::of_extension)
}

/// Adds the files below a folder, and what is left out there: hidden names, links, what no ending tells. With a format all files are of it.
fn folder(path: &Path, format: Option<Format>, depth: usize, files: &mut Vec<Input>, left_out: &mut Vec<LeftOut>) -> anyhow::Result<()> {
    if depth > DEPTH_MAX {
        bail!("{}: folders are nested deeper than {DEPTH_MAX}", words::path(path));
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("{}: cannot be read", words::path(path)))?;
    let mut names = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    names.sort();
    for path in names {
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let about = std::fs::symlink_metadata(&path).with_context(|| format!("{}: cannot be read", words::path(&path)))?;
        ensure!(
            files.len().max(left_out.len()) <= FILES_MAX,
            "more than {FILES_MAX} files: put small ones together as lines of a .jsonl file"
        );
        if is_hidden {
            left_out.push(LeftOut::hidden(path));
        } else if about.is_dir() {
            folder(&path, format, depth + 1, files, left_out)?;
        } else if about.is_symlink() {
            left_out.push(LeftOut::new(path, "a link, and links in a folder are not followed: name what it leads to"));
        } else if !about.is_file() {
            left_out.push(LeftOut::new(path, "not a regular file"));
        } else if let Some(format) = format.or_else(|| format_of(&path)) {
            files.push(input(&path, format, &about));
        } else {
            let why = unknown(&path);
            left_out.push(LeftOut::new(path, why));
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

    #[test]
    fn what_a_folder_holds_besides_is_named_and_passed_over_on_a_word_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a.jsonl", "b.json", "c.csv.gz", "notes", ".git"] {
            std::fs::write(at(name), "{\"text\": \"x\"}").unwrap();
        }
        std::os::unix::fs::symlink(at("a.jsonl"), at("d.jsonl")).unwrap();
        let find = |paths: &[PathBuf], format| Inputs::find(paths, format, Columns::default(), None);
        let found = find(&[folder.path().to_owned()], None).unwrap();
        let left_out: Vec<_> = found.left_out.iter().map(|one| one.path.rsplit('/').next().unwrap()).collect();
        assert_eq!((found.files.len(), &left_out[..]), (1, &[".git", "b.json", "c.csv.gz", "d.jsonl", "notes"][..]));
        let error = left_out::agreed(&found.left_out, false).unwrap_err().to_string();
        for words in ["b.json: no format is known", "c.csv.gz: it is packed", "d.jsonl: a link", "notes: it has no ending"] {
            assert!(error.contains(words), "{words}: {error}");
        }
        assert!(!error.contains(".git") && left_out::agreed(&found.left_out, true).is_ok());
        std::fs::remove_file(at("a.jsonl")).unwrap();
        let error = find(&[folder.path().to_owned()], None).unwrap_err().to_string();
        assert!(error.contains("without a file to contribute") && error.contains("b.json: no format is known"), "{error}");
        // With a format, all of them are of it.
        assert_eq!(find(&[folder.path().to_owned()], Some(Format::Jsonl)).unwrap().files.len(), 3);
    }

    #[test]
    fn what_is_no_file_or_of_no_known_kind_is_refused_before_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["x.html", "x.csv.gz", "x"] {
            std::fs::write(at(name), "{\"text\": \"x\"}").unwrap();
        }
        let _socket = std::os::unix::net::UnixListener::bind(at("socket.jsonl")).unwrap();
        for (path, words) in [
            (at("x.html"), "the ending .html: .jsonl, .ndjson"),
            (at("x.csv.gz"), "unpack it first"),
            (at("x"), "it has no ending"),
            (at("socket.jsonl"), "not a regular file"),
            ("/dev/zero".into(), "not a regular file"),
        ] {
            let find = |format| Inputs::find(std::slice::from_ref(&path), format, Columns::default(), None);
            let error = find(None).unwrap_err().to_string();
            let is_file = path.is_file();
            assert!(error.contains(words) && error.contains("--format") == is_file, "{error}");
            assert_eq!(find(Some(Format::Jsonl)).is_ok(), is_file, "a format says how a file is read, not what a file is");
        }
        std::fs::write(at("a.md"), "x").unwrap();
        let columns = Columns { is_id_named: true, ..Columns::default() };
        let error = Inputs::find(&[at("a.md")], None, columns, None).unwrap_err().to_string();
        assert!(error.contains("--id-column name columns of a table"), "{error}");
    }
}
