//! Every path of the CPU has the bits of `numeric`, on random shapes and on the extremes.
#![expect(clippy::cast_possible_truncation, reason = "small numbers, and noise whose lower bits are meant")]

use inference::backend::cpu::cache::{CacheShape, KvCache, Seen};
use inference::backend::cpu::kernel::{Kernels, MANY_ROWS, Path, QuantiseRange, RankRows, available, scores_len, select};
use inference::backend::cpu::pack::{PANEL, Packed, PackedRows};
use inference::backend::cpu::recoded::{Recoded, Weights};
use inference::backend::cpu::share::{OutTile, Tiles};
use inference::numeric::{self, BLOCK_KEYS, CodeRows, Codes, CodesMut, Keys, Matrix, Queries, RowCodes, Zero};

/// Cases of each kind; every one takes all paths.
const CASES: u64 = 150;
const KINDS: [(Codes, usize); 4] = [(Codes::U4 { min: true }, 32), (Codes::U4 { min: false }, 32), (Codes::S8, 32), (Codes::S8, 64)];

/// Numbers from a seed (SplitMix64).
struct Noise(u64);

impl Noise {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `count - 1`.
    fn below(&mut self, count: usize) -> usize {
        (self.bits() % count as u64) as usize
    }

    /// From -1 to 1.
    fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / 8_388_608.0 - 1.0
    }

    /// Values as activations have them: most near 0, a few far out.
    fn values(&mut self, count: usize) -> Vec<f32> {
        let mut each = || {
            let x = self.unit() * self.unit();
            if self.below(40) == 0 { x * 50.0 } else { x }
        };
        (0..count).map(|_| each()).collect()
    }

    fn code(&mut self, extreme: bool) -> i8 {
        let codes = [-128, -127, 127, 127];
        if extreme { codes[self.below(4)] } else { self.bits() as i8 }
    }

    /// A scale: a half that is finite, of any magnitude where `extreme`.
    fn half(&mut self, extreme: bool) -> [u8; 2] {
        let bits = if extreme { self.bits() as u16 } else { numeric::f32_to_f16(self.unit() * 0.05) };
        if bits & 0x7c00 == 0x7c00 { [0, 0] } else { bits.to_le_bytes() }
    }

    fn weights(&mut self, rows: usize, groups: usize, codes: Codes, group: usize, extreme: bool) -> Vec<u8> {
        let mut data = Vec::new();
        for _ in 0..rows * groups {
            data.extend(self.half(extreme));
            if codes == (Codes::U4 { min: true }) {
                data.extend(self.half(extreme));
            }
            let bytes = if codes == Codes::S8 { group } else { group / 2 };
            data.extend((0..bytes).map(|_| {
                if codes == Codes::S8 {
                    self.code(extreme) as u8
                } else if extreme {
                    0xff
                } else {
                    self.bits() as u8
                }
            }));
        }
        data
    }
}

/// Quantised rows that own their arrays.
#[derive(Debug, Clone, PartialEq)]
struct Activations {
    rows: usize,
    group: usize,
    codes: Vec<i8>,
    scales: Vec<f32>,
    zeros: Vec<Zero>,
    sums: Vec<i32>,
    offsets: Vec<f32>,
}

impl Activations {
    fn zero(rows: usize, columns: usize, group: usize) -> Self {
        let groups = rows * columns / group;
        let (codes, zeros, sums) = (vec![0; rows * columns], vec![Zero::default(); groups], vec![0; groups]);
        Self { rows, group, codes, scales: vec![0.0; groups], zeros, sums, offsets: vec![0.0; groups] }
    }

    fn of(values: &[f32], rows: usize, group: usize) -> Self {
        let mut all = Self::zero(rows, values.len() / rows, group);
        assert!(all.fill(numeric::quantise_range, values));
        all
    }

    /// The ranks of rows.
    fn of_ranks(values: &[f32], rows: usize, group: usize) -> Self {
        let mut all = Self::zero(rows, values.len() / rows, group);
        assert!(numeric::quantise(values, group, &mut all.place()));
        all
    }

    fn fill(&mut self, quantise: QuantiseRange, values: &[f32]) -> bool {
        let Self { codes, scales, zeros, sums, offsets, .. } = self;
        quantise(values, self.group, &mut CodesMut { codes, scales, sums, offsets }, zeros)
    }

    fn place(&mut self) -> CodesMut<'_> {
        CodesMut { codes: &mut self.codes, scales: &mut self.scales, sums: &mut self.sums, offsets: &mut self.offsets }
    }

    fn rows(&self) -> CodeRows<'_> {
        let columns = self.codes.len() / self.rows;
        CodeRows {
            rows: self.rows,
            columns,
            group: self.group,
            codes: &self.codes,
            scales: &self.scales,
            zeros: &self.zeros,
            sums: &self.sums,
            offsets: &self.offsets,
        }
    }
}

#[track_caller]
fn same(got: &[f32], expected: &[f32], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!(got.to_bits(), expected.to_bits(), "{what}: element {at} is {got}, expected {expected}");
    }
}

fn each_path(mut check: impl FnMut(&'static Kernels)) {
    available().into_iter().for_each(|path| check(path.kernels()));
}

#[test]
fn products_of_every_path_have_the_bits_of_the_definition() {
    for case in 0..CASES {
        for (codes, group) in KINDS {
            let mut noise = Noise(case);
            let extreme = case % 5 == 0;
            // Sometimes many rows, and inputs that are unpacked in parts.
            let (least, most) = if case % 4 == 1 { (MANY_ROWS, 30) } else { (1, 7) };
            let (rows, outputs, groups) = (least + noise.below(40), 1 + noise.below(70), 1 + noise.below(most));
            let data = noise.weights(outputs, groups, codes, group, extreme);
            let matrix = Matrix::new(outputs, groups * group, group, codes, &data).unwrap();
            let mut values = noise.values(rows * groups * group);
            if extreme {
                values.iter_mut().for_each(|value| *value = value.signum() * 1e9);
            }
            if case % 3 == 0 {
                // All on one side, so that zeros are as far out as they can be.
                values.iter_mut().for_each(|value| *value = if case % 2 == 0 { value.abs() } else { -value.abs() });
            }
            let activations = Activations::of(&values, rows, group);
            let mut expected = vec![0.0; rows * outputs];
            numeric::product(&matrix, &activations.rows(), &mut expected);
            let packed = Packed::new(&matrix);
            let each = 1 + noise.below(3);
            each_path(|kernels| {
                let what = format!("{:?} {codes:?} {group}, case {case}: {rows} x {groups} groups, {outputs} outputs", kernels.path);
                for kernel in [kernels.gemv, kernels.gemm] {
                    let mut got = vec![f32::NAN; rows * outputs];
                    kernel(&packed, 0..packed.panels(), &activations.rows(), &mut OutTile::whole(&mut got, rows, outputs));
                    same(&got, &expected, &what);
                    // One row, in tiles of some panels: whatever it is computed beside, a row has its own bits.
                    let row = rows - 1;
                    let mut got = vec![f32::NAN; outputs];
                    let tiles = Tiles::new(&mut got, 1, outputs, each * PANEL);
                    for tile in (0..tiles.count()).rev() {
                        let panels = tile * each..packed.panels().min((tile + 1) * each);
                        kernel(&packed, panels, &activations.rows().row(row), &mut tiles.take(tile));
                    }
                    same(&got, &expected[row * outputs..], &what);
                }
            });
        }
    }
}

#[test]
fn products_of_the_fast_profile_have_the_bits_of_the_definition_on_every_path() {
    for case in 0..CASES * 2 {
        let mut noise = Noise(case);
        let group = [32, 64, 96, 128][noise.below(4)];
        let extreme = case % 5 == 0;
        let (rows, outputs, groups) = (1 + noise.below(40), 1 + noise.below(130), 1 + noise.below(6));
        let codes: Vec<i8> = (0..outputs * groups * group).map(|_| noise.code(extreme)).collect();
        let scales = noise.values(outputs);
        let mut values = noise.values(rows * groups * group);
        if extreme {
            values.iter_mut().for_each(|value| *value = value.signum() * 1e9);
        }
        if case % 3 == 0 {
            // All on one side, so that zeros and sums are as far out as they can be.
            values.iter_mut().for_each(|value| *value = if case % 2 == 0 { value.abs() } else { -value.abs() });
        }
        let (w, activations) = (RowCodes { codes: &codes, scales: &scales }, Activations::of(&values, rows, group));
        let mut expected = vec![0.0; rows * outputs];
        numeric::recoded_product(&w, &activations.rows(), &mut expected);
        let (packed, each) = (Weights::Recoded(Recoded::new(&w, group)), 1 + noise.below(5));
        each_path(|kernels| {
            let what = format!("{:?}, case {case}: {rows} x {groups} groups of {group}, {outputs} outputs", kernels.path);
            let mut got = vec![f32::NAN; rows * outputs];
            kernels.multiply(&packed, 0..packed.panels(), &activations.rows(), &mut OutTile::whole(&mut got, rows, outputs));
            same(&got, &expected, &what);
            // In tiles of some panels, all rows and one: whatever it is computed beside, an output has its own bits.
            for (first, count) in [(0, rows), (rows - 1, 1)] {
                let mut got = vec![f32::NAN; count * outputs];
                let tiles = Tiles::new(&mut got, count, outputs, each * PANEL);
                for tile in (0..tiles.count()).rev() {
                    let panels = tile * each..packed.panels().min((tile + 1) * each);
                    kernels.multiply(&packed, panels, &activations.rows().part(first, count), &mut tiles.take(tile));
                }
                same(&got, &expected[first * outputs..], &what);
            }
        });
    }
}

/// A row that failed is computed to the end, beside others: what comes out means nothing, but no path may overflow on it.
#[test]
fn rows_that_failed_pass_through_products_and_adapters_of_every_path() {
    for case in 0..CASES {
        for (codes, group) in KINDS {
            let mut noise = Noise(case);
            let mut values = noise.values(2 * group);
            let bad = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e38];
            (0..1 + noise.below(9)).for_each(|_| {
                let at = noise.below(values.len());
                values[at] = bad[noise.below(6)];
            });
            let data = noise.weights(PANEL, 2, codes, group, true);
            let matrix = Matrix::new(PANEL, 2 * group, group, codes, &data).unwrap();
            let (packed, a_codes) = (Packed::new(&matrix), vec![-128; 16 * 2 * group]);
            let a = RowCodes { codes: &a_codes, scales: &[1.0; 16] };
            let recoded = Recoded::new(&a, group);
            each_path(|kernels| {
                let mut got = Activations::zero(1, values.len(), group);
                assert!(!got.fill(kernels.quantise_range, &values), "{:?}, case {case}", kernels.path);
                let mut out = [0.0; PANEL];
                for kernel in [kernels.gemv, kernels.gemm] {
                    kernel(&packed, 0..1, &got.rows(), &mut OutTile::whole(&mut out, 1, PANEL));
                }
                (kernels.recoded)(&recoded, 0..1, &got.rows(), &mut OutTile::whole(&mut out, 1, PANEL));
                (kernels.shrink)(&PackedRows::new(&a), &got.rows(), &[0], &mut out);
                numeric::product(&matrix, &got.rows(), &mut out);
                numeric::shrink(&a, &got.rows(), &mut out);
            });
        }
    }
}

#[test]
fn quantising_by_every_path_has_the_bits_of_the_definition() {
    let tie = f32::from_bits(0x3f80_0000);
    for case in 0..CASES * 2 {
        for group in [16, 32, 48, 64, 96, 128] {
            let mut noise = Noise(case);
            let groups = 1 + noise.below(10);
            let mut values = noise.values(group * groups);
            match case % 8 {
                // Halves: with 127 as the largest the step is 1, so x.5 is a tie.
                0 => values.iter_mut().for_each(|x| *x = (*x * 100.0).round().clamp(-126.0, 126.0) + 0.5 * tie),
                1 => values.iter_mut().for_each(|x| *x *= 1e-38),
                2 => values.iter_mut().for_each(|x| *x *= numeric::MAGNITUDE_MIN),
                3 => values.iter_mut().for_each(|x| *x = if x.is_sign_positive() { 0.0 } else { -0.0 }),
                4 => values.iter_mut().for_each(|x| *x *= 1e9),
                _ => {}
            }
            if case % 8 == 0 {
                values.iter_mut().step_by(group).for_each(|x| *x = -127.0);
            }
            let (expected, even) = (Activations::of(&values, 1, group), Activations::of_ranks(&values, 1, group));
            each_path(|kernels| {
                let (what, mut got) =
                    (format!("{:?}, case {case}, groups of {group}", kernels.path), Activations::zero(1, values.len(), group));
                assert!((kernels.quantise)(&values, group, &mut got.place()), "{what}");
                assert_eq!(got, even, "{what}");
                assert!(got.fill(kernels.quantise_range, &values), "{what}");
                assert_eq!(got, expected, "{what}");
                assert!(got.codes.iter().all(|code| *code != -128), "{what}: no code is -128");
            });
            let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, numeric::MAGNITUDE_MAX, -1e30][noise.below(5)];
            let at = noise.below(values.len());
            values[at] = bad;
            each_path(|kernels| {
                let mut got = Activations::zero(1, values.len(), group);
                assert!(!(kernels.quantise)(&values, group, &mut got.place()), "{:?}: {bad} fails the row", kernels.path);
                assert!(!got.fill(kernels.quantise_range, &values), "{:?}: {bad} fails the row", kernels.path);
            });
        }
    }
}

/// What a range says of its values: half a step at most from each, and no step longer than a share of the largest magnitude.
#[test]
fn values_of_a_range_come_back_within_half_a_step_and_zero_as_zero() {
    for case in 0..CASES {
        let mut noise = Noise(case);
        let mut values = noise.values(64);
        match case % 4 {
            0 => values.iter_mut().for_each(|x| *x = x.abs() + 3.0),
            1 => values.iter_mut().for_each(|x| *x = -x.abs() - 1e-3),
            2 => values[5] = 1e4,
            _ => {}
        }
        values[17] = 0.0;
        let got = Activations::of(&values, 1, 32);
        for (at, x) in values.iter().enumerate() {
            let (scale, whole) = (f64::from(got.scales[at / 32]), i32::from(got.codes[at]) + got.zeros[at / 32].zero());
            let error = (f64::from(whole) * scale - f64::from(*x)).abs();
            assert!(error <= scale * 0.500_1, "case {case}: {x} became {whole} steps of {scale}");
            assert!(*x != 0.0 || whole == 0, "case {case}: zero became {whole} steps");
            assert!(got.codes[at] >= -127 && (-127..=126).contains(&got.zeros[at / 32].zero), "case {case}");
        }
        for (group, part) in values.chunks(32).enumerate() {
            let (low, high) = part.iter().fold((0f32, 0f32), |(low, high), x| (low.min(*x), high.max(*x)));
            assert!((f64::from(got.scales[group]) * 253.0 / f64::from(high - low) - 1.0).abs() < 1e-6, "case {case}");
            assert_eq!(got.sums[group], (0..32).map(|at| i32::from(got.codes[group * 32 + at]) + got.zeros[group].zero()).sum::<i32>());
        }
    }
}

#[test]
fn norm_rotation_and_gate_of_every_path_have_the_bits_of_the_definition() {
    for case in 0..CASES * 4 {
        let mut noise = Noise(case);
        let width = 1 + noise.below(200);
        let (mut x, weight) = (noise.values(width), noise.values(width));
        let mut expected = vec![0.0; width];
        assert!(numeric::norm(&x, &weight, 1e-5, &mut expected));
        let mut gate = x.clone();
        gate.iter_mut().for_each(|x| *x *= 30.0);
        let mut gated = gate.clone();
        numeric::gated(&mut gated, &weight);
        let head_dim = 2 * (1 + noise.below(70));
        let heads = 1 + noise.below(3);
        let heads = noise.values(head_dim * heads);
        let angles: Vec<(f32, f32)> = (0..head_dim / 2)
            .map(|pair| numeric::rope_angle(case as u32 * 37, numeric::rope_frequency(1e5, pair as u32, head_dim as u32)))
            .collect();
        let (cosines, sines): (Vec<f32>, Vec<f32>) = angles.into_iter().unzip();
        let mut rotated = heads.clone();
        numeric::rotate(&mut rotated, head_dim, &cosines, &sines);
        each_path(|kernels| {
            let what = format!("{:?}, case {case}", kernels.path);
            let mut got = vec![f32::NAN; width];
            assert!((kernels.norm)(&x, &weight, 1e-5, &mut got));
            same(&got, &expected, &format!("{what}: norm of {width}"));
            let mut got = gate.clone();
            (kernels.gated)(&mut got, &weight);
            same(&got, &gated, &format!("{what}: gate of {width}"));
            let mut got = heads.clone();
            (kernels.rotate)(&mut got, head_dim, &cosines, &sines);
            same(&got, &rotated, &format!("{what}: heads of {head_dim}"));
        });
        let at = noise.below(width);
        x[at] = [f32::NAN, f32::INFINITY, 1e30][noise.below(3)];
        each_path(|kernels| assert!(!(kernels.norm)(&x, &weight, 1e-5, &mut vec![0.0; width]), "{:?}: the row fails", kernels.path));
    }
}

#[test]
fn attention_of_every_path_has_the_bits_of_the_definition() {
    for case in 0..CASES {
        let mut noise = Noise(case);
        let dim = [16, 32, 48, 64, 80, 128][noise.below(6)];
        let (heads, keys) = (1 + noise.below(9), if case % 3 == 0 { 1 + noise.below(70) } else { 1 + noise.below(300) });
        let pages: Vec<u32> = (0..keys.div_ceil(BLOCK_KEYS) as u32).map(|page| (page * 5 + 3) % 8).collect();
        let mut cache = KvCache::new(CacheShape { layers: 2, heads: 2, head_dim: dim, pages: 8 });
        let extreme = case % 7 == 0;
        let mut code = |_| noise.code(extreme).max(-127);
        let (key_codes, value_codes): (Vec<i8>, Vec<i8>) =
            ((0..keys * dim).map(&mut code).collect(), (0..keys * dim).map(&mut code).collect());
        let query_codes: Vec<i8> = (0..heads * dim).map(&mut code).collect();
        let mut scales = |count: usize, size: f32| -> Vec<f32> { (0..count).map(|_| noise.unit().abs() * size).collect() };
        let (key_scales, mut value_scales, query_scales) = (scales(keys, 0.02), scales(keys, 0.01), scales(heads, 0.03));
        if case % 11 == 0 {
            value_scales.iter_mut().for_each(|scale| *scale = 0.0);
        }
        // What was in the pages before: the worst that scales and codes can be.
        for page in 0..8 {
            for slot in 0..BLOCK_KEYS {
                cache.layer_mut(1).take(1).write(page, slot, (&vec![-128; dim], f32::NAN), (&vec![-128; dim], f32::INFINITY));
            }
        }
        let layer = cache.layer_mut(1);
        let mut region = layer.take(1);
        for key in 0..keys {
            let part = key * dim..(key + 1) * dim;
            let (page, slot) = (pages[key / BLOCK_KEYS], key % BLOCK_KEYS);
            region.write(page, slot, (&key_codes[part.clone()], key_scales[key]), (&value_codes[part], value_scales[key]));
        }
        let sums: Vec<i32> = query_codes.chunks(dim).map(|query| query.iter().map(|code| i32::from(*code)).sum()).collect();
        let queries = Queries { codes: &query_codes, scales: &query_scales, sums: &sums, factor: 1.0 / (dim as f32).sqrt() };
        let plain = Keys { keys: &key_codes, key_scales: &key_scales, values: &value_codes, value_scales: &value_scales };
        let mut expected = vec![0.0; heads * dim];
        numeric::attend(&queries, &plain, &mut vec![0.0; keys], &mut expected);
        let seen = Seen { region: cache.region(1, 1), pages: &pages, keys };
        each_path(|kernels| {
            let (mut got, mut scores) = (vec![f32::NAN; heads * dim], vec![f32::NAN; scores_len(heads, keys)]);
            kernels.attention(&queries, &seen, &mut scores, &mut got);
            same(&got, &expected, &format!("{:?}, case {case}: {heads} heads of {dim}, {keys} keys", kernels.path));
        });
    }
}

#[test]
fn adapters_by_every_path_have_the_bits_of_the_definition() {
    for case in 0..CASES {
        let mut noise = Noise(case);
        let group = [32, 64, 96, 128][noise.below(4)];
        let (rows, inputs, outputs, rank) =
            (1 + noise.below(12), group * (1 + noise.below(5)), 1 + noise.below(60), 16 * (1 + noise.below(16)));
        let extreme = case % 5 == 0;
        let a_codes: Vec<i8> = (0..rank * inputs).map(|_| noise.code(extreme)).collect();
        let b_codes: Vec<i8> = (0..outputs * rank).map(|_| noise.code(extreme)).collect();
        let (a_scales, b_scales) = (noise.values(rank), noise.values(outputs));
        let (a, b) = (RowCodes { codes: &a_codes, scales: &a_scales }, RowCodes { codes: &b_codes, scales: &b_scales });
        let activations = Activations::of(&noise.values(rows * inputs), rows, group);
        // Some rows, in another order than they stand in.
        let which: Vec<u32> = (0..rows as u32).rev().filter(|_| noise.below(3) > 0).collect();
        let before = noise.values(rows * outputs);
        let (mut ranks, mut expected, request) = (vec![0.0; which.len() * rank], before.clone(), noise.unit());
        let mut codes = Activations::zero(which.len(), rank, rank);
        for (at, row) in which.iter().enumerate() {
            let place = &mut ranks[at * rank..][..rank];
            numeric::shrink(&a, &activations.rows().row(*row as usize), place);
        }
        assert!(numeric::quantise(&ranks, rank, &mut codes.place()));
        for (at, row) in which.iter().enumerate() {
            let out = &mut expected[*row as usize * outputs..][..outputs];
            numeric::expand(&b, &codes.codes[at * rank..][..rank], codes.scales[at], request, out);
        }
        let (a, b) = (PackedRows::new(&a), PackedRows::new(&b));
        let rank_rows = RankRows { codes: &codes.codes, scales: &codes.scales, sums: &codes.sums, request };
        each_path(|kernels| {
            let what = format!("{:?}, case {case}: {} of {rows} rows, {inputs} x {rank} x {outputs}", kernels.path, which.len());
            let mut got = vec![f32::NAN; ranks.len()];
            (kernels.shrink)(&a, &activations.rows(), &which, &mut got);
            same(&got, &ranks, &what);
            let mut got = before.clone();
            kernels.expansion(&b, 0..b.panels(), &rank_rows, &which, &mut OutTile::whole(&mut got, rows, outputs));
            same(&got, &expected, &what);
        });
    }
}

#[test]
fn the_quickest_path_is_taken_and_every_path_counts_what_it_does() {
    assert_eq!(select(None).path, *available().last().unwrap());
    assert_eq!(select(Some(Path::Scalar)).path, Path::Scalar);
    let data = Noise(1).weights(PANEL, 1, Codes::S8, 32, false);
    let packed = Packed::new(&Matrix::new(PANEL, 32, 32, Codes::S8, &data).unwrap());
    let activations = Activations::of(&[1.0; 32], 1, 32);
    for path in Path::ALL {
        if !path.is_available() {
            println!("{path:?}: not run, this machine does not have it");
            continue;
        }
        let before = path.kernels().calls()[0];
        path.kernels().product(&packed, 0..1, &activations.rows(), &mut OutTile::whole(&mut [0.0; PANEL], 1, PANEL));
        assert!(path.kernels().calls()[0] > before, "{path:?}");
    }
}

/// The kernel of AMX on a model of its registers: what surrounds the seven instructions is tested where no machine has them.
#[cfg(target_arch = "x86_64")]
#[test]
fn tiles_modelled_in_plain_code_have_the_bits_of_the_definition() {
    use inference::backend::cpu::kernel::amx::{Model, product_on};
    if !Path::Avx512.is_available() {
        println!("not run, this machine does not have AVX-512");
        return;
    }
    for case in 0..CASES / 3 {
        for (codes, group) in KINDS {
            let mut noise = Noise(case);
            let extreme = case % 5 == 0;
            let (rows, outputs, groups) = (1 + noise.below(150), 1 + noise.below(40), 1 + noise.below(4));
            let data = noise.weights(outputs, groups, codes, group, extreme);
            let matrix = Matrix::new(outputs, groups * group, group, codes, &data).unwrap();
            let activations = Activations::of(&noise.values(rows * groups * group), rows, group);
            let mut expected = vec![0.0; rows * outputs];
            numeric::product(&matrix, &activations.rows(), &mut expected);
            let (packed, mut got) = (Packed::new(&matrix), vec![f32::NAN; rows * outputs]);
            let mut out = OutTile::whole(&mut got, rows, outputs);
            product_on(&mut Model::new(), &packed, 0..packed.panels(), &activations.rows(), &mut out);
            same(&got, &expected, &format!("{codes:?} {group}, case {case}: {rows} x {groups} groups, {outputs} outputs"));
        }
    }
}

/// They stand in this very program, also where no machine with AMX has ever compiled or run it, and in our own kernels: libraries of others have such instructions
/// too.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_object_code_holds_the_dot_products_of_avx512_and_amx() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let mut objdump = Command::new("objdump");
    objdump.args(["--disassemble", "--no-show-raw-insn", "--section=.text"]).arg(std::env::current_exe().unwrap());
    let mut running = objdump.stdout(Stdio::piped()).spawn().expect("objdump of binutils, without which no C compiler links");
    // Modules as they stand in the names of functions, which have each part's length before it.
    let mut found = [("6kernel6avx512", "vpdpbusd", 0), ("6kernel3amx", "tdpbsud", 0)];
    let mut function = String::new();
    for line in BufReader::new(running.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.ends_with(">:") {
            function = line;
            continue;
        }
        let is_here = |module: &str, name: &str| function.contains(module) && line.contains(name);
        found.iter_mut().filter(|(module, name, _)| is_here(module, name)).for_each(|(.., count)| *count += 1);
    }
    assert!(running.wait().unwrap().success());
    assert!(found.iter().all(|(.., count)| *count > 0), "{found:?}");
}
