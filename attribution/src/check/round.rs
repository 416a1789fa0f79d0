//! A checker's round: an epoch's checks from the beacon to what is shown, as a state machine without clock, chain or network.
//!
//! *Flow.* [`Round::steps`] is told what the chain says ([`Facts`]) and says what is to be done now: announce or store the beacon when nobody has, fetch a node's receipts,
//! check one that this checker was drawn for, seal, show. Whoever carries it out tells what came of it ([`Round::fetched`], [`Round::unreachable`], [`Round::checked`]) and asks again. Steps
//! that failed come again by themselves. What is sealed never changes after it was said once, or nothing could be shown under it.
//!
//! *Time* is the chain's. Epoch times, as Settlement and `CheckBoard` have them: node roots until a third of W1 is over, beacon and seals in the second, showing in the last.
//! What is not looked at when a quarter of the second third is left is sealed as [`Outcome::Unable`]: late checks must not cost all others.
//!
//! *Bounds.* [`NODES_MAX`] roots, [`CHECKS_MAX`] checks (120 bytes each; a rate of 2 % of 65,536 receipts a root is 200 roots' worth shared by their checkers). What a round
//! leaves out is counted.

use std::collections::BTreeMap;

use serde::Serialize;
use types::{
    id::{Address, Hash32},
    merkle::keccak,
};

use super::{Check, Draw, DrawRule, Operators, Outcome, Stacked, draw};

/// Node roots that one round looks at.
pub const NODES_MAX: usize = 4_096;
/// Checks of one round.
pub const CHECKS_MAX: usize = 4_096;
/// Part of the time for seals that is kept for sealing.
const CLOSING: u64 = 4;
const SALT: &[u8] = b"tributary/check-salt/v1";

/// What the chain says of an epoch now. Times are seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Now.
    pub time: u64,
    /// Until when node roots are accepted.
    pub accepts_until: u64,
    /// Until when checks are sealed.
    pub sealed_until: u64,
    /// Until when they are shown: the end of W1.
    pub shown_until: u64,
    /// Whether the L1 has come to the block from which on the beacon may be stored; nothing if it was not announced.
    pub is_ripe: Option<bool>,
    /// The beacon, once stored.
    pub beacon: Option<Hash32>,
    /// Nodes with receipts under a root of the epoch.
    pub nodes: &'a [Address],
    /// Who can be drawn: stakes at the announcement; before it, stakes now.
    pub operators: &'a Operators,
    /// The root that this checker sealed, and whether it showed one.
    pub said: Option<(Hash32, bool)>,
}

/// Where an epoch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Node roots are accepted.
    Roots,
    /// Checks are made and sealed.
    Sealing,
    /// What was sealed is shown.
    Showing,
    /// W1 is over.
    Over,
}

impl Facts<'_> {
    /// Where the epoch stands.
    pub const fn phase(&self) -> Phase {
        if self.time < self.accepts_until {
            Phase::Roots
        } else if self.time < self.sealed_until {
            Phase::Sealing
        } else if self.time < self.shown_until {
            Phase::Showing
        } else {
            Phase::Over
        }
    }

    /// From when on no further check is waited for.
    pub const fn closing_from(&self) -> u64 {
        self.sealed_until.saturating_sub(self.sealed_until.saturating_sub(self.accepts_until) / CLOSING)
    }

    const fn is_closing(&self) -> bool {
        self.time >= self.closing_from()
    }
}

/// A receipt that this checker was drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Drawn {
    /// Who answered.
    pub node: Address,
    /// Place under its root.
    pub index: u64,
    /// keccak of the receipt body.
    pub receipt: Hash32,
}

/// Something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Announce the beacon.
    Announce,
    /// Store the beacon.
    Store,
    /// Fetch the receipts under a node's root.
    Fetch(Address),
    /// Check a receipt.
    Check(Drawn),
    /// Put the root over so many checks on the board.
    Seal {
        /// The root.
        root: Hash32,
        /// Checks under it.
        count: u64,
    },
    /// Show what was sealed.
    Show(Hash32),
}

/// What came of fetching a node's receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Read {
    /// Receipts under its root; none if they did not come.
    pub receipts: Option<u64>,
    /// Of these, drawn for anybody.
    pub drawn: u64,
    /// Of these, too few could have been drawn for.
    pub unchecked: u64,
}

/// A checker's round.
#[derive(Debug, Clone)]
pub struct Round {
    epoch: u64,
    checker: Address,
    rule: DrawRule,
    secret: Hash32,
    read: BTreeMap<Address, Read>,
    drawn: BTreeMap<Drawn, Option<Outcome>>,
    left_out: u64,
    sealed: Option<Stacked>,
}

impl Round {
    /// A round of `checker`; `secret` salts what it seals and must not be guessed.
    pub const fn new(epoch: u64, checker: Address, rule: DrawRule, secret: Hash32) -> Self {
        Self { epoch, checker, rule, secret, read: BTreeMap::new(), drawn: BTreeMap::new(), left_out: 0, sealed: None }
    }

    /// A round that was sealed, perhaps, before a restart: these checks and no others can be shown.
    pub fn resumed(epoch: u64, checker: Address, rule: DrawRule, checks: Vec<Check>) -> Self {
        let drawn = |check: &Check| Drawn { node: check.node, index: check.index, receipt: check.receipt };
        let drawn = checks.iter().map(|check| (drawn(check), Some(check.outcome))).collect();
        let sealed = Some(Stacked::new(checks));
        Self { drawn, sealed, ..Self::new(epoch, checker, rule, Hash32::ZERO) }
    }

    /// The epoch.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What is to be done now: nothing while nobody could be checked by anybody, or only time or others can bring the round on.
    pub fn steps(&mut self, facts: &Facts<'_>) -> Vec<Step> {
        match facts.phase() {
            Phase::Roots | Phase::Over => Vec::new(),
            Phase::Sealing => self.sealing(facts),
            Phase::Showing => self.showing(facts),
        }
    }

    fn sealing(&mut self, facts: &Facts<'_>) -> Vec<Step> {
        if facts.nodes.is_empty() || facts.operators.len() < self.rule.eligible_min.max(1) || !facts.operators.contains(self.checker) {
            return Vec::new();
        }
        match (facts.beacon, facts.is_ripe) {
            (Some(_), _) => {}
            (None, None) => return vec![Step::Announce],
            (None, Some(true)) => return vec![Step::Store],
            (None, Some(false)) => return Vec::new(),
        }
        if facts.said.is_some() {
            return Vec::new();
        }
        let mut steps = Vec::new();
        if self.sealed.is_none() {
            let others = facts.nodes.iter().filter(|node| **node != self.checker).take(NODES_MAX);
            steps.extend(others.filter(|node| !self.read.contains_key(node)).map(|node| Step::Fetch(*node)));
            steps.extend(self.drawn.iter().filter(|(_, outcome)| outcome.is_none()).map(|(drawn, _)| Step::Check(*drawn)));
            if !steps.is_empty() && !facts.is_closing() {
                return steps;
            }
            steps.clear();
            self.seal();
        }
        if let Some(stacked) = self.sealed.as_ref().filter(|stacked| !stacked.checks().is_empty()) {
            steps.push(Step::Seal { root: stacked.sealed(), count: as_u64(stacked.checks().len()) });
        }
        steps
    }

    fn showing(&self, facts: &Facts<'_>) -> Vec<Step> {
        let own = self.sealed.as_ref().filter(|stacked| facts.said == Some((stacked.sealed(), false)));
        own.map(|stacked| Step::Show(stacked.shown())).into_iter().collect()
    }

    /// Takes the hashes of all receipts under a node's root, in their order, and draws; how many of them this checker has to check.
    pub fn fetched(&mut self, node: Address, receipts: &[Hash32], beacon: Hash32, operators: &Operators) -> u64 {
        if self.sealed.is_some() || self.read.contains_key(&node) || self.read.len() >= NODES_MAX || node == self.checker {
            return 0;
        }
        let (mut read, mut own) = (Read { receipts: Some(as_u64(receipts.len())), ..Read::default() }, 0);
        for (index, receipt) in (0..).zip(receipts) {
            match draw(beacon, self.epoch, *receipt, self.rule, operators, node) {
                Draw::NotDrawn => {}
                Draw::Unchecked => read.unchecked += 1,
                Draw::Checkers(checkers) => {
                    read.drawn += 1;
                    if !checkers.contains(&self.checker) {
                        continue;
                    }
                    if self.drawn.len() >= CHECKS_MAX {
                        self.left_out += 1;
                        continue;
                    }
                    own += 1;
                    self.drawn.insert(Drawn { node, index, receipt: *receipt }, None);
                }
            }
        }
        self.read.insert(node, read);
        own
    }

    /// Notes that a node's receipts cannot be had. What is withheld is asked for on the chain (F8), not here.
    pub fn unreachable(&mut self, node: Address) {
        if self.sealed.is_none() && self.read.len() < NODES_MAX {
            self.read.entry(node).or_default();
        }
    }

    /// Takes what came of a check; the first word of it counts.
    pub fn checked(&mut self, drawn: &Drawn, outcome: Outcome) {
        if self.sealed.is_none()
            && let Some(open) = self.drawn.get_mut(drawn)
        {
            open.get_or_insert(outcome);
        }
    }

    fn seal(&mut self) {
        let check = |(drawn, outcome): (&Drawn, &Option<Outcome>)| Check {
            epoch: self.epoch,
            checker: self.checker,
            node: drawn.node,
            index: drawn.index,
            receipt: drawn.receipt,
            outcome: outcome.unwrap_or(Outcome::Unable),
            salt: keccak(&[SALT, &self.secret.0, &drawn.receipt.0]),
        };
        self.sealed = Some(Stacked::new(self.drawn.iter().map(check).collect()));
    }

    /// What was sealed, from when on nothing of it changes: keep it before it is told, or it cannot be shown after a restart.
    pub const fn sealed(&self) -> Option<&Stacked> {
        self.sealed.as_ref()
    }

    /// What came of each node's root.
    pub const fn read(&self) -> &BTreeMap<Address, Read> {
        &self.read
    }

    /// What this checker was drawn for, and what came of it so far.
    pub const fn drawn(&self) -> &BTreeMap<Drawn, Option<Outcome>> {
        &self.drawn
    }

    /// Receipts that it was drawn for beyond [`CHECKS_MAX`].
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits 64 bits")
}

#[cfg(test)]
mod tests;
