//! Turning vouchers into payments: collect, post the receipts' root, and (a poster) post the payout tree that anyone can rebuild.
//!
//! Per epoch and node: one `collectMany` (about 30,000 gas a lane), one root (about 60,000 gas), and to the poster the receipts themselves
//! (about 1 KB each) over the client protocol. A poster keeps each tree it built, and makes its lines public before it posts the root (`lines`); any of them can be rebuilt from the receipts again.
//!
//! What a reorganisation can make wrong, and what it then costs:
//! - A payout tree of another branch's facts is proven wrong, and its poster slashed. So trees are built from the finalized books, once the
//!   finalized block's own time has passed W1 and the payout before: the same tree on every branch, whichever the outbox carries it to. Costs
//!   the lag of finality (half an hour on the OP Stack, eight blocks on the development chain) at each epoch.
//! - A node root of a branch that is gone is refused: its epoch takes no roots any more, or stands in its body under another number. Its receipts stay
//!   its own until that is final, because a branch that comes back may take it: under two roots they would be a fault (`crate::books::roots`). Income
//!   is late, nobody is slashed; so roots, collects and paid credit notes go by the latest block, and the contracts refuse what no longer fits.
//! - Challenges and proofs name root and block that they speak of: see `challenges` and `proofs`.

mod challenges;
mod credits;
mod fetching;
mod lanes;
pub mod lines;
pub mod own;
mod proofs;
mod relay;
mod report;
pub mod sealed;
mod standing;
mod stretches;
pub mod transcripts;
pub mod trees;
mod watching;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use attribution::{
    bundle::Bundle,
    epoch::{
        self, Parts, Payout, Standing,
        replay::{Facts as _, RootFacts, check_root},
    },
    message::{self, ASK_BYTES_MAX, Ask, PayoutLine, RECEIPTS_PAGE, REPLY_BYTES_MAX, ReceiptItem, Reply},
};
use chain_bridge::{
    availability::Calldata,
    client::ChainClient,
    deploy::Deployment,
    follow::Snapshot,
    registry::{State, money::ROLE_POSTER, state::SubmittedRoot},
};
use inference::proto::message::Watched;
use p2p::{
    client::{Client, Connection, Limits},
    identity::NodeSeed,
    overlay::OverlayHandle,
    stream::FrameStream,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{MissedTickBehavior, timeout},
};
use types::{
    amount::Amount,
    id::{Address, Hash32, NodeId},
    key::{Account, Domains, Signed},
    receipt::Receipt,
};

pub use self::challenges::receipts_on_chain;
pub use self::report::Notes;
use super::SETTLEMENT_TAG;
use crate::{
    books::{Books, Intent, Posting, Unposted},
    chain::{Snapshots, alarm_in},
    facts::{ChainFacts, accounts},
    payouts::Payouts,
};

/// How often the chain's phase is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How long a question to another node may take.
const ASK_WAIT: Duration = Duration::from_secs(10);
/// How long the books may lag behind the chain when it is settled.
const CURRENT_WAIT: Duration = Duration::from_secs(5);
/// Records table of payout trees of before: they are files now.
const PAYOUTS: &str = "payout-trees";
/// Receipts one root of this node covers; the rest go into the next epoch. Far below [`types::operator::RECEIPTS_MAX`], so that each poster has them within
/// a window.
const OWN_RECEIPTS_MAX: usize = 4_096;
/// Receipts that wait for their lane to be collected; the oldest beyond are given up.
const UNFUNDED_MAX: usize = OWN_RECEIPTS_MAX / 2;
/// The escrow's word that a session key's cap does not cover a voucher.
const SIGNER_SPENT: &str = "SignerSpent";
/// Earlier vouchers tried for a lane whose last one a session key's cap does not cover.
const LESS_MAX: usize = 8;
/// Vouchers collected in one transaction.
const COLLECT_MAX: usize = 32;

/// The service's parts.
#[derive(Debug)]
pub struct Settling {
    /// The node's settlement key.
    pub account: Account,
    /// The node.
    pub node: NodeId,
    /// The deployment.
    pub deployment: Deployment,
    /// The chain.
    pub chain: ChainClient,
    /// Receipts and lanes.
    pub books: Arc<Books>,
    /// Lines and trees of payouts.
    pub payouts: Payouts,
    /// The own account's calldata, if lines are to be put there too.
    pub calldata: Option<Calldata>,
    /// Where other nodes are.
    pub overlay: OverlayHandle,
    /// The node's key, for its own outgoing connections.
    pub seed: NodeSeed,
    /// Whether to post payout trees.
    pub is_poster: bool,
    /// Whether a final payout that this node posted is claimed for who does not claim by themselves.
    pub is_relaying: bool,
    /// Whether to rebuild the payouts that others post, and to prove wrong ones, without being a poster: a poster does so anyway.
    pub watches: bool,
    /// The chain's books as they change.
    pub snapshots: Snapshots,
    /// One settling at a time: by the clock and by the operator's word.
    pub turn: Mutex<()>,
    /// What was found out about what others post, for status.
    pub notes: std::sync::Mutex<Notes>,
    /// The trees that are shown to who asks.
    pub trees: trees::Trees,
    /// This node's roots that are asked about.
    pub own_roots: own::OwnRoots,
    /// Who was drawn to check answers.
    pub draws: Arc<dyn sealed::Draws>,
}

/// What a payout tree was built from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    previous: BTreeMap<Address, Amount>,
    /// Parts of each payee, ascending.
    parts: Parts,
    /// Up to where each lane's money is spoken for, this tree included.
    standing: BTreeMap<Hash32, Standing>,
}

impl Kept {
    fn read(bytes: &[u8]) -> anyhow::Result<Self> {
        serde_json::from_slice(bytes).context("kept payout tree is damaged")
    }

    fn tree(&self) -> Result<Payout, epoch::PayoutError> {
        Payout::over(&self.previous, self.parts.clone(), &epoch::one_by_one)
    }
}

impl Settling {
    /// Settles every `every_s` seconds (0: only when asked), posts payouts as they fall due, and watches those of others.
    pub async fn run(self: Arc<Self>, every_s: u64) {
        tokio::join!(self.settle_every(every_s), self.watch_payouts());
    }

    async fn settle_every(self: &Arc<Self>, every_s: u64) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut waited, mut tries, mut watch) = (Duration::ZERO, credits::Tries::default(), challenges::Watch::default());
        let (mut relayed, mut forgotten, mut looked, mut posting) = (None, None, None, JoinSet::new());
        loop {
            ticks.tick().await;
            waited += TICK;
            if self.snapshots.borrow().is_halted {
                continue;
            }
            if every_s > 0 && waited >= Duration::from_secs(every_s) {
                match self.settle_now().await {
                    Ok(done) => {
                        tracing::info!(%done, "settled");
                        waited = Duration::ZERO;
                    }
                    // Epochs accept roots for a while only: the next second tries again.
                    Err(error) => tracing::debug!(error = format!("{error:#}"), "not settled yet"),
                }
            }
            let snapshot = Arc::clone(&self.snapshots.borrow());
            self.pay_credits(&snapshot.latest, &mut tries).await;
            self.look_at_challenges(&snapshot, &mut watch).await;
            if let Some(Ok(Err(error))) = posting.try_join_next() {
                tracing::warn!(error = format!("{error:#}"), "payout not posted yet");
            }
            if self.is_poster && posting.is_empty() {
                // It may have to wait for nodes' receipts: what is asked of this node meanwhile must not wait with it.
                let (settling, snapshot) = (Arc::clone(self), Arc::clone(&snapshot));
                posting.spawn(async move { settling.post_payout(&snapshot).await });
            }
            if let Err(error) = self.forget_payouts(&snapshot, &mut forgotten).await {
                tracing::warn!(error = format!("{error:#}"), "old payouts stay on disk");
            }
            if let Err(error) = self.forget_texts(&snapshot, &mut looked) {
                tracing::warn!(error = format!("{error:#}"), "sealed answers that nobody can check any more stay on disk");
            }
            if let Err(error) = self.relay(&snapshot, &mut relayed).await {
                tracing::warn!(error = format!("{error:#}"), "not claimed for others: the next final payout brings it");
            }
        }
    }

    /// What this node watches, for its operator; nothing if it does not check others.
    pub fn watching(&self) -> Vec<Watched> {
        if !(self.is_poster || self.watches) {
            return Vec::new();
        }
        let snapshot = Arc::clone(&self.snapshots.borrow());
        let now = snapshot.heads.map_or(0, |heads| heads.timestamp);
        self.notes().report(&snapshot.latest, now, self.account.address())
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Answers one stream's question.
    pub async fn serve(&self, remote: NodeId, mut stream: FrameStream, frame: &[u8]) {
        let reply = match message::decode::<Ask>(frame) {
            Ok(_) if remote != self.node && !self.trees.may_ask(remote) => Reply::Refused("you ask too often: wait a second".to_owned()),
            Ok(ask) if frame.len() <= ASK_BYTES_MAX => {
                self.reply(remote, ask).await.unwrap_or_else(|error| Reply::Refused(format!("{error:#}")))
            }
            Ok(_) => Reply::Refused(format!("a question has at most {ASK_BYTES_MAX} bytes")),
            Err(error) => Reply::Refused(error.to_string()),
        };
        let frame = message::encode(&reply);
        let sending = async {
            if stream.send(&frame).await.is_ok() {
                drop(stream.finish().await);
            }
        };
        // A peer that does not read does not keep the stream.
        drop(timeout(ASK_WAIT, sending).await);
        let (mut sender, _receiver) = stream.split();
        drop(timeout(ASK_WAIT, sender.closed()).await);
    }

    async fn reply(&self, remote: NodeId, ask: Ask) -> anyhow::Result<Reply> {
        match ask {
            Ask::Receipts { epoch, from } => self.own_receipts(epoch, from).map(Reply::Receipts),
            Ask::Payout { epoch, account } => {
                let tree = self.kept_tree(epoch).await?;
                let line =
                    tree.claim(account).map(|claim| PayoutLine { epoch, leaf: claim.leaf, opening: claim.opening, parts: claim.parts });
                Ok(Reply::Payout(line))
            }
            Ask::ReceiptsOf { node, epoch, from } if node == self.account.address() => self.own_receipts(epoch, from).map(Reply::Receipts),
            Ask::ReceiptsOf { node, epoch, from } => self.fetched_page(epoch, node, from).map(Reply::Receipts),
            Ask::Transcripts { epoch, from } => self.own_transcripts(epoch, from).await.map(Reply::Transcripts),
            Ask::Sealed(asked) => Ok(match self.sealed_transcript(&asked)? {
                Ok(shown) => Reply::Sealed(Box::new(shown)),
                Err(why) => Reply::Withheld(why),
            }),
            Ask::Lines { epoch, line, part } => self.own_lines(epoch, line, part).await.map(Reply::Lines),
            Ask::Settle => {
                ensure!(remote == self.node, "only this node's own operator may ask it to settle");
                self.settle_now().await.map(Reply::Settled)
            }
        }
    }

    fn own_receipts(&self, epoch: u64, from: u64) -> anyhow::Result<Vec<ReceiptItem>> {
        let posting = self.books.posting(epoch)?.with_context(|| format!("this node posted nothing in epoch {epoch}"))?;
        let page: Vec<u64> = posting.numbers.into_iter().skip(usize::try_from(from)?).take(RECEIPTS_PAGE).collect();
        Ok(self.books.receipts(&page)?.into_iter().map(item).collect())
    }

    /// Settles by books that stand at the chain's latest block: a root that is on the chain and not in them would be posted twice.
    async fn settle_now(&self) -> anyhow::Result<String> {
        let mut seen = self.snapshots.clone();
        let current = async {
            // What is read must not be held over the settling.
            seen.wait_for(|snapshot| snapshot.is_halted || snapshot.is_current()).await.map(|snapshot| Arc::clone(&snapshot))
        };
        let snapshot = timeout(CURRENT_WAIT, current).await.context("the books of the chain are not at its latest block: try again")?;
        let snapshot = snapshot.context("the chain is not followed any more")?;
        if let Some(alarm) = alarm_in(&snapshot, self.chain.rpc().url()) {
            return Err(alarm.into());
        }
        ensure!(!snapshot.is_halted, "the chain cannot be followed any more, nothing is settled: see the node's log");
        self.settle(&snapshot).await
    }

    /// Collects what vouchers promise and posts the receipts behind them; says what was done.
    async fn settle(&self, snapshot: &Snapshot) -> anyhow::Result<String> {
        let _turn = self.turn.lock().await;
        self.reconcile(&snapshot.latest)?;
        let refused = self.stand_again(snapshot).await?;
        let Unposted { numbers, mut later, seen } = self.books.unposted(OWN_RECEIPTS_MAX)?;
        if numbers.is_empty() {
            // The receipts of a root that is refused stay its own: it is tried again, and soon.
            return refused.map_or_else(|| Ok("no receipts to post".to_owned()), |why| Err(why.into()));
        }
        let next = self.chain.submission_epoch().await?;
        ensure!(self.books.posting(next)?.is_none(), "epoch {next} has a root of this node already: the next one takes what came since");
        let head = self.chain.latest().await?.block.number;
        let bundles = numbers.iter().copied().zip(self.books.receipts(&numbers)?).collect();
        let (numbers, bundles): (Vec<u64>, Vec<Bundle>) =
            standing::young_enough(bundles, head, self.deployment.config.max_age_blocks).into_iter().unzip();
        let collected = self.collect(&bundles).await?;
        let is_funded = |receipt: &Receipt| collected.get(&receipt.lane).is_some_and(|sum| receipt.cumulative_after <= *sum);
        let (funded, waiting): (Vec<_>, Vec<_>) =
            numbers.into_iter().zip(bundles).partition(|(_, bundle)| is_funded(&bundle.receipt.document));
        let mut unfunded: Vec<u64> =
            waiting.iter().filter(|(_, bundle)| bundle.lane.document.expiry >= head).map(|(number, _)| *number).collect();
        unfunded.drain(..unfunded.len().saturating_sub(UNFUNDED_MAX));
        if !waiting.is_empty() {
            tracing::warn!(waiting = unfunded.len(), lost = waiting.len() - unfunded.len(), "receipts whose payers' deposits were short");
        }
        unfunded.append(&mut later);
        let epoch = self.chain.submission_epoch().await?;
        let (numbers, receipts): (Vec<u64>, Vec<_>) = funded.into_iter().map(|(number, bundle)| (number, bundle.receipt)).unzip();
        let intent = Intent { epoch, posting: Posting { numbers }, unfunded, seen };
        if receipts.is_empty() {
            self.books.sign(&intent, Hash32::ZERO)?;
            return Ok("no receipts to post: the payers' deposits were short, or they are too old".to_owned());
        }
        let root = epoch::node_root(self.account.address(), epoch, &receipts)?;
        let fees = root.fees;
        // From here on the receipts are this root's, whatever comes of it: another branch of the chain may take it still.
        self.books.sign(&intent, root.receipts)?;
        self.chain.submit_node_root(&Signed::new(&self.account, &self.deployment.domains(), root)).await?;
        Ok(format!("{} receipts worth {} posted in epoch {epoch}, {} lanes collected", receipts.len(), fees.in_open(), collected.len()))
    }

    /// A root that stands on the chain and not in the books is noted: one of an earlier version, which noted it last.
    fn reconcile(&self, state: &State) -> anyhow::Result<()> {
        for (number, epoch) in state.epochs() {
            let Some(root) = epoch.roots.get(&self.account.address()) else { continue };
            if self.books.posting(number)?.is_some() {
                continue;
            }
            let intent = self.books.intent(number, root.receipts)?;
            let intent = intent.with_context(|| {
                format!(
                    "epoch {number} holds {} receipts of this node that its books do not know: the data folder is older than the chain",
                    root.count
                )
            })?;
            self.books.adopt(&intent, root.receipts)?;
        }
        Ok(())
    }

    /// Collects what the vouchers behind `bundles` promise, and no more, so that nothing is collected without its receipt following; returns
    /// what each of their lanes stands at on the chain. A lane that cannot be collected (expired, no deposit) keeps no other from it.
    async fn collect(&self, bundles: &[Bundle]) -> anyhow::Result<BTreeMap<Hash32, Amount>> {
        let head = self.chain.latest().await?.block.number;
        let mut last: BTreeMap<Hash32, &Bundle> = BTreeMap::new();
        for bundle in bundles {
            let known = last.entry(bundle.receipt.document.lane).or_insert(bundle);
            if bundle.voucher.document.cumulative > known.voucher.document.cumulative {
                *known = bundle;
            }
        }
        let mut stands = BTreeMap::new();
        let mut due = Vec::new();
        for (lane, bundle) in &last {
            let collected = self.chain.lane_collected(*lane).await?;
            stands.insert(*lane, collected);
            if bundle.voucher.document.cumulative > collected && bundle.lane.document.expiry > head {
                due.push((*lane, (bundle.lane.clone(), bundle.voucher.clone())));
            }
        }
        for chunk in due.chunks(COLLECT_MAX) {
            let items: Vec<_> = chunk.iter().map(|(_, item)| item.clone()).collect();
            if let Err(error) = self.chain.collect_many(&items).await {
                tracing::warn!(%error, lanes = items.len(), "a batch was not collected: its lanes are tried one by one");
                for (lane, item) in chunk {
                    if let Err(error) = self.chain.collect_many(std::slice::from_ref(item)).await {
                        tracing::warn!(%lane, payer = %item.0.document.payer, %error, "a lane was not collected");
                        if error.contract_error() == Some(SIGNER_SPENT) {
                            self.collect_less(*lane, item.1.document.cumulative, bundles).await;
                        }
                    }
                }
            }
            for (lane, _) in chunk {
                stands.insert(*lane, self.chain.lane_collected(*lane).await?);
            }
        }
        for (lane, collected) in &stands {
            self.books.collected(*lane, *collected)?;
        }
        Ok(stands)
    }

    /// Collects the largest earlier voucher of a lane that its session key's cap still covers: the escrow pays nothing of one beyond it, and others may
    /// have collected by the same key since these were served.
    async fn collect_less(&self, lane: Hash32, below: Amount, bundles: &[Bundle]) {
        let mut earlier: Vec<&Bundle> = bundles.iter().filter(|bundle| bundle.receipt.document.lane == lane).collect();
        earlier.retain(|bundle| bundle.voucher.document.cumulative < below);
        earlier.sort_by_key(|bundle| std::cmp::Reverse(bundle.voucher.document.cumulative));
        for bundle in earlier.into_iter().take(LESS_MAX) {
            if self.chain.collect_many(&[(bundle.lane.clone(), bundle.voucher.clone())]).await.is_ok() {
                return;
            }
        }
    }

    /// Posts the payout tree of the oldest epoch that is due and has none, on top of the last final one: a pending one could still be taken back.
    /// Everything is read at the finalized block, and is due by its time: all that a tree depends on happened before, on every branch that the
    /// chain may still take.
    async fn post_payout(&self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let Some(heads) = snapshot.heads.filter(|_| snapshot.is_current()) else { return Ok(()) };
        let (state, now) = (&snapshot.finalized, heads.finalized_timestamp);
        let Some((number, _)) = state.epochs().find(|(_, epoch)| epoch.payout.is_none()) else { return Ok(()) };
        if snapshot.latest.epoch(number).is_some_and(|epoch| epoch.payout.is_some()) {
            // Posted, and not final yet.
            return Ok(());
        }
        let epoch = state.epoch(number).context("just found")?;
        let previous = number.checked_sub(1).and_then(|before| state.epoch(before)).and_then(|before| before.payout);
        let due = epoch.payout_from.max(previous.map_or(0, |previous| previous.final_at));
        if due > now || epoch.roots.is_empty() {
            return Ok(());
        }
        // Without the poster's role the bonded ones go first.
        let own = self.account.address();
        if due.saturating_add(self.deployment.config.fallback_s) > now && !self.chain.is_bonded_as(own, ROLE_POSTER).await? {
            return Ok(());
        }
        let (kept, tree) = self.build(state, number).await?;
        if !self.publish(number, &tree).await? {
            return Ok(());
        }
        let before = previous.map_or(Hash32::ZERO, |previous| previous.root);
        self.chain.post_payout(number, before, tree.root(), tree.total()).await?;
        self.keep(number, &kept)?;
        tracing::info!(epoch = number, root = %tree.root(), total = %tree.total(), "payout posted");
        Ok(())
    }

    /// The posted tree of an epoch, kept or rebuilt; its root must be the chain's.
    async fn tree(&self, state: &Arc<State>, epoch: u64) -> anyhow::Result<Arc<Payout>> {
        let posted = posted(state, epoch)?;
        match self.tree_on_disk(epoch, posted.root).await? {
            Some(tree) => Ok(tree),
            None => Ok(Arc::new(self.posted_tree(state, epoch).await?.1)),
        }
    }

    /// The same with what it was built from.
    async fn posted_tree(&self, state: &Arc<State>, epoch: u64) -> anyhow::Result<(Kept, Payout)> {
        let posted = posted(state, epoch)?;
        if let Some(bytes) = self.kept_bytes(epoch)? {
            let (kept, tree) = apart(move || {
                let kept = Kept::read(&bytes)?;
                let tree = kept.tree()?;
                Ok((kept, tree))
            })
            .await?;
            if tree.root() == posted.root {
                return Ok((kept, tree));
            }
        }
        let (kept, tree) = Box::pin(self.build(state, epoch)).await?;
        ensure!(
            tree.root() == posted.root,
            "the posted payout root of epoch {epoch} is {}, rebuilt it is {}: the poster is at fault or receipts are missing",
            posted.root,
            tree.root()
        );
        self.keep(epoch, &kept)?;
        Ok((kept, tree))
    }

    /// Builds an epoch's tree from the receipts behind its node roots, on top of the tree before.
    async fn build(&self, state: &Arc<State>, number: u64) -> anyhow::Result<(Kept, Payout)> {
        // The first epoch has none before it. Without the payout of any other's predecessor there is nothing to build on: that is an error.
        let (previous, mut standing) = match number.checked_sub(1).filter(|before| state.epoch(*before).is_some()) {
            Some(before) => {
                let (kept, tree) = self.posted_tree(state, before).await?;
                (tree.cumulative(), kept.standing)
            }
            None => (BTreeMap::new(), BTreeMap::new()),
        };
        let facts = ChainFacts(state);
        let epoch = state.epoch(number).with_context(|| format!("epoch {number} is unknown"))?;
        let mut items = BTreeMap::new();
        for (node, root) in &epoch.roots {
            // One that was found to withhold a receipt has no parts, and need not be asked; no receipt hashes to zero.
            if facts.is_out(number, *node, Hash32::ZERO) {
                continue;
            }
            let of_node = self.receipts_of(state, *node, number, root).await;
            items.insert(*node, of_node.with_context(|| format!("receipts of {node} in epoch {number}"))?);
        }
        let due = facts.epoch(number).with_context(|| format!("epoch {number} is unknown"))?.refunds;
        let (accounts, state) = (accounts(&self.deployment), Arc::clone(state));
        apart(move || {
            let division = epoch::divide(&ChainFacts(&state), &accounts, number, &items, &due, &mut standing, &epoch::one_by_one);
            for unpaid in &division.unpaid {
                tracing::warn!(node = %unpaid.node, epoch = number, receipt = unpaid.receipt, why = %unpaid.why, "a receipt has no parts");
            }
            let kept = Kept { previous, parts: division.parts, standing };
            let tree = kept.tree()?;
            Ok((kept, tree))
        })
        .await
    }

    /// A node's receipts of an epoch, from itself, checked against its root.
    pub(super) async fn receipts_of(
        &self,
        state: &State,
        node: Address,
        epoch: u64,
        root: &SubmittedRoot,
    ) -> anyhow::Result<Vec<ReceiptItem>> {
        let mut items = Vec::new();
        if node == self.account.address() {
            while u64::try_from(items.len())? < root.count {
                let page = self.own_receipts(epoch, u64::try_from(items.len())?)?;
                ensure!(!page.is_empty(), "the books hold fewer receipts than were posted");
                items.extend(page);
            }
        } else if let Some(fetched) = self.fetched(epoch, node, root)? {
            return Ok(fetched);
        } else {
            let items = self.fetch_receipts(state, node, epoch, root).await?;
            self.keep_fetched(epoch, node, root, &items)?;
            return Ok(items);
        }
        check_items(&self.deployment.domains(), epoch, node, root, &items)?;
        Ok(items)
    }

    /// A connection to an operator's node, where its ad says that it answers.
    pub(super) async fn connect(&self, state: &State, account: Address) -> anyhow::Result<(Client, Connection)> {
        let operator = state.operator(account).context("not an operator")?;
        let ads = self.overlay.ads().await?;
        let ad = ads
            .iter()
            .map(|signed| signed.ad())
            .find(|ad| ad.node == operator.node)
            .with_context(|| format!("node {} is not reachable now", operator.node))?;
        let client = Client::bind(loopback_any(ad.client_addr), &self.seed, Limits::default())?;
        let connection = client.connect(ad.client_addr, Some(operator.node)).await?;
        Ok((client, connection))
    }

    /// A node's receipts of an epoch that lie on this node's disk.
    fn at_hand(&self, epoch: u64, node: Address, root: &SubmittedRoot) -> anyhow::Result<Option<Vec<ReceiptItem>>> {
        if node != self.account.address() {
            return self.fetched(epoch, node, root);
        }
        let Some(posting) = self.books.posting(epoch)? else { return Ok(None) };
        let items: Vec<ReceiptItem> = self.books.receipts(&posting.numbers)?.into_iter().map(item).collect();
        Ok(check_items(&self.deployment.domains(), epoch, node, root, &items).is_ok().then_some(items))
    }

    /// A node's receipts of an epoch, from itself: within bounds, and those of its root.
    async fn fetch_receipts(&self, state: &State, account: Address, epoch: u64, root: &SubmittedRoot) -> anyhow::Result<Vec<ReceiptItem>> {
        let patience = fetching::patience(root.count, self.deployment.config.answer_s);
        let (client, connection) = timeout(patience, self.connect(state, account)).await.context("it was not reached in time")??;
        let ask = |from| ask_bytes(&connection, Ask::Receipts { epoch, from });
        let fetched = fetching::gather(&self.deployment.domains(), (epoch, account, root), patience, ask).await;
        client.close(p2p::stream::code::SHUTDOWN).await;
        Ok(fetched?)
    }
}

/// Work that takes longer than a question may wait, beside the tasks that answer.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("the work ended before its time")?
}

/// The payout of an epoch.
fn posted(state: &State, epoch: u64) -> anyhow::Result<chain_bridge::registry::state::Payout> {
    state.epoch(epoch).and_then(|epoch| epoch.payout).with_context(|| format!("epoch {epoch} has no payout yet"))
}

fn item(bundle: Bundle) -> ReceiptItem {
    ReceiptItem::new(bundle.receipt, &bundle.quote.document, &bundle.manifest)
}

/// Whether receipts are those that a node committed to, with the sum of their fees: a node that lies about it can show none of them on the chain.
fn check_items(domains: &Domains, epoch: u64, node: Address, root: &SubmittedRoot, items: &[ReceiptItem]) -> anyhow::Result<()> {
    let facts = RootFacts { receipts: root.receipts, count: root.count, fees: root.fees, block: root.block };
    Ok(check_root(domains, epoch, node, &facts, items)?)
}

/// Any port on the interface that reaches `peer`'s family.
pub fn loopback_any(peer: std::net::SocketAddr) -> std::net::SocketAddr {
    if peer.ip().is_loopback() {
        std::net::SocketAddr::new(peer.ip(), 0)
    } else if peer.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    }
}

/// One question, one answer.
pub async fn ask_once(stream: FrameStream, ask: &Ask) -> anyhow::Result<Reply> {
    Ok(message::decode(&answer_of(stream, ask).await?)?)
}

/// The bytes that answer one question on a stream of its own.
pub(super) async fn ask_bytes(connection: &Connection, ask: Ask) -> anyhow::Result<Vec<u8>> {
    answer_of(connection.open_stream().await?, &ask).await
}

/// A peer that reads no question is waited for no longer than one that answers none: it says itself how much it takes before it reads.
async fn answer_of(mut stream: FrameStream, ask: &Ask) -> anyhow::Result<Vec<u8>> {
    let mut frame = message::encode(ask);
    frame.insert(0, SETTLEMENT_TAG);
    let answered = async {
        stream.send(&frame).await?;
        stream.recv(REPLY_BYTES_MAX).await
    };
    let reply = timeout(ASK_WAIT, answered).await.context("no answer in time")??;
    reply.context("the stream ended without an answer")
}

#[cfg(test)]
mod tests {
    use p2p::memory;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_no_question_is_not_waited_for_longer_than_one_that_answers_none() {
        let (mut near, _far) = memory::pair();
        while timeout(ASK_WAIT, near.send(&[0; 1 << 10])).await.is_ok() {}
        let asked = timeout(4 * ASK_WAIT, ask_once(near, &Ask::Receipts { epoch: 1, from: 0 })).await;
        let error = format!("{:#}", asked.expect("it ends").unwrap_err());
        assert!(error.contains("no answer in time"), "{error}");
    }
}
