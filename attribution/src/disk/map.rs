//! A file as bytes that the system reads when they are touched.

use std::{fs::File, io};

use memmap2::Mmap;

/// A mapped file.
pub(crate) struct Map(Mmap);

impl Map {
    /// Maps all of `file` for reading.
    #[allow(unsafe_code)]
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        // SAFETY: a mapping is sound as long as nobody changes the file under it. Segments lie in a folder of this process's user; this crate
        // writes each under another name and never opens one for writing again, and a newer one replaces the name, not the mapped file. Whoever
        // overwrites one by other means changes values that are checked wherever they are used as a place (`index::rows`, `index::query`);
        // cutting one short ends the process (SIGBUS), which no memory of ours survives in a state that could be used.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self(map))
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }
}
