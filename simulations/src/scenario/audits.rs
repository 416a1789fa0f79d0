//! Is it noticed within a month that a node lost a hundredth of what it is paid to hold?
//!
//! The production cores of audits run at both ends: a node that walks over its holdings and admits what it lacks, three auditors that ping, challenge,
//! check every range and sign, and the rule of two equal verdicts. Each month is a node that lost other fragments on its first day; it counts as noticed when the
//! outcome of an epoch is that it failed. Beside it stand the closed form and what Filecoin's PDP asks (five leaves of 32 bytes a day) of the same losses.
//! A disk that is ten to a hundred times slower than the auditors' own is late, which costs the day's rent and nothing else; what it lost is found all the same.
//!
//! Fragments are one short range each: the chance is one of counts, and a walk over 1 KiB costs a sixteenth. A month that is noticed ends, on average after
//! five days of some 0.2 MB of keccak, so 10,000 months are about 10 GB.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use serde::Serialize;
use storage::{
    erasure::FragmentRoot,
    proto::audit::{
        Answer, Audit, Holding, Holdings, Pace, RANGES, Seed, Tops,
        answer::Shown,
        auditor::{Input, Output, READS_MIN},
        noticed, settle,
    },
};
use types::{
    audit::{AuditVerdict, Verdict},
    id::{Address, BlobId, Hash32},
    merkle::keccak,
    time::Time,
};

use crate::random::Random;

/// Bytes of a fragment: one leaf.
const FRAGMENT_LEN: usize = 1 << 10;
/// What PDP asks for on a day, and how long each is.
const PDP_LEAVES: u32 = 5;
const PDP_LEAF_LEN: usize = 32;
/// Round trip between auditors and node, and what an honest disk takes for a range.
const ROUND_TRIP: Duration = Duration::from_millis(40);
const READ: Duration = Duration::from_millis(2);
/// How many times slower than honest disks those are that are tried, and on how many days each.
const SLOW_TIMES: [u32; 5] = [1, 2, 10, 30, 100];
const SLOW_DAYS: u32 = 5;
/// Standard errors by which a measured share may miss its closed form.
const ERRORS_MAX: f64 = 4.0;
const NODE: Address = Address([9; 20]);
const AUDITORS: [Address; 3] = [Address([1; 20]), Address([2; 20]), Address([3; 20])];

/// What is asked.
#[derive(Debug, Clone, Serialize)]
pub struct Question {
    /// Fragments that the node is bound to.
    pub fragments: u32,
    /// Of them lost.
    pub lost: u32,
    /// Days of a month.
    pub days: u32,
    /// Months that are tried.
    pub months: u32,
    /// Fixes everything.
    pub seed: u64,
}

/// A number outside its range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionError {
    what: &'static str,
    got: u32,
    least: u32,
    most: u32,
}

impl fmt::Display for QuestionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, expected {} to {}", self.what, self.got, self.least, self.most)
    }
}

impl std::error::Error for QuestionError {}

/// The answer.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The question.
    pub question: Question,
    /// Months in which the loss was noticed.
    pub noticed: u32,
    /// Their share.
    pub share: f64,
    /// The closed form.
    pub expected: f64,
    /// Days until then, on average over the months in which it was.
    pub days_mean: f64,
    /// Share of the same months in which PDP's draws met a lost leaf.
    pub pdp_share: f64,
    /// Its closed form.
    pub pdp_expected: f64,
    /// Nodes whose disks are slower than others'.
    pub slow: Vec<Slow>,
    /// What is not as it must be.
    pub failures: Vec<String>,
}

/// What became of a node whose disk is so many times slower, on some days.
#[derive(Debug, Clone, Serialize)]
pub struct Slow {
    /// Times.
    pub times: u32,
    /// Days on which it passed, having lost nothing.
    pub passed: u32,
    /// Days on which it was late.
    pub late: u32,
    /// Days on which it failed: none may be.
    pub failed: u32,
    /// Days on which it failed after it had lost everything: all must be.
    pub failed_empty: u32,
}

impl Question {
    fn check(&self) -> Result<(), QuestionError> {
        let within = |what, got: u32, least, most| {
            if (least..=most).contains(&got) { Ok(()) } else { Err(QuestionError { what, got, least, most }) }
        };
        within("fragments", self.fragments, 1, 100_000)?;
        within("lost", self.lost, 1, self.fragments)?;
        within("days", self.days, 1, 1_000)?;
        within("months", self.months, 1, 1_000_000)
    }
}

/// A node's disk.
struct Node {
    holdings: Holdings,
    root: Hash32,
    /// Number, bytes and digests of what is held of each object.
    fragments: BTreeMap<BlobId, (u32, Vec<u8>, Tops)>,
}

fn object(number: u32) -> BlobId {
    BlobId::of(&number.to_be_bytes())
}

impl Node {
    fn new(count: u32, random: &mut Random) -> Self {
        let bytes: Vec<Vec<u8>> = (0..count).map(|_| (0..FRAGMENT_LEN / 32).flat_map(|_| random.bytes()).collect()).collect();
        let holding = |(number, bytes): (u32, &Vec<u8>)| Holding {
            object: object(number),
            fragment: 0,
            fragments: 48,
            bytes: u32::try_from(bytes.len()).expect("a fragment is short"),
            root: FragmentRoot::of(bytes).keccak,
        };
        let holdings = Holdings::new((0..).zip(&bytes).map(holding));
        let root = holdings.root();
        let kept = |(number, bytes): (u32, Vec<u8>)| {
            let tops = Tops::of(&bytes);
            (object(number), (number, bytes, tops))
        };
        Self { holdings, root, fragments: (0..).zip(bytes).map(kept).collect() }
    }

    fn read(&self, holding: &Holding, place: u32, lost: &BTreeSet<u32>) -> Option<Shown> {
        let (_, bytes, tops) = self.fragments.get(&holding.object).filter(|(number, ..)| !lost.contains(number))?;
        Some(Shown { bytes: bytes.clone(), siblings: tops.siblings(place)? })
    }
}

/// Asks.
///
/// # Errors
/// [`QuestionError`].
pub fn run(question: &Question) -> Result<Report, QuestionError> {
    question.check()?;
    let mut random = Random::new(question.seed);
    let node = Node::new(question.fragments, &mut random);
    let (mut caught, mut days_sum, mut pdp_caught) = (0_u32, 0_u64, 0_u32);
    for _ in 0..question.months {
        let mut all: Vec<u32> = (0..question.fragments).collect();
        random.shuffle(&mut all);
        let lost: BTreeSet<u32> = all.into_iter().take(usize::try_from(question.lost).expect("below the fragments")).collect();
        if let Some(day) = (1..=question.days).find(|day| outcome(&node, &lost, (*day, 1), &mut random) == Verdict::Failed) {
            (caught, days_sum) = (caught + 1, days_sum + u64::from(day));
        }
        pdp_caught += u32::from((0..question.days * PDP_LEAVES).filter(|_| meets(question, &lost, &mut random)).count() > 0);
    }
    let share = |part: u32| f64::from(part) / f64::from(question.months);
    let part = f64::from(question.lost) / f64::from(question.fragments);
    let mut report = Report {
        noticed: caught,
        share: share(caught),
        expected: noticed(part, question.days),
        days_mean: mean(days_sum, caught),
        pdp_share: share(pdp_caught),
        pdp_expected: 1.0 - (1.0 - part).powf(f64::from(question.days * PDP_LEAVES)),
        slow: SLOW_TIMES.into_iter().map(|times| slow(&node, times, &mut random)).collect(),
        failures: Vec::new(),
        question: question.clone(),
    };
    for Slow { times, failed, failed_empty, .. } in &report.slow {
        if *failed > 0 || *failed_empty < SLOW_DAYS {
            report.failures.push(format!(
                "a disk {times} times slower: failed on {failed} of {SLOW_DAYS} days with all it should have, on {failed_empty} with nothing"
            ));
        }
    }
    for (what, got, expected) in [("audits", report.share, report.expected), ("PDP", report.pdp_share, report.pdp_expected)] {
        let error = (expected * (1.0 - expected) / f64::from(question.months)).sqrt();
        if (got - expected).abs() > ERRORS_MAX * error {
            report.failures.push(format!("{what}: noticed {got:.4}, the closed form says {expected:.4}, standard error {error:.4}"));
        }
    }
    Ok(report)
}

/// Some days of a node with a slow disk, and some more after it lost everything.
fn slow(node: &Node, times: u32, random: &mut Random) -> Slow {
    let (none, all) = (BTreeSet::new(), (0..).take(node.fragments.len()).collect());
    let whole: Vec<_> = (1..=SLOW_DAYS).map(|day| outcome(node, &none, (day, times), random)).collect();
    let days = |wanted: Verdict| whole.iter().map(|verdict| u32::from(*verdict == wanted)).sum();
    let failed_empty = (1..=SLOW_DAYS).map(|day| u32::from(outcome(node, &all, (day, times), random) == Verdict::Failed)).sum();
    Slow { times, passed: days(Verdict::Passed), late: days(Verdict::Late), failed: days(Verdict::Failed), failed_empty }
}

/// One day: the node, whose disk is so many times slower than honest ones, is asked by all three, and what two of them say is so.
fn outcome(node: &Node, lost: &BTreeSet<u32>, (day, times): (u32, u32), random: &mut Random) -> Verdict {
    let nonce = Hash32(random.bytes());
    let beacon = keccak(&[b"simulated beacon", &random.bytes()]);
    let seed = Seed { beacon, node: NODE, epoch: day.into(), holdings: node.root, nonce };
    let answer = Answer::walk(&seed, &node.holdings, |holding, place| node.read(holding, place, lost)).encode();
    let verdicts: Vec<_> = AUDITORS.iter().map(|auditor| audit(*auditor, seed, node, (&answer, times))).collect();
    settle(NODE, day.into(), &AUDITORS, &verdicts)
}

/// One auditor's day with the node, which answers as soon as its disk lets it.
fn audit(auditor: Address, seed: Seed, node: &Node, (answer, times): (&[u8], u32)) -> AuditVerdict {
    let pace = Pace::of(&[READ; READS_MIN]).expect("enough reads");
    let is_opener = auditor == AUDITORS[0];
    let mut audit = if is_opener {
        Audit::opener(auditor, seed, node.holdings.clone(), pace)
    } else {
        // What the opener drew reaches a witness when it challenges.
        Audit::witness(auditor, Seed { nonce: Hash32::ZERO, ..seed }, node.holdings.clone(), pace)
    };
    let mut now = Time(0);
    let mut outputs = audit.handle(now, Input::Start);
    while outputs == [Output::Ping] {
        now = now.after(ROUND_TRIP);
        outputs = audit.handle(now, Input::Pong);
    }
    if !is_opener {
        audit.handle(now, Input::Opened { nonce: seed.nonce });
    }
    now = now.after(ROUND_TRIP + READ * u32::from(RANGES) * times);
    match audit.handle(now, Input::Answered { bytes: answer.to_vec() }).pop() {
        Some(Output::Done(verdict)) => verdict,
        other => unreachable!("an auditor that was answered is done, not {other:?}"),
    }
}

/// Whether one of PDP's draws meets a lost leaf.
fn meets(question: &Question, lost: &BTreeSet<u32>, random: &mut Random) -> bool {
    let leaves = FRAGMENT_LEN / PDP_LEAF_LEN;
    let fragments = usize::try_from(question.fragments).expect("fragments are few");
    let leaf = random.below(fragments * leaves);
    lost.contains(&u32::try_from(leaf / leaves).expect("below the fragments"))
}

#[expect(clippy::cast_precision_loss, reason = "a sum of days below 2^53, in an estimate")]
fn mean(sum: u64, count: u32) -> f64 {
    sum as f64 / f64::from(count.max(1))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let q = &self.question;
        writeln!(f, "audits: {} months of {} days, {} of {} fragments lost, seed {}", q.months, q.days, q.lost, q.fragments, q.seed)?;
        writeln!(
            f,
            "noticed in {} months: {:.2} %, {:.2} % by the closed form; after {:.1} days on average",
            self.noticed,
            100.0 * self.share,
            100.0 * self.expected,
            self.days_mean
        )?;
        writeln!(
            f,
            "five leaves of 32 bytes a day (PDP): {:.2} %, {:.2} % by the closed form",
            100.0 * self.pdp_share,
            100.0 * self.pdp_expected
        )?;
        for Slow { times, passed, late, failed, failed_empty } in &self.slow {
            writeln!(
                f,
                "a disk {times:>3} times slower: {passed} days passed, {late} late, {failed} failed; {failed_empty} failed with everything lost"
            )?;
        }
        writeln!(f, "{}", if self.failures.is_empty() { "all as it must be" } else { "NOT as it must be" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(lost: u32, months: u32) -> Question {
        Question { fragments: 100, lost, days: 30, months, seed: 4 }
    }

    #[test]
    fn a_lost_hundredth_is_noticed_within_a_month_and_a_node_that_lost_nothing_passes() {
        let report = run(&question(1, 300)).unwrap();
        assert!(report.failures.is_empty(), "{report}{:?}", report.failures);
        assert!(report.share >= 0.98 && report.pdp_share < 0.9, "{report}");
        assert!((4.0..8.0).contains(&report.days_mean), "{report}");
        let mut random = Random::new(1);
        let node = Node::new(50, &mut random);
        for day in 1..5 {
            assert_eq!(outcome(&node, &BTreeSet::new(), (day, 1), &mut random), Verdict::Passed);
        }
        let all: BTreeSet<u32> = (0..50).collect();
        assert_eq!(outcome(&node, &all, (5, 1), &mut random), Verdict::Failed);
    }

    #[test]
    fn a_disk_ten_to_a_hundred_times_slower_is_late_and_never_failed_and_its_losses_are_found_all_the_same() {
        let report = run(&question(1, 1)).unwrap();
        let verdicts: Vec<_> =
            report.slow.iter().map(|slow| (slow.times, slow.passed, slow.late, slow.failed, slow.failed_empty)).collect();
        assert_eq!(verdicts, [(1, 5, 0, 0, 5), (2, 5, 0, 0, 5), (10, 0, 5, 0, 5), (30, 0, 5, 0, 5), (100, 0, 5, 0, 5)]);
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused_with_their_range() {
        let error = run(&question(101, 1)).unwrap_err().to_string();
        assert_eq!(error, "lost is 101, expected 1 to 100");
        assert!(run(&question(0, 1)).is_err() && run(&question(1, 0)).is_err());
    }

    #[test]
    fn the_same_seed_gives_the_same_answer() {
        let json = || serde_json::to_string(&run(&question(2, 20)).unwrap()).unwrap();
        assert_eq!(json(), json());
    }
}
