//! `cargo run -p simulations -- <scenario> --seed N ...`: asks a question of a simulated network, prints the answer and the seed.

use std::process::ExitCode;

use ::attribution::check::draw;
use clap::{Args, Parser, Subcommand};
use simulations::scenario::{
    attribution, audits, checks,
    durability::{self, churn},
    routing,
    sampling::{self, Question, Until},
};

/// Questions asked of a simulated network. Same seed and arguments: same output.
#[derive(Debug, Parser)]
#[command(version)]
struct Command {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Does cheating pay when a few answers are checked by operators drawn by stake?
    Sampling(Sampling),
    /// Do objects outlive the loss of operators and subnets, slow disks, partitions, and months of churn?
    Durability(Durability),
    /// How often and how deep do objects of thousands of operators fall in months of churn, beside the closed form?
    Churn(Churn),
    /// Is it noticed within a month that a node lost a hundredth of what it holds?
    Audits(Audits),
    /// Does a checker get away with not looking, or with copying who did?
    Checks(Checks),
    /// What do attacks on paid attribution gain, and whom do they harm, before and after each defence?
    Attribution(Attribution),
    /// Does who wants it cheap get the cheapest node and who wants it quick the quickest, among liars and the dying?
    Routing(Routing),
}

#[derive(Debug, Args)]
struct Routing {
    /// Nodes.
    #[arg(long, default_value_t = 100)]
    nodes: u32,
    /// Questions, one a second.
    #[arg(long, default_value_t = 10_000)]
    questions: u32,
    /// Fixes everything.
    #[arg(long)]
    seed: u64,
    /// Print the figures as `cargo xtask bench` reads them, one a line.
    #[arg(long, conflicts_with = "json")]
    rows: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Routing {
    fn run(&self) -> Result<(), String> {
        let Self { nodes, questions, seed, .. } = *self;
        let report = routing::run(&routing::Question { nodes, questions, seed })?;
        let said = |error: serde_json::Error| error.to_string();
        if self.rows {
            for row in report.rows() {
                println!("{}", serde_json::to_string(&row).map_err(said)?);
            }
            return Ok(());
        }
        let json = || serde_json::to_string_pretty(&report).map_err(said);
        println!("{}", if self.json { json()? } else { report.to_string().trim_end().to_owned() });
        Ok(())
    }
}

#[derive(Debug, Args)]
struct Checks {
    /// Rounds that are played.
    #[arg(long, default_value_t = 2_000)]
    rounds: u64,
    /// Operators with stake, three of whom do not look.
    #[arg(long, default_value_t = 12)]
    operators: usize,
    /// Receipts of a round.
    #[arg(long, default_value_t = 8)]
    receipts: u64,
    /// Checkers of each receipt.
    #[arg(long, default_value_t = 2)]
    checkers: u8,
    /// Fixes everything.
    #[arg(long)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Checks {
    fn run(&self) -> Result<(), String> {
        let Self { rounds, operators, receipts, checkers, seed, .. } = *self;
        let report = checks::run(&checks::Question { rounds, operators, receipts, checkers, seed })?;
        let json = || serde_json::to_string_pretty(&report).map_err(|error| error.to_string());
        println!("{}", if self.json { json()? } else { report.to_string().trim_end().to_owned() });
        if report.failures.is_empty() { Ok(()) } else { Err(report.failures.join("; ")) }
    }
}

#[derive(Debug, Args)]
struct Attribution {
    /// Answers that are divided.
    #[arg(long, default_value_t = 400)]
    answers: usize,
    /// Documents of each of five authors.
    #[arg(long, default_value_t = 10)]
    documents: usize,
    /// Fixes everything.
    #[arg(long)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Attribution {
    fn run(&self) -> Result<(), String> {
        let Self { answers, documents, seed, .. } = *self;
        if answers == 0 || documents == 0 {
            return Err(format!("{answers} answers and {documents} documents: at least one of each is needed"));
        }
        let report = attribution::run(&attribution::Question { answers, documents, seed });
        let json = || serde_json::to_string_pretty(&report).map_err(|error| error.to_string());
        println!("{}", if self.json { json()? } else { report.to_string().trim_end().to_owned() });
        if report.failures.is_empty() { Ok(()) } else { Err(report.failures.join("; ")) }
    }
}

#[derive(Debug, Args)]
struct Audits {
    /// Fragments that the node is bound to.
    #[arg(long, default_value_t = 500)]
    fragments: u32,
    /// Of them lost.
    #[arg(long, default_value_t = 5)]
    lost: u32,
    /// Days of a month.
    #[arg(long, default_value_t = 30)]
    days: u32,
    /// Months that are tried.
    #[arg(long, default_value_t = 10_000)]
    months: u32,
    /// Fixes everything.
    #[arg(long)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Audits {
    fn run(&self) -> Result<(), String> {
        let Self { fragments, lost, days, months, seed, .. } = *self;
        let report = audits::run(&audits::Question { fragments, lost, days, months, seed }).map_err(|error| error.to_string())?;
        let json = || serde_json::to_string_pretty(&report).map_err(|error| error.to_string());
        println!("{}", if self.json { json()? } else { report.to_string().trim_end().to_owned() });
        if report.failures.is_empty() { Ok(()) } else { Err(report.failures.join("; ")) }
    }
}

#[derive(Debug, Args)]
struct Durability {
    /// Operators.
    #[arg(long, default_value_t = 150)]
    operators: u64,
    /// Subnets they are spread over.
    #[arg(long, default_value_t = 75)]
    subnets: u64,
    /// Objects of 64 MiB.
    #[arg(long, default_value_t = 100)]
    objects: u64,
    /// Operators that die at once.
    #[arg(long, default_value_t = 50)]
    dying: usize,
    /// Reads while a fifth of the operators is off.
    #[arg(long, default_value_t = 10_000)]
    reads: u64,
    /// Of a hundred operators so many lie to readers.
    #[arg(long, default_value_t = 5)]
    lying_percent: u64,
    /// Of a hundred operators so many are slow.
    #[arg(long, default_value_t = 10)]
    slow_percent: u64,
    /// Up to so many times slower than others, and ten times at least.
    #[arg(long, default_value_t = 100)]
    slow_times: u64,
    /// Mean life of an operator under churn, in days.
    #[arg(long, default_value_t = 90.0)]
    life_days: f64,
    /// Days of churn.
    #[arg(long, default_value_t = 120.0)]
    churn_days: f64,
    /// Objects under churn.
    #[arg(long, default_value_t = 10)]
    churn_objects: u64,
    /// Fixes everything.
    #[arg(long)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Durability {
    fn run(&self) -> Result<(), String> {
        let question = durability::Question {
            operators: self.operators,
            subnets: self.subnets,
            objects: self.objects,
            dying: self.dying,
            reads: self.reads,
            lying_percent: self.lying_percent,
            slow_percent: self.slow_percent,
            slow_times: self.slow_times,
            life_days: self.life_days,
            churn_days: self.churn_days,
            churn_objects: self.churn_objects,
            seed: self.seed,
        };
        let report = durability::run(&question).map_err(|error| error.to_string())?;
        let json = || serde_json::to_string_pretty(&report).map_err(|error| error.to_string());
        println!("{}", if self.json { json()? } else { report.to_string().trim_end().to_owned() });
        if report.failures.is_empty() { Ok(()) } else { Err(report.failures.join("; ")) }
    }
}

#[derive(Debug, Args)]
struct Churn {
    /// Operators.
    #[arg(long, default_value_t = 2_000)]
    operators: u64,
    /// Subnets they are spread over.
    #[arg(long, default_value_t = 1_000)]
    subnets: u64,
    /// Objects of 64 MiB.
    #[arg(long, default_value_t = 2_000)]
    objects: u64,
    /// Of a hundred operators so many are slow.
    #[arg(long, default_value_t = 5)]
    slow_percent: u64,
    /// Up to so many times slower than others, and ten times at least.
    #[arg(long, default_value_t = 100)]
    slow_times: u64,
    /// Mean life of an operator, in days.
    #[arg(long, default_value_t = 90.0)]
    life_days: f64,
    /// Days.
    #[arg(long, default_value_t = 120.0)]
    days: f64,
    /// Minutes between two looks.
    #[arg(long, default_value_t = 30)]
    step_min: u64,
    /// Fixes everything.
    #[arg(long)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Churn {
    fn run(&self) -> Result<(), String> {
        let Self { operators, subnets, objects, slow_percent, slow_times, life_days, days, step_min, seed, .. } = *self;
        let question = churn::Question { operators, subnets, objects, slow_percent, slow_times, life_days, days, step_min, seed };
        let report = churn::run(&question).map_err(|error| error.to_string())?;
        let json = || serde_json::to_string_pretty(&report).map_err(|error| error.to_string());
        println!("{}", if self.json { json()? } else { report.to_string().trim_end().to_owned() });
        if report.failures.is_empty() { Ok(()) } else { Err(report.failures.join("; ")) }
    }
}

#[derive(Debug, Args)]
struct Sampling {
    /// Operators.
    #[arg(long, default_value_t = 1_000)]
    nodes: usize,
    /// Share of the nodes that cheat in every answer.
    #[arg(long, default_value_t = 0.1)]
    cheaters: f64,
    /// Share of the nodes that vouch for every cheater.
    #[arg(long, default_value_t = 0.1)]
    colluding: f64,
    /// Rate of checked answers.
    #[arg(long, default_value_t = 0.02)]
    p: f64,
    /// Checkers per checked answer.
    #[arg(long, default_value_t = 2)]
    m: u8,
    /// Largest stake over smallest.
    #[arg(long, default_value_t = 100.0)]
    stake_ratio: f64,
    /// R: honest margin per answer.
    #[arg(long, default_value_t = 1.0)]
    reward: f64,
    /// G: what a cheat saves per answer.
    #[arg(long, default_value_t = 1.0)]
    gain: f64,
    /// S: stake lost when caught.
    #[arg(long, default_value_t = 100.0)]
    slash: f64,
    /// Fixes stakes, roles, beacons and receipts.
    #[arg(long)]
    seed: u64,
    /// Play exactly this many cheating answers instead of playing until the error is small enough.
    #[arg(long)]
    answers: Option<u64>,
    /// Standard error to reach, as a share of each gain.
    #[arg(long, default_value_t = 0.005)]
    error: f64,
    /// Most cheating answers to play for it.
    #[arg(long, default_value_t = 100_000_000)]
    answers_max: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Sampling {
    fn question(&self) -> Question {
        Question {
            nodes: self.nodes,
            cheaters: self.cheaters,
            colluding: self.colluding,
            p: self.p,
            m: self.m,
            stake_ratio: self.stake_ratio,
            reward: self.reward,
            gain: self.gain,
            slash: self.slash,
            seed: self.seed,
            until: self.answers.map_or(Until::Error { share: self.error, answers_max: self.answers_max }, Until::Answers),
        }
    }

    fn run(&self) -> Result<(), String> {
        let report = sampling::run(&self.question(), draw).map_err(|error| error.to_string())?;
        let json = || serde_json::to_string_pretty(&report).map_err(|error| error.to_string());
        println!("{}", if self.json { json()? } else { report.to_string().trim_end().to_owned() });
        if !report.agrees() {
            return Err("a measured figure is more than three standard errors from its closed form".to_owned());
        }
        if !report.is_precise {
            return Err(format!("after {} answers an error is still above {}: allow more with --answers-max", report.answers, self.error));
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let result = match Command::parse().scenario {
        Scenario::Sampling(sampling) => sampling.run(),
        Scenario::Durability(durability) => durability.run(),
        Scenario::Churn(churn) => churn.run(),
        Scenario::Audits(audits) => audits.run(),
        Scenario::Checks(checks) => checks.run(),
        Scenario::Attribution(attribution) => attribution.run(),
        Scenario::Routing(routing) => routing.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
