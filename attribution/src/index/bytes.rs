//! Where a segment's bytes are.

use std::fmt;

/// What one search of many texts has asked for.
#[cfg(feature = "disk")]
pub(crate) use crate::disk::Asked;
/// What one search of many texts has asked for: nothing, since all is in memory.
#[cfg(not(feature = "disk"))]
#[derive(Debug, Default)]
pub(crate) struct Asked {}

/// The bytes of a segment.
pub(crate) enum Bytes {
    /// Here.
    Memory(Vec<u8>),
    /// In a file that the system reads page by page.
    #[cfg(feature = "disk")]
    Mapped(crate::disk::Map),
}

impl Bytes {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
            #[cfg(feature = "disk")]
            Self::Mapped(map) => map.as_slice(),
        }
    }

    /// Whether they lie in a file.
    pub(crate) const fn is_mapped(&self) -> bool {
        match self {
            Self::Memory(_) => false,
            #[cfg(feature = "disk")]
            Self::Mapped(_) => true,
        }
    }

    /// Says that so many bytes at each of these places will be read next: what lies on a disk is fetched at once.
    pub(crate) fn want(&self, asked: &mut Asked, places: impl Iterator<Item = usize> + Clone, bytes: usize) {
        match self {
            Self::Memory(_) => drop((asked, places, bytes)),
            #[cfg(feature = "disk")]
            Self::Mapped(map) => map.want(asked, places, bytes),
        }
    }

    /// Says whether all will be read from the first byte to the last, or some here and there.
    pub(crate) fn read_in_order(&self, is_so: bool) {
        match self {
            Self::Memory(_) => _ = is_so,
            #[cfg(feature = "disk")]
            Self::Mapped(map) => map.read_in_order(is_so),
        }
    }

    /// Whether they are those that were opened, as far as who keeps them knows without reading.
    pub(crate) fn is_unwritten(&self) -> bool {
        match self {
            Self::Memory(_) => true,
            #[cfg(feature = "disk")]
            Self::Mapped(map) => map.is_unwritten(),
        }
    }

    /// What their file was known by when it was opened.
    #[cfg(feature = "disk")]
    pub(crate) const fn stamp(&self) -> Option<crate::disk::Stamp> {
        match self {
            Self::Memory(_) => None,
            Self::Mapped(map) => Some(map.stamp()),
        }
    }

    /// Bytes of memory that are this process's alone.
    pub(crate) const fn memory_bytes(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.capacity(),
            #[cfg(feature = "disk")]
            Self::Mapped(_) => 0,
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.as_slice().len())
    }
}
