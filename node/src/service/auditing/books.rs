//! What is known of audits: commitments and verdicts of the last epochs in memory; verdicts and outcomes on the disk.
//!
//! Verdicts are kept by (epoch, node, auditor), those of this node too: they are what rent is paid on. How epochs ended by (node, epoch), from which a node's standing is
//! derived again. Verdicts of 1,000 nodes are 660 KB a day.
//!
//! A suspended node that was there in an epoch, committed to nothing and is named for nothing by this node's records was idle in it, unless two auditors agree on something else: one that
//! knows better, or lies, cannot hold it back. Of others idle epochs are not written down, since nothing follows from them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use serde::Serialize;
use storage::{
    proto::{
        audit::{
            Standing,
            auditor::PATIENCE,
            message::Told,
            roll_subnet, settle,
            standing::{Ended, Lifting, State},
        },
        placement::Site,
    },
    store::Records,
};
use tokio::{sync::mpsc, time::Instant};
use types::{
    audit::{AuditCommit, AuditVerdict, Seat, Verdict, auditors},
    id::{Address, Hash32},
    key::Signed,
};

use super::{Mail, Mailbox, is_own, key, promises::committed};
use crate::data::{DataDir, write_atomic};

/// Epochs in memory: short ones of a test overlap for as long as an auditor is patient.
pub const EPOCHS_KEPT: usize = 16;
/// Later epochs by which one is over, however short they are: while it is in memory, and as long after its audits as can be.
const EPOCHS_LATER: u64 = EPOCHS_KEPT as u64 / 2;
/// Letters of one audit: a nonce and an answer, and room for repeated ones.
const LETTERS_MAX: usize = 8;
/// Verdicts on one node that are kept before its auditors are known here.
const VERDICTS_MAX: usize = 8;
/// Outcomes of one node that its standing follows from: more than a year of days.
const OUTCOMES_MAX: usize = 400;
/// Epochs for which verdicts are kept: rent of 90 can be claimed, and a slash case names failures of these.
const VERDICT_EPOCHS: u64 = 128;
/// Verdicts dropped at once.
const PRUNED_MAX: usize = 1 << 10;
/// Nodes that commit in one epoch.
const NODES_MAX: usize = 1 << 14;
/// Signed verdicts, by epoch, node and auditor.
const VERDICTS: &str = "audit-verdicts";
/// Codes of how epochs ended, by node and epoch.
const OUTCOMES: &str = "audit-outcomes";
/// Signed commitments of the chain's epochs, by epoch and node.
const HEARD: &str = "audit-heard";
/// The nonce that this node was challenged with, by epoch.
const CHALLENGED: &str = "audit-challenged";
/// The nonces that this node challenges others with, by epoch and node.
const OPENED: &str = "audit-opened";
/// Records read at once when an epoch is taken up.
const RESUMED_PAGE: usize = 1 << 10;

/// A node to audit: who does it, and what it committed to.
pub(super) type Drawn = (Address, Vec<Address>, Option<Signed<AuditCommit>>);

/// Where letters about a node are put, and the box they lie in until its auditor takes it.
type Letters = (mpsc::Sender<(Instant, Mail)>, Option<Mailbox>);

/// Whom auditors are drawn from.
#[derive(Debug)]
struct Roll {
    seats: Vec<Seat>,
    places: BTreeMap<Address, usize>,
    /// Whether it is the chain's: who does not sit there is not audited.
    is_frozen: bool,
}

impl Roll {
    fn new(seats: Vec<Seat>, is_frozen: bool) -> Self {
        let places = seats.iter().enumerate().map(|(place, seat)| (seat.node, place)).collect();
        Self { seats, places, is_frozen }
    }
}

#[derive(Debug, Default)]
struct Epoch {
    commits: BTreeMap<Address, Signed<AuditCommit>>,
    /// The beacon, when it was known here, and who was drawn from.
    beacon: Option<(Hash32, Instant, Roll)>,
    /// Those that are looked for though they committed to nothing.
    expected: BTreeSet<Address>,
    /// Those that committed to nothing and are not looked for.
    empty: BTreeSet<Address>,
    verdicts: BTreeMap<Address, BTreeMap<Address, Signed<AuditVerdict>>>,
    settled: BTreeSet<Address>,
    /// The nonce that this node was challenged with.
    challenged: Option<Hash32>,
    mail: BTreeMap<Address, Letters>,
}

impl Epoch {
    fn auditors(&self, node: Address) -> Vec<Address> {
        let Some((beacon, _, roll)) = &self.beacon else { return Vec::new() };
        match roll.places.get(&node) {
            Some(place) => auditors(*beacon, *place, &roll.seats),
            None if roll.is_frozen => Vec::new(),
            // Who is looked for and did not commit audits nobody: it stands behind the others.
            None => auditors(*beacon, roll.seats.len(), &[roll.seats.as_slice(), &[Seat { node, subnet: 0 }]].concat()),
        }
    }

    fn is_frozen(&self) -> bool {
        self.beacon.as_ref().is_some_and(|(.., roll)| roll.is_frozen)
    }

    /// The outcome for a node, once two agree, all three have spoken, or nobody will any more.
    fn outcome(&self, epoch: u64, node: Address) -> Option<Verdict> {
        let (_, since, _) = self.beacon.as_ref()?;
        let drawn = self.auditors(node);
        let verdicts: Vec<_> = self.verdicts.get(&node)?.values().map(|signed| signed.document).collect();
        let spoken = verdicts.iter().filter(|verdict| drawn.contains(&verdict.auditor)).count();
        let outcome = settle(node, epoch, &drawn, &verdicts);
        let is_over = spoken >= drawn.len() || since.elapsed() > 3 * PATIENCE;
        (outcome != Verdict::Unknown || is_over).then_some(outcome)
    }

    /// How the epoch ended for a node, once that is known; `latest` is the last epoch that has begun.
    fn ended(&self, epoch: u64, node: Address, latest: u64) -> Option<Ended> {
        let outcome = self.outcome(epoch, node);
        if !self.empty.contains(&node) || outcome.is_some_and(|outcome| outcome != Verdict::Unknown) {
            return outcome.map(Ended::from);
        }
        let (_, since, _) = self.beacon.as_ref()?;
        let is_over = since.elapsed() > 3 * PATIENCE || latest.saturating_sub(epoch) >= EPOCHS_LATER;
        is_over.then_some(Ended::Idle)
    }
}

/// What an epoch's audits came to for one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The epoch.
    pub epoch: u64,
    /// The node.
    pub node: Address,
    /// What two auditors agree on, or that there was nothing to audit.
    pub ended: Ended,
    /// Where the node stands since.
    pub standing: State,
    /// Whether it became a slash case now.
    pub is_case: bool,
}

/// The books of audits.
#[derive(Debug)]
pub struct Books {
    records: Records,
    epochs: BTreeMap<u64, Epoch>,
    standings: BTreeMap<Address, Standing>,
}

impl Books {
    /// The books over a store's records.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn open(records: Records) -> anyhow::Result<Self> {
        let mut books = Self { records, epochs: BTreeMap::new(), standings: BTreeMap::new() };
        let mut from = Vec::new();
        loop {
            let found = books.records.scan(OUTCOMES, &from, OUTCOMES_MAX)?;
            let Some((last, _)) = found.last() else { return Ok(books) };
            from = [last.as_slice(), &[0]].concat();
            for (key, value) in found {
                let node = key.first_chunk().map(|node| Address(*node)).context("an outcome without a node")?;
                let standing = books.standings.entry(node).or_default();
                *standing = standing.after(read(&value)?);
            }
        }
    }

    pub(super) fn begin(&mut self, epoch: u64) {
        self.epochs.entry(epoch).or_default();
        // The chain's epochs and the network's own are kept apart.
        let alike = self.epochs.keys().filter(|other| is_own(**other) == is_own(epoch));
        let oldest = alike.clone().next().copied().filter(|_| alike.count() > EPOCHS_KEPT);
        if let Some(oldest) = oldest {
            self.epochs.remove(&oldest);
        }
    }

    pub(super) fn has(&self, epoch: u64) -> bool {
        self.epochs.contains_key(&epoch)
    }

    /// Takes a commitment in; those of the chain's epochs are on the disk, since rent is paid on what follows.
    pub(super) fn commit(&mut self, commit: Signed<AuditCommit>) -> anyhow::Result<()> {
        let AuditCommit { epoch: number, node, .. } = commit.document;
        self.begin(number);
        if let Some(epoch) = self.epochs.get_mut(&number)
            && epoch.beacon.is_none()
            && epoch.commits.len() < NODES_MAX
            // The first counts: a second one would be a choice made after hearing others.
            && !epoch.commits.contains_key(&node)
        {
            if !is_own(number) {
                self.records.put(HEARD, &key(number, node), &Told::Commit(commit.clone()).encode())?;
            }
            epoch.commits.insert(node, commit);
        }
        Ok(())
    }

    pub(super) fn wants_beacon(&self, epoch: u64) -> bool {
        self.epochs.get(&epoch).is_some_and(|epoch| epoch.beacon.is_none())
    }

    pub(super) fn beacon(&self, epoch: u64) -> Option<Hash32> {
        self.epochs.get(&epoch)?.beacon.as_ref().map(|(beacon, ..)| *beacon)
    }

    pub(super) fn auditors(&self, epoch: u64, node: Address) -> Vec<Address> {
        self.epochs.get(&epoch).map(|epoch| epoch.auditors(node)).unwrap_or_default()
    }

    /// Sets the beacon and names the auditors of everyone who committed to something, and of everyone who is `expected` to hold something and did not commit, or to nothing.
    pub(super) fn draw(
        &mut self,
        number: u64,
        beacon: Hash32,
        sites: &BTreeMap<Address, Site>,
        expected: &BTreeSet<Address>,
    ) -> Vec<Drawn> {
        let Some(epoch) = self.epochs.get_mut(&number) else { return Vec::new() };
        // Where those stand that are not heard at this moment is not known; they take part all the same.
        let seat = |node: &Address| Seat { node: *node, subnet: sites.get(node).map_or(0, roll_subnet) };
        epoch.beacon = Some((beacon, Instant::now(), Roll::new(epoch.commits.keys().map(seat).collect(), false)));
        epoch.expected = expected.iter().filter(|node| !epoch.commits.contains_key(node)).copied().collect();
        let is_empty = |(node, commit): &(&Address, &Signed<AuditCommit>)| commit.document.ranges == 0 && !expected.contains(node);
        epoch.empty = epoch.commits.iter().filter(is_empty).map(|(node, _)| *node).collect();
        let is_something = |node: &Address, commit: &Signed<AuditCommit>| commit.document.ranges > 0 || expected.contains(node);
        let committed = epoch.commits.iter().filter(|(node, commit)| is_something(node, commit));
        let committed = committed.map(|(node, commit)| (*node, epoch.auditors(*node), Some(commit.clone())));
        committed.chain(epoch.expected.iter().map(|node| (*node, epoch.auditors(*node), None))).collect()
    }

    /// The same from the chain's roll: who sits there and committed is audited, unless it is suspended: rent is paid on these audits alone.
    pub(super) fn draw_from(&mut self, number: u64, beacon: Hash32, roll: Vec<Seat>) -> Vec<Drawn> {
        let Some(epoch) = self.epochs.get_mut(&number) else { return Vec::new() };
        let roll = Roll::new(roll, true);
        epoch.commits.retain(|node, _| roll.places.contains_key(node));
        epoch.beacon = Some((beacon, Instant::now(), roll));
        let standings = &self.standings;
        let may_be_paid = |node: &Address| standings.get(node).is_none_or(|standing| standing.is_paid(Verdict::Passed));
        let committed = epoch.commits.iter().filter(|(node, commit)| commit.document.ranges > 0 && may_be_paid(node));
        committed.map(|(node, commit)| (*node, epoch.auditors(*node), Some(commit.clone()))).collect()
    }

    /// Whether an epoch of the chain with this verdict is paid to a node, as it stands now.
    pub(super) fn is_paid(&self, node: Address, verdict: Verdict) -> bool {
        self.standings.get(&node).copied().unwrap_or_default().is_paid(verdict)
    }

    /// Epochs of the chain whose audit a node turns out to have passed now.
    pub(super) fn passed(&mut self, node: Address) -> Vec<u64> {
        let mut passed = Vec::new();
        for (number, epoch) in self.epochs.iter_mut().filter(|(_, epoch)| epoch.is_frozen() && !epoch.settled.contains(&node)) {
            let Some(verdict) = epoch.outcome(*number, node) else { continue };
            epoch.settled.insert(node);
            if verdict == Verdict::Passed {
                passed.push(*number);
            }
        }
        passed
    }

    /// Drops verdicts of epochs long before `epoch`, of its count; so many at most that the next times make up for the rest. Lists of what this node committed to in block `live_from` or
    /// later stay: the chain may still ask for what is in them.
    pub(super) fn prune(&self, epoch: u64, live_from: u64) -> anyhow::Result<()> {
        let base = epoch & super::OWN;
        let number = epoch & !super::OWN;
        let under_way = EPOCHS_KEPT as u64;
        for (table, epochs) in
            [(VERDICTS, VERDICT_EPOCHS), (HEARD, under_way), (CHALLENGED, under_way), (OPENED, under_way), (super::OWN_LISTS, under_way)]
        {
            let bound = number.saturating_sub(epochs);
            for (key, _) in self.records.scan(table, &base.to_be_bytes(), PRUNED_MAX)? {
                let of = key.first_chunk().map(|of| u64::from_be_bytes(*of)).context("a record of audits without an epoch")?;
                if is_own(of) != is_own(epoch) || of & !super::OWN >= bound {
                    break;
                }
                if table == super::OWN_LISTS
                    && let Some(commit) = self.records.get(super::COMMITS, &key)?
                    && committed(&commit)?.document.block >= live_from
                {
                    continue;
                }
                self.records.remove(table, &key)?;
            }
        }
        Ok(())
    }

    /// Takes up an epoch of the chain after a restart: what was heard and seen of it, and whether this node was challenged.
    pub(super) fn resume(&mut self, number: u64) -> anyhow::Result<()> {
        self.begin(number);
        let prefix = number.to_be_bytes();
        let (mut commits, mut verdicts) = (Vec::new(), Vec::new());
        for (table, found) in [(HEARD, &mut commits), (VERDICTS, &mut verdicts)] {
            let mut from = prefix.to_vec();
            loop {
                let page = self.records.scan(table, &from, RESUMED_PAGE)?;
                let Some((last, _)) = page.last() else { break };
                from = [last.as_slice(), &[0]].concat();
                let is_end = !last.starts_with(&prefix);
                found.extend(page.into_iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(_, told)| told));
                if is_end {
                    break;
                }
            }
        }
        let challenged = self.records.get(CHALLENGED, &prefix)?.and_then(|nonce| nonce.try_into().ok()).map(Hash32);
        let Some(epoch) = self.epochs.get_mut(&number) else { return Ok(()) };
        epoch.challenged = epoch.challenged.or(challenged);
        for told in commits.iter().chain(&verdicts) {
            match Told::decode(told)? {
                Told::Commit(commit) if epoch.beacon.is_none() && epoch.commits.len() < NODES_MAX => {
                    epoch.commits.entry(commit.document.node).or_insert(commit);
                }
                Told::Verdict(verdict) => {
                    let of_node = epoch.verdicts.entry(verdict.document.node).or_default();
                    of_node.entry(verdict.document.auditor).or_insert(verdict);
                }
                Told::Commit(_) => {}
            }
        }
        Ok(())
    }

    /// What an auditor has said of a node.
    pub(super) fn verdict_of(&self, epoch: u64, node: Address, auditor: Address) -> Option<Signed<AuditVerdict>> {
        self.epochs.get(&epoch)?.verdicts.get(&node)?.get(&auditor).cloned()
    }

    /// The nonce by which this node opens the audit of another: `fresh`, or that of before a restart.
    pub(super) fn opening(&self, epoch: u64, node: Address, fresh: Hash32) -> anyhow::Result<Hash32> {
        self.records.insert_new(OPENED, &key(epoch, node), &fresh.0)?;
        let kept = self.records.get(OPENED, &key(epoch, node))?.and_then(|nonce| nonce.try_into().ok()).map(Hash32);
        kept.context("a nonce that was kept is gone")
    }

    /// Notes that this node was challenged; false if it was before, with another nonce.
    pub(super) fn challenge(&mut self, number: u64, nonce: Hash32) -> anyhow::Result<bool> {
        let Some(epoch) = self.epochs.get_mut(&number) else { return Ok(false) };
        if epoch.challenged.is_none() {
            self.records.put(CHALLENGED, &number.to_be_bytes(), &nonce.0)?;
        }
        Ok(*epoch.challenged.get_or_insert(nonce) == nonce)
    }

    fn open_mail(&mut self, epoch: u64, node: Address) -> Option<&mut Letters> {
        let epoch = self.epochs.get_mut(&epoch)?;
        let is_node = epoch.commits.contains_key(&node) || epoch.expected.contains(&node);
        if !is_node && !epoch.mail.contains_key(&node) && epoch.beacon.is_some() {
            return None;
        }
        if epoch.mail.len() >= NODES_MAX {
            return None;
        }
        let fresh = || {
            let (sender, receiver) = mpsc::channel(LETTERS_MAX);
            (sender, Some(receiver))
        };
        Some(epoch.mail.entry(node).or_insert_with(fresh))
    }

    /// The letters about a node, for its one auditor here.
    pub(super) fn mailbox(&mut self, epoch: u64, node: Address) -> Option<Mailbox> {
        self.open_mail(epoch, node)?.1.take()
    }

    /// Puts a letter in; false if nobody waits for it.
    pub(super) fn post(&mut self, epoch: u64, node: Address, letter: (Instant, Mail)) -> bool {
        self.begin(epoch);
        self.open_mail(epoch, node).is_some_and(|(sender, _)| sender.try_send(letter).is_ok())
    }

    /// Keeps a verdict by a drawn auditor, or by one that may turn out to be.
    pub(super) fn verdict(&mut self, signed: &Signed<AuditVerdict>) -> anyhow::Result<()> {
        let AuditVerdict { auditor, node, epoch: number, .. } = signed.document;
        let Some(epoch) = self.epochs.get_mut(&number) else { return Ok(()) };
        let is_drawn = epoch.beacon.is_none() || epoch.auditors(node).contains(&auditor);
        // Who sits on the chain's roll audits, whether it holds anything or not.
        if !is_drawn || !(epoch.is_frozen() || epoch.commits.contains_key(&auditor)) {
            return Ok(());
        }
        let of_node = epoch.verdicts.entry(node).or_default();
        if of_node.contains_key(&auditor) || of_node.len() >= VERDICTS_MAX {
            return Ok(());
        }
        let key = [key(number, node).as_slice(), &auditor.0].concat();
        self.records.put(VERDICTS, &key, &Told::Verdict(signed.clone()).encode())?;
        of_node.insert(auditor, signed.clone());
        Ok(())
    }

    /// Outcomes that are known now and were not before.
    pub(super) fn settle(&mut self) -> anyhow::Result<Vec<Outcome>> {
        let mut found = Vec::new();
        // By the chain's epochs nodes are paid; their standing follows from the network's own.
        let latest = self.epochs.keys().copied().rfind(|number| is_own(*number)).unwrap_or_default();
        let standings = &self.standings;
        let is_suspended = |node: &&Address| standings.get(node).is_some_and(|standing| standing.state() == State::Suspended);
        for (number, epoch) in self.epochs.iter_mut().filter(|(_, epoch)| !epoch.is_frozen()) {
            let looked_at = epoch.verdicts.keys().chain(epoch.empty.iter().filter(is_suspended));
            let open: BTreeSet<Address> = looked_at.filter(|node| !epoch.settled.contains(*node)).copied().collect();
            for node in open {
                let Some(ended) = epoch.ended(*number, node, latest) else { continue };
                let key = [node.0.as_slice(), &number.to_be_bytes()].concat();
                let counts = ended != Ended::Idle || is_suspended(&&node);
                let is_new = counts && self.records.insert_new(OUTCOMES, &key, &[ended.code()])?;
                epoch.settled.insert(node);
                if is_new {
                    found.push((*number, node, ended));
                }
            }
        }
        let outcomes = found.into_iter().map(|(epoch, node, ended)| {
            let standing = self.standings.entry(node).or_default();
            let before = standing.state();
            *standing = standing.after(ended);
            let is_case = standing.state() == State::SlashCase && before != State::SlashCase;
            Outcome { epoch, node, ended, standing: standing.state(), is_case }
        });
        Ok(outcomes.collect())
    }

    /// Operators that take no new fragments.
    pub fn suspended(&self) -> BTreeSet<Address> {
        self.standings.iter().filter(|(_, standing)| !standing.may_take()).map(|(node, _)| *node).collect()
    }

    /// Where a node stands.
    pub fn standing(&self, node: Address) -> State {
        self.standings.get(&node).copied().unwrap_or_default().state()
    }

    /// What lifts a node's suspension; nothing if it is not suspended.
    pub fn lifting(&self, node: Address) -> Option<Lifting> {
        self.standings.get(&node)?.lifting()
    }

    /// Nodes that stand so.
    pub(super) fn nodes_at(&self, state: State) -> Vec<Address> {
        self.standings.iter().filter(|(_, standing)| standing.state() == state).map(|(node, _)| *node).collect()
    }

    /// How the last epochs ended for a node, oldest first.
    ///
    /// # Errors
    /// What the disk says.
    pub fn outcomes(&self, node: Address, count: usize) -> anyhow::Result<Vec<(u64, Ended)>> {
        let mut from = node.0.to_vec();
        let mut last = std::collections::VecDeque::new();
        loop {
            let found = self.records.scan(OUTCOMES, &from, OUTCOMES_MAX)?;
            let is_end = found.len() < OUTCOMES_MAX;
            for (key, value) in found {
                let Some(epoch) = key.strip_prefix(&node.0) else { return Ok(last.into()) };
                let epoch = u64::from_be_bytes(epoch.try_into().context("an outcome without an epoch")?);
                from = [key.as_slice(), &[0]].concat();
                last.push_back((epoch, read(&value)?));
                if last.len() > count {
                    last.pop_front();
                }
            }
            if is_end {
                return Ok(last.into());
            }
        }
    }

    /// The signed verdicts on a node in an epoch.
    ///
    /// # Errors
    /// What the disk says.
    pub fn verdicts(&self, epoch: u64, node: Address) -> anyhow::Result<Vec<Signed<AuditVerdict>>> {
        let prefix = key(epoch, node);
        let found = self.records.scan(VERDICTS, &prefix, VERDICTS_MAX)?;
        let of_node = found.into_iter().take_while(|(key, _)| key.starts_with(&prefix));
        of_node
            .map(|(_, bytes)| match Told::decode(&bytes)? {
                Told::Verdict(signed) => Ok(signed),
                Told::Commit(_) => anyhow::bail!("a commitment lies where a verdict is kept"),
            })
            .collect()
    }

    /// Puts the verdicts that make a slash case together in the data folder.
    pub(super) fn write_case(&self, data: &DataDir, node: Address) -> anyhow::Result<()> {
        #[derive(Serialize)]
        struct Case {
            node: Address,
            outcomes: Vec<(u64, Ended)>,
            verdicts: Vec<Signed<AuditVerdict>>,
        }
        let outcomes = self.outcomes(node, OUTCOMES_MAX)?;
        let mut verdicts = Vec::new();
        for (epoch, _) in outcomes.iter().filter(|(_, ended)| *ended == Ended::Failed) {
            verdicts.extend(self.verdicts(*epoch, node)?);
        }
        let folder = data.path().join("evidence");
        std::fs::create_dir_all(&folder)?;
        let case = Case { node, outcomes, verdicts };
        Ok(write_atomic(&folder.join(format!("slash-{node}.json")), &serde_json::to_vec_pretty(&case)?, 0o644)?)
    }
}

fn read(value: &[u8]) -> anyhow::Result<Ended> {
    let code = value.first().context("an outcome without a code")?;
    Ended::of_code(*code).with_context(|| format!("{code} is no outcome"))
}

#[cfg(test)]
mod tests;
