//! Proofs of false attribution beyond the false span: F2, an omitted or dominated span; F9, a wrong payee or a later holder; F1 and F10, a span that may not be there
//! or weighs something else, and a false W; F11, a false or missing mask.
//!
//! A bundle, or a transcript, and the index that its receipt names are all that is needed: what the contract opens is read from there, and each proof that comes out
//! convicts by the contract's own rule, from roots alone. One search of the index per word, as attribution takes, and two dozen openings a
//! proof. F1 is [`crate::fault::find_false_spans`]'s.

mod dialogue;
pub mod index;
mod ineligible;
mod leaves;
mod mask;
pub(crate) mod omission;
mod payee;
mod weight;

use std::{borrow::Cow, ops::Range};

use types::{
    encoding::Document as _,
    id::Hash32,
    key::{Domains, Signed},
    proof::Claim,
    receipt::Receipt,
};

pub use leaves::{Committed, find_in_leaves};
pub use types::proof::Proof;

use crate::{
    bundle::Bundle,
    fault::{Answer, FaultError},
    index::{Index, ReadError},
    parameters::Parameters,
    prompt::prompt_bytes,
};

use self::dialogue::Text;

/// What speaks for one answer, of which proofs are made: less than a bundle, so that who was only shown the transcript finds them too.
#[derive(Debug, Clone)]
pub struct Given<'a> {
    /// The deployment whose contracts the signature names.
    pub domains: &'a Domains,
    /// The node's statement.
    pub receipt: &'a Signed<Receipt>,
    /// The answer.
    pub answer: &'a str,
    /// Salt of the answer root.
    pub answer_salt: Hash32,
    /// The prompt in its hashed form (P3), and the salt of its root. Where it is not known, or not the receipt's, what only it shows is not found: that a mask
    /// is missing, or was not copied.
    pub prompt: Option<(Cow<'a, [u8]>, Hash32)>,
}

impl<'a> From<&'a Bundle> for Given<'a> {
    fn from(bundle: &'a Bundle) -> Self {
        Self {
            domains: &bundle.domains,
            receipt: &bundle.receipt,
            answer: &bundle.answer,
            answer_salt: bundle.answer_salt,
            prompt: Some((prompt_bytes(&bundle.messages).into(), bundle.prompt_salt)),
        }
    }
}

/// What claims are read from.
struct Case<'a> {
    receipt: &'a Receipt,
    text: &'a str,
    parameters: &'a Parameters,
    index: &'a Index,
    /// Leads to the receipt's answer root.
    answer: &'a Answer,
    /// The answer, to be opened.
    said: Text<'a>,
    /// The prompt, if it leads to the receipt's prompt root.
    asked: Option<Text<'a>>,
}

impl Case<'_> {
    /// Weight of the answer's words that start in a range of bytes.
    fn weight(&self, bytes: &Range<usize>) -> u64 {
        self.answer.words[self.said.starting(bytes)].iter().map(|word| u64::from(word.weight)).sum()
    }

    /// Everything that the answer shows, and the prompt where it is known.
    fn claims(&self, hidden: &mut Option<ReadError>) -> Result<Vec<Claim>, ReadError> {
        let (flawed, shared) = (mask::false_masks(self), mask::shared(self));
        let ineligible = ineligible::ineligible(self, &flawed, &shared, hidden)?.into_iter().map(Claim::Ineligible);
        let missing = mask::missing_masks(self, &shared).into_iter().map(Claim::MissingMask);
        let total = weight::false_total(self).map(Claim::Total);
        let claims = ineligible.chain(total).chain(flawed.into_iter().map(Claim::FalseMask)).chain(missing).map(Ok);
        let holders = payee::later_holders(self).map(|holder| holder.map(Claim::Holder));
        let omitted = omission::omitted(self).map(|omission| omission.map(Claim::Omission));
        provable(claims.chain(holders).chain(omitted), hidden)
    }
}

/// The claims that a contract reads. What lies in a private Datanet is none, and noted.
fn provable(claims: impl Iterator<Item = Result<Claim, ReadError>>, hidden: &mut Option<ReadError>) -> Result<Vec<Claim>, ReadError> {
    let mut found = Vec::new();
    for claim in claims {
        match claim {
            Ok(claim) => found.push(claim),
            Err(private @ ReadError::Private { .. }) => *hidden = Some(private),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// All proofs that `index` gives against a receipt, those of the least evidence first: none for an honest one. An answer root over another text or other
/// weights hides what only the answer's leaves show.
///
/// # Errors
/// [`FaultError`] if what is given does not let anything be opened; [`ReadError::Private`] in it if the one thing wrong lies in a private Datanet, whose leaves no
/// contract reads.
pub fn find<'a>(given: impl Into<Given<'a>>, parameters: &Parameters, index: &Index) -> Result<Vec<Proof>, FaultError> {
    let Given { domains, receipt: signed, answer: text, answer_salt, prompt } = given.into();
    let receipt = &signed.document;
    signed.verify(domains, receipt.node)?;
    if index.root() != receipt.index {
        return Err(FaultError::Index { expected: receipt.index, got: index.root() });
    }
    let mut hidden = None;
    let mut claims = provable(payee::wrong_payees(receipt, index).map(|payee| payee.map(Claim::Payee)), &mut hidden)?;
    if parameters.id != receipt.parameters {
        return if claims.is_empty() { Err(FaultError::Parameters(receipt.parameters)) } else { Ok(proofs(signed, claims)) };
    }
    let answer = Answer::new(text, answer_salt, parameters);
    if answer.root() == receipt.answer_root {
        let asked =
            prompt.as_ref().and_then(|(bytes, salt)| Text::prompt(bytes, *salt)).filter(|asked| asked.root() == receipt.prompt_root);
        let case = Case { receipt, text, parameters, index, answer: &answer, said: Text::answer(text, &answer), asked };
        claims.extend(case.claims(&mut hidden)?);
    } else if claims.is_empty() {
        return Err(FaultError::Answer { expected: receipt.answer_root, got: answer.root(), spans: Vec::new() });
    }
    match hidden {
        Some(private) if claims.is_empty() => Err(private.into()),
        _ => Ok(proofs(signed, claims)),
    }
}

fn proofs(signed: &Signed<Receipt>, mut claims: Vec<Claim>) -> Vec<Proof> {
    claims.sort_by_cached_key(Claim::size_bytes);
    let receipt = signed.document.encode();
    claims.into_iter().map(|claim| Proof { receipt: receipt.clone(), signature: signed.signature, claim }).collect()
}

#[cfg(test)]
mod honest;
#[cfg(test)]
mod tests;
