//! What a Datanet does with what its gate finds, whom it takes rows of, and what may be done with them.

use serde::{Deserialize, Serialize};

use super::card::{CardError, LABELS_MAX};
use crate::proto::placement::Region;

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

impl Action {
    /// Its name in cards and reports.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Redact => "redact",
            Self::Quarantine => "quarantine",
            Self::Block => "block",
        }
    }
}

/// Whom a Datanet takes contributions of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contributors {
    /// Anybody.
    #[default]
    Anyone,
    /// Its owner and whom the owner listed at its gate; nobody else.
    Listed,
}

/// Policy of a card. What is absent has its default, so a card from before there was a policy reads as it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Of contributions that pass the gate, how many in a thousand wait for two reviewers all the same.
    #[serde(skip_serializing_if = "is_default")]
    pub sample_per_mille: u16,
    /// Whom it takes contributions of.
    #[serde(skip_serializing_if = "is_default")]
    pub contributors: Contributors,
    /// Whether adapters may be trained on it.
    #[serde(skip_serializing_if = "is_true")]
    pub may_train: bool,
    /// Whether answers may be attributed to it, and so draw on it.
    #[serde(skip_serializing_if = "is_true")]
    pub may_serve: bool,
    /// Whether what is made of it must be passed on under its licence.
    #[serde(skip_serializing_if = "is_default")]
    pub share_alike: bool,
    /// Regions in which its fragments must stay; none: anywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub residency: Vec<Region>,
}

impl Default for GatePolicy {
    /// Takes everybody's rows, notes what it finds, allows every use.
    fn default() -> Self {
        Self {
            near_copies: Action::default(),
            personal_data: Action::default(),
            contributor_rows_max: None,
            contributor_bytes_max: None,
            sample_per_mille: 0,
            contributors: Contributors::default(),
            may_train: true,
            may_serve: true,
            share_alike: false,
            residency: Vec::new(),
        }
    }
}

impl GatePolicy {
    /// Whether it says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether its numbers and lists are within bounds.
    ///
    /// # Errors
    /// [`CardError::TooMany`].
    pub fn check(&self) -> Result<(), CardError> {
        let bounds =
            [("sample_per_mille", usize::from(self.sample_per_mille), 1000), ("residency regions", self.residency.len(), LABELS_MAX)];
        bounds.into_iter().find(|(_, got, max)| got > max).map_or(Ok(()), |(field, got, max)| Err(CardError::TooMany { field, got, max }))
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

const fn is_true(value: &bool) -> bool {
    *value
}
