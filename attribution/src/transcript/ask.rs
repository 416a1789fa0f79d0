//! Asking a node for the sealed transcript of one of its answers (class `checked`), and what it says to that.
//!
//! ```text
//! checker, or client                      node
//! TranscriptAsk (node, epoch, receipt, exchange key), signed by its account -->
//!          <-------------------- Shown (sealed transcript, wrap for that key), or Withheld (why)
//! ```
//! The signature says whose the exchange key is: whoever was drawn is an account, and that account signed the key it reads with. So no node takes a key on
//! anybody else's word, none is announced or kept, and who records the question and asks again is sent what it cannot open. That the account was drawn is the chain's word:
//! the asked node draws by beacon and operators itself.
//!
//! Size: 92 bytes and a signature there; some 10 kB, 141 bytes of seal and wrap among them, back.

use serde::{Deserialize, Serialize};
use types::{
    encoding::{Body, Contract, DecodeError, Document, Reader, Writer},
    id::{Address, ExchangeKey, Hash32},
    key::{Domains, Signed, recover},
    quote::Class,
    receipt::Receipt,
};

use super::{
    sealed::{OpenError, open},
    wrap::{ExchangeSecret, Wrap},
};
use crate::bundle::Bundle;

/// Asks for the transcript of a receipt. No contract reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TranscriptAsk {
    /// Who is asked: the receipt's node.
    pub node: Address,
    /// The epoch under whose root the receipt stands. Of a client, whose receipt may stand under none yet, it is not looked at.
    pub epoch: u64,
    /// The receipt's hash.
    pub receipt: Hash32,
    /// What the transcript's key is to be wrapped for.
    pub reader: ExchangeKey,
}

impl Document for TranscriptAsk {
    const NAME: &'static str = "TranscriptAsk";
    const CONTRACT: Contract = Contract::Settlement;

    fn encode(&self) -> Vec<u8> {
        Writer::new().address(self.node).u64(self.epoch).hash(self.receipt).bytes(&self.reader.0).finish()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let (node, epoch, receipt) = (r.address("node")?, r.u64("epoch")?, r.hash("receipt")?);
        let reader = ExchangeKey(r.hash("exchange key")?.0);
        r.finish().map(|()| Self { node, epoch, receipt, reader })
    }
}

/// What a reader is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The sealed transcript ([`super::sealed`]).
    pub sealed: Body,
    /// Its key, for who asked.
    pub wrap: Wrap,
}

impl Shown {
    /// The bundle of `receipt`, checked to be its text.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn read(&self, reader: &ExchangeSecret, receipt: &Signed<Receipt>, domains: &Domains) -> Result<Bundle, OpenError> {
        open(&self.sealed.0, &self.wrap, reader, receipt, domains)
    }
}

/// Why a node shows no transcript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Withheld {
    /// Another node is asked.
    #[error("{asked} is asked, this is {own}")]
    OtherNode {
        /// Whom the question names.
        asked: Address,
        /// Who was sent it.
        own: Address,
    },
    /// The question is signed by nobody.
    #[error("the question's signature is no account's")]
    Signature,
    /// No key.
    #[error("{0} is no exchange key that anything can be wrapped for")]
    Key(ExchangeKey),
    /// No such receipt.
    #[error("no receipt {receipt} of this node stands under its root of epoch {epoch}")]
    Unknown {
        /// Asked for.
        epoch: u64,
        /// Asked for.
        receipt: Hash32,
    },
    /// The class says otherwise: an open answer is shown to whoever asks for the epoch's transcripts, of a sealed one nothing is kept.
    #[error("the answer is of class {0:?}: sealed for checkers are those of class Checked alone")]
    Class(Class),
    /// The epoch's beacon is not stored, or this node has not read it yet.
    #[error("epoch {0} has no beacon yet: nobody is drawn, ask again when it is stored")]
    NoBeacon(u64),
    /// Not drawn.
    #[error("{account} is not drawn to check receipt {receipt} of epoch {epoch}")]
    NotDrawn {
        /// Who signed the question.
        account: Address,
        /// The epoch.
        epoch: u64,
        /// The receipt.
        receipt: Hash32,
    },
    /// Too late.
    #[error("transcripts of epoch {epoch} were kept until {until} s of the chain's time, when its payout was final")]
    Past {
        /// The epoch.
        epoch: u64,
        /// Seconds since 1970.
        until: u64,
    },
    /// It should be there.
    #[error("this node has the transcript of receipt {0} no more")]
    Gone(Hash32),
    /// The chain was not read.
    #[error("this node has not read the chain yet: ask again in a moment")]
    NotReady,
}

/// Who signed the question, if it is put to `own`.
///
/// # Errors
/// [`Withheld::OtherNode`], [`Withheld::Signature`].
pub fn asker(asked: &Signed<TranscriptAsk>, own: Address, domains: &Domains) -> Result<Address, Withheld> {
    if asked.document.node != own {
        return Err(Withheld::OtherNode { asked: asked.document.node, own });
    }
    recover(domains, &asked.document, &asked.signature).map_err(|_| Withheld::Signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_bytes_that_the_protocol_names() {
        let asked =
            TranscriptAsk { node: Address([0xaa; 20]), epoch: 0x0102, receipt: Hash32([0xbb; 32]), reader: ExchangeKey([0xcc; 32]) };
        let body = asked.encode();
        assert_eq!(hex::encode(&body), format!("{}0000000000000102{}{}", "aa".repeat(20), "bb".repeat(32), "cc".repeat(32)));
        assert_eq!(TranscriptAsk::decode(&body), Ok(asked));
        assert!((0..body.len()).all(|len| TranscriptAsk::decode(&body[..len]).is_err()));
        assert!(TranscriptAsk::decode(&[&body[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_question_speaks_for_who_signed_it_to_the_node_that_it_names() {
        let (account, sample) = (crate::sample::account(9), crate::sample::sample());
        let domains = sample.bundle.domains;
        let own = sample.node.address();
        let asked = TranscriptAsk { node: own, epoch: 3, receipt: Hash32([1; 32]), reader: ExchangeSecret::of(&account).public() };
        let mut signed = Signed::new(&account, &domains, asked);
        assert_eq!(asker(&signed, own, &domains), Ok(account.address()));
        let other = Address([4; 20]);
        assert_eq!(asker(&signed, other, &domains), Err(Withheld::OtherNode { asked: own, own: other }));
        assert_ne!(asker(&signed, own, &Domains { chain_id: 1, ..domains }), Ok(account.address()));
        signed.document.reader.0[0] ^= 1;
        assert_ne!(asker(&signed, own, &domains), Ok(account.address()), "a key put in its place speaks for nobody");
        signed.signature.0[64] = 9;
        assert_eq!(asker(&signed, own, &domains), Err(Withheld::Signature));
    }
}
