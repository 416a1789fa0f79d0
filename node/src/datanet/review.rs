//! Talk with the gate of a Datanet: a contributor shows what was committed to and checks what the gate signed; reviewers and members ask one thing at a time.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use chain_bridge::registry::State;
use p2p::stream::FrameStream;
use storage::{
    datanet::{Report, review::ReviewAct},
    erasure::{OBJECT_BYTES_MAX, Profile},
    proto::gate::{Ask, Open, PIECE_BYTES, REPLY_BYTES_MAX, Reply, SealRight},
};
use tokio::time::timeout;
use types::{
    contribution::GateReport,
    id::Address,
    key::{Domains, Signed, recover},
};

use crate::{service::GATE_TAG, words};

/// How long the gate may take to see the commitment, and to say at once what became of a contribution that waited.
const PROCEED_WAIT: Duration = Duration::from_secs(290);
/// How long it may take once it has the shard: for a turn, to fetch what it compares with, and for the block that draws.
const REVIEW_WAIT: Duration = Duration::from_secs(390);
/// How long any other answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// What a gate made of a contribution.
#[derive(Debug)]
pub enum Reviewed {
    /// It has decided.
    Done {
        /// Why.
        report: Report,
        /// What the registry takes.
        verdict: Box<Signed<GateReport>>,
        /// The code of the object that the verdict names, if the contribution is accepted.
        profile: Option<Profile>,
        /// What seals it, if the Datanet is private.
        seal: Option<SealRight>,
    },
    /// It waits for two reviewers.
    Waits {
        /// Why.
        report: Report,
        /// Who approved it so far.
        approved_by: Vec<Address>,
    },
}

/// Shows the shard to the gate at the other end, unless it was shown before, and calls `sent` when that has all of it; returns what the gate says of it, checked.
///
/// # Errors
/// That the gate refuses to look, with its reason; that the stream broke; that what it signed is not about this contribution.
pub async fn review(
    mut stream: FrameStream,
    open: &Open,
    shard: &[u8],
    domains: &Domains,
    state: &State,
    sent: impl FnOnce(),
) -> anyhow::Result<Reviewed> {
    say(&mut stream, &Ask::Offer(open.clone())).await?;
    let reply = match next(&mut stream, PROCEED_WAIT).await? {
        Reply::Proceed => {
            for piece in shard.chunks(PIECE_BYTES) {
                if stream.send(piece).await.is_err() {
                    // What a gate that stopped reading has said is still to be read.
                    break;
                }
            }
            sent();
            next(&mut stream, REVIEW_WAIT).await?
        }
        before => before,
    };
    match reply {
        Reply::Reviewed { report, verdict, code, seal } => {
            let report = open.check(&report, &verdict.document).context("what the gate signed does not stand")?;
            let signer = recover(domains, &verdict.document, &verdict.signature)?;
            let may_review = |account| state.is_reviewer(open.datanet, account);
            ensure!(may_review(signer), "the verdict is signed by {signer}, who does not review Datanet {}", open.datanet);
            if report.accepted {
                report
                    .approved_by(domains, (open.datanet, open.commitment()), may_review)
                    .context("the gate accepted what needs two reviewers")?;
            }
            let profile = code.map(|(data, total)| Profile::new(data, total)).transpose().context("the gate's code")?;
            Ok(Reviewed::Done { report, verdict: Box::new(verdict), profile, seal })
        }
        Reply::Waiting { report, approved_by } => {
            let report: Report = serde_json::from_str(&report).context("the gate's report")?;
            let is_same = report.text_root == open.text_root && report.contributor == open.contributor && report.can_wait();
            ensure!(is_same, "the gate says that another contribution waits");
            Ok(Reviewed::Waits { report, approved_by })
        }
        _ => bail!("the gate answered something else than its report"),
    }
}

/// Asks one thing.
///
/// # Errors
/// The gate's refusal; that the stream broke.
pub async fn ask(mut stream: FrameStream, ask: &Ask) -> anyhow::Result<Reply> {
    say(&mut stream, ask).await?;
    next(&mut stream, ANSWER_WAIT).await
}

/// Asks for a contribution that waits: its report, its shard, and who approved it so far.
///
/// # Errors
/// As [`ask`]; that the gate sends more than it announced, or than a shard can have.
pub async fn show(mut stream: FrameStream, act: Signed<ReviewAct>) -> anyhow::Result<(Report, Vec<u8>)> {
    say(&mut stream, &Ask::Review { act, reason: String::new() }).await?;
    let Reply::Shown { report, shard_bytes } = next(&mut stream, ANSWER_WAIT).await? else {
        bail!("the gate answered something else than the contribution")
    };
    ensure!(
        shard_bytes <= OBJECT_BYTES_MAX as u64,
        "the gate announces a shard of {shard_bytes} bytes, at most {OBJECT_BYTES_MAX} are one"
    );
    let report: Report = serde_json::from_str(&report).context("the gate's report")?;
    let mut shard = Vec::new();
    while (shard.len() as u64) < shard_bytes {
        let piece = timeout(ANSWER_WAIT, stream.recv(PIECE_BYTES)).await.context("the gate stopped sending")??;
        shard.extend_from_slice(&piece.with_context(|| format!("the gate ended after {} of {shard_bytes} bytes", shard.len()))?);
    }
    ensure!(shard.len() as u64 == shard_bytes, "{} bytes came, {shard_bytes} were announced", shard.len());
    Ok((report, shard))
}

async fn say(stream: &mut FrameStream, ask: &Ask) -> anyhow::Result<()> {
    let mut frame = ask.encode();
    frame.insert(0, GATE_TAG);
    timeout(ANSWER_WAIT, stream.send(&frame)).await.context("the gate reads nothing")?.context("the gate's stream")
}

async fn next(stream: &mut FrameStream, wait: Duration) -> anyhow::Result<Reply> {
    let frame = timeout(wait, stream.recv(REPLY_BYTES_MAX))
        .await
        .with_context(|| format!("the gate did not answer within {} s", wait.as_secs()))?;
    match Reply::decode(&frame.context("the gate's stream")?.context("the gate ended the stream")?)? {
        Reply::Refused { reason } => bail!("the gate turns it away: {}", words::line(&reason)),
        answer => Ok(answer),
    }
}
