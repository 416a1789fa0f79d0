//! Evidence of audits that failed, in the folder `evidence` of the auditor's data folder: enough for anyone to judge the answer again, and for a slash case.

use anyhow::bail;
use serde::Serialize;
use storage::proto::audit::{Answer, Holdings, Seed, message::SignedAnswer};
use types::{
    audit::{AuditCommit, AuditVerdict},
    id::{Address, Hash32},
    key::Signed,
};

use super::{Auditing, auditor::Assignment};
use crate::{data::write_atomic, unshown::Unshown};

/// Answers of failed audits that are kept as evidence; a network in which more fail has other worries.
const EVIDENCE_MAX: usize = 256;

/// What an auditor keeps of an audit that failed: enough for anyone to judge it again.
#[derive(Debug, Serialize)]
struct Evidence<'a> {
    commit: Option<Signed<AuditCommit>>,
    verdict: AuditVerdict,
    beacon: Hash32,
    nonce: Hash32,
    auditors: &'a [Address],
    /// The answer, hex, and its node's signature over it.
    answer: String,
    signature: String,
    /// What is wrong with it, in words.
    fault: String,
    /// What the node did not show, if the answer tells: a slash case is opened with it.
    unshown: Option<Unshown>,
}

/// What an answer does not show, in words and as a slash case needs it.
fn fault(of: &Assignment, nonce: Hash32, answer: &SignedAnswer, holdings: Option<&Holdings>) -> (String, Option<Unshown>) {
    let Some(holdings) = holdings else { return ("it showed no list of what it holds".to_owned(), None) };
    let seed = Seed { beacon: of.beacon, node: of.node, epoch: of.epoch, holdings: holdings.root(), nonce };
    let fault = match Answer::decode(&answer.bytes).map(|answer| answer.check(&seed, holdings).1) {
        Ok(Err(fault)) => fault,
        Ok(Ok(())) => return ("it shows the whole walk".to_owned(), None),
        Err(error) => return (error.to_string(), None),
    };
    let unshown = fault.unshown().zip(of.commit.clone()).and_then(|((object, fragment, range), commit)| {
        let place = holdings.entries().iter().position(|held| (held.object, held.fragment) == (object, fragment))?;
        Some(Unshown { commit, held: holdings.entries()[place].held(), opening: holdings.open(place)?, range })
    });
    (fault.to_string(), unshown)
}

/// Keeps what convicts a node by an answer, in the folder `evidence`.
pub(super) fn keep_evidence(
    auditing: &Auditing,
    of: &Assignment,
    verdict: &AuditVerdict,
    nonce: Hash32,
    answer: &SignedAnswer,
    holdings: Option<&Holdings>,
) -> anyhow::Result<()> {
    let folder = auditing.data.path().join("evidence");
    std::fs::create_dir_all(&folder)?;
    if std::fs::read_dir(&folder)?.count() >= EVIDENCE_MAX {
        bail!("{} holds {EVIDENCE_MAX} files already: move them away", folder.display());
    }
    let (fault, unshown) = fault(of, nonce, answer, holdings);
    let evidence = Evidence {
        commit: of.commit.clone(),
        verdict: *verdict,
        beacon: of.beacon,
        nonce,
        auditors: &of.auditors,
        answer: hex::encode(&answer.bytes),
        signature: hex::encode(answer.signature),
        fault,
        unshown,
    };
    let path =
        folder.join(format!("audit-{}{}-{}.json", if super::is_own(of.epoch) { "" } else { "rent-" }, super::number(of.epoch), of.node));
    Ok(write_atomic(&path, &serde_json::to_vec_pretty(&evidence)?, 0o644)?)
}
