//! Segments as files: written once, mapped, opened in microseconds, built in a given memory.
//!
//! A file holds the very bytes that a segment has in memory ([`crate::index`], P5). It is written under another name, synchronised and renamed, and never
//! changed after: whoever finds it damaged builds it again from the contributions, and gets the same bytes.

mod build;
mod code;
mod file;
mod journal;
mod map;
mod sort;
mod spill;
mod starts;

pub use build::{BuildFileError, BuildOptions, OwnedEntry, Progress, build_segment};
pub use file::{OpenError, open_segment, write_segment};
pub use map::Stamp;
pub(crate) use map::{Asked, Map};
