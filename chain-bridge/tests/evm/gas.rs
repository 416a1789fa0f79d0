//! What settling costs per answer, on the compiled contracts: receipts, vouchers, node roots, the payout tree and relayed claims are the real
//! documents through the real calls; three epochs of each population. The first pays for fresh storage (lanes, accounts, nodes), the third is
//! what every later one costs. Larger populations follow by a formula from what these cost. Rows are printed as JSON lines for
//! `cargo xtask bench chain`.

use std::collections::BTreeMap;

use alloy::sol_types::SolCall;
use chain_bridge::{
    bindings::{FraudVerifier, InferenceEscrow, Settlement, StakeManager},
    chain::Call,
    registry::money::ROLE_POSTER,
};
use serde_json::json;
use types::{
    amount::Amount,
    encoding::Document as _,
    id::{Address, AssetId, AssetVersion, Hash32},
    key::{Account, Signed},
    manifest::treasury,
    merkle::{SumTree, keccak, sum_root},
    operator::{NodeRoot, receipt_leaf},
    payout::{PartLeaf, PayoutLeaf, parts_root, payout_tree},
    quote::{Class, Profile},
    receipt::{Reason, Receipt, Span, token_ids_hash},
    split::{self, Part, SplitTable},
    time::BlockRef,
    voucher::{Lane, Voucher},
};

use super::harness::{Evm, address, open};

/// Vouchers and claims of one transaction.
const COLLECT_BATCH: usize = 32;
const CLAIM_BATCH: usize = 64;
const EPOCHS: u64 = 3;
/// Bytes of a signed transaction beside its calldata: type, chain, nonce, fees, gas limit, recipient, value, signature.
const ENVELOPE_BYTES: u64 = 120;

/// How many of each take part in an epoch of `answers`.
#[derive(Debug, Clone, Copy)]
struct Population {
    answers: u32,
    payers: u32,
    payees: u32,
    nodes: u32,
}

const SMALL: Population = Population { answers: 1_000, payers: 20, payees: 50, nodes: 5 };
/// As many payees as the largest ones have, so that its claims are as deep as theirs.
const LARGE: Population = Population { answers: 10_000, payers: 200, payees: 2_000, nodes: 50 };

/// Gas of an epoch by phase, and the bytes of its transactions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cost {
    collect: u64,
    roots: u64,
    post: u64,
    claim: u64,
    bytes: u64,
}

impl Cost {
    const fn gas(&self) -> u64 {
        self.collect + self.roots + self.post + self.claim
    }
}

fn key(what: &str, number: u32) -> Account {
    let secret = keccak(&[b"tributary gas ", what.as_bytes(), &number.to_be_bytes()]);
    Account::from_bytes(&secret.0).unwrap()
}

/// The parties of a population and what they have done so far.
struct Network {
    evm: Evm,
    population: Population,
    payers: Vec<Account>,
    nodes: Vec<Account>,
    contributors: Vec<Address>,
    poster: Account,
    lanes: Vec<(Signed<Lane>, Amount)>,
    last: (Hash32, BTreeMap<Address, Amount>),
    /// Bytes of the last transaction sent.
    sent: u64,
    /// Bytes of full batches and of a payout, for one unit of each, by name.
    sizes: BTreeMap<&'static str, u64>,
}

impl Network {
    fn new(population: Population) -> Self {
        let mut evm = Evm::new();
        let domains = evm.deployment.domains();
        let keys = |what, count| (0..count).map(|number| key(what, number)).collect::<Vec<_>>();
        let (payers, nodes) = (keys("payer", population.payers), keys("node", population.nodes));
        let poster = key("poster", 0);
        for account in payers.iter().chain(&nodes).chain([&poster]) {
            evm.fund(account.address(), open(10_000));
        }
        for payer in &payers {
            evm.call(payer.address(), evm.deployment.escrow, &InferenceEscrow::depositCall {}, open(100)).unwrap();
        }
        for operator in nodes.iter().chain([&poster]) {
            let node = keccak(&[&operator.address().0]);
            let call = StakeManager::stakeCall { nodeId: node.0.into(), incarnation: 1, payout: address(operator.address()) };
            evm.call(operator.address(), evm.deployment.stake, &call, open(100)).unwrap();
        }
        evm.call(poster.address(), evm.deployment.stake, &StakeManager::joinCall { roles: ROLE_POSTER }, Amount::ZERO).unwrap();
        // Claiming are the nodes, the protocol, the owners of base and adapter, and contributors for the rest.
        let contributors = (0..population.payees - population.nodes - 3).map(|number| key("contributor", number).address()).collect();
        let lane = |(number, payer): (usize, &Account)| {
            let node = nodes[number % nodes.len()].address();
            let lane = Lane { payer: payer.address(), node, cap: open(50), expiry: 1 << 40, nonce: number as u64 };
            (Signed::new(payer, &domains, lane), Amount::ZERO)
        };
        let lanes = payers.iter().enumerate().map(lane).collect();
        Self {
            evm,
            population,
            payers,
            nodes,
            contributors,
            poster,
            lanes,
            last: (Hash32::ZERO, BTreeMap::new()),
            sent: 0,
            sizes: BTreeMap::new(),
        }
    }

    /// One transaction: its gas; its bytes are counted. As many as one block holds share it.
    fn send<C: SolCall>(&mut self, from: Address, to: Address, call: &C, cost: &mut Cost) -> u64 {
        let data = call.abi_encode();
        self.sent = data.len() as u64 + ENVELOPE_BYTES;
        cost.bytes += self.sent;
        (self.evm.block, self.evm.time) = (self.evm.block + 1, self.evm.time + 2);
        self.evm.send(from, Call { to: Some(to), data, value: Amount::ZERO }).unwrap().gas
    }

    /// Collect, node roots, payout and claims of one epoch.
    fn epoch(&mut self, number: u64) -> Cost {
        let mut cost = Cost::default();
        let receipts = self.receipts(number);
        cost.collect = self.collect(number, &mut cost);
        cost.roots = self.submit(number, &receipts, &mut cost);
        let config = self.evm.deployment.config.clone();
        self.evm.time += config.w1_s;
        let (leaves, tree) = self.payout(&receipts);
        let call = Settlement::postPayoutCall {
            epoch: number,
            previousRoot: self.last.0.0.into(),
            root: tree.root().0.into(),
            total: tree.total().0,
        };
        let (poster, settlement) = (self.poster.address(), self.evm.deployment.settlement);
        cost.post = self.send(poster, settlement, &call, &mut cost);
        self.sizes.insert("epoch_post", self.sent);
        self.evm.time += config.w2_s;
        cost.claim = self.claim(&leaves, &tree, &mut cost);
        self.last = (tree.root(), leaves.iter().map(|leaf| (leaf.account, leaf.cumulative)).collect());
        cost
    }

    /// The answers of an epoch by node: each payer keeps to its node and lane.
    fn receipts(&mut self, epoch: u64) -> BTreeMap<Address, Vec<Signed<Receipt>>> {
        let domains = self.evm.deployment.domains();
        let version = |asset| AssetVersion { asset: AssetId(asset), version: 1 };
        let mut receipts: BTreeMap<Address, Vec<Signed<Receipt>>> = BTreeMap::new();
        for number in 0..self.population.answers {
            let (lane, stands) = &mut self.lanes[(number % self.population.payers) as usize];
            let node = &self.nodes[(number % self.population.payers % self.population.nodes) as usize];
            let (tokens_in, tokens_out) = (200 + number % 97, 100 + number % 151);
            let fee = split::fee(tokens_in, tokens_out, Amount(1_500_000_000_007), Amount(4_000_000_000_003), PROTOCOL_FEE).unwrap();
            *stands = stands.plus(fee).unwrap();
            let span = |place: u32| Span {
                start: 300 * place,
                length: 200,
                datanet: 0,
                position: u64::from(number) * 512,
                weight: 900,
                payee: self.contributors[((3 * number + place) % self.contributors.len() as u32) as usize],
            };
            let request = keccak(&[&epoch.to_be_bytes(), &number.to_be_bytes()]);
            let document = Receipt {
                request,
                attempt: 0,
                client: lane.document.payer,
                node: node.address(),
                lane: lane.document.id(),
                cumulative_after: *stands,
                manifest: Hash32([1; 32]),
                index: Hash32([2; 32]),
                parameters: 1,
                profile: Profile::Exact,
                class: Class::Open,
                block: BlockRef { number: self.evm.block, hash: Hash32([3; 32]) },
                prompt_root: Hash32([4; 32]),
                answer_root: request,
                token_ids: token_ids_hash(&[number]),
                tokens_in,
                first_token: 0,
                tokens_out,
                quote: Hash32([5; 32]),
                fee,
                reason: Reason::Stop,
                weight_total: 4_000,
                fingerprint_root: Hash32::ZERO,
                assets: vec![version(1), version(2)],
                spans: (0..3).map(span).collect(),
                masks: vec![],
            };
            receipts.entry(node.address()).or_default().push(Signed::new(node, &domains, document));
        }
        receipts
    }

    fn collect(&mut self, epoch: u64, cost: &mut Cost) -> u64 {
        let domains = self.evm.deployment.domains();
        let item = |(lane, stands): &(Signed<Lane>, Amount), payer: &Account| {
            let voucher = Voucher {
                lane: lane.document.id(),
                request: Hash32([6; 32]),
                attempt: 0,
                quote: Hash32([5; 32]),
                first_token: 0,
                tokens_in: 200,
                tokens_out: 100,
                token_ids: token_ids_hash(&[1]),
                base: Amount::ZERO,
                cumulative: *stands,
            };
            let voucher = Signed::new(payer, &domains, voucher);
            InferenceEscrow::Item {
                lane: lane.document.encode().into(),
                // The chain knows the signer of a lane that it has collected from.
                laneSig: if epoch == 1 { lane.signature.0.to_vec() } else { vec![] }.into(),
                voucher: voucher.document.encode().into(),
                voucherSig: voucher.signature.0.to_vec().into(),
            }
        };
        let items: Vec<_> = self.lanes.iter().zip(&self.payers).map(|(lane, payer)| item(lane, payer)).collect();
        let (relay, escrow) = (self.poster.address(), self.evm.deployment.escrow);
        let mut gas = 0;
        for items in items.chunks(COLLECT_BATCH) {
            gas += self.send(relay, escrow, &InferenceEscrow::collectManyCall { items: items.to_vec() }, cost);
            if items.len() == COLLECT_BATCH {
                self.sizes.insert(if epoch == 1 { "voucher32_first" } else { "voucher32" }, self.sent / COLLECT_BATCH as u64);
            }
        }
        gas
    }

    fn submit(&mut self, epoch: u64, receipts: &BTreeMap<Address, Vec<Signed<Receipt>>>, cost: &mut Cost) -> u64 {
        let domains = self.evm.deployment.domains();
        let mut gas = 0;
        for number in 0..self.nodes.len() {
            let node = self.nodes[number].clone();
            let own = &receipts[&node.address()];
            let leaves = own.iter().map(|receipt| receipt_leaf(receipt.document.hash(), receipt.document.fee)).collect();
            let (receipts, fees) = sum_root(leaves).unwrap();
            let root = NodeRoot { node: node.address(), epoch, receipts, count: own.len() as u64, fees };
            let root = Signed::new(&node, &domains, root);
            let call = Settlement::submitNodeRootCall { body: root.document.encode().into(), signature: root.signature.0.to_vec().into() };
            gas += self.send(node.address(), self.evm.deployment.settlement, &call, cost);
        }
        gas
    }

    /// The payout tree over what the epochs before earned: every wei of every fee in one part.
    fn payout(&self, receipts: &BTreeMap<Address, Vec<Signed<Receipt>>>) -> (Vec<PayoutLeaf>, SumTree) {
        let table = SplitTable { node: 5_500, agent: 0, base: 1_500, adapter: 1_500, data: 1_500, stakers: 0 };
        let mut parts: BTreeMap<Address, Vec<PartLeaf>> = BTreeMap::new();
        for (node, own) in receipts {
            for (place, receipt) in (0..).zip(own) {
                let receipt = &receipt.document;
                let weights: Vec<u32> = receipt.spans.iter().map(|span| span.weight).collect();
                for (part, amount) in split::parts(receipt.fee, PROTOCOL_FEE, &table, &weights, receipt.weight_total, &[1]).unwrap() {
                    let payee = match part {
                        Part::Protocol => self.evm.deployment.config.protocol,
                        Part::Node => *node,
                        Part::Base => key("base owner", 0).address(),
                        Part::Adapter => key("adapter owner", 0).address(),
                        Part::Span(number) => receipt.spans[usize::from(number)].payee,
                        Part::Treasury(_) => treasury(AssetId(3)),
                        other => panic!("{other:?} has no weight in the table"),
                    };
                    parts.entry(payee).or_default().push(PartLeaf::new(*node, place, part, amount));
                }
            }
        }
        let leaf = |(account, parts): (&Address, &Vec<PartLeaf>)| {
            let previous = self.last.1.get(account).copied().unwrap_or_default();
            let (root, earned) = parts_root(parts).unwrap();
            PayoutLeaf { account: *account, previous, cumulative: previous.plus(earned).unwrap(), parts: root }
        };
        let leaves: Vec<PayoutLeaf> = parts.iter().map(leaf).collect();
        let tree = payout_tree(&leaves).unwrap();
        let charged = Amount::sum(self.lanes.iter().map(|(_, stands)| *stands)).unwrap();
        assert_eq!(tree.total(), charged, "every wei that was collected is in the tree");
        (leaves, tree)
    }

    /// Relayed claims of all but the treasury, to which nobody has a key.
    fn claim(&mut self, leaves: &[PayoutLeaf], tree: &SumTree, cost: &mut Cost) -> u64 {
        let sealed = treasury(AssetId(3));
        let claim = |(index, leaf): (u64, &PayoutLeaf)| {
            let siblings = tree.open(index).unwrap().siblings;
            Settlement::Claim {
                account: address(leaf.account),
                previous: leaf.previous.0,
                cumulative: leaf.cumulative.0,
                partsRoot: leaf.parts.0.into(),
                index,
                siblings: siblings.iter().flat_map(|sibling| sibling.digest.0.into_iter().chain(sibling.sum.0.to_be_bytes())).collect(),
            }
        };
        let claims: Vec<_> = (0..).zip(leaves).filter(|(_, leaf)| leaf.account != sealed).map(claim).collect();
        assert_eq!(claims.len(), self.population.payees as usize);
        let (relay, settlement, count) = (self.poster.address(), self.evm.deployment.settlement, leaves.len() as u64);
        let mut gas = 0;
        for claims in claims.chunks(CLAIM_BATCH) {
            gas += self.send(relay, settlement, &Settlement::claimManyCall { count, claims: claims.to_vec() }, cost);
            if claims.len() == CLAIM_BATCH {
                self.sizes.insert("claim64", self.sent / CLAIM_BATCH as u64);
            }
        }
        gas
    }
}

const PROTOCOL_FEE: Amount = Amount(1_000_000_000);

/// The first epoch's cost and the third's, and bytes of single operations.
fn run(population: Population) -> (Cost, Cost, BTreeMap<&'static str, u64>) {
    let mut network = Network::new(population);
    let costs: Vec<Cost> = (1..=EPOCHS).map(|epoch| network.epoch(epoch)).collect();
    let received = network.evm.view(network.evm.deployment.settlement, &Settlement::totalReceivedCall {}).unwrap();
    let claimed = network.evm.view(network.evm.deployment.settlement, &Settlement::totalClaimedCall {}).unwrap();
    let sealed = network.last.1[&treasury(AssetId(3))];
    assert_eq!(received - claimed, sealed.0, "all is claimed but the treasury's");
    (costs[0], costs[2], network.sizes)
}

/// Bytes of the proof of a false span that forge measures: a receipt of one span, leaves of 320 bytes at depth 20.
fn false_span_bytes() -> u64 {
    let opening = |levels: usize| 16 + 32 * levels;
    let blob = |bytes: usize| 4 + bytes;
    let answer_leaf = 32 + 8 + 1 + 84 + 320;
    let evidence = 52 + opening(2) + 120 + 8 + opening(1) + blob(320) + opening(20) + blob(answer_leaf) + opening(20);
    let call = FraudVerifier::proveFalseSpanCall {
        receipt: vec![1; 434 + 12 * 2 + 40].into(),
        signature: vec![1; 65].into(),
        span: 0,
        mode: 4,
        evidence: vec![1; evidence].into(),
    };
    call.abi_encode().len() as u64 + ENVELOPE_BYTES
}

/// Gas of an epoch by what its parts cost in a smaller one.
fn by_formula(unit: &Cost, of: Population, wanted: Population) -> u64 {
    let scale = |gas: u64, of: u32, wanted: u32| gas * u64::from(wanted) / u64::from(of);
    scale(unit.collect, of.payers, wanted.payers)
        + scale(unit.roots, of.nodes, wanted.nodes)
        + scale(unit.claim, of.payees, wanted.payees)
        + unit.post
}

fn print(figure: &str, population: Population, gas: u64, bytes: u64, how: &str) {
    let Population { answers, payers, payees, nodes } = population;
    let per_answer = gas as f64 / f64::from(answers);
    let note = format!("{how}; {payers} payers with one lane each, {payees} payees, {nodes} nodes: {gas} gas in all");
    let row =
        json!({ "figure": figure, "ours": per_answer, "unit": "gas", "n": answers, "bytes": bytes / u64::from(answers), "note": note });
    println!("{row}");
}

/// What it would be if every payer had a lane at every node: one more voucher for each.
fn print_lanes(figure: &str, population: Population, gas: u64) {
    let Population { answers, payers, nodes, .. } = population;
    let note = format!("by what a voucher costs: {payers} payers, each with a lane at all {nodes} nodes");
    println!("{}", json!({ "figure": figure, "ours": gas as f64 / f64::from(answers), "unit": "gas", "n": answers, "note": note }));
}

#[test]
fn gas_per_answer_stays_below_its_limits_whatever_the_epochs_size() {
    let ((first, next, _), (large_first, large, mut sizes)) = (run(SMALL), run(LARGE));
    sizes.insert("f1", false_span_bytes());
    for (name, bytes) in sizes {
        println!("{}", json!({ "figure": format!("bytes.{name}"), "ours": bytes, "unit": "bytes", "n": 1, "note": "" }));
    }
    let run_here = "three epochs run, the third counted";
    print("chain.gas_per_answer_1k", SMALL, next.gas(), next.bytes, run_here);
    print("chain.gas_per_answer_1k_first", SMALL, first.gas(), first.bytes, "the first epoch of all, with fresh storage for every party");
    print("chain.gas_per_answer_10k", LARGE, large.gas(), large.bytes, run_here);
    print("chain.gas_per_answer_10k_first", LARGE, large_first.gas(), large_first.bytes, "the first epoch of all");
    // The formula is held against the population that was run, then used for those that were not.
    let (forecast, measured) = (by_formula(&large, LARGE, SMALL), next.gas());
    assert!(forecast.abs_diff(measured) * 5 < measured, "the formula says {forecast}, an epoch of 1,000 took {measured}");
    // Equal nodes are asked in an order that is the client's own, so that it keeps to one lane; whoever spreads its questions pays for more.
    let lane = large.collect / 200;
    for (figure, population, gas) in [("1k", SMALL, next.gas()), ("10k", LARGE, large.gas())] {
        let more = u64::from(population.payers * (population.nodes - 1)) * lane;
        print_lanes(&format!("chain.gas_per_answer_{figure}_spread"), population, gas + more);
    }
    let formula = format!(
        "by {} gas x payers + {} x nodes + {} x payees + {} of the run at 10k",
        large.collect / 200,
        large.roots / 50,
        large.claim / 2_000,
        large.post
    );
    let mut limits = vec![(next.gas() / 1_000, 4_500)];
    for (name, answers, payers, nodes, limit) in [("100k", 100_000, 500, 100, 1_600), ("1m", 1_000_000, 1_000, 500, 200)] {
        let wanted = Population { answers, payers, payees: 2_000, nodes };
        let gas = by_formula(&large, LARGE, wanted);
        // Bytes are nearly all vouchers and claims: they grow as gas does.
        print(&format!("chain.gas_per_answer_{name}"), wanted, gas, large.bytes * gas / large.gas(), &formula);
        limits.push((gas / u64::from(answers), limit));
    }
    for (gas, limit) in limits {
        assert!(gas <= limit, "{gas} gas per answer, at most {limit} are allowed");
    }
}
