//! Do objects outlive the loss of operators and subnets, slow disks, partitions, and churn?
//!
//! The production cores of placement and repair run in every operator ([`net`]), over real fragments of small objects that take as long to move as those of
//! 64 MiB. Each question has a fresh network. Losses all at once: operators; a third of the subnets; the subnets that hold most of an object; a hosting centre with a third
//! of all operators in one subnet; operators among which some are up to a hundred times slower. Cuts that heal: of two and a half days, and of more than three, after which both
//! sides mend. Reads through the core of fetching (`reads.rs`). Churn (`churn.rs`), whose repair time is put into the closed form ([`model`]), which says how many
//! nines a year has; simulating a loss of 10^-20 is beyond anybody's patience.

pub mod churn;
pub mod model;
pub mod net;
pub mod reads;

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use storage::proto::repair::{COORDINATORS, floor};
use types::id::Address;

use self::{
    churn::Churn,
    model::below,
    net::{Net, Tally, World},
    reads::{Reads, reads},
};

/// Minutes between two looks where losses come all at once.
const STEP_MS: u64 = 10 * 60 * 1_000;
/// Where they come one by one.
const CHURN_STEP_MIN: u64 = 30;
/// After so long everything that can be mended is: silence of four hours, and three epochs of a day, should all coordinators be lost or too slow.
const CALM_H: f64 = 80.0;
/// Hours of a cut in which the larger side mends alone (coordinators are drawn thrice, should all of a day be on the other side), and of one in which both do.
const CUTS_H: [f64; 2] = [60.0, 80.0];

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
    /// Of a hundred operators so many lie to readers.
    pub lying_percent: u64,
    /// Of a hundred operators so many are slow, to readers, under churn, and in the question of slow ones.
    pub slow_percent: u64,
    /// Up to so many times slower than others.
    pub slow_times: u64,
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

fn within(what: &'static str, got: f64, ok: bool, expected: &'static str) -> Result<(), QuestionError> {
    if ok { Ok(()) } else { Err(QuestionError { what, got, expected }) }
}

/// Losses that came all at once, and what repair made of them.
#[derive(Debug, Clone, Serialize)]
pub struct Losses {
    /// What happened.
    pub what: &'static str,
    /// Operators that died or were cut off.
    pub operators: u64,
    /// How many objects had how many fragments left right afterwards.
    pub survivors: BTreeMap<usize, u64>,
    /// Objects below their floor then.
    pub below: usize,
    /// Their share if operators died one by one, by the closed form.
    pub below_expected: Option<f64>,
    /// Fewest fragments left of any object then.
    pub least: usize,
    /// Of those below, with all fragments at the end.
    pub restored: usize,
    /// Fewest fragments left of any object at the end.
    pub least_after: usize,
    /// Pieces of work.
    pub works: u64,
    /// Of them those by which nothing stood.
    pub in_vain: u64,
    /// Of them begun while another's for the same fragment ran.
    pub doubled: u64,
    /// Most operators that took over one fragment for one loss.
    pub same_moves_max: u64,
    /// Gigabytes read and written.
    pub gigabytes: f64,
    /// From below the floor to mended, at most; nothing: no object was below.
    pub slowest_h: Option<f64>,
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
        within("operators", as_f64(self.operators), (96..=5_000).contains(&self.operators), "96 to 5000")?;
        within("subnets", as_f64(self.subnets), (48..=self.operators).contains(&self.subnets), "48 to as many as operators")?;
        within("objects", as_f64(self.objects), (1..=10_000).contains(&self.objects), "1 to 10000")?;
        within("dying", as_f64(count(self.dying)), count(self.dying) < self.operators, "fewer than the operators")?;
        within("lying", as_f64(self.lying_percent), self.lying_percent <= 20, "at most 20 of 100")?;
        self.churn().check()
    }

    fn world(&self, which: u64) -> World {
        World {
            operators: self.operators,
            subnets: self.subnets,
            crowd: 0,
            objects: self.objects,
            slow_percent: 0,
            slow_times: self.slow_times,
            step_ms: STEP_MS,
            seed: self.seed.wrapping_mul(16).wrapping_add(which),
        }
    }

    fn slow_world(&self, which: u64) -> World {
        World { slow_percent: self.slow_percent, ..self.world(which) }
    }

    fn churn(&self) -> churn::Question {
        churn::Question {
            operators: self.operators,
            subnets: self.subnets,
            objects: self.churn_objects,
            slow_percent: self.slow_percent,
            slow_times: self.slow_times,
            life_days: self.life_days,
            days: self.churn_days,
            step_min: CHURN_STEP_MIN,
            seed: self.seed.wrapping_mul(16).wrapping_add(15),
        }
    }
}

/// Asks all.
///
/// # Errors
/// [`QuestionError`].
pub fn run(question: &Question) -> Result<Report, QuestionError> {
    question.check()?;
    let profile = Net::new(&World { objects: 1, ..question.world(0) }).profile();
    let code = (profile.data(), profile.total(), floor(profile));
    let mut asked = Asked { code, operators: question.operators, failures: Vec::new() };
    let third = usize::try_from(question.subnets / 3).expect("subnets are few");
    // At most two of n fragments in each: even the worst leave k.
    let worst = usize::from((code.1 - code.0) / 2);
    let centre = World { crowd: question.operators / 3, ..question.world(4) };
    let losses = vec![
        asked.at_once("operators die", &question.world(1), |net| net.draw(question.dying)),
        asked.at_once("a third of the subnets die", &question.world(2), |net| net.draw_subnets(third)),
        asked.at_once("the worst subnets of one die", &question.world(3), |net| net.worst_subnets(worst)),
        asked.hosting_centre(&centre),
        asked.at_once("operators die, some are slow", &question.slow_world(5), |net| net.draw(question.dying)),
        asked.partition("40 % are cut off for 60 h", &question.world(6), CUTS_H[0]),
        asked.partition("40 % are cut off for 80 h", &question.world(7), CUTS_H[1]),
    ];
    let reads = reads(&question.slow_world(8), question.reads, question.lying_percent);
    asked.fail(reads.good < reads.tried || reads.wronged > 0, || {
        format!("reads: {} of {} came back, {} honest holders blamed", reads.good, reads.tried, reads.wronged)
    });
    let churn = churn::run(&question.churn())?;
    let failures = asked.failures.into_iter().chain(churn.failures.iter().cloned()).collect();
    Ok(Report { question: question.clone(), code, losses, reads, churn, failures })
}

/// What is asked of each network, and what was not as it must be so far.
struct Asked {
    code: (u8, u8, u8),
    operators: u64,
    failures: Vec<String>,
}

impl Asked {
    fn fail(&mut self, is_wrong: bool, what: impl FnOnce() -> String) {
        if is_wrong {
            self.failures.push(what());
        }
    }

    /// Some die at once: what falls below its floor comes back to all, and nothing else is touched.
    fn at_once(&mut self, what: &'static str, world: &World, draw: impl Fn(&mut Net) -> Vec<Address>) -> Losses {
        let mut net = Net::new(world);
        let dying = draw(&mut net);
        net.kill(&dying);
        let before = net.lefts();
        net.run(CALM_H);
        let after = net.lefts();
        let (data, total, floor) = (usize::from(self.code.0), usize::from(self.code.1), usize::from(self.code.2));
        for (object, (before, after)) in before.iter().zip(&after).enumerate() {
            let expected = if (data..floor).contains(before) { total } else { *before };
            self.fail(*after != expected, || {
                format!("{what}: object {object} had {before} fragments left and has {after}, expected {expected}")
            });
        }
        let report = self.losses(what, dying.len(), &before, &after, &net.tally);
        let Tally { lost, needless, over_budget, .. } = net.tally;
        self.fail(lost + report.doubled + needless + over_budget > 0 || !net.agrees(), || {
            format!(
                "{what}: {lost} objects lost, {} pieces of work doubled, {needless} fragments taken from those that had them, {over_budget} bytes above the budget, holders agree: {}",
                report.doubled,
                net.agrees()
            )
        });
        report
    }

    /// Whatever stands in one subnet holds at most two of an object's fragments.
    fn hosting_centre(&mut self, world: &World) -> Losses {
        let what = "a hosting centre dies";
        let losses = self.at_once(what, world, |net| net.largest_subnet());
        let least = usize::from(self.code.1 - storage::proto::placement::SUBNET_MAX);
        self.fail(losses.least < least, || format!("{what}: {} fragments left of an object, expected {least} at least", losses.least));
        losses
    }

    /// A part is cut off and comes back: everybody names the same holders, each has its fragment, and nobody else has.
    fn partition(&mut self, what: &'static str, world: &World, hours: f64) -> Losses {
        let mut net = Net::new(world);
        let away = net.draw(usize::try_from(self.operators * 2 / 5).expect("operators are few"));
        net.cut(&away);
        // As the larger side sees it; all fragments are still on disks.
        let before = net.seen_without(&away);
        net.run(hours);
        let after = net.seen_without(&away);
        let works = net.tally.works;
        net.cut(&[]);
        net.run(CALM_H);
        net.release_surplus();
        let report = self.losses(what, away.len(), &before, &after, &net.tally);
        let (bound, (handed_on, generation)) = (count(COORDINATORS), net.handed_on());
        let is_restored = report.below > 0 && report.restored == report.below;
        let is_calm = net.tally.works == works && report.same_moves_max <= bound && net.tally.lost + net.tally.needless == 0;
        // What one side handed on while the other could not hear it stands, once.
        let is_one = net.duplicates() == 0 && net.is_kept() && net.agrees() && generation == 1;
        self.fail(!(is_restored && is_calm && is_one), || {
            format!(
                "{what}: {} of {} restored; {works} pieces of work before the cut healed, {} in all; one fragment moved {} times for one loss, at most {bound}; {handed_on} fragments handed on, up to {generation} times; {} copies too many; holders agree: {}, and have what they should: {}",
                report.restored, report.below, net.tally.works, report.same_moves_max, net.duplicates(), net.agrees(), net.is_kept()
            )
        });
        report
    }

    fn losses(&self, what: &'static str, operators: usize, before: &[usize], after: &[usize], tally: &Tally) -> Losses {
        let (_, total, floor) = self.code;
        let is_below = |left: &usize| *left < usize::from(floor);
        let mut survivors = BTreeMap::<_, u64>::new();
        before.iter().for_each(|left| *survivors.entry(*left).or_default() += 1);
        Losses {
            what,
            operators: count(operators),
            survivors,
            below: before.iter().filter(|left| is_below(left)).count(),
            below_expected: below(total, total - floor, self.operators, count(operators)),
            least: before.iter().copied().min().unwrap_or_default(),
            restored: before.iter().zip(after).filter(|(before, after)| is_below(before) && **after == usize::from(total)).count(),
            least_after: after.iter().copied().min().unwrap_or_default(),
            works: tally.works,
            in_vain: tally.in_vain,
            doubled: tally.doubled,
            same_moves_max: tally.same_moves_max,
            gigabytes: as_f64(tally.bytes) / 1e9,
            slowest_h: tally.repair_h.iter().copied().reduce(f64::max),
        }
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
            "{:<29}{:>9}{:>7}{:>10}{:>7}{:>10}{:>7}{:>7}{:>8}{:>11}{:>9}",
            "", "operators", "below", "expected", "least", "restored", "after", "works", "in vain", "gigabytes", "slowest"
        )?;
        for losses in &self.losses {
            let or_dash = |figure: Option<String>| figure.unwrap_or_else(|| "-".to_owned());
            writeln!(
                f,
                "{:<29}{:>9}{:>7}{:>10}{:>7}{:>10}{:>7}{:>7}{:>8}{:>11.1}{:>9}",
                losses.what,
                losses.operators,
                losses.below,
                or_dash(losses.below_expected.map(|share| format!("{:.1}", share * as_f64(q.objects)))),
                losses.least,
                losses.restored,
                losses.least_after,
                losses.works,
                losses.in_vain,
                losses.gigabytes,
                or_dash(losses.slowest_h.map(|hours| format!("{hours:.1} h")))
            )?;
        }
        writeln!(f, "\nfragments left of how many objects, right afterwards:")?;
        for losses in &self.losses {
            let each: Vec<_> = losses.survivors.iter().map(|(left, objects)| format!("{left}: {objects}")).collect();
            writeln!(f, "{:<29}{}", losses.what, each.join(", "))?;
        }
        let reads = &self.reads;
        writeln!(
            f,
            "\nof {} operators {} off, {} lying, {} slow: {} of {} reads came back, {:.1} nines by the closed form; {} lies shown, {} of them of honest holders",
            q.operators, reads.off, reads.lying, reads.slow, reads.good, reads.tried, reads.nines, reads.blamed, reads.wronged
        )?;
        writeln!(
            f,
            "half of them within {:.1} s, all within {:.1} s, though a slow holder takes up to {:.0} s for a fragment; asked for {:.2} times the bytes needed, {:.2} at most, of which {:.2} and {:.2} came\n",
            reads.median_s, reads.longest_s, reads.slowest_fragment_s, reads.asked_mean, reads.asked_max, reads.came_mean, reads.came_max
        )?;
        write!(f, "{}", self.churn)?;
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
            objects: 40,
            dying: 50,
            reads: 200,
            lying_percent: 5,
            slow_percent: 10,
            slow_times: 100,
            life_days: 90.0,
            churn_days: 60.0,
            churn_objects: 4,
            seed,
        }
    }

    #[test]
    fn whatever_dies_at_once_or_is_cut_off_what_fell_below_the_floor_comes_back_to_all_and_nothing_else_moves() {
        let report = run(&question(7)).unwrap();
        assert!(report.failures.is_empty(), "{report}{:#?}", report.failures);
        assert_eq!(report.code, (16, 48, 32));
        let [died, subnets, worst, centre, slow, short, long] = &report.losses[..] else { panic!("seven questions") };
        // 16 of 48 are lost on average: of 40 objects about 15 fall below 32.
        for third in [died, subnets, slow] {
            assert!(third.operators == 50 && third.below > 6 && third.below < 30 && third.restored == third.below, "{report}");
            assert!(third.least_after >= 32 && third.works - third.in_vain == count(third.below), "each is mended once: {report}");
        }
        assert!(worst.least >= 16 && worst.restored == worst.below && worst.below > 0, "{report}");
        assert!(centre.operators > 50 && centre.least >= 46 && centre.works == 0, "{report}");
        assert!(died.in_vain == 0 && slow.in_vain > 0, "a coordinator on a slow line fails, and leaves its turn: {report}");
        assert!(short.below > 10 && long.below > 10 && long.works > short.works, "after three days both sides mend: {report}");
        assert_eq!((report.reads.good, report.reads.wronged), (200, 0));
        assert!(report.reads.blamed > 0 && report.reads.met_slow > 0, "{report}");
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
        assert!(refuse(&|q| q.slow_times = 9).starts_with("slow times is 9"));
    }
}
