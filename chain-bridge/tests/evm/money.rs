//! Epochs with money in them: lanes, collects, two nodes' receipts, and the payout tree that they give, divided with `types` alone.

use std::{cmp::Reverse, collections::BTreeMap};

use chain_bridge::{
    bindings::{InferenceEscrow, PayoutVerifier, Settlement},
    fraud::{
        calldata::Proof,
        pack::Place,
        payout::{Row, Shown},
        search::{Bodies, Case, Receipts, root_of, tree_of},
    },
};
use types::{
    amount::Amount,
    encoding::Document,
    id::{Address, AssetId, Hash32},
    key::{Account, Signed},
    manifest::{AssetKind, Manifest},
    operator::NodeRoot,
    payout::{PartLeaf, PayoutLeaf, Witness, parts_tree},
    quote::Quote,
    receipt::{Reason, Receipt, Span},
    split::{self, Part},
    voucher::{Lane, Voucher},
};

use super::{
    harness::{account, open},
    transcript::Transcript,
};

/// One account's line before its root and sum are written: parts as rows, so that they may be wrong.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) account: Address,
    pub(crate) previous: Amount,
    pub(crate) parts: Vec<Row>,
}

/// A tree's lines.
pub(crate) type Lines = Vec<Line>;
/// A tree's rows with their parts.
pub(crate) type Rows = Vec<(Row, Vec<Row>)>;

/// A world with two nodes and what each epoch held.
pub(crate) struct World {
    pub(crate) t: Transcript,
    pub(crate) other: Account,
    pub(crate) receipts: Receipts,
    pub(crate) last: Option<Shown>,
    pub(crate) epoch: u64,
}

pub(crate) const CLIENT: u8 = 2;

/// The same answer as one that failed.
fn failed(bodies: &Bodies) -> Bodies {
    let receipt = Receipt { reason: Reason::EngineFailure, fee: Amount::ZERO, ..Receipt::decode(&bodies.receipt).unwrap() };
    Bodies { receipt: receipt.encode(), ..bodies.clone() }
}

impl World {
    /// Two nodes and a client with money; no epoch yet.
    pub(crate) fn start() -> Self {
        let mut t = Transcript::new();
        let other = account(7);
        t.evm.bond(&other, open(1_000));
        t.evm.call(account(CLIENT).address(), t.evm.deployment.escrow, &InferenceEscrow::depositCall {}, open(100)).unwrap();
        t.evm.block += 300;
        Self { t, other, receipts: Receipts::new(), last: None, epoch: 1 }
    }

    /// The first epoch's payout is final, refunds are asked for, the second epoch's roots are in and its W1 has ended.
    /// `seed` varies fees, weights and payees.
    pub(crate) fn new(seed: u64) -> Self {
        let mut world = Self::start();
        // Lanes that collect more than their receipts say, as much, and without any.
        let [rich, spent, idle] = [99, 98, 97].map(|nonce| Lane { expiry: world.t.evm.block + 5, ..world.lane(0, nonce) });
        let (a, b) = (world.lane(0, 1), world.lane(1, 2));
        let first = [
            world.bodies(0, &a, 0, seed, 3),
            world.bodies(0, &rich, 0, seed ^ 1, 0),
            world.bodies(0, &rich, 2, seed ^ 8, 0),
            world.bodies(0, &spent, 0, seed ^ 9, 1),
        ];
        let second = [world.bodies(1, &b, 0, seed ^ 2, 1)];
        for (lane, count) in [(&a, 2), (&rich, 7), (&spent, 1), (&idle, 2), (&b, 3)] {
            world.collect(lane, count);
        }
        world.submit(0, &first);
        world.submit(1, &second);
        world.end_w1();
        world.end_epoch();
        world.t.evm.block = rich.expiry + world.t.evm.deployment.config.max_age_blocks + 1;
        [rich, spent, idle].iter().for_each(|lane| world.request_refund(lane));

        world.epoch = 2;
        let (a, poor) = (world.lane(0, 3), world.lane(1, 4));
        let void = world.bodies(0, &a, 1, seed ^ 3, 2);
        let unbilled = world.failed(&a, seed ^ 11);
        let first = [world.bodies(0, &a, 0, seed ^ 4, 2), void.clone(), world.bodies(0, &a, 2, seed ^ 5, 4), unbilled];
        // The third one names a lane of the other node that is spoken for as far already; the last one bills nothing and names all of another.
        let second = [
            world.bodies(1, &b, 1, seed ^ 6, 5),
            world.bodies(1, &poor, 0, seed ^ 7, 1),
            world.bodies(1, &spent, 0, seed ^ 10, 1),
            failed(&world.bodies(1, &rich, 6, seed ^ 12, 0)),
        ];
        world.collect(&a, 5);
        world.collect(&b, 4);
        world.submit(0, &first);
        world.submit(1, &second);
        world.make_void(&void);
        world.end_w1();
        world
    }

    pub(crate) fn node(&self, number: u8) -> &Account {
        if number == 0 { &self.t.node } else { &self.other }
    }

    /// Posts what the epoch must have, and waits until it is final.
    pub(crate) fn end_epoch(&mut self) {
        let shown = Shown::new(seal(&self.expected())).unwrap();
        self.post(&shown, shown.total()).unwrap();
        self.t.evm.time += self.t.evm.deployment.config.w2_s;
        self.last = Some(shown);
    }

    pub(crate) fn request_refund(&mut self, lane: &Lane) {
        let call = PayoutVerifier::requestRefundCall { lane: lane.encode().into(), absence: vec![].into() };
        self.t.evm.call(lane.payer, self.t.evm.deployment.payout, &call, Amount::ZERO).unwrap();
    }

    pub(crate) fn lane(&self, number: u8, nonce: u64) -> Lane {
        let payer = account(CLIENT).address();
        Lane { payer, node: self.node(number).address(), cap: open(50), expiry: self.t.evm.block + 5_000, nonce }
    }

    /// Receipt `place` of a lane, each for one OPEN and a little; `spans` spans of it.
    pub(crate) fn bodies(&self, number: u8, lane: &Lane, place: u128, seed: u64, spans: u64) -> Bodies {
        let node = self.node(number).address();
        let quote = Quote { node, block: types::time::BlockRef { number: self.t.evm.block - 5, ..self.t.quote.block }, ..self.t.quote };
        let span = |i: u64| Span {
            payee: Address([0x20 + ((seed >> (8 * (i % 8))) % 5) as u8; 20]),
            weight: (seed.rotate_left(5 * i as u32) % 1_000) as u32,
            ..self.t.true_span()
        };
        let receipt = Receipt {
            request: Hash32([seed as u8 ^ place as u8 ^ 0x5a; 32]),
            node,
            lane: lane.id(),
            fee: Amount(open(1).0 - u128::from(seed % 1_000)),
            cumulative_after: Amount(open(place + 1).0),
            quote: quote.hash(),
            block: quote.block,
            spans: (0..spans).map(span).collect(),
            // Nothing found pays the insurance pool, here in the first epoch alone.
            weight_total: if spans == 0 { 0 } else { 6_000 },
            ..self.t.receipt.clone()
        };
        Bodies { receipt: receipt.encode(), quote: quote.encode(), manifest: self.t.manifest.encode() }
    }

    /// A receipt that bills nothing, collected as far as it says, and names a quote and a manifest that nobody has.
    fn failed(&self, lane: &Lane, seed: u64) -> Bodies {
        let billed = self.bodies(0, lane, 0, seed, 0);
        let receipt = Receipt {
            reason: Reason::EngineFailure,
            fee: Amount::ZERO,
            cumulative_after: Amount::ZERO,
            quote: Hash32([0x51; 32]),
            manifest: Hash32([0x52; 32]),
            ..Receipt::decode(&billed.receipt).unwrap()
        };
        Bodies { receipt: receipt.encode(), quote: vec![], manifest: vec![] }
    }

    /// Collects `count` OPEN in all on a lane.
    pub(crate) fn collect(&mut self, lane: &Lane, count: u128) {
        let (client, domains) = (account(CLIENT), self.t.evm.deployment.domains());
        let voucher = Voucher {
            lane: lane.id(),
            request: Hash32([1; 32]),
            attempt: 0,
            quote: Hash32([2; 32]),
            first_token: 0,
            tokens_in: 1,
            tokens_out: 1,
            token_ids: Hash32([3; 32]),
            base: Amount::ZERO,
            cumulative: open(count),
        };
        let item = InferenceEscrow::Item {
            lane: lane.encode().into(),
            laneSig: client.sign(&domains, lane).0.to_vec().into(),
            voucher: voucher.encode().into(),
            voucherSig: client.sign(&domains, &voucher).0.to_vec().into(),
        };
        let call = InferenceEscrow::collectManyCall { items: vec![item] };
        self.t.evm.call(account(5).address(), self.t.evm.deployment.escrow, &call, Amount::ZERO).unwrap();
    }

    /// A node's root over receipts, in the world's epoch.
    pub(crate) fn submit(&mut self, number: u8, bodies: &[Bodies]) {
        let node = self.node(number).clone();
        let tree = tree_of(bodies).unwrap();
        let root =
            NodeRoot { node: node.address(), epoch: self.epoch, receipts: tree.root(), count: bodies.len() as u64, fees: tree.total() };
        self.submit_root(number, root);
        self.receipts.insert((self.epoch, node.address()), bodies.to_vec());
    }

    /// A node's root, whatever it says.
    pub(crate) fn submit_root(&mut self, number: u8, root: NodeRoot) {
        let node = self.node(number).clone();
        let signed = Signed::new(&node, &self.t.evm.deployment.domains(), root);
        let call = Settlement::submitNodeRootCall { body: root.encode().into(), signature: signed.signature.0.to_vec().into() };
        self.t.evm.call(account(5).address(), self.t.evm.deployment.settlement, &call, Amount::ZERO).unwrap();
    }

    /// A second receipt of the same attempt makes one void: it has no parts.
    pub(crate) fn make_void(&mut self, bodies: &Bodies) {
        let receipt = Receipt::decode(&bodies.receipt).unwrap();
        let again = Receipt { token_ids: Hash32([9; 32]), ..receipt.clone() };
        let proof = Proof::equivocation(&self.t.sign(receipt), &self.t.sign(again));
        self.t.evm.try_proof(account(4).address(), &proof).unwrap();
        let call = chain_bridge::chain::Call { to: Some(self.t.evm.deployment.fraud), data: proof.call, value: Amount::ZERO };
        self.t.evm.send(account(4).address(), call).unwrap();
    }

    pub(crate) fn end_w1(&mut self) {
        self.t.evm.time += self.t.evm.deployment.config.w1_s;
    }

    pub(crate) fn place(&self, number: u8, index: u64) -> Place {
        let node = self.node(number).address();
        let (root, block) = root_of(&self.t.evm.state, self.epoch, node).unwrap();
        Place { root, block, opening: tree_of(&self.receipts[&(self.epoch, node)]).unwrap().open(index).unwrap() }
    }

    /// The lines that the world's epoch must have.
    pub(crate) fn expected(&self) -> Lines {
        let mut accounts: BTreeMap<Address, (Amount, Vec<PartLeaf>)> = BTreeMap::new();
        for leaf in self.last.iter().flat_map(|last| last.leaves()).filter_map(Row::leaf) {
            accounts.insert(leaf.account, (leaf.cumulative, vec![]));
        }
        let mut add = |payee: Address, part| accounts.entry(payee).or_default().1.push(part);
        let state = &self.t.evm.state;
        for ((_, node), bodies) in self.receipts.iter().filter(|((epoch, _), _)| *epoch == self.epoch) {
            for (index, body) in (0..).zip(bodies) {
                let receipt = Receipt::decode(&body.receipt).unwrap();
                let is_paid = state.is_paid(self.epoch, *node, receipt.hash(), receipt.lane, receipt.cumulative_after);
                if is_paid && receipt.bills() {
                    self.divide(index, body, &mut add);
                }
            }
        }
        for (lane, due, collected) in state.refunds_due(self.epoch) {
            // Every billed receipt that names the lane, was collected by now and was not out, with its place.
            let mut furthest = (Amount::ZERO, Reverse(Witness::NONE));
            for ((epoch, node), bodies) in self.receipts.iter().filter(|((epoch, _), _)| *epoch <= self.epoch) {
                for (index, body) in (0..).zip(bodies) {
                    let receipt = Receipt::decode(&body.receipt).unwrap();
                    let is_bound =
                        receipt.bills() && receipt.lane == lane && receipt.node == *node && receipt.cumulative_after <= collected;
                    if is_bound && !state.is_out(*epoch, *node, receipt.hash()) {
                        let witness = Witness { epoch: *epoch, node: *node, index };
                        furthest = furthest.max((receipt.cumulative_after, Reverse(witness)));
                    }
                }
            }
            let (spoken, Reverse(witness)) = furthest;
            let left = collected.minus(due.given_back).unwrap().0.saturating_sub(spoken.0);
            add(due.payer, PartLeaf::refund(due.node, lane, Amount(left), witness));
        }
        let line = |(account, (previous, mut parts)): (Address, (Amount, Vec<PartLeaf>))| {
            parts.sort_by_key(PartLeaf::place);
            Line { account, previous, parts: parts.iter().map(Row::from).collect() }
        };
        accounts.into_iter().map(line).collect()
    }

    fn divide(&self, index: u64, body: &Bodies, add: &mut impl FnMut(Address, PartLeaf)) {
        let (receipt, quote) = (Receipt::decode(&body.receipt).unwrap(), Quote::decode(&body.quote).unwrap());
        let manifest = Manifest::decode(&body.manifest).unwrap();
        let spans: Vec<u32> = receipt.spans.iter().map(|span| span.weight).collect();
        let treasuries: Vec<u64> = manifest.datanets.iter().map(|datanet| datanet.weight).collect();
        let parts = split::parts(receipt.fee, quote.protocol_fee, &manifest.split, &spans, receipt.weight_total, &treasuries).unwrap();
        let (state, deployment) = (&self.t.evm.state, &self.t.evm.deployment);
        let owner = |kind| state.payee_at(manifest.asset(kind)?.version.asset, receipt.block.number);
        for (part, amount) in parts {
            let payee = match part {
                Part::Protocol => Some(deployment.config.protocol),
                Part::Node => state.payout_at(receipt.node, receipt.block.number),
                Part::Agent => owner(AssetKind::Agent),
                Part::Base => owner(AssetKind::Base),
                Part::Adapter => owner(AssetKind::Adapter),
                Part::Stakers => Some(deployment.rewards),
                Part::Insurance => Some(deployment.insurance),
                Part::Treasury(number) => Some(manifest.datanets[usize::from(number)].treasury),
                Part::Span(number) if state.is_span_out(self.epoch, receipt.hash(), number) => Some(deployment.insurance),
                Part::Span(number) => Some(receipt.spans[usize::from(number)].payee),
                Part::Refund => None,
            };
            if let Some(payee) = payee {
                add(payee, PartLeaf::new(receipt.node, index, part, amount));
            }
        }
    }

    /// Posts a root as the poster.
    pub(crate) fn post(&mut self, shown: &Shown, total: Amount) -> Result<(), String> {
        self.post_root(shown.root(), total)
    }

    pub(crate) fn post_root(&mut self, root: Hash32, total: Amount) -> Result<(), String> {
        let previous = self.last.as_ref().map_or(Hash32::ZERO, Shown::root);
        let call = Settlement::postPayoutCall { epoch: self.epoch, previousRoot: previous.0.into(), root: root.0.into(), total: total.0 };
        self.t.evm.call(self.t.node.address(), self.t.evm.deployment.settlement, &call, Amount::ZERO).map(drop)
    }

    pub(crate) fn case<'a>(&'a self, posted: &'a Shown, expected: &'a Shown) -> Case<'a> {
        Case { state: &self.t.evm.state, epoch: self.epoch, posted, last: self.last.as_ref(), expected, receipts: &self.receipts }
    }
}

/// Roots and sums written into every line.
pub(crate) fn seal(lines: &Lines) -> Rows {
    let row = |line: &Line| {
        let leaves: Vec<_> = line.parts.iter().map(|row| types::merkle::Summed::leaf(&row.bytes, row.amount)).collect();
        let tree = types::merkle::SumTree::new(leaves).unwrap();
        let cumulative = line.previous.plus(tree.total()).unwrap();
        let leaf = PayoutLeaf { account: line.account, previous: line.previous, cumulative, parts: tree.root() };
        (Row::from(&leaf), line.parts.clone())
    };
    lines.iter().map(row).collect()
}

/// The treasury whose part stands in the transcript's receipts.
pub(crate) fn a_treasury() -> Address {
    types::manifest::treasury(AssetId(2))
}

/// The root of no parts.
pub(crate) fn no_parts() -> Hash32 {
    parts_tree(&[]).unwrap().root()
}
