//! F9: a span whose money goes to the wrong account, because it names another payee than its document's, or a later holder of its bytes.

use types::{
    proof::{Holder, Payee},
    receipt::{Receipt, Span},
    text::{LEAF_STRIDE, WINDOW},
};

use super::Case;
use crate::index::{Index, ReadError, SpanOpenings};

/// Spans that pay another account than the document at their place, or the first of its cluster, does.
pub(super) fn wrong_payees<'a>(receipt: &'a Receipt, index: &'a Index) -> impl Iterator<Item = Result<Payee, ReadError>> + 'a {
    receipt.spans.iter().zip(0..).filter_map(|(span, number)| wrong_payee(index, span, number).transpose())
}

fn wrong_payee(index: &Index, span: &Span, number: u16) -> Result<Option<Payee>, ReadError> {
    let Some(open) = opened(index, span)? else { return Ok(None) };
    let payee = open.head.as_ref().map_or(open.document.leaf.payee, |head| head.document.leaf.payee);
    if payee == span.payee {
        return Ok(None);
    }
    Ok(Some(Payee {
        span: number,
        source: index.show_source(span.datanet, span.position)?,
        row: index.show_row(span.datanet, span.position)?,
        head: index.show_head(span.datanet, span.position)?,
    }))
}

/// What stands at a span's place; nothing where no document does, which is another fault.
fn opened(index: &Index, span: &Span) -> Result<Option<SpanOpenings>, ReadError> {
    match index.open_span(span.datanet, span.position) {
        Ok(open) => Ok(Some(open)),
        Err(ReadError::Nowhere { .. }) => Ok(None),
        Err(changed) => Err(changed),
    }
}

/// Spans whose bytes stand in a document of an earlier priority, or at an earlier place.
pub(super) fn later_holders<'a>(case: &'a Case<'_>) -> impl Iterator<Item = Result<Holder, ReadError>> + 'a {
    case.receipt.spans.iter().zip(0..).filter_map(|(span, number)| later_holder(case, span, number).transpose())
}

fn later_holder(case: &Case<'_>, span: &Span, number: u16) -> Result<Option<Holder>, ReadError> {
    let (index, start) = (case.index, usize::try_from(span.start).expect("at least 32 bits"));
    let bytes = case.text.as_bytes().get(start..start + usize::from(span.length)).filter(|bytes| (1..=WINDOW).contains(&bytes.len()));
    let (Some(held), Some(named)) = (bytes.and_then(|bytes| index.holder(bytes)), opened(index, span)?) else { return Ok(None) };
    if (held.row.priority, held.datanet, held.position) >= (named.document.leaf.priority, span.datanet, span.position) {
        return Ok(None);
    }
    Ok(Some(Holder {
        span: number,
        answer: case.answer.show(start / LEAF_STRIDE),
        named: index.show_source(span.datanet, span.position)?,
        named_row: named.document.into(),
        datanet: held.datanet,
        position: held.position,
        source: index.show_source(held.datanet, held.position)?,
        row: index.show_row(held.datanet, held.position)?.row,
        passage: index.show_passage(held.datanet, held.position)?,
    }))
}
