//! An answer with its sources marked, for people.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use attribution::{bundle::Bundle, prompt::Role};
use serde::Serialize;
use types::{
    amount::Amount,
    id::{Address, AssetVersion, Hash32},
    receipt::{Reason, Span},
    split::Part,
};

use super::{
    around::{Around, around},
    html,
    verify::reason,
};
use crate::{
    command::{
        Context,
        ask::{Source, sources},
    },
    data::{Existing, may_write, write_out},
    words,
};

/// What is shown of a receipt.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// The question: the last thing the user said.
    pub question: String,
    /// The answer.
    pub answer: String,
    /// The answer with `[n]` after each paid run of words.
    pub marked: String,
    /// Paid runs, in their order.
    pub sources: Vec<Cited>,
    /// Everybody's part of the fee; they sum to it.
    pub parts: Vec<PartRow>,
    /// What the answer cost.
    pub fee_wei: Amount,
    /// Who answered.
    pub node: Address,
    /// Who asked and paid.
    pub client: Address,
    /// What answered.
    pub assets: Vec<AssetVersion>,
    /// Output tokens paid for.
    pub tokens: u32,
    /// Why it ended: the node's word, which nobody else signs.
    pub reason: Reason,
    /// Hash of the receipt.
    pub receipt: Hash32,
    /// The page written, if one was asked for.
    pub html: Option<PathBuf>,
}

/// A source, and what stands around it where it was found.
#[derive(Debug, Serialize)]
pub struct Cited {
    /// The words, whose they are, and what they earn.
    #[serde(flatten)]
    pub source: Source,
    /// Where they stand, by the opening of the committed text.
    #[serde(flatten)]
    pub around: Around,
    /// What a match shows.
    pub note: &'static str,
}

/// What stands beside each source: who is paid by the rule, and no more.
pub const VERBATIM: &str = "verbatim match, not a cause";

/// One part of the fee.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartRow {
    /// For whom.
    pub role: String,
    /// How much.
    #[serde(rename = "amount_wei")]
    pub wei: Amount,
}

/// Shows a bundle; one that does not verify is not shown.
pub(super) fn run(context: &Context, file: &Path, page: Option<&Path>, existing: Existing) -> anyhow::Result<()> {
    page.map_or(Ok(()), |page| may_write(page, existing))?;
    let bundle = super::read(file)?;
    let verified = attribution::bundle::verify(&bundle).with_context(|| format!("{} does not verify and is not shown", file.display()))?;
    let mut shown = shown(&bundle, verified.receipt, &verified.parts)?;
    if let Some(page) = page {
        write_out(page, html::page(&shown, &bundle.receipt.document.spans).as_bytes(), 0o644, existing)?;
        shown.html = Some(page.to_owned());
    }
    context.output.result(&shown, || describe(&shown))
}

/// Collects what is shown of a bundle.
pub fn shown(bundle: &Bundle, receipt: Hash32, parts: &[(Part, Amount)]) -> anyhow::Result<Shown> {
    let document = &bundle.receipt.document;
    let question = bundle.messages.iter().rev().find(|message| message.role == Role::User).map(|message| message.content.clone());
    Ok(Shown {
        question: question.unwrap_or_default(),
        answer: bundle.answer.clone(),
        marked: marked(&bundle.answer, &document.spans),
        sources: cited(bundle)?,
        parts: parts.iter().map(|(part, wei)| PartRow { role: role(*part), wei: *wei }).collect(),
        fee_wei: document.fee,
        node: document.node,
        client: document.client,
        assets: document.assets.clone(),
        tokens: document.tokens_out,
        reason: document.reason,
        receipt,
        html: None,
    })
}

/// The sources with what the openings show around them.
fn cited(bundle: &Bundle) -> anyhow::Result<Vec<Cited>> {
    let spans = &bundle.receipt.document.spans;
    let found = sources(bundle)?.into_iter().zip(spans.iter().zip(&bundle.openings));
    Ok(found.map(|(source, (span, opening))| Cited { source, around: around(span, opening), note: VERBATIM }).collect())
}

/// A part in words.
fn role(part: Part) -> String {
    match part {
        Part::Protocol => "protocol".to_owned(),
        Part::Node => "node".to_owned(),
        Part::Agent => "agent".to_owned(),
        Part::Base => "base model".to_owned(),
        Part::Adapter => "adapter".to_owned(),
        Part::Stakers => "stakers".to_owned(),
        Part::Insurance => "insurance".to_owned(),
        Part::Treasury(datanet) => format!("treasury of Datanet {datanet} of the manifest"),
        Part::Span(span) => format!("source [{}]", u32::from(span) + 1),
        Part::Refund => "refund".to_owned(),
    }
}

/// A stretch of an answer: plain, or the source with this number (counted from 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The text.
    pub text: &'a str,
    /// Number of its source.
    pub source: Option<usize>,
}

/// Cuts an answer at its spans. Spans out of order, over another or off a character's edge stay plain text.
pub fn pieces<'a>(answer: &'a str, spans: &[Span]) -> Vec<Piece<'a>> {
    let (mut pieces, mut at) = (Vec::new(), 0);
    for (number, span) in (1..).zip(spans) {
        let Ok(start) = usize::try_from(span.start) else { continue };
        let end = start.saturating_add(usize::from(span.length));
        let Some(text) = answer.get(start..end).filter(|text| start >= at && !text.is_empty()) else { continue };
        if start > at {
            pieces.push(Piece { text: &answer[at..start], source: None });
        }
        pieces.push(Piece { text, source: Some(number) });
        at = end;
    }
    if at < answer.len() {
        pieces.push(Piece { text: &answer[at..], source: None });
    }
    pieces
}

/// The answer with `[n]` after each of its spans.
fn marked(answer: &str, spans: &[Span]) -> String {
    let piece = |piece: &Piece<'_>| match piece.source {
        Some(number) => format!("{} [{number}]", piece.text),
        None => piece.text.to_owned(),
    };
    pieces(answer, spans).iter().map(piece).collect()
}

fn describe(shown: &Shown) -> String {
    let mut text = format!("Q  {}\nA  {}\n", shown.question, shown.marked);
    for (number, Cited { source, around, note }) in (1..).zip(&shown.sources) {
        let line = |text: &str| words::line(&text.replace(['\n', '\t'], " ")).into_owned();
        text.push_str(&format!(
            "\n[{number}] {:?}\n    {}[{}]{}\n    {note}: {around}\n    contributed by {} to Datanet {}, weight {}/256 bit, earns {}",
            source.quote,
            line(&around.before),
            line(&source.quote),
            line(&around.after),
            source.contributor,
            source.datanet,
            source.weight,
            crate::output::money(source.wei)
        ));
    }
    if shown.sources.is_empty() {
        text.push_str("\nno run of words stands in the declared Datanets: their treasuries take the data share");
    }
    text.push_str(&format!(
        "\n\n{} tokens answered by {}, which says it ended by {}, for {}:\n",
        shown.tokens,
        shown.node,
        reason(shown.reason),
        crate::output::money(shown.fee_wei)
    ));
    let rows: Vec<Vec<String>> = shown.parts.iter().map(|row| vec![row.role.clone(), crate::output::money(row.wei)]).collect();
    text.push_str(&crate::output::table(&["for", "amount"], &rows));
    text.push_str(&format!("\nreceipt {}", shown.receipt));
    if let Some(page) = &shown.html {
        text.push_str(&format!("\npage {}", page.display()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u32, length: u16) -> Span {
        Span { start, length, datanet: 0, position: 0, weight: 1, payee: Address::ZERO }
    }

    #[test]
    fn spans_are_marked_where_they_end() {
        assert_eq!(marked("one two three four", &[span(4, 3), span(8, 5)]), "one two [1] three [2] four");
        assert_eq!(marked("plain", &[]), "plain");
        assert_eq!(marked("whole", &[span(0, 5)]), "whole [1]");
    }

    #[test]
    fn strange_spans_stay_plain_text_and_nothing_is_lost() {
        let answer = "Käse und Brot";
        for spans in [
            vec![span(2, 4)],
            vec![span(40, 2)],
            vec![span(0, 0)],
            vec![span(6, 3), span(0, 3)],
            vec![span(u32::MAX, u16::MAX)],
            vec![span(0, 9), span(6, 3)],
        ] {
            let pieces = pieces(answer, &spans);
            assert_eq!(pieces.iter().map(|piece| piece.text).collect::<String>(), answer, "{spans:?}");
        }
        assert_eq!(pieces(answer, &[span(6, 3), span(0, 3)]).iter().filter(|piece| piece.source.is_some()).count(), 1);
    }

    #[test]
    fn numbers_of_sources_count_from_one_in_parts_too() {
        assert_eq!(role(Part::Span(0)), "source [1]");
        assert_eq!(role(Part::Span(u16::MAX)), "source [65536]");
    }
}
