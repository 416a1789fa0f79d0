use std::time::Duration;

use chain_bridge::{
    devnet::Devnet,
    follow::Follower,
    fraud::{
        Evidence, FraudError, Mode, Opened,
        calldata::{Proof, Step, receipts_challenge},
        challenge::{EVIDENCE_BYTES_MAX, Exhibit, Stretch, receipts_evidence},
        prove,
        search::{Bodies, tree_of},
    },
    registry::event::Custody,
};
use types::{
    amount::Amount,
    encoding::Document as _,
    id::Address,
    key::{Account, Signed},
    operator::NodeRoot,
    receipt::{Reason, Receipt, Span},
};

#[allow(clippy::cast_possible_truncation, reason = "small numbers of a test")]
#[path = "../../src/fraud/fixture.rs"]
mod fixture;

use fixture::{Open, World as Text};

use super::harness::{World, bond, open, quick};

const WAIT: Duration = Duration::from_secs(40);
const PAYEE: Address = Address([9; 20]);

fn opened((leaf, opening): Open) -> Opened {
    Opened { leaf, opening: Some(opening) }
}

fn evidence(text: &Text, span: &Span) -> Evidence {
    Evidence {
        answer: opened(text.open_answer(span)),
        datanet: opened(text.open_datanet()),
        segment: opened(text.open_segment()),
        text: opened(text.open_text(span)),
    }
}

#[tokio::test]
async fn a_false_span_is_slashed_and_an_honest_receipt_is_not() {
    let world = World::start().await;
    let clients = world.clients(3).await;
    let (node, reporter, client) = (&clients[0], &clients[1], clients[2].address().unwrap());
    let (accused, domains, text) = (node.address().unwrap(), node.domains(), Text::new());
    bond(node, 7).await;
    let follower = Follower::start(reporter.clone(), world.devnet.deployment().block, Duration::from_millis(100));
    let key: &Account = node.account("sign").unwrap();
    let sign = |spans: Vec<Span>| -> Signed<Receipt> { Signed::new(key, &domains, text.receipt(accused, client, 500, spans)) };
    let honest_span = text.true_span(PAYEE);

    // Honest: no proof can be built, and one built by force is refused by the contract.
    let honest = sign(vec![honest_span]);
    assert_eq!(prove(&domains, &honest, 0, &evidence(&text, &honest_span)), Err(FraudError::SpanIsTrue(0)));
    let lie = Span { position: honest_span.position + 1, ..honest_span };
    let mut forced = prove(&domains, &sign(vec![lie]), 0, &evidence(&text, &lie)).unwrap();
    forced.receipt = types::encoding::Document::encode(&honest.document);
    forced.signature = honest.signature;
    let error = reporter.prove(accused, &Proof::false_span(&forced)).await.unwrap_err();
    assert_eq!(error.contract_error(), Some("SpanIsTrue"), "{error}");
    assert_eq!(reporter.slashable_of(accused).await.unwrap(), open(100));

    // A receipt that another account signed is nobody's fault.
    let mut stolen = forced.clone();
    stolen.receipt = types::encoding::Document::encode(&sign(vec![lie]).document);
    stolen.signature = reporter.account("sign").unwrap().sign(&domains, &sign(vec![lie]).document);
    let error = reporter.dry_run(accused, &Proof::false_span(&stolen)).await.unwrap_err();
    assert_eq!(error.contract_error(), Some("ReceiptSignature"), "{error}");

    // The n-th lie costs 2^(n-1) tenths of what is left.
    let (mut left, mut number, mut taken) = (open(100), 0_u32, Vec::new());
    for (span, mode) in [
        (lie, Mode::Bytes),
        (Span { length: 300, ..honest_span }, Mode::Length),
        (Span { start: 9_000, ..honest_span }, Mode::AnswerEnd),
        (Span { datanet: 3, ..honest_span }, Mode::DatanetIndex),
        (Span { position: 1 << 39, ..honest_span }, Mode::DatanetEnd),
    ] {
        let receipt = sign(vec![honest_span, span]);
        let proof = prove(&domains, &receipt, 1, &evidence(&text, &span)).unwrap();
        assert_eq!(proof.mode, mode);
        reporter.dry_run(accused, &Proof::false_span(&proof)).await.unwrap();
        let slashed = reporter.prove(accused, &Proof::false_span(&proof)).await.unwrap();
        number += 1;
        let expected = Amount((left.0 << (number - 1)) / 10).min(left);
        assert_eq!((slashed.stake_before, slashed.amount), (left, expected), "{mode:?}");
        left = left.minus(slashed.amount).unwrap();
        assert_eq!(slashed.stake_after, left);
        assert_eq!(slashed.victim_amount, Amount(500));
        taken.push(slashed);
        let error = reporter.dry_run(accused, &Proof::false_span(&proof)).await.unwrap_err();
        assert_eq!(error.contract_error(), Some("AlreadySlashed"), "{error}");
    }
    // What was taken is divided after its delay, to the wei, once.
    let seen = follower.wait_for(WAIT, |snapshot| snapshot.latest.slashes().len() == 5).await.unwrap();
    let last = taken.last().unwrap().release_at;
    reporter.wait_for_time(last, WAIT).await.unwrap();
    for slash in seen.latest.slashes() {
        let before = reporter.balance(client).await.unwrap();
        let (division, _) = reporter.release_slash(slash, None).await.unwrap();
        let sum = [division.to_victim, division.to_reporter, division.burned, division.insured];
        assert_eq!(Amount::sum(sum), Ok(slash.amount));
        assert!(division.burned.0 * 10 >= slash.amount.0 && division.to_reporter > Amount::ZERO);
        // Nothing was ever collected on the receipts' lane, so the client lost nothing.
        assert_eq!((division.to_victim, reporter.balance(client).await.unwrap()), (Amount::ZERO, before));
    }
    let seen = follower.wait_for(WAIT, |snapshot| snapshot.latest.slashes().iter().all(|slash| slash.released.is_some())).await.unwrap();
    assert_eq!(seen.latest.proven().len(), 5);
    follower.stop().await;
    let gas = reporter.gas();
    assert_eq!(gas["prove false span"].count, 5);
    assert!(gas["prove false span"].most < 300_000, "{gas:?}");
}

/// Receipts that bill nothing, so that each is shown by itself.
fn exhibits(text: &Text, node: &Account, domains: &types::key::Domains, count: u16) -> Vec<Exhibit> {
    let exhibit = |attempt| {
        let plain = text.receipt(node.address(), Address([8; 20]), 0, vec![]);
        let receipt = Signed::new(node, domains, Receipt { attempt, reason: Reason::EngineFailure, fee: Amount::ZERO, ..plain });
        Exhibit { bodies: Bodies { receipt: receipt.document.encode(), ..Bodies::default() }, signature: receipt.signature }
    };
    (0..count).map(exhibit).collect()
}

#[tokio::test]
async fn receipts_that_were_asked_for_or_published_are_read_back_from_events() {
    let mut config = quick();
    // Time to answer, and as much again to settle.
    (config.deploy.w1_s, config.deploy.answer_s, config.deploy.unbonding_s, config.deploy.honour_s) = (60, 25, 90, 90);
    let world = World { devnet: Devnet::start(config).await.unwrap() };
    let clients = world.clients(2).await;
    let (node, asker) = (&clients[0], &clients[1]);
    let (own, domains) = (node.address().unwrap(), node.domains());
    bond(node, 7).await;
    let key = node.account("sign").unwrap();
    let exhibits = exhibits(&Text::new(), key, &domains, 5);
    let rows: Vec<Bodies> = exhibits.iter().map(|exhibit| exhibit.bodies.clone()).collect();
    let tree = tree_of(&rows).unwrap();
    let epoch = node.submission_epoch().await.unwrap();
    let root = NodeRoot { node: own, epoch, receipts: tree.root(), count: 5, fees: tree.total() };
    let block = node.submit_node_root(&Signed::new(key, &domains, root)).await.unwrap().block.number;

    let asked = Stretch { root, block, first: 0, count: 3 };
    let before = asker.balance(asker.address().unwrap()).await.unwrap();
    asker.challenge(&Step::ask_receipts(&asked)).await.unwrap();
    let paid = before.minus(asker.balance(asker.address().unwrap()).await.unwrap()).unwrap();
    assert!(paid >= open(3), "a bond for each receipt: {paid}");
    let error = asker.challenge(&Step::ask_receipts(&Stretch { first: 3, count: 3, ..asked })).await.unwrap_err();
    assert_eq!(error.contract_error(), Some("StretchBeyondCount"), "{error}");
    for evidence in receipts_evidence(&asked, 0, &tree, &exhibits[..3], 2_000).unwrap() {
        node.challenge(&Step::show_receipts(evidence)).await.unwrap();
    }
    // Gas has its price here: who answered was given half of it, and the rest of the bonds is kept for who asked.
    let kept = asker.kept_by(Custody::Challenge, asker.address().unwrap()).await.unwrap();
    assert!(kept < open(3) && kept > Amount(open(3).0 / 100 * 99), "{kept} are left of three bonds");
    let rest = Stretch { first: 3, count: 0, ..asked };
    for evidence in receipts_evidence(&rest, 3, &tree, &exhibits[3..], EVIDENCE_BYTES_MAX).unwrap() {
        node.challenge(&Step::show_receipts(evidence)).await.unwrap();
    }
    let head = node.latest().await.unwrap().block.number;
    let shown = asker.shown_receipts(block, head).await.unwrap();
    assert_eq!(shown.iter().map(|one| one.index).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    for (one, exhibit) in shown.iter().zip(&exhibits) {
        let (first, count) = if one.index < 3 { (0, 3) } else { (3, 0) };
        assert_eq!(one.challenge, receipts_challenge(epoch, own, first, count));
        assert_eq!((&one.bodies, one.signature.as_slice()), (&exhibit.bodies, exhibit.signature.0.as_slice()));
    }
}
