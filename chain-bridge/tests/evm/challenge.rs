//! F8, F6 by request and F7 withheld against the compiled contract: who answers is given the bond, who does not is slashed.

use chain_bridge::fraud::{
    calldata::{Step, receipt_challenge},
    challenge::{asked_leaf, is_met, leaf_evidence, part_evidence, receipt_evidence, request_evidence, unmet},
    payout::Shown,
    search::Bodies,
};
use types::{
    amount::Amount,
    encoding::Document,
    id::{Address, Hash32},
    key::Signed,
    quote::Quote,
    receipt::{Reason, Receipt},
    request::{Request, SamplingRule},
};

use super::{
    harness::account,
    money::{CLIENT, World, seal},
};

/// A world in the middle of W1 of its second epoch.
fn world() -> World {
    let mut world = World::new(3);
    world.t.evm.time -= world.t.evm.deployment.config.w1_s / 2;
    world
}

fn bodies(world: &World, number: u8, index: usize) -> Bodies {
    world.receipts[&(world.epoch, world.node(number).address())][index].clone()
}

fn show(world: &World, number: u8, index: u64) -> Vec<u8> {
    let body = bodies(world, number, index as usize);
    let receipt = Receipt::decode(&body.receipt).unwrap();
    let signature = world.node(number).sign(&world.t.evm.deployment.domains(), &receipt);
    receipt_evidence(&world.place(number, index), &body.receipt, &signature, &body.quote, &body.manifest)
}

#[test]
fn a_receipt_that_is_shown_in_time_earns_its_node_the_bond() {
    let mut world = world();
    let (asker, at) = (account(4).address(), world.place(1, 0));
    for index in 0..2 {
        world.t.evm.step(asker, &Step::ask_receipt(&at.root, at.block, index)).unwrap();
    }
    for index in 0..2 {
        assert!(world.t.evm.state.challenge(receipt_challenge(world.epoch, world.other.address(), index)).is_some(), "the id says which");
    }
    let refused = world.t.evm.step(asker, &Step::ask_receipt(&at.root, at.block, 2)).unwrap_err();
    assert!(refused.starts_with("index beyond count"), "{refused}");
    let before = world.t.evm.state.open_challenges().count();
    world.t.evm.step(account(5).address(), &Step::show_receipt(show(&world, 1, 0))).unwrap();
    assert_eq!(world.t.evm.state.open_challenges().count(), before - 1);
    // The other one is not answered by this one, nor by another node's.
    for evidence in [show(&world, 1, 0), show(&world, 0, 1)] {
        let refused = world.t.evm.step(account(5).address(), &Step::show_receipt(evidence)).unwrap_err();
        assert!(refused.starts_with("no challenge"), "{refused}");
    }
    let settle = Step::settle_receipt(&at.root, at.block, 1);
    assert!(world.t.evm.step(asker, &settle).unwrap_err().starts_with("still open"));
    world.t.evm.time += world.t.evm.deployment.config.answer_s;
    assert!(world.t.evm.step(account(5).address(), &Step::show_receipt(show(&world, 1, 1))).unwrap_err().starts_with("too late"));
    world.t.evm.step(asker, &settle).unwrap();
    let node = world.other.address();
    assert!(world.t.evm.state.withheld_at(world.epoch, node).is_some());
    let slash = *world.t.evm.state.slashes().last().unwrap();
    assert_eq!((slash.account, slash.victim, slash.reporter), (node, Address::ZERO, asker));
}

#[test]
fn each_byte_of_an_answer_counts() {
    let mut world = world();
    let at = world.place(1, 0);
    world.t.evm.step(account(4).address(), &Step::ask_receipt(&at.root, at.block, 0)).unwrap();
    let good = show(&world, 1, 0);
    for place in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[place] ^= 1;
        let done = world.t.evm.step(account(5).address(), &Step::show_receipt(bad));
        assert!(done.is_err(), "byte {place} of {}", good.len());
    }
    let longer = [good.as_slice(), &[0]].concat();
    assert!(world.t.evm.step(account(5).address(), &Step::show_receipt(longer)).is_err());
    world.t.evm.step(account(5).address(), &Step::show_receipt(good)).unwrap();
}

#[test]
fn nothing_under_a_withheld_root_is_paid_and_a_tree_that_pays_it_is_refuted() {
    use chain_bridge::fraud::{calldata::Proof, search::first_fault};
    let mut world = world();
    let at = world.place(1, 0);
    let with_it = seal(&world.expected());
    world.t.evm.step(account(4).address(), &Step::ask_receipt(&at.root, at.block, 0)).unwrap();
    world.t.evm.time += world.t.evm.deployment.config.answer_s;
    world.t.evm.step(account(4).address(), &Step::settle_receipt(&at.root, at.block, 0)).unwrap();
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
    assert!(first_fault(&world.case(&paying, &without)).is_err(), "the withheld receipt itself is needed to prove that it has no part");
    let again = World::new(3);
    world.receipts = again.receipts;
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
