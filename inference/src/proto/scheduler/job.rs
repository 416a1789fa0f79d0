//! What is known of a job: accepted, running, waiting.

use std::collections::{BTreeMap, BTreeSet};

use types::id::Address;
use types::time::Time;

use crate::Finish;
use crate::proto::lookup::{Lookup, accepted};
use crate::proto::pages::{PageKey, Pages, TOKENS};
use crate::step::Page;

use super::{Ended, Job, JobId, Kind, Planned};

/// Tokens of an answer that there is room for from the start: 4 kB, so that most answers are never moved.
const ROOM: usize = 1_024;

/// A job from its acceptance to its end.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) job: Job,
    /// Its number in the order of acceptance.
    pub(super) age: u64,
    /// Since when it waits.
    pub(super) since: Time,
    /// Prompt and what was chosen so far.
    pub(super) tokens: Vec<u32>,
    /// Tokens it may still choose, by credit.
    pub(super) credit: u32,
    /// Tokens it may still choose, by its bounds.
    pub(super) left: u32,
    /// Positions of a replay whose logits were given: not again after a preemption.
    pub(super) judged: usize,
}

impl Accepted {
    pub(super) fn new(job: Job, age: u64, sequence_max: usize) -> Self {
        let room = u32::try_from(sequence_max - job.prompt.len()).unwrap_or(u32::MAX);
        let left = job.max_tokens.min(room);
        let answer = usize::try_from(left).unwrap_or(usize::MAX).min(ROOM);
        let mut tokens = Vec::with_capacity(job.prompt.len() + answer);
        tokens.extend_from_slice(&job.prompt);
        Self { job, age, since: Time(0), tokens, credit: 0, left, judged: 0 }
    }

    /// Whether there is anything it may compute. An answer of no tokens may end, for which it needs no credit.
    pub(super) fn may_run(&self) -> bool {
        self.job.kind != Kind::Answer || self.credit > 0 || self.left == 0
    }

    /// Rows it may still need, if everything must be computed again.
    pub(super) fn rows_left(&self) -> usize {
        let left = if self.job.kind == Kind::Answer { self.left } else { 0 };
        self.tokens.len() + usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// The first position whose logits are wanted.
    pub(super) fn wanted_from(&self) -> usize {
        match self.job.kind {
            Kind::Answer => self.tokens.len() - 1,
            Kind::Replay { from } => self.judged.max(usize::try_from(from).unwrap_or(usize::MAX) - 1),
        }
    }

    /// Tokens that may be guessed beside the one that is surely chosen.
    pub(super) fn guesses_max(&self) -> usize {
        usize::try_from(self.credit.min(self.left)).unwrap_or(usize::MAX).saturating_sub(1)
    }

    /// Takes in chosen tokens; all but the last were guessed, so their keys and values are there. Nothing is taken in if they cannot be.
    pub(super) fn chosen(&mut self, tokens: &[u32], finish: Option<Finish>, run: &mut Run, planned: &Planned) -> Result<Option<Ended>, ()> {
        let guesses = planned.guesses();
        let right = accepted(guesses, tokens);
        let count = u32::try_from(tokens.len()).map_err(|_| ())?;
        if count > self.left.min(self.credit) || tokens.len() > right + 1 || (count == 0 && finish.is_none()) {
            return Err(());
        }
        self.tokens.extend_from_slice(tokens);
        self.left -= count;
        self.credit -= count;
        run.computed += tokens.len().saturating_sub(1);
        if let Some(lookup) = &mut run.lookup {
            lookup.judged(guesses.len(), right, count);
        }
        Ok(match finish {
            Some(finish) => Some(Ended::Finished(finish)),
            None => (self.left == 0).then_some(Ended::Finished(Finish::Length)),
        })
    }
}

/// A job that runs.
#[derive(Debug)]
pub(super) struct Run {
    /// Its pages, in order of positions.
    pub(super) pages: Vec<Page>,
    /// Name of the last page that has one.
    pub(super) key: PageKey,
    /// Pages that have a name.
    pub(super) sealed: usize,
    /// Tokens whose keys and values are there.
    pub(super) computed: usize,
    /// Rows it has in the step that is being planned.
    pub(super) granted: u32,
    /// When it last had a row, or could have one for the first time.
    pub(super) served: Time,
    /// Since when it has no credit.
    pub(super) stalled: Option<Time>,
    /// What guesses the answer's next tokens.
    pub(super) lookup: Option<Lookup>,
    /// Where the guesses of the step that is being planned stand.
    pub(super) guesses: (usize, usize),
}

impl Run {
    /// Names the pages that are full now.
    pub(super) fn seal(&mut self, tokens: &[u32], pages: &mut Pages) {
        while (self.sealed + 1) * TOKENS <= self.computed {
            let place = &mut self.pages[self.sealed];
            let sealed = pages.seal(*place, self.key, &tokens[self.sealed * TOKENS..][..TOKENS]);
            (*place, self.key) = (sealed.page, sealed.key);
            self.sealed += 1;
        }
    }
}

/// Since when, number in the order of acceptance, job.
pub(super) type Turn = (Time, u64, JobId);

/// Jobs that wait and could run, and how many jobs of each payer run.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// By waiting time.
    queue: BTreeSet<Turn>,
    payers: BTreeMap<Address, Payer>,
    /// Payers with waiting jobs, those with the fewest running ones first.
    by_running: BTreeSet<(usize, Address)>,
}

#[derive(Debug, Default)]
struct Payer {
    running: usize,
    waiting: BTreeSet<(u64, JobId)>,
}

impl Waiting {
    pub(super) fn insert(&mut self, payer: Address, turn: Turn) {
        self.queue.insert(turn);
        let own = self.payers.entry(payer).or_default();
        own.waiting.insert((turn.1, turn.2));
        self.by_running.insert((own.running, payer));
    }

    pub(super) fn remove(&mut self, payer: Address, turn: Turn) {
        if self.queue.remove(&turn)
            && let Some(own) = self.payers.get_mut(&payer)
        {
            own.waiting.remove(&(turn.1, turn.2));
            if own.waiting.is_empty() {
                self.by_running.remove(&(own.running, payer));
            }
            self.tidy(payer);
        }
    }

    pub(super) fn started(&mut self, payer: Address) {
        self.count(payer, |running| running + 1);
    }

    pub(super) fn stopped(&mut self, payer: Address) {
        self.count(payer, |running| running.checked_sub(1).expect("it was running"));
        self.tidy(payer);
    }

    pub(super) fn running(&self, payer: Address) -> usize {
        self.payers.get(&payer).map_or(0, |own| own.running)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The longest waiting first.
    pub(super) fn by_time(&self) -> impl Iterator<Item = Turn> + '_ {
        self.queue.iter().copied()
    }

    /// Payers with the fewest running jobs first, of each the oldest job first.
    pub(super) fn by_payer(&self) -> impl Iterator<Item = JobId> + '_ {
        self.by_running.iter().filter_map(|(_, payer)| self.payers.get(payer)).flat_map(|own| own.waiting.iter().map(|(_, id)| *id))
    }

    fn count(&mut self, payer: Address, change: impl Fn(usize) -> usize) {
        let own = self.payers.entry(payer).or_default();
        let waits = self.by_running.remove(&(own.running, payer));
        own.running = change(own.running);
        if waits {
            self.by_running.insert((own.running, payer));
        }
    }

    fn tidy(&mut self, payer: Address) {
        if self.payers.get(&payer).is_some_and(|own| own.running == 0 && own.waiting.is_empty()) {
            self.payers.remove(&payer);
        }
    }
}
