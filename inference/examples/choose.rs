//! What choosing a token costs, over a vocabulary of 49,152: microseconds of one thread, the middle of many rounds.
//!
//! `cargo run -p inference --example choose`
//!
//! Logits are of chance, spread like a model's: most within ten of each other, a few far above. With temperature 1 and no filter
//! about a hundredth of the tokens weigh as much as all others.

use std::hint::black_box;
use std::time::Instant;

use inference::sampler::{Chooser, Counts, Options, TokenSet};

/// SmolLM2's.
const VOCABULARY: usize = 49_152;
const ROUNDS: u32 = 300;

fn main() {
    let logits: Vec<Vec<f32>> = (0..8).map(logits).collect();
    let warm = Options { temperature_milli: 1_000, ..Options::default() };
    let mut seen = Counts::new(&(0..2_000).map(|n| n * 17).collect::<Vec<_>>());
    (0..500).for_each(|n| seen.push(n * 31));
    let mut allowed = TokenSet::new(VOCABULARY);
    allowed.extend((0..49_152).filter(|token| token % 7 == 0));
    let rows = [
        ("greedy", Options::default(), None),
        ("temperature 1", warm.clone(), None),
        ("top-p 0.95", Options { top_p_ppm: 950_000, ..warm.clone() }, None),
        ("top-p 0.999999", Options { top_p_ppm: 999_999, ..warm.clone() }, None),
        ("top-k 40", Options { top_k: 40, ..warm.clone() }, None),
        ("top-k 40, top-p 0.95", Options { top_k: 40, top_p_ppm: 950_000, ..warm.clone() }, None),
        ("min-p 0.05", Options { min_p_ppm: 50_000, ..warm.clone() }, None),
        ("top-p 0.95, logprobs 5", Options { top_p_ppm: 950_000, logprobs: 5, ..warm.clone() }, None),
        (
            "top-p 0.95, penalties over 2,500 tokens",
            Options { top_p_ppm: 950_000, repeat_milli: 1_100, frequency_milli: 300, ..warm.clone() },
            None,
        ),
        ("top-p 0.95, a seventh allowed", Options { top_p_ppm: 950_000, ..warm.clone() }, Some(&allowed)),
    ];
    for (name, options, allowed) in rows {
        let mut chooser = Chooser::default();
        let mut took: Vec<f64> = (0..ROUNDS)
            .map(|round| {
                let logits = &logits[round as usize % logits.len()];
                let start = Instant::now();
                black_box(chooser.choose(black_box(logits), &options, &seen, allowed, &[7; 32], round));
                start.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        took.sort_by(f64::total_cmp);
        println!("{:>8.1} us  {name} (least {:.1})", took[took.len() / 2], took[0]);
    }
}

fn logits(row: u64) -> Vec<f32> {
    let mut state = row;
    let mut chance = move || {
        // Knuth's generator: good enough to spread numbers.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..VOCABULARY).map(|id| (chance() + chance() + chance()) * 4.0 + if id % 1_009 == 0 { chance() * 9.0 } else { 0.0 }).collect()
}
