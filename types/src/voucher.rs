//! Lanes, vouchers and credit notes: a client's cumulative promise to one node, and the node's to lower it again (P4).

use serde::{Deserialize, Serialize};

use crate::{
    amount::Amount,
    encoding::{Contract, DecodeError, Document, Reader, Writer},
    id::{Address, Hash32},
};

/// One payer-node payment line, opened by the payer's signature alone; the chain learns of it with the first collect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lane {
    /// Who pays.
    pub payer: Address,
    /// Who is paid.
    pub node: Address,
    /// Most that may ever be collected.
    pub cap: Amount,
    /// Last block in which it may be collected.
    pub expiry: u64,
    /// Makes lanes between the same two distinct.
    pub nonce: u64,
}

impl Lane {
    /// The lane's id: keccak of its body.
    pub fn id(&self) -> Hash32 {
        self.hash()
    }
}

impl Document for Lane {
    const NAME: &'static str = "Lane";
    const CONTRACT: Contract = Contract::Escrow;

    fn encode(&self) -> Vec<u8> {
        Writer::new().address(self.payer).address(self.node).amount(self.cap).u64(self.expiry).u64(self.nonce).finish()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let lane = Self {
            payer: r.address("payer")?,
            node: r.address("node")?,
            cap: r.amount("cap")?,
            expiry: r.u64("expiry")?,
            nonce: r.u64("nonce")?,
        };
        r.finish().map(|()| lane)
    }
}

/// The promise: so many tokens of this answer were received, so much may be collected on the lane in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Voucher {
    /// Lane id.
    pub lane: Hash32,
    /// Request id.
    pub request: Hash32,
    /// Attempt number: 0 for the first node, one more after each failover.
    pub attempt: u16,
    /// Hash of the quote accepted.
    pub quote: Hash32,
    /// Output tokens that earlier attempts delivered.
    pub first_token: u32,
    /// Input tokens: prompt and what earlier attempts delivered.
    pub tokens_in: u32,
    /// Output tokens received in this attempt.
    pub tokens_out: u32,
    /// keccak of those token ids.
    pub token_ids: Hash32,
    /// Cumulative amount of the lane before this answer.
    pub base: Amount,
    /// Cumulative amount of the lane including this answer so far.
    pub cumulative: Amount,
}

impl Document for Voucher {
    const NAME: &'static str = "Voucher";
    const CONTRACT: Contract = Contract::Escrow;

    fn encode(&self) -> Vec<u8> {
        Writer::new()
            .hash(self.lane)
            .hash(self.request)
            .u16(self.attempt)
            .hash(self.quote)
            .u32(self.first_token)
            .u32(self.tokens_in)
            .u32(self.tokens_out)
            .hash(self.token_ids)
            .amount(self.base)
            .amount(self.cumulative)
            .finish()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let voucher = Self {
            lane: r.hash("lane")?,
            request: r.hash("request")?,
            attempt: r.u16("attempt")?,
            quote: r.hash("quote")?,
            first_token: r.u32("first token")?,
            tokens_in: r.u32("tokens in")?,
            tokens_out: r.u32("tokens out")?,
            token_ids: r.hash("token ids")?,
            base: r.amount("base")?,
            cumulative: r.amount("cumulative")?,
        };
        r.finish().map(|()| voucher)
    }
}

/// A node's promise to give back part of an answer's fee with money of its own: the payer claims it at the escrow, the node or its stake pays. A lane never falls by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreditNote {
    /// Lane id.
    pub lane: Hash32,
    /// Request id of the credited answer.
    pub request: Hash32,
    /// Cumulative amount of the lane after that answer.
    pub cumulative: Amount,
    /// What is credited; at most `cumulative`.
    pub amount: Amount,
    /// Last block in which it may be claimed from the node's stake.
    pub expiry: u64,
}

impl Document for CreditNote {
    const NAME: &'static str = "CreditNote";
    const CONTRACT: Contract = Contract::Escrow;

    fn encode(&self) -> Vec<u8> {
        Writer::new().hash(self.lane).hash(self.request).amount(self.cumulative).amount(self.amount).u64(self.expiry).finish()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let note = Self {
            lane: r.hash("lane")?,
            request: r.hash("request")?,
            cumulative: r.amount("cumulative")?,
            amount: r.amount("amount")?,
            expiry: r.u64("expiry")?,
        };
        r.finish().map(|()| note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credit_note_is_104_bytes_and_comes_back() {
        let note = CreditNote { lane: Hash32([1; 32]), request: Hash32([2; 32]), cumulative: Amount(9), amount: Amount(4), expiry: 77 };
        let body = note.encode();
        assert_eq!((body.len(), CreditNote::decode(&body)), (104, Ok(note)));
        assert!(CreditNote::decode(&body[..103]).is_err() && CreditNote::decode(&[body, vec![0]].concat()).is_err());
    }
}
