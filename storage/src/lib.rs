//! Bytes at rest and their proof: Datanets, shards, erasure-coded fragments, and the store that keeps them.
//!
//! - [`datanet`]: what a contributor brings. [`datanet::read`] turns JSONL or text into documents, [`datanet::Datanet::gate`] says which
//!   rows may not enter and how to mend them, [`datanet::shard`] is the file that travels.
//! - `formats` (feature `formats`, on by default): JSONL, CSV, Parquet, Markdown and text, row by row, and out again.
//! - [`erasure`]: shard to fragments and back; an [`erasure::ObjectManifest`] names every fragment by hash, so nothing is believed unhashed.
//! - [`proto`]: pure state machines and messages: where fragments live, how they are served, how they are fetched and who sent a bad one.
//! - [`seal`]: private Datanets: sealed segments, keys for members, the log of grants and reads.
//! - `store` (feature `disk`, on by default): append-only segments and a redb index; what `put` returned for survives a power cut.
//!
//! Never here: connections, payments, clocks, and any size or hash taken on trust. Everything outside `store` is pure: bytes and
//! [`types::time::Time`] go in, bytes and decisions come out.
//!
//! ```
//! use storage::{datanet::{Document, shard}, erasure::{self, Profile}};
//! let documents = [Document::new(None, Some("Ataxia".into()), b"A loss of the coordination of movements.")?];
//! let file = shard::encode(&documents)?;
//! let encoded = erasure::encode(&file, shard::decode(&file)?.text_root(), Profile::DEVNET)?;
//! // Any three of the five fragments give the file back, each checked against the manifest first.
//! let manifest = encoded.manifest;
//! let fragments = [4, 0, 2].map(|i| manifest.verify(i, encoded.fragments[usize::from(i)].clone())).into_iter().collect::<Result<Vec<_>, _>>()?;
//! assert_eq!(erasure::reconstruct(&manifest, &fragments)?, file);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod blob;
pub mod datanet;
pub mod erasure;
#[cfg(feature = "formats")]
pub mod formats;
mod lanes;
pub mod proto;
pub mod seal;
#[cfg(feature = "disk")]
pub mod store;
