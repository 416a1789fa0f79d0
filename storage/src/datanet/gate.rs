//! The gate: what may not enter, row by row, with the fix.
//!
//! The report is data. Its JSON has one form (fields in the order of the structs, no spaces), so its keccak digest is what reviewers sign.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::{
    id::{Address, BlobId, Hash32},
    merkle,
};

use super::{Contribution, DOCUMENTS_MAX, Datanet, Document, First, Place, contribution_text, shard};
use crate::erasure::OBJECT_BYTES_MAX;

/// Most refusals a report lists; the rest are counted. A contributor mends a thousand rows and tries again.
pub const REFUSALS_MAX: usize = 1000;

/// What a row broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The contribution holds no document.
    Empty,
    /// More documents or bytes than one contribution may hold.
    TooLarge,
    /// The licence is not the Datanet's.
    Licence,
    /// An accepted contribution of earlier priority holds the same text.
    Duplicate,
    /// An earlier row of the same contribution holds the same text.
    Repeated,
}

/// One reason not to accept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// The document, counted from 1; 0 for the contribution as a whole.
    pub row: u32,
    /// The rule.
    pub rule: Rule,
    /// What was found.
    pub detail: String,
    /// What mends it.
    pub fix: String,
}

/// What the gate found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Whether the contribution may enter as it is.
    pub accepted: bool,
    /// Who brings it.
    pub contributor: Address,
    /// Root of its text.
    pub text_root: Hash32,
    /// Its text, in bytes.
    pub text_bytes: u64,
    /// Its documents.
    pub documents: u32,
    /// Why not, at most [`REFUSALS_MAX`] of them, in row order.
    pub refusals: Vec<Refusal>,
    /// Refusals beyond those listed.
    pub unlisted: u32,
}

impl Report {
    /// The report's one JSON form.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and integers always serialise")
    }

    /// keccak of the JSON form: what a gate report's signature covers.
    pub fn digest(&self) -> Hash32 {
        merkle::keccak(&[self.to_json().as_bytes()])
    }
}

pub(super) fn report(datanet: &Datanet, place: Place, contribution: &Contribution) -> Report {
    let text = contribution_text(&contribution.documents);
    let whole = whole(datanet, contribution);
    let mut rows = BTreeMap::new();
    let documents = (1..).zip(&contribution.documents);
    let copies = documents.filter_map(|(row, document)| copy(datanet, place, &mut rows, row, document));
    let mut refusals: Vec<_> = whole.into_iter().chain(copies).collect();
    let unlisted = refusals.len().saturating_sub(REFUSALS_MAX);
    refusals.truncate(REFUSALS_MAX);
    Report {
        accepted: refusals.is_empty(),
        contributor: contribution.contributor,
        text_root: types::text::text_root(text.as_bytes()),
        text_bytes: u64::try_from(text.len()).expect("a length in memory fits 64 bits"),
        documents: saturated(contribution.documents.len()),
        refusals,
        unlisted: saturated(unlisted),
    }
}

fn saturated(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What speaks against the contribution as a whole.
fn whole(datanet: &Datanet, contribution: &Contribution) -> Vec<Refusal> {
    let refusal = |rule, detail, fix: &str| Refusal { row: 0, rule, detail, fix: fix.into() };
    let count = contribution.documents.len();
    let shard_bytes = shard::encoded_len(&contribution.documents);
    let (ours, theirs) = (datanet.card().licence(), &contribution.licence);
    let mut found = Vec::new();
    if count == 0 {
        found.push(refusal(Rule::Empty, "the contribution holds no document".into(), "add at least one"));
    }
    if count > DOCUMENTS_MAX || shard_bytes > OBJECT_BYTES_MAX {
        let detail = format!(
            "{count} documents, a shard of {shard_bytes} bytes, at most {DOCUMENTS_MAX} documents and {OBJECT_BYTES_MAX} bytes are allowed"
        );
        found.push(refusal(Rule::TooLarge, detail, "split it into several contributions"));
    }
    if ours != theirs {
        let detail = format!("the contribution is under {theirs}, the Datanet takes {ours}");
        found.push(refusal(Rule::Licence, detail, "contribute under the Datanet's licence, or to a Datanet under yours"));
    }
    found
}

/// Whether the document stands in an earlier contribution or an earlier row.
fn copy(datanet: &Datanet, place: Place, rows: &mut BTreeMap<BlobId, u32>, row: u32, document: &Document) -> Option<Refusal> {
    let digest = document.digest();
    let earlier = *rows.entry(digest).or_insert(row);
    if earlier != row {
        let detail = format!("the same text as row {earlier} of this contribution");
        return Some(Refusal { row, rule: Rule::Repeated, detail, fix: "leave this row out".into() });
    }
    let First { owner, contribution, priority } =
        datanet.firsts.get(&digest).filter(|first| first.priority < place.of_document(row - 1))?;
    let detail = format!(
        "the same text as document {} of contribution {contribution}, first brought by {owner} in block {}",
        priority.document + 1,
        priority.block
    );
    Some(Refusal { row, rule: Rule::Duplicate, detail, fix: "leave this row out: its first owner is paid for it".into() })
}
