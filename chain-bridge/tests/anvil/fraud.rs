use std::time::Duration;

use chain_bridge::{
    follow::Follower,
    fraud::{Evidence, FraudError, Mode, Opened, prove},
};
use types::{
    amount::Amount,
    id::Address,
    key::{Account, Signed},
    receipt::{Receipt, Span},
};

#[allow(clippy::cast_possible_truncation, reason = "small numbers of a test")]
#[path = "../../src/fraud/fixture.rs"]
mod fixture;

use fixture::{Open, World as Text};

use super::harness::{World, bond, open};

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
    let error = reporter.prove_f1(accused, &forced).await.unwrap_err();
    assert_eq!(error.contract_error(), Some("SpanIsTrue"), "{error}");
    assert_eq!(reporter.slashable_of(accused).await.unwrap(), open(100));

    // A receipt that another account signed is nobody's fault.
    let mut stolen = forced.clone();
    stolen.receipt = types::encoding::Document::encode(&sign(vec![lie]).document);
    stolen.signature = reporter.account("sign").unwrap().sign(&domains, &sign(vec![lie]).document);
    let error = reporter.dry_run_f1(accused, &stolen).await.unwrap_err();
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
        reporter.dry_run_f1(accused, &proof).await.unwrap();
        let slashed = reporter.prove_f1(accused, &proof).await.unwrap();
        number += 1;
        let expected = Amount((left.0 << (number - 1)) / 10).min(left);
        assert_eq!((slashed.stake_before, slashed.amount), (left, expected), "{mode:?}");
        left = left.minus(slashed.amount).unwrap();
        assert_eq!(slashed.stake_after, left);
        assert_eq!(slashed.victim_amount, Amount(500));
        taken.push(slashed);
        let error = reporter.dry_run_f1(accused, &proof).await.unwrap_err();
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
