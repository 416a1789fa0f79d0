//! Challenges (Protocol P7): what this node is asked for on the chain it shows; what a poster is not shown it asks for there, so that a node that
//! keeps its receipts to itself, or is gone, holds up no epoch.
//!
//! While W1 of an epoch runs a poster fetches the receipts behind each root, once, and keeps them on disk. Where that fails twice it challenges
//! the first stretch of them (F8): the node answers, on the chain or by showing its receipts after all, or is slashed once for the root, and the
//! epoch goes on without it. A node that answers and still serves nobody is asked for every other stretch: then all its receipts stand in events,
//! or it is found to withhold one. What that costs, and what is kept back: `stretches`. On disk: about 1.5 KB a receipt, never removed, and a row beside it: `lanes`.
//!
//! What nobody answered in time is settled by posters and by nodes that watch, whoever asked: a challenger that is gone leaves no withheld tree standing.
//!
//! By the latest block, because the time to answer runs there and silence costs stake. A reorganisation can make no step wrong, only void: each
//! names the root and the block it was taken in, or the challenge, and is refused where these are not (then gas is lost, the bond is not). One that
//! takes back what this node sent is noticed by the books: a challenge that is open again, at or after the block of the step, has it sent again.

mod overdue;
mod questions;
mod shown;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use attribution::{
    bundle::Bundle,
    message::{RECEIPTS_PAGE, ReceiptItem},
};
use chain_bridge::{
    chain::error::ChainError,
    client::send::Sent,
    follow::Snapshot,
    fraud::{
        calldata::{Step, receipts_challenge},
        challenge::{EVIDENCE_BYTES_MAX, Exhibit, Stretch, is_met, receipts_evidence, request_evidence},
        search::{Bodies, root_of},
    },
    registry::{State, money::ChallengeOf, state::SubmittedRoot},
};
use storage::store::Records;
use tokio::task::JoinSet;
use types::{
    amount::Amount,
    encoding::Document as _,
    id::{Address, Hash32},
    merkle::SumTree,
};

use self::overdue::Overdue;
pub use self::shown::receipts_on_chain;
use super::{
    Settling, check_items,
    lanes::{self, Older, Record},
    stretches::{self, Time, asked},
};

/// Fetches that fail before a receipt is asked for on the chain: one may meet a node that starts again.
const TRIES: u32 = 2;
/// Roots whose receipts are fetched at once.
const FETCHES_MAX: usize = 16;
/// Stretches of one root that are asked for in one round of the clock; the others follow in the next.
const ASKS_MAX: usize = 16;
/// Searches of one root for faults, where the chain could not be asked in between.
const SEARCHES_MAX: u32 = 5;
/// Blocks after which a step that the chain refused is tried again: the refusal may have been another branch's.
const REFUSED_WAIT: u64 = 8;
/// Records table of fetched receipts, by epoch, node and page.
const FETCHED: &str = "fetched-receipts";

/// What is done about a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Ask,
    Answer,
    Settle,
}

/// A root, whichever branch it is on: one that a reorganisation put in another's place is fetched and searched as what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RootOf {
    pub(super) epoch: u64,
    pub(super) node: Address,
    receipts: Hash32,
    count: u64,
    fees: Amount,
    block: u64,
}

impl RootOf {
    pub(super) const fn new(epoch: u64, node: Address, root: &SubmittedRoot) -> Self {
        let SubmittedRoot { receipts, count, fees, block } = *root;
        Self { epoch, node, receipts, count, fees, block }
    }

    pub(super) const fn submitted(&self) -> SubmittedRoot {
        let Self { receipts, count, fees, block, .. } = *self;
        SubmittedRoot { receipts, count, fees, block }
    }

    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    pub(super) const fn receipts(&self) -> Hash32 {
        self.receipts
    }

    /// Whether the books hold it, in an epoch without a payout.
    pub(super) fn is_open(&self, state: &State) -> bool {
        let epoch = state.epoch(self.epoch).filter(|epoch| epoch.payout.is_none());
        epoch.and_then(|epoch| epoch.roots.get(&self.node)).is_some_and(|root| *root == self.submitted())
    }
}

/// What was done about challenges and withheld receipts and is not in the chain's books yet. Bounded by the challenges that are open, and the roots
/// of epochs without a payout.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Challenges and what a transaction was sent for (one is asked, and settled later), with the block from which on the books show it: what they do
    /// not show then is to be done again.
    done: BTreeMap<(Hash32, Act), u64>,
    /// Fetches under way, one a root, and how they end.
    fetches: JoinSet<(RootOf, anyhow::Result<()>)>,
    fetching: BTreeSet<RootOf>,
    roots: Roots,
    older: Older,
    /// The tree that this node is asked about, as it is shown.
    asked_of: Option<Arc<questions::Open>>,
}

/// How far each root of an epoch without a payout was looked at.
#[derive(Debug, Default)]
struct Roots {
    /// Failed fetches.
    failed: BTreeMap<RootOf, u32>,
    /// Roots whose receipts are on disk.
    fetched: BTreeSet<RootOf>,
    /// Those of them that were searched for faults, and how often.
    searched: BTreeMap<RootOf, u32>,
}

impl Roots {
    /// Forgets what the books do not hold any more: roots of epochs with a payout, and those that a reorganisation took out.
    fn keep_open(&mut self, state: &State) {
        self.failed.retain(|root, _| root.is_open(state));
        self.fetched.retain(|root| root.is_open(state));
        self.searched.retain(|root, _| root.is_open(state));
    }

    fn is_to_be_searched(&self, root: &RootOf) -> bool {
        self.fetched.contains(root) && self.searched.get(root).is_none_or(|times| *times < SEARCHES_MAX)
    }

    fn searched(&mut self, root: RootOf, is_done: bool) {
        let times = self.searched.entry(root).or_default();
        *times = if is_done { SEARCHES_MAX } else { times.saturating_add(1) };
    }
}

impl Watch {
    /// Whether a root's receipts are at hand and not searched to the end.
    pub(super) fn is_to_be_searched(&self, root: &RootOf) -> bool {
        self.roots.is_to_be_searched(root)
    }

    /// Earlier roots of the nodes that are searched.
    pub(super) const fn older(&mut self) -> &mut Older {
        &mut self.older
    }

    /// Searches a node's roots once more: more of what it signed is at hand.
    pub(super) fn search_again(&mut self, node: Address) {
        self.roots.searched.retain(|root, _| root.node != node);
    }

    /// A root's receipts were searched; again, unless that is `done`.
    pub(super) fn searched(&mut self, root: RootOf, is_done: bool) {
        self.roots.searched(root, is_done);
    }
}

impl Settling {
    /// Answers what is asked of this node; who posts or watches payouts also settles what nobody answered and asks for what it lacks.
    pub(super) async fn look_at_challenges(self: &Arc<Self>, snapshot: &Snapshot, watch: &mut Watch) {
        let Some(heads) = snapshot.heads.filter(|_| snapshot.is_current()) else { return };
        let (state, now) = (&*snapshot.latest, heads.timestamp);
        watch.done.retain(|_, shown_at| *shown_at > snapshot.tip.number);
        let own = self.account.address();
        // There is least time for these, and the stake is a poster's.
        self.answer_questions(&snapshot.latest, now, watch).await;
        // The earliest first, and one stretch at a time: a root that is asked for whole takes an hour to show, in which questions about a payout, with
        // minutes to answer, must not wait.
        let mut open: Vec<_> = state.open_challenges().collect();
        open.sort_unstable_by_key(|(id, challenge)| (challenge.deadline, *id));
        let mut has_shown = false;
        for (id, challenge) in open {
            let act = if challenge.deadline > now { Act::Answer } else { Act::Settle };
            if watch.done.contains_key(&(id, act)) {
                continue;
            }
            let step = match (act, &challenge.of) {
                (Act::Answer, ChallengeOf::Receipts { epoch, node, first, count }) if *node == own => {
                    if has_shown {
                        continue;
                    }
                    self.show_stretch(state, *epoch, (*first, *count), challenge.shown).await.map(|shown_at| {
                        watch.done.insert((id, act), shown_at);
                        has_shown = true;
                        None
                    })
                }
                (Act::Answer, of) => self.answer(state, now, of),
                (_, of) if self.needs_all_receipts() || challenge.challenger == Some(own) => {
                    let overdue = Overdue { id, deadline: challenge.deadline, is_own: challenge.challenger == Some(own) };
                    let step = self.settled(state, of, &overdue, now).await;
                    if matches!(step, Ok(None)) {
                        // Not to be settled as the chain stands: looked at again later.
                        watch.done.insert((id, act), snapshot.tip.number.saturating_add(REFUSED_WAIT));
                    }
                    step
                }
                _ => Ok(None),
            };
            match step {
                Ok(Some(step)) => drop(self.carry_out((id, act), &step, watch).await),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(challenge = %id, error = format!("{error:#}"), "a challenge against this node is not answered")
                }
            }
        }
        if self.needs_all_receipts() {
            self.seek(&snapshot.latest, now, watch).await;
            self.seek_older(&snapshot.latest, now, watch);
            self.prove_faults(&snapshot.latest, now, watch).await;
        }
        watch.roots.keep_open(state);
        self.notes().keep_open(state);
    }

    /// Whether this node divides epochs. One that only watches must have what a node shows to its poster alone, or that poster's payout goes unwatched.
    const fn needs_all_receipts(&self) -> bool {
        self.is_poster || self.watches
    }

    /// Sends a step; one that the chain refuses is left alone for a while. Whether it is in a block.
    async fn carry_out(&self, (id, act): (Hash32, Act), step: &Step, watch: &mut Watch) -> bool {
        match self.chain.challenge(step).await {
            Ok(sent) => {
                tracing::info!(challenge = %id, transaction = %sent.transaction, what = step.what, "challenge");
                watch.done.insert((id, act), sent.block.number);
                true
            }
            Err(error) => {
                tracing::warn!(challenge = %id, what = step.what, %error, "challenge");
                if matches!(error, ChainError::Reverted { .. }) {
                    let tip = self.snapshots.borrow().tip.number;
                    watch.done.insert((id, act), tip.saturating_add(REFUSED_WAIT));
                }
                false
            }
        }
    }

    /// What answers a challenge of a request; nothing if it is not this node's to answer.
    fn answer(&self, state: &State, now: u64, of: &ChallengeOf) -> anyhow::Result<Option<Step>> {
        let own = self.account.address();
        match of {
            ChallengeOf::Request { receipt, node, .. } if *node == own => {
                let (bundle, place) = self.own_place(state, now, *receipt)?;
                let (body, quote) = (&bundle.receipt.document, &bundle.quote.document);
                ensure!(is_met(&bundle.request.document, body, quote), "the receipt does not meet the request that this node served");
                let evidence = request_evidence(&place, &body.encode(), &quote.encode());
                Ok(Some(Step::show_request(&bundle.request, evidence)))
            }
            _ => Ok(None),
        }
    }

    /// Shows what is left of a stretch of this node's receipts, in as many transactions as that takes. Others may show the same at the same time: what they
    /// were ahead with is passed over, and once they have shown all of it the chain refuses what is left to send.
    async fn show_stretch(&self, state: &State, epoch: u64, (first, count): (u64, u64), shown: u64) -> anyhow::Result<u64> {
        let of = self.own_root(state, epoch)?;
        let (next, end) = (first.saturating_add(shown), first.saturating_add(count));
        let numbers =
            of.numbers.get(usize::try_from(next)?..usize::try_from(end)?).context("the books hold fewer receipts than were posted")?;
        let exhibits = exhibits(&self.books.receipts(numbers)?);
        let sent = self.show(&Stretch { root: of.root, block: of.block, first, count }, next, &of.tree, &exhibits).await?;
        Ok(sent.last().map_or(0, |sent| sent.block.number))
    }

    async fn show(&self, of: &Stretch, next: u64, tree: &SumTree, exhibits: &[Exhibit]) -> anyhow::Result<Vec<Sent>> {
        let all = receipts_evidence(of, next, tree, exhibits, EVIDENCE_BYTES_MAX).context("the stretch ends beyond the receipts")?;
        let mut sent = Vec::with_capacity(all.len());
        for evidence in all {
            let step = Step::show_receipts(evidence);
            let done = self.chain.challenge(&step).await?;
            tracing::info!(epoch = of.root.epoch, transaction = %done.transaction, what = step.what, "challenge");
            sent.push(done);
        }
        Ok(sent)
    }

    /// Fetches the receipts behind every root of an epoch whose W1 still runs, each in a task of its own; asks on the chain for what is not shown.
    async fn seek(self: &Arc<Self>, state: &Arc<State>, now: u64, watch: &mut Watch) {
        self.take_fetched(watch);
        let own = self.account.address();
        let open = state.epochs().filter(|(_, epoch)| epoch.payout.is_none() && now < epoch.payout_from);
        let roots = open.flat_map(|(number, epoch)| epoch.roots.iter().map(move |(node, root)| RootOf::new(number, *node, root)));
        let lacking: Vec<_> = roots
            .filter(|root| root.node != own && root.count > 0 && state.withheld_at(root.epoch, root.node).is_none())
            .filter(|root| !watch.roots.fetched.contains(root))
            .collect();
        let silent: Vec<_> =
            lacking.iter().filter(|root| watch.roots.failed.get(root).is_some_and(|failed| *failed >= TRIES)).copied().collect();
        for root in lacking {
            if watch.fetches.len() < FETCHES_MAX && watch.fetching.insert(root) {
                let (settling, state) = (Arc::clone(self), Arc::clone(state));
                watch.fetches.spawn(async move { (root, settling.obtain(&state, root.epoch, root.node, &root.submitted()).await) });
            }
        }
        if silent.is_empty() {
            return;
        }
        match self.spare_bonds().await {
            Ok(mut bonds) => {
                for root in silent {
                    self.ask(state, now, root, &mut bonds, watch).await;
                }
            }
            Err(error) => tracing::warn!(error = format!("{error:#}"), "receipts are not asked for: what may be spent is not known"),
        }
    }

    /// Notes the fetches that have ended.
    fn take_fetched(&self, watch: &mut Watch) {
        while let Some(ended) = watch.fetches.try_join_next() {
            let Ok((root, fetched)) = ended else { continue };
            watch.fetching.remove(&root);
            match fetched {
                Ok(()) => {
                    watch.roots.fetched.insert(root);
                    self.notes().fetched(root);
                }
                Err(error) => {
                    let failed = watch.roots.failed.entry(root).or_default();
                    *failed = failed.saturating_add(1);
                    self.notes().failed(root, format!("{error:#}"));
                    tracing::debug!(node = %root.node, epoch = root.epoch, error = format!("{error:#}"), "receipts were not fetched");
                    if *failed == TRIES {
                        let (node, epoch, count) = (root.node, root.epoch, root.count);
                        tracing::warn!(%node, epoch, count, error = format!("{error:#}"), "a node does not show its receipts");
                    }
                }
            }
        }
        if watch.fetches.is_empty() {
            // One that panicked has no name.
            watch.fetching.clear();
        }
    }

    /// Receipts that may be asked for on the chain now: see [`stretches`].
    async fn spare_bonds(&self) -> anyhow::Result<u64> {
        let (balance, fees) = (self.chain.balance(self.account.address()).await?, self.chain.rpc().fees().await?);
        Ok(stretches::affordable(balance, fees.most, self.deployment.config.challenge_bond))
    }

    /// Challenges what is to be asked for of a root by now, as far as `bonds` reach.
    async fn ask(&self, state: &State, now: u64, root: RootOf, bonds: &mut u64, watch: &mut Watch) {
        let RootOf { epoch: number, node, .. } = root;
        let Some((body, block)) = root_of(state, number, node) else { return };
        let Some(epoch) = state.epoch(number) else { return };
        let asked: Vec<stretches::Asked> = asked(state, number, node).collect();
        let time = Time { now, answer_s: self.deployment.config.answer_s, end: epoch.payout_from };
        let mut due = stretches::due(root.count, &asked, &time, *bonds);
        due.retain(|(first, count)| !watch.done.contains_key(&(receipts_challenge(number, node, *first, *count), Act::Ask)));
        if *bonds == 0 && !stretches::due(root.count, &asked, &time, 1).is_empty() {
            tracing::warn!(%node, epoch = number, "a node does not show its receipts, and this account has too little to ask for them on the chain");
        }
        for (first, count) in due.into_iter().take(ASKS_MAX) {
            tracing::warn!(%node, epoch = number, first, count, "a node does not show its receipts: challenged on the chain");
            let id = receipts_challenge(number, node, first, count);
            if self.carry_out((id, Act::Ask), &Step::ask_receipts(&Stretch { root: body, block, first, count }), watch).await {
                *bonds = bonds.saturating_sub(count);
            }
        }
    }

    /// Has a root's receipts on disk: from there, from their node, or from the chain where all of them were shown.
    pub(super) async fn obtain(&self, state: &State, number: u64, node: Address, root: &SubmittedRoot) -> anyhow::Result<()> {
        if let Some(items) = self.fetched(number, node, root)? {
            // Pages may be older than the rows beside them.
            let is_whole = lanes::is_indexed(self.books.records(), number, node, root.receipts)?;
            return if is_whole { Ok(()) } else { self.put(&lanes::rows(number, node, root.receipts, &items)) };
        }
        let items = match self.fetch_receipts(state, node, number, root).await {
            Ok(items) => items,
            Err(error) => {
                let shown = receipts_on_chain(&self.chain, state, number, node, root).await?;
                let shown = shown.ok_or(error)?;
                check_items(&self.deployment.domains(), number, node, root, &shown)?;
                shown
            }
        };
        self.keep_fetched(number, node, root, &items)
    }

    /// Keeps a root's receipts, checked already, with the rows that find them by their lanes.
    pub(super) fn keep_fetched(&self, number: u64, node: Address, root: &SubmittedRoot, items: &[ReceiptItem]) -> anyhow::Result<()> {
        let mut records: Vec<Record> = (0_u32..)
            .zip(items.chunks(RECEIPTS_PAGE))
            .map(|(page, items)| Ok((FETCHED, key(number, node, page), serde_json::to_vec(items)?)))
            .collect::<serde_json::Result<_>>()?;
        records.extend(lanes::rows(number, node, root.receipts, items));
        self.put(&records)
    }

    fn put(&self, records: &[Record]) -> anyhow::Result<()> {
        let records: Vec<(&str, &[u8], &[u8])> =
            records.iter().map(|(table, key, value)| (*table, key.as_slice(), value.as_slice())).collect();
        Ok(self.books.records().put_all(&records)?)
    }

    /// A root's receipts as they were fetched; nothing if they were not, or are of another root.
    pub(super) fn fetched(&self, number: u64, node: Address, root: &SubmittedRoot) -> anyhow::Result<Option<Vec<ReceiptItem>>> {
        let mut items: Vec<ReceiptItem> = Vec::new();
        for page in 0_u32.. {
            if u64::try_from(items.len())? >= root.count {
                break;
            }
            let Some(bytes) = self.books.records().get(FETCHED, &key(number, node, page))? else { return Ok(None) };
            let page: Vec<ReceiptItem> = serde_json::from_slice(&bytes).context("kept receipts are damaged")?;
            ensure!(!page.is_empty(), "a page of kept receipts is empty");
            items.extend(page);
        }
        Ok(check_items(&self.deployment.domains(), number, node, root, &items).is_ok().then_some(items))
    }

    /// A page of another node's receipts as they were fetched, from a place on. Whoever asks checks them against the root.
    pub(super) fn fetched_page(&self, number: u64, node: Address, from: u64) -> anyhow::Result<Vec<ReceiptItem>> {
        fetched_page(self.books.records(), number, node, from)
    }
}

/// A page of fetched receipts from a place on.
pub(super) fn fetched_page(records: &Records, number: u64, node: Address, from: u64) -> anyhow::Result<Vec<ReceiptItem>> {
    let rows = u64::try_from(RECEIPTS_PAGE)?;
    let bytes = records.get(FETCHED, &key(number, node, u32::try_from(from / rows)?))?;
    let bytes = bytes.with_context(|| format!("this node holds no receipts of {node} from {from} on in epoch {number}"))?;
    let page: Vec<ReceiptItem> = serde_json::from_slice(&bytes).context("kept receipts are damaged")?;
    Ok(page.into_iter().skip(usize::try_from(from % rows)?).collect())
}

/// Receipts as they are shown.
fn exhibits(bundles: &[Bundle]) -> Vec<Exhibit> {
    let exhibit = |bundle: &Bundle| Exhibit {
        bodies: Bodies {
            receipt: bundle.receipt.document.encode(),
            quote: bundle.quote.document.encode(),
            manifest: bundle.manifest.encode(),
        },
        signature: bundle.receipt.signature,
    };
    bundles.iter().map(exhibit).collect()
}

fn key(epoch: u64, node: Address, page: u32) -> Vec<u8> {
    [epoch.to_be_bytes().as_slice(), &node.0, &page.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use chain_bridge::registry::event::{Event, Logged};
    use types::time::BlockRef;

    use super::*;

    #[test]
    fn pages_of_one_root_stand_together_and_those_of_another_apart() {
        let at = |epoch, node, page| key(epoch, Address([node; 20]), page);
        assert!(at(1, 2, 0) < at(1, 2, 1) && at(1, 2, u32::MAX) < at(1, 3, 0) && at(1, 255, 9) < at(2, 0, 0));
    }

    #[test]
    fn a_root_that_a_reorganisation_put_in_anothers_place_is_fetched_and_searched_again() {
        let node = Address([9; 20]);
        let books = |receipts: u8, block: u64| {
            let mut state = State::default();
            let opened = Event::EpochOpened { epoch: 1, opened_at: 10, accepts_until: 15, payout_from: 25 };
            let (receipts, fees) = (Hash32([receipts; 32]), Amount(1));
            let submitted = Event::NodeRootSubmitted { epoch: 1, node, receipts, count: 2, fees, block };
            for (log, event) in (0..).zip([opened, submitted]) {
                let block = BlockRef { number: 100, hash: Hash32::ZERO };
                state.apply(&Logged { block, time: 12, transaction: Hash32::ZERO, log, event }).unwrap();
            }
            state
        };
        let of = |state: &State| RootOf::new(1, node, &state.epoch(1).unwrap().roots[&node]);
        let (one, other, later) = (books(1, 100), books(2, 100), books(1, 101));
        let mut roots = Roots::default();
        roots.fetched.insert(of(&one));
        roots.failed.insert(of(&one), 1);
        assert!(roots.is_to_be_searched(&of(&one)));
        roots.searched(of(&one), true);
        assert!(!roots.is_to_be_searched(&of(&one)));
        roots.keep_open(&one);
        assert!(roots.fetched.contains(&of(&one)), "it stands");
        for changed in [&other, &later] {
            assert!(!roots.fetched.contains(&of(changed)) && !roots.searched.contains_key(&of(changed)));
            assert!(!of(&one).is_open(changed), "other receipts, or another block that proofs name");
        }
        roots.keep_open(&other);
        assert!(roots.fetched.is_empty() && roots.searched.is_empty() && roots.failed.is_empty(), "what is gone is forgotten");
    }
}
