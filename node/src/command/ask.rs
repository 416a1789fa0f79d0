//! `tributary ask`: a question, a streamed answer, its sources, its price, its receipt.

use std::{io::Write as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use chain_bridge::registry::State;
use clap::Args as ClapArgs;
use inference::proto::{
    message::Turn,
    router::{self, Provider},
};
use p2p::{
    client::{Client, Limits},
    identity::NodeSeed,
    overlay::OverlayHandle,
    proto::ads::{Ad, Services},
};
use serde::Serialize;
use types::{
    amount::Amount,
    id::{AssetVersion, Hash32, NodeId},
    manifest::{AssetKind, Manifest},
    quote::Class,
    request::SamplingRule,
    text::canonical_document,
};

use super::Context;
use crate::{
    ask::{Abandoned, Answered, Asker, Candidate, Event, Question},
    data::write_atomic,
    purse::{LaneTerms, Purse},
    service::settlement::loopback_any,
};

/// Blocks a new lane stands: a day at one block per second.
const LANE_BLOCKS: u64 = 86_400;
/// How long ads of providers are awaited.
const ADS_WAIT: Duration = Duration::from_secs(15);
/// After the first fitting ad, how long others may still come, so that price decides rather than arrival.
const ADS_SETTLE: Duration = Duration::from_millis(300);

/// Ask a question; pay per token as the answer arrives; keep the receipt.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  tributary ask --with medical \"What is ataxia?\"\n  tributary ask --with 4@1 --limit \"0.01 OPEN\" --json \"What is gout?\" > answer.json\n  tributary receipt verify RECEIPT.json      checks the receipt offline\n\nThe wallet needs a deposit first: tributary wallet deposit \"1 OPEN\". A node that dies is replaced by another one; its tokens\nare never billed twice."
)]
pub struct Args {
    /// The question.
    question: String,
    /// Adapter or base to ask: a name, an asset number, or ASSET@VERSION.
    #[arg(long, value_name = "ASSET")]
    with: String,
    /// Instructions ahead of the question.
    #[arg(long)]
    system: Option<String>,
    /// Most output tokens.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    tokens: u32,
    /// Most that this answer may cost.
    #[arg(long, default_value = "0.02 OPEN")]
    limit: Amount,
    /// Most wei per 1,000 input tokens.
    #[arg(long, default_value = "0.01 OPEN")]
    rate_in: Amount,
    /// Most wei per 1,000 output tokens.
    #[arg(long, default_value = "0.02 OPEN")]
    rate_out: Amount,
    /// Temperature in thousandths; 0 takes the likeliest token.
    #[arg(long, default_value_t = 0)]
    temperature: u32,
    /// Publish the transcript with the receipt, rather than keep it for drawn checkers.
    #[arg(long)]
    open: bool,
    /// Overlay address to join through [default: from the configuration].
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
    /// Where to write the receipt's bundle [default: receipts/ in the data folder].
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    answer: String,
    tokens: usize,
    ttft_ms: u64,
    tokens_per_s: f64,
    node: NodeId,
    fee_wei: Amount,
    sources: Vec<Source>,
    abandoned: Vec<Abandoned>,
    receipt: PathBuf,
    reason: types::receipt::Reason,
    check: &'static str,
}

/// One paid run of words.
#[derive(Debug, Serialize)]
pub struct Source {
    /// The words.
    pub quote: String,
    /// Who is paid.
    pub contributor: types::id::Address,
    /// The Datanet.
    pub datanet: AssetVersion,
    /// Weight in 1/256 bit.
    pub weight: u32,
    /// What it earns of this answer.
    pub wei: Amount,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let mut config = context.config()?;
    if !args.bootstrap.is_empty() {
        config.bootstrap.clone_from(&args.bootstrap);
    }
    let account = context.account()?;
    let chain = context.chain_reader().await?;
    let state = chain.state().await?;
    let version = resolve(&state, &args.with)?;
    let manifest = state.manifest(version)?;
    let overlay = context.light_overlay(&config).await?;
    let purse = Purse::open(context.data.path())?;
    let question = question(&args, manifest, purse.next_nonce()?)?;
    let candidates = candidates(&overlay, &state, &question.manifest, args.tokens, question.nonce).await?;
    let head = chain.head().await?.block;
    let asker = Asker {
        account,
        domains: chain.deployment().domains(),
        purse,
        receipts: context.data.receipts(),
        quic: Client::bind(loopback_any(candidates[0].addr), &NodeSeed::generate(), Limits::default())?,
        lanes: LaneTerms { cap: Amount(args.limit.0.saturating_mul(50)), expiry: head.number + LANE_BLOCKS, now: head.number },
    };
    let is_json = context.output.is_json;
    let mut show = |event: Event<'_>| match event {
        Event::Token(bytes, _) if !is_json => {
            let mut out = std::io::stdout().lock();
            drop(out.write_all(&shown(bytes)).and_then(|()| out.flush()));
        }
        Event::Abandoned(abandoned) if !is_json => eprintln!("\n[{} is gone ({}); continuing elsewhere]", abandoned.node, abandoned.reason),
        _ => {}
    };
    let answered = asker.ask(&question, &candidates, &mut show).await;
    overlay.shutdown().await;
    let answered = answered?;
    let path = keep(&args, &answered);
    let printed = printed(&answered, path, check_label(&state))?;
    context.output.result(&printed, || describe(&printed))
}

/// A token as a terminal may see it: the node chose these bytes, so nothing that a terminal obeys passes. The answer that is kept is canonical.
fn shown(token: &[u8]) -> Vec<u8> {
    token.iter().copied().filter(|byte| matches!(byte, b'\n' | b'\t') || !byte.is_ascii_control()).collect()
}

/// The newest version that a name, a number or ASSET@VERSION means.
pub fn resolve(state: &State, text: &str) -> anyhow::Result<AssetVersion> {
    if let Ok(version) = super::adapter::parse_version(text) {
        return Ok(version);
    }
    let is_meant = |asset: &&chain_bridge::registry::state::Asset| {
        let is_answering = matches!(asset.kind, AssetKind::Base | AssetKind::Adapter);
        is_answering && (asset.id.0.to_string() == text || asset.uri.rsplit(':').next() == Some(text))
    };
    let found: Vec<_> = state.assets().filter(is_meant).collect();
    match found.as_slice() {
        [asset] => state.newest(asset.id).with_context(|| format!("{text} has no version that is not frozen")),
        [] => {
            let known: Vec<String> = state
                .assets()
                .filter(|a| matches!(a.kind, AssetKind::Base | AssetKind::Adapter))
                // Anybody may register a name: what a terminal would obey is shown escaped.
                .map(|a| format!("{} ({})", a.uri.rsplit(':').next().unwrap_or_default().escape_debug(), a.id))
                .collect();
            bail!(
                "no base or adapter is called {text:?}: registered are {}",
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            )
        }
        _ => bail!(
            "{} assets are called {text:?}: use its number, one of {}",
            found.len(),
            found.iter().map(|a| a.id.to_string()).collect::<Vec<_>>().join(", ")
        ),
    }
}

fn question(args: &Args, manifest: Manifest, nonce: u64) -> anyhow::Result<Question> {
    let turn = |role, content: &str| -> anyhow::Result<Turn> { Ok(Turn { role, content: canonical_document(content.as_bytes())? }) };
    let mut turns = Vec::new();
    if let Some(system) = &args.system {
        turns.push(turn(1, system).context("--system")?);
    }
    turns.push(turn(2, &args.question).context("the question")?);
    Ok(Question {
        nonce,
        turns,
        manifest,
        class: if args.open { Class::Open } else { Class::Checked },
        sampling: SamplingRule { temperature_milli: args.temperature, top_k: 0, top_p_ppm: 0 },
        tokens_max: args.tokens,
        spending_limit: args.limit,
        rates_max: (args.rate_in, args.rate_out),
    })
}

/// Nodes whose signed ads offer every asset of the manifest and whose account is registered for that node, in the order to ask them.
pub async fn candidates(
    overlay: &OverlayHandle,
    state: &State,
    manifest: &Manifest,
    tokens: u32,
    nonce: u64,
) -> anyhow::Result<Vec<Candidate>> {
    let fits = |ad: &Ad| {
        serves(ad, manifest)
            && state.operator(ad.account).is_some_and(|operator| operator.node == ad.node && operator.active > Amount::ZERO)
    };
    let waited = overlay.wait_ads(|ads| ads.iter().any(|signed| fits(signed.ad())), ADS_WAIT).await;
    waited.context("no registered node offers this: give a --bootstrap address of a running node, or wait until one serves it")?;
    tokio::time::sleep(ADS_SETTLE).await;
    let ads = overlay.ads().await?;
    let fitting: Vec<&Ad> = ads.iter().map(|signed| signed.ad()).filter(|ad| fits(ad)).collect();
    let provider = |ad: &&Ad| Provider {
        node: ad.node,
        account: ad.account,
        rate_in: ad.rin,
        rate_out: ad.rout,
        queue: ad.queue,
        ttft_ms: ad.ttft_ms,
        seen_ttft_ms: None,
    };
    let ordered = router::order(fitting.iter().map(provider).collect(), 100, tokens, nonce);
    let candidate = |provider: Provider| {
        let ad = fitting.iter().find(|ad| ad.node == provider.node)?;
        Some(Candidate { node: ad.node, account: ad.account, addr: ad.client_addr })
    };
    Ok(ordered.into_iter().filter_map(candidate).collect())
}

fn serves(ad: &Ad, manifest: &Manifest) -> bool {
    let has = |list: &[p2p::proto::ads::AdAsset], version: AssetVersion, content: Hash32| {
        list.iter().any(|asset| asset.asset == version.asset && asset.version == version.version && asset.hash == content)
    };
    ad.services.has(Services::INFERENCE)
        && manifest.assets.iter().all(|asset| match asset.kind {
            AssetKind::Base => has(&ad.bases, asset.version, Hash32(asset.content.0)),
            AssetKind::Adapter => has(&ad.adapters, asset.version, Hash32(asset.content.0)),
            AssetKind::Agent | AssetKind::Datanet => true,
        })
}

/// A copy where the caller wants one; the bundle itself was kept before the lane's books moved, so a mistyped path loses nothing.
fn keep(args: &Args, answered: &Answered) -> PathBuf {
    let Some(path) = &args.receipt else { return answered.kept.clone() };
    match write_atomic(path, answered.bundle.to_json().as_bytes(), 0o600) {
        Ok(()) => path.clone(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the receipt could not be written there; it is kept in the data folder");
            answered.kept.clone()
        }
    }
}

/// The paid spans of an answer with what each earns.
pub fn sources(bundle: &attribution::bundle::Bundle) -> anyhow::Result<Vec<Source>> {
    let receipt = &bundle.receipt.document;
    let parts = attribution::shares::parts(receipt, bundle.quote.document.protocol_fee, &bundle.manifest)?;
    let source = |(number, span): (usize, &types::receipt::Span)| {
        let (start, length) = (usize::try_from(span.start)?, usize::from(span.length));
        let quote = bundle.answer.get(start..start + length).context("a span lies outside the answer")?;
        let code = types::split::Part::Span(u16::try_from(number)?).code();
        let wei = parts.iter().find(|(part, _)| part.code() == code).map_or(Amount::ZERO, |(_, wei)| *wei);
        let datanet = bundle.manifest.datanets.get(usize::from(span.datanet)).context("a span names no declared Datanet")?.version;
        Ok(Source { quote: quote.to_owned(), contributor: span.payee, datanet, weight: span.weight, wei })
    };
    receipt.spans.iter().enumerate().map(source).collect()
}

/// What can be said of an answer's checks: with fewer than five eligible checkers beside the answering node nobody may be drawn (PROTOCOL section 9).
pub fn check_label(state: &State) -> &'static str {
    let eligible = state.operators().filter(|operator| operator.active > Amount::ZERO).count();
    if eligible > 5 { "open to checks" } else { "unchecked" }
}

fn printed(answered: &Answered, receipt: PathBuf, check: &'static str) -> anyhow::Result<Printed> {
    let bundle = &answered.bundle;
    Ok(Printed {
        answer: answered.text.clone(),
        tokens: answered.tokens.len(),
        ttft_ms: answered.ttft_ms,
        tokens_per_s: answered.tokens_per_s,
        node: answered.node,
        fee_wei: bundle.receipt.document.fee,
        sources: sources(bundle)?,
        abandoned: answered.abandoned.clone(),
        receipt,
        reason: answered.reason,
        check,
    })
}

fn describe(printed: &Printed) -> String {
    let mut text = format!(
        "\n\n{} tokens, first after {} ms, {:.1} tokens/s, {} ({} wei), {}\n",
        printed.tokens,
        printed.ttft_ms,
        printed.tokens_per_s,
        printed.fee_wei.in_open(),
        printed.fee_wei,
        printed.check,
    );
    for source in &printed.sources {
        text.push_str(&format!(
            "  {:?}\n    contributed by {} to Datanet {}, earns {} wei\n",
            source.quote, source.contributor, source.datanet, source.wei
        ));
    }
    if printed.sources.is_empty() {
        text.push_str(
            "  no run of words stands in a declared Datanet: no contributor is paid; the data share goes to treasuries or insurance\n",
        );
    }
    text.push_str(&format!("receipt {}\n\nNext: tributary receipt verify {}", printed.receipt.display(), printed.receipt.display()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_sees_no_command_of_a_node() {
        assert_eq!(shown(b"a\x1b[2Jb\r\x07\tc\nd\x7f\xc3\xa9"), "a[2Jb\tc\nd\u{e9}".as_bytes());
    }
}
