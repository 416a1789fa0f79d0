//! Packed files: what is written is read, and nothing else.

use proptest::prelude::*;

use crate::adapter::store::tests::{adapter, parts, tiny_model};

use super::*;

fn encoded(rank: usize) -> (Vec<u8>, ModelInfo) {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let packed = Packed8::read(&adapter(folder.path(), rank, 7), &model).unwrap();
    (packed.encode(model.hash), model)
}

/// Puts the right digest into a changed file.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() > FRONT {
        let digest = blake3::hash(&bytes[MAGIC.len() + 32..]);
        bytes[MAGIC.len()..][..32].copy_from_slice(digest.as_bytes());
    }
    bytes
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    for rank in [1, 4, 16, 17, 256] {
        let packed = Packed8::read(&adapter(folder.path(), rank, 3), &model).unwrap();
        let bytes = packed.encode(model.hash);
        let read = Packed8::decode(&bytes, &model).unwrap();
        assert_eq!((parts(&read), read.info(), read.bytes()), (parts(&packed), packed.info(), packed.bytes()), "rank {rank}");
        let (head, end) = Head::parse(&bytes[..bytes.len().min(HEAD_BYTES_MAX)], &model).unwrap();
        assert_eq!((head.info(&model), end as u64 + head.matrix_bytes(&model)), (packed.info().clone(), bytes.len() as u64));
    }
}

#[test]
fn another_base_another_version_and_every_changed_byte_are_refused() {
    let (bytes, model) = encoded(4);
    let other = ModelInfo { hash: [9; 32], ..model.clone() };
    assert_eq!(Packed8::decode(&bytes, &other).unwrap_err(), PackedFileError::OtherBase(model.hash));
    let mut next = bytes.clone();
    next[7] = b'2';
    assert_eq!(Packed8::decode(&next, &model).unwrap_err(), PackedFileError::Version);
    for at in (0..bytes.len()).step_by(97).chain(0..200) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(Packed8::decode(&changed, &model).is_err(), "byte {at}");
        assert!(Packed8::decode(&bytes[..at], &model).is_err(), "cut at {at}");
    }
    assert!(Packed8::decode(&[bytes.as_slice(), &[0]].concat(), &model).is_err());
}

#[test]
fn a_long_name_is_cut_between_its_letters() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let packed = Packed8::read(&adapter(folder.path(), 1, 3), &model).unwrap();
    let long = AdapterInfo { name: "é".repeat(200), ..packed.info().clone() };
    let packed = Packed8::from_pairs(packed.into_pairs(), long);
    let read = Packed8::decode(&packed.encode(model.hash), &model).unwrap();
    assert_eq!(read.info().name, "é".repeat(127));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Also where the digest is right: whatever the head says, lengths are checked before anything is allocated.
    #[test]
    fn decoding_never_panics(changes in prop::collection::vec((0usize..400, any::<u8>()), 0..8), cut in prop::option::of(0usize..3_000), any in prop::collection::vec(any::<u8>(), 0..200)) {
        static WHOLE: std::sync::OnceLock<(Vec<u8>, ModelInfo)> = std::sync::OnceLock::new();
        let (whole, model) = WHOLE.get_or_init(|| encoded(2));
        let mut bytes = whole.clone();
        for (at, value) in changes {
            bytes[at] = value;
        }
        bytes.truncate(cut.unwrap_or(usize::MAX));
        for bytes in [sealed(bytes), [MAGIC.as_slice(), &any].concat(), any] {
            let _ = Packed8::decode(&bytes, model);
        }
    }
}
