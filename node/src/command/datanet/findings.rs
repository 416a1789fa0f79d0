//! What a gate found, for people: row, rule, what follows, what was found, what mends it, how it would read.

use serde::{Deserialize, Serialize};
use storage::datanet::{Action, Card, Contribution, Datanet, Document, GatePolicy, Place, Refusal, Rule};
use types::id::Address;

use crate::{output::table, words};

/// Most findings shown in a table; the rest are counted.
const SHOWN_MAX: usize = 50;
/// Most characters of a cell.
const CELL_MAX: usize = 100;

/// One finding by the file's own row numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Finding {
    /// Row in the file, counted from 1; nothing for the contribution as a whole.
    pub(super) row: Option<u32>,
    /// Its file, if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
    pub(super) rule: String,
    pub(super) action: String,
    pub(super) detail: String,
    pub(super) fix: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) preview: Option<String>,
}

/// Findings of a report under the numbers that its rows have in a file.
pub(super) fn of(refusals: &[Refusal], numbers: &[u32]) -> Vec<Finding> {
    under(refusals, |row| numbers.get(row).map(|number| (None, *number)))
}

/// Findings of a report under the places of its rows: file, where there are several, and number. Rows are counted from 0 here.
pub(super) fn under(refusals: &[Refusal], place: impl Fn(usize) -> Option<(Option<String>, u32)>) -> Vec<Finding> {
    let finding = |refusal: &Refusal| {
        let found = usize::try_from(refusal.row).ok().and_then(|row| place(row.checked_sub(1)?));
        let (file, row) = found.map_or((None, None), |(file, row)| (file, Some(row)));
        Finding {
            row,
            file,
            rule: refusal.rule.label().to_owned(),
            action: refusal.action.label().to_owned(),
            detail: refusal.detail.clone(),
            fix: refusal.fix.clone(),
            preview: refusal.preview.clone(),
        }
    };
    refusals.iter().map(finding).collect()
}

/// What looks like personal data in documents, and how each row would read without it.
pub(super) fn personal(documents: &[Document]) -> Vec<Refusal> {
    let (name, licence) = ("here".parse().expect("a name"), "CC0-1.0".parse::<storage::datanet::Licence>().expect("a licence"));
    let policy = GatePolicy { personal_data: Action::Redact, ..GatePolicy::default() };
    let card =
        Card::new(name, String::new(), licence.clone(), Vec::new(), Vec::new()).and_then(|card| card.with_policy(policy)).expect("a card");
    let contribution = Contribution { contributor: Address::ZERO, licence, documents: documents.to_vec() };
    let report = Datanet::new(card).gate(Place::default(), &contribution);
    report.refusals.into_iter().filter(|refusal| refusal.rule == Rule::PersonalData).collect()
}

impl Finding {
    fn place(&self) -> String {
        let Some(row) = self.row else { return "the contribution".to_owned() };
        self.file.as_ref().map_or_else(|| format!("row {row}"), |file| format!("{file}: row {row}"))
    }

    /// One line.
    pub(super) fn line(&self) -> String {
        let preview = self.preview.as_ref().map_or_else(String::new, |preview| format!("; it would read: {}", one_line(preview)));
        words::line(&format!("  {}: {}: {}; {}{preview}", self.place(), self.rule, self.detail, self.fix)).into_owned()
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A cell that does not widen its table beyond a screen.
pub(super) fn cell(text: &str) -> String {
    let text = one_line(text);
    if text.chars().count() <= CELL_MAX { text } else { text.chars().take(CELL_MAX - 1).chain(['\u{2026}']).collect() }
}

/// Findings as a table.
pub(super) fn table_of(findings: &[Finding]) -> String {
    let row = |finding: &Finding| {
        let preview = finding.preview.as_deref().unwrap_or("-");
        vec![finding.place(), finding.rule.clone(), finding.action.clone(), cell(&finding.detail), cell(&finding.fix), cell(preview)]
    };
    let mut text =
        table(&["place", "rule", "action", "found", "fix", "would read"], &findings.iter().take(SHOWN_MAX).map(row).collect::<Vec<_>>());
    if findings.len() > SHOWN_MAX {
        text.push_str(&format!("\nand {} more", findings.len() - SHOWN_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn personal_data_is_previewed_under_the_files_numbers_and_never_repeated() {
        let documents =
            ["tides", "call +49 30 901820 or write to anna@example.org"].map(|text| Document::new(None, None, text.as_bytes()).unwrap());
        let found = of(&personal(&documents), &[4, 9]);
        assert_eq!(found.iter().map(|finding| finding.row).collect::<Vec<_>>(), [Some(9)]);
        let text = table_of(&found) + &found[0].line();
        assert!(text.contains("personal-data") && text.contains("row 9") && !text.contains("anna@example.org"), "{text}");
        assert!(found[0].preview.as_ref().is_some_and(|preview| preview.contains("write to")));
    }

    #[test]
    fn long_cells_are_cut_and_line_breaks_taken_out() {
        assert_eq!(cell("a\n  b"), "a b");
        assert_eq!(cell(&"x".repeat(500)).chars().count(), CELL_MAX);
    }
}
