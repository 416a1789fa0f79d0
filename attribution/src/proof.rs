//! Proofs of false attribution beyond the false span: F2, an omitted or dominated span; F9, a wrong payee or a later holder.
//!
//! A bundle, or a transcript, and the index that its receipt names are all that is needed: what the contract opens is read from there, and each proof that comes out
//! convicts by the contract's own rule, from roots alone. One search of the index per word, as attribution takes, and two dozen openings a
//! proof. F1 is [`crate::fault::find_false_spans`]'s.

mod omission;
mod payee;

use types::{
    encoding::Document as _,
    id::Hash32,
    key::{Domains, Signed},
    proof::Claim,
    receipt::Receipt,
};

pub use types::proof::Proof;

use crate::{
    bundle::Bundle,
    fault::{Answer, FaultError},
    index::Index,
    parameters::Parameters,
};

/// What speaks for one answer, of which proofs are made: less than a bundle, so that who was only shown the transcript finds them too.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// The deployment whose contracts the signature names.
    pub domains: &'a Domains,
    /// The node's statement.
    pub receipt: &'a Signed<Receipt>,
    /// The answer.
    pub answer: &'a str,
    /// Salt of the answer root.
    pub answer_salt: Hash32,
}

impl<'a> From<&'a Bundle> for Given<'a> {
    fn from(bundle: &'a Bundle) -> Self {
        Self { domains: &bundle.domains, receipt: &bundle.receipt, answer: &bundle.answer, answer_salt: bundle.answer_salt }
    }
}

/// What claims are read from.
struct Case<'a> {
    receipt: &'a Receipt,
    text: &'a str,
    parameters: &'a Parameters,
    index: &'a Index,
    /// Leads to the receipt's answer root.
    answer: Answer,
}

/// All proofs that `index` gives against a receipt, those of the least evidence first: none for an honest one. An answer root over another text or other
/// weights hides what only the answer's leaves show.
///
/// # Errors
/// [`FaultError`] if what is given does not let anything be opened.
pub fn find<'a>(given: impl Into<Given<'a>>, parameters: &Parameters, index: &Index) -> Result<Vec<Proof>, FaultError> {
    let Given { domains, receipt: signed, answer: text, answer_salt } = given.into();
    let receipt = &signed.document;
    signed.verify(domains, receipt.node)?;
    if index.root() != receipt.index {
        return Err(FaultError::Index { expected: receipt.index, got: index.root() });
    }
    let mut claims = payee::wrong_payees(receipt, index).map(|payee| payee.map(Claim::Payee)).collect::<Result<Vec<_>, _>>()?;
    if parameters.id != receipt.parameters {
        return if claims.is_empty() { Err(FaultError::Parameters(receipt.parameters)) } else { Ok(proofs(signed, claims)) };
    }
    let answer = Answer::new(text, answer_salt, parameters);
    if answer.root() == receipt.answer_root {
        let case = Case { receipt, text, parameters, index, answer };
        for holder in payee::later_holders(&case) {
            claims.push(Claim::Holder(holder?));
        }
        for omission in omission::omitted(&case) {
            claims.push(Claim::Omission(omission?));
        }
    } else if claims.is_empty() {
        return Err(FaultError::Answer { expected: receipt.answer_root, got: answer.root(), spans: Vec::new() });
    }
    Ok(proofs(signed, claims))
}

fn proofs(signed: &Signed<Receipt>, mut claims: Vec<Claim>) -> Vec<Proof> {
    claims.sort_by_cached_key(Claim::size_bytes);
    let receipt = signed.document.encode();
    claims.into_iter().map(|claim| Proof { receipt: receipt.clone(), signature: signed.signature, claim }).collect()
}

#[cfg(test)]
mod tests;
