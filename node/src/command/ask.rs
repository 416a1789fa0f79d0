//! `tributary ask`: a question, a streamed answer, its sources, its price, its receipt; or, under a key that was answered, the same again.

mod choosing;
mod printed;
mod providers;
pub(super) mod repeat;
mod routing;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use attribution::bundle::BUNDLE_BYTES_MAX;
use chain_bridge::registry::State;
use clap::Args as ClapArgs;
use inference::{
    proto::{
        draft::Draft,
        message::Turn,
        once::{Known, Record},
        spending::Caps,
    },
    sampler::Stops,
};
use p2p::{
    client::{Client, Limits},
    identity::NodeSeed,
};
use types::{
    amount::Amount,
    id::{Address, AssetVersion},
    key::{Account, Domains},
    manifest::{AssetKind, Manifest},
    options::Options,
    quote::Class,
    text::canonical_document,
};

use self::{
    choosing::Choosing,
    printed::{Shown, again, describe, missed, printed},
    repeat::Once,
};
pub use self::{
    printed::{Source, check_label, sources},
    providers::{candidates, fits},
    routing::{Experience, Wanted},
};
pub(crate) use self::{
    providers::{NoneFits, known},
    routing::Routing,
};
use super::{Context, wallet::session};
use crate::{
    ask::{Answered, Asker, Event, Question},
    chain::Chained,
    config::Computed,
    data::{Existing, may_write, read_bounded, write_out},
    output::say,
    purse::{LaneTerms, Purse},
    service::settlement::loopback_any,
    words,
};

/// Most that an answer may cost if nothing else is said: 0.02 OPEN.
pub(super) const MAX_FEE: Amount = Amount(20_000_000_000_000_000);
/// Blocks a new lane stands: a day at one block per second.
pub(super) const LANE_BLOCKS: u64 = 86_400;
/// Most expired lanes that one command asks the chain about; the others are asked about by the next one.
const LANES_ASKED_MAX: usize = 32;

/// Ask a question; pay per token as the answer arrives; keep the receipt.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  tributary ask --with medical \"What is ataxia?\"\n  tributary ask --with 4@1 --limit \"0.01 OPEN\" --json \"What is gout?\" > answer.json\n  tributary receipt verify RECEIPT.json      checks the receipt offline\n\nThe wallet needs a deposit first: tributary wallet deposit \"1 OPEN\". A connection that breaks is made\nanew and the answer taken up where it stood; a node that dies is replaced by another one; its tokens are never billed twice. What may be spent is bounded by --max-fee, by [spending] in tributary.toml (per_request, per_day, per_key) and by --session.

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
    /// Session whose key signs request, lanes and vouchers (`tributary wallet session add`): the wallet's own key is not read.
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
    #[command(flatten)]
    choosing: Choosing,
    #[command(flatten)]
    routing: Routing,
    /// Numeric rules to answer under: exact, which any checker computes to the bit, or fast, whose answers are held to fingerprints of activations alone.
    #[arg(long, value_enum, value_name = "PROFILE", default_value_t)]
    profile: Computed,
    /// Publish the transcript with the receipt, rather than keep it for drawn checkers.
    #[arg(long)]
    open: bool,
    /// Have the answer come in frames of one size at a steady rhythm (10 kB/s), so that who sees the packets learns no token's length or time. A line below 12 kB/s
    /// cannot carry it.
    #[arg(long)]
    padded: bool,
    /// Overlay address to join through [default: from the configuration].
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
    /// Where to write the receipt's bundle [default: receipts/ in the data folder].
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Write over that file if it is there.
    #[arg(long, requires = "receipt")]
    force: bool,
}

/// Who signs, and what that and the configuration allow.
struct Means {
    payer: Address,
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
    let options = args.choosing.options()?;
    let mut config = context.config()?;
    if !args.bootstrap.is_empty() {
        config.bootstrap.clone_from(&args.bootstrap);
    }
    let (payer, wallet) = match &args.session {
        Some(name) => (session::payer(context, name)?, None),
        None => context.account().map(|wallet| (wallet.address(), Some(wallet)))?,
    };
    let chain = context.chain_reader().await?;
    let state = chain.state().await?;
    let domains = chain.deployment().domains();
    let (once, known) = match &args.idempotency_key {
        Some(key) => Once::open(context, &domains, key, repeat::content(&args, &options, payer))?,
        None => (None, Known::New),
    };
    let begun = match known {
        Known::Answered(answer) => return again(context, &answer),
        Known::Begun(record) => Some(*record),
        Known::New => None,
    };
    if let Some(path) = &args.receipt {
        may_write_receipt(path, &args, begun.as_ref())?;
    }
    let manifest = match &begun {
        Some(record) => record.manifest.clone(),
        None => state.manifest(resolve(&state, &args.with)?)?,
    };
    let means = means(context, &config.spending, (payer, wallet), &args, &chain).await?;
    let overlay = context.light_overlay(&config).await?;
    let purse = Purse::open(context.data.path())?;
    let nonce = match &begun {
        Some(record) => record.draft.request().document.nonce,
        None => purse.next_nonce()?,
    };
    let question = question(&args, options, manifest, nonce, means.max_fee(&args))?;
    let wanted = Wanted { profile: question.profile, tokens: args.tokens, client: means.payer };
    let preference = args.routing.preference(question.rates_max);
    let candidates = candidates(&overlay, &state, &question.manifest, wanted, &preference, &Experience::new(nonce)).await?;
    reckon(&purse, &chain, &domains).await?;
    let asker = Asker {
        payer: means.payer,
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
    let mut terminal = Shown::default();
    let recalled = asker.recall(begun.as_ref().map(|draft| draft.request().document.id())).await?;
    recalled.iter().for_each(|one| context.output.note(&one.describe()));
    if let Some(draft) = begun.as_ref().filter(|_| !is_json) {
        terminal.show(&Stops::new(&question.options.stop).push(draft.bytes()).bytes);
    }
    let mut on_event = |event: Event<'_>| match event {
        Event::Token(bytes, ..) if !is_json => terminal.show(bytes),
        Event::Waiting(candidate, why) if !is_json => say(&format!("[{}: {}; waiting for it]", candidate.node, words::line(why))),
        Event::TakingUp(candidate, tokens, why) if !is_json => {
            say(&format!("\n[{}: {}; taking the answer up behind {tokens} tokens]", candidate.node, words::line(why)))
        }
        Event::Abandoned(abandoned, _) if !is_json => {
            say(&format!("\n[{} is gone ({}); continuing elsewhere]", abandoned.node, words::line(&abandoned.reason)))
        }
        _ => {}
    };
    let draft = match begun {
        Some(draft) => draft,
        None => asker.sign(&question)?,
    };
    let mut keep = |draft: &Draft| once.as_ref().map_or(Ok(()), |once| once.keep(&question.manifest, draft));
    let answered = asker.go_on(&question, draft, &recalled, &candidates, &mut keep, &mut on_event).await;
    overlay.shutdown().await;
    let answered = answered.or_else(|error| missed(context, error))?;
    let path = keep_copy(&args, &answered);
    let printed = printed(&answered, path, check_label(&state), recalled)?;
    if let Some(once) = &once {
        once.answered(&serde_json::to_string(&printed)?)?;
    }
    context.output.result(&printed, || describe(&printed))
}

/// Counts of promises whose lanes have expired what was collected on them. What is counted too much meanwhile errs to the client's side.
pub(super) async fn reckon(purse: &Purse, chain: &Chained, domains: &Domains) -> anyhow::Result<()> {
    // Most clients have no such promise: the chain is asked for nothing then.
    if purse.expired(domains, u64::MAX, 1)?.is_empty() {
        return Ok(());
    }
    let last_final = chain.client.heads().await?.finalized.number;
    let mut collected = BTreeMap::new();
    for lane in purse.expired(domains, last_final, LANES_ASKED_MAX)? {
        collected.insert(lane, chain.client.lane_collected(lane).await?);
    }
    if collected.is_empty() { Ok(()) } else { purse.reckon(domains, last_final, &collected) }
}

/// Whether the receipt's copy may be written, before anything is paid for. A copy of an earlier run of the same request is no other file.
fn may_write_receipt(path: &Path, args: &Args, begun: Option<&Record>) -> anyhow::Result<()> {
    let is_its = |record: &Record| {
        let kept = super::receipt::read(path).ok();
        kept.is_some_and(|bundle| bundle.receipt.document.request == record.draft.request().document.id())
    };
    if begun.is_some_and(is_its) {
        return Ok(());
    }
    Ok(may_write(path, Existing::by(args.force))?)
}

/// Who signs, and what may be spent: the session must be live on the chain, and its cap holds beside the configuration's.
async fn means(
    context: &Context,
    spending: &crate::config::Spending,
    (payer, wallet): (Address, Option<Account>),
    args: &Args,
    chain: &Chained,
) -> anyhow::Result<Means> {
    let now = chain.head().await?.block.number;
    let caps = Caps { per_request: spending.per_request, per_day: spending.per_day, per_key: spending.per_key };
    let expiry = now.saturating_add(LANE_BLOCKS);
    let Some(name) = &args.session else {
        return Ok(Means { payer, signer: wallet.context("no wallet was read")?, caps, expiry, now });
    };
    let (signer, right) = session::live(context, name, chain, now).await?;
    let per_key = caps.per_key.map_or(right.cap, |cap| cap.min(right.cap));
    Ok(Means { payer, signer, caps: Caps { per_key: Some(per_key), ..caps }, expiry: expiry.min(right.expiry), now })
}

/// The version that a name, a number or ASSET@VERSION means.
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
        [asset] => state.meant(asset.id).with_context(|| format!("{text} has no version that is not frozen")),
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

fn question(args: &Args, options: Options, manifest: Manifest, nonce: u64, max_fee: Amount) -> anyhow::Result<Question> {
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
        profile: args.profile.profile(),
        class: if args.open { Class::Open } else { Class::Checked },
        options,
        tokens_max: args.tokens,
        spending_limit: max_fee,
        rates_max: (args.rate_in, args.rate_out),
        is_padded: args.padded,
    })
}

/// A copy where the caller wants one; the bundle itself was kept before the lane's books moved, so a mistyped path loses nothing.
fn keep_copy(args: &Args, answered: &Answered) -> PathBuf {
    let Some(path) = &args.receipt else { return answered.kept.clone() };
    let json = answered.bundle.to_json();
    if read_bounded(path, BUNDLE_BYTES_MAX as u64).is_ok_and(|there| there == json.as_bytes()) {
        return path.clone();
    }
    // What stands there was looked at before anything was asked; whatever came since is not written over.
    match write_out(path, json.as_bytes(), 0o600, Existing::by(args.force)) {
        Ok(()) => path.clone(),
        Err(error) => {
            tracing::warn!(%error, kept = %answered.kept.display(), "the receipt is kept in the data folder");
            answered.kept.clone()
        }
    }
}
