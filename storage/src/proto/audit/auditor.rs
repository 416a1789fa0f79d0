//! One auditor and one node for one epoch: measure, challenge, judge.
//!
//! The round trip is measured by [`PINGS`] pings before anything is asked; the smallest counts. The opener then challenges, witnesses hear the nonce from it
//! and start their clock, and the node answers all three. An answer is due after [`Pace::deadline`]. One that is right and late is *late*; none
//! within [`PATIENCE`] is *late* if pings were answered and *offline* if not; whoever heard nobody at all that day says *unknown*.
//!
//! Who shows an auditor no list of what it holds cannot be asked by it for ranges. Where the auditor's own records name it a holder, that is judged as a missing
//! answer is ([`Audit::without_list`]): *late* if it answers a ping, *offline* if it answers none. So a node that deletes everything and commits to
//! nothing is warned and suspended like one that does not answer, and each of the three sees that by itself. An opener without a list challenges all the same, for the
//! witnesses, who may have been shown one: whoever hides it from the opener alone is judged by the other two.

use std::time::Duration;

use types::{
    audit::{AuditVerdict, Verdict},
    id::{Address, Hash32},
    time::Time,
};

use super::{
    RANGE_BYTES, RANGES,
    answer::Answer,
    chain::{Holdings, Seed},
};

/// Pings before a challenge: the smallest of five is within some per cent of the line's own delay.
pub const PINGS: u8 = 5;
/// Longest wait for a ping, and longest round trip that is granted: once around the earth over cables, with a slow access at both ends. A node that
/// delays pings to gain time gains at most this, over all ranges.
pub const ROUND_TRIP_MAX: Duration = Duration::from_millis(400);
/// Longest wait for an answer: what comes later could as well have been fetched by hand.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Slowest line over which an operator may hold fragments, in bytes per second: 20 Mbit/s.
pub const LINE_BYTES_PER_S: u64 = 2_500_000;
/// Honest reads are allowed to be this many times slower than measured: another's disk, under load.
pub const SLACK: u32 = 2;
/// Longest read of one range that is believed: a disk that turns, under load.
pub const READ_MAX: Duration = Duration::from_millis(25);
/// A measured read counts as no shorter than this, what a disk that turns takes: from the page cache of an idle machine an auditor would grant an honest
/// node microseconds.
pub const READ_LEAST: Duration = Duration::from_millis(5);
/// Fewest measured reads.
pub const READS_MIN: usize = 20;

/// How long an honest node needs for one range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    read: Duration,
}

/// What an auditor with some pace finds out about nodes that fetch what they are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// From challenge to answer, at most, beside the round trip.
    pub deadline: Duration,
    /// The smallest round trip to its source at which a node is caught whatever it does: [`Pace::caught_from`] with pings held back as long as counts.
    pub sly: Duration,
    /// The same for a node that answers pings at once: [`Pace::caught_from_if_plain`].
    pub plain: Duration,
}

impl Pace {
    /// The least pace that production grants: [`READ_LEAST`] for a range. What every node is granted whose auditors have disks without moving parts.
    pub const LEAST: Self = Self { read: READ_LEAST };
    /// The most: [`READ_MAX`] for a range; also what an auditor grants that holds too little to measure.
    pub const MOST: Self = Self { read: READ_MAX };

    /// The pace of an auditor by its reads as its clock took them: [`Pace::of`] with none shorter than [`READ_LEAST`].
    pub fn measured(reads: &[Duration]) -> Option<Self> {
        Self::of(&reads.iter().map(|read| (*read).max(READ_LEAST)).collect::<Vec<_>>())
    }

    /// What is granted for one range, without the slack.
    pub const fn read(self) -> Duration {
        self.read
    }

    /// What it finds out.
    ///
    /// | read of a range | answer due after, beside the round trip | caught from, whatever it does | if it answers pings at once |
    /// |---|---|---|---|
    /// | 5 ms ([`READ_LEAST`]) | 331 ms | 36.6 ms | 11.6 ms |
    /// | 10 ms | 531 ms | 46.6 ms | 16.6 ms |
    /// | 25 ms ([`READ_MAX`]) | 1,131 ms | 76.6 ms | 31.6 ms |
    pub fn reach(self) -> Reach {
        let deadline = self.deadline(Duration::ZERO);
        Reach { deadline, sly: self.caught_from(ROUND_TRIP_MAX), plain: self.caught_from_if_plain(Duration::ZERO) }
    }

    /// The pace of honest reads, as the auditors measure them on their own stores (16 KiB at a random place, hashed): their 95th percentile, at
    /// most [`READ_MAX`]. Nothing for fewer than [`READS_MIN`].
    pub fn of(reads: &[Duration]) -> Option<Self> {
        let mut sorted = reads.to_vec();
        sorted.sort_unstable();
        let read = *sorted.get((sorted.len() * 95).div_ceil(100).checked_sub(1)?)?;
        (sorted.len() >= READS_MIN).then(|| Self { read: read.min(READ_MAX) })
    }

    /// From challenge to answer, at most: the round trip, the reads one after the other with their slack, and the answer over the slowest line.
    pub fn deadline(self, round_trip: Duration) -> Duration {
        let bytes = RANGE_BYTES * u64::from(RANGES);
        let line = Duration::from_micros(bytes * 1_000_000 / LINE_BYTES_PER_S);
        round_trip.min(ROUND_TRIP_MAX) + self.read * SLACK * u32::from(RANGES) + line
    }

    /// The smallest round trip between a node and its source at which it is caught fetching each range when it is asked, whatever it does: its source
    /// reads at once, its own line takes no time, and its pings were delayed to `round_trip` while its true one is nothing. Closer sources are not
    /// found, and nothing is promised of them; a node and its source in one building pass.
    pub fn caught_from(self, round_trip: Duration) -> Duration {
        self.deadline(round_trip) / u32::from(RANGES) + Duration::from_micros(1)
    }

    /// The same for a node that does not delay pings, whose source reads at the honest pace, and whose own line is as fast as can be.
    pub fn caught_from_if_plain(self, round_trip: Duration) -> Duration {
        let spare = self.deadline(round_trip).saturating_sub(round_trip);
        (spare / u32::from(RANGES)).saturating_sub(self.read) + Duration::from_micros(1)
    }
}

/// What happens to an audit.
#[derive(Debug, Clone)]
pub enum Input {
    /// Begin; the first input.
    Start,
    /// The node answered the open ping.
    Pong,
    /// The opener told its nonce; witnesses only.
    Opened {
        /// What the walk starts from.
        nonce: Hash32,
    },
    /// Bytes came as answer to the challenge; they may be none.
    Answered {
        /// What came.
        bytes: Vec<u8>,
    },
    /// The auditor's own line or books fail: others than this node do not answer either, or the holdings are not known.
    Trouble,
    /// Time passed; due at [`Audit::deadline`].
    Tick,
}

/// What the caller must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Ping the node.
    Ping,
    /// Send the challenge to the node, and its nonce to the witnesses, at once. Openers only.
    Challenge {
        /// The nonce.
        nonce: Hash32,
    },
    /// The audit ended: sign this.
    Done(AuditVerdict),
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    New,
    /// Pings sent, and when the open one was.
    Pinging(u8, Time),
    /// Round trip known; a witness waits for the opener.
    Waiting(Time),
    /// Challenged at.
    Asked(Time),
    Ended,
}

/// One audit of one node by one auditor.
#[derive(Debug)]
pub struct Audit {
    auditor: Address,
    seed: Seed,
    is_opener: bool,
    pace: Pace,
    /// Nothing if the node did not show it.
    holdings: Option<Holdings>,
    round_trip: Option<Duration>,
    stage: Stage,
}

impl Audit {
    /// The opener's audit; `seed.nonce` is its own fresh secret.
    pub const fn opener(auditor: Address, seed: Seed, holdings: Holdings, pace: Pace) -> Self {
        Self { auditor, seed, is_opener: true, pace, holdings: Some(holdings), round_trip: None, stage: Stage::New }
    }

    /// A witness's audit: the nonce comes from the opener.
    pub const fn witness(auditor: Address, seed: Seed, holdings: Holdings, pace: Pace) -> Self {
        Self { auditor, seed, is_opener: false, pace, holdings: Some(holdings), round_trip: None, stage: Stage::New }
    }

    /// The audit of a node that is to hold living objects by the auditor's own records, and shows it no list of them: it committed to nothing, or to something that
    /// it does not show or that leaves them out. A witness ends with the first ping that is answered, or when none was; the opener's `seed.nonce` is for the
    /// witnesses. The root in `seed` is of no matter.
    pub const fn without_list(auditor: Address, seed: Seed, is_opener: bool) -> Self {
        let seed = Seed { holdings: Hash32::ZERO, ..seed };
        Self { auditor, seed, is_opener, pace: Pace::MOST, holdings: None, round_trip: None, stage: Stage::New }
    }

    /// When the next [`Input::Tick`] is due; nothing once the audit ended.
    pub fn deadline(&self) -> Option<Time> {
        match self.stage {
            Stage::New | Stage::Ended => None,
            Stage::Pinging(_, since) => Some(since.after(ROUND_TRIP_MAX)),
            Stage::Waiting(since) | Stage::Asked(since) => Some(since.after(PATIENCE)),
        }
    }

    /// Takes one input; the outputs are to be carried out in order.
    pub fn handle(&mut self, now: Time, input: Input) -> Vec<Output> {
        match (self.stage, input) {
            (Stage::Ended, _) => Vec::new(),
            (_, Input::Trouble) => self.end(Verdict::Unknown, 0, Hash32::ZERO, None),
            (Stage::New, Input::Start) => self.ping(now, 1),
            (Stage::Pinging(sent, since), Input::Pong) => {
                let taken = now.since(since);
                self.round_trip = Some(self.round_trip.map_or(taken, |least| least.min(taken)));
                if self.holdings.is_none() && !self.is_opener {
                    return self.end(Verdict::Late, 0, Hash32::ZERO, None);
                }
                self.after_ping(now, sent)
            }
            (Stage::Pinging(sent, since), Input::Tick) if now >= since.after(ROUND_TRIP_MAX) => self.after_ping(now, sent),
            (Stage::Waiting(_), Input::Opened { nonce }) if !self.is_opener => {
                self.seed.nonce = nonce;
                self.stage = Stage::Asked(now);
                Vec::new()
            }
            // The opener said nothing: that is not the node's fault.
            (Stage::Waiting(since), Input::Tick) if now >= since.after(PATIENCE) => self.end(Verdict::Unknown, 0, Hash32::ZERO, None),
            (Stage::Asked(since), Input::Answered { bytes }) => self.judge(now.since(since), &bytes),
            (Stage::Asked(since), Input::Tick) if now >= since.after(PATIENCE) => {
                let verdict = if self.round_trip.is_some() { Verdict::Late } else { Verdict::Offline };
                self.end(verdict, 0, Hash32::ZERO, None)
            }
            _ => Vec::new(),
        }
    }

    fn ping(&mut self, now: Time, number: u8) -> Vec<Output> {
        self.stage = Stage::Pinging(number, now);
        vec![Output::Ping]
    }

    /// The next ping, or the challenge. A node that answers no ping is challenged all the same: it may only drop pings.
    fn after_ping(&mut self, now: Time, sent: u8) -> Vec<Output> {
        if sent < PINGS {
            return self.ping(now, sent + 1);
        }
        match (self.is_opener, &self.holdings) {
            (true, _) => {
                self.stage = Stage::Asked(now);
                vec![Output::Challenge { nonce: self.seed.nonce }]
            }
            (false, Some(_)) => {
                self.stage = Stage::Waiting(now);
                Vec::new()
            }
            // The last ping was as silent as those before.
            (false, None) => self.end(Verdict::Offline, 0, Hash32::ZERO, None),
        }
    }

    fn judge(&mut self, elapsed: Duration, bytes: &[u8]) -> Vec<Output> {
        // Bytes of which nobody has shown here whether they are those that were committed to.
        let Some(holdings) = &self.holdings else { return self.end(Verdict::Late, 0, Hash32::ZERO, Some(elapsed)) };
        let Ok(answer) = Answer::decode(bytes) else { return self.end(Verdict::Failed, 0, Hash32::ZERO, Some(elapsed)) };
        let (chain, result) = answer.check(&self.seed, holdings);
        let due = self.pace.deadline(self.round_trip.unwrap_or(ROUND_TRIP_MAX));
        let verdict = match result {
            Err(_) => Verdict::Failed,
            Ok(()) if elapsed <= due => Verdict::Passed,
            Ok(()) => Verdict::Late,
        };
        self.end(verdict, chain.taken(), chain.digest(), Some(elapsed))
    }

    fn end(&mut self, verdict: Verdict, right: u8, digest: Hash32, elapsed: Option<Duration>) -> Vec<Output> {
        let was_asked = matches!(self.stage, Stage::Asked(_));
        self.stage = Stage::Ended;
        // An answer of no time at all would read as none.
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX).max(1);
        let seen = AuditVerdict {
            auditor: self.auditor,
            node: self.seed.node,
            epoch: self.seed.epoch,
            holdings: self.seed.holdings,
            nonce: if was_asked { self.seed.nonce } else { Hash32::ZERO },
            verdict,
            right,
            digest,
            round_trip_us: self.round_trip.map_or(0, micros),
            elapsed_us: elapsed.map_or(0, micros),
        };
        vec![Output::Done(seen)]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::answer::tests::Node, *};

    const READ: Duration = Duration::from_millis(2);

    fn pace(read: Duration) -> Pace {
        Pace::of(&[read; READS_MIN]).unwrap()
    }

    /// A node as an auditor sees it.
    #[derive(Clone, Copy)]
    struct Line {
        /// Round trip to the auditor.
        round_trip: Duration,
        /// Whether pings are held back until the largest round trip that counts.
        delays_pings: bool,
        /// For each range: to its disk, or to whom it fetches from.
        per_range: Duration,
        /// For the whole answer.
        sending: Duration,
        answers: bool,
        pongs: bool,
    }

    impl Line {
        const fn honest(round_trip: Duration) -> Self {
            Self { round_trip, delays_pings: false, per_range: READ, sending: Duration::ZERO, answers: true, pongs: true }
        }
    }

    fn audit(node: &Node, line: Line, bytes: Vec<u8>) -> AuditVerdict {
        audit_at(node, line, bytes, pace(READ))
    }

    fn audit_at(node: &Node, line: Line, bytes: Vec<u8>, pace: Pace) -> AuditVerdict {
        let mut audit = Audit::opener(Address([9; 20]), node.seed, node.holdings.clone(), pace);
        let (mut now, mut outputs) = (Time(0), audit.handle(Time(0), Input::Start));
        loop {
            let next = match outputs.pop().expect("an audit that is not over waits for something, or asks") {
                Output::Done(verdict) => return verdict,
                Output::Ping if line.pongs => {
                    now = now.after(if line.delays_pings { ROUND_TRIP_MAX } else { line.round_trip });
                    Input::Pong
                }
                Output::Challenge { .. } if line.answers => {
                    now = now.after(line.round_trip + line.per_range * u32::from(RANGES) + line.sending);
                    Input::Answered { bytes: bytes.clone() }
                }
                Output::Ping | Output::Challenge { .. } => {
                    now = audit.deadline().unwrap();
                    Input::Tick
                }
            };
            outputs = audit.handle(now, next);
        }
    }

    #[test]
    fn offline_late_failed_and_unknown_are_kept_apart() {
        let node = Node::new(&[100_000, 50_000]);
        let good = node.answer().encode();
        let line = Line::honest(Duration::from_millis(80));
        let verdict = |line, bytes: &[u8]| audit(&node, line, bytes.to_vec());
        let passed = verdict(line, &good);
        assert_eq!((passed.verdict, passed.right, passed.round_trip_us, passed.elapsed_us), (Verdict::Passed, RANGES, 80_000, 120_000));
        assert_eq!((passed.nonce, passed.holdings), (node.seed.nonce, node.holdings.root()));
        assert_eq!(verdict(Line { per_range: Duration::from_secs(1), ..line }, &good).verdict, Verdict::Late);
        assert_eq!(verdict(Line { answers: false, ..line }, &good).verdict, Verdict::Late, "it is there and does not answer");
        assert_eq!(verdict(Line { answers: false, pongs: false, ..line }, &good).verdict, Verdict::Offline);
        assert_eq!(verdict(Line { pongs: false, ..line }, &good).verdict, Verdict::Passed, "pings may be dropped on the way");
        assert_eq!(verdict(line, &Answer::Missing(Vec::new()).encode()).verdict, Verdict::Failed);
        assert_eq!(verdict(line, b"?").verdict, Verdict::Failed);
        let late_and_wrong = verdict(Line { per_range: Duration::from_secs(1), ..line }, &Answer::Missing(Vec::new()).encode());
        assert_eq!(late_and_wrong.verdict, Verdict::Failed);

        let mut own = Audit::opener(Address([9; 20]), node.seed, node.holdings.clone(), pace(READ));
        own.handle(Time(0), Input::Start);
        let [Output::Done(seen)] = own.handle(Time(1), Input::Trouble)[..] else { panic!("trouble ends an audit") };
        assert_eq!((seen.verdict, seen.nonce), (Verdict::Unknown, Hash32::ZERO));
        assert!(own.handle(Time(2), Input::Pong).is_empty() && own.deadline().is_none());
    }

    #[test]
    fn a_witness_counts_from_what_the_opener_told_and_does_not_blame_the_node_for_its_silence() {
        let node = Node::new(&[100_000]);
        let blind = Seed { nonce: Hash32::ZERO, ..node.seed };
        let ready = || {
            let mut witness = Audit::witness(Address([8; 20]), blind, node.holdings.clone(), pace(READ));
            assert_eq!(witness.handle(Time(0), Input::Start), [Output::Ping]);
            (1..PINGS).for_each(|i| assert_eq!(witness.handle(Time(u64::from(i) * 1_000), Input::Pong), [Output::Ping]));
            assert!(witness.handle(Time(6_000), Input::Pong).is_empty());
            witness
        };
        let mut witness = ready();
        assert!(witness.handle(Time(9_000_000), Input::Opened { nonce: node.seed.nonce }).is_empty());
        let [Output::Done(seen)] = witness.handle(Time(9_050_000), Input::Answered { bytes: node.answer().encode() })[..] else {
            panic!("an answer ends an audit")
        };
        assert_eq!((seen.verdict, seen.elapsed_us, seen.nonce), (Verdict::Passed, 50_000, node.seed.nonce));
        let mut alone = ready();
        let [Output::Done(seen)] = alone.handle(alone.deadline().unwrap(), Input::Tick)[..] else { panic!("patience ends") };
        assert_eq!(seen.verdict, Verdict::Unknown);
    }

    /// Answers the ping of this number and none before it; returns what comes of it, and when.
    fn pinged(audit: &mut Audit, answered: u8) -> (Time, Vec<Output>) {
        let (mut now, mut outputs) = (Time(0), audit.handle(Time(0), Input::Start));
        for _ in 1..answered.min(PINGS) {
            assert_eq!(outputs, [Output::Ping]);
            now = audit.deadline().unwrap();
            outputs = audit.handle(now, Input::Tick);
        }
        assert_eq!(outputs, [Output::Ping]);
        if answered > PINGS {
            now = audit.deadline().unwrap();
            return (now, audit.handle(now, Input::Tick));
        }
        now = now.after(Duration::from_millis(30));
        (now, audit.handle(now, Input::Pong))
    }

    #[test]
    fn who_shows_no_list_is_late_if_it_answers_a_ping_and_offline_if_none() {
        let seed = Seed { beacon: Hash32([1; 32]), node: Address([2; 20]), epoch: 3, holdings: Hash32([4; 32]), nonce: Hash32::ZERO };
        let silent = || Audit::without_list(Address([9; 20]), seed, false);
        let expected = |verdict, round_trip_us| AuditVerdict {
            auditor: Address([9; 20]),
            node: Address([2; 20]),
            epoch: 3,
            holdings: Hash32::ZERO,
            nonce: Hash32::ZERO,
            verdict,
            right: 0,
            digest: Hash32::ZERO,
            round_trip_us,
            elapsed_us: 0,
        };
        for answered in 1..=PINGS + 1 {
            let mut audit = silent();
            let (now, end) = pinged(&mut audit, answered);
            let seen = if answered <= PINGS { expected(Verdict::Late, 30_000) } else { expected(Verdict::Offline, 0) };
            assert_eq!(end, [Output::Done(seen)], "ping {answered}");
            assert!(audit.deadline().is_none() && audit.handle(now, Input::Pong).is_empty());
        }
        let mut own = silent();
        own.handle(Time(0), Input::Start);
        assert_eq!(own.handle(Time(1), Input::Trouble), [Output::Done(expected(Verdict::Unknown, 0))]);
        let mut deaf = silent();
        deaf.handle(Time(0), Input::Start);
        let letters = [Input::Opened { nonce: Hash32([1; 32]) }, Input::Answered { bytes: vec![0, 0] }];
        assert!(
            letters.into_iter().all(|letter| deaf.handle(Time(1), letter).is_empty()),
            "an empty answer to no challenge passes nothing"
        );
    }

    #[test]
    fn an_opener_that_is_shown_no_list_challenges_for_the_witnesses_and_passes_nothing() {
        let node = Node::new(&[100_000]);
        // The answer of who committed to nothing, that of who holds what it lists, rubbish, and none.
        let empty = Answer::Ranges(Vec::new()).encode();
        for (bytes, answered, expected) in [
            (Some(empty.clone()), PINGS, Verdict::Late),
            (Some(node.answer().encode()), PINGS, Verdict::Late),
            (Some(b"?".to_vec()), PINGS, Verdict::Late),
            (None, PINGS, Verdict::Late),
            (Some(empty), PINGS + 1, Verdict::Late),
            (None, PINGS + 1, Verdict::Offline),
        ] {
            let mut opener = Audit::without_list(Address([9; 20]), node.seed, true);
            let (now, asked) = pinged(&mut opener, answered);
            assert_eq!(asked, [Output::Challenge { nonce: node.seed.nonce }]);
            let (at, input) = match bytes {
                Some(bytes) => (now.after(Duration::from_millis(1)), Input::Answered { bytes }),
                None => (opener.deadline().unwrap(), Input::Tick),
            };
            let [Output::Done(seen)] = opener.handle(at, input)[..] else { panic!("an answer or patience ends an audit") };
            assert_eq!((seen.verdict, seen.right, seen.holdings), (expected, 0, Hash32::ZERO));
        }
    }

    #[test]
    fn an_outsourcer_is_caught_by_productions_pace_from_the_round_trip_that_is_told() {
        let node = Node::new(&[100_000, 50_000]);
        let good = node.answer().encode();
        // Reads from the page cache, as an idle machine measures them; a disk that turns; one that is nearly broken.
        let cases = [
            (Duration::from_micros(40), 331_072, 36_554, 11_554),
            (Duration::from_millis(10), 531_072, 46_554, 16_554),
            (Duration::from_secs(1), 1_131_072, 76_554, 31_554),
        ];
        for (read, deadline_us, sly_us, plain_us) in cases {
            let pace = Pace::measured(&[read; READS_MIN]).unwrap();
            let reach = pace.reach();
            let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap();
            assert_eq!((micros(reach.deadline), micros(reach.sly), micros(reach.plain)), (deadline_us, sly_us, plain_us), "{read:?}");
            let verdict = |line| audit_at(&node, line, good.clone(), pace).verdict;
            let under = Duration::from_micros(2);
            let sly = |fetch| Line { delays_pings: true, round_trip: Duration::ZERO, per_range: fetch, ..Line::honest(Duration::ZERO) };
            assert_eq!((verdict(sly(reach.sly)), verdict(sly(reach.sly - under))), (Verdict::Late, Verdict::Passed), "{read:?}");
            let plain = |fetch| Line { per_range: fetch + pace.read(), ..Line::honest(Duration::ZERO) };
            assert_eq!((verdict(plain(reach.plain)), verdict(plain(reach.plain - under))), (Verdict::Late, Verdict::Passed), "{read:?}");
        }
        assert_eq!(
            (Pace::measured(&[Duration::ZERO; READS_MIN]), Pace::measured(&[READ_MAX; READS_MIN])),
            (Some(Pace::LEAST), Some(Pace::MOST))
        );
        assert_eq!(Pace::measured(&[Duration::ZERO; READS_MIN - 1]), None);
    }

    #[test]
    fn an_outsourcer_is_caught_from_the_stated_round_trip_on() {
        let node = Node::new(&[100_000, 50_000]);
        let good = node.answer().encode();
        let own = Duration::from_millis(30);
        // Whatever it does: pings held back, a source that reads at once, lines that take no time.
        let sly = |fetch| Line { delays_pings: true, round_trip: Duration::ZERO, per_range: fetch, ..Line::honest(own) };
        let from = pace(READ).caught_from(ROUND_TRIP_MAX);
        assert_eq!(audit(&node, sly(from), good.clone()).verdict, Verdict::Late);
        assert_eq!(audit(&node, sly(from - Duration::from_micros(2)), good.clone()).verdict, Verdict::Passed, "closer is not found");
        // One that does not play with pings, from a source as fast as an honest disk.
        let plain = |fetch| Line { per_range: fetch + READ, ..Line::honest(own) };
        let from = pace(READ).caught_from_if_plain(own);
        assert_eq!(audit(&node, plain(from), good.clone()).verdict, Verdict::Late);
        assert_eq!(audit(&node, plain(from - Duration::from_micros(2)), good).verdict, Verdict::Passed);
        // 131 ms for the answer over 20 Mbit/s, 80 ms for reads, 400 ms for held-back pings: over 20 ranges.
        assert_eq!(pace(READ).caught_from(ROUND_TRIP_MAX), Duration::from_nanos(30_554_600));
        assert_eq!(pace(READ).caught_from_if_plain(own), Duration::from_nanos(8_554_600));
    }

    proptest! {
        #[test]
        fn an_honest_node_within_the_slack_passes_over_any_line_that_is_allowed(round_trip in 0..400_u64, read in 0..4_000_u64, sending in 0..131_u64) {
            let node = Node::new(&[100_000, 50_000]);
            let line = Line {
                per_range: Duration::from_micros(read),
                sending: Duration::from_millis(sending),
                ..Line::honest(Duration::from_millis(round_trip))
            };
            prop_assert_eq!(audit(&node, line, node.answer().encode()).verdict, Verdict::Passed);
        }
    }

    #[test]
    fn a_pace_is_a_high_percentile_of_enough_reads() {
        let mut reads: Vec<_> = (1..=100).map(Duration::from_micros).collect();
        assert_eq!(Pace::of(&reads), Some(Pace { read: Duration::from_micros(95) }));
        reads.reverse();
        assert_eq!(Pace::of(&reads), Some(Pace { read: Duration::from_micros(95) }));
        assert_eq!(Pace::of(&reads[..READS_MIN - 1]), None);
        assert_eq!(Pace::of(&[Duration::from_secs(1); READS_MIN]), Some(Pace { read: READ_MAX }));
        assert_eq!(Pace::of(&[]), None);
    }
}
