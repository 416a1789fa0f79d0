//! Months of churn in a network of thousands, beside the closed form.
//!
//! Every operator lives an exponential time and is replaced in its subnet; repair is left alone. Counted are repairs, how long each takes, and how many fragments more are
//! lost while one is awaited: that is the chain of [`super::model`], up to the states that a simulation still meets. From there on the closed form goes on alone, with the repair time
//! that was measured; a loss of one object in 10^20 years is beyond anybody's patience.
//!
//! Cost, at 1,000 operators: a death is told to all, 0.2 ms; a look of all, 1 ms; a repair ranks all for each of 17 fragments, 6 ms. Memory: 50 bytes for each pair of
//! operators, 2 kB for each holder of each object; nothing grows with the months but three numbers a repair.

use std::fmt;

use serde::Serialize;
use storage::proto::repair::floor;

use super::{
    QuestionError, as_f64, count,
    model::Chain,
    net::{Net, World},
    within,
};

/// Losses beyond the floor that the table shows; more are counted with the last.
const DEEPER_MAX: u8 = 3;
/// Hours of repair that the published table has.
const TABLE_H: [f64; 3] = [72.0, 24.0, 6.0];

/// What is asked.
#[derive(Debug, Clone, Serialize)]
pub struct Question {
    /// Operators.
    pub operators: u64,
    /// Subnets they are spread over.
    pub subnets: u64,
    /// Objects of 64 MiB.
    pub objects: u64,
    /// Of a hundred operators so many are slow.
    pub slow_percent: u64,
    /// Up to so many times slower than others.
    pub slow_times: u64,
    /// Mean life of an operator, in days.
    pub life_days: f64,
    /// Days.
    pub days: f64,
    /// Between two looks, in minutes.
    pub step_min: u64,
    /// Fixes everything.
    pub seed: u64,
}

/// A share that was simulated and what the closed form says.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Beside {
    /// Simulated.
    pub got: f64,
    /// By the closed form.
    pub expected: f64,
}

/// The answer.
#[derive(Debug, Clone, Serialize)]
pub struct Churn {
    /// The question.
    pub question: Question,
    /// Fragments that suffice, fragments, floor.
    pub code: (u8, u8, u8),
    /// Operators that died and were replaced.
    pub deaths: u64,
    /// Objects lost.
    pub lost: u64,
    /// Repairs from below the floor.
    pub repairs: usize,
    /// How many the closed form expects with this repair time.
    pub repairs_expected: f64,
    /// Their mean time, in hours.
    pub repair_h: f64,
    /// The longest.
    pub repair_h_max: f64,
    /// By how many fragments more were lost meanwhile, the last of all that are more: share of the repairs.
    pub deeper: Vec<Beside>,
    /// Fewest fragments left of any object at any time; all of them: none fell below its floor.
    pub least: usize,
    /// Repairs per object and year.
    pub repairs_per_year: f64,
    /// What the closed form expects of that in the long run, with this repair time.
    pub expected_per_year: f64,
    /// Nines a year by the closed form, with the measured repair time.
    pub nines: f64,
    /// The same with the 24 hours of the published table.
    pub nines_at_24_h: f64,
    /// The same by hours of repair.
    pub nines_by_h: Vec<(f64, f64)>,
    /// Fragments moved away from holders that had them and answered.
    pub needless: u64,
    /// Bytes by which an operator's repair exceeded its budget.
    pub over_budget: u64,
    /// What is not as it must be.
    pub failures: Vec<String>,
}

impl Question {
    pub(super) fn check(&self) -> Result<(), QuestionError> {
        within("operators", as_f64(self.operators), (96..=20_000).contains(&self.operators), "96 to 20000")?;
        within("subnets", as_f64(self.subnets), (48..=self.operators).contains(&self.subnets), "48 to as many as operators")?;
        within("objects under churn", as_f64(self.objects), (1..=20_000).contains(&self.objects), "1 to 20000")?;
        within("slow", as_f64(self.slow_percent), self.slow_percent <= 50, "at most 50 of 100")?;
        within("slow times", as_f64(self.slow_times), (10..=1_000).contains(&self.slow_times), "10 to 1000")?;
        within("life", self.life_days, (1.0..=10_000.0).contains(&self.life_days), "1 to 10000 days")?;
        within("churn", self.days, (1.0..=10_000.0).contains(&self.days), "1 to 10000 days")?;
        within("step", as_f64(self.step_min), (1..=120).contains(&self.step_min), "1 to 120 minutes")
    }

    fn world(&self) -> World {
        World {
            operators: self.operators,
            subnets: self.subnets,
            crowd: 0,
            objects: self.objects,
            slow_percent: self.slow_percent,
            slow_times: self.slow_times,
            step_ms: self.step_min * 60_000,
            seed: self.seed,
        }
    }
}

/// Lets operators come and go.
///
/// # Errors
/// [`QuestionError`].
pub fn run(question: &Question) -> Result<Churn, QuestionError> {
    question.check()?;
    let mut net = Net::new(&question.world());
    let (end_h, life_h) = (question.days * 24.0, question.life_days * 24.0);
    let mut death_h = net.next_death_h(life_h);
    while death_h < end_h {
        net.run((death_h - net.now_h()).max(0.0));
        let dying = net.draw(1);
        dying.into_iter().for_each(|operator| net.replace(operator));
        death_h += net.next_death_h(life_h);
    }
    net.run((end_h - net.now_h()).max(0.0));
    let mut churn = counted(question, &net);
    let mut fail = |is_wrong: bool, what: String| {
        if is_wrong {
            churn.failures.push(format!("churn: {what}"));
        }
    };
    fail(churn.lost > 0, format!("{} objects lost", churn.lost));
    fail(!net.agrees(), "holders do not agree on who they are".to_owned());
    fail(churn.needless > 0, format!("{} fragments taken from holders that had them", churn.needless));
    fail(churn.over_budget > 0, format!("{} bytes above the budget of repair", churn.over_budget));
    Ok(churn)
}

fn counted(question: &Question, net: &Net) -> Churn {
    let (tally, profile) = (&net.tally, net.profile());
    let code = (profile.data(), profile.total(), floor(profile));
    let repairs = tally.repair_h.len();
    let repair_h = tally.repair_h.iter().sum::<f64>() / as_f64(count(repairs).max(1));
    // Work begins below the floor, so the chain's last state without it is the floor itself.
    let chain = |repair_h| Chain { data: code.0, total: code.1, due: code.2 - 1, life_h: question.life_days * 24.0, repair_h };
    let measured = chain(repair_h.max(0.1));
    let deeper = |more: u8| {
        let at = |least: &usize| usize::from(code.2 - 1).saturating_sub(*least);
        let is_it = |(least, _): &(&usize, &u64)| at(least).min(DEEPER_MAX.into()) == usize::from(more);
        let got = tally.least.iter().filter(is_it).map(|(_, times)| *times).sum::<u64>();
        let expected = if more < DEEPER_MAX { measured.deeper(more) } else { measured.at_least_deeper(more) };
        Beside { got: as_f64(got) / as_f64(count(repairs).max(1)), expected }
    };
    let years = as_f64(question.objects) * question.days / 365.0;
    Churn {
        question: question.clone(),
        code,
        deaths: tally.deaths,
        lost: tally.lost,
        repairs,
        repairs_expected: as_f64(question.objects) * measured.repairs(question.days * 24.0),
        repair_h,
        repair_h_max: tally.repair_h.iter().copied().fold(0.0, f64::max),
        deeper: (0..=DEEPER_MAX).map(deeper).collect(),
        least: tally.least.keys().next().copied().unwrap_or_else(|| code.1.into()),
        repairs_per_year: as_f64(count(repairs)) / years,
        expected_per_year: 365.0 * 24.0 / measured.cycle_h(),
        nines: measured.nines(),
        nines_at_24_h: chain(24.0).nines(),
        nines_by_h: TABLE_H.into_iter().map(|hours| (hours, chain(hours).nines())).collect(),
        needless: tally.needless,
        over_budget: tally.over_budget,
        failures: Vec::new(),
    }
}

impl fmt::Display for Churn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (q, (data, total, floor)) = (&self.question, self.code);
        writeln!(
            f,
            "churn: {} days, {} operators in {} subnets that live {} days, {} of 100 up to {} times slower; {} objects at {data} of {total}, mended below {floor}, seed {}",
            q.days, q.operators, q.subnets, q.life_days, q.slow_percent, q.slow_times, q.objects, q.seed
        )?;
        writeln!(f, "{} operators replaced, {} objects lost, fewest fragments left of any: {}", self.deaths, self.lost, self.least)?;
        writeln!(f, "repair takes {:.2} h on average, {:.1} h at most\n", self.repair_h, self.repair_h_max)?;
        writeln!(f, "{:<44}{:>11}{:>13}", "", "simulated", "closed form")?;
        writeln!(f, "{:<44}{:>11}{:>13.0}", "repairs", self.repairs, self.repairs_expected)?;
        for (more, beside) in self.deeper.iter().enumerate() {
            let or_more = if more == usize::from(DEEPER_MAX) { "or more" } else { "more" };
            let what = format!("% of them while {more} {or_more} were lost");
            writeln!(f, "{what:<44}{:>11.2}{:>13.2}", 100.0 * beside.got, 100.0 * beside.expected)?;
        }
        writeln!(f, "\nnines a year by the closed form, by how long repair takes:")?;
        writeln!(f, "{:>8.2} h, as measured {:>22.1}", self.repair_h, self.nines)?;
        self.nines_by_h.iter().try_for_each(|(hours, nines)| writeln!(f, "{hours:>8.0} h {nines:>34.1}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says how many operators the campaign has.
    const OPERATORS: &str = "TRIBUTARY_CHURN_OPERATORS";

    fn question() -> Question {
        Question {
            operators: 1_000,
            subnets: 500,
            objects: 150,
            slow_percent: 5,
            slow_times: 100,
            life_days: 90.0,
            days: 60.0,
            step_min: 30,
            seed: 9,
        }
    }

    #[test]
    fn a_thousand_operators_come_and_go_for_months_and_repair_is_as_often_and_as_deep_as_the_closed_form_says() {
        let campaign = std::env::var(OPERATORS).ok().map(|count| count.parse::<u64>().expect("a number of operators"));
        // As many objects as operators, and twice the time.
        let long = |operators| Question { operators, subnets: operators / 2, objects: operators, days: 120.0, ..question() };
        let churn = run(&campaign.map_or_else(question, long)).unwrap();
        println!("{churn}");
        assert!(churn.failures.is_empty(), "{churn}{:?}", churn.failures);
        assert_eq!((churn.code, churn.lost), ((16, 48, 32), 0), "{churn}");
        let repairs = as_f64(count(churn.repairs));
        // Objects share operators, so counts spread more than independent ones would; five standard errors of those.
        let error = 5.0 * churn.repairs_expected.sqrt() / churn.repairs_expected;
        assert!((repairs / churn.repairs_expected - 1.0).abs() < error.max(0.05), "{churn}");
        // Four hours of silence and the next look; rarely a day, where all three coordinators are among the lost or too slow.
        assert!((4.0..8.0).contains(&churn.repair_h), "{churn}");
        for beside in &churn.deeper {
            let error = 5.0 * (beside.expected * (1.0 - beside.expected) / repairs).sqrt();
            // Real repair times have another spread than exponential ones.
            assert!((beside.got - beside.expected).abs() < error + 0.02, "{beside:?}\n{churn}");
        }
        assert!(churn.nines >= 11.0 && churn.nines_at_24_h < 11.0, "{churn}");
    }
}
