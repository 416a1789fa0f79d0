//! One request, several nodes, a client that forgets all but its disk: whatever is lost, doubled, reordered or killed, no token is billed twice and
//! nothing beyond the request's limit.
//!
//! The production machines ([`Draft`], [`Asking`], [`Serving`], [`Spending`]) run over a network and nodes that are modelled here: a node keeps on its disk
//! which attempts it began and up to where it billed, receipts what was vouched for when a stream ends, and may be slow to do so.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use types::{
    amount::Amount,
    id::{Address, Hash32},
    receipt::Reason,
};

use super::{
    draft::{Cause, Draft, End, tests::draft},
    payment::{Asking, Serving, Terms},
    spending::{Caps, Outcome, Promise, Spending},
};

/// Output tokens of the whole answer.
const ANSWER: usize = 150;
const PROMPT: u32 = 40;
const NODES: u8 = 3;
const RUNS_MAX: usize = 12;

/// What happens next, drawn from bytes; nothing goes wrong when they are used up.
struct Script<'s>(std::slice::Iter<'s, u8>);

impl Script<'_> {
    /// Whether the mishap with these odds, in 1/256, happens now.
    fn hit(&mut self, odds: u8) -> bool {
        self.0.next().is_some_and(|byte| *byte < odds)
    }

    fn pick(&mut self, count: u8) -> u8 {
        self.0.next().map_or(0, |byte| byte % count)
    }
}

/// A receipt that a node signed: output tokens from `first` to before `end`.
#[derive(Debug, Clone, Copy)]
struct Billed {
    first: u32,
    end: u32,
    fee: Amount,
}

/// A node: what it has on disk, and an answer whose stream has ended but whose receipt is not signed yet.
#[derive(Default)]
struct Node {
    begun: BTreeSet<u16>,
    billed_to: u32,
    receipts: Vec<Billed>,
    pending: Option<Serving>,
}

impl Node {
    fn flush(&mut self) -> Option<Billed> {
        let serving = self.pending.take()?;
        let count = u32::try_from(serving.vouched().len()).unwrap();
        if count == 0 {
            return None;
        }
        let first = serving.terms().first_token().unwrap();
        let billed = Billed { first, end: first + count, fee: serving.terms().due(count).unwrap() };
        self.billed_to = self.billed_to.max(billed.end);
        self.receipts.push(billed);
        Some(billed)
    }
}

/// How one run of an attempt left the client.
enum Left {
    Alive,
    Killed,
}

struct World<'s> {
    script: Script<'s>,
    nodes: BTreeMap<u8, Node>,
    /// The client's disk.
    disk: String,
}

impl World<'_> {
    fn keep(&mut self, draft: &Draft) {
        self.disk = serde_json::to_string(draft).unwrap();
    }

    /// The token that the model says at this place.
    fn model(place: usize) -> u32 {
        u32::try_from(place * 7 + 1).unwrap()
    }

    fn attempt(&mut self, draft: &mut Draft) -> Left {
        let name = self.script.pick(NODES);
        let Ok(attempt) = draft.begin(Address([name; 20])) else { return Left::Alive };
        self.keep(draft);
        if self.script.hit(12) {
            return Left::Killed;
        }
        if self.script.hit(12) {
            draft.fail(Cause::Unreachable, "lost", false);
            return Left::Alive;
        }
        let continued = draft.tokens().to_vec();
        let terms = Terms {
            lane: Hash32([attempt.to_be_bytes()[1]; 32]),
            request: draft.request().document.id(),
            attempt,
            quote: Hash32([3; 32]),
            tokens_in: PROMPT + u32::try_from(continued.len()).unwrap(),
            continued,
            base: Amount(500),
            rate_in: Amount(1_000),
            rate_out: Amount(2_500),
            protocol_fee: Amount(7),
        };
        // A slow node may still be at the last stream of this request: it holds the request until then.
        let is_late = self.script.hit(40);
        let node = self.nodes.entry(name).or_default();
        if !is_late {
            node.flush();
        }
        let is_taken = node.pending.is_some() || draft.tokens().len() < usize::try_from(node.billed_to).unwrap();
        if is_taken || !node.begun.insert(attempt) {
            draft.fail(Cause::Refused, "taken", false);
            return Left::Alive;
        }
        assert!(!node.begun.insert(attempt), "a beginning that arrives twice begins once");
        let limit = draft.room().unwrap();
        let rest = u32::try_from(ANSWER.saturating_sub(draft.tokens().len())).unwrap().max(1);
        let (Ok(serving), Ok(asking)) =
            (Serving::new(terms.clone(), rest, limit), Asking::new(terms, usize::try_from(PROMPT).unwrap(), 1, rest, limit))
        else {
            draft.fail(Cause::Refused, "the limit", false);
            return Left::Alive;
        };
        self.stream(draft, serving, asking, name)
    }

    /// The stream of one attempt, and what becomes of it on both sides.
    fn stream(&mut self, draft: &mut Draft, mut serving: Serving, mut asking: Asking, name: u8) -> Left {
        let (mut left, mut failed) = (Left::Alive, None);
        while serving.finished().is_none() {
            if !serving.may_send() {
                failed = Some(Cause::Silent);
                break;
            }
            if self.script.hit(2) {
                // The node dies: what it had vouched for in memory is gone.
                draft.fail(Cause::Broken, "the node died", false);
                return Left::Alive;
            }
            if self.script.hit(2) {
                // Its engine fails: a signed word that nothing is charged, which may be lost.
                let is_signed = !self.script.hit(80);
                draft.fail(Cause::EngineFailure, "the engine failed", is_signed);
                return Left::Alive;
            }
            let place = draft.tokens().len();
            let id = Self::model(place);
            let index = serving.token(id);
            if place + 1 >= ANSWER {
                serving.finish(Reason::Stop);
            }
            let came = if self.script.hit(2) { index + 1 } else { index };
            let Ok(due) = asking.token(came, id) else {
                failed = Some(Cause::Misbehaved);
                break;
            };
            draft.token(id, b"w");
            if self.script.hit(2) {
                failed = Some(Cause::Broken);
                break;
            }
            if let Some(voucher) = due {
                match self.promise(draft, &mut serving, &voucher) {
                    Ok(true) => {}
                    Ok(false) => failed = Some(Cause::Broken),
                    Err(()) => left = Left::Killed,
                }
                if failed.is_some() || matches!(left, Left::Killed) {
                    break;
                }
            }
        }
        if failed.is_none() && matches!(left, Left::Alive) {
            draft.finish(serving.finished().expect("the loop ended by it"));
            if let Ok(Some(voucher)) = asking.rest() {
                match self.promise(draft, &mut serving, &voucher) {
                    Ok(true) => {}
                    Ok(false) => failed = Some(Cause::Broken),
                    Err(()) => left = Left::Killed,
                }
            }
        }
        let is_whole = serving.is_settled();
        let node = self.nodes.get_mut(&name).unwrap();
        node.pending = Some(serving);
        if matches!(left, Left::Killed) {
            return left;
        }
        match failed {
            Some(cause) => draft.fail(cause, "lost on the way", false),
            None => {
                assert!(is_whole, "an honest node is settled by the last voucher");
                let billed = node.flush().expect("it was vouched for");
                if self.script.hit(30) {
                    draft.fail(Cause::NoReceipt, "lost", false);
                } else {
                    draft.receipt(billed.fee);
                }
            }
        }
        left
    }

    /// Keeps, then signs and sends; false if the voucher was lost, an error if the client died before or after it left.
    fn promise(&mut self, draft: &mut Draft, serving: &mut Serving, voucher: &types::voucher::Voucher) -> Result<bool, ()> {
        draft.promise(voucher.cumulative.minus(voucher.base).unwrap());
        if self.script.hit(8) {
            return Err(());
        }
        self.keep(draft);
        if self.script.hit(8) {
            return Err(());
        }
        if self.script.hit(8) {
            return Ok(false);
        }
        serving.voucher(voucher).expect("the machines agree");
        if self.script.hit(20) {
            assert!(serving.voucher(voucher).is_err(), "a voucher that arrives twice counts once");
        }
        if self.script.hit(8) { Err(()) } else { Ok(true) }
    }
}

fn is_over(draft: &Draft) -> bool {
    draft.ended().is_some() || draft.tries().iter().any(|one| matches!(one.end, Some(End::Receipt { .. })))
}

/// Runs a request to its end or to the end of the client's patience; returns what the client knows of it, the nodes, and what it counted.
fn run(limit: u128, script: &[u8]) -> (Draft, BTreeMap<u8, Node>, Spending) {
    let mut world = World { script: Script(script.iter()), nodes: BTreeMap::new(), disk: String::new() };
    let mut books = Spending::default();
    let mut draft = draft(limit);
    let (request, key) = (draft.request().document.id(), draft.request().document.client);
    let caps = Caps { per_day: Some(Amount(limit)), ..Caps::default() };
    books.begin(caps, request, key, Amount(limit), Amount::ZERO, 1).unwrap();
    world.keep(&draft);
    for _ in 0..RUNS_MAX {
        if is_over(&draft) || draft.room().unwrap() == Amount::ZERO {
            break;
        }
        match world.attempt(&mut draft) {
            Left::Alive => world.keep(&draft),
            Left::Killed => {
                draft = serde_json::from_str(&world.disk).unwrap();
            }
        }
    }
    world.keep(&draft);
    books.end(request, outcome(&draft));
    for node in world.nodes.values_mut() {
        node.flush();
    }
    (draft, world.nodes, books)
}

/// What a client tells its books of a request that has ended.
fn outcome(draft: &Draft) -> Outcome {
    let mut outcome = Outcome::default();
    for (attempt, one) in (0..).zip(draft.tries()) {
        match &one.end {
            Some(End::Receipt { fee }) => {
                outcome.paid = outcome.paid.plus(*fee).unwrap();
                outcome.settled.insert(attempt);
            }
            Some(End::Failed { is_signed: true, .. }) => drop(outcome.settled.insert(attempt)),
            _ => outcome.promised.push(Promise { attempt, lane: Hash32([1; 32]), base: Amount(500), sum: one.promised, expiry: 9 }),
        }
    }
    outcome
}

#[test]
fn without_mishaps_one_attempt_bills_the_whole_answer_once() {
    let (draft, nodes, books) = run(1_000_000, &[]);
    let receipts: Vec<Billed> = nodes.values().flat_map(|node| node.receipts.clone()).collect();
    assert_eq!((receipts.len(), draft.tries().len(), draft.tokens().len()), (1, 1, ANSWER));
    assert_eq!((receipts[0].first, receipts[0].end), (0, u32::try_from(ANSWER).unwrap()));
    assert_eq!((draft.cost(), books.today()), (Ok(receipts[0].fee), Ok(receipts[0].fee)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn no_token_is_billed_twice_and_nothing_beyond_the_limit_whatever_is_lost_doubled_reordered_or_killed(
        limit in 0..3_000_u128,
        script in proptest::collection::vec(any::<u8>(), 0..1_500),
    ) {
        let (draft, nodes, books) = run(limit, &script);
        let mut receipts: Vec<Billed> = nodes.values().flat_map(|node| node.receipts.clone()).collect();
        receipts.sort_by_key(|billed| billed.first);
        for pair in receipts.windows(2) {
            prop_assert!(pair[0].end <= pair[1].first, "{:?} and {:?} bill a token twice", pair[0], pair[1]);
        }
        let charged: u128 = receipts.iter().map(|billed| billed.fee.0).sum();
        prop_assert!(charged <= limit, "{} of {} wei were charged", charged, limit);
        prop_assert!(charged <= draft.cost().unwrap().0, "the client counted {} of {}", draft.cost().unwrap(), charged);
        prop_assert_eq!(books.today(), draft.cost());
        let expected: Vec<u32> = (0..draft.tokens().len()).map(World::model).collect();
        prop_assert_eq!(draft.tokens(), &expected[..], "the answer goes on where it stood");
    }
}
