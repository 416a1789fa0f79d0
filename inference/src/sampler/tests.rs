//! Choosing against what it was before it had options, and against the rules carried out in full.

use proptest::prelude::*;

use super::*;
use crate::numeric::weight;

const SEED: [u8; 32] = [9; 32];

fn warm(temperature_milli: u32, top_k: u32, top_p_ppm: u32) -> Sampling {
    Sampling { temperature_milli, top_k, top_p_ppm }
}

fn plain(logits: &[f32], sampling: Sampling, position: u32) -> u32 {
    choose(logits, &Options::from(sampling), &Counts::default(), None, &SEED, position).expect("a finite logit").token
}

fn judged(logits: &[f32], options: &Options, position: u32, token: u32) -> Judgement {
    judge(logits, options, &Counts::default(), None, &SEED, position, token)
}

/// What this function was before it had options, word for word but for names: a full sort, and the maths library's logarithms.
mod before {
    use super::*;

    #[expect(clippy::cast_possible_truncation, reason = "scores were rounded to f32")]
    pub(super) fn choose(logits: &[f32], sampling: Sampling, seed: &[u8; 32], position: u32) -> u32 {
        if sampling.temperature_milli == 0 {
            return argmax(ids(logits)).map_or(0, |(id, _)| id);
        }
        let least = threshold(logits, sampling);
        let digest = blake3::keyed_hash(seed, &position.to_le_bytes());
        let key = u64::from_le_bytes(digest.as_bytes()[..8].try_into().unwrap());
        let scored = ids(logits).filter(|(_, logit)| *logit >= least).map(|(id, logit)| {
            let bits = split_mix(key.wrapping_add(u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            let uniform = ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            let noise = -(-uniform.ln()).ln();
            (id, (f64::from(logit) + f64::from(sampling.temperature_milli) / 1_000.0 * noise) as f32)
        });
        argmax(scored).map_or(0, |(id, _)| id)
    }

    fn ids(logits: &[f32]) -> impl Iterator<Item = (u32, f32)> + '_ {
        (0u32..).zip(logits.iter().copied())
    }

    fn argmax(scores: impl Iterator<Item = (u32, f32)>) -> Option<(u32, f32)> {
        let mut best: Option<(u32, f32)> = None;
        for (id, score) in scores {
            if !score.is_nan() && best.is_none_or(|(_, top)| score > top) {
                best = Some((id, score));
            }
        }
        best
    }

    fn threshold(logits: &[f32], sampling: Sampling) -> f32 {
        let mut threshold = f32::NEG_INFINITY;
        let k = sampling.top_k as usize;
        let limits_k = k > 0 && k < logits.len();
        let limits_p = (1..1_000_000).contains(&sampling.top_p_ppm);
        if limits_k || limits_p {
            let mut sorted = logits.to_vec();
            if limits_k && k < sorted.len() {
                let (_, kth, _) = sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
                threshold = *kth;
                sorted.truncate(k);
            }
            if limits_p {
                sorted.sort_unstable_by(|a, b| b.total_cmp(a));
                threshold = threshold.max(nucleus(&sorted, sampling));
            }
        }
        threshold
    }

    fn nucleus(sorted: &[f32], sampling: Sampling) -> f32 {
        let temperature = f64::from(sampling.temperature_milli) / 1_000.0;
        let weight = |logit: f32| (f64::from(logit - sorted[0]) / temperature).exp();
        let total: f64 = sorted.iter().map(|&logit| weight(logit)).sum();
        let target = total * f64::from(sampling.top_p_ppm) / 1e6;
        let mut sum = 0.0;
        for &logit in sorted {
            sum += weight(logit);
            if sum >= target {
                return logit;
            }
        }
        sorted[sorted.len() - 1]
    }
}

/// The rules as the module's words have them: everything sorted, everything scored.
fn by_the_rules(logits: &[f32], options: &Options, seen: &Counts, allowed: Option<&TokenSet>, position: u32) -> Option<u32> {
    let mut scores = Vec::new();
    counts::adjust(logits, options, seen, allowed, &mut scores);
    let mut order: Vec<(u32, f32)> = (0u32..).zip(scores).filter(|(_, score)| score.is_finite()).collect();
    order.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap());
    let largest = order.first()?.1;
    if options.temperature_milli == 0 {
        return Some(order[0].0);
    }
    let scale = 1_000.0 / f64::from(options.temperature_milli);
    let mut least = f32::MIN;
    let k = if options.top_k == 0 { order.len() } else { order.len().min(options.top_k as usize) };
    least = least.max(order[k - 1].1);
    let weights: Vec<u128> = order[..k].iter().map(|(_, score)| u128::from(weight(f64::from(score - largest) * scale))).collect();
    if (1..1_000_000).contains(&options.top_p_ppm) {
        let total: u128 = weights.iter().sum();
        let mut sum = 0;
        for (&(_, score), weight) in order.iter().zip(weights) {
            sum += weight;
            if sum * 1_000_000 >= total * u128::from(options.top_p_ppm) {
                least = least.max(score);
                break;
            }
        }
    }
    if options.min_p_ppm > 0 {
        let boundary = f64::from(largest) + crate::numeric::ln(f64::from(options.min_p_ppm) / 1e6) / scale;
        order.retain(|(_, score)| f64::from(*score) >= boundary);
    }
    let noise = Noise::new(&SEED, position);
    let scored = order.iter().filter(|(_, score)| *score >= least).map(|&(id, logit)| (score(logit, 1.0 / scale, noise.gumbel(id)), id));
    scored.reduce(|a, b| if b.0 > a.0 || (b.0 == a.0 && b.1 < a.1) { b } else { a }).map(|(_, id)| id)
}

#[test]
fn greedy_takes_the_lowest_of_equal_ids_and_nothing_infinite() {
    assert_eq!(plain(&[1.0, 3.0, 3.0, f32::NAN, f32::INFINITY], Sampling::GREEDY, 0), 1);
    let mut wide = vec![-1.0; 500];
    (wide[67], wide[300], wide[499]) = (2.0, 2.0, 2.0);
    assert_eq!(plain(&wide, Sampling::GREEDY, 0), 67);
}

#[test]
fn without_a_finite_logit_nothing_is_chosen() {
    for logits in [&[][..], &[f32::NAN; 70], &[f32::NEG_INFINITY, f32::INFINITY]] {
        for sampling in [Sampling::GREEDY, warm(1_000, 3, 900_000)] {
            assert_eq!(choose(logits, &sampling.into(), &Counts::default(), None, &SEED, 0), None);
        }
    }
    let none = TokenSet::new(4);
    assert_eq!(choose(&[1.0; 4], &warm(500, 0, 0).into(), &Counts::default(), Some(&none), &SEED, 0), None);
}

#[test]
fn choices_are_stable_across_releases() {
    let logits: Vec<f32> = (0..50).map(|i| (i as f32 * 0.37).sin()).collect();
    let got: Vec<u32> = (0..8).map(|p| plain(&logits, warm(1_000, 0, 0), p)).collect();
    assert_eq!(got, GOLDEN);
}
const GOLDEN: [u32; 8] = [38, 26, 31, 47, 10, 22, 13, 38];

#[test]
fn frequencies_follow_the_softmax() {
    // Weights 1 : 2 : 4 at temperature 1; 3 standard errors of the largest share over n draws.
    let logits = [0.0, 2f32.ln(), 4f32.ln()];
    let n = 20_000u32;
    let mut counts = [0u32; 3];
    for position in 0..n {
        counts[plain(&logits, warm(1_000, 0, 0), position) as usize] += 1;
    }
    for (count, share) in counts.iter().zip([1.0 / 7.0, 2.0 / 7.0, 4.0 / 7.0]) {
        let expected = f64::from(n) * share;
        let error = 3.0 * (f64::from(n) * share * (1.0 - share)).sqrt();
        assert!((f64::from(*count) - expected).abs() < error, "{counts:?}");
    }
}

#[test]
fn top_k_top_p_and_min_p_admit_only_the_largest() {
    let logits = [5.0, 4.0, 0.0, 1.0];
    let min_p = Options { min_p_ppm: 300_000, ..warm(1_000, 0, 0).into() };
    for position in 0..500 {
        assert!(plain(&logits, warm(3_000, 2, 0), position) < 2);
        assert_eq!(plain(&logits, warm(1_000, 0, 500_000), position), 0);
        // The second is e^-1 = 0.37 as likely, the fourth e^-4.
        assert!(choose(&logits, &min_p, &Counts::default(), None, &SEED, position).unwrap().token < 2);
    }
}

#[test]
fn logarithms_are_the_models_own_in_millionths() {
    // Probabilities 1/7, 2/7, 4/7.
    let logits = [0.0, 2f32.ln(), 4f32.ln()];
    let mut options = Options { logprobs: 2, temperature_milli: 100, ..Options::default() };
    options.bias = vec![(0, 50_000)];
    let choice = choose(&logits, &options, &Counts::default(), None, &SEED, 0).unwrap();
    assert_eq!(choice.token, 0);
    assert_eq!(choice.logprobs.as_deref(), Some([(0, -1_945_910), (2, -559_616), (1, -1_252_763)].as_slice()));
    options.logprobs = 20;
    assert_eq!(choose(&logits, &options, &Counts::default(), None, &SEED, 0).unwrap().logprobs.unwrap().len(), 4);
}

#[test]
fn a_token_just_outside_the_tolerance_fails() {
    let logits = [1.0, 1.0 - 0.9e-3, 1.0 - 2e-3];
    let judged = |token| judged(&logits, &Options::default(), 0, token);
    assert!(judged(0).passes);
    assert!(judged(1).passes);
    assert!(!judged(2).passes && judged(2).best == 0, "{:?}", judged(2));
    assert!(!judged(3).passes);
}

#[test]
fn a_token_is_judged_as_options_and_grammar_leave_its_logit() {
    let logits = [1.0, 0.0, 2.0];
    let biased = Options { bias: vec![(1, 3_000)], ..Options::default() };
    let found = judged(&logits, &biased, 0, 2);
    assert_eq!((found.best, found.margin, found.passes), (1, 1.0, false));
    let mut seen = Counts::default();
    seen.push(2);
    let penalised = Options { presence_milli: 2_000, ..Options::default() };
    let found = judge(&logits, &penalised, &seen, None, &SEED, 0, 2);
    assert_eq!((found.best, found.margin), (0, 1.0));
    let mut allowed = TokenSet::new(3);
    allowed.insert(1);
    let found = judge(&logits, &Options::default(), &Counts::default(), Some(&allowed), &SEED, 0, 2);
    assert_eq!((found.best, found.margin, found.passes), (1, f32::INFINITY, false));
    // Half as likely as the likeliest: the last one alone.
    let rare = Options { temperature_milli: 1_000, min_p_ppm: 500_000, ..Options::default() };
    assert_eq!(judged(&logits, &rare, 0, 0).margin, f32::INFINITY);
}

/// Logits of a vocabulary of some blocks: spread like a model's, or on a coarse grid, so that many are equal.
fn any_logits() -> impl Strategy<Value = Vec<f32>> {
    let spread = prop::collection::vec(-12f32..12.0, 1..400);
    let equal = prop::collection::vec((-6i8..6).prop_map(|step| f32::from(step) * 0.5), 1..400);
    prop_oneof![spread, equal]
}

fn any_sampling() -> impl Strategy<Value = Sampling> {
    let temperature = prop::sample::select(vec![0u32, 1, 200, 700, 1_000, 1_500, 10_000_000]);
    let top_k = prop::sample::select(vec![0u32, 1, 2, 3, 7, 40, 200, u32::MAX]);
    let top_p = prop::sample::select(vec![0u32, 1, 300_000, 900_000, 999_000, 999_999, 1_000_000]);
    (temperature, top_k, top_p).prop_map(|(temperature, top_k, top_p)| warm(temperature, top_k, top_p))
}

fn any_options() -> impl Strategy<Value = Options> {
    let penalties = (prop::sample::select(vec![500u32, 1_000, 1_000, 1_300]), -2_000i32..2_000, -2_000i32..2_000, any::<bool>());
    let bias = prop::collection::btree_map(0u32..420, prop::sample::select(vec![-100_000i32, -700, 1, 2_500]), 0..5);
    let min_p = prop::sample::select(vec![0u32, 0, 1, 50_000, 1_000_000]);
    (any_sampling(), min_p, penalties, bias, 0u8..4).prop_map(|(sampling, min_p_ppm, penalties, bias, logprobs)| {
        let (repeat_milli, presence_milli, frequency_milli, has_presence) = penalties;
        Options {
            min_p_ppm,
            repeat_milli,
            presence_milli: if has_presence { presence_milli } else { 0 },
            frequency_milli: if has_presence { frequency_milli } else { 0 },
            bias: bias.into_iter().collect(),
            logprobs,
            ..sampling.into()
        }
    })
}

fn any_counts() -> impl Strategy<Value = Counts> {
    (prop::collection::vec(0u32..420, 0..10), prop::collection::vec(0u32..420, 0..10)).prop_map(|(prompt, answer)| {
        let mut counts = Counts::new(&prompt);
        answer.into_iter().for_each(|token| counts.push(token));
        counts
    })
}

fn any_set() -> impl Strategy<Value = Option<TokenSet>> {
    prop::option::of(prop::collection::vec(0u32..400, 1..60).prop_map(|tokens| {
        let mut set = TokenSet::new(400);
        set.extend(tokens);
        set
    }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn neutral_options_choose_what_was_chosen_before(logits in any_logits(), sampling in any_sampling(), position in any::<u32>()) {
        prop_assert_eq!(plain(&logits, sampling, position), before::choose(&logits, sampling, &SEED, position));
    }

    #[test]
    fn the_quick_way_chooses_by_the_rules(
        logits in any_logits(), options in any_options(), seen in any_counts(), allowed in any_set(), position in any::<u32>(),
    ) {
        let choice = choose(&logits, &options, &seen, allowed.as_ref(), &SEED, position);
        prop_assert_eq!(choice.map(|choice| choice.token), by_the_rules(&logits, &options, &seen, allowed.as_ref(), position));
    }

    #[test]
    fn a_barred_token_is_never_chosen(
        logits in any_logits(), options in any_options(), seen in any_counts(), allowed in any_set(), bad in any::<prop::sample::Index>(),
    ) {
        let mut logits = logits;
        let bad = bad.index(logits.len());
        logits[bad] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][bad % 3];
        for position in 0..4 {
            if let Some(choice) = choose(&logits, &options, &seen, allowed.as_ref(), &SEED, position) {
                prop_assert!(logits[choice.token as usize].is_finite());
                prop_assert!(allowed.as_ref().is_none_or(|allowed| allowed.contains(choice.token)));
            } else {
                prop_assert!((0u32..).zip(&logits).all(|(id, logit)| !logit.is_finite() || allowed.as_ref().is_some_and(|set| !set.contains(id))));
            }
        }
    }

    /// Kept room changes nothing, nor does what was chosen before with it, in whatever order rows of a batch come.
    #[test]
    fn choices_do_not_depend_on_the_order_of_a_batch(
        rows in prop::collection::vec((any_logits(), any_options(), any_counts(), any_set()), 1..5).prop_flat_map(|rows| {
            let order: Vec<usize> = (0..rows.len()).collect();
            (Just(rows), Just(order).prop_shuffle())
        }),
    ) {
        let (rows, order) = rows;
        let mut chooser = Chooser::default();
        for at in order {
            let (logits, options, seen, allowed) = &rows[at];
            let alone = choose(logits, options, seen, allowed.as_ref(), &SEED, 7);
            prop_assert_eq!(chooser.choose(logits, options, seen, allowed.as_ref(), &SEED, 7), alone);
        }
    }

    /// Filters look at values alone: where in the vocabulary a logit stands does not matter to who is admitted.
    #[test]
    fn the_boundary_does_not_depend_on_the_order_of_the_vocabulary(
        logits in any_logits().prop_flat_map(|logits| (Just(logits.clone()), Just(logits).prop_shuffle())), options in any_options(),
    ) {
        prop_assume!(options.temperature_milli > 0);
        let boundary = |logits: &[f32]| {
            let mut peaks = Peaks::default();
            peaks.read(logits);
            threshold(logits, &peaks, &options, &mut Vec::new()).map(f32::to_bits)
        };
        prop_assert_eq!(boundary(&logits.0), boundary(&logits.1));
    }

    /// Whoever samples with logits that differ by less than half the tolerance passes the check.
    #[test]
    fn honest_rounding_always_passes(
        logits in prop::collection::vec(-8f32..8.0, 2..60),
        jitter in prop::collection::vec(-0.45e-3f32..0.45e-3, 60),
        temperature in prop::sample::select(vec![0u32, 200, 700, 1_000, 1_500]),
        top_k in 0u32..8,
        top_p in prop::sample::select(vec![0u32, 300_000, 900_000, 999_000]),
        min_p_ppm in prop::sample::select(vec![0u32, 1, 50_000, 500_000, 1_000_000]),
        position in any::<u32>(),
    ) {
        let options = Options { min_p_ppm, ..warm(temperature, top_k, top_p).into() };
        let moved: Vec<f32> = logits.iter().zip(&jitter).map(|(a, b)| a + b).collect();
        let token = choose(&moved, &options, &Counts::default(), None, &SEED, position).unwrap().token;
        let judged = judged(&logits, &options, position, token);
        prop_assert!(judged.passes, "{judged:?}");
    }
}

#[test]
fn a_whole_vocabulary_is_chosen_from_by_the_rules() {
    let mut state = 5;
    let mut noise = move || {
        state = split_mix(state);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    // A few likely tokens over a broad floor, as a model's.
    let logits: Vec<f32> = (0..49_152).map(|id| noise() * 9.0 + if id % 997 == 0 { noise() * 9.0 } else { 0.0 }).collect();
    let mut chooser = Chooser::default();
    let filters = [(0, 0, 0), (40, 0, 0), (0, 950_000, 0), (0, 999_999, 0), (1_000, 950_000, 0), (0, 0, 50_000), (0, 1, 1)];
    for (position, (top_k, top_p_ppm, min_p_ppm)) in (0..).zip(filters.into_iter().cycle().take(42)) {
        let temperature_milli = [1, 700, 1_000, 2_000, 20_000, 10_000_000][position as usize % 6];
        let options = Options { top_k, top_p_ppm, min_p_ppm, temperature_milli, ..Options::default() };
        let got = chooser.choose(&logits, &options, &Counts::default(), None, &SEED, position).map(|choice| choice.token);
        assert_eq!(got, by_the_rules(&logits, &options, &Counts::default(), None, position), "{options:?} at {position}");
    }
}
