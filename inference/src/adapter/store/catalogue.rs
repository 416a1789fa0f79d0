//! What the store knows, behind its lock: never held while anything is read, written or waited for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::adapter::{AdapterInfo, Packed8};
use crate::proto::residency::{AdapterId, Event, Sizes};

use super::disk::{Found, Names};
use super::{Listed, REASONS_MAX};

/// An adapter whose file is on disk.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) info: AdapterInfo,
    pub(super) sizes: Sizes,
    /// While the scheduler counts it as in memory.
    pub(super) packed: Option<Arc<Packed8>>,
    /// Goes with the last job that uses it; no new one gets it.
    pub(super) is_retired: bool,
}

/// The state.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) entries: BTreeMap<AdapterId, Entry>,
    pub(super) names: BTreeMap<String, AdapterId>,
    pub(super) pinned: BTreeSet<AdapterId>,
    pub(super) notices: VecDeque<(AdapterId, Event)>,
    /// Packed a moment ago and not asked for yet; given to the first load in place of the file.
    pub(super) fresh: VecDeque<(AdapterId, Arc<Packed8>)>,
    pub(super) loads: VecDeque<AdapterId>,
    pub(super) deletes: BTreeSet<AdapterId>,
    pub(super) fetches: VecDeque<(AdapterId, u64)>,
    pub(super) reasons: VecDeque<(AdapterId, String)>,
    /// Imports begun, those that wait for their turn included.
    pub(super) imports: usize,
    pub(super) importing: usize,
    pub(super) is_closed: bool,
}

impl State {
    pub(super) fn new(found: Vec<Found>, table: Names) -> Self {
        let mut state = Self { names: table.names, pinned: table.pinned, ..Self::default() };
        for Found { info, sizes } in found {
            state.enter(AdapterId(info.hash), info, sizes);
        }
        state
    }

    /// Notes that an adapter's file is on disk.
    pub(super) fn enter(&mut self, id: AdapterId, info: AdapterInfo, sizes: Sizes) {
        self.deletes.remove(&id);
        self.reasons.retain(|(failed, _)| *failed != id);
        let packed = self.entries.remove(&id).and_then(|entry| entry.packed);
        self.entries.insert(id, Entry { info, sizes, packed, is_retired: false });
        self.notices.push_back((id, Event::OnDisk(sizes)));
        if self.pinned.contains(&id) {
            self.notices.push_back((id, Event::Pinned(true)));
        }
    }

    /// Forgets an adapter; what was not yet told of its file is not true any more.
    pub(super) fn drop_entry(&mut self, id: AdapterId) {
        self.entries.remove(&id);
        self.fresh.retain(|(fresh, _)| *fresh != id);
        self.loads.retain(|load| *load != id);
        self.notices.retain(|(noticed, event)| *noticed != id || !matches!(event, Event::OnDisk(_) | Event::Loaded));
    }

    /// Has an adapter go because the scheduler says so, its file with it; nothing of that if it came in again and the scheduler has not heard of it:
    /// then what goes is what came before.
    pub(super) fn delete(&mut self, id: AdapterId) {
        let is_news = |(noticed, event): &(AdapterId, Event)| *noticed == id && matches!(event, Event::OnDisk(_));
        match self.entries.get_mut(&id).filter(|_| self.notices.iter().any(is_news)) {
            Some(entry) => {
                entry.packed = None;
                self.loads.retain(|load| *load != id);
                self.notices.retain(|notice| *notice != (id, Event::Loaded));
            }
            None => {
                self.drop_entry(id);
                self.deletes.insert(id);
            }
        }
    }

    /// Has everything go that was removed and is still used: found again at the next start, it would be wanted.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        let retired: Vec<AdapterId> = self.entries.iter().filter(|(_, entry)| entry.is_retired).map(|(id, _)| *id).collect();
        for id in retired {
            self.drop_entry(id);
            self.deletes.insert(id);
        }
    }

    pub(super) fn wanted(&self, id: AdapterId) -> Option<&Entry> {
        self.entries.get(&id).filter(|entry| !entry.is_retired)
    }

    /// Bytes in memory of what is pinned, but for one.
    pub(super) fn pinned_bytes(&self, but: AdapterId) -> u64 {
        self.pinned.iter().filter(|id| **id != but).filter_map(|id| self.entries.get(id)).map(|entry| entry.sizes.memory).sum()
    }

    pub(super) fn list(&self) -> Vec<Listed> {
        let mut names: BTreeMap<AdapterId, Vec<String>> = BTreeMap::new();
        for (name, id) in &self.names {
            names.entry(*id).or_default().push(name.clone());
        }
        let wanted = self.entries.iter().filter(|(_, entry)| !entry.is_retired);
        let listed = wanted.map(|(id, entry)| Listed {
            info: entry.info.clone(),
            names: names.remove(id).unwrap_or_default(),
            is_loaded: entry.packed.is_some(),
            is_pinned: self.pinned.contains(id),
        });
        listed.collect()
    }

    /// Why the last move of one failed.
    pub(super) fn reason(&self, id: AdapterId) -> Option<&str> {
        self.reasons.iter().find(|(failed, _)| *failed == id).map(|(_, reason)| reason.as_str())
    }

    pub(super) fn note(&mut self, id: AdapterId, reason: String) {
        self.reasons.retain(|(failed, _)| *failed != id);
        if self.reasons.len() == REASONS_MAX {
            self.reasons.pop_front();
        }
        self.reasons.push_back((id, reason));
    }

    pub(super) fn table(&self) -> Names {
        Names { names: self.names.clone(), pinned: self.pinned.clone() }
    }
}
