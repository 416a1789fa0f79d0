//! `tributary adapter`: LoRA adapters in PEFT's files, named by content.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args as ClapArgs, Subcommand};
use inference::adapter::{AdapterFiles, CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE};
use p2p::{
    bulk::{BulkEndpoint, BulkLimits},
    identity::NodeSeed,
    proto::ads::Ad,
};
use serde::Serialize;
use types::{
    id::{AssetVersion, BlobId},
    manifest::AssetKind,
    split::SplitTable,
};

use super::Context;
use crate::{
    data::{DataDir, write_atomic},
    datanet::fetch_adapter,
    output::table,
};

/// How long ads of nodes that serve an adapter are awaited.
const ADS_WAIT: std::time::Duration = std::time::Duration::from_secs(15);

/// Adapters: bring one in, see what is there, register one.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check a PEFT folder (adapter_config.json, adapter_model.safetensors) and keep it under its content hash.
    Import {
        /// The folder.
        folder: PathBuf,
    },
    /// Fetch a registered adapter from nodes that serve it, checked against its registered content.
    Fetch {
        /// Name, asset number or ASSET@VERSION.
        adapter: String,
        /// Overlay address to join through [default: from the configuration].
        #[arg(long, value_name = "MULTIADDR")]
        bootstrap: Vec<String>,
    },
    /// List the adapters in the data folder.
    List,
    /// Register an adapter on the chain: its base, the Datanets it was trained on, its price split.
    Publish {
        /// The folder.
        folder: PathBuf,
        /// Name by which clients ask for it.
        #[arg(long)]
        name: String,
        /// Registered base version, as ASSET@VERSION.
        #[arg(long, value_parser = parse_version)]
        base: AssetVersion,
        /// Declared Datanet version, as ASSET@VERSION. May be repeated; its order is the manifest's.
        #[arg(long = "datanet", value_parser = parse_version)]
        datanets: Vec<AssetVersion>,
    },
}

/// Reads `ASSET@VERSION`.
pub fn parse_version(text: &str) -> Result<AssetVersion, String> {
    let wrong = || format!("{text:?} is no asset version: write ASSET@VERSION, such as 3@1");
    let (asset, version) = text.split_once('@').ok_or_else(wrong)?;
    Ok(AssetVersion { asset: types::id::AssetId(asset.parse().map_err(|_| wrong())?), version: version.parse().map_err(|_| wrong())? })
}

#[derive(Debug, Serialize)]
struct Row {
    hash: BlobId,
    name: String,
    path: PathBuf,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Import { folder } => {
            let row = import(&context.data, &folder)?;
            context.output.result(&row, || format!("{}  {}\n{}", row.hash, row.name, row.path.display()))
        }
        Action::Fetch { adapter, bootstrap } => fetch(context, &adapter, bootstrap).await,
        Action::List => list(context),
        Action::Publish { folder, name, base, datanets } => {
            let files = AdapterFiles::read(&folder).with_context(|| format!("{}", folder.display()))?;
            let split = SplitTable { node: 3_000, agent: 0, base: 1_000, adapter: 1_500, data: 4_000, stakers: 500 };
            let publication = super::publish::Publication {
                kind: AssetKind::Adapter,
                name,
                content: BlobId(files.hash()),
                parents: vec![base],
                split,
                datanets,
                licence: "Apache-2.0".into(),
                least_share: 0,
            };
            super::publish::run(context, publication).await
        }
    }
}

async fn fetch(context: &Context, adapter: &str, bootstrap: Vec<String>) -> anyhow::Result<()> {
    let mut config = context.config()?;
    if !bootstrap.is_empty() {
        config.bootstrap = bootstrap;
    }
    let chain = context.chain_reader().await?;
    let state = chain.state().await?;
    let version = super::ask::resolve(&state, adapter)?;
    let content = state.version(version).with_context(|| format!("version {version} is not published"))?.content;
    let overlay = context.light_overlay(&config).await?;
    let serves = |ad: &Ad| ad.adapters.iter().any(|asset| asset.hash.0 == content.0);
    let heard = overlay.wait_ads(|ads| ads.iter().any(|signed| serves(signed.ad())), ADS_WAIT).await;
    let heard = heard.with_context(|| format!("no node offers adapter {content}: give the --bootstrap address of a running node"))?;
    let providers: Vec<_> = heard.iter().map(|signed| signed.ad()).filter(|ad| serves(ad)).map(|ad| (ad.node, ad.bulk_addr)).collect();
    let bulk = BulkEndpoint::start(&NodeSeed::generate(), ([127, 0, 0, 1], 0).into(), &[], BulkLimits::default()).await?;
    let fetched = fetch_adapter(&context.data, &bulk, content, &providers).await;
    overlay.shutdown().await;
    let row = Row { hash: content, name: adapter.to_owned(), path: fetched? };
    context.output.result(&row, || format!("{}  {}\n{}", row.hash, row.name, row.path.display()))
}

fn import(data: &DataDir, folder: &Path) -> anyhow::Result<Row> {
    let files = AdapterFiles::read(folder).with_context(|| format!("{}", folder.display()))?;
    let hash = BlobId(files.hash());
    let kept = data.adapter(hash);
    if !kept.exists() {
        // Files first into a folder of another name: a half-copied adapter never carries its hash.
        let fresh = data.adapters().join(format!(".{hash}.{}", std::process::id()));
        for file in [CONFIG_FILE, WEIGHTS_FILE, MANIFEST_FILE] {
            if folder.join(file).exists() {
                write_atomic(&fresh.join(file), &std::fs::read(folder.join(file))?, 0o644)?;
            }
        }
        let copied = BlobId(AdapterFiles::read(&fresh)?.hash());
        if copied != hash {
            std::fs::remove_dir_all(&fresh)?;
            bail!("{} changed while it was copied: content {copied}, before {hash}", folder.display());
        }
        std::fs::rename(&fresh, &kept)?;
    }
    Ok(Row { hash, name: files.name.clone(), path: kept })
}

/// Content hashes of the adapters in the data folder, in order; a folder whose content is not its name is an error.
pub fn present(data: &DataDir) -> anyhow::Result<Vec<(BlobId, PathBuf)>> {
    let folder = data.adapters();
    let mut found = Vec::new();
    if folder.exists() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
            let path = entry?.path();
            if let Some(hash) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()) {
                found.push((hash, path));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn list(context: &Context) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for (hash, path) in present(&context.data)? {
        let files = AdapterFiles::read(&path)?;
        if BlobId(files.hash()) != hash {
            bail!("{} holds content {}: it was changed on disk; remove it and import it again", path.display(), BlobId(files.hash()));
        }
        rows.push(Row { hash, name: files.name, path });
    }
    context.output.result(&rows, || {
        table(&["hash", "path"], &rows.iter().map(|row| vec![row.hash.to_string(), row.path.display().to_string()]).collect::<Vec<_>>())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asset_versions_are_read_and_refused_in_words() {
        assert_eq!(parse_version("3@1").unwrap().to_string(), "3@1");
        for text in ["3", "@", "3@", "x@1", "3@-1"] {
            assert!(parse_version(text).unwrap_err().contains("write ASSET@VERSION"), "{text}");
        }
    }
}
