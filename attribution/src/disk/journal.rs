//! What of a build is done: a header that names the build, then a record for each group in the file, with the digest of what it wrote there.
//!
//! A record is appended when its group's bytes are on the disk. A journal of another build, or a damaged part of one, counts for nothing: that much is
//! done again.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
};

const RECORD_BYTES: usize = 4 + 32 + 8;
const SUM_BYTES: usize = 8;

/// A group, and the digest of what it wrote.
pub(super) type Done = (u32, [u8; 32]);

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    build: [u8; 32],
}

impl Journal {
    /// Reads `file`: the groups done of the build with this digest, of those of another none.
    pub(super) fn open(mut file: File, build: [u8; 32]) -> io::Result<(Self, Vec<Done>)> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let journal = Self { file, build };
        let records = bytes.strip_prefix(&build).unwrap_or_default().as_chunks::<RECORD_BYTES>().0;
        let done: Vec<_> = records.iter().map_while(|record| journal.read(record)).collect();
        Ok((journal, done))
    }

    /// Starts it anew with these groups.
    pub(super) fn restart(&mut self, done: &[Done]) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&self.build)?;
        done.iter().try_for_each(|(group, digest)| self.push(*group, *digest))
    }

    /// Notes that a group's bytes, with this digest, are on the disk.
    pub(super) fn push(&mut self, group: u32, digest: [u8; 32]) -> io::Result<()> {
        self.file.write_all(&self.record(group, &digest))?;
        self.file.sync_data()
    }

    fn record(&self, group: u32, digest: &[u8; 32]) -> [u8; RECORD_BYTES] {
        let mut record = [0; RECORD_BYTES];
        record[..4].copy_from_slice(&group.to_le_bytes());
        record[4..36].copy_from_slice(digest);
        let sum = blake3::keyed_hash(&self.build, &record[..36]);
        record[36..].copy_from_slice(&sum.as_bytes()[..SUM_BYTES]);
        record
    }

    fn read(&self, record: &[u8; RECORD_BYTES]) -> Option<Done> {
        let group = u32::from_le_bytes(*record.first_chunk()?);
        let mut digest = [0; 32];
        digest.copy_from_slice(&record[4..36]);
        (self.record(group, &digest) == *record).then_some((group, digest))
    }
}
