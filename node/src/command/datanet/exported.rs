//! A Datanet as files: `tributary.json` beside them says which contribution each is, so that an import gives the same text roots and card.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use storage::{
    datanet::{
        Card, Document,
        croissant::{self, DescribedFile},
        huggingface,
    },
    formats::{Format, write::Writer},
};
use types::id::{Address, Hash32};

use crate::{data::write_atomic, words};

mod reading;
#[cfg(test)]
mod tests;

pub(super) use self::reading::{Found, Imported, Said, import};

/// What describes an export exactly.
pub(super) const MANIFEST: &str = "tributary.json";
const CROISSANT: &str = "croissant.json";
const README: &str = "README.md";
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
            write_atomic(&path, text.as_bytes(), file_mode(manifest.card.is_private())).with_context(|| words::path(&path))
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
