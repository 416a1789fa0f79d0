//! What deciding costs: the scheduler alone, with a backend that takes no time. Microseconds for each step, plan and result together.
//!
//! `cargo run -p inference --no-default-features --example schedule`

use std::time::{Duration, Instant};

use inference::proto::pages::Space;
use inference::proto::residency::{Action, AdapterId, Budget, Event, Sizes};
use inference::proto::scheduler::{CHOSEN_MAX, Config, Input, Job, JobId, Kind, Outcome, Output, Plan, Scheduler};
use types::id::Address;
use types::time::Time;

/// Tokens of a prompt.
const PROMPT: u32 = 200;
/// Tokens of an answer.
const ANSWER: u32 = 100;

/// Of every adapter.
const SIZES: Sizes = Sizes { disk: 20_000_000, memory: 5_000_000 };

fn adapter(number: u64) -> AdapterId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    AdapterId(bytes)
}

/// A scheduler kept full of jobs.
struct Load {
    scheduler: Scheduler,
    plan: Plan,
    now: Time,
    next: u64,
    jobs: usize,
    adapters: u64,
    rows: usize,
}

impl Load {
    /// With so many jobs over so many adapters, beside `known` adapters that only lie on disk.
    fn new(running: usize, waiting: usize, adapters: u64, known: u64) -> Self {
        let jobs = running + waiting;
        let budget = Budget { slots: 512, device_bytes: u64::MAX, memory_bytes: u64::MAX, disk_bytes: u64::MAX, ..Budget::default() };
        let config = Config {
            running_max: running,
            jobs_max: jobs,
            payer_jobs_max: jobs,
            prompt_tokens_max: usize::MAX,
            step_adapter_bytes: u64::MAX,
            adapters: budget,
            ..Config::new(8_192, 8_192)
        };
        let mut load = Self { scheduler: Scheduler::new(config), plan: Plan::default(), now: Time(0), next: 0, jobs, adapters, rows: 0 };
        for number in 0..known {
            load.handle(Input::Adapter { id: adapter(1 << 32 | number), event: Event::OnDisk(SIZES) });
        }
        load
    }

    /// Hands in jobs until there are as many as there may be: 50 payers, prompts of their own.
    fn fill(&mut self) {
        while self.scheduler.load().0 < self.jobs {
            self.next += 1;
            let number = self.next;
            let adapters: Vec<_> = (self.adapters > 0).then(|| (adapter(number % self.adapters), 1.0)).into_iter().collect();
            let payer = Address([u8::try_from(number % 50).expect("below 50"); 20]);
            let first = u32::try_from(number % 10_000_000).expect("below 2^32") * PROMPT;
            let job = Job {
                id: JobId(number),
                payer,
                space: Space::new(&[payer.0[0]; 32], &[0; 32], 2, &adapters),
                adapters,
                prompt: (0..PROMPT).map(|at| first.wrapping_add(at)).collect(),
                max_tokens: ANSWER,
                kind: Kind::Answer,
                deadline: None,
            };
            self.handle(Input::Submit(job));
            self.handle(Input::Credit { job: JobId(number), tokens: ANSWER });
        }
    }

    fn handle(&mut self, input: Input<'_>) {
        let outputs: Vec<Output> = self.scheduler.handle(self.now, input).collect();
        self.answer(&outputs);
    }

    /// Every move succeeds at once.
    fn answer(&mut self, outputs: &[Output]) {
        for output in outputs {
            let (id, event) = match output {
                Output::Adapter(Action::Fetch { id, .. }) => (*id, Event::OnDisk(SIZES)),
                Output::Adapter(Action::Load(id)) => (*id, Event::Loaded),
                _ => continue,
            };
            self.handle(Input::Adapter { id, event });
        }
    }

    /// One step; how long it took to decide.
    fn step(&mut self) -> Duration {
        self.fill();
        let begun = Instant::now();
        self.scheduler.plan(self.now, &mut self.plan);
        let mut took = begun.elapsed();
        let outputs = std::mem::take(&mut self.plan.outputs);
        self.answer(&outputs);
        self.rows += self.plan.step().tokens.len();
        let chosen = |at: u64| Outcome::Chosen { tokens: [u32::try_from(at % 50_000).expect("small"); CHOSEN_MAX], count: 1, finish: None };
        let outcomes: Vec<_> = self
            .plan
            .jobs
            .iter()
            .filter(|planned| planned.is_chosen())
            .map(|planned| (planned.job, chosen(self.now.0 / 7 + planned.job.0 * 31)))
            .collect();
        self.now = self.now.after(Duration::from_millis(15));
        let begun = Instant::now();
        self.scheduler.handle(self.now, Input::Stepped { took: Duration::from_millis(15), outcomes: &outcomes }).for_each(drop);
        took += begun.elapsed();
        took
    }
}

fn main() {
    println!("running  waiting  adapters  known  median us   p99 us  rows a step");
    for (running, waiting, adapters, known) in [
        (1, 0, 0, 0),
        (32, 0, 0, 0),
        (64, 1_000, 0, 0),
        (64, 1_000, 8, 0),
        (64, 1_000, 8, 4_000),
        (64, 10_000, 64, 0),
        (64, 10_000, 64, 4_000),
        (256, 10_000, 256, 0),
    ] {
        let mut load = Load::new(running, waiting, adapters, known);
        for _ in 0..200 {
            load.step();
        }
        let before = load.rows;
        let mut times: Vec<Duration> = (0..2_000).map(|_| load.step()).collect();
        times.sort_unstable();
        let rows = (load.rows - before) / times.len();
        println!(
            "{running:7}  {waiting:7}  {adapters:8}  {known:5}  {:9}  {:7}  {rows:11}",
            times[1_000].as_micros(),
            times[1_980].as_micros()
        );
    }
}
