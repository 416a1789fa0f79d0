//! Attempts that this client was cut off from: their nodes are asked what became of them, so that the books say what is charged rather than what was
//! promised.
//!
//! A node's word is a bundle that bills, checked like a stranger's, or a receipt with fee 0. Either binds it: another receipt of the attempt would
//! convict it (F3). What a node collects beyond its receipts is no receipt's, and comes back by the lane's refund. Asked are [`RECALLS_MAX`] nodes at
//! once, each for [`RECALL_WAIT`] at most; where none of its word comes, a promise stays counted until its lane has expired.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use attribution::bundle::Bundle;
use futures::future::join_all;
use inference::proto::{
    draft::{Cause, Draft},
    message::{FromClient, FromNode},
    recall::Recall,
    spending::Promise,
};
use p2p::client::Connection;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use types::{
    amount::Amount,
    encoding::Document as _,
    id::{Address, Hash32},
    key::Signed,
    receipt::Receipt,
};

use super::{
    Asker,
    kept::{bundle_path, read_bundle},
    talk::{Stop, Talk},
    unbilled::Expected,
};
use crate::{
    data::write_atomic,
    notice::{Notice, now_s},
    output::money,
    purse::Left,
};

/// Most attempts asked about in one run.
const RECALLS_MAX: usize = 16;
/// How long a node may take to say what became of an attempt.
const RECALL_WAIT: Duration = Duration::from_secs(4);
/// Between two tries at a node where the attempt has not ended.
const BUSY_LOOK: Duration = Duration::from_millis(500);
/// How long that is waited for where the same request is gone on with: an answer that its client left ends within ten seconds.
const END_WAIT: Duration = Duration::from_secs(20);

/// An attempt that was asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recalled {
    /// The request.
    pub request: Hash32,
    /// The attempt's number in it.
    pub attempt: u16,
    /// The node's account.
    pub node: Address,
    /// What had been promised.
    pub promised_wei: Amount,
    /// What its receipt charges, 0 where the node signed that nothing is charged; nothing where no word of the node came.
    pub charged_wei: Option<Amount>,
    /// Last block in which what was promised may be collected.
    pub expiry_block: u64,
    /// Where the word is kept, or why there is none.
    pub word: String,
}

impl Recalled {
    /// For people.
    pub fn describe(&self) -> String {
        let what = format!("attempt {} at request {}, which was cut off from {}", self.attempt, self.request, self.node);
        match self.charged_wei {
            Some(Amount::ZERO) => format!("{what}: the node signed that nothing is charged ({})", self.word),
            Some(fee) => {
                format!("{what}: its receipt charges {} of the {} promised ({})", money(fee), money(self.promised_wei), self.word)
            }
            None => format!(
                "{what}: no word of what is charged ({}); {} stay counted as spent until block {}, from then on what the chain says was collected",
                self.word,
                money(self.promised_wei),
                self.expiry_block
            ),
        }
    }
}

/// Why there is no word.
struct Unheard {
    why: String,
    /// The attempt has not ended there: its node is asked again whenever somebody asks.
    is_under_way: bool,
}

/// What a node signed.
enum Word {
    Billed(Box<Bundle>),
    Unbilled(Box<Signed<Receipt>>),
}

impl Asker {
    /// Asks what became of attempts without a receipt, those of `request` first and until they have ended, and books what is said.
    pub async fn recall(&self, request: Option<Hash32>) -> anyhow::Result<Vec<Recalled>> {
        let own = self.signer.address();
        let now = now_s();
        let is_its = |left: &Left| Some(left.request) == request;
        let mut lefts = self.purse.lefts(&self.domains)?;
        lefts.retain(|(left, _)| left.signer == own && (is_its(left) || left.next_s <= now));
        lefts.sort_by_key(|(left, promise)| (!is_its(left), promise.expiry, left.request, left.attempt));
        lefts.truncate(RECALLS_MAX);
        let words = join_all(lefts.iter().map(|(left, promise)| self.word(left, promise, is_its(left)))).await;
        lefts.iter().zip(words).map(|((left, promise), word)| self.book(left, promise, word, now)).collect()
    }

    /// Settles the attempts of a draft whose word is known: `recalled` now, or kept as a bundle before this client was killed.
    pub(super) fn settle_draft(&self, draft: &mut Draft, recalled: &[Recalled]) -> anyhow::Result<()> {
        let request = draft.request().document.id();
        for attempt in (0..).take(draft.tries().len()) {
            let is_its = |one: &&Recalled| one.request == request && one.attempt == attempt;
            if recalled.iter().find(is_its).is_some_and(|one| one.charged_wei == Some(Amount::ZERO)) {
                draft.settle(attempt, None, 0);
            } else if let Some(bundle) = read_bundle(&self.receipts, request, attempt) {
                let receipt = &bundle.receipt.document;
                let billed_to = usize::try_from(receipt.first_token.saturating_add(receipt.tokens_out))?;
                if draft.settle(attempt, Some((receipt.fee, receipt.reason)), billed_to) {
                    self.purse.recalled(&self.domains, request, attempt, receipt.fee)?;
                }
            }
        }
        Ok(())
    }

    /// A node's word on an attempt, checked; else why there is none.
    async fn word(&self, left: &Left, promise: &Promise, is_waited_for: bool) -> Result<Word, Unheard> {
        if let Some(bundle) = read_bundle(&self.receipts, left.request, left.attempt)
            && self.check_bundle(left, promise, &bundle).is_ok()
        {
            return Ok(Word::Billed(Box::new(bundle)));
        }
        let patience = Instant::now() + END_WAIT;
        loop {
            match timeout(RECALL_WAIT, self.ask_word(left, promise)).await {
                Ok(Ok(word)) => return Ok(word),
                Ok(Err(Stop::Busy(..))) if is_waited_for && Instant::now() < patience => tokio::time::sleep(BUSY_LOOK).await,
                Ok(Err(stop)) => return Err(Unheard { why: stop.to_string(), is_under_way: matches!(stop, Stop::Busy(..)) }),
                Err(_) => {
                    let why = format!("the node said nothing for {} s", RECALL_WAIT.as_secs());
                    return Err(Unheard { why, is_under_way: false });
                }
            }
        }
    }

    async fn ask_word(&self, left: &Left, promise: &Promise) -> Result<Word, Stop> {
        let unreachable = |error: String| Stop::Theirs(Cause::Unreachable, error);
        let connection = self.quic.connect(left.addr, Some(left.node)).await.map_err(|error| unreachable(error.to_string()))?;
        let asked = Recall { node: left.account, request: left.request, attempt: left.attempt };
        match self.word_over(&connection, asked, left.is_padded).await? {
            FromNode::Kept { bundle } => {
                let bundle = Bundle::from_json(bundle.as_bytes()).map_err(Stop::misbehaved)?;
                self.check_bundle(left, promise, &bundle).map_err(Stop::misbehaved)?;
                Ok(Word::Billed(Box::new(bundle)))
            }
            FromNode::Receipt(delivered) => {
                let receipt = Signed { document: delivered.receipt, signature: delivered.signature };
                let expected = Expected::left(left, promise);
                expected.check(&self.domains, &receipt).map_err(Stop::misbehaved)?;
                Ok(Word::Unbilled(Box::new(receipt)))
            }
            _ => Err(Stop::out_of_order("a receipt")),
        }
    }

    /// What a node says of an attempt, over a connection to it; in cells if the answer came in them, or the word would tell its length.
    pub(super) async fn word_over(&self, connection: &Connection, asked: Recall, is_padded: bool) -> Result<FromNode, Stop> {
        let stream = connection.open_stream().await.map_err(|error| Stop::Theirs(Cause::Unreachable, error.to_string()))?;
        let mut talk = Talk::new(stream);
        if is_padded {
            talk.pad().await?;
        }
        talk.send(&FromClient::Recall(Box::new(Signed::new(&self.signer, &self.domains, asked)))).await?;
        talk.recv().await
    }

    /// Whether a bundle is that attempt's, on its lane, and charges no more than was promised.
    pub(super) fn check_bundle(&self, left: &Left, promise: &Promise, bundle: &Bundle) -> Result<(), String> {
        if bundle.domains != self.domains {
            return Err("the receipt is of another deployment".to_owned());
        }
        attribution::bundle::verify(bundle).map_err(|fault| format!("its receipt does not stand: {fault}"))?;
        let (receipt, signer) = (&bundle.receipt.document, bundle.session.unwrap_or(bundle.lane.document.payer));
        let charged = receipt.cumulative_after.minus(promise.base).unwrap_or_default();
        let is_its = receipt.request == left.request
            && receipt.attempt == left.attempt
            && receipt.node == left.account
            && receipt.client == left.payer
            && receipt.lane == promise.lane
            && signer == left.signer
            && receipt.reason.is_billable();
        if !is_its {
            return Err("the receipt is another attempt's".to_owned());
        }
        if charged != receipt.fee || charged > promise.sum {
            return Err(format!("its receipt charges {}, {} were promised", money(receipt.fee), money(promise.sum)));
        }
        Ok(())
    }

    /// Keeps a word, then has the books and the lane follow it.
    fn book(&self, left: &Left, promise: &Promise, word: Result<Word, Unheard>, now: u64) -> anyhow::Result<Recalled> {
        let Left { request, attempt, account, .. } = *left;
        let said = |charged_wei, word| Recalled {
            request,
            attempt,
            node: account,
            promised_wei: promise.sum,
            charged_wei,
            expiry_block: promise.expiry,
            word,
        };
        let (fee, stands_at, kept) = match word {
            Err(Unheard { why, is_under_way }) => {
                if !is_under_way {
                    self.purse.rest(&self.domains, left, now)?;
                }
                return Ok(said(None, why));
            }
            Ok(Word::Billed(bundle)) => {
                let path = bundle_path(&self.receipts, request, attempt);
                write_atomic(&path, bundle.to_json().as_bytes(), 0o600).with_context(|| path.display().to_string())?;
                let receipt = &bundle.receipt.document;
                (receipt.fee, receipt.cumulative_after, path.display().to_string())
            }
            Ok(Word::Unbilled(receipt)) => {
                let hash = receipt.document.hash();
                let kept = Notice::recalled(left, *receipt).keep(&self.failures)?;
                (Amount::ZERO, promise.base, format!("receipt {hash} in {}", kept.display()))
            }
        };
        self.purse.settle_lane(&self.domains, left, promise.lane, stands_at)?;
        self.purse.recalled(&self.domains, request, attempt, fee)?;
        Ok(said(Some(fee), kept))
    }
}
