//! What a receipt keeps from one contributor, found with that contributor's own text and the receipt's bundle alone.
//!
//! Whoever has the whole index searches it ([`crate::proof`]). A contributor need not: what it is owed stands in its own text, what a span names instead is
//! opened in the bundle. One search of the small index per word, one look at each span. What is found is true of the whole index too, but for
//! [`Wrong::Unshown`], which says that the bundle hides what the whole index shows; proofs are made from that one.
//!
//! A run that an earlier document holds too is missing all the same, though another is paid for it: the index tells whom.
//!
//! Not found: near copies of one's own text whose cluster's head the bundle does not show, and what is wrong with a receipt for others alone. What is not looked at, since answer or
//! prompt are longer than anything that is attributed, is said ([`Watched::unread`]). Control characters, and more shared runs than a receipt has masks, stop nothing.

use std::{cmp::Reverse, ops::Range};

use types::{
    contribution::Priority,
    id::Address,
    receipt::{MASKS_MAX, Mask, Receipt, Span},
    text::{LEAF_STRIDE, WINDOW},
};

use crate::{
    bundle::Bundle,
    index::{Index, SpanOpenings},
    parameters::Parameters,
    prompt::prompt_bytes,
    proof::omission::{covered, ranks_after},
    span::{self, AttributeError, Masked, Word, weight_of},
};

/// A contributor's own part of a Datanet version.
#[derive(Debug, Clone, Copy)]
pub struct Mine<'a> {
    /// Who is paid for it.
    pub account: Address,
    /// An index over it and nothing else, with the registered priorities.
    pub index: &'a Index,
}

/// In what way a receipt keeps something from its contributor, or says something false in its name. Numbers are those of the receipt's spans and masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// A run of its text that no span of the receipt is worth as much as (F2).
    Omitted,
    /// The same, where this span pays it for less of the run (F2).
    Shortened(u16),
    /// A run of its text lies under this mask, though the prompt does not hold what the mask covers (F11).
    Hidden(u16),
    /// A span pays it, and its part is of more than it ought to be: these bytes stand in the prompt, and no mask takes them out of W (F11).
    Unmasked,
    /// The span names a document that pays it, and pays another account (F9).
    Reassigned(u16),
    /// The span names a document that was committed to later than its own, which holds the same bytes (F9).
    Later(u16),
    /// The span pays it for bytes that it never wrote (F1).
    Invented(u16),
    /// The span pays another account for bytes that its text holds, and the bundle does not show whose document that is.
    Unshown(u16),
}

impl Wrong {
    /// The fault's name in Protocol P7; nothing if the bundle alone shows none.
    pub const fn fault(self) -> Option<&'static str> {
        match self {
            Self::Omitted | Self::Shortened(_) => Some("F2"),
            Self::Hidden(_) | Self::Unmasked => Some("F11"),
            Self::Reassigned(_) | Self::Later(_) => Some("F9"),
            Self::Invented(_) => Some("F1"),
            Self::Unshown(_) => None,
        }
    }
}

/// Something that a receipt keeps from its contributor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// What is wrong.
    pub wrong: Wrong,
    /// First byte of the answer concerned.
    pub start: u32,
    /// Bytes concerned.
    pub length: u32,
    /// Where the contributor's text has these bytes; nothing for what it never wrote.
    pub holder: Option<Priority>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Watched {
    /// Everything that the receipt keeps from the contributor, ascending by place.
    pub missed: Vec<Missed>,
    /// Why masks, or of too long an answer anything, were not looked at; nothing if all was.
    pub unread: Option<AttributeError>,
}

/// Everything that a receipt keeps from `mine`; nothing of one that bills nothing, or was made under other parameters.
///
/// The bundle's signatures, and that its text is the receipt's, are the caller's to check ([`crate::transcript::Transcript::read`]).
pub fn watch(bundle: &Bundle, mine: Mine<'_>, parameters: &Parameters) -> Watched {
    let (receipt, answer) = (&bundle.receipt.document, &bundle.answer);
    if !receipt.reason.is_billable() || receipt.parameters != parameters.id {
        return Watched::default();
    }
    if answer.len() > span::ANSWER_BYTES_MAX {
        return Watched { unread: Some(AttributeError::AnswerTooLong(answer.len())), ..Watched::default() };
    }
    let case = Case { bundle, receipt, mine, parameters, words: span::weigh(parameters, answer) };
    let mut missed: Vec<Missed> = (0..).zip(&receipt.spans).filter_map(|(number, span)| case.misdirected(number, span)).collect();
    missed.extend(case.omitted());
    let masked = span::mask_any(parameters, &prompt_bytes(&bundle.messages), answer);
    if let Ok(masked) = &masked {
        missed.extend(case.hidden(masked));
        missed.extend(case.unmasked(masked));
    }
    missed.sort_by_key(|missed| (missed.start, missed.wrong));
    Watched { missed, unread: masked.err() }
}

struct Case<'a> {
    bundle: &'a Bundle,
    receipt: &'a Receipt,
    mine: Mine<'a>,
    parameters: &'a Parameters,
    words: Vec<Word>,
}

impl Case<'_> {
    /// What is wrong with where a span's money goes.
    fn misdirected(&self, number: u16, span: &Span) -> Option<Missed> {
        let start = usize::try_from(span.start).expect("32 bits fit memory");
        let bytes = self.bundle.answer.as_bytes().get(start..start + usize::from(span.length));
        let bytes = bytes.filter(|bytes| (1..=WINDOW).contains(&bytes.len()));
        let held = bytes.and_then(|bytes| self.mine.index.holder(bytes)).map(|holder| holder.row.priority);
        let shown = self.shown(number, span);
        let pays = |open: &SpanOpenings| open.head.as_ref().map_or(open.document.leaf.payee, |head| head.document.leaf.payee);
        let is_mine = |open: &&SpanOpenings| pays(open) == self.mine.account;
        let wrong = if span.payee == self.mine.account {
            // A near copy is paid through the document that it copies, which need not say the same.
            let stands = held.is_some() || shown.filter(is_mine).is_some_and(|open| bytes.is_some_and(|bytes| says(open, span, bytes)));
            (!stands).then_some(Wrong::Invented(number))
        } else {
            match (shown, held) {
                (Some(open), _) if is_mine(&open) => Some(Wrong::Reassigned(number)),
                (Some(open), Some(held)) => (held < open.document.leaf.priority).then_some(Wrong::Later(number)),
                (None, Some(_)) => Some(Wrong::Unshown(number)),
                (_, None) => None,
            }
        };
        wrong.map(|wrong| Missed { wrong, start: span.start, length: span.length.into(), holder: held })
    }

    /// What the bundle shows of a span's place, if all of it leads to the index root.
    fn shown(&self, number: u16, span: &Span) -> Option<&SpanOpenings> {
        let open = self.bundle.openings.get(usize::from(number))?;
        let (datanet, segment, row) = (&open.datanet, &open.segment, &open.document);
        let offset = span.position.checked_sub(segment.leaf.start)?;
        let leads = datanet.root() == Some(self.receipt.index)
            && datanet.opening.index == u64::from(span.datanet)
            && open.is_private().is_some()
            && row.root() == Some(segment.leaf.documents)
            && (row.leaf.start..row.leaf.end()).contains(&offset);
        // In a Datanet's first segment the row's number is its place; in later ones only the whole index knows it.
        let (head, home) = open.head.as_ref().map_or((row, segment), |head| (&head.document, &head.segment));
        let is_first = head.leaf.cluster == row.leaf.cluster
            && (home.leaf.start != 0 || head.opening.index == row.leaf.cluster)
            && head.root() == Some(home.leaf.documents);
        (leads && is_first).then_some(open)
    }

    /// Runs of the contributor's text that no span of the receipt is worth as much as: of those that overlap the best, so that each could be paid.
    fn omitted(&self) -> Vec<Missed> {
        let covered = covered(&self.words, self.receipt);
        let mut runs: Vec<Range<usize>> = self.candidates(&covered).into_iter().flat_map(|run| self.outstanding(run)).collect();
        runs.sort_by_key(|run| (Reverse(self.weight(run)), run.start, Reverse(run.end)));
        let mut kept: Vec<Range<usize>> = Vec::new();
        for run in runs {
            if kept.iter().all(|other| run.end <= other.start || other.end <= run.start) {
                kept.push(run);
            }
        }
        kept.into_iter().map(|run| self.missed(self.shortened(&run), &run)).collect()
    }

    fn candidates(&self, covered: &[bool]) -> Vec<Range<usize>> {
        span::candidates(self.mine.index, &self.bundle.answer, &self.words, covered)
    }

    /// The parts of a run that the rule could choose and nothing in the receipt comes before. What comes before a run comes before every part of it: so
    /// it is cut out, and what is left on either side is asked for itself.
    fn outstanding(&self, run: Range<usize>) -> Vec<Range<usize>> {
        let near = self.near(&run);
        let (mut found, mut open) = (Vec::new(), vec![run]);
        while let Some(run) = open.pop() {
            if !self.is_eligible(&run) {
                continue;
            }
            let Some(ahead) = self.ahead(&run, &near) else {
                found.push(run);
                continue;
            };
            let words = &self.words[run.clone()];
            let before = words.partition_point(|word| as_u64(word.range.end) <= ahead.start);
            let behind = words.partition_point(|word| as_u64(word.range.start) < ahead.end);
            open.extend([run.start..run.start + before, run.start + behind..run.end]);
        }
        found
    }

    /// Masks and spans that share a byte with a run: where they stand, and the span.
    fn near(&self, run: &Range<usize>) -> Vec<(Range<u64>, Option<&Span>)> {
        let bytes = self.bytes(run);
        let masks = self.receipt.masks.iter().map(|mask| (range(mask.start, mask.length), None));
        let spans = self.receipt.spans.iter().map(|span| (range(span.start, span.length.into()), Some(span)));
        masks.chain(spans).filter(|(other, _)| overlap(other, &bytes)).collect()
    }

    /// Where a mask lies over a run, or a span that does not rank after it.
    fn ahead(&self, run: &Range<usize>, near: &[(Range<u64>, Option<&Span>)]) -> Option<Range<u64>> {
        let (bytes, weight) = (self.bytes(run), self.weight(run));
        let comes_before = |span: Option<&Span>| span.is_none_or(|span| !ranks_after(span, weight, bytes.clone()));
        near.iter().find(|(other, span)| overlap(other, &bytes) && comes_before(*span)).map(|(other, _)| other.clone())
    }

    /// How a run is missing: where a span pays the contributor for a part of it, as that one's shortening.
    fn shortened(&self, run: &Range<usize>) -> Wrong {
        let bytes = self.bytes(run);
        let is_part = |span: &Span| span.payee == self.mine.account && overlap(&range(span.start, span.length.into()), &bytes);
        let part = (0..).zip(&self.receipt.spans).find(|(_, span)| is_part(span));
        part.map_or(Wrong::Omitted, |(number, _)| Wrong::Shortened(number))
    }

    /// Runs of the contributor's text under masks that the prompt does not bear out.
    fn hidden(&self, masked: &Masked) -> Vec<Missed> {
        let is_true = |mask: &Mask| {
            let place = masked.masks.partition_point(|one| one.start < mask.start);
            masked.masks.get(place) == Some(mask)
        };
        let flawed: Vec<_> = (0_u16..).zip(&self.receipt.masks).filter(|(_, mask)| !is_true(mask)).collect();
        if flawed.is_empty() {
            return Vec::new();
        }
        let runs = self.candidates(&masked.covered).into_iter().filter(|run| self.is_eligible(run));
        let hidden = runs.filter_map(|run| {
            let bytes = self.bytes(&run);
            let over = flawed.iter().find(|(_, mask)| overlap(&range(mask.start, mask.length), &bytes));
            over.map(|(number, _)| self.missed(Wrong::Hidden(*number), &run))
        });
        hidden.collect()
    }

    /// What the prompt holds and no mask says so, of a receipt that pays the contributor: its part of the fee is its span's weight of W.
    fn unmasked(&self, masked: &Masked) -> Vec<Missed> {
        if self.receipt.spans.iter().all(|span| span.payee != self.mine.account) {
            return Vec::new();
        }
        let held: Vec<Range<u64>> = self.receipt.masks.iter().map(|mask| range(mask.start, mask.length)).collect();
        let is_held = |mask: &Range<u64>| held.iter().any(|held| held.start <= mask.start && mask.end <= held.end);
        let missing = masked.masks.iter().filter(|mask| !is_held(&range(mask.start, mask.length))).take(MASKS_MAX);
        missing.map(|mask| Missed { wrong: Wrong::Unmasked, start: mask.start, length: mask.length, holder: None }).collect()
    }

    fn missed(&self, wrong: Wrong, run: &Range<usize>) -> Missed {
        let bytes = self.words[run.start].range.start..self.words[run.end - 1].range.end;
        let holder = self.mine.index.holder(&self.bundle.answer.as_bytes()[bytes.clone()]).map(|holder| holder.row.priority);
        let narrow = |length: usize| u32::try_from(length).expect("an answer's bytes fit 32 bits");
        Missed { wrong, start: narrow(bytes.start), length: narrow(bytes.len()), holder }
    }

    fn is_eligible(&self, run: &Range<usize>) -> bool {
        run.len() >= usize::from(self.parameters.m).max(1) && self.weight(run) >= self.parameters.theta
    }

    fn weight(&self, run: &Range<usize>) -> u32 {
        weight_of(&self.words[run.clone()])
    }

    /// Bytes of a run that holds a word.
    fn bytes(&self, run: &Range<usize>) -> Range<u64> {
        as_u64(self.words[run.start].range.start)..as_u64(self.words[run.end - 1].range.end)
    }
}

/// Whether what is shown of a span's place says its bytes. Of a private Datanet nothing is shown, and so nothing false.
fn says(open: &SpanOpenings, span: &Span, bytes: &[u8]) -> bool {
    let offset = span.position.saturating_sub(open.segment.leaf.start);
    let within = usize::try_from(offset % as_u64(LEAF_STRIDE)).expect("below 64");
    let Some(text) = &open.text else { return open.is_private() == Some(true) };
    text.root() == Some(open.segment.leaf.text)
        && text.opening.index == offset / as_u64(LEAF_STRIDE)
        && open.shown_text().and_then(|shown| shown.get(within..within + bytes.len())) == Some(bytes)
}

/// Bytes of an answer that a receipt names.
fn range(start: u32, length: u32) -> Range<u64> {
    u64::from(start)..u64::from(start) + u64::from(length)
}

const fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits 64 bits")
}

#[cfg(test)]
mod tests;
