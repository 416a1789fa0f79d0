use proptest::prelude::*;
use reed_solomon_erasure::galois_8::ReedSolomon;

use super::{
    super::field::Matrix,
    transform::{PAST_CACHES, Writer},
    *,
};

fn noise(len: usize, salt: u8) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new_derive_key("noise").update(&[salt]).finalize_xof().fill(&mut bytes);
    bytes
}

fn slices(all: &mut [Vec<u8>]) -> Vec<&mut [u8]> {
    all.iter_mut().map(Vec::as_mut_slice).collect()
}

fn available() -> impl Iterator<Item = Path> {
    Path::ALL.into_iter().filter(|path| path.is_available())
}

#[test]
fn every_path_multiplies_every_byte_by_every_constant() {
    let every: Vec<u8> = (0..=255).collect();
    for constant in 0..=255 {
        for path in available() {
            let mut output = vec![1; 256];
            Combination::new(path, &[constant], 1).apply(&[&every], &mut [&mut output]);
            let expected: Vec<u8> = every.iter().map(|byte| mul(constant, *byte)).collect();
            assert_eq!(output, expected, "{path:?} times {constant}");
        }
    }
}

#[test]
fn every_path_encodes_as_the_library_does_at_every_length_around_its_vectors() {
    for (data, total) in [(3_u8, 5_u8), (3, 9), (4, 12), (10, 30), (16, 48)] {
        let library = ReedSolomon::new(data.into(), usize::from(total - data)).unwrap();
        let code = Matrix::systematic(data, total);
        let cells = &code.cells()[usize::from(data) * usize::from(data)..];
        for length in [1, 31, 32, 33, 63, 64, 65, 127, 128, 129, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 97] {
            let mut fragments: Vec<Vec<u8>> =
                (0..total).map(|salt| if salt < data { noise(length, salt) } else { vec![0; length] }).collect();
            library.encode(&mut fragments).unwrap();
            let inputs: Vec<&[u8]> = fragments[..data.into()].iter().map(Vec::as_slice).collect();
            for path in available() {
                // What stood there before has no part in the result.
                let mut outputs = vec![vec![0xa5; length]; (total - data).into()];
                Combination::new(path, cells, data.into()).apply(&inputs, &mut slices(&mut outputs));
                assert!(outputs == fragments[data.into()..], "{path:?}, {data} of {total}, {length} bytes");
                let transform = Transform::new(path, data, total);
                assert_eq!(transform.is_some(), matches!(data, 4 | 16), "{data} of {total}");
                if let Some(transform) = transform {
                    outputs.iter_mut().for_each(|output| output.fill(0x5a));
                    transform.apply(&inputs, &mut slices(&mut outputs));
                    assert!(outputs == fragments[data.into()..], "{path:?}, {data} of {total} by transform, {length} bytes");
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "inputs of one length")]
fn inputs_of_different_lengths_are_a_caller_s_mistake() {
    Combination::new(Path::best(), &[1, 1], 2).apply(&[&[1, 2], &[3]], &mut [&mut [0; 2]]);
}

#[test]
#[should_panic(expected = "outputs likewise")]
fn parity_of_too_few_fragments_is_a_caller_s_mistake() {
    Transform::new(Path::best(), 4, 12).unwrap().apply(&[&[1_u8][..]; 4], &mut slices(&mut vec![vec![0]; 7]));
}

#[test]
fn a_large_object_s_parity_is_the_library_s() {
    // One byte more than whole tiles, and the least that is written past the caches.
    let length = PAST_CACHES / 32 + 1;
    let mut fragments: Vec<Vec<u8>> = (0..48).map(|salt| if salt < 16 { noise(length, salt) } else { vec![0; length] }).collect();
    ReedSolomon::new(16, 32).unwrap().encode(&mut fragments).unwrap();
    let inputs: Vec<&[u8]> = fragments[..16].iter().map(Vec::as_slice).collect();
    let mut outputs = vec![vec![0xa5; length]; 32];
    Transform::new(Path::best(), 16, 48).unwrap().apply(&inputs, &mut slices(&mut outputs));
    assert!(outputs == fragments[16..]);
}

#[test]
fn what_is_written_past_the_caches_arrives_at_any_place_and_length() {
    let from = noise(700, 1);
    for start in 0..65 {
        for length in [0, 1, 15, 16, 63, 64, 65, 128, 129, 512, 600] {
            let mut place = vec![7; 700];
            Writer::new(PAST_CACHES).write(&mut place[start..start + length], &from[..length]);
            let expected = [&vec![7; start], &from[..length], &vec![7; 700 - start - length]].concat();
            assert!(place == expected, "{length} bytes at {start}");
        }
    }
}

proptest! {
    #[test]
    fn a_transform_gives_what_the_matrix_gives_at_any_length(wide in any::<bool>(), length in 0..2_000_usize, salt in any::<u8>()) {
        let (data, total) = if wide { (16, 48) } else { (4, 12) };
        let inputs: Vec<Vec<u8>> = (0..data).map(|at| noise(length, salt.wrapping_add(at))).collect();
        let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        let code = Matrix::systematic(data, total);
        let mut expected = vec![vec![0; length]; usize::from(total - data)];
        let lower = &code.cells()[usize::from(data) * usize::from(data)..];
        Combination::new(Path::Scalar, lower, data.into()).apply(&inputs, &mut slices(&mut expected));
        for path in available() {
            let mut outputs = vec![vec![1; length]; expected.len()];
            Transform::new(path, data, total).unwrap().apply(&inputs, &mut slices(&mut outputs));
            prop_assert!(outputs == expected, "{:?}", path);
        }
    }

    #[test]
    fn paths_agree_on_any_matrix_and_length(rows in 1..20_usize, columns in 1..20_usize, length in 0..300_usize, salt in any::<u8>()) {
        let inputs: Vec<Vec<u8>> = (0..columns).map(|at| noise(length, salt.wrapping_add(u8::try_from(at).unwrap()))).collect();
        let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        let cells = noise(rows * columns, salt.wrapping_mul(3));
        let run = |path| {
            let mut outputs = vec![vec![0; length]; rows];
            Combination::new(path, &cells, columns).apply(&inputs, &mut slices(&mut outputs));
            outputs
        };
        let expected = run(Path::Scalar);
        for path in available() {
            prop_assert!(run(path) == expected, "{:?}", path);
        }
    }
}
