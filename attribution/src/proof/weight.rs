//! F10, of a receipt's total: W is not the weight of the words that no mask covers.

use std::ops::Range;

use types::{
    proof::Total,
    receipt::{Mask, Receipt},
    text::LEAF_STRIDE,
};

use super::Case;

/// More leaves than a transaction carries.
const LEAVES_MAX: usize = 120;

/// The proof, if W is false by the receipt's own masks and a transaction carries it.
pub(super) fn false_total(case: &Case<'_>) -> Option<Total> {
    let (receipt, length) = (case.receipt, case.said.bytes.len());
    let stretches = stretches(receipt)?;
    if !receipt.reason.is_billable() || length == 0 || stretches.iter().any(|stretch| stretch.end > length) {
        return None;
    }
    let covered = stretches.iter().map(|stretch| case.weight(stretch)).sum::<u64>();
    if receipt.weight_total == case.weight(&(0..length)) - covered {
        return None;
    }
    let last = (length - 1) / LEAF_STRIDE;
    let mut leaves: Vec<usize> =
        stretches.iter().flat_map(|stretch| [stretch.start / LEAF_STRIDE, (stretch.end - 1) / LEAF_STRIDE]).chain([last]).collect();
    leaves.dedup();
    let last = u32::try_from(last).expect("an answer's bytes fit 32 bits");
    (leaves.len() <= LEAVES_MAX).then(|| Total { last, answer: leaves.into_iter().map(|leaf| case.said.show(leaf)).collect() })
}

/// Bytes that masks cover, those that overlap or touch as one; nothing where masks do not ascend, which is another fault.
fn stretches(receipt: &Receipt) -> Option<Vec<Range<usize>>> {
    let mut stretches: Vec<Range<usize>> = Vec::new();
    for mask in &receipt.masks {
        let bytes = bytes(mask)?;
        match stretches.last_mut() {
            Some(last) if bytes.start < last.start => return None,
            Some(last) if bytes.start <= last.end => last.end = last.end.max(bytes.end),
            _ => stretches.push(bytes),
        }
    }
    stretches.retain(|stretch| !stretch.is_empty());
    Some(stretches)
}

/// A mask's bytes in the answer.
pub(super) fn bytes(mask: &Mask) -> Option<Range<usize>> {
    let start = usize::try_from(mask.start).ok()?;
    Some(start..start.checked_add(usize::try_from(mask.length).ok()?)?)
}
