//! Fingerprints of activations, against the package whose bytes they have (`tests/fixtures/toploc/make.py`).
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use inference::verify::fingerprint::{Distance, Largest, bits, compare};
use serde::Deserialize;
use types::fingerprint::{Fingerprint, POSITIONS, TOP};

#[derive(Deserialize)]
struct File {
    made_with: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    seed: u64,
    rows: usize,
    width: usize,
    marked: bool,
    moved: f32,
    fingerprints: Vec<Fingerprint>,
    found_by_torch: Vec<bool>,
    near: Vec<Option<[u32; 3]>>,
    far: Vec<Option<[u32; 3]>>,
}

/// The script's stream, with 128 numbers of each 32 rows made much larger than the others if they are `marked`.
fn rows(seed: u64, case: &Case) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let unit = f32::from(u16::try_from(state >> 48).unwrap()) / 32_768.0 - 1.0;
        20.0 * unit * unit * unit
    };
    let mut made: Vec<f32> = (0..case.rows * case.width).map(|_| next()).collect();
    for part in made.chunks_mut(usize::try_from(POSITIONS).unwrap() * case.width).filter(|part| case.marked && part.len() >= TOP) {
        let (step, seed) = (part.len() / TOP, usize::try_from(seed).unwrap());
        for number in 0..TOP {
            let place = &mut part[number * step + (number * number * 7_919 + seed * 31) % step];
            *place += f32::from(256u16 << (number % 3)) * if *place >= 0.0 { 1.0 } else { -1.0 };
        }
    }
    made
}

fn moved(rows: &[f32], case: &Case) -> Vec<f32> {
    let sign = |at: usize| if (at % case.width).is_multiple_of(2) { 1.0 } else { -1.0 };
    rows.iter().enumerate().map(|(at, value)| value * (1.0 + case.moved * sign(at))).collect()
}

fn largest(rows: &[f32], case: &Case) -> Largest {
    let mut largest = Largest::new(case.width);
    rows.chunks(case.width).for_each(|row| largest.push(row.iter().copied()));
    largest
}

/// The package's three numbers of each fingerprint.
fn distances(fingerprints: &[Fingerprint], own: &Largest) -> Vec<[u32; 3]> {
    let numbers = |Distance { exponents, mantissas, median, .. }| [exponents, mantissas, median];
    fingerprints.iter().zip(own.points(usize::MAX)).map(|(made, points)| numbers(compare(made, &points))).collect()
}

#[test]
fn fingerprints_are_the_bytes_that_toploc_makes_and_comparisons_its_counts() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/toploc/vectors.json");
    let file: File = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert!(file.made_with.starts_with("toploc 0.1.6"), "{}", file.made_with);
    let (mut of_torch, mut verdicts, mut moduli) = (0, 0, 0);
    for case in &file.cases {
        let own = rows(case.seed, case);
        let made = largest(&own, case).fingerprints(usize::MAX);
        assert_eq!(made, case.fingerprints, "seed {}", case.seed);
        for (other, expected) in [(moved(&own, case), &case.near), (rows(case.seed + 1_000, case), &case.far)] {
            let found = distances(&made, &largest(&other, case));
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected).filter_map(|(found, expected)| Some((found, (*expected)?))) {
                assert_eq!(*found, expected, "seed {}", case.seed);
                verdicts += 1;
            }
        }
        of_torch += case.found_by_torch.iter().filter(|own| **own).count();
        moduli += made.iter().filter(|made| made.modulus() != types::fingerprint::PRIME).count();
    }
    assert!(of_torch > 12 && verdicts > 24 && moduli > 1, "{of_torch} by torch, {verdicts} verdicts, {moduli} of a smaller modulus");
}

#[test]
fn what_a_prover_rounds_is_what_the_package_reads() {
    // `torch.tensor([0.1, -3.3, 65504.0]).bfloat16().view(torch.uint16)`
    assert_eq!([0.1, -3.3, 65_504.0].map(bits), [0x3dcd, 0xc053, 0x4780]);
}
