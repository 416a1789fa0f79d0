//! Sealed transcripts of this node's checked answers, for the answer's client and for those whom the chain drew to check it; and those of other nodes, asked for.
//!
//! Who asks proves with its account who it is, and with the same signature what the key is wrapped for (`attribution::transcript::ask`). Whether it was drawn is this
//! node's own reckoning from the chain ([`Draws`]): of a checker it takes neither its word nor that of who sent it. What is kept is forgotten when an open answer's text is shown
//! no more ([`shown_until`]): both windows and the design's appeal, in which the stake that a slash would take is still here. What is found later takes nothing from anybody.
//!
//! A question costs a signature's recovery, a draw (three hashes), one record read and two multiplications on the curve: half a millisecond; a peer asks no more often than for
//! anything else. Nothing of a text, a key or a wrap is logged.

use std::{collections::BTreeSet, fmt, sync::Arc};

use anyhow::Context as _;
use attribution::{
    bundle::Bundle,
    message::{Ask, Reply},
    transcript::{
        ask::{Shown, TranscriptAsk, Withheld, asker},
        sealed::OpenError,
        wrap::ExchangeSecret,
    },
};
use chain_bridge::{
    follow::Snapshot,
    registry::{State, state::Epoch},
};
use p2p::client::Connection;
use types::{
    encoding::Document as _,
    id::{Address, Hash32},
    key::{Account, Domains, Signed},
    quote::Class,
    receipt::Receipt,
};

use super::{Settling, ask_once, transcripts::shown_until};
use crate::books::texts::Windows;

/// Why it is not known who was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotDrawable {
    /// The epoch's beacon is not stored, or was not read yet.
    #[error("epoch {0} has no beacon yet")]
    NoBeacon(u64),
}

/// Says who was drawn to check this node's answers.
pub trait Draws: fmt::Debug + Send + Sync {
    /// Whether `account` is one of those who check `receipt`, which stands under this node's root of `epoch`.
    ///
    /// # Errors
    /// [`NotDrawable`].
    fn is_drawn(&self, epoch: u64, receipt: Hash32, account: Address) -> Result<bool, NotDrawable>;
}

/// Why a node's sealed transcript was not had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It shows none.
    #[error(transparent)]
    Withheld(Withheld),
    /// What it showed is not the receipt's text: its fault.
    #[error(transparent)]
    Opens(#[from] OpenError),
    /// It could not be asked, or answers something else.
    #[error("{0}")]
    Unanswered(String),
}

/// Asks a node over a connection for the sealed transcript of one of its receipts, as `account`.
///
/// # Errors
/// [`FetchError`], never that it does not open: nothing is opened.
pub async fn ask_sealed(
    connection: &Connection,
    account: &Account,
    domains: &Domains,
    epoch: u64,
    receipt: &Signed<Receipt>,
) -> Result<Shown, FetchError> {
    let unanswered = |error: anyhow::Error| FetchError::Unanswered(format!("{error:#}"));
    let reader = ExchangeSecret::of(account).public();
    let asked = TranscriptAsk { node: receipt.document.node, epoch, receipt: receipt.document.hash(), reader };
    let stream = connection.open_stream().await.map_err(|error| unanswered(error.into()))?;
    let ask = Ask::Sealed(Box::new(Signed::new(account, domains, asked)));
    match ask_once(stream, &ask).await.map_err(unanswered)? {
        Reply::Sealed(shown) => Ok(*shown),
        Reply::Withheld(why) => Err(FetchError::Withheld(why)),
        Reply::Refused(why) => Err(FetchError::Unanswered(why)),
        _ => Err(FetchError::Unanswered("the node answered something else than was asked for".to_owned())),
    }
}

/// Asks a node over a connection for the text behind one of its receipts, as `account`, and checks that it leads to the receipt's salted roots.
///
/// # Errors
/// [`FetchError`].
pub async fn fetch_sealed(
    connection: &Connection,
    account: &Account,
    domains: &Domains,
    epoch: u64,
    receipt: &Signed<Receipt>,
) -> Result<Bundle, FetchError> {
    let shown = ask_sealed(connection, account, domains, epoch, receipt).await?;
    Ok(shown.read(&ExchangeSecret::of(account), receipt, domains)?)
}

impl Settling {
    /// What who signed the question is shown; outside, that this node's books or the chain could not be read.
    pub(super) fn sealed_transcript(&self, asked: &Signed<TranscriptAsk>) -> anyhow::Result<Result<Shown, Withheld>> {
        let TranscriptAsk { epoch, receipt, reader, .. } = asked.document;
        let own = self.account.address();
        let account = match asker(asked, own, &self.deployment.domains()) {
            Ok(account) => account,
            Err(why) => return Ok(Err(why)),
        };
        let kept = self.books.text(receipt)?;
        let is_client = kept.as_ref().map(|(number, _)| self.is_client(*number, account)).transpose()?.unwrap_or(false);
        if !is_client && let Err(why) = self.may_check(epoch, receipt, account)? {
            return Ok(Err(why));
        }
        let Some((_, text)) = kept else { return Ok(Err(Withheld::Gone(receipt))) };
        let shown = text.show(&ExchangeSecret::of(&self.account), reader).context("a sealed answer does not open")?;
        Ok(shown.map_err(|bad| Withheld::Key(bad.0)))
    }

    /// Whether an account is the client of an answer: who asked for it, who pays for it, or who signs for who pays.
    fn is_client(&self, number: u64, account: Address) -> anyhow::Result<bool> {
        let bundle = self.books.receipts(&[number])?.pop().context("the books hold no such receipt")?;
        Ok([Some(bundle.receipt.document.client), Some(bundle.lane.document.payer), bundle.session].contains(&Some(account)))
    }

    /// Whether an account was drawn for a receipt under this node's root of an epoch, while that matters.
    fn may_check(&self, epoch: u64, receipt: Hash32, account: Address) -> anyhow::Result<Result<(), Withheld>> {
        let snapshot = Arc::clone(&self.snapshots.borrow());
        let Some(heads) = snapshot.heads else { return Ok(Err(Withheld::NotReady)) };
        let unknown = Withheld::Unknown { epoch, receipt };
        let Some(known) = snapshot.latest.epoch(epoch).filter(|known| known.roots.contains_key(&self.account.address())) else {
            return Ok(Err(unknown));
        };
        let until = shown_until(known, &self.deployment.config);
        if heads.timestamp > until {
            return Ok(Err(Withheld::Past { epoch, until }));
        }
        let Some(number) = self.own_root(&snapshot.latest, epoch)?.number(receipt) else { return Ok(Err(unknown)) };
        let class = self.books.receipts(&[number])?.pop().context("the books hold no such receipt")?.receipt.document.class;
        if class != Class::Checked {
            return Ok(Err(Withheld::Class(class)));
        }
        Ok(match self.draws.is_drawn(epoch, receipt, account) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Withheld::NotDrawn { account, epoch, receipt }),
            Err(NotDrawable::NoBeacon(epoch)) => Err(Withheld::NoBeacon(epoch)),
        })
    }

    /// Forgets the texts that nobody can be drawn to check any more, whenever another epoch of the finalized chain is over; `looked` is the last one that was.
    pub(super) fn forget_texts(&self, snapshot: &Snapshot, looked: &mut Option<Option<u64>>) -> anyhow::Result<()> {
        let Some(heads) = snapshot.heads else { return Ok(()) };
        let is_over = |epoch: &Epoch| shown_until(epoch, &self.deployment.config) < heads.finalized_timestamp;
        let last = snapshot.finalized.epochs().filter(|(_, epoch)| is_over(epoch)).map(|(number, _)| number).max();
        if *looked == Some(last) {
            return Ok(());
        }
        let mut windows = self.windows(&snapshot.finalized, is_over)?;
        windows.oldest_block = heads.finalized.number.saturating_sub(self.deployment.config.max_age_blocks);
        let gone = self.books.forget_texts(&windows)?;
        if gone > 0 {
            tracing::info!(answers = gone, "sealed answers that nobody can check any more are forgotten");
        }
        *looked = Some(last);
        Ok(())
    }

    /// Which of this node's receipts stand under a root whose epoch is over by `state`, and which under another.
    fn windows(&self, state: &State, is_over: impl Fn(&Epoch) -> bool) -> anyhow::Result<Windows> {
        let own = self.account.address();
        let mut windows = Windows::default();
        for (number, epoch) in state.epochs().filter(|(_, epoch)| epoch.roots.contains_key(&own)) {
            let numbers: BTreeSet<u64> = self.books.posting(number)?.unwrap_or_default().numbers.into_iter().collect();
            if is_over(epoch) { &mut windows.past } else { &mut windows.standing }.extend(numbers);
        }
        for (_, posting) in self.books.unsettled()? {
            windows.standing.extend(posting.numbers.iter().filter(|number| !windows.past.contains(number)));
        }
        Ok(windows)
    }
}

/// Where nobody is drawn: of a chain whose beacons this node does not read.
#[derive(Debug, Clone, Copy)]
pub struct NoDraws;

impl Draws for NoDraws {
    fn is_drawn(&self, epoch: u64, _receipt: Hash32, _account: Address) -> Result<bool, NotDrawable> {
        Err(NotDrawable::NoBeacon(epoch))
    }
}
