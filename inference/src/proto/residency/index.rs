//! What is known of each adapter, and sorted views of it, so that no decision looks at all of them.
//!
//! Every change of an entry goes through [`Known::change`], which takes it out of the views it was in and puts it into those it belongs to
//! now: at most ten searches in sets of [`super::KNOWN_MAX`].

use std::collections::{BTreeMap, BTreeSet};

use types::time::Time;

use crate::step::Slot;

use super::{AdapterId, Popularity, Sizes};

/// One adapter.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    pub(super) sizes: Option<Sizes>,
    pub(super) in_memory: bool,
    pub(super) slot: Option<Slot>,
    /// A fetch if there are no sizes, else a load.
    pub(super) is_moving: bool,
    /// Running jobs.
    pub(super) holders: u32,
    /// Accepted jobs, running or waiting.
    pub(super) users: u32,
    pub(super) is_needed: bool,
    pub(super) is_pinned: bool,
    /// Goes once nobody uses it.
    pub(super) is_retired: bool,
    pub(super) popularity: Popularity,
    pub(super) failed: Option<Time>,
}

impl Entry {
    pub(super) fn memory(&self) -> u64 {
        self.sizes.map_or(0, |sizes| sizes.memory)
    }

    fn disk(&self) -> u64 {
        self.sizes.map_or(0, |sizes| sizes.disk)
    }

    /// Counts against the budget of memory.
    fn takes_memory(&self) -> bool {
        self.in_memory || (self.is_moving && self.sizes.is_some())
    }

    fn may_go(&self) -> bool {
        self.holders == 0 && !self.is_needed && !self.is_pinned && !self.is_moving
    }

    fn is_idle(&self) -> bool {
        self.slot.is_some() && self.holders == 0
    }

    fn may_be_unloaded(&self) -> bool {
        self.in_memory && self.may_go()
    }

    fn may_be_deleted(&self) -> bool {
        self.sizes.is_some() && !self.in_memory && self.may_go()
    }

    /// Nothing of it is here, and no job would miss it.
    fn may_be_forgotten(&self) -> bool {
        self.sizes.is_none() && self.users == 0 && self.may_go()
    }

    fn may_be_loaded(&self) -> bool {
        self.sizes.is_some() && !self.takes_memory() && self.failed.is_none() && !self.is_retired
    }

    fn is_kept(&self) -> bool {
        self.holders > 0 || self.is_pinned
    }
}

/// Adapters, the least popular first, and their bytes together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shelf {
    order: BTreeSet<(Popularity, AdapterId)>,
    pub(super) bytes: u64,
}

impl Shelf {
    fn put(&mut self, popularity: Popularity, id: AdapterId, bytes: u64) {
        self.order.insert((popularity, id));
        self.bytes += bytes;
    }

    fn take(&mut self, popularity: Popularity, id: AdapterId, bytes: u64) {
        let was_there = self.order.remove(&(popularity, id));
        assert!(was_there, "an entry is in the views of what it was");
        self.bytes -= bytes;
    }

    /// The least popular.
    pub(super) fn first(&self) -> Option<AdapterId> {
        self.order.first().map(|(_, id)| *id)
    }

    /// The most popular.
    pub(super) fn last(&self) -> Option<AdapterId> {
        self.order.last().map(|(_, id)| *id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = AdapterId> + '_ {
        self.order.iter().map(|(_, id)| *id)
    }
}

/// The sorted views.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Views {
    /// On the device, held by nobody; bytes in memory.
    pub(super) idle: Shelf,
    /// In memory and may leave it; bytes in memory.
    pub(super) unloadable: Shelf,
    /// In files alone and may leave; bytes of files.
    pub(super) deletable: Shelf,
    /// In files and worth loading, if popular; bytes in memory.
    pub(super) loadable: Shelf,
    /// Not here, never failed, may be forgotten; no bytes.
    pub(super) absent: Shelf,
    /// Not here, failed at this time, may be forgotten.
    pub(super) absent_failed: BTreeSet<(Time, AdapterId)>,
    /// Pinned and not in memory.
    pub(super) pinned_below: BTreeSet<AdapterId>,
    /// Bytes in memory of all that is pinned.
    pub(super) pinned_bytes: u64,
    /// The same of all that is pinned or held.
    pub(super) kept_bytes: u64,
}

impl Views {
    fn put(&mut self, id: AdapterId, entry: &Entry) {
        let Self { idle, unloadable, deletable, loadable, absent, absent_failed, pinned_below, pinned_bytes, kept_bytes } = self;
        for (shelf, is_in, bytes) in shelves(entry, [idle, unloadable, deletable, loadable, absent]) {
            if is_in {
                shelf.put(entry.popularity, id, bytes);
            }
        }
        if let Some(failed) = entry.failed.filter(|_| entry.may_be_forgotten()) {
            absent_failed.insert((failed, id));
        }
        if entry.is_pinned {
            *pinned_bytes += entry.memory();
            if !entry.in_memory {
                pinned_below.insert(id);
            }
        }
        if entry.is_kept() {
            *kept_bytes += entry.memory();
        }
    }

    fn take(&mut self, id: AdapterId, entry: &Entry) {
        let Self { idle, unloadable, deletable, loadable, absent, absent_failed, pinned_below, pinned_bytes, kept_bytes } = self;
        for (shelf, is_in, bytes) in shelves(entry, [idle, unloadable, deletable, loadable, absent]) {
            if is_in {
                shelf.take(entry.popularity, id, bytes);
            }
        }
        if let Some(failed) = entry.failed.filter(|_| entry.may_be_forgotten()) {
            absent_failed.remove(&(failed, id));
        }
        if entry.is_pinned {
            *pinned_bytes -= entry.memory();
            pinned_below.remove(&id);
        }
        if entry.is_kept() {
            *kept_bytes -= entry.memory();
        }
    }
}

/// The shelves, whether the entry stands on each, and the bytes it counts for there.
fn shelves<'a>(entry: &Entry, shelves: [&'a mut Shelf; 5]) -> [(&'a mut Shelf, bool, u64); 5] {
    let [idle, unloadable, deletable, loadable, absent] = shelves;
    [
        (idle, entry.is_idle(), entry.memory()),
        (unloadable, entry.may_be_unloaded(), entry.memory()),
        (deletable, entry.may_be_deleted(), entry.disk()),
        (loadable, entry.may_be_loaded(), entry.memory()),
        (absent, entry.may_be_forgotten() && entry.failed.is_none(), 0),
    ]
}

/// All adapters with their views.
#[derive(Debug, Default)]
pub(super) struct Known {
    entries: BTreeMap<AdapterId, Entry>,
    views: Views,
}

impl Known {
    pub(super) fn get(&self, id: AdapterId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub(super) fn views(&self) -> &Views {
        &self.views
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// An entry, new if there is none.
    pub(super) fn add(&mut self, id: AdapterId) {
        let Self { entries, views } = self;
        entries.entry(id).or_insert_with(|| {
            let entry = Entry::default();
            views.put(id, &entry);
            entry
        });
    }

    /// Changes an entry and its places in the views; nothing if there is none.
    pub(super) fn change<T>(&mut self, id: AdapterId, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let entry = self.entries.get_mut(&id)?;
        self.views.take(id, entry);
        let out = change(entry);
        self.views.put(id, entry);
        Some(out)
    }

    pub(super) fn remove(&mut self, id: AdapterId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.views.take(id, &entry);
        }
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&AdapterId, &Entry)> {
        self.entries.iter()
    }

    /// The views as a look at every entry gives them.
    #[cfg(test)]
    pub(super) fn views_by_scan(&self) -> Views {
        let mut views = Views::default();
        self.entries.iter().for_each(|(id, entry)| views.put(*id, entry));
        views
    }
}
