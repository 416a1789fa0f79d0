//! Executing another node's answer again, and signing what was found.
//!
//! Moves values between the engine, the index and the rules: the engine judges tokens ([`replay`]), `attribution` judges everything else and says
//! what is reported when several things differ. Cost: as much as producing the answer, one token at a time, plus one search of the index.

use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use attribution::{
    bundle::{self, Bundle, Faults},
    check::{Reexecution, Verdict, judge, trace_digest},
    prompt::Role,
};
use inference::{
    Finish, Message, Sampling,
    engine::EngineHandle,
    verify::{Claim, Replay, replay},
};
use types::{
    encoding::Document as _,
    id::Hash32,
    key::{Account, Domains, Signed},
    receipt::{CheckReport, Finding, Reason},
    text,
};

use crate::service::inference::{Answering, Offer};

/// Checks a bundle under the manifests that this node serves, and signs the finding.
///
/// # Errors
/// What keeps it from checking at all: a manifest it does not serve, and what [`check_under`] says.
pub async fn check_bundle<E>(answering: &Answering<E>, bundle: &Bundle) -> anyhow::Result<Signed<CheckReport>> {
    let manifest = bundle.manifest.root();
    let offer = answering.offers.read().await.get(&manifest).cloned();
    let offer = offer.with_context(|| {
        format!("this node does not serve manifest {manifest}, so it cannot execute the answer again: ask one that does")
    })?;
    check_under(&answering.engine, &answering.account, &answering.domains, &offer, bundle).await
}

/// Checks a bundle under an offer of its manifest, and signs the finding with `account`.
///
/// # Errors
/// What keeps it from checking at all: another deployment, an answer whose beginning is not in the bundle, an adapter that does not load, a busy
/// engine. Whatever is wrong with the receipt itself is the report's finding.
pub async fn check_under(
    engine: &EngineHandle,
    account: &Account,
    domains: &Domains,
    offer: &Arc<Offer>,
    bundle: &Bundle,
) -> anyhow::Result<Signed<CheckReport>> {
    ensure!(
        bundle.domains == *domains,
        "the receipt is of another deployment (chain {}, settlement {})",
        bundle.domains.chain_id,
        bundle.domains.settlement
    );
    let (again, counted) = if must_execute(bundle) {
        execute(engine, offer, bundle).await?
    } else {
        (Reexecution { wrong_token: None, answer: bundle.answer.clone() }, None)
    };
    let found = {
        let (bundle, offer, again) = (bundle.clone(), Arc::clone(offer), again.clone());
        tokio::task::spawn_blocking(move || judge(&bundle, &offer.index, &again)).await?
    };
    let verdict = locate(found, &again, bundle, counted);
    let checker = account.address();
    let receipt = bundle.receipt.document.hash();
    let trace = trace(checker, bundle, &again, counted, verdict);
    Ok(Signed::new(account, domains, verdict.report(checker, receipt, trace)))
}

/// Whether the signatures stand: an answer that nobody signed for is not worth executing, so a stranger cannot make a checker work for nothing.
fn must_execute(bundle: &Bundle) -> bool {
    let is_signature = |faults: &Faults| faults.0.iter().any(|fault| fault.finding == Finding::Signature);
    !bundle::verify(bundle).is_err_and(|faults| is_signature(&faults))
}

/// Runs the claimed tokens through the model; also the input tokens as this node counts them.
async fn execute(engine: &EngineHandle, offer: &Offer, bundle: &Bundle) -> anyhow::Result<(Reexecution, Option<u32>)> {
    let receipt = &bundle.receipt.document;
    if receipt.first_token > 0 {
        bail!(
            "the receipt goes on from token {} of an answer whose first tokens are not in the bundle: they have no receipt to check",
            receipt.first_token
        );
    }
    if let Some((_, folder)) = &offer.adapter {
        engine.load_adapter(folder).await?;
    }
    let messages: Vec<Message> = bundle.messages.iter().map(message).collect();
    let prompt = engine.prompt_tokens(&messages)?;
    let counted = u32::try_from(prompt.len())?;
    let rule = bundle.request.document.sampling;
    let claim = Claim {
        prompt,
        continued: Vec::new(),
        tokens: bundle.token_ids.clone(),
        adapter: offer.adapter.as_ref().map(|(hash, _)| hash.0),
        sampling: Sampling { temperature_milli: rule.temperature_milli, top_k: rule.top_k, top_p_ppm: rule.top_p_ppm },
        seed: bundle.request.seed().0,
        finish: (receipt.reason == Reason::Stop).then_some(Finish::Stop),
    };
    let Replay { mismatch, .. } = replay(engine, claim).await?;
    let answer = text::canonical_lossy(&engine.decode(&bundle.token_ids));
    Ok((Reexecution { wrong_token: mismatch.map(|mismatch| mismatch.position), answer }, Some(counted)))
}

fn message(message: &attribution::prompt::Message) -> Message {
    let role = match message.role {
        Role::System => inference::Role::System,
        Role::User => inference::Role::User,
        Role::Assistant => inference::Role::Assistant,
    };
    Message { role, content: message.content.clone() }
}

/// Names the token that the model does not give rather than the hash over all of them, and a wrong count of input tokens that both sides signed.
fn locate(found: Verdict, again: &Reexecution, bundle: &Bundle, counted: Option<u32>) -> Verdict {
    match (found.finding, again.wrong_token) {
        (Finding::Token, Some(position)) => Verdict { position, ..found },
        (Finding::Agrees, _) if counted.is_some_and(|counted| counted != bundle.receipt.document.tokens_in) => {
            Verdict { finding: Finding::Split, position: 0 }
        }
        _ => found,
    }
}

/// Digest of everything that was looked at and found.
fn trace(checker: types::id::Address, bundle: &Bundle, again: &Reexecution, counted: Option<u32>, verdict: Verdict) -> Hash32 {
    let receipt = bundle.receipt.document.encode();
    let tokens: Vec<u8> = bundle.token_ids.iter().flat_map(|token| token.to_be_bytes()).collect();
    let option = |number: Option<u32>| [&[u8::from(number.is_some())][..], &number.unwrap_or_default().to_be_bytes()].concat();
    let found = verdict.report(checker, bundle.receipt.document.hash(), Hash32::ZERO).encode();
    trace_digest(checker, &[&receipt, &tokens, again.answer.as_bytes(), &option(again.wrong_token), &option(counted), &found])
}

#[cfg(test)]
mod tests;
