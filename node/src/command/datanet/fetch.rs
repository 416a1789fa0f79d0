//! `tributary datanet fetch`: contributions from whichever holders answer, checked before they are kept.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use chain_bridge::registry::{State, state::Accepted};
use clap::Args as ClapArgs;
use serde::Serialize;
use storage::{datanet::Document, seal::log::Purpose};
use types::id::{Address, AssetId, Hash32, NodeId};

use super::{
    Context,
    exported::{create_folder, file_mode},
    grant,
    network::Network,
};
use crate::{
    data::{Existing, read_bounded, write_out},
    datanet::{LocalContribution, Origin, Shards, copies::Copies, erased, placing, resolve},
    output::table,
};

/// Bring a Datanet's contributions to this machine.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "As many holders suffice as a contribution's code says: any 3 of 5 or of 9 where nodes are few, any 16 of 48 where they are many. Every fragment is hashed on arrival, and the text root derived anew must be the registered one;\nwhat is here already is only checked. Shards are kept in the data folder; --out also writes them as JSONL, and leaves\na file alone that holds something else. Those of a private Datanet stay sealed in the\nfolder and open for a member's node: the read is entered into the Datanet's log first, at its owner's node.\n\nExamples:\n  tributary datanet fetch medical\n  tributary datanet fetch medical --contribution 0 --out texts\n\nNext: tributary train --datanet ASSET@VERSION, or tributary datanet verify medical."
)]
pub(super) struct Args {
    /// Datanet, by name or number.
    datanet: String,
    /// Write each contribution there as contribution-NUMBER.jsonl.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write over files that hold something else.
    #[arg(long, visible_alias = "overwrite", requires = "out")]
    force: bool,
    /// Only this contribution, by its number in the registry; they count from 0.
    #[arg(long, value_name = "NUMBER")]
    contribution: Option<u64>,
    /// What a private Datanet is read for: read, train, serve or review.
    #[arg(long, value_name = "PURPOSE", default_value = "read")]
    purpose: Purpose,
    /// Overlay address to join through [default: from the configuration].
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    datanet: u64,
    contributions: Vec<Row>,
    /// Bytes of good fragments by holder, over all contributions.
    holders: BTreeMap<NodeId, u64>,
    /// Holders that sent wrong bytes.
    blamed: Vec<String>,
    /// Where the texts should stay, if that is not here.
    #[serde(skip_serializing_if = "Option::is_none")]
    residency: Option<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    contribution: u64,
    contributor: Address,
    text_root: Hash32,
    documents: usize,
    bytes: usize,
    path: PathBuf,
    holders: BTreeMap<NodeId, u64>,
}

/// The contributions of a Datanet that are meant and can be had, in priority order: one that was erased on request is refused by number, and passed over
/// with a word where all are meant.
pub(super) fn readable<'s>(
    context: &Context,
    state: &'s State,
    datanet: AssetId,
    number: Option<u64>,
) -> anyhow::Result<Vec<&'s Accepted>> {
    let mut all = chosen(state, datanet, number)?;
    if number.is_some() {
        all.iter().try_for_each(|accepted| erased::check_contribution(state, accepted))?;
    }
    for erasure in all.iter().filter_map(|accepted| state.erasure(datanet, accepted.number)) {
        context.output.note(&format!("{erasure}: left out"));
    }
    all.retain(|accepted| state.erasure(datanet, accepted.number).is_none());
    ensure!(!all.is_empty(), "every contribution of Datanet {datanet} was erased on request");
    Ok(all)
}

/// The contributions of a Datanet that are meant, in priority order.
pub(super) fn chosen(state: &State, datanet: AssetId, number: Option<u64>) -> anyhow::Result<Vec<&Accepted>> {
    let all: Vec<&Accepted> = state.contributions(datanet).collect();
    let Some(number) = number else {
        if all.is_empty() {
            bail!("Datanet {datanet} holds no accepted contribution yet");
        }
        return Ok(all);
    };
    let found = all.iter().find(|accepted| accepted.number == number);
    let count = all.len();
    Ok(vec![*found.with_context(|| format!("Datanet {datanet} has no contribution {number}: it holds {count}, counted from 0"))?])
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let chain = context.chain_reader().await?;
    let state = chain.state().await?;
    let (asset, card) = resolve(&state, &args.datanet)?;
    let wanted = readable(context, &state, asset.id, args.contribution)?;
    context.data.create()?;
    let keeping = context.config()?.keeping;
    let residency = placing::told_of_copy(&state, asset.id, keeping.region)?;
    residency.iter().for_each(|told| context.output.note(told));
    let network = Network::join(context, &args.bootstrap).await?;
    let fetched = async {
        if card.is_private() {
            grant::enter_reads(context, &chain, &network, asset, &wanted, args.purpose).await?;
        }
        let shards = Shards::new(context.data.clone(), network.overlay.clone(), network.bulk.clone(), Copies::of_command(&keeping));
        fetch(context, &args, &state, &shards, &wanted, card.is_private()).await
    };
    let fetched = fetched.await;
    network.leave().await;
    let (rows, blamed) = fetched?;
    let mut holders = BTreeMap::new();
    for (node, bytes) in rows.iter().flat_map(|row| &row.holders) {
        *holders.entry(*node).or_insert(0) += bytes;
    }
    let printed = Printed { datanet: asset.id.0, contributions: rows, holders, blamed, residency };
    context.output.result(&printed, || describe(&printed))
}

async fn fetch(
    context: &Context,
    args: &Args,
    state: &State,
    shards: &Shards,
    wanted: &[&Accepted],
    is_private: bool,
) -> anyhow::Result<(Vec<Row>, Vec<String>)> {
    let mut progress = context.output.progress("contributions", wanted.len() as u64);
    let (mut rows, mut blamed) = (Vec::new(), Vec::new());
    for (done, accepted) in (1..).zip(wanted) {
        let (local, Origin { holders, blamed: by }) = shards.contribution(state, accepted).await?;
        blamed.extend(by);
        if let Some(out) = &args.out {
            create_folder(out, is_private).with_context(|| format!("{}", out.display()))?;
            let path = out.join(format!("contribution-{}.jsonl", accepted.number));
            written(&path, jsonl(&local)?.as_bytes(), is_private, Existing::by(args.force))?;
        }
        rows.push(Row {
            contribution: accepted.number,
            contributor: accepted.contributor,
            text_root: accepted.text_root,
            documents: local.documents.len(),
            bytes: local.text.len(),
            path: context.data.shard(accepted.text_root),
            holders,
        });
        progress.set(done);
    }
    progress.finish();
    Ok((rows, blamed))
}

/// Writes a contribution, unless its file is there and the same.
fn written(path: &Path, bytes: &[u8], is_private: bool, existing: Existing) -> anyhow::Result<()> {
    let length = bytes.len() as u64;
    let is_alike = path.metadata().is_ok_and(|about| about.is_file() && about.len() == length);
    if is_alike && read_bounded(path, length).with_context(|| format!("{}", path.display()))? == bytes {
        return Ok(());
    }
    Ok(write_out(path, bytes, file_mode(is_private), existing)?)
}

#[derive(Serialize)]
struct Line<'d> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'d str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'d str>,
    text: &'d str,
}

fn jsonl(local: &LocalContribution) -> anyhow::Result<String> {
    let line = |document: &Document| {
        let line = serde_json::to_string(&Line { id: document.id(), title: document.title(), text: document.text() });
        line.map(|line| line + "\n")
    };
    Ok(local.documents.iter().map(line).collect::<Result<_, _>>()?)
}

fn describe(printed: &Printed) -> String {
    let line = |row: &Row| {
        let from = if row.holders.is_empty() { "here already".to_owned() } else { format!("{} holders", row.holders.len()) };
        vec![row.contribution.to_string(), row.documents.to_string(), row.bytes.to_string(), row.contributor.to_string(), from]
    };
    let mut text =
        table(&["contribution", "documents", "bytes", "contributor", "from"], &printed.contributions.iter().map(line).collect::<Vec<_>>());
    if !printed.holders.is_empty() {
        let line = |(node, bytes): (&NodeId, &u64)| vec![node.to_string(), bytes.to_string()];
        text.push_str("\n\n");
        text.push_str(&table(&["holder", "bytes"], &printed.holders.iter().map(line).collect::<Vec<_>>()));
    }
    for evidence in &printed.blamed {
        text.push_str(&format!("\nwrong bytes: {evidence}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use types::{contribution::Priority, id::BlobId};

    use super::*;

    #[test]
    fn a_file_that_holds_something_else_is_left_alone_unless_that_is_said() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("contribution-0.jsonl");
        let write = |bytes: &[u8], existing| written(&path, bytes, true, existing);
        write(b"ours\n", Existing::Keep).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        write(b"ours\n", Existing::Keep).unwrap();
        for other in [&b"anna\n"[..], b"ours and more\n"] {
            let error = write(other, Existing::Keep).unwrap_err().to_string();
            assert!(error.contains("is there already") && error.contains("--force"), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), b"ours\n");
        }
        write(b"anna\n", Existing::Replace).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"anna\n");
    }

    #[test]
    fn jsonl_written_is_jsonl_read() {
        let documents = vec![
            Document::new(Some("7".into()), Some("Ataxia".into()), b"A loss of \"coordination\".\nOf movements.").unwrap(),
            Document::new(None, None, "caf\u{e9}".as_bytes()).unwrap(),
        ];
        let accepted = Accepted {
            datanet: AssetId(1),
            number: 0,
            contributor: Address::ZERO,
            text_root: Hash32::ZERO,
            text_bytes: 0,
            documents: 2,
            priority: Priority::default(),
            licence: Hash32::ZERO,
            object: BlobId::ZERO,
            report: Hash32::ZERO,
            accepted: (0, 0),
        };
        let local = LocalContribution { accepted, documents: documents.clone(), text: Vec::new(), text_salt: None };
        let text = jsonl(&local).unwrap();
        let read = storage::datanet::read::documents(text.as_bytes(), storage::datanet::read::Format::Jsonl, None).unwrap();
        assert_eq!(read, documents);
    }
}
