//! The erasure code at 16 of 48 on one core: encoding, and rebuilding when every data fragment is lost.
//!
//! `cargo bench -p storage --bench erasure`: prints rows as JSON lines, GB of the object a second, the median of [`ROUNDS`]. Peers in the same
//! run on the same bytes: `reed-solomon-erasure` with its C kernel, whose fragments are ours byte for byte, and `reed-solomon-simd`, another
//! code (GF(2^16)) of the same rates. Fragments of 128 KiB, so that an object and its code stay in a second-level or shared cache and the
//! kernel is what is timed; rows of 4 MiB show what memory leaves of it. Outputs are written to buffers at hand.
//! Time is that of the processor (Linux: `/proc`), so that others on the machine slow it less.

use std::{collections::BTreeMap, fs, hint::black_box};

use reed_solomon_erasure::galois_8::ReedSolomon;
use storage::erasure::{Path, Profile};

const DATA: usize = 16;
const TOTAL: usize = 48;
const ROUNDS: usize = 21;
/// Bytes of the object each round goes through, at least: that takes some tens of milliseconds, and the processor's time is counted in steps of up to four.
const BYTES: usize = 256 << 20;
const SMALL: usize = 128 << 10;
const LARGE: usize = 4 << 20;

fn main() {
    let profile = Profile::for_operators(96);
    for length in [SMALL, LARGE] {
        let parts: Vec<Vec<u8>> = (0..DATA).map(|part| noise(part, length)).collect();
        let inputs: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let mut parity = vec![vec![0; length]; TOTAL - DATA];
        let size = if length == SMALL { "" } else { "_4mib" };
        for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
            let name = format!("{path:?}").to_lowercase();
            let rounds = if path == Path::Scalar { 3 } else { ROUNDS };
            row(
                &format!("storage.encode_gb_s{size}.{name}"),
                rounds,
                rate(rounds, length, || profile.fill_parity(path, &inputs, &mut slices(&mut parity))),
            );
        }
        let ours = parity.clone();
        let found: BTreeMap<usize, &[u8]> = (DATA..2 * DATA).zip(ours.iter().map(Vec::as_slice)).collect();
        let all: Vec<usize> = (0..DATA).collect();
        for (figure, wanted) in [("rebuild", &all[..]), ("rebuild_one", &all[..1])] {
            let mut outputs = vec![vec![0; length]; wanted.len()];
            let work = || profile.solve(Path::best(), &found, wanted, &mut slices(&mut outputs));
            row(&format!("storage.{figure}_gb_s{size}"), ROUNDS, rate(ROUNDS, length, work));
            assert!(wanted.iter().all(|part| outputs[*part] == parts[*part]), "what was lost");
        }
        let library = ReedSolomon::new(DATA, TOTAL - DATA).expect("a valid code");
        row(
            &format!("storage.encode_gb_s{size}.peer.reed-solomon-erasure"),
            ROUNDS,
            rate(ROUNDS, length, || library.encode_sep(&inputs, &mut parity).expect("lengths agree")),
        );
        assert!(parity == ours, "the same code");
        let mut shards: Vec<(Vec<u8>, bool)> = parts.iter().chain(&ours).map(|bytes| (bytes.clone(), false)).collect();
        let rebuilt = rate(ROUNDS, length, || {
            shards.iter_mut().enumerate().for_each(|(index, shard)| shard.1 = (DATA..2 * DATA).contains(&index));
            library.reconstruct_data(&mut shards).expect("enough fragments");
        });
        row(&format!("storage.rebuild_gb_s{size}.peer.reed-solomon-erasure"), ROUNDS, rebuilt);
        row(
            &format!("storage.encode_gb_s{size}.peer.reed-solomon-simd"),
            ROUNDS,
            rate(ROUNDS, length, || drop(black_box(reed_solomon_simd::encode(DATA, TOTAL - DATA, &inputs).expect("a valid code")))),
        );
    }
}

fn slices(all: &mut [Vec<u8>]) -> Vec<&mut [u8]> {
    all.iter_mut().map(Vec::as_mut_slice).collect()
}

fn noise(part: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&part.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// GB of the object a second, the median of `rounds`.
fn rate(rounds: usize, length: usize, mut work: impl FnMut()) -> f64 {
    let repeats = (BYTES / (DATA * length)).max(1);
    let mut rates: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = processor_s();
            (0..repeats).for_each(|_| work());
            gb(repeats * DATA * length) / (processor_s() - start)
        })
        .collect();
    middle(&mut rates)
}

/// Seconds of processor that this thread, the only one here, has used: nanoseconds are its scheduler's.
fn processor_s() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux says what a thread has used");
    let nanoseconds: f64 = text.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number of nanoseconds");
    nanoseconds / 1e9
}

fn middle(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
fn gb(bytes: usize) -> f64 {
    bytes as f64 / 1e9
}

fn row(figure: &str, n: usize, ours: f64) {
    println!("{}", serde_json::json!({ "figure": figure, "ours": ours, "unit": "GB/s", "n": n }));
}
