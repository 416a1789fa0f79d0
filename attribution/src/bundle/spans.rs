//! Each span: its words, its weight, its text under the index root, its document, its payee.

use std::ops::Range;

use types::{
    receipt::{Finding, Span},
    text::{LEAF_STRIDE, WINDOW, is_single, is_word},
};

use super::{Bundle, Collector};
use crate::{
    index::{Index, Opened, SpanOpenings, TextLeaf},
    parameters::Parameters,
    prompt::prompt_bytes,
    span::{DELIMITERS, Masked, attribute, weight_of},
};

/// Checks every span against the answer and against its openings; the numbers of those whose text lies in a private Datanet and is not shown.
pub(super) fn check(bundle: &Bundle, parameters: &Parameters, found: &Masked, faults: &mut Collector) -> Vec<u32> {
    let mut unseen = Vec::new();
    let spans = &bundle.receipt.document.spans;
    if bundle.openings.len() != spans.len() {
        faults.add(Finding::Attribution, 0, "openings", format!("are {}, the receipt has {} spans", bundle.openings.len(), spans.len()));
    }
    let mut end = 0;
    for (number, span) in (0..).zip(spans) {
        let mut one = One { number, span, faults };
        if u64::from(span.start) < end {
            one.fault("start", format!("is {}, before the end of the span ahead of it at {end}", span.start));
        }
        end = end.max(u64::from(span.start) + u64::from(span.length));
        one.words(&bundle.answer, parameters, found);
        if let Some(opening) = usize::try_from(number).ok().and_then(|number| bundle.openings.get(number)) {
            unseen.extend(one.place(bundle, opening).then_some(number));
        }
    }
    unseen
}

/// One span under check.
struct One<'a> {
    number: u32,
    span: &'a Span,
    faults: &'a mut Collector,
}

impl One<'_> {
    fn fault(&mut self, field: &str, problem: String) {
        self.faults.add(Finding::Attribution, self.number, format!("span {}: {field}", self.number), problem);
    }

    fn bytes(&self) -> Range<usize> {
        let start = usize::try_from(self.span.start).expect("32 bits fit memory");
        start..start + usize::from(self.span.length)
    }

    fn words(&mut self, answer: &str, parameters: &Parameters, found: &Masked) {
        let bytes = self.bytes();
        if bytes.is_empty() || bytes.len() > WINDOW {
            self.fault("length", format!("is {}, expected 1 to {WINDOW}", bytes.len()));
        }
        let first = found.words.binary_search_by_key(&bytes.start, |word| word.range.start);
        let last = found.words.binary_search_by_key(&bytes.end, |word| word.range.end);
        let (first, last) = match (first, last) {
            (Ok(first), Ok(last)) if first <= last => (first, last),
            (Err(_), _) => return self.fault("start", format!("is {}, where no word of the answer starts", bytes.start)),
            _ => {
                return self
                    .fault("length", format!("is {}, which ends at byte {}, where no word of the answer ends", bytes.len(), bytes.end));
            }
        };
        let words = &found.words[first..=last];
        let weight = weight_of(words);
        if self.span.weight != weight {
            self.fault("weight", format!("is {}, recomputed {weight}", self.span.weight));
        }
        if weight < parameters.theta {
            self.fault("weight", format!("recomputed is {weight}, at least {} is paid", parameters.theta));
        }
        if words.len() < usize::from(parameters.m) {
            self.fault("length", format!("holds {} words, at least {} are paid", words.len(), parameters.m));
        }
        if found.covered[first..=last].contains(&true) {
            self.fault("start", format!("is {}: the span covers words that stand in the prompt", bytes.start));
        }
        if answer[bytes].contains(DELIMITERS) {
            self.fault("length", format!("is {}: the span reaches over a sentence's end", self.span.length));
        }
    }

    /// Whether the text lies in a private Datanet and is not shown.
    fn place(&mut self, bundle: &Bundle, opening: &SpanOpenings) -> bool {
        self.datanet(bundle, opening);
        let (segment, span) = (&opening.segment, self.span);
        let Some(is_private) = segment.root().and_then(|root| opening.datanet.leaf.kind(root)) else {
            self.fault("segment", "does not lead to the Datanet's segments root".to_owned());
            return false;
        };
        let Some(offset) = span.position.checked_sub(segment.leaf.start).filter(|offset| *offset < segment.leaf.length) else {
            self.fault(
                "position",
                format!("is {}, outside the segment shown ({} bytes from {})", span.position, segment.leaf.length, segment.leaf.start),
            );
            return false;
        };
        match &opening.text {
            Some(text) => self.text(bundle, opening, (text, is_private), offset),
            None if is_private => {}
            None => self.fault("text", "is not shown, though the Datanet is not private".to_owned()),
        }
        self.document(opening, is_private, offset);
        is_private && opening.text.is_none()
    }

    fn datanet(&mut self, bundle: &Bundle, opening: &SpanOpenings) {
        let (shown, span) = (&opening.datanet, self.span);
        let declared = &bundle.manifest.datanets;
        if shown.root() != Some(bundle.receipt.document.index) {
            self.fault("Datanet", "does not lead to the index root".to_owned());
        }
        if shown.opening.index != u64::from(span.datanet) {
            self.fault("Datanet", format!("is number {}, the opening shows number {}", span.datanet, shown.opening.index));
        }
        match declared.get(usize::from(span.datanet)) {
            Some(declared) if declared.version == shown.leaf.version => {}
            Some(declared) => {
                self.fault("Datanet", format!("is {} in the index, the manifest declares {}", shown.leaf.version, declared.version))
            }
            None => self.fault("Datanet", format!("is number {}, the manifest declares {}", span.datanet, declared.len())),
        }
    }

    fn text(&mut self, bundle: &Bundle, opening: &SpanOpenings, (leaf, is_private): (&Opened<TextLeaf>, bool), offset: u64) {
        let stride = u64::try_from(LEAF_STRIDE).expect("64");
        if leaf.root() != Some(opening.segment.leaf.text) {
            return self.fault("text", "shown does not lead to the segment's text root".to_owned());
        }
        if leaf.opening.index != offset / stride {
            return self.fault(
                "position",
                format!("is {}, which lies in text leaf {}, shown is leaf {}", self.span.position, offset / stride, leaf.opening.index),
            );
        }
        let Some(shown) = leaf.leaf.text(is_private) else {
            return self.fault("text", format!("shown is a leaf of {} bytes, which no text leaf of its Datanet has", leaf.leaf.0.len()));
        };
        let within = usize::try_from(offset % stride).expect("below 64");
        let answered = bundle.answer.as_bytes().get(self.bytes());
        if answered.is_none() || shown.get(within..within + usize::from(self.span.length)) != answered {
            self.fault("text", format!("at position {} is not what the answer says from byte {}", self.span.position, self.span.start));
        }
        if offset != opening.document.leaf.start && is_inside_word(shown, within) {
            self.fault("position", format!("is {}, inside a word of the document", self.span.position));
        }
    }

    fn document(&mut self, opening: &SpanOpenings, is_private: bool, offset: u64) {
        let row = &opening.document.leaf;
        if opening.document.root() != Some(opening.segment.leaf.documents) {
            return self.fault("document", "does not lead to the segment's document root".to_owned());
        }
        if offset < row.start || offset + u64::from(self.span.length) > row.end() {
            return self.fault(
                "document",
                format!("shown holds bytes {} to {} of the segment, the span stands at {offset}", row.start, row.end()),
            );
        }
        let payee = match &opening.head {
            None => row.payee,
            Some(head)
                if head.segment.root().and_then(|root| opening.datanet.leaf.kind(root)) == Some(is_private)
                    && head.document.root() == Some(head.segment.leaf.documents) =>
            {
                head.document.leaf.payee
            }
            Some(_) => return self.fault("document", "of its cluster shown first does not lead to the Datanet".to_owned()),
        };
        // In a Datanet's first segment the row's number is its place; in later ones only the whole index knows it.
        let (head, segment) = opening.head.as_ref().map_or((&opening.document, &opening.segment), |head| (&head.document, &head.segment));
        if head.leaf.cluster != row.cluster || (segment.leaf.start == 0 && head.opening.index != row.cluster) {
            self.fault("document", format!("belongs to the cluster of row {}, shown is row {}", row.cluster, head.opening.index));
        }
        if payee != self.span.payee {
            self.fault("payee", format!("is {}, the document's is {payee}", self.span.payee));
        }
    }
}

/// Whether a word runs over byte `at` of a leaf, as far as the leaf shows what stands before it.
fn is_inside_word(leaf: &[u8], at: usize) -> bool {
    let before =
        (1..=4.min(at)).find_map(|length| std::str::from_utf8(&leaf[at - length..at]).ok()).and_then(|text| text.chars().next_back());
    let here = (1..=4).find_map(|length| std::str::from_utf8(leaf.get(at..at + length)?).ok()).and_then(|text| text.chars().next());
    before.is_some_and(|c| is_word(c) && !is_single(c)) && here.is_some_and(|c| !is_single(c))
}

/// Searches the index anew and compares.
pub(super) fn search(bundle: &Bundle, parameters: &Parameters, index: &Index, faults: &mut Collector) {
    let receipt = &bundle.receipt.document;
    faults.same(Finding::Attribution, "index root", &receipt.index, "that of the index at hand is", &index.root());
    match attribute(index, parameters, &prompt_bytes(&bundle.messages), &bundle.answer) {
        Ok(found) => compare(&receipt.spans, &found.spans, faults),
        Err(error) => faults.add(Finding::Text, 0, "answer", format!("cannot be attributed: {error}")),
    }
}

/// Names what is missing, what should not be there, and what differs at the same start.
fn compare(stated: &[Span], found: &[Span], faults: &mut Collector) {
    for span in found.iter().filter(|span| !stated.contains(span)) {
        let instead = stated.iter().zip(0_u32..).find(|(other, _)| other.start == span.start);
        match instead {
            Some((other, number)) => {
                faults.add(Finding::Attribution, number, format!("span {number}"), format!("is {other:?}, the search finds {span:?}"))
            }
            None => faults.add(Finding::Attribution, span.start, "spans", format!("omit {span:?}")),
        }
    }
    for (span, number) in stated.iter().zip(0_u32..) {
        if !found.iter().any(|other| other.start == span.start) {
            faults.add(Finding::Attribution, number, format!("span {number}"), format!("is {span:?}, the search chooses none there"));
        }
    }
}
