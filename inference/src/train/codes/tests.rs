use super::*;
use crate::sampler::split_mix;

/// Numbers from a seed.
struct Noise(u64);

impl Noise {
    fn bits(&mut self) -> u64 {
        self.0 = split_mix(self.0);
        self.0
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.bits() % count as u64).unwrap()
    }

    /// From -1 to 1.
    #[expect(clippy::cast_precision_loss, reason = "24 bits")]
    fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / 8_388_608.0 - 1.0
    }

    /// Values as activations have them: most near 0, a few far out, some rows of nothing.
    fn values(&mut self, count: usize) -> Vec<f32> {
        let scale = [1.0, 1e-20, 1e20, 0.0][self.below(4)];
        (0..count).map(|_| scale * self.unit() * if self.below(40) == 0 { 50.0 } else { 1.0 }).collect()
    }
}

/// The same product by a kernel and by plain code: codes, scales and results.
fn check(values: &[f32], weight: &[f32], outputs: usize, inputs: usize, seed: u64) {
    let expected = (CodeRows::new(values, inputs, &SCALAR), Panels::new(weight, outputs, inputs, &SCALAR));
    let product = bits(&expected.1.product(&expected.0, &SCALAR));
    for (number, kernel) in kernels().enumerate() {
        let what = || format!("seed {seed}: kernel {number} on {} rows of {inputs} to {outputs}", values.len() / inputs);
        let got = (CodeRows::new(values, inputs, kernel), Panels::new(weight, outputs, inputs, kernel));
        assert!(got.0.codes == expected.0.codes && bits(&got.0.scales) == bits(&expected.0.scales), "rows, {}", what());
        let flat = |panels: &Panels| bits(panels.scales.as_flattened());
        assert!(got.1.codes == expected.1.codes && flat(&got.1) == flat(&expected.1), "panels, {}", what());
        assert_eq!(bits(&got.1.product(&got.0, kernel)), product, "{}", what());
    }
}

/// Bits, where every value that is no number is the same.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| if value.is_nan() { u32::MAX } else { value.to_bits() }).collect()
}

#[test]
fn every_kernel_gives_the_bits_of_plain_code_on_any_shape() {
    let counts = [0, 1, 2, 7, 8, 9, 17];
    let widths = [1, 2, 3, 31, 47, 48, 49, 64, 127, 128, 129, 191, 256, 300];
    // More groups than a panel's block has.
    check(&Noise(1).values(3 * 2_200), &Noise(2).values(50 * 2_200), 50, 2_200, 0);
    for seed in 0..150 {
        let mut noise = Noise(seed);
        let (count, inputs, outputs) = (counts[noise.below(7)], widths[noise.below(14)], widths[noise.below(14)]);
        let (values, weight) = (noise.values(count * inputs), noise.values(outputs * inputs));
        check(&values, &weight, outputs, inputs, seed);
    }
}

#[test]
fn sums_of_the_largest_codes_do_not_overflow() {
    for sign in [1.0, -1.0] {
        let (values, weight) = (vec![3.0; 8 * 256], vec![sign * 0.5; 48 * 256]);
        check(&values, &weight, 48, 256, 0);
        let product = Panels::new(&weight, 48, 256, kernel()).product(&CodeRows::new(&values, 256, kernel()), kernel());
        assert!(product.iter().all(|sum| (sum / (sign * 384.0) - 1.0).abs() < 1e-6), "{}", product[0]);
    }
}

#[test]
fn a_value_that_is_no_number_is_seen_in_its_own_row_alone() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = vec![1.0; 9 * 130];
        values[3 * 130 + 129] = bad;
        let weight = vec![0.25; 50 * 130];
        check(&values, &weight, 50, 130, 0);
        let product = Panels::new(&weight, 50, 130, kernel()).product(&CodeRows::new(&values, 130, kernel()), kernel());
        for (row, sums) in product.chunks_exact(50).enumerate() {
            assert!(sums.iter().all(|sum| sum.is_nan() == (row == 3)), "row {row}");
        }
    }
}

#[test]
fn products_are_near_those_of_real_numbers() {
    let (count, inputs, outputs) = (5, 576, 96);
    let mut noise = Noise(4);
    let values: Vec<f32> = (0..count * inputs).map(|_| noise.unit()).collect();
    let weight: Vec<f32> = (0..outputs * inputs).map(|_| noise.unit()).collect();
    let got = Panels::new(&weight, outputs, inputs, kernel()).product(&CodeRows::new(&values, inputs, kernel()), kernel());
    for (row, got) in values.chunks_exact(inputs).zip(got.chunks_exact(outputs)) {
        for (weight, got) in weight.chunks_exact(inputs).zip(got) {
            let expected: f64 = row.iter().zip(weight).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            // A sum of 576 products of about 1/3 is about 8; each factor is rounded by at most 1/8190.
            assert!((f64::from(*got) - expected).abs() < 0.01, "{got} {expected}");
        }
    }
}

#[test]
fn the_way_back_is_the_product_with_the_transposed_matrix() {
    let (outputs, inputs) = (50, 131);
    let weight = Noise(9).values(outputs * inputs);
    let turned: Vec<f32> = (0..outputs * inputs).map(|at| weight[at % inputs * outputs + at / inputs]).collect();
    let (got, expected) = (Panels::transposed(&weight, outputs, inputs, &SCALAR), Panels::new(&turned, outputs, inputs, &SCALAR));
    assert!(got.codes == expected.codes && got.scales == expected.scales);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let mut noise = Noise(2);
    let (values, weight) = (noise.values(67 * 150), noise.values(100 * 150));
    let product = || bits(&Panels::new(&weight, 100, 150, kernel()).product(&CodeRows::new(&values, 150, kernel()), kernel()));
    let with = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(product);
    assert_eq!(with(1), with(3));
}
