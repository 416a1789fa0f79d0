//! Audits between nodes: what this node commits to, whom it audits, what it answers, and what comes of all that (`storage::proto::audit`).
//!
//! An epoch has two halves. In the first every node that stores signs what it holds and gossips it; the block in the middle is the beacon. Auditors are drawn
//! by it among those that committed in the same epoch: a roll call, so that who is away is drawn for nothing, and which nobody can join once the
//! beacon is known. In the second half each node is audited by its three (`auditor`) and answers (`answering`). Signed verdicts go to all by
//! gossip; two that agree are the epoch's outcome, and outcomes a node's standing ([`books`]): warned, suspended (no new fragments), a slash case, whose
//! verdicts are put together in the data folder for whoever is to judge it.
//!
//! Where the chain's roll of auditors names the node, the chain's own epochs are audited beside them by the chain's draw (`roll`), and what two
//! auditors saw of this node is written down for `tributary claim --rent`.
//!
//! A node that hears no beacon, or cannot ask its chain or read its disk, knows less and says so: *unknown*, which is held against nobody. Who is silent while others' records
//! name it a holder is late, or offline: it is asked for its commitment, may make it then, and is looked for like everybody.

mod answering;
mod auditor;
pub mod books;
mod cases;
mod evidence;
mod holdings;
mod learning;
mod promises;
mod roll;

pub(in crate::service) use self::{
    holdings::forget_object,
    promises::{bound, let_go},
};

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use p2p::overlay::{Message, Verdict as Heard};
use storage::proto::audit::{
    Pace,
    message::{Ask, Reply, TOLD_BYTES_MAX, Told},
};
use tokio::{sync::mpsc, task::JoinSet};
use types::{
    audit::{AuditCommit, AuditVerdict, Seat},
    encoding::Writer,
    id::{Address, Hash32},
    key::Signed,
};

use self::{auditor::Assignment, books::Books, holdings::Own};
use super::keeping::Keeping;
use crate::{
    audited::{self, Audited},
    chain::Snapshots,
    data::DataDir,
};

/// Protocol name of audits.
pub const AUDIT_ALPN: &[u8] = b"tributary/audit/1";
/// Topic of commitments and verdicts.
const TOPIC: &str = "tributary/audit/1";
/// How often outcomes are looked for beside blocks.
const TICK: Duration = Duration::from_secs(1);
/// Times a word is offered to the network, which waits some seconds for a peer each time.
const TELL_ATTEMPTS: u32 = 3;
/// Audits by this node at once. A node audits three others a day, whatever their number; short epochs overlap.
const AUDITS_MAX: usize = 64;
/// Longest wait for an auditor to be there.
const GREET_LIMIT: Duration = Duration::from_secs(5);
/// In what is signed, epochs of the network's own count have this bit, so that no contract takes them for one of the chain's.
pub(crate) const OWN: u64 = 1 << 63;
/// Own commitments, by epoch: a node never signs two.
const COMMITS: &str = "audit-commits";
/// What they bind this node to, by epoch.
const OWN_LISTS: &str = "audit-own";
/// Blocks after an announced one in which the chain's audits are over: their beacon is stored within some, and none lasts longer than two minutes.
const AUDIT_BLOCKS: u64 = 128;
/// Blocks that another's chain may be ahead of this node's.
const AHEAD_BLOCKS: u64 = 2;
/// Times that a node which was away asks an auditor for its verdict, and the wait between two.
const VERDICT_ATTEMPTS: u32 = 8;
const VERDICT_WAIT: Duration = Duration::from_secs(5);
/// Longest wait for one.
const VERDICT_LIMIT: Duration = Duration::from_secs(10);

/// The pace of honest reads that a node grants those it audits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// The pace.
    pub pace: Pace,
    /// Whether it was measured; else it is the most that counts, since too little is held here.
    pub is_measured: bool,
}

/// The service.
#[derive(Debug)]
pub struct Auditing {
    keeping: Arc<Keeping>,
    data: DataDir,
    books: Mutex<Books>,
    own: Mutex<Vec<(u64, Arc<Own>)>>,
    /// One commitment at a time: several auditors may ask for a late one at once.
    binding: tokio::sync::Mutex<()>,
    /// The pace that this node granted others last.
    pace: Mutex<Option<Granted>>,
    view: Mutex<roll::View>,
}

impl Auditing {
    /// Audits of and by a node.
    ///
    /// # Errors
    /// What the disk says of earlier outcomes.
    pub fn new(keeping: Arc<Keeping>, data: DataDir) -> anyhow::Result<Arc<Self>> {
        let books = Books::open(keeping.store.records())?;
        let auditing = Self {
            keeping,
            data,
            books: Mutex::new(books),
            own: Mutex::default(),
            binding: tokio::sync::Mutex::default(),
            pace: Mutex::default(),
            view: Mutex::default(),
        };
        if !auditing.keeping.audit_roll {
            roll::forget(&auditing)?;
        }
        auditing.tell_unfit();
        Ok(Arc::new(auditing))
    }

    /// What is known of audits.
    pub fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers slash cases, and opens and closes its own where the operator says so, until the chain is followed no more. Also on a node that does not store any longer: what it
    /// committed to before is asked of it for days. May be dropped.
    pub async fn run_cases(self: Arc<Self>) {
        let opens = self.keeping.open_cases;
        cases::follow(self, opens).await;
    }

    /// Audits until dropped.
    pub async fn run(self: Arc<Self>) {
        let checked = check(self.keeping.snapshots.clone(), self.keeping.chain.domains());
        let mut topic = match self.keeping.overlay.subscribe(TOPIC, Box::new(checked)).await {
            Ok(topic) => topic,
            Err(error) => return tracing::error!(%error, "no audits: their topic cannot be heard"),
        };
        let mut snapshots = self.keeping.snapshots.clone();
        let mut ticks = tokio::time::interval(TICK);
        let (mut audits, mut words) = (JoinSet::new(), JoinSet::new());
        let (events, mut followed) = mpsc::channel(1);
        // Ends with this.
        let mut following = JoinSet::new();
        following.spawn(roll::follow(Arc::clone(&self), events));
        loop {
            tokio::select! {
                changed = snapshots.changed() => {
                    if changed.is_err() { return }
                    let tip = snapshots.borrow_and_update().tip.number;
                    self.block(tip, &mut audits, &mut words).await;
                }
                message = topic.recv() => match message {
                    Some(Message { data, .. }) => self.heard(&data),
                    None => return,
                },
                Some(verdict) = audits.join_next() => if let Ok(Some(verdict)) = verdict { self.say(verdict, &mut words) },
                Some(event) = followed.recv() => self.follow(event, &mut audits, &mut words).await,
                Some(_) = words.join_next() => {}
                _ = ticks.tick() => {}
            }
            self.settle();
        }
    }

    async fn block(self: &Arc<Self>, tip: u64, audits: &mut JoinSet<Option<AuditVerdict>>, words: &mut JoinSet<()>) {
        let length = self.keeping.epoch_blocks;
        let (number, within) = (tip / length, tip % length);
        let epoch = OWN | number;
        self.begin(epoch);
        let (has_own, wants_beacon) = (self.own_of(epoch).is_some(), self.books().wants_beacon(epoch));
        if within < length / 2 {
            if !has_own && let Err(error) = self.commit(epoch, words).await {
                tracing::warn!(epoch = number, error = format!("{error:#}"), "nothing was committed to");
            }
        } else if wants_beacon && let Err(error) = self.draw_own(epoch, number * length + length / 2, audits).await {
            tracing::warn!(epoch = number, error = format!("{error:#}"), "no audits yet");
        }
    }

    fn own(&self) -> MutexGuard<'_, Vec<(u64, Arc<Own>)>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this node committed to in an epoch.
    fn own_of(&self, epoch: u64) -> Option<Arc<Own>> {
        self.own().iter().find(|(of, _)| *of == epoch).map(|(_, own)| Arc::clone(own))
    }

    /// Signs what this node holds, keeps that, and tells it.
    async fn commit(self: &Arc<Self>, epoch: u64, words: &mut JoinSet<()>) -> anyhow::Result<()> {
        if let Some(bytes) = self.bind(epoch).await? {
            self.heard(&bytes);
            self.publish(bytes, words);
        }
        Ok(())
    }

    /// The commitment of an epoch, signed now if it was not yet; nothing if this node does not store.
    async fn bind(&self, epoch: u64) -> anyhow::Result<Option<Vec<u8>>> {
        let _turn = self.binding.lock().await;
        let (me, records) = (self.keeping.me(), self.keeping.store.records());
        if !self.keeping.storers().await?.contains_key(&me) {
            return Ok(None);
        }
        let key = epoch.to_be_bytes();
        // That of an earlier start in this epoch stands, with its list.
        let kept = records.get(COMMITS, &key)?.zip(records.get(OWN_LISTS, &key)?);
        let (own, bytes) = match kept {
            Some((bytes, list)) => (Arc::new(Own::decode(&list)?), bytes),
            None => {
                Own::read_new(&self.keeping).await?;
                // Before the list: what is listed is held in this block.
                let block = self.keeping.snapshots.borrow().tip.number;
                let sign = |own: &Own| {
                    let commit = AuditCommit { node: me, epoch, holdings: own.holdings.root(), ranges: own.holdings.ranges(), block };
                    Told::Commit(Signed::new(&self.keeping.account, &self.keeping.chain.domains(), commit)).encode()
                };
                let (own, bytes) = promises::promise(&self.keeping.turn, &records, epoch, Own::list(&self.keeping), sign).await?;
                (Arc::new(own), bytes)
            }
        };
        let mut all = self.own();
        if all.iter().any(|(of, _)| *of == epoch) {
            return Ok(Some(bytes));
        }
        all.push((epoch, own));
        if all.iter().filter(|(of, _)| is_own(*of) == is_own(epoch)).count() > books::EPOCHS_KEPT
            && let Some(oldest) = all.iter().position(|(of, _)| is_own(*of) == is_own(epoch))
        {
            all.remove(oldest);
        }
        Ok(Some(bytes))
    }

    /// Begins an epoch's books; verdicts of long ago are dropped.
    fn begin(&self, epoch: u64) {
        let mut books = self.books();
        if books.has(epoch) {
            return;
        }
        books.begin(epoch);
        let live_from = self.keeping.snapshots.borrow().tip.number.saturating_sub(self.keeping.chain.deployment().config.case_age_blocks);
        if let Err(error) = books.prune(epoch, live_from) {
            tracing::error!(error = format!("{error:#}"), "old verdicts are not dropped");
        }
    }

    /// What follows from the chain's roll.
    async fn follow(self: &Arc<Self>, event: roll::Event, audits: &mut JoinSet<Option<AuditVerdict>>, words: &mut JoinSet<()>) {
        let (epoch, done) = match event {
            roll::Event::Opened(epoch) => {
                self.begin(epoch);
                (epoch, self.commit(epoch, words).await)
            }
            roll::Event::Resumed(epoch) => {
                let resumed = self.books().resume(epoch);
                let done = match resumed {
                    Ok(()) => self.commit(epoch, words).await,
                    Err(error) => Err(error),
                };
                (epoch, done)
            }
            roll::Event::Drawn { epoch, beacon, roll, is_resumed } => {
                let drawn = self.draw(epoch, beacon, Some(roll), audits).await;
                if is_resumed {
                    let auditing = Arc::clone(self);
                    words.spawn(async move { auditing.ask_verdicts(epoch).await });
                }
                (epoch, drawn)
            }
        };
        if let Err(error) = done {
            tracing::warn!(epoch, error = format!("{error:#}"), "this node's rent of an epoch of the chain may be lost");
        }
    }

    /// Asks this node's auditors for what they told while it was away.
    async fn ask_verdicts(self: Arc<Self>, epoch: u64) {
        let me = self.keeping.me();
        for _ in 0..VERDICT_ATTEMPTS {
            let storers = self.keeping.storers().await.unwrap_or_default();
            let missing = self.books().auditors(epoch, me);
            let missing = missing.into_iter().filter(|auditor| self.books().verdict_of(epoch, me, *auditor).is_none());
            let missing: Vec<_> = missing.filter_map(|auditor| Some((auditor, *storers.get(&auditor)?))).collect();
            for (auditor, storer) in missing {
                let asked = Ask::Verdict { epoch, node: me };
                match auditor::ask(&self.keeping.bulk, storer.node, storer.addr, &asked, VERDICT_LIMIT).await {
                    Ok(Reply::Verdict(signed)) if signed.verify(&self.keeping.chain.domains(), auditor).is_ok() => {
                        self.heard(&Told::Verdict(*signed).encode());
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%auditor, epoch, error = format!("{error:#}"), "an auditor does not say what it has seen")
                    }
                }
            }
            tokio::time::sleep(VERDICT_WAIT).await;
        }
    }

    /// Draws among those that committed, by a block.
    async fn draw_own(self: &Arc<Self>, epoch: u64, block: u64, audits: &mut JoinSet<Option<AuditVerdict>>) -> anyhow::Result<()> {
        let Some(block) = self.keeping.chain.block(block).await? else { return Ok(()) };
        self.draw(epoch, block.hash, None, audits).await
    }

    /// Draws the auditors of an epoch, from the chain's roll if there is one, and begins the audits that are this node's.
    async fn draw(
        self: &Arc<Self>,
        epoch: u64,
        beacon: Hash32,
        roll: Option<Vec<Seat>>,
        audits: &mut JoinSet<Option<AuditVerdict>>,
    ) -> anyhow::Result<()> {
        let (storers, me) = (self.keeping.storers().await?, self.keeping.me());
        let drawn = match roll {
            Some(roll) => self.books().draw_from(epoch, beacon, roll),
            None => {
                let expected = self.holders(epoch)?;
                self.books().draw(epoch, beacon, &crate::datanet::placing::sites(&storers), &expected)
            }
        };
        let measured = auditor::pace(&self.keeping, self.own_of(epoch)).await;
        let pace = measured.unwrap_or(Pace::MOST);
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner) = Some(Granted { pace, is_measured: measured.is_some() });
        self.greet(epoch, &storers);
        // Who was restarted long after the draw still answers; nobody waits for its verdicts any more.
        if self.is_over(epoch) {
            return Ok(());
        }
        for (node, auditors, commit) in drawn {
            let Some(place) = auditors.iter().position(|auditor| *auditor == me) else { continue };
            if audits.len() >= AUDITS_MAX {
                tracing::warn!(epoch, %node, "too many audits under way: this one is left out");
                continue;
            }
            // Before a restart it was said already.
            if self.books().verdict_of(epoch, node, me).is_some() {
                continue;
            }
            let mail = self.books().mailbox(epoch, node);
            let Some(mail) = mail else { continue };
            let assignment = Assignment { epoch, beacon, node, commit, is_opener: place == 0, auditors, pace };
            let auditing = Arc::clone(self);
            audits.spawn(async move { auditor::audit(&auditing, assignment, mail).await });
        }
        Ok(())
    }

    /// Opens the lines to this node's own auditors, so that no handshake falls into the time it has for its answer.
    fn greet(&self, epoch: u64, storers: &crate::datanet::placing::Storers) {
        let auditors = self.books().auditors(epoch, self.keeping.me());
        for storer in auditors.iter().filter_map(|auditor| storers.get(auditor).copied()) {
            let bulk = Arc::clone(&self.keeping.bulk);
            tokio::spawn(async move { drop(auditor::ask(&bulk, storer.node, storer.addr, &Ask::Ping, GREET_LIMIT).await) });
        }
    }

    /// Everyone who holds something beside this node since before an epoch's commitments: who of them committed to nothing is looked for all the same. Who was given
    /// all that it has since then, or has no stake, is not.
    fn holders(&self, epoch: u64) -> anyhow::Result<BTreeSet<Address>> {
        let state = self.keeping.state();
        let mut holders = BTreeSet::new();
        for (object, assignment) in holdings::assignments(&self.keeping)? {
            if !learning::has_moved_lately(&self.keeping, object, epoch)? {
                holders.extend(assignment.holders().map(|(_, holder)| holder));
            }
        }
        holders.retain(|holder| state.operator(*holder).is_some_and(|operator| operator.active.0 > 0));
        Ok(holders)
    }

    /// The pace that this node granted others last; nothing before its first epoch of audits.
    pub fn pace(&self) -> Option<Granted> {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signs what this node has seen, keeps it, and tells it.
    fn say(&self, verdict: AuditVerdict, words: &mut JoinSet<()>) {
        let AuditVerdict { node, epoch, verdict: found, right, round_trip_us, elapsed_us, .. } = verdict;
        tracing::info!(%node, epoch = number(epoch), is_rent = !is_own(epoch), ?found, right, round_trip_us, elapsed_us, "audited a node");
        let bytes = Told::Verdict(Signed::new(&self.keeping.account, &self.keeping.chain.domains(), verdict)).encode();
        self.heard(&bytes);
        self.publish(bytes, words);
    }

    fn publish(&self, bytes: Vec<u8>, words: &mut JoinSet<()>) {
        let overlay = self.keeping.overlay.clone();
        words.spawn(async move {
            for _ in 0..TELL_ATTEMPTS {
                match overlay.publish(TOPIC, bytes.clone()).await {
                    Ok(()) => return,
                    Err(error) => tracing::debug!(%error, "nobody heard a word about audits yet"),
                }
            }
        });
    }

    /// Takes in a word whose signature was checked.
    fn heard(&self, bytes: &[u8]) {
        let length = self.keeping.epoch_blocks;
        let tip = self.keeping.snapshots.borrow().tip.number;
        match Told::decode(bytes) {
            // Once the beacon's block is there nobody can join.
            Ok(Told::Commit(commit)) => {
                if self.takes_commits(commit.document.epoch, tip, length)
                    && self.is_of_its_epoch(&commit.document)
                    && let Err(error) = self.books().commit(commit)
                {
                    tracing::error!(error = format!("{error:#}"), "a commitment is not kept");
                }
            }
            Ok(Told::Verdict(verdict)) => {
                if let Err(error) = self.books().verdict(&verdict) {
                    tracing::error!(error = format!("{error:#}"), "a verdict is not kept");
                }
            }
            Err(error) => tracing::debug!(%error, "a word about audits"),
        }
    }

    /// Whether a commitment names a block of its epoch: by that block alone the chain knows for how long it can be held against its node.
    fn is_of_its_epoch(&self, commit: &AuditCommit) -> bool {
        let (tip, state) = (self.keeping.snapshots.borrow().tip.number, self.keeping.state());
        let opened = if is_own(commit.epoch) { None } else { state.epoch(commit.epoch).map(|epoch| epoch.opened_block) };
        is_of_epoch(commit, tip, self.keeping.epoch_blocks, opened)
    }

    /// Whether it is still time to commit in an epoch.
    fn takes_commits(&self, epoch: u64, tip: u64, length: u64) -> bool {
        let of = number(epoch);
        if is_own(epoch) {
            return of == tip / length && tip % length < length / 2 || of == tip / length + 1;
        }
        let current = self.keeping.state().current_epoch().map_or(0, |(epoch, _)| epoch);
        let view = self.seen();
        let is_over = view.epoch == epoch && view.announced != 0 && tip >= view.announced;
        // Others may be a block ahead.
        !is_over && (of == current || of == current + 1)
    }

    /// Whether the audits of one of the chain's epochs are over.
    fn is_over(&self, epoch: u64) -> bool {
        let (tip, view) = (self.keeping.snapshots.borrow().tip.number, self.seen());
        view.epoch == epoch && view.announced != 0 && tip > view.announced + AUDIT_BLOCKS
    }

    fn seen(&self) -> MutexGuard<'_, roll::View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self, epoch: u64, announced: u64, words: String) {
        tracing::info!("{words}");
        *self.seen() = roll::View { words, epoch, announced };
    }

    fn announced(&self, epoch: u64, announced: u64) {
        let mut view = self.seen();
        if view.epoch == epoch {
            view.announced = announced;
        }
    }

    /// Whether this node has committed in an epoch, before a restart or since.
    fn has_committed(&self, epoch: u64) -> anyhow::Result<bool> {
        Ok(self.keeping.store.records().get(COMMITS, &epoch.to_be_bytes())?.is_some())
    }

    /// How this node stands to the chain's roll of auditors, in words.
    pub fn on_roll(&self) -> String {
        let words = self.seen().words.clone();
        if words.is_empty() { "not looked at yet".to_owned() } else { words }
    }

    /// Writes down what rent is claimed with.
    fn keep_passed(&self) {
        let me = self.keeping.me();
        let passed = self.books().passed(me);
        for epoch in passed {
            let Some(own) = self.own_of(epoch) else { continue };
            let kept = self.books().verdicts(epoch, me).and_then(|verdicts| {
                let holdings = own.holdings.entries().iter().map(storage::proto::audit::Holding::held).collect();
                let folder = self.data.audits();
                Audited { epoch, holdings, verdicts }.write(&folder)?;
                Ok(audited::prune(&folder)?)
            });
            match kept {
                Ok(()) => tracing::info!(
                    epoch,
                    "an audit of this node is passed: `tributary claim --rent` once the chain's next epoch has opened"
                ),
                Err(error) => {
                    tracing::error!(epoch, error = format!("{error:#}"), "a passed audit is not kept: its rent cannot be claimed")
                }
            }
        }
    }

    /// Looks which epochs have an outcome now, and what follows from it.
    fn settle(&self) {
        self.keep_passed();
        let settled = self.books().settle();
        let settled = match settled {
            Ok(settled) if settled.is_empty() => return,
            Ok(settled) => settled,
            Err(error) => return tracing::error!(error = format!("{error:#}"), "outcomes of audits are not kept"),
        };
        for outcome in &settled {
            tracing::info!(node = %outcome.node, epoch = number(outcome.epoch), ended = ?outcome.ended, standing = ?outcome.standing, "outcome of an audit");
            if outcome.is_case
                && let Err(error) = self.books().write_case(&self.data, outcome.node)
            {
                tracing::error!(node = %outcome.node, error = format!("{error:#}"), "the evidence for a slash case is not kept");
            }
        }
        self.tell_unfit();
    }

    fn tell_unfit(&self) {
        let suspended = self.books().suspended();
        *self.keeping.unfit.write().unwrap_or_else(PoisonError::into_inner) = suspended;
    }
}

/// What is forwarded: words of staked operators, signed by whom they name.
fn check(snapshots: Snapshots, domains: types::key::Domains) -> impl FnMut(&[u8]) -> Heard + Send {
    move |bytes| {
        if bytes.len() > TOLD_BYTES_MAX {
            return Heard::Reject;
        }
        let (by, is_signed) = match Told::decode(bytes) {
            Ok(Told::Commit(signed)) => (signed.document.node, signed.verify(&domains, signed.document.node).is_ok()),
            Ok(Told::Verdict(signed)) => (signed.document.auditor, signed.verify(&domains, signed.document.auditor).is_ok()),
            Err(_) => return Heard::Reject,
        };
        let is_staked = snapshots.borrow().latest.operator(by).is_some_and(|operator| operator.active.0 > 0);
        match (is_signed, is_staked) {
            (false, _) => Heard::Reject,
            // This node's books may be behind.
            (true, false) => Heard::Ignore,
            (true, true) => Heard::Accept,
        }
    }
}

/// Whether an epoch is one of the network's own count, and not of the chain's.
const fn is_own(epoch: u64) -> bool {
    epoch & OWN != 0
}

/// An epoch's number in its count.
pub(crate) const fn number(epoch: u64) -> u64 {
    epoch & !OWN
}

/// Whether a commitment's block is one of its epoch, and not of the future; `opened` is the block in which the chain's epoch did, if this node has seen that. If it has
/// not, that block is yet to come here, and so is the commitment's: an old one would be of no use to the chain and earn rent all the same.
fn is_of_epoch(commit: &AuditCommit, tip: u64, epoch_blocks: u64, opened: Option<u64>) -> bool {
    let has_begun = if is_own(commit.epoch) {
        commit.block / epoch_blocks == number(commit.epoch)
    } else {
        opened.map_or(commit.block > tip, |opened| commit.block >= opened)
    };
    has_begun && commit.block <= tip.saturating_add(AHEAD_BLOCKS)
}

/// A key of epoch and account.
fn key(epoch: u64, node: Address) -> Vec<u8> {
    Writer::new().u64(epoch).address(node).finish()
}

/// What reaches the auditor of a node from others.
#[derive(Debug)]
enum Mail {
    /// The opener drew this nonce.
    Opened(Hash32),
    /// The node's answer to it.
    Answered(Hash32, Box<storage::proto::audit::message::SignedAnswer>),
}

type Mailbox = mpsc::Receiver<(tokio::time::Instant, Mail)>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commitment_counts_only_with_a_block_of_its_epoch() {
        let is_of = |epoch, block, tip, opened| {
            let commit = AuditCommit { node: Address([1; 20]), epoch, holdings: Hash32::ZERO, ranges: 1, block };
            is_of_epoch(&commit, tip, 100, opened)
        };
        for (epoch, block, tip, opened, is_right) in [
            (OWN | 3, 300, 310, None, true),
            (OWN | 3, 312, 310, None, true),
            (OWN | 3, 313, 310, None, false),
            (OWN | 3, 299, 310, None, false),
            (OWN | 3, 400, 399, None, false),
            (OWN | 3, 0, 310, None, false),
            (7, 305, 310, Some(305), true),
            (7, 304, 310, Some(305), false),
            (7, 313, 310, Some(305), false),
            (7, 310, 310, None, false),
            (7, 1, 310, None, false),
            (7, 311, 310, None, true),
            (7, 313, 310, None, false),
            (7, u64::MAX, u64::MAX, Some(0), true),
        ] {
            assert_eq!(is_of(epoch, block, tip, opened), is_right, "block {block} of epoch {} at {tip}", number(epoch));
        }
    }
}
