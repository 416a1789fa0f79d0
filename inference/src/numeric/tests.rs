//! The definition itself: close to the exact values, its golden bits, and what fails a row.

use super::*;

/// Units in the last place between two doubles of one sign.
fn ulps64(a: f64, b: f64) -> u64 {
    a.to_bits().abs_diff(b.to_bits())
}

fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = crate::sampler::split_mix(state);
        f64::from(u32::try_from(state >> 32).unwrap()) / 4_294_967_296.0
    }
}

#[test]
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
fn the_exponential_is_within_two_units_of_the_exact_value() {
    let mut worst = 0.0f64;
    let mut check = |x: f32| {
        let exact = f64::from(x).exp();
        let unit = f64::from((exact as f32).next_up()) - f64::from(exact as f32);
        worst = worst.max((f64::from(exp(x)) - exact).abs() / unit);
    };
    let mut next = noise(1);
    (0..400_000).for_each(|_| check((next() * 175.0 - 87.0) as f32));
    (0..100_000).for_each(|_| check((next() * 2.0 - 1.0) as f32));
    println!("exp: {worst} units");
    assert!(worst < 2.0, "{worst} units");
}

#[test]
fn the_exponential_saturates_and_is_never_infinite_or_a_nan() {
    let (low, high) = (exp(-87.0), exp(88.0));
    for (x, expected) in [(-1e30, low), (f32::NEG_INFINITY, low), (1e30, high), (f32::INFINITY, high), (f32::NAN, high), (-f32::NAN, high)]
    {
        assert_eq!(exp(x).to_bits(), expected.to_bits(), "{x}");
    }
    assert!(low.is_normal() && high.is_normal());
    assert_eq!((exp(0.0), exp(-0.0)), (1.0, 1.0));
}

#[test]
fn double_precision_functions_are_within_their_bounds_of_the_machine_s_library() {
    let mut next = noise(2);
    let (mut exponential, mut logarithm, mut angle) = (0, 0, 0.0f64);
    for _ in 0..300_000 {
        let x = next() * 1_400.0 - 700.0;
        exponential = exponential.max(ulps64(exp64(x), x.exp()));
        let x = (next() * 200.0 - 100.0).exp() * (1.0 + next());
        logarithm = logarithm.max(ulps64(ln(x), x.ln()));
        let x = 0.5 + next();
        logarithm = logarithm.max(ulps64(ln(x), x.ln()));
        for x in [next() * 7.0, (next() - 0.5) * 6e7] {
            let (sin, cos) = sin_cos(x);
            angle = angle.max((sin - x.sin()).abs()).max((cos - x.cos()).abs());
        }
    }
    println!("exp64: {exponential}, ln: {logarithm} units; sin_cos: {angle:e}");
    assert!(exponential <= 2 && logarithm <= 2, "{exponential} {logarithm}");
    assert!(angle <= f64::EPSILON, "{angle:e}");
}

#[test]
fn functions_have_no_value_where_they_are_not_defined() {
    for x in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE / 2.0] {
        assert!(ln(x).is_nan(), "{x}");
    }
    for x in [33_554_432.0, f64::NAN, f64::INFINITY] {
        assert!(sin_cos(x).0.is_nan() && sin_cos(-x).1.is_nan(), "{x}");
    }
}

/// Golden bits: whatever changes them changes the profile.
#[test]
fn functions_have_their_golden_bits() {
    let singles = [
        (-87.0f32, 0x00b3_3687u32),
        (-1.0, 0x3ebc_5ab2),
        (-0.1, 0x3f67_a36d),
        (1e-6, 0x3f80_0008),
        (0.5, 0x3fd3_094c),
        (1.0, 0x402d_f854),
        (10.0, 0x46ac_14ee),
        (88.0, 0x7ef8_82b7),
    ];
    for (x, expected) in singles {
        assert_eq!(exp(x).to_bits(), expected, "e^{x}");
    }
    let doubles: [(&str, f64, u64); 12] = [
        ("ln", ln(1e-300), 0xc085_9634_47f8_7fb5),
        ("ln", ln(0.1), 0xc002_6bb1_bbb5_5515),
        ("ln", ln(0.999_999), 0xbeb0_c6f8_2d74_d230),
        ("ln", ln(2.0), 0x3fe6_2e42_fefa_39ef),
        ("ln", ln(1e300), 0x4085_9634_47f8_7fb5),
        ("exp", exp64(-700.0), 0x00d1_4f2b_0fb9_307f),
        ("exp", exp64(1.0), 0x4005_bf0a_8b14_576a),
        ("exp", exp64(700.0), 0x7f0d_945d_f4f8_ec8e),
        ("sin", sin_cos(0.5).0, 0x3fde_aee8_744b_05f0),
        ("cos", sin_cos(3.0).1, 0xbfef_ae04_be85_e5d2),
        ("sin", sin_cos(33_554_431.0).0, 0xbfd6_2a40_725b_6bf4),
        ("cos", sin_cos(33_554_431.0).1, 0xbfee_0505_ed05_495d),
    ];
    for (name, got, expected) in doubles {
        assert_eq!(got.to_bits(), expected, "{name}: {got}");
    }
}

/// BLAKE3 over the bits of many results.
#[test]
fn functions_have_their_golden_digests() {
    let digest = |words: &mut dyn Iterator<Item = u64>| {
        let mut hasher = blake3::Hasher::new();
        words.for_each(|word| {
            hasher.update(&word.to_le_bytes());
        });
        hasher.finalize().to_hex().to_string()
    };
    let mut next = noise(3);
    let mut every = (0..=u32::MAX).step_by(4_099).map(|x| u64::from(exp(f32::from_bits(x)).to_bits()));
    assert_eq!(digest(&mut every), "8889fa68be0cf47b14a7b632717f2748eb5fa6bce9db75a7cf8bef2739a0f39b", "exp");
    let mut logarithms = (0..200_000).map(|_| ln(next() + 1e-12).to_bits());
    assert_eq!(digest(&mut logarithms), "0753d37de1ca99bc7cf2365fec150fdd91f47dc1883a54b466bb13428a67ef3e", "ln");
    let mut exponentials = (0..200_000).map(|_| exp64(next() * 80.0 - 40.0).to_bits());
    assert_eq!(digest(&mut exponentials), "315fa11052772ff00b11a00c9a749a2436840b5e1a713af2cfcf88b9fa3409d3", "exp64");
    let mut angles = (0..100_000).flat_map(|_| {
        let (sin, cos) = sin_cos(next() * 131_072.0);
        [sin.to_bits(), cos.to_bits()]
    });
    assert_eq!(digest(&mut angles), "0827f8eae2413c37fc90769e3605f43b34c11a4d8b4fd06c3de819633fb4fbd4", "sin_cos");
    let turn = |pair: u32, at: u32| {
        let (cos, sin) = rope_angle(at * 17, rope_frequency(100_000.0, pair, 128));
        u64::from(cos.to_bits()) << 32 | u64::from(sin.to_bits())
    };
    let mut turns = (0..64u32).flat_map(|pair| (0..500u32).map(move |at| turn(pair, at)));
    assert_eq!(digest(&mut turns), "2685d9ceed4eda7aa3860305ed47b470783893c92f1b925b55732ca22c9105cf", "rotation");
}

/// BLAKE3 over codes, products, attention and adapters of the same noise: a rule that is changed changes the profile. The digests are
/// those of another implementation, `tests/fixtures/numeric_digests.py`.
#[test]
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
fn codes_products_and_attention_have_their_golden_digests() {
    let mut next = noise(4);
    let mut values = |count: usize, size: f64| -> Vec<f32> { (0..count).map(|_| ((next() - 0.4) * next() * size) as f32).collect() };
    let digest = |parts: &[&[f32]]| {
        let mut hasher = blake3::Hasher::new();
        parts.iter().flat_map(|part| part.iter()).for_each(|x| {
            hasher.update(&x.to_bits().to_le_bytes());
        });
        hasher.finalize().to_hex()[..16].to_owned()
    };
    let x = values(3 * 128, 40.0);
    let (mut codes, mut scales, mut sums, mut offsets) = (vec![0; 384], vec![0.0; 12], vec![0; 12], vec![0.0; 12]);
    let mut zeros = vec![Zero::default(); 12];
    let mut place = CodesMut { codes: &mut codes, scales: &mut scales, sums: &mut sums, offsets: &mut offsets };
    assert!(quantise_range(&x, 32, &mut place, &mut zeros));
    let back: Vec<f32> =
        codes.iter().enumerate().map(|(at, code)| small(i32::from(*code) + zeros[at / 32].zero()) * scales[at / 32]).collect();
    let inputs = digest(&[&back, &scales, &offsets]);
    let rows = CodeRows { rows: 3, columns: 128, group: 32, codes: &codes, scales: &scales, zeros: &zeros, sums: &sums, offsets: &offsets };
    let mut all = Vec::new();
    for (kind, seed) in [(Codes::U4 { min: true }, 1), (Codes::U4 { min: false }, 2), (Codes::S8, 3)] {
        let each = kind.group_bytes(32);
        let mut data: Vec<u8> = (0..5 * 4 * each).map(|at| u8::try_from((at * 37 + at / 7 * seed) % 251).unwrap()).collect();
        // Finite scales and minimums: the exponent's upper bit is cleared.
        data.chunks_exact_mut(each).for_each(|group| (group[1], group[3]) = (group[1] & 0xbf, group[3] & 0xbf));
        let mut out = vec![0.0; 15];
        product(&Matrix::new(5, 128, 32, kind, &data).unwrap(), &rows, &mut out);
        all.extend(out);
    }
    let products = digest(&[&all]);
    let (mut heads, mut head_scales, mut head_sums, mut head_offsets) = (vec![0; 16 * 202], vec![0.0; 202], vec![0; 202], vec![0.0; 202]);
    let mut place = CodesMut { codes: &mut heads, scales: &mut head_scales, sums: &mut head_sums, offsets: &mut head_offsets };
    assert!(quantise(&values(16 * 202, 9.0), 16, &mut place));
    let queries = Queries { codes: &heads[..32], scales: &head_scales[..2], sums: &head_sums[..2], factor: 0.25 };
    let (keys, rest) = heads[32..].split_at(1600);
    let (key_scales, value_scales) = head_scales[2..].split_at(100);
    let (mut scores, mut out) = (vec![0.0; 100], vec![0.0; 32]);
    attend(&queries, &Keys { keys, key_scales, values: rest, value_scales }, &mut scores, &mut out);
    let attention = digest(&[&out]);
    let (a, b) =
        (RowCodes { codes: &heads[..16 * 128], scales: &head_scales[..16] }, RowCodes { codes: &heads[..80], scales: &head_scales[..5] });
    let (mut ranks, mut added) = (vec![0.0; 16], values(5, 1.0));
    shrink(&a, &rows.row(1), &mut ranks);
    let (mut codes, mut scale) = (vec![0; 16], [0.0]);
    assert!(rank_codes(&ranks, &mut CodesMut { codes: &mut codes, scales: &mut scale, sums: &mut [0], offsets: &mut [0.0] }));
    expand(&b, &codes, scale[0], 0.7, &mut added);
    let adapters = digest(&[&ranks, &added]);
    assert_eq!([inputs, products, attention, adapters], ["9e705cb4b40c4e8c", "cf623de61d56e63c", "1b9107f8e2487a06", "1d0b76dc1da4b567"]);
}
