use proptest::prelude::*;
use types::key::Account;

use super::{
    fixture::{Open, World},
    *,
};

fn domains() -> Domains {
    Domains { chain_id: 1, escrow: Address([3; 20]), registry: Address([4; 20]), settlement: Address([5; 20]), stake: Address([6; 20]) }
}

fn opened((leaf, opening): Open) -> Opened {
    Opened { leaf, opening: Some(opening) }
}

fn evidence(world: &World, span: &Span) -> Evidence {
    Evidence {
        answer: opened(world.open_answer(span)),
        datanet: opened(world.open_datanet()),
        segment: opened(world.open_segment()),
        text: opened(world.open_text(span)),
    }
}

fn check(change: impl Fn(&mut Span)) -> Result<FalseSpan, FraudError> {
    let (world, node) = (World::new(), Account::from_bytes(&[7; 32]).unwrap());
    let mut span = world.true_span(Address([9; 20]));
    change(&mut span);
    let receipt = Signed::new(&node, &domains(), world.receipt(node.address(), Address([8; 20]), 100, vec![span]));
    prove(&domains(), &receipt, 0, &evidence(&world, &span))
}

#[test]
fn a_true_span_yields_no_proof() {
    assert_eq!(check(|_| {}), Err(FraudError::SpanIsTrue(0)));
}

#[test]
fn each_kind_of_false_span_is_proven_in_its_own_mode() {
    for (mode, proof) in [
        (Mode::Bytes, check(|span| span.position += 1)),
        (Mode::Bytes, check(|span| span.start -= 3)),
        (Mode::Length, check(|span| span.length = 257)),
        (Mode::Length, check(|span| span.length = 0)),
        (Mode::AnswerEnd, check(|span| span.start = 5_000)),
        (Mode::DatanetIndex, check(|span| span.datanet = 1)),
        (Mode::DatanetEnd, check(|span| span.position = 1 << 39)),
    ] {
        assert_eq!(proof.unwrap().mode, mode);
    }
}

fn prove_in(world: &World, span: Span) -> Result<FalseSpan, FraudError> {
    let node = Account::from_bytes(&[7; 32]).unwrap();
    let receipt = Signed::new(&node, &domains(), world.receipt(node.address(), Address([8; 20]), 100, vec![span]));
    prove(&domains(), &receipt, 0, &evidence(world, &span))
}

#[test]
fn a_true_span_may_end_with_the_answer_and_with_its_datanet() {
    let mut world = World::new();
    world.answer = "In short, a febrile seizure is a convulsion that occurs with fever";
    assert_eq!(prove_in(&world, world.true_span(Address([9; 20]))), Err(FraudError::SpanIsTrue(0)));
    let mut world = World::new();
    world.source = "Febrile seizure: a febrile seizure is a convulsion that occurs with fever";
    assert_eq!(prove_in(&world, world.true_span(Address([9; 20]))), Err(FraudError::SpanIsTrue(0)));
}

#[test]
fn a_true_span_may_be_as_long_as_the_window() {
    const TEXT: &str = concat!(
        "0123456 abcdefg 0123456 abcdefg 0123456 abcdefg 0123456 abcdefg 0123456 abcdefg 0123456 abcdefg 0123456 abcdefg 0123456 abcdefg ",
        "0123456 abcdefg 0123456 abcdefg 0123456 abcdefg 0123456 abcdefg 0123456 abcdefg 0123456 abcdefg 0123456 abcdefg 0123456 abcdefg and",
    );
    let mut world = World::new();
    (world.answer, world.source) = (TEXT, TEXT);
    let whole = Span { start: 0, position: 0, length: 256, datanet: 0, weight: 1, payee: Address([9; 20]) };
    assert_eq!(prove_in(&world, whole), Err(FraudError::SpanIsTrue(0)));
    assert_eq!(prove_in(&world, Span { length: 257, ..whole }).unwrap().mode, Mode::Length);
}

#[test]
fn a_segment_holds_no_byte_past_its_last() {
    let mut world = World::new();
    world.beyond = 1_000;
    let span = Span { position: world.source.len() as u64, ..world.true_span(Address([9; 20])) };
    let end = span.position;
    assert_eq!(prove_in(&world, span), Err(FraudError::OutsideSegment { position: end, start: 0, end }));
}

#[test]
fn foreign_evidence_is_refused_by_name() {
    let (world, node) = (World::new(), Account::from_bytes(&[7; 32]).unwrap());
    let span = Span { position: 5, ..world.true_span(Address([9; 20])) };
    let receipt = Signed::new(&node, &domains(), world.receipt(node.address(), Address([8; 20]), 100, vec![span]));
    let mut wrong = evidence(&world, &span);
    wrong.text.leaf[0] ^= 1;
    assert!(matches!(prove(&domains(), &receipt, 0, &wrong), Err(FraudError::WrongRoot { what: "text", .. })));
    let elsewhere = Span { start: 0, ..span };
    let wrong = Evidence { answer: opened(world.open_answer(&elsewhere)), ..evidence(&world, &span) };
    assert_eq!(span.start / 64, 0, "the quote starts in the first leaf, so another leaf must be opened to be wrong");
    let other = Span { start: 64, ..span };
    let wrong = Evidence { answer: opened(world.open_answer(&other)), ..wrong };
    assert_eq!(prove(&domains(), &receipt, 0, &wrong), Err(FraudError::WrongLeaf { what: "answer", expected: 0, got: 1 }));
    assert_eq!(prove(&domains(), &receipt, 1, &evidence(&world, &span)), Err(FraudError::NoSuchSpan { span: 1, spans: 1 }));
}

#[test]
fn a_receipt_the_node_did_not_sign_yields_no_proof() {
    let (world, other) = (World::new(), Account::from_bytes(&[8; 32]).unwrap());
    let span = Span { position: 5, ..world.true_span(Address([9; 20])) };
    let receipt = Signed::new(&other, &domains(), world.receipt(Address([1; 20]), Address([8; 20]), 100, vec![span]));
    assert!(matches!(prove(&domains(), &receipt, 0, &evidence(&world, &span)), Err(FraudError::Signature(_))));
}

proptest! {
    #[test]
    fn a_moved_span_is_proven_exactly_when_its_bytes_differ(start in 0..160_u32, position in 0..130_u64, length in 1..60_u16) {
        let (world, node) = (World::new(), Account::from_bytes(&[7; 32]).unwrap());
        let span = Span { start, position, length, ..world.true_span(Address([9; 20])) };
        let receipt = Signed::new(&node, &domains(), world.receipt(node.address(), Address([8; 20]), 100, vec![span]));
        let cut = |text: &str, at: usize| text.as_bytes().get(at..at + usize::from(length)).map(<[u8]>::to_vec);
        let (answer, source) = (cut(world.answer, start as usize), cut(world.source, position as usize));
        let is_true = answer.is_some() && answer == source;
        prop_assert_eq!(prove(&domains(), &receipt, 0, &evidence(&world, &span)).is_err(), is_true);
    }
}
