//! The lines of a posted payout for a command: from the own data folder, from the poster, from the poster's calldata.

use anyhow::Context as _;
use attribution::epoch::replay::Line;
use chain_bridge::{
    availability::SCAN_BLOCKS_MAX,
    client::ChainClient,
    registry::{State, state::Payout},
};
use p2p::{
    client::{Client, Limits},
    identity::NodeSeed,
    overlay::OverlayHandle,
};
use types::id::NodeId;

use super::export::address_of;
use crate::{
    command::{Context, talk::joining},
    payouts::Payouts,
    service::settlement::{
        lines::{FromChain, Tried, fetch, from_chain},
        loopback_any,
    },
};

/// Leaves and parts of one posted tree taken: those of as many receipts have ten parts each, a wrong tree any number.
const ROWS_MAX: usize = 1 << 22;
/// Blocks after which it is told how far the chain was read.
const TOLD_BLOCKS: u64 = 128;

/// The lines of a payout from the first place that has them. `from_poster` is what asking its poster comes to.
///
/// # Errors
/// Every place that was tried, with what it said.
pub async fn find(
    context: &Context,
    client: &ChainClient,
    state: &State,
    (epoch, posted): (u64, &Payout),
    from_poster: impl Future<Output = anyhow::Result<Vec<Line>>>,
) -> anyhow::Result<Vec<Line>> {
    let mut tried = Tried::default();
    let folder = context.data.payouts();
    match Payouts::new(&folder).lines(posted.root).await {
        Ok(Some(lines)) => return Ok(lines),
        Ok(None) => tried.note(folder.display(), "not there"),
        Err(error) => tried.note(folder.display(), format!("{error:#}")),
    }
    match from_poster.await {
        Ok(lines) => return Ok(lines),
        Err(error) => tried.note(format!("its poster {}", posted.poster), format!("{error:#}")),
    }
    context.output.note(&format!(
        "epoch {epoch}: its poster does not show the tree; reading its calldata in up to {SCAN_BLOCKS_MAX} blocks before the posting"
    ));
    let read = from_chain(client, state, epoch, posted, ROWS_MAX, |looked| {
        if looked.blocks % TOLD_BLOCKS == 0 {
            context.output.note(&format!("{} of {} blocks read", looked.blocks, looked.most));
        }
    });
    match read.await.and_then(FromChain::found) {
        Ok(lines) => {
            context.output.note(&format!("epoch {epoch}: the lines were read from its poster's calldata"));
            Ok(lines)
        }
        Err(error) => {
            tried.note("the chain's calldata", format!("{error:#}"));
            Err(tried.nowhere(epoch))
        }
    }
}

/// The lines of a payout from its poster.
///
/// # Errors
/// What keeps them from coming.
pub async fn from_poster(overlay: &OverlayHandle, state: &State, epoch: u64, posted: &Payout) -> anyhow::Result<Vec<Line>> {
    let operator: NodeId = state.operator(posted.poster).context("the poster has no node")?.node;
    let addr = address_of(overlay, operator).await?;
    let client = Client::bind(loopback_any(addr), &NodeSeed::generate(), Limits::default())?;
    let connection = client.connect(addr, Some(operator)).await?;
    let lines = fetch(&connection, epoch, posted, ROWS_MAX).await;
    client.close(p2p::stream::code::SHUTDOWN).await;
    lines
}

/// The same, joining the network for it.
///
/// # Errors
/// What keeps them from coming.
pub async fn from_poster_alone(
    context: &Context,
    state: &State,
    epoch: u64,
    posted: &Payout,
    bootstrap: Vec<String>,
) -> anyhow::Result<Vec<Line>> {
    let overlay = context.light_overlay(&joining(context, bootstrap)?).await?;
    let found = from_poster(&overlay, state, epoch, posted).await;
    overlay.shutdown().await;
    found
}
