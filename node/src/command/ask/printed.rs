//! What `ask` prints: tokens as they come, then the answer's price, attempts, sources and receipt; or why there is none.

use std::{io::Write as _, path::PathBuf};

use anyhow::Context as _;
use chain_bridge::registry::State;
use serde::{Deserialize, Serialize};
use types::{
    amount::Amount,
    id::{Address, AssetVersion, NodeId},
};

use crate::{
    ask::{Abandoned, Answered, Attempt, Recalled, Unanswered},
    command::{Context, Failed},
    notice::Notice,
    output::money,
    words,
};

/// What is printed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Printed {
    answer: String,
    tokens: usize,
    ttft_ms: u64,
    tokens_per_s: f64,
    node: NodeId,
    /// What its receipt charges.
    fee_wei: Amount,
    /// What all attempts together may cost: the receipt's fee, and what was promised to nodes whose receipt never came.
    #[serde(default)]
    at_most_wei: Amount,
    /// Every attempt under this request, oldest first: its node, its sum, its receipt.
    #[serde(default)]
    attempts: Vec<Attempt>,
    sources: Vec<Source>,
    abandoned: Vec<Abandoned>,
    /// Times a connection broke and the answer was taken up at its node.
    #[serde(default)]
    resumed: u32,
    receipt: PathBuf,
    reason: types::receipt::Reason,
    check: String,
    /// What was not billed on the way, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    notice: Option<Notice>,
    /// Attempts that earlier processes were cut off from, and what their nodes said of them now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    recalled: Vec<Recalled>,
    /// Whether this was answered before, under the same idempotency key: then nothing was asked or paid now.
    #[serde(default)]
    is_repeated: bool,
}

/// What is printed where there is no answer that is billed.
#[derive(Debug, Serialize)]
struct Missed {
    error: String,
    /// What was received.
    answer: String,
    /// Whether that is all of it.
    is_whole: bool,
    notice: Notice,
    notice_file: Option<PathBuf>,
}

/// One paid run of words.
#[derive(Debug, Serialize, Deserialize)]
pub struct Source {
    /// The words.
    pub quote: String,
    /// Who is paid.
    pub contributor: Address,
    /// The Datanet.
    pub datanet: AssetVersion,
    /// Weight in 1/256 bit.
    pub weight: u32,
    /// What it earns of this answer.
    #[serde(rename = "amount_wei", alias = "wei")]
    pub wei: Amount,
}

/// Tokens on the terminal as they come: the node chose these bytes, so nothing that a terminal obeys passes ([`words`]). The answer that is kept is canonical.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// The beginning of a character whose end is in the next token.
    held: Vec<u8>,
}

impl Shown {
    /// Shows a token.
    pub(super) fn show(&mut self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        drop(out.write_all(self.text(bytes).as_bytes()).and_then(|()| out.flush()));
    }

    /// What is seen of a token.
    fn text(&mut self, bytes: &[u8]) -> String {
        let whole = [std::mem::take(&mut self.held), bytes.to_vec()].concat();
        let mut chunks = whole.utf8_chunks().peekable();
        let mut text = String::new();
        while let Some(chunk) = chunks.next() {
            text.extend(chunk.valid().chars().filter(|letter| matches!(letter, '\n' | '\t') || !words::is_obeyed(*letter)));
            // Only what stands at the very end may yet become a character.
            let is_cut = chunks.peek().is_none() && std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
            match chunk.invalid() {
                [] => {}
                begun if is_cut => self.held = begun.to_vec(),
                _ => text.push(char::REPLACEMENT_CHARACTER),
            }
        }
        text
    }
}

/// Prints what was answered before.
pub(super) fn again(context: &Context, answer: &str) -> anyhow::Result<()> {
    let printed: Printed = serde_json::from_str(answer).context("the answer kept under this idempotency key is damaged")?;
    let printed = Printed { is_repeated: true, ..printed };
    context.output.result(&printed, || format!("{}\n{}", Shown::default().text(printed.answer.as_bytes()), describe(&printed)))
}

/// Prints why there is no answer, what that cost and on whose word; an error of this client's own passes.
pub(super) fn missed(context: &Context, error: anyhow::Error) -> anyhow::Result<Answered> {
    let Unanswered { why, text, is_whole, notice, kept, retry: _ } = error.downcast()?;
    context.output.note(&format!("\n{}", notice.describe()));
    if let Some(file) = &kept {
        context.output.note(&format!("notice {}", file.display()));
    }
    if context.output.is_json {
        let missed = Missed { error: why.clone(), answer: text, is_whole, notice, notice_file: kept };
        context.output.result(&missed, String::new)?;
    }
    Err(Failed(why).into())
}

/// The paid spans of an answer with what each earns.
pub fn sources(bundle: &attribution::bundle::Bundle) -> anyhow::Result<Vec<Source>> {
    let receipt = &bundle.receipt.document;
    let parts = attribution::shares::parts(receipt, bundle.quote.document.protocol_fee, &bundle.manifest)?;
    let source = |(number, span): (usize, &types::receipt::Span)| {
        let (start, length) = (usize::try_from(span.start)?, usize::from(span.length));
        let quote = bundle.answer.get(start..start + length).context("a span lies outside the answer")?;
        let code = types::split::Part::Span(u16::try_from(number)?).code();
        let wei = parts.iter().find(|(part, _)| part.code() == code).map_or(Amount::ZERO, |(_, wei)| *wei);
        let datanet = bundle.manifest.datanets.get(usize::from(span.datanet)).context("a span names no declared Datanet")?.version;
        Ok(Source { quote: quote.to_owned(), contributor: span.payee, datanet, weight: span.weight, wei })
    };
    receipt.spans.iter().enumerate().map(source).collect()
}

/// What can be said of an answer's checks: with fewer than five eligible checkers beside the answering node nobody may be drawn (PROTOCOL section 9).
pub fn check_label(state: &State) -> &'static str {
    let eligible = state.operators().filter(|operator| operator.active > Amount::ZERO).count();
    if eligible > 5 { "open to checks" } else { "unchecked" }
}

pub(super) fn printed(answered: &Answered, receipt: PathBuf, check: &'static str, recalled: Vec<Recalled>) -> anyhow::Result<Printed> {
    let bundle = &answered.bundle;
    Ok(Printed {
        answer: answered.text.clone(),
        tokens: answered.tokens.len(),
        ttft_ms: answered.ttft_ms,
        tokens_per_s: answered.tokens_per_s,
        node: answered.node,
        fee_wei: bundle.receipt.document.fee,
        at_most_wei: Amount::sum(answered.attempts.iter().map(|attempt| attempt.charged_at_most_wei))?,
        attempts: answered.attempts.clone(),
        sources: sources(bundle)?,
        abandoned: answered.abandoned.clone(),
        resumed: answered.resumed,
        receipt,
        reason: answered.reason,
        check: check.to_owned(),
        notice: answered.notice.as_ref().map(|(notice, _)| notice.clone()),
        recalled,
        is_repeated: false,
    })
}

pub(super) fn describe(printed: &Printed) -> String {
    let cost = cost(printed);
    let mut text = format!(
        "\n\n{} tokens, first after {} ms, {:.1} tokens/s, {cost}, {}\n",
        printed.tokens, printed.ttft_ms, printed.tokens_per_s, printed.check,
    );
    for one in printed.attempts.iter().filter(|_| printed.attempts.len() > 1) {
        text.push_str(&format!(
            "  attempt {} at {}: {} tokens, {} at most; {}{}\n",
            one.attempt,
            one.node,
            one.tokens,
            money(one.charged_at_most_wei),
            one.ended,
            one.receipt.as_ref().map_or_else(String::new, |path| format!(" {}", path.display()))
        ));
    }
    if printed.is_repeated {
        text.push_str("  answered before under this idempotency key: nothing was asked or paid now\n");
    }
    if let Some(notice) = &printed.notice {
        text.push_str(&format!("{}\n", notice.describe()));
    }
    for source in &printed.sources {
        text.push_str(&format!(
            "  {:?}\n    contributed by {} to Datanet {}, earns {}\n",
            source.quote,
            source.contributor,
            source.datanet,
            money(source.wei)
        ));
    }
    if printed.sources.is_empty() {
        text.push_str(
            "  no run of words stands in a declared Datanet: no contributor is paid; the data share goes to treasuries or insurance\n",
        );
    }
    text.push_str(&format!("receipt {}\n\nNext: tributary receipt verify {}", printed.receipt.display(), printed.receipt.display()));
    text
}

/// What the answer costs, in words: by its receipts, and what may come to that.
fn cost(printed: &Printed) -> String {
    let billed: Vec<Amount> = printed.attempts.iter().filter(|one| one.receipt.is_some()).map(|one| one.charged_at_most_wei).collect();
    let sum = Amount::sum(billed.iter().copied()).unwrap_or_default().max(printed.fee_wei);
    let by = if billed.len() > 1 { format!(" by its {} receipts", billed.len()) } else { String::new() };
    let charged = format!("{}{by}", money(sum));
    match printed.at_most_wei.minus(sum) {
        Ok(more) if more > Amount::ZERO && by.is_empty() => {
            format!("{charged} by its receipt and up to {} more, which other attempts were promised", money(more))
        }
        Ok(more) if more > Amount::ZERO => format!("{charged} and up to {} more, which other attempts were promised", money(more)),
        _ => charged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_sees_no_command_of_a_node() {
        let shown = |tokens: &[&[u8]]| {
            let mut shown = Shown::default();
            tokens.iter().map(|token| shown.text(token)).collect::<String>()
        };
        assert_eq!(shown(&[b"a\x1b[2Jb\r\x07\tc\nd\x7f\xc3\xa9"]), "a[2Jb\tc\nd\u{e9}");
        // A control character of two bytes, whole and in two tokens; an override; letters that are cut; bytes that are none.
        assert_eq!(shown(&[b"a\xc2\x9b2Jb", b"\xc2", b"\x9b2J", "\u{202e}c".as_bytes()]), "a2Jb2Jc");
        assert_eq!(shown(&[b"\xe6\x97", b"\xa5", b"\xf0", b"\x9f\x98", b"\x80", b"\xffz"]), "\u{65e5}\u{1f600}\u{fffd}z");
    }
}
