//! A contributor's talk with the gate of a Datanet: shows what was committed to, and checks what the gate signed.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use chain_bridge::registry::State;
use p2p::stream::FrameStream;
use storage::datanet::Report;
use tokio::time::timeout;
use types::{
    contribution::{GateReport, commitment},
    key::{Domains, Signed, recover},
    merkle::keccak,
};

use super::message::{FromGate, GATE_FRAME_MAX, Open, PIECE_BYTES, decode, encode};
use crate::service::GATE_TAG;

/// How long the gate may take to see the commitment.
const PROCEED_WAIT: Duration = Duration::from_secs(40);
/// How long it may take to look: it may have to fetch what it compares with.
const REVIEW_WAIT: Duration = Duration::from_secs(260);

/// Shows the shard to the gate at the other end; returns its report and the signed verdict, both checked.
///
/// # Errors
/// That the gate refuses to look, with its reason; that the stream broke; that what it signed is not about this contribution.
pub async fn review(mut stream: FrameStream, open: &Open, shard: &[u8], domains: &Domains, state: &State) -> anyhow::Result<(Report, Signed<GateReport>)> {
    let mut frame = encode(open);
    frame.insert(0, GATE_TAG);
    stream.send(&frame).await.context("the gate's stream")?;
    let FromGate::Proceed = next(&mut stream, PROCEED_WAIT).await? else { bail!("the gate answered something else than to proceed") };
    for piece in shard.chunks(PIECE_BYTES) {
        if stream.send(piece).await.is_err() {
            // What a gate that stopped reading has said is still to be read.
            break;
        }
    }
    let FromGate::Reviewed { report, verdict } = next(&mut stream, REVIEW_WAIT).await? else { bail!("the gate answered something else than its report") };
    let report = check(open, &report, &verdict, domains, state)?;
    Ok((report, verdict))
}

async fn next(stream: &mut FrameStream, wait: Duration) -> anyhow::Result<FromGate> {
    let frame = timeout(wait, stream.recv(GATE_FRAME_MAX)).await.with_context(|| format!("the gate did not answer within {} s", wait.as_secs()))?;
    match decode(&frame.context("the gate's stream")?.context("the gate ended the stream")?)? {
        FromGate::Refused { reason } => bail!("the gate turns the contribution away: {reason}"),
        answer => Ok(answer),
    }
}

/// The report, if the verdict is about this contribution, covers the report, and is signed by a reviewer.
fn check(open: &Open, report: &str, verdict: &Signed<GateReport>, domains: &Domains, state: &State) -> anyhow::Result<Report> {
    let signed = &verdict.document;
    let expected = commitment(open.salt, open.text_root, open.contributor);
    ensure!(signed.datanet == open.datanet && signed.text_root == open.text_root && signed.commitment == expected, "the gate signed a verdict about another contribution");
    ensure!(keccak(&[report.as_bytes()]) == signed.report, "the gate's report is not the one its verdict covers");
    let report: Report = serde_json::from_str(report).context("the gate's report does not parse")?;
    ensure!(report.accepted == signed.is_accepted, "the gate's report and its verdict contradict each other");
    let signer = recover(domains, signed, &verdict.signature)?;
    ensure!(state.is_reviewer(open.datanet, signer), "the verdict is signed by {signer}, who does not review Datanet {}", open.datanet);
    Ok(report)
}
