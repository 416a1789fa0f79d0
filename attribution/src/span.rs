//! Verbatim attribution: which runs of an answer stand in whose documents, and what they weigh (PROTOCOL section 6).
//!
//! [`attribute`] is a function of index, parameters, prompt and answer alone: two nodes with the same four give the same receipt. Messages: none.
//! Work: one search per unmasked word (a few microseconds each), an automaton over the prompt's words, n log n for the choice.
//!
//! What the words of the rule mean here:
//! - a span or mask is *word-bounded* in the answer: from the start of a word to the end of a word;
//! - a span *matches* where its bytes stand from a word start of a document on; in the document they may end inside a longer word;
//! - a mask is bounded by words in the message of the prompt too.

mod automaton;
mod choice;
mod mask;

use std::ops::Range;

use types::{
    receipt::{MASKS_MAX, Mask, SPANS_MAX, Span},
    text::{self, WINDOW},
};

use crate::{
    index::{Holder, Index},
    parameters::Parameters,
};

pub use choice::DELIMITERS;

/// Longest answer that is attributed.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Longest prompt that is attributed: its automaton takes at most some 60 bytes per byte while it is used.
pub const PROMPT_BYTES_MAX: usize = 256 << 10;

/// A word of an answer and its weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Its bytes in the answer.
    pub range: Range<usize>,
    /// Its weight in 1/256 bit, masked or not.
    pub weight: u32,
}

/// What attribution finds in one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribution {
    /// Chosen spans, ascending by start, without overlap.
    pub spans: Vec<Span>,
    /// What the prompt already held, ascending by start.
    pub masks: Vec<Mask>,
    /// W: weight of all unmasked words.
    pub weight_total: u64,
    /// Every word of the answer.
    pub words: Vec<Word>,
}

/// What a run of words weighs: the sum of its words' weights, cut to what a receipt can state. Runs rank by this everywhere, in the choice as in proofs, so that a
/// receipt shows its own order: of runs that are cut the earlier, then the longer one ranks before, as of any that are equally heavy.
pub(crate) fn weight_of(words: &[Word]) -> u32 {
    words.iter().fold(0, |sum, word| word.weight.saturating_add(sum))
}

/// Why an answer cannot be attributed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// Too long an answer.
    #[error("the answer has {0} bytes, at most {ANSWER_BYTES_MAX} are attributed: ask for fewer tokens")]
    AnswerTooLong(usize),
    /// Too long a prompt.
    #[error("the prompt has {0} bytes, at most {PROMPT_BYTES_MAX} are compared with the answer: shorten it")]
    PromptTooLong(usize),
    /// Prompt bytes are canonical messages between role and zero bytes.
    #[error("the prompt bytes are not UTF-8 at byte {0}: make them from canonical messages")]
    Prompt(usize),
    /// Control characters are in no canonical text.
    #[error("the answer holds a control character at byte {0}: bring it into canonical form first")]
    NotCanonical(usize),
    /// What was found is not there when it is looked for again.
    #[error("the index has changed under the search: check its segments, and build those anew that are damaged")]
    IndexChanged,
    /// More than a receipt holds.
    #[error("{got} {what} in one answer, a receipt holds {max}: ask for fewer tokens")]
    TooMany {
        /// Spans or masks.
        what: &'static str,
        /// How many.
        got: usize,
        /// How many fit.
        max: usize,
    },
}

/// The words of an answer with their weights.
pub fn weigh(parameters: &Parameters, answer: &str) -> Vec<Word> {
    text::words(answer).into_iter().map(|range| Word { weight: parameters.weight(&answer[range.clone()]), range }).collect()
}

/// Attributes `answer` (canonical text) to the documents of `index`, given the prompt in its hashed form (P3).
///
/// # Errors
/// [`AttributeError`].
pub fn attribute(index: &Index, parameters: &Parameters, prompt: &[u8], answer: &str) -> Result<Attribution, AttributeError> {
    let Masked { words, masks, covered, weight_total } = mask_answer(parameters, prompt, answer)?;
    let chosen = chosen(index, parameters, answer, &words, &covered);
    if chosen.len() > SPANS_MAX {
        return Err(AttributeError::TooMany { what: "spans", got: chosen.len(), max: SPANS_MAX });
    }
    let bytes: Vec<Range<usize>> = chosen.iter().map(|run| words[run.start].range.start..words[run.end - 1].range.end).collect();
    // As the searches before, all at once.
    let holders = index.holders(&bytes.iter().map(|bytes| &answer.as_bytes()[bytes.clone()]).collect::<Vec<_>>());
    let found = chosen.into_iter().zip(bytes).zip(holders);
    let spans = found.map(|((run, bytes), holder)| span(bytes, &words[run], holder)).collect::<Result<_, _>>()?;
    Ok(Attribution { spans, masks, weight_total, words })
}

/// The runs of an answer's words that the rule chooses where `covered` tells which words are masked: word numbers, ascending.
pub(crate) fn chosen(index: &Index, parameters: &Parameters, answer: &str, words: &[Word], covered: &[bool]) -> Vec<Range<usize>> {
    choice::choose(words, candidates(index, answer, words, covered), least(parameters))
}

/// Every maximal run of whole words of the answer that stands in the index and holds no delimiter, whatever masks cover, as word numbers: what
/// [`attribute`] chooses from where there are no masks.
pub(crate) fn maximal_runs(index: &Index, answer: &str, words: &[Word]) -> Vec<Range<usize>> {
    candidates(index, answer, words, &vec![false; words.len()])
}

/// Every maximal run of unmasked words that stands in the index and holds no delimiter, as word numbers.
pub(crate) fn candidates(index: &Index, answer: &str, words: &[Word], covered: &[bool]) -> Vec<Range<usize>> {
    // All searches at once: they wait for memory together.
    let open: Vec<usize> = (0..words.len()).filter(|word| !covered[*word]).collect();
    let starts: Vec<usize> = open.iter().map(|word| words[*word].range.start).collect();
    let mut longest = vec![0; words.len()];
    for (word, bytes) in open.into_iter().zip(index.longest_all(answer, &starts)) {
        longest[word] = usize::from(bytes);
    }
    let pieces = choice::pieces(answer, words, covered);
    pieces.into_iter().flat_map(|piece| choice::maximal(words, piece, |word| longest[word])).collect()
}

/// The part of attribution that needs no index.
pub(crate) struct Masked {
    pub(crate) words: Vec<Word>,
    pub(crate) masks: Vec<Mask>,
    /// For each word, whether a mask covers it.
    pub(crate) covered: Vec<bool>,
    pub(crate) weight_total: u64,
}

pub(crate) fn mask_answer(parameters: &Parameters, prompt: &[u8], answer: &str) -> Result<Masked, AttributeError> {
    check_size(prompt, answer)?;
    let control = answer.bytes().position(|b| b < b' ' && b != b'\t' && b != b'\n');
    control.map_or(Ok(()), |at| Err(AttributeError::NotCanonical(at)))?;
    let masked = mask_any(parameters, prompt, answer)?;
    if masked.masks.len() > MASKS_MAX {
        return Err(AttributeError::TooMany { what: "masks", got: masked.masks.len(), max: MASKS_MAX });
    }
    Ok(masked)
}

/// What [`mask_answer`] finds, of any answer that was signed: also where control characters stand in it, or it shares more runs with its prompt than a receipt has masks. No
/// honest node signs such a receipt, so nobody who looks for what is wrong with one may stop there.
pub(crate) fn mask_any(parameters: &Parameters, prompt: &[u8], answer: &str) -> Result<Masked, AttributeError> {
    check_size(prompt, answer)?;
    let prompt = std::str::from_utf8(prompt).map_err(|e| AttributeError::Prompt(e.valid_up_to()))?;
    let words = weigh(parameters, answer);
    let masks = mask::masks(prompt, answer, &words, usize::from(parameters.m).max(1));
    let covered = mask::covered(&words, &masks);
    let weight_total = words.iter().zip(&covered).filter(|(_, covered)| !**covered).map(|(word, _)| u64::from(word.weight)).sum();
    Ok(Masked { words, masks, covered, weight_total })
}

fn least(parameters: &Parameters) -> choice::Least {
    choice::Least { words: parameters.m.into(), weight: parameters.theta }
}

fn check_size(prompt: &[u8], answer: &str) -> Result<(), AttributeError> {
    if answer.len() > ANSWER_BYTES_MAX {
        return Err(AttributeError::AnswerTooLong(answer.len()));
    }
    if prompt.len() > PROMPT_BYTES_MAX {
        return Err(AttributeError::PromptTooLong(prompt.len()));
    }
    Ok(())
}

fn span(bytes: Range<usize>, words: &[Word], holder: Option<Holder>) -> Result<Span, AttributeError> {
    // A part of a matching run, cut at words, stands in the same place, unless the index lies in a file that has changed.
    let holder = holder.ok_or(AttributeError::IndexChanged)?;
    Ok(Span {
        start: u32::try_from(bytes.start).expect("answers are bounded"),
        length: u16::try_from(bytes.len()).expect("spans are bounded by the window"),
        datanet: holder.datanet,
        position: holder.position,
        weight: weight_of(words),
        payee: holder.payee,
    })
}

const _: () = assert!(WINDOW <= u16::MAX as usize);

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits 64 bits")
}
