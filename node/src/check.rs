//! Executing another node's answer again, and signing what was found.
//!
//! Moves values between the engine, the index and the rules: the engine judges tokens ([`replay`]), in the profile `fast` fingerprints of activations
//! beside tokens that are near the choice ([`resemble`]), `attribution` judges everything else and says
//! what is reported when several things differ. Cost: prompt and answer in one pass, a tenth of producing the answer or so, plus one search of the
//! index; nobody pays for it, so [`Checks`] says who may ask. A report goes to who asked and nowhere else: nothing is filed from it, and of `fast` nothing could be proved.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use attribution::{
    bundle::{self, Bundle, Faults},
    check::{Reexecution, judge, trace},
    prompt::Role,
};
use chain_bridge::registry::State;
use inference::{
    Finish, Message,
    engine::EngineHandle,
    proto::{
        message::{Refusal, RefusalCode},
        residency::AdapterId,
    },
    verify::{Claim, Replay, Resemblance, replay, resemble},
};
use tokio::sync::{Semaphore, SemaphorePermit};
use types::{
    amount::Amount,
    encoding::Document as _,
    fingerprint::POSITIONS,
    id::NodeId,
    key::{Account, Domains, Signed},
    receipt::{CheckReport, Finding, Reason},
    text,
};

use crate::service::inference::{Answering, Offer};

/// Checks that run at once: one takes the engine's time from paying clients already.
const AT_ONCE: usize = 1;

/// Who may have this node check a receipt, and how many checks run.
#[derive(Debug)]
pub struct Checks {
    node: NodeId,
    turn: Semaphore,
}

impl Checks {
    /// Checks by the node with this key.
    pub const fn new(node: NodeId) -> Self {
        Self { node, turn: Semaphore::const_new(AT_ONCE) }
    }

    /// Lets `remote` have a receipt checked while the permit is held: the node's own operator, or a node with stake on the chain, which has
    /// something to lose and is who checkers are drawn from.
    ///
    /// # Errors
    /// [`Refusal`]: nobody of these, or another check runs.
    pub fn admit(&self, remote: NodeId, state: &State) -> Result<SemaphorePermit<'_>, Refusal> {
        let is_staked = || state.operators().any(|operator| operator.node == remote && operator.active > Amount::ZERO);
        if remote != self.node && !is_staked() {
            let message = format!(
                "an answer is executed again for this node's own operator and for nodes with stake on the chain, and {remote} is neither: \
                 run `tributary audit check` with the data folder of such a node, or `tributary receipt verify --full`, which asks nobody"
            );
            return Err(Refusal::new(RefusalCode::Invalid, message));
        }
        self.turn.try_acquire().map_err(|_| {
            Refusal::new(RefusalCode::Busy, "this node is executing another answer again, one at a time: ask later, or another node")
        })
    }
}

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
/// What keeps it from checking at all: another deployment, profile or grammar engine, an adapter that does not load, a busy engine. Whatever is wrong with the receipt itself is
/// the report's finding.
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
    let (profile, own) = (bundle.receipt.document.profile, engine.profile());
    ensure!(profile == own, "the answer was made in the profile {profile}, this node executes in {own}: ask one that has {profile}");
    let again = if must_execute(bundle) {
        execute(engine, offer, bundle).await?
    } else {
        Reexecution { wrong_token: None, far_from: None, answer: bundle.answer.clone(), tokens_in: None }
    };
    let checker = account.address();
    let (verdict, trace) = {
        let (bundle, offer) = (bundle.clone(), Arc::clone(offer));
        let judging = move || {
            let verdict = judge(&bundle, &offer.index, &again);
            (verdict, trace(checker, &bundle, &offer.index, &again, verdict))
        };
        tokio::task::spawn_blocking(judging).await?
    };
    let receipt = bundle.receipt.document.hash();
    Ok(Signed::new(account, domains, verdict.report(checker, receipt, trace)))
}

/// Whether the signatures stand: an answer that nobody signed for is not worth executing, so a stranger cannot make a checker work for nothing.
fn must_execute(bundle: &Bundle) -> bool {
    let is_signature = |faults: &Faults| faults.0.iter().any(|fault| fault.finding == Finding::Signature);
    !bundle::verify(bundle).is_err_and(|faults| is_signature(&faults))
}

/// Runs the claimed tokens through the model, after those that earlier attempts delivered.
async fn execute(engine: &EngineHandle, offer: &Offer, bundle: &Bundle) -> anyhow::Result<Reexecution> {
    if let Some((_, folder)) = offer.adapter.as_ref().filter(|(hash, _)| engine.adapter(hash.0).is_none()) {
        engine.load_adapter(folder).await?;
    }
    let messages: Vec<Message> = bundle.messages.iter().map(message).collect();
    let prompt = engine.prompt_tokens(&messages)?;
    let tokens_in = u32::try_from(prompt.len() + bundle.continued.len())?;
    let options = bundle.request.document.asked(&bundle.options.0)?;
    let answer = text::canonical_lossy(&engine.text(&options.stop, &bundle.continued, &bundle.token_ids));
    let claim = Claim {
        prompt,
        continued: bundle.continued.clone(),
        tokens: bundle.token_ids.clone(),
        adapters: offer.adapter.iter().map(|(hash, _)| (AdapterId(hash.0), 1.0)).collect(),
        options,
        seed: bundle.request.seed().0,
        finish: (bundle.receipt.document.reason == Reason::Stop).then_some(Finish::Stop),
    };
    let (Replay { mismatch, .. }, far) = if engine.profile().needs_fingerprint() {
        let Resemblance { replay, compared } = resemble(engine, claim, &bundle.fingerprints).await?;
        tracing::info!(distances = ?compared.distances, "fingerprints were compared");
        // Behind a token that is none nothing was computed to compare with.
        (replay, compared.far().filter(|_| replay.mismatch.is_none()))
    } else {
        (replay(engine, claim).await?, None)
    };
    let first = bundle.receipt.document.first_token;
    let far_from = far.map(|number| first.saturating_add(u32::try_from(number).unwrap_or(u32::MAX).saturating_mul(POSITIONS)));
    Ok(Reexecution { wrong_token: mismatch.map(|mismatch| mismatch.position), far_from, answer, tokens_in: Some(tokens_in) })
}

/// A message as the engine takes it.
pub fn message(message: &attribution::prompt::Message) -> Message {
    let role = match message.role {
        Role::System => inference::Role::System,
        Role::User => inference::Role::User,
        Role::Assistant => inference::Role::Assistant,
    };
    Message { role, content: message.content.clone() }
}

#[cfg(test)]
mod tests;
