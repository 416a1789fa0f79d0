//! Room: what segments take, how much of it is still pointed at, and what may be filled.
//!
//! The bytes that live per segment are counted once when the store is opened, a pass over the index (300,000 items in some 0.2 s), and kept in memory
//! from then on: a count on the disk would be one more thing that can be wrong.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{
    Config, Item, Store, StoreError,
    index::{Change, Entry, Index, IndexError, Location, Which},
    segment::{HEADER_BYTES, record_len},
};

/// Index entries read at once. 4,096 are some 400 KiB.
pub(super) const ENTRIES_MAX: usize = 4096;

/// How a store's room is used, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// What segments may take: [`Config::capacity_bytes`]. They may be found to take more, if it was lowered.
    pub capacity_bytes: u64,
    /// Of that, what items never fill, so that a full store can still release items and collect what they leave.
    pub reserved_bytes: u64,
    /// What segments take.
    pub used_bytes: u64,
    /// Of that, records of items kept here, and of releases that still speak against an older record.
    pub live_bytes: u64,
    /// Of that, what [`Store::collect`] can free.
    pub dead_bytes: u64,
    /// What items may still fill: of this, and of the disk.
    pub free_bytes: u64,
    /// What the file system has left.
    pub disk_available_bytes: u64,
    /// What of that items leave to everything else: [`Config::disk_reserve_bytes`].
    pub disk_reserve_bytes: u64,
    /// Segments.
    pub segments: usize,
    /// Items kept here.
    pub items: u64,
}

/// Marks and live bytes by segment.
#[derive(Debug, Clone, Default)]
pub(super) struct Space {
    pub(super) marks: BTreeMap<u32, u64>,
    live: BTreeMap<u32, u64>,
    /// Segments whose files the disk has lost: they take no room, and go once nothing points at them any more.
    pub(super) absent: BTreeSet<u32>,
}

impl Space {
    /// Counts what the index points at, and shows each item that is kept.
    pub(super) fn count(index: &Index, mut kept: impl FnMut(Item, &Location)) -> Result<Self, IndexError> {
        let mut space = Self { marks: index.marks()?, ..Self::default() };
        for which in [Which::Kept, Which::Gone] {
            let mut after = None;
            loop {
                let entries = index.page(which, after, ENTRIES_MAX)?;
                for (item, location) in &entries {
                    space.add(location);
                    if which == Which::Kept {
                        kept(*item, location);
                    }
                }
                match entries.last() {
                    Some((item, _)) => after = Some(*item),
                    None => break,
                }
            }
        }
        Ok(space)
    }

    fn add(&mut self, location: &Location) {
        *self.live.entry(location.segment).or_default() += record_len(location.len);
    }

    /// Follows a commit that left `displaced` behind.
    pub(super) fn follow(&mut self, change: &Change, displaced: &[Location]) {
        for (_, entry) in &change.entries {
            match entry {
                Entry::Kept(location) | Entry::Gone(location) => self.add(location),
                Entry::Forgotten => {}
            }
        }
        for location in displaced {
            let live = self.live.entry(location.segment).or_default();
            *live = live.saturating_sub(record_len(location.len));
        }
        for (segment, mark) in &change.marks {
            match mark {
                Some(mark) => drop(self.marks.insert(*segment, *mark)),
                None => self.forget(*segment),
            }
        }
    }

    /// A segment is no more.
    pub(super) fn forget(&mut self, segment: u32) {
        self.marks.remove(&segment);
        self.absent.remove(&segment);
    }

    /// Bytes of a segment's file.
    pub(super) fn bytes(&self, segment: u32) -> u64 {
        if self.absent.contains(&segment) { 0 } else { self.marks.get(&segment).copied().unwrap_or(0) }
    }

    /// Bytes in all segments.
    pub(super) fn used(&self) -> u64 {
        self.marks.keys().map(|segment| self.bytes(*segment)).sum()
    }

    /// Bytes of records in a segment that something points at.
    pub(super) fn live(&self, segment: u32) -> u64 {
        self.live.get(&segment).copied().unwrap_or(0)
    }

    /// Bytes of records in a segment that nothing points at.
    pub(super) fn dead(&self, segment: u32) -> u64 {
        let records = self.bytes(segment).saturating_sub(HEADER_BYTES);
        records.saturating_sub(self.live(segment))
    }
}

impl Config {
    /// Bytes that items never fill: a segment, and at most an eighth of all. Half of it is for releases, half for collecting a segment that is half dead. Releases take more
    /// than their half if there are so many: each is 84 bytes, and speaks of a record that is no shorter.
    pub(super) fn reserved_bytes(&self) -> u64 {
        self.segment_bytes.min(self.capacity_bytes / 8)
    }

    /// Bytes that segments may take before a put is refused. Beyond them, since releases came after or the capacity was lowered below what is kept, room is made whatever it
    /// costs for a while: collecting may exceed the capacity then, by what lives in one segment.
    pub(super) fn fillable_bytes(&self) -> u64 {
        self.capacity_bytes - self.reserved_bytes()
    }
}

impl Store {
    /// How the room is used.
    ///
    /// # Errors
    /// What the index says.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let (items, disk_available_bytes) = (self.0.index.len()?, self.disk_available_bytes()?);
        let space = self.writer().space.clone();
        let config = &self.0.config;
        let used_bytes = space.used();
        Ok(Usage {
            capacity_bytes: config.capacity_bytes,
            reserved_bytes: config.reserved_bytes(),
            used_bytes,
            live_bytes: space.live.values().sum(),
            dead_bytes: space.marks.keys().map(|segment| space.dead(*segment)).sum(),
            free_bytes: config
                .fillable_bytes()
                .saturating_sub(used_bytes)
                .min(disk_available_bytes.saturating_sub(config.disk_reserve_bytes)),
            disk_available_bytes,
            disk_reserve_bytes: config.disk_reserve_bytes,
            segments: space.marks.len(),
            items,
        })
    }
}
