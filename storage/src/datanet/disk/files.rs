//! Reading and writing of sections in buffers of bounded size.

use std::{io, ops::Range, sync::Arc};

use super::super::dedup::run::{Packer, unpack};
use crate::store::disk::DiskFile;

/// Bytes written at once, and read at once where reads are dense.
pub(super) const BUFFER_BYTES: usize = 64 << 10;
/// Bytes read at once where they are sparse: a page or two.
const SPARSE_BYTES: usize = 512;
/// Bytes passed over that cost as much as a read of their own: half a microsecond.
const GAP_BYTES: u64 = 4 << 10;
/// Packed integers read at once; a multiple of 8, so that each read begins at a whole byte.
const INTEGERS: u32 = 8192;

/// Writes a stretch of a file from its beginning on, and hashes it.
#[derive(Debug)]
pub(super) struct Section<'f> {
    file: &'f dyn DiskFile,
    at: u64,
    packer: Packer,
    hasher: blake3::Hasher,
}

impl<'f> Section<'f> {
    pub(super) fn new(file: &'f dyn DiskFile, at: u64) -> Self {
        Self { file, at, packer: Packer::default(), hasher: blake3::Hasher::new() }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write(self.at, bytes)?;
        self.hasher.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Adds an integer of `width` bits.
    pub(super) fn push(&mut self, value: u32, width: u32) -> io::Result<()> {
        self.packer.push(value, width);
        if self.packer.len() < BUFFER_BYTES {
            return Ok(());
        }
        let bytes = self.packer.take();
        self.put(&bytes)
    }

    /// Adds bytes to what has no packed integers.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(BUFFER_BYTES).try_for_each(|bytes| self.put(bytes))
    }

    /// Writes what waits; the hash of all.
    pub(super) fn finish(mut self) -> io::Result<[u8; 32]> {
        let bytes = self.packer.finish();
        if !bytes.is_empty() {
            self.put(&bytes)?;
        }
        Ok(*self.hasher.finalize().as_bytes())
    }
}

/// Adds to the end of a file that only grows.
#[derive(Debug)]
pub(super) struct Appender {
    file: Arc<dyn DiskFile>,
    at: u64,
    held: Vec<u8>,
}

impl Appender {
    pub(super) const fn new(file: Arc<dyn DiskFile>, at: u64) -> Self {
        Self { file, at, held: Vec::new() }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.held.extend_from_slice(bytes);
        if self.held.len() < BUFFER_BYTES { Ok(()) } else { self.write() }
    }

    /// Writes what waits: it is read from the file then.
    pub(super) fn write(&mut self) -> io::Result<()> {
        self.file.write(self.at, &self.held)?;
        self.at += self.held.len() as u64;
        self.held.clear();
        Ok(())
    }

    /// Makes everything durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.write()?;
        self.file.sync()
    }

    /// Overwrites what was written before with zeros.
    pub(super) fn blank(&self, bytes: Range<u64>) -> io::Result<()> {
        let Range { start: mut at, end } = bytes;
        assert!(end <= self.at, "what waits is written first");
        let zeros = [0; BUFFER_BYTES];
        while at < end {
            let len = usize::try_from(end - at).unwrap_or(usize::MAX).min(BUFFER_BYTES);
            self.file.write(at, &zeros[..len])?;
            at += len as u64;
        }
        Ok(())
    }

    pub(super) fn file(&self) -> &dyn DiskFile {
        self.file.as_ref()
    }

    /// Bytes, those that wait included.
    pub(super) fn len(&self) -> u64 {
        self.at + self.held.len() as u64
    }
}

/// Packed integers, read one after another and hashed.
#[derive(Debug)]
pub(super) struct Integers<'f> {
    file: &'f dyn DiskFile,
    width: u32,
    at: u64,
    left: u32,
    bytes: Vec<u8>,
    /// Integers of `bytes` that were read, and those in it.
    read: u32,
    held: u32,
    hasher: blake3::Hasher,
}

impl<'f> Integers<'f> {
    pub(super) fn new(file: &'f dyn DiskFile, at: u64, count: u32, width: u32) -> Self {
        Self { file, width, at, left: count, bytes: Vec::new(), read: 0, held: 0, hasher: blake3::Hasher::new() }
    }

    pub(super) fn next(&mut self) -> io::Result<Option<u32>> {
        if self.read == self.held {
            if self.left == 0 {
                return Ok(None);
            }
            (self.read, self.held) = (0, self.left.min(INTEGERS));
            self.left -= self.held;
            let len = (u64::from(self.held) * u64::from(self.width)).div_ceil(8);
            self.bytes.resize(usize::try_from(len).expect("at most 32 KiB"), 0);
            self.file.read(self.at, &mut self.bytes)?;
            self.hasher.update(&self.bytes);
            self.at += len;
        }
        let bit = usize::try_from(self.read * self.width).expect("32 bits fit");
        self.read += 1;
        Ok(Some(unpack(&self.bytes, bit, self.width)))
    }

    /// The hash of what was read.
    pub(super) fn hash(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }
}

/// A stretch of a file, for reads that go forwards: small where they are far apart, long where they follow each other.
#[derive(Debug)]
pub(super) struct Window<'f> {
    file: &'f dyn DiskFile,
    end: u64,
    at: u64,
    /// Those of `bytes` that were read; the others are left from before.
    held: usize,
    bytes: Vec<u8>,
}

impl<'f> Window<'f> {
    /// Over a section that ends at `end`.
    pub(super) const fn new(file: &'f dyn DiskFile, end: u64) -> Self {
        Self { file, end, at: 0, held: 0, bytes: Vec::new() }
    }

    /// The bytes from `from` on: `len` of them, or those there are before the end.
    #[inline]
    pub(super) fn get(&mut self, from: u64, len: usize) -> io::Result<&[u8]> {
        let len = len.min(len_of(self.end.saturating_sub(from)));
        if from < self.at || from + len as u64 > self.at + self.held as u64 {
            self.fill(from, len)?;
        }
        let start = len_of(from - self.at);
        Ok(&self.bytes[start..start + len])
    }

    #[inline(never)]
    fn fill(&mut self, from: u64, len: usize) -> io::Result<()> {
        let is_dense = from >= self.at && from < self.at + self.held as u64 + GAP_BYTES && self.held > 0;
        let ahead = if is_dense { BUFFER_BYTES } else { SPARSE_BYTES };
        let len = len.max(ahead.min(len_of(self.end.saturating_sub(from))));
        if self.bytes.len() < len {
            self.bytes.resize(len, 0);
        }
        (self.at, self.held) = (from, 0);
        self.file.read(from, &mut self.bytes[..len])?;
        self.held = len;
        Ok(())
    }
}

fn len_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
