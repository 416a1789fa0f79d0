//! What waits for two reviewers, and what they decide.
//!
//! Goals: nobody alone lets in what the policy holds back; what was decided can be checked later by anybody who has the report; which of the other
//! contributions are looked at as well is nobody's choice. Non-goals: judging reviewers (their Datanet's owner names them), hiding who decided.
//!
//! A contribution waits if all that speaks against it is of action `quarantine`. Two approvals of different accounts that may review, neither of them the
//! contributor's, let it in; one rejection ends it. Both are signed over the digest of the report as it waited, so an approval cannot be carried to another
//! report. The accepted report holds the approvals, and its digest is what the registry keeps.
//!
//! *Sampling.* Of contributions that pass, those wait for which keccak("tributary/sample/v1" || hash of the first block after the shard was whole at the gate || text root)
//! begins with a number below `sample_per_mille` modulo 1000: known to nobody before the text was shown. A text that was shown and drawn is found by contributor and text root, so another
//! commitment to it is no other draw. Nor is a text with some of its rows: rows that wait because of a draw, and rows that were rejected, have the contribution wait that brings them again ([`Again`]), whoever does. Another
//! text is another draw, at a commitment and a place among what its contributor may have wait. *Against* the block after the commitment's: whoever saw itself drawn committed anew, at one
//! commitment a try, and showed nothing. What is left: a Datanet with several gates gives a text one draw at each, two texts shown at the same moment have one each, and rows are known by their exact text: who changes
//! a word in every row has another draw.

use serde::{Deserialize, Serialize};
use types::{
    encoding::{Contract, DecodeError, Document, Reader, Writer},
    id::{Address, AssetId, Hash32, NodeId},
    key::{Domains, SignatureError, Signed, recover},
    merkle::keccak,
};

use super::{Action, REFUSALS_MAX, Refusal, Report, Rule};

/// Approvals that let a contribution in.
pub const APPROVALS: usize = 2;
/// Longest reason of a decision, in bytes.
pub const REASON_BYTES_MAX: usize = 1 << 10;

/// What a reviewer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Asks what waits.
    List,
    /// Asks for a contribution's rows.
    Show,
    /// Lets it in, with a second one.
    Approve,
    /// Ends it.
    Reject,
}

/// What a reviewer signs. It is for one gate and one report, and counts for [`FRESH_BLOCKS`] blocks, so nobody else can use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewAct {
    /// The Datanet.
    pub datanet: AssetId,
    /// The contribution's commitment; zero for a list.
    pub commitment: Hash32,
    /// Digest of the report as it waits; zero where nothing is decided.
    pub report: Hash32,
    /// What is done.
    pub act: Act,
    /// keccak of the reason's UTF-8.
    pub reason: Hash32,
    /// The gate's node.
    pub gate: NodeId,
    /// A recent block.
    pub block: u64,
}

/// Blocks for which a signed act is taken.
pub const FRESH_BLOCKS: u64 = 300;

impl Document for ReviewAct {
    const NAME: &'static str = "ReviewAct";
    const CONTRACT: Contract = Contract::Registry;

    fn encode(&self) -> Vec<u8> {
        let w = Writer::new().u64(self.datanet.0).hash(self.commitment).hash(self.report).u8(self.act as u8);
        w.hash(self.reason).node(self.gate).u64(self.block).finish()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let (datanet, commitment, report) = (AssetId(r.u64("Datanet")?), r.hash("commitment")?, r.hash("report")?);
        let act = match r.u8("act")? {
            0 => Act::List,
            1 => Act::Show,
            2 => Act::Approve,
            3 => Act::Reject,
            got => return Err(DecodeError::Value { field: "act", got: got.into(), expected: "0 to 3" }),
        };
        let (reason, gate, block) = (r.hash("reason")?, r.node("gate")?, r.u64("block")?);
        r.finish().map(|()| Self { datanet, commitment, report, act, reason, gate, block })
    }
}

/// Whether a contribution is drawn. `seed` is the hash of the first block after its shard was whole at the gate.
pub fn is_drawn(seed: Hash32, text_root: Hash32, per_mille: u16) -> bool {
    let drawn = keccak(&[b"tributary/sample/v1", &seed.0, &text_root.0]);
    let number = u64::from_be_bytes(*drawn.0.first_chunk().expect("a hash has 32 bytes"));
    number % 1000 < u64::from(per_mille)
}

/// Why a report does not stand as accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// Something that no reviewer can let in.
    #[error("the report is accepted although {0} findings block it or are to be redacted")]
    Blocked(usize),
    /// An approval of something else.
    #[error("approval {0} is about another contribution or report")]
    Other(usize),
    /// An approval by somebody who may not.
    #[error("approval {number} is signed by {by}, who {why}")]
    By {
        /// Which, counted from 1.
        number: usize,
        /// Who signed.
        by: Address,
        /// Why not.
        why: &'static str,
    },
    /// A signature that is none.
    #[error("approval {number}: {problem}")]
    Signature {
        /// Which, counted from 1.
        number: usize,
        /// What is wrong.
        problem: SignatureError,
    },
    /// Too few.
    #[error("{got} reviewers approved it, {APPROVALS} are needed")]
    TooFew {
        /// How many did.
        got: usize,
    },
}

/// Most findings of rows that are brought again, one for each contribution they were in: a report stays short, and reviewers find the rows.
pub const AGAIN_MAX: usize = 16;

/// Rows that are brought again of a contribution which reviewers have before them or rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Again {
    /// The first of them, counted from 1.
    pub row: u32,
    /// Its row there.
    pub earlier_row: u32,
    /// How many others of the same contribution there are.
    pub more: u32,
    /// What that contribution is named by.
    pub commitment: Hash32,
    /// Who brought it.
    pub contributor: Address,
    /// Block of its commitment.
    pub since: u64,
    /// Who rejected it; nobody if it waits.
    pub rejected_by: Option<Address>,
}

impl Again {
    fn refusal(&self) -> Refusal {
        let Self { row, earlier_row, more, commitment, contributor, since, rejected_by } = *self;
        let others = if more == 0 { String::new() } else { format!(", and {more} more rows here stand there too") };
        let (rule, became) = match rejected_by {
            Some(by) => (Rule::Rejected, format!("which reviewer {by} rejected")),
            None => (Rule::Sampled, "which waits for two reviewers".to_owned()),
        };
        Refusal {
            row,
            rule,
            action: Action::Quarantine,
            detail: format!(
                "the same text as row {earlier_row} of the contribution under commitment {commitment}, brought by {contributor} in block {since}, {became}{others}"
            ),
            fix: "wait for two reviewers, then run the same command again; or bring the other rows without those".into(),
            preview: None,
            earlier: None,
        }
    }
}

impl Report {
    /// The report of a contribution that has rows of others which wait or were rejected: it waits too. One that is refused stays as it is.
    #[must_use]
    pub fn again(mut self, found: &[Again]) -> Self {
        if found.is_empty() || !(self.accepted || self.can_wait()) {
            return self;
        }
        self.accepted = false;
        let room = REFUSALS_MAX.saturating_sub(self.refusals.len()).min(AGAIN_MAX);
        self.refusals.extend(found.iter().take(room).map(Again::refusal));
        self.refusals.sort_by_key(|refusal| refusal.row);
        self
    }

    /// Whether two reviewers can let the contribution in: nothing speaks against it but what the policy quarantines.
    pub fn can_wait(&self) -> bool {
        !self.accepted && self.unlisted == 0 && self.refusals.iter().all(|refusal| refusal.action == Action::Quarantine)
    }

    /// The report of a contribution that passed and was drawn for two reviewers; `block` is the one whose hash drew it.
    #[must_use]
    pub fn sampled(mut self, block: u64, per_mille: u16) -> Self {
        self.accepted = false;
        self.refusals.push(Refusal {
            row: 0,
            rule: Rule::Sampled,
            action: Action::Quarantine,
            detail: format!("drawn by the hash of block {block}: of contributions that pass, {per_mille} in a thousand are looked at"),
            fix: "wait for two reviewers, then run the same command again".into(),
            preview: None,
            earlier: None,
        });
        self
    }

    /// The report as it waited.
    fn as_it_waited(&self) -> Self {
        Self { accepted: false, approvals: Vec::new(), ..self.clone() }
    }

    /// Whether an accepted report holds what it needs: nothing that speaks against it, or two reviewers who let it in. Returns the reviewers.
    ///
    /// # Errors
    /// [`ApprovalError`].
    pub fn approved_by(
        &self,
        domains: &Domains,
        (datanet, commitment): (AssetId, Hash32),
        may_review: impl Fn(Address) -> bool,
    ) -> Result<Vec<Address>, ApprovalError> {
        let blocking = self.refusals.iter().filter(|refusal| refusal.action != Action::Quarantine).count();
        if blocking > 0 || self.unlisted > 0 {
            return Err(ApprovalError::Blocked(blocking));
        }
        let digest = self.as_it_waited().digest();
        let mut reviewers = Vec::new();
        for (number, signed) in (1..).zip(&self.approvals) {
            let act = &signed.document;
            if (act.datanet, act.commitment, act.report, act.act) != (datanet, commitment, digest, Act::Approve) {
                return Err(ApprovalError::Other(number));
            }
            let by = recover(domains, act, &signed.signature).map_err(|problem| ApprovalError::Signature { number, problem })?;
            may_decide(by, self.contributor, &reviewers, &may_review).map_err(|why| ApprovalError::By { number, by, why })?;
            reviewers.push(by);
        }
        let is_enough = self.refusals.is_empty() || reviewers.len() >= APPROVALS;
        if is_enough { Ok(reviewers) } else { Err(ApprovalError::TooFew { got: reviewers.len() }) }
    }
}

fn may_decide(by: Address, contributor: Address, before: &[Address], may_review: &impl Fn(Address) -> bool) -> Result<(), &'static str> {
    match () {
        () if by == contributor => Err("brings the contribution: ask another reviewer"),
        () if before.contains(&by) => Err("approved it before: a second reviewer must"),
        () if !may_review(by) => Err("does not review this Datanet: its owner names reviewers with `datanet reviewer add`"),
        () => Ok(()),
    }
}

/// A contribution that waits, or was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The Datanet.
    pub datanet: AssetId,
    /// What fixes its priority.
    pub commitment: Hash32,
    /// Block in which it began to wait.
    pub since: u64,
    /// Bytes of its shard.
    pub shard_bytes: u64,
    /// The report as it waits.
    pub report: Report,
    /// Who let it in so far.
    pub approvals: Vec<Signed<ReviewAct>>,
    /// Who ended it, and why.
    pub rejection: Option<Rejection>,
}

/// The end of a contribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rejection {
    /// What the reviewer signed.
    pub act: Signed<ReviewAct>,
    /// Who.
    pub by: Address,
    /// The reason it covers.
    pub reason: String,
}

/// Why a decision is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecideError {
    /// About something else.
    #[error("the decision's {0} is not that of the contribution that waits: list what waits and decide anew")]
    Other(&'static str),
    /// Too long.
    #[error("the reason has {0} bytes, at most {REASON_BYTES_MAX} are allowed")]
    Reason(usize),
    /// Not by somebody who may.
    #[error("{by} {why}")]
    By {
        /// Who.
        by: Address,
        /// Why not.
        why: &'static str,
    },
    /// It is decided.
    #[error("it was {0} already")]
    Decided(&'static str),
    /// No signature.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl Case {
    /// The report with what let it in, once enough did.
    pub fn accepted(&self) -> Option<Report> {
        let is_in = self.rejection.is_none() && self.approvals.len() >= APPROVALS;
        is_in.then(|| Report { accepted: true, approvals: self.approvals.clone(), ..self.report.clone() })
    }

    /// What became of it, in a word.
    pub fn state(&self) -> &'static str {
        match (&self.rejection, self.approvals.len() >= APPROVALS) {
            (Some(_), _) => "rejected",
            (None, true) => "approved",
            (None, false) => "waits",
        }
    }

    /// Who approved it so far.
    pub fn approved_by(&self, domains: &Domains) -> Vec<Address> {
        self.approvals.iter().filter_map(|signed| recover(domains, &signed.document, &signed.signature).ok()).collect()
    }

    /// Takes a reviewer's decision. The same reviewer's same decision changes nothing.
    ///
    /// # Errors
    /// [`DecideError`]; nothing is changed then.
    pub fn decide(
        &mut self,
        domains: &Domains,
        signed: &Signed<ReviewAct>,
        reason: &str,
        may_review: impl Fn(Address) -> bool,
    ) -> Result<(), DecideError> {
        let act = &signed.document;
        let fields = [
            ("Datanet", act.datanet == self.datanet),
            ("commitment", act.commitment == self.commitment),
            ("report", act.report == self.report.digest()),
            ("reason", act.reason == keccak(&[reason.as_bytes()])),
            ("act", matches!(act.act, Act::Approve | Act::Reject)),
        ];
        if let Some((field, _)) = fields.into_iter().find(|(_, is_same)| !is_same) {
            return Err(DecideError::Other(field));
        }
        if reason.len() > REASON_BYTES_MAX {
            return Err(DecideError::Reason(reason.len()));
        }
        let by = recover(domains, act, &signed.signature)?;
        let before = self.approved_by(domains);
        if before.contains(&by) && act.act == Act::Approve {
            return Ok(());
        }
        if self.state() != "waits" {
            return Err(DecideError::Decided(self.state()));
        }
        // Who approved and thinks better of it may still reject.
        let before = if act.act == Act::Reject { Vec::new() } else { before };
        may_decide(by, self.report.contributor, &before, &may_review).map_err(|why| DecideError::By { by, why })?;
        match act.act {
            Act::Reject => self.rejection = Some(Rejection { act: signed.clone(), by, reason: reason.to_owned() }),
            Act::List | Act::Show | Act::Approve => self.approvals.push(signed.clone()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
