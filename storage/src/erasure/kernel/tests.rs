use proptest::prelude::*;
use reed_solomon_erasure::galois_8::ReedSolomon;

use super::{super::field::Matrix, *};

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
            }
        }
    }
}

#[test]
#[should_panic(expected = "inputs of one length")]
fn inputs_of_different_lengths_are_a_caller_s_mistake() {
    Combination::new(Path::best(), &[1, 1], 2).apply(&[&[1, 2], &[3]], &mut [&mut [0; 2]]);
}

proptest! {
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
