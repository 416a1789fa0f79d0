//! F2, F9, F10 and F11 on a chain: a contributor's own text, an answer that holds it and repeats its prompt, and a node that says otherwise.

use std::sync::Arc;

use attribution::{
    answer::answer_root,
    index::{DatanetIndex, Index, Segment, Source},
    parameters::Parameters,
    proof::{Given, find},
    span::attribute,
};
use chain_bridge::{devnet::Role, fraud::calldata::Proof};
use types::{
    amount::Amount,
    id::{Address, AssetId, AssetVersion, Hash32},
    key::Signed,
    quote::{Class, Profile},
    receipt::{Reason, Receipt},
    text::{prompt_root, text_root},
    time::BlockRef,
};

use super::harness::{World, bond, open};

const TEXT: &str = "Bilateral sensorineural hearing impairment of congenital onset affecting speech development.\0";
const PROMPT: &[u8] = b"\x02What is meant by the long name of this rare and early illness?\0";
const ANSWER: &str = "You ask for the long name of this rare and early illness: sensorineural hearing impairment of congenital onset affecting speech development.";

#[tokio::test]
async fn a_span_left_out_misdirected_or_misweighed_and_a_missing_mask_cost_the_nodes_stake_and_an_honest_receipt_does_not() {
    let world = World::start().await;
    let clients = world.clients(2).await;
    let (node, reporter) = (&clients[0], &clients[1]);
    let (accused, domains, key) = (node.address().unwrap(), node.domains(), node.account("sign").unwrap());
    bond(node, 7).await;
    let parameters = Parameters::builtin(1).unwrap();
    let governor = world.client(Role::Governor.account()).await;
    governor.approve_parameters(1, &parameters.encode()).await.unwrap();

    let text = TEXT.as_bytes();
    let source = Source { contributor: Address([9; 20]), block: 1, ordinal: 0, text_root: text_root(text), text };
    let version = AssetVersion { asset: AssetId(1), version: 1 };
    let datanet = DatanetIndex::new(version, vec![Segment::build(&[source], 0).unwrap()]).unwrap();
    let index = Index::new(vec![Arc::new(datanet)]).unwrap();
    let (found, salt) = (attribute(&index, parameters, PROMPT, ANSWER).unwrap(), Hash32([6; 32]));
    let honest = Receipt {
        request: Hash32([1; 32]),
        attempt: 0,
        client: Address([8; 20]),
        node: accused,
        lane: Hash32([5; 32]),
        cumulative_after: Amount(500),
        manifest: Hash32([7; 32]),
        index: index.root(),
        parameters: 1,
        profile: Profile::Exact,
        class: Class::Checked,
        block: BlockRef { number: 10, hash: Hash32([11; 32]) },
        prompt_root: prompt_root(PROMPT, salt),
        answer_root: answer_root(ANSWER, &found.words, salt),
        token_ids: Hash32([14; 32]),
        tokens_in: 15,
        first_token: 0,
        tokens_out: 40,
        quote: Hash32([18; 32]),
        fee: Amount(500),
        reason: Reason::Stop,
        weight_total: found.weight_total,
        fingerprint_root: Hash32::ZERO,
        assets: vec![version],
        spans: found.spans,
        masks: found.masks,
    };
    let proofs = |receipt: Receipt| {
        let receipt = &Signed::new(key, &domains, receipt);
        let prompt = Some((PROMPT.into(), salt));
        find(Given { domains: &domains, receipt, answer: ANSWER, answer_salt: salt, prompt }, parameters, &index).unwrap()
    };
    assert_eq!(proofs(honest.clone()), []);

    let lie = |tell: &dyn Fn(&mut Receipt)| {
        let mut receipt = honest.clone();
        tell(&mut receipt);
        receipt
    };
    let masked = found.words.iter().filter(|word| word.range.end <= ANSWER.find(':').unwrap()).skip(3);
    let masked = masked.map(|word| u64::from(word.weight)).sum::<u64>();
    for (receipt, faults) in [
        (lie(&|receipt| receipt.weight_total += 1), &["F10"][..]),
        (lie(&|receipt| receipt.masks[0].length += 1), &["F11"]),
        (lie(&|receipt| receipt.masks.clear()), &["F10", "F11"]),
    ] {
        let proofs = proofs(receipt);
        assert_eq!(proofs.iter().map(|proof| proof.claim.fault()).collect::<Vec<_>>(), faults);
        for proof in proofs {
            reporter.dry_run(accused, &Proof::attribution(&proof)).await.unwrap();
        }
    }
    let omitted = lie(&|receipt| receipt.spans.clear());
    let reassigned = lie(&|receipt| receipt.spans[0].payee = accused);
    let unmasked = lie(&|receipt| (receipt.masks, receipt.weight_total) = (vec![], receipt.weight_total + masked));
    let weighed = lie(&|receipt| receipt.spans[0].weight += 1);
    let mut left = open(100);
    for (receipt, fault, tenths) in [(omitted, "F2", 1), (reassigned, "F9", 2), (unmasked, "F11", 4), (weighed, "F10", 8)] {
        let proofs = proofs(receipt);
        assert_eq!(proofs.iter().map(|proof| proof.claim.fault()).collect::<Vec<_>>(), [fault]);
        let proof = Proof::attribution(&proofs[0]);
        let slashed = reporter.prove(accused, &proof).await.unwrap();
        assert_eq!((slashed.stake_before, slashed.amount, slashed.victim_amount), (left, Amount(left.0 / 10 * tenths), Amount(500)));
        left = slashed.stake_after;
        let again = reporter.dry_run(accused, &proof).await.unwrap_err();
        assert_eq!(again.contract_error(), Some("AlreadySlashed"), "{again}");
    }
}
