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
    encoding::{Body, Document as _},
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

/// F4 to F6 of one receipt: the rules it breaks, those that only the bytes show among them.
pub fn bill_faults(state: &State, deployment: &Deployment, item: &ReceiptItem) -> Vec<Found> {
    let (receipt, body) = (&item.receipt, &item.receipt.document);
    if is_void(state, body.hash()) || receipt.verify(&deployment.domains(), body.node).is_err() {
        return Vec::new();
    }
    let quote_body = item.quote.as_ref().filter(|quote| quote.hash() == body.quote);
    let manifest_body = item.manifest.as_ref().filter(|manifest| manifest.hash() == body.manifest);
    let quote = quote_body.and_then(|quote| quote.read::<Quote>().ok());
    let manifest = manifest_body.and_then(|manifest| manifest.read::<Manifest>().ok());
    let case = Bill { receipt: body, quote: quote.as_ref(), manifest: manifest.as_ref(), grace_blocks: deployment.config.grace_blocks };
    let mut broken = rules::broken(state, &case);
    if body.reason.is_billable() {
        broken.extend((manifest_body.is_some() && manifest.is_none()).then_some(rules::Rule::ManifestForm));
        broken.extend((quote_body.is_some() && quote.is_none()).then_some(rules::Rule::QuoteForeign));
    }
    let found = |rule: rules::Rule| {
        let (needs_quote, needs_manifest) = rules::needs(rule);
        let bytes = |body: Option<&Body>, is_needed: bool| body.filter(|_| is_needed).map(|body| body.0.clone()).unwrap_or_default();
        let (quote, manifest) = (bytes(quote_body, needs_quote), bytes(manifest_body, needs_manifest));
        Found {
            fault: "F4-F6",
            why: format!("receipt {} breaks rule {}: {rule:?}", body.hash(), rule.code()),
            accused: body.node,
            proof: Proof::rule(rule.code(), &body.encode(), &receipt.signature.0, &quote, &manifest),
        }
    };
    broken.into_iter().map(found).collect()
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
        let Some(tree) = tree.filter(|tree| (tree.root(), tree.total()) == (root.receipts, root.fees)) else { continue };
        for (index, item) in (0..).zip(items) {
            let body = &item.receipt.document;
            let Some(opening) = tree.open(index) else { continue };
            let place = Place { root, block, opening };
            if let Some(first) = places.get(&body.hash()) {
                found.extend(repeat(state, body, first, &place));
            } else {
                found.extend(block_of(state, deployment, body, &place));
                found.extend(bill_faults(state, deployment, item));
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
    let bytes = |body: &Option<Body>| body.as_ref().map(|body| body.0.clone()).unwrap_or_default();
    Bodies { receipt: item.receipt.document.encode(), quote: bytes(&item.quote), manifest: bytes(&item.manifest) }
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
            profile: Profile::Exact,
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
            profile: Profile::Exact,
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
        ReceiptItem::new(Signed::new(&node(), &deployment().domains(), receipt), &quote, &manifest)
    }

    /// Books in which the node submitted each epoch's receipts in block 100.
    fn books(receipts: &Rooted, posted: Option<(u64, Hash32, Amount)>) -> State {
        let mut events = Vec::new();
        for ((number, account), items) in receipts {
            let own: Vec<_> = items.iter().map(|item| item.receipt.clone()).collect();
            let root = epoch::node_root(*account, *number, &own).unwrap();
            events.push(Event::EpochOpened { epoch: *number, opened_at: 10, accepts_until: 15, payout_from: 25 });
            let types::operator::NodeRoot { receipts, count, fees, .. } = root;
            events.push(Event::NodeRootSubmitted { epoch: *number, node: *account, receipts, count, fees, block: 100 });
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
    fn a_billed_receipt_that_names_bytes_which_are_no_quote_or_manifest_is_found_by_them() {
        let honest = item(100);
        let junk = Body(b"no document".to_vec());
        let broken = |change: &dyn Fn(&mut ReceiptItem)| -> Vec<String> {
            let mut item = honest.clone();
            change(&mut item);
            item.receipt = Signed::new(&node(), &deployment().domains(), item.receipt.document);
            let receipts = Rooted::from([((1, node().address()), vec![item])]);
            rooted_faults(&books(&receipts, None), &deployment(), &receipts).into_iter().map(|found| found.why).collect()
        };
        let billed = |item: &mut ReceiptItem| item.receipt.document.reason = Reason::Stop;
        let named = |all: Vec<String>, rule: &str| all.iter().any(|why| why.contains(rule));
        assert!(!named(broken(&billed), "QuoteForeign") && !named(broken(&billed), "ManifestForm"));
        let no_quote = |item: &mut ReceiptItem| (item.quote, item.receipt.document.quote) = (Some(junk.clone()), junk.hash());
        let no_manifest = |item: &mut ReceiptItem| (item.manifest, item.receipt.document.manifest) = (Some(junk.clone()), junk.hash());
        assert_eq!(broken(&no_quote), [""; 0], "what bills nothing breaks no rule by it");
        let both = |change: &dyn Fn(&mut ReceiptItem)| {
            broken(&|item: &mut ReceiptItem| {
                billed(item);
                change(item);
            })
        };
        assert!(named(both(&no_quote), "QuoteForeign"));
        assert!(named(both(&no_manifest), "ManifestForm"));
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
