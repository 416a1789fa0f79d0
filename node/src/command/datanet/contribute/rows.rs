//! The file's rows under the file's own numbers, and which of them are refused.

use std::{collections::BTreeMap, fs::File, io::BufReader};

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use storage::datanet::{self, Action, Card, Contribution, Document, Licence, Place, Report, contribution_text, read, shard};
use types::{
    id::{Address, Hash32},
    text::text_root,
};

use super::{
    Args, ROUNDS_MAX,
    findings::{self, Finding},
};
use crate::output::Output;

/// Most refused rows named in an error.
const NAMED_MAX: usize = 50;

/// A row that was left out.
#[derive(Debug, Serialize)]
pub(super) struct Dropped {
    pub(super) row: u32,
    pub(super) reason: String,
}

/// Rows with their numbers in the file, counted from 1.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) documents: Vec<Document>,
    pub(super) numbers: Vec<u32>,
    pub(super) dropped: Vec<Dropped>,
    /// What was replaced, and how it reads now.
    pub(super) redacted: Vec<Finding>,
    /// Text root of all rows of the file.
    pub(super) file_root: Hash32,
}

impl Rows {
    /// Every line is checked before anything else happens.
    pub(super) fn read(args: &Args) -> anyhow::Result<Self> {
        let path = &args.file;
        let file = File::open(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let by_name = path.extension().and_then(|extension| extension.to_str()).and_then(read::Format::of_extension);
        let format = if args.text { read::Format::Text } else { by_name.unwrap_or(read::Format::Jsonl) };
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let title = args.title.clone().or(stem);
        let documents = read::documents(BufReader::new(file), format, title.as_deref()).with_context(|| format!("{}", path.display()))?;
        let numbers = (1..).take(documents.len()).collect();
        let file_root = text_root(contribution_text(&documents).as_bytes());
        Ok(Self { documents, numbers, dropped: Vec::new(), redacted: Vec::new(), file_root })
    }

    pub(super) fn text_root(&self) -> Hash32 {
        text_root(contribution_text(&self.documents).as_bytes())
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
            self.dropped.push(Dropped { row: self.numbers.remove(place), reason: refusal.detail.clone() });
        }
        self.dropped.sort_by_key(|dropped| dropped.row);
        ensure!(!self.documents.is_empty(), "every row was refused: there is nothing to contribute");
        Ok(())
    }

    /// Replaces what looks like personal data where the Datanet does not take it as it is; shows first how each row will read.
    pub(super) fn redact(&mut self, card: &Card, output: &Output) {
        if card.policy().personal_data == Action::Note {
            return output.note("the Datanet takes rows with what looks like personal data as they are: nothing is redacted");
        }
        let found = findings::personal(&self.documents, &self.numbers);
        if found.is_empty() {
            return;
        }
        output.note(&format!("these rows are redacted before they are brought:\n{}", findings::table_of(&found)));
        self.documents = datanet::redacted(&self.documents);
        self.redacted = found;
    }

    /// The refusals in words, by the file's own row numbers.
    pub(super) fn reasons(&self, report: &Report) -> String {
        let mut lines: Vec<String> = findings::of(&report.refusals, &self.numbers).iter().take(NAMED_MAX).map(Finding::line).collect();
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

/// What the gate would refuse without knowing any other contribution: asked of the same rules, before anything is paid.
pub(super) fn check_here(rows: &mut Rows, card: &Card, me: Address, licence: &Licence, drop_refused: bool) -> anyhow::Result<()> {
    let empty = datanet::Datanet::new(card.clone());
    for _ in 0..ROUNDS_MAX {
        let contribution = Contribution { contributor: me, licence: licence.clone(), documents: std::mem::take(&mut rows.documents) };
        let report = empty.gate(Place::default(), &contribution);
        rows.documents = contribution.documents;
        // What only waits for reviewers is for the gate to say: it knows the other contributions.
        if report.accepted || report.can_wait() {
            shard::encode(&rows.documents)?;
            return Ok(());
        }
        ensure!(drop_refused, "nothing was sent; this would be refused:\n{}", rows.reasons(&report));
        rows.drop_refused(&report)?;
    }
    bail!("after {ROUNDS_MAX} rounds rows are still refused: leave out the copies within the file first")
}
