//! Do objects outlive the loss of operators and subnets, partitions, and churn?
//!
//! The production cores of placement and repair run in every operator ([`net`]), over real fragments of small objects that take as long to move as those of
//! 64 MiB. Five questions, each of a fresh network: some operators die at once; the subnets die that hold most of an object; a part of 40 % is cut off for twelve hours; a fifth is
//! off while objects are read; operators live some days and are replaced. The repair time that churn shows is put into the closed form ([`model`]), which says how many
//! nines a year has; simulating a loss of 10^-19 is beyond anybody's patience.
//!
//! A step looks at 48 fragments of every object at every of its holders: 100 objects are 230,000 looks.

pub mod model;
pub mod net;

use std::fmt;

use serde::Serialize;
use storage::proto::repair::{COORDINATORS, floor};

use self::{
    model::{Chain, read_nines},
    net::{Net, Tally},
};

/// Minutes between two looks where losses come all at once.
const STEP_MS: u64 = 10 * 60 * 1_000;
/// Where they come one by one.
const CHURN_STEP_MS: u64 = 30 * 60 * 1_000;
/// After so long everything that can be mended is: silence of four hours, and work.
const CALM_H: f64 = 18.0;

/// What is asked.
#[derive(Debug, Clone, Serialize)]
pub struct Question {
    /// Operators.
    pub operators: u64,
    /// Subnets they are spread over.
    pub subnets: u64,
    /// Objects.
    pub objects: u64,
    /// Operators that die at once.
    pub dying: usize,
    /// Reads while a fifth of the operators is off.
    pub reads: u64,
    /// Mean life of an operator under churn, in days.
    pub life_days: f64,
    /// Days of churn.
    pub churn_days: f64,
    /// Objects under churn.
    pub churn_objects: u64,
    /// Fixes everything.
    pub seed: u64,
}

/// A number outside its range.
#[derive(Debug, Clone, PartialEq)]
pub struct QuestionError {
    what: &'static str,
    got: f64,
    expected: &'static str,
}

impl fmt::Display for QuestionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, expected {}", self.what, self.got, self.expected)
    }
}

impl std::error::Error for QuestionError {}

/// Losses that came all at once, and what repair made of them.
#[derive(Debug, Clone, Serialize)]
pub struct Losses {
    /// What happened.
    pub what: &'static str,
    /// Operators that died or were cut off.
    pub operators: u64,
    /// Objects below their floor right afterwards.
    pub below: usize,
    /// Fewest fragments left of any object then.
    pub least: usize,
    /// Of those below, with all fragments at the end.
    pub restored: usize,
    /// Fewest fragments left of any object at the end.
    pub least_after: usize,
    /// Pieces of work.
    pub works: u64,
    /// Of them begun while another's for the same fragment ran.
    pub doubled: u64,
    /// Most operators that took over one fragment for one loss.
    pub same_moves_max: u64,
    /// Gigabytes read and written.
    pub gigabytes: f64,
    /// From below the floor to mended, at most; nothing: no object was below.
    pub slowest_h: Option<f64>,
}

/// Churn, and the closed form beside it.
#[derive(Debug, Clone, Serialize)]
pub struct Churn {
    /// Operators that died and were replaced.
    pub deaths: u64,
    /// Objects lost.
    pub lost: u64,
    /// Repairs from below the floor.
    pub repairs: usize,
    /// Their mean, in hours.
    pub repair_h: f64,
    /// Repairs per object and year.
    pub repairs_per_year: f64,
    /// What the closed form expects of that, with this repair time.
    pub expected_per_year: f64,
    /// Nines a year by the closed form, with the measured repair time.
    pub nines: f64,
    /// The same with the 24 hours of the published table.
    pub nines_at_24_h: f64,
}

/// Reads with a fifth of the operators off.
#[derive(Debug, Clone, Serialize)]
pub struct Reads {
    /// Reads tried.
    pub tried: u64,
    /// Objects that came back, decoded and hashed.
    pub good: u64,
    /// Nines of a read by the closed form.
    pub nines: f64,
}

/// The answer.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The question.
    pub question: Question,
    /// Fragments that suffice, fragments, floor.
    pub code: (u8, u8, u8),
    /// Operators die; subnets die; a part is cut off and comes back.
    pub losses: Vec<Losses>,
    /// Reads.
    pub reads: Reads,
    /// Churn.
    pub churn: Churn,
    /// What is not as it must be.
    pub failures: Vec<String>,
}

impl Question {
    fn check(&self) -> Result<(), QuestionError> {
        let within = |what, got: f64, ok: bool, expected| if ok { Ok(()) } else { Err(QuestionError { what, got, expected }) };
        within("operators", as_f64(self.operators), (96..=5_000).contains(&self.operators), "96 to 5000")?;
        within("subnets", as_f64(self.subnets), (48..=self.operators).contains(&self.subnets), "48 to as many as operators")?;
        within("objects", as_f64(self.objects), (1..=10_000).contains(&self.objects), "1 to 10000")?;
        within("dying", as_f64(count(self.dying)), count(self.dying) < self.operators, "fewer than the operators")?;
        within("life", self.life_days, (1.0..=10_000.0).contains(&self.life_days), "1 to 10000 days")?;
        within("churn", self.churn_days, (0.0..=10_000.0).contains(&self.churn_days), "0 to 10000 days")?;
        within("objects under churn", as_f64(self.churn_objects), (1..=10_000).contains(&self.churn_objects), "1 to 10000")
    }

    fn net(&self, objects: u64, step_ms: u64, which: u64) -> Net {
        Net::new(self.operators, self.subnets, objects, step_ms, self.seed.wrapping_mul(8).wrapping_add(which))
    }
}

/// Asks all five.
///
/// # Errors
/// [`QuestionError`].
pub fn run(question: &Question) -> Result<Report, QuestionError> {
    question.check()?;
    let profile = question.net(1, STEP_MS, 0).profile();
    let (code, mut failures) = ((profile.data(), profile.total(), floor(profile)), Vec::new());
    let losses = vec![
        at_once(question, code, ("operators die", 1), &mut failures, |net| net.draw(question.dying)),
        // At most two of n fragments in each: even the worst leave k.
        at_once(question, code, ("subnets die", 2), &mut failures, |net| net.worst_subnets(usize::from((code.1 - code.0) / 2))),
        partition(question, code, &mut failures),
    ];
    let reads = reads(question, code, &mut failures);
    let churn = churn(question, code, &mut failures);
    Ok(Report { question: question.clone(), code, losses, reads, churn, failures })
}

fn at_once(
    question: &Question,
    code: (u8, u8, u8),
    (what, which): (&'static str, u64),
    failures: &mut Vec<String>,
    draw: impl Fn(&mut Net) -> Vec<types::id::Address>,
) -> Losses {
    let mut net = question.net(question.objects, STEP_MS, which);
    let dying = draw(&mut net);
    net.kill(&dying);
    let before = net.lefts();
    net.run(CALM_H);
    let after = net.lefts();
    for (object, (before, after)) in before.iter().zip(&after).enumerate() {
        let is_right = if *before < usize::from(code.0) {
            true
        } else if *before < usize::from(code.2) {
            *after == usize::from(code.1)
        } else {
            after == before
        };
        if !is_right {
            failures.push(format!("{what}: object {object} had {before} fragments left and has {after}"));
        }
    }
    let report = losses(what, count(dying.len()), code, &before, &after, &net.tally);
    if net.tally.lost > 0 || report.doubled > 0 || !net.agrees() {
        failures.push(format!(
            "{what}: {} objects lost, {} pieces of work doubled, holders agree: {}",
            net.tally.lost,
            report.doubled,
            net.agrees()
        ));
    }
    report
}

fn partition(question: &Question, code: (u8, u8, u8), failures: &mut Vec<String>) -> Losses {
    let mut net = question.net(question.objects, STEP_MS, 3);
    let away = net.draw(usize::try_from(question.operators * 2 / 5).expect("operators are few"));
    net.cut(&away);
    // As the larger side sees it; all fragments are still on disks.
    let before = net.seen_without(&away);
    net.run(12.0);
    let after = net.seen_without(&away);
    let works = net.tally.works;
    net.cut(&[]);
    net.run(CALM_H);
    let report = losses("40 % are cut off for 12 h", count(away.len()), code, &before, &after, &net.tally);
    let bound = count(COORDINATORS);
    let is_restored = report.below > 0 && report.restored == report.below;
    let is_calm = net.tally.works == works && report.same_moves_max <= bound && net.agrees() && net.tally.lost == 0;
    if !(is_restored && is_calm) {
        failures.push(format!(
            "partition: {} of {} restored; {works} pieces of work before the cut healed, {} in all; one fragment moved {} times for one loss, at most {bound}; holders agree: {}",
            report.restored, report.below, net.tally.works, report.same_moves_max, net.agrees()
        ));
    }
    report
}

fn losses(what: &'static str, operators: u64, code: (u8, u8, u8), before: &[usize], after: &[usize], tally: &Tally) -> Losses {
    let is_below = |left: &usize| *left < usize::from(code.2);
    Losses {
        what,
        operators,
        below: before.iter().filter(|left| is_below(left)).count(),
        least: before.iter().copied().min().unwrap_or_default(),
        restored: before.iter().zip(after).filter(|(before, after)| is_below(before) && **after == usize::from(code.1)).count(),
        least_after: after.iter().copied().min().unwrap_or_default(),
        works: tally.works,
        doubled: tally.doubled,
        same_moves_max: tally.same_moves_max,
        gigabytes: as_f64(tally.bytes) / 1e9,
        slowest_h: tally.repair_h.iter().copied().reduce(f64::max),
    }
}

fn reads(question: &Question, code: (u8, u8, u8), failures: &mut Vec<String>) -> Reads {
    let (mut good, rounds) = (0, 20);
    let mut net = question.net(question.objects, STEP_MS, 4);
    for round in 0..rounds {
        let off = net.draw(usize::try_from(question.operators / 5).expect("operators are few"));
        net.kill(&off);
        let share = question.reads * (round + 1) / rounds - question.reads * round / rounds;
        good += count((0..share).filter(|_| net.read_one()).count());
        net.revive(&off);
    }
    if good < question.reads {
        failures.push(format!("reads: {good} of {} came back", question.reads));
    }
    Reads { tried: question.reads, good, nines: read_nines(code.0, code.1, 0.2) }
}

fn churn(question: &Question, code: (u8, u8, u8), failures: &mut Vec<String>) -> Churn {
    let mut net = question.net(question.churn_objects, CHURN_STEP_MS, 5);
    let (end_h, life_h) = (question.churn_days * 24.0, question.life_days * 24.0);
    let mut death_h = net.next_death_h(life_h);
    while death_h < end_h {
        let now_h = net.now_h();
        net.run((death_h - now_h).max(0.0));
        let dying = net.draw(1);
        dying.into_iter().for_each(|operator| net.replace(operator));
        death_h += net.next_death_h(life_h);
    }
    net.run((end_h - net.now_h()).max(0.0));
    let tally = &net.tally;
    let repairs = tally.repair_h.len();
    let repair_h = tally.repair_h.iter().sum::<f64>() / as_f64(count(repairs).max(1));
    // Work begins below the floor, so the chain's last state without it is the floor itself.
    let chain = |repair_h| Chain { data: code.0, total: code.1, due: code.2 - 1, life_h, repair_h };
    if tally.lost > 0 {
        failures.push(format!("churn: {} objects lost", tally.lost));
    }
    if !net.agrees() {
        failures.push("churn: holders do not agree on who they are".to_owned());
    }
    let measured = chain(repair_h.max(0.1));
    let years = as_f64(question.churn_objects) * question.churn_days / 365.0;
    Churn {
        deaths: tally.deaths,
        lost: tally.lost,
        repairs,
        repair_h,
        repairs_per_year: as_f64(count(repairs)) / years,
        expected_per_year: 365.0 * 24.0 / measured.cycle_h(),
        nines: measured.nines(),
        nines_at_24_h: chain(24.0).nines(),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (q, (data, total, floor)) = (&self.question, self.code);
        writeln!(
            f,
            "durability: {} operators in {} subnets, {} objects at {data} of {total}, mended below {floor}, seed {}",
            q.operators, q.subnets, q.objects, q.seed
        )?;
        writeln!(
            f,
            "{:<28}{:>10}{:>7}{:>7}{:>10}{:>13}{:>7}{:>9}{:>11}{:>11}",
            "", "operators", "below", "least", "restored", "least after", "works", "doubled", "gigabytes", "slowest"
        )?;
        for losses in &self.losses {
            let slowest = losses.slowest_h.map_or_else(|| "-".to_owned(), |hours| format!("{hours:.1} h"));
            writeln!(
                f,
                "{:<28}{:>10}{:>7}{:>7}{:>10}{:>13}{:>7}{:>9}{:>11.1}{slowest:>11}",
                losses.what,
                losses.operators,
                losses.below,
                losses.least,
                losses.restored,
                losses.least_after,
                losses.works,
                losses.doubled,
                losses.gigabytes
            )?;
        }
        let (reads, churn) = (&self.reads, &self.churn);
        writeln!(f, "a fifth off: {} of {} reads, {:.1} nines by the closed form", reads.good, reads.tried, reads.nines)?;
        writeln!(
            f,
            "{} days of churn, life {} days: {} operators replaced, {} objects lost, {} repairs of {:.2} h on average",
            q.churn_days, q.life_days, churn.deaths, churn.lost, churn.repairs, churn.repair_h
        )?;
        writeln!(f, "repairs per object and year: {:.2}, {:.2} by the closed form", churn.repairs_per_year, churn.expected_per_year)?;
        writeln!(f, "a year by the closed form: {:.1} nines with this repair time, {:.1} with 24 h", churn.nines, churn.nines_at_24_h)?;
        writeln!(f, "{}", if self.failures.is_empty() { "all as it must be" } else { "NOT as it must be" })
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).expect("a count in memory fits 64 bits")
}

#[expect(clippy::cast_precision_loss, reason = "counts and bytes below 2^53, in an estimate")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(seed: u64) -> Question {
        Question {
            operators: 150,
            subnets: 75,
            objects: 30,
            dying: 50,
            reads: 500,
            life_days: 90.0,
            churn_days: 90.0,
            churn_objects: 4,
            seed,
        }
    }

    #[test]
    fn fifty_of_150_die_and_all_that_fell_below_the_floor_comes_back_to_all() {
        let report = run(&question(7)).unwrap();
        assert!(report.failures.is_empty(), "{report}{:?}", report.failures);
        assert_eq!(report.code, (16, 48, 32));
        let died = &report.losses[0];
        // 16 of 48 are lost on average: about half of the objects fall below 32.
        assert!(died.below > 5 && died.below < 25 && died.restored == died.below, "{report}");
        assert!(died.least_after >= 32 && died.works == count(died.below), "each is mended once: {report}");
        let subnets = &report.losses[1];
        assert!(subnets.least >= 16 && subnets.restored == subnets.below && subnets.below > 0, "{report}");
        assert_eq!(report.reads.good, 500);
        // Four hours of silence before a repair, and the next look.
        assert!(report.churn.repairs > 0 && (4.0..6.0).contains(&report.churn.repair_h), "{report}");
        assert!(report.churn.nines >= 11.0, "{report}");
        let ratio = report.churn.repairs_per_year / report.churn.expected_per_year;
        assert!((0.5..2.0).contains(&ratio), "{report}");
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
        let small = |seed| Question { objects: 2, reads: 20, churn_days: 2.0, churn_objects: 1, ..question(seed) };
        let bytes = |seed| serde_json::to_string(&run(&small(seed)).unwrap()).unwrap();
        assert_eq!(bytes(7), bytes(7));
        assert_ne!(bytes(7), bytes(8));
    }

    #[test]
    fn impossible_questions_are_refused_by_name() {
        let refuse = |change: &dyn Fn(&mut Question)| {
            let mut question = question(7);
            change(&mut question);
            run(&question).unwrap_err().to_string()
        };
        assert_eq!(refuse(&|q| q.operators = 95), "operators is 95, expected 96 to 5000");
        assert!(refuse(&|q| q.subnets = 40).starts_with("subnets is 40"));
        assert!(refuse(&|q| q.life_days = 0.0).starts_with("life is 0"));
        assert!(refuse(&|q| q.dying = 150).starts_with("dying is 150"));
    }
}
