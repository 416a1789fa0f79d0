//! A Datanet as files: `tributary.json` beside them says which contribution each is, so that an import gives the same text roots and card.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read as _, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use storage::{
    datanet::{
        Card, Document, Licence,
        croissant::{self, Described, DescribedFile},
        huggingface,
    },
    formats::{Columns, Format, write::Writer},
};
use types::id::{Address, Hash32};

use crate::data::{read_bounded, read_text, write_atomic};

/// What describes an export exactly.
pub(super) const MANIFEST: &str = "tributary.json";
const CROISSANT: &str = "croissant.json";
const README: &str = "README.md";
/// Largest `tributary.json`: some 400 bytes a contribution.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;
/// Most files that an import looks through, and how deep.
const LISTED_MAX: usize = 1 << 16;
const DEPTH_MAX: usize = 16;

/// How a Datanet is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Layout {
    /// A file of JSON lines for each contribution.
    Jsonl,
    /// A CSV file for each contribution.
    Csv,
    /// A Parquet file (zstd) for each contribution.
    Parquet,
    /// A Hugging Face dataset repository: README.md with its card, data/*.parquet.
    Huggingface,
    /// Croissant 1.1 (croissant.json) over data/*.parquet.
    Croissant,
}

impl Layout {
    const fn format(self) -> Format {
        match self {
            Self::Jsonl => Format::Jsonl,
            Self::Csv => Format::Csv,
            Self::Parquet | Self::Huggingface | Self::Croissant => Format::Parquet,
        }
    }

    fn path(self, number: u64) -> String {
        match self {
            Self::Jsonl => format!("contribution-{number:05}.jsonl"),
            Self::Csv => format!("contribution-{number:05}.csv"),
            Self::Parquet => format!("contribution-{number:05}.parquet"),
            Self::Huggingface | Self::Croissant => format!("data/contribution-{number:05}.parquet"),
        }
    }
}

/// One file of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ExportedFile {
    /// Beside the manifest.
    pub(super) path: String,
    /// Number of the contribution.
    pub(super) contribution: u64,
    /// Who brought it.
    pub(super) contributor: Address,
    /// What identifies its text.
    pub(super) text_root: Hash32,
    /// Rows.
    pub(super) documents: u64,
    /// Of the file.
    pub(super) bytes: u64,
    /// Of the file, in hex.
    pub(super) sha256: String,
}

/// `tributary.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// 1.
    pub(super) version: u32,
    /// Number of the Datanet at its registry.
    pub(super) datanet: u64,
    /// Its card.
    pub(super) card: Card,
    /// Its contributions, in priority order.
    pub(super) files: Vec<ExportedFile>,
}

/// An export under way.
#[derive(Debug)]
pub(super) struct Export {
    out: PathBuf,
    layout: Layout,
    manifest: Manifest,
}

/// What a croissant says besides.
#[derive(Debug)]
pub(super) struct About {
    /// Such as 2.0.0.
    pub(super) version: String,
    /// YYYY-MM-DD.
    pub(super) published: String,
    /// Where the Datanet is registered.
    pub(super) url: String,
}

struct Hashed<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Export {
    /// Begins in a folder that is empty or not there.
    pub(super) fn begin(out: &Path, layout: Layout, datanet: u64, card: Card) -> anyhow::Result<Self> {
        fs::create_dir_all(out).with_context(|| format!("{}", out.display()))?;
        let is_empty = fs::read_dir(out).with_context(|| format!("{}", out.display()))?.next().is_none();
        ensure!(is_empty, "{} holds something already: name a new folder with --out", out.display());
        Ok(Self { out: out.to_owned(), layout, manifest: Manifest { version: 1, datanet, card, files: Vec::new() } })
    }

    /// Writes a contribution.
    pub(super) fn add(&mut self, contribution: u64, contributor: Address, text_root: Hash32, documents: &[Document]) -> anyhow::Result<()> {
        let path = self.layout.path(contribution);
        let place = self.out.join(&path);
        let said = || format!("{}", place.display());
        fs::create_dir_all(place.parent().context("a file lies in a folder")?).with_context(said)?;
        let file = BufWriter::new(File::create_new(&place).with_context(said)?);
        let mut writer = Writer::new(Hashed { inner: file, hash: Sha256::new(), bytes: 0 }, self.layout.format())?;
        documents.iter().try_for_each(|document| writer.push(document)).with_context(said)?;
        let Hashed { inner, hash, bytes } = writer.finish().with_context(said)?;
        inner.into_inner().map_err(io::IntoInnerError::into_error).with_context(said)?.sync_all().with_context(said)?;
        let (documents, sha256) = (documents.len() as u64, hex::encode(hash.finalize()));
        self.manifest.files.push(ExportedFile { path, contribution, contributor, text_root, documents, bytes, sha256 });
        Ok(())
    }

    /// Writes what describes the files, the manifest last.
    pub(super) fn end(self, about: &About) -> anyhow::Result<Manifest> {
        let Self { out, layout, manifest } = self;
        let write = |name: &str, text: String| {
            let path = out.join(name);
            write_atomic(&path, text.as_bytes(), 0o644).with_context(|| format!("{}", path.display()))
        };
        match layout {
            Layout::Huggingface => {
                let documents = manifest.files.iter().map(|file| file.documents).sum();
                write(README, huggingface::readme(&manifest.card, documents))?;
            }
            Layout::Croissant => {
                let described = |file: &ExportedFile| DescribedFile {
                    path: file.path.clone(),
                    bytes: Some(file.bytes),
                    sha256: Some(file.sha256.clone()),
                };
                let files: Vec<_> = manifest.files.iter().map(described).collect();
                write(CROISSANT, croissant::write(&manifest.card, &about.version, &about.published, &about.url, &files))?;
            }
            Layout::Jsonl | Layout::Csv | Layout::Parquet => {}
        }
        write(MANIFEST, serde_json::to_string_pretty(&manifest)? + "\n")?;
        Ok(manifest)
    }
}

/// A file to be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) text_root: Option<Hash32>,
}

/// A folder that describes a dataset.
#[derive(Debug)]
pub(super) struct Imported {
    pub(super) card: Card,
    pub(super) columns: Columns,
    pub(super) files: Vec<Found>,
    /// What described it.
    pub(super) by: &'static str,
}

/// A card under another name or licence; its policy stays.
fn under(card: Card, name: Option<&str>, licence: Option<Licence>) -> anyhow::Result<Card> {
    let name = name.map_or_else(|| Ok(card.name().clone()), str::parse)?;
    let licence = licence.unwrap_or_else(|| card.licence().clone());
    let renamed = Card::new(name, card.description().to_owned(), licence, card.languages().to_vec(), card.tags().to_vec())?;
    Ok(renamed.with_policy(card.policy().clone())?.with_privacy(card.is_private()))
}

/// Reads what describes the folder: an export of ours, else Croissant, else a Hugging Face repository. Files are there, and are what is stated of them.
pub(super) fn import(folder: &Path, name: Option<&str>, licence: Option<Licence>) -> anyhow::Result<Imported> {
    let has = |name: &str| folder.join(name).is_file();
    if has(MANIFEST) {
        let path = folder.join(MANIFEST);
        let manifest: Manifest = serde_json::from_slice(
            &read_bounded(&path, MANIFEST_BYTES_MAX).with_context(|| format!("{}", path.display()))?,
        )
        .with_context(|| format!("{}: not an export's manifest; remove it to read the folder as what else it is", path.display()))?;
        ensure!(manifest.version == 1, "{}: version {}, this program reads 1", path.display(), manifest.version);
        let mut files = Vec::new();
        for file in &manifest.files {
            let place = place(folder, &file.path)?;
            is_stated(&place, Some(&file.sha256))?;
            files.push(Found { path: place, text_root: Some(file.text_root) });
        }
        return Ok(Imported { card: under(manifest.card, name, licence)?, columns: Columns::default(), files, by: MANIFEST });
    }
    let (described, by) = if has(CROISSANT) {
        let path = folder.join(CROISSANT);
        let bytes = read_bounded(&path, croissant::CROISSANT_BYTES_MAX).with_context(|| format!("{}", path.display()))?;
        (croissant::read(&bytes).with_context(|| format!("{}", path.display()))?, CROISSANT)
    } else if has(README) {
        let path = folder.join(README);
        let stem = folder.canonicalize().ok().and_then(|folder| Some(folder.file_name()?.to_string_lossy().into_owned()));
        let text = read_text(&path, huggingface::README_BYTES_MAX).with_context(|| format!("{}", path.display()))?;
        (huggingface::read(&text, &stem.unwrap_or_default()).with_context(|| format!("{}", path.display()))?, README)
    } else {
        bail!(
            "{} holds neither {MANIFEST}, {CROISSANT} nor {README}: tributary datanet contribute takes files without a description",
            folder.display()
        )
    };
    let card = described.card(name, licence)?;
    let files = files_of(folder, &described)?;
    ensure!(!files.is_empty(), "{}: none of the files that {by} describes is here", folder.display());
    Ok(Imported { card, columns: described.columns, files, by })
}

fn files_of(folder: &Path, described: &Described) -> anyhow::Result<Vec<Found>> {
    let mut files = Vec::new();
    let (plain, patterns): (Vec<_>, Vec<_>) = described.files.iter().partition(|file| !file.path.contains('*'));
    for file in plain {
        let path = place(folder, &file.path)?;
        is_stated(&path, file.sha256.as_deref())?;
        files.push(Found { path, text_root: None });
    }
    if !patterns.is_empty() || described.files.is_empty() {
        let mut here = Vec::new();
        list(folder, "", 0, &mut here)?;
        // Without a word about files, those are meant that hold tables.
        let is_table =
            |path: &str| path.rsplit_once('.').and_then(|(_, end)| Format::of_extension(end)).is_some_and(|format| !format.is_whole());
        let is_meant = |path: &&String| {
            let is_named = patterns.iter().any(|pattern| huggingface::is_match(&pattern.path, path));
            is_named || (described.files.is_empty() && is_table(path))
        };
        files.extend(here.iter().filter(is_meant).map(|path| Found { path: folder.join(path), text_root: None }));
    }
    Ok(files)
}

/// A path of a description within its folder; what leads out of it, also by a link, is refused.
fn place(folder: &Path, path: &str) -> anyhow::Result<PathBuf> {
    let place = folder.join(path);
    let real = |path: &Path| path.canonicalize().with_context(|| format!("{}: cannot be read", path.display()));
    ensure!(
        real(&place)?.starts_with(real(folder)?),
        "{path:?} leads out of {}: files beside the description are read only",
        folder.display()
    );
    Ok(place)
}

fn is_stated(path: &Path, sha256: Option<&str>) -> anyhow::Result<()> {
    let Some(stated) = sha256 else { return Ok(()) };
    let mut file = File::open(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).with_context(|| format!("{}", path.display()))? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    let got = hex::encode(hash.finalize());
    ensure!(got == stated, "{}: its SHA-256 is {got}, {stated} is stated: download or export it anew", path.display());
    Ok(())
}

fn list(folder: &Path, below: &str, depth: usize, files: &mut Vec<String>) -> anyhow::Result<()> {
    let here = folder.join(below);
    let mut names = Vec::new();
    for entry in fs::read_dir(&here).with_context(|| format!("{}: cannot be read", here.display()))? {
        let entry = entry?;
        names.push((entry.file_name().to_string_lossy().into_owned(), entry.file_type()?));
    }
    names.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, kind) in names.into_iter().filter(|(name, _)| !name.starts_with('.')) {
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if kind.is_file() && files.len() < LISTED_MAX {
            files.push(path);
        } else if kind.is_dir() && depth < DEPTH_MAX {
            list(folder, &path, depth + 1, files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use storage::{datanet::shard, formats};

    use super::*;

    fn contributions() -> Vec<Vec<Document>> {
        let document = |id: Option<&str>, title: Option<&str>, text: &str| {
            Document::new(id.map(str::to_owned), title.map(str::to_owned), text.as_bytes()).unwrap()
        };
        vec![
            vec![document(Some("1"), Some("Ebb, \"and\" flow"), "One\n\ntwo, three."), document(None, None, "caf\u{e9}")],
            vec![document(None, Some("Flow"), " It rises.")],
        ]
    }

    fn card() -> Card {
        let policy = r#"{"name":"tides","description":"Of the sea.","licence":"MIT OR Apache-2.0","languages":["en"],"tags":["sea"],"policy":{"near_copies":"block"}}"#;
        serde_json::from_str(policy).unwrap()
    }

    fn exported(folder: &Path, layout: Layout) -> Manifest {
        let mut export = Export::begin(folder, layout, 7, card()).unwrap();
        for (number, documents) in (0..).zip(contributions()) {
            export.add(number, Address([1; 20]), shard::text_root(&documents), &documents).unwrap();
        }
        let about = About { version: "2.0.0".into(), published: "2026-11-21".into(), url: "https://example.org/7".into() };
        export.end(&about).unwrap()
    }

    fn roots(imported: &Imported) -> Vec<Hash32> {
        let root = |found: &Found| {
            let format = Format::of_extension(found.path.extension().unwrap().to_str().unwrap()).unwrap();
            let naming = formats::Naming { columns: imported.columns.clone(), ..formats::Naming::default() };
            let rows: Vec<_> = formats::rows(File::open(&found.path).unwrap(), format, naming).map(|row| row.unwrap().document).collect();
            shard::text_root(&rows)
        };
        imported.files.iter().map(root).collect()
    }

    #[test]
    fn what_is_exported_is_imported_with_the_same_text_roots_and_card() {
        let expected: Vec<_> = contributions().iter().map(|documents| shard::text_root(documents)).collect();
        for layout in [Layout::Jsonl, Layout::Csv, Layout::Parquet, Layout::Huggingface, Layout::Croissant] {
            let folder = tempfile::tempdir().unwrap();
            exported(folder.path(), layout);
            let imported = import(folder.path(), None, None).unwrap();
            assert_eq!((imported.card.clone(), imported.by, roots(&imported)), (card(), MANIFEST, expected.clone()), "{layout:?}");
            assert_eq!(imported.files.iter().map(|found| found.text_root.unwrap()).collect::<Vec<_>>(), expected);
            // Another name changes nothing else, the policy least of all.
            let renamed = import(folder.path(), Some("again"), None).unwrap();
            assert_eq!((renamed.card.name().as_str(), renamed.card.policy(), renamed.by), ("again", card().policy(), MANIFEST));
            // As others would have it: without our manifest the rows and all of the card but its policy are there.
            fs::remove_file(folder.path().join(MANIFEST)).unwrap();
            let Ok(imported) = import(folder.path(), None, None) else {
                assert!([Layout::Jsonl, Layout::Csv, Layout::Parquet].contains(&layout));
                continue;
            };
            assert_eq!(
                (imported.card.clone().with_policy(card().policy().clone()).unwrap(), roots(&imported)),
                (card(), expected.clone()),
                "{layout:?}"
            );
        }
    }

    #[test]
    fn a_changed_file_a_missing_one_and_one_elsewhere_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        exported(folder.path(), Layout::Croissant);
        assert!(Export::begin(folder.path(), Layout::Csv, 7, card()).unwrap_err().to_string().contains("holds something already"));
        let file = folder.path().join("data/contribution-00000.parquet");
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, [&bytes[..], b"x"].concat()).unwrap();
        assert!(import(folder.path(), None, None).unwrap_err().to_string().contains("SHA-256"));
        fs::remove_file(folder.path().join(MANIFEST)).unwrap();
        assert!(import(folder.path(), None, None).unwrap_err().to_string().contains("SHA-256"), "the croissant states it too");
        fs::remove_file(&file).unwrap();
        assert!(import(folder.path(), None, None).unwrap_err().to_string().contains("cannot be read"));
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("secret.parquet"), &bytes).unwrap();
        std::os::unix::fs::symlink(outer.path().join("secret.parquet"), &file).unwrap();
        assert!(import(folder.path(), None, None).unwrap_err().to_string().contains("leads out of"));
        let bare = tempfile::tempdir().unwrap();
        assert!(import(bare.path(), None, None).unwrap_err().to_string().contains("datanet contribute takes files"));
    }
}
