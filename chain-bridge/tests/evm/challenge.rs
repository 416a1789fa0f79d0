//! F8, F6 by request and F7 withheld against the compiled contract: who answers is given half of what it cost, who does not is slashed.

use chain_bridge::{
    bindings::{InferenceEscrow, ReceiptChallenge},
    fraud::{
        calldata::{Pending, Step, receipts_challenge},
        challenge::{
            ANSWERS_MAX, Answer, EVIDENCE_BYTES_MAX, Exhibit, STRETCH_MAX, Stretch, asked_leaf, is_met, leaf_evidence, part_evidence,
            receipts_evidence, request_evidence, unmet,
        },
        payout::{Row, Shown},
        search::{Bodies, tree_of},
    },
    registry::money::ChallengeOf,
};
use types::{
    amount::Amount,
    encoding::Document,
    id::{Address, Hash32},
    key::Signed,
    operator::NodeRoot,
    payout::PartLeaf,
    quote::Quote,
    receipt::{Reason, Receipt},
    request::{Request, SamplingRule},
    split::Part,
};

use super::{
    harness::{account, address},
    money::{CLIENT, Line, Lines, World, seal},
};

/// What answers left of somebody's bonds.
fn owed(world: &mut World, challenger: Address) -> u128 {
    let at = world.t.evm.deployment.challenge;
    world.t.evm.view(at, &ReceiptChallenge::owedCall(address(challenger))).unwrap().to()
}

/// A world in the middle of W1 of its second epoch.
fn world() -> World {
    let mut world = World::new(3);
    world.t.evm.time -= world.t.evm.deployment.config.w1_s / 2;
    world
}

fn bodies(world: &World, epoch: u64, number: u8, index: usize) -> Bodies {
    world.receipts[&(epoch, world.node(number).address())][index].clone()
}

/// Receipts of a node's root of this epoch, from a place on.
fn exhibits(world: &World, number: u8, from: usize) -> Vec<Exhibit> {
    let domains = world.t.evm.deployment.domains();
    let exhibit = |bodies: &Bodies| {
        let receipt = Receipt::decode(&bodies.receipt).unwrap();
        Exhibit { bodies: bodies.clone(), signature: world.node(number).sign(&domains, &receipt) }
    };
    world.receipts[&(world.epoch, world.node(number).address())][from..].iter().map(exhibit).collect()
}

fn stretch(world: &World, number: u8, first: u64, count: u64) -> Stretch {
    let at = world.place(number, 0);
    Stretch { root: at.root, block: at.block, first, count }
}

/// What shows `count` receipts of a stretch from `next` on, each transaction with `bytes_max` of them.
fn show(world: &World, number: u8, of: &Stretch, next: u64, count: usize, bytes_max: usize) -> Vec<Vec<u8>> {
    let tree = tree_of(&world.receipts[&(world.epoch, world.node(number).address())]).unwrap();
    let exhibits = exhibits(world, number, next as usize);
    receipts_evidence(of, next, &tree, &exhibits[..count], bytes_max).unwrap()
}

fn one(mut all: Vec<Vec<u8>>) -> Vec<u8> {
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[test]
fn a_stretch_that_is_shown_in_time_is_paid_what_it_cost_at_most_and_the_bonds_come_back() {
    let mut world = world();
    let (asker, relay) = (account(4).address(), account(5).address());
    let whole = stretch(&world, 1, 0, 3);
    let last = stretch(&world, 1, 3, 1);
    for of in [whole, last] {
        world.t.evm.step(asker, &Step::ask_receipts(&of)).unwrap();
        let id = receipts_challenge(world.epoch, world.other.address(), of.first, of.count);
        assert!(world.t.evm.state.challenge(id).is_some(), "the id says which");
        assert!(world.t.evm.step(asker, &Step::ask_receipts(&of)).unwrap_err().starts_with("known challenge"));
    }
    // A receipt is asked for once, whatever stretch it lies in.
    for (first, count) in [(2, 1), (1, 3), (0, 4)] {
        let refused = world.t.evm.step(asker, &Step::ask_receipts(&stretch(&world, 1, first, count))).unwrap_err();
        assert!(refused.starts_with("known challenge"), "{first} {count}: {refused}");
    }
    let all = world.receipts[&(world.epoch, world.other.address())].len() as u64;
    let beyond = [(all - 2, 3, "stretch beyond count"), (all, 1, "stretch beyond")];
    for (first, count, expected) in [(0, 0, "stretch count"), (0, STRETCH_MAX + 1, "stretch count")].into_iter().chain(beyond) {
        let refused = world.t.evm.step(asker, &Step::ask_receipts(&stretch(&world, 1, first, count))).unwrap_err();
        assert!(refused.starts_with(expected), "{first} {count}: {refused}");
    }
    let short = Step { bonds: 2, ..Step::ask_receipts(&stretch(&world, 1, 0, 3)) };
    let refused = world.t.evm.step(asker, &short).unwrap_err();
    assert!(refused.starts_with("wrong bond"), "{refused}");

    let balance = |world: &mut World| world.t.evm.balance(world.other.address()).0;
    let before = balance(&mut world);
    let open_before = world.t.evm.state.open_challenges().count();
    let first = one(show(&world, 1, &whole, 0, 1, 0));
    world.t.evm.step(relay, &Step::show_receipts(first.clone())).unwrap();
    assert_eq!((world.t.evm.state.open_challenges().count(), balance(&mut world)), (open_before, before), "two are still to be shown");
    // What was shown is passed over; the others come in order, all in one call or each in its own.
    let passed = world.t.evm.step(relay, &Step::show_receipts(first)).unwrap();
    assert!(passed.logs.is_empty(), "nothing new was shown");
    assert_eq!(world.t.evm.state.challenge(receipts_challenge(world.epoch, world.other.address(), 0, 3)).unwrap().shown, 1);
    let gap = world.t.evm.step(relay, &Step::show_receipts(one(show(&world, 1, &whole, 2, 1, 0)))).unwrap_err();
    assert!(gap.starts_with("not next"), "{gap}");
    let none = world.t.evm.step(relay, &Step::show_receipts(show(&world, 1, &whole, 0, 1, 0).remove(0)[..116].to_vec())).unwrap_err();
    assert!(none.starts_with("nothing shown"), "{none}");
    // Of all three, the one that somebody was ahead with is passed over.
    let done = world.t.evm.step(relay, &Step::show_receipts(one(show(&world, 1, &whole, 0, 3, EVIDENCE_BYTES_MAX)))).unwrap();
    assert!(done.logs.len() >= 2, "{}", done.logs.len());
    assert_eq!(world.t.evm.state.open_challenges().count(), open_before - 1);
    // Gas is free here: who answers is given nothing for it, and the challenger has all of its bonds back.
    assert_eq!(balance(&mut world), before);
    assert_eq!(owed(&mut world, asker), 3 * world.t.evm.deployment.config.challenge_bond.0);
    // The other stretch is not answered by this one.
    let settle = Step::settle_receipts(&last);
    assert!(world.t.evm.step(asker, &settle).unwrap_err().starts_with("still open"));
    world.t.evm.time += world.t.evm.deployment.config.answer_s;
    let late = one(show(&world, 1, &last, 3, 1, 0));
    assert!(world.t.evm.step(relay, &Step::show_receipts(late)).unwrap_err().starts_with("too late"));
    world.t.evm.step(asker, &settle).unwrap();
    let node = world.other.address();
    assert!(world.t.evm.state.withheld_at(world.epoch, node).is_some());
    let slash = *world.t.evm.state.slashes().last().unwrap();
    assert_eq!((slash.account, slash.victim, slash.reporter), (node, Address::ZERO, asker));
}

#[test]
fn a_stretch_shown_in_part_is_withheld_and_its_challenger_has_every_bond_back() {
    let mut world = world();
    let asker = account(4).address();
    let of = stretch(&world, 1, 0, 3);
    let before = world.t.evm.balance(asker);
    world.t.evm.step(asker, &Step::ask_receipts(&of)).unwrap();
    world.t.evm.step(account(5).address(), &Step::show_receipts(one(show(&world, 1, &of, 0, 2, usize::MAX)))).unwrap();
    world.t.evm.time += world.t.evm.deployment.config.answer_s;
    world.t.evm.step(asker, &Step::settle_receipts(&of)).unwrap();
    // Of what was shown the answers left all, since gas is free here.
    let bond = world.t.evm.deployment.config.challenge_bond.0;
    assert_eq!((world.t.evm.balance(asker).0, owed(&mut world, asker)), (before.0 - 2 * bond, 2 * bond));
    assert!(world.t.evm.state.withheld_at(world.epoch, world.other.address()).is_some());
    assert!(world.t.evm.step(asker, &Step::settle_receipts(&of)).unwrap_err().starts_with("no challenge"));
}

#[test]
fn what_nobody_asked_for_is_published_and_answers_no_challenge() {
    let mut world = world();
    let asked = stretch(&world, 1, 0, 3);
    world.t.evm.step(account(4).address(), &Step::ask_receipts(&asked)).unwrap();
    let open_before = world.t.evm.state.open_challenges().count();
    let none = stretch(&world, 1, 0, 0);
    for evidence in [show(&world, 1, &none, 0, 3, 0), show(&world, 1, &none, 1, 2, usize::MAX)].concat() {
        let done = world.t.evm.step(account(5).address(), &Step::show_receipts(evidence)).unwrap();
        assert!(!done.logs.is_empty());
    }
    assert_eq!(world.t.evm.state.open_challenges().count(), open_before);
    let id = receipts_challenge(world.epoch, world.other.address(), 0, 3);
    assert_eq!(world.t.evm.state.challenge(id).unwrap().shown, 0);
}

#[test]
fn a_root_that_lies_about_its_fees_or_count_can_show_no_receipt_and_is_withheld() {
    type Lie = fn(&mut NodeRoot);
    let lies: [(&str, Lie); 3] =
        [("fees below", |root| root.fees.0 -= 1), ("fees above", |root| root.fees.0 += 1), ("count", |root| root.count -= 1)];
    for (what, lie) in lies {
        let mut world = world();
        world.end_w1();
        world.epoch = 3;
        let rows = [bodies(&world, 2, 1, 0), bodies(&world, 2, 1, 1)];
        let tree = tree_of(&rows).unwrap();
        let node = world.other.address();
        let mut root = NodeRoot { node, epoch: 3, receipts: tree.root(), count: 2, fees: tree.total() };
        lie(&mut root);
        world.submit_root(1, root);
        world.receipts.insert((3, node), rows.to_vec());
        let of = stretch(&world, 1, 0, 1);
        assert_eq!(of.root, root);
        world.t.evm.step(account(4).address(), &Step::ask_receipts(&of)).unwrap();
        let refused = world.t.evm.step(account(5).address(), &Step::show_receipts(one(show(&world, 1, &of, 0, 1, 0))));
        assert!(refused.is_err(), "{what}");
        world.t.evm.time += world.t.evm.deployment.config.answer_s;
        world.t.evm.step(account(4).address(), &Step::settle_receipts(&of)).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

#[test]
fn a_whole_stretch_is_shown_in_transactions_that_the_network_carries() {
    let mut world = world();
    world.end_w1();
    world.epoch = 3;
    let row = bodies(&world, 2, 0, 2);
    let rows: Vec<Bodies> = (0..STRETCH_MAX as u16 + 9)
        .map(|attempt| {
            let receipt = Receipt { attempt, fee: Amount(1_000), ..Receipt::decode(&row.receipt).unwrap() };
            // Those that bill nothing need no more than themselves.
            let failed = Receipt { reason: Reason::EngineFailure, fee: Amount::ZERO, ..receipt.clone() };
            if attempt % 3 == 0 {
                Bodies { receipt: failed.encode(), ..Bodies::default() }
            } else {
                Bodies { receipt: receipt.encode(), ..row.clone() }
            }
        })
        .collect();
    world.submit(0, &rows);
    let of = stretch(&world, 0, 7, STRETCH_MAX);
    world.t.evm.step(account(4).address(), &Step::ask_receipts(&of)).unwrap();
    let all = show(&world, 0, &of, 7, STRETCH_MAX as usize, EVIDENCE_BYTES_MAX);
    assert!(all.len() > 1 && all.iter().all(|evidence| evidence.len() <= EVIDENCE_BYTES_MAX));
    let count = all.len();
    for evidence in all {
        let gas = world.t.evm.step(account(5).address(), &Step::show_receipts(evidence)).unwrap().gas;
        assert!(gas < 15_000_000, "{gas} gas");
    }
    let id = receipts_challenge(3, world.t.node.address(), 7, STRETCH_MAX);
    let challenge = world.t.evm.state.challenge(id).unwrap();
    assert_eq!((challenge.shown, challenge.is_closed), (STRETCH_MAX, true), "after {count} transactions");
}

#[test]
fn a_billed_receipt_is_shown_with_its_quote_and_manifest_and_another_needs_neither() {
    let mut world = world();
    world.end_w1();
    world.epoch = 3;
    let row = bodies(&world, 2, 0, 0);
    let failed = Receipt { reason: Reason::Empty, fee: Amount::ZERO, ..Receipt::decode(&row.receipt).unwrap() };
    world.submit(0, &[row.clone(), Bodies { receipt: failed.encode(), ..Bodies::default() }]);
    let of = stretch(&world, 0, 0, 2);
    world.t.evm.step(account(4).address(), &Step::ask_receipts(&of)).unwrap();
    let place = (3, world.t.node.address());
    for (quote, manifest) in [(vec![], row.manifest.clone()), (row.quote.clone(), vec![])] {
        world.receipts.get_mut(&place).unwrap()[0] = Bodies { receipt: row.receipt.clone(), quote, manifest };
        assert!(world.t.evm.step(account(5).address(), &Step::show_receipts(one(show(&world, 0, &of, 0, 2, usize::MAX)))).is_err());
    }
    world.receipts.get_mut(&place).unwrap()[0] = row;
    world.t.evm.step(account(5).address(), &Step::show_receipts(one(show(&world, 0, &of, 0, 2, usize::MAX)))).unwrap();
}

#[test]
fn each_byte_of_an_answer_counts() {
    let mut world = world();
    let of = stretch(&world, 1, 0, 1);
    world.t.evm.step(account(4).address(), &Step::ask_receipts(&of)).unwrap();
    let good = one(show(&world, 1, &of, 0, 1, 0));
    for place in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[place] ^= 1;
        let done = world.t.evm.step(account(5).address(), &Step::show_receipts(bad));
        assert!(done.is_err(), "byte {place} of {}", good.len());
    }
    let longer = [good.as_slice(), &[0]].concat();
    assert!(world.t.evm.step(account(5).address(), &Step::show_receipts(longer)).is_err());
    world.t.evm.step(account(5).address(), &Step::show_receipts(good)).unwrap();
}

#[test]
fn nothing_under_a_withheld_root_is_paid_and_a_tree_that_pays_it_is_refuted() {
    use chain_bridge::fraud::{calldata::Proof, search::first_fault};
    let mut world = world();
    let of = stretch(&world, 1, 0, 1);
    let with_it = seal(&world.expected());
    world.t.evm.step(account(4).address(), &Step::ask_receipts(&of)).unwrap();
    world.t.evm.time += world.t.evm.deployment.config.answer_s;
    world.t.evm.step(account(4).address(), &Step::settle_receipts(&of)).unwrap();
    world.end_w1();
    let without = Shown::new(seal(&world.expected())).unwrap();
    assert!(without.total() < Shown::new(with_it.clone()).unwrap().total());
    let before = world.t.evm.snapshot();
    world.post(&without, without.total()).unwrap();
    // The receipts are not needed to say that the tree is right.
    world.receipts.remove(&(world.epoch, world.other.address()));
    assert_eq!(first_fault(&world.case(&without, &without)), Ok(None));

    world.t.evm.restore(&before);
    let paying = Shown::new(with_it).unwrap();
    world.post(&paying, paying.total()).unwrap();
    // Nor are they needed to refute a tree that pays them: nobody may have them.
    let proof = first_fault(&world.case(&paying, &without)).unwrap().unwrap();
    world.t.evm.try_proof(account(4).address(), &Proof::payout(&proof)).unwrap();
}

fn request(world: &World) -> Signed<Request> {
    let receipt = &world.t.receipt;
    let request = Request {
        client: account(CLIENT).address(),
        nonce: 8,
        manifest: receipt.manifest,
        rate_in_max: world.t.quote.rate_in,
        rate_out_max: world.t.quote.rate_out,
        profile: receipt.profile,
        class: receipt.class,
        sampling: SamplingRule::default(),
        options: Hash32([0x0b; 32]),
        prompt_root: receipt.prompt_root,
        tokens_max: receipt.first_token + receipt.tokens_out,
        spending_limit: Amount(receipt.fee.0 * 2),
    };
    Signed::new(&account(CLIENT), &world.t.evm.deployment.domains(), request)
}

/// What is changed of receipt and quote, and how.
type Lie = (&'static str, fn(&mut Receipt, &mut Quote));

const LIES: [Lie; 9] = [
    ("client", |receipt, _| receipt.client = Address([9; 20])),
    ("prompt root", |receipt, _| receipt.prompt_root.0[0] ^= 1),
    ("manifest root", |receipt, _| receipt.manifest.0[0] ^= 1),
    ("class", |receipt, _| receipt.class = types::quote::Class::Sealed),
    ("first token", |receipt, _| receipt.first_token += 1),
    ("tokens out", |receipt, _| receipt.tokens_out += 1),
    ("fee", |receipt, _| receipt.fee.0 = receipt.fee.0 * 2 + 1),
    ("rate in", |_, quote| quote.rate_in.0 += 1),
    ("rate out", |_, quote| quote.rate_out.0 += 1),
];

#[test]
fn each_field_that_a_request_bounds_is_challenged_by_it_and_an_honest_one_is_not() {
    let mut world = world();
    let asked = request(&world);
    let honest = Receipt { request: asked.document.id(), ..world.t.receipt.clone() };
    let quote = world.t.quote;
    let unbilled = Receipt { reason: Reason::Empty, fee: Amount::ZERO, ..honest.clone() };
    let mut all = vec![
        ("honest", honest.clone(), quote, true),
        ("another request's", world.t.receipt.clone(), quote, true),
        ("unbilled", unbilled, quote, true),
    ];
    for (what, lie) in LIES {
        let (mut receipt, mut quote) = (honest.clone(), quote);
        lie(&mut receipt, &mut quote);
        receipt.quote = quote.hash();
        all.push((what, receipt, quote, false));
    }
    let body = |receipt: &Receipt, quote: &Quote| Bodies { receipt: receipt.encode(), quote: quote.encode(), manifest: vec![] };
    let rows: Vec<Bodies> = all.iter().map(|(_, receipt, quote, _)| body(receipt, quote)).collect();
    world.end_w1();
    world.epoch = 3;
    // The poster is late: what nodes submit does not wait for it.
    world.submit(0, &rows);
    let asker = account(4).address();
    for (index, (what, receipt, quote, is_honest)) in all.iter().enumerate() {
        assert_eq!(unmet(&asked, receipt, quote).is_none(), *is_honest, "{what}");
        let evidence = request_evidence(&world.place(0, index as u64), &receipt.encode(), &quote.encode());
        let done = world.t.evm.step(asker, &Step::ask_request(&asked, evidence.clone()));
        assert_eq!(done.is_err(), *is_honest, "{what}: {done:?}");
        if *is_honest {
            continue;
        }
        // The same request is no answer to itself.
        assert!(world.t.evm.step(asker, &Step::show_request(&asked, evidence)).unwrap_err().starts_with("request is not met"), "{what}");
    }
    world.t.evm.time += world.t.evm.deployment.config.answer_s;
    for (what, receipt, ..) in all.iter().filter(|(.., is_honest)| !is_honest) {
        world.t.evm.step(asker, &Step::settle_request(&receipt.encode())).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(world.t.evm.state.voided_at(receipt.hash()).is_some(), "{what}");
    }
}

#[test]
fn a_node_answers_a_second_request_under_one_id_with_the_one_it_served() {
    let mut world = world();
    let domains = world.t.evm.deployment.domains();
    let served = request(&world);
    let receipt = Receipt { request: served.document.id(), ..world.t.receipt.clone() };
    let later = Signed::new(&account(CLIENT), &domains, Request { prompt_root: Hash32([1; 32]), ..served.document });
    assert!(is_met(&served.document, &receipt, &world.t.quote) && !is_met(&later.document, &receipt, &world.t.quote));
    world.end_w1();
    world.epoch = 3;
    world.submit(0, &[Bodies { receipt: receipt.encode(), quote: world.t.quote.encode(), manifest: vec![] }]);
    let evidence = request_evidence(&world.place(0, 0), &receipt.encode(), &world.t.quote.encode());
    world.t.evm.step(account(4).address(), &Step::ask_request(&later, evidence.clone())).unwrap();
    world.t.evm.step(account(5).address(), &Step::show_request(&served, evidence)).unwrap();
    world.t.evm.time += world.t.evm.deployment.config.answer_s;
    let settled = world.t.evm.step(account(4).address(), &Step::settle_request(&receipt.encode()));
    assert!(settled.unwrap_err().starts_with("no challenge"));
}

#[test]
fn a_request_by_a_session_key_counts_once_there_was_a_session_and_for_ever() {
    let mut world = world();
    let domains = world.t.evm.deployment.domains();
    let (client, session) = (account(CLIENT), account(8));
    let served = request(&world).document;
    let receipt = Receipt { request: served.id(), ..world.t.receipt.clone() };
    let unmet = Signed::new(&session, &domains, Request { prompt_root: Hash32([1; 32]), ..served });
    world.end_w1();
    world.epoch = 3;
    world.submit(0, &[Bodies { receipt: receipt.encode(), quote: world.t.quote.encode(), manifest: vec![] }]);
    let evidence = request_evidence(&world.place(0, 0), &receipt.encode(), &world.t.quote.encode());
    let asker = account(4).address();
    let refused = world.t.evm.step(asker, &Step::ask_request(&unmet, evidence.clone())).unwrap_err();
    assert!(refused.starts_with("wrong signer"), "{refused}");
    let allow = |expiry| InferenceEscrow::setSignerCall { signer: address(session.address()), cap: 1, expiryBlock: expiry };
    let escrow = world.t.evm.deployment.escrow;
    let refused = world.t.evm.call(client.address(), escrow, &allow(0), Amount::ZERO).unwrap_err();
    assert!(refused.starts_with("zero expiry"), "{refused}");
    let last = world.t.evm.block + 1;
    world.t.evm.call(client.address(), escrow, &allow(last), Amount::ZERO).unwrap();
    world.t.evm.block = last + 100;
    world.t.evm.step(asker, &Step::ask_request(&unmet, evidence.clone())).unwrap();
    // The node shows what it served, signed by the same key, long after the session.
    let shown = Signed::new(&session, &domains, served);
    world.t.evm.step(account(5).address(), &Step::show_request(&shown, evidence)).unwrap();
}

#[test]
fn every_leaf_and_part_of_a_posted_tree_can_be_shown_and_silence_takes_it_back() {
    let mut world = World::new(9);
    let shown = Shown::new(seal(&world.expected())).unwrap();
    world.post(&shown, shown.total()).unwrap();
    let (asker, count) = (account(4).address(), shown.leaves().len());
    for index in [0, 1, count as u64 - 1, count as u64, u64::MAX] {
        world.t.evm.step(asker, &Step::ask_leaf(index)).unwrap();
        let other = leaf_evidence(&shown, if index == 0 { 1 } else { 0 });
        assert!(world.t.evm.step(asker, &Step::show_leaf(index, other)).unwrap_err().starts_with("other leaf"), "{index}");
        world.t.evm.step(asker, &Step::show_leaf(index, leaf_evidence(&shown, index))).unwrap();
    }
    for leaf in 0..count {
        for index in [0, shown.parts(leaf).len() as u64] {
            let asked = Step::ask_part(asked_leaf(&shown, leaf).unwrap(), index);
            if world.t.evm.step(asker, &asked).is_err() {
                assert_eq!(shown.parts(leaf).len(), 0, "one place asked for twice");
                continue;
            }
            world.t.evm.step(asker, &Step::show_part(index, part_evidence(&shown, leaf, index).unwrap())).unwrap();
        }
    }
    world.t.evm.step(asker, &Step::ask_leaf(2)).unwrap();
    world.t.evm.step(asker, &Step::ask_part(asked_leaf(&shown, 1).unwrap(), 7)).unwrap();
    world.t.evm.time += world.t.evm.deployment.config.answer_s;
    // Who did not ask finds what settles it by the books alone.
    let payout = world.t.evm.state.epoch(world.epoch).unwrap().payout.unwrap();
    let pending = Pending::of(world.epoch, &payout, world.t.evm.deployment.config.w2_s).unwrap();
    let parts = world.t.evm.state.open_challenges().filter(|(_, challenge)| matches!(challenge.of, ChallengeOf::Part { .. }));
    let parts: Vec<_> = parts.map(|(id, challenge)| (id, challenge.challenger)).collect();
    assert_eq!(parts, [(pending.part_challenge(1, 7), Some(asker))]);
    assert_eq!(pending.leaf_of(parts[0].0, 7), Some(1));
    assert_eq!(pending.leaf_of(pending.leaf_challenge(2), 7), None, "a leaf's challenge is no part's");
    assert!(world.t.evm.state.challenge(pending.leaf_challenge(2)).is_some());
    world.t.evm.step(asker, &Step::settle_part(1, 7)).unwrap();
    assert!(world.t.evm.state.epoch(world.epoch).unwrap().payout.is_none());
    assert!(world.t.evm.step(asker, &Step::settle_leaf(2)).is_err(), "nothing is pending any more");
    let left: Vec<Hash32> = world.t.evm.state.open_challenges().map(|(id, _)| id).collect();
    world.t.evm.time += world.t.evm.deployment.config.answer_s;
    for id in left {
        world.t.evm.step(asker, &Step::reclaim(id)).unwrap();
    }
    world.post(&shown, shown.total()).unwrap();
}

/// Gas of any transaction, in which the question of somebody who asks many at once has no share.
const BASE_GAS: u64 = 21_000;
/// A block of the networks that the contracts are meant for.
const BLOCK_GAS: u64 = 30_000_000;

/// A tree of 2^`depth` accounts, each with one part.
fn wide(depth: u32) -> Shown {
    let lines: Lines = (0..1_u32 << depth)
        .map(|number| {
            let account = Address([&[7; 16][..], &number.to_be_bytes()].concat().try_into().unwrap());
            let part = PartLeaf::new(Address([9; 20]), u64::from(number), Part::Node, Amount(1));
            Line { account, previous: Amount::ZERO, parts: vec![Row::from(&part)] }
        })
        .collect();
    Shown::new(seal(&lines)).unwrap()
}

#[test]
fn two_hundred_answers_fit_a_block_and_cost_no_more_than_asking_for_them() {
    for depth in [10, 16] {
        let mut world = World::new(9);
        let shown = wide(depth);
        // What its root says it pays is looked at by nobody who only asks.
        let total = Shown::new(seal(&world.expected())).unwrap().total();
        world.post_root(shown.root(), total).unwrap();
        let (asker, poster) = (account(4).address(), account(5).address());
        let open_before = world.t.evm.state.open_challenges().count();
        let (mut asked, mut answers) = (0, Vec::new());
        for number in 0..200 {
            let (leaf, index) = (number * 5, number as u64 * 5);
            let is_part = number % 2 == 1;
            let (ask, evidence, index) = if is_part {
                (Step::ask_part(asked_leaf(&shown, leaf).unwrap(), 3), part_evidence(&shown, leaf, 3).unwrap(), 3)
            } else {
                (Step::ask_leaf(index), leaf_evidence(&shown, index), index)
            };
            asked += world.t.evm.step(asker, &ask).unwrap().gas - BASE_GAS;
            answers.push(Answer { is_part, index, evidence });
        }
        // Somebody is ahead with one of them.
        world.t.evm.step(asker, &Step::show_leaf(0, answers[0].evidence.clone())).unwrap();
        let (mut gas, mut transactions, mut rest) = (0, 0, answers.as_slice());
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |answer: &&Answer| {
                bytes += answer.bytes();
                bytes <= EVIDENCE_BYTES_MAX
            };
            let count = rest.iter().take(ANSWERS_MAX).take_while(fits).count();
            let (now, later) = rest.split_at(count);
            let done = world.t.evm.step(poster, &Step::show_lines(now)).unwrap();
            assert!(done.gas < 10_000_000, "{} gas of {count} answers at depth {depth}", done.gas);
            (gas, transactions, rest) = (gas + done.gas, transactions + 1, later);
        }
        println!("depth {depth}: asked {}, answered {} each, {transactions} transactions", asked / 200, gas / 200);
        assert!(gas < BLOCK_GAS, "{gas} gas");
        // Half of it comes out of the bonds: who asks pays its questions and that half.
        assert!(asked + gas / 2 > gas - gas / 2, "depth {depth}: {asked} gas to ask, {gas} to answer");
        assert_eq!(world.t.evm.state.open_challenges().count(), open_before);
        let bond = world.t.evm.deployment.config.challenge_bond.0;
        assert_eq!(owed(&mut world, asker), 200 * bond, "gas is free here: all of it comes back");
        let again = world.t.evm.step(poster, &Step::show_lines(&answers[..9])).unwrap();
        assert!(again.logs.is_empty(), "nothing is shown twice");
    }
}
