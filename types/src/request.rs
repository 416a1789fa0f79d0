//! Requests: what a client signs once per answer, naming no node (P4).

use serde::{Deserialize, Serialize};

use crate::{
    amount::Amount,
    encoding::{Contract, DecodeError, Document, Reader, Writer},
    id::{Address, Hash32},
    key::Signed,
    merkle::keccak,
    options::{self, OPTIONS_BYTES_MAX, Options},
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

impl SamplingRule {
    /// Always the likeliest token.
    pub const GREEDY: Self = Self { temperature_milli: 0, top_k: 0, top_p_ppm: 0 };
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
    /// Hash of the options beyond these three ([`Options::digest`]); zero if there are none.
    #[serde(default)]
    pub options: Hash32,
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

    /// All that is asked of sampling: this request's own three fields, and what `bytes`, which came beside it, say of the rest. Ranges are
    /// [`Options::check`]'s.
    ///
    /// # Errors
    /// [`AskedError`] unless the bytes are the one encoding that the request names.
    pub fn asked(&self, bytes: &[u8]) -> Result<Options, AskedError> {
        match (self.options, bytes.is_empty()) {
            (Hash32::ZERO, true) => return Ok(self.sampling.into()),
            (Hash32::ZERO, false) => return Err(AskedError::Unasked),
            (named, true) => return Err(AskedError::Missing { named }),
            _ if bytes.len() > OPTIONS_BYTES_MAX => return Err(AskedError::TooLong { got: bytes.len() }),
            _ => {}
        }
        let got = options::hash(bytes);
        if got != self.options {
            return Err(AskedError::Hash { got, named: self.options });
        }
        let asked = Options::decode(bytes)?;
        if asked.sampling() != self.sampling {
            return Err(AskedError::Sampling { got: asked.sampling(), signed: self.sampling });
        }
        // One request has one form: what its own fields say needs no hash.
        if asked.is_plain() { Err(AskedError::Plain) } else { Ok(asked) }
    }
}

/// Why bytes are not the options that a request names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskedError {
    /// There are some and there should be none.
    #[error("the request names no options and some came with it: leave them out, or sign their hash")]
    Unasked,
    /// There are none.
    #[error("the request names options with hash {named} and none came with it")]
    Missing {
        /// What is named.
        named: Hash32,
    },
    /// More than any options take.
    #[error("options of {got} bytes, at most {OPTIONS_BYTES_MAX} are read")]
    TooLong {
        /// How many came.
        got: usize,
    },
    /// Others than those signed for.
    #[error("the options have hash {got}, the request names {named}")]
    Hash {
        /// Of what came.
        got: Hash32,
        /// What is named.
        named: Hash32,
    },
    /// Named, and no options.
    #[error("the options are malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// Two answers to one question.
    #[error("the options say {got:?}, the request {signed:?}: they must be the same")]
    Sampling {
        /// What the options say.
        got: SamplingRule,
        /// What the request says.
        signed: SamplingRule,
    },
    /// Nothing beyond the request's own fields.
    #[error("the options say no more than the request's own fields: leave them out, with a hash of zero")]
    Plain,
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
            .hash(self.options)
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
            options: r.hash("options")?,
            prompt_root: r.hash("prompt root")?,
            tokens_max: r.u32("tokens max")?,
            spending_limit: r.amount("spending limit")?,
        };
        r.finish().map(|()| request)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A request for `options`, with whatever hash they have.
    fn request(options: &Options) -> Request {
        Request {
            client: Address([1; 20]),
            nonce: 2,
            manifest: Hash32([3; 32]),
            rate_in_max: Amount(4),
            rate_out_max: Amount(5),
            profile: Profile::Exact,
            class: Class::Open,
            sampling: options.sampling(),
            options: options.digest(),
            prompt_root: Hash32([6; 32]),
            tokens_max: 7,
            spending_limit: Amount(8),
        }
    }

    fn warm() -> Options {
        Options { temperature_milli: 700, min_p_ppm: 50_000, stop: vec!["\n\n".into()], ..Options::default() }
    }

    #[test]
    fn a_body_has_the_size_the_protocol_states_and_names_its_options_behind_top_p() {
        let body = request(&warm()).encode();
        assert_eq!(body.len(), 190);
        assert_eq!(body[106..138], warm().digest().0);
        assert_eq!(Request::decode(&body), Ok(request(&warm())));
    }

    #[test]
    fn a_request_is_read_with_the_options_it_names_and_no_others() {
        let (asked, bytes) = (request(&warm()), warm().encode());
        assert_eq!(asked.asked(&bytes), Ok(warm()));
        assert_eq!(asked.asked(&[]), Err(AskedError::Missing { named: warm().digest() }));
        let other = Options { min_p_ppm: 50_001, ..warm() };
        assert_eq!(asked.asked(&other.encode()), Err(AskedError::Hash { got: other.digest(), named: warm().digest() }));
        assert_eq!(asked.asked(&vec![0; OPTIONS_BYTES_MAX + 1]), Err(AskedError::TooLong { got: OPTIONS_BYTES_MAX + 1 }));
        let plain = Options { temperature_milli: 700, ..Options::default() };
        assert_eq!(request(&plain).asked(&[]), Ok(plain.clone()));
        assert_eq!(request(&plain).asked(&plain.encode()), Err(AskedError::Unasked));
    }

    #[test]
    fn what_is_named_must_be_options_that_agree_with_the_request_and_say_more() {
        let named =
            |bytes: &[u8], sampling: SamplingRule| Request { options: options::hash(bytes), sampling, ..request(&warm()) }.asked(bytes);
        let bytes = warm().encode();
        assert!(matches!(named(&bytes[..bytes.len() - 1], warm().sampling()), Err(AskedError::Malformed(_))));
        let hot = SamplingRule { temperature_milli: 701, ..warm().sampling() };
        assert_eq!(named(&bytes, hot), Err(AskedError::Sampling { got: warm().sampling(), signed: hot }));
        assert_eq!(named(&Options::default().encode(), SamplingRule::GREEDY), Err(AskedError::Plain));
    }

    #[test]
    fn a_request_of_before_there_were_options_is_read_as_one_without() {
        let mut old = serde_json::to_value(request(&Options::default())).unwrap();
        old.as_object_mut().unwrap().remove("options").unwrap();
        assert_eq!(serde_json::from_value::<Request>(old).unwrap(), request(&Options::default()));
    }

    proptest! {
        #[test]
        fn hostile_options_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
            prop_assert_eq!(request(&Options::default()).asked(&bytes), Err(AskedError::Unasked));
            let is_hash = matches!(request(&warm()).asked(&bytes), Err(AskedError::Hash { .. }));
            prop_assert!(is_hash);
            // Even if somebody signs for them.
            let _ = Request { options: options::hash(&bytes), ..request(&warm()) }.asked(&bytes);
        }

        #[test]
        fn a_changed_byte_of_options_is_refused(at in any::<prop::sample::Index>(), by in 1..=255_u8) {
            let mut bytes = warm().encode();
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            let is_hash = matches!(request(&warm()).asked(&bytes), Err(AskedError::Hash { .. }));
            prop_assert!(is_hash);
        }
    }
}
