use types::{
    id::Address,
    key::Signed,
    proof::{Claim, Proof},
    receipt::{Mask, Reason, Receipt, Span},
};

use super::{Given, find};
use crate::{
    bundle::Bundle,
    fault::{FaultError, find_false_spans},
    index::ReadError,
    parameters::Parameters,
    sample::{COPY, Sample, private_sample, sample},
};

fn found(sample: &Sample, change: impl FnOnce(&mut Receipt)) -> Vec<Claim> {
    let mut bundle = sample.bundle.clone();
    change(&mut bundle.receipt.document);
    bundle.receipt = Signed::new(&sample.node, &bundle.domains, bundle.receipt.document);
    let proofs = find(&bundle, Parameters::builtin(1).unwrap(), &sample.index).unwrap();
    proofs.into_iter().map(|Proof { claim, .. }| claim).collect()
}

/// Faults by name, with the span that each voids.
fn named(claims: &[Claim]) -> Vec<(&'static str, Option<u16>)> {
    claims.iter().map(|claim| (claim.fault(), claim.voids())).collect()
}

#[test]
fn an_honest_receipt_yields_no_proof() {
    assert_eq!(found(&sample(), |_| {}), []);
}

#[test]
fn what_lies_in_a_private_datanet_is_proven_by_nobody_and_what_does_not_still_is() {
    let sample = private_sample();
    assert_eq!(found(&sample, |_| {}), []);
    let changed = |change: &dyn Fn(&mut Receipt)| {
        let mut bundle = sample.bundle.clone();
        change(&mut bundle.receipt.document);
        bundle.receipt = Signed::new(&sample.node, &bundle.domains, bundle.receipt.document);
        bundle
    };
    let refused = Err(FaultError::Read(ReadError::Private { datanet: 0 }));
    let lies: [&dyn Fn(&mut Receipt); 2] = [&|r| r.spans[0].payee = Address([9; 20]), &|r| {
        r.spans.remove(0);
    }];
    for lie in lies {
        assert_eq!(find(&changed(lie), Parameters::builtin(1).unwrap(), &sample.index), refused);
    }
    let moved = changed(&|r| r.spans[0].position += 1);
    assert_eq!(find_false_spans(&moved, &sample.index), Err(FaultError::Private(vec![0])));
    let both = |r: &mut Receipt| {
        r.spans[0].payee = Address([9; 20]);
        r.spans[1].payee = Address([9; 20]);
    };
    assert_eq!(named(&found(&sample, both)), [("F9", Some(1))]);
    let beyond = changed(&|r| r.spans[0].position = 1 << 39);
    assert_eq!(find_false_spans(&beyond, &sample.index).unwrap().len(), 1, "a Datanet's length is no secret");
}

#[test]
fn a_span_left_out_shortened_or_weighed_too_low_is_found_missing() {
    let sample = sample();
    let missing = |change: &dyn Fn(&mut Receipt)| {
        let claims = found(&sample, change);
        let runs = claims.iter().filter_map(|claim| match claim {
            Claim::Omission(run) => Some((run.start, run.length)),
            _ => None,
        });
        runs.collect::<Vec<_>>()
    };
    let [first, second] = sample.bundle.receipt.document.spans[..] else { panic!("two spans") };
    assert_eq!(missing(&|receipt| receipt.spans.truncate(1)), [(second.start, second.length)]);
    assert_eq!(missing(&|receipt| receipt.spans = vec![second]), [(first.start, first.length)]);
    let mut both = missing(&|receipt| receipt.spans.clear());
    both.sort_unstable();
    assert_eq!(both, [(first.start, first.length), (second.start, second.length)]);
    let shortened = |receipt: &mut Receipt| {
        let span = &mut receipt.spans[1];
        (span.length, span.weight) = (span.length - 13, span.weight - 1);
    };
    assert_eq!(missing(&shortened), [(second.start, second.length)]);
    assert_eq!(missing(&|receipt| receipt.spans[1].weight -= 1), [(second.start, second.length)]);
    // Nothing is paid by what bills nothing.
    assert_eq!(missing(&|receipt| (receipt.spans, receipt.reason) = (vec![], Reason::EngineFailure)), []);
}

#[test]
fn what_a_mask_covers_or_a_heavier_span_claims_is_not_missing() {
    let sample = sample();
    let [first, _] = sample.bundle.receipt.document.spans[..] else { panic!("two spans") };
    let masked = |receipt: &mut Receipt| {
        receipt.masks.insert(0, Mask { start: first.start, length: first.length.into(), prompt: 0 });
        receipt.spans.remove(0);
    };
    let mut others = named(&found(&sample, masked));
    others.sort_unstable();
    assert_eq!(others, [("F10", None), ("F11", None)], "a false mask is another fault");
    assert_eq!(named(&found(&sample, |receipt| receipt.spans[0].weight += 1)), [("F10", Some(0))], "and so is a false weight");
}

#[test]
fn a_mask_left_out_shortened_or_moved_and_a_false_total_are_found_and_void_nothing() {
    let sample = sample();
    let [mask] = sample.bundle.receipt.document.masks[..] else { panic!("one mask") };
    let named = |change: &dyn Fn(&mut Receipt)| {
        let mut named = named(&found(&sample, change));
        named.dedup();
        named
    };
    let (weight, mask_fault) = (("F10", None), ("F11", None));
    assert_eq!(named(&|receipt| receipt.weight_total += 1), [weight]);
    assert_eq!(named(&|receipt| receipt.masks[0].prompt += 1), [mask_fault]);
    assert_eq!(named(&|receipt| receipt.masks[0].length = 0), [mask_fault, weight, mask_fault]);
    assert_eq!(named(&|receipt| receipt.masks.push(Mask { start: 1 << 20, ..mask })), [mask_fault]);
    assert!(named(&|receipt| receipt.masks.clear()).contains(&mask_fault));
    assert_eq!(named(&|receipt| (receipt.reason, receipt.masks) = (Reason::EngineFailure, vec![])), []);
}

#[test]
fn spans_that_no_rule_allows_are_found_and_those_beside_them_are_left_alone() {
    let sample = sample();
    let rules = |change: &dyn Fn(&mut Receipt)| {
        let claims = found(&sample, change).into_iter().filter_map(|claim| match claim {
            Claim::Ineligible(of) => Some((of.span, of.rule.code())),
            _ => None,
        });
        claims.collect::<Vec<_>>()
    };
    let [_, second] = sample.bundle.receipt.document.spans[..] else { panic!("two spans") };
    let mask = sample.bundle.receipt.document.masks[0];
    let half = |receipt: &mut Receipt| {
        let span = &mut receipt.spans[1];
        (span.start, span.length, span.position) = (span.start + 1, span.length - 1, span.position + 1);
    };
    assert!([0, 2].iter().all(|rule| rules(&half).contains(&(1, *rule))), "{:?}", rules(&half));
    assert_eq!(rules(&|receipt| receipt.spans[1].length -= 1), [(1, 1)]);
    assert_eq!(rules(&|receipt| receipt.spans[1].weight = 7), [(1, 5), (1, 8)]);
    assert_eq!(rules(&|receipt| receipt.spans.push(second)), [(2, 10)]);
    let inside = Span { length: second.length - 4, weight: second.weight - 1, ..second };
    assert!(rules(&|receipt| receipt.spans.push(inside)).contains(&(2, 7)), "the whole one ranks before a part of it");
    assert!(rules(&|receipt| receipt.spans[1].length += 2).contains(&(1, 1)));
    let under =
        |receipt: &mut Receipt| receipt.spans.push(Span { start: mask.start, length: u16::try_from(mask.length).unwrap(), ..second });
    assert!(rules(&under).contains(&(2, 9)), "{:?}", rules(&under));
    // A lie over an honest span accuses itself alone: what is heavier than it is, and a mask of what the prompt does not hold.
    assert_eq!(rules(&|receipt| receipt.spans.push(Span { weight: second.weight + 1, ..second })), [(2, 8)]);
    assert_eq!(rules(&|receipt| receipt.masks.push(Mask { start: second.start, length: 9, prompt: 0 })), []);
}

#[test]
fn who_does_not_know_the_prompt_voids_no_span_by_a_mask_or_by_another_span() {
    let sample = sample();
    let mut bundle = sample.bundle.clone();
    let receipt = &mut bundle.receipt.document;
    let mask = receipt.masks[0];
    let [first, second] = receipt.spans[..] else { panic!("two spans") };
    receipt.spans.push(Span { start: mask.start, length: u16::try_from(mask.length).unwrap(), ..second });
    receipt.spans.push(Span { length: first.length - 12, weight: first.weight - 1, ..first });
    bundle.receipt = Signed::new(&sample.node, &bundle.domains, bundle.receipt.document);
    let given = Given { prompt: None, ..Given::from(&bundle) };
    let found = find(given, Parameters::builtin(1).unwrap(), &sample.index).unwrap();
    let of = |code: u8| {
        let is_it = |claim: &&Claim| matches!(claim, Claim::Ineligible(of) if of.rule.code() == code);
        found.iter().map(|proof| &proof.claim).filter(is_it).map(Claim::voids).collect::<Vec<_>>()
    };
    assert_eq!((of(6), of(7), of(9)), (vec![None], vec![None], vec![]));
}

#[test]
fn a_wrong_payee_and_a_later_holder_are_found_and_void_their_span() {
    let sample = sample();
    assert_eq!(named(&found(&sample, |receipt| receipt.spans[1].payee = Address([0x66; 20]))), [("F9", Some(1))]);
    // The copy stands behind the first contribution and the original, each from a multiple of 64.
    let text = sample.index.datanets()[0].segments()[0].text();
    let copy = text.windows(COPY.len()).position(|window| window == COPY.as_bytes()).unwrap();
    let later = |receipt: &mut Receipt| {
        let span = &mut receipt.spans[0];
        let quote = COPY.find("sensorineural").unwrap();
        (span.position, span.payee) = ((copy + quote) as u64, Address([0xa3; 20]));
    };
    let claims = found(&sample, later);
    assert_eq!(named(&claims), [("F9", Some(0))]);
    assert!(
        matches!(&claims[0], Claim::Holder(holder) if (holder.datanet, holder.position) == (0, sample.bundle.receipt.document.spans[0].position))
    );
    // The copy's own words for the original's payee: both at once, the cheaper first.
    let both = found(&sample, |receipt| {
        later(receipt);
        receipt.spans[0].payee = Address([0xa2; 20]);
    });
    assert!(matches!(&both[..], [Claim::Payee(_), Claim::Holder(_)]), "{:?}", named(&both));
}

#[test]
fn an_answer_root_over_another_text_hides_what_only_the_answer_shows() {
    let sample = sample();
    let parameters = Parameters::builtin(1).unwrap();
    let mut bundle = Bundle { answer: sample.bundle.answer.replacen("hearing", "Hearing", 1), ..sample.bundle.clone() };
    assert!(matches!(find(&bundle, parameters, &sample.index), Err(FaultError::Answer { .. })));
    bundle.receipt.document.spans[0].payee = Address([0x66; 20]);
    bundle.receipt = Signed::new(&sample.node, &bundle.domains, bundle.receipt.document);
    assert_eq!(find(&bundle, parameters, &sample.index).unwrap().len(), 1);
    let other = Parameters::new(2, 6, 1, 1, parameters.table().clone());
    bundle.receipt.document.spans.clear();
    bundle.receipt = Signed::new(&sample.node, &bundle.domains, bundle.receipt.document);
    assert_eq!(find(&bundle, &other, &sample.index), Err(FaultError::Parameters(1)));
}
