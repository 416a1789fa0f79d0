//! F1, the false span: a receipt claims bytes at a place where others stand. What is found here is what `FraudVerifier` opens, mode by mode.
//!
//! A proof is at most four leaves and their openings: about 2.5 kB at a billion bytes of text.

use types::{
    encoding::Document as _,
    id::Hash32,
    key::SignatureError,
    merkle::Tree,
    receipt::Span,
    text::{LEAF_STRIDE, WINDOW},
};

use crate::{
    answer::{answer_leaves, answer_tree},
    bundle::Bundle,
    index::{Index, ReadError},
    parameters::Parameters,
    span::{Word, weigh},
};

pub use types::proof::Shown;

/// Why a span is false, hence which openings prove it; the codes are the contract's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Empty, or longer than the window. Nothing is opened.
    Length = 0,
    /// It ends beyond the answer: the head of the answer root shows it, here with the last leaf.
    AnswerEnd = 1,
    /// It names a Datanet that the index lacks: the head of the index root shows it, here with the last leaf.
    DatanetIndex = 2,
    /// It ends beyond its Datanet: the Datanet's leaf shows it.
    DatanetEnd = 3,
    /// The bytes differ, or the text ends inside the span.
    Bytes = 4,
}

/// The proof that one span of a receipt is false.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FalseSpan {
    /// The receipt's canonical body.
    pub receipt: Vec<u8>,
    /// The node's signature over it.
    pub signature: types::key::Signed65,
    /// Number of the span.
    pub span: u16,
    /// Why it is false.
    pub mode: Mode,
    /// Digest under the head of the root concerned, in the two modes that need the head alone; else zero.
    pub top: Hash32,
    /// In the answer.
    pub answer: Shown,
    /// In the index.
    pub datanet: Shown,
    /// In the Datanet.
    pub segment: Shown,
    /// In the segment's text.
    pub text: Shown,
}

/// Why nothing can be proved with what is at hand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// Nobody answers for the receipt.
    #[error("the receipt proves nothing against anybody: {0}")]
    Signature(#[from] SignatureError),
    /// The index at hand is damaged.
    #[error("the index at hand cannot be opened: {0}")]
    Read(#[from] ReadError),
    /// Another index.
    #[error(
        "the receipt names index root {expected}, the index at hand has {got}: build the index of the versions that its manifest declares"
    )]
    Index {
        /// The receipt's.
        expected: Hash32,
        /// The one at hand.
        got: Hash32,
    },
    /// The committed leaves are not those of the text at hand, and no span is false in a way that shows without them.
    #[error(
        "the receipt names answer root {expected}, the answer, salt and word weights at hand give {got}: the answer cannot be opened against it \
         (false by the text at hand: spans {spans:?})"
    )]
    Answer {
        /// The receipt's.
        expected: Hash32,
        /// The one at hand.
        got: Hash32,
        /// Spans that would be false if this text were the committed one.
        spans: Vec<u16>,
    },
    /// Bytes differ, but in private Datanets, and no span is false in a way that shows elsewhere.
    #[error(
        "spans {0:?} do not say what stands at their places, which lie in private Datanets: no contract reads salted leaves, so nothing proves it on the chain"
    )]
    Private(Vec<u16>),
    /// Parameters that are not built in, and no span is false in a way that shows without them.
    #[error(
        "the receipt names parameters {0}, known is 1: the answer's leaves cannot be made, so only spans that are false without them show"
    )]
    Parameters(u32),
}

/// The proofs against a receipt's false spans: none for an honest receipt.
///
/// An answer root over other words' weights, another text or unknown parameters does not hide a span that is false by its length, its Datanet or its
/// place alone: those are proved without opening the answer.
///
/// # Errors
/// [`FaultError`] if bundle and index do not let anything be opened, or not all that is needed to say of a span that it stands: an empty list is of a search that
/// looked at every span.
pub fn find_false_spans(bundle: &Bundle, index: &Index) -> Result<Vec<FalseSpan>, FaultError> {
    let receipt = &bundle.receipt.document;
    bundle.receipt.verify(&bundle.domains, receipt.node)?;
    if index.root() != receipt.index {
        return Err(FaultError::Index { expected: receipt.index, got: index.root() });
    }
    let parameters = Parameters::builtin(receipt.parameters);
    let answer = parameters.map(|parameters| Answer::new(&bundle.answer, bundle.answer_salt, parameters));
    let stands = answer.as_ref().is_some_and(|answer| answer.tree.root() == receipt.answer_root);
    let case = Case { bundle, index, answer: answer.as_ref().filter(|_| stands) };
    let (mut proofs, mut spans, mut hidden, mut unread) = (Vec::new(), Vec::new(), Vec::new(), None);
    for (span, number) in receipt.spans.iter().zip(0..) {
        match case.judge(span, number) {
            Judged::Stands => {}
            Judged::False(proof) => proofs.push(*proof),
            Judged::Unopened => spans.push(number),
            Judged::Private => hidden.push(number),
            Judged::Unread(error) => unread = unread.or(Some(error)),
        }
    }
    match (answer, unread) {
        _ if !proofs.is_empty() => Ok(proofs),
        (_, Some(error)) => Err(error.into()),
        _ if !hidden.is_empty() => Err(FaultError::Private(hidden)),
        _ if stands => Ok(proofs),
        (Some(answer), None) => Err(FaultError::Answer { expected: receipt.answer_root, got: answer.tree.root(), spans }),
        (None, None) => Err(FaultError::Parameters(receipt.parameters)),
    }
}

/// The answer's leaves as they ought to be committed.
pub(crate) struct Answer {
    pub(crate) words: Vec<Word>,
    leaves: Vec<Vec<u8>>,
    tree: Tree,
}

impl Answer {
    pub(crate) fn new(answer: &str, salt: Hash32, parameters: &Parameters) -> Self {
        let words = weigh(parameters, answer);
        let leaves = answer_leaves(answer, &words, salt);
        let tree = answer_tree(answer, &words, salt);
        Self { words, leaves, tree }
    }

    pub(crate) fn root(&self) -> Hash32 {
        self.tree.root()
    }

    pub(crate) const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Leaf `place` and its opening; nothing of a leaf beyond the answer.
    pub(crate) fn show(&self, place: usize) -> Shown {
        let shown = |leaf: &Vec<u8>| Some(Shown { leaf: leaf.clone(), opening: self.tree.open(as_u64(place))? });
        self.leaves.get(place).and_then(shown).unwrap_or_else(Shown::nothing)
    }
}

struct Case<'a> {
    bundle: &'a Bundle,
    index: &'a Index,
    /// Absent where it does not lead to the receipt's answer root.
    answer: Option<&'a Answer>,
}

/// What is said of one span.
enum Judged {
    Stands,
    False(Box<FalseSpan>),
    /// False, but only by an answer that cannot be opened.
    Unopened,
    /// False by what stands in a private Datanet.
    Private,
    /// Nobody knows: its text in the index at hand does not lead to the root any more.
    Unread(ReadError),
}

impl Case<'_> {
    fn judge(&self, span: &Span, number: u16) -> Judged {
        let Ok(start) = usize::try_from(span.start) else { return Judged::Unopened };
        let (length, mut proof) = (usize::from(span.length), Box::new(self.empty(number)));
        if length == 0 || length > WINDOW {
            proof.mode = Mode::Length;
            return Judged::False(proof);
        }
        let Some(datanet) = self.index.open_datanet(span.datanet) else {
            proof.mode = Mode::DatanetIndex;
            let last = u8::try_from(self.index.datanets().len().saturating_sub(1)).unwrap_or(u8::MAX);
            proof.datanet = self.index.open_datanet(last).map_or_else(Shown::nothing, Shown::from);
            proof.top = self.index.top();
            return Judged::False(proof);
        };
        let ends = span.position.saturating_add(u64::from(span.length)) > datanet.leaf.bytes;
        proof.datanet = Shown::from(datanet);
        if ends {
            proof.mode = Mode::DatanetEnd;
            return Judged::False(proof);
        }
        if start + length > self.bundle.answer.len() {
            let Some(answer) = self.answer else { return Judged::Unopened };
            proof.mode = Mode::AnswerEnd;
            proof.datanet = Shown::nothing();
            proof.answer = answer.show(answer.leaves.len().saturating_sub(1));
            proof.top = answer.tree.top();
            return Judged::False(proof);
        }
        self.bytes(span, start..start + length, proof)
    }

    /// Opens both sides if they differ.
    fn bytes(&self, span: &Span, bytes: std::ops::Range<usize>, mut proof: Box<FalseSpan>) -> Judged {
        let Some((segment, text)) = self.index.open_text(span.datanet, span.position) else {
            let (datanet, position) = (span.datanet, span.position);
            let unread = self.index.show_passage(datanet, position).err();
            return Judged::Unread(unread.unwrap_or(ReadError::Nowhere { datanet, position }));
        };
        let offset = span.position - segment.leaf.start;
        let within = usize::try_from(offset % as_u64(LEAF_STRIDE)).expect("below 64");
        let is_private = self.index.datanets().get(usize::from(span.datanet)).is_some_and(|datanet| datanet.is_private());
        let stands = text.leaf.text(is_private).and_then(|text| text.get(within..within + bytes.len()));
        if stands == Some(&self.bundle.answer.as_bytes()[bytes.clone()]) {
            return Judged::Stands;
        }
        if is_private {
            return Judged::Private;
        }
        let Some(answer) = self.answer else { return Judged::Unopened };
        proof.answer = answer.show(bytes.start / LEAF_STRIDE);
        proof.segment = Shown::from(segment);
        proof.text = Shown::from(text);
        Judged::False(proof)
    }

    fn empty(&self, span: u16) -> FalseSpan {
        FalseSpan {
            receipt: self.bundle.receipt.document.encode(),
            signature: self.bundle.receipt.signature,
            span,
            mode: Mode::Bytes,
            top: Hash32::ZERO,
            answer: Shown::nothing(),
            datanet: Shown::nothing(),
            segment: Shown::nothing(),
            text: Shown::nothing(),
        }
    }
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits 64 bits")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::{key::Signed, merkle::keccak};

    use super::*;
    use crate::{
        answer::answer_root,
        sample::{ANSWER, Sample, sample},
    };

    fn with_span(sample: &Sample, change: impl FnOnce(&mut Span)) -> Bundle {
        let mut bundle = sample.bundle.clone();
        change(&mut bundle.receipt.document.spans[0]);
        bundle.receipt = Signed::new(&sample.node, &bundle.domains, bundle.receipt.document);
        bundle
    }

    /// What the contract does with a proof, from the receipt's roots alone.
    fn convicts(bundle: &Bundle, proof: &FalseSpan) -> bool {
        let receipt = &bundle.receipt.document;
        let span = &receipt.spans[usize::from(proof.span)];
        let root = |shown: &Shown| shown.opening.root(&shown.leaf);
        let sealed =
            |shown: &Shown| keccak(&[&[3], &shown.opening.leaves.to_be_bytes(), &shown.opening.byte_length.to_be_bytes(), &proof.top.0]);
        let (start, length) = (span.start as usize, usize::from(span.length));
        match proof.mode {
            Mode::Length => length == 0 || length > 256,
            Mode::AnswerEnd => sealed(&proof.answer) == receipt.answer_root && (start + length) as u64 > proof.answer.opening.byte_length,
            Mode::DatanetIndex => sealed(&proof.datanet) == receipt.index && u64::from(span.datanet) >= proof.datanet.opening.leaves,
            Mode::DatanetEnd | Mode::Bytes => {
                assert_eq!(root(&proof.datanet), Some(receipt.index));
                assert_eq!(proof.datanet.opening.index, u64::from(span.datanet));
                let field = |leaf: &[u8], at: usize| u64::from_be_bytes(leaf[at..at + 8].try_into().unwrap());
                let ends = span.position + u64::from(span.length) > field(&proof.datanet.leaf, 12);
                if proof.mode == Mode::DatanetEnd {
                    return ends;
                }
                assert!(!ends);
                assert_eq!(root(&proof.answer), Some(receipt.answer_root));
                assert_eq!(proof.answer.opening.index, u64::from(span.start) / 64);
                assert_eq!(root(&proof.segment).unwrap().0, proof.datanet.leaf[20..52]);
                assert_eq!(root(&proof.text).unwrap().0, proof.segment.leaf[..32]);
                let offset = usize::try_from(span.position - field(&proof.segment.leaf, 96)).unwrap();
                assert_eq!(proof.text.opening.index, offset as u64 / 64);
                let text = &proof.answer.leaf[41 + 7 * usize::from(proof.answer.leaf[40])..];
                text.get(start % 64..start % 64 + length) != proof.text.leaf.get(offset % 64..offset % 64 + length)
            }
        }
    }

    #[cfg(feature = "disk")]
    #[test]
    fn a_span_whose_text_has_changed_under_the_index_is_an_error_and_no_empty_list() {
        use std::sync::Arc;

        use crate::index::{Bytes, DatanetIndex, HEADER_BYTES, Segment};

        let sample = sample();
        let [first, _] = sample.bundle.receipt.document.spans[..] else { panic!("two spans") };
        let honest = &sample.index.datanets()[usize::from(first.datanet)];
        let mut bytes = honest.segments()[0].to_bytes().to_vec();
        bytes[HEADER_BYTES + usize::try_from(first.position).unwrap()] ^= 1;
        let segment = Segment::read(Bytes::Memory(bytes)).unwrap();
        let changed = Arc::new(DatanetIndex::new(honest.version(), vec![segment]).unwrap());
        let index = Index::new(vec![changed, Arc::clone(&sample.index.datanets()[1])]).unwrap();
        assert_eq!((first.datanet, index.root()), (0, sample.index.root()), "nobody looked at the text");
        let unread = find_false_spans(&sample.bundle, &index);
        assert!(matches!(unread, Err(FaultError::Read(ReadError::Changed { datanet: 0, .. }))), "{unread:?}");
        // What is proved without that text is proved all the same.
        let lied = with_span(&sample, |span| span.length = 300);
        assert_eq!(find_false_spans(&lied, &index).unwrap().len(), 1);
    }

    #[test]
    fn each_way_to_be_false_is_proved_in_its_mode() {
        let sample = sample();
        assert_eq!(find_false_spans(&sample.bundle, &sample.index), Ok(vec![]));
        let check = |mode: Mode, change: &dyn Fn(&mut Span)| {
            let bundle = with_span(&sample, change);
            let found = find_false_spans(&bundle, &sample.index).unwrap();
            assert_eq!(found.iter().map(|proof| (proof.mode, proof.span)).collect::<Vec<_>>(), [(mode, 0)]);
            assert!(convicts(&bundle, &found[0]));
        };
        check(Mode::Length, &|span| span.length = 0);
        check(Mode::Length, &|span| span.length = 257);
        check(Mode::AnswerEnd, &|span| span.start = u32::try_from(ANSWER.len()).unwrap() - 3);
        check(Mode::DatanetIndex, &|span| span.datanet = 2);
        check(Mode::DatanetEnd, &|span| span.position = 1 << 39);
        check(Mode::Bytes, &|span| span.position += 1);
        check(Mode::Bytes, &|span| span.length += 9);
        check(Mode::Bytes, &|span| (span.datanet, span.position) = (1, 0));
    }

    /// The sample with its text or weights replaced, committed to and signed by the node; spans and openings stay as they were.
    fn with_answer(sample: &Sample, answer: &str, reweigh: impl Fn(&mut Word)) -> Bundle {
        let mut bundle = Bundle { answer: answer.to_owned(), ..sample.bundle.clone() };
        let mut words = weigh(Parameters::builtin(1).unwrap(), answer);
        words.iter_mut().for_each(reweigh);
        bundle.receipt.document.answer_root = answer_root(answer, &words, bundle.answer_salt);
        bundle.receipt = Signed::new(&sample.node, &bundle.domains, bundle.receipt.document);
        bundle
    }

    #[test]
    fn one_changed_byte_of_a_committed_answer_makes_its_span_false_and_no_other() {
        let sample = sample();
        let spans = sample.bundle.receipt.document.spans.clone();
        for (number, span) in spans.iter().enumerate() {
            for at in [span.start, span.start + u32::from(span.length) / 2, span.start + u32::from(span.length) - 1] {
                let mut answer = ANSWER.as_bytes().to_vec();
                answer[at as usize] ^= 1;
                let bundle = with_answer(&sample, std::str::from_utf8(&answer).unwrap(), |_| {});
                let found = find_false_spans(&bundle, &sample.index).unwrap();
                assert_eq!(
                    found.iter().map(|proof| (proof.mode, usize::from(proof.span))).collect::<Vec<_>>(),
                    [(Mode::Bytes, number)],
                    "{at}"
                );
                assert!(convicts(&bundle, &found[0]));
            }
        }
    }

    #[test]
    fn openings_of_another_document_hide_nothing_and_accuse_nobody() {
        let sample = sample();
        let mut swapped = sample.bundle.clone();
        swapped.openings.swap(0, 1);
        assert_eq!(find_false_spans(&swapped, &sample.index), Ok(vec![]), "what the bundle shows is not what the receipt says");
        assert!(crate::bundle::verify(&swapped).is_err());
        let forged = with_span(&sample, |span| span.position = 0);
        for openings in [sample.bundle.openings.clone(), swapped.openings, vec![]] {
            let found = find_false_spans(&Bundle { openings, ..forged.clone() }, &sample.index).unwrap();
            assert_eq!(found.iter().map(|proof| proof.mode).collect::<Vec<_>>(), [Mode::Bytes]);
        }
    }

    #[test]
    fn false_weights_in_the_answer_root_hide_no_span_that_is_false_without_it() {
        let sample = sample();
        let honest = with_answer(&sample, ANSWER, |word| word.weight += 1);
        let signed = |change: &dyn Fn(&mut Bundle)| {
            let mut bundle = honest.clone();
            change(&mut bundle);
            bundle.receipt = Signed::new(&sample.node, &bundle.domains, bundle.receipt.document);
            bundle
        };
        for (mode, change) in [
            (Mode::Length, (|span| span.length = 0) as fn(&mut Span)),
            (Mode::DatanetIndex, |span| span.datanet = 2),
            (Mode::DatanetEnd, |span| span.position = 1 << 39),
        ] {
            for parameters in [1, 2] {
                let bundle = signed(&|bundle| {
                    change(&mut bundle.receipt.document.spans[1]);
                    bundle.receipt.document.parameters = parameters;
                });
                let found = find_false_spans(&bundle, &sample.index).unwrap();
                assert_eq!(found.iter().map(|proof| (proof.mode, proof.span)).collect::<Vec<_>>(), [(mode, 1)]);
                assert!(convicts(&bundle, &found[0]));
            }
        }
        let moved = signed(&|bundle| bundle.receipt.document.spans[1].position += 1);
        assert!(matches!(find_false_spans(&moved, &sample.index), Err(FaultError::Answer { spans, .. }) if spans == [1]));
        assert!(matches!(find_false_spans(&honest, &sample.index), Err(FaultError::Answer { spans, .. }) if spans.is_empty()));
        let unknown = signed(&|bundle| bundle.receipt.document.parameters = 2);
        assert_eq!(find_false_spans(&unknown, &sample.index), Err(FaultError::Parameters(2)));
    }

    #[test]
    fn foreign_indexes_answers_and_signatures_prove_nothing() {
        let sample = sample();
        let other = Index::new(vec![]).unwrap();
        assert!(matches!(find_false_spans(&sample.bundle, &other), Err(FaultError::Index { .. })));
        let bundle = Bundle { answer: "Another answer.".into(), ..sample.bundle.clone() };
        assert!(matches!(find_false_spans(&bundle, &sample.index), Err(FaultError::Answer { .. })));
        let mut bundle = sample.bundle.clone();
        bundle.receipt.document.spans[0].position += 1;
        assert!(matches!(find_false_spans(&bundle, &sample.index), Err(FaultError::Signature(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn a_span_is_proved_false_exactly_if_its_bytes_are_not_there(start in 0..300_u32, length in 0..300_u16, datanet in 0..3_u8, position in 0..400_u64) {
            let sample = sample();
            let bundle = with_span(&sample, |span| *span = Span { start, length, datanet, position, ..*span });
            let answer = bundle.answer.as_bytes().get(start as usize..start as usize + usize::from(length));
            let stands = sample.index.datanets().get(usize::from(datanet)).is_some_and(|datanet| {
                let text = datanet.segments()[0].text();
                let at = usize::try_from(position).unwrap();
                answer.is_some() && text.get(at..at + usize::from(length)) == answer
            });
            let found = find_false_spans(&bundle, &sample.index).unwrap();
            prop_assert_eq!(found.is_empty(), stands && (1..=256).contains(&length));
            prop_assert!(found.iter().all(|proof| convicts(&bundle, proof)));
        }
    }
}
