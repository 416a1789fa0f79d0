//! Checking other nodes' answers, when this node is drawn for it (ARCHITECTURE P11).
//!
//! What is to be done when is `attribution::check::round`'s to say; this follows the board of checks on the chain and carries it out: beacons are announced and stored where
//! nobody has, the receipts under each root fetched as settling fetches them, those that this node was drawn for looked at (`look`), what came of it sealed and shown. A receipt
//! that is false is proved so at once, by what `audit prove` proves it by. Everything stands in a file of the epoch ([`kept`]), which is on the disk before a root over it is told.
//!
//! By the latest block. A branch on which another beacon is stored begins the round anew, unless it was sealed: what was sealed is shown or nothing is. Cost of a check: a
//! transcript of some 10 kB and one search of the index; of an epoch: two transactions of about 60,000 gas, and for one node of all two more.

pub mod draws;
pub mod kept;
mod look;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use attribution::check::{
    Operators, Outcome,
    round::{Drawn, Facts, Round, Step},
};
use chain_bridge::{
    chain::error::ChainError,
    client::checks::ORIGIN_BLOCKS,
    registry::{State, check::Board},
};
use futures::future::join_all;
use inference::engine::EngineHandle;
use tokio::{
    sync::RwLock,
    time::{MissedTickBehavior, timeout},
};
use types::{
    amount::Amount,
    encoding::Document as _,
    id::{Address, Hash32},
};

use self::{
    kept::{Kept, Root, Row},
    look::Missing,
};
use super::{inference::Offers, settlement::Settling};
use crate::config::Checks;

/// How often the chain's phase is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Roots that are fetched at once.
const FETCHES: usize = 8;
/// Receipts that are looked at between two looks at the chain.
const CHECKS_AT_ONCE: usize = 16;
/// Fetches of a root or of a transcript that fail before it counts as not to be had.
const TRIES: u32 = 3;
/// Part of the time for seals between two of them: seven minutes of eight hours, in which a node starts again.
const PAUSE: u64 = 64;
/// Part of the time for seals that one node may keep this one waiting for its transcripts: half an hour of eight, some thousands of an honest node's. Who is slow on purpose
/// takes no more of what the others' checks need.
const WAITED: u64 = 16;
/// The least of it, where epochs are short: a page and a handshake on a bad line, a few times.
const WAITED_MIN: Duration = Duration::from_secs(60);
/// Seconds of a turn: operators announce and store one after the other, so that not all pay for what one does.
const TURN_S: u64 = 2;
/// Turns until it is the first one's again: a node that checks alone waits so long.
const TURNS_MAX: u64 = 4;

/// The service's parts.
#[derive(Debug)]
pub struct Checking {
    /// Fetches receipts, asks nodes, proves faults.
    pub settling: Arc<Settling>,
    /// Indexes to search.
    pub offers: Arc<RwLock<Offers>>,
    /// Spells tokens, if this node has a model.
    pub engine: Option<EngineHandle>,
    /// Where rounds are kept.
    pub folder: PathBuf,
    /// The rule of the draw.
    pub config: Checks,
}

/// A round under way.
#[derive(Debug)]
struct Held {
    round: Round,
    /// What it draws by, once known.
    beacon: Option<Hash32>,
    kept: Kept,
    /// Fetches that failed.
    roots: BTreeMap<Address, Tried>,
    transcripts: BTreeMap<Drawn, Tried>,
    /// How long each node's transcripts have taken.
    waited: BTreeMap<Address, Duration>,
}

/// Fetches that failed.
#[derive(Debug, Clone, Copy)]
struct Tried {
    count: u32,
    /// The chain's second of the last one.
    at: u64,
}

impl Tried {
    /// One more at `now`; whether no more are made.
    fn fails<K: Ord>(of: &mut BTreeMap<K, Self>, key: K, now: u64) -> bool {
        let tried = of.entry(key).or_insert(Self { count: 0, at: now });
        (tried.count, tried.at) = (tried.count.saturating_add(1), now);
        tried.count >= TRIES
    }

    /// Whether it is to be tried now.
    fn is_due<K: Ord>(of: &BTreeMap<K, Self>, key: &K, facts: &Facts<'_>) -> bool {
        let pause = facts.sealed_until.saturating_sub(facts.accepts_until) / PAUSE;
        of.get(key).is_none_or(|tried| facts.time >= tried.at.saturating_add(pause.max(1)))
    }
}

impl Held {
    /// What is kept, as the round stands.
    fn note(&mut self) {
        let round = &self.round;
        self.kept.roots = round.read().iter().map(|(node, read)| Root::of(*node, read)).collect();
        self.kept.left_out = round.left_out();
        self.kept.sealed = round.sealed().map(|stacked| stacked.checks().to_vec());
        let known: BTreeSet<(Address, u64)> = self.kept.checks.iter().map(|row| (row.node, row.index)).collect();
        for (drawn, outcome) in round.drawn() {
            if !known.contains(&(drawn.node, drawn.index)) {
                let Drawn { node, index, receipt } = *drawn;
                self.kept.checks.push(Row { node, index, receipt, outcome: *outcome, note: None, proved: Vec::new() });
            }
        }
        // What was not looked at in time is sealed as that.
        let sealed = self.kept.sealed.iter().flatten().map(|check| ((check.node, check.index), check.outcome));
        let outcomes: BTreeMap<_, _> = sealed.collect();
        for row in &mut self.kept.checks {
            row.outcome = outcomes.get(&(row.node, row.index)).copied().or(row.outcome);
        }
    }

    fn row(&mut self, drawn: &Drawn) -> Option<&mut Row> {
        self.kept.checks.iter_mut().find(|row| (row.node, row.index) == (drawn.node, drawn.index))
    }

    /// Notes what came of a check.
    fn checked(&mut self, drawn: &Drawn, outcome: Outcome, note: Option<String>, proved: Vec<String>) {
        self.round.checked(drawn, outcome);
        if let Some(row) = self.row(drawn) {
            (row.outcome, row.proved) = (Some(outcome), proved.iter().map(|proved| kept::note(proved)).collect());
            row.note = note.map(|note| kept::note(&note));
        }
    }

    /// Whether a node has kept this one waiting for so long that no more of its transcripts are asked for.
    fn is_slow(&self, node: Address, facts: &Facts<'_>) -> bool {
        let most = Duration::from_secs(facts.sealed_until.saturating_sub(facts.accepts_until) / WAITED).max(WAITED_MIN);
        self.waited.get(&node).is_some_and(|waited| *waited >= most)
    }
}

impl Checking {
    /// Follows the chain for as long as the service runs.
    pub async fn run(self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rounds = BTreeMap::new();
        loop {
            ticks.tick().await;
            let (state, now) = {
                let snapshot = self.settling.snapshots.borrow();
                let Some(heads) = snapshot.heads.filter(|_| snapshot.is_current() && !snapshot.is_halted) else { continue };
                (Arc::clone(&snapshot.latest), heads.timestamp)
            };
            let open = state.epochs().filter(|(_, epoch)| epoch.accepts_until <= now && now < epoch.payout_from);
            let open: BTreeSet<u64> = open.map(|(epoch, _)| epoch).collect();
            rounds.retain(|epoch, _| open.contains(epoch));
            for epoch in open {
                if let Err(error) = self.advance(&state, now, epoch, &mut rounds).await {
                    tracing::warn!(epoch, error = format!("{error:#}"), "checks of an epoch did not go on: they are looked at again");
                }
            }
        }
    }

    /// Does what is to be done in an epoch now.
    async fn advance(&self, state: &Arc<State>, now: u64, epoch: u64, rounds: &mut BTreeMap<u64, Held>) -> anyhow::Result<()> {
        let (me, times) = (self.settling.account.address(), state.epoch(epoch).context("just found")?);
        let board = state.board(epoch);
        let beacon = board.and_then(|board| board.beacon);
        let is_other = |held: &Held| held.beacon.is_some() && held.beacon != beacon && held.round.sealed().is_none();
        if rounds.get(&epoch).is_none_or(is_other) {
            rounds.insert(epoch, self.begin(epoch, me)?);
        }
        let held = rounds.get_mut(&epoch).context("just put there")?;
        let operators = stakes(state, board)?;
        let roots = times.roots.iter().filter(|(_, root)| root.count > 0);
        let nodes: Vec<Address> = roots.map(|(node, _)| *node).collect();
        let said = board.and_then(|board| board.checks.get(&me));
        let facts = Facts {
            time: now,
            accepts_until: times.accepts_until,
            sealed_until: times.sealed_until(),
            shown_until: times.payout_from,
            is_ripe: self.is_ripe(board).await?,
            beacon,
            nodes: &nodes,
            operators: &operators,
            said: said.map(|said| (said.sealed, said.shown.is_some())),
        };
        let steps = held.round.steps(&facts);
        if let Some(beacon) = beacon.filter(|_| held.beacon.is_none()) {
            (held.beacon, held.kept.beacon) = (Some(beacon), beacon);
        }
        let is_told = held.kept.committed.is_some();
        if held.round.sealed().is_some() && !steps.is_empty() && !is_told {
            // Before anybody is told of it, as often as it takes: what is not on the disk could not be shown after a restart.
            held.note();
            held.kept.write(&self.folder)?;
        }
        self.carry_out(state, epoch, &facts, held, steps).await
    }

    async fn carry_out(&self, state: &Arc<State>, epoch: u64, facts: &Facts<'_>, held: &mut Held, steps: Vec<Step>) -> anyhow::Result<()> {
        let (mut fetches, mut checks) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Announce | Step::Store if !self.is_turn(state, epoch, facts.time) => {}
                Step::Announce => {
                    done("announced the beacon of an epoch's checks", epoch, self.settling.chain.announce_check_beacon(epoch).await)?
                }
                Step::Store => done("stored the beacon of an epoch's checks", epoch, self.settling.chain.store_check_beacon(epoch).await)?,
                Step::Fetch(node) => fetches.push(node),
                Step::Check(drawn) => checks.push(drawn),
                Step::Seal { root, count } => {
                    self.settling.chain.commit_checks(epoch, root, count).await?;
                    tracing::info!(epoch, %root, count, "sealed checks of an epoch");
                    held.kept.committed = Some(root);
                    held.kept.write(&self.folder)?;
                }
                Step::Show(root) => {
                    self.settling.chain.reveal_checks(epoch, root).await?;
                    tracing::info!(epoch, %root, "showed checks of an epoch");
                    held.kept.revealed = Some(root);
                    held.kept.write(&self.folder)?;
                }
            }
        }
        fetches.retain(|node| Tried::is_due(&held.roots, node, facts));
        checks.retain(|drawn| Tried::is_due(&held.transcripts, drawn, facts));
        if fetches.is_empty() && checks.is_empty() {
            return Ok(());
        }
        self.fetch(state, epoch, facts, held, fetches).await;
        self.check(state, epoch, facts, held, checks.into()).await;
        held.note();
        held.kept.write(&self.folder)
    }

    /// Fetches the receipts under some roots, and draws.
    async fn fetch(&self, state: &Arc<State>, epoch: u64, facts: &Facts<'_>, held: &mut Held, nodes: Vec<Address>) {
        let Some(beacon) = facts.beacon else { return };
        let Some(times) = state.epoch(epoch) else { return };
        let mut fetching = Vec::new();
        for node in nodes.into_iter().take(FETCHES) {
            let Some(root) = times.roots.get(&node) else { continue };
            // Who sends them slowly is not waited for until it is too late to seal.
            let left = Duration::from_secs(facts.closing_from().saturating_sub(facts.time).max(1));
            fetching.push(async move {
                let items = timeout(left, self.settling.receipts_of(state, node, epoch, root)).await;
                let items = items.unwrap_or_else(|_| Err(anyhow::anyhow!("they did not come before it was time to seal")));
                (node, items.map(|items| items.iter().map(|item| item.receipt.document.hash()).collect::<Vec<Hash32>>()))
            });
        }
        let fetched = join_all(fetching).await;
        for (node, receipts) in fetched {
            match receipts {
                Ok(receipts) => {
                    let own = held.round.fetched(node, &receipts, beacon, facts.operators);
                    tracing::info!(epoch, %node, receipts = receipts.len(), own, "receipts were drawn for checks");
                }
                Err(error) => {
                    tracing::info!(epoch, %node, error = format!("{error:#}"), "receipts to draw from are not to be had");
                    if Tried::fails(&mut held.roots, node, facts.time) {
                        held.round.unreachable(node);
                    }
                }
            }
        }
    }

    /// Looks at some of the receipts that this node was drawn for, until it is time to seal.
    async fn check(&self, state: &Arc<State>, epoch: u64, facts: &Facts<'_>, held: &mut Held, mut left: VecDeque<Drawn>) {
        held.note();
        let (mut looks, mut items) = (0, look::Items::default());
        while looks < CHECKS_AT_ONCE && self.time() < facts.closing_from() {
            let Some(drawn) = left.pop_front() else { break };
            if held.is_slow(drawn.node, facts) {
                let note = "its node kept this one waiting for others of its transcripts for as long as one node may".to_owned();
                held.checked(&drawn, Outcome::Withheld, Some(note), Vec::new());
                continue;
            }
            looks += 1;
            let asked = Instant::now();
            let bundle = self.shown(state, epoch, &drawn, &mut items).await;
            *held.waited.entry(drawn.node).or_default() += asked.elapsed();
            let looked = match bundle {
                Ok(bundle) => self.look(state, epoch, bundle).await.map_err(Missing::Own),
                Err(missing) => Err(missing),
            };
            match looked {
                Ok(looked) => self.note(epoch, held, &drawn, looked),
                Err(missing) => {
                    // A node that is not there is not there for the others either.
                    let is_silent = matches!(missing, Missing::Silent(_));
                    let (same, rest): (VecDeque<_>, _) = left.into_iter().partition(|other| is_silent && other.node == drawn.node);
                    left = rest;
                    for drawn in std::iter::once(drawn).chain(same) {
                        if Tried::fails(&mut held.transcripts, drawn, facts.time) {
                            self.note(epoch, held, &drawn, missing.looked());
                        }
                    }
                }
            }
        }
    }

    /// The chain's time as it is now, which is later than that of before a look.
    fn time(&self) -> u64 {
        self.settling.snapshots.borrow().heads.map_or(u64::MAX, |heads| heads.timestamp)
    }

    fn note(&self, epoch: u64, held: &mut Held, drawn: &Drawn, looked: look::Looked) {
        let look::Looked { outcome, note, proved } = looked;
        let (node, index) = (drawn.node, drawn.index);
        if outcome.agrees() {
            tracing::debug!(epoch, %node, index, "a receipt was checked and agrees");
        } else {
            tracing::warn!(epoch, %node, index, ?outcome, note, ?proved, "a receipt was checked and does not agree, or could not be");
        }
        held.checked(drawn, outcome, note, proved);
    }

    /// The round of an epoch: that of before a restart if it was sealed then, else a new one.
    fn begin(&self, epoch: u64, me: Address) -> anyhow::Result<Held> {
        let rule = self.config.rule();
        let kept = Kept::read(&self.folder, epoch)?.filter(|kept| kept.checker == me && kept.sealed.is_some());
        let (round, kept) = match kept {
            Some(kept) => (Round::resumed(epoch, me, rule, kept.sealed.clone().unwrap_or_default()), kept),
            None => {
                let mut secret = [0; 32];
                getrandom::fill(&mut secret).context("no randomness from the system")?;
                (Round::new(epoch, me, rule, Hash32(secret)), Kept::new(epoch, me, Hash32::ZERO))
            }
        };
        let beacon = Some(kept.beacon).filter(|beacon| *beacon != Hash32::ZERO);
        Ok(Held { round, beacon, kept, roots: BTreeMap::new(), transcripts: BTreeMap::new(), waited: BTreeMap::new() })
    }

    /// Whether the beacon may be stored; nothing if it was not announced.
    async fn is_ripe(&self, board: Option<&Board>) -> anyhow::Result<Option<bool>> {
        let Some(board) = board else { return Ok(None) };
        if board.beacon.is_some() {
            return Ok(Some(true));
        }
        let number = self.settling.chain.l1_number().await.context("the L1 block that the chain stands on")?;
        Ok(Some(number >= board.origin.saturating_add(ORIGIN_BLOCKS)))
    }

    /// Whether it is this operator's turn to do what one does for all.
    fn is_turn(&self, state: &State, epoch: u64, now: u64) -> bool {
        let staked: Vec<Address> =
            state.operators().filter(|operator| operator.active > Amount::ZERO).map(|operator| operator.account).collect();
        let turns = u64::try_from(staked.len()).unwrap_or(u64::MAX).clamp(1, TURNS_MAX);
        let place = staked.iter().position(|account| *account == self.settling.account.address());
        place.and_then(|place| u64::try_from(place).ok()).is_some_and(|place| is_turn(place, turns, epoch, now))
    }
}

/// Turns go round by the chain's time, and begin with another operator each epoch.
const fn is_turn(place: u64, turns: u64, epoch: u64, now: u64) -> bool {
    (now / TURN_S).wrapping_add(epoch) % turns == place % turns
}

/// Who can be drawn: the stakes noted at the announcement, or those of now.
fn stakes(state: &State, board: Option<&Board>) -> anyhow::Result<Operators> {
    let stakes: Vec<(Address, u128)> = match board {
        Some(board) => board.operators.iter().map(|(account, stake)| (*account, stake.0)).collect(),
        None => state.operators().map(|operator| (operator.account, operator.active.0)).collect(),
    };
    Operators::new(&stakes).context("stakes of operators")
}

/// What somebody else did before is done.
fn done<T>(what: &'static str, epoch: u64, sent: Result<T, ChainError>) -> anyhow::Result<()> {
    match sent {
        Ok(_) => tracing::info!(epoch, "{what}"),
        Err(error @ ChainError::Reverted { .. }) => tracing::debug!(epoch, %error, "somebody was faster, or it was too early"),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_keeps_others_waiting_is_asked_for_no_more_than_its_part_of_the_time() {
        let operators = Operators::new(&[]).unwrap();
        let (round, kept) =
            (Round::new(1, Address([1; 20]), Checks::default().rule(), Hash32([2; 32])), Kept::new(1, Address([1; 20]), Hash32::ZERO));
        let (roots, transcripts, waited) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut held = Held { round, beacon: None, kept, roots, transcripts, waited };
        let facts = |sealed_until| Facts {
            time: 1_000,
            accepts_until: 1_000,
            sealed_until,
            shown_until: 2 * sealed_until,
            is_ripe: Some(true),
            beacon: None,
            nodes: &[],
            operators: &operators,
            said: None,
        };
        let slow = Address([9; 20]);
        assert!(!held.is_slow(slow, &facts(29_800)));
        held.waited.insert(slow, Duration::from_secs(1_799));
        assert!(!held.is_slow(slow, &facts(29_800)) && held.is_slow(slow, &facts(15_400)));
        held.waited.insert(slow, Duration::from_secs(1_800));
        assert!(held.is_slow(slow, &facts(29_800)) && !held.is_slow(Address([8; 20]), &facts(29_800)));
        held.waited.insert(slow, WAITED_MIN - Duration::from_secs(1));
        assert!(!held.is_slow(slow, &facts(1_010)), "where epochs are short a bad line is no fault");
    }

    #[test]
    fn operators_take_turns_and_one_that_checks_alone_waits_a_few_seconds_at_most() {
        for turns in 1..=TURNS_MAX {
            for place in 0..9 {
                let mine = (100..100 + turns * TURN_S).filter(|now| is_turn(place, turns, 7, *now)).count();
                assert_eq!(u64::try_from(mine).unwrap(), TURN_S, "{place} of {turns}");
            }
            let at_once = (0..turns).filter(|place| is_turn(*place, turns, 7, 101)).count();
            assert_eq!(at_once, 1, "of so many, one");
        }
    }
}
