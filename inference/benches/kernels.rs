//! The kernels of the CPU, each path beside what the machine can do at most, on one core; then the pool on all of them.
//!
//! `cargo bench -p inference --profile dev --no-default-features --features kernels --bench kernels [-- FILTER]`: prints rows as JSON
//! lines. Limits are measured in the same run: byte dot products of one core, and bytes read from memory in order. Of each row the best
//! of [`ROUNDS`], because others may be on the machine; limits likewise, before and after. Products "from memory" go over 80 MB of
//! weights, more than caches hold; those of many rows over a layer of SmolLM2-135M.
//!
//! With `--check` (`cargo xtask soak kernels`) only what has plain loops beside it is measured, and it fails where a path is less than [`OVER_SCALAR`] times as
//! quick as they are, or where the compiler makes vectors of plain loops by itself, less than [`least`] says: all by the processor time of this thread, so that
//! waiting counts for none. On a machine of one's own: whoever shares caches and cores takes up to half from one path and not from the next.
#![expect(clippy::cast_possible_truncation, reason = "small numbers, and noise whose lower bits are meant")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::Instant;

use inference::backend::cpu::cache::{CacheShape, KvCache, Seen};
use inference::backend::cpu::kernel::{Kernels, Path, QuantiseRange, RankRows, available, limits, scores_len};
use inference::backend::cpu::pack::{PANEL, Packed, PackedRows};
use inference::backend::cpu::pool::Pool;
use inference::backend::cpu::recoded::{Recoded, Weights};
use inference::backend::cpu::share::{OutTile, Tiles};
use inference::numeric::{self, BLOCK_KEYS, CodeRows, Codes, CodesMut, Matrix, Queries, RowCodes, Zero};

const ROUNDS: usize = 15;
/// How many times as quick as plain loops a path is at least, or it is not worth its code.
const OVER_SCALAR: f64 = 4.0;
/// The least that a path is held to. Products and attention, where a step's time is, to [`OVER_SCALAR`], and adapters wherever a dot product of bytes is one
/// instruction. Plain loops of the rest are made vectors by the compiler, and some of what is measured is short of it (on a busy Xeon, by AVX2 and by AVX-512): shrink 2.6
/// to 3.5 and 7, expand 3.6 to 5.3 and 7, quantise 4.5 and 8.4, heads 5.9 and 4.9, rotate 1.0 and 1.4; before, on another run, norm 1.8 and 2.0, gate 1.0 and 1.5. Those are
/// held to two thirds of it, and so is one row of bytes by AVX2, which is at 4.1 without a margin; other products are at 5.5 and more.
fn least(figure: &str, path: Path) -> f64 {
    match (figure.split('.').next().unwrap_or_default(), path) {
        ("product", Path::Avx2) if figure.contains("8_0.rows1.") => 2.7,
        // 2.7 for one row and 3.8 for eight: its plain loops have no codes to unpack, which the compiler makes nothing of in the others.
        ("recoded", Path::Avx2) => 1.8,
        ("shrink", Path::Avx2) => 1.7,
        ("expand", Path::Avx2) => 2.4,
        ("quantise" | "heads", _) => 2.9,
        ("norm", _) => 1.2,
        ("gated", _) => 0.7,
        ("rotate", _) => 0.7,
        _ => OVER_SCALAR,
    }
}

/// Seconds a round takes at least.
const ROUND_S: f64 = 0.01;
/// Seconds after which a measurement has rounds enough: plain loops over many rows take half a second each time.
const ENOUGH_S: f64 = 0.7;

/// Codes of weights: their name, and how many share a scale.
const CODES: [(&str, Codes, usize); 4] =
    [("q4_1", Codes::U4 { min: true }, 32), ("q4_0", Codes::U4 { min: false }, 32), ("q8_0", Codes::S8, 32), ("s8_64", Codes::S8, 64)];

/// How many times as quick as plain loops a path was.
#[derive(Debug)]
struct Ratio {
    figure: String,
    path: Path,
    times: f64,
    /// What is held.
    least: f64,
}

struct Bench {
    filter: String,
    /// Of each figure and path.
    ratios: RefCell<Vec<Ratio>>,
    /// Products of two codes a second, of one core.
    peak: f64,
    /// Bytes a second, one core and all.
    read: [f64; 2],
}

fn main() {
    let filter = std::env::args().skip(1).find(|word| !word.starts_with("--")).unwrap_or_default();
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let memory = vec![1u8; 256 << 20];
    let pool = Pool::new(NonZeroUsize::new(threads).expect("one at least"));
    let is_check = std::env::args().any(|word| word == "--check");
    let mut bench = Bench { filter, ratios: RefCell::default(), peak: 0.0, read: [0.0; 2] };
    bench.limits(&memory, &pool);
    if !is_check {
        bench.read_memory(&pool);
    }
    bench.products();
    bench.recoded();
    bench.rows();
    bench.attention();
    bench.adapters();
    if is_check {
        return bench.check();
    }
    bench.wake(&pool);
    bench.limits(&memory, &pool);
    println!(r#"{{"figure":"limit.products.gmac_s","value":{:.1}}}"#, bench.peak / 1e9);
    println!(r#"{{"figure":"limit.read.gb_s","threads":1,"value":{:.2}}}"#, bench.read[0] / 1e9);
    println!(r#"{{"figure":"limit.read.gb_s","threads":{threads},"value":{:.2}}}"#, bench.read[1] / 1e9);
}

/// The best number of seconds of a run of `work`, by this thread's processor time.
fn best(work: impl FnMut()) -> f64 {
    best_by(|| limits::processor_time().as_secs_f64(), work)
}

/// The same by the clock on the wall: where threads of the pool work.
fn best_wall(work: impl FnMut()) -> f64 {
    let start = Instant::now();
    best_by(|| start.elapsed().as_secs_f64(), work)
}

fn best_by(now: impl Fn() -> f64, mut work: impl FnMut()) -> f64 {
    let start = now();
    work();
    let times = ((ROUND_S / (now() - start).max(1e-9)) as usize).clamp(1, 1_000_000);
    let round = |work: &mut dyn FnMut()| {
        let start = now();
        (0..times).for_each(|_| work());
        (now() - start) / times as f64
    };
    let begun = now();
    let mut best = f64::INFINITY;
    for at in 0..ROUNDS {
        best = best.min(round(&mut work));
        if at >= 2 && now() - begun > ENOUGH_S {
            break;
        }
    }
    best
}

impl Bench {
    fn limits(&mut self, memory: &[u8], pool: &Pool) {
        let seconds = best(|| {
            black_box(limits::products(200));
        });
        self.peak = self.peak.max(limits::products(200).0 as f64 / seconds);
        let seconds = best(|| {
            black_box(limits::read(memory));
        });
        self.read[0] = self.read[0].max(memory.len() as f64 / seconds);
        let seconds = best_wall(|| {
            pool.run(64, &|part| {
                black_box(limits::read(&memory[part * (memory.len() / 64)..][..memory.len() / 64]));
            });
        });
        self.read[1] = self.read[1].max(memory.len() as f64 / seconds);
    }

    fn row(&self, figure: &str, path: Path, value: f64, unit: &str, limit: f64) {
        let path = format!("{path:?}").to_lowercase();
        println!(
            r#"{{"figure":"{figure}","path":"{path}","value":{value:.3},"unit":"{unit}","limit":{limit:.1},"percent":{:.1}}}"#,
            100.0 * value / limit
        );
    }

    /// How many times as quick as plain loops each other path was, beside the least that is expected of one.
    fn over_scalar(&self, figure: &str, times: &[(Path, f64)]) {
        let Some((_, scalar)) = times.iter().find(|(path, _)| *path == Path::Scalar) else { return };
        for (path, seconds) in times.iter().filter(|(path, _)| *path != Path::Scalar) {
            self.row(&format!("{figure}.over_scalar"), *path, scalar / seconds, "times", OVER_SCALAR);
            let (figure, path, least) = (figure.to_owned(), *path, least(figure, *path));
            self.ratios.borrow_mut().push(Ratio { figure, path, times: scalar / seconds, least });
        }
    }

    /// Fails if a path is not as quick as it was. Prints for each kernel and path the smallest and the largest ratio over all shapes, and what is held.
    fn check(self) {
        let ratios = self.ratios.into_inner();
        assert!(!ratios.is_empty(), "this machine has plain loops alone, or nothing is called {:?}", self.filter);
        let mut table: BTreeMap<(&str, Path), Vec<&Ratio>> = BTreeMap::new();
        for ratio in &ratios {
            table.entry((ratio.figure.split('.').next().unwrap_or_default(), ratio.path)).or_default().push(ratio);
        }
        println!("{:<10} {:<8} {:>8} {:>8} {:>6}  smallest at", "kernel", "path", "smallest", "largest", "held");
        for ((kernel, path), mut all) in table {
            all.sort_by(|one, other| one.times.total_cmp(&other.times));
            let (first, last) = (all[0], all[all.len() - 1]);
            let short = if first.times < OVER_SCALAR { ", short of 4 times" } else { "" };
            let path = format!("{path:?}");
            println!("{kernel:<10} {path:<8} {:>8.2} {:>8.2} {:>6.1}  {}{short}", first.times, last.times, first.least, first.figure);
        }
        let slow: Vec<_> = ratios.iter().filter(|ratio| ratio.times < ratio.least).collect();
        assert!(slow.is_empty(), "less often as quick as plain loops than is held: {slow:.2?}");
    }

    fn wants(&self, figure: &str) -> bool {
        figure.contains(&self.filter)
    }

    fn read_memory(&self, pool: &Pool) {
        for (name, codes, group) in CODES {
            let large = std::cell::LazyCell::new(|| weights(if codes == Codes::S8 { 40_960 } else { 65_536 }, 2048, codes, group));
            for rows in [1, 2, 4, 8, 16, 32] {
                let figure = format!("product.{name}.rows{rows}.memory");
                if self.wants(&figure) {
                    let activations = Activations::random(rows, 2048, group);
                    let mut out = vec![0.0; rows * large.outputs()];
                    for kernels in tables(rows > 1) {
                        let large = &*large;
                        let work = || product(kernels, large, &activations.rows(), &mut out);
                        let seconds = best(work);
                        self.row(&figure, kernels.path, large.bytes() as f64 / seconds / 1e9, "GB/s", self.read[0] / 1e9);
                        if rows >= 8 {
                            let macs = (rows * large.outputs() * 2048) as f64;
                            self.row(&figure, kernels.path, macs / seconds / 1e9, "GMAC/s", self.peak / 1e9);
                        }
                    }
                    let (kernels, large) = (tables(true)[0], &*large);
                    let seconds = best_wall(|| {
                        let tiles = Tiles::new(&mut out, rows, large.outputs(), 16 * PANEL);
                        pool.run(tiles.count(), &|tile| {
                            let panels = tile * 16..large.panels().min((tile + 1) * 16);
                            kernels.product(large, panels, &activations.rows(), &mut tiles.take(tile));
                        });
                    });
                    self.row(&format!("{figure}.pool"), kernels.path, large.bytes() as f64 / seconds / 1e9, "GB/s", self.read[1] / 1e9);
                }
            }
        }
    }

    /// Over a layer of SmolLM2, which lies in a cache.
    fn products(&self) {
        for (name, codes, group) in CODES {
            for (outputs, columns) in [(1536, 576), (576, 1536)] {
                for rows in [1, 8, 16, 64, 512] {
                    let figure = format!("product.{name}.rows{rows}.{columns}x{outputs}");
                    if self.wants(&figure) {
                        let (w, activations) = (weights(outputs, columns, codes, group), Activations::random(rows, columns, group));
                        let mut out = vec![0.0; rows * outputs];
                        let mut times = Vec::new();
                        for kernels in tables(false) {
                            let seconds = best(|| product(kernels, &w, &activations.rows(), &mut out));
                            let macs = (rows * outputs * columns) as f64;
                            self.row(&figure, kernels.path, macs / seconds / 1e9, "GMAC/s", self.peak / 1e9);
                            times.push((kernels.path, seconds));
                        }
                        self.over_scalar(&figure, &times);
                    }
                }
            }
        }
    }

    /// The same in the profile `fast`: codes of 8 bits with one scale for each output.
    fn recoded(&self) {
        for (outputs, columns, group) in [(1536, 576, 96), (576, 1536, 128)] {
            let codes = codes(outputs * columns);
            let w = Weights::Recoded(Recoded::new(&RowCodes { codes: &codes, scales: &noise(outputs) }, group));
            for rows in [1, 8, 16, 64, 512] {
                let figure = format!("recoded.rows{rows}.{columns}x{outputs}");
                if self.wants(&figure) {
                    let (activations, mut out) = (Activations::random(rows, columns, group), vec![0.0; rows * outputs]);
                    let mut times = Vec::new();
                    for kernels in tables(false) {
                        let work = || {
                            kernels.multiply(&w, 0..w.panels(), &activations.rows(), &mut OutTile::whole(&mut out, rows, outputs));
                        };
                        let seconds = best(work);
                        let macs = (rows * outputs * columns) as f64;
                        self.row(&figure, kernels.path, macs / seconds / 1e9, "GMAC/s", self.peak / 1e9);
                        times.push((kernels.path, seconds));
                    }
                    self.over_scalar(&figure, &times);
                }
            }
        }
    }

    /// Row by row: bytes of `f32` that go in, beside what is read from memory (they lie in a cache).
    fn rows(&self) {
        const WIDTH: usize = 1536;
        let (x, weight) = (noise(WIDTH), noise(WIDTH));
        let limit = self.read[0] / 1e9;
        let bytes = (WIDTH * 4) as f64;
        let angles: Vec<f32> = noise(32);
        let times: RefCell<BTreeMap<String, Vec<(Path, f64)>>> = RefCell::default();
        for kernels in tables(false) {
            let (mut activations, mut heads) = (Activations::random(1, WIDTH, 32), Activations::random(1, WIDTH, 64));
            let mut out = x.clone();
            let figure = |figure: &str, inputs: f64, work: &mut dyn FnMut()| {
                if self.wants(figure) {
                    let seconds = best(work);
                    self.row(figure, kernels.path, inputs * bytes / seconds / 1e9, "GB/s", limit);
                    times.borrow_mut().entry(figure.to_owned()).or_default().push((kernels.path, seconds));
                }
            };
            figure("quantise", 1.0, &mut || {
                black_box(activations.fill(kernels.quantise_range, &x));
            });
            figure("heads", 1.0, &mut || {
                black_box((kernels.quantise)(&x, 64, &mut heads.place()));
            });
            figure("norm", 1.0, &mut || {
                black_box((kernels.norm)(&x, &weight, 1e-5, &mut out));
            });
            figure("gated", 2.0, &mut || {
                out.copy_from_slice(&x);
                (kernels.gated)(&mut out, &weight);
            });
            figure("rotate", 1.0, &mut || {
                out.copy_from_slice(&x);
                (kernels.rotate)(&mut out, 64, &angles, &angles);
            });
        }
        times.into_inner().iter().for_each(|(figure, times)| self.over_scalar(figure, times));
    }

    fn attention(&self) {
        const DIM: usize = 64;
        for (heads, keys) in [(3usize, 64usize), (3, 512), (3, 2048), (1, 512), (4, 512)] {
            let figure = format!("attend.heads{heads}.keys{keys}");
            if !self.wants(&figure) {
                continue;
            }
            let pages: Vec<u32> = (0..keys.div_ceil(BLOCK_KEYS) as u32).collect();
            let mut cache = KvCache::new(CacheShape { layers: 1, heads: 1, head_dim: DIM, pages: pages.len() });
            let codes = codes(2 * keys * DIM);
            let layer = cache.layer_mut(0);
            let mut region = layer.take(0);
            for key in 0..keys {
                let part = &codes[2 * key * DIM..][..2 * DIM];
                region.write(pages[key / BLOCK_KEYS], key % BLOCK_KEYS, (&part[..DIM], 0.001), (&part[DIM..], 0.01));
            }
            let query = Activations::random(heads, DIM, DIM);
            let queries = Queries { codes: &query.codes, scales: &query.scales, sums: &query.sums, factor: 0.125 };
            let seen = Seen { region: cache.region(0, 0), pages: &pages, keys };
            let (mut scores, mut out) = (vec![0.0; scores_len(heads, keys)], vec![0.0; heads * DIM]);
            let mut times = Vec::new();
            for kernels in tables(false) {
                let seconds = best(|| (kernels.attend)(&queries, &seen, &mut scores, &mut out));
                self.row(&figure, kernels.path, (2 * keys * DIM * heads) as f64 / seconds / 1e9, "GMAC/s", self.peak / 1e9);
                times.push((kernels.path, seconds));
            }
            self.over_scalar(&figure, &times);
        }
    }

    fn adapters(&self) {
        const RANK: usize = 16;
        for rows in [1usize, 8] {
            for (inputs, outputs) in [(576, 1536), (1536, 576)] {
                let activations = Activations::random(rows, inputs, 32);
                let (a_codes, b_codes) = (codes(RANK * inputs), codes(RANK * outputs));
                let a = PackedRows::new(&RowCodes { codes: &a_codes, scales: &noise(RANK) });
                let b = PackedRows::new(&RowCodes { codes: &b_codes, scales: &noise(outputs) });
                let which: Vec<u32> = (0..rows as u32).collect();
                let ranks = Activations::random(rows, RANK, RANK);
                let rank_rows = RankRows { codes: &ranks.codes, scales: &ranks.scales, sums: &ranks.sums, request: 1.0 };
                let (mut shrunk, mut out) = (vec![0.0; rows * RANK], vec![0.0; rows * outputs]);
                let (mut shrinks, mut expands) = (Vec::new(), Vec::new());
                for kernels in tables(false) {
                    let figure = format!("shrink.rank{RANK}.rows{rows}.{inputs}");
                    if self.wants(&figure) {
                        let seconds = best(|| (kernels.shrink)(&a, &activations.rows(), &which, &mut shrunk));
                        self.row(&figure, kernels.path, (rows * inputs * RANK) as f64 / seconds / 1e9, "GMAC/s", self.peak / 1e9);
                        shrinks.push((kernels.path, seconds));
                    }
                    let figure = format!("expand.rank{RANK}.rows{rows}.{outputs}");
                    if self.wants(&figure) {
                        let work = || (kernels.expand)(&b, 0..b.panels(), &rank_rows, &which, &mut OutTile::whole(&mut out, rows, outputs));
                        let seconds = best(work);
                        self.row(&figure, kernels.path, (rows * outputs * RANK) as f64 / seconds / 1e9, "GMAC/s", self.peak / 1e9);
                        expands.push((kernels.path, seconds));
                    }
                }
                self.over_scalar(&format!("shrink.rank{RANK}.rows{rows}.{inputs}"), &shrinks);
                self.over_scalar(&format!("expand.rank{RANK}.rows{rows}.{outputs}"), &expands);
            }
        }
    }

    /// What an empty parallel part costs, one after another and after a pause in which workers go to sleep.
    fn wake(&self, pool: &Pool) {
        if self.wants("pool") {
            let seconds = best_wall(|| pool.run(pool.threads(), &|_| ()));
            println!(r#"{{"figure":"pool.empty_us","threads":{},"value":{:.2}}}"#, pool.threads(), seconds * 1e6);
            let mut asleep: Vec<f64> = (0..101)
                .map(|_| {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    let start = Instant::now();
                    pool.run(pool.threads(), &|_| ());
                    start.elapsed().as_secs_f64() * 1e6
                })
                .collect();
            asleep.sort_by(f64::total_cmp);
            println!(r#"{{"figure":"pool.asleep_us","threads":{},"value":{:.2}}}"#, pool.threads(), asleep[50]);
        }
    }
}

fn product(kernels: &Kernels, w: &Packed, rows: &CodeRows<'_>, out: &mut [f32]) {
    kernels.product(w, 0..w.panels(), rows, &mut OutTile::whole(out, rows.rows, w.outputs()));
}

/// The tables of this machine, the quickest first; without the scalar one where it would take long.
fn tables(is_long: bool) -> Vec<&'static Kernels> {
    available().into_iter().rev().filter(|path| !is_long || *path != Path::Scalar).map(Path::kernels).collect()
}

fn noise(count: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn codes(count: usize) -> Vec<i8> {
    noise(count).into_iter().map(|x| (x * 127.0) as i8).collect()
}

fn weights(outputs: usize, columns: usize, codes: Codes, group: usize) -> Packed {
    let each = codes.group_bytes(group);
    let mut data: Vec<u8> = (0..outputs * (columns / group) * each).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for group in data.chunks_exact_mut(each) {
        group[..2].copy_from_slice(&numeric::f32_to_f16(0.01).to_le_bytes());
        if codes == (Codes::U4 { min: true }) {
            group[2..4].copy_from_slice(&numeric::f32_to_f16(-0.05).to_le_bytes());
        }
    }
    Packed::new(&Matrix::new(outputs, columns, group, codes, &data).expect("a matrix"))
}

/// Quantised rows that own their arrays.
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
    fn random(rows: usize, columns: usize, group: usize) -> Self {
        let groups = rows * columns / group;
        let (codes, scales) = (vec![0; rows * columns], vec![0.0; groups]);
        let mut all =
            Self { rows, group, codes, scales, zeros: vec![Zero::default(); groups], sums: vec![0; groups], offsets: vec![0.0; groups] };
        assert!(all.fill(numeric::quantise_range, &noise(rows * columns)), "finite values");
        all
    }

    fn fill(&mut self, quantise: QuantiseRange, values: &[f32]) -> bool {
        let Self { codes, scales, zeros, sums, offsets, .. } = self;
        quantise(values, self.group, &mut CodesMut { codes, scales, sums, offsets }, zeros)
    }

    fn place(&mut self) -> CodesMut<'_> {
        let Self { codes, scales, sums, offsets, .. } = self;
        CodesMut { codes, scales, sums, offsets }
    }

    fn rows(&self) -> CodeRows<'_> {
        let columns = self.codes.len() / self.rows;
        let Self { rows, group, codes, scales, zeros, sums, offsets } = self;
        CodeRows { rows: *rows, columns, group: *group, codes, scales, zeros, sums, offsets }
    }
}
