//! What the engine computes next: which jobs run, which rows make the next step, and what every job ends with.
//!
//! Flow: [`Input::Submit`] is refused at once or accepted; an accepted job ends exactly once ([`Output::Ended`]). It waits until it
//! has credit, its adapters and pages, then runs: every step takes rows of running jobs, as many as the measured [`Pace`] allows, a
//! prompt in parts between other jobs' tokens. [`Scheduler::plan`] makes a step, the shell computes it and chooses tokens, and
//! [`Input::Stepped`] brings them back; tokens, pages and names of pages are counted here, keys and values nowhere.
//!
//! Who goes first. Rows: deficit round robin over payers ([`Fair`]); among a payer's jobs those whose adapters are in the step
//! already, then tokens before prompts, then the longest unserved. Places: the payer with the fewest running jobs, its oldest job.
//! Before all of these, by age: a job without a row for [`Config::age_max`], and one that has waited [`Config::wait_max`]. The oldest of the first
//! always gets a row; an oldest of the second that lacks room lets no other job in.
//!
//! When pages run out, a job gives all of its own up: one that has had no credit for long, else the youngest of the payer that holds most. It
//! waits again and computes the same bits later, from the pages that are still kept.
//!
//! Costs per step: proportional to running jobs and rows; waiting jobs are looked at only when room or a need has changed.

mod job;
mod pace;
mod places;
mod plan;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use types::id::Address;
use types::time::Time;

use crate::Finish;
use crate::step::PAGE_TOKENS;

use super::fair::Fair;
use super::lookup::GUESSES_MAX;
use super::pages::{Pages, Space};
use super::residency::{Action, AdapterId, Budget, Event, Residency};

use job::{Accepted, Run, Waiting};
pub use pace::{Pace, RETRY_MAX, RETRY_MIN, STEP_AIM};
pub use plan::{Plan, Planned};

/// Adapters of one job at most.
pub const ADAPTERS_OF_JOB_MAX: usize = 4;
/// How long a job waits for an adapter that is on its way: 300 MB, the largest of a 135 M model, at 5 MB/s.
pub const ADAPTER_WAIT_MAX: Duration = Duration::from_secs(60);
/// Tokens chosen for a job in one step at most: behind each guess, and one more.
pub const CHOSEN_MAX: usize = GUESSES_MAX + 1;

/// A job's number; its submitter never uses one twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// What is wanted of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Tokens that follow the prompt, as far as there is credit.
    Answer,
    /// The logits before each token of the prompt from this one on, and after the last; nothing is chosen and no credit is needed.
    Replay {
        /// Number of the first token to judge, from 1 on.
        from: u32,
    },
}

/// What to compute.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// Who pays: rows and places are shared out by payer.
    pub payer: Address,
    /// Within which its pages are shared.
    pub space: Space,
    /// Adapters in the order of their application, with scales.
    pub adapters: Vec<(AdapterId, f32)>,
    /// Tokens that are given.
    pub prompt: Arc<[u32]>,
    /// Most tokens to choose; fewer if the context ends before.
    pub max_tokens: u32,
    /// What is wanted.
    pub kind: Kind,
    /// When it ends if it has not.
    pub deadline: Option<Time>,
}

/// What came of a job's rows in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Tokens chosen, in order: after the last given token, and behind each guess as long as the guess was right.
    Chosen {
        /// The tokens.
        tokens: [u32; CHOSEN_MAX],
        /// How many.
        count: usize,
        /// Set if the answer is complete with these.
        finish: Option<Finish>,
    },
    /// The rows have no result (a number was not finite): the job ends, the others do not.
    Failed,
}

/// What happens to a scheduler.
#[derive(Debug)]
pub enum Input<'a> {
    /// A new job.
    Submit(Job),
    /// A job may choose so many more tokens. New jobs may choose none.
    Credit {
        /// Which.
        job: JobId,
        /// How many more.
        tokens: u32,
    },
    /// A job is not wanted any more.
    Cancel(JobId),
    /// Something happened to an adapter.
    Adapter {
        /// Which.
        id: AdapterId,
        /// What.
        event: Event,
    },
    /// The planned step was computed. Every job of the plan with rows whose logits were wanted to choose from has its outcome here; others only if they failed.
    Stepped {
        /// How long it took.
        took: Duration,
        /// Outcomes, in any order.
        outcomes: &'a [(JobId, Outcome)],
    },
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// An adapter is to be moved.
    Adapter(Action),
    /// A job was not accepted.
    Refused {
        /// Which.
        job: JobId,
        /// Why.
        why: Refusal,
    },
    /// An accepted job is over.
    Ended {
        /// Which.
        job: JobId,
        /// How.
        how: Ended,
    },
    /// A running job gave up its pages and waits again.
    Preempted(JobId),
}

/// Why a job was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not now.
    #[error(transparent)]
    Overload(#[from] Overload),
    /// Never: prompt and answer need more than there is.
    #[error("the prompt has {prompt} tokens, at most {max} are possible with at least one to answer")]
    TooLong {
        /// Tokens given.
        prompt: usize,
        /// What context and pages allow.
        max: usize,
    },
    /// Never: the request makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
}

/// What there is too much of, and when to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("busy: {running} of {max} {what}; try again in {} ms", .retry_after.as_millis())]
pub struct Overload {
    /// What is exhausted.
    pub what: Limit,
    /// How many there are.
    pub running: usize,
    /// How many there may be.
    pub max: usize,
    /// When there is room at the present pace.
    pub retry_after: Duration,
}

/// A bound of the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Accepted jobs.
    Jobs,
    /// Accepted jobs of one payer.
    JobsOfPayer,
    /// Tokens of accepted prompts.
    PromptTokens,
    /// Adapters known, or this one failed a moment ago.
    Adapters,
}

impl Limit {
    /// What is counted, in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::JobsOfPayer => "jobs of this payer",
            Self::PromptTokens => "tokens of prompts",
            Self::Adapters => "adapters",
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How an accepted job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The answer is complete.
    Finished(Finish),
    /// Every row of a replay was computed.
    Replayed,
    /// As asked.
    Cancelled,
    /// Its time was over.
    Deadline,
    /// Its rows have no result.
    Failed,
    /// This adapter does not come, not in time, or does not fit.
    Adapter(AdapterId),
}

/// Bounds and waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Pages of the device.
    pub pages: u32,
    /// Tokens of a sequence.
    pub context: u32,
    /// Jobs that run at a time: each has a row in a step of tokens.
    pub running_max: usize,
    /// Accepted jobs, running or waiting.
    pub jobs_max: usize,
    /// The same of one payer.
    pub payer_jobs_max: usize,
    /// Tokens of their prompts together.
    pub prompt_tokens_max: usize,
    /// Rows of a payer's turn within a step.
    pub quantum: u32,
    /// Bytes of the distinct adapters of a step. One job's adapters may be more, then it is alone.
    pub step_adapter_bytes: u64,
    /// After so long without a row, a job goes before all that had one later.
    pub age_max: Duration,
    /// After so long waiting, a job goes before all that wait less, and others make room for it.
    pub wait_max: Duration,
    /// After so long waiting, and not before [`Config::wait_max`], a job ends whose adapter is still on its way.
    pub adapter_wait_max: Duration,
    /// A job without credit for so long is the first to give up its pages.
    pub stall_max: Duration,
    /// Whether to guess tokens where rows are left.
    pub guesses: bool,
    /// Where adapters may be.
    pub adapters: Budget,
}

impl Config {
    /// Defaults for a device with so many pages and a model of this context: 64 running jobs (a step of tokens on `SmolLM2` takes 40 ms beyond); 1,024 accepted and 64
    /// of a payer, 4 million tokens of prompts (16 MB); turns of 16 rows; adapters of a step as heavy as the base; half a second without a token is
    /// felt, two seconds of waiting too.
    #[must_use]
    pub fn new(pages: u32, context: u32) -> Self {
        Self {
            pages,
            context,
            running_max: 64,
            jobs_max: 1_024,
            payer_jobs_max: 64,
            prompt_tokens_max: 4_000_000,
            quantum: 16,
            step_adapter_bytes: 160_000_000,
            age_max: Duration::from_millis(500),
            wait_max: Duration::from_secs(2),
            adapter_wait_max: ADAPTER_WAIT_MAX,
            stall_max: Duration::from_secs(2),
            guesses: true,
            adapters: Budget::default(),
        }
    }
}

/// The state. Time given to it never goes back.
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    pages: Pages,
    residency: Residency,
    pace: Pace,
    fair: Fair,
    /// Every accepted job, in the order of its number.
    jobs: BTreeMap<JobId, Accepted>,
    runs: BTreeMap<JobId, Run>,
    waiting: Waiting,
    payers: BTreeMap<Address, usize>,
    deadlines: BTreeSet<(Time, JobId)>,
    prompt_tokens: usize,
    /// Jobs accepted so far: the next one's age among jobs.
    accepted: u64,
    /// The step under way.
    planned: Vec<Planned>,
    /// Jobs of the step under way that end with it.
    cancelled: BTreeSet<JobId>,
    /// Whether a waiting job may find what it did not find before.
    has_news: bool,
    outputs: VecDeque<Output>,
    scratch: plan::Scratch,
}

impl Scheduler {
    /// Nothing to do yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            pages: Pages::new(config.pages),
            residency: Residency::new(config.adapters.clone()),
            pace: Pace::default(),
            fair: Fair::new(config.quantum),
            jobs: BTreeMap::new(),
            runs: BTreeMap::new(),
            waiting: Waiting::default(),
            payers: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            prompt_tokens: 0,
            accepted: 0,
            planned: Vec::with_capacity(config.running_max),
            cancelled: BTreeSet::new(),
            has_news: false,
            outputs: VecDeque::new(),
            scratch: plan::Scratch::with_room(config.running_max),
            config,
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Time, input: Input<'_>) -> impl Iterator<Item = Output> + '_ {
        match input {
            Input::Submit(job) => self.submit(job, now),
            Input::Credit { job, tokens } => self.credit(job, tokens, now),
            Input::Cancel(job) => self.end_soon(job, Ended::Cancelled),
            Input::Adapter { id, event } => self.adapter(id, event, now),
            Input::Stepped { took, outcomes } => self.stepped(took, outcomes, now),
        }
        self.pass_actions();
        self.outputs.drain(..)
    }

    /// Accepted jobs, and how many of them run.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        (self.jobs.len(), self.runs.len())
    }

    /// Pages that could be taken now, of how many.
    #[must_use]
    pub fn pages_available(&self) -> (usize, usize) {
        (self.pages.available(), self.pages.count())
    }

    /// Bytes of adapters on the device, in memory and on disk.
    #[must_use]
    pub fn adapters_used(&self) -> (u64, u64, u64) {
        self.residency.used()
    }

    fn submit(&mut self, job: Job, now: Time) {
        let id = job.id;
        match self.admissible(&job, now) {
            Err(why) => self.outputs.push_back(Output::Refused { job: id, why }),
            Ok(()) => self.accept(job, now),
        }
    }

    fn admissible(&mut self, job: &Job, now: Time) -> Result<(), Refusal> {
        let prompt = job.prompt.len();
        if self.jobs.contains_key(&job.id) {
            return Err(Refusal::Invalid("a job with this number is not over yet"));
        }
        if prompt == 0 {
            return Err(Refusal::Invalid("the prompt is empty: give at least one token"));
        }
        if job.adapters.len() > ADAPTERS_OF_JOB_MAX {
            return Err(Refusal::Invalid("more adapters than a job may have"));
        }
        if matches!(job.kind, Kind::Replay { from } if from == 0 || usize::try_from(from).is_ok_and(|from| from > prompt)) {
            return Err(Refusal::Invalid("a replay judges tokens from the second on, within the prompt or just after it"));
        }
        let max = self.sequence_max();
        let answer = usize::from(job.kind == Kind::Answer);
        if prompt + answer > max {
            return Err(Refusal::TooLong { prompt, max });
        }
        let overload = |scheduler: &Self, what, running, max| Overload { what, running, max, retry_after: scheduler.retry_after() };
        if self.jobs.len() >= self.config.jobs_max {
            return Err(overload(self, Limit::Jobs, self.jobs.len(), self.config.jobs_max).into());
        }
        let own = self.payers.get(&job.payer).copied().unwrap_or(0);
        if own >= self.config.payer_jobs_max {
            return Err(overload(self, Limit::JobsOfPayer, own, self.config.payer_jobs_max).into());
        }
        if self.prompt_tokens + prompt > self.config.prompt_tokens_max {
            return Err(overload(self, Limit::PromptTokens, self.prompt_tokens, self.config.prompt_tokens_max).into());
        }
        for (id, _) in &job.adapters {
            if let Some(retry_after) = self.residency.wait(*id, now) {
                return Err(Overload { what: Limit::Adapters, running: 1, max: 1, retry_after }.into());
            }
            if !self.residency.want(*id, now) {
                let max = super::residency::KNOWN_MAX;
                return Err(overload(self, Limit::Adapters, max, max).into());
            }
        }
        Ok(())
    }

    /// Tokens a sequence may have here.
    fn sequence_max(&self) -> usize {
        let pages = u64::from(self.config.pages) * u64::from(PAGE_TOKENS);
        usize::try_from(pages.min(u64::from(self.config.context))).unwrap_or(usize::MAX)
    }

    /// When a place is free: a job's share of all rows that are still to be computed, answers at their longest.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        let rows: usize = self.jobs.values().map(Accepted::rows_left).sum();
        self.pace.wait(u64::try_from(rows).unwrap_or(u64::MAX), self.jobs.len())
    }

    fn accept(&mut self, job: Job, now: Time) {
        self.accepted += 1;
        *self.payers.entry(job.payer).or_default() += 1;
        self.prompt_tokens += job.prompt.len();
        self.residency.join(&job.adapters);
        if let Some(deadline) = job.deadline {
            self.deadlines.insert((deadline, job.id));
        }
        let id = job.id;
        let accepted = Accepted::new(job, self.accepted, self.sequence_max());
        self.jobs.insert(id, accepted);
        self.wait(id, now);
    }

    /// Puts a job that does not run among the waiting ones, if it could run.
    fn wait(&mut self, id: JobId, now: Time) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.may_run() {
            job.since = now;
            self.waiting.insert(job.job.payer, (now, job.age, id));
            self.has_news = true;
        }
    }

    fn credit(&mut self, id: JobId, tokens: u32, now: Time) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let had = job.may_run();
        job.credit = job.credit.saturating_add(tokens);
        if had || !job.may_run() {
            return;
        }
        match self.runs.get_mut(&id) {
            Some(run) => (run.served, run.stalled) = (now, None),
            None => self.wait(id, now),
        }
    }

    /// Ends a job now, or with the step it is in.
    fn end_soon(&mut self, id: JobId, how: Ended) {
        if self.planned.iter().any(|planned| planned.job == id) {
            self.cancelled.insert(id);
        } else {
            self.end(id, how);
        }
    }

    fn end(&mut self, id: JobId, how: Ended) {
        let Some(job) = self.jobs.remove(&id) else { return };
        if let Some(mut run) = self.runs.remove(&id) {
            self.pages.release_all(&mut run.pages);
            self.residency.release(&job.job.adapters);
            self.waiting.stopped(job.job.payer);
        } else {
            self.waiting.remove(job.job.payer, (job.since, job.age, id));
        }
        self.residency.leave(&job.job.adapters);
        if let Some(deadline) = job.job.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        self.prompt_tokens -= job.job.prompt.len();
        if let Some(own) = self.payers.get_mut(&job.job.payer) {
            *own -= 1;
            if *own == 0 {
                self.payers.remove(&job.job.payer);
            }
        }
        self.has_news = true;
        self.outputs.push_back(Output::Ended { job: id, how });
    }

    fn adapter(&mut self, id: AdapterId, event: Event, now: Time) {
        self.residency.handle(id, event, now);
        self.has_news = true;
        if self.residency.wait(id, now).is_some() {
            let needs = |job: &Accepted| job.job.adapters.iter().any(|(own, _)| *own == id);
            let without: Vec<JobId> =
                self.jobs.iter().filter(|(job, own)| needs(own) && !self.runs.contains_key(job)).map(|(job, _)| *job).collect();
            without.into_iter().for_each(|job| self.end(job, Ended::Adapter(id)));
        }
    }

    fn stepped(&mut self, took: Duration, outcomes: &[(JobId, Outcome)], now: Time) {
        let planned = std::mem::take(&mut self.planned);
        self.pace.stepped(planned.iter().map(|planned| planned.rows).sum(), took);
        for planned in &planned {
            let outcome = outcomes.iter().find(|(id, _)| *id == planned.job).map(|(_, outcome)| outcome);
            if let Some(how) = self.advance(planned, outcome, now) {
                self.end(planned.job, how);
            }
        }
        // The vector keeps its room for the next step.
        self.planned = planned;
        self.planned.clear();
    }

    /// Takes in a job's part of a step; says how it ended, if it did.
    fn advance(&mut self, planned: &Planned, outcome: Option<&Outcome>, now: Time) -> Option<Ended> {
        let (job, run) = (self.jobs.get_mut(&planned.job)?, self.runs.get_mut(&planned.job)?);
        if self.cancelled.remove(&planned.job) {
            return Some(Ended::Cancelled);
        }
        run.granted = 0;
        run.served = now;
        let ended = match (job.job.kind, planned.is_chosen(), outcome) {
            (_, _, Some(Outcome::Failed)) => return Some(Ended::Failed),
            (Kind::Answer, true, Some(Outcome::Chosen { tokens, count, finish })) => {
                let Some(tokens) = tokens.get(..*count) else { return Some(Ended::Failed) };
                run.computed = job.tokens.len();
                match job.chosen(tokens, *finish, run, planned) {
                    Ok(ended) => ended,
                    Err(()) => return Some(Ended::Failed),
                }
            }
            // Nothing was chosen where something had to be.
            (Kind::Answer, true, None) => return Some(Ended::Failed),
            _ => {
                run.computed += usize::try_from(planned.rows).unwrap_or(usize::MAX);
                job.judged = job.judged.max(run.computed);
                (matches!(job.job.kind, Kind::Replay { .. }) && run.computed >= job.tokens.len()).then_some(Ended::Replayed)
            }
        };
        run.seal(&job.tokens, &mut self.pages);
        if !job.may_run() {
            run.stalled.get_or_insert(now);
        }
        ended
    }

    /// Hands on what is to be done with adapters.
    fn pass_actions(&mut self) {
        self.outputs.extend(self.residency.actions().map(Output::Adapter));
    }
}

#[cfg(test)]
mod tests;
