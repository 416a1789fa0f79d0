//! Steps on the CPU: the same bits however a text is cut into steps, batches, pages, tasks and threads, and on every path.
#![allow(clippy::unwrap_used, missing_docs)]

use std::num::NonZeroUsize;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use inference::adapter::Packed8;
use inference::backend::cpu::kernel::{Path, available};
use inference::backend::cpu::{Cpu, CpuConfig};
use inference::backend::{Backend, Outputs, Profile};
use inference::model::packed::PackedModel;
use inference::model::{Cache, Model, Site};
use inference::step::{PAGE_TOKENS, Page, Segment, Slot, Span, Step, StepError};
use inference::tiny::{self, families::Tiny};
use inference::{Message, Role};

/// Tokens of a test's text: beyond two pages.
const TOKENS: u32 = 150;
const LAYERS: usize = 2;
const PAGES: u32 = 40;

fn tokens(seed: u32) -> Vec<u32> {
    (0..TOKENS).map(|at| (at * 37 + 11 + seed * 101) % 300).collect()
}

fn file(folder: &FilePath, tiny: Tiny) -> PathBuf {
    let path = folder.join(format!("{tiny}.gguf"));
    std::fs::write(&path, tiny.bytes(LAYERS, Tiny::SEED)).unwrap();
    path
}

fn packed(tiny: Tiny) -> Arc<PackedModel> {
    let folder = tempfile::tempdir().unwrap();
    Arc::new(PackedModel::load(&file(folder.path(), tiny), None, Profile::Exact).unwrap().0)
}

fn device(model: &Arc<PackedModel>, path: Option<Path>, threads: usize) -> Cpu {
    let config = CpuConfig { threads: NonZeroUsize::new(threads).unwrap(), pages: PAGES, slots: 8, path, ..CpuConfig::default() };
    Cpu::new(Arc::clone(model), &config).unwrap()
}

/// One sequence of a test.
#[derive(Clone)]
struct Sequence {
    tokens: Vec<u32>,
    pages: Vec<u32>,
    /// How many tokens it has computed.
    done: u32,
    /// Slots and scales.
    adapters: Vec<(u32, f32)>,
}

impl Sequence {
    fn new(tokens: Vec<u32>, pages: &[u32]) -> Self {
        Self { tokens, pages: pages.to_vec(), done: 0, adapters: Vec::new() }
    }
}

/// Computes the next tokens of some sequences in one step; the logits after each of them.
fn step(cpu: &mut Cpu, sequences: &mut [Sequence], which: &[(usize, u32)], out: &mut Outputs) -> Vec<Vec<Vec<f32>>> {
    let (mut tokens, mut positions, mut spans, mut pages) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut placed: Vec<(usize, u32, f32, Vec<u32>)> = Vec::new();
    for (sequence, count) in which {
        let sequence = &mut sequences[*sequence];
        let first = u32::try_from(tokens.len()).unwrap();
        let from = usize::try_from(sequence.done).unwrap();
        tokens.extend(&sequence.tokens[from..][..usize::try_from(*count).unwrap()]);
        positions.extend(sequence.done..sequence.done + count);
        let (first_page, count_pages) = (u32::try_from(pages.len()).unwrap(), u32::try_from(sequence.pages.len()).unwrap());
        spans.push(Span { first_row: first, rows: *count, first_page, pages: count_pages });
        pages.extend(&sequence.pages);
        for (nth, (slot, scale)) in sequence.adapters.iter().enumerate() {
            let rows = first..first + count;
            match placed.iter_mut().find(|(n, s, c, _)| (*n, *s, *c) == (nth, *slot, *scale)) {
                Some(entry) => entry.3.extend(rows),
                None => placed.push((nth, *slot, *scale, rows.collect())),
            }
        }
        sequence.done += count;
    }
    placed.sort_by_key(|(nth, slot, ..)| (*nth, *slot));
    let (mut segments, mut segment_rows) = (Vec::new(), Vec::new());
    for (_, slot, scale, rows) in placed {
        let first = u32::try_from(segment_rows.len()).unwrap();
        segments.push(Segment { slot, first, rows: u32::try_from(rows.len()).unwrap(), scale });
        segment_rows.extend(rows);
    }
    let wanted: Vec<u32> = (0..u32::try_from(tokens.len()).unwrap()).collect();
    let step = Step {
        tokens: &tokens,
        positions: &positions,
        spans: &spans,
        page_table: &pages,
        segments: &segments,
        segment_rows: &segment_rows,
        wanted: &wanted,
    };
    cpu.forward(&step, out).unwrap();
    assert_eq!(out.failed, [0u32; 0]);
    let vocabulary = cpu.info().config.vocabulary;
    let mut rows = out.logits.chunks_exact(vocabulary).map(<[f32]>::to_vec);
    which.iter().map(|(_, count)| rows.by_ref().take(usize::try_from(*count).unwrap()).collect()).collect()
}

/// Logits after every token of one sequence, computed in chunks of the given lengths by turns; then the digests of its pages.
fn alone(cpu: &mut Cpu, sequence: &Sequence, chunks: &[u32]) -> (Vec<Vec<f32>>, Vec<[u8; 32]>) {
    let (mut sequences, mut out, mut logits) = (vec![sequence.clone()], cpu.outputs(), Vec::new());
    for chunk in chunks.iter().cycle() {
        let left = u32::try_from(sequence.tokens.len()).unwrap() - sequences[0].done;
        if left == 0 {
            break;
        }
        logits.extend(step(cpu, &mut sequences, &[(0, left.min(*chunk))], &mut out).remove(0));
    }
    (logits, digests(cpu, sequence))
}

fn digests(cpu: &Cpu, sequence: &Sequence) -> Vec<[u8; 32]> {
    let length = u32::try_from(sequence.tokens.len()).unwrap();
    (0..length.div_ceil(PAGE_TOKENS))
        .map(|at| cpu.page_digest(Page(sequence.pages[at as usize]), PAGE_TOKENS.min(length - at * PAGE_TOKENS)))
        .collect()
}

#[track_caller]
fn same(got: &[Vec<f32>], expected: &[Vec<f32>], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (position, (got, expected)) in got.iter().zip(expected).enumerate() {
        for (token, (got, expected)) in got.iter().zip(expected).enumerate() {
            assert_eq!(got.to_bits(), expected.to_bits(), "{what}: position {position}, token {token}: {got}, expected {expected}");
        }
    }
}

#[test]
fn a_text_has_the_same_bits_whole_token_by_token_and_in_any_chunks_on_any_pages() {
    for tiny in Tiny::ALL {
        let model = packed(tiny);
        let mut cpu = device(&model, None, 2);
        let (expected, pages) = alone(&mut cpu, &Sequence::new(tokens(0), &[0, 1, 2]), &[TOKENS]);
        for (chunks, places) in [(&[1][..], &[0, 1, 2]), (&[64], &[7, 3, 30]), (&[3, 17, 1, 40], &[39, 0, 5]), (&[149, 1], &[2, 1, 0])] {
            let (got, digests) = alone(&mut cpu, &Sequence::new(tokens(0), places), chunks);
            same(&got, &expected, &format!("{tiny}, chunks of {chunks:?} on pages {places:?}"));
            assert_eq!(digests, pages, "{tiny}: keys and values of chunks {chunks:?}");
        }
    }
}

#[test]
fn every_path_and_number_of_threads_has_the_same_bits() {
    for tiny in Tiny::ALL {
        let model = packed(tiny);
        let (expected, _) = alone(&mut device(&model, Some(Path::Scalar), 1), &Sequence::new(tokens(3), &[4, 5, 6]), &[50, 1]);
        for path in available() {
            for threads in [1, 2, 5] {
                let mut cpu = device(&model, Some(path), threads);
                let before = cpu.kernels().calls();
                let (got, _) = alone(&mut cpu, &Sequence::new(tokens(3), &[4, 5, 6]), &[50, 1]);
                same(&got, &expected, &format!("{tiny}, {path:?}, {threads} threads"));
                let after = cpu.kernels().calls();
                assert!(after[0] > before[0] && after[1] > before[1], "{path:?} was used");
            }
        }
    }
}

fn adapter(cpu: &Cpu, folder: &FilePath, rank: usize, seed: u64) -> Arc<Packed8> {
    let dir = folder.join(format!("adapter-{seed}"));
    tiny::write_adapter(&dir, None, rank, seed).unwrap();
    Arc::new(Packed8::read(&dir, cpu.info()).unwrap())
}

/// Five sequences: none, one, the same and two adapters in either order.
fn mixed(cpu: &mut Cpu, folder: &FilePath) -> Vec<Sequence> {
    for (slot, rank) in [(0, 1), (1, 17), (2, 256)] {
        let adapter = adapter(cpu, folder, rank, u64::from(slot) + 7);
        cpu.attach(Slot(slot), &adapter).unwrap();
    }
    let adapters = [vec![], vec![(0, 1.0)], vec![(0, 1.0)], vec![(1, 0.5), (2, 2.0)], vec![(2, 2.0), (1, 0.5)]];
    let of = |(at, adapters): (usize, Vec<(u32, f32)>)| {
        let at = u32::try_from(at).unwrap();
        Sequence { adapters, ..Sequence::new(tokens(at), &[3 * at, 3 * at + 1, 3 * at + 2]) }
    };
    adapters.into_iter().enumerate().map(of).collect()
}

#[test]
fn sequences_with_different_adapters_have_in_any_batch_the_bits_they_have_alone() {
    let folder = tempfile::tempdir().unwrap();
    // The tiny adapters fit heads of 16.
    for tiny in [Tiny::Smollm2, Tiny::Llama3, Tiny::Qwen2] {
        let model = packed(tiny);
        let mut cpu = device(&model, None, 2);
        let sequences = mixed(&mut cpu, folder.path());
        let expected: Vec<_> = sequences.iter().map(|sequence| alone(&mut cpu, sequence, &[TOKENS])).collect();
        let plain = Sequence { adapters: Vec::new(), ..sequences[1].clone() };
        assert!(alone(&mut cpu, &plain, &[TOKENS]).0 != expected[1].0, "an adapter changes something");
        for order in [[0, 1, 2, 3, 4], [4, 2, 0, 3, 1]] {
            let (mut batch, mut out) = (sequences.clone(), cpu.outputs());
            let mut got = vec![Vec::new(); 5];
            for turn in 0.. {
                // Some read their prompt while others are a token at a time, and some rest.
                let due = |at: usize| {
                    (TOKENS - batch[at].done).min([1, 23, 40, 5, 11][(turn + at) % 5] * u32::from(!(turn + at).is_multiple_of(4)))
                };
                let which: Vec<(usize, u32)> = order.iter().map(|at| (*at, due(*at))).filter(|(_, count)| *count > 0).collect();
                if batch.iter().all(|sequence| sequence.done == TOKENS) {
                    break;
                }
                if !which.is_empty() {
                    for (logits, (at, _)) in step(&mut cpu, &mut batch, &which, &mut out).into_iter().zip(&which) {
                        got[*at].extend(logits);
                    }
                }
            }
            for (at, (got, (expected, pages))) in got.iter().zip(&expected).enumerate() {
                same(got, expected, &format!("{tiny}, sequence {at} in the order {order:?}"));
                assert_eq!(digests(&cpu, &sequences[at]), *pages);
            }
        }
    }
}

#[test]
fn each_site_has_one_base_product_a_step_whatever_rows_and_adapters_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let model = packed(Tiny::Smollm2);
    let mut cpu = device(&model, None, 2);
    for slot in 0..8 {
        let adapter = adapter(&cpu, folder.path(), 8, u64::from(slot) + 50);
        cpu.attach(Slot(slot), &adapter).unwrap();
    }
    for adapters in [0, 1, 2, 8u32] {
        let of = |at: u32| {
            let adapters = if adapters == 0 { vec![] } else { vec![(at % adapters, 1.0)] };
            Sequence { adapters, ..Sequence::new(tokens(at), &[4 * at, 4 * at + 1, 4 * at + 2]) }
        };
        let (mut sequences, mut out) = ((0..8).map(of).collect::<Vec<_>>(), cpu.outputs());
        let (before, calls) = (cpu.counters(), cpu.kernels().calls());
        step(&mut cpu, &mut sequences, &(0..8).map(|at| (at, 1)).collect::<Vec<_>>(), &mut out);
        let (after, calls_after) = (cpu.counters(), cpu.kernels().calls());
        assert_eq!((after.steps, after.rows), (before.steps + 1, before.rows + 8));
        for site in 0..8 {
            let layers = if site == 7 { 1 } else { LAYERS as u64 };
            assert_eq!(after.products[site] - before.products[site], layers, "{adapters} adapters, site {site}");
        }
        for site in Site::ALL {
            let segments = after.adapters[site as usize] - before.adapters[site as usize];
            assert_eq!(segments, u64::from(adapters) * LAYERS as u64, "{adapters} adapters, {site:?}");
        }
        // At least: other tests of this process use the same table.
        assert!(calls_after[2] - calls[2] >= u64::from(adapters) && calls_after[0] > calls[0]);
    }
}

/// How far a token's distribution may be from that in f32, in nats, through two layers of random weights: activations, keys and values of
/// 8 bits. Measured where it is furthest: 0.011, of the model like Llama 3; 0.002 of the others.
const NEAR: f64 = 0.02;
/// The same of a trained model on average, whose perplexity then grows by about as much as a share. Measured on SmolLM2-135M, of 37 tokens: 0.007 (`tests/quality.rs` has more).
const NEAR_ON_AVERAGE: f64 = 0.01;

/// How much worse a code made for `got` is for what f32 expects, in nats a token (Kullback and Leibler's divergence).
fn divergence(got: &[f32], expected: &[f32]) -> f64 {
    let shares = |logits: &[f32]| -> Vec<f64> {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|logit| f64::from(logit - most).exp()).sum();
        logits.iter().map(|logit| f64::from(logit - most) - sum.ln()).collect()
    };
    shares(expected).into_iter().zip(shares(got)).map(|(expected, got)| expected.exp() * (expected - got)).sum()
}

#[test]
fn logits_are_near_those_of_the_graph_in_f32() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for tiny in Tiny::ALL {
        let path = file(folder.path(), tiny);
        let graph = Model::load(&path, None).unwrap().0;
        let mut cpu = device(&Arc::new(PackedModel::load(&path, None, Profile::Exact).unwrap().0), None, 2);
        let sequence = Sequence::new(tokens(1), &[0, 1, 2]);
        let (got, _) = alone(&mut cpu, &sequence, &[TOKENS]);
        let (mut cache, mut worst, mut agree) = (Cache::new(graph.config()), 0f64, 0u32);
        for (token, got) in sequence.tokens.iter().zip(&got) {
            let expected = graph.forward(&[*token], &mut cache, None).unwrap();
            worst = worst.max(divergence(got, &expected));
            agree += u32::from(best(&expected) == best(got));
        }
        println!("{tiny}: {worst:.5} nats at most, {agree} of {TOKENS} likeliest tokens agree");
        if worst >= NEAR || agree < TOKENS * 9 / 10 {
            wrong.push(tiny);
        }
    }
    assert_eq!(wrong, []);
}

/// The likeliest token, the lowest of equals.
fn best(logits: &[f32]) -> usize {
    logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |most, (at, logit)| if *logit > most.1 { (at, *logit) } else { most }).0
}

#[test]
fn a_row_that_fails_takes_its_sequence_and_no_other() {
    let model = packed(Tiny::Smollm2);
    let folder = tempfile::tempdir().unwrap();
    let mut cpu = device(&model, None, 2);
    let adapter = adapter(&cpu, folder.path(), 8, 1);
    cpu.attach(Slot(0), &adapter).unwrap();
    let sequence = Sequence::new(tokens(0), &[0, 1, 2]);
    let (expected, _) = alone(&mut cpu, &sequence, &[20]);
    let mut out = cpu.outputs();
    let (tokens, positions): (Vec<u32>, Vec<u32>) = ([&sequence.tokens[..4]; 3].concat(), [0, 1, 2, 3].repeat(3));
    let span = |first_row: u32, first_page| Span { first_row, rows: 4, first_page, pages: 1 };
    // A request scales its adapter beyond all numbers, from its second token on.
    let step = Step {
        tokens: &tokens,
        positions: &positions,
        spans: &[span(0, 0), span(4, 1), span(8, 2)],
        page_table: &[5, 6, 7],
        segments: &[Segment { slot: 0, first: 0, rows: 1, scale: 1e30 }],
        segment_rows: &[5],
        wanted: &[3, 4, 7, 11],
    };
    cpu.forward(&step, &mut out).unwrap();
    assert_eq!(out.failed, [5, 6, 7]);
    let rows: Vec<_> = out.logits.chunks_exact(300).map(<[f32]>::to_vec).collect();
    same(&[rows[0].clone(), rows[1].clone(), rows[3].clone()], &[expected[3].clone(), expected[0].clone(), expected[3].clone()], "others");
    assert!(rows[2].iter().all(|logit| logit.is_nan()));
}

#[test]
fn a_step_that_does_not_fit_is_refused_and_changes_nothing() {
    let model = packed(Tiny::Smollm2);
    let mut cpu = device(&model, None, 1);
    let mut out = cpu.outputs();
    let good = Step {
        tokens: &[1, 2],
        positions: &[0, 1],
        spans: &[Span { first_row: 0, rows: 2, first_page: 0, pages: 1 }],
        page_table: &[3],
        segments: &[],
        segment_rows: &[],
        wanted: &[1],
    };
    cpu.forward(&good, &mut out).unwrap();
    let before = (out.clone(), cpu.page_digest(Page(3), 64), cpu.counters());
    let span = |first_row, rows, first_page, pages| Span { first_row, rows, first_page, pages };
    let segment = |slot, first, rows| Segment { slot, first, rows, scale: 1.0 };
    for (bad, error) in [
        (Step { tokens: &[], positions: &[], spans: &[], wanted: &[], ..good }, StepError::Rows { got: 0, max: 256 }),
        (Step { positions: &[0], ..good }, StepError::Spans { row: 1 }),
        (Step { tokens: &[1, 300], ..good }, StepError::Token { row: 1, token: 300, vocabulary: 300 }),
        (Step { spans: &[], ..good }, StepError::Spans { row: 0 }),
        (Step { spans: &[span(0, 1, 0, 1)], ..good }, StepError::Spans { row: 1 }),
        (Step { spans: &[span(0, 3, 0, 1)], ..good }, StepError::Spans { row: 0 }),
        (Step { spans: &[span(0, u32::MAX, 0, 1)], ..good }, StepError::Spans { row: 0 }),
        (Step { spans: &[span(0, 2, 1, 1)], ..good }, StepError::Spans { row: 0 }),
        (Step { spans: &[span(0, 2, 0, u32::MAX)], ..good }, StepError::Spans { row: 0 }),
        (Step { positions: &[0, 2], ..good }, StepError::Position { row: 1, position: 2 }),
        (Step { positions: &[63, 64], ..good }, StepError::Position { row: 1, position: 64 }),
        (Step { positions: &[u32::MAX, 0], ..good }, StepError::Position { row: 0, position: u32::MAX }),
        (Step { page_table: &[PAGES], ..good }, StepError::Page { page: PAGES, pages: PAGES }),
        (Step { wanted: &[1, 1], ..good }, StepError::Wanted { row: 1 }),
        (Step { wanted: &[2], ..good }, StepError::Wanted { row: 2 }),
        (Step { segments: &[segment(8, 0, 1)], segment_rows: &[0], ..good }, StepError::Slot { slot: 8 }),
        (Step { segments: &[segment(0, 0, 1)], segment_rows: &[0], ..good }, StepError::Slot { slot: 0 }),
        (Step { segments: &[segment(0, 0, 2)], segment_rows: &[0], ..good }, StepError::Segment { segment: 0 }),
        (Step { segments: &[segment(0, 0, 2)], segment_rows: &[1, 0], ..good }, StepError::Segment { segment: 0 }),
        (Step { segments: &[segment(0, 0, 1)], segment_rows: &[2], ..good }, StepError::Segment { segment: 0 }),
        (Step { segments: &[segment(0, u32::MAX, 2)], segment_rows: &[0], ..good }, StepError::Segment { segment: 0 }),
        (Step { segment_rows: &[0], ..good }, StepError::Segment { segment: 0 }),
    ] {
        assert_eq!(cpu.forward(&bad, &mut out), Err(error));
        assert_eq!((out.clone(), cpu.page_digest(Page(3), 64), cpu.counters()), before);
    }
}

#[test]
fn a_copied_page_goes_on_as_the_one_it_is_of() {
    let model = packed(Tiny::Qwen3);
    let mut cpu = device(&model, None, 2);
    let (expected, _) = alone(&mut cpu, &Sequence::new(tokens(2), &[0, 1, 2]), &[TOKENS]);
    let (mut out, mut sequences) = (cpu.outputs(), vec![Sequence::new(tokens(2), &[10, 11, 12])]);
    step(&mut cpu, &mut sequences, &[(0, 90)], &mut out);
    cpu.copy_page(Page(11), Page(20));
    sequences[0].pages = vec![10, 20, 12];
    let got = step(&mut cpu, &mut sequences, &[(0, TOKENS - 90)], &mut out).remove(0);
    same(&got, &expected[90..], "behind a fork");
}

#[test]
fn smollm2_knows_the_capital_of_france() {
    let path = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/model/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(path.is_file(), "{} is missing: run `cargo xtask fetch`", path.display());
    let (model, text) = PackedModel::load(&path, None, Profile::Exact).unwrap();
    let mut cpu = device(&Arc::new(model), None, 2);
    let answer = |cpu: &mut Cpu, prompt: Vec<u32>, most: usize| {
        let (mut sequences, mut out) = (vec![Sequence::new(prompt.clone(), &[0, 1, 2])], cpu.outputs());
        let mut due = u32::try_from(prompt.len()).unwrap();
        for _ in 0..most {
            let logits = step(cpu, &mut sequences, &[(0, due)], &mut out).remove(0);
            let token = u32::try_from(best(logits.last().unwrap())).unwrap();
            if text.tokenizer.eos().contains(&token) {
                break;
            }
            sequences[0].tokens.push(token);
            due = 1;
        }
        String::from_utf8_lossy(&text.tokenizer.decode(&sequences[0].tokens[prompt.len()..])).into_owned()
    };
    let prompt = text.tokenizer.encode("The capital of France is").unwrap();
    let plain = answer(&mut cpu, prompt, 12);
    println!("The capital of France is{plain}");
    assert!(plain.trim_start().starts_with("Paris"), "{plain:?}");
    let turn = Message { role: Role::User, content: "What is the capital of France?".to_owned() };
    let prompt = text.tokenizer.encode(&text.template.render(&text.tokenizer, &[turn], true).unwrap()).unwrap();
    let chat = answer(&mut cpu, prompt.clone(), 24);
    let graph = Model::load(&path, None).unwrap().0;
    let mut cache = Cache::new(graph.config());
    let (got, _) = alone(&mut cpu, &Sequence::new(prompt.clone(), &[0, 1, 2]), &[128]);
    let (mut agree, mut nats) = (0, 0f64);
    for (token, got) in prompt.iter().zip(&got) {
        let expected = graph.forward(&[*token], &mut cache, None).unwrap();
        agree += usize::from(best(&expected) == best(got));
        nats += divergence(got, &expected);
    }
    let (count, nats) = (prompt.len(), nats / f64::from(u32::try_from(prompt.len()).unwrap()));
    println!("{chat:?}; {agree} of {count} likeliest tokens agree with f32, {nats:.5} nats on average");
    assert!(agree * 10 >= count * 9 && nats < NEAR_ON_AVERAGE, "{agree} of {count} agree, {nats} nats");
    assert!(!chat.is_empty());
}
