//! One object as repair watches it: who holds it, what is damaged, what was lost and when, and what this node does about it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::OnceLock,
};

use types::{
    id::{Address, Hash32},
    time::Time,
};

use super::{Config, Health, Output, Standing, coordinators, health::WINDOW};
use crate::proto::placement::{Assignment, Move, Site};

#[derive(Debug)]
pub(super) struct Object {
    pub(super) assignment: Assignment,
    /// Its coordinators of this epoch: drawn among its holders at the epoch's begin, so that what moves within the epoch changes nobody's turn and
    /// everyone can tell afterwards whose it was. Computed when somebody asks, or before the holders change: an epoch in which nothing is lost costs
    /// no hash.
    pub(super) elected: OnceLock<Vec<Address>>,
    pub(super) fragment_bytes: u64,
    /// Fragments whose holder answers and does not have them.
    pub(super) damaged: BTreeSet<u8>,
    /// When fragments were found lost, newest last; at most two for each fragment are kept.
    pub(super) losses: VecDeque<Time>,
    /// Fragments counted in `losses`.
    pub(super) counted: BTreeSet<u8>,
    /// Since when it is to be mended; stays until all fragments are there.
    pub(super) due: Option<Time>,
    /// Last announcement of another.
    pub(super) heard: Option<Time>,
    /// What this node does about it.
    pub(super) work: Option<UnderWay>,
    pub(super) rests_until: Time,
    pub(super) is_stuck: bool,
    /// What is to be looked at whatever its holders do: it is new, or was changed.
    pub(super) is_fresh: bool,
    /// When time alone makes a holder that is away a lost one.
    pub(super) changes_at: Option<Time>,
}

#[derive(Debug)]
pub(super) struct UnderWay {
    /// Whether it is a coordinator's, not a holder's for its own fragment.
    pub(super) is_turn: bool,
    pub(super) moves: Vec<Move>,
    pub(super) targets: BTreeSet<u8>,
    pub(super) until: Time,
    pub(super) announced: Time,
}

impl Object {
    pub(super) fn elected(&self, seed: Hash32) -> &[Address] {
        self.elected.get_or_init(|| elect(seed, &self.assignment))
    }

    /// Takes in a move; who coordinates this epoch is settled before.
    pub(super) fn apply(&mut self, seed: Hash32, step: Move) -> bool {
        self.elected(seed);
        self.is_fresh = true;
        self.assignment.apply(step)
    }

    /// Whether a look could find something else than the one before: what is under way, due or damaged always may.
    pub(super) fn may_differ(&self, now: Time, changed: &BTreeSet<Address>) -> bool {
        let is_open = self.is_fresh || self.due.is_some() || self.work.is_some() || !self.damaged.is_empty();
        is_open
            || self.changes_at.is_some_and(|at| at <= now)
            || !changed.is_empty() && self.assignment.holders().any(|(_, holder)| changed.contains(&holder))
    }

    /// Notes new losses and whether the object is to be mended.
    pub(super) fn count(&mut self, now: Time, health: &Health) {
        for (fragment, (_, standing)) in &health.fragments {
            match standing {
                Standing::Lost => {
                    if self.counted.insert(*fragment) {
                        self.losses.push_back(now);
                    }
                }
                Standing::Held => drop(self.counted.remove(fragment)),
                Standing::Away => {}
            }
        }
        let most = 2 * health.fragments.len();
        while self.losses.len() > most || self.losses.front().is_some_and(|at| now.since(*at) > WINDOW) {
            self.losses.pop_front();
        }
        if health.left() == health.fragments.len() {
            self.due = None;
        } else if health.is_due() {
            self.due.get_or_insert(now);
        }
    }

    /// Gives up work that takes too long, tells the others of work that goes on.
    pub(super) fn carry_on(&mut self, now: Time, config: &Config) -> Option<Output> {
        let work = self.work.as_mut()?;
        if work.until <= now {
            self.rests_until = now.after(config.rest(work.is_turn));
            self.work = None;
            return None;
        }
        // Thrice within the patience of a backup, so that one lost announcement wakes nobody.
        let is_time = now.since(work.announced) >= config.takeover_after / 3;
        is_time.then(|| {
            work.announced = now;
            Output::Announce { object: self.assignment.object() }
        })
    }

    /// This node's own damaged fragments.
    pub(super) fn own_damaged(&self, me: Address) -> Vec<(u8, Address)> {
        self.assignment.holders().filter(|(fragment, holder)| *holder == me && self.damaged.contains(fragment)).collect()
    }

    /// Fragments to rebuild with their holders, and the moves among them. A damaged fragment stays, if its holder may take it, goes if that says it has no
    /// room, and waits while it refuses without saying so.
    pub(super) fn targets(
        &self,
        health: &Health,
        sites: &BTreeMap<Address, Site>,
        unfit: &BTreeSet<Address>,
        full: &BTreeSet<Address>,
    ) -> (Vec<(u8, Address)>, Vec<Move>) {
        let (mut targets, mut goes) = (BTreeMap::new(), BTreeSet::new());
        for (fragment, (holder, _)) in health.fragments.iter().filter(|(_, (_, standing))| *standing == Standing::Lost) {
            let is_damaged = self.damaged.contains(fragment);
            if is_damaged && full.contains(holder) {
                continue;
            }
            if is_damaged && !unfit.contains(holder) {
                targets.insert(*fragment, *holder);
            } else {
                goes.insert(*fragment);
            }
        }
        let moves = self.assignment.plan(&goes, sites, unfit);
        targets.extend(moves.iter().map(|step| (step.fragment, step.to)));
        (targets.into_iter().collect(), moves)
    }
}

fn elect(seed: Hash32, assignment: &Assignment) -> Vec<Address> {
    coordinators(seed, assignment.object(), assignment.holders().map(|(_, holder)| holder))
}
