//! F9: a span whose money goes to the wrong account, because it names another payee than its document's, or a later holder of its bytes.

use types::{
    proof::{Holder, Payee},
    receipt::{Receipt, Span},
    text::{LEAF_STRIDE, WINDOW},
};

use super::Case;
use crate::index::Index;

/// Spans that pay another account than the document at their place, or the first of its cluster, does.
pub(super) fn wrong_payees<'a>(receipt: &'a Receipt, index: &'a Index) -> impl Iterator<Item = Payee> + 'a {
    receipt.spans.iter().zip(0..).filter_map(|(span, number)| wrong_payee(index, span, number))
}

fn wrong_payee(index: &Index, span: &Span, number: u16) -> Option<Payee> {
    let open = index.open_span(span.datanet, span.position)?;
    let payee = open.head.as_ref().map_or(open.document.leaf.payee, |head| head.document.leaf.payee);
    (payee != span.payee).then_some(())?;
    Some(Payee {
        span: number,
        source: index.show_source(span.datanet, span.position)?,
        row: index.show_row(span.datanet, span.position)?,
        head: index.show_head(span.datanet, span.position),
    })
}

/// Spans whose bytes stand in a document of an earlier priority, or at an earlier place.
pub(super) fn later_holders<'a>(case: &'a Case<'_>) -> impl Iterator<Item = Holder> + 'a {
    case.receipt.spans.iter().zip(0..).filter_map(|(span, number)| later_holder(case, span, number))
}

fn later_holder(case: &Case<'_>, span: &Span, number: u16) -> Option<Holder> {
    let (start, length) = (usize::try_from(span.start).ok()?, usize::from(span.length));
    let bytes = case.text.as_bytes().get(start..start + length).filter(|bytes| (1..=WINDOW).contains(&bytes.len()))?;
    let (index, held) = (case.index, case.index.holder(bytes)?);
    let named = index.open_span(span.datanet, span.position)?;
    let is_earlier = (held.row.priority, held.datanet, held.position) < (named.document.leaf.priority, span.datanet, span.position);
    is_earlier.then_some(())?;
    Some(Holder {
        span: number,
        answer: case.answer.show(start / LEAF_STRIDE),
        named: index.show_source(span.datanet, span.position)?,
        named_row: named.document.into(),
        datanet: held.datanet,
        position: held.position,
        source: index.show_source(held.datanet, held.position)?,
        row: index.show_row(held.datanet, held.position)?.row,
        passage: index.show_passage(held.datanet, held.position)?,
    })
}
