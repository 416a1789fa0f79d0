use proptest::prelude::*;
use types::id::Hash32;

use super::*;
use crate::{
    erasure::{Encoded, Profile, encode},
    proto::range::{Decoder, Encoder, GROUP_BYTES, Tree},
};

mod width;

/// How a holder behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Honest,
    /// Not reachable.
    Stopped,
    /// Not reachable when it is asked first, then honest.
    Shy,
    /// Says what it has and then nothing.
    Silent,
    /// Offers its fragment, then sends other bytes from this group on.
    Liar(u32),
    /// Sends another manifest.
    Forger,
    /// Says its own disk changed the bytes.
    Rotten,
    /// Refuses twice for being busy, then sends.
    Busy,
    /// Answers with another range than was asked for.
    OffTopic,
    /// Breaks every stream off after so many groups.
    Breaks(u32),
    /// Sends one group in so many milliseconds; others take one.
    Slow(u64),
    /// Knows nothing of the object.
    Stranger,
}

use Kind::{Breaks, Busy, Forger, Honest, Liar, OffTopic, Rotten, Shy, Silent, Slow, Stopped, Stranger};

const GROUPS: u32 = 40;
const FRAGMENT: usize = (GROUPS as usize - 1) * GROUP_BYTES + 7;

struct World {
    object: Encoded,
    bytes: Vec<u8>,
    holders: Vec<Kind>,
    /// Whether who is stopped says nothing at all, not even that it is not reachable.
    silent: bool,
    /// Fragment of each holder.
    indices: Vec<u8>,
    events: BTreeMap<(u64, u32), Input>,
    made: u32,
    asked: BTreeMap<(NodeId, u8), u32>,
    /// Times that candidates were asked what they hold, and when each was.
    located: usize,
    locates: BTreeMap<NodeId, Vec<u64>>,
    /// Groups asked for.
    groups: u32,
    runs: Vec<(NodeId, u8, Run)>,
    cancelled: BTreeSet<u32>,
    /// Most fragments that were on their way at once.
    widest: usize,
    now: u64,
}

fn node(index: usize) -> NodeId {
    let mut id = [u8::try_from(index % 256).unwrap(); 32];
    id[1] = u8::try_from(index / 256).unwrap();
    NodeId(id)
}

/// Which of the candidates it is.
fn at(node: NodeId) -> usize {
    usize::from(node.0[0]) + 256 * usize::from(node.0[1])
}

impl World {
    fn of(profile: Profile, holders: &[Kind]) -> Self {
        let bytes: Vec<u8> =
            (0..usize::from(profile.data()) * FRAGMENT).map(|i| u8::try_from((i * 3 + i / 1_000) % 256).unwrap()).collect();
        let object = encode(&bytes, Hash32::ZERO, profile).unwrap();
        Self {
            object,
            bytes,
            holders: holders.to_vec(),
            silent: false,
            indices: (0..holders.len()).map(|index| u8::try_from(index % 256).unwrap()).collect(),
            events: BTreeMap::new(),
            made: 0,
            asked: BTreeMap::new(),
            located: 0,
            locates: BTreeMap::new(),
            groups: 0,
            runs: Vec::new(),
            cancelled: BTreeSet::new(),
            widest: 0,
            now: 0,
        }
    }

    fn new(holders: &[Kind]) -> Self {
        Self::of(Profile::DEVNET, holders)
    }

    fn later(&mut self, wait_us: u64, input: Input) {
        self.made += 1;
        self.events.insert((self.now + wait_us, self.made), input);
    }

    fn locate(&mut self, to: NodeId) {
        let (object, manifest) = (self.object.manifest.id(), self.object.manifest.encode());
        self.located += 1;
        let times = self.locates.entry(to).or_default();
        times.push(self.now);
        let is_first = times.len() == 1;
        let at = at(to);
        let indices = vec![self.indices[at]];
        let reply = match self.holders[at] {
            Stopped => None,
            Shy if is_first => None,
            Stranger => Some(Reply::Refused(Refusal::Unknown { object })),
            Forger => Some(Reply::Located { object, manifest: b"another".to_vec(), indices }),
            _ => Some(Reply::Located { object, manifest, indices }),
        };
        if reply.is_some() || !self.silent {
            self.later(10, Input::Located { from: to, reply });
        }
    }

    /// What a holder sends, through the bytes of the wire.
    fn read(&mut self, stream: u32, to: NodeId, index: u8, run: Run) {
        let times = self.asked.entry((to, index)).or_default();
        *times += 1;
        let (times, kind) = (*times, self.holders[at(to)]);
        self.groups += run.count;
        self.runs.push((to, index, run));
        let object = self.object.manifest.id();
        let (mut pace, mut most, mut end) = (1_000, u32::MAX, StreamEnd::Whole);
        match kind {
            Silent => return,
            Rotten => (most, end) = (0, StreamEnd::Refused(Refusal::Corrupt { object, index })),
            Busy if times < 3 => (most, end) = (0, StreamEnd::Refused(Refusal::Busy)),
            OffTopic => (most, end) = (0, StreamEnd::OffTopic),
            Breaks(groups) => (most, end) = (groups, StreamEnd::Lost),
            Slow(millis) => pace = millis * 1_000,
            _ => {}
        }
        let bytes = &self.object.fragments[usize::from(index)];
        let tree = Tree::of(bytes);
        let mut sent = Vec::new();
        let get = |at: u64, place: &mut [u8]| {
            let at = usize::try_from(at).unwrap();
            place.copy_from_slice(&bytes[at..at + place.len()]);
            if let Liar(from) = kind
                && at >= from as usize * GROUP_BYTES
            {
                place.fill(0x5a);
            }
            Ok::<_, ()>(())
        };
        let mut encoder = Encoder::new(&tree, run).unwrap();
        // A liar's own check is not run.
        if matches!(kind, Liar(_)) {
            sent = lied(bytes, run, kind);
        } else {
            encoder.fill(&tree, run.count.min(most), &mut sent, get).unwrap();
        }
        let mut decoder = Decoder::new(&self.object.manifest, index, run).unwrap();
        let (mut rest, mut at) = (&sent[..], 0);
        let mut found = Vec::new();
        while !rest.is_empty() {
            let space = decoder.space();
            let count = space.len().min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            at += if count > 64 { pace } else { 0 };
            match decoder.advance(count) {
                Ok(block) => found.extend(block.or_else(|| decoder.take()).map(|block| (at, block))),
                Err(wrong) => {
                    found.extend(decoder.take().map(|block| (at, block)));
                    end = StreamEnd::Wrong(wrong);
                    break;
                }
            }
        }
        for (at, block) in found {
            self.later(at, Input::Block { stream, from: to, block });
        }
        self.later(at + 1, Input::Ended { stream, end });
    }

    fn fetch(&self) -> Fetch {
        Fetch::new(self.object.manifest.id(), (0..self.holders.len()).map(node), Config::default())
    }

    fn run(&mut self) -> (Result<Fetched, FetchError>, Vec<Evidence>) {
        let mut fetch = self.fetch();
        self.drive(&mut fetch)
    }

    /// Runs a fetch to its end; at most so many steps, because it must end.
    fn drive(&mut self, fetch: &mut Fetch) -> (Result<Fetched, FetchError>, Vec<Evidence>) {
        let mut blamed = Vec::new();
        let mut input = Input::Start;
        for _ in 0..20_000 {
            for output in fetch.handle(Time(self.now), input) {
                match output {
                    Output::Locate { to } => self.locate(to),
                    Output::Read { stream, to, index, run } => self.read(stream, to, index, run),
                    Output::Cancel { stream } => drop(self.cancelled.insert(stream)),
                    Output::Blame(evidence) => blamed.push(evidence),
                    Output::Done(result) => {
                        assert_eq!(fetch.deadline(), None);
                        assert!(fetch.handle(Time(self.now), Input::Tick).is_empty());
                        return (result, blamed);
                    }
                }
            }
            self.widest = self.widest.max(fetch.under_way());
            let due = fetch.deadline().expect("a fetch that waits has a deadline").0;
            let next = self.events.first_key_value().map(|(key, _)| *key).filter(|(at, _)| *at <= due);
            input = match next {
                Some(key) => {
                    self.now = self.now.max(key.0);
                    let event = self.events.remove(&key).unwrap();
                    match &event {
                        Input::Block { stream, .. } | Input::Ended { stream, .. } if self.cancelled.contains(stream) => Input::Tick,
                        _ => event,
                    }
                }
                None => {
                    self.now = self.now.max(due);
                    Input::Tick
                }
            };
        }
        panic!("the fetch did not end");
    }
}

/// A range whose pairs are right and whose groups are made up from one on.
fn lied(bytes: &[u8], run: Run, kind: Kind) -> Vec<u8> {
    let tree = Tree::of(bytes);
    let mut sent = Vec::new();
    let honest = |at: u64, place: &mut [u8]| {
        let at = usize::try_from(at).unwrap();
        place.copy_from_slice(&bytes[at..at + place.len()]);
        Ok::<_, ()>(())
    };
    let mut encoder = Encoder::new(&tree, run).unwrap();
    for group in run.first..run.end() {
        encoder.fill(&tree, 1, &mut sent, honest).unwrap();
        if matches!(kind, Liar(from) if group >= from) {
            let last = sent.len() - 1;
            sent[last] ^= 1;
        }
    }
    sent
}

#[test]
fn with_all_holders_up_three_fragments_are_fetched_and_no_more() {
    let mut world = World::new(&[Honest; 5]);
    let (result, blamed) = world.run();
    let fetched = result.unwrap();
    assert!(fetched.bytes == world.bytes && blamed.is_empty());
    assert_eq!(fetched.received, (0..3).map(|i| (node(i), FRAGMENT as u64)).collect());
    assert_eq!((world.asked.len(), world.groups), (3, 3 * GROUPS));
}

#[test]
fn any_two_of_five_holders_may_be_stopped() {
    for a in 0..5 {
        for b in a + 1..5 {
            let mut holders = [Honest; 5];
            (holders[a], holders[b]) = (Stopped, Stopped);
            let mut world = World::new(&holders);
            let fetched = world.run().0.unwrap();
            assert!(fetched.bytes == world.bytes);
            let senders: Vec<_> = (0..5).filter(|i| ![a, b].contains(i)).map(|i| (node(i), FRAGMENT as u64)).collect();
            assert_eq!(fetched.received.into_iter().collect::<Vec<_>>(), senders);
        }
    }
}

#[test]
fn a_group_changed_on_the_wire_names_holder_object_fragment_and_group_in_every_position() {
    for bad in 0..3 {
        for group in [0, 1, 17, GROUPS - 1] {
            let mut holders = [Honest; 5];
            holders[bad] = Liar(group);
            let mut world = World::new(&holders);
            let (result, blamed) = world.run();
            assert!(result.unwrap().bytes == world.bytes);
            let index = u8::try_from(bad).unwrap();
            let object = world.object.manifest.id();
            assert_eq!(blamed.len(), 1);
            assert_eq!((blamed[0].holder, blamed[0].fragment), (node(bad), Some((index, group))));
            let words = blamed[0].to_string();
            for word in [
                node(bad).to_string(),
                format!("fragment {index} from group {group} on of object {object}"),
                blamed[0].expected.to_string(),
            ] {
                assert!(words.contains(&word), "{words}");
            }
            assert_eq!(world.asked[&(node(bad), index)], 1, "a liar is asked nothing more");
        }
    }
}

#[test]
fn what_was_good_before_a_lie_or_a_loss_is_not_asked_for_again() {
    for kind in [Liar(30), Breaks(30)] {
        // Two holders of fragment 0.
        let mut world = World::new(&[kind, Honest, Honest, Honest]);
        world.indices = vec![0, 1, 2, 0];
        let (result, _) = world.run();
        let fetched = result.unwrap();
        assert!(fetched.bytes == world.bytes);
        assert_eq!(fetched.received[&node(0)], 30 * GROUP_BYTES as u64);
        let (_, _, run) = world.runs.iter().find(|(to, ..)| *to == node(3)).unwrap();
        assert_eq!(*run, Run { first: 30, count: 10 });
        assert_eq!(world.groups, 3 * GROUPS + 10);
    }
}

#[test]
fn a_holder_that_breaks_off_again_and_again_is_read_to_the_end_when_nobody_else_has_the_fragment() {
    let mut world = World::new(&[Breaks(15), Honest, Honest]);
    let fetched = world.run().0.unwrap();
    assert!(fetched.bytes == world.bytes);
    let of_it: Vec<_> = world.runs.iter().filter(|(to, ..)| *to == node(0)).map(|(_, _, run)| run.first).collect();
    assert_eq!(of_it, [0, 15, 30]);
}

#[test]
fn a_late_stream_is_hedged_by_another_fragment_and_cancelled() {
    let mut world = World::new(&[Slow(500), Honest, Honest, Honest, Honest]);
    let fetched = world.run().0.unwrap();
    assert!(fetched.bytes == world.bytes);
    assert!(world.now < 2_000_000, "the slow holder alone would have taken 20 s: {}", world.now);
    assert_eq!(world.asked.len(), 4, "one stream more than needed");
}

#[test]
fn a_late_stream_is_helped_by_another_holder_of_its_fragment_with_the_second_half() {
    let mut world = World::new(&[Slow(100), Honest, Honest, Honest]);
    world.indices = vec![0, 1, 2, 0];
    let fetched = world.run().0.unwrap();
    assert!(fetched.bytes == world.bytes);
    let (_, index, run) = *world.runs.iter().find(|(to, ..)| *to == node(3)).unwrap();
    assert!(index == 0 && run.end() == GROUPS && run.first >= GROUPS / 2, "{run:?}");
    assert!(fetched.received[&node(0)] > 0 && fetched.received[&node(3)] > 0);
    assert_eq!(fetched.received.values().sum::<u64>(), 3 * FRAGMENT as u64);
}

#[test]
fn hedges_are_bounded_however_many_holders_are_slow() {
    let profile = Profile::new(16, 48).unwrap();
    let mut holders = [Honest; 48];
    holders[..8].fill(Slow(2_000));
    let mut world = World::of(profile, &holders);
    let fetched = world.run().0.unwrap();
    assert!(fetched.bytes == world.bytes);
    assert!(world.groups <= (16 + 8) * GROUPS, "{}", world.groups);
    assert!(world.now < 5_000_000, "{}", world.now);
}

#[test]
fn company_that_is_slow_too_is_replaced_and_what_comes_in_vain_is_a_quarter_at_most() {
    let profile = Profile::new(16, 48).unwrap();
    let mut holders = [Honest; 48];
    // Five of those that are asked first, and the next nine after them.
    holders[..5].fill(Slow(400));
    holders[16..25].fill(Slow(400));
    let mut world = World::of(profile, &holders);
    let fetched = world.run().0.unwrap();
    assert!(fetched.bytes == world.bytes);
    // Each round of company takes half a second; a slow fragment takes 16.
    assert!(world.now < 3_000_000, "{}", world.now);
    assert!(world.runs.len() <= 16 + 14 + 5, "who was late is asked once: {}", world.runs.len());
    let came: u64 = fetched.received.values().sum();
    assert!(came <= 20 * FRAGMENT as u64, "{came}");
}

#[test]
fn a_stream_that_trickles_is_given_up_and_what_it_brought_is_kept() {
    // Two of three trickle, so that nothing counts as late.
    let mut world = World::new(&[Slow(15_000), Slow(15_000), Honest, Honest, Honest]);
    let fetched = world.run().0.unwrap();
    assert!(fetched.bytes == world.bytes);
    assert!(world.now < 25_000_000, "{}", world.now);
    assert_eq!(fetched.received[&node(0)], GROUP_BYTES as u64);
}

#[test]
fn fewer_than_three_fragments_is_an_error_that_counts_and_says_who_failed_how() {
    let (result, blamed) = World::new(&[Honest, Stopped, Rotten, Silent, Liar(0)]).run();
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
fn what_a_failed_fetch_got_is_kept_for_the_next_one() {
    let mut world = World::new(&[Honest, Breaks(20), Stopped, Stopped, Stopped]);
    let mut fetch = world.fetch();
    assert!(matches!(world.drive(&mut fetch).0, Err(FetchError::TooFew { .. })));
    let parts = fetch.into_parts().unwrap();
    assert_eq!(parts.bytes(), 2 * FRAGMENT as u64, "the second came in two pieces");
    let mut world = World::new(&[Stopped, Stopped, Honest, Stopped, Stopped]);
    let mut fetch = world.fetch().with_parts(parts);
    let (result, _) = world.drive(&mut fetch);
    assert!(result.unwrap().bytes == world.bytes);
    assert_eq!(world.groups, GROUPS);
}

#[test]
fn what_was_written_down_proves_itself_and_only_the_rest_is_asked_for() {
    let mut world = World::new(&[Honest, Liar(10), Liar(25), Stopped, Stopped]);
    let mut fetch = world.fetch();
    assert!(world.drive(&mut fetch).0.is_err());
    let parts = fetch.parts_mut().unwrap();
    let records = parts.unsaved(usize::MAX);
    assert!(parts.unsaved(usize::MAX).is_empty(), "what was given out once is not given out again");
    let manifest = world.object.manifest.clone();
    let file: Vec<u8> = [saved::head(&manifest), records.iter().flat_map(saved::record).collect()].concat();

    // As another process reads it.
    let head: [u8; saved::HEAD_BYTES] = file[..saved::HEAD_BYTES].try_into().unwrap();
    let (text, mut rest) = file[saved::HEAD_BYTES..].split_at(saved::manifest_len(&head).unwrap());
    assert_eq!(saved::manifest(BlobId::ZERO, text), None);
    let read = saved::manifest(manifest.id(), text).unwrap();
    let mut world = World::new(&[Stopped, Honest, Honest, Stopped, Stopped]);
    let mut fetch = world.fetch();
    while !rest.is_empty() {
        let (head, later) = rest.split_at(saved::RECORD_HEAD_BYTES);
        let (index, run, len) = saved::record_head(&read, head.try_into().unwrap()).unwrap();
        let (bytes, later) = later.split_at(len);
        let record = Record { index, run, bytes: bytes.to_vec() };
        for at in [0, len / 2, len - 1] {
            let mut rotten = record.clone();
            rotten.bytes[at] ^= 1;
            assert_eq!(rotten.open(&read), None);
        }
        fetch.restore(&read, &record.open(&read).unwrap());
        rest = later;
    }
    assert!(fetch.parts_mut().unwrap().unsaved(usize::MAX).is_empty(), "it is written down already");
    let (result, _) = world.drive(&mut fetch);
    let fetched = result.unwrap();
    assert!(fetched.bytes == world.bytes);
    assert_eq!(world.groups, (GROUPS - 10) + (GROUPS - 25));
    assert!(!fetched.received.contains_key(&node(0)));
}

#[test]
fn without_any_holder_the_error_says_that_no_manifest_was_found() {
    for holders in [&[][..], &[Stopped; 5], &[Forger; 3]] {
        let (result, blamed) = World::new(holders).run();
        let error = result.unwrap_err();
        assert!(matches!(&error, FetchError::NoManifest { asked, .. } if *asked == holders.len()), "{error}");
        assert_eq!(blamed.len(), holders.iter().filter(|holder| **holder == Forger).count());
        assert!(blamed.iter().all(|evidence| evidence.fragment.is_none() && evidence.got == BlobId::of(b"another")));
    }
}

/// A thousand candidates, holders of an object of 16 of 48 at these places.
fn among_a_thousand(places: impl Iterator<Item = usize>) -> World {
    let mut world = World::of(Profile::for_operators(96), &[Stranger; 1_000]);
    for (index, place) in (0..).zip(places) {
        (world.holders[place], world.indices[place]) = (Honest, index);
    }
    world
}

#[test]
fn holders_among_a_thousand_candidates_are_found_wherever_they_stand() {
    for stride in [20, 7, 1] {
        let mut world = among_a_thousand((0..48).map(|index| 999 - index * stride));
        assert!(world.run().0.unwrap().bytes == world.bytes, "stride {stride}");
    }
}

#[test]
fn candidates_behind_the_first_wave_are_not_troubled_while_it_suffices() {
    let mut world = among_a_thousand(0..48);
    assert!(world.run().0.unwrap().bytes == world.bytes);
    assert_eq!(world.located, WAVE);
}

#[test]
fn who_could_not_be_reached_is_asked_once_more_where_too_little_is_offered_and_who_said_no_is_not() {
    for silent in [false, true] {
        let mut world = World::new(&[Shy, Shy, Honest, Stranger, Stopped]);
        world.silent = silent;
        let fetched = world.run().0.unwrap();
        assert!(fetched.bytes == world.bytes);
        let asked: Vec<usize> = (0..5).map(|holder| world.locates[&node(holder)].len()).collect();
        assert_eq!(asked, [2, 2, 1, 1, 2]);
        let times = &world.locates[&node(0)];
        assert!(times[1] - times[0] >= 500_000, "a busy holder has time to get through: {times:?}");
    }
}

#[test]
fn nobody_is_asked_again_what_it_holds_while_enough_is_offered() {
    let mut world = World::new(&[Honest, Shy, Honest, Stopped, Honest]);
    assert!(world.run().0.unwrap().bytes == world.bytes);
    assert_eq!(world.located, 5);
}

#[test]
fn what_is_lost_while_it_is_read_is_made_good_by_who_was_missed() {
    // All three say what they have, and one of them sends nothing of it.
    let mut world = World::new(&[Honest, Rotten, Honest, Shy, Stranger]);
    assert!(world.run().0.unwrap().bytes == world.bytes);
    assert_eq!((world.locates[&node(3)].len(), world.located), (2, 6));
}

#[test]
fn of_a_thousand_that_were_missed_one_wave_is_asked_again() {
    let mut world = World::of(Profile::for_operators(96), &[Shy; 1_000]);
    for (place, index) in (0..1_000).zip((0..48).cycle()) {
        world.indices[place] = index;
    }
    assert!(world.run().0.unwrap().bytes == world.bytes);
    assert_eq!(world.located, 1_000 + WAVE);
    assert!((0..WAVE).all(|holder| world.locates[&node(holder)].len() == 2), "those that come first");
}

#[test]
fn a_wave_that_is_silent_holds_the_next_ones_up_for_a_second_each() {
    let mut world = among_a_thousand(900..948);
    world.holders[..900].fill(Stopped);
    world.silent = true;
    assert!(world.run().0.unwrap().bytes == world.bytes);
    assert!((9_000_000..11_000_000).contains(&world.now), "{}", world.now);
}

#[test]
fn an_error_about_a_thousand_strangers_names_sixteen_of_them_and_says_how_many_there_are() {
    let mut world = World::of(Profile::for_operators(96), &[Stranger; 1_000]);
    world.holders[999] = Stopped;
    let words = world.run().0.unwrap_err().to_string();
    assert!(
        words.contains("1000 holders") && words.contains(&format!("({}: not reachable", node(999))) && words.contains("and 984 more"),
        "{words}"
    );
}

#[test]
fn a_forged_manifest_is_evidence_and_the_next_holders_is_taken() {
    let (result, blamed) = World::new(&[Forger, Honest, Honest, Honest, Stopped]).run();
    assert_eq!(result.unwrap().received.len(), 3);
    assert_eq!((blamed.len(), blamed[0].holder), (1, node(0)));
}

#[test]
fn a_busy_holder_is_asked_again_and_one_that_is_off_topic_is_not() {
    let mut world = World::new(&[Busy, Honest, Honest, Stopped, Stopped]);
    assert_eq!(world.run().0.unwrap().received.len(), 3);
    assert_eq!(world.asked[&(node(0), 0)], 3);
    assert!(world.now >= 1_000_000 && world.now < 3_000_000, "{}", world.now);

    let mut world = World::new(&[OffTopic, Honest, Honest, Honest, Stopped]);
    let (result, blamed) = world.run();
    assert!(result.is_ok() && blamed.is_empty());
    assert_eq!(world.asked[&(node(0), 0)], 1);
}

#[test]
fn who_is_silent_as_company_of_late_streams_is_asked_no_more_often_than_others() {
    // Three fragments cannot be had: two are, and each of the silent ones runs beside another.
    let mut world = World::new(&[Silent, Silent, Busy, Silent, Honest]);
    let error = world.run().0.unwrap_err();
    assert!(matches!(error, FetchError::TooFew { found: 2, needed: 3, .. }), "{error}");
    assert_eq!(world.asked.values().max(), Some(&3), "{:?}", world.asked);
}

#[test]
fn the_next_candidates_are_asked_once_nothing_is_left_of_those_that_were_silent() {
    let mut world = World::of(Profile::DEVNET, &[Stopped; WAVE + 1]);
    world.holders[..5].clone_from_slice(&[Silent, Silent, Busy, Silent, Honest]);
    (world.holders[WAVE], world.indices[WAVE]) = (Honest, 0);
    assert!(world.run().0.unwrap().bytes == world.bytes);
}

#[test]
fn a_block_of_a_stream_that_was_given_up_still_counts() {
    let world = World::new(&[Honest; 3]);
    let manifest = &world.object.manifest;
    let mut fetch = world.fetch();
    fetch.handle(Time(0), Input::Start);
    let mut opened = Vec::new();
    for holder in 0..3 {
        let reply = Reply::Located { object: manifest.id(), manifest: manifest.encode(), indices: vec![u8::try_from(holder).unwrap()] };
        opened.extend(fetch.handle(Time(1), Input::Located { from: node(holder), reply: Some(reply) }));
    }
    let late = Time(0).after(Duration::from_secs(21));
    let outputs = fetch.handle(late, Input::Tick);
    assert!(outputs.iter().all(|output| matches!(output, Output::Cancel { .. })) && outputs.len() == 3, "{outputs:?}");
    let mut ends = Vec::new();
    for (stream, bytes) in (0..3).zip(&world.object.fragments) {
        let tree = Tree::of(bytes);
        let index = u8::try_from(stream).unwrap();
        let record = {
            let mut sent = Vec::new();
            let mut encoder = Encoder::new(&tree, Run::all(FRAGMENT)).unwrap();
            let get = |at: u64, place: &mut [u8]| {
                let at = usize::try_from(at).unwrap();
                place.copy_from_slice(&bytes[at..at + place.len()]);
                Ok::<_, ()>(())
            };
            encoder.fill(&tree, GROUPS, &mut sent, get).unwrap();
            Record { index, run: Run::all(FRAGMENT), bytes: sent }
        };
        for block in record.open(manifest).unwrap() {
            ends.extend(fetch.handle(late, Input::Block { stream, from: node(index.into()), block }));
        }
    }
    assert!(matches!(&ends[..], [Output::Done(Ok(fetched))] if fetched.bytes == world.bytes), "{ends:?}");
}

#[test]
fn a_manifest_that_is_the_objects_and_broken_ends_the_fetch_at_once() {
    let broken = b"registered by its hash, but no manifest".to_vec();
    let object = BlobId::of(&broken);
    let mut fetch = Fetch::new(object, [node(0), node(1)], Config::default());
    fetch.handle(Time(0), Input::Start);
    let reply = Some(Reply::Located { object, manifest: broken, indices: vec![0] });
    let outputs = fetch.handle(Time(1), Input::Located { from: node(0), reply });
    assert!(matches!(&outputs[..], [Output::Done(Err(FetchError::Manifest(_)))]), "{outputs:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_fetch_always_ends_and_succeeds_exactly_when_three_fragments_can_be_had(
        holders in prop::collection::vec(0..10_usize, 5), at in 0..GROUPS, millis in 1..3_000_u64,
    ) {
        let kinds = [Honest, Stopped, Silent, Liar(at), Forger, Rotten, Busy, OffTopic, Slow(millis), Shy];
        let holders: Vec<_> = holders.into_iter().map(|kind| kinds[kind]).collect();
        // A group in less than 1.25 s is 16 in each window.
        let can = |holder: &&Kind| matches!(holder, Honest | Busy | Shy) || matches!(holder, Slow(millis) if *millis < 1_200);
        let may = |holder: &&Kind| can(holder) || matches!(holder, Slow(_));
        let mut world = World::new(&holders);
        let (result, blamed) = world.run();
        prop_assert!(result.is_ok() || holders.iter().filter(can).count() < 3, "{:?}", result);
        prop_assert!(result.is_err() || holders.iter().filter(may).count() >= 3, "{:?}", result);
        prop_assert!(result.is_err() || result.unwrap().bytes == world.bytes);
        prop_assert!(world.asked.values().all(|times| *times <= u32::from(Config::default().attempts)));
        prop_assert!(world.locates.values().all(|times| times.len() <= 2));
        let is_bad = |evidence: &Evidence| matches!(holders[usize::from(evidence.holder.0[0])], Liar(_) | Forger);
        prop_assert!(blamed.iter().all(is_bad), "an honest holder is never blamed");
    }
}
