//! A check of drawn chunks of an answer, on a device of its own: from the pages handed out to the verdict.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use inference::backend::cpu::{Cpu, CpuConfig};
use inference::backend::{Backend, Outputs};
use inference::model::packed::PackedModel;
use inference::step::{PAGE_TOKENS, Page, Span, Step};
use inference::verify::sampled::Sample;
use inference::verify::{Claim, Digests};

/// Chunks drawn of an answer.
const DRAWN: NonZeroU32 = NonZeroU32::MIN;
/// Draws that are timed: as many as there are chunks with choices, so that those late in the answer, which need more pages, weigh as they do.
const DRAWS: u8 = 17;
/// Pages of the answer that is checked, at most.
const PAGES: u32 = 16;

/// A checker, and what a node would hand it.
pub(crate) struct Checker {
    cpu: Cpu,
    out: Outputs,
}

/// What drawn checks of one answer took.
pub(crate) struct Sampled {
    /// Milliseconds of each, on average.
    pub(crate) ms: f64,
    /// Megabytes of pages of each, on average.
    pub(crate) carried_mb: f64,
    /// Chunks of the answer: those with choices, from which a single one is drawn.
    pub(crate) chunks: u32,
}

impl Checker {
    pub(crate) fn new(model: &Arc<PackedModel>, threads: NonZeroUsize) -> Result<Self> {
        let config = CpuConfig { threads, pages: 2 * PAGES + DRAWN.get(), slots: 0, ..CpuConfig::default() };
        let cpu = Cpu::new(Arc::clone(model), &config)?;
        Ok(Self { out: cpu.outputs(), cpu })
    }

    /// Bytes of the pages of prompt and answer, as the answering node has them.
    fn pages(&mut self, tokens: &[u32]) -> Result<Vec<Vec<u8>>> {
        let (count, each) = (u32::try_from(tokens.len())?, u32::try_from(self.cpu.limits().rows)?);
        ensure!(count.div_ceil(PAGE_TOKENS) <= PAGES, "an answer of more than {PAGES} pages");
        let table: Vec<u32> = (0..PAGES).collect();
        for from in (0..count).step_by(usize::try_from(each)?) {
            let rows = each.min(count - from);
            let step = Step {
                tokens: &tokens[usize::try_from(from)?..usize::try_from(from + rows)?],
                positions: &(from..from + rows).collect::<Vec<_>>(),
                spans: &[Span { first_row: 0, rows, first_page: 0, pages: PAGES }],
                page_table: &table,
                segments: &[],
                segment_rows: &[],
                wanted: &[],
            };
            self.cpu.forward(&step, &mut self.out)?;
        }
        let read = |page: u32| {
            let mut bytes = Vec::new();
            self.cpu.read_page(Page(page), PAGE_TOKENS.min(count - page * PAGE_TOKENS), &mut bytes);
            bytes
        };
        Ok((0..count.div_ceil(PAGE_TOKENS)).map(read).collect())
    }

    /// Draws chunks of an honest answer, again and again.
    pub(crate) fn time(&mut self, claim: &Claim, digests: &Digests, eos: &[u32]) -> Result<Sampled> {
        let vocabulary = self.cpu.info().config.vocabulary;
        let tokens: Vec<u32> = claim.prompt.iter().chain(&claim.tokens[..claim.tokens.len() - 1]).copied().collect();
        let pages = self.pages(&tokens)?;
        let room: Vec<Page> = (PAGES..2 * PAGES + DRAWN.get()).map(Page).collect();
        let (mut seconds, mut bytes, mut chunks) = (0.0, 0, 0);
        for seed in 0..=DRAWS {
            let begun = Instant::now();
            let sample = Sample::new(claim, (digests, digests.root), (vocabulary, eos), (&[seed; 32], DRAWN))?;
            chunks = sample.chunks().answer;
            let found = sample.run(&mut self.cpu, &mut self.out, &pages, (&room, &[]))?;
            // The first is not counted: it touches memory for the first time.
            if seed > 0 {
                seconds += begun.elapsed().as_secs_f64();
                bytes += pages[..sample.pages()].iter().map(Vec::len).sum::<usize>();
            }
            ensure!(found.faults.is_empty() && found.rows > 0, "the engine's own answer does not pass: {found:?}");
        }
        let draws = f64::from(DRAWS);
        Ok(Sampled { ms: seconds * 1e3 / draws, carried_mb: bytes as f64 / 1e6 / draws, chunks })
    }
}
