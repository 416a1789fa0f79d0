//! What a node says it holds, and what an auditor found of it (P4); who audits whom (P8).

mod held;
mod roll;

use serde::{Deserialize, Serialize};

use crate::{
    encoding::{Contract, DecodeError, Document, Reader, Writer},
    id::{Address, Hash32},
};

pub use self::{
    held::HeldFragment,
    roll::{AUDITORS, Seat, auditors},
};

/// What a node binds itself to before the seed of an epoch's audit is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditCommit {
    /// The node.
    pub node: Address,
    /// The epoch.
    pub epoch: u64,
    /// Root over the fragments it holds.
    pub holdings: Hash32,
    /// Ranges of 16 KiB in them.
    pub ranges: u64,
    /// The chain's latest block as the node knew it: by it a contract tells how old the commitment is, whichever count its epoch is of (P10).
    pub block: u64,
}

impl Document for AuditCommit {
    const NAME: &'static str = "AuditCommit";
    const CONTRACT: Contract = Contract::Settlement;

    fn encode(&self) -> Vec<u8> {
        Writer::new().address(self.node).u64(self.epoch).hash(self.holdings).u64(self.ranges).u64(self.block).finish()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let commit = Self {
            node: r.address("node")?,
            epoch: r.u64("epoch")?,
            holdings: r.hash("holdings")?,
            ranges: r.u64("ranges")?,
            block: r.u64("block")?,
        };
        r.finish().map(|()| commit)
    }
}

/// What one auditor saw in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every range, in time.
    Passed,
    /// The node did not answer at all. Never a fault.
    Offline,
    /// The node was there and its answer came late or not at all. Never a fault that is slashed.
    Late,
    /// The node answered that it lacks bytes, or with others than it committed to.
    Failed,
    /// The auditor could not tell, for reasons of its own.
    Unknown,
}

impl Verdict {
    /// All of them, by code.
    pub const ALL: [Self; 5] = [Self::Passed, Self::Offline, Self::Late, Self::Failed, Self::Unknown];

    /// The code in signed bytes.
    pub const fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Offline => 1,
            Self::Late => 2,
            Self::Failed => 3,
            Self::Unknown => 4,
        }
    }

    fn of_code(code: u8) -> Result<Self, DecodeError> {
        let unknown = DecodeError::Value { field: "verdict", got: code.into(), expected: "0 to 4" };
        Self::ALL.get(usize::from(code)).copied().ok_or(unknown)
    }
}

/// What an auditor signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditVerdict {
    /// The auditor.
    pub auditor: Address,
    /// The audited node.
    pub node: Address,
    /// The epoch.
    pub epoch: u64,
    /// The holdings the node committed to.
    pub holdings: Hash32,
    /// What the opener drew when it challenged; zero if no challenge was sent.
    pub nonce: Hash32,
    /// What it found.
    pub verdict: Verdict,
    /// Ranges that were right, before the first that was not.
    pub right: u8,
    /// State of the chain after the last right range; zero if no answer came.
    pub digest: Hash32,
    /// Smallest round trip to the node, in microseconds.
    pub round_trip_us: u32,
    /// From challenge to answer, in microseconds; zero if no answer came.
    pub elapsed_us: u32,
}

impl Document for AuditVerdict {
    const NAME: &'static str = "AuditVerdict";
    const CONTRACT: Contract = Contract::Settlement;

    fn encode(&self) -> Vec<u8> {
        Writer::new()
            .address(self.auditor)
            .address(self.node)
            .u64(self.epoch)
            .hash(self.holdings)
            .hash(self.nonce)
            .u8(self.verdict.code())
            .u8(self.right)
            .hash(self.digest)
            .u32(self.round_trip_us)
            .u32(self.elapsed_us)
            .finish()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let verdict = Self {
            auditor: r.address("auditor")?,
            node: r.address("node")?,
            epoch: r.u64("epoch")?,
            holdings: r.hash("holdings")?,
            nonce: r.hash("nonce")?,
            verdict: Verdict::of_code(r.u8("verdict")?)?,
            right: r.u8("right ranges")?,
            digest: r.hash("digest")?,
            round_trip_us: r.u32("round trip")?,
            elapsed_us: r.u32("elapsed")?,
        };
        r.finish().map(|()| verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_an_audit_have_one_form() {
        let commit = AuditCommit { node: Address([1; 20]), epoch: 2, holdings: Hash32([3; 32]), ranges: 4, block: 5 };
        let body = commit.encode();
        assert_eq!((body.len(), AuditCommit::decode(&body)), (76, Ok(commit)));
        assert!(AuditCommit::decode(&body[..75]).is_err() && AuditCommit::decode(&[body, vec![0]].concat()).is_err());
        for verdict in Verdict::ALL {
            let seen = AuditVerdict {
                auditor: Address([1; 20]),
                node: Address([2; 20]),
                epoch: 3,
                holdings: Hash32([4; 32]),
                nonce: Hash32([5; 32]),
                verdict,
                right: 20,
                digest: Hash32([6; 32]),
                round_trip_us: 7,
                elapsed_us: 8,
            };
            let mut body = seen.encode();
            assert_eq!((body.len(), AuditVerdict::decode(&body)), (154, Ok(seen)));
            body[112] = 5;
            assert!(AuditVerdict::decode(&body).unwrap_err().to_string().contains("verdict holds 5"));
        }
    }
}
