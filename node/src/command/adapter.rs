//! `tributary adapter`: LoRA adapters in PEFT's files or llama.cpp's, named by content.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use chain_bridge::registry::State;
use clap::{Args as ClapArgs, Subcommand};
use inference::{
    adapter::{
        AdapterFiles, CONFIG_BYTES_MAX, CONFIG_FILE, GGUF_FILE, Lora, MANIFEST_BYTES_MAX, MANIFEST_FILE, WEIGHTS_BYTES_MAX, WEIGHTS_FILE,
    },
    gguf::GgufFile,
    model::ModelInfo,
};
use p2p::{
    bulk::{BulkEndpoint, BulkLimits},
    identity::NodeSeed,
    proto::ads::Ad,
};
use serde::{Deserialize, Serialize};
use types::{
    id::{AssetVersion, BlobId, Hash32},
    manifest::AssetKind,
    split::SplitTable,
};

use super::{
    Context, Failed,
    marks::{Marks, marks},
    publish::Terms,
};
use crate::{
    data::{DataDir, read_bounded, write_atomic},
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
    /// Check a PEFT folder (adapter_config.json, adapter_model.safetensors) or a GGUF file and keep it under its content hash.
    #[command(
        after_help = "Example:\n  tributary adapter import medical-adapter --base model.gguf\n  tributary adapter import medical-lora.gguf\n\nA running node with this data folder serves it within seconds, if it is registered. With --base every matrix is checked against the\nmodel's shapes. Next: tributary adapter publish FOLDER --name NAME --base ASSET@VERSION --datanet ASSET@VERSION"
    )]
    Import {
        /// The folder, or a file in llama.cpp's format.
        folder: PathBuf,
        /// Model file that the adapter must fit.
        #[arg(long, value_name = "FILE")]
        base: Option<PathBuf>,
    },
    /// Fetch a registered adapter from nodes that serve it, checked against its registered content.
    #[command(
        after_help = "Example:\n  tributary adapter fetch medical --bootstrap /ip4/127.0.0.1/udp/7401/quic-v1\n\nNext: tributary run serves it, beside the base it was trained on."
    )]
    Fetch {
        /// Name, asset number or ASSET@VERSION.
        adapter: String,
        /// Overlay address to join through [default: from the configuration].
        #[arg(long, value_name = "MULTIADDR")]
        bootstrap: Vec<String>,
    },
    /// List the adapters in the data folder, each hashed anew; a damaged one is named and the exit code is 1.
    #[command(
        after_help = "Example:\n  tributary adapter list --json | jq '.[].hash'\n\nNext: tributary run serves those that are registered."
    )]
    List,
    /// Register an adapter on the chain: its base, the Datanets it was trained on, its price split.
    #[command(
        after_help = "Example:\n  tributary adapter publish medical-adapter --name medical --base 1@1 --datanet 2@1\n\nWithout --split: node=3000,base=1000,adapter=1500,data=4000,stakers=500. At most two transactions, paid by the wallet. An adapter whose settings name another base is refused: no node could apply it.\nNext: tributary adapter import on the nodes that are to serve it, then tributary ask --with medical \"...\""
    )]
    Publish {
        /// The folder, or a file in llama.cpp's format.
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
        /// Register it even if its settings name another base.
        #[arg(long)]
        force: bool,
        /// Least share of the fee, in 1/10,000, that agents on this adapter must leave it.
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=10_000))]
        least_share: u16,
        #[command(flatten)]
        terms: Terms,
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
        Action::Import { folder, base } => {
            let row = import(&context.data, &folder, base.as_deref())?;
            context.output.result(&row, || {
                let next = "Next: tributary adapter publish FOLDER --name NAME --base ASSET@VERSION --datanet ASSET@VERSION";
                format!("{}  {}\n{}\n\n{next}", row.hash, crate::words::line(&row.name), row.path.display())
            })
        }
        Action::Fetch { adapter, bootstrap } => fetch(context, &adapter, bootstrap).await,
        Action::List => list(context).await,
        Action::Publish { folder, name, base, datanets, force, least_share, terms } => {
            let files = AdapterFiles::read(&folder).with_context(|| format!("{}", folder.display()))?;
            files.check().with_context(|| format!("{}", folder.display()))?;
            let state = context.chain_reader().await?.state().await?;
            if !force {
                its_own_base(&state, &files, base)?;
            }
            let trained_on = trained_on(&state, &folder)?;
            let usual = SplitTable { node: 3_000, agent: 0, base: 1_000, adapter: 1_500, data: 4_000, stakers: 500 };
            let publication = super::publish::Publication {
                kind: AssetKind::Adapter,
                name,
                content: BlobId(files.hash()),
                parents: vec![base],
                split: terms.split.unwrap_or(usual),
                datanets,
                trained_on,
                licence: terms.licence,
                least_share,
            };
            super::publish::run(context, publication).await
        }
    }
}

/// Refuses a base that is not registered, or is not the one that the adapter's settings record.
fn its_own_base(state: &State, files: &AdapterFiles, base: AssetVersion) -> anyhow::Result<()> {
    let registered = state.version(base).with_context(|| format!("--base {base} is not published on this chain"))?.content;
    let trained = files.base_hash().map(BlobId).filter(|trained| *trained != registered);
    if let Some(trained) = trained {
        bail!(
            "the adapter was trained on base {trained}, --base {base} is {registered}: no node could apply it; name its own base, or register it all the same with --force"
        );
    }
    Ok(())
}

/// What `tributary train` records of where an adapter comes from, as far as it is read here.
#[derive(Debug, Deserialize)]
struct Trained {
    dataset: TrainedOn,
}

#[derive(Debug, Deserialize)]
struct TrainedOn {
    datanet: String,
    contributions: Vec<TrainedContribution>,
}

#[derive(Debug, Deserialize)]
struct TrainedContribution {
    text_root: Hash32,
}

/// The Datanet that an adapter was trained on by the record in its folder; none without such a record, or where the number means another Datanet on this chain.
fn trained_on(state: &State, folder: &Path) -> anyhow::Result<Vec<AssetVersion>> {
    if folder.is_file() {
        return Ok(Vec::new());
    }
    let path = folder.join(MANIFEST_FILE);
    let bytes = match read_bounded(&path, MANIFEST_BYTES_MAX) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.with_context(|| format!("{}", path.display()))?,
    };
    // A record of other software says nothing that is understood here.
    let Ok(Trained { dataset }) = serde_json::from_slice(&bytes) else { return Ok(Vec::new()) };
    let Ok(version) = parse_version(&dataset.datanet) else { return Ok(Vec::new()) };
    let is_its = |named: &TrainedContribution| state.contributions(version.asset).any(|accepted| accepted.text_root == named.text_root);
    Ok(if dataset.contributions.iter().any(is_its) { vec![version] } else { Vec::new() })
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
    bulk.close().await;
    let row = Row { hash: content, name: adapter.to_owned(), path: fetched?, problem: None, erased: Vec::new() };
    context.output.result(&row, || format!("{}  {}\n{}", row.hash, crate::words::line(&row.name), row.path.display()))
}

fn import(data: &DataDir, folder: &Path, base: Option<&Path>) -> anyhow::Result<Row> {
    let files = AdapterFiles::read(folder).with_context(|| format!("{}", folder.display()))?;
    files.check().with_context(|| format!("{}", folder.display()))?;
    if let Some(base) = base {
        let model = GgufFile::open(base).map_err(anyhow::Error::new).and_then(|file| Ok(ModelInfo::read(&file)?));
        let model = model.with_context(|| format!("--base {}", base.display()))?;
        Lora::new(&files, &model).with_context(|| format!("{} does not fit {}", folder.display(), base.display()))?;
    }
    let hash = BlobId(files.hash());
    let kept = data.adapter(hash);
    if !data.has(&kept)? {
        data.create()?;
        // Files first into a folder of another name: a half-copied adapter never carries its hash.
        let fresh = data.adapters().join(format!(".{hash}.{}", std::process::id()));
        let copied = copy(folder, &fresh).and_then(|copied| {
            ensure!(copied == hash, "{} changed while it was copied: content {copied}, before {hash}", folder.display());
            Ok(std::fs::rename(&fresh, &kept)?)
        });
        if let Err(error) = copied {
            // The first error is the one to tell.
            drop(std::fs::remove_dir_all(&fresh));
            return Err(error.context(format!("{}: nothing was kept", kept.display())));
        }
    }
    Ok(Row { hash, name: files.name.clone(), path: kept, problem: None, erased: Vec::new() })
}

/// Copies an adapter's files, each read to its cap; returns the hash of what was written.
fn copy(from: &Path, to: &Path) -> anyhow::Result<BlobId> {
    let (config, weights) = ((CONFIG_FILE, CONFIG_BYTES_MAX), (WEIGHTS_FILE, WEIGHTS_BYTES_MAX));
    let (gguf, manifest) = ((GGUF_FILE, WEIGHTS_BYTES_MAX), (MANIFEST_FILE, MANIFEST_BYTES_MAX));
    let is_peft = from.join(CONFIG_FILE).is_file();
    let files: &[(&str, u64)] = match (from.is_file(), is_peft) {
        (true, _) => &[gguf],
        (_, true) => &[config, weights, manifest],
        (_, false) => &[gguf, manifest],
    };
    for (file, most) in files {
        let path = if from.is_file() { from.to_owned() } else { from.join(file) };
        match read_bounded(&path, *most) {
            Ok(bytes) => write_atomic(&to.join(file), &bytes, 0o644)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && *file == MANIFEST_FILE => {}
            Err(error) => return Err(error).with_context(|| format!("{}", path.display())),
        }
    }
    Ok(BlobId(AdapterFiles::read(to)?.hash()))
}

/// Content hashes of the adapters in the data folder, in order; a folder whose content is not its name is an error.
pub fn present(data: &DataDir) -> anyhow::Result<Vec<(BlobId, PathBuf)>> {
    let folder = data.adapters();
    let mut found = Vec::new();
    if data.has(&folder)? {
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

async fn list(context: &Context) -> anyhow::Result<()> {
    let found = present(&context.data)?;
    let marks = if found.is_empty() { Marks::new() } else { marks(context).await };
    let row = |(hash, path): (BlobId, PathBuf)| {
        let (name, problem) = match AdapterFiles::read(&path).and_then(|files| files.check().map(|()| files)) {
            Ok(files) if BlobId(files.hash()) == hash => (files.name, None),
            Ok(files) => {
                let found = BlobId(files.hash());
                (files.name, Some(format!("it holds content {found}: it was changed on disk; remove it and import it again")))
            }
            Err(error) => (hash.to_string(), Some(error.to_string())),
        };
        Row { hash, name, path, problem, erased: marks.get(&hash).cloned().unwrap_or_default() }
    };
    let rows: Vec<Row> = found.into_iter().map(row).collect();
    context.output.result(&rows, || {
        if rows.is_empty() {
            return format!("no adapter in {}: tributary adapter import FOLDER brings one in", context.data.adapters().display());
        }
        let line = |row: &Row| {
            let (problem, erased) = (row.problem.clone().unwrap_or_default(), row.erased.join("; "));
            vec![row.hash.to_string(), row.path.display().to_string(), problem, erased]
        };
        table(&["hash", "path", "problem", "trained on"], &rows.iter().map(line).collect::<Vec<_>>())
    })?;
    let damaged = rows.iter().filter(|row| row.problem.is_some()).count();
    if damaged > 0 {
        return Err(Failed(format!("{damaged} of {} adapters are damaged", rows.len())).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use inference::tiny;

    use super::*;

    #[test]
    fn an_adapter_in_either_format_is_kept_under_its_content_and_is_the_same_from_there() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let data = DataDir::new(to.path());
        let (peft, alone, folder) = (from.path().join("peft"), from.path().join("alone.gguf"), from.path().join("folder"));
        tiny::write_adapter(&peft, None, 2, 1).unwrap();
        tiny::adapters::write_gguf_adapter(&alone, None, 2, 1).unwrap();
        std::fs::create_dir(&folder).unwrap();
        std::fs::copy(&alone, folder.join(GGUF_FILE)).unwrap();
        std::fs::write(folder.join(MANIFEST_FILE), "{}").unwrap();
        let mut hashes = Vec::new();
        for path in [&peft, &alone, &folder] {
            let row = import(&data, path, None).unwrap();
            assert_eq!(AdapterFiles::read(&row.path).unwrap().hash(), row.hash.0);
            hashes.push(row.hash);
        }
        hashes.sort();
        let found: Vec<BlobId> = present(&data).unwrap().into_iter().map(|(hash, _)| hash).collect();
        assert_eq!(found, hashes);
        assert_eq!(std::fs::read_dir(data.adapters()).unwrap().count(), 3, "nothing half-copied is left");
    }

    #[test]
    fn asset_versions_are_read_and_refused_in_words() {
        assert_eq!(parse_version("3@1").unwrap().to_string(), "3@1");
        for text in ["3", "@", "3@", "x@1", "3@-1"] {
            assert!(parse_version(text).unwrap_err().contains("write ASSET@VERSION"), "{text}");
        }
    }
}
