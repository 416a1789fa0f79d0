//! Asking: a quote, tokens paid as they arrive, a receipt checked before it is kept, and another node when one dies.
//!
//! Carries frames between streams and [`Asking`](inference::proto::payment::Asking); the client's own record of tokens ([`Draft`]) is what its vouchers
//! say, what a failover continues from and, where the shell keeps it, what a second process goes on with after a crash. What may be spent is asked of the
//! purse before anything is sent. An answer whose connection breaks is taken up at its node (`resume`) before another one is asked.

mod attempt;
mod attempts;
mod kept;
pub mod key;
mod recall;
mod resume;
mod talk;
mod unbilled;
mod whole;

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use attribution::bundle::Bundle;
use futures::future::{self, BoxFuture, FutureExt as _};
use inference::proto::{
    draft::{Cause, Draft},
    message::{Told, Turn},
    spending::Caps,
};
use p2p::client::Client;
use serde::{Deserialize, Serialize};
use types::{
    amount::Amount,
    id::{Address, Hash32, NodeId},
    key::{Account, Domains, Signed},
    manifest::Manifest,
    options::Options,
    quote::{Class, Profile, Quote},
    receipt::Reason,
    request::Request,
    text,
};

pub use self::{attempts::Attempt, recall::Recalled};
use crate::{
    evidence,
    notice::Notice,
    purse::{LaneTerms, Purse},
};

/// A node to ask, with where it is.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Its registered account.
    pub account: Address,
    /// Where it listens for clients.
    pub addr: std::net::SocketAddr,
}

/// What to ask.
#[derive(Debug, Clone)]
pub struct Question {
    /// From the purse; it also drew the order of equal providers.
    pub nonce: u64,
    /// The conversation; contents are made canonical before they are signed.
    pub turns: Vec<Turn>,
    /// What shall answer.
    pub manifest: Manifest,
    /// The numeric rules to answer under: `exact`, which any checker can hold a node to, or `fast`.
    pub profile: Profile,
    /// Privacy class.
    pub class: Class,
    /// Sampling, and what ends the answer; their hash is signed.
    pub options: Options,
    /// Most output tokens.
    pub tokens_max: u32,
    /// Most that may be spent.
    pub spending_limit: Amount,
    /// Most wei per 1,000 input and output tokens.
    pub rates_max: (Amount, Amount),
    /// Whether the answer comes in cells of one size at a steady rhythm ([`inference::proto::padding`]).
    pub is_padded: bool,
}

/// A node that was given up, and why.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Abandoned {
    /// The node.
    pub node: NodeId,
    /// Tokens received from it.
    pub tokens: usize,
    /// Why.
    pub reason: String,
    /// Milliseconds from its last sign of life to the first token elsewhere, once there is one.
    pub gap_ms: Option<u64>,
}

/// An answer with its evidence.
#[derive(Debug)]
pub struct Answered {
    /// Canonical text of all attempts' tokens.
    pub text: String,
    /// The node that ended it.
    pub node: NodeId,
    /// All output tokens.
    pub tokens: Vec<u32>,
    /// The bundle of the attempt that ended the answer.
    pub bundle: Bundle,
    /// Where it is kept.
    pub kept: PathBuf,
    /// Nodes given up on the way.
    pub abandoned: Vec<Abandoned>,
    /// Times a connection broke and the answer was taken up at its node.
    pub resumed: u32,
    /// Milliseconds from the question to the first token.
    pub ttft_ms: u64,
    /// Output tokens per second after the first.
    pub tokens_per_s: f64,
    /// Why it ended.
    pub reason: Reason,
    /// Every attempt, oldest first: its node and what it may charge.
    pub attempts: Vec<Attempt>,
    /// What was not billed on the way, if anything, and where that is kept.
    pub notice: Option<(Notice, Option<PathBuf>)>,
}

/// No answer, or none that is billed.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Unanswered {
    /// In words.
    pub why: String,
    /// What was received, canonical.
    pub text: String,
    /// Whether that is all of it.
    pub is_whole: bool,
    /// What failed, and what it may cost.
    pub notice: Notice,
    /// Where the notice is kept.
    pub kept: Option<PathBuf>,
    /// When a node that had no room may have some, by its own word.
    pub retry: Option<Duration>,
}

/// Keeps a request's state; it must be on disk when this returns.
pub type Keep<'k> = &'k mut (dyn FnMut(&Draft) -> anyhow::Result<()> + Send);

/// What happens while an answer streams.
#[derive(Debug)]
pub enum Event<'a> {
    /// A node was chosen.
    Asking(&'a Candidate),
    /// Its handshake is done; the quote comes next.
    Connected(&'a Candidate),
    /// Its quote is signed and within the request's limits.
    Quoted(&'a Quote),
    /// It has checked request, lane and deposit, and noted the request; the prompt runs from here.
    Begun,
    /// A token arrived: what may be shown now, the number of tokens so far, and, if the options ask for it, how likely this one and others were.
    Token(&'a [u8], usize, &'a [Told]),
    /// It has something under way that must end first, and is asked again.
    Waiting(&'a Candidate, &'a str),
    /// Its connection broke behind so many tokens of the attempt, for that reason: the answer is taken up from there.
    TakingUp(&'a Candidate, usize, &'a str),
    /// A node was given up, for that cause.
    Abandoned(&'a Abandoned, Cause),
}

/// Who is told while an answer streams.
pub trait Listener: Send {
    /// Something happened.
    fn hear(&mut self, event: Event<'_>);

    /// Awaited after each token, once what is due for it is promised: one that takes long keeps the node waiting, by the vouchers that do not come.
    fn ready(&mut self) -> BoxFuture<'_, ()> {
        future::ready(()).boxed()
    }
}

impl<F: FnMut(Event<'_>) + Send> Listener for F {
    fn hear(&mut self, event: Event<'_>) {
        self(event);
    }
}

/// A client.
#[derive(Debug)]
pub struct Asker {
    /// Who asks and pays.
    pub payer: Address,
    /// Who signs requests, lanes and vouchers: the payer itself, or a session key that it lets sign.
    pub signer: Account,
    /// What may be spent.
    pub caps: Caps,
    /// Signature domains.
    pub domains: Domains,
    /// Nonce and lanes.
    pub purse: Purse,
    /// QUIC.
    pub quic: Client,
    /// Terms of new lanes.
    pub lanes: LaneTerms,
    /// Folder of the bundles: each is there before its lane's books move.
    pub receipts: PathBuf,
    /// Folder of the failure notices.
    pub failures: PathBuf,
}

impl Asker {
    /// Asks `candidates` in order until one has answered.
    pub async fn ask(
        &self,
        question: &Question,
        candidates: &[Candidate],
        mut on_event: &mut (dyn FnMut(Event<'_>) + Send),
    ) -> anyhow::Result<Answered> {
        let draft = self.sign(question)?;
        self.go_on(question, draft, &[], candidates, &mut |_| Ok(()), &mut on_event).await
    }

    /// Signs the request of a question.
    pub fn sign(&self, question: &Question) -> anyhow::Result<Draft> {
        let prompt_bytes = evidence::prompt_bytes(&question.turns).map_err(anyhow::Error::msg)?;
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).context("no randomness from the system")?;
        let prompt_salt = Hash32(salt);
        let request = Request {
            client: self.payer,
            nonce: question.nonce,
            manifest: question.manifest.root(),
            rate_in_max: question.rates_max.0,
            rate_out_max: question.rates_max.1,
            profile: question.profile,
            class: question.class,
            sampling: question.options.sampling(),
            options: question.options.digest(),
            prompt_root: text::prompt_root(&prompt_bytes, prompt_salt),
            tokens_max: question.tokens_max,
            spending_limit: question.spending_limit,
        };
        Ok(Draft::new(Signed::new(&self.signer, &self.domains, request), prompt_salt))
    }
}
