//! What a drawn checker finds.

use types::{
    id::{Address, Hash32},
    receipt::{CheckReport, Finding},
};

use crate::{
    bundle::{Bundle, Fault, verify, verify_full},
    index::Index,
};

/// What running the same request again gave, teacher-forced on the receipt's own tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reexecution {
    /// First output token that is not what the model gives, within the profile's tolerance, counted from the answer's very first (those of earlier
    /// attempts included); none if all are.
    pub wrong_token: Option<u32>,
    /// First output token, counted likewise, of the first fingerprint that is not near what the model gives; none if all are, or none is compared.
    pub far_from: Option<u32>,
    /// Canonical text of the receipt's tokens, up to a stop string.
    pub answer: String,
    /// Input tokens as the checker counts them, those of earlier attempts included; none if it executed nothing.
    pub tokens_in: Option<u32>,
}

/// A finding and the output token, byte or span it concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// What was found.
    pub finding: Finding,
    /// Where; 0 when all agrees.
    pub position: u32,
}

impl Verdict {
    /// The report that `checker` signs.
    pub fn report(self, checker: Address, receipt: Hash32, trace: Hash32) -> CheckReport {
        CheckReport { checker, receipt, finding: self.finding, position: self.position, trace }
    }
}

/// Compares a receipt with its re-execution and with a search of the index anew. Of several differences the one nearest to the cause is
/// reported: signature, token, activations, text, attribution, split. Which token and which byte differ only the re-execution can say: a hash over all of
/// them cannot, so its fault gives way.
pub fn judge(bundle: &Bundle, index: &Index, again: &Reexecution) -> Verdict {
    let faults = match verify(bundle) {
        Ok(_) => verify_full(bundle, index).err().map_or_else(Vec::new, |faults| faults.0),
        Err(faults) => faults.0,
    };
    let wrong_byte = first_difference(&bundle.answer, &again.answer);
    let is_placed = |finding: Finding| match finding {
        Finding::Token => again.wrong_token.is_some(),
        Finding::Activations => again.far_from.is_some(),
        Finding::Text => wrong_byte.is_some(),
        _ => false,
    };
    let stated = faults.iter().filter(|fault| !is_placed(fault.finding));
    let mut found: Vec<Verdict> = stated.map(|fault: &Fault| Verdict { finding: fault.finding, position: fault.position }).collect();
    found.extend(again.wrong_token.map(|position| Verdict { finding: Finding::Token, position }));
    found.extend(again.far_from.map(|position| Verdict { finding: Finding::Activations, position }));
    found.extend(wrong_byte.map(|position| Verdict { finding: Finding::Text, position }));
    let is_miscounted = again.tokens_in.is_some_and(|counted| counted != bundle.receipt.document.tokens_in);
    found.extend(is_miscounted.then_some(Verdict { finding: Finding::Split, position: 0 }));
    let cause = |verdict: &Verdict| match verdict.finding {
        Finding::Signature => 0,
        Finding::Token => 1,
        Finding::Activations => 2,
        Finding::Text => 3,
        Finding::Attribution => 4,
        Finding::Split => 5,
        Finding::Agrees => 6,
    };
    found.into_iter().min_by_key(|verdict| (cause(verdict), verdict.position)).unwrap_or(Verdict { finding: Finding::Agrees, position: 0 })
}

/// First byte in which two texts differ.
fn first_difference(a: &str, b: &str) -> Option<u32> {
    let equal = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    (a != b).then(|| u32::try_from(equal).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use types::key::Signed;

    use super::*;
    use crate::sample::{Sample, sample};

    fn again(sample: &Sample) -> Reexecution {
        Reexecution {
            wrong_token: None,
            far_from: None,
            answer: sample.bundle.answer.clone(),
            tokens_in: Some(sample.bundle.receipt.document.tokens_in),
        }
    }

    #[test]
    fn agreement_and_each_kind_of_difference_are_told_apart() {
        let sample = sample();
        let judged = |bundle: &Bundle, again: &Reexecution| judge(bundle, &sample.index, again);
        assert_eq!(judged(&sample.bundle, &again(&sample)), Verdict { finding: Finding::Agrees, position: 0 });
        let token = Reexecution { wrong_token: Some(17), ..again(&sample) };
        assert_eq!(judged(&sample.bundle, &token), Verdict { finding: Finding::Token, position: 17 });
        let far = Reexecution { far_from: Some(32), ..again(&sample) };
        assert_eq!(judged(&sample.bundle, &far), Verdict { finding: Finding::Activations, position: 32 });
        let text = Reexecution { answer: sample.bundle.answer.replacen("hearing", "Hearing", 1), ..again(&sample) };
        let place = u32::try_from(sample.bundle.answer.find("hearing").unwrap()).unwrap();
        assert_eq!(judged(&sample.bundle, &text), Verdict { finding: Finding::Text, position: place });

        let resigned = |change: &dyn Fn(&mut types::receipt::Receipt)| {
            let mut bundle = sample.bundle.clone();
            change(&mut bundle.receipt.document);
            bundle.receipt = Signed::new(&sample.node, &bundle.domains, bundle.receipt.document);
            bundle
        };
        let span = resigned(&|receipt| receipt.spans[1].weight += 1);
        assert_eq!(judged(&span, &again(&sample)), Verdict { finding: Finding::Attribution, position: 1 });
        let fee = resigned(&|receipt| receipt.fee.0 += 1);
        assert_eq!(judged(&fee, &again(&sample)).finding, Finding::Split);
        let mut unsigned = sample.bundle.clone();
        unsigned.receipt.document.weight_total += 1;
        assert_eq!(judged(&unsigned, &again(&sample)).finding, Finding::Signature);
        let omitted = resigned(&|receipt| receipt.spans = receipt.spans.split_off(1));
        let omitted = Bundle { openings: omitted.openings[1..].to_vec(), ..omitted };
        assert_eq!(judged(&omitted, &again(&sample)).finding, Finding::Attribution);
    }

    #[test]
    fn what_was_executed_says_where_and_a_hash_over_all_of_it_does_not() {
        let sample = sample();
        let judged = |bundle: &Bundle, again: Reexecution| judge(bundle, &sample.index, &again);
        let mut tokens = sample.bundle.clone();
        tokens.token_ids[17] += 1;
        assert_eq!(judged(&tokens, again(&sample)), Verdict { finding: Finding::Token, position: 0 }, "the hash alone names no token");
        let placed = Reexecution { wrong_token: Some(17), ..again(&sample) };
        assert_eq!(judged(&tokens, placed), Verdict { finding: Finding::Token, position: 17 });
        let mut text = sample.bundle.clone();
        text.answer.push('x');
        let end = u32::try_from(sample.bundle.answer.len()).unwrap();
        assert_eq!(judged(&text, again(&sample)), Verdict { finding: Finding::Text, position: end });
        let counted = Reexecution { tokens_in: Some(39), ..again(&sample) };
        assert_eq!(judged(&sample.bundle, counted), Verdict { finding: Finding::Split, position: 0 }, "both sides signed a wrong count");
        let unexecuted = Reexecution { tokens_in: None, ..again(&sample) };
        assert_eq!(judged(&sample.bundle, unexecuted).finding, Finding::Agrees);
    }
}
