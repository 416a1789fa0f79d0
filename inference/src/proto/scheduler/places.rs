//! Which waiting jobs run, and which running ones give way.

use types::id::Address;
use types::time::Time;

use crate::proto::lookup::Lookup;
use crate::proto::pages::TOKENS;
use crate::proto::residency::Tier;

use super::job::{Accepted, Run, Turn};
use super::{Ended, JobId, Kind, Output, Scheduler};

/// Waiting jobs whose adapters are fetched and loaded ahead.
const NEEDED_MAX: usize = 64;
/// Jobs looked at in one plan that turn out to lack room: a look hashes a prompt, up to 40 us.
const TRIES_MAX: usize = 16;
/// Jobs looked at in one plan whose adapters are still on their way: a look is a few searches.
const LOOKS_MAX: usize = 128;

/// What came of letting a job run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placed {
    /// It runs, or is over.
    Yes,
    /// Its adapters are on their way.
    NotReady,
    /// Something has to be released first.
    NoRoom,
}

impl Scheduler {
    /// Lets waiting jobs run.
    pub(super) fn admit(&mut self, now: Time) {
        let overdue = self.waiting.by_time().next().is_some_and(|(since, ..)| now.since(since) >= self.config.wait_max);
        if self.waiting.is_empty() || !(self.has_news || overdue) {
            return;
        }
        self.has_news = false;
        let (jobs, waiting) = (&self.jobs, &self.waiting);
        let sets = waiting.by_time().take(NEEDED_MAX).filter_map(|(_, _, id)| jobs.get(&id)).map(|job| job.job.adapters.as_slice());
        self.residency.need(sets.filter(|set| !set.is_empty()), now);
        if self.admit_overdue(now) {
            self.admit_by_payer(now);
        }
    }

    /// Lets jobs in that have waited too long, the longest first; false if one lacks room, so that no other may take what becomes free.
    fn admit_overdue(&mut self, now: Time) -> bool {
        let mut looked = None;
        for _ in 0..LOOKS_MAX {
            let next: Option<Turn> = match looked {
                None => self.waiting.by_time().next(),
                Some(last) => self.waiting.by_time().find(|turn| *turn > last),
            };
            let Some(turn) = next.filter(|(since, ..)| now.since(*since) >= self.config.wait_max) else { return true };
            looked = Some(turn);
            let id = turn.2;
            let mut placed = self.place(id, now);
            while placed == Placed::NoRoom && self.give_way_to(id, now) {
                placed = self.place(id, now);
            }
            if placed == Placed::NoRoom {
                if self.runs.is_empty() {
                    // Nothing will ever be released: pinned adapters take the room.
                    let adapter = self.jobs.get(&id).and_then(|job| job.job.adapters.first()).map(|(adapter, _)| *adapter);
                    if let Some(adapter) = adapter {
                        self.end(id, Ended::Adapter(adapter));
                        continue;
                    }
                }
                return false;
            }
            if placed == Placed::NotReady && now.since(turn.0) >= self.config.adapter_wait_max {
                self.end_without_adapter(id);
            }
        }
        true
    }

    /// Ends a waiting job one of whose adapters has not come in time.
    fn end_without_adapter(&mut self, id: JobId) {
        let set = self.jobs.get(&id).map_or(&[][..], |job| &job.job.adapters);
        if let Some((adapter, _)) = set.iter().copied().find(|(adapter, _)| self.residency.tier(*adapter) < Tier::Memory) {
            self.end(id, Ended::Adapter(adapter));
        }
    }

    fn admit_by_payer(&mut self, now: Time) {
        let (mut tries, mut looks) = (0, 0);
        while self.runs.len() < self.config.running_max && tries < TRIES_MAX && looks < LOOKS_MAX {
            // After each job that starts, another payer may have the fewest.
            let next: Vec<JobId> = self.waiting.by_payer().skip(looks + tries).take(1).collect();
            let Some(&id) = next.first() else { return };
            match self.place(id, now) {
                Placed::Yes => {}
                Placed::NotReady => looks += 1,
                Placed::NoRoom => tries += 1,
            }
        }
    }

    fn place(&mut self, id: JobId, now: Time) -> Placed {
        let Some(job) = self.jobs.get(&id) else { return Placed::Yes };
        let set = &job.job.adapters;
        if self.runs.len() >= self.config.running_max {
            return Placed::NoRoom;
        }
        if !self.residency.fits(set)
            && let Some((adapter, _)) = set.first().copied()
        {
            self.end(id, Ended::Adapter(adapter));
            return Placed::Yes;
        }
        if set.iter().any(|(adapter, _)| self.residency.tier(*adapter) < Tier::Memory) {
            return if self.residency.lacks_room(set, now) { Placed::NoRoom } else { Placed::NotReady };
        }
        if job.left == 0 && job.job.kind == Kind::Answer {
            self.end(id, Ended::Finished(crate::Finish::Length));
            return Placed::Yes;
        }
        let needed = (job.tokens.len() + 1).div_ceil(TOKENS).min(self.pages.count());
        let mut prefix = self.pages.prefix(&job.job.space, &job.tokens[..job.wanted_from()]);
        let has_pages = self.pages.available() >= (needed - prefix.pages.len()) + self.promised();
        if !has_pages || !self.residency.hold(set) {
            self.pages.release_all(&mut prefix.pages);
            return Placed::NoRoom;
        }
        let (computed, sealed) = (prefix.tokens(), prefix.pages.len());
        let mut held = prefix.pages;
        // Room for all it may come to hold: 4 bytes for a page of 780 kB.
        held.reserve(job.rows_left().div_ceil(TOKENS).min(self.pages.count()) - sealed);
        let lookup = (self.config.guesses && job.job.kind == Kind::Answer).then(|| Lookup::new(job.rows_left()));
        let run = Run { pages: held, key: prefix.key, sealed, computed, granted: 0, served: now, stalled: None, lookup, guesses: (0, 0) };
        let (payer, turn) = (job.job.payer, (job.since, job.age, id));
        self.runs.insert(id, run);
        self.waiting.remove(payer, turn);
        self.waiting.started(payer);
        self.fair.enter(payer);
        Placed::Yes
    }

    /// Pages that running jobs will need for what they have to compute already, and one in four of them for its next token.
    fn promised(&self) -> usize {
        let needs = |job: &Accepted, run: &Run| job.tokens.len().div_ceil(TOKENS).saturating_sub(run.pages.len());
        let promised: usize = self.runs.iter().filter_map(|(id, run)| Some(needs(self.jobs.get(id)?, run))).sum();
        promised + self.runs.len().div_ceil(4)
    }

    /// Takes a running job's room for one that has waited too long: a stalled one's, or that of a payer that has clearly more. False
    /// if nobody has.
    fn give_way_to(&mut self, id: JobId, now: Time) -> bool {
        let Some(job) = self.jobs.get(&id) else { return false };
        let payer = job.job.payer;
        if let Some(stalled) = self.longest_stalled(now) {
            self.preempt(stalled, now);
            return true;
        }
        if self.runs.len() >= self.config.running_max {
            let most =
                self.runs.keys().filter_map(|id| self.jobs.get(id)).map(|job| (self.waiting.running(job.job.payer), job.job.payer)).max();
            // One more for the waiting, one fewer for the other: only if that does not turn the inequality around.
            let Some((_, greedy)) = most.filter(|(running, _)| *running > self.waiting.running(payer) + 1) else { return false };
            return self.preempt_youngest(greedy, now);
        }
        let pages_of =
            |payer: Address| -> usize { self.runs_of(payer).filter_map(|id| self.runs.get(&id)).map(|run| run.pages.len()).sum() };
        let needed = (job.tokens.len() + 1).div_ceil(TOKENS);
        match self.greediest() {
            Some(greedy) if greedy != payer && pages_of(greedy) > pages_of(payer) + needed => self.preempt_youngest(greedy, now),
            _ => false,
        }
    }

    fn runs_of(&self, payer: Address) -> impl Iterator<Item = JobId> + '_ {
        self.runs.keys().copied().filter(move |id| self.jobs.get(id).is_some_and(|job| job.job.payer == payer))
    }

    /// The payer whose running jobs hold most pages.
    fn greediest(&self) -> Option<Address> {
        let mut pages: std::collections::BTreeMap<Address, usize> = std::collections::BTreeMap::new();
        for (id, run) in &self.runs {
            if let Some(job) = self.jobs.get(id) {
                *pages.entry(job.job.payer).or_default() += run.pages.len();
            }
        }
        pages.into_iter().max_by_key(|(payer, pages)| (*pages, *payer)).map(|(payer, _)| payer)
    }

    /// The job that has been without credit for longest, if for too long. Jobs of the step being planned are none of them.
    fn longest_stalled(&self, now: Time) -> Option<JobId> {
        let stalled = self.runs.iter().filter_map(|(id, run)| Some((run.stalled?, *id)));
        stalled.min().filter(|(since, _)| now.since(*since) >= self.config.stall_max).map(|(_, id)| id)
    }

    fn preempt_youngest(&mut self, payer: Address, now: Time) -> bool {
        let youngest = self.runs_of(payer).filter(|id| self.runs[id].granted == 0).max_by_key(|id| self.jobs[id].age);
        youngest.is_some_and(|id| {
            self.preempt(id, now);
            true
        })
    }

    /// Makes a page available for a job of the step that is being planned. False if that job itself had to give way, or all others are in
    /// the step already.
    pub(super) fn make_page(&mut self, id: JobId, now: Time) -> bool {
        while self.pages.available() == 0 {
            let holds = |other: &JobId| self.runs[other].granted == 0 && (!self.runs[other].pages.is_empty() || *other == id);
            let stalled = self.longest_stalled(now);
            let greedy = self.greediest();
            let youngest = greedy.and_then(|payer| self.runs_of(payer).filter(holds).max_by_key(|id| self.jobs[id].age));
            let any = || self.runs.keys().copied().filter(holds).max_by_key(|id| self.jobs[id].age);
            let Some(victim) = stalled.or(youngest).or_else(any) else { return false };
            self.preempt(victim, now);
            if victim == id {
                return false;
            }
        }
        true
    }

    /// Takes a job's pages and place; it waits again.
    pub(super) fn preempt(&mut self, id: JobId, now: Time) {
        let (Some(mut run), Some(job)) = (self.runs.remove(&id), self.jobs.get(&id)) else { return };
        self.pages.release_all(&mut run.pages);
        self.residency.release(&job.job.adapters);
        self.waiting.stopped(job.job.payer);
        self.outputs.push_back(Output::Preempted(id));
        self.wait(id, now);
    }
}
