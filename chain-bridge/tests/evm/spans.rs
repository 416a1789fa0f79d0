//! F1 and F3 against the compiled verifier: honest receipts never, each lie always.

use std::cell::RefCell;

use chain_bridge::{
    chain::Call,
    fraud::{
        Evidence, FraudError, Opened,
        calldata::Proof,
        node::{contradict, is_promised},
        prove,
    },
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use types::{
    amount::Amount,
    encoding::Document,
    key::Signed,
    merkle::keccak,
    receipt::{Reason, Receipt, Span},
    voucher::Lane,
};

use super::{
    fixture::Open,
    harness::{account, open},
    transcript::{Transcript, cases},
};

fn opened((leaf, opening): Open) -> Opened {
    Opened { leaf, opening: Some(opening) }
}

fn evidence(t: &Transcript, span: &Span) -> Evidence {
    Evidence {
        answer: opened(t.text.open_answer(span)),
        datanet: opened(t.text.open_datanet()),
        segment: opened(t.text.open_segment()),
        text: opened(t.text.open_text(span)),
    }
}

#[test]
fn a_span_is_slashed_exactly_when_it_is_false() {
    let t = RefCell::new(Transcript::new());
    let domains = t.borrow().evm.deployment.domains();
    let reporter = account(4).address();
    let honest = t.borrow().true_span();
    // Half of the cases are cut out of the span that is true, so that both answers occur.
    let random = (0..200_u32, 0..200_u64, 0..70_u16, 0..2_u8);
    let cut = (0..40_u16, 1..16_u16, any::<bool>());
    let spans = prop_oneof![
        random.prop_map(move |(start, position, length, datanet)| Span { start, position, length, datanet, ..honest }),
        cut.prop_map(move |(skip, length, is_true)| Span {
            start: honest.start + u32::from(skip),
            position: honest.position + u64::from(skip) + u64::from(!is_true),
            length,
            ..honest
        }),
    ];
    let counts = RefCell::new([0_u32; 2]);
    let check = |span: Span| {
        let t = &mut *t.borrow_mut();
        let receipt = t.sign(Receipt { spans: vec![span], ..t.receipt.clone() });
        match prove(&domains, &receipt, 0, &evidence(t, &span)) {
            Ok(proof) => {
                counts.borrow_mut()[0] += 1;
                let done = t.evm.try_proof(reporter, &Proof::false_span(&proof));
                prop_assert!(done.is_ok(), "{:?} is false and was refused: {:?}", span, done);
            }
            Err(FraudError::SpanIsTrue(_)) => {
                counts.borrow_mut()[1] += 1;
                // Another receipt's proof, with this one's body and evidence: the only mode that opens bytes.
                let lie = Span { position: honest.position + 1, ..honest };
                let lied = t.sign(Receipt { spans: vec![lie], ..t.receipt.clone() });
                let mut forced = prove(&domains, &lied, 0, &evidence(t, &lie)).unwrap();
                (forced.receipt, forced.signature) = (receipt.document.encode(), receipt.signature);
                forced.evidence = evidence(t, &span);
                let refused = t.evm.try_proof(reporter, &Proof::false_span(&forced)).unwrap_err();
                prop_assert!(refused.starts_with("span is true"), "{:?}: {}", span, refused);
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
        Ok(())
    };
    TestRunner::new(Config::with_cases(cases(300))).run(&spans, check).unwrap();
    let [lies, truths] = counts.into_inner();
    assert!(lies > 30 && truths > 30, "{lies} lies, {truths} truths");
}

#[test]
fn a_proof_slashes_once_and_only_by_who_committed_to_it() {
    let mut t = Transcript::new();
    let (domains, reporter) = (t.evm.deployment.domains(), account(4).address());
    let span = Span { position: t.true_span().position + 1, ..t.true_span() };
    let receipt = t.sign(Receipt { spans: vec![span], ..t.receipt.clone() });
    let proof = Proof::false_span(&prove(&domains, &receipt, 0, &evidence(&t, &span)).unwrap());
    let done = t.evm.try_proof(reporter, &proof).unwrap();
    assert!(done.gas < 180_000, "{} gas", done.gas);
    let call = Call { to: Some(t.evm.deployment.fraud), data: proof.call.clone(), value: Amount::ZERO };
    let refused = t.evm.look(account(5).address(), call.clone()).unwrap_err();
    assert!(refused.starts_with("not committed"), "{refused}");
    t.evm.send(reporter, call).unwrap();
    let slash = t.evm.state.slashes()[0];
    assert_eq!((slash.account, slash.victim_amount, slash.number), (t.node.address(), t.receipt.fee, 1));
    assert_eq!((slash.amount, slash.reporter), (open(100), reporter), "a tenth of the stake");
    let refused = t.evm.try_proof(reporter, &proof).unwrap_err();
    assert!(refused.starts_with("already slashed"), "{refused}");
}

#[test]
fn a_late_proof_slashes_and_voids_nothing_and_the_span_can_be_voided_after_it() {
    let mut t = Transcript::new();
    let (domains, reporter) = (t.evm.deployment.domains(), account(4).address());
    let span = Span { position: t.true_span().position + 1, ..t.true_span() };
    let receipt = t.sign(Receipt { spans: vec![span], ..t.receipt.clone() });
    let proof = prove(&domains, &receipt, 0, &evidence(&t, &span)).unwrap();
    let void = keccak(&[&receipt.document.hash().0, &0_u16.to_be_bytes()]);
    for (sent, is_void) in [(Proof::late_false_span(&proof), false), (Proof::false_span(&proof), true)] {
        let call = Call { to: Some(t.evm.deployment.fraud), data: sent.call.clone(), value: Amount::ZERO };
        t.evm.try_proof(reporter, &sent).unwrap();
        t.evm.send(reporter, call).unwrap();
        assert_eq!((t.evm.state.voided_at(void).is_some(), t.evm.state.slashes().len()), (is_void, 1), "{}", sent.what);
    }
}

/// Attempt, first token, output tokens, whether it bills, what else differs, and its lane's money.
type One = (u16, u32, u32, bool, u8, (u8, u128, u128));

#[test]
fn two_receipts_are_slashed_exactly_when_they_contradict() {
    let t = RefCell::new(Transcript::new());
    let reporter = account(4).address();
    // Lane, cumulative-after and fee: three ways to contradict, each with its neighbours that do not.
    let money = || (prop_oneof![3 => Just(0_u8), 1 => Just(1)], 0..150_u128, 0..100_u128);
    let one = move || (0..3_u16, 0..60_u32, 0..40_u32, prop::bool::weighted(0.8), 0..3_u8, money());
    let counts = RefCell::new([0_u32; 3]);
    let check = |(a, b)| {
        let t = &mut *t.borrow_mut();
        let make = |(attempt, first_token, tokens_out, is_billable, what, (lane, after, fee)): One| {
            let mut receipt =
                Receipt { attempt, first_token, tokens_out, cumulative_after: Amount(after), fee: Amount(fee), ..t.receipt.clone() };
            receipt.lane.0[0] ^= lane;
            if !is_billable {
                (receipt.reason, receipt.fee) = (Reason::EngineFailure, Amount::ZERO);
            }
            match what {
                1 => receipt.request.0[0] ^= 1,
                2 => receipt.token_ids.0[0] ^= 1,
                _ => {}
            }
            receipt
        };
        let (a, b) = (t.sign(make(a)), t.sign(make(b)));
        let expected = contradict(&a.document, &b.document);
        let is_of_one_request = a.document.request == b.document.request;
        counts.borrow_mut()[if expected { 1 + usize::from(is_of_one_request) } else { 0 }] += 1;
        let done = t.evm.try_proof(reporter, &Proof::equivocation(&a, &b));
        prop_assert_eq!(done.is_ok(), expected, "{:?}", done);
        Ok(())
    };
    TestRunner::new(Config::with_cases(cases(300))).run(&(one(), one()), check).unwrap();
    let counts = counts.into_inner();
    assert!(counts.iter().all(|count| *count > 10), "not, over money alone, over one request: {counts:?}");
}

#[test]
fn a_receipt_beyond_its_lane_is_slashed_and_one_within_is_not() {
    let mut t = Transcript::new();
    let honest =
        Lane { payer: t.receipt.client, node: t.receipt.node, cap: t.receipt.cumulative_after, expiry: t.receipt.block.number, nonce: 1 };
    let lanes = [
        (honest, true),
        (Lane { payer: t.receipt.node, ..honest }, false),
        (Lane { node: t.receipt.client, ..honest }, false),
        (Lane { cap: Amount(honest.cap.0 - 1), ..honest }, false),
        (Lane { expiry: honest.expiry - 1, ..honest }, false),
    ];
    for (lane, expected) in lanes {
        let receipt = t.sign(Receipt { lane: lane.id(), ..t.receipt.clone() });
        assert_eq!(is_promised(&receipt.document, &lane), expected);
        let done = t.evm.try_proof(account(4).address(), &Proof::lane(&receipt, &lane));
        assert_eq!(done.is_err(), expected, "{lane:?}: {done:?}");
    }
}

#[test]
fn nobody_is_slashed_for_what_another_signed() {
    let mut t = Transcript::new();
    let other = account(5);
    let mut second = t.receipt.clone();
    second.token_ids.0[0] ^= 1;
    let first = t.sign(t.receipt.clone());
    let forged = Signed::new(&other, &t.evm.deployment.domains(), second);
    let refused = t.evm.try_proof(other.address(), &Proof::equivocation(&first, &forged)).unwrap_err();
    assert!(refused.starts_with("receipt signature"), "{refused}");
}
