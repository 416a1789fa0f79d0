use std::collections::VecDeque;

use proptest::prelude::*;
use types::id::Hash32;

use super::*;
use crate::erasure::{Encoded, Profile, encode};

/// How a holder behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Honest,
    /// Not reachable.
    Stopped,
    /// Never answers.
    Silent,
    /// Offers its fragment, then sends other bytes.
    Liar,
    /// Sends another manifest.
    Forger,
    /// Says its own disk changed the bytes.
    Rotten,
    /// Refuses twice for being busy, then sends.
    Busy,
    /// Answers with another fragment than was asked for.
    OffTopic,
}

struct World {
    object: Encoded,
    holders: Vec<Kind>,
    asked: BTreeMap<(NodeId, u8), u32>,
    now: Time,
}

fn node(index: usize) -> NodeId {
    NodeId([u8::try_from(index).unwrap(); 32])
}

fn bytes() -> Vec<u8> {
    (0..=250).cycle().take(3_001).collect()
}

impl World {
    fn new(holders: &[Kind]) -> Self {
        let object = encode(&bytes(), Hash32::ZERO, Profile::DEVNET).unwrap();
        Self { object, holders: holders.to_vec(), asked: BTreeMap::new(), now: Time(0) }
    }

    /// Holder i holds fragment i.
    fn answer(&mut self, to: NodeId, request: &Request) -> Option<Input> {
        let at = usize::from(to.0[0]);
        let (holder, object) = (self.holders[at], self.object.manifest.id());
        let index = if let Request::Get { index, .. } = request { Some(*index) } else { None };
        let times = index.map_or(0, |index| {
            let times = self.asked.entry((to, index)).or_default();
            *times += 1;
            *times
        });
        let send = |index: u8, bytes| Reply::Fragment { object, index, bytes };
        let reply = match (holder, index) {
            (Silent, _) => return None,
            (Stopped, index) => return Some(Input::Lost { from: to, index }),
            (Forger, None) => Reply::Located { object, manifest: b"another".to_vec(), indices: vec![to.0[0]] },
            (_, None) => Reply::Located { object, manifest: self.object.manifest.encode(), indices: vec![to.0[0]] },
            (Liar, Some(index)) => send(index, vec![0; 1_001]),
            (Rotten, Some(index)) => Reply::Refused(Refusal::Corrupt { object, index }),
            (Busy, Some(_)) if times < 3 => Reply::Refused(Refusal::Busy),
            (OffTopic, Some(index)) => send((index + 1) % 5, self.object.fragments[usize::from(index)].clone()),
            (_, Some(index)) => send(index, self.object.fragments[usize::from(index)].clone()),
        };
        Some(Input::Reply { from: to, index, reply })
    }

    /// Runs a fetch to its end; at most so many steps, because it must end.
    fn run(&mut self) -> (Result<Fetched, FetchError>, Vec<Evidence>) {
        let mut fetch = Fetch::new(self.object.manifest.id(), (0..self.holders.len()).map(node), Config::default());
        let (mut inputs, mut blamed) = (VecDeque::from([Input::Start]), Vec::new());
        for _ in 0..1_000 {
            let input = inputs.pop_front().unwrap_or_else(|| {
                self.now = fetch.deadline().expect("a fetch that waits has a deadline").max(self.now);
                Input::Tick
            });
            for output in fetch.handle(self.now, input) {
                match output {
                    Output::Send { to, request } => inputs.extend(self.answer(to, &request)),
                    Output::Blame(evidence) => blamed.push(evidence),
                    Output::Done(result) => {
                        assert_eq!(fetch.deadline(), None);
                        assert!(fetch.handle(self.now, Input::Tick).is_empty());
                        return (result, blamed);
                    }
                }
            }
        }
        panic!("the fetch did not end");
    }
}

use Kind::{Busy, Forger, Honest, Liar, OffTopic, Rotten, Silent, Stopped};

#[test]
fn with_all_holders_up_three_fragments_are_fetched_and_no_more() {
    let mut world = World::new(&[Honest; 5]);
    let (result, blamed) = world.run();
    let fetched = result.unwrap();
    assert_eq!((fetched.bytes, blamed), (bytes(), vec![]));
    assert_eq!(fetched.received, (0..3).map(|i| (node(i), 1_001)).collect());
    assert_eq!(world.asked.len(), 3);
}

#[test]
fn any_two_of_five_holders_may_be_stopped() {
    for a in 0..5 {
        for b in a + 1..5 {
            let mut holders = [Honest; 5];
            (holders[a], holders[b]) = (Stopped, Stopped);
            let mut world = World::new(&holders);
            let fetched = world.run().0.unwrap();
            assert_eq!(fetched.bytes, bytes());
            let senders: Vec<_> = (0..5).filter(|i| ![a, b].contains(i)).map(|i| (node(i), 1_001)).collect();
            assert_eq!(fetched.received.into_iter().collect::<Vec<_>>(), senders);
        }
    }
}

#[test]
fn a_fragment_changed_on_the_wire_names_holder_object_and_fragment_in_every_position() {
    for bad in 0..3 {
        let mut holders = [Honest; 5];
        holders[bad] = Liar;
        let mut world = World::new(&holders);
        let (result, blamed) = world.run();
        let fetched = result.unwrap();
        assert!(!fetched.received.contains_key(&node(bad)));
        let index = u8::try_from(bad).unwrap();
        let expected = world.object.manifest.fragments()[bad].blake3;
        let object = world.object.manifest.id();
        assert_eq!(blamed, [Evidence { holder: node(bad), object, fragment: Some(index), expected, got: BlobId::of(&[0; 1_001]) }]);
        let words = blamed[0].to_string();
        for word in [node(bad).to_string(), format!("fragment {index} of object {object}"), expected.to_string()] {
            assert!(words.contains(&word), "{words}");
        }
        assert_eq!(world.asked[&(node(bad), index)], 1, "a liar is asked nothing more");
    }
}

#[test]
fn fewer_than_three_fragments_is_an_error_that_counts_and_says_who_failed_how() {
    let (result, blamed) = World::new(&[Honest, Stopped, Rotten, Silent, Liar]).run();
    let error = result.unwrap_err();
    assert_eq!(blamed.len(), 1);
    let FetchError::TooFew { found: 1, needed: 3, failures, .. } = &error else { panic!("{error}") };
    assert_eq!(failures[&node(1)], Failure::Lost);
    assert!(matches!(failures[&node(2)], Failure::Refused(Refusal::Corrupt { index: 2, .. })));
    assert_eq!((&failures[&node(3)], &failures[&node(4)]), (&Failure::TimedOut, &Failure::Wrong));
    let words = error.to_string();
    assert!(
        words.contains("needs 3 fragments, 1 were found") && words.contains("damaged on its holder's disk") && words.contains("start more")
    );
}

#[test]
fn without_any_holder_the_error_says_that_no_manifest_was_found() {
    for holders in [&[][..], &[Stopped; 5], &[Silent; 2], &[Forger; 3]] {
        let (result, blamed) = World::new(holders).run();
        let error = result.unwrap_err();
        assert!(matches!(&error, FetchError::NoManifest { asked, .. } if *asked == holders.len()), "{error}");
        assert_eq!(blamed.len(), holders.iter().filter(|holder| **holder == Forger).count());
        assert!(blamed.iter().all(|evidence| evidence.fragment.is_none() && evidence.got == BlobId::of(b"another")));
    }
}

#[test]
fn a_forged_manifest_is_evidence_and_the_next_holders_is_taken() {
    let (result, blamed) = World::new(&[Forger, Honest, Honest, Honest, Stopped]).run();
    assert_eq!(result.unwrap().received.len(), 3);
    assert_eq!((blamed.len(), blamed[0].holder), (1, node(0)));
}

#[test]
fn a_busy_holder_is_asked_again_and_a_silent_one_waited_for_only_so_long() {
    let mut world = World::new(&[Busy, Honest, Honest, Stopped, Stopped]);
    assert_eq!(world.run().0.unwrap().received.len(), 3);
    assert_eq!(world.asked[&(node(0), 0)], 3);
    assert!(world.now >= Time(1_000_000) && world.now < Time(60_000_000), "{:?}", world.now);

    let mut world = World::new(&[OffTopic, Honest, Honest, Honest, Stopped]);
    let (result, blamed) = world.run();
    assert!(result.is_ok() && blamed.is_empty());
    assert_eq!(world.asked[&(node(0), 0)], 1);
}

#[test]
fn a_fragment_that_comes_after_its_deadline_still_counts() {
    let Encoded { manifest, fragments } = World::new(&[]).object;
    let object = manifest.id();
    let mut fetch = Fetch::new(object, (0..3).map(node), Config::default());
    fetch.handle(Time(0), Input::Start);
    let reply = |index: u8| Reply::Fragment { object, index, bytes: fragments[usize::from(index)].clone() };
    for index in 0..3 {
        let reply = Reply::Located { object, manifest: manifest.encode(), indices: vec![index] };
        fetch.handle(Time(1), Input::Reply { from: node(index.into()), index: None, reply });
    }
    let late = Time(0).after(Config::default().get_timeout).after(Duration::from_secs(1));
    assert!(fetch.handle(late, Input::Tick).is_empty(), "the holders rest before they are asked again");
    let ends: Vec<_> = (0..3_u8)
        .flat_map(|index| fetch.handle(late, Input::Reply { from: node(index.into()), index: Some(index), reply: reply(index) }))
        .collect();
    assert!(matches!(&ends[..], [Output::Done(Ok(fetched))] if fetched.bytes.len() == 3_001), "{ends:?}");
}

#[test]
fn a_manifest_that_is_the_objects_and_broken_ends_the_fetch_at_once() {
    let broken = b"registered by its hash, but no manifest".to_vec();
    let object = BlobId::of(&broken);
    let mut fetch = Fetch::new(object, [node(0), node(1)], Config::default());
    fetch.handle(Time(0), Input::Start);
    let reply = Reply::Located { object, manifest: broken, indices: vec![0] };
    let outputs = fetch.handle(Time(1), Input::Reply { from: node(0), index: None, reply });
    assert!(matches!(&outputs[..], [Output::Done(Err(FetchError::Manifest(_)))]), "{outputs:?}");
}

proptest! {
    #[test]
    fn a_fetch_always_ends_and_succeeds_exactly_when_three_fragments_can_be_had(holders in proptest::collection::vec(0..8_usize, 5)) {
        const KINDS: [Kind; 8] = [Honest, Stopped, Silent, Liar, Forger, Rotten, Busy, OffTopic];
        let holders: Vec<_> = holders.into_iter().map(|kind| KINDS[kind]).collect();
        let good = holders.iter().filter(|holder| matches!(holder, Honest | Busy)).count();
        let mut world = World::new(&holders);
        let (result, blamed) = world.run();
        prop_assert_eq!(result.is_ok(), good >= 3, "{:?}", result);
        prop_assert!(world.asked.values().all(|times| *times <= u32::from(Config::default().attempts)));
        let is_bad = |evidence: &Evidence| matches!(holders[usize::from(evidence.holder.0[0])], Liar | Forger);
        prop_assert!(blamed.iter().all(is_bad), "an honest holder is never blamed");
    }
}
