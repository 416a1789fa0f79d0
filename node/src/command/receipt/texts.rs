//! The index behind a receipt: of contributions in the data folder's shards by what the chain says of them, or in a folder that holds both.
//!
//! Segments that are in the data folder are used, others are built there. No source is trusted: each shard must have the text root that its
//! contribution registered, and whoever uses the index compares its root with the receipt's. A folder holds one file per contribution and `ORDER_FILE`, about 500 bytes per contribution.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, bail, ensure};
use attribution::index::Index;
use chain_bridge::registry::state::Accepted;
use serde::{Deserialize, Serialize};
use types::{id::AssetVersion, manifest::Manifest};

use crate::{
    command::{Context, index},
    data::{DataDir, read_bounded, write_atomic},
    datanet,
    service::index::{
        plan::Plan,
        store::{Indexes, go_on},
    },
};

/// What a folder says of its contributions.
const ORDER_FILE: &str = "order.json";
/// Longest order read: some 100,000 contributions.
const ORDER_BYTES_MAX: u64 = 64 << 20;

/// The contributions of one Datanet version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    version: AssetVersion,
    contributions: Vec<Accepted>,
    /// What was erased before the version was published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tombstones: Vec<Accepted>,
}

#[derive(Debug, Serialize)]
struct Exported {
    folder: std::path::PathBuf,
    datanets: usize,
    contributions: usize,
    bytes: u64,
}

/// The index over the Datanets of `manifest`, from the data folder and the chain.
pub(in crate::command) async fn from_data(context: &Context, manifest: &Manifest) -> anyhow::Result<Index> {
    let state = context.chain_reader().await?.state().await?;
    index::local(context, &state, &versions(manifest)).await
}

/// The index over the Datanets of `manifest`, from a folder that [`export`] wrote; segments go where `indexes` keeps them.
pub(in crate::command) fn from_folder(indexes: &Indexes, folder: &Path, manifest: &Manifest) -> anyhow::Result<Index> {
    let orders = read_order(folder)?;
    let data = DataDir::new(folder);
    let mut datanets = Vec::new();
    for version in versions(manifest) {
        let order = orders.iter().find(|order| order.version == version);
        let order = order.with_context(|| {
            format!(
                "{} says nothing of Datanet {version}: write the folder from this receipt with `tributary receipt texts`",
                folder.join(ORDER_FILE).display()
            )
        })?;
        let plan = Plan::new(version, order.contributions.iter().cloned(), order.tombstones.iter().cloned());
        let mut texts = |accepted: &Accepted| {
            datanet::local(&data, accepted)?.with_context(|| format!("{} is missing", data.shard(accepted.text_root).display()))
        };
        let (datanet, _) = indexes.open(&plan, &mut texts, &mut go_on).with_context(|| format!("Datanet {version}"))?;
        datanets.push(Arc::new(datanet));
    }
    Ok(Index::new(datanets)?)
}

fn versions(manifest: &Manifest) -> Vec<AssetVersion> {
    manifest.datanets.iter().map(|datanet| datanet.version).collect()
}

fn read_order(folder: &Path) -> anyhow::Result<Vec<Order>> {
    let path = folder.join(ORDER_FILE);
    let bytes = read_bounded(&path, ORDER_BYTES_MAX)
        .with_context(|| format!("{}: cannot be read; `tributary receipt texts` writes it", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{}: not an order of contributions", path.display()))
}

/// Writes the folder that [`from_folder`] reads.
pub(super) async fn export(context: &Context, file: &Path, out: &Path) -> anyhow::Result<()> {
    let bundle = super::read(file)?;
    ensure!(!out.join(ORDER_FILE).exists(), "{} holds an order already: choose another folder", out.display());
    let state = context.chain_reader().await?.state().await?;
    let mut exported = Exported { folder: out.to_owned(), datanets: 0, contributions: 0, bytes: 0 };
    let mut orders = Vec::new();
    for version in versions(&bundle.manifest) {
        if state.version(version).is_none() {
            bail!("Datanet {version} is not published on this chain: the receipt is of another deployment");
        }
        datanet::erased::check(&state, version)?;
        let is_private = state.asset(version.asset).is_some_and(|asset| datanet::card_of(asset).is_ok_and(|card| card.is_private()));
        ensure!(
            !is_private,
            "Datanet {version} is private: its text does not leave the folders of grant holders, who verify by their own: tributary receipt verify {} --full",
            file.display()
        );
        let contributions: Vec<Accepted> = state.contributions_of(version).cloned().collect();
        for accepted in &contributions {
            exported.bytes += copy(&context.data, accepted, out)?;
        }
        exported.datanets += 1;
        exported.contributions += contributions.len();
        orders.push(Order { version, contributions, tombstones: state.tombstones_of(version).cloned().collect() });
    }
    // Last: a folder with an order has every shard that the order names.
    write_atomic(&out.join(ORDER_FILE), &serde_json::to_vec_pretty(&orders)?, 0o644)?;
    context.output.result(&exported, || {
        format!(
            "{} contributions of {} Datanets, {} bytes, in {}\ntributary receipt verify {} --full --texts {}",
            exported.contributions,
            exported.datanets,
            exported.bytes,
            out.display(),
            file.display(),
            out.display()
        )
    })
}

fn copy(data: &DataDir, accepted: &Accepted, out: &Path) -> anyhow::Result<u64> {
    let from = data.shard(accepted.text_root);
    let missing = || {
        format!(
            "contribution {} of Datanet {} is not here: run `tributary datanet fetch {}`",
            accepted.number, accepted.datanet, accepted.datanet
        )
    };
    datanet::local(data, accepted)?.with_context(missing)?;
    let bytes = std::fs::read(&from).with_context(|| format!("{}", from.display()))?;
    write_atomic(&DataDir::new(out).shard(accepted.text_root), &bytes, 0o644)?;
    Ok(u64::try_from(bytes.len())?)
}

#[cfg(test)]
mod tests {
    use storage::datanet::{Document, shard};
    use types::{
        contribution::Priority,
        id::{Address, AssetId, BlobId, Hash32},
        manifest::ManifestDatanet,
        split::SplitTable,
    };

    use super::*;

    const VERSION: AssetVersion = AssetVersion { asset: AssetId(3), version: 1 };

    fn accepted(folder: &Path, block: u64, texts: &[&str]) -> Accepted {
        let documents: Vec<Document> = texts.iter().map(|text| Document::new(None, None, text.as_bytes()).unwrap()).collect();
        let bytes = shard::encode(&documents).unwrap();
        let text_root = shard::decode(&bytes).unwrap().text_root();
        let text_bytes = texts.iter().map(|text| text.len() as u64 + 1).sum();
        write_atomic(&DataDir::new(folder).shard(text_root), &bytes, 0o644).unwrap();
        Accepted {
            datanet: VERSION.asset,
            number: block,
            contributor: Address([7; 20]),
            text_root,
            text_bytes,
            documents: 1,
            priority: Priority { block, ordinal: 0, document: 0 },
            licence: Hash32::ZERO,
            object: BlobId::ZERO,
            report: Hash32::ZERO,
            accepted: (block, 0),
        }
    }

    fn manifest() -> Manifest {
        let datanet = ManifestDatanet { version: VERSION, treasury: Address::ZERO, weight: 1 };
        Manifest { assets: vec![], split: SplitTable::default(), index: Hash32::ZERO, parameters: 1, datanets: vec![datanet] }
    }

    fn write_order(folder: &Path, contributions: Vec<Accepted>) {
        let order = [Order { version: VERSION, contributions, tombstones: vec![] }];
        std::fs::write(folder.join(ORDER_FILE), serde_json::to_vec(&order).unwrap()).unwrap();
    }

    #[test]
    fn a_folder_gives_the_index_of_its_contributions_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let first = accepted(folder.path(), 5, &["gout is a disease"]);
        let second = accepted(folder.path(), 6, &["ataxia is a symptom", "gout is a disease"]);
        write_order(folder.path(), vec![first.clone(), second.clone()]);
        let index = from_folder(&Indexes::in_memory(), folder.path(), &manifest()).unwrap();
        assert_eq!(index.holder(b"gout is a disease").unwrap().row.priority.block, 5);
        let (later, earlier) = (
            Accepted { priority: second.priority, ..first },
            Accepted { priority: Priority { block: 5, ..Priority::default() }, ..second },
        );
        write_order(folder.path(), vec![earlier, later]);
        assert_ne!(from_folder(&Indexes::in_memory(), folder.path(), &manifest()).unwrap().root(), index.root());
    }

    #[test]
    fn what_a_folder_lacks_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let says = |expected: &str| {
            let error = format!("{:#}", from_folder(&Indexes::in_memory(), folder.path(), &manifest()).unwrap_err());
            assert!(error.contains(expected), "{expected}: {error}");
        };
        says("receipt texts");
        std::fs::write(folder.path().join(ORDER_FILE), "[]").unwrap();
        says("says nothing of Datanet 3@1");
        let kept = accepted(folder.path(), 5, &["some text"]);
        write_order(folder.path(), vec![kept.clone()]);
        from_folder(&Indexes::in_memory(), folder.path(), &manifest()).unwrap();
        let path = DataDir::new(folder.path()).shard(kept.text_root);
        std::fs::write(&path, "not a shard").unwrap();
        says("shard");
        std::fs::remove_file(&path).unwrap();
        says("is missing");
        std::fs::write(folder.path().join(ORDER_FILE), "[{\"x\": 1}]").unwrap();
        says("not an order");
    }
}
