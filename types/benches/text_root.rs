//! Text roots on one core, public and salted.
//!
//! `cargo bench -p types --bench text_root`: prints rows as JSON lines, MB of text a second, the median of [`ROUNDS`]; the peer in the same run on
//! the same text is the tree of leaves and nodes hashed one after another by `sha3`, whose root is ours. Texts of a prompt, of a document and
//! of a contribution. Time is that of the processor (Linux: `/proc`), so that others on the machine slow it less.

use std::{fs, hint::black_box};

use types::{
    id::Hash32,
    merkle,
    text::{leaf_count, leaves, prompt_leaf, prompt_root, text_root},
};

/// Bytes of text, and what they are called.
const SIZES: [(usize, &str); 3] = [(1 << 10, "1kib"), (64 << 10, "64kib"), (16 << 20, "16mib")];
const ROUNDS: usize = 9;
/// Bytes each round goes through: a tenth of a second and more, and the processor's time is counted in steps of up to four milliseconds.
const BYTES: usize = 16 << 20;
const SALT: Hash32 = Hash32([7; 32]);

fn main() {
    let mut text = vec![0; BYTES];
    blake3::Hasher::new().update(b"text").finalize_xof().fill(&mut text);
    for (size, name) in SIZES {
        let text = &text[..size];
        assert!(text_root(text) == plain(text, leaves(text).map(merkle::leaf)), "the same root");
        row(&format!("types.text_root_mb_s.{name}"), text, || text_root(text));
        row(&format!("types.text_root_mb_s.{name}.peer.sha3"), text, || plain(text, leaves(text).map(merkle::leaf)));
        let salted = || plain(text, (0..leaf_count(size)).map(|index| merkle::leaf(&prompt_leaf(text, SALT, index))));
        assert!(prompt_root(text, SALT) == salted(), "the same root");
        row(&format!("types.prompt_root_mb_s.{name}"), text, || prompt_root(text, SALT));
        row(&format!("types.prompt_root_mb_s.{name}.peer.sha3"), text, salted);
    }
}

/// The root over these digests, node by node.
fn plain(text: &[u8], digests: impl Iterator<Item = Hash32>) -> Hash32 {
    let mut level: Vec<Hash32> = digests.collect();
    let count = level.len();
    level.resize(count.max(1).next_power_of_two(), Hash32::ZERO);
    while level.len() > 1 {
        level = level.chunks_exact(2).map(|pair| merkle::node(pair[0], pair[1])).collect();
    }
    let as_u64 = |len: usize| u64::try_from(len).expect("a length in memory fits 64 bits");
    merkle::seal(as_u64(count), as_u64(text.len()), level[0])
}

fn row(figure: &str, text: &[u8], root: impl Fn() -> Hash32) {
    let repeats = BYTES / text.len();
    let mut rates: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = processor_s();
            for _ in 0..repeats {
                black_box(root());
            }
            mb(repeats * text.len()) / (processor_s() - start)
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    println!("{}", serde_json::json!({ "figure": figure, "ours": rates[ROUNDS / 2], "unit": "MB/s", "n": ROUNDS }));
}

/// Seconds of processor that this thread, the only one here, has used: nanoseconds are its scheduler's.
fn processor_s() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux says what a thread has used");
    let nanoseconds: f64 = text.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number of nanoseconds");
    nanoseconds / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
fn mb(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}
