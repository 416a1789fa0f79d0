//! The scheduler under random operations, beside a plain model of what every page holds and every job is owed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use types::id::Address;
use types::time::Time;

use super::*;
use crate::proto::residency::Sizes;
use crate::step::ROWS_MAX;

const MEGA: u64 = 1_000_000;

fn payer(number: u8) -> Address {
    Address([number; 20])
}

fn adapter(number: u8) -> AdapterId {
    AdapterId([number; 32])
}

/// A small world: few pages, few places, adapters of 1 to 4 MB.
fn config() -> Config {
    Config {
        running_max: 6,
        jobs_max: 20,
        payer_jobs_max: 8,
        step_adapter_bytes: 6 * MEGA,
        adapters: Budget { slots: 4, device_bytes: 9 * MEGA, memory_bytes: 12 * MEGA, disk_bytes: 60 * MEGA, file_bytes_max: 8 * MEGA },
        ..Config::new(12, 512)
    }
}

fn job(id: u64, from: u8, prompt: &[u32], max_tokens: u32) -> Job {
    Job {
        id: JobId(id),
        payer: payer(from),
        space: Space::new(&[from; 32], &[0; 32], 2, &[]),
        adapters: Vec::new(),
        prompt: prompt.into(),
        max_tokens,
        kind: Kind::Answer,
        deadline: None,
    }
}

fn with_adapters(mut job: Job, adapters: &[u8]) -> Job {
    job.adapters = (1u16..).zip(adapters).map(|(scale, number)| (adapter(*number), f32::from(scale))).collect();
    job.space = Space::new(&[job.payer.0[0]; 32], &[0; 32], 2, &job.adapters);
    job
}

fn prompt(first: u32, length: usize) -> Vec<u32> {
    (first..).take(length).collect()
}

/// What the model of these tests answers after some tokens: few words, so that guesses are often right. None ends the answer.
fn next(tokens: &[u32]) -> Option<u32> {
    let last = tokens
        .iter()
        .rev()
        .take(3)
        .fold(7u64, |hash, token| (hash ^ u64::from(*token)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31));
    (!last.is_multiple_of(37)).then(|| u32::try_from(last % 3).unwrap())
}

/// What the job's answer is when nobody else is there.
fn alone(job: &Job, context: usize) -> (Vec<u32>, Finish) {
    let mut tokens = job.prompt.to_vec();
    let end = (job.prompt.len() + usize::try_from(job.max_tokens).unwrap()).min(context);
    while tokens.len() < end {
        let Some(token) = next(&tokens) else { return (tokens, Finish::Stop) };
        tokens.push(token);
    }
    (tokens, Finish::Length)
}

fn fold(hash: u64, token: u32) -> u64 {
    (hash ^ u64::from(token)).wrapping_mul(0x0100_0000_01b3).rotate_left(7)
}

#[derive(Debug)]
struct Known {
    job: Job,
    tokens: Vec<u32>,
    credit: u32,
    judged: BTreeSet<u32>,
}

/// The shell of these tests: computes nothing, remembers everything.
struct World {
    scheduler: Scheduler,
    config: Config,
    now: Time,
    plan: Plan,
    known: BTreeMap<JobId, Known>,
    submitted: u64,
    refused: BTreeMap<JobId, Refusal>,
    ended: BTreeMap<JobId, Ended>,
    preempted: usize,
    rows: BTreeMap<JobId, u32>,
    /// What each place of each page holds: a hash of space and all tokens up to there.
    content: BTreeMap<(u32, usize), u64>,
    slots: BTreeMap<u32, AdapterId>,
    moves: Vec<Action>,
    fails: BTreeSet<AdapterId>,
    took: Duration,
}

impl World {
    fn new(config: Config) -> Self {
        Self {
            scheduler: Scheduler::new(config.clone()),
            config,
            now: Time(1_000_000),
            plan: Plan::default(),
            known: BTreeMap::new(),
            submitted: 0,
            refused: BTreeMap::new(),
            ended: BTreeMap::new(),
            preempted: 0,
            rows: BTreeMap::new(),
            content: BTreeMap::new(),
            slots: BTreeMap::new(),
            moves: Vec::new(),
            fails: BTreeSet::new(),
            took: Duration::from_millis(5),
        }
    }

    fn handle(&mut self, input: Input<'_>) {
        let outputs: Vec<Output> = self.scheduler.handle(self.now, input).collect();
        self.take_in(outputs);
    }

    fn submit(&mut self, job: Job) {
        self.submitted += 1;
        let known = Known { tokens: job.prompt.to_vec(), job: job.clone(), credit: 0, judged: BTreeSet::new() };
        self.known.insert(job.id, known);
        self.handle(Input::Submit(job));
    }

    fn credit(&mut self, id: u64, tokens: u32) {
        if let Some(known) = self.known.get_mut(&JobId(id)) {
            known.credit = known.credit.saturating_add(tokens);
        }
        self.handle(Input::Credit { job: JobId(id), tokens });
    }

    fn take_in(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Adapter(Action::Attach { id, slot }) => {
                    assert!(slot.0 < self.config.adapters.slots, "a place of the device");
                    assert_eq!(self.slots.insert(slot.0, id), None, "a place holds one adapter");
                }
                Output::Adapter(Action::Detach(slot)) => assert!(self.slots.remove(&slot.0).is_some(), "only what is there is taken off"),
                Output::Adapter(Action::Unload(_) | Action::Delete(_)) => {}
                Output::Adapter(action) => self.moves.push(action),
                Output::Refused { job, why } => {
                    assert_eq!(self.refused.insert(job, why), None);
                    self.known.remove(&job);
                }
                Output::Ended { job, how } => {
                    assert_eq!(self.ended.insert(job, how), None, "a job ends once");
                    let known = self.known.remove(&job).expect("only an accepted job ends");
                    self.check_end(&known, how);
                }
                Output::Preempted(job) => {
                    assert!(self.known.contains_key(&job));
                    self.preempted += 1;
                }
            }
        }
    }

    fn check_end(&self, known: &Known, how: Ended) {
        let context = usize::try_from(self.config.context.min(self.config.pages * PAGE_TOKENS)).unwrap();
        match how {
            Ended::Finished(finish) => assert_eq!((known.tokens.clone(), finish), alone(&known.job, context), "as if it were alone"),
            Ended::Replayed => {
                let Kind::Replay { from } = known.job.kind else { panic!("an answer is not replayed") };
                let wanted: BTreeSet<u32> = (from - 1..u32::try_from(known.job.prompt.len()).unwrap()).collect();
                assert_eq!(known.judged, wanted, "every position once");
            }
            _ => {}
        }
    }

    /// One step, if there is anything to compute; says whether there was.
    fn step(&mut self) -> bool {
        let mut plan = std::mem::take(&mut self.plan);
        self.scheduler.plan(self.now, &mut plan);
        self.take_in(std::mem::take(&mut plan.outputs));
        self.check_budgets();
        let outcomes = self.compute(&plan);
        let has_rows = !plan.is_empty();
        self.plan = plan;
        if has_rows {
            self.now = self.now.after(self.took);
            let took = self.took;
            self.handle(Input::Stepped { took, outcomes: &outcomes });
        }
        has_rows
    }

    fn check_budgets(&self) {
        let (device, memory, disk) = self.scheduler.adapters_used();
        let budget = &self.config.adapters;
        assert!(device <= budget.device_bytes && memory <= budget.memory_bytes && disk <= budget.disk_bytes, "{device} {memory} {disk}");
        let (accepted, running) = self.scheduler.load();
        assert!(accepted <= self.config.jobs_max && running <= self.config.running_max);
        assert_eq!(accepted, self.known.len(), "accepted are those that have not ended");
    }

    fn compute(&mut self, plan: &Plan) -> Vec<(JobId, Outcome)> {
        let step = plan.step();
        assert!(step.tokens.len() <= ROWS_MAX && step.positions.len() == step.tokens.len());
        self.check_segments(plan);
        let mut outcomes = Vec::new();
        let mut row = 0;
        for (span, planned) in step.spans.iter().zip(&plan.jobs) {
            assert_eq!((span.first_row, span.rows), (row, planned.rows), "spans cover the rows in order");
            assert!(planned.rows > 0);
            row += span.rows;
            *self.rows.entry(planned.job).or_default() += span.rows;
            self.check_span(plan, span, planned);
            let known = self.known.get_mut(&planned.job).expect("only accepted jobs run");
            let wanted = &step.wanted[planned.first_wanted as usize..][..planned.wanted as usize];
            let positions: Vec<u32> = wanted.iter().map(|row| step.positions[*row as usize]).collect();
            assert_eq!(positions.first().copied().unwrap_or(0), planned.position);
            if planned.is_chosen() {
                assert_eq!(positions[0] as usize, known.tokens.len() - 1);
                assert_eq!(positions.len(), planned.guesses().len() + 1);
                outcomes.push((planned.job, choose(known, planned.guesses())));
            } else {
                assert!(planned.guesses().is_empty());
                for position in positions {
                    assert!(known.judged.insert(position), "a position is judged once");
                }
            }
        }
        assert_eq!(row as usize, step.tokens.len());
        outcomes
    }

    /// What a job's rows are computed from is what the job has, and what they overwrite nobody needs.
    fn check_span(&mut self, plan: &Plan, span: &crate::step::Span, planned: &Planned) {
        let step = plan.step();
        let known = &self.known[&planned.job];
        let pages = &step.page_table[span.first_page as usize..][..span.pages as usize];
        let first = step.positions[span.first_row as usize] as usize;
        let mut sequence = known.tokens.clone();
        sequence.extend(planned.guesses());
        let mut hash = known.job.space.root().after(&[0; 64]).fold_bytes();
        for (position, token) in sequence.iter().enumerate().take(first + span.rows as usize) {
            hash = fold(hash, *token);
            let place = (pages[position / 64], position % 64);
            if position < first {
                assert_eq!(self.content.get(&place), Some(&hash), "{:?} reads position {position} of another sequence", planned.job);
            } else {
                let row = span.first_row as usize + position - first;
                assert_eq!((step.tokens[row], step.positions[row] as usize), (*token, position));
                self.content.insert(place, hash);
            }
        }
        assert_eq!(pages.len(), (first + span.rows as usize).div_ceil(64), "pages up to the last position");
        if known.job.kind == Kind::Answer {
            assert!(known.credit > 0, "nothing is computed without credit");
        }
    }

    fn check_segments(&self, plan: &Plan) {
        let step = plan.step();
        let mut applied: BTreeMap<u32, Vec<(AdapterId, f32)>> = BTreeMap::new();
        for segment in step.segments {
            assert!(segment.rows > 0);
            for row in &step.segment_rows[segment.first as usize..][..segment.rows as usize] {
                applied.entry(*row).or_default().push((self.slots[&segment.slot], segment.scale));
            }
        }
        let mut distinct = BTreeSet::new();
        for planned in &plan.jobs {
            let adapters = &self.known[&planned.job].job.adapters;
            distinct.extend(adapters.iter().map(|(id, _)| *id));
            for row in planned.first_row..planned.first_row + planned.rows {
                assert_eq!(applied.get(&row).map_or(&[][..], |list| list), adapters.as_slice(), "every row its own adapters, in order");
            }
        }
        let bytes: u64 = distinct.iter().map(|id| size(*id).memory).sum();
        let has_all = |planned: &Planned| distinct.iter().all(|id| self.known[&planned.job].job.adapters.iter().any(|(own, _)| own == id));
        assert!(
            bytes <= self.config.step_adapter_bytes || plan.jobs.iter().any(has_all),
            "{bytes} bytes of adapters, not for one job alone"
        );
    }

    /// Answers one of the moves that were asked for.
    fn deliver(&mut self, at: usize) {
        if self.moves.is_empty() {
            return;
        }
        let action = self.moves.swap_remove(at % self.moves.len());
        let (id, event) = match action {
            Action::Fetch { id, .. } | Action::Load(id) if self.fails.contains(&id) => (id, Event::Failed),
            Action::Fetch { id, .. } => (id, Event::OnDisk(size(id))),
            Action::Load(id) => (id, Event::Loaded),
            _ => return,
        };
        self.handle(Input::Adapter { id, event });
    }

    /// Lets everything end: credit for all, every move answered.
    fn drain(&mut self) {
        let mut idle = 0;
        for _ in 0..20_000 {
            while !self.moves.is_empty() {
                self.deliver(0);
            }
            for id in self.known.keys().copied().collect::<Vec<_>>() {
                self.credit(id.0, 1_000);
            }
            idle = if self.step() { 0 } else { idle + 1 };
            if self.known.is_empty() || idle > 50 {
                break;
            }
            if idle > 0 {
                self.now = self.now.after(Duration::from_millis(100));
            }
        }
        assert!(self.known.is_empty(), "these never end: {:?}", self.known);
        assert_eq!(self.scheduler.load(), (0, 0));
        let (available, count) = self.scheduler.pages_available();
        assert_eq!(available, count, "no page is lost");
        assert_eq!(self.scheduler.residency.held(), 0, "nor an adapter held for nobody");
        assert_eq!(self.ended.len() + self.refused.len(), usize::try_from(self.submitted).unwrap(), "each ended or was refused, once");
        assert!(self.scheduler.payers.is_empty() && self.scheduler.deadlines.is_empty() && self.scheduler.prompt_tokens == 0);
    }
}

trait FoldBytes {
    fn fold_bytes(&self) -> u64;
}

impl FoldBytes for crate::proto::pages::PageKey {
    /// A number for a space, from outside.
    fn fold_bytes(&self) -> u64 {
        format!("{self:?}").bytes().fold(0, |hash, byte| fold(hash, u32::from(byte)))
    }
}

fn size(id: AdapterId) -> Sizes {
    Sizes { disk: 2 * MEGA, memory: MEGA * u64::from(id.0[0] % 4 + 1) }
}

fn choose(known: &mut Known, guesses: &[u32]) -> Outcome {
    let (mut tokens, mut count, mut finish) = ([0; CHOSEN_MAX], 0, None);
    for at in 0..=guesses.len() {
        match next(&known.tokens) {
            None => {
                finish = Some(Finish::Stop);
                break;
            }
            Some(token) => {
                known.tokens.push(token);
                known.credit -= 1;
                (tokens[count], count) = (token, count + 1);
                if guesses.get(at) != Some(&token) {
                    break;
                }
            }
        }
    }
    Outcome::Chosen { tokens, count, finish }
}

#[test]
fn a_lone_answer_takes_its_prompt_in_parts_and_ends_at_its_length() {
    let mut world = World::new(config());
    let job = job(1, 1, &prompt(0, 200), 20);
    let (tokens, _) = alone(&job, 512);
    world.submit(job);
    assert!(!world.step(), "nothing before there is credit");
    world.credit(1, 100);
    world.step();
    assert!(world.plan.jobs[0].wanted == 0 && world.plan.jobs[0].rows == 32, "{:?}", world.plan.jobs);
    world.drain();
    assert!(tokens.len() > 200 && matches!(world.ended[&JobId(1)], Ended::Finished(_)));
}

#[test]
fn the_second_asker_of_a_prompt_computes_only_its_end_and_a_stranger_all_of_it() {
    let mut world = World::new(config());
    for (id, tenant) in [(1, 1), (2, 1), (3, 2)] {
        world.submit(job(id, tenant, &prompt(0, 200), 1));
        world.credit(id, 1);
        while world.step() {}
    }
    let rows: Vec<u32> = [1, 2, 3].iter().map(|id| world.rows[&JobId(*id)]).collect();
    assert_eq!(rows, [200, 200 - 192, 200]);
    world.drain();
}

#[test]
fn an_answer_without_credit_waits_and_goes_on_where_it_was() {
    let mut world = World::new(Config { guesses: false, ..config() });
    world.submit(endless(1, 1, 10, 5));
    for _ in 0..4 {
        world.credit(1, 1);
        world.step();
        assert!(!world.step(), "a credit is a token");
    }
    assert_eq!(world.rows[&JobId(1)], 10 + 3);
    world.drain();
}

#[test]
fn guesses_save_steps_and_change_nothing() {
    let count = |guesses| {
        let mut world = World::new(Config { guesses, ..config() });
        // A prompt the model goes on with in a circle.
        let start = (0..60).find(|start| alone(&job(1, 1, &[*start], 200), 512).0.len() > 200).expect("a long answer");
        world.submit(job(1, 1, &[start], 200));
        world.credit(1, 1_000);
        let mut steps = 0;
        while world.step() {
            steps += 1;
        }
        world.drain();
        steps
    };
    let (with, without) = (count(true), count(false));
    assert!(without == 200 && with < 100, "{with} and {without} steps");
}

#[test]
fn a_cancelled_job_gives_its_pages_back_at_once_and_in_a_step_with_its_end() {
    let mut world = World::new(config());
    for id in [1, 2] {
        world.submit(job(id, 1, &prompt(0, 60), 50));
        world.credit(id, 1);
    }
    world.step();
    world.handle(Input::Cancel(JobId(1)));
    assert_eq!(world.ended[&JobId(1)], Ended::Cancelled);
    world.credit(2, 1);
    let mut plan = Plan::default();
    world.scheduler.plan(world.now, &mut plan);
    assert!(plan.jobs.iter().any(|planned| planned.job == JobId(2)));
    world.handle(Input::Cancel(JobId(2)));
    assert!(!world.ended.contains_key(&JobId(2)), "its pages are being written");
    let empty = std::mem::take(&mut plan);
    world.scheduler.plan(world.now, &mut plan);
    assert!(plan.is_empty(), "one step at a time");
    let outcomes = world.compute(&empty);
    world.handle(Input::Stepped { took: Duration::from_millis(1), outcomes: &outcomes });
    assert_eq!(world.ended[&JobId(2)], Ended::Cancelled);
    world.drain();
}

#[test]
fn a_failed_row_ends_its_job_only_and_a_missing_choice_too() {
    let mut world = World::new(config());
    for id in [1, 2, 3] {
        world.submit(job(id, 1, &prompt(100 * u32::try_from(id).unwrap(), 5), 3));
        world.credit(id, 3);
    }
    let mut plan = Plan::default();
    world.scheduler.plan(world.now, &mut plan);
    let mut outcomes = world.compute(&plan);
    outcomes.retain(|(id, _)| *id != JobId(3));
    outcomes[0].1 = Outcome::Failed;
    let failed = outcomes[0].0;
    world.handle(Input::Stepped { took: Duration::from_millis(1), outcomes: &outcomes });
    assert_eq!((world.ended.get(&failed), world.ended.get(&JobId(3)), world.ended.len()), (Some(&Ended::Failed), Some(&Ended::Failed), 2));
    world.drain();
}

#[test]
fn tokens_that_were_not_guessed_are_not_taken() {
    let mut world = World::new(config());
    world.submit(job(1, 1, &[1, 2, 3, 4], 9));
    world.credit(1, 9);
    let mut plan = Plan::default();
    world.scheduler.plan(world.now, &mut plan);
    assert!(plan.jobs[0].guesses().is_empty());
    let outcome = Outcome::Chosen { tokens: [5; CHOSEN_MAX], count: 2, finish: None };
    world.handle(Input::Stepped { took: Duration::from_millis(1), outcomes: &[(JobId(1), outcome)] });
    assert_eq!(world.ended[&JobId(1)], Ended::Failed);
}

#[test]
fn overload_says_of_what_and_when_to_come_back() {
    let mut world = World::new(Config { payer_jobs_max: 2, jobs_max: 3, prompt_tokens_max: 500, ..config() });
    for id in 1..=3 {
        world.submit(job(id, 1, &prompt(0, 40), 60));
    }
    let Refusal::Overload(overload) = &world.refused[&JobId(3)] else { panic!() };
    assert_eq!((overload.what, overload.running, overload.max), (Limit::JobsOfPayer, 2, 2));
    world.submit(job(4, 2, &prompt(0, 450), 1));
    assert!(matches!(&world.refused[&JobId(4)], Refusal::Overload(overload) if overload.what == Limit::PromptTokens));
    world.submit(job(5, 2, &prompt(0, 40), 60));
    world.credit(1, 1);
    world.took = Duration::from_millis(20);
    world.step();
    world.submit(job(6, 3, &prompt(0, 40), 60));
    let Refusal::Overload(overload) = &world.refused[&JobId(6)] else { panic!() };
    // 3 jobs of at most 100 rows at 32 rows in 20 ms: 62 ms each, but never below the least.
    assert_eq!((overload.what, overload.retry_after), (Limit::Jobs, RETRY_MIN));
    assert!(overload.to_string().contains("3 of 3 jobs"), "{overload}");
    world.submit(job(7, 3, &prompt(0, 513), 1));
    assert_eq!(world.refused[&JobId(7)], Refusal::TooLong { prompt: 513, max: 512 });
    world.submit(job(8, 3, &[], 1));
    world.submit(Job { kind: Kind::Replay { from: 0 }, ..job(9, 3, &[1], 1) });
    world.submit(Job { kind: Kind::Replay { from: 2 }, ..job(10, 3, &[1], 1) });
    assert!([8, 9, 10].iter().all(|id| matches!(world.refused[&JobId(*id)], Refusal::Invalid(_))));
    world.drain();
}

#[test]
fn a_replay_judges_every_position_from_the_first_asked_for_beside_running_answers() {
    let mut world = World::new(config());
    world.submit(job(1, 1, &prompt(0, 100), 30));
    world.submit(Job { kind: Kind::Replay { from: 70 }, ..job(2, 1, &prompt(0, 150), 0) });
    world.submit(Job { kind: Kind::Replay { from: 150 }, ..job(3, 1, &prompt(0, 150), 0) });
    world.drain();
    assert_eq!([world.ended[&JobId(2)], world.ended[&JobId(3)]], [Ended::Replayed; 2]);
}

#[test]
fn deadlines_end_jobs_that_wait_and_jobs_that_run() {
    let mut world = World::new(config());
    world.submit(Job { deadline: Some(Time(1_100_000)), ..job(1, 1, &prompt(0, 10), 500) });
    world.submit(Job { deadline: Some(Time(1_100_000)), ..job(2, 1, &prompt(0, 10), 500) });
    world.credit(1, 1);
    world.step();
    world.now = Time(1_100_000);
    world.step();
    assert_eq!([world.ended[&JobId(1)], world.ended[&JobId(2)]], [Ended::Deadline; 2]);
    world.drain();
}

#[test]
fn pages_run_out_and_the_youngest_of_the_greediest_gives_way() {
    let mut world = World::new(Config { guesses: false, running_max: 4, wait_max: Duration::from_secs(100), ..config() });
    // Payer 1 has two jobs that grow, payer 2 one; 12 pages are 768 tokens.
    let long = |id, from, first| {
        let mut found = job(id, from, &prompt(first, 150), 350);
        found.prompt =
            (first..).map(|first| prompt(first, 150)).find(|prompt| alone(&job(0, 0, prompt, 350), 512).0.len() == 500).unwrap().into();
        found
    };
    for (id, from) in [(1, 1), (2, 2), (3, 1)] {
        world.submit(long(id, from, u32::try_from(id).unwrap() * 10_000));
        world.credit(id, 1_000);
    }
    let mut order = Vec::new();
    for _ in 0..5_000 {
        let mut plan = Plan::default();
        world.scheduler.plan(world.now, &mut plan);
        order.extend(plan.outputs.iter().filter_map(|output| if let Output::Preempted(id) = output { Some(*id) } else { None }));
        world.take_in(std::mem::take(&mut plan.outputs));
        let outcomes = world.compute(&plan);
        if plan.is_empty() {
            break;
        }
        world.now = world.now.after(world.took);
        world.handle(Input::Stepped { took: Duration::from_millis(5), outcomes: &outcomes });
    }
    assert_eq!(order.first(), Some(&JobId(3)), "{order:?}");
    world.drain();
}

#[test]
fn a_job_with_an_adapter_waits_for_it_and_others_do_not() {
    let mut world = World::new(config());
    world.submit(with_adapters(job(1, 1, &prompt(0, 10), 5), &[1, 2]));
    world.submit(job(2, 1, &prompt(0, 10), 5));
    world.credit(1, 9);
    world.credit(2, 9);
    world.step();
    assert!(world.rows.contains_key(&JobId(2)) && !world.rows.contains_key(&JobId(1)));
    world.drain();
    assert!(matches!(world.ended[&JobId(1)], Ended::Finished(_)));
}

#[test]
fn an_adapter_that_does_not_come_ends_its_jobs_and_is_refused_for_a_while() {
    let mut world = World::new(config());
    world.fails.insert(adapter(1));
    world.submit(with_adapters(job(1, 1, &prompt(0, 10), 5), &[1]));
    world.credit(1, 9);
    world.step();
    world.deliver(0);
    assert_eq!(world.ended[&JobId(1)], Ended::Adapter(adapter(1)));
    world.submit(with_adapters(job(2, 1, &prompt(0, 10), 5), &[1]));
    let Refusal::Overload(overload) = &world.refused[&JobId(2)] else { panic!() };
    assert_eq!((overload.what, overload.retry_after), (Limit::Adapters, crate::proto::residency::RETRY_AFTER));
    world.now = world.now.after(crate::proto::residency::RETRY_AFTER);
    world.fails.clear();
    world.submit(with_adapters(job(3, 1, &prompt(0, 10), 5), &[1]));
    world.drain();
    assert!(matches!(world.ended[&JobId(3)], Ended::Finished(_)));
}

#[test]
fn an_adapter_that_is_late_ends_the_jobs_that_wait_for_it_and_is_there_for_later_ones() {
    let mut world = World::new(config());
    world.submit(with_adapters(job(1, 1, &prompt(0, 10), 5), &[1]));
    world.credit(1, 9);
    world.step();
    world.now = world.now.after(ADAPTER_WAIT_MAX - Duration::from_millis(1));
    world.step();
    assert!(world.ended.is_empty(), "{:?}", world.ended);
    world.now = world.now.after(Duration::from_millis(1));
    world.step();
    assert_eq!(world.ended[&JobId(1)], Ended::Adapter(adapter(1)));
    world.submit(with_adapters(job(2, 1, &prompt(0, 10), 5), &[1]));
    world.credit(2, 9);
    world.drain();
    assert!(matches!(world.ended[&JobId(2)], Ended::Finished(_)));
}

/// Jobs with answers that do not end by themselves before `max_tokens`.
fn endless(id: u64, from: u8, length: usize, max_tokens: u32) -> Job {
    let total = length + usize::try_from(max_tokens).unwrap();
    let prompt = (u32::try_from(id).unwrap() * 1_000..)
        .map(|first| prompt(first, length))
        .find(|prompt| alone(&job(0, 0, prompt, max_tokens), 100_000).0.len() == total);
    job(id, from, &prompt.unwrap(), max_tokens)
}

#[test]
fn payers_get_equal_rows_whatever_they_send() {
    let mut world = World::new(Config { running_max: 24, jobs_max: 100, payer_jobs_max: 60, guesses: false, ..Config::new(4_000, 4_096) });
    world.took = Duration::from_millis(20);
    // One long prompt after the other against many.
    for id in 0..4 {
        world.submit(job(id, 1, &prompt(5_000 * u32::try_from(id).unwrap(), 4_000), 1));
    }
    for id in 4..24 {
        world.submit(job(id, 2, &prompt(5_000 * u32::try_from(id).unwrap(), 4_000), 1));
    }
    (0..24).for_each(|id| world.credit(id, 1));
    for _ in 0..300 {
        world.step();
    }
    let rows = |ids: std::ops::Range<u64>| -> u32 { ids.filter_map(|id| world.rows.get(&JobId(id))).sum() };
    let (one, two) = (rows(0..4), rows(4..24));
    assert!(one > 4_000 && one.abs_diff(two) <= 64, "{one} and {two}");
}

#[test]
fn a_prompt_of_thousands_does_not_stop_another_payers_tokens() {
    let mut world = World::new(Config { guesses: false, ..Config::new(4_000, 8_192) });
    world.submit(endless(1, 1, 10, 100));
    world.credit(1, 1_000);
    world.step();
    world.submit(job(2, 2, &prompt(50_000, 8_000), 1));
    world.credit(2, 1);
    world.took = Duration::from_millis(20);
    for _ in 0..50 {
        world.step();
        assert!(world.plan.jobs.iter().any(|planned| planned.job == JobId(1)), "a token in every step");
        assert!(world.plan.jobs.iter().any(|planned| planned.job == JobId(2)));
    }
}

#[test]
fn nobody_waits_for_a_row_beyond_the_age_limit_though_adapters_crowd_the_step() {
    // Every adapter alone fills the bytes of a step; six payers, each with its own, one of them with ten jobs.
    let config = Config { running_max: 16, payer_jobs_max: 16, step_adapter_bytes: MEGA, guesses: false, ..Config::new(400, 4_096) };
    let adapters = Budget { slots: 8, device_bytes: 90 * MEGA, memory_bytes: 90 * MEGA, disk_bytes: 300 * MEGA, file_bytes_max: 8 * MEGA };
    let mut world = World::new(Config { adapters, age_max: Duration::from_millis(200), ..config });
    world.took = Duration::from_millis(10);
    for id in 1..=16u64 {
        let number = if id > 6 { 1 } else { u8::try_from(id).unwrap() };
        world.submit(with_adapters(endless(id, number, 20, 400), &[number]));
        world.credit(id, 1_000);
    }
    let mut last: BTreeMap<JobId, Time> = BTreeMap::new();
    for _ in 0..600 {
        while !world.moves.is_empty() {
            world.deliver(0);
        }
        world.step();
        for planned in &world.plan.jobs {
            last.insert(planned.job, world.now);
        }
        // Overdue jobs go one a step at worst.
        let bound = Duration::from_millis(200) + world.took * 17;
        for (id, last) in &last {
            assert!(!world.known.contains_key(id) || world.now.since(*last) <= bound, "{id:?} has waited {:?}", world.now.since(*last));
        }
    }
    assert_eq!(last.len(), 16);
    world.drain();
}

#[test]
fn a_job_that_needs_much_is_not_passed_by_small_ones_for_ever() {
    // Small jobs keep coming and would always fit; the large one needs nearly all pages.
    let mut world = World::new(Config { guesses: false, ..config() });
    let mut id = 100;
    let mut begun = None;
    for step in 0..3_000u64 {
        if step == 50 {
            world.submit(endless(1, 9, 500, 5));
            world.credit(1, 9);
        }
        while world.scheduler.load().0 < 12 {
            id += 1;
            world.submit(job(id, u8::try_from(id % 4).unwrap(), &prompt(u32::try_from(id).unwrap() * 100, 100), 30));
            world.credit(id, 1_000);
        }
        world.step();
        if begun.is_none() && world.rows.contains_key(&JobId(1)) {
            begun = Some(step);
        }
        if world.ended.contains_key(&JobId(1)) {
            break;
        }
    }
    assert!(begun.is_some() && matches!(world.ended.get(&JobId(1)), Some(Ended::Finished(_))), "begun {begun:?}");
    world.drain();
}

#[test]
fn a_payers_own_small_jobs_do_not_pass_its_large_one_for_ever() {
    // Nobody gives way within a payer: the large job gets its pages because nobody else is let in.
    let mut world = World::new(Config { guesses: false, payer_jobs_max: 20, ..config() });
    let mut id = 100;
    for step in 0..3_000u64 {
        if step == 50 {
            world.submit(endless(1, 1, 500, 5));
            world.credit(1, 9);
        }
        while world.scheduler.load().0 < 12 {
            id += 1;
            world.submit(job(id, 1, &prompt(u32::try_from(id).unwrap() * 100, 100), 30));
            world.credit(id, 1_000);
        }
        world.step();
        if world.ended.contains_key(&JobId(1)) {
            break;
        }
    }
    assert!(matches!(world.ended.get(&JobId(1)), Some(Ended::Finished(_))));
    assert_eq!(world.preempted, 0);
    world.drain();
}

#[test]
fn no_more_is_guessed_than_there_is_credit_for() {
    let mut world = World::new(config());
    let start = (0..60).find(|start| alone(&job(1, 1, &[*start], 200), 512).0.len() > 200).expect("a long answer");
    world.submit(job(1, 1, &[start], 200));
    let mut most = 0;
    for round in 0..60 {
        let credit = 1 + round % 3;
        world.credit(1, credit);
        while world.step() {
            let guesses = world.plan.jobs.iter().map(|planned| planned.guesses().len()).max().unwrap();
            assert!(guesses < usize::try_from(credit).unwrap(), "{guesses} guesses for {credit} tokens");
            most = most.max(guesses);
        }
    }
    assert_eq!(most, 2, "as many as there may be");
    world.drain();
}

#[test]
fn a_payer_that_holds_everything_gives_way_to_one_that_waits() {
    let mut world = World::new(Config { guesses: false, running_max: 3, wait_max: Duration::from_millis(200), ..config() });
    for id in 1..=3 {
        world.submit(endless(id, 1, 10, 200));
        world.credit(id, 1_000);
    }
    world.step();
    world.submit(endless(4, 2, 10, 10));
    world.credit(4, 1_000);
    for _ in 0..500 {
        world.step();
    }
    assert!(world.preempted > 0 && matches!(world.ended[&JobId(4)], Ended::Finished(_)));
    assert!(world.ended.contains_key(&JobId(1)), "and all end");
    world.drain();
}

#[test]
fn a_stalled_stream_gives_its_pages_up_and_is_computed_again() {
    let mut world = World::new(Config { guesses: false, running_max: 1, ..config() });
    world.submit(endless(1, 1, 100, 20));
    world.credit(1, 5);
    while world.step() {}
    world.submit(endless(2, 1, 100, 20));
    world.credit(2, 100);
    assert!(!world.step());
    world.now = world.now.after(Duration::from_secs(3));
    while world.step() {}
    assert!(world.ended.contains_key(&JobId(2)) && world.preempted == 1);
    world.drain();
    assert!(matches!(world.ended[&JobId(1)], Ended::Finished(_)));
}

#[test]
fn a_replay_that_lost_its_pages_does_not_judge_again() {
    let mut world = World::new(Config { guesses: false, running_max: 2, wait_max: Duration::from_millis(50), ..config() });
    world.submit(Job { kind: Kind::Replay { from: 10 }, ..job(1, 1, &prompt(0, 300), 0) });
    world.submit(Job { kind: Kind::Replay { from: 10 }, ..job(2, 1, &prompt(5_000, 250), 0) });
    world.took = Duration::from_millis(20);
    (0..8).for_each(|_| assert!(world.step()));
    world.submit(endless(3, 2, 100, 20));
    world.credit(3, 100);
    while world.step() {}
    assert!(world.preempted > 0);
    world.drain();
    assert_eq!([world.ended[&JobId(1)], world.ended[&JobId(2)]], [Ended::Replayed; 2]);
}

#[derive(Debug, Clone)]
enum Act {
    Submit { from: u8, first: u32, length: usize, max_tokens: u32, adapters: Vec<u8>, replay: bool, deadline: bool },
    Credit(prop::sample::Index, u32),
    Cancel(prop::sample::Index),
    Deliver(usize),
    Fail(u8),
    Gone(u8),
    Pin(u8, bool),
    Step(u64),
    Pass(u64),
}

fn acts() -> impl Strategy<Value = Act> {
    let submit = (0u8..4, 0u32..3, 1usize..330, 0u32..60, prop::collection::vec(1u8..8, 0..3), any::<u8>()).prop_map(
        |(from, first, length, max_tokens, adapters, dice)| Act::Submit {
            from,
            first,
            length,
            max_tokens,
            adapters,
            replay: dice % 5 == 0,
            deadline: dice % 11 == 0,
        },
    );
    prop_oneof![
        4 => submit,
        4 => (any::<prop::sample::Index>(), 1u32..80).prop_map(|(which, tokens)| Act::Credit(which, tokens)),
        1 => any::<prop::sample::Index>().prop_map(Act::Cancel),
        4 => any::<usize>().prop_map(Act::Deliver),
        1 => (1u8..8).prop_map(Act::Fail),
        1 => (1u8..8).prop_map(Act::Gone),
        1 => ((1u8..8), any::<bool>()).prop_map(|(which, on)| Act::Pin(which, on)),
        12 => (100u64..60_000).prop_map(Act::Step),
        1 => (0u64..3_000_000).prop_map(Act::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// Whatever happens: every job ends or is refused once, an answer is what it would be alone, no row reads another space's or another
    /// sequence's page, every budget holds, and in the end all is free.
    #[test]
    fn random_traffic_loses_nothing_and_mixes_nothing(acts in prop::collection::vec(acts(), 1..160)) {
        let mut world = World::new(config());
        for act in acts {
            let ids: Vec<u64> = world.known.keys().map(|id| id.0).collect();
            match act {
                Act::Submit { from, first, length, max_tokens, adapters, replay, deadline } => {
                    let mut new = with_adapters(job(world.submitted, from, &prompt(first, length), max_tokens), &adapters);
                    if replay {
                        new.kind = Kind::Replay { from: 1 + first * 7 % u32::try_from(length).unwrap() };
                    }
                    new.deadline = deadline.then(|| world.now.after(Duration::from_millis(300)));
                    world.submit(new);
                }
                Act::Credit(which, tokens) if !ids.is_empty() => world.credit(ids[which.index(ids.len())], tokens),
                Act::Cancel(which) if !ids.is_empty() => world.handle(Input::Cancel(JobId(ids[which.index(ids.len())]))),
                Act::Deliver(at) => world.deliver(at),
                Act::Fail(number) if world.fails.remove(&adapter(number)) => {}
                Act::Fail(number) => {
                    world.fails.insert(adapter(number));
                }
                Act::Gone(number) => world.handle(Input::Adapter { id: adapter(number), event: Event::Gone }),
                Act::Pin(number, on) => world.handle(Input::Adapter { id: adapter(number), event: Event::Pinned(on) }),
                Act::Step(micros) => {
                    world.took = Duration::from_micros(micros);
                    world.step();
                }
                Act::Pass(micros) => world.now = world.now.after(Duration::from_micros(micros)),
                _ => {}
            }
        }
        world.took = Duration::from_millis(5);
        world.drain();
    }
}

/// The shell may answer a move that was called off; that must not be taken for another's answer.
#[test]
fn a_late_answer_of_a_move_that_was_given_up_is_nothing() {
    let mut world = World::new(config());
    world.submit(with_adapters(job(1, 1, &prompt(0, 10), 5), &[1]));
    world.credit(1, 9);
    world.step();
    let Some(Action::Fetch { id, .. }) = world.moves.pop() else { panic!("{:?}", world.moves) };
    world.handle(Input::Adapter { id, event: Event::Failed });
    world.handle(Input::Adapter { id, event: Event::Loaded });
    world.handle(Input::Adapter { id, event: Event::Failed });
    assert_eq!(world.scheduler.residency.tier(id), crate::proto::residency::Tier::Network);
    world.check_budgets();
    world.drain();
}
