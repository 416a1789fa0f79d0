//! Spreading an object: each fragment to its holder, until every one says it is on its disk.
//!
//! Putting is idempotent, so whatever is unclear (a lost stream, a late answer) is simply sent again, at most [`Config::attempts`] times. An
//! object is spread when all its fragments are stored: what is registered afterwards must bear the loss its profile promises, from the first
//! day. A holder that does not take its fragment ([`SpreadError::unwilling`]: it has no room, does not answer, its disk fails) is left out of the next draw
//! ([`super::placement::Draw`]), and a spread to the holders drawn then begins with what is stored already. Messages: one Put per fragment, and one more per failure.
//!
//! An object whose contributor has signed who holds it is another matter: nobody is drawn for it any more, and what a holder lost or takes away with it is repair's
//! ([`SpreadError::is_left_to_repair`]). A spread that is run again over a record asks those that are heard and counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use types::{
    id::{BlobId, NodeId},
    time::Time,
};

use super::{
    message::{Refusal, Reply},
    repair::floor,
};
use crate::erasure::Profile;

/// How patient a spread is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Wait for one fragment to be stored. 60 s: the largest at 3 Mbit/s.
    pub put_timeout: Duration,
    /// Times a fragment is sent. 5: with [`Config::retry_after`], a holder may be away for some seconds.
    pub attempts: u8,
    /// Wait before sending again. 1 s.
    pub retry_after: Duration,
    /// Fragments under way at once. 5: all of the devnet's, 110 MB at most in memory and on the link.
    pub at_once: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { put_timeout: Duration::from_secs(60), attempts: 5, retry_after: Duration::from_secs(1), at_once: 5 }
    }
}

/// What happens to a spread.
#[derive(Debug, Clone)]
pub enum Input {
    /// Begin; the first input.
    Start,
    /// The answer to the Put of a fragment.
    Reply {
        /// Which fragment was sent.
        index: u8,
        /// What came.
        reply: Reply,
    },
    /// Sending a fragment failed: no connection, a broken stream, an undecodable answer.
    Lost {
        /// Which fragment was sent.
        index: u8,
    },
    /// Time passed; due at [`Spread::deadline`].
    Tick,
}

/// What the caller must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send [`super::message::Request::Put`] with this fragment.
    Send {
        /// To whom.
        to: NodeId,
        /// Which fragment.
        index: u8,
    },
    /// The spread ended: the holder of each fragment, by index, or what failed.
    Done(Result<Vec<NodeId>, SpreadError>),
}

/// Why a fragment is not with its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The holder refused it.
    Refused(Refusal),
    /// No answer in time.
    TimedOut,
    /// The holder could not be reached, or broke off.
    Lost,
    /// The holder is not heard, so nothing was sent.
    Unheard,
    /// The holder answered something else.
    OffTopic,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Lost => f.write_str("not reachable"),
            Self::Unheard => f.write_str("not heard"),
            Self::OffTopic => f.write_str("answered another question"),
        }
    }
}

/// Some holders do not have their fragment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "object {object}: {stored} of {total} fragments are stored, missing are {}: start those holders and spread it again",
    list(failures)
)]
pub struct SpreadError {
    /// The object.
    pub object: BlobId,
    /// Fragments that are with their holder.
    pub stored: usize,
    /// Fragments there are.
    pub total: usize,
    /// Fragment, its holder and the last failure.
    pub failures: BTreeMap<u8, (NodeId, Failure)>,
}

impl SpreadError {
    /// Holders in whose place others may be drawn: those that did not take their fragment for reasons of their own. Nothing if a fragment was refused for
    /// what it is: nobody else would take it.
    pub fn unwilling(&self) -> Option<BTreeSet<NodeId>> {
        let is_object = |failure: &Failure| matches!(failure, Failure::Refused(Refusal::Invalid { .. } | Refusal::Erased { .. }));
        let is_refused = self.failures.values().any(|(_, failure)| is_object(failure));
        (!is_refused).then(|| self.failures.values().map(|(holder, _)| *holder).collect())
    }

    /// Whether what is missing may be left to repair, once the object's record says who holds what: as many fragments are stored as an object has that repair leaves alone
    /// ([`floor`]), and none was refused for what it is.
    pub fn is_left_to_repair(&self, profile: Profile) -> bool {
        self.stored >= usize::from(floor(profile)) && self.unwilling().is_some()
    }

    /// Holders that had no room.
    pub fn full(&self) -> BTreeSet<NodeId> {
        let full = self.failures.values().filter(|(_, failure)| matches!(failure, Failure::Refused(Refusal::Full { .. })));
        full.map(|(holder, _)| *holder).collect()
    }
}

fn list(failures: &BTreeMap<u8, (NodeId, Failure)>) -> String {
    let each: Vec<_> = failures.iter().map(|(index, (holder, failure))| format!("{index} at {holder} ({failure})")).collect();
    each.join("; ")
}

#[derive(Debug)]
enum Fragment {
    /// Not to be sent before.
    Waiting(Time),
    /// Sent, with its due time.
    Sent(Time),
    Stored,
    Failed(Failure),
}

/// One spread of one object.
#[derive(Debug)]
pub struct Spread {
    object: BlobId,
    config: Config,
    fragments: Vec<(NodeId, u8, Fragment)>,
    is_done: bool,
}

impl Spread {
    /// A spread of `object`, fragment i to `holders[i]`.
    pub fn new(object: BlobId, holders: impl IntoIterator<Item = NodeId>, config: Config) -> Self {
        // Indices are u8; a profile has no more fragments than that.
        let fragments = (0..=u8::MAX).zip(holders).map(|(_, holder)| (holder, 0, Fragment::Waiting(Time(0)))).collect();
        Self { object, config, fragments, is_done: false }
    }

    /// The same of which some fragments are with their holders already.
    #[must_use]
    pub fn after(mut self, stored: &BTreeSet<(u8, NodeId)>) -> Self {
        for (index, (holder, _, fragment)) in (0..=u8::MAX).zip(&mut self.fragments) {
            if stored.contains(&(index, *holder)) {
                *fragment = Fragment::Stored;
            }
        }
        self
    }

    /// The same, whose holders of these fragments are not heard: nothing is sent to them.
    #[must_use]
    pub fn without(mut self, unheard: &BTreeSet<u8>) -> Self {
        for (index, (_, _, fragment)) in (0..=u8::MAX).zip(&mut self.fragments) {
            if unheard.contains(&index) && !matches!(fragment, Fragment::Stored) {
                *fragment = Fragment::Failed(Failure::Unheard);
            }
        }
        self
    }

    /// Fragments that are with their holders, and these.
    pub fn stored(&self) -> BTreeSet<(u8, NodeId)> {
        let stored = (0..=u8::MAX).zip(&self.fragments).filter(|(_, (_, _, fragment))| matches!(fragment, Fragment::Stored));
        stored.map(|(index, (holder, ..))| (index, *holder)).collect()
    }

    /// When the next [`Input::Tick`] is due; nothing once the spread ended.
    pub fn deadline(&self) -> Option<Time> {
        let due = |(_, _, fragment): &(NodeId, u8, Fragment)| match fragment {
            Fragment::Waiting(due) | Fragment::Sent(due) => Some(*due),
            Fragment::Stored | Fragment::Failed(_) => None,
        };
        // What waits only for a place among those under way is woken by their answers.
        let is_full = self.under_way() >= self.config.at_once;
        let counts = |fragment: &&(NodeId, u8, Fragment)| !(is_full && matches!(fragment.2, Fragment::Waiting(_)));
        self.fragments.iter().filter(counts).filter_map(due).min().filter(|_| !self.is_done)
    }

    /// Takes one input; the outputs are to be carried out in order.
    pub fn handle(&mut self, now: Time, input: Input) -> Vec<Output> {
        if self.is_done {
            return Vec::new();
        }
        match input {
            Input::Start | Input::Tick => {}
            Input::Reply { index, reply } => self.reply(now, index, reply),
            Input::Lost { index } => self.fail(now, index, Failure::Lost),
        }
        self.expire(now);
        let mut outputs = self.send(now);
        outputs.extend(self.end());
        outputs
    }

    fn under_way(&self) -> usize {
        self.fragments.iter().filter(|(_, _, fragment)| matches!(fragment, Fragment::Sent(_))).count()
    }

    fn reply(&mut self, now: Time, index: u8, reply: Reply) {
        match reply {
            Reply::Stored { object, index: at } if object == self.object && at == index => {
                // Also after its deadline: it is on the disk.
                if let Some((_, _, fragment)) = self.fragments.get_mut(usize::from(index)) {
                    *fragment = Fragment::Stored;
                }
            }
            Reply::Refused(refusal) => self.fail(now, index, Failure::Refused(refusal)),
            _ => self.fail(now, index, Failure::OffTopic),
        }
    }

    fn fail(&mut self, now: Time, index: u8, failure: Failure) {
        let Config { attempts, retry_after, .. } = self.config;
        let Some((_, sent, fragment @ Fragment::Sent(_))) = self.fragments.get_mut(usize::from(index)) else { return };
        let may_pass = match &failure {
            // A holder that has not yet seen the registration on chain says that it is none, one that hears other ads that it is not its turn.
            Failure::Refused(refusal) => refusal.is_passing() || matches!(refusal, Refusal::NotHolder { .. } | Refusal::Misplaced { .. }),
            Failure::TimedOut | Failure::Lost => true,
            Failure::OffTopic | Failure::Unheard => false,
        };
        *fragment = if may_pass && *sent < attempts { Fragment::Waiting(now.after(retry_after)) } else { Fragment::Failed(failure) };
    }

    fn expire(&mut self, now: Time) {
        for index in 0..=u8::MAX {
            let Some((_, _, fragment)) = self.fragments.get(usize::from(index)) else { break };
            if matches!(fragment, Fragment::Sent(due) if *due <= now) {
                self.fail(now, index, Failure::TimedOut);
            }
        }
    }

    fn send(&mut self, now: Time) -> Vec<Output> {
        let (mut outputs, mut under_way) = (Vec::new(), self.under_way());
        let due = now.after(self.config.put_timeout);
        for (index, (to, sent, fragment)) in (0..=u8::MAX).zip(&mut self.fragments) {
            if under_way < self.config.at_once && matches!(fragment, Fragment::Waiting(from) if *from <= now) {
                (*sent, *fragment, under_way) = (*sent + 1, Fragment::Sent(due), under_way + 1);
                outputs.push(Output::Send { to: *to, index });
            }
        }
        outputs
    }

    fn end(&mut self) -> Option<Output> {
        if self.fragments.iter().any(|(_, _, fragment)| matches!(fragment, Fragment::Waiting(_) | Fragment::Sent(_))) {
            return None;
        }
        self.is_done = true;
        let (object, total) = (self.object, self.fragments.len());
        let failure = |(index, (holder, _, fragment)): (u8, &(NodeId, u8, Fragment))| match fragment {
            Fragment::Failed(failure) => Some((index, (*holder, failure.clone()))),
            _ => None,
        };
        let failures: BTreeMap<_, _> = (0..=u8::MAX).zip(&self.fragments).filter_map(failure).collect();
        Some(Output::Done(match failures.len() {
            0 => Ok(self.fragments.iter().map(|(holder, ..)| *holder).collect()),
            failed => Err(SpreadError { object, stored: total - failed, total, failures }),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: BlobId = BlobId([7; 32]);

    fn node(index: u8) -> NodeId {
        NodeId([index; 32])
    }

    /// Runs a spread over holders whose nth answer is a function of fragment and attempt; nothing: silence.
    fn run(config: Config, answer: impl Fn(u8, u8) -> Option<Input>) -> (Result<Vec<NodeId>, SpreadError>, BTreeMap<u8, u8>, Time) {
        let mut spread = Spread::new(OBJECT, (0..5).map(node), config.clone());
        let (mut inputs, mut sent, mut now) = (vec![Input::Start], BTreeMap::<u8, u8>::new(), Time(0));
        for _ in 0..200 {
            let input = inputs.pop().unwrap_or_else(|| {
                now = spread.deadline().expect("a spread that waits has a deadline").max(now);
                Input::Tick
            });
            for output in spread.handle(now, input) {
                match output {
                    Output::Send { to, index } => {
                        assert_eq!(to, node(index));
                        *sent.entry(index).or_default() += 1;
                        inputs.extend(answer(index, sent[&index]));
                    }
                    Output::Done(result) => return (result, sent, now),
                }
            }
            assert!(spread.under_way() <= config.at_once);
        }
        panic!("the spread did not end");
    }

    const fn stored(index: u8) -> Option<Input> {
        Some(Input::Reply { index, reply: Reply::Stored { object: OBJECT, index } })
    }

    const fn refused(index: u8, refusal: Refusal) -> Option<Input> {
        Some(Input::Reply { index, reply: Reply::Refused(refusal) })
    }

    #[test]
    fn every_fragment_is_sent_once_when_all_goes_well_however_few_at_once() {
        for at_once in 1..6 {
            let (result, sent, _) = run(Config { at_once, ..Config::default() }, |index, _| stored(index));
            assert_eq!(result, Ok((0..5).map(node).collect()));
            assert_eq!(sent, (0..5).map(|index| (index, 1)).collect());
        }
    }

    #[test]
    fn what_may_pass_is_tried_again_and_what_may_not_is_not() {
        let (result, sent, now) = run(Config::default(), |index, attempt| match (index, attempt) {
            (0, 1) => Some(Input::Lost { index }),
            (1, 1..=2) => refused(index, Refusal::NotHolder { object: OBJECT, index }),
            (2, 1) => None,
            _ => stored(index),
        });
        assert!(result.is_ok());
        assert_eq!(sent, BTreeMap::from([(0, 2), (1, 3), (2, 2), (3, 1), (4, 1)]));
        assert_eq!(now, Time(61_000_000), "one timeout, then one wait");

        let (result, sent, _) = run(Config::default(), |index, _| match index {
            0 => Some(Input::Lost { index }),
            1 => refused(index, Refusal::Full { free: 1, need: 2 }),
            2 => Some(Input::Reply { index, reply: Reply::Stored { object: OBJECT, index: 9 } }),
            _ => stored(index),
        });
        assert_eq!(sent, BTreeMap::from([(0, 5), (1, 1), (2, 1), (3, 1), (4, 1)]));
        let error = result.unwrap_err();
        assert_eq!((error.stored, error.total), (2, 5));
        assert_eq!(error.failures[&0], (node(0), Failure::Lost));
        assert_eq!(error.failures[&2], (node(2), Failure::OffTopic));
        let words = error.to_string();
        assert!(words.contains("2 of 5 fragments are stored") && words.contains("1 bytes are free, 2 are needed"), "{words}");
    }

    #[test]
    fn a_spread_goes_on_with_other_holders_where_one_was_full() {
        let mut first = Spread::new(OBJECT, (0..3).map(node), Config::default());
        assert_eq!(first.handle(Time(0), Input::Start).len(), 3);
        for index in [0, 2] {
            assert!(first.handle(Time(0), stored(index).unwrap()).is_empty());
        }
        let outputs = first.handle(Time(0), refused(1, Refusal::Full { free: 1, need: 2 }).unwrap());
        let [Output::Done(Err(error))] = outputs.as_slice() else { panic!("{outputs:?}") };
        assert_eq!((error.unwilling(), error.full()), (Some(BTreeSet::from([node(1)])), BTreeSet::from([node(1)])));
        // The one that was drawn in its place was to hold another fragment before, which the next rank has now.
        let mut second = Spread::new(OBJECT, [node(0), node(2), node(9)], Config::default()).after(&first.stored());
        let sent = [Output::Send { to: node(2), index: 1 }, Output::Send { to: node(9), index: 2 }];
        assert_eq!(second.handle(Time(0), Input::Start), sent);
        assert!(second.handle(Time(0), stored(1).unwrap()).is_empty());
        assert_eq!(second.handle(Time(0), stored(2).unwrap()), [Output::Done(Ok(vec![node(0), node(2), node(9)]))]);
        let all = (0..3).map(|index| (index, node(index))).collect();
        let mut done = Spread::new(OBJECT, (0..3).map(node), Config::default()).after(&all);
        assert_eq!(done.handle(Time(0), Input::Start), [Output::Done(Ok((0..3).map(node).collect()))], "nothing is left to send");
    }

    #[test]
    fn nobody_else_is_asked_to_hold_what_was_refused_for_what_it_is() {
        let refused_as = |refusal: Refusal| {
            let (result, ..) = run(Config { attempts: 1, ..Config::default() }, |index, _| match index {
                0 => Some(Input::Lost { index }),
                1 => refused(index, refusal.clone()),
                _ => stored(index),
            });
            result.unwrap_err().unwilling()
        };
        assert_eq!(refused_as(Refusal::Invalid { detail: "void".into() }), None);
        assert_eq!(refused_as(Refusal::Erased { object: OBJECT, block: 1, is_gone: false }), None);
        let willing = refused_as(Refusal::Misplaced { object: OBJECT, detail: "another rank".into() });
        assert_eq!(willing, Some(BTreeSet::from([node(0), node(1)])));
    }

    #[test]
    fn a_spread_over_a_record_ends_when_those_that_are_heard_hold_enough_and_leaves_the_rest_to_repair() {
        let profile = Profile::new(4, 12).unwrap();
        let spread = |unheard: u8, answer: &dyn Fn(u8) -> Input| {
            let mut spread =
                Spread::new(OBJECT, (0..12).map(node), Config { at_once: 12, ..Config::default() }).without(&(0..unheard).collect());
            let mut outputs = spread.handle(Time(0), Input::Start);
            assert!(outputs.iter().all(|output| matches!(output, Output::Send { index, .. } if *index >= unheard)), "{outputs:?}");
            for index in unheard..12 {
                outputs = spread.handle(Time(0), answer(index));
            }
            let [Output::Done(Err(error))] = outputs.as_slice() else { panic!("{outputs:?}") };
            error.clone()
        };
        let all = |index: u8| stored(index).unwrap();
        let error = spread(4, &all);
        assert!(error.is_left_to_repair(profile), "8 of 12 are not mended: {error}");
        assert_eq!((error.stored, &error.failures[&3]), (8, &(node(3), Failure::Unheard)));
        assert!(!spread(5, &all).is_left_to_repair(profile), "7 are");
        let full = |index: u8| if index == 11 { refused(index, Refusal::Full { free: 0, need: 9 }).unwrap() } else { all(index) };
        assert!(
            spread(3, &full).is_left_to_repair(profile) && !spread(4, &full).is_left_to_repair(profile),
            "who has no room counts as missing"
        );
        let void = |index: u8| if index == 11 { refused(index, Refusal::Invalid { detail: "void".into() }).unwrap() } else { all(index) };
        assert!(!spread(1, &void).is_left_to_repair(profile), "it is refused for what it is");
        // What was stored in an earlier round is stored, whoever is heard now.
        let known = (0..2).map(|index| (index, node(index))).collect();
        let again = Spread::new(OBJECT, (0..2).map(node), Config::default())
            .after(&known)
            .without(&BTreeSet::from([0]))
            .handle(Time(0), Input::Start);
        assert_eq!(again, [Output::Done(Ok(vec![node(0), node(1)]))]);
    }

    #[test]
    fn an_answer_after_its_deadline_counts() {
        let mut spread = Spread::new(OBJECT, [node(0)], Config::default());
        assert_eq!(spread.handle(Time(0), Input::Start), [Output::Send { to: node(0), index: 0 }]);
        let late = spread.deadline().unwrap();
        assert!(spread.handle(late, Input::Tick).is_empty());
        let outputs = spread.handle(late, stored(0).unwrap());
        assert_eq!(outputs, [Output::Done(Ok(vec![node(0)]))]);
        assert_eq!(spread.deadline(), None);
    }
}
