//! Frames between a contributor and the gate of a Datanet: a contribution is shown only after its commitment is on the chain.
//!
//! ```text
//! contributor                              gate
//! Open (Datanet, salt, text root, sizes) -->   is the commitment on the chain? is this the Datanet's licence?
//!                                       <--   Proceed
//! pieces of the shard, plain frames ------>
//!                                       <--   Reviewed (report, signed verdict)
//! ```
//! A refusal may stand in place of any answer; nothing follows it. The report is JSON with one form, its digest is in the signed verdict,
//! which the registry takes if it accepts. Sizes: an opening is about 200 bytes, a report 300 and 300 to 1,000 for each row it lists, at most
//! [`REFUSALS_MAX`](crate::datanet::REFUSALS_MAX) refusals and [`NOTES_MAX`](crate::datanet::NOTES_MAX) notes.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use types::{
    contribution::{GateReport, commitment},
    id::{Address, AssetId, Hash32},
    key::Signed,
    merkle::keccak,
};

use crate::datanet::Report;

/// Largest opening.
pub const OPEN_BYTES_MAX: usize = 4 << 10;
/// Largest piece of a shard.
pub const PIECE_BYTES: usize = 256 << 10;
/// Largest frame of a gate: a report of as many refusals and notes as it lists.
pub const REPLY_BYTES_MAX: usize = 2 << 20;

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
        /// The verdict, signed by the reviewer.
        verdict: Signed<GateReport>,
    },
    /// The gate does not look at all.
    Refused {
        /// Why, and the fix.
        reason: String,
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

impl Open {
    /// The message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a peer's bytes.
    ///
    /// # Errors
    /// [`GateError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, GateError> {
        decode(bytes, OPEN_BYTES_MAX)
    }

    /// The commitment that must be on the chain before the text is shown.
    pub fn commitment(&self) -> Hash32 {
        commitment(self.salt, self.text_root, self.contributor)
    }

    /// What the reviewer signs on a report about this contribution.
    pub fn verdict(&self, report: &Report) -> GateReport {
        GateReport {
            datanet: self.datanet,
            text_root: self.text_root,
            commitment: self.commitment(),
            report: report.digest(),
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
        let is_same =
            report.accepted == verdict.is_accepted && report.text_root == self.text_root && report.contributor == self.contributor;
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
        }
    }

    #[test]
    fn the_bytes_of_messages_are_pinned_and_round_trip() {
        let bytes = open().encode();
        let expected = format!("0314{}20{}20{}09{}ac02", "01".repeat(20), "02".repeat(32), "04".repeat(32), hex::encode("CC-BY-4.0"));
        assert_eq!(hex::encode(&bytes), expected);
        assert_eq!(Open::decode(&bytes), Ok(open()));
        let verdict = Signed { document: open().verdict(&report()), signature: Signed65([7; 65]) };
        for reply in [Reply::Proceed, Reply::Reviewed { report: report().to_json(), verdict }, Reply::Refused { reason: "busy".into() }] {
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }
        assert_eq!(Open::decode(&[bytes, vec![0]].concat()), Err(GateError::Trailing(1)));
        assert_eq!(Open::decode(&[0; OPEN_BYTES_MAX + 1]), Err(GateError::TooLong { got: OPEN_BYTES_MAX + 1, max: OPEN_BYTES_MAX }));
    }

    #[test]
    fn a_verdict_settles_its_own_contribution_and_report_only() {
        let (open, report) = (open(), report());
        let (json, verdict) = (report.to_json(), open.verdict(&report));
        assert_eq!(open.check(&json, &verdict), Ok(report.clone()));
        assert_eq!(open.check(&json, &GateReport { datanet: AssetId(9), ..verdict }), Err(VerdictError::Other { field: "Datanet" }));
        assert_eq!(open.check(&json, &GateReport { text_root: Hash32::ZERO, ..verdict }), Err(VerdictError::Other { field: "text root" }));
        assert_eq!(
            open.check(&json, &GateReport { commitment: Hash32::ZERO, ..verdict }),
            Err(VerdictError::Other { field: "commitment" })
        );
        assert!(matches!(open.check("{}", &verdict), Err(VerdictError::Report { .. })));
        assert_eq!(open.check(&json, &GateReport { is_accepted: false, ..verdict }), Err(VerdictError::Contradiction));
        let other = Report { contributor: Address([8; 20]), ..report };
        assert_eq!(open.check(&other.to_json(), &open.verdict(&other)), Err(VerdictError::Contradiction));
        assert!(matches!(open.check("x", &GateReport { report: keccak(&[b"x"]), ..verdict }), Err(VerdictError::Syntax(_))));
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Open::decode(&bytes);
            let _ = Reply::decode(&bytes);
        }
    }
}
