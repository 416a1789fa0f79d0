//! A check of a few chunks of an answer, drawn by a seed that the answering node could not know.
//!
//! [`check`](super::check) computes prompt and answer anew. Here a checker computes some chunks of [`CHUNK_TOKENS`] positions alone, each from the keys and
//! values before it, which the answering node hands out and which its own digests bind it to:
//!
//! 1. The node answers, and signs the root of its [`Digests`].
//! 2. A seed is drawn after that. [`draw`] says which chunks of prompt and answer it means, from the seed and that root.
//! 3. The node hands out the digests, and the bytes of its pages up to the last drawn chunk ([`Sample::pages`], [`Backend::read_page`]). It has kept them,
//!    or computes prompt and answer anew; a page it does not show is a fault like a wrong one, which its caller counts.
//! 4. [`Sample::new`] holds the digests against the root and the claim, [`Sample::run`] each page against its digest. Then the rows of the drawn chunks are
//!    computed in one batch behind those pages: choices, digests of positions, and the chunk's own keys and values must be those of the claim.
//!
//! What it proves. Take the first chunk in which anything (a token, a position's digest, a key or value of its page) is not what the profile makes of the
//! tokens before. All pages before it are true, so computing it gives the truth, and the check of that chunk fails: a false answer has at least one
//! chunk that fails.
//!
//! A prompt may be many times as long as its answer, and false decoding must not hide behind an honest prefill. So of `k` draws at most half, rounded down,
//! go to the chunks before the first choice, and the others to those that hold one ([`Chunks::share`]). With `n` chunks of a kind and `d` draws of it, without
//! replacement, a single false one is found with probability `d / n`, and `b` of them with `1 - C(n - b, d) / C(n, d)`: for the answer `d = min(k - k / 2, n)` at
//! least, however long the prompt is, and for the prompt `d = min(k / 2, n)`. Who saves work in all choices, by another model or coarser numbers, fails in every
//! chunk of the answer, and one drawn is enough. Keys and values of the prompt that are false, while what follows them is not, are found by draws of the
//! prompt alone, so by none if there is one draw: take two at least. Pages before a drawn chunk are believed
//! only as the claim of that node: a fault says that it contradicts itself. Finding a preimage of BLAKE3 aside, nothing passes by luck.
//!
//! Whose fault it is. The root binds the node to what it computed. It does not say for which prompt, options, seed, adapters and end, and the tokens are in it
//! as digests of eight bytes. All of [`Claim`] must come from what the node itself signed for this answer; then a fault is the node's own. If but one
//! part of it is another's word, a fault says only that this part and the root do not belong together, and accuses nobody.
//!
//! Not told: pages that were never drawn, and whether a stop string ended the answer, which takes tokens alone. An answer of [`Finish::Stop`] to options
//! with stop strings may have ended either way: with as many digests as tokens it ended by a stop string, and whoever has its text looks for that.
//!
//! Cost, of SmolLM2-135M: 32 rows in place of 576 for 512 tokens behind a prompt of 64; and 12.2 kB for each token before the last drawn chunk, 4.1 MB for one draw of such an
//! answer on average and 7 MB at most, to carry, hash and write into the cache. Whoever has no such line to the node computes the answer whole.

use std::num::NonZeroU32;
use std::ops::Range;

use crate::Finish;
use crate::backend::{Backend, Outputs, PageError};
use crate::sampler::{Chooser, Counts, OptionsError, judge};
use crate::step::{ADAPTERS_OF_ROW_MAX, PAGE_TOKENS, Page, Segment, Slot, Span, Step, StepError};

use super::{Claim, Digests, Hidden, Mismatch, position_digest, root};

/// Positions of a chunk: half a page, so that of a short answer too there are several, and enough rows that weights are read for many.
pub const CHUNK_TOKENS: u32 = 32;
/// Chunks computed in one step: 128 rows, whose logits of SmolLM2 take 25 MB.
const CHUNKS_OF_STEP: usize = 4;
/// What [`draw`] hashes, beside the seed and the signed root.
const DRAW: &str = "tributary sampled check: chunks drawn";

/// Chunks, by whether an answer's choices are made there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    /// The first ones, which hold tokens of the prompt (and of what is continued) alone, and no choice.
    pub prompt: u32,
    /// All behind them, which hold at least one choice each.
    pub answer: u32,
}

impl Chunks {
    /// Chunks of `positions` computed positions, where the first choice is made behind token number `from`, counted from 1.
    #[must_use]
    pub fn new(positions: u32, from: u32) -> Self {
        let prompt = from.saturating_sub(1) / CHUNK_TOKENS;
        Self { prompt, answer: positions.div_ceil(CHUNK_TOKENS).saturating_sub(prompt) }
    }

    /// How many of `count` draws are of each kind: of the prompt's at most half, rounded down, of the answer's the others. Fewer than `count` in all where a
    /// kind has no more.
    #[must_use]
    pub fn share(self, count: u32) -> Self {
        let prompt = self.prompt.min(count / 2);
        Self { prompt, answer: self.answer.min(count - prompt) }
    }
}

/// Draws chunks without replacement, rising: of each kind as many as its [`Chunks::share`] of `count`. By a seed that nobody knew before the root was
/// `signed`, and by that root, so that one seed means other chunks of each answer. Each set of a kind is as likely as any other, but for
/// 2^-32 of it.
#[must_use]
pub fn draw(seed: &[u8; 32], signed: &[u8; 32], chunks: Chunks, count: u32) -> Vec<u32> {
    let mut hasher = blake3::Hasher::new_derive_key(DRAW);
    hasher.update(seed).update(signed).update(&chunks.prompt.to_le_bytes()).update(&chunks.answer.to_le_bytes());
    let (mut numbers, share) = (hasher.finalize_xof(), chunks.share(count));
    let mut drawn = pick(&mut numbers, 0..chunks.prompt, share.prompt);
    drawn.extend(pick(&mut numbers, chunks.prompt..chunks.prompt + chunks.answer, share.answer));
    drawn
}

/// `count` of so many, rising.
fn pick(numbers: &mut blake3::OutputReader, among: Range<u32>, count: u32) -> Vec<u32> {
    let length = among.end - among.start;
    let mut all: Vec<u32> = among.collect();
    for at in 0..count {
        let mut number = [0; 8];
        numbers.fill(&mut number);
        // Below `length`, so it fits.
        let other = u32::try_from(u64::from_le_bytes(number) % u64::from(length - at)).unwrap_or(0);
        all.swap(index(at), index(at + other));
    }
    all.truncate(index(count));
    all.sort_unstable();
    all
}

/// Why a claim cannot be sampled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// The digests are not those of the root.
    #[error("the digests are not those that the root is of")]
    Root,
    /// More or fewer digests than the claim has choices and pages.
    #[error("{positions} positions and {pages} pages have digests, the claim has {expected_positions} and {expected_pages}")]
    Counts {
        /// Digests of positions.
        positions: usize,
        /// Digests of pages.
        pages: usize,
        /// Choices that the claim has.
        expected_positions: usize,
        /// Pages that its tokens take.
        expected_pages: usize,
    },
    /// A token that cannot stand in an answer.
    #[error("token {token} at position {position} of the answer cannot be chosen")]
    Token {
        /// Position in the answer.
        position: u32,
        /// The token.
        token: u32,
    },
    /// Nothing was answered.
    #[error("the claim has no choice: there is nothing to sample")]
    Empty,
    /// Choices that follow from more than logits and tokens.
    #[error("the answer was held to a grammar: check it whole")]
    Grammar,
    /// Fewer pages handed out than the chunks need.
    #[error("{got} pages were handed out, the drawn chunks need {needed}")]
    Pages {
        /// Pages there are.
        got: usize,
        /// Pages needed.
        needed: usize,
    },
    /// Fewer pages of the cache than the check needs.
    #[error("{got} pages of the cache are free for the check, it needs {needed}")]
    Room {
        /// Pages given.
        got: usize,
        /// Pages needed: [`Sample::room`].
        needed: usize,
    },
    /// A page of the cache that is to be written for two purposes.
    #[error("page {page} of the cache is given twice for the check: give each once")]
    Twice {
        /// Number of the page in the cache.
        page: u32,
    },
    /// Not a slot for each adapter of the claim.
    #[error("{got} slots for {needed} adapters, at most 4")]
    Slots {
        /// Slots given.
        got: usize,
        /// Adapters of the claim.
        needed: usize,
    },
    /// Options that no answer of this model can have.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The device does not take the step.
    #[error(transparent)]
    Step(#[from] StepError),
}

impl SampleError {
    /// Whether claim, digests and pages contradict what was signed, as opposed to a checker that asks wrongly. It is the answering node's own doing only if
    /// it signed all of the claim and handed out digests and pages itself: see the module.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Root | Self::Counts { .. } | Self::Token { .. } | Self::Pages { .. })
    }
}

/// Where a claim and what was handed out with it contradict the digests. Whose fault that is: see the module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// The bytes handed out are not those of the digest.
    Bytes {
        /// Page of the sequence.
        page: u32,
    },
    /// They are, and no device writes such bytes.
    Numbers {
        /// Page of the sequence.
        page: u32,
        /// What is wrong with them.
        error: PageError,
    },
    /// From these pages and tokens numbers leave the profile's range, so that there is no answer.
    NotFinite {
        /// Position in prompt and answer.
        position: u32,
    },
    /// Another token follows.
    Choice(Mismatch),
    /// The token follows, from other numbers than the claim's.
    Digest {
        /// Position in the answer.
        position: u32,
    },
    /// The chunk's keys and values are others than its page has.
    Keys {
        /// Which chunk.
        chunk: u32,
    },
}

/// What was computed, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampled {
    /// Choices that passed.
    pub checked: u32,
    /// Rows computed.
    pub rows: u32,
    /// By page, else by chunk: of each chunk the first choice that does not follow, and its keys. None: it passed.
    pub faults: Vec<Fault>,
}

/// A claim, its digests and the chunks drawn.
#[derive(Debug, Clone)]
pub struct Sample<'a> {
    claim: &'a Claim,
    digests: &'a Digests,
    eos: &'a [u32],
    /// All tokens that were computed.
    tokens: Vec<u32>,
    /// Tokens before the first choice.
    from: u32,
    drawn: Vec<u32>,
}

impl<'a> Sample<'a> {
    /// Draws `count` chunks of a claim by `seed`, as [`draw`] does: with two draws or more some are of a long prompt. `signed` is the root that the node signed.
    /// All of `claim` (prompt, tokens, options, seed, adapters, finish) must be from what it signed as well: otherwise a fault is not the node's own.
    ///
    /// # Errors
    /// Any [`SampleError`] but those of [`Sample::run`].
    pub fn new(
        claim: &'a Claim,
        (digests, signed): (&'a Digests, [u8; 32]),
        (vocabulary, eos): (usize, &'a [u32]),
        (seed, count): (&[u8; 32], NonZeroU32),
    ) -> Result<Self, SampleError> {
        if root(&digests.positions, &digests.pages) != signed {
            return Err(SampleError::Root);
        }
        if claim.options.grammar.is_some() {
            return Err(SampleError::Grammar);
        }
        claim.options.check(vocabulary)?;
        let is_possible = |token: u32| usize::try_from(token).is_ok_and(|token| token < vocabulary) && !eos.contains(&token);
        if let Some(at) = claim.tokens.iter().position(|token| !is_possible(*token)) {
            return Err(SampleError::Token { position: number(claim.continued.len() + at), token: claim.tokens[at] });
        }
        let is_stop = claim.finish == Some(Finish::Stop);
        // Behind a stop string nothing is chosen. Which of both ended the answer is in the signed digests.
        let is_cut = is_stop && !claim.options.stop.is_empty() && !claim.tokens.is_empty() && digests.positions.len() == claim.tokens.len();
        let choices = claim.tokens.len() + usize::from(is_stop && !is_cut);
        if choices == 0 || claim.prompt.is_empty() {
            return Err(SampleError::Empty);
        }
        let mut tokens = claim.sequence(is_possible);
        if is_cut {
            // Nobody asked what follows the last one.
            tokens.pop();
        }
        let from = number(claim.prompt.len() + claim.continued.len());
        let (positions, pages) = (digests.positions.len(), digests.pages.len());
        let expected_pages = index(number(tokens.len()).div_ceil(PAGE_TOKENS));
        if (positions, pages) != (choices, expected_pages) {
            return Err(SampleError::Counts { positions, pages, expected_positions: choices, expected_pages });
        }
        let drawn = draw(seed, &signed, Chunks::new(number(tokens.len()), from), count.get());
        Ok(Self { claim, digests, eos, tokens, from, drawn })
    }

    /// The chunks there are to draw from.
    #[must_use]
    pub fn chunks(&self) -> Chunks {
        Chunks::new(self.length(), self.from)
    }

    /// The chunks drawn, rising.
    #[must_use]
    pub fn drawn(&self) -> &[u32] {
        &self.drawn
    }

    /// Pages that the node has to hand out: from the first of the sequence, up to the one of the last drawn chunk.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.drawn.last().map_or(0, |chunk| index(page_of(*chunk)) + 1)
    }

    /// Tokens that a page of the sequence has.
    #[must_use]
    pub fn page_tokens(&self, page: u32) -> u32 {
        PAGE_TOKENS.min(self.length().saturating_sub(page.saturating_mul(PAGE_TOKENS)))
    }

    /// Pages of the cache that [`Sample::run`] writes.
    #[must_use]
    pub fn room(&self) -> usize {
        self.pages() + self.drawn.len()
    }

    /// Computes the drawn chunks behind `pages` (of [`Backend::read_page`], by page of the sequence). Writes pages `room` of the cache, which the caller alone
    /// owns until this returns and no sequence shares: what they held is lost. `slots` are where the claim's adapters are attached, in their order.
    ///
    /// # Errors
    /// [`SampleError::Pages`], [`SampleError::Room`], [`SampleError::Twice`], [`SampleError::Slots`] or [`SampleError::Step`].
    pub fn run<B: Backend, P: AsRef<[u8]>>(
        &self,
        backend: &mut B,
        out: &mut Outputs,
        pages: &[P],
        (room, slots): (&[Page], &[Slot]),
    ) -> Result<Sampled, SampleError> {
        let (count, adapters) = (self.pages(), self.claim.adapters.len());
        if pages.len() < count {
            return Err(SampleError::Pages { got: pages.len(), needed: count });
        }
        if room.len() < self.room() {
            return Err(SampleError::Room { got: room.len(), needed: self.room() });
        }
        if let Some(Page(page)) = twice(room) {
            return Err(SampleError::Twice { page });
        }
        if slots.len() != adapters || adapters > ADAPTERS_OF_ROW_MAX {
            return Err(SampleError::Slots { got: slots.len(), needed: adapters });
        }
        let mut found = Sampled { faults: self.take_in(backend, pages, room), ..Sampled::default() };
        if !found.faults.is_empty() {
            return Ok(found);
        }
        // Each chunk has a copy of its page, so that what it writes is seen by itself alone.
        let own = &room[count..];
        for (drawn, own) in self.drawn.chunks(CHUNKS_OF_STEP).zip(own.chunks(CHUNKS_OF_STEP)) {
            for (chunk, own) in drawn.iter().zip(own) {
                backend.copy_page(room[index(page_of(*chunk))], *own);
            }
            let batch = Batch::new(self, drawn, (&room[..count], own), slots);
            backend.forward(&batch.step(), out)?;
            self.judge(&batch, &*backend, out, &mut found);
        }
        Ok(found)
    }

    fn length(&self) -> u32 {
        number(self.tokens.len())
    }

    /// Writes pages into the cache that have the bytes of their digests; names those that have not.
    fn take_in<B: Backend, P: AsRef<[u8]>>(&self, backend: &mut B, pages: &[P], room: &[Page]) -> Vec<Fault> {
        let mut faults = Vec::new();
        for ((page, bytes), (digest, place)) in (0..).zip(&pages[..self.pages()]).zip(self.digests.pages.iter().zip(room)) {
            let bytes = bytes.as_ref();
            if blake3::hash(bytes) != *digest {
                faults.push(Fault::Bytes { page });
            } else if let Err(error) = backend.write_page(*place, self.page_tokens(page), bytes) {
                faults.push(Fault::Numbers { page, error });
            }
        }
        faults
    }

    fn judge<B: Backend>(&self, batch: &Batch, backend: &B, out: &Outputs, found: &mut Sampled) {
        found.rows += number(batch.tokens.len());
        let mut next = 0;
        for (span, (chunk, own)) in batch.spans.iter().zip(&batch.chunks) {
            let wanted = next..next + batch.wanted[next..].partition_point(|row| *row < span.first_row + span.rows);
            next = wanted.end;
            let failed = out.failed.iter().find(|row| (span.first_row..span.first_row + span.rows).contains(row));
            if let Some(row) = failed {
                found.faults.push(Fault::NotFinite { position: batch.positions[index(*row)] });
                continue;
            }
            found.faults.extend(self.judge_choices(batch, wanted, out, &mut found.checked));
            let page = page_of(*chunk);
            if backend.page_digest(*own, self.page_tokens(page)) != self.digests.pages[index(page)] {
                found.faults.push(Fault::Keys { chunk: *chunk });
            }
        }
    }

    /// The first choice of a chunk that does not follow.
    fn judge_choices(&self, batch: &Batch, wanted: Range<usize>, out: &Outputs, checked: &mut u32) -> Option<Fault> {
        let Claim { prompt, continued, tokens, options, seed, .. } = self.claim;
        let first = index(batch.positions[index(*batch.wanted.get(wanted.start)?)] + 1 - self.from);
        let mut seen = if options.has_penalties() { Counts::new(prompt) } else { Counts::default() };
        if options.has_penalties() {
            continued.iter().chain(&tokens[..first.min(tokens.len())]).for_each(|token| seen.push(*token));
        }
        let (rows, mut chooser) = (batch.wanted.len(), Chooser::default());
        for (choice, at) in (first..).zip(wanted) {
            let position = number(continued.len() + choice);
            let row = batch.positions[index(batch.wanted[at])];
            let logits = part(&out.logits, rows, at);
            let Some(best) = chooser.choose(logits, options, &seen, None, seed, position).map(|chosen| chosen.token) else {
                return Some(Fault::NotFinite { position: row });
            };
            let (claimed, follows) = match tokens.get(choice) {
                Some(token) => (*token, *token == best),
                // Any end token may have been meant.
                None => (self.eos.first().copied().unwrap_or(u32::MAX), self.eos.contains(&best)),
            };
            if !follows {
                let margin = judge(logits, options, &seen, None, seed, position, claimed).margin;
                return Some(Fault::Choice(Mismatch { position, expected: best, got: claimed, margin }));
            }
            let hidden = Hidden {
                codes: part(&out.hidden, rows, at),
                scales: part(&out.hidden_scales, rows, at),
                zeros: part(&out.hidden_zeros, rows, at),
            };
            if position_digest(hidden, row, best) != self.digests.positions[choice] {
                return Some(Fault::Digest { position });
            }
            *checked += 1;
            if options.has_penalties() {
                seen.push(best);
            }
        }
        None
    }
}

/// A step of some chunks, each a sequence of its own.
#[derive(Debug, Default)]
struct Batch {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    spans: Vec<Span>,
    page_table: Vec<u32>,
    segments: Vec<Segment>,
    segment_rows: Vec<u32>,
    wanted: Vec<u32>,
    /// Of each span, its chunk and the page that it writes.
    chunks: Vec<(u32, Page)>,
}

impl Batch {
    fn new(sample: &Sample<'_>, drawn: &[u32], (pages, own): (&[Page], &[Page]), slots: &[Slot]) -> Self {
        let mut batch = Self::default();
        for (chunk, own) in drawn.iter().zip(own) {
            let (first_row, first_page, page) = (number(batch.tokens.len()), number(batch.page_table.len()), page_of(*chunk));
            let positions = chunk * CHUNK_TOKENS..sample.length().min((chunk + 1) * CHUNK_TOKENS);
            batch.spans.push(Span { first_row, rows: positions.end - positions.start, first_page, pages: page + 1 });
            batch.page_table.extend(pages[..index(page)].iter().chain([own]).map(|page| page.0));
            batch.chunks.push((*chunk, *own));
            for (row, position) in (first_row..).zip(positions) {
                batch.tokens.push(sample.tokens[index(position)]);
                batch.positions.push(position);
                // A choice is made behind the last token before the answer, and behind each of its own.
                if position + 1 >= sample.from {
                    batch.wanted.push(row);
                }
            }
        }
        let rows = number(batch.tokens.len());
        for (slot, (_, scale)) in slots.iter().zip(&sample.claim.adapters) {
            batch.segments.push(Segment { slot: slot.0, first: number(batch.segment_rows.len()), rows, scale: *scale });
            batch.segment_rows.extend(0..rows);
        }
        batch
    }

    fn step(&self) -> Step<'_> {
        Step {
            tokens: &self.tokens,
            positions: &self.positions,
            spans: &self.spans,
            page_table: &self.page_table,
            segments: &self.segments,
            segment_rows: &self.segment_rows,
            wanted: &self.wanted,
        }
    }
}

/// A page that is named more than once.
fn twice(pages: &[Page]) -> Option<Page> {
    let mut sorted = pages.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// The page that holds a chunk.
fn page_of(chunk: u32) -> u32 {
    chunk / (PAGE_TOKENS / CHUNK_TOKENS)
}

/// The part of row `at` in an array of `rows` rows.
fn part<T>(all: &[T], rows: usize, at: usize) -> &[T] {
    let each = all.len() / rows;
    &all[at * each..][..each]
}

fn index(number: u32) -> usize {
    usize::try_from(number).expect("a count of tokens is an index")
}

/// Counts of tokens and pages; what does not fit is beyond every context, which a step refuses.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeds that differ.
    fn seed(number: u32) -> [u8; 32] {
        let mut seed = [7; 32];
        seed[..4].copy_from_slice(&number.to_le_bytes());
        seed
    }

    #[test]
    fn a_chunk_is_drawn_as_often_as_any_other_and_none_twice() {
        let (chunks, count, draws) = (Chunks { prompt: 0, answer: 18 }, 3u32, 6_000u32);
        let mut times = vec![0u32; 18];
        for number in 0..draws {
            let drawn = draw(&seed(number), &[9; 32], chunks, count);
            assert!(drawn.len() == 3 && drawn.windows(2).all(|pair| pair[0] < pair[1]) && drawn[2] < 18, "{drawn:?}");
            drawn.iter().for_each(|chunk| times[index(*chunk)] += 1);
        }
        // Each is 1,000 times expected; five standard deviations are 144.
        assert!(times.iter().all(|times| times.abs_diff(1_000) < 144), "{times:?}");
        let of = |prompt, answer, count| draw(&[1; 32], &[9; 32], Chunks { prompt, answer }, count);
        assert_eq!(of(0, 5, 9), [0, 1, 2, 3, 4], "no more than there are");
        assert_eq!(of(2, 3, 5), [0, 1, 2, 3, 4]);
        assert!(of(0, 0, 3).is_empty());
        let by = |seed, root| draw(&[seed; 32], &[root; 32], Chunks { prompt: 0, answer: 1_000 }, 3);
        assert_ne!(by(1, 9), by(2, 9), "another seed");
        assert_ne!(by(1, 9), by(1, 8), "another answer");
    }

    #[test]
    fn a_long_prompt_takes_half_of_the_draws_at_most_and_none_of_a_single_one() {
        let chunks = Chunks { prompt: 240, answer: 8 };
        for (count, of_prompt, of_answer) in [(1, 0, 1), (2, 1, 1), (3, 1, 2), (8, 4, 4), (16, 8, 8), (40, 20, 8), (1_000, 240, 8)] {
            let drawn = draw(&[3; 32], &[9; 32], chunks, count);
            let before = drawn.iter().filter(|chunk| **chunk < chunks.prompt).count();
            assert_eq!((before, drawn.len() - before), (of_prompt, of_answer), "{count} draws");
            assert!(drawn.windows(2).all(|pair| pair[0] < pair[1]) && drawn.iter().all(|chunk| *chunk < 248), "{drawn:?}");
        }
        // Two of eight: a quarter of 4,000 draws have a given chunk of the answer; five standard deviations are 137.
        let times = (0..4_000).filter(|number| draw(&seed(*number), &[9; 32], chunks, 4).contains(&243)).count();
        assert!(times.abs_diff(1_000) < 137, "{times}");
    }

    #[test]
    fn a_chunk_belongs_to_the_answer_if_a_choice_is_made_in_it() {
        for (positions, from, prompt, answer) in
            [(1, 1, 0, 1), (32, 32, 0, 1), (33, 33, 1, 1), (64, 33, 1, 1), (575, 64, 1, 17), (575, 65, 2, 16), (8_000, 7_990, 249, 1)]
        {
            assert_eq!(Chunks::new(positions, from), Chunks { prompt, answer }, "{positions} positions, {from} before the answer");
        }
    }
}
