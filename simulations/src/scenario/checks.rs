//! Does a checker get away with not looking, or with copying who did?
//!
//! Operators check one another's receipts, round after round, each by the production round against a board that keeps `CheckBoard`'s times. Most are honest. One guesses: it knows the
//! receipt, the answer, how large each segment is, and that all agrees, and makes up the ranks that it would have to search for. One copies: it seals nothing until others show what they
//! found, and tries then; and, having learnt that this is too late, seals something in time and shows another's digest in its place. One is away.
//!
//! After each round every check of every receipt is opened, as in a dispute, and held against both roots and against the digest that a search gives: what an honest checker
//! sealed must stand, what the others did must not. Beside it: how often nobody looked at a drawn receipt, which is the share of stake that does not look, to the power of the checkers of
//! one; and, in a network too small to draw from, that every receipt is called unchecked and nothing is announced.
//!
//! 2,000 rounds of 8 receipts and 12 operators: some seconds. Searches are made once for each of a few answers; digests, draws, trees and openings each time.

use std::{collections::BTreeMap, fmt, sync::Arc};

use ::attribution::check::{
    DrawRule, ELIGIBLE_MIN, Operators, Outcome, Stacked,
    round::{Facts, Round, Step},
    searched, trace_digest,
};
use ::attribution::index::{DatanetIndex, Index, Segment, Source};
use serde::Serialize;
use types::{
    id::{Address, AssetId, AssetVersion, Hash32},
    merkle::keccak,
    receipt::Finding,
    text::{text_root, words},
};

use crate::random::Random;

/// Operators that guess, copy, and are away.
const CHEATERS: usize = 3;
/// Documents of the index.
const DOCUMENTS: u64 = 60;
/// Different answers.
const ANSWERS: usize = 16;
/// An epoch's times: roots until, seals until, shown until.
const TIMES: [u64; 3] = [100, 200, 300];
/// L1 blocks from announcement to beacon.
const ORIGIN_BLOCKS: u64 = 6;
/// Standard deviations by which the share of unseen receipts may miss.
const TOLERANCE: f64 = 5.0;

/// What is asked.
#[derive(Debug, Clone, Serialize)]
pub struct Question {
    /// Rounds that are played.
    pub rounds: u64,
    /// Operators with stake, three of whom do not look.
    pub operators: usize,
    /// Receipts of a round, all of one node.
    pub receipts: u64,
    /// Checkers of each receipt.
    pub checkers: u8,
    /// Fixes everything.
    pub seed: u64,
}

/// How an operator checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Honest,
    Guesses,
    CopiesLate,
    Away,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Receipts.
    pub receipts: u64,
    /// Drawn, and looked at by an honest operator.
    pub seen: u64,
    /// Drawn for operators alone that do not look.
    pub unseen: u64,
    /// Not drawn for want of operators.
    pub unchecked: u64,
    /// Checks of honest operators, and those of them that did not stand when they were opened.
    pub honest: u64,
    /// See above.
    pub honest_refuted: u64,
    /// Guessed checks, and those of them that stood.
    pub guessed: u64,
    /// See above.
    pub guessed_stood: u64,
    /// Tries to seal what others had shown, and those of them that the board took.
    pub late: u64,
    /// See above.
    pub late_taken: u64,
    /// Others' digests shown in the place of what was sealed, and those of them that stood.
    pub swapped: u64,
    /// See above.
    pub swapped_stood: u64,
}

/// The answer.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was asked.
    pub question: Question,
    /// What came of all rounds.
    pub tally: Tally,
    /// Share of drawn receipts that nobody is to have looked at, by the draw's formula.
    pub unseen_expected: f64,
    /// The same as it was.
    pub unseen_share: f64,
    /// What is not as it must be.
    pub failures: Vec<String>,
}

/// What answers say and what the index says of them.
struct World {
    /// Text, and what a search of every word gives.
    answers: Vec<(String, Vec<u8>)>,
    /// Entries of each segment.
    sizes: Vec<usize>,
}

impl World {
    fn new(random: &mut Random) -> Self {
        const WORDS: [&str; 24] = [
            "ataxia",
            "valve",
            "platelets",
            "kidney",
            "narrow",
            "blood",
            "count",
            "yield",
            "object",
            "block",
            "context",
            "manager",
            "stays",
            "above",
            "falls",
            "while",
            "under",
            "left",
            "right",
            "often",
            "seldom",
            "method",
            "reads",
            "writes",
        ];
        let mut sentence = |count: usize| (0..count).map(|_| WORDS[random.below(WORDS.len())]).collect::<Vec<_>>().join(" ");
        let texts: Vec<String> = (0..DOCUMENTS).map(|_| format!("{}\0", sentence(30))).collect();
        let answers: Vec<String> = (0..ANSWERS).map(|_| sentence(12)).collect();
        let source = |(block, text): (u64, &'_ String)| (block, text_root(text.as_bytes()), text.clone());
        let kept: Vec<_> = (1..).zip(&texts).map(source).collect();
        let sources: Vec<_> = kept
            .iter()
            .map(|(block, text_root, text)| Source {
                contributor: Address([1; 20]),
                block: *block,
                ordinal: 0,
                text_root: *text_root,
                text: text.as_bytes(),
            })
            .collect();
        let half = sources.len() / 2;
        let segments: Vec<Segment> =
            [(&sources[..half], 0), (&sources[half..], half)].map(|(part, first)| build(part, first)).into_iter().collect();
        let sizes = segments.iter().map(|segment| segment.array().len()).collect();
        let version = AssetVersion { asset: AssetId(1), version: 1 };
        let index = Index::new(vec![Arc::new(DatanetIndex::new(version, segments).expect("rows in order"))]).expect("one Datanet");
        let answers = answers.into_iter().map(|answer| (searched(&index, &answer), answer)).map(|(said, answer)| (answer, said)).collect();
        Self { answers, sizes }
    }

    /// Which answer a receipt is of.
    fn answer(&self, receipt: Hash32) -> &(String, Vec<u8>) {
        &self.answers[usize::from(receipt.0[0]) % self.answers.len()]
    }

    /// What a search gives `checker` for a receipt.
    fn digest(&self, checker: Address, receipt: Hash32) -> Hash32 {
        trace_digest(checker, &[&receipt.0, &self.answer(receipt).1])
    }

    /// The same made up: right words in right places, and ranks drawn from as many as each segment has.
    fn guess(&self, checker: Address, receipt: Hash32, random: &mut Random) -> Hash32 {
        let (answer, _) = self.answer(receipt);
        let words = words(answer);
        let mut said = narrow(words.len()).to_vec();
        for word in words {
            said.extend(narrow(word.start));
            for size in &self.sizes {
                let first = as_u64(random.below(*size));
                said.extend(first.to_be_bytes());
                said.extend((first + 1).to_be_bytes());
                let length = u16::try_from(word.len()).expect("words are short");
                said.extend(length.to_be_bytes());
            }
        }
        trace_digest(checker, &[&receipt.0, &said])
    }
}

fn build(sources: &[Source<'_>], first_row: usize) -> Segment {
    Segment::build(sources, as_u64(first_row)).expect("short texts in order")
}

/// What `CheckBoard` keeps of an epoch, and refuses.
#[derive(Default)]
struct Board {
    origin: Option<u64>,
    beacon: Option<Hash32>,
    sealed: BTreeMap<Address, (Hash32, u64)>,
    shown: BTreeMap<Address, Hash32>,
}

impl Board {
    fn commit(&mut self, time: u64, checker: Address, root: Hash32, count: u64) -> bool {
        let is_taken = self.beacon.is_some() && time < TIMES[1] && count > 0 && !self.sealed.contains_key(&checker);
        if is_taken {
            self.sealed.insert(checker, (root, count));
        }
        is_taken
    }

    fn reveal(&mut self, time: u64, checker: Address, root: Hash32) -> bool {
        let is_taken = (TIMES[1]..TIMES[2]).contains(&time) && self.sealed.contains_key(&checker) && !self.shown.contains_key(&checker);
        if is_taken {
            self.shown.insert(checker, root);
        }
        is_taken
    }
}

/// One epoch, played by all operators.
struct Play<'a> {
    world: &'a World,
    manners: &'a [(Address, Manner)],
    operators: &'a Operators,
    answering: Address,
    receipts: Vec<Hash32>,
    beacon: Hash32,
    checkers: u8,
    rounds: BTreeMap<Address, Round>,
    board: Board,
}

impl Play<'_> {
    fn facts(&self, time: u64, l1: u64, checker: Address) -> Facts<'_> {
        Facts {
            time,
            accepts_until: TIMES[0],
            sealed_until: TIMES[1],
            shown_until: TIMES[2],
            is_ripe: self.board.origin.map(|origin| l1 >= origin + ORIGIN_BLOCKS),
            beacon: self.board.beacon,
            nodes: std::slice::from_ref(&self.answering),
            operators: self.operators,
            said: self.board.sealed.get(&checker).map(|(root, _)| (*root, self.board.shown.contains_key(&checker))),
        }
    }

    /// One look of one operator at the board; whether it did anything.
    fn look(&mut self, time: u64, l1: u64, (checker, manner): (Address, Manner), random: &mut Random) -> bool {
        let Some(mut round) = self.rounds.remove(&checker) else { return false };
        let steps = round.steps(&self.facts(time, l1, checker));
        for step in &steps {
            match *step {
                Step::Announce => self.board.origin = self.board.origin.or(Some(l1)),
                Step::Store => self.board.beacon = self.board.beacon.or(Some(self.beacon)),
                Step::Fetch(node) => drop(round.fetched(node, &self.receipts, self.beacon, self.operators)),
                Step::Check(drawn) => {
                    let trace = match manner {
                        Manner::Guesses => self.world.guess(checker, drawn.receipt, random),
                        _ => self.world.digest(checker, drawn.receipt),
                    };
                    round.checked(&drawn, Outcome::Judged { finding: Finding::Agrees, position: 0, trace });
                }
                Step::Seal { root, count } => drop(self.board.commit(time, checker, root, count)),
                Step::Show(root) => drop(self.board.reveal(time, checker, root)),
            }
        }
        self.rounds.insert(checker, round);
        !steps.is_empty()
    }

    /// All who act as the production round says, from a time on until nothing is left to do in it.
    fn run(&mut self, time: u64, l1: u64, random: &mut Random) {
        let acting: Vec<_> =
            self.manners.iter().filter(|(_, manner)| matches!(manner, Manner::Honest | Manner::Guesses)).copied().collect();
        for _ in 0..6 {
            let mut is_busy = false;
            for who in &acting {
                is_busy |= self.look(time, l1, *who, random);
            }
            if !is_busy {
                return;
            }
        }
    }

    /// Somebody's checks, if they stand under what it put on the board, and say what a search gives.
    fn stands(&self, stacked: &Stacked, place: u64) -> bool {
        let Some(opened) = stacked.open(place) else { return false };
        let checker = opened.check.checker;
        let (Some((sealed, count)), Some(shown)) = (self.board.sealed.get(&checker), self.board.shown.get(&checker)) else { return false };
        let is_searched =
            matches!(opened.check.outcome, Outcome::Judged { trace, .. } if trace == self.world.digest(checker, opened.check.receipt));
        opened.verify(*sealed, *shown, *count).is_ok() && is_searched
    }

    /// Opens everybody's checks.
    fn dispute(&self, tally: &mut Tally) {
        let mut seen = std::collections::BTreeSet::new();
        for (checker, manner) in self.manners {
            let Some(stacked) = self.rounds.get(checker).and_then(Round::sealed) else { continue };
            for place in 0..as_u64(stacked.checks().len()) {
                let stands = self.stands(stacked, place);
                match manner {
                    Manner::Honest => {
                        tally.honest += 1;
                        tally.honest_refuted += u64::from(!stands);
                        seen.extend(stacked.open(place).filter(|_| stands).map(|opened| opened.check.receipt));
                    }
                    Manner::Guesses => {
                        tally.guessed += 1;
                        tally.guessed_stood += u64::from(stands);
                    }
                    Manner::CopiesLate | Manner::Away => {}
                }
            }
        }
        let read = self.rounds.values().filter_map(|round| round.read().get(&self.answering)).next().copied().unwrap_or_default();
        tally.receipts += as_u64(self.receipts.len());
        tally.unchecked += read.unchecked;
        tally.seen += as_u64(seen.len());
        tally.unseen += read.drawn - as_u64(seen.len());
    }

    /// The copier: tries to seal what was just shown; every other round it has sealed digests of nothing in time, and shows others' in their place.
    fn copy(&mut self, copier: Address, is_prepared: bool, tally: &mut Tally, random: &mut Random) {
        let made = |trace: &dyn Fn(Hash32) -> Hash32| {
            let mut round = Round::new(0, copier, every(self.checkers), Hash32::ZERO);
            round.fetched(self.answering, &self.receipts, self.beacon, self.operators);
            for drawn in round.drawn().keys().copied().collect::<Vec<_>>() {
                round.checked(&drawn, Outcome::Judged { finding: Finding::Agrees, position: 0, trace: trace(drawn.receipt) });
            }
            round.steps(&Facts { beacon: Some(self.beacon), said: None, ..self.facts(TIMES[1] - 1, 0, copier) });
            round.sealed().cloned()
        };
        let nothing = random.bytes();
        // Whoever was drawn for the same receipt has a digest of it, under another key.
        let others = |receipt| self.world.digest(self.manners[0].0, receipt);
        let (Some(empty), Some(copied)) = (made(&|_| Hash32(nothing)), made(&others)) else { return };
        let count = as_u64(copied.checks().len());
        if count == 0 {
            return;
        }
        if is_prepared {
            tally.swapped += count;
            self.board.commit(TIMES[1] - 1, copier, empty.sealed(), count);
            self.board.reveal(TIMES[1], copier, copied.shown());
            let stood = (0..count).filter(|place| self.stands(&copied, *place) || self.stands(&empty, *place)).count();
            tally.swapped_stood += as_u64(stood);
        } else {
            tally.late += 1;
            tally.late_taken += u64::from(self.board.commit(TIMES[1], copier, copied.sealed(), count));
        }
    }
}

/// Every receipt is drawn.
const fn every(checkers: u8) -> DrawRule {
    DrawRule { rate: u32::MAX, checkers, eligible_min: ELIGIBLE_MIN }
}

/// Plays all rounds.
///
/// # Errors
/// Numbers that no rounds can be played with.
pub fn run(question: &Question) -> Result<Report, String> {
    let Question { rounds, operators: count, receipts, checkers, seed } = *question;
    if count <= CHEATERS || count > 1_000 || receipts == 0 || receipts > 10_000 || checkers == 0 {
        return Err(format!(
            "{count} operators, {receipts} receipts, {checkers} checkers: expected 4 to 1,000, 1 to 10,000 and at least 1"
        ));
    }
    let mut random = Random::new(seed);
    let world = World::new(&mut random);
    let account = |number: usize| Address(std::array::from_fn(|byte| (as_u64(number) >> (8 * byte.min(7))).to_le_bytes()[0]));
    let manner = |number: usize| match number {
        0 => Manner::Guesses,
        1 => Manner::CopiesLate,
        2 => Manner::Away,
        _ => Manner::Honest,
    };
    // The answering node is honest too; who copies copies the first.
    let manners: Vec<(Address, Manner)> = (0..count).rev().map(|number| (account(number + 1), manner(number))).collect();
    let stakes: Vec<(Address, u128)> = manners.iter().map(|(account, _)| (*account, 100)).collect();
    let operators = Operators::new(&stakes).map_err(|error| error.to_string())?;
    let mut tally = Tally::default();
    for epoch in 0..rounds {
        let answering = manners[0].0;
        let mut play = Play {
            world: &world,
            manners: &manners,
            operators: &operators,
            answering,
            receipts: (0..receipts).map(|number| keccak(&[&random.bytes(), &number.to_be_bytes()])).collect(),
            beacon: Hash32(random.bytes()),
            checkers,
            rounds: manners.iter().map(|(who, _)| (*who, Round::new(epoch, *who, every(checkers), Hash32(random.bytes())))).collect(),
            board: Board::default(),
        };
        for (time, l1) in [(TIMES[0] - 1, 10), (TIMES[0], 10), (110, 16), (120, 17)] {
            play.run(time, l1, &mut random);
        }
        let copier = account(2);
        let is_prepared = epoch % 2 == 1;
        if is_prepared {
            play.copy(copier, true, &mut tally, &mut random);
        }
        play.run(TIMES[1], 30, &mut random);
        if !is_prepared {
            play.copy(copier, false, &mut tally, &mut random);
        }
        play.dispute(&mut tally);
    }
    Ok(judged(question, tally))
}

fn judged(question: &Question, tally: Tally) -> Report {
    // Of those who can be drawn, all but the answering one, three do not look.
    let away = as_f64(as_u64(CHEATERS)) / as_f64(as_u64(question.operators - 1));
    let (drawn, expected) = (as_f64(tally.seen + tally.unseen), away.powi(question.checkers.into()));
    let share = if drawn > 0.0 { as_f64(tally.unseen) / drawn } else { 0.0 };
    let mut failures = Vec::new();
    let deviation = (expected * (1.0 - expected) / drawn.max(1.0)).sqrt();
    let never = [
        ("an honest check did not stand", tally.honest_refuted),
        ("a guessed check stood", tally.guessed_stood),
        ("a seal was taken after others had shown theirs", tally.late_taken),
        ("another's digest stood", tally.swapped_stood),
    ];
    failures.extend(never.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{what}, {count} times")));
    let is_small = question.operators - 1 < ELIGIBLE_MIN;
    if is_small {
        // Nobody announces what nobody can be drawn by, so nothing is even fetched, unless there are just enough operators with the answering one.
        if tally.seen + tally.unseen + tally.honest > 0 {
            failures.push("receipts were checked though too few could be drawn".to_owned());
        }
    } else if (share - expected).abs() > TOLERANCE * deviation {
        failures.push(format!("{share:.4} of drawn receipts were seen by nobody, expected {expected:.4}"));
    }
    Report { question: question.clone(), tally, unseen_expected: expected, unseen_share: share, failures }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Question { rounds, operators, receipts, checkers, seed }, t) = (&self.question, &self.tally);
        writeln!(f, "checks: {rounds} rounds of {receipts} receipts, {operators} operators, {checkers} checkers each, seed {seed}")?;
        writeln!(f, "receipts     {}: {} seen, {} by nobody who looks, {} unchecked", t.receipts, t.seen, t.unseen, t.unchecked)?;
        writeln!(f, "by nobody    {:.4} of those drawn, {:.4} expected", self.unseen_share, self.unseen_expected)?;
        writeln!(f, "honest       {} checks, {} refuted when opened", t.honest, t.honest_refuted)?;
        writeln!(f, "guessed      {} checks, {} stood when opened", t.guessed, t.guessed_stood)?;
        writeln!(f, "copied late  {} tries, {} taken", t.late, t.late_taken)?;
        writeln!(f, "swapped      {} digests, {} stood when opened", t.swapped, t.swapped_stood)?;
        writeln!(f, "{}", if self.failures.is_empty() { "all as it must be" } else { "NOT as it must be" })
    }
}

fn narrow(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("answers are short").to_be_bytes()
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits 64 bits")
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
const fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_look_or_copies_who_did_is_found_out_and_who_looks_never_is() {
        let report = run(&Question { rounds: 300, operators: 12, receipts: 8, checkers: 2, seed: 1 }).unwrap();
        println!("{report}");
        assert!(report.failures.is_empty(), "{report}{:?}", report.failures);
        let Tally { honest, guessed, late, swapped, unseen, .. } = report.tally;
        assert!(honest > 1_000 && guessed > 50 && late > 50 && swapped > 50 && unseen > 50, "{report}");
    }

    #[test]
    fn in_a_network_too_small_to_draw_from_every_receipt_goes_unchecked() {
        for operators in [4, 5] {
            let report = run(&Question { rounds: 20, operators, receipts: 8, checkers: 2, seed: 1 }).unwrap();
            assert!(report.failures.is_empty(), "{report}{:?}", report.failures);
            assert_eq!((report.tally.seen, report.tally.unseen, report.tally.honest), (0, 0, 0), "{report}");
        }
        assert!(run(&Question { rounds: 1, operators: 3, receipts: 8, checkers: 2, seed: 1 }).is_err());
    }
}
