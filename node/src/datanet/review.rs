//! A contributor's talk with the gate of a Datanet: shows what was committed to, and checks what the gate signed.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use chain_bridge::registry::State;
use p2p::stream::FrameStream;
use storage::{
    datanet::Report,
    proto::gate::{Open, PIECE_BYTES, REPLY_BYTES_MAX, Reply},
};
use tokio::time::timeout;
use types::{
    contribution::GateReport,
    key::{Domains, Signed, recover},
};

use crate::service::GATE_TAG;

/// How long the gate may take to see the commitment and to have a turn free.
const PROCEED_WAIT: Duration = Duration::from_secs(100);
/// How long it may take to look: it may have to fetch what it compares with.
const REVIEW_WAIT: Duration = Duration::from_secs(260);

/// Shows the shard to the gate at the other end; returns its report and the signed verdict, both checked.
///
/// # Errors
/// That the gate refuses to look, with its reason; that the stream broke; that what it signed is not about this contribution.
pub async fn review(
    mut stream: FrameStream,
    open: &Open,
    shard: &[u8],
    domains: &Domains,
    state: &State,
) -> anyhow::Result<(Report, Signed<GateReport>)> {
    let mut frame = open.encode();
    frame.insert(0, GATE_TAG);
    stream.send(&frame).await.context("the gate's stream")?;
    let Reply::Proceed = next(&mut stream, PROCEED_WAIT).await? else { bail!("the gate answered something else than to proceed") };
    for piece in shard.chunks(PIECE_BYTES) {
        if stream.send(piece).await.is_err() {
            // What a gate that stopped reading has said is still to be read.
            break;
        }
    }
    let Reply::Reviewed { report, verdict } = next(&mut stream, REVIEW_WAIT).await? else {
        bail!("the gate answered something else than its report")
    };
    let report = open.check(&report, &verdict.document).context("what the gate signed does not stand")?;
    let signer = recover(domains, &verdict.document, &verdict.signature)?;
    ensure!(state.is_reviewer(open.datanet, signer), "the verdict is signed by {signer}, who does not review Datanet {}", open.datanet);
    Ok((report, verdict))
}

async fn next(stream: &mut FrameStream, wait: Duration) -> anyhow::Result<Reply> {
    let frame = timeout(wait, stream.recv(REPLY_BYTES_MAX))
        .await
        .with_context(|| format!("the gate did not answer within {} s", wait.as_secs()))?;
    match Reply::decode(&frame.context("the gate's stream")?.context("the gate ended the stream")?)? {
        Reply::Refused { reason } => bail!("the gate turns the contribution away: {reason}"),
        answer => Ok(answer),
    }
}
