//! What every attempt of an answer came to: its node, what was promised to it, what it charges or may charge.

use std::path::{Path, PathBuf};

use inference::proto::draft::{Draft, End};
use serde::{Deserialize, Serialize};
use types::{amount::Amount, id::Address};

use super::kept::bundle_path;

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its number in the request.
    pub attempt: u16,
    /// The node's account.
    pub node: Address,
    /// Output tokens that came in it.
    pub tokens: usize,
    /// Promised to the node.
    pub promised_wei: Amount,
    /// What the node charges, or, without a receipt, may charge at most.
    pub charged_at_most_wei: Amount,
    /// How it ended.
    pub ended: String,
    /// Its receipt's bundle, if it has one that bills.
    pub receipt: Option<PathBuf>,
}

/// Every attempt of a request, oldest first; bundles lie in `receipts`.
pub(super) fn attempts(draft: &Draft, receipts: &Path) -> Vec<Attempt> {
    let tries = draft.tries();
    let first =
        |place: usize| tries.get(place).map_or_else(|| draft.tokens().len(), |one| usize::try_from(one.first_token).unwrap_or(usize::MAX));
    let attempt = |(number, one): (u16, &inference::proto::draft::Try)| {
        let place = usize::from(number);
        let (ended, is_billed) = match &one.end {
            None => ("it is under way".to_owned(), false),
            Some(End::Receipt { .. }) => ("with a receipt".to_owned(), true),
            Some(End::Failed { cause, is_signed: true, .. }) => {
                (format!("{}: the node signed that it charges nothing", cause.words()), false)
            }
            Some(End::Failed { cause, .. }) if one.promised == Amount::ZERO => {
                (format!("{}: nothing was promised to it", cause.words()), false)
            }
            Some(End::Failed { cause, .. }) => {
                (format!("{}: no receipt came, what was promised to it may be charged", cause.words()), false)
            }
        };
        Attempt {
            attempt: number,
            node: one.node,
            tokens: first(place + 1).saturating_sub(first(place)),
            promised_wei: one.promised,
            charged_at_most_wei: one.cost(),
            ended,
            receipt: is_billed.then(|| bundle_path(receipts, draft.request().document.id(), number)),
        }
    };
    (0..).zip(tries).map(attempt).collect()
}
