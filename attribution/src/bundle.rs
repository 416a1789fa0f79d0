//! The evidence of one answer in one file, and its check without any other source (PROTOCOL section 5).
//!
//! [`verify`] recomputes every derived value from the bundle alone: signatures, ids, roots, counts, options, fee and split, masks, word weights, and for
//! each span its text, weight, place and payee. What only the whole index can show, an omitted or dominated span, is [`verify_full`]'s.
//! Of a private Datanet a bundle shows where a span stands and whom it pays, and not its text: that the words are there is for who holds a grant, by
//! [`verify_full`] with an index that the grant lets it build. [`Verified::unseen`] says which spans that concerns.
//! Cost: five signature recoveries, five hashed bytes per byte of prompt and answer, about 40 hashes per span.

mod place;
mod spans;
mod terms;
mod wording;

use serde::{Deserialize, Serialize};
use types::{
    amount::Amount,
    encoding::{Body, Document as _, read_list},
    fingerprint::{FINGERPRINTS_MAX, Fingerprint},
    id::{Address, AssetVersion, Hash32},
    key::{Domains, Signed},
    manifest::Manifest,
    quote::Quote,
    receipt::{Finding, Receipt, Span},
    request::Request,
    split::Part,
    voucher::{Lane, Voucher},
};

use crate::{
    index::{Index, ReadError, SpanOpenings},
    parameters::Parameters,
    prompt::Message,
    span::Word,
};

/// Longest bundle that is read: 4,096 spans with deep openings take about 20 MiB.
pub const BUNDLE_BYTES_MAX: usize = 32 << 20;

/// Everything that speaks for one answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// The deployment whose contracts the signatures name.
    pub domains: Domains,
    /// The node's statement.
    pub receipt: Signed<Receipt>,
    /// What the client asked.
    pub request: Signed<Request>,
    /// Options of sampling, encoded, whose hash the request names; nothing if it names none. Whoever executes the answer again needs them.
    #[serde(default, skip_serializing_if = "is_none")]
    pub options: Body,
    /// What the node offered.
    pub quote: Signed<Quote>,
    /// The line the answer was paid on.
    pub lane: Signed<Lane>,
    /// The session key that signed lane and voucher for the payer, and the request unless the payer did; nothing if the payer signed all. That the payer
    /// lets it sign is the escrow's word (`sessionOf`), and so is what its vouchers are good for: no bundle shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Address>,
    /// The client's last promise for this answer.
    pub voucher: Signed<Voucher>,
    /// What answered.
    pub manifest: Manifest,
    /// The conversation that was answered.
    pub messages: Vec<Message>,
    /// Salt of the prompt root.
    pub prompt_salt: Hash32,
    /// The answer: canonical text of the vouched tokens, up to the stop string that ended it if one did.
    pub answer: String,
    /// Salt of the answer root.
    pub answer_salt: Hash32,
    /// Output tokens of earlier attempts that this one goes on from: their number is the receipt's first token, and the token-id hash that both
    /// sides signed covers them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub continued: Vec<u32>,
    /// The vouched tokens of this attempt.
    pub token_ids: Vec<u32>,
    /// What leads from each span to the index root, without the text of private Datanets.
    pub openings: Vec<SpanOpenings>,
    /// Fingerprints of the activations that the receipt's root names; none in a profile that needs none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "read_list::<_, _, FINGERPRINTS_MAX>")]
    pub fingerprints: Vec<Fingerprint>,
}

fn is_none(options: &Body) -> bool {
    options.0.is_empty()
}

impl Bundle {
    /// What is left of it without question and answer: what settles the answer and proves what was billed, and nothing that was said. The salted roots stay in the receipt.
    #[must_use]
    pub fn without_text(&self) -> Self {
        Self {
            options: Body::default(),
            messages: Vec::new(),
            prompt_salt: Hash32::ZERO,
            answer: String::new(),
            answer_salt: Hash32::ZERO,
            continued: Vec::new(),
            token_ids: Vec::new(),
            openings: Vec::new(),
            fingerprints: Vec::new(),
            ..self.clone()
        }
    }

    /// Whether it is one without question and answer: each answer that is billed has a token.
    pub const fn is_without_text(&self) -> bool {
        self.token_ids.is_empty() && self.messages.is_empty()
    }

    /// Whose signature the request must bear: the session key's if it does bear it, else the client's own.
    pub fn request_signer(&self) -> Address {
        let session = self.session.filter(|session| self.request.verify(&self.domains, *session).is_ok());
        session.unwrap_or(self.request.document.client)
    }
}

/// Why bytes are no bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Too long to be one.
    #[error("the bundle has {0} bytes, at most {BUNDLE_BYTES_MAX} are read")]
    TooLong(usize),
    /// Not the JSON of a bundle.
    #[error("the file is no bundle: {place}{why}")]
    Json {
        /// The field concerned and a colon, for instance `receipt.document.spans[2].weight: `; empty for the file as a whole.
        place: String,
        /// What the reader said.
        why: String,
    },
}

impl Bundle {
    /// Reads a bundle; unknown and repeated keys are refused, lists stop at their bounds.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > BUNDLE_BYTES_MAX {
            return Err(BundleError::TooLong(bytes.len()));
        }
        serde_json::from_slice(bytes).map_err(|error| BundleError::Json { place: place::of(bytes, &error), why: error.to_string() })
    }

    /// The file's content.
    ///
    /// # Panics
    /// Never: plain data always has a JSON form.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data with string keys")
    }
}

/// A field that does not hold what the rest of the evidence says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct Fault {
    /// The field in plain words, for instance `span 2: weight`.
    pub field: String,
    /// What it holds and what was expected.
    pub problem: String,
    /// How a checker reports it.
    pub finding: Finding,
    /// Span, byte or token concerned; 0 where none is.
    pub position: u32,
}

/// All faults of a bundle, at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Faults(pub Vec<Fault>);

/// What a verified bundle establishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The receipt's hash.
    pub receipt: Hash32,
    /// The sampler's seed, fixed by the client's signature.
    pub seed: Hash32,
    /// The fee's parts; they sum to the fee.
    pub parts: Vec<(Part, Amount)>,
    /// The answer's words and weights.
    pub words: Vec<Word>,
    /// Numbers of the spans whose text lies in a private Datanet and was not looked at: place, weight and payee of each lead to the index root, that the words
    /// stand there is shown to grant holders.
    pub unseen: Vec<u32>,
}

/// What the base model's own tokenizer makes of a bundle's tokens and messages. Without the model file the text of the tokens and the count of
/// the prompt are what node and client signed, no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Canonical text of the receipt's tokens, up to a stop string.
    pub answer: String,
    /// Tokens of the messages under the model's template.
    pub prompt_tokens: u32,
}

/// Compares a bundle with what its tokens and messages read as.
///
/// # Errors
/// [`Faults`].
pub fn compare_reading(bundle: &Bundle, reading: &Reading) -> Result<(), Faults> {
    let mut faults = Collector::default();
    let receipt = &bundle.receipt.document;
    if reading.answer != bundle.answer {
        let equal = reading.answer.bytes().zip(bundle.answer.bytes()).take_while(|(a, b)| a == b).count();
        let problem = format!("is not the text of its token ids: they differ from byte {equal} on");
        faults.add(Finding::Text, u32::try_from(equal).unwrap_or(u32::MAX), "answer", problem);
    }
    let tokens_in = reading.prompt_tokens.saturating_add(receipt.first_token);
    faults.same(Finding::Token, "input tokens", &receipt.tokens_in, "prompt and earlier tokens are", &tokens_in);
    if faults.0.is_empty() { Ok(()) } else { Err(Faults(faults.0)) }
}

/// The assets a receipt names: those of its manifest, in its order.
pub fn assets(manifest: &Manifest) -> Vec<AssetVersion> {
    manifest.assets.iter().map(|asset| asset.version).collect()
}

/// What leads from each span to the root of `index`, fit for anybody: text of private Datanets is left out.
///
/// # Errors
/// [`ReadError`] for the first span that stands in no document, or in one that has changed under its root.
pub fn openings(index: &Index, spans: &[Span]) -> Result<Vec<SpanOpenings>, ReadError> {
    let for_anybody = |span: &Span| {
        let whole = index.open_span(span.datanet, span.position)?;
        let is_private = index.datanets().get(usize::from(span.datanet)).is_some_and(|datanet| datanet.is_private());
        Ok(if is_private { SpanOpenings { text: None, ..whole } } else { whole })
    };
    spans.iter().map(for_anybody).collect()
}

/// Checks a bundle from itself alone, under the built-in parameters that its receipt names.
///
/// # Errors
/// [`Faults`]: every field that contradicts the others, by name.
pub fn verify(bundle: &Bundle) -> Result<Verified, Faults> {
    match Parameters::builtin(bundle.receipt.document.parameters) {
        Some(parameters) => verify_under(bundle, parameters),
        None => {
            let mut faults = Collector::default();
            terms::check(bundle, &mut faults);
            faults.add(Finding::Attribution, 0, "parameter id", format!("is {}, known is 1", bundle.receipt.document.parameters));
            Err(Faults(faults.0))
        }
    }
}

/// [`verify`] under given parameters.
///
/// # Errors
/// [`Faults`].
pub fn verify_under(bundle: &Bundle, parameters: &Parameters) -> Result<Verified, Faults> {
    let mut faults = Collector::default();
    let parts = terms::check(bundle, &mut faults);
    let words = wording::check(bundle, parameters, &mut faults);
    match (parts, words) {
        (Some(parts), Some((words, unseen))) if faults.0.is_empty() => {
            Ok(Verified { receipt: bundle.receipt.document.hash(), seed: bundle.request.seed(), parts, words, unseen })
        }
        _ => Err(Faults(faults.0)),
    }
}

/// Checks a bundle and searches `index` anew: omitted, dominated and later-held spans show only here, and what stands in private Datanets.
///
/// # Errors
/// [`Faults`].
pub fn verify_full(bundle: &Bundle, index: &Index) -> Result<Verified, Faults> {
    let verified = verify(bundle)?;
    let parameters = Parameters::builtin(bundle.receipt.document.parameters).expect("a verified bundle names built-in parameters");
    search(bundle, parameters, index).map(|()| seen(verified))
}

/// The search found every span in the index, those of private Datanets too.
fn seen(verified: Verified) -> Verified {
    Verified { unseen: Vec::new(), ..verified }
}

/// [`verify_full`] under given parameters.
///
/// # Errors
/// [`Faults`].
pub fn verify_full_under(bundle: &Bundle, parameters: &Parameters, index: &Index) -> Result<Verified, Faults> {
    let verified = verify_under(bundle, parameters)?;
    search(bundle, parameters, index).map(|()| seen(verified))
}

fn search(bundle: &Bundle, parameters: &Parameters, index: &Index) -> Result<(), Faults> {
    let mut faults = Collector::default();
    spans::search(bundle, parameters, index, &mut faults);
    if faults.0.is_empty() { Ok(()) } else { Err(Faults(faults.0)) }
}

/// Faults found so far.
#[derive(Default)]
struct Collector(Vec<Fault>);

impl Collector {
    fn add(&mut self, finding: Finding, position: u32, field: impl Into<String>, problem: impl Into<String>) {
        self.0.push(Fault { field: field.into(), problem: problem.into(), finding, position });
    }

    /// `got` must equal `expected`, which `source` states.
    fn same<T: PartialEq + std::fmt::Debug>(&mut self, finding: Finding, field: &str, got: &T, source: &str, expected: &T) {
        if got != expected {
            self.add(finding, 0, field, format!("is {got:?}, {source} {expected:?}"));
        }
    }
}

#[cfg(test)]
mod tests;
