//! Word starts of every group, in a file without a name: one pass over the text writes them, each is read once.
//!
//! Whoever puts a group in order would look at every word start of the segment else, and there are more groups the less memory there is.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

/// Bytes of a start.
const START_BYTES: usize = size_of::<u32>();

/// Where some of a group's starts lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    at: u64,
    starts: usize,
}

/// The file, and where in it there is room.
#[derive(Debug)]
pub(super) struct Spill {
    file: File,
    end: AtomicU64,
}

/// Starts of a part of the text on their way to the file.
#[derive(Debug)]
pub(super) struct Spiller<'a> {
    spill: &'a Spill,
    buffers: Vec<Vec<u8>>,
    /// Bytes of a buffer.
    most: usize,
    extents: Vec<Vec<Extent>>,
}

impl Spill {
    /// A file that is gone when this is dropped; `path` must name nothing of worth.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        fs::remove_file(path)?;
        Ok(Self { file, end: AtomicU64::new(0) })
    }

    /// For so many groups, in so many bytes of memory.
    pub(super) fn spiller(&self, groups: usize, memory_bytes: usize) -> Spiller<'_> {
        let most = (memory_bytes / groups / START_BYTES).clamp(64, 1 << 14) * START_BYTES;
        Spiller { spill: self, buffers: vec![Vec::with_capacity(most); groups], most, extents: vec![Vec::new(); groups] }
    }

    /// The starts in these places.
    pub(super) fn read(&self, extents: &[Extent]) -> io::Result<Vec<u32>> {
        let mut starts = Vec::with_capacity(count(extents));
        let mut bytes = Vec::new();
        for extent in extents {
            bytes.resize(extent.starts * START_BYTES, 0);
            self.file.read_exact_at(&mut bytes, extent.at)?;
            starts.extend(bytes.as_chunks().0.iter().map(|start| u32::from_le_bytes(*start)));
        }
        Ok(starts)
    }
}

/// Starts in these places.
pub(super) fn count(extents: &[Extent]) -> usize {
    extents.iter().map(|extent| extent.starts).sum()
}

/// Slices of these of at most so many starts; that is more than an extent has.
pub(super) fn slices(extents: &[Extent], most: usize) -> impl Iterator<Item = &[Extent]> {
    let mut left = extents;
    std::iter::from_fn(move || {
        let fits = left
            .iter()
            .scan(0, |sum, extent| {
                *sum += extent.starts;
                Some(*sum)
            })
            .take_while(|sum| *sum <= most)
            .count();
        let (slice, rest) = left.split_at(fits.max(1).min(left.len()));
        left = rest;
        (!slice.is_empty()).then_some(slice)
    })
}

impl Spiller<'_> {
    /// Adds a start, larger than all before of its group.
    pub(super) fn push(&mut self, group: usize, start: u32) -> io::Result<()> {
        let buffer = &mut self.buffers[group];
        buffer.extend(start.to_le_bytes());
        if buffer.len() == self.most { self.flush(group) } else { Ok(()) }
    }

    fn flush(&mut self, group: usize) -> io::Result<()> {
        let buffer = &mut self.buffers[group];
        let bytes = u64::try_from(buffer.len()).expect("a length in memory fits 64 bits");
        let at = self.spill.end.fetch_add(bytes, Ordering::Relaxed);
        self.spill.file.write_all_at(buffer, at)?;
        self.extents[group].push(Extent { at, starts: buffer.len() / START_BYTES });
        buffer.clear();
        Ok(())
    }

    /// Where each group's starts lie, in their order.
    pub(super) fn finish(mut self) -> io::Result<Vec<Vec<Extent>>> {
        (0..self.buffers.len()).try_for_each(|group| self.flush(group))?;
        Ok(self.extents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_is_read_group_by_group_in_its_order() {
        let folder = tempfile::tempdir().unwrap();
        let spill = Spill::new(&folder.path().join("starts")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut pushed = vec![Vec::new(); 5];
        let mut extents = vec![Vec::new(); 5];
        for part in 0..3_u32 {
            let mut spiller = spill.spiller(5, 1_000);
            for start in 0..1_000_u32 {
                let group = usize::try_from((start.wrapping_mul(2_654_435_761) >> 7) & 3).unwrap();
                let start = part * 5_000 + start;
                spiller.push(group, start).unwrap();
                pushed[group].push(start);
            }
            extents.iter_mut().zip(spiller.finish().unwrap()).for_each(|(all, more)| all.extend(more));
        }
        for (extents, pushed) in extents.iter().zip(pushed) {
            assert_eq!((spill.read(extents).unwrap(), count(extents)), (pushed.clone(), pushed.len()));
            let slices: Vec<Vec<u32>> = slices(extents, 100).map(|slice| spill.read(slice).unwrap()).collect();
            assert!(slices.iter().all(|slice| slice.len() <= 100) && slices.concat() == pushed);
        }
    }
}
