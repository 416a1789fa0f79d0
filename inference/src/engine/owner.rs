//! The thread that owns the device: it hears, plans, computes, chooses, and tells.
//!
//! Nothing is decided here. [`Scheduler`] says what a step computes and what becomes of jobs and adapters; this loop carries that out, in one order:
//! lines, notices of the store and commands, then a plan, what it asks for, the step, choices of all jobs side by side, and their outcomes back to the scheduler.

mod adapters;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use types::id::Address;
use types::time::Time;

use crate::adapter::store::AdapterStore;
use crate::backend::cpu::share::Parts;
use crate::backend::{Backend, Outputs};
use crate::model::ModelError;
use crate::proto::lookup::accepted;
use crate::proto::pages::Space;
use crate::proto::residency::AdapterId;
use crate::proto::scheduler::{self, Ended, Input, Job, JobId, Outcome, Output, Plan, Refusal, Scheduler};
use crate::step::StepError;
use crate::verify::{Checked, Claim, Mismatch, Progress, Rule, Trace};

use super::bell::{Bell, Heard, Patience};
use super::guide::Guide;
use super::line::Line;
use super::work::{Kind, Results, Work};
use super::{EngineError, JOBS_MAX, Start, Stats};

/// How long an idle owner with jobs looks away at most: deadlines and waits count although nothing is heard.
const TICK: Duration = Duration::from_millis(100);
/// After a step, this part of the time it took is waited for callers that pull token by token, so that one step serves them all: without it they
/// would fall into small batches, each of which costs nearly a whole one.
const GATHER_PART: u32 = 8;
/// And no longer than this: a caller on the same machine pulls within some 50 us.
const GATHER_MAX: Duration = Duration::from_millis(1);
/// Tenant and payer of checks: their pages are shared among themselves alone.
const CHECKER: ([u8; 32], Address) = ([0xc4; 32], Address([0xc4; 20]));

/// What a handle asks.
#[derive(Debug)]
pub(super) enum Command {
    Begin {
        start: Box<Start>,
        guide: Box<Guide>,
        line: Arc<Line>,
        reply: oneshot::Sender<Result<(), EngineError>>,
    },
    Replay {
        claim: Box<Claim>,
        rule: Rule,
        guide: Box<Guide>,
        is_traced: bool,
        line: Arc<Line>,
        reply: oneshot::Sender<Result<Checked, EngineError>>,
    },
    Stats {
        reply: oneshot::Sender<Stats>,
    },
}

pub(super) struct Owner<B: Backend> {
    backend: B,
    eos: Vec<u32>,
    bell: Arc<Bell>,
    clock: Instant,
    scheduler: Scheduler,
    plan: Plan,
    out: Outputs,
    /// None where no folder for adapters is named: then no job names one.
    store: Option<Arc<AdapterStore>>,
    sequences_max: usize,
    /// By the low part of their numbers.
    works: Vec<Option<Work>>,
    free: Vec<usize>,
    /// Jobs so far: the high part of a number.
    serial: u64,
    answers: usize,
    replays: usize,
    totals: Totals,
    /// What is still to be carried out.
    pending: VecDeque<Output>,
    heard: Heard,
    /// Of each job of the step, in its order.
    results: Vec<Option<Outcome>>,
    outcomes: Vec<(JobId, Outcome)>,
    /// Callers that got tokens in the last step and did not ask for more yet.
    owed: usize,
    took: Duration,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    preempted: u64,
    guessed: u64,
    guessed_right: u64,
}

/// A job as it is asked for.
struct Asked {
    prompt: Vec<u32>,
    adapters: Vec<(AdapterId, f32)>,
    max_tokens: u32,
    kind: scheduler::Kind,
    payer: Address,
    tenant: [u8; 32],
    line: Arc<Line>,
    guide: Box<Guide>,
    seed: [u8; 32],
    is_traced: bool,
}

impl<B: Backend> Owner<B> {
    /// An owner of `backend` for jobs that `config` bounds in total, and `sequences_max` of each kind.
    pub(super) fn new(
        backend: B,
        eos: Vec<u32>,
        bell: Arc<Bell>,
        store: Option<Arc<AdapterStore>>,
        config: scheduler::Config,
        (sequences_max, queue_max): (usize, usize),
    ) -> Self {
        let (jobs, running, pages) = (config.jobs_max.min(JOBS_MAX), config.running_max, config.pages);
        Self {
            out: backend.outputs(),
            backend,
            eos,
            bell,
            clock: Instant::now(),
            scheduler: Scheduler::new(config),
            plan: Plan::with_room(running, pages),
            store,
            sequences_max,
            works: (0..jobs).map(|_| None).collect(),
            free: (0..jobs).rev().collect(),
            serial: 0,
            answers: 0,
            replays: 0,
            totals: Totals::default(),
            pending: VecDeque::with_capacity(running),
            heard: Heard::new(queue_max),
            results: Vec::with_capacity(running),
            outcomes: Vec::with_capacity(running),
            owed: 0,
            took: Duration::ZERO,
        }
    }

    /// Serves until every handle is gone.
    pub(super) fn run(mut self) {
        let mut is_idle = true;
        loop {
            let (patience, lines) = match self.owed {
                _ if is_idle && self.scheduler.load().0 == 0 => (Patience::Forever, 1),
                _ if is_idle => (Patience::For(TICK), 1),
                0 => (Patience::No, 0),
                owed => (self.gather(), owed),
            };
            if !self.hear(patience, lines) {
                return;
            }
            // The first of several callers is here: the others are on their way.
            if is_idle && self.owed > 0 && !self.hear(self.gather(), self.owed) {
                return;
            }
            is_idle = !self.step();
        }
    }

    fn gather(&self) -> Patience {
        Patience::For((self.took / GATHER_PART).min(GATHER_MAX))
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Takes in what callers say; false once there are none.
    fn hear(&mut self, patience: Patience, lines: usize) -> bool {
        let mut heard = std::mem::replace(&mut self.heard, Heard { commands: VecDeque::new(), lines: Vec::new() });
        let goes_on = self.bell.hear(patience, lines, &mut heard);
        // Lines first: who hung up before somebody asked has made room.
        for line in heard.lines.drain(..) {
            line.unmark();
            self.look(&line);
        }
        self.take_notices();
        for command in heard.commands.drain(..) {
            self.accept(command);
        }
        self.heard = heard;
        goes_on
    }

    /// A line rang: its caller allows more, or hung up.
    fn look(&mut self, line: &Line) {
        let Some(job) = line.job() else { return };
        if line.is_cancelled() {
            self.handle(Input::Cancel(job));
        } else if let tokens @ 1.. = line.take_credit() {
            if let Some(Work { kind: Kind::Answer { credit, .. }, .. }) = self.work(job) {
                *credit = credit.saturating_add(tokens);
            }
            self.owed = self.owed.saturating_sub(1);
            self.handle(Input::Credit { job, tokens });
        }
        self.carry_out();
    }

    fn accept(&mut self, command: Command) {
        // A reply that nobody waits for is dropped: who went away has hung up as well.
        match command {
            Command::Begin { start, guide, line, reply } => {
                let _ = reply.send(self.begin(*start, guide, line));
            }
            Command::Replay { claim, rule, guide, is_traced, line, reply } => {
                let begun = self.begin_replay(*claim, rule, guide, is_traced, line);
                self.await_replay(begun, reply);
            }
            Command::Stats { reply } => {
                let _ = reply.send(self.stats());
            }
        }
        self.carry_out();
    }

    fn begin(&mut self, start: Start, guide: Box<Guide>, line: Arc<Line>) -> Result<(), EngineError> {
        let Start { mut prompt, continued, adapters, options: _, seed, max_tokens, payer, tenant, digests, fingerprints: _ } = start;
        if prompt.is_empty() {
            return Err(EngineError::Invalid("the prompt is empty: give at least one token"));
        }
        self.admit("generations", self.answers)?;
        let index = u32::try_from(continued.len()).unwrap_or(u32::MAX);
        prompt.extend(continued);
        let (max_tokens, kind) = (max_tokens.saturating_sub(index), scheduler::Kind::Answer);
        let asked = Asked { prompt, adapters, max_tokens, kind, payer, tenant, line, guide, seed, is_traced: digests };
        self.submit(asked, Kind::Answer { index, credit: 0 })?;
        self.answers += 1;
        Ok(())
    }

    fn await_replay(&mut self, begun: Result<JobId, EngineError>, reply: oneshot::Sender<Result<Checked, EngineError>>) {
        match begun {
            Ok(job) => {
                let work = self.work(job).expect("accepted just now");
                if let Kind::Replay { reply: place, .. } = &mut work.kind {
                    *place = Some(reply);
                }
                if work.is_replayed() {
                    // Nothing was claimed.
                    self.handle(Input::Cancel(job));
                }
            }
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    fn begin_replay(
        &mut self,
        mut claim: Claim,
        rule: Rule,
        guide: Box<Guide>,
        is_traced: bool,
        line: Arc<Line>,
    ) -> Result<JobId, EngineError> {
        if claim.prompt.is_empty() {
            return Err(EngineError::Invalid("the prompt is empty: give at least one token"));
        }
        self.admit("replays", self.replays)?;
        let vocabulary = self.backend.info().config.vocabulary;
        let after = self.end_at_stop(&mut claim, &guide);
        let prompt = claim.sequence(|token| is_below(token, vocabulary) && !self.eos.contains(&token));
        let Claim { prompt: given, continued, tokens, adapters, options: _, seed, finish } = claim;
        let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let (from, index) = (number(given.len() + continued.len()), number(continued.len()));
        let (kind, (tenant, payer)) = (scheduler::Kind::Replay { from }, CHECKER);
        let asked = Asked { prompt, adapters, max_tokens: 0, kind, payer, tenant, line, guide, seed, is_traced };
        let job = self.submit(asked, Kind::Replay { progress: Progress::new(rule, tokens, finish, after), from, index, reply: None })?;
        self.replays += 1;
        Ok(job)
    }

    /// Leaves of a claim what there is up to the token that a stop string ends with, which ends the answer, and says what was claimed after it.
    fn end_at_stop(&self, claim: &mut Claim, guide: &Guide) -> Option<Mismatch> {
        let cut = guide.cut(&claim.tokens)?;
        let position = u32::try_from(claim.continued.len() + cut).unwrap_or(u32::MAX);
        let after = claim.tokens.get(cut).map(|&got| {
            let expected = self.eos.first().copied().unwrap_or(u32::MAX);
            Mismatch { position, expected, got, margin: f32::INFINITY }
        });
        claim.tokens.truncate(cut);
        claim.finish = None;
        after
    }

    fn admit(&self, what: &'static str, running: usize) -> Result<(), EngineError> {
        let max = self.sequences_max;
        if running < max { Ok(()) } else { Err(EngineError::Busy { what, running, max, retry_after: self.scheduler.retry_after() }) }
    }

    /// Hands a job to the scheduler, once it is sure that no step can stumble over it.
    fn submit(&mut self, asked: Asked, kind: Kind) -> Result<JobId, EngineError> {
        if asked.line.is_cancelled() {
            return Err(EngineError::Ended);
        }
        let info = self.backend.info();
        let vocabulary = info.config.vocabulary;
        if let Some(&token) = asked.prompt.iter().find(|token| !is_below(**token, vocabulary)) {
            return Err(ModelError::UnknownToken { token, vocabulary }.into());
        }
        if asked.adapters.iter().any(|(_, scale)| !scale.is_finite()) {
            return Err(EngineError::Invalid("an adapter's scale is not a finite number"));
        }
        let space = Space::new(&asked.tenant, &info.hash, self.backend.profile().code(), &asked.adapters);
        self.look_for(&asked.adapters)?;
        let Some(&place) = self.free.last() else {
            let max = self.works.len();
            return Err(EngineError::Busy { what: "jobs", running: max, max, retry_after: self.scheduler.retry_after() });
        };
        let Asked { prompt, adapters, max_tokens, kind: wanted, payer, line, guide, seed, is_traced, .. } = asked;
        let id = JobId((self.serial + 1) * JOBS_MAX as u64 + place as u64);
        self.handle(Input::Submit(Job { id, payer, space, adapters, prompt: prompt.into(), max_tokens, kind: wanted, deadline: None }));
        let refused = self.pending.iter().position(|output| matches!(output, Output::Refused { job, .. } if *job == id));
        if let Some(Output::Refused { why, .. }) = refused.and_then(|at| self.pending.remove(at)) {
            return Err(why.into());
        }
        self.serial += 1;
        self.free.pop();
        line.accepted(id);
        let trace = is_traced.then(Trace::default);
        self.works[place] = Some(Work { job: id, line, guide, seed, told: Vec::new(), trace, kind, trouble: None });
        Ok(id)
    }

    fn handle(&mut self, input: Input<'_>) {
        let now = self.now();
        self.pending.extend(self.scheduler.handle(now, input));
    }

    /// Carries out what the scheduler asks for, in order.
    fn carry_out(&mut self) {
        while let Some(output) = self.pending.pop_front() {
            match output {
                Output::Adapter(action) => self.act(action),
                Output::Ended { job, how } => self.ended(job, how),
                Output::Preempted(_) => self.totals.preempted += 1,
                Output::Refused { .. } => unreachable!("taken out where the job was submitted"),
            }
        }
    }

    fn ended(&mut self, job: JobId, how: Ended) {
        let Some(mut work) = self.works[place(job)].take_if(|work| work.job == job) else { return };
        self.free.push(place(job));
        match work.kind {
            Kind::Answer { .. } => self.answers -= 1,
            Kind::Replay { .. } => self.replays -= 1,
        }
        let result = match how {
            Ended::Finished(finish) => Ok(finish),
            // What a replay found is its result.
            Ended::Replayed | Ended::Cancelled | Ended::Deadline => Err(EngineError::Ended),
            Ended::Failed => Err(work.trouble.take().unwrap_or(EngineError::Ended)),
            Ended::Adapter(id) => Err(self.lost(id)),
        };
        let at = self.plan.jobs.iter().position(|planned| planned.job == job);
        let results = self.results_of_step();
        work.end(result, |trace| match at {
            Some(at) => trace.finish(results.page_digest(at)),
            None => trace.finish(|_, _| unreachable!("an answer without a row has no page")),
        });
    }

    fn results_of_step(&self) -> Results<'_, B> {
        let vocabulary = self.backend.info().config.vocabulary;
        Results { backend: &self.backend, step: self.plan.step(), out: &self.out, eos: &self.eos, vocabulary }
    }

    fn work(&mut self, job: JobId) -> Option<&mut Work> {
        self.works.get_mut(place(job))?.as_mut().filter(|work| work.job == job)
    }

    /// Plans and computes a step; false if there was nothing to do.
    fn step(&mut self) -> bool {
        let now = self.now();
        self.scheduler.plan(now, &mut self.plan);
        self.pending.extend(self.plan.outputs.drain(..));
        let is_busy = !self.pending.is_empty();
        self.carry_out();
        if self.plan.is_empty() {
            // What was carried out may let a job run.
            return is_busy;
        }
        let begun = Instant::now();
        match self.backend.forward(&self.plan.step(), &mut self.out) {
            Ok(()) => {
                self.count();
                self.choose();
            }
            Err(error) => self.refuse(error),
        }
        self.took = begun.elapsed();
        self.conclude();
        let (now, took) = (self.now(), self.took);
        self.pending.extend(self.scheduler.handle(now, Input::Stepped { took, outcomes: &self.outcomes }));
        self.carry_out();
        self.owed = self.owed();
        true
    }

    /// Counts the rows that the device computed, guesses left out: before a caller hears of a token of theirs.
    fn count(&mut self) {
        for at in 0..self.plan.jobs.len() {
            let planned = self.plan.jobs[at];
            let given = planned.rows.saturating_sub(u32::try_from(planned.guesses().len()).unwrap_or(u32::MAX));
            if let Some(work) = self.work(planned.job) {
                work.line.count(given);
            }
        }
    }

    /// Works out all jobs of the step, side by side.
    fn choose(&mut self) {
        let Self { backend, plan, out, eos, works, results, .. } = self;
        let jobs = plan.jobs.as_slice();
        results.clear();
        results.resize(jobs.len(), None);
        let vocabulary = backend.info().config.vocabulary;
        let of_step = Results { backend: &*backend, step: plan.step(), out, eos, vocabulary };
        let (works, places) = (Parts::new(works, 1), Parts::new(results, 1));
        backend.spread(jobs.len(), &|at| {
            if let [Some(work)] = works.take(place(jobs[at].job)) {
                places.take(at)[0] = work.take(at, &jobs[at], &of_step);
            }
        });
    }

    /// A step that the device does not take is a mistake of this engine: its jobs end, others go on.
    fn refuse(&mut self, error: StepError) {
        tracing::error!(%error, jobs = self.plan.jobs.len(), "a step was refused");
        self.results.clear();
        self.results.resize(self.plan.jobs.len(), Some(Outcome::Failed));
        for at in 0..self.plan.jobs.len() {
            if let Some(work) = self.work(self.plan.jobs[at].job) {
                work.trouble = Some(error.into());
            }
        }
    }

    /// Gathers the outcomes, and counts.
    fn conclude(&mut self) {
        self.outcomes.clear();
        for at in 0..self.plan.jobs.len() {
            let planned = self.plan.jobs[at];
            let outcome = self.results[at];
            self.outcomes.extend(outcome.map(|outcome| (planned.job, outcome)));
            if let Some(Outcome::Chosen { tokens, count, .. }) = &outcome {
                let right = accepted(planned.guesses(), &tokens[..*count]);
                self.totals.guessed += planned.guesses().len() as u64;
                self.totals.guessed_right += right as u64;
            }
            if self.work(planned.job).is_some_and(|work| work.is_replayed()) {
                // A mismatch ends it before its last row.
                self.handle(Input::Cancel(planned.job));
            }
        }
    }

    /// Callers whose answers go on as soon as they ask for more.
    fn owed(&self) -> usize {
        let is_owed = |job: JobId| self.works[place(job)].as_ref().is_some_and(|work| work.job == job && work.is_waited_for());
        self.outcomes.iter().filter(|(job, _)| is_owed(*job)).count()
    }

    fn stats(&self) -> Stats {
        let (accepted, running) = self.scheduler.load();
        let (pages_available, pages) = self.scheduler.pages_available();
        let (device, memory, _) = self.scheduler.adapters_used();
        let Totals { preempted, guessed, guessed_right } = self.totals;
        Stats {
            counters: self.backend.counters(),
            generations: self.answers,
            replays: self.replays,
            running,
            waiting: accepted - running,
            pages,
            pages_available,
            adapters: self.store.as_ref().map_or(0, |store| store.count()),
            adapter_bytes: (device, memory),
            preempted,
            guessed,
            guessed_right,
        }
    }
}

impl<B: Backend> Drop for Owner<B> {
    fn drop(&mut self) {
        // Whoever still waits hears that nothing follows, also after a panic of this thread.
        drop(self.bell.close());
        for work in self.works.iter_mut().filter_map(Option::take) {
            work.end(Err(EngineError::Stopped), |trace| trace.finish(|_, _| [0; 32]));
        }
    }
}

/// Where a job stands among the works.
fn place(job: JobId) -> usize {
    usize::try_from(job.0 % JOBS_MAX as u64).expect("below JOBS_MAX")
}

fn is_below(token: u32, vocabulary: usize) -> bool {
    usize::try_from(token).is_ok_and(|token| token < vocabulary)
}

impl From<Refusal> for EngineError {
    fn from(why: Refusal) -> Self {
        match why {
            Refusal::Overload(overload) => {
                Self::Busy { what: overload.what.name(), running: overload.running, max: overload.max, retry_after: overload.retry_after }
            }
            Refusal::TooLong { prompt, max } => Self::ContextExceeded { prompt, max },
            Refusal::Invalid(why) => Self::Invalid(why),
        }
    }
}
