use proptest::prelude::*;

use super::*;

/// Numbers from a seed: exponents spread as those of a last norm, no two rows alike.
fn rows(seed: u64, count: usize, width: usize) -> Vec<Vec<f32>> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let unit = f32::from(u16::try_from(state >> 48).unwrap()) / 32_768.0 - 1.0;
        // Cubed, so that a few are much larger than most.
        20.0 * unit * unit * unit
    };
    (0..count).map(|_| (0..width).map(|_| next()).collect()).collect()
}

fn largest(rows: &[Vec<f32>]) -> Largest {
    let mut largest = Largest::new(rows[0].len());
    rows.iter().for_each(|row| largest.push(row.iter().copied()));
    largest
}

#[test]
fn the_field_is_one() {
    assert!((2..256).all(|divisor| !FIELD.is_multiple_of(divisor)), "no prime up to the root of 65,497 divides it");
    for a in [1, 2, 255, 40_000, FIELD - 1] {
        assert_eq!(times(a, inverse(a)), 1);
    }
}

#[test]
fn numbers_are_rounded_to_the_nearest_bfloat16_halves_to_even() {
    for (value, expected) in [
        (1.0, 0x3f80),
        (-1.0, 0xbf80),
        (f32::from_bits(0x3f80_8000), 0x3f80),
        (f32::from_bits(0x3f81_8000), 0x3f82),
        (f32::from_bits(0x3f80_8001), 0x3f81),
        (f32::MAX, 0x7f80),
        (0.0, 0),
        (f32::NAN, 0x7fc0),
        (f32::NEG_INFINITY, 0xff80),
    ] {
        assert_eq!(bits(value), expected, "{value}");
    }
}

#[test]
fn the_largest_of_all_rows_are_those_of_a_plain_sort() {
    for (seed, count, width) in [(1, 32, 576), (2, 7, 64), (3, 1, 64), (4, 33, 200), (5, 64, 1)] {
        let rows = rows(seed, count, width);
        let found: Vec<Vec<Point>> = largest(&rows).points(count).collect();
        let plain = rows.chunks(32).map(|chunk| {
            let mut all: Vec<Point> = (0..).zip(chunk.iter().flatten().map(|value| bits(*value))).collect();
            all.sort_by_key(|(index, bits)| (std::cmp::Reverse(bits & 0x7fff), *index));
            all.truncate(TOP);
            all
        });
        assert_eq!(found, plain.collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn of_equal_magnitudes_the_first_stand_in_a_fingerprint() {
    let rows = vec![vec![1.5; 100], vec![-1.5; 100]];
    let points: Vec<Point> = largest(&rows).points(2).next().unwrap();
    let expected: Vec<Point> = (0..100).map(|index| (index, 0x3fc0)).chain((100..128).map(|index| (index, 0xbfc0))).collect();
    assert_eq!(points, expected);
}

#[test]
fn a_polynomial_goes_through_its_points_and_a_modulus_keeps_them_apart() {
    let apart = vec![(3, 17), (3 + FIELD, 40_000), (3 + 2 * FIELD, 5)];
    assert_eq!(modulus(&apart), FIELD - 1);
    for points in [apart, vec![(9, 0)], largest(&rows(8, 32, 8_192)).points(32).next().unwrap()] {
        let made = fingerprint(&points);
        for (index, bits) in &points {
            let at = index % u32::from(made.modulus());
            assert_eq!(horner(made.coefficients().rev().map(u32::from), at), u32::from(*bits));
        }
        let distance = compare(&made, &points);
        assert_eq!((distance.exponents, distance.mantissas, distance.is_near()), (0, 0, true));
    }
    let same = vec![(5, 1), (5, 2)];
    assert_eq!((fingerprint(&same).modulus(), compare(&fingerprint(&same), &same).is_near()), (0, false));
}

#[test]
fn rounding_is_near_and_another_models_numbers_are_far() {
    let honest = rows(11, 40, 576);
    let made = largest(&honest).fingerprints(40);
    assert_eq!(made.len(), 2);
    let moved = |part: f32| -> Vec<Vec<f32>> {
        let turned = |(at, value): (usize, &f32)| value * (1.0 + part * if at.is_multiple_of(2) { 1.0 } else { -1.0 });
        honest.iter().map(|row| row.iter().enumerate().map(turned).collect()).collect()
    };
    assert_eq!(compare_all(&made, &largest(&moved(0.003))).far(), None);
    assert_eq!(compare_all(&made, &largest(&moved(0.4))).far(), Some(0));
    assert_eq!(compare_all(&made, &largest(&rows(12, 40, 576))).far(), Some(0));
    // A mantissa that is off by much where all exponents agree is seen by mean and median.
    let points = [(1, 0x3f80), (2, 0x3f80), (3, 0x3f80)];
    let off = |by: u16| compare(&fingerprint(&points.map(|(index, bits)| (index, bits + by))), &points);
    assert_eq!((off(8).is_near(), off(9).is_near(), off(9).exponents), (true, false, 0));
}

#[test]
fn an_answer_with_a_fingerprint_too_few_or_too_many_does_not_pass() {
    let rows = rows(5, 65, 64);
    let own = largest(&rows);
    let made = own.fingerprints(usize::MAX);
    assert_eq!((made.len(), compare_all(&made, &own).far()), (3, None));
    assert_eq!(made[..2], own.fingerprints(64)[..]);
    assert_eq!(compare_all(&made[..2], &own).far(), Some(2));
    assert_eq!(compare_all(&[made.clone(), made.clone()].concat(), &own).far(), Some(3));
    assert_eq!(compare_all(&[], &own).far(), Some(0));
    // One token is 64 numbers here, which another count of numbers is not compared with.
    assert_eq!(compare_all(&[made[0].clone(), made[1].clone(), made[1].clone()], &own).far(), Some(2));
    // A receipt of fewer tokens has a last one of those alone.
    assert_eq!(own.fingerprints(40), largest(&rows[..40]).fingerprints(99));
}

#[test]
fn reserved_positions_are_taken_in_without_moving() {
    let rows = rows(6, 3, 576);
    let mut largest = Largest::new(576);
    largest.reserve(3);
    let (place, room) = (largest.entries.as_ptr(), largest.row.as_ptr());
    rows.iter().for_each(|row| largest.push(row.iter().copied()));
    assert_eq!((largest.entries.as_ptr(), largest.row.as_ptr(), largest.positions()), (place, room, 3));
}

proptest! {
    #[test]
    fn any_fingerprint_is_compared_without_a_panic(modulus in 0u16..=PRIME, coefficients in prop::collection::vec(0u16..PRIME, 1..=TOP), seed: u64) {
        let claimed = Fingerprint::new(modulus, &coefficients).unwrap();
        for points in largest(&rows(seed, 3, 64)).points(3) {
            let distance = compare(&claimed, &points);
            prop_assert!(distance.exponents <= distance.numbers);
            prop_assert!(!distance.is_near(), "by chance one in 10^60");
        }
    }
}
