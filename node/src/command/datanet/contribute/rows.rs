//! Rows of one shard under their files' own numbers, and which of them are refused.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use storage::datanet::{self, Action, Contribution, Document, Earlier, Part, Place, Report, Sketch, shard};
use types::id::Hash32;

use super::{
    ROUNDS_MAX,
    cut::Spot,
    cutting::Rules,
    findings::{self, Finding},
    journal::Looked,
};

/// Most refused rows named in an error, or kept of a shard.
pub(super) const NAMED_MAX: usize = 50;

/// A row that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Dropped {
    pub(in super::super) row: u32,
    /// Its file, if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in super::super) file: Option<String>,
    pub(in super::super) reason: String,
    /// The rule that spoke against it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(in super::super) rule: String,
    /// Whose earlier row it repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in super::super) earlier: Option<Earlier>,
}

/// Rows with their places in the files.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub(super) documents: Vec<Document>,
    pub(super) spots: Vec<Spot>,
    /// The files' names.
    pub(super) names: Arc<Vec<String>>,
    pub(super) dropped: Vec<Dropped>,
    /// What was replaced, and how it reads now.
    pub(super) redacted: Vec<Finding>,
}

impl Rows {
    pub(super) fn text_root(&self) -> Hash32 {
        shard::text_root(&self.documents)
    }

    /// The file of a row, where there are several.
    fn file(&self, spot: Spot) -> Option<&String> {
        usize::try_from(spot.file).ok().and_then(|file| self.names.get(file)).filter(|_| self.names.len() > 1)
    }

    /// Takes the refused rows out; an error if the contribution as a whole is refused.
    pub(super) fn drop_refused(&mut self, report: &Report) -> anyhow::Result<()> {
        ensure!(report.refusals.iter().all(|refusal| refusal.row > 0), "{}", self.reasons(report));
        // What only waits for reviewers stays, as long as there is something else to leave out.
        let is_held = |refusal: &&datanet::Refusal| refusal.action == Action::Quarantine;
        let are_all_held = report.refusals.iter().all(|refusal| is_held(&refusal));
        let left_out = report.refusals.iter().filter(|refusal| are_all_held || !is_held(refusal));
        let refused: BTreeMap<u32, &datanet::Refusal> = left_out.map(|refusal| (refusal.row, refusal)).collect();
        ensure!(!refused.is_empty(), "the gate refuses the contribution and names no row");
        for (row, refusal) in refused.into_iter().rev() {
            let place = usize::try_from(row - 1).ok().filter(|place| *place < self.documents.len());
            let place = place.with_context(|| format!("the gate refuses row {row}, there are {}", self.documents.len()))?;
            self.documents.remove(place);
            let spot = self.spots.remove(place);
            let file = self.file(spot).cloned();
            let (reason, rule) = (refusal.detail.clone(), refusal.rule.label().to_owned());
            self.dropped.push(Dropped { row: spot.row, file, reason, rule, earlier: refusal.earlier });
        }
        self.dropped.sort_by(|a, b| (&a.file, a.row).cmp(&(&b.file, b.row)));
        ensure!(!self.documents.is_empty(), "every row was refused: there is nothing to contribute");
        Ok(())
    }

    /// Replaces what looks like personal data, and keeps how each such row reads now.
    ///
    /// # Errors
    /// The row that would be longer than a document may be.
    pub(super) fn redact(&mut self) -> anyhow::Result<()> {
        let mut found = findings::personal(&self.documents);
        if found.is_empty() {
            return Ok(());
        }
        // The row's number in its file, so that shards of one file name no two rows alike; the file's before it, where there are several.
        let name = |at: usize| match self.spots.get(at) {
            Some(Spot { file, row }) if self.names.len() > 1 => format!("{}-{row}", file.saturating_add(1)),
            Some(Spot { row, .. }) => row.to_string(),
            None => (at + 1).to_string(),
        };
        let redacted = datanet::redacted(&self.documents, name).map_err(|(at, error)| {
            let row = self.spots.get(at).map_or(0, |spot| spot.row);
            anyhow::anyhow!("row {row}, redacted: {error}; split it into several rows")
        })?;
        for finding in found.iter_mut().filter(|finding| finding.part() == Part::Id) {
            let row = usize::try_from(finding.row).ok().and_then(|row| redacted.get(row.checked_sub(1)?));
            finding.preview = row.and_then(Document::id).map(str::to_owned);
        }
        self.redacted = self.findings(&found);
        self.documents = redacted;
        Ok(())
    }

    /// Findings under the rows' own places.
    pub(super) fn findings(&self, refusals: &[datanet::Refusal]) -> Vec<Finding> {
        let refusals: Vec<_> = refusals.iter().map(|refusal| self.shown(refusal)).collect();
        findings::under(&refusals, |row| self.spots.get(row).map(|spot| (self.file(*spot).cloned(), spot.row)))
    }

    /// A finding with what a private Datanet's report leaves out of it: the rows are here.
    fn shown(&self, refusal: &datanet::Refusal) -> datanet::Refusal {
        let row = usize::try_from(refusal.row).ok().and_then(|row| self.documents.get(row.checked_sub(1)?));
        let is_bare = refusal.rule == datanet::Rule::PersonalData && refusal.preview.is_none();
        let found = row.filter(|_| is_bare).map(|document| findings::personal(std::slice::from_ref(document)));
        let found = found.into_iter().flatten().find(|found| found.part() == refusal.part());
        match found {
            Some(found) => datanet::Refusal { detail: found.detail, preview: found.preview, ..refusal.clone() },
            None => refusal.clone(),
        }
    }

    /// The refusals in words, by the file's own row numbers.
    pub(super) fn reasons(&self, report: &Report) -> String {
        let mut lines: Vec<String> = self.findings(&report.refusals).iter().take(NAMED_MAX).map(Finding::line).collect();
        if report.refusals.iter().any(|refusal| refusal.action == Action::Redact) {
            lines.push("  --redact brings the rows as previewed".to_owned());
        }
        let more = report.refusals.len().saturating_sub(NAMED_MAX) + usize::try_from(report.unlisted).unwrap_or(usize::MAX);
        if more > 0 {
            lines.push(format!("  and {more} more"));
        }
        lines.join("\n")
    }
}

/// What the gate would refuse without knowing any other contribution: asked of the same rules, before anything is paid. Tells the rows' sketch, whether one of
/// them is a copy of a row `before`, and whether they wait for reviewers.
pub(super) fn check_here(rows: &mut Rows, rules: &Rules<'_>, before: Option<&Sketch>) -> anyhow::Result<(Sketch, Looked)> {
    let empty = datanet::Datanet::new(rules.card.clone());
    for _ in 0..ROUNDS_MAX {
        let (contributor, licence, documents) = (rules.me, rules.licence.clone(), std::mem::take(&mut rows.documents));
        let contribution = Contribution { contributor, licence, documents };
        let (report, sketch, is_close) = empty.gate_beside(Place::default(), &contribution, before);
        rows.documents = contribution.documents;
        // What only waits for reviewers is for the gate to say: it knows the other contributions.
        if report.accepted || report.can_wait() {
            return Ok((sketch, Looked { is_close, waits: !report.accepted }));
        }
        ensure!(rules.drop_refused, "nothing was sent; this would be refused:\n{}", rows.reasons(&report));
        rows.drop_refused(&report)?;
    }
    bail!("after {ROUNDS_MAX} rounds rows are still refused: leave out the copies within the file first")
}
