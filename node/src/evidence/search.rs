//! Faults that can be proved from what lies on disk: one receipt with what it names, a node's receipts at their places, a posted payout.
//!
//! What should be comes from `attribution` and the chain's books, what the contract takes from `chain-bridge`; here the two are compared. What is
//! void already is left out. Cost: a hash a receipt, and for F7 one division of every epoch before.

use std::collections::BTreeMap;

use anyhow::Context as _;
use attribution::{
    epoch::{
        self, Payout, collect,
        replay::{Facts as _, Line},
    },
    message::ReceiptItem,
};
use chain_bridge::{
    deploy::Deployment,
    fraud::{
        calldata::Proof,
        node::{block_fault, is_promised, is_repeat},
        pack::Place,
        payout::{PayoutProof, Shown},
        rules::{self, Case as Bill},
        search::{self, Bodies, Receipts, root_of, tree_of},
    },
    registry::State,
};
use types::{
    encoding::Document as _,
    id::{Address, Hash32},
    key::Signed,
    manifest::Manifest,
    quote::Quote,
    receipt::Receipt,
    voucher::Lane,
};

use crate::facts::{ChainFacts, accounts};

/// The receipts behind node roots, by epoch and node, each node's in its own order.
pub type Rooted = BTreeMap<(u64, Address), Vec<ReceiptItem>>;

/// A fault with its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name in Protocol P7.
    pub fault: &'static str,
    /// What is wrong, in words.
    pub why: String,
    /// Who is slashed.
    pub accused: Address,
    /// What the contract takes.
    pub proof: Proof,
}

/// What is void is paid nothing: there is no more to prove. A slash alone (F1) leaves a receipt standing.
fn is_void(state: &State, receipt: Hash32) -> bool {
    state.voided_at(receipt).is_some()
}

/// F4 to F6 of one receipt: the rules it breaks.
pub fn bill_faults(state: &State, deployment: &Deployment, receipt: &Signed<Receipt>, quote: &Quote, manifest: &Manifest) -> Vec<Found> {
    let body = &receipt.document;
    if is_void(state, body.hash()) || receipt.verify(&deployment.domains(), body.node).is_err() {
        return Vec::new();
    }
    let quote = Some(quote).filter(|quote| quote.hash() == body.quote);
    let manifest = Some(manifest).filter(|manifest| manifest.root() == body.manifest);
    let case = Bill { receipt: body, quote, manifest, grace_blocks: deployment.config.grace_blocks };
    let found = |rule: rules::Rule| {
        let (quote, manifest) = rules::opened(rule, &case);
        let bytes = (quote.map(Quote::encode).unwrap_or_default(), manifest.map(Manifest::encode).unwrap_or_default());
        Found {
            fault: "F4-F6",
            why: format!("receipt {} breaks rule {}: {rule:?}", body.hash(), rule.code()),
            accused: body.node,
            proof: Proof::rule(rule.code(), &body.encode(), &receipt.signature.0, &bytes.0, &bytes.1),
        }
    };
    rules::broken(state, &case).into_iter().map(found).collect()
}

/// F6 of one receipt: its lane does not promise what it takes.
pub fn lane_fault(state: &State, deployment: &Deployment, receipt: &Signed<Receipt>, lane: &Lane) -> Option<Found> {
    let body = &receipt.document;
    let is_open = !is_void(state, body.hash()) && receipt.verify(&deployment.domains(), body.node).is_ok();
    let is_fault = lane.id() == body.lane && !is_promised(body, lane);
    (is_open && is_fault).then(|| Found {
        fault: "F6",
        why: format!("receipt {} takes from its lane what it does not promise", body.hash()),
        accused: body.node,
        proof: Proof::lane(receipt, lane),
    })
}

/// F3 to F6 of receipts under their roots: contradictions, repeats, named blocks, rules.
pub fn rooted_faults(state: &State, deployment: &Deployment, receipts: &Rooted) -> Vec<Found> {
    let mut found = contradictions(state, deployment, receipts);
    let mut places: BTreeMap<Hash32, Place> = BTreeMap::new();
    for ((epoch, node), items) in receipts {
        let Some((root, block)) = root_of(state, *epoch, *node) else { continue };
        let tree = tree_of(&items.iter().map(bodies).collect::<Vec<_>>());
        for (index, item) in (0..).zip(items) {
            let body = &item.receipt.document;
            let Some(opening) = tree.open(index).filter(|_| tree.root() == root.receipts) else { continue };
            let place = Place { root, block, opening };
            if let Some(first) = places.get(&body.hash()) {
                found.extend(repeat(state, body, first, &place));
            } else {
                found.extend(block_of(state, deployment, body, &place));
                found.extend(bill_faults(state, deployment, &item.receipt, &item.quote, &item.manifest));
                places.insert(body.hash(), place);
            }
        }
    }
    found
}

fn contradictions(state: &State, deployment: &Deployment, receipts: &Rooted) -> Vec<Found> {
    let mut of_node: BTreeMap<Address, Vec<Signed<Receipt>>> = BTreeMap::new();
    for ((_, node), items) in receipts {
        of_node.entry(*node).or_default().extend(items.iter().map(|item| item.receipt.clone()));
    }
    let mut found = Vec::new();
    for (node, receipts) in of_node {
        for pair in collect(&deployment.domains(), node, receipts).equivocations {
            let (first, second) = (pair.first.document.hash(), pair.second.document.hash());
            if chain_bridge::fraud::node::contradict(&pair.first.document, &pair.second.document)
                && !(is_void(state, first) && is_void(state, second))
            {
                found.push(Found {
                    fault: "F3",
                    why: format!("receipts {first} and {second} contradict each other"),
                    accused: node,
                    proof: Proof::equivocation(&pair.first, &pair.second),
                });
            }
        }
    }
    found
}

fn repeat(state: &State, receipt: &Receipt, first: &Place, second: &Place) -> Option<Found> {
    let is_fault = is_repeat(receipt, first, second) && !is_void(state, receipt.hash());
    is_fault.then(|| Found {
        fault: "F3",
        why: format!(
            "receipt {} stands at place {} of epoch {} and at place {} of epoch {}",
            receipt.hash(),
            first.opening.index,
            first.root.epoch,
            second.opening.index,
            second.root.epoch
        ),
        accused: receipt.node,
        proof: Proof::repeat(receipt, first, second),
    })
}

fn block_of(state: &State, deployment: &Deployment, receipt: &Receipt, place: &Place) -> Option<Found> {
    let config = &deployment.config;
    block_fault(receipt, place, config.grace_blocks, config.max_age_blocks)?;
    (!is_void(state, receipt.hash()) && receipt.node == place.root.node).then(|| Found {
        fault: "F5",
        why: format!("receipt {} names block {}, its root was submitted in {}", receipt.hash(), receipt.block.number, place.block),
        accused: receipt.node,
        proof: Proof::block(receipt, place),
    })
}

fn bodies(item: &ReceiptItem) -> Bodies {
    Bodies { receipt: item.receipt.document.encode(), quote: item.quote.encode(), manifest: item.manifest.encode() }
}

/// Receipts as the bytes that proofs open.
pub fn bodies_of(receipts: &Rooted) -> Receipts {
    receipts.iter().map(|(place, items)| (*place, items.iter().map(bodies).collect())).collect()
}

/// The payout that the receipts of all epochs up to `last` give.
pub fn expected_payout(state: &State, deployment: &Deployment, receipts: &Rooted, last: u64) -> anyhow::Result<Payout> {
    let (facts, accounts) = (ChainFacts(state), accounts(deployment));
    let (mut standing, mut payout) = (BTreeMap::new(), None::<Payout>);
    for (number, _) in state.epochs().filter(|(number, _)| *number <= last) {
        let known = facts.epoch(number).with_context(|| format!("epoch {number} is unknown"))?;
        let mut items = BTreeMap::new();
        for (node, root) in &known.roots {
            if root.count == 0 || facts.is_out(number, *node, Hash32::ZERO) {
                continue;
            }
            let of_node =
                receipts.get(&(number, *node)).with_context(|| format!("epoch {number}: the receipts of {node} are not at hand"))?;
            items.insert(*node, of_node.clone());
        }
        let division = epoch::divide(&facts, &accounts, number, &items, &known.refunds, &mut standing, &epoch::one_by_one);
        let previous = payout.map(|payout| payout.cumulative()).unwrap_or_default();
        payout = Some(Payout::over(&previous, division.parts, &epoch::one_by_one)?);
    }
    payout.context("no epoch opened yet")
}

/// A posted payout beside what it should be.
#[derive(Debug, Clone, Copy)]
pub struct Compared<'a> {
    /// Its epoch.
    pub epoch: u64,
    /// What the receipts give.
    pub expected: &'a Shown,
    /// The last final tree; nothing before the first.
    pub last: Option<&'a Shown>,
    /// What its poster shows.
    pub shown: &'a [Line],
}

/// A tree in the form that proofs open.
pub fn shown_tree(payout: &Payout) -> anyhow::Result<Shown> {
    Ok(Shown::of(payout.leaves().iter().zip(payout.parts()).map(|(leaf, parts)| (leaf, parts.as_slice())))?)
}

/// F7: the first fault of the payout of `epoch`, posted with `shown` as its lines; nothing if it is the one that the receipts give.
pub fn payout_fault(
    state: &State,
    deployment: &Deployment,
    receipts: &Rooted,
    epoch: u64,
    shown: &[Line],
) -> anyhow::Result<Option<Found>> {
    let expected = shown_tree(&expected_payout(state, deployment, receipts, epoch)?)?;
    let before = epoch.checked_sub(1).filter(|before| state.epoch(*before).is_some());
    let last = before.map(|before| shown_tree(&expected_payout(state, deployment, receipts, before)?)).transpose()?;
    compared_fault(state, receipts, &Compared { epoch, expected: &expected, last: last.as_ref(), shown })
}

/// The same by trees that were built already.
pub fn compared_fault(state: &State, receipts: &Rooted, compared: &Compared<'_>) -> anyhow::Result<Option<Found>> {
    let &Compared { epoch, expected, last, shown } = compared;
    let posted = Shown::of(shown.iter().map(|line| (&line.leaf, line.parts.as_slice())))?;
    let bodies = bodies_of(receipts);
    let case = search::Case { state, epoch, posted: &posted, last, expected, receipts: &bodies };
    Ok(search::first_fault(&case)?.map(|proof| wrong_payout(state, epoch, &proof)))
}

/// A wrong payout as a fault of its poster.
pub fn wrong_payout(state: &State, epoch: u64, proof: &PayoutProof) -> Found {
    let poster = state.epoch(epoch).and_then(|epoch| epoch.payout).map_or(Address::ZERO, |payout| payout.poster);
    Found {
        fault: "F7",
        why: format!("the payout of epoch {epoch} is wrong: {}", proof.mode.words()),
        accused: poster,
        proof: Proof::payout(proof),
    }
}

#[cfg(test)]
mod tests {
    use chain_bridge::{
        deploy,
        devnet::DevnetConfig,
        registry::event::{Event, Logged},
    };
    use types::{
        amount::Amount,
        key::Account,
        merkle::Tree,
        payout::{PartLeaf, PayoutLeaf, parts_tree},
        quote::{Class, Profile},
        receipt::Reason,
        split::{Part, SplitTable},
        time::BlockRef,
    };

    use super::*;

    fn deployment() -> Deployment {
        deploy::plan(31_337, 0, Address([9; 20]), 0, DevnetConfig::new("anvil".into()).deploy)
    }

    fn node() -> Account {
        Account::from_bytes(&[7; 32]).unwrap()
    }

    /// A receipt that bills nothing, so that no rule but its form binds it.
    fn item(block: u64) -> ReceiptItem {
        let manifest = Manifest {
            assets: vec![],
            split: SplitTable { node: 10_000, ..SplitTable::default() },
            index: Hash32::ZERO,
            parameters: 1,
            datanets: vec![],
        };
        let block = BlockRef { number: block, hash: Hash32([1; 32]) };
        let quote = Quote {
            node: node().address(),
            manifest: manifest.root(),
            profile: Profile::CandleF32B1,
            class: Class::Open,
            rate_in: Amount(1),
            rate_out: Amount(1),
            protocol_fee: Amount::ZERO,
            tokens_max: 1,
            block,
            expiry: block.number,
        };
        let receipt = Receipt {
            request: Hash32([2; 32]),
            attempt: 0,
            client: Address([3; 20]),
            node: node().address(),
            lane: Hash32([4; 32]),
            cumulative_after: Amount::ZERO,
            manifest: manifest.root(),
            index: Hash32::ZERO,
            parameters: 1,
            profile: Profile::CandleF32B1,
            class: Class::Open,
            block,
            prompt_root: Hash32::ZERO,
            answer_root: Hash32::ZERO,
            token_ids: Hash32::ZERO,
            tokens_in: 1,
            first_token: 0,
            tokens_out: 0,
            quote: quote.hash(),
            fee: Amount::ZERO,
            reason: Reason::Empty,
            weight_total: 0,
            fingerprint_root: Hash32::ZERO,
            assets: vec![],
            spans: vec![],
            masks: vec![],
        };
        ReceiptItem { receipt: Signed::new(&node(), &deployment().domains(), receipt), quote, manifest }
    }

    /// Books in which the node submitted each epoch's receipts in block 100.
    fn books(receipts: &Rooted, posted: Option<(u64, Hash32, Amount)>) -> State {
        let mut events = Vec::new();
        for ((epoch, account), items) in receipts {
            let hashes: Vec<Hash32> = items.iter().map(|item| item.receipt.document.hash()).collect();
            let root = Tree::over(hashes.iter().map(|hash| hash.0.as_slice())).root();
            events.push(Event::EpochOpened { epoch: *epoch, opened_at: 10, accepts_until: 15, payout_from: 25 });
            let count = u64::try_from(items.len()).unwrap();
            events.push(Event::NodeRootSubmitted { epoch: *epoch, node: *account, receipts: root, count, fees: Amount::ZERO, block: 100 });
        }
        events.extend(posted.map(|(epoch, root, total)| Event::PayoutPosted {
            epoch,
            root,
            total,
            previous: Hash32::ZERO,
            poster: Address([5; 20]),
            final_at: 99,
            bond: Amount::ZERO,
        }));
        let mut state = State::default();
        for (log, event) in (0..).zip(events) {
            let block = BlockRef { number: 100, hash: Hash32::ZERO };
            state.apply(&Logged { block, time: 12, transaction: Hash32::ZERO, log, event }).unwrap();
        }
        state
    }

    fn rooted(epochs: &[(u64, &[u64])]) -> Rooted {
        epochs.iter().map(|(epoch, blocks)| ((*epoch, node().address()), blocks.iter().map(|block| item(*block)).collect())).collect()
    }

    #[test]
    fn receipts_that_stand_twice_or_name_a_block_to_come_are_found_and_others_are_not() {
        let faults = |receipts: Rooted| -> Vec<&'static str> {
            rooted_faults(&books(&receipts, None), &deployment(), &receipts).iter().map(|found| found.fault).collect()
        };
        let ahead = 101 + deployment().config.grace_blocks;
        assert_eq!(faults(rooted(&[(1, &[100]), (2, &[])])), [""; 0]);
        assert_eq!(faults(rooted(&[(1, &[100]), (2, &[100])])), ["F3"]);
        assert_eq!(faults(rooted(&[(1, &[100, 100])])), ["F3"]);
        assert_eq!(faults(rooted(&[(1, &[ahead])])), ["F5"]);
        assert_eq!(faults(rooted(&[(1, &[99, 100])])), ["F3"], "two bodies of one attempt");
    }

    #[test]
    fn a_payout_that_its_receipts_do_not_give_is_found_and_the_right_one_is_not() {
        let receipts = rooted(&[(1, &[100])]);
        let part = PartLeaf::new(Address([8; 20]), 0, Part::Node, Amount(5));
        let parts = vec![part];
        let root = parts_tree(&parts).unwrap().root();
        let leaf = PayoutLeaf { account: Address([6; 20]), previous: Amount::ZERO, cumulative: Amount(5), parts: root };
        let wrong = [Line { leaf, parts }];
        let posted = |lines: &[Line]| {
            let shown = Shown::of(lines.iter().map(|line| (&line.leaf, line.parts.as_slice()))).unwrap();
            books(&receipts, Some((1, shown.root(), shown.total())))
        };
        let found = payout_fault(&posted(&wrong), &deployment(), &receipts, 1, &wrong).unwrap().expect("a part of nobody's receipt");
        assert_eq!((found.fault, found.accused), ("F7", Address([5; 20])));
        assert_eq!(payout_fault(&posted(&[]), &deployment(), &receipts, 1, &[]).unwrap(), None);
        let other = payout_fault(&posted(&[]), &deployment(), &receipts, 1, &wrong).unwrap_err();
        assert!(other.to_string().contains("the tree shown has the root"), "{other}");
    }
}
