//! Repair: what is under-replicated, who mends it, when, and with which bytes.
//!
//! Goals: every object with fewer fragments left than its [`floor`] is brought back to all of them; nothing is rebuilt because a holder is merely
//! away; no loss is mended more often than [`COORDINATORS`] times in an epoch, and once where the network is whole; the link is kept free for
//! others. Non-goals: carrying bytes (the shell fetches, computes and puts), finding out who is alive, signatures.
//!
//! Flow. Each operator runs one [`Repair`] over the objects of which it holds a fragment. The shell tells who is online ([`Input::Seen`]), who left for
//! good ([`Input::Gone`]), what is damaged, what others announced, and ticks. An object that falls below its floor is *due*; its coordinators of
//! the epoch are known to all holders, drawn among those of its first moment ([`coordinators`]). The first starts at once: [`Output::Announce`] to the holders, [`Output::Rebuild`] to its own
//! shell, and [`Output::Moved`] when fragments stand with their new holders. Each backup waits [`Config::takeover_after`] longer than the one before
//! without hearing of progress. What was lost meanwhile is the next round's: an object once due is mended until all fragments are there.
//!
//! *Offline is not lost.* A holder that is away keeps its fragments for [`Config::lost_after`], and longer while this node sees fewer than half of the
//! operators, since then it is probably this node that is cut off: in a partition of 40/60 the smaller side mends nothing. After
//! [`Config::lost_anyway_after`] it counts as lost even so, or the loss of more than half of the network would never be mended.
//!
//! *Bound on double repair.* Only the three coordinators of an epoch act, each on one piece of work per object at a time, and no two sides of a network both see a
//! majority, so beyond the bound of three the usual number is one. Copies that were made twice are told apart by generation and rank
//! ([`super::placement::Assignment`]); the surplus is the shell's to drop.
//!
//! *Cost.* 64 MiB at 16/48 that fell to 31: 16 reads of 4 MiB (15, the coordinator has one) and 17 writes, 128 MiB in all; at the default 8 MiB/s it
//! takes 16 s, and one node mends 225 such objects an hour. With 90 days of life an object falls from 48 to 31 in 38 days, so 5,000 objects per node
//! (20 GiB of fragments) are due 130 times a day among 48 holders each: under three a day per node, 0.004 of the budget. A tick looks at the objects of
//! which something may have changed since the last one: those of a holder that came or went, those that wait, and those that are due.
//!
//! Storj mends lazily from one satellite; here the election makes any holder able to. Rendezvous as in placement.

pub mod budget;
mod config;
mod crowd;
pub mod health;
mod object;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, OnceLock},
    time::Duration,
};

use types::{
    id::{Address, BlobId, Hash32},
    time::Time,
};

use self::{
    budget::Budget,
    crowd::{Crowd, Presence},
    health::time_left,
    object::{Object, UnderWay},
};
pub use self::{
    config::Config,
    health::{COORDINATORS, Health, Standing, coordinators, floor},
};
use super::placement::{Assignment, Move, Site};

/// Most objects watched: 5,000 are 20 GiB of fragments at 16/48; two hundred times that is more than a disk of today holds.
pub const OBJECTS_MAX: usize = 1 << 20;
/// Longest that an operator without room is left alone. 6 h: a disk is emptied or a larger one built in within hours, and an ad that says so is heard at once.
const FULL_REST_MAX: Duration = Duration::from_secs(6 * 3_600);

/// What happens to repair.
#[derive(Debug, Clone)]
pub enum Input {
    /// A new epoch with its seed: coordinators change.
    Epoch {
        /// Drawn after the epoch before ended.
        seed: Hash32,
    },
    /// Who is registered, and where.
    Operators {
        /// By account; shared, since a simulation tells thousands of nodes the same.
        sites: Arc<BTreeMap<Address, Site>>,
    },
    /// Watch an object, or watch it as it is assigned now.
    Watch {
        /// Its holders.
        assignment: Assignment,
        /// Bytes of each fragment.
        fragment_bytes: u64,
    },
    /// Watch it no longer: erased, or this node holds nothing of it.
    Forget {
        /// The object.
        object: BlobId,
    },
    /// An operator was heard, or its silence was noticed.
    Seen {
        /// Who.
        operator: Address,
        /// Whether it answers.
        is_online: bool,
    },
    /// An operator left for good: unregistered, slashed, or it said so.
    Gone {
        /// Who.
        operator: Address,
    },
    /// Operators that take no new fragments.
    Unfit {
        /// Those that are suspended or offer no storage: what is damaged on their disks goes to others.
        operators: BTreeSet<Address>,
        /// Those that say they have no room. What they hold stays theirs; what is damaged on their disks goes to others too, if the object is due.
        without_room: BTreeSet<Address>,
    },
    /// An operator refused a fragment for want of room. It is asked for nothing for twice [`Config::retry_after`], twice as long each time it refuses
    /// again, six hours at most, until it has taken something.
    Full {
        /// Who.
        operator: Address,
    },
    /// A holder that answers does not have the fragment it should: it said so, or an audit failed.
    Damaged {
        /// The object.
        object: BlobId,
        /// Which fragment.
        fragment: u8,
    },
    /// A holder that was thought not to have its fragment was asked for it, and every byte that came is what the manifest names.
    Shown {
        /// The object.
        object: BlobId,
        /// Which fragment.
        fragment: u8,
        /// Who showed it: it counts only while that is its holder.
        by: Address,
    },
    /// Somebody else mends this object.
    Announced {
        /// The object.
        object: BlobId,
        /// Who; only its coordinators of the epoch count.
        by: Address,
    },
    /// Somebody else moved a fragment; the shell checked that he may and that the bytes are there.
    Moved(Move),
    /// The work on an object ended.
    Done {
        /// The object.
        object: BlobId,
        /// Fragments that stand with their holders.
        stored: BTreeSet<u8>,
    },
    /// Time passed; due at [`Repair::deadline`].
    Tick,
}

/// How lost fragments are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `erasure::rebuild` of the one lost fragment: one row of the code, k fragments in, one out, nothing else in memory.
    Single,
    /// The object is decoded, hashed against its manifest and encoded again. The products over GF(2^8) are as many per fragment as for a row, but
    /// the matrix is inverted once, and a false manifest is found before it is spread further.
    Decode,
}

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The object.
    pub object: BlobId,
    /// How.
    pub method: Method,
    /// All fragments that can be read and their holders; any k of them suffice. This node's own comes first, it costs nothing.
    pub sources: Vec<(u8, Address)>,
    /// Fragments to rebuild and where each goes. A damaged one stays with its holder, unless that is suspended, says it has no room, or does not answer.
    pub targets: Vec<(u8, Address)>,
}

/// What the caller must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Tell the object's holders that this node mends it.
    Announce {
        /// The object.
        object: BlobId,
    },
    /// Do it, and report [`Input::Done`].
    Rebuild(Work),
    /// A fragment stands with a new holder: sign, record, tell the holders.
    Moved(Move),
    /// An object that is due cannot be mended now: fewer than k fragments answer. Told once until that changes.
    Stuck {
        /// The object.
        object: BlobId,
        /// Fragments that answer.
        held: usize,
        /// Fragments that suffice.
        needed: usize,
    },
}

/// Repair, as one operator does it.
#[derive(Debug)]
pub struct Repair {
    me: Address,
    config: Config,
    seed: Hash32,
    epoch_began: Time,
    crowd: Crowd,
    /// What the last look went by.
    saw_majority: Option<bool>,
    unfit: BTreeSet<Address>,
    without_room: BTreeSet<Address>,
    /// Operators that had no room: how often in a row, and until when they are left alone.
    full: BTreeMap<Address, (u32, Time)>,
    objects: BTreeMap<BlobId, Object>,
    budget: Budget,
    looked: Option<Time>,
}

impl Repair {
    /// Repair by operator `me`, which has heard of nobody yet: everyone is away since now.
    pub fn new(me: Address, config: Config, now: Time) -> Self {
        let budget = Budget::new(config.bytes_per_s, config.burst_bytes, now);
        Self {
            me,
            config,
            seed: Hash32::ZERO,
            epoch_began: now,
            crowd: Crowd::new(me, now),
            saw_majority: None,
            unfit: BTreeSet::new(),
            without_room: BTreeSet::new(),
            full: BTreeMap::new(),
            objects: BTreeMap::new(),
            budget,
            looked: None,
        }
    }

    /// When the next [`Input::Tick`] is due.
    pub fn deadline(&self) -> Time {
        self.looked.map_or_else(|| self.crowd.began(), |looked| looked.after(self.config.look_every))
    }

    /// How an object stands by what this node knows; nothing if it is not watched.
    pub fn health(&self, now: Time, object: BlobId) -> Option<Health> {
        let majority = self.crowd.sees_majority();
        self.objects.get(&object).map(|object| self.stand(now, majority, object).0)
    }

    /// The coordinators of an object in this epoch, in the order of their turns; none if it is not watched.
    pub fn coordinators(&self, object: BlobId) -> &[Address] {
        self.objects.get(&object).map_or(&[][..], |object| object.elected(self.seed))
    }

    /// Whether an object fell below its floor and is not whole since.
    pub fn is_due(&self, object: BlobId) -> bool {
        self.objects.get(&object).is_some_and(|object| object.due.is_some())
    }

    /// Whether this node mends an object now.
    pub fn is_mending(&self, object: BlobId) -> bool {
        self.objects.get(&object).is_some_and(|object| object.work.is_some())
    }

    /// Fragments of an object whose holders answer and are thought not to have them.
    pub fn damaged(&self, object: BlobId) -> BTreeSet<u8> {
        self.objects.get(&object).map_or_else(BTreeSet::new, |object| object.damaged.clone())
    }

    /// The objects watched.
    pub fn objects(&self) -> impl Iterator<Item = BlobId> + '_ {
        self.objects.keys().copied()
    }

    /// The holders of an object; nothing if it is not watched.
    pub fn assignment(&self, object: BlobId) -> Option<&Assignment> {
        self.objects.get(&object).map(|object| &object.assignment)
    }

    /// Takes one input; the outputs are to be carried out in order.
    pub fn handle(&mut self, now: Time, input: Input) -> Vec<Output> {
        match input {
            Input::Epoch { seed } => {
                (self.seed, self.epoch_began) = (seed, now);
                self.objects.values_mut().for_each(|object| object.elected = OnceLock::new());
            }
            Input::Operators { sites } => {
                self.full.retain(|operator, _| sites.contains_key(operator));
                self.crowd.register(now, sites, self.config.lost_anyway_after);
            }
            Input::Watch { assignment, fragment_bytes } => self.watch(assignment, fragment_bytes),
            Input::Forget { object } => drop(self.objects.remove(&object)),
            Input::Seen { operator, is_online } => self.crowd.seen(now, operator, is_online),
            Input::Gone { operator } => self.crowd.set(operator, Presence::Gone),
            Input::Unfit { operators, without_room } => (self.unfit, self.without_room) = (operators, without_room),
            Input::Full { operator } => self.refused(now, operator),
            Input::Damaged { object, fragment } => {
                if let Some(object) = self.objects.get_mut(&object).filter(|object| object.assignment.holder(fragment).is_some()) {
                    object.damaged.insert(fragment);
                    object.is_fresh = true;
                }
            }
            Input::Shown { object, fragment, by } => self.shown(object, fragment, by),
            Input::Announced { object, by } => self.announced(now, object, by),
            Input::Moved(step) => self.moved(step),
            Input::Done { object, stored } => return self.done(now, object, &stored),
            Input::Tick => return self.look(now),
        }
        Vec::new()
    }

    fn watch(&mut self, assignment: Assignment, fragment_bytes: u64) {
        let object = assignment.object();
        if let Some(known) = self.objects.get_mut(&object) {
            known.elected(self.seed);
            (known.assignment, known.fragment_bytes, known.is_fresh) = (assignment, fragment_bytes, true);
        } else if self.objects.len() < OBJECTS_MAX {
            let fresh = Object {
                elected: OnceLock::new(),
                assignment,
                fragment_bytes,
                damaged: BTreeSet::new(),
                losses: VecDeque::new(),
                counted: BTreeSet::new(),
                due: None,
                heard: None,
                work: None,
                rests_until: Time(0),
                is_stuck: false,
                is_fresh: true,
                changes_at: None,
            };
            self.objects.insert(object, fresh);
        }
    }

    fn refused(&mut self, now: Time, operator: Address) {
        let times = self.full.get(&operator).map_or(1, |(times, _)| times.saturating_add(1));
        let rest = self.config.retry_after.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(FULL_REST_MAX);
        self.full.insert(operator, (times, now.after(rest)));
    }

    fn shown(&mut self, object: BlobId, fragment: u8, by: Address) {
        let Some(object) = self.objects.get_mut(&object).filter(|object| object.assignment.holder(fragment) == Some(by)) else { return };
        if object.damaged.remove(&fragment) {
            object.counted.remove(&fragment);
            object.is_fresh = true;
        }
    }

    fn announced(&mut self, now: Time, object: BlobId, by: Address) {
        let Some(known) = self.objects.get_mut(&object) else { return };
        if by != self.me && known.elected(self.seed).contains(&by) {
            known.heard = Some(now);
        }
    }

    fn moved(&mut self, step: Move) {
        let Some(object) = self.objects.get_mut(&step.object) else { return };
        if object.apply(self.seed, step) {
            object.damaged.remove(&step.fragment);
            object.counted.remove(&step.fragment);
        }
    }

    fn done(&mut self, now: Time, object: BlobId, stored: &BTreeSet<u8>) -> Vec<Output> {
        let Some(known) = self.objects.get_mut(&object) else { return Vec::new() };
        let Some(work) = known.work.take() else { return Vec::new() };
        known.is_fresh = true;
        let moves = work.moves.iter().map(|step| (step.fragment, step.to)).collect::<BTreeMap<_, _>>();
        let holder = |known: &Object, fragment: u8| moves.get(&fragment).copied().or_else(|| known.assignment.holder(fragment));
        if !work.targets.is_subset(stored) {
            // Who had no room is asked no more, so the next time others are: that was not in vain.
            let had_room =
                |fragment: &u8| holder(known, *fragment).and_then(|holder| self.full.get(&holder)).is_none_or(|(_, until)| *until <= now);
            let is_in_vain = stored.is_empty() && work.targets.iter().all(had_room);
            known.rests_until = now.after(self.config.rest(work.is_turn && is_in_vain));
        }
        let mut outputs = Vec::new();
        for fragment in work.targets.intersection(stored) {
            known.damaged.remove(fragment);
            known.counted.remove(fragment);
            if let Some(holder) = holder(known, *fragment) {
                self.full.remove(&holder);
            }
        }
        for step in work.moves.into_iter().filter(|step| stored.contains(&step.fragment)) {
            // Somebody else may have moved it meanwhile; then the better of both stands, and all are told of both.
            known.apply(self.seed, step);
            outputs.push(Output::Moved(step));
        }
        outputs
    }

    /// How a fragment stands, and when time alone changes that.
    fn standing(&self, now: Time, majority: bool, holder: Address, is_damaged: bool) -> (Standing, Option<Time>) {
        let Config { lost_after, lost_anyway_after, .. } = self.config;
        let since = match self.crowd.get(holder) {
            _ if is_damaged => return (Standing::Lost, None),
            Some(Presence::Online) => return (Standing::Held, None),
            Some(Presence::Gone) => return (Standing::Lost, None),
            Some(Presence::Offline { since }) => since,
            None => self.crowd.began(),
        };
        let patience = if majority { lost_after.min(lost_anyway_after) } else { lost_anyway_after };
        if now.since(since) >= patience { (Standing::Lost, None) } else { (Standing::Away, Some(since.after(patience))) }
    }

    /// How an object stands, and when time alone changes that.
    fn stand(&self, now: Time, majority: bool, object: &Object) -> (Health, Option<Time>) {
        let (mut fragments, mut changes_at) = (BTreeMap::new(), None::<Time>);
        for (fragment, holder) in object.assignment.holders() {
            let (standing, changes) = self.standing(now, majority, holder, object.damaged.contains(&fragment));
            changes_at = changes_at.into_iter().chain(changes).min();
            fragments.insert(fragment, (holder, standing));
        }
        (Health { profile: object.assignment.profile(), fragments }, changes_at)
    }

    /// Looks at every object of which something may have changed, counts losses, and starts what is most urgent as far as links and memory allow.
    fn look(&mut self, now: Time) -> Vec<Output> {
        self.looked = Some(now);
        let (majority, changed) = (self.crowd.sees_majority(), self.crowd.take_changed());
        let is_new = self.saw_majority.replace(majority) != Some(majority);
        let may_differ = |(_, object): &(&BlobId, &Object)| is_new || object.may_differ(now, &changed);
        let stand = |(id, object): (&BlobId, &Object)| (*id, self.stand(now, majority, object));
        let seen: Vec<_> = self.objects.iter().filter(may_differ).map(stand).collect();
        let (mut healths, mut outputs) = (BTreeMap::new(), Vec::new());
        for (id, (health, changes_at)) in seen {
            let object = self.objects.get_mut(&id).expect("healths are those of the objects");
            (object.is_fresh, object.changes_at) = (false, changes_at);
            object.count(now, &health);
            outputs.extend(object.carry_on(now, &self.config));
            healths.insert(id, health);
        }
        let mut ready: Vec<_> = healths.iter().filter_map(|(id, health)| self.may_start(now, *id, health)).collect();
        ready.sort_unstable();
        for (_, id, is_turn) in ready {
            outputs.extend(self.start(now, id, &healths[&id], is_turn));
        }
        outputs
    }

    /// Urgency, object, and whether this node mends all of it or only its own damaged fragment; nothing if neither.
    fn may_start(&self, now: Time, id: BlobId, health: &Health) -> Option<(Duration, BlobId, bool)> {
        let object = &self.objects[&id];
        if object.work.is_some() || object.rests_until > now {
            return None;
        }
        let is_turn = object.due.is_some_and(|due| {
            let Some(place) = object.elected(self.seed).iter().position(|operator| *operator == self.me) else { return false };
            let place = u32::try_from(place).expect("coordinators are few");
            let since = due.max(self.epoch_began).after(self.config.takeover_after * place);
            let free = object.heard.map_or(Time(0), |heard| heard.after(self.config.takeover_after * place.max(1)));
            now >= since.max(free)
        });
        // A holder mends its own damaged fragment without being elected: nobody else would, and the fragment stays where it is.
        let is_own_damaged =
            !self.is_full(now, self.me) && object.damaged.iter().any(|fragment| object.assignment.holder(*fragment) == Some(self.me));
        (is_turn || is_own_damaged).then(|| (time_left(health.profile, health.left(), object.losses.len()), id, is_turn))
    }

    fn start(&mut self, now: Time, id: BlobId, health: &Health, is_turn: bool) -> Vec<Output> {
        let needed = usize::from(health.profile.data());
        let under_way = self.objects.values().filter(|object| object.work.is_some()).count();
        let (unfit, full) = (self.unfit_now(now), self.full_now(now));
        let object = self.objects.get_mut(&id).expect("only objects that are watched are started");
        if !health.is_readable() {
            let is_new = !std::mem::replace(&mut object.is_stuck, true);
            return is_new.then_some(Output::Stuck { object: id, held: health.held(), needed }).into_iter().collect();
        }
        object.is_stuck = false;
        if under_way >= self.config.at_once {
            return Vec::new();
        }
        let (targets, moves) =
            if is_turn { object.targets(health, self.crowd.sites(), &unfit, &full) } else { (object.own_damaged(self.me), Vec::new()) };
        let is_held = |(_, (_, standing)): &(&u8, &(Address, Standing))| *standing == Standing::Held;
        let held = health.fragments.iter().filter(is_held).map(|(fragment, (holder, _))| (*fragment, *holder));
        let mut sources: Vec<_> = held.collect();
        // A stable sort: own first, then in order.
        sources.sort_by_key(|(_, holder)| *holder != self.me);
        let own = |list: &[(u8, Address)]| list.iter().filter(|(_, holder)| *holder == self.me).count();
        let pieces = needed - own(&sources).min(1) + targets.len() - own(&targets);
        let cost = object.fragment_bytes.saturating_mul(u64::try_from(pieces).expect("fragments are few"));
        if targets.is_empty() || !self.budget.spend(now, cost) {
            return Vec::new();
        }
        let method = if targets.len() == 1 { Method::Single } else { Method::Decode };
        let until = now.after(self.config.work_timeout);
        object.work =
            Some(UnderWay { is_turn, moves, targets: targets.iter().map(|(fragment, _)| *fragment).collect(), until, announced: now });
        let rebuild = Output::Rebuild(Work { object: id, method, sources, targets });
        // Who mends its own fragment alone keeps no coordinator waiting.
        is_turn.then_some(Output::Announce { object: id }).into_iter().chain([rebuild]).collect()
    }

    /// Who takes no fragment now: who was told unfit, who had no room lately, and who does not answer.
    fn unfit_now(&self, now: Time) -> BTreeSet<Address> {
        let full = self.full.keys().copied().filter(|operator| self.is_full(now, *operator));
        self.crowd.away().chain(self.unfit.iter().chain(&self.without_room).copied()).chain(full).collect()
    }

    /// Who answers, had no room when it was asked, and does not say so yet. A new holder takes no fragment of a holder that it hears and that says nothing of
    /// the kind, so theirs go to nobody else for now.
    fn full_now(&self, now: Time) -> BTreeSet<Address> {
        let is_heard = |operator: &Address| matches!(self.crowd.get(*operator), Some(Presence::Online)) && !self.unfit.contains(operator);
        let refused = self.full.keys().filter(|operator| self.is_full(now, **operator) && !self.without_room.contains(*operator));
        refused.copied().filter(is_heard).collect()
    }

    fn is_full(&self, now: Time, operator: Address) -> bool {
        self.full.get(&operator).is_some_and(|(_, until)| *until > now)
    }
}

#[cfg(test)]
mod tests;
