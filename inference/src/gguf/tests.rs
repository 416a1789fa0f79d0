use super::*;
use proptest::prelude::*;

/// A header with one metadata entry and one 2 x 32 Q8_0 tensor.
fn sample() -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend(1u64.to_le_bytes());
    out.extend(1u64.to_le_bytes());
    text(&mut out, "general.name");
    out.extend(8u32.to_le_bytes());
    text(&mut out, "sample");
    text(&mut out, "w");
    out.extend(2u32.to_le_bytes());
    out.extend(32u64.to_le_bytes());
    out.extend(2u64.to_le_bytes());
    out.extend(8u32.to_le_bytes());
    out.extend(0u64.to_le_bytes());
    out.resize(out.len().next_multiple_of(32), 0);
    for row in [1i8, -2] {
        out.extend(half_one());
        out.extend([row.to_le_bytes()[0]; 32]);
    }
    out
}

fn text(out: &mut Vec<u8>, value: &str) {
    out.extend((value.len() as u64).to_le_bytes());
    out.extend(value.as_bytes());
}

fn half_one() -> [u8; 2] {
    0x3c00u16.to_le_bytes()
}

fn parse(bytes: &[u8]) -> Result<Header, GgufError> {
    Header::parse(bytes, bytes.len() as u64)
}

#[test]
fn a_tensor_is_read_and_dequantised() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    std::fs::write(&path, sample()).unwrap();
    let file = GgufFile::open(&path).unwrap();
    assert_eq!(file.header().text("general.name").unwrap(), "sample");
    let values = file.tensor("w", &[2, 32]).unwrap();
    assert_eq!(values[..32], [1.0; 32]);
    assert_eq!(values[32..], [-2.0; 32]);
    assert_eq!(file.hash().unwrap(), *blake3::hash(&sample()).as_bytes());
}

#[test]
fn every_prefix_of_a_file_is_refused_by_name() {
    let bytes = sample();
    for len in 0..bytes.len() {
        match parse(&bytes[..len]) {
            Err(GgufError::Truncated { field, need, have, .. }) => {
                assert!(!field.is_empty() && need > have, "prefix of {len}");
            }
            other => panic!("prefix of {len} gave {other:?}"),
        }
    }
}

#[test]
fn an_oversized_count_names_field_offset_and_limit() {
    let mut bytes = sample();
    bytes[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    let error = parse(&bytes).unwrap_err();
    assert!(
        matches!(&error, GgufError::TooLarge { field, offset: 16, limit: METADATA_ENTRIES_MAX, .. } if field == "metadata count"),
        "{error}"
    );
}

#[test]
fn a_string_longer_than_the_file_is_refused_before_it_is_allocated() {
    let mut bytes = sample();
    bytes[24..32].copy_from_slice(&500_000u64.to_le_bytes());
    let error = parse(&bytes).unwrap_err();
    assert!(matches!(error, GgufError::Truncated { offset: 32, need: 500_000, .. }), "{error}");
}

#[test]
fn another_type_and_another_version_are_refused() {
    let mut bytes = sample();
    let at = bytes.len() - 68 - 32 + (bytes.len() % 32);
    let type_at = (0..bytes.len() - 12).find(|&i| bytes[i..i + 12] == [8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] && i > 60).unwrap_or(at);
    bytes[type_at] = 12;
    assert!(matches!(parse(&bytes), Err(GgufError::UnsupportedType { type_id: 12, .. })));
    bytes[4] = 1;
    assert!(matches!(parse(&bytes), Err(GgufError::Version { got: 1 })));
}

proptest! {
    #[test]
    fn parsing_never_panics(flips in prop::collection::vec((0usize..200, any::<u8>()), 1..8)) {
        let mut bytes = sample();
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        let _ = parse(&bytes);
    }

    #[test]
    fn parsing_noise_never_panics(tail in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(tail);
        let _ = parse(&bytes);
    }
}
