//! Slash cases of storage audits (`AuditCase`): opened, answered, closed.

use alloy::sol_types::SolCall as _;
use types::{amount::Amount, id::Address};

use super::{ChainClient, Sent};
use crate::{
    bindings::AuditCase,
    case::{Answer, Asked, Question},
    chain::{Call, error::ChainError},
    convert,
    deploy::Deployment,
};

impl Question {
    /// The call that opens the case, with its bond.
    pub fn call(&self, deployment: &Deployment) -> Call {
        Call { to: Some(deployment.cases), data: self.shown().abi_encode(), value: deployment.config.case_bond }
    }

    fn shown(&self) -> AuditCase::openCall {
        let (commit, signature) = self.evidence();
        let question = AuditCase::Question {
            commit: commit.into(),
            signature: signature.into(),
            leaf: self.held.leaf().into(),
            count: self.opening.leaves,
            index: self.opening.index,
            siblings: self.opening.siblings.iter().map(|sibling| sibling.0.into()).collect(),
            datanet: self.contribution.0.0,
            contribution: self.contribution.1,
            part: self.part,
        };
        AuditCase::openCall { question }
    }
}

impl Answer {
    /// The call that ends the case.
    pub fn call(&self, deployment: &Deployment) -> Call {
        Call { to: Some(deployment.cases), data: self.shown().abi_encode(), value: Amount::ZERO }
    }

    fn shown(&self) -> AuditCase::answerCall {
        AuditCase::answerCall {
            asked: named(self.asked),
            data: self.bytes.clone().into(),
            siblings: self.siblings.iter().map(|sibling| sibling.0.into()).collect(),
        }
    }
}

impl Asked {
    /// The call that closes the case.
    pub fn close_call(&self, deployment: &Deployment) -> Call {
        Call { to: Some(deployment.cases), data: AuditCase::closeCall { asked: named(*self) }.abi_encode(), value: Amount::ZERO }
    }
}

fn named(asked: Asked) -> AuditCase::Asked {
    AuditCase::Asked {
        node: convert::address(asked.node),
        datanet: asked.datanet.0,
        contribution: asked.contribution,
        root: convert::word(asked.root),
        size: asked.bytes,
        part: asked.part,
    }
}

/// A case as the contract keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptCase {
    /// Who opened it; zero if nobody did.
    pub opener: Address,
    /// From when it may be closed, in seconds since 1970.
    pub deadline: u64,
    /// Block of the commitment.
    pub signed_at: u64,
    /// Block of its end, if it ended.
    pub ended_at: Option<u64>,
}

impl KeptCase {
    /// Whether a commitment signed in this block opens the case no more: it is open, or ended since.
    pub fn covers(&self, signed_at: u64) -> bool {
        self.opener != Address::ZERO && self.ended_at.is_none_or(|ended| signed_at <= ended)
    }
}

impl ChainClient {
    /// Asks a node for a leaf of a fragment that it signed for, against the bond.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn open_case(&self, question: &Question) -> Result<Sent, ChainError> {
        self.write("open slash case", None, self.deployment().cases, &question.shown(), self.deployment().config.case_bond).await
    }

    /// The same, once under a key: asked for again it is sent under the same nonce, or found in its block.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn open_case_once(&self, key: String, question: &Question) -> Result<Sent, ChainError> {
        self.write("open slash case", Some(key), self.deployment().cases, &question.shown(), self.deployment().config.case_bond).await
    }

    /// Ends a case with the leaf asked for; anybody may, and is given half of what it cost, at most the bond.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn answer_case(&self, answer: &Answer) -> Result<Sent, ChainError> {
        self.write("answer slash case", None, self.deployment().cases, &answer.shown(), Amount::ZERO).await
    }

    /// Closes a case that nobody answered in time; anybody may.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn close_case(&self, asked: Asked) -> Result<Sent, ChainError> {
        let call = AuditCase::closeCall { asked: named(asked) };
        self.write("close slash case", None, self.deployment().cases, &call, Amount::ZERO).await
    }

    /// A case as it stands at the latest block; an opener of zero if there never was one.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn kept_case(&self, asked: Asked) -> Result<KeptCase, ChainError> {
        let kept = self.read(self.deployment().cases, &AuditCase::caseOfCall { id: convert::word(asked.id()) }).await?;
        Ok(KeptCase {
            opener: convert::account(kept.opener),
            deadline: kept.deadline,
            signed_at: kept.signedAt,
            ended_at: Some(kept.endedAt).filter(|block| *block != 0),
        })
    }

    /// The block in which a node was last convicted, if it ever was.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn convicted_at(&self, node: Address) -> Result<Option<u64>, ChainError> {
        let block = self.read(self.deployment().cases, &AuditCase::convictedAtCall(convert::address(node))).await?;
        Ok(Some(block).filter(|block| *block != 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_asked_for_again_only_by_what_was_signed_after_its_last_case_ended() {
        let kept = |opener, ended_at| KeptCase { opener: Address([opener; 20]), deadline: 9, signed_at: 7, ended_at };
        let covers = |kept: KeptCase| [10, 11, 12].map(|signed_at| kept.covers(signed_at));
        assert_eq!(covers(kept(0, None)), [false; 3], "nobody ever asked");
        assert_eq!(covers(kept(1, None)), [true; 3]);
        assert_eq!(covers(kept(1, Some(11))), [true, true, false]);
    }
}
