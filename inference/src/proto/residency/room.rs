//! Making room: what goes off the device, out of memory, out of files, and out of mind.

use types::time::Time;

use super::{Action, AdapterId, Entry, KNOWN_MAX, Residency, wait_since};

/// Adapters that may leave memory for one that is only expected: to move more is not worth a guess.
const GUESS_VICTIMS_MAX: usize = 16;

impl Residency {
    /// Puts one on the device, others off it for its place and bytes.
    pub(super) fn attach(&mut self, id: AdapterId) -> bool {
        let Some(entry) = self.known.get(id) else { return false };
        if entry.slot.is_some() {
            return true;
        }
        let bytes = entry.memory();
        while self.free.is_empty() || self.device_used.saturating_add(bytes) > self.budget.device_bytes {
            let Some(victim) = self.known.views().idle.first() else { return false };
            self.detach(victim);
        }
        let slot = self.free.pop().expect("looked at above");
        self.device_used += bytes;
        self.entry(id, |entry| entry.slot = Some(slot));
        self.actions.push_back(Action::Attach { id, slot });
        true
    }

    pub(super) fn detach(&mut self, id: AdapterId) {
        let (slot, bytes) = self.entry(id, |entry| (entry.slot.take(), entry.memory()));
        if let Some(slot) = slot {
            self.device_used -= bytes;
            self.free.push(slot);
            self.actions.push_back(Action::Detach(slot));
        }
    }

    pub(super) fn unload(&mut self, id: AdapterId) {
        self.detach(id);
        let bytes = self.entry(id, |entry| {
            entry.in_memory = false;
            entry.memory()
        });
        self.memory_used -= bytes;
        self.actions.push_back(Action::Unload(id));
    }

    pub(super) fn delete(&mut self, id: AdapterId) {
        // What was to go has gone: a fetch from now on is for whoever asks, and not to be given up.
        let taken = |entry: &mut Entry| {
            entry.is_retired = false;
            entry.sizes.take()
        };
        if let Some(sizes) = self.entry(id, taken) {
            self.disk_used -= sizes.disk;
            self.actions.push_back(Action::Delete(id));
        }
    }

    /// Unloads what may go and is at most so popular until `bytes` fit; nothing if they will not.
    pub(super) fn make_memory_room(&mut self, bytes: u64, popularity_max: u64, now: Time) -> bool {
        let over = self.memory_used.saturating_add(bytes).saturating_sub(self.budget.memory_bytes);
        if over > self.known.views().unloadable.bytes {
            return false;
        }
        let (mut victims, mut gain) = (Vec::new(), 0u64);
        for id in self.known.views().unloadable.iter() {
            if gain >= over {
                break;
            }
            let Some(entry) = self.known.get(id) else { return false };
            let is_guess = popularity_max < u64::MAX;
            if is_guess && (entry.popularity.at(now) > popularity_max || victims.len() == GUESS_VICTIMS_MAX) {
                return false;
            }
            victims.push(id);
            gain = gain.saturating_add(entry.memory());
        }
        victims.into_iter().for_each(|id| self.unload(id));
        gain >= over
    }

    /// The same for files; what is in memory keeps them.
    pub(super) fn make_disk_room(&mut self, bytes: u64) -> bool {
        let is_full = |this: &Self| this.disk_used.saturating_add(bytes) > this.budget.disk_bytes;
        if self.disk_used.saturating_sub(self.known.views().deletable.bytes).saturating_add(bytes) > self.budget.disk_bytes {
            return false;
        }
        while is_full(self) {
            let Some(victim) = self.known.views().deletable.first() else { return false };
            self.delete(victim);
        }
        true
    }

    /// Makes one known, in place of the least popular of what is not here if too many are known. False if each is here or has a job.
    pub(super) fn make_place(&mut self, id: AdapterId, now: Time) -> bool {
        if self.known.get(id).is_none() && self.known.len() >= KNOWN_MAX {
            // What failed is remembered for a while, or it would be tried again at once.
            let views = self.known.views();
            let failed = views.absent_failed.first().filter(|(failed, _)| wait_since(*failed, now).is_none());
            let Some(victim) = views.absent.first().or_else(|| failed.map(|(_, id)| *id)) else { return false };
            self.known.remove(victim);
        }
        self.known.add(id);
        true
    }
}
