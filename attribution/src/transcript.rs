//! What a node shows of an answer beside its receipt (PROTOCOL section 4): everything to everybody where the client asked in the class `open`; in the class `checked` the
//! same, sealed ([`sealed`]) and wrapped ([`wrap`]) for its client and for those whom the chain drew to check it ([`ask`]); else nothing.
//!
//! A transcript is the answer's bundle: question, answer, salts and openings, so that whoever has it checks the receipt as the client can. It is asked for
//! by its receipt's place among its node's receipts of an epoch, a page at a time. A bundle is some 10 kB of JSON: about 25 in a page of [`PAGE_BYTES`].

pub mod ask;
pub mod sealed;
pub mod wrap;

use serde::{Deserialize, Serialize};
use types::{
    encoding::{Body, Document as _},
    id::Hash32,
    key::{Domains, Signed},
    quote::Class,
    receipt::Receipt,
    text::prompt_root,
};

use crate::{
    answer::answer_root,
    bundle::{Bundle, BundleError},
    message::REPLY_BYTES_MAX,
    parameters::Parameters,
    prompt::prompt_bytes,
    span::{ANSWER_BYTES_MAX, PROMPT_BYTES_MAX, weigh},
};

/// Transcripts of one page.
pub const TRANSCRIPTS_PAGE: usize = 64;
/// Bytes of one page: a peer that asks as often as it may is sent 10 MB a second. One that is longer goes alone.
pub const PAGE_BYTES: usize = 256 << 10;
/// Longest one: what a reply holds, less its own bytes.
const TRANSCRIPT_BYTES_MAX: usize = REPLY_BYTES_MAX - 64;

/// What is shown of the receipt at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transcript {
    /// Its bundle, as JSON.
    Open(Body),
    /// Nothing: its class is another, or the client signed for another.
    Closed,
    /// Nothing, though it is open: it has so many bytes, more than a reply holds.
    TooLong(u64),
}

/// Why a transcript tells nothing of its receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TranscriptError {
    /// None is shown.
    #[error("it is not shown, though the receipt's class is open")]
    Closed,
    /// None can be shown.
    #[error("it has {0} bytes, at most {TRANSCRIPT_BYTES_MAX} are sent")]
    TooLong(u64),
    /// Not a bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// That of another receipt.
    #[error("it speaks for receipt {got}, asked for was {expected}")]
    Foreign {
        /// Asked for.
        expected: Hash32,
        /// Shown.
        got: Hash32,
    },
    /// Another text than the receipt commits to.
    #[error("its {0} is not what the receipt commits to")]
    Text(&'static str),
}

impl Transcript {
    /// What anybody is shown of a bundle. Receipt, request and quote must all be open: a node that signs another class than its client did shows nothing.
    pub fn of(bundle: &Bundle) -> Self {
        let classes = [bundle.receipt.document.class, bundle.request.document.class, bundle.quote.document.class];
        if classes.iter().any(|class| *class != Class::Open) {
            return Self::Closed;
        }
        let bytes = serde_json::to_vec(bundle).expect("plain data with string keys");
        if bytes.len() > TRANSCRIPT_BYTES_MAX { Self::TooLong(as_u64(bytes.len())) } else { Self::Open(Body(bytes)) }
    }

    /// The bundle of `receipt`, which is open: that text and manifest are those committed to is checked, and nothing else of what it says.
    ///
    /// # Errors
    /// [`TranscriptError`].
    pub fn read(&self, receipt: &Signed<Receipt>, domains: &Domains) -> Result<Bundle, TranscriptError> {
        let bytes = match self {
            Self::Open(body) => &body.0,
            Self::Closed => return Err(TranscriptError::Closed),
            Self::TooLong(bytes) => return Err(TranscriptError::TooLong(*bytes)),
        };
        read(bytes, receipt, domains)
    }

    /// Bytes that it takes of a page, about.
    pub const fn size_bytes(&self) -> usize {
        match self {
            Self::Open(body) => body.0.len(),
            Self::Closed | Self::TooLong(_) => 1,
        }
    }
}

/// The bundle of `receipt` from its JSON.
fn read(bytes: &[u8], receipt: &Signed<Receipt>, domains: &Domains) -> Result<Bundle, TranscriptError> {
    let bundle = Bundle::from_json(bytes)?;
    if bundle.receipt != *receipt || bundle.domains != *domains {
        return Err(TranscriptError::Foreign { expected: receipt.document.hash(), got: bundle.receipt.document.hash() });
    }
    check(&bundle).map(|()| bundle)
}

/// Whether question, answer and manifest lead to the receipt's roots. Weights are part of the answer's root: a node that weighs falsely shows a text that does not
/// lead there, and its receipt is whoever's to question that has the leaves.
///
/// # Errors
/// [`TranscriptError::Text`].
pub fn check(bundle: &Bundle) -> Result<(), TranscriptError> {
    let receipt = &bundle.receipt.document;
    if bundle.manifest.root() != receipt.manifest {
        return Err(TranscriptError::Text("manifest"));
    }
    let prompt = prompt_bytes(&bundle.messages);
    if prompt.len() > PROMPT_BYTES_MAX || prompt_root(&prompt, bundle.prompt_salt) != receipt.prompt_root {
        return Err(TranscriptError::Text("question"));
    }
    let is_answer = |parameters| answer_root(&bundle.answer, &weigh(parameters, &bundle.answer), bundle.answer_salt) == receipt.answer_root;
    match Parameters::builtin(receipt.parameters) {
        Some(parameters) if bundle.answer.len() <= ANSWER_BYTES_MAX && is_answer(parameters) => Ok(()),
        _ => Err(TranscriptError::Text("answer")),
    }
}

/// The page that begins with the first of `bundles`, which are read one by one and no further than it takes.
///
/// # Errors
/// That of the source.
pub fn page<E>(bundles: impl Iterator<Item = Result<Bundle, E>>) -> Result<Vec<Transcript>, E> {
    let (mut page, mut bytes) = (Vec::new(), 0_usize);
    for bundle in bundles.take(TRANSCRIPTS_PAGE) {
        let next = Transcript::of(&bundle?);
        bytes = bytes.saturating_add(next.size_bytes());
        if bytes > PAGE_BYTES && !page.is_empty() {
            break;
        }
        page.push(next);
    }
    Ok(page)
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits 64 bits")
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::sample::{Sample, account, sample};

    fn open(sample: &Sample) -> Bundle {
        let mut bundle = sample.bundle.clone();
        bundle.receipt.document.class = Class::Open;
        bundle.request.document.class = Class::Open;
        bundle.quote.document.class = Class::Open;
        bundle
    }

    #[test]
    fn only_what_receipt_request_and_quote_all_call_open_is_shown() {
        let sample = sample();
        assert_eq!(Transcript::of(&sample.bundle), Transcript::Closed);
        let whole = open(&sample);
        let Transcript::Open(body) = Transcript::of(&whole) else { panic!("it is open") };
        assert_eq!(Bundle::from_json(&body.0).unwrap(), whole);
        let closed: [fn(&mut Bundle); 3] = [
            |bundle| bundle.receipt.document.class = Class::Checked,
            |bundle| bundle.request.document.class = Class::Checked,
            |bundle| bundle.quote.document.class = Class::Sealed,
        ];
        for close in closed {
            let mut bundle = whole.clone();
            close(&mut bundle);
            assert_eq!(Transcript::of(&bundle), Transcript::Closed);
        }
    }

    #[test]
    fn a_page_ends_before_it_is_too_large_and_never_without_a_transcript() {
        let sample = sample();
        let small = open(&sample);
        let large = Bundle { answer: "a".repeat(PAGE_BYTES), ..small.clone() };
        let pages = |bundles: Vec<Bundle>| page(bundles.into_iter().map(Ok::<_, Infallible>)).unwrap().len();
        assert_eq!(pages(vec![]), 0);
        assert_eq!(pages(vec![small.clone(), small.clone(), large.clone(), small.clone()]), 2);
        assert_eq!(pages(vec![large, small]), 1);
        assert_eq!(pages(vec![sample.bundle.clone(); TRANSCRIPTS_PAGE + 3]), TRANSCRIPTS_PAGE);
        let broken = page([Ok(sample.bundle), Err("the disk")].into_iter());
        assert_eq!(broken, Err("the disk"), "what cannot be read is no end");
    }

    #[test]
    fn what_is_not_the_receipts_own_text_is_refused_by_what_is_wrong_with_it() {
        let sample = sample();
        let mut bundle = open(&sample);
        bundle.receipt = Signed::new(&sample.node, &bundle.domains, bundle.receipt.document);
        let (receipt, domains) = (bundle.receipt.clone(), bundle.domains);
        assert_eq!(Transcript::of(&bundle).read(&receipt, &domains), Ok(bundle.clone()));
        let refused = |change: &dyn Fn(&mut Bundle)| {
            let mut other = bundle.clone();
            change(&mut other);
            Transcript::of(&other).read(&receipt, &domains).unwrap_err().to_string()
        };
        assert!(refused(&|bundle| bundle.answer.push('x')).contains("its answer is not"));
        assert!(refused(&|bundle| bundle.messages.truncate(1)).contains("its question is not"));
        assert!(refused(&|bundle| bundle.manifest.datanets.clear()).contains("its manifest is not"));
        assert!(refused(&|bundle| bundle.domains.chain_id += 1).contains("asked for was"));
        let other = Signed::new(&account(9), &domains, receipt.document.clone());
        assert!(refused(&|bundle| bundle.receipt = other.clone()).contains("asked for was"));
        let read = |transcript: Transcript| transcript.read(&receipt, &domains).unwrap_err().to_string();
        assert!(read(Transcript::Closed).contains("not shown"));
        assert!(read(Transcript::TooLong(9)).contains("9 bytes"));
        assert!(read(Transcript::Open(Body(b"{}".to_vec()))).contains("no bundle"));
    }
}
