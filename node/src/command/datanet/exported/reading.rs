//! Reading a folder that describes itself: an export of ours, Croissant, a Hugging Face repository. What is described is there and is what is
//! stated of it, what lies there beside it is named, and nobody but the folder's own words, or the user's where it has none, says that
//! everybody may read it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};
use storage::{
    datanet::{
        Card, Licence,
        croissant::{self, Described, DescribedFile},
        huggingface,
    },
    formats::{Columns, Format},
};
use types::id::Hash32;

use super::{
    super::{
        left_out::{LeftOut, told, unknown},
        within::{Listing, Within},
    },
    CROISSANT, MANIFEST, MANIFEST_BYTES_MAX, Manifest, README,
};
use crate::{
    data::{read_bounded, read_text},
    words,
};

/// Why a text beside tables is left out.
const WHOLE: &str = "a document of its own beside the tables: tributary datanet contribute takes it";

/// A file to be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::command::datanet) struct Found {
    pub(in crate::command::datanet) path: PathBuf,
    /// Stated of it.
    pub(in crate::command::datanet) text_root: Option<Hash32>,
    /// Stated of it.
    pub(in crate::command::datanet) documents: Option<u64>,
}

/// A folder that describes a dataset.
#[derive(Debug)]
pub(in crate::command::datanet) struct Imported {
    pub(in crate::command::datanet) card: Card,
    pub(in crate::command::datanet) columns: Columns,
    pub(in crate::command::datanet) files: Vec<Found>,
    /// What described it.
    pub(in crate::command::datanet) by: &'static str,
    /// What the description means, or the folder holds, and is not among the files.
    pub(in crate::command::datanet) left_out: Vec<LeftOut>,
}

impl Imported {
    /// Whether the card's policy was stated: others than our manifest know none.
    pub(in crate::command::datanet) fn is_policy_stated(&self) -> bool {
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
pub(in crate::command::datanet) struct Said {
    pub(in crate::command::datanet) name: Option<String>,
    pub(in crate::command::datanet) licence: Option<Licence>,
    /// That everybody may read it, where the folder does not state that.
    pub(in crate::command::datanet) is_public: bool,
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
pub(in crate::command::datanet) fn import(folder: &Path, said: Said) -> anyhow::Result<Imported> {
    let Said { name, licence, is_public } = said;
    let name = name.as_deref();
    let within = Within::new(folder)?;
    let has = |name: &str| folder.join(name).is_file();
    if has(MANIFEST) {
        let path = within.file(MANIFEST)?;
        let manifest: Manifest = serde_json::from_slice(&read_bounded(&path, MANIFEST_BYTES_MAX).with_context(|| words::path(&path))?)
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
        let bytes = read_bounded(&path, croissant::CROISSANT_BYTES_MAX).with_context(|| words::path(&path))?;
        (croissant::read(&bytes).with_context(|| words::path(&path))?, CROISSANT)
    } else if has(README) {
        let path = within.file(README)?;
        let text = read_text(&path, huggingface::README_BYTES_MAX).with_context(|| words::path(&path))?;
        (huggingface::read(&text, &within.name()).with_context(|| words::path(&path))?, README)
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
        match file.read(&mut buffer).with_context(|| words::path(path))? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    let got = hex::encode(hash.finalize());
    ensure!(got == stated, "{}: its SHA-256 is {got}, {stated} is stated: download or export it anew", words::path(path));
    Ok(())
}
