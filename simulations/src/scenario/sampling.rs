//! Does cheating pay when a few answers are checked by drawn operators?
//!
//! A cheat earns G on top of the honest margin R and loses everything and a stake of S when a checker that does not collude is drawn. PROTOCOL
//! section 9: with q = p (1 - r^m), r the colluders' share of the stake eligible to check, a cheat gains G - q (R + G + S) per answer over
//! honest play. The scenario plays answers against the production draw and puts both figures side by side. Colluders vouch for every cheater
//! and answer honestly; cheaters check honestly. Draws come after an epoch's answers, so a node that is caught has answered until then; it
//! re-enters with the next epoch, under a new account and with a fresh stake of the same size.
//!
//! One keccak per answer, two more per checker of a drawn one: about two million answers per second and core.

use std::{collections::BTreeSet, fmt};

use attribution::check::{Draw, DrawRule, ELIGIBLE_MIN, Operators, OperatorsError};
use serde::Serialize;
use types::id::{Address, Hash32};

use crate::random::Random;

/// Smallest stake: one OPEN.
const SMALLEST_STAKE: f64 = 1e18;
/// Answers between two looks at the standard errors: enough that looking costs nothing.
const ANSWERS_PER_LOOK: u64 = 10_000;

/// What is asked.
#[derive(Debug, Clone, Serialize)]
pub struct Question {
    /// Operators.
    pub nodes: usize,
    /// Share of them that cheat in every answer.
    pub cheaters: f64,
    /// Share of them that vouch for every cheater.
    pub colluding: f64,
    /// Rate of checked answers.
    pub p: f64,
    /// Checkers per checked answer.
    pub m: u8,
    /// Largest stake over smallest; log-spaced between.
    pub stake_ratio: f64,
    /// R: honest margin per answer.
    pub reward: f64,
    /// G: what a cheat saves per answer.
    pub gain: f64,
    /// S: stake lost when caught.
    pub slash: f64,
    /// Fixes stakes, roles, beacons and receipts.
    pub seed: u64,
    /// When to stop.
    pub until: Until,
}

/// When to stop.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// When each gain's standard error is at most this share of it, or after so many cheating answers.
    Error {
        /// Share of the gain.
        share: f64,
        /// Most cheating answers.
        answers_max: u64,
    },
    /// After this many cheating answers.
    Answers(u64),
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq)]
pub enum QuestionError {
    /// A number outside its range.
    Range {
        /// Which.
        what: &'static str,
        /// What it is.
        got: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// Roles that the nodes do not suffice for.
    Roles {
        /// Cheating nodes.
        cheaters: usize,
        /// Colluding nodes.
        colluding: usize,
        /// All nodes.
        nodes: usize,
    },
    /// Stakes that do not fit.
    Stakes(OperatorsError),
}

impl fmt::Display for QuestionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range { what, got, expected } => write!(f, "{what} is {got}, expected {expected}"),
            Self::Roles { cheaters, colluding, nodes } => {
                write!(
                    f,
                    "{cheaters} cheating and {colluding} colluding of {nodes} nodes: at least one must cheat and one be honest, and at least {} others must be there to check",
                    ELIGIBLE_MIN
                )
            }
            Self::Stakes(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for QuestionError {}

/// A draw, as production's is called.
pub trait DrawFn: Fn(Hash32, u64, Hash32, DrawRule, &Operators, Address) -> Draw {}
impl<F: Fn(Hash32, u64, Hash32, DrawRule, &Operators, Address) -> Draw> DrawFn for F {}

/// Who is there.
#[derive(Debug)]
pub struct Population {
    /// All stakes: cheaters first, then colluders, then honest nodes.
    pub stakes: Vec<(Address, u128)>,
    operators: Operators,
    /// How many cheat.
    cheaters: usize,
    honest: Vec<Address>,
    /// Ascending.
    colluders: Vec<Address>,
    colluding_stake: u128,
    /// Accounts given out so far; no account is used twice.
    accounts: u64,
}

impl Population {
    /// Stakes and roles of a question: stakes log-spaced and shuffled, then cheaters, colluders and honest nodes in order.
    ///
    /// # Errors
    /// [`QuestionError`].
    pub fn new(question: &Question, random: &mut Random) -> Result<Self, QuestionError> {
        let (cheaters, colluding) = question.check()?;
        let steps = as_f64(as_u64(question.nodes - 1)).max(1.0);
        let stake = |place: usize| whole_wei(SMALLEST_STAKE * question.stake_ratio.powf(as_f64(as_u64(place)) / steps));
        let mut sizes: Vec<u128> = (0..question.nodes).map(stake).collect();
        random.shuffle(&mut sizes);
        let stakes: Vec<(Address, u128)> = sizes.into_iter().zip(1_u64..).map(|(stake, number)| (account(number), stake)).collect();
        let (second, rest) = stakes[cheaters..].split_at(colluding);
        Ok(Self {
            operators: Operators::new(&stakes).map_err(QuestionError::Stakes)?,
            cheaters,
            accounts: as_u64(stakes.len()),
            colluders: second.iter().map(|(account, _)| *account).collect(),
            colluding_stake: second.iter().map(|(_, stake)| stake).sum(),
            honest: rest.iter().map(|(account, _)| *account).collect(),
            stakes,
        })
    }

    /// r, for each cheater: the colluders' share of the stake that may check it.
    fn colluding_shares(&self) -> impl Iterator<Item = f64> {
        self.stakes[..self.cheaters].iter().map(|(_, own)| share_of(self.colluding_stake, self.operators.total() - own))
    }

    /// The nodes at these places come back under new accounts, each with as much stake as it lost.
    fn re_enter(&mut self, caught: &BTreeSet<usize>) {
        for place in caught {
            self.accounts += 1;
            self.stakes[*place].0 = account(self.accounts);
        }
        if !caught.is_empty() {
            self.operators = Operators::new(&self.stakes).expect("the stakes are those of before, and no account is used twice");
        }
    }
}

impl Question {
    fn check(&self) -> Result<(usize, usize), QuestionError> {
        let within = |what, got: f64, ok: bool, expected| if ok { Ok(()) } else { Err(QuestionError::Range { what, got, expected }) };
        let is_share = |x: f64| (0.0..=1.0).contains(&x);
        within("cheaters", self.cheaters, is_share(self.cheaters), "a share from 0 to 1")?;
        within("colluding", self.colluding, is_share(self.colluding), "a share from 0 to 1")?;
        within("p", self.p, is_share(self.p) && self.p < 1.0, "a rate from 0 to below 1")?;
        within("stake ratio", self.stake_ratio, (1.0..=1e9).contains(&self.stake_ratio), "from 1 to 1e9")?;
        for (what, got) in [("reward", self.reward), ("gain", self.gain), ("slash", self.slash)] {
            within(what, got, (0.0..=1e9).contains(&got), "from 0 to 1e9")?;
        }
        within("nodes", as_f64(as_u64(self.nodes)), self.nodes <= 1_000_000, "at most 1000000")?;
        let part = |share: f64| rounded(share * as_f64(as_u64(self.nodes)));
        let (cheaters, colluding) = (part(self.cheaters), part(self.colluding));
        let is_possible = cheaters > 0 && cheaters + colluding < self.nodes && self.nodes > ELIGIBLE_MIN;
        if is_possible { Ok((cheaters, colluding)) } else { Err(QuestionError::Roles { cheaters, colluding, nodes: self.nodes }) }
    }

    fn rule(&self) -> DrawRule {
        DrawRule { rate: rate(self.p), checkers: self.m, eligible_min: ELIGIBLE_MIN }
    }
}

/// A measured figure beside the closed form.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: &'static str,
    /// Mean over the answers played.
    pub measured: f64,
    /// What the formula says.
    pub closed_form: f64,
    /// Standard error of the measured mean.
    pub standard_error: f64,
    /// The standard error as a share of the closed form, or of G where that is larger.
    pub relative_error: f64,
}

impl Figure {
    fn new(name: &'static str, measured: f64, closed_form: f64, standard_error: f64, scale: f64) -> Self {
        Self {
            name,
            measured,
            closed_form,
            standard_error,
            relative_error: standard_error / closed_form.abs().max(scale).max(f64::MIN_POSITIVE),
        }
    }

    /// Whether measured and closed form are within three standard errors.
    pub fn agrees(&self) -> bool {
        (self.measured - self.closed_form).abs() <= 3.0 * self.standard_error + 1e-12 * self.closed_form.abs().max(1.0)
    }
}

/// The answer.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was asked.
    pub question: Question,
    /// Nodes that cheat.
    pub cheating_nodes: usize,
    /// Nodes that vouch for them.
    pub colluding_nodes: usize,
    /// Cheating answers played; as many honest ones were.
    pub answers: u64,
    /// Times a caught node came back under a new account.
    pub re_entries: u64,
    /// Whether the wanted error was reached.
    pub is_precise: bool,
    /// Honest gain, cheating gain, caught cheats, colluding checkers.
    pub figures: Vec<Figure>,
    /// Whether honest play dominates by the closed form.
    pub honesty_pays: bool,
}

impl Report {
    /// Whether every figure lies within three standard errors of its closed form.
    pub fn agrees(&self) -> bool {
        self.figures.iter().all(Figure::agrees)
    }
}

/// What happened so far.
#[derive(Debug, Default)]
struct Tally {
    cheats: u64,
    caught: u64,
    honest: u64,
    punished: u64,
    checkers: u64,
    colluding: u64,
    re_entries: u64,
}

/// Plays answers against `draw` until the question's end.
///
/// # Errors
/// [`QuestionError`].
pub fn run(question: &Question, draw: impl DrawFn) -> Result<Report, QuestionError> {
    let mut random = Random::new(question.seed);
    let mut population = Population::new(question, &mut random)?;
    let mut tally = Tally::default();
    for epoch in 0.. {
        let beacon = Hash32(random.bytes());
        let caught = play(question, &population, &draw, beacon, epoch, &mut random, &mut tally);
        tally.re_entries += as_u64(caught.len());
        population.re_enter(&caught);
        let report = report(question, &population, &tally);
        let is_over = match question.until {
            Until::Answers(answers) => tally.cheats >= answers,
            Until::Error { answers_max, .. } => report.is_precise || tally.cheats >= answers_max,
        };
        if is_over {
            return Ok(report);
        }
    }
    unreachable!("epochs do not end before 2^64 of them")
}

/// One epoch: cheaters and honest nodes answer in turn, one by one. Returns the places of the cheaters that were caught.
fn play(
    question: &Question,
    population: &Population,
    draw: &impl DrawFn,
    beacon: Hash32,
    epoch: u64,
    random: &mut Random,
    tally: &mut Tally,
) -> BTreeSet<usize> {
    let rule = question.rule();
    let is_colluder = |checker: &Address| population.colluders.binary_search(checker).is_ok();
    let cheaters = population.stakes[..population.cheaters].iter().enumerate();
    let turns = cheaters.cycle().zip(population.honest.iter().cycle());
    // Every cheater answers equally often, so that the closed form's plain mean over them is the right one.
    let rounds = ANSWERS_PER_LOOK.div_ceil(as_u64(population.cheaters)) * as_u64(population.cheaters);
    let mut caught = BTreeSet::new();
    for (_, ((place, (cheater, _)), honest)) in (0..rounds).zip(turns) {
        tally.cheats += 1;
        if let Draw::Checkers(checkers) = draw(beacon, epoch, Hash32(random.bytes()), rule, &population.operators, *cheater) {
            let colluding = checkers.iter().filter(|checker| is_colluder(checker)).count();
            tally.checkers += as_u64(checkers.len());
            tally.colluding += as_u64(colluding);
            if colluding < checkers.len() {
                tally.caught += 1;
                caught.insert(place);
            }
        }
        tally.honest += 1;
        if let Draw::Checkers(checkers) = draw(beacon, epoch, Hash32(random.bytes()), rule, &population.operators, *honest) {
            // Whoever re-executes an honest answer agrees: punished would be only a node that had to check itself.
            tally.punished += u64::from(checkers.contains(honest));
        }
    }
    caught
}

fn report(question: &Question, population: &Population, tally: &Tally) -> Report {
    let (r, g, s) = (question.reward, question.gain, question.slash);
    let p = f64::from(rate(question.p)) / 4_294_967_296.0;
    let mean = |figure: &dyn Fn(f64) -> f64| population.colluding_shares().map(figure).sum::<f64>() / as_f64(as_u64(population.cheaters));
    let q = mean(&|share| p * (1.0 - share.powi(question.m.into())));
    let (caught, caught_error) = proportion(tally.caught, tally.cheats);
    let (punished, punished_error) = proportion(tally.punished, tally.honest);
    let (colluding, colluding_error) = proportion(tally.colluding, tally.checkers);
    let stake = r + g + s;
    let figures = vec![
        Figure::new("honest gain per answer", r - punished * (r + s), r, punished_error * (r + s), g),
        Figure::new("cheating gain over honest play", g - caught * stake, g - q * stake, caught_error * stake, g),
        Figure::new("cheats caught", caught, q, caught_error, 0.0),
        Figure::new(
            "colluders among their checkers",
            colluding,
            if tally.cheats > 0 && question.m > 0 && p > 0.0 { mean(&|share| share) } else { 0.0 },
            colluding_error,
            0.0,
        ),
    ];
    let is_precise = match question.until {
        Until::Answers(_) => true,
        Until::Error { share, .. } => figures[..2].iter().all(|figure| figure.relative_error <= share) && tally.caught > 0,
    };
    Report {
        question: question.clone(),
        cheating_nodes: population.cheaters,
        colluding_nodes: population.colluders.len(),
        answers: tally.cheats,
        re_entries: tally.re_entries,
        is_precise,
        honesty_pays: q * stake > g,
        figures,
    }
}

/// Share and its standard error; nothing tried gives zero both times.
fn proportion(hits: u64, tries: u64) -> (f64, f64) {
    let tries = as_f64(tries.max(1));
    let share = as_f64(hits) / tries;
    (share, (share * (1.0 - share) / tries).sqrt())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let q = &self.question;
        writeln!(
            f,
            "sampling: {} nodes, {} cheating, {} colluding, p {}, m {}, stake ratio {}, seed {}",
            q.nodes, self.cheating_nodes, self.colluding_nodes, q.p, q.m, q.stake_ratio, q.seed
        )?;
        writeln!(
            f,
            "R {}, G {}, S {}; {} cheating answers and as many honest ones; caught nodes came back {} times",
            q.reward, q.gain, q.slash, self.answers, self.re_entries
        )?;
        writeln!(f, "{:<32}{:>12}{:>13}{:>16}{:>9}{:>12}", "", "measured", "closed form", "standard error", "", "off by")?;
        for figure in &self.figures {
            let off = (figure.measured - figure.closed_form).abs() / figure.standard_error.max(f64::MIN_POSITIVE);
            let verdict = if figure.agrees() { "" } else { "  DIFFERS" };
            let off = if figure.standard_error > 0.0 {
                format!("{off:.1} s.e.")
            } else if figure.agrees() {
                "nothing".to_owned()
            } else {
                "all".to_owned()
            };
            writeln!(
                f,
                "{:<32}{:>12.6}{:>13.6}{:>16.6}{:>8.2}%{:>12}{verdict}",
                figure.name,
                figure.measured,
                figure.closed_form,
                figure.standard_error,
                100.0 * figure.relative_error,
                off
            )?;
        }
        writeln!(f, "by the closed form {}", if self.honesty_pays { "honest play dominates" } else { "cheating pays" })
    }
}

fn account(number: u64) -> Address {
    let mut bytes = [0; 20];
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    Address(bytes)
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).expect("a count in memory fits 64 bits")
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^53, in an estimate")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "a ratio of stakes, in an estimate")]
fn share_of(part: u128, whole: u128) -> f64 {
    part as f64 / whole as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "stakes are between 1e18 and 1e27 wei")]
fn whole_wei(wei: f64) -> u128 {
    wei as u128
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of at most a million nodes")]
fn rounded(nodes: f64) -> usize {
    nodes.round() as usize
}

/// p as the draw takes it: a numerator over 2^32.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "p is from 0 to below 1; the cast saturates")]
fn rate(p: f64) -> u32 {
    (p * 4_294_967_296.0).round() as u32
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use attribution::check::draw;

    use super::*;

    /// Small enough for a test, with enough checks that each mutation shows: its standard errors are printed on failure.
    fn question(seed: u64) -> Question {
        Question {
            nodes: 200,
            cheaters: 0.1,
            colluding: 0.2,
            p: 0.2,
            m: 2,
            stake_ratio: 1_000.0,
            reward: 1.0,
            gain: 1.0,
            slash: 20.0,
            seed,
            until: Until::Answers(150_000),
        }
    }

    #[test]
    fn the_production_draw_gives_what_the_closed_form_says() {
        for seed in [7, 8, 9] {
            let report = run(&question(seed), draw).unwrap();
            assert!(report.agrees(), "{report}");
            assert!(report.figures[1].relative_error < 0.01 && report.honesty_pays, "{report}");
        }
    }

    #[test]
    fn without_checkers_the_figures_differ() {
        let report = run(&question(7), |beacon, epoch, receipt, rule, operators: &Operators, node| {
            draw(beacon, epoch, receipt, DrawRule { checkers: 0, ..rule }, operators, node)
        })
        .unwrap();
        assert!(!report.figures[1].agrees(), "{report}");
        assert!(!report.agrees());
    }

    #[test]
    fn a_draw_that_ignores_stake_differs() {
        let population = Population::new(&question(7), &mut Random::new(7)).unwrap();
        let equal: Vec<_> = population.stakes.iter().map(|(account, _)| (*account, 1)).collect();
        let equal = Operators::new(&equal).unwrap();
        let report =
            run(&question(7), |beacon, epoch, receipt, rule, _: &Operators, node| draw(beacon, epoch, receipt, rule, &equal, node))
                .unwrap();
        assert!(!report.agrees(), "{report}");
        assert!(!report.figures[3].agrees(), "{report}");
    }

    #[test]
    fn a_draw_that_lets_a_node_check_itself_or_draws_half_as_often_differs() {
        let stranger = account(u64::MAX);
        let report = run(&question(7), |beacon, epoch, receipt, rule, operators: &Operators, _| {
            draw(beacon, epoch, receipt, rule, operators, stranger)
        })
        .unwrap();
        assert!(!report.figures[0].agrees(), "{report}");
        let report = run(&question(7), |beacon, epoch, receipt, rule, operators: &Operators, node| {
            draw(beacon, epoch, receipt, DrawRule { rate: rule.rate / 2, ..rule }, operators, node)
        })
        .unwrap();
        assert!(!report.figures[1].agrees(), "{report}");
    }

    #[test]
    fn a_caught_node_re_enters_under_a_new_account_with_the_stake_it_lost() {
        let (answering, totals) = (RefCell::new(BTreeSet::new()), RefCell::new(BTreeSet::new()));
        let report = run(&question(7), |beacon, epoch, receipt, rule, operators: &Operators, node| {
            answering.borrow_mut().insert(node);
            totals.borrow_mut().insert((operators.len(), operators.total()));
            draw(beacon, epoch, receipt, rule, operators, node)
        })
        .unwrap();
        assert_eq!(totals.borrow().len(), 1, "nodes and stake are the same in every epoch");
        let honest = report.question.nodes - report.cheating_nodes - report.colluding_nodes;
        let seen = answering.borrow().len() - honest;
        let last_epoch = seen - report.cheating_nodes;
        assert!(last_epoch > 0 && as_u64(last_epoch) <= report.re_entries, "{seen} accounts cheated, {report}");
        assert!(report.re_entries <= as_u64(last_epoch + report.cheating_nodes), "all but the last epoch's came back to answer");
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
        let bytes =
            |seed| serde_json::to_string(&run(&Question { until: Until::Answers(20_000), ..question(seed) }, draw).unwrap()).unwrap();
        assert_eq!(bytes(7), bytes(7));
        assert_ne!(bytes(7), bytes(8));
    }

    #[test]
    fn answers_are_played_until_the_error_is_small_enough() {
        let until = Until::Error { share: 0.02, answers_max: 1_000_000 };
        let report = run(&Question { until, ..question(7) }, draw).unwrap();
        assert!(report.is_precise && report.figures[..2].iter().all(|figure| figure.relative_error <= 0.02), "{report}");
        let hopeless = Until::Error { share: 1e-9, answers_max: 10_000 };
        assert!(!run(&Question { until: hopeless, ..question(7) }, draw).unwrap().is_precise);
    }

    #[test]
    fn impossible_questions_are_refused_by_name() {
        let refuse = |change: &dyn Fn(&mut Question)| {
            let mut question = question(7);
            change(&mut question);
            run(&question, draw).unwrap_err().to_string()
        };
        assert!(refuse(&|q| q.cheaters = 1.5).starts_with("cheaters is 1.5"));
        assert!(refuse(&|q| q.p = f64::NAN).starts_with("p is NaN"));
        assert!(refuse(&|q| q.stake_ratio = 0.5).starts_with("stake ratio is 0.5"));
        assert!(refuse(&|q| (q.cheaters, q.colluding) = (0.5, 0.5)).starts_with("100 cheating and 100 colluding of 200 nodes"));
        assert!(refuse(&|q| q.cheaters = 0.0).starts_with("0 cheating"));
        assert!(refuse(&|q| q.nodes = 0).starts_with("0 cheating"));
    }
}
