//! Where adapters are and where they should be: on the device, in memory, on disk, or with a peer.
//!
//! A tier holds what the tiers above it hold: what is on the device is in memory, what is in memory is on disk. Moves up are
//! asked of the shell ([`Action`]) and count against the tier's budget from then on, so no budget is ever exceeded, also while
//! bytes are under way. What moves, in order: what waiting jobs need, the first job's whole set before the next job's, so two
//! jobs never hold half a set each; then pinned adapters; then, one at a time, what is asked for often ([`Popularity`]).
//! What goes: neither held by a running job, nor needed by a waiting one, nor pinned, the least popular first.
//!
//! Cost: 300 bytes for an adapter and as much for its places in sorted views (`index`), [`KNOWN_MAX`] of them 2.5 MB. A decision looks at
//! what it moves and at the least popular beside it, never at all adapters.

mod index;
mod popularity;
mod room;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use types::time::Time;

use crate::step::Slot;

use index::{Entry, Known};
pub use popularity::{HALF_LIFE, Popularity};

/// Adapters known at a time; beyond, the least popular that nobody here has is forgotten.
pub const KNOWN_MAX: usize = 4_096;
/// After a failed move, how long an adapter is not tried again: a peer that fails does so for some time.
pub const RETRY_AFTER: Duration = Duration::from_secs(30);
/// Moves from a peer to disk at a time: more only share one line.
pub const FETCHES_MAX: usize = 2;
/// Moves from disk to memory at a time: a load is bound by one core.
pub const LOADS_MAX: usize = 2;
/// Uses within about a half-life that make an adapter worth loading before anybody asks.
pub const PREFETCH_USES: u64 = 2;
/// Adapters that were announced ([`Event::Wanted`]) and are not in memory yet; of more the oldest announcement is forgotten.
const EXPECTED_MAX: usize = 64;

/// An adapter, by the hash of its content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdapterId(pub [u8; 32]);

impl fmt::Debug for AdapterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AdapterId({})", hex::encode(&self.0[..4]))
    }
}

/// What each tier may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Places on the device.
    pub slots: u32,
    /// Bytes on the device.
    pub device_bytes: u64,
    /// Bytes in memory, packed.
    pub memory_bytes: u64,
    /// Bytes of files.
    pub disk_bytes: u64,
    /// Bytes one file may have; what a fetch counts for until its size is known.
    pub file_bytes_max: u64,
}

impl Default for Budget {
    /// 256 places and 1.3 GB in memory: 256 adapters of rank 16 on `SmolLM2`, 5 MB each as `i8`; the device is that memory. 10 GB of files of
    /// at most 512 MB.
    fn default() -> Self {
        Self {
            slots: 256,
            device_bytes: 1_300_000_000,
            memory_bytes: 1_300_000_000,
            disk_bytes: 10_000_000_000,
            file_bytes_max: 512_000_000,
        }
    }
}

/// Bytes of one adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Of its files.
    pub disk: u64,
    /// Packed, in memory and on the device.
    pub memory: u64,
}

/// Where an adapter is, at best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Not here.
    Network,
    /// In files.
    Disk,
    /// Packed, in memory.
    Memory,
    /// At a place of the device.
    Device(Slot),
}

/// What happened to an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Its files are here: fetched, imported, or found at the start.
    OnDisk(Sizes),
    /// It is packed in memory, as asked.
    Loaded,
    /// A fetch or load came to nothing.
    Failed,
    /// Its files are gone or turned out bad: forget them, unless a job uses what is in memory.
    Gone,
    /// It is not wanted here any more: it goes, at once or when the last accepted job that uses it is over. A load that is under way then comes
    /// to nothing and is not answered.
    Retired,
    /// A request for it is expected: get it into memory once nothing else has to move, and unless more popular ones would have to go.
    Wanted,
    /// Keep it in memory, or no longer ([`Residency::pin`]).
    Pinned(bool),
}

/// What the shell is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Get the files from a peer, at most so many bytes; answer with [`Event::OnDisk`] or [`Event::Failed`].
    Fetch {
        /// Which.
        id: AdapterId,
        /// More is a failure.
        bytes_max: u64,
    },
    /// Read and pack the files; answer with [`Event::Loaded`] or [`Event::Failed`].
    Load(AdapterId),
    /// Put it on the device, before the next step.
    Attach {
        /// Which.
        id: AdapterId,
        /// Where: the place is free.
        slot: Slot,
    },
    /// Take what is at this place off the device.
    Detach(Slot),
    /// Drop the packed form.
    Unload(AdapterId),
    /// Delete the files.
    Delete(AdapterId),
}

/// The decisions. Methods that decide leave [`Action`]s, in order, for [`Residency::actions`].
#[derive(Debug)]
pub struct Residency {
    budget: Budget,
    known: Known,
    free: Vec<Slot>,
    device_used: u64,
    memory_used: u64,
    disk_used: u64,
    fetches: usize,
    loads: usize,
    /// What waiting jobs need, in their order.
    needed: Vec<AdapterId>,
    /// What was announced, the oldest first.
    expected: VecDeque<AdapterId>,
    actions: VecDeque<Action>,
}

impl Residency {
    /// Nothing known yet.
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        let free = (0..budget.slots).rev().map(Slot).collect();
        Self {
            budget,
            known: Known::default(),
            free,
            device_used: 0,
            memory_used: 0,
            disk_used: 0,
            fetches: 0,
            loads: 0,
            needed: Vec::new(),
            expected: VecDeque::new(),
            actions: VecDeque::new(),
        }
    }

    /// What to do, oldest first.
    pub fn actions(&mut self) -> impl Iterator<Item = Action> + '_ {
        self.actions.drain(..)
    }

    /// Where it is.
    #[must_use]
    pub fn tier(&self, id: AdapterId) -> Tier {
        let Some(entry) = self.known.get(id) else { return Tier::Network };
        match (entry.slot, entry.in_memory, entry.sizes) {
            (Some(slot), _, _) => Tier::Device(slot),
            (None, true, _) => Tier::Memory,
            (None, false, Some(_)) => Tier::Disk,
            (None, false, None) => Tier::Network,
        }
    }

    /// Its bytes in memory; 0 while they are not known.
    #[must_use]
    pub fn memory_bytes(&self, id: AdapterId) -> u64 {
        self.known.get(id).map_or(0, Entry::memory)
    }

    /// Bytes on the device, in memory and on disk, moves included.
    #[must_use]
    pub fn used(&self) -> (u64, u64, u64) {
        (self.device_used, self.memory_used, self.disk_used)
    }

    /// Adapters that running jobs hold.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.known.iter().filter(|(_, entry)| entry.holders > 0).count()
    }

    /// How long an adapter that failed is not tried again.
    #[must_use]
    pub fn wait(&self, id: AdapterId, now: Time) -> Option<Duration> {
        wait_since(self.known.get(id)?.failed?, now)
    }

    /// Whether these can be on the device together, nothing else there but what is pinned; sizes not yet known count for nothing.
    #[must_use]
    pub fn fits(&self, set: &[(AdapterId, f32)]) -> bool {
        let (mut bytes, mut pinned, mut count) = (0u64, self.known.views().pinned_bytes, 0);
        for (at, (id, _)) in set.iter().enumerate() {
            if !set[..at].iter().any(|(before, _)| before == id) {
                bytes = bytes.saturating_add(self.memory_bytes(*id));
                count += 1;
                pinned -= self.known.get(*id).filter(|entry| entry.is_pinned).map_or(0, Entry::memory);
            }
        }
        bytes <= self.budget.device_bytes && bytes <= self.budget.memory_bytes.saturating_sub(pinned) && count <= self.budget.slots
    }

    /// Whether one of these rests below memory, untouched by a failure, although a move could start: there is no room for it until
    /// something held is released.
    #[must_use]
    pub fn lacks_room(&self, set: &[(AdapterId, f32)], now: Time) -> bool {
        set.iter().any(|(id, _)| {
            let rests = |entry: &Entry| {
                let has_lane = if entry.sizes.is_some() { self.loads < LOADS_MAX } else { self.fetches < FETCHES_MAX };
                !entry.in_memory && !entry.is_moving && has_lane
            };
            self.known.get(*id).is_some_and(rests) && self.wait(*id, now).is_none()
        })
    }

    /// Notes a use. False if no more adapters can be known: each of the many known ones has a file here or a job.
    pub fn want(&mut self, id: AdapterId, now: Time) -> bool {
        if !self.make_place(id, now) {
            return false;
        }
        self.known.change(id, |entry| entry.popularity.count(now));
        true
    }

    /// Notes an accepted job that uses these: none of them is forgotten, or goes because it is not wanted, before [`Residency::leave`].
    pub fn join(&mut self, set: &[(AdapterId, f32)]) {
        for (id, _) in set {
            self.known.add(*id);
            self.known.change(*id, |entry| entry.users += 1);
        }
    }

    /// Notes the end of a job that had joined, after [`Residency::release`] if it ran.
    pub fn leave(&mut self, set: &[(AdapterId, f32)]) {
        for (id, _) in set {
            self.entry(*id, |entry| {
                entry.users = entry.users.checked_sub(1).expect("joined before");
                // Who waited for it is among those that have left.
                entry.is_needed &= entry.users > 0;
            });
        }
        for (id, _) in set {
            if self.known.get(*id).is_some_and(|entry| entry.is_retired && entry.users == 0) {
                self.gone(*id);
            }
        }
    }

    /// Keeps an adapter in memory, or no longer. False if pinned adapters would take more than half of it, or its size is not known.
    pub fn pin(&mut self, id: AdapterId, is_pinned: bool, now: Time) -> bool {
        let Some(entry) = self.known.get(id) else { return !is_pinned };
        let others = self.known.views().pinned_bytes - if entry.is_pinned { entry.memory() } else { 0 };
        let half = self.budget.memory_bytes / 2;
        if is_pinned && (entry.sizes.is_none() || others.saturating_add(entry.memory()) > half) {
            return false;
        }
        self.entry(id, |entry| entry.is_pinned = is_pinned);
        self.pump(now);
        true
    }

    /// Says which sets waiting jobs need, the first first. As many from the front count as fit in memory beside what is held and
    /// pinned, the first always.
    pub fn need<'a>(&mut self, sets: impl Iterator<Item = &'a [(AdapterId, f32)]>, now: Time) {
        let mut needed = std::mem::take(&mut self.needed);
        for id in needed.drain(..) {
            self.known.change(id, |entry| entry.is_needed = false);
        }
        // The vector keeps its room.
        self.needed = needed;
        let mut room = self.budget.memory_bytes.saturating_sub(self.known.views().kept_bytes);
        for (at, set) in sets.enumerate() {
            let is_new = |entry: &&Entry| entry.holders == 0 && !entry.is_pinned && !entry.is_needed;
            let bytes: u64 = set.iter().filter_map(|(id, _)| self.known.get(*id)).filter(is_new).map(Entry::memory).sum();
            if at > 0 && bytes > room {
                break;
            }
            room = room.saturating_sub(bytes);
            for (id, _) in set {
                if self.known.get(*id).is_some_and(|entry| !entry.is_needed) {
                    self.entry(*id, |entry| entry.is_needed = true);
                    self.needed.push(*id);
                }
            }
        }
        self.pump(now);
    }

    /// Takes in what happened.
    pub fn handle(&mut self, id: AdapterId, event: Event, now: Time) {
        let is_news = matches!(event, Event::OnDisk(_) | Event::Wanted);
        let is_known = if is_news { self.make_place(id, now) } else { self.known.get(id).is_some() };
        if !is_known {
            return;
        }
        match event {
            Event::OnDisk(sizes) => self.on_disk(id, sizes, now),
            Event::Loaded => self.loaded(id),
            Event::Failed => self.failed(id, now),
            Event::Gone => self.gone(id),
            Event::Retired => self.retire(id),
            Event::Wanted => self.expect(id, now),
            Event::Pinned(is_pinned) => {
                self.pin(id, is_pinned, now);
            }
        }
        self.pump(now);
    }

    /// Holds a set for a job that runs: each is on the device until it is released. False, and nothing held, while one is not in
    /// memory or there is no place.
    pub fn hold(&mut self, set: &[(AdapterId, f32)]) -> bool {
        if set.iter().any(|(id, _)| self.tier(*id) < Tier::Memory) {
            return false;
        }
        for (id, _) in set {
            self.entry(*id, |entry| entry.holders += 1);
        }
        if set.iter().all(|(id, _)| self.attach(*id)) {
            return true;
        }
        self.release(set);
        false
    }

    /// Releases what [`Residency::hold`] held.
    pub fn release(&mut self, set: &[(AdapterId, f32)]) {
        for (id, _) in set {
            self.entry(*id, |entry| entry.holders = entry.holders.checked_sub(1).expect("held before"));
        }
    }

    fn entry<T>(&mut self, id: AdapterId, change: impl FnOnce(&mut Entry) -> T) -> T {
        self.known.change(id, change).expect("what is held, used or moves is known")
    }

    fn on_disk(&mut self, id: AdapterId, sizes: Sizes, now: Time) {
        let (is_new, was_moving) = self.entry(id, |entry| {
            entry.is_retired = false;
            let is_new = entry.sizes.is_none();
            if is_new {
                entry.failed = None;
            }
            (is_new, is_new && std::mem::take(&mut entry.is_moving))
        });
        if !is_new {
            return;
        }
        if was_moving {
            self.fetches -= 1;
            self.disk_used -= self.budget.file_bytes_max;
        }
        let can_ever = sizes.memory <= self.budget.memory_bytes.min(self.budget.device_bytes) && sizes.disk <= self.budget.file_bytes_max;
        if !can_ever || !self.make_disk_room(sizes.disk) {
            self.entry(id, |entry| entry.failed = Some(now));
            self.actions.push_back(Action::Delete(id));
            return;
        }
        self.disk_used += sizes.disk;
        self.entry(id, |entry| entry.sizes = Some(sizes));
    }

    fn loaded(&mut self, id: AdapterId) {
        let was_asked = self.entry(id, |entry| {
            // Else it answers nothing that was asked: the shell repeats itself. What it holds too many of, it drops.
            let was_asked = entry.is_moving && entry.sizes.is_some();
            if was_asked {
                (entry.is_moving, entry.in_memory, entry.failed) = (false, true, None);
            }
            was_asked
        });
        self.loads -= usize::from(was_asked);
    }

    fn failed(&mut self, id: AdapterId, now: Time) {
        self.stop_moving(id);
        self.entry(id, |entry| entry.failed = Some(now));
    }

    fn gone(&mut self, id: AdapterId) {
        if self.known.get(id).is_none_or(|entry| entry.holders > 0) {
            return;
        }
        self.stop_moving(id);
        if self.known.get(id).is_some_and(|entry| entry.in_memory) {
            self.unload(id);
        }
        self.entry(id, |entry| (entry.is_pinned, entry.is_retired) = (false, false));
        self.delete(id);
    }

    fn retire(&mut self, id: AdapterId) {
        // What is not here cannot go; a fetch that is under way brings it for whoever asked.
        let users = self.entry(id, |entry| {
            (entry.is_retired, entry.is_pinned) = (entry.sizes.is_some(), false);
            entry.sizes.map(|_| entry.users)
        });
        if users == Some(0) {
            self.gone(id);
        }
    }

    fn expect(&mut self, id: AdapterId, now: Time) {
        self.want(id, now);
        if self.expected.contains(&id) {
            return;
        }
        if self.expected.len() == EXPECTED_MAX {
            self.expected.pop_front();
        }
        self.expected.push_back(id);
    }

    fn stop_moving(&mut self, id: AdapterId) {
        let (was_moving, sizes) = self.entry(id, |entry| (std::mem::take(&mut entry.is_moving), entry.sizes));
        match sizes {
            _ if !was_moving => {}
            Some(sizes) => {
                self.loads -= 1;
                self.memory_used -= sizes.memory;
            }
            None => {
                self.fetches -= 1;
                self.disk_used -= self.budget.file_bytes_max;
            }
        }
    }

    /// Starts every move there is room for.
    fn pump(&mut self, now: Time) {
        for at in 0..self.needed.len() {
            if self.known.get(self.needed[at]).is_some_and(|entry| entry.is_needed) {
                self.raise(self.needed[at], u64::MAX, now);
            }
        }
        // Pinned adapters fill half of memory at most.
        let pinned: Vec<AdapterId> = self.known.views().pinned_below.iter().copied().collect();
        for id in pinned {
            self.raise(id, u64::MAX, now);
        }
        self.raise_expected(now);
        self.prefetch(now);
    }

    fn raise_expected(&mut self, now: Time) {
        let mut expected = std::mem::take(&mut self.expected);
        expected.retain(|id| {
            let rests = |this: &Self| this.known.get(*id).is_some_and(|entry| !entry.in_memory && !entry.is_retired);
            if rests(self) && self.wait(*id, now).is_none() {
                let popularity = self.known.get(*id).map_or(0, |entry| entry.popularity.at(now));
                self.raise(*id, popularity / 2, now);
                true
            } else {
                false
            }
        });
        self.expected = expected;
    }

    /// Starts the next move of one, if there is room beside what is more popular than `popularity_max`.
    fn raise(&mut self, id: AdapterId, popularity_max: u64, now: Time) {
        if self.wait(id, now).is_some() {
            return;
        }
        let Some(entry) = self.known.get(id) else { return };
        if entry.is_moving || entry.in_memory {
            return;
        }
        match entry.sizes {
            None => {
                let bytes_max = self.budget.file_bytes_max;
                if self.fetches < FETCHES_MAX && self.make_disk_room(bytes_max) {
                    self.fetches += 1;
                    self.disk_used += bytes_max;
                    self.entry(id, |entry| entry.is_moving = true);
                    self.actions.push_back(Action::Fetch { id, bytes_max });
                }
            }
            Some(sizes) => {
                if self.loads < LOADS_MAX && self.make_memory_room(sizes.memory, popularity_max, now) {
                    self.load(id, sizes);
                }
            }
        }
    }

    fn load(&mut self, id: AdapterId, sizes: Sizes) {
        self.loads += 1;
        self.memory_used += sizes.memory;
        self.entry(id, |entry| entry.is_moving = true);
        self.actions.push_back(Action::Load(id));
    }

    /// Loads the most popular of what is only on disk, while nothing else moves, in place of what is less than half as popular.
    fn prefetch(&mut self, now: Time) {
        if self.loads > 0 || self.fetches > 0 {
            return;
        }
        let Some(id) = self.known.views().loadable.last() else { return };
        let Some((sizes, popularity)) = self.known.get(id).and_then(|entry| Some((entry.sizes?, entry.popularity.at(now)))) else { return };
        if popularity >= PREFETCH_USES * Popularity::USE && self.make_memory_room(sizes.memory, popularity / 2, now) {
            self.load(id, sizes);
        }
    }
}

fn wait_since(failed: Time, now: Time) -> Option<Duration> {
    RETRY_AFTER.checked_sub(now.since(failed)).filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests;
