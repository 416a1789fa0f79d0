//! Sampled checks on a generated model: an honest answer passes, a false one fails in the chunk that is false, and pages of others are never believed further.
#![allow(clippy::unwrap_used, missing_docs)]

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path as FilePath;
use std::sync::Arc;

use inference::Finish;
use inference::adapter::Packed8;
use inference::backend::cpu::kernel::Path;
use inference::backend::cpu::{Cpu, CpuConfig};
use inference::backend::{Backend, PageError, Profile};
use inference::model::packed::PackedModel;
use inference::proto::residency::AdapterId;
use inference::sampler::{Chooser, Counts, Options};
use inference::step::{PAGE_TOKENS, Page, Segment, Slot, Span, Step};
use inference::tiny;
use inference::verify::sampled::{CHUNK_TOKENS, Chunks, Fault, Sample, SampleError, Sampled};
use inference::verify::{Claim, Digests, Hidden, Mismatch, position_digest, root};

const EOS: u32 = 2;
const SEED: [u8; 32] = [5; 32];
const PROMPT: u32 = 40;
const ANSWER: u32 = 150;
/// Pages that the answering node may write; the checker writes those behind.
const PAGES: u32 = 6;
/// Pages of a device.
const ALL_PAGES: u32 = 40;

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap()
}

fn device(seed: u64, path: Option<Path>) -> Cpu {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tiny.gguf");
    tiny::write_model(&file, seed).unwrap();
    let model = Arc::new(PackedModel::load(&file, None, Profile::Exact).unwrap().0);
    let config = CpuConfig { threads: NonZeroUsize::new(2).unwrap(), pages: ALL_PAGES, rows: 128, slots: 2, path };
    let mut cpu = Cpu::new(model, &config).unwrap();
    for slot in 0..2 {
        cpu.attach(Slot(slot), &adapter(&cpu, folder.path(), slot)).unwrap();
    }
    cpu
}

fn adapter(cpu: &Cpu, folder: &FilePath, slot: u32) -> Arc<Packed8> {
    tiny::write_adapter(folder, None, 8, u64::from(slot) + 3).unwrap();
    Arc::new(Packed8::read(folder, cpu.info()).unwrap())
}

/// An answer as a node hands it out.
#[derive(Clone)]
struct Answer {
    claim: Claim,
    digests: Digests,
    pages: Vec<Vec<u8>>,
}

/// Answers token by token. `lie` says what is told in place of the choice of that number.
fn answer(cpu: &mut Cpu, adapters: &[(u32, f32)], options: Options, lie: Option<(u32, u32)>) -> Answer {
    answer_of(cpu, (PROMPT, ANSWER), adapters, options, lie)
}

/// The same with so many tokens of prompt and answer.
fn answer_of(cpu: &mut Cpu, (before, count): (u32, u32), adapters: &[(u32, f32)], options: Options, lie: Option<(u32, u32)>) -> Answer {
    let prompt: Vec<u32> = (0..before).map(|at| 10 + at * 37 % 250).collect();
    let (mut out, vocabulary) = (cpu.outputs(), cpu.info().config.vocabulary);
    let (mut tokens, mut positions, mut seen) = (Vec::new(), Vec::new(), Counts::new(&prompt));
    let mut chooser = Chooser::default();
    // One after another, as an answer comes about.
    for (position, token) in (0..before + count - 1).zip(0..) {
        let token = if token < before { prompt[index(token)] } else { tokens[index(token - before)] };
        let row: Vec<u32> = vec![0; adapters.len()];
        let segments: Vec<Segment> =
            (0..).zip(adapters).map(|(first, (slot, scale))| Segment { slot: *slot, first, rows: 1, scale: *scale }).collect();
        let step = Step {
            tokens: &[token],
            positions: &[position],
            spans: &[Span { first_row: 0, rows: 1, first_page: 0, pages: PAGES }],
            page_table: &[0, 1, 2, 3, 4, 5],
            segments: &segments,
            segment_rows: &row,
            wanted: if position + 1 >= before { &[0] } else { &[] },
        };
        cpu.forward(&step, &mut out).unwrap();
        if position + 1 >= before {
            let number = position + 1 - before;
            assert_eq!(out.logits.len(), vocabulary);
            let choice = chooser.choose(&out.logits, &options, &seen, None, &SEED, number).unwrap().token;
            let chosen = lie.filter(|(at, _)| *at == number).map_or(choice, |(_, token)| token);
            assert!(lie.is_none_or(|(at, token)| at != number || token != choice), "a lie differs from the choice");
            let hidden = Hidden { codes: &out.hidden, scales: &out.hidden_scales, zeros: &out.hidden_zeros };
            positions.push(position_digest(hidden, position, chosen));
            tokens.push(chosen);
            seen.push(chosen);
        }
    }
    let pages = pages(cpu, before + count - 1);
    let claim = Claim {
        prompt,
        continued: vec![],
        tokens,
        adapters: adapters.iter().map(|(slot, scale)| (AdapterId([u8::try_from(*slot).unwrap(); 32]), *scale)).collect(),
        options,
        seed: SEED,
        finish: Some(Finish::Length),
    };
    let mut answer = Answer { claim, digests: Digests { positions, ..Digests::default() }, pages };
    answer.sign();
    answer
}

/// Bytes of the pages of so many tokens.
fn pages(cpu: &Cpu, end: u32) -> Vec<Vec<u8>> {
    let of = |page: u32| {
        let (mut bytes, tokens) = (Vec::new(), PAGE_TOKENS.min(end - page * PAGE_TOKENS));
        cpu.read_page(Page(page), tokens, &mut bytes);
        assert_eq!(blake3::hash(&bytes), cpu.page_digest(Page(page), tokens));
        bytes
    };
    (0..end.div_ceil(PAGE_TOKENS)).map(of).collect()
}

/// Never an end token.
fn options() -> Options {
    Options { bias: vec![(EOS, -100_000)], ..Options::default() }
}

impl Answer {
    /// Digests of the pages as they are now, and the root of all.
    fn sign(&mut self) {
        self.digests.pages = self.pages.iter().map(|bytes| blake3::hash(bytes).into()).collect();
        self.digests.root = root(&self.digests.positions, &self.digests.pages);
    }

    /// What the same device would have handed out, had the answer stopped behind so many choices, with so many tokens. The device has its pages still.
    fn stopped(&self, cpu: &Cpu, choices: u32, tokens: u32) -> Self {
        let mut answer = self.clone();
        answer.claim.tokens.truncate(index(tokens));
        answer.claim.finish = Some(Finish::Stop);
        answer.digests.positions.truncate(index(choices));
        answer.pages = pages(cpu, answer.prompt() + choices - 1);
        answer.sign();
        answer
    }

    fn sample(&self, seed: u8, count: u32) -> Result<Sample<'_>, SampleError> {
        self.sample_of(&[EOS], seed, count)
    }

    /// The same for a model with other end tokens.
    fn sample_of<'a>(&'a self, eos: &'a [u32], seed: u8, count: u32) -> Result<Sample<'a>, SampleError> {
        let count = NonZeroU32::new(count).unwrap();
        Sample::new(&self.claim, (&self.digests, self.digests.root), (300, eos), (&[seed; 32], count))
    }

    fn prompt(&self) -> u32 {
        u32::try_from(self.claim.prompt.len()).unwrap()
    }

    /// Chunks of any kind.
    fn chunks(&self) -> u32 {
        let chunks = self.sample(1, 1).unwrap().chunks();
        chunks.prompt + chunks.answer
    }

    fn run(&self, cpu: &mut Cpu, sample: &Sample<'_>) -> Sampled {
        let slots: Vec<Slot> = self.claim.adapters.iter().map(|(id, _)| Slot(u32::from(id.0[0]))).collect();
        let (room, mut out) = ((PAGES..ALL_PAGES).rev().map(Page).collect::<Vec<_>>(), cpu.outputs());
        sample.run(cpu, &mut out, &self.pages, (&room, &slots)).unwrap()
    }

    /// Faults of each chunk: those of the answer drawn alone, the one of the prompt with one of them.
    fn each(&self, cpu: &mut Cpu) -> Vec<Vec<Fault>> {
        let mut found = vec![None; index(self.chunks())];
        for seed in 0..=255 {
            let sample = self.sample(seed, 1).unwrap();
            if found[index(sample.drawn()[0])].is_none() {
                found[index(sample.drawn()[0])] = Some(self.run(cpu, &sample).faults);
            }
        }
        let sample = self.sample(1, 2).unwrap();
        let [0, other] = *sample.drawn() else { panic!("one chunk has nothing but the prompt: {:?}", sample.drawn()) };
        let mut both = self.run(cpu, &sample).faults;
        let of_other = found[index(other)].clone().expect("each of five chunks is drawn by one of 256 seeds");
        assert!(both.ends_with(&of_other), "{both:?}, alone {of_other:?}");
        both.truncate(both.len() - of_other.len());
        found[0] = Some(both);
        found.into_iter().map(|faults| faults.expect("each of five chunks is drawn by one of 256 seeds")).collect()
    }
}

/// The chunk in which a choice is made.
fn chunk_of(choice: u32) -> usize {
    index((PROMPT - 1 + choice) / CHUNK_TOKENS)
}

#[test]
fn an_honest_answer_passes_whatever_is_drawn_on_whatever_path() {
    let warm = Options { temperature_milli: 900, top_k: 40, repeat_milli: 1_100, frequency_milli: 50, ..options() };
    for (adapters, options) in [(&[][..], options()), (&[(0, 1.0)], warm.clone()), (&[(1, 0.5), (0, -1.0)], warm)] {
        let answer = answer(&mut device(1, None), adapters, options, None);
        for path in [None, Some(Path::Scalar)] {
            let mut checker = device(1, path);
            for (seed, count) in [(1, 1), (2, 1), (3, 2), (4, 5), (5, 6), (6, 100)] {
                let sample = answer.sample(seed, count).unwrap();
                let found = answer.run(&mut checker, &sample);
                assert_eq!(found.faults, [], "{path:?}, chunks {:?}", sample.drawn());
                let rows: u32 = sample.drawn().iter().map(|chunk| CHUNK_TOKENS.min(PROMPT + ANSWER - 1 - chunk * CHUNK_TOKENS)).sum();
                assert_eq!(found.rows, rows);
                if count >= answer.chunks() {
                    assert_eq!(found.checked, ANSWER);
                }
            }
        }
    }
}

#[test]
fn an_honest_answer_that_an_end_token_or_a_stop_string_ended_passes() {
    let mut cpu = device(1, None);
    let warm = Options { temperature_milli: 900, presence_milli: 2_000, ..options() };
    let whole = answer(&mut cpu, &[], warm, None);
    // Of a model whose end token is one that this answer says once it has said others, it is honest up to there.
    let said = &whole.claim.tokens;
    let at = (0..said.len()).rev().find(|at| !said[..*at].contains(&said[*at])).unwrap();
    let (eos, end) = ([said[at]], u32::try_from(at).unwrap());
    assert!(end > 0, "the answer says more than one token");
    let mut by_token = whole.stopped(&cpu, end + 1, end);
    let mut by_string = whole.stopped(&cpu, 100, 100);
    by_string.claim.options.stop = vec!["tide".to_owned()];
    let draws = [(1, 1), (2, 2), (3, 5), (4, 100)];
    for stop in [vec![], vec!["tide".to_owned()]] {
        by_token.claim.options.stop = stop;
        for (seed, count) in draws {
            let found = by_token.run(&mut cpu, &by_token.sample_of(&eos, seed, count).unwrap());
            assert_eq!(found.faults, [], "an end token, {count} draws");
            assert!(count < 100 || found.checked == end + 1, "{found:?}");
        }
    }
    for (seed, count) in draws {
        let found = by_string.run(&mut cpu, &by_string.sample(seed, count).unwrap());
        assert_eq!(found.faults, [], "a stop string, {count} draws");
        assert!(count < 100 || found.checked == 100, "{found:?}");
    }
    // Who says that an end token followed where another did is found.
    let found = by_token.run(&mut cpu, &by_token.sample(1, 100).unwrap());
    let [Fault::Choice(mismatch)] = found.faults[..] else { panic!("{found:?}") };
    assert_eq!((mismatch.position, mismatch.expected, mismatch.got), (end, eos[0], EOS));
    // Neither end has fewer choices than tokens, nor has an end token without one of its own where nobody asked for stop strings.
    by_string.digests.positions.pop();
    by_string.sign();
    let counts = |positions, expected_positions| SampleError::Counts { positions, pages: 3, expected_positions, expected_pages: 3 };
    assert_eq!(by_string.sample(1, 1).unwrap_err(), counts(99, 101));
    let mut short = whole.stopped(&cpu, 100, 100);
    assert_eq!(short.sample(1, 1).unwrap_err(), counts(100, 101));
    short.claim.tokens.clear();
    short.claim.options.stop = vec!["tide".to_owned()];
    short.digests.positions.clear();
    short.sign();
    assert!(short.sample(1, 1).unwrap_err().is_fault(), "a stop string in no text");
}

#[test]
fn a_token_that_was_not_chosen_fails_in_its_chunk_alone_and_is_found_as_often_as_that_is_drawn() {
    let mut cpu = device(1, None);
    for at in [0u32, 1, 60, 149] {
        let honest = answer(&mut cpu, &[], options(), None);
        let choice = honest.claim.tokens[index(at)];
        // All that follows is honest, from the false token on.
        let answer = answer(&mut cpu, &[], options(), Some((at, choice ^ 1)));
        let each = answer.each(&mut cpu);
        for (chunk, faults) in each.iter().enumerate() {
            if chunk == chunk_of(at) {
                let [Fault::Choice(mismatch)] = faults[..] else { panic!("choice {at}: {faults:?}") };
                assert_eq!((mismatch.position, mismatch.expected, mismatch.got), (at, choice, choice ^ 1));
                assert!(mismatch.margin > 0.0);
            } else {
                assert_eq!(*faults, [], "chunk {chunk}, choice {at}");
            }
        }
        // One of five chunks with choices is false: of two draws one is of these, and finds it in a fifth of the cases; five standard deviations are 32.
        let found = |seed: u8| answer.sample(seed, 2).unwrap().drawn().contains(&u32::try_from(chunk_of(at)).unwrap());
        let times = (0..=255).filter(|seed| found(*seed)).count();
        assert!((19..=83).contains(&times), "{times} of 256, expected 51");
        for seed in (0..=255).step_by(51) {
            let sample = answer.sample(seed, 2).unwrap();
            assert_eq!(answer.run(&mut cpu, &sample).faults.is_empty(), !found(seed), "chunks {:?}", sample.drawn());
        }
    }
}

#[test]
fn false_decoding_behind_a_long_honest_prefill_is_found_by_a_single_draw() {
    let mut cpu = device(1, None);
    // Nine chunks of prompt alone, then three that are full of choices.
    let honest = answer_of(&mut cpu, (289, 96), &[], options(), None);
    let sample = honest.sample(1, 6).unwrap();
    assert_eq!(sample.chunks(), Chunks { prompt: 9, answer: 3 });
    assert_eq!((sample.drawn().len(), sample.drawn()[2] < 9, &sample.drawn()[3..]), (6, true, &[9, 10, 11][..]));
    assert_eq!(honest.run(&mut cpu, &sample).faults, []);
    assert_eq!(honest.run(&mut cpu, &honest.sample(1, 100).unwrap()).checked, 96);
    // The prompt was computed as it should be, and the answer chosen by a cheaper rule than was asked for.
    let mut answer = honest;
    let other = (3..300).find(|token| !answer.claim.tokens.contains(token)).unwrap();
    answer.claim.options.bias.push((other, 100_000));
    for seed in 0..12 {
        let sample = answer.sample(seed, 1).unwrap();
        assert!(sample.drawn()[0] >= 9, "{:?}", sample.drawn());
        let found = answer.run(&mut cpu, &sample);
        assert!(matches!(found.faults[..], [Fault::Choice(Mismatch { expected, .. })] if expected == other), "{found:?}");
    }
}

#[test]
fn a_digest_of_other_numbers_fails_in_its_chunk() {
    let mut cpu = device(1, None);
    let mut answer = answer(&mut cpu, &[], options(), None);
    answer.digests.positions[70][3] ^= 1;
    answer.sign();
    for (chunk, faults) in answer.each(&mut cpu).into_iter().enumerate() {
        assert_eq!(faults, if chunk == chunk_of(70) { vec![Fault::Digest { position: 70 }] } else { vec![] }, "chunk {chunk}");
    }
}

#[test]
fn keys_that_do_not_follow_fail_in_their_chunk_though_they_were_signed() {
    let mut cpu = device(1, None);
    let mut answer = answer(&mut cpu, &[], options(), None);
    // The value of the last token of chunk 1, in the first layer and head: nothing of this chunk sees it but the token itself.
    let each = 2 * (16 + 4);
    let at = 63 * each + 16;
    answer.pages[0][at] ^= 0x41;
    answer.sign();
    let faults = answer.each(&mut cpu);
    assert_eq!((&faults[0][..], &faults[1][..]), (&[][..], &[Fault::Keys { chunk: 1 }][..]));
    // Who goes on from other keys than he shows is found there as well.
    assert!(faults[2..].iter().all(|faults| !faults.is_empty()), "{faults:?}");
}

#[test]
fn an_answer_of_another_model_fails_in_every_chunk() {
    let answer = answer(&mut device(2, None), &[], options(), None);
    let faults = answer.each(&mut device(1, None));
    assert!(faults.iter().all(|faults| !faults.is_empty()), "{faults:?}");
    // So does one with an adapter that is not named, or at another scale.
    let mut cpu = device(1, None);
    let mut answer = self::answer(&mut cpu, &[(0, 1.0)], options(), None);
    answer.claim.adapters[0].1 = 0.99;
    assert!(answer.each(&mut cpu).iter().all(|faults| !faults.is_empty()));
    answer.claim.adapters.clear();
    assert!(answer.each(&mut cpu).iter().all(|faults| !faults.is_empty()));
}

#[test]
fn pages_of_other_bytes_or_of_numbers_that_nobody_writes_are_named_and_not_taken_in() {
    let mut cpu = device(1, None);
    let honest = answer(&mut cpu, &[], options(), None);
    let all = |answer: &Answer, cpu: &mut Cpu| answer.run(cpu, &answer.sample(1, 6).unwrap());
    for page in 0..3 {
        let mut answer = honest.clone();
        answer.pages[page][100] ^= 1;
        let fault = Fault::Bytes { page: u32::try_from(page).unwrap() };
        assert_eq!(all(&answer, &mut cpu), Sampled { faults: vec![fault], ..Sampled::default() });
    }
    let each = 2 * (16 + 4);
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1);
    let longer = |bytes: &mut Vec<u8>| bytes.extend([0; 40]);
    let scale = |at: usize, scale: f32| move |bytes: &mut Vec<u8>| bytes[at..at + 4].copy_from_slice(&scale.to_le_bytes());
    type Change = Box<dyn Fn(&mut Vec<u8>)>;
    let changes: Vec<(Change, PageError)> = vec![
        (Box::new(cut), PageError::Length { got: honest.pages[1].len() - 1, expected: honest.pages[1].len() }),
        (Box::new(longer), PageError::Length { got: honest.pages[1].len() + 40, expected: honest.pages[1].len() }),
        (Box::new(move |bytes| bytes[3 * each + 5] = 0x80), PageError::Numbers { at: 3 * each }),
        (Box::new(scale(32, f32::NAN)), PageError::Numbers { at: 0 }),
        (Box::new(scale(36, f32::INFINITY)), PageError::Numbers { at: 0 }),
        (Box::new(scale(each + 32, -1.0)), PageError::Numbers { at: each }),
        (Box::new(scale(each + 36, 1e30)), PageError::Numbers { at: each }),
    ];
    for (change, error) in changes {
        let mut answer = honest.clone();
        change(&mut answer.pages[1]);
        answer.sign();
        assert_eq!(all(&answer, &mut cpu).faults, [Fault::Numbers { page: 1, error }]);
    }
    assert_eq!(all(&honest, &mut cpu).faults, [], "what was refused before has left nothing");
}

#[test]
fn what_is_not_an_answer_with_its_digests_is_refused_before_anything_is_computed() {
    let mut cpu = device(1, None);
    let honest = answer(&mut cpu, &[], options(), None);
    let error = |change: &dyn Fn(&mut Answer)| {
        let mut answer = honest.clone();
        change(&mut answer);
        let error = answer.sample(1, 2).unwrap_err();
        (error.is_fault(), error)
    };
    assert_eq!(error(&|answer| answer.digests.root[0] ^= 1), (true, SampleError::Root));
    assert_eq!(error(&|answer| answer.digests.pages[1][0] ^= 1), (true, SampleError::Root));
    let counts = |positions, pages, expected_positions| SampleError::Counts { positions, pages, expected_positions, expected_pages: 3 };
    let fewer = |answer: &mut Answer| {
        answer.digests.positions.pop();
        answer.sign();
    };
    assert_eq!(error(&fewer), (true, counts(149, 3, 150)));
    let more = |answer: &mut Answer| {
        answer.pages.push(vec![]);
        answer.sign();
    };
    assert_eq!(error(&more), (true, counts(150, 4, 150)));
    assert_eq!(error(&|answer| answer.claim.finish = Some(Finish::Stop)), (true, counts(150, 3, 151)));
    assert_eq!(error(&|answer| answer.claim.tokens[7] = EOS), (true, SampleError::Token { position: 7, token: EOS }));
    assert_eq!(error(&|answer| answer.claim.tokens[9] = 300), (true, SampleError::Token { position: 9, token: 300 }));
    assert_eq!(error(&|answer| answer.claim.tokens.clear()), (false, SampleError::Empty));
    assert!(matches!(error(&|answer| answer.claim.options.bias = vec![(300, 1)]), (false, SampleError::Options(_))));
    let sample = honest.sample(1, 6).unwrap();
    assert_eq!((sample.pages(), sample.room()), (3, 9));
    let (mut out, room) = (cpu.outputs(), (5..20).map(Page).collect::<Vec<_>>());
    let mut run = |pages: usize, room: &[Page], slots: &[Slot]| sample.run(&mut cpu, &mut out, &honest.pages[..pages], (room, slots));
    assert_eq!(run(2, &room, &[]), Err(SampleError::Pages { got: 2, needed: 3 }));
    assert_eq!(run(3, &room[..8], &[]), Err(SampleError::Room { got: 8, needed: 9 }));
    let shared: Vec<Page> = room[..14].iter().chain([&room[3]]).copied().collect();
    assert_eq!(run(3, &shared, &[]), Err(SampleError::Twice { page: room[3].0 }));
    assert_eq!(run(3, &room, &[Slot(0)]), Err(SampleError::Slots { got: 1, needed: 0 }));
    assert!(run(3, &room, &[]).unwrap().faults.is_empty());
}
