//! Challenges (Protocol P7): what this node is asked for on the chain it shows; what a poster is not shown it asks for there, so that a node that
//! keeps its receipts to itself, or is gone, holds up no epoch.
//!
//! While W1 of an epoch runs a poster fetches the receipts behind each root, once, and keeps them on disk. Where that fails twice it challenges
//! the first receipt it lacks (F8): the node answers, on the chain or by showing its receipts after all, or is slashed once for the root, and the
//! epoch goes on without it. A challenge costs a bond, which whoever answers is given; at most [`ASKED_MAX`] are made for one root.
//! On disk: about 1.5 KB a receipt.
//!
//! By the latest block, because the time to answer runs there and silence costs stake. A reorganisation can make no step wrong, only void: each
//! names the root and the block it was taken in, or the challenge, and is refused where these are not (then gas is lost, the bond is not). One that
//! takes back what this node sent is noticed by the books: a challenge that is open again, at or after the block of the step, has it sent again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use attribution::{
    bundle::Bundle,
    epoch::Payout,
    message::{RECEIPTS_PAGE, ReceiptItem},
};
use chain_bridge::{
    chain::error::ChainError,
    follow::Snapshot,
    fraud::{
        calldata::{Step, receipt_challenge},
        challenge::{is_met, leaf_evidence, part_evidence, receipt_evidence, request_evidence},
        pack::Place,
        payout::Shown,
        search::{Bodies, root_of},
    },
    registry::{
        State,
        money::ChallengeOf,
        state::{Epoch, SubmittedRoot},
    },
};
use futures::future::join_all;
use tokio::time::timeout;
use types::{
    encoding::Document as _,
    id::{Address, Hash32},
    key::{Signed, Signed65},
    manifest::Manifest,
    merkle::Tree,
    quote::Quote,
    receipt::Receipt,
};

use super::{ASK_WAIT, Settling, check_items};

/// Fetches that fail before a receipt is asked for on the chain: one may meet a node that starts again.
const TRIES: u32 = 2;
/// Receipts of one root that are asked for on the chain: each costs a bond if it is shown, and who has shown so many shows its books to nobody.
const ASKED_MAX: u64 = 16;
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

/// What was done about challenges and withheld receipts and is not in the chain's books yet. Bounded by the challenges that are open, and the roots
/// of epochs without a payout.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Challenges and what a transaction was sent for (one is asked, and settled later), with the block from which on the books show it: what they do
    /// not show then is to be done again.
    done: BTreeMap<(Hash32, Act), u64>,
    /// Failed fetches, by epoch and node.
    failed: BTreeMap<(u64, Address), u32>,
    /// Roots whose receipts are on disk.
    fetched: BTreeSet<(u64, Address)>,
    /// Those of them that were searched for faults, and how often.
    searched: BTreeMap<(u64, Address), u32>,
}

impl Watch {
    /// Whether a root's receipts are at hand and not searched to the end.
    pub(super) fn is_to_be_searched(&self, epoch: u64, node: Address) -> bool {
        self.fetched.contains(&(epoch, node)) && self.searched.get(&(epoch, node)).is_none_or(|times| *times < SEARCHES_MAX)
    }

    /// A root's receipts were searched; again, unless that is `done`.
    pub(super) fn searched(&mut self, epoch: u64, node: Address, is_done: bool) {
        let times = self.searched.entry((epoch, node)).or_default();
        *times = if is_done { SEARCHES_MAX } else { times.saturating_add(1) };
    }
}

impl Settling {
    /// Answers what is asked of this node; a poster also settles what nobody answered and asks for what it lacks.
    pub(super) async fn look_at_challenges(&self, snapshot: &Snapshot, watch: &mut Watch) {
        let Some(heads) = snapshot.heads.filter(|_| snapshot.is_current()) else { return };
        let (state, now) = (&*snapshot.latest, heads.timestamp);
        watch.done.retain(|_, shown_at| *shown_at > snapshot.tip.number);
        for (id, challenge) in state.open_challenges() {
            let act = if challenge.deadline > now { Act::Answer } else { Act::Settle };
            let step = match act {
                _ if watch.done.contains_key(&(id, act)) => Ok(None),
                Act::Answer => self.answer(state, &challenge.of).await,
                _ if self.is_poster => Ok(settled(state, &challenge.of)),
                _ => Ok(None),
            };
            match step {
                Ok(Some(step)) => self.carry_out((id, act), &step, watch).await,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(challenge = %id, error = format!("{error:#}"), "a challenge against this node is not answered")
                }
            }
        }
        if self.is_poster {
            self.seek(state, now, watch).await;
            self.prove_faults(&snapshot.latest, now, watch).await;
        }
        let waits = |epoch: u64| state.epoch(epoch).is_some_and(|epoch| epoch.payout.is_none());
        watch.failed.retain(|(epoch, _), _| waits(*epoch));
        watch.fetched.retain(|(epoch, _)| waits(*epoch));
        watch.searched.retain(|(epoch, _), _| waits(*epoch));
    }

    /// Sends a step; one that the chain refuses is left alone for a while.
    async fn carry_out(&self, (id, act): (Hash32, Act), step: &Step, watch: &mut Watch) {
        match self.chain.challenge(step).await {
            Ok(sent) => {
                tracing::info!(challenge = %id, transaction = %sent.transaction, what = step.what, "challenge");
                watch.done.insert((id, act), sent.block.number);
            }
            Err(error) => {
                tracing::warn!(challenge = %id, what = step.what, %error, "challenge");
                if matches!(error, ChainError::Reverted { .. }) {
                    let tip = self.snapshots.borrow().tip.number;
                    watch.done.insert((id, act), tip.saturating_add(REFUSED_WAIT));
                }
            }
        }
    }

    /// What answers a challenge; nothing if it is not this node's to answer.
    async fn answer(&self, state: &State, of: &ChallengeOf) -> anyhow::Result<Option<Step>> {
        let own = self.account.address();
        let is_own_payout = |epoch: &u64| state.epoch(*epoch).and_then(|epoch| epoch.payout).is_some_and(|payout| payout.poster == own);
        match of {
            ChallengeOf::Receipt { epoch, node, index } if *node == own => {
                let (bundle, place) = self.own_place(state, *epoch, |at, _| at == *index)?;
                let (receipt, quote) = (&bundle.receipt, bundle.quote.document.encode());
                let manifest = bundle.manifest.encode();
                let evidence = receipt_evidence(&place, &receipt.document.encode(), &receipt.signature, &quote, &manifest);
                Ok(Some(Step::show_receipt(evidence)))
            }
            ChallengeOf::Request { receipt, node, .. } if *node == own => {
                let epochs = state.epochs().filter(|(_, epoch)| epoch.roots.contains_key(&own)).map(|(number, _)| number);
                let found = epochs.filter_map(|epoch| self.own_place(state, epoch, |_, hash| hash == *receipt).ok()).next();
                let (bundle, place) = found.with_context(|| format!("receipt {receipt} is not in this node's books"))?;
                let (body, quote) = (&bundle.receipt.document, &bundle.quote.document);
                ensure!(is_met(&bundle.request.document, body, quote), "the receipt does not meet the request that this node served");
                let evidence = request_evidence(&place, &body.encode(), &quote.encode());
                Ok(Some(Step::show_request(&bundle.request, evidence)))
            }
            ChallengeOf::Leaf { epoch, index } if is_own_payout(epoch) => {
                Ok(Some(Step::show_leaf(*index, leaf_evidence(&shown(&self.tree(state, *epoch).await?)?, *index))))
            }
            ChallengeOf::Part { epoch, account, index } if is_own_payout(epoch) => {
                let shown = shown(&self.tree(state, *epoch).await?)?;
                let (leaf, _) = shown.line(*account).with_context(|| format!("the tree has no line of {account}"))?;
                Ok(part_evidence(&shown, leaf, *index).map(|evidence| Step::show_part(*index, evidence)))
            }
            _ => Ok(None),
        }
    }

    /// A receipt of this node under its root of an epoch, by its place and hash.
    fn own_place(&self, state: &State, epoch: u64, is_it: impl Fn(u64, Hash32) -> bool) -> anyhow::Result<(Bundle, Place)> {
        let (root, block) = root_of(state, epoch, self.account.address()).context("this node submitted no root then")?;
        let posting = self.books.posting(epoch)?.context("this node's books hold no posting of that epoch")?;
        let mut bundles = self.books.receipts(&posting.numbers)?;
        let hashes: Vec<Hash32> = bundles.iter().map(|bundle| bundle.receipt.document.hash()).collect();
        let tree = Tree::over(hashes.iter().map(|hash| hash.0.as_slice()));
        ensure!(tree.root() == root.receipts, "the books give the root {}, submitted was {}", tree.root(), root.receipts);
        let found = (0..).zip(&hashes).find(|(at, hash)| is_it(*at, **hash)).map(|(at, _)| at).context("no such receipt")?;
        let opening = tree.open(found).context("no such receipt")?;
        Ok((bundles.swap_remove(usize::try_from(found)?), Place { root, block, opening }))
    }

    /// Fetches the receipts behind every root of an epoch whose W1 still runs; asks on the chain for what is not shown.
    async fn seek(&self, state: &State, now: u64, watch: &mut Watch) {
        let own = self.account.address();
        let open = state.epochs().filter(|(_, epoch)| epoch.payout.is_none() && now < epoch.payout_from);
        let roots = open.flat_map(|(number, epoch)| epoch.roots.iter().map(move |(node, root)| (number, epoch, *node, root)));
        let lacking: Vec<_> = roots
            .filter(|(number, _, node, root)| *node != own && root.count > 0 && state.withheld_at(*number, *node).is_none())
            .filter(|(number, _, node, _)| !watch.fetched.contains(&(*number, *node)))
            .collect();
        // Who is only slow is waited for as long as an answer on the chain would be.
        let patience = ASK_WAIT.min(Duration::from_secs(self.deployment.config.answer_s));
        let mut fetches = Vec::with_capacity(lacking.len());
        for (number, _, node, root) in &lacking {
            fetches.push(self.obtain_within(patience, state, *number, *node, root));
        }
        let fetched = join_all(fetches).await;
        for ((number, epoch, node, root), fetched) in lacking.into_iter().zip(fetched) {
            match fetched {
                Ok(()) => {
                    watch.fetched.insert((number, node));
                }
                Err(error) => {
                    let failed = watch.failed.entry((number, node)).or_default();
                    *failed = failed.saturating_add(1);
                    tracing::debug!(%node, epoch = number, error = format!("{error:#}"), "receipts were not fetched");
                    if *failed >= TRIES {
                        self.ask(state, now, (number, epoch), node, root, watch).await;
                    }
                }
            }
        }
    }

    /// Challenges the first receipt of a root that nobody has shown on the chain.
    async fn ask(&self, state: &State, now: u64, (number, epoch): (u64, &Epoch), node: Address, root: &SubmittedRoot, watch: &mut Watch) {
        let is_shown = |index: &u64| state.challenge(receipt_challenge(number, node, *index)).is_some_and(|challenge| challenge.is_closed);
        let Some(index) = (0..root.count.min(ASKED_MAX)).find(|index| !is_shown(index)) else { return };
        let id = receipt_challenge(number, node, index);
        let answer_s = self.deployment.config.answer_s;
        let is_late = now.saturating_add(answer_s.saturating_mul(2)) > epoch.payout_from;
        if state.challenge(id).is_some() || watch.done.contains_key(&(id, Act::Ask)) || is_late {
            return;
        }
        let Some((body, block)) = root_of(state, number, node) else { return };
        tracing::warn!(%node, epoch = number, index, "a node does not show its receipts: challenged on the chain");
        self.carry_out((id, Act::Ask), &Step::ask_receipt(&body, block, index), watch).await;
    }

    async fn obtain_within(
        &self,
        patience: Duration,
        state: &State,
        number: u64,
        node: Address,
        root: &SubmittedRoot,
    ) -> anyhow::Result<()> {
        timeout(patience, self.obtain(state, number, node, root)).await.context("its receipts did not come in time")?
    }

    /// Has a root's receipts on disk: from there, from the chain where they were shown, or from their node.
    async fn obtain(&self, state: &State, number: u64, node: Address, root: &SubmittedRoot) -> anyhow::Result<()> {
        if self.fetched(number, node, root)?.is_some() {
            return Ok(());
        }
        let items = match self.shown_on_chain(state, number, node, root).await? {
            Some(items) => items,
            None => self.fetch_receipts(state, node, number, root.count).await?,
        };
        check_items(&self.deployment.domains(), number, node, root, &items)?;
        let pages: Vec<(Vec<u8>, Vec<u8>)> = (0_u32..)
            .zip(items.chunks(RECEIPTS_PAGE))
            .map(|(page, items)| Ok((key(number, node, page), serde_json::to_vec(items)?)))
            .collect::<serde_json::Result<_>>()?;
        let records: Vec<(&str, &[u8], &[u8])> = pages.iter().map(|(key, page)| (FETCHED, key.as_slice(), page.as_slice())).collect();
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

    /// A root's receipts, if every one was challenged and shown.
    async fn shown_on_chain(
        &self,
        state: &State,
        number: u64,
        node: Address,
        root: &SubmittedRoot,
    ) -> anyhow::Result<Option<Vec<ReceiptItem>>> {
        let ids: Vec<Hash32> = (0..root.count.min(ASKED_MAX)).map(|index| receipt_challenge(number, node, index)).collect();
        let are_shown = ids.iter().all(|id| state.challenge(*id).is_some_and(|challenge| challenge.is_closed));
        if root.count > ASKED_MAX || !are_shown {
            return Ok(None);
        }
        let head = self.chain.latest().await?.block.number;
        let shown = self.chain.shown_receipts(root.block, head).await?;
        let item = |id: &Hash32| {
            let shown = shown.iter().find(|shown| shown.challenge == *id).context("its event is not there")?;
            read(&shown.bodies, &shown.signature)
        };
        ids.iter().map(item).collect::<anyhow::Result<_>>().map(Some)
    }
}

fn read(bodies: &Bodies, signature: &[u8]) -> anyhow::Result<ReceiptItem> {
    let signature = Signed65(signature.try_into().context("a signature has 65 bytes")?);
    Ok(ReceiptItem {
        receipt: Signed { document: Receipt::decode(&bodies.receipt)?, signature },
        quote: Quote::decode(&bodies.quote)?,
        manifest: Manifest::decode(&bodies.manifest)?,
    })
}

/// What settles a challenge that was not answered; nothing if it cannot be settled any more, or needs what only its challenger has.
fn settled(state: &State, of: &ChallengeOf) -> Option<Step> {
    match of {
        ChallengeOf::Receipt { epoch, node, index } => {
            let (root, block) = root_of(state, *epoch, *node)?;
            Some(Step::settle_receipt(&root, block, *index))
        }
        ChallengeOf::Leaf { epoch, index } => {
            state.epoch(*epoch)?.payout?;
            Some(Step::settle_leaf(*index))
        }
        ChallengeOf::Request { .. } | ChallengeOf::Part { .. } => None,
    }
}

fn shown(payout: &Payout) -> anyhow::Result<Shown> {
    Ok(Shown::of(payout.leaves().iter().zip(payout.parts()).map(|(leaf, parts)| (leaf, parts.as_slice())))?)
}

fn key(epoch: u64, node: Address, page: u32) -> Vec<u8> {
    [epoch.to_be_bytes().as_slice(), &node.0, &page.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_one_root_stand_together_and_those_of_another_apart() {
        let at = |epoch, node, page| key(epoch, Address([node; 20]), page);
        assert!(at(1, 2, 0) < at(1, 2, 1) && at(1, 2, u32::MAX) < at(1, 3, 0) && at(1, 255, 9) < at(2, 0, 0));
    }

    #[test]
    fn what_a_node_shows_on_the_chain_is_read_whole_or_not_at_all() {
        let bodies = Bodies { receipt: vec![0; 434], quote: vec![], manifest: vec![] };
        assert!(read(&bodies, &[0; 65]).is_err(), "no quote, no manifest, and no known profile");
        assert!(read(&bodies, &[0; 64]).unwrap_err().to_string().contains("65 bytes"));
    }
}
