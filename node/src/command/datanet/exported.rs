//! A Datanet as files: `tributary.json` beside them says which contribution each is, so that an import gives the same text roots and card.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufWriter, Read as _, Write},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
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

use super::{
    left_out::{LeftOut, told, unknown},
    within::{Listing, Within},
};
use crate::{
    data::{read_bounded, read_text, write_atomic},
    words,
};

/// What describes an export exactly.
pub(super) const MANIFEST: &str = "tributary.json";
const CROISSANT: &str = "croissant.json";
const README: &str = "README.md";
/// Why a text beside tables is left out.
const WHOLE: &str = "a document of its own beside the tables: tributary datanet contribute takes it";
/// Largest `tributary.json`: some 400 bytes a contribution.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;

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

/// Mode of a file with text of a Datanet: what members alone may read is for nobody else on this machine either.
pub(super) const fn file_mode(is_private: bool) -> u32 {
    if is_private { 0o600 } else { 0o644 }
}

/// Makes a folder, and those above it, for such files. One that is there keeps its mode.
pub(super) fn create_folder(path: &Path, is_private: bool) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(if is_private { 0o700 } else { 0o755 }).create(path)
}

impl Export {
    /// Begins in a folder that is empty or not there.
    pub(super) fn begin(out: &Path, layout: Layout, datanet: u64, card: Card) -> anyhow::Result<Self> {
        create_folder(out, card.is_private()).with_context(|| format!("{}", out.display()))?;
        let is_empty = fs::read_dir(out).with_context(|| format!("{}", out.display()))?.next().is_none();
        ensure!(is_empty, "{} holds something already: name a new folder with --out", out.display());
        Ok(Self { out: out.to_owned(), layout, manifest: Manifest { version: 1, datanet, card, files: Vec::new() } })
    }

    /// Writes a contribution.
    pub(super) fn add(&mut self, contribution: u64, contributor: Address, text_root: Hash32, documents: &[Document]) -> anyhow::Result<()> {
        let path = self.layout.path(contribution);
        let place = self.out.join(&path);
        let said = || words::path(&place).to_string();
        let is_private = self.manifest.card.is_private();
        create_folder(place.parent().context("a file lies in a folder")?, is_private).with_context(said)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(file_mode(is_private)).open(&place).with_context(said)?;
        let file = BufWriter::new(file);
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
            write_atomic(&path, text.as_bytes(), file_mode(manifest.card.is_private())).with_context(|| words::path(&path).to_string())
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
    /// Stated of it.
    pub(super) text_root: Option<Hash32>,
    /// Stated of it.
    pub(super) documents: Option<u64>,
}

/// A folder that describes a dataset.
#[derive(Debug)]
pub(super) struct Imported {
    pub(super) card: Card,
    pub(super) columns: Columns,
    pub(super) files: Vec<Found>,
    /// What described it.
    pub(super) by: &'static str,
    /// What the description means, or the folder holds, and is not among the files.
    pub(super) left_out: Vec<LeftOut>,
}

impl Imported {
    /// Whether the card's policy was stated: others than our manifest know none.
    pub(super) fn is_policy_stated(&self) -> bool {
        self.by == MANIFEST
    }
}

/// A card under another name or licence; its policy stays.
fn under(card: Card, name: Option<&str>, licence: Option<Licence>) -> anyhow::Result<Card> {
    let name = name.map_or_else(|| Ok(card.name().clone()), str::parse)?;
    let licence = licence.unwrap_or_else(|| card.licence().clone());
    let renamed = Card::new(name, card.description().to_owned(), licence, card.languages().to_vec(), card.tags().to_vec())?;
    Ok(renamed.with_policy(card.policy().clone())?.with_privacy(card.is_private()))
}

/// What the user says of a folder, before what it says itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    pub(super) name: Option<String>,
    pub(super) licence: Option<Licence>,
    /// That everybody may read it, where the folder does not state that.
    pub(super) is_public: bool,
}

/// What one description states of who may read the folder: its name, and whether members alone may.
type Stated = (&'static str, bool);

/// Who may read the rows: whether members alone.
///
/// Rows of a private Datanet that enter an open one are read by everybody and cannot be called back, so what lies in several places is believed only if all of them agree, and the user's word fills in what
/// is missing but overrides nothing. Our exports state it of open Datanets as of private ones (`private`, `conditionsOfAccess`; the card of `tributary.json`, whose form is the registry's, is whole without the
/// word and open then). So a folder in the layout of our exports without a statement has lost it, or is of a version that stated it of private ones alone, and waits for a word. Repositories of others, which never
/// state it, are open as they always were.
fn is_private(stated: &[Stated], is_ours: bool, is_public: bool, folder: &Path) -> anyhow::Result<bool> {
    let folder = || words::path(folder);
    let by = |is: bool| stated.iter().filter(|(_, stated)| *stated == is).map(|(by, _)| *by).collect::<Vec<_>>().join(" and ");
    match (by(true), by(false)) {
        (private, open) if !private.is_empty() && !open.is_empty() => {
            bail!(
                "{}: {private} says that members alone may read it, {open} that everybody may: mend the one that is wrong, or export it anew",
                folder()
            )
        }
        (private, _) if !private.is_empty() => {
            ensure!(
                !is_public,
                "{}: {private} says that members alone may read it, and --public is for what states nothing: leave --public out",
                folder()
            );
            Ok(true)
        }
        (_, open) if open.is_empty() && is_ours && !is_public => bail!(
            "{}: it is laid out as an export of a Datanet, and what says who may read it is gone: write private: true (members alone) or private: false (everybody) at the left margin of README.md's front matter, or say --public if everybody may read it",
            folder()
        ),
        _ => Ok(false),
    }
}

/// Whether a file of rows has the name that an export gives it.
fn is_exported(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let number = name.strip_prefix("contribution-").and_then(|rest| rest.split_once('.')).map_or("", |(number, _)| number);
    number.len() >= 5 && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// What stands beside the rows in many folders and holds none, at the top of the folder: nobody is asked about it.
const ATTENDANTS: [&str; 16] = [
    README,
    CROISSANT,
    MANIFEST,
    "LICENSE",
    "LICENSE.md",
    "LICENSE.txt",
    "LICENCE",
    "LICENCE.md",
    "LICENCE.txt",
    "COPYING",
    "NOTICE",
    "CITATION.cff",
    "CITATION.bib",
    "dataset_infos.json",
    ".gitattributes",
    ".gitignore",
];

/// Names what the folder holds and is neither taken, nor told already, nor an attendant.
fn passed_over(folder: &Path, listing: Listing, files: &[Found], left_out: &mut Vec<LeftOut>, by: &str) {
    let taken: BTreeSet<&Path> = files.iter().map(|found| found.path.as_path()).collect();
    // They are named below the folder or with it.
    let known: BTreeSet<PathBuf> = left_out.iter().flat_map(|one| [PathBuf::from(&one.path), folder.join(&one.path)]).collect();
    let is_new = |path: &str| {
        let place = folder.join(path);
        !(ATTENDANTS.contains(&path) || known.contains(&place) || taken.contains(place.as_path()))
    };
    let Listing { files: here, left_out: others } = listing;
    left_out.extend(others.into_iter().filter(|one| is_new(&one.path)));
    let unnamed = here.iter().filter(|path| is_new(path));
    left_out.extend(unnamed.map(|path| LeftOut::new(folder.join(path), format!("{by} does not name it: add it there, or move it away"))));
}

/// Reads what describes the folder: an export of ours, else Croissant, else a Hugging Face repository. Files are there, and are what is stated of them.
pub(super) fn import(folder: &Path, said: Said) -> anyhow::Result<Imported> {
    let Said { name, licence, is_public } = said;
    let name = name.as_deref();
    let within = Within::new(folder)?;
    let has = |name: &str| folder.join(name).is_file();
    if has(MANIFEST) {
        let path = within.file(MANIFEST)?;
        let manifest: Manifest =
            serde_json::from_slice(&read_bounded(&path, MANIFEST_BYTES_MAX).with_context(|| words::path(&path).to_string())?)
                .with_context(|| {
                    format!("{}: not an export's manifest; remove it to read the folder as what else it is", words::path(&path))
                })?;
        ensure!(manifest.version == 1, "{}: version {}, this program reads 1", words::path(&path), manifest.version);
        let mut files = Vec::new();
        for file in &manifest.files {
            let place = within.file(&file.path)?;
            is_stated(&place, Some(file.bytes), Some(&file.sha256))?;
            files.push(Found { path: place, text_root: Some(file.text_root), documents: Some(file.documents) });
        }
        let mut stated = vec![(MANIFEST, manifest.card.is_private())];
        stated.extend(croissant_states(&within)?);
        stated.extend(readme_states(&within)?);
        is_private(&stated, true, is_public, folder)?;
        let (card, columns, mut left_out) = (under(manifest.card, name, licence)?, Columns::default(), Vec::new());
        passed_over(folder, within.list()?, &files, &mut left_out, MANIFEST);
        return Ok(Imported { card, columns, files, by: MANIFEST, left_out });
    }
    let (described, by) = if has(CROISSANT) {
        let path = within.file(CROISSANT)?;
        let bytes = read_bounded(&path, croissant::CROISSANT_BYTES_MAX).with_context(|| words::path(&path).to_string())?;
        (croissant::read(&bytes).with_context(|| words::path(&path).to_string())?, CROISSANT)
    } else if has(README) {
        let path = within.file(README)?;
        let text = read_text(&path, huggingface::README_BYTES_MAX).with_context(|| words::path(&path).to_string())?;
        (huggingface::read(&text, &within.name()).with_context(|| words::path(&path).to_string())?, README)
    } else {
        bail!(
            "{} holds neither {MANIFEST}, {CROISSANT} nor {README}: tributary datanet contribute takes files without a description",
            words::path(folder)
        )
    };
    let mut stated: Vec<Stated> = described.is_private.map(|is| (by, is)).into_iter().collect();
    if by != README {
        stated.extend(readme_states(&within)?);
    }
    let listing = within.list()?;
    let is_ours = listing.files.iter().chain(described.files.iter().map(|file| &file.path)).any(|path| is_exported(path));
    let is_private = is_private(&stated, is_ours, is_public, folder)?;
    let card = described.card(name, licence)?.with_privacy(is_private);
    let (files, mut left_out) = files_of(folder, &within, &listing, &described)?;
    passed_over(folder, listing, &files, &mut left_out, by);
    if files.is_empty() {
        let why = told(&left_out).map_or_else(String::new, |lines| format!("; {lines}"));
        bail!("{}: none of the files that {by} describes is here and can be read{why}", words::path(folder));
    }
    left_out.extend(described.others.iter().map(|other| LeftOut::new(by, format!("{other} is not read, the first one is"))));
    Ok(Imported { card, columns: described.columns, files, by, left_out })
}

/// What a croissant beside the manifest states of who may read it.
fn croissant_states(within: &Within) -> anyhow::Result<Option<Stated>> {
    let Some(path) = within.beside(CROISSANT)? else { return Ok(None) };
    let bytes = read_bounded(&path, croissant::CROISSANT_BYTES_MAX).with_context(|| words::path(&path))?;
    Ok(croissant::read(&bytes).with_context(|| words::path(&path))?.is_private.map(|is| (CROISSANT, is)))
}

/// What a README beside another description states of who may read it.
fn readme_states(within: &Within) -> anyhow::Result<Option<Stated>> {
    let Some(path) = within.beside(README)? else { return Ok(None) };
    let text = read_text(&path, huggingface::README_BYTES_MAX).with_context(|| words::path(&path))?;
    Ok(huggingface::privacy(&text).with_context(|| words::path(&path))?.map(|is| (README, is)))
}

fn files_of(folder: &Path, within: &Within, listing: &Listing, described: &Described) -> anyhow::Result<(Vec<Found>, Vec<LeftOut>)> {
    let (mut taken, mut left_out) = (Vec::new(), Vec::new());
    let (plain, patterns): (Vec<_>, Vec<_>) = described.files.iter().partition(|file| !file.path.contains('*'));
    for file in plain {
        let path = within.file(&file.path)?;
        is_stated(&path, file.bytes, file.sha256.as_deref())?;
        taken.push(path);
    }
    if described.files.is_empty() {
        // Without a word about files those are meant that hold tables; whatever else lies there may hold rows too, for all that is known.
        for path in listing.files.iter().filter(|path| !ATTENDANTS.contains(&path.as_str())) {
            match format_of(Path::new(path)) {
                Some(format) if format.is_whole() => left_out.push(LeftOut::new(folder.join(path), WHOLE)),
                _ => taken.push(folder.join(path)),
            }
        }
    } else if !patterns.is_empty() {
        let is_meant = |path: &str| patterns.iter().any(|pattern| huggingface::is_match(&pattern.path, path));
        taken.extend(listing.files.iter().filter(|path| is_meant(path)).map(|path| folder.join(path)));
        let is_empty = |pattern: &&&DescribedFile| !listing.files.iter().any(|path| huggingface::is_match(&pattern.path, path));
        let empty = patterns.iter().filter(is_empty);
        left_out.extend(empty.map(|pattern| LeftOut::new(&pattern.path, "no file here is called so: download what it names")));
    }
    // What is named twice is meant once.
    let mut known = BTreeSet::new();
    taken.retain(|path| known.insert(path.clone()));
    let (files, others): (Vec<_>, Vec<_>) = taken.into_iter().partition(|path| format_of(path).is_some());
    left_out.extend(others.into_iter().map(|path| LeftOut::new(&path, unknown(&path))));
    let found = |path| Found { path, text_root: None, documents: None };
    Ok((files.into_iter().map(found).collect(), left_out))
}

fn format_of(path: &Path) -> Option<Format> {
    path.extension().and_then(|ending| ending.to_str()).and_then(Format::of_extension)
}

/// Whether a file is what is stated of it. Its length is looked at first: it costs nothing.
fn is_stated(path: &Path, bytes: Option<u64>, sha256: Option<&str>) -> anyhow::Result<()> {
    let said = || format!("{}: cannot be read", words::path(path));
    if let Some(stated) = bytes {
        let got = fs::metadata(path).with_context(said)?.len();
        ensure!(got == stated, "{}: it has {got} bytes, {stated} are stated: download or export it anew", words::path(path));
    }
    let Some(stated) = sha256 else { return Ok(()) };
    let mut file = File::open(path).with_context(said)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).with_context(|| words::path(path).to_string())? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    let got = hex::encode(hash.finalize());
    ensure!(got == stated, "{}: its SHA-256 is {got}, {stated} is stated: download or export it anew", words::path(path));
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
            let imported = import(folder.path(), Said::default()).unwrap();
            assert_eq!((imported.card.clone(), imported.by, roots(&imported)), (card(), MANIFEST, expected.clone()), "{layout:?}");
            assert_eq!(imported.files.iter().map(|found| found.text_root.unwrap()).collect::<Vec<_>>(), expected);
            // Another name changes nothing else, the policy least of all.
            let renamed = import(folder.path(), Said { name: Some("again".into()), ..Said::default() }).unwrap();
            assert_eq!((renamed.card.name().as_str(), renamed.card.policy(), renamed.by), ("again", card().policy(), MANIFEST));
            // As others would have it: without our manifest the rows and all of the card but its policy are there.
            fs::remove_file(folder.path().join(MANIFEST)).unwrap();
            let Ok(imported) = import(folder.path(), Said::default()) else {
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
        fs::write(&file, [&b"x"[..], &bytes[1..]].concat()).unwrap();
        assert!(import(folder.path(), Said::default()).unwrap_err().to_string().contains("SHA-256"));
        fs::remove_file(folder.path().join(MANIFEST)).unwrap();
        assert!(import(folder.path(), Said::default()).unwrap_err().to_string().contains("SHA-256"), "the croissant states it too");
        fs::remove_file(&file).unwrap();
        assert!(import(folder.path(), Said::default()).unwrap_err().to_string().contains("cannot be read"));
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("secret.parquet"), &bytes).unwrap();
        std::os::unix::fs::symlink(outer.path().join("secret.parquet"), &file).unwrap();
        assert!(import(folder.path(), Said::default()).unwrap_err().to_string().contains("leads out of"));
        let bare = tempfile::tempdir().unwrap();
        assert!(import(bare.path(), Said::default()).unwrap_err().to_string().contains("datanet contribute takes files"));
    }

    #[test]
    fn bytes_that_are_stated_are_those_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        exported(folder.path(), Layout::Croissant);
        let changed = |name: &str, change: &dyn Fn(&str) -> String| {
            let path = folder.path().join(name);
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, change(&text)).unwrap();
            let error = import(folder.path(), Said::default()).unwrap_err().to_string();
            assert!(error.contains("bytes, 9999999 are stated"), "{name}: {error}");
        };
        let bytes = fs::metadata(folder.path().join("data/contribution-00001.parquet")).unwrap().len();
        changed(MANIFEST, &|text| text.replace(&format!("\"bytes\": {bytes}"), "\"bytes\": 9999999"));
        fs::remove_file(folder.path().join(MANIFEST)).unwrap();
        changed(CROISSANT, &|text| text.replace(&format!("{bytes} B"), "9999999 B"));
    }

    #[test]
    fn a_private_datanet_is_written_for_its_user_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let outer = tempfile::tempdir().unwrap();
        for (layout, is_private) in [(Layout::Jsonl, true), (Layout::Huggingface, true), (Layout::Croissant, true), (Layout::Jsonl, false)]
        {
            let folder = outer.path().join(format!("{layout:?}-{is_private}/deep"));
            let mut export = Export::begin(&folder, layout, 7, card().with_privacy(is_private)).unwrap();
            export.add(0, Address([1; 20]), Hash32::ZERO, &contributions()[0]).unwrap();
            let about = About { version: "2.0.0".into(), published: "2026-11-21".into(), url: "https://example.org/7".into() };
            export.end(&about).unwrap();
            let mut open = vec![folder.parent().unwrap().to_owned()];
            while let Some(path) = open.pop() {
                let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o077;
                assert!(!is_private || mode == 0, "{}: {mode:o}", path.display());
                if path.is_dir() {
                    open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                }
            }
            if layout != Layout::Jsonl {
                fs::remove_file(folder.join(MANIFEST)).unwrap();
                assert!(import(&folder, Said::default()).unwrap().card.is_private(), "{layout:?}: it stays private without our manifest");
            }
        }
    }

    /// A folder of some files with a README of this front matter: the files that are taken, and what is left out and why.
    fn listed(front: &str) -> (Vec<String>, Vec<(String, String)>) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(README), format!("---\nlicense: mit\n{front}---\n")).unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        for name in ["data/a.jsonl", "data/b.json", "data/c.csv.gz", "notes.txt"] {
            fs::write(folder.path().join(name), "{\"text\":\"x\"}").unwrap();
        }
        std::os::unix::fs::symlink("/dev/null", folder.path().join("data/d.jsonl")).unwrap();
        let imported = import(folder.path(), Said { name: Some("rows".into()), ..Said::default() }).unwrap();
        let below = |path: &Path| path.strip_prefix(folder.path()).unwrap_or(path).display().to_string();
        let files = imported.files.iter().map(|found| below(&found.path)).collect();
        let mut left_out: Vec<_> = imported.left_out.iter().map(|one| (below(Path::new(&one.path)), one.why.clone())).collect();
        left_out.sort();
        (files, left_out)
    }

    #[test]
    fn what_a_card_means_and_is_not_taken_is_named() {
        let named = |front: &str, expected: &[(&str, &str)]| {
            let (files, left_out) = listed(front);
            assert_eq!(files, ["data/a.jsonl"], "{front}");
            assert_eq!(left_out.len(), expected.len(), "{front}: {left_out:?}");
            for ((path, why), (expected, words)) in left_out.iter().zip(expected) {
                assert!(path == expected && why.contains(words), "{front}: {path}: {why}");
            }
        };
        let of_data = [("data/b.json", "ending .json"), ("data/c.csv.gz", "unpack it first"), ("data/d.jsonl", "leads out of the folder")];
        named("", &[&of_data[..], &[("notes.txt", "a document of its own")]].concat());
        let unnamed = "README.md does not name it";
        named("configs:\n- config_name: a\n  data_files: data/*\n", &[&of_data[..], &[("notes.txt", unnamed)]].concat());
        let beside = [("data/b.json", unnamed), ("data/c.csv.gz", unnamed), ("data/d.jsonl", "leads out of"), ("notes.txt", unnamed)];
        named("configs:\n- config_name: a\n  data_files: data/a.jsonl\n", &beside);
        let more = [("README.md", "configuration b is not read"), ("data/*.csv", "no file here is called so")];
        named(
            "configs:\n- config_name: a\n  data_files:\n  - data/*.jsonl\n  - data/*.csv\n- config_name: b\n  data_files: more.csv\n",
            &[&more[..], &beside[..]].concat(),
        );
    }

    #[test]
    fn what_lies_beside_the_files_of_an_export_is_named_and_its_attendants_are_not() {
        for (layout, by) in [
            (Layout::Jsonl, MANIFEST),
            (Layout::Huggingface, MANIFEST),
            (Layout::Croissant, MANIFEST),
            (Layout::Croissant, CROISSANT),
            (Layout::Huggingface, README),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let at = |name: &str| folder.path().join(name);
            exported(folder.path(), layout);
            if by != MANIFEST {
                fs::remove_file(at(MANIFEST)).unwrap();
            }
            for attendant in ["LICENSE", "CITATION.cff", ".gitattributes"] {
                fs::write(at(attendant), "x").unwrap();
            }
            let told = || {
                let imported = import(folder.path(), Said::default()).unwrap();
                assert_eq!((imported.by, imported.files.len()), (by, 2), "{layout:?}");
                let mut told: Vec<_> = imported
                    .left_out
                    .iter()
                    .map(|one| {
                        let path = Path::new(&one.path);
                        path.strip_prefix(folder.path()).unwrap_or(path).display().to_string()
                    })
                    .collect();
                told.sort();
                (told, crate::command::datanet::left_out::agreed(&imported.left_out, false).map_err(|error| error.to_string()))
            };
            let (nothing, agreed) = told();
            assert!(agreed.is_ok() && nothing == [".gitattributes"; 0], "{layout:?} {by}: {nothing:?}");
            fs::create_dir_all(at("data/.cache")).unwrap();
            fs::create_dir_all(at("more")).unwrap();
            for name in ["more.jsonl", "extra.bin", "data/LICENSE", "more/z.txt"] {
                fs::write(at(name), "x").unwrap();
            }
            std::os::unix::fs::symlink("/dev/null", at("data/link.parquet")).unwrap();
            let (named, agreed) = told();
            assert_eq!(
                named,
                ["data/.cache", "data/LICENSE", "data/link.parquet", "extra.bin", "more.jsonl", "more/z.txt"],
                "{layout:?} {by}"
            );
            let error = agreed.unwrap_err();
            assert!(error.contains("more.jsonl: ") && error.contains("--skip-unknown") && !error.contains(".cache"), "{error}");
        }
    }

    /// A Hugging Face export without our manifest, whose README is changed.
    fn stripped(is_private: bool, file: &str, change: impl Fn(&str) -> String, is_public: bool) -> Result<bool, String> {
        let folder = tempfile::tempdir().unwrap();
        let mut export = Export::begin(folder.path(), Layout::Huggingface, 7, card().with_privacy(is_private)).unwrap();
        export.add(0, Address([1; 20]), Hash32::ZERO, &contributions()[0]).unwrap();
        let about = About { version: "2.0.0".into(), published: "2026-11-21".into(), url: "https://example.org/7".into() };
        export.end(&about).unwrap();
        fs::remove_file(folder.path().join(MANIFEST)).unwrap();
        fs::rename(folder.path().join("data/contribution-00000.parquet"), folder.path().join(file)).unwrap();
        let readme = folder.path().join(README);
        fs::write(&readme, change(&fs::read_to_string(&readme).unwrap())).unwrap();
        let imported = import(folder.path(), Said { is_public, ..Said::default() });
        imported.map(|imported| imported.card.is_private()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_private_export_stays_private_however_its_readme_says_so_and_needs_a_word_where_it_does_not() {
        const OURS: &str = "data/contribution-00000.parquet";
        let written = |words: &'static str| move |text: &str| text.replace("private: true\n", words);
        for words in ["private: yes\n", "private: On\n", "private: 'TRUE'\n", "\"private\": Y # members\n"] {
            assert_eq!(stripped(true, OURS, written(words), false), Ok(true), "{words}");
            let error = stripped(true, OURS, written(words), true).unwrap_err();
            assert!(error.contains("README.md says that members alone") && error.contains("leave --public out"), "{error}");
        }
        let error = stripped(true, OURS, written("private: 1\n"), true).unwrap_err();
        assert!(error.contains("line 5 of README.md says \"private: 1\""), "{error}");
        let error = stripped(true, OURS, written(""), false).unwrap_err();
        assert!(error.contains("--public if everybody may read it") && error.contains("private: true (members alone)"), "{error}");
        assert_eq!(stripped(true, OURS, written(""), true), Ok(false), "the user's word");
        assert_eq!(stripped(true, "data/train.parquet", written(""), false), Ok(false), "a repository of somebody else never states it");
        assert_eq!(stripped(false, OURS, str::to_owned, false), Ok(false), "an open export states it too");
    }

    #[test]
    fn descriptions_that_differ_in_who_may_read_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        exported(folder.path(), Layout::Croissant);
        let refused = |words: &str| {
            let error = format!("{:#}", import(folder.path(), Said::default()).unwrap_err());
            assert!(error.contains(words), "{error}");
        };
        fs::write(folder.path().join(README), "---\nprivate: yes\n---\n").unwrap();
        refused("README.md says that members alone may read it, tributary.json and croissant.json that everybody may");
        fs::write(folder.path().join(README), "---\nprivate: sometimes\n---\n").unwrap();
        refused("line 2 of README.md says");
        fs::remove_file(folder.path().join(MANIFEST)).unwrap();
        fs::write(folder.path().join(README), "---\nprivate: yes\n---\n").unwrap();
        refused("README.md says that members alone may read it, croissant.json that everybody may");
        fs::write(folder.path().join(README), "# No front matter, private: yes\n").unwrap();
        assert!(!import(folder.path(), Said::default()).unwrap().card.is_private());
        let path = folder.path().join(CROISSANT);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"Everybody\"", "\"By appointment\"")).unwrap();
        refused("conditionsOfAccess says \"By appointment\"");
        fs::write(&path, text.replace("conditionsOfAccess", "more")).unwrap();
        refused("--public if everybody may read it");
    }
}
