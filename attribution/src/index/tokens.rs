//! Token mode: segments and searches over token ids instead of text, so that searchers of tokens can be asked the same questions.
//!
//! A token is written as a word of one length: a digit or a capital letter, then characters that stand in no word, six bits each. So no byte is
//! zero, each token starts a word and nothing else does, and bytes sort as ids do. A `u16` takes 3 bytes and a `u32` 6, so that the order, which
//! ends with 256 bytes, tells runs of 85 and of 42 tokens apart ([`Token::RUN_MAX`]); a longer one is refused by name. The array adds 4 bytes a token.
//!
//! Nothing of it can be committed: what the protocol signs is over bytes of text. [`TokenIndex`] shows no root, no leaf and no segment, and no
//! [`Index`](super::Index) is made of one.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use types::{
    id::Address,
    text::{WINDOW, text_root},
};

use super::{
    BuildError, Segment, Source,
    documents::ascending,
    segment::as_u64,
    statistics::{StatisticsError, groups},
};
use crate::ratio::Ratio;

/// First characters, ascending: sixteen are enough for four bits.
const LEADS: &[u8; 16] = b"0123456789ABCDEF";
/// The others, ascending: all of ASCII but zero, letters, digits and the last one.
const TAILS: [u8; 64] = tails();
/// Bits that one of them holds.
const TAIL_BITS: usize = 6;

const fn tails() -> [u8; 64] {
    let (mut tails, mut filled, mut byte) = ([0; 64], 0, 1);
    while byte < 0x7f_u8 {
        if !byte.is_ascii_alphanumeric() {
            tails[filled] = byte;
            filled += 1;
        }
        byte += 1;
    }
    assert!(filled == tails.len(), "as many as six bits tell apart");
    tails
}

mod sealed {
    /// Types whose codes sort as they do.
    pub trait Sealed {}
    impl Sealed for u16 {}
    impl Sealed for u32 {}
}

/// A token's id: `u16` or `u32`.
pub trait Token: Copy + Ord + fmt::Debug + Into<u32> + TryFrom<u32> + sealed::Sealed {
    /// Bytes of its code.
    const BYTES: usize;
    /// Tokens of the longest run that the order tells apart.
    const RUN_MAX: usize = WINDOW / Self::BYTES;
}

impl Token for u16 {
    const BYTES: usize = 3;
}

impl Token for u32 {
    const BYTES: usize = 6;
}

/// Why something cannot be indexed or asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Too long a run.
    #[error("a run of {got} tokens, at most {most} of this type are told apart: shorten it")]
    Run {
        /// Its tokens.
        got: usize,
        /// How many may be asked for.
        most: usize,
    },
    /// The context's end that stands somewhere may be longer than the order can tell.
    #[error("the last {0} tokens of the context stand in the index, and no longer run is told apart: shorten the context")]
    Suffix(usize),
    /// No tokens.
    #[error("document {0} has no token: leave it out")]
    Empty(usize),
    /// More than a segment takes.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Too many ways to go on.
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
    /// Not a code.
    #[error("byte {0} of the code is in no token's place: it was not written by token mode, or for another type")]
    Code(usize),
}

/// Appends the codes of `tokens`.
fn encode_into<T: Token>(text: &mut Vec<u8>, tokens: &[T]) {
    for token in tokens {
        let id: u32 = (*token).into();
        // Four bits and less are left for the first, six for the others: they fit their tables.
        let bits = |digit: usize| id.checked_shr(u32::try_from(TAIL_BITS * digit).unwrap_or(u32::MAX)).unwrap_or(0) as usize;
        text.push(LEADS[bits(T::BYTES - 1) % LEADS.len()]);
        text.extend((0..T::BYTES - 1).rev().map(|digit| TAILS[bits(digit) % TAILS.len()]));
    }
}

/// The code of a run: [`Token::BYTES`] bytes each.
pub fn encode<T: Token>(tokens: &[T]) -> Vec<u8> {
    let mut text = Vec::with_capacity(tokens.len() * T::BYTES);
    encode_into(&mut text, tokens);
    text
}

/// The run that has this code.
///
/// # Errors
/// [`TokenError::Code`] naming the byte.
pub fn decode<T: Token>(code: &[u8]) -> Result<Vec<T>, TokenError> {
    let token = |(number, code): (usize, &[u8])| {
        let wrong = |place: usize| TokenError::Code(number * T::BYTES + place);
        let mut id = 0_u64;
        for (place, byte) in code.iter().enumerate() {
            let table: &[u8] = if place == 0 { LEADS } else { &TAILS };
            id = id << TAIL_BITS | as_u64(table.binary_search(byte).map_err(|_| wrong(place))?);
        }
        if code.len() < T::BYTES {
            return Err(wrong(code.len()));
        }
        // What only a longer type has.
        u32::try_from(id).ok().and_then(|id| T::try_from(id).ok()).ok_or_else(|| wrong(0))
    };
    code.chunks(T::BYTES).enumerate().map(token).collect()
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenPlace {
    /// Number of its first token, counted through all documents.
    pub token: u64,
    /// Number of the document.
    pub document: u64,
}

/// What follows a context.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NextTokens<T: Ord> {
    /// How often the context stands.
    pub count: u64,
    /// How often each token follows.
    pub next: BTreeMap<T, u64>,
    /// How often a document ends behind it.
    pub ends: u64,
}

impl<T: Token> NextTokens<T> {
    /// Probability of a token, given the context.
    pub fn probability(&self, token: T) -> Ratio {
        Ratio::new(self.next.get(&token).copied().unwrap_or_default(), self.count)
    }
}

/// Documents of tokens that can be searched.
#[derive(Debug)]
pub struct TokenIndex<T> {
    parts: Vec<Part>,
    token: PhantomData<T>,
}

/// A segment, and what stands before it.
#[derive(Debug)]
struct Part {
    segment: Segment,
    documents_before: u64,
    tokens_before: u64,
}

impl Part {
    /// Tokens of it: each starts a word.
    fn tokens(&self) -> u64 {
        as_u64(self.segment.array().len())
    }
}

impl<T: Token> Default for TokenIndex<T> {
    fn default() -> Self {
        Self { parts: Vec::new(), token: PhantomData }
    }
}

impl<T: Token> TokenIndex<T> {
    /// Adds documents behind those that are there, as a segment of their own; none adds nothing.
    ///
    /// # Errors
    /// [`TokenError::Empty`], [`TokenError::Build`] if they do not fit a segment: a GiB of code.
    pub fn push<D: AsRef<[T]>>(&mut self, documents: &[D]) -> Result<(), TokenError> {
        if let Some(number) = documents.iter().position(|document| document.as_ref().is_empty()) {
            return Err(TokenError::Empty(number));
        }
        if documents.is_empty() {
            return Ok(());
        }
        let bytes = documents.iter().map(|document| document.as_ref().len() * T::BYTES + 1).sum();
        let mut text = Vec::with_capacity(bytes);
        for document in documents {
            encode_into(&mut text, document.as_ref());
            text.push(0);
        }
        let source = Source { contributor: Address::ZERO, block: 0, ordinal: 0, text_root: text_root(&text), text: &text };
        let segment = Segment::build(&[source], 0)?;
        self.parts.push(Part { segment, documents_before: self.documents(), tokens_before: self.tokens() });
        Ok(())
    }

    /// How many documents there are.
    pub fn documents(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.documents_before + as_u64(part.segment.documents().len()))
    }

    /// How many tokens there are.
    pub fn tokens(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.tokens_before + part.tokens())
    }

    /// A document; nothing past the last.
    pub fn document(&self, number: u64) -> Option<Vec<T>> {
        let part = &self.parts[self.parts.partition_point(|part| part.documents_before <= number).checked_sub(1)?];
        let row = part.segment.documents().get(usize::try_from(number - part.documents_before).ok()?)?;
        let code = part.segment.text().get(usize::try_from(row.start).ok()?..usize::try_from(row.end()).ok()?)?;
        decode(code).ok()
    }

    /// The code of a run that the order tells apart.
    fn code(run: &[T]) -> Result<Vec<u8>, TokenError> {
        if run.len() > T::RUN_MAX { Err(TokenError::Run { got: run.len(), most: T::RUN_MAX }) } else { Ok(encode(run)) }
    }

    /// How often `run` stands within a document; that of no tokens stands before each.
    ///
    /// # Errors
    /// [`TokenError::Run`] if it has more than [`Token::RUN_MAX`] tokens, as for every question below.
    pub fn count(&self, run: &[T]) -> Result<u64, TokenError> {
        let code = Self::code(run)?;
        Ok(self.parts.iter().map(|part| as_u64(part.segment.count(&code))).sum())
    }

    /// The first places of `run`, at most so many, ascending.
    ///
    /// # Errors
    /// [`TokenError::Run`].
    pub fn find(&self, run: &[T], at_most: usize) -> Result<Vec<TokenPlace>, TokenError> {
        let (code, mut places) = (Self::code(run)?, Vec::new());
        for part in &self.parts {
            let (ranks, left) = (part.segment.range(&code), at_most - places.len());
            if ranks.len() > left {
                places.extend(ascending(&part.segment, ranks).take(left).filter_map(|offset| part.place::<T>(offset)));
            } else {
                let first = places.len();
                places.extend(part.segment.array().slice(ranks).iter().filter_map(|offset| part.place::<T>(offset)));
                places[first..].sort_unstable();
            }
        }
        Ok(places)
    }

    /// Tokens of the longest beginning of `run` that stands somewhere.
    ///
    /// # Errors
    /// [`TokenError::Run`].
    pub fn longest(&self, run: &[T]) -> Result<usize, TokenError> {
        let code = Self::code(run)?;
        Ok(self.parts.iter().map(|part| part.segment.longest(&code)).max().unwrap_or(0) / T::BYTES)
    }

    /// What follows `context`: its n-grams' counts, each exact.
    ///
    /// # Errors
    /// [`TokenError::Run`] unless one token more is told apart; [`TokenError::Statistics`] if it goes on in more ways than are counted.
    pub fn next(&self, context: &[T]) -> Result<NextTokens<T>, TokenError> {
        if context.len() >= T::RUN_MAX {
            return Err(TokenError::Run { got: context.len(), most: T::RUN_MAX - 1 });
        }
        let code = encode(context);
        let mut found = NextTokens { count: 0, next: BTreeMap::new(), ends: 0 };
        let mut ways = 0;
        for part in &self.parts {
            groups(
                &part.segment,
                part.segment.range(&code),
                code.len(),
                &mut ways,
                |rest| &rest[..rest.len().min(T::BYTES)],
                |code, count| {
                    found.count += count;
                    match decode::<T>(code).unwrap_or_default().first() {
                        Some(token) => *found.next.entry(*token).or_default() += count,
                        None => found.ends += count,
                    }
                },
            )?;
        }
        Ok(found)
    }

    /// The longest end of `context` that stands somewhere: what the infinite-gram goes on from. Empty if there is none.
    ///
    /// # Errors
    /// [`TokenError::Suffix`] if the longest that is told apart with a token behind it stands, and the context is longer.
    pub fn suffix<'t>(&self, context: &'t [T]) -> Result<&'t [T], TokenError> {
        let most = context.len().min(T::RUN_MAX - 1);
        let end_of = |length: usize| &context[context.len() - length..];
        // Where an end stands, so do those within it.
        let (mut stands, mut open) = (0, most);
        while stands < open {
            let middle = open - (open - stands) / 2;
            if self.longest(end_of(middle))? == middle { stands = middle } else { open = middle - 1 }
        }
        if stands == most && most < context.len() { Err(TokenError::Suffix(most)) } else { Ok(end_of(stands)) }
    }

    /// What follows the longest end of `context` that stands somewhere, and the end's tokens: the infinite-gram (arXiv 2401.17377, section 3).
    ///
    /// # Errors
    /// [`TokenError::Suffix`], [`TokenError::Statistics`].
    pub fn next_infinite(&self, context: &[T]) -> Result<(usize, NextTokens<T>), TokenError> {
        let suffix = self.suffix(context)?;
        Ok((suffix.len(), self.next(suffix)?))
    }
}

impl Part {
    /// What stands at a place of the text, which holds a zero byte behind each document.
    fn place<T: Token>(&self, offset: u32) -> Option<TokenPlace> {
        let offset = u64::from(offset);
        let (document, _) = self.segment.document_at(offset)?;
        let document = as_u64(document);
        let token = offset.checked_sub(document)? / as_u64(T::BYTES);
        Some(TokenPlace { token: self.tokens_before + token, document: self.documents_before + document })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::text::word_starts;

    use super::*;

    fn index<T: Token>(parts: &[Vec<Vec<T>>]) -> TokenIndex<T> {
        let mut index = TokenIndex::default();
        parts.iter().for_each(|documents| index.push(documents).unwrap());
        index
    }

    /// Places of a run by reading all documents, with the token behind each.
    fn scanned<T: Token>(documents: &[Vec<T>], run: &[T]) -> Vec<(TokenPlace, Option<T>)> {
        let (mut found, mut before) = (Vec::new(), 0);
        for (tokens, document) in documents.iter().zip(0..) {
            let places = (0..tokens.len()).filter(|at| tokens[*at..].starts_with(run));
            found.extend(places.map(|at| (TokenPlace { token: before + as_u64(at), document }, tokens.get(at + run.len()).copied())));
            before += as_u64(tokens.len());
        }
        found
    }

    /// Every question of a run, answered by reading all documents.
    fn check<T: Token>(parts: &[Vec<Vec<T>>], run: &[T]) {
        let (index, documents) = (index(parts), parts.concat());
        let found = scanned(&documents, run);
        let places: Vec<TokenPlace> = found.iter().map(|(place, _)| *place).collect();
        assert_eq!(index.count(run), Ok(as_u64(places.len())), "{run:?}");
        for at_most in [0, 1, 3, usize::MAX] {
            assert_eq!(index.find(run, at_most).unwrap(), places[..places.len().min(at_most)], "{run:?}");
        }
        let mut next = NextTokens { count: as_u64(found.len()), next: BTreeMap::new(), ends: 0 };
        for (_, token) in &found {
            token.map_or_else(|| next.ends += 1, |token| *next.next.entry(token).or_default() += 1);
        }
        assert_eq!(index.next(run), Ok(next), "{run:?}");
        let longest = (0..=run.len()).rev().find(|length| !scanned(&documents, &run[..*length]).is_empty());
        assert_eq!(index.longest(run), Ok(longest.unwrap_or(0)), "{run:?}");
        let suffix = (0..=run.len()).find(|start| !scanned(&documents, &run[*start..]).is_empty()).unwrap_or(run.len());
        assert_eq!(index.suffix(run), Ok(&run[suffix..]), "{run:?}");
        assert_eq!(index.next_infinite(run).unwrap(), (run.len() - suffix, index.next(&run[suffix..]).unwrap()));
        for (number, document) in (0..).zip(&documents) {
            assert_eq!(index.document(number).as_ref(), Some(document));
        }
        assert_eq!((index.documents(), index.document(index.documents())), (as_u64(documents.len()), None));
        assert_eq!(index.tokens(), as_u64(documents.iter().map(Vec::len).sum()));
    }

    /// A few tokens, so that runs stand often, whose bytes differ in every place.
    fn few<T: Token>(number: u8) -> T {
        let ids = [0, 1, 63, 64, 255, 256, 4_095, 4_096, 65_534, 65_535, 0x0010_0000, 0x4000_0000, u32::MAX];
        let known: Vec<T> = ids.into_iter().filter_map(|id| T::try_from(id).ok()).collect();
        known[usize::from(number) % known.len()]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]
        #[test]
        fn every_answer_is_that_of_reading_all_documents(
            parts in proptest::collection::vec(proptest::collection::vec(proptest::collection::vec(0..6_u8, 1..12), 0..6), 0..3),
            wide in any::<bool>(), run in proptest::collection::vec(0..6_u8, 0..5), first in any::<u8>(),
        ) {
            let of = |numbers: &[u8]| numbers.iter().map(|number| number.wrapping_add(first)).collect::<Vec<_>>();
            if wide {
                let parts: Vec<Vec<Vec<u32>>> = parts.iter().map(|part| part.iter().map(|document| of(document).into_iter().map(few).collect()).collect()).collect();
                check(&parts, &of(&run).into_iter().map(few).collect::<Vec<_>>());
            } else {
                let parts: Vec<Vec<Vec<u16>>> = parts.iter().map(|part| part.iter().map(|document| of(document).into_iter().map(few).collect()).collect()).collect();
                check(&parts, &of(&run).into_iter().map(few).collect::<Vec<_>>());
            }
        }

        #[test]
        fn codes_sort_as_tokens_do_and_only_a_token_starts_a_word(a in proptest::collection::vec(any::<u32>(), 0..9), b in proptest::collection::vec(any::<u32>(), 0..9)) {
            let narrow = |tokens: &[u32]| tokens.iter().map(|token| u16::try_from(token % 65_536).unwrap()).collect::<Vec<_>>();
            prop_assert_eq!(encode(&a).cmp(&encode(&b)), a.cmp(&b));
            prop_assert_eq!(encode(&narrow(&a)).cmp(&encode(&narrow(&b))), narrow(&a).cmp(&narrow(&b)));
            prop_assert_eq!(decode::<u32>(&encode(&a)), Ok(a.clone()));
            let code = String::from_utf8(encode(&a)).unwrap();
            prop_assert!(word_starts(&code).eq((0..a.len()).map(|token| token * u32::BYTES)) && !code.contains('\0'));
        }

        #[test]
        fn bytes_that_are_no_code_are_refused(code in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(tokens) = decode::<u32>(&code) {
                prop_assert_eq!(encode(&tokens), code);
            } else if let Ok(tokens) = decode::<u16>(&code) {
                prop_assert_eq!(encode(&tokens), code);
            }
        }
    }

    #[test]
    fn each_of_all_narrow_tokens_has_a_code_of_its_own_in_their_order() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let code = encode(&all);
        assert!(code.chunks(u16::BYTES).is_sorted_by(|a, b| a < b));
        assert_eq!(decode::<u16>(&code), Ok(all));
        assert_eq!(
            (encode(&[0_u16]), encode(&[u16::MAX]), encode(&[u32::MAX])),
            (b"0\x01\x01".to_vec(), b"F~~".to_vec(), b"3~~~~~".to_vec())
        );
        // A first character that the type has no bits for, a digit inside, an end inside.
        let refused = [decode::<u32>(b"4\x01\x01\x01\x01\x01"), decode(b"0\x01\x01\x011\x01"), decode(b"0\x01\x01\x01\x01\x010\x01")];
        assert_eq!(refused, [Err(TokenError::Code(0)), Err(TokenError::Code(4)), Err(TokenError::Code(8))]);
    }

    #[test]
    fn the_longest_run_is_told_apart_and_a_longer_one_is_refused_by_its_length() {
        assert_eq!((u16::RUN_MAX, u32::RUN_MAX), (85, 42));
        let mut document = vec![7_u16; 300];
        document[84] = 8;
        let index = index(&[vec![document.clone()]]);
        assert_eq!((index.count(&document[..85]), index.longest(&document[..85])), (Ok(1), Ok(85)));
        assert_eq!(index.find(&document[85..170], 2).unwrap().iter().map(|place| place.token).collect::<Vec<_>>(), [85, 86]);
        let refused = TokenError::Run { got: 86, most: 85 };
        assert_eq!(refused.to_string(), "a run of 86 tokens, at most 85 of this type are told apart: shorten it");
        assert_eq!((index.count(&document[..86]), index.longest(&document[..86])), (Err(refused.clone()), Err(refused.clone())));
        assert_eq!(index.find(&document[..86], 1), Err(refused));
        assert_eq!(index.next(&document[..84]), Ok(NextTokens { count: 133, next: [(7, 131), (8, 1)].into(), ends: 1 }));
        assert_eq!(index.next(&document[..85]), Err(TokenError::Run { got: 85, most: 84 }));
        // Nothing says how far back the context goes on to stand.
        assert_eq!((index.suffix(&document[..84]), index.suffix(&document)), (Ok(&document[..84]), Err(TokenError::Suffix(84))));
        assert_eq!(index.suffix(&[9, 7, 8]), Ok(&[7, 8][..]));
    }

    #[test]
    fn a_document_without_tokens_is_named_and_an_index_without_documents_holds_nothing() {
        let mut empty = TokenIndex::<u32>::default();
        assert_eq!(empty.push(&[vec![1], vec![]]), Err(TokenError::Empty(1)));
        empty.push(&[[0_u32; 0]; 0]).unwrap();
        assert_eq!((empty.count(&[]), empty.count(&[1]), empty.longest(&[1]), empty.tokens()), (Ok(0), Ok(0), Ok(0), 0));
        assert_eq!(
            (empty.find(&[], 9), empty.next_infinite(&[1, 2]).unwrap()),
            (Ok(vec![]), (0, NextTokens { count: 0, next: BTreeMap::new(), ends: 0 }))
        );
    }
}
