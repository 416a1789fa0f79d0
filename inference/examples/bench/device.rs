//! Steps on the device itself: prompts, one sequence, many, and adapters among them.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use inference::adapter::{AdapterFiles, Packed8};
use inference::backend::cpu::{Cpu, CpuConfig};
use inference::backend::{Backend, Outputs};
use inference::model::Site;
use inference::model::packed::PackedModel;
use inference::step::{PAGE_TOKENS, Segment, Slot, Span, Step};

use crate::figures::{Beside, Found, Work, best, byte_tax, loss, median};
use crate::limits::Neighbour;
use crate::{PROFILES, Settings, adapter_bytes};

/// Tokens of the prompt that is read.
const PROMPT: u32 = 512;
/// Tokens that each sequence has when decoding is measured, and how many are decoded in a round: as llama.cpp's tools are told.
const PAST: u32 = 128;
const DECODED: u32 = 32;
/// Pages of each sequence: enough for the prompt.
const PAGES_EACH: u32 = PROMPT.div_ceil(PAGE_TOKENS);
/// Sequences at a time.
const SEQUENCES_MAX: u32 = 32;
/// Different adapters beside each other, few and many.
const FEW: u32 = 8;
const MANY: u32 = 256;
/// What adapters of random numbers are multiplied by, so that rows stay as they are of a model: it changes no time.
const SCALE: f32 = 1.0 / 256.0;

/// A model with room for what is measured.
pub(crate) struct Device {
    cpu: Cpu,
    out: Outputs,
    model: Arc<PackedModel>,
    /// Products of a token in all layers, and in the head.
    linear: usize,
    head: usize,
}

impl Device {
    pub(crate) fn new(model: &Arc<PackedModel>, threads: NonZeroUsize) -> Result<Self> {
        let pages = SEQUENCES_MAX * PAGES_EACH;
        let cpu = Cpu::new(Arc::clone(model), &CpuConfig { threads, pages, slots: MANY, ..CpuConfig::default() })?;
        let config = model.config();
        let linear = Site::ALL.map(|site| site.shape(config)).iter().map(|(out, input)| out * input).sum::<usize>() * config.layers;
        let head = config.hidden * config.vocabulary;
        Ok(Self { out: cpu.outputs(), cpu, model: Arc::clone(model), linear, head })
    }

    /// What a token takes that is decoded with so many others.
    fn decoded(&self, sequences: u32) -> Work {
        Work { bytes: self.model.step_bytes() as f64 / f64::from(sequences), products: (self.linear + self.head) as f64 }
    }

    /// What a token of the prompt takes: its products, half of the attention to all of it, and its part of the weights that each step reads.
    fn read(&self) -> Work {
        let config = self.model.config();
        let attention = config.layers * config.q_width() * PROMPT as usize;
        let steps = (PROMPT as usize).div_ceil(self.cpu.limits().rows);
        let bytes = (steps * self.model.step_bytes()) as f64 / f64::from(PROMPT);
        Work { bytes, products: (self.linear + attention) as f64 }
    }

    fn path(&self) -> String {
        format!("kernels {:?}", self.cpu.kernels().path).to_lowercase()
    }

    /// Rows `from..from + rows` of sequences that each have a run of pages. `slots` has the adapter of each row, or none.
    fn step(&mut self, sequences: u32, from: u32, rows: u32, is_wanted: bool, slots: &[u32]) -> Result<()> {
        let vocabulary = self.cpu.limits().vocabulary;
        let tokens: Vec<u32> = (0..sequences * rows).map(|row| (1_000 + (row * 37 + from * 11) % 1_000) % vocabulary).collect();
        let positions: Vec<u32> = (0..sequences).flat_map(|_| from..from + rows).collect();
        let pages = (from + rows).div_ceil(PAGE_TOKENS);
        let spans: Vec<Span> = (0..sequences).map(|at| Span { first_row: at * rows, rows, first_page: at * PAGES_EACH, pages }).collect();
        let page_table: Vec<u32> = (0..sequences * PAGES_EACH).collect();
        let wanted: Vec<u32> = if is_wanted { (1..=sequences).map(|at| at * rows - 1).collect() } else { Vec::new() };
        let (segments, segment_rows) = segments(slots);
        let (tokens, positions, spans, page_table) = (&tokens, &positions, &spans, &page_table);
        let step = Step { tokens, positions, spans, page_table, segments: &segments, segment_rows: &segment_rows, wanted: &wanted };
        self.cpu.forward(&step, &mut self.out)?;
        ensure!(self.out.failed.is_empty(), "rows failed");
        Ok(())
    }

    /// Prompt tokens a second.
    fn prefill(&mut self) -> Result<f64> {
        let each = u32::try_from(self.cpu.limits().rows)?.min(PROMPT);
        let begun = Instant::now();
        for from in (0..PROMPT).step_by(usize::try_from(each)?) {
            let rows = each.min(PROMPT - from);
            self.step(1, from, rows, from + rows == PROMPT, &[])?;
        }
        Ok(f64::from(PROMPT) / begun.elapsed().as_secs_f64())
    }

    /// Tokens a second of so many sequences. `slot` says which adapter a row has in the step of a token, if any.
    fn decode(&mut self, sequences: u32, slot: impl Fn(u32, u32) -> Option<u32>) -> Result<f64> {
        let chunk = u32::try_from(self.cpu.limits().rows)? / sequences;
        for from in (0..PAST).step_by(usize::try_from(chunk)?) {
            self.step(sequences, from, chunk.min(PAST - from), false, &[])?;
        }
        let slots: Vec<Vec<u32>> = (0..DECODED).map(|token| (0..sequences).filter_map(|row| slot(token, row)).collect()).collect();
        let begun = Instant::now();
        for (token, slots) in (0..).zip(&slots) {
            self.step(sequences, PAST + token, 1, true, slots)?;
        }
        Ok(f64::from(sequences * DECODED) / begun.elapsed().as_secs_f64())
    }

    /// 256 adapters that lie in memory, 32 rows that take them in turn, against 32 with one.
    pub(crate) fn many(&mut self, settings: &Settings) -> Result<Vec<Found>> {
        let bytes = self.attach(MANY)?;
        let (found, _) = self.loss("mixed256_loss", settings, (SEQUENCES_MAX, MANY), &bytes[..SEQUENCES_MAX as usize])?;
        Ok(vec![found.because("profile exact")])
    }

    /// One sequence with a busy neighbour over one without.
    pub(crate) fn busy(&mut self, settings: &Settings) -> Result<Vec<Found>> {
        let (mut shares, mut idle, mut busy) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..settings.rounds {
            idle.push(self.decode(1, |_, _| None)?);
            let neighbour = Neighbour::start();
            busy.push(self.decode(1, |_, _| None)?);
            drop(neighbour);
            shares.push(100.0 * busy[busy.len() - 1] / idle[idle.len() - 1]);
        }
        let note = format!(
            "one stream, {:.1} tok/s idle, {:.1} beside one thread that computes; fair shares of {} cores would leave {:.0} %",
            median(&idle),
            median(&busy),
            settings.threads,
            100.0 * fair_share(settings.threads)
        );
        Ok(vec![Found::plain("busy_ratio", "%", shares, note)])
    }

    /// Makes so many adapters and puts them in the first slots; their bytes.
    fn attach(&mut self, count: u32) -> Result<Vec<usize>> {
        let model = Arc::clone(&self.model);
        (0..count)
            .map(|slot| {
                let files = AdapterFiles::from_gguf(format!("random {slot}"), adapter_bytes(model.info(), u64::from(slot)), None)?;
                let packed = Arc::new(Packed8::new(&files, model.info())?);
                self.cpu.attach(Slot(slot), &packed)?;
                Ok(packed.bytes())
            })
            .collect()
    }

    /// Rows with one adapter and rows that take so many in turn, one after the other in every round; the loss, and rates with different ones. `bytes` are
    /// those of a step's adapters.
    fn loss(
        &mut self,
        figure: &'static str,
        settings: &Settings,
        (rows, adapters): (u32, u32),
        bytes: &[usize],
    ) -> Result<(Found, Vec<f64>)> {
        let (mut losses, mut ratios, mut same, mut different) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let tax = byte_tax(self.model.step_bytes(), bytes);
        for _ in 0..settings.rounds {
            same.push(self.decode(rows, |_, _| Some(0))?);
            different.push(self.decode(rows, |token, row| Some((token * rows + row) % adapters))?);
            let ratio = different[different.len() - 1] / same[same.len() - 1];
            losses.push(loss(ratio, tax));
            ratios.push(ratio);
        }
        let note = format!(
            "{rows} rows on the device, {:.0} tok/s with one adapter and {:.0} with different ones: {:.1} % of it, of which the byte tax leaves {:.1} % ({:.1} MB of base, {:.1} MB of {} adapters in a step, {adapters} in memory)",
            median(&same),
            median(&different),
            100.0 * median(&ratios),
            100.0 * tax,
            self.model.step_bytes() as f64 / 1e6,
            bytes.iter().sum::<usize>() as f64 / 1e6,
            bytes.len()
        );
        let more = bytes.iter().sum::<usize>() - bytes.iter().max().copied().unwrap_or(0);
        let beside = Beside { step_s: f64::from(rows) / median(&same), more_bytes: more as f64, ratio: median(&ratios) };
        Ok((Found::loss(figure, losses, beside, note), different))
    }
}

/// The model in every profile, each on a device of its own; rounds take them in turn.
pub(crate) struct Devices([Device; PROFILES.len()]);

impl Devices {
    pub(crate) fn new(models: &[Arc<PackedModel>; PROFILES.len()], threads: NonZeroUsize) -> Result<Self> {
        let [exact, fast] = models;
        Ok(Self([Device::new(exact, threads)?, Device::new(fast, threads)?]))
    }

    /// What is measured in one profile.
    pub(crate) fn exact(&mut self) -> &mut Device {
        &mut self.0[0]
    }

    /// Rates by profile.
    fn rates(&mut self, settings: &Settings, each: impl Fn(&mut Device) -> Result<f64>) -> Result<[Vec<f64>; PROFILES.len()]> {
        let mut rates: [Vec<f64>; PROFILES.len()] = Default::default();
        // The first round finds caches cold and threads asleep.
        for round in 0..=settings.rounds {
            for (device, rates) in self.0.iter_mut().zip(&mut rates) {
                let rate = each(device)?;
                if round > 0 {
                    rates.push(rate);
                }
            }
        }
        Ok(rates)
    }

    /// One sequence.
    pub(crate) fn stream(&mut self, settings: &Settings) -> Result<Vec<Found>> {
        let rates = self.rates(settings, |device| device.decode(1, |_, _| None))?;
        let of = |at: usize| {
            let (device, rates) = (&self.0[at], &rates[at]);
            let work = device.decoded(1);
            let note = format!("{}; {PAST} tokens before, {:.1} MB a step without keys and values", device.path(), work.bytes / 1e6);
            (rates.clone(), work, note)
        };
        let ((exact, work, note), (at, why)) = (of(0), best(&rates, true));
        let (quickest, its_work, its_note) = of(at);
        let its_note = format!("{why}; {its_note}");
        Ok(vec![
            Found::rate("exact_stream_tok_s", exact.clone(), work, note.clone()),
            Found::share("exact_stream_bandwidth", exact, work, note),
            Found::rate("stream_tok_s", quickest.clone(), its_work, its_note.clone()),
            Found::share("stream_bandwidth", quickest, its_work, its_note),
        ])
    }

    /// Many sequences without adapters.
    pub(crate) fn batch(&mut self, settings: &Settings) -> Result<Vec<Found>> {
        [("batch8_tok_s", 8), ("batch16_tok_s", 16), ("batch32_tok_s", 32)]
            .into_iter()
            .map(|(figure, sequences)| {
                let mut rates = self.rates(settings, |device| device.decode(sequences, |_, _| None))?;
                let (at, why) = best(&rates, true);
                let (device, rates) = (&self.0[at], std::mem::take(&mut rates[at]));
                Ok(Found::rate(figure, rates, device.decoded(sequences), format!("{why}; {}; {PAST} tokens before", device.path())))
            })
            .collect()
    }

    /// A prompt of 512 tokens.
    pub(crate) fn prompt(&mut self, settings: &Settings) -> Result<Vec<Found>> {
        let rates = self.rates(settings, Device::prefill)?;
        let (at, why) = best(&rates, true);
        let [exact, _] = &self.0;
        Ok(vec![
            Found::rate("exact_prefill512_tok_s", rates[0].clone(), exact.read(), exact.path()),
            Found::rate("prefill512_tok_s", rates[at].clone(), self.0[at].read(), format!("{why}; {}", self.0[at].path())),
        ])
    }

    /// Eight rows with an adapter each against eight with one.
    pub(crate) fn mixed(&mut self, settings: &Settings) -> Result<Vec<Found>> {
        let (mut found, mut rates): (Vec<Found>, [Vec<f64>; PROFILES.len()]) = Default::default();
        for (device, rates) in self.0.iter_mut().zip(&mut rates) {
            let bytes = device.attach(FEW)?;
            let (loss, with_different) = device.loss("mixed8_loss", settings, (FEW, FEW), &bytes)?;
            found.push(loss);
            *rates = with_different;
        }
        let (at, why) = best(&rates, true);
        Ok(vec![found.swap_remove(at).because(&why)])
    }
}

/// What is left of a machine with as many cores as threads, if one thread more is given an equal share of them.
fn fair_share(threads: NonZeroUsize) -> f64 {
    threads.get() as f64 / (threads.get() + 1) as f64
}

/// Rows by their adapters, as a step takes them: one segment for each that occurs, rising.
fn segments(slots: &[u32]) -> (Vec<Segment>, Vec<u32>) {
    let mut ordered: Vec<(u32, u32)> = slots.iter().copied().zip(0..).collect();
    ordered.sort_unstable();
    let rows: Vec<u32> = ordered.iter().map(|(_, row)| *row).collect();
    let mut segments: Vec<Segment> = Vec::new();
    for (at, (slot, _)) in (0..).zip(&ordered) {
        match segments.last_mut().filter(|last| last.slot == *slot) {
            Some(last) => last.rows += 1,
            None => segments.push(Segment { slot: *slot, first: at, rows: 1, scale: SCALE }),
        }
    }
    (segments, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_adapter_are_one_segment_and_of_many_one_each() {
        let (found, rows) = segments(&[7, 2, 7, 0]);
        let shown: Vec<_> = found.iter().map(|segment| (segment.slot, segment.first, segment.rows)).collect();
        assert_eq!((shown, rows), (vec![(0, 0, 1), (2, 1, 1), (7, 2, 2)], vec![3, 1, 0, 2]));
        assert_eq!(segments(&[5; 8]).0.len(), 1);
        assert_eq!(segments(&[]), (vec![], vec![]));
    }

    #[test]
    fn rows_that_take_256_adapters_in_turn_have_32_different_ones_in_every_step() {
        let slot = |token: u32, row: u32| (token * SEQUENCES_MAX + row) % MANY;
        let mut all = std::collections::BTreeSet::new();
        for token in 0..DECODED {
            let step: Vec<u32> = (0..SEQUENCES_MAX).map(|row| slot(token, row)).collect();
            assert_eq!(segments(&step).0.len(), 32);
            all.extend(step);
        }
        assert_eq!(all.len(), 256);
    }

    #[test]
    fn a_neighbour_takes_an_equal_share() {
        assert_eq!(fair_share(NonZeroUsize::new(1).unwrap()), 0.5);
        assert_eq!(fair_share(NonZeroUsize::new(2).unwrap()), 2.0 / 3.0);
    }
}
