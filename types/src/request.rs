//! Requests: what a client signs once per answer, naming no node (P4).

use serde::{Deserialize, Serialize};

use crate::{
    amount::Amount,
    encoding::{Contract, DecodeError, Document, Reader, Writer},
    id::{Address, Hash32},
    key::Signed,
    merkle::keccak,
    quote::{Class, Profile},
};

/// How tokens are chosen, in integers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingRule {
    /// Temperature in thousandths; 0 takes the likeliest token.
    pub temperature_milli: u32,
    /// Most candidates; 0 means all.
    pub top_k: u32,
    /// Probability mass of the candidates in millionths; 0 and 1,000,000 mean all.
    pub top_p_ppm: u32,
}

/// A client's request. Signed once, valid at any node: a retry elsewhere is the same request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Who asks and pays.
    pub client: Address,
    /// Strictly rising per client.
    pub nonce: u64,
    /// What shall answer.
    pub manifest: Hash32,
    /// Most wei per 1,000 input tokens.
    pub rate_in_max: Amount,
    /// Most wei per 1,000 output tokens.
    pub rate_out_max: Amount,
    /// Numeric rules.
    pub profile: Profile,
    /// Privacy class.
    pub class: Class,
    /// Sampling.
    pub sampling: SamplingRule,
    /// Salted root of the prompt bytes.
    pub prompt_root: Hash32,
    /// Most output tokens, over all attempts.
    pub tokens_max: u32,
    /// Most that may be spent, over all attempts.
    pub spending_limit: Amount,
}

impl Request {
    /// keccak(client, nonce).
    pub fn id(&self) -> Hash32 {
        keccak(&[self.client.0.as_slice(), &self.nonce.to_be_bytes()])
    }
}

impl Signed<Request> {
    /// Seed of the sampler: fixed by the client's signature, so no node can draw again.
    pub fn seed(&self) -> Hash32 {
        keccak(&[b"seed".as_slice(), &self.document.id().0, &self.signature.0[..64]])
    }
}

impl Document for Request {
    const NAME: &'static str = "Request";
    const CONTRACT: Contract = Contract::Settlement;

    fn encode(&self) -> Vec<u8> {
        Writer::new()
            .address(self.client)
            .u64(self.nonce)
            .hash(self.manifest)
            .amount(self.rate_in_max)
            .amount(self.rate_out_max)
            .u8(self.profile.code())
            .u8(self.class.code())
            .u32(self.sampling.temperature_milli)
            .u32(self.sampling.top_k)
            .u32(self.sampling.top_p_ppm)
            .hash(self.prompt_root)
            .u32(self.tokens_max)
            .amount(self.spending_limit)
            .finish()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let request = Self {
            client: r.address("client")?,
            nonce: r.u64("nonce")?,
            manifest: r.hash("manifest")?,
            rate_in_max: r.amount("rate in max")?,
            rate_out_max: r.amount("rate out max")?,
            profile: Profile::read(&mut r)?,
            class: Class::read(&mut r)?,
            sampling: SamplingRule { temperature_milli: r.u32("temperature")?, top_k: r.u32("top-k")?, top_p_ppm: r.u32("top-p")? },
            prompt_root: r.hash("prompt root")?,
            tokens_max: r.u32("tokens max")?,
            spending_limit: r.amount("spending limit")?,
        };
        r.finish().map(|()| request)
    }
}
