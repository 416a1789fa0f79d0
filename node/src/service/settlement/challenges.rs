//! Challenges (Protocol P7): what this node is asked for on the chain it shows; what a poster is not shown it asks for there, so that a node that
//! keeps its receipts to itself, or is gone, holds up no epoch.
//!
//! While W1 of an epoch runs a poster fetches the receipts behind each root, once, and keeps them on disk. Where that fails twice it challenges
//! the first stretch of them (F8): the node answers, on the chain or by showing its receipts after all, or is slashed once for the root, and the
//! epoch goes on without it. A node that answers and still serves nobody is asked for every other stretch at once: then all its receipts stand in events,
//! or it is found to withhold one. A bond is due for each receipt, which whoever shows it is given. On disk: about 1.5 KB a receipt.
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
    epoch::{Payout, receipts_tree},
    message::{RECEIPTS_PAGE, ReceiptItem},
};
use chain_bridge::{
    chain::error::ChainError,
    client::{ChainClient, fraud::ShownReceipt, send::Sent},
    follow::Snapshot,
    fraud::{
        calldata::{Step, receipts_challenge},
        challenge::{
            EVIDENCE_BYTES_MAX, Exhibit, STRETCH_MAX, Stretch, is_met, leaf_evidence, part_evidence, receipts_evidence, request_evidence,
        },
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
    encoding::{Body, Document as _},
    id::{Address, Hash32},
    key::{Signed, Signed65},
    merkle::{SumTree, keccak},
    operator::NodeRoot,
    receipt::Receipt,
};

use super::{ASK_WAIT, Settling, check_items};

/// Fetches that fail before a receipt is asked for on the chain: one may meet a node that starts again.
const TRIES: u32 = 2;
/// Receipts that are asked for first: a node that shows so many on the chain and none elsewhere is asked for all.
const FIRST_STRETCH: u64 = 64;
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
    /// Answers what is asked of this node; who posts or watches payouts also settles what nobody answered and asks for what it lacks.
    pub(super) async fn look_at_challenges(&self, snapshot: &Snapshot, watch: &mut Watch) {
        let Some(heads) = snapshot.heads.filter(|_| snapshot.is_current()) else { return };
        let (state, now) = (&*snapshot.latest, heads.timestamp);
        watch.done.retain(|_, shown_at| *shown_at > snapshot.tip.number);
        let own = self.account.address();
        for (id, challenge) in state.open_challenges() {
            let act = if challenge.deadline > now { Act::Answer } else { Act::Settle };
            if watch.done.contains_key(&(id, act)) {
                continue;
            }
            let step = match (act, &challenge.of) {
                (Act::Answer, ChallengeOf::Receipts { epoch, node, first, count }) if *node == own => {
                    self.show_stretch(state, *epoch, (*first, *count), challenge.shown).await.map(|shown_at| {
                        watch.done.insert((id, act), shown_at);
                        None
                    })
                }
                (Act::Answer, of) => self.answer(state, of).await,
                (_, of) if self.needs_all_receipts() => Ok(settled(state, of)),
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
        if self.needs_all_receipts() {
            self.seek(state, now, watch).await;
            self.prove_faults(&snapshot.latest, now, watch).await;
        }
        let waits = |epoch: u64| state.epoch(epoch).is_some_and(|epoch| epoch.payout.is_none());
        watch.failed.retain(|(epoch, _), _| waits(*epoch));
        watch.fetched.retain(|(epoch, _)| waits(*epoch));
        watch.searched.retain(|(epoch, _), _| waits(*epoch));
    }

    /// Whether this node divides epochs. One that only watches must have what a node shows to its poster alone, or that poster's payout goes unwatched.
    const fn needs_all_receipts(&self) -> bool {
        self.is_poster || self.watches
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

    /// Shows what is left of a stretch of this node's receipts, in as many transactions as that takes. Others may show the same: then the chain refuses one
    /// of them, and the next round goes on where the stretch stands by then.
    async fn show_stretch(&self, state: &State, epoch: u64, (first, count): (u64, u64), shown: u64) -> anyhow::Result<u64> {
        let (root, block, bundles, tree) = self.own_root(state, epoch)?;
        let (next, end) = (first.saturating_add(shown), first.saturating_add(count));
        let exhibits = exhibits(&bundles, next, end)?;
        let sent = self.show(&Stretch { root, block, first, count }, next, &tree, &exhibits).await?;
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

    /// This node's root of an epoch with its receipts in order and their tree.
    fn own_root(&self, state: &State, epoch: u64) -> anyhow::Result<(NodeRoot, u64, Vec<Bundle>, SumTree)> {
        let (root, block) = root_of(state, epoch, self.account.address()).context("this node submitted no root then")?;
        let posting = self.books.posting(epoch)?.context("this node's books hold no posting of that epoch")?;
        let bundles = self.books.receipts(&posting.numbers)?;
        let receipts: Vec<Signed<Receipt>> = bundles.iter().map(|bundle| bundle.receipt.clone()).collect();
        let tree = receipts_tree(&receipts)?;
        ensure!(tree.root() == root.receipts, "the books give the root {}, submitted was {}", tree.root(), root.receipts);
        Ok((root, block, bundles, tree))
    }

    /// A receipt of this node under its root of an epoch, by its place and hash.
    fn own_place(&self, state: &State, epoch: u64, is_it: impl Fn(u64, Hash32) -> bool) -> anyhow::Result<(Bundle, Place)> {
        let (root, block, mut bundles, tree) = self.own_root(state, epoch)?;
        let found = (0..).zip(&bundles).find(|(at, bundle)| is_it(*at, bundle.receipt.document.hash())).map(|(at, _)| at);
        let found = found.context("no such receipt")?;
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
            fetches.push(self.obtain(patience, state, *number, *node, root));
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

    /// Challenges what is to be asked for of a root by now.
    async fn ask(&self, state: &State, now: u64, (number, epoch): (u64, &Epoch), node: Address, root: &SubmittedRoot, watch: &mut Watch) {
        let Some((body, block)) = root_of(state, number, node) else { return };
        let asked: Vec<Asked> = asked(state, number, node).collect();
        let time = Time { now, answer_s: self.deployment.config.answer_s, end: epoch.payout_from };
        let due = due(root.count, &asked, &time);
        let open = due.filter(|(first, count)| !watch.done.contains_key(&(receipts_challenge(number, node, *first, *count), Act::Ask)));
        let open: Vec<_> = open.take(ASKS_MAX).collect();
        for (first, count) in open {
            tracing::warn!(%node, epoch = number, first, count, "a node does not show its receipts: challenged on the chain");
            let id = receipts_challenge(number, node, first, count);
            self.carry_out((id, Act::Ask), &Step::ask_receipts(&Stretch { root: body, block, first, count }), watch).await;
        }
    }

    /// Has a root's receipts on disk: from there, from their node, which is waited for no longer than `patience`, or from the chain where all of them
    /// were shown.
    async fn obtain(&self, patience: Duration, state: &State, number: u64, node: Address, root: &SubmittedRoot) -> anyhow::Result<()> {
        if self.fetched(number, node, root)?.is_some() {
            return Ok(());
        }
        let served = timeout(patience, self.fetch_receipts(state, node, number, root.count)).await;
        let items = match served.context("its receipts did not come in time").flatten() {
            Ok(items) if check_items(&self.deployment.domains(), number, node, root, &items).is_ok() => items,
            fetched => {
                let shown = receipts_on_chain(&self.chain, state, number, node, root).await?;
                match (shown, fetched) {
                    (Some(items), _) | (None, Ok(items)) => items,
                    (None, Err(error)) => return Err(error),
                }
            }
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

    /// A page of another node's receipts as they were fetched, from a place on. Whoever asks checks them against the root.
    pub(super) fn fetched_page(&self, number: u64, node: Address, from: u64) -> anyhow::Result<Vec<ReceiptItem>> {
        let rows = u64::try_from(RECEIPTS_PAGE)?;
        let bytes = self.books.records().get(FETCHED, &key(number, node, u32::try_from(from / rows)?))?;
        let bytes = bytes.with_context(|| format!("this node holds no receipts of {node} from {from} on in epoch {number}"))?;
        let page: Vec<ReceiptItem> = serde_json::from_slice(&bytes).context("kept receipts are damaged")?;
        Ok(page.into_iter().skip(usize::try_from(from % rows)?).collect())
    }
}

/// A root's receipts, if every one was shown on the chain, asked for or not. They are not checked against the root.
///
/// # Errors
/// What keeps the chain from being read.
pub async fn receipts_on_chain(
    client: &ChainClient,
    state: &State,
    number: u64,
    node: Address,
    root: &SubmittedRoot,
) -> anyhow::Result<Option<Vec<ReceiptItem>>> {
    let head = client.latest().await?.block.number;
    let shown = client.shown_receipts(root.block, head).await?;
    let stretches: BTreeSet<Hash32> =
        asked(state, number, node).map(|asked| receipts_challenge(number, node, asked.first, asked.count)).collect();
    // What was published stands under the id of the stretch of none that begins with it.
    let is_its = |id: Hash32, lowest: u64| stretches.contains(&id) || id == receipts_challenge(number, node, lowest, 0);
    let Some(shown) = gathered(shown, root.count, is_its) else { return Ok(None) };
    shown.iter().map(read).collect::<anyhow::Result<_>>().map(Some)
}

/// Receipts of a root that somebody has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    first: u64,
    count: u64,
    /// Until when they are waited for.
    deadline: u64,
    /// All of them were shown.
    is_shown: bool,
}

impl Asked {
    /// Whether a stretch lies within it.
    const fn covers(&self, (first, count): (u64, u64)) -> bool {
        self.first <= first && first.saturating_add(count) <= self.first.saturating_add(self.count)
    }
}

fn asked(state: &State, number: u64, of_node: Address) -> impl Iterator<Item = Asked> {
    state.challenges().filter_map(move |(_, challenge)| match challenge.of {
        ChallengeOf::Receipts { epoch, node, first, count } if (epoch, node) == (number, of_node) => {
            Some(Asked { first, count, deadline: challenge.deadline, is_shown: challenge.shown >= count })
        }
        _ => None,
    })
}

/// How much of W1 is left, in the sequencer's seconds.
#[derive(Debug, Clone, Copy)]
struct Time {
    now: u64,
    /// How long a challenge waits for its answer.
    answer_s: u64,
    /// When W1 ends.
    end: u64,
}

impl Time {
    /// Whether a challenge that is made at `at` can be answered, and settled as long after, before W1 ends.
    const fn is_enough(&self, at: u64) -> bool {
        at.saturating_add(self.answer_s.saturating_mul(2)) <= self.end
    }
}

/// What to ask for of a root over `count` receipts: its first stretch; every other one once that was shown, or if its answer may come too late for them.
fn due(count: u64, asked: &[Asked], time: &Time) -> impl Iterator<Item = (u64, u64)> {
    let first = (0, count.min(FIRST_STRETCH));
    let known = asked.iter().filter(|asked| asked.covers(first)).min_by_key(|asked| (!asked.is_shown, asked.deadline));
    // Where nothing is asked yet an answer may come as late as a challenge of now allows.
    let answered_by = match known {
        Some(asked) => asked.deadline,
        None => time.now.saturating_add(time.answer_s),
    };
    let is_all = known.is_some_and(|asked| asked.is_shown) || !time.is_enough(answered_by);
    let rest = (FIRST_STRETCH..count).step_by(usize::try_from(STRETCH_MAX).expect("256 fits"));
    let rest = rest.map(move |from| (from, (count - from).min(STRETCH_MAX))).take_while(move |_| is_all);
    let is_in_time = time.is_enough(time.now);
    std::iter::once(first).chain(rest).filter(move |stretch| is_in_time && !asked.iter().any(|asked| asked.covers(*stretch)))
}

/// What was shown of a root over `count` receipts, in order, if that is all. `is_its` says whether a stretch, with the lowest place shown under its id,
/// is of the root.
fn gathered(shown: Vec<ShownReceipt>, count: u64, is_its: impl Fn(Hash32, u64) -> bool) -> Option<Vec<ShownReceipt>> {
    let mut lowest: BTreeMap<Hash32, u64> = BTreeMap::new();
    for one in &shown {
        let low = lowest.entry(one.challenge).or_insert(one.index);
        *low = one.index.min(*low);
    }
    lowest.retain(|id, lowest| is_its(*id, *lowest));
    let of_root: BTreeMap<u64, ShownReceipt> =
        shown.into_iter().filter(|one| lowest.contains_key(&one.challenge)).map(|one| (one.index, one)).collect();
    (0..count).eq(of_root.keys().copied()).then(|| of_root.into_values().collect())
}

/// Receipts from a place to another as they are shown.
fn exhibits(bundles: &[Bundle], from: u64, to: u64) -> anyhow::Result<Vec<Exhibit>> {
    let bundles = bundles.get(usize::try_from(from)?..usize::try_from(to)?).context("the books hold fewer receipts than were posted")?;
    let exhibit = |bundle: &Bundle| Exhibit {
        bodies: Bodies {
            receipt: bundle.receipt.document.encode(),
            quote: bundle.quote.document.encode(),
            manifest: bundle.manifest.encode(),
        },
        signature: bundle.receipt.signature,
    };
    Ok(bundles.iter().map(exhibit).collect())
}

fn read(shown: &ShownReceipt) -> anyhow::Result<ReceiptItem> {
    let signature = Signed65(shown.signature.as_slice().try_into().context("a signature has 65 bytes")?);
    let document = Receipt::decode(&shown.bodies.receipt)?;
    // Empty bytes are shown as such where the receipt names their hash: it is paid nothing, and must not hold up the others.
    let body = |bytes: &Vec<u8>, named: Hash32| (!bytes.is_empty() || named == keccak(&[])).then(|| Body(bytes.clone()));
    let (quote, manifest) = (body(&shown.bodies.quote, document.quote), body(&shown.bodies.manifest, document.manifest));
    Ok(ReceiptItem { receipt: Signed { document, signature }, quote, manifest })
}

/// What settles a challenge that was not answered; nothing if it cannot be settled any more, or needs what only its challenger has.
fn settled(state: &State, of: &ChallengeOf) -> Option<Step> {
    match of {
        ChallengeOf::Receipts { epoch, node, first, count } => {
            let (root, block) = root_of(state, *epoch, *node)?;
            Some(Step::settle_receipts(&Stretch { root, block, first: *first, count: *count }))
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
    use attribution::epoch::replay::check_item;
    use types::key::{Account, Domains};

    use super::*;

    #[test]
    fn pages_of_one_root_stand_together_and_those_of_another_apart() {
        let at = |epoch, node, page| key(epoch, Address([node; 20]), page);
        assert!(at(1, 2, 0) < at(1, 2, 1) && at(1, 2, u32::MAX) < at(1, 3, 0) && at(1, 255, 9) < at(2, 0, 0));
    }

    fn shown(id: u8, index: u64) -> ShownReceipt {
        ShownReceipt { challenge: Hash32([id; 32]), index, bodies: Bodies::default(), signature: vec![0; 65] }
    }

    #[test]
    fn what_a_node_shows_on_the_chain_is_read_with_what_it_shows() {
        let bodies = Bodies { receipt: vec![0; 434], quote: vec![], manifest: vec![] };
        assert!(read(&ShownReceipt { bodies: bodies.clone(), ..shown(1, 0) }).is_err(), "no known profile");
        let short = ShownReceipt { bodies, signature: vec![0; 64], ..shown(1, 0) };
        assert!(read(&short).unwrap_err().to_string().contains("65 bytes"));
    }

    #[test]
    fn a_billed_receipt_that_names_empty_bytes_is_taken_as_it_stands_and_holds_up_nothing() {
        let account = Account::from_bytes(&[7; 32]).unwrap();
        let at = |byte| Address([byte; 20]);
        let domains = Domains { chain_id: 1, escrow: at(1), registry: at(2), settlement: at(3), stake: at(4) };
        let mut bytes = vec![0; 434];
        // Profile, class and reason: the first of each; all else is zero.
        [190, 191, 388].into_iter().for_each(|place| bytes[place] = 1);
        let zero = Receipt { node: account.address(), ..Receipt::decode(&bytes).unwrap() };
        assert!(zero.reason.is_billable());
        for (quote, manifest, is_taken) in
            [(keccak(&[]), keccak(&[]), true), (keccak(&[]), Hash32::ZERO, false), (Hash32::ZERO, keccak(&[]), false)]
        {
            let signed = Signed::new(&account, &domains, Receipt { quote, manifest, ..zero.clone() });
            let bodies = Bodies { receipt: signed.document.encode(), quote: vec![], manifest: vec![] };
            let item = read(&ShownReceipt { bodies, signature: signed.signature.0.to_vec(), ..shown(1, 0) }).unwrap();
            assert_eq!(check_item(&domains, account.address(), &item).is_ok(), is_taken, "{quote}, {manifest}");
        }
    }

    #[test]
    fn receipts_shown_by_challenge_and_by_publication_make_one_root_if_none_is_missing() {
        let (asked, published, foreign) = (Hash32([1; 32]), Hash32([2; 32]), Hash32([3; 32]));
        // What is published is known by the place it begins with.
        let is_its = |id: Hash32, lowest: u64| id == asked || (id == published && lowest == 2);
        let all = vec![shown(2, 3), shown(1, 0), shown(3, 4), shown(2, 2), shown(1, 1), shown(2, 2)];
        let places = |count: u64, all: Vec<ShownReceipt>| {
            gathered(all, count, is_its).map(|all| all.iter().map(|one| one.index).collect::<Vec<_>>())
        };
        assert_eq!(places(4, all.clone()), Some(vec![0, 1, 2, 3]));
        assert_eq!(places(5, all.clone()), None, "the fifth is of another root, {foreign}");
        assert_eq!(places(3, all.clone()), None, "more than the root has");
        assert_eq!(places(4, all.into_iter().filter(|one| one.index != 2).collect()), None);
    }

    const TIME: Time = Time { now: 100, answer_s: 10, end: 1_000 };

    fn ask(count: u64, asked: &[Asked], time: &Time) -> Vec<(u64, u64)> {
        due(count, asked, time).collect()
    }

    const fn one(first: u64, count: u64, is_shown: bool) -> Asked {
        Asked { first, count, deadline: 110, is_shown }
    }

    #[test]
    fn a_first_stretch_is_asked_for_and_all_others_once_it_was_shown() {
        assert_eq!(ask(1, &[], &TIME), [(0, 1)]);
        assert_eq!(ask(600, &[], &TIME), [(0, 64)]);
        assert_eq!(ask(600, &[one(0, 64, false)], &TIME), [], "its answer is waited for");
        assert_eq!(ask(600, &[one(0, 64, true)], &TIME), [(64, 256), (320, 256), (576, 24)]);
        assert_eq!(ask(600, &[one(0, 64, true), one(320, 256, false)], &TIME), [(64, 256), (576, 24)]);
        assert_eq!(ask(64, &[one(0, 64, true)], &TIME), []);
        assert_eq!(
            ask(600, &[one(0, 256, true)], &TIME),
            [(64, 256), (320, 256), (576, 24)],
            "asked for by somebody else, in other stretches"
        );
        assert_eq!(ask(300, &[one(0, 1, true)], &TIME), [(0, 64)], "one receipt is no stretch");
        assert_eq!(ask(0, &[], &TIME).iter().map(|(_, count)| count).sum::<u64>(), 0);
    }

    #[test]
    fn where_two_rounds_do_not_fit_into_w1_everything_is_asked_for_at_once_and_nothing_too_late() {
        let ending = |end| Time { end, ..TIME };
        assert_eq!(ask(100, &[], &ending(130)), [(0, 64)], "an answer by 110 leaves 20 s");
        assert_eq!(ask(100, &[], &ending(129)), [(0, 64), (64, 36)]);
        assert_eq!(ask(100, &[one(0, 64, false)], &ending(129)), [(64, 36)]);
        assert_eq!(ask(100, &[], &ending(120)), [(0, 64), (64, 36)]);
        assert_eq!(ask(100, &[], &ending(119)), [], "nobody could answer and settle any more");
        assert_eq!(ask(100, &[one(0, 64, true)], &ending(119)), []);
    }

    #[test]
    fn every_receipt_of_a_root_is_asked_for_once() {
        for count in [1, 63, 64, 65, 319, 320, 321, 4_096, 10_000] {
            let all: Vec<_> = ask(count, &[], &Time { end: 120, ..TIME });
            let places: Vec<u64> = all.iter().flat_map(|(first, count)| *first..first + count).collect();
            assert!(places.iter().copied().eq(0..count) && all.iter().all(|(_, count)| *count <= STRETCH_MAX), "{count}: {all:?}");
        }
    }
}
