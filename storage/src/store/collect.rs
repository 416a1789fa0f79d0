//! Collecting: live records of mostly dead segments are copied to the open one, then the segment is dropped.
//!
//! A step holds the writer for at most [`ENTRIES_MAX`] entries of the index and the bytes it is given, so it can run beside everything else: 8 MiB
//! are copied and synced in some 50 ms. A segment is taken once half of it is dead, so each byte freed costs at most one byte copied and disk in use stays
//! below twice what lives; with less than a segment's room left, one with an eighth dead is taken too. Copies fit into the capacity as long as items do: once no
//! item finds room, since the capacity was lowered or releases came after, the segment in which least lives is taken though its copy exceeds the capacity for a while, and the
//! open one is closed for it. Nothing is begun that the disk has no room for, and what costs nothing goes first.
//!
//! Crash rules. Copies are puts: synced, then indexed. The segment is marked as dropped in one commit, then its file is deleted, then the mark: opening
//! goes on wherever that stopped. What is copied was hashed; a rotten item is not copied, is reported, and holds its segment until it is put anew or released.
//! A release is copied as long as an older segment is there, whose records it may speak against; in the oldest one it is forgotten.

use super::{
    Corrupt, Item, PAST_CAPACITY, Store, StoreError, Writer,
    index::{Change, DROPPED, Location, Which},
    segment::{self, HEADER_BYTES, Header},
    space::ENTRIES_MAX,
};

/// The least share of a segment's records that is dead when it is collected, as a divisor.
const WORTH: u64 = 2;
/// The same when room is short.
const WORTH_WHEN_FULL: u64 = 8;

/// What one step of collecting did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Bytes of records copied.
    pub moved_bytes: u64,
    /// Bytes of segments dropped.
    pub freed_bytes: u64,
    /// Items that could not be copied, since they are no longer what was stored: for repair.
    pub corrupt: Vec<Corrupt>,
    /// Nothing is worth collecting now.
    pub is_done: bool,
}

/// A segment being collected, and how far the index was walked for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sweep {
    pub(super) segment: u32,
    which: Which,
    after: Option<Item>,
}

impl Sweep {
    /// A segment from its beginning.
    pub(super) const fn of(segment: u32) -> Self {
        Self { segment, which: Which::Kept, after: None }
    }
}

impl Store {
    /// One step of collecting, which copies at most `budget_bytes` and at least one record. Call it until it is done, and again after releases.
    ///
    /// # Errors
    /// What the disk says; then nothing was lost, and the next call goes on. [`StoreError::Stopped`] as for a put.
    pub fn collect(&self, budget_bytes: u64) -> Result<Collected, StoreError> {
        let mut writer = self.writing()?;
        let sweep = match writer.sweep {
            Some(begun) => Some(begun),
            None => self.choose(&mut writer)?,
        };
        let Some(sweep) = sweep else { return Ok(Collected { is_done: true, ..Collected::default() }) };
        self.sweep(&mut writer, sweep, budget_bytes)
    }

    /// One step of collecting one segment.
    pub(super) fn sweep(&self, writer: &mut Writer, sweep: Sweep, budget_bytes: u64) -> Result<Collected, StoreError> {
        writer.sweep = Some(sweep);
        let entries = self.0.index.page(sweep.which, sweep.after, ENTRIES_MAX)?;
        if entries.is_empty() {
            return self.next_stage(writer, sweep);
        }
        // If the disk has no room for this one after all, the next call may take another.
        self.copy(writer, sweep, &entries, budget_bytes).inspect_err(|_| writer.sweep = None)
    }

    /// The closed segment with the most to free, if one is worth it and what lives in it fits elsewhere.
    fn choose(&self, writer: &mut Writer) -> Result<Option<Sweep>, StoreError> {
        let (config, used, available) = (&self.0.config, writer.space.used(), self.disk_available_bytes()?);
        let room = config.capacity_bytes.saturating_sub(used);
        let is_short = config.fillable_bytes().saturating_sub(used) < config.segment_bytes;
        let worth = if is_short { WORTH_WHEN_FULL } else { WORTH };
        let (open, is_strained) = (writer.segment, used > config.fillable_bytes());
        let found = {
            let (space, held) = (&writer.space, &writer.held);
            let is_worth = |segment: &u32| {
                let (live, dead) = (space.live(*segment), space.dead(*segment));
                // An empty one has nothing to free but its header, and costs nothing.
                let is_held = live > 0 && held.contains(segment);
                !is_held && live <= available && dead.saturating_mul(worth) >= live.saturating_add(dead)
            };
            let may_go = |segment: &u32| *segment != open || is_strained && writer.end > HEADER_BYTES;
            let fitting = space.marks.keys().copied().filter(|segment| *segment != open && space.live(*segment) <= room);
            let most = fitting
                .filter(is_worth)
                .max_by_key(|segment| (space.live(*segment) == 0, space.dead(*segment), std::cmp::Reverse(*segment)));
            let past = space.marks.keys().copied().filter(|segment| is_strained && may_go(segment) && is_worth(segment));
            most.or_else(|| past.min_by_key(|segment| space.live(*segment)))
        };
        if found == Some(open) {
            self.next_segment(writer)?;
        }
        Ok(found.map(Sweep::of))
    }

    /// Drops closed segments to which nothing points; returns the bytes of their files.
    pub(super) fn drop_empty(&self, writer: &mut Writer) -> Result<u64, StoreError> {
        let is_empty = |segment: &u32| *segment != writer.segment && writer.space.live(*segment) == 0;
        let empty: Vec<u32> = writer.space.marks.keys().copied().filter(is_empty).collect();
        let mut freed = 0;
        for segment in empty {
            freed += self.drop_segment(writer, segment)?;
            writer.sweep = writer.sweep.filter(|sweep| sweep.segment != segment);
        }
        Ok(freed)
    }

    fn copy(&self, writer: &mut Writer, sweep: Sweep, entries: &[(Item, Location)], budget: u64) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        let is_oldest = writer.space.marks.keys().next() == Some(&sweep.segment);
        let (mut kept, mut forgotten, mut after) = (Vec::new(), Vec::new(), sweep.after);
        for (item, location) in entries {
            if location.segment == sweep.segment {
                let len = segment::record_len(location.len);
                if collected.moved_bytes.saturating_add(len) > budget && collected.moved_bytes > 0 {
                    break;
                }
                match sweep.which {
                    Which::Gone if is_oldest => forgotten.push(*item),
                    Which::Gone => kept.push((Header::release(*item), Vec::new())),
                    Which::Kept => match self.read(*item, *location) {
                        Ok(bytes) => kept.push((Header::new(*item, location.hash, &bytes), bytes)),
                        Err(StoreError::Corrupt(corrupt)) => collected.corrupt.push(corrupt),
                        Err(error) => return Err(error),
                    },
                }
                collected.moved_bytes += len;
            }
            after = Some(*item);
        }
        if !(kept.is_empty() && forgotten.is_empty()) {
            let records: Vec<(Header, &[u8])> = kept.iter().map(|(header, bytes)| (*header, bytes.as_slice())).collect();
            // What is copied is freed with its segment, which was chosen by how much that is.
            self.append(writer, &records, &forgotten, PAST_CAPACITY)?;
        }
        writer.sweep = Some(Sweep { after, ..sweep });
        Ok(collected)
    }

    /// After the items come the releases, then the segment goes.
    fn next_stage(&self, writer: &mut Writer, sweep: Sweep) -> Result<Collected, StoreError> {
        if sweep.which == Which::Kept {
            writer.sweep = Some(Sweep { which: Which::Gone, after: None, ..sweep });
            return Ok(Collected::default());
        }
        writer.sweep = None;
        if writer.space.live(sweep.segment) > 0 {
            writer.held.insert(sweep.segment);
            return Ok(Collected::default());
        }
        let freed_bytes = self.drop_segment(writer, sweep.segment)?;
        Ok(Collected { freed_bytes, ..Collected::default() })
    }

    fn drop_segment(&self, writer: &mut Writer, id: u32) -> Result<u64, StoreError> {
        let freed = writer.space.bytes(id);
        let marks = vec![(id, Some(DROPPED))];
        self.commit(writer, &Change { entries: vec![], marks })?;
        writer.held.remove(&id);
        self.with_segments(|segments| drop(segments.remove(&id)));
        // The mark stays until the file is gone for certain; if that fails, opening does it.
        let finished = segment::finish_drop(&*self.0.disk, &self.0.index, id);
        if finished.as_ref().is_err_and(|error| error.is_unsynced()) || self.0.index.is_unsynced() {
            writer.stopped = finished.as_ref().err().map(ToString::to_string);
        }
        finished?;
        writer.space.forget(id);
        Ok(freed)
    }
}
