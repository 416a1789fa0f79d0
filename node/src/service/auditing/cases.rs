//! Slash cases (`AuditCase`): answering those against this node, opening those that its audits make, closing those it opened.
//!
//! *Answering.* Each case against this node is answered from its disk; what is not there is fetched from whoever holds it now, or computed from other fragments. It is tried
//! until the deadline, every [`RETRY_BLOCKS`] blocks: an answer costs nothing in the end, silence a tenth of the stake.
//!
//! *Opening.* Only where the operator says so (`keeping.open_cases`), since a bond is attached: when a node's standing is a slash case, the latest evidence that this node keeps of a failed
//! audit of it is put before the chain, each once, [`OPEN_MAX`] at a time; a call that failed is made again (`opening`). A case that the chain lets be closed is closed by who opened it here.

mod opening;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::bail;
use chain_bridge::{
    case::is_usable,
    chain::error::ChainError,
    registry::{OpenCase, State},
};
use storage::proto::audit::standing::State as Standing;
use tokio::task::{AbortHandle, JoinSet};
use types::id::Hash32;

use self::opening::Came;
use super::Auditing;
use crate::{
    service::{keeping::Keeping, repair},
    unshown::{self, Unshown},
};

/// Cases that are answered at once: each may take reading as many fragments as its code needs.
const ANSWERS_MAX: usize = 8;
/// Blocks after which what failed is tried again.
const RETRY_BLOCKS: u64 = 4;
/// Longest work on one answer: some fragments of the largest object at 3 Mbit/s, and a transaction.
const ANSWER_LIMIT: Duration = Duration::from_secs(600);
/// Cases of this node's own that are open at once: as many bonds.
const OPEN_MAX: usize = 4;

/// Follows the chain until it ends.
pub(super) async fn follow(auditing: Arc<Auditing>, opens: bool) {
    let mut snapshots = auditing.keeping.snapshots.clone();
    let (mut answering, mut retry_from) = (JoinSet::new(), BTreeMap::<Hash32, u64>::new());
    let mut under_way = BTreeMap::<Hash32, AbortHandle>::new();
    while snapshots.changed().await.is_ok() {
        let (tip, time, state) = {
            let snapshot = snapshots.borrow_and_update();
            (snapshot.tip.number, snapshot.heads.map(|heads| heads.timestamp), Arc::clone(&snapshot.latest))
        };
        while answering.try_join_next().is_some() {}
        under_way.retain(|_, answer| !answer.is_finished());
        let against: Vec<OpenCase> = state.cases_of(auditing.keeping.me()).copied().collect();
        retry_from.retain(|id, _| against.iter().any(|case| case.id == *id));
        for case in against {
            let is_due = retry_from.get(&case.id).is_none_or(|from| tip >= *from);
            if !is_due || answering.len() >= ANSWERS_MAX || under_way.contains_key(&case.id) {
                continue;
            }
            retry_from.insert(case.id, tip + RETRY_BLOCKS);
            tracing::warn!(id = %case.id, object = %case.object, fragment = case.fragment, deadline = case.deadline, "a slash case asks this node for bytes that it committed to");
            under_way.insert(case.id, answering.spawn(answer(Arc::clone(&auditing.keeping), case)));
        }
        if opens && let Err(error) = open_and_close(&auditing, &state, tip, time).await {
            tracing::warn!(error = format!("{error:#}"), "slash cases of this node's audits are looked at again");
        }
    }
}

/// Answers one case.
async fn answer(keeping: Arc<Keeping>, case: OpenCase) {
    let (id, object, fragment) = (case.id, case.object, case.fragment);
    let answered = tokio::time::timeout(ANSWER_LIMIT, async {
        let bytes = repair::recover(&keeping, object, fragment).await?;
        let answer = case.asked.answer(&bytes)?;
        match keeping.chain.answer_case(&answer).await {
            Ok(_) => Ok(true),
            // Somebody has answered in its place, or the case is closed.
            Err(ChainError::Reverted { .. }) => Ok(false),
            Err(error) => Err(anyhow::Error::from(error)),
        }
    });
    match answered.await {
        Ok(Ok(true)) => tracing::info!(%id, %object, fragment, "a slash case against this node is answered"),
        Ok(Ok(false)) => tracing::info!(%id, "a slash case against this node has ended already"),
        Ok(Err(error)) => {
            tracing::error!(%id, %object, fragment, error = format!("{error:#}"), "a slash case against this node is not answered yet")
        }
        Err(_) => tracing::error!(%id, %object, fragment, "a slash case against this node takes long to answer: it is tried again"),
    }
}

/// Opens what this node's audits make cases of, and closes what was not answered.
async fn open_and_close(auditing: &Arc<Auditing>, state: &State, tip: u64, time: Option<u64>) -> anyhow::Result<()> {
    let (keeping, me) = (&auditing.keeping, auditing.keeping.me());
    let own: Vec<&OpenCase> = state.cases().filter(|case| case.opener == me).collect();
    for case in own.iter().filter(|case| time.is_some_and(|time| state.closing(case, time).is_allowed())) {
        match keeping.chain.close_case(case.asked).await {
            Ok(_) => tracing::info!(id = %case.id, node = %case.asked.node, "a slash case is closed"),
            Err(ChainError::Reverted { .. }) => tracing::debug!(id = %case.id, "a slash case has ended already"),
            Err(error) => return Err(error.into()),
        }
    }
    if own.len() >= OPEN_MAX {
        return Ok(());
    }
    let convicting = auditing.books().nodes_at(Standing::SlashCase);
    for node in convicting.into_iter().filter(|node| own.iter().all(|case| case.asked.node != *node)) {
        let folder = auditing.data.path().join("evidence");
        let found = tokio::task::spawn_blocking(move || unshown::latest_of(&folder, node)).await??;
        let Some(unshown) = found else { continue };
        let is_due = opening::is_due(&keeping.store.records(), &unshown.commit.document, tip)?;
        if is_due && is_of_use(state, &unshown, tip, keeping.chain.deployment().config.case_age_blocks) {
            // One after the other: what the next block says of it is looked at first.
            return open(keeping, state, &unshown, tip).await;
        }
    }
    Ok(())
}

/// Whether evidence is young enough, and of after the last conviction.
fn is_of_use(state: &State, unshown: &Unshown, tip: u64, age_blocks: u64) -> bool {
    let (node, block) = (unshown.commit.document.node, unshown.commit.document.block);
    is_usable(block, tip, age_blocks) && state.convicted_at(node).is_none_or(|convicted| convicted < block)
}

/// Puts one case before the chain, unless it has it.
async fn open(keeping: &Keeping, state: &State, unshown: &Unshown, tip: u64) -> anyhow::Result<()> {
    let mut draw = [0; 4];
    if getrandom::fill(&mut draw).is_err() {
        bail!("no randomness from the system");
    }
    let (records, commit) = (keeping.store.records(), unshown.commit.document);
    opening::forget_old(&records, tip.saturating_sub(keeping.chain.deployment().config.case_age_blocks))?;
    let question = opening::mean(&records, &commit, tip, |part| unshown.question(state, part, u32::from_be_bytes(draw)))?;
    let Some(question) = question else { return Ok(()) };
    let kept = keeping.chain.kept_case(question.asked()).await?;
    let came = match Came::before(&kept, &commit) {
        Some(came) => came,
        None => Came::of(keeping.chain.open_case_once(opening::call_key(&question), &question).await),
    };
    opening::note(&records, &commit, &came)?;
    let (node, object, fragment) = (commit.node, unshown.held.object, unshown.held.fragment);
    match came {
        Came::Opened(block) => {
            tracing::warn!(%node, %object, fragment, block, "a slash case is opened, as keeping.open_cases says");
        }
        Came::Known => tracing::info!(%node, %object, fragment, "a slash case is open or was, and is not opened twice"),
        Came::Refused(error) => tracing::info!(%node, %object, fragment, %error, "a slash case is not taken any more"),
        Came::Failed(error) => {
            tracing::warn!(%node, %object, fragment, %error, "a slash case is not known to be open: it is asked for again");
        }
    }
    Ok(())
}
