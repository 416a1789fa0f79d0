//! One step: who gets rows, and the arrays of it.

use types::id::Address;
use types::time::Time;

use crate::proto::lookup::GUESSES_MAX;
use crate::proto::pages::TOKENS;
use crate::proto::residency::{AdapterId, Tier};
use crate::step::{ROWS_MAX, Segment, Span, Step};

use super::{Ended, JobId, Kind, Output, Scheduler};

/// Entries of page tables that a plan has room for from the start.
const PAGES_ROOM: usize = 4_096;

/// A job's part of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// Which.
    pub job: JobId,
    /// Its first row.
    pub first_row: u32,
    /// How many rows, guesses included.
    pub rows: u32,
    /// Its first place in [`Step::wanted`].
    pub first_wanted: u32,
    /// Rows whose logits are wanted.
    pub wanted: u32,
    /// Position of the first wanted row in its sequence.
    pub position: u32,
    is_answer: bool,
    guesses: [u32; GUESSES_MAX],
    guess_count: usize,
}

impl Planned {
    /// Tokens guessed behind the last given one: a token is chosen after that, and behind each guess that was right so far.
    #[must_use]
    pub fn guesses(&self) -> &[u32] {
        &self.guesses[..self.guess_count]
    }

    /// Whether tokens are to be chosen for it: else its rows are a part of a prompt, or judged.
    #[must_use]
    pub fn is_chosen(&self) -> bool {
        self.is_answer && self.wanted > 0
    }
}

/// A step and what goes with it. Kept by the shell and filled anew: nothing is allocated once the vectors have grown.
#[derive(Debug, Default)]
pub struct Plan {
    /// To be done before the step is computed, in order.
    pub outputs: Vec<Output>,
    /// The jobs of the step, in order of their rows.
    pub jobs: Vec<Planned>,
    tokens: Vec<u32>,
    positions: Vec<u32>,
    spans: Vec<Span>,
    page_table: Vec<u32>,
    segments: Vec<Segment>,
    segment_rows: Vec<u32>,
    wanted: Vec<u32>,
}

impl Plan {
    /// With room for every step of `running` jobs on so many pages, as far as it is worth it: page tables of a few thousand pages.
    #[must_use]
    pub fn with_room(running: usize, pages: u32) -> Self {
        Self {
            outputs: Vec::new(),
            jobs: Vec::with_capacity(running),
            tokens: Vec::with_capacity(ROWS_MAX),
            positions: Vec::with_capacity(ROWS_MAX),
            spans: Vec::with_capacity(running),
            page_table: Vec::with_capacity(usize::try_from(pages).unwrap_or(usize::MAX).min(PAGES_ROOM)),
            segments: Vec::with_capacity(running),
            segment_rows: Vec::with_capacity(ROWS_MAX),
            wanted: Vec::with_capacity(ROWS_MAX),
        }
    }

    /// What a backend computes.
    #[must_use]
    pub fn step(&self) -> Step<'_> {
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

    /// Whether there is nothing to compute.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    fn clear(&mut self) {
        self.outputs.clear();
        self.jobs.clear();
        self.tokens.clear();
        self.positions.clear();
        self.spans.clear();
        self.page_table.clear();
        self.segments.clear();
        self.segment_rows.clear();
        self.wanted.clear();
    }
}

/// A running job that may have rows in this step. The order is that of service among a payer's jobs: tokens before prompts, then the
/// longest unserved, then the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    payer: Address,
    is_prompt: bool,
    served: Time,
    age: u64,
    id: JobId,
    /// Rows it still wants.
    wants: u32,
}

/// What planning needs room for.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    candidates: Vec<Candidate>,
    /// By time of service, of those overdue.
    overdue: Vec<(Time, usize)>,
    /// Jobs of the step, in the order they came in.
    chosen: Vec<JobId>,
    /// Distinct adapters of the step, sorted, and their bytes.
    adapters: Vec<AdapterId>,
    adapter_bytes: u64,
    guesses: Vec<u32>,
    /// Of a segment's part: how many adapters its rows had before, slot, scale, first row, rows.
    parts: Vec<(u32, u32, u32, u32, u32)>,
}

impl Scratch {
    /// With room for steps of `running` jobs.
    pub(super) fn with_room(running: usize) -> Self {
        Self {
            candidates: Vec::with_capacity(running),
            overdue: Vec::with_capacity(running),
            chosen: Vec::with_capacity(running),
            adapters: Vec::with_capacity(running),
            adapter_bytes: 0,
            guesses: Vec::with_capacity(ROWS_MAX),
            parts: Vec::with_capacity(running),
        }
    }
}

impl Scheduler {
    /// Plans the next step into `out`; an empty one while the last is not answered, or if nothing can run.
    pub fn plan(&mut self, now: Time, out: &mut Plan) {
        out.clear();
        if self.planned.is_empty() {
            self.expire(now);
            self.admit(now);
            self.choose(now);
            self.assemble(out);
        }
        self.pass_actions();
        out.outputs.extend(self.outputs.drain(..));
    }

    fn expire(&mut self, now: Time) {
        while let Some(&(deadline, id)) = self.deadlines.first()
            && deadline <= now
        {
            self.end(id, Ended::Deadline);
        }
    }

    /// Grants rows to running jobs.
    fn choose(&mut self, now: Time) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.chosen.clear();
        scratch.adapters.clear();
        scratch.adapter_bytes = 0;
        self.list(now, &mut scratch);
        let mut rows = self.pace.rows();
        for at in 0..scratch.overdue.len() {
            let candidate = scratch.overdue[at].1;
            let wants = scratch.candidates[candidate].wants.min(self.config.quantum).min(rows);
            rows -= self.grant(now, &mut scratch, candidate, wants);
        }
        let mut fair = std::mem::replace(&mut self.fair, crate::proto::fair::Fair::new(self.config.quantum));
        let left = fair.share(rows, |payer, offered| self.offer(now, &mut scratch, payer, offered));
        fair.retain(|payer| self.waiting.running(payer) > 0);
        self.fair = fair;
        if self.config.guesses {
            self.guess(now, left, &mut scratch);
        }
        self.scratch = scratch;
    }

    fn list(&self, now: Time, scratch: &mut Scratch) {
        scratch.candidates.clear();
        for (id, run) in &self.runs {
            let Some(job) = self.jobs.get(id).filter(|job| job.may_run()) else { continue };
            let wants = u32::try_from(job.tokens.len() - run.computed).unwrap_or(u32::MAX);
            scratch.candidates.push(Candidate {
                payer: job.job.payer,
                is_prompt: wants > 1,
                served: run.served,
                age: job.age,
                id: *id,
                wants,
            });
        }
        scratch.candidates.sort_unstable();
        let overdue = (0..).zip(&scratch.candidates).filter(|(_, candidate)| now.since(candidate.served) >= self.config.age_max);
        scratch.overdue.clear();
        scratch.overdue.extend(overdue.map(|(at, candidate)| (candidate.served, at)));
        scratch.overdue.sort_unstable();
    }

    /// Offers rows to a payer's jobs: first to those that add no adapter to the step.
    fn offer(&mut self, now: Time, scratch: &mut Scratch, payer: Address, offered: u32) -> u32 {
        let first = scratch.candidates.partition_point(|candidate| candidate.payer < payer);
        let count = scratch.candidates[first..].partition_point(|candidate| candidate.payer == payer);
        let mut left = offered;
        for may_add in [false, true] {
            for at in first..first + count {
                if left == 0 {
                    return offered;
                }
                let wants = scratch.candidates[at].wants.min(left);
                if wants > 0 && (may_add || self.adds_nothing(scratch, scratch.candidates[at].id)) {
                    left -= self.grant(now, scratch, at, wants);
                }
            }
        }
        offered - left
    }

    fn adds_nothing(&self, scratch: &Scratch, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|job| job.job.adapters.iter().all(|(id, _)| scratch.adapters.binary_search(id).is_ok()))
    }

    /// Gives a job rows of the step, as far as adapters and pages allow; says how many.
    fn grant(&mut self, now: Time, scratch: &mut Scratch, at: usize, rows: u32) -> u32 {
        let id = scratch.candidates[at].id;
        let is_new = self.runs.get(&id).is_some_and(|run| run.granted == 0);
        if rows == 0 || (is_new && !self.adapters_fit(scratch, id)) {
            return 0;
        }
        let rows = self.secure(now, id, rows);
        let Some(run) = self.runs.get_mut(&id).filter(|_| rows > 0) else {
            // It gave way itself, or waits for the next step; in this one it wants nothing more.
            scratch.candidates[at].wants = 0;
            return 0;
        };
        run.granted += rows;
        scratch.candidates[at].wants -= rows;
        if is_new {
            scratch.chosen.push(id);
            self.add_adapters(scratch, id);
        }
        rows
    }

    /// Whether the job's adapters may be added: within the bytes of a step, or in a step without any.
    fn adapters_fit(&self, scratch: &Scratch, id: JobId) -> bool {
        let Some(job) = self.jobs.get(&id) else { return false };
        let set = &job.job.adapters;
        let is_new =
            |at: usize| scratch.adapters.binary_search(&set[at].0).is_err() && !set[..at].iter().any(|(before, _)| *before == set[at].0);
        let bytes: u64 = (0..set.len()).filter(|at| is_new(*at)).map(|at| self.residency.memory_bytes(set[at].0)).sum();
        bytes == 0 || scratch.adapters.is_empty() || scratch.adapter_bytes + bytes <= self.config.step_adapter_bytes
    }

    fn add_adapters(&self, scratch: &mut Scratch, id: JobId) {
        for (adapter, _) in self.jobs.get(&id).into_iter().flat_map(|job| &job.job.adapters) {
            if let Err(place) = scratch.adapters.binary_search(adapter) {
                scratch.adapters.insert(place, *adapter);
                scratch.adapter_bytes += self.residency.memory_bytes(*adapter);
            }
        }
    }

    /// Takes pages for `rows` more rows of a job; says for how many there are.
    fn secure(&mut self, now: Time, id: JobId, rows: u32) -> u32 {
        let Some(run) = self.runs.get(&id) else { return 0 };
        let before = run.computed + usize::try_from(run.granted).unwrap_or(usize::MAX);
        let end = before + usize::try_from(rows).unwrap_or(usize::MAX);
        for _ in run.pages.len()..end.div_ceil(TOKENS) {
            if !self.make_page(id, now) {
                break;
            }
            let (Some(page), Some(run)) = (self.pages.take(), self.runs.get_mut(&id)) else { break };
            run.pages.push(page);
        }
        let room = self.runs.get(&id).map_or(0, |run| run.pages.len() * TOKENS);
        rows.min(u32::try_from(room.saturating_sub(before)).unwrap_or(u32::MAX))
    }

    /// Adds guesses behind the last tokens of answers, one job after the other, while rows are left and pages lie free.
    fn guess(&mut self, now: Time, mut left: u32, scratch: &mut Scratch) {
        scratch.guesses.clear();
        for at in 0..scratch.chosen.len() {
            if left == 0 {
                return;
            }
            let id = scratch.chosen[at];
            let (Some(job), Some(run)) = (self.jobs.get(&id), self.runs.get_mut(&id)) else { continue };
            let reaches_end = run.computed + usize::try_from(run.granted).unwrap_or(0) == job.tokens.len();
            let max = job.guesses_max().min(usize::try_from(left).unwrap_or(usize::MAX));
            let (true, Some(lookup)) = (reaches_end, run.lookup.as_mut()) else { continue };
            let first = scratch.guesses.len();
            let found = lookup.guess(&job.tokens, max, &mut scratch.guesses);
            // Nobody gives up a page for a guess.
            let room = (run.pages.len() + self.pages.available()) * TOKENS - job.tokens.len();
            let wanted = u32::try_from(found.min(room)).unwrap_or(0);
            let count = if wanted == 0 { 0 } else { self.secure(now, id, wanted) };
            let Some(run) = self.runs.get_mut(&id) else { continue };
            scratch.guesses.truncate(first + usize::try_from(count).unwrap_or(0));
            run.guesses = (first, scratch.guesses.len());
            run.granted += count;
            left -= count;
        }
    }

    /// Writes the arrays of the step.
    fn assemble(&mut self, out: &mut Plan) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.parts.clear();
        for id in &scratch.chosen {
            let (Some(job), Some(run)) = (self.jobs.get(id), self.runs.get_mut(id)) else { continue };
            let (first, end) = std::mem::take(&mut run.guesses);
            let guesses = &scratch.guesses[first..end];
            let first_row = length(&out.tokens);
            let given = usize::try_from(run.granted).unwrap_or(0) - guesses.len();
            let sequence = job.tokens[run.computed..run.computed + given].iter().chain(guesses).copied();
            out.tokens.extend(sequence);
            let first_wanted = length(&out.wanted);
            let mut position = None;
            for (row, at) in (first_row..length(&out.tokens)).zip(run.computed..) {
                out.positions.push(u32::try_from(at).unwrap_or(u32::MAX));
                if at >= job.wanted_from() {
                    position.get_or_insert(at);
                    out.wanted.push(row);
                }
            }
            let pages = (run.computed + given + guesses.len()).div_ceil(TOKENS);
            let first_page = length(&out.page_table);
            out.page_table.extend(run.pages[..pages].iter().map(|page| page.0));
            let span = Span { first_row, rows: run.granted, first_page, pages: u32::try_from(pages).unwrap_or(u32::MAX) };
            out.spans.push(span);
            let mut planned = Planned {
                job: *id,
                first_row,
                rows: run.granted,
                first_wanted,
                wanted: length(&out.wanted) - first_wanted,
                position: position.and_then(|at| u32::try_from(at).ok()).unwrap_or(0),
                is_answer: job.job.kind == Kind::Answer,
                guesses: [0; GUESSES_MAX],
                guess_count: guesses.len(),
            };
            planned.guesses[..guesses.len()].copy_from_slice(guesses);
            out.jobs.push(planned);
            for (nth, (adapter, scale)) in (0..).zip(&job.job.adapters) {
                let Tier::Device(slot) = self.residency.tier(*adapter) else {
                    unreachable!("a running job holds its adapters on the device")
                };
                scratch.parts.push((nth, slot.0, scale.to_bits(), first_row, run.granted));
            }
        }
        segments(&mut scratch.parts, out);
        self.planned.extend_from_slice(&out.jobs);
        self.scratch = scratch;
    }
}

/// Joins the parts that have place, adapter and scale in common.
fn segments(parts: &mut [(u32, u32, u32, u32, u32)], out: &mut Plan) {
    parts.sort_unstable();
    let mut last = None;
    for &(nth, slot, scale, first_row, rows) in &*parts {
        if last != Some((nth, slot, scale)) {
            last = Some((nth, slot, scale));
            out.segments.push(Segment { slot, first: length(&out.segment_rows), rows: 0, scale: f32::from_bits(scale) });
        }
        out.segment_rows.extend(first_row..first_row + rows);
        if let Some(segment) = out.segments.last_mut() {
            segment.rows += rows;
        }
    }
}

fn length<T>(of: &[T]) -> u32 {
    u32::try_from(of.len()).unwrap_or(u32::MAX)
}
