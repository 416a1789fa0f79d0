//! Who vouches for an export: a signature over its id, by whoever read the chain's events into it.
//!
//! Receipts are signed by their nodes, and trees and roots follow from them; that the events are the chain's is nobody's signature in the folder but
//! this one. With every hash made right again by a forger it no longer stands, and a forger's own is not that of whom the reader trusts.

use serde::{Deserialize, Serialize};
use types::{
    encoding::{Contract, DecodeError, Document, Reader, Writer},
    id::{Address, BlobId, Hash32},
    key::{Account, Domains, Signed, Signed65},
};

/// What is signed: the id of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Export(BlobId);

impl Document for Export {
    const NAME: &'static str = "Export";
    const CONTRACT: Contract = Contract::Settlement;

    fn encode(&self) -> Vec<u8> {
        Writer::new().hash(Hash32(self.0.0)).finish()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let id = reader.hash("id")?;
        reader.finish()?;
        Ok(Self(BlobId(id.0)))
    }
}

/// An exporter's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct By {
    /// Who signed.
    pub account: Address,
    /// The signature over the id, for the deployment's `Settlement`.
    pub signature: Signed65,
}

impl By {
    /// Signs an export.
    pub fn sign(account: &Account, domains: &Domains, id: BlobId) -> Self {
        Self { account: account.address(), signature: account.sign(domains, &Export(id)) }
    }

    /// Whether it is the signature of the account it names over this export.
    pub fn verify(&self, domains: &Domains, id: BlobId) -> anyhow::Result<()> {
        let signed = Signed { document: Export(id), signature: self.signature };
        let stands = signed.verify(domains, self.account);
        stands.map_err(|error| anyhow::anyhow!("index.json: the export's signature does not stand, so it was changed: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exports_signature_is_for_its_id_its_deployment_and_its_signer() {
        let domains = Domains {
            chain_id: 1,
            escrow: Address([1; 20]),
            registry: Address([2; 20]),
            settlement: Address([3; 20]),
            stake: Address([4; 20]),
        };
        let account = Account::from_bytes(&[5; 32]).unwrap();
        let by = By::sign(&account, &domains, BlobId([7; 32]));
        by.verify(&domains, BlobId([7; 32])).unwrap();
        assert!(by.verify(&domains, BlobId([8; 32])).unwrap_err().to_string().contains("was changed"));
        assert!(by.verify(&Domains { chain_id: 2, ..domains }, BlobId([7; 32])).is_err());
        assert!(By { account: Address([9; 20]), ..by }.verify(&domains, BlobId([7; 32])).is_err());
        let body = Export(BlobId([7; 32])).encode();
        assert_eq!(Export::decode(&body), Ok(Export(BlobId([7; 32]))));
        assert!(Export::decode(&body[1..]).is_err());
    }
}
