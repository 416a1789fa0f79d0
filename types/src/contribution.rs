//! Contributions: commitment first, then text, then acceptance (P5).

use serde::{Deserialize, Serialize};

use crate::{
    encoding::{Contract, DecodeError, Document, Reader, Writer},
    id::{Address, AssetId, BlobId, Hash32},
    merkle::keccak,
};

/// What fixes priority: it says nothing of the text until the salt is shown.
pub fn commitment(salt: Hash32, text_root: Hash32, contributor: Address) -> Hash32 {
    keccak(&[b"tributary/commitment/v1".as_slice(), &salt.0, &text_root.0, &contributor.0])
}

/// Who came first: block and place in the block of the commitment, then document number within the contribution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Priority {
    /// L2 block of the commitment.
    pub block: u64,
    /// Place among that block's commitments.
    pub ordinal: u32,
    /// Document number within the contribution.
    pub document: u32,
}

/// What a contributor signs on acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contribution {
    /// The Datanet.
    pub datanet: AssetId,
    /// Who contributes and is paid.
    pub contributor: Address,
    /// Root of the contribution text.
    pub text_root: Hash32,
    /// Its bytes.
    pub text_bytes: u64,
    /// Its documents.
    pub documents: u32,
    /// Opens the commitment.
    pub salt: Hash32,
    /// keccak of the SPDX licence expression.
    pub licence: Hash32,
    /// Object manifest that names the shard's fragments.
    pub object: BlobId,
}

impl Document for Contribution {
    const NAME: &'static str = "Contribution";
    const CONTRACT: Contract = Contract::Registry;

    fn encode(&self) -> Vec<u8> {
        Writer::new()
            .u64(self.datanet.0)
            .address(self.contributor)
            .hash(self.text_root)
            .u64(self.text_bytes)
            .u32(self.documents)
            .hash(self.salt)
            .hash(self.licence)
            .blob(self.object)
            .finish()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let contribution = Self {
            datanet: AssetId(r.u64("Datanet")?),
            contributor: r.address("contributor")?,
            text_root: r.hash("text root")?,
            text_bytes: r.u64("text bytes")?,
            documents: r.u32("documents")?,
            salt: r.hash("salt")?,
            licence: r.hash("licence")?,
            object: r.blob("object")?,
        };
        r.finish().map(|()| contribution)
    }
}

/// What a reviewer signs: the gate looked and this is what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateReport {
    /// The Datanet.
    pub datanet: AssetId,
    /// Root of the contribution text.
    pub text_root: Hash32,
    /// The commitment it opens.
    pub commitment: Hash32,
    /// keccak of the full report.
    pub report: Hash32,
    /// Object manifest that names the fragments of the shard that the gate saw, sealed if the Datanet is private; zero if it is not accepted.
    pub object: BlobId,
    /// Whether it is accepted.
    pub is_accepted: bool,
}

impl Document for GateReport {
    const NAME: &'static str = "GateReport";
    const CONTRACT: Contract = Contract::Registry;

    fn encode(&self) -> Vec<u8> {
        Writer::new()
            .u64(self.datanet.0)
            .hash(self.text_root)
            .hash(self.commitment)
            .hash(self.report)
            .blob(self.object)
            .u8(u8::from(self.is_accepted))
            .finish()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let (datanet, text_root, commitment, report, object) =
            (AssetId(r.u64("Datanet")?), r.hash("text root")?, r.hash("commitment")?, r.hash("report")?, r.blob("object")?);
        let is_accepted = match r.u8("verdict")? {
            0 => false,
            1 => true,
            got => return Err(DecodeError::Value { field: "verdict", got: got.into(), expected: "0 or 1" }),
        };
        r.finish().map(|()| Self { datanet, text_root, commitment, report, object, is_accepted })
    }
}
