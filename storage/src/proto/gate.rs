//! Frames between a contributor and the gate of a Datanet: a contribution is shown only after its commitment is on the chain.
//!
//! ```text
//! contributor                              gate
//! Open (Datanet, salt, text root, sizes) -->   is the commitment on the chain? is this the Datanet's licence?
//!                                       <--   Proceed
//! pieces of the shard, plain frames ------>
//!                                       <--   Reviewed (report, signed verdict)
//! ```
//! Waiting may stand in Proceed's or Reviewed's place: the contribution is held back for two reviewers, and the same offer made later tells what became of it.
//! Reviewers list, show and decide with acts that they sign ([`ReviewAct`]); members of a private Datanet fetch its log and enter what they read. Each is
//! one question and one answer, as a contributor's list of its refused reports is, but for a shown contribution, whose shard follows in pieces.
//!
//! A refusal may stand in place of any answer; nothing follows it. The report is JSON with one form, its digest is in the signed verdict,
//! which the registry takes if it accepts. Sizes: an opening is about 200 bytes, a report 300 and 300 to 1,000 for each row it lists, at most
//! [`REFUSALS_MAX`](crate::datanet::REFUSALS_MAX) refusals and [`NOTES_MAX`](crate::datanet::NOTES_MAX) notes.

pub mod arrivals;

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use types::{
    contribution::{GateReport, commitment},
    id::{Address, AssetId, BlobId, Hash32, NodeId},
    key::Signed,
    merkle::keccak,
};

use crate::{
    datanet::{
        Report,
        review::{REASON_BYTES_MAX, ReviewAct},
    },
    seal::log::WRAPS_MAX,
};

/// Largest question: an opening, a decision with its reason, an entry of a log.
pub const ASK_BYTES_MAX: usize = 4 << 10;
/// Largest piece of a shard.
pub const PIECE_BYTES: usize = 256 << 10;
/// Largest frame of a gate: a report of as many refusals and notes as it lists.
pub const REPLY_BYTES_MAX: usize = 2 << 20;
/// Entries of a log are sent up to about so many bytes at a time; one alone may be larger, a re-keying for [`WRAPS_MAX`] members.
pub const LOG_PAGE_BYTES: usize = 1 << 20;

const _: () = assert!(REASON_BYTES_MAX + 512 < ASK_BYTES_MAX, "a decision with its reason is a question");
const _: () = assert!(WRAPS_MAX * 112 + LOG_PAGE_BYTES + (4 << 10) < REPLY_BYTES_MAX, "a page and the largest entry are an answer");

/// The first message of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// A contribution is offered, or what became of it is asked.
    Offer(Open),
    /// The report with this digest.
    Report {
        /// keccak of its JSON.
        digest: Hash32,
    },
    /// A reviewer asks or decides.
    Review {
        /// What.
        act: Signed<ReviewAct>,
        /// The reason it covers.
        reason: String,
    },
    /// Who contributes by the owner's list, and who may read.
    Members {
        /// The Datanet.
        datanet: AssetId,
    },
    /// The log of a private Datanet, from an entry on. Only for who is in it.
    Log {
        /// The Datanet.
        datanet: AssetId,
        /// Number of the first entry wanted.
        from: u64,
    },
    /// A member enters what it read.
    Enter {
        /// The Datanet.
        datanet: AssetId,
        /// The signed entry's bytes.
        entry: Vec<u8>,
    },
    /// A contributor asks which of its refused contributions the gate has reports of.
    Mine {
        /// A list, signed by the contributor.
        act: Signed<ReviewAct>,
    },
    /// A contributor asks, before it commits to rows that its own rules say reviewers will hold, whether they may wait.
    Room {
        /// Who.
        contributor: Address,
    },
}

/// A contribution that waits, as reviewers see it in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseRow {
    /// What it is named by.
    pub commitment: Hash32,
    /// Who brings it.
    pub contributor: Address,
    /// Its documents.
    pub documents: u32,
    /// Bytes of its text.
    pub text_bytes: u64,
    /// Findings that hold it back, and notes.
    pub findings: u32,
    /// The first of them, in words.
    pub first: String,
    /// Digest of its report: what a decision covers.
    pub report: Hash32,
    /// Block since which it waits.
    pub since: u64,
    /// `waits`, `approved` or `rejected`.
    pub state: String,
    /// Who approved it.
    pub approved_by: Vec<Address>,
}

/// A member who may read a private Datanet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderRow {
    /// The member's node.
    pub member: NodeId,
    /// What for, in words.
    pub purposes: String,
    /// Last block in which the grant holds.
    pub expiry: u64,
}

/// What seals one contribution to a private Datanet: a segment's key, which opens nothing else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealRight {
    /// Key epoch.
    pub epoch: u32,
    /// The segment's key.
    pub key: [u8; 32],
}

impl fmt::Debug for SealRight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealRight(epoch {})", self.epoch)
    }
}

/// How a contribution is offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The Datanet.
    pub datanet: AssetId,
    /// Who contributes.
    pub contributor: Address,
    /// Opens the commitment.
    pub salt: Hash32,
    /// Root of the contribution text.
    pub text_root: Hash32,
    /// The licence the contributor gives, as an SPDX expression.
    pub licence: String,
    /// Bytes of the shard that follows.
    pub shard_bytes: u64,
    /// Salt of the text's leaves, if the Datanet is private.
    pub text_salt: Option<Hash32>,
}

/// What a gate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Send the shard.
    Proceed,
    /// The gate has looked.
    Reviewed {
        /// The report in its one JSON form.
        report: String,
        /// The verdict, signed by the reviewer. Names the object that the gate made of what it saw.
        verdict: Signed<GateReport>,
        /// The code of that object: fragments that suffice, and all; nothing if the contribution is not accepted.
        code: Option<(u8, u8)>,
        /// What the contribution is to be sealed with, if the Datanet is private and it is accepted.
        seal: Option<SealRight>,
    },
    /// The gate does not look at all.
    Refused {
        /// Why, and the fix.
        reason: String,
    },
    /// The contribution waits for two reviewers.
    Waiting {
        /// The report as it waits.
        report: String,
        /// Who approved it so far.
        approved_by: Vec<Address>,
    },
    /// A report.
    Report {
        /// In its one JSON form.
        report: String,
    },
    /// What waits, and what was decided lately.
    Queue {
        /// In the order in which they came.
        cases: Vec<CaseRow>,
    },
    /// A contribution that waits; its shard follows.
    Shown {
        /// The report as it waits.
        report: String,
        /// Bytes of the shard.
        shard_bytes: u64,
    },
    /// A decision was taken.
    Decided {
        /// What became of the contribution: `waits`, `approved` or `rejected`.
        state: String,
        /// Who approved it so far.
        approved_by: Vec<Address>,
    },
    /// Members that the gate knows of.
    Members {
        /// Whom the owner listed.
        contributors: Vec<Address>,
        /// Who has a grant.
        readers: Vec<ReaderRow>,
    },
    /// A page of a log.
    Log {
        /// The owner's node, by whose key the log is read.
        owner: NodeId,
        /// Signed entries' bytes, in order.
        entries: Vec<Vec<u8>>,
        /// Entries of the whole log.
        length: u64,
        /// Hash of the last one.
        hash: Hash32,
        /// The owner's signature over the head, 64 bytes.
        signature: Vec<u8>,
    },
    /// What was read is in the log.
    Entered {
        /// Number of the entry.
        number: u64,
    },
    /// Reports of the asker's refused contributions.
    Mine {
        /// Their digests, newest first.
        reports: Vec<Hash32>,
    },
    /// What a contributor may still have wait for reviewers at this gate.
    Room {
        /// Contributions.
        cases: u64,
        /// Bytes of their shards.
        bytes: u64,
    },
}

/// Why bytes are no message of a gate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// Longer than a message may be.
    #[error("a message of {got} bytes, at most {max} are allowed")]
    TooLong {
        /// Bytes.
        got: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not the encoding.
    #[error("not a message of a gate: {0}")]
    Encoding(#[from] postcard::Error),
    /// Bytes after the end.
    #[error("{0} bytes follow the end of the message")]
    Trailing(usize),
}

/// Why a verdict does not settle a contribution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerdictError {
    /// About something else.
    #[error("the verdict's {field} is not that of this contribution")]
    Other {
        /// What differs.
        field: &'static str,
    },
    /// The report is not the one signed for.
    #[error("the report has digest {got}, the verdict covers {signed}")]
    Report {
        /// Digest in the verdict.
        signed: Hash32,
        /// Digest of the report.
        got: Hash32,
    },
    /// The report is no report.
    #[error("the report does not parse: {0}")]
    Syntax(String),
    /// Report and verdict say different things.
    #[error("the report and its verdict contradict each other")]
    Contradiction,
}

fn encode(message: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(message).expect("plain data always serialises")
}

fn decode<T: DeserializeOwned>(bytes: &[u8], max: usize) -> Result<T, GateError> {
    if bytes.len() > max {
        return Err(GateError::TooLong { got: bytes.len(), max });
    }
    match postcard::take_from_bytes(bytes)? {
        (message, []) => Ok(message),
        (_, rest) => Err(GateError::Trailing(rest.len())),
    }
}

impl Ask {
    /// The message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a peer's bytes.
    ///
    /// # Errors
    /// [`GateError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, GateError> {
        decode(bytes, ASK_BYTES_MAX)
    }
}

impl Open {
    /// The commitment that must be on the chain before the text is shown.
    pub fn commitment(&self) -> Hash32 {
        commitment(self.salt, self.text_root, self.contributor)
    }

    /// What the reviewer signs on a report about this contribution, which is to be stored as `object` if it is accepted.
    pub fn verdict(&self, report: &Report, object: Option<BlobId>) -> GateReport {
        GateReport {
            datanet: self.datanet,
            text_root: self.text_root,
            commitment: self.commitment(),
            report: report.digest(),
            object: object.filter(|_| report.accepted).unwrap_or(BlobId::ZERO),
            is_accepted: report.accepted,
        }
    }

    /// The report, if `verdict` is about this contribution and covers it. Who signed is for the caller to check.
    ///
    /// # Errors
    /// [`VerdictError`].
    pub fn check(&self, report: &str, verdict: &GateReport) -> Result<Report, VerdictError> {
        let fields = [
            ("Datanet", verdict.datanet == self.datanet),
            ("text root", verdict.text_root == self.text_root),
            ("commitment", verdict.commitment == self.commitment()),
        ];
        if let Some((field, _)) = fields.into_iter().find(|(_, is_same)| !is_same) {
            return Err(VerdictError::Other { field });
        }
        let got = keccak(&[report.as_bytes()]);
        if got != verdict.report {
            return Err(VerdictError::Report { signed: verdict.report, got });
        }
        let report: Report = serde_json::from_str(report).map_err(|error| VerdictError::Syntax(error.to_string()))?;
        let is_same = report.accepted == verdict.is_accepted
            && report.accepted == (verdict.object != BlobId::ZERO)
            && report.text_root == self.text_root
            && report.contributor == self.contributor;
        if is_same { Ok(report) } else { Err(VerdictError::Contradiction) }
    }
}

impl Reply {
    /// The message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a peer's bytes.
    ///
    /// # Errors
    /// [`GateError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, GateError> {
        decode(bytes, REPLY_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::key::Signed65;

    use super::*;

    fn open() -> Open {
        Open {
            datanet: AssetId(3),
            contributor: Address([1; 20]),
            salt: Hash32([2; 32]),
            text_root: Hash32([4; 32]),
            licence: "CC-BY-4.0".into(),
            shard_bytes: 300,
            text_salt: None,
        }
    }

    fn report() -> Report {
        let open = open();
        Report {
            accepted: true,
            contributor: open.contributor,
            text_root: open.text_root,
            text_bytes: 9,
            documents: 1,
            refusals: vec![],
            unlisted: 0,
            notes: vec![],
            notes_unlisted: 0,
            approvals: vec![],
        }
    }

    #[test]
    fn the_bytes_of_messages_are_pinned_and_round_trip() {
        let bytes = Ask::Offer(open()).encode();
        let expected = format!("000314{}20{}20{}09{}ac0200", "01".repeat(20), "02".repeat(32), "04".repeat(32), hex::encode("CC-BY-4.0"));
        assert_eq!(hex::encode(&bytes), expected);
        assert_eq!(Ask::decode(&bytes), Ok(Ask::Offer(open())));
        let verdict = Signed { document: open().verdict(&report(), Some(BlobId([3; 32]))), signature: Signed65([7; 65]) };
        let seal = Some(SealRight { epoch: 2, key: [9; 32] });
        let approved_by = vec![Address([5; 20])];
        for reply in [
            Reply::Proceed,
            Reply::Reviewed { report: report().to_json(), verdict, code: Some((3, 5)), seal },
            Reply::Refused { reason: "busy".into() },
            Reply::Waiting { report: report().to_json(), approved_by: approved_by.clone() },
            Reply::Decided { state: "waits".into(), approved_by },
            Reply::Entered { number: 3 },
            Reply::Mine { reports: vec![Hash32([6; 32])] },
            Reply::Room { cases: 16, bytes: 1 << 27 },
        ] {
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }
        for ask in [
            Ask::Report { digest: Hash32([1; 32]) },
            Ask::Log { datanet: AssetId(1), from: 7 },
            Ask::Enter { datanet: AssetId(1), entry: vec![1] },
            Ask::Room { contributor: Address([1; 20]) },
        ] {
            assert_eq!(Ask::decode(&ask.encode()), Ok(ask));
        }
        assert_eq!(Ask::decode(&[bytes, vec![0]].concat()), Err(GateError::Trailing(1)));
        assert_eq!(Ask::decode(&[0; ASK_BYTES_MAX + 1]), Err(GateError::TooLong { got: ASK_BYTES_MAX + 1, max: ASK_BYTES_MAX }));
    }

    #[test]
    fn a_verdict_settles_its_own_contribution_and_report_only() {
        let (open, report) = (open(), report());
        let (json, verdict) = (report.to_json(), open.verdict(&report, Some(BlobId([3; 32]))));
        assert_eq!(open.check(&json, &verdict), Ok(report.clone()));
        assert_eq!(open.check(&json, &GateReport { datanet: AssetId(9), ..verdict }), Err(VerdictError::Other { field: "Datanet" }));
        assert_eq!(open.check(&json, &GateReport { text_root: Hash32::ZERO, ..verdict }), Err(VerdictError::Other { field: "text root" }));
        assert_eq!(
            open.check(&json, &GateReport { commitment: Hash32::ZERO, ..verdict }),
            Err(VerdictError::Other { field: "commitment" })
        );
        assert!(matches!(open.check("{}", &verdict), Err(VerdictError::Report { .. })));
        assert_eq!(open.check(&json, &GateReport { is_accepted: false, ..verdict }), Err(VerdictError::Contradiction));
        assert_eq!(open.check(&json, &GateReport { object: BlobId::ZERO, ..verdict }), Err(VerdictError::Contradiction));
        let other = Report { contributor: Address([8; 20]), ..report };
        assert_eq!(open.check(&other.to_json(), &open.verdict(&other, Some(BlobId([3; 32])))), Err(VerdictError::Contradiction));
        assert!(matches!(open.check("x", &GateReport { report: keccak(&[b"x"]), ..verdict }), Err(VerdictError::Syntax(_))));
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Ask::decode(&bytes);
            let _ = Reply::decode(&bytes);
        }
    }
}
