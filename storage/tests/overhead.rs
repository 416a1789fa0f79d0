//! What keeping an object costs on the disks of all its holders: figure `storage.overhead`.
//!
//! Real fragments at 16 of 48 go into 48 stores, one each, and the bytes of all their files are divided by the objects'. An index file has 1 MiB before it
//! holds anything, so that a store of few fragments says nothing of a holder's: it counts with what it takes for each of 3,000 fragments
//! ([`INDEX_BYTES`]), or with what it grew by if that is more, and the empty one is told apart. `cargo test -p storage --test overhead -- --nocapture` prints a row per size.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::path::Path;

use storage::{
    erasure::{Profile, encode},
    store::{Config, Store},
};
use types::id::Hash32;

/// The figure to reach.
const LIMIT: f64 = 3.05;
/// Bytes of index for a fragment and its manifest; the store's own tests hold it to that at 3,000 fragments.
const INDEX_BYTES: u64 = 720;
const MIB: usize = 1 << 20;

/// Bytes of segments and of the index in a store's folder.
fn on_disk(folder: &Path) -> (u64, u64) {
    let mut bytes = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let len = entry.metadata().unwrap().len();
        match entry.file_name().to_str().unwrap() {
            name if name.ends_with(".seg") => bytes.0 += len,
            "index.redb" => bytes.1 += len,
            _ => {}
        }
    }
    bytes
}

fn noise(object: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&object.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// One size's row.
struct Measured {
    /// Segments of all holders over the objects' bytes.
    segments: f64,
    /// The same with the index.
    all: f64,
    /// Bytes of an index that holds nothing.
    empty_index: u64,
}

fn measure(length: usize, objects: usize) -> Measured {
    let profile = Profile::for_operators(96);
    let folder = tempfile::tempdir().unwrap();
    let folders: Vec<_> = (0..profile.total()).map(|holder| folder.path().join(holder.to_string())).collect();
    let stores: Vec<_> = folders.iter().map(|folder| Store::open(folder, Config::default()).unwrap()).collect();
    let empty_index = folders.iter().map(|folder| on_disk(folder).1).max().unwrap();
    for object in 0..objects {
        let encoded = encode(&noise(object, length), Hash32::ZERO, profile).unwrap();
        for ((store, index), bytes) in stores.iter().zip(0..).zip(encoded.fragments) {
            let fragment = encoded.manifest.verify(index, bytes).unwrap();
            store.put_fragment(&encoded.manifest, &fragment).unwrap();
        }
    }
    drop(stores);
    let (segments, indices) = folders.iter().map(|folder| on_disk(folder)).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let bytes = (length * objects) as f64;
    let grown = indices.saturating_sub(empty_index * u64::from(profile.total()));
    let counted = INDEX_BYTES * u64::from(profile.total()) * u64::try_from(objects).unwrap();
    Measured { segments: segments as f64 / bytes, all: (segments + grown.max(counted)) as f64 / bytes, empty_index }
}

#[test]
fn keeping_an_object_costs_at_most_three_and_a_twentieth_of_its_bytes_from_four_mebibytes_on() {
    for (length, objects, is_within) in [(64 * MIB, 1, true), (4 * MIB, 2, true), (MIB, 2, false), (64 << 10, 2, false)] {
        let Measured { segments, all, empty_index } = measure(length, objects);
        let size = length >> 10;
        println!(
            "{{\"figure\":\"storage.overhead.{size}kib\",\"ours\":{all:.4},\"unit\":\"x\",\"limit\":{LIMIT},\"segments\":{segments:.4},\"empty_index_bytes\":{empty_index}}}"
        );
        assert_eq!(all <= LIMIT, is_within, "{size} KiB: {all:.4}");
        // 48 manifests of 3,151 bytes are what a small object drowns in.
        let expected = 3.0 + 48.0 * (3_151.0 + 84.0 + 84.0 + 12.0 / objects as f64) / length as f64;
        assert!((segments - expected).abs() < 0.001, "{size} KiB: {segments:.4}, computed {expected:.4}");
    }
}
