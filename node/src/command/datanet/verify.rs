//! `tributary datanet verify`: what is here is derived anew, what holders have is read from them and hashed.
//!
//! A holder's word about a digest proves nothing, so every fragment is fetched and hashed here: a Datanet's fragments once over the network.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::bail;
use chain_bridge::registry::state::Accepted;
use clap::Args as ClapArgs;
use p2p::bulk::BulkEndpoint;
use serde::Serialize;
use storage::{
    erasure::ObjectManifest,
    proto::{
        fetch::StreamEnd,
        message::{Refusal, Reply, Request},
        range::Wrong,
    },
};
use tokio::time::timeout;
use types::id::{BlobId, NodeId};

use super::{
    Context,
    fetch::chosen,
    network::{Network, Storing},
};
use crate::{
    datanet::{
        exchange::{ask, read_fragment},
        local, resolve,
    },
    output::table,
};

/// Longest wait for what a holder has of an object.
const LOCATE_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for a fragment: the largest at 3 Mbit/s.
const GET_LIMIT: Duration = Duration::from_secs(60);

/// Check contributions: the shard in the data folder, and every fragment of every holder.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Names each damaged fragment with its holder and object, and fails if there is one or if fewer fragments are left than give the\ncontribution back.\n\nExample:\n  tributary datanet verify medical\n\nNext: its contributor's same `datanet contribute` command mends damaged and lost fragments without a transaction."
)]
pub(super) struct Args {
    /// Datanet, by name or number.
    datanet: String,
    /// Only this contribution, by its number in the registry; they count from 0.
    #[arg(long, value_name = "NUMBER")]
    contribution: Option<u64>,
    /// Overlay address to join through [default: from the configuration].
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
}

/// One contribution as found.
#[derive(Debug, Serialize)]
struct Row {
    contribution: u64,
    object: BlobId,
    /// Whether the shard in the data folder is the registered text; nothing if there is none.
    shard: Option<bool>,
    /// Intact fragments by index, with their holder and bytes.
    fragments: BTreeMap<u8, Found>,
    /// What is wrong, in words.
    problems: Vec<String>,
    /// Fragments nobody gave, out of how many.
    missing: Vec<u8>,
}

#[derive(Debug, Serialize)]
struct Found {
    holder: NodeId,
    digest: BlobId,
    bytes: usize,
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let chain = context.chain_reader().await?;
    let state = chain.state().await?;
    let (asset, _) = resolve(&state, &args.datanet)?;
    let wanted = chosen(&state, asset.id, args.contribution)?;
    let network = Network::join(context, &args.bootstrap).await?;
    let storing = network.operators(&state, 1).await.map(|(_, storing)| storing);
    let mut rows = Vec::new();
    if let Ok(storing) = &storing {
        let mut progress = context.output.progress("contributions", wanted.len() as u64);
        for (done, accepted) in (1..).zip(&wanted) {
            rows.push(look(context, &network.bulk, storing, accepted).await);
            progress.set(done);
        }
        progress.finish();
    }
    network.leave().await;
    storing?;
    let problems: Vec<&str> = rows.iter().flat_map(|row| &row.problems).map(String::as_str).collect();
    if !problems.is_empty() {
        bail!(
            "Datanet {}: {} of {} contributions are not whole:\n  {}",
            asset.id,
            rows.iter().filter(|row| !row.problems.is_empty()).count(),
            rows.len(),
            problems.join("\n  ")
        );
    }
    context.output.result(&rows, || describe(&rows))
}

async fn look(context: &Context, bulk: &Arc<BulkEndpoint>, storing: &Storing, accepted: &Accepted) -> Row {
    let object = accepted.object;
    let mut row =
        Row { contribution: accepted.number, object, shard: None, fragments: BTreeMap::new(), problems: Vec::new(), missing: Vec::new() };
    match local(&context.data, accepted) {
        Ok(here) => row.shard = here.map(|_| true),
        Err(error) => {
            row.shard = Some(false);
            row.problems.push(format!("contribution {} on this disk: {error:#}: remove the file and fetch it", accepted.number));
        }
    }
    let mut known: Option<ObjectManifest> = None;
    for (holder, addr) in storing {
        match located(bulk, *holder, *addr, object).await {
            Ok(Some((manifest, indices))) => {
                for index in indices {
                    fragment(bulk, (*holder, *addr), &manifest, index, &mut row).await;
                }
                known.get_or_insert(manifest);
            }
            Ok(None) => {}
            Err(problem) => row.problems.push(problem),
        }
    }
    let Some(manifest) = known else {
        row.problems.push(format!(
            "object {object}: no holder has its manifest: start its holders, or let its contributor run `datanet contribute` again"
        ));
        return row;
    };
    row.missing = (0..manifest.profile().total()).filter(|index| !row.fragments.contains_key(index)).collect();
    let needed = usize::from(manifest.profile().data());
    if row.fragments.len() < needed {
        row.problems.push(format!(
            "object {object}: {} intact fragments are left, {needed} are needed: start more of its holders, or let its contributor run `datanet contribute` again",
            row.fragments.len()
        ));
    }
    if manifest.text_root() != accepted.text_root {
        row.problems.push(format!(
            "object {object}: its manifest names text root {}, {} is registered",
            manifest.text_root(),
            accepted.text_root
        ));
    }
    row
}

/// What a holder says it has; nothing if it has nothing.
async fn located(
    bulk: &BulkEndpoint,
    holder: NodeId,
    addr: SocketAddr,
    object: BlobId,
) -> Result<Option<(ObjectManifest, Vec<u8>)>, String> {
    match ask(bulk, holder, addr, &Request::Locate { object }, LOCATE_LIMIT).await {
        Ok(Reply::Located { manifest, indices, .. }) => {
            let manifest = ObjectManifest::decode_as(object, &manifest).map_err(|error| format!("holder {holder}: {error}"))?;
            Ok(Some((manifest, indices)))
        }
        Ok(Reply::Refused(Refusal::Unknown { .. })) => Ok(None),
        Ok(Reply::Refused(refusal)) => Err(format!("holder {holder}, object {object}: {refusal}")),
        Ok(_) => Err(format!("holder {holder}, object {object}: it answered another question")),
        Err(error) => Err(format!("holder {holder}, object {object}: {error}")),
    }
}

/// Fetches one fragment and hashes it.
async fn fragment(bulk: &BulkEndpoint, (holder, addr): (NodeId, SocketAddr), manifest: &ObjectManifest, index: u8, row: &mut Row) {
    let object = manifest.id();
    let place = format!("holder {holder}, object {object}, fragment {index}");
    match timeout(GET_LIMIT, read_fragment(bulk, holder, addr, manifest, index)).await {
        Ok(Ok(good)) => {
            let found = Found { holder, digest: good.blake3(), bytes: good.bytes().len() };
            row.fragments.insert(index, found);
        }
        Ok(Err(StreamEnd::Wrong(Wrong { group, expected, got, .. }))) => {
            row.problems.push(format!("{place}: damaged, it sent {got} from group {group} on, the manifest names {expected}"));
        }
        Ok(Err(StreamEnd::Refused(refusal))) => row.problems.push(format!("{place}: {refusal}")),
        Ok(Err(StreamEnd::OffTopic)) => row.problems.push(format!("{place}: it answered another question")),
        Ok(Err(StreamEnd::Lost | StreamEnd::Whole)) => row.problems.push(format!("{place}: it broke off")),
        Err(_) => row.problems.push(format!("{place}: it took more than {} s", GET_LIMIT.as_secs())),
    }
}

fn describe(rows: &[Row]) -> String {
    let line = |row: &Row| {
        let shard = row.shard.map_or("not here", |_| "intact");
        let missing = row.missing.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        vec![row.contribution.to_string(), shard.to_owned(), row.fragments.len().to_string(), missing, row.object.to_string()]
    };
    let mut text =
        table(&["contribution", "shard here", "intact fragments", "not found", "object"], &rows.iter().map(line).collect::<Vec<_>>());
    let line = |row: &Row, (index, found): (&u8, &Found)| {
        vec![row.contribution.to_string(), index.to_string(), found.holder.to_string(), found.bytes.to_string(), found.digest.to_string()]
    };
    let fragments: Vec<_> = rows.iter().flat_map(|row| row.fragments.iter().map(|entry| line(row, entry))).collect();
    text.push_str("\n\n");
    text.push_str(&table(&["contribution", "fragment", "holder", "bytes", "digest"], &fragments));
    text
}
