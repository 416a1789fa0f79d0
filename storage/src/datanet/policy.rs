//! What a Datanet does with what its gate finds.

use serde::{Deserialize, Serialize};

/// What follows from a finding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The report says it; the row enters.
    #[default]
    Note,
    /// The row enters with the finding replaced: the contributor contributes the redacted rows, whose text root is another.
    Redact,
    /// The row waits for two reviewers.
    Quarantine,
    /// The row may not enter.
    Block,
}

/// Policy of a card. What is absent has its default, so a card from before there was a policy reads as it did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatePolicy {
    /// Near copies of earlier documents. Noted unless the card says more: they join the earlier one's cluster and earn nothing (P3). There is
    /// nothing to redact in one, so `redact` holds it back as `quarantine` does.
    #[serde(skip_serializing_if = "is_default")]
    pub near_copies: Action,
    /// What looks like personal data.
    #[serde(skip_serializing_if = "is_default")]
    pub personal_data: Action,
    /// Most rows of one contributor in the Datanet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contributor_rows_max: Option<u64>,
    /// Most bytes of contribution text of one contributor in the Datanet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contributor_bytes_max: Option<u64>,
}

impl GatePolicy {
    /// Whether it says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn is_default(action: &Action) -> bool {
    *action == Action::default()
}
