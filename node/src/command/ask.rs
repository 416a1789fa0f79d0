//! `tributary ask`: a question, a streamed answer, its sources, its price, its receipt; or, under a key that was answered, the same again.

mod repeat;

use std::{io::Write as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use chain_bridge::registry::State;
use clap::Args as ClapArgs;
use inference::proto::{
    draft::Draft,
    message::Turn,
    once::Known,
    router::{self, Provider},
    spending::Caps,
};
use p2p::{
    client::{Client, Limits},
    identity::NodeSeed,
    overlay::OverlayHandle,
    proto::ads::{Ad, Services},
};
use serde::{Deserialize, Serialize};
use types::{
    amount::Amount,
    id::{Address, AssetVersion, Hash32, NodeId},
    key::Account,
    manifest::{AssetKind, Manifest},
    quote::Class,
    request::SamplingRule,
    text::canonical_document,
};

use self::repeat::Once;
use super::{Context, Failed, wallet::session};
use crate::{
    ask::{Abandoned, Answered, Asker, Candidate, Event, Question, Unanswered},
    data::write_atomic,
    notice::Notice,
    purse::{LaneTerms, Purse},
    service::settlement::loopback_any,
};

/// Most that an answer may cost if nothing else is said: 0.02 OPEN.
const MAX_FEE: Amount = Amount(20_000_000_000_000_000);
/// Blocks a new lane stands: a day at one block per second.
const LANE_BLOCKS: u64 = 86_400;
/// How long ads of providers are awaited.
const ADS_WAIT: Duration = Duration::from_secs(15);
/// After the first fitting ad, how long others may still come, so that price decides rather than arrival.
const ADS_SETTLE: Duration = Duration::from_millis(300);

/// Ask a question; pay per token as the answer arrives; keep the receipt.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  tributary ask --with medical \"What is ataxia?\"\n  tributary ask --with 4@1 --limit \"0.01 OPEN\" --json \"What is gout?\" > answer.json\n  tributary receipt verify RECEIPT.json      checks the receipt offline\n\nThe wallet needs a deposit first: tributary wallet deposit \"1 OPEN\". A node that dies is replaced by another one; its tokens\nare never billed twice. What may be spent is bounded by --max-fee, by [spending] in tributary.toml (per_request, per_day, per_key) and by --session.

A program that may be run again after a crash or a time-out gives --idempotency-key: the same key with the same question returns the answer and
receipt that were kept, or goes on with the request that was begun, and pays once. Keys are remembered for a day, 4096 at most."
)]
pub struct Args {
    /// The question.
    question: String,
    /// Agent, adapter or base to ask: a name, an asset number, or ASSET@VERSION.
    #[arg(long, value_name = "ASSET")]
    with: String,
    /// Instructions ahead of the question.
    #[arg(long)]
    system: Option<String>,
    /// Most output tokens.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    tokens: u32,
    /// Most that this answer may cost [default: 0.02 OPEN, or the cap per request if that is less].
    #[arg(long, visible_alias = "limit")]
    max_fee: Option<Amount>,
    /// Session whose key signs lanes and vouchers (`tributary wallet session add`); the request itself is signed by the wallet.
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// Ask once under this key: the same question again gives the same answer and is not paid again.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
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
#[derive(Debug, Serialize, Deserialize)]
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
    check: String,
    /// What was not billed on the way, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    notice: Option<Notice>,
    /// Whether this was answered before, under the same idempotency key: then nothing was asked or paid now.
    #[serde(default)]
    is_repeated: bool,
}

/// What is printed where there is no answer that is billed.
#[derive(Debug, Serialize)]
struct Missed {
    error: String,
    /// What was received.
    answer: String,
    /// Whether that is all of it.
    is_whole: bool,
    notice: Notice,
    notice_file: Option<PathBuf>,
}

/// One paid run of words.
#[derive(Debug, Serialize, Deserialize)]
pub struct Source {
    /// The words.
    pub quote: String,
    /// Who is paid.
    pub contributor: Address,
    /// The Datanet.
    pub datanet: AssetVersion,
    /// Weight in 1/256 bit.
    pub weight: u32,
    /// What it earns of this answer.
    pub wei: Amount,
}

/// Who signs, and what that and the configuration allow.
struct Means {
    account: Account,
    signer: Account,
    caps: Caps,
    /// Block after which new lanes cannot be collected.
    expiry: u64,
    now: u64,
}

impl Means {
    fn max_fee(&self, args: &Args) -> Amount {
        args.max_fee.unwrap_or_else(|| self.caps.per_request.map_or(MAX_FEE, |cap| cap.min(MAX_FEE)))
    }
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
    let domains = chain.deployment().domains();
    let (once, known) = match &args.idempotency_key {
        Some(key) => Once::open(context, &domains, key, repeat::content(&args, account.address()))?,
        None => (None, Known::New),
    };
    let begun = match known {
        Known::Answered(answer) => return again(context, &answer),
        Known::Begun(record) => Some(*record),
        Known::New => None,
    };
    let manifest = match &begun {
        Some(record) => record.manifest.clone(),
        None => state.manifest(resolve(&state, &args.with)?)?,
    };
    let means = means(context, &config.spending, account, &args, &chain).await?;
    let overlay = context.light_overlay(&config).await?;
    let purse = Purse::open(context.data.path())?;
    let nonce = match &begun {
        Some(record) => record.draft.request().document.nonce,
        None => purse.next_nonce()?,
    };
    let question = question(&args, manifest, nonce, means.max_fee(&args))?;
    let candidates = candidates(&overlay, &state, &question.manifest, args.tokens, means.account.address()).await?;
    let asker = Asker {
        account: means.account,
        signer: means.signer,
        caps: means.caps,
        domains,
        purse,
        receipts: context.data.receipts(),
        failures: context.data.failures(),
        quic: Client::bind(loopback_any(candidates[0].addr), &NodeSeed::generate(), Limits::default())?,
        lanes: LaneTerms { cap: Amount(question.spending_limit.0.saturating_mul(50)), expiry: means.expiry, now: means.now },
    };
    let is_json = context.output.is_json;
    let begun = begun.map(|record| record.draft);
    if let Some(draft) = begun.as_ref().filter(|_| !is_json) {
        show(draft.bytes());
    }
    let mut on_event = |event: Event<'_>| match event {
        Event::Token(bytes, _) if !is_json => show(bytes),
        Event::Abandoned(abandoned) if !is_json => eprintln!("\n[{} is gone ({}); continuing elsewhere]", abandoned.node, abandoned.reason),
        _ => {}
    };
    let draft = match begun {
        Some(draft) => draft,
        None => asker.sign(&question)?,
    };
    let mut keep = |draft: &Draft| once.as_ref().map_or(Ok(()), |once| once.keep(&question.manifest, draft));
    let answered = asker.go_on(&question, draft, &candidates, &mut keep, &mut on_event).await;
    overlay.shutdown().await;
    let answered = answered.or_else(|error| missed(context, error))?;
    let path = keep_copy(&args, &answered);
    let printed = printed(&answered, path, check_label(&state))?;
    if let Some(once) = &once {
        once.answered(&serde_json::to_string(&printed)?)?;
    }
    context.output.result(&printed, || describe(&printed))
}

/// Who signs, and what may be spent: the session must be live on the chain, and its cap holds beside the configuration's.
async fn means(
    context: &Context,
    spending: &crate::config::Spending,
    account: Account,
    args: &Args,
    chain: &crate::chain::Chained,
) -> anyhow::Result<Means> {
    let now = chain.head().await?.block.number;
    let caps = Caps { per_request: spending.per_request, per_day: spending.per_day, per_key: spending.per_key };
    let expiry = now.saturating_add(LANE_BLOCKS);
    let Some(name) = &args.session else { return Ok(Means { signer: account.clone(), account, caps, expiry, now }) };
    let (signer, right) = session::live(context, name, account.address(), chain, now).await?;
    let per_key = caps.per_key.map_or(right.cap, |cap| cap.min(right.cap));
    Ok(Means { account, signer, caps: Caps { per_key: Some(per_key), ..caps }, expiry: expiry.min(right.expiry), now })
}

/// Shows tokens on the terminal as they come.
fn show(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    drop(out.write_all(&shown(bytes)).and_then(|()| out.flush()));
}

/// Prints what was answered before.
fn again(context: &Context, answer: &str) -> anyhow::Result<()> {
    let printed: Printed = serde_json::from_str(answer).context("the answer kept under this idempotency key is damaged")?;
    let printed = Printed { is_repeated: true, ..printed };
    context.output.result(&printed, || format!("{}\n{}", String::from_utf8_lossy(&shown(printed.answer.as_bytes())), describe(&printed)))
}

/// Prints why there is no answer, what that cost and on whose word; an error of this client's own passes.
fn missed(context: &Context, error: anyhow::Error) -> anyhow::Result<Answered> {
    let Unanswered { why, text, is_whole, notice, kept } = error.downcast()?;
    context.output.note(&format!("\n{}", notice.describe()));
    if let Some(file) = &kept {
        context.output.note(&format!("notice {}", file.display()));
    }
    if context.output.is_json {
        let missed = Missed { error: why.clone(), answer: text, is_whole, notice, notice_file: kept };
        context.output.result(&missed, String::new)?;
    }
    Err(Failed(why).into())
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
        let is_answering = asset.kind != AssetKind::Datanet;
        is_answering && (asset.id.0.to_string() == text || asset.uri.rsplit(':').next() == Some(text))
    };
    let found: Vec<_> = state.assets().filter(is_meant).collect();
    match found.as_slice() {
        [asset] => state.newest(asset.id).with_context(|| format!("{text} has no version that is not frozen")),
        [] => {
            let known: Vec<String> = state
                .assets()
                .filter(|a| a.kind != AssetKind::Datanet)
                // Anybody may register a name: what a terminal would obey is shown escaped.
                .map(|a| format!("{} ({})", a.uri.rsplit(':').next().unwrap_or_default().escape_debug(), a.id))
                .collect();
            bail!(
                "no base, adapter or agent is called {text:?}: registered are {}",
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

fn question(args: &Args, manifest: Manifest, nonce: u64, max_fee: Amount) -> anyhow::Result<Question> {
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
        spending_limit: max_fee,
        rates_max: (args.rate_in, args.rate_out),
    })
}

/// Nodes whose signed ads offer every asset of the manifest and whose account is registered for that node, in the order to ask them.
pub async fn candidates(
    overlay: &OverlayHandle,
    state: &State,
    manifest: &Manifest,
    tokens: u32,
    client: Address,
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
    let ordered = router::order(fitting.iter().map(provider).collect(), 100, tokens, client);
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
fn keep_copy(args: &Args, answered: &Answered) -> PathBuf {
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
        check: check.to_owned(),
        notice: answered.notice.as_ref().map(|(notice, _)| notice.clone()),
        is_repeated: false,
    })
}

fn describe(printed: &Printed) -> String {
    let mut text = format!(
        "\n\n{} tokens, first after {} ms, {:.1} tokens/s, {}, {}\n",
        printed.tokens,
        printed.ttft_ms,
        printed.tokens_per_s,
        crate::output::money(printed.fee_wei),
        printed.check,
    );
    if printed.is_repeated {
        text.push_str("  answered before under this idempotency key: nothing was asked or paid now\n");
    }
    if let Some(notice) = &printed.notice {
        text.push_str(&format!("{}\n", notice.describe()));
    }
    for source in &printed.sources {
        text.push_str(&format!(
            "  {:?}\n    contributed by {} to Datanet {}, earns {}\n",
            source.quote,
            source.contributor,
            source.datanet,
            crate::output::money(source.wei)
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
