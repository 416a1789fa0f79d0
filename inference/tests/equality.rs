//! Bit equality: whatever a step gives, every path of the CPU gives as plain loops do.
//!
//! A round draws texts, adapters and scales. Plain loops ([`Path::Scalar`], one thread) compute each text alone and whole: the reference. Then every path
//! of this machine computes the same texts together, in steps drawn anew: some read their prompt while others go on token by token and others rest, in any
//! order, with one thread or three, adapters in other slots, on scattered pages that hold what earlier rounds left there. Of each token the digest of its
//! logits and of what the head read is compared, of each text the digests of its keys and values. Rounds are drawn from their number, which a failure names.
//!
//! Plain loops take 0.1 s for a token of SmolLM2, so there what they came to is committed (`tests/fixtures/equality/smollm2.json`): the bits of `exact` do not
//! change, on this machine or another, and each path is held to a thousand different tokens in the time that it takes itself. The shortest text with an
//! adapter is computed by plain loops as well, so that a change of them is seen for what it is.
//!
//! Of generated models some hundred tokens are committed as well (`generated.json` beside it), in both profiles. The gate holds this processor to them, and by
//! QEMU one of 64-bit ARM, with every path that it has: there plain loops take too long to compute a hundred thousand tokens, and were they wrong in the same
//! way as the vectors, nothing else would tell.
//!
//! Cost: 22 s of a core for 100,000 tokens by each of two paths, most of it in plain loops, in four tests of 5 or 6 s, and 8 s for SmolLM2. All in the
//! profile `exact`; `fast` differs from it in products alone, so it takes fewer tokens: on a busy machine 8 s for all generated models, 11 s for SmolLM2.
//!
//! `TRIBUTARY_EQUALITY` says how many tokens of the generated models each path computes, a quarter of them of each (`cargo xtask soak equality`).
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use inference::adapter::Packed8;
use inference::backend::cpu::kernel::{Path, available};
use inference::backend::cpu::{Cpu, CpuConfig};
use inference::backend::{Backend, Counters, Outputs, Profile};
use inference::model::packed::PackedModel;
use inference::step::{PAGE_TOKENS, Page, Segment, Slot, Span, Step};
use inference::tiny::adapters::write_adapter_of;
use inference::tiny::families::Tiny;
use serde::{Deserialize, Serialize};

/// Tokens of the generated models that each path but the plain one computes.
const TOKENS: usize = 100_000;
/// The generated models: each has a test of its own below, so that a family added here does not compile without one being thought of.
const FAMILIES: [Tiny; 4] = Tiny::ALL;
/// Tokens of SmolLM2 at least that are committed, and of how many texts: none is computed twice by a path.
const TRAINED_TOKENS: usize = 1_000;
const TRAINED_TEXTS: u32 = 17;
/// The longest begins a fourth page.
const TRAINED_LENGTHS: Range<u32> = 12..200;
/// Texts of each generated model that are committed. The longest begins a third page.
const GENERATED_TEXTS: u32 = 6;
const GENERATED_LENGTHS: Range<u32> = 4..140;
/// Adapters of random numbers are scaled by this, so that numbers stay what they are in a trained model.
const TRAINED_SCALE: f32 = 1.0 / 64.0;
/// Bytes of each digest that are committed: what is compared is honest.
const KEPT: usize = 8;
/// Tokens of the generated models in the profile `fast`, and of SmolLM2.
const FAST_TOKENS: usize = 8_000;
const FAST_TRAINED_TOKENS: usize = 100;
/// Layers of the generated models.
const LAYERS: usize = 4;
/// The plain path computes every seventh round in steps as well.
const PLAIN_ROUNDS: u32 = 7;
/// Ranks of the adapters, which are packed to whole sixteens.
const RANKS: [usize; 4] = [1, 8, 17, 33];

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

    /// From the first to the last of them.
    fn of(&mut self, range: Range<u32>) -> u32 {
        range.start + u32::try_from(self.bits() % u64::from(range.end - range.start)).unwrap()
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for at in (1..all.len()).rev() {
            all.swap(at, index(self.of(0..number(at) + 1)));
        }
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap()
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap()
}

/// One sequence.
#[derive(Debug)]
struct Text {
    tokens: Vec<u32>,
    /// Numbers of adapters, with scales, in order.
    adapters: Vec<(usize, f32)>,
}

impl Text {
    fn draw(noise: &mut Noise, vocabulary: u32, lengths: &Range<u32>, scale: f32) -> Self {
        // Most are short; one in six may be as long as any.
        let end = if noise.of(0..6) == 0 { lengths.end } else { lengths.start + (lengths.end - lengths.start).div_ceil(3) };
        let length = noise.of(lengths.start..end);
        let tokens = (0..length).map(|_| noise.of(0..vocabulary)).collect();
        let count = index([0, 0, 1, 1, 2, 4][index(noise.of(0..6))]);
        let mut order: Vec<usize> = (0..RANKS.len()).collect();
        noise.shuffle(&mut order);
        let scales = [1.0, 0.5, -2.0, 0.0, 1.7];
        let adapters = order.into_iter().take(count).map(|adapter| (adapter, scale * scales[index(noise.of(0..5))])).collect();
        Self { tokens, adapters }
    }

    fn length(&self) -> u32 {
        number(self.tokens.len())
    }

    fn pages(&self) -> u32 {
        self.length().div_ceil(PAGE_TOKENS)
    }
}

/// What a text comes to.
#[derive(Debug, Default)]
struct Bits {
    /// Of each token: its logits, and codes, scales and zeros that the head read.
    tokens: Vec<[u8; 32]>,
    /// Of each page.
    pages: Vec<[u8; 32]>,
}

/// A device, and where it has what.
struct Device {
    cpu: Cpu,
    out: Outputs,
    /// Of each adapter.
    slots: Vec<u32>,
    threads: usize,
}

/// Rows of a text in a step.
struct Part {
    text: usize,
    from: u32,
    rows: u32,
}

impl Device {
    fn new(model: &Arc<PackedModel>, adapters: &[Arc<Packed8>], path: Path, (threads, rows, pages): (usize, usize, u32)) -> Self {
        let slots = number(RANKS.len()) + 1;
        let config = CpuConfig { threads: NonZeroUsize::new(threads).unwrap(), pages, rows, slots, path: Some(path) };
        let mut cpu = Cpu::new(Arc::clone(model), &config).unwrap();
        assert_eq!(cpu.kernels().path, path);
        let mut order: Vec<u32> = (0..slots).collect();
        Noise(threads as u64).shuffle(&mut order);
        order.truncate(adapters.len());
        for (adapter, slot) in adapters.iter().zip(&order) {
            cpu.attach(Slot(*slot), adapter).unwrap();
        }
        Self { out: cpu.outputs(), cpu, slots: order, threads }
    }

    /// Computes a step, and takes what each row came to behind what its text has.
    fn step(&mut self, texts: &[Text], parts: &[Part], pages: &[Vec<u32>], got: &mut [Bits]) {
        let (mut tokens, mut positions, mut spans, mut table) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut placed: Vec<(usize, u32, f32, Vec<u32>)> = Vec::new();
        for Part { text, from, rows } in parts {
            let first_row = number(tokens.len());
            tokens.extend(&texts[*text].tokens[index(*from)..index(from + rows)]);
            positions.extend(*from..from + rows);
            spans.push(Span { first_row, rows: *rows, first_page: number(table.len()), pages: number(pages[*text].len()) });
            table.extend(&pages[*text]);
            for (nth, (adapter, scale)) in texts[*text].adapters.iter().enumerate() {
                let (slot, rows) = (self.slots[*adapter], first_row..first_row + rows);
                match placed.iter_mut().find(|(n, s, c, _)| (*n, *s, c.to_bits()) == (nth, slot, scale.to_bits())) {
                    Some(entry) => entry.3.extend(rows),
                    None => placed.push((nth, slot, *scale, rows.collect())),
                }
            }
        }
        placed.sort_by_key(|(nth, slot, ..)| (*nth, *slot));
        let (mut segments, mut segment_rows) = (Vec::new(), Vec::new());
        for (_, slot, scale, rows) in placed {
            segments.push(Segment { slot, first: number(segment_rows.len()), rows: number(rows.len()), scale });
            segment_rows.extend(rows);
        }
        let wanted: Vec<u32> = (0..number(tokens.len())).collect();
        let step = Step {
            tokens: &tokens,
            positions: &positions,
            spans: &spans,
            page_table: &table,
            segments: &segments,
            segment_rows: &segment_rows,
            wanted: &wanted,
        };
        self.cpu.forward(&step, &mut self.out).unwrap();
        assert_eq!(self.out.failed, [0u32; 0]);
        let mut rows = digests(&self.out, tokens.len()).into_iter();
        for Part { text, rows: count, .. } in parts {
            got[*text].tokens.extend(rows.by_ref().take(index(*count)));
        }
    }

    /// Digests of a text's pages.
    fn pages(&self, text: &Text, pages: &[u32]) -> Vec<[u8; 32]> {
        let of = |(at, page): (u32, &u32)| self.cpu.page_digest(Page(*page), PAGE_TOKENS.min(text.length() - at * PAGE_TOKENS));
        (0..text.pages()).zip(pages).map(of).collect()
    }

    /// A text by itself, in steps as large as there can be.
    fn alone(&mut self, texts: &[Text], text: usize) -> Bits {
        let (mut got, rows) = (std::iter::repeat_with(Bits::default).take(texts.len()).collect::<Vec<_>>(), number(self.cpu.limits().rows));
        let pages: Vec<Vec<u32>> = texts.iter().map(|text| (0..text.pages()).collect()).collect();
        for from in (0..texts[text].length()).step_by(index(rows)) {
            self.step(texts, &[Part { text, from, rows: rows.min(texts[text].length() - from) }], &pages, &mut got);
        }
        Bits { pages: self.pages(&texts[text], &pages[text]), tokens: got.swap_remove(text).tokens }
    }

    /// All texts beside each other, in steps that `noise` draws.
    fn together(&mut self, texts: &[Text], noise: &mut Noise) -> Vec<Bits> {
        let mut free: Vec<u32> = (0..self.cpu.limits().pages).collect();
        noise.shuffle(&mut free);
        let pages: Vec<Vec<u32>> = texts.iter().map(|text| free.split_off(free.len() - index(text.pages()))).collect();
        let mut got: Vec<Bits> = std::iter::repeat_with(Bits::default).take(texts.len()).collect();
        loop {
            let mut due: Vec<usize> = (0..texts.len()).filter(|text| got[*text].tokens.len() < texts[*text].tokens.len()).collect();
            if due.is_empty() {
                break;
            }
            noise.shuffle(&mut due);
            due.truncate(index(noise.of(1..number(due.len()) + 1)));
            let (mut parts, mut left) = (Vec::new(), number(self.cpu.limits().rows));
            for text in due {
                let from = number(got[text].tokens.len());
                let drawn =
                    [noise.of(1..2), noise.of(1..2), noise.of(2..10), noise.of(10..80), PAGE_TOKENS, u32::MAX][index(noise.of(0..6))];
                let rows = drawn.min(texts[text].length() - from).min(left);
                if rows > 0 {
                    left -= rows;
                    parts.push(Part { text, from, rows });
                }
            }
            self.step(texts, &parts, &pages, &mut got);
        }
        for ((got, text), pages) in got.iter_mut().zip(texts).zip(&pages) {
            got.pages = self.pages(text, pages);
        }
        got
    }
}

/// Of each row, what [`Bits::tokens`] says.
fn digests(out: &Outputs, rows: usize) -> Vec<[u8; 32]> {
    let (vocabulary, width, groups) = (out.logits.len() / rows, out.hidden.len() / rows, out.hidden_scales.len() / rows);
    let mut bytes = Vec::new();
    let mut of = |row: usize| {
        bytes.clear();
        bytes.extend(out.logits[row * vocabulary..][..vocabulary].iter().flat_map(|logit| logit.to_le_bytes()));
        bytes.extend(out.hidden[row * width..][..width].iter().map(|code| code.cast_unsigned()));
        bytes.extend(out.hidden_scales[row * groups..][..groups].iter().flat_map(|scale| scale.to_le_bytes()));
        bytes.extend(out.hidden_zeros[row * groups..][..groups].iter().flat_map(|zero| zero.to_le_bytes()));
        blake3::hash(&bytes).into()
    };
    (0..rows).map(&mut of).collect()
}

#[track_caller]
fn same(got: &[Bits], expected: &[Bits], what: &str) {
    for (text, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!(got.tokens.len(), expected.tokens.len(), "{what}: text {text}");
        let at = got.tokens.iter().zip(&expected.tokens).position(|(got, expected)| got != expected);
        assert_eq!(at, None, "{what}: logits of text {text} differ from that position on");
        let at = got.pages.iter().zip(&expected.pages).position(|(got, expected)| got != expected);
        assert_eq!(at, None, "{what}: keys and values of text {text} differ in that page");
    }
}

/// A model, adapters for it, and a device of each path in each shape.
struct Bench {
    name: String,
    vocabulary: u32,
    plain: Device,
    /// By path, then by shape.
    devices: Vec<(Path, Vec<Device>)>,
    /// Lengths of texts.
    lengths: Range<u32>,
    /// Texts of a round.
    texts: u32,
    /// What adapters' scales are multiplied by.
    scale: f32,
}

impl Bench {
    fn new((file, profile): (&FilePath, Profile), name: &str, (texts, lengths): (u32, Range<u32>), scale: f32) -> Self {
        let model = Arc::new(PackedModel::weights(file, None, profile).unwrap());
        let config = model.config();
        let folder = tempfile::tempdir().unwrap();
        let adapter = |(at, rank): (u64, usize)| {
            write_adapter_of(folder.path(), None, (rank, at + 1), config.layers, |site| site.shape(config)).unwrap();
            Arc::new(Packed8::read(folder.path(), model.info()).unwrap())
        };
        let adapters: Vec<Arc<Packed8>> = (0..).zip(RANKS).map(adapter).collect();
        let pages = texts * lengths.end.div_ceil(PAGE_TOKENS) + 3;
        let device = |path, threads, rows| Device::new(&model, &adapters, path, (threads, rows, pages));
        let of = |path: Path| (path, vec![device(path, 1, 256), device(path, 3, 75)]);
        let vocabulary = number(config.vocabulary);
        let (plain, devices) = (device(Path::Scalar, 1, 256), available().into_iter().map(of).collect());
        Self { name: format!("{name}, {profile}"), vocabulary, plain, devices, lengths, texts, scale }
    }

    /// Texts of a round.
    fn texts(&self, seed: u64) -> Vec<Text> {
        let mut noise = Noise(seed << 20);
        let of = |_| Text::draw(&mut noise, self.vocabulary, &self.lengths, self.scale);
        (0..self.texts).map(of).collect()
    }

    /// Texts of a round, and what plain loops make of each.
    fn draw(&mut self, seed: u64) -> (Vec<Text>, Vec<Bits>) {
        let texts = self.texts(seed);
        let expected = (0..texts.len()).map(|text| self.plain.alone(&texts, text)).collect();
        (texts, expected)
    }

    /// Computes a round's texts by one path; tokens that it compared.
    fn check(&mut self, path: usize, round: u32, (texts, expected): &(Vec<Text>, Vec<Bits>)) -> usize {
        let (path, devices) = &mut self.devices[path];
        let device = &mut devices[index(round % 2)];
        let got = device.together(texts, &mut Noise((u64::from(round) << 20) + *path as u64 + 1));
        same(&got, expected, &format!("{}, {path:?}, {} threads, round {round}", self.name, device.threads));
        texts.iter().map(|text| text.tokens.len()).sum()
    }

    /// One base product at each site of a layer and at the head for each step, whatever rows and adapters it had.
    fn check_products(&self, layers: u64) {
        for device in self.devices.iter().flat_map(|(_, devices)| devices) {
            let Counters { steps, products, .. } = device.cpu.counters();
            let expected: [u64; 8] = std::array::from_fn(|site| if site == 7 { steps } else { steps * layers });
            assert_eq!(products, expected, "{}: {steps} steps", self.name);
        }
    }
}

/// Fails unless each path of this machine has computed products, attention and adapters since `before`, and names those it does not have.
fn check_paths(before: &[[u64; 3]]) {
    for (path, before) in available().into_iter().zip(before) {
        let after = path.kernels().calls();
        assert!(after.iter().zip(before).all(|(after, before)| after > before), "{path:?}: {before:?}, then {after:?} calls");
    }
    for path in Path::ALL.into_iter().filter(|path| !path.is_available()) {
        println!("{path:?}: not run, this machine does not have it");
    }
}

fn calls() -> Vec<[u64; 3]> {
    available().into_iter().map(|path| path.kernels().calls()).collect()
}

/// Its share of the tokens of a generated model, by every path.
fn check_family(tiny: Tiny, profile: Profile) {
    let most = if profile == Profile::Fast { FAST_TOKENS } else { TOKENS };
    let tokens = std::env::var("TRIBUTARY_EQUALITY").map_or(most, |count| count.parse().expect("TRIBUTARY_EQUALITY is a number of tokens"));
    let family = FAMILIES.iter().position(|known| *known == tiny).expect("all families are known");
    let due = tokens.div_ceil(FAMILIES.len());
    let (before, folder) = (calls(), tempfile::tempdir().unwrap());
    let file = folder.path().join("model.gguf");
    std::fs::write(&file, tiny.bytes(LAYERS, Tiny::SEED)).unwrap();
    let mut bench = Bench::new((&file, profile), &tiny.to_string(), (10, 1..250), 1.0);
    let (mut compared, mut done) = (vec![0usize; available().len()], 0);
    for round in 0u32.. {
        if done >= due {
            break;
        }
        let drawn = bench.draw((family as u64) << 32 | u64::from(round));
        for (path, compared) in compared.iter_mut().enumerate() {
            // Plain loops take most of the time.
            if bench.devices[path].0 != Path::Scalar || round.is_multiple_of(PLAIN_ROUNDS) {
                *compared += bench.check(path, round, &drawn);
            }
        }
        done += drawn.0.iter().map(|text| text.tokens.len()).sum::<usize>();
    }
    bench.check_products(LAYERS as u64);
    for (path, compared) in available().into_iter().zip(&compared) {
        println!("{tiny}, {profile}, {path:?}: {compared} tokens with the bits of plain loops");
        assert!(*compared >= if path == Path::Scalar { due / (2 * index(PLAIN_ROUNDS)) } else { due }, "{path:?}: {compared} tokens");
    }
    check_paths(&before);
}

#[test]
fn every_path_has_the_bits_of_plain_loops_in_any_batch_order_and_mix_of_adapters_on_a_smollm2() {
    check_family(Tiny::Smollm2, Profile::Exact);
}

#[test]
fn every_path_has_the_bits_of_plain_loops_in_any_batch_order_and_mix_of_adapters_on_a_llama3() {
    check_family(Tiny::Llama3, Profile::Exact);
}

#[test]
fn every_path_has_the_bits_of_plain_loops_in_any_batch_order_and_mix_of_adapters_on_a_qwen2() {
    check_family(Tiny::Qwen2, Profile::Exact);
}

#[test]
fn every_path_has_the_bits_of_plain_loops_in_any_batch_order_and_mix_of_adapters_on_a_qwen3() {
    check_family(Tiny::Qwen3, Profile::Exact);
}

#[test]
fn every_path_has_the_bits_of_plain_loops_in_the_fast_profile_of_every_family() {
    FAMILIES.into_iter().for_each(|tiny| check_family(tiny, Profile::Fast));
}

/// What plain loops make of SmolLM2's texts, in hexadecimal digits: of each text the digests of its tokens, then of its pages, [`KEPT`] bytes of each.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Committed {
    /// BLAKE3 of the model's file.
    model: String,
    texts: Vec<(String, String)>,
}

impl Committed {
    fn path(name: &str) -> PathBuf {
        FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/equality").join(name)
    }

    fn new(model: [u8; 32], texts: &[Bits]) -> Self {
        let kept = |digests: &[[u8; 32]]| hex::encode(digests.iter().flat_map(|digest| &digest[..KEPT]).copied().collect::<Vec<u8>>());
        Self { model: hex::encode(model), texts: texts.iter().map(|text| (kept(&text.tokens), kept(&text.pages))).collect() }
    }

    /// Fails where a path came to something else.
    fn check(&self, got: &[Bits], what: &str) {
        let got = Self::new([0; 32], got);
        assert_eq!(got.texts.len(), self.texts.len(), "{what}");
        for (text, (got, expected)) in got.texts.iter().zip(&self.texts).enumerate() {
            for (of, got, expected) in [("token", &got.0, &expected.0), ("page", &got.1, &expected.1)] {
                assert_eq!(got.len(), expected.len(), "{what}, text {text}: digests of each {of}");
                let at =
                    got.as_bytes().chunks(2 * KEPT).zip(expected.as_bytes().chunks(2 * KEPT)).position(|(got, expected)| got != expected);
                assert_eq!(at, None, "{what}, text {text}: what is committed differs from that {of} on");
            }
        }
    }
}

/// Whether what plain loops come to is committed anew.
fn writes() -> bool {
    std::env::var_os("TRIBUTARY_WRITE_FIXTURES").is_some()
}

/// Each generated model by every path, against what is committed of it. One shape of device for each of them and path: the other has the next model.
fn check_generated(profile: Profile) {
    let file = Committed::path(&format!("generated-{profile}.json"));
    let (before, folder) = (calls(), tempfile::tempdir().unwrap());
    let mut benches: Vec<Bench> = FAMILIES
        .into_iter()
        .map(|tiny| {
            let path = folder.path().join(tiny.to_string());
            std::fs::write(&path, tiny.bytes(LAYERS, Tiny::SEED)).unwrap();
            Bench::new((&path, profile), &tiny.to_string(), (GENERATED_TEXTS, GENERATED_LENGTHS), 1.0)
        })
        .collect();
    if writes() {
        let plain = |bench: &mut Bench| {
            let (_, bits) = bench.draw(1);
            (bench.name.clone(), Committed::new(bench.plain.cpu.info().hash, &bits))
        };
        let all: BTreeMap<String, Committed> = benches.iter_mut().map(plain).collect();
        std::fs::write(&file, serde_json::to_string_pretty(&all).unwrap() + "\n").unwrap();
    }
    let committed: BTreeMap<String, Committed> = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(committed.len(), benches.len());
    for (at, bench) in benches.iter_mut().enumerate() {
        let (texts, committed) = (bench.texts(1), &committed[&bench.name]);
        assert_eq!(committed.model, hex::encode(bench.plain.cpu.info().hash), "{}: digests of another file", bench.name);
        for (path, devices) in &mut bench.devices {
            let device = &mut devices[(at + *path as usize) % 2];
            let got = device.together(&texts, &mut Noise(((at as u64) << 20) + *path as u64 + 1));
            committed.check(&got, &format!("{}, {path:?}, {} threads", bench.name, device.threads));
        }
        let tokens = texts.iter().map(|text| text.tokens.len()).sum::<usize>();
        println!("{}: {tokens} tokens with the committed bits by each path", bench.name);
        bench.check_products(LAYERS as u64);
    }
    check_paths(&before);
}

#[test]
fn generated_models_have_the_committed_bits_on_every_path() {
    check_generated(Profile::Exact);
}

#[test]
fn generated_models_have_the_committed_bits_on_every_path_in_the_fast_profile() {
    check_generated(Profile::Fast);
}

fn smollm2() -> PathBuf {
    let file = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/model/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(file.is_file(), "{} is missing: run `cargo xtask fetch`", file.display());
    file
}

#[test]
fn a_thousand_tokens_of_smollm2_have_the_committed_bits_on_every_path() {
    let before = calls();
    let mut bench = Bench::new((&smollm2(), Profile::Exact), "SmolLM2", (TRAINED_TEXTS, TRAINED_LENGTHS), TRAINED_SCALE);
    let texts = bench.texts(1);
    let tokens = texts.iter().map(|text| text.tokens.len()).sum::<usize>();
    assert!(tokens >= TRAINED_TOKENS, "{tokens} tokens");
    let hash = bench.plain.cpu.info().hash;
    if writes() {
        let plain: Vec<Bits> = (0..texts.len()).map(|text| bench.plain.alone(&texts, text)).collect();
        std::fs::write(Committed::path("smollm2.json"), serde_json::to_string_pretty(&Committed::new(hash, &plain)).unwrap() + "\n")
            .unwrap();
    }
    let committed: Committed = serde_json::from_slice(&std::fs::read(Committed::path("smollm2.json")).unwrap()).unwrap();
    assert_eq!(committed.model, hex::encode(hash), "digests of another file");
    let adapted = (0..texts.len()).filter(|text| !texts[*text].adapters.is_empty());
    let shortest = adapted.min_by_key(|text| texts[*text].tokens.len()).unwrap();
    let plain = bench.plain.alone(&texts, shortest);
    Committed { model: committed.model.clone(), texts: vec![committed.texts[shortest].clone()] }.check(&[plain], "plain loops");
    for path in 0..bench.devices.len() {
        if bench.devices[path].0 == Path::Scalar {
            continue;
        }
        let (path, devices) = &mut bench.devices[path];
        for (round, device) in (1u64..).zip(devices) {
            let got = device.together(&texts, &mut Noise((round << 20) + *path as u64 + 1));
            committed.check(&got, &format!("SmolLM2, {path:?}, {} threads", device.threads));
            println!("SmolLM2, {path:?}, {} threads: {tokens} tokens with the bits of plain loops", device.threads);
        }
    }
    bench.check_products(bench.plain.cpu.info().config.layers as u64);
    check_paths(&before);
}

#[test]
fn smollm2_has_the_same_bits_on_every_path_in_the_fast_profile() {
    check_smollm2(Profile::Fast, (3, 6..13), FAST_TRAINED_TOKENS);
}

fn check_smollm2(profile: Profile, texts: (u32, Range<u32>), tokens: usize) {
    let before = calls();
    let mut bench = Bench::new((&smollm2(), profile), "SmolLM2", texts, TRAINED_SCALE);
    let drawn = bench.draw(1);
    let (mut compared, layers) = (0, bench.plain.cpu.info().config.layers as u64);
    // Where there is no other path, plain loops are compared with themselves.
    let is_compared = |path: Path| path != Path::Scalar || available().len() == 1;
    let paths: Vec<usize> = (0..bench.devices.len()).filter(|path| is_compared(bench.devices[*path].0)).collect();
    for round in 0u32.. {
        if compared >= tokens {
            break;
        }
        for path in &paths {
            compared += bench.check(*path, round, &drawn);
        }
    }
    println!(
        "SmolLM2, {profile}: {compared} tokens with the bits of plain loops, {} of them distinct",
        drawn.0.iter().map(|text| text.tokens.len()).sum::<usize>()
    );
    bench.check_products(layers);
    check_paths(&before);
}
