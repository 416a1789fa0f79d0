//! Purging: what was released leaves the disk, not only the index.
//!
//! [`Store::collect`] takes a segment when that is worth its bytes; whoever was asked to erase something cannot wait for that. A purge closes the open
//! segment and collects every one that holds a dead byte: where the bytes of a release lay is not remembered, and an item that was put, moved or mended
//! may lie dead in several. What is copied is what lives in those segments: at worst the whole store once, 64 GiB in an hour at 20 MB/s, a step at a time.
//! A purge that is cut short is begun anew. Which blocks of the disk a file system reuses, and what it copied of them, is beyond this.

use super::{Corrupt, Store, StoreError, collect::Sweep, segment::HEADER_BYTES};

/// A purge under way.
#[derive(Debug, Clone, Copy)]
pub struct Purge {
    /// The last segment that was there when it began.
    last: u32,
}

/// What one step of a purge did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purged {
    /// Bytes of records copied.
    pub moved_bytes: u64,
    /// Bytes of segments dropped.
    pub freed_bytes: u64,
    /// Items that rotted: their segments cannot go before they are put anew or released.
    pub corrupt: Vec<Corrupt>,
    /// Segments with dead bytes that such items hold.
    pub held: usize,
    /// There is nothing more to do: if no segment is held, no byte that was released before the purge began is in a file.
    pub is_done: bool,
}

impl Store {
    /// Begins a purge: what is put from now on lies in a segment of its own.
    ///
    /// # Errors
    /// What the disk says. [`StoreError::Stopped`] as for a put.
    pub fn purge(&self) -> Result<Purge, StoreError> {
        let mut writer = self.writing()?;
        // What is empty gives room to a disk that has none for a new segment.
        self.drop_empty(&mut writer)?;
        let last = writer.segment;
        if writer.end > HEADER_BYTES {
            self.next_segment(&mut writer)?;
            return Ok(Purge { last });
        }
        Ok(Purge { last: last.saturating_sub(1) })
    }

    /// One step of a purge, which copies at most `budget_bytes` and at least one record. Call it until it is done.
    ///
    /// # Errors
    /// As [`Store::collect`]; [`StoreError::DiskFull`] if the disk has no room for what lives in the segment in which least does. The capacity is exceeded meanwhile by what
    /// lives in one segment, if it must be.
    pub fn purge_step(&self, purge: Purge, budget_bytes: u64) -> Result<Purged, StoreError> {
        let mut writer = self.writing()?;
        let is_held = |segment: u32| writer.space.live(segment) > 0 && writer.held.contains(&segment);
        let dead: Vec<u32> =
            writer.space.marks.keys().copied().filter(|segment| *segment <= purge.last && writer.space.dead(*segment) > 0).collect();
        let held = dead.iter().filter(|segment| is_held(**segment)).count();
        // What costs least comes first: each makes room for the next.
        let next = dead.into_iter().filter(|segment| !is_held(*segment)).min_by_key(|segment| writer.space.live(*segment));
        // A sweep that collecting began is ended first: its segment may be the next one.
        let Some(sweep) = writer.sweep.or_else(|| next.map(Sweep::of)) else {
            return Ok(Purged { held, is_done: true, ..Purged::default() });
        };
        if writer.sweep.is_none() {
            let (available, need) = (self.disk_available_bytes()?, writer.space.live(sweep.segment));
            if need > available {
                return Err(StoreError::DiskFull { available, reserve: 0, need });
            }
        }
        let step = self.sweep(&mut writer, sweep, budget_bytes)?;
        Ok(Purged { moved_bytes: step.moved_bytes, freed_bytes: step.freed_bytes, corrupt: step.corrupt, held, is_done: false })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use types::id::Hash32;

    use super::*;
    use crate::{
        erasure::{Profile, encode},
        store::{Config, Item, crash::CrashDisk},
    };

    fn on(disk: &CrashDisk) -> Store {
        Store::on(Arc::new(disk.clone()), Config { segment_bytes: 60_000, cache_bytes: 1 << 20, ..Config::default() }).unwrap()
    }

    fn run(store: &Store) -> Purged {
        let purge = store.purge().unwrap();
        loop {
            let step = store.purge_step(purge, 3_000).unwrap();
            if step.is_done {
                return step;
            }
        }
    }

    /// Bytes of one byte value, so that a file is searched for any 16 of them in a row.
    fn bytes(number: u8) -> Vec<u8> {
        [b"text of document ", &[number; 2_000][..]].concat()
    }

    fn is_on(disk: &CrashDisk, number: u8) -> bool {
        disk.contents().iter().any(|(_, bytes)| bytes.windows(16).any(|window| window == [number; 16]))
    }

    #[test]
    fn what_was_released_leaves_the_disk_wherever_it_lay_and_the_rest_stays() {
        let disk = CrashDisk::default();
        let store = on(&disk);
        let ids: Vec<_> = (1..60_u8).map(|number| store.put(&bytes(number)).unwrap()).collect();
        assert!(is_on(&disk, 7) && is_on(&disk, 59));
        for gone in [7, 30, 59] {
            store.release(Item::Blob(ids[gone - 1])).unwrap();
        }
        // Much too little for collecting.
        while !store.collect(10_000).unwrap().is_done {}
        assert!(is_on(&disk, 7) && is_on(&disk, 30) && is_on(&disk, 59));
        let done = run(&store);
        assert_eq!((done.is_done, done.held), (true, 0));
        for (number, id) in (1..60_u8).zip(&ids) {
            let is_gone = [7, 30, 59].contains(&number);
            assert_eq!(is_on(&disk, number), !is_gone, "{number}");
            assert_eq!(store.get(*id).unwrap(), (!is_gone).then(|| bytes(number)), "{number}");
        }
        drop(store);
        let store = on(&disk);
        assert_eq!(store.get(ids[6]).unwrap(), None, "and after opening");
        assert_eq!(store.get(ids[7]).unwrap(), Some(bytes(8)));
    }

    #[test]
    fn an_object_that_was_put_released_and_put_again_leaves_no_byte() {
        let disk = CrashDisk::default();
        let store = on(&disk);
        let object = encode(&[77; 9_000], Hash32::ZERO, Profile::DEVNET).unwrap();
        let fragment = object.manifest.verify(0, object.fragments[0].clone()).unwrap();
        for _ in 0..3 {
            store.put_fragment(&object.manifest, &fragment).unwrap();
            store.put(&bytes(9)).unwrap();
            assert_eq!(store.release_object(object.manifest.id()).unwrap(), 1);
        }
        assert!(is_on(&disk, 77));
        assert_eq!(run(&store).held, 0);
        assert!(!is_on(&disk, 77) && is_on(&disk, 9));
        assert_eq!(run(&store).held, 0, "nothing is left to do");
    }

    #[test]
    fn a_purge_that_was_cut_short_is_ended_by_the_next_one_and_a_rotten_item_is_told_as_holding_its_segment() {
        let disk = CrashDisk::default();
        let store = on(&disk);
        let ids: Vec<_> = (1..20_u8).map(|number| store.put(&bytes(number)).unwrap()).collect();
        store.release(Item::Blob(ids[2])).unwrap();
        let purge = store.purge().unwrap();
        store.purge_step(purge, 1).unwrap();
        drop(store);
        let store = on(&disk);
        assert_eq!(run(&store).held, 0);
        assert!(!is_on(&disk, 3) && is_on(&disk, 4));
        let store_of = |disk: &CrashDisk| disk.contents().into_iter().find(|(_, held)| held.windows(16).any(|window| window == [5; 16]));
        let (name, held) = store_of(&disk).unwrap();
        let at = held.windows(16).position(|window| window == [5; 16]).unwrap();
        disk.rot(&name, at);
        store.release(Item::Blob(ids[3])).unwrap();
        assert_eq!(run(&store).held, 1);
        assert!(is_on(&disk, 4), "the segment of the rotten item stays, and is said to");
        store.put(&bytes(5)).unwrap();
        assert_eq!(run(&store).held, 0);
        assert!(!is_on(&disk, 4));
    }
}
